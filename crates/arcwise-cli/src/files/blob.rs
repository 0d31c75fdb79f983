//! Blobs: a stream of bytes as a tree of objects, and back.

use std::{
    collections::VecDeque,
    io::{self, Read},
};

use arcwise_proto::{Aspect, EntryAddress};
use bytes::Bytes;

use super::{
    ADDRESS, CHUNK, INDEX, ObjectName, Objects,
    batch::Batch,
    content_of,
    cut::{Cutter, Sizes},
    error::{Error, Flaw},
    fetch,
    record::Blob,
};

/// Stores one blob after another, with one buffer for all of them.
pub(super) struct BlobWriter<'a, O> {
    pub(super) batch: Batch<'a, O>,
    cutter: Cutter,
}

impl<'a, O: Objects> BlobWriter<'a, O> {
    pub(super) fn new(objects: &'a O, sizes: Sizes) -> Self {
        Self { batch: Batch::new(objects), cutter: Cutter::new(sizes) }
    }

    /// Cuts and stores all of `source`; what is read of it is told to `read`. Memory does not grow
    /// with its length.
    pub(super) fn store(
        &mut self,
        source: &mut impl Read,
        mut read: impl FnMut(u64),
        source_failed: impl FnOnce(io::Error) -> Error,
    ) -> Result<Blob, Error> {
        let mut tree = Tree { fanout: self.cutter.sizes().fanout, levels: Vec::new() };
        let mut length = 0;
        self.cutter.reset();
        loop {
            let chunk = match self.cutter.next(source) {
                Ok(Some(chunk)) => chunk,
                Ok(None) => break,
                Err(error) => return Err(source_failed(error)),
            };
            let address = self.batch.add(CHUNK, chunk)?;
            tree.push(address, &mut self.batch)?;
            length += chunk.len() as u64;
            read(chunk.len() as u64);
        }
        if length == 0 {
            let root = self.batch.add(CHUNK, &[])?;
            return Ok(Blob { root, depth: 0, length });
        }
        let (root, depth) = tree.finish(&mut self.batch)?;
        Ok(Blob { root, depth, length })
    }
}

/// A tree that grows from its leaves, in order.
struct Tree {
    fanout: usize,
    /// Per level the addresses that no index names yet, concatenated. A full level is written out
    /// when one more address comes, so each level below the last holds at least one, and a tree is
    /// never deeper than it must be.
    levels: Vec<Vec<u8>>,
}

impl Tree {
    fn push<O: Objects>(
        &mut self,
        leaf: EntryAddress,
        batch: &mut Batch<'_, O>,
    ) -> Result<(), Error> {
        self.push_at(0, leaf, batch)
    }

    fn push_at<O: Objects>(
        &mut self,
        mut level: usize,
        mut address: EntryAddress,
        batch: &mut Batch<'_, O>,
    ) -> Result<(), Error> {
        loop {
            if level == self.levels.len() {
                self.levels.push(Vec::new());
            }
            let open = &mut self.levels[level];
            if open.len() < self.fanout * ADDRESS {
                open.extend_from_slice(address.as_bytes());
                return Ok(());
            }
            let index = batch.add(INDEX, open)?;
            open.clear();
            open.extend_from_slice(address.as_bytes());
            (level, address) = (level + 1, index);
        }
    }

    /// The root and its depth. There must have been a leaf.
    fn finish<O: Objects>(
        mut self,
        batch: &mut Batch<'_, O>,
    ) -> Result<(EntryAddress, u32), Error> {
        let mut level = 0;
        loop {
            let open = std::mem::take(&mut self.levels[level]);
            let last = level + 1 == self.levels.len();
            if last && let Ok(root) = <[u8; ADDRESS]>::try_from(&open[..]) {
                return Ok((EntryAddress(root), level as u32));
            }
            let index = batch.add(INDEX, &open)?;
            self.push_at(level + 1, index, batch)?;
            level += 1;
        }
    }
}

/// Chunks that are read at a time: they are fetched from a peer at the same time where they are not
/// held here, and so much memory is needed.
const AHEAD: usize = 8;

/// Reads a blob chunk by chunk. Every chunk it hands out was checked against its address, and all
/// together are as long as was announced.
pub(super) struct BlobReader<'a, O> {
    objects: &'a O,
    blob: Blob,
    /// Bytes that are still to come.
    left: u64,
    /// The addresses still to visit, one level below the other: first the root alone, then those of
    /// the indexes on the way to the next chunk.
    path: Vec<Bytes>,
    /// The next chunks, as they were read.
    ahead: VecDeque<(ObjectName, Option<Aspect>)>,
}

impl<'a, O: Objects> BlobReader<'a, O> {
    pub(super) fn new(objects: &'a O, blob: Blob) -> Self {
        let root = Bytes::copy_from_slice(blob.root.as_bytes());
        Self { objects, blob, left: blob.length, path: vec![root], ahead: VecDeque::new() }
    }

    /// The next chunk; `None` after the last. Each chunk but that of the empty blob has a byte at
    /// least, so a tree that names the same node again and again ends with the announced length.
    pub(super) fn next(&mut self) -> Result<Option<Bytes>, Error> {
        loop {
            if let Some((name, chunk)) = self.ahead.pop_front() {
                return self.checked(content_of(name, chunk)?).map(Some);
            }
            let at_chunks = self.path.len() > self.blob.depth as usize;
            let Some(level) = self.path.last_mut() else {
                return match self.left {
                    0 => Ok(None),
                    _ => Err(self.flaw(Flaw::Length { declared: self.blob.length, more: false })),
                };
            };
            if level.is_empty() {
                self.path.pop();
                continue;
            }
            if at_chunks {
                let chunks = level.split_to(level.len().min(AHEAD * ADDRESS));
                let name = |bytes: &[u8]| ObjectName { address: address_from(bytes), kind: CHUNK };
                let names: Vec<_> = chunks.chunks(ADDRESS).map(name).collect();
                let chunks = self.objects.read(&names).map_err(Error::node)?;
                self.ahead.extend(names.into_iter().zip(chunks));
                continue;
            }
            let address = address_from(&level.split_to(ADDRESS));
            let index = fetch(self.objects, address, INDEX)?;
            if index.is_empty() || index.len() % ADDRESS != 0 {
                return Err(self.flaw(Flaw::IndexLength(index.len())));
            }
            self.path.push(index);
        }
    }

    /// The content of a blob without indexes, whose one chunk was read already.
    pub(super) fn whole(mut self, chunk: Bytes) -> Result<Bytes, Error> {
        let chunk = self.checked(chunk)?;
        match self.left {
            0 => Ok(chunk),
            _ => Err(self.flaw(Flaw::Length { declared: self.blob.length, more: false })),
        }
    }

    fn checked(&mut self, chunk: Bytes) -> Result<Bytes, Error> {
        if chunk.is_empty() && (self.blob.depth, self.blob.length) != (0, 0) {
            return Err(self.flaw(Flaw::EmptyChunk));
        }
        match self.left.checked_sub(chunk.len() as u64) {
            Some(left) => self.left = left,
            None => {
                return Err(self.flaw(Flaw::Length { declared: self.blob.length, more: true }));
            }
        }
        Ok(chunk)
    }

    fn flaw(&self, flaw: Flaw) -> Error {
        flaw.of(self.blob.root)
    }
}

/// An address out of an index.
fn address_from(bytes: &[u8]) -> EntryAddress {
    let mut address = [0; ADDRESS];
    address.copy_from_slice(bytes);
    EntryAddress(address)
}
