//! What a session costs on the wire, as a committed table: `cost.txt`.
//!
//! A change in it is a change in behaviour, meant or not.
//! `UPDATE_COST=1 cargo test -p arcwise-proto --test cost` measures anew.

mod model;

use std::fmt::Write;

use arcwise_proto::{ArcSet, Aspect, session::Constraints, wire::Message};
use model::{End, Memory, Wire, numbered, settle};

const HEAD: &str = "\
# What a session costs on the wire: UPDATE_COST=1 measures anew.
#
# Both hold n aspects of 57 bytes each, scattered over the ring, and d more are held by one of them, or
# one half of these by each. Every message takes one step from end to end, and nothing else takes any time,
# so the steps are the longest chain of messages of which each waits for the one before: to the last
# aspect, and to the end of both sides of the stream.
#
#                             Alice -> Bob          Bob -> Alice     of them         steps to
#       n       d held by  messages     bytes    messages     bytes   aspects    data     end
";

/// What has been sent one way.
#[derive(Default)]
struct Sent {
    messages: usize,
    bytes: usize,
    aspects: usize,
}

impl Sent {
    fn count(&mut self, wire: &Wire) {
        let Wire::Message(message) = wire else { return };
        let bytes = message.encode().len();
        self.messages += 1;
        self.bytes += bytes;
        if matches!(message, Message::AspectDataResponse(_)) {
            self.aspects += bytes;
        }
    }
}

/// One step: everything that was on its way arrives, and what follows from it is sent.
fn arrive(at: &mut End, wires: Vec<Wire>) -> bool {
    let before = at.store.count;
    for wire in wires {
        at.receive(wire).unwrap();
    }
    while let Some(outcome) = at.store().or_else(|| at.reply()) {
        outcome.unwrap();
    }
    at.store.count > before
}

fn row(all: &[Aspect], n: usize, d: usize, held_by: &str) -> String {
    // Those that differ are spread evenly among the others.
    let differs = |i: usize| i * d / (n + d).max(1) != (i + 1) * d / (n + d).max(1);
    let (mut alice, mut bob) = (Memory::new(1, []), Memory::new(2, []));
    let mut turn = false;
    for (i, aspect) in all[..n + d].iter().enumerate() {
        let (to_alice, to_bob) = match held_by {
            _ if !differs(i) => (true, true),
            "Alice" => (true, false),
            "Bob" => (false, true),
            _ => {
                turn = !turn;
                (turn, !turn)
            }
        };
        let give = |store: &mut Memory, holds: bool| holds.then(|| store.insert(aspect.clone()));
        give(&mut alice, to_alice);
        give(&mut bob, to_bob);
    }

    let (mut alice, mut bob) = (End::new(alice, ArcSet::full()), End::new(bob, ArcSet::full()));
    alice.peer_count = bob.store.count;
    alice.open(ArcSet::full(), Constraints::default());
    let (mut there, mut back) = (Sent::default(), Sent::default());
    let (mut steps, mut data) = (0, 0);
    while !(alice.outbox.is_empty() && bob.outbox.is_empty()) {
        steps += 1;
        let to_bob: Vec<Wire> = alice.outbox.drain(..).inspect(|wire| there.count(wire)).collect();
        let to_alice: Vec<Wire> = bob.outbox.drain(..).inspect(|wire| back.count(wire)).collect();
        if arrive(&mut bob, to_bob) | arrive(&mut alice, to_alice) {
            data = steps;
        }
    }
    assert!(alice.store.rows.keys().eq(bob.store.rows.keys()) && alice.store.rows.len() == n + d);
    assert!(alice.report.is_some_and(|report| report.in_sync()));
    let (Sent { messages, bytes, .. }, aspects) = (&there, there.aspects + back.aspects);
    let there = format!("{messages:>9} {bytes:>9}");
    let back = format!("{:>11} {:>9}", back.messages, back.bytes);
    format!("{n:>9} {d:>7} {held_by:<7} {there} {back} {aspects:>9} {data:>7} {steps:>7}")
}

#[test]
fn cost() {
    // An odd factor visits every location once, in an order without any pattern of interest.
    let scattered = |n: u32| numbered(n.wrapping_mul(0x9e37_79b9).into());
    let all: Vec<Aspect> = (0..100_000).map(scattered).collect();
    let mut table = HEAD.to_owned();
    let mut measure = |n: usize, d: usize, held_by: &str| {
        writeln!(table, "{}", row(&all, n, d, held_by)).unwrap();
    };
    for n in [0, 100, 1000, 10_000] {
        measure(n, 0, "-");
        for d in [1, 10, 100, 1000] {
            measure(n, d, "Alice");
            measure(n, d, "Bob");
            measure(n, 2 * d, "both");
        }
    }
    measure(100_000, 0, "-");
    settle("UPDATE_COST", "cost.txt", &table);
}
