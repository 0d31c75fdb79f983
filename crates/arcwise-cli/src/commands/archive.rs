//! Whole spaces, out and in.

use std::{
    fs::File,
    io::{self, IsTerminal, Read, Write},
    ops::ControlFlow,
    path::{Path, PathBuf},
};

use bytes::Bytes;
use indicatif::ProgressBar;
use serde_json::json;
use tokio::sync::{mpsc, oneshot};
use tokio_util::sync::CancellationToken;

use super::Context;
use crate::{
    api::{Exported, Imported, client},
    args::{Export, Import},
    exit::{Exit, Usage},
    files::{self, StagedFile, printable, printable_path},
    output::{bytes, count},
    signals::stop_at_signals,
};

/// Bytes of an archive that are read at a time.
const PIECE: usize = 256 << 10;

pub(super) async fn export(args: Export, context: &Context<'_>) -> anyhow::Result<Exit> {
    let output = context.output;
    let stdout = is_dash(&args.file);
    if stdout && io::stdout().is_terminal() {
        let text = "an archive is no text to read, and a secret; name a file, or pipe it on: \
                    arcwise export FILE";
        return Err(Usage(text.to_owned()).into());
    }
    let mut archive = context.client.export(args.space.into()).await?;
    let mut to = match stdout {
        true => To::Stdout,
        false => To::File(StagedFile::private(args.file.clone())?, args.file),
    };
    // A signal makes it give up in good order, so that nothing half done stays behind.
    let stop = CancellationToken::new();
    let signals = stop_at_signals(stop.clone())?;
    let bar = output.bytes("exporting", None);
    let work = async {
        loop {
            match archive.next().await? {
                ControlFlow::Continue(piece) => {
                    to.write(&piece)?;
                    bar.inc(piece.len() as u64);
                }
                ControlFlow::Break(exported) => return Ok::<_, anyhow::Error>(exported),
            }
        }
    };
    let exported = stop.run_until_cancelled(work).await;
    bar.finish_and_clear();
    let exported: Exported = match (exported, signals.first()) {
        (Some(exported), _) => exported?,
        (None, Some(signal)) => return Err(signal.into()),
        (None, None) => return Err(client::Error::Interrupted.into()),
    };
    if let Some(path) = to.finish()? {
        match output.json {
            true => output.json(&json!({
                "path": path.to_string_lossy(),
                "name": exported.name,
                "fingerprint": exported.fingerprint,
                "aspects": exported.aspects,
                "bytes": exported.bytes,
            }))?,
            false => output.line(path.display())?,
        }
    }
    output.say(format_args!(
        "Exported “{}”: {}, {}.\nWhoever has the archive can read all of it, join the space and write \
         to it: keep it as you would keep a ticket.",
        printable(exported.name.as_bytes()),
        count(exported.aspects, "aspect"),
        bytes(exported.bytes),
    ));
    Ok(Exit::Done)
}

/// Where an archive goes.
enum To {
    Stdout,
    File(StagedFile, PathBuf),
}

impl To {
    fn write(&mut self, piece: &[u8]) -> Result<(), files::Error> {
        match self {
            To::Stdout => io::stdout().lock().write_all(piece).map_err(files::Error::Output),
            To::File(staged, path) => staged
                .file()
                .write_all(piece)
                .map_err(|source| files::Error::Write { path: path.clone(), source }),
        }
    }

    /// All is written. Gives where, if that is a file.
    fn finish(self) -> Result<Option<PathBuf>, files::Error> {
        match self {
            To::Stdout => io::stdout().flush().map_err(files::Error::Output).map(|()| None),
            To::File(mut staged, path) => {
                let synced = staged.file().sync_all();
                synced.map_err(|source| files::Error::Write { path, source })?;
                staged.finish().map(Some)
            }
        }
    }
}

pub(super) async fn import(args: Import, context: &Context<'_>) -> anyhow::Result<Exit> {
    let output = context.output;
    let (from, length) = open(&args.file)?;
    let bar = output.bytes("importing", length);
    let (sender, pieces) = mpsc::channel(2);
    let (failed, mut failure) = oneshot::channel();
    // On a thread of its own, since it may wait for input for ever.
    tokio::task::spawn_blocking({
        let bar = bar.clone();
        move || send(from, &sender, &bar).map_err(|error| failed.send(error))
    });
    let imported = context.client.import(pieces).await.map_err(|error| match failure.try_recv() {
        // It is told before the pieces end, and they end too early then.
        Ok(failure) => unreadable(failure, &args.file),
        Err(_) => error.into(),
    });
    bar.finish_and_clear();
    let imported = imported?;
    match output.json {
        true => output.json(&imported)?,
        false => output.line(&imported.space.fingerprint)?,
    }
    let Imported { space, already, aspects, new, .. } = imported;
    let name = printable(space.name.as_bytes());
    output.say(format_args!(
        "{} “{name}”: {} in the archive, {} of them new here.",
        if already { "Added to" } else { "Joined" },
        count(aspects, "aspect"),
        indicatif::HumanCount(new),
    ));
    Ok(Exit::Done)
}

fn is_dash(path: &Path) -> bool {
    path.as_os_str() == "-"
}

fn unreadable(error: io::Error, path: &Path) -> anyhow::Error {
    match is_dash(path) {
        true => anyhow::Error::from(error).context("cannot read the archive from stdin"),
        false => {
            anyhow::Error::from(error).context(format!("cannot read {}", printable_path(path)))
        }
    }
}

/// What to read, and how long it is, where that is known.
fn open(path: &Path) -> anyhow::Result<(Box<dyn Read + Send>, Option<u64>)> {
    if is_dash(path) {
        if io::stdin().is_terminal() {
            let text = "an archive is no text to type; name a file, or pipe it in";
            return Err(Usage(text.to_owned()).into());
        }
        return Ok((Box::new(io::stdin()), None));
    }
    let file = File::open(path).map_err(|error| match error.kind() {
        io::ErrorKind::NotFound => files::Error::NotThere(path.to_owned()).into(),
        _ => unreadable(error, path),
    })?;
    let metadata = file.metadata().ok().filter(|metadata| metadata.is_file());
    Ok((Box::new(file), metadata.map(|metadata| metadata.len())))
}

/// Reads to the end, or for as long as somebody takes it.
fn send(mut from: impl Read, to: &mpsc::Sender<Bytes>, bar: &ProgressBar) -> io::Result<()> {
    loop {
        let mut piece = Vec::with_capacity(PIECE);
        let read = from.by_ref().take(PIECE as u64).read_to_end(&mut piece)?;
        bar.inc(read as u64);
        if read == 0 || to.blocking_send(piece.into()).is_err() {
            return Ok(());
        }
    }
}
