//! Files and folders in a space, and back.
//!
//! # The format
//!
//! Enough is said here to write another implementation. Messages are Protocol Buffers (proto3),
//! encoded with their fields in order of number, fields of default value left out, and nothing that
//! is not listed. Hashes are BLAKE3.
//!
//! ## Objects
//!
//! An *object* is a string of at most 1 MiB (`MAX_ASPECT_DATA`), kept as the data of an unsigned
//! aspect about the entry whose address is the plain hash of that string. The aspect's kind says
//! what it is meant as:
//!
//! | kind | name | data |
//! |---|---|---|
//! | `0x41574601` | [`CHUNK`] | a piece of content |
//! | `0x41574602` | [`INDEX`] | addresses of 32 bytes, one after the other |
//! | `0x41574603` | [`ITEM`] | an `Item` message |
//! | `0x41574604` | [`ROOT`] | a `Root` message; signed, and not an object: see *Catalog* |
//!
//! Anybody can attach anything to an entry. A reader takes an aspect of the entry whose kind is the
//! one it looks for and whose data hashes to the address, whatever its author and time, and
//! passes over all others; a writer counts an object as present only where a reader would find it.
//!
//! ## Blobs
//!
//! A *blob* is a string of any length: what a file holds, or a folder's listing.
//!
//! ```proto
//! message Blob { bytes root = 1; uint32 depth = 2; uint64 length = 3; }
//! ```
//!
//! Where `depth` is 0, `root` is the address of a chunk, which is the whole blob. Else `root` is the
//! address of an index, which names 1 to 32,768 nodes of depth − 1; their content in this order
//! is the blob. `depth` is at most 8, `length` the number of bytes, and no chunk is empty but the
//! one of the empty blob.
//!
//! A writer cuts a blob with FastCDC as of 2020 (gear table of the `fastcdc` crate, no seed,
//! normalization level 1; at least 64 KiB, 256 KiB on average, at most 1 MiB, but for a shorter
//! end) and fills indexes from the left, so that the tree is as low as can be. A reader does not
//! depend on where a blob was cut, but only blobs that are cut alike share their chunks.
//!
//! ## Items
//!
//! ```proto
//! message Item    { oneof content { File file = 1; Folder folder = 2; } }
//! message File    { Blob content = 1; bool executable = 2; }
//! message Folder  { Blob listing = 1; uint64 files = 2; uint64 folders = 3; uint64 links = 4; uint64 bytes = 5; }
//! message Listing { repeated Entry entries = 1; }
//! message Entry   { bytes name = 1; oneof what { Item item = 2; bytes link = 3; } }
//! ```
//!
//! An `Item` is a file or a folder without its name. The address of its encoding, which is kept as an
//! object, is what a person passes on; the same content has the same address under any name.
//!
//! A folder's `listing` is a blob of at most 256 MiB that holds a `Listing`. Its entries are in
//! ascending order of the bytes of their names, and no name is there twice. A name has 1 to 1024
//! bytes, none of them `/` or NUL, and is neither `.` nor `..`; it is meant as UTF-8, but any bytes
//! a file system allows are kept. An entry is an item, or a symbolic link with its target: 1 to
//! 4096 bytes without NUL, which need not lead anywhere. The four numbers count what lies
//! below the folder at any depth (`bytes`: of files), so a folder inside adds its own numbers and
//! one folder. Folders nest at most 512 deep. A reader checks all of this as it goes, so that the
//! work a folder can cause is bounded by the numbers in its item.
//!
//! ## Catalog
//!
//! ```proto
//! message Root { bytes name = 1; bytes item = 2; }
//! ```
//!
//! Who puts an item into a space publishes a signed aspect of kind [`ROOT`] about the entry
//! `derive_key("arcwise files catalog", "")`: the item's name, and its exact encoding, of which the
//! hash is its address. It comes last, when all that it leads to is stored. Readers pass over
//! records that are unsigned or break the format.

mod batch;
mod blob;
mod catalog;
mod cut;
mod error;
mod get;
mod listing;
mod name;
mod put;
mod record;
mod staging;
#[cfg(test)]
mod tests;

use std::fmt;

use arcwise_proto::{Aspect, EntryAddress};
use bytes::Bytes;

pub(crate) use self::{
    catalog::{Listed, MIN_PREFIX, list, resolve},
    error::Error,
    get::{cat, get, name_for},
    listing::{entry_at, list_folder},
    name::{Name, printable, printable_path},
    put::{Put, SkipReason, put, put_reader},
    record::{Entry, Item, Node, Totals},
    staging::StagedFile,
};

// The letters AWF and a number, out of the way of other applications' kinds in the same space.

/// The kind of an object that is a piece of content.
pub(crate) const CHUNK: u32 = 0x4157_4601;
/// The kind of an object that lists the addresses of others.
pub(crate) const INDEX: u32 = 0x4157_4602;
/// The kind of an object that describes a file or a folder.
pub(crate) const ITEM: u32 = 0x4157_4603;
/// The kind of an aspect that records an item in the catalog.
pub(crate) const ROOT: u32 = 0x4157_4604;

/// Bytes of an address.
const ADDRESS: usize = 32;

/// Deepest nesting of folders. A guess: far above what people have, and low enough that paths on
/// disk keep within the limits of systems.
pub(crate) const MAX_FOLDER_DEPTH: usize = 512;

/// Longest listing of a folder, in bytes: some two million entries. A guess at more than anybody
/// has.
pub(crate) const MAX_LISTING: u64 = 256 << 20;

/// Where objects go to and come from.
///
/// What it returns has been verified as aspects are (their hashes and signatures); that an object
/// is the content it is named after is checked here.
pub(crate) trait Objects {
    /// Why the node could not do it.
    type Error: std::error::Error + Send + Sync + 'static;

    /// Stores the aspects, published now; returns when they are durable.
    fn put(&self, aspects: Vec<NewAspect>) -> Result<(), Self::Error>;

    /// All aspects of an entry.
    fn entry(&self, entry: &EntryAddress) -> Result<Vec<Aspect>, Self::Error>;

    /// The objects that can be had, each in the place of its name.
    fn read(&self, names: &[ObjectName]) -> Result<Vec<Option<Aspect>>, Self::Error> {
        let find = |name: &ObjectName| {
            Ok(self.entry(&name.address)?.into_iter().find(|aspect| name.is(aspect)))
        };
        names.iter().map(find).collect()
    }

    /// Those of the objects that are not held. One is held where an aspect of its entry satisfies
    /// [`ObjectName::is`]; that the entry holds something is not enough, or a stranger who attaches
    /// anything to the entry of well-known content would keep others from ever storing it.
    fn missing(&self, objects: &[ObjectName]) -> Result<Vec<ObjectName>, Self::Error>;
}

/// What to store. The node sets the time, and signs with its own key where `signed`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct NewAspect {
    pub(crate) entry: EntryAddress,
    pub(crate) kind: u32,
    pub(crate) data: Bytes,
    pub(crate) signed: bool,
}

/// Names an object: the hash of its content, and what the content is meant as.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct ObjectName {
    pub(crate) address: EntryAddress,
    pub(crate) kind: u32,
}

impl ObjectName {
    /// Whether the aspect carries this object.
    pub(crate) fn is(&self, aspect: &Aspect) -> bool {
        aspect.entry() == self.address
            && aspect.kind() == self.kind
            && address_of(&aspect.data()) == self.address
    }
}

impl fmt::Display for ObjectName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kind = match self.kind {
            CHUNK => "the piece of content",
            INDEX => "the index",
            ITEM => "the file or folder",
            _ => "the object",
        };
        write!(f, "{kind} {}", self.address)
    }
}

/// How far a put or a restore has come.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Progress {
    pub(crate) done: Totals,
    /// What there is to do, as soon as it is known.
    pub(crate) total: Option<Totals>,
}

/// The address of an object.
fn address_of(data: &[u8]) -> EntryAddress {
    EntryAddress(blake3::hash(data).into())
}

/// The content of an object.
fn fetch<O: Objects>(objects: &O, address: EntryAddress, kind: u32) -> Result<Bytes, Error> {
    let name = ObjectName { address, kind };
    content_of(name, objects.read(&[name]).map_err(Error::node)?.pop().flatten())
}

/// What an aspect carries that was read as this object.
fn content_of(name: ObjectName, aspect: Option<Aspect>) -> Result<Bytes, Error> {
    match aspect.filter(|aspect| name.is(aspect)) {
        Some(aspect) => Ok(aspect.data()),
        None => Err(Error::Missing(name)),
    }
}
