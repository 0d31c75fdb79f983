//! All that is kept about a run of items.

use super::{
    estimate::Counters,
    fingerprint::{self, Fingerprint},
    item::{ShortId, signs},
    sketch,
};
use crate::id::AspectHash;

/// How many syndromes are kept of every sector. More of them would let larger groups be decoded at
/// once, at 8 bytes each and a few nanoseconds on every insert; the cost of decoding grows with the
/// square, so that groups of about 24 differences are the cheapest.
pub const SYNDROMES: usize = 64;

/// What a caller wants to know of a run of items: adding up the rest would be wasted. Count and
/// counters are always there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Parts {
    /// How many syndromes, 0 to [`SYNDROMES`]; those beyond are left at zero.
    pub syndromes: usize,
    /// Whether the fingerprint; it is left at zero otherwise.
    pub fingerprint: bool,
}

impl Parts {
    /// Everything.
    pub const ALL: Self = Self { syndromes: SYNDROMES, fingerprint: true };
    /// Count and counters.
    pub const COUNT: Self = Self { syndromes: 0, fingerprint: false };
    /// The fingerprint, count and counters.
    pub const FINGERPRINT: Self = Self { syndromes: 0, fingerprint: true };

    /// So many syndromes, count and counters.
    pub fn sketch(syndromes: usize) -> Self {
        Self { syndromes, fingerprint: false }
    }
}

/// Count, fingerprint, counters and syndromes of some items: 2824 bytes. All of it is linear, so that
/// the sums of disjoint sets add up to those of their union.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sums {
    /// How many items.
    pub count: u64,
    /// Of the set.
    pub fingerprint: Fingerprint,
    /// For the estimate of a difference.
    pub counters: Counters,
    /// The first of the set's sketch.
    pub syndromes: [u64; SYNDROMES],
}

impl Sums {
    /// Of no items.
    pub const ZERO: Self = Self {
        count: 0,
        fingerprint: Fingerprint::ZERO,
        counters: Counters::ZERO,
        syndromes: [0; SYNDROMES],
    };

    /// Of one item.
    pub fn of(hash: &AspectHash, parts: Parts) -> Self {
        let fingerprint = if parts.fingerprint { Fingerprint::of(hash) } else { Fingerprint::ZERO };
        let mut sums = Self { fingerprint, ..Self::ZERO };
        sums.add(hash, Parts { fingerprint: false, ..parts });
        sums
    }

    /// Adds an item that is not in.
    pub fn add(&mut self, hash: &AspectHash, parts: Parts) {
        self.count += 1;
        self.counters.add(signs(hash));
        sketch::toggle(&mut self.syndromes[..parts.syndromes], ShortId::of(hash).get());
        if parts.fingerprint {
            self.fingerprint.merge(&Fingerprint::of(hash));
        }
    }

    /// Adds other items.
    pub fn merge(&mut self, other: &Sums, parts: Parts) {
        merge(self, other, parts);
    }

    /// Takes some of the items away.
    pub fn subtract(&mut self, other: &Sums, parts: Parts) {
        debug_assert!(self.count >= other.count, "an item was removed that was not in");
        self.count = self.count.saturating_sub(other.count);
        self.counters.subtract(&other.counters);
        self.toggle_syndromes(other, parts);
        if parts.fingerprint {
            self.fingerprint.subtract(&other.fingerprint);
        }
    }

    #[inline(always)]
    fn toggle_syndromes(&mut self, other: &Sums, parts: Parts) {
        let ours = self.syndromes[..parts.syndromes].iter_mut();
        ours.zip(&other.syndromes).for_each(|(sum, s)| *sum ^= s);
    }
}

/// What everything else is made of: with wide registers where there are some.
#[multiversion::multiversion(targets("x86_64+avx2"), dispatcher = "direct")]
fn merge(sums: &mut Sums, other: &Sums, parts: Parts) {
    sums.count += other.count;
    sums.counters.merge(&other.counters);
    sums.toggle_syndromes(other, parts);
    if parts.fingerprint {
        sums.fingerprint.merge(&other.fingerprint);
    }
}

const _: () = assert!(size_of::<Sums>() == 8 + fingerprint::BYTES + 4 * 64 + 8 * SYNDROMES);
