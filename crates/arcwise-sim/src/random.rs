//! Numbers that look random, and are the same for the same seed on any machine.

use std::time::Duration;

use rand::SeedableRng as _;
use rand_distr::{Distribution as _, Pareto};

/// A stream of them. Each node has its own, and so has the world.
pub(crate) type Random = rand_pcg::Pcg64Mcg;

/// The stream for a purpose: `name` tells purposes apart, `n` those who have the same.
pub(crate) fn stream(seed: u64, name: &str, n: u64) -> Random {
    Random::from_seed(*bytes(seed, name, n).first_chunk().unwrap_or(&[0; 16]))
}

/// 32 bytes for a purpose.
pub(crate) fn bytes(seed: u64, name: &str, n: u64) -> [u8; 32] {
    let mut hasher = blake3::Hasher::new_derive_key("arcwise-sim 1 random");
    hasher.update(&seed.to_le_bytes()).update(&n.to_le_bytes()).update(name.as_bytes());
    *hasher.finalize().as_bytes()
}

/// A number in which each bit depends on all of the given one: SplitMix64's last step (Steele, Lea and
/// Flood, 2014).
pub(crate) fn mixed(n: u64) -> u64 {
    let mut z = n.wrapping_add(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// A heavy-tailed length of time: Pareto, exponent 1.5, of which half are shorter than `median`.
pub(crate) fn heavy(random: &mut Random, median: Duration) -> Duration {
    const EXPONENT: f64 = 1.5;
    // The median is 2^(1 / exponent) times the shortest.
    let least = median.as_secs_f64() / 1.587_401;
    let length = Pareto::new(least.max(1e-3), EXPONENT).map_or(least, |it| it.sample(random));
    // A year is as good as for ever.
    Duration::from_secs_f64(length.min(31_557_600.0))
}
