//! The peers, and comparing with them.

use std::{collections::BTreeSet, time::Instant};

use arcwise::{Node, NodeId, RelayUrl, SyncOptions, Time, TriedAddress};
use axum::{Json, extract::State, http::Uri, response::Response};
use tokio::task::JoinSet;

use super::{Answer, Body, Daemon, MIN_PREFIX, parsed, query, spaces::select, stream::lines};
use crate::api::{
    Block, Blocked, Code, Error, Failure, Known, LastSync, Outcome, Peer, PeerSpace, Peers, Ping,
    Probe, Quality, Sync, Synced, Tried, Unreachable, millis,
};

pub(super) async fn peers(State(daemon): State<Daemon>, uri: Uri) -> Answer<Peers> {
    let Ping { ping } = query(&uri)?;
    let node = daemon.node()?;
    let mut told = told_peers(&node);
    if ping {
        let mut pings = JoinSet::new();
        for (place, peer) in told.peers.iter().enumerate() {
            let (node, id) = (node.clone(), peer.id);
            pings.spawn(async move { (place, node.ping(id).await) });
        }
        while let Some(pinged) = pings.join_next().await {
            let Ok((place, answer)) = pinged else { continue };
            let peer = &mut told.peers[place];
            match answer {
                Ok(took) => peer.ping_ms = Some(millis(took)),
                Err(error) => peer.ping_error = Some(error.to_string()),
            }
        }
    }
    Ok(Json(told))
}

pub(super) fn told_peers(node: &Node) -> Peers {
    let status = node.status();
    let name = |id: &arcwise::SpaceId| node.space(id).map(|space| space.name()).unwrap_or_default();
    let peer = |peer: arcwise::PeerStatus| Peer {
        id: peer.id,
        agent: peer.agent,
        address: peer.address,
        relayed: peer.relayed,
        dialed: peer.dialed,
        connected_seconds: peer.connected_for.as_secs_f64(),
        round_trip_ms: peer.round_trip.map(millis),
        clock_ahead_ms: peer.clock_ahead_micros as f64 / 1e3,
        sent_bytes: peer.traffic.total().sent,
        received_bytes: peer.traffic.total().received,
        traffic: peer.traffic.into(),
        ping_ms: None,
        ping_error: None,
        spaces: peer
            .spaces
            .iter()
            .map(|space| PeerSpace {
                name: name(&space.id),
                fingerprint: space.id.fingerprint(),
                held: (&space.store).into(),
                target: (&space.target).into(),
                aspects: space.count,
                quality: space.quality.map(|quality| Quality {
                    availability: quality.availability,
                    round_trip_ms: quality.round_trip.map(millis),
                    kilobytes_per_second: quality.throughput,
                    faults: quality.faults,
                    trusted: quality.trusted,
                }),
                same_seconds_ago: space.same.map(|ago| ago.as_secs_f64()),
                last_sync: space.last_sync.as_ref().map(|(ago, result)| LastSync {
                    seconds_ago: ago.as_secs_f64(),
                    outcome: Outcome::new(result),
                }),
            })
            .collect(),
    };
    Peers {
        peers: status.peers.into_iter().map(peer).collect(),
        unreachable: status
            .unreachable
            .into_iter()
            .map(|peer| Unreachable {
                id: peer.id,
                addresses: peer.addresses,
                relays: peer.relays.iter().map(ToString::to_string).collect(),
                failure_code: peer.failure.as_ref().map(Failure::from),
                failure: peer.failure.as_ref().map(ToString::to_string),
            })
            .collect(),
        blocked: status.blocked.into_iter().map(|id| Known { id }).collect(),
    }
}

/// Blocks a peer, or takes that back.
pub(super) async fn block(State(daemon): State<Daemon>, body: Body) -> Answer<Blocked> {
    let Block { peer, block } = parsed(body)?;
    let node = daemon.node()?;
    let id = match peer.parse() {
        Ok(id) => id,
        Err(_) => {
            let (prefix, status) = (prefix(&peer)?, node.status());
            let known = status.peers.iter().map(|peer| peer.id);
            let known = known.chain(status.unreachable.iter().map(|peer| peer.id));
            let known = known.chain(status.blocked.iter().copied());
            let found: BTreeSet<NodeId> =
                known.filter(|id| id.to_string().starts_with(&prefix)).collect();
            match (found.len(), found.first()) {
                (1, Some(id)) => *id,
                (0, _) => return Err(unknown(&peer)),
                _ => return Err(ambiguous(&peer)),
            }
        }
    };
    let changed = match block {
        true => node.block(id).await?,
        false => node.unblock(id).await?,
    };
    Ok(Json(Blocked { id, changed }))
}

/// What the id of a peer may begin with, as a person has said it.
fn prefix(wanted: &str) -> Result<String, Error> {
    let prefix = wanted.to_ascii_lowercase();
    if prefix.len() < MIN_PREFIX || !prefix.bytes().all(|b| b.is_ascii_hexdigit()) {
        let text = format!("“{wanted}” is no id: give at least its first {MIN_PREFIX} digits");
        return Err(Error::bad_request(text));
    }
    Ok(prefix)
}

fn unknown(wanted: &str) -> Error {
    let text = format!("no peer {wanted} is known; see: arcwise peers");
    Error::new(Code::NotFound, text)
}

fn ambiguous(wanted: &str) -> Error {
    Error::bad_request(format!("{wanted} is more than one peer; give more digits"))
}

pub(super) async fn sync(State(daemon): State<Daemon>, body: Body) -> Result<Response, Error> {
    let Sync { space, peer, full, published_since_micros } = parsed(body)?;
    let node = daemon.node()?;
    let space = select(&node, space.as_deref())?;
    let peers = partners(&node, &space, peer.as_deref())?;
    let options =
        SyncOptions { full, published_since: published_since_micros.map(Time::from_micros) };
    let token = daemon.0.running.token();
    Ok(lines(async move |lines| {
        let (_token, space) = (token, space);
        for peer in peers {
            let start = Instant::now();
            let result = space.sync(peer, options).await;
            let (seconds, outcome) = (start.elapsed().as_secs_f64(), Outcome::of(&result));
            lines.tell(&Synced { peer, seconds, outcome }).await?;
        }
        Some(())
    }))
}

/// Tries to reach a peer, each address by itself.
pub(super) async fn probe(State(daemon): State<Daemon>, body: Body) -> Answer<Vec<Tried>> {
    let Probe { peer, addresses, relays } = parsed(body)?;
    let relays: Result<Vec<RelayUrl>, _> = relays.iter().map(|url| url.parse()).collect();
    let relays = relays.map_err(Error::bad_request)?;
    let tried = daemon.node()?.probe(peer, &addresses, &relays).await;
    let told = tried.into_iter().map(|tried| Tried {
        address: match tried.address {
            TriedAddress::Ip(address) => address.to_string(),
            TriedAddress::Relay(url) => url.to_string(),
        },
        reached_ms: tried.outcome.as_ref().ok().copied().map(millis),
        failure_code: tried.outcome.as_ref().err().map(Failure::from),
        failure: tried.outcome.as_ref().err().map(ToString::to_string),
    });
    Ok(Json(told.collect()))
}

/// The connected peers to compare with: that in the space whose id begins so, or all of them.
fn partners(
    node: &Node,
    space: &arcwise::Space,
    wanted: Option<&str>,
) -> Result<Vec<NodeId>, Error> {
    let not_connected = |text: String| Err(Error::new(Code::NotConnected, text));
    let status = node.status();
    let sharing: Vec<NodeId> = status
        .peers
        .iter()
        .filter(|peer| peer.spaces.iter().any(|shared| shared.id == space.id()))
        .map(|peer| peer.id)
        .collect();
    let Some(wanted) = wanted else {
        return match sharing.is_empty() {
            true => not_connected(format!("no connected peer is in “{}”", space.name())),
            false => Ok(sharing),
        };
    };
    let prefix = prefix(wanted)?;
    let means = |id: &NodeId| id.to_string().starts_with(&prefix);
    let found: Vec<NodeId> = sharing.into_iter().filter(means).collect();
    match found.len() {
        0 if status.peers.iter().any(|peer| means(&peer.id)) => not_connected(format!(
            "the peer {wanted} is connected, but it is not in “{}”",
            space.name()
        )),
        0 if status.unreachable.iter().any(|peer| means(&peer.id)) => {
            not_connected(format!("the peer {wanted} is not connected; it is dialled by itself"))
        }
        0 => Err(unknown(wanted)),
        1 => Ok(found),
        _ => Err(ambiguous(wanted)),
    }
}
