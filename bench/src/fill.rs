//! A newcomer that joins several processes at once, all of which hold the same.

use std::{collections::BTreeSet, path::PathBuf, time::Instant};

use anyhow::Context;
use arcwise::{Config, Direction, Event, Kind, Node, Ticket};
use serde::{Deserialize, Serialize};
use tokio::sync::broadcast::error::RecvError;

use crate::{
    machine,
    nodes::{self, SPACE},
    process::{self, Process, say},
};

#[derive(clap::Args)]
pub struct Args {
    /// How many aspects there are.
    #[arg(long, default_value_t = 100_000)]
    aspects: u64,
    /// Bytes of data in each.
    #[arg(long, default_value_t = 1024)]
    size: usize,
    /// How many hold them; one run for each.
    #[arg(long, value_delimiter = ',', default_value = "1,2,4")]
    holders: Vec<usize>,
    /// Where the stores go; by default the system's folder for temporary files.
    #[arg(long)]
    folder: Option<PathBuf>,
    /// Internal: which of the processes this is.
    #[arg(long, hide = true)]
    role: Option<Role>,
}

#[derive(clap::ValueEnum, Clone, Copy)]
enum Role {
    Holder,
    Newcomer,
}

#[derive(Serialize, Deserialize)]
struct Measured {
    /// From the first call to `join` until everything is durable.
    all: f64,
    /// Until a session with each has completed.
    in_sync: f64,
    /// UDP payload.
    received_bytes: u64,
    /// Aspects that arrived, also those that were held by then.
    received: u64,
    peak_memory: u64,
}

pub async fn run(args: Args) -> anyhow::Result<()> {
    match args.role {
        Some(Role::Holder) => return hold(&args).await,
        Some(Role::Newcomer) => return join(&args).await,
        None => {}
    }
    println!(
        "| holders | {} aspects of {} bytes: s until it holds all | aspects/s | s until in sync with each | MB received | over data | aspects received over needed | peak MB |",
        args.aspects, args.size
    );
    println!("|---|---|---|---|---|---|---|---|");
    let folder = nodes::folder(args.folder.as_ref())?;
    let start = |role: &str, name: &str, holders: usize| {
        Process::start(
            "fill",
            &[
                ("--role", &role),
                ("--aspects", &args.aspects),
                ("--size", &args.size),
                ("--holders", &holders),
                ("--folder", &folder.path().join(name).display()),
            ],
        )
    };
    for &many in &args.holders {
        let mut holders = Vec::new();
        let mut newcomer = start("newcomer", &format!("newcomer-{many}"), many)?;
        for n in 0..many {
            let mut holder = start("holder", &format!("holder-{n}"), many)?;
            let ticket: String = holder.read().await?;
            newcomer.write(&ticket).await?;
            holders.push(holder);
        }
        let measured: Measured = newcomer.read().await?;
        newcomer.end().await?;
        for holder in holders {
            holder.end().await?;
        }
        let data = args.aspects as f64 * args.size as f64;
        println!(
            "| {many} | {:.2} | {:.0} | {:.2} | {:.0} | {:.2} | {:.2} | {:.0} |",
            measured.all,
            args.aspects as f64 / measured.all,
            measured.in_sync,
            measured.received_bytes as f64 / 1e6,
            measured.received_bytes as f64 / data,
            measured.received as f64 / args.aspects as f64,
            measured.peak_memory as f64 / 1e6,
        );
    }
    Ok(())
}

async fn hold(args: &Args) -> anyhow::Result<()> {
    let folder = args.folder.as_ref().context("a folder")?;
    // Those of an earlier run hold everything already.
    let held = if folder.exists() { args.aspects } else { 0 };
    nodes::fill(folder, held..args.aspects, args.size)?;
    let node = Node::open(Config::new(folder).loopback()).await?;
    say(node.ticket(&SPACE).context("a ticket")?.to_string())?;
    process::lines().next_line().await?;
    node.shutdown().await;
    Ok(())
}

async fn join(args: &Args) -> anyhow::Result<()> {
    let node = Node::open(Config::new(args.folder.clone().context("a folder")?).loopback()).await?;
    let (mut events, mut frames) = (node.events(), node.frames());
    let mut lines = process::lines();
    let mut tickets = Vec::new();
    for _ in 0..args.holders[0] {
        tickets.push(lines.next_line().await?.context("a ticket")?.parse::<Ticket>()?);
    }
    let counting = tokio::spawn(async move {
        let mut received = 0;
        loop {
            match frames.recv().await {
                Ok(frame) if frame.direction == Direction::Sent => {}
                Ok(frame) => match frame.kind {
                    Kind::AspectDataResponse | Kind::AspectBroadcast => {
                        received += frame.items as u64
                    }
                    _ => {}
                },
                Err(RecvError::Lagged(missed)) => eprintln!("{missed} frames were missed"),
                Err(RecvError::Closed) => return received,
            }
        }
    });
    machine::reset_peak();
    let start = Instant::now();
    for ticket in &tickets {
        node.join(ticket).await?;
    }
    let space = node.space(&SPACE).context("the space")?;
    let (mut all, mut in_sync) = (None, BTreeSet::new());
    while all.is_none() || in_sync.len() < tickets.len() {
        if let Event::InSync { peer, .. } = nodes::next(&mut events).await? {
            in_sync.insert(peer);
        }
        if all.is_none() && space.status().stats.count == args.aspects {
            all = Some(start.elapsed().as_secs_f64());
        }
    }
    let seconds = start.elapsed().as_secs_f64();
    let received_bytes = node.peers().iter().map(|peer| peer.traffic.total().received).sum();
    let peak_memory = machine::peak_memory().unwrap_or(0);
    node.shutdown().await;
    drop((space, node));
    let received = counting.await?;
    say(Measured {
        all: all.context("everything")?,
        in_sync: seconds,
        received_bytes,
        received,
        peak_memory,
    })
}
