//! Which gossip sessions there may be at a time, what each is about, and what follows from how it ends.
//!
//! With a peer, one session at a time compares; beside it a peer may fetch in a few that only give. What is
//! much is brought by one peer at a time, so that nothing comes twice.

use std::{collections::BTreeMap, time::Duration};

use super::Swarm;
use crate::{
    id::NodeId,
    ring::ArcSet,
    session::{Flow, LocalSpace, PeerSpace, Position, Report, shared_arcs, yields},
    time::Time,
    wire::ErrorCode,
};

/// A session that brings much and has brought nothing for so long does not keep others from beginning. A
/// guess: well above the stalls of a busy disk.
const STALL: Duration = Duration::from_secs(3);

/// So many aspects more than here, and a peer is taken to have much that is lacking. A guess: what may
/// come twice from others is less than a frame.
const MUCH: u64 = 256;

/// Sessions in which a peer only fetches, at a time. A guess: each has two pieces of a megabyte in
/// memory.
const MAX_FETCHING: usize = 4;

/// How long to wait before trying again where the peer is busy with another session.
pub const BUSY: Duration = Duration::from_millis(200);

/// How often to try where the peer is busy or goes first.
const ATTEMPTS: usize = 20;

/// Names a session while it is under way.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct TurnId(u64);

/// What a session is opened for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Purpose {
    /// To compare all that both take.
    Compare,
    /// To fetch a piece of what is to be filled.
    Fill(ArcSet),
    /// To hand over what is held in these arcs.
    Give {
        /// From where.
        arcs: ArcSet,
        /// How many aspects are held there.
        held: u64,
    },
}

/// Whether a session may be opened.
#[derive(Clone, Debug, PartialEq)]
pub enum Opening {
    /// As it says; then [`Swarm::session_ended`] is to be told, whatever comes of it.
    Begin(Plan),
    /// Not before this time, or before another session has ended.
    Wait(Time),
    /// Not at all.
    Never(Refusal),
}

/// Why a session makes no sense.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// The peer is not connected, or not in the space.
    NotShared,
    /// The peer takes nothing, for want of room.
    PeerFull,
    /// Neither takes anything, for want of room.
    NoRoom,
}

/// What a session is to be about.
#[derive(Clone, Debug, PartialEq)]
pub struct Plan {
    /// Which session it is.
    pub turn: TurnId,
    /// The peer's number for the space.
    pub number: u32,
    /// How many aspects the peer holds.
    pub peer_count: u64,
    /// The part of the ring.
    pub arcs: ArcSet,
    /// Who takes.
    pub flow: Flow,
    /// Whether a list costs less than to find out what differs, since about all of it does.
    pub lists: bool,
    /// Whether it is about a part of what both take only, of which nothing follows for the whole.
    pub piece: bool,
    /// Where the two stood when the last session showed that they held the same there.
    pub after: Option<(Position, Position)>,
}

/// What to change about a session that the peer has ended with an error, and how long to wait, before it is
/// tried again.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Again {
    /// How often it was tried.
    pub attempts: usize,
    /// Compare by lists.
    pub lists: bool,
    /// Do not refer to where the last session ended, since the peer does not know that.
    pub foreign: bool,
}

impl Again {
    /// How long to wait before it is tried again, with what is changed here; `None` where it is over. `piece`
    /// as in the [`Plan`].
    pub fn after(&mut self, code: ErrorCode, piece: bool) -> Option<Duration> {
        self.attempts += 1;
        if self.attempts >= ATTEMPTS && !(piece && code == ErrorCode::Busy) {
            return None;
        }
        match code {
            ErrorCode::Superseded => Some(Duration::ZERO),
            // Where others have it too, one of them is asked instead after a while.
            ErrorCode::Busy => Some(BUSY),
            ErrorCode::UnknownPosition if !self.foreign => {
                self.foreign = true;
                Some(Duration::ZERO)
            }
            ErrorCode::TooCostly if !self.lists => {
                self.lists = true;
                Some(Duration::ZERO)
            }
            _ => None,
        }
    }
}

/// The sessions of one space that are under way.
#[derive(Debug, Default)]
pub(super) struct Turns {
    next: u64,
    running: BTreeMap<TurnId, Turn>,
    /// Of what is compared as a whole, who brings much; and when something of that came last.
    bringer: Option<(TurnId, Time)>,
    /// Where both stood when a session with a peer had completed, and for which arcs.
    bookmarks: BTreeMap<NodeId, (ArcSet, (Position, Position))>,
}

#[derive(Debug)]
struct Turn {
    peer: NodeId,
    kind: Kind,
    /// What the peer claimed when we opened it; nothing where the peer has opened it.
    claimed: ArcSet,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    /// It compares, is ours, and the peer has not answered: the peer's own may take its place.
    Opening,
    /// It compares.
    Comparing,
    /// The peer only fetches.
    Giving,
    /// We only fetch.
    Fetching,
}

impl Turns {
    fn begin(&mut self, peer: NodeId, kind: Kind, claimed: ArcSet) -> TurnId {
        let id = TurnId(self.next);
        self.next += 1;
        self.running.insert(id, Turn { peer, kind, claimed });
        id
    }

    /// The session that compares with a peer.
    fn comparing(&self, peer: &NodeId) -> Option<(TurnId, Kind)> {
        let mut of_peer = self.running.iter().filter(|(_, turn)| turn.peer == *peer);
        let compares = |kind| matches!(kind, Kind::Opening | Kind::Comparing);
        of_peer.find(|(_, turn)| compares(turn.kind)).map(|(id, turn)| (*id, turn.kind))
    }

    /// Until when somebody else brings much.
    fn brought_until(&self, now: Time) -> Option<Time> {
        self.bringer.map(|(_, moved)| moved + STALL).filter(|until| *until > now)
    }

    pub(super) fn gone(&mut self, peer: &NodeId) {
        let turns = self.running.iter().filter(|(_, turn)| turn.peer == *peer);
        let turns: Vec<TurnId> = turns.map(|(id, _)| *id).collect();
        turns.into_iter().for_each(|id| self.ended(id));
    }

    fn ended(&mut self, id: TurnId) {
        self.running.remove(&id);
        self.bringer.take_if(|(bringer, _)| *bringer == id);
    }
}

impl Swarm {
    /// Opens a session with a peer, where that may be now. `again` says what earlier attempts have shown.
    pub fn open_session(
        &mut self,
        now: Time,
        peer: &NodeId,
        purpose: &Purpose,
        again: Again,
    ) -> Opening {
        let Some(link) = self.links.get(peer) else { return Opening::Never(Refusal::NotShared) };
        let (ours, theirs) = (&self.local, &link.theirs);
        let shared = shared_arcs(ours, theirs);
        let (arcs, alone) = match purpose {
            Purpose::Compare => (shared, true),
            // As good as comparing all, so it is done for both.
            Purpose::Fill(piece) => (piece.clone(), *piece == shared),
            Purpose::Give { arcs, .. } => (arcs.clone(), true),
        };
        let brings = *purpose == Purpose::Compare && brings_much(ours, theirs);
        if brings && let Some(until) = self.brought_until(now) {
            return Opening::Wait(until);
        }
        if alone && self.turns.comparing(peer).is_some() {
            return Opening::Wait(now + STALL);
        }
        let giving = matches!(purpose, Purpose::Give { .. });
        let flow = match (ours.full, theirs.full) {
            (_, true) if giving => return Opening::Never(Refusal::PeerFull),
            (_, false) if giving => Flow::ToBob,
            (false, false) if alone => Flow::Both,
            (false, _) => Flow::ToAlice,
            (true, false) => Flow::ToBob,
            (true, true) => return Opening::Never(Refusal::NoRoom),
        };
        let lists = again.lists
            || matches!(purpose, Purpose::Give { arcs, held } if differs_mostly(arcs, *held, theirs));
        // What an earlier session has shown is only of use to lists.
        let bookmark = self
            .turns
            .bookmarks
            .get(peer)
            .filter(|(of, _)| lists && !again.foreign && of.covers(&arcs));
        let after = bookmark.map(|(_, positions)| *positions);
        let (number, peer_count) = (theirs.number, theirs.count);
        let piece = giving || !alone;
        let kind = if alone { Kind::Opening } else { Kind::Fetching };
        let turn = self.turns.begin(*peer, kind, theirs.store.clone());
        if brings {
            self.turns.bringer = Some((turn, now));
        }
        Opening::Begin(Plan { turn, number, peer_count, arcs, flow, lists, piece, after })
    }

    /// A peer opens a session in which these take. Where that may be, also gives the own session that it
    /// takes the place of, which is to be ended.
    ///
    /// # Errors
    /// What to tell the peer.
    pub fn answer_session(
        &mut self,
        now: Time,
        peer: &NodeId,
        flow: Flow,
    ) -> Result<(TurnId, Option<TurnId>), ErrorCode> {
        let link = self.links.get(peer).ok_or(ErrorCode::UnknownSpace)?;
        let turns = &mut self.turns;
        if flow == Flow::ToAlice {
            let of_peer = |turn: &&Turn| turn.peer == *peer && turn.kind == Kind::Giving;
            return match turns.running.values().filter(of_peer).count() < MAX_FETCHING {
                true => Ok((turns.begin(*peer, Kind::Giving, ArcSet::empty()), None)),
                false => Err(ErrorCode::Busy),
            };
        }
        // What it has and is lacking here, is fetched from here, and from others too.
        if !self.local.full && self.fill.wants(*peer, &self.local, &link.theirs) {
            return Err(ErrorCode::Busy);
        }
        let brings = brings_much(&self.local, &link.theirs);
        if brings && self.brought_until(now).is_some() {
            return Err(ErrorCode::Busy);
        }
        let ours = match self.turns.comparing(peer) {
            Some((_, Kind::Opening)) if !yields(&self.us, peer) => {
                return Err(ErrorCode::Superseded);
            }
            Some((ours, Kind::Opening)) => Some(ours),
            Some(_) => return Err(ErrorCode::Busy),
            None => None,
        };
        if let Some(ours) = ours {
            self.turns.ended(ours);
        }
        let turn = self.turns.begin(*peer, Kind::Comparing, ArcSet::empty());
        if brings {
            self.turns.bringer = Some((turn, now));
        }
        Ok((turn, ours))
    }

    /// Something of a session has come from the peer.
    pub fn session_moved(&mut self, now: Time, turn: TurnId) {
        if let Some(running) = self.turns.running.get_mut(&turn)
            && running.kind == Kind::Opening
        {
            // The peer has answered: it can no longer be superseded.
            running.kind = Kind::Comparing;
        }
        if let Some((bringer, moved)) = &mut self.turns.bringer
            && *bringer == turn
        {
            *moved = now;
        }
    }

    /// Whether another session has taken the place of this one, or it is over for another reason.
    pub fn session_is_lost(&self, turn: TurnId) -> bool {
        !self.turns.running.contains_key(&turn)
    }

    /// Whether a session that compares with this peer is under way.
    pub fn session_runs(&self, peer: &NodeId) -> bool {
        self.turns.comparing(peer).is_some()
    }

    /// A session has completed. Gives the arcs that are held now and may be claimed, as long as nothing was
    /// given up since it began.
    ///
    /// The peer's set was taken after we opened the session, so what the peer claimed before that, and claims
    /// still, is in it. Of a session that the peer has opened that cannot be said: what it has claimed
    /// since may overtake its first message.
    pub fn session_completed(&mut self, turn: TurnId, peer: &NodeId, report: &Report) -> ArcSet {
        match report.positions {
            Some(positions) => {
                self.turns.bookmarks.insert(*peer, (report.arcs.clone(), positions));
            }
            None => drop(self.turns.bookmarks.remove(peer)),
        }
        let (turn, link) = (self.turns.running.get(&turn), self.links.get(peer));
        let proven = report.took() && !report.constrained && report.in_sync();
        match turn.zip(link).filter(|_| proven) {
            Some((turn, link)) => {
                report.arcs.intersect(&turn.claimed).intersect(&link.theirs.store)
            }
            None => ArcSet::empty(),
        }
    }

    /// A session is over, however it ended. Others that wait may begin now.
    pub fn session_ended(&mut self, turn: TurnId) {
        self.turns.ended(turn);
    }

    /// Until when nothing that is much may begin to come, beside what is being filled or brought.
    fn brought_until(&self, now: Time) -> Option<Time> {
        match self.fill.is_active() {
            true => Some(now + STALL),
            false => self.turns.brought_until(now),
        }
    }
}

/// Whether a peer seems to have much that is lacking here.
fn brings_much(ours: &LocalSpace, theirs: &PeerSpace) -> bool {
    !ours.full && theirs.count > ours.count + MUCH
}

/// Whether so little is held in these arcs, compared with what the peer may hold there, that the two
/// differ in about all of it: then a list of the little costs less.
fn differs_mostly(arcs: &ArcSet, held: u64, theirs: &PeerSpace) -> bool {
    let part = arcs.intersect(&theirs.store).len() as f64 / theirs.store.len().max(1) as f64;
    (held as f64) < theirs.count as f64 * part / 2.0
}
