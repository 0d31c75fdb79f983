//! Measures Arcwise: `cargo run --release --manifest-path bench/Cargo.toml -- --help`.

mod cold_sync;
mod machine;

use clap::Parser;

#[derive(Parser)]
#[command(about = "Measures Arcwise; results go to docs/BENCHMARKS.md with machine and command")]
enum Command {
    /// Two processes with durable stores: an empty one joins one that holds everything.
    ColdSync(cold_sync::Args),
}

#[tokio::main(worker_threads = 2)]
async fn main() -> anyhow::Result<()> {
    match Command::parse() {
        Command::ColdSync(args) => cold_sync::run(args).await,
    }
}
