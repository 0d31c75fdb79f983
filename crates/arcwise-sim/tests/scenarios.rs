//! Networks in virtual time: what must always hold, does; and a seed is a seed.

use arcwise_sim::{
    Options,
    results::Results,
    run,
    scenario::{BUILT_IN, Scenario, Span, What},
};

/// Few nodes and a short time, so that all scenarios can be run with a handful of seeds: those with more are
/// for the night.
fn small(text: &str) -> Scenario {
    let mut scenario = Scenario::parse(text).unwrap();
    let shorter = |span: &mut Span| span.0 /= 4;
    scenario.nodes = 20;
    scenario.copies = (3, 6);
    shorter(&mut scenario.length);
    shorter(&mut scenario.quiet);
    shorter(&mut scenario.patience);
    for event in &mut scenario.events {
        shorter(&mut event.at);
        match &mut event.what {
            What::Lose { .. } => {}
            What::Crash { away: span, .. }
            | What::Join { over: span, .. }
            | What::Cut { lasts: span, .. } => shorter(span),
            What::Restart { over, away } => {
                shorter(over);
                shorter(away);
            }
        }
    }
    scenario.people.entries = 300;
    scenario
}

fn held(results: &Results) -> bool {
    results.violations.is_empty() && results.summary.lost.1 == 0
}

fn all_hold(seeds: std::ops::RangeInclusive<u64>) {
    let mut failed = Vec::new();
    for (name, text) in BUILT_IN {
        let scenario = small(text);
        for seed in seeds.clone() {
            let results = run(&scenario, seed, &Options::default(), &mut |_| {});
            if !held(&results) {
                failed.push(format!("{name}, seed {seed}: {:#?}", results.violations));
            }
        }
    }
    assert!(failed.is_empty(), "{}", failed.join("\n"));
}

#[test]
fn what_must_hold_does_with_one_seed() {
    all_hold(1..=1);
}

#[test]
fn what_must_hold_does_with_another() {
    all_hold(2..=2);
}

#[test]
fn a_seed_is_a_seed_on_any_number_of_cores() {
    let (_, text) = BUILT_IN.iter().find(|(name, _)| *name == "loss-30").unwrap();
    let scenario = small(text);
    let of = |seed, threads| {
        let options = Options { threads, check: threads == 1 };
        let results = run(&scenario, seed, &options, &mut |_| {});
        (results.fingerprint, results.samples)
    };
    let one = of(1, 1);
    assert_eq!(one, of(1, 2));
    assert_eq!(one, of(1, 3));
    assert_ne!(one.0, of(2, 1).0);
}

/// Each has failed once: what was wrong is mended, and is not to come back.
#[test]
fn seeds_that_have_failed_do_not_any_more() {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/seeds");
    let mut count = 0;
    for file in std::fs::read_dir(folder).unwrap() {
        let path = file.unwrap().path();
        let scenario = Scenario::parse(&std::fs::read_to_string(&path).unwrap()).unwrap();
        let seed = scenario.seed.expect("a scenario that has failed says with which seed");
        let results = run(&scenario, seed, &Options::default(), &mut |_| {});
        assert!(held(&results), "{}: {:#?}", path.display(), results.violations);
        count += 1;
    }
    assert!(count > 0);
}
