//! Driving the machines once more with what was written down.

use std::{
    cell::{Cell, RefCell},
    collections::{BTreeMap, BTreeSet, VecDeque},
};

use super::{
    Begin, Call, Line, Step, TurnId,
    session::{Read, Set, outcome},
};
use crate::{
    aspect::AspectKey,
    id::{AspectHash, NodeId, SpaceId},
    reconcile::{Items, Sectors},
    session::{Filter, Holdings, Position, Session, SessionError, Snapshot},
    swarm::{Settings, Swarm},
    time::Time,
    wire::Message,
};

/// Drives swarms and sessions with the lines of a capture, in their order.
#[derive(Default)]
pub struct Replay {
    ids: BTreeMap<String, SpaceId>,
    node: Option<NodeId>,
    spaces: BTreeMap<u32, Option<Space>>,
    done: Done,
}

/// How much was replayed, and what was left out.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Done {
    /// Calls of swarms.
    pub calls: u64,
    /// Sessions.
    pub sessions: u64,
    /// Events of those.
    pub steps: u64,
    /// Sessions of which too much was held to be written down: they are left out.
    pub too_large: u64,
    /// The fingerprints of spaces whose ids are not known: they are left out.
    pub unknown: BTreeSet<String>,
}

struct Space {
    id: SpaceId,
    swarm: Swarm,
    sessions: BTreeMap<TurnId, Session<Kept>>,
}

/// Something was answered otherwise than it is written down.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Difference {
    /// What the machine was told.
    pub told: String,
    /// What it answered then.
    pub then: String,
    /// What it answers now.
    pub now: String,
}

/// Lines that are no capture.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ReplayError {
    /// It begins with something else than whose machines they are.
    #[error("it does not say whose it is")]
    NoNode,
    /// Something happens in a space that was not entered.
    #[error("something happens in space {0}, which was not entered")]
    NoSpace(u32),
    /// A session has begun neither by opening nor by answering one.
    #[error("a session begins that was neither opened nor answered")]
    NoBeginning,
    /// The sums of a set are cut in a way that they cannot be.
    #[error("what was held is cut in a way that it cannot be")]
    Cut,
}

impl Replay {
    /// One that knows these spaces.
    pub fn new(ids: impl IntoIterator<Item = SpaceId>) -> Self {
        let ids = ids.into_iter().map(|id| (id.fingerprint(), id)).collect();
        Self { ids, ..Self::default() }
    }

    /// How much was replayed so far.
    pub fn done(&self) -> &Done {
        &self.done
    }

    /// The next line. Gives the difference, where there is one; nothing that follows means anything then.
    ///
    /// # Errors
    /// Where it cannot stand there.
    pub fn line(&mut self, line: Line) -> Result<Option<Difference>, ReplayError> {
        let node = match (&line, self.node) {
            (Line::Node { node, .. }, _) => *self.node.insert(*node),
            (_, Some(node)) => node,
            (_, None) => return Err(ReplayError::NoNode),
        };
        match line {
            Line::Node { .. } | Line::Full => Ok(None),
            Line::Space { space, fingerprint, now, settings } => {
                self.enter(node, space, fingerprint, now, settings);
                Ok(None)
            }
            Line::Told { space, call, answer } => {
                let Some(of) = known(&mut self.spaces, space)? else { return Ok(None) };
                self.done.calls += 1;
                let told = format!("space {space}: {call:?}");
                if let Call::session_ended { turn } = call {
                    of.sessions.remove(&turn);
                }
                let now = call.in_space(of.id).make(&mut of.swarm);
                Ok(difference(told, answer, now))
            }
            Line::Begun { space, turn, begin, answer } => {
                let Some(of) = known(&mut self.spaces, space)? else { return Ok(None) };
                let Some(set) = &begin.set else {
                    self.done.too_large += 1;
                    return Ok(None);
                };
                self.done.sessions += 1;
                let told = format!("space {space}: session {turn:?} at {}", begin.now);
                let store = Reread::new(Some(set), &begin.reads)?;
                let mut session = begin_session(of.id, &begin, &store)?;
                let (now, _) = outcome(session.as_mut().map_err(|error| &*error));
                if let Ok(session) = session {
                    of.sessions.insert(turn, session);
                }
                Ok(difference(told, answer, store.judged(now)))
            }
            Line::Stepped { space, turn, step, answer } => {
                let Some(of) = known(&mut self.spaces, space)? else { return Ok(None) };
                // It was left out, or is over.
                let Some(session) = of.sessions.get_mut(&turn) else { return Ok(None) };
                self.done.steps += 1;
                let Step { now, input, reads } = step;
                let told = format!("space {space}: session {turn:?} at {now}: {input:?}");
                let store = Reread::new(None, &reads)?;
                let result = session.handle(now, input, &store);
                let (now, _) = outcome(result.as_ref().map(|()| session));
                Ok(difference(told, answer, store.judged(now)))
            }
        }
    }

    fn enter(
        &mut self,
        node: NodeId,
        number: u32,
        fingerprint: String,
        now: Time,
        settings: Settings,
    ) {
        let space = self.ids.get(&fingerprint).map(|id| Space {
            id: *id,
            swarm: Swarm::of_node(now, node, *id, settings),
            sessions: BTreeMap::new(),
        });
        if space.is_none() {
            self.done.unknown.insert(fingerprint);
        }
        self.spaces.insert(number, space);
    }
}

/// A space that was entered; `None` where its id is not known.
fn known(
    spaces: &mut BTreeMap<u32, Option<Space>>,
    number: u32,
) -> Result<Option<&mut Space>, ReplayError> {
    spaces.get_mut(&number).map(Option::as_mut).ok_or(ReplayError::NoSpace(number))
}

fn begin_session(
    space: SpaceId,
    begin: &Begin,
    store: &Reread,
) -> Result<Result<Session<Kept>, SessionError<Unread>>, ReplayError> {
    let (now, terms) = (begin.now, begin.terms(space));
    match (begin.opened, &begin.answered) {
        (Some((number, constraints)), _) => {
            Ok(Session::open(now, terms, number, constraints, store))
        }
        (None, Some(Message::ArcRequest(request))) => {
            Ok(Session::answer(now, terms, request.clone(), store))
        }
        _ => Err(ReplayError::NoBeginning),
    }
}

fn difference(told: String, then: String, now: String) -> Option<Difference> {
    (then != now).then_some(Difference { told, then, now })
}

/// What is read of what was written down.
struct Reread {
    reads: RefCell<VecDeque<Read>>,
    /// Something else is asked for than what was read then.
    astray: Cell<bool>,
    snapshot: Snapshot<Kept>,
}

/// It was not read, or could not be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("it was not read")]
struct Unread;

impl Reread {
    fn new(set: Option<&Set>, reads: &[Read]) -> Result<Self, ReplayError> {
        let mut sectors = Sectors::new();
        if let Some(Set { load, depths, keys }) = set.filter(|set| !set.depths.is_empty()) {
            sectors = Sectors::from_cut(*load, depths).ok_or(ReplayError::Cut)?;
            keys.iter().for_each(|key| sectors.insert(key));
        }
        let items = Kept(set.iter().flat_map(|set| &set.keys).copied().collect());
        let reads = RefCell::new(reads.iter().cloned().collect());
        Ok(Self { reads, astray: Cell::new(false), snapshot: Snapshot { sectors, items } })
    }

    /// Reads again what was read as `what` then.
    fn read<T>(&self, what: impl FnOnce(Read) -> Option<T>) -> Result<T, Unread> {
        match self.reads.borrow_mut().pop_front() {
            Some(Read::Failed) => Err(Unread),
            read => read.and_then(what).ok_or_else(|| {
                self.astray.set(true);
                Unread
            }),
        }
    }

    /// An answer, where it was given by the same reads.
    fn judged(&self, answer: String) -> String {
        match self.astray.get() || !self.reads.borrow().is_empty() {
            true => format!("{answer}, after reading something else"),
            false => answer,
        }
    }
}

impl Holdings for Reread {
    type Error = Unread;
    type Items = Kept;

    fn snapshot(&self) -> Snapshot<Kept> {
        self.snapshot.clone()
    }

    fn list(
        &self,
        _: AspectKey,
        _: AspectKey,
        _: &Filter,
        _: usize,
    ) -> Result<Vec<AspectKey>, Unread> {
        self.read(|read| if let Read::List(keys) = read { Some(keys) } else { None })
    }

    fn lacks(&self, _: &[AspectKey]) -> Result<Vec<AspectKey>, Unread> {
        self.read(|read| if let Read::Lacks(keys) = read { Some(keys) } else { None })
    }

    fn position(&self) -> Position {
        let read = self.read(|read| if let Read::Position(at) = read { Some(at) } else { None });
        read.unwrap_or(Position { epoch: 0, count: 0 })
    }

    fn resolve(&self, _: Position) -> Option<u64> {
        let read =
            self.read(|read| if let Read::Resolve(count) = read { Some(count) } else { None });
        read.ok().flatten()
    }
}

/// The items that were written down.
#[derive(Clone, Debug)]
struct Kept(BTreeSet<AspectKey>);

impl Items for Kept {
    type Error = Unread;

    fn scan(
        &self,
        first: &AspectKey,
        last: &AspectKey,
        each: &mut dyn FnMut(&AspectKey),
    ) -> Result<(), Unread> {
        let Ok(()) = self.0.scan(first, last, each);
        Ok(())
    }

    fn find(&self, first: &AspectHash, last: &AspectHash) -> Result<Vec<AspectKey>, Unread> {
        let Ok(found) = self.0.find(first, last);
        Ok(found)
    }
}
