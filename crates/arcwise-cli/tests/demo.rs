//! The demo, from its end: however it ends, nothing of it stays.

mod common;

use std::{
    fs,
    io::{BufRead, BufReader},
    process::{Child, Command, Stdio},
};

use common::{Done, Home, program, write_tree};

/// The demo on two small folders, with a folder of its own for what is temporary.
fn demo(home: &Home, args: &[&str]) -> Child {
    let (ours, theirs, temporary) = (home.path("ours"), home.path("theirs"), home.path("tmp"));
    if !temporary.exists() {
        fs::create_dir(&temporary).unwrap();
        write_tree(&ours, 1);
        write_tree(&theirs, 2);
    }
    let mut command = program(&home.data());
    command.arg("demo").args([ours, theirs]).args(args).env("TMPDIR", temporary);
    command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
}

fn is_clean(home: &Home) -> bool {
    fs::read_dir(home.path("tmp")).unwrap().count() == 0
}

#[test]
fn a_demo_to_its_end() {
    let home = Home::empty();
    let (told, talk) = Done::from(demo(&home, &[]).wait_with_output().unwrap()).exit(0);
    assert!(told.contains("Both hold the same.") && talk.is_empty(), "{told}{talk}");
    assert!(is_clean(&home));
    let told = Done::from(demo(&home, &["--json"]).wait_with_output().unwrap()).json();
    assert_eq!(told["equal"], true);
}

#[test]
fn a_signal_at_any_time_leaves_nothing() {
    let home = Home::empty();
    for (lines, signal, code) in
        [(1, "-INT", 130), (3, "-TERM", 143), (4, "-INT", 130), (5, "-INT", 130), (7, "-TERM", 143)]
    {
        let mut child = demo(&home, &[]);
        let mut told = BufReader::new(child.stdout.take().unwrap()).lines();
        assert_eq!(told.by_ref().take(lines).count(), lines);
        let id = child.id().to_string();
        // Twice, as `timeout` does it.
        assert!(Command::new("kill").args([signal, &id, &id]).status().unwrap().success());
        let told: Vec<String> = told.map(Result::unwrap).collect();
        let done = Done::from(child.wait_with_output().unwrap());
        assert!(is_clean(&home), "after {lines} lines");
        // It may have come to its end just before.
        if !told.iter().any(|line| line.contains("Both hold the same")) {
            let (_, talk) = done.exit(code);
            assert_eq!(talk.lines().count(), 1, "{talk}");
        }
    }
}

#[test]
fn who_has_seen_enough_of_a_demo_is_no_trouble() {
    let home = Home::empty();
    let mut child = demo(&home, &[]);
    let mut told = BufReader::new(child.stdout.take().unwrap()).lines();
    assert_eq!(told.by_ref().take(2).count(), 2);
    drop(told);
    assert_eq!(Done::from(child.wait_with_output().unwrap()).exit(0), Default::default());
    assert!(is_clean(&home));
}
