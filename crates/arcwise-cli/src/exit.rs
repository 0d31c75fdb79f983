//! How the program ends: exit codes, and what is said where something went wrong.

use std::{
    error::Error as StdError,
    io::{self, Write},
    process::ExitCode,
};

use arcwise::{CreateError, OpenError, StoreError, capture::CaptureError};

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
    /// Another process has the store open.
    Locked = 6,
    /// Another program listens on the address.
    PortInUse = 7,
    /// Too little room: on the disk, or under a limit.
    DiskFull = 8,
    /// What is in the data folder, or in an archive, is not what was stored there.
    Damaged = 9,
    /// Another version of the program is needed.
    Version = 10,
    /// By Ctrl-C; 128 and the number of the signal, as shells have it.
    Interrupted = 130,
    /// By SIGTERM.
    Terminated = 143,
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
  6    another process has the store open
  7    the address to listen on is taken
  8    the disk is full, or the space is
  9    what is in the data folder, or in the archive, is damaged
  10   the data folder, or the archive, is of a newer version
  130  interrupted
  143  terminated";

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

/// A peer that is not connected may have it.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub(crate) struct NotReached(pub(crate) String);

/// A signal has ended it, in good order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Signalled {
    #[error("interrupted")]
    Interrupted,
    #[error("terminated")]
    Terminated,
}

impl Signalled {
    pub(crate) fn exit(self) -> Exit {
        match self {
            Signalled::Interrupted => Exit::Interrupted,
            Signalled::Terminated => Exit::Terminated,
        }
    }
}

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
    if error.is::<NotReached>() {
        return Some(Exit::NotReached);
    }
    if let Some(signal) = error.downcast_ref::<Signalled>() {
        return Some(signal.exit());
    }
    if let Some(error) = error.downcast_ref::<client::Error>() {
        return match error {
            client::Error::NoDaemon(_) | client::Error::NoNode(_) => Some(Exit::NoDaemon),
            client::Error::Interrupted => Some(Exit::Interrupted),
            client::Error::Refused(error) => Some(of_code(error.code)),
            _ => Some(Exit::Failed),
        };
    }
    if let Some(error) = error.downcast_ref::<OpenError>() {
        return Some(of_open(error));
    }
    if let Some(error) = error.downcast_ref::<arcwise_store::OpenError>() {
        return Some(of_open_store(error));
    }
    if let Some(error) = error.downcast_ref::<CaptureError>() {
        return Some(match error {
            CaptureError::Read { source, .. } if source.kind() == io::ErrorKind::NotFound => {
                Exit::NotFound
            }
            CaptureError::Read { source, .. } => of_io(source),
            CaptureError::Unknown { .. } => Exit::Version,
            _ => Exit::Damaged,
        });
    }
    if let Some(error) = error.downcast_ref::<StoreError>() {
        return Some(of_code(Code::of_store(error)));
    }
    match error.downcast_ref::<files::Error>()? {
        files::Error::UnknownPrefix(_)
        | files::Error::NoSuchPath { .. }
        | files::Error::NotThere(_)
        | files::Error::Missing(_) => Some(Exit::NotFound),
        files::Error::NotAnAddress(_)
        | files::Error::BadPath { .. }
        | files::Error::Ambiguous { .. } => Some(Exit::Usage),
        files::Error::Read { source, .. } if source.kind() == io::ErrorKind::NotFound => {
            Some(Exit::NotFound)
        }
        files::Error::Write { source, .. } if is_full(source) => Some(Exit::DiskFull),
        // The cause says more.
        _ => None,
    }
}

fn of_code(code: Code) -> Exit {
    match code {
        Code::BadRequest => Exit::Usage,
        Code::NotFound => Exit::NotFound,
        Code::NotConnected => Exit::NotReached,
        Code::DiskFull | Code::SpaceFull => Exit::DiskFull,
        Code::Damaged => Exit::Damaged,
        Code::Version => Exit::Version,
        _ => Exit::Failed,
    }
}

/// Why a node was not opened.
fn of_open(error: &OpenError) -> Exit {
    match error {
        OpenError::Store(error) => of_open_store(error),
        OpenError::Setting(error) => of_code(Code::of_store(error)),
        // The operating system says so in English wherever this runs.
        OpenError::Listen { reason, .. } if reason.contains("in use") => Exit::PortInUse,
        OpenError::Listen { .. } => Exit::Failed,
        OpenError::Identity { source, .. } | OpenError::Capture { source, .. } => of_io(source),
    }
}

fn of_open_store(error: &arcwise_store::OpenError) -> Exit {
    use arcwise_store::OpenError::{Damaged, Engine, Folder, Locked, NewerFormat, NotAStore};
    match error {
        Locked(_) => Exit::Locked,
        NewerFormat { .. } => Exit::Version,
        NotAStore { .. } | Damaged(_) => Exit::Damaged,
        Folder { source, .. } => of_io(source),
        // What stops the engine and is not the disk is what it has found on it.
        Engine(error) => io_cause(error).map_or(Exit::Damaged, of_io),
    }
}

fn of_io(error: &io::Error) -> Exit {
    use io::ErrorKind::{InvalidData, UnexpectedEof};
    match error.kind() {
        _ if is_full(error) => Exit::DiskFull,
        InvalidData | UnexpectedEof => Exit::Damaged,
        _ => Exit::Failed,
    }
}

pub(crate) fn is_full(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
}

/// What the operating system said, where that is at the bottom of it.
pub(crate) fn io_cause<'a>(error: &'a (dyn StdError + 'static)) -> Option<&'a io::Error> {
    let mut next = Some(error);
    while let Some(error) = next {
        if let Some(error) = error.downcast_ref() {
            return Some(error);
        }
        next = error.source();
    }
    None
}

/// These tell their causes in their own words.
fn is_whole(error: &(dyn StdError + 'static)) -> bool {
    error.is::<OpenError>()
        || error.is::<CreateError>()
        || error.is::<StoreError>()
        || error.is::<arcwise_store::OpenError>()
}

/// One line for each cause, from what was to be done to what was in the way.
pub(crate) fn message(error: &anyhow::Error) -> String {
    let mut lines: Vec<String> = Vec::new();
    for cause in error.chain() {
        // What the daemon says needs no introduction.
        if matches!(cause.downcast_ref(), Some(files::Error::Node(_))) {
            continue;
        }
        // Of an error that is shown as its own source.
        let text = cause.to_string();
        if lines.last() != Some(&text) {
            lines.push(text);
        }
        if is_whole(cause) {
            break;
        }
    }
    lines.join("\n  because: ")
}

/// The same for programs.
pub(crate) fn json(error: &anyhow::Error) -> String {
    let message = message(error).replace("\n  because: ", ": ");
    json_text(of(error), &message)
}

fn json_text(exit: Exit, message: &str) -> String {
    let code = match exit {
        Exit::Done | Exit::Failed => "failed",
        Exit::Usage => "usage",
        Exit::NoDaemon => "no_daemon",
        Exit::NotFound => "not_found",
        Exit::NotReached => "not_reached",
        Exit::Locked => "locked",
        Exit::PortInUse => "port_in_use",
        Exit::DiskFull => "disk_full",
        Exit::Damaged => "damaged",
        Exit::Version => "version",
        Exit::Interrupted => "interrupted",
        Exit::Terminated => "terminated",
    };
    serde_json::json!({ "error": { "code": code, "exit": exit as u8, "message": message } })
        .to_string()
}

/// Says what is wrong with a command line, or what was asked for where that was help.
pub(crate) fn bad_command_line(error: &clap::Error, json: bool) -> Exit {
    use clap::error::ErrorKind;
    let exit = if error.use_stderr() { Exit::Usage } else { Exit::Done };
    let text = error.render().to_string();
    let shown = without_secrets(&text);
    if json && exit == Exit::Usage {
        let message = match error.kind() {
            ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand | ErrorKind::MissingSubcommand => {
                "a command is missing; see: arcwise --help".to_owned()
            }
            _ => one_line(&shown),
        };
        let _ = writeln!(io::stderr(), "{}", json_text(exit, &message));
    } else if shown != text {
        let _ = write!(io::stderr(), "{shown}");
    } else {
        let _ = error.print();
    }
    exit
}

/// What is wrong and what may have been meant, without the usage that comes after it.
fn one_line(text: &str) -> String {
    let text = text.strip_prefix("error: ").unwrap_or(text);
    let end = text.find("\nUsage:").or_else(|| text.find("\nFor more information"));
    let lines = text[..end.unwrap_or(text.len())].lines().map(str::trim);
    lines.filter(|line| !line.is_empty()).collect::<Vec<_>>().join(" ")
}

/// Cuts short what may be a ticket, whole or in part: whoever reads it could join.
fn without_secrets(text: &str) -> String {
    const TICKET: &str = "arcwise1";
    const SHOWN: usize = 12;
    /// Ids and addresses have as many digits, and are no secrets.
    const LONGEST: usize = 64;
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(start) = rest.find(|c: char| c.is_ascii_alphanumeric()) {
        let (before, word) = rest.split_at(start);
        let end = word.find(|c: char| !c.is_ascii_alphanumeric()).unwrap_or(word.len());
        let (word, after) = word.split_at(end);
        out += before;
        let secret = word.to_ascii_lowercase().starts_with(TICKET) || word.len() > LONGEST;
        match secret && word.len() > SHOWN {
            true => out.extend([&word[..SHOWN], "…"]),
            false => out += word,
        }
        rest = after;
    }
    out + rest
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tickets_are_not_told() {
        let ticket = format!("arcwise1{}", "ab2c".repeat(40));
        let text = format!("error: “{ticket}”, {} and {}", &ticket[..20], &ticket[3..]);
        let shown = without_secrets(&text);
        assert_eq!(shown, "error: “arcwise1ab2c…”, arcwise1ab2c… and wise1ab2cab2…");
        let id = "0".repeat(64);
        for text in ["arcwise1x", "arcwise", &id, "", "größer: arcwise1…"] {
            assert_eq!(without_secrets(text), text);
        }
    }

    #[test]
    fn what_is_wrong_in_one_line() {
        let text =
            "error: unexpected argument '--x' found\n\n  tip: try '--y'\n\nUsage: a\n\nFor more";
        assert_eq!(one_line(text), "unexpected argument '--x' found tip: try '--y'");
    }
}
