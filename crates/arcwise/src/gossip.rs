//! Carries gossip sessions: bytes, time and disk to [`Session`](arcwise_proto::session::Session), which decides.

use std::{
    sync::{Arc, atomic::Ordering},
    time::{Duration, Instant},
};

use arcwise_proto::{
    ArcSet, Aspect, AspectKey, SpaceId, Time,
    capture::{Tape, TapedSession, TapedSwarm},
    limits::DATA_FRAME_TARGET,
    session::{BUSY, Constraints, Flow, Holdings, Input, Output, Report, SessionError, Terms},
    swarm::{self, Again, Opening, Plan, Refusal, TurnId},
    wire::{ArcRequest, AspectDataResponse, ErrorCode, ErrorMessage, Message},
};
use arcwise_store::{Items, StoreError};
use tokio::{sync::mpsc, time::timeout};

use crate::{
    SyncOptions,
    error::SyncError,
    event::{Event, Source},
    fill::{Lease, Turn},
    frame::{self, FrameError, FrameReader, FrameWriter},
    ingest::{Ingest, blocking},
    node::Inner,
    peer::{LastSync, Peer, lock},
    space::SpaceState,
};

/// How long a session that a peer opens waits while too many are under way. A guess: shorter than it takes to be
/// thought to stall, and long enough that asking again costs nothing to speak of.
const IN_LINE: Duration = Duration::from_secs(2);

/// About how many bytes of aspects are read from the store at a time while answering: two such
/// pieces are in memory for each session, whatever the size of the answer.
const READ_AHEAD: usize = 1 << 20;

/// What a session is opened for.
#[derive(Clone, Copy)]
pub(crate) enum Purpose<'a> {
    /// To compare all that both take.
    Compare(SyncOptions),
    /// To fetch a piece of what is to be filled.
    Fill(&'a Lease),
    /// To hand over what is held in these arcs.
    Give(&'a ArcSet),
}

impl Purpose<'_> {
    /// The same, as the swarm is told.
    async fn about(self, space: &Arc<SpaceState>) -> Result<swarm::Purpose, StoreError> {
        Ok(match self {
            Purpose::Compare(_) => swarm::Purpose::Compare,
            Purpose::Fill(lease) => swarm::Purpose::Fill(lease.arcs.clone()),
            Purpose::Give(arcs) => {
                let (state, arcs) = (space.clone(), arcs.clone());
                let held = blocking(move || {
                    let held = state.store.snapshot().digest(&arcs, &[])?.count;
                    Ok::<_, StoreError>(swarm::Purpose::Give { arcs, held })
                });
                held.await?
            }
        })
    }
}

/// What a session holds while it is under way.
struct Hold<'a> {
    turn: Turn,
    lease: Option<&'a Lease>,
}

impl Hold<'_> {
    /// A message has come from the peer.
    fn moved(&self, inner: &Inner, space: &SpaceState, message: &Message) {
        if !matches!(message, Message::Error(_)) {
            lock(&space.swarm).session_moved(inner.now(), self.turn.id);
            self.lease.iter().for_each(|lease| lease.moved());
        }
    }

    /// Where it is written down, if it is.
    fn tape(&self, space: &SpaceState) -> Option<(Tape, TurnId)> {
        lock(&space.swarm).tape().map(|tape| (tape.clone(), self.turn.id))
    }

    /// Waits until another session takes the place of this one.
    async fn lost(&self) {
        tokio::select! {
            () = self.turn.superseded.cancelled() => {}
            () = given_up(self.lease) => {}
        }
    }
}

/// Waits until another peer is asked for a piece instead.
async fn given_up(lease: Option<&Lease>) {
    match lease {
        Some(lease) => lease.lost.cancelled().await,
        None => std::future::pending().await,
    }
}

/// Opens a session with a peer and sees it through. Waits for its turn.
pub(crate) async fn open(
    inner: &Arc<Inner>,
    peer: &Arc<Peer>,
    space: &Arc<SpaceState>,
    purpose: Purpose<'_>,
) -> Result<Report, SyncError> {
    let (options, lease) = match purpose {
        Purpose::Compare(options) => (options, None),
        Purpose::Fill(lease) => (SyncOptions::default(), Some(lease)),
        Purpose::Give(_) => (SyncOptions::default(), None),
    };
    let about = purpose.about(space).await?;
    // A full comparison relies on nothing that an earlier session has shown.
    let mut again = Again { lists: options.full, foreign: options.full, ..Again::default() };
    loop {
        let (turn, plan) = match turn(inner, peer, space, &about, again, lease).await {
            Ok(begun) => begun,
            Err(SyncError::NoRoom) => {
                return note(inner, peer, space, Err(SyncError::NoRoom), false);
            }
            Err(error) => return Err(error),
        };
        let (piece, hold) = (plan.piece, Hold { turn, lease });
        let result = one(inner, peer, space, plan, options.published_since, &hold).await;
        drop(hold);
        if lease.is_some_and(|lease| lease.lost.is_cancelled()) {
            return Err(SyncError::Superseded);
        }
        let code = match &result {
            Err(SyncError::Superseded) => ErrorCode::Superseded,
            Err(SyncError::Ended(error)) => error.code,
            _ => return note(inner, peer, space, result, piece),
        };
        match again.after(code, piece) {
            None => return note(inner, peer, space, result, piece),
            Some(Duration::ZERO) => tokio::task::yield_now().await,
            Some(wait) => tokio::time::sleep(wait).await,
        }
    }
}

/// Waits until a session may be opened.
async fn turn(
    inner: &Arc<Inner>,
    peer: &Arc<Peer>,
    space: &Arc<SpaceState>,
    about: &swarm::Purpose,
    again: Again,
    lease: Option<&Lease>,
) -> Result<(Turn, Plan), SyncError> {
    loop {
        let mut ended = std::pin::pin!(space.intake.something_ends());
        ended.as_mut().enable();
        // The swarm may still know it by an earlier connection.
        peer.space(&space.id()).ok_or(SyncError::NotShared)?;
        let opening =
            space.swarm(inner, &[], |swarm, now| swarm.open_session(now, &peer.id, about, again));
        match opening {
            Opening::Begin(plan) => return Ok((Turn::new(space, plan.turn), plan)),
            Opening::Never(Refusal::NotShared) => return Err(SyncError::NotShared),
            Opening::Never(Refusal::PeerFull) => return Err(SyncError::PeerFull),
            Opening::Never(Refusal::NoRoom) => return Err(SyncError::NoRoom),
            Opening::Wait(until) => tokio::select! {
                () = ended => {}
                () = tokio::time::sleep_until(inner.instant(until)) => {}
                () = given_up(lease) => return Err(SyncError::Superseded),
                () = peer.gone.cancelled() => return Err(lost("the connection is closed")),
            },
        }
    }
}

/// Opens a session as it is planned, and sees it through.
async fn one(
    inner: &Arc<Inner>,
    peer: &Arc<Peer>,
    space: &Arc<SpaceState>,
    plan: Plan,
    published_since: Option<Time>,
    hold: &Hold<'_>,
) -> Result<Report, SyncError> {
    let constraints = Constraints { published_since, after: plan.after, lists: plan.lists };
    let terms = terms(inner, peer, space.id(), plan.arcs, plan.peer_count, plan.flow)?;
    let (now, store) = (inner.now(), space.store.clone());
    let (started, claims) = (Instant::now(), space.claims.load(Ordering::Relaxed));
    let tape = hold.tape(space);
    let open = move || TapedSession::open(tape, now, terms, plan.number, constraints, &store);
    let session = blocking(open).await.map_err(|error| judge(error).1)?;
    let begun = Begun { session, computing: started.elapsed(), claims };
    let (reader, writer) = frame::pair(peer, peer.conn.open_bi().await.map_err(lost)?);
    drive(inner, peer, space, begun, reader, writer, hold).await
}

/// What a session is to know beforehand.
fn terms(
    inner: &Inner,
    peer: &Peer,
    space: SpaceId,
    arcs: ArcSet,
    peer_count: u64,
    flow: Flow,
) -> Result<Terms, SyncError> {
    let mut nonce = [0; 8];
    getrandom::fill(&mut nonce).map_err(lost)?;
    let limits = lock(&peer.budget).limits(inner.now());
    let (max_wants, link) = (peer.max_wants(), peer.link());
    Ok(Terms { space, arcs, max_wants, peer_count, nonce, limits, link, flow })
}

/// Answers a session that a peer has opened with `request`.
pub(crate) async fn answer(
    inner: &Arc<Inner>,
    peer: &Arc<Peer>,
    request: ArcRequest,
    reader: FrameReader,
    mut writer: FrameWriter,
) {
    let number = request.open.as_ref().map_or(0, |open| open.space);
    let space = inner.space_numbered(number);
    let shared = match &space {
        Some(space) => peer.shared(&space.id()).await.is_some(),
        None => false,
    };
    let Some(space) = space.filter(|_| shared) else {
        let text = "there is no such space here, or you have not proven to know it";
        return decline(&mut writer, ErrorMessage::new(ErrorCode::UnknownSpace, text)).await;
    };
    let flow = request.open.as_ref().map_or(Flow::Both, |open| open.flow);
    let answer =
        |swarm: &mut TapedSwarm, now| (swarm.answer_session(now, &peer.id, flow), swarm.answers());
    let (answered, (arcs, takes)) = space.swarm(inner, &[], answer);
    let turn = match answered {
        Ok((turn, ours)) => {
            ours.into_iter().for_each(|ours| space.intake.supersede(ours));
            Turn::new(&space, turn)
        }
        Err(code) => {
            let text = "another session of this space is under way";
            let error = ErrorMessage { retry_after: BUSY, ..ErrorMessage::new(code, text) };
            return decline(&mut writer, error).await;
        }
    };
    // In the order in which they came. Who waits longer asks again.
    let Ok(Ok(_answering)) = timeout(IN_LINE, inner.answering.acquire()).await else {
        let text = "too many sessions are under way";
        let error = ErrorMessage { retry_after: BUSY, ..ErrorMessage::new(ErrorCode::Busy, text) };
        return decline(&mut writer, error).await;
    };
    let hold = Hold { turn, lease: None };
    // He who answers lists no more than she does.
    let terms = match terms(inner, peer, space.id(), arcs, 0, takes) {
        Ok(terms) => terms,
        Err(error) => {
            return decline(&mut writer, ErrorMessage::new(ErrorCode::Busy, error.to_string()))
                .await;
        }
    };
    let (now, store, work) = (inner.now(), space.store.clone(), terms.limits.work);
    let (started, claims) = (Instant::now(), space.claims.load(Ordering::Relaxed));
    let tape = hold.tape(&space);
    let session = blocking(move || TapedSession::answer(tape, now, terms, request, &store)).await;
    if let Err(SessionError::TooCostly) = &session {
        lock(&peer.budget).worked(work);
    }
    let result = match session {
        Ok(session) => {
            let session = Begun { session, computing: started.elapsed(), claims };
            drive(inner, peer, &space, session, reader, writer, &hold).await
        }
        Err(error) => {
            let (told, error) = judge(error);
            if let Some(told) = told {
                decline(&mut writer, told).await;
            }
            Err(error)
        }
    };
    drop(hold);
    // Whoever opened it sees to the next attempt.
    let _ = note(inner, peer, &space, result, flow == Flow::ToAlice && !space.is_full());
}

async fn decline(writer: &mut FrameWriter, error: ErrorMessage) {
    // Where it cannot be told any more, the peer knows without it.
    let _ = writer.write(&error.into()).await;
    writer.finish();
}

/// Where only one of both took what it lacked, for want of room at the other: what is wrong.
pub(crate) fn one_sided(space: &SpaceState, report: &Report) -> Option<SyncError> {
    match report.flow {
        Flow::Both => None,
        _ if report.took() => Some(SyncError::PeerFull),
        // There may be room by now.
        _ => lock(&space.full).clone().map(SyncError::Store),
    }
}

/// What the end of a session means for the node. Of a `piece`, nothing is to be told.
fn note(
    inner: &Inner,
    peer: &Peer,
    state: &SpaceState,
    result: Result<Report, SyncError>,
    piece: bool,
) -> Result<Report, SyncError> {
    if piece && !matches!(result, Err(SyncError::Peer(_))) {
        let _ = result.as_ref().inspect_err(|error| {
            tracing::debug!(peer = %peer.id.short(), %error, "a piece was not fetched");
        });
        return result;
    }
    let (at, space) = (Instant::now(), state.id());
    let one_sided = result.as_ref().ok().and_then(|report| one_sided(state, report));
    let outcome = match (&result, &one_sided) {
        (Err(error), _) | (Ok(_), Some(error)) => Err(error.to_string()),
        (Ok(report), None) => Ok(report.clone()),
    };
    if let Ok(report) = &result {
        if report.in_sync()
            && !report.constrained
            && report.flow == Flow::Both
            && report.arcs == state.shared_with(peer)
        {
            peer.holds_the_same(state);
        }
        if report.comparison.as_ref().is_some_and(|comparison| comparison.repaired) {
            lock(&peer.budget).repaired();
        }
    }
    lock(&peer.last_sync).insert(space, LastSync { at, outcome });
    match &result {
        // One has given what it could.
        Ok(report) if report.in_sync() && report.flow != Flow::Both => {}
        Ok(report) if report.in_sync() => {
            let report = report.clone();
            inner.emit(Event::InSync { space, peer: peer.id, report });
        }
        Ok(report) => {
            let (rejected, gone) = (report.rejected, report.gone);
            let reason = format!("{rejected} aspects could not be believed, {gone} were gone");
            inner.emit(Event::SyncFailed { space, peer: peer.id, reason });
        }
        // Another session does what this one was to do.
        Err(SyncError::Superseded) => {}
        Err(error) => {
            if let SyncError::Peer(fault) = error {
                inner.fault(peer, &fault.to_string());
            }
            let reason = error.to_string();
            inner.emit(Event::SyncFailed { space, peer: peer.id, reason });
        }
    }
    result
}

/// A session has completed: remembers how far both are, and claims what is now held.
async fn complete(
    inner: &Arc<Inner>,
    peer: &Peer,
    space: &Arc<SpaceState>,
    turn: &Turn,
    report: &Report,
    claims: u64,
) -> Result<(), StoreError> {
    let shown =
        space.swarm(inner, &[], |swarm, _| swarm.session_completed(turn.id, &peer.id, report));
    let mut claimed = false;
    // Where something was given up since the session began, it may be of that.
    let sound = space.claims.load(Ordering::Relaxed) == claims;
    if sound && !shown.is_empty() {
        let store = space.store.clone();
        claimed = blocking(move || store.claim(&shown)).await?;
        if claimed {
            space.told_local(inner);
            inner.emit(Event::ArcChanged { space: space.id() });
        }
    }
    // The other peers learn the new arc and count from another handshake.
    if report.fetched > 0 || claimed {
        inner.spaces_changed();
    }
    Ok(())
}

/// What to tell the peer, and what to tell our own side.
fn judge(error: SessionError<StoreError>) -> (Option<ErrorMessage>, SyncError) {
    let told = error.message();
    let ours = match (error, &told) {
        (SessionError::Peer(fault), _) => fault.into(),
        (SessionError::Store(error), _) => error.into(),
        (SessionError::Ended(error), _) => SyncError::Ended(error),
        (_, Some(told)) => SyncError::Ended(told.clone()),
        (error, None) => lost(error),
    };
    (told, ours)
}

/// The details of our disk are none of the peer's business.
fn store_failed() -> ErrorMessage {
    ErrorMessage::new(ErrorCode::Storage, "the store here failed")
}

fn lost(error: impl ToString) -> SyncError {
    SyncError::Lost(error.to_string())
}

enum Write {
    Message(Message),
    Answer(Vec<AspectKey>),
    Finish,
}

/// A session that has begun.
struct Begun {
    session: TapedSession<Items>,
    /// How long it has computed to find out what differs.
    computing: Duration,
    /// [`SpaceState::claims`], from before.
    claims: u64,
}

/// Drives a session to its end.
///
/// What is queued for the writer is bounded by the protocol's windows, so the queue itself needs no
/// bound, and reading never waits for writing.
async fn drive(
    inner: &Arc<Inner>,
    peer: &Arc<Peer>,
    space: &Arc<SpaceState>,
    begun: Begun,
    mut reader: FrameReader,
    writer: FrameWriter,
    hold: &Hold<'_>,
) -> Result<Report, SyncError> {
    let (writes, mut queued) = mpsc::unbounded_channel();
    let (answered, mut answers) = mpsc::unbounded_channel();
    let mut writer = std::pin::pin!(write_all(space, writer, &mut queued, &answered));
    let mut ingest = Ingest::default();
    let Begun { session, mut computing, claims } = begun;
    // What of the work was charged to the peer.
    let mut charged = session.work();
    lock(&peer.budget).worked(charged);
    let mut session = Some(session);
    let started = Instant::now();
    let (mut reading, mut writing) = (true, true);
    let mut next = None;
    let mut moved = 0;
    loop {
        // What the machine wants done, then the next event: its driving law.
        let mut current = session.take().ok_or_else(|| lost("the session is over"))?;
        while let Some(output) = current.poll_output() {
            let _ = match output {
                Output::Send(message) => writes.send(Write::Message(message)),
                Output::Answer(keys) => writes.send(Write::Answer(keys)),
                Output::Finish => writes.send(Write::Finish),
                Output::Store(aspects) => {
                    ingest.push(&space.store, aspects);
                    Ok(())
                }
                Output::Done(report) => {
                    let report = Report { computing, ..report };
                    complete(inner, peer, space, &hold.turn, &report, claims).await?;
                    lock(&space.swarm).served(&peer.id, report.fetched_bytes, started.elapsed());
                    next = Some(report);
                    Ok(())
                }
            };
        }
        if let Some(report) = next {
            // The end of our stream may still be in the queue.
            tell(writer, writing).await;
            return Ok(report);
        }

        let until = inner.instant(current.deadline());
        let input = loop {
            tokio::select! {
                message = reader.next(), if reading && ingest.has_room() => match message {
                    Ok(Some(message)) => {
                        hold.moved(inner, space, &message);
                        break Input::Received(message);
                    }
                    Ok(None) => {
                        reading = false;
                        break Input::ReceivedEnd;
                    }
                    Err(FrameError::Wire(error)) => {
                        let fault = arcwise_proto::session::Fault::from(error);
                        let _ = writes.send(Write::Message(fault.message().into()));
                        let _ = writes.send(Write::Finish);
                        tell(writer, writing).await;
                        return Err(fault.into());
                    }
                    Err(error) => return Err(error.into()),
                },
                result = ingest.next() => match result {
                    Ok(stored) => {
                        inner.stored(space, &stored.new, Source::Gossip(peer.id));
                        break Input::Stored(stored.count);
                    }
                    Err(error) => {
                        inner.not_stored(&error);
                        let _ = writes.send(Write::Message(store_failed().into()));
                        let _ = writes.send(Write::Finish);
                        tell(writer, writing).await;
                        return Err(error.into());
                    }
                },
                Some(answered) = answers.recv() => break answered,
                result = &mut writer, if writing => {
                    writing = false;
                    // The peer may have said why before it stopped listening.
                    if let Err(error) = result {
                        return Err(last_words(&mut reader).await.unwrap_or(error));
                    }
                }
                () = hold.lost() => return Err(SyncError::Superseded),
                () = peer.gone.cancelled() => return Err(lost("the connection is closed")),
                () = tokio::time::sleep_until(until) => {
                    let before = std::mem::replace(&mut moved, reader.moved());
                    break if moved > before { Input::Moved } else { Input::Timeout };
                }
            }
        };
        let (now, store) = (inner.now(), space.store.clone());
        let step = blocking(move || {
            let (started, comparing) = (Instant::now(), current.is_comparing());
            let result = current.handle(now, input, &store);
            let took = if comparing { started.elapsed() } else { Duration::ZERO };
            (current, result, took)
        });
        let (current, result, took) = step.await;
        computing += took;
        lock(&peer.budget).worked(current.work() - charged);
        charged = current.work();
        if let Err(error) = result {
            let (told, error) = judge(error);
            if let Some(told) = told {
                let _ = writes.send(Write::Message(told.into()));
                let _ = writes.send(Write::Finish);
                tell(writer, writing).await;
            }
            return Err(error);
        }
        session = Some(current);
    }
}

/// Lets the writer finish what it has, within a bounded time.
async fn tell(writer: impl Future<Output = Result<(), SyncError>>, writing: bool) {
    if writing {
        let _ = timeout(Duration::from_secs(2), writer).await;
    }
}

/// An error that the peer has sent already.
async fn last_words(reader: &mut FrameReader) -> Option<SyncError> {
    let read = async {
        while let Ok(Some(message)) = reader.next().await {
            if let Message::Error(error) = message {
                return Some(SyncError::Ended(error));
            }
        }
        None
    };
    timeout(Duration::from_secs(1), read).await.ok().flatten()
}

/// Writes what the session wants sent, in order, reading aspects from the store as the stream takes
/// them.
async fn write_all(
    space: &Arc<SpaceState>,
    mut writer: FrameWriter,
    queued: &mut mpsc::UnboundedReceiver<Write>,
    answered: &mpsc::UnboundedSender<Input>,
) -> Result<(), SyncError> {
    while let Some(write) = queued.recv().await {
        match write {
            Write::Message(message) => writer.write(&message).await?,
            Write::Answer(keys) => {
                let result = write_answer(space, &mut writer, keys, answered).await;
                if let Err(SyncError::Store(_)) = result {
                    decline(&mut writer, store_failed()).await;
                }
                result?;
            }
            Write::Finish => {
                writer.finish();
                return Ok(());
            }
        }
    }
    Ok(())
}

/// Sends aspects that were asked for, and tells `answered` of each piece that is on its way. At most
/// two pieces of [`READ_AHEAD`] are in memory.
async fn write_answer(
    space: &Arc<SpaceState>,
    writer: &mut FrameWriter,
    mut keys: Vec<AspectKey>,
    answered: &mpsc::UnboundedSender<Input>,
) -> Result<(), SyncError> {
    // Nothing is known of the sizes before the first piece.
    let mut piece = 4;
    let mut reading = None;
    loop {
        let rest = keys.split_off(piece.min(keys.len()));
        let now = std::mem::replace(&mut keys, rest);
        let next = (!now.is_empty()).then(|| tokio::spawn(read_aspects(space.clone(), now)));
        let Some(read) = std::mem::replace(&mut reading, next) else {
            // The first piece is being read, or there was nothing to read.
            if reading.is_some() { continue } else { return Ok(()) }
        };
        let (aspects, gone) = read.await.map_err(lost)??;
        let (sent, missing) = (aspects.len(), gone.len());
        let bytes: u64 = aspects.iter().map(|aspect| aspect.encoding().len() as u64).sum();
        let mean = bytes as usize / sent.max(1);
        piece = (READ_AHEAD / mean.max(1)).clamp(1, 1024);
        write_aspects(writer, aspects, gone).await?;
        // Nobody listens any more only where the session is over.
        let _ = answered.send(Input::Answered { keys: sent + missing, aspects: sent, bytes });
    }
}

/// Sends aspects in frames of about [`DATA_FRAME_TARGET`] bytes.
pub(crate) async fn write_aspects(
    writer: &mut FrameWriter,
    aspects: Vec<Aspect>,
    gone: Vec<AspectKey>,
) -> Result<(), FrameError> {
    if !gone.is_empty() {
        writer.write(&AspectDataResponse { aspects: Vec::new(), gone }.into()).await?;
    }
    let mut frame = AspectDataResponse::default();
    let mut size = 0;
    for aspect in aspects {
        let len = aspect.encoding().len();
        if size > 0 && size + len > DATA_FRAME_TARGET {
            writer.write(&std::mem::take(&mut frame).into()).await?;
            size = 0;
        }
        size += len;
        frame.aspects.push(aspect);
    }
    if !frame.aspects.is_empty() {
        writer.write(&frame.into()).await?;
    }
    Ok(())
}

/// Reads aspects; one that is damaged on disk is as good as gone, and the others are not affected.
async fn read_aspects(
    space: Arc<SpaceState>,
    keys: Vec<AspectKey>,
) -> Result<(Vec<Aspect>, Vec<AspectKey>), SyncError> {
    blocking(move || {
        let found = match space.store.get_many(&keys) {
            Err(StoreError::Damaged(damage)) => {
                tracing::error!(%damage, "an aspect cannot be sent; run a check of the store");
                keys.iter().map(|key| space.store.get(key).ok().flatten()).collect()
            }
            found => found?,
        };
        // Where this node has come to remove them, the peer would not store them any more.
        let cutoff = space.store.cutoff();
        let found: Vec<_> = found
            .into_iter()
            .map(|found: Option<Aspect>| found.filter(|aspect| aspect.published() >= cutoff))
            .collect();
        let gone = keys.iter().zip(&found).filter(|(_, found)| found.is_none());
        let gone = gone.map(|(key, _)| *key).collect();
        Ok((found.into_iter().flatten().collect(), gone))
    })
    .await
}

impl Inner {
    /// A peer broke a rule: says so to the application and in the log.
    pub(crate) fn fault(&self, peer: &Peer, fault: &str) {
        tracing::warn!(peer = %peer.id.short(), fault, "a peer broke the protocol");
        let now = self.now();
        for space in &*lock(&self.spaces) {
            // Nothing is to be done at once for that.
            lock(&space.swarm).fault(now, &peer.id);
        }
        self.emit(Event::PeerFault { peer: peer.id, fault: fault.to_owned() });
    }
}
