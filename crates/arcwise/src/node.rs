//! The node: what ties identity, store, network and spaces together.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::SocketAddr,
    ops::{Add, Deref},
    path::Path,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use arcwise_proto::{
    ArcSet, Aspect, AspectKey, AuthorKey, NodeId, SpaceId, Time,
    capture::TapedSwarm,
    session::{LocalSpace, replaces},
    swarm::{Address, Arrival, Change, Copies, Outside, Settings},
};
use arcwise_store::{CheckReport, Limits, Store, StoreError, StoreStats};
use iroh::{
    Endpoint, RelayMode, RelayUrl, SecretKey, Watcher,
    address_lookup::{AddrFilter, DnsAddressLookup, PkarrPublisher, PkarrResolver},
    endpoint::{Builder, MtuDiscoveryConfig, QuicTransportConfig, VarInt, presets},
};
use tokio::{
    sync::{Notify, Semaphore, broadcast, oneshot, watch},
    time::{Instant, timeout},
};
use tokio_util::{
    sync::{CancellationToken, DropGuard},
    task::TaskTracker,
};

use crate::{
    Bandwidth, Config, Event, Frame, Moved, PeerStatus, Share, Space, SpaceOptions, SpaceStatus,
    Ticket, Traffic,
    bandwidth::{self, Line},
    block,
    capture::Capture,
    connection::{self, ALPN, Unwanted, close},
    dial::{Misled, PeerRecord},
    error::{CreateError, DialFailure, JoinError, OpenError, RequestError},
    event::Source,
    identity,
    ingest::blocking,
    nearby::{self, Nearby},
    options,
    peer::{ControlRequest, Peer, PingRequest, lock},
    records,
    space::SpaceState,
    swarm,
    ticket::{Contact, MAX_OTHER_ADDRESSES, MAX_OTHERS},
    traffic::{self, Account},
    upkeep,
};

/// Events that a slow receiver may fall behind before it loses some.
const EVENTS: usize = 4096;

/// Connections at a time, at most; more are refused. A guess: 80 kB of memory each.
const MAX_CONNECTIONS: usize = 1024;

/// Connections being made at a time, in each direction: more only fill socket buffers.
const MAX_HANDSHAKES: usize = 32;

/// How long the handshake of an incoming connection may take: some round trips of the slowest line, and packets
/// that get lost.
const HANDSHAKE: Duration = Duration::from_secs(10);

/// Sessions that peers have opened, at a time, so that many who come back at once are served one after the
/// other. A guess: each has some megabytes in memory at the most.
const MAX_ANSWERING: usize = 32;

/// How often a silent path is kept alive. The longest that iroh takes: longer ones it ignores.
const KEEP_ALIVE: Duration = Duration::from_secs(5);

/// How much sooner who dialled does it: more than most round trips take. A guess.
const AHEAD: Duration = Duration::from_millis(250);

/// How often it is tried whether larger packets pass, where they did not: that costs a few of them each
/// time. That smaller ones are needed is noticed at once. A guess.
const FIND_MTU: Duration = Duration::from_secs(12 * 3600);

/// Streams of each kind that a peer may have open.
const MAX_STREAMS: u32 = 64;

/// A running node. Cheap to clone; it stops when the last handle (of it and of its [`Space`]s) is
/// dropped, or in an orderly way with [`Node::shutdown`].
#[derive(Clone)]
pub struct Node {
    pub(crate) running: Running,
}

/// Keeps a node running.
#[derive(Clone)]
pub(crate) struct Running {
    inner: Arc<Inner>,
    _guard: Arc<DropGuard>,
}

impl Running {
    pub(crate) fn inner(&self) -> Arc<Inner> {
        self.inner.clone()
    }
}

impl Deref for Running {
    type Target = Inner;

    fn deref(&self) -> &Inner {
        &self.inner
    }
}

/// What the tasks of a node share.
pub(crate) struct Inner {
    pub(crate) id: NodeId,
    pub(crate) author: AuthorKey,
    pub(crate) store: Store,
    pub(crate) capture: Option<Arc<Capture>>,
    pub(crate) endpoint: Endpoint,
    pub(crate) relays: Vec<RelayUrl>,
    swarm: SwarmConfig,
    pub(crate) spaces: Mutex<Vec<Arc<SpaceState>>>,
    /// Moves on whenever there is something to tell every peer about the spaces.
    pub(crate) changes: watch::Sender<u64>,
    pub(crate) peers: Mutex<BTreeMap<NodeId, Arc<Peer>>>,
    pub(crate) known: Mutex<BTreeMap<NodeId, PeerRecord>>,
    /// To whom a connection is being made.
    pub(crate) dialing: watch::Sender<BTreeSet<NodeId>>,
    pub(crate) dials: Semaphore,
    /// Sessions that peers have opened.
    pub(crate) answering: Semaphore,
    /// Who was heard of on the local network.
    pub(crate) nearby: Mutex<Nearby>,
    /// From where others see this node.
    outside: Mutex<Outside>,
    /// Peers that nothing is to be had to do with.
    pub(crate) blocked: Mutex<BTreeSet<NodeId>>,
    /// How long a connection may stand where no space is shared.
    pub(crate) strangers: Duration,
    /// Peers of which an address has led to another node.
    pub(crate) misled: Mutex<BTreeMap<NodeId, Misled>>,
    /// Wakes what tidies up.
    pub(crate) upkeep: Notify,
    /// Bytes of aspects removed since the store was compacted.
    pub(crate) removed: AtomicU64,
    /// Why nothing is stored any more.
    pub(crate) stopped: Mutex<Option<String>>,
    pub(crate) stop: CancellationToken,
    pub(crate) frames: broadcast::Sender<Frame>,
    pub(crate) line: Line,
    pub(crate) account: Arc<Account>,
    events: broadcast::Sender<Event>,
    tasks: TaskTracker,
    started: (Instant, Time),
}

/// What of the configuration the swarms of its spaces are told.
#[derive(Clone, Copy)]
struct SwarmConfig {
    idle: Duration,
    patience: Duration,
    push: bool,
    pull: bool,
}

/// How a node stands.
#[derive(Clone, Debug)]
pub struct NodeStatus {
    /// Its identity.
    pub id: NodeId,
    /// The UDP addresses it listens on.
    pub listening: Vec<SocketAddr>,
    /// The addresses that it tells others, as far as it knows where it may be reached.
    pub addresses: Vec<SocketAddr>,
    /// The relays that it uses where no direct path is found.
    pub relays: Vec<RelayUrl>,
    /// Why nothing is stored any more until the node is opened again, for people: the disk has failed it.
    pub stopped: Option<String>,
    /// How long it has been running.
    pub running_for: Duration,
    /// What its bytes on the network were for, since it was opened.
    pub traffic: Traffic,
    /// The same of the last minute or so, and how long that is exactly.
    pub lately: (Traffic, Duration),
    /// Its spaces.
    pub spaces: Vec<SpaceStatus>,
    /// Its connected peers.
    pub peers: Vec<PeerStatus>,
    /// Peers that it knows and keeps trying to reach.
    pub unreachable: Vec<UnreachablePeer>,
    /// Peers that are blocked: see [`Node::block`].
    pub blocked: Vec<NodeId>,
}

/// A known peer to which there is no connection.
#[derive(Clone, Debug)]
pub struct UnreachablePeer {
    /// Who it is.
    pub id: NodeId,
    /// The IP addresses that are tried.
    pub addresses: Vec<SocketAddr>,
    /// The relays that are tried.
    pub relays: Vec<RelayUrl>,
    /// Why the last attempt failed; `None` while there was none yet.
    pub failure: Option<DialFailure>,
}

impl Node {
    /// Whether there is a node in this folder; true also where the folder cannot be looked into.
    pub fn exists(folder: &Path) -> bool {
        identity::exists(folder)
    }

    /// Makes a node in the folder of `config`, without starting it, and gives its id. One that is
    /// there already, and may be running, stays as it is.
    ///
    /// # Errors
    /// See [`OpenError`].
    pub async fn init(config: &Config) -> Result<NodeId, OpenError> {
        let (folder, options) = (config.folder.clone(), config.store.clone());
        let secret = blocking(move || {
            if identity::exists(&folder) {
                return identity::load(&folder);
            }
            identity::make_folder(&folder)?;
            let _store = Store::open(&folder, options)?;
            identity::load_or_create(&folder)
        });
        Ok(NodeId(AuthorKey::from_bytes(&secret.await?).author()))
    }

    /// Opens the node whose data is in the folder of `config`, or makes a new one there. It listens,
    /// and reconnects to the peers it knows.
    ///
    /// # Errors
    /// See [`OpenError`].
    pub async fn open(config: Config) -> Result<Node, OpenError> {
        let (folder, options) = (config.folder.clone(), config.store.clone());
        let (store, secret) = blocking(move || {
            identity::make_folder(&folder)?;
            let store = Store::open(&folder, options)?;
            let secret = identity::load_or_create(&folder)?;
            Ok::<_, OpenError>((store, secret))
        })
        .await?;
        let endpoint = bind(&config, &store, SecretKey::from_bytes(&secret)).await?;
        let bandwidth = match config.bandwidth {
            Some(bandwidth) => bandwidth,
            None => bandwidth::load(&store)?,
        };
        let blocked = block::load(&store)?;
        let id = NodeId(*endpoint.id().as_bytes());
        let capture = config.capture.map(|path| {
            Capture::create(&path, id).map_err(|source| OpenError::Capture { path, source })
        });
        let capture = capture.transpose()?;
        let stop = CancellationToken::new();
        let inner = Arc::new(Inner {
            id,
            author: AuthorKey::from_bytes(&secret),
            spaces: Mutex::default(),
            store,
            capture,
            endpoint,
            relays: config.relays,
            swarm: SwarmConfig {
                idle: config.gossip_interval,
                patience: config.patience,
                push: config.push,
                pull: config.pull,
            },
            changes: watch::Sender::default(),
            peers: Mutex::default(),
            known: Mutex::default(),
            dialing: watch::Sender::default(),
            dials: Semaphore::new(MAX_HANDSHAKES),
            answering: Semaphore::new(MAX_ANSWERING),
            nearby: Mutex::default(),
            outside: Mutex::default(),
            blocked: Mutex::new(blocked),
            strangers: config.strangers,
            misled: Mutex::default(),
            upkeep: Notify::new(),
            removed: AtomicU64::new(0),
            stopped: Mutex::default(),
            stop: stop.clone(),
            frames: broadcast::Sender::new(EVENTS),
            line: Line::new(bandwidth),
            account: Arc::default(),
            events: broadcast::Sender::new(EVENTS),
            tasks: TaskTracker::new(),
            started: (Instant::now(), crate::space::wall_clock()),
        });
        inner.load_known()?;
        for (space, number) in inner.store.spaces().into_iter().zip(1..) {
            let (copies, share) = options::load(&inner.store, &space.id(), space.target())?;
            inner.enter(space, number, copies, &share)?;
        }
        inner.spawn(upkeep::run(inner.clone()));
        inner.spawn(accept(inner.clone()));
        inner.spawn(watch_addresses(inner.clone()));
        let reachable = |bound: &SocketAddr| !bound.ip().is_loopback();
        if config.local_network && inner.endpoint.bound_sockets().iter().any(reachable) {
            inner.spawn(nearby::run(inner.clone()));
        }
        Ok(Node { running: Running { inner, _guard: Arc::new(stop.drop_guard()) } })
    }

    /// This node's identity: its public key.
    pub fn id(&self) -> NodeId {
        self.running.id
    }

    /// What happens from now on.
    pub fn events(&self) -> broadcast::Receiver<Event> {
        self.running.events.subscribe()
    }

    /// Every message on the wire from now on, to watch the protocol at work.
    pub fn frames(&self) -> broadcast::Receiver<Frame> {
        self.running.frames.subscribe()
    }

    /// Makes a new space.
    ///
    /// # Errors
    /// See [`CreateError`].
    pub async fn create_space(
        &self,
        name: &str,
        options: impl Into<SpaceOptions>,
    ) -> Result<Space, CreateError> {
        let mut id = [0; 32];
        getrandom::fill(&mut id).map_err(|error| CreateError::Random(error.to_string()))?;
        // Nobody else holds anything yet.
        let held = ArcSet::full();
        Ok(self.add_space(SpaceId(id), name, held.clone(), held, options.into()).await?)
    }

    /// Joins the space of a ticket and connects to the node that made it, and to the others in it. A space
    /// that this node is in already stays as it is; so several tickets of one space may be used, one after
    /// the other.
    ///
    /// # Errors
    /// See [`JoinError`]. Whether one of them can be reached shows later: see
    /// [`Event::PeerConnected`].
    pub async fn join(&self, ticket: &Ticket) -> Result<Space, JoinError> {
        self.join_with(ticket, Share::Auto).await
    }

    /// As [`Node::join`], and says which part of the ring this node is to hold.
    ///
    /// # Errors
    /// See [`JoinError`].
    pub async fn join_with(&self, ticket: &Ticket, share: Share) -> Result<Space, JoinError> {
        if ticket.node == self.id() {
            return Err(JoinError::OwnTicket);
        }
        let space = match self.space(&ticket.space) {
            Some(space) => space,
            None => {
                let limits = Limits { max_bytes: None, max_age: ticket.max_age };
                let options = SpaceOptions { limits, copies: ticket.copies, share };
                let (held, target) = (ArcSet::empty(), ArcSet::empty());
                self.add_space(ticket.space, &ticket.name, held, target, options).await?
            }
        };
        for Contact { node, addresses, relays } in ticket.contacts().take(1 + MAX_OTHERS) {
            if node == self.id() {
                continue;
            }
            let (inner, record) = (self.running.inner(), PeerRecord::new(addresses, relays));
            blocking(move || inner.learn(node, record)).await?;
            let contact = |swarm: &mut TapedSwarm, now| swarm.contact(now, node);
            space.state.swarm(&self.running.inner, &[], contact);
        }
        Ok(space)
    }

    /// Enters a space of which `held` is held. Where it finds out itself what to fill, it begins with
    /// `target`.
    pub(crate) async fn add_space(
        &self,
        id: SpaceId,
        name: &str,
        held: ArcSet,
        target: ArcSet,
        options: SpaceOptions,
    ) -> Result<Space, StoreError> {
        let (inner, name) = (self.running.inner(), name.to_owned());
        let state = blocking(move || {
            let SpaceOptions { limits, copies, share } = options;
            let target = share.arcs(&id, &inner.id).unwrap_or(target);
            let held = held.intersect(&target);
            options::save(&inner.store, &id, copies, &share)?;
            let store = inner.store.create_space(&id, &name, target, held, limits)?;
            let number =
                lock(&inner.spaces).iter().map(|space| space.number).max().unwrap_or(0) + 1;
            inner.enter(store, number, copies, &share)
        })
        .await?;
        self.running.spaces_changed();
        Ok(Space { state, node: self.running.clone() })
    }

    /// Leaves a space and deletes all that is held of it, for good; the disk gets it back by and by.
    /// False where this node is not in it.
    ///
    /// # Errors
    /// Where the store cannot be written.
    pub async fn delete_space(&self, id: &SpaceId) -> Result<bool, StoreError> {
        let Some(space) = self.running.space(id) else { return Ok(false) };
        let (store, id) = (self.running.store.clone(), *id);
        blocking(move || store.delete_space(&id)).await?;
        lock(&self.running.spaces).retain(|space| space.id() != id);
        space.left.cancel();
        let store = self.running.store.clone();
        blocking(move || options::forget(&store, &id)).await?;
        for peer in lock(&self.running.peers).values() {
            peer.spaces.send_modify(|spaces| drop(spaces.remove(&id)));
        }
        self.running.removed.fetch_add(space.store.stats().bytes, Ordering::Relaxed);
        self.running.spaces_changed();
        self.running.upkeep.notify_one();
        Ok(true)
    }

    /// A space that this node is in.
    pub fn space(&self, id: &SpaceId) -> Option<Space> {
        let state = self.running.space(id)?;
        Some(Space { state, node: self.running.clone() })
    }

    /// The spaces that this node is in, in the order in which it entered them.
    pub fn spaces(&self) -> Vec<Space> {
        let states = lock(&self.running.spaces).clone();
        states.into_iter().map(|state| Space { state, node: self.running.clone() }).collect()
    }

    /// A ticket that lets others join a space through this node, or through one of those that are connected
    /// now; `None` where it is not in it.
    pub fn ticket(&self, space: &SpaceId) -> Option<Ticket> {
        let space = self.space(space)?;
        let (addresses, relays) = self.running.own_addresses();
        let max_age = space.state.store.limits().max_age;
        let copies = lock(&space.state.swarm).copies();
        let (node, name, others) = (self.id(), space.name(), self.running.contacts(&space.state));
        Some(Ticket { space: space.id(), name, node, addresses, relays, max_age, copies, others })
    }

    /// The UDP addresses this node listens on.
    pub fn listening(&self) -> Vec<SocketAddr> {
        self.running.endpoint.bound_sockets()
    }

    /// The connected peers.
    pub fn peers(&self) -> Vec<PeerStatus> {
        let peers = lock(&self.running.peers).clone();
        peers.values().map(|peer| peer.status(&self.running)).collect()
    }

    /// How the node stands.
    pub fn status(&self) -> NodeStatus {
        let peers = self.peers();
        let mut unreachable: Vec<_> =
            lock(&self.running.known).iter().map(|(id, record)| record.unreachable(*id)).collect();
        let blocked = self.blocked();
        unreachable.retain(|known| {
            !blocked.contains(&known.id) && peers.iter().all(|peer| peer.id != known.id)
        });
        let stopped = lock(&self.running.stopped).clone();
        let traffic = self.running.traffic();
        NodeStatus {
            traffic,
            lately: self.running.account.lately(std::time::Instant::now(), &traffic),
            id: self.id(),
            listening: self.listening(),
            addresses: self.running.own_addresses().0,
            relays: self.running.relays.clone(),
            stopped,
            running_for: self.running.started.0.elapsed(),
            spaces: self.spaces().iter().map(Space::status).collect(),
            unreachable,
            blocked: blocked.into_iter().collect(),
            peers,
        }
    }

    /// How fast this node may send and receive.
    pub fn bandwidth(&self) -> Bandwidth {
        self.running.line.bandwidth()
    }

    /// Sets how fast this node may send and receive, from now on and for the next start.
    ///
    /// # Errors
    /// Where the store cannot be written; then it counts until the node stops.
    pub async fn set_bandwidth(&self, bandwidth: Bandwidth) -> Result<(), StoreError> {
        self.running.line.set(bandwidth);
        let store = self.running.store.clone();
        blocking(move || bandwidth::save(&store, bandwidth)).await
    }

    /// Bytes free on the disk that the node's folder is on.
    ///
    /// # Errors
    /// Where the operating system does not say.
    pub async fn free_space(&self) -> Result<u64, StoreError> {
        let store = self.running.store.clone();
        blocking(move || store.free_space()).await
    }

    /// What the store holds, and what it takes on the disk.
    ///
    /// # Errors
    /// Where the disk fails.
    pub async fn store_stats(&self) -> Result<StoreStats, StoreError> {
        let store = self.running.store.clone();
        blocking(move || store.stats()).await
    }

    /// Gives the disk back what was removed. The node does it by itself after much was removed;
    /// everything else goes on meanwhile.
    ///
    /// # Errors
    /// Where the disk fails, or has no room for what is rewritten.
    pub async fn compact_store(&self) -> Result<(), StoreError> {
        let store = self.running.store.clone();
        self.running.removed.store(0, Ordering::Relaxed);
        blocking(move || store.compact()).await
    }

    /// Reads the whole store and says what in it is not as it was written. Everything else goes on
    /// meanwhile.
    ///
    /// # Errors
    /// Where the disk fails. What is merely damaged is in the report.
    pub async fn check_store(&self) -> Result<CheckReport, StoreError> {
        let store = self.running.store.clone();
        blocking(move || store.check()).await
    }

    /// Gives up the aspects that a check has found damaged, so that they are fetched again from peers
    /// that have them. Gives how many.
    ///
    /// # Errors
    /// Where the store cannot be written.
    pub async fn give_up_damaged(&self, report: CheckReport) -> Result<u64, StoreError> {
        let store = self.running.store.clone();
        let given_up = blocking(move || store.give_up(&report)).await?;
        for space in &*lock(&self.running.spaces) {
            space.claims.fetch_add(1, Ordering::Relaxed);
        }
        self.running.spaces_changed();
        let inner = self.running.inner();
        let spaces = lock(&inner.spaces).clone();
        for space in spaces {
            space.changed(&inner);
        }
        Ok(given_up)
    }

    /// Asks a connected peer for a sign of life; gives the time until it came.
    ///
    /// # Errors
    /// [`RequestError::NotConnected`], [`RequestError::Lost`], or [`RequestError::Timeout`] after
    /// five seconds.
    pub async fn ping(&self, peer: NodeId) -> Result<Duration, RequestError> {
        const PATIENCE: Duration = Duration::from_secs(5);
        let peer = self.running.peer(&peer).ok_or(RequestError::NotConnected)?;
        let (answer, ponged) = oneshot::channel();
        let start = Instant::now();
        let lost = || RequestError::Lost("it ended while waiting for a pong".to_owned());
        let request = PingRequest { space: None, answer };
        peer.control.send(ControlRequest::Ping(request)).map_err(|_| lost())?;
        let ponged = tokio::time::timeout(PATIENCE, ponged).await;
        ponged.map_err(|_| RequestError::Timeout(PATIENCE))?.map_err(|_| lost())?;
        Ok(start.elapsed())
    }

    /// Tells the peers, stops every task and closes the network. When this returns nothing of the
    /// node runs any more; its folder is free for another once the last handle is dropped.
    pub async fn shutdown(&self) {
        self.running.stop.cancel();
        self.running.tasks.close();
        self.running.tasks.wait().await;
        self.running.capture.iter().for_each(|capture| capture.flush());
        self.running.endpoint.close().await;
    }
}

impl std::fmt::Debug for Node {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Node").field("id", &self.id()).finish_non_exhaustive()
    }
}

impl Inner {
    /// The time that drives the protocol's machines: never goes back.
    pub(crate) fn now(&self) -> Time {
        self.started.1 + self.started.0.elapsed()
    }

    /// When that clock will show `time`.
    pub(crate) fn instant(&self, time: Time) -> Instant {
        self.started.0 + time.since(self.started.1)
    }

    /// What bytes on the network were for, so far.
    pub(crate) fn traffic(&self) -> Traffic {
        let peers = lock(&self.peers).clone();
        let open = peers.values().map(|peer| traffic::udp_bytes(&peer.conn.stats()));
        self.account.traffic(open.fold(Moved::default(), Moved::add))
    }

    pub(crate) fn emit(&self, event: Event) {
        // Nobody may be listening.
        let _ = self.events.send(event);
    }

    /// These have become durable, and were not held before.
    pub(crate) fn stored(
        self: &Arc<Self>,
        space: &Arc<SpaceState>,
        new: &[Aspect],
        source: Source,
    ) {
        if new.is_empty() {
            return;
        }
        let keys: Vec<AspectKey> = new.iter().map(Aspect::key).collect();
        let stats = space.store.stats();
        let sequence = stats.position.count;
        let arrival = match source {
            Source::Local => Arrival::Authored,
            Source::Broadcast(peer) => Arrival::Pushed(peer),
            Source::Gossip(_) | Source::Import => Arrival::Fetched,
        };
        if source != Source::Local {
            let bytes: usize = new.iter().map(|aspect| aspect.encoding().len()).sum();
            lock(&space.meter).add(self.now(), new.len() as u64, bytes as u64);
        }
        space.swarm(self, new, |swarm, now| {
            swarm.set_amount(now, stats.count, stats.bytes);
            swarm.stored(now, &keys, arrival, sequence);
        });
        self.emit(Event::Stored { space: space.id(), keys, source });
    }

    /// Takes part in a space from now on.
    fn enter(
        self: &Arc<Self>,
        store: arcwise_store::Space,
        number: u32,
        copies: Copies,
        share: &Share,
    ) -> Result<Arc<SpaceState>, StoreError> {
        let id = store.id();
        let mut seed = [0; 8];
        // Without it nodes may act at the same moment, and nothing else changes.
        let _ = getrandom::fill(&mut seed);
        let settings = Settings {
            copies,
            fixed: share.arcs(&id, &self.id),
            quota: store.limits().max_bytes,
            idle: self.swarm.idle,
            patience: self.swarm.patience,
            push: self.swarm.push,
            pull: self.swarm.pull,
            seed: u64::from_le_bytes(seed),
        };
        let tape = self.capture.as_ref().map(|capture| capture.tape(number));
        let swarm = TapedSwarm::new(self.now(), self.author.clone(), id, settings, tape);
        let space = SpaceState::new(store, number, share.clone(), swarm);
        // Nothing that has expired is taken, from the beginning.
        upkeep::expire(&space);
        lock(&self.spaces).push(space.clone());
        let kept = records::load(&self.store, &id)?;
        let (local, addresses) = (space.local(), self.all_addresses());
        let outside = space.outside()?;
        let contacts: Vec<NodeId> = lock(&self.known).keys().copied().collect();
        let blocked = lock(&self.blocked).clone();
        space.swarm(self, &[], |swarm, now| {
            swarm.set_blocked(now, blocked);
            swarm.set_addresses(now, addresses);
            swarm.set_local(now, local);
            swarm.set_outside(now, outside);
            kept.into_iter().for_each(|record| swarm.restore(now, record));
            contacts.into_iter().for_each(|contact| swarm.contact(now, contact));
            swarm.tick(now);
        });
        self.spawn(swarm::run(self.clone(), space.clone()));
        Ok(space)
    }

    /// The same as [`Inner::own_addresses`], as records have it.
    fn all_addresses(&self) -> Vec<Address> {
        let (addresses, relays) = self.own_addresses();
        let addresses = addresses.into_iter().map(Address::Ip);
        addresses.chain(relays.iter().map(|url| Address::Relay(url.to_string()))).collect()
    }

    /// Where this node may be reached, as far as it knows.
    pub(crate) fn own_addresses(&self) -> (Vec<SocketAddr>, Vec<RelayUrl>) {
        let address = self.endpoint.addr();
        let mut addresses = self.endpoint.bound_sockets();
        addresses.retain(|address| !address.ip().is_unspecified());
        addresses.extend(address.ip_addrs());
        addresses.sort();
        addresses.dedup();
        (addresses, address.relay_urls().cloned().collect())
    }

    /// A peer in a space of ours has said from where it sees this node.
    pub(crate) fn seen_by(self: &Arc<Self>, peer: &Peer) {
        let seen_at = peer.met.get().and_then(|met| met.seen_at);
        let Some((at, seen_at)) = peer.address().zip(seen_at) else { return };
        let changes = lock(&self.outside).seen(self.now(), peer.id, at.ip(), seen_at);
        self.has_moved(changes);
    }

    /// The network layer tells peers, and [`watch_addresses`] the swarms.
    fn has_moved(self: &Arc<Self>, changes: Vec<Change>) {
        if changes.is_empty() {
            return;
        }
        let endpoint = self.endpoint.clone();
        self.spawn(async move {
            for change in changes {
                match change {
                    Change::Add(address) => endpoint.add_external_addr(address).await,
                    Change::Remove(address) => drop(endpoint.remove_external_addr(&address).await),
                }
            }
        });
    }

    /// Some of the connected peers in a space, for tickets: those that are connected for longest.
    fn contacts(&self, space: &SpaceState) -> Vec<Contact> {
        let mut peers: Vec<_> = lock(&self.peers).values().cloned().collect();
        peers.retain(|peer| peer.space(&space.id()).is_some());
        peers.sort_by_key(|peer| peer.since);
        let contact = |peer: &Arc<Peer>| {
            // Where it says that it may be reached, and not from where it has come.
            let said = lock(&space.swarm).addresses_of(&peer.id).to_vec();
            let said = said.into_iter().take(MAX_OTHER_ADDRESSES);
            let mut contact = Contact { node: peer.id, addresses: Vec::new(), relays: Vec::new() };
            for address in said {
                match address {
                    Address::Ip(address) => contact.addresses.push(address),
                    Address::Relay(url) => contact.relays.extend(url.parse()),
                }
            }
            contact
        };
        let contacts = peers.iter().map(contact);
        let reachable = |it: &Contact| !it.addresses.is_empty() || !it.relays.is_empty();
        contacts.filter(reachable).take(MAX_OTHERS).collect()
    }

    pub(crate) fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        self.tasks.spawn(task);
    }

    pub(crate) fn space(&self, id: &SpaceId) -> Option<Arc<SpaceState>> {
        lock(&self.spaces).iter().find(|space| space.id() == *id).cloned()
    }

    pub(crate) fn local_spaces(&self) -> Vec<LocalSpace> {
        lock(&self.spaces).iter().map(|space| space.local()).collect()
    }

    pub(crate) fn spaces_changed(&self) {
        self.changes.send_modify(|changes| *changes += 1);
    }

    pub(crate) fn peer(&self, id: &NodeId) -> Option<Arc<Peer>> {
        lock(&self.peers).get(id).cloned()
    }

    /// Enters a connection; false where the node keeps another one with this peer.
    pub(crate) fn register(&self, peer: &Arc<Peer>) -> bool {
        let mut peers = lock(&self.peers);
        if let Some(old) = peers.get(&peer.id) {
            let (old_dialed, age) = (old.dialer, old.since.elapsed());
            if !replaces(&self.id, &peer.id, old_dialed, age, peer.dialer) {
                return false;
            }
            old.gone.cancel();
        }
        peers.insert(peer.id, peer.clone());
        drop(peers);
        if let Some(record) = lock(&self.known).get_mut(&peer.id) {
            record.failure = None;
        }
        self.dialed(&peer.id);
        true
    }

    /// Takes a connection out; false where it was not the one in use. `broken`: not because one side had
    /// no use for it.
    pub(crate) fn unregister(self: &Arc<Self>, peer: &Arc<Peer>, broken: bool) -> bool {
        let mut peers = lock(&self.peers);
        let current = peers.get(&peer.id).is_some_and(|current| Arc::ptr_eq(current, peer));
        if current {
            peers.remove(&peer.id);
            drop(peers);
            let changes = lock(&self.outside).gone(self.now(), &peer.id);
            self.has_moved(changes);
            let spaces = lock(&self.spaces).clone();
            for space in spaces {
                space.swarm(self, &[], |swarm, now| swarm.gone(now, &peer.id, broken));
                space.intake.ended();
            }
        }
        current
    }
}

/// Takes incoming connections until the node stops.
async fn accept(inner: Arc<Inner>) {
    let handshakes = Arc::new(Semaphore::new(MAX_HANDSHAKES));
    // Those that have not said hello yet have a place, too.
    let places = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    loop {
        let incoming = tokio::select! {
            incoming = inner.endpoint.accept() => incoming,
            () = inner.stop.cancelled() => return,
        };
        let Some(incoming) = incoming else { return };
        let Ok(place) = places.clone().try_acquire_owned() else {
            incoming.refuse();
            continue;
        };
        let permit = match handshakes.clone().try_acquire_owned() {
            Ok(permit) => permit,
            // Whoever makes up the address it sends from does not get a place in line.
            Err(_) if !incoming.remote_addr_validated() => {
                // Fails only where it has been validated.
                let _ = incoming.retry();
                continue;
            }
            Err(_) => tokio::select! {
                permit = handshakes.clone().acquire_owned() => match permit {
                    Ok(permit) => permit,
                    Err(_) => return,
                },
                () = inner.stop.cancelled() => return,
            },
        };
        let node = inner.clone();
        inner.spawn(async move {
            let conn = tokio::select! {
                conn = timeout(HANDSHAKE, incoming.into_future()) => match conn {
                    Ok(conn) => conn,
                    Err(_) => return tracing::debug!("an incoming connection was not completed"),
                },
                () = node.stop.cancelled() => return,
            };
            drop(permit);
            // Held to the end.
            let _place = place;
            match conn {
                Ok(conn) if lock(&node.peers).len() >= MAX_CONNECTIONS => {
                    conn.close(VarInt::from_u32(close::FULL), b"too many peers");
                }
                Ok(conn) if node.is_blocked(&NodeId(*conn.remote_id().as_bytes())) => {
                    let (code, text) = Unwanted::Blocked.code();
                    conn.close(VarInt::from_u32(code), text.as_bytes());
                }
                Ok(conn) => {
                    if let Err(reason) = connection::run(&node, conn).await {
                        tracing::debug!(%reason, "an incoming connection ended at once");
                    }
                }
                Err(error) => tracing::debug!(%error, "an incoming connection failed"),
            }
        });
    }
}

/// Tells the swarms where this node may be reached, whenever that changes.
async fn watch_addresses(inner: Arc<Inner>) {
    let mut watched = inner.endpoint.watch_addr();
    loop {
        let all = inner.all_addresses();
        let spaces = lock(&inner.spaces).clone();
        for space in spaces {
            space.swarm(&inner, &[], |swarm, now| swarm.set_addresses(now, all.clone()));
        }
        tokio::select! {
            changed = watched.updated() => if changed.is_err() { return },
            () = inner.stop.cancelled() => return,
        }
    }
}

/// Where the addresses of the last start are kept.
const LISTENING: &str = "listening";

/// Listens where `config` says; where it leaves the port open, on that of last time, so that tickets
/// stay good. Where that is taken, on another one this time, and next time it is tried again.
async fn bind(config: &Config, store: &Store, key: SecretKey) -> Result<Endpoint, OpenError> {
    let wanted = match config.listen.is_empty() {
        true => vec![SocketAddr::from(([0, 0, 0, 0], 0)), SocketAddr::from(([0u16; 8], 0))],
        false => config.listen.clone(),
    };
    let last = store.setting(LISTENING)?.unwrap_or_default();
    let last: Vec<SocketAddr> =
        String::from_utf8_lossy(&last).lines().filter_map(|line| line.parse().ok()).collect();
    let again: Vec<SocketAddr> = wanted
        .iter()
        .map(|address| {
            let same = last.iter().find(|last| address.port() == 0 && last.ip() == address.ip());
            *same.unwrap_or(address)
        })
        .collect();
    let listed = |addresses: &[SocketAddr]| {
        addresses.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
    };
    let (endpoint, keep) = match bind_to(config, &again, key.clone()).await {
        Err(_) if again != wanted => {
            let endpoint = bind_to(config, &wanted, key).await;
            if let Ok(endpoint) = &endpoint {
                tracing::warn!(
                    "{}, where this node listened last time, is taken; this time it listens on {}: \
                     tickets that it gave before lead nowhere until it is started with its old port free",
                    listed(&again),
                    listed(&endpoint.bound_sockets()),
                );
            }
            (endpoint, false)
        }
        result => (result, true),
    };
    let endpoint =
        endpoint.map_err(|reason| OpenError::Listen { addresses: listed(&wanted), reason })?;
    if keep {
        let bound: String =
            endpoint.bound_sockets().iter().map(|address| format!("{address}\n")).collect();
        store.put_setting(LISTENING, bound.as_bytes())?;
    }
    Ok(endpoint)
}

/// How a connection is carried. Who dialled keeps it alive, and the other, whose timer begins anew with
/// every packet, only where that does not come; were both timers the same, both would go off at once.
pub(crate) fn transport(dialed: bool) -> QuicTransportConfig {
    let mut mtu = MtuDiscoveryConfig::default();
    mtu.interval(FIND_MTU);
    // The stream window stays at its default: larger ones have cost connections under load.
    QuicTransportConfig::builder()
        .max_concurrent_bidi_streams(VarInt::from_u32(MAX_STREAMS))
        .max_concurrent_uni_streams(VarInt::from_u32(MAX_STREAMS))
        .default_path_keep_alive_interval(KEEP_ALIVE - if dialed { AHEAD } else { Duration::ZERO })
        .mtu_discovery_config(Some(mtu))
        .build()
}

async fn bind_to(
    config: &Config,
    addresses: &[SocketAddr],
    key: SecretKey,
) -> Result<Endpoint, String> {
    let relays = match config.relays.is_empty() {
        true => RelayMode::Disabled,
        false => RelayMode::custom(config.relays.clone()),
    };
    let mut builder = builder(key, addresses)?.relay_mode(relays);
    if let Some(pkarr) = &config.pkarr {
        let publish = PkarrPublisher::builder(pkarr.clone()).addr_filter(AddrFilter::unfiltered());
        let resolve = PkarrResolver::builder(pkarr.clone());
        builder = builder.address_lookup(publish).address_lookup(resolve);
    }
    if let Some(origin) = &config.dns_origin {
        builder = builder.address_lookup(DnsAddressLookup::builder(origin.clone()));
    }
    builder.bind().await.map_err(|error| format!("{error:#}"))
}

/// An endpoint as all of a node's are, without relays and without anybody who is asked where peers are.
pub(crate) fn builder(key: SecretKey, addresses: &[SocketAddr]) -> Result<Builder, String> {
    let builder = Endpoint::builder(presets::Minimal)
        .secret_key(key)
        .alpns(vec![ALPN.to_vec()])
        .relay_mode(RelayMode::Disabled)
        .clear_address_lookup()
        .clear_ip_transports()
        .transport_config(transport(false));
    addresses.iter().try_fold(builder, |builder, address| {
        builder.bind_addr(*address).map_err(|error| error.to_string())
    })
}

#[cfg(test)]
mod tests {
    use tempfile::TempDir;

    use super::*;
    use crate::Limits;

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn peers_say_where_they_see_it_and_what_they_agree_on_is_told() {
        let folders = [(); 2].map(|()| TempDir::new().unwrap());
        let open = |folder: &TempDir| Node::open(Config::new(folder.path()).loopback());
        let (alice, bob) = (open(&folders[0]).await.unwrap(), open(&folders[1]).await.unwrap());
        let here = alice.create_space("test", Limits::default()).await.unwrap();
        let mut events = bob.events();
        bob.join(&alice.ticket(&here.id()).unwrap()).await.unwrap();
        let wait = async { while !matches!(events.recv().await, Ok(Event::SpaceShared { .. })) {} };
        tokio::time::timeout(Duration::from_secs(60), wait).await.unwrap();
        let peer = bob.running.peer(&alice.id()).unwrap();
        assert_eq!(peer.met.get().unwrap().seen_at, Some(bob.listening()[0]));
        assert_eq!(bob.status().addresses, bob.listening(), "that is no news");

        let (inner, outside) = (bob.running.inner(), "5.6.7.8:9".parse().unwrap());
        for n in [1, 2] {
            let (witness, at) = (NodeId([n; 32]), [n; 4].into());
            let changes = lock(&inner.outside).seen(inner.now(), witness, at, outside);
            inner.has_moved(changes);
        }
        let mut addresses = inner.endpoint.watch_addr();
        let told = async {
            while !bob.ticket(&here.id()).unwrap().addresses.contains(&outside) {
                addresses.updated().await.unwrap();
            }
        };
        tokio::time::timeout(Duration::from_secs(60), told).await.unwrap();
        for node in [alice, bob] {
            node.shutdown().await;
        }
    }
}
