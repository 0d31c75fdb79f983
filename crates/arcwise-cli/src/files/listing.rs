//! Folders: their listing, entry by entry, and the way from an item to what lies inside it.

use arcwise_proto::EntryAddress;
use bytes::{Buf, BytesMut};
use prost::encoding::{WireType, decode_key, decode_varint};

use super::{
    ITEM, Objects,
    blob::BlobReader,
    catalog::only_name,
    error::{Error, Flaw},
    fetch,
    name::{Name, printable},
    record::{Blob, Entry, Item, LISTING_ENTRIES, MAX_ENTRY, Node, Totals},
};

/// Room for an entry with its key and length in front.
const ENTRY_ROOM: usize = MAX_ENTRY + 16;

/// Reads the entries of a folder one at a time, so that memory does not grow with the folder.
/// Their names come in order, and none twice; they add up to what was announced.
pub(super) struct Entries<'a, O> {
    blob: BlobReader<'a, O>,
    listing: EntryAddress,
    announced: Totals,
    counted: Totals,
    buffer: BytesMut,
    last: Option<Name>,
}

impl<'a, O: Objects> Entries<'a, O> {
    pub(super) fn new(objects: &'a O, listing: Blob, announced: Totals) -> Self {
        Self {
            blob: BlobReader::new(objects, listing),
            listing: listing.root,
            announced,
            counted: Totals::default(),
            buffer: BytesMut::new(),
            last: None,
        }
    }

    pub(super) fn next(&mut self) -> Result<Option<Entry>, Error> {
        while self.buffer.len() < ENTRY_ROOM {
            match self.blob.next()? {
                Some(chunk) => self.buffer.extend_from_slice(&chunk),
                None => break,
            }
        }
        self.parse().map_err(|flaw| flaw.of(self.listing))
    }

    fn parse(&mut self) -> Result<Option<Entry>, Flaw> {
        if self.buffer.is_empty() {
            return if self.counted == self.announced { Ok(None) } else { Err(Flaw::Totals) };
        }
        let (field, wire_type) = decode_key(&mut self.buffer)?;
        if (field, wire_type) != (LISTING_ENTRIES, WireType::LengthDelimited) {
            return Err(Flaw::Entry);
        }
        let length = decode_varint(&mut self.buffer)?;
        if length > self.buffer.len().min(MAX_ENTRY) as u64 {
            return Err(Flaw::Entry);
        }
        let length = length as usize;
        let entry = Entry::decode(&self.buffer[..length])?;
        self.buffer.advance(length);
        if self.last.as_ref().is_some_and(|last| *last >= entry.name) {
            return Err(Flaw::Order(entry.name));
        }
        self.last = Some(entry.name.clone());
        // Checked at each entry, so that the work is bounded by what was announced.
        self.counted = entry
            .node
            .weight()
            .and_then(|weight| self.counted.plus(weight))
            .filter(|counted| counted.within(self.announced))
            .ok_or(Flaw::Totals)?;
        Ok(Some(entry))
    }
}

/// The item that has this address.
pub(super) fn item<O: Objects>(objects: &O, address: EntryAddress) -> Result<Item, Error> {
    let record = fetch(objects, address, ITEM)?;
    Item::decode(&record).map_err(|flaw| flaw.of(address))
}

/// An item at the end of a path.
pub(super) struct Found {
    pub(super) item: Item,
    /// The path's last name, if it has one.
    pub(super) name: Option<Name>,
    /// What to call it in an error.
    pub(super) what: String,
}

/// The item at `address`, or the one to which `sub_path` leads inside it. Names are separated by
/// `/`; links are not followed.
pub(super) fn find<O: Objects>(
    objects: &O,
    address: EntryAddress,
    sub_path: Option<&str>,
) -> Result<Found, Error> {
    let path = sub_path.unwrap_or_default();
    let mut found = Found { item: item(objects, address)?, name: None, what: address.to_string() };
    for step in path.split('/').filter(|step| !matches!(*step, "" | ".")) {
        let name = Name::parse(step)
            .map_err(|source| Error::BadPath { path: printable(path.as_bytes()), source })?;
        let Item::Folder { listing, totals } = found.item else {
            return Err(Error::NotAFolder { what: found.what });
        };
        let mut entries = Entries::new(objects, listing, totals);
        let node = loop {
            match entries.next()? {
                Some(entry) if entry.name == name => break Some(entry.node),
                Some(entry) if entry.name < name => {}
                _ => break None,
            }
        };
        let what = format!("{}/{name}", found.what);
        let item = match node {
            Some(Node::Item(item)) => item,
            Some(Node::Link(target)) => {
                return Err(Error::IsALink { what, target: printable(&target) });
            }
            None => {
                return Err(Error::NoSuchPath { address, path: printable(path.as_bytes()) });
            }
        };
        found = Found { item, name: Some(name), what };
    }
    Ok(found)
}

/// What is at the end of a path, as a folder would list it.
pub(crate) fn entry_at<O: Objects>(
    objects: &O,
    address: EntryAddress,
    sub_path: Option<&str>,
) -> Result<Entry, Error> {
    let found = find(objects, address, sub_path)?;
    let name = match found.name {
        Some(name) => Some(name),
        None => only_name(objects, address)?,
    };
    let name = name.or_else(|| Name::parse(address.to_string()).ok());
    let name = name.ok_or(Error::NotAnAddress(address.to_string()))?;
    Ok(Entry { name, node: Node::Item(found.item) })
}

/// The entries of a folder, by name.
pub(crate) fn list_folder<O: Objects>(
    objects: &O,
    address: EntryAddress,
    sub_path: Option<&str>,
) -> Result<Vec<Entry>, Error> {
    let found = find(objects, address, sub_path)?;
    let Item::Folder { listing, totals } = found.item else {
        return Err(Error::NotAFolder { what: found.what });
    };
    let mut entries = Entries::new(objects, listing, totals);
    std::iter::from_fn(|| entries.next().transpose()).collect()
}
