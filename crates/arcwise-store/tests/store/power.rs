//! What was acknowledged survives a power failure.
//!
//! After `kill -9` everything that was written is still there, synced or not. When the power goes it
//! is not. So a program works on a store while a library that is loaded before the C library
//! (`power/record.c`) writes down everything that is done to its files; afterwards that trace is cut
//! off at some moment, and what a disk could be left with then is made (`power/disk.rs`) and opened.
//!
//! What was in a file when a sync of it began that was over by then is there. Of what came later, all
//! or nothing may be there, or as [`Torn`] says, and each file has its own luck:
//!
//! * [`Torn::Front`]: everything up to some write, and the beginning of that write, which need not
//!   end where a sector does.
//! * [`Torn::Sectors`]: that, or each sector of 512 bytes as it was at some time since the sync, and
//!   the length likewise, with zeros where nothing was written. So it is where the system writes the
//!   pages of a file in the order it likes, as all do.
//!
//! Names are less clear, since a file system may promise more than the standard does:
//!
//! * [`Names::Ordered`], as ext4, XFS and Btrfs do by default: changes of names go to a journal, in the
//!   order in which they were made, so that what is there is some beginning of all of them. An fsync
//!   of a file or folder brings at least all up to the last one that concerns it. (`fdatasync` does
//!   that too on ext4, for a new file, but nobody promises it; here it does not.)
//! * [`Names::ByFolder`], about what POSIX promises: a name is there once its folder was synced, and
//!   syncing the file itself does nothing for it. Within a folder the order is kept.
//!
//! The store survives all but the last. Its test fails, says why, and is left out of a normal run:
//! `cargo test -p arcwise-store --test store power -- --ignored`.
//!
//! How many disks are tried can be set with `ARCWISE_POWER_ROUNDS`, and where to begin with
//! `ARCWISE_POWER_SEED`; threads take turns as they like, though, so that a seed does not bring the
//! same trace again. With `ARCWISE_POWER_KEEP` the disks that failed are kept in that folder, each
//! with the trace it was made from. Where there is no C compiler (`CC`, or `cc`) the tests fail.

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
use arcwise_store::{Limits, Options, Store};
use disk::{Dice, Disk, Names, Torn, Trace};

const FOLDER: &str = "ARCWISE_POWER_TEST_FOLDER";
const SEED: &str = "ARCWISE_POWER_TEST_SEED";
const AGAIN: &str = "ARCWISE_POWER_TEST_AGAIN";
/// Disks that are tried of one run of the child, those with [`MOMENTS_AGAIN`] included.
const MOMENTS: usize = 24;
const WRITERS: usize = 2;
const CALLS: usize = 160;
/// After so many calls of each writer the store is closed and opened again.
const REOPEN: usize = 70;

/// Of one disk that the power failure left, a child goes on, and of that so many more are tried, most of
/// them in its opening of the store.
const MOMENTS_AGAIN: usize = 6;
const CALLS_AGAIN: usize = 5;

/// A call that is acknowledged once it has returned.
#[derive(Debug)]
enum Call {
    /// In one batch, which must be there as a whole or not at all.
    Insert(Vec<u64>),
    Remove(Vec<u64>),
    Set(u64),
}

/// All that a writer does. Each has numbers of its own.
fn calls(seed: u64, again: bool, writer: usize) -> Vec<Call> {
    let mut dice = Dice(seed ^ (writer as u64 + 1) << 32);
    let first = if again { 1 << 30 } else { 0 };
    let (mut next, mut held) = (first + writer as u64, Vec::new());
    let call = |n| match dice.range(0, 10) {
        0 => Call::Set(first + n as u64),
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
    (0..if again { CALLS_AGAIN } else { CALLS }).map(call).collect()
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

fn acknowledged(again: bool) -> &'static str {
    if again { "acknowledged again" } else { "acknowledged" }
}

/// Not a test by itself: the process whose files are watched.
#[test]
fn child() {
    let (Ok(folder), Ok(seed)) = (env::var(FOLDER), env::var(SEED)) else { return };
    let (folder, seed, again) =
        (Path::new(&folder), seed.parse().unwrap(), env::var(AGAIN).is_ok());
    let acknowledged = fs::File::create(folder.join(acknowledged(again))).unwrap();
    let acknowledge = |what: u8| (&acknowledged).write_all(&[what]).unwrap();
    let calls: Vec<_> = (0..WRITERS).map(|writer| calls(seed, again, writer)).collect();
    let ends: &[usize] = if again { &[0, CALLS_AGAIN] } else { &[0, REOPEN, CALLS] };
    for part in ends.windows(2) {
        // So that checkpoints are written all the time.
        let options = Options { checkpoint_after: 60, ..options() };
        let store = Store::open(&folder.join("store"), options).unwrap();
        let space = store.space(&SPACE).unwrap_or_else(|| {
            let (full, empty) = (ArcSet::full(), ArcSet::empty());
            let space = store.create_space(&SPACE, "a space", full, empty, Limits::default());
            acknowledge(b's');
            space.unwrap()
        });
        thread::scope(|scope| {
            for writer in 0..WRITERS {
                let (store, space, calls) = (&store, &space, &calls[writer][part[0]..part[1]]);
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

/// Lets a child work on what a disk has, and gives what it did.
fn record(library: &Path, folder: &Path, disk: &Disk, seed: u64, again: bool) -> Trace {
    let name = if again { "again" } else { "first" };
    let (traced, trace) = (folder.join(name), folder.join(name).with_extension("trace"));
    fs::create_dir(&traced).unwrap();
    let mut child = Command::new(env::current_exe().unwrap());
    child.args(["--exact", "power::child"]).env(FOLDER, &traced).env(SEED, seed.to_string());
    if again {
        child.env(AGAIN, "");
    }
    child.env("LD_PRELOAD", library);
    child.env("ARCWISE_POWER_TRACED", &traced).env("ARCWISE_POWER_TRACE", &trace);
    let trace = Trace::of(disk, &traced, &trace, || {
        let output = child.output().unwrap();
        assert!(output.status.success(), "the child failed: {output:?}");
    });
    // Otherwise the engine writes in ways that the library does not know.
    trace.all(trace.len()).assert_is(&traced);
    trace
}

/// What the writers do, to what, and all the aspects of it.
struct Work {
    again: bool,
    calls: Vec<Vec<Call>>,
    aspects: BTreeMap<u64, Aspect>,
    before: Found,
}

/// What is in a store.
#[derive(Clone, Debug, Default)]
struct Found {
    space: bool,
    aspects: BTreeSet<u64>,
    settings: Vec<Option<u64>>,
}

impl Work {
    fn new(seed: u64, again: bool, before: Found) -> Self {
        let calls: Vec<_> = (0..WRITERS).map(|writer| calls(seed, again, writer)).collect();
        let new = calls.iter().flatten().filter_map(|call| match call {
            Call::Insert(new) => Some(new),
            _ => None,
        });
        let aspects = new.flatten().chain(&before.aspects).map(|n| (*n, made(*n))).collect();
        Self { again, calls, aspects, before }
    }
}

/// What must be there.
struct Promised<'a> {
    work: &'a Work,
    space: bool,
    /// How many of the calls of each writer have returned. The next one may have been begun.
    returned: Vec<usize>,
}

impl<'a> Promised<'a> {
    fn new(work: &'a Work, trace: &Trace, moment: usize) -> Self {
        let acknowledged = trace.written(acknowledged(work.again), moment);
        let count = |what: u8| acknowledged.iter().filter(|it| **it == what).count();
        let returned = (0..WRITERS).map(|writer| count(writer as u8)).collect();
        Self { work, space: work.before.space || count(b's') > 0, returned }
    }

    fn check(&self, store: &Store) -> Found {
        assert_sound(store);
        let Some(space) = store.space(&SPACE) else {
            assert!(!self.space, "the space is gone");
            return Found { settings: vec![None; WRITERS], ..Found::default() };
        };
        let held = space.since(0, usize::MAX).unwrap().into_iter();
        let held: BTreeMap<_, _> =
            held.map(|(_, aspect)| (aspect.published().as_micros(), aspect)).collect();
        let mut expected = self.work.before.aspects.clone();
        let mut found = Found { space: true, ..Found::default() };
        for (writer, calls) in self.work.calls.iter().enumerate() {
            let (returned, begun) = calls.split_at(self.returned[writer]);
            let mut settings = vec![self.work.before.settings.get(writer).copied().flatten()];
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
                Some(Call::Remove(old)) if !there(old) => expected.retain(|n| !old.contains(n)),
                Some(Call::Set(value)) => settings.push(Some(*value)),
                _ => {}
            }
            let value = store.setting(&setting(writer)).unwrap();
            let value = value.map(|value| u64::from_be_bytes(value.try_into().unwrap()));
            assert!(settings.contains(&value), "{value:?} is set, and not one of {settings:?}");
            found.settings.push(value);
        }
        let missing: Vec<_> = expected.iter().filter(|n| !held.contains_key(n)).collect();
        assert!(missing.is_empty(), "{missing:?} are missing");
        let surplus: Vec<_> = held.keys().filter(|n| !expected.contains(n)).collect();
        assert!(surplus.is_empty(), "{surplus:?} are there");
        assert!(held.iter().all(|(n, aspect)| self.work.aspects[n] == *aspect));
        let keys = keys(&held.into_values().collect::<Vec<_>>());
        assert_eq!(space.lacks(&keys).unwrap(), []);
        Found { aspects: expected, ..found }
    }
}

/// Opens what a disk was left with, and goes on. Gives what was there.
fn recover(folder: &Path, promised: &Promised<'_>) -> Found {
    let store = open(folder);
    let found = promised.check(&store);
    let space = store.space(&SPACE).unwrap_or_else(|| make_space(&store));
    let later = [made(1 << 40), made((1 << 40) + 1)];
    let count = space.stats().count;
    assert_eq!(space.insert(later.to_vec()).unwrap(), [true; 2]);
    drop((store, space));
    let (store, space) = open_space(folder);
    assert_sound(&store);
    assert_eq!(space.stats().count, count + 2);
    let got = space.get_many(&keys(&later)).unwrap();
    assert!(got.into_iter().flatten().eq(later));
    found
}

fn number(name: &str) -> Option<u64> {
    Some(env::var(name).ok()?.parse().unwrap_or_else(|e| panic!("{name}: {e}")))
}

/// How a disk comes to be what it is after a power failure, and how many of them are tried.
#[derive(Clone, Debug)]
struct Failures {
    names: Names,
    files: Torn,
    seed: u64,
    rounds: usize,
    failed: usize,
    /// No more are tried once so many have failed.
    enough: usize,
}

impl Failures {
    fn new(names: Names, files: Torn, seed: u64) -> Self {
        let rounds = number("ARCWISE_POWER_ROUNDS").unwrap_or(MOMENTS as u64) as usize;
        let seed = number("ARCWISE_POWER_SEED").unwrap_or(seed);
        Self { names, files, seed, rounds, failed: 0, enough: usize::MAX }
    }

    fn assert_none(mut self) {
        self.run(&[]);
        let Self { failed, rounds, .. } = self;
        assert_eq!(failed, 0, "of {rounds} disks so many do not have what was promised");
    }

    /// The options are for the compiler.
    fn run(&mut self, options: &[&str]) {
        let folder = tempfile::tempdir().unwrap();
        let library = library(folder.path(), options);
        let mut left = self.rounds;
        while left > 0 && self.failed < self.enough {
            let folder = tempfile::tempdir().unwrap();
            let folder = folder.path().canonicalize().unwrap();
            let trace = record(&library, &folder, &Disk::default(), self.seed, false);
            let work = Work::new(self.seed, false, Found::default());
            let moments = left.min(MOMENTS - MOMENTS_AGAIN);
            let again = (left - moments).min(MOMENTS_AGAIN);
            let left_with = self.cut(&folder.join("first"), &trace, &work, moments);
            if let Some((disk, found)) = left_with {
                let trace = record(&library, &folder, &disk, self.seed, true);
                let work = Work::new(self.seed, true, found);
                self.cut(&folder.join("again"), &trace, &work, again);
            }
            self.seed += 1;
            left -= moments + again;
        }
    }

    /// Cuts the power at some moments. Gives the last disk that was well, and what was on it.
    fn cut(
        &mut self,
        traced: &Path,
        trace: &Trace,
        work: &Work,
        moments: usize,
    ) -> Option<(Disk, Found)> {
        let made = traced.with_extension("crashed");
        let mut last = None;
        for round in 0..moments as u64 {
            let mut dice = Dice(self.seed << 32 | u64::from(work.again) << 31 | round);
            let moment = trace.moment(&mut dice);
            let disk = trace.crash(moment, self.names, self.files, &mut dice);
            let promised = Promised::new(work, trace, moment);
            fs::create_dir(&made).unwrap();
            disk.write(&made);
            let recover = || recover(&made.join("store"), &promised);
            match catch_unwind(AssertUnwindSafe(recover)) {
                Ok(found) => last = Some((disk, found)),
                Err(_) => {
                    self.failed += 1;
                    let (of, returned) = (trace.len(), &promised.returned);
                    eprintln!("so with {self:?}, round {round}, event {moment} of {of},");
                    eprintln!("{returned:?} calls had returned; and of files not all on disk:");
                    disk.lost.iter().for_each(|lost| eprintln!("  {lost}"));
                    if let Ok(kept) = env::var("ARCWISE_POWER_KEEP") {
                        let kept = Path::new(&kept).join(format!("{} {round}", self.seed));
                        fs::create_dir_all(&kept).unwrap();
                        disk.write(&kept);
                        let trace = traced.with_extension("trace");
                        fs::copy(trace, kept.join("trace")).unwrap();
                    }
                }
            }
            fs::remove_dir_all(&made).unwrap();
            if self.failed >= self.enough {
                break;
            }
        }
        last
    }
}

#[test]
fn what_was_acknowledged_is_there_after_a_power_failure() {
    Failures::new(Names::Ordered, Torn::Front, 1).assert_none();
}

#[test]
fn sectors_may_be_written_in_any_order() {
    Failures::new(Names::Ordered, Torn::Sectors, 1 << 20).assert_none();
}

#[test]
#[ignore = "fjall syncs neither `keyspaces` after creating one nor `blobs` after a new file"]
fn a_synced_file_whose_folder_was_not_may_lose_its_name() {
    Failures::new(Names::ByFolder, Torn::Front, 2 << 20).assert_none();
}

/// The least of what [`sectors_may_be_written_in_any_order`] finds: of the last batch, which nobody
/// was told is on disk, one sector is not, and neither its first nor its last.
#[test]
fn a_sector_of_the_last_batch_is_missing() {
    let folder = tempfile::tempdir().unwrap();
    let (store, space) = open_space(folder.path());
    let (first, last) = (numbered(1, 100), numbered(2, 3000));
    space.insert(vec![first.clone()]).unwrap();
    space.insert(vec![last.clone()]).unwrap();
    drop((store, space));
    let path = folder.path().join("db/0.jnl");
    let mut journal = fs::read(&path).unwrap();
    let encoding = last.encoding();
    let at = journal.windows(encoding.len()).position(|bytes| bytes == &encoding[..]).unwrap();
    let sector = (at + 1000).next_multiple_of(512);
    journal[sector..sector + 512].fill(0);
    fs::write(&path, journal).unwrap();

    let (store, space) = open_space(folder.path());
    assert_sound(&store);
    assert_eq!(space.since(0, usize::MAX).unwrap(), [(1, first)]);
}

/// The store says its format before there is anything else. Whatever of that got to the disk, nothing
/// was stored yet.
#[test]
fn a_format_that_was_cut_short() {
    let line = b"arcwise store, format 3\n";
    for written in 0..line.len() {
        for len in [written, line.len()] {
            let folder = tempfile::tempdir().unwrap();
            fs::create_dir(folder.path().join("db.new")).unwrap();
            let mut format = line[..written].to_vec();
            format.resize(len, 0);
            fs::write(folder.path().join("FORMAT"), format).unwrap();
            drop(open_space(folder.path()));
            assert_eq!(fs::read(folder.path().join("FORMAT")).unwrap(), line);
        }
    }
}

/// That it would be noticed if the store, or the engine, did not sync.
#[test]
fn what_is_not_synced_is_missed() {
    for option in ["-DNO_DATA_SYNC", "-DNO_SYNC"] {
        let mut failures = Failures::new(Names::Ordered, Torn::Front, 3 << 20);
        (failures.rounds, failures.enough) = (80, 1);
        failures.run(&[option]);
        assert!(failures.failed > 0, "{option}");
    }
}
