//! Any part of the ring.

use std::{cmp::Reverse, fmt, str::FromStr};

use super::{ArcError, Location, RING, RingArc};

/// Any part of the ring, as the fewest arcs that cover it. Two sets are equal exactly where they
/// cover the same locations.
#[derive(Clone, PartialEq, Eq, Hash, Default)]
pub struct ArcSet {
    /// Inclusive, ascending, and with a gap between each and the next: the one canonical form.
    /// A piece that wraps is two spans here.
    spans: Vec<(u32, u32)>,
}

impl ArcSet {
    /// Nothing.
    pub const fn empty() -> Self {
        Self { spans: Vec::new() }
    }

    /// The whole ring.
    pub fn full() -> Self {
        Self { spans: vec![(0, u32::MAX)] }
    }

    /// Whether nothing is inside.
    pub fn is_empty(&self) -> bool {
        self.spans.is_empty()
    }

    /// Whether everything is inside.
    pub fn is_full(&self) -> bool {
        self.spans == [(0, u32::MAX)]
    }

    /// How many locations are inside: 0 to 2^32.
    pub fn len(&self) -> u64 {
        self.spans.iter().map(|&(first, last)| u64::from(last - first) + 1).sum()
    }

    /// Whether `location` is inside.
    pub fn contains(&self, location: Location) -> bool {
        let after = self.spans.partition_point(|&(first, _)| first <= location.0);
        after.checked_sub(1).is_some_and(|i| location.0 <= self.spans[i].1)
    }

    /// Whether all of `other` is inside.
    pub fn covers(&self, other: &ArcSet) -> bool {
        self.intersect(other) == *other
    }

    /// What is in either.
    pub fn union(&self, other: &ArcSet) -> ArcSet {
        self.spans.iter().chain(&other.spans).copied().collect()
    }

    /// What is in both.
    pub fn intersect(&self, other: &ArcSet) -> ArcSet {
        let (mut a, mut b) = (self.spans.iter().peekable(), other.spans.iter().peekable());
        let mut spans = Vec::new();
        while let (Some(&&(a0, a1)), Some(&&(b0, b1))) = (a.peek(), b.peek()) {
            let (first, last) = (a0.max(b0), a1.min(b1));
            if first <= last {
                spans.push((first, last));
            }
            if a1 < b1 {
                a.next()
            } else {
                b.next()
            };
        }
        ArcSet { spans }
    }

    /// What is outside.
    pub fn complement(&self) -> ArcSet {
        let mut spans = Vec::new();
        let mut from = Some(0);
        for &(first, last) in &self.spans {
            if let Some(from) = from
                && from < first
            {
                spans.push((from, first - 1));
            }
            from = last.checked_add(1);
        }
        spans.extend(from.map(|from| (from, u32::MAX)));
        ArcSet { spans }
    }

    /// What is here and not in `other`.
    pub fn difference(&self, other: &ArcSet) -> ArcSet {
        self.intersect(&other.complement())
    }

    /// The fewest arcs that cover it, in the order of their starts.
    pub fn arcs(&self) -> Vec<RingArc> {
        let arc = |&(first, last): &(u32, u32)| RingArc::between(Location(first), Location(last));
        match self.spans[..] {
            [(0, first_end), ref inner @ .., (last_start, u32::MAX)] => {
                let wrapping = RingArc::between(Location(last_start), Location(first_end));
                inner.iter().map(arc).chain([wrapping]).collect()
            }
            ref spans => spans.iter().map(arc).collect(),
        }
    }

    /// Its `n` longest arcs; all of it, where it has no more than that.
    pub fn longest(&self, n: usize) -> ArcSet {
        let mut arcs = self.arcs();
        arcs.sort_by_key(|arc| (Reverse(arc.len()), arc.start()));
        arcs.truncate(n);
        arcs.into_iter().collect()
    }

    /// The same as inclusive ranges of locations that do not wrap, ascending.
    pub fn spans(&self) -> impl ExactSizeIterator<Item = (Location, Location)> {
        self.spans.iter().map(|&(first, last)| (Location(first), Location(last)))
    }

    /// Its share of the ring, 0 to 1.
    pub fn fraction(&self) -> f64 {
        self.len() as f64 / RING as f64
    }
}

impl From<RingArc> for ArcSet {
    fn from(arc: RingArc) -> Self {
        [arc].into_iter().collect()
    }
}

impl FromIterator<RingArc> for ArcSet {
    fn from_iter<I: IntoIterator<Item = RingArc>>(arcs: I) -> Self {
        let spans = arcs.into_iter().filter_map(|arc| Some((arc.start().0, arc.last()?.0)));
        spans
            .flat_map(|(first, last)| match first <= last {
                true => [Some((first, last)), None],
                false => [Some((first, u32::MAX)), Some((0, last))],
            })
            .flatten()
            .collect()
    }
}

/// From inclusive spans in any order.
impl FromIterator<(u32, u32)> for ArcSet {
    fn from_iter<I: IntoIterator<Item = (u32, u32)>>(spans: I) -> Self {
        let mut given: Vec<_> = spans.into_iter().collect();
        given.sort_unstable();
        let mut spans: Vec<(u32, u32)> = Vec::with_capacity(given.len());
        for (first, last) in given {
            match spans.last_mut() {
                Some(open) if first <= open.1.saturating_add(1) => open.1 = open.1.max(last),
                _ => spans.push((first, last)),
            }
        }
        ArcSet { spans }
    }
}

impl fmt::Display for ArcSet {
    /// `empty`, `full`, or arcs with commas between.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.is_empty() {
            return f.write_str("empty");
        }
        for (i, arc) in self.arcs().into_iter().enumerate() {
            write!(f, "{}{arc}", if i == 0 { "" } else { "," })?;
        }
        Ok(())
    }
}

impl fmt::Debug for ArcSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ArcSet({self})")
    }
}

impl FromStr for ArcSet {
    type Err = ArcError;

    fn from_str(s: &str) -> Result<Self, ArcError> {
        s.split(',')
            .map(str::parse)
            .collect::<Result<Vec<RingArc>, _>>()
            .map(|arcs| arcs.into_iter().collect())
    }
}
