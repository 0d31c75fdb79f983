//! Stores files and folders.

use std::{
    ffi::{OsStr, OsString},
    fs,
    io::{self, Read},
    mem,
    path::{Path, PathBuf},
    sync::{
        OnceLock,
        atomic::{AtomicBool, Ordering},
    },
    thread,
};

use arcwise_proto::EntryAddress;

use super::{
    ITEM, MAX_FOLDER_DEPTH, MAX_LISTING, Objects, Progress,
    blob::BlobWriter,
    catalog,
    cut::Sizes,
    error::Error,
    name::{Name, NameError, os_to_bytes},
    record::{Blob, Entry, Item, MAX_TARGET, Node, Totals},
};

/// What a put did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Put {
    /// What to get it back by.
    pub(crate) address: EntryAddress,
    /// What the catalog calls it.
    pub(crate) name: Name,
    pub(crate) item: Item,
    /// Objects the node did not have yet, and their bytes. The record in the catalog, which every
    /// put adds, is not counted.
    pub(crate) new_objects: u64,
    pub(crate) new_bytes: u64,
    /// What was left out.
    pub(crate) skipped: Vec<Skipped>,
}

/// Something in a folder that was left out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Skipped {
    pub(crate) path: PathBuf,
    pub(crate) reason: SkipReason,
}

/// Why it was left out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum SkipReason {
    /// A socket, a device or a pipe.
    Special,
    /// It was removed while the folder was read.
    Vanished,
}

/// Stores a file, or a folder with everything in it, and records it in the catalog under its name.
/// A link given as the path itself is followed; those in a folder are stored as links.
pub(crate) fn put<O: Objects>(
    objects: &O,
    path: &Path,
    progress: &dyn Fn(Progress),
) -> Result<Put, Error> {
    put_sized(objects, path, progress, Sizes::FORMAT)
}

/// Stores all that `input` yields as a file and records it in the catalog under `name`.
pub(crate) fn put_reader<O: Objects>(
    objects: &O,
    name: &str,
    input: impl Read,
    progress: &dyn Fn(Progress),
) -> Result<Put, Error> {
    put_reader_sized(objects, name, input, progress, Sizes::FORMAT)
}

pub(super) fn put_reader_sized<O: Objects>(
    objects: &O,
    name: &str,
    mut input: impl Read,
    progress: &dyn Fn(Progress),
    sizes: Sizes,
) -> Result<Put, Error> {
    let name = Name::parse(name)
        .map_err(|source| Error::LocalName { path: PathBuf::from(name), source })?;
    let total = OnceLock::new();
    let mut putting = Putting::new(objects, progress, &total, sizes);
    let content = putting.content(&mut input, Error::Input)?;
    putting.finish(name, Item::File { content, executable: false })
}

pub(super) fn put_sized<O: Objects>(
    objects: &O,
    path: &Path,
    progress: &dyn Fn(Progress),
    sizes: Sizes,
) -> Result<Put, Error> {
    let unreadable = |source| Error::Read { path: path.to_owned(), source };
    let metadata = fs::metadata(path).map_err(|source| match fs::symlink_metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Error::NotThere(path.to_owned()),
        _ => unreadable(source),
    })?;
    let name = own_name(path)?;
    let total = OnceLock::new();
    let mut putting = Putting::new(objects, progress, &total, sizes);
    if metadata.is_file() {
        let _ = total.set(Totals { files: 1, bytes: metadata.len(), ..Totals::default() });
        let item = putting.file(path)?.ok_or_else(|| unreadable(io::ErrorKind::NotFound.into()))?;
        putting.finish(name, item)
    } else if metadata.is_dir() {
        let stop = AtomicBool::new(false);
        let item = thread::scope(|scope| {
            // Without the thread there is only no total to show.
            let _ = thread::Builder::new().spawn_scoped(scope, || scan(path, &total, &stop));
            let item = putting.folder(path);
            stop.store(true, Ordering::Relaxed);
            item
        })?;
        putting.finish(name, item)
    } else {
        Err(Error::NotRegular(path.to_owned()))
    }
}

/// A put under way.
struct Putting<'a, O> {
    blobs: BlobWriter<'a, O>,
    progress: &'a dyn Fn(Progress),
    done: Totals,
    total: &'a OnceLock<Totals>,
    skipped: Vec<Skipped>,
}

/// A folder of which some children are stored already.
struct Open {
    path: PathBuf,
    /// The children to come, the last first.
    children: Vec<Child>,
    /// The children stored, in order.
    listing: Vec<u8>,
    totals: Totals,
}

struct Child {
    name: Name,
    os_name: OsString,
    file_type: fs::FileType,
}

impl<'a, O: Objects> Putting<'a, O> {
    fn new(
        objects: &'a O,
        progress: &'a dyn Fn(Progress),
        total: &'a OnceLock<Totals>,
        sizes: Sizes,
    ) -> Self {
        let blobs = BlobWriter::new(objects, sizes);
        Self { blobs, progress, done: Totals::default(), total, skipped: Vec::new() }
    }

    /// Stores a folder from the leaves up, so that a listing is never there before what it names.
    /// Keeps its own stack: the depth of a tree on disk must not decide over ours.
    fn folder(&mut self, path: &Path) -> Result<Item, Error> {
        let mut above: Vec<(Open, Name)> = Vec::new();
        let mut open = Open::read(path.to_owned())?;
        loop {
            while let Some(child) = open.children.pop() {
                let path = open.path.join(&child.os_name);
                if !child.file_type.is_dir() {
                    if let Some(node) = self.leaf(&path, child.file_type)? {
                        open.add(child.name, node)?;
                    }
                    continue;
                }
                if above.len() == MAX_FOLDER_DEPTH {
                    return Err(Error::TooDeep(path));
                }
                match Open::read(path) {
                    Ok(inner) => above.push((mem::replace(&mut open, inner), child.name)),
                    Err(error) => self.skip_vanished(error)?,
                }
            }
            let listing = self.blobs.store(&mut &open.listing[..], |_| {}, Error::Input)?;
            let folder = Item::Folder { listing, totals: open.totals };
            let Some((parent, name)) = above.pop() else { return Ok(folder) };
            open = parent;
            open.add(name, Node::Item(folder))?;
            self.done.folders += 1;
        }
    }

    /// Stores what is no folder; `None` where it is skipped.
    fn leaf(&mut self, path: &Path, file_type: fs::FileType) -> Result<Option<Node>, Error> {
        if file_type.is_file() {
            return Ok(self.file(path)?.map(Node::Item));
        }
        if !file_type.is_symlink() {
            let reason = SkipReason::Special;
            self.skipped.push(Skipped { path: path.to_owned(), reason });
            return Ok(None);
        }
        match fs::read_link(path) {
            Ok(target) => {
                let target = link_target(path, target.as_os_str())?;
                self.done.links += 1;
                Ok(Some(Node::Link(target)))
            }
            Err(source) => {
                self.skip_vanished(Error::Read { path: path.to_owned(), source })?;
                Ok(None)
            }
        }
    }

    /// Stores what the file yields now; `None` where it is gone.
    fn file(&mut self, path: &Path) -> Result<Option<Item>, Error> {
        let failed = |source| Error::Read { path: path.to_owned(), source };
        let mut file = match fs::File::open(path) {
            Ok(file) => file,
            Err(source) => {
                self.skip_vanished(failed(source))?;
                return Ok(None);
            }
        };
        let executable = is_executable(&file.metadata().map_err(failed)?);
        let content = self.content(&mut file, failed)?;
        Ok(Some(Item::File { content, executable }))
    }

    fn content(
        &mut self,
        input: &mut impl Read,
        failed: impl FnOnce(io::Error) -> Error,
    ) -> Result<Blob, Error> {
        let (progress, total) = (self.progress, self.total.get().copied());
        let mut done = self.done;
        let content = self.blobs.store(
            input,
            |bytes| {
                done.bytes += bytes;
                progress(Progress { done, total });
            },
            failed,
        )?;
        done.files += 1;
        self.done = done;
        progress(Progress { done, total });
        Ok(content)
    }

    /// Passes over what was there when its folder was read and is gone now: a folder in use
    /// changes, and that is no reason to store none of it.
    fn skip_vanished(&mut self, error: Error) -> Result<(), Error> {
        match error {
            Error::Read { path, source } if source.kind() == io::ErrorKind::NotFound => {
                self.skipped.push(Skipped { path, reason: SkipReason::Vanished });
                Ok(())
            }
            error => Err(error),
        }
    }

    /// Makes the item findable: by its address, and in the catalog.
    fn finish(mut self, name: Name, item: Item) -> Result<Put, Error> {
        let record = item.encode();
        let address = self.blobs.batch.add(ITEM, &record)?;
        let stored = self.blobs.batch.finish(catalog::record(&name, record))?;
        Ok(Put {
            address,
            name,
            item,
            new_objects: stored.objects,
            new_bytes: stored.bytes,
            skipped: self.skipped,
        })
    }
}

impl Open {
    fn read(path: PathBuf) -> Result<Self, Error> {
        let failed = |source| Error::Read { path: path.clone(), source };
        let mut children = Vec::new();
        for child in fs::read_dir(&path).map_err(failed)? {
            let child = child.map_err(failed)?;
            let os_name = child.file_name();
            let name = Name::from_os(&os_name)
                .map_err(|source| Error::LocalName { path: child.path(), source })?;
            let file_type = match child.file_type() {
                Ok(file_type) => file_type,
                // Gone before it was even known what it was.
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                Err(error) => return Err(failed(error)),
            };
            children.push(Child { name, os_name, file_type });
        }
        children.sort_unstable_by(|a, b| b.name.cmp(&a.name));
        Ok(Self { path, children, listing: Vec::new(), totals: Totals::default() })
    }

    fn add(&mut self, name: Name, node: Node) -> Result<(), Error> {
        let too_many = || Error::TooManyEntries(self.path.clone());
        let weight = node.weight().ok_or_else(too_many)?;
        self.totals = self.totals.plus(weight).ok_or_else(too_many)?;
        Entry { name, node }.append_to(&mut self.listing);
        if self.listing.len() as u64 > MAX_LISTING {
            return Err(too_many());
        }
        Ok(())
    }
}

/// What the catalog will call the thing at `path`.
fn own_name(path: &Path) -> Result<Name, Error> {
    let name = match path.file_name() {
        Some(name) => name.to_owned(),
        // A path like `.` or `..` does not say.
        None => path
            .canonicalize()
            .map_err(|source| Error::Read { path: path.to_owned(), source })?
            .file_name()
            .unwrap_or("root".as_ref())
            .to_owned(),
    };
    Name::from_os(&name).map_err(|source| Error::LocalName { path: path.to_owned(), source })
}

fn link_target(path: &Path, target: &OsStr) -> Result<Vec<u8>, Error> {
    match os_to_bytes(target) {
        Some(target) if target.len() <= MAX_TARGET => Ok(target.into_owned()),
        _ => {
            let source = NameError::NotHere(target.to_string_lossy().into_owned().into_bytes());
            Err(Error::LocalName { path: path.to_owned(), source })
        }
    }
}

/// As git has it: what its owner may execute.
fn is_executable(metadata: &fs::Metadata) -> bool {
    #[cfg(unix)]
    {
        std::os::unix::fs::PermissionsExt::mode(&metadata.permissions()) & 0o100 != 0
    }
    #[cfg(not(unix))]
    {
        let _ = metadata;
        false
    }
}

/// Counts what lies below a folder, ahead of its being read, so that progress has an end to show.
/// Gives up at the first trouble: the put will meet it too, and report it.
fn scan(path: &Path, total: &OnceLock<Totals>, stop: &AtomicBool) {
    let mut counted = Totals::default();
    let mut pending = vec![path.to_owned()];
    while let Some(folder) = pending.pop() {
        let Ok(children) = fs::read_dir(folder) else { return };
        for child in children {
            if stop.load(Ordering::Relaxed) {
                return;
            }
            let Ok(child) = child else { return };
            let Ok(metadata) = child.metadata() else { return };
            if metadata.is_dir() {
                counted.folders += 1;
                pending.push(child.path());
            } else if metadata.is_symlink() {
                counted.links += 1;
            } else if metadata.is_file() {
                counted.files += 1;
                counted.bytes = counted.bytes.saturating_add(metadata.len());
            }
        }
    }
    let _ = total.set(counted);
}
