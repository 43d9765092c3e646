//! What the hot path and a login cost in computation alone: no sockets, no
//! server. `cargo bench --bench micro`.

use std::hint::black_box;
use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use postern::auth::client::{Hello, Keys, derive_keys};
use postern::auth::scram::{self, RAW_NONCE};
use postern::auth::server::{Binding, Candidate, Exchange};
use postern::auth::verifier::Verifier;
use postern::domain::Secret;
use postern::wire::conversation::Conversation;
use postern::wire::frame::{Head, Scanner};
use postern::wire::startup;

/// What one read of the relay brings at most.
const READ: usize = 64 * 1024;

criterion_group!(micro, frames, conversation, login);
criterion_main!(micro);

/// Looks for the messages in one read.
fn frames(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("frames");
    group.throughput(Throughput::Bytes(READ as u64));
    for (name, body) in [("rows of 16 bytes", 11), ("rows of 100 bytes", 95), ("one row", READ - 5)]
    {
        let stream = stream(b'D', body);
        group.bench_function(name, |bencher| {
            bencher.iter(|| {
                let mut count = 0_u32;
                let scanned = Scanner::default().scan(black_box(&stream), |_| count += 1);
                black_box((scanned.is_ok(), count))
            });
        });
    }
    group.finish();
}

/// As many whole messages as fit into one read.
fn stream(kind: u8, body: usize) -> Vec<u8> {
    let message = message(kind, &vec![b'x'; body]);
    message.repeat(READ / message.len())
}

fn message(kind: u8, body: &[u8]) -> Vec<u8> {
    let length = u32::try_from(body.len() + 4).expect("a short message");
    [&[kind], &length.to_be_bytes()[..], body].concat()
}

/// A simple query and its answer: messages found and understood, both ways.
fn conversation(criterion: &mut Criterion) {
    let query = message(b'Q', b"SELECT abalance FROM pgbench_accounts WHERE aid = 4711;\0");
    let answer = [
        message(b'T', &[0; 33]),
        message(b'D', &[0; 7]),
        message(b'C', b"SELECT 1\0"),
        message(b'Z', b"I"),
    ]
    .concat();
    criterion.bench_function("conversation/simple transaction", |bencher| {
        let mut conversation = Conversation::after_login();
        let (mut client, mut server) = (Scanner::default(), Scanner::default());
        bencher.iter(|| {
            let asked =
                client.scan(black_box(&query), |Head { kind, .. }| conversation.from_client(kind));
            let answered = server.scan(black_box(&answer), |head| {
                conversation.from_server(head);
            });
            assert!(asked.is_ok() && answered.is_ok() && conversation.is_idle());
        });
    });
}

fn login(criterion: &mut Criterion) {
    let body = startup_body();
    criterion.bench_function("login/startup packet", |bencher| {
        bencher.iter(|| startup::parse(black_box(&body)).is_ok());
    });
    let (verifier, keys) = secrets();
    criterion.bench_function("login/SCRAM, both sides", |bencher| {
        bencher.iter(|| exchange(&verifier, &keys));
    });
    let random = [7; RAW_NONCE];
    criterion.bench_function("login/SCRAM, server-first", |bencher| {
        bencher.iter(|| {
            let candidate = Candidate::Real(verifier.clone());
            let begun =
                Exchange::begin(b"n,,n=,r=abc", false, &Binding::Unavailable, candidate, &random);
            black_box(begun.is_ok())
        });
    });
}

/// What libpq sends.
fn startup_body() -> Bytes {
    let pairs = [
        ("user", "app"),
        ("database", "app"),
        ("application_name", "psql"),
        ("client_encoding", "UTF8"),
        ("options", "service=orders"),
    ];
    let pairs = pairs.map(|(name, value)| {
        (Bytes::from_static(name.as_bytes()), Bytes::from_static(value.as_bytes()))
    });
    let mut packet = BytesMut::new();
    startup::write_startup(&mut packet, &pairs);
    packet.freeze().slice(4..)
}

/// A role's verifier and the keys of its password. The iterations are the
/// client's work, done once.
fn secrets() -> (Arc<Verifier>, Keys) {
    let salt = *b"0123456789abcdef";
    let iterations = 4096;
    let keys = derive_keys("pencil", &salt, iterations.try_into().expect("not zero"));
    let verifier = Verifier {
        iterations,
        salt: salt.into(),
        stored_key: Secret::new(scram::hash(keys.client_key.expose())),
        server_key: keys.server_key.clone(),
    };
    (Arc::new(verifier), keys)
}

/// A whole login: the client's keys are known, so both sides cost the same.
fn exchange(verifier: &Arc<Verifier>, keys: &Keys) {
    let hello = Hello::new(Binding::Unavailable, &[1; RAW_NONCE]);
    let candidate = Candidate::Real(Arc::clone(verifier));
    let first = hello.client_first();
    let exchange =
        Exchange::begin(first.as_bytes(), false, &Binding::Unavailable, candidate, &[2; RAW_NONCE])
            .expect("client-first is right");
    let sent = hello.answer(exchange.server_first().as_bytes(), keys).expect("so is server-first");
    let proven = exchange.finish(sent.client_final.as_bytes());
    let _ = black_box(proven.expect("so is the proof"));
}
