//! Stores and nodes to measure with.

use std::{
    ops::Range,
    path::{Path, PathBuf},
};

use arcwise::{ArcSet, Event, Report, SpaceId};
use arcwise_store::{Limits, Options, Space, Store};
use tempfile::TempDir;
use tokio::sync::broadcast::{Receiver, error::RecvError};

use crate::data;

/// The space of stores that are made here.
pub const SPACE: SpaceId = SpaceId([0xd1; 32]);

/// A folder that goes away with what is returned, in `parent` or where the system keeps such.
pub fn folder(parent: Option<&PathBuf>) -> anyhow::Result<TempDir> {
    Ok(match parent {
        Some(parent) => tempfile::tempdir_in(parent)?,
        None => tempfile::tempdir()?,
    })
}

/// Stores aspects as if they had always been there, and forgets every peer.
pub fn fill(folder: &Path, numbers: Range<u64>, size: usize) -> anyhow::Result<()> {
    std::fs::create_dir_all(folder)?;
    let store = Store::open(folder, Options::default())?;
    let space = space(&store)?;
    for first in numbers.clone().step_by(4096) {
        let batch = first..numbers.end.min(first + 4096);
        space.insert(batch.map(|n| data::aspect(n, size)).collect::<Result<_, _>>()?)?;
    }
    for (peer, _) in store.peers()? {
        store.remove_peer(&peer)?;
    }
    Ok(())
}

/// The space of a store, all of which is held; made where it is not there.
pub fn space(store: &Store) -> anyhow::Result<Space> {
    Ok(match store.space(&SPACE) {
        Some(space) => space,
        None => {
            let (target, held) = (ArcSet::full(), ArcSet::full());
            store.create_space(&SPACE, "bench", target, held, Limits::default())?
        }
    })
}

/// The next event. What fails is told, and some may be missed.
pub async fn next(events: &mut Receiver<Event>) -> anyhow::Result<Event> {
    loop {
        match events.recv().await {
            Ok(Event::SyncFailed { reason, .. }) => eprintln!("a session failed: {reason}"),
            Ok(Event::PeerFault { fault, .. }) => eprintln!("a peer broke a rule: {fault}"),
            Ok(event) => return Ok(event),
            Err(RecvError::Lagged(missed)) => eprintln!("{missed} events were missed"),
            Err(error) => return Err(error.into()),
        }
    }
}

/// Waits until a session has completed, with everything durable on both sides.
pub async fn in_sync(events: &mut Receiver<Event>) -> anyhow::Result<Report> {
    loop {
        if let Event::InSync { report, .. } = next(events).await? {
            return Ok(report);
        }
    }
}
