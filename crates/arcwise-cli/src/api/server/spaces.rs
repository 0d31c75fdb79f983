//! Spaces and tickets.

use std::time::Duration;

use arcwise::{Limits, Node, Share, SpaceOptions, SpaceStatus};
use axum::{Json, extract::State, http::Uri};

use super::{Answer, Body, Daemon, MIN_PREFIX, parsed};
use crate::api::{Code, Error, Held, Hold, Join, Joined, Limit, NewSpace, Space, SpaceId, Ticket};

/// Longest name of a space, in bytes: what a ticket can carry.
const MAX_NAME: usize = 255;

/// The space that a person means.
pub(super) fn select(node: &Node, wanted: Option<&str>) -> Result<arcwise::Space, Error> {
    let mut spaces = node.spaces();
    let listed = || {
        let line =
            |space: &arcwise::Space| format!("\n  {}  {}", space.id().fingerprint(), space.name());
        node.spaces().iter().map(line).collect::<String>()
    };
    if spaces.is_empty() {
        let text = "this node is in no space; make one with `arcwise space create NAME`, \
                    or join one with `arcwise join TICKET`";
        return Err(Error::new(Code::NotFound, text));
    }
    let Some(wanted) = wanted else {
        if spaces.len() == 1 {
            return Ok(spaces.remove(0));
        }
        let text = format!("this node is in several spaces; say which with --space:{}", listed());
        return Err(Error::bad_request(text));
    };
    let prefix = wanted.trim_start_matches('#').to_ascii_lowercase();
    let named = |space: &arcwise::Space| space.name() == wanted;
    let marked = |space: &arcwise::Space| {
        prefix.len() >= MIN_PREFIX && space.id().fingerprint().starts_with(&prefix)
    };
    spaces.retain(|space| named(space) || marked(space));
    match spaces.len() {
        0 => {
            let text = format!("there is no space “{wanted}” here; there are:{}", listed());
            Err(Error::new(Code::NotFound, text))
        }
        1 => Ok(spaces.remove(0)),
        _ => {
            let text = format!(
                "“{wanted}” is more than one space; give more of its fingerprint:{}",
                listed()
            );
            Err(Error::bad_request(text))
        }
    }
}

pub(super) fn told(space: &SpaceStatus) -> Space {
    Space {
        name: space.name.clone(),
        fingerprint: space.id.fingerprint(),
        aspects: space.stats.count,
        bytes: space.stats.bytes,
        held: (&space.held).into(),
        target: (&space.target).into(),
        max_bytes: space.limits.max_bytes,
        keep_seconds: space.limits.max_age.map(|age| age.as_secs_f64()),
        arc: space.share.to_string(),
        full: space.full.clone(),
        peers: space.peers,
        progress: (&space.progress).into(),
    }
}

pub(super) async fn spaces(State(daemon): State<Daemon>) -> Answer<Vec<Space>> {
    Ok(Json(daemon.node()?.spaces().iter().map(|space| told(&space.status())).collect()))
}

pub(super) async fn create_space(State(daemon): State<Daemon>, body: Body) -> Answer<Space> {
    let NewSpace { name, max_bytes, keep_seconds, copies, arc } = parsed(body)?;
    if name.is_empty() || name.len() > MAX_NAME || name.chars().any(char::is_control) {
        let text = format!(
            "the name of a space has 1 to {MAX_NAME} bytes and no control characters; choose another"
        );
        return Err(Error::bad_request(text));
    }
    let node = daemon.node()?;
    if let Some(space) = node.spaces().iter().find(|space| space.name() == name) {
        let text = format!(
            "there is a space “{name}” here already, #{}; choose another name",
            space.id().fingerprint()
        );
        return Err(Error::new(Code::Exists, text));
    }
    let max_age = keep_seconds.map(Duration::try_from_secs_f64).transpose();
    let max_age =
        max_age.map_err(|_| Error::bad_request("no space can keep aspects for so long"))?;
    let copies = copies.map(|copies| arcwise::Copies::new(copies.min, copies.target)).transpose();
    let copies = copies.map_err(Error::bad_request)?.unwrap_or_default();
    let options =
        SpaceOptions { limits: Limits { max_bytes, max_age }, copies, share: share(arc)? };
    let space = node.create_space(&name, options).await?;
    Ok(Json(told(&space.status())))
}

/// A part of the ring, as it is written.
fn share(text: Option<String>) -> Result<Share, Error> {
    text.map_or(Ok(Share::Auto), |text| text.parse().map_err(Error::bad_request))
}

pub(super) async fn limit(State(daemon): State<Daemon>, uri: Uri, body: Body) -> Answer<Space> {
    let Limit { max_bytes } = parsed(body)?;
    let space = daemon.space(&uri)?;
    space.set_max_bytes(max_bytes).await?;
    Ok(Json(told(&space.status())))
}

/// Holds a part of the ring from now on.
pub(super) async fn hold(State(daemon): State<Daemon>, uri: Uri, body: Body) -> Answer<Held> {
    let Hold { share, drop } = parsed(body)?;
    let share = self::share(Some(share))?;
    let space = daemon.space(&uri)?;
    space.set_share(share).await?;
    let removed = if drop { space.drop_outside().await? } else { 0 };
    Ok(Json(Held { space: told(&space.status()), removed }))
}

pub(super) async fn delete(State(daemon): State<Daemon>, uri: Uri) -> Answer<Space> {
    let space = daemon.space(&uri)?;
    let last = told(&space.status());
    daemon.node()?.delete_space(&space.id()).await?;
    Ok(Json(last))
}

pub(super) async fn one_space(State(daemon): State<Daemon>, uri: Uri) -> Answer<Space> {
    Ok(Json(told(&daemon.space(&uri)?.status())))
}

pub(super) async fn space_id(State(daemon): State<Daemon>, uri: Uri) -> Answer<SpaceId> {
    let id = daemon.space(&uri)?.id();
    Ok(Json(SpaceId { fingerprint: id.fingerprint(), id: id.reveal() }))
}

pub(super) async fn ticket(State(daemon): State<Daemon>, uri: Uri) -> Answer<Ticket> {
    let (node, space) = (daemon.node()?, daemon.space(&uri)?);
    let ticket = node.ticket(&space.id());
    let ticket = ticket.ok_or_else(|| Error::new(Code::NotFound, "the space is gone"))?;
    Ok(Json(Ticket { ticket: ticket.to_string() }))
}

pub(super) async fn join(State(daemon): State<Daemon>, body: Body) -> Answer<Joined> {
    let Join { ticket, arc } = parsed(body)?;
    let ticket: arcwise::Ticket = ticket.parse().map_err(Error::bad_request)?;
    let node = daemon.node()?;
    let already = node.space(&ticket.space).is_some();
    let space = node.join_with(&ticket, share(arc)?).await?;
    Ok(Json(Joined { space: told(&space.status()), peer: ticket.node, already }))
}
