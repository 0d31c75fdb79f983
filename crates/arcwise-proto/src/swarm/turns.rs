//! Which gossip sessions there may be at a time, what each is about, and what follows from how it ends.
//!
//! With a peer, one session at a time compares; beside it a peer may fetch in a few that only give. What is
//! much is brought by one peer at a time, so that nothing comes twice.

use std::{collections::BTreeMap, time::Duration};

use serde::{Deserialize, Serialize};

use super::Swarm;
use crate::{
    id::NodeId,
    ring::ArcSet,
    session::{BUSY, Flow, LocalSpace, PeerSpace, Position, Report, shared_arcs, yields},
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

/// Peers of which is remembered where the last session has led to, at most. Of others everything is compared.
const MAX_BOOKMARKS: usize = 1024;

/// How often to try where the peer is busy or goes first.
const ATTEMPTS: usize = 20;

/// Names a session while it is under way.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct TurnId(u64);

/// What a session is opened for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
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
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
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

    /// Until when a session brings much, but for this one.
    fn brought_until(&self, now: Time, but: Option<TurnId>) -> Option<Time> {
        let bringer = self.bringer.filter(|(id, _)| Some(*id) != but);
        bringer.map(|(_, moved)| moved + STALL).filter(|until| *until > now)
    }

    /// Remembers where both stood when they held the same in these arcs, if they did.
    fn bookmark(&mut self, peer: NodeId, arcs: &ArcSet, positions: Option<(Position, Position)>) {
        self.bookmarks.remove(&peer);
        if let Some(positions) = positions.filter(|_| self.bookmarks.len() < MAX_BOOKMARKS) {
            self.bookmarks.insert(peer, (arcs.clone(), positions));
        }
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
        if brings && let Some(until) = self.brought_until(now, None) {
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
        if !link.trusted {
            // It would be given the same again and again.
            return Err(ErrorCode::Refused);
        }
        // What it has and is lacking here, is fetched from here, and from others too.
        if !self.local.full && self.fill.wants(*peer, &self.local, &link.theirs) {
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
        let brings = brings_much(&self.local, &link.theirs);
        if brings && self.brought_until(now, ours).is_some() {
            return Err(ErrorCode::Busy);
        }
        if let Some(ours) = ours {
            self.turns.ended(ours);
        }
        let turn = self.turns.begin(*peer, Kind::Comparing, ArcSet::empty());
        if brings {
            self.turns.bringer = Some((turn, now));
        }
        Ok((turn, ours))
    }

    /// Something of a session has come from the peer, and not just an error.
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
        self.turns.bookmark(*peer, &report.arcs, report.positions);
        if report.in_sync()
            && !report.constrained
            && report.flow == Flow::Both
            && report.arcs == self.shared_with(peer)
        {
            self.holds_the_same(peer);
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
    fn brought_until(&self, now: Time, but: Option<TurnId>) -> Option<Time> {
        match self.fill.is_active() {
            true => Some(now + STALL),
            false => self.turns.brought_until(now, but),
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        aspect::AuthorKey,
        id::SpaceId,
        session::Role,
        swarm::{Copies, Next, Settings},
    };

    const PEERS: [NodeId; 3] = [NodeId([1; 32]), NodeId([2; 32]), NodeId([3; 32])];

    fn at(millis: u64) -> Time {
        Time::ZERO + Duration::from_secs(1000) + Duration::from_millis(millis)
    }

    fn holding(count: u64) -> PeerSpace {
        let all = ArcSet::full();
        let (store, target, query) = (all.clone(), all.clone(), all);
        PeerSpace { number: 7, store, target, query, count, bytes: 100 * count, full: false }
    }

    /// A node that holds all of the ring, and peers that hold as many aspects as these.
    fn swarm(key: u8, peers: &[(NodeId, u64)]) -> Swarm {
        let settings = Settings {
            copies: Copies::default(),
            fixed: Some(ArcSet::full()),
            quota: None,
            idle: Duration::from_secs(300),
            patience: Duration::from_secs(3600),
            push: true,
            pull: true,
            seed: 1,
        };
        let (key, space) = (AuthorKey::from_bytes(&[key; 32]), SpaceId([9; 32]));
        let mut swarm = Swarm::new(at(0), key, space, settings);
        swarm.set_local(at(0), local(&swarm, ArcSet::full()));
        for (peer, count) in peers {
            swarm.met(at(0), *peer, true, holding(*count));
        }
        swarm
    }

    fn local(swarm: &Swarm, store: ArcSet) -> LocalSpace {
        LocalSpace { query: store.clone(), store, target: ArcSet::full(), ..swarm.local.clone() }
    }

    fn full(swarm: &mut Swarm, full: bool) {
        let local = LocalSpace { full, ..swarm.local.clone() };
        swarm.set_local(at(0), local);
    }

    fn open(swarm: &mut Swarm, millis: u64, peer: &NodeId) -> Opening {
        swarm.open_session(at(millis), peer, &Purpose::Compare, Again::default())
    }

    fn begin(opening: Opening) -> Plan {
        match opening {
            Opening::Begin(plan) => plan,
            other => panic!("{other:?}"),
        }
    }

    fn report(role: Role, arcs: ArcSet) -> Report {
        let position = Position { epoch: 1, count: 5 };
        Report {
            role,
            fetched: 0,
            fetched_bytes: 0,
            sent: 0,
            sent_bytes: 0,
            comparison: None,
            computing: Duration::ZERO,
            listed: 0,
            heard: 0,
            rejected: 0,
            gone: 0,
            arcs,
            constrained: false,
            flow: Flow::Both,
            whole: true,
            positions: Some((position, position)),
        }
    }

    #[test]
    fn both_open_at_once_and_one_goes_on() {
        let (one, two) = (swarm(1, &[]).us, swarm(2, &[]).us);
        let [low, high] = if one < two { [(1, one), (2, two)] } else { [(2, two), (1, one)] };
        // Also where the one that gives way brings much.
        for counts in [(0, 0), (0, 10_000)] {
            let mut first = swarm(low.0, &[(high.1, counts.0)]);
            let mut second = swarm(high.0, &[(low.1, counts.1)]);
            let of_low = begin(open(&mut first, 0, &high.1)).turn;
            let of_high = begin(open(&mut second, 0, &low.1)).turn;
            let answer = |swarm: &mut Swarm, to| swarm.answer_session(at(0), to, Flow::Both);
            assert_eq!(answer(&mut first, &high.1), Err(ErrorCode::Superseded));
            let (answered, ours) = answer(&mut second, &low.1).unwrap();
            assert_eq!(ours, Some(of_high));
            assert!(second.session_is_lost(of_high) && !first.session_is_lost(of_low));
            // The one that gave way must not free the turn of the one that took it.
            second.session_moved(at(1), of_high);
            second.session_ended(of_high);
            assert!(second.session_runs(&low.1));
            assert_eq!(answer(&mut second, &low.1), Err(ErrorCode::Busy));
            second.session_ended(answered);
            assert!(!second.session_runs(&low.1));
            assert!(answer(&mut second, &low.1).is_ok());
        }
    }

    #[test]
    fn one_compares_at_a_time() {
        let mut swarm = swarm(1, &[(PEERS[0], 0), (PEERS[1], 0)]);
        assert_eq!(open(&mut swarm, 0, &PEERS[2]), Opening::Never(Refusal::NotShared));
        let turn = begin(open(&mut swarm, 0, &PEERS[0])).turn;
        swarm.session_moved(at(0), turn);
        let answer = swarm.answer_session(at(0), &PEERS[0], Flow::Both);
        assert_eq!(answer, Err(ErrorCode::Busy), "the peer has answered ours");
        assert!(matches!(open(&mut swarm, 0, &PEERS[0]), Opening::Wait(_)));
        let give = Purpose::Give { arcs: ArcSet::full(), held: 0 };
        let give = swarm.open_session(at(0), &PEERS[0], &give, Again::default());
        assert!(matches!(give, Opening::Wait(_)));
        begin(open(&mut swarm, 0, &PEERS[1]));
        swarm.session_ended(turn);
        begin(open(&mut swarm, 0, &PEERS[0]));
        // With who is gone, none is under way.
        swarm.gone(at(0), &PEERS[0], true);
        swarm.met(at(0), PEERS[0], true, holding(0));
        begin(open(&mut swarm, 0, &PEERS[0]));
    }

    #[test]
    fn beside_it_a_few_only_fetch() {
        let mut swarm = swarm(1, &[(PEERS[0], 0)]);
        begin(open(&mut swarm, 0, &PEERS[0]));
        let mut answer = || swarm.answer_session(at(0), &PEERS[0], Flow::ToAlice);
        let turns: Vec<TurnId> = (0..MAX_FETCHING).map(|_| answer().unwrap().0).collect();
        assert_eq!(answer(), Err(ErrorCode::Busy));
        swarm.session_ended(turns[0]);
        assert!(swarm.answer_session(at(0), &PEERS[0], Flow::ToAlice).is_ok());
    }

    #[test]
    fn much_is_brought_by_one_at_a_time() {
        let [rich, richer, poor] = PEERS;
        let mut swarm = swarm(1, &[(rich, 300), (richer, 10_000), (poor, MUCH)]);
        let turn = begin(open(&mut swarm, 0, &rich)).turn;
        assert_eq!(open(&mut swarm, 0, &richer), Opening::Wait(at(3000)));
        assert_eq!(swarm.answer_session(at(0), &richer, Flow::Both), Err(ErrorCode::Busy));
        let other = begin(open(&mut swarm, 0, &poor)).turn;
        // Only what it brings itself counts.
        swarm.session_moved(at(1900), other);
        swarm.session_moved(at(2000), turn);
        assert_eq!(open(&mut swarm, 4999, &richer), Opening::Wait(at(5000)));
        // It stalls, so another one may begin.
        let turn = begin(open(&mut swarm, 5000, &richer)).turn;
        let third = [(NodeId([4; 32]), 1000)];
        swarm.met(at(5000), third[0].0, true, holding(third[0].1));
        assert_eq!(open(&mut swarm, 5000, &third[0].0), Opening::Wait(at(8000)));
        swarm.session_ended(turn);
        begin(open(&mut swarm, 5000, &third[0].0));
    }

    #[test]
    fn what_is_being_filled_comes_first() {
        let mut swarm = swarm(1, &[(PEERS[0], 1000), (PEERS[1], 1000)]);
        swarm.set_local(at(0), local(&swarm, ArcSet::empty()));
        assert_eq!(swarm.answer_session(at(0), &PEERS[0], Flow::Both), Err(ErrorCode::Busy));
        let Next::Fetch(piece) = swarm.next_piece(at(0), &PEERS[0]) else { panic!() };
        assert!(matches!(open(&mut swarm, 0, &PEERS[1]), Opening::Wait(_)));
        // It is all that both take, so both take, and no other session may be beside it.
        let fill = Purpose::Fill(piece.arcs.clone());
        let plan = begin(swarm.open_session(at(0), &PEERS[0], &fill, Again::default()));
        assert_eq!((plan.flow, plan.piece, &plan.arcs), (Flow::Both, false, &piece.arcs));
        assert!(swarm.session_runs(&PEERS[0]));
        let part = Purpose::Fill("0..=7fffffff".parse().unwrap());
        let plan = begin(swarm.open_session(at(0), &PEERS[0], &part, Again::default()));
        assert_eq!((plan.flow, plan.piece), (Flow::ToAlice, true));
        swarm.piece_ended(at(0), piece.id, true);
        begin(open(&mut swarm, 0, &PEERS[1]));
    }

    #[test]
    fn who_has_no_room_takes_nothing() {
        let mut swarm = swarm(1, &[(PEERS[0], 0), (PEERS[1], 0)]);
        swarm.told(at(0), &PEERS[1], PeerSpace { full: true, ..holding(0) });
        assert_eq!(begin(open(&mut swarm, 0, &PEERS[0])).flow, Flow::Both);
        assert_eq!(begin(open(&mut swarm, 0, &PEERS[1])).flow, Flow::ToAlice);
        assert_eq!(swarm.answers(), (ArcSet::full(), Flow::Both));
        let give = Purpose::Give { arcs: ArcSet::full(), held: 5 };
        swarm.turns.gone(&PEERS[1]);
        let given = swarm.open_session(at(0), &PEERS[1], &give, Again::default());
        assert_eq!(given, Opening::Never(Refusal::PeerFull));
        full(&mut swarm, true);
        swarm.turns.gone(&PEERS[0]);
        assert_eq!(begin(open(&mut swarm, 0, &PEERS[0])).flow, Flow::ToBob);
        assert_eq!(open(&mut swarm, 0, &PEERS[1]), Opening::Never(Refusal::NoRoom));
        assert_eq!(swarm.answers(), (ArcSet::full(), Flow::ToAlice));
        assert!(swarm.takes().is_empty());
    }

    #[test]
    fn what_a_session_has_shown_is_of_use_to_lists() {
        let mut swarm = swarm(1, &[(PEERS[0], 0)]);
        swarm.set_local(at(0), LocalSpace { count: 50, ..local(&swarm, ArcSet::empty()) });
        let turn = begin(open(&mut swarm, 0, &PEERS[0])).turn;
        let all = report(Role::Alice, ArcSet::full());
        assert!(swarm.session_completed(turn, &PEERS[0], &all).is_full());
        swarm.session_ended(turn);
        let mut plan = |again| {
            let opening = swarm.open_session(at(0), &PEERS[0], &Purpose::Compare, again);
            let plan = begin(opening);
            swarm.session_ended(plan.turn);
            plan
        };
        let lists = Again { lists: true, ..Again::default() };
        assert_eq!(plan(Again::default()).after, None);
        assert_eq!(plan(lists).after, all.positions);
        assert_eq!(plan(Again { foreign: true, ..lists }).after, None);
        // Both hold as many, although the peer has said something else.
        assert_eq!(plan(lists).peer_count, 50);
        let turn = begin(open(&mut swarm, 0, &PEERS[0])).turn;
        let failed = Report { gone: 1, positions: None, ..all.clone() };
        assert!(swarm.session_completed(turn, &PEERS[0], &failed).is_empty());
        swarm.session_ended(turn);
        let opening = swarm.open_session(at(0), &PEERS[0], &Purpose::Compare, lists);
        let plan = begin(opening);
        assert_eq!(plan.after, None);
        // Nothing follows where it is over.
        swarm.session_ended(plan.turn);
        assert!(swarm.session_completed(plan.turn, &PEERS[0], &all).is_empty());
    }

    #[test]
    fn what_is_tried_again() {
        let mut again = Again::default();
        assert_eq!(again.after(ErrorCode::Superseded, false), Some(Duration::ZERO));
        assert_eq!(again.after(ErrorCode::Busy, false), Some(BUSY));
        assert_eq!(again.after(ErrorCode::UnknownPosition, false), Some(Duration::ZERO));
        assert_eq!(again.after(ErrorCode::TooCostly, false), Some(Duration::ZERO));
        assert!(again.lists && again.foreign);
        assert_eq!(again.after(ErrorCode::UnknownPosition, false), None);
        assert_eq!(again.after(ErrorCode::TooCostly, false), None);
        assert_eq!(again.after(ErrorCode::Protocol, true), None);
        // A piece waits for as long as nobody else is asked for it.
        let mut again = Again::default();
        let tries = (0..1000).take_while(|_| again.after(ErrorCode::Busy, false).is_some());
        assert_eq!(tries.count(), ATTEMPTS - 1);
        assert_eq!(again.after(ErrorCode::Busy, true), Some(BUSY));
        assert_eq!(again.after(ErrorCode::Superseded, true), None);
    }
}
