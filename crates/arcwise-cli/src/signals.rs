//! Ctrl-C and SIGTERM.

use std::{
    process,
    sync::{Arc, OnceLock},
    time::{Duration, Instant},
};

use anyhow::Context;
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

use crate::exit::Signalled;

/// A signal so soon after the first is the same one: `timeout`, for one, sends to the process and
/// then to its group.
const ECHO: Duration = Duration::from_millis(200);

/// What the first signal was, once there was one.
#[derive(Clone, Debug)]
pub(crate) struct Signals(Arc<OnceLock<Signalled>>);

/// From now on the first signal asks for an orderly end, by `stop`, and the next one ends the
/// program.
pub(crate) fn stop_at_signals(stop: CancellationToken) -> anyhow::Result<Signals> {
    let signals = || Ok((signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?));
    let (mut interrupt, mut terminate) =
        signals().map_err(|error: std::io::Error| error).context("cannot listen for signals")?;
    let first = Arc::new(OnceLock::new());
    let signals = Signals(first.clone());
    tokio::spawn(async move {
        let mut since: Option<Instant> = None;
        loop {
            let signal = tokio::select! {
                _ = interrupt.recv() => Signalled::Interrupted,
                _ = terminate.recv() => Signalled::Terminated,
            };
            match since {
                Some(since) if since.elapsed() < ECHO => continue,
                // Asked for by a signal or in another way.
                _ if stop.is_cancelled() => process::exit(signal.exit() as i32),
                _ => {}
            }
            since = Some(Instant::now());
            let _ = first.set(signal);
            stop.cancel();
        }
    });
    Ok(signals)
}

impl Signals {
    pub(crate) fn first(&self) -> Option<Signalled> {
        self.0.get().copied()
    }
}
