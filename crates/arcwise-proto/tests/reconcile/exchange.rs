//! Whole conversations: each side ends up with just what the other one lacks.

use std::collections::BTreeSet;

use arcwise_proto::{
    AspectKey, Location,
    reconcile::{
        Sectors, ShortId,
        exchange::{Answerer, Limits, Link, Method, Opener, Outcome, Packet, Report, View},
    },
    ring::{ArcSet, RingArc},
};
use proptest::prelude::*;

use crate::set::{Set, key, scattered};

pub(crate) struct Ended {
    pub(crate) she: Report,
    pub(crate) he: Report,
    pub(crate) packets: Vec<Packet>,
}

/// Lets two sides talk until both are done, and checks what they make of it.
pub(crate) fn talk(a: &Set, b: &Set, arcs: &ArcSet, link: Link) -> Ended {
    talk_with(a, &a.sectors(), b, &b.sectors(), arcs, link)
}

fn talk_with(a: &Set, sa: &Sectors, b: &Set, sb: &Sectors, arcs: &ArcSet, link: Link) -> Ended {
    let ours = View { sectors: sa, items: a, arcs };
    let theirs = View { sectors: sb, items: b, arcs };
    let (mut opener, first) = Opener::new([1; 8], Limits::default(), &ours).unwrap();
    let mut answerer = Answerer::new([2; 8], link, Limits::default());
    let (mut she, mut he) = (None, None);
    let mut packets = vec![first.clone()];
    let mut to_him = vec![first];
    while !to_him.is_empty() {
        let mut to_her = Vec::new();
        for packet in to_him.drain(..) {
            let bytes = packet.encode();
            assert!(bytes.len() < 60_000, "a packet of {} bytes", bytes.len());
            assert_eq!(Packet::decode(&bytes).as_ref(), Some(&packet));
            let step = answerer.handle(packet, &theirs).unwrap();
            to_her.extend(step.send);
            he = he.or(step.outcome);
        }
        packets.extend(to_her.iter().cloned());
        for packet in to_her {
            let bytes = packet.encode();
            assert!(bytes.len() < 60_000, "a packet of {} bytes", bytes.len());
            assert_eq!(Packet::decode(&bytes).as_ref(), Some(&packet));
            let step = opener.handle(packet, &ours).unwrap();
            to_him.extend(step.send);
            she = she.or(step.outcome);
        }
        packets.extend(to_him.iter().cloned());
    }
    let ended = Ended { she: opener.report().clone(), he: answerer.report().clone(), packets };
    assert_eq!((ended.she.sent, ended.she.received), (ended.he.received, ended.he.sent));
    let inside = |set: &Set| -> BTreeSet<AspectKey> {
        set.keys.iter().filter(|key| arcs.contains(key.location)).copied().collect()
    };
    let (in_a, in_b) = (inside(a), inside(b));
    match (she.expect("she has an outcome"), he.expect("he has an outcome")) {
        (Outcome::SendAll, Outcome::TakeAll) => assert!(in_b.is_empty()),
        (Outcome::TakeAll, Outcome::SendAll) => assert!(in_a.is_empty()),
        (Outcome::Send(from_her), Outcome::Send(from_him)) => {
            let only_a: BTreeSet<_> = in_a.difference(&in_b).copied().collect();
            let only_b: BTreeSet<_> = in_b.difference(&in_a).copied().collect();
            assert!(from_her.is_superset(&only_a) && from_him.is_superset(&only_b));
            // In a list, items of one short id that one side has more of go over both ways.
            let twins = [a, b].iter().any(|set| has_twins(set));
            if !(twins && ended.she.method == Method::Lists) {
                assert_eq!(from_her, only_a);
                assert_eq!(ended.she.theirs, only_b.len() as u64);
                assert_eq!(ended.he.theirs, only_a.len() as u64);
                let extra = from_him.difference(&only_b).count() as u64;
                assert_eq!((extra, extra), (ended.she.redundant, ended.he.redundant));
            }
        }
        other => panic!("they do not agree how it ended: {other:?}"),
    }
    ended
}

/// Whether two items have one short id.
fn has_twins(set: &Set) -> bool {
    let ids: BTreeSet<_> = set.keys.iter().map(|key| ShortId::of(&key.hash)).collect();
    ids.len() < set.keys.len()
}

fn fast() -> Link {
    Link { round_trip: 0.0, bytes_per_second: 1e9 }
}

fn full() -> ArcSet {
    ArcSet::full()
}

/// Two sets: common items, and those of either side only.
#[derive(Clone, Debug)]
struct Case {
    common: u64,
    ours: u64,
    theirs: u64,
    /// At one location: common ones, and the different ones.
    hot: (bool, bool),
    arcs: ArcSet,
    slow: bool,
}

fn case() -> impl Strategy<Value = Case> {
    let few = || prop_oneof![Just(0u64), 0u64..12, 0u64..150];
    let common = prop_oneof![0u64..20, 0u64..3000];
    let arcs = prop_oneof![
        Just(ArcSet::full()),
        (any::<u32>(), any::<u32>())
            .prop_map(|(a, b)| RingArc::between(Location(a), Location(b)).into()),
        proptest::collection::vec((any::<u32>(), 0u64..1 << 31), 0..3).prop_map(|arcs| arcs
            .into_iter()
            .map(|(at, len)| RingArc::new(Location(at), len).unwrap())
            .collect()),
    ];
    (common, few(), few(), any::<(bool, bool)>(), arcs, any::<bool>()).prop_map(
        |(common, ours, theirs, hot, arcs, slow)| Case { common, ours, theirs, hot, arcs, slow },
    )
}

fn sets(case: &Case) -> (Set, Set) {
    let place = |n: u64, hot: bool| if hot { key(0x7fff_ffff, n) } else { scattered(n) };
    let common = (0..case.common).map(|n| place(n, case.hot.0));
    let only = |from: u64, many: u64| (from..from + many).map(|n| place(n, case.hot.1));
    let a = common.clone().chain(only(1 << 32, case.ours)).collect();
    let b = common.chain(only(1 << 33, case.theirs)).collect();
    (a, b)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(60))]

    #[test]
    fn the_exact_difference(case in case()) {
        let (a, b) = sets(&case);
        let link = if case.slow { Link { round_trip: 0.1, bytes_per_second: 1e4 } } else { fast() };
        talk(&a, &b, &case.arcs, link);
        talk(&b, &a, &case.arcs, link);
    }

    /// However differently the two have grown.
    #[test]
    fn sectors_need_not_be_alike(case in case(), more in 0u64..3000) {
        let (mut a, b) = sets(&case);
        let extra: Vec<_> = (0..more).map(|n| scattered(n + (1 << 40))).collect();
        extra.iter().for_each(|key| a.insert(*key));
        let mut coarse = Sectors::new();
        b.keys.iter().for_each(|key| coarse.insert(key));
        let mut fine = a.sectors();
        for key in &extra {
            a.remove(key);
            fine.remove(key);
        }
        talk_with(&a, &fine, &b, &coarse, &case.arcs, fast());
        talk_with(&b, &coarse, &a, &fine, &case.arcs, fast());
    }
}

#[test]
fn the_same() {
    let set: Set = (0..5000).map(scattered).collect();
    let ended = talk(&set, &set, &full(), fast());
    assert_eq!(ended.she.method, Method::Same);
    assert!(ended.she.sent + ended.she.received <= 230, "{:?}", ended.she);
    assert_eq!(ended.packets.len(), 2);
}

#[test]
fn one_side_empty() {
    let set: Set = (0..500).map(scattered).collect();
    for (a, b) in [(&set, &Set::default()), (&Set::default(), &set)] {
        let ended = talk(a, b, &full(), fast());
        assert_eq!((ended.she.method, ended.he.method), (Method::Stream, Method::Stream));
    }
    talk(&Set::default(), &Set::default(), &full(), fast());
}

#[test]
fn ten_differences_take_one_round_trip() {
    let a: Set = (0..20_000).map(scattered).collect();
    let b: Set = (5..20_005).map(scattered).collect();
    let ended = talk(&a, &b, &full(), fast());
    assert_eq!(ended.she.method, Method::Opening);
    assert!(ended.she.sent + ended.she.received <= 260, "{:?}", ended.she);
    // Done goes with the data.
    assert_eq!(ended.packets.len(), 3);
}

#[test]
fn many_differences() {
    for (n, d, most) in [(20_000, 500, 12.0), (20_000, 2000, 12.0)] {
        let a: Set = (0..n).map(scattered).collect();
        let b: Set = (d / 2..n + d / 2).map(scattered).collect();
        let ended = talk(&a, &b, &full(), Link { round_trip: 0.01, bytes_per_second: 1e5 });
        let bytes = (ended.she.sent + ended.she.received) as f64 / d as f64;
        assert!(bytes < most, "{bytes} bytes each, {:?}", ended.she);
        assert_eq!(ended.she.method, Method::Sketches);
        assert!(ended.she.turns <= 5, "{:?}", ended.she);
    }
}

/// Everything that differs is in one sector, or at one location among others.
#[test]
fn clustered_differences() {
    let common: Vec<_> = (0..20_000).map(scattered).collect();
    for at in [0, 0x1234_5678, u32::MAX] {
        let a: Set = common.iter().copied().collect();
        let b: Set =
            common.iter().copied().chain((0..700).map(|n| key(at, n + (1 << 37)))).collect();
        let ended = talk(&a, &b, &full(), Link { round_trip: 0.0, bytes_per_second: 1e4 });
        let other = talk(&b, &a, &full(), Link { round_trip: 0.0, bytes_per_second: 1e4 });
        for bytes in [ended, other].map(|e| e.she.sent + e.she.received) {
            assert!(bytes < 16_000, "{bytes}");
        }
    }
}

#[test]
fn very_different_sets() {
    let a: Set = (0..9000).map(scattered).collect();
    let b: Set = (6000..15_000).map(scattered).collect();
    let ended = talk(&a, &b, &full(), Link::default());
    assert_eq!(ended.she.method, Method::Lists);
    let disjoint: Set = (20_000..40_000).map(scattered).collect();
    talk(&a, &disjoint, &full(), Link::default());
}

/// Pairs of items with one id: found with 2^24 hashes by anybody who wants to.
fn ground(n: u64) -> (AspectKey, AspectKey) {
    let one = scattered(n);
    let mut other = scattered(n + (1 << 50));
    other.hash.0[..6].copy_from_slice(&one.hash.0[..6]);
    (one, other)
}

#[test]
fn ground_collisions_are_noticed_and_repaired() {
    let common: Vec<_> = (0..3000).map(scattered).collect();
    for pairs in [1, 3, 40] {
        for other in [0, 2, 300] {
            // In all the ways that two items of one id can be spread over two sides.
            for shape in 0..5 {
                let (mut a, mut b): (Set, Set) =
                    (common.iter().copied().collect(), common.iter().copied().collect());
                for n in 0..pairs {
                    let (one, two) = ground(n + (1 << 34));
                    let (to_a, to_b): (&[_], &[_]) = match shape {
                        0 => (&[one, two], &[]),
                        1 => (&[], &[one, two]),
                        2 => (&[one], &[two]),
                        3 => (&[one, two], &[one]),
                        _ => (&[two], &[one, two]),
                    };
                    to_a.iter().for_each(|key| a.insert(*key));
                    to_b.iter().for_each(|key| b.insert(*key));
                }
                (0..other).for_each(|n| a.insert(scattered(n + (1 << 35))));
                let ended = talk(&a, &b, &full(), fast());
                let slow = Link { round_trip: 0.0, bytes_per_second: 1e4 };
                talk(&b, &a, &full(), slow);
                if shape < 3 && pairs < 10 && other < 10 {
                    assert!(ended.she.repaired || ended.she.method == Method::Lists);
                }
            }
        }
    }
}

/// Items whose first syndromes cancel out: here simply the same ids at both sides, under other
/// hashes. Nothing but the fingerprint can tell.
#[test]
fn a_poisoned_sketch_is_never_in_sync() {
    let (mut a, mut b): (Set, Set) =
        ((0..2000).map(scattered).collect(), (0..2000).map(scattered).collect());
    for n in 0..20 {
        let (one, two) = ground(n + (1 << 36));
        a.insert(one);
        b.insert(two);
    }
    let ended = talk(&a, &b, &full(), fast());
    assert!(ended.she.repaired);
    assert_eq!((ended.she.ours, ended.she.theirs), (20, 20));
}

/// Several items at one place, with one id as well: nothing to cut between, nothing to tell apart.
#[test]
fn items_at_one_place() {
    let same = |n: u64| {
        let mut key = key(5, n);
        key.hash.0[..8].fill(9);
        key
    };
    let a: Set = (0..300).map(same).collect();
    let b: Set = (100..400).map(same).collect();
    talk(&a, &b, &full(), fast());
    talk(&b, &a, &full(), Link { round_trip: 0.0, bytes_per_second: 1e3 });
}
