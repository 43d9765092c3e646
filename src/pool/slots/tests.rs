use super::*;
use crate::auth::client::Keys;
use crate::auth::credential::Credential;
use crate::domain::NodeTls;
use crate::domain::Secret;

fn node(capacity: u32) -> Node {
    Node {
        service: "orders".parse().unwrap(),
        address: "127.0.0.1:5432".parse().unwrap(),
        tls: NodeTls::Prefer,
        authorities: None,
        capacity,
        pooling: crate::directory::Pooling::default(),
    }
}

fn used(slots: &Slots) -> (u32, u32, u32) {
    let counts = slots.counts()[0].counts;
    (counts.session, counts.closing, counts.waiting)
}

#[tokio::test(start_paused = true)]
async fn c05_a_closing_slot_goes_to_the_one_who_waits() {
    let (slots, node, wait) = (Slots::default(), node(1), Duration::from_secs(1));
    let mut slot = slots.session(&node, Instant::now(), wait).await.unwrap();
    assert!(slots.session(&node, Instant::now(), wait).await.is_err());
    slot.closing();
    let waiting = tokio::spawn({
        let (slots, node) = (slots.clone(), node.clone());
        async move { slots.session(&node, Instant::now(), wait).await }
    });
    tokio::time::sleep(Duration::from_millis(500)).await;
    assert_eq!(used(&slots), (0, 1, 1));
    drop(slot);
    let slot = waiting.await.unwrap().unwrap();
    assert_eq!(used(&slots), (1, 0, 0));
    drop(slot);
    assert_eq!(used(&slots), (0, 0, 0));
}

#[tokio::test(start_paused = true)]
async fn e19_whoever_stops_waiting_leaves_nothing_behind() {
    let (slots, node) = (Slots::default(), node(1));
    let mut slot = slots.session(&node, Instant::now(), Duration::ZERO).await.unwrap();
    slot.closing();
    let refused = slots.session(&node, Instant::now(), Duration::from_millis(10)).await;
    assert!(refused.is_err());
    let mut dropped = Box::pin(slots.session(&node, Instant::now(), Duration::from_secs(9)));
    let polled = std::future::poll_fn(|cx| std::task::Poll::Ready(dropped.as_mut().poll(cx))).await;
    assert!(polled.is_pending());
    assert_eq!(used(&slots), (0, 1, 1));
    drop(slot);
    assert_eq!(used(&slots), (1, 0, 0));
    drop(dropped);
    assert_eq!(used(&slots), (0, 0, 0));
}

#[test]
fn e15_pools_whose_clients_and_connections_are_gone_are_forgotten() {
    let (slots, node) = (Slots::default(), node(9));
    let slots = slots.of(&node);
    let enter = |role: usize| {
        let key = u8::try_from(role % 256).unwrap();
        let keys = Keys { client_key: Secret::new([key; 32]), server_key: Secret::new([key; 32]) };
        let parameters = [("user".into(), format!("role{role}").into())];
        let key = PoolKey::new(&parameters, Credential::of_keys(&keys));
        slots.pool(&key, &Arc::new(keys))
    };
    let (last, client) = enter(0);
    for role in 1..1_000 {
        let _gone = enter(role);
    }
    assert_eq!(slots.deserted().len(), 999);
    slots.forget_unused();
    let state = slots.lock();
    assert_eq!((state.ids.len(), state.pools.len()), (1, 1));
    assert!(state.pools.contains_key(&last));
    drop((state, client));
}
