//! What was acknowledged survives `kill -9`, while the store sweeps and compacts.

use std::{
    env,
    io::{BufRead, BufReader, Write},
    path::Path,
    process::{Command, Stdio},
    thread,
};

use crate::common::*;
use arcwise_proto::{ArcSet, Time, session::Holdings};
use arcwise_store::{Keep, Options, Store};

const FOLDER: &str = "ARCWISE_CRASH_TEST_FOLDER";
const ROUND: &str = "ARCWISE_CRASH_TEST_ROUND";
const WRITERS: u64 = 2;
const BATCH: u64 = 2;

fn batch(number: u64) -> Vec<arcwise_proto::Aspect> {
    (number * BATCH..(number + 1) * BATCH).map(|n| numbered(n, 3000 + n as usize % 4000)).collect()
}

/// Whether a batch is removed again once it is stored.
fn removes(number: u64) -> bool {
    number.is_multiple_of(5)
}

/// In each round, those of all rounds but this and the one before are removed.
fn kept_in(round: u64) -> Keep {
    let published_since = Time::from_micros((round.saturating_sub(1) << 32) * BATCH);
    Keep { arcs: ArcSet::full(), published_since, stored_after: u64::MAX }
}

/// Not a test by itself: the process that gets killed.
#[test]
fn child() {
    let (Ok(folder), Ok(round)) = (env::var(FOLDER), env::var(ROUND)) else { return };
    // So that checkpoints are written all the time.
    let options = Options { checkpoint_after: 50, ..options() };
    let store = Store::open(Path::new(&folder), options).unwrap();
    let space = store.space(&SPACE).unwrap();
    let round = round.parse::<u64>().unwrap();
    let first = round << 32;
    thread::scope(|scope| {
        scope.spawn(|| {
            sweep(&space, &kept_in(round));
            writeln!(std::io::stdout(), "swept").unwrap();
        });
        scope.spawn(|| {
            loop {
                store.compact().unwrap();
            }
        });
        for writer in 0..WRITERS {
            let space = &space;
            scope.spawn(move || {
                for number in (first + writer..).step_by(WRITERS as usize) {
                    assert_eq!(space.insert(batch(number)).unwrap(), [true; BATCH as usize]);
                    if removes(number) {
                        assert_eq!(space.remove(&keys(&batch(number))).unwrap(), [true; 2]);
                    }
                    // Not `println`, which the test harness would keep back.
                    writeln!(std::io::stdout(), "stored {number}").unwrap();
                }
            });
        }
    });
}

#[test]
fn what_was_acknowledged_is_there_after_kill() {
    let folder = tempfile::tempdir().unwrap();
    drop(open_space(folder.path()));
    let (mut kept_of, mut removed, mut unsure) = (Vec::new(), Vec::new(), Vec::new());
    for round in 0..10_u64 {
        let mut child = Command::new(env::current_exe().unwrap())
            .args(["--exact", "crash::child", "--nocapture"])
            .env(FOLDER, folder.path())
            .env(ROUND, round.to_string())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let mut swept = false;
        let stored = lines.map(|line| line.unwrap()).filter_map(|line| {
            swept |= line == "swept";
            line.strip_prefix("stored ")?.parse::<u64>().ok()
        });
        // Early and late, so that some are killed while the engine flushes its memtables.
        let wanted = 1 + (round as usize * 397) % 600;
        let stored: Vec<_> = stored.take(wanted).collect();
        assert_eq!(stored.len(), wanted, "the child failed");
        child.kill().unwrap();
        child.wait().unwrap();

        let (gone, kept): (Vec<u64>, Vec<u64>) = stored.into_iter().partition(|n| removes(*n));
        removed.extend(gone.into_iter().flat_map(|number| keys(&batch(number))));
        kept_of.push(kept.into_iter().flat_map(|number| keys(&batch(number))).collect::<Vec<_>>());
        // Where the sweep was cut short, some of these are there and some are not.
        if let Some(swept_now) = (round as usize).checked_sub(2).map(|old| &mut kept_of[old]) {
            unsure.append(swept_now);
        }
        if swept {
            removed.append(&mut unsure);
        }
        let acknowledged: Vec<_> = kept_of.iter().flatten().copied().collect();
        let (store, space) = open_space(folder.path());
        assert_sound(&store);
        assert!(space.stats().count >= acknowledged.len() as u64);
        assert_eq!(space.lacks(&acknowledged).unwrap(), [], "round {round}");
        assert_eq!(space.lacks(&removed).unwrap(), removed, "round {round}");
    }
}
