//! By which rule nodes decide how much of the ring they aim at: the one that ships, and two others to
//! compare it with.

use std::time::Duration;

use arcwise_proto::{
    id::NodeId,
    ring::{ArcSet, Location, RING, RingArc},
    swarm::{Copies, Neighbour, Sizing},
    time::Time,
};

use serde::{Deserialize, Serialize};

use super::cover::Reach;

/// How nodes decide on their arcs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Rule {
    /// As they do: [`Sizing`].
    Arcwise,
    /// As lib3h recommends, in `crates/lib3h/src/rrdht_util/r_value.rs` of
    /// <https://github.com/holochain/lib3h> (2019, commit b6616269). From the peers that it knows around it, a
    /// node reckons how many nodes there are and how many copies they make on average. Between two numbers of
    /// copies it leaves its arc as it is; below, it goes to twice the mean radius of those peers where its own
    /// is not from 1.5 to 3 times that; above, to five eighths where it is not from half to three quarters;
    /// and with fewer nodes than twice the lower number everything is held. lib3h's tests use 25 and 50; here
    /// the lower one is the normal number of copies, and the upper one twice that. lib3h never called it, so
    /// how often is ours: see [`LIB3H_LOOKS`].
    Lib3h,
    /// As kitsune did until arcs were fixed: `crates/kitsune_p2p/dht/src/arq/{strat,peer_view}.rs` of
    /// <https://github.com/holochain/holochain> (2022 to 2024, commits 021cedcc and 05061f39), each five
    /// minutes. An arc begins at the node's location, has 8 to 15 chunks of a power of two, and is full in the
    /// beginning. Where the mean coverage of those who begin inside of it is below a number of copies, or more
    /// than 14.3 % above it, the arc changes by the ratio to the middle of these, damped by the number of
    /// peers seen; who sees fewer peers than three quarters of the coverage grows.
    Kitsune,
}

impl Rule {
    /// As it is named on the command line and in JSON.
    pub fn name(self) -> &'static str {
        match self {
            Self::Arcwise => "arcwise",
            Self::Lib3h => "lib3h",
            Self::Kitsune => "kitsune",
        }
    }
}

/// How often lib3h's rule is applied. A guess: as often as nodes told each other of themselves.
pub const LIB3H_LOOKS: Duration = Duration::from_secs(60);

/// How often kitsune applies its rule and tells others: `gossip_agent_info_update_interval_ms`.
const KITSUNE_LOOKS: Duration = Duration::from_secs(300);

/// What a node knows when it looks.
pub(super) struct View<'a> {
    /// Who is near.
    pub(super) known: &'a [Neighbour],
    /// Whether these are all nodes that there are.
    pub(super) whole: bool,
    /// What it claims and aims at.
    pub(super) own: Reach,
}

impl<'a> View<'a> {
    /// Those who can be reached.
    fn here(&self) -> impl Iterator<Item = &'a Neighbour> + use<'a> {
        self.known.iter().filter(|it| it.weight > 0.0 && !it.away)
    }
}

/// What one node decides with.
#[derive(Debug)]
pub(super) enum Controller {
    Arcwise(Sizing),
    Lib3h(Regular),
    Kitsune(Regular),
}

/// A rule that is applied at regular times.
#[derive(Debug)]
pub(super) struct Regular {
    node: NodeId,
    location: Location,
    reach: Option<Reach>,
    next: Time,
}

impl Controller {
    /// For a node that aimed at `target` when it was last running.
    pub(super) fn new(
        rule: Rule,
        node: NodeId,
        location: Location,
        target: Reach,
        patience: Duration,
        seed: u64,
    ) -> Self {
        let reach = (!target.is_empty()).then_some(target);
        let regular = Regular { node, location, reach, next: Time::ZERO };
        match rule {
            Rule::Arcwise => {
                Self::Arcwise(Sizing::new(node, location, arc(location, target), patience, seed))
            }
            Rule::Lib3h => Self::Lib3h(regular),
            Rule::Kitsune => Self::Kitsune(regular),
        }
    }

    /// Looks, and gives what it aims at where that has changed.
    pub(super) fn look(
        &mut self,
        now: Time,
        view: &View<'_>,
        location: Location,
        copies: Copies,
        max_len: Option<u64>,
    ) -> Option<Reach> {
        match self {
            Self::Arcwise(sizing) => {
                let arcs = sizing.update(now, view.known, copies, max_len)?;
                Some(reach(location, &arcs))
            }
            Self::Lib3h(regular) => regular.look(now, LIB3H_LOOKS, |it| it.lib3h(view, copies)),
            Self::Kitsune(regular) => {
                regular.look(now, KITSUNE_LOOKS, |it| it.kitsune(view, copies))
            }
        }
        .filter(|reach| *reach != view.own || view.own.is_empty())
    }

    /// When to look again, though nothing has changed.
    pub(super) fn next_look(&self) -> Option<Time> {
        match self {
            Self::Arcwise(sizing) => sizing.next_look(),
            Self::Lib3h(regular) | Self::Kitsune(regular) => Some(regular.next),
        }
    }

    /// Whether what is given up is kept until enough others have it.
    pub(super) fn hands_over(&self) -> bool {
        matches!(self, Self::Arcwise(_))
    }
}

impl Regular {
    fn look(
        &mut self,
        now: Time,
        every: Duration,
        decide: impl FnOnce(&Self) -> Reach,
    ) -> Option<Reach> {
        if now < self.next {
            return None;
        }
        self.next = now + every;
        let reach = decide(self);
        let is_new = self.reach != Some(reach);
        self.reach = Some(reach);
        is_new.then_some(reach)
    }

    /// See [`Rule::Lib3h`].
    fn lib3h(&self, view: &View<'_>, copies: Copies) -> Reach {
        let peers: Vec<&Neighbour> = view.here().collect();
        let (least, most) = (f64::from(copies.target()), 2.0 * f64::from(copies.target()));
        let sample = match (view.whole, peers.first(), peers.last()) {
            (false, Some(first), Some(last)) => {
                f64::from(last.location.0.wrapping_sub(first.location.0)) / RING as f64
            }
            _ => 1.0,
        };
        let nodes = peers.len() as f64 / sample;
        if nodes < least * 2.0 {
            return Reach::FULL;
        }
        let lengths = || peers.iter().map(|it| it.arcs.len() as f64);
        let counted: f64 = peers.iter().zip(lengths()).map(|(it, len)| it.weight * len).sum();
        let copies = counted / RING as f64 / sample;
        let radius = lengths().map(|len| len / 2.0).sum::<f64>() / peers.len() as f64;
        let own = self.reach.map(|reach| reach.len() as f64 / 2.0);
        let towards = |from: f64, to: f64, middle: f64| match own {
            Some(own) if own > radius * from && own < radius * to => own,
            _ => radius * middle,
        };
        let aim = if copies < least {
            towards(1.5, 3.0, 2.0)
        } else if copies > most {
            towards(0.5, 0.75, 0.625)
        } else {
            own.unwrap_or(radius)
        };
        let side = (aim as u64).min(RING / 2);
        Reach { up: side, down: side }
    }

    /// See [`Rule::Kitsune`].
    fn kitsune(&self, view: &View<'_>, copies: Copies) -> Reach {
        const LOWEST_POWER: u32 = 12;
        const HIGHEST_POWER: u32 = 29;
        const CHUNKS: (u64, u64) = (8, 15);
        const MOST_APART: i64 = 2;
        let Some(own) = self.reach else { return Reach { up: RING, down: 0 } };
        let (mut power, count) = chunks(own.up);
        let seen = view.here().filter(|it| it.node != self.node);
        let seen: Vec<(u64, u64)> = seen
            .map(|it| (u64::from(it.location.0.wrapping_sub(self.location.0)), it.arcs.len()))
            .filter(|(_, len)| *len > 0)
            .collect();
        // Who knows only those near it judges by these.
        let horizon = match view.whole {
            true => RING,
            false => seen.iter().map(|it| it.0).filter(|at| *at < RING / 2).max().unwrap_or(1),
        };
        let within = |len: u64| {
            let len = len.min(horizon).max(1);
            let inside = || seen.iter().filter(move |(at, _)| *at < len);
            let sum: u64 = inside().map(|it| it.1).sum();
            (sum as f64 / len as f64, inside().count() as f64)
        };
        let (least, buffer) = (f64::from(copies.target()), 0.143);
        let most = (least * (1.0 + buffer)).ceil();
        let is_slack = |(coverage, peers): (f64, f64)| peers <= coverage * 0.75;
        let (coverage, peers) = within(own.up);
        let ratio = match coverage < least || coverage > most {
            true => ((least + most) / 2.0 / coverage - 1.0) / (1.0 + peers) + 1.0,
            false => 1.0,
        };
        let slack = match is_slack((coverage, peers)) {
            true if peers == 0.0 => f64::INFINITY,
            true => coverage / peers,
            false => 1.0,
        };
        let median = median_power(seen.iter().filter(|it| it.0 < own.up).map(|it| it.1), power);
        let apart = |power: u32| i64::from(median) - i64::from(power);
        let bound = 2f64.powi(apart(power) as i32);
        let factor = (ratio * slack).max(bound.min(0.5)).min(bound.max(2.0));
        let mut new = match factor < 1.0 {
            true => (count as f64 * factor).floor() as u64,
            false => (count as f64 * factor).ceil() as u64,
        };
        let after = within(new << power);
        if new < count && (after.0 < least || (!is_slack((coverage, peers)) && is_slack(after))) {
            return own;
        }
        let grown = new.saturating_sub(count);
        while new < CHUNKS.0 {
            if power > LOWEST_POWER && apart(power) < MOST_APART {
                (power, new) = (power - 1, new * 2);
            } else {
                new = CHUNKS.0;
            }
        }
        while new > CHUNKS.1 {
            if power >= HIGHEST_POWER || -apart(power) >= MOST_APART {
                new = CHUNKS.1;
            } else if new.is_multiple_of(2) || grown > 1 {
                (power, new) = (power + 1, new.div_ceil(2));
            } else {
                break;
            }
        }
        Reach { up: (new << power).min(RING), down: 0 }
    }
}

/// An arc of kitsune's, as the power of two that its chunks are long, and their number.
fn chunks(len: u64) -> (u32, u64) {
    let mut power = 12;
    while len >> power > 15 {
        power += 1;
    }
    (power, len >> power)
}

fn median_power(lens: impl Iterator<Item = u64>, own: u32) -> u32 {
    let mut powers: Vec<u32> = lens.map(|len| chunks(len).0).chain([own]).collect();
    powers.sort_unstable();
    powers.get(powers.len() / 2).copied().unwrap_or(own)
}

/// The arc of a node at `location`.
pub(super) fn arc(location: Location, reach: Reach) -> RingArc {
    let start = Location(location.0.wrapping_sub(reach.down as u32));
    RingArc::new(start, reach.len()).unwrap_or(RingArc::FULL)
}

/// How far one arc goes from a location in it.
pub(super) fn reach(location: Location, arcs: &ArcSet) -> Reach {
    let Some(arc) = arcs.arcs().first().copied() else { return Reach::default() };
    match arc.last() {
        Some(last) if !arc.is_full() => Reach {
            // One that ends right before the location goes down only.
            up: (u64::from(last.0.wrapping_sub(location.0)) + 1) % RING,
            down: u64::from(location.0.wrapping_sub(arc.start().0)),
        },
        _ => Reach::FULL,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Peers spread evenly, each with an arc of this part of the ring.
    fn peers(count: u64, part: f64, weight: f64) -> Vec<Neighbour> {
        let peer = |n: u64| {
            let location = Location((n * (RING / count)) as u32);
            let mut node = [0; 32];
            node[..8].copy_from_slice(&(n + 1).to_be_bytes());
            let arc = RingArc::new(location, (part * RING as f64) as u64).unwrap();
            let (arcs, store) = (arc.into(), arc.into());
            Neighbour { node: NodeId(node), location, arcs, store, weight, away: false }
        };
        (0..count).map(peer).collect()
    }

    fn look(rule: Rule, peers: &[Neighbour], copies: Copies, own: f64) -> f64 {
        let len = (own * RING as f64) as u64;
        let target = match rule {
            Rule::Kitsune => Reach { up: len, down: 0 },
            _ => Reach { up: len / 2, down: len / 2 },
        };
        let (node, patience) = (NodeId([0; 32]), Duration::from_secs(120));
        let mut it = Controller::new(rule, node, Location(0), target, patience, 0);
        let view = View { known: peers, whole: true, own: target };
        it.look(Time::ZERO, &view, Location(0), copies, None).unwrap_or(target).fraction()
    }

    /// The examples that lib3h has, with its numbers of copies.
    #[test]
    fn lib3h_recommends_what_its_tests_say() {
        let copies = Copies::new(25, 25).unwrap();
        let lib3h = |count| look(Rule::Lib3h, &peers(count, 0.25, 0.75), copies, 0.25);
        assert_eq!(lib3h(49), 1.0);
        assert!((lib3h(90) - 0.5).abs() < 1e-6);
        assert!((lib3h(203) - 0.25).abs() < 1e-6);
        assert!((lib3h(1066) - 0.25 * 0.625).abs() < 1e-6);
    }

    #[test]
    fn kitsune_goes_towards_the_middle_and_stays_there() {
        let copies = Copies::new(8, 20).unwrap();
        let kitsune = |count, part, own| look(Rule::Kitsune, &peers(count, part, 1.0), copies, own);
        // 21.5 copies are fine.
        assert_eq!(kitsune(344, 1.0 / 16.0, 1.0 / 16.0), 1.0 / 16.0);
        // Half of that: a little more is taken; twice that, with few peers seen: a little less.
        let (more, less) =
            (kitsune(172, 1.0 / 16.0, 1.0 / 16.0), kitsune(688, 1.0 / 16.0, 1.0 / 16.0));
        assert!(more > 1.0 / 16.0 && more < 1.0 / 13.0, "{more}");
        assert!(less < 1.0 / 16.0 && less > 1.0 / 19.0, "{less}");
        // Who has come holds everything.
        let (node, patience) = (NodeId([0; 32]), Duration::from_secs(120));
        let mut it =
            Controller::new(Rule::Kitsune, node, Location(0), Reach::default(), patience, 0);
        let view = View { known: &[], whole: true, own: Reach::default() };
        let full = it.look(Time::ZERO, &view, Location(0), copies, None);
        assert_eq!(full, Some(Reach { up: RING, down: 0 }));
    }

    #[test]
    fn arcs_and_reaches_are_the_same() {
        for (location, up, down) in
            [(0, 5, 7), (9, 1, 0), (9, 0, 4), (u32::MAX, 3, 3), (3, 1 << 30, 1 << 31)]
        {
            let (location, it) = (Location(location), Reach { up, down });
            assert_eq!(reach(location, &arc(location, it).into()), it);
        }
        assert_eq!(reach(Location(3), &ArcSet::empty()), Reach::default());
        assert_eq!(reach(Location(3), &arc(Location(3), Reach::FULL).into()), Reach::FULL);
    }
}
