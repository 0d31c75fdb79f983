//! A gossip session: what differs between two nodes inside their overlap, and its exchange.
//!
//! The seed's sequence. Alice opens, Bob answers; each is the other's mirror image but for who
//! lists first:
//!
//! ```text
//! Alice -> Bob: msgGspArcRequest           what she holds, a page at a time
//! Bob -> Alice: msgGspAspectDataRequest    what of that page he lacks
//! Alice -> Bob: msgGspAspectDataResponse   the aspects
//! Bob -> Alice: msgGspArcResponse          what he holds between the ends of that page and she did not list
//! Alice -> Bob: msgGspAspectDataRequest    what of that she lacks still
//! Bob -> Alice: msgGspAspectDataResponse   the aspects
//! ```
//!
//! Every list frame (msgGspArcRequest, msgGspArcResponse) is answered by exactly one
//! msgGspAspectDataRequest, in order, and at most [`LIST_WINDOW`] may be open in each direction; so
//! both sides hold a bounded part of either set, however large the sets are. Nobody waits for the
//! aspects before going on with the lists.
//!
//! Lists cost what the sets cost. So only small sets are listed, and what time or count constrain;
//! in other sessions the same messages carry the packets of [`exchange`], which cost what the
//! difference costs, and then both send what the other lacks:
//!
//! ```text
//! Alice -> Bob: msgGspArcRequest           her set in short: count, check, sketch
//! Bob -> Alice: msgGspArcResponse          the same; or what differs; or more detail
//! Alice -> Bob: msgGspAspectDataRequest    what she lacks
//! Alice -> Bob: msgGspArcRequest           where more detail is needed; and the end
//! both:         msgGspAspectDataResponse   the aspects
//! ```
//!
//! The end of a side's stream says: my lists are said and answered, I have answered yours and all
//! you wanted, and all that I wanted is durable.

use std::{collections::VecDeque, error::Error, time::Duration};

use serde::{Deserialize, Serialize};

use super::{
    Fault, Filter, Holdings, Position, SessionError,
    compare::Comparison,
    fetch::Fetch,
    list::{Complement, Pages, Unanswered},
};
use crate::{
    aspect::{Aspect, AspectKey},
    id::{NodeId, SpaceId},
    limits::{LIST_ITEMS, LIST_WINDOW, MAX_ARCS, MAX_WANTS, PAGE_KEYS, SESSION_IDLE},
    reconcile::{
        Items,
        exchange::{self, Limits, Link},
    },
    ring::ArcSet,
    time::Time,
    wire::{ArcRequest, ArcResponse, AspectDataRequest, Body, Kind, Listed, Message, Open, Page},
};

/// Which end of a session this is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Role {
    /// The one who opened it.
    Alice,
    /// The one who answers.
    Bob,
}

/// Who takes what it lacks. Where that is not both, one of them has no room, or fetches the part of the
/// ring from this peer that it does not fetch from others.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Flow {
    /// Both.
    #[default]
    Both,
    /// Only the one who opened the session.
    ToAlice,
    /// Only the one who answers.
    ToBob,
}

impl Flow {
    /// Whether this end takes what it lacks.
    pub fn takes(self, role: Role) -> bool {
        match self {
            Flow::Both => true,
            Flow::ToAlice => role == Role::Alice,
            Flow::ToBob => role == Role::Bob,
        }
    }

    /// Whether this end gives what the other lacks.
    fn gives(self, role: Role) -> bool {
        match role {
            Role::Alice => self.takes(Role::Bob),
            Role::Bob => self.takes(Role::Alice),
        }
    }
}

/// What both ends of a session know beforehand.
#[derive(Clone, Debug)]
pub struct Terms {
    /// The space.
    pub space: SpaceId,
    /// Alice: the part of the ring to compare. Bob: what he holds or fills; he asks for nothing
    /// outside.
    pub arcs: ArcSet,
    /// How many aspects the peer lets us ask for at a time (from its `Hello`).
    pub max_wants: usize,
    /// How many aspects the peer has said it holds (in its handshake).
    pub peer_count: u64,
    /// Random, and other bytes in every session.
    pub nonce: [u8; 8],
    /// How much work a comparison with this peer may take now.
    pub limits: Limits,
    /// What is known of the way to the peer.
    pub link: Link,
    /// Alice: who takes. Bob: who may take, at most.
    pub flow: Flow,
}

/// What Alice may leave out of the comparison.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Constraints {
    /// Compare only aspects published at this time or later.
    pub published_since: Option<Time>,
    /// What stood in the [`Report`] of the last session with this peer: compare only what either
    /// has stored after it. It holds inside the arcs of that report and nowhere else.
    pub after: Option<(Position, Position)>,
    /// Compare by lists, whatever that costs: a comparison by packets has failed before.
    pub lists: bool,
}

/// What has happened.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Input {
    /// A message came on the session's stream.
    Received(Message),
    /// Bytes have moved on the stream, of a message that is not whole yet: a large one on a slow
    /// line is no silence.
    Moved,
    /// The peer has ended its side of the stream.
    ReceivedEnd,
    /// This many of the aspects of [`Output::Store`] are durable now.
    Stored(usize),
    /// Keys of [`Output::Answer`] have been answered. Best told a frame at a time, as they go out: it
    /// is what counts as progress while a long answer is on its way.
    Answered {
        /// How many keys.
        keys: usize,
        /// How many aspects were sent for them; the others are gone.
        aspects: usize,
        /// Bytes of the encodings of those aspects.
        bytes: u64,
    },
    /// [`Session::deadline`] may have passed.
    Timeout,
}

/// What is to be done.
#[derive(Debug, PartialEq)]
pub enum Output {
    /// Send this on the session's stream.
    Send(Message),
    /// Read these from the store and send them as msgGspAspectDataResponse, those no longer held as
    /// `gone`; then give [`Input::Answered`].
    Answer(Vec<AspectKey>),
    /// Store these, whose hashes and signatures hold; then give [`Input::Stored`].
    Store(Vec<Aspect>),
    /// End our side of the stream, after everything before this is sent.
    Finish,
    /// It is over and complete.
    Done(Report),
}

/// What a completed session did.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Report {
    /// Which end this was.
    pub role: Role,
    /// Aspects that were lacking and are durable now.
    pub fetched: u64,
    /// Bytes of their encodings.
    pub fetched_bytes: u64,
    /// Aspects that the peer asked for and was sent.
    pub sent: u64,
    /// Bytes of their encodings.
    pub sent_bytes: u64,
    /// How the sets were compared and what that took; `None` where they were listed.
    #[serde(skip)]
    pub comparison: Option<exchange::Report>,
    /// How long this end has computed to find out what differs. Zero here: the driver has the clock,
    /// and fills it in.
    pub computing: Duration,
    /// Hashes listed to the peer.
    pub listed: u64,
    /// Hashes that the peer listed.
    pub heard: u64,
    /// Aspects refused because their signature did not hold.
    pub rejected: u64,
    /// Aspects that the peer listed but no longer held when asked.
    pub gone: u64,
    /// The part of the ring that was compared.
    pub arcs: ArcSet,
    /// Whether only a part was compared because of time or count constraints.
    pub constrained: bool,
    /// Who took what it lacked.
    pub flow: Flow,
    /// Whether the peer, where it took, asked for all of these arcs that it lacked.
    pub whole: bool,
    /// Our position and the peer's before the comparison: both now hold whatever of these arcs
    /// either had stored up to there. `None` where that was not shown.
    pub positions: Option<(Position, Position)>,
}

impl Report {
    /// Whether who takes now holds what the other held, within the constraints, as far as this end can
    /// know.
    pub fn in_sync(&self) -> bool {
        self.rejected == 0 && self.gone == 0
    }

    /// Whether the peer holds now all that this end held in these arcs, as far as this end can know.
    pub fn gave(&self, arcs: &ArcSet) -> bool {
        self.in_sync() && self.whole && self.flow.gives(self.role) && self.arcs.covers(arcs)
    }

    /// Whether this end took what it lacked.
    pub fn took(&self) -> bool {
        self.flow.takes(self.role)
    }
}

/// Both opened a session for the same space at the same moment: whether `ours` gives way to the
/// other's. Both ends come to the same answer.
pub fn yields(ours: &NodeId, theirs: &NodeId) -> bool {
    ours > theirs
}

/// How many keys may be with the driver that answers, before more are given to it.
const SEND_AHEAD: usize = 2 * PAGE_KEYS;

/// One end of a gossip session. `I` are the items that it compares: see [`Holdings::snapshot`].
#[derive(Debug)]
pub struct Session<I> {
    way: Way<I>,
    unanswered: Unanswered,
    fetch: Fetch,
    /// Keys that the peer wants and has not been sent.
    asked: usize,
    finished: bool,
    peer_finished: bool,
    done: bool,
    last_progress: Time,
    report: Report,
    /// Whether everything stored up to the two positions is compared.
    since_positions: bool,
    position: Position,
    peer_position: Option<Position>,
    outputs: VecDeque<Output>,
}

/// How the sets are compared, and how far that is.
#[derive(Debug)]
enum Way<I> {
    /// By packets.
    Packets(Box<Comparison<I>>),
    /// By lists, at her end.
    Alice {
        /// Until the first frame is sent.
        open: Option<Open>,
        pages: Pages,
        /// Bob's list frames that we have not answered.
        heard: VecDeque<Vec<AspectKey>>,
        heard_last: bool,
    },
    /// By lists, at his end.
    Bob {
        arcs: ArcSet,
        filter: Filter,
        /// Alice's pages that we have not answered, with their first keys.
        heard: VecDeque<(AspectKey, Page)>,
        /// Where her next page begins; `None` after the last one.
        next: Option<AspectKey>,
        /// The page whose complement is being listed.
        current: Option<Complement>,
        said_last: bool,
        /// Whether we ask for all of it that we lack.
        whole: bool,
    },
}

impl<I: Items<Error: Error>> Session<I> {
    /// Alice opens a session with a peer whose number for the space is `number`. Of very many arcs,
    /// the [`MAX_ARCS`] longest are compared.
    ///
    /// # Errors
    /// Where the store cannot be read, or comparing would take more work than this peer is given.
    pub fn open<H: Holdings<Items = I, Error = I::Error>>(
        now: Time,
        terms: Terms,
        number: u32,
        constraints: Constraints,
        holdings: &H,
    ) -> Result<Self, SessionError<I::Error>> {
        // What goes over the wire, for both ends alike.
        let terms = Terms { arcs: terms.arcs.longest(MAX_ARCS), ..terms };
        let position = holdings.position();
        let snapshot = holdings.snapshot();
        let few = snapshot.sectors.count().max(terms.peer_count) <= LIST_ITEMS;
        if constraints == Constraints::default() && !few {
            let arcs = terms.arcs.clone();
            let open = Open {
                space: number,
                arcs,
                published_since: None,
                stored_after: None,
                position: None,
                flow: terms.flow,
            };
            let (comparison, first) = Comparison::open(snapshot, open, terms.nonce, terms.limits)?;
            let way = Way::Packets(Box::new(comparison));
            let mut this = Self::new(now, Role::Alice, terms, way, position, false);
            this.since_positions = false;
            this.outputs.push_back(Output::Send(first));
            return Ok(this);
        }
        let (ours_after, theirs_after) = constraints.after.unzip();
        let filter = Filter {
            published_since: constraints.published_since,
            stored_after: ours_after.and_then(|after| holdings.resolve(after)),
        };
        // Where our own history cannot be followed back, neither side may leave anything out.
        let stored_after = theirs_after.filter(|_| filter.stored_after.is_some());
        let open = Open {
            space: number,
            arcs: terms.arcs.clone(),
            published_since: constraints.published_since,
            stored_after,
            position: Some(position),
            flow: terms.flow,
        };
        let way = Way::Alice {
            pages: Pages::new(open.arcs.clone(), filter),
            open: Some(open),
            heard: VecDeque::new(),
            heard_last: false,
        };
        let constrained = filter != Filter::default();
        let mut this = Self::new(now, Role::Alice, terms, way, position, constrained);
        this.since_positions = constraints.published_since.is_none();
        this.advance(holdings).map_err(SessionError::Store)?;
        Ok(this)
    }

    /// Bob answers a session that the peer has opened with `request`, its first message.
    ///
    /// # Errors
    /// A fault of the peer or of our own store, a position that we do not know, arcs that we do not all
    /// take, taking at all, or too much work.
    pub fn answer<H: Holdings<Items = I, Error = I::Error>>(
        now: Time,
        terms: Terms,
        request: ArcRequest,
        holdings: &H,
    ) -> Result<Self, SessionError<I::Error>> {
        let kind = crate::wire::Kind::ArcRequest;
        let when = "first without saying what the session is about";
        let open = request.open.ok_or(Fault::Unexpected { kind, when })?;
        let (arcs, flow) = (open.arcs, open.flow);
        if flow.takes(Role::Bob) && !terms.flow.takes(Role::Bob) {
            return Err(SessionError::Full);
        }
        let terms = Terms { flow, ..terms };
        if let Body::Packet(_) = &request.body {
            // Both compare just these arcs, so what is outside of ours would come too.
            if !terms.arcs.covers(&arcs) {
                return Err(SessionError::OtherArcs);
            }
            let terms = Terms { arcs: arcs.clone(), ..terms };
            let (nonce, limits, link) = (terms.nonce, terms.limits, terms.link);
            let comparison = Comparison::answer(holdings.snapshot(), arcs, nonce, limits, link);
            let way = Way::Packets(Box::new(comparison));
            let mut this = Self::new(now, Role::Bob, terms, way, holdings.position(), false);
            this.since_positions = false;
            let first = Message::ArcRequest(ArcRequest { open: None, body: request.body });
            this.handle(now, Input::Received(first), holdings)?;
            return Ok(this);
        }
        let mut filter = Filter { published_since: open.published_since, stored_after: None };
        if let Some(after) = open.stored_after {
            // Alice leaves out what she stored before, so we may not answer as if she had not.
            let count = holdings.resolve(after).ok_or(SessionError::UnknownPosition)?;
            filter.stored_after = Some(count);
        }
        let constrained = filter != Filter::default();
        let way = Way::Bob {
            arcs: arcs.clone(),
            filter,
            heard: VecDeque::new(),
            next: Some(AspectKey::MIN),
            current: None,
            said_last: false,
            whole: terms.arcs.covers(&arcs) && flow.takes(Role::Bob),
        };
        let position = holdings.position();
        let mut this = Self::new(now, Role::Bob, terms, way, position, constrained);
        this.report.arcs = this.report.arcs.intersect(&arcs);
        this.since_positions = open.published_since.is_none();
        this.peer_position = open.position;
        let rest = Message::ArcRequest(ArcRequest { open: None, body: request.body });
        this.handle(now, Input::Received(rest), holdings)?;
        Ok(this)
    }

    fn new(
        now: Time,
        role: Role,
        terms: Terms,
        way: Way<I>,
        position: Position,
        constrained: bool,
    ) -> Self {
        let takes = match terms.flow.takes(role) {
            true => terms.arcs.clone(),
            false => ArcSet::empty(),
        };
        let report = Report {
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
            arcs: terms.arcs.clone(),
            constrained,
            flow: terms.flow,
            whole: true,
            positions: None,
        };
        Self {
            way,
            unanswered: Unanswered::default(),
            fetch: Fetch::new(terms.space, takes, terms.max_wants),
            asked: 0,
            finished: false,
            peer_finished: false,
            done: false,
            last_progress: now,
            report,
            since_positions: true,
            position,
            peer_position: None,
            outputs: VecDeque::new(),
        }
    }

    /// Something has happened.
    ///
    /// # Errors
    /// The session is over: see [`SessionError`] for who is to blame.
    pub fn handle<H: Holdings<Items = I, Error = I::Error>>(
        &mut self,
        now: Time,
        input: Input,
        holdings: &H,
    ) -> Result<(), SessionError<I::Error>> {
        match input {
            Input::Timeout => {
                return if now >= self.deadline() { Err(Fault::Idle.into()) } else { Ok(()) };
            }
            Input::Moved => {}
            Input::Received(message) => self.receive(message)?,
            Input::ReceivedEnd => self.peer_finished = true,
            Input::Stored(count) => {
                self.fetch.stored(count);
                self.report.fetched += count as u64;
            }
            Input::Answered { keys, aspects, bytes } => {
                self.asked = self.asked.saturating_sub(keys);
                self.report.sent += aspects as u64;
                self.report.sent_bytes += bytes;
            }
        }
        self.last_progress = now;
        self.advance(holdings).map_err(SessionError::Store)?;
        let over = self.said_everything() && self.heard_everything() && self.fetch.is_answered();
        if self.peer_finished && !over {
            return Err(Fault::EndedEarly.into());
        }
        Ok(())
    }

    /// What is to be done next.
    pub fn poll_output(&mut self) -> Option<Output> {
        self.outputs.pop_front()
    }

    /// Whether it is not known yet what differs.
    pub fn is_comparing(&self) -> bool {
        !(self.said_everything() && self.heard_everything())
    }

    /// Whether the sets are compared by packets.
    pub(crate) fn is_by_packets(&self) -> bool {
        matches!(self.way, Way::Packets(_))
    }

    /// What was spent of [`Limits::work`] so far.
    pub fn work(&self) -> u64 {
        match &self.way {
            Way::Packets(comparison) => comparison.report().work,
            Way::Alice { .. } | Way::Bob { .. } => 0,
        }
    }

    /// When to give [`Input::Timeout`] if nothing else happens before.
    pub fn deadline(&self) -> Time {
        self.last_progress + SESSION_IDLE
    }

    fn receive(&mut self, message: Message) -> Result<(), SessionError<I::Error>> {
        let kind = message.kind();
        let wrong = || Fault::Unexpected { kind, when: "at this end of a session" };
        match (message, &mut self.way) {
            (Message::ArcRequest(ArcRequest { open: Some(_), .. }), _) => {
                return Err(Fault::Unexpected { kind, when: "twice with an opening" }.into());
            }
            (Message::ArcRequest(ArcRequest { body: Body::Packet(packet), .. }), way)
            | (Message::AspectDataRequest(AspectDataRequest { body: Body::Packet(packet) }), way)
            | (Message::ArcResponse(ArcResponse { body: Body::Packet(packet) }), way) => {
                let Way::Packets(comparison) = way else { return Err(wrong().into()) };
                // Only Alice wants by packets, and only Bob responds.
                let from = if kind == Kind::ArcResponse { Role::Bob } else { Role::Alice };
                let wants = matches!(packet, exchange::Packet::Want(_));
                if from == self.report.role || wants != (kind == Kind::AspectDataRequest) {
                    return Err(wrong().into());
                }
                let sent = comparison.handle(packet)?;
                self.outputs.extend(sent.into_iter().map(Output::Send));
                if comparison.is_over() && self.report.comparison.is_none() {
                    let takes = self.report.took();
                    self.fetch.expect(if takes { comparison.expected() } else { 0 });
                    self.report.comparison = Some(comparison.report().clone());
                }
            }
            (
                Message::ArcRequest(ArcRequest { body: Body::List(page), .. }),
                Way::Bob { heard, next, arcs, .. },
            ) => {
                let first = next.ok_or(Fault::Unexpected { kind, when: "after the last page" })?;
                if heard.len() >= LIST_WINDOW {
                    return Err(Fault::Window("lists").into());
                }
                let lowest = page.keys.first().copied().or(page.through);
                if lowest.is_some_and(|lowest| lowest < first) {
                    return Err(Fault::PageOrder(first).into());
                }
                if let Some(key) = page.keys.iter().find(|key| !arcs.contains(key.location)) {
                    return Err(Fault::OutsideArcs(key.location).into());
                }
                self.report.heard += page.keys.len() as u64;
                *next = page.through.and_then(AspectKey::next);
                heard.push_back((first, page));
            }
            (
                Message::ArcResponse(ArcResponse { body: Body::List(response) }),
                Way::Alice { heard, heard_last, .. },
            ) => {
                if *heard_last {
                    return Err(Fault::Unexpected { kind, when: "after the last one" }.into());
                }
                if heard.len() >= LIST_WINDOW {
                    return Err(Fault::Window("lists").into());
                }
                let arcs = &self.report.arcs;
                if let Some(key) = response.keys.iter().find(|key| !arcs.contains(key.location)) {
                    return Err(Fault::OutsideArcs(key.location).into());
                }
                self.report.heard += response.keys.len() as u64;
                *heard_last = response.last;
                self.peer_position = response.position;
                heard.push_back(response.keys);
            }
            (
                Message::AspectDataRequest(AspectDataRequest { body: Body::List(keys) }),
                Way::Alice { .. } | Way::Bob { .. },
            ) => {
                if !keys.is_empty() && !self.report.flow.gives(self.report.role) {
                    return Err(Fault::Unexpected { kind, when: "of one who takes nothing" }.into());
                }
                self.unanswered.answered(&keys)?;
                self.asked += keys.len();
                // The peer may have received, and ask for as much again, what is still counted here.
                if self.asked > 2 * MAX_WANTS {
                    return Err(Fault::Window("wants").into());
                }
                if !keys.is_empty() {
                    self.outputs.push_back(Output::Answer(keys));
                }
            }
            (Message::AspectDataResponse(response), _) => {
                self.report.gone += response.gone.len() as u64;
                let arrival = self.fetch.receive(response)?;
                self.report.rejected += arrival.rejected as u64;
                self.report.fetched_bytes +=
                    arrival.aspects.iter().map(|a| a.encoding().len() as u64).sum::<u64>();
                if !arrival.aspects.is_empty() {
                    self.outputs.push_back(Output::Store(arrival.aspects));
                }
            }
            (Message::Error(error), _) => return Err(SessionError::Ended(error)),
            _ => return Err(wrong().into()),
        }
        Ok(())
    }

    /// Does everything that can be done now.
    fn advance<H: Holdings<Items = I, Error = I::Error>>(
        &mut self,
        holdings: &H,
    ) -> Result<(), I::Error> {
        self.send()?;
        self.list(holdings)?;
        self.answer_lists(holdings)?;
        if !self.finished
            && self.said_everything()
            && self.heard_everything()
            && self.asked == 0
            && self.fetch.is_done()
        {
            self.finished = true;
            self.outputs.push_back(Output::Finish);
        }
        if self.finished && self.peer_finished && !self.done {
            self.done = true;
            self.outputs.push_back(Output::Done(self.report()));
        }
        Ok(())
    }

    /// After a comparison: hands what the peer lacks to the driver, not too much at a time.
    fn send(&mut self) -> Result<(), I::Error> {
        if let Way::Packets(comparison) = &mut self.way
            && self.report.flow.gives(self.report.role)
        {
            while self.asked < SEND_AHEAD
                && let Some(keys) = comparison.next()?
            {
                self.asked += keys.len();
                self.outputs.push_back(Output::Answer(keys));
            }
        }
        Ok(())
    }

    fn report(&self) -> Report {
        let shown = self.since_positions && self.report.in_sync() && self.report.flow == Flow::Both;
        let positions = self.peer_position.filter(|_| shown).map(|theirs| (self.position, theirs));
        let whole = match self.way {
            // He says where he stands only if he takes all of it.
            Way::Alice { .. } => self.peer_position.is_some() || !self.report.flow.takes(Role::Bob),
            Way::Packets(_) | Way::Bob { .. } => true,
        };
        Report { positions, whole, ..self.report.clone() }
    }

    /// Answers the peer's list frames, in order, while there is room for more wants.
    fn answer_lists<H: Holdings<Items = I, Error = I::Error>>(
        &mut self,
        holdings: &H,
    ) -> Result<(), I::Error> {
        let gives = self.report.flow.gives(self.report.role);
        loop {
            let keys = match &mut self.way {
                Way::Packets(_) => return Ok(()),
                Way::Alice { heard, .. } => {
                    let Some(listed) = heard.front() else { return Ok(()) };
                    let Some(keys) = self.fetch.want(listed, holdings)? else { return Ok(()) };
                    heard.pop_front();
                    keys
                }
                Way::Bob { heard, current, .. } => {
                    // One page at a time: the complement of the one before is listed first.
                    let (Some((_, page)), None) = (heard.front(), &current) else { return Ok(()) };
                    let Some(keys) = self.fetch.want(&page.keys, holdings)? else { return Ok(()) };
                    if let Some((first, page)) = heard.pop_front() {
                        let last = page.through.unwrap_or(AspectKey::MAX);
                        *current = Some(match gives {
                            true => Complement::new(first, last, page.keys),
                            false => Complement::nothing(),
                        });
                    }
                    keys
                }
            };
            self.outputs.push_back(Output::Send(AspectDataRequest::keys(keys).into()));
            self.list(holdings)?;
        }
    }

    /// Lists what we hold, while the peer has room for more lists.
    fn list<H: Holdings<Items = I, Error = I::Error>>(
        &mut self,
        holdings: &H,
    ) -> Result<(), I::Error> {
        while self.unanswered.has_room() {
            let (message, keys): (Message, _) = match &mut self.way {
                Way::Packets(_) => break,
                Way::Alice { open, pages, .. } => {
                    let Some(page) = pages.next(holdings)? else { break };
                    let keys = page.keys.clone();
                    (ArcRequest { open: open.take(), body: Body::List(page) }.into(), keys)
                }
                Way::Bob { arcs, filter, heard, next, current, said_last, whole } => {
                    let Some(complement) = current else { break };
                    let keys = complement.next(holdings, arcs, filter)?;
                    if complement.is_done() {
                        *current = None;
                        *said_last = next.is_none() && heard.is_empty();
                    }
                    let last = *said_last;
                    if keys.is_empty() && !last {
                        break;
                    }
                    let position = (last && *whole).then_some(self.position);
                    (Listed { keys: keys.clone(), last, position }.into(), keys)
                }
            };
            self.report.listed += keys.len() as u64;
            self.unanswered.sent(keys);
            self.outputs.push_back(Output::Send(message));
        }
        Ok(())
    }

    /// All our lists are sent and answered.
    fn said_everything(&self) -> bool {
        let sent = match &self.way {
            Way::Packets(comparison) => comparison.is_over(),
            Way::Alice { pages, .. } => pages.is_done(),
            Way::Bob { said_last, .. } => *said_last,
        };
        sent && self.unanswered.is_empty()
    }

    /// All the peer's lists have come, and we have answered them.
    fn heard_everything(&self) -> bool {
        match &self.way {
            Way::Packets(comparison) => comparison.is_over(),
            Way::Alice { heard, heard_last, .. } => *heard_last && heard.is_empty(),
            Way::Bob { heard, next, .. } => next.is_none() && heard.is_empty(),
        }
    }
}
