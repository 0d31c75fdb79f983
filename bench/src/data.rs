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

/// So many numbers below `end`, in no order.
pub fn numbers(many: u64, end: u64) -> impl Iterator<Item = u64> {
    (0..many).map(move |n| Random::of(n).word() % end.max(1))
}

/// How long something took, many times.
pub struct Times(Vec<f64>);

impl FromIterator<f64> for Times {
    fn from_iter<I: IntoIterator<Item = f64>>(seconds: I) -> Self {
        let mut seconds: Vec<_> = seconds.into_iter().collect();
        seconds.sort_unstable_by(f64::total_cmp);
        Self(seconds)
    }
}

impl Times {
    /// Cells of a table, in `unit` of a second: half of the times are no longer than the first, 99 % no
    /// longer than the second, and all no longer than the third.
    pub fn cells(&self, unit: f64, digits: usize) -> String {
        let at = |share: f64| {
            let place = (self.0.len() as f64 * share).ceil() as usize;
            let seconds = self.0.get(place.max(1) - 1).copied().unwrap_or(f64::NAN);
            format!("{:.digits$}", seconds / unit)
        };
        format!("{} | {} | {}", at(0.5), at(0.99), at(1.0))
    }
}
