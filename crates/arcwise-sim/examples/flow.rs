//! Simulates the arcs of a network, and prints how they fared.
//!
//! `cargo run --release -p arcwise-sim --example flow -- SCENARIO.toml --nodes N --seed S --rule arcwise`

use std::error::Error;

use arcwise_sim::{
    flow::{Options, Rule, run_with},
    scenario::Scenario,
};

fn main() -> Result<(), Box<dyn Error>> {
    let mut scenario = None;
    let (mut nodes, mut seed, mut options) = (None, 1, Options::default());
    let (mut verbose, mut copies, mut seeds) = (false, None, None);
    let mut args = std::env::args().skip(1);
    while let Some(arg) = args.next() {
        let mut value = || args.next().ok_or(format!("{arg} needs a value"));
        match arg.as_str() {
            "--nodes" => nodes = Some(value()?.parse()?),
            "--seed" => seed = value()?.parse()?,
            "--threads" => options.threads = value()?.parse()?,
            "--settled" => options.settled = true,
            "--seeds" => seeds = Some(value()?.parse()?),
            "--verbose" => verbose = true,
            "--copies" => {
                let both = value()?;
                let (least, normal) = both.split_once(',').ok_or("--copies LEAST,NORMAL")?;
                copies = Some((least.parse()?, normal.parse()?));
            }
            "--rule" => {
                options.rule = match value()?.as_str() {
                    "arcwise" => Rule::Arcwise,
                    "lib3h" => Rule::Lib3h,
                    "kitsune" => Rule::Kitsune,
                    other => Err(format!("no rule `{other}`: arcwise, lib3h or kitsune"))?,
                }
            }
            path => scenario = Some(std::fs::read_to_string(path)?),
        }
    }
    let text = scenario.ok_or("give a scenario, a TOML file")?;
    let mut scenario = Scenario::parse(&text)?;
    scenario.nodes = nodes.unwrap_or(scenario.nodes);
    scenario.copies = copies.unwrap_or(scenario.copies);
    scenario.check()?;
    if let Some(count) = seeds {
        many(&scenario, seed, count, options);
        return Ok(());
    }
    let results = run_with(&scenario, seed, options, &mut |_| {});
    if verbose {
        println!(
            "     at   nodes  min   p5  median  below  mean arc   most  changed  lacking  lost  filled"
        );
        for it in &results.samples {
            let (min, p5, median) = it.copies;
            println!(
                "{:7} {:7} {min:4} {p5:4} {median:7} {:6} {:9.6} {:6.4} {:8} {:8} {:5} {:.3e}",
                it.at,
                it.nodes,
                it.below_min,
                it.arcs.2,
                it.arcs.3,
                it.changed,
                it.lacking,
                it.lost,
                it.bytes.gossip as f64,
            );
        }
    }
    println!("{:#?}", results.summary);
    println!("missed: {:#?}", results.missed);
    println!("{}", results.fingerprint);
    Ok(())
}

/// One line for many seeds: in how many of them data was lost, or there was a place without a copy or with
/// fewer than the least number, for how long at the most; the median of copies at the end, on average, and
/// the most loaded node.
fn many(scenario: &Scenario, first: u64, count: u64, options: Options) {
    let (mut lost, mut empty, mut below) = (0, 0, 0);
    let (mut longest, mut copies, mut load, mut changing) = (0f64, 0.0, 0f64, 0.0);
    for seed in first..first + count {
        let results = run_with(scenario, seed, options, &mut |_| {});
        let (it, samples) = (&results.summary, &results.samples);
        lost += usize::from(it.lost.0 > 0);
        // The first minutes are for everybody to come.
        let later = samples.iter().filter(|sample| sample.at > 300.0);
        empty += usize::from(later.map(|sample| sample.copies.0).any(|least| least == 0.0));
        below += usize::from(it.below_min > 0.0);
        longest = longest.max(it.below_min);
        copies += it.copies.2 / count as f64;
        load = load.max(it.load);
        changing += it.changing / count as f64;
    }
    println!(
        "{} {:?} {:?} seeds {count}: lost {lost} empty {empty} below {below} for {longest} s, copies {copies:.1}, \
         load {load:.2}, changing {:.2} %",
        scenario.name,
        options.rule,
        scenario.copies,
        100.0 * changing,
    );
}
