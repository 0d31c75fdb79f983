//! What a [`Swarm`] looks at now and then: whom to be connected to and what to tell them, which arc to aim at,
//! and what of the rest others have by now.

use std::{collections::BTreeSet, time::Duration};

use super::{
    ASK_AGAIN, AUDIT, Action, CONTACT, Coverage, Density, Known, LEAST_PEERS, LOOK, Neighbour,
    Overview, PEERS_A_LOOK, PeerRecord, Quality, Swarm, Total, WaitId, is_alien,
};
use crate::{
    id::NodeId,
    limits::{MAX_ARCS, MAX_PEERS},
    ring::{ArcSet, Location, RING, RingArc},
    session::PeerSpace,
    time::Time,
    wire::PeerInfo,
};

/// What is news is told to a peer no more often. A guess: several records go together then.
const NEWS: Duration = Duration::from_secs(1);

/// How long an own record is good for, and after how long a new one is made though nothing has
/// changed. Guesses: a day off does not make a node a stranger, and records cost little.
const RECORD: (Duration, Duration) = (Duration::from_secs(86_400), Duration::from_secs(28_800));

/// Who is known is judged anew after so long, though nothing has changed but the time. A guess: how good a peer
/// is changes slowly, and what waits for a time says so.
const JUDGED: Duration = Duration::from_secs(60);

/// An attempt to connect that has led to nothing after so long counts as failed.
const DIALING: Duration = Duration::from_secs(20);

/// Connections that are being made for one space at a time. A guess.
const MAX_DIALING: usize = 8;

/// Where there seem to be many nodes, a newcomer finds out who is near it, for so long, before it aims
/// at anything. A guess: a few look-ups.
const SETTLING: Duration = Duration::from_secs(3);

/// Locations for which takers are looked for at a time, where there are not enough. A guess.
const REACH: usize = 16;

/// A peer is presumed gone for good when it is away for so many times as long as it may be. A guess: longer
/// than a restart or a change of networks takes.
const GONE: u32 = 5;

/// Of so many peers, all are remembered wherever they are; of more, only those near. Where only these are,
/// and there seem to be less than half as many in all, all are remembered again.
const FEW: usize = 512;

/// Near are, whatever this node holds, so many times as many peers as there are to be copies: those whose arcs
/// decide about its own.
const NEAREST: usize = 4;

impl Swarm {
    /// Looks at everything that is not decided at the moment when something happens.
    pub(super) fn look(&mut self, now: Time) {
        self.looked = now;
        self.look_at = now + LOOK.1;
        self.table.expire(now);
        self.table.note_away(now, self.settings.patience);
        let overdue = self.dialing.iter().filter(|(_, until)| **until <= now);
        let overdue: Vec<NodeId> = overdue.map(|(peer, _)| *peer).collect();
        for peer in overdue {
            self.dialing.remove(&peer);
            self.table.failed(now, &peer);
        }
        if self.table.changes() != self.judged.1 {
            self.judge_soon();
        }
        self.sign(now);
        if self.due.judge <= now {
            self.judge(now);
        }
        if self.due.hand_out <= now {
            self.hand_out(now);
        }
        self.dial(now);
        if self.table.stirred() || self.due.tell <= now {
            self.tell(now);
        }
        if self.due.audit <= now {
            self.audit(now);
        }
        let again: Vec<WaitId> = self
            .waits
            .iter_mut()
            .filter(|(_, (.., at))| *at <= now)
            .map(|(wait, (.., at))| {
                *at = now + ASK_AGAIN;
                *wait
            })
            .collect();
        again.into_iter().for_each(|wait| self.ask_for_receipts(wait, None));
        let waits = self.waits.values().map(|(.., at)| *at);
        let away = self.table.away_at(self.settings.patience);
        let due = &self.due;
        let dues = [self.look_at, due.judge, due.hand_out, due.tell, due.audit];
        let dues = waits.chain(self.sign_at).chain(away).chain(dues);
        self.look_at = dues.chain(self.dialing.values().copied()).min().unwrap_or(now);
    }

    /// Looks at all that depends on who is known.
    fn judge(&mut self, now: Time) {
        self.due.judge = now + JUDGED;
        self.judged.0 = now;
        self.trust(now);
        self.know();
        self.size(now);
        self.connect(now);
        // Who is trusted may have changed.
        self.due.hand_out = now;
        self.judged.1 = self.table.changes();
    }

    /// Keeps in mind whom to remember, and for which locations somebody can be named.
    fn know(&mut self) {
        let (now, near) = (self.looked, self.near());
        self.table.set_query(now, &near);
        let claims = self.table.each().filter(|it| it.quality.trusted(now));
        let claims = claims.filter(|it| !self.is_gone(now, &it.quality));
        let spans = claims.flat_map(|it| it.record.store.spans());
        let query: ArcSet = spans.map(|(first, last)| (first.0, last.0)).collect();
        self.query = query.union(&self.local.store).longest(MAX_ARCS);
    }

    /// Of which part of the ring all are to be remembered.
    fn near(&self) -> ArcSet {
        let narrow = !self.table.query().is_full();
        if !narrow && self.table.len() < FEW {
            return ArcSet::full();
        }
        let n = NEAREST * self.settings.copies.target() as usize;
        let around = self.table.nearest_arc(n.min(FEW / 2));
        // How many there are in all follows from these, once others are forgotten.
        let all = (n.min(FEW / 2) as u64 * RING) / around.len().max(1);
        if narrow && self.table.len() < FEW && all < FEW as u64 / 2 {
            return ArcSet::full();
        }
        widened(&self.own_arcs(), self.location, 4).union(&around.into())
    }

    /// Makes a new record, where one is due.
    fn sign(&mut self, now: Time) {
        let due = self.sign_at.is_some_and(|at| at <= now);
        let old =
            self.own.as_ref().is_none_or(|(own, _)| own.expires <= now + (RECORD.0 - RECORD.1));
        if !due && !old {
            return;
        }
        self.sign_at = None;
        self.sequence = (self.sequence + 1).max(now.as_micros());
        let record = PeerRecord {
            node: self.us,
            sequence: self.sequence,
            expires: now + RECORD.0,
            addresses: self.addresses.clone(),
            store: self.local.store.clone(),
            target: self.local.target.clone(),
            count: self.local.count,
            bytes: self.local.bytes,
        };
        let signed = record.sign(&self.key, &self.space);
        self.own = Some((record, signed));
        self.links.values_mut().for_each(|link| link.told = false);
        self.due.tell = now;
    }

    /// Finds out which part of the ring to hold.
    fn size(&mut self, now: Time) {
        if self.settings.fixed.is_some() {
            return;
        }
        let is_newcomer = self.local.store.is_empty() && self.local.target.is_empty();
        if is_newcomer {
            let Some((met, informed)) = self.acquainted else { return };
            let few = self.table.len() < MAX_PEERS;
            if !(informed && few) && now < met + SETTLING {
                self.due.judge = self.due.judge.min(met + SETTLING);
                return;
            }
        }
        let neighbours: Vec<Neighbour> =
            self.table.each().map(|known| self.neighbour(now, known)).collect();
        let max_len = self.room();
        let Some(sizing) = &mut self.sizing else { return };
        let before = self.local.target.clone();
        if let Some(target) = sizing.update(now, &neighbours, self.settings.copies, max_len)
            && target != before
        {
            self.actions.push_back(Action::Aim(target));
        }
        if let Some(at) = sizing.next_look() {
            self.due.judge = self.due.judge.min(at.max(now + LOOK.0));
        }
    }

    /// Whether a peer was away for so long that others should take its place, even where there are enough
    /// copies without it.
    fn is_gone(&self, now: Time, quality: &Quality) -> bool {
        quality.presumed_gone(now, self.settings.patience * GONE)
    }

    /// What a peer holds or fills, as far as is known; who is gone does not count.
    fn neighbour(&self, now: Time, known: &Known) -> Neighbour {
        let (node, record) = (known.record.node, &known.record);
        let link = if known.is_connected() { self.links.get(&node) } else { None };
        let (store, arcs) = match link {
            Some(link) => (link.theirs.store.clone(), link.takes()),
            None if record.store == record.target => (record.store.clone(), record.store.clone()),
            None => (record.store.clone(), record.store.union(&record.target)),
        };
        let gone = self.is_gone(now, &known.quality);
        let weight = if gone { 0.0 } else { known.quality.copy(now) };
        let away = known.quality.absent(now).is_some_and(|it| it >= self.settings.patience);
        Neighbour { node, location: known.location, arcs, store, weight, away }
    }

    /// The most locations there is room for.
    fn room(&self) -> Option<u64> {
        let of_quota = self.settings.quota.and_then(|quota| {
            let held = self.total()?;
            Some((quota as f64 / held.bytes.max(1) as f64 * 0.9 * 2f64.powi(32)) as u64)
        });
        let full = self.local.full.then(|| self.local.store.len());
        of_quota.into_iter().chain(full).min()
    }

    /// Gives away what is held outside, and drops what enough others have.
    fn hand_out(&mut self, now: Time) {
        self.due.hand_out = now + LOOK.1;
        if self.outside.is_empty() {
            return;
        }
        for (peer, link) in &self.links {
            if !link.trusted {
                self.hand_over.gone(peer);
            } else if let Some(arcs) = self.hand_over.next(now, *peer, &link.theirs) {
                self.actions.push_back(Action::Give { to: *peer, arcs });
            }
        }
        for droppable in self.hand_over.droppable(now, self.settings.copies.min()) {
            let (arcs, until) = (droppable.arcs, droppable.until);
            self.actions.push_back(Action::Drop { arcs, until });
        }
        let next = self.hand_over.wake_at(now);
        self.due.hand_out = next.map_or(self.due.hand_out, |at| at.min(self.due.hand_out));
    }

    /// Finds out whom it needs to be connected to, and lets go of whom it does not.
    fn connect(&mut self, now: Time) {
        let wanted = self.table.wanted(now, &self.own_arcs());
        let mut dial = wanted.dial;
        if self.links.len() < LEAST_PEERS {
            for (peer, contact) in &mut self.contacts {
                let dialed = self.links.contains_key(peer) || self.dialing.contains_key(peer);
                if dialed || self.table.is_blocked(peer) {
                    continue;
                }
                if contact.next <= now {
                    contact.next = now + self.random.around(contact.wait);
                    contact.wait = (contact.wait * 2).min(CONTACT.1);
                    dial.insert(0, *peer);
                }
                self.due.judge = self.due.judge.min(contact.next);
            }
        }
        dial.extend(self.lacking_takers(now));
        dial.extend(self.table.doubtful(now));
        dial.reverse();
        self.dial = dial;
        for peer in &wanted.spare {
            if self.links.get(peer).is_some_and(|link| link.dialed) {
                self.actions.push_back(Action::Close(*peer));
            }
        }
        self.spare = wanted.spare;
        // Who has failed is tried again when its time has come.
        if let Some(at) = self.table.back_at(now) {
            let wait = LOOK.0 * (1 + (self.table.len() / PEERS_A_LOOK) as u32);
            self.due.judge = self.due.judge.min(at.max(now + wait));
        }
    }

    /// Connects to whom it needs, few at a time.
    fn dial(&mut self, now: Time) {
        while self.dialing.len() < MAX_DIALING
            && let Some(peer) = self.dial.pop()
        {
            if peer != self.us
                && !self.links.contains_key(&peer)
                && !self.dialing.contains_key(&peer)
            {
                self.dialing.insert(peer, now + DIALING);
                self.actions.push_back(Action::Dial(peer));
            }
        }
    }

    /// Peers that are not connected, and take something of which not enough that are connected do.
    fn lacking_takers(&self, now: Time) -> Vec<NodeId> {
        let mut wanted = BTreeSet::new();
        let min = self.settings.copies.min();
        let unsent = self.spread.unsent();
        let step = unsent.len().div_ceil(REACH).max(1);
        let unsent = unsent.step_by(step).map(|key| (key.location, 1));
        let waits = self.waits.values().flat_map(|(keys, copies, _)| {
            let step = keys.len().div_ceil(REACH).max(1);
            keys.iter().step_by(step).map(|key| (key.location, *copies))
        });
        // Of what is outside, the middle of each arc stands for it.
        let outside = self.outside.arcs().into_iter().map(|arc| {
            let middle = Location(arc.start().0.wrapping_add((arc.len() / 2) as u32));
            (middle, min)
        });
        for (location, copies) in unsent.chain(waits).chain(outside).take(4 * REACH) {
            let takers = self.links.values().filter(|link| {
                link.theirs.store.contains(location) || link.theirs.target.contains(location)
            });
            let lacking = (copies as usize + 1).saturating_sub(takers.count());
            let holders = self.table.holders(now, location);
            let others = holders.into_iter().filter(|node| !self.links.contains_key(node));
            wanted.extend(others.take(lacking));
        }
        wanted.into_iter().collect()
    }

    /// Tells peers what is news to them.
    fn tell(&mut self, now: Time) {
        self.due.tell = now + LOOK.1;
        let Some((_, signed)) = &self.own else { return };
        let behind = self.links.iter().filter(|(_, link)| !link.told).map(|(peer, _)| *peer);
        let mut peers: Vec<NodeId> = behind.chain(self.table.to_be_told().copied()).collect();
        peers.sort_unstable();
        peers.dedup();
        for peer in peers {
            let Some(link) = self.links.get_mut(&peer) else { continue };
            if link.news_at > now {
                self.due.tell = self.due.tell.min(link.news_at);
                continue;
            }
            let mut infos = Vec::new();
            if !std::mem::replace(&mut link.told, true) {
                infos.push(PeerInfo { record: signed.clone(), observed: None, away: false });
            }
            infos.extend(self.table.news(now, &peer, MAX_PEERS - infos.len()));
            if !infos.is_empty() {
                link.news_at = now + NEWS;
                self.due.tell = self.due.tell.min(link.news_at);
                self.actions.push_back(Action::Tell(peer, infos));
            }
        }
    }

    fn audit(&mut self, now: Time) {
        self.due.audit = now + AUDIT.1;
        for (peer, link) in &mut self.links {
            if link.audit_at <= now {
                let asks = !link.theirs.store.intersect(&self.local.store).is_empty();
                // Where nothing can be asked for yet, that may soon be otherwise.
                let wait = if asks { AUDIT.1 } else { AUDIT.0 };
                link.audit_at = now + self.random.around(wait);
                if asks {
                    self.actions.push_back(Action::Audit(*peer));
                }
            }
            self.due.audit = self.due.audit.min(link.audit_at);
        }
    }

    /// Met with a network that holds far more: this node has grown up alone, and what it claims cannot
    /// be true.
    pub(super) fn guard(&mut self, met: NodeId) {
        let ours = &self.local;
        let Some(link) = self.links.get(&met) else { return };
        let shared = link.theirs.store.intersect(&ours.store);
        if shared.is_empty() {
            return;
        }
        let density = |theirs: &PeerSpace| Density {
            count: theirs.count,
            bytes: theirs.bytes,
            len: theirs.store.len(),
        };
        let others = self.links.values().map(|link| &link.theirs);
        let others = others.filter(|theirs| !theirs.store.intersect(&ours.store).is_empty());
        let others: Vec<Density> = others.map(density).collect();
        let (count, bytes, len) = (ours.count, ours.bytes, ours.store.len());
        if is_alien(Density { count, bytes, len }, &others) {
            self.actions.push_back(Action::Disclaim(shared));
        }
    }

    fn total(&self) -> Option<Total> {
        let (count, bytes, len) = (self.local.count, self.local.bytes, self.local.store.len());
        let density = |known: &Known| {
            let record = &known.record;
            Density { count: record.count, bytes: record.bytes, len: record.store.len() }
        };
        let others: Vec<Density> = self.table.each().map(density).collect();
        Total::estimate(Density { count, bytes, len }, &others)
    }

    /// How the space stands, for people.
    pub fn overview(&self, now: Time) -> Overview {
        let own = self.own_arcs();
        let held = self.table.iter().map(|known| {
            let link = self.links.get(&known.record.node);
            let store = link.map_or(&known.record.store, |link| &link.theirs.store);
            let gone = self.is_gone(now, &known.quality);
            (store, if gone { 0.0 } else { known.quality.copy(now) })
        });
        let coverage = Coverage::of(held.chain([(&self.local.store, 1.0)]));
        let verified = self.links.values().filter_map(|link| link.same.as_ref());
        let verified = verified.fold(ArcSet::empty(), |all, (_, arcs)| all.union(arcs));
        let reachable = self.table.iter().filter(|it| it.quality.absent(now).is_none());
        Overview {
            known: self.table.len(),
            reachable: reachable.count(),
            copies: coverage.over(&own),
            total: self.total(),
            unverified: own.difference(&verified),
            outside: self.outside.clone(),
            wanted: self.settings.copies,
            automatic: self.settings.fixed.is_none(),
        }
    }
}

/// Some arcs, and so many times their length around a location.
fn widened(arcs: &ArcSet, location: Location, times: u64) -> ArcSet {
    let around = RingArc::around(location, arcs.len().saturating_mul(times));
    arcs.union(&around.into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        aspect::AuthorKey,
        id::SpaceId,
        swarm::{Copies, Settings},
    };

    const SPACE: SpaceId = SpaceId([7; 32]);

    fn at(millis: u64) -> Time {
        Time::from_micros(1_000_000_000 + millis * 1000)
    }

    fn key(n: u32) -> AuthorKey {
        AuthorKey::from_bytes(&std::array::from_fn(|i| n.to_le_bytes().get(i).map_or(1, |it| *it)))
    }

    /// A space of so many nodes, each of which holds its share, and one that begins.
    fn space(nodes: u32) -> (Swarm, Vec<PeerInfo>) {
        let share = (RING / u64::from(nodes)) * 20;
        let record = |n| {
            let node = NodeId(key(n).author());
            let arcs: ArcSet = RingArc::around(Location::of_node(&SPACE, &node), share).into();
            let (expires, store) = (at(0) + RECORD.0, arcs.clone());
            let (target, addresses) = (arcs, Vec::new());
            let record = PeerRecord {
                node,
                sequence: 1,
                expires,
                addresses,
                store,
                target,
                count: 9,
                bytes: 9,
            };
            PeerInfo { record: record.sign(&key(n), &SPACE), observed: None, away: false }
        };
        let settings = Settings {
            copies: Copies::default(),
            fixed: None,
            quota: None,
            idle: Duration::from_secs(300),
            patience: Duration::from_secs(120),
            push: true,
            pull: true,
            seed: 1,
        };
        let mut swarm = Swarm::new(at(0), key(0), SPACE, settings);
        swarm.set_local(at(0), swarm.local.clone());
        (swarm, (1..nodes).map(record).collect())
    }

    /// Each node says who it is, one after the other and again and again; how many are known after each look.
    fn learn(swarm: &mut Swarm, infos: &[PeerInfo], times: usize) -> Vec<usize> {
        let mut known = Vec::new();
        for (n, info) in infos.iter().cycle().take(times * infos.len()).enumerate() {
            let now = at(n as u64 * 100);
            let from = info.record.read().unwrap().node;
            assert_eq!(swarm.heard_of(now, from, vec![info.clone()]).1, None);
            swarm.look(now);
            known.push(swarm.table.len());
        }
        known
    }

    #[test]
    fn who_was_kept_is_known_again() {
        let (mut swarm, infos) = space(300);
        infos.iter().for_each(|info| swarm.restore(at(0), info.record.clone()));
        assert_eq!(swarm.table.len(), 299);
        swarm.look(at(0));
        assert_eq!(swarm.table.len(), 299);
    }

    #[test]
    fn of_many_those_near_are_known_and_that_does_not_swing() {
        let (mut swarm, infos) = space(1500);
        let known = learn(&mut swarm, &infos, 3);
        // They are looked at later the more there are, and two come in each 200 ms of that.
        let most = FEW + 2 * FEW / PEERS_A_LOOK;
        assert!(known.iter().all(|known| *known < most), "{:?}", known.iter().max());
        let later = &known[infos.len()..];
        let (least, most) = (later.iter().min().unwrap(), later.iter().max().unwrap());
        assert!(*least > 80 && most - least < 32, "{least} to {most}");
        // Even where nothing is held yet, those nearest are known.
        let mut distances: Vec<(u32, NodeId)> = Vec::new();
        for info in &infos {
            let node = info.record.read().unwrap().node;
            let ahead = Location::of_node(&SPACE, &node).0.wrapping_sub(swarm.location.0);
            distances.push((ahead.min(ahead.wrapping_neg()), node));
        }
        distances.sort_unstable();
        assert!(distances[..80].iter().all(|(_, node)| swarm.table.get(node).is_some()));
    }

    #[test]
    fn of_few_all_are_known() {
        let (mut swarm, infos) = space(400);
        assert_eq!(learn(&mut swarm, &infos, 1).last(), Some(&399));
    }

    /// When a peer is to be audited the next time, within so many seconds.
    fn audit(swarm: &mut Swarm, seconds: std::ops::Range<u64>) -> Option<u64> {
        seconds.into_iter().find(|second| {
            let now = at(second * 1000);
            swarm.tick(now);
            swarm.poll_actions(now).iter().any(|action| matches!(action, Action::Audit(_)))
        })
    }

    #[test]
    fn an_audit_that_shows_nothing_is_made_again_soon() {
        let (mut swarm, _) = space(2);
        let peer = NodeId(key(1).author());
        let (store, target, query) = (ArcSet::full(), ArcSet::full(), ArcSet::full());
        let theirs = PeerSpace { number: 1, store, target, query, count: 9, bytes: 9, full: false };
        swarm.met(at(0), peer, true, theirs);
        assert_eq!(audit(&mut swarm, 0..200), None, "nothing is held here that could be asked for");
        let held = ArcSet::full();
        let local =
            crate::session::LocalSpace { store: held.clone(), target: held, ..swarm.local.clone() };
        swarm.set_local(at(200_000), local);
        let first = audit(&mut swarm, 200..400).expect("there is something by now");
        swarm.audited(at(first * 1000), &peer, None);
        let second = audit(&mut swarm, first + 1..first + 200).expect("there was no answer");
        swarm.audited(at(second * 1000), &peer, Some(true));
        let third = audit(&mut swarm, second + 1..second + 2000);
        assert_eq!(third, None, "who has passed is left alone for a while");
    }
}
