//! The commands, one file for those that belong together.

mod archive;
mod doctor;
mod files;
mod join;
mod node;
mod peers;
mod plan;
mod replay;
mod serve;
pub(crate) mod simulate;
mod space;
mod status;
mod store;
mod why;

use std::path::Path;

use crate::{
    api::Client,
    args::{Command, InSpace, StoreCommand},
    demo,
    exit::Exit,
    output::Output,
};

/// What every command that talks to the daemon needs.
pub(crate) struct Context<'a> {
    data: &'a Path,
    client: Client,
    output: Output,
}

/// Runs a command to its end.
pub(crate) async fn run(command: Command, data: &Path, output: Output) -> anyhow::Result<Exit> {
    let context = Context { data, client: Client::new(data), output };
    match command {
        Command::Init => node::init(&context).await,
        Command::Serve(args) => serve::serve(args, data, output).await,
        Command::Stop => node::stop(&context).await,
        Command::Status => status::status(&context).await,
        Command::Bandwidth { up, down } => node::bandwidth(up, down, &context).await,
        Command::Watch(space) => status::watch(space, &context).await,
        Command::Why(args) => why::why(args, context).await,
        Command::Doctor(args) => doctor::doctor(args, &context).await,
        Command::Space(command) => space::space(command, &context).await,
        Command::Ticket(space) => space::ticket(space, &context).await,
        Command::Join(args) => join::join(args, &context).await,
        Command::Put(args) => files::put(args, context).await,
        Command::Get(args) => files::get(args, context).await,
        Command::Cat { what, space } => files::cat(what, space, context).await,
        Command::Ls { what, space } => files::ls(what, space, context).await,
        Command::Sync(args) => peers::sync(args, &context).await,
        Command::Export(args) => archive::export(args, &context).await,
        Command::Import(args) => archive::import(args, &context).await,
        Command::Store(StoreCommand::Check { repair }) => store::check(repair, &context).await,
        Command::Store(StoreCommand::Stats) => store::stats(&context).await,
        Command::Store(StoreCommand::Compact) => store::compact(&context).await,
        Command::Peers { command: Some(command), .. } => peers::block(command, &context).await,
        Command::Peers { ping, command: None } => peers::peers(ping, &context).await,
        Command::Replay(args) => replay::replay(args, output).await,
        Command::Demo(args) => match demo::run(args, output).await? {
            true => Ok(Exit::Done),
            false => Ok(Exit::Failed),
        },
        Command::Plan(args) => plan::plan(args, output).await,
        Command::Simulate(args) => simulate::simulate(args, output).await,
    }
}

impl From<InSpace> for crate::api::InSpace {
    fn from(InSpace { space }: InSpace) -> Self {
        Self { space }
    }
}
