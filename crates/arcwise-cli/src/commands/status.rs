//! One look at the node.

use std::collections::BTreeMap;

use indicatif::HumanCount;
use jiff::Zoned;
use tokio_util::sync::CancellationToken;

use super::{
    Context,
    node::told_bandwidth,
    peers::last_sync,
    space::{NO_SPACE, share},
};
use crate::{
    api::{self, Copies, Lately, Left, Moved, Peer, Progress, Space, Status},
    args::InSpace,
    exit::{Exit, Signalled},
    files::printable,
    output::{bytes, count, seconds, table},
    signals::stop_at_signals,
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
    if status.bandwidth.up.or(status.bandwidth.down).is_some() {
        lines.push(format!("bandwidth   {}", told_bandwidth(&status.bandwidth)));
    }
    lines.push(told_traffic(status));
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

/// What the node's bytes on the network were for. What there was none of is left out.
fn told_traffic(status: &Status) -> String {
    let Lately { seconds: lately, traffic: of_lately } = status.lately;
    let rate = |moved: u64| match lately {
        0.0 => "-".to_owned(),
        seconds => format!("{}/s", bytes((moved as f64 / seconds) as u64)),
    };
    let row = |name: &str, all: Moved, lately: Moved| {
        [
            name.to_owned(),
            bytes(all.sent),
            rate(lately.sent),
            bytes(all.received),
            rate(lately.received),
        ]
    };
    let causes = status.traffic.causes().into_iter().zip(of_lately.causes());
    let causes = causes.filter(|((_, all), _)| all.sent + all.received > 0);
    let rows: Vec<_> = causes.map(|((name, all), (_, lately))| row(name, all, lately)).collect();
    if rows.is_empty() {
        return "traffic     none so far".to_owned();
    }
    let head = ["", "sent", "of late", "received", "of late"].map(str::to_owned);
    let sums = row("in all", status.traffic.total(), of_lately.total());
    let rows: Vec<_> = [head].into_iter().chain(rows).chain([sums]).collect();
    format!(
        "traffic     since the start, and in the last {}\n{}",
        seconds(lately),
        indented(&table("<>>>>", &rows))
    )
}

fn indented(text: &str) -> String {
    text.lines().map(|line| format!("  {line}")).collect::<Vec<_>>().join("\n")
}

/// Tells of each space that changes, as long as somebody reads it.
pub(super) async fn watch(space: InSpace, context: &Context<'_>) -> anyhow::Result<Exit> {
    let Context { client, output, .. } = context;
    let stop = CancellationToken::new();
    let signals = stop_at_signals(stop.clone())?;
    let watching = async {
        let mut lines = client.get_lines("/v1/watch", api::InSpace::from(space)).await?;
        let mut told = BTreeMap::new();
        while let Some(space) = lines.next::<Space>().await? {
            if output.json {
                output.json(&space)?;
                continue;
            }
            let line = watched(&space);
            // What people cannot see has not changed.
            if told.insert(space.fingerprint, line.clone()) != Some(line.clone()) {
                output.line(format_args!("{} {line}", Zoned::now().strftime("%H:%M:%S")))?;
            }
        }
        output.say("The daemon has stopped.");
        anyhow::Ok(())
    };
    stop.run_until_cancelled(watching).await.transpose()?;
    Ok(signals.first().map_or(Exit::Done, Signalled::exit))
}

/// A space in one line.
fn watched(space: &Space) -> String {
    let progress = &space.progress;
    let mut parts = vec![
        format!("{}, {}", count(space.aspects, "aspect"), bytes(space.bytes)),
        told_held(space),
    ];
    if let Some(filling) = filling(space) {
        parts.push(filling);
    } else if progress.rate.bytes_per_second >= 1.0 {
        parts.push(format!("{}/s come in", bytes(progress.rate.bytes_per_second as u64)));
    }
    parts.push(format!("copies: {}", told_copies(progress)));
    parts.push(match space.peers {
        0 => "no peer is connected".to_owned(),
        peers => format!("{} connected", count(peers as u64, "peer")),
    });
    if progress.outside.fraction > 0.0 {
        parts.push(format!("{} outside to hand over", share(&progress.outside)));
    }
    if space.full.is_some() {
        parts.push("TAKES NOTHING NEW".to_owned());
    }
    format!("{}: {}", printable(space.name.as_bytes()), parts.join("; "))
}

/// What of it is held, in words that promise nothing.
fn told_held(space: &Space) -> String {
    match (space.held.fraction, space.target.fraction) {
        (held, _) if held >= 1.0 && space.full.is_some() => {
            "held everything while it had room".to_owned()
        }
        (held, _) if held >= 1.0 => "holds everything".to_owned(),
        (0.0, 0.0) if !space.progress.automatic => "holds nothing, and aims at nothing".to_owned(),
        (0.0, _) => "does not hold all of any part yet".to_owned(),
        (held, target) if held >= target => {
            format!("holds all of its part, {}", share(&space.held))
        }
        _ => format!("holds all of {} and aims at {}", share(&space.held), share(&space.target)),
    }
}

/// How fast it is filled and how long that takes; nothing where nothing is to be filled.
fn filling(space: &Space) -> Option<String> {
    if space.held.fraction >= space.target.fraction || space.full.is_some() {
        return None;
    }
    let rate = space.progress.rate.bytes_per_second as u64;
    let comes = match rate {
        0 => "nothing comes at present".to_owned(),
        rate => format!("{}/s come in", bytes(rate)),
    };
    Some(match space.progress.left {
        None => format!("{comes}; how much is left is not known"),
        Some(Left { aspects, bytes: size, seconds: time }) => {
            let time = match time {
                Some(time) => format!(", some {}", seconds(time)),
                None => String::new(),
            };
            format!("{comes}; about {} left, {}{time}", count(aspects, "aspect"), bytes(size))
        }
    })
}

/// How many copies there are, against how many there should be.
fn told_copies(progress: &Progress) -> String {
    let Copies { min, target } = progress.copies_wanted;
    let wanted = format!("wanted at least {min}, normally {target}");
    let Some(copies) = progress.copies else {
        return format!("how many copies there are is not known; {wanted}");
    };
    // Down, so that nobody is told of more than there are.
    let number = |number: f64| {
        let tenths = (number * 10.0).floor() / 10.0;
        tenths.to_string()
    };
    let there = match (number(copies.min), number(copies.median)) {
        (min, median) if min == median => format!("{min} of everything in its part"),
        (min, median) => format!(
            "{min} where there are the fewest, at most {} of a twentieth and {median} of half of its part",
            number(copies.p5)
        ),
    };
    format!("{there}, as nodes claim and as likely as they can be reached; {wanted}")
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
    let progress = &space.progress;
    let mut text = format!(
        "space       {} #{}: {}, {}; {}",
        printable(space.name.as_bytes()),
        space.fingerprint,
        count(space.aspects, "aspect"),
        bytes(space.bytes),
        told_held(space),
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
    let line = |what: &str, text: String| format!("\n  {what:<8}  {text}");
    if let Some(filling) = filling(space) {
        text += &line("filling", filling);
    }
    text += &line("in sync", in_sync(space));
    text += &line("copies", told_copies(progress));
    text += &line("nodes", nodes(progress));
    text += &line("in all", in_all(space));
    if !progress.automatic {
        text += &line("part", format!("{}, as it was told", space.arc));
    }
    if progress.outside.fraction > 0.0 {
        let outside = share(&progress.outside);
        text += &line("outside", format!("what is held in {outside} waits for others to take it"));
    }
    for peer in peers {
        let shared = peer.spaces.iter().find(|shared| shared.fingerprint == space.fingerprint);
        if let Some(shared) = shared {
            text += &format!("\n  {}  {}", peer.id.short(), last_sync(shared));
        }
    }
    text
}

/// Whether what is held was seen to be the same elsewhere.
fn in_sync(space: &Space) -> String {
    let progress = &space.progress;
    if space.peers == 0 {
        return "not known: nobody to compare with at the moment".to_owned();
    }
    match progress.unverified.fraction {
        0.0 if space.target.fraction == 0.0 => "there is nothing to compare".to_owned(),
        0.0 => "yes: all of its part was seen to be the same at a connected peer".to_owned(),
        _ => format!(
            "not known of {} of the ring: not seen to be the same at any connected peer",
            share(&progress.unverified)
        ),
    }
}

fn nodes(progress: &Progress) -> String {
    let known = progress.known_nodes as u64;
    let away = known.saturating_sub(progress.reachable_nodes as u64);
    match (known, away) {
        (0, _) => "no other is known".to_owned(),
        (_, 0) => format!("{} known, none is known to be away", count(known, "other")),
        (_, _) if known == away => {
            format!("{} known, none of them in reach now", count(known, "other"))
        }
        _ => format!("{} known, {away} of them away", count(known, "other")),
    }
}

/// How much there is in all, and how sure that is.
fn in_all(space: &Space) -> String {
    match &space.progress.total {
        None => "not known: nobody claims to hold a part".to_owned(),
        Some(total) if total.low == total.high => {
            format!("{}, as far as is known here", count(total.aspects, "aspect"))
        }
        Some(total) => format!(
            "about {} (likely {} to {}), {}",
            count(total.aspects, "aspect"),
            HumanCount(total.low),
            HumanCount(total.high),
            bytes(total.bytes),
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::{Arcs, Level, Rate, Total};

    fn space() -> Space {
        let arcs = |fraction| Arcs { fraction, arcs: Vec::new() };
        Space {
            name: "notes".to_owned(),
            fingerprint: "0123456789".to_owned(),
            aspects: 100,
            bytes: 4096,
            held: arcs(0.25),
            target: arcs(0.5),
            arc: "auto".to_owned(),
            max_bytes: None,
            keep_seconds: None,
            full: None,
            peers: 1,
            progress: Progress {
                automatic: true,
                known_nodes: 3,
                reachable_nodes: 2,
                copies: Some(Level { min: 0.99, p5: 1.0, median: 2.87 }),
                copies_wanted: Copies { min: 8, target: 20 },
                total: Some(Total { aspects: 400, bytes: 16384, low: 350, high: 460 }),
                unverified: arcs(0.25),
                outside: arcs(0.0),
                rate: Rate { aspects_per_second: 10.0, bytes_per_second: 1024.0 },
                left: Some(Left { aspects: 100, bytes: 4096, seconds: Some(4.0) }),
            },
        }
    }

    #[test]
    fn what_is_not_known_is_said() {
        let mut space = space();
        let told = told_space(&space, &[]);
        for words in [
            "holds all of 25.00% and aims at 50.00%",
            "1.00 KiB/s come in; about 100 aspects left, 4.00 KiB, some 4 s",
            "not known of 25.00%",
            // Rounded down.
            "0.9 where there are the fewest, at most 1 of a twentieth and 2.8 of half",
            "about 400 aspects (likely 350 to 460)",
        ] {
            assert!(told.contains(words), "{words}: {told}");
        }
        let progress = &mut space.progress;
        (progress.copies, progress.total, progress.left) = (None, None, None);
        progress.rate.bytes_per_second = 0.0;
        space.peers = 0;
        let told = told_space(&space, &[]);
        for words in [
            "nothing comes at present; how much is left is not known",
            "how many copies there are is not known",
            "not known: nobody claims",
            "nobody to compare with",
        ] {
            assert!(told.contains(words), "{words}: {told}");
        }
        assert!(watched(&space).contains("no peer is connected"));
    }
}
