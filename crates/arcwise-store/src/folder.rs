//! The folder of a store: its lock, its format version, and the engine's files.
//!
//! | path | what |
//! |---|---|
//! | `FORMAT` | one line that says the version of everything else; locked while the store is open |
//! | `db/` | the engine's files |
//! | `db.new/` | the same while they are first created |
//! | `sums/` | checkpoints of the sums of spaces, which can be made anew from the rest |
//!
//! `db.new/` is there before `FORMAT` says anything, and until it becomes `db/`. So a folder that has
//! a format and neither of the two has lost its store; a creation that was cut short never looks
//! like that.

use std::{
    fs::{self, File, OpenOptions, TryLockError},
    io::{self, Read, Seek, SeekFrom, Write},
    path::{Path, PathBuf},
};

use fjall::{
    CompressionType, Database, Keyspace, KeyspaceCreateOptions, KvSeparationOptions,
    config::{BloomConstructionPolicy, CompressionPolicy, FilterPolicy, FilterPolicyEntry},
};

use crate::{OpenError, Options};

/// The format that this version writes, and the newest it reads.
///
/// | format | what is new |
/// |---|---|
/// | 1 | |
/// | 2 | removals; the keyspace `ids` and the sums, which are made anew where they are missing |
/// | 3 | limits and deleted spaces; logged removals may be missing before the checkpoint |
pub(crate) const KNOWN_FORMAT: u32 = 3;
const FORMAT_LINE: &str = "arcwise store, format ";

/// Sizes of the memtables. Whatever is in them is replayed from the journal on opening, so they are
/// as small as they can be before the number of files they are flushed to slows writes down.
const LOG_MEMTABLE: u64 = 16 << 20;
const INDEX_MEMTABLE: u64 = 8 << 20;
const META_MEMTABLE: u64 = 1 << 20;

/// Bytes of journals kept before memtables are flushed for their sake: the least the engine takes.
const JOURNALS: u64 = 64 << 20;

/// The engine's database and its four keyspaces.
#[derive(Clone)]
pub(crate) struct Engine {
    pub(crate) meta: Keyspace,
    pub(crate) index: Keyspace,
    pub(crate) ids: Keyspace,
    pub(crate) log: Keyspace,
    pub(crate) db: Database,
}

/// The lock on a folder, held as long as this lives.
pub(crate) struct Claim {
    file: File,
    format: u32,
}

/// Takes the lock on `folder`, which is held as long as the returned file lives, and checks the
/// format version; creates both where there is no store yet.
pub(crate) fn claim(folder: &Path) -> Result<Claim, OpenError> {
    fs::create_dir_all(folder).map_err(|e| unusable(folder, e))?;
    let path = folder.join("FORMAT");
    let failed = |e| unusable(&path, e);
    let not_a_store = |what| OpenError::NotAStore { folder: folder.to_owned(), what };
    let (home, fresh) = (folder.join("db"), folder.join("db.new"));
    if home.exists() && !path.exists() {
        return Err(not_a_store("the store has no file FORMAT"));
    }
    let mut file = OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .open(&path)
        .map_err(failed)?;
    file.try_lock().map_err(|e| match e {
        TryLockError::WouldBlock => OpenError::Locked(folder.to_owned()),
        TryLockError::Error(e) => failed(e),
    })?;

    let mut line = Vec::new();
    (&file).take(64).read_to_end(&mut line).map_err(failed)?;
    // Unfinished, with nothing else there yet: new, or left so by a crash right after its creation.
    if is_unfinished(&line) && !home.exists() {
        fs::create_dir_all(&fresh).map_err(|e| unusable(&fresh, e))?;
        sync_folder(folder).map_err(|e| unusable(folder, e))?;
        let line = format!("{FORMAT_LINE}{KNOWN_FORMAT}\n");
        file.rewind().and_then(|()| file.set_len(0)).map_err(failed)?;
        file.write_all(line.as_bytes()).map_err(failed)?;
        file.sync_all().map_err(failed)?;
        return Ok(Claim { file, format: KNOWN_FORMAT });
    }
    let version = str::from_utf8(&line)
        .ok()
        .and_then(|line| line.strip_suffix('\n')?.strip_prefix(FORMAT_LINE)?.parse().ok())
        .ok_or_else(|| not_a_store("the file FORMAT does not name a format"))?;
    match version {
        format @ 1..=KNOWN_FORMAT if home.exists() || fresh.exists() => Ok(Claim { file, format }),
        1..=KNOWN_FORMAT => Err(not_a_store("the store of this node is gone")),
        0 => Err(not_a_store("the file FORMAT names the format 0, which never was")),
        found => {
            Err(OpenError::NewerFormat { folder: folder.to_owned(), found, known: KNOWN_FORMAT })
        }
    }
}

/// Whether this is what a power failure may leave of the line that says the format: a part of it, and
/// zeros after that.
fn is_unfinished(line: &[u8]) -> bool {
    let whole = format!("{FORMAT_LINE}{KNOWN_FORMAT}\n");
    let written = line.iter().take_while(|byte| **byte != 0).count();
    let (written, rest) = line.split_at(written);
    line.len() <= whole.len()
        && written.len() < whole.len()
        && whole.as_bytes().starts_with(written)
        && rest.iter().all(|byte| *byte == 0)
}

/// Says that a store of an older format is one of the newest from now on. What it lacks of that is made
/// anew whenever it is missing.
pub(crate) fn upgrade(folder: &Path, claim: &mut Claim) -> Result<(), OpenError> {
    if claim.format < KNOWN_FORMAT {
        let line = format!("{FORMAT_LINE}{KNOWN_FORMAT}\n");
        let written = (|| {
            claim.file.seek(SeekFrom::Start(0))?;
            claim.file.write_all(line.as_bytes())?;
            claim.file.set_len(line.len() as u64)?;
            claim.file.sync_all()
        })();
        written.map_err(|e| unusable(&folder.join("FORMAT"), e))?;
        claim.format = KNOWN_FORMAT;
    }
    Ok(())
}

/// Opens the engine in a claimed folder. Its files are created under another name and moved into
/// place, so that a creation that was cut short is never taken for a store.
pub(crate) fn open_engine(folder: &Path, options: &Options) -> Result<Engine, OpenError> {
    let (home, fresh) = (folder.join("db"), folder.join("db.new"));
    if !home.exists() {
        empty(&fresh).map_err(|e| unusable(&fresh, e))?;
        drop(open_at(&fresh, options)?);
        // The engine leaves that to the file system.
        sync_tree(&fresh).map_err(|e| unusable(&fresh, e))?;
        fs::rename(&fresh, &home).map_err(|e| unusable(&home, e))?;
        sync_folder(folder).map_err(|e| unusable(folder, e))?;
    }
    let opened = match open_at(&home, options) {
        Err(fjall::Error::JournalRecovery(_)) => open_without_torn_batch(&home, options),
        opened => opened,
    };
    opened.map_err(|e| match e {
        fjall::Error::Locked => OpenError::Locked(folder.to_owned()),
        e => e.into(),
    })
}

/// What the engine ends each batch in its journals with.
const BATCH_END: &[u8] = b"FJL\x03";

/// Opens the engine where the last batch in its newest journal is torn: a power failure has left some of
/// it on disk, and not all. Nobody was told that it is there, but the engine refuses to open over it
/// where it has an end. So its end is cut off, or all of it: the engine does the rest. Where that is not
/// what is wrong, everything stays as it was.
fn open_without_torn_batch(home: &Path, options: &Options) -> fjall::Result<Engine> {
    let number = |path: &Path| -> Option<u64> {
        (path.extension()? == "jnl").then(|| path.file_stem()?.to_str()?.parse().ok())?
    };
    let mut journals = Vec::new();
    for child in fs::read_dir(home)? {
        let path = child?.path();
        journals.extend(number(&path).map(|number| (number, path)));
    }
    let Some((_, journal)) = journals.into_iter().max() else { return open_at(home, options) };
    let whole = fs::read(&journal)?;
    let end_before =
        |end: usize| whole[..end].windows(BATCH_END.len()).rposition(|bytes| bytes == BATCH_END);
    let last = end_before(whole.len());
    let all_of_it = last.and_then(|last| Some(end_before(last)? + BATCH_END.len()));
    for cut in last.into_iter().chain(all_of_it) {
        File::options().write(true).open(&journal)?.set_len(cut as u64)?;
        if let Ok(engine) = open_at(home, options) {
            return Ok(engine);
        }
        let file = File::options().write(true).truncate(true).open(&journal)?;
        (&file).write_all(&whole)?;
        file.sync_all()?;
    }
    open_at(home, options)
}

/// Removes what is in a folder, and not the folder.
fn empty(folder: &Path) -> io::Result<()> {
    for child in fs::read_dir(folder)? {
        let child = child?;
        match child.file_type()?.is_dir() {
            true => fs::remove_dir_all(child.path())?,
            false => fs::remove_file(child.path())?,
        }
    }
    Ok(())
}

fn open_at(path: &Path, options: &Options) -> fjall::Result<Engine> {
    let db = Database::builder(path)
        .cache_size(options.cache)
        .max_journaling_size(JOURNALS)
        // They are not kept for long, and large values would be compressed twice.
        .journal_compression(CompressionType::None)
        .open()?;
    let meta =
        db.keyspace("meta", || KeyspaceCreateOptions::default().max_memtable_size(META_MEMTABLE))?;
    let index = db.keyspace("index", || {
        KeyspaceCreateOptions::default()
            .max_memtable_size(INDEX_MEMTABLE)
            // Most lookups are for aspects that are not held, and should not touch the disk.
            .filter_policy(FilterPolicy::all(FilterPolicyEntry::Bloom(
                BloomConstructionPolicy::BitsPerKey(10.0),
            )))
            // Hashes do not compress.
            .data_block_compression_policy(CompressionPolicy::all(CompressionType::None))
    })?;
    let ids = db.keyspace("ids", || {
        KeyspaceCreateOptions::default()
            // Mostly searched by range, for which filters are of no use.
            .filter_policy(FilterPolicy::disabled())
            .data_block_compression_policy(CompressionPolicy::all(CompressionType::None))
    })?;
    let log = db.keyspace("log", || {
        KeyspaceCreateOptions::default()
            .max_memtable_size(LOG_MEMTABLE)
            .expect_point_read_hits(true)
            // Values of 1 KiB and more in files of their own, which compaction leaves alone until a
            // quarter of a file is removed. With one space the keys only ever grow and nothing is
            // compacted anyway; with six written in turn it halved the bytes written.
            .with_kv_separation(Some(KvSeparationOptions::default().age_cutoff(1.0)))
    })?;
    Ok(Engine { meta, index, ids, log, db })
}

fn unusable(path: &Path, source: io::Error) -> OpenError {
    OpenError::Folder { path: PathBuf::from(path), source }
}

/// Makes the names in a folder durable, and the folder's own name in its parent.
fn sync_folder(folder: &Path) -> io::Result<()> {
    sync_names(folder)?;
    sync_names(folder.canonicalize()?.parent().unwrap_or(folder))
}

/// Makes the names in a folder durable, and in all folders below it.
fn sync_tree(folder: &Path) -> io::Result<()> {
    for child in fs::read_dir(folder)? {
        let child = child?;
        if child.file_type()?.is_dir() {
            sync_tree(&child.path())?;
        }
    }
    sync_names(folder)
}

/// Makes the names in a folder durable.
#[cfg(unix)]
pub(crate) fn sync_names(folder: &Path) -> io::Result<()> {
    File::open(folder)?.sync_all()
}

/// Folders cannot be opened for this elsewhere.
#[cfg(not(unix))]
pub(crate) fn sync_names(_: &Path) -> io::Result<()> {
    Ok(())
}
