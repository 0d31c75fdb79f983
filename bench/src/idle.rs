//! Two connected nodes that hold the same and have nothing to do: what moves all the same, and why.

use std::{collections::BTreeMap, net::SocketAddr, time::Duration};

use anyhow::{Context, ensure};
use arcwise::{Config, Limits, Moved, Node, PeerStatus};
use tokio::{sync::broadcast::error::TryRecvError, time::Instant};

use crate::{data, nodes};

#[derive(clap::Args)]
pub struct Args {
    /// How long to measure.
    #[arg(long, default_value_t = 600)]
    seconds: u64,
    /// How long to wait before, from the moment in which both hold the same: nodes ask each other ever more
    /// rarely, and after ten minutes as rarely as they ever do.
    #[arg(long, default_value_t = 600)]
    settle: u64,
    /// Aspects that both hold.
    #[arg(long, default_value_t = 1000)]
    aspects: u64,
    /// Where both listen: may be given again, as with `arcwise serve`.
    #[arg(long, default_values = ["127.0.0.1:0"])]
    listen: Vec<SocketAddr>,
}

pub async fn run(args: Args) -> anyhow::Result<()> {
    let (one, two) = (nodes::folder(None)?, nodes::folder(None)?);
    let config = |folder: &tempfile::TempDir| {
        let mut config = Config::new(folder.path());
        config.listen = args.listen.clone();
        config
    };
    let first = Node::open(config(&one)).await?;
    let second = Node::open(config(&two)).await?;
    let space = first.create_space("bench", Limits::default()).await?;
    let new = (0..args.aspects).map(|n| data::new_aspect(n, 64, false));
    space.publish(new.collect()).await?;
    let mut events = second.events();
    second.join(&first.ticket(&space.id()).context("a ticket")?).await?;
    nodes::in_sync(&mut events).await?;
    tokio::time::sleep(Duration::from_secs(args.settle)).await;

    let mut frames = first.frames();
    let (before, started) = (only_peer(&first)?, Instant::now());
    let mut kinds: BTreeMap<_, (u64, u64)> = BTreeMap::new();
    let end = started + Duration::from_secs(args.seconds);
    while Instant::now() < end {
        tokio::time::sleep_until(end.min(Instant::now() + Duration::from_secs(10))).await;
        loop {
            match frames.try_recv() {
                Ok(frame) => {
                    let kind = kinds.entry(frame.kind.to_string()).or_default();
                    *kind = (kind.0 + 1, kind.1 + frame.bytes as u64);
                }
                Err(TryRecvError::Empty) => break,
                Err(error) => return Err(error.into()),
            }
        }
    }
    let (after, took) = (only_peer(&first)?, started.elapsed().as_secs_f64());
    ensure!(after.connected_for.as_secs_f64() > took, "the connection was lost meanwhile");
    let a_day = |amount: u64| (amount as f64 * 86_400.0 / took).round() as u64;

    println!(
        "round trip {:.1} ms; measured for {took:.0} s; bytes a day, both ways together:",
        after.round_trip.unwrap_or_default().as_secs_f64() * 1e3
    );
    println!("\n| what for | bytes a day |\n|---|---|");
    let both = |peer: &PeerStatus| peer.traffic.causes().map(|(name, moved)| (name, moved.both()));
    for ((name, after), (_, before)) in both(&after).into_iter().zip(both(&before)) {
        println!("| {name} | {} |", a_day(after - before));
    }
    let bytes = after.traffic.total().both() - before.traffic.total().both();
    let moved = |moved: Moved| moved.both();
    let datagrams = moved(after.datagrams) - moved(before.datagrams);
    println!("| in all: payload of UDP | {} |", a_day(bytes));
    println!("| {} datagrams a day | {} each |", a_day(datagrams), bytes / datagrams.max(1));
    println!("| with headers of IPv4 and UDP | {} |", a_day(bytes + 28 * datagrams));
    println!("| with headers of IPv6 and UDP | {} |", a_day(bytes + 48 * datagrams));
    println!("\n| message | in {took:.0} s | bytes |\n|---|---|---|");
    for (kind, (count, bytes)) in kinds {
        println!("| {kind} | {count} | {bytes} |");
    }
    first.shutdown().await;
    second.shutdown().await;
    Ok(())
}

fn only_peer(node: &Node) -> anyhow::Result<PeerStatus> {
    let peers = node.peers();
    ensure!(peers.len() == 1, "there are {} connections", peers.len());
    peers.into_iter().next().context("a peer")
}
