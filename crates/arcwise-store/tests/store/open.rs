//! Opening and reopening: the lock, the format version, records, epochs, and a full disk.

use std::{fs, path::Path};

use crate::common::*;
use arcwise_proto::{
    ArcSet, NodeId,
    session::{Holdings, Position},
};
use arcwise_store::{Limits, OpenError, Options, Store, StoreError};

#[test]
fn a_store_is_open_once() {
    let folder = tempfile::tempdir().unwrap();
    let (store, space) = open_space(folder.path());
    let refused = |folder: &Path| {
        let error = Store::open(folder, options()).unwrap_err();
        assert!(matches!(&error, OpenError::Locked(at) if at == folder), "{error}");
    };
    refused(folder.path());
    // A space keeps its store open.
    drop(store);
    refused(folder.path());
    drop(space);
    open(folder.path());
}

#[test]
fn other_formats_are_told_apart() {
    let folder = tempfile::tempdir().unwrap();
    let format = folder.path().join("FORMAT");
    drop(open_space(folder.path()));
    let written = fs::read_to_string(&format).unwrap();

    fs::write(&format, "arcwise store, format 4\n").unwrap();
    let error = Store::open(folder.path(), options()).unwrap_err();
    assert!(matches!(error, OpenError::NewerFormat { found: 4, known: 3, .. }), "{error}");

    let garbage: [&[u8]; 6] = [
        b"",
        b"arcwise store, format 0\n",
        b"arcwise store, format 1",
        b"arcwise store, format \n",
        b"some other file\n",
        &[0xff; 1000],
    ];
    for line in garbage {
        fs::write(&format, line).unwrap();
        let error = Store::open(folder.path(), options()).unwrap_err();
        assert!(matches!(error, OpenError::NotAStore { .. }), "{error}");
    }

    fs::write(&format, written).unwrap();
    assert!(open(folder.path()).space(&SPACE).is_some());
}

#[test]
fn an_interrupted_creation_is_begun_again() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("FORMAT"), "").unwrap();
    fs::create_dir(folder.path().join("db.new")).unwrap();
    fs::write(folder.path().join("db.new").join("0.jnl"), "half").unwrap();
    drop(open_space(folder.path()));
    assert!(open(folder.path()).space(&SPACE).is_some());
}

/// Wherever a creation is cut short, the next opening begins it again.
#[test]
fn a_creation_is_begun_again_from_every_step() {
    let steps: [&[&str]; 5] = [
        &[],
        &["FORMAT"],
        &["FORMAT", "db.new/"],
        &["FORMAT=", "db.new/"],
        &["FORMAT=", "db.new/0"],
    ];
    for step in steps {
        let folder = tempfile::tempdir().unwrap();
        for name in step {
            let path = folder.path().join(name.trim_end_matches('='));
            match *name {
                "FORMAT=" => fs::write(folder.path().join("FORMAT"), "arcwise store, format 1\n"),
                "db.new/" => fs::create_dir(path),
                "db.new/0" => {
                    fs::create_dir(folder.path().join("db.new")).and_then(|()| fs::write(path, "x"))
                }
                _ => fs::write(path, ""),
            }
            .unwrap();
        }
        drop(open_space(folder.path()));
        assert!(open(folder.path()).space(&SPACE).is_some(), "{step:?}");
    }
}

#[test]
fn a_store_that_is_gone_is_no_new_one() {
    let folder = tempfile::tempdir().unwrap();
    drop(open_space(folder.path()));
    let refused = |words: &str| {
        let error = Store::open(folder.path(), options()).unwrap_err();
        assert!(matches!(error, OpenError::NotAStore { .. }), "{error}");
        assert!(error.to_string().contains(words), "{error}");
    };
    let (db, away) = (folder.path().join("db"), folder.path().join("away"));
    let format = folder.path().join("FORMAT");
    fs::rename(&db, &away).unwrap();
    for _ in 0..2 {
        refused("the store of this node is gone: restore a backup");
    }
    assert!(!db.exists(), "nothing is made in its place");
    fs::rename(&away, &db).unwrap();

    let written = fs::read(&format).unwrap();
    fs::remove_file(&format).unwrap();
    for _ in 0..2 {
        refused("has no file FORMAT");
    }
    fs::write(&format, written).unwrap();
    assert!(open(folder.path()).space(&SPACE).is_some());
}

#[test]
fn a_folder_that_cannot_be_one() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("file");
    fs::write(&file, "").unwrap();
    let error = Store::open(&file, options()).unwrap_err();
    assert!(matches!(error, OpenError::Folder { .. }), "{error}");
}

#[test]
fn records_outlive_the_process() {
    let folder = tempfile::tempdir().unwrap();
    let arcs = |text: &str| text.parse::<ArcSet>().unwrap();
    let (one, two) = (NodeId([1; 32]), NodeId([2; 32]));
    {
        let store = open(folder.path());
        assert!(store.spaces().is_empty());
        let space = store
            .create_space(&SPACE, "näme", arcs("0..=f"), ArcSet::empty(), Limits::default())
            .unwrap();
        let error = store
            .create_space(&SPACE, "", ArcSet::full(), ArcSet::full(), Limits::default())
            .unwrap_err();
        assert!(matches!(error, StoreError::SpaceExists(SPACE)), "{error}");
        store
            .create_space(&OTHER_SPACE, "", ArcSet::full(), ArcSet::full(), Limits::default())
            .unwrap();

        space.set_target(arcs("fffffff0..=f,20..=2f")).unwrap();
        assert_eq!(space.target(), arcs("fffffff0..=f,20..=2f"));
        store.space(&SPACE).unwrap().set_held(arcs("5..=6")).unwrap();
        assert_eq!(space.held(), arcs("5..=6"));

        store.put_peer(&two, b"old").unwrap();
        store.put_peer(&two, b"two").unwrap();
        store.put_peer(&one, b"one").unwrap();
        store.put_peer(&NodeId([3; 32]), b"three").unwrap();
        store.remove_peer(&NodeId([3; 32])).unwrap();
        store.remove_peer(&NodeId([4; 32])).unwrap();
        store.put_setting("key", b"value").unwrap();
        store.put_setting("", b"").unwrap();
    }
    let store = open(folder.path());
    let ids: Vec<_> = store.spaces().iter().map(|space| space.id()).collect();
    assert_eq!(ids, [SPACE, OTHER_SPACE]);
    let space = store.space(&SPACE).unwrap();
    assert_eq!(space.name(), "näme");
    assert_eq!(space.target(), arcs("fffffff0..=f,20..=2f"));
    assert_eq!(space.held(), arcs("5..=6"));
    let peers = store.peers().unwrap();
    assert_eq!(peers, [(one, b"one".to_vec()), (two, b"two".to_vec())]);
    assert_eq!(store.setting("key").unwrap().as_deref(), Some(&b"value"[..]));
    assert_eq!(store.setting("").unwrap().as_deref(), Some(&b""[..]));
    assert_eq!(store.setting("none").unwrap(), None);
}

#[test]
fn a_full_disk_refuses_inserts_and_nothing_else() {
    let folder = tempfile::tempdir().unwrap();
    let (store, space) = open_space(folder.path());
    let (old, new) = (numbered(1, 100), numbered(2, 100));
    space.insert(vec![old.clone()]).unwrap();
    let before = space.stats();
    drop((store, space));

    let full = Options { min_free: u64::MAX, ..options() };
    let store = open_with(folder.path(), full);
    let space = store.space(&SPACE).unwrap();
    for _ in 0..2 {
        let error = space.insert(vec![old.clone(), new.clone()]).unwrap_err();
        assert!(matches!(error, StoreError::DiskFull { needed: u64::MAX, .. }), "{error}");
    }
    assert_eq!(space.insert(vec![old.clone()]).unwrap(), [false], "nothing to write");
    assert_eq!(space.get(&old.key()).unwrap().as_ref(), Some(&old));
    assert_eq!(space.get(&new.key()).unwrap(), None);
    assert_eq!(space.stats().count, before.count);
    space.set_held(ArcSet::full()).unwrap();
    assert_sound(&store);
    drop((store, space));

    let (store, space) = open_space(folder.path());
    assert!(store.free_space().unwrap() > 0);
    assert_eq!(space.insert(vec![old, new]).unwrap(), [false, true]);
    assert_sound(&store);
}

#[test]
fn a_restored_backup_knows_what_it_lost() {
    let folder = tempfile::tempdir().unwrap();
    let (original, backup) = (folder.path().join("original"), folder.path().join("backup"));
    let insert = |n: u64| {
        let (store, space) = open_space(&original);
        let empty = space.position();
        space.insert((10 * n..10 * n + 10).map(|n| numbered(n, 10)).collect()).unwrap();
        drop(store);
        [empty, space.position()]
    };
    let [begin, end] = insert(0);
    assert_eq!((begin.count, end.count), (0, 10));
    assert_eq!(begin.epoch, end.epoch);
    copy(&original, &backup);
    let [again, later] = insert(1);
    assert_eq!((again.count, later.count), (10, 20));
    assert_ne!(again.epoch, end.epoch);

    let (_store, space) = open_space(&original);
    for position in [begin, end, again, later] {
        assert_eq!(space.resolve(position), Some(position.count));
    }
    // Within an epoch only the counts of its own stretch.
    for position in [Position { count: 11, ..end }, Position { count: 9, ..later }] {
        assert_eq!(space.resolve(position), None);
    }
    let ahead = Position { count: 21, ..space.position() };
    assert_eq!(space.resolve(ahead), None);

    let (_store, copy) = open_space(&backup);
    assert_eq!(copy.resolve(begin), Some(0));
    assert_eq!(copy.resolve(end), Some(10));
    for position in [again, later, space.position()] {
        assert_eq!(copy.resolve(position), None);
    }
    // As much as the original held then, but not the same.
    copy.insert((50..60).map(|n| numbered(n, 10)).collect()).unwrap();
    assert_eq!(copy.stats().count, later.count);
    assert_eq!(copy.resolve(later), None);
    assert_eq!(space.resolve(copy.position()), None);
}

#[test]
fn a_backup_of_a_running_store_knows_only_its_part_of_the_epoch() {
    let folder = tempfile::tempdir().unwrap();
    let (original, backup) = (folder.path().join("original"), folder.path().join("backup"));
    let (_store, space) = open_space(&original);
    space.insert(vec![numbered(1, 10)]).unwrap();
    let common = space.position();
    copy(&original, &backup);
    space.insert(vec![numbered(2, 10)]).unwrap();

    let (_store, copy) = open_space(&backup);
    copy.insert(vec![numbered(3, 10)]).unwrap();
    assert_eq!(copy.resolve(common), Some(1));
    assert_eq!(copy.resolve(space.position()), None);
}

#[test]
fn epochs_are_forgotten_after_a_while() {
    let folder = tempfile::tempdir().unwrap();
    let positions: Vec<_> = (0..66).map(|_| open_space(folder.path()).1.position()).collect();
    let (_store, space) = open_space(folder.path());
    let known = positions.iter().filter(|position| space.resolve(**position).is_some()).count();
    assert_eq!(known, 63);
    assert_eq!(space.resolve(positions[2]), None);
    assert_eq!(space.resolve(positions[3]), Some(0));
}
