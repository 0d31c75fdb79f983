//! The control stream: nothing about a space is told to who has not proven to know it, and both ends
//! agree at all times on which spaces they share.

mod model;

use std::{collections::BTreeSet, time::Duration};

use arcwise_proto::{
    NodeId, SpaceId, Time,
    limits::{MAX_SPACES, MAX_TEXT, MAX_WANTS, PAGE_KEYS},
    ring::{ArcSet, Location, RingArc},
    session::{
        Binding, Control, ControlOutput, Fault, LocalSpace, PeerSpace, replaces, shared_arcs,
    },
    wire::{ErrorCode, ErrorMessage, Handshake, Hello, Kind, Message, Ping, Pong, Query, Tag},
};
use model::ControlEnd;
use proptest::prelude::*;

const SECRET: [u8; 32] = [0x11; 32];

fn space(id: u8) -> SpaceId {
    SpaceId([id; 32])
}

fn local(id: u8, arcs: &ArcSet) -> LocalSpace {
    LocalSpace {
        id: space(id),
        number: u32::from(id) + 100,
        store: arcs.clone(),
        target: ArcSet::full(),
        query: arcs.clone(),
        count: 3,
        bytes: 300,
        full: false,
    }
}

fn spaces(ids: impl IntoIterator<Item = u8>) -> Vec<LocalSpace> {
    ids.into_iter().map(|id| local(id, &ArcSet::full())).collect()
}

/// The end that dialled.
fn alice(ids: impl IntoIterator<Item = u8>) -> ControlEnd {
    ControlEnd::new(SECRET, true, "alice/1", spaces(ids))
}

fn bob(ids: impl IntoIterator<Item = u8>) -> ControlEnd {
    ControlEnd::new(SECRET, false, "bob/1", spaces(ids))
}

/// Delivers until both are silent.
fn run(alice: &mut ControlEnd, bob: &mut ControlEnd) {
    while !(alice.outbox.is_empty() && bob.outbox.is_empty()) {
        while let Some(message) = alice.outbox.pop_front() {
            bob.receive(message).unwrap();
        }
        while let Some(message) = bob.outbox.pop_front() {
            alice.receive(message).unwrap();
        }
    }
}

fn kinds(end: &ControlEnd) -> Vec<Kind> {
    end.outbox.iter().map(Message::kind).collect()
}

fn hello_of(end: &ControlEnd) -> Hello {
    let hello = end.outbox.iter().find_map(|message| match message {
        Message::Hello(hello) => Some(hello.clone()),
        _ => None,
    });
    hello.expect("a Hello is in the outbox")
}

fn hello(tags: Vec<Tag>) -> Hello {
    Hello {
        version_min: 0,
        version_max: 0,
        capabilities: 0,
        max_wants: MAX_WANTS as u32,
        clock: Time::ZERO,
        agent: "mallory/1".to_owned(),
        tags,
        seen_at: Some(([192, 0, 2, 7], 4433).into()),
    }
}

fn handshake(tag: Tag) -> Handshake {
    Handshake {
        tag,
        space: 1,
        store: ArcSet::full(),
        target: ArcSet::full(),
        query: ArcSet::full(),
        count: 0,
        bytes: 0,
        full: false,
    }
}

/// The spaces an end believes to share, from what it has told its side.
fn shared(end: &mut ControlEnd) -> BTreeSet<SpaceId> {
    let mut shared = BTreeSet::new();
    for told in end.told.drain(..) {
        match told {
            ControlOutput::Shared(id, _) => drop(shared.insert(id)),
            ControlOutput::Left(id) => assert!(shared.remove(&id), "left what was never shared"),
            _ => {}
        }
    }
    shared
}

#[test]
fn only_what_both_are_in_is_shared() {
    let (mut alice, mut bob) = (alice([1, 2, 3]), bob([2, 3, 4]));
    run(&mut alice, &mut bob);
    let both = BTreeSet::from([space(2), space(3)]);
    let expect = PeerSpace {
        number: 102,
        store: ArcSet::full(),
        target: ArcSet::full(),
        query: ArcSet::full(),
        count: 3,
        bytes: 300,
        full: false,
    };
    for end in [&mut alice, &mut bob] {
        assert!(end.told.contains(&ControlOutput::Shared(space(2), expect.clone())));
        assert_eq!(shared(end), both);
    }
}

#[test]
fn a_handshake_waits_for_the_proof_of_the_other() {
    let (alice, mut bob) = (alice([1]), bob([1]));
    assert_eq!((kinds(&alice), kinds(&bob)), (vec![Kind::Hello], vec![Kind::Hello]));
    bob.receive(hello_of(&alice)).unwrap();
    assert_eq!(kinds(&bob), [Kind::Hello, Kind::Handshake], "his own proof goes before it");
}

#[test]
fn a_tag_sent_back_proves_nothing() {
    let mut alice = alice([1, 2]);
    let tags = hello_of(&alice).tags;
    alice.outbox.clear();
    alice.receive(hello(tags.clone())).unwrap();
    assert!(alice.outbox.is_empty());
    for tag in tags {
        alice.receive(handshake(tag)).unwrap();
    }
    assert!(alice.outbox.is_empty() && shared(&mut alice).is_empty());
}

#[test]
fn a_tag_of_another_connection_proves_nothing() {
    // Bob's tags from a connection with Alice, replayed on the next one.
    let tags = hello_of(&bob([1])).tags;
    let mut alice = ControlEnd::new([0x22; 32], true, "alice/1", spaces([1]));
    alice.outbox.clear();
    alice.receive(hello(tags.clone())).unwrap();
    for tag in tags {
        alice.receive(handshake(tag)).unwrap();
    }
    assert!(alice.outbox.is_empty() && shared(&mut alice).is_empty());
}

#[test]
fn a_handshake_without_proof_is_a_fault() {
    let tag = Binding::new(SECRET, false).our_tag(&space(1));
    let mut alice = alice([1]);
    let early = Fault::Unexpected { kind: Kind::Handshake, when: "before a Hello" };
    assert_eq!(alice.receive(handshake(tag)), Err(early));
    alice.receive(hello(vec![[9; 16]])).unwrap();
    assert_eq!(alice.receive(handshake(tag)), Err(Fault::Unproven));
    assert!(shared(&mut alice).is_empty());
}

#[test]
fn a_hello_comes_first() {
    for message in [
        Message::from(Ping { nonce: 1, digests: vec![] }),
        Pong { nonce: 1, differing: vec![] }.into(),
        handshake([0; 16]).into(),
    ] {
        let kind = message.kind();
        let fault = Fault::Unexpected { kind, when: "before a Hello" };
        assert_eq!(alice([1]).receive(message), Err(fault));
    }
}

#[test]
fn messages_of_other_streams_are_a_fault() {
    let (mut alice, mut bob) = (alice([1]), bob([1]));
    run(&mut alice, &mut bob);
    let query = Query { space: 101, entry: arcwise_proto::EntryAddress([0; 32]) };
    let fault = Fault::Unexpected { kind: Kind::Query, when: "on the control stream" };
    assert_eq!(alice.receive(query), Err(fault));
}

#[test]
fn versions_that_do_not_meet() {
    let (mut alice, mut bob) = (alice([1]), bob([1]));
    let newer = Hello { version_min: 1, version_max: 7, ..hello_of(&alice) };
    let fault = bob.receive(newer).unwrap_err();
    assert_eq!(fault, Fault::Version { min: 1, max: 7 });
    assert!(bob.told.is_empty() && kinds(&bob) == [Kind::Hello]);
    // The other is told, and it is nobody's breach of a rule.
    let told = fault.message();
    assert_eq!(told.code, ErrorCode::Version);
    alice.receive(told.clone()).unwrap();
    assert_eq!(alice.told.pop_front(), Some(ControlOutput::Ended(told)));

    let wide = Hello { version_min: 0, version_max: u32::MAX, ..hello(vec![]) };
    assert_eq!(bob.receive(wide), Ok(()));
}

#[test]
fn the_end_may_be_told_at_any_time() {
    let error = ErrorMessage::new(ErrorCode::Shutdown, "going away");
    let mut alice = alice([1]);
    for _ in 0..2 {
        alice.receive(error.clone()).unwrap();
        assert_eq!(alice.told.pop_back(), Some(ControlOutput::Ended(error.clone())));
        alice.receive(hello(vec![])).unwrap();
    }
}

#[test]
fn a_hello_introduces_the_software_once() {
    let mut alice = alice([]);
    let greeting = Hello { clock: Time::from_micros(5), max_wants: 2048, ..hello(vec![]) };
    alice.receive(greeting.clone()).unwrap();
    let met = |max_wants, clock_ahead| ControlOutput::Met {
        agent: "mallory/1".to_owned(),
        max_wants,
        clock_ahead,
        seen_at: Some(([192, 0, 2, 7], 4433).into()),
    };
    assert_eq!(alice.told.pop_front(), Some(met(2048, 5)));
    alice.receive(greeting).unwrap();
    assert_eq!(alice.told.pop_front(), None);

    // Whatever a peer allows, we ask for no more than we would answer ourselves.
    let binding = Binding::new(SECRET, true);
    let there = Some(([192, 0, 2, 8], 1).into());
    let mut control = Control::new(Time::from_micros(9), binding, "", [0; 32], there, vec![]);
    let Some(ControlOutput::Send(Message::Hello(ours))) = control.poll_output() else { panic!() };
    assert_eq!(ours.seen_at, there);
    let greeting = Hello { max_wants: u32::MAX, ..hello(vec![]) };
    control.handle(Time::from_micros(9), greeting.into()).unwrap();
    let told = std::iter::from_fn(|| control.poll_output()).last();
    assert_eq!(told, Some(met(MAX_WANTS, -9)));
    const { assert!(MAX_WANTS >= PAGE_KEYS) };
}

#[test]
fn padding_hides_how_many_spaces_there_are() {
    let tags = |n: u8| hello_of(&alice(0..n)).tags;
    for n in 0..=8 {
        assert_eq!(tags(n).len(), 8, "{n} spaces");
    }
    assert_eq!((tags(9).len(), tags(16).len(), tags(17).len()), (16, 16, 24));
    // All different, and in an order that does not depend on which are real.
    for n in [0, 3, 9] {
        assert!(tags(n).is_sorted_by(|a, b| a < b));
    }
    // Padding proves nothing: not even to a peer with the same padding seed.
    let (mut alice, mut bob) = (alice([]), bob([1]));
    run(&mut alice, &mut bob);
    assert!(shared(&mut alice).is_empty() && shared(&mut bob).is_empty());
}

#[test]
fn very_many_spaces_fill_one_hello() {
    let many = |n: u32| -> Vec<LocalSpace> {
        let id = |i: u32| SpaceId(std::array::from_fn(|at| i.to_le_bytes()[at % 4]));
        (0..n).map(|i| LocalSpace { id: id(i), ..local(1, &ArcSet::full()) }).collect()
    };
    for n in [MAX_SPACES as u32, MAX_SPACES as u32 + 10] {
        let mut end = ControlEnd::new(SECRET, true, "", many(n));
        assert_eq!(hello_of(&end).tags.len(), MAX_SPACES);
        end.outbox.clear();
        end.set_spaces(many(n + 10));
        assert!(end.outbox.iter().all(|hello| hello.items() == MAX_SPACES));
    }
}

#[test]
fn a_long_name_is_cut() {
    let end = |agent: &str| hello_of(&ControlEnd::new(SECRET, true, agent, vec![])).agent;
    assert_eq!(end(&"ä".repeat(MAX_TEXT)), "ä".repeat(MAX_TEXT / 2));
    assert_eq!(end(&format!("x{}", "ä".repeat(MAX_TEXT))).len(), MAX_TEXT - 1);
}

#[test]
fn spaces_come_and_go() {
    let (mut alice, mut bob) = (alice([1]), bob([1, 2]));
    run(&mut alice, &mut bob);
    assert_eq!(shared(&mut alice), BTreeSet::from([space(1)]));

    alice.set_spaces(spaces([1, 2]));
    assert_eq!(kinds(&alice), [Kind::Hello, Kind::Handshake], "his proof is here already");
    run(&mut alice, &mut bob);
    assert_eq!(shared(&mut alice), BTreeSet::from([space(2)]));

    alice.set_spaces(spaces([2]));
    assert_eq!(alice.told, [ControlOutput::Left(space(1))]);
    bob.told.clear();
    run(&mut alice, &mut bob);
    assert_eq!(bob.told, [ControlOutput::Left(space(1))]);
    assert!(bob.outbox.is_empty());
}

#[test]
fn a_handshake_may_cross_a_leaving() {
    let (mut alice, mut bob) = (alice([1]), bob([1]));
    run(&mut alice, &mut bob);
    bob.set_spaces(vec![local(1, &ArcSet::empty())]);
    alice.set_spaces(vec![]);
    alice.told.clear();
    alice.receive(bob.outbox.pop_front().unwrap()).unwrap();
    assert!(alice.told.is_empty());
    // Coming back brings it again.
    alice.set_spaces(spaces([1]));
    run(&mut alice, &mut bob);
    let Some(ControlOutput::Shared(_, peer)) = alice.told.pop_back() else { panic!() };
    assert_eq!(peer.store, ArcSet::empty());
}

#[test]
fn changes_are_told_and_nothing_else_is() {
    let (mut alice, mut bob) = (alice([1]), bob([1]));
    run(&mut alice, &mut bob);
    alice.set_spaces(spaces([1]));
    assert!(alice.outbox.is_empty(), "nothing has changed");
    let half: ArcSet = RingArc::between(Location(0), Location(i32::MAX as u32)).into();
    let ours = LocalSpace { target: half.clone(), ..local(1, &half) };
    alice.set_spaces(vec![ours]);
    assert_eq!(kinds(&alice), [Kind::Handshake]);
    run(&mut alice, &mut bob);
    let Some(ControlOutput::Shared(_, peer)) = bob.told.pop_back() else { panic!() };
    assert_eq!((&peer.store, &peer.query), (&half, &half));
    assert_eq!(shared_arcs(&local(1, &ArcSet::empty()), &peer), half);
}

#[test]
fn a_ping_is_answered_with_its_nonce() {
    let (mut alice, mut bob) = (alice([]), bob([]));
    run(&mut alice, &mut bob);
    // Of a space that is not shared nothing is told.
    alice.ping(u64::MAX, &[]);
    run(&mut alice, &mut bob);
    let asked = ControlOutput::Compare { nonce: [0xff; 8], digests: vec![] };
    assert_eq!(bob.told.pop_back(), Some(asked));
    bob.pong([0xff; 8], &[]);
    run(&mut alice, &mut bob);
    let told = ControlOutput::Pong { nonce: [0xff; 8], differing: vec![] };
    assert_eq!(alice.told.pop_back(), Some(told));
}

proptest! {
    /// However the two enter and leave and whatever crosses on the way, in the end both share just
    /// what both are in, and neither has ever told of anything else.
    #[test]
    fn both_agree_in_the_end(
        steps in proptest::collection::vec((0..4u8, proptest::collection::btree_set(0..5u8, 0..5)), 0..30),
    ) {
        let (mut alice, mut bob) = (alice([]), bob([]));
        let (mut a, mut b) = (BTreeSet::new(), BTreeSet::new());
        for (step, ids) in steps {
            match step {
                0 => {
                    alice.set_spaces(spaces(ids.iter().copied()));
                    a = ids;
                }
                1 => {
                    bob.set_spaces(spaces(ids.iter().copied()));
                    b = ids;
                }
                2 => if let Some(message) = alice.outbox.pop_front() { bob.receive(message).unwrap() },
                _ => if let Some(message) = bob.outbox.pop_front() { alice.receive(message).unwrap() },
            }
        }
        run(&mut alice, &mut bob);
        let both: BTreeSet<SpaceId> = a.intersection(&b).map(|id| space(*id)).collect();
        prop_assert_eq!(shared(&mut alice), both.clone());
        prop_assert_eq!(shared(&mut bob), both);
    }
}

#[test]
fn of_two_connections_both_keep_the_same() {
    let (low, high) = (NodeId([1; 32]), NodeId([2; 32]));
    let (soon, late) = (Duration::from_millis(2_999), Duration::from_secs(3));
    for low_dialed_old in [false, true] {
        for low_dialed_new in [false, true] {
            for age in [soon, late] {
                let low_keeps = replaces(&low, &high, low_dialed_old, age, low_dialed_new);
                let high_keeps = replaces(&high, &low, !low_dialed_old, age, !low_dialed_new);
                assert_eq!(low_keeps, high_keeps);
                let crossed = low_dialed_old != low_dialed_new && age == soon;
                assert_eq!(low_keeps, !crossed || low_dialed_new, "{low_dialed_old} {age:?}");
            }
        }
    }
}
