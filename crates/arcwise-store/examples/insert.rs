//! How fast aspects are stored, against the bare engine with the same rows:
//!
//! ```text
//! cargo run --release -p arcwise-store --example insert -- [aspects] [bytes of data] [batch] [threads]
//! ```
//!
//! Every batch is synced to disk. The data is random, so that nothing compresses.

use std::{
    env, fs,
    path::Path,
    thread,
    time::{Duration, Instant},
};

use arcwise_proto::{
    ArcSet, Aspect, AspectKey, EntryAddress, SpaceId, Time,
    limits::PAGE_KEYS,
    session::{Filter, Holdings},
};
use arcwise_store::{Limits, Options, Space, Store};
use fjall::{
    CompressionType, Database, KeyspaceCreateOptions, KvSeparationOptions, OwnedWriteBatch,
    PersistMode, config::CompressionPolicy,
};

fn main() {
    let mut args = env::args().skip(1).map(|arg| arg.parse().expect("arguments are numbers"));
    let mut arg = |default| args.next().unwrap_or(default);
    let (count, size, batch, threads) = (arg(200_000), arg(1024), arg(1000), arg(1));
    let aspects: Vec<_> = (0..count).map(|n| aspect(n as u64, size)).collect();
    let batches: Vec<_> = aspects.chunks(batch.max(1)).collect();
    println!("{count} aspects of {size} bytes in batches of {batch} from {threads} threads");

    let folder = tempfile::tempdir().expect("a folder for it");
    measure("engine", &folder.path().join("engine"), &aspects, |path| engine(path, &batches));
    measure("store", &folder.path().join("store"), &aspects, |path| store(path, &batches, threads));

    let start = Instant::now();
    let store = open(&folder.path().join("store"));
    println!("open again {:.3} s", start.elapsed().as_secs_f64());
    let space = &store.spaces()[0];
    // By location, so in no order that the log knows.
    let mut keys: Vec<AspectKey> = aspects.iter().map(Aspect::key).collect();
    keys.sort_unstable();
    let start = Instant::now();
    for key in keys.iter().take(20_000) {
        space.get(key).expect("a sound store").expect("it is held");
    }
    let each = start.elapsed() / keys.len().min(20_000) as u32;
    println!("get {:.1} us", each.as_secs_f64() * 1e6);
    let start = Instant::now();
    let (mut listed, mut from) = (0, Some(AspectKey::MIN));
    while let Some(first) = from {
        let page = list(space, first, None);
        from = page.last().and_then(|last| last.next());
        listed += page.len();
    }
    println!("list {:.2} M/s", listed as f64 / start.elapsed().as_secs_f64() / 1e6);
    for recent in [100, 1000, 10_000] {
        let start = Instant::now();
        list(space, AspectKey::MIN, Some(space.stats().count.saturating_sub(recent)));
        let took = start.elapsed().as_secs_f64() * 1e3;
        println!("list the first page of the last {recent} stored {took:.1} ms");
    }
    let start = Instant::now();
    assert_eq!(store.check().expect("a sound store").damage_count, 0);
    println!("check {:.3} s", start.elapsed().as_secs_f64());
}

fn list(space: &Space, first: AspectKey, stored_after: Option<u64>) -> Vec<AspectKey> {
    let filter = Filter { stored_after, ..Filter::default() };
    space.list(first, AspectKey::MAX, &filter, PAGE_KEYS).expect("a sound store")
}

fn measure(what: &str, path: &Path, aspects: &[Aspect], run: impl FnOnce(&Path) -> Duration) {
    let before = written();
    let took = run(path).as_secs_f64();
    let data: usize = aspects.iter().map(|aspect| aspect.encoding().len()).sum();
    println!(
        "{what}: {:.0} aspects/s, {:.0} MiB/s, disk {:.2} x data, written {:.2} x data",
        aspects.len() as f64 / took,
        data as f64 / took / f64::from(1 << 20),
        on_disk(path) as f64 / data as f64,
        (written() - before) as f64 / data as f64,
    );
}

fn open(path: &Path) -> Store {
    Store::open(path, Options::default()).expect("an intact store, open once")
}

fn store(path: &Path, batches: &[&[Aspect]], threads: usize) -> Duration {
    let store = open(path);
    let space = store
        .create_space(&SpaceId([1; 32]), "", ArcSet::full(), ArcSet::full(), Limits::default())
        .expect("a new space");
    let start = Instant::now();
    thread::scope(|scope| {
        for first in 0..threads {
            let space = &space;
            scope.spawn(move || {
                for batch in batches.iter().skip(first).step_by(threads) {
                    space.insert(batch.to_vec()).expect("room on the disk");
                }
            });
        }
    });
    start.elapsed()
}

/// The same rows with the same settings, and none of the store's own work.
fn engine(path: &Path, batches: &[&[Aspect]]) -> Duration {
    let db = Database::builder(path)
        .max_journaling_size(64 << 20)
        .journal_compression(CompressionType::None)
        .open()
        .expect("a new database");
    let index = db.keyspace("index", || {
        KeyspaceCreateOptions::default()
            .max_memtable_size(8 << 20)
            .data_block_compression_policy(CompressionPolicy::all(CompressionType::None))
    });
    let log = db.keyspace("log", || {
        KeyspaceCreateOptions::default()
            .max_memtable_size(16 << 20)
            .with_kv_separation(Some(KvSeparationOptions::default()))
    });
    let (index, log) = (index.expect("a new keyspace"), log.expect("a new keyspace"));
    let start = Instant::now();
    let mut number = 0_u64;
    for aspects in batches {
        let mut batch = OwnedWriteBatch::with_capacity(db.clone(), 2 * aspects.len())
            .durability(Some(PersistMode::SyncData));
        for aspect in *aspects {
            number += 1;
            let key = [&[0; 4][..], &aspect.location().0.to_be_bytes(), &aspect.hash().0].concat();
            let sequence = [&[0; 4][..], &number.to_be_bytes()].concat();
            let published = aspect.published().as_micros();
            batch.insert(&log, sequence, &aspect.encoding()[..]);
            batch.insert(&index, key, [number.to_be_bytes(), published.to_be_bytes()].concat());
        }
        batch.commit().expect("room on the disk");
    }
    start.elapsed()
}

fn aspect(n: u64, size: usize) -> Aspect {
    // SplitMix64.
    let mut state = n << 32;
    let mut word = || {
        state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (state ^ (state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)).to_le_bytes()
    };
    let mut data: Vec<u8> = (0..size.div_ceil(8)).flat_map(|_| word()).collect();
    data.truncate(size);
    let mut entry = [0; 32];
    entry.chunks_mut(8).for_each(|chunk| chunk.copy_from_slice(&word()));
    Aspect::new(EntryAddress(entry), 0, Time::from_micros(n), &data).expect("not too large")
}

/// Bytes that the files in a folder take up.
fn on_disk(path: &Path) -> u64 {
    let items = fs::read_dir(path).into_iter().flatten().flatten();
    let sizes = items.map(|item| match item.metadata() {
        Ok(about) if about.is_dir() => on_disk(&item.path()),
        Ok(about) => allocated(&about),
        Err(_) => 0,
    });
    sizes.sum()
}

#[cfg(unix)]
fn allocated(file: &fs::Metadata) -> u64 {
    std::os::unix::fs::MetadataExt::blocks(file) * 512
}

#[cfg(not(unix))]
fn allocated(file: &fs::Metadata) -> u64 {
    file.len()
}

/// Bytes that this process has sent to disks so far, where the system counts them.
fn written() -> u64 {
    let io = fs::read_to_string("/proc/self/io").unwrap_or_default();
    let line = io.lines().find_map(|line| line.strip_prefix("write_bytes: "));
    line.and_then(|bytes| bytes.parse().ok()).unwrap_or(0)
}
