//! The catalog: which files and folders were put into the space, by whom and when.

use std::{
    cmp::Reverse,
    collections::{BTreeMap, BTreeSet, btree_map},
    sync::LazyLock,
};

use arcwise_proto::{EntryAddress, NodeId, Time};
use bytes::Bytes;

use super::{
    NewAspect, Objects, ROOT,
    error::Error,
    name::{Name, printable},
    record::{Item, Root, Totals},
};

/// Fewest digits that may stand for an address.
pub(crate) const MIN_PREFIX: usize = 4;

/// One line of the catalog.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Listed {
    pub(crate) address: EntryAddress,
    pub(crate) name: Name,
    pub(crate) item: Item,
    /// The node that put it, and signed that it did.
    pub(crate) author: NodeId,
    /// When it last did, by its own clock.
    pub(crate) published: Time,
}

impl Listed {
    pub(crate) fn is_folder(&self) -> bool {
        matches!(self.item, Item::Folder { .. })
    }

    pub(crate) fn totals(&self) -> Totals {
        self.item.totals()
    }
}

/// The one entry that all records of a space are about.
pub(crate) fn catalog_entry() -> EntryAddress {
    static ENTRY: LazyLock<EntryAddress> =
        LazyLock::new(|| EntryAddress(blake3::derive_key("arcwise files catalog", b"")));
    *ENTRY
}

/// The catalog's record of an item, given in its encoded form.
pub(super) fn record(name: &Name, item: Vec<u8>) -> NewAspect {
    let data = Bytes::from(Root::encode(name, item));
    NewAspect { entry: catalog_entry(), kind: ROOT, data, signed: true }
}

/// What was put into the space, newest first. Where a node put the same under the same name more
/// than once, the last time counts. Records that break the format are passed over: anybody may
/// write here, and one bad line must not hide the others.
pub(crate) fn list<O: Objects>(objects: &O) -> Result<Vec<Listed>, Error> {
    let mut newest: BTreeMap<(EntryAddress, Name, NodeId), Listed> = BTreeMap::new();
    for aspect in objects.entry(&catalog_entry()).map_err(Error::node)? {
        let Some(author) = aspect.author().map(NodeId).filter(|_| aspect.kind() == ROOT) else {
            continue;
        };
        let Ok(Root { address, name, item }) = Root::decode(&aspect.data()) else { continue };
        let published = aspect.published();
        match newest.entry((address, name.clone(), author)) {
            btree_map::Entry::Occupied(mut known) => {
                let known = known.get_mut();
                known.published = known.published.max(published);
            }
            btree_map::Entry::Vacant(free) => {
                free.insert(Listed { address, name, item, author, published });
            }
        }
    }
    let mut listed: Vec<_> = newest.into_values().collect();
    listed.sort_by_key(|listed| Reverse(listed.published));
    Ok(listed)
}

/// The address that a person means: all 64 hexadecimal digits, or enough of the first ones to tell
/// it from the others in the catalog.
pub(crate) fn resolve<O: Objects>(objects: &O, text: &str) -> Result<EntryAddress, Error> {
    if let Ok(address) = text.parse() {
        return Ok(address);
    }
    let digits = text.len();
    if !(MIN_PREFIX..64).contains(&digits) || !text.bytes().all(|b| b.is_ascii_hexdigit()) {
        return Err(Error::NotAnAddress(printable(text.as_bytes())));
    }
    let prefix = text.to_ascii_lowercase();
    let mut candidates: Vec<_> = list(objects)?
        .into_iter()
        .filter(|listed| listed.address.to_string().starts_with(&prefix))
        .map(|listed| (listed.address, listed.name))
        .collect();
    // Stable, so the newest name of each address is the one that stays.
    candidates.sort_by_key(|&(address, _)| address);
    candidates.dedup_by_key(|&mut (address, _)| address);
    match candidates[..] {
        [] => Err(Error::UnknownPrefix(prefix)),
        [(address, _)] => Ok(address),
        _ => Err(Error::Ambiguous { prefix, candidates }),
    }
}

/// The name of an item, if the catalog knows it by one name only. Where records disagree none of
/// them is believed: any stranger can add one.
pub(super) fn only_name<O: Objects>(
    objects: &O,
    address: EntryAddress,
) -> Result<Option<Name>, Error> {
    let names: BTreeSet<_> = list(objects)?
        .into_iter()
        .filter(|listed| listed.address == address)
        .map(|listed| listed.name)
        .collect();
    Ok(if names.len() == 1 { names.into_iter().next() } else { None })
}
