//! Two processes with durable stores that hold nearly the same, over QUIC.

use std::{ops::Range, path::PathBuf, time::Instant};

use anyhow::Context;
use arcwise::{Config, Method, Node, Ticket};
use serde::{Deserialize, Serialize};

use crate::{
    machine,
    nodes::{self, SPACE},
    process::{self, Process, say},
};

#[derive(clap::Args)]
pub struct Args {
    /// How many aspects both hold.
    #[arg(long, default_value_t = 1_000_000)]
    aspects: u64,
    /// How many differ, half of them on either side; one run for each.
    #[arg(long, value_delimiter = ',', default_value = "0,10,1000,100000")]
    differing: Vec<u64>,
    /// Bytes of data in each.
    #[arg(long, default_value_t = 64)]
    size: usize,
    /// Where the stores go; by default the system's folder for temporary files.
    #[arg(long)]
    folder: Option<PathBuf>,
    /// Internal: store these aspects (numbers from the first to before the second) before running,
    /// and dial where a ticket comes.
    #[arg(long, hide = true)]
    hold: Vec<u64>,
}

#[derive(Serialize, Deserialize)]
struct Ready {
    ticket: String,
    open_seconds: f64,
    memory: u64,
}

/// What the process that dials measured.
#[derive(Serialize, Deserialize)]
struct Measured {
    /// From the call to `join` to the event `InSync`: everything durable on both sides.
    seconds: f64,
    method: String,
    round_trips: u32,
    /// Of the comparison, both ways.
    compared_bytes: u64,
    bound: f64,
    computing_ms: f64,
    /// UDP payload both ways, the handshake of the connection included.
    udp_bytes: u64,
    /// Encodings of aspects that went over, both ways.
    aspect_bytes: u64,
    stored: u64,
}

pub async fn run(args: Args) -> anyhow::Result<()> {
    if !args.hold.is_empty() {
        return side(&args).await;
    }
    println!(
        "| both hold | differ | dial to in sync, ms | method | round trips | comparison, bytes | a difference | bound | computing at the dialling side, ms | UDP bytes beyond the aspects | open, s | MB resident |"
    );
    println!("|---|---|---|---|---|---|---|---|---|---|---|---|");
    let folder = nodes::folder(args.folder.as_ref())?;
    let (mut both, mut next) = (args.aspects, args.aspects);
    nodes::fill(&folder.path().join("left"), 0..args.aspects, args.size)?;
    nodes::fill(&folder.path().join("right"), 0..args.aspects, args.size)?;
    for &d in &args.differing {
        let middle = next + d.div_ceil(2);
        let start = |name: &str, new: Range<u64>| {
            let home = folder.path().join(name);
            Process::start(
                "difference",
                &[
                    ("--folder", &home.display()),
                    ("--size", &args.size),
                    ("--hold", &new.start),
                    ("--hold", &new.end),
                ],
            )
        };
        let mut left = start("left", next..middle)?;
        let ready: Ready = left.read().await?;
        let mut right = start("right", middle..next + d)?;
        let _: Ready = right.read().await?;
        right.write(&ready.ticket).await?;
        let measured: Measured = right.read().await?;
        left.end().await?;
        right.end().await?;
        (both, next) = (both + d, next + d);
        anyhow::ensure!(measured.stored == both, "{} of {both} are held", measured.stored);
        println!(
            "| {} | {d} | {:.1} | {} | {} | {} | {:.1} | {:.0} | {:.1} | {} | {:.2} | {:.0} |",
            both - d,
            measured.seconds * 1e3,
            measured.method,
            measured.round_trips,
            measured.compared_bytes,
            measured.compared_bytes as f64 / d.max(1) as f64,
            measured.bound,
            measured.computing_ms,
            measured.udp_bytes.saturating_sub(measured.aspect_bytes),
            ready.open_seconds,
            ready.memory as f64 / 1e6,
        );
    }
    Ok(())
}

async fn side(args: &Args) -> anyhow::Result<()> {
    let folder = args.folder.clone().context("a folder")?;
    let [first, last] = args.hold[..] else { anyhow::bail!("two numbers") };
    nodes::fill(&folder, first..last, args.size)?;
    let start = Instant::now();
    let node = Node::open(Config::new(folder).loopback()).await?;
    let open_seconds = start.elapsed().as_secs_f64();
    let ticket = node.ticket(&SPACE).context("a ticket")?.to_string();
    say(Ready { ticket, open_seconds, memory: machine::memory().unwrap_or(0) })?;

    let mut events = node.events();
    let mut lines = process::lines();
    if let Some(line) = lines.next_line().await? {
        let ticket: Ticket = line.parse()?;
        let start = Instant::now();
        node.join(&ticket).await?;
        let report = nodes::in_sync(&mut events).await?;
        let seconds = start.elapsed().as_secs_f64();
        let status = node.status();
        let comparison = report.comparison.context("the sets are large")?;
        say(Measured {
            seconds,
            method: match comparison.method {
                Method::Same => "same",
                Method::Stream => "stream",
                Method::Opening => "opening sketch",
                Method::Sketches => "sketches",
                Method::Lists => "lists",
            }
            .to_owned(),
            round_trips: comparison.turns,
            compared_bytes: comparison.sent + comparison.received,
            bound: comparison.bound(),
            computing_ms: report.computing.as_secs_f64() * 1e3,
            udp_bytes: status.peers.iter().map(|p| p.traffic.total().both()).sum(),
            aspect_bytes: report.fetched_bytes + report.sent_bytes,
            stored: status.spaces.first().context("a space")?.stats.count,
        })?;
        lines.next_line().await?;
    }
    node.shutdown().await;
    Ok(())
}
