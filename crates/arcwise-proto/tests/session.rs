//! Sessions between two stores: whatever the sets, the arcs and the order of events, both ends hold
//! the union inside the overlap afterwards, and nothing else.

mod model;

use std::collections::{BTreeSet, VecDeque};

use arcwise_proto::{
    AspectKey,
    limits::{LIST_WINDOW, MAX_AUDIT, MAX_WANTS, PAGE_KEYS},
    reconcile::exchange::{self, Packet},
    ring::{ArcSet, Location, RingArc},
    session::{Constraints, Fault, Flow, Input, Role, Session, SessionError},
    swarm::audit_keys,
    wire::{
        ArcRequest, ArcResponse, AspectDataRequest, AspectDataResponse, Body, Listed, Message, Page,
    },
};
use model::{End, Memory, Wire, numbered};
use proptest::prelude::*;

/// Runs to the end; `choices` picks what happens next where several things can.
fn run(alice: &mut End, bob: &mut End, choices: &mut impl FnMut(usize) -> usize) {
    loop {
        type Step = fn(&mut End, &mut End) -> Result<(), SessionError<std::convert::Infallible>>;
        let mut steps: Vec<(Step, bool)> = Vec::new();
        for (me, other, swap) in [(&*alice, &*bob, false), (&*bob, &*alice, true)] {
            if !me.storing.is_empty() {
                steps.push((|me, _| me.store().unwrap(), swap));
            }
            if !me.answering.is_empty() {
                steps.push((|me, _| me.reply().unwrap(), swap));
            }
            if !other.outbox.is_empty() {
                steps.push((|me, other| me.receive(other.outbox.pop_front().unwrap()), swap));
            }
        }
        if steps.is_empty() {
            return;
        }
        let (step, swap) = steps[choices(steps.len())];
        let outcome = if swap { step(bob, alice) } else { step(alice, bob) };
        outcome.unwrap();
        for end in [&*alice, &*bob] {
            let queued: usize = end.answering.iter().map(Vec::len).sum();
            let most = if end.peer_count > 0 { 4 * PAGE_KEYS } else { MAX_WANTS };
            assert!(queued <= most, "{queued} keys to answer");
        }
    }
}

fn in_order(_: usize) -> usize {
    0
}

fn lists() -> Constraints {
    Constraints { lists: true, ..Constraints::default() }
}

fn held(end: &End) -> BTreeSet<AspectKey> {
    end.store.rows.keys().copied().collect()
}

fn inside(keys: &BTreeSet<AspectKey>, arcs: &ArcSet) -> BTreeSet<AspectKey> {
    keys.iter().filter(|key| arcs.contains(key.location)).copied().collect()
}

/// Sets that share much, little or nothing, scattered over the ring or in one hot entry.
fn any_numbers() -> impl Strategy<Value = (Vec<u64>, Vec<u64>)> {
    let number = prop_oneof![
        any::<u32>().prop_map(u64::from),
        0..20u64,
        (0..200u64).prop_map(|n| n << 32 | 77),
    ];
    let some = || proptest::collection::vec(number.clone(), 0..60);
    (some(), some(), some(), 0..3usize).prop_map(|(common, mut a, mut b, sides)| {
        a.extend(&common);
        b.extend(&common);
        match sides {
            0 => (a, Vec::new()),
            1 => (Vec::new(), b),
            _ => (a, b),
        }
    })
}

fn any_arcs() -> impl Strategy<Value = ArcSet> {
    let arc =
        (any::<u32>(), any::<u32>()).prop_map(|(a, b)| RingArc::between(Location(a), Location(b)));
    prop_oneof![
        Just(ArcSet::full()),
        Just(ArcSet::empty()),
        proptest::collection::vec(arc, 1..4).prop_map(|arcs| arcs.into_iter().collect()),
    ]
}

proptest! {
    #[test]
    fn both_hold_the_union_of_the_overlap(
        (a, b) in any_numbers(),
        (alice_arcs, bob_arcs) in (any_arcs(), any_arcs()),
        packets in any::<bool>(),
        flow in proptest::sample::select(vec![Flow::Both, Flow::ToAlice, Flow::ToBob]),
        order in proptest::collection::vec(any::<u8>(), 1..50),
    ) {
        let overlap = alice_arcs.intersect(&bob_arcs);
        let mut alice = End::new(Memory::new(1, a.into_iter().map(numbered)), alice_arcs);
        let mut bob = End::new(Memory::new(2, b.into_iter().map(numbered)), bob_arcs);
        let (before_a, before_b) = (held(&alice), held(&bob));
        // By lists, or as if the sets were large.
        alice.peer_count = if packets { u64::MAX } else { 0 };
        alice.flow = flow;
        alice.open(overlap.clone(), Constraints::default());
        let mut turn = 0;
        run(&mut alice, &mut bob, &mut |n| { turn += 1; order[turn % order.len()] as usize % n });

        let takes = |role, theirs| match flow.takes(role) {
            true => inside(theirs, &overlap),
            false => BTreeSet::new(),
        };
        let expect_a = &before_a | &takes(Role::Alice, &before_b);
        let expect_b = &before_b | &takes(Role::Bob, &before_a);
        prop_assert_eq!(held(&alice), expect_a.clone());
        prop_assert_eq!(held(&bob), expect_b.clone());
        let (ra, rb) = (alice.report.unwrap(), bob.report.unwrap());
        prop_assert!(ra.in_sync() && rb.in_sync());
        prop_assert_eq!((ra.took(), rb.took()), (flow.takes(Role::Alice), flow.takes(Role::Bob)));
        prop_assert!(flow == Flow::Both || (ra.positions.is_none() && rb.positions.is_none()));
        prop_assert_eq!((ra.comparison.is_some(), rb.comparison.is_some()), (packets, packets));
        prop_assert_eq!(ra.fetched, (expect_a.len() - before_a.len()) as u64);
        prop_assert_eq!(rb.fetched, (expect_b.len() - before_b.len()) as u64);
        prop_assert_eq!((ra.sent, ra.sent_bytes), (rb.fetched, rb.fetched_bytes));
        prop_assert_eq!((rb.sent, rb.sent_bytes), (ra.fetched, ra.fetched_bytes));
        prop_assert_eq!((ra.listed, rb.listed), (rb.heard, ra.heard));
    }

    #[test]
    fn time_constraints_hold((a, b) in any_numbers(), since in 0..40u64) {
        let since = arcwise_proto::Time::from_micros(since);
        let mut alice = End::new(Memory::new(1, a.into_iter().map(numbered)), ArcSet::full());
        let mut bob = End::new(Memory::new(2, b.into_iter().map(numbered)), ArcSet::full());
        let recent = |end: &End| -> BTreeSet<AspectKey> {
            let rows = end.store.rows.iter();
            rows.filter(|(_, (_, aspect))| aspect.published() >= since).map(|(k, _)| *k).collect()
        };
        let (all_a, all_b) = (held(&alice), held(&bob));
        let (recent_a, recent_b) = (recent(&alice), recent(&bob));
        alice.open(ArcSet::full(), Constraints { published_since: Some(since), ..Constraints::default() });
        run(&mut alice, &mut bob, &mut in_order);
        prop_assert_eq!(held(&alice), &all_a | &recent_b);
        prop_assert_eq!(held(&bob), &all_b | &recent_a);
        prop_assert_eq!(alice.report.unwrap().positions, None);
    }

    #[test]
    fn after_a_session_only_news_is_listed((a, b) in any_numbers(), (c, d) in any_numbers()) {
        let mut alice = End::new(Memory::new(1, a.into_iter().map(numbered)), ArcSet::full());
        let mut bob = End::new(Memory::new(2, b.into_iter().map(numbered)), ArcSet::full());
        alice.open(ArcSet::full(), Constraints::default());
        run(&mut alice, &mut bob, &mut in_order);
        let after = alice.report.take().unwrap().positions;
        let bobs = bob.report.take().unwrap().positions;
        prop_assert_eq!(after.map(|(ours, theirs)| (theirs, ours)), bobs);

        c.into_iter().map(numbered).for_each(|aspect| alice.store.insert(aspect));
        d.into_iter().map(numbered).for_each(|aspect| bob.store.insert(aspect));
        // Either may open the next one.
        (alice.session, bob.session) = (None, None);
        bob.open(ArcSet::full(), Constraints { after: bobs, lists: true, ..Constraints::default() });
        run(&mut alice, &mut bob, &mut in_order);
        prop_assert_eq!(held(&alice), held(&bob));
        prop_assert!(bob.report.unwrap().constrained);
    }
}

#[test]
fn a_session_after_nothing_new_lists_nothing() {
    let all = |epoch| Memory::new(epoch, (0..3000).map(numbered));
    let mut alice = End::new(all(1), ArcSet::full());
    let mut bob = End::new(all(2), ArcSet::full());
    alice.open(ArcSet::full(), lists());
    run(&mut alice, &mut bob, &mut in_order);
    let report = alice.report.take().unwrap();
    assert_eq!((report.listed, report.heard), (3000, 0));
    let after = report.positions;
    (alice.session, bob.session) = (None, None);
    alice.open(ArcSet::full(), Constraints { after, lists: true, ..Constraints::default() });
    run(&mut alice, &mut bob, &mut in_order);
    let report = alice.report.take().unwrap();
    assert_eq!((report.listed, report.heard, report.in_sync()), (0, 0, true));

    // A store that was restored or made anew does not know the position, and says so.
    bob.store.epoch = 3;
    (alice.session, bob.session) = (None, None);
    alice.open(ArcSet::full(), Constraints { after, lists: true, ..Constraints::default() });
    let opening = alice.outbox.pop_front().unwrap();
    assert!(matches!(bob.receive(opening), Err(SessionError::UnknownPosition)));
    // Where it is Alice who does not know it, she lists everything, and so does Bob.
    alice.store.epoch = 4;
    (alice.session, bob.session) = (None, None);
    alice.open(ArcSet::full(), Constraints { after, lists: true, ..Constraints::default() });
    run(&mut alice, &mut bob, &mut in_order);
    let report = alice.report.take().unwrap();
    assert_eq!((report.listed, report.constrained), (3000, false));
    assert!(!bob.report.take().unwrap().constrained);
}

#[test]
fn large_sets_move_in_bounded_pieces() {
    let many = (MAX_WANTS + 5 * PAGE_KEYS) as u64;
    for (a, b) in [(0..many, 0..0), (0..0, 0..many), (0..many, many / 2..many * 2)] {
        let mut alice = End::new(Memory::new(1, a.map(numbered)), ArcSet::full());
        let mut bob = End::new(Memory::new(2, b.map(numbered)), ArcSet::full());
        (alice.max_wants, bob.max_wants) = (PAGE_KEYS, MAX_WANTS);
        alice.open(ArcSet::full(), lists());
        run(&mut alice, &mut bob, &mut in_order);
        assert_eq!(held(&alice), held(&bob));
        assert!(alice.report.unwrap().in_sync());
    }
}

/// The same with packets: what is handed to the one who answers is bounded too.
#[test]
fn large_differences_move_in_bounded_pieces() {
    let many = 20 * PAGE_KEYS as u64;
    for (a, b) in [(0..many, 0..0), (0..0, 0..many), (0..many, many / 2..many * 2)] {
        let mut alice = End::new(Memory::new(1, a.map(numbered)), ArcSet::full());
        let mut bob = End::new(Memory::new(2, b.map(numbered)), ArcSet::full());
        alice.peer_count = bob.store.count;
        alice.open(ArcSet::full(), Constraints::default());
        run(&mut alice, &mut bob, &mut |n| {
            // What is received goes before what is answered, so that much could pile up.
            n - 1
        });
        assert_eq!(held(&alice), held(&bob));
        let report = alice.report.unwrap();
        assert!(report.in_sync() && report.comparison.is_some());
    }
}

#[test]
fn a_comparison_has_its_rules_too() {
    let opened = || {
        let mut alice = End::new(Memory::new(1, (0..200).map(numbered)), ArcSet::full());
        alice.open(ArcSet::full(), Constraints::default());
        alice
    };
    let response = |packet| ArcResponse { body: Body::Packet(packet) };
    let request = |packet| ArcRequest { open: None, body: Body::Packet(packet) };
    let data = |n| AspectDataResponse { aspects: vec![numbered(n)], gone: vec![] };

    // Packets of the wrong end, in the wrong message, at the wrong time.
    for message in [
        Message::from(request(Packet::Same)),
        request(Packet::Close).into(),
        response(Packet::Want(vec![])).into(),
        response(Packet::Close).into(),
        AspectDataRequest { body: Body::Packet(Packet::Want(vec![])) }.into(),
        AspectDataRequest { body: Body::Packet(Packet::Same) }.into(),
    ] {
        let fault = received(&mut opened(), message);
        let expected = [
            matches!(fault, Fault::Unexpected { .. }),
            fault == Fault::Comparison(exchange::Fault::Unexpected),
        ];
        assert!(expected.contains(&true), "{fault:?}");
    }
    // Lists, where packets were begun with.
    let list = Listed { keys: vec![], last: false, position: None };
    assert!(matches!(received(&mut opened(), list), Fault::Unexpected { .. }));
    let keys = AspectDataRequest::keys(vec![]);
    assert!(matches!(received(&mut opened(), keys), Fault::Unexpected { .. }));

    // Aspects before it is known what differs, and more of them than differ.
    let early = received(&mut opened(), data(300));
    assert_eq!(early, Fault::NotWanted(numbered(300).hash()));
    let mut alice = opened();
    alice.input(Input::Received(response(Packet::Same).into())).unwrap();
    assert_eq!(received(&mut alice, data(300)), Fault::TooMany);
    assert_eq!(fault(opened().input(Input::ReceivedEnd)), Fault::EndedEarly);

    // One that Alice pays too much for.
    let mut alice = End::new(Memory::new(1, (0..5000).map(numbered)), ArcSet::full());
    alice.limits.work = 1000;
    let mut bob = End::new(Memory::new(2, (2000..7000).map(numbered)), ArcSet::full());
    alice.open(ArcSet::full(), Constraints::default());
    bob.receive(alice.outbox.pop_front().unwrap()).unwrap();
    let outcome = alice.receive(bob.outbox.pop_front().unwrap());
    assert!(matches!(outcome, Err(SessionError::TooCostly)));

    // Arcs that Bob does not take.
    let half: ArcSet = RingArc::between(Location(0), Location(4)).into();
    let mut bob = End::new(Memory::default(), half);
    let outcome = bob.receive(opened().outbox.pop_front().unwrap());
    assert!(matches!(outcome, Err(SessionError::OtherArcs)));
}

#[test]
fn what_arrived_meanwhile_is_not_asked_for() {
    let mut alice = End::new(Memory::default(), ArcSet::full());
    let mut bob = End::new(Memory::new(2, (0..10).map(numbered)), ArcSet::full());
    alice.open(ArcSet::full(), Constraints::default());
    bob.receive(alice.outbox.pop_front().unwrap()).unwrap();
    // Another peer delivers some before Bob's list is here.
    (0..4).map(numbered).for_each(|aspect| alice.store.insert(aspect));
    run(&mut alice, &mut bob, &mut in_order);
    assert_eq!(alice.report.unwrap().fetched, 6);
}

#[test]
fn what_was_removed_meanwhile_is_reported_gone() {
    let mut alice = End::new(Memory::default(), ArcSet::full());
    let mut bob = End::new(Memory::new(2, (0..10).map(numbered)), ArcSet::full());
    alice.open(ArcSet::full(), Constraints::default());
    bob.receive(alice.outbox.pop_front().unwrap()).unwrap();
    bob.store.rows.remove(&numbered(3).key());
    run(&mut alice, &mut bob, &mut in_order);
    let report = alice.report.unwrap();
    assert_eq!((report.fetched, report.gone, report.in_sync()), (9, 1, false));
    assert_eq!(report.positions, None, "the next session must compare everything again");
}

/// Alice with an open session and ten aspects; her opening is in the outbox.
fn alice_with_ten() -> End {
    let mut alice = End::new(Memory::new(1, (0..10).map(numbered)), ArcSet::full());
    alice.open(ArcSet::full(), Constraints::default());
    alice
}

/// Bob after Alice has listed five of his ten aspects and two that he lacks.
fn bob_with_ten() -> End {
    let mut alice = End::new(Memory::new(1, (5..12).map(numbered)), ArcSet::full());
    let mut bob = End::new(Memory::new(2, (0..10).map(numbered)), ArcSet::full());
    alice.open(ArcSet::full(), Constraints::default());
    bob.receive(alice.outbox.pop_front().unwrap()).unwrap();
    bob
}

fn fault(outcome: Result<(), SessionError<std::convert::Infallible>>) -> Fault {
    match outcome {
        Err(SessionError::Peer(fault)) => fault,
        other => panic!("expected a fault of the peer, got {other:?}"),
    }
}

fn received(end: &mut End, message: impl Into<Message>) -> Fault {
    fault(end.input(Input::Received(message.into())))
}

#[test]
fn the_peer_is_blamed_for_what_it_breaks() {
    let key = |n| numbered(n).key();
    let keys = |n: std::ops::Range<u64>| {
        let mut keys: Vec<_> = n.map(key).collect();
        keys.sort();
        keys
    };

    // Wanting what was not listed, or before anything was.
    let wants = AspectDataRequest::keys(keys(10..11));
    assert_eq!(received(&mut alice_with_ten(), wants.clone()), Fault::NotListed(key(10).hash));
    let mut alice = alice_with_ten();
    alice.input(Input::Received(AspectDataRequest::keys(vec![]).into())).unwrap();
    assert_eq!(received(&mut alice, wants), Fault::Window("answers"));

    // Aspects that were not wanted: not listed, wrong ones, or twice.
    let data = |n: u64| AspectDataResponse { aspects: vec![numbered(n)], gone: vec![] };
    assert_eq!(received(&mut alice_with_ten(), data(20)), Fault::NotWanted(key(20).hash));
    let mut bob = bob_with_ten();
    bob.input(Input::Received(data(10).into())).unwrap();
    assert_eq!(received(&mut bob, data(10)), Fault::NotWanted(key(10).hash));
    let gone = AspectDataResponse { aspects: vec![], gone: keys(3..4) };
    assert_eq!(received(&mut bob_with_ten(), gone), Fault::NotWanted(key(3).hash));

    // Ending too early.
    assert_eq!(fault(alice_with_ten().input(Input::ReceivedEnd)), Fault::EndedEarly);
    assert_eq!(fault(bob_with_ten().input(Input::ReceivedEnd)), Fault::EndedEarly);

    // Lists after the last one, twice opened, from the wrong end.
    let page = || ArcRequest { open: None, body: Body::List(Page { keys: vec![], through: None }) };
    assert!(matches!(received(&mut bob_with_ten(), page()), Fault::Unexpected { .. }));
    assert!(matches!(received(&mut alice_with_ten(), page()), Fault::Unexpected { .. }));
    let response = || Listed { keys: vec![], last: false, position: None };
    assert!(matches!(received(&mut bob_with_ten(), response()), Fault::Unexpected { .. }));

    // A first message without an opening.
    let mut bob = End::new(Memory::default(), ArcSet::full());
    let request = Wire::Message(page().into());
    assert!(matches!(fault(bob.receive(request)), Fault::Unexpected { .. }));

    // Locations outside.
    let half: ArcSet = RingArc::between(Location(0), Location(4)).into();
    let mut alice = End::new(Memory::default(), half.clone());
    alice.open(half, Constraints::default());
    let outside = Listed { keys: keys(5..6), last: false, position: None };
    assert_eq!(received(&mut alice, outside), Fault::OutsideArcs(Location(5)));
}

#[test]
fn pages_must_follow_each_other() {
    let all = (0..3 * PAGE_KEYS as u64).map(numbered);
    let mut alice = End::new(Memory::new(1, all), ArcSet::full());
    alice.open(ArcSet::full(), lists());
    let mut bob = End::new(Memory::default(), ArcSet::full());
    let first = alice.outbox.pop_front().unwrap();
    let Wire::Message(Message::ArcRequest(request)) = &first else { panic!() };
    let mut again = request.clone();
    again.open = None;
    bob.receive(first).unwrap();
    assert!(matches!(received(&mut bob, again), Fault::PageOrder(_)));
}

#[test]
fn too_many_open_lists_are_a_fault() {
    let mut alice = End::new(Memory::default(), ArcSet::full());
    alice.max_wants = PAGE_KEYS;
    alice.open(ArcSet::full(), Constraints::default());
    let mut keys = (0..u64::MAX).map(|n| vec![numbered(n).key()]);
    // The first is answered at once; then wants are full as long as nothing comes.
    let full: Vec<_> = (0..PAGE_KEYS as u64).map(|n| numbered(1 << 20 | n).key()).collect();
    alice
        .input(Input::Received(Listed { keys: full, last: false, position: None }.into()))
        .unwrap();
    for _ in 0..LIST_WINDOW {
        let response = Listed { keys: keys.next().unwrap(), last: false, position: None };
        alice.input(Input::Received(response.into())).unwrap();
    }
    let response = Listed { keys: keys.next().unwrap(), last: false, position: None };
    assert_eq!(received(&mut alice, response), Fault::Window("lists"));
}

#[test]
fn a_forged_signature_costs_that_aspect_only() {
    use arcwise_proto::{Aspect, AuthorKey, EntryAddress, SpaceId, Time};
    let key = AuthorKey::from_bytes(&[1; 32]);
    let elsewhere = SpaceId([9; 32]);
    let entry = EntryAddress([1; 32]);
    let forged = Aspect::signed(&key, &elsewhere, entry, 0, Time::ZERO, b"replayed").unwrap();
    let good = Aspect::signed(&key, &model::SPACE, entry, 0, Time::ZERO, b"good").unwrap();
    let mut alice = End::new(Memory::default(), ArcSet::full());
    let mut bob = End::new(Memory::new(2, [forged, good.clone()]), ArcSet::full());
    alice.open(ArcSet::full(), Constraints::default());
    run(&mut alice, &mut bob, &mut in_order);
    assert_eq!(held(&alice), BTreeSet::from([good.key()]));
    let report = alice.report.unwrap();
    assert_eq!((report.rejected, report.in_sync()), (1, false));
}

#[test]
fn silence_is_timed_out() {
    let mut alice = alice_with_ten();
    let deadline = alice.session.as_ref().map(Session::deadline).unwrap();
    alice.input(Input::Timeout).unwrap();
    let session = alice.session.as_mut().unwrap();
    // A part of a message is a sign of life.
    session.handle(deadline, Input::Moved, &alice.store).unwrap();
    session.handle(deadline, Input::Timeout, &alice.store).unwrap();
    let deadline = session.deadline();
    assert!(matches!(
        session.handle(deadline, Input::Timeout, &alice.store),
        Err(SessionError::Peer(Fault::Idle))
    ));
}

#[test]
fn an_overlap_of_very_many_pieces_is_cut_for_both() {
    // 100 pieces of growing length, two locations apart; the wire carries the 64 longest.
    let pieces = (1..=100u32).scan(0, |at, len| {
        let first = *at;
        *at += len + 2;
        Some(RingArc::between(Location(first), Location(first + len - 1)))
    });
    let arcs: ArcSet = pieces.collect();
    let starts = || arcs.arcs().into_iter().map(|arc| u64::from(arc.start().0));
    let mut alice = End::new(Memory::new(1, starts().map(numbered)), arcs.clone());
    let mut bob = End::new(Memory::default(), arcs.clone());
    alice.open(arcs.clone(), Constraints::default());
    run(&mut alice, &mut bob, &mut in_order);
    let longest: ArcSet = arcs.arcs().into_iter().filter(|arc| arc.len() > 36).collect();
    assert_eq!(held(&bob), inside(&held(&alice), &longest));
    let (ra, rb) = (alice.report.unwrap(), bob.report.unwrap());
    assert_eq!((ra.arcs, rb.arcs), (longest.clone(), longest), "no more than that was compared");
}

#[test]
fn a_bob_who_takes_less_vouches_for_nothing() {
    // His arcs have shrunk, and Alice's word of it is still on the way.
    let half: ArcSet = RingArc::between(Location(0), Location(9)).into();
    let mut alice = End::new(Memory::new(1, (0..20).map(numbered)), ArcSet::full());
    let mut bob = End::new(Memory::new(2, (5..7).map(numbered)), half.clone());
    alice.open(ArcSet::full(), Constraints::default());
    run(&mut alice, &mut bob, &mut in_order);
    assert_eq!(held(&bob), inside(&held(&alice), &half));
    assert_eq!(alice.report.unwrap().positions, None, "Bob lacks what she holds above");
    let bobs = bob.report.unwrap();
    assert_eq!((bobs.arcs, bobs.positions.is_some()), (half, true));
}

#[test]
fn an_honest_peer_may_ask_before_we_have_counted_what_is_answered() {
    let pages = (MAX_WANTS / PAGE_KEYS + LIST_WINDOW) as u64;
    let all = (0..pages * PAGE_KEYS as u64).map(numbered);
    let mut alice = End::new(Memory::default(), ArcSet::full());
    let mut bob = End::new(Memory::new(2, all), ArcSet::full());
    alice.open(ArcSet::full(), Constraints::default());
    let mut sent: VecDeque<usize> = VecDeque::new();
    while alice.report.is_none() {
        while let Some(wire) = alice.outbox.pop_front() {
            bob.receive(wire).unwrap();
        }
        while let Some(wire) = bob.outbox.pop_front() {
            alice.receive(wire).unwrap();
        }
        while let Some(outcome) = alice.store() {
            outcome.unwrap();
        }
        // Alice has all of the last answers and wants more; Bob's driver has not said yet that they
        // are sent.
        if alice.outbox.is_empty() && bob.answering.is_empty() {
            while let Some(keys) = sent.pop_front() {
                bob.input(Input::Answered { keys, aspects: keys, bytes: 0 }).unwrap();
            }
        }
        for keys in std::mem::take(&mut bob.answering) {
            sent.push_back(keys.len());
            for aspect in keys.iter().map(|key| bob.store.rows[key].1.clone()) {
                let answer = AspectDataResponse { aspects: vec![aspect], gone: vec![] };
                bob.outbox.push_back(Wire::Message(answer.into()));
            }
        }
    }
    assert_eq!(held(&alice), held(&bob));
}

/// `n` keys, the least and the greatest there are among them, under one aspect: good for lists alone.
fn from_end_to_end(n: usize) -> Memory {
    let between =
        (1..n as u32 - 1).map(|at| AspectKey { location: Location(at), ..AspectKey::MIN });
    let keys = between.chain([AspectKey::MIN, AspectKey::MAX]);
    let rows = keys.map(|key| (key, (1, numbered(0))));
    Memory { epoch: 1, rows: rows.collect(), count: n as u64 }
}

#[test]
fn pages_end_exactly_at_the_end_of_the_ring() {
    // The last page is full, lacks one, or has one: Alice's hashes, and what Bob answers with.
    for n in [PAGE_KEYS - 1, PAGE_KEYS, PAGE_KEYS + 1, 2 * PAGE_KEYS] {
        let mut alice = End::new(from_end_to_end(n), ArcSet::full());
        let mut bob = End::new(from_end_to_end(n), ArcSet::full());
        alice.open(ArcSet::full(), lists());
        assert_eq!(alice.outbox.len(), n.div_ceil(PAGE_KEYS), "no page more than it takes");
        run(&mut alice, &mut bob, &mut in_order);
        assert_eq!(alice.report.map(|report| (report.listed, report.heard)), Some((n as u64, 0)));

        let mut alice = End::new(Memory::default(), ArcSet::full());
        let mut bob = End::new(from_end_to_end(n), ArcSet::full());
        alice.open(ArcSet::full(), Constraints::default());
        // She has them all from another peer by the time his lists come, so none is asked for.
        alice.store = from_end_to_end(n);
        run(&mut alice, &mut bob, &mut in_order);
        assert_eq!(alice.report.map(|report| (report.listed, report.heard)), Some((0, n as u64)));
    }
}

#[test]
fn who_has_no_room_is_given_nothing() {
    let full = ArcSet::full;
    for packets in [false, true] {
        let mut alice = End::new(Memory::new(1, (0..10).map(numbered)), full());
        let mut bob = End::new(Memory::new(2, (5..15).map(numbered)), full());
        alice.peer_count = if packets { u64::MAX } else { 0 };
        bob.flow = Flow::ToAlice;
        alice.open(full(), Constraints::default());
        let Some(Wire::Message(Message::ArcRequest(first))) = alice.outbox.pop_front() else {
            unreachable!()
        };
        assert!(matches!(bob.answer(first), Err(SessionError::Full)));
    }
    // Lists say nothing of what is taken; wanting does.
    let mut alice = End::new(Memory::new(1, (0..10).map(numbered)), full());
    let mut bob = End::new(Memory::new(2, (5..15).map(numbered)), full());
    alice.flow = Flow::ToBob;
    alice.open(full(), Constraints::default());
    bob.receive(alice.outbox.pop_front().unwrap()).unwrap();
    let want = AspectDataRequest::keys(vec![numbered(12).key()]);
    let bob = bob.session.as_mut().unwrap();
    let error =
        bob.handle(arcwise_proto::Time::ZERO, Input::Received(want.into()), &Memory::new(2, []));
    assert!(matches!(error, Err(SessionError::Peer(Fault::Unexpected { .. }))), "{error:?}");
}

#[test]
fn an_audit_asks_for_what_is_held_in_the_arcs_from_a_random_place_on() {
    // Most of what is held is elsewhere.
    let store = Memory::new(1, (0..10_000).map(numbered));
    let arcs: ArcSet = [(10, 19), (5_000, 5_009), (1 << 20, u32::MAX)].into_iter().collect();
    let asked = |at| {
        let Ok(keys) = audit_keys(&store, &arcs, Location(at));
        keys.into_iter().map(|key| key.location.0).collect::<Vec<_>>()
    };
    let from = |locations: &[std::ops::Range<u32>]| -> Vec<u32> {
        locations.iter().cloned().flatten().collect()
    };
    assert_eq!(asked(0), from(&[10..20, 5_000..5_010]));
    assert_eq!(asked(15), from(&[15..20, 5_000..5_010, 10..15]));
    assert_eq!(asked(1 << 30), from(&[10..20, 5_000..5_010]));
    let Ok(many) = audit_keys(&store, &ArcSet::full(), Location(9_990));
    assert_eq!(many.len(), 4 * MAX_AUDIT);
    assert_eq!(many[10].location, Location(0), "over the top");
}
