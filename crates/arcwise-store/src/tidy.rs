//! What a store takes on the disk, and making it less.

use std::{fs, thread, time::Duration};

use fjall::Keyspace;

use crate::{
    Store, StoreError,
    rows::{self, meta},
    store::lock,
};

/// What a store takes on the disk, in bytes unless it says otherwise.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct StoreStats {
    /// Aspects held, in all spaces.
    pub aspects: u64,
    /// Their canonical encodings.
    pub bytes: u64,
    /// Files of the log, which has the aspects.
    pub log: u64,
    /// What of the log's files is of removed aspects and known to be so: [`Store::compact`] gives it back.
    pub removed: u64,
    /// Files of the index by location.
    pub index: u64,
    /// Files of the index by hash.
    pub ids: u64,
    /// Files that have what was written last, until it is sorted into the others.
    pub journals: u64,
    /// Checkpoints of the sums that spaces are compared by, and records.
    pub others: u64,
    /// Free on the disk, as [`Store::free_space`] says.
    pub free: u64,
}

impl StoreStats {
    /// All that it takes.
    pub fn disk(&self) -> u64 {
        self.log + self.index + self.ids + self.journals + self.others
    }
}

impl Store {
    /// What is held, and what it takes on the disk.
    ///
    /// # Errors
    /// [`StoreError::Engine`] where the disk fails.
    pub fn stats(&self) -> Result<StoreStats, StoreError> {
        let engine = &self.inner().engine;
        let mut stats = StoreStats {
            log: engine.log.disk_space(),
            removed: engine.log.fragmented_blob_bytes(),
            index: engine.index.disk_space(),
            ids: engine.ids.disk_space(),
            journals: engine.db.journal_disk_space()?,
            others: engine.meta.disk_space(),
            free: self.free_space()?,
            ..StoreStats::default()
        };
        for space in self.spaces() {
            let held = space.stats();
            stats.aspects += held.count;
            stats.bytes += held.bytes;
        }
        // There may be none yet.
        let sums = fs::read_dir(self.inner().folder.join("sums")).into_iter().flatten().flatten();
        stats.others += sums.filter_map(|file| Some(file.metadata().ok()?.len())).sum::<u64>();
        Ok(stats)
    }

    /// Rewrites what has gaps left by what was removed, and gives the disk back what that took. Reads and
    /// inserts go on meanwhile. It reads and writes about as much as the indices take, and the log
    /// where that has small aspects; so it is for after much was removed.
    ///
    /// # Errors
    /// [`StoreError::DiskFull`] where there is no room for what is rewritten, or [`StoreError::Engine`].
    pub fn compact(&self) -> Result<(), StoreError> {
        let inner = self.inner();
        let engine = &inner.engine;
        let _one_at_a_time = lock(&inner.compacting);
        inner.sum_all();
        for keyspace in [&engine.index, &engine.ids, &engine.log, &engine.meta] {
            self.flush(keyspace)?;
            // Files of large values are rewritten one by one.
            let size = keyspace.disk_space();
            let (free, needed) = (self.free_space()?, inner.options.min_free.saturating_add(size));
            if free < needed && keyspace.blob_file_count() == 0 {
                return Err(StoreError::DiskFull { free, needed });
            }
            // The first finds out what of the large values is not used any more.
            keyspace.major_compact()?;
            if keyspace.blob_file_count() > 0 {
                keyspace.major_compact()?;
            }
        }
        Ok(())
    }

    /// Has everything in a keyspace written to its files.
    fn flush(&self, keyspace: &Keyspace) -> Result<(), StoreError> {
        keyspace.rotate_memtable()?;
        while keyspace.sealed_memtable_count() > 0 {
            thread::sleep(Duration::from_millis(10));
            // The engine's own threads write it; where one has failed, only a write says so.
            self.inner().engine.meta.remove(rows::meta_key(meta::SETTING, b""))?;
        }
        Ok(())
    }
}
