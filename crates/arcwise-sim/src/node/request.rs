//! Requests: who is near, what an entry has, and audits.

use std::time::Duration;

use arcwise_proto::{
    Aspect, AspectKey, Location, Time,
    limits::MAX_AUDIT,
    session::Holdings as _,
    swarm::{SETTLED, audit_keys, audit_passed, audit_proof},
    wire::{AspectDataResponse, Audit, AuditProof, FindPeers, Message, PeerInfo, Peers, Query},
};
use rand::Rng as _;

use super::{Cause, Cx, Running, Sending, size};
use crate::event::{OnStream, Packet, StreamId, Timer, Witness};

/// How long an answer may take.
const TIMEOUT: Duration = Duration::from_secs(30);

/// A question that was not answered yet.
pub(super) enum Asking {
    Near,
    /// What was asked for, each with its proof.
    Audit(Vec<(AspectKey, [u8; 32])>),
    Query {
        search: u64,
        aspects: Vec<AspectKey>,
        nearer: Option<Vec<PeerInfo>>,
    },
}

type Key = (u32, StreamId);

impl Running {
    /// Asks a peer something.
    pub(super) fn ask(&mut self, cx: &mut Cx<'_>, peer: u32, question: Message, asking: Asking) {
        let Some(conn) = self.conns.get_mut(&peer) else { return };
        let (id, stream) = (conn.id, conn.stream());
        self.asking.insert((peer, stream), asking);
        let sending =
            Sending { bytes: size(&question), cause: Cause::Request, waits: false, after: cx.now };
        let what = OnStream::Message(question, None);
        cx.send(peer, Packet::Stream { conn: id, stream, what }, sending);
        cx.timer(cx.now + TIMEOUT, Timer::Asked(peer, stream));
    }

    fn number(&self, peer: u32) -> Option<u32> {
        Some(self.conns.get(&peer)?.theirs.as_ref()?.number)
    }

    pub(super) fn find(&mut self, cx: &mut Cx<'_>, peer: u32, location: Location) {
        if let Some(space) = self.number(peer) {
            self.ask(cx, peer, FindPeers { space, location }.into(), Asking::Near);
        }
    }

    pub(super) fn query(&mut self, cx: &mut Cx<'_>, peer: u32, search: u64) {
        let entry = self.searches.get(&search).map(|search| search.entry);
        let Some((space, entry)) = self.number(peer).zip(entry) else {
            return self.search_failed(cx, peer, search);
        };
        let asking = Asking::Query { search, aspects: Vec::new(), nearer: None };
        self.ask(cx, peer, Query { space, entry }.into(), asking);
    }

    /// Has the peer prove that it holds something.
    pub(super) fn audit(&mut self, cx: &mut Cx<'_>, peer: u32) {
        let theirs = self.conns.get(&peer).and_then(|conn| conn.theirs.as_ref());
        let Some(theirs) = theirs else { return };
        let (space, arcs) = (theirs.number, theirs.store.intersect(&cx.disk.held));
        let (nonce, at) = (cx.nonce(), Location(cx.port.random.next_u32()));
        let Ok(keys) = audit_keys(&*cx.disk, &arcs, at);
        let settled =
            Time::from_micros(cx.clock().as_micros().saturating_sub(SETTLED.as_micros() as u64));
        let found = keys.iter().filter_map(|key| cx.disk.ids.get(key));
        let old = found.filter(|aspect| aspect.published() < settled);
        let mut chosen: Vec<Aspect> = old.take(MAX_AUDIT).cloned().collect();
        chosen.sort_by_key(Aspect::key);
        chosen.dedup_by_key(|aspect| aspect.key());
        let id = cx.id(peer);
        if chosen.is_empty() {
            return self.swarm.audited(cx.clock(), &id, None);
        }
        let keys = chosen.iter().map(Aspect::key).collect();
        let asked = chosen.iter().map(|it| (it.key(), audit_proof(&nonce, &id, it))).collect();
        self.ask(cx, peer, Audit { space, nonce, keys }.into(), Asking::Audit(asked));
    }

    /// Something has come on a stream that carries a session or a request.
    pub(super) fn on_stream(
        &mut self,
        cx: &mut Cx<'_>,
        peer: u32,
        stream: StreamId,
        what: OnStream,
    ) {
        let key = (peer, stream);
        if self.asking.contains_key(&key) {
            return self.on_asking(cx, key, what);
        }
        if self.sessions.contains_key(&key) {
            return self.on_session(cx, key, what);
        }
        let ours = self.conns.get(&peer).is_some_and(|conn| conn.dialed == stream.of_dialer);
        if let OnStream::Message(message, witness) = what
            && !ours
        {
            self.serve(cx, key, message, witness);
        }
    }

    fn serve(&mut self, cx: &mut Cx<'_>, key: Key, message: Message, witness: Witness) {
        let (now, peer) = (cx.clock(), cx.id(key.0));
        match message {
            Message::ArcRequest(request) => self.answer(cx, key, request, witness),
            Message::FindPeers(find) => {
                let peers = self.swarm.nearest(now, &peer, find.location);
                self.give_answer(cx, key, vec![Peers { space: 0, peers }.into()]);
            }
            Message::Query(query) => {
                let location = Location::of_entry(&query.entry);
                let within = arcwise_proto::RingArc::between(location, location).into();
                let rows = cx.disk.ids.within(&within).map(|(_, row)| &row.aspect);
                let aspects: Vec<Aspect> =
                    rows.filter(|aspect| aspect.entry() == query.entry).cloned().collect();
                let mut answers = Vec::new();
                if !aspects.is_empty() {
                    answers.push(AspectDataResponse { aspects, gone: Vec::new() }.into());
                }
                if !cx.disk.held.contains(location) {
                    let peers = self.swarm.nearest(now, &peer, location);
                    answers.push(Peers { space: 0, peers }.into());
                }
                self.give_answer(cx, key, answers);
            }
            Message::Audit(audit) => {
                let proof = |key: &AspectKey| {
                    let aspect = cx.disk.ids.get(key)?;
                    Some(audit_proof(&audit.nonce, &cx.me.id, aspect))
                };
                let proofs = audit.keys.iter().map(proof).collect();
                self.give_answer(cx, key, vec![AuditProof { proofs }.into()]);
            }
            // Of a session that is over.
            _ => {}
        }
    }

    fn give_answer(&mut self, cx: &mut Cx<'_>, key: Key, messages: Vec<Message>) {
        let mut lane = cx.now;
        for message in messages {
            let what = OnStream::Message(message, None);
            lane = self.reply(cx, key, what, Cause::Request, lane);
        }
        self.reply(cx, key, OnStream::End, Cause::Request, lane);
    }

    fn on_asking(&mut self, cx: &mut Cx<'_>, key: Key, what: OnStream) {
        let Some(mut asking) = self.asking.remove(&key) else { return };
        let message = match what {
            OnStream::Message(message, _) => message,
            OnStream::End => return self.asked(cx, key.0, asking, true),
            OnStream::Reset => return self.asked(cx, key.0, asking, false),
        };
        let now = cx.clock();
        match (&mut asking, message) {
            (Asking::Near, Message::Peers(peers)) => {
                return self.heard_of(cx, key.0, peers.peers);
            }
            (Asking::Audit(asked), Message::AuditProof(answer)) => {
                let id = cx.id(key.0);
                let theirs = self.conns.get(&key.0).and_then(|conn| conn.theirs.as_ref());
                let claimed = theirs.map(|theirs| theirs.store.clone()).unwrap_or_default();
                let keys: Vec<AspectKey> = asked.iter().map(|(key, _)| *key).collect();
                let Ok(lacking) = cx.disk.lacks(&keys);
                let passed = audit_passed(asked, &answer.proofs, &claimed, &lacking);
                return self.swarm.audited(now, &id, Some(passed));
            }
            (Asking::Query { aspects, .. }, Message::AspectDataResponse(response)) => {
                aspects.extend(response.aspects.iter().map(Aspect::key));
            }
            (Asking::Query { nearer, .. }, Message::Peers(peers)) => *nearer = Some(peers.peers),
            _ => return self.asked(cx, key.0, asking, false),
        }
        self.asking.insert(key, asking);
    }

    pub(super) fn no_answer(&mut self, cx: &mut Cx<'_>, peer: u32, stream: StreamId) {
        if let Some(asking) = self.asking.remove(&(peer, stream)) {
            self.asked(cx, peer, asking, false);
        }
    }

    /// The connection is gone.
    pub(super) fn drop_asking(&mut self, cx: &mut Cx<'_>, peer: u32) {
        let of_peer = self.asking.keys().filter(|(of, _)| *of == peer);
        for key in of_peer.copied().collect::<Vec<_>>() {
            if let Some(asking) = self.asking.remove(&key) {
                self.asked(cx, peer, asking, false);
            }
        }
    }

    /// An answer is complete, or there is none.
    fn asked(&mut self, cx: &mut Cx<'_>, peer: u32, asking: Asking, complete: bool) {
        match asking {
            Asking::Near => {}
            Asking::Audit(_) => {
                let id = cx.id(peer);
                self.swarm.audited(cx.clock(), &id, None);
            }
            Asking::Query { search, aspects, nearer } => match complete {
                true => self.search_answered(cx, peer, search, aspects, nearer),
                false => self.search_failed(cx, peer, search),
            },
        }
    }
}
