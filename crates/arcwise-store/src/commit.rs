//! Inserts, and how those of several threads share one sync of the disk.
//!
//! Whoever inserts puts a request into the queue. One of those who wait there leads: it commits what
//! is queued, others' requests too, in one batch, and hands each its outcome. There is no thread for
//! this, and nothing waits for company: a lone insert is committed at once, and while it is, the
//! next batch gathers.

use std::{
    collections::{BTreeSet, HashMap, VecDeque},
    sync::{Arc, Condvar, Mutex, PoisonError},
    thread,
    time::{Duration, Instant},
};

use arcwise_proto::{
    Aspect, AspectKey, Time,
    limits::{ASPECT_OVERHEAD, MAX_ASPECT_DATA},
    reconcile::ShortId,
};
use fjall::Readable;

use crate::{
    Limited, Space, StoreError,
    rows::{self, Indexed, Progress, Removal, SpaceNumber, meta},
    space::State,
    store::{Inner, lock},
    sums::Changed,
};

/// Most aspects in one batch, and most bytes of their encodings: large enough that a sync's cost vanishes,
/// small enough that a batch fits a memtable and the next one does not wait long.
const BATCH_ASPECTS: usize = 4096;
const BATCH_BYTES: usize = 16 << 20;
const _: () = assert!(MAX_ASPECT_DATA + ASPECT_OVERHEAD <= BATCH_BYTES, "every aspect fits");

/// Bytes of keys and values that may wait in memory until the engine has written them to its files: four
/// times what it waits for before it begins to; small ones take twice as much. It would go on taking more,
/// where the disk is slower than the network.
const MAX_BUFFERED: u64 = 96 << 20;

/// How long an insert waits for that, at most; where the engine has failed, only a write says so.
const BUFFERED_PATIENCE: Duration = Duration::from_secs(10);

/// Bytes that must be free under a limit, and on the disk, after it was full. Guesses: more than the
/// largest aspect, and more than what the engine rewrites at a time.
const ROOM: u64 = 2 << 20;
const DISK_ROOM: u64 = 64 << 20;

/// Aspects of a batch that are summed up before it returns; those of a larger one are while the next is
/// committed, or when the sums are asked for. A guess: starting a thread takes as long as summing up some
/// fifty.
const SUMMED_AT_ONCE: usize = 256;

#[derive(Default)]
pub(crate) struct Commits {
    queue: Mutex<Queue>,
    /// Told whenever a batch is done.
    done: Condvar,
}

#[derive(Default)]
struct Queue {
    waiting: VecDeque<Request>,
    outcomes: HashMap<Ticket, Outcome>,
    next_ticket: Ticket,
    /// Whether somebody is committing.
    led: bool,
}

type Ticket = u64;

struct Request {
    ticket: Ticket,
    space: Arc<State>,
    change: Change,
}

pub(crate) enum Change {
    /// With the bytes of their encodings.
    Insert(Vec<Aspect>, usize),
    Remove(Vec<AspectKey>),
    /// Of the space as a whole.
    Delete,
}

/// For each aspect whether it was new, or for each key whether it was held.
type Outcome = Result<Vec<bool>, StoreError>;

impl Space {
    /// Stores aspects and says of each whether it was new: one that is held already, or that came
    /// before in the same call, is not stored again. All is on disk when this returns; calls from
    /// several threads at once share the cost of that. New aspects get the next local sequence
    /// numbers, in the given order.
    ///
    /// Signatures are not checked, nor locations compared with an arc: both are the caller's.
    ///
    /// # Errors
    /// [`StoreError::DiskFull`], or [`StoreError::Engine`]. More than 4096 aspects or 16 MiB are
    /// stored in several steps, of which the first may have been taken: insert all again, what was
    /// stored does no harm. [`StoreError::Full`] where a limit does not allow more, and
    /// [`StoreError::SpaceDeleted`].
    pub fn insert(&self, aspects: Vec<Aspect>) -> Result<Vec<bool>, StoreError> {
        let mut new = Vec::with_capacity(aspects.len());
        let mut aspects = aspects.into_iter().peekable();
        while aspects.peek().is_some() {
            let (mut part, mut bytes) = (Vec::new(), 0);
            while let Some(aspect) = aspects.next_if(|aspect| {
                part.len() < BATCH_ASPECTS && bytes + aspect.encoding().len() <= BATCH_BYTES
            }) {
                bytes += aspect.encoding().len();
                part.push(aspect);
            }
            new.extend(self.insert_batch(part, bytes)?);
        }
        Ok(new)
    }

    /// Where not all of it fits, as much as fits.
    fn insert_batch(&self, mut batch: Vec<Aspect>, bytes: usize) -> Outcome {
        let all = (batch.len() > 1).then(|| batch.clone());
        match (self.store.change(self.state.clone(), Change::Insert(batch, bytes)), all) {
            (Err(StoreError::Full { .. }), Some(all)) => {
                batch = all;
                let rest = batch.split_off(batch.len() / 2);
                let size = |part: &[Aspect]| part.iter().map(|a| a.encoding().len()).sum();
                let (first, second) = (size(&batch), size(&rest));
                let mut new = self.insert_batch(batch, first)?;
                new.extend(self.insert_batch(rest, second)?);
                Ok(new)
            }
            (outcome, _) => outcome,
        }
    }

    /// Whether more can be stored: a part more than the least, so that a store that was full does not
    /// take one and is full again.
    ///
    /// # Errors
    /// [`StoreError::Engine`] where the operating system does not say how much is free.
    pub fn has_room(&self) -> Result<bool, StoreError> {
        let room = |held: u64, most: Option<u64>| {
            most.is_none_or(|most| held.saturating_add(ROOM.min(most / 8)) <= most)
        };
        let held = self.store.held_bytes();
        let free = self.store.options.min_free.saturating_add(DISK_ROOM);
        Ok(room(self.stats().bytes, self.limits().max_bytes)
            && room(held, self.store.options.max_bytes)
            && self.store.free_space()? >= free)
    }

    /// Removes aspects, and says of each whether it was held. When this returns they are gone for
    /// good. Positions from before are no longer of the space's history: see
    /// [`Holdings::resolve`](arcwise_proto::session::Holdings::resolve).
    ///
    /// # Errors
    /// [`StoreError::DiskFull`], or [`StoreError::Engine`]. More than 4096 are removed in several
    /// steps, of which the first may have been taken.
    pub fn remove(&self, keys: &[AspectKey]) -> Result<Vec<bool>, StoreError> {
        let mut held = Vec::with_capacity(keys.len());
        for part in keys.chunks(BATCH_ASPECTS) {
            held.extend(self.store.change(self.state.clone(), Change::Remove(part.to_vec()))?);
        }
        Ok(held)
    }
}

impl Inner {
    pub(crate) fn change(self: &Arc<Self>, space: Arc<State>, change: Change) -> Outcome {
        let mut queue = lock(&self.commits.queue);
        let ticket = queue.next_ticket;
        queue.next_ticket += 1;
        queue.waiting.push_back(Request { ticket, space, change });
        loop {
            if let Some(outcome) = queue.outcomes.remove(&ticket) {
                return outcome;
            }
            if queue.led {
                queue = self.commits.done.wait(queue).unwrap_or_else(PoisonError::into_inner);
                continue;
            }
            let mut lead = queue.lead(&self.commits);
            drop(queue);
            lead.outcomes = self.outcomes(&lead.requests);
            drop(lead);
            queue = lock(&self.commits.queue);
        }
    }

    /// Does what is asked for. Only for the one that leads.
    fn outcomes(self: &Arc<Self>, requests: &[Request]) -> Vec<Outcome> {
        if let [Request { space, change, .. }] = requests {
            match change {
                Change::Remove(keys) => return vec![self.commit_removal(space, keys)],
                Change::Delete => return vec![self.commit_deletion(space).map(|()| Vec::new())],
                Change::Insert(..) => {}
            }
        }
        match self.commit(requests) {
            Ok(outcomes) => outcomes.into_iter().map(Ok).collect(),
            // One of them may be to blame: the others need not fail with it.
            Err(error) if error.wrote_nothing() && requests.len() > 1 => {
                requests.iter().flat_map(|r| self.outcomes(std::slice::from_ref(r))).collect()
            }
            Err(error) => vec![Err(error); requests.len()],
        }
    }

    /// Removes these. Only for the one that leads.
    fn commit_removal(self: &Arc<Self>, state: &Arc<State>, keys: &[AspectKey]) -> Outcome {
        state.check_not_deleted()?;
        let engine = &self.engine;
        let space = Space::new(self.clone(), state.clone());
        let snapshot = engine.db.snapshot();
        let mut progress = *lock(&state.progress);
        let mut batch = self.synced_batch(3 * keys.len() + 1);
        let (mut held, mut removed) = (Vec::with_capacity(keys.len()), BTreeSet::new());
        let mut removals = Vec::new();
        for key in keys {
            let indexed = space.indexed(&snapshot, key)?.filter(|_| removed.insert(*key));
            held.push(indexed.is_some());
            let Some(Indexed { sequence, .. }) = indexed else { continue };
            let log_key = rows::log_key(state.number, sequence);
            // Of one that is missing or cannot be read, nothing can be said.
            let size = snapshot.size_of(&engine.log, log_key).ok().flatten().unwrap_or(0);
            batch.remove(&engine.index, rows::index_key(state.number, key));
            batch.remove(&engine.log, log_key);
            progress.sequence += 1;
            progress.removed = progress.sequence;
            progress.count = progress.count.saturating_sub(1);
            progress.bytes = progress.bytes.saturating_sub(size.into());
            removals.push(progress.sequence);
            let removal = Removal { key: *key, sequence };
            let log_key = rows::log_key(state.number, progress.sequence);
            batch.insert(&engine.log, log_key, removal.to_row());
        }
        if removed.is_empty() {
            return Ok(held);
        }
        let mut ids = Vec::new();
        for key in &removed {
            // Others may have the same id and location.
            let (first, last) = ShortId::of(&key.hash).hashes();
            let first = AspectKey { location: key.location, hash: first };
            let last = AspectKey { location: key.location, hash: last };
            let id = rows::id_key(state.number, key);
            let mut others = space.index_keys(&snapshot, first, last);
            let last_one = others.all(|other| {
                other.is_ok_and(|other| {
                    removed.contains(&other) || rows::id_key(state.number, &other) != id
                })
            });
            ids.extend(last_one.then_some(*key));
        }
        let key = rows::meta_key(meta::PROGRESS, &state.number.to_be_bytes());
        batch.insert(&engine.meta, key, progress.to_row());
        let mut unsummed = lock(&self.unsummed);
        batch.commit()?;
        lock(&state.removals).append(&mut removals);
        *lock(&state.progress) = progress;
        if let Some(before) = unsummed.take() {
            self.sum(before);
        }
        let keys = removed.into_iter().collect();
        let changes = vec![(state.clone(), progress.sequence, Changed::Removed { keys, ids })];
        self.sum(Unsummed { snapshot: engine.db.snapshot(), changes });
        Ok(held)
    }

    /// Commits these requests, which insert, in one batch. Only for the one that leads. Meanwhile the
    /// batch before is summed up.
    fn commit(self: &Arc<Self>, requests: &[Request]) -> Result<Vec<Vec<bool>>, StoreError> {
        let mut unsummed = lock(&self.unsummed);
        let before = unsummed.take();
        let (outcomes, now) = thread::scope(|scope| {
            if let Some(before) = before {
                scope.spawn(|| self.sum(before));
            }
            self.insert(requests)
        })?;
        match now {
            // A thread would cost more than it saves.
            Some(now) if now.len() < SUMMED_AT_ONCE => self.sum(now),
            now => *unsummed = now,
        }
        Ok(outcomes)
    }

    /// Commits these requests, which insert, in one batch. What is stored when this returns is to be summed
    /// up.
    fn insert(
        &self,
        requests: &[Request],
    ) -> Result<(Vec<Vec<bool>>, Option<Unsummed>), StoreError> {
        self.wait_for_engine();
        let engine = &self.engine;
        requests.iter().try_for_each(|request| request.space.check_not_deleted())?;
        let aspects =
            || requests.iter().flat_map(|r| r.change.inserted().iter().map(|a| (&r.space, a)));
        // Sorted, each search in the index begins near where the last one ended, which halves the
        // time they take.
        let key =
            |(space, aspect): (&Arc<State>, &Aspect)| rows::index_key(space.number, &aspect.key());
        let mut keys: Vec<_> = aspects().map(key).zip(0_usize..).collect();
        keys.sort_unstable();
        let mut new = vec![false; keys.len()];
        for same in keys.chunk_by(|(a, _), (b, _)| a == b) {
            let (key, first) = same[0];
            new[first] = !engine.index.contains_key(key)?;
        }

        let mut batch = self.synced_batch(2 * keys.len() + 1);
        let mut size = 0;
        let mut moved: HashMap<SpaceNumber, Moved<'_>> = HashMap::new();
        let mut indexed = Vec::with_capacity(keys.len());
        for ((space, aspect), new) in aspects().zip(&mut new) {
            let Moved { progress, keys, cutoff, .. } =
                moved.entry(space.number).or_insert_with(|| Moved::new(space));
            *new &= aspect.published() >= *cutoff;
            if *new {
                keys.push(aspect.key());
                progress.sequence += 1;
                let encoding = aspect.encoding();
                progress.count += 1;
                progress.bytes += encoding.len() as u64;
                // A copy, so that what stays in memory does not keep the frame it arrived in.
                let key = rows::log_key(space.number, progress.sequence);
                batch.insert(&engine.log, key, &encoding[..]);
                size += encoding.len() as u64;
            }
            // Only those of new ones are looked at again.
            indexed.push(Indexed { sequence: progress.sequence, published: aspect.published() });
        }
        let outcomes = || {
            let mut new = new.iter().copied();
            let of = |r: &Request| new.by_ref().take(r.change.inserted().len()).collect();
            requests.iter().map(of).collect()
        };
        if batch.is_empty() {
            return Ok((outcomes(), None));
        }
        for (key, place) in keys.iter().filter(|(_, place)| new[*place]) {
            batch.insert(&engine.index, *key, indexed[*place].to_row());
        }
        for (number, Moved { progress, .. }) in &moved {
            let key = rows::meta_key(meta::PROGRESS, &number.to_be_bytes());
            batch.insert(&engine.meta, key, progress.to_row());
        }

        self.check_room(size, moved.values())?;
        batch.commit()?;
        let snapshot = engine.db.snapshot();
        let changes = moved.into_values().map(|Moved { space, progress, mut keys, .. }| {
            *lock(&space.progress) = progress;
            // In order, the sums that they change are near each other.
            keys.sort_unstable();
            (space.clone(), progress.sequence, Changed::Added(keys))
        });
        let changes = changes.collect();
        Ok((outcomes(), Some(Unsummed { snapshot, changes })))
    }
}

/// What a batch has done, and the sums do not show yet.
pub(crate) struct Unsummed {
    /// Right after the batch.
    snapshot: fjall::Snapshot,
    /// With the last sequence number in each space.
    changes: Vec<(Arc<State>, u64, Changed)>,
}

impl Unsummed {
    fn len(&self) -> usize {
        self.changes.iter().map(|(_, _, changed)| changed.len()).sum()
    }
}

/// What a batch adds to one space.
struct Moved<'a> {
    space: &'a Arc<State>,
    progress: Progress,
    keys: Vec<AspectKey>,
    cutoff: Time,
}

impl<'a> Moved<'a> {
    fn new(space: &'a Arc<State>) -> Self {
        Self { space, progress: *lock(&space.progress), keys: Vec::new(), cutoff: space.cutoff() }
    }
}

impl Inner {
    /// In all spaces.
    fn held_bytes(&self) -> u64 {
        self.states().iter().map(|state| lock(&state.progress).bytes).sum()
    }

    /// Waits while too much waits for the engine.
    fn wait_for_engine(&self) {
        let since = Instant::now();
        while self.engine.db.write_buffer_size() > MAX_BUFFERED
            && since.elapsed() < BUFFERED_PATIENCE
        {
            thread::sleep(Duration::from_millis(1));
        }
    }

    /// Whether limits and disk allow `size` bytes more, after which spaces are as in `moved`.
    fn check_room<'a>(
        &self,
        size: u64,
        moved: impl Iterator<Item = &'a Moved<'a>>,
    ) -> Result<(), StoreError> {
        for Moved { space, progress, .. } in moved {
            let held = lock(&space.progress).bytes;
            if let Some(most) = space.limits().max_bytes
                && progress.bytes > most.max(held)
            {
                return Err(StoreError::Full { limit: Limited::Space(space.id), held, most });
            }
        }
        if let Some(most) = self.options.max_bytes {
            let held = self.held_bytes();
            if size > 0 && held + size > most {
                return Err(StoreError::Full { limit: Limited::Store, held, most });
            }
        }
        let (free, needed) = (self.free_space()?, self.options.min_free.saturating_add(size));
        match free < needed {
            true => Err(StoreError::DiskFull { free, needed }),
            false => Ok(()),
        }
    }

    /// Sums up what a batch has done. Only for who holds `unsummed`.
    fn sum(self: &Arc<Self>, Unsummed { snapshot, changes }: Unsummed) {
        let mut view = lock(&self.view);
        *view = snapshot;
        for (space, upto, changed) in changes {
            let space = Space::new(self.clone(), space);
            space.add_up(&changed, upto, &view);
            space.checkpoint_if_due();
        }
    }

    /// Sums up all that is durable. Waits for the batch that is being committed.
    pub(crate) fn sum_all(self: &Arc<Self>) {
        let mut unsummed = lock(&self.unsummed);
        if let Some(last) = unsummed.take() {
            self.sum(last);
        }
        // An older one would keep what was removed since from being tidied up.
        *lock(&self.view) = self.engine.db.snapshot();
    }
}

impl Change {
    fn inserted(&self) -> &[Aspect] {
        match self {
            Change::Insert(aspects, _) => aspects,
            Change::Remove(_) | Change::Delete => &[],
        }
    }
}

impl Queue {
    /// Takes the lead, with what is queued as far as it fits a batch; each request fits by itself. What
    /// removes has a batch of its own.
    fn lead<'a>(&mut self, commits: &'a Commits) -> Lead<'a> {
        let (mut aspects, mut bytes) = (0, 0);
        let fitting = self.waiting.iter().take_while(|request| match &request.change {
            Change::Remove(_) | Change::Delete => false,
            Change::Insert(inserted, size) => {
                aspects += inserted.len();
                bytes += size;
                aspects <= BATCH_ASPECTS && bytes <= BATCH_BYTES
            }
        });
        let fitting = fitting.count().max(1);
        self.led = true;
        Lead { commits, requests: self.waiting.drain(..fitting).collect(), outcomes: Vec::new() }
    }
}

/// The lead, and what it is taken with. Giving it up hands out the outcomes.
struct Lead<'a> {
    commits: &'a Commits,
    requests: Vec<Request>,
    /// One for each request; none where the commit panicked.
    outcomes: Vec<Outcome>,
}

impl Drop for Lead<'_> {
    fn drop(&mut self) {
        let panicked = || Err(fjall::Error::Poisoned.into());
        let outcomes = self.outcomes.drain(..).chain(std::iter::repeat_with(panicked));
        let mut queue = lock(&self.commits.queue);
        queue.outcomes.extend(self.requests.iter().map(|r| r.ticket).zip(outcomes));
        queue.led = false;
        self.commits.done.notify_all();
    }
}

#[cfg(test)]
mod tests {
    use arcwise_proto::{ArcSet, EntryAddress, SpaceId};

    use super::*;
    use crate::{Limits, Options, Store};

    fn space(folder: &tempfile::TempDir) -> Space {
        let options = Options { min_free: 0, ..Options::default() };
        let store = Store::open(folder.path(), options).unwrap();
        let (all, limits) = (ArcSet::full(), Limits::default());
        store.create_space(&SpaceId([1; 32]), "", all.clone(), all, limits).unwrap()
    }

    fn aspect(n: u32) -> Aspect {
        Aspect::new(EntryAddress([0; 32]), n, Time::ZERO, b"data").unwrap()
    }

    #[test]
    fn what_waits_together_is_one_batch() {
        let folder = tempfile::tempdir().unwrap();
        let space = space(&folder);
        let commits = &space.store.commits;
        // As if somebody were committing.
        lock(&commits.queue).led = true;
        thread::scope(|scope| {
            let inserting: Vec<_> = (0..8)
                .map(|n| {
                    scope.spawn({
                        let space = space.clone();
                        move || space.insert(vec![aspect(n / 2), aspect(100 + n)]).unwrap()
                    })
                })
                .collect();
            while lock(&commits.queue).waiting.len() < 8 {
                thread::yield_now();
            }
            let before = space.store.engine.db.seqno();
            lock(&commits.queue).led = false;
            commits.done.notify_all();
            let new: Vec<_> = inserting.into_iter().flat_map(|t| t.join().unwrap()).collect();
            assert_eq!(new.iter().filter(|new| **new).count(), 4 + 8);
            assert_eq!(space.store.engine.db.seqno(), before + 1);
        });
        let queue = lock(&commits.queue);
        assert!(queue.waiting.is_empty() && queue.outcomes.is_empty() && !queue.led);
    }

    #[test]
    fn a_lead_takes_what_fits_and_answers_all_of_it() {
        let folder = tempfile::tempdir().unwrap();
        let space = space(&folder);
        let commits = Commits::default();
        let aspects = vec![aspect(0); BATCH_ASPECTS / 2];
        for (ticket, bytes) in [(0, 10), (1, 10), (2, 10), (3, BATCH_BYTES - 10), (4, 1)] {
            let (space, aspects) = (space.state.clone(), aspects.clone());
            let request = Request { ticket, space, change: Change::Insert(aspects, bytes) };
            lock(&commits.queue).waiting.push_back(request);
        }
        for (first, led) in [(0, 2), (2, 2), (4, 1)] {
            let lead = lock(&commits.queue).lead(&commits);
            let tickets = lead.requests.iter().map(|request| request.ticket);
            assert!(tickets.eq(first..first + led));
            // Without outcomes, as after a panic.
            drop(lead);
        }
        let queue = lock(&commits.queue);
        assert!(!queue.led && queue.outcomes.len() == 5);
        assert!(queue.outcomes.values().all(|outcome| outcome.is_err()));
    }
}
