//! Several threads at once.

use std::{
    sync::atomic::{AtomicBool, AtomicU64, Ordering::SeqCst},
    thread,
};

use crate::common::*;
use arcwise_proto::{
    ArcSet, AspectKey,
    session::{Filter, Holdings},
};
use arcwise_store::Limits;

const THREADS: u64 = 6;
const ROUNDS: u64 = 40;

/// Neighbouring threads insert half the same; each aspect must be new to exactly one of them, and
/// who reads meanwhile must see nothing that is not all there.
#[test]
fn inserts_share_batches_and_readers_see_whole_ones() {
    let folder = tempfile::tempdir().unwrap();
    let (store, space) = open_space(folder.path());
    let other = store
        .create_space(&OTHER_SPACE, "", ArcSet::full(), ArcSet::full(), Limits::default())
        .unwrap();
    let new = AtomicU64::new(0);
    let done = AtomicBool::new(false);

    thread::scope(|scope| {
        let writers: Vec<_> = (0..THREADS)
            .map(|thread| {
                let (space, other, new) = (space.clone(), other.clone(), &new);
                scope.spawn(move || {
                    for round in 0..ROUNDS {
                        let first = (thread + round * THREADS) * 4;
                        let aspects: Vec<_> = (first..first + 8).map(|n| numbered(n, 50)).collect();
                        let before = space.stats().count;
                        let answer = space.insert(aspects.clone()).unwrap();
                        let fresh = answer.iter().filter(|new| **new).count() as u64;
                        new.fetch_add(fresh, SeqCst);
                        assert!(space.stats().count >= before + fresh);
                        let got = space.get_many(&keys(&aspects)).unwrap();
                        assert!(got.into_iter().flatten().eq(aspects.iter().cloned()));
                        assert_eq!(other.insert(vec![numbered(first, 5)]).unwrap(), [true]);
                    }
                })
            })
            .collect();
        for _ in 0..2 {
            scope.spawn(|| {
                while !done.load(SeqCst) {
                    let position = space.position();
                    let all = Filter::default();
                    let listed =
                        space.list(AspectKey::MIN, AspectKey::MAX, &all, usize::MAX).unwrap();
                    assert!(listed.len() as u64 >= position.count);
                    assert!(space.get_many(&listed).unwrap().iter().all(Option::is_some));
                    assert!(space.since(0, usize::MAX).unwrap().len() as u64 >= position.count);
                }
            });
        }
        let failed = writers.into_iter().filter_map(|writer| writer.join().err()).next();
        done.store(true, SeqCst);
        assert!(failed.is_none());
    });

    let distinct = (THREADS * ROUNDS + 1) * 4;
    assert_eq!(new.load(SeqCst), distinct);
    assert_eq!(space.stats().count, distinct);
    assert_eq!(other.stats().count, THREADS * ROUNDS);
    assert_sound(&store);
    let before = (space.stats().count, space.stats().bytes);
    drop((store, space, other));
    let (store, space) = open_space(folder.path());
    assert_eq!((space.stats().count, space.stats().bytes), before);
    assert_sound(&store);
}
