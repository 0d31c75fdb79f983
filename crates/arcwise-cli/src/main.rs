//! The `arcwise` program.

mod api;
mod args;
mod commands;
mod demo;
mod exit;
mod files;
mod log;
mod objects;
mod output;
mod signals;

use std::{
    io::{self, Write},
    path::PathBuf,
    process::ExitCode,
    time::Duration,
};

use anyhow::Context;
use clap::Parser;

use crate::{
    args::Args,
    exit::{Exit, Usage},
    output::Output,
};

fn main() -> ExitCode {
    let Args { global, command } = match Args::try_parse() {
        Ok(args) => args,
        Err(error) => {
            let json = std::env::args_os().take_while(|arg| arg != "--").any(|arg| arg == "--json");
            return exit::bad_command_line(&error, json).into();
        }
    };
    log::start(&global);
    let output = Output { json: global.json, quiet: global.quiet };
    let exit = match data_folder(global.data).and_then(|data| {
        let runtime = tokio::runtime::Runtime::new().context("cannot start")?;
        let exit = runtime.block_on(commands::run(command, &data, output));
        // Not for ever: a write that nobody takes must not keep the process.
        runtime.shutdown_timeout(Duration::from_secs(1));
        exit
    }) {
        Ok(exit) => exit,
        Err(error) if exit::is_enough(&error) => Exit::Done,
        Err(error) => {
            let text = match output.json {
                true => exit::json(&error),
                false => format!("error: {}", exit::message(&error)),
            };
            let _ = writeln!(io::stderr(), "{text}");
            exit::of(&error)
        }
    };
    exit.into()
}

/// Absolute, so that it is the same folder for the daemon and in every message.
fn data_folder(wanted: Option<PathBuf>) -> anyhow::Result<PathBuf> {
    let folder = match wanted {
        Some(folder) => folder,
        None => std::env::var_os("XDG_DATA_HOME")
            .map(PathBuf::from)
            .filter(|folder| folder.is_absolute())
            .or_else(|| Some(std::env::home_dir()?.join(".local/share")))
            .ok_or_else(|| {
                Usage("where is your home? Say where the node's folder is: --data DIR".into())
            })?
            .join("arcwise"),
    };
    let absolute = std::path::absolute(&folder);
    absolute.map_err(|error| Usage(format!("--data “{}”: {error}", folder.display())).into())
}
