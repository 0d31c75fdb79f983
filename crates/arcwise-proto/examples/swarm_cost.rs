//! What swarms cost, in processor time and in memory, while little happens:
//! `cargo run --release -p arcwise-proto --example swarm_cost`, on Linux.
//!
//! A space of 2,000 nodes at 20 copies; some of them are run here, each of which knows the 400 nearest
//! to it and is connected to about 40. Nobody else is there: what a swarm wants done goes well at once, and
//! leads to nothing more. So many are run that their state does not fit a cache, and they take turns.

use std::{fs, time::Duration};

use arcwise_proto::{
    ArcSet, Location, NodeId, RingArc, SpaceId, Time,
    aspect::AuthorKey,
    session::{LocalSpace, PeerSpace},
    swarm::{
        Action, Address, Copies, Neighbour, Outcome, PeerRecord, Settings, SignedRecord, Sizing,
        Swarm,
    },
    wire::{Observed, PeerInfo},
};

const SPACE: SpaceId = SpaceId([7; 32]);
const NODES: usize = 2000;
const KNOWN: usize = 400;
const INBOUND: usize = 24;
const SWARMS: usize = 200;
const DAY: Duration = Duration::from_secs(86_400);
const PATIENCE: Duration = Duration::from_secs(120);

struct Node {
    key: AuthorKey,
    record: PeerRecord,
    signed: SignedRecord,
}

struct Run {
    swarm: Swarm,
    local: LocalSpace,
    links: Vec<NodeId>,
    /// How often it was woken, and what it did.
    wakes: usize,
    actions: usize,
    told: usize,
}

fn at(millis: u64) -> Time {
    Time::from_micros(1_000_000_000) + Duration::from_millis(millis)
}

/// What this process has used of the processor.
fn used() -> Duration {
    let text = fs::read_to_string("/proc/self/schedstat").unwrap_or_default();
    let nanos = text.split(' ').next().and_then(|it| it.parse().ok());
    Duration::from_nanos(nanos.unwrap_or(0))
}

/// Bytes of memory that this process has.
fn memory() -> f64 {
    let text = fs::read_to_string("/proc/self/statm").unwrap_or_default();
    let pages: Option<f64> = text.split(' ').nth(1).and_then(|it| it.parse().ok());
    pages.unwrap_or(0.0) * 4096.0
}

fn nodes() -> Vec<Node> {
    let node = |n: usize| {
        let mut seed = [1; 32];
        seed[..8].copy_from_slice(&n.to_le_bytes());
        let key = AuthorKey::from_bytes(&seed);
        let node = NodeId(key.author());
        let len = (1 << 32) / NODES as u64 * 20;
        let arcs = ArcSet::from(RingArc::around(Location::of_node(&SPACE, &node), len));
        let record = PeerRecord {
            node,
            sequence: 1,
            expires: at(0) + DAY,
            addresses: vec![Address::Ip(([10, 0, (n >> 8) as u8, n as u8], 4000).into())],
            store: arcs.clone(),
            target: arcs,
            count: 100,
            bytes: 100_000,
        };
        let signed = record.sign(&key, &SPACE);
        Node { key, record, signed }
    };
    let mut nodes: Vec<Node> = (0..NODES).map(node).collect();
    nodes.sort_by_key(|it| Location::of_node(&SPACE, &it.record.node));
    nodes
}

fn info(node: &Node) -> PeerInfo {
    PeerInfo { record: node.signed.clone(), observed: None, away: false }
}

fn claims(record: &PeerRecord) -> PeerSpace {
    PeerSpace {
        number: 1,
        store: record.store.clone(),
        target: record.target.clone(),
        query: record.store.clone(),
        count: record.count,
        bytes: record.bytes,
        full: false,
    }
}

impl Run {
    fn new(nodes: &[Node], us: usize) -> Self {
        let settings = Settings {
            copies: Copies::default(),
            fixed: None,
            quota: None,
            idle: Duration::from_secs(300),
            patience: PATIENCE,
            push: true,
            pull: true,
            seed: us as u64,
        };
        let node = &nodes[us];
        let local = LocalSpace {
            id: SPACE,
            number: 1,
            store: node.record.store.clone(),
            target: node.record.target.clone(),
            query: node.record.store.clone(),
            count: 100,
            bytes: 100_000,
            full: false,
        };
        let mut swarm = Swarm::new(at(0), node.key.clone(), SPACE, settings);
        swarm.set_local(at(0), local.clone());
        let _ = swarm.poll_action(at(0));
        for near in 1..=KNOWN / 2 {
            for known in [us + near, us + NODES - near] {
                swarm.restore(at(0), nodes[known % NODES].signed.clone());
            }
        }
        let mut this = Self { swarm, local, links: Vec::new(), wakes: 0, actions: 0, told: 0 };
        for near in 1..=INBOUND {
            let peer = &nodes[(us + NODES - 100 + near * 8) % NODES].record;
            this.met(at(0), nodes, peer.node, false);
        }
        this
    }

    fn met(&mut self, now: Time, nodes: &[Node], peer: NodeId, dialed: bool) {
        let node = nodes.iter().find(|it| it.record.node == peer).expect("a node");
        self.swarm.met(now, peer, dialed, claims(&node.record));
        self.links.push(peer);
    }

    fn poll(&mut self, now: Time, nodes: &[Node]) {
        while let Some(action) = self.swarm.poll_action(now) {
            self.actions += 1;
            match action {
                Action::Dial(peer) => self.met(now, nodes, peer, true),
                Action::Close(peer) => {
                    self.links.retain(|it| *it != peer);
                    self.swarm.gone(now, &peer, false);
                }
                Action::Tell(_, infos) => self.told += infos.len(),
                Action::Fill(peer) => self.swarm.filled(now, &peer, true),
                Action::Compare(peer) => {
                    let outcome = Outcome::InSync { moved: false, one_sided: false };
                    self.swarm.compared(now, &peer, outcome);
                }
                Action::Probe(peer) => {
                    self.swarm.linked(&peer, Some(Duration::from_millis(40)));
                    self.swarm.probed(now, &peer, Some(true));
                }
                Action::Audit(peer) => self.swarm.audited(now, &peer, Some(true)),
                Action::Aim(arcs) => {
                    (self.local.store, self.local.target) = (arcs.clone(), arcs);
                    self.swarm.set_local(now, self.local.clone());
                }
                _ => {}
            }
        }
    }

    fn until(&mut self, until: Time, nodes: &[Node]) {
        while let Some(at) = self.swarm.wake_at().filter(|at| *at <= until) {
            self.wakes += 1;
            self.swarm.tick(at);
            self.poll(at, nodes);
        }
    }
}

/// Lets seconds pass; in each, one thing happens to each swarm.
fn measure(
    what: &str,
    now: &mut u64,
    seconds: u64,
    runs: &mut [Run],
    nodes: &[Node],
    mut happens: impl FnMut(Time, u64, usize, &mut Run),
) {
    for run in runs.iter_mut() {
        (run.wakes, run.actions, run.told) = (0, 0, 0);
    }
    let before = used();
    for second in 0..seconds {
        *now += 1000;
        for (i, run) in runs.iter_mut().enumerate() {
            run.until(at(*now), nodes);
            happens(at(*now), second, i, run);
            run.poll(at(*now), nodes);
        }
    }
    let (took, all) = (used() - before, (seconds as usize * runs.len()) as f64);
    let sum = |of: fn(&Run) -> usize| runs.iter().map(of).sum::<usize>() as f64;
    println!(
        "{what}: {:.1} us a second, woken {:.2} times, {:.2} actions, {:.2} records told",
        took.as_secs_f64() * 1e6 / all,
        sum(|it| it.wakes) / all,
        sum(|it| it.actions) / all,
        sum(|it| it.told) / all,
    );
}

fn main() {
    let nodes = nodes();
    for node in &nodes {
        // What is read and checked once is not counted.
        let _ = node.signed.verify(&SPACE);
    }
    let before = memory();
    let mut runs: Vec<Run> = (0..SWARMS).map(|i| Run::new(&nodes, i * NODES / SWARMS)).collect();
    let mut now = 0;
    measure("the first minute", &mut now, 60, &mut runs, &nodes, |_, _, _, _| {});
    measure("the next 5 minutes", &mut now, 5 * 60, &mut runs, &nodes, |_, _, _, _| {});
    let links: usize = runs.iter().map(|it| it.links.len()).sum();
    let known: usize = runs.iter().map(|it| it.swarm.table().iter().count()).sum();
    println!(
        "each: {} known, {} connected, {:.0} kB",
        known / SWARMS,
        links / SWARMS,
        (memory() - before) / 1000.0 / SWARMS as f64
    );

    measure("nothing happens", &mut now, 300, &mut runs, &nodes, |_, _, _, _| {});

    let other = |second: u64, i: usize| {
        &nodes[(i * NODES / SWARMS + 1 + second as usize * 7 % 190) % NODES]
    };
    let newer = |second: u64, i: usize| {
        let node = other(second, i);
        let (sequence, expires) = (2 + second, at(now) + DAY);
        let signed =
            PeerRecord { sequence, expires, ..node.record.clone() }.sign(&node.key, &SPACE);
        let _ = signed.verify(&SPACE);
        PeerInfo { record: signed, observed: None, away: false }
    };
    let newer: Vec<Vec<PeerInfo>> =
        (0..60).map(|second| (0..SWARMS).map(|i| newer(second, i)).collect()).collect();
    let told = |now: Time, second: u64, i: usize, run: &mut Run| {
        let from = run.links[second as usize % run.links.len()];
        run.swarm.heard_of(now, from, vec![newer[second as usize][i].clone()]);
    };
    measure("a new record each second", &mut now, 60, &mut runs, &nodes, told);
    let told = |now: Time, second: u64, i: usize, run: &mut Run| {
        let known = other(second, i);
        let observed = Observed { availability: 900, ..Observed::default() };
        let info = PeerInfo { observed: Some(observed), ..info(known) };
        run.swarm.heard_of(now, run.links[second as usize % run.links.len()], vec![info]);
    };
    measure("a known record each second", &mut now, 60, &mut runs, &nodes, told);
    let says = |now: Time, second: u64, _: usize, run: &mut Run| {
        let peer = run.links[second as usize % run.links.len()];
        let node = nodes.iter().find(|it| it.record.node == peer).expect("a node");
        let mut theirs = claims(&node.record);
        theirs.count += second;
        run.swarm.told(now, &peer, theirs);
    };
    measure("a peer says what it holds each second", &mut now, 60, &mut runs, &nodes, says);
    let heard = |now: Time, second: u64, _: usize, run: &mut Run| {
        let peer = run.links[second as usize % run.links.len()];
        run.swarm.heard(now, &peer, true);
    };
    measure("a probe comes each second", &mut now, 60, &mut runs, &nodes, heard);
    sizing(&nodes);
}

fn sizing(nodes: &[Node]) {
    let near: Vec<Neighbour> = nodes[..161]
        .iter()
        .map(|it| Neighbour {
            node: it.record.node,
            location: Location::of_node(&SPACE, &it.record.node),
            arcs: it.record.store.clone(),
            store: it.record.store.clone(),
            weight: 0.97,
            away: false,
        })
        .collect();
    let us = &near[80];
    let mut sizing = Sizing::new(us.node, us.location, RingArc::EMPTY, PATIENCE, 1);
    let start = used();
    const TIMES: u64 = 20_000;
    for second in 0..TIMES {
        let _ = sizing.update(at(second * 1000), &near, Copies::default(), None);
    }
    let took = (used() - start).as_secs_f64() * 1e6 / TIMES as f64;
    println!("an arc of 160 neighbours: {took:.1} us");
}
