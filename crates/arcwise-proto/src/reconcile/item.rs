//! What an item is to the algorithms: an id, a place, and its share in the sums.

use std::fmt;

use crate::{
    aspect::AspectKey,
    id::AspectHash,
    ring::{ArcSet, Location},
};

/// The short name of an item: 48 bits, never zero.
///
/// It is the first six bytes of the aspect hash, big-endian, with 1 in place of 0. Nothing of it
/// comes from the location, so the items of one entry differ in it as much as any others, and in the
/// order of hashes the items of one id stand together. Whoever makes items can make two of one id
/// with about 2^24 hashes: an id finds items and never proves anything.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ShortId(u64);

impl ShortId {
    /// The id of an aspect.
    pub fn of(hash: &AspectHash) -> Self {
        let word = hash.0[..6].iter().fold(0, |word, byte| word << 8 | u64::from(*byte));
        Self(word.max(1))
    }

    /// From its number; `None` for 0 and from 2^48 on.
    pub fn new(id: u64) -> Option<Self> {
        (1..1 << 48).contains(&id).then_some(Self(id))
    }

    /// Its number, 1 to 2^48 - 1: an element of the field that sketches are computed in.
    pub fn get(self) -> u64 {
        self.0
    }

    /// The least and the greatest hash that an item of this id can have.
    pub fn hashes(self) -> (AspectHash, AspectHash) {
        hashes(self.0, ID_BITS)
    }

    /// Its first bits, 0 to 48 of them, as a number.
    pub(super) fn prefix(self, bits: u32) -> u64 {
        self.0 >> (ID_BITS - bits)
    }

    /// Its last bits, 0 to 48 of them, as a number.
    pub(super) fn suffix(self, bits: u32) -> u64 {
        self.0 & ((1 << bits) - 1)
    }
}

/// How many bits an id has.
pub(super) const ID_BITS: u32 = 48;

/// The least and the greatest hash of an id that begins with these bits.
pub(super) fn hashes(prefix: u64, bits: u32) -> (AspectHash, AspectHash) {
    let with = |id: u64, rest: u8| {
        let mut hash = [rest; 32];
        hash[..6].copy_from_slice(&id.to_be_bytes()[2..]);
        AspectHash(hash)
    };
    let first = prefix << (ID_BITS - bits);
    let last = first | ((1 << (ID_BITS - bits)) - 1);
    // The id of a hash that begins with zeros is 1.
    (with(if first == 1 { 0 } else { first }, 0), with(last, 0xff))
}

impl fmt::Debug for ShortId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ShortId({:012x})", self.0)
    }
}

/// The 64 signs of an item in the counters: bytes 8 to 15 of its hash, little-endian.
pub(super) fn signs(hash: &AspectHash) -> u64 {
    hash.0[8..16].iter().rev().fold(0, |word, byte| word << 8 | u64::from(*byte))
}

/// A place in the order of items: the location in the upper half, and below it the first four bytes
/// of the aspect hash, big-endian. Items are ordered by location and then by hash, so a run of places
/// is a run of items, and the items of one entry can be parted like any others.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Place(pub u64);

impl Place {
    /// Where an item is.
    pub fn of(key: &AspectKey) -> Self {
        let [a, b, c, d, ..] = key.hash.0;
        let low = u32::from_be_bytes([a, b, c, d]);
        Self(u64::from(key.location.0) << 32 | u64::from(low))
    }

    /// The least key at this place.
    pub fn first_key(self) -> AspectKey {
        self.key(0)
    }

    /// The greatest key at this place.
    pub fn last_key(self) -> AspectKey {
        self.key(0xff)
    }

    fn key(self, rest: u8) -> AspectKey {
        let mut hash = [rest; 32];
        hash[..4].copy_from_slice(&(self.0 as u32).to_be_bytes());
        AspectKey { location: Location((self.0 >> 32) as u32), hash: AspectHash(hash) }
    }
}

impl fmt::Debug for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Place({:08x}.{:08x})", self.0 >> 32, self.0 as u32)
    }
}

/// A run of places, both ends inclusive.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Span {
    /// The least place in it.
    pub first: Place,
    /// The greatest place in it; not below `first`.
    pub last: Place,
}

impl Span {
    /// All places there are.
    pub const ALL: Span = Span { first: Place(0), last: Place(u64::MAX) };

    /// Whether `place` is in it.
    pub fn contains(&self, place: Place) -> bool {
        (self.first..=self.last).contains(&place)
    }

    /// What is in both; `None` where that is nothing.
    pub fn intersect(&self, other: &Span) -> Option<Span> {
        let span = Span { first: self.first.max(other.first), last: self.last.min(other.last) };
        (span.first <= span.last).then_some(span)
    }

    /// The place before it; `None` where it begins with the first one.
    pub(super) fn before(&self) -> Option<Place> {
        self.first.0.checked_sub(1).map(Place)
    }

    /// Up to `parts` parts of the same size: for a run in which no other cut can be made.
    pub(super) fn even(&self, parts: u64) -> Vec<Span> {
        let (first, size) = (u128::from(self.first.0), u128::from(self.last.0 - self.first.0) + 1);
        let parts = u128::from(parts).min(size);
        let at = |i: u128| first + size * i / parts;
        let part = |i| Span { first: Place(at(i) as u64), last: Place((at(i + 1) - 1) as u64) };
        (0..parts).map(part).collect()
    }

    /// How many of the first bits are the same in the ids of all items in it: some, where it is a part
    /// of one location.
    pub(super) fn fixed_bits(&self) -> u32 {
        (self.first.0 ^ self.last.0).leading_zeros().saturating_sub(32)
    }

    /// The keys in it: least and greatest.
    pub fn keys(&self) -> (AspectKey, AspectKey) {
        (self.first.first_key(), self.last.last_key())
    }
}

/// The runs of places that a set of arcs covers, ascending.
pub(super) fn spans(arcs: &ArcSet) -> impl Iterator<Item = Span> {
    arcs.spans().map(|(first, last)| Span {
        first: Place(u64::from(first.0) << 32),
        last: Place(u64::from(last.0) << 32 | u64::from(u32::MAX)),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn key() -> impl Strategy<Value = AspectKey> {
        let byte = || prop_oneof![Just(0u8), Just(0xff), any::<u8>()];
        (any::<u32>(), proptest::array::uniform32(byte()))
            .prop_map(|(l, hash)| AspectKey { location: Location(l), hash: AspectHash(hash) })
    }

    proptest! {
        #[test]
        fn places_keep_the_order_of_keys(a in key(), b in key()) {
            if a <= b {
                prop_assert!(Place::of(&a) <= Place::of(&b));
            }
            let place = Place::of(&a);
            prop_assert!(place.first_key() <= a && a <= place.last_key());
            prop_assert_eq!(Place::of(&place.first_key()), place);
            prop_assert_eq!(Place::of(&place.last_key()), place);
        }

        #[test]
        fn an_id_leads_to_its_hashes(key in key()) {
            let id = ShortId::of(&key.hash);
            let (first, last) = id.hashes();
            prop_assert!(first <= key.hash && key.hash <= last);
            prop_assert_eq!(ShortId::of(&first), id);
            prop_assert_eq!(ShortId::of(&last), id);
            prop_assert_eq!(ShortId::new(id.get()), Some(id));
        }
    }

    #[test]
    fn even_parts() {
        let span = |first, last| Span { first: Place(first), last: Place(last) };
        assert_eq!(span(5, 5).even(16), [span(5, 5)]);
        assert_eq!(span(3, 6).even(2), [span(3, 4), span(5, 6)]);
        assert_eq!(Span::ALL.even(2), [span(0, u64::MAX >> 1), span(1 << 63, u64::MAX)]);
        assert_eq!(span(u64::MAX - 2, u64::MAX).even(16).len(), 3);
    }

    #[test]
    fn zero_is_no_id() {
        assert_eq!(ShortId::new(0), None);
        assert_eq!(ShortId::new(1 << 48), None);
        assert_eq!(ShortId::of(&AspectHash([0; 32])).get(), 1);
    }

    #[test]
    fn arcs_cover_whole_locations() {
        let arcs: ArcSet = "ffffffff..=00000001".parse().unwrap();
        let spans: Vec<_> = spans(&arcs).collect();
        let span = |first, last| Span { first: Place(first), last: Place(last) };
        assert_eq!(spans, [span(0, 0x1_ffff_ffff), span(0xffff_ffff << 32, u64::MAX)]);
    }
}
