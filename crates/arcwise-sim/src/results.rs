//! What a simulation has shown.

use serde::{Deserialize, Serialize};

use crate::{flow::Rule, scenario::Scenario};

/// Sectors of the ring of which the copies are counted: as many as the published result has.
pub const SECTORS: usize = 512;

/// All that a report is made of.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Results {
    /// What was simulated.
    pub scenario: Scenario,
    /// With which seed.
    pub seed: u64,
    /// Of the model of the arcs alone: the rule by which nodes decided on them. `None` for the full protocol.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rule: Option<Rule>,
    /// What must always hold, and did not; empty where all is well.
    pub violations: Vec<Violation>,
    /// What the scenario expects, and did not come true.
    pub missed: Vec<String>,
    /// In the order of time.
    pub samples: Vec<Sample>,
    /// At the end.
    pub summary: Summary,
    /// BLAKE3 over everything that has happened, in hex: the same for the same scenario and seed, on any
    /// machine and any number of cores.
    pub fingerprint: String,
}

impl Results {
    /// Whether all is well: nothing was seen that must never be, and what was expected came true.
    pub fn held(&self) -> bool {
        self.violations.is_empty() && self.missed.is_empty()
    }
}

/// Something that must never be.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Violation {
    /// When, in seconds of virtual time.
    pub at: f64,
    /// What, for people: which node, which aspect.
    pub what: String,
}

/// How everything stands at one moment.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Sample {
    /// Seconds of virtual time.
    pub at: f64,
    /// Nodes that are on.
    pub nodes: usize,
    /// Copies of a sector that nodes which are on claim truly: where there are the fewest, a twentieth of the
    /// sectors has no more, and half has no more.
    pub copies: (f64, f64, f64),
    /// Sectors with fewer copies than the least number.
    pub below_min: usize,
    /// Part of the ring that nodes aim at: the least, the median, the mean and the most.
    pub arcs: (f64, f64, f64, f64),
    /// Nodes whose target has changed since the last sample.
    pub changed: usize,
    /// Pairs of a node that is on and an aspect that it should hold and does not, of those published at least
    /// a minute ago.
    pub lacking: u64,
    /// Aspects published so far.
    pub published: u64,
    /// Of those, how many nobody has any more, nor will have.
    pub lost: u64,
    /// Connections between nodes.
    pub connections: usize,
    /// Bytes sent so far, by all nodes.
    pub bytes: Bytes,
}

/// Bytes by what they were for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Bytes {
    /// Telling of oneself and others, pings, connecting.
    pub control: u64,
    /// Finding out what differs.
    pub comparing: u64,
    /// Aspects fetched or given in sessions.
    pub gossip: u64,
    /// Aspects pushed, announcements and receipts.
    pub push: u64,
    /// Questions and answers.
    pub requests: u64,
    /// Keeping connections alive, packets that came twice or were sent again: by arithmetic.
    pub transport: u64,
}

impl Bytes {
    /// Adds others to these.
    pub fn add(&mut self, other: &Bytes) {
        self.control += other.control;
        self.comparing += other.comparing;
        self.gossip += other.gossip;
        self.push += other.push;
        self.requests += other.requests;
        self.transport += other.transport;
    }

    /// All of them.
    pub fn total(&self) -> u64 {
        self.control + self.comparing + self.gossip + self.push + self.requests + self.transport
    }
}

/// What has become of it.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Summary {
    /// Seconds of virtual time.
    pub seconds: f64,
    /// Nodes that are on at the end.
    pub nodes: usize,
    /// Aspects published.
    pub published: u64,
    /// Of those, acknowledged by as many receipts as were waited for.
    pub acknowledged: u64,
    /// Aspects lost; and of those, acknowledged ones.
    pub lost: (u64, u64),
    /// Copies at the end: as in a [`Sample`].
    pub copies: (f64, f64, f64),
    /// The longest time that any sector had fewer copies than the least number, in seconds, not counting the
    /// time before there were enough everywhere. Where there never were, though there were enough nodes, all of
    /// the time since then.
    pub below_min: f64,
    /// The most that a node holds, as a multiple of the mean of the nodes that hold something.
    pub load: f64,
    /// Part of the nodes whose target changed, per hour, in the last third of the time.
    pub changing: f64,
    /// From the publishing of an aspect to when all who should hold it did, in seconds: median, 99 % and most.
    pub spreading: (f64, f64, f64),
    /// Look-ups made; of those, how many found all that there was; how many peers were asked, on average.
    pub asked: (u64, u64, f64),
    /// Bytes sent by a node in an hour, on average.
    pub bytes: Bytes,
    /// Most bytes of nominal payload on any node's disk.
    pub most_held: u64,
    /// Events of the simulation, for its speed.
    pub events: u64,
    /// Seconds that it took.
    pub took: f64,
}
