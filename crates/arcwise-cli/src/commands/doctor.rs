//! What does not work, why, and what to do about it. All of it is found out from what the daemon tells.

use std::net::{IpAddr, SocketAddr};

use arcwise::{NodeId, Ticket};
use serde::Serialize;

use super::{Context, join::read_ticket, node::data_option, space::is_local};
use crate::{
    api::{Failure, Peer, Peers, Ping, Probe, Space, Status, Tried, Unreachable, client},
    args::Doctor,
    exit::{self, Exit, NotFound, Usage},
    files::printable,
    output::{bytes, count, seconds},
};

/// Clocks may be so far apart. A guess: what expires is rounded to more, and the network's delay is in it.
const MAX_CLOCK_MS: f64 = 60_000.0;

/// With less room than this on the disk, something is said. A guess: twice what is kept free by default.
const LITTLE_ROOM: u64 = 1 << 30;

/// A peer that has been connected for so many seconds has told which spaces it is in.
const ACQUAINTED: f64 = 10.0;

/// So many addresses tell what is meant.
const SHOWN: usize = 4;

/// One thing that was looked at.
#[derive(Clone, Debug, PartialEq, Serialize)]
struct Finding {
    level: Level,
    /// What is so.
    what: String,
    /// What can be done about it.
    #[serde(skip_serializing_if = "Option::is_none")]
    advice: Option<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
enum Level {
    /// As it should be.
    Good,
    /// Worth knowing.
    Note,
    /// Needs attention.
    Trouble,
}

fn good(what: impl Into<String>) -> Finding {
    Finding { level: Level::Good, what: what.into(), advice: None }
}

fn note(what: impl Into<String>, advice: impl Into<String>) -> Finding {
    Finding { level: Level::Note, what: what.into(), advice: Some(advice.into()) }
}

fn trouble(what: impl Into<String>, advice: impl Into<String>) -> Finding {
    Finding { level: Level::Trouble, what: what.into(), advice: Some(advice.into()) }
}

pub(super) async fn doctor(args: Doctor, context: &Context<'_>) -> anyhow::Result<Exit> {
    let Context { client, output, data } = context;
    let status: Status = match client.get("/v1/status", ()).await {
        Ok(status) => status,
        Err(error @ (client::Error::NoNode(_) | client::Error::NoDaemon(_))) => {
            let advice = match &error {
                client::Error::NoNode(_) => {
                    format!("make a node: arcwise init{}", data_option(data))
                }
                _ => format!("start it: arcwise serve{}", data_option(data)),
            };
            tell(context, &[trouble(error.to_string(), advice)])?;
            return Ok(exit::of(&error.into()));
        }
        Err(error) => return Err(error.into()),
    };
    let (findings, exit) = match args.peer {
        None => {
            let findings = diagnose(&status);
            let bad = findings.iter().any(|finding| finding.level == Level::Trouble);
            (findings, if bad { Exit::Failed } else { Exit::Done })
        }
        Some(peer) => {
            let subject = subject(&peer, &status)?;
            let trying = output.spinner(format!("trying to reach {}", subject.node.short()));
            let probe = Probe {
                peer: subject.node,
                addresses: subject.ticket.iter().flat_map(|it| it.addresses.clone()).collect(),
                relays: subject
                    .ticket
                    .iter()
                    .flat_map(|it| it.relays.iter().map(ToString::to_string))
                    .collect(),
            };
            let itself = subject.node == status.node;
            let tried: Vec<Tried> =
                if itself { Vec::new() } else { client.post("/v1/probe", probe).await? };
            let peers: Peers = client.get("/v1/peers", Ping { ping: true }).await?;
            trying.finish_and_clear();
            let reached = tried.iter().any(|tried| tried.reached_ms.is_some())
                || peers.peers.iter().any(|peer| peer.id == subject.node);
            let findings = examine(&subject, &status, &peers, &tried);
            (findings, if reached { Exit::Done } else { Exit::NotReached })
        }
    };
    tell(context, &findings)?;
    Ok(exit)
}

fn tell(context: &Context<'_>, findings: &[Finding]) -> anyhow::Result<()> {
    let output = context.output;
    if output.json {
        return Ok(output.json(&findings)?);
    }
    for Finding { level, what, advice } in findings {
        let mark = match level {
            Level::Good => "good",
            Level::Note => "note",
            Level::Trouble => "TROUBLE",
        };
        output.line(format_args!("{mark:<7}  {}", printable(what.as_bytes())))?;
        if let Some(advice) = advice {
            output.line(format_args!("         -> {}", printable(advice.as_bytes())))?;
        }
    }
    Ok(())
}

/// All that can be said without asking anybody.
fn diagnose(status: &Status) -> Vec<Finding> {
    let mut findings = vec![good(format!(
        "the daemon runs, version {}, for {}",
        status.version,
        seconds(status.running_seconds)
    ))];
    if status.version != env!("CARGO_PKG_VERSION") {
        findings.push(note(
            format!("this command is of version {}", env!("CARGO_PKG_VERSION")),
            "restart the daemon with the same version: arcwise stop, then arcwise serve",
        ));
    }
    let warnings = status.warnings.iter();
    findings.extend(warnings.map(|text| note(text, "it was said when the daemon started")));
    store(status, &mut findings);
    addresses(status, &mut findings);
    peers(status, &mut findings);
    clocks(status, &mut findings);
    if status.spaces.is_empty() {
        findings.push(note(
            "this node is in no space",
            "make one: arcwise space create NAME; or join one: arcwise join TICKET",
        ));
    }
    for space in &status.spaces {
        look_at(space, status, &mut findings);
    }
    findings
}

fn store(status: &Status, findings: &mut Vec<Finding>) {
    if let Some(why) = &status.stopped {
        findings.push(trouble(
            format!("the store takes nothing any more: {why}"),
            "see to the disk; the daemon goes on by itself once there is room, else restart it",
        ));
    }
    let full = status.spaces.iter().filter_map(|space| Some((space, space.full.as_ref()?)));
    let full: Vec<Finding> = full
        .map(|(space, why)| {
            trouble(
                format!("“{}” takes nothing new: {why}", space.name),
                "make room on the disk, or allow more: arcwise space limit SIZE",
            )
        })
        .collect();
    let works = full.is_empty() && status.stopped.is_none();
    findings.extend(full);
    findings.extend(match status.disk.free {
        None => Some(note(
            format!("the system does not say how much room there is for {}", status.data),
            "see to it that there is some",
        )),
        Some(free) if free < LITTLE_ROOM => Some(trouble(
            format!("only {} are free on the disk with {}", bytes(free), status.data),
            "make room: near the end nothing new is taken",
        )),
        Some(free) if works => {
            Some(good(format!("the store takes what comes; {} are free on its disk", bytes(free))))
        }
        Some(_) => None,
    });
}

/// From where an address can be reached.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Reach {
    Machine,
    Network,
    Anywhere,
}

fn reach_of(address: &SocketAddr) -> Reach {
    match address.ip().to_canonical() {
        ip if ip.is_loopback() => Reach::Machine,
        IpAddr::V4(ip) if ip.is_private() || ip.is_link_local() => Reach::Network,
        IpAddr::V6(ip) if ip.is_unique_local() || ip.is_unicast_link_local() => Reach::Network,
        _ => Reach::Anywhere,
    }
}

fn addresses(status: &Status, findings: &mut Vec<Finding>) {
    let listed = |addresses: &[SocketAddr]| {
        let text: Vec<_> = addresses.iter().take(SHOWN).map(ToString::to_string).collect();
        let more = addresses.len().saturating_sub(SHOWN);
        if more > 0 { format!("{} and {more} more", text.join(", ")) } else { text.join(", ") }
    };
    let all = listed(&status.addresses);
    findings.push(match status.addresses.iter().map(reach_of).max() {
        None => trouble(
            "this node has no address: nobody can reach it",
            "is there a network? See also: arcwise serve --listen",
        ),
        Some(Reach::Machine) => note(
            format!("it can be reached on this machine only: {all}"),
            "to be reached from others, start it without --listen, or with --listen 0.0.0.0:PORT",
        ),
        Some(Reach::Network) => note(
            format!("it can be reached within its own network only, as far as it knows: {all}"),
            "nodes elsewhere reach it where it dials them first, through a relay (arcwise serve \
             --relay URL), or where its router passes its UDP port on",
        ),
        Some(Reach::Anywhere) => good(format!(
            "it tells others these addresses: {all}; whether they lead here from outside it cannot know"
        )),
    });
    findings.push(match status.relays.is_empty() {
        true => note(
            "no relay is used",
            "none is needed where one of two nodes can be reached directly; else: arcwise serve \
             --relay URL, at both",
        ),
        false => good(format!("relays: {}", status.relays.join(", "))),
    });
}

fn peers(status: &Status, findings: &mut Vec<Finding>) {
    let Peers { peers, unreachable, blocked } = &status.peers;
    if !blocked.is_empty() {
        let ids: Vec<_> = blocked.iter().take(SHOWN).map(|peer| peer.id.short()).collect();
        findings.push(note(
            format!("{} blocked here: {}", count(blocked.len() as u64, "peer"), ids.join(", ")),
            "to have to do with one again: arcwise peers unblock ID",
        ));
    }
    if peers.is_empty() && unreachable.is_empty() {
        findings.push(note(
            "no peer is known",
            "give somebody a ticket (arcwise ticket), or use one (arcwise join TICKET)",
        ));
    } else if peers.is_empty() {
        findings.push(trouble(
            format!("no peer is connected, of {} known", unreachable.len()),
            "what each attempt has come to is said below; all are tried again and again",
        ));
    } else {
        findings.push(good(format!("connected to {}", count(peers.len() as u64, "peer"))));
    }
    for peer in peers {
        if peer.spaces.is_empty() && peer.connected_seconds > ACQUAINTED {
            findings.push(note(
                format!("{} is connected, and in no space that this node is in", peer.id.short()),
                "to share something, one joins with a ticket of the other",
            ));
        }
        for space in &peer.spaces {
            if space.quality.is_some_and(|quality| !quality.trusted) {
                findings.push(trouble(
                    format!(
                        "{} is not believed to hold what it claims of “{}”: it failed audits or broke \
                         rules",
                        peer.id.short(),
                        space.name
                    ),
                    "check its store there (arcwise store check); it is tried again after some hours",
                ));
            }
        }
    }
    findings.extend(unreachable.iter().filter_map(away));
}

/// Why a peer is not connected, where it was tried.
fn away(peer: &Unreachable) -> Option<Finding> {
    let (code, failure) = (peer.failure_code?, peer.failure.as_ref()?);
    let all: Vec<_> = peer.addresses.iter().map(ToString::to_string).collect();
    let all = all.into_iter().chain(peer.relays.clone()).collect::<Vec<_>>().join(", ");
    let at = if all.is_empty() { String::new() } else { format!(" at {all}") };
    let what = format!("{} was not reached{at}: {failure}", peer.id.short());
    let advice = advice(code);
    let end = if advice.ends_with('?') { "" } else { "." };
    let advice = format!("{advice}{end} To try each address: arcwise doctor {}", peer.id.short());
    Some(note(what, advice))
}

/// What can be done about a failure.
fn advice(failure: Failure) -> &'static str {
    match failure {
        Failure::NoAddress => "ask for a new ticket of it, or of another node in the space",
        Failure::NoAnswer => {
            "is it running, and on the network? Is its address still the same, and does a firewall let UDP \
             pass to its port?"
        }
        Failure::PortClosed => {
            "start its daemon there; if it runs, it listens on another port: ask for a new ticket"
        }
        Failure::OtherNode => {
            "the address belongs to another node by now, or that one has a new key: ask for a new ticket"
        }
        Failure::OtherProtocol => {
            "the two programs do not fit together: bring both to the same version"
        }
        Failure::Refused => "it has enough others; it may have room later",
        Failure::Declined => {
            "it may have blocked this node: ask who runs it; others in the space serve as well"
        }
        Failure::Blocked => "to have to do with it again: arcwise peers unblock ID",
        Failure::Ended => {
            "if the reason does not help, look at what its daemon says (arcwise serve -v)"
        }
        Failure::Itself => "use it on another node",
        Failure::NoKey => "the id or the ticket is wrong: ask for it again",
        Failure::Other => {
            "if the reason does not help, see what the daemon says (arcwise serve -v)"
        }
    }
}

fn clocks(status: &Status, findings: &mut Vec<Finding>) {
    let peers = &status.peers.peers;
    let off = |peer: &&Peer| peer.clock_ahead_ms.abs() > MAX_CLOCK_MS;
    let wrong: Vec<&Peer> = peers.iter().filter(off).collect();
    if peers.is_empty() {
        return;
    }
    if wrong.is_empty() {
        findings.push(good("the clocks of all connected peers agree with this one"));
        return;
    }
    let skew = |peer: &Peer| {
        let (ahead, off) = (peer.clock_ahead_ms > 0.0, peer.clock_ahead_ms.abs() / 1e3);
        let way = if ahead { "ahead of" } else { "behind" };
        format!("{} {way} this one", seconds(off))
    };
    if wrong.len() * 2 > peers.len() && peers.len() > 1 {
        findings.push(trouble(
            format!(
                "this machine's clock seems to be wrong: most peers differ; {} is {}",
                wrong[0].id.short(),
                skew(wrong[0])
            ),
            "set it: what is published here has a wrong time, and what expires goes at a wrong one",
        ));
        return;
    }
    for peer in wrong {
        findings.push(trouble(
            format!("the clock of {} is {}", peer.id.short(), skew(peer)),
            "set the one that is wrong",
        ));
    }
}

fn look_at(space: &Space, status: &Status, findings: &mut Vec<Finding>) {
    let (name, progress) = (&space.name, &space.progress);
    let Some(copies) = progress.copies else {
        if space.target.fraction > 0.0 {
            findings.push(note(
                format!("how many copies of “{name}” there are is not known"),
                "it shows once peers have said what they hold",
            ));
        }
        return;
    };
    let nodes = progress.known_nodes + 1;
    let min = progress.copies_wanted.min;
    if space.peers == 0 {
        let (what, advice) = (
            format!(
                "no peer in “{name}” is connected: what is here has no other copy that is in reach"
            ),
            "give a ticket to somebody (arcwise ticket), or see above why peers are not reached",
        );
        let alone = progress.known_nodes == 0 && status.peers.unreachable.is_empty();
        findings.push(if alone { note(what, advice) } else { trouble(what, advice) });
    } else if copies.min < f64::from(min) && nodes < min as usize {
        findings.push(note(
            format!(
                "“{name}” has {} of its weakest part; {min} are wanted at the least, and only {} are known",
                copies_of(copies.min),
                count(nodes as u64, "node")
            ),
            "more nodes have to join (arcwise ticket); each holds everything meanwhile",
        ));
    } else if copies.min < f64::from(min) {
        findings.push(trouble(
            format!(
                "“{name}” has {} of its weakest part; {min} are wanted at the least",
                copies_of(copies.min)
            ),
            "nodes that find out their part by themselves (arcwise space arc auto) take more by and by; \
             see to it that nodes are not off, full or set to a small part",
        ));
    } else {
        findings.push(good(format!(
            "“{name}” has {} of its weakest part, as nodes claim",
            copies_of(copies.min)
        )));
    }
    if space.peers > 0 && progress.unverified.fraction > 0.0 {
        findings.push(note(
            format!("not all that is held of “{name}” was seen to be the same at a connected peer"),
            "it is compared by itself; to do it now: arcwise sync",
        ));
    }
    if progress.outside.fraction > 0.0 {
        findings.push(note(
            format!("“{name}” has something here that others are to take over"),
            format!("it stays until {min} others have said that they hold it"),
        ));
    }
}

fn copies_of(number: f64) -> String {
    let number = (number * 10.0).floor() / 10.0;
    if number == 1.0 { "1 copy".to_owned() } else { format!("{number} copies") }
}

/// Whom a person means.
struct Subject {
    node: NodeId,
    ticket: Option<Ticket>,
}

fn subject(text: &str, status: &Status) -> anyhow::Result<Subject> {
    /// Fewest digits that may stand for an id.
    const DIGITS: usize = 4;
    let text = if text == "-" { read_ticket()? } else { text.to_owned() };
    if let Ok(node) = text.parse() {
        return Ok(Subject { node, ticket: None });
    }
    let prefix = text.to_ascii_lowercase();
    if (DIGITS..64).contains(&prefix.len()) && prefix.bytes().all(|b| b.is_ascii_hexdigit()) {
        let Peers { peers, unreachable, blocked } = &status.peers;
        let ids = peers.iter().map(|peer| peer.id).chain(unreachable.iter().map(|peer| peer.id));
        let ids = ids.chain(blocked.iter().map(|peer| peer.id));
        let found: Vec<NodeId> = ids.filter(|id| id.to_string().starts_with(&prefix)).collect();
        return match found[..] {
            [node] => Ok(Subject { node, ticket: None }),
            [] => {
                let text = format!("no peer {prefix} is known; see: arcwise peers");
                Err(NotFound(text).into())
            }
            _ => Err(Usage(format!("{prefix} is more than one peer; give more digits")).into()),
        };
    }
    let ticket: Ticket = text.parse().map_err(|error: arcwise::TicketError| {
        Usage(format!("neither the digits of a peer's id nor a ticket: {error}"))
    })?;
    Ok(Subject { node: ticket.node, ticket: Some(ticket) })
}

/// What there is to say of one node.
fn examine(subject: &Subject, status: &Status, peers: &Peers, tried: &[Tried]) -> Vec<Finding> {
    let node = subject.node.short();
    let mut findings = Vec::new();
    if subject.node == status.node {
        return vec![trouble("this is this very node", advice(Failure::Itself))];
    }
    if let Some(ticket) = &subject.ticket {
        let fingerprint = ticket.space.fingerprint();
        let member = status.spaces.iter().any(|space| space.fingerprint == fingerprint);
        findings.push(match member {
            true => good(format!("this node is in the ticket's space, “{}”", ticket.name)),
            false => note(
                format!("this node is not in the ticket's space, “{}”", ticket.name),
                "to join it: arcwise join TICKET",
            ),
        });
        if is_local(ticket) {
            findings.push(note(
                "the ticket leads to the machine where it was made, and nowhere else",
                "make one on a node that listens for others too: arcwise serve --listen 0.0.0.0:PORT",
            ));
        }
    }
    if peers.blocked.iter().any(|peer| peer.id == subject.node) {
        let advice = format!("to have to do with it again: arcwise peers unblock {node}");
        findings.push(trouble(format!("this node has blocked {node}"), advice));
    }
    let connected = peers.peers.iter().find(|peer| peer.id == subject.node);
    if let Some(peer) = connected {
        let at = peer.address.map(|address| format!(" at {address}")).unwrap_or_default();
        findings.push(match (&peer.ping_ms, &peer.ping_error) {
            (Some(millis), _) => {
                good(format!("{node} is connected{at}, and answers in {millis:.1} ms"))
            }
            (None, Some(error)) => trouble(
                format!("{node} is connected{at}, and does not answer: {error}"),
                "wait a minute: a connection that is dead ends by itself, and is made anew",
            ),
            (None, None) => good(format!("{node} is connected{at}")),
        });
        let space = subject.ticket.as_ref().map(|ticket| ticket.space.fingerprint());
        let is_there =
            |space: &String| peer.spaces.iter().any(|shared| shared.fingerprint == *space);
        if peer.spaces.is_empty() {
            findings.push(note(
                "it is in no space that this node is in, and so the connection ends after a minute",
                "to share something, one joins with a ticket of the other",
            ));
        } else if space.is_some_and(|space| !is_there(&space)) {
            findings.push(note(
                "it is not in the ticket's space with this node",
                "to join that space: arcwise join TICKET; where that was done, it has left: ask for a new \
                 ticket",
            ));
        }
        let status = Status {
            peers: Peers { peers: vec![peer.clone()], unreachable: vec![], blocked: vec![] },
            ..status.clone()
        };
        clocks(&status, &mut findings);
    }
    let reached = tried.iter().any(|tried| tried.reached_ms.is_some());
    for Tried { address, reached_ms, failure_code, failure } in tried {
        let failed = failure.as_deref().unwrap_or("not reached");
        let code = failure_code.unwrap_or(Failure::Other);
        findings.push(match reached_ms {
            Some(millis) => good(format!("{node} answers at {address}, in {millis:.1} ms")),
            // One way is enough.
            None if reached || connected.is_some() => {
                note(format!("not at {address}: {failed}"), "it is reached in another way")
            }
            None => trouble(format!("not reached at {address}: {failed}"), advice(code)),
        });
    }
    if !tried.is_empty() && !reached && connected.is_none() {
        findings.extend(apart(status, tried));
    }
    if tried.is_empty() && connected.is_none() {
        findings.push(trouble(
            format!("no address of {node} is known that could be tried"),
            advice(Failure::NoAddress),
        ));
    }
    if reached && connected.is_none() {
        findings.push(note(
            format!("{node} can be reached, and is not connected at this moment"),
            "where they have a space in common it is dialled by itself within a minute, if it is needed",
        ));
    }
    findings
}

/// What of two networks may be in the way, where no address of a node was reached.
fn apart(status: &Status, tried: &[Tried]) -> Vec<Finding> {
    let theirs: Vec<SocketAddr> = tried.iter().filter_map(|it| it.address.parse().ok()).collect();
    let within = |reach| theirs.iter().filter(move |at| reach_of(at) == reach);
    let ours = |at: &&SocketAddr| status.addresses.iter().any(|here| is_near(here, at));
    let mut findings = Vec::new();
    if within(Reach::Anywhere).next().is_none() {
        if within(Reach::Network).count() > 0 && !within(Reach::Network).any(|at| ours(&at)) {
            findings.push(note(
                "its addresses are of a private network, and this node seems to be in another one",
                "join that network, use a relay at both, or have a router pass its UDP port on",
            ));
        } else if !theirs.is_empty() && within(Reach::Network).next().is_none() {
            findings.push(note(
                "its addresses lead to the machine that they are used on",
                "that works where both nodes run on the same one; else ask for a new ticket",
            ));
        }
    }
    if status.relays.is_empty() {
        findings.push(note(
            "this node uses no relay, so only a direct path can lead to it",
            "where a firewall or a router is in between: arcwise serve --relay URL, at both",
        ));
    }
    findings
}

/// Whether two private addresses look like those of one network. How large networks are is not known: as most
/// are cut, and for IPv6 as all should be.
fn is_near(a: &SocketAddr, b: &SocketAddr) -> bool {
    match (a.ip().to_canonical(), b.ip().to_canonical()) {
        (IpAddr::V4(a), IpAddr::V4(b)) => a.octets()[..3] == b.octets()[..3],
        (IpAddr::V6(a), IpAddr::V6(b)) => a.segments()[..4] == b.segments()[..4],
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::api::Known;

    const PEER: &str = "1111111111111111111111111111111111111111111111111111111111111111";

    fn status(change: impl FnOnce(&mut Value)) -> Status {
        let arcs = |fraction: f64| json!({ "fraction": fraction, "arcs": [] });
        let moved = json!({ "sent": 1, "received": 2 });
        let traffic = json!({
            "control": moved, "comparing": moved, "fetching": moved, "pushing": moved,
            "queries": moved, "proofs": moved, "transport": moved, "seconds": 60.0,
        });
        let mut status = json!({
            "version": env!("CARGO_PKG_VERSION"),
            "node": "22".repeat(32),
            "data": "/data",
            "pid": 1,
            "running_seconds": 1.0,
            "listening": ["0.0.0.0:1"],
            "addresses": ["192.168.1.2:1", "8.8.8.8:1"],
            "relays": ["https://relay.example/"],
            "disk": { "used": 1, "free": 1_u64 << 40 },
            "bandwidth": { "up": null, "down": null }, "traffic": traffic, "lately": traffic,
            "stopped": null,
            "spaces": [{
                "name": "notes", "fingerprint": "0123456789", "aspects": 1, "bytes": 1,
                "held": arcs(1.0), "target": arcs(1.0), "arc": "auto",
                "max_bytes": null, "keep_seconds": null, "full": null, "peers": 1,
                "progress": {
                    "automatic": true, "known_nodes": 1, "reachable_nodes": 1,
                    "copies": { "min": 2.0, "p5": 2.0, "median": 2.0 },
                    "copies_wanted": { "min": 2, "target": 3 },
                    "total": null, "unverified": arcs(0.0), "outside": arcs(0.0),
                    "rate": { "aspects_per_second": 0.0, "bytes_per_second": 0.0 }, "left": null,
                },
            }],
            "peers": [{
                "id": PEER, "agent": "a", "address": null, "relayed": false, "dialed": true,
                "connected_seconds": 60.0, "round_trip_ms": 1.0, "clock_ahead_ms": 3.0,
                "sent_bytes": 0, "received_bytes": 0, "traffic": traffic,
                "spaces": [{
                    "name": "notes", "fingerprint": "0123456789", "held": arcs(1.0),
                    "target": arcs(1.0), "aspects": 1, "quality": null, "same_seconds_ago": null,
                    "last_sync": null,
                }],
            }],
            "unreachable": [],
        });
        change(&mut status);
        serde_json::from_value(status).unwrap()
    }

    fn worst(status: &Status) -> Vec<Finding> {
        let findings = diagnose(status);
        findings.into_iter().filter(|finding| finding.level > Level::Good).collect()
    }

    #[test]
    fn where_all_is_well_nothing_is_to_be_done() {
        assert_eq!(worst(&status(|_| {})), []);
    }

    #[test]
    fn each_trouble_is_told_with_what_to_do() {
        type Change = fn(&mut Value);
        let cases: [(Change, Level, &str); 15] = [
            (
                |it| it["blocked"] = json!([{ "id": "33".repeat(32) }]),
                Level::Note,
                "1 peer blocked here: 3333333333",
            ),
            (|it| it["version"] = "0.0.0".into(), Level::Note, "this command is of version"),
            (|it| it["warnings"] = json!(["others can look"]), Level::Note, "others can look"),
            (|it| it["stopped"] = "disk broken".into(), Level::Trouble, "takes nothing any more"),
            (
                |it| it["spaces"][0]["full"] = "at most 1".into(),
                Level::Trouble,
                "takes nothing new",
            ),
            (|it| it["disk"]["free"] = 1.into(), Level::Trouble, "only 1 B are free"),
            (|it| it["addresses"] = json!(["127.0.0.1:1"]), Level::Note, "this machine only"),
            (
                |it| it["addresses"] = json!(["10.0.0.1:1", "[fe80::1]:1"]),
                Level::Note,
                "own network",
            ),
            (|it| it["relays"] = json!([]), Level::Note, "no relay"),
            (|it| it["peers"][0]["spaces"] = json!([]), Level::Note, "in no space that"),
            (
                |it| it["peers"][0]["clock_ahead_ms"] = (-7.2e6).into(),
                Level::Trouble,
                "2 h 0 min behind",
            ),
            (|it| it["spaces"][0]["peers"] = 0.into(), Level::Note, "no peer in “notes”"),
            (
                |it| it["spaces"][0]["progress"]["copies_wanted"]["min"] = 8.into(),
                Level::Note,
                "only 2 nodes are known",
            ),
            (
                |it| it["spaces"][0]["progress"]["copies"]["min"] = 1.99.into(),
                Level::Trouble,
                "1.9 copies of its weakest part; 2 are wanted",
            ),
            (|it| it["spaces"] = json!([]), Level::Note, "in no space"),
        ];
        for (change, level, words) in cases {
            let mut status = status(change);
            if words.starts_with("no peer in") {
                status.spaces[0].progress.known_nodes = 0;
            }
            let found = worst(&status);
            let [finding] = &found[..] else { panic!("{words}: {found:?}") };
            assert!(finding.what.contains(words), "{words}: {finding:?}");
            assert!(finding.level == level && finding.advice.is_some(), "{finding:?}");
        }
    }

    #[test]
    fn why_a_peer_is_away_is_told() {
        let gone = status(|it| {
            it["peers"] = json!([]);
            it["spaces"][0]["peers"] = 0.into();
            it["unreachable"] = json!([{
                "id": PEER, "addresses": ["10.0.0.1:9"], "relays": [],
                "failure_code": "other_node", "failure": "another node answers there",
            }]);
        });
        let found = worst(&gone);
        let told = serde_json::to_string(&found).unwrap();
        for words in ["no peer is connected, of 1 known", "10.0.0.1:9", "ask for a new ticket"] {
            assert!(told.contains(words), "{words}: {told}");
        }
        let subject = Subject { node: PEER.parse().unwrap(), ticket: None };
        let tried = |code: Failure| Tried {
            address: "10.0.0.1:9".to_owned(),
            reached_ms: None,
            failure_code: Some(code),
            failure: Some("in words".to_owned()),
        };
        let found = examine(&subject, &gone, &gone.peers, &[tried(Failure::PortClosed)]);
        assert_eq!(found[0].level, Level::Trouble);
        assert!(found[0].advice.as_ref().unwrap().contains("start its daemon"));
        let words = |found: &[Finding]| serde_json::to_string(found).unwrap();
        assert!(words(&found).contains("in another one"), "10.0.0.1 is not 192.168.1: {found:?}");
        assert!(!words(&found).contains("no relay"), "{found:?}");
        let alone = Status {
            relays: vec![],
            addresses: vec!["10.0.0.7:1".parse().unwrap()],
            ..gone.clone()
        };
        let found = examine(&subject, &alone, &gone.peers, &[tried(Failure::NoAnswer)]);
        assert!(words(&found).contains("no relay"), "{found:?}");
        assert!(!words(&found).contains("in another one"), "{found:?}");
        let blocked = Peers { blocked: vec![Known { id: subject.node }], ..gone.peers.clone() };
        let found = examine(&subject, &gone, &blocked, &[tried(Failure::Declined)]);
        assert!(found[0].what.contains("has blocked 1111111111"), "{found:?}");
        assert!(words(&found).contains("ask who runs it"), "{found:?}");
        let found = examine(&subject, &gone, &gone.peers, &[]);
        assert!(found[0].what.contains("no address"), "{found:?}");
        let answered = Tried { reached_ms: Some(1.0), ..tried(Failure::Other) };
        let found = examine(&subject, &gone, &gone.peers, &[tried(Failure::NoAnswer), answered]);
        assert!(found.iter().all(|it| it.level < Level::Trouble), "one way is enough: {found:?}");
    }
}
