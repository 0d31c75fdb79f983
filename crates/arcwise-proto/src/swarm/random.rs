//! Numbers that look random and replay to the bit: what spreads events in time, and nothing secret.

use std::time::Duration;

/// Steele, Lea and Flood's SplitMix64 (2014).
#[derive(Clone, Debug)]
pub(crate) struct Random(u64);

impl Random {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed)
    }

    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// Below `bound`, which is above zero.
    pub(crate) fn below(&mut self, bound: usize) -> usize {
        (self.next() % (bound.max(1) as u64)) as usize
    }

    /// Three quarters to five quarters.
    pub(crate) fn around_one(&mut self) -> f64 {
        0.75 + (self.next() >> 11) as f64 / (1u64 << 53) as f64 / 2.0
    }

    /// Three quarters to five quarters of it.
    pub(crate) fn around(&mut self, wait: Duration) -> Duration {
        wait.mul_f64(self.around_one())
    }
}
