//! What can go wrong, by blame: the disk, what is on it, or the caller.

use std::{fmt, io, path::PathBuf, sync::Arc};

use arcwise_proto::{AspectError, AspectHash, AspectKey, SpaceId};

/// Why a store was not opened. Nothing on disk was changed, other than that a missing folder may
/// have been created.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The store is open already.
    #[error(
        "another process has the store in {} open; stop it, or give this one a folder of its own",
        .0.display()
    )]
    Locked(PathBuf),
    /// A newer version of this software wrote the store.
    #[error(
        "the store in {} has format {found}, and this version reads formats up to {known}; \
         upgrade arcwise, or use another folder",
        .folder.display()
    )]
    NewerFormat {
        /// Where the store is.
        folder: PathBuf,
        /// The format on disk.
        found: u32,
        /// The newest format that this version reads.
        known: u32,
    },
    /// The file `FORMAT` does not say what it should.
    #[error(
        "{} is not a store: its file FORMAT {what}; use another folder, or restore a backup",
        .folder.display()
    )]
    NotAStore {
        /// The folder that was to be opened.
        folder: PathBuf,
        /// What is wrong with the file.
        what: &'static str,
    },
    /// The folder or a file of ours in it cannot be used.
    #[error("cannot use {}: {source}", .path.display())]
    Folder {
        /// The folder or file.
        path: PathBuf,
        /// What the operating system says.
        source: io::Error,
    },
    /// What the store needs to begin with is damaged.
    #[error("the store is damaged: {0}; restore a backup, or begin anew in another folder")]
    Damaged(Damage),
    /// The storage engine failed.
    #[error(transparent)]
    Engine(#[from] EngineError),
}

impl From<fjall::Error> for OpenError {
    fn from(error: fjall::Error) -> Self {
        EngineError::from(error).into()
    }
}

/// Why a read or a write failed. Cheap to clone, since one failed commit is told to every caller
/// whose aspects were in it.
#[derive(Clone, Debug, thiserror::Error)]
pub enum StoreError {
    /// Too little room on the disk; nothing was written, and reads work as before.
    #[error(
        "the disk is full: {free} bytes are free and {needed} are needed; \
         make room, and what was refused can be stored again"
    )]
    DiskFull {
        /// Bytes free on the disk.
        free: u64,
        /// Bytes that would have to be free: [`Options::min_free`](crate::Options::min_free) and
        /// the size of what was to be written.
        needed: u64,
    },
    /// What is on disk is not what was stored.
    #[error(
        "the store is damaged: {0}; \
         check the disk and the whole store, then restore a backup or fetch the space anew"
    )]
    Damaged(Damage),
    /// There is a space with this id already.
    #[error("space #{} exists already", .0.fingerprint())]
    SpaceExists(SpaceId),
    /// The storage engine failed. After a failed write it is unknown whether what was to be written
    /// will be there when the store is opened again.
    #[error(transparent)]
    Engine(#[from] EngineError),
}

impl From<fjall::Error> for StoreError {
    fn from(error: fjall::Error) -> Self {
        EngineError::from(error).into()
    }
}

/// The storage engine, or the disk under it, failed.
#[derive(Clone, Debug)]
pub struct EngineError(Arc<fjall::Error>);

impl EngineError {
    /// Whether an earlier write failed, so that the store takes no more writes until it is opened
    /// again. Reads go on working.
    pub fn is_poisoned(&self) -> bool {
        matches!(*self.0, fjall::Error::Poisoned)
    }
}

impl From<fjall::Error> for EngineError {
    fn from(error: fjall::Error) -> Self {
        Self(Arc::new(error))
    }
}

impl fmt::Display for EngineError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &*self.0 {
            fjall::Error::Poisoned => f.write_str(
                "an earlier write to the disk failed and the store takes no more; \
                 check the disk, then open the store again",
            ),
            fjall::Error::Io(error) => write!(
                f,
                "the disk failed: {error}; check it, and open the store again if writes fail"
            ),
            fjall::Error::InvalidVersion(_) => f.write_str(
                "another version of the storage engine wrote the store; \
                 use the version of arcwise that wrote it",
            ),
            error => write!(
                f,
                "the storage engine failed: {error}; open the store again, or restore a backup"
            ),
        }
    }
}

impl std::error::Error for EngineError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        Some(&*self.0)
    }
}

/// One thing on disk that is not as it was written.
#[derive(Clone, Debug)]
pub struct Damage {
    /// The space it belongs to, where that is known.
    pub space: Option<SpaceId>,
    /// Where it was found.
    pub row: Row,
    /// What is wrong with it.
    pub fault: Fault,
}

impl fmt::Display for Damage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.row)?;
        if let Some(space) = &self.space {
            write!(f, " of space #{}", space.fingerprint())?;
        }
        write!(f, " {}", self.fault)
    }
}

/// Where damage was found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Row {
    /// The index row of an aspect, or what it leads to.
    Aspect(AspectKey),
    /// The log row with this local sequence number.
    Log(u64),
    /// One of the records besides the aspects: a word that says which.
    Record(&'static str),
}

impl fmt::Display for Row {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Row::Aspect(key) => write!(f, "aspect {key}"),
            Row::Log(sequence) => write!(f, "log row {sequence}"),
            Row::Record(what) => write!(f, "the record of {what}"),
        }
    }
}

/// What is wrong with a row.
#[derive(Clone, Debug)]
pub enum Fault {
    /// The log should have it and does not.
    NotLogged,
    /// It is in the log, but the index does not lead there.
    NotIndexed,
    /// It is indexed, but cannot be found by its hash.
    NoId,
    /// The sums that are kept to compare the space with other nodes are not those of what it holds.
    OtherSums,
    /// The log row holds an aspect of another hash.
    OtherContent(AspectHash),
    /// The log row holds no aspect.
    NotAnAspect(AspectError),
    /// The index has another publish time than the aspect.
    OtherTime,
    /// Another aspect is indexed with the same row of the log.
    SharedRow,
    /// The bytes are not of the form they should have.
    Malformed,
    /// The engine's own checksums fail, or it cannot read the row for another reason.
    Unreadable(EngineError),
    /// The row belongs to a space that does not exist.
    NoSuchSpace,
    /// The counters say one thing and the rows another.
    Miscounted {
        /// What is counted.
        what: &'static str,
        /// What the counters say.
        counter: u64,
        /// What the rows say.
        rows: u64,
    },
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Fault::NotLogged => f.write_str("is missing from the log"),
            Fault::NotIndexed => f.write_str("is in the log but not indexed there"),
            Fault::NoId => f.write_str("is indexed but not found by its hash"),
            Fault::OtherSums => f.write_str("is not of what the space holds"),
            Fault::OtherContent(hash) => write!(f, "holds other content, with hash {hash}"),
            Fault::NotAnAspect(error) => write!(f, "holds no aspect: {error}"),
            Fault::OtherTime => f.write_str("is indexed with another publish time than it has"),
            Fault::SharedRow => f.write_str("shares its row of the log with another"),
            Fault::Malformed => f.write_str("is malformed"),
            Fault::Unreadable(error) => write!(f, "cannot be read: {error}"),
            Fault::NoSuchSpace => f.write_str("belongs to no space"),
            Fault::Miscounted { what, counter, rows } => {
                write!(f, "says {counter} {what}, but there are {rows}")
            }
        }
    }
}
