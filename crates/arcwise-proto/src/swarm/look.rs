//! What a [`Swarm`] looks at now and then: whom to be connected to and what to tell them, which arc to aim at,
//! and what of the rest others have by now.

use std::{collections::BTreeSet, time::Duration};

use super::{
    ASK_AGAIN, AUDIT, Action, CONTACT, Coverage, Density, Known, LEAST_PEERS, LOOK, Neighbour,
    Overview, PeerRecord, Quality, Swarm, Total, WaitId, is_alien,
};
use crate::{
    id::NodeId,
    limits::{MAX_ARCS, MAX_PEERS},
    ring::{ArcSet, Location, RingArc},
    session::PeerSpace,
    time::Time,
    wire::PeerInfo,
};

/// What is news is told to a peer no more often. A guess: several records go together then.
const NEWS: Duration = Duration::from_secs(1);

/// How long an own record is good for, and after how long a new one is made though nothing has
/// changed. Guesses: a day off does not make a node a stranger, and records cost little.
const RECORD: (Duration, Duration) = (Duration::from_secs(86_400), Duration::from_secs(28_800));

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

/// Of so many peers, all are remembered wherever they are; of more, only those near.
const FEW: usize = 512;

/// Peers whose location is so near that of another one are told of to that one.
const NEAR: u64 = 1 << 28;

impl Swarm {
    /// Looks at everything that is not decided at the moment when something happens.
    pub(super) fn look(&mut self, now: Time) {
        self.looked = now;
        self.look_at = now + LOOK.1;
        self.table.expire(now);
        let overdue = self.dialing.iter().filter(|(_, until)| **until <= now);
        let overdue: Vec<NodeId> = overdue.map(|(peer, _)| *peer).collect();
        for peer in overdue {
            self.dialing.remove(&peer);
            self.table.failed(now, &peer);
        }
        self.know();
        self.sign(now);
        self.size(now);
        self.hand_out(now);
        self.connect(now);
        self.tell(now);
        self.audit(now);
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
        self.look_at = waits.chain(self.sign_at).chain([self.look_at]).min().unwrap_or(now);
    }

    /// Keeps in mind whom to remember, and for which locations somebody can be named.
    fn know(&mut self) {
        let known = self.table.iter().count();
        let own = self.own_arcs();
        let near = match known < FEW {
            true => ArcSet::full(),
            false => widened(&own, self.location, 4),
        };
        self.table.set_query(self.looked, &near);
        let now = self.looked;
        let claims = self.table.iter().filter(|it| it.quality.trusted(now));
        let claims = claims.filter(|it| !self.is_gone(now, &it.quality));
        let query: ArcSet = claims.flat_map(|it| it.record.store.arcs()).collect();
        self.query = query.union(&self.local.store).longest(MAX_ARCS);
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
    }

    /// Finds out which part of the ring to hold.
    fn size(&mut self, now: Time) {
        if self.settings.fixed.is_some() {
            return;
        }
        let is_newcomer = self.local.store.is_empty() && self.local.target.is_empty();
        if is_newcomer {
            let Some((met, informed)) = self.acquainted else { return };
            let few = self.table.iter().count() < MAX_PEERS;
            if !(informed && few) && now < met + SETTLING {
                self.look_at = self.look_at.min(met + SETTLING);
                return;
            }
        }
        let mut neighbours = self.neighbours(now, |quality| self.is_gone(now, quality));
        let away = |it: Duration| it >= self.settings.patience;
        let here = self.neighbours(now, |quality| quality.absent(now).is_some_and(away));
        let coverage = Coverage::of(here.iter().map(|it| (&it.arcs, it.weight)));
        let near = widened(&self.own_arcs(), self.location, 2);
        let least = f64::from(self.settings.copies.min());
        if coverage.over(&near).is_some_and(|level| level.min < least) {
            neighbours = here;
        }
        let max_len = self.room();
        let Some(sizing) = &mut self.sizing else { return };
        let before = self.local.target.clone();
        if let Some(target) = sizing.update(now, &neighbours, self.settings.copies, max_len)
            && target != before
        {
            self.actions.push_back(Action::Aim(target));
        }
        if let Some(at) = sizing.next_look() {
            self.look_at = self.look_at.min(at.max(now + LOOK.0));
        }
    }

    /// Whether a peer was away for so long that others should take its place, even where there are enough
    /// copies without it.
    fn is_gone(&self, now: Time, quality: &Quality) -> bool {
        quality.presumed_gone(now, self.settings.patience * GONE)
    }

    /// Who holds or fills what, as far as is known; those who are `gone` do not count.
    fn neighbours(&self, now: Time, gone: impl Fn(&Quality) -> bool) -> Vec<Neighbour> {
        let neighbour = |known: &Known| {
            let node = known.record.node;
            let arcs = match self.links.get(&node) {
                Some(link) => link.takes(),
                None => known.record.store.union(&known.record.target),
            };
            let gone = gone(&known.quality);
            let weight = if gone { 0.0 } else { known.quality.copy(now) };
            Neighbour { node, location: known.location, arcs, weight }
        };
        self.table.iter().map(neighbour).collect()
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
        if self.outside.is_empty() {
            return;
        }
        for (peer, link) in &self.links {
            let trusted = self.table.get(peer).is_none_or(|known| known.quality.trusted(now));
            if !trusted {
                self.hand_over.gone(peer);
            } else if let Some(arcs) = self.hand_over.next(now, *peer, &link.theirs) {
                self.actions.push_back(Action::Give { to: *peer, arcs });
            }
        }
        for droppable in self.hand_over.droppable(now, self.settings.copies.min()) {
            let (arcs, until) = (droppable.arcs, droppable.until);
            self.actions.push_back(Action::Drop { arcs, until });
        }
    }

    /// Connects to whom it needs, and lets go of whom it does not.
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
                self.look_at = self.look_at.min(contact.next);
            }
        }
        dial.extend(self.lacking_takers(now));
        for peer in dial {
            if self.dialing.len() >= MAX_DIALING {
                break;
            }
            if peer != self.us
                && !self.links.contains_key(&peer)
                && self.dialing.insert(peer, now + DIALING).is_none()
            {
                self.actions.push_back(Action::Dial(peer));
            }
        }
        for peer in wanted.spare {
            if self.links.get(&peer).is_some_and(|link| link.dialed) {
                self.actions.push_back(Action::Close(peer));
            }
        }
        if !self.dialing.is_empty() {
            self.look_at = self.look_at.min(now + Duration::from_secs(1));
        }
        // Who has failed is tried again when its time has come.
        if self.table.iter().any(|known| !known.is_connected()) {
            self.look_at = self.look_at.min(now + Duration::from_secs(1));
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
        let Some((own, signed)) = &self.own else { return };
        for (peer, link) in &mut self.links {
            if link.news_at > now {
                self.look_at = self.look_at.min(link.news_at);
                continue;
            }
            let mut infos = Vec::new();
            if link.told < own.sequence {
                link.told = own.sequence;
                infos.push(PeerInfo { record: signed.clone(), observed: None });
            }
            let near = RingArc::around(Location::of_node(&self.space, peer), NEAR);
            let interest = link.theirs.store.union(&link.theirs.target).union(&near.into());
            infos.extend(self.table.news(now, peer, &interest, MAX_PEERS - infos.len()));
            if !infos.is_empty() {
                link.news_at = now + NEWS;
                self.look_at = self.look_at.min(link.news_at);
                self.actions.push_back(Action::Tell(*peer, infos));
            }
        }
    }

    fn audit(&mut self, now: Time) {
        for (peer, link) in &mut self.links {
            if link.audit_at <= now {
                link.audit_at = now + self.random.around(AUDIT.1);
                if !link.theirs.store.intersect(&self.local.store).is_empty() {
                    self.actions.push_back(Action::Audit(*peer));
                }
            }
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
        let others: Vec<Density> = self.table.iter().map(density).collect();
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
            known: self.table.iter().count(),
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
