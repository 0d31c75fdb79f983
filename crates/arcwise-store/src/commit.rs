//! Inserts, and how those of several threads share one sync of the disk.
//!
//! Whoever inserts puts a request into the queue. One of those who wait there leads: it commits what
//! is queued, others' requests too, in one batch, and hands each its outcome. There is no thread for
//! this, and nothing waits for company: a lone insert is committed at once, and while it is, the
//! next batch gathers.

use std::{
    collections::{HashMap, HashSet, VecDeque},
    sync::{Arc, Condvar, Mutex, PoisonError},
};

use arcwise_proto::{
    Aspect,
    limits::{ASPECT_OVERHEAD, MAX_ASPECT_DATA},
};

use crate::{
    Space, StoreError,
    rows::{self, Indexed, Progress, SpaceNumber, meta},
    space::State,
    store::{Inner, lock},
};

/// Most aspects in one batch, and about the most bytes: large enough that a sync's cost vanishes,
/// small enough that a batch fits a memtable and the next one does not wait long.
const BATCH_ASPECTS: usize = 4096;
const BATCH_BYTES: usize = 16 << 20;
const _: () = assert!(MAX_ASPECT_DATA + ASPECT_OVERHEAD <= BATCH_BYTES, "every aspect fits");

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
    aspects: Vec<Aspect>,
    bytes: usize,
}

/// For each aspect whether it was new.
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
    /// stored does no harm.
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
            new.extend(self.store.insert(self.state.clone(), part, bytes)?);
        }
        Ok(new)
    }
}

impl Inner {
    fn insert(&self, space: Arc<State>, aspects: Vec<Aspect>, bytes: usize) -> Outcome {
        let mut queue = lock(&self.commits.queue);
        let ticket = queue.next_ticket;
        queue.next_ticket += 1;
        queue.waiting.push_back(Request { ticket, space, aspects, bytes });
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
            lead.outcomes = match self.commit(&lead.requests) {
                Ok(outcomes) => outcomes.into_iter().map(Ok).collect(),
                Err(error) => vec![Err(error); lead.requests.len()],
            };
            drop(lead);
            queue = lock(&self.commits.queue);
        }
    }

    /// Commits these requests in one batch. Only for the one that leads.
    fn commit(&self, requests: &[Request]) -> Result<Vec<Vec<bool>>, StoreError> {
        let engine = &self.engine;
        let t0 = std::time::Instant::now();
        let aspects = requests.iter().map(|request| request.aspects.len()).sum::<usize>();
        let mut batch = self.synced_batch(2 * aspects + 1);
        let mut size = 0;
        let mut seen = HashSet::with_capacity(aspects);
        let mut moved: HashMap<SpaceNumber, (&State, Progress)> = HashMap::new();
        let mut outcomes = Vec::with_capacity(requests.len());

        for Request { space, aspects, .. } in requests {
            let number = space.number;
            let (_, progress) =
                moved.entry(number).or_insert_with(|| (space, *lock(&space.progress)));
            let mut outcome = Vec::with_capacity(aspects.len());
            for aspect in aspects {
                let key = rows::index_key(number, &aspect.key());
                let new = !engine.index.contains_key(key)? && seen.insert(key);
                outcome.push(new);
                if !new {
                    continue;
                }
                let encoding = aspect.encoding();
                progress.count += 1;
                progress.bytes += encoding.len() as u64;
                let sequence = progress.count;
                let indexed = Indexed { sequence, published: aspect.published() };
                // A copy, so that what stays in memory does not keep the frame it arrived in.
                batch.insert(&engine.log, rows::log_key(number, sequence), &encoding[..]);
                batch.insert(&engine.index, key, indexed.to_row());
                size += encoding.len() as u64;
            }
            outcomes.push(outcome);
        }
        if batch.is_empty() {
            return Ok(outcomes);
        }

        let (free, needed) = (self.free_space()?, self.options.min_free.saturating_add(size));
        if free < needed {
            return Err(StoreError::DiskFull { free, needed });
        }
        for (number, (_, progress)) in &moved {
            let key = rows::meta_key(meta::PROGRESS, &number.to_be_bytes());
            batch.insert(&engine.meta, key, progress.to_row());
        }
        T1.fetch_add(t0.elapsed().as_micros() as u64, std::sync::atomic::Ordering::Relaxed); let t0 = std::time::Instant::now();        batch.commit()?;
  T2.fetch_add(t0.elapsed().as_micros() as u64, std::sync::atomic::Ordering::Relaxed); if progress_dbg() { eprintln!("prep {:?} commit {:?}", T1, T2); }      for (space, progress) in moved.into_values() {
            *lock(&space.progress) = progress;
        }
        Ok(outcomes)
    }
}

impl Queue {
    /// Takes the lead, with what is queued as far as it fits a batch; each request fits by itself.
    fn lead<'a>(&mut self, commits: &'a Commits) -> Lead<'a> {
        let (mut aspects, mut bytes) = (0, 0);
        let fitting = self.waiting.iter().take_while(|request| {
            aspects += request.aspects.len();
            bytes += request.bytes;
            aspects <= BATCH_ASPECTS && bytes <= BATCH_BYTES
        });
        let fitting = fitting.count();
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

static T1: std::sync::atomic::AtomicU64 = std::sync::atomic::AtomicU64::new(0);
static T2: std::sync::atomic::AtomicU64 = std::sync::atomic::AtomicU64::new(0);
static N: std::sync::atomic::AtomicU64 = std::sync::atomic::AtomicU64::new(0);
fn progress_dbg() -> bool { N.fetch_add(1, std::sync::atomic::Ordering::Relaxed) % 100 == 99 }
