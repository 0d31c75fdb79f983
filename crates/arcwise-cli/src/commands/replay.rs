//! What a node has decided, once more.

use arcwise::capture::{Difference, Replayed, replay as replayed};
use serde::Serialize;

use super::join::read_tickets;
use crate::{
    args::Replay,
    exit::Exit,
    files::printable,
    output::{Output, count},
};

/// So much is shown around the place where two answers become different.
const AROUND: usize = 200;

#[derive(Debug, Serialize)]
struct Outcome {
    node: String,
    agent: String,
    calls: u64,
    sessions: u64,
    events_of_sessions: u64,
    sessions_too_large: u64,
    unknown_spaces: Vec<String>,
    full: bool,
    cut: bool,
    difference: Option<At>,
}

#[derive(Debug, Serialize)]
struct At {
    line: u64,
    told: String,
    then: String,
    now: String,
}

impl From<&Replayed> for Outcome {
    fn from(replayed: &Replayed) -> Self {
        let done = &replayed.done;
        let at = |(line, difference): &(u64, Difference)| {
            let Difference { told, then, now } = difference.clone();
            At { line: *line, told, then, now }
        };
        Self {
            node: replayed.node.to_string(),
            agent: replayed.agent.clone(),
            calls: done.calls,
            sessions: done.sessions,
            events_of_sessions: done.steps,
            sessions_too_large: done.too_large,
            unknown_spaces: done.unknown.iter().cloned().collect(),
            full: replayed.full,
            cut: replayed.cut,
            difference: replayed.difference.as_ref().map(at),
        }
    }
}

pub(super) async fn replay(args: Replay, output: Output) -> anyhow::Result<Exit> {
    let spaces: Vec<_> = read_tickets(args.tickets)?.iter().map(|ticket| ticket.space).collect();
    let replaying = output.spinner("replaying");
    let work = move || replayed(&args.file, &spaces);
    let replayed = tokio::task::spawn_blocking(work).await?;
    replaying.finish_and_clear();
    let outcome = Outcome::from(&replayed?);
    match output.json {
        true => output.json(&outcome)?,
        false => tell(&outcome, &output)?,
    }
    let same = outcome.difference.is_none() && outcome.calls > 0;
    Ok(if same { Exit::Done } else { Exit::Failed })
}

fn tell(outcome: &Outcome, output: &Output) -> anyhow::Result<()> {
    let agent = printable(outcome.agent.as_bytes());
    let (calls, sessions) = (count(outcome.calls, "call"), count(outcome.sessions, "session"));
    let events = count(outcome.events_of_sessions, "event");
    output.line(format_args!(
        "Node {}, {agent}: replayed {calls} of its swarms, and {sessions} with {events}.",
        outcome.node
    ))?;
    if outcome.sessions_too_large > 0 {
        let left_out = count(outcome.sessions_too_large, "session");
        output.say(format_args!("{left_out} left out: too much was held to be written down."));
    }
    for space in &outcome.unknown_spaces {
        let space = printable(space.as_bytes());
        output.say(format_args!("Space #{space} left out: a ticket of it is needed."));
    }
    if outcome.full {
        output.say("It ends early: there was no room for more.");
    }
    if outcome.cut {
        output.say("It ends in the middle of a line, as where the node was killed.");
    }
    match &outcome.difference {
        None if outcome.calls == 0 => output.line("Nothing was replayed.")?,
        None => output.line("Everything was decided in the same way.")?,
        Some(At { line, told, then, now }) => {
            let same = then.bytes().zip(now.bytes()).take_while(|(a, b)| a == b).count();
            output.line(format_args!("Line {line} is decided otherwise:"))?;
            output.line(format_args!("  told: {}", around(told, 0)))?;
            output.line(format_args!("  then: {}", around(then, same)))?;
            output.line(format_args!("  now:  {}", around(now, same)))?;
        }
    }
    Ok(())
}

/// A part of a text, with the place in it.
fn around(text: &str, place: usize) -> String {
    let (first, last) = (place.saturating_sub(AROUND), place.saturating_add(AROUND));
    let (first, last) = (text.floor_char_boundary(first), text.floor_char_boundary(last));
    let part = printable(&text.as_bytes()[first..last]);
    let before = if first > 0 { "…" } else { "" };
    let after = if last < text.len() { "…" } else { "" };
    format!("{before}{part}{after}")
}
