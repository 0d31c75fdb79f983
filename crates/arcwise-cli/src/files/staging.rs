//! Where something restored grows until it is whole: under a name that says so, beside its
//! destination and on the same file system, so that the last step is a rename. What is dropped
//! before that is removed.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use tempfile::{Builder, NamedTempFile, TempDir};

use super::error::Error;

/// Begins the name of whatever is not whole yet.
const PARTIAL: &str = ".arcwise-partial-";

/// A folder that is not whole yet.
pub(super) struct StagedFolder {
    folder: TempDir,
    place: Place,
}

enum Place {
    /// Nothing was there: the staged folder becomes the destination.
    New(PathBuf),
    /// An empty folder was there, and the staged one grows inside it. Its content is moved up in
    /// the end, for the folder itself may be somebody's current one, or a mount point.
    Empty(PathBuf),
}

impl StagedFolder {
    pub(super) fn new(destination: &Path) -> Result<Self, Error> {
        let place = match fs::symlink_metadata(destination) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                Place::New(destination.to_owned())
            }
            Err(source) => return Err(Error::Write { path: destination.to_owned(), source }),
            Ok(_) if destination.is_dir() => {
                check_empty(destination)?;
                Place::Empty(destination.to_owned())
            }
            Ok(_) => return Err(Error::Exists(destination.to_owned())),
        };
        let within = match &place {
            Place::New(_) => parent(destination)?,
            Place::Empty(folder) => folder,
        };
        let folder = builder(0o777)
            .tempdir_in(within)
            .map_err(|source| Error::Write { path: destination.to_owned(), source })?;
        Ok(Self { folder, place })
    }

    /// The folder to fill.
    pub(super) fn path(&self) -> &Path {
        self.folder.path()
    }

    /// Shows the folder under its own name.
    pub(super) fn finish(mut self) -> Result<PathBuf, Error> {
        match &self.place {
            Place::New(destination) => {
                rename(self.folder.path(), destination)?;
                self.folder.disable_cleanup(true);
                Ok(destination.clone())
            }
            Place::Empty(destination) => {
                let failed = |source| Error::Write { path: destination.clone(), source };
                // From here on the staged folder goes when it is empty, and not before: should this
                // stop half-way, nothing is lost, and what is left of it says that this is not all.
                self.folder.disable_cleanup(true);
                for child in fs::read_dir(self.folder.path()).map_err(failed)? {
                    let child = child.map_err(failed)?;
                    rename(&child.path(), &destination.join(child.file_name()))?;
                }
                fs::remove_dir(self.folder.path()).map_err(failed)?;
                Ok(destination.clone())
            }
        }
    }
}

/// A file that is not whole yet.
pub(crate) struct StagedFile {
    file: NamedTempFile,
    destination: PathBuf,
}

impl StagedFile {
    pub(super) fn new(destination: PathBuf, executable: bool) -> Result<Self, Error> {
        Self::with_mode(destination, if executable { 0o777 } else { 0o666 })
    }

    /// A file that only its owner can read.
    pub(crate) fn private(destination: PathBuf) -> Result<Self, Error> {
        Self::with_mode(destination, 0o600)
    }

    fn with_mode(destination: PathBuf, mode: u32) -> Result<Self, Error> {
        if fs::symlink_metadata(&destination).is_ok() {
            return Err(Error::Exists(destination));
        }
        let file = builder(mode)
            .tempfile_in(parent(&destination)?)
            .map_err(|source| Error::Write { path: destination.clone(), source })?;
        Ok(Self { file, destination })
    }

    pub(crate) fn file(&mut self) -> &mut fs::File {
        self.file.as_file_mut()
    }

    /// Shows the file under its own name, unless something else has taken it meanwhile.
    pub(crate) fn finish(self) -> Result<PathBuf, Error> {
        match self.file.persist_noclobber(&self.destination) {
            Ok(_) => Ok(self.destination),
            Err(error) if error.error.kind() == io::ErrorKind::AlreadyExists => {
                Err(Error::Exists(self.destination))
            }
            Err(error) => Err(Error::Write { path: self.destination, source: error.error }),
        }
    }
}

/// Makes temporary things that are as open to others as the umask lets new things be, since they
/// are to stay; on their own they would be private.
fn builder(mode: u32) -> Builder<'static, 'static> {
    let mut builder = Builder::new();
    builder.prefix(PARTIAL);
    #[cfg(unix)]
    builder.permissions(std::os::unix::fs::PermissionsExt::from_mode(mode));
    #[cfg(not(unix))]
    let _ = mode;
    builder
}

fn rename(from: &Path, to: &Path) -> Result<(), Error> {
    fs::rename(from, to).map_err(|source| Error::Write { path: to.to_owned(), source })
}

/// The existing folder that `destination` will stand in.
fn parent(destination: &Path) -> Result<&Path, Error> {
    let parent = match destination.parent() {
        Some(parent) if parent.as_os_str().is_empty() => Path::new("."),
        Some(parent) => parent,
        None => destination,
    };
    if parent.is_dir() { Ok(parent) } else { Err(Error::NoParent(parent.to_owned())) }
}

fn check_empty(folder: &Path) -> Result<(), Error> {
    let failed = |source| Error::Write { path: folder.to_owned(), source };
    match fs::read_dir(folder).map_err(failed)?.next() {
        None => Ok(()),
        Some(Ok(found)) => {
            Err(Error::NotEmpty { folder: folder.to_owned(), found: found.file_name().into() })
        }
        Some(Err(source)) => Err(failed(source)),
    }
}
