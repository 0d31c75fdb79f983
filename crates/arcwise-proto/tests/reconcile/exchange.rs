//! Whole conversations: each side ends up with just what the other one lacks.

use std::{cell::Cell, collections::BTreeSet, convert::Infallible};

use arcwise_proto::{
    AspectHash, AspectKey, Location,
    reconcile::{
        Items, Place, Sectors, ShortId, Sketch, Span,
        estimate::{Counters, Narrow},
        exchange::{
            Answerer, Error, Fault, Limits, Link, Method, Opener, Outcome, Packet, Report, View,
            packet::{Element, Failure, List, Opening, Probe, ProbeBody, Reply, Wants},
        },
        fingerprint::{Check, Fingerprint},
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
            // In a list, items of one short id that one side has more of go over both ways: two that
            // were made for it, or a few in a thousand by chance.
            let twins = [a, b].iter().any(|set| has_twins(set));
            let listed = ended.packets.iter().any(|packet| match packet {
                Packet::Pieces { elements, .. } => {
                    elements.iter().any(|element| matches!(element, Element::List { .. }))
                }
                _ => false,
            });
            if listed && !twins {
                let extra = from_her.len() - only_a.len();
                assert!(extra <= 1 + from_her.len() / 500, "{extra} extra");
            }
            if !listed {
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

/// Items that begin with the same bits, which cost little to make: those that one side lacks are asked
/// for by bits that others have as well, thousands of times.
#[test]
fn like_beginnings_do_not_stop_anybody() {
    let like = |n: u64| {
        let (one, mut other) = ground(n);
        other.hash.0[5] = !one.hash.0[5];
        other.location = one.location;
        (one, other)
    };
    for pairs in [300, 4000] {
        let a: Set = (0..pairs)
            .map(|n| like(n).0)
            .chain((0..20_000).map(|n| scattered(n + (1 << 40))))
            .collect();
        let mut b = a.clone();
        (0..pairs).for_each(|n| b.insert(like(n).1));
        let ended = talk(&a, &b, &full(), Link { round_trip: 0.0, bytes_per_second: 1e4 });
        assert_eq!((ended.she.method, ended.she.theirs), (Method::Sketches, pairs));
        // Up to a claim's worth of doubts, all that happens is that some go over in vain.
        assert_eq!(ended.she.repaired, pairs > 2048);
        assert!(ended.she.repaired || ended.she.redundant > pairs / 2);
    }
}

/// Everything that differs is close together: few round trips all the same.
#[test]
fn clustered_differences_take_few_round_trips() {
    for n in [4000, 200_000] {
        let in_a_row: Set = (0..n).map(|k| key(k as u32, k)).collect();
        let anywhere: Set = (0..n).map(scattered).collect();
        let (row, all) = (in_a_row.sectors(), anywhere.sectors());
        for d in [60, 500] {
            // Some at one end and some at the other; all at one entry.
            let (mut moved, mut moved_row) = (in_a_row.clone(), row.clone());
            let (mut grown, mut grown_all) = (anywhere.clone(), all.clone());
            for k in 0..d {
                let (old, new, one) = (key(k as u32, k), n + k, key(77, k + (1 << 40)));
                moved.remove(&old);
                moved_row.remove(&old);
                moved.insert(key(new as u32, new));
                moved_row.insert(&key(new as u32, new));
                grown.insert(one);
                grown_all.insert(&one);
            }
            let Ok(()) = moved_row.settle(&moved);
            let Ok(()) = grown_all.settle(&grown);
            for (a, sa, b, sb) in [
                (&in_a_row, &row, &moved, &moved_row),
                (&anywhere, &all, &grown, &grown_all),
                (&grown, &grown_all, &anywhere, &all),
            ] {
                let ended = talk_with(a, sa, b, sb, &full(), Link::default());
                assert!(ended.she.turns <= 4, "{d} of {n}: {:?}", ended.she);
            }
        }
    }
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

/// A set that counts what is read of it.
struct Watched<'a> {
    set: &'a Set,
    read: Cell<u64>,
}

impl<'a> Watched<'a> {
    fn new(set: &'a Set) -> Self {
        Self { set, read: Cell::new(0) }
    }
}

impl Items for Watched<'_> {
    type Error = Infallible;

    fn scan(
        &self,
        first: &AspectKey,
        last: &AspectKey,
        each: &mut dyn FnMut(&AspectKey),
    ) -> Result<(), Infallible> {
        self.set.scan(first, last, &mut |key| {
            self.read.set(self.read.get() + 1);
            each(key);
        })
    }

    fn find(&self, first: &AspectHash, last: &AspectHash) -> Result<Vec<AspectKey>, Infallible> {
        let found = self.set.find(first, last)?;
        // A look-up takes as long as reading some dozens.
        self.read.set(self.read.get() + 30 + found.len() as u64);
        Ok(found)
    }
}

/// An answerer with something to read, and the peer that he has.
struct Asked<'a> {
    he: Answerer,
    watched: Watched<'a>,
    sectors: Sectors,
    arcs: ArcSet,
}

impl<'a> Asked<'a> {
    fn new(set: &'a Set, arcs: ArcSet) -> Self {
        // Any other way than bytes is cheap: he sends sketches.
        let link = Link { round_trip: 0.0, bytes_per_second: 1e4 };
        let he = Answerer::new([2; 8], link, Limits::default());
        Self { he, watched: Watched::new(set), sectors: set.sectors(), arcs }
    }

    /// He has sent pieces.
    fn with_pieces(set: &'a Set, other: &Set, arcs: ArcSet) -> Self {
        let mut this = Self::new(set, arcs);
        let sectors = other.sectors();
        let view = View { sectors: &sectors, items: other, arcs: &this.arcs };
        let (_, open) = Opener::new([1; 8], Limits::default(), &view).unwrap();
        let sent = this.takes(open).unwrap();
        assert!(matches!(sent[..], [Packet::Pieces { .. }, ..]));
        this
    }

    /// Gives him a packet. What he read for it he has charged.
    fn takes(&mut self, packet: Packet) -> Result<Vec<Packet>, Fault> {
        let view = View { sectors: &self.sectors, items: &self.watched, arcs: &self.arcs };
        let step = self.he.handle(packet, &view);
        assert!(self.he.report().work >= 300 * self.watched.read.get());
        match step {
            Ok(step) => Ok(step.send),
            Err(Error::Peer(fault)) => Err(fault),
            Err(Error::Items(never)) => match never {},
        }
    }

    fn work(&self) -> u64 {
        self.he.report().work
    }
}

fn wants(piece: u64, bits: u32, ids: &[u64]) -> Wants {
    Wants { piece, list: List { bits, ids: ids.to_vec() } }
}

fn probe(span: Span, body: ProbeBody) -> Packet {
    Packet::Probe(vec![Probe { span, body }])
}

fn wrong() -> Check {
    Check([0; 16])
}

fn two_sets(n: u64) -> (Set, Set) {
    ((60..n + 60).map(scattered).collect(), (0..n).map(scattered).collect())
}

#[test]
fn everything_that_is_wanted_is_charged_and_only_once() {
    let (a, b) = two_sets(20_000);
    let mut asked = Asked::with_pieces(&b, &a, full());
    let (before, read) = (asked.work(), asked.watched.read.get());
    // Every item of two pieces, by a single bit.
    asked.takes(Packet::Want(vec![wants(0, 1, &[0, 1]), wants(1, 1, &[0, 1])])).unwrap();
    let read = asked.watched.read.get() - read;
    assert!(read > 1000 && read < 12_000, "{read}");
    assert!(asked.work() - before > 300 * read);
    let again = Packet::Want(vec![wants(1, 1, &[0, 1])]);
    assert_eq!(asked.takes(again), Err(Fault::NoSuchPiece));
}

#[test]
fn a_claim_fits_a_packet_whatever_is_wanted() {
    let (a, b) = two_sets(20_000);
    let mut asked = Asked::with_pieces(&b, &a, full());
    for piece in 0..3 {
        asked.takes(Packet::Want(vec![wants(piece, 1, &[0, 1])])).unwrap();
    }
    let before = asked.work();
    let claim = asked.takes(Packet::Close).unwrap();
    let [Packet::Claim { theirs, doubtful, .. }] = &claim[..] else { panic!("{claim:?}") };
    assert!(*theirs > 5000 && doubtful.len() == 4096, "{theirs} {}", doubtful.len());
    assert!(claim[0].encode().len() < 32 << 10);
    // Its check leaves out each of them.
    assert!(asked.work() - before > 1000 * theirs);
    // So does that of a probe.
    let before = asked.work();
    asked.takes(probe(Span::ALL, ProbeBody::Check(wrong()))).unwrap();
    assert!(asked.work() - before > 1000 * theirs);
    // A salted probe changes nothing elsewhere.
    let nothing = Span { first: Place(5), last: Place(5) };
    let before = asked.work();
    asked.takes(probe(nothing, ProbeBody::Salted(vec![7]))).unwrap();
    assert!(asked.work() - before < 500_000);
    let claimed = asked.takes(Packet::Close).unwrap();
    let [Packet::Claim { theirs: now, .. }] = &claimed[..] else { panic!("{claimed:?}") };
    assert_eq!(now, theirs);
}

#[test]
fn he_claims_anew_only_after_a_probe_and_once() {
    let (a, b) = two_sets(3000);
    let claimed = || {
        let mut asked = Asked::with_pieces(&b, &a, full());
        asked.takes(Packet::Close).unwrap();
        asked
    };
    let check = || probe(Span::ALL, ProbeBody::Check(wrong()));
    assert_eq!(claimed().takes(Packet::Close), Err(Fault::Unexpected));
    let mut asked = claimed();
    asked.takes(check()).unwrap();
    assert_eq!(asked.takes(Packet::Done), Err(Fault::Unexpected));
    for last in [Packet::Close, check()] {
        let mut asked = claimed();
        asked.takes(check()).unwrap();
        asked.takes(Packet::Close).unwrap();
        assert_eq!(asked.takes(last), Err(Fault::Unexpected));
    }
}

#[test]
fn failures_come_in_order_and_are_pieces() {
    let (a, b) = two_sets(3000);
    let failed = |pieces: &[u64]| {
        let failure = |piece: &u64| {
            let counters = Counters::new([i32::MIN; 64]).narrow(16, 32);
            Failure { piece: *piece, counters }
        };
        Packet::Failed { pieces: pieces.iter().map(failure).collect(), more: true }
    };
    for (first, second) in
        [(&[1][..], &[1][..]), (&[1], &[0]), (&[], &[3000]), (&[], &[u64::MAX - 1])]
    {
        let mut asked = Asked::with_pieces(&b, &a, full());
        if !first.is_empty() {
            asked.takes(failed(first)).unwrap();
        }
        assert_eq!(asked.takes(failed(second)), Err(Fault::NoSuchPiece), "{first:?} {second:?}");
    }
    // Counters may say anything.
    let mut asked = Asked::with_pieces(&b, &a, full());
    asked.takes(failed(&[0])).unwrap();
    let Packet::Failed { pieces, .. } = failed(&[1]) else { unreachable!() };
    asked.takes(Packet::Failed { pieces, more: false }).unwrap();
}

#[test]
fn packets_that_say_nothing_are_faults() {
    let (a, b) = two_sets(3000);
    let failed = |more| Packet::Failed { pieces: vec![], more };
    for packet in [Packet::Want(vec![]), failed(true), failed(false)] {
        let mut asked = Asked::with_pieces(&b, &a, full());
        assert_eq!(asked.takes(packet), Err(Fault::Empty));
    }
    let mut asked = Asked::with_pieces(&b, &a, full());
    asked.takes(Packet::Close).unwrap();
    assert_eq!(asked.takes(Packet::Probe(vec![])), Err(Fault::Empty));
    let sectors = a.sectors();
    let view = View { sectors: &sectors, items: &a, arcs: &full() };
    let one = Element::Sketch { last: Place(u64::MAX), sketch: Sketch::prefix(&[1, 2, 3], 3) };
    let pieces = |elements, more| Packet::Pieces { count: 1, elements, more };
    for more in [true, false] {
        let (mut she, _) = Opener::new([1; 8], Limits::default(), &view).unwrap();
        assert_eq!(she.handle(pieces(vec![], more), &view), Err(Fault::Empty.into()));
        let (mut she, _) = Opener::new([1; 8], Limits::default(), &view).unwrap();
        let asks = she.handle(pieces(vec![one.clone()], false), &view).unwrap();
        assert!(matches!(asks.send[..], [Packet::Failed { .. }]));
        let extension = Element::Extend(Sketch::new(0));
        assert_eq!(she.handle(pieces(vec![extension], more), &view), Err(Fault::Empty.into()));
    }
}

#[test]
fn no_more_pieces_than_a_round_may_have() {
    let a: Set = (0..100).map(scattered).collect();
    let sectors = a.sectors();
    let view = View { sectors: &sectors, items: &a, arcs: &full() };
    let (mut she, _) = Opener::new([1; 8], Limits::default(), &view).unwrap();
    let mut place = 0..;
    let mut pieces = |many: usize| {
        let sketch = |at| Element::Sketch { last: Place(at), sketch: Sketch::prefix(&[1], 1) };
        let elements = place.by_ref().take(many).map(sketch).collect();
        Packet::Pieces { count: 1, elements, more: true }
    };
    for _ in 0..64 {
        assert_eq!(she.handle(pieces(1024), &view).unwrap().send, []);
    }
    assert_eq!(she.handle(pieces(1), &view), Err(Fault::TooMany.into()));
}

#[test]
fn runs_over_many_arcs_are_charged_for_each() {
    let (a, b) = two_sets(20_000);
    let arc = |i: u32| RingArc::new(Location(i << 26 | 12_345), (1 << 25) + 777).unwrap();
    let mut asked = Asked::with_pieces(&b, &a, (0..64).map(arc).collect());
    asked.takes(Packet::Close).unwrap();
    let (before, read) = (asked.work(), asked.watched.read.get());
    asked.takes(probe(Span::ALL, ProbeBody::Check(wrong()))).unwrap();
    let (work, read) = (asked.work() - before, asked.watched.read.get() - read);
    assert!(read > 64 * 20 && work > 1000 * read, "{work} for {read}");
}

#[test]
fn an_opening_can_say_any_count() {
    let (_, b) = two_sets(20_000);
    for (count, counters) in [(u64::MAX, 0), (u64::MAX, i32::MAX), (20_000, i32::MAX)] {
        for bytes_per_second in [1.0, 1e4, 1e12] {
            let mut asked = Asked::new(&b, full());
            let link = Link { round_trip: 0.1, bytes_per_second };
            asked.he = Answerer::new([2; 8], link, Limits::default());
            let counters = std::array::from_fn(|i| if i % 2 == 0 { counters } else { -counters });
            let open = Packet::Open(Opening {
                nonce: [0; 8],
                count,
                check: wrong(),
                counters: Counters::new(counters).narrow(64, Narrow::bits_for(count)),
                sketch: Sketch::new(0),
            });
            let sent = asked.takes(open).unwrap();
            let bytes: usize = sent.iter().map(|packet| packet.encode().len()).sum();
            assert!(bytes < 60_000, "{bytes} bytes");
            assert!(asked.watched.read.get() <= 30_000);
        }
    }
}

/// What she has already taken for hers alone is not left out once more for a doubt.
#[test]
fn a_doubt_about_what_is_hers() {
    let (one, two) = ground(1 << 34);
    let a: Set = (0..50).map(scattered).chain([one]).collect();
    let sectors = a.sectors();
    let view = View { sectors: &sectors, items: &a, arcs: &full() };
    let (mut she, _) = Opener::new([1; 8], Limits::default(), &view).unwrap();
    let mut ids: Vec<u64> = (0..50).map(|n| ShortId::of(&scattered(n).hash).get()).collect();
    ids.sort_unstable();
    let list = Element::List { last: Place(u64::MAX), list: List { bits: 48, ids } };
    let pieces = Packet::Pieces { count: 50, elements: vec![list], more: false };
    assert_eq!(she.handle(pieces, &view).unwrap().send, [Packet::Close]);
    let common: Set = (0..50).map(scattered).collect();
    let mut sum = Fingerprint::ZERO;
    common.keys.iter().for_each(|key| sum.merge(&Fingerprint::of(&key.hash)));
    let doubtful = vec![ShortId::of(&two.hash); 2];
    let claim = Packet::Claim { theirs: 0, doubtful, check: sum.check(&[1; 8]) };
    let step = she.handle(claim, &view).unwrap();
    assert_eq!(step.send, [Packet::Done]);
    assert_eq!(step.outcome, Some(Outcome::Send([one].into())));
    assert_eq!(she.report().redundant, 0);
}

/// Ten million items, whether a thousandth of them differ or all: by what some thousands take.
#[test]
fn the_limits_let_honest_peers_through() {
    let most = Limits::default().work as f64;
    let none_common =
        ((0..20_000).map(scattered).collect(), (20_000..40_000).map(scattered).collect());
    for (sets, d) in [(two_sets(20_000), 120.0), (two_sets(500), 120.0), (none_common, 40_000.0)] {
        let (a, b): (Set, Set) = sets;
        let n = a.keys.len() as f64;
        let ended = talk(&a, &b, &full(), Link { round_trip: 0.0, bytes_per_second: 1e4 });
        for work in [ended.she.work, ended.he.work] {
            assert!(work as f64 * 1e7 / n < most, "{d} of {n}: {work}");
        }
    }
}

/// Numbers that matter, and others.
fn number() -> impl Strategy<Value = u64> {
    prop_oneof![0u64..4, 0u64..64, Just(u64::MAX), any::<u64>()]
}

fn span() -> impl Strategy<Value = Span> {
    (number(), number()).prop_map(|(a, b)| Span { first: Place(a.min(b)), last: Place(a.max(b)) })
}

fn list() -> impl Strategy<Value = List> {
    (1u32..=48, proptest::collection::vec(number(), 0..8)).prop_map(|(bits, ids)| {
        let mut ids: Vec<u64> = ids.into_iter().map(|id| id & ((1 << bits) - 1)).collect();
        ids.sort_unstable();
        // The bits of no numbers are not sent.
        List { bits: if ids.is_empty() { 48 } else { bits }, ids }
    })
}

fn ascending<T>(mut all: Vec<T>, by: fn(&T) -> u64) -> Vec<T> {
    all.sort_by_key(by);
    all.dedup_by_key(|one| by(one));
    all.retain(|one| by(one) < u64::MAX);
    all
}

/// What an opener can say, in any order.
fn hers() -> impl Strategy<Value = Packet> {
    let some = 0..5usize;
    let wants = (0u64..6, list()).prop_map(|(piece, list)| Wants { piece, list });
    let failure = (0u64..6, any::<[i16; 16]>()).prop_map(|(piece, values)| {
        let counters = std::array::from_fn(|i| values.get(i).map_or(0, |v| i32::from(*v)));
        Failure { piece, counters: Counters::new(counters).narrow(16, 20) }
    });
    let body = prop_oneof![
        Just(ProbeBody::Check(wrong())),
        proptest::collection::vec(any::<u64>(), 0..5).prop_map(ProbeBody::Salted),
    ];
    prop_oneof![
        2 => proptest::collection::vec(wants, some.clone())
            .prop_map(|wants| Packet::Want(ascending(wants, |want| want.piece))),
        4 => (proptest::collection::vec(failure, some), any::<bool>()).prop_map(|(pieces, more)| {
            Packet::Failed { pieces: ascending(pieces, |failure| failure.piece), more }
        }),
        1 => Just(Packet::Close),
        2 => (span(), body).prop_map(|(span, body)| probe(span, body)),
    ]
}

/// What an answerer can say, in any order.
fn his() -> impl Strategy<Value = Packet> {
    let syndromes = || {
        prop_oneof![
            Just(Sketch::new(0)),
            Just(Sketch::new(5)),
            proptest::collection::vec(0u64..1 << 48, 0..=64).prop_map(|s| Sketch::prefix(&s, 64)),
        ]
    };
    let last = prop_oneof![Just(u64::MAX), any::<u64>()];
    let body = prop_oneof![syndromes().prop_map(Ok), list().prop_map(Err)];
    let element = prop_oneof![
        1 => syndromes().prop_map(Element::Extend),
        3 => (last, body).prop_map(|(last, body)| match body {
            Ok(sketch) => Element::Sketch { last: Place(last), sketch },
            Err(list) => Element::List { last: Place(last), list },
        }),
    ];
    // Ends ascend.
    let elements = proptest::collection::vec(element, 0..5).prop_map(|mut elements| {
        let mut next = Some(0);
        elements.retain(|element| match element {
            Element::Extend(_) => true,
            Element::Sketch { last, .. } | Element::List { last, .. } => {
                let fits = next.is_some_and(|next| next <= last.0);
                next = if fits { last.0.checked_add(1) } else { next };
                fits
            }
        });
        elements
    });
    let ids = || {
        let id = number().prop_map(|id| ShortId::new(id & ((1 << 48) - 1)));
        proptest::collection::vec(id, 0..4).prop_map(|ids| ids.into_iter().flatten().collect())
    };
    let reply = prop_oneof![
        Just(Reply::Same),
        Just(Reply::Differs),
        proptest::collection::vec(0u64..200, 0..3)
            .prop_map(|at| Reply::Lacks { positions: ascending(at, |at| *at), theirs: 3 }),
    ];
    prop_oneof![
        6 => (number(), elements, any::<bool>())
            .prop_map(|(count, elements, more)| Packet::Pieces { count, elements, more }),
        1 => (number(), ids()).prop_map(|(theirs, want)| Packet::Found { theirs, want, check: wrong() }),
        2 => (number(), ids())
            .prop_map(|(theirs, doubtful)| Packet::Claim { theirs, doubtful, check: wrong() }),
        2 => proptest::collection::vec(reply, 0..70)
            .prop_map(|replies| Packet::Differ { nonce: [3; 8], replies }),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    /// Whatever she says: he does not panic, charges what he reads, and says no more than fits.
    #[test]
    fn an_answerer_bears_anything(packets in proptest::collection::vec(hers(), 1..8)) {
        let (a, b) = two_sets(2000);
        let mut asked = Asked::with_pieces(&b, &a, full());
        for packet in packets {
            let Ok(sent) = asked.takes(packet) else { break };
            for packet in sent {
                prop_assert!(packet.encode().len() < 60_000);
            }
        }
    }

    /// Whatever he says, she neither.
    #[test]
    fn an_opener_bears_anything(packets in proptest::collection::vec(his(), 1..8)) {
        let (a, _) = two_sets(2000);
        let (watched, sectors) = (Watched::new(&a), a.sectors());
        let view = View { sectors: &sectors, items: &watched, arcs: &full() };
        let (mut she, _) = Opener::new([1; 8], Limits::default(), &view).unwrap();
        for packet in packets {
            let step = she.handle(packet, &view);
            prop_assert!(she.report().work >= 300 * watched.read.get());
            let Ok(step) = step else { break };
            for packet in step.send {
                prop_assert!(packet.encode().len() < 60_000);
            }
        }
    }
}
