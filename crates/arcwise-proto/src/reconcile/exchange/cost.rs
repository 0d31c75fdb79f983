//! Which way is the cheapest.

use super::{PIECE_DIFFERENCES, syndromes_for};
use crate::reconcile::sums::SYNDROMES;

/// What is known of the way between two nodes.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Link {
    /// Time from a question to its answer, in seconds.
    pub round_trip: f64,
    /// Bytes a second that can be had, the slower direction.
    pub bytes_per_second: f64,
}

impl Default for Link {
    /// A guess for where nothing is known: 50 ms, and 2 Mbit/s as a share of a home connection.
    fn default() -> Self {
        Self { round_trip: 0.05, bytes_per_second: 250e3 }
    }
}

/// How two sets were compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Method {
    /// The checks were the same.
    Same,
    /// One side had nothing.
    Stream,
    /// The difference was in the opening sketch.
    Opening,
    /// Sketches of pieces.
    Sketches,
    /// Lists of shortened ids.
    Lists,
}

/// What it takes, in seconds, to settle a difference by one method. The figures are measured (two
/// cores of a 2020s server); where they are wrong, some time is lost and nothing else.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Cost {
    /// Bytes both ways.
    pub bytes: f64,
    /// Round trips, beginning with the opening.
    pub round_trips: f64,
    /// Seconds of computing, both sides together.
    pub computing: f64,
}

impl Cost {
    /// Sketches of pieces, with about `difference` items in one of the sets only.
    pub fn sketches(difference: f64) -> Self {
        Self {
            bytes: 10.0 * difference + 60.0,
            round_trips: 2.3,
            computing: 8e-6 * difference + 1e-4,
        }
    }

    /// Lists, where the answerer has `theirs` items and the opener `ours`.
    pub fn lists(difference: f64, ours: f64, theirs: f64) -> Self {
        Self {
            bytes: 2.25 * theirs + 1.2 * difference + 40.0,
            round_trips: 2.0,
            computing: 4e-7 * (ours + theirs) + 1e-4,
        }
    }

    /// Altogether, in seconds.
    pub fn seconds(&self, link: &Link) -> f64 {
        self.bytes / link.bytes_per_second.max(1.0)
            + self.round_trips * link.round_trip
            + self.computing
    }
}

/// Sketches or lists, where the opener has `opener` items and the answerer `answerer`.
pub(super) fn choose(difference: f64, opener: u64, answerer: u64, link: &Link) -> Method {
    let (opener, answerer) = (opener as f64, answerer as f64);
    // From there on lists are no longer than sketches. It is also what bounds the number of sketches,
    // whatever she says that she has.
    if difference > answerer / 4.0 {
        return Method::Lists;
    }
    let sketches = Cost::sketches(difference).seconds(link);
    let lists = Cost::lists(difference, opener, answerer).seconds(link);
    if lists < sketches { Method::Lists } else { Method::Sketches }
}

/// What comes after a sketch of a piece that could not be decoded.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Next {
    /// So many syndromes in all.
    Extend(usize),
    /// About so many pieces in its place.
    Cut(f64),
    /// A list, which settles it for sure.
    List,
}

/// By how many syndromes a sketch is extended at least. Most pieces that fail have just a few
/// differences more than was expected.
const EXTENSION: usize = 6;

/// Decides that for a piece of `items` items of which `difference` differ, about. `had` says how many
/// syndromes there were, `None` where extending them was tried before. `round_trip` is what another
/// round costs this piece, in seconds: all that fail in one round share it.
///
/// Where `even`, the differences seem to be anywhere, and it failed since it has a few more than was
/// expected. Otherwise they stand together somewhere, and there is only the estimate to go by. After a
/// cut at least two pieces are expected to fail again and to be listed in another round: more and
/// smaller pieces cost more now and less then.
pub(super) fn next(
    difference: f64,
    items: u64,
    had: Option<usize>,
    even: bool,
    round_trip: f64,
    link: &Link,
) -> Next {
    let items = items as f64;
    let seconds =
        |bytes: f64, computing: f64| Cost { bytes, round_trips: 0.0, computing }.seconds(link);
    let list_of = |items: f64| seconds(2.25 * items + 8.0, 8e-7 * items);
    let list = list_of(items);
    let parts = (items / 5.0).sqrt().max(difference / PIECE_DIFFERENCES).max(2.0);
    let syndromes = syndromes_for(difference / parts) as f64;
    let cut = seconds(parts * (6.0 * syndromes + 4.0), 8e-6 * difference)
        + round_trip
        + 2.0 * list_of(items / parts);
    let (rest, otherwise) = match difference > items / 4.0 || list <= cut {
        true => (list, Next::List),
        false => (cut, Next::Cut(parts)),
    };
    let Some(had) = had.filter(|had| *had < SYNDROMES) else { return otherwise };
    let enough =
        (had + EXTENSION).max((1.25 * difference).min(SYNDROMES as f64) as usize + EXTENSION);
    // The estimate is off by a third: how likely is it that so many are too few all the same?
    let extensions = match (enough <= SYNDROMES, even) {
        (true, true) => vec![(enough, 0.05)],
        (true, false) => vec![(enough, 0.15), (SYNDROMES, 0.05)],
        (false, _) if difference >= SYNDROMES as f64 => return otherwise,
        (false, true) => vec![(SYNDROMES, 0.3)],
        (false, false) => vec![(SYNDROMES, 0.65)],
    };
    let mut best = (rest, otherwise);
    for (syndromes, risk) in extensions {
        let time = seconds(6.0 * (syndromes - had) as f64, 0.0) + risk * (round_trip + rest);
        if time < best.0 {
            best = (time, Next::Extend(syndromes));
        }
    }
    best.1
}

/// Bytes that it takes at least to name `difference` of all 48-bit ids: the logarithm of the number of
/// such sets.
pub fn bound(difference: u64) -> f64 {
    let d = difference as f64;
    if difference == 0 { 0.0 } else { d * (48.0 - d.log2() + std::f64::consts::LOG2_E) / 8.0 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_where_much_differs_and_sketches_where_little_does() {
        let link = Link::default();
        assert_eq!(choose(100.0, 1_000_000, 1_000_000, &link), Method::Sketches);
        assert_eq!(choose(100_000.0, 1_000_000, 1_000_000, &link), Method::Sketches);
        assert_eq!(choose(500_000.0, 1_000_000, 1_000_000, &link), Method::Lists);
        assert_eq!(choose(10.0, 12, 12, &link), Method::Lists);
    }

    /// A list is of his items, however many she has.
    #[test]
    fn few_of_his_items_are_listed() {
        let link = Link { round_trip: 1.0, bytes_per_second: 1e5 };
        assert_eq!(choose(5000.0, 100_000, 21_000, &link), Method::Lists);
        assert_eq!(choose(5000.0, 21_000, 100_000, &link), Method::Sketches);
        assert_eq!(choose(1e19, u64::MAX, 1000, &link), Method::Lists);
    }

    #[test]
    fn after_a_failure() {
        let next = |difference, items, had, failed: f64| {
            let link = Link::default();
            next(difference, items, had, failed > 3.0, link.round_trip / failed, &link)
        };
        // Alone, a small piece is not worth another round trip.
        assert_eq!(next(60.0, 800, Some(31), 1.0), Next::List);
        assert_eq!(next(36.0, 240, Some(31), 1.0), Next::List);
        // Among many there will be another one anyway.
        assert_eq!(next(36.0, 240, Some(31), 600.0), Next::Extend(51));
        assert_eq!(next(36.0, 24_000, Some(31), 1.0), Next::Extend(64));
        assert_eq!(next(36.0, 240, None, 100.0), Next::List);
        assert_eq!(next(600.0, 40_000, Some(31), 1.0), Next::Cut(8000f64.sqrt()));
        assert_eq!(next(600.0, 2000, Some(31), 1.0), Next::List);
        assert_eq!(next(64.0, 10_000_000, Some(64), 1.0), Next::Cut(2_000_000f64.sqrt()));
        // Whatever anybody claims.
        assert_eq!(next(1e300, u64::MAX, Some(0), 1.0), Next::List);
        assert_eq!(next(0.0, 0, Some(0), 1.0), Next::List);
    }

    #[test]
    fn the_bound() {
        assert_eq!(bound(0), 0.0);
        assert!((bound(10) - 57.6).abs() < 0.5, "{}", bound(10));
        assert!((bound(100_000) - 410e3).abs() < 2e3, "{}", bound(100_000));
    }
}
