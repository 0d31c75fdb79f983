//! Giving away safely what is held outside the arc that a node aims at: what it authored for elsewhere,
//! and what is left after its arc has become shorter.
//!
//! It is offered to those who claim it or fill it. A session in which such a peer has taken all it
//! lacked is a receipt: the peer holds, durably, everything that was held here up to some local sequence
//! number. Only what enough peers that claim it have given receipts for, for a while, may be dropped; and
//! only up to that number, so what is stored meanwhile is safe, in whatever order things happen.

use std::{
    cmp::Reverse,
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use super::Copies;
use crate::{
    id::NodeId,
    limits::MAX_ARCS,
    ring::{ArcSet, Location, RingArc},
    session::PeerSpace,
    time::Time,
};

/// What enough receipts are there for is kept so long besides. A guess: who then turns out to be gone,
/// or not to claim it any more, does not count; and what was given up comes back cheaply.
const GRACE: Duration = Duration::from_secs(600);

/// A peer that could not take something is not asked again for so long; nor is one that took all there
/// was asked to take what has come since. A guess: what is new has been pushed, besides.
const PAUSE: Duration = Duration::from_secs(60);

/// What is new is given only after so long: most of it has arrived by pushes then, and would come twice.
/// A guess.
const PUSHED: Duration = Duration::from_secs(5);

/// Most peers that are given anything. Others must wait until one of them has gone. Above the most
/// copies that anybody may want.
const MAX_TAKERS: usize = 2 * Copies::MAX as usize;

/// Most receipts that are kept of one peer. Of more, two become one that says no more than each of them.
const MAX_RECEIPTS: usize = 16;

/// Of what was stored outside, only this many first bits of the location are kept: a peer that takes
/// something of such a part is given all that it takes again, which costs little where little is new.
const NEWS_BITS: u32 = 12;

/// What may be dropped.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Droppable {
    /// From where.
    pub arcs: ArcSet,
    /// Only what has this local sequence number or a lower one.
    pub until: u64,
}

/// Who is given what of one space, and what may be dropped then.
#[derive(Debug, Default)]
pub struct HandOver {
    outside: ArcSet,
    takers: BTreeMap<NodeId, Taker>,
    /// The newest local sequence number in a part of the ring, by the first bits of the location.
    news: BTreeMap<u32, u64>,
}

#[derive(Debug, Default)]
struct Taker {
    claims: ArcSet,
    /// Claims, and what it fills.
    takes: ArcSet,
    /// In the order in which they came.
    receipts: Vec<Receipt>,
    /// What it is being given.
    giving: Option<ArcSet>,
    /// It is given nothing before then; from then on also what has come since its receipts.
    news_from: Option<Time>,
    given: Option<Time>,
}

/// A peer holds all that was held in these arcs up to this local sequence number.
#[derive(Clone, Debug)]
struct Receipt {
    arcs: ArcSet,
    since: u64,
    /// When it came, and the peer claimed the arcs, too.
    at: Time,
}

impl HandOver {
    /// Where something lies outside of our target now. May be more than that, since arcs in which
    /// nothing is held cost nothing; it must have nothing of the target.
    pub fn held(&mut self, outside: ArcSet) {
        for taker in self.takers.values_mut() {
            taker.keep(&outside);
        }
        self.news.retain(|part, _| !outside.intersect(&part_of_ring(*part)).is_empty());
        self.outside = outside;
    }

    /// Something has been stored outside, and is to be given away, too. What may be dropped does not
    /// depend on being told this.
    pub fn stored_outside(
        &mut self,
        now: Time,
        seq: u64,
        locations: impl IntoIterator<Item = Location>,
    ) {
        for location in locations {
            let newest = self.news.entry(location.0 >> (u32::BITS - NEWS_BITS)).or_default();
            *newest = seq.max(*newest);
        }
        for taker in self.takers.values_mut() {
            let paused = taker.given.map(|at| at + PAUSE);
            taker.news_from.get_or_insert((now + PUSHED).max(paused.unwrap_or(now)));
        }
    }

    /// What this peer, that is connected and trusted, should be given now: the arcs for a session in
    /// which it only takes. Whatever becomes of that is told by [`HandOver::given`] or
    /// [`HandOver::failed`]; until then it is given nothing else. `None` where there is nothing, or not
    /// now.
    pub fn next(&mut self, now: Time, peer: NodeId, theirs: &PeerSpace) -> Option<ArcSet> {
        self.changed(now, peer, theirs);
        let taker = self.takers.get_mut(&peer)?;
        if theirs.full || taker.giving.is_some() || taker.news_from.is_some_and(|from| now < from) {
            return None;
        }
        let takes = self.outside.intersect(&taker.takes);
        // It is to have a receipt as new as the newest thing there; between two times of that, any.
        let near =
            self.news.iter().filter(|(part, _)| !takes.intersect(&part_of_ring(**part)).is_empty());
        let newest = near.map(|(_, seq)| *seq).max().filter(|_| taker.news_from.is_some());
        let fresh =
            taker.receipts.iter().filter(|it| newest.is_none_or(|newest| it.since >= newest));
        let lacks = takes.difference(&fresh.flat_map(spans).collect());
        taker.giving = (!lacks.is_empty()).then(|| lacks.longest(MAX_ARCS));
        let rest = taker.giving.as_ref().is_some_and(|arcs| *arcs != lacks);
        taker.news_from = rest.then_some(now + PAUSE);
        taker.given = taker.giving.as_ref().map(|_| now).or(taker.given);
        taker.giving.clone()
    }

    /// When there may be something again to give or to drop, where nothing happens before.
    pub fn wake_at(&self, now: Time) -> Option<Time> {
        let due = self.takers.values().flat_map(|taker| {
            let counts = taker.receipts.iter().map(|it| it.at + GRACE);
            counts.chain(taker.news_from.filter(|_| taker.giving.is_none()))
        });
        due.filter(|at| *at > now).min()
    }

    /// A session over these arcs has completed: the peer holds, durably, everything that we held there
    /// when our local sequence number was `since`, that of the newest aspect in what was compared. Only
    /// what [`HandOver::next`] gave counts, and the peer has claimed or filled since then.
    pub fn given(&mut self, now: Time, peer: NodeId, arcs: &ArcSet, since: u64) {
        let Some(taker) = self.takers.get_mut(&peer) else { return };
        let Some(giving) = taker.giving.take() else { return };
        let arcs = arcs.intersect(&giving);
        taker.receipts.push(Receipt { arcs, since, at: now });
        taker.tidy(now);
    }

    /// A session with the peer has not completed: it is not asked again for a while.
    pub fn failed(&mut self, now: Time, peer: NodeId) {
        if let Some(taker) = self.takers.get_mut(&peer) {
            (taker.giving, taker.news_from) = (None, Some(now + PAUSE));
        }
    }

    /// What a connected and trusted peer says it holds has changed. Its receipts do not count any more
    /// where it does not claim any more what it claimed, nor where it neither claims nor fills.
    pub fn changed(&mut self, now: Time, peer: NodeId, theirs: &PeerSpace) {
        let is_room = self.takers.len() < MAX_TAKERS;
        let Some(taker) = (match is_room {
            true => Some(self.takers.entry(peer).or_default()),
            false => self.takers.get_mut(&peer),
        }) else {
            return;
        };
        let takes = theirs.store.union(&theirs.target);
        if (&taker.claims, &taker.takes) == (&theirs.store, &takes) {
            return;
        }
        taker.keep(&takes.difference(&taker.claims.difference(&theirs.store)));
        // What it had while it did not claim it counts from now on.
        let claimed = theirs.store.difference(&taker.claims);
        (taker.claims, taker.takes) = (theirs.store.clone(), takes);
        for receipt in std::mem::take(&mut taker.receipts) {
            let Receipt { arcs, since, at } = receipt;
            let late = arcs.intersect(&claimed);
            taker.receipts.push(Receipt { arcs: arcs.difference(&claimed), since, at });
            taker.receipts.push(Receipt { arcs: late, since, at: now });
        }
        taker.tidy(now);
    }

    /// The peer is gone, or not trusted any more: it has not got anything.
    pub fn gone(&mut self, peer: &NodeId) {
        self.takers.remove(peer);
    }

    /// What may be dropped: each location for which at least `copies` peers (one, where that is 0) that
    /// claim it have given receipts, and have done so for a while. The arcs do not overlap, and are in
    /// the order of `until`. When it is dropped, [`HandOver::held`] is to be told what is left.
    pub fn droppable(&self, now: Time, copies: u32) -> Vec<Droppable> {
        let copies = (copies as usize).max(1);
        // Where a peer's receipt begins or ends.
        let mut edges: Vec<(u64, bool, u64, &NodeId)> = Vec::new();
        for (node, taker) in &self.takers {
            let claimed = self.outside.intersect(&taker.claims);
            for Receipt { arcs, since, .. } in taker.settled(now) {
                for (first, last) in arcs.intersect(&claimed).spans() {
                    edges.push((first.0.into(), true, since, node));
                    edges.push((u64::from(last.0) + 1, false, since, node));
                }
            }
        }
        // At one place, what ends comes before what begins.
        edges.sort_unstable();
        let mut receipts: BTreeSet<(u64, &NodeId)> = BTreeSet::new();
        let mut found: BTreeMap<u64, Vec<(u32, u32)>> = BTreeMap::new();
        let mut from = 0;
        for (at, begins, since, node) in edges {
            if from < at
                && let Some((until, _)) = receipts.iter().rev().nth(copies - 1)
                && let (Ok(first), Ok(last)) = (u32::try_from(from), u32::try_from(at - 1))
            {
                found.entry(*until).or_default().push((first, last));
            }
            from = at;
            match begins {
                true => receipts.insert((since, node)),
                false => receipts.remove(&(since, node)),
            };
        }
        let droppable = found.into_iter();
        droppable
            .map(|(until, spans)| Droppable { arcs: spans.into_iter().collect(), until })
            .collect()
    }
}

impl Taker {
    /// Forgets the receipts for what is not in these arcs, and those to come.
    fn keep(&mut self, arcs: &ArcSet) {
        self.giving = self.giving.take().map(|giving| giving.intersect(arcs));
        for receipt in &mut self.receipts {
            receipt.arcs = receipt.arcs.intersect(arcs);
        }
        self.receipts.retain(|it| !it.arcs.is_empty());
    }

    /// The receipts that are old enough to count; of those for the same, only the one that says the most.
    fn settled(&self, now: Time) -> Vec<Receipt> {
        let mut settled: Vec<Receipt> =
            self.receipts.iter().filter(|it| it.at + GRACE <= now).cloned().collect();
        settled.sort_by_key(|it| Reverse(it.since));
        let mut had = ArcSet::empty();
        for receipt in &mut settled {
            receipt.arcs = receipt.arcs.difference(&had);
            had = had.union(&receipt.arcs);
        }
        settled
    }

    /// Leaves out what other receipts say, too, and keeps few.
    fn tidy(&mut self, now: Time) {
        let mut receipts = self.settled(now);
        receipts.extend(self.receipts.extract_if(.., |it| it.at + GRACE > now));
        receipts.sort_by_key(|it| it.at);
        receipts.retain(|it| !it.arcs.is_empty());
        while receipts.len() > MAX_RECEIPTS {
            // Of those that count already, the oldest two; else two that came soon after each other, so
            // that those that came first get to count.
            let gaps = receipts.iter().zip(receipts.iter().skip(1)).map(|(a, b)| b.at.since(a.at));
            let counting = receipts.iter().filter(|it| it.at + GRACE <= now).count();
            // The last of the closest: the new ones wait, not the old ones.
            let closest = gaps.enumerate().min_by_key(|(i, gap)| (*gap, Reverse(*i)));
            let closest = closest.map_or(0, |(i, _)| i);
            let at = if counting >= 2 { 0 } else { closest };
            let first = receipts.remove(at);
            let Some(second) = receipts.get_mut(at) else { break };
            second.arcs = second.arcs.union(&first.arcs);
            second.since = second.since.min(first.since);
        }
        self.receipts = receipts;
    }
}

fn spans(receipt: &Receipt) -> impl Iterator<Item = (u32, u32)> {
    receipt.arcs.spans().map(|(first, last)| (first.0, last.0))
}

fn part_of_ring(part: u32) -> ArcSet {
    let rest = u32::BITS - NEWS_BITS;
    let first = part << rest;
    RingArc::between(Location(first), Location(first | (u32::MAX >> NEWS_BITS))).into()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::{super::random::Random, *};

    const PEERS: usize = 4;

    fn peer(i: usize) -> NodeId {
        NodeId([i as u8; 32])
    }

    /// Sixteenths of the ring.
    fn sixteenths(mask: u16) -> ArcSet {
        let part = |i: &u32| mask & (1 << i) != 0;
        (0..16).filter(part).map(|i| (i << 28, (i << 28) | 0x0fff_ffff)).collect()
    }

    fn theirs(store: u16, target: u16) -> PeerSpace {
        let (store, target) = (sixteenths(store), sixteenths(target));
        let query = store.clone();
        PeerSpace { number: 1, store, target, query, count: 0, bytes: 0, full: false }
    }

    fn at(seconds: u64) -> Time {
        Time::ZERO + Duration::from_secs(seconds)
    }

    #[test]
    fn a_receipt_of_each_and_some_patience() {
        let mut all = HandOver::default();
        all.held(sixteenths(0b0110));
        let claims = theirs(0b0011, 0b0111);
        assert_eq!(all.next(at(0), peer(0), &claims), Some(sixteenths(0b0110)));
        assert_eq!(all.next(at(0), peer(0), &claims), None);
        all.given(at(1), peer(0), &sixteenths(0b0110), 7);
        assert_eq!(all.next(at(100), peer(0), &claims), None);
        // Only what it claims counts, and not at once.
        assert_eq!(all.droppable(at(600), 1), []);
        let first = Droppable { arcs: sixteenths(0b0010), until: 7 };
        assert_eq!(all.droppable(at(601), 1), std::slice::from_ref(&first));
        assert_eq!(all.droppable(at(601), 0), std::slice::from_ref(&first));
        assert_eq!(all.droppable(at(9999), 2), []);
        // Once it claims the rest, that begins to count.
        all.changed(at(700), peer(0), &theirs(0b0111, 0b0111));
        assert_eq!(all.droppable(at(1299), 1), [first]);
        let both = Droppable { arcs: sixteenths(0b0110), until: 7 };
        assert_eq!(all.droppable(at(1300), 1), [both]);
        // A second peer has more; what both have is what the first has.
        let claims = theirs(0b1110, 0b1110);
        all.stored_outside(at(1990), 8, [Location(0x1000_0001)]);
        assert_eq!(all.next(at(2000), peer(1), &claims), Some(sixteenths(0b0110)));
        all.given(at(2000), peer(1), &sixteenths(0b0110), 8);
        let two = all.droppable(at(2600), 2);
        assert_eq!(two, [Droppable { arcs: sixteenths(0b0110), until: 7 }]);
        // The first is asked to take what is new.
        let new = all.next(at(2600), peer(0), &theirs(0b0111, 0b0111)).unwrap();
        assert_eq!(new, sixteenths(0b0110));
        all.failed(at(2600), peer(0));
        assert_eq!(all.next(at(2601), peer(0), &theirs(0b0111, 0b0111)), None);
        assert_eq!(all.next(at(2660), peer(0), &theirs(0b0111, 0b0111)), Some(new));
        // Who claims it no more, or has gone, does not count, even where it comes back.
        all.changed(at(2700), peer(0), &theirs(0b0001, 0b0111));
        all.changed(at(2700), peer(0), &theirs(0b0111, 0b0111));
        all.gone(&peer(1));
        assert_eq!(all.droppable(at(9999), 1), []);
    }

    #[test]
    fn who_has_no_room_is_given_nothing() {
        let mut all = HandOver::default();
        all.held(ArcSet::full());
        let mut claims = theirs(0xffff, 0xffff);
        claims.full = true;
        assert_eq!(all.next(at(0), peer(0), &claims), None);
        claims.full = false;
        assert_eq!(all.next(at(0), peer(0), &claims), Some(ArcSet::full()));
    }

    /// Something new is stored all the time, and more of the ring comes to lie outside.
    #[test]
    fn what_never_ends_is_given_up_all_the_same() {
        let mut all = HandOver::default();
        let mut random = Random::new(1);
        let claims = theirs(0xffff, 0xffff);
        for step in 0..1000u64 {
            let now = at(step * 10);
            let end = 0x8000_0000 + (step as u32) * 0x1000;
            all.held(RingArc::between(Location(0), Location(end)).into());
            for n in 0..20 {
                let location = random.next() as u32 / 2;
                all.stored_outside(now, step * 20 + n, [Location(location)]);
            }
            for i in 0..PEERS {
                if let Some(arcs) = all.next(now, peer(i), &claims) {
                    all.given(now, peer(i), &arcs, step * 20 + 19);
                }
            }
        }
        let droppable = all.droppable(at(10_000), PEERS as u32);
        let len: u64 = droppable.iter().map(|it| it.arcs.len()).sum();
        assert!(len > 0x8000_0000, "{droppable:?}");
        // All that is older than twice the grace time, and somewhat.
        let oldest = droppable.iter().map(|it| it.until).min().unwrap();
        assert!(oldest >= 20 * (1000 - 130), "{oldest}");
        assert!(all.takers.values().all(|it| it.receipts.len() <= MAX_RECEIPTS));
    }

    /// What the receipts of a peer say of one location: up to which number, and since when.
    type Said = Vec<(u64, Time)>;

    #[derive(Clone, Default)]
    struct Model {
        known: bool,
        claims: u16,
        takes: u16,
        said: [Said; 16],
        session: Option<(ArcSet, u64)>,
        given: u32,
    }

    proptest! {
        /// However many there are: what few receipts say is not more than what all of them said.
        #[test]
        fn few_receipts_say_no_more_than_many(
            receipts in proptest::collection::vec((any::<u16>(), 0..50u64, 0..100u64), 0..60),
        ) {
            let (mut taker, mut now, mut raw) = (Taker::default(), Time::ZERO, Vec::new());
            for (mask, since, wait) in receipts {
                now = now + Duration::from_secs(wait);
                let receipt = Receipt { arcs: sixteenths(mask), since, at: now };
                raw.push(receipt.clone());
                taker.receipts.push(receipt);
                taker.tidy(now);
                prop_assert!(taker.receipts.len() <= MAX_RECEIPTS);
                for later in [0, 200, 400, 600] {
                    let then = now + Duration::from_secs(later);
                    let few = taker.settled(then);
                    for k in 0..16u32 {
                        let best = |all: &[Receipt]| {
                            let due = all.iter().filter(|it| it.at + GRACE <= then);
                            due.filter(|it| it.arcs.contains(Location(k << 28))).map(|it| it.since).max()
                        };
                        prop_assert!(best(&few) <= best(&raw));
                        // In the end, nothing was forgotten but how new it was.
                        prop_assert!(later < 600 || best(&few).is_some() == best(&raw).is_some());
                    }
                }
            }
        }

        /// Whatever happens in what order: what may be dropped is what enough peers, that claim it, have
        /// said for long enough that they hold.
        #[test]
        fn nothing_is_dropped_that_others_may_not_have(
            events in proptest::collection::vec(
                (0..9u8, 0..PEERS, any::<u16>(), any::<u16>()), 0..120),
            copies in 1..=3u32,
        ) {
            let mut all = HandOver::default();
            let mut model: [Model; PEERS] = Default::default();
            let (mut now, mut seq, mut outside) = (Time::ZERO, 0, 0xffff);
            all.held(sixteenths(outside));
            let (mut changes, mask) = (0, |i: usize| 1u16 << i);
            for (event, i, a, b) in events {
                let it = &mut model[i];
                match event {
                    0 => {
                        seq += 1;
                        let location = Location(u32::from(a) << 16 | u32::from(b));
                        all.stored_outside(now, seq, [location]);
                    }
                    1 => {
                        outside = a | b;
                        all.held(sixteenths(outside));
                        for it in &mut model {
                            if let Some((arcs, _)) = &mut it.session {
                                *arcs = arcs.intersect(&sixteenths(outside));
                            }
                            (0..16).filter(|k| outside & mask(*k) == 0).for_each(|k| it.said[k].clear());
                        }
                    }
                    // More often than not, all is claimed.
                    2 => {
                        let (store, target) = (a | b.rotate_left(3), b);
                        changes += 1;
                        all.changed(now, peer(i), &theirs(store, target));
                        for k in 0..16 {
                            let (had, has) = (it.claims & mask(k) != 0, store & mask(k) != 0);
                            if (had && !has) || (store | target) & mask(k) == 0 {
                                it.said[k].clear();
                            } else if has && !had {
                                it.said[k].iter_mut().for_each(|said| said.1 = now);
                            }
                        }
                        if let Some((arcs, _)) = &mut it.session {
                            let kept = (store | target) & !(it.claims & !store);
                            *arcs = arcs.intersect(&sixteenths(kept));
                        }
                        (it.known, it.claims, it.takes) = (true, store, store | target);
                    }
                    3 if a % 4 == 0 => {
                        all.gone(&peer(i));
                        *it = Model::default();
                    }
                    4 if a % 4 == 0 => {
                        all.failed(now, peer(i));
                        it.session = None;
                    }
                    3..=5 if it.known => {
                        let theirs = theirs(it.claims, it.takes);
                        if let Some(arcs) = all.next(now, peer(i), &theirs) {
                            prop_assert!(it.session.is_none());
                            prop_assert!(!arcs.is_empty());
                            prop_assert!(sixteenths(it.takes & outside).covers(&arcs));
                            it.session = Some((arcs, seq));
                        }
                    }
                    6 | 7 => if let Some((arcs, since)) = it.session.take() {
                        all.given(now, peer(i), &ArcSet::full(), since);
                        it.given += 1;
                        for k in 0..16 {
                            let inside = arcs.contains(Location((k as u32) << 28));
                            if inside && it.takes & outside & mask(k) != 0 {
                                it.said[k].push((since, now));
                            }
                        }
                    },
                    _ => now = now + Duration::from_secs(u64::from(a % 400)),
                }
                let droppable = all.droppable(now, copies);
                for (k, _) in (0..16).enumerate() {
                    let here = Location((k as u32) << 28);
                    let mut best: Vec<u64> = model.iter().filter_map(|it| {
                        let due = it.said[k].iter().filter(|(_, at)| *at + GRACE <= now);
                        let claimed = it.claims & outside & mask(k) != 0;
                        due.map(|(since, _)| *since).max().filter(|_| claimed)
                    }).collect();
                    best.sort_unstable_by_key(|since| Reverse(*since));
                    let expected = best.get(copies as usize - 1).copied();
                    let mut found = droppable.iter().filter(|it| it.arcs.contains(here));
                    let until = found.next().map(|it| it.until);
                    prop_assert!(found.next().is_none());
                    prop_assert!(until <= expected, "{until:?} {expected:?}");
                    // Where no receipts had to be put together, it is all that it could be.
                    if changes < 4 && model.iter().all(|it| it.given <= 3) {
                        prop_assert_eq!(until, expected);
                    }
                }
            }
        }
    }
}
