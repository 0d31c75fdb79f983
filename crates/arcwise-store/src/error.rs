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
    /// What a store begins with is not there, or does not say what it should.
    #[error("{}: {what}: restore a backup, or begin anew in another folder", .folder.display())]
    NotAStore {
        /// The folder that was to be opened.
        folder: PathBuf,
        /// What is wrong with it.
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
        "the disk is full: {} are free and {} are needed; \
         make room and store again (--min-free sets how much is kept free)",
        Size(*.free), Size(*.needed)
    )]
    DiskFull {
        /// Bytes free on the disk.
        free: u64,
        /// Bytes that would have to be free: [`Options::min_free`](crate::Options::min_free) and
        /// the size of what was to be written.
        needed: u64,
    },
    /// A limit does not allow more; nothing was written, and reads work as before.
    #[error("{limit} is full: it holds {} of at most {}; raise the limit, or remove something",
        Size(*.held), Size(*.most))]
    Full {
        /// Which limit.
        limit: Limited,
        /// Bytes held, of the aspects' encodings.
        held: u64,
        /// Bytes that may be.
        most: u64,
    },
    /// The space was deleted.
    #[error("space #{} was deleted", .0.fingerprint())]
    SpaceDeleted(SpaceId),
    /// What is on disk is not what was stored.
    #[error("the store is damaged: {0}; see all that is, and what to do: arcwise store check")]
    Damaged(Damage),
    /// There is a space with this id already.
    #[error("space #{} exists already", .0.fingerprint())]
    SpaceExists(SpaceId),
    /// The storage engine failed. After a failed write it is unknown whether what was to be written
    /// will be there when the store is opened again.
    #[error(transparent)]
    Engine(#[from] EngineError),
}

/// What has a limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Limited {
    /// A space: see [`Limits`](crate::Limits).
    Space(SpaceId),
    /// The store: see [`Options::max_bytes`](crate::Options::max_bytes).
    Store,
}

impl fmt::Display for Limited {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Limited::Space(id) => write!(f, "space #{}", id.fingerprint()),
            Limited::Store => f.write_str("the store"),
        }
    }
}

impl StoreError {
    /// Whether there was no room, on the disk or under a limit: it may be there later.
    pub fn is_full(&self) -> bool {
        match self {
            Self::DiskFull { .. } | Self::Full { .. } => true,
            Self::Engine(error) => io_error(&error.0).is_some_and(|error| is_full(error.kind())),
            _ => false,
        }
    }

    /// Whether the store takes no more writes until it is opened again. Reads go on working.
    pub fn is_stopped(&self) -> bool {
        match self {
            Self::Engine(error) => error.is_poisoned() || io_error(&error.0).is_some(),
            _ => false,
        }
    }

    /// Whether it is known that nothing was written, so that another batch may go on.
    pub(crate) fn wrote_nothing(&self) -> bool {
        matches!(self, Self::DiskFull { .. } | Self::Full { .. } | Self::SpaceDeleted(_))
    }
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
        let advice = match &*self.0 {
            fjall::Error::Poisoned => "make room or check the disk, then restart the daemon",
            fjall::Error::InvalidVersion(Some(_)) => "use the version of arcwise that wrote it",
            error => match io_error(error).map(io::Error::kind) {
                Some(kind) if is_full(kind) => "restart the daemon after making room",
                Some(io::ErrorKind::PermissionDenied) => "see to whom they belong",
                Some(kind) if !is_incomplete(kind) => "check the disk, then restart the daemon",
                _ => "restore a backup, or begin anew in another folder",
            },
        };
        write!(f, "{}; {advice}", Cause(&self.0))
    }
}

/// What happened to the engine, in words of ours and without advice.
struct Cause<'a>(&'a fjall::Error);

impl fmt::Display for Cause<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        use fjall::LsmError::ChecksumMismatch;
        if let Some(error) = io_error(self.0) {
            return match error.kind() {
                kind if is_full(kind) => f.write_str(
                    "the disk is full, and the store takes no more until it is opened again",
                ),
                kind if is_incomplete(kind) => {
                    f.write_str("a file of the store is missing or cut short")
                }
                io::ErrorKind::PermissionDenied => {
                    write!(f, "the files of the store cannot be used: {error}")
                }
                _ => write!(f, "the disk failed: {error}"),
            };
        }
        f.write_str(match self.0 {
            fjall::Error::Poisoned => {
                "an earlier write to the disk failed, and the store takes no more until it is \
                 opened again"
            }
            fjall::Error::InvalidVersion(Some(_)) => {
                "another version of the storage engine wrote the store"
            }
            fjall::Error::Locked => "another process has the store open",
            fjall::Error::Storage(ChecksumMismatch { .. }) => {
                "a file of the store is damaged: its checksum is wrong"
            }
            _ => "a file of the store is damaged",
        })
    }
}

/// What the operating system said, where the engine failed over that.
fn io_error(error: &fjall::Error) -> Option<&io::Error> {
    match error {
        fjall::Error::Io(error) | fjall::Error::Storage(fjall::LsmError::Io(error)) => Some(error),
        _ => None,
    }
}

fn is_full(kind: io::ErrorKind) -> bool {
    matches!(kind, io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
}

/// Whether the disk works, but what should be on it is not.
fn is_incomplete(kind: io::ErrorKind) -> bool {
    use io::ErrorKind::{InvalidData, NotFound, UnexpectedEof};
    matches!(kind, InvalidData | NotFound | UnexpectedEof)
}

/// A number of bytes, for people.
struct Size(u64);

impl fmt::Display for Size {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const UNITS: [&str; 6] = ["KiB", "MiB", "GiB", "TiB", "PiB", "EiB"];
        let (mut value, mut unit) = (self.0 as f64, "B");
        for larger in UNITS.into_iter() {
            if value < 1024.0 {
                break;
            }
            (value, unit) = (value / 1024.0, larger);
        }
        match value.fract() < 0.05 || value >= 100.0 {
            true => write!(f, "{value:.0} {unit}"),
            false => write!(f, "{value:.1} {unit}"),
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
            Fault::Unreadable(error) => write!(f, "cannot be read: {}", Cause(&error.0)),
            Fault::NoSuchSpace => f.write_str("belongs to no space"),
            Fault::Miscounted { what, counter, rows } => {
                write!(f, "says {counter} {what}, but there are {rows}")
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn engine(error: fjall::Error) -> String {
        EngineError::from(error).to_string()
    }

    #[test]
    fn sizes_for_people() {
        let shown = [0, 1023, 1024, 1536, 40 << 20, 512 << 20, 1_234_567_890, u64::MAX];
        let shown = shown.map(|bytes| Size(bytes).to_string());
        assert_eq!(
            shown,
            ["0 B", "1023 B", "1 KiB", "1.5 KiB", "40 MiB", "512 MiB", "1.1 GiB", "16 EiB"]
        );
        let full = StoreError::DiskFull { free: 40 << 20, needed: 512 << 20 }.to_string();
        assert!(full.contains("40 MiB are free and 512 MiB are needed"), "{full}");
        assert!(full.contains("--min-free"), "{full}");
    }

    /// After these the engine takes no writes until it is opened again.
    #[test]
    fn a_disk_that_was_really_full_needs_a_restart() {
        let io = || io::Error::from(io::ErrorKind::StorageFull);
        for error in [
            fjall::Error::Io(io()),
            fjall::Error::Storage(fjall::LsmError::Io(io())),
            fjall::Error::Poisoned,
        ] {
            let text = engine(error);
            assert!(text.contains("restart the daemon") && text.contains("room"), "{text}");
            assert!(!text.contains("store again"), "{text}");
        }
    }

    #[test]
    fn damage_is_told_in_words_of_ours_with_one_advice() {
        use fjall::LsmError;
        let eof = || io::Error::from(io::ErrorKind::UnexpectedEof);
        for error in [
            fjall::Error::Storage(LsmError::Unrecoverable),
            fjall::Error::Storage(LsmError::InvalidHeader("X")),
            fjall::Error::Storage(LsmError::Io(eof())),
            fjall::Error::InvalidVersion(None),
            fjall::Error::Unrecoverable,
        ] {
            let error = EngineError::from(error);
            let text = error.to_string();
            assert!(
                text.ends_with("; restore a backup, or begin anew in another folder"),
                "{text}"
            );
            let row = Row::Record("counters");
            let damage = Damage { space: None, row, fault: Fault::Unreadable(error) };
            let damage = StoreError::Damaged(damage).to_string();
            assert!(
                damage.ends_with("; see all that is, and what to do: arcwise store check"),
                "{damage}"
            );
            for text in [text, damage] {
                assert_eq!(text.matches(';').count(), 1, "{text}");
                for leak in ["Fjall", "Lsm", "Storage(", "Unrecoverable", "Invalid"] {
                    assert!(!text.contains(leak), "{text}");
                }
            }
        }
    }
}
