//! Where something is, and why it is or is not to be had.

use arcwise::EntryAddress;

use super::{Context, files, peers::reachable};
use crate::{
    api::{self, AskWhy, Asked, Claim, Client, Space},
    args::Why,
    exit::Exit,
    files::{printable, resolve},
    output::count,
};

pub(super) async fn why(args: Why, context: Context<'_>) -> anyhow::Result<Exit> {
    let (data, output) = (context.data, context.output);
    let what = match args.hash.parse::<EntryAddress>() {
        Ok(_) => args.hash,
        // As `get` takes it.
        Err(_) => {
            let space = args.space.clone();
            let find =
                files::with_objects(context, space, move |objects| resolve(objects, &args.hash));
            find.await?.to_string()
        }
    };
    let client = Client::new(data);
    let space: Space = client.get("/v1/space", api::InSpace::from(args.space)).await?;
    let asking = output.spinner("asking");
    let question = AskWhy { space: Some(space.fingerprint), what };
    let found = client.get::<api::Why>("/v1/why", question).await;
    asking.finish_and_clear();
    let found = found?;
    match output.json {
        true => output.json(&found)?,
        false => output.line(told(&found))?,
    }
    let nowhere = found.held_here.is_empty() && found.found_elsewhere.is_empty();
    Ok(if nowhere { Exit::NotFound } else { Exit::Done })
}

fn told(found: &api::Why) -> String {
    let mut lines = Vec::new();
    let mut line = |what: &str, text: String| lines.push(format!("{what:<10}  {text}"));
    if let Some(aspect) = &found.aspect {
        line("aspect", aspect.clone());
    }
    line("entry", found.entry.clone());
    let claimed = match found.claimed_here {
        true => "this node claims to hold what belongs there",
        false => "outside of what this node claims to hold",
    };
    line(
        "location",
        format!("{} in “{}”, {claimed}", found.location, printable(found.name.as_bytes())),
    );
    let (here, elsewhere) = (found.held_here.len() as u64, found.found_elsewhere.len() as u64);
    line(
        "here",
        match here {
            0 => "nothing of it".to_owned(),
            here => count(here, "aspect"),
        },
    );
    line("elsewhere", match (here, elsewhere) {
        (0, 0) => "nobody who was asked has anything of it. If this is the hash of an aspect and not an \
                   address, only a node that holds it knows where it belongs: ask there"
            .to_owned(),
        (_, 0) => "nothing that is not here".to_owned(),
        (_, elsewhere) => format!("{} not held here", count(elsewhere, "aspect")),
    });
    if here + elsewhere > 0 {
        let api::Copies { min, target } = found.copies_wanted;
        line(
            "copies",
            format!(
                "{} now that they hold all of it; wanted at least {min}, normally {target} copies",
                match found.copies_confirmed {
                    1 => "1 other node confirms".to_owned(),
                    copies => format!("{copies} other nodes confirm"),
                },
            ),
        );
    }
    line(
        "claimed by",
        match found.claims.len() as u64 {
            0 => "no other node that is known here".to_owned(),
            claims => format!("{} known here:", count(claims, "node")),
        },
    );
    lines.extend(found.claims.iter().map(claim));
    lines.push(match found.asked.is_empty() {
        true => "asked       nobody: no other node is known that might have it".to_owned(),
        false => format!("asked       {}:", count(found.asked.len() as u64, "node")),
    });
    lines.extend(found.asked.iter().map(asked));
    lines.join("\n")
}

fn claim(claim: &Claim) -> String {
    let parts = [
        if claim.holds { "claims to hold it" } else { "fills that part" },
        if claim.connected { "connected" } else { "not connected" },
        if claim.confirms { "confirms it" } else { "has not confirmed it" },
    ];
    let doubt = if claim.trusted { "" } else { ", NOT BELIEVED: it failed audits or broke rules" };
    let (parts, reachable) = (parts.join(", "), reachable(claim.availability));
    format!("  {}  {parts}, {reachable}{doubt}", claim.node.short())
}

fn asked(asked: &Asked) -> String {
    let outcome = match (asked.aspects, &asked.failure) {
        (Some(0), _) if asked.claims => "claims the part, and has nothing of it".to_owned(),
        (Some(0), _) => "has nothing of it, and named others".to_owned(),
        (Some(aspects), _) => format!("gave {}", count(aspects as u64, "aspect")),
        (None, Some(failure)) => format!("gave no answer: {}", printable(failure.as_bytes())),
        (None, None) => "gave no answer".to_owned(),
    };
    let mut text = format!("  {}  {outcome}", asked.peer.short());
    if let Some(took) = asked.took_ms {
        text += &format!(" after {took:.1} ms");
    }
    if let Some(trip) = asked.round_trip_ms {
        text += &format!(" (a round trip takes {trip:.1} ms)");
    }
    if let Some(node) = &asked.named_by {
        text += &format!(", named by {}", node.get(..10).unwrap_or(node));
    }
    text
}
