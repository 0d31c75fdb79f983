//! Who has stored what: receipts that others wait for, and receipts that are waited for here.
//!
//! A receipt says that its sender holds aspects durably. A peer that pushes or announces may ask for
//! them; who is asked answers at once for what it holds, and for the rest when that has come
//! ([`Receipts::wanted`], [`Receipts::stored`]). Whoever publishes here may wait until enough peers have
//! sent them ([`Receipts::wait`], [`Receipts::received`]).

use std::{collections::BTreeMap, time::Duration};

use serde::{Deserialize, Serialize};

use crate::{aspect::AspectKey, id::NodeId, limits::PAGE_KEYS, time::Time};

/// Most receipts that are owed to peers. A guess: a second of very many; about 10 MB.
const MAX_OWED: usize = 65_536;

/// Most receipts that are owed to one peer. A guess: a few such peers do not lock out the others.
const MAX_OWED_TO_PEER: usize = 16_384;

/// So long a receipt is owed, at least. A guess: what has not come until then was lost on its way, and
/// whoever asked has given up.
const OWED_FOR: Duration = Duration::from_secs(300);

/// So often those that are too old are dropped. A guess: rarely enough to cost nothing.
const SWEEP_EVERY: Duration = Duration::from_secs(60);

/// Most receipts that may be waited for: the sum, over all waits, of their keys times the copies. A
/// guess: a whole archive that is published at once; about 40 MB.
const MAX_AWAITED: usize = 1 << 20;

/// Names a wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct WaitId(u64);

/// How far a wait has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Progress {
    /// So many peers hold that of its keys which the fewest hold; at most the copies waited for.
    pub copies: u32,
    /// So many of its keys have as many copies as are waited for.
    pub complete: usize,
    /// So many keys it is about.
    pub keys: usize,
}

impl Progress {
    /// Whether it is over.
    pub fn is_complete(&self) -> bool {
        self.complete == self.keys
    }
}

/// The receipts of one space.
#[derive(Debug, Default)]
pub struct Receipts {
    /// Since when a receipt for a key is owed to a peer.
    owed: BTreeMap<(AspectKey, NodeId), Time>,
    owed_to: BTreeMap<NodeId, usize>,
    swept: Time,
    waits: BTreeMap<WaitId, Wait>,
    /// The keys of `waits` that are not complete.
    waiting: BTreeMap<AspectKey, Vec<WaitId>>,
    awaited: usize,
    next_id: u64,
}

#[derive(Debug)]
struct Wait {
    copies: u32,
    keys: BTreeMap<AspectKey, Vec<NodeId>>,
    complete: usize,
}

impl Wait {
    fn awaits(&self) -> usize {
        self.keys.len().saturating_mul(self.copies as usize)
    }
}

impl Receipts {
    /// `peer` is to be told when these, which are not held here, become durable. What is too much is
    /// forgotten: it waits in vain, as it must be ready to.
    pub fn wanted(&mut self, now: Time, peer: NodeId, lacking: &[AspectKey]) {
        if now.since(self.swept) >= SWEEP_EVERY {
            self.swept = now;
            self.keep(|_, since| now.since(since) < OWED_FOR);
        }
        let owed = self.owed_to.entry(peer).or_default();
        for key in lacking {
            let known = self.owed.contains_key(&(*key, peer));
            if !known && (*owed >= MAX_OWED_TO_PEER || self.owed.len() >= MAX_OWED) {
                break;
            }
            self.owed.insert((*key, peer), now);
            *owed += usize::from(!known);
        }
        if *owed == 0 {
            self.owed_to.remove(&peer);
        }
    }

    /// These have become durable. Gives whom to send receipts, of which each fits a message; their keys
    /// ascend strictly.
    pub fn stored(&mut self, keys: &[AspectKey]) -> Vec<(NodeId, Vec<AspectKey>)> {
        let mut receipts: BTreeMap<NodeId, Vec<AspectKey>> = BTreeMap::new();
        for key in keys {
            while let Some((&(_, peer), _)) =
                self.owed.range((*key, NodeId([0; 32]))..=(*key, NodeId([0xff; 32]))).next()
            {
                self.owed.remove(&(*key, peer));
                self.settle(&peer);
                receipts.entry(peer).or_default().push(*key);
            }
        }
        let mut pages = Vec::new();
        for (peer, mut keys) in receipts {
            keys.sort_unstable();
            pages.extend(keys.chunks(PAGE_KEYS).map(|page| (peer, page.to_vec())));
        }
        pages
    }

    /// The peer is not connected any more, or left the space: nothing is owed to it. What it has sent
    /// receipts for, it holds all the same.
    pub fn gone(&mut self, peer: &NodeId) {
        self.keep(|of, _| of != peer);
    }

    /// Waits until so many peers hold each of these. `None` where that is too much to remember.
    ///
    /// Nothing is said of a wait that is complete from the start, as one for no keys or no copies is:
    /// see [`Receipts::progress`]. Each is to be ended by [`Receipts::cancel`].
    pub fn wait(&mut self, keys: &[AspectKey], copies: u32) -> Option<WaitId> {
        if keys.len().saturating_mul(copies as usize) > MAX_AWAITED - self.awaited {
            return None;
        }
        let id = WaitId(self.next_id);
        self.next_id += 1;
        let keys: BTreeMap<_, _> = keys.iter().map(|key| (*key, Vec::new())).collect();
        let complete = if copies == 0 { keys.len() } else { 0 };
        if copies > 0 {
            for key in keys.keys() {
                self.waiting.entry(*key).or_default().push(id);
            }
        }
        let wait = Wait { copies, keys, complete };
        self.awaited += wait.awaits();
        self.waits.insert(id, wait);
        Some(id)
    }

    /// `peer` says that it holds these. Gives the waits that are complete by that.
    pub fn received(&mut self, peer: NodeId, keys: &[AspectKey]) -> Vec<WaitId> {
        let mut over = Vec::new();
        for key in keys {
            let Some(waiting) = self.waiting.get_mut(key) else { continue };
            waiting.retain(|id| {
                let Some(wait) = self.waits.get_mut(id) else { return false };
                let Some(holders) = wait.keys.get_mut(key) else { return false };
                if !holders.contains(&peer) {
                    holders.push(peer);
                }
                let lacks = holders.len() < wait.copies as usize;
                if !lacks {
                    wait.complete += 1;
                    over.extend((wait.complete == wait.keys.len()).then_some(*id));
                }
                lacks
            });
            if waiting.is_empty() {
                self.waiting.remove(key);
            }
        }
        over
    }

    /// Who holds all that a wait is about, as far as they have said; ascending.
    pub fn holders(&self, id: WaitId) -> Vec<NodeId> {
        let mut keys = self.waits.get(&id).into_iter().flat_map(|wait| wait.keys.values());
        let mut holders = keys.next().cloned().unwrap_or_default();
        for of_key in keys {
            holders.retain(|node| of_key.contains(node));
        }
        holders.sort_unstable();
        holders
    }

    /// How far a wait has come; `None` where it was cancelled.
    pub fn progress(&self, id: WaitId) -> Option<Progress> {
        let wait = self.waits.get(&id)?;
        let least = wait.keys.values().map(Vec::len).min();
        let copies = least.and_then(|least| u32::try_from(least).ok()).unwrap_or(wait.copies);
        Some(Progress { copies, complete: wait.complete, keys: wait.keys.len() })
    }

    /// Forgets a wait, complete or not.
    pub fn cancel(&mut self, id: WaitId) {
        let Some(wait) = self.waits.remove(&id) else { return };
        self.awaited -= wait.awaits();
        for key in wait.keys.keys() {
            if let Some(waiting) = self.waiting.get_mut(key) {
                waiting.retain(|it| *it != id);
                if waiting.is_empty() {
                    self.waiting.remove(key);
                }
            }
        }
    }

    fn keep(&mut self, keeps: impl Fn(&NodeId, Time) -> bool) {
        self.owed.retain(|(_, peer), since| keeps(peer, *since));
        self.owed_to.clear();
        for (_, peer) in self.owed.keys() {
            *self.owed_to.entry(*peer).or_default() += 1;
        }
    }

    /// One receipt less is owed to the peer.
    fn settle(&mut self, peer: &NodeId) {
        if let Some(owed) = self.owed_to.get_mut(peer) {
            *owed -= 1;
            if *owed == 0 {
                self.owed_to.remove(peer);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::{id::AspectHash, ring::Location};

    fn key(n: u32) -> AspectKey {
        let mut hash = [0; 32];
        hash[..4].copy_from_slice(&n.to_be_bytes());
        AspectKey { location: Location(n % 7), hash: AspectHash(hash) }
    }

    fn keys(range: std::ops::Range<u32>) -> Vec<AspectKey> {
        range.map(key).collect()
    }

    fn peer(n: u8) -> NodeId {
        NodeId([n; 32])
    }

    fn at(seconds: u64) -> Time {
        Time::ZERO + Duration::from_secs(seconds)
    }

    #[test]
    fn who_asked_is_told_once() {
        let mut receipts = Receipts::default();
        receipts.wanted(at(0), peer(1), &keys(0..3));
        receipts.wanted(at(0), peer(2), &keys(2..4));
        receipts.wanted(at(0), peer(2), &keys(2..4));
        let mut first = keys(1..3);
        first.sort();
        assert_eq!(
            receipts.stored(&[key(2), key(1), key(9)]),
            [(peer(1), first), (peer(2), vec![key(2)])]
        );
        receipts.gone(&peer(2));
        assert_eq!(receipts.stored(&keys(0..10)), [(peer(1), vec![key(0)])]);
        assert!(receipts.owed.is_empty() && receipts.owed_to.is_empty());
    }

    #[test]
    fn what_is_owed_is_bounded_and_ends() {
        let mut receipts = Receipts::default();
        for n in 0..10 {
            receipts.wanted(at(0), peer(n), &keys(0..100_000));
        }
        assert_eq!(receipts.owed.len(), MAX_OWED);
        assert_eq!(receipts.owed_to[&peer(0)], MAX_OWED_TO_PEER);
        let told = receipts.stored(&keys(0..2000));
        assert!(told.iter().all(|(_, page)| page.len() <= PAGE_KEYS && page.is_sorted()));
        assert_eq!(told.iter().map(|(_, page)| page.len()).sum::<usize>(), 4 * 2000);
        receipts.wanted(at(300), peer(20), &keys(0..1));
        assert_eq!(receipts.owed.len(), 1);
    }

    #[test]
    fn a_wait_ends_when_enough_hold_each() {
        let mut receipts = Receipts::default();
        let two = receipts.wait(&keys(0..3), 2).unwrap();
        let one = receipts.wait(&[key(1), key(1)], 1).unwrap();
        assert_eq!(receipts.received(peer(1), &keys(0..3)), [one]);
        assert!(receipts.received(peer(1), &keys(0..3)).is_empty());
        assert!(receipts.received(peer(2), &keys(1..5)).is_empty());
        let progress = Progress { copies: 1, complete: 2, keys: 3 };
        assert_eq!(receipts.progress(two), Some(progress));
        assert_eq!(receipts.holders(two), [peer(1)], "the other lacks one");
        assert_eq!(receipts.received(peer(3), &keys(0..5)), [two]);
        assert!(receipts.progress(two).unwrap().is_complete());
        assert!(receipts.waiting.is_empty());
        receipts.cancel(two);
        receipts.cancel(one);
        receipts.cancel(one);
        assert_eq!((receipts.progress(two), receipts.awaited), (None, 0));
    }

    #[test]
    fn what_is_waited_for_is_bounded() {
        let mut receipts = Receipts::default();
        for (keys, copies) in [(&keys(0..3)[..], 0), (&[], 7)] {
            let none = receipts.wait(keys, copies).unwrap();
            assert!(receipts.progress(none).unwrap().is_complete());
        }
        assert_eq!(receipts.wait(&keys(0..1), u32::MAX), None);
        let all = receipts.wait(&keys(0..1 << 16), 16).unwrap();
        assert_eq!(receipts.wait(&keys(0..1), 1), None);
        receipts.cancel(all);
        assert!(receipts.wait(&keys(0..1), 1).is_some());
    }

    proptest! {
        /// Waits end exactly when a plain count says so.
        #[test]
        fn waits_agree_with_counting(
            waits in proptest::collection::vec((0..8u32, 0..8u32, 1..4u32), 1..6),
            events in proptest::collection::vec((0..6u8, 0..10u32, 0..10u32), 0..60),
        ) {
            let mut receipts = Receipts::default();
            let mut open: BTreeMap<_, _> = waits
                .iter()
                .map(|&(from, len, copies)| {
                    let keys = keys(from..from + len + 1);
                    (receipts.wait(&keys, copies).unwrap(), (keys, copies))
                })
                .collect();
            let mut held = std::collections::BTreeSet::new();
            for (n, from, len) in events {
                held.extend(keys(from..from + len).into_iter().map(|key| (key, n)));
                let copies = |key: &AspectKey| {
                    held.iter().filter(|(it, _)| it == key).count() as u32
                };
                let done = |keys: &[AspectKey], least| keys.iter().all(|key| copies(key) >= least);
                let mut expected: Vec<_> =
                    open.iter().filter(|(_, (keys, least))| done(keys, *least)).map(|it| *it.0).collect();
                let mut over = receipts.received(peer(n), &keys(from..from + len));
                over.sort();
                expected.sort();
                prop_assert_eq!(&over, &expected);
                for id in over {
                    open.remove(&id);
                    receipts.cancel(id);
                }
                for (id, (keys, least)) in &open {
                    let progress = receipts.progress(*id).unwrap();
                    let fewest = keys.iter().map(copies).min().unwrap().min(*least);
                    prop_assert_eq!(progress.copies, fewest);
                    let complete = keys.iter().filter(|key| copies(key) >= *least).count();
                    prop_assert_eq!(progress.complete, complete);
                }
            }
        }
    }
}
