//! How far spaces are, where things are, and waiting for copies.

use arcwise::AspectKey;
use axum::{Json, extract::State, http::Uri, response::Response};
use tokio::{sync::watch, task::JoinSet};

use super::{
    Answer, Body, Daemon, query,
    spaces::{select, told},
    stream::lines,
    whole,
};
use crate::{
    api::{
        AskWhy, Asked, Claim, Copies, Error, InSpace, Replication, WaitForCopies, Why, millis, wire,
    },
    objects,
};

/// Tells how the spaces stand, each again when that changes.
pub(super) async fn watch(State(daemon): State<Daemon>, uri: Uri) -> Result<Response, Error> {
    let InSpace { space } = query(&uri)?;
    let node = daemon.node()?;
    let spaces = match space {
        Some(space) => vec![select(&node, Some(&space))?],
        None => node.spaces(),
    };
    let (stop, token) = (daemon.0.stop.clone(), daemon.0.running.token());
    Ok(lines(async move |lines| {
        let (_token, mut watching) = (token, JoinSet::new());
        for space in spaces {
            let (lines, mut progress) = (lines.clone(), space.progress());
            watching.spawn(async move {
                let mut last = None;
                loop {
                    let now = told(&progress.borrow_and_update());
                    if last.as_ref() != Some(&now) && lines.tell(&now).await.is_none() {
                        return;
                    }
                    last = Some(now);
                    if progress.changed().await.is_err() {
                        return;
                    }
                }
            });
        }
        let all = async { while watching.join_next().await.is_some() {} };
        stop.run_until_cancelled(all).await
    }))
}

pub(super) async fn why(State(daemon): State<Daemon>, uri: Uri) -> Answer<Why> {
    let AskWhy { space, what } = query(&uri)?;
    let space = select(&daemon.node()?, space.as_deref())?;
    let hash: arcwise::AspectHash = what.parse().map_err(Error::bad_request)?;
    let (found, aspect) = match space.why_aspect(hash).await? {
        Some(found) => (found, Some(hash)),
        None => (space.why(what.parse().map_err(Error::bad_request)?).await?, None),
    };
    let wanted = space.overview().wanted;
    let hashes = |keys: &[AspectKey]| keys.iter().map(|key| key.hash.to_string()).collect();
    let asked = |asked: &arcwise::Asked| Asked {
        peer: asked.peer,
        claims: asked.claims,
        named_by: asked.named_by.map(|node| node.to_string()),
        round_trip_ms: asked.round_trip.map(millis),
        took_ms: asked.took.map(millis),
        aspects: asked.outcome.as_ref().ok().copied(),
        failure: asked.outcome.as_ref().err().cloned(),
    };
    let claim = |claim: &arcwise::Claim| Claim {
        node: claim.node,
        holds: claim.holds,
        connected: claim.connected,
        availability: claim.availability,
        trusted: claim.trusted,
        confirms: claim.confirms,
    };
    Ok(Json(Why {
        space: space.id().fingerprint(),
        name: space.name(),
        aspect: aspect.map(|hash| hash.to_string()),
        entry: found.entry.to_string(),
        location: found.location.to_string(),
        claimed_here: found.claimed,
        held_here: hashes(&found.here),
        found_elsewhere: hashes(&found.elsewhere),
        copies_confirmed: found.confirmed(),
        copies_wanted: Copies { min: wanted.min(), target: wanted.target() },
        claims: found.claims.iter().map(claim).collect(),
        asked: found.asked.iter().map(asked).collect(),
    }))
}

/// Waits for copies of objects, and tells how far it is.
pub(super) async fn replicated(
    State(daemon): State<Daemon>,
    uri: Uri,
    body: Body,
) -> Result<Response, Error> {
    let WaitForCopies { space, copies } = query(&uri)?;
    if copies > arcwise::Copies::MAX {
        let text = format!("no space has more than {} copies", arcwise::Copies::MAX);
        return Err(Error::bad_request(text));
    }
    let node = daemon.node()?;
    let space = select(&node, space.as_deref())?;
    let names = wire::decode_names(whole(body)?).map_err(Error::bad_request)?;
    let mut keys = Vec::with_capacity(names.len());
    for piece in names.chunks(objects::PIECE) {
        keys.extend(objects::keys(&space, node.id(), piece).await?);
    }
    let (stop, token) = (daemon.0.stop.clone(), daemon.0.running.token());
    Ok(lines(async move |lines| {
        let _token = token;
        // So that whoever waits can tell the end from a daemon that has stopped.
        lines.tell(&Replication { aspects: keys.len(), complete: 0, copies: 0 }).await?;
        let (sender, mut told) = watch::channel(None);
        let wait = async move {
            let tell = |now: arcwise::Replication| {
                let (aspects, complete) = (now.keys, now.complete);
                let now = Some(Replication { aspects, complete, copies: now.copies });
                sender.send_if_modified(|last| std::mem::replace(last, now) != now);
            };
            space.replicated_telling(&keys, copies, tell).await;
        };
        let tell = async {
            while told.changed().await.is_ok() {
                let now = *told.borrow_and_update();
                lines.tell(&now).await?;
            }
            Some(())
        };
        stop.run_until_cancelled(async { tokio::join!(wait, tell).1 }).await?
    }))
}
