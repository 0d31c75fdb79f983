//! What is damaged on disk is recognised, and nothing panics over it.

use std::{
    fs,
    path::{Path, PathBuf},
};

use crate::common::*;
use arcwise_proto::{
    ArcSet, AspectKey,
    session::{Filter, Holdings},
};
use arcwise_store::{Damage, Fault, OpenError, Row, Store, StoreError};
use fjall::{Database, Keyspace, PersistMode};

/// Changes the files of a closed store behind its back.
fn tamper(folder: &Path, change: impl FnOnce(&dyn Fn(&str) -> Keyspace)) {
    let db = Database::builder(folder.join("db")).open().unwrap();
    change(&|name| db.keyspace(name, || panic!("no keyspace {name}")).unwrap());
    db.persist(PersistMode::SyncAll).unwrap();
}

fn log_key(sequence: u64) -> Vec<u8> {
    [&0_u32.to_be_bytes()[..], &sequence.to_be_bytes()].concat()
}

fn index_key(key: &AspectKey) -> Vec<u8> {
    [&0_u32.to_be_bytes()[..], &key.location.0.to_be_bytes(), &key.hash.0].concat()
}

fn damage(error: StoreError) -> Damage {
    match error {
        StoreError::Damaged(damage) => damage,
        error => panic!("{error}"),
    }
}

/// A closed store that holds the aspects 1 to 9 under those sequence numbers.
fn nine() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    let (_store, space) = open_space(folder.path());
    space.insert((1..10).map(|n| numbered(n, 100)).collect()).unwrap();
    folder
}

/// The only damage there is.
fn only_damage(store: &Store) -> Damage {
    let report = store.check().unwrap();
    assert_eq!(report.damage_count, 1, "{:#?}", report.damages);
    report.damages[0].clone()
}

#[test]
fn another_content_under_the_same_key() {
    let folder = nine();
    let good = numbered(5, 100);
    let mut bad = good.encoding().to_vec();
    *bad.last_mut().unwrap() ^= 1;
    tamper(folder.path(), |keyspace| keyspace("log").insert(log_key(5), bad).unwrap());

    let (store, space) = open_space(folder.path());
    let found = |damage: Damage| {
        assert_eq!(damage.row, Row::Aspect(good.key()), "{damage}");
        assert!(matches!(damage.fault, Fault::OtherContent(_)), "{damage}");
    };
    found(damage(space.get(&good.key()).unwrap_err()));
    found(damage(space.get_many(&[numbered(4, 100).key(), good.key()]).unwrap_err()));
    found(damage(space.entry(&good.entry()).unwrap_err()));
    found(only_damage(&store));
    assert_eq!(store.check().unwrap().aspects, 8);

    // In order of storage it is found by its number, and what follows can be had.
    let error = damage(space.since(0, 9).unwrap_err());
    assert_eq!(error.row, Row::Log(5));
    assert!(matches!(error.fault, Fault::NotIndexed));
    assert_eq!(space.since(0, 4).unwrap().len(), 4);
    assert_eq!(space.since(5, 9).unwrap().len(), 4);
    assert_eq!(space.get(&numbered(6, 100).key()).unwrap(), Some(numbered(6, 100)));
}

#[test]
fn no_aspect_at_all() {
    let folder = nine();
    tamper(folder.path(), |keyspace| keyspace("log").insert(log_key(5), "no aspect").unwrap());
    let (store, space) = open_space(folder.path());
    let error = damage(space.get(&numbered(5, 100).key()).unwrap_err());
    assert!(matches!(error.fault, Fault::NotAnAspect(_)), "{error}");
    assert!(matches!(only_damage(&store).fault, Fault::NotAnAspect(_)));
    let error = damage(space.since(0, 9).unwrap_err());
    assert!(matches!((error.row, error.fault), (Row::Log(5), Fault::NotAnAspect(_))));
}

#[test]
fn a_missing_log_row() {
    let folder = nine();
    tamper(folder.path(), |keyspace| keyspace("log").remove(log_key(5)).unwrap());
    let (store, space) = open_space(folder.path());
    let error = damage(space.get(&numbered(5, 100).key()).unwrap_err());
    assert!(matches!(error.fault, Fault::NotLogged), "{error}");
    assert!(matches!(only_damage(&store).fault, Fault::NotLogged));
    let error = damage(space.since(2, 9).unwrap_err());
    assert!(matches!((error.row, error.fault), (Row::Log(5), Fault::NotLogged)));
    assert_eq!(space.since(5, 9).unwrap().len(), 4);
}

#[test]
fn keys_are_listed_also_where_their_aspects_are_damaged() {
    let folder = tempfile::tempdir().unwrap();
    let aspects: Vec<_> = (1..=400).map(|n| numbered(n, 10)).collect();
    open_space(folder.path()).1.insert(aspects.clone()).unwrap();
    tamper(folder.path(), |keyspace| keyspace("log").insert(log_key(399), "bad").unwrap());
    let (_store, space) = open_space(folder.path());
    let filter = Filter { stored_after: Some(398), ..Filter::default() };
    let mut expected = keys(&aspects[398..]);
    expected.sort_unstable();
    assert_eq!(space.list(AspectKey::MIN, AspectKey::MAX, &filter, 1000).unwrap(), expected);
}

#[test]
fn a_missing_index_row() {
    let folder = nine();
    let lost = numbered(5, 100).key();
    tamper(folder.path(), |keyspace| keyspace("index").remove(index_key(&lost)).unwrap());
    let (store, space) = open_space(folder.path());
    assert_eq!(space.get(&lost).unwrap(), None);
    assert_eq!(space.lacks(&[lost]).unwrap(), [lost]);
    let error = damage(space.since(0, 9).unwrap_err());
    assert!(matches!((error.row, error.fault), (Row::Log(5), Fault::NotIndexed)));
    // The sums have it still.
    let report = store.check().unwrap();
    let found: Vec<_> = report.damages.iter().map(|damage| (&damage.row, &damage.fault)).collect();
    let expected = matches!(
        found[..],
        [(Row::Log(5), Fault::NotIndexed), (Row::Record("sums"), Fault::OtherSums),]
    );
    assert!(expected, "{found:?}");
}

#[test]
fn a_wrong_index_row() {
    let folder = nine();
    let (five, six, none) = (numbered(5, 100).key(), numbered(6, 100).key(), numbered(0, 0).key());
    let row =
        |sequence: u64, published: u64| [sequence.to_be_bytes(), published.to_be_bytes()].concat();
    tamper(folder.path(), |keyspace| {
        let index = keyspace("index");
        index.insert(index_key(&five), row(5, 77)).unwrap();
        index.insert(index_key(&six), "short").unwrap();
        index.insert(index_key(&none), row(9, 9)).unwrap();
    });
    let (store, space) = open_space(folder.path());
    assert!(matches!(damage(space.get(&six).unwrap_err()).fault, Fault::Malformed));
    assert!(matches!(damage(space.get(&none).unwrap_err()).fault, Fault::OtherContent(_)));
    let all = space.list(AspectKey::MIN, AspectKey::MAX, &Filter::default(), 99);
    assert!(matches!(damage(all.unwrap_err()).fault, Fault::Malformed));
    let report = store.check().unwrap();
    assert!(report.damage_count >= 3, "{:#?}", report.damages);
    assert_eq!(report.aspects, 7);
}

#[test]
fn wrong_counters_and_strays() {
    let folder = nine();
    let counters = |count: u64, bytes: u64| [count.to_be_bytes(), bytes.to_be_bytes()].concat();
    let key = [&b"c"[..], &0_u32.to_be_bytes()].concat();
    let bytes = numbered(1, 100).encoding().len() as u64 * 9;
    let set = |row: Vec<u8>| {
        tamper(folder.path(), |keyspace| keyspace("meta").insert(&key[..], row).unwrap());
    };
    for row in [counters(8, bytes), counters(10, bytes), b"short".to_vec()] {
        set(row);
        let error = Store::open(folder.path(), options()).unwrap_err();
        assert!(matches!(error, OpenError::Damaged(_)), "{error}");
    }
    set(counters(9, bytes + 1));
    let fault = only_damage(&open(folder.path())).fault;
    assert!(matches!(fault, Fault::Miscounted { what: "bytes", .. }), "{fault}");
    set(counters(9, bytes));
    assert_sound(&open(folder.path()));

    let stray = [&1_u32.to_be_bytes()[..], &1_u64.to_be_bytes()].concat();
    tamper(folder.path(), |keyspace| keyspace("log").insert(stray, "stray").unwrap());
    let error = only_damage(&open(folder.path()));
    assert!(matches!((error.space, error.row), (None, Row::Log(1))), "{error}");
    assert!(matches!(error.fault, Fault::NoSuchSpace), "{error}");
}

/// Flips bits in the engine's files themselves, one place at a time. Not every place matters, and
/// the engine may refuse to open; but what is read is what was stored, and nothing panics.
#[test]
fn flipped_bits_in_files() {
    let folder = tempfile::tempdir().unwrap();
    let (whole, broken) = (folder.path().join("whole"), folder.path().join("broken"));
    let aspects: Vec<_> = (1..40).map(|n| numbered(n, 3000)).collect();
    {
        let (_store, space) = open_space(&whole);
        space.insert(aspects.clone()).unwrap();
    }
    // Out of the journal and into the files where things stay.
    tamper(&whole, |keyspace| {
        for name in ["log", "index", "meta"] {
            keyspace(name).rotate_memtable_and_wait().unwrap();
        }
    });
    copy(&whole, &broken);
    let (mut unreadable, mut unopened) = (0, 0);
    for file in files(&broken.join("db")) {
        let len = fs::metadata(&file).unwrap().len() as usize;
        for at in (0..8).map(|part| len * part / 8 + part).filter(|at| *at < len) {
            let mut bytes = fs::read(&file).unwrap();
            bytes[at] ^= 0x20;
            fs::write(&file, &bytes).unwrap();
            match Store::open(&broken, options()) {
                Err(_) => unopened += 1,
                Ok(store) => {
                    let before = unreadable;
                    let space = store.space(&SPACE).unwrap();
                    for aspect in &aspects {
                        match space.get(&aspect.key()) {
                            Ok(got) => assert_eq!(got.as_ref(), Some(aspect)),
                            Err(_) => unreadable += 1,
                        }
                    }
                    let sound = store.check().is_ok_and(|report| report.damage_count == 0);
                    assert!(!sound || unreadable == before, "{} at {at}", file.display());
                }
            }
            fs::remove_dir_all(&broken).unwrap();
            copy(&whole, &broken);
        }
    }
    assert!(unreadable > 0 && unopened > 0, "{unreadable} unreadable, {unopened} unopened");
}

fn files(folder: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for item in fs::read_dir(folder).unwrap() {
        let path = item.unwrap().path();
        match path.is_dir() {
            true => files.extend(self::files(&path)),
            false => files.push(path),
        }
    }
    files
}

/// What is damaged is given up, and can be stored again as if it had never been there.
#[test]
fn damaged_aspects_are_given_up() {
    let folder = nine();
    let damaged = [numbered(3, 100), numbered(5, 100), numbered(7, 100)];
    tamper(folder.path(), |keyspace| {
        keyspace("log").insert(log_key(3), "no aspect").unwrap();
        keyspace("log").insert(log_key(5), numbered(50, 100).encoding().to_vec()).unwrap();
        keyspace("log").remove(log_key(7)).unwrap();
    });
    let (store, space) = open_space(folder.path());
    space.set_held(ArcSet::full()).unwrap();
    let before = space.position();
    assert_eq!(store.give_up(&store.check().unwrap()).unwrap(), 3);
    assert_eq!(space.lacks(&keys(&damaged)).unwrap(), keys(&damaged));
    assert_eq!(space.resolve(before), None, "nobody may build on what was compared before");
    for aspect in &damaged {
        assert!(!space.held().contains(aspect.location()));
    }
    assert!(space.held().contains(numbered(4, 100).location()));

    assert_eq!(space.insert(damaged.to_vec()).unwrap(), [true; 3]);
    let all: Vec<_> = (1..10).map(|n| numbered(n, 100)).collect();
    for aspect in &all {
        assert_eq!(space.get(&aspect.key()).unwrap().as_ref(), Some(aspect));
    }
    assert_eq!(space.stats().count, 9);
    assert!(
        store.check().unwrap().damages.iter().all(|d| matches!(d.row, Row::Record("counters")))
    );
}
