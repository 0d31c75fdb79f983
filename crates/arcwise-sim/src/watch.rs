//! The one who watches: keeps account of where everything is, and sees whether what must hold does.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use arcwise_proto::{
    Aspect, AspectKey, EntryAddress, NodeId, Time,
    ring::{ArcSet, RING},
};

use crate::{
    event::{Seen, What},
    node::Role,
    people::People,
    results::{Bytes, Results, SECTORS, Sample, Summary, Violation},
    run::BEGINNING,
    scenario::{self, Scenario},
    shard::Census,
};

/// By then what was published is where it belongs.
const SETTLED: Duration = Duration::from_secs(60);

/// Violations that are remembered; more of them say no more.
const MAX_VIOLATIONS: usize = 50;

/// Everything that is known of a simulation from outside.
pub(crate) struct Watch {
    pub(crate) every: Duration,
    pub(crate) events: u64,
    scenario: Scenario,
    quiet_at: Time,
    index: BTreeMap<NodeId, u32>,
    aspects: Vec<Info>,
    by_key: BTreeMap<AspectKey, usize>,
    by_entry: BTreeMap<EntryAddress, usize>,
    /// By index of the node.
    nodes: Vec<Claims>,
    samples: Vec<Sample>,
    violations: Vec<Violation>,
    acknowledged: u64,
    lost: (u64, u64),
    /// Seconds from publishing to when all had it.
    spread: Vec<f64>,
    asked: (u64, u64, u64),
    /// Targets that have changed since the last sample.
    changed: BTreeSet<u32>,
    /// In the last third.
    changed_late: BTreeSet<u32>,
    sectors: Sectors,
    load: f64,
    most_held: u64,
    node_seconds: f64,
    hasher: blake3::Hasher,
}

/// What is known of an aspect.
#[derive(Debug)]
struct Info {
    key: AspectKey,
    published: Time,
    receipts: u32,
    /// Whose disk it is on, in order.
    holders: Vec<u32>,
    /// Who has given a receipt.
    acknowledged: Option<Vec<u32>>,
    /// Who should hold it and does not yet, of those that should when it was published.
    due: Vec<u32>,
    lost: bool,
}

/// What a node claims.
#[derive(Clone, Debug)]
struct Claims {
    held: ArcSet,
    target: ArcSet,
}

/// For how long each sector has had too few copies.
#[derive(Debug)]
struct Sectors {
    below_since: [Option<Time>; SECTORS],
    /// Whether there ever were enough everywhere: before that, nothing counts.
    complete: bool,
    /// Since when there are enough nodes for that.
    possible: Option<Time>,
    longest: Duration,
}

impl Watch {
    pub(crate) fn new(scenario: &Scenario, people: &People) -> Self {
        let nothing = Claims { held: ArcSet::empty(), target: ArcSet::empty() };
        Self {
            every: (scenario.length.0 / 360).max(Duration::from_secs(5)),
            events: 0,
            scenario: scenario.clone(),
            quiet_at: BEGINNING + (scenario.length.0 - scenario.quiet.0),
            index: BTreeMap::new(),
            aspects: Vec::new(),
            by_key: BTreeMap::new(),
            by_entry: BTreeMap::new(),
            nodes: vec![nothing; people.nodes.len()],
            samples: Vec::new(),
            violations: Vec::new(),
            acknowledged: 0,
            lost: (0, 0),
            spread: Vec::new(),
            asked: (0, 0, 0),
            changed: BTreeSet::new(),
            changed_late: BTreeSet::new(),
            sectors: Sectors {
                below_since: [None; SECTORS],
                complete: false,
                possible: None,
                longest: Duration::ZERO,
            },
            load: 0.0,
            most_held: 0,
            node_seconds: 0.0,
            hasher: blake3::Hasher::new(),
        }
    }

    /// Who is who.
    pub(crate) fn know(&mut self, index: impl IntoIterator<Item = (NodeId, u32)>) {
        self.index.extend(index);
    }

    /// What happens as the so-manieth event.
    pub(crate) fn event(&self, number: usize) -> Option<scenario::What> {
        self.scenario.events.get(number).map(|event| event.what.clone())
    }

    fn violation(&mut self, at: Time, what: String) {
        if self.violations.len() < MAX_VIOLATIONS {
            self.violations.push(Violation { at: seconds(at), what });
        }
    }

    // ---- What people do

    pub(crate) fn published(&mut self, at: Time, aspect: &Aspect, receipts: u32) {
        let (key, number) = (aspect.key(), self.aspects.len());
        let (holders, due) = (Vec::new(), Vec::new());
        let (acknowledged, lost) = (None, false);
        let info = Info { key, published: at, receipts, holders, acknowledged, due, lost };
        self.aspects.push(info);
        self.by_key.insert(key, number);
        self.by_entry.insert(aspect.entry(), number);
    }

    pub(crate) fn switched(&mut self, at: Time, node: u32, on: bool) {
        self.hash(at, node, if on { b"on" } else { b"off" });
        if !on {
            // Who is off need not get anything any more.
            self.aspects.iter_mut().for_each(|info| info.due.retain(|due| *due != node));
        }
    }

    // ---- What nodes do

    pub(crate) fn see(&mut self, seen: Seen, people: &People) {
        let Seen { at, node, what } = seen;
        match what {
            What::Stored(keys) => {
                self.hash(at, node, b"stored");
                for key in &keys {
                    self.hasher.update(&key.hash.0);
                    self.stored(at, node, key, people);
                }
            }
            What::Dropped(keys) => {
                self.hash(at, node, b"dropped");
                for key in &keys {
                    self.hasher.update(&key.hash.0);
                    self.dropped(at, node, key, people);
                }
            }
            What::Claims(held, target) => {
                self.hash(at, node, b"claims");
                self.claims(at, node, held, target, people);
            }
            What::Acknowledged(keys, by) => {
                self.hash(at, node, b"acknowledged");
                let by: Vec<u32> = by.iter().filter_map(|id| self.index.get(id).copied()).collect();
                for key in &keys {
                    let Some(number) = self.by_key.get(key).copied() else { continue };
                    let Some(info) = self.aspects.get_mut(number) else { continue };
                    if info.acknowledged.replace(by.clone()).is_none() {
                        self.acknowledged += 1;
                    }
                }
            }
            What::Found { entry, began, aspects, asked } => {
                self.hash(at, node, b"found");
                self.found(at, node, entry, began, &aspects, asked, people);
            }
            What::Violation(what) => {
                self.hash(at, node, what.as_bytes());
                self.violation(at, format!("node {node}: {what}"));
            }
        }
    }

    fn hash(&mut self, at: Time, node: u32, what: &[u8]) {
        self.hasher.update(&at.as_micros().to_le_bytes());
        self.hasher.update(&node.to_le_bytes());
        self.hasher.update(what);
    }

    fn stored(&mut self, at: Time, node: u32, key: &AspectKey, people: &People) {
        let Some(number) = self.by_key.get(key).copied() else { return };
        let nodes = &self.nodes;
        let Some(info) = self.aspects.get_mut(number) else { return };
        if let Err(place) = info.holders.binary_search(&node) {
            info.holders.insert(place, node);
        }
        if info.holders.len() == 1 && at >= info.published && info.due.is_empty() {
            // It is durable for the first time: from now on it spreads.
            let claims = |it: &u32| {
                let of = nodes.get(*it as usize);
                *it != node && of.is_some_and(|of| of.held.contains(key.location))
            };
            let honest =
                |it: &u32| people.nodes.get(*it as usize).is_some_and(|it| it.role != Role::Liar);
            let on = (0..nodes.len() as u32).filter(|it| people.is_on(*it));
            info.due = on.filter(claims).filter(honest).collect();
            return;
        }
        if let Some(place) = info.due.iter().position(|due| *due == node) {
            info.due.swap_remove(place);
            if info.due.is_empty() {
                self.spread.push(at.since(info.published).as_secs_f64());
            }
        }
    }

    fn dropped(&mut self, at: Time, node: u32, key: &AspectKey, people: &People) {
        let Some(number) = self.by_key.get(key).copied() else { return };
        let Some(info) = self.aspects.get_mut(number) else { return };
        if let Ok(place) = info.holders.binary_search(&node) {
            info.holders.remove(place);
        }
        if !info.holders.is_empty() || info.lost {
            return;
        }
        info.lost = true;
        self.lost.0 += 1;
        let person = |it: &&u32| people.nodes.get(**it as usize);
        if let Some(by) = &info.acknowledged {
            self.lost.1 += 1;
            // Who lies has never held it, as far as that is concerned.
            let gone = by
                .iter()
                .filter(|it| person(it).is_some_and(|it| it.gone || it.role == Role::Liar));
            let (gone, receipts) = (gone.count(), info.receipts as usize);
            if gone < receipts {
                let what = format!(
                    "{key} was acknowledged by {receipts} nodes, of which {gone} are gone for good, \
                     and is lost"
                );
                self.violation(at, what);
            }
        }
    }

    fn claims(&mut self, at: Time, node: u32, held: ArcSet, target: ArcSet, people: &People) {
        let Some(claims) = self.nodes.get_mut(node as usize) else { return };
        let honest = people.nodes.get(node as usize).is_some_and(|it| it.role != Role::Liar);
        if claims.target != target && !claims.target.is_empty() && honest {
            self.changed.insert(node);
            if at >= BEGINNING + self.scenario.length.0 * 2 / 3 {
                self.changed_late.insert(node);
            }
        }
        let more = held.difference(&claims.held);
        *claims = Claims { held, target };
        // A newcomer has nothing by which to tell a liar, and may claim what that one has claimed. Then others show
        // what it lacks, and at the end it must hold it.
        let deceived = self.scenario.others.liars > 0.0;
        if !more.is_empty() && honest && !deceived && !people.cut_since(before(at, SETTLED * 2), at)
        {
            self.check_claim(at, node, &more, people);
        }
    }

    /// What is claimed newly must be held, as far as somebody else who claims it has had it for a while.
    fn check_claim(&mut self, at: Time, node: u32, more: &ArcSet, people: &People) {
        let settled = before(at, SETTLED);
        let mut lacking = None;
        for (first, last) in more.spans() {
            let first = AspectKey { location: first, ..AspectKey::MIN };
            let last = AspectKey { location: last, ..AspectKey::MAX };
            for (key, number) in self.by_key.range(first..=last) {
                let Some(info) = self.aspects.get(*number) else { continue };
                if info.published > settled || info.holders.binary_search(&node).is_ok() {
                    continue;
                }
                let claims = |it: &&u32| {
                    let of = self.nodes.get(**it as usize);
                    people.is_on(**it) && of.is_some_and(|of| of.held.contains(key.location))
                };
                let others = info.holders.iter().filter(claims).count();
                if others > 0 {
                    lacking = Some((*key, others));
                }
            }
        }
        if let Some((key, others)) = lacking {
            let what = format!("node {node} claims {key} and does not hold it; {others} others do");
            self.violation(at, what);
        }
    }

    #[allow(clippy::too_many_arguments, reason = "what was seen, and by whom")]
    fn found(
        &mut self,
        at: Time,
        node: u32,
        entry: EntryAddress,
        began: Time,
        aspects: &[AspectKey],
        asked: usize,
        people: &People,
    ) {
        let info = self.by_entry.get(&entry).and_then(|number| self.aspects.get(*number));
        let Some(info) = info else { return };
        let there = |it: &u32| {
            let of = self.nodes.get(*it as usize);
            people.is_on(*it) && of.is_some_and(|of| of.held.contains(info.key.location))
        };
        let exists = info.published <= before(began, SETTLED) && info.holders.iter().any(there);
        if !exists {
            return;
        }
        let found = aspects.contains(&info.key);
        let key = info.key;
        self.asked =
            (self.asked.0 + 1, self.asked.1 + u64::from(found), self.asked.2 + asked as u64);
        if !found && began >= self.quiet_at + self.scenario.quiet.0 / 2 {
            self.violation(at, format!("node {node} has not found {key}, asking {asked} others"));
        }
    }

    // ---- Now and then

    /// What everybody should hold who claims it, in order: published a while ago, and held by somebody who is
    /// on and claims it.
    pub(crate) fn settled(&self, at: Time, people: &People) -> Vec<AspectKey> {
        let settled = before(at, SETTLED);
        let there = |info: &&Info| {
            info.published <= settled
                && info.holders.iter().any(|holder| {
                    let of = self.nodes.get(*holder as usize);
                    people.is_on(*holder)
                        && of.is_some_and(|of| of.held.contains(info.key.location))
                })
        };
        let mut keys: Vec<AspectKey> = self.aspects.iter().filter(there).map(|it| it.key).collect();
        keys.sort_unstable();
        keys
    }

    pub(crate) fn sample(&mut self, at: Time, people: &People, census: Census) -> &Sample {
        let honest_on = people.nodes.iter().zip(&self.nodes);
        let honest_on: Vec<&Claims> = honest_on
            .filter(|(person, _)| person.on && person.role != Role::Liar)
            .map(|(_, claims)| claims)
            .collect();
        let sectors = copies(honest_on.iter().map(|claims| &claims.held));
        let min = i64::from(self.scenario.copies.0);
        let enough = honest_on.len() as i64 > min;
        self.sectors.look(at, &sectors, min, enough);
        let mut sorted = sectors.to_vec();
        sorted.sort_unstable();
        let level = |place: usize| sorted.get(place).copied().unwrap_or(0) as f64;
        let mut arcs: Vec<f64> = honest_on.iter().map(|it| it.target.fraction()).collect();
        arcs.sort_by(f64::total_cmp);
        let held: Vec<u64> = census.held.iter().copied().filter(|held| *held > 0).collect();
        let most = held.iter().copied().max().unwrap_or(0);
        self.most_held = self.most_held.max(most);
        self.load = most as f64 * held.len() as f64 / held.iter().sum::<u64>().max(1) as f64;
        let on = people.nodes.iter().filter(|it| it.on).count();
        self.node_seconds += on as f64 * self.every.as_secs_f64();
        let sample = Sample {
            at: seconds(at),
            nodes: on,
            copies: (level(0), level(SECTORS / 20), level(SECTORS / 2)),
            below_min: sectors.iter().filter(|copies| **copies < min).count(),
            arcs: (
                arcs.first().copied().unwrap_or(0.0),
                arcs.get(arcs.len() / 2).copied().unwrap_or(0.0),
                arcs.iter().sum::<f64>() / arcs.len().max(1) as f64,
                arcs.last().copied().unwrap_or(0.0),
            ),
            changed: self.changed.len(),
            lacking: census.lacking,
            published: self.aspects.len() as u64,
            lost: self.lost.0,
            // Each has two ends.
            connections: census.connections / 2,
            bytes: census.bytes,
        };
        self.changed.clear();
        if !self.samples.is_empty() && self.samples.last().is_some_and(|last| last.at >= sample.at)
        {
            self.samples.pop();
        }
        self.samples.push(sample);
        // There is one.
        &self.samples[self.samples.len() - 1]
    }

    pub(crate) fn end(&mut self, at: Time, people: &People, mut census: Census) {
        let examples = std::mem::take(&mut census.examples);
        let lacking = census.lacking;
        self.sample(at, people, census);
        if lacking > 0 {
            let examples: Vec<String> =
                examples.iter().map(|(node, key)| format!("node {node} lacks {key}")).collect();
            let what = format!("at the end {lacking} aspects are lacking: {}", examples.join(", "));
            self.violation(at, what);
        }
    }

    pub(crate) fn results(mut self, scenario: &Scenario, seed: u64, took: Duration) -> Results {
        let last = self.samples.last().cloned().unwrap_or_default();
        self.spread.sort_by(f64::total_cmp);
        let spread = |part: f64| {
            let place = (self.spread.len() as f64 * part) as usize;
            self.spread.get(place.min(self.spread.len().saturating_sub(1))).copied().unwrap_or(0.0)
        };
        let late = scenario.length.0.as_secs_f64() / 3.0;
        let hours = self.node_seconds / 3600.0;
        let per_hour = |bytes: u64| (bytes as f64 / hours.max(1e-9)) as u64;
        let bytes = Bytes {
            control: per_hour(last.bytes.control),
            comparing: per_hour(last.bytes.comparing),
            gossip: per_hour(last.bytes.gossip),
            push: per_hour(last.bytes.push),
            requests: per_hour(last.bytes.requests),
            transport: per_hour(last.bytes.transport),
        };
        let (asked, found, peers) = self.asked;
        let summary = Summary {
            seconds: last.at,
            nodes: last.nodes,
            published: last.published,
            acknowledged: self.acknowledged,
            lost: self.lost,
            copies: last.copies,
            below_min: match (self.sectors.complete, self.sectors.possible) {
                (true, _) => self.sectors.longest.as_secs_f64(),
                // There never were enough.
                (false, Some(possible)) => last.at - seconds(possible),
                (false, None) => 0.0,
            },
            load: self.load,
            changing: self.changed_late.len() as f64 / last.nodes.max(1) as f64 * 3600.0 / late,
            spreading: (spread(0.5), spread(0.99), spread(1.0)),
            asked: (asked, found, peers as f64 / asked.max(1) as f64),
            bytes,
            most_held: self.most_held,
            events: self.events,
            took: took.as_secs_f64(),
        };
        // What follows is not of this run alone.
        let fingerprint = self.hasher.finalize().to_hex().to_string();
        let missed = missed(scenario, &summary);
        let (violations, samples) = (self.violations, self.samples);
        let scenario = scenario.clone();
        Results { scenario, seed, rule: None, violations, missed, samples, summary, fingerprint }
    }
}

impl Sectors {
    fn look(&mut self, at: Time, copies: &[i64; SECTORS], min: i64, enough: bool) {
        if enough {
            self.possible.get_or_insert(at);
        }
        self.complete |= enough && copies.iter().all(|copies| *copies >= min);
        for (since, copies) in self.below_since.iter_mut().zip(copies) {
            if *copies >= min || !self.complete || !enough {
                *since = None;
                continue;
            }
            let since = since.get_or_insert(at);
            self.longest = self.longest.max(at.since(*since));
        }
    }
}

/// Of each sector, the copies of the location that has the fewest.
fn copies<'a>(arcs: impl Iterator<Item = &'a ArcSet>) -> [i64; SECTORS] {
    let mut edges: Vec<(u64, i64)> = Vec::new();
    for (first, last) in arcs.flat_map(ArcSet::spans) {
        edges.extend([(u64::from(first.0), 1), (u64::from(last.0) + 1, -1)]);
    }
    edges.sort_unstable();
    let len = RING / SECTORS as u64;
    let mut sectors = [i64::MAX; SECTORS];
    let (mut sum, mut edges) = (0, edges.into_iter().peekable());
    for (sector, number) in sectors.iter_mut().zip(0..) {
        let (first, end) = (number * len, (number + 1) * len);
        while let Some((_, change)) = edges.next_if(|(at, _)| *at <= first) {
            sum += change;
        }
        *sector = sum;
        // All changes at one place count together.
        while let Some((at, change)) = edges.next_if(|(at, _)| *at < end) {
            sum += change;
            while let Some((_, change)) = edges.next_if(|(next, _)| *next == at) {
                sum += change;
            }
            *sector = sum.min(*sector);
        }
    }
    sectors
}

/// What the scenario expects and did not come.
fn missed(scenario: &Scenario, summary: &Summary) -> Vec<String> {
    let (expect, mut missed) = (&scenario.expect, Vec::new());
    let below = expect.below_min.0.as_secs_f64();
    if summary.below_min > below {
        missed.push(format!(
            "a sector had fewer than {} copies for {:.0} s, {below:.0} s at most were expected",
            scenario.copies.0, summary.below_min
        ));
    }
    let lost = summary.lost.0 as f64 / summary.published.max(1) as f64;
    if lost > expect.lost {
        missed.push(format!("{} of {} aspects are lost", summary.lost.0, summary.published));
    }
    if summary.load > expect.load {
        let (load, most) = (summary.load, expect.load);
        missed.push(format!("a node holds {load:.2} times the mean, {most} at most was expected"));
    }
    if summary.changing > expect.changing {
        missed.push(format!(
            "{:.1} % of the nodes change their target in an hour, {:.1} % at most were expected",
            summary.changing * 100.0,
            expect.changing * 100.0
        ));
    }
    missed
}

fn before(at: Time, length: Duration) -> Time {
    Time::from_micros(at.as_micros().saturating_sub(length.as_micros() as u64))
}

fn seconds(at: Time) -> f64 {
    at.since(BEGINNING).as_secs_f64()
}

#[cfg(test)]
mod tests {
    use arcwise_proto::{Location, RingArc};

    use super::*;
    use crate::scenario::Span;

    /// Four nodes that are on, of which the last is a liar, and an aspect that was published long ago, of which
    /// two receipts were waited for.
    struct World {
        people: People,
        watch: Watch,
        aspect: Aspect,
    }

    const NOW: Time = Time::from_micros(BEGINNING.as_micros() + 600_000_000);

    impl World {
        fn new() -> Self {
            let text = "name = \"x\"\nabout = \"y\"\nnodes = 4\nlength = \"15m\"\n";
            let scenario = Scenario::parse(text).unwrap();
            let (mut people, world, _) = People::new(&scenario, 1, true);
            people.nodes.iter_mut().for_each(|it| it.on = true);
            people.nodes[3].role = Role::Liar;
            let mut watch = Watch::new(&scenario, &people);
            watch.know(world.index);
            let entry = EntryAddress([7; 32]);
            let aspect = Aspect::new(entry, 1, BEGINNING, &[0; 12]).unwrap();
            watch.published(BEGINNING, &aspect, 2);
            Self { people, watch, aspect }
        }

        fn see(&mut self, node: u32, what: What) {
            self.watch.see(Seen { at: NOW, node, what }, &self.people);
        }

        fn stored(&mut self, node: u32) {
            self.see(node, What::Stored(vec![self.aspect.key()]));
        }

        fn claims(&mut self, node: u32) {
            let at = RingArc::around(self.aspect.location(), 1000);
            self.see(node, What::Claims(at.into(), at.into()));
        }

        fn acknowledged(&mut self, by: &[u32]) {
            let index = &self.watch.index;
            let id = |node: &u32| index.iter().find(|(_, it)| *it == node).map(|(id, _)| *id);
            let by = by.iter().filter_map(id).collect();
            self.see(0, What::Acknowledged(vec![self.aspect.key()], by));
        }

        /// Its disk is gone.
        fn ends(&mut self, node: u32) {
            self.people.nodes[node as usize].gone = true;
            self.people.nodes[node as usize].on = false;
            self.see(node, What::Dropped(vec![self.aspect.key()]));
        }

        fn violations(&self) -> usize {
            self.watch.violations.len()
        }
    }

    #[test]
    fn what_was_acknowledged_may_be_lost_with_all_who_did_and_not_before() {
        let mut world = World::new();
        [0, 1, 2].iter().for_each(|node| world.stored(*node));
        world.acknowledged(&[1, 2]);
        [0, 1, 2].iter().for_each(|node| world.ends(*node));
        assert_eq!((world.watch.lost, world.violations()), ((1, 1), 0));

        let mut world = World::new();
        [0, 1, 2].iter().for_each(|node| world.stored(*node));
        world.acknowledged(&[1, 2]);
        world.ends(0);
        world.ends(1);
        // Node 2 is there, and has dropped it.
        world.see(2, What::Dropped(vec![world.aspect.key()]));
        assert_eq!((world.watch.lost, world.violations()), ((1, 1), 1));
    }

    #[test]
    fn the_receipt_of_a_liar_is_none() {
        let mut world = World::new();
        [0, 1].iter().for_each(|node| world.stored(*node));
        world.acknowledged(&[1, 3]);
        world.ends(0);
        world.ends(1);
        assert_eq!((world.watch.lost, world.violations()), ((1, 1), 0));
    }

    #[test]
    fn what_is_claimed_must_be_held() {
        let mut world = World::new();
        world.claims(1);
        assert_eq!(world.violations(), 0, "nobody holds it");
        world.stored(1);
        world.claims(2);
        assert_eq!(world.violations(), 1);
        world.see(2, What::Claims(ArcSet::empty(), ArcSet::empty()));
        world.stored(2);
        world.claims(2);
        world.claims(3);
        assert_eq!(world.violations(), 1, "a liar is expected to lie");
    }

    #[test]
    fn what_exists_must_be_found() {
        let mut world = World::new();
        world.stored(1);
        world.claims(1);
        let (entry, asked) = (world.aspect.entry(), 3);
        let began = BEGINNING + Span::secs(800).0;
        world.see(2, What::Found { entry, began, aspects: vec![world.aspect.key()], asked });
        assert_eq!((world.watch.asked, world.violations()), ((1, 1, 3), 0));
        world.see(2, What::Found { entry, began: NOW, aspects: vec![], asked });
        assert_eq!((world.watch.asked, world.violations()), ((2, 1, 6), 0), "all may be moving");
        world.see(2, What::Found { entry, began, aspects: vec![], asked });
        assert_eq!((world.watch.asked, world.violations()), ((3, 1, 9), 1));
    }

    #[test]
    fn what_is_lacking_at_the_end_is_told() {
        let mut world = World::new();
        world.stored(1);
        world.claims(1);
        let key = world.aspect.key();
        assert_eq!(world.watch.settled(NOW, &world.people), [key]);
        let census = Census { lacking: 1, examples: vec![(2, key)], ..Census::default() };
        world.watch.end(NOW, &world.people, census);
        assert_eq!(world.violations(), 1);
    }

    #[test]
    fn copies_are_counted_where_there_are_the_fewest() {
        let len = RING / SECTORS as u64;
        let arc =
            |start: u64, len| ArcSet::from(RingArc::new(Location(start as u32), len).unwrap());
        let arcs =
            [ArcSet::full(), arc(len, 2 * len), arc(2 * len, 2 * len - 1), arc(RING - 5, 10)];
        let copies = copies(arcs.iter());
        assert_eq!(copies[..5], [1, 2, 3, 1, 1]);
        assert_eq!(copies[SECTORS - 1], 1);
        assert_eq!(super::copies([].iter()), [0; SECTORS]);
    }

    #[test]
    fn too_few_copies_count_from_when_there_were_enough() {
        let mut sectors = Sectors {
            below_since: [None; SECTORS],
            complete: false,
            possible: None,
            longest: Duration::ZERO,
        };
        let at = |seconds| NOW + Duration::from_secs(seconds);
        let (mut few, many) = ([8; SECTORS], [9; SECTORS]);
        few[3] = 7;
        sectors.look(at(0), &few, 8, true);
        sectors.look(at(50), &few, 8, true);
        assert_eq!(sectors.longest, Duration::ZERO);
        sectors.look(at(60), &many, 8, true);
        sectors.look(at(70), &few, 8, true);
        sectors.look(at(90), &few, 8, true);
        sectors.look(at(100), &many, 8, true);
        sectors.look(at(110), &few, 8, true);
        assert_eq!(sectors.longest, Duration::from_secs(20));
    }
}
