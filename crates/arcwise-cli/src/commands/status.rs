//! One look at the node.

use super::{
    Context,
    peers::last_sync,
    space::{NO_SPACE, share},
};
use crate::{
    api::{Peer, Space, Status},
    exit::Exit,
    files::printable,
    output::{bytes, count, seconds},
};

pub(super) async fn status(context: &Context<'_>) -> anyhow::Result<Exit> {
    let Context { client, output, .. } = context;
    let status: Status = client.get("/v1/status", ()).await?;
    match output.json {
        true => output.json(&status)?,
        false => output.line(told(&status))?,
    }
    Ok(Exit::Done)
}

fn told(status: &Status) -> String {
    let listening: Vec<_> = status.listening.iter().map(ToString::to_string).collect();
    let free = match status.disk.free {
        Some(free) => format!("{} are free", bytes(free)),
        None => "how much is free is not known".to_owned(),
    };
    let mut lines = vec![
        format!("node        {}", status.node),
        format!(
            "running     for {}, version {}, process {}",
            seconds(status.running_seconds),
            status.version,
            status.pid
        ),
        format!("data        {}", status.data),
        format!("disk        {} used, {free}", bytes(status.disk.used)),
        format!("listening   {}", listening.join(", ")),
        format!("connected   {}", connected(status)),
    ];
    lines.extend(
        status.warnings.iter().map(|text| format!("warning     {}", printable(text.as_bytes()))),
    );
    match status.spaces.is_empty() {
        true => lines.push(format!("spaces      none: {NO_SPACE}")),
        false => {
            lines.extend(status.spaces.iter().map(|space| told_space(space, &status.peers.peers)))
        }
    }
    lines.join("\n")
}

fn connected(status: &Status) -> String {
    let (here, away) = (status.peers.peers.len() as u64, status.peers.unreachable.len() as u64);
    match (here, away) {
        (0, 0) => "no: no peer is known yet".to_owned(),
        (0, _) => format!(
            "no: {} known, none answers; they are tried again and again",
            count(away, "peer")
        ),
        (_, 0) => format!("to {}", count(here, "peer")),
        _ => format!("to {}; {} more known, but not reached", count(here, "peer"), away),
    }
}

fn told_space(space: &Space, peers: &[Peer]) -> String {
    let held = match (space.held.fraction, space.target.fraction) {
        (held, _) if held >= 1.0 && space.full.is_some() => {
            "held everything while it had room".to_owned()
        }
        (held, _) if held >= 1.0 => "holds everything".to_owned(),
        (0.0, _) => "does not hold all of any part yet".to_owned(),
        (held, target) if held >= target => {
            format!("holds all of its part, {}", share(&space.held))
        }
        _ => format!("holds all of {} and aims at {}", share(&space.held), share(&space.target)),
    };
    let mut text = format!(
        "space       {} #{}: {}, {}; {held}",
        printable(space.name.as_bytes()),
        space.fingerprint,
        count(space.aspects, "aspect"),
        bytes(space.bytes),
    );
    if let Some(most) = space.max_bytes {
        text += &format!("; at most {}", bytes(most));
    }
    if let Some(keep) = space.keep_seconds {
        text += &format!("; kept for {}", seconds(keep));
    }
    if let Some(reason) = &space.full {
        text += &format!("\n  TAKES NOTHING NEW: {}", printable(reason.as_bytes()));
    }
    let mut alone = true;
    for peer in peers {
        let shared = peer.spaces.iter().find(|shared| shared.fingerprint == space.fingerprint);
        if let Some(shared) = shared {
            alone = false;
            text += &format!("\n  {}  {}", peer.id.short(), last_sync(shared));
        }
    }
    if alone {
        text += "\n  nobody to compare with at the moment";
    }
    text
}
