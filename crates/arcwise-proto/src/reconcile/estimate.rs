//! How large a difference is, about, from 64 small numbers.
//!
//! Each item adds +1 or -1 to each of 64 counters, after 64 bits of its hash. The difference of two
//! sets' counters is what the items in one of them only have added: a sum of d random signs, the
//! square of which is d on average. The mean over the counters is an unbiased estimate of d, with a
//! standard error of d * sqrt(2/64), about 18 %.
//!
//! Source: Alon, Matias, Szegedy, *The Space Complexity of Approximating the Frequency Moments*
//! (1996); used for this by Feigenbaum et al. and in PBS (Gong et al. 2020).
//!
//! Items can be made to have any signs, so an estimate is a guess that costs bytes where it is wrong
//! and nothing else.

use super::bits::{Reader, Writer};

/// How many counters there are.
pub const COUNTERS: usize = 64;

/// The counters of a set, or of the difference of two.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Counters([i32; COUNTERS]);

impl Counters {
    /// Of no items.
    pub const ZERO: Self = Self([0; COUNTERS]);

    /// From the numbers themselves.
    pub fn new(counters: [i32; COUNTERS]) -> Self {
        Self(counters)
    }

    /// The numbers: for n items of a set, each between -n and n and of n's parity.
    pub fn get(&self) -> &[i32; COUNTERS] {
        &self.0
    }

    /// Adds an item: bit i of `signs` says +1 (set) or -1 in counter i. Counters wrap around beyond
    /// 2^31, which differences do not notice.
    pub fn add(&mut self, signs: u64) {
        add(&mut self.0, signs);
    }

    /// Takes an item away again.
    pub fn remove(&mut self, signs: u64) {
        self.add(!signs);
    }

    /// Adds the counters of other items.
    #[inline(always)]
    pub fn merge(&mut self, other: &Counters) {
        self.0.iter_mut().zip(other.0).for_each(|(sum, c)| *sum = sum.wrapping_add(c));
    }

    /// Takes the counters of some of the items away.
    pub fn subtract(&mut self, other: &Counters) {
        self.0.iter_mut().zip(other.0).for_each(|(sum, c)| *sum = sum.wrapping_sub(c));
    }

    /// What goes over the wire: the first `counters` of them, each modulo 2^`bits`.
    pub fn narrow(&self, counters: usize, bits: u32) -> Narrow {
        debug_assert!((2..=32).contains(&bits));
        let mask = u32::MAX >> (32 - bits);
        Narrow { bits, counters: self.0.iter().take(counters).map(|c| *c as u32 & mask).collect() }
    }
}

/// A shift by another number of bits in each place is one operation with AVX2, and many without.
#[multiversion::multiversion(targets("x86_64+avx2"), dispatcher = "direct")]
fn add(counters: &mut [i32; COUNTERS], signs: u64) {
    for (i, counter) in counters.iter_mut().enumerate() {
        *counter = counter.wrapping_add((signs >> i & 1) as i32 * 2 - 1);
    }
}

/// Counters modulo a power of two. Only differences matter, and these are small: about sqrt(d).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Narrow {
    /// Of each counter: 2 to 32.
    bits: u32,
    /// 1 to 64 of them.
    counters: Vec<u32>,
}

impl Narrow {
    /// How many bits a counter needs where a set has `count` items: 5 to 20, with 2^bits at least
    /// 2 sqrt(count). Differences up to a tenth of the items are told well; beyond that the counters
    /// wrap, and the estimate levels off, at count / 3 or more.
    pub fn bits_for(count: u64) -> u32 {
        ((count.max(1).ilog2() + 1).div_ceil(2) + 1).clamp(5, 20)
    }

    /// How many bits each counter has.
    pub fn bits(&self) -> u32 {
        self.bits
    }

    /// How many counters there are.
    pub fn len(&self) -> usize {
        self.counters.len()
    }

    /// Whether there are no counters.
    pub fn is_empty(&self) -> bool {
        self.counters.is_empty()
    }

    /// The estimated number of items in one of two sets only, from one set's narrow counters and the
    /// other's own: 0 or more, with a standard error of sqrt(2 / len) of itself.
    pub fn estimate(&self, ours: &Counters) -> f64 {
        let shift = 32 - self.bits;
        let squares = self.counters.iter().zip(&ours.0).map(|(theirs, ours)| {
            let difference = (theirs.wrapping_sub(*ours as u32) << shift) as i32 >> shift;
            f64::from(difference) * f64::from(difference)
        });
        squares.sum::<f64>() / self.counters.len().max(1) as f64
    }

    pub(super) fn encode(&self, out: &mut Writer) {
        self.counters.iter().for_each(|c| out.put(u64::from(*c), self.bits));
    }

    pub(super) fn decode(bits: u32, counters: usize, input: &mut Reader<'_>) -> Option<Self> {
        if !(2..=32).contains(&bits) || !(1..=COUNTERS).contains(&counters) {
            return None;
        }
        let read = (0..counters).map(|_| input.take(bits).map(|c| c as u32));
        Some(Self { bits, counters: read.collect::<Option<_>>()? })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn of(items: &[u64]) -> Counters {
        let mut counters = Counters::ZERO;
        items.iter().for_each(|signs| counters.add(*signs));
        counters
    }

    proptest! {
        #[test]
        fn linear(a in proptest::collection::vec(any::<u64>(), 0..50), b in proptest::collection::vec(any::<u64>(), 0..50)) {
            let mut both = of(&a);
            both.merge(&of(&b));
            prop_assert_eq!(&both, &of(&[a.clone(), b.clone()].concat()));
            both.subtract(&of(&b));
            prop_assert_eq!(&both, &of(&a));
            a.iter().for_each(|signs| both.remove(*signs));
            prop_assert_eq!(both, Counters::ZERO);
        }

        #[test]
        fn narrow_is_exact_while_differences_are_small(a in proptest::collection::vec(any::<u64>(), 0..15), same in any::<[i32; 64]>()) {
            let ours = Counters::new(same);
            let mut theirs = ours.clone();
            a.iter().for_each(|signs| theirs.add(*signs));
            let wide = of(&a).get().iter().map(|c| f64::from(*c) * f64::from(*c)).sum::<f64>() / 64.0;
            prop_assert_eq!(theirs.narrow(64, 5).estimate(&ours), wide);

            let mut out = Writer::new();
            theirs.narrow(16, 7).encode(&mut out);
            let bytes = out.finish();
            prop_assert_eq!(bytes.len(), 14);
            let back = Narrow::decode(7, 16, &mut Reader::new(&bytes));
            prop_assert_eq!(back, Some(theirs.narrow(16, 7)));
        }
    }

    #[test]
    fn the_error_is_what_it_is_said_to_be() {
        let mut seed = blake3::Hasher::new().finalize_xof();
        let mut word = || {
            let mut bytes = [0; 8];
            seed.fill(&mut bytes);
            u64::from_le_bytes(bytes)
        };
        for d in [1u32, 10, 100, 1000] {
            let errors = (0..100).map(|_| {
                let items: Vec<u64> = (0..d).map(|_| word()).collect();
                of(&items).narrow(64, 12).estimate(&Counters::ZERO) / f64::from(d) - 1.0
            });
            let (sum, squares) =
                errors.fold((0.0, 0.0), |(sum, squares), e| (sum + e, squares + e * e));
            assert!((sum / 100.0f64).abs() < 0.06, "{d}: biased by {}", sum / 100.0);
            assert!((squares / 100.0f64).sqrt() < 0.23, "{d}: off by {}", (squares / 100.0).sqrt());
        }
    }

    #[test]
    fn widths() {
        assert_eq!(Narrow::bits_for(0), 5);
        for count in [1000, 100_000, 1_000_000, 10_000_000, 1 << 36] {
            let width = 1u64 << Narrow::bits_for(count);
            assert!(width.pow(2) >= 4 * count && width.pow(2) <= 32 * count, "{count}: {width}");
        }
        assert!(Narrow::decode(1, 64, &mut Reader::new(&[0; 99])).is_none());
        assert!(Narrow::decode(8, 65, &mut Reader::new(&[0; 99])).is_none());
        assert!(Narrow::decode(8, 64, &mut Reader::new(&[0; 63])).is_none());
    }
}
