//! The page, the table and the JSON, of results that are made up.

use arcwise_sim::{
    flow::Rule,
    report,
    results::{Bytes, Results, Sample, Summary, Violation},
    scenario::{Scenario, What},
};

/// Numbers that look random and are always the same.
struct Dice(u64);

impl Dice {
    /// From 0 to 1.
    fn roll(&mut self) -> f64 {
        self.0 =
            self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 11) as f64 / (1u64 << 53) as f64
    }

    /// About `value`.
    fn about(&mut self, value: f64, off: f64) -> f64 {
        value * (1.0 + off * (self.roll() + self.roll() - 1.0))
    }
}

/// What might have come out: nodes come within two minutes, hold too much at first, and lose copies in what
/// happens, for some minutes.
fn made_up(name: &str, seed: u64) -> Results {
    let scenario = Scenario::named(name).unwrap().unwrap();
    let mut dice = Dice(seed.wrapping_mul(77_777) + 3);
    let (length, normal) = (scenario.length.0.as_secs_f64(), f64::from(scenario.copies.1));
    let (mut bytes, mut samples) = (Bytes::default(), Vec::new());
    let (mut longest, mut below, mut lost) = (0.0f64, 0.0, 0);
    let mut gone = 0.0;
    let luck = dice.about(1.0, 0.25);
    let step = 5.0;
    for at in 0..=(length / step) as usize {
        let at = at as f64 * step;
        let joined = (at / 120.0).clamp(0.005, 1.0);
        let mut dent = 0.0;
        for event in &scenario.events {
            let since = at - event.at.0.as_secs_f64();
            if since < 0.0 {
                continue;
            }
            let (part, heals) = match event.what {
                What::Lose { part } => (part, 170.0),
                What::Cut { part, .. } => (part, 170.0),
                What::Join { .. } => (0.0, 1.0),
                _ => (0.05, 30.0),
            };
            if matches!(event.what, What::Lose { .. }) {
                gone = part;
                lost = if seed.is_multiple_of(5) { 1 } else { 0 };
            }
            dent += part * (1.0 - since / heals).max(0.0);
        }
        let nodes = (scenario.nodes as f64 * joined * (1.0 - gone)).max(1.0);
        let surplus = 1.3 + 6.0 * (-at / 700.0).exp();
        let median = (normal * surplus * (1.0 - dent)).min(nodes);
        let fewest = (dice.about(normal * 0.93 * (1.0 - 1.45 * dent * luck), 0.04))
            .min(nodes)
            .max(0.0)
            .floor();
        let few = if fewest < 8.0 && nodes > 10.0 { ((8.0 - fewest) * 9.0) as usize } else { 0 };
        below = if few > 0 { below + step } else { 0.0 };
        longest = longest.max(below);
        let fresh = (-at / 300.0).exp() + dent;
        let mean = (normal * surplus / nodes).min(1.0);
        let sent = nodes * step;
        bytes.control += (sent * dice.about(60.0, 0.3)) as u64;
        bytes.comparing += (sent * dice.about(35.0 + 90.0 * fresh, 0.4)) as u64;
        bytes.gossip += (sent * dice.about(4000.0 * fresh, 0.5)) as u64;
        bytes.push += (sent * dice.about(90.0, 0.3)) as u64;
        bytes.requests += (sent * dice.about(12.0, 0.3)) as u64;
        bytes.transport += (sent * dice.about(150.0, 0.1)) as u64;
        samples.push(Sample {
            at,
            nodes: nodes as usize,
            copies: (fewest, (fewest * 1.1).round().min(median), median.round()),
            below_min: few,
            arcs: (mean * 0.5, mean * 0.96, mean, (mean * 2.1).min(1.0)),
            changed: (nodes * fresh * 0.05 * dice.roll()) as usize,
            lacking: (3e5 * fresh * dice.roll() * (1.0 - at / length).max(0.0)) as u64,
            published: 1000 + (at * 0.5) as u64,
            lost,
            connections: (nodes * dice.about(16.0, 0.05)) as usize,
            bytes,
        });
    }
    let last = samples.last().unwrap().clone();
    let hours = length / 3600.0 * last.nodes as f64;
    let per_hour = |it: u64| (it as f64 / hours) as u64;
    let mut results = Results {
        seed,
        rule: None,
        violations: Vec::new(),
        missed: Vec::new(),
        summary: Summary {
            seconds: length,
            nodes: last.nodes,
            published: last.published,
            acknowledged: last.published - 1003,
            lost: (last.lost, 0),
            copies: last.copies,
            below_min: longest,
            load: dice.about(1.6, 0.2),
            changing: dice.about(0.004, 0.9),
            spreading: (dice.about(0.31, 0.2), dice.about(1.4, 0.3), dice.about(9.0, 0.8)),
            asked: (840, 840, dice.about(1.7, 0.1)),
            bytes: Bytes {
                control: per_hour(bytes.control),
                comparing: per_hour(bytes.comparing),
                gossip: per_hour(bytes.gossip),
                push: per_hour(bytes.push),
                requests: per_hour(bytes.requests),
                transport: per_hour(bytes.transport),
            },
            most_held: dice.about(610_000.0, 0.2) as u64,
            events: 12_345_678,
            took: dice.about(14.0, 0.2),
        },
        samples,
        fingerprint: "5f".repeat(32),
        scenario,
    };
    let most = results.scenario.expect.below_min;
    if results.summary.below_min > most.0.as_secs_f64() {
        results.missed.push(format!(
            "a sector had fewer than 8 copies for {} s, and not for {most} at most",
            results.summary.below_min
        ));
    }
    results
}

/// One that breaks what must always be.
fn broken() -> Results {
    let mut results = made_up("loss-50", 7);
    results.violations = (0..7)
        .map(|it| Violation {
            at: 1207.0 + f64::from(it),
            what: format!("node {it} claims <b>what it does not hold</b>: aspect 9c41e0{it}"),
        })
        .collect();
    results
}

/// Kept, to be looked at.
fn page(name: &str, results: &[Results]) -> String {
    let page = report::html(results);
    std::fs::write(format!("{}/{name}.html", env!("CARGO_TARGET_TMPDIR")), &page).unwrap();
    for outside in ["src=", "href=", "@import", "url(", "<script", "NaN", "inf"] {
        assert!(!page.contains(outside), "{outside}");
    }
    page
}

#[test]
fn a_run_that_holds() {
    let results = [made_up("loss-30", 2)];
    assert!(results[0].held(), "{:?}", results[0].missed);
    let page = page("held", &results);
    for words in [
        "<title>loss-30: held",
        "✓ Held: all that must always be, and all that was expected.",
        "<b>A</b> 20:00: 30 % of the nodes are gone for good",
        "arcwise simulate loss-30 --seed 2",
        "Copies of each part of the ring",
        "what = &quot;lose&quot;",
    ] {
        assert!(page.contains(words), "{words}");
    }
    assert!(page.len() < 400_000, "{}", page.len());
    let table = report::table(&results);
    println!("{table}");
    assert!(table.contains("verdict     Held"), "{table}");
    assert!(table.lines().all(|line| line.chars().count() <= 100), "{table}");
}

#[test]
fn a_run_that_does_not_hold() {
    let results = [broken()];
    let page = page("broken", &results);
    assert!(page.contains("✗ Did NOT hold: 7 times what must never be, first at 20:07"));
    assert!(page.contains("&lt;b&gt;what it does not hold&lt;/b&gt;") && !page.contains("<b>what"));
    let table = report::table(&results);
    println!("{table}");
    assert!(table.contains("and 2 more"), "{table}");
    assert!(table.contains("NOT HELD"), "{table}");
}

#[test]
fn many_seeds() {
    let mut results: Vec<_> = (0..60).map(|seed| made_up("loss-50", seed)).collect();
    results[7] = broken();
    let page = page("seeds", &results);
    assert!(page.contains("Did NOT hold in "));
    let row =
        |seed| page.find(&format!("<td>loss-50</td><td class=\"number\">{seed}</td>")).unwrap();
    assert!(row(7) < row(0));
    assert!(page.len() < 1_500_000, "{}", page.len());
    let table = report::table(&results);
    println!("{table}");
    assert!(table.contains("60 runs"), "{table}");
    assert!(table.contains("arcwise simulate loss-50 --seed 7"), "{table}");
    page_of_few_runs();
}

fn page_of_few_runs() {
    let results: Vec<_> = (0..3).map(|seed| made_up("flash-crowd", seed)).collect();
    assert!(page("few", &results).contains("seed 2"));
}

#[test]
fn rules_beside_each_other() {
    let rules = [Rule::Arcwise, Rule::Lib3h, Rule::Kitsune];
    let by = |rule, seed| Results { rule: Some(rule), ..made_up("loss-30", seed + rule as u64) };
    let results: Vec<_> =
        rules.into_iter().flat_map(|it| (0..9).map(move |seed| by(it, seed))).collect();
    let page = page("compared", &results);
    assert!(page.contains("<h1>loss-30: arcs by arcwise, lib3h, kitsune</h1>"));
    let table = report::table(&results);
    assert!(table.contains("arcs by     kitsune\n"), "{table}");
    let table = report::table(&results[9..10]);
    assert!(table.contains("arcwise simulate loss-30 --flow --rule lib3h --seed 1\n"), "{table}");
}

#[test]
fn the_command_gives_the_same_scenario() {
    let mut results = made_up("merge", 3);
    results.scenario.nodes = 5000;
    results.scenario.length = "3h".parse().unwrap();
    let table = report::table(&[results.clone()]);
    assert!(
        table.contains("arcwise simulate merge --nodes 5000 --length 3h --seed 3\n"),
        "{table}"
    );
    results.scenario.network.loss = 0.2;
    let table = report::table(&[results]);
    assert!(table.contains("arcwise simulate merge.toml --seed 3\n"), "{table}");
}

#[test]
fn json_has_all_of_it() {
    let results = vec![made_up("churn", 1), broken()];
    let json = report::json(&results).unwrap();
    assert!(serde_json::from_str::<Vec<Results>>(&json).unwrap() == results);
}

#[test]
fn whatever_comes_out_can_be_shown() {
    let mut empty = made_up("churn", 1);
    empty.samples.clear();
    empty.summary = Summary { load: f64::NAN, below_min: f64::INFINITY, ..Summary::default() };
    let mut one = made_up("churn", 1);
    one.samples.truncate(1);
    for results in [vec![], vec![empty.clone()], vec![one.clone()], vec![empty, one]] {
        assert!(report::html(&results).ends_with("</html>\n"));
        assert!(!report::table(&results).is_empty());
    }
}
