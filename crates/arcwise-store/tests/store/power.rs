//! What was acknowledged survives a power failure.
//!
//! After `kill -9` everything that was written is still there, synced or not. When the power goes it
//! is not. So a program works on a store while a library that is loaded before the C library
//! (`power/record.c`) writes down everything that is done to its files; afterwards that trace is cut
//! off at some moment, and what a disk could be left with then is made (`power/disk.rs`) and opened.
//!
//! What was in a file when a sync of it began that was over by then is there. Of what came later,
//! each sector of 512 bytes is as it was at some time since; or everything up to some write is there
//! and the beginning of that write; and the length is likewise old or new, with zeros where nothing was
//! written. Each file has its own luck.
//!
//! Names are less clear, since a file system may promise more than the standard does:
//!
//! * [`Names::Ordered`], as ext4, XFS and Btrfs do by default: changes of names go to a journal, in the
//!   order in which they were made, so that what is there is some beginning of all of them. An fsync
//!   of a file or folder brings at least all up to the last one that concerns it. (`fdatasync` may
//!   be taken to, on ext4, but nobody says so; here it does not.)
//! * [`Names::ByFolder`], about what POSIX promises: a name is there once its folder was synced, and
//!   syncing the file itself does nothing for it. Within a folder the order is kept.
//!
//! How many moments are tried can be set with `ARCWISE_POWER_ROUNDS`, and where to begin with
//! `ARCWISE_POWER_SEED`; threads take turns as they like, though, so that a seed does not bring the
//! same trace again. With `ARCWISE_POWER_KEEP` what a test failed with is kept in that folder: the disk, and
//! the trace that it was made from.

#[path = "power/disk.rs"]
mod disk;

use std::{
    collections::{BTreeMap, BTreeSet},
    env, fs,
    io::Write,
    panic::{AssertUnwindSafe, catch_unwind},
    path::{Path, PathBuf},
    process::Command,
    thread,
};

use crate::common::*;
use arcwise_proto::{ArcSet, Aspect, session::Holdings};
use arcwise_store::{Options, Store};
use disk::{Dice, Names, Torn, Trace};

const FOLDER: &str = "ARCWISE_POWER_TEST_FOLDER";
const SEED: &str = "ARCWISE_POWER_TEST_SEED";
/// Moments that are tried of one trace.
const MOMENTS: usize = 40;
const WRITERS: usize = 2;
const CALLS: usize = 160;
/// After so many calls of each writer the store is closed and opened again.
const REOPEN: usize = 70;

/// A call that is acknowledged once it has returned.
#[derive(Debug)]
enum Call {
    /// In one batch, which must be there as a whole or not at all.
    Insert(Vec<u64>),
    Remove(Vec<u64>),
    Set(u64),
}

/// All that a writer does. Each has numbers of its own.
fn calls(seed: u64, writer: usize) -> Vec<Call> {
    let mut dice = Dice(seed ^ (writer as u64 + 1) << 32);
    let (mut next, mut held) = (writer as u64, Vec::new());
    let call = |n| match dice.range(0, 10) {
        0 => Call::Set(n as u64),
        1 | 2 if held.len() > 4 => {
            let removed = dice.range(1, 4);
            Call::Remove((0..removed).map(|_| held.remove(dice.range(0, held.len()))).collect())
        }
        _ => {
            let new = (0..dice.range(1, 7)).map(|n| next + (n * WRITERS) as u64);
            let new: Vec<_> = new.collect();
            next = new[new.len() - 1] + WRITERS as u64;
            held.extend(&new);
            Call::Insert(new)
        }
    };
    (0..CALLS).map(call).collect()
}

/// Many are small, some so large that the engine keeps them in files of their own, and a few such that
/// compress well: so that memtables get full without much being written.
fn made(n: u64) -> Aspect {
    let mut dice = Dice(n);
    // More of these at first, so that there is something in such files most of the time.
    let large = if n < 240 { 5 } else { 2 };
    let (size, noise) = match dice.range(large, 20 + large) {
        0..15 => (dice.range(0, 900), true),
        15..20 => (dice.range(1000, 6000), true),
        _ => (dice.range(200_000, 400_000), false),
    };
    let mut data = vec![0; size];
    match noise {
        true => data.fill_with(|| dice.roll() as u8),
        false => data.chunks_mut(8192).for_each(|part| part[0] = dice.roll() as u8),
    }
    aspect((n as u32).wrapping_mul(0x9e37_79b9), false, n, &data)
}

fn batch(numbers: &[u64]) -> Vec<Aspect> {
    numbers.iter().map(|n| made(*n)).collect()
}

fn setting(writer: usize) -> String {
    format!("writer {writer}")
}

/// Not a test by itself: the process whose files are watched.
#[test]
fn child() {
    let (Ok(folder), Ok(seed)) = (env::var(FOLDER), env::var(SEED)) else { return };
    let (folder, seed) = (Path::new(&folder), seed.parse().unwrap());
    let acknowledged = fs::File::create(folder.join("acknowledged")).unwrap();
    let acknowledge = |what: u8| (&acknowledged).write_all(&[what]).unwrap();
    let calls: Vec<_> = (0..WRITERS).map(|writer| calls(seed, writer)).collect();
    for half in [0..REOPEN, REOPEN..CALLS] {
        // So that checkpoints are written all the time.
        let options = Options { checkpoint_after: 60, ..options() };
        let store = Store::open(&folder.join("store"), options).unwrap();
        let space = store.space(&SPACE).unwrap_or_else(|| {
            let space = store.create_space(&SPACE, "a space", ArcSet::full(), ArcSet::empty());
            acknowledge(b's');
            space.unwrap()
        });
        thread::scope(|scope| {
            for writer in 0..WRITERS {
                let (store, space, calls) = (&store, &space, &calls[writer][half.clone()]);
                scope.spawn(move || {
                    for call in calls {
                        match call {
                            Call::Insert(new) => drop(space.insert(batch(new)).unwrap()),
                            Call::Remove(old) => drop(space.remove(&keys(&batch(old))).unwrap()),
                            Call::Set(value) => {
                                store.put_setting(&setting(writer), &value.to_be_bytes()).unwrap()
                            }
                        }
                        acknowledge(writer as u8);
                    }
                });
            }
        });
    }
}

/// Compiles the library that watches.
fn library(folder: &Path, options: &[&str]) -> PathBuf {
    let (source, library) = (folder.join("record.c"), folder.join("record.so"));
    fs::write(&source, include_str!("power/record.c")).unwrap();
    let compiler = env::var("CC").unwrap_or_else(|_| "cc".to_owned());
    let mut words = compiler.split_whitespace();
    let mut command = Command::new(words.next().expect("CC names a C compiler"));
    command.args(words).args(options).args(["-shared", "-fPIC", "-O1", "-pthread", "-o"]);
    let status = command.arg(&library).arg(&source).status();
    let status = status.unwrap_or_else(|e| panic!("this test needs a C compiler: {compiler}: {e}"));
    assert!(status.success(), "{compiler}: {status}");
    library
}

/// Lets a child work, and gives what it did.
fn record(library: &Path, folder: &Path, seed: u64) -> Trace {
    let (traced, trace) = (folder.join("traced"), folder.join("trace"));
    fs::create_dir(&traced).unwrap();
    let output = Command::new(env::current_exe().unwrap())
        .args(["--exact", "power::child"])
        .env(FOLDER, &traced)
        .env(SEED, seed.to_string())
        .env("LD_PRELOAD", library)
        .env("ARCWISE_POWER_TRACED", &traced)
        .env("ARCWISE_POWER_TRACE", &trace)
        .output()
        .unwrap();
    assert!(output.status.success(), "the child failed: {output:?}");
    let trace = Trace::read(&trace, &traced);
    // Otherwise the engine writes in ways that the library does not know.
    trace.all(trace.len()).assert_is(&traced);
    trace
}

/// What must be there.
struct Promised<'a> {
    work: &'a Work,
    space: bool,
    /// How many of the calls of each writer have returned. The next one may have been begun.
    returned: Vec<usize>,
}

/// What the writers do, and all the aspects of it.
struct Work {
    calls: Vec<Vec<Call>>,
    aspects: BTreeMap<u64, Aspect>,
}

impl Work {
    fn new(seed: u64) -> Self {
        let calls: Vec<_> = (0..WRITERS).map(|writer| calls(seed, writer)).collect();
        let new = calls.iter().flatten().filter_map(|call| match call {
            Call::Insert(new) => Some(new),
            _ => None,
        });
        let aspects = new.flatten().map(|n| (*n, made(*n))).collect();
        Self { calls, aspects }
    }
}

impl<'a> Promised<'a> {
    fn new(work: &'a Work, trace: &Trace, moment: usize) -> Self {
        let acknowledged = trace.written("acknowledged", moment);
        let count = |what: u8| acknowledged.iter().filter(|it| **it == what).count();
        let returned = (0..WRITERS).map(|writer| count(writer as u8)).collect();
        Self { work, space: count(b's') > 0, returned }
    }

    fn check(&self, store: &Store) {
        assert_sound(store);
        let Some(space) = store.space(&SPACE) else {
            assert!(!self.space, "the space is gone");
            return;
        };
        let held = space.since(0, usize::MAX).unwrap().into_iter();
        let held: BTreeMap<_, _> =
            held.map(|(_, aspect)| (aspect.published().as_micros(), aspect)).collect();
        let mut expected = BTreeSet::new();
        for (writer, calls) in self.work.calls.iter().enumerate() {
            let (returned, begun) = calls.split_at(self.returned[writer]);
            let mut settings = vec![None];
            for call in returned {
                match call {
                    Call::Insert(new) => expected.extend(new),
                    Call::Remove(old) => expected.retain(|n| !old.contains(n)),
                    Call::Set(value) => settings = vec![Some(*value)],
                }
            }
            let there = |numbers: &[u64]| {
                let there = numbers.iter().filter(|n| held.contains_key(n)).count();
                assert!(there == 0 || there == numbers.len(), "a part of {numbers:?}");
                there > 0
            };
            match begun.first() {
                Some(Call::Insert(new)) if there(new) => expected.extend(new),
                Some(Call::Remove(old)) if !there(old) => {
                    expected.retain(|n| !old.contains(n));
                }
                Some(Call::Set(value)) => settings.push(Some(*value)),
                _ => {}
            }
            let found = store.setting(&setting(writer)).unwrap();
            let found = found.map(|value| u64::from_be_bytes(value.try_into().unwrap()));
            assert!(settings.contains(&found), "{found:?} is set, and not one of {settings:?}");
        }
        let missing: Vec<_> = expected.iter().filter(|n| !held.contains_key(n)).collect();
        assert!(missing.is_empty(), "{missing:?} are missing");
        let surplus: Vec<_> = held.keys().filter(|n| !expected.contains(n)).collect();
        assert!(surplus.is_empty(), "{surplus:?} are there");
        assert!(held.iter().all(|(n, aspect)| self.work.aspects[n] == *aspect));
        let keys = keys(&held.into_values().collect::<Vec<_>>());
        assert_eq!(space.lacks(&keys).unwrap(), []);
    }
}

/// Opens what a disk was left with, and goes on.
fn recover(folder: &Path, promised: &Promised<'_>) {
    let store = Store::open(folder, options()).unwrap();
    promised.check(&store);
    let space = store.space(&SPACE).unwrap_or_else(|| {
        store.create_space(&SPACE, "a space", ArcSet::full(), ArcSet::empty()).unwrap()
    });
    let later = [made(1 << 40), made((1 << 40) + 1)];
    let count = space.stats().count;
    assert_eq!(space.insert(later.to_vec()).unwrap(), [true; 2]);
    drop((store, space));
    let (store, space) = open_space(folder);
    assert_sound(&store);
    assert_eq!(space.stats().count, count + 2);
    let got = space.get_many(&keys(&later)).unwrap();
    assert!(got.into_iter().flatten().eq(later));
}

fn number(name: &str) -> Option<u64> {
    Some(env::var(name).ok()?.parse().unwrap_or_else(|e| panic!("{name}: {e}")))
}

fn survives(names: Names, files: Torn, seed: u64) {
    let rounds = number("ARCWISE_POWER_ROUNDS").unwrap_or(MOMENTS as u64) as usize;
    let seed = number("ARCWISE_POWER_SEED").unwrap_or(seed);
    let failed = failures(names, files, seed, rounds, usize::MAX, &[]);
    assert_eq!(failed, 0, "of {rounds} disks so many do not have what was promised");
}

/// Of so many disks, on how many something is not as it must be, until that are `enough`. The options
/// are the compiler's.
fn failures(
    names: Names,
    files: Torn,
    seed: u64,
    rounds: usize,
    enough: usize,
    options: &[&str],
) -> usize {
    let folder = tempfile::tempdir().unwrap();
    let library = library(folder.path(), options);
    let mut failed = 0;
    for (seed, first) in (seed..).zip((0..rounds).step_by(MOMENTS)) {
        let folder = tempfile::tempdir().unwrap();
        let folder = folder.path().canonicalize().unwrap();
        let (trace, work) = (record(&library, &folder, seed), Work::new(seed));
        for round in first..rounds.min(first + MOMENTS) {
            let mut dice = Dice(seed << 32 | round as u64);
            let moment = trace.moment(&mut dice);
            let disk = trace.crash(moment, names, files, &mut dice);
            let promised = Promised::new(&work, &trace, moment);
            let made = folder.join("crashed");
            fs::create_dir(&made).unwrap();
            disk.write(&made);
            let store = made.join("store");
            if catch_unwind(AssertUnwindSafe(|| recover(&store, &promised))).is_err() {
                failed += 1;
                let (of, returned) = (trace.len(), &promised.returned);
                eprintln!("so with seed {seed}, round {round}, event {moment} of {of}");
                eprintln!("{returned:?} calls had returned; of files that were not all on disk:");
                disk.lost.iter().for_each(|lost| eprintln!("  {lost}"));
                if let Ok(kept) = env::var("ARCWISE_POWER_KEEP") {
                    let kept = format!("{kept}/{names:?} {files:?} {seed} {round}");
                    fs::create_dir_all(&kept).unwrap();
                    disk.write(Path::new(&kept));
                    fs::copy(folder.join("trace"), format!("{kept}/trace")).unwrap();
                }
            }
            fs::remove_dir_all(&made).unwrap();
            if failed >= enough {
                return failed;
            }
        }
    }
    failed
}

#[test]
fn what_was_acknowledged_is_there_after_a_power_failure() {
    survives(Names::Ordered, Torn::Front, 1);
}

#[test]
fn sectors_in_any_order() {
    survives(Names::Ordered, Torn::Sectors, 1 << 20);
}

#[test]
fn a_synced_file_whose_folder_was_not_may_lose_its_name() {
    survives(Names::ByFolder, Torn::Front, 2 << 20);
}

/// That it would be noticed if the store, or the engine, did not sync.
#[test]
fn what_is_not_synced_is_missed() {
    for option in ["-DNO_DATA_SYNC", "-DNO_SYNC"] {
        let failed = failures(Names::Ordered, Torn::Front, 3 << 20, 80, 1, &[option]);
        assert!(failed > 0, "{option}");
    }
}
