use super::*;
use crate::domain::{Access, ClientAddress, Endpoint, PoolMode};

fn occupant(application: &str) -> Occupant {
    Occupant {
        endpoint: Endpoint {
            service: "orders".parse().unwrap(),
            access: Access::ReadWrite,
            mode: PoolMode::Session,
        },
        role: "bob".into(),
        database: "bob".into(),
        application: application.into(),
        address: ClientAddress::Local,
    }
}

#[test]
fn c01_seats_are_given_back_and_bytes_are_kept() {
    let roster = Roster::default();
    let first = roster.take(occupant("a"), 2).unwrap();
    let second = roster.take(occupant("b"), 2).unwrap();
    assert_eq!(roster.take(occupant("c"), 2).unwrap_err(), Full);
    first.add_received(10);
    second.add_sent(5);
    drop(first);
    assert_eq!(roster.len(), 1);
    drop(second);
    assert!(roster.is_empty() && roster.seats().is_empty());
    let traffic = roster.traffic()[&"orders".parse().unwrap()];
    assert_eq!((traffic.received, traffic.sent), (10, 5));
}

#[test]
fn a_stronger_order_stays() {
    let roster = Roster::default();
    let seat = roster.take(occupant("a"), 1).unwrap();
    assert_eq!(seat.order(), Order::None);
    seat.tell(Order::Leave);
    seat.tell(Order::Drain);
    assert_eq!(seat.order(), Order::Leave);
}

#[test]
fn the_largest_users_and_the_long_idle_are_named() {
    let clock = CoarseClock::default();
    let roster = Roster::new(clock.clone());
    let seats: Vec<_> = ["app", "psql", "app"]
        .into_iter()
        .map(|name| roster.take(occupant(name), 9).unwrap())
        .collect();
    for seat in &seats {
        seat.set_activity(Activity::Active);
    }
    seats[0].set_activity(Activity::Idle);
    clock.set(301);
    seats[1].set_activity(Activity::Idle);
    let late = roster.take(occupant("late"), 9).unwrap();
    let mut plan_use = PlanUse::default();
    roster.explain(&"orders".parse().unwrap(), &mut plan_use);
    let expected = [("app", 2), ("psql", 1)].map(|(a, n)| (a.into(), "local".into(), n));
    assert_eq!(plan_use.largest, expected);
    assert_eq!(plan_use.idle_long, 1);
    drop(late);
}
