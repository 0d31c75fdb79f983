//! How many copies a space should want, and what that costs each node: by formulae, checked by simulating
//! the arcs of such a network.
//!
//! The formulae take nodes to be independent of each other. They are on the safe side where that was simpler:
//! a copy counts as lost from when its node stops until others have replaced it, though many come back.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::{
    flow::{Options, run_with},
    results::Results,
    scenario::{Disk, Event, Expect, Network, Others, People, Scenario, Span, What},
};

/// A network, and what it is to be good for.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Question {
    /// How many nodes there are, on or off.
    pub nodes: u64,
    /// The part of the time in which a node is on.
    pub online: f64,
    /// How long it stays on, on average.
    pub session: Span,
    /// After how long it is gone for good, with its disk, on average.
    pub life: Span,
    /// Bytes of the whole space.
    pub bytes: f64,
    /// Bytes written in a day, in the whole space.
    pub written: f64,
    /// Bits a second that a node can send, and receive.
    pub up: f64,
    /// See `up`.
    pub down: f64,
    /// Bytes that a node has room for; `None` for as many as it takes.
    pub room: Option<f64>,
    /// How long a node may be away before others take its place where there are too few copies; elsewhere it
    /// may be for five times that.
    pub patience: Span,
    /// Of 10 to the power of this many aspects, one may be lost in a year.
    pub durability: f64,
    /// Of 10 to the power of this many seconds, an aspect may be out of reach for one.
    pub availability: f64,
    /// The part of the nodes that may be gone for good at once.
    pub at_once: f64,
}

impl Default for Question {
    /// A thousand nodes that are on nearly always, with ten gigabytes.
    fn default() -> Self {
        Self {
            nodes: 1000,
            online: 0.9,
            session: Span::secs(86_400),
            life: Span::secs(180 * 86_400),
            bytes: 10e9,
            written: 100e6,
            up: 20e6,
            down: 100e6,
            room: None,
            patience: Span::secs(120),
            durability: 9.0,
            availability: 5.0,
            at_once: 0.3,
        }
    }
}

/// What is to be done, and what it takes. Bytes are of the data itself.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Answer {
    /// The least and the normal number of copies to set.
    pub copies: (u32, u32),
    /// What asks for so many.
    pub because: Reason,
    /// Nines of durability in a year that they give, if nodes go one by one.
    pub durability: f64,
    /// Nines of the chance that an aspect survives when so many nodes go at once.
    pub at_once: f64,
    /// Nines of availability.
    pub availability: f64,
    /// Seconds from when a node goes until others hold what it held: where there are too few copies, and
    /// elsewhere.
    pub repair: (f64, f64),
    /// Bytes on the disk of a node: about, and the most on any.
    pub disk: (f64, f64),
    /// Bits a second that a node sends, and as many that it receives.
    pub traffic: Traffic,
}

/// What decides on the number of copies.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Reason {
    /// Nodes that go for good, one by one.
    Durability,
    /// Nodes that go for good, at once.
    AtOnce,
    /// Nodes that are off for a while.
    Availability,
    /// The least number of copies that makes sense is enough.
    Least,
}

/// Bits a second of a node, on average, in each direction.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Traffic {
    /// What is new.
    pub new: f64,
    /// Taking the place of those that are gone for good.
    pub gone: f64,
    /// Taking the place of those that are away for long, at the most: what is kept of it when they come back
    /// is there the next time.
    pub away: f64,
    /// Keeping connections, saying who there is, and comparing what is held when nothing is new.
    pub idle: f64,
}

impl Traffic {
    /// All of it.
    pub fn total(&self) -> f64 {
        self.new + self.gone + self.away + self.idle
    }
}

/// Why a question has no answer.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum PlanError {
    /// A value makes no sense.
    #[error("`{field}`: {problem}")]
    Field {
        /// Which.
        field: &'static str,
        /// What is wrong with it.
        problem: &'static str,
    },
    /// No number of copies gives that.
    #[error(
        "more than {most} copies would be needed for that; ask for fewer nines, or for longer-lived nodes"
    )]
    Copies {
        /// The most there can be.
        most: u32,
    },
    /// There are fewer nodes that are on than copies.
    #[error("{copies} copies are needed, and of {nodes} nodes only about {on:.0} are on at a time")]
    Nodes {
        /// How many copies.
        copies: u32,
        /// How many nodes.
        nodes: u64,
        /// How many of these are on.
        on: f64,
    },
    /// A node has too little room.
    #[error("{copies} copies take {needed:.0} bytes on each node, and there is room for {room:.0}")]
    Room {
        /// How many copies.
        copies: u32,
        /// Bytes that a node has to hold, about.
        needed: f64,
        /// Bytes that it has room for.
        room: f64,
    },
    /// A node cannot send or receive so much.
    #[error("{copies} copies take {needed:.0} bit/s of each node, and it has {limit:.0}")]
    Bandwidth {
        /// How many copies.
        copies: u32,
        /// Bits a second that it takes.
        needed: f64,
        /// Bits a second that there are.
        limit: f64,
    },
}

/// The most copies that a space may want.
const MOST: u32 = arcwise_proto::swarm::Copies::MAX;

/// Fewer copies are not recommended to anybody: with three, one may be away and one gone.
const LEAST: u32 = 3;

/// A year, in seconds.
const YEAR: f64 = 365.25 * 86_400.0;

/// QUIC notices after so many seconds that a node is gone.
const NOTICED: f64 = 30.0;

/// Others take the place of who is away after so many times the patience, where there are enough copies.
const PATIENCES: f64 = 5.0;

/// Too many copies are given up only where there are more than so many times the wanted ones.
const KEPT: f64 = 1.25;

/// A node sends and receives so many bits a second while nothing happens: up to 42 connections, of each half
/// of the 1.35 MB a day that `docs/BENCHMARKS.md` has.
const IDLE: f64 = 42.0 * 1.35e6 / 2.0 * 8.0 / 86_400.0;

/// The chance that a location has no copy where arcs lie at random and make so many copies on average. As with
/// earlier systems; here, each location has its copies.
pub fn uncovered(copies: f64) -> f64 {
    (-copies).exp()
}

/// The chance that all copies are gone, when this part of the nodes goes at once.
pub fn lost_at_once(copies: u32, part: f64) -> f64 {
    part.powi(copies as i32)
}

/// The chance that of so many copies fewer than `least` remain, when this part of the nodes goes at once.
pub fn fewer_remain(copies: u32, part: f64, least: u32) -> f64 {
    let (stay, mut ways, mut sum) = (1.0 - part, 1.0, 0.0);
    for remain in 0..least.min(copies + 1) {
        sum += ways * stay.powi(remain as i32) * part.powi((copies - remain) as i32);
        ways *= f64::from(copies - remain) / f64::from(remain + 1);
    }
    sum
}

/// How often, in a second, all copies of one location go before any is replaced, where each goes after `life`
/// seconds on average, and `repair` seconds after the last one went there are as many again as there should be.
///
/// A chain of states, one for each number of copies: from `n`, one goes with rate `n / life`, and all are back
/// with rate `1 / repair`. So it is the rate of the first step, and for each further one the chance that it
/// comes before the repair.
pub fn loss_rate(copies: u32, life: f64, repair: f64) -> f64 {
    let step = |n: u32| f64::from(n) * repair / (life + f64::from(n) * repair);
    (1..copies).map(step).product::<f64>() * f64::from(copies) / life
}

/// The longest of all nodes' arcs, as a multiple of the mean. An arc goes half as far to each side as the node
/// that is as many places away as there are copies; so it is half of the sum of twice as many gaps.
pub fn longest_arc(nodes: f64, copies: u32) -> f64 {
    let gaps = 2 * copies;
    let (mut low, mut high) = (1.0, 20.0);
    for _ in 0..60 {
        let times = (low + high) / 2.0;
        match nodes * poisson_below(f64::from(gaps) * times, gaps) > 1.0 {
            true => low = times,
            false => high = times,
        }
    }
    // With few nodes, the ring bounds it.
    high.min(nodes / f64::from(copies)).max(1.0)
}

/// The chance of fewer than `count` events where `mean` are expected.
fn poisson_below(mean: f64, count: u32) -> f64 {
    let mut log = -mean;
    let mut sum = 0.0;
    for n in 0..count {
        sum += log.exp();
        log += mean.ln() - f64::from(n + 1).ln();
    }
    sum
}

/// Nines of a chance that something does not happen.
fn nines(chance: f64) -> f64 {
    -chance.max(f64::MIN_POSITIVE).log10()
}

/// What follows from a question, whatever the number of copies.
struct Terms<'a> {
    asked: &'a Question,
    session: f64,
    away: f64,
    life: f64,
    /// How many nodes are on.
    on: f64,
}

impl<'a> Terms<'a> {
    fn new(asked: &'a Question) -> Self {
        let session = asked.session.0.as_secs_f64();
        Self {
            asked,
            session,
            away: session * (1.0 - asked.online) / asked.online,
            life: asked.life.0.as_secs_f64(),
            on: asked.nodes as f64 * asked.online,
        }
    }

    /// Bytes that a node which is on holds, on average.
    fn held(&self, copies: u32) -> f64 {
        self.asked.bytes * f64::from(copies).min(self.on) / self.on
    }

    /// How long it takes to replace a copy: as soon as it is noticed that there are too few, and usually.
    /// What one node held is fetched by some two for each copy, at the same time.
    fn repair(&self, copies: u32) -> (f64, f64) {
        let fetched = self.held(copies) / (2.0 * f64::from(copies));
        let time = fetched * 8.0 / self.asked.up.min(self.asked.down);
        let patience = self.asked.patience.0.as_secs_f64();
        (NOTICED + patience + time, NOTICED + patience * PATIENCES + time)
    }

    /// The chance that an aspect is lost within a year.
    fn lost(&self, copies: u32) -> f64 {
        loss_rate(copies, self.life, self.repair(copies).1) * YEAR
    }

    /// The part of the time in which no copy is on: how often all go off before others replace one, and then
    /// as long as the first one is away.
    fn out_of_reach(&self, copies: u32) -> f64 {
        if self.away == 0.0 {
            return 0.0;
        }
        let often = loss_rate(copies, self.session, self.repair(copies).1);
        often * self.away / f64::from(copies)
    }

    fn needed(&self) -> Result<(u32, Reason), PlanError> {
        let asked = self.asked;
        let enough: [(Reason, &dyn Fn(u32) -> bool); 3] = [
            (Reason::Durability, &|n| nines(self.lost(n)) >= asked.durability),
            (Reason::AtOnce, &|n| nines(lost_at_once(n, asked.at_once)) >= asked.durability),
            (Reason::Availability, &|n| nines(self.out_of_reach(n)) >= asked.availability),
        ];
        let mut needed = (LEAST, Reason::Least);
        for (reason, is_enough) in enough {
            let Some(copies) = (LEAST..=MOST).find(|n| is_enough(*n)) else {
                return Err(PlanError::Copies { most: MOST });
            };
            if copies > needed.0 {
                needed = (copies, reason);
            }
        }
        Ok(needed)
    }

    /// With fewer copies than this, others are not waited for as long: so that those that are left do not all
    /// go off, one by one, as long as it takes to notice; at least two fifths of the normal number, since half
    /// of the copies are often gone together where a part of the nodes is.
    fn least(&self, copies: u32) -> u32 {
        let enough = |n: &u32| {
            let (urgent, _) = self.repair(copies);
            nines(loss_rate(*n, self.session.min(self.life), urgent) * YEAR) >= 3.0
        };
        let least = (2..copies).find(enough).unwrap_or(copies);
        least.max((f64::from(copies) * 0.4).round() as u32).min(copies)
    }

    fn traffic(&self, copies: u32) -> Traffic {
        let held = self.held(copies) * KEPT;
        let stays = (-(self.repair(copies).1) / self.away.max(1.0)).exp();
        let cycle = self.session + self.away;
        let often = if self.away > 0.0 { stays / cycle } else { 0.0 };
        Traffic {
            new: self.asked.written * f64::from(copies) * KEPT / self.on * 8.0 / 86_400.0,
            gone: held * 8.0 / self.life,
            away: held * 8.0 * often,
            idle: IDLE,
        }
    }
}

impl Question {
    /// Whether it makes sense.
    ///
    /// # Errors
    /// [`PlanError::Field`] where not.
    pub fn check(&self) -> Result<(), PlanError> {
        let fail = |field, problem| Err(PlanError::Field { field, problem });
        let positive = |it: f64| it.is_finite() && it > 0.0;
        if self.nodes < 2 {
            return fail("nodes", "with one node there is one copy");
        }
        if !(self.online > 0.0 && self.online <= 1.0) {
            return fail("online", "it must be above 0 and at most 1");
        }
        if self.session.0 < Duration::from_secs(60) {
            return fail("session", "who stays for less than a minute is no node");
        }
        let cycle = self.session.0.as_secs_f64() / self.online;
        if self.life.0.as_secs_f64() < cycle {
            return fail(
                "life",
                "it must not be shorter than a session and the time away after it",
            );
        }
        if !positive(self.bytes) {
            return fail("bytes", "it must be above 0");
        }
        if !(self.written.is_finite() && self.written >= 0.0) {
            return fail("written", "it must be 0 or more");
        }
        if !positive(self.up) {
            return fail("up", "it must be above 0");
        }
        if !positive(self.down) {
            return fail("down", "it must be above 0");
        }
        if self.room.is_some_and(|room| !positive(room)) {
            return fail("room", "it must be above 0");
        }
        if self.patience.0.is_zero() {
            return fail("patience", "it must be above 0");
        }
        if !(self.durability > 0.0 && self.durability <= 100.0) {
            return fail("durability", "it must be above 0 and at most 100 nines");
        }
        if !(self.availability > 0.0 && self.availability <= 100.0) {
            return fail("availability", "it must be above 0 and at most 100 nines");
        }
        if !(0.0..1.0).contains(&self.at_once) {
            return fail("at_once", "it must be 0 or more, and below 1");
        }
        Ok(())
    }
}

/// Answers by formulae.
///
/// # Errors
/// See [`PlanError`].
pub fn plan(asked: &Question) -> Result<Answer, PlanError> {
    asked.check()?;
    let terms = Terms::new(asked);
    let (copies, because) = terms.needed()?;
    let answer = answer(&terms, copies, because);
    if f64::from(copies) > terms.on {
        return Err(PlanError::Nodes { copies, nodes: asked.nodes, on: terms.on });
    }
    let needed = answer.disk.0;
    if let Some(room) = asked.room.filter(|room| *room < needed) {
        return Err(PlanError::Room { copies, needed, room });
    }
    let (needed, limit) = (answer.traffic.total(), asked.up.min(asked.down));
    if needed > limit {
        return Err(PlanError::Bandwidth { copies, needed, limit });
    }
    Ok(answer)
}

fn answer(terms: &Terms<'_>, copies: u32, because: Reason) -> Answer {
    // Who is away keeps its disk, so each node has this, whether it is on or not.
    let disk = terms.held(copies) * KEPT;
    Answer {
        copies: (terms.least(copies), copies),
        because,
        durability: nines(terms.lost(copies)),
        at_once: nines(lost_at_once(copies, terms.asked.at_once)),
        availability: nines(terms.out_of_reach(copies)),
        repair: terms.repair(copies),
        disk: (disk, disk * longest_arc(terms.on, copies)),
        traffic: terms.traffic(copies),
    }
}

/// At most so many nodes are simulated, and so many hours: so that it takes seconds.
const CHECKED: (u64, u64) = (500, 12);

/// Simulates the arcs of such a network: of as many nodes, or fewer with as much data for each, that has been
/// there for a while; and half way through, the part of the nodes that may be gone at once goes.
pub fn check(asked: &Question, answer: &Answer, seed: u64) -> Results {
    let scenario = checking(asked, answer);
    run_with(&scenario, seed, Options { settled: true, ..Options::default() }, &mut |_| {})
}

fn checking(asked: &Question, answer: &Answer) -> Scenario {
    let terms = Terms::new(asked);
    let nodes = asked.nodes.min(CHECKED.0);
    let scale = nodes as f64 / asked.nodes as f64;
    let hours = CHECKED.1;
    // The median of what is heavy-tailed as people are, by its mean.
    let median = |mean: f64| Span(Duration::from_secs_f64(mean / 1.89));
    let entries = 100_000;
    let size = (asked.bytes * scale / entries as f64).clamp(1.0, f64::from(u32::MAX));
    let lose = Event { at: Span::secs(hours * 1800), what: What::Lose { part: asked.at_once } };
    Scenario {
        seed: None,
        name: "plan".to_owned(),
        about: "What was asked for.".to_owned(),
        nodes: nodes as usize,
        length: Span::secs(hours * 3600),
        quiet: Span::secs(0),
        copies: answer.copies,
        patience: asked.patience,
        idle: Span::secs(300),
        network: Network { up: asked.up, down: asked.down, ..Network::default() },
        disk: Disk {
            quota: asked.room.unwrap_or(0.0) as u64,
            limited: if asked.room.is_some() { 1.0 } else { 0.0 },
            ..Disk::default()
        },
        people: People {
            starting: Span::secs(0),
            entries: entries as usize,
            publishing: asked.written * scale / size / 1440.0,
            size: size as u32,
            session: (terms.away > 0.0).then(|| median(terms.session)),
            away: median(terms.away),
            for_good: ((terms.session + terms.away) / terms.life).min(1.0),
            ..People::default()
        },
        others: Others::default(),
        events: if asked.at_once > 0.0 { vec![lose] } else { Vec::new() },
        expect: Expect::default(),
    }
}

#[cfg(test)]
mod tests {
    use rand::RngExt as _;

    use super::*;
    use crate::random::stream;

    fn is_near(a: f64, b: f64, part: f64) -> bool {
        (a / b - 1.0).abs() < part
    }

    /// Where nodes at random each hold half of the ring's part that makes so many copies, to either side.
    #[test]
    fn arcs_at_random_leave_holes() {
        let mut random = stream(1, "plan", 0);
        let (nodes, copies) = (1000, 3.0);
        let (mut holes, mut probes) = (0, 0);
        for _ in 0..400 {
            let places: Vec<f64> = (0..nodes).map(|_| random.random::<f64>()).collect();
            for _ in 0..50 {
                let probe = random.random::<f64>();
                let apart = |it: &f64| (it - probe).abs().min(1.0 - (it - probe).abs());
                probes += 1;
                let is_held = places.iter().any(|it| apart(it) < copies / nodes as f64 / 2.0);
                holes += u32::from(!is_held);
            }
        }
        let found = f64::from(holes) / f64::from(probes);
        assert!(is_near(found, uncovered(copies), 0.1), "{found}");
    }

    #[test]
    fn so_many_remain_when_many_go_at_once() {
        let mut random = stream(2, "plan", 0);
        let (copies, part) = (6, 0.4);
        let mut remaining = [0u32; 7];
        for _ in 0..200_000 {
            let stay = (0..copies).filter(|_| random.random::<f64>() >= part).count();
            remaining[stay] += 1;
        }
        let part_of = |count: u32| f64::from(count) / 200_000.0;
        assert!(is_near(part_of(remaining[0]), lost_at_once(copies, part), 0.1));
        let below = part_of(remaining[..3].iter().sum());
        assert!(is_near(below, fewer_remain(copies, part, 3), 0.03), "{below}");
        assert!(is_near(fewer_remain(20, 0.5, 21), 1.0, 1e-9));
        assert_eq!(fewer_remain(20, 0.5, 0), 0.0);
    }

    /// Copies that go one by one, and are all replaced a while after the last one went.
    #[test]
    fn losses_come_as_often_as_the_chain_says() {
        let mut random = stream(3, "plan", 0);
        let (copies, life, repair) = (3u32, 100.0, 20.0);
        let mut waits = |rate: f64| -(1.0 - random.random::<f64>()).ln() / rate;
        let (mut losses, mut time, mut left) = (0u32, 0.0, copies);
        while losses < 4000 {
            let goes = waits(f64::from(left) / life);
            let back = if left < copies { waits(1.0 / repair) } else { f64::INFINITY };
            time += goes.min(back);
            left = if back < goes { copies } else { left - 1 };
            if left == 0 {
                (losses, left) = (losses + 1, copies);
            }
        }
        let found = f64::from(losses) / time;
        // The formula leaves out the time that is spent with fewer copies.
        let said = loss_rate(copies, life, repair);
        assert!(found < said && is_near(found, said, 0.6), "{found} {said}");
        let (copies, life, repair) = (3u32, 10_000.0_f64, 20.0);
        let known = 6.0 * repair * repair / life.powi(3);
        assert!(is_near(loss_rate(copies, life, repair), known, 0.4));
    }

    /// The nearest nodes hold a location; so an arc ends half way to the one as many places away. Arcs next to
    /// each other are alike, which the formula leaves out: it says some per cent too much.
    #[test]
    fn the_longest_arc_is_as_long_as_it_should_be() {
        let mut random = stream(4, "plan", 0);
        for (nodes, copies) in [(2000usize, 20usize), (2000, 5), (500, 8)] {
            let mut sum = 0.0;
            for _ in 0..20 {
                let mut places: Vec<f64> = (0..nodes).map(|_| random.random::<f64>()).collect();
                places.sort_by(f64::total_cmp);
                let apart = |i: usize| {
                    let (low, high) = ((i + nodes - copies) % nodes, (i + copies) % nodes);
                    (places[high] - places[low]).rem_euclid(1.0) / 2.0
                };
                let longest = (0..nodes).map(apart).fold(0.0, f64::max);
                sum += longest * nodes as f64 / copies as f64;
            }
            let (found, said) = (sum / 20.0, longest_arc(nodes as f64, copies as u32));
            assert!(is_near(found, said, 0.1), "{found} {said}");
        }
        assert_eq!(longest_arc(10.0, 10), 1.0);
    }

    #[test]
    fn more_is_asked_for_more() {
        let base = Question::default();
        let copies = |asked: &Question| plan(asked).unwrap().copies.1;
        let usual = copies(&base);
        assert!((5..=30).contains(&usual), "{usual}");
        assert!(copies(&Question { at_once: 0.6, ..base.clone() }) > usual);
        assert!(copies(&Question { durability: 15.0, ..base.clone() }) > usual);
        let restless = Question { session: Span::secs(3600), online: 0.5, ..base.clone() };
        assert!(copies(&restless) >= usual);
        assert!(plan(&restless).unwrap().traffic.away > plan(&base).unwrap().traffic.away);
        let answer = plan(&base).unwrap();
        assert!(answer.durability >= 9.0 && answer.at_once >= 9.0 && answer.availability >= 5.0);
        assert!(answer.copies.0 >= 2 && answer.copies.0 <= answer.copies.1);
        // Ten gigabytes, so many copies and a quarter, on 900 of 1000 nodes.
        assert!(is_near(answer.disk.0, 10e9 * f64::from(usual) * 1.25 / 900.0, 1e-9));
    }

    #[test]
    fn senseless_questions_get_no_answer() {
        let base = Question::default;
        let wrong = [
            (Question { nodes: 1, ..base() }, "nodes"),
            (Question { online: 0.0, ..base() }, "online"),
            (Question { online: f64::NAN, ..base() }, "online"),
            (Question { session: Span::secs(1), ..base() }, "session"),
            (Question { life: Span::secs(60), ..base() }, "life"),
            (Question { bytes: 0.0, ..base() }, "bytes"),
            (Question { written: -1.0, ..base() }, "written"),
            (Question { up: 0.0, ..base() }, "up"),
            (Question { down: f64::INFINITY, ..base() }, "down"),
            (Question { room: Some(0.0), ..base() }, "room"),
            (Question { patience: Span::secs(0), ..base() }, "patience"),
            (Question { durability: 0.0, ..base() }, "durability"),
            (Question { availability: 101.0, ..base() }, "availability"),
            (Question { at_once: 1.0, ..base() }, "at_once"),
        ];
        for (asked, wrong) in wrong {
            match plan(&asked) {
                Err(PlanError::Field { field, .. }) => assert_eq!(field, wrong),
                other => panic!("{wrong}: {other:?}"),
            }
        }
        let fails = |asked: Question| plan(&asked).unwrap_err();
        assert!(matches!(
            fails(Question { nodes: 10, ..base() }),
            PlanError::Nodes { nodes: 10, .. }
        ));
        assert!(matches!(fails(Question { room: Some(1e6), ..base() }), PlanError::Room { .. }));
        let much = Question { written: 1e15, ..base() };
        assert!(matches!(fails(much), PlanError::Bandwidth { .. }));
        let fragile = Question { at_once: 0.99, ..base() };
        assert_eq!(fails(fragile), PlanError::Copies { most: 255 });
    }
}
