//! How many copies there are of each part of the ring, and how much there is in all.

use crate::ring::{ArcSet, Location, RING, RingArc};

/// Weights are counted in whole parts of this, so that sums are exact in any order.
pub(super) const UNIT: u64 = 1 << 16;

/// A weight in parts of [`UNIT`]; what is no number weighs nothing.
pub(super) fn parts(weight: f64) -> i64 {
    (weight.clamp(0.0, 1.0) * UNIT as f64 + 0.5) as i64
}

/// How many copies a space wants of each of its aspects.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Copies {
    min: u32,
    target: u32,
}

/// Numbers of copies that no space can have.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("at least {min} and normally {target} copies: the numbers must be 1 to 255, in this order")]
pub struct CopiesError {
    min: u32,
    target: u32,
}

impl Copies {
    /// The most that can be asked for.
    pub const MAX: u32 = 255;

    /// Fewer than `min` reachable copies are an emergency; `target` is what there is normally.
    ///
    /// # Errors
    /// Where not 1 <= `min` <= `target` <= [`Copies::MAX`].
    pub const fn new(min: u32, target: u32) -> Result<Self, CopiesError> {
        match 1 <= min && min <= target && target <= Self::MAX {
            true => Ok(Self { min, target }),
            false => Err(CopiesError { min, target }),
        }
    }

    /// With fewer reachable copies than these, something must be done at once.
    pub fn min(&self) -> u32 {
        self.min
    }

    /// So many there are normally.
    pub fn target(&self) -> u32 {
        self.target
    }
}

impl Default for Copies {
    /// At least 8, normally 20: with 20, half of all nodes can go at once and the weakest part of the
    /// ring still has some. Guesses.
    fn default() -> Self {
        Self { min: 8, target: 20 }
    }
}

/// How many copies there are, location by location: a sum of weights that is constant from one edge of
/// an arc to the next.
#[derive(Clone, Debug)]
pub struct Coverage {
    /// First location and sum, in parts of [`UNIT`]; ascending, the first one from location 0.
    pieces: Vec<(u32, i64)>,
}

/// How well a part of the ring is covered. Numbers of copies.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Level {
    /// Where there are the fewest.
    pub min: f64,
    /// A twentieth of the part has no more than this.
    pub p5: f64,
    /// Half of the part has no more than this.
    pub median: f64,
}

impl Coverage {
    /// What the holders make together, each with its weight: the part of the time in which it can be
    /// reached, 0 to 1. A weight outside of that counts as the nearest one.
    pub fn of<'a>(holders: impl IntoIterator<Item = (&'a ArcSet, f64)>) -> Self {
        let mut edges: Vec<(u64, i64)> = Vec::new();
        for (arcs, weight) in holders {
            let weight = parts(weight);
            for (first, last) in arcs.spans() {
                edges.extend([(first.0.into(), weight), (u64::from(last.0) + 1, -weight)]);
            }
        }
        edges.sort_unstable();
        let mut pieces = vec![(0, 0)];
        let mut sum = 0;
        for (at, change) in edges {
            sum += change;
            // What ends with the ring needs no edge.
            let Ok(at) = u32::try_from(at) else { break };
            match pieces.last_mut() {
                Some(last) if last.0 == at => last.1 = sum,
                _ => pieces.push((at, sum)),
            }
        }
        pieces.dedup_by_key(|piece| piece.1);
        Self { pieces }
    }

    /// How many copies there are of what lies at `location`.
    pub fn at(&self, location: Location) -> f64 {
        let after = self.pieces.partition_point(|piece| piece.0 <= location.0);
        let piece = after.checked_sub(1).and_then(|i| self.pieces.get(i));
        piece.map_or(0.0, |piece| copies(piece.1))
    }

    /// How well a part of the ring is covered; `None` where the part is empty.
    pub fn over(&self, arcs: &ArcSet) -> Option<Level> {
        let sums = self.within(arcs).into_iter();
        let mut sums: Vec<(f64, u64)> =
            sums.map(|(first, last, sum)| (copies(sum), u64::from(last - first) + 1)).collect();
        sums.sort_by(|a, b| a.0.total_cmp(&b.0));
        Some(Level {
            min: quantile(&sums, 0.0)?,
            p5: quantile(&sums, 0.05)?,
            median: quantile(&sums, 0.5)?,
        })
    }

    /// The longest arc, in a part of the ring, with as few copies as there are anywhere in it; and how
    /// many these are. `None` where the part is empty.
    pub fn weakest(&self, arcs: &ArcSet) -> Option<(RingArc, f64)> {
        let within = self.within(arcs);
        let min = within.iter().map(|(_, _, sum)| *sum).min()?;
        let weakest = within.iter().filter(|(_, _, sum)| *sum == min);
        let weakest: ArcSet = weakest.map(|(first, last, _)| (*first, *last)).collect();
        Some((*weakest.longest(1).arcs().first()?, copies(min)))
    }

    /// First and last location of each piece in a part of the ring, and the sum there.
    fn within(&self, arcs: &ArcSet) -> Vec<(u32, u32, i64)> {
        let mut within = Vec::new();
        for (first, last) in arcs.spans() {
            let after = self.pieces.partition_point(|piece| piece.0 <= first.0);
            let pieces = self.pieces.get(after.saturating_sub(1)..).unwrap_or_default();
            for (i, &(start, sum)) in pieces.iter().enumerate() {
                if start > last.0 {
                    break;
                }
                let end = pieces.get(i + 1).map_or(u32::MAX, |next| next.0 - 1);
                within.push((start.max(first.0), end.min(last.0), sum));
            }
        }
        within
    }
}

fn copies(sum: i64) -> f64 {
    sum as f64 / UNIT as f64
}

/// The least value so that at least this part of all weight has no greater one. The values ascend.
fn quantile(values: &[(f64, u64)], part: f64) -> Option<f64> {
    let total: u64 = values.iter().map(|(_, weight)| weight).sum();
    let wanted = total as f64 * part;
    let mut before = 0;
    let at = values.iter().find(|(_, weight)| {
        before += weight;
        before as f64 >= wanted
    });
    at.or(values.last()).map(|(value, _)| *value)
}

/// What a node says it holds of a space.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Density {
    /// Aspects.
    pub count: u64,
    /// Bytes of their encodings.
    pub bytes: u64,
    /// The length of the arcs it claims to hold, in locations.
    pub len: u64,
}

impl Density {
    /// Aspects for each location; none where nothing is claimed.
    fn value(&self, of: fn(&Density) -> u64) -> Option<f64> {
        (self.len > 0).then(|| of(self) as f64 / self.len.min(RING) as f64)
    }
}

/// How much a whole space holds, about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Total {
    /// Aspects.
    pub count: u64,
    /// Bytes of their encodings.
    pub bytes: u64,
    /// It is hardly fewer aspects than this.
    pub low: u64,
    /// It is hardly more aspects than this.
    pub high: u64,
}

impl Total {
    /// Our own count where we hold everything; for the rest of the ring, the median of what nodes hold
    /// for each location. A node weighs as much as what it claims is long, but no more than the
    /// median node: so a few that lie, in their counts or their lengths, do not move it far.
    /// `None` where nobody claims anything.
    ///
    /// Low and high stand for what differs between nodes (half of them are in between) and for the
    /// chance in what one of them counted (two standard deviations). Nodes near each other hold the
    /// same, so asking more of them makes it no more certain.
    pub fn estimate(ours: Density, others: &[Density]) -> Option<Self> {
        let claims = || [&ours].into_iter().chain(others).filter(|claim| claim.len > 0);
        let mut lens: Vec<u64> = claims().map(|claim| claim.len.min(RING)).collect();
        lens.sort_unstable();
        let typical = *lens.get(lens.len().checked_sub(1)? / 2)?;
        let values = |of: fn(&Density) -> u64| {
            let value = |claim: &Density| Some((claim.value(of)?, claim.len.min(typical)));
            let mut values: Vec<(f64, u64)> = claims().filter_map(value).collect();
            values.sort_by(|a, b| a.0.total_cmp(&b.0));
            values
        };
        let (counts, bytes) = (values(|it| it.count), values(|it| it.bytes));
        let count = quantile(&counts, 0.5)?;
        let (first, third) = (quantile(&counts, 0.25)?, quantile(&counts, 0.75)?);
        let len = typical as f64;
        let counted = count * len;
        // Nothing counted stands for up to three.
        let (fewer, more) = (2.0 * counted.sqrt(), 2.0 * (counted + 1.0).sqrt() + 1.0);
        let low = (count - (count - first).hypot(fewer / len)).max(0.0);
        let high = count + (third - count).hypot(more / len);

        let rest = RING.saturating_sub(ours.len) as f64;
        let held = if ours.len > 0 { (ours.count, ours.bytes) } else { (0, 0) };
        let add = |held: u64, value: f64| held.saturating_add((value * rest).round() as u64);
        Some(Self {
            count: add(held.0, count),
            bytes: add(held.1, quantile(&bytes, 0.5)?),
            low: add(held.0, low),
            high: add(held.0, high),
        })
    }
}

/// So many times as dense as ours, and what others hold cannot be what we hold. A guess: well above the
/// chance in small arcs, well below what a network has that a few nodes alone have not.
const ALIEN: f64 = 4.0;

/// What we would lack, at the least, for that. A guess: as much is not on its way for long.
const ALIEN_COUNT: f64 = 1000.0;

/// Whether what we claim cannot be true, because we grew up apart from those who claim the same part of
/// the ring: most of them hold far more there. The claim is to be dropped, and proven again.
///
/// `others` are those who claim what we claim, or some of it; one at least. It takes more than half of
/// them to make this true, and a node that holds less than we do never does.
pub fn is_alien(ours: Density, others: &[Density]) -> bool {
    let Some(own) = ours.value(|it| it.count) else { return false };
    let mut theirs: Vec<f64> = others.iter().filter_map(|it| it.value(|it| it.count)).collect();
    theirs.sort_by(f64::total_cmp);
    // The lower one, where there are two in the middle.
    let median = theirs.len().checked_sub(1).and_then(|last| theirs.get(last / 2));
    median.is_some_and(|median| {
        *median > own * ALIEN && (median - own) * ours.len.min(RING) as f64 >= ALIEN_COUNT
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::{super::random::Random, *};

    fn arcs(text: &str) -> ArcSet {
        text.parse().unwrap()
    }

    #[test]
    fn copies_are_in_order() {
        assert_eq!(Copies::new(8, 20), Ok(Copies::default()));
        assert!(Copies::new(1, 1).is_ok() && Copies::new(255, 255).is_ok());
        assert!([(0, 1), (2, 1), (1, 256)].iter().all(|it| Copies::new(it.0, it.1).is_err()));
    }

    #[test]
    fn a_coverage_by_hand() {
        let holders =
            [arcs("c0000000..=3fffffff"), arcs("0..=7fffffff"), arcs("full"), arcs("empty")];
        let coverage = Coverage::of(holders.iter().zip([1.0, 0.5, 0.25, 1.0]));
        let at = |location| coverage.at(Location(location));
        assert_eq!(
            [at(0), at(0x4000_0000), at(0x8000_0000), at(u32::MAX)],
            [1.75, 0.75, 0.25, 1.25]
        );
        let spread = Level { min: 0.25, p5: 0.25, median: 0.75 };
        assert_eq!(coverage.over(&ArcSet::full()), Some(spread));
        assert_eq!(
            coverage.weakest(&ArcSet::full()),
            Some((RingArc::between(Location(0x8000_0000), Location(0xbfff_ffff)), 0.25))
        );
        // Of a few locations among many, the fifth percentile knows nothing.
        let spread = coverage.over(&arcs("10..=80000000")).unwrap();
        assert_eq!((spread.min, spread.p5, spread.median), (0.25, 0.75, 0.75));
        assert_eq!(
            (coverage.over(&ArcSet::empty()), coverage.weakest(&ArcSet::empty())),
            (None, None)
        );
    }

    #[test]
    fn the_weakest_arc_may_wrap() {
        let coverage = Coverage::of([(&arcs("10..=fffffff0"), 1.0)]);
        let wrapping = RingArc::between(Location(0xffff_fff1), Location(0xf));
        assert_eq!(coverage.weakest(&ArcSet::full()), Some((wrapping, 0.0)));
        let none = Coverage::of([]);
        assert_eq!(none.weakest(&ArcSet::full()), Some((RingArc::FULL, 0.0)));
    }

    fn any_arcs() -> impl Strategy<Value = ArcSet> {
        let edge = prop_oneof![any::<u32>(), 0..4u32, (0..4u32).prop_map(|n| u32::MAX - n)];
        let arc =
            (edge.clone(), edge).prop_map(|(a, b)| RingArc::between(Location(a), Location(b)));
        proptest::collection::vec(arc, 0..4).prop_map(|arcs| arcs.into_iter().collect())
    }

    proptest! {
        /// It says of every location what adding up says, and of an arc its least.
        #[test]
        fn coverage_is_a_sum(
            holders in proptest::collection::vec((any_arcs(), 0..=4u32), 0..8),
            part in any_arcs(),
        ) {
            let weight = |quarters: u32| f64::from(quarters) / 4.0;
            let coverage = Coverage::of(holders.iter().map(|(arcs, w)| (arcs, weight(*w))));
            let sum = |at| -> f64 {
                let inside = holders.iter().filter(|(arcs, _)| arcs.contains(at));
                inside.map(|(_, w)| weight(*w)).sum()
            };
            let edges = holders.iter().map(|(arcs, _)| arcs).chain([&part]).flat_map(ArcSet::spans);
            let near = |at: Location| [at.0.wrapping_sub(1), at.0, at.0.wrapping_add(1)];
            let probes: Vec<Location> =
                edges.flat_map(|(a, b)| [near(a), near(b)]).flatten().map(Location).collect();
            for at in &probes {
                prop_assert_eq!(coverage.at(*at), sum(*at));
            }
            let inside = probes.iter().filter(|at| part.contains(**at)).map(|at| sum(*at));
            let min = inside.min_by(f64::total_cmp);
            prop_assert_eq!(coverage.over(&part).map(|spread| spread.min), min);
            if let Some((arc, weakest)) = coverage.weakest(&part) {
                prop_assert_eq!(Some(weakest), min);
                prop_assert!(part.covers(&arc.into()));
                prop_assert_eq!(coverage.at(arc.start()), weakest);
                prop_assert_eq!(coverage.at(arc.last().unwrap()), weakest);
            }
        }

        /// Somewhat more than a quarter of the nodes may say anything.
        #[test]
        fn liars_do_not_move_the_total(
            counts in proptest::collection::vec(9_000..11_000u64, 14),
            lies in proptest::collection::vec((any::<u64>(), any::<u64>(), 0..=RING), 0..=5),
        ) {
            let len = RING / 50;
            let honest = |count: &u64| Density { count: *count, bytes: count * 100, len };
            let lie = |&(count, bytes, len)| Density { count, bytes, len };
            let others: Vec<Density> = counts.iter().map(honest).chain(lies.iter().map(lie)).collect();
            let total = Total::estimate(honest(&10_000), &others).unwrap();
            prop_assert!((440_000..=560_000).contains(&total.count), "{total:?}");
            prop_assert!((44_000_000..=56_000_000).contains(&total.bytes), "{total:?}");
            prop_assert!(total.low <= total.count && total.count <= total.high);
        }

        /// Half of the others cannot make us drop what we claim, whatever they say.
        #[test]
        fn half_is_no_majority(
            lies in proptest::collection::vec((any::<u64>(), 0..=RING), 0..6),
            len in 0..=RING,
            count in 0..100_000u64,
        ) {
            let ours = Density { count, bytes: 0, len };
            let lie = |&(count, len)| Density { count, bytes: 0, len };
            let honest = lies.iter().map(|_| ours);
            let others: Vec<Density> = lies.iter().map(lie).chain(honest).collect();
            prop_assert!(!is_alien(ours, &others));
        }
    }

    #[test]
    fn who_holds_everything_knows() {
        let ours = Density { count: 1234, bytes: 5678, len: RING };
        let other = Density { count: 1, bytes: 1, len: RING / 2 };
        let total = Total { count: 1234, bytes: 5678, low: 1234, high: 1234 };
        assert_eq!(Total::estimate(ours, &[other; 9]), Some(total));
        let nobody = Density { count: 7, bytes: 7, len: 0 };
        assert_eq!(Total::estimate(nobody, &[nobody]), None);
        // Nothing counted in a half: there may be a few in the other.
        let empty = Density { count: 0, bytes: 0, len: RING / 2 };
        let total = Total { count: 0, bytes: 0, low: 0, high: 3 };
        assert_eq!(Total::estimate(empty, &[]), Some(total));
    }

    #[test]
    fn the_truth_is_between_low_and_high() {
        let mut random = Random::new(1);
        let mut outside = 0;
        for round in 0..200 {
            let items: Vec<u32> = (0..2000).map(|_| random.next() as u32).collect();
            let mut holder = || {
                let start = random.next() as u32;
                let arc = RingArc::new(Location(start), RING / 50 * (1 + round % 4)).unwrap();
                let held = items.iter().filter(|item| arc.contains(Location(**item)));
                Density { count: held.count() as u64, bytes: 0, len: arc.len() }
            };
            let ours = holder();
            let others: Vec<Density> = (0..round % 30).map(|_| holder()).collect();
            let total = Total::estimate(ours, &others).unwrap();
            outside += u32::from(total.low > 2000 || total.high < 2000);
        }
        assert!(outside <= 10, "{outside} of 200");
    }

    #[test]
    fn who_grew_up_alone_notices() {
        let alone = Density { count: 10, bytes: 0, len: RING };
        let grown = Density { count: 2_000, bytes: 0, len: RING / 50 };
        assert!(is_alien(alone, &[grown]));
        assert!(is_alien(alone, &[grown, grown, alone]));
        assert!(!is_alien(alone, &[grown, alone]));
        assert!(!is_alien(grown, &[alone; 5]));
        assert!(!is_alien(grown, &[grown; 5]));
        assert!(!is_alien(alone, &[]));
        // Not for a few aspects, nor for less than four times as many.
        let count = |count| Density { count, bytes: 0, len: RING };
        assert!(!is_alien(count(10), &[count(1009)]));
        assert!(is_alien(count(10), &[count(1010)]));
        assert!(!is_alien(count(1000), &[count(4000)]));
        assert!(is_alien(count(1000), &[count(4001)]));
    }
}
