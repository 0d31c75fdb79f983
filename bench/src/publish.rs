//! Two connected processes that hold the same: what one publishes, the other holds durably.
//!
//! Both read one clock, which is the same for all processes of a machine.

use std::{path::PathBuf, time::Duration};

use anyhow::Context;
use arcwise::{Config, Event, Limits, Node, Source, Ticket};
use serde::{Deserialize, Serialize};
use tokio::{sync::watch, time::timeout};

use crate::{
    data::{self, Times},
    machine, nodes,
    process::{self, Process, say},
};

/// Not measured: the first ones find the network's path and everything else cold.
const WARMING: u64 = 100;

#[derive(clap::Args)]
pub struct Args {
    /// How many are published one at a time, each when the other holds the one before.
    #[arg(long, default_value_t = 2000)]
    count: u64,
    /// Bytes of data in each.
    #[arg(long, default_value_t = 1024)]
    size: usize,
    /// How many are published at a time, where it is as many as possible.
    #[arg(long, default_value_t = 100)]
    batch: u64,
    /// How long.
    #[arg(long, default_value_t = 5.0)]
    seconds: f64,
    /// Where the stores go; by default the system's folder for temporary files.
    #[arg(long)]
    folder: Option<PathBuf>,
    /// Internal: which of the two processes this is.
    #[arg(long, hide = true)]
    role: Option<Role>,
    /// Internal: whether the author signs.
    #[arg(long, hide = true)]
    signed: Option<bool>,
}

#[derive(clap::ValueEnum, Clone, Copy)]
enum Role {
    Author,
    Other,
}

/// What the author has published in a row.
#[derive(Serialize, Deserialize)]
struct Published {
    count: u64,
    started: f64,
    /// When the last one was durable at the author.
    ended: f64,
}

/// What has arrived at the other and is durable there.
#[derive(Clone, Copy, Default, Serialize, Deserialize)]
struct Held {
    count: u64,
    by_gossip: u64,
    /// When the last one was.
    at: f64,
}

pub async fn run(args: Args) -> anyhow::Result<()> {
    match args.role {
        Some(Role::Author) => return author(&args).await,
        Some(Role::Other) => return other(&args).await,
        None => {}
    }
    let mut rows = Vec::new();
    println!(
        "| {} one at a time | durable at the author, ms: p50 | p99 | max | at the other, ms: p50 | p99 | max | not pushed |",
        args.count
    );
    println!("|---|---|---|---|---|---|---|---|");
    for (signed, name) in [(false, "unsigned"), (true, "signed")] {
        let folder = nodes::folder(args.folder.as_ref())?;
        let start = |role: &str| {
            Process::start(
                "publish",
                &[
                    ("--role", &role),
                    ("--signed", &signed),
                    ("--count", &args.count),
                    ("--size", &args.size),
                    ("--batch", &args.batch),
                    ("--seconds", &args.seconds),
                    ("--folder", &folder.path().join(role).display()),
                ],
            )
        };
        let mut author = start("author")?;
        let ticket: String = author.read().await?;
        let mut other = start("other")?;
        other.write(&ticket).await?;
        let _: Held = other.read().await?;
        let mut one_by_one = Vec::new();
        for _ in 0..WARMING + args.count {
            author.write("one").await?;
            one_by_one.push(other.read::<Held>().await?);
        }
        author.write("times").await?;
        let times: Vec<Published> = author.read().await?;
        let measured = || times.iter().zip(&one_by_one).skip(WARMING as usize);
        let here: Times =
            measured().map(|(published, _)| published.ended - published.started).collect();
        let there: Times =
            measured().map(|(published, held)| held.at - published.started).collect();
        let before = one_by_one.last().copied().unwrap_or_default();
        println!(
            "| {name} | {} | {} | {} |",
            here.cells(1e-3, 2),
            there.cells(1e-3, 2),
            before.by_gossip
        );

        author.write("many").await?;
        let many: Published = author.read().await?;
        other.write(&(before.count + many.count).to_string()).await?;
        let held: Held = other.read().await?;
        author.end().await?;
        other.end().await?;
        rows.push(format!(
            "| {name} | {:.0} | {:.0} | {:.0} | {:.1} % |",
            many.count as f64 / (many.ended - many.started),
            many.count as f64 / (held.at - many.started),
            (held.at - many.ended) * 1e3,
            (held.by_gossip - before.by_gossip) as f64 / many.count as f64 * 100.0,
        ));
    }
    println!(
        "\n| batches of {} for {} s | durable at the author, aspects/s | at the other, aspects/s | the other holds all, ms after the author | not pushed |",
        args.batch, args.seconds
    );
    println!("|---|---|---|---|---|");
    rows.iter().for_each(|row| println!("{row}"));
    Ok(())
}

async fn open(args: &Args) -> anyhow::Result<Node> {
    let folder = args.folder.clone().context("a folder")?;
    Ok(Node::open(Config::new(folder).loopback()).await?)
}

/// Publishes as it is told to.
async fn author(args: &Args) -> anyhow::Result<()> {
    let node = open(args).await?;
    let space = node.create_space("bench", Limits::default()).await?;
    say(node.ticket(&space.id()).context("a ticket")?.to_string())?;
    let mut number = 0;
    let mut publish = async |count: u64| {
        let first = number;
        number += count;
        let signed = args.signed == Some(true);
        let new = (first..number).map(|n| data::new_aspect(n, args.size, signed)).collect();
        let started = machine::clock();
        space.publish(new).await?;
        anyhow::Ok(Published { count, started, ended: machine::clock() })
    };
    let mut times = Vec::new();
    let mut lines = process::lines();
    while let Some(line) = lines.next_line().await? {
        match &line[..] {
            "one" => times.push(publish(1).await?),
            "times" => say(&times)?,
            _ => {
                let mut many = publish(args.batch).await?;
                while many.ended - many.started < args.seconds {
                    let next = publish(args.batch).await?;
                    (many.count, many.ended) = (many.count + next.count, next.ended);
                }
                say(many)?;
            }
        }
    }
    node.shutdown().await;
    Ok(())
}

/// Joins, and says what is held: each of those that come one by one, then when it holds so many.
async fn other(args: &Args) -> anyhow::Result<()> {
    let node = open(args).await?;
    let mut events = node.events();
    let mut lines = process::lines();
    let ticket: Ticket = lines.next_line().await?.context("a ticket")?.parse()?;
    node.join(&ticket).await?;
    nodes::in_sync(&mut events).await?;
    let (sender, mut held) = watch::channel(Held::default());
    tokio::spawn(async move {
        while let Ok(event) = nodes::next(&mut events).await {
            if let Event::Stored { keys, source, .. } = event {
                let at = machine::clock();
                let count = keys.len() as u64;
                let by_gossip = if matches!(source, Source::Gossip(_)) { count } else { 0 };
                sender.send_modify(|held| {
                    held.count += count;
                    held.by_gossip += by_gossip;
                    held.at = at;
                });
            }
        }
    });
    say(*held.borrow())?;
    let mut wait = async |count: u64| {
        let all = timeout(Duration::from_secs(120), held.wait_for(|held| held.count >= count));
        say(*all.await.context("not everything arrives")??)
    };
    for count in 1..=WARMING + args.count {
        wait(count).await?;
    }
    wait(lines.next_line().await?.context("a number")?.parse()?).await?;
    lines.next_line().await?;
    node.shutdown().await;
    Ok(())
}
