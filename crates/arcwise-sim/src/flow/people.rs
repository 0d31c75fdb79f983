//! Who comes and goes when: from the scenario and a seed alone, whatever the nodes do.

use std::{cmp::Reverse, collections::BinaryHeap};

use arcwise_proto::{id::NodeId, ring::Location};

use rand::RngExt as _;

use crate::{
    random::{Random, heavy, stream},
    scenario::{Scenario, What},
};

/// One who is there at some time.
#[derive(Clone, Debug)]
pub(super) struct Person {
    pub(super) node: NodeId,
    pub(super) location: Location,
    pub(super) kind: Kind,
    /// Its disk has the scenario's quota.
    pub(super) limited: bool,
}

/// What somebody does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// As it should.
    Honest,
    /// Stores nothing.
    Rider,
    /// Claims four times what it aims at, and keeps nothing.
    Liar,
}

/// What somebody's node does at a time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Turn {
    /// It comes, or comes back.
    On,
    /// It stops, and will come back.
    Off,
    /// It stops, and its disk is gone.
    Gone,
}

/// Everybody who is ever there, in the order of their locations, and what happens in the order of time.
#[derive(Debug, Default)]
pub(super) struct People {
    pub(super) all: Vec<Person>,
    /// The second, who, and what.
    pub(super) turns: Vec<(u32, u32, Turn)>,
    /// Who holds everything in the beginning.
    pub(super) first: u32,
    /// When what was to start in the beginning has started.
    pub(super) started: u32,
}

struct Maker<'a> {
    scenario: &'a Scenario,
    random: Random,
    all: Vec<Person>,
    /// In which stay each of them is, counted from 1; 0 while it is off.
    stays: Vec<u32>,
    counted: u32,
    on: Vec<u32>,
    /// Where in `on` each of them is.
    places: Vec<u32>,
    heap: BinaryHeap<Reverse<Planned>>,
    numbered: u32,
    turns: Vec<(u32, u32, Turn)>,
    quiet: u32,
}

/// In the order in which it happens.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Planned {
    at: u32,
    /// Tells apart what happens in one second.
    number: u32,
    who: u32,
    turn: Turn,
    /// Of which stay it is the end.
    stay: u32,
    /// How long it is off then, where that is not as people do.
    away: Option<u32>,
}

impl People {
    pub(super) fn new(scenario: &Scenario, seed: u64) -> Self {
        let quiet = (scenario.length.0 - scenario.quiet.0).as_secs() as u32;
        let mut maker = Maker {
            scenario,
            random: stream(seed, "people of the flow", 0),
            all: Vec::new(),
            stays: Vec::new(),
            counted: 0,
            on: Vec::new(),
            places: Vec::new(),
            heap: BinaryHeap::new(),
            numbered: 0,
            turns: Vec::new(),
            quiet,
        };
        let starting = scenario.people.starting.0.as_secs_f64();
        let present = (scenario.nodes as f64 * scenario.people.present).round().max(1.0) as usize;
        for n in 0..present {
            let at = if n == 0 { 0.0 } else { maker.random.random::<f64>() * starting };
            let who = maker.somebody(n == 0);
            maker.plan(at as u32, who, Turn::On, 0);
        }
        maker.run();
        maker.in_order(starting.ceil() as u32)
    }
}

impl Maker<'_> {
    /// Somebody who has not been there yet. The very first one does as it should.
    fn somebody(&mut self, honest: bool) -> u32 {
        let mut id = [0; 32];
        self.random.fill(&mut id);
        let location = Location(self.random.random());
        let (luck, limited) = (self.random.random::<f64>(), self.random.random::<f64>());
        let others = &self.scenario.others;
        let kind = match luck {
            _ if honest => Kind::Honest,
            luck if luck < others.free_riders => Kind::Rider,
            luck if luck < others.free_riders + others.liars => Kind::Liar,
            _ => Kind::Honest,
        };
        let limited = !honest && limited < self.scenario.disk.limited;
        self.all.push(Person { node: NodeId(id), location, kind, limited });
        self.stays.push(0);
        self.places.push(0);
        (self.all.len() - 1) as u32
    }

    fn plan(&mut self, at: u32, who: u32, turn: Turn, stay: u32) {
        self.plan_away(at, who, turn, stay, None);
    }

    fn plan_away(&mut self, at: u32, who: u32, turn: Turn, stay: u32, away: Option<u32>) {
        if at < self.quiet || at == 0 {
            self.numbered += 1;
            let number = self.numbered;
            self.heap.push(Reverse(Planned { at, number, who, turn, stay, away }));
        }
    }

    fn run(&mut self) {
        let mut events: Vec<_> = self.scenario.events.iter().collect();
        events.sort_by_key(|event| event.at);
        let mut events = events.into_iter().peekable();
        loop {
            let next = self.heap.peek().map(|Reverse(next)| next.at);
            let event = events.peek().map(|event| event.at.0.as_secs() as u32);
            match (next, event) {
                (None, None) => break,
                (Some(at), event) if event.is_none_or(|event| at < event) => self.turn(),
                _ => {
                    if let Some(event) = events.next() {
                        self.event(event.at.0.as_secs() as u32, &event.what);
                    }
                }
            }
        }
    }

    fn turn(&mut self) {
        let Some(Reverse(Planned { at, who, turn, stay, away, .. })) = self.heap.pop() else {
            return;
        };
        let now = self.stays[who as usize];
        match turn {
            Turn::On if now == 0 => self.comes(at, who),
            Turn::Off | Turn::Gone if now == stay && now != 0 => self.goes(at, who, turn, away),
            _ => {}
        }
    }

    fn comes(&mut self, at: u32, who: u32) {
        self.turns.push((at, who, Turn::On));
        self.counted += 1;
        self.stays[who as usize] = self.counted;
        self.places[who as usize] = self.on.len() as u32;
        self.on.push(who);
        if let Some(session) = self.scenario.people.session {
            let stays = heavy(&mut self.random, session.0).as_secs_f64();
            let gone = self.random.random_bool(self.scenario.people.for_good);
            let turn = if gone { Turn::Gone } else { Turn::Off };
            self.plan(at.saturating_add(stays.ceil() as u32), who, turn, self.counted);
        }
    }

    /// It comes back after `away`, or when people do; and so does somebody new in the place of who does not.
    fn goes(&mut self, at: u32, who: u32, turn: Turn, away: Option<u32>) {
        self.turns.push((at, who, turn));
        self.stays[who as usize] = 0;
        let place = self.places[who as usize] as usize;
        self.on.swap_remove(place);
        if let Some(moved) = self.on.get(place) {
            self.places[*moved as usize] = place as u32;
        }
        let away = away.unwrap_or_else(|| {
            heavy(&mut self.random, self.scenario.people.away.0).as_secs_f64().ceil() as u32
        });
        let next = if turn == Turn::Gone { self.somebody(false) } else { who };
        self.plan(at.saturating_add(away.max(1)), next, Turn::On, 0);
    }

    fn event(&mut self, at: u32, what: &What) {
        match what {
            What::Lose { part } => {
                for who in self.some(*part) {
                    self.turns.push((at, who, Turn::Gone));
                    self.stays[who as usize] = 0;
                }
                self.count_on();
            }
            What::Crash { part, away } => {
                for who in self.some(*part) {
                    self.goes(at, who, Turn::Off, Some(away.0.as_secs() as u32));
                }
            }
            What::Join { part, over } => {
                let more = (self.on.len() as f64 * part / (1.0 - part)).round() as usize;
                for _ in 0..more {
                    let who = self.somebody(false);
                    let at = at + (self.random.random::<f64>() * over.0.as_secs_f64()) as u32;
                    self.plan(at, who, Turn::On, 0);
                }
            }
            What::Restart { over, away } => {
                let all = self.some(1.0);
                for (n, who) in all.iter().enumerate() {
                    let at = at + (over.0.as_secs_f64() * n as f64 / all.len() as f64) as u32;
                    let (stay, away) = (self.stays[*who as usize], away.0.as_secs() as u32);
                    self.plan_away(at, *who, Turn::Off, stay, Some(away));
                }
            }
            What::Cut { .. } => {}
        }
    }

    /// A part of those who are on, at random.
    fn some(&mut self, part: f64) -> Vec<u32> {
        let mut all = self.on.clone();
        let count = ((all.len() as f64 * part).round() as usize).min(all.len());
        for i in 0..count {
            let other = self.random.random_range(i..all.len());
            all.swap(i, other);
        }
        all.truncate(count);
        all
    }

    fn count_on(&mut self) {
        let stays = &self.stays;
        self.on.retain(|who| stays[*who as usize] != 0);
        for (place, who) in self.on.iter().enumerate() {
            self.places[*who as usize] = place as u32;
        }
    }

    /// By location.
    fn in_order(mut self, started: u32) -> People {
        let mut order: Vec<u32> = (0..self.all.len() as u32).collect();
        order.sort_by_key(|i| (self.all[*i as usize].location, self.all[*i as usize].node));
        let mut place = vec![0; order.len()];
        for (to, from) in order.iter().enumerate() {
            place[*from as usize] = to as u32;
        }
        let all = order.iter().map(|i| self.all[*i as usize].clone()).collect();
        for (_, who, _) in &mut self.turns {
            *who = place[*who as usize];
        }
        People { all, turns: self.turns, first: place[0], started }
    }
}
