//! Pushing what is new, and taking what is pushed. To whom is decided by the space's [`Swarm`].
//!
//! [`Swarm`]: arcwise_proto::swarm::Swarm

use std::{
    collections::BTreeSet,
    sync::{Arc, Mutex},
};

use arcwise_proto::{
    Aspect, AspectKey, SpaceId,
    limits::PAGE_KEYS,
    session::Holdings,
    swarm::{self, Push},
    wire::{Announce, Message},
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

/// What waits to be pushed to one peer: [`swarm::PushQueue`], and who waits for something to push.
#[derive(Default)]
pub(crate) struct PushQueue {
    waiting: Mutex<swarm::PushQueue>,
    filled: Notify,
}

impl PushQueue {
    /// Whether there was room.
    pub(crate) fn push(&self, space: SpaceId, push: Push) -> bool {
        let pushed = lock(&self.waiting).push(space, push);
        self.filled.notify_one();
        pushed
    }

    /// The next message, without the number of its space.
    async fn next(&self) -> (SpaceId, Message) {
        loop {
            let next = lock(&self.waiting).next();
            match next {
                Some(next) => return next,
                None => self.filled.notified().await,
            }
        }
    }
}

/// Sends what is queued for a peer, on one stream, until the connection ends.
pub(crate) async fn send(peer: Arc<Peer>) -> Result<(), FrameError> {
    let mut writer: Option<FrameWriter> = None;
    loop {
        let (space, mut message) = peer.pushes.next().await;
        // The peer may have left the space while this waited.
        let Some(theirs) = peer.space(&space).map(|theirs| theirs.number) else { continue };
        if let Some(space) = message.pushed_in() {
            *space = theirs;
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
async fn take(
    inner: &Arc<Inner>,
    peer: &Arc<Peer>,
    mut message: Message,
    ingest: &mut Ingest,
) -> bool {
    let Some(number) = message.pushed_in().map(|space| *space) else {
        inner.fault(peer, &format!("a {} on a broadcast stream", message.kind()));
        return false;
    };
    // We may have left it while this was on its way.
    let Some(space) = inner.space_numbered(number) else { return true };
    // Only who has proven to be in the space may add to it.
    if peer.shared(&space.id()).await.is_none() {
        inner.fault(peer, "a broadcast into a space that it is not in");
        return false;
    }
    let result = match message {
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
    let arcs = lock(&space.swarm).own_arcs();
    keys.retain(|key| arcs.contains(key.location));
    let store = space.store.clone();
    let (keys, lacking) = blocking(move || {
        let lacking = store.lacks(&keys)?;
        Ok::<_, StoreError>((keys, lacking))
    })
    .await?;
    space.swarm(inner, &[], |swarm, now| {
        if receipt {
            let held = keys.into_iter().filter(|key| lacking.binary_search(key).is_err());
            swarm.receipt_wanted(now, peer.id, held.collect(), &lacking);
        }
        swarm.announced(now, peer.id, &lacking);
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

/// Those that are taken, with signatures that hold.
fn believable(
    inner: &Inner,
    peer: &Peer,
    space: &SpaceState,
    mut aspects: Vec<Aspect>,
) -> Vec<Aspect> {
    let arcs = lock(&space.swarm).takes();
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
