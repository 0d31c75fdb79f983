//! What is kept to compare a space with other nodes: the sums of its aspects, by sectors.
//!
//! They live in memory and, whenever they are asked for, say exactly what is durable. Written with every batch they would
//! cost more than the data, so there is a checkpoint in a file, written now and then and on closing;
//! on opening, what the log has after it is added. A checkpoint that is damaged, missing, or not of
//! this store's history costs one pass over the index and nothing else.
//!
//! A checkpoint is `sums/<space number>` in the store's folder: [`Sectors::to_bytes`], stamped with the
//! epoch and the local sequence number up to which everything is in the sums. Before it is written, the
//! ids up to there go to disk: see `ids.rs`.

use std::{
    fs::{self, File},
    io::{self, Write},
    path::{Path, PathBuf},
    sync::Arc,
    thread::{self, JoinHandle},
};

use arcwise_proto::{
    AspectHash, AspectKey,
    reconcile::{self, Sectors, checkpoint::STAMP},
    session::{Position, Snapshot},
};
use fjall::OwnedWriteBatch;

use crate::{
    Space, StoreError,
    folder::{self, Engine},
    ids,
    rows::{self, SpaceNumber},
    space::{Logged, State},
    store::{Inner, lock},
};

/// A checkpoint is due, besides, when so many bytes were stored since the last one, and sixteen times
/// its own size: so it never costs more than a sixteenth of the write bandwidth.
const DUE_AFTER_BYTES: u64 = 64 << 20;

/// Ids of a space that is summed up from its index which are kept in memory before they are written.
const IDS_IN_MEMORY: usize = 1 << 20;

/// The sums of a space, and what they stand for.
#[derive(Debug)]
pub(crate) struct Summed {
    pub(crate) sectors: Sectors,
    /// The local sequence number up to which everything is in them.
    pub(crate) upto: u64,
    /// Where the last checkpoint stands: a sequence number, and the bytes stored up to there.
    checkpoint: (u64, u64),
    /// Writes a checkpoint, or has done so.
    writer: Option<JoinHandle<()>>,
    /// They are not of all that is held, and must not become a checkpoint.
    wrong: bool,
}

impl Summed {
    pub(crate) fn empty() -> Self {
        Self { sectors: Sectors::new(), upto: 0, checkpoint: (0, 0), writer: None, wrong: false }
    }
}

/// What a batch has done to a space.
pub(crate) enum Changed {
    Added(Vec<AspectKey>),
    Removed {
        keys: Vec<AspectKey>,
        /// Those of the keys of which no other aspect has the row in `ids`.
        ids: Vec<AspectKey>,
    },
}

impl Changed {
    pub(crate) fn len(&self) -> usize {
        match self {
            Changed::Added(keys) | Changed::Removed { keys, .. } => keys.len(),
        }
    }
}

/// The items of a space as they were when its [`Snapshot`] was taken.
#[derive(Clone)]
pub struct Items {
    space: Space,
    snapshot: fjall::Snapshot,
}

impl std::fmt::Debug for Items {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Items").field("space", &self.space).finish_non_exhaustive()
    }
}

impl reconcile::Items for Items {
    type Error = StoreError;

    fn scan(
        &self,
        first: &AspectKey,
        last: &AspectKey,
        each: &mut dyn FnMut(&AspectKey),
    ) -> Result<(), StoreError> {
        if last < first {
            return Ok(());
        }
        for row in self.space.index_keys(&self.snapshot, *first, *last) {
            each(&row?);
        }
        Ok(())
    }

    fn find(&self, first: &AspectHash, last: &AspectHash) -> Result<Vec<AspectKey>, StoreError> {
        let mut found = Vec::new();
        for location in self.space.locations(first, last)? {
            let first = AspectKey { location, hash: *first };
            let last = AspectKey { location, hash: *last };
            for key in self.space.index_keys(&self.snapshot, first, last) {
                found.push(key?);
            }
        }
        found.sort_unstable();
        found.dedup();
        Ok(found)
    }
}

impl Space {
    /// The sums and the items they are of, both as they are now.
    pub(crate) fn snapshot_now(&self) -> Snapshot<Items> {
        self.store.sum_all();
        // The snapshot was taken when the sums had last changed: see `Inner::sum`.
        let view = lock(&self.store.view);
        let sectors = lock(&self.state.summed).sectors.clone();
        Snapshot { sectors, items: Items { space: self.clone(), snapshot: view.clone() } }
    }

    /// Brings the sums up to what has become durable, the last of it with the sequence number `upto`.
    /// `view` must show it.
    pub(crate) fn add_up(&self, keys: &Changed, upto: u64, view: &fjall::Snapshot) {
        let mut summed = lock(&self.state.summed);
        let mut ids = lock(&self.state.ids);
        match keys {
            Changed::Added(keys) => keys.iter().for_each(|key| {
                summed.sectors.insert(key);
                ids.insert(self.state.number, key);
            }),
            Changed::Removed { keys, ids: unused } => {
                keys.iter().for_each(|key| summed.sectors.remove(key));
                unused.iter().for_each(|key| ids.remove(self.state.number, key));
            }
        }
        drop(ids);
        summed.upto = upto;
        // Where the disk cannot be read the sums are right even so, only slower to use.
        let items = Items { space: self.clone(), snapshot: view.clone() };
        let _ = summed.sectors.settle(&items);
    }

    /// Makes the sums of what is stored: from the checkpoint and what came after, or else from all of
    /// it. What cannot be read is left out; a check of the store tells.
    pub(crate) fn sum_up(&self) {
        let summed = self.sums_from_checkpoint();
        *lock(&self.state.summed) = summed.unwrap_or_else(|| self.sums_from_index());
        let upto = self.progress().sequence;
        self.add_up(&Changed::Added(Vec::new()), upto, &self.store.engine.db.snapshot());
    }

    fn sums_from_checkpoint(&self) -> Option<Summed> {
        let (position, sectors) = self.read_checkpoint()?;
        let upto = self.of_history(position)?;
        // How many bytes there were then is not on record; it only says when the next one is due.
        let checkpoint = (upto, self.progress().bytes);
        let mut summed = Summed { sectors, checkpoint, ..Summed::empty() };
        let (last, removed) = (self.progress().sequence, self.progress().removed);
        let snapshot = self.store.engine.db.snapshot();
        let mut removals = lock(&self.state.removals);
        let mut expected = upto;
        for logged in self.log_rows(&snapshot, upto + 1, last).take_while(|_| upto < last) {
            let (sequence, logged) = logged.ok()?;
            expected += 1;
            if sequence != expected && removed == 0 {
                return None;
            }
            expected = sequence;
            match logged {
                Logged::Aspect(aspect) => {
                    summed.sectors.insert(&aspect.key());
                    lock(&self.state.ids).insert(self.state.number, &aspect.key());
                }
                // One that was stored after the checkpoint is not in the log any more. The row in
                // `ids` stays, where it leads nowhere.
                Logged::Removal(removal) if removal.sequence > upto => removals.push(sequence),
                Logged::Removal(removal) => {
                    removals.push(sequence);
                    summed.sectors.remove(&removal.key);
                }
            }
        }
        drop(removals);
        (expected == last || removed > 0).then_some(summed)
    }

    fn sums_from_index(&self) -> Summed {
        let arcs = self.target().union(&self.held());
        let snapshot = self.store.engine.db.snapshot();
        let sectors = Sectors::expecting(self.stats().count, &arcs);
        let mut summed = Summed { sectors, ..Summed::empty() };
        for key in self.index_keys(&snapshot, AspectKey::MIN, AspectKey::MAX) {
            let Ok(key) = key else {
                summed.wrong = true;
                break;
            };
            summed.sectors.insert(&key);
            let mut ids = lock(&self.state.ids);
            ids.insert(self.state.number, &key);
            // Of a large set they would fill the memory. What cannot be written is found there.
            if ids.len() >= IDS_IN_MEMORY
                && ids::ingest(&self.store.engine.ids, &ids.write()).is_ok()
            {
                ids.written();
            }
        }
        summed
    }

    /// The sums are wrong: they must not outlive this opening of the store.
    pub(crate) fn discard_sums(&self) {
        lock(&self.state.summed).wrong = true;
        // Where it cannot be removed the next check says the same again.
        let _ = fs::remove_file(checkpoint_path(&self.store.folder, self.state.number));
    }

    fn read_checkpoint(&self) -> Option<(Position, Sectors)> {
        let bytes = fs::read(checkpoint_path(&self.store.folder, self.state.number)).ok()?;
        let (stamp, sectors) = Sectors::from_bytes(&bytes).ok()?;
        let word =
            |at: usize| stamp[at..].iter().take(8).fold(0, |word, b| word << 8 | u64::from(*b));
        Some((Position { epoch: word(0), count: word(8) }, sectors))
    }

    /// Writes a checkpoint, in another thread, where one is due.
    pub(crate) fn checkpoint_if_due(&self) {
        let mut summed = lock(&self.state.summed);
        let bytes = self.stats().bytes;
        let (count, bytes_then) = summed.checkpoint;
        let recent = bytes.saturating_sub(bytes_then);
        let due = summed.upto - count >= self.store.options.checkpoint_after
            || recent >= DUE_AFTER_BYTES + 16 * summed.sectors.memory() as u64;
        let busy = summed.writer.as_ref().is_some_and(|writer| !writer.is_finished());
        if due && !busy && !summed.wrong {
            summed.checkpoint = (summed.upto, bytes);
            let checkpoint = Checkpoint::new(&self.store, self.state.clone(), &summed);
            summed.writer = Some(thread::spawn(move || checkpoint.write()));
        }
    }
}

impl Inner {
    /// Writes the checkpoints of all spaces that have changed: on closing.
    pub(crate) fn checkpoint_all(&self) {
        for state in self.states() {
            let mut summed = lock(&state.summed);
            // It has the engine open.
            if let Some(writer) = summed.writer.take() {
                let _ = writer.join();
            }
            if summed.upto != summed.checkpoint.0 && !summed.wrong {
                Checkpoint::new(self, state.clone(), &summed).write();
            }
        }
    }

    /// No checkpoint of this space is written any more, and there is none.
    pub(crate) fn abandon_checkpoints(&self, state: &State) {
        let writer = {
            let mut summed = lock(&state.summed);
            summed.wrong = true;
            summed.writer.take()
        };
        if let Some(writer) = writer {
            let _ = writer.join();
        }
        // One that stays is of no store's history.
        let _ = fs::remove_file(checkpoint_path(&self.folder, state.number));
    }
}

struct Checkpoint {
    path: PathBuf,
    position: Position,
    sectors: Sectors,
    state: Arc<State>,
    engine: Engine,
}

impl Checkpoint {
    fn new(store: &Inner, state: Arc<State>, summed: &Summed) -> Self {
        let position = Position { epoch: state.epoch().name, count: summed.upto };
        let path = checkpoint_path(&store.folder, state.number);
        let (sectors, engine) = (summed.sectors.clone(), store.engine.clone());
        Self { path, position, sectors, state, engine }
    }

    /// Writes it. Where that fails, only the next opening is slower.
    fn write(&self) {
        // At least those that the checkpoint stands for.
        let rows = lock(&self.state.ids).write();
        if ids::ingest(&self.engine.ids, &rows).is_ok() {
            lock(&self.state.ids).written();
            if self.write_sums().is_ok() {
                // What is not done now is never done, and takes a few bytes.
                let _ = self.prune();
            }
        }
    }

    /// Takes the removals that the checkpoint has in its sums out of the log. The last row stays: where
    /// the log ends, counting goes on.
    fn prune(&self) -> fjall::Result<()> {
        let last = lock(&self.state.progress).sequence;
        let needless: Vec<u64> = {
            let mut removals = lock(&self.state.removals);
            let needless = |sequence: &u64| *sequence <= self.position.count && *sequence < last;
            let (needless, rest) = removals.iter().partition(|sequence| needless(sequence));
            *removals = rest;
            needless
        };
        for part in needless.chunks(1 << 12) {
            let mut batch = OwnedWriteBatch::with_capacity(self.engine.db.clone(), part.len());
            for sequence in part {
                batch.remove(&self.engine.log, rows::log_key(self.state.number, *sequence));
            }
            batch.commit()?;
        }
        Ok(())
    }

    /// Under another name, and then in the place of the one before.
    fn write_sums(&self) -> io::Result<()> {
        let mut stamp = [0; STAMP];
        stamp[..8].copy_from_slice(&self.position.epoch.to_be_bytes());
        stamp[8..].copy_from_slice(&self.position.count.to_be_bytes());
        let bytes = self.sectors.to_bytes(stamp);
        // Not its parents: a store that was deleted meanwhile stays so.
        match self.path.parent().map(fs::create_dir) {
            Some(Err(e)) if e.kind() != io::ErrorKind::AlreadyExists => return Err(e),
            _ => {}
        }
        let new = self.path.with_extension("new");
        let mut file = File::create(&new)?;
        file.write_all(&bytes)?;
        file.sync_data()?;
        fs::rename(new, &self.path)?;
        folder::sync_names(self.path.parent().unwrap_or(&self.path))
    }
}

fn checkpoint_path(folder: &Path, space: SpaceNumber) -> PathBuf {
    folder.join("sums").join(space.to_string())
}

impl Space {
    /// The keys in the index from `first` to `last`, which must not be less.
    pub(crate) fn index_keys(
        &self,
        snapshot: &fjall::Snapshot,
        first: AspectKey,
        last: AspectKey,
    ) -> impl Iterator<Item = Result<AspectKey, StoreError>> {
        self.index_rows(snapshot, first, last).map(|row| row.map(|(key, _)| key))
    }
}
