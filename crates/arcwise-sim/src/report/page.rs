//! The page: one file that needs nothing else.

use std::fmt::Write as _;

use super::{
    Group, command, groups, happenings,
    measures::{MEASURES, Measure, Wanted},
    over_time,
    plot::{Axis, Histogram, Mark, Plot, Scale},
    text::{self, escaped},
    title, verdict,
};
use crate::{results::Results, scenario::Scenario};

/// Violations that are listed of each run.
const VIOLATIONS: usize = 50;

/// Runs that did not hold and of which the violations are listed.
const FAILED: usize = 20;

/// A page about some results, in HTML: whether all held, the numbers, plots, what did not hold, and how to
/// run it again. It needs no other file and no network.
pub fn html(results: &[Results]) -> String {
    let groups = groups(results);
    let mut page = String::new();
    head(&mut page, results, &groups);
    numbers(&mut page, &groups);
    failed(&mut page, results);
    plots(&mut page, results, &groups);
    if results.len() > 1 {
        distributions(&mut page, &groups);
        runs(&mut page, results);
    }
    again(&mut page, results, &groups);
    page + "</main>\n</html>\n"
}

/// Appends text; a string takes whatever there is.
macro_rules! put {
    ($page:expr, $($text:tt)*) => { let _ = writeln!($page, $($text)*); };
}

fn head(page: &mut String, results: &[Results], groups: &[Group<'_>]) {
    let title = escaped(&title(results));
    let held = results.iter().all(Results::held);
    put!(
        page,
        "<!doctype html>\n<html lang=\"en\">\n<meta charset=\"utf-8\">\n\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
         <meta name=\"color-scheme\" content=\"light dark\">\n\
         <title>{title}: {} · Arcwise simulation</title>\n<style>\n{}</style>\n<main>\n\
         <p class=\"dim\">Arcwise simulation</p>\n<h1>{title}</h1>",
        if held { "held" } else { "did not hold" },
        include_str!("style.css")
    );
    let mut told = None;
    for group in groups {
        let Some(first) = group.results.first() else { continue };
        let scenario = &first.scenario;
        if told.replace(scenario) == Some(scenario) {
            continue;
        }
        put!(page, "<p>{}</p>", escaped(&scenario.about));
        let runs = match group.results.as_slice() {
            [one] => format!("seed {}", one.seed),
            all => text::count(all.len(), "run"),
        };
        put!(
            page,
            "<p class=\"dim\">{}, {} of virtual time, {runs}; {} copies wanted, at least {}</p>",
            text::count(scenario.nodes, "node"),
            text::seconds(first.summary.seconds),
            scenario.copies.1,
            scenario.copies.0,
        );
    }
    let (class, sign) = if held { ("well", "✓") } else { ("ill", "✗") };
    put!(page, "<p class=\"verdict {class}\">{sign} {}</p>", escaped(&verdict(results)));
}

/// What came out: first what something is expected of.
fn numbers(page: &mut String, groups: &[Group<'_>]) {
    let Some(first) = groups.first().and_then(|group| group.results.first()) else { return };
    let (judged, told): (Vec<_>, Vec<_>) =
        MEASURES.iter().partition(|measure| (measure.wanted)(first) != Wanted::Any);
    // What is compared needs the whole width.
    let class = if groups.len() == 1 { "sides" } else { "stack" };
    put!(page, "<h2>What came out</h2>\n<div class=\"{class}\">");
    columns(page, groups, true);
    judged.into_iter().for_each(|measure| row(page, measure, groups, true));
    put!(page, "</table></div>");
    columns(page, groups, false);
    told.into_iter().for_each(|measure| row(page, measure, groups, false));
    put!(page, "</table></div></div>");
    if groups.len() > 1 && groups.iter().any(|group| group.results.len() > 1) {
        put!(page, "<p class=\"dim\">The median of the runs; below it the least and the most.</p>");
    }
}

/// Begins a table.
fn columns(page: &mut String, groups: &[Group<'_>], judged: bool) {
    let number = |page: &mut String, name: &str| {
        let _ = write!(page, "<th class=\"number\">{}</th>", escaped(name));
    };
    page.push_str("<div class=\"wide\"><table><tr><th></th>");
    match groups {
        [one] if one.results.len() == 1 => number(page, "came out"),
        [_] => ["least", "median", "most"].into_iter().for_each(|name| number(page, name)),
        groups => groups.iter().for_each(|group| number(page, &group.name)),
    }
    if judged {
        page.push_str("<th class=\"wanted\">expected</th>");
    }
    put!(page, "</tr>");
}

fn row(page: &mut String, measure: &Measure, groups: &[Group<'_>], judged: bool) {
    let all = groups.iter().flat_map(|it| &it.results);
    let verdicts: Vec<_> = all.filter_map(|it| measure.held(it)).collect();
    let ill = verdicts.iter().filter(|held| !**held).count();
    let (class, mark) = match (!verdicts.is_empty(), ill) {
        (false, _) => ("", ""),
        (true, 0) => ("well-text", "✓ "),
        (true, _) => ("ill-text", "✗ "),
    };
    let runs = groups.iter().map(|group| group.results.len()).sum::<usize>();
    let failed = match (ill, runs) {
        (0, _) | (_, 1) => String::new(),
        (ill, _) => format!(" Too much in {}.", text::count(ill, "run")),
    };
    let part = if measure.name.starts_with(' ') { " class=\"part\"" } else { "" };
    let (name, about) = (measure.name.trim(), measure.about);
    let _ = match judged {
        true => write!(
            page,
            "<tr><td><span class=\"{class}\">{mark}{name}</span><small>{about}{failed}</small></td>"
        ),
        false => write!(page, "<tr title=\"{}\"><td{part}>{name}</td>", escaped(about)),
    };
    let mut wanted: Vec<_> = Vec::new();
    for group in groups {
        wanted.extend(group.results.first().map(|first| measure.wanted(first)));
        let [least, median, most] = measure.spread(&group.results).map(|it| measure.told(it));
        let cells = match (groups.len(), group.results.len()) {
            (_, 1) => vec![median],
            (1, _) => vec![least, median, most],
            _ => vec![format!("{median}<small>{least} to {most}</small>")],
        };
        for cell in cells {
            let _ = write!(page, "<td class=\"number\">{cell}</td>");
        }
    }
    wanted.dedup();
    if judged {
        let _ = write!(page, "<td class=\"wanted\">{}</td>", wanted.join(" or "));
    }
    put!(page, "</tr>");
}

/// How the runs differ.
fn distributions(page: &mut String, groups: &[Group<'_>]) {
    let drawn: String = MEASURES.iter().filter_map(|measure| histogram(measure, groups)).collect();
    if !drawn.is_empty() {
        put!(page, "<h2>How the runs differ</h2>");
        put!(
            page,
            "<p class=\"dim\">How many runs came to what; red: those that did not hold.</p>"
        );
        put!(page, "<div class=\"plots\">{drawn}</div>");
    }
}

/// Of a number that is not the same in all runs.
fn histogram(measure: &Measure, groups: &[Group<'_>]) -> Option<String> {
    let values = |group: &Group<'_>| -> Vec<_> {
        group.results.iter().map(|it| ((measure.of)(it), it.held())).collect()
    };
    let values: Vec<_> = groups.iter().map(|it| (it.name.clone(), values(it))).collect();
    let mut all = values.iter().flat_map(|(_, values)| values.iter().map(|it| it.0));
    let first = all.next()?;
    let is_known = values.iter().all(|(_, values)| values.iter().all(|it| it.0.is_finite()));
    if measure.name.starts_with(' ') || !is_known || all.all(|it| it == first) {
        return None;
    }
    let most = match (measure.wanted)(groups.first()?.results.first()?) {
        Wanted::Most(most) => Some(most),
        Wanted::Any | Wanted::About(..) => None,
    };
    let axis = Axis { scale: Scale::Linear, show: measure.show, unit: "", units: measure.units };
    let (title, about) = (measure.name, measure.about.to_owned());
    Some(Histogram { title, about, axis, groups: values, most }.html())
}

/// What is drawn over time.
fn plots(page: &mut String, results: &[Results], groups: &[Group<'_>]) {
    let mut marks = marks(groups);
    let plots = match results {
        [one] => over_time::of_one(one, &marks),
        _ => over_time::of_several(groups),
    };
    marks.extend(quiet(groups));
    put!(page, "<h2>Over virtual time</h2>");
    if !marks.is_empty() {
        put!(page, "<ul class=\"events\">");
        for mark in &marks {
            let until = match mark.lasts {
                0.0 => String::new(),
                lasts => format!(" to {}", text::time(mark.at + lasts)),
            };
            let (name, at, about) = (&mark.name, text::time(mark.at), escaped(&mark.about));
            put!(page, "<li><b>{name}</b> {at}{until}: {about}</li>");
        }
        put!(page, "</ul>");
    }
    let (drawn, empty): (Vec<_>, Vec<_>) = plots.iter().partition(|plot| !plot.is_empty());
    put!(page, "<div class=\"plots\">");
    drawn.iter().for_each(|plot: &&Plot| page.push_str(&plot.html(&marks)));
    put!(page, "</div>");
    if !empty.is_empty() {
        let titles: Vec<_> = empty.iter().map(|plot| plot.title.to_lowercase()).collect();
        put!(page, "<p class=\"dim\">There were none at any time of: {}.</p>", titles.join(", "));
    }
}

/// What happens in all of the groups.
fn marks(groups: &[Group<'_>]) -> Vec<Mark> {
    let Some(scenario) = same_times(groups) else { return Vec::new() };
    let names = ('A'..='P').map(String::from);
    let happenings = happenings(scenario).into_iter().zip(names);
    happenings.map(|((at, lasts, about), name)| Mark { name, at, lasts, about }).collect()
}

/// The time at the end.
fn quiet(groups: &[Group<'_>]) -> Option<Mark> {
    let scenario = same_times(groups)?;
    let (lasts, length) = (scenario.quiet.0.as_secs_f64(), scenario.length.0.as_secs_f64());
    let about = "quiet: nothing is published, and nobody comes or goes".to_owned();
    (lasts > 0.0).then(|| Mark { name: "Q".to_owned(), at: length - lasts, lasts, about })
}

/// The scenario, where the same happens at the same time in all groups.
fn same_times<'a>(groups: &[Group<'a>]) -> Option<&'a Scenario> {
    let scenarios = groups.iter().filter_map(|group| Some(&group.results.first()?.scenario));
    let mut scenarios: Vec<_> = scenarios.collect();
    scenarios.dedup_by(|a, b| (&a.events, a.quiet, a.length) == (&b.events, b.quiet, b.length));
    match scenarios.as_slice() {
        [scenario] => Some(scenario),
        _ => None,
    }
}

/// All runs, those first that did not hold.
fn runs(page: &mut String, results: &[Results]) {
    let shown: Vec<_> = MEASURES.iter().filter(|it| !it.name.starts_with(' ')).take(12).collect();
    let mut sorted: Vec<_> = results.iter().collect();
    sorted.sort_by_key(|it| it.held());
    let open = if sorted.len() <= 20 { " open" } else { "" };
    put!(
        page,
        "<h2>Run by run</h2>\n<details{open}><summary>{}, those first that did not hold</summary>",
        text::count(sorted.len(), "run")
    );
    put!(
        page,
        "<div class=\"wide\"><table>\n<tr><th>scenario</th><th class=\"number\">seed</th><th></th>"
    );
    for measure in &shown {
        put!(page, "<th class=\"number\">{}</th>", measure.name);
    }
    put!(page, "</tr>");
    for run in sorted {
        let verdict = match run.held() {
            true => "<span class=\"well-text\">✓</span>",
            false => "<span class=\"ill-text\">✗</span>",
        };
        let (name, seed) = (escaped(&run.scenario.name), run.seed);
        put!(page, "<tr><td>{name}</td><td class=\"number\">{seed}</td><td>{verdict}</td>");
        for measure in &shown {
            let class = if measure.held(run) == Some(false) { "number ill-text" } else { "number" };
            put!(page, "<td class=\"{class}\">{}</td>", measure.value(run));
        }
        put!(page, "</tr>");
    }
    put!(page, "</table></div></details>");
}

/// What did not hold, run by run.
fn failed(page: &mut String, results: &[Results]) {
    let failed: Vec<_> = results.iter().filter(|it| !it.held()).collect();
    if failed.is_empty() {
        return;
    }
    put!(page, "<h2>What did not hold</h2>");
    for run in failed.iter().take(FAILED) {
        if results.len() > 1 {
            put!(page, "<p><code>{}</code></p>", escaped(&command(run)));
        }
        if !run.missed.is_empty() {
            put!(page, "<p>Expected, and did not come true:</p><ul>");
            run.missed.iter().for_each(|missed| {
                put!(page, "<li>{}</li>", escaped(missed));
            });
            put!(page, "</ul>");
        }
        if run.violations.is_empty() {
            continue;
        }
        put!(page, "<p>What must never be:</p>\n<div class=\"wide\"><table>");
        for violation in run.violations.iter().take(VIOLATIONS) {
            let (at, what) = (text::time(violation.at), escaped(&violation.what));
            put!(page, "<tr><td class=\"number\">{at}</td><td class=\"long\">{what}</td></tr>");
        }
        put!(page, "</table></div>");
        if let Some(more) = run.violations.len().checked_sub(VIOLATIONS).filter(|it| *it > 0) {
            put!(page, "<p>And {} more, in the JSON.</p>", text::number(more as f64));
        }
    }
    if let Some(more) = failed.len().checked_sub(FAILED).filter(|it| *it > 0) {
        put!(page, "<p>And {} more.</p>", text::count(more, "run"));
    }
}

/// How to get the same again.
fn again(page: &mut String, results: &[Results], groups: &[Group<'_>]) {
    put!(page, "<h2>Run it again</h2>");
    put!(page, "<p>The same scenario and seed give the same results, to the bit.</p>");
    for group in groups {
        let Some(first) = group.results.first() else { continue };
        let run = group.results.iter().find(|it| !it.held()).unwrap_or(first);
        put!(page, "<pre>{}</pre>", escaped(&command(run)));
        let toml = first.scenario.to_toml().unwrap_or_default();
        put!(
            page,
            "<details><summary>The scenario, {}.toml</summary><pre>{}</pre></details>",
            escaped(&first.scenario.name),
            escaped(&toml)
        );
    }
    if let [one] = results {
        put!(
            page,
            "<p class=\"dim\">Fingerprint of all that happened: <code>{}</code>. {} events in {}.</p>",
            escaped(&one.fingerprint),
            text::number(one.summary.events as f64),
            text::seconds(one.summary.took),
        );
    }
}
