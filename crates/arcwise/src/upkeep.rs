//! What a node does by itself, now and then: removes what has expired and what is left of deleted
//! spaces, gives the disk back what that took, and finds out that there is room again.

use std::{
    collections::BTreeSet,
    sync::{Arc, atomic::Ordering},
    time::{Duration, Instant},
};

use arcwise_proto::{ArcSet, AspectKey, swarm::cutoff};
use arcwise_store::{Keep, Limited, StoreError};

use crate::{
    event::Event,
    ingest::blocking,
    node::Inner,
    peer::lock,
    records,
    space::{SpaceState, wall_clock},
};

/// How often it looks whether there is something to do.
const TICK: Duration = Duration::from_secs(1);

/// How often the peers that are known are kept for the next start, where they have changed. A guess: what
/// is lost in a crash is told again.
const KEEP_PEERS: Duration = Duration::from_secs(30);

/// Bytes of aspects removed, and the part of what is held, after which the store is compacted. Guesses:
/// rewriting the indices costs about as much as storing that many.
const COMPACT_AFTER: u64 = 64 << 20;
const COMPACT_PART: u64 = 4;

pub(crate) async fn run(inner: Arc<Inner>) {
    let mut kept = Instant::now();
    while !inner.stop.is_cancelled() {
        inner.account.remember(Instant::now(), || inner.traffic());
        if kept.elapsed() >= KEEP_PEERS {
            kept = Instant::now();
            keep_peers(&inner).await;
        }
        inner.capture.iter().for_each(|capture| capture.flush());
        if let Err(error) = once(&inner).await {
            tracing::warn!(%error, "the store could not be tidied up; it is tried again");
        }
        tokio::select! {
            () = tokio::time::sleep(TICK) => {}
            () = inner.upkeep.notified() => {}
            () = inner.stop.cancelled() => {}
        }
    }
    keep_peers(&inner).await;
}

/// Keeps the peers that are known, where that has changed.
async fn keep_peers(inner: &Inner) {
    let spaces = lock(&inner.spaces).clone();
    for space in spaces {
        let records = lock(&space.swarm).kept();
        let of_records: BTreeSet<_> = records.iter().map(|it| *it.signature()).collect();
        if std::mem::replace(&mut *lock(&space.kept), of_records.clone()) == of_records {
            continue;
        }
        let (store, id) = (inner.store.clone(), space.id());
        if let Err(error) = blocking(move || records::save(&store, &id, &records)).await {
            tracing::warn!(%error, "who is in the space could not be kept");
        }
    }
}

async fn once(inner: &Arc<Inner>) -> Result<(), StoreError> {
    let spaces = lock(&inner.spaces).clone();
    for space in &spaces {
        if space.is_full() {
            let store = space.store.clone();
            if blocking(move || store.has_room()).await? {
                inner.has_room(space);
            }
        }
        if expire(space) {
            let keep = Keep {
                arcs: ArcSet::full(),
                published_since: space.store.cutoff(),
                stored_after: u64::MAX,
            };
            sweep(inner, space, &keep).await?;
        }
    }
    loop {
        let store = inner.store.clone();
        if inner.stop.is_cancelled() || !blocking(move || store.clear()).await? {
            break;
        }
    }
    let held: u64 = spaces.iter().map(|space| space.store.stats().bytes).sum();
    if inner.removed.load(Ordering::Relaxed) > COMPACT_AFTER.max(held / COMPACT_PART) {
        let removed = inner.removed.swap(0, Ordering::Relaxed);
        tracing::info!(removed, "compacting the store");
        let store = inner.store.clone();
        blocking(move || store.compact()).await?;
    }
    Ok(())
}

/// Moves the cutoff of a space on; true where it has.
pub(crate) fn expire(space: &SpaceState) -> bool {
    let Some(max_age) = space.store.limits().max_age else { return false };
    let cutoff = cutoff(wall_clock(), max_age);
    let moved = cutoff > space.store.cutoff();
    if moved {
        space.store.expire(cutoff);
    }
    moved
}

/// Removes what a space is not to keep; gives how many.
pub(crate) async fn sweep(
    inner: &Arc<Inner>,
    space: &Arc<SpaceState>,
    keep: &Keep,
) -> Result<u64, StoreError> {
    let (mut removed, mut from) = (0, Some(AspectKey::MIN));
    while let Some(first) = from.filter(|_| !inner.stop.is_cancelled()) {
        let (store, keep) = (space.store.clone(), keep.clone());
        let before = store.stats();
        let swept = blocking(move || store.sweep(first, &keep)).await?;
        let mean = before.bytes / before.count.max(1);
        inner.removed.fetch_add(swept.removed * mean, Ordering::Relaxed);
        (removed, from) = (removed + swept.removed, swept.next);
    }
    if removed > 0 {
        inner.emit(Event::Removed { space: space.id(), aspects: removed });
        space.changed(inner);
        inner.spaces_changed();
    }
    Ok(removed)
}

impl Inner {
    /// Something was not stored: where that is for want of room, the spaces in question take nothing
    /// until there is some.
    pub(crate) fn not_stored(self: &Arc<Self>, error: &StoreError) {
        if error.is_stopped() {
            *lock(&self.stopped) = Some(error.to_string());
            self.emit(Event::StoreStopped { reason: error.to_string() });
        } else if error.is_full() {
            let spaces = lock(&self.spaces).clone();
            for space in &spaces {
                match error {
                    StoreError::Full { limit: Limited::Space(id), .. } if *id != space.id() => {}
                    _ => self.is_full(space, error),
                }
            }
        }
    }

    fn is_full(self: &Arc<Self>, space: &Arc<SpaceState>, error: &StoreError) {
        if lock(&space.full).replace(error.clone()).is_none() {
            let reason = error.to_string();
            tracing::warn!(space = %space.id().fingerprint(), reason, "nothing more is taken");
            self.emit(Event::Full { space: space.id(), reason });
            self.spaces_changed();
        }
    }

    fn has_room(self: &Arc<Self>, space: &Arc<SpaceState>) {
        if lock(&space.full).take().is_some() {
            tracing::info!(space = %space.id().fingerprint(), "there is room again");
            self.emit(Event::Room { space: space.id() });
            self.spaces_changed();
            space.changed(self);
        }
    }
}
