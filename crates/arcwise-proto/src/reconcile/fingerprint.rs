//! LtHash: a hash of a set that can be updated item by item, and that nobody can forge.
//!
//! Each item is expanded to 1024 numbers of 16 bits with BLAKE3; the fingerprint of a set is their
//! sum, number by number, modulo 2^16. To find two sets with one fingerprint is a short-vector
//! problem in a lattice, estimated at over 200 bits of security. The sums that look simpler do not
//! have it: XOR falls to linear algebra with a few hundred items, a sum of 256 bits to Wagner's
//! generalised birthday attack with about 2^31.
//!
//! Source: Lewi, Kim, Maykov, Weis, *Securing Update Propagation with Homomorphic Hashing* (2019),
//! parameters LtHash16-1024; Bellare and Micciancio (1997).

use std::fmt;

use crate::id::AspectHash;

/// How many 16-bit numbers a fingerprint has.
pub const LANES: usize = 1024;

/// How many bytes it has, written down.
pub const BYTES: usize = 2 * LANES;

const DIGEST: &str = "arcwise 1 set fingerprint digest";
const CHECK: &str = "arcwise 1 set fingerprint check";

/// BLAKE3 `derive_key("arcwise 1 set fingerprint item", "")`: the key that items are expanded with.
const ITEM_KEY: [u8; 32] = [
    0xee, 0xdd, 0xc9, 0x06, 0x63, 0xcc, 0xe8, 0xcf, 0x4d, 0x97, 0xc9, 0xfd, 0xe1, 0x97, 0x9f, 0x9d,
    0x1a, 0xa1, 0x8d, 0xc5, 0x0e, 0x25, 0xf1, 0x35, 0x30, 0x3f, 0xff, 0x71, 0x23, 0xb5, 0x7e, 0xa1,
];

/// The fingerprint of a set of items, or of a set less another. 2 kB, on the heap wherever it lives
/// for long.
#[derive(Clone, PartialEq, Eq)]
pub struct Fingerprint([u16; LANES]);

impl Fingerprint {
    /// Of no items.
    pub const ZERO: Self = Self([0; LANES]);

    /// Of one item: BLAKE3, keyed with `derive_key("arcwise 1 set fingerprint item", "")`, of the
    /// aspect hash; 2048 bytes of its output, as 1024 little-endian numbers.
    pub fn of(hash: &AspectHash) -> Self {
        let mut bytes = [0; BYTES];
        let mut hasher = blake3::Hasher::new_keyed(&ITEM_KEY);
        hasher.update(&hash.0);
        hasher.finalize_xof().fill(&mut bytes);
        Self::from_bytes(&bytes)
    }

    /// Adds other items, none of which may be in already: a set has every item once.
    #[inline(always)]
    pub fn merge(&mut self, other: &Fingerprint) {
        self.0.iter_mut().zip(&other.0).for_each(|(sum, lane)| *sum = sum.wrapping_add(*lane));
    }

    /// Takes some of the items away.
    pub fn subtract(&mut self, other: &Fingerprint) {
        self.0.iter_mut().zip(&other.0).for_each(|(sum, lane)| *sum = sum.wrapping_sub(*lane));
    }

    /// 32 bytes that stand for the set: BLAKE3
    /// `derive_key("arcwise 1 set fingerprint digest", fingerprint)`.
    pub fn digest(&self) -> [u8; 32] {
        let mut hasher = blake3::Hasher::new_derive_key(DIGEST);
        hasher.update(&self.to_bytes());
        *hasher.finalize().as_bytes()
    }

    /// 16 bytes that stand for the set in one conversation: the first of BLAKE3
    /// `derive_key("arcwise 1 set fingerprint check", nonce ‖ fingerprint)`. Half as long as a digest
    /// and yet no weaker, because nobody can look for a collision before the nonce is known.
    pub fn check(&self, nonce: &[u8]) -> Check {
        let mut hasher = blake3::Hasher::new_derive_key(CHECK);
        hasher.update(nonce);
        hasher.update(&self.to_bytes());
        let mut check = [0; 16];
        check.copy_from_slice(&hasher.finalize().as_bytes()[..16]);
        Check(check)
    }

    /// The lanes, little-endian, first to last.
    pub fn to_bytes(&self) -> [u8; BYTES] {
        let mut bytes = [0; BYTES];
        let (pairs, _) = bytes.as_chunks_mut::<2>();
        pairs.iter_mut().zip(&self.0).for_each(|(pair, lane)| *pair = lane.to_le_bytes());
        bytes
    }

    /// From 2048 bytes. Any are a fingerprint, though hardly of a set that anybody knows.
    pub fn from_bytes(bytes: &[u8; BYTES]) -> Self {
        let (pairs, _) = bytes.as_chunks::<2>();
        let mut lanes = [0; LANES];
        lanes.iter_mut().zip(pairs).for_each(|(lane, pair)| *lane = u16::from_le_bytes(*pair));
        Self(lanes)
    }
}

impl fmt::Debug for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b, c, d, ..] = self.digest();
        write!(f, "Fingerprint(#{a:02x}{b:02x}{c:02x}{d:02x})")
    }
}

/// See [`Fingerprint::check`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Check(pub [u8; 16]);

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn of(items: &[[u8; 32]]) -> Fingerprint {
        let mut sum = Fingerprint::ZERO;
        items.iter().for_each(|item| sum.merge(&Fingerprint::of(&AspectHash(*item))));
        sum
    }

    proptest! {
        #[test]
        fn of_a_set_in_any_order(items in proptest::collection::vec(any::<[u8; 32]>(), 0..12), at in any::<prop::sample::Index>()) {
            let whole = of(&items);
            let (left, right) = items.split_at(at.index(items.len() + 1));
            let mut sum = of(right);
            sum.merge(&of(left));
            prop_assert_eq!(&sum, &whole);
            sum.subtract(&of(left));
            prop_assert_eq!(&sum, &of(right));
            prop_assert_eq!(sum.digest() == whole.digest(), left.is_empty());
            prop_assert_eq!(&Fingerprint::from_bytes(&whole.to_bytes()), &whole);
        }
    }

    #[test]
    fn the_key_is_derived() {
        let key = blake3::derive_key("arcwise 1 set fingerprint item", b"");
        assert_eq!(ITEM_KEY, key);
    }

    #[test]
    fn a_check_holds_for_its_nonce() {
        let set = of(&[[1; 32], [2; 32]]);
        assert_ne!(set.check(b"one nonce"), set.check(b"another"));
        assert_ne!(set.check(b"one nonce"), of(&[[1; 32]]).check(b"one nonce"));
    }
}
