//! One contiguous piece of the ring.

use std::{fmt, str::FromStr};

use super::{ArcSet, Location, RING};

/// A contiguous, possibly wrapping piece of the ring: a start and a length of 0 to 2^32 locations,
/// so that empty and full can both be said. All empty arcs are equal, and so are all full ones.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct RingArc {
    start: Location,
    len: u64,
}

/// Why something is not an arc.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ArcError {
    /// Longer than the ring.
    #[error("an arc of {0} locations is longer than the ring of 2^32")]
    TooLong(u64),
    /// Text of another form.
    #[error(
        "`{0}` is not an arc: write `empty`, `full`, or `first..=last` in hexadecimal, such as 40000000..=7fffffff"
    )]
    Text(String),
}

impl RingArc {
    /// No location at all.
    pub const EMPTY: RingArc = RingArc { start: Location(0), len: 0 };
    /// The whole ring.
    pub const FULL: RingArc = RingArc { start: Location(0), len: RING };

    /// The `len` locations from `start` on.
    ///
    /// # Errors
    /// [`ArcError::TooLong`] for more than 2^32.
    pub fn new(start: Location, len: u64) -> Result<Self, ArcError> {
        match len {
            0 => Ok(Self::EMPTY),
            RING => Ok(Self::FULL),
            1..RING => Ok(Self { start, len }),
            _ => Err(ArcError::TooLong(len)),
        }
    }

    /// From `first` up to and including `last`, over the top of the ring where `last` is lower.
    /// Never empty; full where `last` is right before `first`.
    pub fn between(first: Location, last: Location) -> Self {
        let len = u64::from(last.0.wrapping_sub(first.0)) + 1;
        if len == RING { Self::FULL } else { Self { start: first, len } }
    }

    /// The `len` locations around one, or the whole ring where that is longer.
    pub fn around(middle: Location, len: u64) -> Self {
        let start = Location(middle.0.wrapping_sub((len.min(RING) / 2) as u32));
        Self::new(start, len.min(RING)).unwrap_or(Self::FULL)
    }

    /// Where it starts; meaningless but defined (0) for an empty and a full arc.
    pub fn start(&self) -> Location {
        self.start
    }

    /// The last location inside; `None` for an empty arc.
    pub fn last(&self) -> Option<Location> {
        let steps = self.len.checked_sub(1)?;
        Some(Location(self.start.0.wrapping_add(steps as u32)))
    }

    /// How many locations are inside: 0 to 2^32.
    pub fn len(&self) -> u64 {
        self.len
    }

    /// Whether nothing is inside.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Whether everything is inside.
    pub fn is_full(&self) -> bool {
        self.len == RING
    }

    /// Whether `location` is inside.
    pub fn contains(&self, location: Location) -> bool {
        u64::from(location.0.wrapping_sub(self.start.0)) < self.len
    }

    /// What both cover: nothing, one piece, or two.
    pub fn intersect(&self, other: &RingArc) -> ArcSet {
        ArcSet::from(*self).intersect(&ArcSet::from(*other))
    }

    /// What either covers: nothing, one piece, or two.
    pub fn union(&self, other: &RingArc) -> ArcSet {
        ArcSet::from(*self).union(&ArcSet::from(*other))
    }

    /// Cuts right before `at`: what comes before it, and what comes from it on. A full arc is cut at
    /// `at` alone, so the second piece is the full arc. Where `at` lies outside, the first piece is
    /// the whole arc and the second is empty.
    pub fn split(&self, at: Location) -> (RingArc, RingArc) {
        let Some(last) = self.last() else { return (Self::EMPTY, Self::EMPTY) };
        if self.is_full() {
            return (Self::EMPTY, Self::FULL);
        }
        if !self.contains(at) {
            return (*self, Self::EMPTY);
        }
        let before = u64::from(at.0.wrapping_sub(self.start.0));
        let head = if before == 0 { Self::EMPTY } else { Self { start: self.start, len: before } };
        (head, Self::between(at, last))
    }
}

impl fmt::Display for RingArc {
    /// `empty`, `full`, or `first..=last` in hexadecimal.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.last() {
            None => f.write_str("empty"),
            Some(_) if self.is_full() => f.write_str("full"),
            Some(last) => write!(f, "{}..={}", self.start, last),
        }
    }
}

impl fmt::Debug for RingArc {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "RingArc({self})")
    }
}

impl FromStr for RingArc {
    type Err = ArcError;

    fn from_str(s: &str) -> Result<Self, ArcError> {
        let error = || ArcError::Text(s.to_owned());
        match s.trim() {
            "empty" => Ok(Self::EMPTY),
            "full" => Ok(Self::FULL),
            text => {
                let (first, last) = text.split_once("..=").ok_or_else(error)?;
                let first = first.parse().map_err(|_| error())?;
                let last = last.parse().map_err(|_| error())?;
                Ok(Self::between(first, last))
            }
        }
    }
}
