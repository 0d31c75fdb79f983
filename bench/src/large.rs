//! Large aspects from one process to another, beside a bare stream of iroh with as many bytes.

use std::{net::SocketAddr, path::PathBuf, time::Instant};

use anyhow::Context;
use iroh::{
    Endpoint, EndpointAddr, RelayMode,
    endpoint::{Connection, VarInt, presets},
};
use serde::{Deserialize, Serialize};

use crate::{
    cold_sync, data,
    process::{self, Process, say},
};

const ALPN: &[u8] = b"arcwise-bench/1";

#[derive(clap::Args)]
pub struct Args {
    /// How many aspects.
    #[arg(long, default_value_t = 512)]
    aspects: u64,
    /// Bytes of data in each.
    #[arg(long, default_value_t = 1 << 20)]
    size: usize,
    /// How often; the table shows every run.
    #[arg(long, default_value_t = 3)]
    runs: usize,
    /// Where the stores go; by default the system's folder for temporary files.
    #[arg(long)]
    folder: Option<PathBuf>,
    /// Internal: which of the processes with the bare stream this is.
    #[arg(long, hide = true)]
    role: Option<Role>,
}

#[derive(clap::ValueEnum, Clone, Copy)]
enum Role {
    Sender,
    Receiver,
}

#[derive(Serialize, Deserialize)]
struct Received {
    /// From the call to `connect` until the last byte.
    seconds: f64,
    bytes: u64,
}

pub async fn run(args: Args) -> anyhow::Result<()> {
    match args.role {
        Some(Role::Sender) => return send(&args).await,
        Some(Role::Receiver) => return receive().await,
        None => {}
    }
    println!(
        "| {} aspects of {} bytes: s | MiB/s | bare stream: s | MiB/s | ratio | insert at the source, MiB/s |",
        args.aspects, args.size
    );
    println!("|---|---|---|---|---|---|");
    let mib = args.aspects as f64 * args.size as f64 / f64::from(1 << 20);
    for _ in 0..args.runs {
        let synced = cold_sync::once(args.aspects, args.size, args.folder.as_ref()).await?;
        let (synced, inserting) = (synced.there.seconds, synced.ready.insert_seconds);
        let start = |role: &str| {
            Process::start(
                "large",
                &[("--role", &role), ("--aspects", &args.aspects), ("--size", &args.size)],
            )
        };
        let mut sender = start("sender")?;
        let address: EndpointAddr = sender.read().await?;
        let mut receiver = start("receiver")?;
        receiver.write(&serde_json::to_string(&address)?).await?;
        let bare: Received = receiver.read().await?;
        receiver.end().await?;
        sender.end().await?;
        anyhow::ensure!(bare.bytes == args.aspects * args.size as u64, "{} bytes", bare.bytes);
        println!(
            "| {synced:.2} | {:.0} | {:.2} | {:.0} | {:.2} | {:.0} |",
            mib / synced,
            bare.seconds,
            mib / bare.seconds,
            bare.seconds / synced,
            mib / inserting,
        );
    }
    Ok(())
}

/// An endpoint on this machine only, set up as a node's.
async fn endpoint() -> anyhow::Result<Endpoint> {
    Ok(Endpoint::builder(presets::Minimal)
        .alpns(vec![ALPN.to_vec()])
        .relay_mode(RelayMode::Disabled)
        .clear_address_lookup()
        .clear_ip_transports()
        .bind_addr(SocketAddr::from(([127, 0, 0, 1], 0)))?
        .bind()
        .await?)
}

async fn send(args: &Args) -> anyhow::Result<()> {
    let endpoint = endpoint().await?;
    let [address] = endpoint.bound_sockets()[..] else { anyhow::bail!("one address") };
    say(EndpointAddr::new(endpoint.id()).with_ip_addr(address))?;
    let data = data::new_aspect(0, args.size, false).data;
    let conn: Connection = endpoint.accept().await.context("a connection")?.await?;
    let mut stream = conn.open_uni().await?;
    for _ in 0..args.aspects {
        stream.write_chunk(data.clone()).await?;
    }
    stream.finish()?;
    conn.closed().await;
    endpoint.close().await;
    Ok(())
}

async fn receive() -> anyhow::Result<()> {
    let endpoint = endpoint().await?;
    let mut lines = process::lines();
    let address = lines.next_line().await?.context("an address")?;
    let address: EndpointAddr = serde_json::from_str(&address)?;
    let start = Instant::now();
    let conn = endpoint.connect(address, ALPN).await?;
    let mut stream = conn.accept_uni().await?;
    let mut bytes = 0;
    while let Some(chunk) = stream.read_chunk(1 << 20).await? {
        bytes += chunk.len() as u64;
    }
    say(Received { seconds: start.elapsed().as_secs_f64(), bytes })?;
    conn.close(VarInt::from_u32(0), b"");
    endpoint.close().await;
    Ok(())
}
