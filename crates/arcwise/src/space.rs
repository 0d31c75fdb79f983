//! A space, as its application uses it.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use arcwise_proto::{
    ArcSet, Aspect, AspectError, AspectKey, EntryAddress, Location, NodeId, SpaceId, Time,
    capture::TapedSwarm,
    limits::MAX_DIRECT,
    session::{Digest, Holdings, LocalSpace, PeerSpace, Report, shared_arcs},
    swarm::{Overview, WaitId},
};
use arcwise_store::{Keep, Limits, SpaceStats, StoreError};
use bytes::Bytes;
use tokio::sync::{mpsc, oneshot, watch};
use tokio_util::sync::CancellationToken;

use crate::{
    Share,
    error::{RequestError, SyncError},
    event::{Event, Source},
    fill::Intake,
    find::{self, Found},
    gossip::{self, Purpose},
    ingest::{blocking, store},
    node::{Inner, Running},
    options,
    peer::{Peer, lock},
    progress::{Meter, Progress},
    request::{self, DirectMessage},
    upkeep,
};

/// How many messages may wait for an application that is slow to take them.
const DIRECT_QUEUE: usize = 64;

/// Aspects whose copies are waited for at a time; more follow. A guess.
const WAITED_FOR: usize = 4096;

/// How often who waits for copies is told how far it is. A guess: people do not read faster.
const TELL_COPIES: Duration = Duration::from_millis(250);

/// How long to wait where too much is waited for already.
const FULL_OF_WAITS: Duration = Duration::from_millis(500);

/// What the node keeps of a space while it runs.
pub(crate) struct SpaceState {
    pub(crate) store: arcwise_store::Space,
    /// This node's number for it on every connection, from 1.
    pub(crate) number: u32,
    pub(crate) direct: Mutex<Option<mpsc::Sender<DirectMessage>>>,
    /// Moves on whenever less is claimed than before: what a session has shown to be held is claimed
    /// only where that has not happened meanwhile.
    pub(crate) claims: AtomicU64,
    /// Who is in it, and what is to be done with whom.
    pub(crate) swarm: Mutex<TapedSwarm>,
    /// When the swarm is to be woken.
    pub(crate) wake_at: watch::Sender<Option<Time>>,
    /// Who waits for copies elsewhere.
    pub(crate) waiting: Mutex<BTreeMap<WaitId, oneshot::Sender<()>>>,
    /// The signatures of the peer records that are kept in the store.
    pub(crate) kept: Mutex<BTreeSet<[u8; 64]>>,
    /// Cancelled when the node leaves the space.
    pub(crate) left: CancellationToken,
    /// What is coming.
    pub(crate) intake: Intake,
    /// Why nothing is taken now, for want of room.
    pub(crate) full: Mutex<Option<StoreError>>,
    /// What comes from others.
    pub(crate) meter: Mutex<Meter>,
    /// Which part of the ring it was told to hold.
    pub(crate) share: Mutex<Share>,
}

impl SpaceState {
    pub(crate) fn new(
        store: arcwise_store::Space,
        number: u32,
        share: Share,
        swarm: TapedSwarm,
    ) -> Arc<Self> {
        Arc::new(Self {
            store,
            number,
            swarm: Mutex::new(swarm),
            wake_at: watch::Sender::default(),
            waiting: Mutex::default(),
            kept: Mutex::default(),
            left: CancellationToken::new(),
            direct: Mutex::default(),
            claims: AtomicU64::new(0),
            intake: Intake::default(),
            full: Mutex::default(),
            meter: Mutex::default(),
            share: Mutex::new(share),
        })
    }

    /// How it stands now.
    pub(crate) fn status(&self, inner: &Inner) -> SpaceStatus {
        let id = self.id();
        let peers = lock(&inner.peers).values().filter(|peer| peer.space(&id).is_some()).count();
        // Each lock is let go before the next is taken.
        let share = lock(&self.share).clone();
        let full = lock(&self.full).as_ref().map(ToString::to_string);
        SpaceStatus {
            id,
            name: self.store.name().to_owned(),
            stats: self.store.stats(),
            held: self.store.held(),
            target: self.store.target(),
            share,
            limits: self.store.limits(),
            full,
            peers,
            progress: Progress::of(inner, self),
        }
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
        let store = self.store.held();
        LocalSpace {
            id: self.id(),
            number: self.number,
            query: lock(&self.swarm).query().union(&store),
            store,
            target: self.store.target(),
            count: stats.count,
            bytes: stats.bytes,
            full: self.is_full(),
        }
    }

    /// Where, outside of what this node holds or fills, it holds something nonetheless: what others are
    /// to take over. Blocks.
    pub(crate) fn outside(&self) -> Result<ArcSet, StoreError> {
        let outside = self.store.held().union(&self.store.target()).complement();
        let snapshot = self.store.snapshot();
        let mut held = ArcSet::empty();
        for arc in outside.arcs() {
            let arc = ArcSet::from(arc);
            if snapshot.digest(&arc, &[])?.count > 0 {
                held = held.union(&arc);
            }
        }
        Ok(held)
    }

    /// Sets what the node fills towards, and claims no more than that. What is held outside of it stays
    /// until others hold it.
    pub(crate) async fn aim(
        self: &Arc<Self>,
        inner: &Arc<Inner>,
        target: ArcSet,
    ) -> Result<(), StoreError> {
        let state = self.clone();
        // The claim goes first: at no moment is more claimed than is kept up.
        let outside = blocking(move || {
            state.store.set_target(target.clone())?;
            state.claims.fetch_add(1, Ordering::Relaxed);
            state.store.disclaim_outside(&target)?;
            state.outside()
        });
        let outside = outside.await?;
        self.told_local(inner);
        self.swarm(inner, &[], |swarm, now| swarm.set_outside(now, outside));
        inner.emit(Event::ArcChanged { space: self.id() });
        inner.spaces_changed();
        Ok(())
    }

    /// Removes what is held in these arcs, outside of what the node holds or fills, and was stored up to
    /// this local sequence number. Gives how many aspects.
    pub(crate) async fn drop_held(
        self: &Arc<Self>,
        inner: &Arc<Inner>,
        arcs: ArcSet,
        until: u64,
    ) -> Result<u64, StoreError> {
        // What is in reach now is kept, whatever it was when this was decided.
        let ours = self.store.held().union(&self.store.target());
        let arcs = arcs.difference(&ours).complement();
        let keep = Keep { arcs, published_since: Time::ZERO, stored_after: until };
        let removed = upkeep::sweep(inner, self, &keep).await?;
        let state = self.clone();
        let outside = blocking(move || state.outside()).await?;
        self.swarm(inner, &[], |swarm, now| swarm.set_outside(now, outside));
        Ok(removed)
    }

    /// Claims no more than `keep`, although more is held.
    pub(crate) async fn disclaim_outside(
        self: &Arc<Self>,
        inner: &Arc<Inner>,
        keep: ArcSet,
    ) -> Result<(), StoreError> {
        let state = self.clone();
        blocking(move || {
            state.claims.fetch_add(1, Ordering::Relaxed);
            state.store.disclaim_outside(&keep)
        })
        .await?;
        self.told_local(inner);
        inner.emit(Event::ArcChanged { space: self.id() });
        inner.spaces_changed();
        Ok(())
    }

    /// Tells the swarm how the node stands.
    pub(crate) fn told_local(self: &Arc<Self>, inner: &Arc<Inner>) {
        let local = self.local();
        self.swarm(inner, &[], |swarm, now| swarm.set_local(now, local));
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

    /// Something was removed.
    pub(crate) fn changed(self: &Arc<Self>, inner: &Arc<Inner>) {
        let local = self.local();
        self.swarm(inner, &[], |swarm, now| {
            swarm.set_local(now, local);
            swarm.changed(now);
        });
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
#[derive(Clone, Debug, PartialEq)]
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
    /// Which part of the ring it was told to hold.
    pub share: Share,
    /// How much it may hold.
    pub limits: Limits,
    /// Why the node takes nothing new now, for people: there is no room. It goes on serving, and takes
    /// again by itself once there is.
    pub full: Option<String>,
    /// How many connected peers are in it.
    pub peers: usize,
    /// How far it is.
    pub progress: Progress,
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
        self.state.status(&self.node.inner())
    }

    /// How the space as a whole stands, as far as this node knows.
    pub fn overview(&self) -> Overview {
        lock(&self.state.swarm).overview(self.node.inner().now())
    }

    /// Stores aspects durably, then pushes them towards the peers that hold their locations. What does
    /// not belong here is kept until enough of those have it.
    ///
    /// # Errors
    /// [`PublishError::Aspect`] where one has too much data: then nothing is stored;
    /// [`PublishError::Store`] where the store fails: then it is unknown what is stored.
    pub async fn publish(&self, aspects: Vec<NewAspect>) -> Result<Published, PublishError> {
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
                self.node.inner().not_stored(error);
            }
        })?;
        self.node.inner().stored(&self.state, &stored.new, Source::Local);
        Ok(Published { keys, space: self.clone() })
    }

    /// Waits until `copies` other nodes have said that they hold each of these aspects durably. Those
    /// connected that claim or fill their locations are asked, and who connects meanwhile. Has no limit of
    /// time, and may be dropped.
    pub async fn replicated(&self, keys: &[AspectKey], copies: u32) {
        self.replicated_telling(keys, copies, |_| {}).await;
    }

    /// As [`Space::replicated`], and tells now and then how far it is.
    pub async fn replicated_telling(
        &self,
        keys: &[AspectKey],
        copies: u32,
        mut tell: impl FnMut(Replication),
    ) {
        let inner = self.node.inner();
        let mut before = 0;
        for part in keys.chunks(WAITED_FOR) {
            let (complete, mut waits) = oneshot::channel();
            let id = loop {
                let replicate = |swarm: &mut TapedSwarm, now| swarm.replicate(now, part, copies);
                match self.state.swarm(&inner, &[], replicate) {
                    Some(id) => break id,
                    // Others wait for too much already.
                    None => tokio::time::sleep(FULL_OF_WAITS).await,
                }
            };
            let _cancel = Cancel { space: &self.state, id };
            lock(&self.state.waiting).insert(id, complete);
            loop {
                let progress = lock(&self.state.swarm).progress(id);
                // It may have been complete before anybody could be told.
                let Some(progress) = progress.filter(|it| !it.is_complete()) else { break };
                let (complete, copies) = (before + progress.complete, progress.copies);
                tell(Replication { keys: keys.len(), complete, copies });
                tokio::select! {
                    _ = &mut waits => break,
                    () = tokio::time::sleep(TELL_COPIES) => {}
                }
            }
            before += part.len();
            tell(Replication { keys: keys.len(), complete: before, copies });
        }
    }

    /// All aspects of an entry, from wherever they are: from the local store, and where there are none or
    /// this node does not hold what belongs there, from peers that do, found from peer to peer if need be.
    /// What peers give is verified, and not stored.
    ///
    /// # Errors
    /// Where the store cannot be read. Who could not be asked is in [`Found::asked`].
    pub async fn get(&self, entry: EntryAddress) -> Result<Found, StoreError> {
        // Before it is read: what is claimed then is in it.
        let held = self.state.store.held().contains(Location::of_entry(&entry));
        let mut found = Found { aspects: self.entry(entry).await?, asked: Vec::new() };
        // What was published elsewhere a moment ago may not have come yet.
        if !held || found.aspects.is_empty() {
            let others = find::entry(&self.node.inner(), &self.state, entry).await;
            found.asked = others.asked;
            found.aspects.extend(others.aspects);
            found.aspects.sort_by_key(Aspect::hash);
            found.aspects.dedup_by_key(|aspect| aspect.hash());
        }
        Ok(found)
    }

    /// One aspect, from the local store.
    ///
    /// # Errors
    /// Where the store cannot be read.
    pub async fn aspect(&self, key: AspectKey) -> Result<Option<Aspect>, StoreError> {
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

    /// All aspects of an entry, asked of one peer. They are verified, not stored.
    ///
    /// # Errors
    /// See [`RequestError`].
    pub async fn query(
        &self,
        peer: NodeId,
        entry: EntryAddress,
    ) -> Result<Vec<Aspect>, RequestError> {
        let peer = find::node(&self.node.inner(), &self.state, &peer).await?;
        Ok(request::query(&peer, self.id(), entry).await?.aspects)
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

    /// Sets which part of the ring the node holds or fills. What is held outside it stays until enough
    /// others have it, and is then removed.
    ///
    /// # Errors
    /// Where the store cannot be written.
    pub async fn set_share(&self, share: Share) -> Result<(), StoreError> {
        let inner = self.node.inner();
        let id = self.id();
        let fixed = share.arcs(&id, &inner.id);
        let copies = lock(&self.state.swarm).copies();
        let store = inner.store.clone();
        let kept = share.clone();
        blocking(move || options::save(&store, &id, copies, &kept)).await?;
        *lock(&self.state.share) = share;
        if let Some(target) = fixed.clone() {
            self.state.aim(&inner, target).await?;
        }
        self.state.swarm(&inner, &[], |swarm, now| swarm.set_fixed(now, fixed));
        Ok(())
    }

    /// Removes what is held outside the part of the ring that the node holds or fills, for good; gives
    /// how many aspects. Nobody is asked whether there are other copies. Where it is cut short, it can be
    /// done again.
    ///
    /// # Errors
    /// Where the store cannot be written.
    pub async fn drop_outside(&self) -> Result<u64, StoreError> {
        let inner = self.node.inner();
        let removed = self.state.drop_held(&inner, ArcSet::full(), u64::MAX).await?;
        self.node.upkeep.notify_one();
        Ok(removed)
    }

    /// Sends a message to the application of a node in the space and waits for the reply. Where there is
    /// no connection, one is made; where it is not known how to reach the node, others are asked.
    ///
    /// # Errors
    /// See [`RequestError`].
    pub async fn send(&self, peer: NodeId, payload: Bytes) -> Result<Bytes, RequestError> {
        if payload.len() > MAX_DIRECT {
            return Err(RequestError::TooLarge(payload.len()));
        }
        let peer = find::node(&self.node.inner(), &self.state, &peer).await?;
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

/// What was published: durable here, and on its way to others.
#[derive(Clone, Debug)]
pub struct Published {
    /// The keys of the aspects, in the order in which they were given.
    pub keys: Vec<AspectKey>,
    space: Space,
}

impl Published {
    /// Waits until `copies` other nodes have it all durably: see [`Space::replicated`].
    pub async fn replicated(&self, copies: u32) {
        self.space.replicated(&self.keys, copies).await;
    }
}

/// How far waiting for copies has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Replication {
    /// How many aspects it is about.
    pub keys: usize,
    /// How many of them are known to have as many copies as are waited for; others may have.
    pub complete: usize,
    /// How many copies of each of those that are being asked for there are at least.
    pub copies: u32,
}

/// Nobody waits for copies any more.
pub(crate) struct Cancel<'a> {
    pub(crate) space: &'a SpaceState,
    pub(crate) id: WaitId,
}

impl Drop for Cancel<'_> {
    fn drop(&mut self) {
        lock(&self.space.waiting).remove(&self.id);
        lock(&self.space.swarm).cancel(self.id);
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
