//! Answers as Patroni gives them, and the leader key in a real etcd.

use super::patroni::read;
use super::*;

#[test]
fn the_leader_is_who_patroni_says() {
    let answer = br#"{"members": [
        {"name": "n1", "role": "replica", "state": "streaming", "host": "10.0.0.1", "port": 5432, "lag": 0},
        {"name": "n2", "role": "leader", "state": "running", "host": "10.0.0.2", "port": 5433, "timeline": 2},
        {"name": "n3", "role": "sync_standby", "state": "running", "host": "10.0.0.3", "port": 5432, "lag": "unknown"}
    ], "scope": "orders"}"#;
    let leader = Member { name: "n2".to_owned(), address: Some(("10.0.0.2".to_owned(), 5433)) };
    assert_eq!(read(answer).unwrap(), Claim::Leader(leader));
    let headless = br#"{"members": [{"name": "n1", "role": "standby_leader"}]}"#;
    assert_eq!(read(headless).unwrap(), Claim::Nobody);
    assert!(read(b"not json").is_err());
}
