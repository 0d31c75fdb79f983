//! A cold sync between two processes, each with a durable store.

use std::{path::PathBuf, time::Instant};

use anyhow::Context;
use arcwise::{Config, Limits, Node, Ticket};
use serde::{Deserialize, Serialize};

use crate::{
    data, machine, nodes,
    process::{self, Process, say},
};

#[derive(clap::Args)]
pub struct Args {
    /// How many aspects.
    #[arg(long, default_value_t = 10_000)]
    aspects: u64,
    /// Bytes of data in each.
    #[arg(long, default_value_t = 1024)]
    size: usize,
    /// How often; the table shows every run.
    #[arg(long, default_value_t = 3)]
    runs: usize,
    /// Where the stores go; by default the system's folder for temporary files.
    #[arg(long)]
    folder: Option<PathBuf>,
    /// Internal: which of the two processes this is.
    #[arg(long, hide = true)]
    role: Option<Role>,
}

#[derive(clap::ValueEnum, Clone, Copy, Debug)]
enum Role {
    Full,
    Empty,
}

#[derive(Serialize, Deserialize)]
pub struct Ready {
    ticket: String,
    pub insert_seconds: f64,
}

/// What one of the two processes measured.
#[derive(Serialize, Deserialize)]
pub struct Measured {
    /// From the call to `join` to the event `InSync`, everything durable.
    pub seconds: f64,
    sent_bytes: u64,
    received_bytes: u64,
    peak_memory: u64,
    memory_before: u64,
    cpu_seconds: f64,
    stored: u64,
    stored_bytes: u64,
}

pub async fn run(args: Args) -> anyhow::Result<()> {
    match args.role {
        Some(Role::Full) => full(&args).await,
        Some(Role::Empty) => empty(&args).await,
        None => compare(&args).await,
    }
}

async fn compare(args: &Args) -> anyhow::Result<()> {
    println!(
        "| aspects | bytes each | wall s | aspects/s | MB/s | wire/data | full: MB before, peak; CPU s | empty: MB before, peak; CPU s | insert at the source, aspects/s |"
    );
    println!("|---|---|---|---|---|---|---|---|---|");
    for _ in 0..args.runs {
        let Run { ready, here, there } =
            once(args.aspects, args.size, args.folder.as_ref()).await?;
        let data = (args.aspects * args.size as u64) as f64;
        println!(
            "| {} | {} | {:.2} | {:.0} | {:.0} | {:.3} | {:.0}, {:.0}; {:.1} | {:.0}, {:.0}; {:.1} | {:.0} |",
            args.aspects,
            args.size,
            there.seconds,
            args.aspects as f64 / there.seconds,
            data / 1e6 / there.seconds,
            (there.received_bytes + there.sent_bytes) as f64 / data,
            here.memory_before as f64 / 1e6,
            here.peak_memory as f64 / 1e6,
            here.cpu_seconds,
            there.memory_before as f64 / 1e6,
            there.peak_memory as f64 / 1e6,
            there.cpu_seconds,
            args.aspects as f64 / ready.insert_seconds,
        );
    }
    Ok(())
}

/// What both processes say.
pub struct Run {
    pub ready: Ready,
    here: Measured,
    pub there: Measured,
}

/// One sync, in two processes.
pub async fn once(aspects: u64, size: usize, parent: Option<&PathBuf>) -> anyhow::Result<Run> {
    let folder = nodes::folder(parent)?;
    let start = |role: &str| {
        let home = folder.path().join(role);
        Process::start(
            "cold-sync",
            &[
                ("--role", &role),
                ("--aspects", &aspects),
                ("--size", &size),
                ("--folder", &home.display()),
            ],
        )
    };
    let mut full = start("full")?;
    let ready: Ready = full.read().await?;
    let mut empty = start("empty")?;
    empty.write(&ready.ticket).await?;
    let there: Measured = empty.read().await?;
    full.write("report").await?;
    let here: Measured = full.read().await?;
    full.end().await?;
    empty.end().await?;
    anyhow::ensure!(there.stored == aspects, "{} aspects arrived", there.stored);
    Ok(Run { ready, here, there })
}

async fn open(args: &Args) -> anyhow::Result<Node> {
    let folder = args.folder.clone().context("a folder")?;
    Ok(Node::open(Config::new(folder).loopback()).await?)
}

/// Holds everything, and waits until it is asked what it cost.
async fn full(args: &Args) -> anyhow::Result<()> {
    let node = open(args).await?;
    let space = node.create_space("bench", Limits::default()).await?;
    let start = Instant::now();
    // About a megabyte at a time, where a thousand are more.
    let step = (1_000_000 / args.size.max(1)).clamp(1, 1000);
    for first in (0..args.aspects).step_by(step) {
        let batch = first..args.aspects.min(first + step as u64);
        space.publish(batch.map(|n| data::new_aspect(n, args.size, false)).collect()).await?;
    }
    let insert_seconds = start.elapsed().as_secs_f64();
    let ticket = node.ticket(&space.id()).context("a ticket")?.to_string();
    machine::reset_peak();
    let (before, cpu) = (machine::memory().unwrap_or(0), machine::cpu_seconds().unwrap_or(0.0));
    say(Ready { ticket, insert_seconds })?;
    let mut lines = process::lines();
    lines.next_line().await?;
    report(&node, Instant::now(), before, cpu)?;
    lines.next_line().await?;
    node.shutdown().await;
    Ok(())
}

/// Joins, and measures until it holds everything.
async fn empty(args: &Args) -> anyhow::Result<()> {
    let node = open(args).await?;
    let mut events = node.events();
    let mut lines = process::lines();
    let ticket: Ticket = lines.next_line().await?.context("a ticket")?.parse()?;
    let (before, cpu) = (machine::memory().unwrap_or(0), machine::cpu_seconds().unwrap_or(0.0));
    let start = Instant::now();
    node.join(&ticket).await?;
    nodes::in_sync(&mut events).await?;
    report(&node, start, before, cpu)?;
    lines.next_line().await?;
    node.shutdown().await;
    Ok(())
}

fn report(node: &Node, start: Instant, memory_before: u64, cpu: f64) -> anyhow::Result<()> {
    let seconds = start.elapsed().as_secs_f64();
    let status = node.status();
    let space = status.spaces.first().context("a space")?;
    say(Measured {
        seconds,
        sent_bytes: status.peers.iter().map(|peer| peer.traffic.total().sent).sum(),
        received_bytes: status.peers.iter().map(|peer| peer.traffic.total().received).sum(),
        peak_memory: machine::peak_memory().unwrap_or(0),
        memory_before,
        cpu_seconds: machine::cpu_seconds().unwrap_or(0.0) - cpu,
        stored: space.stats.count,
        stored_bytes: space.stats.bytes,
    })
}
