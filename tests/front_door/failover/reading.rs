//! The read-only endpoint (decision 36): on both ports, by host name and by
//! `options`.

use super::super::raw::{Message, Raw};
use super::super::stage::{PASSWORD, Stage, Wanted, eventually, psql, start_server, stdout};
use super::crash::Pair;
use super::{ask, hear, value};

/// A client that wants to read, on this port, and what it is told at login.
fn reader(stage: &Stage, port: u16) -> Result<(Raw, Vec<Message>), Message> {
    let options = "service=orders access=read-only";
    let parameters = [("user", &stage.role[..]), ("database", &stage.role), ("options", options)];
    Raw::enter_with(port, &parameters, PASSWORD)
}

fn reported(messages: &[Message], name: &str) -> Option<String> {
    let prefix = [name.as_bytes(), b"\0"].concat();
    let body = |m: &Message| m.body.strip_prefix(&prefix[..]).map(<[u8]>::to_vec);
    let value = messages.iter().filter(|m| m.kind == b'S').find_map(body)?;
    Some(String::from_utf8(value).unwrap().trim_end_matches('\0').to_owned())
}

#[test]
fn readers_are_served_by_a_standby_until_it_is_promoted() {
    let pair = Pair::new(&[("services", "query_wait_notify = \"0\"")]);
    let standby = pair.standby.port().to_string();
    for port in [pair.stage.session_port, pair.stage.transaction_port] {
        let reads = || {
            let Ok((mut raw, said)) = reader(&pair.stage, port) else { return false };
            assert_eq!(value(&mut raw, "SELECT inet_server_port()"), standby);
            assert_eq!(reported(&said, "in_hot_standby").unwrap(), "on");
            assert!(ask(&mut raw, "CREATE TABLE never ()").starts_with("25006"));
            true
        };
        eventually("a standby that serves readers", reads);
    }
    let uri = pair.stage.uri("%20access%3Dread-only");
    assert_eq!(stdout(&psql(&uri, "SELECT pg_is_in_recovery()")), "t");
    // Both kinds of drivers' own choice work through it.
    let wants = |attrs: &str| psql(&format!("{uri}&target_session_attrs={attrs}"), "SELECT 1");
    assert_eq!(stdout(&wants("standby")), "1");
    assert!(!wants("primary").status.success());
    let (mut alone, _) = reader(&pair.stage, pair.stage.session_port).unwrap();
    let (mut pooled, _) = reader(&pair.stage, pair.stage.transaction_port).unwrap();
    assert_eq!(hear_port(&mut pooled), standby);
    pair.standby.promote().unwrap();
    assert_eq!(alone.last_words().sqlstate(), "57P01");
    // The old primary is no standby of the new one: nobody is left to read from.
    pooled.query("SELECT 1");
    pair.primary.rejoin(&pair.standby).unwrap();
    assert_eq!(hear(&mut pooled), "T D C:I");
    assert_eq!(hear_port(&mut pooled), pair.primary.port().to_string());
}

fn hear_port(raw: &mut Raw) -> String {
    value(raw, "SELECT inet_server_port()")
}

#[test]
fn without_a_standby_the_primary_serves_readers_if_the_service_says_so() {
    let pair = Pair::new(&[("services", "read_only_fallback = true")]);
    let port = pair.stage.transaction_port;
    let primary = pair.primary.port().to_string();
    let (mut raw, _) = reader(&pair.stage, port).unwrap();
    pair.standby.crash().unwrap();
    eventually("a fallback", || hear_port(&mut raw) == primary);
    assert_eq!(value(&mut raw, "SHOW in_hot_standby"), "off");
    assert!(ask(&mut raw, "CREATE TABLE by_accident ()").starts_with("25006"));
    let (mut alone, said) = reader(&pair.stage, pair.stage.session_port).unwrap();
    assert_eq!(reported(&said, "default_transaction_read_only").unwrap(), "on");
    assert!(ask(&mut alone, "CREATE TABLE by_accident ()").starts_with("25006"));
    // Who writes is not kept from it.
    assert_eq!(ask(&mut super::pooled(&pair.stage), "CREATE TABLE t ()"), "C:I");
    // D-26: back on a standby, the client hears it.
    pair.standby.start().unwrap();
    let heard = || {
        raw.query("SELECT inet_server_port()");
        let messages = raw.read_until(b'Z');
        reported(&messages, "in_hot_standby").as_deref() == Some("on")
    };
    eventually("a report of the move", heard);
}

#[test]
fn one_node_without_a_fallback_serves_no_readers() {
    let installation = postern::cluster::Installations::find().unwrap();
    let server = start_server(installation.postgresql().unwrap());
    let stage = Stage::new(&Wanted { server: Some(&server), ..Wanted::default() });
    let Err(refusal) = reader(&stage, stage.session_port) else { panic!("refused") };
    assert_eq!(refusal.sqlstate(), "57P03");
}

/// E-20: the least active standby is chosen, not the most active one.
#[test]
fn e20_readers_are_spread_over_the_standbys() {
    let installation = postern::cluster::Installations::find().unwrap();
    let primary = start_server(installation.postgresql().unwrap());
    let standbys = [primary.standby().unwrap(), primary.standby().unwrap()];
    let [one, two] = standbys.each_ref().map(postern::cluster::Cluster::address);
    let nodes = format!("{}\", \"{one}\", \"{two}", primary.address());
    let stage = Stage::new(&Wanted {
        plan: "premium-4",
        server: Some(&primary),
        node: Some(nodes),
        ..Wanted::default()
    });
    for standby in &standbys {
        standby.wait_until_caught_up(&primary).unwrap();
    }
    let service = "orders".parse().unwrap();
    let both = || {
        let service = stage.postern().door().directory.service(&service).unwrap();
        service.topology.standbys.iter().filter(|standby| standby.lag.is_some()).count() == 2
    };
    let first = reader(&stage, stage.session_port).unwrap();
    eventually("two standbys", both);
    drop(first);
    let spread = |port: u16, block: bool| {
        let mut readers: Vec<_> = (0..16).map(|_| reader(&stage, port).unwrap().0).collect();
        let ports = readers.iter_mut().map(|raw| {
            if block {
                ask(raw, "BEGIN");
            }
            hear_port(raw)
        });
        let on_one = ports.filter(|port| *port == one.port().to_string()).count();
        (on_one, readers)
    };
    let (sessions, held) = spread(stage.session_port, false);
    assert!((7..=9).contains(&sessions), "{sessions} of 16");
    drop(held);
    let (blocks, _held) = spread(stage.transaction_port, true);
    assert!((6..=10).contains(&blocks), "{blocks} of 16");
}
