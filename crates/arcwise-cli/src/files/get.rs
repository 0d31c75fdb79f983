//! Restores files and folders.

use std::{
    ffi::OsString,
    fs,
    io::Write,
    mem,
    path::{Path, PathBuf},
};

use arcwise_proto::EntryAddress;

use super::{
    CHUNK, MAX_FOLDER_DEPTH, ObjectName, Objects, Progress,
    batch::BATCH_BYTES,
    blob::BlobReader,
    catalog::only_name,
    content_of,
    error::{Error, Flaw},
    listing::{Entries, find},
    name::Name,
    record::{Blob, Item, Node, Totals},
    staging::{StagedFile, StagedFolder},
};

/// Most files of one chunk each that are asked for together, so that a folder of small files does
/// not take a request for each; a bound on memory too, whatever lengths they are said to have.
const TOGETHER: usize = 64;

/// What a restore did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Restored {
    /// Where it is now.
    pub(crate) path: PathBuf,
    pub(crate) totals: Totals,
    /// Links this system could not create, by their paths inside the folder.
    pub(crate) skipped_links: Vec<PathBuf>,
}

/// Restores the item at `address`, or what `sub_path` names inside it.
///
/// A folder goes to `destination`, which must not exist or be an empty folder. A file goes there
/// too, or into it under its own name where it is a folder; a file whose name is not known for sure
/// is named by its address. Nothing that exists is ever replaced, and nothing appears under its
/// final name before all of it was checked and written.
pub(crate) fn get<O: Objects>(
    objects: &O,
    address: EntryAddress,
    sub_path: Option<&str>,
    destination: &Path,
    progress: &dyn Fn(Progress),
) -> Result<Restored, Error> {
    let found = find(objects, address, sub_path)?;
    let total = found.item.totals();
    let mut restore = Restore { objects, progress, done: Totals::default(), total };
    restore.report();
    match found.item {
        Item::File { content, executable } => {
            let destination = if destination.is_dir() {
                destination.join(os_name_of(objects, address, found.name)?)
            } else {
                destination.to_owned()
            };
            let mut staged = StagedFile::new(destination.clone(), executable)?;
            restore.content(content, staged.file(), &destination)?;
            let path = staged.finish()?;
            Ok(Restored { path, totals: restore.done, skipped_links: Vec::new() })
        }
        Item::Folder { listing, totals } => {
            let staged = StagedFolder::new(destination)?;
            let skipped_links = restore.folder(listing, totals, staged.path())?;
            let path = staged.finish()?;
            Ok(Restored { path, totals: restore.done, skipped_links })
        }
    }
}

/// What to call an item, or what `sub_path` names inside it, where nobody says: by the last name of
/// the path, the one name that the catalog knows, or the address.
pub(crate) fn name_for<O: Objects>(
    objects: &O,
    address: EntryAddress,
    sub_path: Option<&str>,
) -> Result<OsString, Error> {
    os_name_of(objects, address, find(objects, address, sub_path)?.name)
}

fn os_name_of<O: Objects>(
    objects: &O,
    address: EntryAddress,
    name: Option<Name>,
) -> Result<OsString, Error> {
    let name = match name {
        Some(name) => Some(name),
        None => only_name(objects, address)?,
    };
    match name {
        Some(name) => os_name(&name),
        None => Ok(address.to_string().into()),
    }
}

/// Writes the content of a file to `output`, chunk by chunk, each of them checked first.
pub(crate) fn cat<O: Objects>(
    objects: &O,
    address: EntryAddress,
    sub_path: Option<&str>,
    mut output: impl Write,
) -> Result<u64, Error> {
    let found = find(objects, address, sub_path)?;
    let Item::File { content, .. } = found.item else {
        return Err(Error::IsAFolder { what: found.what });
    };
    let mut reader = BlobReader::new(objects, content);
    while let Some(chunk) = reader.next()? {
        output.write_all(&chunk).map_err(Error::Output)?;
    }
    output.flush().map_err(Error::Output)?;
    Ok(content.length)
}

/// A restore under way.
struct Restore<'a, O> {
    objects: &'a O,
    progress: &'a dyn Fn(Progress),
    done: Totals,
    total: Totals,
}

/// A file of one chunk that is still to be restored.
struct Small {
    content: Blob,
    executable: bool,
    path: PathBuf,
}

/// A folder of which the listing is still to be read. Its directory exists.
struct Pending {
    listing: Blob,
    totals: Totals,
    /// Relative to the restored folder.
    path: PathBuf,
    depth: usize,
}

impl<O: Objects> Restore<'_, O> {
    /// Fills `staged`, a new folder of ours, and returns the links that could not be created.
    ///
    /// Every file and folder is created where nothing was before, and links come when all else is
    /// done: so nothing is ever written through a link, even where a file system takes two names
    /// for one.
    fn folder(
        &mut self,
        listing: Blob,
        totals: Totals,
        staged: &Path,
    ) -> Result<Vec<PathBuf>, Error> {
        let mut pending = vec![Pending { listing, totals, path: PathBuf::new(), depth: 0 }];
        let mut links = Vec::new();
        let (mut small, mut small_bytes) = (Vec::with_capacity(TOGETHER), 0);
        while let Some(folder) = pending.pop() {
            if folder.depth > MAX_FOLDER_DEPTH {
                return Err(Flaw::FolderDepth.of(folder.listing.root));
            }
            let mut entries = Entries::new(self.objects, folder.listing, folder.totals);
            while let Some(entry) = entries.next()? {
                let path = folder.path.join(os_name(&entry.name)?);
                match entry.node {
                    Node::Item(Item::File { content, executable }) if content.depth == 0 => {
                        if small.len() == TOGETHER || small_bytes > BATCH_BYTES as u64 {
                            self.small(mem::take(&mut small))?;
                            small_bytes = 0;
                        }
                        small_bytes = content.length.saturating_add(small_bytes);
                        small.push(Small { content, executable, path: staged.join(path) });
                    }
                    Node::Item(Item::File { content, executable }) => {
                        self.file(content, executable, &staged.join(path))?;
                    }
                    Node::Item(Item::Folder { listing, totals }) => {
                        let at = staged.join(&path);
                        fs::create_dir(&at).map_err(|source| Error::Write { path: at, source })?;
                        self.done.folders += 1;
                        pending.push(Pending { listing, totals, path, depth: folder.depth + 1 });
                    }
                    Node::Link(target) => links.push((path, target)),
                }
            }
        }
        self.small(small)?;
        let mut skipped = Vec::new();
        for (path, target) in links {
            if create_link(&target, &staged.join(&path))? {
                self.done.links += 1;
            } else {
                skipped.push(path);
            }
        }
        Ok(skipped)
    }

    fn file(&mut self, content: Blob, executable: bool, path: &Path) -> Result<(), Error> {
        let mut file = create_file(path, executable)?;
        self.content(content, &mut file, path)
    }

    fn small(&mut self, files: Vec<Small>) -> Result<(), Error> {
        let name = |file: &Small| ObjectName { address: file.content.root, kind: CHUNK };
        let names: Vec<_> = files.iter().map(name).collect();
        let chunks = self.objects.read(&names).map_err(Error::node)?;
        for ((file, name), chunk) in files.into_iter().zip(names).zip(chunks) {
            let Small { content, executable, path } = file;
            let chunk = content_of(name, chunk)?;
            let chunk = BlobReader::new(self.objects, content).whole(chunk)?;
            let written = create_file(&path, executable)?.write_all(&chunk);
            written.map_err(|source| Error::Write { path, source })?;
            self.done.bytes += chunk.len() as u64;
            self.done.files += 1;
            self.report();
        }
        Ok(())
    }

    fn content(&mut self, content: Blob, file: &mut fs::File, path: &Path) -> Result<(), Error> {
        let mut reader = BlobReader::new(self.objects, content);
        while let Some(chunk) = reader.next()? {
            file.write_all(&chunk)
                .map_err(|source| Error::Write { path: path.to_owned(), source })?;
            self.done.bytes += chunk.len() as u64;
            self.report();
        }
        self.done.files += 1;
        self.report();
        Ok(())
    }

    fn report(&self) {
        (self.progress)(Progress { done: self.done, total: Some(self.total) });
    }
}

/// Creates a file where nothing was before.
fn create_file(path: &Path, executable: bool) -> Result<fs::File, Error> {
    let mut options = fs::File::options();
    options.write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, if executable { 0o777 } else { 0o666 });
    #[cfg(not(unix))]
    let _ = executable;
    options.open(path).map_err(|source| Error::Write { path: path.to_owned(), source })
}

fn os_name(name: &Name) -> Result<OsString, Error> {
    name.to_os().map_err(|source| Error::NotHere { what: name.to_string(), source })
}

/// Creates a symbolic link; `false` where the system knows none that need not say what they point
/// to.
fn create_link(target: &[u8], at: &Path) -> Result<bool, Error> {
    #[cfg(unix)]
    {
        let Some(target) = super::name::bytes_to_os(target) else { return Ok(false) };
        match std::os::unix::fs::symlink(target, at) {
            Ok(()) => Ok(true),
            Err(source) => Err(Error::Write { path: at.to_owned(), source }),
        }
    }
    #[cfg(not(unix))]
    {
        let _ = (target, at);
        Ok(false)
    }
}
