//! Any part of the ring.

use std::{cmp::Reverse, fmt, str::FromStr};

use smallvec::{SmallVec, smallvec};

use super::{ArcError, Location, RING, RingArc};

/// Any part of the ring, as the fewest arcs that cover it. Two sets are equal exactly where they
/// cover the same locations.
#[derive(Clone, PartialEq, Eq, Hash, Default)]
pub struct ArcSet {
    /// Inclusive, ascending, and with a gap between each and the next: the one canonical form.
    /// A piece that wraps is two spans here; most sets have no more than that.
    spans: Spans,
}

type Spans = SmallVec<[(u32, u32); 2]>;

impl ArcSet {
    /// Nothing.
    pub const fn empty() -> Self {
        Self { spans: SmallVec::new_const() }
    }

    /// The whole ring.
    pub fn full() -> Self {
        Self { spans: smallvec![(0, u32::MAX)] }
    }

    /// Whether nothing is inside.
    pub fn is_empty(&self) -> bool {
        self.spans.is_empty()
    }

    /// Whether everything is inside.
    pub fn is_full(&self) -> bool {
        self.spans[..] == [(0, u32::MAX)]
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
        let mut ours = self.spans.iter().peekable();
        other.spans.iter().all(|&(first, last)| {
            while ours.next_if(|(_, end)| *end < first).is_some() {}
            ours.peek().is_some_and(|(start, end)| *start <= first && last <= *end)
        })
    }

    /// Whether something is in both.
    pub fn overlaps(&self, other: &ArcSet) -> bool {
        self.common(other).next().is_some()
    }

    /// What is in either.
    pub fn union(&self, other: &ArcSet) -> ArcSet {
        let (mut a, mut b) = (self.spans.iter().peekable(), other.spans.iter().peekable());
        let mut union = ArcSet::empty();
        loop {
            let next = match (a.peek(), b.peek()) {
                (Some(first), Some(second)) if first.0 <= second.0 => a.next(),
                (Some(_), None) => a.next(),
                _ => b.next(),
            };
            let Some(next) = next else { return union };
            union.append(*next);
        }
    }

    /// What is in both.
    pub fn intersect(&self, other: &ArcSet) -> ArcSet {
        ArcSet { spans: self.common(other).collect() }
    }

    /// The spans of what is in both.
    fn common(&self, other: &ArcSet) -> impl Iterator<Item = (u32, u32)> {
        let (mut a, mut b) = (self.spans.iter().peekable(), other.spans.iter().peekable());
        std::iter::from_fn(move || {
            loop {
                let (&&(a0, a1), &&(b0, b1)) = (a.peek()?, b.peek()?);
                if a1 < b1 {
                    a.next()
                } else {
                    b.next()
                };
                let (first, last) = (a0.max(b0), a1.min(b1));
                if first <= last {
                    return Some((first, last));
                }
            }
        })
    }

    /// Adds a span that begins no sooner than the last one.
    fn append(&mut self, (first, last): (u32, u32)) {
        match self.spans.last_mut() {
            Some(open) if first <= open.1.saturating_add(1) => open.1 = open.1.max(last),
            _ => self.spans.push((first, last)),
        }
    }

    /// What is outside.
    pub fn complement(&self) -> ArcSet {
        let mut spans = Spans::new();
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
        if self.spans.len() <= n {
            return self.clone();
        }
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
        let mut given: SmallVec<[(u32, u32); 8]> = spans.into_iter().collect();
        given.sort_unstable();
        let mut set = ArcSet::empty();
        given.into_iter().for_each(|span| set.append(span));
        set
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
