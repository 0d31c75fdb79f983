//! The peers that are known in one space: who is remembered, told of, asked and connected to.
//!
//! Of the peers that are or hold something within the query arc, all are remembered; of the rest of the
//! ring, the best few of each of some zones. What peers say of themselves is signed and
//! passed on, once to each; what is remembered and what it costs to learn it are bounded.

use std::{
    cmp::Ordering,
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use super::{MAX_RECORD_LIFE, PeerRecord, Quality, RecordError, SignedRecord, random::Random};
use crate::{
    id::{NodeId, SpaceId},
    ring::{ArcSet, Location, RingArc},
    time::Time,
    wire::PeerInfo,
};

/// Peers that are remembered in one space, at most. A guess: at 20 copies of everything, a query arc of
/// fifty times the own arc; and about a megabyte.
const MAX_KNOWN: usize = 1024;

/// Where there would be more, so many of the worst are forgotten at once, so that judging them all
/// costs little for each. A guess.
const FORGET: usize = MAX_KNOWN / 16;

/// The zones of what is outside of the query arc, from its end around to its start: where each ends, in
/// per cent of it. They are rrDHT's 11, 22, 34, 22 and 11 %.
const ZONE_ENDS: [u64; 5] = [11, 33, 67, 89, 100];

/// The first and the last zone are split where they are next to the arc: to a quarter, and that again, so many
/// times. With rrDHT's five alone, the step to who is nearest to a place is never shorter than to the next of
/// some forty around the whole ring, and the rest is gone from neighbour to neighbour: 24 steps on average
/// with a million nodes, and 4 with these (docs/SCALE.md). The smallest has less than a node of 100 million.
const SPLITS: usize = 12;

/// All zones: the five, and what is split off the first, and the last.
const ZONES: usize = ZONE_ENDS.len() + 2 * SPLITS;

/// Peers remembered of each of the five zones. A guess: some will be away.
const ZONE_KNOWN: usize = 8;

/// Peers remembered of each that is split off. A guess: those are many more zones.
const SPLIT_KNOWN: usize = 4;

/// What is news of a peer is passed on to so many of those connected that it concerns. Were it told to all, each
/// of them would hear it from most of the others, too. Of a random network, where each who hears something first
/// passes it on to five, 99.3 % hear it (the solution of 1 - x = e^(-5x)); who does not, hears the next one.
const PASSED_ON: usize = 5;

/// Peers of each zone to be connected to, for look-ups. A guess: one may not answer.
const ZONE_NEIGHBOURS: usize = 2;

/// Connections to peers with arcs in common, at most. A guess: with arcs of one size, half of it covers
/// everything [`COPIES`] times.
const MAX_NEIGHBOURS: usize = 32;

/// So many connections should cover each part of the own arcs. A guess: the least number of copies that
/// a space should have.
const COPIES: usize = 8;

/// Peers to be connected to, at the least, where so many are known. A guess.
const LEAST_NEIGHBOURS: usize = 3;

/// How much better in score another must be to take the place of one that is connected. A guess: so
/// that small changes close no connections.
const STAY: f64 = 0.2;

/// A connection is not given up before that. A guess: making it has to pay off.
const LEAST_CONNECTED: Duration = Duration::from_secs(300);

/// A connection that stood for so long was no failure. A guess: well above what it takes to make one.
const STEADY: Duration = Duration::from_secs(60);

/// The first and the longest wait after an attempt that failed, about.
const BACK_OFF: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(600));

/// What one peer may cost in records whose signatures have to be checked: how long each counts, and how
/// far ahead of time the peer may be: 16 a second, and 256 at once. Guesses: below a hundredth of a
/// core, and enough to fill the table within a minute.
const CHECK: (Duration, Duration) = (Duration::from_micros(62_500), Duration::from_secs(16));

/// Whom to tell of first is judged anew after so long, where there is much to tell. A guess: what is known of
/// how good peers are changes slowly.
const RANKED: Duration = Duration::from_secs(10);

/// Room for so many more is made at a time.
const MORE_SLOTS: usize = 32;

/// Peers whose costs are remembered.
const MAX_BUCKETS: usize = MAX_KNOWN;

/// Whether a record was of use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Learnt {
    /// Of a peer that was not known.
    New,
    /// Newer than the one that was held.
    Newer,
    /// No: as new a one is held, it has expired or would for too long not, it is the own one, or there
    /// is no room for this peer.
    Known,
    /// Not looked at, because too many came from the same peer.
    Limited,
}

/// Whom to be connected to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Wanted {
    /// To be connected to now, best first.
    pub dial: Vec<NodeId>,
    /// Connections without which it goes as well, worst first. Only those that were dialled from here
    /// should be closed, since the other side may have a use for its own.
    pub spare: Vec<NodeId>,
}

/// A peer and what is known of it.
#[derive(Clone, Debug)]
pub struct Known {
    /// What it says of itself.
    pub record: Arc<PeerRecord>,
    /// The same, as it is passed on and kept.
    pub signed: SignedRecord,
    /// Where it is on the ring.
    pub location: Location,
    /// How good it is.
    pub quality: Quality,
    /// The zone that it is remembered for; `None` inside of the query arc.
    zone: Option<u8>,
    /// How far from the own location, and since when it is known: what decides between equals, so that
    /// not all nodes choose the same of them, and a flood of new ones replaces nobody.
    distance: u32,
    since: Time,
    /// Since when a connection stands.
    connected: Option<Time>,
    failures: u32,
    not_before: Time,
    /// It has been away for long, and connected peers are told.
    away: bool,
    /// Somebody says so of it, and this node has not looked yet.
    doubted: bool,
}

impl Known {
    /// Whether a connection to it stands.
    pub fn is_connected(&self) -> bool {
        self.connected.is_some()
    }

    /// Whether it is within these arcs, or holds or fills something of them.
    fn touches(&self, arcs: &ArcSet) -> bool {
        touches(&self.record, self.location, arcs)
    }

    /// Whether it holds or fills something of these arcs.
    fn shares(&self, arcs: &ArcSet) -> bool {
        self.record.store.overlaps(arcs) || self.record.target.overlaps(arcs)
    }

    /// Whether it is or can be connected.
    fn is_at_hand(&self, now: Time) -> bool {
        self.is_connected() || (self.not_before <= now && !self.record.addresses.is_empty())
    }
}

/// A peer's place in [`Table::slots`].
type Slot = u16;

/// A connection.
#[derive(Clone, Debug)]
struct Link {
    since: Time,
    /// Which records the peer has, because it was sent them or told of them.
    has: Slots,
    /// What it holds, fills or asks about, which records touch that, and the zones of the rest.
    theirs: ArcSet,
    touching: Slots,
    zones: Zones,
    /// There may be records that it has not.
    news: bool,
    /// Of each of its zones, how many it was told of.
    far: [u8; ZONES],
}

impl Link {
    /// Whether the peer is to be told of somebody there, who does not touch what it holds, fills or asks about.
    fn wants(&self, location: Location) -> bool {
        let Some(zone) = self.zones.of(location) else { return false };
        self.far.get(usize::from(zone)).is_some_and(|told| usize::from(*told) < most_known(zone))
    }
}

/// A bit for each place in [`Table::slots`].
#[derive(Clone, Debug, Default)]
struct Slots(Vec<u64>);

impl Slots {
    fn contains(&self, slot: Slot) -> bool {
        let slot = usize::from(slot);
        self.0.get(slot / 64).is_some_and(|bits| bits >> (slot % 64) & 1 == 1)
    }

    fn set(&mut self, slot: Slot, has: bool) {
        let slot = usize::from(slot);
        if has && self.0.len() <= slot / 64 {
            self.0.resize(slot / 64 + 1, 0);
        }
        if let Some(bits) = self.0.get_mut(slot / 64) {
            *bits = *bits & !(1 << (slot % 64)) | u64::from(has) << (slot % 64);
        }
    }

    /// Those that are here and not there.
    fn without(&self, other: &Slots) -> Slots {
        let there = other.0.iter().copied().chain(std::iter::repeat(0));
        Slots(self.0.iter().zip(there).map(|(here, there)| here & !there).collect())
    }

    fn len(&self) -> usize {
        self.0.iter().map(|bits| bits.count_ones() as usize).sum()
    }

    fn iter(&self) -> impl Iterator<Item = Slot> {
        self.0.iter().enumerate().flat_map(|(word, bits)| {
            let ones = std::iter::successors(Some(*bits), |bits| Some(bits & bits.wrapping_sub(1)));
            let ones = ones.take_while(|bits| *bits != 0).map(u64::trailing_zeros);
            ones.map(move |bit| (word * 64) as Slot + bit as Slot)
        })
    }
}

/// The peers known in one space.
#[derive(Debug)]
pub struct Table {
    us: NodeId,
    space: SpaceId,
    /// The own location.
    own: Location,
    query: ArcSet,
    zones: Zones,
    /// Who is known, each at a place that it keeps. At most one more than [`MAX_KNOWN`].
    slots: Vec<Option<Known>>,
    by_node: BTreeMap<NodeId, Slot>,
    taken: Slots,
    /// Those of [`Table::slots`] that are taken, best first some time ago, and those that came since.
    ranked: Vec<Slot>,
    ranked_at: Option<Time>,
    /// See [`Table::bar`], and when that was found.
    bar: Option<(Time, Option<(bool, f64)>)>,
    links: BTreeMap<NodeId, Link>,
    /// Connected peers that have not said anything of themselves yet.
    strangers: BTreeMap<NodeId, Quality>,
    /// When what a peer has cost is forgotten: see [`CHECK`].
    buckets: BTreeMap<NodeId, Time>,
    /// Of whom nothing is remembered.
    blocked: BTreeSet<NodeId>,
    /// No record expires before that.
    expires: Time,
    /// Since when those are away, at the earliest, who are not told of yet.
    away_since: Option<Time>,
    /// A zone may have more than it should.
    untrimmed: bool,
    /// How often anything has changed but how good peers are.
    changes: u64,
    /// There may be news for somebody who had them all.
    stirred: bool,
}

impl Table {
    /// Nobody is known, and the query arc is empty.
    pub fn new(us: NodeId, space: SpaceId) -> Self {
        let own = Location::of_node(&space, &us);
        Self {
            us,
            space,
            own,
            query: ArcSet::empty(),
            zones: Zones::new(&ArcSet::empty(), own),
            slots: Vec::new(),
            by_node: BTreeMap::new(),
            taken: Slots::default(),
            ranked: Vec::new(),
            ranked_at: None,
            bar: None,
            links: BTreeMap::new(),
            strangers: BTreeMap::new(),
            buckets: BTreeMap::new(),
            blocked: BTreeSet::new(),
            expires: Time::ZERO,
            away_since: None,
            untrimmed: false,
            changes: 0,
            stirred: false,
        }
    }

    /// Of these nothing is remembered from now on.
    pub fn set_blocked(&mut self, blocked: BTreeSet<NodeId>) {
        for node in &blocked {
            self.forget(node);
        }
        self.blocked = blocked;
    }

    /// Whether nothing is to be remembered of a peer.
    pub fn is_blocked(&self, node: &NodeId) -> bool {
        self.blocked.contains(node)
    }

    /// All who touch these arcs are remembered from now on, and few others.
    pub fn set_query(&mut self, now: Time, query: &ArcSet) {
        if self.query != *query {
            self.query = query.clone();
            self.zones = Zones::new(query, self.own);
            for known in self.slots.iter_mut().flatten() {
                known.zone = zone(&self.query, &self.zones, &known.record, known.location);
            }
            self.untrimmed = true;
        }
        if std::mem::take(&mut self.untrimmed) {
            (0..ZONES as u8).for_each(|zone| self.trim(now, zone));
        }
    }

    /// All who touch these arcs are remembered.
    pub fn query(&self) -> &ArcSet {
        &self.query
    }

    /// The arc around the own location that has the nearest `n` who are known; the whole ring, where there are
    /// fewer.
    pub(super) fn nearest_arc(&self, n: usize) -> RingArc {
        let mut distances: Vec<u32> = self.each().map(|it| it.distance).collect();
        if n == 0 || distances.len() < n {
            return RingArc::FULL;
        }
        let farthest = *distances.select_nth_unstable(n - 1).1;
        RingArc::around(self.own, 2 * u64::from(farthest) + 1)
    }

    /// How often anything has changed but how good peers are.
    pub fn changes(&self) -> u64 {
        self.changes
    }

    /// Takes what `from` says of a peer, which may be itself. Nothing is checked that is of no use.
    ///
    /// # Errors
    /// Where the record cannot be read, or was not made by the peer that it is about.
    pub fn learn(
        &mut self,
        now: Time,
        from: NodeId,
        info: PeerInfo,
    ) -> Result<Learnt, RecordError> {
        let record = info.record.read()?;
        let node = record.node;
        let mut learnt = Learnt::Known;
        if self.is_newer(now, &record) {
            if from != node && !self.may_cost(now, from) {
                return Ok(Learnt::Limited);
            }
            learnt = self.take(now, Some(from), info.record.verify(&self.space)?, info.record);
        }
        let Some(slot) = self.by_node.get(&node).copied() else { return Ok(learnt) };
        let Some(known) = self.slots.get_mut(usize::from(slot)).and_then(Option::as_mut) else {
            return Ok(learnt);
        };
        if let Some(observed) = info.observed
            && from != node
        {
            known.quality.report(from, observed);
        }
        if info.away && from != node && !known.is_connected() && !known.doubted {
            known.doubted = true;
            self.changes += 1;
        }
        if known.record.sequence == record.sequence
            && let Some(link) = self.links.get_mut(&from)
        {
            link.has.set(slot, true);
        }
        Ok(learnt)
    }

    /// Takes what was kept, and was learnt from a peer before. Its signature is not checked again.
    ///
    /// # Errors
    /// Where it cannot be read.
    pub fn restore(&mut self, now: Time, signed: SignedRecord) -> Result<Learnt, RecordError> {
        let record = signed.read()?;
        match self.is_newer(now, &record) {
            true => Ok(self.take(now, None, record, signed)),
            false => Ok(Learnt::Known),
        }
    }

    /// All records, to be kept.
    pub fn records(&self) -> impl Iterator<Item = &SignedRecord> {
        self.iter().map(|known| &known.signed)
    }

    /// What is known of a peer.
    pub fn get(&self, node: &NodeId) -> Option<&Known> {
        self.at(*self.by_node.get(node)?)
    }

    /// How many are known.
    pub fn len(&self) -> usize {
        self.by_node.len()
    }

    /// Whether nobody is known.
    pub fn is_empty(&self) -> bool {
        self.by_node.is_empty()
    }

    /// All that are known, in the order of their ids.
    pub fn iter(&self) -> impl Iterator<Item = &Known> {
        self.by_node.values().filter_map(|slot| self.at(*slot))
    }

    /// The same in another order, as fast as it goes.
    pub(super) fn each(&self) -> impl Iterator<Item = &Known> {
        self.slots.iter().flatten()
    }

    fn at(&self, slot: Slot) -> Option<&Known> {
        self.slots.get(usize::from(slot))?.as_ref()
    }

    fn get_mut(&mut self, node: &NodeId) -> Option<&mut Known> {
        let slot = self.by_node.get(node)?;
        self.slots.get_mut(usize::from(*slot))?.as_mut()
    }

    /// To note what was seen of a peer that is known or connected.
    pub fn quality(&mut self, node: &NodeId) -> Option<&mut Quality> {
        if self.by_node.contains_key(node) {
            return self.get_mut(node).map(|known| &mut known.quality);
        }
        self.strangers.get_mut(node)
    }

    /// What to tell others of a peer.
    pub fn info(&self, now: Time, node: &NodeId) -> Option<PeerInfo> {
        Some(info(now, self.get(node)?))
    }

    /// A connection stands. Also where it takes the place of another one, after which the peer may have
    /// forgotten all.
    pub fn met(&mut self, now: Time, node: NodeId) {
        if let Some(known) = self.get_mut(&node) {
            known.connected = Some(now);
            known.quality.up(now);
            (known.doubted, known.away) = (false, false);
        } else if self.strangers.len() < MAX_KNOWN || self.strangers.contains_key(&node) {
            self.strangers.entry(node).or_default().up(now);
        } else {
            return;
        }
        let (theirs, has, touching) = (ArcSet::empty(), Slots::default(), Slots::default());
        let zones = Zones::new(&theirs, Location::of_node(&self.space, &node));
        let far = [0; _];
        let link = Link { since: now, has, theirs, touching, zones, news: true, far };
        self.links.insert(node, link);
        (self.changes, self.stirred) = (self.changes + 1, true);
    }

    /// A connection broke.
    pub fn lost(&mut self, now: Time, node: &NodeId) {
        self.parted(node);
        let own = self.own;
        let Some(known) = self.get_mut(node) else { return };
        if let Some(since) = known.connected.take() {
            known.quality.down(now);
            if now.since(since) >= STEADY {
                known.failures = 0;
            }
            back_off(own, now, known);
            self.away_since.get_or_insert(now);
        }
    }

    /// A connection was closed by either side, because it had no use for it.
    pub fn closed(&mut self, now: Time, node: &NodeId) {
        self.parted(node);
        if let Some(known) = self.get_mut(node) {
            (known.connected, known.away) = (None, false);
            known.quality.closed(now);
        }
    }

    fn parted(&mut self, node: &NodeId) {
        self.strangers.remove(node);
        self.links.remove(node);
        (self.changes, self.untrimmed) = (self.changes + 1, true);
    }

    /// A peer could not be reached.
    pub fn failed(&mut self, now: Time, node: &NodeId) {
        let own = self.own;
        // It may have reached this node meanwhile.
        if let Some(known) = self.get_mut(node).filter(|it| !it.is_connected()) {
            known.quality.down(now);
            known.doubted = false;
            back_off(own, now, known);
            self.away_since.get_or_insert(now);
            self.changes += 1;
        }
    }

    /// Who has been away for so long is told of, once, so that others see for themselves.
    pub fn note_away(&mut self, now: Time, patience: Duration) {
        if self.away_at(patience).is_none_or(|at| now < at) {
            return;
        }
        self.away_since = None;
        let mut news = Vec::new();
        for (slot, known) in self.slots.iter_mut().enumerate() {
            let Some(known) = known.as_mut().filter(|it| !it.away) else { continue };
            let Some(since) = known.quality.absent_since() else { continue };
            if now.since(since) < patience {
                self.away_since = Some(self.away_since.map_or(since, |first| first.min(since)));
                continue;
            }
            known.away = true;
            self.changes += 1;
            news.push((slot as Slot, known.record.sequence));
        }
        for (slot, sequence) in news {
            // As news of its own, beside the record.
            self.pass_on(slot, sequence ^ 1, None);
        }
    }

    /// When there may be somebody to be noted in this way, where nothing happens before.
    pub fn away_at(&self, patience: Duration) -> Option<Time> {
        self.away_since.map(|since| since + patience)
    }

    /// When somebody may be tried again who can not be tried now.
    pub fn back_at(&self, now: Time) -> Option<Time> {
        let waiting = self.each().filter(|it| !it.is_connected() && it.not_before > now);
        waiting.map(|it| it.not_before).min()
    }

    /// Who may be gone, as others say or a failed attempt does, and can be tried now: what they hold
    /// counts until this is known.
    pub fn doubtful(&self, now: Time) -> impl Iterator<Item = NodeId> {
        let doubtful = self.each().filter(move |known| {
            let doubted = known.doubted || known.quality.may_be_gone();
            doubted && !known.is_connected() && known.is_at_hand(now)
        });
        doubtful.map(|known| known.record.node)
    }

    /// Who claims to hold a location: who is connected first, then the best; who is not trusted last.
    pub fn holders(&self, now: Time, location: Location) -> Vec<NodeId> {
        let holders = self.each().filter(|it| it.record.store.contains(location));
        let mut holders: Vec<_> = holders
            .map(|it| (!it.quality.trusted(now), !it.is_connected(), it.quality.score(now), it))
            .collect();
        holders
            .sort_by(|a, b| (a.0, a.1).cmp(&(b.0, b.1)).then(better_first((a.2, a.3), (b.2, b.3))));
        holders.into_iter().map(|(.., it)| it.record.node).collect()
    }

    /// At most `n` peers that know best who holds a location: its [`Table::holders`], then who is near.
    pub fn nearest(&self, now: Time, location: Location, n: usize) -> Vec<NodeId> {
        let mut nearest = self.holders(now, location);
        let others = self.each().filter(|it| !it.record.store.contains(location));
        let mut others: Vec<_> =
            others.map(|it| (distance(it.location, location), it.record.node)).collect();
        let lacking = n.saturating_sub(nearest.len());
        if lacking < others.len() {
            others.select_nth_unstable(lacking);
            others.truncate(lacking);
        }
        others.sort_unstable();
        nearest.extend(others.into_iter().map(|(_, node)| node));
        nearest.truncate(n);
        nearest
    }

    /// A connected peer holds, fills or asks about these arcs now.
    pub fn told(&mut self, peer: &NodeId, theirs: &ArcSet) {
        let Some(link) = self.links.get_mut(peer).filter(|link| link.theirs != *theirs) else {
            return;
        };
        link.theirs = theirs.clone();
        link.zones = Zones::new(theirs, Location::of_node(&self.space, peer));
        link.touching = Slots::default();
        for (slot, known) in self.slots.iter().enumerate() {
            if known.as_ref().is_some_and(|it| it.touches(theirs)) {
                link.touching.set(slot as Slot, true);
            }
        }
        link.news = true;
        (self.changes, self.stirred) = (self.changes + 1, true);
    }

    /// At most `limit` records that a connected peer has not been sent and has not told of itself. Those
    /// that touch what it holds, fills or asks about come first, best first; then the best of each of
    /// its zones, as many as it would remember. They count as sent.
    pub fn news(&mut self, now: Time, to: &NodeId, limit: usize) -> Vec<PeerInfo> {
        let Some(link) = self.links.get(to) else { return Vec::new() };
        let mut new = self.taken.without(&link.has);
        self.by_node.get(to).into_iter().for_each(|own| new.set(*own, false));
        let far = new.without(&link.touching);
        let near = new.without(&far);
        let wanted = |slot: &Slot| self.at(*slot).is_some_and(|it| link.wants(it.location));
        let mut wants = Slots::default();
        if near.len() < limit {
            far.iter().filter(wanted).for_each(|slot| wants.set(slot, true));
        }
        let (near, far) = (self.sorted(now, &near, limit), self.sorted(now, &wants, limit));
        let Some(link) = self.links.get(to) else { return Vec::new() };
        let good = |it: &&Known| it.record.expires > now;
        let near = near.into_iter().filter_map(|slot| Some((slot, self.at(slot).filter(good)?)));
        let mut news: Vec<_> = near.take(limit).collect();
        let mut told = link.far;
        for slot in far {
            if news.len() >= limit {
                break;
            }
            let Some(it) = self.at(slot).filter(good) else { continue };
            let Some(zone) = link.zones.of(it.location) else { continue };
            let told = told.get_mut(usize::from(zone));
            if let Some(told) = told.filter(|told| usize::from(**told) < most_known(zone)) {
                *told += 1;
                news.push((slot, it));
            }
        }
        let (slots, news): (Vec<Slot>, Vec<PeerInfo>) =
            news.into_iter().map(|(slot, it)| (slot, info(now, it))).unzip();
        if let Some(link) = self.links.get_mut(to) {
            slots.iter().for_each(|slot| link.has.set(*slot, true));
            (link.news, link.far) = (!news.is_empty(), told);
        }
        news
    }

    /// Those for whom there may be news.
    pub(super) fn to_be_told(&self) -> impl Iterator<Item = &NodeId> {
        self.links.iter().filter(|(_, link)| link.news).map(|(node, _)| node)
    }

    /// Whether there may be news for somebody who had them all, since this was asked for the last time.
    pub(super) fn stirred(&mut self) -> bool {
        std::mem::take(&mut self.stirred)
    }

    /// Best first; where there are many, as they were judged some time ago.
    fn sorted(&mut self, now: Time, among: &Slots, many: usize) -> Vec<Slot> {
        if among.len() > many {
            self.rank(now);
            return self.ranked.iter().copied().filter(|slot| among.contains(*slot)).collect();
        }
        self.best_first(now, among.iter().filter_map(|slot| Some((slot, self.at(slot)?))))
    }

    /// Judges all anew, where that was long ago.
    fn rank(&mut self, now: Time) {
        if self.ranked_at.is_some_and(|at| now < at + RANKED) {
            return;
        }
        self.ranked_at = Some(now);
        let all = self.taken.iter().filter_map(|slot| Some((slot, self.at(slot)?)));
        self.ranked = self.best_first(now, all);
    }

    fn best_first<'a>(
        &self,
        now: Time,
        among: impl Iterator<Item = (Slot, &'a Known)>,
    ) -> Vec<Slot> {
        let mut among: Vec<_> = among.map(|(slot, it)| (it.quality.score(now), it, slot)).collect();
        among.sort_by(|a, b| better_first((a.0, a.1), (b.0, b.1)));
        among.into_iter().map(|(.., slot)| slot).collect()
    }

    /// Whom to be connected to, where these arcs are held or being filled.
    pub fn wanted(&self, now: Time, ours: &ArcSet) -> Wanted {
        let at_hand = || self.each().filter(|it| it.is_at_hand(now));
        let matters = |it: &&Known| it.is_connected() || it.zone.is_some() || it.shares(ours);
        let mut best = self.rank_for(now, at_hand().filter(matters));
        let mut wanted = choose(&best, ours);
        if wanted.iter().filter(|it| **it).count() < LEAST_NEIGHBOURS {
            // Only then the others matter, too.
            best = self.rank_for(now, at_hand());
            wanted = choose(&best, ours);
        }
        let with = || best.iter().copied().zip(wanted.iter().copied());
        let dial = with().filter(|(it, wanted)| *wanted && !it.is_connected());
        let dial: Vec<NodeId> = dial.map(|(it, _)| it.record.node).collect();
        let connected: Vec<_> = with().filter(|(it, _)| it.is_connected()).collect();
        // Who is to be dialled may not answer, so nobody is spare for that reason yet.
        let enough = match dial.is_empty() {
            true => vec![false; connected.len()],
            false => choose(&connected.iter().map(|(it, _)| *it).collect::<Vec<_>>(), ours),
        };
        let spare = connected.iter().zip(enough).rev().filter(|((it, wanted), enough)| {
            let old = it.connected.is_some_and(|since| now.since(since) > LEAST_CONNECTED);
            old && !wanted && !enough
        });
        let spare = spare.map(|((it, _), _)| it.record.node).collect();
        Wanted { dial, spare }
    }

    /// Best first; those who are connected count for more.
    fn rank_for<'a>(&self, now: Time, among: impl Iterator<Item = &'a Known>) -> Vec<&'a Known> {
        let stay = |it: &Known| if it.is_connected() { STAY } else { 0.0 };
        let mut all: Vec<_> = among.map(|it| (it.quality.score(now) + stay(it), it)).collect();
        all.sort_by(|a, b| better_first(*a, *b));
        all.into_iter().map(|(_, it)| it).collect()
    }

    /// Forgets what is of no use any more.
    pub fn expire(&mut self, now: Time) {
        if self.expires <= now {
            let expired = self.each().filter(|it| it.record.expires <= now);
            let expired: Vec<NodeId> = expired.map(|it| it.record.node).collect();
            expired.iter().for_each(|node| self.forget(node));
            let next = self.each().map(|it| it.record.expires).min();
            self.expires = next.unwrap_or(now + MAX_RECORD_LIFE);
        }
        self.buckets.retain(|_, until| *until > now);
    }

    /// Whether a record, if it is true, is of use.
    fn is_newer(&self, now: Time, record: &PeerRecord) -> bool {
        record.node != self.us
            && !self.is_blocked(&record.node)
            && record.expires > now
            && record.expires <= now + MAX_RECORD_LIFE
            && self.get(&record.node).is_none_or(|known| record.sequence > known.record.sequence)
    }

    /// Whether `from` may make this node check a signature.
    fn may_cost(&mut self, now: Time, from: NodeId) -> bool {
        if !self.buckets.contains_key(&from) && self.buckets.len() >= MAX_BUCKETS {
            // Who has cost the least gains the least by being forgotten.
            let least = self.buckets.iter().min_by_key(|(_, until)| **until).map(|(node, _)| *node);
            least.map(|node| self.buckets.remove(&node));
        }
        let until = self.buckets.entry(from).or_insert(now);
        let after = (*until).max(now) + CHECK.0;
        let may = after.since(now) <= CHECK.1;
        if may {
            *until = after;
        }
        may
    }

    fn take(
        &mut self,
        now: Time,
        from: Option<NodeId>,
        record: Arc<PeerRecord>,
        signed: SignedRecord,
    ) -> Learnt {
        let node = record.node;
        let location = Location::of_node(&self.space, &node);
        let zone = zone(&self.query, &self.zones, &record, location);
        let (slot, learnt) = match self.by_node.get(&node).copied() {
            Some(slot) => {
                self.replace(slot, record.clone(), signed, zone);
                (slot, Learnt::Newer)
            }
            None if !self.has_room_for(now, &node, zone) => return Learnt::Known,
            None => {
                let known = Known {
                    record: record.clone(),
                    signed,
                    location,
                    quality: self.strangers.remove(&node).unwrap_or_default(),
                    zone,
                    distance: distance(location, self.own),
                    since: now,
                    connected: self.links.get(&node).map(|link| link.since),
                    failures: 0,
                    not_before: Time::ZERO,
                    away: false,
                    doubted: false,
                };
                (self.put(known), Learnt::New)
            }
        };
        self.expires = self.expires.min(record.expires);
        for link in self.links.values_mut() {
            let near = touches(&record, location, &link.theirs);
            link.touching.set(slot, near);
            if learnt == Learnt::New {
                link.has.set(slot, false);
                let wants = !near && link.wants(location);
                (link.news, self.stirred) = (link.news | wants, self.stirred | wants);
            }
        }
        self.pass_on(slot, record.sequence, from.as_ref());
        if let Some(zone) = zone {
            self.trim(now, zone);
        }
        if self.len() > MAX_KNOWN {
            self.forget_worst(now, self.len() - MAX_KNOWN + FORGET, |_| true);
            self.bar = None;
        }
        if self.by_node.contains_key(&node) { learnt } else { Learnt::Known }
    }

    /// Whether a peer that is not known is to be remembered: not where it would be the first to be forgotten
    /// again, since each time it would be news, and be passed on.
    fn has_room_for(&mut self, now: Time, node: &NodeId, zone: Option<u8>) -> bool {
        let connected = self.links.contains_key(node);
        let judged = if connected { None } else { self.strangers.get(node) };
        let theirs = judged.map_or_else(|| Quality::default().score(now), |it| it.score(now));
        if let Some(zone) = zone.filter(|_| !connected) {
            let of_zone = || self.each().filter(|it| it.zone == Some(zone));
            let worse = |it: &Known| !it.is_connected() && it.quality.score(now) < theirs;
            if of_zone().count() >= most_known(zone) && !of_zone().any(worse) {
                return false;
            }
        }
        if self.len() <= MAX_KNOWN - FORGET {
            return true;
        }
        if connected {
            return self.len() < MAX_KNOWN || !self.each().all(Known::is_connected);
        }
        self.bar(now).is_some_and(|bar| rank(bar, (zone.is_none(), theirs)).is_lt())
    }

    /// How good one must be to take the place of another, where there are as many as are wanted: better than so
    /// many of them as would be forgotten at once. `None` where nobody may be forgotten.
    fn bar(&mut self, now: Time) -> Option<(bool, f64)> {
        if let Some((judged, bar)) = self.bar
            && now < judged + RANKED
        {
            return bar;
        }
        let free = self.each().filter(|it| !it.is_connected());
        let mut free: Vec<_> = free.map(|it| (it.zone.is_none(), it.quality.score(now))).collect();
        let last = FORGET.min(free.len()).checked_sub(1);
        let bar = last.map(|last| *free.select_nth_unstable_by(last, |a, b| rank(*a, *b)).1);
        self.bar = Some((now, bar));
        bar
    }

    /// What is known of a peer is news, which some of those that it concerns are to be told, and not who has
    /// told it.
    fn pass_on(&mut self, slot: Slot, news: u64, from: Option<&NodeId>) {
        let mut concerned = Vec::new();
        for (peer, link) in self.links.iter_mut().filter(|(_, link)| link.touching.contains(slot)) {
            link.has.set(slot, true);
            if from != Some(peer) {
                // Others choose others, and the next news goes to others.
                concerned.push((chance(self.own, peer, news), *peer));
            }
        }
        if concerned.len() > PASSED_ON {
            concerned.select_nth_unstable(PASSED_ON);
        }
        for (_, peer) in concerned.into_iter().take(PASSED_ON) {
            if let Some(link) = self.links.get_mut(&peer) {
                link.has.set(slot, false);
                link.news = true;
                self.stirred = true;
            }
        }
    }

    fn replace(
        &mut self,
        slot: Slot,
        record: Arc<PeerRecord>,
        signed: SignedRecord,
        zone: Option<u8>,
    ) {
        let Some(Some(known)) = self.slots.get_mut(usize::from(slot)) else { return };
        let moved = known.record.addresses != record.addresses;
        if moved {
            (known.failures, known.not_before) = (0, Time::ZERO);
        }
        let arcs = |it: &PeerRecord| (it.store != record.store, it.target != record.target);
        if moved || arcs(&known.record) != (false, false) {
            self.changes += 1;
        }
        (known.record, known.signed, known.zone) = (record, signed, zone);
    }

    fn put(&mut self, known: Known) -> Slot {
        let node = known.record.node;
        let free = self.taken.0.iter().position(|bits| *bits != u64::MAX);
        let free = free.unwrap_or(self.taken.0.len());
        let bit = self.taken.0.get(free).map_or(0, |bits| bits.trailing_ones());
        let slot = free * 64 + bit as usize;
        if slot >= self.slots.len() {
            if slot >= self.slots.capacity() {
                self.slots.reserve_exact(slot + MORE_SLOTS - self.slots.len());
            }
            self.slots.resize_with(slot + 1, || None);
        }
        if let Some(place) = self.slots.get_mut(slot) {
            *place = Some(known);
        }
        let slot = slot as Slot;
        self.taken.set(slot, true);
        self.ranked.push(slot);
        self.by_node.insert(node, slot);
        self.changes += 1;
        slot
    }

    /// Forgets whom there is no room for in a zone, the worst first; never who is connected.
    fn trim(&mut self, now: Time, zone: u8) {
        let of_zone = self.each().filter(|it| it.zone == Some(zone));
        let (mut all, mut free) = (0, 0);
        for known in of_zone {
            all += 1;
            free += usize::from(!known.is_connected());
        }
        let excess = usize::saturating_sub(all, most_known(zone));
        if free > 0 && excess > 0 {
            self.forget_worst(now, excess, |it| it.zone == Some(zone));
        }
    }

    /// Those outside of the query arc are worse than those inside.
    fn forget_worst(&mut self, now: Time, n: usize, among: impl Fn(&Known) -> bool) {
        let among = self.each().filter(|it| !it.is_connected() && among(it));
        let mut worst: Vec<_> =
            among.map(|it| (it.zone.is_none(), it.quality.score(now), it.since, it)).collect();
        worst.sort_by(|a, b| rank((a.0, a.1), (b.0, b.1)).then(b.2.cmp(&a.2)));
        let worst: Vec<NodeId> = worst.into_iter().take(n).map(|(.., it)| it.record.node).collect();
        for node in worst {
            self.forget(&node);
        }
    }

    fn forget(&mut self, node: &NodeId) {
        let Some(slot) = self.by_node.remove(node) else { return };
        self.taken.set(slot, false);
        self.ranked.retain(|it| *it != slot);
        self.changes += 1;
        let known = self.slots.get_mut(usize::from(slot)).and_then(Option::take);
        if let Some(known) = known.filter(Known::is_connected) {
            self.strangers.insert(*node, known.quality);
        }
    }
}

/// What to tell others of a peer.
fn info(now: Time, known: &Known) -> PeerInfo {
    let observed = known.quality.observed(now);
    PeerInfo { record: known.signed.clone(), observed, away: known.away }
}

/// Picks, from peers that are given best first, those to be connected to.
fn choose(best_first: &[&Known], ours: &ArcSet) -> Vec<bool> {
    let mut chosen = vec![false; best_first.len()];
    let mut count = 0;
    let shared = |it: &Known| it.record.store.union(&it.record.target).intersect(ours);
    let sharing = best_first.iter().enumerate().map(|(i, it)| (i, shared(it)));
    let mut sharing: Vec<_> = sharing.filter(|(_, shared)| !shared.is_empty()).collect();
    // What is covered by at least one of the chosen, by at least two, and so on.
    let mut covered = [const { ArcSet::empty() }; COPIES];
    // Everything is covered once before anything is covered twice.
    for depth in 0..COPIES {
        sharing.retain(|(i, shared)| {
            let lacks = covered.get(depth).is_some_and(|covered| !covered.covers(shared));
            if count >= MAX_NEIGHBOURS || !lacks {
                return true;
            }
            count += 1;
            chosen.get_mut(*i).into_iter().for_each(|chosen| *chosen = true);
            let mut more = shared.clone();
            for covered in &mut covered {
                if more.is_empty() {
                    break;
                }
                let again = covered.intersect(&more);
                *covered = covered.union(&more);
                more = again;
            }
            false
        });
    }
    let mut free = [ZONE_NEIGHBOURS; ZONE_ENDS.len()];
    for (it, chosen) in best_first.iter().zip(&mut chosen) {
        let free = it.zone.and_then(|zone| free.get_mut(usize::from(zone)));
        if let Some(free) = free.filter(|free| **free > 0) {
            *free -= 1;
            *chosen = true;
        }
    }
    let count = chosen.iter().filter(|it| **it).count();
    let others = chosen.iter_mut().filter(|chosen| !**chosen);
    others.take(LEAST_NEIGHBOURS.saturating_sub(count)).for_each(|chosen| *chosen = true);
    chosen
}

/// Orders peers by who is to be forgotten first: whether they are inside of the query arc, and their scores.
fn rank(a: (bool, f64), b: (bool, f64)) -> Ordering {
    a.0.cmp(&b.0).then(a.1.total_cmp(&b.1))
}

/// Orders peers with their scores.
fn better_first(a: (f64, &Known), b: (f64, &Known)) -> Ordering {
    b.0.total_cmp(&a.0).then(a.1.distance.cmp(&b.1.distance))
}

/// What decides whether a peer is among those that some news are passed on to.
fn chance(own: Location, peer: &NodeId, news: u64) -> u64 {
    let peer = peer.0.first_chunk().map_or(0, |bytes| u64::from_le_bytes(*bytes));
    Random::new(peer ^ news.rotate_left(32) ^ u64::from(own.0)).next()
}

/// The shorter way around the ring.
fn distance(a: Location, b: Location) -> u32 {
    let ahead = a.0.wrapping_sub(b.0);
    ahead.min(ahead.wrapping_neg())
}

/// When to try again: after twice as long with each failure, and not all nodes at once.
fn back_off(own: Location, now: Time, known: &mut Known) {
    let doubled = BACK_OFF.0 * (1 << known.failures.min(16));
    known.failures = known.failures.saturating_add(1);
    let both = u64::from(own.0) << 32 | u64::from(known.location.0);
    let mut random = Random::new(both.wrapping_add(known.failures.into()));
    known.not_before = now + random.around(doubled.min(BACK_OFF.1));
}

fn touches(record: &PeerRecord, location: Location, arcs: &ArcSet) -> bool {
    arcs.contains(location) || record.store.overlaps(arcs) || record.target.overlaps(arcs)
}

/// Which zone to remember a peer for; `None` inside of the query arc.
fn zone(query: &ArcSet, zones: &Zones, record: &PeerRecord, location: Location) -> Option<u8> {
    match touches(record, location, query) {
        true => None,
        false => zones.of(location),
    }
}

/// Peers to be remembered of a zone.
fn most_known(zone: u8) -> usize {
    if usize::from(zone) < ZONE_ENDS.len() { ZONE_KNOWN } else { SPLIT_KNOWN }
}

/// The ring outside of a query arc, in zones: [`ZONE_ENDS`], from a large one opposite to small ones at its
/// ends, and [`SPLITS`] smaller ones, from the larger to the smaller, of the first, and then of the last.
#[derive(Clone, Debug)]
struct Zones {
    /// From the end of the longest query arc on.
    outside: Vec<RingArc>,
    len: u64,
}

impl Zones {
    /// An empty query arc counts as one of just the own location.
    fn new(query: &ArcSet, own: Location) -> Self {
        let longest = query.longest(1).arcs().first().copied();
        let longest = longest.unwrap_or(RingArc::between(own, own));
        let start = longest.last().map_or(0, |last| last.0);
        let mut outside = query.union(&longest.into()).complement().arcs();
        outside.sort_by_key(|arc| arc.start().0.wrapping_sub(start));
        Self { len: outside.iter().map(RingArc::len).sum(), outside }
    }

    /// `None` for what is not outside.
    fn of(&self, location: Location) -> Option<u8> {
        let mut before = 0;
        for arc in &self.outside {
            if arc.contains(location) {
                let at = before + u64::from(location.0.wrapping_sub(arc.start().0));
                let zone = ZONE_ENDS.iter().position(|end| at * 100 < self.len * end)?;
                let (first, last) = (zone == 0, zone + 1 == ZONE_ENDS.len());
                let way = if first { at } else { self.len - 1 - at };
                let size = self.len * ZONE_ENDS[0] / 100;
                let splits = match first || last {
                    true => (size / (way + 1)).max(1).ilog2() as usize / 2,
                    false => 0,
                };
                return u8::try_from(match splits.min(SPLITS) {
                    0 => zone,
                    split if first => ZONE_ENDS.len() + split - 1,
                    split => ZONE_ENDS.len() + SPLITS + split - 1,
                })
                .ok();
            }
            before += arc.len();
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use std::sync::LazyLock;

    use proptest::prelude::*;

    use super::*;
    use crate::{aspect::AuthorKey, swarm::Address, wire::Observed};

    const SPACE: SpaceId = SpaceId([7; 32]);
    const US: NodeId = NodeId([0; 32]);
    const DAY: u64 = 86_400;

    fn at(seconds: u64) -> Time {
        Time::ZERO + Duration::from_secs(seconds)
    }

    fn key(n: usize) -> AuthorKey {
        AuthorKey::from_bytes(&std::array::from_fn(|i| {
            n.to_le_bytes().get(i).copied().unwrap_or(1)
        }))
    }

    fn arc(first: u32, last: u32) -> ArcSet {
        RingArc::between(Location(first), Location(last)).into()
    }

    fn record(n: usize, sequence: u64, store: &ArcSet) -> PeerRecord {
        PeerRecord {
            node: NodeId(key(n).author()),
            sequence,
            expires: at(DAY),
            addresses: vec![Address::Ip(([127, 0, 0, 1], 1).into())],
            store: store.clone(),
            target: store.clone(),
            count: 0,
            bytes: 0,
        }
    }

    fn info(n: usize, record: &PeerRecord) -> PeerInfo {
        PeerInfo { record: record.sign(&key(n), &SPACE), observed: None, away: false }
    }

    /// A table that has learnt of peers from themselves.
    fn table(query: &ArcSet, stores: &[ArcSet]) -> (Table, Vec<NodeId>) {
        let mut table = Table::new(US, SPACE);
        table.set_query(at(0), query);
        let learn = |(n, store)| {
            let record = record(n, 1, store);
            table.learn(at(0), record.node, info(n, &record)).unwrap();
            record.node
        };
        let nodes = stores.iter().enumerate().map(learn).collect();
        (table, nodes)
    }

    fn news_of(
        table: &mut Table,
        now: Time,
        to: &NodeId,
        theirs: &ArcSet,
        limit: usize,
    ) -> Vec<PeerInfo> {
        table.told(to, theirs);
        table.news(now, to, limit)
    }

    /// Many records, which are good for any test.
    static MANY: LazyLock<Vec<(NodeId, PeerInfo)>> = LazyLock::new(|| {
        let one = |n| {
            let first = (n as u32).wrapping_mul(0x9e37_79b9);
            let record = record(n, 1, &arc(first, first.wrapping_add(1 << 28)));
            (record.node, info(n, &record))
        };
        (0..MAX_KNOWN + 200).map(one).collect()
    });

    #[test]
    fn zones_have_their_share_in_their_order() {
        for query in [arc(100, 1 << 30), arc(0xf000_0000, 0x2fff_ffff), ArcSet::empty()] {
            let zones = Zones::new(&query, Location(5));
            let end = query.arcs().first().and_then(RingArc::last).unwrap_or(Location(5));
            let mut counts = [0u32; ZONE_ENDS.len()];
            // In what order they come: the smaller of the first, the five, and the smaller of the last.
            let order = |zone: u8| match usize::from(zone) {
                zone if zone < ZONE_ENDS.len() => zone + SPLITS,
                zone if zone < ZONE_ENDS.len() + SPLITS => ZONE_ENDS.len() + SPLITS - 1 - zone,
                zone => zone,
            };
            let mut last = 0;
            for step in 1..100_000u64 {
                let location = Location(end.0.wrapping_add((zones.len * step / 100_000) as u32));
                let place = order(zones.of(location).unwrap());
                assert!(place >= last && !query.contains(location));
                last = place;
                counts[place.clamp(SPLITS, SPLITS + 4) - SPLITS] += 1;
            }
            // Each split is a quarter of the rest.
            let near = |part: u64| {
                let ahead = zones.len * 11 / 100 / part;
                zones.of(Location(end.0.wrapping_add(ahead as u32))).unwrap()
            };
            let first = ZONE_ENDS.len() as u8;
            assert_eq!([near(2), near(5), near(15), near(17)], [0, first, first, first + 1]);
            assert_eq!(near(1 << 28), first + SPLITS as u8 - 1);
            for (count, share) in counts.into_iter().zip([11, 22, 34, 22, 11]) {
                assert!(count.abs_diff(share * 1000) < 10, "{counts:?}");
            }
        }
        let two: ArcSet = arc(0, 9).union(&arc(100, 0x7fff_ffff));
        let zones = Zones::new(&two, Location(5));
        assert_eq!(zones.of(Location(0x8000_0000)), Some((ZONE_ENDS.len() + SPLITS - 1) as u8));
        assert_eq!(zones.of(Location(0x8800_0000)), Some(0));
        assert_eq!(zones.of(Location(50)), Some((ZONES - 2) as u8));
        assert_eq!((zones.of(Location(5)), zones.of(Location(500))), (None, None));
        assert_eq!(Zones::new(&ArcSet::full(), Location(5)).of(Location(9)), None);
    }

    #[test]
    fn what_is_of_no_use_is_not_checked() {
        let (mut table, nodes) = table(&ArcSet::full(), &[ArcSet::full()]);
        let forged = |record: &PeerRecord| PeerInfo {
            record: SignedRecord::new(info(0, record).record.encoding().clone(), [1; 64]),
            observed: None,
            away: false,
        };
        let good = record(0, 2, &ArcSet::full());
        let wrong = [
            PeerRecord { sequence: 1, ..good.clone() },
            PeerRecord { node: US, ..good.clone() },
            PeerRecord { expires: at(10), ..good.clone() },
            PeerRecord { expires: at(8 * DAY), ..good.clone() },
        ];
        for record in &wrong {
            assert_eq!(table.learn(at(10), nodes[0], forged(record)), Ok(Learnt::Known));
        }
        let error = table.learn(at(10), nodes[0], forged(&good));
        assert_eq!(error, Err(RecordError::Signature(nodes[0])));
        let elsewhere = good.sign(&key(0), &SpaceId([8; 32]));
        let elsewhere = PeerInfo { record: elsewhere, observed: None, away: false };
        assert!(table.learn(at(10), nodes[0], elsewhere).is_err());
        assert_eq!(table.get(&nodes[0]).unwrap().record.sequence, 1);
        assert_eq!(table.learn(at(10), nodes[0], info(0, &good)), Ok(Learnt::Newer));
        let kept: Vec<_> = table.records().cloned().collect();
        table.expire(at(DAY));
        assert!(table.get(&nodes[0]).is_none());
        assert_eq!(table.restore(at(DAY - 1), kept[0].clone()), Ok(Learnt::New));
        assert_eq!(table.restore(at(DAY), kept[0].clone()), Ok(Learnt::Known));
    }

    #[test]
    fn checking_is_limited_for_each() {
        let (mut table, _) = table(&ArcSet::full(), &[]);
        let learn = |table: &mut Table, now, from: u8, many: &[(NodeId, PeerInfo)]| {
            let from = NodeId([from; 32]);
            let new = |(_, info): &&(NodeId, PeerInfo)| {
                table.learn(now, from, info.clone()) == Ok(Learnt::New)
            };
            many.iter().filter(new).count()
        };
        assert_eq!(learn(&mut table, at(1), 1, &MANY[..300]), 256);
        // What is known costs nothing.
        assert_eq!(learn(&mut table, at(2), 1, &MANY[..300]), 16);
        assert_eq!(learn(&mut table, at(2), 2, &MANY[..300]), 28);
        assert_eq!(learn(&mut table, at(1000), 1, &MANY[300..700]), 256);
        let own = &MANY[700];
        table.buckets.insert(own.0, at(2000));
        assert_eq!(table.learn(at(1000), own.0, own.1.clone()), Ok(Learnt::New));
        for n in 0..3000u32 {
            let mut id = [9; 32];
            id[..4].copy_from_slice(&n.to_le_bytes());
            assert!(table.may_cost(at(1000), NodeId(id)));
        }
        assert_eq!(table.buckets.len(), MAX_BUCKETS);
        assert!(!table.may_cost(at(1000), NodeId([1; 32])), "who has cost most is not forgotten");
        table.expire(at(2000));
        assert!(table.buckets.is_empty());
    }

    #[test]
    fn who_would_be_forgotten_at_once_is_no_news() {
        let mut table = Table::new(US, SPACE);
        table.set_query(at(0), &ArcSet::full());
        let from = NodeId([9; 32]);
        table.met(at(0), from);
        let learn = |table: &mut Table, n| {
            let all = MANY.iter().map(|(node, info)| table.learn(at(n), *node, info.clone()));
            all.filter(|learnt| *learnt == Ok(Learnt::New)).count()
        };
        assert_eq!(learn(&mut table, 0), MAX_KNOWN - FORGET + 1);
        assert_eq!(learn(&mut table, 1), 0);
        // Of whom nothing is known is better than who is not trusted.
        for (node, _) in &MANY[..FORGET] {
            table.quality(node).unwrap().audited(at(2), false);
            table.quality(node).unwrap().audited(at(2), false);
        }
        assert_eq!(learn(&mut table, 100), FORGET + 1);
        assert!(MANY[..FORGET].iter().all(|(node, _)| table.get(node).is_none()));
        assert_eq!(learn(&mut table, 200), 0);
    }

    #[test]
    fn what_is_known_is_bounded_and_connections_stay() {
        let mut table = Table::new(US, SPACE);
        table.set_query(at(0), &ArcSet::full());
        for (node, info) in &MANY[..20] {
            table.met(at(0), *node);
            table.learn(at(0), *node, info.clone()).unwrap();
            table.quality(node).unwrap().audited(at(0), false);
            table.quality(node).unwrap().audited(at(0), false);
        }
        for (n, (node, info)) in MANY.iter().enumerate().skip(20) {
            table.learn(at(n as u64), *node, info.clone()).unwrap();
            assert!(table.len() <= MAX_KNOWN && table.slots.len() <= MAX_KNOWN + 1);
        }
        assert!(table.len() > MAX_KNOWN - FORGET);
        let old = &MANY[..MAX_KNOWN - FORGET];
        assert!(old.iter().all(|(node, _)| table.get(node).is_some()), "a flood replaces nobody");
        // Outside, only the best are kept.
        let query = arc(0, 1 << 20);
        let outside = |it: &&Known| !it.is_connected() && !it.touches(&query);
        let best = table.iter().filter(outside).last().unwrap().record.node;
        table.quality(&best).unwrap().up(at(2000));
        table.set_query(at(3000), &query);
        assert!(table.get(&best).is_some());
        for zone in 0..ZONES as u8 {
            let of_zone = table.iter().filter(|it| it.zone == Some(zone));
            let (on, off): (Vec<_>, Vec<_>) = of_zone.partition(|it| it.is_connected());
            let (all, most) = (on.len() + off.len(), most_known(zone).max(on.len()));
            assert!(all == most || all < most && usize::from(zone) >= ZONE_ENDS.len());
        }
        assert!(MANY[..20].iter().all(|(node, _)| table.get(node).unwrap().is_connected()));
        let touching = MANY.iter().take(500).filter(|(_, info)| {
            let record = info.record.read().unwrap();
            touches(&record, Location::of_node(&SPACE, &record.node), &query)
        });
        assert!(touching.clone().count() > 20);
        assert!(touching.clone().all(|(node, _)| table.get(node).is_some()));
    }

    #[test]
    fn a_peer_may_be_met_before_it_has_said_anything() {
        let (mut table, _) = table(&ArcSet::full(), &[]);
        let (node, info) = &MANY[0];
        table.met(at(0), *node);
        assert!(table.get(node).is_none());
        table.quality(node).unwrap().answered(Duration::from_millis(5));
        table.learn(at(0), *node, info.clone()).unwrap();
        let known = table.get(node).unwrap();
        assert!(known.is_connected());
        assert_eq!(known.quality.round_trip(), Some(Duration::from_millis(5)));
        // A record that expires ends no connection.
        table.expire(at(DAY));
        assert!(table.get(node).is_none() && table.quality(node).is_some());
        table.lost(at(DAY), node);
        assert!(table.quality(node).is_none());
    }

    #[test]
    fn votes_are_of_others() {
        let (mut table, nodes) = table(&ArcSet::full(), &[ArcSet::full()]);
        let observed = Some(Observed { availability: 1000, ..Observed::default() });
        let vote = PeerInfo { observed, ..info(0, &record(0, 1, &ArcSet::full())) };
        let availability =
            |table: &Table| table.get(&nodes[0]).unwrap().quality.availability(at(0));
        for from in [nodes[0], NodeId([1; 32]), NodeId([2; 32]), NodeId([2; 32])] {
            table.learn(at(0), from, vote.clone()).unwrap();
        }
        assert_eq!(availability(&table), 0.5);
        table.learn(at(0), NodeId([3; 32]), vote).unwrap();
        assert_eq!(availability(&table), 1.0);
    }

    #[test]
    fn holders_are_found_best_first() {
        let (half, full) = (arc(0, 1 << 31), ArcSet::full());
        let stores = [half.clone(), full.clone(), full.clone(), full.clone(), half];
        let (mut table, nodes) = table(&full, &stores);
        table.met(at(0), nodes[3]);
        table.quality(&nodes[2]).unwrap().answered(Duration::from_millis(1));
        for _ in 0..10 {
            table.quality(&nodes[1]).unwrap().fault(at(0));
        }
        let there = Location(u32::MAX);
        assert_eq!(table.holders(at(0), there), [nodes[3], nodes[2], nodes[1]]);
        let nearest = table.nearest(at(0), there, 9);
        assert_eq!(nearest[..3], [nodes[3], nodes[2], nodes[1]]);
        let far = |node| distance(table.get(&node).unwrap().location, there);
        assert!(nearest.len() == 5 && far(nearest[3]) <= far(nearest[4]));
        assert_eq!(table.nearest(at(0), there, 1), [nodes[3]]);
        assert_eq!(distance(Location(1), Location(u32::MAX)), 2);
    }

    #[test]
    fn who_is_lost_is_told_of_and_others_see_for_themselves() {
        let patience = Duration::from_secs(120);
        let full = ArcSet::full();
        let (mut here, nodes) = table(&full, &[full.clone(), full.clone()]);
        let (mut there, _) = table(&full, &[full.clone(), full.clone()]);
        let (lost, other) = (nodes[0], nodes[1]);
        here.met(at(0), lost);
        here.met(at(0), other);
        assert_eq!(news_of(&mut here, at(0), &other, &full, 9).len(), 1);
        here.lost(at(10), &lost);
        here.note_away(at(129), patience);
        assert_eq!(news_of(&mut here, at(129), &other, &full, 9), []);
        here.note_away(at(130), patience);
        let news = news_of(&mut here, at(130), &other, &full, 9);
        assert!(news.len() == 1 && news[0].away);
        here.note_away(at(131), patience);
        assert_eq!(news_of(&mut here, at(131), &other, &full, 9), []);

        assert_eq!(there.doubtful(at(130)).count(), 0);
        there.learn(at(130), other, news[0].clone()).unwrap();
        assert_eq!(there.doubtful(at(130)).collect::<Vec<_>>(), [lost]);
        assert_eq!(there.get(&lost).unwrap().quality.absent(at(130)), None);
        // It tries some times, and knows then.
        let mut tries = 0;
        for second in 130..1000 {
            if there.doubtful(at(second)).next().is_some() {
                there.failed(at(second), &lost);
                tries += 1;
            }
        }
        assert_eq!(tries, 3);
        assert!(there.get(&lost).unwrap().quality.presumed_gone(at(1000), patience * 5));
        // Who can be reached is not doubted any more.
        there.learn(at(1000), other, news[0].clone()).unwrap();
        there.met(at(1000), lost);
        assert_eq!(there.doubtful(at(1000)).count(), 0);
    }

    #[test]
    fn news_are_told_once() {
        let near = arc(0, 1 << 20);
        let mut table = Table::new(US, SPACE);
        table.set_query(at(0), &ArcSet::full());
        let (to, other) = (MANY[0].0, MANY[1].0);
        table.met(at(0), to);
        table.met(at(0), other);
        for (node, info) in &MANY[..60] {
            table.learn(at(0), *node, info.clone()).unwrap();
        }
        for (_, info) in &MANY[50..55] {
            table.learn(at(0), to, info.clone()).unwrap();
        }
        let told = |table: &mut Table, to, limit| -> Vec<NodeId> {
            let news = news_of(table, at(1), &to, &near, limit);
            news.iter().map(|it| it.record.read().unwrap().node).collect()
        };
        let mut all = Vec::new();
        for _ in 0..60 {
            let news = told(&mut table, to, 7);
            assert!(news.len() <= 7);
            let far = news.iter().skip_while(|it| table.get(it).unwrap().touches(&near));
            let far: Vec<_> = far.map(|it| table.get(it).unwrap().touches(&near)).collect();
            assert!(!far.contains(&true));
            all.extend(news);
        }
        // Each once; all of those near, and of the others as many as it would remember.
        let lacking = MANY[1..50].iter().chain(&MANY[55..60]).map(|it| it.0);
        let touches = |it: &NodeId| table.get(it).unwrap().touches(&near);
        let (near_ones, far): (BTreeSet<NodeId>, BTreeSet<_>) = lacking.partition(touches);
        let told_of: BTreeSet<NodeId> = all.iter().copied().collect();
        assert_eq!(all.len(), told_of.len());
        assert!(near_ones.is_subset(&told_of));
        let far = far.intersection(&told_of).count();
        assert!(
            (ZONE_KNOWN..=ZONE_KNOWN * ZONE_ENDS.len() + 2 * SPLITS * SPLIT_KNOWN).contains(&far),
            "{far}"
        );
        // A newer one is news, but not to who brought it.
        let newer = info(9, &record(9, 2, &ArcSet::full()));
        assert_eq!(table.learn(at(1), to, newer), Ok(Learnt::Newer));
        assert_eq!(told(&mut table, to, 7), []);
        assert!(told(&mut table, other, 60).contains(&MANY[9].0));
        let newer = info(9, &record(9, 3, &ArcSet::full()));
        table.learn(at(1), other, newer).unwrap();
        assert_eq!(told(&mut table, to, 7), [MANY[9].0]);
        // One that has come back may have lost all.
        table.lost(at(2), &to);
        assert_eq!(told(&mut table, to, 7), []);
        table.met(at(2), to);
        assert!(!told(&mut table, to, 7).is_empty());
    }

    #[test]
    fn what_is_news_is_passed_on_to_a_few() {
        let (mut table, nodes) = table(&ArcSet::full(), &vec![ArcSet::full(); 40]);
        for node in &nodes {
            table.met(at(0), *node);
            table.told(node, &ArcSet::full());
        }
        let to_tell = |table: &mut Table| -> BTreeSet<NodeId> {
            let news = |node: &&NodeId| !table.news(at(1), node, 100).is_empty();
            nodes.iter().filter(news).copied().collect()
        };
        assert_eq!(to_tell(&mut table).len(), 40, "who comes is told of all");
        assert_eq!(to_tell(&mut table), BTreeSet::new());
        let mut all = BTreeSet::new();
        for sequence in 2..22 {
            let newer = info(3, &record(3, sequence, &ArcSet::full()));
            table.learn(at(1), nodes[7], newer).unwrap();
            let told = to_tell(&mut table);
            assert!((PASSED_ON - 1..=PASSED_ON).contains(&told.len()), "{}", told.len());
            assert!(!told.contains(&nodes[7]) && !told.contains(&nodes[3]));
            all.extend(told);
        }
        assert!(all.len() > 25, "others with each: {}", all.len());
    }

    #[test]
    fn who_does_not_answer_is_dialled_less_and_less() {
        let full = ArcSet::full();
        let (mut table, nodes) = table(&full, std::slice::from_ref(&full));
        let dial = |table: &Table, now| !table.wanted(now, &ArcSet::full()).dial.is_empty();
        let mut now = at(0);
        for n in 0..15 {
            assert!(dial(&table, now));
            table.failed(now, &nodes[0]);
            let wait = table.get(&nodes[0]).unwrap().not_before.since(now);
            let most = Duration::from_secs((1 << n).min(600));
            assert!(wait >= most * 3 / 4 && wait <= most * 5 / 4, "{wait:?}");
            assert!(!dial(&table, now + (wait - Duration::from_micros(1))));
            now = now + wait;
        }
        table.failed(now, &nodes[0]);
        table.learn(now, nodes[0], info(0, &record(0, 2, &full))).unwrap();
        assert!(!dial(&table, now));
        let moved = vec![Address::Ip(([127, 0, 0, 1], 2).into())];
        let moved = PeerRecord {
            addresses: moved,
            expires: now + Duration::from_secs(9),
            ..record(0, 3, &full)
        };
        table.learn(now, nodes[0], info(0, &moved)).unwrap();
        assert!(dial(&table, now));
        // One that hangs up at once has failed, too; one that was let go has not.
        table.met(now, nodes[0]);
        table.failed(now, &nodes[0]);
        table.closed(now, &nodes[0]);
        assert!(dial(&table, now));
        for failures in 1..4 {
            table.met(now, nodes[0]);
            table.lost(now, &nodes[0]);
            assert!(!dial(&table, now) && table.get(&nodes[0]).unwrap().failures == failures);
        }
        table.met(now, nodes[0]);
        table.lost(now + STEADY, &nodes[0]);
        assert_eq!(table.get(&nodes[0]).unwrap().failures, 1);
    }

    #[test]
    fn the_own_arcs_are_covered_by_connections() {
        // Of a hundred that hold all, eight do.
        let ours = arc(0, 1 << 30);
        let (full, _) = table(&ours, &vec![ArcSet::full(); 100]);
        assert_eq!(full.wanted(at(0), &ours).dial.len(), COPIES);
        // Many small ones: all of it at least once, and no more than there may be.
        let small = |n: u32| arc((n % 64) << 24, ((n % 64) << 24) + (3 << 24));
        let (small, _) = table(&ours, &(0..200).map(small).collect::<Vec<_>>());
        let dial = small.wanted(at(0), &ours).dial;
        let inside = dial.iter().map(|it| small.get(it).unwrap()).filter(|it| it.zone.is_none());
        let inside: Vec<_> = inside.collect();
        assert_eq!(inside.len(), MAX_NEIGHBOURS);
        for location in (0..64).map(|n| Location(n << 24)) {
            assert!(inside.iter().any(|it| it.record.store.contains(location)), "{location}");
        }
        // Nobody in common: two of each zone.
        let (none, _) = table(&arc(0, 1), &vec![ArcSet::empty(); 40]);
        let dial = none.wanted(at(0), &arc(0, 1)).dial;
        for zone in 0..ZONE_ENDS.len() as u8 {
            let of_zone = |it: &&NodeId| none.get(it).unwrap().zone == Some(zone);
            let known = none.by_node.keys().filter(of_zone).count();
            assert_eq!(dial.iter().filter(of_zone).count(), known.min(ZONE_NEIGHBOURS));
        }
        // Neither: three all the same.
        let (few, _) = table(&ArcSet::full(), &vec![ArcSet::empty(); 40]);
        assert_eq!(few.wanted(at(0), &ArcSet::full()).dial.len(), LEAST_NEIGHBOURS);
    }

    #[test]
    fn who_is_not_needed_is_spare_after_a_while() {
        let full = ArcSet::full();
        let (mut table, nodes) = table(&full, &vec![full.clone(); 20]);
        for (n, node) in nodes.iter().enumerate().take(10) {
            table.met(at(0), *node);
            table.quality(node).unwrap().answered(Duration::from_millis(500 + n as u64));
        }
        // Those who are not connected are a little better, but not enough.
        assert_eq!(table.wanted(at(300), &full), Wanted::default());
        let worst = vec![nodes[9], nodes[8]];
        assert_eq!(table.wanted(at(301), &full), Wanted { dial: vec![], spare: worst.clone() });
        // Better ones are dialled, and nobody more is spare before they are connected.
        for node in &nodes[10..12] {
            for n in 0..3 {
                let observed = Observed { availability: 1000, ..Observed::default() };
                table.quality(node).unwrap().report(NodeId([n; 32]), observed);
            }
            table.quality(node).unwrap().answered(Duration::from_millis(1));
        }
        let wanted = table.wanted(at(301), &full);
        assert_eq!((wanted.dial.len(), wanted.spare), (2, worst));
        table.met(at(301), nodes[10]);
        table.met(at(301), nodes[11]);
        let spare = vec![nodes[9], nodes[8], nodes[7], nodes[6]];
        assert_eq!(table.wanted(at(301), &full), Wanted { dial: vec![], spare });
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        /// Whatever happens in whatever order: it goes the same way again, connections stay, and all
        /// that points to another thing points to one that is there.
        #[test]
        fn the_same_happens_again(
            events in proptest::collection::vec(
                (0..10u8, 0..60usize, 0..60usize, any::<u32>()),
                0..200,
            ),
        ) {
            let run = || {
                let (mut table, mut now, mut out) = (Table::new(US, SPACE), at(0), Vec::new());
                let mut connected = BTreeSet::new();
                for (event, a, b, x) in &events {
                    now = now + Duration::from_secs(u64::from(x % 600));
                    let (node, from) = (MANY[*a].0, MANY[*b].0);
                    let arcs = arc(*x, x.wrapping_mul(3));
                    match event {
                        0 => {
                            table.met(now, node);
                            connected.insert(node);
                        }
                        1 => {
                            table.lost(now, &node);
                            connected.remove(&node);
                        }
                        2 => {
                            table.closed(now, &node);
                            connected.remove(&node);
                        }
                        3 => table.failed(now, &node),
                        4 => table.set_query(now, &arcs),
                        5 => table.expire(now),
                        6 => out.push(format!("{:?}", news_of(&mut table, now, &node, &arcs, a % 9))),
                        7 => out.push(format!("{:?}", table.wanted(now, &arcs))),
                        _ => out.push(format!("{:?}", table.learn(now, from, MANY[*a].1.clone()))),
                    }
                    for node in &connected {
                        assert!(table.links.contains_key(node));
                    }
                    for (node, slot) in &table.by_node {
                        let known = table.at(*slot).unwrap();
                        assert!(known.record.node == *node && table.taken.contains(*slot));
                        assert!(table.ranked.contains(slot));
                        assert!(!table.strangers.contains_key(node));
                        assert_eq!(known.is_connected(), connected.contains(node));
                    }
                    assert_eq!(table.each().count(), table.len());
                    assert_eq!((table.taken.len(), table.ranked.len()), (table.len(), table.len()));
                    for link in table.links.values() {
                        for (slot, known) in table.slots.iter().enumerate() {
                            let Some(known) = known else { continue };
                            let touches = link.touching.contains(slot as Slot);
                            assert_eq!(touches, known.touches(&link.theirs));
                        }
                    }
                }
                (out, format!("{table:?}"))
            };
            prop_assert!(run() == run());
        }
    }
}
