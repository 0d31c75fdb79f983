//! Measures Arcwise: `cargo run --release --manifest-path bench/Cargo.toml -- --help`.

mod cold_sync;
mod data;
mod difference;
mod fill;
mod get;
mod idle;
mod large;
mod machine;
mod network;
mod nodes;
mod process;
mod publish;
mod reconcile;
mod store;

use clap::Parser;

#[derive(Parser)]
#[command(about = "Measures Arcwise; results go to docs/BENCHMARKS.md with machine and command")]
enum Command {
    /// Two processes with durable stores: an empty one joins one that holds everything.
    ColdSync(cold_sync::Args),
    /// Two processes with durable stores that hold nearly the same.
    Difference(difference::Args),
    /// One process inserts, beside the bare engine with the same rows; then the store is opened again.
    Store(store::Args),
    /// Two connected processes: what one publishes, the other holds.
    Publish(publish::Args),
    /// Reading one aspect, from the own store and from a connected peer.
    Get(get::Args),
    /// A newcomer and several processes that hold everything.
    Fill(fill::Args),
    /// Two processes and large aspects, beside a bare stream of iroh with the same bytes.
    Large(large::Args),
    /// Two connected nodes that hold the same and have nothing to do.
    Idle(idle::Args),
    /// Many nodes in one process: a network that grows, spreads, loses nodes and is cut in two.
    Network(network::Args),
    /// Two sets in memory, and what it takes to find out how they differ.
    Reconcile(reconcile::Args),
}

#[tokio::main(worker_threads = 2)]
async fn main() -> anyhow::Result<()> {
    match Command::parse() {
        Command::ColdSync(args) => cold_sync::run(args).await,
        Command::Difference(args) => difference::run(args).await,
        Command::Store(args) => store::run(args).await,
        Command::Publish(args) => publish::run(args).await,
        Command::Get(args) => get::run(args).await,
        Command::Fill(args) => fill::run(args).await,
        Command::Large(args) => large::run(args).await,
        Command::Idle(args) => idle::run(args).await,
        Command::Network(args) => tokio::task::block_in_place(|| network::run(&args)),
        Command::Reconcile(args) => reconcile::run(&args),
    }
}
