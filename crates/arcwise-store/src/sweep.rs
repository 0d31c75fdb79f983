//! Giving room back: removing what a space is not to keep, and spaces as a whole.
//!
//! Both go on in steps, each a batch of its own, so that inserts and reads go on in between. Where a
//! step has returned, what it removed is gone for good; the files shrink when the engine has compacted
//! them: see [`Store::compact`].

use std::{collections::BTreeMap, sync::atomic::Ordering};

use arcwise_proto::{ArcSet, AspectKey, SpaceId, Time};
use fjall::Readable;

use crate::{
    Space, Store, StoreError,
    commit::Change,
    ids,
    rows::{self, Indexed, SpaceNumber, meta},
    store::{Inner, lock},
};

/// Index rows that a step looks at, and aspects that it removes, at most. Guesses: a step takes some
/// ten milliseconds.
const STEP_ROWS: usize = 1 << 16;
const STEP_REMOVALS: usize = 1 << 10;

/// What a space is to keep of what it holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Keep {
    /// Only what is in here.
    pub arcs: ArcSet,
    /// Only what was published at this time or later.
    pub published_since: Time,
    /// And in any case what was stored after this local sequence number.
    pub stored_after: u64,
}

/// What a step of [`Space::sweep`] did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Swept {
    /// Aspects removed.
    pub removed: u64,
    /// Where to go on; `None` after the last step.
    pub next: Option<AspectKey>,
}

impl Space {
    /// A step of going through what is held, from `from` on in the order of keys, and removing what is
    /// not to be kept. The first step is from [`AspectKey::MIN`].
    ///
    /// The caller sees to it that [`Space::held`] does not claim what is removed.
    ///
    /// # Errors
    /// As [`Space::remove`], and where the index cannot be read.
    pub fn sweep(&self, from: AspectKey, keep: &Keep) -> Result<Swept, StoreError> {
        let snapshot = self.store.engine.db.snapshot();
        let (mut keys, mut next, mut looked_at) = (Vec::new(), None, 0);
        for row in self.index_rows(&snapshot, from, AspectKey::MAX) {
            let (key, indexed) = row?;
            if looked_at == STEP_ROWS || keys.len() == STEP_REMOVALS {
                next = Some(key);
                break;
            }
            looked_at += 1;
            let kept = keep.arcs.contains(key.location)
                && indexed.published >= keep.published_since
                || indexed.sequence > keep.stored_after;
            if !kept {
                keys.push(key);
            }
        }
        drop(snapshot);
        let held = self.remove(&keys)?;
        Ok(Swept { removed: held.iter().filter(|held| **held).count() as u64, next })
    }
}

impl Store {
    /// Deletes a space with all that it holds. It is gone when this returns, for good; handles to it fail
    /// to write, and find less and less. Its rows stay until [`Store::clear`] has removed them.
    ///
    /// # Errors
    /// [`StoreError::SpaceDeleted`] where there is no such space, or [`StoreError::Engine`].
    pub fn delete_space(&self, id: &SpaceId) -> Result<(), StoreError> {
        let _one_at_a_time = lock(&self.inner().records);
        let space = self.space(id).ok_or(StoreError::SpaceDeleted(*id))?;
        let inner = space.store.clone();
        inner.change(space.state.clone(), Change::Delete).map(drop)
    }

    /// A step of removing what is left of deleted spaces; false where there is nothing any more. To be
    /// gone on with after reopening, too.
    ///
    /// # Errors
    /// [`StoreError::Engine`].
    pub fn clear(&self) -> Result<bool, StoreError> {
        let first = self.inner().spaces_mut().clearing.keys().next().copied();
        match first {
            Some(number) => self.inner().clear(number).map(|()| true),
            None => Ok(false),
        }
    }
}

impl Inner {
    /// Deletes the space. Only for the one that leads.
    pub(crate) fn commit_deletion(&self, space: &crate::space::State) -> Result<(), StoreError> {
        space.check_not_deleted()?;
        // Nothing of it may be written after this, not by a checkpoint either.
        self.abandon_checkpoints(space);
        let of_space = |kind| rows::meta_key(kind, &space.number.to_be_bytes());
        let mut batch = self.synced_batch(5);
        for kind in [meta::SPACE, meta::PROGRESS, meta::EPOCHS, meta::LIMITS] {
            batch.remove(&self.engine.meta, of_space(kind));
        }
        batch.insert(&self.engine.meta, of_space(meta::DELETED), &[][..]);
        batch.commit()?;
        space.deleted.store(true, Ordering::Release);
        let mut spaces = self.spaces_mut();
        spaces.states.retain(|state| state.number != space.number);
        spaces.clearing.insert(space.number, Cleared::Index(Vec::new()));
        Ok(())
    }

    /// Removes some of the rows of a deleted space, or says that it is cleared.
    fn clear(&self, number: SpaceNumber) -> Result<(), StoreError> {
        let Some(cleared) = self.spaces_mut().clearing.get(&number).cloned() else { return Ok(()) };
        let engine = &self.engine;
        let snapshot = engine.db.snapshot();
        let mut batch = self.synced_batch(2 * STEP_REMOVALS);
        let next = match cleared {
            // With each row of the index its row of the log.
            Cleared::Index(after) => {
                let rows = space_rows(&snapshot, &engine.index, number, after);
                let mut last = None;
                for row in rows.take(STEP_REMOVALS) {
                    let (key, value) = row.into_inner()?;
                    if let Some(Indexed { sequence, .. }) = Indexed::parse(&value) {
                        batch.remove(&engine.log, rows::log_key(number, sequence));
                    }
                    last = Some(key.to_vec());
                    batch.remove(&engine.index, key);
                }
                last.map_or(Cleared::Log(Vec::new()), Cleared::Index)
            }
            Cleared::Log(after) => {
                let mut last = None;
                for row in space_rows(&snapshot, &engine.log, number, after).take(STEP_REMOVALS) {
                    let key = row.key()?;
                    last = Some(key.to_vec());
                    batch.remove(&engine.log, key);
                }
                last.map_or(Cleared::Ids(Vec::new()), Cleared::Log)
            }
            Cleared::Ids(after) => {
                let (mut gone, mut last) = (BTreeMap::new(), None);
                for row in space_rows(&snapshot, &engine.ids, number, after).take(STEP_ROWS) {
                    let key = row.key()?;
                    last = Some(key.to_vec());
                    gone.extend(<[u8; rows::ID_KEY]>::try_from(&key[..]).ok().zip(Some(false)));
                }
                ids::ingest(&engine.ids, &gone)?;
                match last {
                    Some(last) => Cleared::Ids(last),
                    None => {
                        let row = rows::meta_key(meta::DELETED, &number.to_be_bytes());
                        self.put_meta(row, rows::CLEARED)?;
                        self.spaces_mut().set_cleared(number);
                        return Ok(());
                    }
                }
            }
        };
        batch.commit()?;
        self.spaces_mut().clearing.insert(number, next);
        Ok(())
    }
}

/// How far a deleted space is cleared: up to this key of this keyspace, and nothing yet where the key is
/// empty. What was removed is slow to pass over, so no step begins before it.
#[derive(Clone, Debug)]
pub(crate) enum Cleared {
    Index(Vec<u8>),
    Log(Vec<u8>),
    Ids(Vec<u8>),
}

/// The rows of a space in a keyspace, after this key.
fn space_rows(
    snapshot: &fjall::Snapshot,
    keyspace: &fjall::Keyspace,
    number: SpaceNumber,
    after: Vec<u8>,
) -> fjall::Iter {
    let first = match after.is_empty() {
        true => number.to_be_bytes().to_vec(),
        false => [after, vec![0]].concat(),
    };
    // All keys have fewer bytes.
    let last = [&number.to_be_bytes()[..], &[0xff; rows::INDEX_KEY]].concat();
    snapshot.range(keyspace, first..=last)
}
