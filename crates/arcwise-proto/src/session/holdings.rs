//! What a session may ask of the local store.

use crate::{aspect::AspectKey, time::Time};

/// A point in one store's own history: how many aspects it had stored, under which epoch.
///
/// A store begins a new epoch whenever it is opened. One restored from a backup does not know the
/// epochs that came after the backup, so a position from there is recognised as foreign instead of
/// silently skipping what was lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
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
