//! Spaces and tickets.

use indicatif::HumanCount;

use super::Context;
use crate::{
    api::{Arcs, Copies, Held, Hold, Limit, NewSpace, Space, SpaceId, Ticket},
    args::{InSpace, SpaceCommand},
    exit::Exit,
    files::printable,
    output::{bytes, count, table},
};

pub(super) async fn space(command: SpaceCommand, context: &Context<'_>) -> anyhow::Result<Exit> {
    let Context { client, output, .. } = context;
    match command {
        SpaceCommand::Create { name, keep, limit, copies, arc } => {
            let keep_seconds = keep.map(|keep| keep.as_secs_f64());
            let copies = copies.map(|copies| Copies { min: copies.min(), target: copies.target() });
            let arc = Some(arc.to_string());
            let new = NewSpace { name, max_bytes: limit, keep_seconds, copies, arc };
            let space: Space = client.post("/v1/spaces", new).await?;
            match output.json {
                true => output.json(&space)?,
                false => output.line(&space.fingerprint)?,
            }
            let name = printable(space.name.as_bytes());
            output.say(format_args!("Made the space “{name}”. Let others in with: arcwise ticket"));
        }
        SpaceCommand::List => {
            let spaces: Vec<Space> = client.get("/v1/spaces", ()).await?;
            if output.json {
                output.json(&spaces)?;
            } else if spaces.is_empty() {
                output.say(NO_SPACE);
            } else {
                output.line(listed(&spaces))?;
            }
        }
        SpaceCommand::Limit { limit, space } => {
            let limit = Limit { max_bytes: limit.0 };
            let space: Space = client.post_in("/v1/space/limit", space.into(), limit).await?;
            match output.json {
                true => output.json(&space)?,
                false => output.say(format_args!(
                    "“{}” holds {} of {}.",
                    printable(space.name.as_bytes()),
                    bytes(space.bytes),
                    space.max_bytes.map_or_else(|| "any number".to_owned(), bytes),
                )),
            }
        }
        SpaceCommand::Arc { share: None, drop: _, space } => {
            let space: Space = client.get("/v1/space", crate::api::InSpace::from(space)).await?;
            match output.json {
                true => output.json(&space)?,
                false => output.line(told_arc(&space))?,
            }
        }
        SpaceCommand::Arc { share: Some(part), drop, space } => {
            let text = if drop { "removing what is outside" } else { "setting the part" };
            let working = output.spinner(text);
            let hold = Hold { share: part.to_string(), drop };
            let held: Result<Held, _> = client.post_in("/v1/space/arc", space.into(), hold).await;
            working.finish_and_clear();
            let held = held?;
            let outside = match (drop, held.space.progress.outside.fraction) {
                (true, _) => format!("{} removed", count(held.removed, "aspect")),
                (false, 0.0) => "nothing is held outside".to_owned(),
                (false, _) => "what is outside stays until enough others hold it".to_owned(),
            };
            match output.json {
                true => output.json(&held)?,
                false => output.say(format_args!(
                    "“{}” aims at {} now; {outside}.",
                    printable(held.space.name.as_bytes()),
                    share(&held.space.target),
                )),
            }
        }
        SpaceCommand::Delete { yes: _, space } => {
            let gone: Space = client.delete("/v1/space", space.into()).await?;
            match output.json {
                true => output.json(&gone)?,
                false => output.say(format_args!(
                    "Left “{}” and deleted {} of it here.",
                    printable(gone.name.as_bytes()),
                    count(gone.aspects, "aspect"),
                )),
            }
        }
        SpaceCommand::Id { reveal: _, space } => {
            let query = crate::api::InSpace::from(space);
            let id: SpaceId = client.get("/v1/space-id", query).await?;
            match output.json {
                true => output.json(&id)?,
                false => output.line(&id.id)?,
            }
            output.say("Whoever knows this id can read and write the space.");
        }
    }
    Ok(Exit::Done)
}

pub(super) const NO_SPACE: &str = "This node is in no space yet; make one with `arcwise space create NAME`, or join one with \
     `arcwise join TICKET`.";

/// Which part of a space is held, and why.
fn told_arc(space: &Space) -> String {
    let Space { held, target, progress, .. } = space;
    let arcs = |arcs: &Arcs| match arcs.fraction {
        0.0 => "none".to_owned(),
        _ => format!("{} ({})", share(arcs), arcs.arcs.join(", ")),
    };
    let why = match progress.automatic {
        true => "auto: as much as is needed for enough copies".to_owned(),
        false => format!("{}: as it was told", space.arc),
    };
    let mut lines = vec![
        format!("told     {why}"),
        format!("aims at  {}", arcs(target)),
        format!("holds    {}", arcs(held)),
    ];
    if progress.outside.fraction > 0.0 {
        lines.push(format!(
            "outside  something in {}, kept until enough others hold it",
            arcs(&progress.outside)
        ));
    }
    lines.join("\n")
}

fn listed(spaces: &[Space]) -> String {
    let mut rows =
        vec![["SPACE", "ASPECTS", "BYTES", "HELD", "TARGET", "PEERS", "NAME"].map(str::to_owned)];
    rows.extend(spaces.iter().map(|space| {
        [
            space.fingerprint.clone(),
            HumanCount(space.aspects).to_string(),
            bytes(space.bytes),
            share(&space.held),
            share(&space.target),
            space.peers.to_string(),
            printable(space.name.as_bytes()),
        ]
    }));
    table("<>>>>><", &rows)
}

/// A share of the ring: `all`, `none` or a percentage that is neither.
pub(super) fn share(arcs: &Arcs) -> String {
    match arcs.fraction {
        1.0.. => "all".to_owned(),
        0.0 => "none".to_owned(),
        part => format!("{:.2}%", (part * 100.0).clamp(0.01, 99.99)),
    }
}

pub(super) async fn ticket(space: InSpace, context: &Context<'_>) -> anyhow::Result<Exit> {
    let Context { client, output, .. } = context;
    let ticket: Ticket = client.get("/v1/ticket", crate::api::InSpace::from(space)).await?;
    match output.json {
        true => output.json(&ticket)?,
        false => output.line(&ticket.ticket)?,
    }
    output.say("Whoever has this ticket can join, read and write.");
    if let Ok(ticket) = ticket.ticket.parse::<arcwise::Ticket>() {
        if ticket.addresses.is_empty() && ticket.relays.is_empty() {
            output
                .say("It leads nowhere, because the node has no address yet; is there a network?");
        } else if is_local(&ticket) {
            output.say("It works on this machine only: the node listens nowhere else.");
        }
    }
    Ok(Exit::Done)
}

/// Whether a ticket leads to the machine that it is used on.
pub(super) fn is_local(ticket: &arcwise::Ticket) -> bool {
    let mut contacts = ticket.contacts();
    !ticket.addresses.is_empty()
        && contacts
            .all(|it| it.relays.is_empty() && it.addresses.iter().all(|at| at.ip().is_loopback()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_are_not_rounded_to_what_they_are_not() {
        let share = |fraction| share(&Arcs { fraction, arcs: Vec::new() });
        assert_eq!(share(1.0), "all");
        assert_eq!(share(0.999_999_9), "99.99%");
        assert_eq!(share(0.25), "25.00%");
        assert_eq!(share(1e-9), "0.01%");
        assert_eq!(share(0.0), "none");
    }
}
