//! Finding an aspect by a short id: the first bytes of its hash, wherever it is.
//!
//! The keyspace `ids` leads from these bytes to locations. Written with every batch it would cost as
//! much as the index again; so what is new is kept in memory and goes to disk when a checkpoint is
//! written, sorted, as a table of its own. On opening, what came after the checkpoint is found in the
//! log.
//!
//! A row says where to look. It may be there when the aspect is not any more; what is held, the index
//! says.

use std::{
    collections::{BTreeMap, BTreeSet},
    mem,
    sync::Arc,
};

use arcwise_proto::{Aspect, AspectHash, AspectKey, Location};
use fjall::Keyspace;

use crate::{
    Fault, Row, Space, StoreError,
    rows::{self, ID_KEY, SpaceNumber},
    store::lock,
};

/// Rows that are not on disk, or not in what is there: whether they belong there.
type Rows = BTreeMap<[u8; ID_KEY], bool>;

/// What is new since the last checkpoint.
#[derive(Debug, Default)]
pub(crate) struct Ids {
    recent: Rows,
    /// What is being written, and still only here for sure.
    writing: Arc<Rows>,
}

impl Ids {
    pub(crate) fn insert(&mut self, space: SpaceNumber, key: &AspectKey) {
        self.recent.insert(rows::id_key(space, key), true);
    }

    /// Only where no other aspect has the same row.
    pub(crate) fn remove(&mut self, space: SpaceNumber, key: &AspectKey) {
        self.recent.insert(rows::id_key(space, key), false);
    }

    /// What is to be written now. Until [`Ids::written`] it is found as before.
    pub(crate) fn write(&mut self) -> Arc<Rows> {
        let mut rows = Rows::clone(&self.writing);
        rows.append(&mut mem::take(&mut self.recent));
        self.writing = Arc::new(rows);
        self.writing.clone()
    }

    /// It is on disk.
    pub(crate) fn written(&mut self) {
        self.writing = Arc::default();
    }

    pub(crate) fn len(&self) -> usize {
        self.recent.len()
    }
}

/// Writes rows to disk, durably.
pub(crate) fn ingest(ids: &Keyspace, rows: &Rows) -> fjall::Result<()> {
    if rows.is_empty() {
        return Ok(());
    }
    let mut ingestion = ids.start_ingestion()?;
    for (row, there) in rows {
        match there {
            true => ingestion.write(&row[..], &[][..])?,
            false => ingestion.write_tombstone(&row[..])?,
        }
    }
    ingestion.finish()
}

impl Space {
    /// Where there may be items of a hash from `first` to `last`.
    pub(crate) fn locations(
        &self,
        first: &AspectHash,
        last: &AspectHash,
    ) -> Result<BTreeSet<Location>, StoreError> {
        let range = rows::id_range(self.state.number, first, last);
        // Memory first: what leaves it meanwhile is on disk.
        let (mut found, writing) = {
            let ids = lock(&self.state.ids);
            let recent: Vec<_> = ids.recent.range(range.clone()).map(|(row, _)| *row).collect();
            (recent, ids.writing.clone())
        };
        found.extend(writing.range(range.clone()).map(|(row, _)| *row));
        let location = |row: &[u8]| {
            let parsed = rows::parse_id_key(row).map(|(_, _, location)| location);
            parsed.ok_or_else(|| self.damaged(Row::Record("ids"), Fault::Malformed))
        };
        let mut locations = BTreeSet::new();
        for row in found {
            locations.insert(location(&row)?);
        }
        for row in self.store.engine.ids.range(range) {
            let row = row.key().map_err(|e| self.failed(Row::Record("ids"), e))?;
            locations.insert(location(&row)?);
        }
        Ok(locations)
    }

    /// The aspect with this hash, wherever on the ring it is.
    ///
    /// # Errors
    /// Where the disk fails or what is on it is damaged.
    pub fn find(&self, hash: &AspectHash) -> Result<Option<Aspect>, StoreError> {
        // A large batch is entered into the ids only then.
        self.store.sum_all();
        for location in self.locations(hash, hash)? {
            let found = self.get(&AspectKey { location, hash: *hash })?;
            if found.is_some() {
                return Ok(found);
            }
        }
        Ok(None)
    }

    /// Whether this aspect can be found by its hash.
    pub(crate) fn has_id(&self, key: &AspectKey) -> Result<bool, StoreError> {
        let row = rows::id_key(self.state.number, key);
        let in_memory = {
            let ids = lock(&self.state.ids);
            ids.recent.get(&row).or(ids.writing.get(&row)).copied()
        };
        match in_memory {
            Some(there) => Ok(there),
            None => {
                let found = self.store.engine.ids.contains_key(row);
                found.map_err(|e| self.failed(Row::Record("ids"), e))
            }
        }
    }
}
