//! The peers, and comparing with them.

use anyhow::Context as _;

use super::{Context, space::share};
use crate::{
    api::{
        self, Block, Blocked, LastSync, Method, Outcome, Peer, PeerSpace, Peers, Ping, Quality,
        Report, Synced, Unreachable, client,
    },
    args::{PeersCommand, Sync},
    exit::{self, Exit},
    files::printable,
    output::{bytes, count, seconds},
};

pub(super) async fn peers(ping: bool, context: &Context<'_>) -> anyhow::Result<Exit> {
    let Context { client, output, .. } = context;
    let known: Peers = client.get("/v1/peers", Ping { ping }).await?;
    if output.json {
        output.json(&known)?;
        return Ok(Exit::Done);
    }
    if known.peers.is_empty() && known.unreachable.is_empty() && known.blocked.is_empty() {
        output.say(
            "No peer is known yet. Give somebody a ticket (arcwise ticket), or use one (arcwise join).",
        );
    }
    for peer in &known.peers {
        output.line(connected(peer))?;
    }
    for peer in &known.unreachable {
        output.line(unreachable(peer))?;
    }
    for peer in &known.blocked {
        output.line(format_args!("{}  blocked", peer.id.short()))?;
    }
    Ok(Exit::Done)
}

pub(super) async fn block(command: PeersCommand, context: &Context<'_>) -> anyhow::Result<Exit> {
    let (peer, block) = match command {
        PeersCommand::Block { peer } => (peer, true),
        PeersCommand::Unblock { peer } => (peer, false),
    };
    let blocked: Blocked = context.client.post("/v1/block", Block { peer, block }).await?;
    if context.output.json {
        context.output.json(&blocked)?;
        return Ok(Exit::Done);
    }
    let peer = blocked.id.short();
    context.output.say(match (block, blocked.changed) {
        (true, true) => format!(
            "{peer} is blocked. What it has published still comes from others. To take it back: arcwise \
             peers unblock {peer}"
        ),
        (true, false) => format!("{peer} was blocked already."),
        (false, true) => format!("{peer} is not blocked any more."),
        (false, false) => format!("{peer} was not blocked."),
    });
    Ok(Exit::Done)
}

fn connected(peer: &Peer) -> String {
    let way = match (peer.address, peer.relayed) {
        (Some(address), _) => address.to_string(),
        (None, true) => "through a relay".to_owned(),
        (None, false) => "no address yet".to_owned(),
    };
    let mut text = format!("{}  {way}", peer.id.short());
    if let Some(trip) = peer.round_trip_ms {
        text += &format!(", {trip:.1} ms");
    }
    text += &format!(
        ", {}, connected for {}, sent {}, received {}",
        printable(peer.agent.as_bytes()),
        seconds(peer.connected_seconds),
        bytes(peer.sent_bytes),
        bytes(peer.received_bytes),
    );
    let mut causes = peer.traffic.causes().map(|(name, moved)| (moved.sent + moved.received, name));
    causes.sort_by(|one, other| other.cmp(one));
    let causes = causes.into_iter().filter(|(moved, _)| *moved > 0);
    let causes: Vec<_> = causes.map(|(moved, name)| format!("{name} {}", bytes(moved))).collect();
    if !causes.is_empty() {
        text += &format!("\n  for {}", causes.join(", "));
    }
    if let Some(millis) = peer.ping_ms {
        text += &format!("\n  answered a ping in {millis:.1} ms");
    }
    if let Some(why) = &peer.ping_error {
        text += &format!("\n  did not answer a ping: {}", printable(why.as_bytes()));
    }
    if peer.spaces.is_empty() {
        text += "\n  in no space that this node is in";
    }
    for space in &peer.spaces {
        text += &format!(
            "\n  {}: holds {} of it, {}; {}",
            printable(space.name.as_bytes()),
            share(&space.held),
            count(space.aspects, "aspect"),
            last_sync(space),
        );
        text += &quality(space.quality.as_ref());
    }
    text
}

/// How likely a peer can be reached.
pub(super) fn reachable(availability: Option<f64>) -> String {
    match availability {
        Some(part) => format!("reachable {:.0}% of the time", part * 100.0),
        None => "not known yet how reliable".to_owned(),
    }
}

/// How good a peer is.
fn quality(quality: Option<&Quality>) -> String {
    let Some(quality) = quality else {
        return "\n    has not said anything of itself yet".to_owned();
    };
    let mut parts = vec![reachable(quality.availability)];
    if let Some(trip) = quality.round_trip_ms {
        parts.push(format!("answers in {trip:.1} ms"));
    }
    if let Some(rate) = quality.kilobytes_per_second {
        parts.push(format!("gives {}/s", bytes(u64::from(rate) * 1000)));
    }
    if quality.faults >= 0.5 {
        parts.push(format!("broke {:.0} rules lately", quality.faults));
    }
    if !quality.trusted {
        parts.push("NOT BELIEVED to hold what it claims".to_owned());
    }
    format!("\n    {}", parts.join(", "))
}

/// How the last comparison ended, in words that promise nothing.
pub(super) fn last_sync(space: &PeerSpace) -> String {
    let same = space.same_seconds_ago.unwrap_or(f64::INFINITY);
    let Some(LastSync { seconds_ago, outcome }) = &space.last_sync else {
        return match space.same_seconds_ago {
            Some(same) => format!("in sync {} ago", seconds(same)),
            None => "not compared yet".to_owned(),
        };
    };
    let ago = seconds(*seconds_ago);
    match outcome {
        // Seen since by a ping, maybe.
        _ if same < *seconds_ago => format!("in sync {} ago", seconds(same)),
        Outcome { in_sync: true, .. } => format!("in sync {ago} ago"),
        Outcome { failure: Some(failure), .. } => format!(
            "the last comparison failed {ago} ago: {}; it is tried again",
            printable(failure.as_bytes())
        ),
        Outcome { report, .. } => {
            let left = report.as_ref().map_or(0, |report| report.rejected + report.gone);
            format!("compared {ago} ago, without {}", count(left, "aspect"))
        }
    }
}

fn unreachable(peer: &Unreachable) -> String {
    let addresses: Vec<String> =
        peer.addresses.iter().map(ToString::to_string).chain(peer.relays.clone()).collect();
    let addresses = match addresses.is_empty() {
        true => "no address known".to_owned(),
        false => addresses.join(", "),
    };
    let failure = peer.failure.as_deref().map(|failure| printable(failure.as_bytes()));
    let failure = failure.map(|failure| format!(" ({failure})")).unwrap_or_default();
    format!("{}  not connected, tried again and again: {addresses}{failure}", peer.id.short())
}

pub(super) async fn sync(args: Sync, context: &Context<'_>) -> anyhow::Result<Exit> {
    let Context { client, output, .. } = context;
    let request = api::Sync {
        space: args.space.space,
        peer: args.peer,
        full: args.full,
        published_since_micros: args.published_since.map(arcwise::Time::as_micros),
    };
    let comparing = output.spinner("comparing");
    let mut lines = client.post_lines("/v1/sync", request).await?;
    let (mut asked, mut failed, mut ours) = (0, 0, None);
    while let Some(synced) = lines.next::<Synced>().await? {
        asked += 1;
        failed += u32::from(!synced.outcome.in_sync);
        ours = ours.or(synced.outcome.ours());
        comparing.suspend(|| match output.json {
            true => output.json(&synced),
            false => output.line(told(&synced)),
        })?;
    }
    comparing.finish_and_clear();
    // The daemon answers for each peer, or it has stopped half-way.
    (asked > 0).then_some(()).context("the daemon stopped before it had compared")?;
    Ok(match (failed, ours) {
        (0, _) => Exit::Done,
        (_, Some(error)) => exit::of(&client::Error::from(error).into()),
        _ => Exit::Failed,
    })
}

fn told(synced: &Synced) -> String {
    let Synced { peer, seconds, outcome } = synced;
    let peer = peer.short();
    match outcome {
        Outcome { in_sync: true, report: Some(report), .. } => {
            format!("{peer}  in sync after {seconds:.2} s: {}", took(report))
        }
        Outcome { failure: Some(failure), .. } => {
            format!("{peer}  failed after {seconds:.2} s: {}", printable(failure.as_bytes()))
        }
        Outcome { report, .. } => {
            let report = report.as_ref();
            let (rejected, gone) = report.map_or((0, 0), |report| (report.rejected, report.gone));
            format!(
                "{peer}  not in sync after {seconds:.2} s: {} could not be believed, {} were gone",
                count(rejected, "aspect"),
                count(gone, "aspect"),
            )
        }
    }
}

/// What a comparison moved and compared.
pub(super) fn took(report: &Report) -> String {
    let moved = match (report.fetched, report.sent) {
        (0, 0) => "nothing to exchange".to_owned(),
        _ => format!(
            "fetched {} ({}), sent {} ({})",
            count(report.fetched, "aspect"),
            bytes(report.fetched_bytes),
            count(report.sent, "aspect"),
            bytes(report.sent_bytes),
        ),
    };
    format!("{moved}; {}", compared(report))
}

/// How it was found out what differs.
fn compared(report: &Report) -> String {
    let Some(comparison) = &report.comparison else {
        let hashes = count(report.listed.max(report.heard), "hash").replace("hashs", "hashes");
        let part = if report.constrained { "only what is new, " } else { "everything, " };
        return format!("compared {part}{hashes}");
    };
    let differ = match comparison.method {
        Method::Same => "the same".to_owned(),
        Method::Stream => "one side had nothing".to_owned(),
        _ => count(comparison.ours + comparison.theirs, "difference"),
    };
    let trips = count(comparison.round_trips.into(), "round trip");
    let size = bytes(comparison.sent_bytes + comparison.received_bytes);
    let repaired = if comparison.repaired { ", repaired once" } else { "" };
    format!("{differ}, found with {size} in {trips}, {:.1} ms{repaired}", report.computing_ms)
}
