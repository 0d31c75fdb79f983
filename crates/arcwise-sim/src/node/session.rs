//! Gossip sessions: messages, time and disk are carried to [`Session`], which decides.

use std::collections::VecDeque;

use arcwise_proto::{
    Aspect, AspectKey, Time,
    limits::DATA_FRAME_TARGET,
    reconcile::exchange::{Limits, Link},
    ring::ArcSet,
    session::{
        Constraints, Flow, Holdings as _, Input, Output, Report, Session, SessionError, Terms,
    },
    swarm::{Again, BUSY, Opening, Outcome, PieceId, Plan, Purpose, Refusal, TurnId},
    wire::{ArcRequest, AspectDataResponse, ErrorCode, ErrorMessage, Message},
};

use super::{Cause, Cx, Running, Sending, Source, Todo, size};
use crate::{
    disk::{Disk, Ids, nominal},
    event::{OnStream, Packet, StreamId, Timer, What, Witness},
};

/// A session that is to be opened.
#[derive(Debug)]
pub(super) struct Opener {
    pub(super) peer: u32,
    why: Why,
    again: Again,
}

#[derive(Debug)]
enum Why {
    Compare,
    Fill { piece: PieceId, arcs: ArcSet, all: bool },
    Give { arcs: ArcSet, held: u64, before: u64 },
}

/// It is opened then, or when another session has ended.
#[derive(Debug)]
pub(super) struct Waiting {
    at: Time,
    for_turn: bool,
    opener: Opener,
}

impl Opener {
    pub(super) fn compare(peer: u32) -> Self {
        Self { peer, why: Why::Compare, again: Again::default() }
    }

    pub(super) fn fill(peer: u32, piece: PieceId, arcs: ArcSet, all: bool) -> Self {
        Self { peer, why: Why::Fill { piece, arcs, all }, again: Again::default() }
    }

    pub(super) fn give(peer: u32, arcs: ArcSet, disk: &Disk) -> Self {
        let held = disk.ids.within(&arcs).count() as u64;
        let why = Why::Give { arcs, held, before: disk.position().count };
        Self { peer, why, again: Again::default() }
    }

    fn purpose(&self) -> Purpose {
        match &self.why {
            Why::Compare => Purpose::Compare,
            Why::Fill { arcs, .. } => Purpose::Fill(arcs.clone()),
            Why::Give { arcs, held, .. } => Purpose::Give { arcs: arcs.clone(), held: *held },
        }
    }

    fn piece(&self) -> Option<PieceId> {
        match self.why {
            Why::Fill { piece, .. } => Some(piece),
            _ => None,
        }
    }
}

/// A session that is under way.
pub(super) struct Sess {
    session: Session<Ids>,
    turn: TurnId,
    /// Where this end has opened it: what for, and whether it is about a part only.
    opened: Option<(Opener, bool)>,
    /// When what was sent last arrives.
    lane: Time,
    /// [`Running::claims`], from before.
    claims: u64,
    began: Time,
    /// Nominal bytes fetched.
    fetched: u64,
    /// What the peer held when it began, for checks, and what this end did, until it is sent.
    theirs: Witness,
    ours: Witness,
}

/// How a session ends that does not complete.
enum Failure {
    /// The peer has said why.
    Ended(ErrorCode),
    /// Another one has taken its place.
    Superseded,
    Other,
}

type Key = (u32, StreamId);

impl Running {
    /// Opens a session, where that may be now.
    pub(super) fn open(&mut self, cx: &mut Cx<'_>, mut opener: Opener) {
        let (now, peer) = (cx.clock(), opener.peer);
        if !self.conns.contains_key(&peer) {
            // Whoever waits for it, has been told.
            return;
        }
        match self.swarm.open_session(now, &cx.id(peer), &opener.purpose(), opener.again) {
            Opening::Wait(until) => {
                let until = cx.now + until.since(now);
                self.wait(cx, until, true, opener);
            }
            Opening::Never(refusal) => self.refused(cx, opener, refusal),
            Opening::Begin(plan) => {
                let terms = self.terms(cx, peer, plan.arcs.clone(), plan.peer_count, plan.flow);
                let constraints =
                    Constraints { published_since: None, after: plan.after, lists: plan.lists };
                match Session::open(now, terms, plan.number, constraints, &*cx.disk) {
                    Ok(session) => self.begin(cx, opener, &plan, session),
                    Err(error) => {
                        self.swarm.session_ended(plan.turn);
                        let code = match error {
                            SessionError::TooCostly => ErrorCode::TooCostly,
                            _ => ErrorCode::Unspecified,
                        };
                        match opener.again.after(code, plan.piece) {
                            Some(wait) => self.wait(cx, cx.now + wait, false, opener),
                            None => self.over(cx, opener, None),
                        }
                    }
                }
            }
        }
    }

    fn begin(&mut self, cx: &mut Cx<'_>, opener: Opener, plan: &Plan, session: Session<Ids>) {
        let peer = opener.peer;
        let Some(stream) = self.conns.get_mut(&peer).map(|conn| conn.stream()) else { return };
        let opened = Some((opener, plan.piece));
        self.run_session(cx, (peer, stream), session, plan.turn, opened, None);
    }

    fn run_session(
        &mut self,
        cx: &mut Cx<'_>,
        key: Key,
        session: Session<Ids>,
        turn: TurnId,
        opened: Option<(Opener, bool)>,
        theirs: Witness,
    ) {
        let lane = self.conns.get(&key.0).map_or(cx.now, |conn| conn.control_lane);
        let ours = cx.world.check.then(|| Box::new((cx.disk.ids.clone(), ArcSet::full())));
        let sess = Sess {
            session,
            turn,
            opened,
            lane: if theirs.is_some() { cx.now } else { lane.min(cx.now) },
            claims: self.claims,
            began: cx.now,
            fetched: 0,
            theirs,
            ours,
        };
        let at = cx.now + sess.session.deadline().since(cx.clock());
        cx.timer(at, Timer::Idle(key.0, key.1));
        self.go_on(cx, key, sess);
    }

    fn terms(
        &self,
        cx: &mut Cx<'_>,
        peer: u32,
        arcs: ArcSet,
        peer_count: u64,
        flow: Flow,
    ) -> Terms {
        let max_wants = self.conns.get(&peer).map_or(1, |conn| conn.max_wants());
        let network = &cx.world.network;
        let link = Link {
            round_trip: self.round_trip(cx, peer).as_secs_f64(),
            bytes_per_second: (network.up.min(network.down) / 8.0).min(1e9),
        };
        let (space, nonce, limits) = (cx.world.space, cx.nonce(), Limits::default());
        Terms { space, arcs, max_wants, peer_count, nonce, limits, link, flow }
    }

    /// A peer has opened a session.
    pub(super) fn answer(
        &mut self,
        cx: &mut Cx<'_>,
        key: Key,
        request: ArcRequest,
        theirs: Witness,
    ) {
        let (now, id) = (cx.clock(), cx.id(key.0));
        let flow = request.open.as_ref().map_or(Flow::Both, |open| open.flow);
        let turn = match self.swarm.answer_session(now, &id, flow) {
            Ok((turn, ours)) => {
                if let Some(ours) = ours {
                    self.supersede(cx, ours);
                }
                turn
            }
            Err(code) => return self.decline(cx, key, code),
        };
        let (arcs, takes) = self.swarm.answers();
        let terms = self.terms(cx, key.0, arcs, 0, takes);
        match Session::answer(now, terms, request, &*cx.disk) {
            Ok(session) => self.run_session(cx, key, session, turn, None, theirs),
            Err(error) => {
                self.swarm.session_ended(turn);
                match error.message() {
                    Some(told) => self.decline(cx, key, told.code),
                    None => cx.see(What::Violation(format!("a session was refused: {error}"))),
                }
                self.ended_session();
            }
        }
    }

    /// Says why a session, or a request, comes to nothing.
    fn decline(&mut self, cx: &mut Cx<'_>, key: Key, code: ErrorCode) {
        let error = ErrorMessage { retry_after: BUSY, ..ErrorMessage::new(code, "declined") };
        self.say(cx, key, error.into(), Cause::Comparing);
        self.reply(cx, key, OnStream::End, Cause::Comparing, cx.now);
    }

    /// The peer's session takes the place of an own one.
    fn supersede(&mut self, cx: &mut Cx<'_>, turn: TurnId) {
        let key = self.sessions.iter().find(|(_, sess)| sess.turn == turn).map(|(key, _)| *key);
        if let Some((key, sess)) = key.and_then(|key| self.sessions.remove_entry(&key)) {
            self.reset(cx, key, &sess);
            self.failed(cx, sess, Failure::Superseded);
        }
    }

    /// A piece that is fetched from elsewhere now.
    pub(super) fn give_up(&mut self, cx: &mut Cx<'_>, piece: PieceId) {
        let of_piece = |opener: &Opener| opener.piece() == Some(piece);
        self.waiting.retain(|waiting| !of_piece(&waiting.opener));
        let mut sessions = self.sessions.iter();
        let key = sessions.find(|(_, sess)| sess.opened.iter().any(|(it, _)| of_piece(it)));
        let key = key.map(|(key, _)| *key);
        if let Some((key, sess)) = key.and_then(|key| self.sessions.remove_entry(&key)) {
            self.reset(cx, key, &sess);
            self.swarm.session_ended(sess.turn);
            self.ended_session();
            if let Some((opener, _)) = sess.opened {
                self.over(cx, opener, None);
            }
        }
    }

    fn reset(&mut self, cx: &mut Cx<'_>, key: Key, sess: &Sess) {
        self.reply(cx, key, OnStream::Reset, Cause::Comparing, sess.lane);
    }

    /// The connection is gone, and with it all sessions.
    pub(super) fn drop_sessions(&mut self, peer: u32) {
        self.waiting.retain(|waiting| waiting.opener.peer != peer);
        let keys = self.sessions.range((peer, FIRST)..=(peer, LAST)).map(|(key, _)| *key);
        for key in keys.collect::<Vec<_>>() {
            if let Some(sess) = self.sessions.remove(&key) {
                self.swarm.session_ended(sess.turn);
            }
        }
    }

    fn wait(&mut self, cx: &mut Cx<'_>, at: Time, for_turn: bool, opener: Opener) {
        self.waiting.push(Waiting { at, for_turn, opener });
        cx.timer(at, Timer::Waiting);
    }

    /// Opens what has waited for long enough.
    pub(super) fn reopen(&mut self, cx: &mut Cx<'_>) {
        let (due, waiting): (Vec<_>, Vec<_>) =
            std::mem::take(&mut self.waiting).into_iter().partition(|it| it.at <= cx.now);
        self.waiting = waiting;
        self.todo.extend(due.into_iter().map(|it| Todo::Open(it.opener)));
    }

    /// A session has ended: others may begin.
    pub(super) fn ended_session(&mut self) {
        let (free, waiting): (Vec<_>, Vec<_>) =
            std::mem::take(&mut self.waiting).into_iter().partition(|it| it.for_turn);
        self.waiting = waiting;
        self.todo.extend(free.into_iter().map(|it| Todo::Open(it.opener)));
        self.todo.extend(self.filling.keys().map(|peer| Todo::Fill(*peer)));
    }

    /// Something has come on a stream that carries a session.
    pub(super) fn on_session(&mut self, cx: &mut Cx<'_>, key: Key, what: OnStream) {
        let Some(mut sess) = self.sessions.remove(&key) else { return };
        let now = cx.clock();
        match what {
            OnStream::Message(message, witness) => {
                if !matches!(message, Message::Error(_)) {
                    self.swarm.session_moved(now, sess.turn);
                    if let Some(piece) = sess.opened.as_ref().and_then(|(it, _)| it.piece()) {
                        self.swarm.piece_moved(now, piece);
                    }
                }
                if witness.is_some() {
                    sess.theirs = witness;
                }
                self.input(cx, key, sess, Input::Received(message));
            }
            OnStream::End => self.input(cx, key, sess, Input::ReceivedEnd),
            OnStream::Reset => self.failed(cx, sess, Failure::Other),
        }
    }

    /// What a session has had stored is durable, as far as there was room.
    pub(super) fn session_stored(
        &mut self,
        cx: &mut Cx<'_>,
        key: Key,
        count: usize,
        bytes: u64,
        full: bool,
    ) {
        let Some(mut sess) = self.sessions.remove(&key) else { return };
        sess.fetched += bytes;
        if full {
            let error = ErrorMessage::new(ErrorCode::Storage, "the store here failed");
            self.say(cx, key, error.into(), Cause::Comparing);
            self.reply(cx, key, OnStream::End, Cause::Comparing, sess.lane);
            return self.failed(cx, sess, Failure::Other);
        }
        self.input(cx, key, sess, Input::Stored(count));
    }

    pub(super) fn answered(
        &mut self,
        cx: &mut Cx<'_>,
        key: Key,
        keys: usize,
        aspects: usize,
        bytes: u64,
    ) {
        if let Some(sess) = self.sessions.remove(&key) {
            self.input(cx, key, sess, Input::Answered { keys, aspects, bytes });
        }
    }

    pub(super) fn may_be_idle(&mut self, cx: &mut Cx<'_>, peer: u32, stream: StreamId) {
        let key = (peer, stream);
        let Some(sess) = self.sessions.get(&key) else { return };
        let (now, deadline) = (cx.clock(), sess.session.deadline());
        if deadline > now {
            return cx.timer(cx.now + deadline.since(now), Timer::Idle(peer, stream));
        }
        if let Some(sess) = self.sessions.remove(&key) {
            self.input(cx, key, sess, Input::Timeout);
        }
    }

    fn input(&mut self, cx: &mut Cx<'_>, key: Key, mut sess: Sess, input: Input) {
        match sess.session.handle(cx.clock(), input, &*cx.disk) {
            Ok(()) => self.go_on(cx, key, sess),
            Err(error) => self.session_error(cx, key, sess, &error),
        }
    }

    fn session_error(
        &mut self,
        cx: &mut Cx<'_>,
        key: Key,
        sess: Sess,
        error: &SessionError<std::convert::Infallible>,
    ) {
        let failure = match error {
            SessionError::Ended(told) => Failure::Ended(told.code),
            SessionError::TooCostly => Failure::Ended(ErrorCode::TooCostly),
            _ => Failure::Other,
        };
        if let Some(told) = error.message() {
            self.say(cx, key, told.into(), Cause::Comparing);
            self.reply(cx, key, OnStream::End, Cause::Comparing, sess.lane);
        }
        self.failed(cx, sess, failure);
    }

    /// Carries out what the machine wants.
    fn go_on(&mut self, cx: &mut Cx<'_>, key: Key, mut sess: Sess) {
        let mut answers = VecDeque::new();
        loop {
            while let Some(output) = sess.session.poll_output() {
                match output {
                    Output::Send(message) => self.send_session(cx, key, &mut sess, message),
                    Output::Answer(keys) => {
                        self.send_answer(cx, key, &mut sess, &keys, &mut answers);
                    }
                    Output::Store(aspects) => {
                        self.write(cx, aspects, Source::Session(key.0, key.1));
                    }
                    Output::Finish => {
                        sess.lane = self.reply(cx, key, OnStream::End, Cause::Comparing, sess.lane);
                    }
                    Output::Done(report) => return self.complete(cx, sess, key.0, report),
                }
            }
            let Some(input) = answers.pop_front() else { break };
            if let Err(error) = sess.session.handle(cx.clock(), input, &*cx.disk) {
                return self.session_error(cx, key, sess, &error);
            }
        }
        self.sessions.insert(key, sess);
    }

    fn send_session(&mut self, cx: &mut Cx<'_>, key: Key, sess: &mut Sess, message: Message) {
        let cause = match message {
            Message::AspectDataResponse(_) => Cause::Gossip,
            _ => Cause::Comparing,
        };
        let Some(conn) = self.conns.get(&key.0) else { return };
        let sending = Sending {
            bytes: size(&message),
            cause,
            waits: cause == Cause::Gossip,
            after: sess.lane,
        };
        let what = OnStream::Message(message, sess.ours.take());
        let packet = Packet::Stream { conn: conn.id, stream: key.1, what };
        sess.lane = cx.send(key.0, packet, sending).1;
    }

    /// Sends aspects, a frame at a time.
    fn send_answer(
        &mut self,
        cx: &mut Cx<'_>,
        key: Key,
        sess: &mut Sess,
        keys: &[AspectKey],
        answers: &mut VecDeque<Input>,
    ) {
        let Some(conn) = self.conns.get(&key.0).map(|conn| conn.id) else { return };
        for (keys, response) in frames(cx.disk, keys) {
            let aspects = response.aspects.len();
            let bytes = response.aspects.iter().map(|it| it.encoding().len() as u64).sum();
            let message = Message::from(response);
            let sending = Sending {
                bytes: size(&message),
                cause: Cause::Gossip,
                waits: true,
                after: sess.lane,
            };
            let what = OnStream::Message(message, None);
            let packet = Packet::Stream { conn, stream: key.1, what };
            let (left, arrives) = cx.send(key.0, packet, sending);
            sess.lane = arrives;
            match left > cx.now {
                true => {
                    let (peer, stream) = key;
                    cx.timer(left, Timer::Answered { peer, stream, keys, aspects, bytes });
                }
                false => answers.push_back(Input::Answered { keys, aspects, bytes }),
            }
        }
    }

    fn complete(&mut self, cx: &mut Cx<'_>, sess: Sess, peer: u32, report: Report) {
        let id = cx.id(peer);
        if cx.world.check && sess.claims == self.claims && !cx.is_liar() {
            check(cx, &sess, peer, &report);
        }
        let claim = self.swarm.session_completed(sess.turn, &id, &report);
        let mut claimed = false;
        if sess.claims == self.claims && !claim.is_empty() {
            let held = cx.disk.held.union(&claim.intersect(&cx.disk.target));
            claimed = held != cx.disk.held;
            if claimed {
                cx.disk.held = held;
                cx.see(What::Claims(cx.disk.held.clone(), cx.disk.target.clone()));
                self.told_local(cx);
            }
        }
        self.changed |= report.fetched > 0 || claimed;
        self.swarm.served(&id, sess.fetched, cx.now.since(sess.began));
        self.swarm.session_ended(sess.turn);
        self.ended_session();
        if let Some((opener, _)) = sess.opened {
            self.over(cx, opener, Some(&report));
        }
    }

    fn failed(&mut self, cx: &mut Cx<'_>, sess: Sess, failure: Failure) {
        self.swarm.session_ended(sess.turn);
        self.ended_session();
        let Some((mut opener, piece)) = sess.opened else { return };
        let code = match failure {
            Failure::Ended(code) => code,
            Failure::Superseded => ErrorCode::Superseded,
            Failure::Other => return self.over(cx, opener, None),
        };
        match opener.again.after(code, piece) {
            Some(wait) => self.wait(cx, cx.now + wait, false, opener),
            None => self.over(cx, opener, None),
        }
    }

    fn refused(&mut self, cx: &mut Cx<'_>, opener: Opener, refusal: Refusal) {
        if refusal == Refusal::NoRoom && matches!(opener.why, Why::Compare) {
            let (now, id) = (cx.clock(), cx.id(opener.peer));
            return self.swarm.compared(now, &id, Outcome::NOTHING);
        }
        self.over(cx, opener, None);
    }

    /// What was to be done in a session is done, or is not.
    fn over(&mut self, cx: &mut Cx<'_>, opener: Opener, report: Option<&Report>) {
        let (now, id) = (cx.clock(), cx.id(opener.peer));
        match opener.why {
            Why::Compare => {
                let outcome = report.map_or(Outcome::Failed, Outcome::of);
                self.swarm.compared(now, &id, outcome);
            }
            Why::Fill { piece, all, .. } => {
                let complete = report.is_some_and(Report::in_sync);
                self.swarm.piece_ended(now, piece, complete);
                self.filled(opener.peer, complete && all);
            }
            Why::Give { arcs, before, .. } => {
                let given = report.is_some_and(|report| report.gave(&arcs));
                self.swarm.given(now, id, &arcs, before, given);
            }
        }
    }

    // ---- Streams

    /// Sends a message on a stream that carries nothing else any more.
    pub(super) fn say(&mut self, cx: &mut Cx<'_>, key: Key, message: Message, cause: Cause) {
        self.reply(cx, key, OnStream::Message(message, None), cause, cx.now);
    }

    /// Sends something on a stream. Gives when it arrives.
    pub(super) fn reply(
        &mut self,
        cx: &mut Cx<'_>,
        key: Key,
        what: OnStream,
        cause: Cause,
        after: Time,
    ) -> Time {
        let Some(conn) = self.conns.get(&key.0) else { return after };
        let bytes = match &what {
            OnStream::Message(message, _) => size(message),
            OnStream::End | OnStream::Reset => 0,
        };
        let packet = Packet::Stream { conn: conn.id, stream: key.1, what };
        cx.send(key.0, packet, Sending { bytes, cause, waits: false, after }).1
    }
}

const FIRST: StreamId = StreamId { of_dialer: false, number: 0 };
const LAST: StreamId = StreamId { of_dialer: true, number: u32::MAX };

/// Answers in frames of about [`DATA_FRAME_TARGET`] bytes, each with how many keys it answers.
fn frames(disk: &Disk, keys: &[AspectKey]) -> Vec<(usize, AspectDataResponse)> {
    let mut frames = Vec::new();
    let (mut frame, mut size, mut count) = (AspectDataResponse::default(), 0, 0);
    for key in keys {
        let found: Option<&Aspect> = disk.ids.get(key);
        let len = found.map_or(40, nominal);
        if size > 0 && size + len > DATA_FRAME_TARGET as u64 {
            frames.push((count, std::mem::take(&mut frame)));
            (size, count) = (0, 0);
        }
        (size, count) = (size + len, count + 1);
        match found {
            Some(aspect) => frame.aspects.push(aspect.clone()),
            None => frame.gone.push(*key),
        }
    }
    if count > 0 {
        frames.push((count, frame));
    }
    frames
}

/// A session says that what the peer held is held here: is it?
fn check(cx: &mut Cx<'_>, sess: &Sess, peer: u32, report: &Report) {
    let proven = report.took() && !report.constrained && report.in_sync();
    let Some(theirs) = sess.theirs.as_ref().filter(|_| proven) else { return };
    let mut held = theirs.0.within(&report.arcs);
    if let Some((key, _)) = held.find(|(key, _)| !cx.disk.ids.contains(key)) {
        let way = if report.comparison.is_some() { "packets" } else { "lists" };
        let what = format!("a session by {way} with node {peer} is in sync, but {key} is lacking");
        cx.see(What::Violation(what));
    }
}
