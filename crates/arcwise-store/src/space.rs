//! One space: its reads. (Its writes are in `commit`.)

use std::{
    fmt,
    sync::{
        Arc, Mutex, PoisonError, RwLock,
        atomic::{AtomicBool, Ordering},
    },
};

use arcwise_proto::{
    ArcSet, Aspect, AspectError, AspectKey, EntryAddress, Location, SpaceId, Time,
    session::{self, Filter, Holdings, Position},
};
use bytes::Bytes;
use fjall::{Readable, Snapshot};

use crate::{
    Damage, Fault, Row, StoreError,
    ids::Ids,
    rows::{self, Arcs, Epoch, Indexed, Limits, Progress, Removal, SpaceNumber, SpaceRecord, meta},
    store::{Inner, lock},
    sums::{Items, Summed},
};

/// A handle to one space of an open [`Store`](crate::Store). Cloning is cheap; the store stays open
/// as long as there is one.
#[derive(Clone)]
pub struct Space {
    pub(crate) store: Arc<Inner>,
    pub(crate) state: Arc<State>,
}

/// What is kept in memory of a space.
pub(crate) struct State {
    pub(crate) number: SpaceNumber,
    pub(crate) id: SpaceId,
    name: String,
    arcs: RwLock<Arcs>,
    limits: Mutex<Limits>,
    /// What was published before is not taken any more.
    cutoff: Mutex<Time>,
    /// Set in the commit that deletes the space: nothing is written for it after that.
    pub(crate) deleted: AtomicBool,
    /// Rows of the log that say that something was removed, which no checkpoint has made needless.
    pub(crate) removals: Mutex<Vec<u64>>,
    /// What is durable. Moves on only after a commit has returned.
    pub(crate) progress: Mutex<Progress>,
    /// The sums of what is durable.
    pub(crate) summed: Mutex<Summed>,
    pub(crate) ids: Mutex<Ids>,
    /// Ascending, the current one last; never empty.
    epochs: Vec<Epoch>,
}

/// A row of the log.
pub(crate) enum Logged {
    Aspect(Aspect),
    Removal(Removal),
}

impl Logged {
    pub(crate) fn parse(row: impl AsRef<[u8]> + Into<Bytes>) -> Result<Self, AspectError> {
        match Removal::parse(row.as_ref()) {
            Some(removal) => Ok(Self::Removal(removal)),
            None => Aspect::decode(row.into()).map(Self::Aspect),
        }
    }
}

/// How much a space holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SpaceStats {
    /// Aspects.
    pub count: u64,
    /// Bytes of their canonical encodings together.
    pub bytes: u64,
    /// Where the space's history stands: its count is of everything ever stored or removed.
    pub position: Position,
}

impl State {
    pub(crate) fn new(
        number: SpaceNumber,
        record: SpaceRecord,
        limits: Limits,
        progress: Progress,
        epochs: Vec<Epoch>,
    ) -> Self {
        let SpaceRecord { id, name, arcs } = record;
        Self {
            number,
            id,
            name,
            arcs: RwLock::new(arcs),
            limits: Mutex::new(limits),
            cutoff: Mutex::new(Time::ZERO),
            deleted: AtomicBool::new(false),
            removals: Mutex::default(),
            progress: Mutex::new(progress),
            summed: Mutex::new(Summed::empty()),
            ids: Mutex::default(),
            epochs,
        }
    }

    pub(crate) fn epoch(&self) -> Epoch {
        self.epochs[self.epochs.len() - 1]
    }

    pub(crate) fn check_not_deleted(&self) -> Result<(), StoreError> {
        match self.deleted.load(Ordering::Acquire) {
            true => Err(StoreError::SpaceDeleted(self.id)),
            false => Ok(()),
        }
    }

    pub(crate) fn limits(&self) -> Limits {
        *lock(&self.limits)
    }

    pub(crate) fn cutoff(&self) -> Time {
        *lock(&self.cutoff)
    }

    fn arcs(&self) -> Arcs {
        self.arcs.read().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl Space {
    pub(crate) fn new(store: Arc<Inner>, state: Arc<State>) -> Self {
        Self { store, state }
    }

    /// The id it was created with.
    pub fn id(&self) -> SpaceId {
        self.state.id
    }

    /// The name it was created with.
    pub fn name(&self) -> &str {
        &self.state.name
    }

    /// The part of the ring it fills towards.
    pub fn target(&self) -> ArcSet {
        self.state.arcs().target
    }

    /// Sets [`Space::target`], durably.
    ///
    /// # Errors
    /// [`StoreError::Engine`].
    pub fn set_target(&self, target: ArcSet) -> Result<(), StoreError> {
        self.set_arcs(|arcs| arcs.target = target)
    }

    /// The part of the ring it claims to hold: its store arc.
    pub fn held(&self) -> ArcSet {
        self.state.arcs().held
    }

    /// Sets [`Space::held`], durably.
    ///
    /// # Errors
    /// [`StoreError::Engine`].
    pub fn set_held(&self, held: ArcSet) -> Result<(), StoreError> {
        self.set_arcs(|arcs| arcs.held = held)
    }

    /// Adds to [`Space::held`] what of `arcs` is in the target, durably; true where that was new.
    ///
    /// # Errors
    /// [`StoreError::Engine`].
    pub fn claim(&self, arcs: &ArcSet) -> Result<bool, StoreError> {
        let covered = |of: &Arcs| of.held.covers(&arcs.intersect(&of.target));
        if covered(&self.state.arcs()) {
            return Ok(false);
        }
        self.set_arcs(|of| of.held = of.held.union(&arcs.intersect(&of.target)))?;
        Ok(true)
    }

    /// Takes what is outside `arcs` from [`Space::held`], durably.
    ///
    /// # Errors
    /// [`StoreError::Engine`].
    pub fn disclaim_outside(&self, arcs: &ArcSet) -> Result<(), StoreError> {
        self.set_arcs(|of| of.held = of.held.intersect(arcs))
    }

    /// How much it may hold.
    pub fn limits(&self) -> Limits {
        self.state.limits()
    }

    /// Sets [`Space::limits`], durably. What is held stays, also where it is more than allowed.
    ///
    /// # Errors
    /// [`StoreError::Engine`].
    pub fn set_limits(&self, limits: Limits) -> Result<(), StoreError> {
        let _one_at_a_time = lock(&self.store.records);
        self.state.check_not_deleted()?;
        let key = rows::meta_key(meta::LIMITS, &self.state.number.to_be_bytes());
        self.store.put_meta(key, &limits.to_row())?;
        *lock(&self.state.limits) = limits;
        Ok(())
    }

    /// From now on, and until the store is closed, what was published before `cutoff` is not stored:
    /// an insert says of it that it was not new. [`Space::sweep`] removes what is there. A cutoff does
    /// not move back.
    ///
    /// Nodes that compare a space hold the same only if they expire the same at about the same time; so
    /// cutoffs should be such that all come to the same: multiples of something, by the clock.
    pub fn expire(&self, cutoff: Time) {
        let mut current = lock(&self.state.cutoff);
        *current = cutoff.max(*current);
    }

    /// What was last said to [`Space::expire`].
    pub fn cutoff(&self) -> Time {
        self.state.cutoff()
    }

    fn set_arcs(&self, change: impl FnOnce(&mut Arcs)) -> Result<(), StoreError> {
        let _one_at_a_time = lock(&self.store.records);
        self.state.check_not_deleted()?;
        let mut arcs = self.state.arcs();
        change(&mut arcs);
        let record = SpaceRecord { id: self.state.id, name: self.state.name.clone(), arcs };
        let key = rows::meta_key(meta::SPACE, &self.state.number.to_be_bytes());
        self.store.put_meta(key, &record.to_row())?;
        *self.state.arcs.write().unwrap_or_else(PoisonError::into_inner) = record.arcs;
        Ok(())
    }

    /// The aspect with this key, if it is held.
    ///
    /// # Errors
    /// [`StoreError::Damaged`] where it should be there and is not, or not as it was;
    /// [`StoreError::Engine`].
    pub fn get(&self, key: &AspectKey) -> Result<Option<Aspect>, StoreError> {
        let snapshot = self.store.engine.db.snapshot();
        let Some(indexed) = self.indexed(&snapshot, key)? else { return Ok(None) };
        self.logged(&snapshot, key, indexed).map(Some)
    }

    /// The aspects with these keys, each in the place of its key. Reads them in the order in which
    /// they were stored, which is faster than one by one.
    ///
    /// # Errors
    /// As [`Space::get`], for any of them.
    pub fn get_many(&self, keys: &[AspectKey]) -> Result<Vec<Option<Aspect>>, StoreError> {
        let snapshot = self.store.engine.db.snapshot();
        let mut found = Vec::with_capacity(keys.len());
        for (place, key) in keys.iter().enumerate() {
            if let Some(indexed) = self.indexed(&snapshot, key)? {
                found.push((indexed, place));
            }
        }
        found.sort_unstable_by_key(|(indexed, _)| indexed.sequence);
        let mut aspects = vec![None; keys.len()];
        for (indexed, place) in found {
            aspects[place] = Some(self.logged(&snapshot, &keys[place], indexed)?);
        }
        Ok(aspects)
    }

    /// All aspects of this entry, in the order in which they were stored. They are all read into
    /// memory.
    ///
    /// # Errors
    /// As [`Space::get`], for any aspect at the entry's location.
    pub fn entry(&self, entry: &EntryAddress) -> Result<Vec<Aspect>, StoreError> {
        let snapshot = self.store.engine.db.snapshot();
        let location = Location::of_entry(entry);
        let first = AspectKey { location, ..AspectKey::MIN };
        let last = AspectKey { location, ..AspectKey::MAX };
        let mut found = self.index_rows(&snapshot, first, last).collect::<Result<Vec<_>, _>>()?;
        found.sort_unstable_by_key(|(_, indexed)| indexed.sequence);
        let mut aspects = Vec::with_capacity(found.len());
        for (key, indexed) in found {
            let aspect = self.logged(&snapshot, &key, indexed)?;
            // Another entry may share the location.
            if aspect.entry() == *entry {
                aspects.push(aspect);
            }
        }
        Ok(aspects)
    }

    /// Up to `limit` aspects with a local sequence number above `after`, ascending, each with that
    /// number. They are all read into memory.
    ///
    /// # Errors
    /// [`StoreError::Damaged`] names the first number whose aspect is not as it was, or is not there
    /// though nothing was ever removed; a caller that can do without it goes on after that.
    /// [`StoreError::Engine`].
    pub fn since(&self, after: u64, limit: usize) -> Result<Vec<(u64, Aspect)>, StoreError> {
        let Progress { sequence: last, removed, .. } = self.progress();
        let mut aspects = Vec::new();
        if last <= after || limit == 0 {
            return Ok(aspects);
        }
        let snapshot = self.store.engine.db.snapshot();
        let mut expected = after;
        for logged in self.log_rows(&snapshot, after + 1, last) {
            let (sequence, logged) = logged?;
            expected += 1;
            if sequence != expected {
                if removed == 0 {
                    return Err(self.damaged(Row::Log(expected), Fault::NotLogged));
                }
                expected = sequence;
            }
            if let Logged::Aspect(aspect) = logged {
                // Only the index tells another aspect from the one that was stored here.
                match self.indexed(&snapshot, &aspect.key())? {
                    Some(indexed) if indexed.sequence == sequence => {}
                    _ => return Err(self.damaged(Row::Log(sequence), Fault::NotIndexed)),
                }
                aspects.push((sequence, aspect));
                if aspects.len() == limit {
                    return Ok(aspects);
                }
            }
        }
        if expected < last && removed == 0 {
            return Err(self.damaged(Row::Log(expected + 1), Fault::NotLogged));
        }
        Ok(aspects)
    }

    /// The rows of the log from `first` to `last`, with their sequence numbers.
    pub(crate) fn log_rows(
        &self,
        snapshot: &Snapshot,
        first: u64,
        last: u64,
    ) -> impl Iterator<Item = Result<(u64, Logged), StoreError>> {
        let number = self.state.number;
        let range = rows::log_key(number, first)..=rows::log_key(number, last.max(first));
        let mut expected = first;
        snapshot.range(&self.store.engine.log, range).map(move |row| {
            let at = Row::Log(expected);
            let (key, row) = row.into_inner().map_err(|e| self.failed(at, e))?;
            let (_, sequence) =
                rows::parse_log_key(&key).ok_or_else(|| self.damaged(at, Fault::Malformed))?;
            expected = sequence + 1;
            let logged = Logged::parse(row);
            let logged =
                logged.map_err(|e| self.damaged(Row::Log(sequence), Fault::NotAnAspect(e)))?;
            Ok((sequence, logged))
        })
    }

    /// How much there is, all of it durable. Kept in memory, so that asking costs nothing.
    pub fn stats(&self) -> SpaceStats {
        let Progress { sequence, count, bytes, .. } = self.progress();
        let position = Position { epoch: self.epoch().name, count: sequence };
        SpaceStats { count, bytes, position }
    }

    /// The local sequence number that `position` stands for, if it is of this store's history.
    pub(crate) fn of_history(&self, position: Position) -> Option<u64> {
        let epochs = &self.state.epochs;
        let at = epochs.iter().position(|epoch| epoch.name == position.epoch)?;
        let end = epochs.get(at + 1).map_or_else(|| self.progress().sequence, |next| next.start);
        (epochs[at].start..=end).contains(&position.count).then_some(position.count)
    }

    pub(crate) fn progress(&self) -> Progress {
        *lock(&self.state.progress)
    }

    fn epoch(&self) -> Epoch {
        self.state.epoch()
    }

    pub(crate) fn indexed(
        &self,
        snapshot: &Snapshot,
        key: &AspectKey,
    ) -> Result<Option<Indexed>, StoreError> {
        let row = rows::index_key(self.state.number, key);
        let value = snapshot.get(&self.store.engine.index, row);
        let Some(value) = value.map_err(|e| self.failed(Row::Aspect(*key), e))? else {
            return Ok(None);
        };
        match Indexed::parse(&value) {
            Some(indexed) => Ok(Some(indexed)),
            None => Err(self.damaged(Row::Aspect(*key), Fault::Malformed)),
        }
    }

    /// The aspect that the index says is at `indexed`.
    pub(crate) fn logged(
        &self,
        snapshot: &Snapshot,
        key: &AspectKey,
        indexed: Indexed,
    ) -> Result<Aspect, StoreError> {
        let row = rows::log_key(self.state.number, indexed.sequence);
        let damaged = |fault| self.damaged(Row::Aspect(*key), fault);
        let encoding = snapshot
            .get(&self.store.engine.log, row)
            .map_err(|e| self.failed(Row::Aspect(*key), e))?
            .ok_or_else(|| damaged(Fault::NotLogged))?;
        let aspect =
            Aspect::decode(Bytes::from(encoding)).map_err(|e| damaged(Fault::NotAnAspect(e)))?;
        match aspect.key() == *key {
            true => Ok(aspect),
            false => Err(damaged(Fault::OtherContent(aspect.hash()))),
        }
    }

    /// The index from `first` to `last`, which must not be less.
    pub(crate) fn index_rows(
        &self,
        snapshot: &Snapshot,
        first: AspectKey,
        last: AspectKey,
    ) -> impl Iterator<Item = Result<(AspectKey, Indexed), StoreError>> {
        let number = self.state.number;
        let range = rows::index_key(number, &first)..=rows::index_key(number, &last);
        snapshot.range(&self.store.engine.index, range).map(|row| {
            let row_of_index = Row::Record("the index");
            let (key, value) = row.into_inner().map_err(|e| self.failed(row_of_index, e))?;
            let parsed = rows::parse_index_key(&key).zip(Indexed::parse(&value));
            let Some(((_, key), indexed)) = parsed else {
                return Err(self.damaged(row_of_index, Fault::Malformed));
            };
            Ok((key, indexed))
        })
    }

    /// What [`Holdings::list`] asks for, looked up in the log. `None` where the index is faster: the
    /// log pays off where few were stored after the point in question, and the index would be read
    /// through for nothing.
    fn list_recent(
        &self,
        first: AspectKey,
        last: AspectKey,
        filter: &Filter,
        limit: usize,
    ) -> Result<Option<Vec<AspectKey>>, StoreError> {
        let Some(mut after) = filter.stored_after else { return Ok(None) };
        let Progress { sequence, count, bytes, .. } = self.progress();
        let recent = sequence.saturating_sub(after);
        if recent == 0 || count == 0 {
            return Ok(Some(Vec::new()));
        }
        // The unit is the time to read one index row, about 0.4 us. Measured in it, an aspect from
        // the log takes 16 and one more for each 256 bytes. The index is read up to the end of the
        // range or until enough have passed, with all of them taken to be spread evenly.
        let from_log = recent.saturating_mul(16 + bytes / count / 256);
        let share = u64::from(last.location.0 - first.location.0) + 1;
        let in_range = ((u128::from(count) * u128::from(share)) >> 32) as u64;
        let until_full = (limit as u64).saturating_mul(count / recent);
        if from_log >= in_range.min(until_full) {
            return Ok(None);
        }
        let mut keys = Vec::new();
        loop {
            // Few at once, since they bring their data along.
            let part = match self.since(after, 16) {
                Ok(part) => part,
                // Of no concern where only keys are asked for.
                Err(StoreError::Damaged(_)) => return Ok(None),
                Err(e) => return Err(e),
            };
            let Some((reached, _)) = part.last() else { break };
            after = *reached;
            keys.extend(part.iter().filter_map(|(_, aspect)| {
                let recent = filter.published_since.is_none_or(|since| aspect.published() >= since);
                let key = aspect.key();
                (recent && (first..=last).contains(&key)).then_some(key)
            }));
        }
        keys.sort_unstable();
        keys.truncate(limit);
        Ok(Some(keys))
    }

    pub(crate) fn damaged(&self, row: Row, fault: Fault) -> StoreError {
        StoreError::Damaged(Damage { space: Some(self.state.id), row, fault })
    }

    /// What a failure of the engine to read `row` means.
    pub(crate) fn failed(&self, row: Row, error: fjall::Error) -> StoreError {
        match is_damage(&error) {
            true => self.damaged(row, Fault::Unreadable(error.into())),
            false => error.into(),
        }
    }
}

/// Whether the engine failed because of what is on disk, rather than because the disk did.
pub(crate) fn is_damage(error: &fjall::Error) -> bool {
    use std::io::ErrorKind::UnexpectedEof;
    match error {
        fjall::Error::Io(e) | fjall::Error::Storage(fjall::LsmError::Io(e)) => {
            e.kind() == UnexpectedEof
        }
        fjall::Error::Storage(_) | fjall::Error::Decompress(_) => true,
        _ => false,
    }
}

impl Holdings for Space {
    type Error = StoreError;
    type Items = Items;

    fn snapshot(&self) -> session::Snapshot<Items> {
        self.snapshot_now()
    }

    fn list(
        &self,
        first: AspectKey,
        last: AspectKey,
        filter: &Filter,
        limit: usize,
    ) -> Result<Vec<AspectKey>, StoreError> {
        if last < first {
            return Ok(Vec::new());
        }
        if let Some(keys) = self.list_recent(first, last, filter, limit)? {
            return Ok(keys);
        }
        let passes = |indexed: &Indexed| {
            filter.published_since.is_none_or(|since| indexed.published >= since)
                && filter.stored_after.is_none_or(|after| indexed.sequence > after)
        };
        let snapshot = self.store.engine.db.snapshot();
        self.index_rows(&snapshot, first, last)
            .filter_map(|row| match row {
                Ok((key, indexed)) => passes(&indexed).then_some(Ok(key)),
                Err(e) => Some(Err(e)),
            })
            .take(limit)
            .collect()
    }

    fn lacks(&self, keys: &[AspectKey]) -> Result<Vec<AspectKey>, StoreError> {
        let index = &self.store.engine.index;
        let mut lacking = Vec::new();
        for key in keys {
            let held = index.contains_key(rows::index_key(self.state.number, key));
            if !held.map_err(|e| self.failed(Row::Aspect(*key), e))? {
                lacking.push(*key);
            }
        }
        Ok(lacking)
    }

    fn position(&self) -> Position {
        self.stats().position
    }

    fn resolve(&self, position: Position) -> Option<u64> {
        // What was removed may be wanted again, so what was compared before that counts no more.
        self.of_history(position).filter(|count| *count >= self.progress().removed)
    }
}

impl fmt::Debug for Space {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Space")
            .field("id", &self.state.id)
            .field("name", &self.state.name)
            .finish_non_exhaustive()
    }
}
