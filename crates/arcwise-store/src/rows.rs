//! The bytes of every key and value on disk. Integers are big-endian throughout, so that keys sort
//! as numbers do.

use std::{ops::RangeInclusive, time::Duration};

use arcwise_proto::{ArcSet, AspectHash, AspectKey, Location, NodeId, SpaceId, Time};
use bytes::{Buf, BufMut};

/// What the rows of one space begin with. Numbers are handed out from 0 on, in the order in which
/// spaces are created.
pub(crate) type SpaceNumber = u32;

pub(crate) const INDEX_KEY: usize = 4 + 4 + 32;
pub(crate) const INDEX_VALUE: usize = 8 + 8;
pub(crate) const LOG_KEY: usize = 4 + 8;
pub(crate) const ID_KEY: usize = 4 + 6 + 4;

pub(crate) fn index_key(space: SpaceNumber, key: &AspectKey) -> [u8; INDEX_KEY] {
    let mut row = [0; INDEX_KEY];
    row[..4].copy_from_slice(&space.to_be_bytes());
    row[4..8].copy_from_slice(&key.location.0.to_be_bytes());
    row[8..].copy_from_slice(&key.hash.0);
    row
}

pub(crate) fn parse_index_key(mut row: &[u8]) -> Option<(SpaceNumber, AspectKey)> {
    let space = row.try_get_u32().ok()?;
    let location = Location(row.try_get_u32().ok()?);
    let hash = AspectHash(row.try_into().ok()?);
    Some((space, AspectKey { location, hash }))
}

/// Where a hash that begins with `id` is found.
pub(crate) fn id_key(space: SpaceNumber, key: &AspectKey) -> [u8; ID_KEY] {
    id_row(space, &key.hash, key.location)
}

/// The rows of all hashes that may lie from `first` to `last`.
pub(crate) fn id_range(
    space: SpaceNumber,
    first: &AspectHash,
    last: &AspectHash,
) -> RangeInclusive<[u8; ID_KEY]> {
    id_row(space, first, Location(0))..=id_row(space, last, Location(u32::MAX))
}

fn id_row(space: SpaceNumber, hash: &AspectHash, location: Location) -> [u8; ID_KEY] {
    let mut row = [0; ID_KEY];
    row[..4].copy_from_slice(&space.to_be_bytes());
    row[4..10].copy_from_slice(&hash.0[..6]);
    row[10..].copy_from_slice(&location.0.to_be_bytes());
    row
}

/// Space, the first six bytes of the hash, and the location.
pub(crate) fn parse_id_key(mut row: &[u8]) -> Option<(SpaceNumber, [u8; 6], Location)> {
    let space = row.try_get_u32().ok()?;
    let (id, mut rest) = row.split_first_chunk()?;
    let location = Location(rest.try_get_u32().ok()?);
    rest.is_empty().then_some((space, *id, location))
}

/// What the index knows of an aspect.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Indexed {
    pub(crate) sequence: u64,
    pub(crate) published: Time,
}

impl Indexed {
    pub(crate) fn to_row(self) -> [u8; INDEX_VALUE] {
        let mut row = [0; INDEX_VALUE];
        row[..8].copy_from_slice(&self.sequence.to_be_bytes());
        row[8..].copy_from_slice(&self.published.as_micros().to_be_bytes());
        row
    }

    pub(crate) fn parse(mut row: &[u8]) -> Option<Self> {
        let sequence = row.try_get_u64().ok()?;
        let published = Time::from_micros(row.try_get_u64().ok()?);
        row.is_empty().then_some(Self { sequence, published })
    }
}

pub(crate) fn log_key(space: SpaceNumber, sequence: u64) -> [u8; LOG_KEY] {
    let mut row = [0; LOG_KEY];
    row[..4].copy_from_slice(&space.to_be_bytes());
    row[4..].copy_from_slice(&sequence.to_be_bytes());
    row
}

pub(crate) fn parse_log_key(mut row: &[u8]) -> Option<(SpaceNumber, u64)> {
    let space = row.try_get_u32().ok()?;
    let sequence = row.try_get_u64().ok()?;
    row.is_empty().then_some((space, sequence))
}

/// The kinds of rows in `meta`; the first byte of their keys.
pub(crate) mod meta {
    pub(crate) const SPACE: u8 = b's';
    pub(crate) const PROGRESS: u8 = b'c';
    pub(crate) const EPOCHS: u8 = b'e';
    pub(crate) const PEER: u8 = b'p';
    pub(crate) const SETTING: u8 = b'k';
    pub(crate) const LIMITS: u8 = b'l';
    /// In the place of the record of a space that was deleted.
    pub(crate) const DELETED: u8 = b'd';
}

/// What stands in the row of a deleted space once there is nothing of it any more.
pub(crate) const CLEARED: &[u8] = b"cleared";

pub(crate) fn meta_key(kind: u8, rest: &[u8]) -> Vec<u8> {
    let mut row = Vec::with_capacity(1 + rest.len());
    row.put_u8(kind);
    row.put_slice(rest);
    row
}

pub(crate) fn parse_peer_key(row: &[u8]) -> Option<NodeId> {
    Some(NodeId(row.get(1..)?.try_into().ok()?))
}

/// What is on record about a space besides its aspects.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct SpaceRecord {
    pub(crate) id: SpaceId,
    pub(crate) name: String,
    pub(crate) arcs: Arcs,
}

/// The two arc sets of a space.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Arcs {
    pub(crate) target: ArcSet,
    pub(crate) held: ArcSet,
}

impl SpaceRecord {
    pub(crate) fn to_row(&self) -> Vec<u8> {
        let mut row = Vec::new();
        row.put_slice(&self.id.0);
        put_arcs(&mut row, &self.arcs.target);
        put_arcs(&mut row, &self.arcs.held);
        row.put_slice(self.name.as_bytes());
        row
    }

    pub(crate) fn parse(mut row: &[u8]) -> Option<Self> {
        let mut id = SpaceId([0; 32]);
        row.try_copy_to_slice(&mut id.0).ok()?;
        let arcs = Arcs { target: take_arcs(&mut row)?, held: take_arcs(&mut row)? };
        let name = String::from_utf8(row.to_vec()).ok()?;
        Some(Self { id, name, arcs })
    }
}

fn put_arcs(row: &mut Vec<u8>, arcs: &ArcSet) {
    let spans = arcs.spans();
    row.put_u32(spans.len() as u32);
    for (first, last) in spans {
        row.put_u32(first.0);
        row.put_u32(last.0);
    }
}

fn take_arcs(row: &mut &[u8]) -> Option<ArcSet> {
    let count = row.try_get_u32().ok()?;
    let mut span = || {
        let (first, last) = (row.try_get_u32().ok()?, row.try_get_u32().ok()?);
        (first <= last).then_some((first, last))
    };
    (0..count).map(|_| span()).collect()
}

/// How much a space may hold.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Limits {
    /// Bytes of the canonical encodings together; `None` for any number. Index and logs of the store
    /// take some 100 bytes an aspect besides.
    pub max_bytes: Option<u64>,
    /// How long after its publish time an aspect is kept; `None` for ever. All nodes of a space should
    /// have the same: see [`Space::expire`](crate::Space::expire).
    pub max_age: Option<Duration>,
}

impl Limits {
    pub(crate) fn to_row(self) -> [u8; 16] {
        let bytes = self.max_bytes.unwrap_or(u64::MAX);
        let age =
            self.max_age.map_or(u64::MAX, |age| age.as_micros().try_into().unwrap_or(u64::MAX));
        let mut row = [0; 16];
        row[..8].copy_from_slice(&bytes.to_be_bytes());
        row[8..].copy_from_slice(&age.to_be_bytes());
        row
    }

    pub(crate) fn parse(mut row: &[u8]) -> Option<Self> {
        let mut number = || Some(Some(row.try_get_u64().ok()?).filter(|n| *n < u64::MAX));
        let (max_bytes, age) = (number()?, number()?);
        let limits = Self { max_bytes, max_age: age.map(Duration::from_micros) };
        row.is_empty().then_some(limits)
    }
}

/// How much a space has stored, and what it has come through.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Progress {
    /// The last sequence number. Each aspect that is stored gets one, from 1 on, and so does each that
    /// is removed.
    pub(crate) sequence: u64,
    /// Aspects that are held.
    pub(crate) count: u64,
    /// The sum of the lengths of their encodings.
    pub(crate) bytes: u64,
    /// The sequence number of the last removal; 0 where nothing was ever removed.
    pub(crate) removed: u64,
}

impl Progress {
    pub(crate) fn to_row(self) -> [u8; 32] {
        let mut row = [0; 32];
        let numbers = [self.sequence, self.count, self.bytes, self.removed];
        let (parts, _) = row.as_chunks_mut::<8>();
        parts.iter_mut().zip(numbers).for_each(|(part, number)| *part = number.to_be_bytes());
        row
    }

    /// In a store of format 1 nothing was ever removed, and its rows are shorter.
    pub(crate) fn parse(mut row: &[u8]) -> Option<Self> {
        if row.len() == 16 {
            let (count, bytes) = (row.get_u64(), row.get_u64());
            return Some(Self { sequence: count, count, bytes, removed: 0 });
        }
        let mut number = || row.try_get_u64().ok();
        let progress =
            Self { sequence: number()?, count: number()?, bytes: number()?, removed: number()? };
        row.is_empty().then_some(progress)
    }
}

/// In the log, the removal of an aspect.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Removal {
    pub(crate) key: AspectKey,
    /// The sequence number that the aspect had.
    pub(crate) sequence: u64,
}

impl Removal {
    /// What such a row begins with, and no encoding of an aspect does.
    const FORM: u8 = 0xff;

    pub(crate) fn to_row(self) -> Vec<u8> {
        let mut row = vec![Self::FORM];
        row.put_u32(self.key.location.0);
        row.put_slice(&self.key.hash.0);
        row.put_u64(self.sequence);
        row
    }

    /// `None` for everything else.
    pub(crate) fn parse(mut row: &[u8]) -> Option<Self> {
        if row.try_get_u8().ok()? != Self::FORM {
            return None;
        }
        let location = Location(row.try_get_u32().ok()?);
        let mut hash = AspectHash([0; 32]);
        row.try_copy_to_slice(&mut hash.0).ok()?;
        let sequence = row.try_get_u64().ok()?;
        row.is_empty().then_some(Self { key: AspectKey { location, hash }, sequence })
    }
}

/// A stretch of a space's history: from one opening of the store to the next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Epoch {
    /// Random, and so unique.
    pub(crate) name: u64,
    /// The last sequence number when it began.
    pub(crate) start: u64,
}

pub(crate) fn epochs_row(epochs: &[Epoch]) -> Vec<u8> {
    let mut row = Vec::with_capacity(16 * epochs.len());
    for epoch in epochs {
        row.put_u64(epoch.name);
        row.put_u64(epoch.start);
    }
    row
}

pub(crate) fn parse_epochs(mut row: &[u8]) -> Option<Vec<Epoch>> {
    let mut epochs = Vec::with_capacity(row.len() / 16);
    while !row.is_empty() {
        epochs.push(Epoch { name: row.try_get_u64().ok()?, start: row.try_get_u64().ok()? });
    }
    Some(epochs)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn any_arcs() -> impl Strategy<Value = ArcSet> {
        proptest::collection::vec(any::<(u32, u32)>(), 0..5).prop_map(|spans| {
            spans.into_iter().map(|(a, b)| (a.min(b), a.max(b))).collect::<ArcSet>()
        })
    }

    proptest! {
        #[test]
        fn keys_round_trip_and_sort(a in any::<(u32, u32, [u8; 32])>(), b in any::<(u32, u32, [u8; 32])>()) {
            let key = |(space, location, hash)| {
                (space, AspectKey { location: Location(location), hash: AspectHash(hash) })
            };
            let (a, b) = (key(a), key(b));
            let (row_a, row_b) = (index_key(a.0, &a.1), index_key(b.0, &b.1));
            prop_assert_eq!(parse_index_key(&row_a), Some(a));
            prop_assert_eq!(row_a.cmp(&row_b), a.cmp(&b));
            prop_assert_eq!(parse_index_key(&row_a[1..]), None);
        }

        #[test]
        fn log_keys_round_trip_and_sort(a in any::<(u32, u64)>(), b in any::<(u32, u64)>()) {
            let (row_a, row_b) = (log_key(a.0, a.1), log_key(b.0, b.1));
            prop_assert_eq!(parse_log_key(&row_a), Some(a));
            prop_assert_eq!(row_a.cmp(&row_b), a.cmp(&b));
        }

        #[test]
        fn records_round_trip(id in any::<[u8; 32]>(), name in ".*", target in any_arcs(), held in any_arcs()) {
            let record = SpaceRecord { id: SpaceId(id), name, arcs: Arcs { target, held } };
            prop_assert_eq!(SpaceRecord::parse(&record.to_row()), Some(record));
        }

        #[test]
        fn limits_round_trip(bytes in any::<Option<u64>>(), age in any::<Option<u32>>()) {
            let max_age = age.map(|age| Duration::from_micros(age.into()));
            let limits = Limits { max_bytes: bytes.filter(|bytes| *bytes < u64::MAX), max_age };
            prop_assert_eq!(Limits::parse(&limits.to_row()), Some(limits));
        }

        #[test]
        fn progress_and_removals_round_trip(numbers in any::<[u64; 4]>(), location in any::<u32>(), hash in any::<[u8; 32]>()) {
            let [sequence, count, bytes, removed] = numbers;
            let progress = Progress { sequence, count, bytes, removed };
            prop_assert_eq!(Progress::parse(&progress.to_row()), Some(progress));
            let key = AspectKey { location: Location(location), hash: AspectHash(hash) };
            let removal = Removal { key, sequence };
            prop_assert_eq!(Removal::parse(&removal.to_row()), Some(removal));
            let (id, range) = (id_key(7, &key), id_range(7, &key.hash, &key.hash));
            prop_assert!(range.contains(&id));
            prop_assert_eq!(parse_id_key(&id).map(|(space, _, at)| (space, at)), Some((7, key.location)));
        }

        #[test]
        fn parsing_never_panics(row in proptest::collection::vec(any::<u8>(), 0..100)) {
            let _ = (parse_index_key(&row), parse_log_key(&row), parse_epochs(&row));
            let _ = (SpaceRecord::parse(&row), Indexed::parse(&row), Progress::parse(&row));
            let _ = (Removal::parse(&row), parse_id_key(&row), Limits::parse(&row));
        }
    }
}
