//! The records of the format and their protobuf encoding.
//!
//! What arrives is decoded into [`wire`] and parsed into the types below, which hold only what the
//! format allows.

use arcwise_proto::EntryAddress;
use prost::Message;

use super::{
    error::Flaw,
    name::{MAX_NAME, Name},
};

/// Deepest tree of a blob. Four levels of full indexes reach past 2^64 bytes even with the smallest
/// chunks; the rest is room for writers that fill their indexes less.
pub(super) const MAX_BLOB_DEPTH: u32 = 8;

/// Longest target of a symbolic link, in bytes: what a path may have on Linux.
pub(super) const MAX_TARGET: usize = 4096;

/// Longest encoded entry of a listing: a name, a target or an item, and the bytes between them.
pub(super) const MAX_ENTRY: usize = MAX_NAME + MAX_TARGET + 256;

/// Any string of bytes, as the root of a tree of objects.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Blob {
    pub(crate) root: EntryAddress,
    /// Levels of indexes above the chunks.
    pub(crate) depth: u32,
    /// Bytes of content.
    pub(crate) length: u64,
}

/// What lies below a folder, at any depth.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Totals {
    pub(crate) files: u64,
    pub(crate) folders: u64,
    pub(crate) links: u64,
    /// Bytes of the files' content.
    pub(crate) bytes: u64,
}

/// A file or a folder without its name; the hash of its encoding is the address people see.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Item {
    File { content: Blob, executable: bool },
    Folder { listing: Blob, totals: Totals },
}

/// What a name in a folder stands for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Node {
    Item(Item),
    /// A symbolic link and the bytes of its target, which need not exist.
    Link(Vec<u8>),
}

/// One line of a folder's listing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Entry {
    pub(crate) name: Name,
    pub(crate) node: Node,
}

/// The catalog's record of one put.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Root {
    pub(super) address: EntryAddress,
    pub(super) name: Name,
    pub(super) item: Item,
}

impl Totals {
    /// `None` on overflow: no disk holds that, so whoever announced it lies.
    pub(super) fn plus(self, other: Totals) -> Option<Totals> {
        Some(Totals {
            files: self.files.checked_add(other.files)?,
            folders: self.folders.checked_add(other.folders)?,
            links: self.links.checked_add(other.links)?,
            bytes: self.bytes.checked_add(other.bytes)?,
        })
    }

    /// Whether no count exceeds its counterpart.
    pub(super) fn within(self, bound: Totals) -> bool {
        self.files <= bound.files
            && self.folders <= bound.folders
            && self.links <= bound.links
            && self.bytes <= bound.bytes
    }
}

impl Item {
    /// The file itself, or what lies below the folder.
    pub(crate) fn totals(&self) -> Totals {
        match *self {
            Item::File { content, .. } => {
                Totals { files: 1, bytes: content.length, ..Totals::default() }
            }
            Item::Folder { totals, .. } => totals,
        }
    }

    pub(super) fn encode(&self) -> Vec<u8> {
        wire::Item::from(*self).encode_to_vec()
    }

    pub(super) fn decode(bytes: &[u8]) -> Result<Self, Flaw> {
        Item::try_from(wire::Item::decode(bytes)?)
    }
}

impl Node {
    /// What this adds to the totals of the folder it stands in.
    pub(super) fn weight(&self) -> Option<Totals> {
        match self {
            Node::Item(item @ Item::File { .. }) => Some(item.totals()),
            Node::Item(item @ Item::Folder { .. }) => {
                item.totals().plus(Totals { folders: 1, ..Totals::default() })
            }
            Node::Link(_) => Some(Totals { links: 1, ..Totals::default() }),
        }
    }
}

impl Entry {
    /// Appends the entry to an encoded listing.
    pub(super) fn append_to(self, listing: &mut Vec<u8>) {
        let what = match self.node {
            Node::Item(item) => wire::What::Item(item.into()),
            Node::Link(target) => wire::What::Link(target),
        };
        let entry = wire::Entry { name: self.name.as_bytes().to_vec(), what: Some(what) };
        prost::encoding::message::encode(LISTING_ENTRIES, &entry, listing);
    }

    pub(super) fn decode(bytes: &[u8]) -> Result<Self, Flaw> {
        let entry = wire::Entry::decode(bytes)?;
        let name = Name::parse(entry.name)?;
        let node = match entry.what.ok_or(Flaw::UnknownType)? {
            wire::What::Item(item) => Node::Item(item.try_into()?),
            wire::What::Link(target) => {
                if target.is_empty() || target.len() > MAX_TARGET || target.contains(&0) {
                    return Err(Flaw::Target(name));
                }
                Node::Link(target)
            }
        };
        Ok(Entry { name, node })
    }
}

impl Root {
    /// The item is kept in its encoded form, so that the address is that of what is described.
    pub(super) fn encode(name: &Name, item: Vec<u8>) -> Vec<u8> {
        wire::Root { name: name.as_bytes().to_vec(), item }.encode_to_vec()
    }

    pub(super) fn decode(bytes: &[u8]) -> Result<Self, Flaw> {
        let root = wire::Root::decode(bytes)?;
        Ok(Root {
            address: super::address_of(&root.item),
            name: Name::parse(root.name)?,
            item: Item::decode(&root.item)?,
        })
    }
}

impl From<Blob> for wire::Blob {
    fn from(blob: Blob) -> Self {
        Self { root: blob.root.as_bytes().to_vec(), depth: blob.depth, length: blob.length }
    }
}

impl TryFrom<Option<wire::Blob>> for Blob {
    type Error = Flaw;

    fn try_from(blob: Option<wire::Blob>) -> Result<Self, Flaw> {
        let wire::Blob { root, depth, length } = blob.unwrap_or_default();
        let root: [u8; 32] =
            root.try_into().map_err(|root: Vec<u8>| Flaw::AddressLength(root.len()))?;
        if depth > MAX_BLOB_DEPTH {
            return Err(Flaw::BlobDepth(depth));
        }
        Ok(Blob { root: EntryAddress(root), depth, length })
    }
}

impl From<Item> for wire::Item {
    fn from(item: Item) -> Self {
        let content = match item {
            Item::File { content, executable } => {
                wire::Content::File(wire::File { content: Some(content.into()), executable })
            }
            Item::Folder { listing, totals: Totals { files, folders, links, bytes } } => {
                let listing = Some(listing.into());
                wire::Content::Folder(wire::Folder { listing, files, folders, links, bytes })
            }
        };
        Self { content: Some(content) }
    }
}

impl TryFrom<wire::Item> for Item {
    type Error = Flaw;

    fn try_from(item: wire::Item) -> Result<Self, Flaw> {
        match item.content.ok_or(Flaw::UnknownType)? {
            wire::Content::File(wire::File { content, executable }) => {
                Ok(Item::File { content: content.try_into()?, executable })
            }
            wire::Content::Folder(wire::Folder { listing, files, folders, links, bytes }) => {
                let listing = Blob::try_from(listing)?;
                if listing.length > super::MAX_LISTING {
                    return Err(Flaw::ListingLength(listing.length));
                }
                Ok(Item::Folder { listing, totals: Totals { files, folders, links, bytes } })
            }
        }
    }
}

/// The number of the one field of a listing.
pub(super) const LISTING_ENTRIES: u32 = 1;

/// The messages, field for field as the format has them.
pub(super) mod wire {
    #[derive(Clone, PartialEq, prost::Message)]
    pub(crate) struct Blob {
        #[prost(bytes = "vec", tag = "1")]
        pub(crate) root: Vec<u8>,
        #[prost(uint32, tag = "2")]
        pub(crate) depth: u32,
        #[prost(uint64, tag = "3")]
        pub(crate) length: u64,
    }

    #[derive(Clone, PartialEq, prost::Message)]
    pub(crate) struct File {
        #[prost(message, optional, tag = "1")]
        pub(crate) content: Option<Blob>,
        #[prost(bool, tag = "2")]
        pub(crate) executable: bool,
    }

    #[derive(Clone, PartialEq, prost::Message)]
    pub(crate) struct Folder {
        #[prost(message, optional, tag = "1")]
        pub(crate) listing: Option<Blob>,
        #[prost(uint64, tag = "2")]
        pub(crate) files: u64,
        #[prost(uint64, tag = "3")]
        pub(crate) folders: u64,
        #[prost(uint64, tag = "4")]
        pub(crate) links: u64,
        #[prost(uint64, tag = "5")]
        pub(crate) bytes: u64,
    }

    #[derive(Clone, PartialEq, prost::Message)]
    pub(crate) struct Item {
        #[prost(oneof = "Content", tags = "1, 2")]
        pub(crate) content: Option<Content>,
    }

    #[derive(Clone, PartialEq, prost::Oneof)]
    pub(crate) enum Content {
        #[prost(message, tag = "1")]
        File(File),
        #[prost(message, tag = "2")]
        Folder(Folder),
    }

    #[derive(Clone, PartialEq, prost::Message)]
    pub(crate) struct Entry {
        #[prost(bytes = "vec", tag = "1")]
        pub(crate) name: Vec<u8>,
        #[prost(oneof = "What", tags = "2, 3")]
        pub(crate) what: Option<What>,
    }

    #[derive(Clone, PartialEq, prost::Oneof)]
    pub(crate) enum What {
        #[prost(message, tag = "2")]
        Item(Item),
        #[prost(bytes = "vec", tag = "3")]
        Link(Vec<u8>),
    }

    #[derive(Clone, PartialEq, prost::Message)]
    pub(crate) struct Root {
        #[prost(bytes = "vec", tag = "1")]
        pub(crate) name: Vec<u8>,
        #[prost(bytes = "vec", tag = "2")]
        pub(crate) item: Vec<u8>,
    }
}
