use super::*;
use crate::domain::NodeTls;

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
