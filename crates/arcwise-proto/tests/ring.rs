//! Arcs and sets of arcs against a brute-force model: a tiny ring of cells, one bit each.
//!
//! The cells are of very different sizes, among them single locations at both ends of the number
//! range, so that every boundary of the arithmetic is a boundary of the model.

use std::collections::BTreeSet;

use arcwise_proto::ring::{ArcSet, Location, RING, RingArc};
use proptest::prelude::*;

/// The first location of each cell.
const STARTS: [u32; 12] = [
    0,
    1,
    2,
    3,
    100,
    0x4000_0000,
    0x7fff_ffff,
    0x8000_0000,
    0x8000_0001,
    0xf000_0000,
    0xffff_fffe,
    0xffff_ffff,
];
const CELLS: usize = STARTS.len();

type Model = BTreeSet<usize>;

fn first(cell: usize) -> u32 {
    STARTS[cell % CELLS]
}

fn last(cell: usize) -> u32 {
    first(cell + 1).wrapping_sub(1)
}

fn size(cell: usize) -> u64 {
    u64::from(last(cell) - first(cell)) + 1
}

/// An arc of whole cells, with the cells it covers.
fn arc(start: usize, cells: usize) -> (RingArc, Model) {
    let model: Model = (start..start + cells).map(|c| c % CELLS).collect();
    let len = model.iter().map(|&c| size(c)).sum();
    (RingArc::new(Location(first(start)), len).unwrap(), model)
}

fn any_arc() -> impl Strategy<Value = (RingArc, Model)> {
    (0..CELLS, 0..=CELLS).prop_map(|(start, cells)| arc(start, cells))
}

fn any_set() -> impl Strategy<Value = (ArcSet, Model)> {
    proptest::collection::vec(any_arc(), 0..5).prop_map(|arcs| {
        let model = arcs.iter().flat_map(|(_, m)| m.iter().copied()).collect();
        (arcs.into_iter().map(|(a, _)| a).collect(), model)
    })
}

/// Reads a set back into the model, checking the first and last location of every cell.
fn cells(set: &ArcSet) -> Model {
    for cell in 0..CELLS {
        assert_eq!(
            set.contains(Location(first(cell))),
            set.contains(Location(last(cell))),
            "a cell is covered whole or not at all"
        );
    }
    let inside: Model = (0..CELLS).filter(|&c| set.contains(Location(first(c)))).collect();
    assert_eq!(set.len(), inside.iter().map(|&c| size(c)).sum::<u64>());
    inside
}

/// How many runs of neighbouring cells there are on the ring of cells.
fn runs(model: &Model) -> usize {
    let starts = model.iter().filter(|&&c| !model.contains(&((c + CELLS - 1) % CELLS))).count();
    if model.len() == CELLS { 1 } else { starts }
}

proptest! {
    #[test]
    fn an_arc_is_its_cells((arc, model) in any_arc()) {
        for cell in 0..CELLS {
            prop_assert_eq!(arc.contains(Location(first(cell))), model.contains(&cell));
            prop_assert_eq!(arc.contains(Location(last(cell))), model.contains(&cell));
        }
        prop_assert_eq!(arc.is_empty(), model.is_empty());
        prop_assert_eq!(arc.is_full(), model.len() == CELLS);
        prop_assert_eq!(cells(&ArcSet::from(arc)), model);
        prop_assert_eq!(arc.to_string().parse(), Ok(arc));
        if let Some(last) = arc.last() {
            prop_assert_eq!(RingArc::between(arc.start(), last), arc);
        }
    }

    #[test]
    fn two_arcs_meet_in_at_most_two_pieces((a, ma) in any_arc(), (b, mb) in any_arc()) {
        let both: Model = ma.intersection(&mb).copied().collect();
        let meet = a.intersect(&b);
        prop_assert_eq!(meet.arcs().len(), runs(&both));
        prop_assert!(meet.arcs().len() <= 2);
        prop_assert_eq!(cells(&meet), both);
        let either: Model = ma.union(&mb).copied().collect();
        prop_assert!(a.union(&b).arcs().len() <= 2);
        prop_assert_eq!(cells(&a.union(&b)), either);
    }

    #[test]
    fn a_split_keeps_order_and_everything((arc, model) in any_arc(), at in 0..CELLS) {
        let (head, tail) = arc.split(Location(first(at)));
        let (h, t) = (cells(&head.into()), cells(&tail.into()));
        prop_assert!(h.is_disjoint(&t));
        prop_assert_eq!(h.union(&t).copied().collect::<Model>(), model.clone());
        prop_assert!(!h.contains(&at));
        prop_assert_eq!(t.contains(&at), model.contains(&at));
        if !head.is_empty() && !tail.is_empty() {
            prop_assert_eq!(head.start(), arc.start());
            prop_assert_eq!(tail.start(), Location(first(at)));
        }
    }

    #[test]
    fn set_algebra((a, ma) in any_set(), (b, mb) in any_set()) {
        prop_assert_eq!(cells(&a), ma.clone());
        prop_assert_eq!(cells(&a.union(&b)), ma.union(&mb).copied().collect::<Model>());
        prop_assert_eq!(cells(&a.intersect(&b)), ma.intersection(&mb).copied().collect::<Model>());
        prop_assert_eq!(cells(&a.difference(&b)), ma.difference(&mb).copied().collect::<Model>());
        prop_assert_eq!(cells(&a.complement()), (0..CELLS).filter(|c| !ma.contains(c)).collect::<Model>());
        prop_assert_eq!(a.covers(&b), mb.is_subset(&ma));
        prop_assert_eq!(a.overlaps(&b), !ma.is_disjoint(&mb));
        prop_assert_eq!(a == b, ma == mb, "one form for one set");
        prop_assert_eq!(a.arcs().len(), runs(&ma));
        prop_assert_eq!(a.arcs().into_iter().collect::<ArcSet>(), a.clone());
        prop_assert_eq!(a.to_string().parse(), Ok(a.clone()));
        prop_assert!((a.fraction() * RING as f64 - a.len() as f64).abs() < 1e-3);
    }

    #[test]
    fn parsing_never_panics(text in "[0-9a-f.=,empty ful]{0,30}") {
        let _ = text.parse::<ArcSet>();
        let _ = text.parse::<RingArc>();
    }
}

#[test]
fn the_text_of_arcs() {
    for (text, arc) in [
        ("empty", RingArc::EMPTY),
        ("full", RingArc::FULL),
        ("00000005..=00000005", RingArc::between(Location(5), Location(5))),
        ("f0000000..=0000000f", RingArc::between(Location(0xf000_0000), Location(15))),
    ] {
        assert_eq!(arc.to_string(), text);
        assert_eq!(text.parse(), Ok(arc));
    }
    for bad in ["", "all", "1..2", "1..=", "..=1", "1..=100000000", "-1..=2"] {
        assert!(bad.parse::<RingArc>().is_err(), "{bad}");
    }
    assert!(RingArc::new(Location(0), RING + 1).is_err());
}
