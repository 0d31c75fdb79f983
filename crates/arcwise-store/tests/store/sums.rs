//! The sums that spaces are compared by: always of what is stored, through crashes and damage.

use std::{collections::BTreeSet, fs, path::Path};

use crate::common::*;
use arcwise_proto::{
    ArcSet, AspectKey, Location, RingArc,
    reconcile::{Items as _, Sectors},
    session::{Digest, Holdings},
};
use arcwise_store::{Fault, Limits, Options, Row, Space};
use proptest::prelude::*;

fn digest(space: &Space) -> Digest {
    space.snapshot().digest(&ArcSet::full(), b"nonce").unwrap()
}

/// Of these keys, by a way of its own.
fn expected(keys: &BTreeSet<AspectKey>) -> Digest {
    let mut sectors = Sectors::new();
    keys.iter().for_each(|key| sectors.insert(key));
    let Ok(()) = sectors.settle(keys);
    let snapshot = arcwise_proto::session::Snapshot { sectors, items: keys.clone() };
    let Ok(digest) = snapshot.digest(&ArcSet::full(), b"nonce");
    digest
}

fn checkpoint(folder: &Path) -> std::path::PathBuf {
    folder.join("sums").join("0")
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, failure_persistence: None, ..Default::default() })]

    #[test]
    fn a_snapshot_is_what_it_was(first in 0..600u64, more in 1..600u64, arcs in any::<(u32, u32)>()) {
        let folder = tempfile::tempdir().unwrap();
        let (_store, space) = open_space(folder.path());
        space.insert((0..first).map(|n| numbered(n, 8)).collect()).unwrap();
        let before = space.snapshot();
        space.insert((first..first + more).map(|n| numbered(n, 8)).collect()).unwrap();

        let held: BTreeSet<_> = (0..first).map(|n| numbered(n, 8).key()).collect();
        let (from, to) = (Location(arcs.0), Location(arcs.1));
        let arcs: ArcSet = RingArc::between(from, to).into();
        let inside: BTreeSet<_> =
            held.iter().filter(|key| arcs.contains(key.location)).copied().collect();
        prop_assert_eq!(before.digest(&arcs, b"nonce").unwrap(), expected(&inside));

        let mut scanned = Vec::new();
        let (least, most) = (AspectKey::MIN, AspectKey::MAX);
        before.items.scan(&least, &most, &mut |key| scanned.push(*key)).unwrap();
        prop_assert!(scanned.iter().eq(&held));
        for n in [0, first.saturating_sub(1), first] {
            let key = numbered(n, 8).key();
            let found = before.items.find(&key.hash, &key.hash).unwrap();
            prop_assert_eq!(found, if n < first { vec![key] } else { vec![] });
            let held = (n < first + more).then(|| numbered(n, 8));
            prop_assert_eq!(space.find(&key.hash).unwrap(), held);
        }
        let found = before.items.find(&AspectKey::MIN.hash, &AspectKey::MAX.hash).unwrap();
        prop_assert!(found.iter().eq(&held));
        let all: BTreeSet<_> = (0..first + more).map(|n| numbered(n, 8).key()).collect();
        prop_assert_eq!(digest(&space), expected(&all));
    }
}

#[test]
fn they_are_right_again_after_opening() {
    let folder = tempfile::tempdir().unwrap();
    let mut held = BTreeSet::new();
    let mut add = |space: &Space, numbers: std::ops::Range<u64>| {
        let aspects: Vec<_> = numbers.map(|n| numbered(n, 100)).collect();
        held.extend(keys(&aspects));
        space.insert(aspects).unwrap();
        expected(&held)
    };
    // On closing, a checkpoint of all of it is written.
    let (store, space) = open_space(folder.path());
    let now = add(&space, 0..2000);
    assert_eq!(digest(&space), now);
    all_are_found(&space, 0..2000);
    drop((store, space));
    let kept = fs::read(checkpoint(folder.path())).unwrap();
    let (store, space) = open_space(folder.path());
    assert_eq!(digest(&space), now);
    let now = add(&space, 2000..2500);
    drop((store, space));

    // One from before, as after a crash: what came since is added.
    fs::write(checkpoint(folder.path()), &kept).unwrap();
    let (store, space) = open_space(folder.path());
    assert_eq!(digest(&space), now);
    all_are_found(&space, 0..2500);
    assert_sound(&store);
    drop((store, space));

    // None at all, or one that is damaged, or that only claims to be of this store.
    let foreign = Sectors::new().to_bytes([7; 16]);
    for other in [None, Some(kept[..kept.len() - 1].to_vec()), Some(foreign), Some(vec![])] {
        match other {
            None => fs::remove_file(checkpoint(folder.path())).unwrap(),
            Some(bytes) => fs::write(checkpoint(folder.path()), bytes).unwrap(),
        }
        let (store, space) = open_space(folder.path());
        assert_eq!(digest(&space), now);
        all_are_found(&space, 0..2500);
        assert_sound(&store);
    }
}

/// As many checkpoints as there are batches, and reading back from any of them.
#[test]
fn checkpoints_on_the_way() {
    let folder = tempfile::tempdir().unwrap();
    let options = Options { checkpoint_after: 1, ..options() };
    let store = open_with(folder.path(), options.clone());
    let space =
        store.create_space(&SPACE, "", ArcSet::full(), ArcSet::full(), Limits::default()).unwrap();
    let mut on_the_way = Vec::new();
    for n in 0..50 {
        space.insert((n * 10..n * 10 + 10).map(|n| numbered(n, 100)).collect()).unwrap();
        on_the_way.extend(fs::read(checkpoint(folder.path())).ok());
    }
    let now = digest(&space);
    drop((store, space));
    // Whichever of them was the last before a crash.
    on_the_way.dedup();
    on_the_way.push(Vec::new());
    for kept in on_the_way {
        fs::write(checkpoint(folder.path()), kept).unwrap();
        let (store, space) = open_space(folder.path());
        assert_eq!(digest(&space), now);
        all_are_found(&space, 0..500);
        assert_sound(&store);
    }
}

/// Each of these aspects, by its hash.
fn all_are_found(space: &Space, numbers: std::ops::Range<u64>) {
    let items = space.snapshot().items;
    for key in numbers.map(|n| numbered(n, 100).key()) {
        assert_eq!(items.find(&key.hash, &key.hash).unwrap(), [key]);
    }
}

#[test]
fn wrong_sums_are_found_and_made_anew() {
    let folder = tempfile::tempdir().unwrap();
    let (store, space) = open_space(folder.path());
    space.insert((0..1000).map(|n| numbered(n, 8)).collect()).unwrap();
    let right = digest(&space);
    drop((store, space));
    // Sealed, of this store and of this moment, and wrong all the same.
    let kept = fs::read(checkpoint(folder.path())).unwrap();
    let (stamp, mut sectors) = Sectors::from_bytes(&kept).unwrap();
    sectors.insert(&numbered(5000, 8).key());
    fs::write(checkpoint(folder.path()), sectors.to_bytes(stamp)).unwrap();

    let (store, space) = open_space(folder.path());
    assert_ne!(digest(&space), right);
    let report = store.check().unwrap();
    let found: Vec<_> = report.damages.iter().map(|damage| (&damage.row, &damage.fault)).collect();
    assert!(matches!(found[..], [(Row::Record("sums"), Fault::OtherSums)]), "{found:?}");
    drop((store, space));
    let (store, space) = open_space(folder.path());
    assert_eq!(digest(&space), right);
    assert_sound(&store);
}

/// Format 1 had no `ids`.
#[test]
fn a_store_of_the_first_format_is_brought_up_to_date() {
    let folder = tempfile::tempdir().unwrap();
    let (store, space) = open_space(folder.path());
    space.insert((0..5000).map(|n| numbered(n, 100)).collect()).unwrap();
    let right = digest(&space);
    drop((store, space));
    {
        let db = fjall::Database::builder(folder.path().join("db")).open().unwrap();
        let ids = db.keyspace("ids", fjall::KeyspaceCreateOptions::default).unwrap();
        ids.clear().unwrap();
        db.persist(fjall::PersistMode::SyncAll).unwrap();
    }
    fs::remove_dir_all(folder.path().join("sums")).unwrap();
    fs::write(folder.path().join("FORMAT"), "arcwise store, format 1\n").unwrap();

    let (store, space) = open_space(folder.path());
    assert_eq!(digest(&space), right);
    all_are_found(&space, 0..5000);
    assert_sound(&store);
    let format = fs::read_to_string(folder.path().join("FORMAT")).unwrap();
    assert_eq!(format, "arcwise store, format 3\n");
}
