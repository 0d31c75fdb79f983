//! What a session is told.

use std::{cell::RefCell, collections::VecDeque, error::Error};

use serde::{Deserialize, Serialize};

use super::{Line, Tape, TurnId, told};
use crate::{
    aspect::AspectKey,
    id::SpaceId,
    limits::LIST_ITEMS,
    reconcile::{
        Items,
        exchange::{Limits, Link},
    },
    ring::ArcSet,
    session::{
        Constraints, Filter, Flow, Holdings, Input, Output, Position, Session, SessionError,
        Snapshot, Terms,
    },
    time::Time,
    wire::{ArcRequest, Message},
};

/// Of a set that is compared by packets, more items are not written down: the session cannot be replayed then. A
/// guess: five megabytes of text.
const MAX_ITEMS: u64 = 1 << 16;

/// How a session has begun.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Begin {
    /// When.
    pub now: Time,
    /// Where this end has opened it: the peer's number for the space, and what may be left out.
    pub opened: Option<(u32, Constraints)>,
    /// Where the peer has: its first message.
    pub answered: Option<Message>,
    /// See [`Terms::arcs`].
    pub arcs: ArcSet,
    /// See [`Terms::max_wants`].
    pub max_wants: usize,
    /// See [`Terms::peer_count`].
    pub peer_count: u64,
    /// See [`Terms::nonce`].
    pub nonce: [u8; 8],
    /// See [`Terms::limits`].
    pub work: u64,
    /// See [`Terms::link`]: the bits of its numbers.
    pub link: [u64; 2],
    /// See [`Terms::flow`].
    pub flow: Flow,
    /// What was held, where that is compared by packets; `None` where it is too much.
    pub set: Option<Set>,
    /// What was read besides.
    pub reads: Vec<Read>,
}

impl Begin {
    fn new(now: Time, terms: &Terms) -> Self {
        let link = [terms.link.round_trip, terms.link.bytes_per_second].map(f64::to_bits);
        Self {
            now,
            opened: None,
            answered: None,
            arcs: terms.arcs.clone(),
            max_wants: terms.max_wants,
            peer_count: terms.peer_count,
            nonce: terms.nonce,
            work: terms.limits.work,
            link,
            flow: terms.flow,
            set: None,
            reads: Vec::new(),
        }
    }

    /// The terms again. The id of the space is not written down.
    pub(super) fn terms(&self, space: SpaceId) -> Terms {
        let [round_trip, bytes_per_second] = self.link.map(f64::from_bits);
        Terms {
            space,
            arcs: self.arcs.clone(),
            max_wants: self.max_wants,
            peer_count: self.peer_count,
            nonce: self.nonce,
            limits: Limits { work: self.work },
            link: Link { round_trip, bytes_per_second },
            flow: self.flow,
        }
    }
}

/// Something that a session was told.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Step {
    /// When.
    pub now: Time,
    /// What.
    pub input: Input,
    /// What was read for it.
    pub reads: Vec<Read>,
}

/// The items of a space, and how their sums are cut.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Set {
    /// See [`Sectors::load`](crate::reconcile::Sectors::load).
    pub load: u64,
    /// How often all places were halved for each sector.
    pub depths: Vec<u8>,
    /// The items.
    pub keys: Vec<AspectKey>,
}

/// What was read of a store.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Read {
    /// By [`Holdings::list`].
    List(Vec<AspectKey>),
    /// By [`Holdings::lacks`].
    Lacks(Vec<AspectKey>),
    /// By [`Holdings::position`].
    Position(Position),
    /// By [`Holdings::resolve`].
    Resolve(Option<u64>),
    /// It could not be read.
    Failed,
}

/// A [`Session`] of which each event is written down, where there is a [`Tape`].
#[derive(Debug)]
pub struct TapedSession<I> {
    session: Session<I>,
    tape: Option<(Tape, TurnId)>,
    outputs: VecDeque<Output>,
}

impl<I: Items<Error: Error> + Clone> TapedSession<I> {
    /// See [`Session::open`].
    ///
    /// # Errors
    /// As there.
    pub fn open<H: Holdings<Items = I, Error = I::Error>>(
        tape: Option<(Tape, TurnId)>,
        now: Time,
        terms: Terms,
        number: u32,
        constraints: Constraints,
        holdings: &H,
    ) -> Result<Self, SessionError<I::Error>> {
        let Some(tape) = tape else {
            return Session::open(now, terms, number, constraints, holdings).map(Self::untaped);
        };
        let begin = Begin { opened: Some((number, constraints)), ..Begin::new(now, &terms) };
        Self::begin(tape, begin, holdings, |watched| {
            Session::open(now, terms, number, constraints, watched)
        })
    }

    /// See [`Session::answer`].
    ///
    /// # Errors
    /// As there.
    pub fn answer<H: Holdings<Items = I, Error = I::Error>>(
        tape: Option<(Tape, TurnId)>,
        now: Time,
        terms: Terms,
        request: ArcRequest,
        holdings: &H,
    ) -> Result<Self, SessionError<I::Error>> {
        let Some(tape) = tape else {
            return Session::answer(now, terms, request, holdings).map(Self::untaped);
        };
        let answered = Some(request.clone().into());
        let begin = Begin { answered, ..Begin::new(now, &terms) };
        Self::begin(tape, begin, holdings, |watched| Session::answer(now, terms, request, watched))
    }

    fn untaped(session: Session<I>) -> Self {
        Self { session, tape: None, outputs: VecDeque::new() }
    }

    fn begin<'a, H: Holdings<Items = I, Error = I::Error>>(
        (tape, turn): (Tape, TurnId),
        begin: Begin,
        holdings: &'a H,
        session: impl FnOnce(&Watched<'a, H>) -> Result<Session<I>, SessionError<I::Error>>,
    ) -> Result<Self, SessionError<I::Error>> {
        let watched = Watched::new(holdings);
        let mut session = session(&watched);
        let by_packets = session.as_ref().is_ok_and(Session::is_by_packets);
        let (set, reads) = watched.seen(by_packets);
        let begin = Begin { set, reads, ..begin };
        let (answer, outputs) = outcome(session.as_mut().map_err(|error| &*error));
        (tape.sink)(&Line::Begun { space: tape.space, turn, begin, answer });
        Ok(Self { session: session?, tape: Some((tape, turn)), outputs })
    }

    /// See [`Session::handle`].
    ///
    /// # Errors
    /// As there.
    pub fn handle<H: Holdings<Items = I, Error = I::Error>>(
        &mut self,
        now: Time,
        input: Input,
        holdings: &H,
    ) -> Result<(), SessionError<I::Error>> {
        let Some((tape, turn)) = &self.tape else {
            return self.session.handle(now, input, holdings);
        };
        let watched = Watched::new(holdings);
        let result = self.session.handle(now, input.clone(), &watched);
        let (_, reads) = watched.seen(false);
        let step = Step { now, input, reads };
        let (answer, outputs) = outcome(result.as_ref().map(|()| &mut self.session));
        (tape.sink)(&Line::Stepped { space: tape.space, turn: *turn, step, answer });
        self.outputs.extend(outputs);
        result
    }

    /// See [`Session::poll_output`].
    pub fn poll_output(&mut self) -> Option<Output> {
        self.outputs.pop_front().or_else(|| self.session.poll_output())
    }

    /// See [`Session::is_comparing`].
    pub fn is_comparing(&self) -> bool {
        self.session.is_comparing()
    }

    /// See [`Session::work`].
    pub fn work(&self) -> u64 {
        self.session.work()
    }

    /// See [`Session::deadline`].
    pub fn deadline(&self) -> Time {
        self.session.deadline()
    }
}

/// What a session wants done after an event, or why it is over; as text, and as it is.
pub(super) fn outcome<I: Items<Error: Error>>(
    result: Result<&mut Session<I>, &SessionError<I::Error>>,
) -> (String, VecDeque<Output>) {
    match result {
        Ok(session) => {
            let outputs: VecDeque<Output> = std::iter::from_fn(|| session.poll_output()).collect();
            (told(&outputs), outputs)
        }
        // What the disk says differs from machine to machine.
        Err(SessionError::Store(_)) => ("the store failed".to_owned(), VecDeque::new()),
        Err(error) => (error.to_string(), VecDeque::new()),
    }
}

/// Notes what is read.
struct Watched<'a, H: Holdings> {
    holdings: &'a H,
    reads: RefCell<Vec<Read>>,
    snapshot: RefCell<Option<Snapshot<H::Items>>>,
}

impl<'a, H: Holdings> Watched<'a, H> {
    fn new(holdings: &'a H) -> Self {
        Self { holdings, reads: RefCell::default(), snapshot: RefCell::new(None) }
    }

    /// What was read. A set that is listed anyway is not needed.
    fn seen(self, by_packets: bool) -> (Option<Set>, Vec<Read>) {
        let set = match self.snapshot.into_inner() {
            Some(snapshot) if by_packets || snapshot.sectors.count() <= LIST_ITEMS => {
                set(&snapshot)
            }
            _ => Some(Set::default()),
        };
        (set, self.reads.into_inner())
    }

    fn note<T: Clone>(
        &self,
        read: Result<T, H::Error>,
        note: impl FnOnce(T) -> Read,
    ) -> Result<T, H::Error> {
        let noted = read.as_ref().map_or(Read::Failed, |it| note(it.clone()));
        self.reads.borrow_mut().push(noted);
        read
    }
}

/// All items of a snapshot, where they are not too many and can be read.
fn set<I: Items>(snapshot: &Snapshot<I>) -> Option<Set> {
    if snapshot.sectors.count() > MAX_ITEMS {
        return None;
    }
    let (load, depths) = snapshot.sectors.cut();
    let mut keys = Vec::new();
    let each = &mut |key: &AspectKey| keys.push(*key);
    snapshot.items.scan(&AspectKey::MIN, &AspectKey::MAX, each).ok()?;
    Some(Set { load, depths, keys })
}

impl<H: Holdings<Items: Clone>> Holdings for Watched<'_, H> {
    type Error = H::Error;
    type Items = H::Items;

    fn snapshot(&self) -> Snapshot<H::Items> {
        let snapshot = self.holdings.snapshot();
        *self.snapshot.borrow_mut() = Some(snapshot.clone());
        snapshot
    }

    fn list(
        &self,
        first: AspectKey,
        last: AspectKey,
        filter: &Filter,
        limit: usize,
    ) -> Result<Vec<AspectKey>, H::Error> {
        self.note(self.holdings.list(first, last, filter, limit), Read::List)
    }

    fn lacks(&self, keys: &[AspectKey]) -> Result<Vec<AspectKey>, H::Error> {
        self.note(self.holdings.lacks(keys), Read::Lacks)
    }

    fn position(&self) -> Position {
        let position = self.holdings.position();
        self.reads.borrow_mut().push(Read::Position(position));
        position
    }

    fn resolve(&self, position: Position) -> Option<u64> {
        let count = self.holdings.resolve(position);
        self.reads.borrow_mut().push(Read::Resolve(count));
        count
    }
}
