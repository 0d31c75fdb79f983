//! Reading one aspect: from the store, through the node, and from a connected peer.
//!
//! The peer is another process, which is in the space and fills no part of the ring.

use std::{path::PathBuf, time::Instant};

use anyhow::Context;
use arcwise::{ArcSet, AspectKey, Config, EntryAddress, Event, Node, Ticket};
use arcwise_store::{Limits, Options, Store};

use crate::{
    data::{self, Times},
    nodes::{self, SPACE},
    process::{self, Process, say},
};

#[derive(clap::Args)]
pub struct Args {
    /// How many aspects there are.
    #[arg(long, default_value_t = 1_000_000)]
    aspects: u64,
    /// Bytes of data in each.
    #[arg(long, default_value_t = 1024)]
    size: usize,
    /// How many are read, after all of these were read once.
    #[arg(long, default_value_t = 20_000)]
    gets: u64,
    /// Where the stores go; by default the system's folder for temporary files.
    #[arg(long)]
    folder: Option<PathBuf>,
    /// Internal: ask the node of this ticket.
    #[arg(long, hide = true)]
    ask: Option<Ticket>,
}

pub async fn run(args: Args) -> anyhow::Result<()> {
    if let Some(ticket) = &args.ask {
        return ask(&args, ticket).await;
    }
    println!("| one of {} aspects of {} bytes | p50, us | p99 | max |", args.aspects, args.size);
    println!("|---|---|---|---|");
    let print = |name: &str, times: &str| println!("| {name} | {times} |");
    let folder = nodes::folder(args.folder.as_ref())?;
    let home = folder.path().join("full");
    nodes::fill(&home, 0..args.aspects, args.size)?;
    let keys: Vec<AspectKey> = sample(&args)?.into_iter().map(|(key, _)| key).collect();

    let store = Store::open(&home, Options::default())?;
    let space = store.space(&SPACE).context("the space")?;
    let times = twice(&keys, async |key| Ok(space.get(key)?.is_some())).await?;
    print("the store's get", &times);
    drop((space, store));

    let node = Node::open(Config::new(&home).loopback()).await?;
    let space = node.space(&SPACE).context("the space")?;
    let times = twice(&keys, async |key| Ok(space.aspect(*key).await?.is_some())).await?;
    print("the node's get", &times);

    let mut asking = Process::start(
        "get",
        &[
            ("--ask", &node.ticket(&SPACE).context("a ticket")?),
            ("--aspects", &args.aspects),
            ("--size", &args.size),
            ("--gets", &args.gets),
            ("--folder", &folder.path().join("empty").display()),
        ],
    )?;
    let times: String = asking.read().await?;
    print("query of a connected peer", &times);
    asking.end().await?;
    node.shutdown().await;
    Ok(())
}

/// What is read.
fn sample(args: &Args) -> anyhow::Result<Vec<(AspectKey, EntryAddress)>> {
    let of = |n| data::aspect(n, args.size).map(|aspect| (aspect.key(), aspect.entry()));
    data::numbers(args.gets, args.aspects).map(of).collect()
}

/// Reads all twice, and measures the second time.
async fn twice<T>(
    all: &[T],
    mut get: impl AsyncFnMut(&T) -> anyhow::Result<bool>,
) -> anyhow::Result<String> {
    let mut times = Vec::new();
    for _ in 0..2 {
        times.clear();
        for one in all {
            let start = Instant::now();
            let there = get(one).await?;
            times.push(start.elapsed().as_secs_f64());
            anyhow::ensure!(there, "one is not there");
        }
    }
    Ok(Times::from_iter(times).cells(1e-6, 1))
}

async fn ask(args: &Args, ticket: &Ticket) -> anyhow::Result<()> {
    let home = args.folder.as_ref().context("a folder")?;
    let store = Store::open(home, Options::default())?;
    store.create_space(&SPACE, "bench", ArcSet::empty(), ArcSet::empty(), Limits::default())?;
    drop(store);
    let node = Node::open(Config::new(home).loopback()).await?;
    let mut events = node.events();
    let space = node.join(ticket).await?;
    while !matches!(nodes::next(&mut events).await?, Event::SpaceShared { .. }) {}
    let entries: Vec<EntryAddress> = sample(args)?.into_iter().map(|(_, entry)| entry).collect();
    let query = async |entry: &EntryAddress| {
        let found = space.query(ticket.node, *entry).await?;
        Ok(found.len() == 1)
    };
    say(twice(&entries, query).await?)?;
    process::lines().next_line().await?;
    node.shutdown().await;
    Ok(())
}
