use super::*;

fn scenario(more: &str) -> Scenario {
    let text = "name = \"test\"\nabout = \"A test.\"\n".to_owned() + more;
    Scenario::parse(&text).unwrap()
}

/// So many nodes, all there from the beginning, and holding their share.
fn settled(nodes: usize, minutes: u32, more: &str) -> Scenario {
    scenario(&format!(
        "nodes = {nodes}\nlength = \"{minutes}m\"\nquiet = \"1m\"\n{more}\n[people]\nstarting = \"0s\"\n"
    ))
}

fn simulate(scenario: &Scenario, seed: u64, rule: Rule, is_settled: bool) -> Results {
    let options = Options { rule, settled: is_settled, ..Options::default() };
    run_with(scenario, seed, options, &mut |_| {})
}

#[test]
fn threads_change_nothing_and_seeds_do() {
    let scenario = settled(600, 5, "[[event]]\nat = \"2m\"\nwhat = \"lose\"\npart = 0.3");
    let run = |seed, threads| {
        let options = Options { threads, ..Options::default() };
        run_with(&scenario, seed, options, &mut |_| {})
    };
    let one = run(1, 1);
    assert_eq!(one, run(1, 2));
    assert_eq!(one, run(1, 3));
    assert_ne!(one.fingerprint, run(2, 1).fingerprint);
}

#[test]
fn everything_gets_its_copies() {
    for seed in 0..3 {
        let results = simulate(&settled(300, 3, ""), seed, Rule::Arcwise, true);
        assert_eq!(results.summary.copies.0, 20.0, "{seed}");
        assert!(results.summary.load < 2.5, "{}", results.summary.load);
        assert_eq!(results.summary.lost.0, 0);
    }
}

#[test]
fn what_is_lost_at_once_comes_back() {
    let event = "[[event]]\nat = \"2m\"\nwhat = \"lose\"\npart = 0.5";
    let results = simulate(&settled(300, 25, event), 3, Rule::Arcwise, true);
    let at = |second: f64| {
        let found = results.samples.iter().find(|it| it.at >= second);
        found.map(|it| (it.nodes, it.copies.0, it.below_min)).unwrap()
    };
    assert_eq!(at(110.0), (300, 20.0, 0));
    let (nodes, copies, below) = at(130.0);
    assert!(nodes == 150 && copies < 8.0 && copies > 0.0 && below > 0, "{copies} {below}");
    // Where there are too few, others take their place after half a minute and the patience; elsewhere
    // after five times the patience.
    let (_, copies, below) = at(300.0);
    assert!(copies >= 8.0 && below == 0, "{copies} {below}");
    assert!(at(900.0).1 >= 20.0, "{:?}", at(900.0));
    assert!((150.0..170.0).contains(&results.summary.below_min), "{}", results.summary.below_min);
}

#[test]
fn those_who_store_nothing_are_made_up_for() {
    let results =
        simulate(&settled(400, 10, "[others]\nfree_riders = 0.5"), 4, Rule::Arcwise, true);
    assert!(results.summary.copies.0 >= 20.0, "{:?}", results.summary.copies);
}

#[test]
fn a_quota_is_kept() {
    let text = "[disk]\nquota = 60000\nlimited = 0.7";
    let results = simulate(&settled(200, 10, text), 4, Rule::Arcwise, true);
    assert!(results.summary.copies.0 >= 20.0, "{:?}", results.summary.copies);
    // 0.9 * 60,000 of about 1,270,000 bytes.
    assert!(results.samples.last().unwrap().arcs.0 < 0.047);
}

#[test]
fn filling_takes_its_time() {
    // Four nodes join one that has 100 MB and sends 2.5 MB a second, and each needs all of it. So it takes
    // 40 seconds at the least; what is there already is given by the others, too.
    let text = "nodes = 5\nlength = \"10m\"\nquiet = \"1m\"\n[people]\nentries = 1000\nsize = 100000\n\
                publishing = 0.0\nstarting = \"0s\"\n";
    let results = simulate(&scenario(text), 1, Rule::Arcwise, false);
    let full = results.samples.iter().find(|it| it.copies.0 == 5.0).unwrap();
    assert!((40.0..60.0).contains(&full.at), "{}", full.at);
    assert_eq!(results.summary.bytes.gossip, 400_000_000 / 5 * 6);
}

#[test]
fn what_nobody_has_is_lost() {
    let event = "[[event]]\nat = \"2m\"\nwhat = \"lose\"\npart = 1.0";
    let results = simulate(&settled(30, 5, event), 1, Rule::Arcwise, true);
    assert_eq!((results.summary.nodes, results.summary.lost.0), (0, 1030));
    let away = event.replace("lose", "crash") + "\naway = \"1m\"";
    let results = simulate(&settled(30, 5, &away), 1, Rule::Arcwise, true);
    assert_eq!((results.summary.nodes, results.summary.lost.0), (30, 0));
    assert!(results.summary.copies.0 >= 20.0);
}

#[test]
fn who_is_away_for_a_while_moves_nobody() {
    let event = "[[event]]\nat = \"2m\"\nwhat = \"restart\"\nover = \"5m\"\naway = \"20s\"";
    let results = simulate(&settled(200, 15, event), 1, Rule::Arcwise, true);
    let late = results.samples.iter().filter(|it| it.at > 60.0).map(|it| it.changed).sum::<usize>();
    assert_eq!((late, results.summary.below_min), (0, 0.0));
}

#[test]
fn the_other_rules_hold_more_while_there_are_few() {
    let few = settled(30, 10, "");
    assert_eq!(simulate(&few, 1, Rule::Lib3h, true).summary.copies.0, 30.0);
    assert!(simulate(&few, 1, Rule::Kitsune, true).summary.copies.0 >= 20.0);
}
