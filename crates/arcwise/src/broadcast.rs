//! Pushing what is new, and taking what is pushed.

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex},
};

use arcwise_proto::{
    Aspect, SpaceId,
    limits::DATA_FRAME_TARGET,
    wire::{AspectBroadcast, Message},
};
use tokio::sync::Notify;

use crate::{
    event::Source,
    frame::{FrameError, FrameReader, FrameWriter},
    ingest::Ingest,
    node::Inner,
    peer::{Peer, lock},
    space::SpaceState,
};

/// Bytes that may wait to be pushed to one peer. What does not fit is not pushed: the next gossip
/// session, which is asked for at once, brings it. A guess: a second of a slow line.
const MAX_QUEUED: usize = 4 << 20;

/// What waits to be pushed to one peer.
#[derive(Default)]
pub(crate) struct PushQueue {
    waiting: Mutex<(VecDeque<(SpaceId, Aspect)>, usize)>,
    filled: Notify,
}

impl PushQueue {
    /// Whether there was room.
    fn push(&self, space: SpaceId, aspect: Aspect) -> bool {
        let mut waiting = lock(&self.waiting);
        let size = aspect.encoding().len();
        if waiting.1 + size > MAX_QUEUED {
            return false;
        }
        waiting.1 += size;
        waiting.0.push_back((space, aspect));
        drop(waiting);
        self.filled.notify_one();
        true
    }

    /// The next frame full, of one space.
    async fn next(&self) -> (SpaceId, Vec<Aspect>) {
        loop {
            {
                let mut waiting = lock(&self.waiting);
                let (queue, queued) = &mut *waiting;
                if let Some((space, first)) = queue.pop_front() {
                    let mut size = first.encoding().len();
                    let mut aspects = vec![first];
                    while let Some((_, next)) = queue.front().filter(|(other, next)| {
                        *other == space && size + next.encoding().len() <= DATA_FRAME_TARGET
                    }) {
                        size += next.encoding().len();
                        aspects.extend(queue.pop_front().map(|(_, aspect)| aspect));
                    }
                    *queued -= size;
                    return (space, aspects);
                }
            }
            self.filled.notified().await;
        }
    }
}

/// Queues aspects for every connected peer that holds or fills their location, but `except`.
pub(crate) fn push(inner: &Inner, space: SpaceId, aspects: &[Aspect], except: Option<&Peer>) {
    let peers: Vec<Arc<Peer>> = lock(&inner.peers).values().cloned().collect();
    for peer in peers.iter().filter(|peer| except.is_none_or(|except| except.id != peer.id)) {
        let Some(theirs) = peer.space(&space).filter(|theirs| !theirs.full) else { continue };
        let covered = |aspect: &&Aspect| {
            let location = aspect.location();
            theirs.store.contains(location) || theirs.target.contains(location)
        };
        let mut covered = aspects.iter().filter(covered);
        if !covered.all(|aspect| peer.pushes.push(space, aspect.clone())) {
            peer.slot(space).nudge.notify_one();
        }
    }
}

/// Sends what is queued for a peer, on one stream, until the connection ends.
pub(crate) async fn send(peer: Arc<Peer>) -> Result<(), FrameError> {
    let mut writer: Option<FrameWriter> = None;
    loop {
        let (space, aspects) = peer.pushes.next().await;
        // The peer may have left the space while this waited.
        let Some(number) = peer.space(&space).map(|theirs| theirs.number) else { continue };
        let writer = match &mut writer {
            Some(writer) => writer,
            none => {
                let stream = peer.conn.open_uni().await;
                let stream = stream.map_err(|error| FrameError::Lost(error.to_string()))?;
                none.insert(FrameWriter::new(peer.clone(), stream))
            }
        };
        writer.write(&AspectBroadcast { space: number, aspects }.into()).await?;
    }
}

/// Takes what a peer pushes on one stream: verifies it, stores it, and pushes what was new to the
/// others.
pub(crate) async fn receive(inner: &Inner, peer: &Arc<Peer>, mut reader: FrameReader) {
    let mut ingest = Ingest::default();
    let mut open = true;
    while open || !ingest.is_idle() {
        tokio::select! {
            message = reader.next(), if open && ingest.has_room() => match message {
                Ok(Some(Message::AspectBroadcast(broadcast))) => {
                    let Some(space) = inner.space_numbered(broadcast.space) else { continue };
                    // Only who has proven to be in the space may add to it.
                    if peer.shared(&space.id()).await.is_none() {
                        inner.fault(peer, "a broadcast into a space that it is not in");
                        return;
                    }
                    // Without room nothing is taken; gossip brings it once there is some.
                    if space.is_full() {
                        continue;
                    }
                    let aspects = believable(inner, peer, &space, broadcast.aspects);
                    ingest.push(&space.store, aspects);
                }
                Ok(Some(other)) => {
                    inner.fault(peer, &format!("a {} on a broadcast stream", other.kind()));
                    open = false;
                }
                Err(FrameError::Wire(error)) => {
                    inner.fault(peer, &error.to_string());
                    open = false;
                }
                // The stream is over; what came is stored all the same.
                Ok(None) | Err(FrameError::Lost(_)) => open = false,
            },
            result = ingest.next() => match result {
                Ok(stored) if stored.new.is_empty() => {}
                Ok(stored) => {
                    push(inner, stored.space, &stored.new, Some(peer));
                    inner.stored(stored.space, stored.new_keys(), Source::Broadcast(peer.id));
                }
                Err(error) => {
                    inner.not_stored(&error);
                    tracing::debug!(%error, "a broadcast was not stored; gossip brings it again");
                }
            }
        }
    }
}

/// Those that this node holds or fills, with signatures that hold.
fn believable(
    inner: &Inner,
    peer: &Peer,
    space: &SpaceState,
    mut aspects: Vec<Aspect>,
) -> Vec<Aspect> {
    let arcs = space.store.held().union(&space.store.target());
    aspects.retain(|aspect| arcs.contains(aspect.location()));
    let id = space.id();
    aspects.retain(|aspect| match aspect.verify(&id) {
        Ok(()) => true,
        Err(error) => {
            inner.fault(peer, &error.to_string());
            false
        }
    });
    aspects
}
