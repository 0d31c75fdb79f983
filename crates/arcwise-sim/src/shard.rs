//! A part of the nodes, and what is going to happen to them.

use std::{cmp::Reverse, collections::BinaryHeap, time::Duration};

use arcwise_proto::{AspectKey, Time};

use crate::{
    event::{Seen, Sent},
    node::{Node, Out, Role, World},
    results,
};

/// Every so-manieth node, beginning with the one of its own number.
#[derive(Debug)]
pub(crate) struct Shard {
    pub(crate) nodes: Vec<Node>,
    shards: u32,
    number: u32,
    queue: BinaryHeap<Reverse<Queued>>,
    pub(crate) events: u64,
}

/// What is known of the nodes of a shard at a moment.
#[derive(Debug, Default)]
pub(crate) struct Census {
    pub(crate) bytes: results::Bytes,
    pub(crate) connections: usize,
    /// Of honest nodes that are on: how many bytes they hold.
    pub(crate) held: Vec<u64>,
    /// How many aspects are lacking in all, and the first few of them: the node, and which.
    pub(crate) lacking: u64,
    pub(crate) examples: Vec<(u32, AspectKey)>,
}

#[derive(Debug)]
struct Queued(Sent);

impl Queued {
    fn order(&self) -> (Time, u32, u32, u64) {
        (self.0.at, self.0.to, self.0.from, self.0.number)
    }
}

impl PartialEq for Queued {
    fn eq(&self, other: &Self) -> bool {
        self.order() == other.order()
    }
}

impl Eq for Queued {}

impl PartialOrd for Queued {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Queued {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.order().cmp(&other.order())
    }
}

impl Shard {
    pub(crate) fn new(number: u32, shards: u32, nodes: Vec<Node>) -> Self {
        Self { nodes, shards, number, queue: BinaryHeap::new(), events: 0 }
    }

    pub(crate) fn put(&mut self, sent: Sent) {
        self.queue.push(Reverse(Queued(sent)));
    }

    /// When something happens next.
    pub(crate) fn next(&self) -> Option<Time> {
        self.queue.peek().map(|Reverse(next)| next.0.at)
    }

    /// Lets everything happen that does before `until`. Gives what goes to nodes of other shards, none of
    /// which arrives before then, and what was seen.
    pub(crate) fn run(&mut self, world: &World, until: Time) -> (Vec<Sent>, Vec<Seen>) {
        let (mut out, mut away) = (Out::default(), Vec::new());
        while let Some(Reverse(next)) = self.queue.peek()
            && next.0.at < until
        {
            let Some(Reverse(Queued(sent))) = self.queue.pop() else { break };
            self.events += 1;
            let Some(node) = self.nodes.get_mut((sent.to / self.shards) as usize) else { continue };
            node.handle(world, sent.at, sent.event, &mut out);
            for sent in out.sent.drain(..) {
                match sent.to % self.shards == self.number {
                    true => self.queue.push(Reverse(Queued(sent))),
                    false => away.push(sent),
                }
            }
        }
        (away, out.seen)
    }

    /// How everything stands. `settled` are the aspects that everybody should hold who claims them, in order.
    pub(crate) fn census(&mut self, now: Time, settled: &[AspectKey]) -> Census {
        const EXAMPLES: usize = 5;
        let mut census = Census::default();
        for node in &mut self.nodes {
            node.count(now);
            census.bytes.add(&node.port.bytes);
            census.connections += node.connections();
            if !node.is_on() || node.profile.role == Role::Liar {
                continue;
            }
            census.held.push(node.disk.bytes);
            for (first, last) in node.disk.held.spans() {
                let from = settled.partition_point(|key| key.location < first);
                let claimed = settled.iter().skip(from).take_while(|key| key.location <= last);
                for key in claimed.filter(|key| !node.disk.ids.contains(key)) {
                    census.lacking += 1;
                    if census.examples.len() < EXAMPLES {
                        census.examples.push((node.profile.index, *key));
                    }
                }
            }
        }
        census
    }
}

impl Census {
    pub(crate) fn add(&mut self, other: Census) {
        self.bytes.add(&other.bytes);
        self.connections += other.connections;
        self.held.extend(other.held);
        self.lacking += other.lacking;
        self.examples.extend(other.examples);
    }
}

/// Windows are no longer than this, so that the world is looked at now and then.
pub(crate) const LONGEST: Duration = Duration::from_secs(1);

/// What a worker is to do.
pub(crate) enum Command {
    Run { until: Time, inbox: Vec<Sent> },
    Census { now: Time, settled: std::sync::Arc<Vec<AspectKey>> },
}

/// What came of it.
pub(crate) enum Done {
    Ran { away: Vec<Sent>, seen: Vec<Seen>, next: Option<Time> },
    Counted(Census),
}

impl Shard {
    pub(crate) fn work(&mut self, world: &World, command: Command) -> Done {
        match command {
            Command::Run { until, inbox } => {
                inbox.into_iter().for_each(|sent| self.put(sent));
                let (away, seen) = self.run(world, until);
                Done::Ran { away, seen, next: self.next() }
            }
            Command::Census { now, settled } => Done::Counted(self.census(now, &settled)),
        }
    }
}
