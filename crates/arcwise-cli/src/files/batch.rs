//! Gathers new objects, so that the node is asked once for many of them.

use std::collections::HashSet;

use arcwise_proto::EntryAddress;
use bytes::Bytes;

use super::{NewAspect, ObjectName, Objects, address_of, error::Error};

/// Most data in one batch, in bytes. A guess: the cost per request vanishes, and memory stays small.
pub(super) const BATCH_BYTES: usize = 4 << 20;

/// Most objects in one batch, likewise.
pub(super) const BATCH_OBJECTS: usize = 1024;

/// Objects on their way to the node.
pub(super) struct Batch<'a, O> {
    objects: &'a O,
    waiting: Vec<(ObjectName, Bytes)>,
    names: HashSet<ObjectName>,
    bytes: usize,
    stored: Stored,
}

/// What the node did not have yet.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Stored {
    pub(super) objects: u64,
    pub(super) bytes: u64,
}

impl<'a, O: Objects> Batch<'a, O> {
    pub(super) fn new(objects: &'a O) -> Self {
        Self {
            objects,
            waiting: Vec::new(),
            names: HashSet::new(),
            bytes: 0,
            stored: Stored::default(),
        }
    }

    /// Adds an object of at most `MAX_ASPECT_DATA` bytes. It is stored once the batch is full, or
    /// flushed.
    pub(super) fn add(&mut self, kind: u32, data: &[u8]) -> Result<EntryAddress, Error> {
        let name = ObjectName { address: address_of(data), kind };
        if self.names.contains(&name) {
            return Ok(name.address);
        }
        if self.bytes + data.len() > BATCH_BYTES || self.waiting.len() == BATCH_OBJECTS {
            self.flush()?;
        }
        self.names.insert(name);
        self.bytes += data.len();
        self.waiting.push((name, Bytes::copy_from_slice(data)));
        Ok(name.address)
    }

    /// Returns when all that was added is durable.
    pub(super) fn flush(&mut self) -> Result<(), Error> {
        if self.waiting.is_empty() {
            return Ok(());
        }
        let asked: Vec<_> = self.waiting.iter().map(|&(name, _)| name).collect();
        let missing = self.objects.missing(&asked).map_err(Error::node)?;
        let missing: HashSet<_> = missing.into_iter().collect();
        let new: Vec<_> = self
            .waiting
            .drain(..)
            .filter(|(name, _)| missing.contains(name))
            .map(|(ObjectName { address, kind }, data)| NewAspect {
                entry: address,
                kind,
                data,
                signed: false,
            })
            .collect();
        self.names.clear();
        self.bytes = 0;
        if new.is_empty() {
            return Ok(());
        }
        let (objects, bytes) = (new.len(), new.iter().map(|new| new.data.len()).sum::<usize>());
        self.objects.put(new).map_err(Error::node)?;
        self.stored.objects += objects as u64;
        self.stored.bytes += bytes as u64;
        Ok(())
    }

    /// Stores what is left and then `record`, which speaks of what was added: it must never be
    /// there before that is.
    pub(super) fn finish(mut self, record: NewAspect) -> Result<Stored, Error> {
        self.flush()?;
        self.objects.put(vec![record]).map_err(Error::node)?;
        Ok(self.stored)
    }
}
