//! The summary for the terminal.

use super::{
    Group, command, groups,
    measures::MEASURES,
    text::{self, plain},
    verdict,
};
use crate::results::Results;

/// Violations that are told, of each run; the page and the JSON have all.
const VIOLATIONS: usize = 5;

/// Runs that did not hold and are told of.
const FAILED: usize = 10;

/// The summary of some results: numbers next to what was expected of them, and what did not hold.
pub fn table(results: &[Results]) -> String {
    let groups = groups(results);
    let mut lines = Vec::new();
    for group in &groups {
        lines.extend(about(group));
        lines.extend(
            group.results.first().and_then(|it| it.rule).map(|it| told("arcs by", it.name())),
        );
        lines.push(numbers(group));
        lines.extend(failed(group));
    }
    if let [one] = results {
        lines.push(told("seed", &one.seed.to_string()));
        lines.push(told("again", &command(one)));
        lines.push(told("fingerprint", &one.fingerprint));
    }
    lines.push(told("verdict", &verdict(results)));
    lines.join("\n")
}

fn told(name: &str, text: &str) -> String {
    format!("{name:<12}{text}")
}

fn about(group: &Group<'_>) -> Option<String> {
    let first = group.results.first()?;
    let scenario = &first.scenario;
    let (runs, took) = (group.results.len(), group.results.iter().map(|it| it.summary.took));
    Some(format!(
        "{}\n{}",
        told("scenario", &plain(&format!("{}: {}", scenario.name, scenario.about))),
        told(
            "simulated",
            &format!(
                "{} for {}, {}, in {}",
                text::count(scenario.nodes, "node"),
                text::seconds(first.summary.seconds),
                text::count(runs, "run"),
                text::seconds(took.sum())
            )
        )
    ))
}

/// Columns of what came out and what was expected.
fn numbers(group: &Group<'_>) -> String {
    let mut rows: Vec<Vec<String>> = match group.results.as_slice() {
        [_] => vec![vec![String::new(), "came out".into(), "expected".into(), String::new()]],
        _ => vec![["", "least", "median", "most", "expected", ""].map(str::to_owned).to_vec()],
    };
    let Some(first) = group.results.first() else { return String::new() };
    for measure in MEASURES {
        let ill = group.results.iter().filter(|it| measure.held(it) == Some(false)).count();
        let mark = match (ill, group.results.len()) {
            (0, _) => String::new(),
            (_, 1) => "NOT HELD".to_owned(),
            (ill, _) => format!("NOT HELD in {}", text::count(ill, "run")),
        };
        let mut row = vec![measure.name.to_owned()];
        match group.results.as_slice() {
            [one] => row.push(measure.value(one)),
            all => row.extend(measure.spread(all).map(|it| measure.told(it))),
        }
        row.extend([measure.wanted(first), mark]);
        rows.push(row);
    }
    columns(&rows)
}

/// The first and the last columns to the left, numbers to the right.
fn columns(rows: &[Vec<String>]) -> String {
    let columns = rows.iter().map(Vec::len).max().unwrap_or(0);
    let width = |column: usize| {
        rows.iter().filter_map(|row| row.get(column)).map(|it| it.chars().count()).max()
    };
    let widths: Vec<_> = (0..columns).map(|column| width(column).unwrap_or(0)).collect();
    let line = |row: &Vec<String>| {
        let mut line = "  ".to_owned();
        for (column, (cell, width)) in row.iter().zip(&widths).enumerate() {
            match column == 0 || column + 2 >= columns {
                true => line += &format!("{cell:<width$}  "),
                false => line += &format!("{cell:>width$}  "),
            }
        }
        line.trim_end().to_owned()
    };
    rows.iter().map(line).collect::<Vec<_>>().join("\n")
}

/// What did not hold, run by run.
fn failed(group: &Group<'_>) -> Vec<String> {
    let mut lines = Vec::new();
    let failed: Vec<_> = group.results.iter().filter(|it| !it.held()).collect();
    for run in failed.iter().take(FAILED) {
        if group.results.len() > 1 {
            lines.push(told("NOT HELD", &command(run)));
        }
        for violation in run.violations.iter().take(VIOLATIONS) {
            let words = format!("at {}: {}", text::time(violation.at), plain(&violation.what));
            lines.push(told("violation", &words));
        }
        if let Some(more) = run.violations.len().checked_sub(VIOLATIONS).filter(|it| *it > 0) {
            lines.push(told("", &format!("and {more} more")));
        }
        lines.extend(run.missed.iter().map(|missed| told("missed", &plain(missed))));
    }
    if let Some(more) = failed.len().checked_sub(FAILED).filter(|it| *it > 0) {
        lines.push(told("NOT HELD", &format!("in {} more", text::count(more, "run"))));
    }
    lines
}
