//! From where others see this node: what they agree on is an address of it.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::{IpAddr, Ipv4Addr, SocketAddr},
    time::Duration,
};

use crate::{id::NodeId, time::Time};

/// So many peers, each from a network of its own, have to agree. Two, so that nobody alone can send others to
/// an address of its choice; no more, since few peers may be connected.
const ENOUGH: usize = 2;

/// What a peer has said counts for so long after it has gone. A guess: longer than a router forgets.
const REMEMBERED: Duration = Duration::from_secs(3600);

/// Peers whose word is remembered. A guess: more add nothing.
const MAX_WITNESSES: usize = 64;

/// Says which addresses of this node others agree on: at most one of IPv4 and one of IPv6.
#[derive(Debug, Default)]
pub struct Outside {
    witnesses: BTreeMap<NodeId, Witness>,
    agreed: BTreeSet<SocketAddr>,
}

#[derive(Debug)]
struct Witness {
    /// The network it is in: there is one voice for each.
    network: [u8; 6],
    seen_at: SocketAddr,
    /// `None` while it is connected.
    until: Option<Time>,
}

/// What is to be told of an address that may be this node's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    /// It is, as it seems.
    Add(SocketAddr),
    /// It is not any more.
    Remove(SocketAddr),
}

impl Outside {
    /// A peer that is connected from `at` says from where it sees this node. Only what can be reached from
    /// everywhere counts.
    pub fn seen(
        &mut self,
        now: Time,
        peer: NodeId,
        at: IpAddr,
        seen_at: SocketAddr,
    ) -> Vec<Change> {
        let seen_at = SocketAddr::new(seen_at.ip().to_canonical(), seen_at.port());
        if !is_public(seen_at.ip()) || seen_at.port() == 0 {
            return Vec::new();
        }
        self.witnesses.retain(|_, witness| witness.until.is_none_or(|until| until > now));
        if self.witnesses.len() >= MAX_WITNESSES && !self.witnesses.contains_key(&peer) {
            let gone = self.witnesses.iter().filter(|(_, witness)| witness.until.is_some());
            match gone.min_by_key(|(_, witness)| witness.until).map(|(peer, _)| *peer) {
                Some(oldest) => drop(self.witnesses.remove(&oldest)),
                None => return Vec::new(),
            }
        }
        let witness = Witness { network: network(at), seen_at, until: None };
        self.witnesses.insert(peer, witness);
        self.changes(now)
    }

    /// A peer is not connected any more.
    pub fn gone(&mut self, now: Time, peer: &NodeId) -> Vec<Change> {
        if let Some(witness) = self.witnesses.get_mut(peer) {
            witness.until = Some(now + REMEMBERED);
        }
        self.changes(now)
    }

    fn changes(&mut self, now: Time) -> Vec<Change> {
        self.witnesses.retain(|_, witness| witness.until.is_none_or(|until| until > now));
        let mut voices = BTreeMap::<SocketAddr, BTreeSet<[u8; 6]>>::new();
        for witness in self.witnesses.values() {
            voices.entry(witness.seen_at).or_default().insert(witness.network);
        }
        let most = |v4: bool| {
            let mine =
                voices.iter().filter(|(at, from)| at.is_ipv4() == v4 && from.len() >= ENOUGH);
            // Of equals that which is in use already.
            mine.max_by_key(|(at, from)| (from.len(), self.agreed.contains(at))).map(|(at, _)| *at)
        };
        let agreed: BTreeSet<SocketAddr> =
            [most(true), most(false)].into_iter().flatten().collect();
        let old = std::mem::replace(&mut self.agreed, agreed.clone());
        let gone = old.difference(&agreed).map(|at| Change::Remove(*at));
        gone.chain(agreed.difference(&old).map(|at| Change::Add(*at))).collect()
    }
}

/// Who has one of these usually has all of it: 24 bits of IPv4, 48 of IPv6.
fn network(ip: IpAddr) -> [u8; 6] {
    match ip.to_canonical() {
        IpAddr::V4(ip) => {
            let [a, b, c, _] = ip.octets();
            [0, 0, 0, a, b, c]
        }
        IpAddr::V6(ip) => {
            let [a, b, c, d, e, f, ..] = ip.octets();
            [a, b, c, d, e, f]
        }
    }
}

/// Whether an address may be reached from everywhere.
fn is_public(ip: IpAddr) -> bool {
    let v4 = |ip: Ipv4Addr| {
        let shared = ip.octets()[0] == 100 && ip.octets()[1] & 0xc0 == 64;
        let reserved = ip.octets()[0] == 0 || ip.octets()[0] >= 240;
        !(ip.is_loopback() || ip.is_private() || ip.is_link_local() || ip.is_multicast())
            && !(ip.is_documentation() || shared || reserved)
    };
    match ip.to_canonical() {
        IpAddr::V4(ip) => v4(ip),
        // Global unicast, but for documentation.
        IpAddr::V6(ip) => {
            ip.segments()[0] & 0xe000 == 0x2000 && ip.segments()[..2] != [0x2001, 0xdb8]
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: u64) -> Time {
        Time::from_micros(seconds * 1_000_000)
    }

    fn says(it: &mut Outside, n: u8, from: &str, seen_at: &str) -> Vec<Change> {
        it.seen(at(1), NodeId([n; 32]), from.parse().unwrap(), seen_at.parse().unwrap())
    }

    const OURS: &str = "5.6.7.8:9";

    #[test]
    fn two_of_different_networks_have_to_agree() {
        let (mut it, ours) = (Outside::default(), OURS.parse().unwrap());
        assert_eq!(says(&mut it, 1, "1.1.1.1", OURS), []);
        assert_eq!(says(&mut it, 1, "2.2.2.2", OURS), [], "the same one again");
        assert_eq!(says(&mut it, 2, "2.2.2.3", OURS), [], "a neighbour of it");
        assert_eq!(says(&mut it, 3, "3.3.3.3", "5.6.7.8:10"), [], "another port");
        assert_eq!(says(&mut it, 4, "4.4.4.4", OURS), [Change::Add(ours)]);
        assert_eq!(says(&mut it, 5, "2001:db8::1", "[::ffff:5.6.7.8]:9"), [], "a third");
        // What one has said holds for a while after it has gone.
        for n in [1, 2, 5] {
            assert_eq!(it.gone(at(2), &NodeId([n; 32])), []);
        }
        assert_eq!(it.gone(at(3602), &NodeId([9; 32])), [Change::Remove(ours)]);
    }

    #[test]
    fn it_moves_with_the_majority_and_there_is_one_of_a_kind() {
        let mut it = Outside::default();
        let (old, new) = (OURS.parse().unwrap(), "5.6.7.9:9".parse().unwrap());
        says(&mut it, 1, "1.1.1.1", OURS);
        says(&mut it, 2, "2.2.2.2", OURS);
        assert_eq!(says(&mut it, 3, "3.3.3.3", "5.6.7.9:9"), []);
        assert_eq!(says(&mut it, 4, "4.4.4.4", "5.6.7.9:9"), [], "no better than what is in use");
        let moved = says(&mut it, 1, "1.1.1.1", "5.6.7.9:9");
        assert_eq!(moved, [Change::Remove(old), Change::Add(new)]);
        says(&mut it, 5, "3.3.3.3", "[2a00::1]:9");
        let six = says(&mut it, 6, "2.2.2.2", "[2a00::1]:9");
        assert_eq!(six, [Change::Add("[2a00::1]:9".parse().unwrap())]);
    }

    #[test]
    fn what_not_everybody_can_reach_does_not_count() {
        let mut it = Outside::default();
        for bad in [
            "127.0.0.1:1",
            "10.0.0.1:1",
            "192.168.1.1:1",
            "172.16.0.1:1",
            "169.254.1.1:1",
            "100.64.0.1:1",
            "0.0.0.0:1",
            "224.0.0.1:1",
            "255.255.255.255:1",
            "192.0.2.1:1",
            "5.6.7.8:0",
            "[::1]:1",
            "[fe80::1]:1",
            "[fd00::1]:1",
            "[ff02::1]:1",
            "[2001:db8::1]:1",
            "[::ffff:10.0.0.1]:1",
        ] {
            assert_eq!(says(&mut it, 1, "1.1.1.1", bad), []);
            assert_eq!(says(&mut it, 2, "2.2.2.2", bad), [], "{bad}");
        }
        assert!(it.witnesses.is_empty());
    }

    #[test]
    fn few_witnesses_are_remembered() {
        let mut it = Outside::default();
        for n in 0..200 {
            says(&mut it, n, &format!("1.1.{n}.1"), &format!("5.6.7.{n}:9"));
        }
        assert_eq!(it.witnesses.len(), MAX_WITNESSES);
        it.gone(at(2), &NodeId([3; 32]));
        says(&mut it, 201, "1.1.201.1", OURS);
        assert_eq!(it.witnesses.len(), MAX_WITNESSES);
        assert!(!it.witnesses.contains_key(&NodeId([3; 32])), "who has gone makes room");
    }
}
