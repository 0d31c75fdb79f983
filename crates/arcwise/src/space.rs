//! A space, as its application uses it.

use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering},
    },
    time::{SystemTime, UNIX_EPOCH},
};

use arcwise_proto::{
    ArcSet, Aspect, AspectError, AspectKey, EntryAddress, Location, NodeId, SpaceId, Time,
    limits::MAX_DIRECT,
    session::{Digest, Holdings, LocalSpace, PeerSpace, Report, shared_arcs},
};
use arcwise_store::{Keep, Limits, SpaceStats, StoreError};
use bytes::Bytes;
use tokio::sync::{mpsc, watch};

use crate::{
    broadcast,
    error::{RequestError, SyncError},
    event::{Event, Source},
    fill::Intake,
    gossip::{self, Purpose},
    ingest::{blocking, store},
    node::{Inner, Running},
    peer::{Peer, lock},
    request::{self, DirectMessage},
    upkeep,
};

/// How many messages may wait for an application that is slow to take them.
const DIRECT_QUEUE: usize = 64;

/// What the node keeps of a space while it runs.
pub(crate) struct SpaceState {
    pub(crate) store: arcwise_store::Space,
    /// This node's number for it on every connection, from 1.
    pub(crate) number: u32,
    pub(crate) direct: Mutex<Option<mpsc::Sender<DirectMessage>>>,
    /// Moves on whenever something was stored or removed.
    pub(crate) changes: watch::Sender<u64>,
    /// Moves on whenever less is claimed than before: what a session has shown to be held is claimed
    /// only where that has not happened meanwhile.
    pub(crate) claims: AtomicU64,
    /// What is coming.
    pub(crate) intake: Intake,
    /// Why nothing is taken now, for want of room.
    pub(crate) full: Mutex<Option<StoreError>>,
}

impl SpaceState {
    pub(crate) fn new(store: arcwise_store::Space, number: u32) -> Arc<Self> {
        Arc::new(Self {
            store,
            number,
            direct: Mutex::default(),
            changes: watch::Sender::default(),
            claims: AtomicU64::new(0),
            intake: Intake::default(),
            full: Mutex::default(),
        })
    }

    /// What is held where a peer takes it too, in short.
    pub(crate) async fn digest(
        self: &Arc<Self>,
        theirs: &PeerSpace,
        nonce: [u8; 8],
    ) -> Result<Digest, StoreError> {
        let (this, arcs) = (self.clone(), shared_arcs(&self.local(), theirs));
        blocking(move || this.store.snapshot().digest(&arcs, &nonce)).await
    }

    pub(crate) fn id(&self) -> SpaceId {
        self.store.id()
    }

    pub(crate) fn local(&self) -> LocalSpace {
        let stats = self.store.stats();
        LocalSpace {
            id: self.id(),
            number: self.number,
            store: self.store.held(),
            target: self.store.target(),
            count: stats.count,
            bytes: stats.bytes,
            full: self.is_full(),
        }
    }

    /// Whether nothing is taken now, for want of room.
    pub(crate) fn is_full(&self) -> bool {
        lock(&self.full).is_some()
    }

    /// Where this node and a peer both take; nothing where the peer is not in the space.
    pub(crate) fn shared_with(&self, peer: &Peer) -> ArcSet {
        let theirs = peer.space(&self.id());
        theirs.map_or_else(ArcSet::empty, |theirs| shared_arcs(&self.local(), &theirs))
    }

    /// Something was stored or removed.
    pub(crate) fn changed(&self) {
        self.changes.send_modify(|changes| *changes += 1);
    }
}

/// A piece of data to publish. The publish time is that of the call.
#[derive(Clone, Debug)]
pub struct NewAspect {
    /// The entry it is about.
    pub entry: EntryAddress,
    /// The application's own number for what the data is.
    pub kind: u32,
    /// At most [`MAX_ASPECT_DATA`](crate::MAX_ASPECT_DATA) bytes.
    pub data: Bytes,
    /// Whether this node's key signs it.
    pub signed: bool,
}

/// What a session is to compare.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SyncOptions {
    /// Only aspects published at this time or later.
    pub published_since: Option<Time>,
    /// By lists of all hashes, relying on nothing that is kept to compare faster. Costs some 80 bytes
    /// an aspect.
    pub full: bool,
}

/// How a space stands.
#[derive(Clone, Debug)]
pub struct SpaceStatus {
    /// The space.
    pub id: SpaceId,
    /// What this node calls it.
    pub name: String,
    /// What is stored.
    pub stats: SpaceStats,
    /// Everything in here is held, now.
    pub held: ArcSet,
    /// What the node fills towards.
    pub target: ArcSet,
    /// How much it may hold.
    pub limits: Limits,
    /// Why the node takes nothing new now, for people: there is no room. It goes on serving, and takes
    /// again by itself once there is.
    pub full: Option<String>,
    /// How many connected peers are in it.
    pub peers: usize,
}

/// A space that a node is in. Cheap to clone; keeps its node running.
#[derive(Clone)]
pub struct Space {
    pub(crate) state: Arc<SpaceState>,
    pub(crate) node: Running,
}

impl Space {
    /// The id: whoever has it can join.
    pub fn id(&self) -> SpaceId {
        self.state.id()
    }

    /// What this node calls it.
    pub fn name(&self) -> String {
        self.state.store.name().to_owned()
    }

    /// How it stands now.
    pub fn status(&self) -> SpaceStatus {
        let id = self.id();
        let peers =
            lock(&self.node.peers).values().filter(|peer| peer.space(&id).is_some()).count();
        SpaceStatus {
            id,
            name: self.name(),
            stats: self.state.store.stats(),
            held: self.state.store.held(),
            target: self.state.store.target(),
            limits: self.state.store.limits(),
            full: lock(&self.state.full).as_ref().map(ToString::to_string),
            peers,
        }
    }

    /// Stores aspects durably, then pushes them to the connected peers that hold their locations.
    /// Gives their keys, in order.
    ///
    /// # Errors
    /// [`PublishError::Aspect`] where one has too much data: then nothing is stored;
    /// [`PublishError::Store`] where the store fails: then it is unknown what is stored.
    pub async fn publish(&self, aspects: Vec<NewAspect>) -> Result<Vec<AspectKey>, PublishError> {
        let (node, state) = (self.node.inner(), self.state.clone());
        let work = move || {
            let id = state.id();
            let now = wall_clock();
            let build = |new: &NewAspect| match new.signed {
                true => Aspect::signed(&node.author, &id, new.entry, new.kind, now, &new.data),
                false => Aspect::new(new.entry, new.kind, now, &new.data),
            };
            let aspects = aspects.iter().map(build).collect::<Result<Vec<_>, _>>()?;
            let keys = aspects.iter().map(Aspect::key).collect();
            let stored = store(&state.store, aspects)?;
            Ok::<_, PublishError>((keys, stored))
        };
        let (keys, stored) = blocking(work).await.inspect_err(|error| {
            if let PublishError::Store(error) = error {
                self.node.not_stored(error);
            }
        })?;
        if !stored.new.is_empty() {
            broadcast::push(&self.node, stored.space, &stored.new, None);
            self.node.stored(stored.space, stored.new_keys(), Source::Local);
        }
        Ok(keys)
    }

    /// One aspect, from the local store.
    ///
    /// # Errors
    /// Where the store cannot be read.
    pub async fn get(&self, key: AspectKey) -> Result<Option<Aspect>, StoreError> {
        let state = self.state.clone();
        blocking(move || state.store.get(&key)).await
    }

    /// All aspects of an entry, from the local store.
    ///
    /// # Errors
    /// Where the store cannot be read.
    pub async fn entry(&self, entry: EntryAddress) -> Result<Vec<Aspect>, StoreError> {
        let state = self.state.clone();
        blocking(move || state.store.entry(&entry)).await
    }

    /// All aspects of each of these entries, in the places of their addresses, from the local store.
    /// They are all read into memory.
    ///
    /// # Errors
    /// Where the store cannot be read.
    pub async fn entries(
        &self,
        entries: Vec<EntryAddress>,
    ) -> Result<Vec<Vec<Aspect>>, StoreError> {
        let state = self.state.clone();
        blocking(move || entries.iter().map(|entry| state.store.entry(entry)).collect()).await
    }

    /// Up to `limit` aspects in the order in which this node stored them, after the given local
    /// sequence number, each with its own.
    ///
    /// # Errors
    /// Where the store cannot be read.
    pub async fn since(&self, after: u64, limit: usize) -> Result<Vec<(u64, Aspect)>, StoreError> {
        let state = self.state.clone();
        blocking(move || state.store.since(after, limit)).await
    }

    /// The connected peers that are in this space. Those that claim to hold `location` come first;
    /// the others may have something of it nonetheless.
    pub fn peers_at(&self, location: Location) -> Vec<NodeId> {
        let id = self.id();
        let mut claims: Vec<_> = lock(&self.node.peers)
            .values()
            .filter_map(|peer| Some((!peer.space(&id)?.store.contains(location), peer.id)))
            .collect();
        claims.sort_unstable();
        claims.into_iter().map(|(_, peer)| peer).collect()
    }

    /// All aspects of an entry, asked of one connected peer. They are verified, not stored.
    ///
    /// # Errors
    /// See [`RequestError`].
    pub async fn query(
        &self,
        peer: NodeId,
        entry: EntryAddress,
    ) -> Result<Vec<Aspect>, RequestError> {
        let peer = self.node.peer(&peer).ok_or(RequestError::NotConnected)?;
        request::query(&peer, self.id(), entry).await
    }

    /// Compares with one connected peer, and fetches and sends what either lacks; waits until both
    /// have stored it.
    ///
    /// # Errors
    /// See [`SyncError`]. What was stored before stays. Where one of both has no room, the other has given
    /// or taken what it could, and that is an error all the same.
    pub async fn sync(&self, peer: NodeId, options: SyncOptions) -> Result<Report, SyncError> {
        let peer = self.node.peer(&peer).ok_or(SyncError::NotConnected)?;
        let compare = Purpose::Compare(options);
        let report = gossip::open(&self.node.inner(), &peer, &self.state, compare).await?;
        match gossip::one_sided(&self.state, &report) {
            Some(error) => Err(error),
            None => Ok(report),
        }
    }

    /// Sets how many bytes of aspects' encodings the space may hold here; `None` for any number. What is
    /// held stays, also where it is more. At the limit the node takes nothing new, and goes on serving.
    ///
    /// # Errors
    /// Where the store cannot be written.
    pub async fn set_max_bytes(&self, max_bytes: Option<u64>) -> Result<(), StoreError> {
        let state = self.state.clone();
        let limits = Limits { max_bytes, ..state.store.limits() };
        blocking(move || state.store.set_limits(limits)).await?;
        self.node.upkeep.notify_one();
        Ok(())
    }

    /// Sets which part of the ring the node holds or fills, and removes what is held outside it, for good;
    /// gives how many aspects. Nobody is asked whether there are other copies. Where it is cut short, it
    /// can be done again.
    ///
    /// # Errors
    /// Where the store cannot be written.
    pub async fn set_arc(&self, arc: ArcSet) -> Result<u64, StoreError> {
        let (state, target) = (self.state.clone(), arc.clone());
        // The claim goes first: at no moment is more claimed than held.
        blocking(move || {
            state.store.set_target(target.clone())?;
            state.claims.fetch_add(1, Ordering::Relaxed);
            state.store.disclaim_outside(&target)
        })
        .await?;
        self.node.emit(Event::ArcChanged { space: self.id() });
        self.node.spaces_changed();
        let keep = Keep { arcs: arc, published_since: Time::ZERO };
        let removed = upkeep::sweep(&self.node, &self.state, &keep).await?;
        self.node.upkeep.notify_one();
        Ok(removed)
    }

    /// Sends a message to a connected peer's application and waits for the reply.
    ///
    /// # Errors
    /// See [`RequestError`].
    pub async fn send(&self, peer: NodeId, payload: Bytes) -> Result<Bytes, RequestError> {
        if payload.len() > MAX_DIRECT {
            return Err(RequestError::TooLarge(payload.len()));
        }
        let peer = self.node.peer(&peer).ok_or(RequestError::NotConnected)?;
        request::send_direct(&peer, self.id(), payload).await
    }

    /// The messages that peers' applications send in this space from now on. The last call gets
    /// them.
    pub fn messages(&self) -> mpsc::Receiver<DirectMessage> {
        let (sender, receiver) = mpsc::channel(DIRECT_QUEUE);
        *lock(&self.state.direct) = Some(sender);
        receiver
    }
}

impl std::fmt::Debug for Space {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Space").field("id", &self.id()).field("name", &self.name()).finish()
    }
}

/// Why aspects were not published.
#[derive(Debug, thiserror::Error)]
pub enum PublishError {
    /// One of them cannot be.
    #[error(transparent)]
    Aspect(#[from] AspectError),
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Publish times come from here. A clock before 1970 counts as 1970.
pub(crate) fn wall_clock() -> Time {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Time::ZERO + since
}

impl Inner {
    pub(crate) fn space_numbered(&self, number: u32) -> Option<Arc<SpaceState>> {
        lock(&self.spaces).iter().find(|space| space.number == number).cloned()
    }
}
