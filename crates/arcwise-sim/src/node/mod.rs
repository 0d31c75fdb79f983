//! A node: the protocol's machines, driven by events, over a simulated disk and line.

mod connect;
mod fetch;
mod push;
mod request;
mod search;
mod session;

use std::{
    collections::{BTreeMap, HashMap, VecDeque},
    net::{Ipv4Addr, SocketAddr},
    time::Duration,
};

use arcwise_proto::{
    Aspect, AspectKey, AuthorKey, NodeId, SpaceId, Time,
    ring::ArcSet,
    session::LocalSpace,
    swarm::{Action, Address, Arrival, Copies, Settings, Swarm, WaitId},
    wire::Message,
};
use rand::Rng as _;

use self::{connect::Conn, fetch::Filling, request::Asking, search::Search, session::Sess};
use crate::{
    disk::{Disk, Stored, nominal},
    event::{Event, How, Packet, Seen, Sent, StreamId, Timer, What},
    network::{Network, PACKET_OVERHEAD, SILENCE},
    random::Random,
    results,
};

/// What all nodes have in common, and what does not change.
#[derive(Debug)]
pub(crate) struct World {
    pub(crate) network: Network,
    pub(crate) space: SpaceId,
    /// By index.
    pub(crate) nodes: Vec<NodeId>,
    pub(crate) index: HashMap<NodeId, u32>,
    pub(crate) liars: Vec<bool>,
    /// What a liar claims.
    pub(crate) lie: u64,
    /// How many aspects there are at first, and how many bytes of them.
    pub(crate) amount: (u64, u64),
    pub(crate) copies: Copies,
    pub(crate) idle: Duration,
    pub(crate) patience: Duration,
    pub(crate) sync: Duration,
    /// Whether verdicts are checked against what is truly there.
    pub(crate) check: bool,
}

/// Who a node is.
#[derive(Debug)]
pub(crate) struct Profile {
    pub(crate) index: u32,
    pub(crate) id: NodeId,
    pub(crate) key: AuthorKey,
    pub(crate) role: Role,
    /// It can dial, and cannot be dialled.
    pub(crate) unreachable: bool,
    /// How far its clock is ahead, in microseconds.
    pub(crate) skew: i64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Role {
    Honest,
    /// Stores nothing.
    FreeRider,
    /// Claims what it does not hold, and says of others what is not so.
    Liar,
}

/// A node's line to the network, and what is left of it when it is switched off.
#[derive(Debug)]
pub(crate) struct Port {
    random: Random,
    up_free: Time,
    down_free: Time,
    /// Of what it has sent, to others and itself.
    number: u64,
    pub(crate) bytes: results::Bytes,
    /// Connections times seconds, by now.
    keeping: (Time, f64),
}

/// What a message is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Cause {
    Control,
    Comparing,
    Gossip,
    Push,
    Request,
}

/// How a message travels.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Sending {
    pub(crate) bytes: u64,
    pub(crate) cause: Cause,
    /// Whether it waits for the line; else it is small, and goes beside.
    pub(crate) waits: bool,
    /// It does not arrive before what was sent on the same stream, which arrives then.
    pub(crate) after: Time,
}

#[derive(Debug)]
pub(crate) struct Node {
    pub(crate) profile: Profile,
    pub(crate) disk: Disk,
    pub(crate) port: Port,
    run: Option<Box<Running>>,
    starts: u32,
    pub(crate) gone: bool,
    /// Whom it has been connected to, for the next start.
    known: Vec<u32>,
}

/// A node that is switched on.
struct Running {
    swarm: Swarm,
    woken: Option<Time>,
    /// What others are told of this node may have changed.
    changed: bool,
    /// Moves on whenever less is claimed than before.
    claims: u64,
    conns: BTreeMap<u32, Conn>,
    dialing: BTreeMap<u32, u64>,
    attempts: u64,
    sessions: BTreeMap<(u32, StreamId), Sess>,
    waiting: Vec<session::Waiting>,
    filling: BTreeMap<u32, Filling>,
    asking: BTreeMap<(u32, StreamId), Asking>,
    searches: BTreeMap<u64, Search>,
    next_search: u64,
    /// On their way to the disk.
    batches: BTreeMap<u64, (Vec<Aspect>, Source)>,
    next_batch: u64,
    waits: BTreeMap<WaitId, Vec<AspectKey>>,
    /// Work that is to be done before anything else happens.
    todo: VecDeque<Todo>,
}

impl std::fmt::Debug for Running {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Running").field("conns", &self.conns.len()).finish_non_exhaustive()
    }
}

/// See [`Running::todo`].
enum Todo {
    Open(session::Opener),
    Fill(u32),
}

/// Where a batch comes from.
#[derive(Clone, Copy, Debug)]
enum Source {
    Authored { receipts: u32 },
    Pushed(u32),
    Session(u32, StreamId),
}

/// What a node has at hand while something happens to it.
pub(crate) struct Cx<'a> {
    pub(crate) world: &'a World,
    pub(crate) now: Time,
    me: &'a Profile,
    port: &'a mut Port,
    disk: &'a mut Disk,
    start: u32,
    pub(crate) out: &'a mut Out,
}

/// What comes of it.
#[derive(Debug, Default)]
pub(crate) struct Out {
    pub(crate) sent: Vec<Sent>,
    pub(crate) seen: Vec<Seen>,
}

impl Cx<'_> {
    /// What this node's clock shows.
    fn clock(&self) -> Time {
        skewed(self.now, self.me.skew)
    }

    fn id(&self, peer: u32) -> NodeId {
        self.world.nodes.get(peer as usize).copied().unwrap_or(NodeId([0; 32]))
    }

    fn see(&mut self, what: What) {
        self.out.seen.push(Seen { at: self.now, node: self.me.index, what });
    }

    fn timer(&mut self, at: Time, timer: Timer) {
        let event = Event::Timer { start: self.start, timer };
        let me = self.me.index;
        self.port.give(self.out, at.max(self.now), me, me, event);
    }

    /// Sends something to a peer. Gives when it has left, and when it arrives.
    fn send(&mut self, to: u32, packet: Packet, how: Sending) -> (Time, Time) {
        let event = Event::Packet { peer: self.me.index, packet, read: false };
        self.port.send(self.world, self.out, self.now, self.me.index, to, event, how)
    }

    fn nonce<const N: usize>(&mut self) -> [u8; N] {
        let mut nonce = [0; N];
        self.port.random.fill_bytes(&mut nonce);
        nonce
    }

    fn is_liar(&self) -> bool {
        self.me.role == Role::Liar
    }
}

fn skewed(time: Time, skew: i64) -> Time {
    Time::from_micros(time.as_micros().saturating_add_signed(skew))
}

impl Port {
    pub(crate) fn new(random: Random) -> Self {
        let (up_free, down_free, keeping) = (Time::ZERO, Time::ZERO, (Time::ZERO, 0.0));
        Self { random, up_free, down_free, number: 0, bytes: results::Bytes::default(), keeping }
    }

    fn give(&mut self, out: &mut Out, at: Time, from: u32, to: u32, event: Event) {
        self.number += 1;
        out.sent.push(Sent { at, to, from, number: self.number, event });
    }

    #[allow(
        clippy::too_many_arguments,
        reason = "what a message is, and who sends it where and when"
    )]
    fn send(
        &mut self,
        world: &World,
        out: &mut Out,
        now: Time,
        from: u32,
        to: u32,
        event: Event,
        how: Sending,
    ) -> (Time, Time) {
        let network = &world.network;
        let passage = network.pass(&mut self.random, from, to, how.bytes);
        let spent = match how.cause {
            Cause::Control => &mut self.bytes.control,
            Cause::Comparing => &mut self.bytes.comparing,
            Cause::Gossip => &mut self.bytes.gossip,
            Cause::Push => &mut self.bytes.push,
            Cause::Request => &mut self.bytes.requests,
        };
        *spent += how.bytes;
        let extra = how.bytes.min(crate::network::PACKET) * passage.extra;
        self.bytes.transport += passage.packets * PACKET_OVERHEAD + extra;
        let takes = Duration::from_secs_f64((how.bytes + extra) as f64 * 8.0 / network.up);
        let free = self.up_free.max(now);
        let left = if how.waits { free + takes } else { now + takes };
        self.up_free = free + takes;
        let joined = network.joined(from, to, left);
        if joined.since(left) >= SILENCE {
            return (left, how.after);
        }
        let arrives = (joined + passage.after).max(how.after + Duration::from_micros(1));
        self.give(out, arrives, from, to, event);
        (left, arrives)
    }

    /// Connections keep themselves alive: so many of them from now on.
    fn keep(&mut self, now: Time, connections: usize) {
        // 67 bytes and the headers of two packets each 4.78 s, for both ends together.
        const BYTES_A_SECOND: f64 = (67.0 + 56.0) / 4.78 / 2.0;
        let (since, number) = self.keeping;
        self.bytes.transport += (now.since(since).as_secs_f64() * number * BYTES_A_SECOND) as u64;
        self.keeping = (now, connections as f64);
    }
}

impl Node {
    pub(crate) fn new(profile: Profile, disk: Disk, random: Random) -> Self {
        let port = Port::new(random);
        Self { profile, disk, port, run: None, starts: 0, gone: false, known: Vec::new() }
    }

    pub(crate) fn connections(&self) -> usize {
        self.run.as_ref().map_or(0, |run| run.conns.len())
    }

    pub(crate) fn is_on(&self) -> bool {
        self.run.is_some()
    }

    /// Something happens.
    pub(crate) fn handle(&mut self, world: &World, now: Time, event: Event, out: &mut Out) {
        let event = match event {
            Event::Start { contacts, first } => {
                return self.start(world, now, contacts, first, out);
            }
            Event::Stop(how) => return self.stop(world, now, how, out),
            event => event,
        };
        let Some(mut run) = self.run.take() else { return };
        let mut cx = Cx {
            world,
            now,
            me: &self.profile,
            port: &mut self.port,
            disk: &mut self.disk,
            start: self.starts,
            out,
        };
        run.handle(&mut cx, event);
        run.settle(&mut cx);
        let connections = run.conns.len();
        if self.port.keeping.1 != connections as f64 {
            self.port.keep(now, connections);
        }
        self.run = Some(run);
    }

    /// Brings the bytes up to date.
    pub(crate) fn count(&mut self, now: Time) {
        let connections = self.connections();
        self.port.keep(now, connections);
    }

    fn start(
        &mut self,
        world: &World,
        now: Time,
        contacts: Vec<u32>,
        first: Option<Vec<Aspect>>,
        out: &mut Out,
    ) {
        if self.run.is_some() || self.gone {
            return;
        }
        self.starts += 1;
        self.disk.open();
        let seed = self.port.random.next_u64();
        let fixed = match self.profile.role {
            Role::Honest => None,
            Role::FreeRider => Some(ArcSet::empty()),
            Role::Liar => Some(lie(world, &self.profile.id)),
        };
        if let Some(fixed) = &fixed {
            self.disk.target = fixed.clone();
        }
        if self.profile.role == Role::Liar {
            self.disk.keeps_nothing = true;
            self.disk.held = self.disk.target.clone();
        }
        let settings = Settings {
            copies: world.copies,
            fixed,
            quota: self.disk.quota,
            idle: world.idle,
            patience: world.patience,
            push: true,
            pull: true,
            seed,
        };
        let mut cx = Cx {
            world,
            now,
            me: &self.profile,
            port: &mut self.port,
            disk: &mut self.disk,
            start: self.starts,
            out,
        };
        let clock = cx.clock();
        let swarm = Swarm::new(clock, self.profile.key.clone(), world.space, settings);
        let mut run = Box::new(Running::new(swarm));
        if let Some(first) = first {
            cx.disk.held = ArcSet::full();
            cx.disk.target = ArcSet::full();
            let stored = cx.disk.store(first);
            cx.see(What::Stored(stored.new.iter().map(Aspect::key).collect()));
        }
        run.enter(&mut cx, &contacts, &self.known);
        run.settle(&mut cx);
        self.run = Some(run);
    }

    fn stop(&mut self, world: &World, now: Time, how: How, out: &mut Out) {
        let Some(run) = self.run.take() else { return };
        self.port.keep(now, 0);
        self.known = run.conns.keys().copied().collect();
        self.disk.kept = run.swarm.kept();
        for (peer, conn) in &run.conns {
            let me = self.profile.index;
            match how {
                How::Politely => {
                    let packet = Packet::Closed { conn: conn.id, unused: false };
                    let event = Event::Packet { peer: me, packet, read: false };
                    let sending = Sending {
                        bytes: 40,
                        cause: Cause::Control,
                        waits: false,
                        after: conn.control_lane,
                    };
                    self.port.send(world, out, now, me, *peer, event, sending);
                }
                How::Crash | How::ForGood => {
                    self.port.give(out, now + SILENCE, me, *peer, Event::Silent(me, conn.id));
                }
            }
        }
        if how == How::ForGood {
            self.gone = true;
            let keys = self.disk.ids.iter().map(|(key, _)| *key).collect();
            let what = What::Dropped(keys);
            out.seen.push(Seen { at: now, node: self.profile.index, what });
            self.disk = Disk::new(None);
            self.known = Vec::new();
        }
    }
}

/// What a liar claims.
fn lie(world: &World, id: &NodeId) -> ArcSet {
    use arcwise_proto::ring::{Location, RingArc};
    RingArc::around(Location::of_node(&world.space, id), world.lie).into()
}

impl Running {
    fn new(swarm: Swarm) -> Self {
        Self {
            swarm,
            woken: None,
            changed: false,
            claims: 0,
            conns: BTreeMap::new(),
            dialing: BTreeMap::new(),
            attempts: 0,
            sessions: BTreeMap::new(),
            waiting: Vec::new(),
            filling: BTreeMap::new(),
            asking: BTreeMap::new(),
            searches: BTreeMap::new(),
            next_search: 0,
            batches: BTreeMap::new(),
            next_batch: 0,
            waits: BTreeMap::new(),
            todo: VecDeque::new(),
        }
    }

    fn enter(&mut self, cx: &mut Cx<'_>, contacts: &[u32], known: &[u32]) {
        let (now, local) = (cx.clock(), self.local(cx));
        let [_, a, b, c] = cx.me.index.to_be_bytes();
        let address = SocketAddr::from((Ipv4Addr::new(10, a, b, c), 4000));
        // Other starts have other numbers of attempts, so that connections are not mixed up.
        self.attempts = u64::from(cx.start) << 32;
        self.swarm.set_addresses(now, vec![Address::Ip(address)]);
        self.swarm.set_local(now, local);
        self.swarm.set_outside(now, cx.disk.outside());
        for record in std::mem::take(&mut cx.disk.kept) {
            self.swarm.restore(now, record);
        }
        for contact in contacts.iter().chain(known) {
            let id = cx.id(*contact);
            self.swarm.contact(now, id);
        }
        self.swarm.tick(now);
        cx.see(What::Claims(cx.disk.held.clone(), cx.disk.target.clone()));
        if cx.disk.full {
            cx.timer(cx.now + Duration::from_secs(1), Timer::Room);
        }
    }

    fn handle(&mut self, cx: &mut Cx<'_>, event: Event) {
        match event {
            // Done by the node.
            Event::Start { .. } | Event::Stop(_) => {}
            Event::Publish { aspect, receipts } => {
                self.write(cx, vec![aspect], Source::Authored { receipts });
            }
            Event::Ask(entry) => self.search(cx, entry),
            Event::Packet { peer, packet, read } => self.arrived(cx, peer, packet, read),
            Event::Silent(peer, conn) => self.lost(cx, peer, conn, true),
            Event::Timer { start, timer } if start == cx.start => self.time(cx, timer),
            Event::Timer { .. } => {}
        }
    }

    fn time(&mut self, cx: &mut Cx<'_>, timer: Timer) {
        match timer {
            Timer::Wake => {
                if self.woken == Some(cx.now) {
                    self.woken = None;
                    let now = cx.clock();
                    self.swarm.tick(now);
                }
            }
            Timer::Dialed(conn) => self.not_reached(cx, conn),
            Timer::Synced(batch) => self.synced(cx, batch),
            Timer::Idle(peer, stream) => self.may_be_idle(cx, peer, stream),
            Timer::Answered { peer, stream, keys, aspects, bytes } => {
                self.answered(cx, (peer, stream), keys, aspects, bytes);
            }
            Timer::Waiting => self.reopen(cx),
            Timer::Fill(peer) => self.todo.push_back(Todo::Fill(peer)),
            Timer::Push(peer) => self.push_on(cx, peer),
            Timer::Ping(peer, nonce) => self.no_pong(cx, peer, nonce),
            Timer::Asked(peer, stream) => self.no_answer(cx, peer, stream),
            Timer::Search(id) => self.search_on(cx, id),
            Timer::Room => self.look_for_room(cx),
        }
    }

    /// Does what is to be done now, and sets the clock for the rest.
    fn settle(&mut self, cx: &mut Cx<'_>) {
        loop {
            if let Some(todo) = self.todo.pop_front() {
                match todo {
                    Todo::Open(opener) => self.open(cx, opener),
                    Todo::Fill(peer) => self.fill(cx, peer),
                }
            } else if let Some(action) = self.swarm.poll_action(cx.clock()) {
                self.act(cx, action);
            } else if std::mem::take(&mut self.changed) {
                self.tell_all(cx);
            } else {
                break;
            }
        }
        let at = self.swarm.wake_at().map(|at| skewed(at, -cx.me.skew).max(cx.now));
        if let Some(at) = at.filter(|_| at != self.woken) {
            // What is due now has been done.
            let at = at.max(cx.now + Duration::from_micros(1));
            self.woken = Some(at);
            cx.timer(at, Timer::Wake);
        }
    }

    /// What this node tells of itself.
    fn local(&self, cx: &Cx<'_>) -> LocalSpace {
        let disk = &*cx.disk;
        let (mut count, mut bytes) = (disk.count(), disk.bytes);
        if cx.is_liar() {
            let part = disk.held.fraction();
            count = (cx.world.amount.0 as f64 * part) as u64;
            bytes = (cx.world.amount.1 as f64 * part) as u64;
        }
        LocalSpace {
            id: cx.world.space,
            number: 1,
            query: self.swarm.query().union(&disk.held),
            store: disk.held.clone(),
            target: disk.target.clone(),
            count,
            bytes,
            full: disk.full,
        }
    }

    fn told_local(&mut self, cx: &mut Cx<'_>) {
        let local = self.local(cx);
        self.swarm.set_local(cx.clock(), local);
    }

    fn tell_all(&mut self, cx: &mut Cx<'_>) {
        self.told_local(cx);
        let local = self.local(cx);
        let peers: Vec<u32> = self.conns.keys().copied().collect();
        for peer in peers {
            if let Some(conn) = self.conns.get_mut(&peer) {
                conn.control.set_spaces(cx.clock(), vec![local.clone()]);
                self.control(cx, peer);
            }
        }
    }

    fn act(&mut self, cx: &mut Cx<'_>, action: Action) {
        let now = cx.clock();
        let index = |node: &NodeId| cx.world.index.get(node).copied();
        match action {
            Action::Dial(to) => {
                if let Some(peer) = index(&to) {
                    self.dial(cx, peer);
                }
            }
            Action::Close(to) => {
                let wanted = self.swarm.wants(&to);
                if let Some(peer) = index(&to).filter(|_| !wanted) {
                    self.close(cx, peer);
                }
            }
            Action::Tell(to, peers) => {
                if let Some(peer) = index(&to) {
                    self.tell(cx, peer, peers);
                }
            }
            Action::Find(whom, location) => {
                if let Some(peer) = index(&whom) {
                    self.find(cx, peer, location);
                }
            }
            Action::Fill(from) => {
                if let Some(peer) = index(&from) {
                    self.fill_from(cx, peer);
                }
            }
            Action::Compare(with) => {
                if let Some(peer) = index(&with) {
                    self.todo.push_back(Todo::Open(session::Opener::compare(peer)));
                }
            }
            Action::Probe(whom) => {
                if let Some(peer) = index(&whom) {
                    self.probe(cx, peer);
                }
            }
            Action::Push { to, keys } => {
                if let Some(peer) = index(&to) {
                    self.push(cx, peer, &keys);
                }
            }
            Action::Announce { to, keys, receipt } => self.announce(cx, &to, keys, receipt),
            Action::Graft { to, keys } => self.queue(cx, &to, push::Push::Graft(keys)),
            Action::Prune { to, keys } => self.queue(cx, &to, push::Push::Prune(keys)),
            Action::Receipt { to, keys } => self.queue(cx, &to, push::Push::Receipt(keys)),
            Action::Replicated(wait) => {
                if let Some(keys) = self.waits.remove(&wait) {
                    let holders = self.swarm.holders(wait);
                    self.swarm.cancel(wait);
                    cx.see(What::Acknowledged(keys, holders));
                }
            }
            Action::Audit(whom) => {
                if let Some(peer) = index(&whom) {
                    self.audit(cx, peer);
                }
            }
            Action::Give { to, arcs } => {
                if let Some(peer) = index(&to) {
                    let opener = session::Opener::give(peer, arcs, cx.disk);
                    self.todo.push_back(Todo::Open(opener));
                }
            }
            Action::Aim(arcs) => {
                cx.disk.target = arcs.clone();
                self.claim_only(cx, &arcs);
                let outside = cx.disk.outside();
                self.told_local(cx);
                self.swarm.set_outside(now, outside);
            }
            Action::Disclaim(arcs) => {
                let keep = cx.disk.held.difference(&arcs);
                self.claim_only(cx, &keep);
            }
            Action::Drop { arcs, until } => {
                let gone = cx.disk.remove(&arcs, until);
                let outside = cx.disk.outside();
                if !gone.is_empty() {
                    cx.see(What::Dropped(gone));
                    let local = self.local(cx);
                    self.swarm.set_local(now, local);
                    self.swarm.changed(now);
                }
                self.swarm.set_outside(now, outside);
            }
        }
    }

    /// Claims nothing outside of these arcs.
    fn claim_only(&mut self, cx: &mut Cx<'_>, keep: &ArcSet) {
        self.claims += 1;
        cx.disk.held = cx.disk.held.intersect(keep);
        cx.see(What::Claims(cx.disk.held.clone(), cx.disk.target.clone()));
        self.told_local(cx);
        self.changed = true;
    }

    /// Writes a batch to the disk; [`Running::synced`] follows.
    fn write(&mut self, cx: &mut Cx<'_>, aspects: Vec<Aspect>, source: Source) {
        let id = self.next_batch;
        self.next_batch += 1;
        self.batches.insert(id, (aspects, source));
        let part = 0.5 + (cx.port.random.next_u64() >> 11) as f64 / (1u64 << 53) as f64;
        cx.timer(cx.now + cx.world.sync.mul_f64(part), Timer::Synced(id));
    }

    fn synced(&mut self, cx: &mut Cx<'_>, batch: u64) {
        let Some((aspects, source)) = self.batches.remove(&batch) else { return };
        let count = aspects.len();
        let Stored { new, again, full } = cx.disk.store(aspects);
        let keys: Vec<AspectKey> = new.iter().map(Aspect::key).collect();
        let now = cx.clock();
        if full {
            self.is_full(cx);
        }
        let arrival = match source {
            Source::Authored { .. } => Arrival::Authored,
            Source::Pushed(peer) => Arrival::Pushed(cx.id(peer)),
            Source::Session(..) => Arrival::Fetched,
        };
        if let Source::Pushed(peer) = source {
            let peer = cx.id(peer);
            match full {
                true => self.swarm.not_stored(&peer),
                false => self.swarm.pushed(peer, &keys, &again),
            }
        }
        if !keys.is_empty() {
            if !cx.is_liar() {
                cx.see(What::Stored(keys.clone()));
            }
            let local = self.local(cx);
            let sequence = arcwise_proto::session::Holdings::position(cx.disk).count;
            self.swarm.set_amount(now, local.count, local.bytes);
            self.swarm.stored(now, &keys, arrival, sequence);
        }
        match source {
            Source::Authored { receipts } if receipts > 0 && !keys.is_empty() => {
                if let Some(wait) = self.swarm.replicate(now, &keys, receipts) {
                    self.waits.insert(wait, keys);
                }
            }
            Source::Session(peer, stream) => {
                let bytes = new.iter().map(nominal).sum();
                self.session_stored(cx, (peer, stream), count, bytes, full);
            }
            _ => {}
        }
    }

    fn is_full(&mut self, cx: &mut Cx<'_>) {
        cx.timer(cx.now + Duration::from_secs(1), Timer::Room);
        self.told_local(cx);
        self.changed = true;
    }

    fn look_for_room(&mut self, cx: &mut Cx<'_>) {
        if !cx.disk.full {
            return;
        }
        if !cx.disk.has_room() {
            return cx.timer(cx.now + Duration::from_secs(1), Timer::Room);
        }
        cx.disk.full = false;
        self.changed = true;
        let now = cx.clock();
        self.told_local(cx);
        self.swarm.changed(now);
    }
}

/// Bytes that a message would have, with aspects as large as they say.
fn size(message: &Message) -> u64 {
    let aspects = match message {
        Message::AspectBroadcast(it) => it.aspects.as_slice(),
        Message::AspectDataResponse(it) => it.aspects.as_slice(),
        _ => &[],
    };
    let more: u64 = aspects.iter().map(|it| nominal(it) - it.encoding().len() as u64).sum();
    message.encoded_len() as u64 + more
}
