//! Restores files and folders.

use std::{
    fs,
    io::Write,
    path::{Path, PathBuf},
};

use arcwise_proto::EntryAddress;

use super::{
    MAX_FOLDER_DEPTH, Objects, Progress,
    blob::BlobReader,
    catalog::only_name,
    error::{Error, Flaw},
    listing::{Entries, find},
    name::Name,
    record::{Blob, Item, Node, Totals},
    staging::{StagedFile, StagedFolder},
};

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
                let name = match found.name {
                    Some(name) => Some(name),
                    None => only_name(objects, address)?,
                };
                destination.join(match name {
                    Some(name) => os_name(&name)?,
                    None => address.to_string().into(),
                })
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
        while let Some(folder) = pending.pop() {
            if folder.depth > MAX_FOLDER_DEPTH {
                return Err(Flaw::FolderDepth.of(folder.listing.root));
            }
            let mut entries = Entries::new(self.objects, folder.listing, folder.totals);
            while let Some(entry) = entries.next()? {
                let path = folder.path.join(os_name(&entry.name)?);
                match entry.node {
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
        let mut options = fs::File::options();
        options.write(true).create_new(true);
        #[cfg(unix)]
        std::os::unix::fs::OpenOptionsExt::mode(
            &mut options,
            if executable { 0o777 } else { 0o666 },
        );
        #[cfg(not(unix))]
        let _ = executable;
        let mut file =
            options.open(path).map_err(|source| Error::Write { path: path.to_owned(), source })?;
        self.content(content, &mut file, path)
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

fn os_name(name: &Name) -> Result<std::ffi::OsString, Error> {
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
