//! What a session may ask of the local store.

use serde::{Deserialize, Serialize};

use crate::{
    aspect::AspectKey,
    reconcile::{
        Items, Parts, Sectors,
        fingerprint::{Check, Fingerprint},
    },
    ring::ArcSet,
    time::Time,
};

/// A point in one store's own history: how many aspects it had stored, under which epoch.
///
/// A store begins a new epoch whenever it is opened. One restored from a backup does not know the
/// epochs that came after the backup, so a position from there is recognised as foreign instead of
/// silently skipping what was lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Position {
    /// A random number that names a stretch of the store's history.
    pub epoch: u64,
    /// The local sequence number reached, counted from 1 over the whole life of the space.
    pub count: u64,
}

/// The constraints of a session other than the arcs. Absent is not the same as zero: an absent
/// constraint is not checked at all.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Filter {
    /// Only aspects published at this time or later.
    pub published_since: Option<Time>,
    /// Only aspects with a local sequence number above this.
    pub stored_after: Option<u64>,
}

/// The reads that a session makes, over one space. Each sees everything stored durably before the
/// call; nothing that is not durable may show.
pub trait Holdings {
    /// Why a read failed: always our own disk, never the peer.
    type Error: std::error::Error;

    /// The items of a [`Snapshot`].
    type Items: Items<Error = Self::Error>;

    /// The held items and their sums, as they are now and will stay in the snapshot. Costs
    /// microseconds.
    fn snapshot(&self) -> Snapshot<Self::Items>;

    /// Up to `limit` held keys from `first` to `last`, both inclusive, ascending, that pass
    /// `filter`.
    ///
    /// # Errors
    /// Where the store cannot be read.
    fn list(
        &self,
        first: AspectKey,
        last: AspectKey,
        filter: &Filter,
        limit: usize,
    ) -> Result<Vec<AspectKey>, Self::Error>;

    /// Those of `keys` that are not held, in the given order.
    ///
    /// # Errors
    /// Where the store cannot be read.
    fn lacks(&self, keys: &[AspectKey]) -> Result<Vec<AspectKey>, Self::Error>;

    /// Where the store's history stands now.
    fn position(&self) -> Position;

    /// The local sequence number that `position` stands for; `None` where it is not from this
    /// store's history, and the whole set must be compared. A store that gives up aspects it may
    /// want again must not know the epochs from before any more.
    fn resolve(&self, position: Position) -> Option<u64>;
}

/// The items of a space and their sums, as they were at one moment.
#[derive(Clone, Debug)]
pub struct Snapshot<I> {
    /// The sums.
    pub sectors: Sectors,
    /// What they are the sums of.
    pub items: I,
}

impl<I: Items> Snapshot<I> {
    /// How many items there are in `arcs`, and the check of them under `nonce`: two nodes of which
    /// both are the same hold the same there.
    ///
    /// # Errors
    /// Where the store cannot be read.
    pub fn digest(&self, arcs: &ArcSet, nonce: &[u8]) -> Result<Digest, I::Error> {
        Ok(self.gist(arcs)?.digest(nonce))
    }

    /// What digests of the items in `arcs` are made from: to be kept where there will be more of them.
    ///
    /// # Errors
    /// Where the store cannot be read.
    pub fn gist(&self, arcs: &ArcSet) -> Result<Gist, I::Error> {
        let sums = self.sectors.sum_over(arcs, Parts::FINGERPRINT, &self.items)?;
        Ok(Gist { count: sums.count, fingerprint: sums.fingerprint })
    }
}

/// See [`Snapshot::gist`].
#[derive(Clone, Debug)]
pub struct Gist {
    count: u64,
    fingerprint: Fingerprint,
}

impl Gist {
    /// The digest under `nonce`.
    pub fn digest(&self, nonce: &[u8]) -> Digest {
        Digest { count: self.count, check: self.fingerprint.check(nonce) }
    }
}

/// What a set is, in short: see [`Snapshot::digest`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Digest {
    /// How many items.
    pub count: u64,
    /// Of the set, under a nonce.
    pub check: Check,
}
