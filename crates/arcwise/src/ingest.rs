//! From the network to the disk: one insert at a time for each stream, with whatever arrived during
//! the one before. So batches grow as the disk gets slower, and memory does not.

use std::collections::VecDeque;

use arcwise_proto::{Aspect, AspectKey, SpaceId};
use arcwise_store::{Space, StoreError};
use tokio::task::JoinHandle;

/// Bytes that may wait for the disk on one stream; above it the stream is not read. A guess: several
/// batches, and little against the memory of a node.
const MAX_WAITING: usize = 8 << 20;

#[derive(Default)]
pub(crate) struct Ingest {
    waiting: VecDeque<(Space, Vec<Aspect>)>,
    waiting_bytes: usize,
    running: Option<JoinHandle<Result<Stored, StoreError>>>,
}

/// A batch that is durable.
pub(crate) struct Stored {
    /// Where.
    pub(crate) space: SpaceId,
    /// How many aspects it had.
    pub(crate) count: usize,
    /// Those that were not held before.
    pub(crate) new: Vec<Aspect>,
    /// Those that were.
    pub(crate) again: Vec<AspectKey>,
}

impl Stored {
    pub(crate) fn new_keys(&self) -> Vec<AspectKey> {
        self.new.iter().map(Aspect::key).collect()
    }
}

impl Ingest {
    pub(crate) fn push(&mut self, space: &Space, mut aspects: Vec<Aspect>) {
        self.waiting_bytes += bytes_of(&aspects);
        match self.waiting.back_mut() {
            Some((last, waiting)) if last.id() == space.id() => waiting.append(&mut aspects),
            _ => self.waiting.push_back((space.clone(), aspects)),
        }
        self.start();
    }

    /// Whether more may be pushed now.
    pub(crate) fn has_room(&self) -> bool {
        self.waiting_bytes < MAX_WAITING
    }

    /// Whether everything pushed is durable.
    pub(crate) fn is_idle(&self) -> bool {
        self.running.is_none()
    }

    /// The next batch that is durable. Waits for ever while there is none. May be dropped and called
    /// again without losing anything.
    pub(crate) async fn next(&mut self) -> Result<Stored, StoreError> {
        let Some(running) = &mut self.running else { return std::future::pending().await };
        let result = finished(running).await;
        self.running = None;
        self.start();
        result
    }

    fn start(&mut self) {
        if self.running.is_some() {
            return;
        }
        let Some((space, batch)) = self.waiting.pop_front() else { return };
        self.waiting_bytes -= bytes_of(&batch);
        self.running = Some(tokio::task::spawn_blocking(move || store(&space, batch)));
    }
}

fn bytes_of(aspects: &[Aspect]) -> usize {
    aspects.iter().map(|aspect| aspect.encoding().len()).sum()
}

/// Stores a batch, and waits until it is durable.
pub(crate) fn store(space: &Space, batch: Vec<Aspect>) -> Result<Stored, StoreError> {
    let count = batch.len();
    let fresh = space.insert(batch.clone())?;
    let (mut new, mut again) = (Vec::new(), Vec::new());
    for (aspect, fresh) in batch.into_iter().zip(fresh) {
        match fresh {
            true => new.push(aspect),
            false => again.push(aspect.key()),
        }
    }
    Ok(Stored { space: space.id(), count, new, again })
}

/// Runs `work`, which may wait for the disk, away from the threads that serve the network.
pub(crate) async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    finished(&mut tokio::task::spawn_blocking(work)).await
}

/// The result of blocking work; a panic in it goes on here.
async fn finished<T>(work: &mut JoinHandle<T>) -> T {
    match work.await {
        Ok(result) => result,
        Err(error) => match error.try_into_panic() {
            Ok(panic) => std::panic::resume_unwind(panic),
            // The runtime is shutting down and takes this task with it.
            Err(_) => std::future::pending().await,
        },
    }
}
