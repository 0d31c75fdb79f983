//! Joining a space: is the peer there, and when is everything here?

use std::{
    collections::BTreeSet,
    io::{self, Read},
    time::Duration,
};

use anyhow::Context as _;
use arcwise::{NodeId, Ticket};
use serde::Serialize;
use tokio::{
    task::JoinSet,
    time::{Instant, sleep},
};

use super::{Context, space::is_local};
use crate::{
    api::{self, Client, Code, Joined, Peer, PeerSpace, Peers, Ping, Space, Synced, client},
    args::Join,
    exit::{Exit, Usage},
    files::printable,
    output::{bytes, count},
};

/// How often to look.
const LOOK: Duration = Duration::from_millis(100);

/// Most bytes read as a ticket.
const MAX_TICKET: u64 = 64 << 10;

#[derive(Debug, Serialize)]
struct Outcome {
    #[serde(flatten)]
    joined: Joined,
    reached: bool,
    /// Nothing where that was not waited for.
    in_sync: Option<bool>,
}

pub(super) async fn join(args: Join, context: &Context<'_>) -> anyhow::Result<Exit> {
    let Context { client, output, .. } = context;
    let tickets = read_tickets(args.tickets)?;
    let ticket = tickets.first().context("clap wants at least one")?.clone();
    if tickets.iter().any(|other| other.space != ticket.space) {
        let text = "these tickets are of different spaces; join one space at a time".to_owned();
        return Err(Usage(text).into());
    }
    let mut first = None;
    for ticket in &tickets {
        let arc = args.arc.as_ref().map(ToString::to_string);
        let request = api::Join { ticket: ticket.to_string(), arc };
        let joined: Joined = client.post("/v1/join", request).await?;
        first.get_or_insert(joined);
    }
    let mut joined = first.context("clap wants at least one")?;
    let contacts: BTreeSet<NodeId> =
        tickets.iter().flat_map(Ticket::contacts).map(|it| it.node).collect();
    let name = printable(joined.space.name.as_bytes());
    if !output.json {
        output.line(&joined.space.fingerprint)?;
    }
    output.say(match joined.already {
        true if args.arc.is_some() => format!(
            "This node is in the space “{name}” already; its part of it stays: see arcwise space arc."
        ),
        true => format!("This node is in the space “{name}” already."),
        false => format!("Joined the space “{name}”."),
    });

    let patience = Duration::from_secs(args.timeout.into());
    let (peer, space) = (joined.peer, joined.space.fingerprint.clone());
    let reached = reach(context, &contacts, peer, &space, patience).await?;
    let mut in_sync = None;
    match &reached {
        Reached::Yes(peer) => {
            let at = peer.address.map(|address| format!(" at {address}")).unwrap_or_default();
            output.say(format_args!("Connected to {}{at}.", peer.id.short()));
            if args.wait {
                joined.space = until_in_sync(context, peer.id, &space).await?;
                in_sync = Some(true);
            }
        }
        Reached::NotInSpace(peer) => output.say(format_args!(
            "The node {} answers, but it is not in this space any more. Ask for a new ticket.",
            peer.short()
        )),
        Reached::No(failure) => {
            let addresses: Vec<_> = ticket.addresses.iter().map(ToString::to_string).collect();
            let mut text = format!("The node {} was not reached", peer.short());
            if !addresses.is_empty() {
                text += &format!(" at {}", addresses.join(", "));
            }
            if let Some(failure) = failure {
                text += &format!(" ({})", printable(failure.as_bytes()));
            }
            if contacts.len() > 1 {
                let others = count(contacts.len() as u64 - 1, "other node");
                text += &format!(", nor any of the {others} of the ticket");
            }
            if is_local(&ticket) {
                text += ".\nThe ticket is good on the machine where it was made only";
            }
            output.say(format_args!("{text}.\nThe daemon keeps trying."));
        }
    }
    let reached = matches!(reached, Reached::Yes(_));
    if output.json {
        output.json(&Outcome { joined, reached, in_sync })?;
    }
    Ok(if reached { Exit::Done } else { Exit::NotReached })
}

/// Tickets of the command line.
pub(super) fn read_tickets(texts: Vec<String>) -> anyhow::Result<Vec<Ticket>> {
    let mut tickets = Vec::new();
    for text in texts {
        let text = if text == "-" { read_ticket()? } else { text };
        let ticket: Result<Ticket, _> = text.parse();
        tickets.push(ticket.map_err(|error: arcwise::TicketError| Usage(error.to_string()))?);
    }
    Ok(tickets)
}

pub(super) fn read_ticket() -> anyhow::Result<String> {
    let mut text = String::new();
    let mut input = io::stdin().lock().take(MAX_TICKET);
    input.read_to_string(&mut text).context("cannot read the ticket from stdin")?;
    // It may have been broken into lines on its way.
    Ok(text.split_whitespace().collect())
}

enum Reached {
    Yes(Box<Peer>),
    NotInSpace(NodeId),
    /// With what became of the last attempt.
    No(Option<String>),
}

/// Waits until one of the peers is connected and both have proven to be in the space. Of `id` it is told why
/// that failed.
async fn reach(
    context: &Context<'_>,
    ids: &BTreeSet<NodeId>,
    id: NodeId,
    space: &str,
    patience: Duration,
) -> anyhow::Result<Reached> {
    let waiting = context.output.spinner(format!("connecting to {}", id.short()));
    let end = Instant::now() + patience;
    let reached = loop {
        let known = peers(context).await?;
        let late = Instant::now() >= end;
        let there = known.peers.into_iter().filter(|peer| ids.contains(&peer.id));
        match there.max_by_key(|peer| shared(peer, space).is_some()) {
            Some(peer) if shared(&peer, space).is_some() => break Reached::Yes(Box::new(peer)),
            Some(peer) if late => break Reached::NotInSpace(peer.id),
            None if late => {
                let known = known.unreachable.into_iter().find(|peer| peer.id == id);
                break Reached::No(known.and_then(|peer| peer.failure));
            }
            _ => sleep(LOOK).await,
        }
    };
    waiting.finish_and_clear();
    Ok(reached)
}

/// Waits until a comparison with the peer has gone well, and gives the space as it is then. There is
/// no end to that where the peer or the network is at fault, since the daemon does not give up
/// either; each new reason is told. Where our own disk or store is at fault, it is an error.
async fn until_in_sync(context: &Context<'_>, id: NodeId, space: &str) -> anyhow::Result<Space> {
    let Context { data, client, output } = context;
    let bar = output.counter("fetching");
    let (mut told, mut attempts) = (BTreeSet::new(), JoinSet::new());
    loop {
        if let Some(attempt) = attempts.try_join_next()
            && let Some(error) = attempt??
        {
            bar.finish_and_clear();
            return Err(client::Error::from(error).into());
        }
        let known = peers(context).await?;
        let peer = known.peers.iter().find(|peer| peer.id == id);
        let theirs = peer.and_then(|peer| shared(peer, space));
        let spaces: Vec<Space> = client.get("/v1/spaces", ()).await?;
        let ours = spaces.into_iter().find(|ours| ours.fingerprint == space);
        if let Some((ours, theirs)) = ours.zip(theirs) {
            let last = theirs.last_sync.as_ref().map(|last| &last.outcome);
            if last.is_some_and(|last| last.in_sync) {
                bar.finish_and_clear();
                let (aspects, size) = (count(ours.aspects, "aspect"), bytes(ours.bytes));
                output.say(format_args!("In sync: {aspects} here, {size}."));
                return Ok(ours);
            }
            if let Some(reason) = last.and_then(why_not)
                && told.insert(reason.clone())
            {
                // The daemon keeps the words only. Another attempt shows whose fault it is.
                attempts.spawn(try_again(Client::new(data), id, space.to_owned()));
                bar.suspend(|| {
                    output.say(format_args!("Not in sync yet: {reason}. Trying again."))
                });
            }
            bar.set_length(theirs.aspects.max(ours.aspects));
            bar.set_position(ours.aspects);
        }
        bar.set_message(if peer.is_some() { "fetching" } else { "connection lost; waiting" });
        sleep(LOOK).await;
    }
}

/// Why a comparison did not bring the two into sync.
fn why_not(outcome: &api::Outcome) -> Option<String> {
    match (&outcome.failure, &outcome.report) {
        (Some(failure), _) => Some(printable(failure.as_bytes())),
        (None, Some(report)) if !outcome.in_sync => Some(format!(
            "{} could not be believed, {} were gone",
            count(report.rejected, "aspect"),
            count(report.gone, "aspect"),
        )),
        _ => None,
    }
}

/// Compares now; gives what is wrong with our own disk or store, if that was it.
async fn try_again(
    client: Client,
    id: NodeId,
    space: String,
) -> Result<Option<api::Error>, client::Error> {
    let request =
        api::Sync { space: Some(space), peer: Some(id.to_string()), ..api::Sync::default() };
    let mut ours = None;
    match client.post_lines("/v1/sync", request).await {
        Ok(mut lines) => {
            while let Some(synced) = lines.next::<Synced>().await? {
                ours = ours.or(synced.outcome.ours());
            }
        }
        // The connection is gone, which may pass.
        Err(client::Error::Refused(error)) if error.code == Code::NotConnected => {}
        Err(error) => return Err(error),
    }
    Ok(ours)
}

async fn peers(context: &Context<'_>) -> Result<Peers, client::Error> {
    context.client.get("/v1/peers", Ping { ping: false }).await
}

fn shared<'a>(peer: &'a Peer, space: &str) -> Option<&'a PeerSpace> {
    peer.spaces.iter().find(|shared| shared.fingerprint == space)
}
