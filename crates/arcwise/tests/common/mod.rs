//! What tests of nodes share.

#![allow(dead_code, reason = "not every file of tests uses all of it")]

use std::{collections::BTreeSet, time::Duration};

use arcwise::{AspectHash, Config, EntryAddress, Event, NewAspect, Node, Space};
use tempfile::TempDir;
use tokio::sync::broadcast::{Receiver, error::RecvError};

/// How long anything here may take; only a bug makes it matter.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

pub(crate) async fn open(folder: &TempDir) -> Node {
    Node::open(Config::new(folder.path()).loopback()).await.unwrap()
}

pub(crate) fn aspect(n: u64, signed: bool) -> NewAspect {
    let entry = EntryAddress(*blake3::hash(&n.to_le_bytes()).as_bytes());
    NewAspect { entry, kind: 1, data: n.to_le_bytes().to_vec().into(), signed }
}

pub(crate) fn aspects(range: std::ops::Range<u64>) -> Vec<NewAspect> {
    range.map(|n| aspect(n, n % 10 == 0)).collect()
}

pub(crate) async fn all(space: &Space) -> BTreeSet<AspectHash> {
    let stored = space.since(0, usize::MAX).await.unwrap();
    stored.into_iter().map(|(_, aspect)| aspect.hash()).collect()
}

pub(crate) async fn until<T>(
    events: &mut Receiver<Event>,
    mut wanted: impl FnMut(Event) -> Option<T>,
) -> T {
    let search = async {
        loop {
            match events.recv().await {
                Ok(event) => {
                    if let Some(found) = wanted(event) {
                        return found;
                    }
                }
                Err(RecvError::Lagged(_)) => {}
                Err(RecvError::Closed) => panic!("the node ended"),
            }
        }
    };
    tokio::time::timeout(PATIENCE, search).await.expect("it happens in time")
}

/// Waits until this many aspects are held.
pub(crate) async fn until_held(space: &Space, events: &mut Receiver<Event>, count: u64) {
    while space.status().stats.count < count {
        until(events, |event| matches!(event, Event::Stored { .. }).then_some(())).await;
    }
}

pub(crate) async fn in_sync(events: &mut Receiver<Event>) -> arcwise::Report {
    until(events, |event| match event {
        Event::InSync { report, .. } => Some(report),
        _ => None,
    })
    .await
}
