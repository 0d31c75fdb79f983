//! The format against an in-memory node.

mod catalog;
mod hostile;
mod restore;
#[cfg(unix)]
mod round_trip;

use std::{
    cell::{Cell, RefCell},
    collections::{BTreeMap, BTreeSet},
    fs,
    path::Path,
};

use arcwise_proto::{Aspect, AspectError, AuthorKey, EntryAddress, SpaceId, Time};
use bytes::Bytes;
use tempfile::TempDir;

use super::{
    CHUNK, Error, INDEX, ITEM, NewAspect, ObjectName, Objects, Progress, Put, ROOT, address_of,
    catalog::catalog_entry,
    cut::Sizes,
    error::Flaw,
    get::{Restored, get},
    put::{Skipped, put_sized},
};

/// Small chunks and narrow indexes, so that little content makes deep trees.
const SMALL: Sizes = Sizes { min: 64, avg: 256, max: 1024, fanout: 4 };

/// A node that holds everything in memory, and counts what it is asked.
struct Memory {
    held: RefCell<BTreeMap<EntryAddress, Vec<Aspect>>>,
    author: RefCell<AuthorKey>,
    now: Cell<u64>,
    /// How often each operation was called.
    puts: Cell<usize>,
    missings: Cell<usize>,
    /// Most data and most aspects in one put.
    largest: Cell<(usize, usize)>,
    /// Reads that still succeed, where it is to fail.
    reads_left: Cell<Option<usize>>,
}

#[derive(Debug, thiserror::Error)]
enum MemoryError {
    #[error("went away")]
    Gone,
    #[error(transparent)]
    Aspect(#[from] AspectError),
}

impl Default for Memory {
    fn default() -> Self {
        Self {
            held: RefCell::default(),
            author: RefCell::new(AuthorKey::from_bytes(&[1; 32])),
            now: Cell::new(1),
            puts: Cell::default(),
            missings: Cell::default(),
            largest: Cell::default(),
            reads_left: Cell::default(),
        }
    }
}

impl Objects for Memory {
    type Error = MemoryError;

    fn put(&self, aspects: Vec<NewAspect>) -> Result<(), MemoryError> {
        self.puts.set(self.puts.get() + 1);
        let bytes = aspects.iter().map(|new| new.data.len()).sum();
        let (most_bytes, most) = self.largest.get();
        self.largest.set((most_bytes.max(bytes), most.max(aspects.len())));
        for NewAspect { entry, kind, data, signed } in aspects {
            let now = Time::from_micros(self.now.replace(self.now.get() + 1));
            let aspect = if signed {
                let (author, space) = (self.author.borrow(), SpaceId([7; 32]));
                Aspect::signed(&author, &space, entry, kind, now, &data)?
            } else {
                Aspect::new(entry, kind, now, &data)?
            };
            self.held.borrow_mut().entry(entry).or_default().push(aspect);
        }
        Ok(())
    }

    fn entry(&self, entry: &EntryAddress) -> Result<Vec<Aspect>, MemoryError> {
        match self.reads_left.get() {
            Some(0) => return Err(MemoryError::Gone),
            left => self.reads_left.set(left.map(|left| left - 1)),
        }
        Ok(self.held.borrow().get(entry).cloned().unwrap_or_default())
    }

    fn missing(&self, objects: &[ObjectName]) -> Result<Vec<ObjectName>, MemoryError> {
        self.missings.set(self.missings.get() + 1);
        let held = self.held.borrow();
        let is_held = |name: &ObjectName| {
            held.get(&name.address).is_some_and(|aspects| aspects.iter().any(|a| name.is(a)))
        };
        Ok(objects.iter().filter(|name| !is_held(name)).copied().collect())
    }
}

impl Memory {
    /// Stores one object as it is, whatever it says.
    fn store(&self, kind: u32, data: impl AsRef<[u8]>) -> EntryAddress {
        let data = Bytes::copy_from_slice(data.as_ref());
        let entry = address_of(&data);
        self.put(vec![NewAspect { entry, kind, data, signed: false }]).unwrap();
        entry
    }

    /// Attaches to an entry what it is not named after.
    fn attach(&self, entry: EntryAddress, kind: u32, data: &'static [u8]) {
        let data = Bytes::from_static(data);
        self.put(vec![NewAspect { entry, kind, data, signed: false }]).unwrap();
    }

    fn forget(&self, entry: EntryAddress) {
        self.held.borrow_mut().remove(&entry).expect("held");
    }

    fn of_kind(&self, kind: u32) -> Vec<EntryAddress> {
        let held = self.held.borrow();
        held.iter().filter(|(_, a)| a.iter().any(|a| a.kind() == kind)).map(|(e, _)| *e).collect()
    }
}

/// What a folder on disk is compared by.
#[cfg(unix)]
#[derive(Clone, Debug, PartialEq, Eq)]
enum Tree {
    File { content: Vec<u8>, executable: bool },
    Folder(BTreeMap<Vec<u8>, Tree>),
    Link(Vec<u8>),
}

#[cfg(unix)]
impl Tree {
    fn write(&self, path: &Path) {
        use std::os::unix::{ffi::OsStrExt, fs::PermissionsExt};
        match self {
            Tree::File { content, executable } => {
                fs::write(path, content).unwrap();
                let mode = if *executable { 0o755 } else { 0o644 };
                fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
            }
            Tree::Folder(children) => {
                fs::create_dir(path).unwrap();
                for (name, child) in children {
                    child.write(&path.join(std::ffi::OsStr::from_bytes(name)));
                }
            }
            Tree::Link(target) => {
                std::os::unix::fs::symlink(std::ffi::OsStr::from_bytes(target), path).unwrap();
            }
        }
    }

    fn read(path: &Path) -> Self {
        use std::os::unix::{ffi::OsStrExt, fs::PermissionsExt};
        let metadata = fs::symlink_metadata(path).unwrap();
        if metadata.is_symlink() {
            Tree::Link(fs::read_link(path).unwrap().as_os_str().as_bytes().to_vec())
        } else if metadata.is_dir() {
            let children = fs::read_dir(path).unwrap().map(|child| {
                let child = child.unwrap();
                (child.file_name().as_bytes().to_vec(), Tree::read(&child.path()))
            });
            Tree::Folder(children.collect())
        } else {
            let executable = metadata.permissions().mode() & 0o100 != 0;
            Tree::File { content: fs::read(path).unwrap(), executable }
        }
    }
}

fn quiet(_: Progress) {}

/// Content that no chunk of repeats.
fn noise(seed: u64, length: usize) -> Vec<u8> {
    let mut bytes = vec![0; length];
    blake3::Hasher::new().update(&seed.to_le_bytes()).finalize_xof().fill(&mut bytes);
    bytes
}

fn put_small(objects: &Memory, path: &Path) -> Put {
    put_sized(objects, path, &quiet, SMALL).unwrap()
}

/// The names in a folder.
fn names(folder: &Path) -> BTreeSet<std::ffi::OsString> {
    fs::read_dir(folder).unwrap().map(|child| child.unwrap().file_name()).collect()
}

/// Restores to a new name in a new folder; on failure there must be nothing there, not even
/// something half done.
fn try_get(objects: &Memory, address: EntryAddress) -> Result<(TempDir, Restored), Error> {
    let folder = tempfile::tempdir().unwrap();
    match get(objects, address, None, &folder.path().join("out"), &quiet) {
        Ok(restored) => Ok((folder, restored)),
        Err(error) => {
            assert_eq!(names(folder.path()), BTreeSet::new(), "{error}");
            Err(error)
        }
    }
}

/// The flaw that a restore finds.
#[track_caller]
fn flaw(objects: &Memory, address: EntryAddress) -> Flaw {
    match try_get(objects, address) {
        Err(Error::Broken { source, .. }) => source,
        other => panic!("{other:?}"),
    }
}

/// Every kind there is, in tests that try them all.
const KINDS: [u32; 4] = [CHUNK, INDEX, ITEM, ROOT];
