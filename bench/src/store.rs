//! Durable inserts into a store, beside the bare engine with the same rows and batches.
//!
//! Each of them is filled by one process, which is killed when all is acknowledged, then opened and
//! closed by another, and opened by a third.

use std::{
    path::{Path, PathBuf},
    thread,
    time::{Duration, Instant},
};

use anyhow::Context;
use arcwise::Aspect;
use arcwise_store::{Options, Space, Store};
use fjall::{
    CompressionType, Database, Keyspace, KeyspaceCreateOptions, KvSeparationOptions,
    OwnedWriteBatch, PersistMode,
    config::{BloomConstructionPolicy, CompressionPolicy, FilterPolicy, FilterPolicyEntry},
};
use serde::{Deserialize, Serialize};

use crate::{
    data, machine, nodes,
    process::{self, Process, say},
};

/// Bytes of data that are made at a time, while the clock stands still.
const MADE_AT_ONCE: usize = 4 << 20;

#[derive(clap::Args)]
pub struct Args {
    /// How many aspects.
    #[arg(long, default_value_t = 1_000_000)]
    aspects: u64,
    /// Bytes of data in each.
    #[arg(long, default_value_t = 1024)]
    size: usize,
    /// How many are inserted, and synced to disk, at a time.
    #[arg(long, default_value_t = 1000)]
    batch: u64,
    /// How many threads insert.
    #[arg(long, default_value_t = 1)]
    threads: u64,
    /// How often; the tables show every run.
    #[arg(long, default_value_t = 1)]
    runs: usize,
    /// Where the files go; by default the system's folder for temporary files.
    #[arg(long)]
    folder: Option<PathBuf>,
    /// Internal: fill this, in the folder.
    #[arg(long, hide = true)]
    fill: Option<What>,
    /// Internal: open this, in the folder.
    #[arg(long, hide = true)]
    open: Option<What>,
}

#[derive(clap::ValueEnum, Clone, Copy, PartialEq)]
enum What {
    /// The engine with the rows of `index` and `log`.
    Engine,
    /// And with those of `ids`.
    EngineIds,
    Store,
}

#[derive(Serialize, Deserialize)]
struct Filled {
    /// For each tenth of the aspects.
    seconds: [f64; 10],
    peak_memory: u64,
    written: u64,
}

#[derive(Serialize, Deserialize)]
struct Opened {
    seconds: f64,
    memory: u64,
    count: u64,
}

pub async fn run(args: Args) -> anyhow::Result<()> {
    match (args.fill, args.open) {
        (Some(what), _) => return fill(&args, what),
        (_, Some(what)) => return open(&args, what).await,
        _ => {}
    }
    anyhow::ensure!(args.aspects >= 10, "at least 10 aspects");
    println!(
        "| {} aspects of {} bytes, batches of {}, threads: {} | aspects/s | of the engine | MB/s of data | written over encodings | disk over encodings | disk over data | peak MB | open after close, s | open after kill -9, s | MB idle |",
        args.aspects, args.size, args.batch, args.threads
    );
    println!("|---|---|---|---|---|---|---|---|---|---|---|");
    let data = args.aspects as f64 * args.size as f64;
    let encodings = args.aspects as f64 * data::aspect(0, args.size)?.encoding().len() as f64;
    let (mut engine, mut tenths) = (None, Vec::new());
    let each = [
        (What::Engine, "engine", "engine"),
        (What::EngineIds, "engine-ids", "engine, with ids"),
        (What::Store, "store", "store"),
    ];
    for (what, option, name) in (0..args.runs).flat_map(|_| each) {
        let folder = nodes::folder(args.folder.as_ref())?;
        let home = folder.path().join("home");
        let start = |phase| {
            Process::start(
                "store",
                &[
                    (phase, &option),
                    ("--folder", &home.display()),
                    ("--aspects", &args.aspects),
                    ("--size", &args.size),
                    ("--batch", &args.batch),
                    ("--threads", &args.threads),
                ],
            )
        };
        let mut filling = start("--fill")?;
        let filled: Filled = filling.read().await?;
        filling.kill().await?;
        let mut opened = Vec::new();
        let mut written = filled.written;
        for _ in ["after it was killed", "after it was closed"] {
            let mut process = start("--open")?;
            let now: Opened = process.read().await?;
            anyhow::ensure!(now.count == args.aspects, "{} are there", now.count);
            process.write("close").await?;
            let closing: u64 = process.read().await?;
            process.end().await?;
            if opened.is_empty() {
                written += closing;
            }
            opened.push(now);
        }
        let disk = machine::on_disk(&home)? as f64;
        let rate = args.aspects as f64 / filled.seconds.iter().sum::<f64>();
        if what == What::Engine {
            engine = Some(rate);
        }
        println!(
            "| {name} | {rate:.0} | {:.2} | {:.0} | {:.2} | {:.3} | {:.3} | {:.0} | {:.3} | {:.3} | {:.0} |",
            rate / engine.unwrap_or(rate),
            rate * args.size as f64 / 1e6,
            written as f64 / encodings,
            disk / encodings,
            disk / data,
            filled.peak_memory as f64 / 1e6,
            opened[1].seconds,
            opened[0].seconds,
            opened[1].memory as f64 / 1e6,
        );
        tenths.push((name, filled.seconds));
    }
    println!("\n| aspects/s, by tenths | 1 | 2 | 3 | 4 | 5 | 6 | 7 | 8 | 9 | 10 |");
    println!("|---|---|---|---|---|---|---|---|---|---|---|");
    for (name, seconds) in tenths {
        let rates = seconds.map(|s| format!("{:.0}", args.aspects as f64 / 10.0 / s));
        println!("| {name} | {} |", rates.join(" | "));
    }
    Ok(())
}

fn fill(args: &Args, what: What) -> anyhow::Result<()> {
    let target = Target::open(what, args.folder.as_ref().context("a folder")?)?;
    let (threads, batch) = (args.threads.max(1), args.batch.max(1));
    let together = threads * batch;
    let at_once = (MADE_AT_ONCE as u64 / args.size.max(64) as u64).max(4 * together);
    // In small runs less, so that the tenths can be told apart.
    let round = (at_once.min(args.aspects / 40) / together).max(1) * together;
    // A round counts for each tenth by what it has of it.
    let mut seconds = [0.0; 10];
    let tenth = args.aspects as f64 / 10.0;
    for first in (0..args.aspects).step_by(round as usize) {
        let last = args.aspects.min(first + round);
        let mut shares: Vec<Vec<_>> = (0..threads).map(|_| Vec::new()).collect();
        for (start, thread) in (first..last).step_by(batch as usize).zip((0..threads).cycle()) {
            let aspects = (start..last.min(start + batch)).map(|n| data::aspect(n, args.size));
            shares[thread as usize].push((start, aspects.collect::<Result<Vec<_>, _>>()?));
        }
        let clock = Instant::now();
        let insert = |share: Vec<(u64, Vec<Aspect>)>| -> anyhow::Result<()> {
            share.into_iter().try_for_each(|(start, aspects)| target.insert(start, aspects))
        };
        thread::scope(|scope| {
            let running: Vec<_> =
                shares.into_iter().map(|share| scope.spawn(|| insert(share))).collect();
            running.into_iter().try_for_each(|t| t.join().expect("no panic"))
        })?;
        let each = clock.elapsed().as_secs_f64() / (last - first) as f64;
        for (at, seconds) in seconds.iter_mut().enumerate() {
            let (from, to) = (at as f64 * tenth, (at + 1) as f64 * tenth);
            *seconds += (to.min(last as f64) - from.max(first as f64)).max(0.0) * each;
        }
    }
    say(Filled {
        seconds,
        peak_memory: machine::peak_memory().context("VmHWM")?,
        written: machine::written().context("write_bytes")?,
    })?;
    // To be killed.
    loop {
        thread::park();
    }
}

async fn open(args: &Args, what: What) -> anyhow::Result<()> {
    let start = Instant::now();
    let target = Target::open(what, args.folder.as_ref().context("a folder")?)?;
    let seconds = start.elapsed().as_secs_f64();
    // What the engine still has to do in the background is not idle.
    tokio::time::sleep(Duration::from_secs(1)).await;
    let memory = machine::memory().context("VmRSS")?;
    say(Opened { seconds, memory, count: target.count()? })?;
    process::lines().next_line().await?;
    drop(target);
    say(machine::written().context("write_bytes")?)
}

enum Target {
    Engine(Engine),
    Store(Space),
}

/// The keyspaces of the engine, set up as the store does it.
struct Engine {
    index: Keyspace,
    ids: Option<Keyspace>,
    log: Keyspace,
    db: Database,
}

impl Target {
    fn open(what: What, folder: &Path) -> anyhow::Result<Self> {
        if what != What::Store {
            return Ok(Self::Engine(Engine::open(what, folder)?));
        }
        let store = Store::open(folder, Options::default())?;
        Ok(Self::Store(nodes::space(&store)?))
    }

    /// Durable when it returns. The first aspect has the number `first`.
    fn insert(&self, first: u64, aspects: Vec<Aspect>) -> anyhow::Result<()> {
        match self {
            Self::Engine(engine) => engine.insert(first, aspects),
            Self::Store(space) => {
                let new = space.insert(aspects)?;
                anyhow::ensure!(new.into_iter().all(|new| new), "one was there");
                Ok(())
            }
        }
    }

    fn count(&self) -> anyhow::Result<u64> {
        match self {
            Self::Engine(engine) => {
                let last = engine.log.last_key_value().context("rows")?.key()?;
                Ok(u64::from_be_bytes(last[4..].try_into()?))
            }
            Self::Store(space) => Ok(space.stats().count),
        }
    }
}

impl Engine {
    fn open(what: What, folder: &Path) -> anyhow::Result<Self> {
        let plain = || CompressionPolicy::all(CompressionType::None);
        let db = Database::builder(folder)
            .cache_size(Options::default().cache)
            .max_journaling_size(64 << 20)
            .journal_compression(CompressionType::None)
            .open()?;
        let index = db.keyspace("index", || {
            let bloom = FilterPolicyEntry::Bloom(BloomConstructionPolicy::BitsPerKey(10.0));
            KeyspaceCreateOptions::default()
                .max_memtable_size(8 << 20)
                .filter_policy(FilterPolicy::all(bloom))
                .data_block_compression_policy(plain())
        })?;
        let ids = || {
            KeyspaceCreateOptions::default()
                .filter_policy(FilterPolicy::disabled())
                .data_block_compression_policy(plain())
        };
        let ids = match what {
            What::EngineIds => Some(db.keyspace("ids", ids)?),
            _ => None,
        };
        let log = db.keyspace("log", || {
            KeyspaceCreateOptions::default()
                .max_memtable_size(16 << 20)
                .expect_point_read_hits(true)
                .with_kv_separation(Some(KvSeparationOptions::default()))
        })?;
        Ok(Self { index, ids, log, db })
    }

    fn insert(&self, first: u64, aspects: Vec<Aspect>) -> anyhow::Result<()> {
        let mut batch = OwnedWriteBatch::with_capacity(self.db.clone(), 3 * aspects.len())
            .durability(Some(PersistMode::SyncData));
        for (number, aspect) in (first + 1..).zip(&aspects) {
            let (location, hash) = (aspect.location().0.to_be_bytes(), aspect.hash().0);
            let published = aspect.published().as_micros();
            let space = [0; 4];
            batch.insert(
                &self.log,
                [&space[..], &number.to_be_bytes()].concat(),
                &aspect.encoding()[..],
            );
            batch.insert(
                &self.index,
                [&space[..], &location, &hash].concat(),
                [number.to_be_bytes(), published.to_be_bytes()].concat(),
            );
            if let Some(ids) = &self.ids {
                batch.insert(ids, [&space[..], &hash[..6], &location].concat(), &[][..]);
            }
        }
        Ok(batch.commit()?)
    }
}
