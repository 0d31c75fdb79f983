//! A node's disk: which aspects are durable on it, what is on its way there, and what the node claims.

use std::{
    cell::RefCell,
    collections::{BTreeMap, HashMap},
    convert::Infallible,
    sync::{Arc, OnceLock},
};

use arcwise_proto::{
    Aspect, AspectHash, AspectKey,
    limits::ASPECT_OVERHEAD,
    reconcile::{Items, Sectors, fingerprint::Fingerprint},
    ring::ArcSet,
    session::{Filter, Holdings, Position, Snapshot},
    swarm::SignedRecord,
};

/// Where room was short, there is some again when so large a part of it is free.
const FREE_PART: u64 = 20;

/// An aspect on a disk. Its data is a few bytes that say how many there would be: see [`nominal`].
#[derive(Clone, Debug)]
pub(crate) struct Row {
    /// The local sequence number.
    sequence: u64,
    pub(crate) aspect: Aspect,
}

/// Bytes that an aspect would have.
pub(crate) fn nominal(aspect: &Aspect) -> u64 {
    let len = aspect.data().first_chunk().map_or(0, |len| u32::from_le_bytes(*len));
    u64::from(len) + ASPECT_OVERHEAD as u64
}

/// What is durable, as it is now or was at a moment: a clone is a snapshot.
#[derive(Debug, Default)]
pub(crate) struct Ids {
    rows: Arc<BTreeMap<AspectKey, Row>>,
    by_hash: OnceLock<Vec<AspectKey>>,
}

impl Clone for Ids {
    fn clone(&self) -> Self {
        Self { rows: self.rows.clone(), by_hash: OnceLock::new() }
    }
}

impl Ids {
    pub(crate) fn contains(&self, key: &AspectKey) -> bool {
        self.rows.contains_key(key)
    }

    pub(crate) fn get(&self, key: &AspectKey) -> Option<&Aspect> {
        self.rows.get(key).map(|row| &row.aspect)
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (&AspectKey, &Aspect)> {
        self.rows.iter().map(|(key, row)| (key, &row.aspect))
    }

    pub(crate) fn within(&self, arcs: &ArcSet) -> impl Iterator<Item = (&AspectKey, &Row)> {
        arcs.spans().collect::<Vec<_>>().into_iter().flat_map(|(first, last)| {
            let first = AspectKey { location: first, ..AspectKey::MIN };
            let last = AspectKey { location: last, ..AspectKey::MAX };
            self.rows.range(first..=last)
        })
    }
}

impl Items for Ids {
    type Error = Infallible;

    fn scan(
        &self,
        first: &AspectKey,
        last: &AspectKey,
        each: &mut dyn FnMut(&AspectKey),
    ) -> Result<(), Infallible> {
        if first <= last {
            self.rows.range(first..=last).for_each(|(key, _)| each(key));
        }
        Ok(())
    }

    fn find(&self, first: &AspectHash, last: &AspectHash) -> Result<Vec<AspectKey>, Infallible> {
        let by_hash = self.by_hash.get_or_init(|| {
            let mut keys: Vec<AspectKey> = self.rows.keys().copied().collect();
            keys.sort_unstable_by_key(|key| key.hash);
            keys
        });
        let from = by_hash.partition_point(|key| key.hash < *first);
        let found = by_hash.iter().skip(from).take_while(|key| key.hash <= *last);
        Ok(found.copied().collect())
    }

    fn add_fingerprint(&self, hash: &AspectHash, to: &mut Fingerprint) {
        FINGERPRINTS.with_borrow_mut(|known| {
            if known.len() >= MAX_FINGERPRINTS {
                known.clear();
            }
            to.merge(known.entry(*hash).or_insert_with(|| Box::new(Fingerprint::of(hash))));
        });
    }
}

/// Fingerprints of items are remembered, up to so many: 128 MB.
const MAX_FINGERPRINTS: usize = 1 << 16;

thread_local! {
    /// Many nodes hold the same items, and each reads them again and again.
    static FINGERPRINTS: RefCell<HashMap<AspectHash, Box<Fingerprint>>> = RefCell::default();
}

/// A node's disk. What is in here outlives a crash.
#[derive(Debug)]
pub(crate) struct Disk {
    pub(crate) ids: Ids,
    sectors: Sectors,
    /// Of nominal encodings.
    pub(crate) bytes: u64,
    /// The local sequence number reached.
    sequence: u64,
    epoch: u64,
    /// What is claimed.
    pub(crate) held: ArcSet,
    /// What is aimed at.
    pub(crate) target: ArcSet,
    /// Most bytes there is room for.
    pub(crate) quota: Option<u64>,
    /// Nothing more is taken.
    pub(crate) full: bool,
    /// The peer records that were kept.
    pub(crate) kept: Vec<SignedRecord>,
    /// What is read or written in vain: a liar's.
    pub(crate) keeps_nothing: bool,
}

/// What became of a batch.
#[derive(Debug, Default)]
pub(crate) struct Stored {
    pub(crate) new: Vec<Aspect>,
    pub(crate) again: Vec<AspectKey>,
    /// There was no room for the rest.
    pub(crate) full: bool,
}

impl Disk {
    pub(crate) fn new(quota: Option<u64>) -> Self {
        Self {
            ids: Ids::default(),
            sectors: Sectors::new(),
            bytes: 0,
            sequence: 0,
            epoch: 0,
            held: ArcSet::empty(),
            target: ArcSet::empty(),
            quota,
            full: false,
            kept: Vec::new(),
            keeps_nothing: false,
        }
    }

    /// The node starts.
    pub(crate) fn open(&mut self) {
        self.epoch += 1;
    }

    pub(crate) fn count(&self) -> u64 {
        self.ids.rows.len() as u64
    }

    /// A batch has become durable.
    pub(crate) fn store(&mut self, batch: Vec<Aspect>) -> Stored {
        let mut stored = Stored::default();
        if self.keeps_nothing {
            stored.new = batch;
            return stored;
        }
        let rows = Arc::make_mut(&mut self.ids.rows);
        self.ids.by_hash = OnceLock::new();
        for aspect in batch {
            let key = aspect.key();
            if rows.contains_key(&key) {
                stored.again.push(key);
                continue;
            }
            let bytes = nominal(&aspect);
            if self.quota.is_some_and(|quota| self.bytes + bytes > quota) {
                stored.full = true;
                break;
            }
            self.bytes += bytes;
            self.sequence += 1;
            rows.insert(key, Row { sequence: self.sequence, aspect: aspect.clone() });
            self.sectors.insert(&key);
            stored.new.push(aspect);
        }
        let Ok(()) = self.sectors.settle(&self.ids);
        self.full |= stored.full;
        stored
    }

    /// Removes what lies in these arcs, and not in what is claimed or aimed at, up to a sequence number. Gives
    /// what that was.
    pub(crate) fn remove(&mut self, arcs: &ArcSet, until: u64) -> Vec<AspectKey> {
        let arcs = arcs.difference(&self.held.union(&self.target));
        let gone = self.ids.within(&arcs).filter(|(_, row)| row.sequence <= until);
        let gone: Vec<AspectKey> = gone.map(|(key, _)| *key).collect();
        let rows = Arc::make_mut(&mut self.ids.rows);
        for key in &gone {
            if let Some(row) = rows.remove(key) {
                self.bytes -= nominal(&row.aspect);
                self.sectors.remove(key);
            }
        }
        self.ids.by_hash = OnceLock::new();
        let Ok(()) = self.sectors.settle(&self.ids);
        if !gone.is_empty() {
            // Positions from before do not show any more what is held.
            self.epoch += 1;
        }
        gone
    }

    /// Whether there is room again.
    pub(crate) fn has_room(&self) -> bool {
        self.quota.is_none_or(|quota| self.bytes <= quota - quota / FREE_PART)
    }

    /// Where something is held outside of what is claimed or aimed at.
    pub(crate) fn outside(&self) -> ArcSet {
        let outside = self.held.union(&self.target).complement();
        let arcs = outside.arcs().into_iter().map(ArcSet::from);
        arcs.filter(|arc| self.ids.within(arc).next().is_some())
            .fold(ArcSet::empty(), |all, arc| all.union(&arc))
    }
}

impl Holdings for Disk {
    type Error = Infallible;
    type Items = Ids;

    fn snapshot(&self) -> Snapshot<Ids> {
        Snapshot { sectors: self.sectors.clone(), items: self.ids.clone() }
    }

    fn list(
        &self,
        first: AspectKey,
        last: AspectKey,
        filter: &Filter,
        limit: usize,
    ) -> Result<Vec<AspectKey>, Infallible> {
        if first > last {
            return Ok(Vec::new());
        }
        let passes = |(_, row): &(&AspectKey, &Row)| {
            filter.published_since.is_none_or(|since| row.aspect.published() >= since)
                && filter.stored_after.is_none_or(|after| row.sequence > after)
        };
        let rows = self.ids.rows.range(first..=last).filter(passes);
        Ok(rows.take(limit).map(|(key, _)| *key).collect())
    }

    fn lacks(&self, keys: &[AspectKey]) -> Result<Vec<AspectKey>, Infallible> {
        Ok(keys.iter().filter(|key| !self.ids.contains(key)).copied().collect())
    }

    fn position(&self) -> Position {
        Position { epoch: self.epoch, count: self.sequence }
    }

    fn resolve(&self, position: Position) -> Option<u64> {
        (position.epoch == self.epoch && position.count <= self.sequence).then_some(position.count)
    }
}

#[cfg(test)]
mod tests {
    use arcwise_proto::{EntryAddress, Location, RingArc, Time};

    use super::*;

    fn aspect(location: u32, size: u32) -> Aspect {
        let mut entry = [0; 32];
        entry[..4].copy_from_slice(&location.to_le_bytes());
        let mut data = size.to_le_bytes().to_vec();
        data.extend([0; 8]);
        Aspect::new(EntryAddress(entry), 1, Time::ZERO, &data).unwrap()
    }

    fn arc(first: u32, last: u32) -> ArcSet {
        RingArc::between(Location(first), Location(last)).into()
    }

    #[test]
    fn a_snapshot_stays_as_it_was() {
        let mut disk = Disk::new(None);
        let one = aspect(1, 100);
        let key = one.key();
        let before = disk.snapshot();
        assert_eq!(disk.store(vec![one.clone()]).new.len(), 1);
        assert_eq!(disk.store(vec![one]).again, [key]);
        assert!(!before.items.contains(&key) && disk.ids.contains(&key));
        assert_eq!(disk.snapshot().items.find(&key.hash, &key.hash), Ok(vec![key]));
        assert_eq!(before.items.find(&key.hash, &key.hash), Ok(vec![]));
        assert_ne!(
            before.digest(&ArcSet::full(), &[]),
            disk.snapshot().digest(&ArcSet::full(), &[])
        );
    }

    #[test]
    fn only_what_is_outside_and_old_enough_is_removed() {
        let mut disk = Disk::new(None);
        disk.held = arc(0, 9);
        for at in [5, 15, 25] {
            disk.store(vec![aspect(at, 100)]);
        }
        assert_eq!(disk.outside(), disk.held.complement());
        assert_eq!(disk.remove(&ArcSet::full(), 2), [aspect(15, 100).key()]);
        assert_eq!((disk.count(), disk.bytes), (2, 2 * (100 + ASPECT_OVERHEAD as u64)));
        let position = Position { epoch: 0, count: 3 };
        assert_eq!(disk.resolve(position), None, "what was removed may be wanted again");
        let bare = disk.snapshot().digest(&arc(20, 30), &[]);
        let mut other = Disk::new(None);
        other.store(vec![aspect(25, 100)]);
        assert_eq!(bare, other.snapshot().digest(&ArcSet::full(), &[]));
    }

    #[test]
    fn what_does_not_fit_is_not_taken() {
        let mut disk = Disk::new(Some(1000));
        let stored = disk.store((0..5).map(|at| aspect(at, 200)).collect());
        assert_eq!((stored.new.len(), stored.full, disk.full), (2, true, true));
        assert!(disk.has_room());
        disk.quota = Some(700);
        assert!(!disk.has_room());
    }
}
