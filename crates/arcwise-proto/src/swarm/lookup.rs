//! Finding who holds a location, or a node, from anywhere on the ring.
//!
//! A look-up begins with the peers that this node knows. Who is said to hold the goal is asked first, and
//! where nobody is, those that are nearest to it, who answer with peers that are nearer still. How it
//! ends is bounded in every way: peers asked, candidates, time.

use std::{collections::BTreeMap, time::Duration};

use crate::{id::NodeId, limits::MAX_PEERS, ring::Location, time::Time};

/// So many holders are to answer for an entry, and so many are asked at a time: its aspects may be spread
/// over them. A guess.
const HOLDERS: usize = 2;

/// So many peers are asked at a time while no holder is known: Kademlia's alpha.
const WALKERS: usize = 3;

/// After the first holder has answered, so many others are asked where there may be a second one. A guess:
/// neighbours of a location know who holds it.
const LOOK_ON: usize = 8;

/// Most peers that are asked. A guess: several times what a large ring takes.
const MAX_ASKED: usize = 64;

/// Most candidates that are remembered. A guess: some answers full.
const MAX_CANDIDATES: usize = 512;

/// An answer that takes longer than so many round trips, and longer than [`LEAST_HEDGE`], is not waited
/// for: another peer is asked beside. Guesses.
const HEDGE: u32 = 3;
const LEAST_HEDGE: Duration = Duration::from_millis(200);

/// The round trip to a peer that was never measured. A guess: it has to be dialled, too.
const UNKNOWN_ROUND_TRIP: Duration = Duration::from_millis(300);

/// A look-up is over after so long. A guess: nobody waits longer.
const TIME_LIMIT: Duration = Duration::from_secs(30);

/// What is looked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Goal {
    /// What is held at a location.
    Entry(Location),
    /// A node, and where it sits.
    Node(NodeId, Location),
}

impl Goal {
    /// Where it is on the ring.
    pub fn location(self) -> Location {
        match self {
            Goal::Entry(location) | Goal::Node(_, location) => location,
        }
    }
}

/// A peer that may be asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Candidate {
    /// Which one.
    pub node: NodeId,
    /// Where it sits, computed from its id: not what somebody says.
    pub location: Location,
    /// Its signed store arc covers the goal.
    pub claims: bool,
    /// As measured, where it was.
    pub round_trip: Option<Duration>,
    /// It need not be dialled.
    pub connected: bool,
}

/// What to do now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// Ask this peer, and come again at once.
    Ask(NodeId),
    /// Nothing until this time, which is later than now, or until something comes.
    Wait(Time),
    /// The look-up is over.
    Done,
}

/// What came of asking a peer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Nothing yet.
    Pending,
    /// It holds the goal, and sent what it has.
    Holds,
    /// It does not hold the goal, and named so many peers that were not known.
    Named(usize),
    /// It could not be reached, or answered with nonsense.
    Failed,
}

/// A peer that was asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Asked {
    /// As it was known when it was asked.
    pub peer: Candidate,
    /// Who named it; `None` where it was known from the start.
    pub named_by: Option<NodeId>,
    /// When it was asked.
    pub at: Time,
    /// What came of that.
    pub outcome: Outcome,
    /// How long it took; zero while nothing has come.
    pub took: Duration,
}

impl Asked {
    /// From then on it is not waited for.
    fn patience(&self) -> Time {
        let round_trip = self.peer.round_trip.unwrap_or(UNKNOWN_ROUND_TRIP);
        self.at + round_trip.saturating_mul(HEDGE).max(LEAST_HEDGE)
    }
}

/// One look-up.
#[derive(Debug)]
pub struct Lookup {
    us: NodeId,
    goal: Goal,
    until: Time,
    /// Not asked yet, and who named them.
    candidates: BTreeMap<NodeId, (Candidate, Option<NodeId>)>,
    /// In the order in which they were asked.
    asked: Vec<Asked>,
    found: Option<NodeId>,
}

impl Lookup {
    /// Begins to look for the goal, which is not this node (`us`), with what is known.
    pub fn new(
        now: Time,
        us: NodeId,
        goal: Goal,
        start: impl IntoIterator<Item = Candidate>,
    ) -> Self {
        let until = now + TIME_LIMIT;
        let (candidates, asked) = (BTreeMap::new(), Vec::new());
        let mut lookup = Self { us, goal, until, candidates, asked, found: None };
        for candidate in start {
            lookup.learn(candidate, None);
        }
        lookup
    }

    /// What to do now. To be called until it says to wait or is done.
    pub fn next(&mut self, now: Time) -> Step {
        let holders = self.holders();
        if now >= self.until || self.found.is_some() || holders >= HOLDERS {
            return Step::Done;
        }
        let pending = || self.asked.iter().filter(|it| it.outcome == Outcome::Pending);
        let awaited = || pending().filter(|it| it.patience() > now);
        let asking = awaited().filter(|it| self.claims(&it.peer)).count();
        // Who claims to hold the goal and lets us wait may be a liar, and so may all others be that it
        // keeps us from.
        let lost = |it: &&Asked| self.claims(&it.peer) && it.outcome != Outcome::Holds;
        let lost = self.asked.iter().filter(lost).count() - asking;
        let claims = self.candidates.values().any(|(it, _)| self.claims(it));
        let next = if asking + holders < HOLDERS && claims {
            self.best_holder()
        } else if (asking > 0 || claims) && lost < HOLDERS || self.looked_on() >= LOOK_ON {
            None
        } else if awaited().filter(|it| !self.claims(&it.peer)).count() < WALKERS {
            self.nearest()
        } else {
            None
        };
        if let Some(node) = next.filter(|_| self.asked.len() < MAX_ASKED)
            && let Some((peer, named_by)) = self.candidates.remove(&node)
        {
            let (outcome, took) = (Outcome::Pending, Duration::ZERO);
            self.asked.push(Asked { peer, named_by, at: now, outcome, took });
            return Step::Ask(node);
        }
        let until = awaited().map(Asked::patience).min();
        match until {
            Some(at) => Step::Wait(at.min(self.until)),
            // Nobody is left but who lets us wait; for what has come already, that is enough.
            None if holders == 0 && pending().next().is_some() => Step::Wait(self.until),
            None => Step::Done,
        }
    }

    /// A peer has answered: with what it holds, or with peers that are nearer, of which the first
    /// [`MAX_PEERS`] count. Nothing follows from an answer that was not asked for.
    pub fn answered(
        &mut self,
        now: Time,
        node: NodeId,
        holds: bool,
        nearer: impl IntoIterator<Item = Candidate>,
    ) {
        if !self.settle(now, node, if holds { Outcome::Holds } else { Outcome::Named(0) }) {
            return;
        }
        let taken = nearer.into_iter().take(MAX_PEERS);
        let new = taken.filter(|candidate| self.learn(*candidate, Some(node))).count();
        let asked = self.asked.iter_mut().find(|it| it.peer.node == node);
        if let Some(Asked { outcome: Outcome::Named(named), .. }) = asked {
            *named = new;
        }
    }

    /// A peer could not be asked, or its answer was nonsense.
    pub fn failed(&mut self, now: Time, node: NodeId) {
        self.settle(now, node, Outcome::Failed);
    }

    /// The node that was looked for, once it is known; always `None` where an entry is looked for.
    pub fn found(&self) -> Option<NodeId> {
        self.found
    }

    /// How many holders have answered.
    pub fn holders(&self) -> usize {
        self.asked.iter().filter(|it| it.outcome == Outcome::Holds).count()
    }

    /// Who was asked, in order, and what came of it.
    pub fn asked(&self) -> impl ExactSizeIterator<Item = &Asked> {
        self.asked.iter()
    }

    /// How many were asked for another holder than the one that has answered.
    fn looked_on(&self) -> usize {
        let holders = self.asked.iter().filter(|it| it.outcome == Outcome::Holds);
        let Some(since) = holders.map(|it| it.at + it.took).min() else { return 0 };
        self.asked.iter().filter(|it| !self.claims(&it.peer) && it.at >= since).count()
    }

    /// Whether the peer was asked, and nothing has come yet.
    fn settle(&mut self, now: Time, node: NodeId, outcome: Outcome) -> bool {
        let mut pending = self.asked.iter_mut().filter(|it| it.outcome == Outcome::Pending);
        let Some(asked) = pending.find(|it| it.peer.node == node) else { return false };
        (asked.outcome, asked.took) = (outcome, now.since(asked.at));
        true
    }

    /// Whether the candidate was not known.
    fn learn(&mut self, candidate: Candidate, named_by: Option<NodeId>) -> bool {
        let node = candidate.node;
        let asked = || self.asked.iter().any(|it| it.peer.node == node);
        if node == self.us || self.candidates.contains_key(&node) || asked() {
            return false;
        }
        if matches!(self.goal, Goal::Node(id, _) if id == node) {
            self.found = Some(node);
        }
        self.candidates.insert(node, (candidate, named_by));
        if self.candidates.len() + self.asked.len() > MAX_CANDIDATES {
            let candidates = self.candidates.values().map(|(it, _)| it);
            let last = candidates.max_by_key(|it| (!self.claims(it), self.distance(it), it.node));
            if let Some(last) = last.map(|it| it.node) {
                self.candidates.remove(&last);
            }
        }
        true
    }

    /// The holder to ask next: one that is connected, and quick.
    fn best_holder(&self) -> Option<NodeId> {
        let holders = self.candidates.values().map(|(it, _)| it).filter(|it| self.claims(it));
        let best = holders.min_by_key(|it| {
            let round_trip = it.round_trip.unwrap_or(UNKNOWN_ROUND_TRIP);
            (!it.connected, round_trip, self.distance(it), it.node)
        });
        best.map(|it| it.node)
    }

    fn nearest(&self) -> Option<NodeId> {
        let candidates = self.candidates.values().map(|(it, _)| it);
        candidates.min_by_key(|it| (self.distance(it), it.node)).map(|it| it.node)
    }

    /// Whether it is to be asked as a holder. Where a node is looked for, nobody is.
    fn claims(&self, candidate: &Candidate) -> bool {
        candidate.claims && matches!(self.goal, Goal::Entry(_))
    }

    /// To the goal, around the ring the shorter way.
    fn distance(&self, candidate: &Candidate) -> u32 {
        let ahead = candidate.location.0.wrapping_sub(self.goal.location().0);
        ahead.min(ahead.wrapping_neg())
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::{super::random::Random, *};

    fn id(n: usize) -> NodeId {
        let mut id = [0; 32];
        id[..8].copy_from_slice(&(n as u64).to_be_bytes());
        NodeId(id)
    }

    const US: NodeId = NodeId([0xff; 32]);
    const GOAL: Location = Location(1 << 31);

    fn candidate(n: usize, location: u32, claims: bool) -> Candidate {
        let (location, node) = (Location(location), id(n));
        Candidate { node, location, claims, round_trip: None, connected: false }
    }

    fn ms(millis: u64) -> Time {
        Time::ZERO + Duration::from_millis(millis)
    }

    /// Nodes in the order of the ring; each holds what is as near as [`Ring::reach`] nodes.
    struct Ring {
        places: Vec<u32>,
        seed: u64,
        reach: usize,
    }

    impl Ring {
        fn new(nodes: usize, reach: usize, seed: u64) -> Self {
            let mut random = Random::new(seed);
            let mut places: Vec<_> = (0..nodes).map(|_| random.next() as u32).collect();
            places.sort_unstable();
            Self { places, seed, reach }
        }

        /// Whom a node knows: its neighbours, 8 in each zone of the rest of the ring, and 4 in each part that is
        /// split off the first and the last zone.
        fn table(&self, node: usize) -> Vec<usize> {
            let (n, half) = (self.places.len(), self.reach / 2);
            let mut known: Vec<_> =
                (1..=half).flat_map(|step| [(node + step) % n, (node + n - step) % n]).collect();
            let mut random = Random::new(self.seed ^ node as u64);
            let rest = n - 2 * half - 1;
            let mut from = 0;
            for percent in [11, 22, 34, 22, 11] {
                let len = rest * percent / 100;
                for _ in 0..8 {
                    let step = half + 1 + from + random.below(len);
                    known.push((node + step) % n);
                }
                from += len;
            }
            let mut len = rest * 11 / 100 / 4;
            while len > 0 {
                for _ in 0..4 {
                    let step = half + 1 + len / 4 + random.below(len - len / 4);
                    known.extend([(node + step) % n, (node + n - step) % n]);
                }
                len /= 4;
            }
            known
        }

        /// How far around the ring two nodes are from each other, in nodes.
        fn apart(&self, a: usize, b: usize) -> usize {
            let n = self.places.len();
            ((a + n - b) % n).min((b + n - a) % n)
        }

        fn candidate(&self, node: usize, goal: Goal) -> Candidate {
            let at = self.places.partition_point(|place| *place < goal.location().0);
            let claims = self.apart(node, at % self.places.len()) <= self.reach / 2;
            candidate(node, self.places[node], claims)
        }

        /// What an honest node answers to one that looks for the goal: the nearest that it knows.
        fn answer(&self, node: usize, goal: Goal) -> Vec<Candidate> {
            let known = self.table(node).into_iter().map(|node| self.candidate(node, goal));
            let mut known: Vec<_> = known.collect();
            known.sort_by_key(|it| {
                let ahead = it.location.0.wrapping_sub(goal.location().0);
                ahead.min(ahead.wrapping_neg())
            });
            known.dedup_by_key(|it| it.node);
            known.truncate(MAX_PEERS);
            known
        }

        /// Looks from a node until it is over; nodes take 50 ms to answer.
        fn find(&self, from: usize, goal: Goal) -> Lookup {
            let start = self.table(from).into_iter().map(|node| self.candidate(node, goal));
            let mut lookup = Lookup::new(ms(0), id(from), goal, start);
            let (mut now, mut asked) = (ms(0), std::collections::VecDeque::new());
            loop {
                match lookup.next(now) {
                    Step::Ask(node) => asked.push_back(node),
                    Step::Done => return lookup,
                    Step::Wait(until) => {
                        assert!(until > now);
                        let Some(node) = asked.pop_front() else { panic!("nobody is asked") };
                        let n = usize::from(node.0[6]) << 8 | usize::from(node.0[7]);
                        now = now + Duration::from_millis(50);
                        let holds =
                            self.candidate(n, goal).claims && matches!(goal, Goal::Entry(_));
                        let nearer = if holds { Vec::new() } else { self.answer(n, goal) };
                        lookup.answered(now, node, holds, nearer);
                    }
                }
            }
        }
    }

    fn figures(asks: &[usize]) -> String {
        let mean = asks.iter().sum::<usize>() as f64 / asks.len() as f64;
        format!("mean {mean:.1}, max {}", asks.iter().max().unwrap())
    }

    #[test]
    fn few_are_asked_on_a_large_ring() {
        for (nodes, most) in [(1_000, 20), (10_000, 20), (60_000, 20)] {
            let ring = Ring::new(nodes, 24, 1);
            let mut random = Random::new(2);
            let (mut entries, mut named, mut two) = (Vec::new(), Vec::new(), 0);
            for _ in 0..200 {
                let mut any = || random.next() as usize;
                let (from, node) = (any() % nodes, any() % nodes);
                let lookup = ring.find(from, Goal::Entry(Location(any() as u32)));
                assert!(lookup.holders() > 0);
                two += usize::from(lookup.holders() == HOLDERS);
                entries.push(lookup.asked().len());
                if from != node {
                    let lookup = ring.find(from, Goal::Node(id(node), Location(ring.places[node])));
                    assert_eq!(lookup.found(), Some(id(node)));
                    named.push(lookup.asked().len());
                }
            }
            let what = format!(
                "{nodes} nodes: entries {} asks, two holders for {two} of 200; nodes {} asks",
                figures(&entries),
                figures(&named)
            );
            println!("{what}");
            assert!(two >= 190, "{what}");
            assert!(entries.iter().chain(&named).all(|asks| *asks <= most), "{what}");
        }
    }

    #[test]
    fn two_holders_answer_and_the_next_is_hedged() {
        let connected = |n, millis| Candidate {
            round_trip: Some(Duration::from_millis(millis)),
            connected: true,
            ..candidate(n, 0, true)
        };
        let start = [
            candidate(9, GOAL.0, false),
            candidate(1, 1, true),
            connected(2, 100),
            connected(3, 10),
        ];
        let mut lookup = Lookup::new(ms(0), US, Goal::Entry(GOAL), start);
        assert_eq!(lookup.next(ms(0)), Step::Ask(id(3)));
        assert_eq!(lookup.next(ms(0)), Step::Ask(id(2)));
        assert_eq!(lookup.next(ms(0)), Step::Wait(ms(200)));
        lookup.answered(ms(20), id(2), true, []);
        assert_eq!(lookup.next(ms(20)), Step::Wait(ms(200)));
        assert_eq!(lookup.next(ms(200)), Step::Ask(id(1)));
        assert_eq!(lookup.next(ms(200)), Step::Wait(ms(1100)));
        // The late one counts.
        lookup.answered(ms(300), id(3), true, []);
        assert_eq!(lookup.next(ms(300)), Step::Done);
        let outcomes: Vec<_> = lookup.asked().map(|it| (it.peer.node, it.outcome)).collect();
        let (holds, pending) = (Outcome::Holds, Outcome::Pending);
        assert_eq!(outcomes, [(id(3), holds), (id(2), holds), (id(1), pending)]);
        assert_eq!(lookup.asked().next().unwrap().took, Duration::from_millis(300));
    }

    #[test]
    fn one_holder_is_enough_where_there_is_no_other() {
        let start = [candidate(1, 1, true), candidate(2, 2, false)];
        let mut lookup = Lookup::new(ms(0), US, Goal::Entry(GOAL), start);
        assert_eq!(lookup.next(ms(0)), Step::Ask(id(1)));
        assert!(matches!(lookup.next(ms(0)), Step::Wait(_)));
        lookup.answered(ms(10), id(1), true, []);
        assert_eq!(lookup.next(ms(10)), Step::Ask(id(2)));
        lookup.answered(ms(20), id(2), false, (10..30).map(|n| candidate(n, 0, false)));
        let mut asked = 0;
        while lookup.next(ms(20)) != Step::Done {
            let Some(last) = lookup.asked().last().map(|it| it.peer.node) else { panic!() };
            lookup.answered(ms(20), last, false, []);
            asked += 1;
        }
        assert_eq!(asked, LOOK_ON - 1);
        // And where it fails, others are asked who there is.
        let mut lookup = Lookup::new(ms(0), US, Goal::Entry(GOAL), start);
        assert_eq!(lookup.next(ms(0)), Step::Ask(id(1)));
        lookup.failed(ms(10), id(1));
        assert_eq!(lookup.next(ms(10)), Step::Ask(id(2)));
        let nearer = [candidate(3, 3, true), candidate(1, 1, true), candidate(2, 2, true)];
        lookup.answered(ms(20), id(2), false, nearer);
        assert_eq!(lookup.next(ms(20)), Step::Ask(id(3)));
        lookup.answered(ms(30), id(3), true, []);
        assert_eq!(lookup.next(ms(30)), Step::Done);
        let asked: Vec<_> = lookup.asked().map(|it| (it.outcome, it.named_by)).collect();
        let expected =
            [(Outcome::Failed, None), (Outcome::Named(1), None), (Outcome::Holds, Some(id(2)))];
        assert_eq!(asked, expected);
    }

    #[test]
    fn nobody_known_is_over_at_once() {
        let mut lookup = Lookup::new(ms(0), id(1), Goal::Entry(GOAL), [candidate(1, 0, true)]);
        assert_eq!(lookup.next(ms(0)), Step::Done);
        let goal = Goal::Node(id(7), GOAL);
        let mut lookup = Lookup::new(ms(0), US, goal, [candidate(7, GOAL.0, false)]);
        assert_eq!((lookup.next(ms(0)), lookup.found()), (Step::Done, Some(id(7))));
    }

    #[test]
    fn false_holders_do_not_keep_it_from_others() {
        let false_holders = (0..100).map(|n| candidate(n, n as u32, true));
        let start = false_holders.chain([candidate(1000, GOAL.0, false)]);
        let mut lookup = Lookup::new(ms(0), US, Goal::Entry(GOAL), start);
        let mut now = ms(0);
        for _ in 0..20 {
            match lookup.next(now) {
                Step::Ask(node) if node == id(1000) => {
                    assert!(now < ms(2000), "{now}");
                    return;
                }
                Step::Ask(_) => {}
                Step::Wait(until) => now = until,
                Step::Done => break,
            }
        }
        panic!("it was never asked");
    }

    proptest! {
        /// Whatever is answered, by whom and when: it ends, within its bounds, and asks nobody twice.
        #[test]
        fn it_always_ends(
            seed: u64,
            node: bool,
            claims in 0..4u64,
            answers in 0..4u64,
            slow in 0..4u64,
        ) {
            let mut random = Random::new(seed);
            let goal = if node { Goal::Node(US, GOAL) } else { Goal::Entry(GOAL) };
            let mut new = 0;
            let mut nonsense = |random: &mut Random| {
                new += 1;
                let known = random.next().is_multiple_of(4);
                let n = if known { random.below(new) } else { new };
                candidate(n, random.next() as u32, random.next() % 4 < claims)
            };
            let start: Vec<_> = (0..random.next() % 600).map(|_| nonsense(&mut random)).collect();
            let mut lookup = Lookup::new(ms(0), id(usize::MAX), goal, start);
            let (mut now, mut asked, mut steps) = (ms(0), Vec::new(), 0);
            let mut ever = BTreeSet::new();
            loop {
                steps += 1;
                prop_assert!(steps < 2000);
                match lookup.next(now) {
                    Step::Ask(node) => {
                        prop_assert!(ever.insert(node));
                        asked.push(node);
                    }
                    Step::Wait(until) => {
                        prop_assert!(until > now && until <= ms(30_000));
                        if asked.is_empty() || random.next() % 4 < slow {
                            now = until;
                            continue;
                        }
                        let node = asked.swap_remove(random.below(asked.len()));
                        if random.next() % 4 < answers {
                            let answer: Vec<_> = (0..100).map(|_| nonsense(&mut random)).collect();
                            lookup.answered(now, node, random.next().is_multiple_of(16), answer);
                        } else {
                            lookup.failed(now, node);
                        }
                    }
                    Step::Done => break,
                }
                prop_assert!(lookup.candidates.len() + lookup.asked.len() <= MAX_CANDIDATES);
            }
            prop_assert!(now <= ms(30_000) && lookup.asked().len() <= MAX_ASKED);
            prop_assert_eq!(lookup.next(now), Step::Done);
        }
    }
}
