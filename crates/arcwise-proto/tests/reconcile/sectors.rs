//! The kept sums are those of the items, whatever happened.

use arcwise_proto::{
    AspectKey, Location,
    reconcile::{
        Parts, Place, Sectors, Span, Sums, checkpoint::CheckpointError, sectors::MAX_SECTORS,
    },
    ring::{ArcSet, RingArc},
};
use proptest::prelude::*;

use crate::set::{Set, key, scattered};

fn recount(set: &Set, inside: impl Fn(&AspectKey) -> bool) -> Sums {
    let mut sums = Sums::ZERO;
    set.keys.iter().filter(|key| inside(key)).for_each(|key| sums.add(&key.hash, Parts::ALL));
    sums
}

#[derive(Clone, Debug)]
enum Op {
    /// Inserts some, scattered or all at one location.
    Insert(u64, u64, Option<u32>),
    /// Removes every n-th.
    Remove(usize),
    Settle,
    Checkpoint,
}

fn op() -> impl Strategy<Value = Op> {
    let at = prop_oneof![
        Just(None),
        Just(None),
        prop_oneof![Just(0), Just(u32::MAX), Just(0x8000_0000)].prop_map(Some)
    ];
    prop_oneof![
        3 => (any::<u32>(), 0u64..700, at).prop_map(|(n, many, at)| Op::Insert(n.into(), many, at)),
        1 => (1usize..5).prop_map(Op::Remove),
        2 => Just(Op::Settle),
        1 => Just(Op::Checkpoint),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(40))]

    #[test]
    fn sums_are_those_of_the_items(
        ops in proptest::collection::vec(op(), 1..12),
        arcs in proptest::collection::vec((any::<u32>(), any::<u32>()), 0..4),
        places in any::<(u64, u64)>(),
    ) {
        let (mut set, mut sectors) = (Set::default(), Sectors::new());
        for op in ops {
            match op {
                Op::Insert(from, many, at) => {
                    for n in from..from + many {
                        let key = at.map_or_else(|| scattered(n), |at| key(at, n));
                        if !set.keys.contains(&key) {
                            set.insert(key);
                            sectors.insert(&key);
                        }
                    }
                }
                Op::Remove(nth) => {
                    let keys: Vec<_> = set.keys.iter().step_by(nth).copied().collect();
                    for key in keys {
                        set.remove(&key);
                        sectors.remove(&key);
                    }
                }
                Op::Settle => {
                    let Ok(()) = sectors.settle(&set);
                }
                Op::Checkpoint => {
                    sectors = Sectors::from_bytes(&sectors.to_bytes([7; 16])).unwrap().1;
                }
            }
            prop_assert_eq!(sectors.count(), set.keys.len() as u64);
        }
        prop_assert_eq!(sectors.verify(&set), Ok(true));
        let before = sectors.clone();

        let arcs: ArcSet = arcs
            .into_iter()
            .map(|(a, b)| RingArc::between(Location(a), Location(b)))
            .collect();
        let Ok(sums) = sectors.sum_over(&arcs, Parts::ALL, &set);
        prop_assert_eq!(&sums, &recount(&set, |key| arcs.contains(key.location)));

        let span = Span { first: Place(places.0.min(places.1)), last: Place(places.0.max(places.1)) };
        let Ok(sums) = sectors.sum(span, Parts::ALL, &set);
        prop_assert_eq!(&sums, &recount(&set, |key| span.contains(Place::of(key))));
        let Ok(few) = sectors.sum(span, Parts::sketch(5), &set);
        prop_assert_eq!(&few.syndromes[..5], &sums.syndromes[..5]);
        prop_assert_eq!(few.count, sums.count);

        // Pieces are the whole, each about as large as was asked for.
        let mut total = Sums::ZERO;
        let mut first = Place(0);
        let ends = sectors.cuts(Span::ALL, 40.0).into_iter().map(|cut| Place(cut.0 - 1));
        for last in ends.chain([Place(u64::MAX)]) {
            prop_assert!(first <= last);
            let Ok(piece) = sectors.sum(Span { first, last }, Parts::ALL, &set);
            total.merge(&piece, Parts::ALL);
            first = Place(last.0.wrapping_add(1));
        }
        prop_assert_eq!(&total, &recount(&set, |_| true));

        // A snapshot stays as it is.
        for n in 0..300 {
            sectors.insert(&key(7, n));
        }
        prop_assert_eq!(before.verify(&set), Ok(true));
    }

    #[test]
    fn damaged_checkpoints_are_refused(n in 0u64..600, at in any::<prop::sample::Index>(), bit in 0..8u8) {
        let set: Set = (0..n).map(scattered).collect();
        let bytes = set.sectors().to_bytes([7; 16]);
        let mut bad = bytes.clone();
        bad[at.index(bytes.len())] ^= 1 << bit;
        prop_assert!(Sectors::from_bytes(&bad).is_err());
        prop_assert_eq!(Sectors::from_bytes(&bytes[..at.index(bytes.len())]).unwrap_err(), CheckpointError::Damaged);
        let (stamp, sectors) = Sectors::from_bytes(&bytes).unwrap();
        prop_assert_eq!((stamp, sectors.to_bytes(stamp)), ([7; 16], bytes.clone()));
    }
}

/// A hundred small spaces cost a few megabytes.
#[test]
fn small_sets_are_small() {
    for (n, most) in [(0, 4_000), (1, 10_000), (250, 10_000), (10_000, 500_000)] {
        let sectors = (0..n).map(scattered).collect::<Set>().sectors();
        assert!(sectors.memory() < most, "{n} items: {} bytes", sectors.memory());
    }
}

/// What is expected is cut as what is there.
#[test]
fn as_many_sectors_as_items_call_for() {
    let half: ArcSet = RingArc::between(Location(0), Location(u32::MAX / 2)).into();
    for arcs in [ArcSet::full(), half] {
        let sectors = Sectors::expecting(10_000, &arcs);
        assert!((32..=256).contains(&sectors.len()), "{} sectors", sectors.len());
    }
    assert_eq!(Sectors::expecting(0, &ArcSet::empty()).len(), 1);
}

/// One entry with very many aspects has as many sectors as a full ring.
#[test]
fn hot_entries_are_cut_like_any_others() {
    let set: Set = (0..10_000).map(|n| key(0x1234_5678, n)).collect();
    let sectors = set.sectors();
    assert!(sectors.len() > 40, "{}", sectors.len());
    let cuts = sectors.cuts(Span::ALL, 100.0);
    assert!(cuts.len() > 60 && cuts.len() < 140, "{}", cuts.len());
    let short = RingArc::between(Location(0x1234_5000), Location(0x1234_5fff)).into();
    let Ok(sums) = sectors.sum_over(&short, Parts::COUNT, &set);
    assert_eq!(sums.count, 10_000);
}

/// Items placed so that halving gains nothing.
#[test]
fn the_number_of_sectors_is_bounded() {
    let mut sectors = Sectors::new();
    let mut set = Set::default();
    // Clusters of a few more than a load, far apart and close together.
    for cluster in 0..120u32 {
        for n in 0..260u32 {
            let at = (cluster % 11) * 0x1745_0000 + (cluster / 11) * 3 + (n % 2);
            let key = key(at, u64::from(cluster * 1000 + n));
            set.insert(key);
            sectors.insert(&key);
        }
        let Ok(()) = sectors.settle(&set);
        assert!(sectors.len() <= MAX_SECTORS);
    }
    assert_eq!(sectors.verify(&set), Ok(true));
    for key in set.keys.clone().iter().skip(100) {
        set.remove(key);
        sectors.remove(key);
        let Ok(()) = sectors.settle(&set);
    }
    assert!(sectors.len() < 100, "{}", sectors.len());
    assert_eq!(sectors.verify(&set), Ok(true));
}
