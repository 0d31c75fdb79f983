//! Who is sent what is new, and who is only told of it.
//!
//! Plumtree (Leitão, Pereira, Rodrigues: *Epidemic Broadcast Trees*, 2007) for data of which each node
//! takes a part. What is new is pushed over *eager* links and announced over *lazy* ones. A link that
//! brings mostly what is here already becomes lazy (`Prune`), and one that announced what nobody pushed
//! becomes eager (`Graft`). So the eager links become a tree by and by, over which everything comes about
//! once, and the lazy ones mend it where it breaks. What all of that misses, gossip brings.
//!
//! Arcs overlap in part only, so one tree cannot serve all of the ring: a link that is of use at one end
//! of an arc brings nothing but copies at the other. So the ring is cut into sectors, and a link is eager
//! or lazy in each; `Prune` and `Graft` say by their keys which sectors they are about.
//!
//! Its driver says what happens, takes outputs until there are none, and calls [`Spread::tick`] at
//! [`Spread::wake_at`].

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque, btree_map::Entry},
    time::Duration,
};

use super::random::Random;
use crate::{aspect::AspectKey, id::NodeId, limits::PAGE_KEYS, ring::Location, time::Time};

/// New links are eager until there are so many eager ones. More bring more copies until there is a tree,
/// fewer more delay; the simulation of the tests has the fewest copies with 3.
const FANOUT: usize = 3;

/// To so many peers an author pushes what no eager one takes, so that it leaves this node at once.
const LEAST_PUSHES: u8 = 2;

/// What an author could not push to so many, for want of peers that take it, is kept in mind for those
/// who come; at most so many keys. A guess: of more, hand-over takes care.
const MAX_UNSENT: usize = 16_384;

/// For so long announcements are gathered. A guess: they need not be fast, only few.
const ANNOUNCE_WAIT: Duration = Duration::from_millis(100);

/// So long a push may take after an announcement of the same, about, at least and at most; between these,
/// twice as long as it has taken of late. Guesses: a few hops of the tree, and what a person waits.
const GRAFT_WAIT: (Duration, Duration) = (Duration::from_millis(200), Duration::from_secs(1));

/// After so long without any of what it was asked for, the next announcer is asked. A guess: a long
/// round trip, and a slow disk at its end.
const GRAFT_PATIENCE: Duration = Duration::from_secs(1);

/// A link that brings so many more copies than new aspects in a sector is pruned there. In the simulation
/// of the tests, 1 brings fewer copies and more delay, 3 the reverse.
const TOO_MANY_COPIES: u8 = 2;

/// So many sectors the ring is cut into. With more of them, copies are fewer in the long run, since fewer
/// arcs begin or end in each, and it takes longer until each has its tree.
const SECTORS: usize = 64;

/// A bit for each sector.
type SectorSet = u64;

/// Most keys that were announced and are not here. A guess: a second of very many; about 10 MB.
const MAX_MISSING: usize = 65_536;

/// Most of them that one peer may have announced. A guess: a few such peers do not lock out the others.
const MAX_MISSING_OF_PEER: usize = 16_384;

/// Most announcers that are remembered of a key. A guess: when none of so many sends it, gossip may.
const MAX_ANNOUNCERS: usize = 4;

/// What is to be sent to a peer. No `keys` are empty; those of messages ascend strictly, and fit one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SpreadOutput {
    /// These aspects, all of them durable here.
    Push {
        /// To whom.
        peer: NodeId,
        /// In the order in which they were given to [`Spread::stored`].
        keys: Vec<AspectKey>,
    },
    /// An `Announce` of these.
    Announce {
        /// To whom.
        peer: NodeId,
        /// At most [`PAGE_KEYS`].
        keys: Vec<AspectKey>,
    },
    /// A `Graft` for these.
    Graft {
        /// Whom to ask.
        peer: NodeId,
        /// At most [`PAGE_KEYS`].
        keys: Vec<AspectKey>,
    },
    /// A `Prune` for what is near these, which came more than once.
    Prune {
        /// Whom to ask.
        peer: NodeId,
        /// One for each sector: at most 64.
        keys: Vec<AspectKey>,
    },
}

/// How what is new in one space spreads from this node.
#[derive(Debug)]
pub struct Spread {
    links: BTreeMap<NodeId, Link>,
    missing: BTreeMap<AspectKey, Missing>,
    /// When something is to be done about what is missing: one for each key.
    due: BTreeSet<(Time, AspectKey)>,
    /// What was pushed and is not durable yet, with those who have it: first who pushed it first.
    arriving: BTreeMap<AspectKey, Vec<NodeId>>,
    /// How long after an announcement pushes have come of late.
    late: Duration,
    /// What was authored here, belongs elsewhere, and could be pushed to these peers only: less than
    /// [`LEAST_PUSHES`].
    unsent: BTreeMap<AspectKey, Vec<NodeId>>,
    /// When what waits to be announced is sent.
    announce_at: Option<Time>,
    random: Random,
    outputs: VecDeque<SpreadOutput>,
}

#[derive(Debug)]
struct Link {
    eager: SectorSet,
    /// By how much the copies that the peer pushed outnumber what was new, in each sector.
    copies: [u8; SECTORS],
    /// What waits to be announced to the peer: less than a page.
    news: Vec<AspectKey>,
    /// Of how many missing keys it is an announcer.
    announced: usize,
    /// When something came that it was asked for.
    moved: Option<Time>,
}

/// A key that was announced and is not here.
#[derive(Debug)]
struct Missing {
    /// In the order in which they are asked.
    announcers: Vec<NodeId>,
    /// So many of them were asked; the last of these is expected to send it.
    asked: usize,
    due: Time,
    since: Time,
}

impl Missing {
    fn expected_of(&self) -> Option<&NodeId> {
        self.announcers.get(self.asked.checked_sub(1)?)
    }
}

impl Spread {
    /// A node without peers; `seed` makes nodes differ that would otherwise do the same at the same time.
    pub fn new(seed: u64) -> Self {
        Self {
            links: BTreeMap::new(),
            missing: BTreeMap::new(),
            due: BTreeSet::new(),
            arriving: BTreeMap::new(),
            late: Duration::ZERO,
            unsent: BTreeMap::new(),
            announce_at: None,
            random: Random::new(seed),
            outputs: VecDeque::new(),
        }
    }

    /// A peer that is in the space is connected. It may be called again for the same one.
    pub fn met(&mut self, peer: NodeId) {
        let eager = self.links.values().filter(|link| link.eager != 0).count();
        let eager = if eager < FANOUT { SectorSet::MAX } else { 0 };
        let (copies, news, announced, moved) = ([0; SECTORS], Vec::new(), 0, None);
        let link = Link { eager, copies, news, announced, moved };
        self.links.entry(peer).or_insert(link);
    }

    /// The peer is not connected any more, or left the space.
    pub fn gone(&mut self, peer: &NodeId) {
        self.links.remove(peer);
        for missing in self.missing.values_mut() {
            if let Some(at) = missing.announcers.iter().position(|it| it == peer) {
                missing.announcers.remove(at);
                missing.asked -= usize::from(at < missing.asked);
            }
        }
    }

    /// These have become durable here: authored here where `from` is `None`, and otherwise brought by
    /// that peer. `takes` says whether a peer holds or fills a location and has room. What was here before
    /// is not to be given again.
    pub fn stored(
        &mut self,
        now: Time,
        keys: &[AspectKey],
        from: Option<NodeId>,
        takes: impl Fn(&NodeId, Location) -> bool,
    ) {
        let missing = self.forget(keys);
        let arrived: BTreeMap<AspectKey, Vec<NodeId>> =
            keys.iter().filter_map(|key| self.arriving.remove_entry(key)).collect();
        let lacks = |peer: &NodeId, key: &AspectKey| {
            let announced = missing.get(key).map(|it| &it.announcers);
            let has = arrived.get(key).into_iter().chain(announced).any(|it| it.contains(peer));
            from.as_ref() != Some(peer) && takes(peer, key.location) && !has
        };
        // To how many lazy peers each is to be pushed.
        let least = if from.is_none() { LEAST_PUSHES } else { 0 };
        let mut pushes = vec![least; keys.len()];
        for (peer, link) in self.links.iter().filter(|(_, link)| link.eager != 0) {
            let mut push = Vec::new();
            for (key, pushes) in keys.iter().zip(&mut pushes) {
                if link.eager & bit(key) != 0 && lacks(peer, key) {
                    push.push(*key);
                    *pushes = 0;
                }
            }
            push_out(&mut self.outputs, *peer, push);
        }
        for (peer, link) in &mut self.links {
            let mut push = Vec::new();
            for (key, pushes) in keys.iter().zip(&mut pushes) {
                if link.eager & bit(key) != 0 || !lacks(peer, key) {
                    continue;
                }
                if *pushes > 0 {
                    *pushes -= 1;
                    push.push(*key);
                    continue;
                }
                link.news.push(*key);
                self.announce_at.get_or_insert(now + ANNOUNCE_WAIT);
                if link.news.len() == PAGE_KEYS {
                    announce_out(&mut self.outputs, *peer, link);
                }
            }
            push_out(&mut self.outputs, *peer, push);
        }
    }

    /// These were authored here, belong elsewhere, and have been given to [`Spread::stored`]: what too few
    /// peers take is pushed to those who come.
    pub fn outside(
        &mut self,
        keys: impl IntoIterator<Item = AspectKey>,
        takes: impl Fn(&NodeId, Location) -> bool,
    ) {
        for key in keys {
            let pushed = self.links.keys().filter(|peer| takes(peer, key.location));
            let pushed: Vec<NodeId> = pushed.take(LEAST_PUSHES.into()).copied().collect();
            if pushed.len() < LEAST_PUSHES.into() && self.unsent.len() < MAX_UNSENT {
                self.unsent.insert(key, pushed);
            }
        }
    }

    /// What was authored here and could not be pushed to enough peers yet.
    pub fn unsent(&self) -> impl ExactSizeIterator<Item = &AspectKey> {
        self.unsent.keys()
    }

    /// The peer takes something else than before: it is pushed what waits for such a one.
    pub fn changed(&mut self, peer: &NodeId, takes: impl Fn(Location) -> bool) {
        let mut push = Vec::new();
        self.unsent.retain(|key, pushed| {
            if takes(key.location) && !pushed.contains(peer) {
                push.push(*key);
                pushed.push(*peer);
            }
            pushed.len() < usize::from(LEAST_PUSHES)
        });
        push_out(&mut self.outputs, *peer, push);
    }

    /// These have come in another way and are not to be spread: nobody is asked for them any more.
    pub fn held(&mut self, keys: &[AspectKey]) {
        self.forget(keys);
        for key in keys {
            self.arriving.remove(key);
        }
    }

    /// `from` has pushed these, and they are about to be stored. Gives those that are being stored
    /// already, because another peer was first: they need not be stored again. What becomes of the others
    /// is to be told by [`Spread::stored`] and [`Spread::pushed`], or by [`Spread::not_stored`].
    pub fn arrived(&mut self, now: Time, from: NodeId, keys: &[AspectKey]) -> Vec<AspectKey> {
        let mut again = Vec::new();
        for key in keys {
            match self.arriving.entry(*key) {
                Entry::Occupied(known) => {
                    remember(known.into_mut(), from);
                    again.push(*key);
                }
                Entry::Vacant(free) => {
                    free.insert(vec![from]);
                }
            }
        }
        for (key, missing) in self.forget(keys) {
            if missing.expected_of() == Some(&from)
                && let Some(link) = self.links.get_mut(&from)
            {
                link.moved = Some(now);
            }
            // What was asked for counts, too: if that was too soon, the next time is later.
            self.late = (self.late * 7 + now.since(missing.since)) / 8;
            let Some(they) = self.arriving.get_mut(&key) else { continue };
            missing.announcers.into_iter().for_each(|announcer| remember(they, announcer));
        }
        self.count(&from, &[], &again);
        again
    }

    /// What `from` has pushed could not be stored.
    pub fn not_stored(&mut self, from: &NodeId) {
        self.arriving.retain(|_, they| they.first() != Some(from));
    }

    /// Of what `from` pushed, this was new here, and that was here already or had come by another push.
    pub fn pushed(&mut self, from: &NodeId, new: &[AspectKey], duplicates: &[AspectKey]) {
        // Of what was new `stored` is told, too, and wants to know who has it.
        for key in duplicates {
            self.arriving.remove(key);
        }
        self.count(from, new, duplicates);
    }

    /// Prunes the peer where it brings too much that has come already.
    fn count(&mut self, from: &NodeId, new: &[AspectKey], duplicates: &[AspectKey]) {
        let others = self.eager_besides(from);
        let Some(link) = self.links.get_mut(from) else { return };
        for key in new {
            let copies = &mut link.copies[sector(key)];
            *copies = copies.saturating_sub(1);
        }
        let (mut pruned, mut keys) = (0, Vec::new());
        for key in duplicates {
            let sector = sector(key);
            let copies = &mut link.copies[sector];
            *copies = copies.saturating_add(1);
            let bit = 1 << sector;
            // The last eager link stays.
            if *copies >= TOO_MANY_COPIES && others & bit != 0 && pruned & bit == 0 {
                pruned |= bit;
                keys.push(*key);
            }
        }
        if keys.is_empty() {
            return;
        }
        link.eager &= !pruned;
        // What the other links bring there is another question from now on.
        for link in self.links.values_mut() {
            for (sector, copies) in link.copies.iter_mut().enumerate() {
                *copies = if pruned & (1 << sector) == 0 { *copies } else { 0 };
            }
        }
        keys.sort_unstable();
        self.outputs.push_back(SpreadOutput::Prune { peer: *from, keys });
    }

    /// `from` has announced these, which are not held here and should be.
    pub fn announced(&mut self, now: Time, from: NodeId, lacking: &[AspectKey]) {
        let others = self.eager_besides(&from);
        let wait = self.graft_wait();
        let Some(link) = self.links.get_mut(&from) else { return };
        let mut room = MAX_MISSING.saturating_sub(self.missing.len());
        for key in lacking {
            if let Some(they) = self.arriving.get_mut(key) {
                remember(they, from);
                continue;
            }
            if link.announced >= MAX_MISSING_OF_PEER {
                return;
            }
            match self.missing.entry(*key) {
                Entry::Occupied(known) => {
                    let announcers = &mut known.into_mut().announcers;
                    if announcers.len() < MAX_ANNOUNCERS && !announcers.contains(&from) {
                        announcers.push(from);
                        link.announced += 1;
                    }
                }
                Entry::Vacant(free) if room > 0 => {
                    // Where nobody else would push it, there is nothing to wait for.
                    let pushed = others & bit(key) != 0;
                    let due = if pushed { now + wait } else { now };
                    free.insert(Missing { announcers: vec![from], asked: 0, due, since: now });
                    self.due.insert((due, *key));
                    link.announced += 1;
                    room -= 1;
                }
                Entry::Vacant(_) => {}
            }
        }
    }

    /// The peer wants what is new near these to be announced, not pushed; without keys, all of it.
    pub fn pruned(&mut self, from: &NodeId, keys: &[AspectKey]) {
        if let Some(link) = self.links.get_mut(from) {
            link.eager &= if keys.is_empty() { 0 } else { !bits(keys) };
        }
    }

    /// The peer wants what is new near these to be pushed. The aspects themselves the driver sends.
    pub fn grafted(&mut self, from: &NodeId, keys: &[AspectKey]) {
        if let Some(link) = self.links.get_mut(from) {
            link.eager |= bits(keys);
        }
    }

    /// The next thing to be sent.
    pub fn poll_output(&mut self) -> Option<SpreadOutput> {
        self.outputs.pop_front()
    }

    /// When [`Spread::tick`] is to be called; may be past.
    pub fn wake_at(&self) -> Option<Time> {
        let due = self.due.first().map(|(at, _)| *at);
        self.announce_at.into_iter().chain(due).min()
    }

    /// Does what is due.
    pub fn tick(&mut self, now: Time) {
        if self.announce_at.is_some_and(|at| at <= now) {
            self.announce_at = None;
            for (peer, link) in &mut self.links {
                announce_out(&mut self.outputs, *peer, link);
            }
        }
        let mut grafts: BTreeMap<NodeId, Vec<AspectKey>> = BTreeMap::new();
        while let Some(&(at, key)) = self.due.first()
            && at <= now
        {
            self.due.pop_first();
            let Some(missing) = self.missing.get_mut(&key) else { continue };
            let expected_of = missing.expected_of().and_then(|peer| self.links.get(peer));
            let sends_until = expected_of.and_then(|link| Some(link.moved? + GRAFT_PATIENCE));
            if let Some(until) = sends_until.filter(|until| *until > now) {
                missing.due = until;
            } else if let Some(peer) = missing.announcers.get(missing.asked).copied() {
                // As few links as will do are grafted.
                let unasked = missing.announcers.iter().enumerate().skip(missing.asked);
                let next =
                    unasked.map(|(n, peer)| (n, *peer)).find(|(_, it)| grafts.contains_key(it));
                let (at, peer) = next.unwrap_or((missing.asked, peer));
                missing.announcers.swap(missing.asked, at);
                missing.asked += 1;
                missing.due = now + GRAFT_PATIENCE;
                grafts.entry(peer).or_default().push(key);
            } else {
                self.forget(&[key]);
                continue;
            }
            self.due.insert((missing.due, key));
        }
        for (peer, mut keys) in grafts {
            if let Some(link) = self.links.get_mut(&peer) {
                link.eager |= bits(&keys);
            }
            keys.sort_unstable();
            for keys in keys.chunks(PAGE_KEYS) {
                self.outputs.push_back(SpreadOutput::Graft { peer, keys: keys.to_vec() });
            }
        }
    }

    /// How long a push may take after an announcement. Nodes differ, so that of many that lack the same
    /// one asks first, and pushes it to the others.
    fn graft_wait(&mut self) -> Duration {
        self.random.around((self.late * 2).clamp(GRAFT_WAIT.0, GRAFT_WAIT.1))
    }

    /// In which sectors other links than that of `peer` are eager.
    fn eager_besides(&self, peer: &NodeId) -> SectorSet {
        let others = self.links.iter().filter(|(other, _)| *other != peer);
        others.fold(0, |all, (_, link)| all | link.eager)
    }

    /// These are not missing any more: they came, or are given up.
    fn forget(&mut self, keys: &[AspectKey]) -> BTreeMap<AspectKey, Missing> {
        let mut forgotten = BTreeMap::new();
        if self.missing.is_empty() {
            return forgotten;
        }
        for key in keys {
            let Some(missing) = self.missing.remove(key) else { continue };
            self.due.remove(&(missing.due, *key));
            for peer in &missing.announcers {
                if let Some(link) = self.links.get_mut(peer) {
                    link.announced = link.announced.saturating_sub(1);
                }
            }
            forgotten.insert(*key, missing);
        }
        forgotten
    }
}

/// Notes that a peer has something, too.
fn remember(they: &mut Vec<NodeId>, peer: NodeId) {
    if they.len() < MAX_ANNOUNCERS && !they.contains(&peer) {
        they.push(peer);
    }
}

/// Below [`SECTORS`].
fn sector(key: &AspectKey) -> usize {
    ((u64::from(key.location.0) * SECTORS as u64) >> 32) as usize
}

fn bit(key: &AspectKey) -> SectorSet {
    1 << sector(key)
}

fn bits(keys: &[AspectKey]) -> SectorSet {
    keys.iter().fold(0, |all, key| all | bit(key))
}

fn push_out(outputs: &mut VecDeque<SpreadOutput>, peer: NodeId, keys: Vec<AspectKey>) {
    if !keys.is_empty() {
        outputs.push_back(SpreadOutput::Push { peer, keys });
    }
}

fn announce_out(outputs: &mut VecDeque<SpreadOutput>, peer: NodeId, link: &mut Link) {
    if !link.news.is_empty() {
        link.news.sort_unstable();
        link.news.dedup();
        let keys = std::mem::take(&mut link.news);
        outputs.push_back(SpreadOutput::Announce { peer, keys });
    }
}

#[cfg(test)]
mod tests {
    use std::rc::Rc;

    use super::{super::random::Random, *};
    use crate::{
        id::AspectHash,
        ring::{ArcSet, RingArc},
    };

    fn id(n: usize) -> NodeId {
        let mut id = [0; 32];
        id[..8].copy_from_slice(&(n as u64).to_be_bytes());
        NodeId(id)
    }

    fn index(id: &NodeId) -> usize {
        id.0[6] as usize * 256 + id.0[7] as usize
    }

    fn key(n: usize, location: u32) -> AspectKey {
        AspectKey { location: Location(location), hash: AspectHash(id(n).0) }
    }

    fn number(key: &AspectKey) -> usize {
        let hash = key.hash.0;
        usize::from(hash[5]) << 16 | usize::from(hash[6]) << 8 | usize::from(hash[7])
    }

    fn ms(millis: u64) -> Time {
        Time::ZERO + Duration::from_millis(millis)
    }

    #[derive(Debug)]
    enum Event {
        Author(Vec<AspectKey>),
        /// What this one pushed is stored.
        Durable(usize, Vec<AspectKey>),
        From(usize, SpreadOutput),
        Wake,
    }

    struct Node {
        spread: Spread,
        arc: ArcSet,
        held: BTreeMap<AspectKey, Time>,
        dead: bool,
        /// Copies that were pushed to it, by number of the aspect.
        copies: BTreeMap<usize, usize>,
        wakes: BTreeSet<Time>,
    }

    /// Nodes, and links of differing latency.
    struct World {
        now: Time,
        nodes: Vec<Node>,
        arcs: Rc<Vec<ArcSet>>,
        events: BTreeMap<(Time, usize), (usize, Event)>,
        sent: usize,
        random: Random,
        /// All that was sent, folded.
        digest: u64,
        authored: BTreeMap<AspectKey, (usize, Time)>,
        grafts: usize,
        /// Storing takes up to so many milliseconds, and ten more.
        disk: u64,
    }

    impl World {
        fn new(nodes: usize, part: u64, links: usize, seed: u64) -> Self {
            let mut world = World {
                now: ms(1_000_000),
                nodes: Vec::new(),
                arcs: Rc::default(),
                events: BTreeMap::new(),
                sent: 0,
                random: Random::new(seed),
                digest: 0,
                authored: BTreeMap::new(),
                grafts: 0,
                disk: 40,
            };
            for _ in 0..nodes {
                let start = Location(world.random.next() as u32);
                let arc = ArcSet::from(RingArc::new(start, (1 << 32) / part).unwrap());
                let seed = world.random.next();
                world.nodes.push(Node {
                    spread: Spread::new(seed),
                    arc,
                    held: BTreeMap::new(),
                    dead: false,
                    copies: BTreeMap::new(),
                    wakes: BTreeSet::new(),
                });
            }
            world.arcs = Rc::new(world.nodes.iter().map(|node| node.arc.clone()).collect());
            // To those next to it on the ring, whose arcs overlap most, and to some others.
            let mut ring: Vec<_> = (0..nodes).collect();
            ring.sort_by_key(|n| world.nodes[*n].arc.arcs()[0].start());
            for place in 0..nodes {
                let next = (1..=links).map(|n| ring[(place + n) % nodes]);
                let far = (0..links / 2).map(|_| world.random.below(nodes));
                let a = ring[place];
                for b in next.chain(far.collect::<Vec<_>>()).filter(|b| *b != a) {
                    world.nodes[a].spread.met(id(b));
                    world.nodes[b].spread.met(id(a));
                }
            }
            world
        }

        fn post(&mut self, at: Time, to: usize, event: Event) {
            self.sent += 1;
            self.events.insert((at, self.sent), (to, event));
        }

        fn latency(a: usize, b: usize) -> Duration {
            let pair = (a.min(b) * 1000 + a.max(b)) as u64;
            Duration::from_micros(10_000 + Random::new(pair).next() % 70_000)
        }

        /// Some authors, one batch each now and then.
        fn author(&mut self, authors: &[usize], batches: usize, batch: usize, every: u64) {
            let first = self.authored.len();
            let from = self.now;
            for n in 0..batches {
                let author = authors[self.random.below(authors.len())];
                let at = from + Duration::from_millis(n as u64 * every);
                let keys = (0..batch).map(|i| {
                    // Somebody it is connected to takes it.
                    let location = loop {
                        let location = Location(self.random.next() as u32);
                        let mut peers = self.nodes[author].spread.links.keys();
                        if peers.any(|peer| self.arcs[index(peer)].contains(location)) {
                            break location;
                        }
                    };
                    key(first + n * batch + i, location.0)
                });
                let keys: Vec<_> = keys.collect();
                self.authored.extend(keys.iter().map(|key| (*key, (author, at))));
                self.post(at, author, Event::Author(keys));
            }
        }

        fn run_for(&mut self, seconds: u64) {
            let until = self.now + Duration::from_secs(seconds);
            while let Some(entry) = self.events.first_entry()
                && entry.key().0 <= until
            {
                let ((at, _), (node, event)) = entry.remove_entry();
                self.now = at;
                self.step(node, event);
            }
            self.now = until;
        }

        fn step(&mut self, n: usize, event: Event) {
            if self.nodes[n].dead {
                return;
            }
            let now = self.now;
            let arcs = self.arcs.clone();
            let takes = |peer: &NodeId, at: Location| arcs[index(peer)].contains(at);
            let node = &mut self.nodes[n];
            let (mut reply, mut durable) = (None, None);
            match event {
                Event::Author(keys) => {
                    let own = keys.iter().filter(|key| node.arc.contains(key.location));
                    node.held.extend(own.map(|key| (*key, now)));
                    node.spread.stored(now, &keys, None, takes);
                }
                Event::Wake => {
                    node.wakes.remove(&now);
                    node.spread.tick(now);
                }
                Event::From(from, SpreadOutput::Push { keys, .. }) => {
                    for key in &keys {
                        assert!(node.arc.contains(key.location));
                        *node.copies.entry(number(key)).or_default() += 1;
                    }
                    let again = node.spread.arrived(now, id(from), &keys);
                    let keys = keys.into_iter().filter(|key| !again.contains(key)).collect();
                    durable = Some(Event::Durable(from, keys));
                }
                Event::Durable(from, keys) => {
                    let peer = id(from);
                    let (mut new, mut copies) = (Vec::new(), Vec::new());
                    for key in &keys {
                        match node.held.contains_key(key) {
                            true => copies.push(*key),
                            false => new.push(*key),
                        }
                        node.held.entry(*key).or_insert(now);
                    }
                    node.spread.pushed(&peer, &new, &copies);
                    node.spread.stored(now, &new, Some(peer), takes);
                }
                Event::From(from, SpreadOutput::Announce { keys, .. }) => {
                    let lacking: Vec<_> =
                        keys.into_iter().filter(|key| !node.held.contains_key(key)).collect();
                    node.spread.announced(now, id(from), &lacking);
                }
                Event::From(from, SpreadOutput::Graft { keys, .. }) => {
                    self.grafts += 1;
                    node.spread.grafted(&id(from), &keys);
                    // An author sends what it wrote, wherever that belongs.
                    reply = Some((from, SpreadOutput::Push { peer: id(from), keys }));
                }
                Event::From(from, SpreadOutput::Prune { keys, .. }) => {
                    node.spread.pruned(&id(from), &keys);
                }
            }
            let mut out: Vec<(usize, SpreadOutput)> = reply.into_iter().collect();
            while let Some(output) = node.spread.poll_output() {
                let peer = match &output {
                    SpreadOutput::Push { peer, .. }
                    | SpreadOutput::Announce { peer, .. }
                    | SpreadOutput::Graft { peer, .. }
                    | SpreadOutput::Prune { peer, .. } => index(peer),
                };
                out.push((peer, output));
            }
            let wake = node.spread.wake_at().map(|at| at.max(now));
            let wake = wake.filter(|at| node.wakes.insert(*at));
            for (peer, output) in out {
                let folded = self.digest ^ now.as_micros() ^ (n * 1000 + peer) as u64;
                self.digest = Random::new(folded).next();
                self.post(now + World::latency(n, peer), peer, Event::From(n, output));
            }
            if let Some(at) = wake {
                self.post(at, n, Event::Wake);
            }
            if let Some(event) = durable {
                let at = now + Duration::from_millis(10 + self.random.next() % self.disk);
                self.post(at, n, event);
            }
        }

        /// Whatever was authored is wherever it belongs.
        fn assert_complete(&self) {
            for (key, (author, at)) in &self.authored {
                for (n, node) in self.nodes.iter().enumerate() {
                    let belongs = n != *author && !node.dead && node.arc.contains(key.location);
                    assert!(
                        !belongs || node.held.contains_key(key),
                        "node {n} lacks what {author} wrote at {at}"
                    );
                }
            }
            assert!(self.nodes.iter().all(|node| node.dead || node.spread.missing.is_empty()));
        }

        /// Copies that a node got of what it took, on average; of what was authored from `first` on.
        fn copies(&self, first: usize) -> f64 {
            let counts = self.nodes.iter().filter(|node| !node.dead);
            let counts = counts.flat_map(|node| node.copies.range(first..));
            let (taken, copies) = counts.fold((0, 0), |(n, sum), (_, times)| (n + 1, sum + times));
            f64::from(copies as u32) / f64::from(taken)
        }

        /// Median, and the 99th part of a hundred, of how long it took, in milliseconds.
        fn delays(&self, first: usize) -> (u128, u128) {
            let mut delays = Vec::new();
            for node in &self.nodes {
                for (key, at) in node.held.iter().filter(|(key, _)| number(key) >= first) {
                    delays.push(at.since(self.authored[key].1).as_millis());
                }
            }
            delays.sort_unstable();
            (delays[delays.len() / 2], delays[delays.len() * 99 / 100])
        }
    }

    /// Authors write ten aspects at a time; everything comes to everybody, and in the later half of it
    /// once, mostly.
    fn spreads(nodes: usize, part: u64, links: usize, authors: usize) -> World {
        let mut world = World::new(nodes, part, links, 1);
        let authors: Vec<_> = (0..authors).collect();
        world.author(&authors, 400, 10, 50);
        world.run_for(30);
        world.assert_complete();
        let copies = world.copies(2000);
        let (half, most) = world.delays(2000);
        let what = format!(
            "{nodes} nodes, each with 1/{part} of the ring, {} of them authors: {copies:.3} copies, \
             half within {half} ms, 99 of 100 within {most} ms",
            authors.len()
        );
        println!("{what}");
        assert!(copies < 1.5, "{what}");
        world
    }

    #[test]
    fn everything_reaches_everybody_about_once() {
        for authors in [1, 5, 40] {
            spreads(40, 1, 6, authors);
            spreads(60, 4, 6, authors);
            spreads(100, 8, 6, authors);
        }
    }

    #[test]
    fn many_authors_and_slow_disks_change_little() {
        let mut world = World::new(50, 5, 10, 1);
        world.disk = 300;
        world.author(&(0..50).collect::<Vec<_>>(), 400, 10, 50);
        world.run_for(30);
        world.assert_complete();
        let copies = world.copies(2000);
        assert!(copies < 1.5, "{copies:.3}");
    }

    #[test]
    fn it_replays_to_the_bit() {
        let digest = || spreads(30, 3, 4, 3).digest;
        assert_eq!(digest(), digest());
    }

    #[test]
    fn who_takes_and_passes_on_nothing_is_gone_around() {
        let mut world = World::new(40, 1, 6, 2);
        world.author(&[0, 1], 200, 10, 50);
        world.run_for(20);
        world.assert_complete();
        // Those with the most links; nobody is told that they are gone.
        let mut busy: Vec<_> = (2..40).collect();
        busy.sort_by_key(|n| std::cmp::Reverse(world.nodes[*n].spread.links.len()));
        busy.truncate(4);
        busy.into_iter().for_each(|n| world.nodes[n].dead = true);
        let grafts = world.grafts;
        world.author(&[0, 1], 200, 10, 50);
        world.run_for(20);
        world.assert_complete();
        assert!(world.grafts > grafts);
    }

    #[test]
    fn lazy_links_alone_will_do() {
        for part in [1, 4] {
            let mut world = World::new(40, part, 6, 3);
            for node in &mut world.nodes {
                for peer in node.spread.links.keys().copied().collect::<Vec<_>>() {
                    node.spread.pruned(&peer, &[]);
                }
                assert!(node.spread.links.values().all(|link| link.eager == 0));
            }
            world.author(&[0, 7], 50, 3, 100);
            world.run_for(30);
            world.assert_complete();
        }
    }

    fn outputs(spread: &mut Spread) -> Vec<SpreadOutput> {
        std::iter::from_fn(|| spread.poll_output()).collect()
    }

    /// `eager` peers, numbered from 1 on, and then `lazy` ones.
    fn with_links(eager: usize, lazy: usize) -> Spread {
        let mut spread = Spread::new(0);
        (1..=eager + lazy).for_each(|n| spread.met(id(n)));
        (eager + 1..=eager + lazy).for_each(|n| spread.pruned(&id(n), &[]));
        spread
    }

    #[test]
    fn an_author_pushes_to_two_at_least() {
        let mut spread = with_links(1, 4);
        let (a, b) = (key(1, 0), key(2, 1 << 31));
        // The eager peer takes the lower half of the ring; one of the lazy ones takes nothing.
        let takes =
            |peer: &NodeId, at: Location| *peer != id(3) && (*peer != id(1) || at.0 < 1 << 31);
        spread.stored(ms(0), &[a, b], None, takes);
        let push = |n, keys: &[AspectKey]| SpreadOutput::Push { peer: id(n), keys: keys.to_vec() };
        let pushes = [push(1, &[a]), push(2, &[b]), push(4, &[b])];
        assert_eq!(outputs(&mut spread), pushes);
        assert_eq!(spread.wake_at(), Some(ms(100)));
        // Who passes on only announces, where no eager peer takes it.
        let c = key(3, 1 << 31);
        spread.stored(ms(50), &[c], Some(id(2)), takes);
        assert!(outputs(&mut spread).is_empty());
        spread.tick(ms(100));
        let announce =
            |n, keys: &[AspectKey]| SpreadOutput::Announce { peer: id(n), keys: keys.to_vec() };
        let announced = [announce(2, &[a]), announce(4, &[a, c]), announce(5, &[a, b, c])];
        assert_eq!(outputs(&mut spread), announced);
        assert_eq!(spread.wake_at(), None);
    }

    #[test]
    fn what_nobody_took_is_pushed_to_who_comes() {
        let mut spread = with_links(0, 2);
        let (a, b) = (key(1, 0), key(2, 1 << 31));
        // The first takes all, the second nothing yet.
        let takes = |peer: &NodeId, _| *peer == id(1);
        spread.stored(ms(0), &[a, b], None, takes);
        spread.outside([a, b], takes);
        let push = |n, keys: &[AspectKey]| SpreadOutput::Push { peer: id(n), keys: keys.to_vec() };
        assert_eq!(outputs(&mut spread), [push(1, &[a, b])]);
        assert_eq!(spread.unsent().copied().collect::<Vec<_>>(), [a, b]);
        spread.changed(&id(1), |_| true);
        assert!(outputs(&mut spread).is_empty());
        spread.changed(&id(2), |location| location.0 == 0);
        assert_eq!(outputs(&mut spread), [push(2, &[a])]);
        spread.met(id(3));
        spread.changed(&id(3), |_| true);
        assert_eq!(outputs(&mut spread), [push(3, &[b])]);
        assert_eq!(spread.unsent().len(), 0);
    }

    #[test]
    fn announcements_fit_messages() {
        let mut spread = with_links(0, 3);
        let keys: Vec<_> = (0..2500).map(|n| key(n * 7919 % 2500, 0)).collect();
        spread.stored(ms(0), &keys, Some(id(1)), |_, _| true);
        spread.tick(ms(100));
        let mut announced = Vec::new();
        for output in outputs(&mut spread) {
            let SpreadOutput::Announce { peer, keys } = output else { panic!("{output:?}") };
            assert!(keys.len() <= PAGE_KEYS && keys.is_sorted());
            announced.extend(keys.into_iter().filter(|_| peer == id(2)));
            assert_ne!(peer, id(1));
        }
        announced.sort();
        assert_eq!(announced, (0..2500).map(|n| key(n, 0)).collect::<Vec<_>>());
    }

    #[test]
    fn one_announcer_after_the_other_is_asked() {
        let graft =
            |n, keys: &[AspectKey]| vec![SpreadOutput::Graft { peer: id(n), keys: keys.to_vec() }];
        let mut spread = with_links(1, 3);
        let (a, b) = (key(1, 0), key(2, 0));
        spread.announced(ms(0), id(2), &[a, b]);
        spread.announced(ms(10), id(3), &[a, b]);
        spread.announced(ms(10), id(3), &[a]);
        let due = spread.wake_at().unwrap();
        assert!(ms(150) <= due && due < ms(300), "{due}");
        spread.tick(ms(300));
        assert_eq!(outputs(&mut spread), graft(2, &[a, b]));
        // What it sends of that gives it more time for the rest.
        assert!(spread.arrived(ms(900), id(2), &[a]).is_empty());
        spread.stored(ms(900), &[a], Some(id(2)), |_, _| true);
        // The third one has announced it.
        let pushed = SpreadOutput::Push { peer: id(1), keys: vec![a] };
        assert_eq!(outputs(&mut spread), [pushed]);
        spread.tick(ms(1300));
        let announced = SpreadOutput::Announce { peer: id(4), keys: vec![a] };
        assert_eq!(outputs(&mut spread), [announced]);
        spread.gone(&id(2));
        spread.tick(ms(1900));
        assert_eq!(outputs(&mut spread), graft(3, &[b]));
        spread.held(&[b]);
        assert!(spread.missing.is_empty() && spread.due.is_empty());
        // Nothing to wait for, where nobody else would push it.
        let mut spread = with_links(0, 2);
        spread.announced(ms(0), id(2), &[a]);
        spread.tick(ms(0));
        assert_eq!(outputs(&mut spread), graft(2, &[a]));
        assert!(spread.links[&id(2)].eager != 0 && spread.links[&id(1)].eager == 0);
    }

    #[test]
    fn only_what_is_mostly_copies_is_pruned() {
        let mut spread = with_links(2, 0);
        let keys: Vec<_> = (0..20).map(|n| key(n, 0)).collect();
        for pair in keys.chunks(2) {
            spread.pushed(&id(1), &pair[..1], &pair[1..]);
        }
        assert!(outputs(&mut spread).is_empty());
        let far = key(99, 1 << 31);
        spread.pushed(&id(1), &[], &[far, keys[2]]);
        let prune = SpreadOutput::Prune { peer: id(1), keys: vec![keys[2]] };
        assert_eq!(outputs(&mut spread), [prune]);
        // The other one is the last one there.
        spread.pushed(&id(2), &[], &keys);
        assert!(outputs(&mut spread).is_empty());
        spread.grafted(&id(1), &keys[..1]);
        spread.pushed(&id(2), &[], &keys);
        let prune = SpreadOutput::Prune { peer: id(2), keys: vec![keys[0]] };
        assert_eq!(outputs(&mut spread), [prune]);
    }

    #[test]
    fn false_announcements_are_bounded_and_end() {
        let mut spread = with_links(1, 9);
        for n in 2..=10 {
            for page in 0..20 {
                let keys: Vec<_> = (0..1024).map(|i| key(n << 17 | page << 10 | i, 5)).collect();
                spread.announced(ms(0), id(n), &keys);
                spread.announced(ms(0), id(n % 10 + 1), &keys);
            }
        }
        assert_eq!(spread.missing.len(), MAX_MISSING);
        assert!(spread.links.values().all(|link| link.announced <= MAX_MISSING_OF_PEER));
        let mut asked = 0;
        while let Some(at) = spread.wake_at() {
            spread.tick(at);
            for output in outputs(&mut spread) {
                let SpreadOutput::Graft { keys, .. } = output else { panic!("{output:?}") };
                assert!(keys.len() <= PAGE_KEYS && keys.is_sorted());
                asked += keys.len();
            }
            assert!(at < ms(10_000));
        }
        assert!(asked >= MAX_MISSING);
        assert!(spread.missing.is_empty() && spread.due.is_empty());
        assert!(spread.links.values().all(|link| link.announced == 0));
    }
}
