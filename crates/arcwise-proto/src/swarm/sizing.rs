//! How much of the ring a node aims at.
//!
//! A node stores each location of which nodes that are nearer to it do not hold enough copies. Where all
//! do as they should, each location is held by just the nodes nearest to it, as many as wanted, and what
//! a node holds follows from who is there and not from what others hold: so arcs do not swing. A node
//! that holds less than it should is not counted where its arcs do not reach, and others reach further,
//! step by step, each time after a look at how far the others went.
//!
//! Who is away counts for the part of the time in which it is there, so that nothing is moved for those who come
//! and go. Besides, nodes that are there now see to it that they hold the least number of copies.
//!
//! Too much is kept for a while, and until others that are nearer hold it. So it is safe to give it up even
//! where all do it at once, since who is among the nearest never gives up anything.

use std::time::Duration;

use super::{
    copies::{Copies, Coverage, UNIT, parts},
    random::Random,
};
use crate::{
    id::NodeId,
    ring::{ArcSet, Location, RING, RingArc},
    time::Time,
};

/// Growing to our own share waits about so long, so that not all react to one event at once. A guess:
/// the time in which the news of an event gets around.
const SHARE_DELAY: Duration = Duration::from_secs(4);

/// Reaching further, because others hold less than their share, waits about so long. A guess: by then
/// all who will have grown to their share, and have said so.
const FURTHER_DELAY: Duration = Duration::from_secs(20);

/// Reaching further goes by a quarter of the length a step: so that even where all do it at once, it is
/// hardly more than what is kept anyway.
const FURTHER_PART: u64 = 4;

/// Giving up waits until there was too much for so many times as long as a peer may be away. A guess: many
/// who leave come back sooner.
const SHRINK_WAITS: u32 = 5;

/// Less than a fiftieth of the length is not worth giving up. A guess.
const SMALL_PART: u64 = 50;

/// A location is kept while nearer nodes hold less than five quarters of the wanted copies. A guess: what is
/// lost when a few leave is there then.
const KEEP: (u64, u64) = (5, 4);

/// But only half as far again as they hold less than the wanted copies: who holds far more than its share must
/// not wait until others hold more than theirs. A guess: twice would be too much for one node.
const FAR: (u64, u64) = (3, 2);

/// The locations on one side of a node.
const SIDE: u64 = RING / 2;

/// A node in the space, as it counts for the size of our arc.
#[derive(Clone, Debug, PartialEq)]
pub struct Neighbour {
    /// Who.
    pub node: NodeId,
    /// Where it sits.
    pub location: Location,
    /// What it claims and what it fills: store and target arcs together.
    pub arcs: ArcSet,
    /// What it claims.
    pub store: ArcSet,
    /// The part of the time in which it can be reached, 0 to 1; 0 where it is not trusted, or presumed
    /// gone for good.
    pub weight: f64,
    /// It cannot be reached, for longer than a peer may be away where there are too few copies.
    pub away: bool,
}

/// Which copies count.
#[derive(Clone, Copy)]
enum Count {
    /// What others claim or fill, by how likely they can be reached.
    Expected,
    /// The same, without what they only fill.
    Claimed,
    /// What those claim or fill who are not away.
    Here,
}

impl Neighbour {
    /// How much of a copy it is.
    fn weight(&self, count: Count) -> f64 {
        match count {
            Count::Here if self.away || self.weight <= 0.0 => 0.0,
            Count::Here => 1.0,
            Count::Expected | Count::Claimed => self.weight,
        }
    }

    fn arcs(&self, count: Count) -> &ArcSet {
        match count {
            Count::Claimed => &self.store,
            Count::Expected | Count::Here => &self.arcs,
        }
    }
}

/// Decides how much of the ring a node aims at, in one space.
#[derive(Debug)]
pub struct Sizing {
    node: NodeId,
    location: Location,
    aim: Reach,
    lacking: Option<Wait>,
    surplus: Option<Wait>,
    /// See [`SHRINK_WAITS`].
    patience: Duration,
    random: Random,
}

/// How far an arc goes from our location: `up` are locations from ours on, `down` those right before.
/// Neither is more than [`SIDE`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Reach {
    up: u64,
    down: u64,
}

/// What we are to hold where all do as they should; and as things are, which is no less.
#[derive(Clone, Copy, Debug)]
struct Need {
    share: Reach,
    lacking: Reach,
}

impl Need {
    /// What is needed for either reason.
    fn or(self, other: Need) -> Need {
        let share = self.share.and(self.lacking).or(other.share.and(other.lacking));
        Need { share, lacking: self.lacking.or(other.lacking) }
    }
}

impl From<[u64; 2]> for Reach {
    fn from([up, down]: [u64; 2]) -> Self {
        Self { up, down }
    }
}

/// Since when something waits to be done, and until when.
#[derive(Clone, Copy, Debug)]
struct Wait {
    length: Duration,
    until: Time,
}

impl Sizing {
    /// For the node `node`, that sits at `location`. `target` is what it aimed at when it was last
    /// running, empty where it is new; `patience` is how long a peer may be away before others take its
    /// place where there are too few copies; `seed` is random, other nodes have others.
    pub fn new(
        node: NodeId,
        location: Location,
        target: RingArc,
        patience: Duration,
        seed: u64,
    ) -> Self {
        let aim = match target.last() {
            Some(_) if target.is_full() => Reach { up: SIDE, down: SIDE },
            Some(last) if target.contains(location) => Reach {
                up: (u64::from(last.0.wrapping_sub(location.0)) + 1).min(SIDE),
                down: u64::from(location.0.wrapping_sub(target.start().0)).min(SIDE),
            },
            _ => Reach { up: 0, down: 0 },
        };
        let (lacking, surplus, random) = (None, None, Random::new(seed));
        Self { node, location, aim, lacking, surplus, patience, random }
    }

    /// Looks at who is there and what they hold, and gives the target arc where that is to change: one
    /// arc around our location. To be called when any of this has changed, and when
    /// [`Sizing::next_look`] says.
    ///
    /// Of the nodes there are, `neighbours` must have those nearest to us, about four times
    /// `copies.target()` to each side, or all. So a node that has just come should get to know them
    /// first: whoever knows few must think that it has to hold everything. It may have us, too.
    /// `max_len` is the most locations there is room for.
    pub fn update(
        &mut self,
        now: Time,
        neighbours: &[Neighbour],
        copies: Copies,
        max_len: Option<u64>,
    ) -> Option<ArcSet> {
        let max_len = max_len.unwrap_or(RING);
        let target = u64::from(copies.target()) * UNIT;
        let before = self.aim;
        self.aim = self.aim.cut(max_len);

        let (mut need, sides) = self.need(neighbours, Count::Expected, target);
        if neighbours.iter().any(|it| it.away && it.weight > 0.0) {
            let least = u64::from(copies.min() + (copies.target() - copies.min()) / 2) * UNIT;
            need = need.or(self.need(neighbours, Count::Here, least).0);
        }
        let need = Need { share: need.share.cut(max_len), lacking: need.lacking.cut(max_len) };
        self.grow(now, neighbours, copies, need);
        let mut kept: Reach = sides.map(|side| stays(&side.held, target)).into();
        if self.aim.or(kept) != kept {
            // What others are still filling is no reason to give anything up.
            let (_, sides) = self.need(neighbours, Count::Claimed, target);
            kept = sides.map(|side| stays(&side.held, target)).into();
        }
        self.shrink(now, kept.or(need.lacking).cut(max_len));

        self.aim = self.aim.cut(max_len);
        (self.aim != before).then(|| self.arcs(self.aim))
    }

    /// When to look again, though nothing has changed; `None` where everything is as it should be.
    pub fn next_look(&self) -> Option<Time> {
        [self.lacking, self.surplus].into_iter().flatten().map(|wait| wait.until).min()
    }

    /// What we are to hold so that everything has so many copies.
    fn need(&self, neighbours: &[Neighbour], count: Count, copies: u64) -> (Need, [Side; 2]) {
        let sides = [true, false].map(|up| self.side(neighbours, up, count));
        let share = sides.each_ref().map(|side| reach(&side.near, copies)).into();
        let lacking = sides.each_ref().map(|side| reach(&side.held, copies)).into();
        (Need { share, lacking }, sides)
    }

    fn grow(&mut self, now: Time, neighbours: &[Neighbour], copies: Copies, need: Need) {
        let Need { share, lacking } = need;
        // Our share does not depend on what others hold, so there is no need to see that first.
        let share = self.aim.or(share.and(lacking));
        if share != self.aim {
            let here = neighbours.iter().map(|it| (&it.arcs, it.weight(Count::Here)));
            let more = self.arcs(share).difference(&self.arcs(self.aim));
            let weakest = Coverage::of(here).over(&more).map(|it| it.min);
            let is_urgent = weakest.is_some_and(|it| it < f64::from(copies.min()));
            if !is_urgent && !wait(&mut self.lacking, &mut self.random, now, SHARE_DELAY) {
                return;
            }
            self.aim = share;
        }
        while self.aim.or(lacking) != self.aim {
            if !wait(&mut self.lacking, &mut self.random, now, FURTHER_DELAY) {
                return;
            }
            let step = self.aim.len() / FURTHER_PART / 2 + 1;
            let further = Reach { up: self.aim.up + step, down: self.aim.down + step };
            self.aim = self.aim.or(lacking.and(further));
        }
        self.lacking = None;
    }

    fn shrink(&mut self, now: Time, kept: Reach) {
        let kept = self.aim.and(kept);
        let surplus = self.aim.len() - kept.len();
        if surplus == 0 || surplus < self.aim.len() / SMALL_PART {
            self.surplus = None;
        } else if wait(&mut self.surplus, &mut self.random, now, self.patience * SHRINK_WAITS) {
            self.aim = kept;
        }
    }

    fn arcs(&self, reach: Reach) -> ArcSet {
        let start = Location(self.location.0.wrapping_sub(reach.down as u32));
        RingArc::new(start, reach.len()).unwrap_or(RingArc::FULL).into()
    }

    /// What others hold on one side of us, as changes of a sum along the way from us.
    fn side(&self, neighbours: &[Neighbour], up: bool, count: Count) -> Side {
        let way = |to: Location| match up {
            true => u64::from(to.0.wrapping_sub(self.location.0)),
            false => u64::from(self.location.0.wrapping_sub(1).wrapping_sub(to.0)),
        };
        let (near, held) = (Vec::with_capacity(neighbours.len()), Vec::new());
        let mut side = Side { near, held };
        side.held.reserve(2 * neighbours.len());
        for it in neighbours.iter().filter(|it| it.node != self.node) {
            let weight = parts(it.weight(count));
            let Some(nearer) = self.nearer_from(it, up).filter(|from| weight > 0 && *from < SIDE)
            else {
                continue;
            };
            side.near.push(change(nearer, weight));
            for (first, last) in it.arcs(count).spans() {
                let (from, to) = if up { (way(first), way(last)) } else { (way(last), way(first)) };
                // Where it goes over our own location, it is two pieces.
                let pieces = if from <= to {
                    [Some((from, to)), None]
                } else {
                    [Some((from, RING - 1)), Some((0, to))]
                };
                for (from, to) in pieces.into_iter().flatten() {
                    let (from, end) = (from.max(nearer), (to + 1).min(SIDE));
                    if from < end {
                        side.held.extend([change(from, weight), change(end, -weight)]);
                    }
                }
            }
        }
        side.near.sort_unstable();
        side.held.sort_unstable();
        side
    }

    /// How far from us, on one side, the locations begin that are nearer to another node than to us:
    /// half way to it. Of two nodes that are as far, the one with the lower id is nearer.
    fn nearer_from(&self, it: &Neighbour, up: bool) -> Option<u64> {
        let distance = u64::from(match up {
            true => it.location.0.wrapping_sub(self.location.0),
            false => self.location.0.wrapping_sub(it.location.0),
        });
        // Only where there is a location half way, the ids matter.
        let first = match distance % 2 == 0 && it.node < self.node {
            true => distance / 2,
            false if distance == 0 => return None,
            false => distance / 2 + 1,
        };
        // The way down begins right before our location.
        Some(if up { first } else { first.saturating_sub(1) })
    }
}

/// Changes of a sum of weights, ascending: see [`change`].
struct Side {
    /// Of all nodes that are nearer, whatever they hold.
    near: Vec<u64>,
    /// Of what is held by nodes that are nearer.
    held: Vec<u64>,
}

/// A change of a sum of weights, so many steps from us, as one number, because these are sorted faster.
fn change(at: u64, weight: i64) -> u64 {
    at << WEIGHT_BITS | weight.wrapping_add(1 << (WEIGHT_BITS - 1)) as u64
}

/// Of a [`change`], those for the weight: it is not above [`UNIT`], nor as much below zero.
const WEIGHT_BITS: u32 = 20;

/// How far to go until others hold enough for as far again: ending at the first such place, a few nodes
/// with short arcs could hide from us what they do not hold.
fn reach(changes: &[u64], enough: u64) -> u64 {
    let enough = i64::try_from(enough).unwrap_or(i64::MAX);
    let (mut reach, mut sum, mut from) = (0, 0, 0);
    for change in changes.iter().copied().chain([change(SIDE, 0)]) {
        let at = change >> WEIGHT_BITS;
        if from < at && sum < enough {
            if from > 2 * reach {
                break;
            }
            reach = at;
        }
        sum += (change & ((1 << WEIGHT_BITS) - 1)) as i64 - (1 << (WEIGHT_BITS - 1));
        from = at;
    }
    reach
}

/// How far what is held is kept: see [`KEEP`] and [`FAR`].
fn stays(changes: &[u64], target: u64) -> u64 {
    reach(changes, target * KEEP.0 / KEEP.1).min(reach(changes, target) * FAR.0 / FAR.1)
}

impl Reach {
    fn len(self) -> u64 {
        self.up + self.down
    }

    fn or(self, other: Reach) -> Reach {
        Reach { up: self.up.max(other.up), down: self.down.max(other.down) }
    }

    fn and(self, other: Reach) -> Reach {
        Reach { up: self.up.min(other.up), down: self.down.min(other.down) }
    }

    /// At most so long: half to each side, and what one side does not need goes to the other.
    fn cut(self, max_len: u64) -> Reach {
        let half = max_len.div_ceil(2);
        let up = self.up.min(half.max(max_len.saturating_sub(self.down)));
        Reach { up, down: self.down.min(max_len - up) }
    }
}

/// Whether it has been waited for about `length`; if not, it is being waited now.
fn wait(waiting: &mut Option<Wait>, random: &mut Random, now: Time, length: Duration) -> bool {
    match *waiting {
        Some(wait) if wait.length == length => {
            if wait.until <= now {
                *waiting = None;
            }
            wait.until <= now
        }
        _ => {
            *waiting = Some(Wait { length, until: now + random.around(length) });
            false
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    const PATIENCE: Duration = Duration::from_secs(120);
    const SHRINK_DELAY: Duration = Duration::from_secs(600);

    use super::*;

    const COPIES: Copies = match Copies::new(8, 20) {
        Ok(copies) => copies,
        Err(_) => unreachable!(),
    };

    fn id(random: &mut Random) -> NodeId {
        let mut id = [0; 32];
        id[..8].copy_from_slice(&random.next().to_be_bytes());
        NodeId(id)
    }

    /// A network of which all nodes see at once what the others aim at.
    struct Network {
        now: Time,
        random: Random,
        /// By location.
        nodes: Vec<(Sizing, Neighbour)>,
        max_len: Option<u64>,
        /// Lower than this is the first byte of the ids of those that store nothing or, with a
        /// `max_len`, no more than that.
        idle_below: u8,
        /// To how many to each side a node knows the others.
        knows: usize,
        changes: usize,
        /// Nobody gets what it fills.
        slow: bool,
    }

    impl Network {
        fn new(seed: u64, nodes: usize) -> Self {
            let mut this = Self {
                now: Time::ZERO,
                random: Random::new(seed),
                nodes: Vec::new(),
                max_len: None,
                idle_below: 0,
                knows: 100,
                changes: 0,
                slow: false,
            };
            this.add(nodes);
            this
        }

        fn add(&mut self, nodes: usize) {
            for _ in 0..nodes {
                let node = id(&mut self.random);
                let location = Location(self.random.next() as u32);
                let arcs = ArcSet::empty();
                let sizing =
                    Sizing::new(node, location, RingArc::EMPTY, PATIENCE, self.random.next());
                let store = arcs.clone();
                let it = Neighbour { node, location, arcs, store, weight: 1.0, away: false };
                self.nodes.push((sizing, it));
            }
            self.sort();
        }

        fn sort(&mut self) {
            self.nodes.sort_by_key(|(_, it)| (it.location, it.node));
        }

        fn known_to(&self, i: usize) -> Vec<Neighbour> {
            let n = self.nodes.len();
            let (from, count) = match n > 2 * self.knows {
                true => (i + n - self.knows, 2 * self.knows + 1),
                false => (0, n),
            };
            (from..from + count).map(|i| self.nodes[i % n].1.clone()).collect()
        }

        fn is_idle(&self, i: usize) -> bool {
            self.nodes[i].1.node.0[0] < self.idle_below
        }

        fn update(&mut self, i: usize) -> Option<ArcSet> {
            let known = self.known_to(i);
            let max_len = if self.is_idle(i) { Some(self.max_len.unwrap_or(0)) } else { None };
            let arcs = self.nodes[i].0.update(self.now, &known, COPIES, max_len)?;
            self.changes += 1;
            Some(arcs)
        }

        /// All look at the same time, and see what was before; or one after the other.
        fn step(&mut self, together: bool) {
            self.step_of(together, |_| true);
        }

        /// The same, of some of them.
        fn step_of(&mut self, together: bool, who: impl Fn(&Neighbour) -> bool) {
            let n = self.nodes.len();
            let mut order: Vec<usize> = (0..n).filter(|i| who(&self.nodes[*i].1)).collect();
            order.sort_by_cached_key(|_| self.random.next());
            let mut later = Vec::new();
            for i in order {
                match self.update(i) {
                    Some(arcs) if together => later.push((i, arcs)),
                    Some(arcs) => self.fills(i, arcs),
                    None => {}
                }
            }
            for (i, arcs) in later {
                self.fills(i, arcs);
            }
        }

        fn fills(&mut self, i: usize, arcs: ArcSet) {
            let it = &mut self.nodes[i].1;
            it.store = if self.slow { it.store.intersect(&arcs) } else { arcs.clone() };
            it.arcs = arcs;
        }

        /// Goes on to when something is to be done; `false` where nothing is.
        fn pass(&mut self, at_least: u64) -> bool {
            let next = self.nodes.iter().filter_map(|(sizing, _)| sizing.next_look()).min();
            self.now = self.now + Duration::from_secs(at_least);
            self.now = next.unwrap_or(self.now).max(self.now);
            next.is_some()
        }

        /// Until nobody changes anything any more; how many steps that took.
        fn settle(&mut self, together: bool, at_least: u64) -> usize {
            for steps in 1..2000 {
                let before = self.changes;
                self.step(together);
                if !self.pass(at_least) && self.changes == before {
                    return steps;
                }
            }
            panic!("it does not settle");
        }

        fn coverage(&self) -> Coverage {
            Coverage::of(self.nodes.iter().map(|(_, it)| (&it.arcs, it.weight)))
        }

        fn min(&self) -> f64 {
            self.coverage().over(&ArcSet::full()).unwrap().min
        }

        fn mean(&self) -> f64 {
            self.nodes.iter().map(|(_, it)| it.arcs.fraction()).sum()
        }

        /// A part of the nodes goes at once.
        fn lose(&mut self, percent: u64) {
            let random = &mut self.random;
            self.nodes.retain(|_| random.next() % 100 >= percent);
        }
    }

    #[test]
    fn each_location_gets_its_copies() {
        for nodes in [10, 20, 21, 50, 200, 1000] {
            for together in [true, false] {
                let mut net = Network::new(nodes as u64, nodes);
                net.settle(together, 1);
                // One step does it, and it is no more than wanted anywhere.
                assert_eq!(net.changes, nodes);
                let wanted = f64::from(COPIES.target()).min(nodes as f64);
                assert_eq!(net.min(), wanted, "{nodes} nodes");
                assert!((net.mean() - wanted).abs() < 1e-6, "{nodes} nodes");
                // The longest is not much longer than the others.
                let mean = net.mean() / nodes as f64;
                let longer = net.nodes.iter().filter(|it| it.1.arcs.fraction() > 2.0 * mean);
                assert!(longer.count() * 100 <= nodes, "{nodes} nodes");
                // And so it stays.
                net.now = net.now + 10 * SHRINK_DELAY;
                net.step(together);
                assert_eq!(net.changes, nodes);
                assert!(net.nodes.iter().all(|(sizing, _)| sizing.next_look().is_none()));
            }
        }
    }

    #[test]
    fn what_was_lost_comes_back() {
        for (percent, together) in [(30, true), (50, true), (60, false)] {
            let mut net = Network::new(percent, 300);
            net.settle(true, 1);
            net.lose(percent);
            let lost = net.min();
            assert!(lost < 20.0);
            // Whoever is to hold what is below the least grows at once, the others soon.
            net.step(together);
            assert!(net.min() >= f64::from(COPIES.min()));
            net.now = net.now + SHARE_DELAY * 2;
            net.step(together);
            assert!(net.min() >= 18.0, "{}", net.min());
            net.settle(together, 1);
            assert!(net.min() >= 20.0);
            // Nobody has reacted too much.
            assert!(net.mean() < 21.0, "{}", net.mean());
        }
    }

    #[test]
    fn others_do_what_some_do_not() {
        for together in [true, false] {
            let mut net = Network::new(5, 200);
            // Half of them.
            net.idle_below = 128;
            let mut steps = 0;
            while net.min() < 20.0 {
                steps += 1;
                assert!(steps < 30, "{}", net.min());
                net.step(together);
                net.pass(5);
            }
            assert!(net.mean() < 30.0, "{}", net.mean());
            net.settle(together, 30);
            assert!(net.min() >= 20.0, "{}", net.min());
            assert!(net.mean() < 26.0, "{}", net.mean());
            // They may go on to lack what they like, and nothing moves.
            let before = net.changes;
            net.now = net.now + 10 * SHRINK_DELAY;
            net.step(together);
            assert_eq!(net.changes, before);
        }
    }

    #[test]
    fn who_is_often_away_counts_for_less() {
        let mut net = Network::new(10, 200);
        for (_, it) in &mut net.nodes {
            // A fifth is not trusted, or gone for good.
            let (luck, part) = (net.random.next(), net.random.next());
            it.weight = if luck % 5 == 0 { 0.0 } else { 0.5 + (part % 500) as f64 / 1000.0 };
        }
        net.settle(true, 5);
        assert!(net.min() >= 20.0, "{}", net.min());
        let counted = net.coverage().over(&ArcSet::full()).unwrap();
        assert!(counted.median < 21.5, "{counted:?}");
    }

    #[test]
    fn who_is_away_counts_until_there_are_too_few() {
        let mut net = Network::new(11, 200);
        for (_, it) in &mut net.nodes {
            it.weight = 0.8;
        }
        net.settle(true, 5);
        let wanted = net.mean();
        assert!(wanted * 0.8 >= 20.0);
        // A third is away, and may come back: nobody does anything.
        for (n, (_, it)) in net.nodes.iter_mut().enumerate() {
            it.away = n % 3 == 0;
        }
        let before = net.changes;
        net.now = net.now + 10 * SHRINK_DELAY;
        net.step(true);
        assert_eq!(net.changes, before);
        // So many are away that fewer than eight are left somewhere: those who are here see to it that there
        // are enough of them, and count in full.
        for (n, (_, it)) in net.nodes.iter_mut().enumerate() {
            it.away = n % 4 != 0;
        }
        let here = |net: &Network| {
            let here = net.nodes.iter().filter(|(_, it)| !it.away).map(|(_, it)| (&it.arcs, 1.0));
            Coverage::of(here).over(&ArcSet::full()).unwrap()
        };
        assert!(here(&net).min < 8.0);
        for _ in 0..20 {
            net.step_of(true, |it| !it.away);
            net.pass(5);
        }
        assert!(here(&net).min >= 8.0, "{:?}", here(&net));
        assert!(here(&net).median < 26.0, "{:?}", here(&net));
    }

    #[test]
    fn a_quota_is_never_exceeded() {
        let mut net = Network::new(6, 200);
        // Three quarters have half of the room that would be needed.
        (net.idle_below, net.max_len) = (192, Some(RING / 20));
        net.settle(true, 5);
        assert!(net.min() >= 20.0, "{}", net.min());
        for i in 0..200 {
            let (_, it) = &net.nodes[i];
            assert!(!net.is_idle(i) || it.arcs.len() <= RING / 20);
            assert!(it.arcs.contains(it.location));
        }
        // What is taken away is given up at once, to both sides.
        let known = net.known_to(0);
        let (sizing, it) = &mut net.nodes[0];
        let arcs = sizing.update(net.now, &known, COPIES, Some(1001)).unwrap();
        let around = RingArc::new(Location(it.location.0.wrapping_sub(500)), 1001).unwrap();
        assert_eq!(arcs, around.into());
        let arcs = sizing.update(net.now, &known, COPIES, Some(0));
        assert_eq!(arcs, Some(ArcSet::empty()));
    }

    #[test]
    fn two_networks_that_meet_give_up_what_is_too_much() {
        for together in [true, false] {
            let (mut net, mut other) = (Network::new(7, 60), Network::new(8, 60));
            net.settle(true, 1);
            other.settle(true, 1);
            net.now = net.now.max(other.now);
            net.nodes.append(&mut other.nodes);
            net.sort();
            let start = net.now;
            assert!(net.min() >= 40.0);
            for steps in 0.. {
                assert!(steps < 1000);
                net.step(together);
                assert!(net.min() >= 20.0);
                if !net.pass(20) {
                    break;
                }
            }
            assert!(net.now.since(start) > SHRINK_DELAY / 2);
            assert!(net.now.since(start) < 3 * SHRINK_DELAY);
            assert!(net.mean() < 27.0, "{}", net.mean());
        }
    }

    #[test]
    fn nothing_is_given_up_to_those_who_fill_it() {
        let mut net = Network::new(12, 60);
        net.settle(true, 1);
        net.slow = true;
        net.add(90);
        let claimed = |net: &Network| {
            let held = net.nodes.iter().map(|(_, it)| (&it.store, 1.0));
            Coverage::of(held).over(&ArcSet::full()).unwrap().min
        };
        for _ in 0..10 {
            net.step(true);
            net.pass(600);
        }
        assert_eq!(claimed(&net), 20.0);
        // Now they have it, and who is not needed any more gives it up.
        net.nodes.iter_mut().for_each(|(_, it)| it.store = it.arcs.clone());
        net.slow = false;
        let before = net.mean();
        net.settle(true, 30);
        assert!(net.min() >= 20.0 && net.mean() < before - 5.0, "{} {before}", net.mean());
    }

    #[test]
    fn who_held_everything_gives_it_up_to_those_who_have_come() {
        let mut net = Network::new(13, 1);
        net.settle(true, 1);
        assert_eq!(net.mean(), 1.0);
        // Each of these has its share at once, so there are never more than 20 copies besides.
        net.add(199);
        net.settle(true, 1);
        let longest = net.nodes.iter().map(|(_, it)| it.arcs.fraction()).fold(0.0, f64::max);
        assert!(longest < 0.2, "{longest}");
        assert!(net.min() >= 20.0);
    }

    #[test]
    fn who_comes_moves_nobody() {
        let mut net = Network::new(9, 200);
        net.settle(true, 1);
        let before = net.changes;
        net.add(1);
        net.settle(true, 1);
        assert_eq!(net.changes, before + 1);
        // And who goes moves those alone that are near.
        net.nodes.remove(100);
        let before = net.changes;
        net.settle(true, 1);
        assert!(net.changes <= before + 40, "{}", net.changes - before);
        assert!(net.min() >= 20.0);
    }

    #[test]
    fn whoever_was_running_goes_on_with_what_it_had() {
        let node = NodeId([1; 32]);
        let arc = RingArc::between(Location(0xffff_ff00), Location(0x1000));
        for (arc, location) in [(arc, 0), (arc, 0xffff_ff80), (RingArc::FULL, 7)] {
            let sizing = Sizing::new(node, Location(location), arc, PATIENCE, 0);
            assert_eq!(sizing.arcs(sizing.aim), arc.into());
        }
        let mut sizing = Sizing::new(node, Location(0x2000), arc, PATIENCE, 0);
        assert!(sizing.arcs(sizing.aim).is_empty());
        // Alone, it holds everything.
        assert_eq!(sizing.update(Time::ZERO, &[], COPIES, None), Some(ArcSet::full()));
        assert_eq!(sizing.update(Time::ZERO, &[], COPIES, None), None);
        assert_eq!(sizing.next_look(), None);
    }

    proptest! {
        /// With one copy of everything, each location belongs to the node nearest to it; of two that are
        /// as near, or at one place, to the one with the lower id.
        #[test]
        fn the_nearest_holds_it(
            nodes in proptest::collection::btree_map(
                any::<u8>().prop_map(|n| NodeId([n; 32])),
                prop_oneof![any::<u32>(), 0..9u32, (0..9u32).prop_map(|n| u32::MAX - n),
                    (0..9u32).prop_map(|n| (1 << 31) - 4 + n)].prop_map(Location),
                1..6,
            ),
            probes in proptest::collection::vec(any::<u32>(), 8),
        ) {
            let copies = Copies::new(1, 1).unwrap();
            let neighbours: Vec<Neighbour> = nodes.iter().map(|(node, location)| {
                let (arcs, store) = (ArcSet::full(), ArcSet::full());
                Neighbour { node: *node, location: *location, arcs, store, weight: 1.0, away: false }
            }).collect();
            let held: Vec<(NodeId, ArcSet)> = nodes.iter().map(|(node, location)| {
                let mut sizing = Sizing::new(*node, *location, RingArc::EMPTY, PATIENCE, 0);
                let mut now = Time::ZERO;
                let mut arcs = ArcSet::empty();
                loop {
                    arcs = sizing.update(now, &neighbours, copies, None).unwrap_or(arcs);
                    match sizing.next_look() {
                        Some(next) => now = next,
                        None => break (*node, arcs),
                    }
                }
            }).collect();
            let edges = nodes.values().flat_map(|it| (0..9u32).map(|n| it.0.wrapping_add(n).wrapping_sub(4)));
            for probe in probes.into_iter().chain(edges) {
                let distance = |it: &Location| {
                    let up = it.0.wrapping_sub(probe);
                    up.min(up.wrapping_neg())
                };
                let (nearest, _) = nodes.iter().min_by_key(|(node, it)| (distance(it), **node)).unwrap();
                let holders = held.iter().filter(|(_, arcs)| arcs.contains(Location(probe)));
                prop_assert_eq!(holders.map(|(node, _)| node).collect::<Vec<_>>(), [nearest]);
            }
        }
    }
}
