//! Sets of items in memory, as small as they can be: two sides share what they have in common.

use std::convert::Infallible;

use arcwise_proto::{AspectHash, AspectKey, Location, reconcile::Items, ring::RingArc};

/// Random numbers (splitmix64), the same in every run.
pub struct Random(pub u64);

impl Random {
    pub fn word(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        mix(self.0)
    }

    pub fn key(&mut self, place: Where) -> AspectKey {
        let mut hash = [0; 32];
        let (words, _) = hash.as_chunks_mut::<8>();
        words.iter_mut().for_each(|word| *word = self.word().to_le_bytes());
        let location = match place {
            Where::Anywhere => self.word() as u32,
            Where::Within(arc) => arc.start().0.wrapping_add((self.word() % arc.len()) as u32),
            Where::At(location) => location.0,
        };
        AspectKey { location: Location(location), hash: AspectHash(hash) }
    }

    /// So many of them, in the order of keys.
    pub fn keys(&mut self, many: usize, place: Where) -> Vec<AspectKey> {
        let mut keys: Vec<_> = (0..many).map(|_| self.key(place)).collect();
        keys.sort_unstable();
        keys
    }
}

pub fn mix(mut z: u64) -> u64 {
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// Where on the ring.
#[derive(Clone, Copy)]
pub enum Where {
    Anywhere,
    Within(RingArc),
    At(Location),
}

/// Sorted keys, and an index by hash: 41 bytes an item.
#[derive(Default)]
pub struct Keys {
    pub keys: Vec<AspectKey>,
    /// Numbers of keys, in the order of their hashes.
    by_hash: Vec<u32>,
    /// Where in `by_hash` the hashes with these first bits begin.
    begins: Vec<u32>,
    bits: u32,
}

fn first_word(hash: &AspectHash) -> u64 {
    hash.0[..8].iter().fold(0, |word, byte| word << 8 | u64::from(*byte))
}

impl Keys {
    /// Of keys in order.
    pub fn new(keys: Vec<AspectKey>) -> Self {
        let mut order: Vec<(u64, u32)> =
            (0..).zip(&keys).map(|(at, key)| (first_word(&key.hash), at)).collect();
        order.sort_unstable();
        let bits = (keys.len() as u64 / 4 + 1).ilog2();
        let mut begins = vec![0; (1 << bits) + 1];
        for (word, _) in &order {
            begins[bucket(*word, bits) + 1] += 1;
        }
        for at in 1..begins.len() {
            begins[at] += begins[at - 1];
        }
        Self { keys, by_hash: order.into_iter().map(|(_, at)| at).collect(), begins, bits }
    }

    fn range(&self, first: &AspectKey, last: &AspectKey) -> &[AspectKey] {
        let from = self.keys.partition_point(|key| key < first);
        // Mostly a few hundred: not to be looked for among all.
        let rest = &self.keys[from..];
        let mut most = 64;
        while most < rest.len() && rest[most] <= *last {
            most *= 4;
        }
        let most = most.min(rest.len());
        &rest[..rest[..most].partition_point(|key| key <= last)]
    }

    fn find(&self, first: &AspectHash, last: &AspectHash) -> impl Iterator<Item = AspectKey> {
        let [from, to] = [first, last].map(|hash| bucket(first_word(hash), self.bits));
        let slots = match self.begins.is_empty() {
            true => &[][..],
            false => &self.by_hash[self.begins[from] as usize..self.begins[to + 1] as usize],
        };
        let keys = slots.iter().map(|at| self.keys[*at as usize]);
        keys.filter(move |key| (first..=last).contains(&&key.hash))
    }
}

fn bucket(word: u64, bits: u32) -> usize {
    word.checked_shr(64 - bits).unwrap_or(0) as usize
}

/// What one side holds: items that the other may hold as well, and its own.
pub struct Set<'a> {
    pub common: &'a Keys,
    pub own: &'a Keys,
}

impl Items for Set<'_> {
    type Error = Infallible;

    fn scan(
        &self,
        first: &AspectKey,
        last: &AspectKey,
        each: &mut dyn FnMut(&AspectKey),
    ) -> Result<(), Infallible> {
        merged(self.common.range(first, last), self.own.range(first, last)).for_each(each);
        Ok(())
    }

    fn find(&self, first: &AspectHash, last: &AspectHash) -> Result<Vec<AspectKey>, Infallible> {
        Ok(self.common.find(first, last).chain(self.own.find(first, last)).collect())
    }
}

/// Two sorted lists as one.
pub fn merged<'a>(
    a: &'a [AspectKey],
    b: &'a [AspectKey],
) -> impl Iterator<Item = &'a AspectKey> + use<'a> {
    let (mut a, mut b) = (a.iter().peekable(), b.iter().peekable());
    std::iter::from_fn(move || match (a.peek(), b.peek()) {
        (Some(x), Some(y)) if x <= y => a.next(),
        (_, Some(_)) => b.next(),
        _ => a.next(),
    })
}
