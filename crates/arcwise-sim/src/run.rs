//! Runs a simulation: people, nodes in shards, and the one who watches.
//!
//! No message takes less than the network's least latency. So whatever happens within such a window of time
//! happens to each node by itself, and shards can do it beside each other, with the same result as one after
//! the other.

use std::{
    sync::{Arc, mpsc},
    time::Instant,
};

use arcwise_proto::{AspectKey, Time};

use crate::{
    event::{Seen, Sent},
    node::World,
    people::People,
    results::{Results, Sample},
    scenario::Scenario,
    shard::{Census, Command, Done, LONGEST, Shard},
    watch::Watch,
};

/// How to run a simulation. Nothing of it has an influence on the results.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Options {
    /// On how many cores.
    pub threads: usize,
    /// Whether every verdict of two nodes is checked against what they truly hold, which takes memory and
    /// time.
    pub check: bool,
}

impl Default for Options {
    fn default() -> Self {
        Self { threads: 1, check: true }
    }
}

/// How far a simulation is.
#[derive(Clone, Copy, Debug)]
pub struct Progress<'a> {
    /// Part of the virtual time that is over: 0 to 1.
    pub part: f64,
    /// How everything stands, where it was looked at just now.
    pub sample: Option<&'a Sample>,
}

/// When all simulations begin, by the clocks in them.
pub(crate) const BEGINNING: Time = Time::from_micros(1_700_000_000_000_000);

/// Runs a scenario, and tells `tell` now and then how far it is.
pub fn run(
    scenario: &Scenario,
    seed: u64,
    options: &Options,
    tell: &mut dyn FnMut(Progress<'_>),
) -> Results {
    let began = Instant::now();
    let threads = u32::try_from(options.threads.clamp(1, 64)).unwrap_or(1);
    let (mut people, world, nodes) = People::new(scenario, seed, options.check);
    let mut shards: Vec<Vec<_>> = (0..threads).map(|_| Vec::new()).collect();
    for node in nodes {
        let of = node.profile.index % threads;
        if let Some(shard) = shards.get_mut(of as usize) {
            shard.push(node);
        }
    }
    let shards = shards.into_iter().zip(0..);
    let shards = shards.map(|(nodes, number)| Shard::new(number, threads, nodes)).collect();
    let mut watch = Watch::new(scenario, &people);
    watch.know(world.index.iter().map(|(id, index)| (*id, *index)));
    let world = &world;
    std::thread::scope(|scope| {
        let mut workers = Workers::new(scope, world, shards);
        drive(scenario, world, &mut people, &mut workers, &mut watch, tell);
        watch.events = workers.events();
    });
    watch.results(scenario, seed, began.elapsed())
}

fn drive(
    scenario: &Scenario,
    world: &World,
    people: &mut People,
    workers: &mut Workers<'_>,
    watch: &mut Watch,
    tell: &mut dyn FnMut(Progress<'_>),
) {
    let end = BEGINNING + scenario.length.0;
    let least = world.network.least().min(LONGEST);
    let mut look_at = BEGINNING + watch.every;
    loop {
        let now = [workers.next(), people.next()].into_iter().flatten().min().unwrap_or(end);
        while look_at <= now.min(end) {
            let settled = watch.settled(look_at, people);
            let census = workers.census(look_at, settled);
            let sample = watch.sample(look_at, people, census);
            let part = look_at.since(BEGINNING).as_secs_f64() / scenario.length.0.as_secs_f64();
            tell(Progress { part, sample: Some(sample) });
            look_at = look_at + watch.every;
        }
        if now >= end {
            break;
        }
        let until = (now + least).min(end).min(look_at);
        for sent in people.until(until, watch) {
            workers.put(sent);
        }
        for seen in workers.run(until) {
            watch.see(seen, people);
        }
    }
    let settled = watch.settled(end, people);
    let census = workers.census(end, settled);
    watch.end(end, people, census);
}

/// The shards, of which all but the first have a thread of their own.
struct Workers<'a> {
    world: &'a World,
    first: Shard,
    others: Vec<Other>,
    /// What goes to which shard, with the next window.
    inboxes: Vec<Vec<Sent>>,
    next: Vec<Option<Time>>,
    events: u64,
}

struct Other {
    commands: mpsc::Sender<Command>,
    done: mpsc::Receiver<(Done, u64)>,
}

impl<'a> Workers<'a> {
    fn new<'scope>(
        scope: &'scope std::thread::Scope<'scope, 'a>,
        world: &'a World,
        shards: Vec<Shard>,
    ) -> Self {
        let mut shards = shards.into_iter();
        let first = shards.next().unwrap_or_else(|| Shard::new(0, 1, Vec::new()));
        let others: Vec<Other> = shards
            .map(|mut shard| {
                let (commands, received) = mpsc::channel::<Command>();
                let (send, done) = mpsc::channel();
                scope.spawn(move || {
                    while let Ok(command) = received.recv() {
                        let done = shard.work(world, command);
                        if send.send((done, shard.events)).is_err() {
                            return;
                        }
                    }
                });
                Other { commands, done }
            })
            .collect();
        let shards = others.len() + 1;
        let inboxes = (0..shards).map(|_| Vec::new()).collect();
        Self { world, first, others, inboxes, next: vec![None; shards], events: 0 }
    }

    fn put(&mut self, sent: Sent) {
        let of = sent.to as usize % self.inboxes.len();
        if let Some(inbox) = self.inboxes.get_mut(of) {
            inbox.push(sent);
        }
    }

    /// When something happens next.
    fn next(&self) -> Option<Time> {
        let inboxes = self.inboxes.iter().flatten().map(|sent| sent.at);
        self.next.iter().flatten().copied().chain(inboxes).min()
    }

    fn all(&mut self, mut command: impl FnMut(Vec<Sent>) -> Command) -> Vec<Done> {
        let inboxes: Vec<Vec<Sent>> = self.inboxes.iter_mut().map(std::mem::take).collect();
        let mut inboxes = inboxes.into_iter();
        let first = command(inboxes.next().unwrap_or_default());
        for (other, inbox) in self.others.iter().zip(inboxes) {
            // A worker ends with its channel only.
            let _ = other.commands.send(command(inbox));
        }
        let mut done = vec![self.first.work(self.world, first)];
        self.events = self.first.events;
        for other in &self.others {
            // A worker that has panicked has ended the whole run.
            let Ok((of, events)) = other.done.recv() else { continue };
            done.push(of);
            self.events += events;
        }
        done
    }

    /// Lets everything happen that does before `until`, and gives what was seen, in order.
    fn run(&mut self, until: Time) -> Vec<Seen> {
        let done = self.all(|inbox| Command::Run { until, inbox });
        let mut all = Vec::new();
        for (shard, done) in done.into_iter().enumerate() {
            let Done::Ran { away, seen, next } = done else { continue };
            if let Some(of) = self.next.get_mut(shard) {
                *of = next;
            }
            away.into_iter().for_each(|sent| self.put(sent));
            all.extend(seen);
        }
        // What one node has seen is in order.
        all.sort_by_key(|seen| (seen.at, seen.node));
        all
    }

    fn census(&mut self, now: Time, settled: Vec<AspectKey>) -> Census {
        let settled = Arc::new(settled);
        let inboxes = std::mem::take(&mut self.inboxes);
        self.inboxes = inboxes.iter().map(|_| Vec::new()).collect();
        let done = self.all(|_| Command::Census { now, settled: settled.clone() });
        self.inboxes = inboxes;
        let mut census = Census::default();
        for done in done {
            if let Done::Counted(of) = done {
                census.add(of);
            }
        }
        census
    }

    fn events(&self) -> u64 {
        self.events
    }
}
