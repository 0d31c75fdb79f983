//! What the tests share: made-up aspects and ways to open a store.

use std::{
    fs,
    path::Path,
    thread,
    time::{Duration, Instant},
};

use arcwise_proto::{ArcSet, Aspect, AspectKey, EntryAddress, SpaceId, Time};
use arcwise_store::{Keep, Limits, OpenError, Options, Space, Store};

pub(crate) const SPACE: SpaceId = SpaceId([7; 32]);
pub(crate) const OTHER_SPACE: SpaceId = SpaceId([8; 32]);

/// Tests write little and should pass on a nearly full disk.
pub(crate) fn options() -> Options {
    Options { min_free: 0, ..Options::default() }
}

pub(crate) fn open(folder: &Path) -> Store {
    open_with(folder, options())
}

/// Opens a store. A process that another test is just starting has, for a moment, all files of this one
/// open, and so the lock of a store that was closed already.
pub(crate) fn open_with(folder: &Path, options: Options) -> Store {
    let start = Instant::now();
    loop {
        match Store::open(folder, options.clone()) {
            Err(OpenError::Locked(_)) if start.elapsed() < Duration::from_secs(10) => {
                thread::yield_now();
            }
            result => return result.unwrap(),
        }
    }
}

/// Opens the store in `folder` and its space [`SPACE`], which is created where it is not there.
pub(crate) fn open_space(folder: &Path) -> (Store, Space) {
    let store = open(folder);
    let space = store.space(&SPACE).unwrap_or_else(|| make_space(&store));
    (store, space)
}

pub(crate) fn make_space(store: &Store) -> Space {
    let (target, held) = (ArcSet::full(), ArcSet::empty());
    store.create_space(&SPACE, "a space", target, held, Limits::default()).unwrap()
}

/// Sweeps all of it; gives how many were removed.
pub(crate) fn sweep(space: &Space, keep: &Keep) -> u64 {
    let (mut removed, mut from) = (0, Some(AspectKey::MIN));
    while let Some(first) = from {
        let swept = space.sweep(first, keep).unwrap();
        (removed, from) = (removed + swept.removed, swept.next);
    }
    removed
}

/// An entry at the location that the first four bytes say, in little-endian order, or at the same
/// location by another address.
pub(crate) fn entry(location: u32, twin: bool) -> EntryAddress {
    let mut address = [0; 32];
    address[..4].copy_from_slice(&location.to_le_bytes());
    if twin {
        (address[4], address[8]) = (1, 1);
    }
    EntryAddress(address)
}

pub(crate) fn aspect(location: u32, twin: bool, published: u64, data: &[u8]) -> Aspect {
    Aspect::new(entry(location, twin), 1, Time::from_micros(published), data).unwrap()
}

/// The `n`th of many aspects, spread over the ring, with `size` bytes of data.
pub(crate) fn numbered(n: u64, size: usize) -> Aspect {
    let location = (n as u32).wrapping_mul(0x9e37_79b9);
    let mut data = vec![n as u8; size];
    let number = n.to_le_bytes();
    let len = size.min(number.len());
    data[..len].copy_from_slice(&number[..len]);
    aspect(location, false, n, &data)
}

pub(crate) fn keys(aspects: &[Aspect]) -> Vec<AspectKey> {
    aspects.iter().map(Aspect::key).collect()
}

pub(crate) fn assert_sound(store: &Store) {
    let report = store.check().unwrap();
    assert_eq!(report.damage_count, 0, "{:#?}", report.damages);
    let count: u64 = store.spaces().iter().map(|space| space.stats().count).sum();
    let bytes: u64 = store.spaces().iter().map(|space| space.stats().bytes).sum();
    assert_eq!((report.aspects, report.bytes), (count, bytes));
}

pub(crate) fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for item in fs::read_dir(from).unwrap() {
        let item = item.unwrap();
        let target = to.join(item.file_name());
        match item.file_type().unwrap().is_dir() {
            true => copy(&item.path(), &target),
            false => drop(fs::copy(item.path(), target).unwrap()),
        }
    }
}
