//! Answers as Patroni gives them, and the leader key in a real etcd.

use super::patroni::{Answer, agreed, read};
use super::*;

#[test]
fn the_leader_is_who_patroni_says() {
    let answer = br#"{"members": [
        {"name": "n1", "role": "replica", "state": "streaming", "host": "10.0.0.1", "port": 5432, "lag": 0},
        {"name": "n2", "role": "leader", "state": "running", "host": "10.0.0.2", "port": 5433, "timeline": 2},
        {"name": "n3", "role": "sync_standby", "state": "running", "host": "10.0.0.3", "port": 5432, "lag": "unknown"}
    ], "scope": "orders"}"#;
    let leader = Member { name: "n2".to_owned(), address: Some(("10.0.0.2".to_owned(), 5433)) };
    let claim = Claim::Leader(leader);
    assert_eq!(read(answer).unwrap(), Answer { claim, timeline: 2 });
    let headless = br#"{"members": [{"name": "n1", "role": "standby_leader"}]}"#;
    assert_eq!(read(headless).unwrap().claim, Claim::Nobody);
    assert!(read(b"not json").is_err());
}

#[test]
fn e04_a_member_that_tells_of_the_past_is_outvoted() {
    let leader = |name: &str| Claim::Leader(Member { name: name.to_owned(), address: None });
    let says = |name: &str, timeline| Answer { claim: leader(name), timeline };
    let past = says("old", 1);
    assert_eq!(agreed(&[past.clone(), says("new", 2)]), Some(leader("new")));
    assert_eq!(agreed(&[past.clone(), past.clone(), says("new", 2)]), Some(leader("new")));
    // The new leader is not promoted yet.
    let next = says("new", 1);
    assert_eq!(agreed(&[next.clone(), past.clone(), next]), Some(leader("new")));
    let nobody = Answer { claim: Claim::Nobody, timeline: 0 };
    assert_eq!(agreed(&[nobody]), Some(Claim::Nobody));
    assert_eq!(agreed(&[]), None);
}
