//! What people see of simulations: a page, a table for the terminal, and JSON.
//!
//! All three take several results: of many seeds, or of several scenarios or rules that are to be compared.

mod measures;
mod over_time;
mod page;
mod plot;
mod table;
mod text;

use crate::{
    flow::Rule,
    results::Results,
    scenario::{Scenario, Span},
};

pub use self::{page::html, table::table};

/// For programs: an array of all results.
///
/// # Errors
/// None: all of it can be written.
pub fn json(results: &[Results]) -> serde_json::Result<String> {
    serde_json::to_string(results)
}

/// Results that differ in nothing but their seed.
struct Group<'a> {
    /// What tells it from the others.
    name: String,
    results: Vec<&'a Results>,
}

/// In the order in which they are given.
fn groups(results: &[Results]) -> Vec<Group<'_>> {
    let mut groups: Vec<Group<'_>> = Vec::new();
    for result in results {
        let is_same = |group: &&mut Group<'_>| {
            let first = group.results.first();
            first.is_some_and(|it| (&it.scenario, it.rule) == (&result.scenario, result.rule))
        };
        match groups.iter_mut().find(is_same) {
            Some(group) => group.results.push(result),
            None => groups.push(Group { name: String::new(), results: vec![result] }),
        }
    }
    let same_scenario = results.windows(2).all(|it| match it {
        [a, b] => a.scenario == b.scenario,
        _ => true,
    });
    let same_rule =
        groups.len() < 2 || !same_scenario && results.iter().all(|it| it.rule.is_none());
    for group in &mut groups {
        let Some(first) = group.results.first() else { continue };
        group.name = match (same_scenario, same_rule) {
            (_, true) => first.scenario.name.clone(),
            (true, false) => rule(first).to_owned(),
            (false, false) => format!("{}, {}", first.scenario.name, rule(first)),
        };
    }
    groups
}

/// By what nodes decided on their arcs.
fn rule(results: &Results) -> &'static str {
    results.rule.map_or("full protocol", Rule::name)
}

/// Of which scenarios they are, and by which rules.
fn title(results: &[Results]) -> String {
    let mut names: Vec<_> = results.iter().map(|it| it.scenario.name.as_str()).collect();
    names.dedup();
    let mut rules: Vec<_> = results.iter().map(rule).collect();
    rules.dedup();
    match (names.as_slice(), rules.as_slice()) {
        ([], _) => "nothing".to_owned(),
        (names, ["full protocol"]) => names.join(", "),
        (names, rules) => format!("{}: arcs by {}", names.join(", "), rules.join(", ")),
    }
}

/// The command that gives the same results again. Of a scenario that is not built in, the file is to be there.
fn command(results: &Results) -> String {
    let Scenario { name, nodes, length, .. } = &results.scenario;
    let built_in = Scenario::named(name).and_then(Result::ok);
    let same = built_in
        .filter(|it| Scenario { nodes: *nodes, length: *length, ..it.clone() } == results.scenario);
    let mut command = match &same {
        Some(_) => format!("arcwise simulate {name}"),
        None => format!("arcwise simulate {name}.toml"),
    };
    if let Some(built_in) = same {
        if built_in.nodes != *nodes {
            command += &format!(" --nodes {nodes}");
        }
        if built_in.length != *length {
            command += &format!(" --length {length}");
        }
    }
    match results.rule {
        Some(Rule::Arcwise) => command += " --flow",
        Some(rule) => command += &format!(" --flow --rule {}", rule.name()),
        None => {}
    }
    command + &format!(" --seed {}", results.seed)
}

/// Whether that was so in all of them: in a few words.
fn verdict(results: &[Results]) -> String {
    let held = results.iter().filter(|it| it.held()).count();
    match results {
        [] => "Nothing was simulated.".to_owned(),
        [one] if one.held() => {
            "Held: all that must always be, and all that was expected.".to_owned()
        }
        [one] => format!("Did NOT hold: {}.", faults(one)),
        all if held == all.len() => format!("Held with all {held} runs."),
        all => {
            let failed: Vec<_> = all.iter().filter(|it| !it.held()).collect();
            let first = failed.first().map_or(String::new(), |it| faults(it));
            format!("Did NOT hold in {} of {} runs: {first}, for one.", failed.len(), all.len())
        }
    }
}

/// What did not hold, in a few words.
fn faults(results: &Results) -> String {
    let mut parts = Vec::new();
    match results.violations.as_slice() {
        [] => {}
        [one] => parts.push(format!("at {} {}", text::time(one.at), text::plain(&one.what))),
        [first, ..] => parts.push(format!(
            "{} times what must never be, first at {}: {}",
            text::number(results.violations.len() as f64),
            text::time(first.at),
            text::plain(&first.what)
        )),
    }
    parts.extend(results.missed.iter().map(|missed| text::plain(missed)));
    parts.join("; ")
}

/// What happens once: when it begins, how long it goes on, and in words.
fn happenings(scenario: &Scenario) -> Vec<(f64, f64, String)> {
    use crate::scenario::What;
    let seconds = |span: Span| span.0.as_secs_f64();
    let part = text::percent;
    let mut happenings: Vec<_> = scenario
        .events
        .iter()
        .map(|event| {
            let (lasts, words) = match event.what {
                What::Lose { part: it } => {
                    (Span::default(), format!("{} of the nodes are gone for good", part(it)))
                }
                What::Crash { part: it, away } => {
                    (away, format!("{} of the nodes crash, and come back", part(it)))
                }
                What::Join { part: it, over } => {
                    (over, format!("newcomers: {} of all from then on", part(it)))
                }
                What::Restart { over, away } => {
                    (Span(over.0 + away.0), format!("all restart in turn, each away for {away}"))
                }
                What::Cut { part: it, lasts } => {
                    (lasts, format!("{} of the nodes are cut off from the others", part(it)))
                }
            };
            (seconds(event.at), seconds(lasts), words)
        })
        .collect();
    happenings.sort_by(|a, b| a.0.total_cmp(&b.0));
    happenings
}
