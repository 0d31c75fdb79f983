//! `arcwise simulate`: what it prints, and what it says of what cannot be simulated.

mod common;

use std::fs;

use common::{Done, Home};
use serde_json::Value;

/// Five nodes for three minutes, with these lines added.
fn small(home: &Home, lines: &str) -> String {
    let file = home.path("small.toml");
    let head = "name = 'small'\nabout = 'Five nodes.'\nnodes = 5\nlength = '3m'\nquiet = '1m'\n";
    fs::write(&file, format!("{head}{lines}")).unwrap();
    file.to_str().unwrap().to_owned()
}

fn simulate(home: &Home, args: &[&str]) -> Done {
    home.run([&["simulate"], args].concat())
}

#[test]
fn scenarios_are_listed() {
    let home = Home::empty();
    let listed = simulate(&home, &["--list"]).ok();
    assert!(listed.starts_with("NAME") && listed.contains("\nloss-30 "), "{listed}");
    let listed = simulate(&home, &["--list", "--json"]).json();
    let names: Vec<_> = listed.as_array().unwrap().iter().map(|it| &it["name"]).collect();
    assert!(names.contains(&&Value::from("churn")), "{names:?}");
    for help in ["-h", "--help"] {
        let help = simulate(&home, &[help]).ok();
        assert!(names.iter().all(|name| help.contains(name.as_str().unwrap())), "{help}");
    }
    // What is shown is a scenario with all that is said about it.
    let shown = simulate(&home, &["merge", "--show"]).ok();
    assert!(shown.starts_with("# For: "), "{shown}");
    fs::write(home.path("mine.toml"), &shown).unwrap();
    let mine = home.path("mine.toml");
    assert_eq!(simulate(&home, &[mine.to_str().unwrap(), "--show"]).ok(), shown);
}

#[test]
fn a_run_is_summed_up() {
    let home = Home::empty();
    let scenario = small(&home, "");
    let page = home.path("report.html");
    let (table, talk) =
        simulate(&home, &[&scenario, "--seed", "7", "--html", page.to_str().unwrap()]).exit(0);
    for words in ["small: Five nodes.", "copies, fewest", "simulate small.toml --seed 7", "verdict"]
    {
        assert!(table.contains(words), "{words}: {table}");
    }
    assert!(talk.contains("The report is in "), "{talk}");
    let page = fs::read_to_string(page).unwrap();
    assert!(page.starts_with("<!doctype html>") && page.contains("small: held"));
    let results = simulate(&home, &[&scenario, "--seeds", "3", "--seed", "7", "--json"]).json();
    let seeds: Vec<_> = results.as_array().unwrap().iter().map(|it| &it["seed"]).collect();
    assert_eq!(seeds, [7, 8, 9]);
    // The same seed, the same results.
    let again = simulate(&home, &[&scenario, "--seed", "8", "--json"]).json();
    assert_eq!(again[0]["fingerprint"], results[1]["fingerprint"]);
}

#[test]
fn what_does_not_hold_is_told() {
    let home = Home::empty();
    // Who has too little room leaves more to the others.
    let scenario = small(&home, "[disk]\nquota = 300_000\nlimited = 0.5\n[expect]\nload = 1.0\n");
    let (table, _) = simulate(&home, &[&scenario]).exit(1);
    assert!(table.contains("verdict     Did NOT hold: "), "{table}");
    let results = simulate(&home, &[&scenario, "--json"]);
    assert_eq!(results.code, Some(1));
    let results: Value = serde_json::from_slice(&results.stdout).unwrap();
    assert_ne!(results[0]["missed"], Value::Array(Vec::new()));
}

#[test]
fn rules_can_be_compared() {
    let home = Home::empty();
    let args = [
        "loss-30",
        "--nodes",
        "60",
        "--length",
        "40m",
        "--flow",
        "--rule",
        "arcwise,lib3h",
        "--json",
    ];
    let done = simulate(&home, &args);
    let results: Value = serde_json::from_slice(&done.stdout).unwrap();
    let rules: Vec<_> = results.as_array().unwrap().iter().map(|it| &it["rule"]).collect();
    assert_eq!(rules, ["arcwise", "lib3h"]);
    simulate(&home, &["merge", "--flow"]).fails(2, &["merge", "no network that could be cut"]);
    simulate(&home, &["churn", "--rule", "lib3h"]).fails(2, &["--flow"]);
    simulate(&home, &["churn", "--flow", "--rule", "fair"]).fails(2, &["fair", "kitsune"]);
}

#[test]
fn plans_say_what_to_do_and_what_it_takes() {
    let home = Home::empty();
    let plan =
        |args: &[&str]| home.run([&["plan", "--nodes", "1000", "--size", "1TiB"], args].concat());
    let told = plan(&["--writes", "10GiB"]).ok();
    for words in ["1,000 nodes", "1.00 TiB in all", "disk ", "space create NAME --copies "] {
        assert!(told.contains(words), "{words}: {told}");
    }
    let told = plan(&["--nines", "12", "--json"]).json();
    assert_eq!(told["asked"]["durability"], 12.0);
    assert!(told["answer"]["copies"][1].as_u64() > Some(8), "{told}");
    plan(&["--uptime", "80"]).fails(2, &["--uptime: it must be above 0 and at most 1"]);
    plan(&["--session", "long"]).fails(2, &["write a number and ms, s, m, h or d"]);
    plan(&["--room", "1GiB"]).fails(1, &["copies take about", "there is room for 1.00 GiB"]);
    plan(&["--writes", "100TiB"]).fails(1, &["of each node's bandwidth, and it has 2.00 MiB/s"]);
    plan(&["--at-once", "0.99"]).fails(1, &["more than 255 copies would be needed"]);
    home.run(["plan"]).fails(2, &["--nodes <N>", "--size <SIZE>"]);
}

#[test]
fn what_cannot_be_simulated_is_told_plainly() {
    let home = Home::empty();
    let fails = |args: &[&str], code, words: &[&str]| simulate(&home, args).fails(code, words);
    fails(&["lost-30"], 4, &["lost-30 is no scenario and no file; did you mean loss-30?", "churn"]);
    let text = fails(&["xyz"], 4, &["xyz is no scenario", "cold-start, loss-30"]);
    assert!(!text.contains("mean"), "{text}");
    fails(&[], 2, &["<SCENARIO>"]);
    fails(&["churn", "--list"], 2, &["--list"]);
    fails(&["churn", "--nodes", "0"], 2, &["churn: `nodes`: it must be 1 to 1,000,000"]);
    fails(&["churn", "--nodes", "many"], 2, &["--nodes"]);
    fails(&["churn", "--length", "soon"], 2, &["write a number and ms, s, m, h or d"]);
    fails(&["loss-30", "--length", "20m"], 2, &["must be over before the quiet time"]);
    fails(&["churn", "--seeds", "0"], 2, &["--seeds"]);
    let nowhere = home.path("not/there.html");
    let nowhere = nowhere.to_str().unwrap();
    fails(&["churn", "--html", nowhere], 1, &["cannot write", "there.html"]);

    let file = small(&home, "lenght = '1h'\n");
    fails(&[&file], 2, &["small.toml: ", "line 6", "unknown field `lenght`, expected one of"]);
    let file = small(&home, "[network]\nloss = 7.0\n");
    fails(&[&file], 2, &["`network.loss`: it must be from 0 to 1"]);
    fs::write(home.path("small.toml"), [0xff, 0xfe]).unwrap();
    fails(&[&file], 1, &["cannot read", "UTF-8"]);
    let error = simulate(&home, &["lost-30", "--json"]).fails(4, &[]);
    let error: Value = serde_json::from_str(&error).unwrap();
    assert_eq!(error["error"]["code"], "not_found");
}
