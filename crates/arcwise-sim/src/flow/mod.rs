//! Networks of up to a million nodes, of which only the arcs are simulated.
//!
//! Each node decides on its arc with the shipping [`Sizing`](arcwise_proto::swarm::Sizing) and judges others
//! with the shipping [`Quality`]. There are no messages: what a node knows of others is what was true some
//! seconds before, see [`Delays`]; what it lacks comes at a rate, from nodes that truly hold it. Data is spread
//! evenly over the ring. Time goes by seconds, and in each of them all see the same past; so it does not
//! matter how many threads look.
//!
//! What is left out: connections and who has them (everybody knows those near it, and all know the same of
//! them), look-ups, the merge guard, networks that fall apart ([`What::Cut`]), and
//! what a node missed while it was away.

mod cover;
mod people;
mod rule;

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use arcwise_proto::{
    id::NodeId,
    ring::{ArcSet, Location, RING},
    swarm::{Copies, Neighbour, Quality},
    time::Time,
};

use self::{
    cover::{Cover, Reach},
    people::{Kind, People, Turn},
    rule::{Controller, View},
};
use crate::{
    random::mixed,
    results::{Bytes, Results, SECTORS, Sample, Summary},
    scenario::{Scenario, What},
};

pub use self::rule::{LIB3H_LOOKS, Rule};

/// How long things take that are no events of their own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Delays {
    /// Until others know what a node says of itself. A record goes on once a second to those who are
    /// connected, and nearly all who are near are one or two connections away.
    pub told: Duration,
    /// Until it is noticed that a node does not answer any more: QUIC's timeout.
    pub lost: Duration,
    /// From one look to the next, where things change all the time. A node looks after 200 ms; but of what it
    /// waits for nothing is shorter than three seconds.
    pub look: Duration,
    /// Until a newcomer aims at anything: it finds out first who is near.
    pub settle: Duration,
    /// Until filling begins: connecting, and a first session.
    pub fill: Duration,
    /// Until what is given up is dropped from the disk, where enough others hold it.
    pub grace: Duration,
}

impl Default for Delays {
    fn default() -> Self {
        let seconds = Duration::from_secs;
        Self {
            told: seconds(2),
            lost: seconds(30),
            look: seconds(1),
            settle: seconds(3),
            fill: seconds(1),
            grace: seconds(600),
        }
    }
}

/// What is simulated, besides the scenario.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Options {
    /// How nodes decide.
    pub rule: Rule,
    /// How long things take.
    pub delays: Delays,
    /// Whether nodes that are there from the beginning get what they are to hold at once, and not from others:
    /// to look at a network that has been there for long.
    pub settled: bool,
    /// How many threads look.
    pub threads: usize,
}

impl Default for Options {
    fn default() -> Self {
        Self { rule: Rule::Arcwise, delays: Delays::default(), settled: false, threads: 2 }
    }
}

/// In a settled network, so long after the last node has started nothing is given from nowhere any more.
const SETTLED: u32 = 120;

/// Weights that change with time alone are looked at so often. A node does each ten seconds.
const IDLE: u32 = 30;

/// A peer is presumed gone when it is away for so many times as long as it may be, and it never was away for
/// long: as `arcwise_proto::swarm` has it.
const GONE: u32 = 5;

/// Who is away is tried so often, in the end.
const RETRY: u32 = 600;

/// What is filled comes from so many nodes at a time, on either side.
const GIVERS: usize = 4;

/// From this part of the ring on, what a node holds is of use to those that are not near it.
const LARGE: u64 = RING / 64;

/// Lists of fewer nodes are not worth a second thread.
const FEW: usize = 512;

/// The first and the second audit of a node that fails come so long after it was met.
const AUDITS: [u32; 2] = [60, 120];

/// At most so many samples are taken.
const SAMPLES: u32 = 360;

/// Simulates with what [`Options::default`] says, but for the rule. `progress` is told which part is done.
pub fn run(scenario: &Scenario, seed: u64, rule: Rule, progress: &mut dyn FnMut(f64)) -> Results {
    run_with(scenario, seed, Options { rule, ..Options::default() }, progress)
}

/// Simulates.
pub fn run_with(
    scenario: &Scenario,
    seed: u64,
    options: Options,
    progress: &mut dyn FnMut(f64),
) -> Results {
    let mut flow = Flow::new(scenario, seed, options);
    for now in 0..=flow.length {
        flow.second(now);
        if now.is_multiple_of(flow.every) {
            flow.sample();
            progress(f64::from(now) / f64::from(flow.length));
        }
    }
    progress(1.0);
    flow.results(seed)
}

/// What is to happen to one node at a time.
#[derive(Clone, Copy, Debug)]
enum Due {
    /// Others know of this stay of it.
    Met(u32),
    /// Others know that it aims at this arc, and claims that one.
    Told(Reach, Reach),
    /// Others have lost it, who was there for this stay.
    Lost(u32),
    /// How it counts is to be looked at, while it is off after this stay.
    Weigh(u32),
    /// Others try to reach it, who is off after this stay.
    Retry(u32),
    /// It is to prove that it holds something.
    Audit,
    /// Something has changed for it.
    Look,
    /// It has waited for something.
    Wake,
    /// What it has given up may be dropped.
    Drop,
}

struct Node {
    location: Location,
    kind: Kind,
    limited: bool,
    on: bool,
    /// Which stay this is, or the last one was.
    stay: u32,
    /// What it aims at, what it claims truly, and what its disk has.
    target: Reach,
    held: Reach,
    disk: Reach,
    /// When it last looked, whether it is going to, and when it wants to in any case.
    looked: u32,
    queued: bool,
    wakes: Option<u32>,
    /// Whether it is filling, and from when on.
    filling: Option<u32>,
    dropping: bool,
    /// Whether its target has changed since the last sample, and in the last third.
    changed: bool,
    changed_late: bool,
    quality: Quality,
}

struct Flow<'a> {
    scenario: &'a Scenario,
    options: Options,
    copies: Copies,
    people: People,
    /// By location, as all that follow.
    nodes: Vec<Node>,
    deciders: Vec<Controller>,
    /// What everybody knows of everybody.
    known: Vec<Neighbour>,
    /// Nodes that fill, and for each node how many it gives to at the moment.
    filling: Vec<u32>,
    serving: Vec<u32>,
    /// Who holds much.
    large: BTreeSet<u32>,
    cover: Cover,
    due: BTreeMap<u32, Vec<(u32, Due)>>,
    next_turn: usize,
    now: u32,
    length: u32,
    every: u32,
    on: usize,
    filled: f64,
    samples: Vec<Sample>,
    looks: u64,
    lost: f64,
    hasher: blake3::Hasher,
    seed: u64,
}

impl<'a> Flow<'a> {
    fn new(scenario: &'a Scenario, seed: u64, options: Options) -> Self {
        let people = People::new(scenario, seed);
        let (least, wanted) = scenario.copies;
        let copies = Copies::new(least, wanted).unwrap_or_default();
        let neighbour = |node: NodeId, location: Location| Neighbour {
            node,
            location,
            arcs: ArcSet::empty(),
            store: ArcSet::empty(),
            weight: 0.0,
            away: false,
        };
        let length = scenario.length.0.as_secs() as u32;
        let mut flow = Self {
            scenario,
            options,
            copies,
            nodes: people.all.iter().map(Node::new).collect(),
            deciders: Vec::with_capacity(people.all.len()),
            known: people.all.iter().map(|it| neighbour(it.node, it.location)).collect(),
            filling: Vec::new(),
            serving: vec![0; people.all.len()],
            large: BTreeSet::new(),
            cover: Cover::new(scenario.nodes, SECTORS, least),
            due: BTreeMap::new(),
            next_turn: 0,
            now: 0,
            length,
            every: length.div_ceil(SAMPLES).max(10),
            on: 0,
            filled: 0.0,
            samples: Vec::new(),
            looks: 0,
            lost: 0.0,
            hasher: blake3::Hasher::new(),
            seed,
            people,
        };
        for i in 0..flow.nodes.len() {
            let decider = flow.decider(i, Reach::default());
            flow.deciders.push(decider);
        }
        let full =
            if options.rule == Rule::Kitsune { Reach { up: RING, down: 0 } } else { Reach::FULL };
        let first = flow.people.first as usize;
        if !options.settled {
            flow.nodes[first].target = full;
            flow.disk(first, full);
            flow.nodes[first].held = full;
        }
        flow
    }

    fn decider(&self, i: usize, target: Reach) -> Controller {
        let (person, patience) = (&self.people.all[i], self.scenario.patience.0);
        let seed = mixed(mixed(self.seed ^ i as u64) ^ u64::from(self.nodes[i].stay));
        Controller::new(self.options.rule, person.node, person.location, target, patience, seed)
    }

    fn time(&self) -> Time {
        Time::ZERO + Duration::from_secs(self.now.into())
    }

    fn after(&mut self, wait: Duration, i: usize, due: Due) {
        self.at(self.now + wait.as_secs() as u32, i, due);
    }

    fn at(&mut self, at: u32, i: usize, due: Due) {
        self.due.entry(at.max(self.now)).or_default().push((i as u32, due));
    }

    fn second(&mut self, now: u32) {
        self.now = now;
        while let Some(&(at, who, turn)) = self.people.turns.get(self.next_turn)
            && at <= now
        {
            self.next_turn += 1;
            self.turn(who as usize, turn);
        }
        let mut looks = Vec::new();
        while let Some(entry) = self.due.first_entry()
            && *entry.key() <= now
        {
            for (i, due) in entry.remove() {
                self.happens(i as usize, due, &mut looks);
            }
        }
        self.age(&mut looks);
        self.look(looks);
        self.fill();
        self.cover.count_from(now);
    }

    fn turn(&mut self, i: usize, turn: Turn) {
        let node = &mut self.nodes[i];
        let held = node.held;
        if turn == Turn::On {
            node.on = true;
            node.stay += 1;
            let (stay, target, is_new) = (node.stay, node.target, node.target.is_empty());
            self.on += 1;
            self.deciders[i] = self.decider(i, target);
            self.claim(i, Reach::default(), held);
            let delays = self.options.delays;
            self.after(delays.told, i, Due::Met(stay));
            self.after(if is_new { delays.settle } else { delays.told }, i, Due::Look);
            if !target.is_empty() {
                self.tell(i, target);
                self.start_filling(i);
            }
            return;
        }
        node.on = false;
        let stay = node.stay;
        self.on -= 1;
        self.claim(i, held, Reach::default());
        if turn == Turn::Gone {
            self.disk(i, Reach::default());
            let node = &mut self.nodes[i];
            (node.held, node.target, node.dropping) = (Reach::default(), Reach::default(), false);
        }
        self.after(self.options.delays.lost, i, Due::Lost(stay));
    }

    fn happens(&mut self, i: usize, due: Due, looks: &mut Vec<u32>) {
        let (now, time) = (self.now, self.time());
        let node = &mut self.nodes[i];
        match due {
            Due::Met(stay) if node.on && node.stay == stay => {
                node.quality.up(time);
                let is_liar = node.kind == Kind::Liar;
                self.weigh(i, true);
                if is_liar {
                    AUDITS.iter().for_each(|after| self.at(now + after, i, Due::Audit));
                }
            }
            Due::Told(target, held) => self.told(i, target, held),
            Due::Lost(stay) if !node.on && node.stay == stay => {
                // Lost, and not reached again within seconds.
                (0..4).for_each(|_| node.quality.down(time));
                let patience = self.scenario.patience.0;
                self.weigh(i, true);
                self.after(patience, i, Due::Weigh(stay));
                self.after(patience * GONE, i, Due::Weigh(stay));
                self.at(now + RETRY, i, Due::Retry(stay));
            }
            Due::Weigh(stay) if !node.on && node.stay == stay => self.weigh(i, true),
            Due::Retry(stay) if !node.on && node.stay == stay => {
                node.quality.down(time);
                if !node.disk.is_empty() {
                    self.at(now + RETRY, i, Due::Retry(stay));
                }
            }
            Due::Audit => {
                node.quality.audited(time, node.kind != Kind::Liar);
                self.weigh(i, true);
            }
            Due::Look => {
                node.queued = false;
                looks.push(i as u32);
            }
            Due::Wake if node.wakes == Some(now) => looks.push(i as u32),
            Due::Drop => self.drop_outside(i),
            _ => {}
        }
    }

    /// How a node counts for others changes with time and with what they see of it.
    fn weigh(&mut self, i: usize, is_news: bool) {
        let (time, patience) = (self.time(), self.scenario.patience.0);
        let quality = &self.nodes[i].quality;
        let copy = quality.copy(time);
        let is_gone = quality.presumed_gone(time, patience * GONE);
        let away = quality.absent(time).is_some_and(|it| it >= patience);
        let weight = if is_gone { 0.0 } else { copy };
        let known = &mut self.known[i];
        if known.weight == weight && known.away == away {
            return;
        }
        let less = weight < known.weight || away;
        (known.weight, known.away) = (weight, away);
        if !is_news {
            return;
        }
        self.near(i, |flow, other, apart| {
            // From half way on, what it holds is nearer to it.
            let half = apart.unsigned_abs() / 2;
            if half <= flow.nodes[other].horizon(apart > 0, less) {
                flow.queue(other);
            }
        });
    }

    /// Others know of its arcs.
    fn told(&mut self, i: usize, reach: Reach, held: Reach) {
        let location = self.nodes[i].location;
        let claimed = rule::reach(location, &self.known[i].store);
        self.known[i].store = rule::arc(location, held).into();
        let before = rule::reach(location, &self.known[i].arcs);
        self.known[i].arcs = rule::arc(location, reach).into();
        // What it claims matters where others could give up something, so only where it is more.
        let before = if reach == before && held.len() > claimed.len() { claimed } else { before };
        let edges = [(before.up as i64, reach.up as i64), (before.down as i64, reach.down as i64)];
        self.near(i, |flow, other, apart| {
            let node = &flow.nodes[other];
            if concerns(node, edges[0], apart, true) || concerns(node, edges[1], -apart, false) {
                flow.queue(other);
            }
        });
    }

    /// All who know of a node, and how far up from it they are.
    fn near(&mut self, i: usize, mut each: impl FnMut(&mut Self, usize, i64)) {
        let n = self.nodes.len();
        let location = self.nodes[i].location;
        let wanted = 4.0 * f64::from(self.copies.target());
        for up in [true, false] {
            let (mut seen, mut at) = (0.0, i);
            for _ in 0..n / 2 {
                at = if up { (at + 1) % n } else { (at + n - 1) % n };
                seen += self.known[at].weight;
                let there = self.nodes[at].location;
                let apart = match up {
                    true => i64::from(there.0.wrapping_sub(location.0)),
                    false => -i64::from(location.0.wrapping_sub(there.0)),
                };
                if self.nodes[at].on {
                    each(self, at, apart);
                }
                if seen >= wanted {
                    break;
                }
            }
        }
    }

    fn queue(&mut self, i: usize) {
        let node = &mut self.nodes[i];
        if node.on && !node.queued && !node.is_new() {
            node.queued = true;
            let at = node.looked + self.options.delays.look.as_secs() as u32;
            self.at(at, i, Due::Look);
        }
    }

    /// Weights go up and down with time.
    fn age(&mut self, looks: &mut Vec<u32>) {
        let (n, now) = (self.nodes.len(), self.now);
        for i in ((now % IDLE) as usize..n).step_by(IDLE as usize) {
            if self.known[i].weight > 0.0 && (self.known[i].weight < 1.0 || !self.nodes[i].on) {
                self.weigh(i, false);
            }
            let node = &self.nodes[i];
            if node.on && !node.is_new() && (self.scenario.people.session.is_some() || node.limited)
            {
                looks.push(i as u32);
            }
        }
    }

    /// All these look, each at the same past.
    fn look(&mut self, mut list: Vec<u32>) {
        list.sort_unstable();
        list.dedup();
        list.retain(|i| {
            let node = &self.nodes[*i as usize];
            node.on && node.kind != Kind::Rider
        });
        self.looks += list.len() as u64;
        for i in &list {
            self.nodes[*i as usize].looked = self.now;
        }
        let seen = Seen {
            now: self.time(),
            copies: self.copies,
            room: self.room(),
            nodes: &self.nodes,
            known: &self.known,
        };
        let threads = if list.len() < FEW { 1 } else { self.options.threads.max(1) };
        let decided = if threads == 1 {
            seen.look(&list, 0, &mut self.deciders)
        } else {
            std::thread::scope(|scope| {
                let (mut rest, mut from) = (self.deciders.as_mut_slice(), 0);
                let mut running = Vec::new();
                for part in list.chunks(list.len().div_ceil(threads)) {
                    let end = part.last().map_or(from, |last| *last as usize + 1);
                    let (these, others) = std::mem::take(&mut rest).split_at_mut(end - from);
                    let (seen, first) = (&seen, from);
                    running.push(scope.spawn(move || seen.look(part, first, these)));
                    (rest, from) = (others, end);
                }
                let done = running.into_iter().map(|it| it.join());
                done.flat_map(|part| part.unwrap_or_default()).collect()
            })
        };
        for (i, target, wakes) in decided {
            let i = i as usize;
            self.nodes[i].wakes = wakes;
            if let Some(at) = wakes {
                self.at(at.max(self.now + 1), i, Due::Wake);
                self.nodes[i].wakes = Some(at.max(self.now + 1));
            }
            if let Some(target) = target {
                self.aim(i, target);
            }
        }
    }

    /// The most locations that a node with a quota has room for: as `Swarm::room` in `arcwise_proto` has it.
    fn room(&self) -> Option<u64> {
        let quota = self.scenario.disk.quota;
        (quota > 0).then(|| (quota as f64 / self.bytes().max(1.0) * 0.9 * RING as f64) as u64)
    }

    fn aim(&mut self, i: usize, target: Reach) {
        self.hasher.update(&self.now.to_le_bytes());
        self.hasher.update(&(i as u32).to_le_bytes());
        self.hasher.update(&target.up.to_le_bytes());
        self.hasher.update(&target.down.to_le_bytes());
        let late = self.now * 3 >= self.length * 2;
        let node = &mut self.nodes[i];
        node.changed = true;
        node.changed_late |= late;
        node.target = target;
        if node.kind == Kind::Liar {
            let four = |side: u64| (side * 4).min(RING / 2);
            let told = Reach { up: four(target.up), down: four(target.down) };
            self.after(self.options.delays.told, i, Due::Told(told, told));
            return;
        }
        let node = &self.nodes[i];
        let (held, disk) = (node.held, node.disk);
        // What it still has is claimed at once; what is outside is claimed no more.
        self.hold(i, held.or(disk).and(target));
        if self.deciders[i].hands_over() {
            let node = &mut self.nodes[i];
            if node.disk.or(target) != target && !node.dropping {
                node.dropping = true;
                self.after(self.options.delays.grace, i, Due::Drop);
            }
        } else {
            self.disk(i, self.nodes[i].held);
        }
        self.tell(i, target);
        self.start_filling(i);
    }

    fn tell(&mut self, i: usize, target: Reach) {
        let held = self.nodes[i].held.and(target);
        self.after(self.options.delays.told, i, Due::Told(target, held));
    }

    /// Drops what is outside of what it aims at, where enough others have it.
    fn drop_outside(&mut self, i: usize) {
        let node = &mut self.nodes[i];
        node.dropping = false;
        let (disk, kept, location, on) =
            (node.disk, node.disk.and(node.target), node.location, node.on);
        if disk == kept {
            return;
        }
        let sides = [
            (kept.up as u32, disk.up - kept.up, true),
            (kept.down as u32, disk.down - kept.down, false),
        ];
        let enough = sides.iter().all(|(from, len, up)| {
            let (from, reach) = match up {
                true => (location.0.wrapping_add(*from), Reach { up: *len, down: 0 }),
                false => (location.0.wrapping_sub(*from), Reach { up: 0, down: *len }),
            };
            let least = self.cover.least(Location(from), reach);
            least.is_none_or(|least| least >= self.copies.min())
        });
        if enough && on {
            self.disk(i, kept);
        } else {
            self.nodes[i].dropping = true;
            self.at(self.now + 60, i, Due::Drop);
        }
    }

    fn hold(&mut self, i: usize, held: Reach) {
        let before = std::mem::replace(&mut self.nodes[i].held, held);
        if self.nodes[i].on {
            self.claim(i, before, held);
        }
        self.disk(i, self.nodes[i].disk.or(held));
    }

    fn claim(&mut self, i: usize, before: Reach, after: Reach) {
        self.cover.claim(self.now, self.nodes[i].location, before, after);
        match after.len() >= LARGE {
            true => self.large.insert(i as u32),
            false => self.large.remove(&(i as u32)),
        };
    }

    fn disk(&mut self, i: usize, after: Reach) {
        let before = std::mem::replace(&mut self.nodes[i].disk, after);
        let lost = self.cover.lost;
        self.cover.keep(self.nodes[i].location, before, after);
        let lost = (self.cover.lost - lost) as f64 / self.cover.points() as f64;
        self.lost += lost * self.published(self.now) as f64;
    }

    fn start_filling(&mut self, i: usize) {
        let from = self.now + self.options.delays.fill.as_secs() as u32;
        let node = &mut self.nodes[i];
        if node.held != node.target && node.kind == Kind::Honest && node.filling.is_none() {
            node.filling = Some(from);
            self.filling.push(i as u32);
        }
    }

    /// Everybody who lacks something gets some of it.
    fn fill(&mut self) {
        let filling = std::mem::take(&mut self.filling);
        let from_nowhere = self.options.settled && self.now <= self.people.started + SETTLED;
        let mut wishes = Vec::new();
        for i in filling {
            let node = &mut self.nodes[i as usize];
            if !node.on || node.held == node.target {
                node.filling = None;
                let (on, target) = (node.on, node.target);
                if on {
                    self.tell(i as usize, target);
                }
                continue;
            }
            self.filling.push(i);
            if from_nowhere {
                let target = node.target;
                self.hold(i as usize, target);
            } else if node.filling.is_some_and(|from| from <= self.now) {
                let sides = [self.givers(i as usize, true), self.givers(i as usize, false)];
                for giver in sides.iter().flatten() {
                    self.serving[*giver as usize] += 1;
                }
                wishes.push((i as usize, sides));
            }
        }
        let rates: Vec<f64> = wishes.iter().map(|(_, sides)| self.rate(sides)).collect();
        for (_, sides) in &wishes {
            for giver in sides.iter().flatten() {
                self.serving[*giver as usize] = 0;
            }
        }
        for ((i, sides), rate) in wishes.into_iter().zip(rates) {
            self.fetch(i, [!sides[0].is_empty(), !sides[1].is_empty()], rate);
        }
    }

    /// Who can give what comes next on one side.
    fn givers(&self, i: usize, up: bool) -> Vec<u32> {
        let node = &self.nodes[i];
        let lacks = match up {
            true => node.held.up < node.target.up,
            false => node.held.down < node.target.down,
        };
        if !lacks {
            return Vec::new();
        }
        let wanted = Location(match up {
            true => node.location.0.wrapping_add(node.held.up as u32),
            false => node.location.0.wrapping_sub(node.held.down as u32).wrapping_sub(1),
        });
        let holds = |other: &usize| {
            let it = &self.nodes[*other];
            it.on && *other != i && it.held.covers(it.location, wanted)
        };
        let n = self.nodes.len();
        let far = (n / 2).min(4 * self.copies.target() as usize);
        let near = (1..=far).flat_map(|step| [(i + step) % n, (i + n - step) % n]);
        let mut givers: Vec<u32> =
            near.filter(holds).take(GIVERS).map(|other| other as u32).collect();
        if givers.is_empty() {
            let (after, before) = (self.large.range(i as u32..), self.large.range(..i as u32));
            let large = after.chain(before).copied().filter(|other| holds(&(*other as usize)));
            givers.extend(large.take(GIVERS));
        }
        givers
    }

    /// Bytes a second.
    fn rate(&self, sides: &[Vec<u32>; 2]) -> f64 {
        let network = &self.scenario.network;
        let limit = |bits: f64| if bits > 0.0 { bits / 8.0 } else { f64::INFINITY };
        let given = sides
            .iter()
            .flatten()
            .map(|giver| limit(network.up) / f64::from(self.serving[*giver as usize].max(1)));
        given.sum::<f64>().min(limit(network.down))
    }

    fn fetch(&mut self, i: usize, sides: [bool; 2], rate: f64) {
        let node = &self.nodes[i];
        let lacking = |side: bool, target: u64, held: u64| {
            if side { target.saturating_sub(held) } else { 0 }
        };
        let up = lacking(sides[0], node.target.up, node.held.up);
        let down = lacking(sides[1], node.target.down, node.held.down);
        let density = self.bytes() / RING as f64;
        let part = match rate / density / (up + down).max(1) as f64 {
            part if part < 1.0 => part,
            _ => 1.0,
        };
        let more = |lacking: u64| (lacking as f64 * part).ceil() as u64;
        let (up, down) = (more(up), more(down));
        let held = Reach { up: node.held.up + up, down: node.held.down + down };
        self.filled += (up + down) as f64 * density;
        self.hold(i, held);
    }

    /// Entries published up to then.
    fn published(&self, now: u32) -> u64 {
        let people = &self.scenario.people;
        let quiet = (self.scenario.length.0 - self.scenario.quiet.0).as_secs() as u32;
        let minutes = f64::from(now.min(quiet).saturating_sub(60)) / 60.0;
        people.entries as u64 + (minutes * people.publishing) as u64
    }

    /// Of the whole space, now.
    fn bytes(&self) -> f64 {
        self.published(self.now) as f64 * f64::from(self.scenario.people.size)
    }

    fn sample(&mut self) {
        let (copies, below_min) = self.cover.levels(SECTORS);
        let on = self.nodes.iter().filter(|it| it.on && it.kind != Kind::Rider);
        let mut arcs: Vec<f64> = on.map(|it| it.target.fraction()).collect();
        arcs.sort_by(f64::total_cmp);
        let at = |i: usize| arcs.get(i).copied().unwrap_or(0.0);
        let mean = arcs.iter().sum::<f64>() / arcs.len().max(1) as f64;
        let arcs = (at(0), at(arcs.len() / 2), mean, at(arcs.len().saturating_sub(1)));
        let honest = self.nodes.iter().filter(|it| it.on && it.kind == Kind::Honest);
        let lacking: f64 =
            honest.map(|it| it.target.fraction() - it.target.and(it.held).fraction()).sum();
        let changed = self.nodes.iter_mut().map(|it| usize::from(std::mem::take(&mut it.changed)));
        let sample = Sample {
            at: f64::from(self.now),
            nodes: self.on,
            copies,
            below_min,
            arcs,
            changed: changed.sum(),
            lacking: (lacking * self.published(self.now.saturating_sub(60)) as f64) as u64,
            published: self.published(self.now),
            lost: self.lost.round() as u64,
            connections: 0,
            bytes: self.sent(),
        };
        self.hasher.update(format!("{sample:?}").as_bytes());
        self.samples.push(sample);
    }

    /// What is new goes to each of its copies once, by arithmetic; what is filled is counted.
    fn sent(&self) -> Bytes {
        let new = self.published(self.now) - self.scenario.people.entries as u64;
        let pushed = new as f64 * f64::from(self.scenario.people.size) * self.cover.mean();
        Bytes { gossip: self.filled as u64, push: pushed as u64, ..Default::default() }
    }

    fn results(self, seed: u64) -> Results {
        let hours = f64::from(self.length) / 3600.0;
        let last = self.samples.last().cloned().unwrap_or_default();
        let held: Vec<f64> = self
            .nodes
            .iter()
            .filter(|it| it.on && !it.held.is_empty())
            .map(|it| it.held.fraction())
            .collect();
        let mean = held.iter().sum::<f64>() / held.len().max(1) as f64;
        let most = held.iter().copied().fold(0.0, f64::max);
        let late = self.nodes.iter().filter(|it| it.changed_late).count() as f64;
        let nodes = self.samples.iter().map(|it| it.nodes as f64).sum::<f64>()
            / self.samples.len().max(1) as f64;
        let each = |bytes: u64| (bytes as f64 / nodes.max(1.0) / hours) as u64;
        let most_held = self.nodes.iter().map(|it| it.disk.fraction()).fold(0.0, f64::max);
        let summary = Summary {
            seconds: f64::from(self.length),
            nodes: self.on,
            published: last.published,
            acknowledged: 0,
            lost: (last.lost, 0),
            copies: last.copies,
            below_min: match self.nodes.len() > self.copies.min() as usize {
                true => f64::from(self.cover.longest(self.now)),
                false => 0.0,
            },
            load: if mean > 0.0 { most / mean } else { 0.0 },
            changing: late / nodes.max(1.0) / (hours / 3.0),
            bytes: Bytes {
                gossip: each(last.bytes.gossip),
                push: each(last.bytes.push),
                ..Default::default()
            },
            most_held: (most_held * self.bytes()) as u64,
            events: self.looks,
            ..Summary::default()
        };
        let missed = self.missed(&summary);
        Results {
            scenario: self.scenario.clone(),
            seed,
            rule: Some(self.options.rule),
            violations: Vec::new(),
            missed,
            samples: self.samples,
            summary,
            fingerprint: self.hasher.finalize().to_hex().to_string(),
        }
    }

    fn missed(&self, summary: &Summary) -> Vec<String> {
        let expect = &self.scenario.expect;
        let mut missed = Vec::new();
        let allowed = expect.below_min.0.as_secs_f64();
        if summary.below_min > allowed {
            missed.push(format!(
                "somewhere there were too few copies for {} s, and {allowed} s are allowed",
                summary.below_min
            ));
        }
        if summary.load > expect.load {
            missed.push(format!("a node holds {:.2} times the mean", summary.load));
        }
        if summary.changing > expect.changing {
            missed.push(format!(
                "{:.2} % of the nodes change their target in an hour",
                summary.changing * 100.0
            ));
        }
        if summary.lost.0 as f64 > expect.lost * summary.published as f64 {
            missed.push(format!("{} aspects are lost", summary.lost.0));
        }
        if self.scenario.events.iter().any(|event| matches!(event.what, What::Cut { .. })) {
            missed.push("networks that fall apart are not simulated without messages".to_owned());
        }
        missed
    }
}

impl Node {
    fn new(person: &people::Person) -> Self {
        Self {
            location: person.location,
            kind: person.kind,
            limited: person.limited,
            on: false,
            stay: 0,
            target: Reach::default(),
            held: Reach::default(),
            disk: Reach::default(),
            looked: 0,
            queued: false,
            wakes: None,
            filling: None,
            dropping: false,
            changed: false,
            changed_late: false,
            quality: Quality::default(),
        }
    }

    /// It aims at nothing yet.
    fn is_new(&self) -> bool {
        self.target.is_empty()
    }

    /// So far it looks to one side: for what it could give up, as far as it aims, and for what it could lack,
    /// as far again. What it waits for it will look at anyway.
    fn horizon(&self, down: bool, less: bool) -> u64 {
        let aim = if down { self.target.down } else { self.target.up };
        aim * if less { 2 } else { 1 }
    }
}

/// Whether a change of another's arc, from one length to another on one side, matters to a node that is so
/// far from it towards that side.
fn concerns(node: &Node, (before, after): (i64, i64), apart: i64, up: bool) -> bool {
    let (from, to) = (before.min(after), before.max(after));
    // To all that has changed, it is nearer than the other.
    if from == to || (0..=2 * from).contains(&apart) {
        return false;
    }
    let (is_above, distance) = match apart {
        apart if apart < from => (false, from - apart),
        apart if apart > to => (true, apart - to),
        _ => return true,
    };
    distance <= node.horizon(is_above == up, after < before) as i64
}

/// What nodes look at.
struct Seen<'a> {
    now: Time,
    copies: Copies,
    room: Option<u64>,
    nodes: &'a [Node],
    known: &'a [Neighbour],
}

/// Who has looked, what it aims at where that is new, and when it is to look again.
type Decided = (u32, Option<Reach>, Option<u32>);

impl Seen<'_> {
    /// The deciders are those from `first` on.
    fn look(&self, list: &[u32], first: usize, deciders: &mut [Controller]) -> Vec<Decided> {
        list.iter()
            .map(|i| {
                let decider = &mut deciders[*i as usize - first];
                let target = self.decide(*i as usize, decider);
                let wakes = decider.next_look().map(|at| at.as_micros().div_ceil(1_000_000) as u32);
                (*i, target, wakes)
            })
            .collect()
    }

    fn decide(&self, i: usize, decider: &mut Controller) -> Option<Reach> {
        let (node, n) = (&self.nodes[i], self.nodes.len());
        let (down, up) = (self.far(i, false), self.far(i, true));
        let whole = down + up + 1 >= n;
        let (from, count) = if whole { (0, n) } else { ((i + n - down) % n, down + up + 1) };
        let max_len = self.room.filter(|_| node.limited);
        let own = node.target.or(node.held);
        let mut look = |known: &[Neighbour]| {
            let view = View { known, whole, own };
            decider.look(self.now, &view, node.location, self.copies, max_len)
        };
        match self.known.get(from..from + count) {
            Some(known) => look(known),
            None => {
                let known = self.known.iter().cycle().skip(from).take(count);
                look(&known.cloned().collect::<Vec<_>>())
            }
        }
    }

    /// How many places on one side it takes to see as many nodes as a node should know: by what they count,
    /// since who counts for little is not enough.
    fn far(&self, i: usize, up: bool) -> usize {
        let n = self.nodes.len();
        let wanted = 4.0 * f64::from(self.copies.target());
        let mut seen = 0.0;
        for step in 1..=n / 2 {
            let at = if up { (i + step) % n } else { (i + n - step) % n };
            seen += self.known[at].weight;
            if seen >= wanted {
                return step;
            }
        }
        n / 2
    }
}

#[cfg(test)]
mod tests;
