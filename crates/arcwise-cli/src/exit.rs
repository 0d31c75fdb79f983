//! How the program ends: exit codes, and what is said where something went wrong.

use std::{error::Error as StdError, io, process::ExitCode};

use crate::{
    api::{Code, client},
    files,
};

/// What the exit code tells a script. The help lists them too.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Exit {
    Done = 0,
    /// It did not work.
    Failed = 1,
    /// The command line makes no sense.
    Usage = 2,
    /// No daemon runs on the data folder.
    NoDaemon = 3,
    /// What was named is not there.
    NotFound = 4,
    /// No peer could be reached that would have been needed.
    NotReached = 5,
    /// By Ctrl-C; 128 and the number of the signal, as shells have it.
    Interrupted = 130,
}

/// For `--help`.
pub(crate) const EXIT_CODES: &str = "\
Exit codes:
  0    done
  1    the operation failed
  2    the command line makes no sense
  3    no daemon runs on the data folder
  4    not found: no such address, path, space or peer
  5    no peer could be reached that would have been needed
  130  interrupted";

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        ExitCode::from(exit as u8)
    }
}

/// The command line makes no sense, in a way that shows late.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub(crate) struct Usage(pub(crate) String);

/// What was named is not there.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub(crate) struct NotFound(pub(crate) String);

/// Data could not be printed.
#[derive(Debug, thiserror::Error)]
#[error("cannot write the output")]
pub(crate) struct Stdout(#[from] io::Error);

/// Whoever reads our output has had enough, which is none of our troubles.
pub(crate) fn is_enough(error: &anyhow::Error) -> bool {
    let output = error.chain().find_map(|cause| match cause.downcast_ref() {
        Some(files::Error::Output(error)) => Some(error),
        _ => cause.downcast_ref().map(|Stdout(error)| error),
    });
    output.is_some_and(|error| error.kind() == io::ErrorKind::BrokenPipe)
}

/// The exit code that fits an error.
pub(crate) fn of(error: &anyhow::Error) -> Exit {
    error.chain().find_map(of_one).unwrap_or(Exit::Failed)
}

fn of_one(error: &(dyn StdError + 'static)) -> Option<Exit> {
    if error.is::<Usage>() {
        return Some(Exit::Usage);
    }
    if error.is::<NotFound>() {
        return Some(Exit::NotFound);
    }
    if let Some(error) = error.downcast_ref::<client::Error>() {
        return match error {
            client::Error::NoDaemon(_) | client::Error::NoNode(_) => Some(Exit::NoDaemon),
            client::Error::Interrupted => Some(Exit::Interrupted),
            client::Error::Refused(error) => Some(of_code(error.code)),
            _ => Some(Exit::Failed),
        };
    }
    match error.downcast_ref::<files::Error>()? {
        files::Error::UnknownPrefix(_)
        | files::Error::NoSuchPath { .. }
        | files::Error::Missing(_) => Some(Exit::NotFound),
        files::Error::NotAnAddress(_)
        | files::Error::BadPath { .. }
        | files::Error::Ambiguous { .. } => Some(Exit::Usage),
        files::Error::Read { source, .. } if source.kind() == io::ErrorKind::NotFound => {
            Some(Exit::NotFound)
        }
        // The cause says more.
        _ => None,
    }
}

fn of_code(code: Code) -> Exit {
    match code {
        Code::BadRequest => Exit::Usage,
        Code::NotFound => Exit::NotFound,
        Code::NotConnected => Exit::NotReached,
        _ => Exit::Failed,
    }
}

/// One line for each cause, from what was to be done to what was in the way.
pub(crate) fn message(error: &anyhow::Error) -> String {
    let mut lines: Vec<String> = Vec::new();
    // What the daemon says needs no introduction.
    let is_introduction = |cause: &&(dyn StdError + 'static)| {
        matches!(cause.downcast_ref(), Some(files::Error::Node(_)))
    };
    for cause in error.chain().filter(|cause| !is_introduction(cause)) {
        // Of an error that is shown as its own source.
        let text = cause.to_string();
        if lines.last() != Some(&text) {
            lines.push(text);
        }
    }
    lines.join("\n  because: ")
}

/// The same for programs.
pub(crate) fn json(error: &anyhow::Error) -> String {
    let exit = of(error);
    let code = match exit {
        Exit::Done | Exit::Failed => "failed",
        Exit::Usage => "usage",
        Exit::NoDaemon => "no_daemon",
        Exit::NotFound => "not_found",
        Exit::NotReached => "not_reached",
        Exit::Interrupted => "interrupted",
    };
    let message = message(error).replace("\n  because: ", ": ");
    serde_json::json!({ "error": { "code": code, "exit": exit as u8, "message": message } })
        .to_string()
}
