//! Cases with names, and every sequence of sights that chance makes.

use proptest::prelude::*;

use super::*;
use crate::directory::Pooling;
use crate::domain::NodeTls;

const SYSTEM: u64 = 7;

fn node(n: usize) -> Arc<Node> {
    Arc::new(Node {
        service: "orders".parse().unwrap(),
        address: address(n),
        tls: NodeTls::Prefer,
        authorities: None,
        capacity: 1,
        pooling: Pooling::default(),
    })
}

fn address(n: usize) -> NodeAddress {
    format!("n{n}:5432").parse().unwrap()
}

fn primary(timeline: u32) -> Sight {
    Sight::Up(Seen {
        in_recovery: false,
        read_only: false,
        system: SYSTEM,
        timeline: Some(timeline),
        pgvector: true,
        lag: None,
    })
}

fn standby(timeline: u32) -> Sight {
    changed(primary(timeline), |seen| (seen.in_recovery, seen.read_only) = (true, true))
}

fn changed(sight: Sight, change: impl FnOnce(&mut Seen)) -> Sight {
    let Sight::Up(mut seen) = sight else { return sight };
    change(&mut seen);
    Sight::Up(seen)
}

/// A service with its memory.
struct Scene {
    kind: Kind,
    reign: Reign,
    seated: bool,
    leadership: Leadership,
    reason: Reason,
    standbys: Vec<NodeAddress>,
}

impl Scene {
    fn new() -> Self {
        Self {
            kind: Kind::PostgreSql,
            reign: Reign::default(),
            seated: false,
            leadership: Leadership::ByTimeline,
            reason: Reason::NotLookedAt,
            standbys: Vec::new(),
        }
    }

    fn led_by(leadership: Leadership) -> Self {
        Self { leadership, ..Self::new() }
    }

    /// The number of the primary when the nodes look like this.
    fn see(&mut self, sights: &[Sight]) -> Option<usize> {
        let nodes: Vec<_> = sights.iter().enumerate().map(|(n, s)| (node(n), *s)).collect();
        let decision = decide(Knowledge {
            kind: self.kind,
            nodes: &nodes,
            leadership: &self.leadership,
            reign: &self.reign,
            seated: self.seated,
        });
        (self.reign, self.reason) = (decision.reign, decision.reason);
        self.standbys =
            decision.topology.standbys.iter().map(|standby| standby.node.address.clone()).collect();
        assert_eq!(decision.topology.epoch, self.reign.epoch);
        let chosen = decision.topology.primary.ok();
        self.seated = chosen.is_some();
        chosen.map(|chosen| nodes.iter().position(|(node, _)| *node == chosen).unwrap())
    }

    fn restart(&mut self) {
        self.seated = false;
    }

    fn epoch(&self) -> (u32, u64) {
        (self.reign.epoch.timeline, self.reign.epoch.sequence)
    }
}

#[test]
fn the_writable_node_is_the_primary_and_standbys_follow_it() {
    let mut scene = Scene::new();
    assert_eq!(scene.see(&[Sight::Unseen, primary(1)]), None, "the other may be newer");
    assert_eq!(scene.reason, Reason::NotLookedAt);
    assert_eq!(scene.see(&[standby(1), primary(1)]), Some(1));
    assert_eq!((scene.epoch(), scene.reason), ((1, 1), Reason::NewestTimeline));
    assert_eq!(scene.standbys, [address(0)]);
    let foreign = changed(standby(1), |seen| seen.system = 8);
    let silent = changed(standby(1), |seen| seen.timeline = None);
    scene.see(&[foreign, primary(1), standby(2), silent, Sight::Unseen]);
    assert_eq!(scene.standbys, [address(3)], "others hold other data, or follow another primary");
    assert_eq!(scene.reason, Reason::StillWrites);
    assert_eq!(scene.see(&[standby(1), Sight::Down]), None);
    assert_eq!(scene.reason, Reason::NobodyWrites);
    assert_eq!(scene.see(&[Sight::Down, Sight::Down]), None);
    assert_eq!(scene.reason, Reason::NobodyAnswers);
    let read_only = changed(primary(1), |seen| seen.read_only = true);
    assert_eq!(scene.see(&[standby(1), read_only]), None);
    assert_eq!(scene.see(&[standby(1), primary(1)]), Some(1));
    assert_eq!(scene.epoch(), (1, 1), "the same reign goes on");
}

#[test]
fn e01_the_old_primary_never_comes_back_on_its_old_timeline() {
    let mut scene = Scene::new();
    assert_eq!(scene.see(&[primary(1), standby(1)]), Some(0));
    assert_eq!(scene.see(&[primary(1), primary(2)]), Some(1), "while both take writes");
    assert_eq!(scene.epoch(), (2, 2));
    assert_eq!(scene.see(&[primary(1), Sight::Down]), None);
    assert_eq!(scene.reason, Reason::OlderTimeline);
    scene.restart();
    assert_eq!(scene.see(&[primary(1), Sight::Down]), None);
    scene.leadership = Leadership::Held(address(0));
    assert_eq!(scene.see(&[primary(1), Sight::Down]), None, "nor if a store says so");
    scene.leadership = Leadership::ByTimeline;
    assert_eq!(scene.see(&[primary(3), Sight::Down]), Some(0));
    assert_eq!(scene.epoch(), (3, 3));
}

#[test]
fn e02_of_two_primaries_the_newest_timeline_wins_and_the_current_one_a_tie() {
    let mut scene = Scene::new();
    assert_eq!(scene.see(&[primary(1), primary(1)]), None, "nobody was there first");
    assert_eq!(scene.reason, Reason::SameTimeline);
    assert_eq!(scene.see(&[primary(1), standby(1)]), Some(0));
    for _ in 0..3 {
        assert_eq!(scene.see(&[primary(1), primary(1)]), Some(0));
        assert_eq!(scene.see(&[Sight::Down, primary(1)]), None, "no flapping");
        assert_eq!(scene.reason, Reason::SameTimeline);
    }
    assert_eq!(scene.see(&[primary(1), primary(2), primary(2)]), None);
    assert_eq!(scene.see(&[primary(1), primary(2), Sight::Down]), Some(1));
    assert_eq!(scene.see(&[primary(1), primary(2), primary(2)]), Some(1));
    assert_eq!(scene.epoch(), (2, 2));
}

#[test]
fn a_node_that_an_operator_took_away_reigns_no_more() {
    let mut scene = Scene::new();
    assert_eq!(scene.see(&[standby(1), standby(1), primary(1)]), Some(2));
    assert_eq!(scene.see(&[standby(1), primary(1)]), Some(1), "the third is gone");
    assert_eq!(scene.epoch(), (1, 2));
}

#[test]
fn foreign_data_never_reign() {
    let mut scene = Scene::new();
    let foreign = changed(primary(9), |seen| seen.system = 8);
    assert_eq!(scene.see(&[primary(1), foreign]), None, "whose service is it?");
    assert_eq!(scene.reason, Reason::ForeignData);
    assert_eq!(scene.see(&[primary(1), standby(1)]), Some(0));
    assert_eq!(scene.see(&[primary(1), foreign]), Some(0));
    assert_eq!(scene.see(&[Sight::Down, foreign]), None);
    assert_eq!(scene.reason, Reason::ForeignData);
}

#[test]
fn e03_a_service_without_a_primary_heals() {
    let mut scene = Scene::new();
    assert_eq!(scene.see(&[standby(1), standby(1)]), None);
    assert_eq!(scene.see(&[standby(1), primary(2)]), Some(1));
}

#[test]
fn e04_a_leader_that_is_in_recovery_is_not_routed_to() {
    let mut scene = Scene::led_by(Leadership::Held(address(1)));
    assert_eq!(scene.see(&[primary(1), standby(1)]), None);
    assert_eq!(scene.reason, Reason::LeaderDoesNotWrite);
    assert_eq!(scene.see(&[primary(1), primary(2)]), Some(1));
    assert_eq!(scene.reason, Reason::LeaderKey);
    scene.leadership = Leadership::HeldByStranger("n9".to_owned());
    assert_eq!(scene.see(&[primary(1), primary(2)]), None);
    assert_eq!(scene.reason, Reason::LeaderIsNoNode);
}

#[test]
fn without_a_leader_key_the_last_primary_goes_on_while_nothing_changes() {
    let mut scene = Scene::led_by(Leadership::Held(address(0)));
    assert_eq!(scene.see(&[primary(1), standby(1)]), Some(0));
    scene.leadership = Leadership::Vacant;
    assert_eq!(scene.see(&[primary(1), standby(1)]), Some(0));
    assert_eq!(scene.reason, Reason::StillWritesWithoutKey);
    scene.restart();
    assert_eq!(scene.see(&[primary(1), standby(1)]), Some(0), "after a restart too");
    assert_eq!(scene.see(&[standby(1), primary(2)]), None, "not a new one");
    assert_eq!(scene.see(&[primary(2), standby(1)]), None, "not on another timeline");
    assert_eq!(scene.see(&[primary(1), primary(2)]), None, "not beside a newer one");
    assert_eq!(scene.see(&[primary(1), standby(1)]), Some(0));
    scene.leadership = Leadership::Held(address(1));
    assert_eq!(scene.see(&[primary(1), standby(1)]), None, "from the moment of a new key");
}

#[test]
fn a_leader_beside_a_newer_timeline_waits() {
    let mut scene = Scene::led_by(Leadership::Held(address(0)));
    assert_eq!(scene.see(&[primary(1), primary(2)]), None);
    assert_eq!(scene.reason, Reason::LeaderIsOutranked);
}

#[test]
fn a_vector_primary_without_pgvector_reigns_and_is_not_routed_to() {
    let mut scene = Scene { kind: Kind::Vector, ..Scene::new() };
    let plain = |sight| changed(sight, |seen| seen.pgvector = false);
    assert_eq!(scene.see(&[primary(1), plain(standby(1))]), Some(0));
    assert!(scene.standbys.is_empty());
    assert_eq!(scene.see(&[primary(1), plain(primary(2))]), None);
    assert_eq!((scene.reason, scene.epoch()), (Reason::NoPgvector, (2, 2)));
    assert_eq!(scene.see(&[primary(1), Sight::Down]), None, "the old one is over");
    assert_eq!(scene.see(&[Sight::Down, primary(2)]), Some(1), "once it is installed");
    assert_eq!(scene.epoch(), (2, 2));
}

#[test]
fn the_cause_is_what_became_of_the_former_primary() {
    let causes = [None, Some(Sight::Down), Some(standby(1)), Some(primary(1))].map(Cause::of);
    assert_eq!(causes, [Cause::Removed, Cause::Lost, Cause::Demoted, Cause::Outranked]);
}

const NODES: usize = 3;

prop_compose! {
    fn seen()(
        in_recovery: bool,
        read_only in prop::bool::weighted(0.1),
        foreign in prop::bool::weighted(0.1),
        timeline in 1_u32..5,
        pgvector in prop::bool::weighted(0.9),
    ) -> Seen {
        let system = if foreign { SYSTEM + 1 } else { SYSTEM };
        let timeline = Some(timeline);
        Seen { in_recovery, read_only: read_only || in_recovery, system, timeline, pgvector, lag: None }
    }
}

fn sight() -> impl Strategy<Value = Sight> {
    prop_oneof![
        1 => Just(Sight::Unseen),
        2 => Just(Sight::Down),
        6 => seen().prop_map(Sight::Up),
    ]
}

fn leadership() -> impl Strategy<Value = Leadership> {
    prop_oneof![
        3 => Just(Leadership::ByTimeline),
        3 => (0..NODES).prop_map(|n| Leadership::Held(address(n))),
        1 => Just(Leadership::HeldByStranger("stranger".to_owned())),
        2 => Just(Leadership::Vacant),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(20_000))]

    #[test]
    fn there_is_never_an_older_primary_nor_one_that_does_not_write(
        vector: bool,
        steps in prop::collection::vec(
            (prop::array::uniform3(sight()), leadership(), prop::bool::weighted(0.1)), 1..20),
    ) {
        let mut scene = Scene::new();
        scene.kind = if vector { Kind::Vector } else { Kind::PostgreSql };
        for (sights, leadership, restarted) in steps {
            let before = scene.reign.clone();
            scene.leadership = leadership;
            if restarted {
                scene.restart();
            }
            let chosen = scene.see(&sights);
            let after = &scene.reign;
            prop_assert!(after.epoch >= before.epoch);
            prop_assert_eq!(after == &before, after.epoch == before.epoch);
            if before.system.is_some() {
                prop_assert_eq!(after.system, before.system);
            }
            let Some(chosen) = chosen else { continue };
            let Sight::Up(seen) = sights[chosen] else { panic!("nobody answers there") };
            prop_assert!(!seen.in_recovery && !seen.read_only);
            prop_assert!(!vector || seen.pgvector);
            prop_assert_eq!(Some(seen.system), after.system);
            prop_assert_eq!(seen.timeline, Some(after.epoch.timeline));
            prop_assert_eq!(after.holder.as_ref(), Some(&address(chosen)));
            for other in sights.iter().filter_map(|sight| candidate_timeline(sight, after.system)) {
                prop_assert!(other <= after.epoch.timeline, "a newer one is there");
            }
            match &scene.leadership {
                Leadership::ByTimeline => {}
                Leadership::Held(leader) => prop_assert_eq!(leader, &address(chosen)),
                Leadership::HeldByStranger(_) => prop_assert!(false, "a stranger leads"),
                Leadership::Vacant => prop_assert_eq!(after, &before),
            }
            prop_assert!(!scene.standbys.contains(&address(chosen)));
        }
    }
}

fn candidate_timeline(sight: &Sight, system: Option<u64>) -> Option<u32> {
    match sight {
        Sight::Up(seen) if !seen.in_recovery && !seen.read_only && Some(seen.system) == system => {
            seen.timeline
        }
        _ => None,
    }
}
