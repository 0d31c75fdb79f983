//! What is stored and sent: random, so that nothing compresses, and the same in every run.

use arcwise::{Aspect, EntryAddress, NewAspect, Time};

/// Random bytes (SplitMix64) that belong to a number.
struct Random(u64);

impl Random {
    fn of(number: u64) -> Self {
        Self(number << 32)
    }

    fn word(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn fill(&mut self, bytes: &mut [u8]) {
        for chunk in bytes.chunks_mut(8) {
            chunk.copy_from_slice(&self.word().to_le_bytes()[..chunk.len()]);
        }
    }

    fn aspect(&mut self, size: usize) -> (EntryAddress, Vec<u8>) {
        let (mut entry, mut data) = ([0; 32], vec![0; size]);
        self.fill(&mut entry);
        self.fill(&mut data);
        (EntryAddress(entry), data)
    }
}

/// The aspect with this number, at an entry of its own.
pub fn aspect(number: u64, size: usize) -> anyhow::Result<Aspect> {
    let (entry, data) = Random::of(number).aspect(size);
    Ok(Aspect::new(entry, 1, Time::from_micros(number), &data)?)
}

/// The same, to be published.
pub fn new_aspect(number: u64, size: usize, signed: bool) -> NewAspect {
    let (entry, data) = Random::of(number).aspect(size);
    NewAspect { entry, kind: 1, data: data.into(), signed }
}
