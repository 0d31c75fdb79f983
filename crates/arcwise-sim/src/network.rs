//! The network between the nodes: how long a message takes, and whether it comes at all.

use std::time::Duration;

use arcwise_proto::Time;
use rand::{Rng as _, RngExt as _};
use rand_distr::{Binomial, Distribution as _};

use crate::{random::Random, scenario};

/// Bytes of a packet.
pub(crate) const PACKET: u64 = 1200;

/// What a packet has besides: UDP and IP headers, QUIC's header and tag, and its acknowledgement's share.
pub(crate) const PACKET_OVERHEAD: u64 = 28 + 25 + 30;

/// A connection over which nothing comes for so long is lost.
pub(crate) const SILENCE: Duration = Duration::from_secs(30);

/// The network as it is for all nodes.
#[derive(Debug)]
pub(crate) struct Network {
    latency: (u64, u64),
    jitter: u64,
    loss: f64,
    pub(crate) duplicates: f64,
    /// Bits a second; infinite without a limit.
    pub(crate) up: f64,
    pub(crate) down: f64,
    seed: u64,
    /// From when until when it is cut, and which nodes are on the one side.
    cuts: Vec<Cut>,
}

/// The network falls in two.
#[derive(Clone, Debug)]
pub(crate) struct Cut {
    pub(crate) from: Time,
    pub(crate) until: Time,
    /// By the index of a node.
    pub(crate) apart: Vec<bool>,
}

impl Cut {
    fn parts(&self, a: u32, b: u32) -> bool {
        let side = |node: u32| self.apart.get(node as usize).copied().unwrap_or_default();
        side(a) != side(b)
    }
}

/// How a message fares.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Passage {
    /// How long after it has left it arrives.
    pub(crate) after: Duration,
    /// Packets that are sent for it in all, and those of them for which nothing would be sent on a line
    /// that loses nothing.
    pub(crate) packets: u64,
    pub(crate) extra: u64,
}

impl Network {
    pub(crate) fn new(of: &scenario::Network, seed: u64, cuts: Vec<Cut>) -> Self {
        let micros = |span: scenario::Span| span.0.as_micros() as u64;
        let rate = |rate: f64| if rate > 0.0 { rate } else { f64::INFINITY };
        Self {
            latency: (micros(of.latency.0), micros(of.latency.1)),
            jitter: micros(of.jitter),
            loss: of.loss,
            duplicates: of.duplicates,
            up: rate(of.up),
            down: rate(of.down),
            seed,
            cuts,
        }
    }

    /// No message takes less.
    pub(crate) fn least(&self) -> Duration {
        Duration::from_micros(self.latency.0)
    }

    /// One way between two nodes, without jitter.
    pub(crate) fn latency(&self, a: u32, b: u32) -> Duration {
        let pair = u64::from(a.min(b)) << 32 | u64::from(a.max(b));
        let (least, most) = self.latency;
        let random = crate::random::mixed(self.seed ^ pair);
        Duration::from_micros(least + random % (most - least + 1))
    }

    /// How a message of so many bytes gets from one node to another: lost packets are sent again after a
    /// round trip and a half.
    pub(crate) fn pass(&self, random: &mut Random, a: u32, b: u32, bytes: u64) -> Passage {
        let latency = self.latency(a, b);
        let packets = bytes.div_ceil(PACKET).max(1);
        let jitter = Duration::from_micros(random.next_u64() % (self.jitter + 1));
        let (mut left, mut sent, mut rounds) = (packets, packets, 0);
        while left > 0 && self.loss > 0.0 {
            // The probability is checked when the scenario is read.
            left = Binomial::new(left, self.loss).map_or(0, |lost| lost.sample(random));
            sent += left;
            rounds += u32::from(left > 0);
        }
        let twice = if random.random_bool(self.duplicates) { 1 } else { 0 };
        let after = latency + jitter + latency * 3 * rounds;
        Passage { after, packets: sent + twice, extra: sent + twice - packets }
    }

    /// When two nodes are not cut off from each other any more, at or after `at`.
    pub(crate) fn joined(&self, a: u32, b: u32, at: Time) -> Time {
        let cut = self.cuts.iter().filter(|cut| cut.from <= at && at < cut.until);
        cut.filter(|cut| cut.parts(a, b)).map(|cut| cut.until).max().unwrap_or(at)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scenario::Span;

    fn network(loss: f64, cuts: Vec<Cut>) -> Network {
        let latency = (Span::millis(10), Span::millis(100));
        let of = scenario::Network { latency, loss, ..scenario::Network::default() };
        Network::new(&of, 7, cuts)
    }

    #[test]
    fn a_pair_has_its_own_latency() {
        let network = network(0.0, Vec::new());
        let latency = |a, b| network.latency(a, b);
        assert_eq!(latency(1, 2), latency(2, 1));
        let mut all: Vec<_> = (1..100).map(|peer| latency(0, peer)).collect();
        all.sort();
        all.dedup();
        assert!(all.len() > 90);
        assert!(all[0] >= Duration::from_millis(10));
        assert!(all[all.len() - 1] <= Duration::from_millis(100));
    }

    #[test]
    fn what_is_lost_comes_later_and_costs_more() {
        let mut random = crate::random::stream(1, "test", 0);
        let (perfect, lossy) = (network(0.0, Vec::new()), network(0.2, Vec::new()));
        let (mut later, mut more) = (0, 0);
        for _ in 0..100 {
            let jitter = Duration::from_millis(5);
            let passage = perfect.pass(&mut random, 1, 2, 10 * PACKET);
            assert!(passage.after <= perfect.latency(1, 2) + jitter);
            let passage = lossy.pass(&mut random, 1, 2, 10 * PACKET);
            later += u64::from(passage.after > lossy.latency(1, 2) * 4);
            more += passage.extra;
        }
        // 0.8^10 of them come whole; each packet is sent 1.25 times.
        assert!((80..=97).contains(&later), "{later}");
        assert!((200..300).contains(&more), "{more}");
    }

    #[test]
    fn a_cut_lasts_and_parts_two_sides_only() {
        let at = |seconds: u64| Time::from_micros(seconds * 1_000_000);
        let cut = Cut { from: at(10), until: at(20), apart: vec![true, false, true] };
        let network = network(0.0, vec![cut]);
        assert_eq!(network.joined(0, 1, at(9)), at(9));
        assert_eq!(network.joined(0, 1, at(10)), at(20));
        assert_eq!(network.joined(1, 2, at(19)), at(20));
        assert_eq!(network.joined(0, 2, at(15)), at(15));
        assert_eq!(network.joined(0, 1, at(20)), at(20));
    }
}
