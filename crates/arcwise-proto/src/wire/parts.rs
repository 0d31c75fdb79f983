//! The parts that several messages share.

use bytes::{Bytes, BytesMut};

use super::{WireError, field, pb};
use crate::{
    aspect::{Aspect, AspectKey},
    id::AspectHash,
    limits::{MAX_ARCS, MAX_TEXT, PAGE_KEYS},
    ring::{ArcSet, Location, RingArc},
    session::Position,
};

pub(super) fn array<const N: usize>(
    name: &'static str,
    bytes: &[u8],
) -> Result<[u8; N], WireError> {
    bytes.try_into().map_err(|_| field(name, "has the wrong length"))
}

/// Text without control characters: whatever a peer writes may end up on a terminal.
pub(super) fn printable(text: &str) -> String {
    text.chars().filter(|c| !c.is_control()).collect()
}

/// The beginning of a text that is too long for a frame.
pub(super) fn cut(text: &str) -> String {
    text[..text.floor_char_boundary(MAX_TEXT)].to_owned()
}

pub(super) fn arcs(name: &'static str, raw: Option<pb::ArcSet>) -> Result<ArcSet, WireError> {
    let raw = raw.ok_or(field(name, "is missing"))?;
    if raw.arcs.len() > MAX_ARCS {
        return Err(field(name, "has more than 64 arcs"));
    }
    raw.arcs.iter().map(|a| Ok(RingArc::new(Location(a.start), a.len)?)).collect()
}

/// At most [`MAX_ARCS`] arcs; of a set with more, the longest ones: whoever claims less than it
/// holds claims nothing false.
pub(super) fn raw_arcs(set: &ArcSet) -> Option<pb::ArcSet> {
    let arcs = set.longest(MAX_ARCS).arcs();
    let arcs = arcs.into_iter().map(|a| pb::Arc { start: a.start().0, len: a.len() }).collect();
    Some(pb::ArcSet { arcs })
}

pub(super) fn position(raw: pb::Position) -> Position {
    Position { epoch: raw.epoch, count: raw.count }
}

pub(super) fn raw_position(position: Position) -> pb::Position {
    pb::Position { epoch: position.epoch, count: position.count }
}

/// Keys in strictly ascending order, at most [`PAGE_KEYS`] of them.
pub(super) fn keys(
    name: &'static str,
    groups: Vec<pb::HashGroup>,
) -> Result<Vec<AspectKey>, WireError> {
    let bytes: usize = groups.iter().map(|g| g.hashes.len()).sum();
    if bytes > PAGE_KEYS * 32 {
        return Err(field(name, "has more than 1024 hashes"));
    }
    let mut keys: Vec<AspectKey> = Vec::with_capacity(bytes / 32);
    for group in groups {
        let location = Location(group.location);
        if group.hashes.is_empty() || group.hashes.len() % 32 != 0 {
            return Err(field(name, "has a group that is not one or more hashes of 32 bytes"));
        }
        if keys.last().is_some_and(|last| last.location >= location) {
            return Err(field(name, "has groups that do not ascend"));
        }
        for hash in group.hashes.chunks_exact(32) {
            let key = AspectKey { location, hash: AspectHash(array(name, hash)?) };
            if keys.last().is_some_and(|last| *last >= key) {
                return Err(field(name, "has hashes that do not ascend"));
            }
            keys.push(key);
        }
    }
    Ok(keys)
}

/// Groups strictly ascending keys by location.
pub(super) fn raw_keys(keys: &[AspectKey]) -> Vec<pb::HashGroup> {
    debug_assert!(keys.is_sorted() && keys.len() <= PAGE_KEYS);
    keys.chunk_by(|a, b| a.location == b.location)
        .map(|group| {
            let mut hashes = BytesMut::with_capacity(group.len() * 32);
            group.iter().for_each(|key| hashes.extend_from_slice(key.hash.as_bytes()));
            pb::HashGroup { location: group[0].location.0, hashes: hashes.freeze() }
        })
        .collect()
}

pub(super) fn aspects(raw: Vec<Bytes>) -> Result<Vec<Aspect>, WireError> {
    raw.into_iter().map(|encoding| Ok(Aspect::decode(encoding)?)).collect()
}

pub(super) fn raw_aspects(aspects: &[Aspect]) -> Vec<Bytes> {
    aspects.iter().map(|aspect| aspect.encoding().clone()).collect()
}
