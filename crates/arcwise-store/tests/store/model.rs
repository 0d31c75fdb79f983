//! The store against a map in memory that should say the same.

use std::collections::{BTreeMap, BTreeSet};

use crate::common::*;
use arcwise_proto::{
    Aspect, AspectKey, RingArc, Time,
    reconcile::Items as _,
    session::{Filter, Holdings},
};
use arcwise_store::{Keep, Limits, Space};
use proptest::prelude::*;

#[derive(Default)]
struct Model {
    held: BTreeMap<AspectKey, (u64, Aspect)>,
    sequence: u64,
    removed: u64,
    cutoff: Time,
}

impl Model {
    fn insert(&mut self, aspect: &Aspect) -> bool {
        let new = !self.held.contains_key(&aspect.key()) && aspect.published() >= self.cutoff;
        if new {
            self.sequence += 1;
            self.held.insert(aspect.key(), (self.sequence, aspect.clone()));
        }
        new
    }

    fn remove(&mut self, key: &AspectKey) -> bool {
        let held = self.held.remove(key).is_some();
        if held {
            self.sequence += 1;
            self.removed = self.sequence;
        }
        held
    }

    fn sweep(&mut self, keep: &Keep) -> u64 {
        let goes = |(key, (sequence, aspect)): (&AspectKey, &(u64, Aspect))| {
            let kept =
                keep.arcs.contains(key.location) && aspect.published() >= keep.published_since;
            (!kept && *sequence <= keep.stored_after).then_some(*key)
        };
        let goes: Vec<_> = self.held.iter().filter_map(goes).collect();
        goes.iter().filter(|key| self.remove(key)).count() as u64
    }

    fn list(&self, query: &Query) -> Vec<AspectKey> {
        let Query { first, last, filter, limit } = query;
        let passes = |key: &AspectKey, sequence: u64| {
            let published = self.held[key].1.published();
            (*first..=*last).contains(key)
                && filter.published_since.is_none_or(|since| published >= since)
                && filter.stored_after.is_none_or(|after| sequence > after)
        };
        let all = self.held.iter().filter(|(key, (sequence, _))| passes(key, *sequence));
        all.map(|(key, _)| *key).take(*limit).collect()
    }

    fn since(&self, after: u64, limit: usize) -> Vec<(u64, Aspect)> {
        let all: BTreeMap<u64, &Aspect> = self.held.values().map(|(s, a)| (*s, a)).collect();
        let all = all.into_iter().filter(|(sequence, _)| *sequence > after);
        all.take(limit).map(|(sequence, aspect)| (sequence, aspect.clone())).collect()
    }
}

#[derive(Clone, Debug)]
struct Query {
    first: AspectKey,
    last: AspectKey,
    filter: Filter,
    limit: usize,
}

#[derive(Clone, Debug)]
enum Step {
    Insert(Vec<Aspect>),
    Remove(Vec<AspectKey>),
    Sweep(Keep),
    Expire(Time),
    Compact,
    /// Deletes the space, and makes it anew.
    Delete,
    Reopen,
    Query(Query, u64),
}

/// Few enough that the same comes up again, with locations at both ends of the ring and two entries
/// at each.
fn any_aspect() -> impl Strategy<Value = Aspect> {
    let location = prop::sample::select(vec![0, 1, 0x4000_0000, u32::MAX - 1, u32::MAX]);
    (location, any::<bool>(), 0..4u64, 0..3usize).prop_map(|(location, twin, at, len)| {
        aspect(location, twin, at, &[0x5a; 2000][..len * 900])
    })
}

fn any_key() -> impl Strategy<Value = AspectKey> {
    prop_oneof![
        4 => any_aspect().prop_map(|aspect| aspect.key()),
        1 => any_aspect().prop_map(|aspect| aspect.key().next().unwrap()),
        1 => Just(AspectKey::MIN),
        1 => Just(AspectKey::MAX),
    ]
}

fn any_query() -> impl Strategy<Value = Query> {
    let since = prop::option::of((0..5u64).prop_map(Time::from_micros));
    let after = prop::option::of(prop_oneof![0..60u64, Just(u64::MAX)]);
    let limit = prop_oneof![0..5usize, Just(usize::MAX)];
    (any_key(), any_key(), since, after, limit).prop_map(
        |(first, last, published_since, stored_after, limit)| {
            let filter = Filter { published_since, stored_after };
            Query { first, last, filter, limit }
        },
    )
}

fn any_keep() -> impl Strategy<Value = Keep> {
    let after = prop_oneof![0..60u64, Just(u64::MAX)];
    (any_key(), any_key(), 0..4u64, after).prop_map(|(first, last, since, stored_after)| {
        let arcs = RingArc::between(first.location, last.location).into();
        Keep { arcs, published_since: Time::from_micros(since), stored_after }
    })
}

fn any_step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => prop::collection::vec(any_aspect(), 0..12).prop_map(Step::Insert),
        2 => prop::collection::vec(any_key(), 0..6).prop_map(Step::Remove),
        1 => any_keep().prop_map(Step::Sweep),
        1 => (0..4u64).prop_map(|at| Step::Expire(Time::from_micros(at))),
        1 => Just(Step::Compact),
        1 => Just(Step::Delete),
        2 => Just(Step::Reopen),
        6 => (any_query(), 0..60u64).prop_map(|(query, after)| Step::Query(query, after)),
    ]
}

fn compare(space: &Space, model: &Model) {
    let stats = space.stats();
    assert_eq!(stats.count, model.held.len() as u64);
    let bytes = model.held.values().map(|(_, a)| a.encoding().len() as u64).sum::<u64>();
    assert_eq!((stats.bytes, stats.position), (bytes, space.position()));
    assert_eq!(stats.position.count, model.sequence);
    assert_eq!(space.resolve(stats.position), Some(model.sequence));
    assert_eq!(space.since(0, usize::MAX).unwrap(), model.since(0, usize::MAX));

    let entries: BTreeSet<_> = model.held.values().map(|(_, a)| a.entry()).collect();
    for entry in entries.into_iter().chain([entry(2, false)]) {
        let all = model.since(0, usize::MAX).into_iter().map(|(_, aspect)| aspect);
        let expected: Vec<_> = all.filter(|aspect| aspect.entry() == entry).collect();
        assert_eq!(space.entry(&entry).unwrap(), expected);
    }
    let snapshot = space.snapshot();
    assert_eq!(snapshot.sectors.count(), stats.count);
    for key in model.held.keys() {
        assert_eq!(snapshot.items.find(&key.hash, &key.hash).unwrap(), [*key]);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, failure_persistence: None, ..Default::default() })]

    #[test]
    fn the_store_is_a_map(steps in prop::collection::vec(any_step(), 1..40)) {
        let folder = tempfile::tempdir().unwrap();
        let (mut store, mut space) = open_space(folder.path());
        let mut model = Model::default();
        for step in steps {
            match step {
                Step::Insert(aspects) => {
                    let expected: Vec<_> = aspects.iter().map(|a| model.insert(a)).collect();
                    prop_assert_eq!(space.insert(aspects).unwrap(), expected);
                }
                Step::Remove(keys) => {
                    let before = space.position();
                    let expected: Vec<_> = keys.iter().map(|key| model.remove(key)).collect();
                    let resolved = Some(before.count).filter(|_| !expected.contains(&true));
                    prop_assert_eq!(space.remove(&keys).unwrap(), expected);
                    prop_assert_eq!(space.resolve(before), resolved);
                }
                Step::Sweep(keep) => {
                    prop_assert_eq!(sweep(&space, &keep), model.sweep(&keep));
                }
                Step::Expire(cutoff) => {
                    space.expire(cutoff);
                    model.cutoff = cutoff.max(model.cutoff);
                    prop_assert_eq!(space.cutoff(), model.cutoff);
                }
                Step::Compact => store.compact().unwrap(),
                Step::Delete => {
                    store.delete_space(&SPACE).unwrap();
                    prop_assert!(space.insert(vec![numbered(0, 0)]).is_err());
                    space = make_space(&store);
                    model = Model::default();
                }
                Step::Reopen => {
                    drop((store, space));
                    (store, space) = open_space(folder.path());
                    model.cutoff = Time::ZERO;
                    compare(&space, &model);
                }
                Step::Query(query, after) => {
                    let Query { first, last, filter, limit } = &query;
                    let listed = space.list(*first, *last, filter, *limit).unwrap();
                    prop_assert_eq!(listed, model.list(&query));

                    let ask = [*last, *first, *last];
                    let get = |key: &AspectKey| model.held.get(key).map(|(_, a)| a.clone());
                    prop_assert_eq!(space.get(first).unwrap(), get(first));
                    let expected: Vec<_> = ask.iter().map(get).collect();
                    prop_assert_eq!(space.get_many(&ask).unwrap(), expected);
                    let expected: Vec<_> = ask.into_iter().filter(|k| get(k).is_none()).collect();
                    prop_assert_eq!(space.lacks(&ask).unwrap(), expected);
                    prop_assert_eq!(space.since(after, *limit).unwrap(), model.since(after, *limit));
                }
            }
        }
        while store.clear().unwrap() {}
        compare(&space, &model);
        assert_sound(&store);
    }
}

#[test]
fn a_hot_entry() {
    let folder = tempfile::tempdir().unwrap();
    let (store, space) = open_space(folder.path());
    let hot: Vec<_> = (0..3000).map(|n: u64| aspect(5, false, n, &n.to_le_bytes())).collect();
    let twins: Vec<_> = (0..100).map(|n: u64| aspect(5, true, n, &n.to_le_bytes())).collect();
    space.insert([&hot[..], &twins[..]].concat()).unwrap();
    assert_eq!(space.entry(&entry(5, false)).unwrap(), hot);
    assert_eq!(space.entry(&entry(5, true)).unwrap(), twins);

    let mut expected = keys(&hot);
    expected.extend(keys(&twins));
    expected.sort_unstable();
    let (mut listed, mut from) = (Vec::new(), Some(AspectKey::MIN));
    while let Some(first) = from {
        let page = space.list(first, AspectKey::MAX, &Filter::default(), 1000).unwrap();
        from = page.last().and_then(|last| last.next());
        listed.extend(page);
    }
    assert_eq!(listed, expected);
    assert_sound(&store);
}

/// Enough that a few recent ones are looked up in the log and many in the index.
#[test]
fn recent_ones_among_many() {
    let folder = tempfile::tempdir().unwrap();
    let (_store, space) = open_space(folder.path());
    let mut model = Model::default();
    let aspects: Vec<_> = (0..4000).map(|n| numbered(n, 8)).collect();
    aspects.iter().for_each(|aspect| assert!(model.insert(aspect)));
    space.insert(aspects).unwrap();
    let middle = AspectKey { location: arcwise_proto::Location(1 << 31), ..AspectKey::MIN };
    for stored_after in [0, 2000, 3000, 3900, 3950, 3999, 4000, 4001, u64::MAX] {
        for published_since in [None, Some(Time::from_micros(3980))] {
            for limit in [0, 1, 20, 1000, usize::MAX] {
                for (first, last) in [(AspectKey::MIN, AspectKey::MAX), (AspectKey::MIN, middle)] {
                    let filter = Filter { published_since, stored_after: Some(stored_after) };
                    let query = Query { first, last, filter, limit };
                    let listed = space.list(first, last, &query.filter, limit).unwrap();
                    assert_eq!(listed, model.list(&query), "{query:?}");
                }
            }
        }
    }
}

#[test]
fn spaces_do_not_mix() {
    let folder = tempfile::tempdir().unwrap();
    let (store, one) = open_space(folder.path());
    let full = arcwise_proto::ArcSet::full;
    let two = store.create_space(&OTHER_SPACE, "two", full(), full(), Limits::default()).unwrap();
    let aspects: Vec<_> = (0..10).map(|n| numbered(n, 20)).collect();
    for n in 0..5 {
        assert_eq!(one.insert(vec![aspects[n].clone()]).unwrap(), [true]);
        assert_eq!(two.insert(vec![aspects[n + 5].clone()]).unwrap(), [true]);
    }
    let all = |space: &Space| {
        space.list(AspectKey::MIN, AspectKey::MAX, &Filter::default(), usize::MAX).unwrap()
    };
    assert_eq!(all(&one).len() + all(&two).len(), 10);
    assert_eq!(one.lacks(&keys(&aspects)).unwrap(), keys(&aspects[5..]));
    assert_eq!(two.lacks(&keys(&aspects)).unwrap(), keys(&aspects[..5]));
    assert_eq!(one.since(0, 100).unwrap().len(), 5);
    // The same aspect in both is stored in both.
    assert_eq!(two.insert(aspects.clone()).unwrap().iter().filter(|new| **new).count(), 5);
    assert_eq!((one.stats().count, two.stats().count), (5, 10));
    assert_sound(&store);
}

#[test]
fn more_than_a_batch_at_once() {
    let folder = tempfile::tempdir().unwrap();
    let (store, space) = open_space(folder.path());
    let mut aspects: Vec<_> = (0..5000).map(|n| numbered(n, 8)).collect();
    aspects.extend((0..20).map(|n| numbered(n, 1 << 20)));
    aspects.push(aspects[0].clone());
    let new = space.insert(aspects.clone()).unwrap();
    assert_eq!(new.iter().filter(|new| **new).count(), 5020);
    assert!(!new[5020]);
    let stored = space.since(0, usize::MAX).unwrap();
    assert!(stored.iter().map(|(_, aspect)| aspect).eq(&aspects[..5020]));
    assert_sound(&store);
}
