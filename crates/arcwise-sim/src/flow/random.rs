//! Numbers that look random and replay to the bit.

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

    /// From 0 up to, and not including, 1.
    pub(crate) fn unit(&mut self) -> f64 {
        (self.next() >> 11) as f64 / (1u64 << 53) as f64
    }

    /// Below `bound`, which is above zero.
    pub(crate) fn below(&mut self, bound: usize) -> usize {
        (self.next() % (bound.max(1) as u64)) as usize
    }

    /// Of a Pareto distribution with exponent 1.5: half of the time it is less than `median`, and the
    /// mean is 1.89 times that.
    pub(crate) fn heavy_tailed(&mut self, median: f64) -> f64 {
        const EXPONENT: f64 = 1.5;
        median * (0.5 / (1.0 - self.unit())).powf(1.0 / EXPONENT)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn half_are_below_the_median() {
        let mut random = Random::new(1);
        let drawn: Vec<f64> = (0..200_000).map(|_| random.heavy_tailed(60.0)).collect();
        let below = drawn.iter().filter(|it| **it < 60.0).count() as f64 / drawn.len() as f64;
        assert!((below - 0.5).abs() < 0.01, "{below}");
        // The least there is: the median over two to the power of two thirds.
        let least = drawn.iter().copied().fold(f64::MAX, f64::min);
        assert!((least - 60.0 / 2f64.powf(2.0 / 3.0)).abs() < 0.1, "{least}");
    }
}
