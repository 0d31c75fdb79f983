//! One connected peer, as the tasks of its connection and the node see it.

use std::{
    collections::BTreeMap,
    net::SocketAddr,
    sync::{Arc, Mutex, MutexGuard, OnceLock},
    time::{Duration, Instant},
};

use arcwise_proto::{
    ArcSet, NodeId, SpaceId, Time,
    limits::PAGE_KEYS,
    reconcile::exchange::Link,
    session::{Budget, PeerSpace, Report},
    swarm::Quality,
    wire::{Kind, PeerInfo},
};
use iroh::{TransportAddr, endpoint::Connection};
use tokio::sync::{broadcast, mpsc, oneshot, watch};
use tokio_util::sync::CancellationToken;

use crate::{
    bandwidth::Lane,
    broadcast::PushQueue,
    connection::Unwanted,
    event::{Direction, Frame},
    node::Inner,
    space::SpaceState,
    traffic::{self, Account, Counter, Moved, Traffic},
};

/// How long a message about a space waits for the space's handshake, which travels on another stream.
const PATIENCE: Duration = Duration::from_secs(5);

pub(crate) struct Peer {
    pub(crate) id: NodeId,
    pub(crate) conn: Connection,
    pub(crate) dialer: bool,
    pub(crate) since: Instant,
    /// What it said of itself in its first message.
    pub(crate) met: OnceLock<Met>,
    /// The spaces that both are in, as the peer last told of them.
    pub(crate) spaces: watch::Sender<BTreeMap<SpaceId, PeerSpace>>,
    pub(crate) last_sync: Mutex<BTreeMap<SpaceId, LastSync>>,
    /// When both were last seen to hold the same.
    same: Mutex<BTreeMap<SpaceId, Instant>>,
    pub(crate) budget: Mutex<Budget>,
    pub(crate) pushes: PushQueue,
    pub(crate) control: mpsc::UnboundedSender<ControlRequest>,
    pub(crate) frames: broadcast::Sender<Frame>,
    /// The node's bandwidth.
    pub(crate) up: Lane,
    pub(crate) down: Lane,
    counter: Counter,
    account: Arc<Account>,
    /// Ends every task of the connection.
    pub(crate) gone: CancellationToken,
    /// Ends the connection, because nobody here needs it or wants it: see [`Peer::hang_up`].
    pub(crate) spare: CancellationToken,
    pub(crate) unwanted: OnceLock<Unwanted>,
}

#[derive(Clone, Debug)]
pub(crate) struct Met {
    pub(crate) agent: String,
    pub(crate) max_wants: usize,
    pub(crate) clock_ahead: i64,
    /// From where it sees this node's packets come.
    pub(crate) seen_at: Option<SocketAddr>,
}

/// What is to be said on the control stream.
pub(crate) enum ControlRequest {
    Ping(PingRequest),
    /// Who is in a space. Bounded by what the swarm tells: each record once to each peer.
    Peers(SpaceId, Vec<PeerInfo>),
}

/// Asks for a ping.
pub(crate) struct PingRequest {
    /// Tell the peer what is held in this space.
    pub(crate) space: Option<Arc<SpaceState>>,
    /// Gets the answer: whether the peer holds the same.
    pub(crate) answer: oneshot::Sender<bool>,
}

#[derive(Clone, Debug)]
pub(crate) struct LastSync {
    pub(crate) at: Instant,
    pub(crate) outcome: Result<Report, String>,
}

impl Peer {
    pub(crate) fn new(
        inner: &Inner,
        conn: Connection,
        control: mpsc::UnboundedSender<ControlRequest>,
        gone: CancellationToken,
    ) -> Self {
        let (up, down) = inner.line.lanes();
        Self {
            id: NodeId(*conn.remote_id().as_bytes()),
            dialer: conn.side() == iroh::endpoint::Side::Client,
            conn,
            since: Instant::now(),
            met: OnceLock::new(),
            spaces: watch::Sender::default(),
            last_sync: Mutex::default(),
            same: Mutex::default(),
            budget: Mutex::new(Budget::new(inner.now())),
            pushes: PushQueue::default(),
            control,
            frames: inner.frames.clone(),
            up,
            down,
            counter: Counter::default(),
            account: inner.account.clone(),
            gone,
            spare: CancellationToken::new(),
            unwanted: OnceLock::new(),
        }
    }

    /// Ends the connection and says why. Only the first reason counts.
    pub(crate) fn hang_up(&self, why: Unwanted) {
        self.unwanted.get_or_init(|| why);
        self.spare.cancel();
    }

    pub(crate) fn space(&self, id: &SpaceId) -> Option<PeerSpace> {
        self.spaces.borrow().get(id).cloned()
    }

    /// Waits until both have proven to be in a space: its handshake may still be on the way when the
    /// first message about it is here.
    pub(crate) async fn shared(&self, id: &SpaceId) -> Option<PeerSpace> {
        let mut spaces = self.spaces.subscribe();
        let shared = spaces.wait_for(|spaces| spaces.contains_key(id));
        let spaces = tokio::time::timeout(PATIENCE, shared).await.ok()?.ok()?;
        spaces.get(id).cloned()
    }

    /// How many aspects it may be asked for at a time.
    pub(crate) fn max_wants(&self) -> usize {
        self.met.get().map_or(PAGE_KEYS, |met| met.max_wants)
    }

    /// Round-trip time of the network path, smoothed.
    pub(crate) fn round_trip(&self) -> Option<Duration> {
        let paths = self.conn.paths();
        paths.iter().find(|path| path.is_selected()).map(|path| path.rtt())
    }

    /// What is known of the way to the peer.
    pub(crate) fn link(&self) -> Link {
        let paths = self.conn.paths();
        let Some(path) = paths.iter().find(|path| path.is_selected()) else {
            return Link::default();
        };
        let round_trip = path.rtt().as_secs_f64();
        let bytes_per_second = path.stats().cwnd as f64 / round_trip.max(1e-6);
        Link { round_trip, bytes_per_second }
    }

    /// Both hold the same of this space, as far as both take it.
    pub(crate) fn holds_the_same(&self, space: &SpaceState) {
        lock(&self.same).insert(space.id(), Instant::now());
    }

    /// A message has gone or come; `opened` is the first one of its stream.
    pub(crate) fn count(&self, opened: Kind, kind: Kind, direction: Direction, bytes: u64) {
        self.counter.add(opened, kind, direction, bytes);
        self.account.messages.add(opened, kind, direction, bytes);
    }

    /// Addresses that packets of this connection really go to.
    pub(crate) fn addresses(&self) -> Vec<TransportAddr> {
        self.conn.paths().iter().map(|path| path.remote_addr().clone()).collect()
    }

    /// Where its packets come from now; `None` where that is a relay.
    pub(crate) fn address(&self) -> Option<SocketAddr> {
        let paths = self.conn.paths();
        let mut paths = paths.iter();
        let path = paths.find(|path| path.is_selected() && !path.is_relay())?;
        match path.remote_addr() {
            TransportAddr::Ip(address) => Some(*address),
            _ => None,
        }
    }

    pub(crate) fn status(&self, inner: &Inner) -> PeerStatus {
        let (now, known) = (inner.now(), lock(&inner.spaces).clone());
        let quality = |id: &SpaceId| {
            let space = known.iter().find(|space| space.id() == *id)?;
            let swarm = lock(&space.swarm);
            swarm.table().get(&self.id).map(|known| PeerQuality::of(&known.quality, now))
        };
        let paths = self.conn.paths();
        let path = paths.iter().find(|path| path.is_selected());
        let stats = self.conn.stats();
        let last = lock(&self.last_sync);
        let same = lock(&self.same);
        // A copy: whoever changes it has locked the swarm.
        let spaces = self.spaces.borrow().clone();
        let met = self.met.get();
        PeerStatus {
            id: self.id,
            agent: met.map(|met| met.agent.clone()).unwrap_or_default(),
            clock_ahead_micros: met.map_or(0, |met| met.clock_ahead),
            dialed: self.dialer,
            connected_for: self.since.elapsed(),
            address: path.as_ref().and_then(|path| match path.remote_addr() {
                TransportAddr::Ip(address) => Some(*address),
                _ => None,
            }),
            relayed: path.as_ref().is_some_and(|path| path.is_relay()),
            round_trip: path.map(|path| path.rtt()),
            traffic: self.counter.get().within(traffic::udp_bytes(&stats)),
            datagrams: Moved { sent: stats.udp_tx.datagrams, received: stats.udp_rx.datagrams },
            spaces: spaces
                .iter()
                .map(|(id, space)| PeerSpaceStatus {
                    id: *id,
                    store: space.store.clone(),
                    target: space.target.clone(),
                    count: space.count,
                    quality: quality(id),
                    same: same.get(id).map(Instant::elapsed),
                    last_sync: last.get(id).map(|last| (last.at.elapsed(), last.outcome.clone())),
                })
                .collect(),
        }
    }
}

/// A connected peer, as [`Node::peers`](crate::Node::peers) tells it.
#[derive(Clone, Debug)]
pub struct PeerStatus {
    /// Who it is.
    pub id: NodeId,
    /// Name and version of its software.
    pub agent: String,
    /// How far its clock is ahead of ours, in microseconds, the network's delay included.
    pub clock_ahead_micros: i64,
    /// Whether this node dialled.
    pub dialed: bool,
    /// How long the connection is up.
    pub connected_for: Duration,
    /// Where its packets go to; `None` where that is no IP address.
    pub address: Option<SocketAddr>,
    /// Whether a relay carries the traffic.
    pub relayed: bool,
    /// Round-trip time of the network path, smoothed.
    pub round_trip: Option<Duration>,
    /// What the bytes of this connection were for.
    pub traffic: Traffic,
    /// UDP datagrams that carried them. Each has 28 bytes of headers on IPv4 and 48 on IPv6, which are not
    /// counted.
    pub datagrams: Moved,
    /// The spaces that both are in.
    pub spaces: Vec<PeerSpaceStatus>,
}

/// How good a peer is in one space, by what was seen here and by what others say.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct PeerQuality {
    /// How likely it can be reached, 0 to 1; `None` where it was not looked at for long, and few others say
    /// something.
    pub availability: Option<f64>,
    /// How long an answer takes.
    pub round_trip: Option<Duration>,
    /// Kilobytes a second that it gives when it is asked for much.
    pub throughput: Option<u32>,
    /// Rules that it broke; those that are long ago count less.
    pub faults: f64,
    /// Whether it is believed that it holds what it claims.
    pub trusted: bool,
}

impl PeerQuality {
    fn of(quality: &Quality, now: Time) -> Self {
        Self {
            availability: quality.known_availability(now),
            round_trip: quality.round_trip(),
            throughput: quality.throughput(),
            faults: quality.faults(now),
            trusted: quality.trusted(now),
        }
    }
}

/// What is known of a peer in one space.
#[derive(Clone, Debug)]
pub struct PeerSpaceStatus {
    /// The space.
    pub id: SpaceId,
    /// What the peer claims to hold.
    pub store: ArcSet,
    /// What it fills towards.
    pub target: ArcSet,
    /// Aspects it held when it last told.
    pub count: u64,
    /// How good it is; `None` while it has not said anything of itself.
    pub quality: Option<PeerQuality>,
    /// How long ago both were last seen to hold the same, as far as both take it: by a session, or by
    /// a ping. `None` while that has not been seen.
    pub same: Option<Duration>,
    /// How long ago the last session ended, and how.
    pub last_sync: Option<(Duration, Result<Report, String>)>,
}

/// A poisoned lock means that another task has panicked; what it guards is still whole, because
/// nothing in this crate panics between two changes that belong together.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
}
