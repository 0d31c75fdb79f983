//! The ring: locations, arcs and sets of arcs.
//!
//! A location is a `u32`; the ring wraps from `u32::MAX` to 0. Everything that is shared has a
//! location, and a node says with arcs which part of the ring it holds.

mod arc;
mod set;

pub use arc::{ArcError, RingArc};
pub use set::ArcSet;

use std::{fmt, num::ParseIntError, str::FromStr};

use crate::id::{EntryAddress, NodeId, SpaceId};

/// How many locations the ring has: 2^32.
pub const RING: u64 = 1 << 32;

/// A point on the ring.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Location(pub u32);

impl Location {
    /// Where an entry and all its aspects live: the eight little-endian words of its address, XORed.
    pub fn of_entry(entry: &EntryAddress) -> Self {
        Self(fold(entry.as_bytes()))
    }

    /// Where a node sits in a space: the same fold of BLAKE3
    /// `derive_key("arcwise 1 node location", space id ‖ node id)`.
    pub fn of_node(space: &SpaceId, node: &NodeId) -> Self {
        let mut hasher = blake3::Hasher::new_derive_key("arcwise 1 node location");
        hasher.update(space.as_bytes());
        hasher.update(&node.0);
        Self(fold(hasher.finalize().as_bytes()))
    }
}

fn fold(bytes: &[u8; 32]) -> u32 {
    bytes
        .chunks_exact(4)
        .fold(0, |sum, word| sum ^ u32::from_le_bytes([word[0], word[1], word[2], word[3]]))
}

impl fmt::Display for Location {
    /// Eight hexadecimal digits.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:08x}", self.0)
    }
}

impl fmt::Debug for Location {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Location({self})")
    }
}

impl FromStr for Location {
    type Err = ParseIntError;

    /// Parses one to eight hexadecimal digits.
    fn from_str(s: &str) -> Result<Self, ParseIntError> {
        u32::from_str_radix(s, 16).map(Self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_fold_is_the_xor_of_the_words() {
        let mut address = [0; 32];
        address[0] = 1;
        address[7] = 0x80;
        assert_eq!(Location::of_entry(&EntryAddress(address)), Location(0x8000_0001));
        assert_eq!(Location::of_entry(&EntryAddress([0xaa; 32])), Location(0));
    }

    #[test]
    fn a_node_sits_elsewhere_in_every_space() {
        let node = NodeId([1; 32]);
        let here = Location::of_node(&SpaceId([1; 32]), &node);
        let there = Location::of_node(&SpaceId([2; 32]), &node);
        assert_ne!(here, there);
    }
}
