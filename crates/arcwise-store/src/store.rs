//! A store as a whole: opening it, its spaces, peers and settings.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock, RwLockWriteGuard},
};

use arcwise_proto::{ArcSet, NodeId, SpaceId};
use fjall::{OwnedWriteBatch, PersistMode};

use crate::{
    Damage, Fault, OpenError, Row, Space, StoreError,
    commit::{Commits, Unsummed},
    folder::{self, Claim, Engine},
    rows::{self, Arcs, Epoch, Limits, Progress, SpaceNumber, SpaceRecord, meta},
    space::State,
    sweep::Cleared,
};

/// Most epochs kept for a space. A position from an older one is taken for foreign, which costs one
/// full comparison. A guess: two months of daily restarts.
const MAX_EPOCHS: usize = 64;

/// What can be tuned about a store. None of it is on record: each opening may choose anew.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Options {
    /// Bytes that must stay free on the disk: an insert that would leave less is refused with
    /// [`StoreError::DiskFull`]. The engine needs room to rewrite its files, and stops for good
    /// where it finds none, so this should not be 0. Default 512 MiB, a guess: several times its
    /// journals (128 MiB) and what one compaction writes (64 MiB and more).
    pub min_free: u64,
    /// Bytes of memory for blocks read from disk. More makes lookups in a large store faster; it
    /// helps little once the index (some 60 bytes an aspect) fits. Default 64 MiB: the index of a
    /// million aspects.
    pub cache: u64,
    /// Bytes that all spaces may hold together, of the aspects' canonical encodings; an insert of more
    /// is refused with [`StoreError::Full`]. Default: any number.
    pub max_bytes: Option<u64>,
    /// After how many new aspects what is kept to compare a space is written down. Fewer make opening
    /// after a crash faster, and cost up to 11 MB of writing each time. Default 131072: reading so
    /// many again takes a fraction of a second.
    pub checkpoint_after: u64,
}

impl Default for Options {
    fn default() -> Self {
        Self { min_free: 512 << 20, cache: 64 << 20, max_bytes: None, checkpoint_after: 1 << 17 }
    }
}

/// An open store. Cloning is cheap and gives another handle to the same; it is closed when the last
/// handle, including those of its spaces, is gone.
#[derive(Clone)]
pub struct Store {
    inner: Arc<Inner>,
}

pub(crate) struct Inner {
    pub(crate) engine: Engine,
    pub(crate) commits: Commits,
    pub(crate) folder: PathBuf,
    pub(crate) options: Options,
    pub(crate) spaces: RwLock<Spaces>,
    /// Held while a record is read, changed and written back.
    pub(crate) records: Mutex<()>,
    /// What the sums of all spaces are of. Held while they change, so that whoever holds it sees
    /// both alike. One snapshot for all, and always the latest: an old one would keep the engine
    /// from tidying up.
    pub(crate) view: Mutex<fjall::Snapshot>,
    /// The last batch, where it is not summed up yet. Held while a batch is committed.
    pub(crate) unsummed: Mutex<Option<Unsummed>>,
    pub(crate) compacting: Mutex<()>,
    /// The lock on the folder. The last field, so that it is given up after the engine has closed.
    _claim: Claim,
}

/// The spaces that there are, and were.
#[derive(Default)]
pub(crate) struct Spaces {
    /// In the order of their numbers.
    pub(crate) states: Vec<Arc<State>>,
    /// Deleted ones of which there may still be rows.
    pub(crate) clearing: BTreeMap<SpaceNumber, Cleared>,
    /// Deleted ones of which there is nothing any more.
    cleared: BTreeSet<SpaceNumber>,
}

impl Spaces {
    /// The number of the next one; numbers are not used again.
    fn next(&self) -> SpaceNumber {
        (self.states.len() + self.clearing.len() + self.cleared.len()) as SpaceNumber
    }

    pub(crate) fn set_cleared(&mut self, number: SpaceNumber) {
        self.clearing.remove(&number);
        self.cleared.insert(number);
    }
}

impl Store {
    /// Opens the store in `folder`, and creates folder and store where there are none. The time it
    /// takes grows with what was written last (up to about 300 MiB), not with what is stored; only
    /// after a repair, or where checkpoints were lost, all keys are read once.
    ///
    /// # Errors
    /// [`OpenError`] says which; a store that is open already, in this process or another, is
    /// [`OpenError::Locked`].
    pub fn open(folder: &Path, options: Options) -> Result<Self, OpenError> {
        let mut claim = folder::claim(folder)?;
        let engine = folder::open_engine(folder, &options)?;
        folder::upgrade(folder, &mut claim)?;
        let spaces = load_spaces(&engine)?;
        let view = Mutex::new(engine.db.snapshot());
        let inner = Inner {
            engine,
            commits: Commits::default(),
            folder: folder.to_owned(),
            options,
            spaces: RwLock::new(spaces),
            records: Mutex::new(()),
            view,
            unsummed: Mutex::new(None),
            compacting: Mutex::new(()),
            _claim: claim,
        };
        let this = Self { inner: Arc::new(inner) };
        this.spaces().iter().for_each(Space::sum_up);
        Ok(this)
    }

    /// Creates a space, durably. `name` is for people and may be any text; `target` and `held` are
    /// what [`Space::target`] and [`Space::held`] will return, `limits` what [`Space::limits`] will.
    ///
    /// # Errors
    /// [`StoreError::SpaceExists`], or [`StoreError::Engine`].
    pub fn create_space(
        &self,
        id: &SpaceId,
        name: &str,
        target: ArcSet,
        held: ArcSet,
        limits: Limits,
    ) -> Result<Space, StoreError> {
        let _one_at_a_time = lock(&self.inner.records);
        if self.space(id).is_some() {
            return Err(StoreError::SpaceExists(*id));
        }
        let number = self.inner.next_space();
        let arcs = Arcs { target, held };
        let record = SpaceRecord { id: *id, name: name.to_owned(), arcs };
        let progress = Progress::default();
        let epochs = vec![new_epoch(progress)];

        let of_space = |kind| rows::meta_key(kind, &number.to_be_bytes());
        let mut batch = self.inner.synced_batch(4);
        let meta = &self.inner.engine.meta;
        batch.insert(meta, of_space(meta::SPACE), record.to_row());
        batch.insert(meta, of_space(meta::LIMITS), limits.to_row());
        batch.insert(meta, of_space(meta::PROGRESS), progress.to_row());
        batch.insert(meta, of_space(meta::EPOCHS), rows::epochs_row(&epochs));
        batch.commit()?;

        let state = Arc::new(State::new(number, record, limits, progress, epochs));
        self.inner.spaces_mut().states.push(state.clone());
        Ok(Space::new(self.inner.clone(), state))
    }

    /// All spaces, in the order in which they were created.
    pub fn spaces(&self) -> Vec<Space> {
        let states = self.inner.states();
        states.into_iter().map(|state| Space::new(self.inner.clone(), state)).collect()
    }

    /// The space with this id, if there is one.
    pub fn space(&self, id: &SpaceId) -> Option<Space> {
        let state = self.inner.states().into_iter().find(|state| state.id == *id)?;
        Some(Space::new(self.inner.clone(), state))
    }

    /// Keeps `record` for this peer, durably, in place of what was kept before. The store does not
    /// look into it.
    ///
    /// # Errors
    /// [`StoreError::Engine`].
    pub fn put_peer(&self, peer: &NodeId, record: &[u8]) -> Result<(), StoreError> {
        self.inner.put_meta(rows::meta_key(meta::PEER, &peer.0), record)
    }

    /// Forgets what is kept for this peer, durably; nothing happens where that is nothing.
    ///
    /// # Errors
    /// [`StoreError::Engine`].
    pub fn remove_peer(&self, peer: &NodeId) -> Result<(), StoreError> {
        let mut batch = self.inner.synced_batch(1);
        batch.remove(&self.inner.engine.meta, rows::meta_key(meta::PEER, &peer.0));
        Ok(batch.commit()?)
    }

    /// All peers with what is kept for them, ascending.
    ///
    /// # Errors
    /// [`StoreError::Damaged`], [`StoreError::Engine`].
    pub fn peers(&self) -> Result<Vec<(NodeId, Vec<u8>)>, StoreError> {
        let rows = self.inner.engine.meta.prefix([meta::PEER]);
        rows.map(|row| {
            let (key, value) = row.into_inner()?;
            let peer = rows::parse_peer_key(&key).ok_or_else(|| malformed("a peer"));
            Ok((peer.map_err(StoreError::Damaged)?, value.to_vec()))
        })
        .collect()
    }

    /// Keeps `value` under `key`, durably, in place of what was kept before.
    ///
    /// # Errors
    /// [`StoreError::Engine`].
    pub fn put_setting(&self, key: &str, value: &[u8]) -> Result<(), StoreError> {
        self.inner.put_meta(rows::meta_key(meta::SETTING, key.as_bytes()), value)
    }

    /// What [`Store::put_setting`] last kept under `key`.
    ///
    /// # Errors
    /// [`StoreError::Engine`].
    pub fn setting(&self, key: &str) -> Result<Option<Vec<u8>>, StoreError> {
        let key = rows::meta_key(meta::SETTING, key.as_bytes());
        Ok(self.inner.engine.meta.get(key)?.map(|value| value.to_vec()))
    }

    /// Bytes free for this store on its disk, not counting what only the system's administrator may
    /// use.
    ///
    /// # Errors
    /// [`StoreError::Engine`] where the operating system does not say.
    pub fn free_space(&self) -> Result<u64, StoreError> {
        self.inner.free_space()
    }

    pub(crate) fn inner(&self) -> &Arc<Inner> {
        &self.inner
    }
}

impl fmt::Debug for Store {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Store").field("folder", &self.inner.folder).finish_non_exhaustive()
    }
}

impl Inner {
    pub(crate) fn states(&self) -> Vec<Arc<State>> {
        self.spaces.read().unwrap_or_else(PoisonError::into_inner).states.clone()
    }

    /// The number that the next space will have.
    pub(crate) fn next_space(&self) -> SpaceNumber {
        self.spaces.read().unwrap_or_else(PoisonError::into_inner).next()
    }

    pub(crate) fn spaces_mut(&self) -> RwLockWriteGuard<'_, Spaces> {
        self.spaces.write().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn free_space(&self) -> Result<u64, StoreError> {
        fs4::available_space(&self.folder).map_err(|e| fjall::Error::Io(e).into())
    }

    /// A batch that is on disk when its commit returns, and that no reader sees before.
    pub(crate) fn synced_batch(&self, rows: usize) -> OwnedWriteBatch {
        OwnedWriteBatch::with_capacity(self.engine.db.clone(), rows)
            .durability(Some(PersistMode::SyncData))
    }

    pub(crate) fn put_meta(&self, key: Vec<u8>, value: &[u8]) -> Result<(), StoreError> {
        let mut batch = self.synced_batch(1);
        batch.insert(&self.engine.meta, key, value);
        Ok(batch.commit()?)
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        self.checkpoint_all();
    }
}

/// Locks, also after a panic elsewhere: what our locks guard is never left half changed.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Reads what is on record about all spaces and begins a new epoch in each.
fn load_spaces(engine: &Engine) -> Result<Spaces, OpenError> {
    let mut spaces = Spaces::default();
    let mut batch = OwnedWriteBatch::with_capacity(engine.db.clone(), 0)
        .durability(Some(PersistMode::SyncData));
    let mut numbers = BTreeMap::new();
    for kind in [meta::SPACE, meta::DELETED] {
        for row in engine.meta.prefix([kind]) {
            let (key, value) = row.into_inner()?;
            let number = key[1..].try_into().map(SpaceNumber::from_be_bytes);
            let number = number.map_err(|_| OpenError::Damaged(malformed("spaces")))?;
            numbers.insert(number, (kind, value));
        }
    }
    for (number, (kind, value)) in numbers {
        // None is left out.
        if number != spaces.next() {
            return Err(OpenError::Damaged(malformed("spaces")));
        }
        if kind == meta::DELETED {
            match *value == *rows::CLEARED {
                true => spaces.cleared.insert(number),
                false => spaces.clearing.insert(number, Cleared::Index(Vec::new())).is_none(),
            };
            continue;
        }
        let of_space = |kind| rows::meta_key(kind, &number.to_be_bytes());
        let record = SpaceRecord::parse(&value);
        let record = record.ok_or_else(|| OpenError::Damaged(malformed("a space")))?;
        let damaged = |what, fault| {
            OpenError::Damaged(Damage { space: Some(record.id), row: Row::Record(what), fault })
        };
        // Spaces of older formats have none.
        let limits = match engine.meta.get(of_space(meta::LIMITS))? {
            Some(row) => Limits::parse(&row).ok_or_else(|| damaged("limits", Fault::Malformed))?,
            None => Limits::default(),
        };

        let progress = engine.meta.get(of_space(meta::PROGRESS))?;
        let progress = progress.and_then(|row| Progress::parse(&row));
        let progress = progress.ok_or_else(|| damaged("counters", Fault::Malformed))?;
        // Were the counters behind the log, inserts would overwrite what is in it.
        let logged = last_sequence(engine, number)?;
        if logged != progress.sequence {
            let (counter, rows) = (progress.sequence, logged);
            let fault = Fault::Miscounted { what: "log rows", counter, rows };
            return Err(damaged("counters", fault));
        }

        let epochs = engine.meta.get(of_space(meta::EPOCHS))?;
        let epochs = epochs.and_then(|row| rows::parse_epochs(&row));
        let mut epochs = epochs.ok_or_else(|| damaged("epochs", Fault::Malformed))?;
        epochs.push(new_epoch(progress));
        epochs.drain(..epochs.len().saturating_sub(MAX_EPOCHS));
        batch.insert(&engine.meta, of_space(meta::EPOCHS), rows::epochs_row(&epochs));
        spaces.states.push(Arc::new(State::new(number, record, limits, progress, epochs)));
    }
    batch.commit()?;
    Ok(spaces)
}

fn last_sequence(engine: &Engine, space: SpaceNumber) -> Result<u64, OpenError> {
    let mut rows = engine.log.range(rows::log_key(space, 0)..=rows::log_key(space, u64::MAX));
    let Some(last) = rows.next_back() else { return Ok(0) };
    let (_, sequence) = rows::parse_log_key(&last.key()?)
        .ok_or_else(|| OpenError::Damaged(malformed("the log")))?;
    Ok(sequence)
}

fn new_epoch(progress: Progress) -> Epoch {
    let name = getrandom::u64().expect("the operating system has randomness");
    Epoch { name, start: progress.sequence }
}

fn malformed(what: &'static str) -> Damage {
    Damage { space: None, row: Row::Record(what), fault: Fault::Malformed }
}
