//! What takes more than one peer: who does what.
//!
//! A [`Swarm`] decides for one space whom to be connected to, what to tell them, when to compare with
//! whom, to whom what is new is pushed, which part of the ring the node aims at, and who is given what
//! is outside of it. The parts of it are machines of their own.

mod audit;
mod copies;
mod expiry;
mod fill;
mod handover;
mod look;
mod lookup;
mod nearby;
mod outside;
mod push;
mod quality;
mod random;
mod receipts;
mod record;
mod schedule;
mod sizing;
mod spread;
mod table;
mod turns;

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    sync::Arc,
    time::Duration,
};

pub use crate::session::BUSY;
pub use audit::{SETTLED, audit_keys, audit_passed, audit_proof};
pub use copies::{Copies, CopiesError, Coverage, Density, Level, Total, is_alien};
pub use expiry::cutoff;
pub use fill::{Fill, Next, Piece, PieceId};
pub use handover::{Droppable, HandOver};
pub use lookup::{Asked, Candidate, Goal, Lookup, Outcome as AskedOutcome, Step};
pub use nearby::{announced, announcement};
pub use outside::{Change, Outside};
pub use push::{Push, PushQueue};
pub use quality::Quality;
pub use receipts::{Progress, Receipts, WaitId};
pub use record::{Address, MAX_RECORD_LIFE, PeerRecord, RecordError, SignedRecord};
pub use schedule::{Due, Filling, Outcome, Schedule};
pub use sizing::{Neighbour, Sizing};
pub use spread::{Spread, SpreadOutput};
pub use table::{Known, Learnt, Table, Wanted};
pub use turns::{Again, Opening, Plan, Purpose, Refusal, TurnId};

use serde::{Deserialize, Serialize};

use self::{random::Random, turns::Turns};
use crate::{
    aspect::{AspectKey, AuthorKey},
    id::{NodeId, SpaceId},
    limits::{MAX_PEERS, PAGE_KEYS},
    ring::{ArcSet, Location, RingArc},
    session::{Flow, LocalSpace, PeerSpace, shared_arcs},
    time::Time,
    wire::PeerInfo,
};

/// It looks around so often while something is to be done, and so often while nothing seems to be.
/// Guesses: below what a person notices, and little work.
const LOOK: (Duration, Duration) = (Duration::from_millis(200), Duration::from_secs(10));

/// Of so many peers, all are judged in each look while something is to be done; of more, in each second one, and
/// so on. A guess: of 300, every eight seconds, which is less than what waits for it takes.
const PEERS_A_LOOK: usize = 8;

/// Peers whose location is so near that of another one are told of to that one.
const NEAR: u64 = 1 << 28;

/// Where that is less, those as far around it as so many times what it holds. A guess: its arc follows from these.
const AROUND: u64 = 4;

/// Where only what is held has changed, and not what is aimed at, a new record waits so long. A guess:
/// while something is being filled it changes all the time.
const RECORD_WAITS: Duration = Duration::from_secs(5);

/// So long where it is still being filled, or just the amount has changed. A guess: what others decide by is what
/// is aimed at.
const FILLING_WAITS: Duration = Duration::from_secs(30);

/// A new record is made where the old one is off by more than this part of what is held. A guess: as much as
/// nodes differ by chance, and few records while much comes.
const RECORD_OFF: u64 = 4;

/// While fewer peers than these are connected, those that one was told of by a ticket are tried too.
const LEAST_PEERS: usize = 3;

/// First and longest wait between attempts to reach one of those.
const CONTACT: (Duration, Duration) = (Duration::from_millis(500), Duration::from_secs(60));

/// Peers that one was told of, at most.
const MAX_CONTACTS: usize = 1024;

/// Who has just come asks everybody it meets who is near it, for so long. A guess.
const NEWCOMER: Duration = Duration::from_secs(60);

/// The first audit of a peer comes so long after it was met, or has not passed one, and the others so often. Guesses: a hundred
/// bytes or two an hour.
const AUDIT: (Duration, Duration) = (Duration::from_secs(60), Duration::from_secs(3600));

/// So many bytes show how fast a peer gives. A guess: less shows how long a round trip takes.
const SPEED: u64 = 256 << 10;

/// Who is waited for is asked again for receipts so often. A guess.
const ASK_AGAIN: Duration = Duration::from_secs(5);

/// What a swarm is told when it begins.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Settings {
    /// How many copies the space wants.
    pub copies: Copies,
    /// Which part of the ring the node is to hold, where it does not find that out itself.
    pub fixed: Option<ArcSet>,
    /// Of the room there is for the space, how many bytes.
    pub quota: Option<u64>,
    /// The longest wait between probes of a peer while nothing happens.
    pub idle: Duration,
    /// How long a peer may be away, where there are too few copies without it, before others take its
    /// place. Where there are enough it may be away for longer.
    pub patience: Duration,
    /// Whether what is new is pushed.
    pub push: bool,
    /// Whether it is compared with peers.
    pub pull: bool,
    /// To spread in time what several nodes would do at the same moment.
    pub seed: u64,
}

/// How what is new has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Arrival {
    /// It was published here.
    Authored,
    /// This peer has pushed it.
    Pushed(NodeId),
    /// In a session, or in an archive.
    Fetched,
}

/// What the driver is to do.
#[derive(Clone, Debug, PartialEq)]
pub enum Action {
    /// Try to connect, once. Then [`Swarm::met`] or [`Swarm::unreachable`].
    Dial(NodeId),
    /// The connection is of no use any more, as far as this space is concerned; only who dialled is told.
    Close(NodeId),
    /// Send this peer records: `Peers`.
    Tell(NodeId, Vec<PeerInfo>),
    /// Ask this peer who is near a location, and give what it answers to [`Swarm::heard_of`].
    Find(NodeId, Location),
    /// Fetch what is to be filled and this peer has, as [`Fill`] says; then [`Swarm::filled`].
    Fill(NodeId),
    /// Compare in a session; then [`Swarm::compared`].
    Compare(NodeId),
    /// Ask whether the peer holds the same; then [`Swarm::probed`].
    Probe(NodeId),
    /// Send aspects.
    Push {
        /// To whom.
        to: NodeId,
        /// Which.
        keys: Vec<AspectKey>,
    },
    /// Send an `Announce`.
    Announce {
        /// To whom.
        to: NodeId,
        /// Of which; they ascend strictly, and fit one message.
        keys: Vec<AspectKey>,
        /// Whether it is to say which of them it holds.
        receipt: bool,
    },
    /// Send a `Graft`.
    Graft {
        /// To whom.
        to: NodeId,
        /// For which.
        keys: Vec<AspectKey>,
    },
    /// Send a `Prune`.
    Prune {
        /// To whom.
        to: NodeId,
        /// Like which.
        keys: Vec<AspectKey>,
    },
    /// Send a `Receipt`.
    Receipt {
        /// To whom.
        to: NodeId,
        /// For which.
        keys: Vec<AspectKey>,
    },
    /// So many peers as were waited for have given receipts.
    Replicated(WaitId),
    /// Have the peer prove that it holds something that it claims; then [`Swarm::audited`].
    Audit(NodeId),
    /// Give the peer, in a session in which only it takes, all that is held in these arcs; then
    /// [`Swarm::given`].
    Give {
        /// To whom.
        to: NodeId,
        /// From where.
        arcs: ArcSet,
    },
    /// Fill towards these arcs from now on, claim nothing outside of them, and keep what is held there;
    /// then [`Swarm::set_local`] and [`Swarm::set_outside`].
    Aim(ArcSet),
    /// Claim nothing in these arcs, though it is held; then [`Swarm::set_local`].
    Disclaim(ArcSet),
    /// Remove what is held in these arcs, outside of what is aimed at, and has this local sequence number
    /// or a lower one; then [`Swarm::set_outside`].
    Drop {
        /// From where.
        arcs: ArcSet,
        /// Up to where.
        until: u64,
    },
}

/// A peer that is connected and in the space.
#[derive(Debug)]
struct Link {
    theirs: PeerSpace,
    dialed: bool,
    /// Whether it is believed that it holds what it claims.
    trusted: bool,
    /// Whether it has the own record.
    told: bool,
    news_at: Time,
    audit_at: Time,
    /// Both held the same there, when that was last looked at.
    same: Option<(Time, ArcSet)>,
}

impl Link {
    /// What it holds or fills.
    fn takes(&self) -> ArcSet {
        match self.theirs.full {
            true => self.theirs.store.clone(),
            false => self.theirs.store.union(&self.theirs.target),
        }
    }

    /// Whether it holds or fills a location.
    fn takes_at(&self, location: Location) -> bool {
        let theirs = &self.theirs;
        theirs.store.contains(location) || !theirs.full && theirs.target.contains(location)
    }

    /// Whether what is new there may be pushed to it.
    fn has_room_for(&self, location: Location) -> bool {
        let theirs = &self.theirs;
        !theirs.full && (theirs.store.contains(location) || theirs.target.contains(location))
    }
}

/// A peer that one was told of, about which nothing else need be known.
#[derive(Debug)]
struct Contact {
    next: Time,
    wait: Duration,
}

/// When the parts of looking around are due, where nothing happens before.
#[derive(Debug)]
struct Dues {
    /// What depends on all who are known.
    judge: Time,
    hand_out: Time,
    tell: Time,
    audit: Time,
}

/// How a space stands, as far as this node knows.
#[derive(Clone, Debug, PartialEq)]
pub struct Overview {
    /// Nodes that are known, without this one.
    pub known: usize,
    /// Of those, the ones that can be reached as far as is known.
    pub reachable: usize,
    /// Copies of what this node holds or fills, itself included: where there are the fewest, a twentieth
    /// of it, and half of it has no more.
    pub copies: Option<Level>,
    /// How much the whole space holds, about.
    pub total: Option<Total>,
    /// What of the own arcs was not seen to be the same at any peer that is connected.
    pub unverified: ArcSet,
    /// Where something is held that belongs to others, who have not taken it yet.
    pub outside: ArcSet,
    /// How many copies the space wants.
    pub wanted: Copies,
    /// Whether the node finds out itself which part of the ring to hold.
    pub automatic: bool,
}

/// What is decided for one space.
pub struct Swarm {
    us: NodeId,
    key: AuthorKey,
    space: SpaceId,
    location: Location,
    settings: Settings,
    local: LocalSpace,
    outside: ArcSet,
    addresses: Vec<Address>,
    own: Option<(PeerRecord, SignedRecord)>,
    sequence: u64,
    /// When a new record is to be made.
    sign_at: Option<Time>,
    table: Table,
    links: BTreeMap<NodeId, Link>,
    contacts: BTreeMap<NodeId, Contact>,
    dialing: BTreeMap<NodeId, Time>,
    sizing: Option<Sizing>,
    entered: Time,
    /// Since when somebody is or was connected, and whether anybody has said who there is.
    acquainted: Option<(Time, bool)>,
    query: ArcSet,
    hand_over: HandOver,
    fill: Fill,
    turns: Turns,
    schedule: Schedule,
    spread: Spread,
    receipts: Receipts,
    waits: BTreeMap<WaitId, (Vec<AspectKey>, u32, Time)>,
    random: Random,
    actions: VecDeque<Action>,
    look_at: Time,
    looked: Time,
    due: Dues,
    /// When those who are known were judged, and [`Table::changes`] then.
    judged: (Time, u64),
    /// Whom to dial, as was found then, the first last; and without whom it goes as well.
    dial: Vec<NodeId>,
    spare: Vec<NodeId>,
}

impl Swarm {
    /// A node enters a space, or is started again. What it holds is to be told next:
    /// [`Swarm::set_local`].
    pub fn new(now: Time, key: AuthorKey, space: SpaceId, settings: Settings) -> Self {
        Self::signing(now, NodeId(key.author()), key, space, settings)
    }

    /// That of a node whose key is not known. It decides the same, but what it signs is not to be believed.
    pub(crate) fn of_node(now: Time, us: NodeId, space: SpaceId, settings: Settings) -> Self {
        Self::signing(now, us, AuthorKey::from_bytes(&[0; 32]), space, settings)
    }

    fn signing(now: Time, us: NodeId, key: AuthorKey, space: SpaceId, settings: Settings) -> Self {
        let mut random = Random::new(settings.seed);
        let local = LocalSpace {
            id: space,
            number: 0,
            store: ArcSet::empty(),
            target: ArcSet::empty(),
            query: ArcSet::empty(),
            count: 0,
            bytes: 0,
            full: false,
        };
        let mut table = Table::new(us, space);
        // Until more are known than can be remembered everywhere.
        table.set_query(now, &ArcSet::full());
        Self {
            us,
            key,
            space,
            location: Location::of_node(&space, &us),
            local,
            outside: ArcSet::empty(),
            addresses: Vec::new(),
            own: None,
            sequence: 0,
            sign_at: None,
            table,
            links: BTreeMap::new(),
            contacts: BTreeMap::new(),
            dialing: BTreeMap::new(),
            sizing: None,
            entered: now,
            acquainted: None,
            query: ArcSet::empty(),
            hand_over: HandOver::default(),
            fill: Fill::default(),
            turns: Turns::default(),
            schedule: Schedule::new(settings.idle, settings.push, random.next()),
            spread: Spread::new(random.next()),
            receipts: Receipts::default(),
            waits: BTreeMap::new(),
            random,
            settings,
            actions: VecDeque::new(),
            look_at: now,
            looked: Time::ZERO,
            due: Dues { judge: now, hand_out: now, tell: now, audit: now },
            judged: (Time::ZERO, 0),
            dial: Vec::new(),
            spare: Vec::new(),
        }
    }

    // ---- What happens here

    /// What this node holds and fills, when it begins and whenever that changes.
    pub fn set_local(&mut self, now: Time, local: LocalSpace) {
        let (store, target) = (local.store != self.local.store, local.target != self.local.target);
        if target || self.sizing.is_none() {
            self.due.judge = now;
        } else if store || local.full != self.local.full {
            self.judge_soon();
        } else {
            self.local = local;
            return;
        }
        if store || target || self.own.is_none() {
            let filled = local.store.covers(&local.target);
            let wait = match target {
                true => Duration::ZERO,
                false if filled => RECORD_WAITS,
                false => FILLING_WAITS,
            };
            self.sign_by(now + wait);
        }
        if self.local.full && !local.full {
            self.schedule.has_room(now);
        }
        self.local = local;
        if self.sizing.is_none() {
            let target = self.local.target.arcs().into_iter();
            let target = target.max_by_key(RingArc::len).unwrap_or(RingArc::EMPTY);
            let seed = self.random.next();
            let patience = self.settings.patience;
            self.sizing = Some(Sizing::new(self.us, self.location, target, patience, seed));
        }
        self.schedule.refill();
        self.look_soon(now);
    }

    /// How much this node holds, where nothing else has changed.
    pub fn set_amount(&mut self, now: Time, count: u64, bytes: u64) {
        (self.local.count, self.local.bytes) = (count, bytes);
        // Others work out from it how much there is in all.
        let told = self.own.as_ref().map_or(0, |(own, _)| own.count);
        if count.abs_diff(told) > told / RECORD_OFF {
            self.sign_by(now + FILLING_WAITS);
        }
    }

    /// Where something is held outside of what this node holds or fills.
    pub fn set_outside(&mut self, now: Time, outside: ArcSet) {
        self.outside = outside.difference(&self.own_arcs());
        self.hand_over.held(self.outside.clone());
        self.due.hand_out = now;
        self.judge_soon();
        self.look_soon(now);
    }

    /// Where this node may be reached; the best first.
    pub fn set_addresses(&mut self, now: Time, addresses: Vec<Address>) {
        if self.addresses != addresses {
            self.addresses = addresses;
            self.sign_by(now);
        }
    }

    /// With these nodes nothing is to be had to do: they are neither dialled nor asked for anything, and
    /// what they claim does not count. Who ends their connections is the driver.
    pub fn set_blocked(&mut self, now: Time, blocked: BTreeSet<NodeId>) {
        self.table.set_blocked(blocked);
        self.look_soon(now);
    }

    /// Which part of the ring the node is to hold; `None` where it finds that out itself. What is to be
    /// filled is told by [`Swarm::set_local`].
    pub fn set_fixed(&mut self, now: Time, fixed: Option<ArcSet>) {
        self.settings.fixed = fixed;
        self.sizing = None;
        self.set_local(now, self.local.clone());
    }

    /// How many copies the space wants.
    pub fn copies(&self) -> Copies {
        self.settings.copies
    }

    /// A peer to begin with, as a ticket names one: it is tried at once, and while few others are
    /// connected.
    pub fn contact(&mut self, now: Time, peer: NodeId) {
        if self.contacts.len() < MAX_CONTACTS || self.contacts.contains_key(&peer) {
            self.contacts.insert(peer, Contact { next: now, wait: CONTACT.0 });
            self.due.judge = now;
            self.look_soon(now);
        }
    }

    /// A record that was kept, from [`Swarm::kept`]. One that does not hold any more is left out.
    pub fn restore(&mut self, now: Time, record: SignedRecord) {
        let Ok(known) = record.verify(&self.space) else { return };
        match known.node == self.us {
            // So that this node's next record counts.
            true => self.sequence = self.sequence.max(known.sequence),
            false => drop(self.table.restore(now, record)),
        }
        self.look_soon(now);
    }

    /// The records to be kept for the next start.
    pub fn kept(&self) -> Vec<SignedRecord> {
        let own = self.own.iter().map(|(_, signed)| signed);
        own.chain(self.table.records()).cloned().collect()
    }

    /// What has become durable, and was not held before. `sequence` is a local sequence number that is
    /// not below theirs.
    pub fn stored(&mut self, now: Time, keys: &[AspectKey], arrival: Arrival, sequence: u64) {
        let own = self.own_arcs();
        if arrival == Arrival::Authored
            && let Some(key) = keys.iter().find(|key| !own.contains(key.location))
        {
            if self.outside.is_empty() || !self.outside.contains(key.location) {
                self.set_outside(now, own.complement());
            }
            let locations = keys.iter().map(|key| key.location);
            let outside = locations.filter(|location| !own.contains(*location));
            self.hand_over.stored_outside(now, sequence, outside);
            self.due.hand_out = now;
            self.judge_soon();
            self.look_soon(now);
        }
        let links = &self.links;
        let takes = |peer: &NodeId, location| {
            links.get(peer).is_some_and(|link| link.has_room_for(location))
        };
        match arrival {
            Arrival::Fetched => self.spread.held(keys),
            _ if !self.settings.push => self.spread.held(keys),
            Arrival::Authored => {
                self.spread.stored(now, keys, None, takes);
                // Who does not know yet what to hold may come to hold it.
                let decided = self.settings.fixed.is_some() || !own.is_empty();
                let outside = keys.iter().filter(|key| decided && !own.contains(key.location));
                self.spread.outside(outside.copied(), takes);
            }
            Arrival::Pushed(from) => self.spread.stored(now, keys, Some(from), takes),
        }
        for (to, keys) in self.receipts.stored(keys) {
            self.actions.push_back(Action::Receipt { to, keys });
        }
        self.changed_where(now, |link| keys.iter().any(|key| link.takes_at(key.location)));
    }

    /// Something was removed.
    pub fn changed(&mut self, now: Time) {
        self.changed_where(now, |_| true);
    }

    fn changed_where(&mut self, now: Time, differs: impl Fn(&Link) -> bool) {
        let peers = self.links.iter().filter(|(_, link)| differs(link));
        let peers: Vec<NodeId> = peers.map(|(peer, _)| *peer).collect();
        self.schedule.changed(now, &peers);
    }

    // ---- Connections

    /// A connection with a peer that is in the space stands, or has been replaced by another one.
    pub fn met(&mut self, now: Time, peer: NodeId, dialed: bool, theirs: PeerSpace) {
        self.dialing.remove(&peer);
        if let Some(contact) = self.contacts.get_mut(&peer) {
            contact.wait = CONTACT.0;
        }
        self.table.met(now, peer);
        self.spread.met(peer);
        self.schedule.met(now, peer, dialed);
        if now.since(self.entered) < NEWCOMER {
            self.actions.push_back(Action::Find(peer, self.location));
        }
        let audit_at = now + self.random.around(AUDIT.0);
        self.table.told(&peer, &self.interest(&peer, &theirs));
        let trusted = self.trusts(now, &peer);
        let link =
            Link { theirs, dialed, trusted, told: false, news_at: now, audit_at, same: None };
        self.links.insert(peer, link);
        self.due.audit = self.due.audit.min(audit_at);
        (self.due.hand_out, self.due.tell) = (now, now);
        self.acquainted.get_or_insert((now, false));
        self.push_unsent(&peer);
        self.guard(peer);
        let waits: Vec<WaitId> = self.waits.keys().copied().collect();
        waits.into_iter().for_each(|wait| self.ask_for_receipts(wait, Some(peer)));
        self.look_soon(now);
    }

    /// The peer holds or fills something else now.
    pub fn told(&mut self, now: Time, peer: &NodeId, theirs: PeerSpace) {
        self.schedule.told(peer);
        let interest = self.interest(peer, &theirs);
        let Some(link) = self.links.get_mut(peer) else { return };
        let before = std::mem::replace(&mut link.theirs, theirs);
        let now_takes = &link.theirs;
        if (&before.store, &before.target, before.full)
            == (&now_takes.store, &now_takes.target, now_takes.full)
        {
            return;
        }
        self.table.told(peer, &interest);
        self.push_unsent(peer);
        self.due.hand_out = now;
        self.judge_soon();
        self.look_soon(now);
    }

    /// Of whom a peer is told first: who is near it, and who holds or fills what it does.
    fn interest(&self, peer: &NodeId, theirs: &PeerSpace) -> ArcSet {
        let takes = theirs.store.union(&theirs.target);
        let near = match takes.len() {
            0 => NEAR,
            len => NEAR.min(len.saturating_mul(AROUND)),
        };
        takes.union(&RingArc::around(Location::of_node(&self.space, peer), near).into())
    }

    /// Pushes to the peer what this node authored and too few took.
    fn push_unsent(&mut self, peer: &NodeId) {
        if let Some(link) = self.links.get(peer) {
            self.spread.changed(peer, |location| link.has_room_for(location));
        }
    }

    /// The connection has ended, or the peer has left the space. `broken`: not because one of both had
    /// no use for it.
    pub fn gone(&mut self, now: Time, peer: &NodeId, broken: bool) {
        if self.links.remove(peer).is_none() {
            return;
        }
        match broken {
            true => self.table.lost(now, peer),
            false => self.table.closed(now, peer),
        }
        if let Some(contact) = self.contacts.get_mut(peer) {
            contact.next = now + self.random.around(contact.wait / 4);
        }
        self.spread.gone(peer);
        self.schedule.gone(peer);
        self.receipts.gone(peer);
        self.hand_over.gone(peer);
        self.fill.gone(peer);
        self.turns.gone(peer);
        self.schedule.refill();
        self.due.hand_out = now;
        self.look_soon(now);
    }

    /// An attempt to connect has failed.
    pub fn unreachable(&mut self, now: Time, peer: &NodeId) {
        if self.dialing.remove(peer).is_some() {
            self.table.failed(now, peer);
            self.look_soon(now);
        }
    }

    /// Whether a connection with this peer is of use.
    pub fn wants(&self, peer: &NodeId) -> bool {
        self.links.contains_key(peer)
            && (self.links.len() <= LEAST_PEERS || !self.spare.contains(peer))
    }

    /// What was measured of the way to a peer.
    pub fn linked(&mut self, peer: &NodeId, round_trip: Option<Duration>) {
        if let Some((quality, round_trip)) = self.table.quality(peer).zip(round_trip) {
            quality.answered(round_trip);
        }
    }

    /// A peer has given so many bytes, for which it was asked, in this time.
    pub fn served(&mut self, peer: &NodeId, bytes: u64, took: Duration) {
        if let Some(quality) = self.table.quality(peer).filter(|_| bytes >= SPEED) {
            quality.served(bytes, took);
        }
    }

    /// A peer broke a rule.
    pub fn fault(&mut self, now: Time, peer: &NodeId) {
        if let Some(quality) = self.table.quality(peer) {
            quality.fault(now);
        }
        self.trust(now);
    }

    fn trusts(&self, now: Time, peer: &NodeId) -> bool {
        self.table.get(peer).is_none_or(|known| known.quality.trusted(now))
    }

    /// Finds out who is trusted, which may have changed.
    fn trust(&mut self, now: Time) {
        let mut changed = false;
        for (peer, link) in &mut self.links {
            let trusted = self.table.get(peer).is_none_or(|known| known.quality.trusted(now));
            changed |= std::mem::replace(&mut link.trusted, trusted) != trusted;
        }
        if changed {
            self.schedule.refill();
        }
    }

    /// A peer was audited; `None` where there was nothing to ask for, or no answer came.
    pub fn audited(&mut self, now: Time, peer: &NodeId, passed: Option<bool>) {
        if passed != Some(true)
            && let Some(link) = self.links.get_mut(peer)
        {
            link.audit_at = now + self.random.around(AUDIT.0);
            self.due.audit = self.due.audit.min(link.audit_at);
        }
        let Some((quality, passed)) = self.table.quality(peer).zip(passed) else { return };
        quality.audited(now, passed);
        self.trust(now);
        if !passed {
            self.schedule.heard(now, peer, false);
            self.due.hand_out = now;
            self.judge_soon();
            self.look_soon(now);
        }
    }

    // ---- Who there is

    /// Takes what a peer says of others, and of itself. Gives the records that can be believed, and the
    /// first reason why one cannot.
    pub fn heard_of(
        &mut self,
        now: Time,
        from: NodeId,
        infos: Vec<PeerInfo>,
    ) -> (Vec<Arc<PeerRecord>>, Option<RecordError>) {
        let (mut records, mut fault) = (Vec::with_capacity(infos.len().min(MAX_PEERS)), None);
        let (before, mut news) = (self.table.changes(), false);
        for info in infos.into_iter().take(MAX_PEERS) {
            let signed = info.record.clone();
            match self.table.learn(now, from, info) {
                Err(error) => {
                    fault.get_or_insert(error);
                    continue;
                }
                Ok(Learnt::Limited) => continue,
                Ok(learnt) => news |= learnt != Learnt::Known,
            }
            let Ok(record) = signed.read() else { continue };
            if self.table.is_blocked(&record.node) {
                continue;
            }
            if record.node == self.us {
                // Made before this node lost its memory: the next must count.
                if signed.verify(&self.space).is_ok() && record.sequence > self.sequence {
                    self.sequence = record.sequence;
                    self.sign_by(now);
                }
                continue;
            }
            let known = self.table.get(&record.node).map(|known| &known.record);
            match known.filter(|known| known.sequence >= record.sequence) {
                Some(known) => records.push(known.clone()),
                None => records.extend(signed.verify(&self.space)),
            }
        }
        if self.links.contains_key(&from)
            && !std::mem::replace(&mut self.acquainted.get_or_insert((now, false)).1, true)
        {
            self.due.judge = now;
            news = true;
        }
        if news || self.table.changes() != before {
            self.look_soon(now);
        }
        (records, fault)
    }

    /// Where a peer says that it may be reached.
    pub fn addresses_of(&self, peer: &NodeId) -> &[Address] {
        self.table.get(peer).map(|known| known.record.addresses.as_slice()).unwrap_or_default()
    }

    /// Who is known to claim a location, or to fill it; whether the former. Of who is connected, what it
    /// said last counts.
    pub fn claimants(&self, location: Location) -> impl Iterator<Item = (&Known, bool)> {
        self.table.iter().filter_map(move |known| {
            let link = self.links.get(&known.record.node);
            let (store, target) = match link {
                Some(link) => (&link.theirs.store, &link.theirs.target),
                None => (&known.record.store, &known.record.target),
            };
            let holds = store.contains(location);
            (holds || target.contains(location)).then_some((known, holds))
        })
    }

    /// What is known of who is in the space.
    pub fn table(&self) -> &Table {
        &self.table
    }

    /// What to tell a peer that asks who is near a location.
    pub fn nearest(&self, now: Time, to: &NodeId, location: Location) -> Vec<PeerInfo> {
        let nearest = self.table.nearest(now, location, MAX_PEERS + 1);
        let others = nearest.iter().filter(|node| *node != to);
        others.filter_map(|node| self.table.info(now, node)).take(MAX_PEERS).collect()
    }

    /// Begins to look for something.
    pub fn look_up(&self, now: Time, goal: Goal) -> Lookup {
        let location = goal.location();
        let mut nearest = self.table.nearest(now, location, 2 * MAX_PEERS);
        if let Goal::Node(node, _) = goal {
            nearest.push(node);
        }
        let known = nearest.iter().filter_map(|node| self.table.get(node));
        let records: Vec<_> = known.map(|known| known.record.clone()).collect();
        Lookup::new(now, self.us, goal, self.candidates(&goal, &records))
    }

    /// What a look-up is to know of peers.
    pub fn candidates(&self, goal: &Goal, records: &[Arc<PeerRecord>]) -> Vec<Candidate> {
        let candidate = |record: &Arc<PeerRecord>| {
            let link = self.links.get(&record.node);
            let store = link.map_or(&record.store, |link| &link.theirs.store);
            Candidate {
                node: record.node,
                location: Location::of_node(&self.space, &record.node),
                claims: store.contains(goal.location()),
                round_trip: self.table.get(&record.node).and_then(|it| it.quality.round_trip()),
                connected: link.is_some(),
            }
        };
        records.iter().map(candidate).collect()
    }

    /// For which locations this node can name somebody who holds them.
    pub fn query(&self) -> &ArcSet {
        &self.query
    }

    // ---- Comparing

    /// What to fetch from this peer now, of what is to be filled. A piece is to be fetched in a session:
    /// see [`Purpose::Fill`].
    pub fn next_piece(&mut self, now: Time, peer: &NodeId) -> Next {
        match self.links.get(peer).filter(|_| !self.local.full) {
            Some(link) => self.fill.next(now, *peer, &self.local, &link.theirs),
            None => Next::Nothing,
        }
    }

    /// Something of a piece has come.
    pub fn piece_moved(&mut self, now: Time, piece: PieceId) {
        self.fill.moved(now, piece);
    }

    /// A piece has ended, and `complete` says whether all that the peer should have of it is here. Of one that
    /// was given to another it may be told or not.
    pub fn piece_ended(&mut self, now: Time, piece: PieceId, complete: bool) {
        self.fill.ended(now, piece, complete);
    }

    /// A peer has told, by its own probe, whether it holds the same.
    pub fn heard(&mut self, now: Time, peer: &NodeId, same: bool) {
        self.note(now, peer, same);
        self.schedule.heard(now, peer, same);
    }

    /// A probe has ended; `None` where no answer came.
    pub fn probed(&mut self, now: Time, peer: &NodeId, same: Option<bool>) {
        if let Some(same) = same {
            self.note(now, peer, same);
        }
        self.schedule.probed(now, peer, same);
    }

    /// A session has ended.
    pub fn compared(&mut self, now: Time, peer: &NodeId, outcome: Outcome) {
        if let Outcome::InSync { one_sided: false, .. } = outcome {
            self.note(now, peer, true);
        }
        self.schedule.compared(now, peer, outcome);
    }

    /// A peer has nothing more of what is to be filled; `whole` says whether all that both take was
    /// compared on the way.
    pub fn filled(&mut self, now: Time, peer: &NodeId, whole: bool) {
        self.schedule.filled(now, peer, whole);
    }

    fn note(&mut self, now: Time, peer: &NodeId, same: bool) {
        let own = self.own_arcs();
        if let Some(link) = self.links.get_mut(peer) {
            let shared = own.intersect(&link.theirs.store.union(&link.theirs.target));
            link.same = same.then_some((now, shared));
        }
        if same {
            self.holds_the_same(peer);
        }
    }

    /// Both hold the same, as far as both take it: where that is all of it, also as many.
    fn holds_the_same(&mut self, peer: &NodeId) {
        let (own, count) = (self.own_arcs(), self.local.count);
        if let Some(link) = self.links.get_mut(peer)
            && link.theirs.store.union(&link.theirs.target) == own
        {
            link.theirs.count = count;
        }
    }

    /// Where this node and a peer both take; nothing where the peer is not connected.
    pub fn shared_with(&self, peer: &NodeId) -> ArcSet {
        let link = self.links.get(peer);
        link.map_or_else(ArcSet::empty, |link| shared_arcs(&self.local, &link.theirs))
    }

    /// What a session that a peer opens may be about here, and who may take in it.
    pub fn answers(&self) -> (ArcSet, Flow) {
        (self.own_arcs(), if self.local.full { Flow::ToAlice } else { Flow::Both })
    }

    // ---- Spreading

    /// A peer has pushed these, and they are about to be stored. Gives those that need not be: another push
    /// has brought them, and they are being stored. [`Swarm::pushed`] and [`Swarm::stored`] are to be told
    /// what becomes of the others, or [`Swarm::not_stored`].
    pub fn arrived(&mut self, now: Time, from: NodeId, keys: &[AspectKey]) -> Vec<AspectKey> {
        self.spread.arrived(now, from, keys)
    }

    /// What a peer has pushed could not be stored.
    pub fn not_stored(&mut self, from: &NodeId) {
        self.spread.not_stored(from);
    }

    /// What a peer has pushed is durable: what of it was new, and what not.
    pub fn pushed(&mut self, from: NodeId, new: &[AspectKey], again: &[AspectKey]) {
        self.spread.pushed(&from, new, again);
    }

    /// Where it is taken what peers push: what this node holds or fills, and nothing for want of room. Gossip
    /// brings it once there is some.
    pub fn takes(&self) -> ArcSet {
        if self.local.full { ArcSet::empty() } else { self.own_arcs() }
    }

    /// A peer has announced these, which are not held here and should be. For want of room none is asked for.
    pub fn announced(&mut self, now: Time, from: NodeId, lacking: &[AspectKey]) {
        if !self.local.full {
            self.spread.announced(now, from, lacking);
        }
    }

    /// A peer wants what is like these to be announced, and not pushed.
    pub fn pruned(&mut self, peer: &NodeId, keys: &[AspectKey]) {
        self.spread.pruned(peer, keys);
    }

    /// A peer wants to be pushed what is like these.
    pub fn grafted(&mut self, peer: &NodeId, keys: &[AspectKey]) {
        self.spread.grafted(peer, keys);
    }

    /// A peer wants to know which of what it has announced is held: `held` is, `lacking` not yet.
    pub fn receipt_wanted(
        &mut self,
        now: Time,
        peer: NodeId,
        held: Vec<AspectKey>,
        lacking: &[AspectKey],
    ) {
        self.receipts.wanted(now, peer, lacking);
        if !held.is_empty() {
            self.actions.push_back(Action::Receipt { to: peer, keys: held });
        }
    }

    /// A peer says that it holds these durably. That counts where it is trusted.
    pub fn receipt(&mut self, peer: NodeId, keys: &[AspectKey]) {
        if self.links.get(&peer).is_some_and(|link| !link.trusted) {
            return;
        }
        for wait in self.receipts.received(peer, keys) {
            self.waits.remove(&wait);
            self.actions.push_back(Action::Replicated(wait));
        }
    }

    /// Waits until so many peers hold each of these: see [`Action::Replicated`]. `None` where too much is
    /// waited for already. To be ended by [`Swarm::cancel`].
    pub fn replicate(&mut self, now: Time, keys: &[AspectKey], copies: u32) -> Option<WaitId> {
        let mut keys = keys.to_vec();
        keys.sort_unstable();
        keys.dedup();
        let wait = self.receipts.wait(&keys, copies)?;
        self.waits.insert(wait, (keys, copies, now + ASK_AGAIN));
        self.judge_soon();
        self.ask_for_receipts(wait, None);
        self.look_soon(now);
        Some(wait)
    }

    /// How far that is.
    pub fn progress(&self, wait: WaitId) -> Option<Progress> {
        self.receipts.progress(wait)
    }

    /// Who has said by now that it holds all of it.
    pub fn holders(&self, wait: WaitId) -> Vec<NodeId> {
        self.receipts.holders(wait)
    }

    /// Nobody waits any more.
    pub fn cancel(&mut self, wait: WaitId) {
        self.receipts.cancel(wait);
        self.waits.remove(&wait);
    }

    fn ask_for_receipts(&mut self, wait: WaitId, of: Option<NodeId>) {
        let Some((keys, ..)) = self.waits.get(&wait) else { return };
        for (peer, link) in self.links.iter().filter(|(peer, _)| of.is_none_or(|of| of == **peer)) {
            let theirs = keys.iter().filter(|key| link.takes_at(key.location));
            let theirs: Vec<AspectKey> = theirs.copied().collect();
            for keys in theirs.chunks(PAGE_KEYS) {
                let (to, keys) = (*peer, keys.to_vec());
                self.actions.push_back(Action::Announce { to, keys, receipt: true });
            }
        }
    }

    // ---- What is held outside

    /// A session that gave what is held in these arcs has ended. `sequence` is the local sequence number
    /// up to which it was given; `complete` says whether the peer holds all of it now.
    pub fn given(&mut self, now: Time, peer: NodeId, arcs: &ArcSet, sequence: u64, complete: bool) {
        match complete {
            true => self.hand_over.given(now, peer, arcs, sequence),
            false => self.hand_over.failed(now, peer),
        }
        self.due.hand_out = now;
        self.look_soon(now);
    }

    // ---- Driving

    /// What is to be done now; again until there is nothing more.
    pub fn poll_action(&mut self, now: Time) -> Option<Action> {
        if self.actions.is_empty() {
            self.decide(now);
        }
        self.actions.pop_front()
    }

    /// All that is to be done now.
    pub fn poll_actions(&mut self, now: Time) -> Vec<Action> {
        std::iter::from_fn(|| self.poll_action(now)).collect()
    }

    /// Time has passed: to be called at [`Swarm::wake_at`].
    pub fn tick(&mut self, now: Time) {
        if self.spread.wake_at().is_some_and(|at| at <= now) {
            self.spread.tick(now);
        }
    }

    /// When to call [`Swarm::tick`] at the latest, known after everything was polled.
    pub fn wake_at(&self) -> Option<Time> {
        let schedule = self.schedule.wake_at().filter(|_| self.settings.pull);
        schedule.into_iter().chain(self.spread.wake_at()).chain([self.look_at]).min()
    }

    fn decide(&mut self, now: Time) {
        while let Some(output) = self.spread.poll_output() {
            self.actions.push_back(match output {
                SpreadOutput::Push { peer, keys } => Action::Push { to: peer, keys },
                SpreadOutput::Announce { peer, keys } => {
                    Action::Announce { to: peer, keys, receipt: false }
                }
                SpreadOutput::Graft { peer, keys } => Action::Graft { to: peer, keys },
                SpreadOutput::Prune { peer, keys } => Action::Prune { to: peer, keys },
            });
        }
        if self.look_at <= now {
            self.look(now);
        }
        while self.settings.pull {
            let (links, local, fill) = (&self.links, &self.local, &self.fill);
            let due = self.schedule.next(now, |peer| match links.get(peer) {
                Some(link) if link.trusted => filling(fill, local, peer, &link.theirs),
                // With who does not keep what it is given, there is nothing to compare.
                _ => Filling::Apart,
            });
            self.actions.push_back(match due {
                Some(Due::Fill(peer)) => Action::Fill(peer),
                Some(Due::Compare(peer)) => Action::Compare(peer),
                Some(Due::Probe(peer)) => Action::Probe(peer),
                None => break,
            });
        }
    }

    fn look_soon(&mut self, now: Time) {
        self.look_at = self.look_at.min(now.max(self.looked + LOOK.0));
    }

    /// Who is known is judged anew soon, and the later the more there are, since that costs the more.
    fn judge_soon(&mut self) {
        let wait = LOOK.0 * (1 + (self.table.len() / PEERS_A_LOOK) as u32);
        self.due.judge = self.due.judge.min(self.judged.0 + wait);
    }

    fn sign_by(&mut self, at: Time) {
        self.sign_at = Some(self.sign_at.map_or(at, |before| before.min(at)));
        self.look_at = self.look_at.min(at);
    }

    /// What this node holds or fills.
    pub fn own_arcs(&self) -> ArcSet {
        self.local.store.union(&self.local.target)
    }
}

/// How the filling of this node and of a peer stand to each other.
fn filling(fill: &Fill, ours: &LocalSpace, peer: &NodeId, theirs: &PeerSpace) -> Filling {
    if !ours.full && fill.wants(*peer, ours, theirs) {
        return Filling::Here;
    }
    let lacks = theirs.target.difference(&theirs.store);
    if !theirs.full && !lacks.intersect(&ours.store).is_empty() {
        return Filling::There;
    }
    match shared_arcs(ours, theirs).is_empty() {
        true => Filling::Apart,
        false => Filling::None,
    }
}
