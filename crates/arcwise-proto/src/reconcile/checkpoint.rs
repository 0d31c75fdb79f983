//! Sectors as bytes, so that opening a large set need not read all of it.
//!
//! | bytes | field |
//! |---|---|
//! | 1 | version: 1 |
//! | 16 | a stamp of the caller's: what the sectors stand for |
//! | 8 | load, little-endian like all numbers here |
//! | 4 | number of sectors |
//! | each sector: 1 | depth |
//! | 8 | number of items; the rest only where it is not 0 |
//! | 64 * 4 | counters |
//! | 64 * 6 | syndromes |
//! | 2048 | fingerprint |
//! | 32 | at the end: BLAKE3 `derive_key("arcwise 1 reconcile checkpoint", all before)` |
//!
//! The sectors are all places in ascending order, so where each begins follows from the depths.

use std::sync::Arc;

use super::{
    bits::Reader,
    estimate::{COUNTERS, Counters},
    field,
    fingerprint::Fingerprint,
    sectors::{Sector, Sectors},
    sums::{SYNDROMES, Sums},
};

const VERSION: u8 = 1;
const CONTEXT: &str = "arcwise 1 reconcile checkpoint";
const SEAL: usize = 32;

/// Bytes of a stamp.
pub const STAMP: usize = 16;

/// Most sectors that a checkpoint may have: any more are not ours.
const MOST: u32 = 1 << 20;

/// Why bytes are not a checkpoint that can be used. The remedy is the same for all: sum the items up
/// anew.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CheckpointError {
    /// Written by another version.
    #[error("a checkpoint of version {0}, but this is version {VERSION}")]
    Version(u8),
    /// Cut off, or changed since it was written.
    #[error("the checkpoint is damaged: its checksum does not match")]
    Damaged,
    /// The checksum holds, but not what it is the checksum of.
    #[error("the checkpoint is not well-formed")]
    Malformed,
}

impl Sectors {
    /// The checkpoint: up to about 11 MB. `stamp` says what it is of; it is sealed with the rest.
    pub fn to_bytes(&self, stamp: [u8; STAMP]) -> Vec<u8> {
        let mut out = vec![VERSION];
        out.extend(stamp);
        out.extend(self.load().to_le_bytes());
        out.extend((self.len() as u32).to_le_bytes());
        for sector in self.sectors() {
            out.push(sector.depth);
            let Some(sums) = &sector.sums else {
                out.extend([0; 8]);
                continue;
            };
            out.extend(sums.count.to_le_bytes());
            out.extend(sums.counters.get().iter().flat_map(|c| c.to_le_bytes()));
            out.extend(
                sums.syndromes.iter().flat_map(|s| s.to_le_bytes().into_iter().take(field::BYTES)),
            );
            out.extend(sums.fingerprint.to_bytes());
        }
        let seal = blake3::derive_key(CONTEXT, &out);
        out.extend(seal);
        out
    }

    /// The stamp, and what [`Sectors::to_bytes`] was called on, exactly.
    ///
    /// # Errors
    /// Where the bytes are anything else.
    pub fn from_bytes(bytes: &[u8]) -> Result<([u8; STAMP], Self), CheckpointError> {
        match bytes.first() {
            None => return Err(CheckpointError::Damaged),
            Some(&VERSION) => {}
            Some(other) => return Err(CheckpointError::Version(*other)),
        }
        let (body, seal) = bytes.split_last_chunk::<SEAL>().ok_or(CheckpointError::Damaged)?;
        if blake3::derive_key(CONTEXT, body) != *seal {
            return Err(CheckpointError::Damaged);
        }
        let (stamp, body) = body[1..].split_first_chunk().ok_or(CheckpointError::Malformed)?;
        let mut input = Reader::new(body);
        let sectors = parse(&mut input).filter(|_| input.remaining() == 0);
        Ok((*stamp, sectors.ok_or(CheckpointError::Malformed)?))
    }
}

fn parse(input: &mut Reader<'_>) -> Option<Sectors> {
    let load = u64::from_le_bytes(input.raw()?);
    let len = u32::from_le_bytes(input.raw()?);
    if len > MOST || load == 0 {
        return None;
    }
    let mut sectors = Vec::new();
    // Where the next sector begins; 2^64 after the last one.
    let mut next = 0u128;
    for _ in 0..len {
        let [depth] = input.raw()?;
        let first = u64::try_from(next).ok()?;
        let size = 1u128.checked_shl(64u32.checked_sub(depth.into())?)?;
        if !next.is_multiple_of(size) {
            return None;
        }
        next += size;
        let sums = sums(input)?;
        sectors.push(Sector { first, depth, sums: sums.map(Arc::new) });
    }
    (next == 1 << 64).then(|| Sectors::from_sectors(load, sectors))
}

fn sums(input: &mut Reader<'_>) -> Option<Option<Sums>> {
    let count = u64::from_le_bytes(input.raw()?);
    if count == 0 {
        return Some(None);
    }
    let mut counters = [0; COUNTERS];
    for counter in &mut counters {
        *counter = i32::from_le_bytes(input.raw()?);
    }
    let mut syndromes = [0; SYNDROMES];
    for syndrome in &mut syndromes {
        *syndrome = input.take(field::BITS)?;
    }
    let fingerprint = Fingerprint::from_bytes(&input.raw()?);
    Some(Some(Sums { count, fingerprint, counters: Counters::new(counters), syndromes }))
}
