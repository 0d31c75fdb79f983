//! Pushing what is new, and taking what is pushed. To whom is decided by the space's [`Swarm`].
//!
//! [`Swarm`]: arcwise_proto::swarm::Swarm

use std::{
    collections::{BTreeSet, VecDeque},
    sync::{Arc, Mutex},
};

use arcwise_proto::{
    Aspect, AspectKey, SpaceId,
    limits::{DATA_FRAME_TARGET, PAGE_KEYS},
    session::Holdings,
    wire::{Announce, AspectBroadcast, Graft, Message, Prune, Receipt},
};
use arcwise_store::StoreError;
use tokio::sync::Notify;

use crate::{
    event::Source,
    frame::{FrameError, FrameReader, FrameWriter},
    ingest::{Ingest, blocking},
    node::Inner,
    peer::{Peer, lock},
    space::SpaceState,
};

/// Bytes that may wait to be pushed to one peer. What does not fit is not pushed: a gossip session,
/// which is asked for at once, brings it. A guess: a second of a slow line.
const MAX_QUEUED: usize = 4 << 20;

/// One thing that is to go on a broadcast stream.
#[derive(Clone, Debug)]
pub(crate) enum Push {
    Aspect(Aspect),
    Announce { keys: Vec<AspectKey>, receipt: bool },
    Graft(Vec<AspectKey>),
    Prune(Vec<AspectKey>),
    Receipt(Vec<AspectKey>),
}

impl Push {
    fn size(&self) -> usize {
        match self {
            Push::Aspect(aspect) => aspect.encoding().len(),
            Push::Announce { keys, .. }
            | Push::Graft(keys)
            | Push::Prune(keys)
            | Push::Receipt(keys) => 16 + keys.len() * size_of::<AspectKey>(),
        }
    }
}

/// What waits to be pushed to one peer.
#[derive(Default)]
pub(crate) struct PushQueue {
    waiting: Mutex<Waiting>,
    filled: Notify,
}

#[derive(Default)]
struct Waiting {
    /// Goes first: it is small, and says nothing of what waits beside it.
    urgent: VecDeque<(SpaceId, Push)>,
    /// Aspects and announcements, in their order: who hears of an aspect before it comes asks for it.
    others: VecDeque<(SpaceId, Push)>,
    size: usize,
}

impl PushQueue {
    /// Whether there was room.
    pub(crate) fn push(&self, space: SpaceId, push: Push) -> bool {
        let mut waiting = lock(&self.waiting);
        let size = push.size();
        if waiting.size + size > MAX_QUEUED {
            return false;
        }
        waiting.size += size;
        match push {
            Push::Aspect(_) | Push::Announce { .. } => waiting.others.push_back((space, push)),
            Push::Graft(_) | Push::Prune(_) | Push::Receipt(_) => {
                waiting.urgent.push_back((space, push));
            }
        }
        drop(waiting);
        self.filled.notify_one();
        true
    }

    /// The next message, without the number of its space. Aspects of one space that wait together go
    /// together.
    async fn next(&self) -> (SpaceId, Message) {
        loop {
            {
                let mut waiting = lock(&self.waiting);
                let Waiting { urgent, others, size } = &mut *waiting;
                if let Some((space, first)) = urgent.pop_front().or_else(|| others.pop_front()) {
                    *size -= first.size();
                    return (space, Self::message(space, first, others, size));
                }
            }
            self.filled.notified().await;
        }
    }

    fn message(
        of: SpaceId,
        first: Push,
        queue: &mut VecDeque<(SpaceId, Push)>,
        queued: &mut usize,
    ) -> Message {
        let space = 0;
        let first = match first {
            Push::Aspect(first) => first,
            Push::Announce { keys, receipt } => return Announce { space, keys, receipt }.into(),
            Push::Graft(keys) => return Graft { space, keys }.into(),
            Push::Prune(keys) => return Prune { space, keys }.into(),
            Push::Receipt(keys) => return Receipt { space, keys }.into(),
        };
        let mut size = first.encoding().len();
        let mut aspects = vec![first];
        while let Some((other, Push::Aspect(next))) = queue.front()
            && *other == of
            && size + next.encoding().len() <= DATA_FRAME_TARGET
        {
            size += next.encoding().len();
            *queued -= next.encoding().len();
            aspects.push(next.clone());
            queue.pop_front();
        }
        AspectBroadcast { space, aspects }.into()
    }
}

/// Sends what is queued for a peer, on one stream, until the connection ends.
pub(crate) async fn send(peer: Arc<Peer>) -> Result<(), FrameError> {
    let mut writer: Option<FrameWriter> = None;
    loop {
        let (space, mut message) = peer.pushes.next().await;
        // The peer may have left the space while this waited.
        let Some(theirs) = peer.space(&space).map(|theirs| theirs.number) else { continue };
        match &mut message {
            Message::AspectBroadcast(AspectBroadcast { space, .. })
            | Message::Announce(Announce { space, .. })
            | Message::Graft(Graft { space, .. })
            | Message::Prune(Prune { space, .. })
            | Message::Receipt(Receipt { space, .. }) => *space = theirs,
            _ => {}
        }
        let writer = match &mut writer {
            Some(writer) => writer,
            none => {
                let stream = peer.conn.open_uni().await;
                let stream = stream.map_err(|error| FrameError::Lost(error.to_string()))?;
                none.insert(FrameWriter::new(peer.clone(), stream))
            }
        };
        writer.write(&message).await?;
    }
}

/// Takes what a peer sends on a broadcast stream: verifies aspects and stores them, and lets the swarm
/// know what was new and all else.
pub(crate) async fn receive(inner: &Arc<Inner>, peer: &Arc<Peer>, mut reader: FrameReader) {
    let mut ingest = Ingest::default();
    let mut open = true;
    while open || !ingest.is_idle() {
        tokio::select! {
            message = reader.next(), if open && ingest.has_room() => match message {
                Ok(Some(message)) => open = take(inner, peer, message, &mut ingest).await,
                Err(FrameError::Wire(error)) => {
                    inner.fault(peer, &error.to_string());
                    open = false;
                }
                // The stream is over; what came is stored all the same.
                Ok(None) | Err(FrameError::Lost(_)) => open = false,
            },
            result = ingest.next() => match result {
                Ok(stored) => {
                    let Some(space) = inner.space(&stored.space) else { continue };
                    let new = stored.new_keys();
                    space.swarm(inner, &[], |swarm, _| swarm.pushed(peer.id, &new, &stored.again));
                    let source = Source::Broadcast(peer.id);
                    inner.stored(&space, &stored.new, source);
                }
                Err(error) => {
                    inner.not_stored(&error);
                    for space in lock(&inner.spaces).clone() {
                        space.swarm(inner, &[], |swarm, _| swarm.not_stored(&peer.id));
                    }
                    tracing::debug!(%error, "a broadcast was not stored; gossip brings it again");
                }
            }
        }
    }
}

/// Takes one message of a broadcast stream; false where it has no place there.
async fn take(inner: &Arc<Inner>, peer: &Arc<Peer>, message: Message, ingest: &mut Ingest) -> bool {
    let number = match &message {
        Message::AspectBroadcast(AspectBroadcast { space, .. })
        | Message::Announce(Announce { space, .. })
        | Message::Graft(Graft { space, .. })
        | Message::Prune(Prune { space, .. })
        | Message::Receipt(Receipt { space, .. }) => *space,
        other => {
            inner.fault(peer, &format!("a {} on a broadcast stream", other.kind()));
            return false;
        }
    };
    // We may have left it while this was on its way.
    let Some(space) = inner.space_numbered(number) else { return true };
    // Only who has proven to be in the space may add to it.
    if peer.shared(&space.id()).await.is_none() {
        inner.fault(peer, "a broadcast into a space that it is not in");
        return false;
    }
    let result = match message {
        // Without room nothing is taken; gossip brings it once there is some.
        Message::AspectBroadcast(_) if space.is_full() => Ok(()),
        Message::AspectBroadcast(broadcast) => {
            let mut aspects = believable(inner, peer, &space, broadcast.aspects);
            let keys: Vec<AspectKey> = aspects.iter().map(Aspect::key).collect();
            let again = space.swarm(inner, &[], |swarm, now| swarm.arrived(now, peer.id, &keys));
            let again: BTreeSet<AspectKey> = again.into_iter().collect();
            aspects.retain(|aspect| !again.contains(&aspect.key()));
            if !aspects.is_empty() {
                ingest.push(&space.store, aspects);
            }
            Ok(())
        }
        Message::Announce(announce) => announced(inner, peer, &space, announce).await,
        Message::Graft(graft) => grafted(inner, peer, &space, graft.keys).await,
        Message::Prune(prune) => {
            space.swarm(inner, &[], |swarm, _| swarm.pruned(&peer.id, &prune.keys));
            Ok(())
        }
        Message::Receipt(receipt) => {
            space.swarm(inner, &[], |swarm, _| swarm.receipt(peer.id, &receipt.keys));
            Ok(())
        }
        _ => Ok(()),
    };
    if let Err(error) = result {
        tracing::error!(%error, "what a peer told or asked for could not be looked up");
    }
    true
}

/// A peer says that it holds these.
async fn announced(
    inner: &Arc<Inner>,
    peer: &Arc<Peer>,
    space: &Arc<SpaceState>,
    announce: Announce,
) -> Result<(), StoreError> {
    let Announce { mut keys, receipt, .. } = announce;
    let arcs = space.store.held().union(&space.store.target());
    keys.retain(|key| arcs.contains(key.location));
    let store = space.store.clone();
    let (keys, lacking) = blocking(move || {
        let lacking = store.lacks(&keys)?;
        Ok::<_, StoreError>((keys, lacking))
    })
    .await?;
    let full = space.is_full();
    space.swarm(inner, &[], |swarm, now| {
        if receipt {
            let held = keys.into_iter().filter(|key| lacking.binary_search(key).is_err());
            swarm.receipt_wanted(now, peer.id, held.collect(), &lacking);
        }
        if !full {
            swarm.announced(now, peer.id, &lacking);
        }
    });
    Ok(())
}

/// A peer asks for these, and to be pushed what is new.
async fn grafted(
    inner: &Arc<Inner>,
    peer: &Arc<Peer>,
    space: &Arc<SpaceState>,
    keys: Vec<AspectKey>,
) -> Result<(), StoreError> {
    space.swarm(inner, &[], |swarm, _| swarm.grafted(&peer.id, &keys));
    push(inner, peer, space, keys).await
}

/// Reads aspects and queues them for a peer.
pub(crate) async fn push(
    inner: &Arc<Inner>,
    peer: &Arc<Peer>,
    space: &Arc<SpaceState>,
    keys: Vec<AspectKey>,
) -> Result<(), StoreError> {
    for keys in keys.chunks(PAGE_KEYS / 16) {
        let (store, keys) = (space.store.clone(), keys.to_vec());
        let found = blocking(move || store.get_many(&keys)).await?;
        for aspect in found.into_iter().flatten() {
            if !peer.pushes.push(space.id(), Push::Aspect(aspect)) {
                space.swarm(inner, &[], |swarm, now| swarm.heard(now, &peer.id, false));
                return Ok(());
            }
        }
    }
    Ok(())
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

#[cfg(test)]
mod tests {
    use arcwise_proto::{EntryAddress, Time};

    use super::*;

    #[tokio::test]
    async fn what_is_urgent_goes_first_and_the_rest_in_order() {
        let (queue, space) = (PushQueue::default(), SpaceId([1; 32]));
        let aspect = |n| Aspect::new(EntryAddress([n; 32]), 1, Time::ZERO, b"x").unwrap();
        let announce = Push::Announce { keys: vec![aspect(1).key()], receipt: true };
        for push in [
            Push::Aspect(aspect(1)),
            Push::Aspect(aspect(2)),
            announce,
            Push::Receipt(vec![aspect(3).key()]),
            Push::Aspect(aspect(4)),
        ] {
            assert!(queue.push(space, push));
        }
        let mut order = Vec::new();
        for _ in 0..4 {
            order.push(queue.next().await.1.kind().to_string());
        }
        assert_eq!(
            order,
            ["Receipt", "msgGspAspectBroadcast", "Announce", "msgGspAspectBroadcast"]
        );
        assert_eq!(lock(&queue.waiting).size, 0);
    }
}
