//! PLACEHOLDER, not to be merged: the engine's entry point, until `run.rs` is there.

use crate::{
    results::{Results, SECTORS, Sample, Summary, Violation},
    scenario::Scenario,
};

/// How to run a simulation. Nothing of it has an influence on the results.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Options {
    /// On how many cores.
    pub threads: usize,
    /// Whether every verdict of two nodes is checked.
    pub check: bool,
}

/// How far a simulation is.
#[derive(Clone, Copy, Debug)]
pub struct Progress<'a> {
    /// Part of the virtual time that is over: 0 to 1.
    pub part: f64,
    /// How everything stands, where it was looked at just now.
    pub sample: Option<&'a Sample>,
}

/// Nothing happens; with seed 13 that is a violation.
pub fn run(
    scenario: &Scenario,
    seed: u64,
    _: &Options,
    tell: &mut dyn FnMut(Progress<'_>),
) -> Results {
    let seconds = scenario.length.0.as_secs_f64();
    let mut samples = Vec::new();
    for step in 0..=100 {
        let part = f64::from(step) / 100.0;
        let sample = Sample {
            at: part * seconds,
            nodes: scenario.nodes,
            copies: (20.0, 20.0, 20.0),
            arcs: (0.1, 0.1, 0.1, 0.1),
            published: SECTORS as u64,
            ..Sample::default()
        };
        tell(Progress { part, sample: Some(&sample) });
        samples.push(sample);
    }
    let violations = (seed == 13).then(|| Violation { at: 60.0, what: "a placeholder".to_owned() });
    Results {
        scenario: scenario.clone(),
        seed,
        violations: violations.into_iter().collect(),
        missed: Vec::new(),
        samples,
        summary: Summary {
            seconds,
            nodes: scenario.nodes,
            copies: (20.0, 20.0, 20.0),
            load: 1.0,
            ..Summary::default()
        },
        fingerprint: "00".repeat(32),
    }
}
