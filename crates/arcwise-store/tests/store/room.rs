//! Limits, and giving room back.

use std::time::Duration;

use crate::common::*;
use arcwise_proto::{ArcSet, Aspect, AspectKey, Location, RingArc, Time, session::Holdings};
use arcwise_store::{Keep, Limited, Limits, Options, StoreError};

fn lower_half() -> ArcSet {
    RingArc::between(Location(0), Location(u32::MAX / 2)).into()
}

/// Like [`numbered`], with data that does not compress.
fn noisy(n: u64, size: usize) -> Aspect {
    let (mut state, published) = (n.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1, n);
    let word = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()
    };
    let data: Vec<u8> = std::iter::repeat_with(word).flatten().take(size).collect();
    aspect((n as u32).wrapping_mul(0x9e37_79b9), false, published, &data)
}

#[test]
fn what_was_removed_gives_the_disk_back() {
    let folder = tempfile::tempdir().unwrap();
    let (store, space) = open_space(folder.path());
    let other = store
        .create_space(&OTHER_SPACE, "", ArcSet::full(), ArcSet::full(), Limits::default())
        .unwrap();
    // Small ones and large ones, which the engine keeps apart.
    for n in 0..20 {
        let batch = |size| (n * 500..(n + 1) * 500).map(|n| noisy(n, size)).collect::<Vec<_>>();
        space.insert([batch(200), batch(3000)].concat()).unwrap();
        other.insert(batch(3000)).unwrap();
    }
    store.compact().unwrap();
    let full = store.stats().unwrap();
    assert!(full.log > full.bytes * 9 / 10, "{full:?}");

    let keep = Keep { arcs: lower_half(), published_since: Time::ZERO, stored_after: u64::MAX };
    let removed = sweep(&space, &keep);
    assert!((9000..11000).contains(&removed), "{removed}");
    store.delete_space(&OTHER_SPACE).unwrap();
    assert!(store.space(&OTHER_SPACE).is_none());
    while store.clear().unwrap() {}
    store.compact().unwrap();
    let (less, held) = (store.stats().unwrap(), space.stats());
    assert_eq!((less.aspects, less.bytes), (held.count, held.bytes));
    assert!(less.disk() - less.journals < held.bytes * 3 / 2, "{less:?}");
    assert!(less.index < full.index / 2 && less.log < full.log / 3, "{full:?} {less:?}");
    assert_sound(&store);

    drop((store, space, other));
    let (store, space) = open_space(folder.path());
    assert_eq!(space.stats().count, held.count);
    assert!(
        space
            .list(AspectKey::MIN, AspectKey::MAX, &Default::default(), usize::MAX)
            .unwrap()
            .iter()
            .all(|key| keep.arcs.contains(key.location))
    );
    assert!(store.space(&OTHER_SPACE).is_none());
    assert_sound(&store);
}

/// Else a space that aspects come into and go from would grow for ever.
#[test]
fn removals_leave_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let options = Options { checkpoint_after: 100, ..options() };
    let store = open_with(folder.path(), options);
    let space = make_space(&store);
    let empty = store.stats().unwrap();
    for n in 0..50 {
        let batch: Vec<_> = (n * 200..(n + 1) * 200).map(|n| numbered(n, 100)).collect();
        space.insert(batch.clone()).unwrap();
        space.remove(&keys(&batch)).unwrap();
    }
    // Closing writes a checkpoint, after which the removals before it are not needed.
    drop((store, space));
    let (store, space) = open_space(folder.path());
    assert_eq!(space.stats().count, 0);
    assert_eq!(space.stats().position.count, 2 * 50 * 200);
    store.compact().unwrap();
    let after = store.stats().unwrap();
    let grown = after.disk() - after.journals - (empty.disk() - empty.journals);
    assert!(grown < 10_000, "{after:?}");
    space.insert(vec![numbered(0, 100)]).unwrap();
    assert_sound(&store);
}

#[test]
fn a_deleted_space_stays_deleted() {
    let folder = tempfile::tempdir().unwrap();
    let (store, space) = open_space(folder.path());
    space.insert((0..3000).map(|n| numbered(n, 10)).collect()).unwrap();
    let last = store
        .create_space(&OTHER_SPACE, "last", ArcSet::full(), ArcSet::full(), Limits::default())
        .unwrap();
    last.insert(vec![numbered(1, 10)]).unwrap();
    store.delete_space(&SPACE).unwrap();
    let deleted = |error| assert!(matches!(error, StoreError::SpaceDeleted(SPACE)), "{error}");
    deleted(store.delete_space(&SPACE).unwrap_err());
    deleted(space.insert(vec![numbered(1, 1)]).unwrap_err());
    deleted(space.remove(&[numbered(1, 10).key()]).unwrap_err());
    deleted(space.set_held(ArcSet::full()).unwrap_err());
    deleted(space.set_limits(Limits::default()).unwrap_err());
    // Cleared in part, and the rest after reopening.
    assert!(store.clear().unwrap());
    drop((store, space, last));
    let store = open(folder.path());
    assert!(store.space(&SPACE).is_none());
    assert_sound(&store);
    let mut steps = 0;
    while store.clear().unwrap() {
        steps += 1;
    }
    assert!(steps > 1, "{steps}");
    // Made again, it is another one, and has nothing of the first.
    let again = make_space(&store);
    assert_eq!(again.stats().count, 0);
    assert_eq!(again.insert(vec![numbered(1, 10)]).unwrap(), [true]);
    drop((store, again));
    let (store, again) = open_space(folder.path());
    assert_eq!(again.stats().count, 1);
    assert_eq!(store.space(&OTHER_SPACE).unwrap().stats().count, 1);
    assert_sound(&store);
}

#[test]
fn limits_hold_and_can_be_raised() {
    let folder = tempfile::tempdir().unwrap();
    let size = numbered(0, 1000).encoding().len() as u64;
    let options = Options { max_bytes: Some(15 * size), ..options() };
    let store = open_with(folder.path(), options.clone());
    let space = make_space(&store);
    let limits = Limits { max_bytes: Some(10 * size), max_age: Some(Duration::from_secs(60)) };
    space.set_limits(limits).unwrap();
    let batch = |n: u64| (n..n + 5).map(|n| numbered(n, 1000)).collect::<Vec<_>>();
    space.insert(batch(0)).unwrap();
    space.insert(batch(5)).unwrap();
    let error = space.insert(vec![numbered(10, 1000)]).unwrap_err();
    let StoreError::Full { limit: Limited::Space(SPACE), held, most } = error else {
        panic!("{error}")
    };
    assert_eq!((held, most), (10 * size, 10 * size));
    assert!(error.is_full() && error.to_string().contains("raise the limit"), "{error}");
    // What is held already is no more.
    assert_eq!(space.insert(batch(0)).unwrap(), [false; 5]);

    drop((store, space));
    let store = open_with(folder.path(), options);
    let space = store.space(&SPACE).unwrap();
    assert_eq!(space.limits(), limits);
    assert!(space.insert(batch(10)).is_err());
    space.set_limits(Limits::default()).unwrap();
    space.insert(batch(10)).unwrap();
    let error = space.insert(batch(15)).unwrap_err();
    assert!(matches!(error, StoreError::Full { limit: Limited::Store, .. }), "{error}");
    space.remove(&keys(&batch(0))).unwrap();
    space.insert(batch(15)).unwrap();
    assert_eq!(space.stats().bytes, 15 * size);
    assert_sound(&store);
}

#[test]
fn expired_ones_do_not_come_back() {
    let folder = tempfile::tempdir().unwrap();
    let (store, space) = open_space(folder.path());
    let aspects: Vec<_> = (0..10).map(|n| numbered(n, 10)).collect();
    space.insert(aspects.clone()).unwrap();
    space.expire(Time::from_micros(5));
    space.expire(Time::from_micros(3));
    assert_eq!(space.cutoff(), Time::from_micros(5));
    let keep =
        Keep { arcs: ArcSet::full(), published_since: space.cutoff(), stored_after: u64::MAX };
    assert_eq!(sweep(&space, &keep), 5);
    assert_eq!(space.lacks(&keys(&aspects)).unwrap(), keys(&aspects[..5]));
    assert_eq!(space.insert(aspects).unwrap(), [false; 10]);
    assert_eq!(space.stats().count, 5);
    assert_sound(&store);
}
