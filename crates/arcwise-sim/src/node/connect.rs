//! Connections: dialling, the control stream, and how they end.

use std::{collections::BTreeMap, time::Duration};

use arcwise_proto::{
    NodeId, Time,
    limits::PAGE_KEYS,
    ring::ArcSet,
    session::{
        Binding, Control, ControlOutput, Digest, Gist, Holdings as _, PeerSpace, Position,
        shared_arcs,
    },
    swarm::PushQueue,
    wire::{Message, Observed, PeerInfo},
};

use super::{Cause, Cx, Role, Running, Sending, size};
use crate::{
    event::{ConnId, OnStream, Packet, StreamId, Timer, What, Witness},
    random,
};

/// How long an attempt to connect may take.
const ATTEMPT: Duration = Duration::from_secs(10);

/// How long a pong may take.
const PONG: Duration = Duration::from_secs(10);

/// Bytes of the packets that make a connection, of either side: a few padded to 1200 bytes, and a
/// certificate.
const HANDSHAKE: u64 = 3 * 1200;

/// One end of a connection.
pub(super) struct Conn {
    pub(super) id: ConnId,
    pub(super) dialed: bool,
    since: Time,
    pub(super) control: Control,
    /// Until its Hello has come, a peer is nobody.
    max_wants: Option<usize>,
    /// What the peer told last, once both have proven to be in the space.
    pub(super) theirs: Option<PeerSpace>,
    /// When what was sent last on these streams arrives.
    pub(super) control_lane: Time,
    pub(super) push_lane: Time,
    pub(super) pushes: PushQueue,
    /// Until when the line is taken by a push.
    pub(super) pushing: Time,
    next_stream: u32,
    pings: BTreeMap<[u8; 8], ()>,
    /// What both take, when it was compared last: how the disk stood, and where.
    gist: Option<Box<(Position, ArcSet, Gist)>>,
}

impl Conn {
    pub(super) fn max_wants(&self) -> usize {
        self.max_wants.unwrap_or(PAGE_KEYS)
    }

    /// A stream that this end opens.
    pub(super) fn stream(&mut self) -> StreamId {
        self.next_stream += 1;
        StreamId { of_dialer: self.dialed, number: self.next_stream }
    }
}

impl Running {
    /// One attempt to connect, unless there is a connection or one is under way.
    pub(super) fn dial(&mut self, cx: &mut Cx<'_>, peer: u32) {
        if self.conns.contains_key(&peer) || self.dialing.contains_key(&peer) {
            return;
        }
        self.attempts += 1;
        let conn = ConnId { dialer: cx.me.index, attempt: self.attempts };
        self.dialing.insert(peer, conn.attempt);
        let sending =
            Sending { bytes: HANDSHAKE, cause: Cause::Control, waits: false, after: cx.now };
        cx.send(peer, Packet::Dial(conn), sending);
        cx.timer(cx.now + ATTEMPT, Timer::Dialed(conn));
    }

    /// An attempt has led to nothing.
    pub(super) fn not_reached(&mut self, cx: &mut Cx<'_>, conn: ConnId) {
        let peer = self.dialing.iter().find(|(_, attempt)| **attempt == conn.attempt);
        let Some(peer) = peer.map(|(peer, _)| *peer) else { return };
        self.dialing.remove(&peer);
        let id = cx.id(peer);
        self.swarm.unreachable(cx.clock(), &id);
        self.search_unreachable(cx, peer);
    }

    /// A packet has come.
    pub(super) fn arrived(&mut self, cx: &mut Cx<'_>, from: u32, packet: Packet, read: bool) {
        let bytes = match &packet {
            Packet::Push { message, .. }
            | Packet::Stream { what: OnStream::Message(message, _), .. } => Some(size(message)),
            Packet::Stream { .. } => Some(0),
            _ => None,
        };
        if let Some(bytes) = bytes.filter(|_| !read) {
            let takes = Duration::from_secs_f64(bytes as f64 * 8.0 / cx.world.network.down);
            let done = cx.port.down_free.max(cx.now) + takes;
            cx.port.down_free = done;
            if done > cx.now {
                let event = crate::event::Event::Packet { peer: from, packet, read: true };
                let me = cx.me.index;
                return cx.port.give(cx.out, done, me, me, event);
            }
        }
        match packet {
            Packet::Dial(conn) => {
                if !cx.me.unreachable {
                    self.accept(cx, from, conn);
                }
            }
            Packet::Accepted(conn) => {
                if self.dialing.get(&from) == Some(&conn.attempt) {
                    self.dialing.remove(&from);
                    self.connect(cx, from, conn, true);
                } else {
                    self.refuse(cx, from, conn);
                }
            }
            Packet::Closed { conn, unused } => {
                if self.dialing.get(&from) == Some(&conn.attempt) && conn.dialer == cx.me.index {
                    self.not_reached(cx, conn);
                }
                self.lost(cx, from, conn, !unused);
            }
            Packet::Control { conn, message, witness } => {
                if self.knows(cx, from, conn) {
                    self.told(cx, from, message, witness);
                }
            }
            Packet::Push { conn, message } => {
                if self.knows(cx, from, conn) {
                    self.pushed(cx, from, message);
                }
            }
            Packet::Stream { conn, stream, what } => {
                if self.knows(cx, from, conn) {
                    self.on_stream(cx, from, stream, what);
                }
            }
        }
    }

    /// Whether a connection is the one in use; else the peer is told that it is not.
    fn knows(&mut self, cx: &mut Cx<'_>, peer: u32, conn: ConnId) -> bool {
        let knows = self.conns.get(&peer).is_some_and(|it| it.id == conn);
        if !knows {
            self.refuse(cx, peer, conn);
        }
        knows
    }

    fn refuse(&mut self, cx: &mut Cx<'_>, peer: u32, conn: ConnId) {
        let sending = Sending { bytes: 40, cause: Cause::Control, waits: false, after: cx.now };
        cx.send(peer, Packet::Closed { conn, unused: false }, sending);
    }

    fn accept(&mut self, cx: &mut Cx<'_>, peer: u32, conn: ConnId) {
        if !self.takes(cx, peer, false) {
            return self.refuse(cx, peer, conn);
        }
        let sending =
            Sending { bytes: HANDSHAKE, cause: Cause::Control, waits: false, after: cx.now };
        let (_, arrives) = cx.send(peer, Packet::Accepted(conn), sending);
        self.connect(cx, peer, conn, false);
        if let Some(conn) = self.conns.get_mut(&peer) {
            conn.control_lane = arrives;
            conn.push_lane = arrives;
        }
        self.control(cx, peer);
    }

    /// Whether a new connection takes the place of the one there is with the peer.
    fn takes(&self, cx: &Cx<'_>, peer: u32, dialed: bool) -> bool {
        let Some(old) = self.conns.get(&peer) else { return true };
        let age = cx.now.since(old.since);
        arcwise_proto::session::replaces(&cx.me.id, &cx.id(peer), old.dialed, age, dialed)
    }

    fn connect(&mut self, cx: &mut Cx<'_>, peer: u32, id: ConnId, dialed: bool) {
        if !self.takes(cx, peer, dialed) {
            return self.refuse(cx, peer, id);
        }
        if let Some(old) = self.conns.remove(&peer) {
            self.drop_streams(cx, peer);
            self.refuse(cx, peer, old.id);
        }
        let secret = random::bytes(id.attempt, "connection", id.dialer.into());
        let binding = Binding::new(secret, dialed);
        let local = self.local(cx);
        let padding = cx.nonce();
        let control = Control::new(cx.clock(), binding, "arcwise-sim", padding, None, vec![local]);
        let conn = Conn {
            id,
            dialed,
            since: cx.now,
            control,
            max_wants: None,
            theirs: None,
            control_lane: cx.now,
            push_lane: cx.now,
            pushes: PushQueue::default(),
            pushing: cx.now,
            next_stream: 0,
            pings: BTreeMap::new(),
            gist: None,
        };
        self.conns.insert(peer, conn);
        if dialed {
            self.control(cx, peer);
        }
    }

    /// A connection has ended: `broken` where not because one side had no use for it.
    pub(super) fn lost(&mut self, cx: &mut Cx<'_>, peer: u32, conn: ConnId, broken: bool) {
        if self.conns.get(&peer).is_some_and(|it| it.id == conn) {
            self.end(cx, peer, broken);
        }
    }

    /// Nobody here needs the connection any more.
    pub(super) fn close(&mut self, cx: &mut Cx<'_>, peer: u32) {
        let Some(conn) = self.conns.get(&peer).filter(|conn| conn.dialed) else { return };
        let after = conn.control_lane;
        let packet = Packet::Closed { conn: conn.id, unused: true };
        cx.send(peer, packet, Sending { bytes: 40, cause: Cause::Control, waits: false, after });
        self.end(cx, peer, false);
    }

    fn end(&mut self, cx: &mut Cx<'_>, peer: u32, broken: bool) {
        self.conns.remove(&peer);
        self.drop_streams(cx, peer);
        let id = cx.id(peer);
        self.swarm.gone(cx.clock(), &id, broken);
    }

    /// Everything that goes on with a peer is over.
    fn drop_streams(&mut self, cx: &mut Cx<'_>, peer: u32) {
        self.drop_sessions(peer);
        self.filling.remove(&peer);
        self.drop_asking(cx, peer);
        self.ended_session();
    }

    /// Carries out what the control stream's machine wants.
    pub(super) fn control(&mut self, cx: &mut Cx<'_>, peer: u32) {
        self.control_with(cx, peer, None);
    }

    fn control_with(&mut self, cx: &mut Cx<'_>, peer: u32, mut witness: Witness) {
        while let Some(conn) = self.conns.get_mut(&peer) {
            let Some(output) = conn.control.poll_output() else { return };
            match output {
                ControlOutput::Send(message) => {
                    let witness = match &message {
                        Message::Ping(_) => witness.take(),
                        _ => None,
                    };
                    let sending = Sending {
                        bytes: size(&message),
                        cause: Cause::Control,
                        waits: false,
                        after: conn.control_lane,
                    };
                    let packet = Packet::Control { conn: conn.id, message, witness };
                    conn.control_lane = cx.send(peer, packet, sending).1;
                }
                ControlOutput::Met { max_wants, .. } => conn.max_wants = Some(max_wants),
                ControlOutput::Shared(_, theirs) => self.shared(cx, peer, theirs),
                // There is one space, and nobody leaves it.
                ControlOutput::Left(_) => {}
                ControlOutput::Peers(_, infos) => self.heard_of(cx, peer, infos),
                ControlOutput::Ended(_) => return self.end(cx, peer, true),
                ControlOutput::Compare { nonce, digests } => {
                    self.compare(cx, peer, nonce, &digests, witness.take());
                }
                ControlOutput::Pong { nonce, differing } => {
                    if conn.pings.remove(&nonce).is_some() {
                        self.probed(cx, peer, Some(differing.is_empty()));
                    }
                }
            }
        }
    }

    fn told(&mut self, cx: &mut Cx<'_>, peer: u32, message: Message, witness: Witness) {
        let Some(conn) = self.conns.get_mut(&peer) else { return };
        if let Err(fault) = conn.control.handle(cx.clock(), message) {
            cx.see(What::Violation(format!("a peer that is honest broke a rule: {fault}")));
            return self.end(cx, peer, true);
        }
        self.control_with(cx, peer, witness);
    }

    fn shared(&mut self, cx: &mut Cx<'_>, peer: u32, theirs: PeerSpace) {
        let Some(conn) = self.conns.get_mut(&peer) else { return };
        let first = conn.theirs.replace(theirs.clone()).is_none();
        let (now, id, dialed) = (cx.clock(), cx.id(peer), conn.dialed);
        if first {
            self.swarm.met(now, id, dialed, theirs);
            self.swarm.linked(&id, Some(self.round_trip(cx, peer)));
            self.search_met(cx, peer);
        } else {
            self.swarm.told(now, &id, theirs);
        }
    }

    pub(super) fn round_trip(&self, cx: &Cx<'_>, peer: u32) -> Duration {
        cx.world.network.latency(cx.me.index, peer) * 2
    }

    pub(super) fn heard_of(&mut self, cx: &mut Cx<'_>, peer: u32, infos: Vec<PeerInfo>) {
        let id = cx.id(peer);
        if let (_, Some(fault)) = self.swarm.heard_of(cx.clock(), id, infos) {
            cx.see(What::Violation(format!("a record that is no record was told: {fault}")));
        }
    }

    pub(super) fn tell(&mut self, cx: &mut Cx<'_>, peer: u32, mut peers: Vec<PeerInfo>) {
        if cx.is_liar() {
            for info in &mut peers {
                info.observed = Some(said_by_liar(cx, info));
            }
        }
        if let Some(conn) = self.conns.get_mut(&peer) {
            conn.control.tell(&cx.world.space, peers);
        }
        self.control(cx, peer);
    }

    // ---- Probes

    /// Asks whether the peer holds the same.
    pub(super) fn probe(&mut self, cx: &mut Cx<'_>, peer: u32) {
        // During a session it cannot be the same.
        if self.swarm.session_runs(&cx.id(peer)) {
            return self.probed(cx, peer, None);
        }
        let nonce = cx.nonce();
        let Some((digest, witness)) = self.digest(cx, peer, nonce) else { return };
        let Some(conn) = self.conns.get_mut(&peer) else { return };
        conn.pings.insert(nonce, ());
        conn.control.ping(nonce, &[(cx.world.space, digest)]);
        cx.timer(cx.now + PONG, Timer::Ping(peer, nonce));
        self.control_with(cx, peer, witness);
    }

    pub(super) fn no_pong(&mut self, cx: &mut Cx<'_>, peer: u32, nonce: [u8; 8]) {
        let conn = self.conns.get_mut(&peer);
        if conn.is_some_and(|conn| conn.pings.remove(&nonce).is_some()) {
            self.probed(cx, peer, None);
        }
    }

    fn probed(&mut self, cx: &mut Cx<'_>, peer: u32, same: Option<bool>) {
        let (now, id) = (cx.clock(), cx.id(peer));
        self.swarm.linked(&id, Some(self.round_trip(cx, peer)));
        self.swarm.probed(now, &id, same);
    }

    /// What is held where a peer takes it too, in short.
    fn digest(&mut self, cx: &Cx<'_>, peer: u32, nonce: [u8; 8]) -> Option<(Digest, Witness)> {
        let ours = self.local(cx);
        let conn = self.conns.get_mut(&peer)?;
        let arcs = shared_arcs(&ours, conn.theirs.as_ref()?);
        let position = cx.disk.position();
        let known = conn.gist.take().filter(|it| it.0 == position && it.1 == arcs);
        let (.., gist) = &**conn.gist.insert(known.unwrap_or_else(|| {
            let Ok(gist) = cx.disk.snapshot().gist(&arcs);
            Box::new((position, arcs.clone(), gist))
        }));
        let witness = cx.world.check.then(|| Box::new((cx.disk.ids.clone(), arcs)));
        Some((gist.digest(&nonce), witness))
    }

    /// Compares what the peer has told of with what is held here.
    fn compare(
        &mut self,
        cx: &mut Cx<'_>,
        peer: u32,
        nonce: [u8; 8],
        digests: &[(arcwise_proto::SpaceId, Digest)],
        theirs: Witness,
    ) {
        let mut differing = Vec::new();
        for (space, digest) in digests {
            let Some((ours, witness)) = self.digest(cx, peer, nonce) else { continue };
            let same = ours == *digest;
            if !same {
                differing.push(*space);
            } else if let Some((theirs, ours)) = theirs.as_ref().zip(witness) {
                let keys = theirs.0.within(&theirs.1).map(|(key, _)| key);
                if !keys.eq(ours.0.within(&ours.1).map(|(key, _)| key)) {
                    let what = format!("a probe of node {peer} says the same where it is not");
                    cx.see(What::Violation(what));
                }
            }
            let id = cx.id(peer);
            self.swarm.heard(cx.clock(), &id, same);
        }
        if let Some(conn) = self.conns.get_mut(&peer) {
            conn.control.pong(nonce, &differing);
        }
    }
}

/// Liars praise each other, and nobody else.
fn said_by_liar(cx: &Cx<'_>, info: &PeerInfo) -> Observed {
    let node: Option<NodeId> = info.record.read().ok().map(|record| record.node);
    let index = node.and_then(|node| cx.world.index.get(&node));
    let liar = index.and_then(|index| cx.world.liars.get(*index as usize)) == Some(&true);
    let (availability, faults) = if liar { (1000, 0) } else { (0, 100) };
    debug_assert!(cx.me.role == Role::Liar);
    Observed { availability, round_trip: None, throughput: None, faults }
}
