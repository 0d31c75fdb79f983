//! Whatever a peer sends, nothing panics and nothing grows beyond the limits.
//!
//! Random bytes are refused by the first check they meet, so most of what is sent here is valid and
//! wrong only in its place: messages out of turn, lists that overlap, answers to nothing, and among
//! them enough of what an honest peer would send that a conversation gets anywhere.

mod model;

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    convert::Infallible,
};

use arcwise_proto::{
    Aspect, AspectKey, Time,
    limits::{LIST_WINDOW, MAX_WANTS, PAGE_KEYS},
    reconcile::exchange::Limits,
    ring::ArcSet,
    session::{Constraints, ControlOutput, Input, LocalSpace, Output, Role, Session, SessionError},
    swarm::SignedRecord,
    wire::{
        ArcRequest, ArcResponse, AspectDataRequest, AspectDataResponse, Body, Header, Kind, Listed,
        Message, Open, Page,
    },
};
use bytes::Bytes;
use model::{
    ControlEnd, Memory, SPACE,
    any::{RECORDS, UNIVERSE, any_arcs, any_message, arc_request},
    decode, terms,
};
use proptest::{collection::vec, option, prelude::*, sample::Index};

proptest! {
    #[test]
    fn every_valid_message_survives_its_encoding(message in any_message()) {
        let frame = message.encode();
        prop_assert!(frame.len() - Header::LEN <= message.kind().max_len());
        prop_assert_eq!(decode(frame), Ok(message));
    }

    #[test]
    fn a_damaged_frame_is_refused_or_another_message(
        message in any_message(),
        damage in vec((any::<Index>(), any::<u8>()), 1..4),
        len in option::of(any::<Index>()),
    ) {
        let mut frame = message.encode().to_vec();
        for (at, byte) in damage {
            let at = at.index(frame.len());
            frame[at] = byte;
        }
        frame.truncate(len.map_or(frame.len(), |len| len.index(frame.len())));
        if let Ok(message) = decode(frame.into()) {
            prop_assert_eq!(decode(message.encode()), Ok(message));
        }
    }

    #[test]
    fn random_bytes_are_refused_or_a_message(
        kind in 0..=Kind::ALL.len() as u8 + 1,
        body in vec(any::<u8>(), 0..300),
    ) {
        let mut frame = vec![kind];
        frame.extend_from_slice(&(body.len() as u32).to_le_bytes());
        frame.extend_from_slice(&body);
        if let Ok(message) = decode(frame.into()) {
            prop_assert_eq!(decode(message.encode()), Ok(message));
        }
    }

    #[test]
    fn random_bytes_are_no_peer_record(
        record in vec(any::<u8>(), 0..300),
        (low, high) in any::<([u8; 32], [u8; 32])>(),
    ) {
        let signature = [low, high].concat().try_into().unwrap();
        prop_assert!(SignedRecord::new(record.into(), signature).verify(&SPACE).is_err());
    }

    #[test]
    fn a_damaged_peer_record_is_not_believed(
        record in proptest::sample::select(&**RECORDS),
        at in any::<Index>(),
        other in 1..=u8::MAX,
        len in option::of(any::<Index>()),
    ) {
        let whole = [&record.encoding()[..], record.signature()].concat();
        let mut damaged = whole.clone();
        let at = at.index(damaged.len());
        damaged[at] ^= other;
        let signature = damaged.split_off(record.encoding().len()).try_into().unwrap();
        damaged.truncate(len.map_or(damaged.len(), |len| len.index(damaged.len())));
        prop_assert!(SignedRecord::new(damaged.into(), signature).verify(&SPACE).is_err());
    }

    #[test]
    fn a_header_never_promises_more_than_its_limit(bytes in any::<[u8; Header::LEN]>()) {
        if let Ok(header) = Header::parse(bytes) {
            prop_assert!(header.body_len() <= header.kind().max_len());
        }
    }

    #[test]
    fn control_answers_each_message_with_no_more_than_its_spaces(
        messages in vec((any_message(), any::<bool>()), 0..30),
    ) {
        let spaces: Vec<LocalSpace> = (1..4)
            .map(|n| LocalSpace {
                id: arcwise_proto::SpaceId([n; 32]),
                number: n.into(),
                store: ArcSet::full(),
                target: ArcSet::full(),
                query: ArcSet::full(),
                count: 0,
                bytes: 0,
                full: false,
            })
            .collect();
        let mut end = ControlEnd::new([1; 32], true, "", spaces.clone());
        let theirs = ControlEnd::new([1; 32], false, "", spaces.clone());
        // Tags that prove something, so that there is something to tell.
        let Some(Message::Hello(proof)) = theirs.outbox.front().cloned() else { unreachable!() };
        for (mut message, proven) in messages {
            match &mut message {
                Message::Hello(hello) if proven => hello.tags = proof.tags.clone(),
                Message::Handshake(handshake) if proven => handshake.tag = proof.tags[0],
                _ => {}
            }
            let (sent, told) = (end.outbox.len(), end.told.len());
            if end.receive(message).is_err() {
                break;
            }
            prop_assert!(end.outbox.len() - sent <= spaces.len());
            prop_assert!(end.told.len() - told <= 1 + spaces.len());
            let met = end.told.iter().filter(|told| matches!(told, ControlOutput::Met { .. }));
            prop_assert!(met.count() <= 1);
        }
    }
}

/// What happens to a session next. Only the first of these can break a rule; the others do nothing
/// where there is nothing to do.
#[derive(Clone, Debug)]
enum Act {
    /// The peer sends anything.
    Any(Message),
    /// The peer lists some of what there is, from where it ended before.
    List { count: usize, last: bool },
    /// The peer answers our oldest list.
    Want(Vec<usize>),
    /// The peer sends or declines some of what is on order.
    Data { some: Vec<usize>, gone: bool },
    /// What was handed over first is durable.
    Store,
    /// What was asked for first is sent.
    Answer,
    /// Time has passed.
    Wait(u64),
}

fn any_act() -> impl Strategy<Value = Act> {
    let last = prop::bool::weighted(0.05);
    prop_oneof![
        1 => any_message().prop_map(Act::Any),
        12 => (0..20usize, last).prop_map(|(count, last)| Act::List { count, last }),
        12 => vec(any::<usize>(), 0..6).prop_map(Act::Want),
        12 => (vec(any::<usize>(), 1..6), prop::bool::weighted(0.2))
            .prop_map(|(some, gone)| Act::Data { some, gone }),
        8 => Just(Act::Store),
        8 => Just(Act::Answer),
        1 => (0..2_000_000u64).prop_map(Act::Wait),
    ]
}

/// A session and all that can be seen of its state from outside.
struct Watched {
    session: Session<BTreeSet<AspectKey>>,
    role: Role,
    arcs: ArcSet,
    store: Memory,
    now: Time,
    known: BTreeMap<AspectKey, Aspect>,
    /// Lists of ours that the peer has not answered.
    unanswered: VecDeque<Vec<AspectKey>>,
    /// How many of the peer's lists we have not answered.
    heard: usize,
    wants: BTreeSet<AspectKey>,
    answering: VecDeque<usize>,
    storing: VecDeque<Vec<Aspect>>,
    /// Where the peer's next list begins; `None` after the last.
    cursor: Option<AspectKey>,
    /// Whether the peer takes what it lacks.
    gives: bool,
    finished: bool,
    done: bool,
}

impl Watched {
    fn new(session: Session<BTreeSet<AspectKey>>, role: Role, arcs: ArcSet, store: Memory) -> Self {
        let mut this = Self {
            session,
            role,
            arcs,
            store,
            now: Time::ZERO,
            known: UNIVERSE.iter().map(|aspect| (aspect.key(), aspect.clone())).collect(),
            unanswered: VecDeque::new(),
            heard: usize::from(role == Role::Bob),
            wants: BTreeSet::new(),
            answering: VecDeque::new(),
            storing: VecDeque::new(),
            cursor: Some(AspectKey::MIN),
            gives: true,
            finished: false,
            done: false,
        };
        this.collect();
        this
    }

    /// The session goes on.
    fn act(&mut self, act: Act) -> bool {
        let may_break = matches!(act, Act::Any(_));
        match self.input(act) {
            None => true,
            Some(input) => match self.handle(input) {
                Ok(()) => true,
                Err(error) if may_break => {
                    assert!(!matches!(error, SessionError::Store(_)));
                    false
                }
                Err(error) => panic!("a peer that keeps the rules is blamed: {error:?}"),
            },
        }
    }

    fn input(&mut self, act: Act) -> Option<Input> {
        Some(match act {
            Act::Any(message) => Input::Received(message),
            Act::List { count, last } => {
                if self.heard >= LIST_WINDOW {
                    return None;
                }
                Input::Received(self.list(count, last)?)
            }
            Act::Want(some) => {
                let mut keys = pick(self.unanswered.front()?, &some);
                keys.retain(|_| self.gives);
                Input::Received(AspectDataRequest::keys(keys).into())
            }
            Act::Data { some, gone } => {
                let mut keys = pick(&self.wants.iter().copied().collect::<Vec<_>>(), &some);
                let known = |key: &AspectKey| !gone && self.known.contains_key(key);
                let gone = keys.extract_if(.., |key| !known(key)).collect();
                let aspects = keys.iter().map(|key| self.known[key].clone()).collect();
                Input::Received(AspectDataResponse { aspects, gone }.into())
            }
            Act::Store => {
                let batch = self.storing.pop_front()?;
                let count = batch.len();
                batch.into_iter().for_each(|aspect| self.store.insert(aspect));
                Input::Stored(count)
            }
            Act::Answer => {
                let keys = self.answering.pop_front()?;
                Input::Answered { keys, aspects: keys, bytes: 0 }
            }
            Act::Wait(micros) => {
                let now = Time::from_micros(self.now.as_micros() + micros);
                self.now = now.min(self.session.deadline());
                return None;
            }
        })
    }

    fn handle(&mut self, input: Input) -> Result<(), SessionError<Infallible>> {
        let received = match &input {
            Input::Received(message) => Some(message.clone()),
            _ => None,
        };
        self.session.handle(self.now, input, &self.store)?;
        match received {
            Some(Message::ArcRequest(ArcRequest {
                body: Body::List(Page { through, .. }),
                ..
            })) => {
                self.heard += 1;
                self.cursor = through.and_then(AspectKey::next);
            }
            Some(Message::ArcResponse(ArcResponse { body: Body::List(response) })) => {
                self.heard += 1;
                self.cursor = self.cursor.filter(|_| !response.last);
            }
            Some(Message::AspectDataRequest(_)) => drop(self.unanswered.pop_front()),
            Some(Message::AspectDataResponse(answer)) => {
                let came = answer.aspects.iter().map(Aspect::key).chain(answer.gone);
                for key in came {
                    assert!(self.wants.remove(&key), "took what it had not asked for");
                }
            }
            _ => {}
        }
        self.collect();
        Ok(())
    }

    /// From here on the peer does what is left to do: the session must come to its end.
    fn finish(&mut self) {
        for _ in 0..10_000 {
            let next = if !self.storing.is_empty() {
                Act::Store
            } else if !self.answering.is_empty() {
                Act::Answer
            } else if let Some(key) = self.wants.first() {
                let gone = !self.known.contains_key(key);
                Act::Data { some: vec![0], gone }
            } else if !self.unanswered.is_empty() {
                Act::Want(vec![])
            } else if self.cursor.is_some() {
                Act::List { count: 0, last: true }
            } else {
                break;
            };
            assert!(self.act(next));
        }
        assert!(self.finished, "the session hangs");
        self.handle(Input::ReceivedEnd).unwrap();
        assert!(self.done);
    }

    fn collect(&mut self) {
        while let Some(output) = self.session.poll_output() {
            assert!(!self.done, "nothing comes after the end");
            match output {
                Output::Send(message) => {
                    assert!(!self.finished, "nothing is sent after the end of our side");
                    assert_eq!(decode(message.encode()), Ok(message.clone()));
                    self.sent(message);
                }
                Output::Answer(keys) => {
                    assert!(keys.iter().all(|key| self.store.rows.contains_key(key)));
                    self.answering.push_back(keys.len());
                }
                Output::Store(aspects) => {
                    assert!(aspects.iter().all(|aspect| aspect.verify(&SPACE).is_ok()));
                    self.storing.push_back(aspects);
                }
                Output::Finish => {
                    assert!(self.storing.is_empty() && self.answering.is_empty());
                    self.finished = true;
                }
                Output::Done(report) => {
                    assert_eq!(report.role, self.role);
                    self.done = true;
                }
            }
        }
        assert!(self.unanswered.len() <= LIST_WINDOW && self.heard <= LIST_WINDOW);
        assert!(self.wants.len() <= MAX_WANTS);
        assert!(self.answering.iter().sum::<usize>() <= 2 * MAX_WANTS);
    }

    fn sent(&mut self, message: Message) {
        match message {
            Message::ArcRequest(ArcRequest { body: Body::List(page), .. }) => {
                self.unanswered.push_back(page.keys);
            }
            Message::ArcResponse(ArcResponse { body: Body::List(list) }) => {
                self.unanswered.push_back(list.keys);
            }
            Message::AspectDataRequest(AspectDataRequest { body: Body::List(keys) }) => {
                self.heard -= 1;
                self.wants.extend(keys);
            }
            other => panic!("a session does not send a {}", other.kind()),
        }
    }

    /// The peer's next list; `None` after the last.
    fn list(&self, count: usize, last: bool) -> Option<Message> {
        let from = self.cursor?;
        let keys = self.known.range(from..).map(|(key, _)| *key);
        let keys: Vec<_> =
            keys.filter(|key| self.arcs.contains(key.location)).take(count).collect();
        let through = keys.last().copied().filter(|_| !last);
        Some(match self.role {
            Role::Alice => Listed { keys, last, position: None }.into(),
            Role::Bob => ArcRequest { open: None, body: Body::List(Page { keys, through }) }.into(),
        })
    }
}

/// Some of `keys`, ascending.
fn pick(keys: &[AspectKey], some: &[usize]) -> Vec<AspectKey> {
    let some = some.iter().filter(|_| !keys.is_empty());
    some.map(|at| keys[at % keys.len()]).collect::<BTreeSet<_>>().into_iter().collect()
}

fn any_store() -> impl Strategy<Value = Memory> {
    let believed = UNIVERSE.iter().filter(|aspect| aspect.verify(&SPACE).is_ok());
    let believed: Vec<Aspect> = believed.cloned().collect();
    let some = 0..believed.len();
    proptest::sample::subsequence(believed, some).prop_map(|some| Memory::new(1, some))
}

/// Little enough that lists must wait for aspects.
fn any_max_wants() -> impl Strategy<Value = usize> {
    prop_oneof![1..30usize, Just(PAGE_KEYS)]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 512, ..ProptestConfig::default() })]

    #[test]
    fn alice_stands_what_bob_does(
        store in any_store(),
        arcs in any_arcs(),
        max_wants in any_max_wants(),
        acts in vec(any_act(), 0..100),
    ) {
        let terms = terms(arcs.clone(), max_wants, 0, Limits::default());
        let session = Session::open(Time::ZERO, terms, 1, Constraints::default(), &store).unwrap();
        let mut alice = Watched::new(session, Role::Alice, arcs, store);
        if acts.into_iter().all(|act| alice.act(act)) {
            alice.finish();
        }
    }

    #[test]
    fn bob_stands_what_alice_does(
        store in any_store(),
        (arcs, ours) in (any_arcs(), any_arcs()),
        max_wants in any_max_wants(),
        first in arc_request(),
        acts in vec(any_act(), 0..100),
    ) {
        let mut first = first;
        // Most openings are as they should be, or nothing would come after them.
        let Body::List(page) = &mut first.body else { unreachable!() };
        let right = |open: &&mut Open| open.position.is_some_and(|at| at.count % 8 != 0);
        if let Some(open) = first.open.as_mut().filter(right) {
            open.stored_after = None;
            open.arcs = arcs.clone();
            page.keys.retain(|key| arcs.contains(key.location));
        }
        let arcs = first.open.as_ref().map_or(ArcSet::empty(), |open| open.arcs.clone());
        let cursor = page.through.and_then(AspectKey::next);
        let gives = first.open.as_ref().is_some_and(|open| open.flow.takes(Role::Alice));
        let terms = terms(ours, max_wants, 0, Limits::default());
        if let Ok(session) = Session::answer(Time::ZERO, terms, first, &store) {
            let mut bob = Watched::new(session, Role::Bob, arcs, store);
            (bob.cursor, bob.gives) = (cursor, gives);
            if acts.into_iter().all(|act| bob.act(act)) {
                bob.finish();
            }
        }
    }
}

#[test]
fn an_empty_body_is_never_a_panic() {
    for kind in Kind::ALL {
        let frame = Bytes::copy_from_slice(&[*kind as u8, 0, 0, 0, 0]);
        let _ = decode(frame);
    }
}
