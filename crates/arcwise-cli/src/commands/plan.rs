//! `arcwise plan`: how many copies a space should want, and what they take.

use anyhow::anyhow;
use arcwise_sim::{
    plan::{self, Answer, PlanError, Question, Reason},
    results::Results,
};
use serde::Serialize;

use crate::{
    args::Plan,
    exit::{Exit, Usage},
    output::{Output, bytes, count, seconds},
};

/// What is printed as JSON.
#[derive(Serialize)]
struct Told<'a> {
    asked: &'a Question,
    answer: &'a Answer,
    #[serde(skip_serializing_if = "Option::is_none")]
    simulated: Option<Results>,
}

pub(super) async fn plan(args: Plan, output: Output) -> anyhow::Result<Exit> {
    let asked = question(&args);
    let answer = plan::plan(&asked).map_err(|error| no_answer(&error))?;
    let simulated = match args.simulate {
        true => Some(simulated(&asked, &answer, output).await?),
        false => None,
    };
    match output.json {
        true => output.json(&Told { asked: &asked, answer: &answer, simulated })?,
        false => output.line(told(&asked, &answer, simulated.as_ref()))?,
    }
    Ok(Exit::Done)
}

fn question(args: &Plan) -> Question {
    Question {
        nodes: args.nodes,
        online: args.uptime,
        session: args.session,
        life: args.life,
        bytes: args.size as f64,
        written: args.writes as f64,
        up: args.up as f64 * 8.0,
        down: args.down as f64 * 8.0,
        room: args.room.map(|room| room as f64),
        patience: args.patience,
        durability: args.nines,
        availability: args.reachable,
        at_once: args.at_once,
    }
}

/// Simulates the arcs, which takes a moment.
async fn simulated(asked: &Question, answer: &Answer, output: Output) -> anyhow::Result<Results> {
    let spinner = output.spinner("simulating such a network");
    let (asked, answer) = (asked.clone(), answer.clone());
    let results = tokio::task::spawn_blocking(move || plan::check(&asked, &answer, 1)).await;
    spinner.finish_and_clear();
    Ok(results?)
}

/// In words for people, with the options that are meant.
fn no_answer(error: &PlanError) -> anyhow::Error {
    let size = |size: f64| bytes(size as u64);
    match *error {
        PlanError::Field { field, problem } => {
            Usage(format!("{}: {problem}", option(field))).into()
        }
        PlanError::Copies { .. } | PlanError::Nodes { .. } => anyhow!("{error}"),
        PlanError::Room { copies, needed, room } => anyhow!(
            "{copies} copies take about {} on each node, and there is room for {}",
            size(needed),
            size(room)
        ),
        PlanError::Bandwidth { copies, needed, limit } => anyhow!(
            "{copies} copies take {} of each node's bandwidth, and it has {}",
            rate(needed),
            rate(limit)
        ),
    }
}

/// The option that a field of the question comes from.
fn option(field: &str) -> String {
    let name = match field {
        "online" => "uptime",
        "bytes" => "size",
        "written" => "writes",
        "durability" => "nines",
        "availability" => "reachable",
        "at_once" => "at-once",
        other => other,
    };
    format!("--{name}")
}

/// Of bits a second.
fn rate(bits: f64) -> String {
    format!("{}/s", bytes((bits / 8.0) as u64))
}

fn told(asked: &Question, answer: &Answer, simulated: Option<&Results>) -> String {
    let (least, normal) = answer.copies;
    let because = match answer.because {
        Reason::Durability => "because nodes go for good",
        Reason::AtOnce => "because so many nodes may go at once",
        Reason::Availability => "because nodes are off for a while",
        Reason::Least => "which is the least that makes sense",
    };
    let (disk, most) = answer.disk;
    let (urgent, usual) = answer.repair;
    let traffic = &answer.traffic;
    let mut lines = vec![
        format!(
            "asked       {} that are on {} of the time, {} in all, {} new in a day",
            count(asked.nodes, "node"),
            percent(asked.online),
            bytes(asked.bytes as u64),
            bytes(asked.written as u64)
        ),
        format!("copies      {normal} normally, {least} at the least: {because}"),
        format!("loss        of an aspect, in a year: {}", chance(answer.durability)),
    ];
    if asked.at_once > 0.0 {
        let part = percent(asked.at_once);
        lines.push(format!(
            "            of an aspect, when {part} of the nodes go at once: {}",
            chance(answer.at_once)
        ));
    }
    lines.extend([
        format!(
            "absence     of all copies of an aspect, at any time: {}",
            chance(answer.availability)
        ),
        format!(
            "replaced    what a node held, {} after it went where copies are few, {} elsewhere",
            seconds(urgent),
            seconds(usual)
        ),
        format!(
            "disk        about {} on each node, {} at most",
            bytes(disk as u64),
            bytes(most as u64)
        ),
        format!("bandwidth   {} sent by each node, and as much received", rate(traffic.total())),
        format!("  new       {}", rate(traffic.new)),
        format!("  gone      {}, in place of nodes that are gone for good", rate(traffic.gone)),
        format!(
            "  away      {} at most, in place of nodes that are away for long",
            rate(traffic.away)
        ),
        format!("  idle      {}, to keep connections and compare", rate(traffic.idle)),
    ]);
    lines.extend(simulated.map(outcome));
    lines.push(format!("do          arcwise space create NAME --copies {least},{normal}"));
    lines.join("\n")
}

/// What simulating the arcs has shown.
fn outcome(results: &Results) -> String {
    // In the beginning, nothing is held yet.
    let fewest = results.samples.iter().skip(1).map(|it| it.copies.0).fold(f64::INFINITY, f64::min);
    format!(
        "simulated   {} for {}: {fewest:.0} copies where and when there were the fewest, {} lost",
        count(results.scenario.nodes as u64, "node"),
        seconds(results.summary.seconds),
        match results.summary.lost.0 {
            0 => "nothing".to_owned(),
            lost => count(lost, "aspect"),
        }
    )
}

/// Of so many nines.
fn chance(nines: f64) -> String {
    match nines {
        it if it > 30.0 => "practically never".to_owned(),
        it => format!("1 in {}", power(it)),
    }
}

/// A power of ten, as far as people know names for them.
fn power(exponent: f64) -> String {
    const NAMES: [&str; 5] = ["", " thousand", " million", " billion", " trillion"];
    let thousands = (exponent.max(0.0) / 3.0) as usize;
    match NAMES.get(thousands) {
        Some(name) => {
            let number = 10f64.powf(exponent.max(0.0) - 3.0 * thousands as f64);
            format!("{number:.0}{name}")
        }
        None => format!("10^{exponent:.0}"),
    }
}

fn percent(part: f64) -> String {
    format!("{} %", (part * 1000.0).round() / 10.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn chances_for_people() {
        let shown = [0.0, 1.0, 3.0, 9.3, 14.9, 16.0, 99.0].map(chance);
        let wanted =
            ["1 in 1", "1 in 10", "1 in 1 thousand", "1 in 2 billion", "1 in 794 trillion"];
        assert_eq!(shown[..5], wanted);
        assert_eq!(shown[5..], ["1 in 10^16", "practically never"]);
        assert_eq!(percent(0.333), "33.3 %");
    }
}
