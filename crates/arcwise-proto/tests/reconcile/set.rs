//! Sets of items in memory, honest and otherwise.

use std::{
    collections::{BTreeMap, BTreeSet},
    convert::Infallible,
};

use arcwise_proto::{
    AspectHash, AspectKey, Location,
    reconcile::{Items, Sectors},
    ring::ArcSet,
};

/// The number of an item says its hash, and where it is.
pub(crate) fn key(location: u32, number: u64) -> AspectKey {
    let hash = *blake3::hash(&number.to_le_bytes()).as_bytes();
    AspectKey { location: Location(location), hash: AspectHash(hash) }
}

/// An item anywhere on the ring.
pub(crate) fn scattered(number: u64) -> AspectKey {
    let word = blake3::hash(&(number ^ 1 << 63).to_le_bytes());
    let [a, b, c, d, ..] = *word.as_bytes();
    key(u32::from_le_bytes([a, b, c, d]), number)
}

/// Items with an index by hash.
#[derive(Clone, Debug, Default)]
pub(crate) struct Set {
    pub(crate) keys: BTreeSet<AspectKey>,
    by_hash: BTreeMap<AspectHash, AspectKey>,
}

impl Set {
    pub(crate) fn insert(&mut self, key: AspectKey) {
        self.by_hash.insert(key.hash, key);
        self.keys.insert(key);
    }

    pub(crate) fn remove(&mut self, key: &AspectKey) {
        self.by_hash.remove(&key.hash);
        self.keys.remove(key);
    }

    /// Sums of it, made by inserting one by one.
    pub(crate) fn sectors(&self) -> Sectors {
        let mut sectors = Sectors::expecting(self.keys.len() as u64, &ArcSet::full());
        self.keys.iter().for_each(|key| sectors.insert(key));
        let Ok(()) = sectors.settle(self);
        sectors
    }
}

impl FromIterator<AspectKey> for Set {
    fn from_iter<I: IntoIterator<Item = AspectKey>>(keys: I) -> Self {
        let mut this = Self::default();
        keys.into_iter().for_each(|key| this.insert(key));
        this
    }
}

impl Items for Set {
    type Error = Infallible;

    fn scan(
        &self,
        first: &AspectKey,
        last: &AspectKey,
        each: &mut dyn FnMut(&AspectKey),
    ) -> Result<(), Infallible> {
        if first <= last {
            self.keys.range(first..=last).for_each(each);
        }
        Ok(())
    }

    fn find(&self, first: &AspectHash, last: &AspectHash) -> Result<Vec<AspectKey>, Infallible> {
        Ok(self.by_hash.range(first..=last).map(|(_, key)| *key).collect())
    }
}
