//! What people do: they switch nodes on and off, publish, and look things up; and who the nodes are.

use std::{cmp::Reverse, collections::BinaryHeap, time::Duration};

use arcwise_proto::{
    Aspect, AuthorKey, EntryAddress, NodeId, SpaceId, Time,
    limits::{ASPECT_OVERHEAD, MAX_ASPECT_DATA},
    ring::RING,
    swarm::Copies,
};
use rand::{Rng as _, RngExt as _};

use crate::{
    disk::Disk,
    event::{Event, How, Sent, WORLD},
    network::{Cut, Network},
    node::{Node, Profile, Role, World},
    random::{self, Random, heavy},
    run::BEGINNING,
    scenario::{self, Scenario, What},
    watch::Watch,
};

/// Whom a newcomer knows: as many as a ticket names.
const CONTACTS: usize = 4;

/// Publishing begins then.
const PUBLISHING: Duration = Duration::from_secs(60);

/// The last look-ups begin so long before the end.
const ASKING: Duration = Duration::from_secs(40);

/// People, and what they are going to do.
#[derive(Debug)]
pub(crate) struct People {
    random: Random,
    of: scenario::People,
    quiet_at: Time,
    end: Time,
    plans: BinaryHeap<Reverse<(Time, u64, Plan)>>,
    number: u64,
    /// By index.
    pub(crate) nodes: Vec<Person>,
    /// Those that were never on.
    fresh: Vec<u32>,
    entries: Vec<EntryAddress>,
    /// What happens, and when, for reports.
    cuts: Vec<(Time, Time)>,
    sequence: u64,
}

/// One node, as people see it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Person {
    pub(crate) on: bool,
    pub(crate) gone: bool,
    pub(crate) role: Role,
    pub(crate) unreachable: bool,
    /// How often it was switched on.
    starts: u32,
    /// On which side of cuts.
    pub(crate) apart: bool,
}

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Plan {
    Start(u32),
    /// It is still the so-manieth time that it is on.
    Stop(u32, u32),
    StopFor(u32, u64),
    Newcomer,
    Publish,
    Ask,
    /// The so-manieth event of the scenario.
    Event(usize),
}

impl People {
    pub(crate) fn new(scenario: &Scenario, seed: u64, check: bool) -> (Self, World, Vec<Node>) {
        let mut random = random::stream(seed, "people", 0);
        let all = scenario.nodes + spares(scenario);
        let end = BEGINNING + scenario.length.0;
        let quiet_at = BEGINNING + (scenario.length.0 - scenario.quiet.0);
        let persons = persons(scenario, all, &mut random);
        let (world, nodes) = nodes(scenario, seed, check, &persons);
        let mut people = Self {
            random,
            of: scenario.people.clone(),
            quiet_at,
            end,
            plans: BinaryHeap::new(),
            number: 0,
            nodes: persons,
            fresh: Vec::new(),
            entries: Vec::new(),
            cuts: cuts(scenario).map(|(from, until, _)| (from, until)).collect(),
            sequence: 0,
        };
        people.plan_all(scenario, all);
        (people, world, nodes)
    }

    fn plan_all(&mut self, scenario: &Scenario, all: usize) {
        let present = (scenario.nodes as f64 * self.of.present).round().max(1.0) as usize;
        let starting = self.of.starting.0;
        self.plan(BEGINNING, Plan::Start(0));
        for node in 1..present {
            let at = BEGINNING + Duration::from_millis(100) + self.up_to(starting);
            self.plan(at, Plan::Start(node as u32));
        }
        self.fresh = (present as u32..all as u32).rev().collect();
        self.next_publish(BEGINNING + PUBLISHING);
        self.next_ask(BEGINNING + PUBLISHING * 2);
        for (number, event) in scenario.events.iter().enumerate() {
            self.plan(BEGINNING + event.at.0, Plan::Event(number));
        }
    }

    fn plan(&mut self, at: Time, plan: Plan) {
        self.number += 1;
        self.plans.push(Reverse((at, self.number, plan)));
    }

    fn up_to(&mut self, length: Duration) -> Duration {
        Duration::from_micros(self.random.random_range(0..=length.as_micros() as u64))
    }

    /// When something is done next.
    pub(crate) fn next(&self) -> Option<Time> {
        self.plans.peek().map(|Reverse((at, ..))| *at)
    }

    /// What is done before `until`.
    pub(crate) fn until(&mut self, until: Time, watch: &mut Watch) -> Vec<Sent> {
        let mut sent = Vec::new();
        while let Some(Reverse((at, ..))) = self.plans.peek()
            && *at < until
        {
            let Some(Reverse((at, _, plan))) = self.plans.pop() else { break };
            self.act(at, plan, watch, &mut sent);
        }
        sent
    }

    fn send(&mut self, at: Time, to: u32, event: Event, sent: &mut Vec<Sent>) {
        self.sequence += 1;
        sent.push(Sent { at, to, from: WORLD, number: self.sequence, event });
    }

    fn act(&mut self, at: Time, plan: Plan, watch: &mut Watch, sent: &mut Vec<Sent>) {
        match plan {
            Plan::Start(node) => self.start(at, node, watch, sent),
            Plan::Stop(node, start) => {
                let still = self.person(node).is_some_and(|it| it.on && it.starts == start);
                if still && at < self.quiet_at {
                    self.end_session(at, node, watch, sent);
                }
            }
            Plan::StopFor(node, micros) => {
                self.stop(at, node, How::Politely, watch, sent);
                self.plan(at + Duration::from_micros(micros), Plan::Start(node));
            }
            Plan::Newcomer => {
                if let Some(node) = self.fresh.pop() {
                    self.start(at, node, watch, sent);
                }
            }
            Plan::Publish => {
                self.publish(at, watch, sent);
                self.next_publish(at);
            }
            Plan::Ask => {
                if let Some((node, entry)) = self.someone(true).zip(self.some_entry()) {
                    self.send(at, node, Event::Ask(entry), sent);
                }
                self.next_ask(at);
            }
            Plan::Event(number) => {
                if let Some(what) = watch.event(number) {
                    self.event(at, &what, watch, sent);
                }
            }
        }
    }

    fn person(&self, node: u32) -> Option<&Person> {
        self.nodes.get(node as usize)
    }

    pub(crate) fn is_on(&self, node: u32) -> bool {
        self.person(node).is_some_and(|it| it.on)
    }

    /// Whether the network was cut at some time from `since` until now.
    pub(crate) fn cut_since(&self, since: Time, now: Time) -> bool {
        self.cuts.iter().any(|(from, until)| *from <= now && *until >= since)
    }

    fn on(&self) -> impl Iterator<Item = u32> {
        self.nodes.iter().zip(0..).filter(|(it, _)| it.on).map(|(_, node)| node)
    }

    fn start(&mut self, at: Time, node: u32, watch: &mut Watch, sent: &mut Vec<Sent>) {
        if self.person(node).is_none_or(|it| it.on || it.gone) || at >= self.quiet_at {
            return;
        }
        let reachable = |it: &u32| self.person(*it).is_some_and(|it| !it.unreachable);
        let mut others: Vec<u32> = self.on().filter(reachable).collect();
        let mut contacts = Vec::new();
        while contacts.len() < CONTACTS && !others.is_empty() {
            let at = self.random.random_range(0..others.len());
            contacts.push(others.swap_remove(at));
        }
        let session = self.of.session;
        let Some(person) = self.nodes.get_mut(node as usize) else { return };
        let is_first = node == 0 && person.starts == 0;
        person.on = true;
        person.starts += 1;
        let starts = person.starts;
        let first = is_first.then(|| self.first_entries(watch));
        if let Some(median) = session.filter(|_| !is_first) {
            let length = heavy(&mut self.random, median.0);
            self.plan(at + length, Plan::Stop(node, starts));
        }
        self.send(at, node, Event::Start { contacts, first }, sent);
        watch.switched(at, node, true);
    }

    fn first_entries(&mut self, watch: &mut Watch) -> Vec<Aspect> {
        let published = Time::from_micros(BEGINNING.as_micros() - 3_600_000_000);
        let entries = 0..self.of.entries;
        entries.map(|_| self.aspect(published, 0, BEGINNING, watch)).collect()
    }

    fn aspect(&mut self, published: Time, receipts: u32, at: Time, watch: &mut Watch) -> Aspect {
        let mut address = [0; 32];
        self.random.fill_bytes(&mut address);
        let entry = EntryAddress(address);
        let mean = self.of.size;
        let size = self.random.random_range(mean / 2..=mean.saturating_add(mean / 2));
        let size = size.min((MAX_ASPECT_DATA - ASPECT_OVERHEAD) as u32);
        let number = (self.entries.len() as u64).to_le_bytes();
        let data = [size.to_le_bytes().as_slice(), number.as_slice()].concat();
        self.entries.push(entry);
        // The data is shorter than any limit.
        let aspect = match Aspect::new(entry, 1, published, &data) {
            Ok(aspect) => aspect,
            Err(_) => return self.aspect(published, receipts, at, watch),
        };
        watch.published(at, &aspect, receipts);
        aspect
    }

    fn stop(&mut self, at: Time, node: u32, how: How, watch: &mut Watch, sent: &mut Vec<Sent>) {
        let Some(person) = self.nodes.get_mut(node as usize).filter(|it| it.on) else { return };
        person.on = false;
        person.gone |= how == How::ForGood;
        // Before the node itself says what is not on it any more.
        watch.switched(at, node, false);
        self.send(at, node, Event::Stop(how), sent);
    }

    fn end_session(&mut self, at: Time, node: u32, watch: &mut Watch, sent: &mut Vec<Sent>) {
        let away = at + heavy(&mut self.random, self.of.away.0);
        if self.random.random_bool(self.of.for_good) {
            self.stop(at, node, How::ForGood, watch, sent);
            return self.plan(away, Plan::Newcomer);
        }
        let how = if self.random.random_bool(0.5) { How::Politely } else { How::Crash };
        self.stop(at, node, how, watch, sent);
        self.plan(away, Plan::Start(node));
    }

    fn next_publish(&mut self, after: Time) {
        let at = self.next_at(after, self.of.publishing);
        if let Some(at) = at.filter(|at| *at < self.quiet_at) {
            self.plan(at, Plan::Publish);
        }
    }

    fn next_ask(&mut self, after: Time) {
        let at = self.next_at(after, self.of.asking);
        if let Some(at) = at.filter(|at| *at + ASKING < self.end) {
            self.plan(at, Plan::Ask);
        }
    }

    /// The next of events that come so often a minute, at random.
    fn next_at(&mut self, after: Time, per_minute: f64) -> Option<Time> {
        let exponential = rand_distr::Exp::new(per_minute / 60.0).ok()?;
        let wait: f64 = rand_distr::Distribution::sample(&exponential, &mut self.random);
        (wait < 1e7).then(|| after + Duration::from_secs_f64(wait))
    }

    /// A node that is on, and honest where that is wanted.
    fn someone(&mut self, honest: bool) -> Option<u32> {
        let fits = |it: &u32| self.person(*it).is_some_and(|it| !honest || it.role != Role::Liar);
        let on: Vec<u32> = self.on().filter(fits).collect();
        let at = self.random.random_range(0..on.len().max(1));
        on.get(at).copied()
    }

    fn some_entry(&mut self) -> Option<EntryAddress> {
        let at = self.random.random_range(0..self.entries.len().max(1));
        self.entries.get(at).copied()
    }

    fn publish(&mut self, at: Time, watch: &mut Watch, sent: &mut Vec<Sent>) {
        let Some(node) = self.someone(true) else { return };
        let receipts = self.of.receipts;
        let aspect = self.aspect(at, receipts, at, watch);
        self.send(at, node, Event::Publish { aspect, receipts }, sent);
    }

    /// A part of those that are on, at random; never the only one.
    fn pick(&mut self, part: f64) -> Vec<u32> {
        let mut on: Vec<u32> = self.on().collect();
        let n = ((on.len() as f64 * part).round() as usize).min(on.len().saturating_sub(1));
        let mut picked = Vec::new();
        for _ in 0..n {
            let at = self.random.random_range(0..on.len());
            picked.push(on.swap_remove(at));
        }
        picked.sort_unstable();
        picked
    }

    fn event(&mut self, at: Time, what: &What, watch: &mut Watch, sent: &mut Vec<Sent>) {
        match what {
            What::Lose { part } => {
                for node in self.pick(*part) {
                    self.stop(at, node, How::ForGood, watch, sent);
                }
            }
            What::Crash { part, away } => {
                for node in self.pick(*part) {
                    self.stop(at, node, How::Crash, watch, sent);
                    self.plan(at + away.0, Plan::Start(node));
                }
            }
            What::Join { part, over } => {
                let on = self.on().count() as f64;
                let n = (on * part / (1.0 - part)).round() as usize;
                for _ in 0..n {
                    let at = at + self.up_to(over.0);
                    self.plan(at, Plan::Newcomer);
                }
            }
            What::Restart { over, away } => {
                let on: Vec<u32> = self.on().collect();
                let step = over.0 / u32::try_from(on.len().max(1)).unwrap_or(u32::MAX);
                for (node, place) in on.into_iter().zip(0..) {
                    let micros = away.0.as_micros() as u64;
                    self.plan(at + step * place, Plan::StopFor(node, micros));
                }
            }
            // In the network from the beginning.
            What::Cut { .. } => {}
        }
    }
}

/// Nodes that come instead of those that leave for good.
fn spares(scenario: &Scenario) -> usize {
    let Some(session) = scenario.people.session else { return 0 };
    // Of a Pareto distribution with exponent 1.5, the mean is 1.9 times the median.
    let turn = (session.0 + scenario.people.away.0).as_secs_f64() * 1.9;
    let ends = scenario.nodes as f64 * scenario.length.0.as_secs_f64() / turn.max(1.0);
    // Most sessions are shorter than the mean, and new ones begin: three times as many are enough.
    (ends * scenario.people.for_good * 3.0) as usize + 8
}

fn cuts(scenario: &Scenario) -> impl Iterator<Item = (Time, Time, f64)> {
    scenario.events.iter().filter_map(|event| match event.what {
        What::Cut { part, lasts } => {
            let from = BEGINNING + event.at.0;
            Some((from, from + lasts.0, part))
        }
        _ => None,
    })
}

fn persons(scenario: &Scenario, all: usize, random: &mut Random) -> Vec<Person> {
    let apart = cuts(scenario).map(|(.., part)| part).next().unwrap_or(0.0);
    let person = |node: usize| {
        let role = match random.random::<f64>() {
            // Who has begun is to be trusted.
            _ if node == 0 => Role::Honest,
            it if it < scenario.others.liars => Role::Liar,
            it if it < scenario.others.liars + scenario.others.free_riders => Role::FreeRider,
            _ => Role::Honest,
        };
        let unreachable = node > 0 && random.random_bool(scenario.network.unreachable);
        let apart = random.random_bool(apart);
        Person { on: false, gone: false, role, unreachable, starts: 0, apart }
    };
    (0..all).map(person).collect()
}

/// The nodes, none of which is on, and what they have in common.
fn nodes(scenario: &Scenario, seed: u64, check: bool, persons: &[Person]) -> (World, Vec<Node>) {
    let space = SpaceId(random::bytes(seed, "space", 0));
    let keys: Vec<AuthorKey> = (0..persons.len() as u64)
        .map(|node| AuthorKey::from_bytes(&random::bytes(seed, "key", node)))
        .collect();
    let ids: Vec<NodeId> = keys.iter().map(|key| NodeId(key.author())).collect();
    let apart: Vec<bool> = persons.iter().map(|it| it.apart).collect();
    let cuts = cuts(scenario).map(|(from, until, _)| Cut { from, until, apart: apart.clone() });
    let (min, target) = scenario.copies;
    let present = scenario.nodes as f64 * scenario.people.present;
    let lie = (4.0 * f64::from(target) / present.max(1.0)).min(1.0) * RING as f64;
    let entries = scenario.people.entries as u64;
    let world = World {
        network: Network::new(&scenario.network, seed, cuts.collect()),
        space,
        index: ids.iter().copied().zip(0..).collect(),
        nodes: ids.clone(),
        liars: persons.iter().map(|it| it.role == Role::Liar).collect(),
        lie: lie as u64,
        amount: (entries, entries * u64::from(scenario.people.size)),
        // Checked when the scenario was read.
        copies: Copies::new(min, target).unwrap_or_default(),
        idle: scenario.idle.0,
        patience: scenario.patience.0,
        sync: scenario.disk.sync.0,
        check,
    };
    let skew = scenario.people.skew.0.as_micros() as i64;
    let build = |((key, id), (person, index)): ((AuthorKey, NodeId), (&Person, u32))| {
        let mut random = random::stream(seed, "node", index.into());
        let limited = random.random_bool(scenario.disk.limited);
        let quota = Some(scenario.disk.quota).filter(|quota| limited && *quota > 0);
        let profile = Profile {
            index,
            id,
            key,
            role: person.role,
            unreachable: person.unreachable,
            skew: random.random_range(-skew..=skew),
        };
        Node::new(profile, Disk::new(quota), random)
    };
    let nodes = keys.into_iter().zip(ids).zip(persons.iter().zip(0..)).map(build).collect();
    (world, nodes)
}
