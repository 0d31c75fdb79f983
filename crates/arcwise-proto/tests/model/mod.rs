//! A store in memory and a network in a queue, to drive sessions with.
#![allow(dead_code, reason = "each test binary uses its own part")]

pub(crate) mod any;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::convert::Infallible;
use std::path::Path;

use arcwise_proto::{
    Aspect, AspectKey, EntryAddress, SpaceId, Time,
    limits::{DATA_FRAME_TARGET, MAX_WANTS},
    reconcile::{
        Sectors,
        exchange::{Limits, Link},
    },
    ring::ArcSet,
    session::{
        Binding, Constraints, Control, ControlOutput, Digest, Fault, Filter, Flow, Holdings, Input,
        LocalSpace, Output, Position, Report, Session, SessionError, Snapshot, Terms,
    },
    wire::{ArcRequest, AspectDataResponse, Header, Message, WireError},
};
use bytes::Bytes;

pub(crate) const SPACE: SpaceId = SpaceId([0x5a; 32]);

/// An aspect that a test names by a number; numbers below 2^32 sit at the location of that number.
pub(crate) fn numbered(n: u64) -> Aspect {
    let mut address = [0; 32];
    address[..8].copy_from_slice(&n.to_le_bytes());
    address[8..12].copy_from_slice(&((n >> 32) as u32).to_le_bytes());
    let published = Time::from_micros(n);
    Aspect::new(EntryAddress(address), 1, published, &n.to_le_bytes()).unwrap()
}

#[derive(Clone, Debug, Default)]
pub(crate) struct Memory {
    pub(crate) epoch: u64,
    pub(crate) rows: BTreeMap<AspectKey, (u64, Aspect)>,
    pub(crate) count: u64,
}

impl Memory {
    pub(crate) fn new(epoch: u64, aspects: impl IntoIterator<Item = Aspect>) -> Self {
        let mut this = Self { epoch, ..Self::default() };
        aspects.into_iter().for_each(|aspect| this.insert(aspect));
        this
    }

    pub(crate) fn insert(&mut self, aspect: Aspect) {
        if !self.rows.contains_key(&aspect.key()) {
            self.count += 1;
            self.rows.insert(aspect.key(), (self.count, aspect));
        }
    }
}

impl Holdings for Memory {
    type Error = Infallible;
    type Items = BTreeSet<AspectKey>;

    fn snapshot(&self) -> Snapshot<Self::Items> {
        let items: Self::Items = self.rows.keys().copied().collect();
        let mut sectors = Sectors::expecting(items.len() as u64, &ArcSet::full());
        items.iter().for_each(|key| sectors.insert(key));
        let Ok(()) = sectors.settle(&items);
        Snapshot { sectors, items }
    }

    fn list(
        &self,
        first: AspectKey,
        last: AspectKey,
        filter: &Filter,
        limit: usize,
    ) -> Result<Vec<AspectKey>, Infallible> {
        let passes = |(_, (count, aspect)): &(&AspectKey, &(u64, Aspect))| {
            filter.published_since.is_none_or(|t| aspect.published() >= t)
                && filter.stored_after.is_none_or(|after| *count > after)
        };
        let rows = self.rows.range(first..=last).filter(passes);
        Ok(rows.take(limit).map(|(key, _)| *key).collect())
    }

    fn lacks(&self, keys: &[AspectKey]) -> Result<Vec<AspectKey>, Infallible> {
        Ok(keys.iter().filter(|key| !self.rows.contains_key(key)).copied().collect())
    }

    fn position(&self) -> Position {
        Position { epoch: self.epoch, count: self.count }
    }

    fn resolve(&self, position: Position) -> Option<u64> {
        (position.epoch == self.epoch && position.count <= self.count).then_some(position.count)
    }
}

/// Reads one frame, as from a stream that ends after it.
pub(crate) fn decode(frame: Bytes) -> Result<Message, WireError> {
    let header = *frame.first_chunk().ok_or(WireError::Truncated)?;
    Message::decode(Header::parse(header)?, frame.slice(Header::LEN..))
}

/// A message as the peer gets it.
pub(crate) fn carried(message: Message) -> Message {
    decode(message.encode()).unwrap()
}

/// What travels from one end to the other.
pub(crate) enum Wire {
    Message(Message),
    End,
}

/// One end of a session with its store and what it has sent that the other has not received.
pub(crate) struct End {
    pub(crate) store: Memory,
    pub(crate) session: Option<Session<BTreeSet<AspectKey>>>,
    pub(crate) outbox: VecDeque<Wire>,
    pub(crate) report: Option<Report>,
    pub(crate) arcs: ArcSet,
    /// The other end's number for the space.
    pub(crate) number: u32,
    /// Aspects handed over to be stored, not durable yet.
    pub(crate) storing: VecDeque<Vec<Aspect>>,
    /// Answers that have not been sent yet.
    pub(crate) answering: VecDeque<Vec<AspectKey>>,
    pub(crate) max_wants: usize,
    /// How many aspects it takes the other end to hold.
    pub(crate) peer_count: u64,
    pub(crate) limits: Limits,
    pub(crate) flow: Flow,
}

/// What a session needs besides.
pub(crate) fn terms(arcs: ArcSet, max_wants: usize, peer_count: u64, limits: Limits) -> Terms {
    let (nonce, link) = ([0x5e; 8], Link::default());
    Terms { space: SPACE, arcs, max_wants, peer_count, nonce, limits, link, flow: Flow::Both }
}

type Outcome = Result<(), SessionError<Infallible>>;

impl End {
    pub(crate) fn new(store: Memory, arcs: ArcSet) -> Self {
        Self {
            store,
            session: None,
            outbox: VecDeque::new(),
            report: None,
            arcs,
            number: 7,
            storing: VecDeque::new(),
            answering: VecDeque::new(),
            max_wants: MAX_WANTS,
            peer_count: 0,
            limits: Limits::default(),
            flow: Flow::Both,
        }
    }

    fn terms(&self, arcs: ArcSet) -> Terms {
        let terms = terms(arcs, self.max_wants, self.peer_count, self.limits);
        Terms { flow: self.flow, ..terms }
    }

    pub(crate) fn open(&mut self, arcs: ArcSet, constraints: Constraints) {
        let terms = self.terms(arcs);
        let session = Session::open(Time::ZERO, terms, self.number, constraints, &self.store);
        self.session = Some(session.unwrap());
        self.collect();
    }

    pub(crate) fn answer(&mut self, request: ArcRequest) -> Outcome {
        let terms = self.terms(self.arcs.clone());
        self.session = Some(Session::answer(Time::ZERO, terms, request, &self.store)?);
        self.collect();
        Ok(())
    }

    pub(crate) fn input(&mut self, input: Input) -> Outcome {
        let session = self.session.as_mut().expect("a session is open");
        session.handle(Time::ZERO, input, &self.store)?;
        self.collect();
        Ok(())
    }

    fn collect(&mut self) {
        while let Some(output) = self.session.as_mut().and_then(Session::poll_output) {
            match output {
                Output::Send(message) => self.send(message),
                Output::Finish => self.outbox.push_back(Wire::End),
                Output::Answer(keys) => self.answering.push_back(keys),
                Output::Store(aspects) => self.storing.push_back(aspects),
                Output::Done(report) => self.report = Some(report),
            }
        }
    }

    fn send(&mut self, message: Message) {
        assert_eq!(carried(message.clone()), message);
        self.outbox.push_back(Wire::Message(message));
    }

    /// Takes the other end's next message.
    pub(crate) fn receive(&mut self, wire: Wire) -> Outcome {
        match wire {
            Wire::End => self.input(Input::ReceivedEnd),
            Wire::Message(Message::ArcRequest(request)) if self.session.is_none() => {
                self.answer(request)
            }
            Wire::Message(message) => self.input(Input::Received(message)),
        }
    }

    /// Makes durable what came first.
    pub(crate) fn store(&mut self) -> Option<Outcome> {
        let batch = self.storing.pop_front()?;
        let count = batch.len();
        batch.into_iter().for_each(|aspect| self.store.insert(aspect));
        Some(self.input(Input::Stored(count)))
    }

    /// Sends the answer that was asked for first.
    pub(crate) fn reply(&mut self) -> Option<Outcome> {
        let keys = self.answering.pop_front()?;
        let (mut aspects, mut gone, mut size) = (Vec::new(), Vec::new(), 0);
        let (mut sent, mut bytes) = (0, 0);
        for key in &keys {
            match self.store.rows.get(key).map(|(_, aspect)| aspect.clone()) {
                Some(aspect) => {
                    let len = aspect.encoding().len();
                    if size > 0 && size + len > DATA_FRAME_TARGET {
                        let aspects = std::mem::take(&mut aspects);
                        self.send(AspectDataResponse { aspects, gone: Vec::new() }.into());
                        size = 0;
                    }
                    size += len;
                    bytes += len as u64;
                    sent += 1;
                    aspects.push(aspect);
                }
                None => gone.push(*key),
            }
        }
        if !aspects.is_empty() {
            self.send(AspectDataResponse { aspects, gone: Vec::new() }.into());
        }
        if !gone.is_empty() {
            self.send(AspectDataResponse { aspects: Vec::new(), gone }.into());
        }
        Some(self.input(Input::Answered { keys: keys.len(), aspects: sent, bytes }))
    }
}

/// One end of a control stream, with what it has sent that the other has not received.
pub(crate) struct ControlEnd {
    pub(crate) control: Control,
    pub(crate) outbox: VecDeque<Message>,
    /// What it told its own side.
    pub(crate) told: VecDeque<ControlOutput>,
}

impl ControlEnd {
    /// `secret` is what the two ends of the connection share.
    pub(crate) fn new(
        secret: [u8; 32],
        dialer: bool,
        agent: &str,
        spaces: Vec<LocalSpace>,
    ) -> Self {
        let binding = Binding::new(secret, dialer);
        let control =
            Control::new(Time::ZERO, binding, agent, [u8::from(dialer); 32], None, spaces);
        let mut this = Self { control, outbox: VecDeque::new(), told: VecDeque::new() };
        this.collect();
        this
    }

    pub(crate) fn set_spaces(&mut self, spaces: Vec<LocalSpace>) {
        self.control.set_spaces(Time::ZERO, spaces);
        self.collect();
    }

    pub(crate) fn ping(&mut self, nonce: u64, digests: &[(SpaceId, Digest)]) {
        self.control.ping(nonce.to_le_bytes(), digests);
        self.collect();
    }

    pub(crate) fn pong(&mut self, nonce: [u8; 8], differing: &[SpaceId]) {
        self.control.pong(nonce, differing);
        self.collect();
    }

    pub(crate) fn receive(&mut self, message: impl Into<Message>) -> Result<(), Fault> {
        let result = self.control.handle(Time::ZERO, message.into());
        self.collect();
        result
    }

    fn collect(&mut self) {
        while let Some(output) = self.control.poll_output() {
            match output {
                ControlOutput::Send(message) => self.outbox.push_back(carried(message)),
                told => self.told.push_back(told),
            }
        }
    }
}

/// Compares a recorded file of `tests/` with what the code says now, or rewrites it where the
/// environment variable `flag` is set.
pub(crate) fn settle(flag: &str, path: &str, now: &str) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests").join(path);
    if std::env::var_os(flag).is_some() {
        return std::fs::write(&path, now).unwrap();
    }
    let recorded = std::fs::read_to_string(&path).unwrap_or_default();
    let lines = |text: &str| text.lines().map(str::to_owned).chain([String::new()]).collect();
    let (old, new): (Vec<_>, Vec<_>) = (lines(&recorded), lines(now));
    if let Some(at) = (0..old.len().max(new.len())).find(|&at| old.get(at) != new.get(at)) {
        let shown = |lines: &[String]| lines.get(at).cloned().unwrap_or_default();
        panic!(
            "{}:{} differs; if that is meant, run again with {flag}=1 and review the diff\n\
             recorded: {}\n     now: {}",
            path.display(),
            at + 1,
            shown(&old),
            shown(&new),
        );
    }
}
