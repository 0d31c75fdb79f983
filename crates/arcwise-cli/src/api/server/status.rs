//! One look at the node.

use std::{fs, os::unix::fs::MetadataExt, path::Path, time::Instant};

use axum::{Json, extract::State};

use super::{Answer, Body, Daemon, parsed, peers::told_peers, spaces::told};
use crate::api::{Bandwidth, Check, Checked, Compacted, Disk, Error, Lately, Status, StoreStats};

pub(super) async fn status(State(daemon): State<Daemon>) -> Answer<Status> {
    let node = daemon.node()?;
    let data = daemon.0.data.clone();
    let used = tokio::task::spawn_blocking(move || disk_used(&data)).await.unwrap_or(0);
    let free = node.free_space().await.ok();
    let status = node.status();
    Ok(Json(Status {
        version: env!("CARGO_PKG_VERSION").to_owned(),
        node: status.id,
        data: daemon.0.data.display().to_string(),
        pid: std::process::id(),
        running_seconds: status.running_for.as_secs_f64(),
        listening: status.listening,
        addresses: status.addresses,
        relays: status.relays.iter().map(ToString::to_string).collect(),
        bandwidth: node.bandwidth().into(),
        traffic: status.traffic.into(),
        lately: Lately { seconds: status.lately.1.as_secs_f64(), traffic: status.lately.0.into() },
        stopped: status.stopped,
        disk: Disk { used, free },
        warnings: daemon.0.warnings.clone(),
        spaces: status.spaces.iter().map(told).collect(),
        peers: told_peers(&node),
    }))
}

pub(super) async fn bandwidth(State(daemon): State<Daemon>) -> Answer<Bandwidth> {
    Ok(Json(daemon.node()?.bandwidth().into()))
}

pub(super) async fn set_bandwidth(State(daemon): State<Daemon>, body: Body) -> Answer<Bandwidth> {
    let Bandwidth { up, down } = parsed(body)?;
    let bandwidth =
        arcwise::Bandwidth::new(up, down).map_err(|error| Error::bad_request(error.to_string()))?;
    let node = daemon.node()?;
    node.set_bandwidth(bandwidth).await?;
    Ok(Json(node.bandwidth().into()))
}

pub(super) async fn check(State(daemon): State<Daemon>, body: Body) -> Answer<Checked> {
    let Check { repair } = parsed(body)?;
    let (node, start) = (daemon.node()?, Instant::now());
    let report = node.check_store().await?;
    let checked = Checked::new(&report, start.elapsed());
    let given_up = if repair { node.give_up_damaged(report).await? } else { 0 };
    Ok(Json(Checked { given_up, ..checked }))
}

pub(super) async fn store(State(daemon): State<Daemon>) -> Answer<StoreStats> {
    Ok(Json(daemon.node()?.store_stats().await?.into()))
}

pub(super) async fn compact(State(daemon): State<Daemon>) -> Answer<Compacted> {
    let node = daemon.node()?;
    let before = node.store_stats().await?.into();
    node.compact_store().await?;
    Ok(Json(Compacted { before, after: node.store_stats().await?.into() }))
}

/// Bytes on disk below a folder. What vanishes meanwhile is not counted.
fn disk_used(folder: &Path) -> u64 {
    let Ok(children) = fs::read_dir(folder) else { return 0 };
    let sizes = children.flatten().map(|child| match child.metadata() {
        Ok(metadata) if metadata.is_dir() => disk_used(&child.path()),
        // Blocks and not length, since journals are longer than what is in them.
        Ok(metadata) => metadata.blocks() * 512,
        Err(_) => 0,
    });
    sizes.sum()
}
