//! `arcwise simulate`: networks in virtual time.

use std::{
    fs::{self, OpenOptions},
    io,
    num::NonZero,
    path::Path,
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
    time::Instant,
};

use anyhow::Context;
use arcwise_sim::{
    Options, Progress, flow, report,
    results::{Results, Sample},
    scenario::{BUILT_IN, Scenario, What},
    shrink,
};
use indicatif::ProgressBar;
use serde::Serialize;
use tokio_util::sync::CancellationToken;

use crate::{
    args::{Rule, Simulate},
    exit::{Exit, NotFound, Usage},
    files::{printable, printable_path},
    output::{Output, table},
    signals::stop_at_signals,
};

/// Steps of the progress bar for each run.
const STEPS: u64 = 1000;

/// Names that are less alike are not meant. As clap has it for commands.
const ALIKE: f64 = 0.7;

/// A scenario that is built in, as it is listed.
#[derive(Serialize)]
struct Listed {
    name: String,
    about: String,
    nodes: usize,
    length: String,
}

pub(super) async fn simulate(args: Simulate, output: Output) -> anyhow::Result<Exit> {
    let Some(name) = args.scenario.as_deref() else { return list(output) };
    let text = text(name)?;
    let wrong = |error| Usage(format!("{}: {error}", printable(name.as_bytes())));
    let mut scenario = Scenario::parse(&text).map_err(wrong)?;
    if args.show {
        output.line(text.trim_end())?;
        return Ok(Exit::Done);
    }
    scenario.nodes = args.nodes.unwrap_or(scenario.nodes);
    scenario.length = args.length.unwrap_or(scenario.length);
    scenario.check().map_err(wrong)?;
    let is_cut = scenario.events.iter().any(|event| matches!(event.what, What::Cut { .. }));
    if args.flow && is_cut {
        let words = "with --flow there are no messages, and so no network that could be cut";
        return Err(Usage(format!("{}: {words}", printable(name.as_bytes()))).into());
    }
    for file in args.html.iter().chain(&args.shrink) {
        writable(file)?;
    }

    let stop = CancellationToken::new();
    let signals = stop_at_signals(stop.clone())?;
    let jobs = jobs(&args, args.seed.or(scenario.seed).unwrap_or(1));
    let (check, shrinks) = (!args.unchecked, args.shrink.is_some());
    let running = tokio::task::spawn_blocking(move || {
        let results = runs(&scenario, &jobs, check, output);
        let smallest = results.iter().find(|it| shrinks && !it.held());
        let smallest = smallest.map(|it| shrunk(it, check, output));
        (results, smallest)
    });
    let (results, smallest) = match stop.run_until_cancelled(running).await {
        Some(results) => results.context("the simulation has failed")?,
        // It ends with the process.
        None => return Ok(signals.first().map_or(Exit::Failed, |signal| signal.exit())),
    };

    if let Some(file) = &args.html {
        fs::write(file, report::html(&results)).with_context(|| cannot_write(file))?;
        output.say(format_args!("The report is in {}.", printable_path(file)));
    }
    if let Some((file, smallest)) = args.shrink.as_ref().zip(smallest) {
        let text = smallest.to_toml().context("the scenario cannot be written")?;
        fs::write(file, text).with_context(|| cannot_write(file))?;
        output.say(format_args!("The smallest that fails is in {}.", printable_path(file)));
    }
    match output.json {
        true => output.line(report::json(&results)?)?,
        false => output.line(report::table(&results))?,
    }
    Ok(if results.iter().all(Results::held) { Exit::Done } else { Exit::Failed })
}

fn list(output: Output) -> anyhow::Result<Exit> {
    let listed = built_in().map(|it| Listed {
        name: it.name,
        about: it.about,
        nodes: it.nodes,
        length: it.length.to_string(),
    });
    if output.json {
        output.json(&listed.collect::<Vec<_>>())?;
        return Ok(Exit::Done);
    }
    let head = ["NAME", "NODES", "LENGTH", "WHAT IT SHOWS"].map(str::to_owned);
    let rows = listed.map(|it| [it.name, it.nodes.to_string(), it.length, it.about]);
    output.line(table("<>><", &[head].into_iter().chain(rows).collect::<Vec<_>>()))?;
    Ok(Exit::Done)
}

fn built_in() -> impl Iterator<Item = Scenario> {
    BUILT_IN.iter().filter_map(|(name, _)| Scenario::named(name)?.ok())
}

/// What `--help` says after all else.
pub(crate) fn help() -> String {
    let rows: Vec<_> = built_in().map(|it| [format!("  {}", it.name), it.about]).collect();
    format!(
        "\
Scenarios that are built in:
{}

Examples:
  arcwise simulate loss-30 --html report.html
  arcwise simulate churn --nodes 1000 --seed 7
  arcwise simulate merge --seeds 20 --json > results.json
  arcwise simulate loss-50 --show > mine.toml    a beginning for one's own
  arcwise simulate mine.toml
  arcwise simulate loss-30 --nodes 100000 --flow --rule arcwise,lib3h --html compared.html",
        table("<<", &rows)
    )
}

/// Of a scenario that is built in, or of a file.
fn text(name: &str) -> anyhow::Result<String> {
    if let Some((_, text)) = BUILT_IN.iter().find(|(known, _)| *known == name) {
        return Ok((*text).to_owned());
    }
    match fs::read_to_string(name) {
        Ok(text) => Ok(text),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Err(unknown(name).into()),
        Err(error) => Err(error).context(format!("cannot read {}", printable(name.as_bytes()))),
    }
}

fn unknown(name: &str) -> NotFound {
    let names = || BUILT_IN.iter().map(|(known, _)| *known);
    let alike = |known: &str| strsim::jaro_winkler(&name.to_lowercase(), known);
    let nearest = names().max_by(|a, b| alike(a).total_cmp(&alike(b)));
    let meant = match nearest.filter(|it| alike(it) > ALIKE) {
        Some(nearest) => format!("; did you mean {nearest}?"),
        None => String::new(),
    };
    NotFound(format!(
        "{} is no scenario and no file{meant}\nScenarios that are built in: {}",
        printable(name.as_bytes()),
        names().collect::<Vec<_>>().join(", ")
    ))
}

/// Finds out before the simulation whether the report can be written after it. What is there stays for now.
fn writable(file: &Path) -> anyhow::Result<()> {
    let opened = OpenOptions::new().append(true).create(true).open(file);
    opened.map(drop).with_context(|| cannot_write(file))
}

fn cannot_write(file: &Path) -> String {
    format!("cannot write {}", printable_path(file))
}

/// One run: its seed, and in the model of the arcs alone the rule.
type Job = (u64, Option<flow::Rule>);

fn jobs(args: &Simulate, first: u64) -> Vec<Job> {
    let rule = |rule: &Rule| match rule {
        Rule::Arcwise => flow::Rule::Arcwise,
        Rule::Lib3h => flow::Rule::Lib3h,
        Rule::Kitsune => flow::Rule::Kitsune,
    };
    let rules = match args.flow {
        true => args.rule.iter().map(|it| Some(rule(it))).collect(),
        false => vec![None],
    };
    let seeds = || (0..u64::from(args.seeds)).map(|it| first.wrapping_add(it));
    rules.into_iter().flat_map(|rule| seeds().map(move |seed| (seed, rule))).collect()
}

/// The smallest scenario that fails as this run has: in what must always hold, or in what was expected.
fn shrunk(failed: &Results, check: bool, output: Output) -> Scenario {
    let cores = thread::available_parallelism().map_or(1, NonZero::get);
    let (options, mut number) = (Options { threads: cores, check }, 0);
    let violated = !failed.violations.is_empty();
    let (smallest, seed) = shrink(&failed.scenario, failed.seed, &mut |scenario, seed| {
        number += 1;
        output.say(format_args!("Run {number}: {} nodes, {}", scenario.nodes, scenario.length));
        let results = arcwise_sim::run(scenario, seed, &options, &mut |_| {});
        if violated { !results.violations.is_empty() } else { !results.held() }
    });
    Scenario { seed: Some(seed), ..smallest }
}

/// Does each of the jobs: one on all cores, or several beside each other.
fn runs(scenario: &Scenario, jobs: &[Job], check: bool, output: Output) -> Vec<Results> {
    let cores = thread::available_parallelism().map_or(1, NonZero::get);
    let workers = cores.min(jobs.len());
    let options = Options { threads: cores / workers.max(1), check };
    let bar = output.part(scenario.name.clone(), jobs.len() as u64 * STEPS);
    let next = AtomicUsize::new(0);
    let results = Mutex::new(Vec::new());
    thread::scope(|scope| {
        for _ in 0..workers {
            scope.spawn(|| {
                loop {
                    let number = next.fetch_add(1, Ordering::Relaxed);
                    let Some(job) = jobs.get(number) else { return };
                    let mut shown = Shown { bar: &bar, alone: jobs.len() == 1, position: 0 };
                    let run = one(scenario, *job, &options, &mut shown);
                    let mut results = results.lock().unwrap_or_else(PoisonError::into_inner);
                    results.push((number, run));
                }
            });
        }
    });
    bar.finish_and_clear();
    let mut results = results.into_inner().unwrap_or_else(PoisonError::into_inner);
    results.sort_by_key(|(number, _)| *number);
    results.into_iter().map(|(_, run)| run).collect()
}

fn one(
    scenario: &Scenario,
    (seed, rule): Job,
    options: &Options,
    shown: &mut Shown<'_>,
) -> Results {
    match rule {
        None => arcwise_sim::run(scenario, seed, options, &mut |it| shown.show(it)),
        Some(rule) => {
            let began = Instant::now();
            let mut results = flow::run(scenario, seed, rule, &mut |part| {
                shown.show(Progress { part, sample: None });
            });
            results.summary.took = began.elapsed().as_secs_f64();
            results
        }
    }
}

/// How far one run is, on the bar of all.
struct Shown<'a> {
    bar: &'a ProgressBar,
    /// There is no other run.
    alone: bool,
    position: u64,
}

impl Shown<'_> {
    fn show(&mut self, progress: Progress<'_>) {
        let position = (progress.part.clamp(0.0, 1.0) * STEPS as f64) as u64;
        self.bar.inc(position.saturating_sub(self.position));
        self.position = self.position.max(position);
        if self.alone
            && let Some(sample) = progress.sample
        {
            self.bar.set_message(told(sample));
        }
    }
}

/// A moment in a few words.
fn told(sample: &Sample) -> String {
    let (fewest, _, median) = sample.copies;
    format!("{} nodes on, {fewest:.0} copies at least, {median:.0} of half", sample.nodes)
}
