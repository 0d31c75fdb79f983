//! What people ask a node: how far it is, where something is, and what does not work.

mod common;

use std::{
    io::{BufRead, BufReader},
    net::UdpSocket,
    process::Stdio,
};

use common::{Daemon, Home, program, until};
use serde_json::Value;

const NOWHERE: &str = "0000000000000000000000000000000000000000000000000000000000000000";

fn ticket(home: &Home) -> String {
    home.run(["ticket"]).ok().trim_end().to_owned()
}

fn space(home: &Home) -> Value {
    home.run(["status", "--json"]).json()["spaces"][0].clone()
}

fn id(daemon: &Daemon) -> String {
    daemon.ready["node"].as_str().unwrap().to_owned()
}

/// Findings of a level, each as a line.
fn findings(told: &Value, level: &str) -> String {
    let findings = told.as_array().unwrap().iter().filter(|it| it["level"] == level);
    findings.map(|it| format!("{} -> {}\n", it["what"], it["advice"])).collect()
}

#[test]
fn three_nodes_and_what_they_can_be_asked() {
    let homes = [Home::new(), Home::new(), Home::new()];
    let [alice, bob, carol] = &homes;
    let [alices, bobs, mut carols] = [alice.serve(), bob.serve(), carol.serve()];
    alice.run(["space", "create", "notes", "--copies", "2,3"]).ok();
    bob.run(["join", &ticket(alice), "--wait"]).ok();
    carol.run(["join", &ticket(alice), "--wait", "--arc", "full"]).ok();

    // A put that waits for both others, of new objects and of such as are there already.
    let tree = alice.path("tree");
    common::write_tree(&tree, 1);
    let tree = tree.to_str().unwrap();
    let (address, talk) = alice.run(["put", tree, "--copies", "2"]).exit(0);
    let address = address.trim_end();
    assert!(talk.contains("All of it is durable at 2 other nodes"), "{talk}");
    for home in [bob, carol] {
        assert_eq!(space(home)["aspects"], space(alice)["aspects"]);
    }
    let told = alice.run(["put", tree, "--copies", "2", "--json"]).json();
    assert_eq!((&told["new_objects"], &told["address"]), (&0.into(), &address.into()));
    let copies = &told["copies"];
    assert_eq!((&copies["wanted"], &copies["complete"]), (&2.into(), &true.into()));
    assert_eq!(copies["objects"], copies["objects_complete"]);
    assert!(copies["objects"].as_u64().unwrap() > 5, "{copies}");
    alice.run(["put", tree, "--copies", "0"]).fails(2, &["--copies"]);

    // How it stands.
    until("all three know each other", || {
        let progress = &space(alice)["progress"];
        progress["known_nodes"] == 2
            && progress["unverified"]["fraction"] == 0.0
            && progress["copies"]["min"].as_f64() == Some(3.0)
    });
    let stands = space(alice);
    let progress = &stands["progress"];
    assert_eq!((&stands["arc"], &progress["automatic"]), (&"auto".into(), &true.into()));
    assert_eq!(progress["copies_wanted"], serde_json::json!({ "min": 2, "target": 3 }));
    assert_eq!(progress["total"]["aspects"], stands["aspects"]);
    assert_eq!((&progress["left"], progress["reachable_nodes"].as_u64()), (&Value::Null, Some(2)));
    assert!(progress["rate"]["bytes_per_second"].is_f64());
    let theirs = space(carol);
    assert_eq!((&theirs["arc"], &theirs["progress"]["automatic"]), (&"full".into(), &false.into()));
    let shown = alice.run(["status"]).ok();
    for words in
        ["to 2 peers", "in sync   yes", "3 of everything in its part", "2 others known, none"]
    {
        assert!(shown.contains(words), "{words}: {shown}");
    }
    let known = alice.run(["peers", "--json"]).json();
    let quality = &known["peers"][0]["spaces"][0]["quality"];
    assert!(quality["availability"].is_null(), "seconds do not tell: {known}");
    assert_eq!((&quality["trusted"], &quality["faults"]), (&true.into(), &0.0.into()));
    assert!(alice.run(["peers"]).ok().contains("not known yet how reliable"));

    // Where something is.
    let why = alice.run(["why", &address[..8], "--json"]).json();
    assert_eq!((&why["entry"], &why["copies_confirmed"]), (&address.into(), &2.into()));
    assert_eq!((&why["aspect"], &why["claimed_here"]), (&Value::Null, &true.into()));
    let claims = why["claims"].as_array().unwrap();
    assert!(claims.len() == 2 && claims.iter().all(|claim| claim["confirms"] == true), "{why}");
    let asked = why["asked"].as_array().unwrap();
    assert!(asked.iter().any(|it| it["aspects"] == 1 && it["took_ms"].is_f64()), "{why}");
    let hash = why["held_here"][0].as_str().unwrap();
    let one = bob.run(["why", hash, "--json"]).json();
    assert_eq!((&one["aspect"], &one["entry"]), (&hash.into(), &address.into()));
    assert!(bob.run(["why", hash]).ok().contains("2 other nodes confirm"));
    let nowhere = alice.run(["why", NOWHERE]);
    assert!(nowhere.exit(4).0.contains("nobody who was asked has anything"));
    alice.run(["why", "xyz"]).fails(2, &["xyz"]);

    // Nothing to be done but what is so on one machine.
    let told = alice.run(["doctor", "--json"]).json();
    assert_eq!(findings(&told, "trouble"), "");
    let notes = findings(&told, "note");
    assert!(notes.contains("this machine only") && notes.contains("no relay"), "{notes}");
    let reached = alice.run(["doctor", &id(&carols)[..8]]).ok();
    assert!(reached.contains("is connected") && reached.contains("answers at"), "{reached}");
    let told = carol.run(["doctor", &ticket(bob), "--json"]).json();
    assert!(findings(&told, "good").contains("this node is in the ticket's space"), "{told}");
    let own = alice.run(["doctor", &ticket(alice)]).exit(5).0;
    assert!(own.contains("this very node"), "{own}");
    alice.run(["doctor", "abcdef"]).fails(4, &["no peer abcdef is known"]);
    alice.run(["doctor", "no ticket"]).fails(2, &["nor a ticket"]);

    // One goes, and others see why it is not there.
    let (gone, carols_ticket) = (id(&carols), ticket(carol));
    carols.signal("-TERM");
    carols.wait();
    let told = alice.run(["doctor", &gone[..8], "--json"]).exit(5).0;
    let told: Value = serde_json::from_str(&told).unwrap();
    let trouble = findings(&told, "trouble");
    assert!(trouble.contains("no program listens there"), "{told}");
    assert!(trouble.contains("start its daemon there"), "{told}");
    // Another node answers where it was.
    let port = carols.ready["listening"][0].as_str().unwrap();
    let stranger = Home::new();
    let _strangers = stranger.serve_with(["--listen", port]);
    let told = bob.run(["doctor", &carols_ticket]).exit(5).0;
    assert!(told.contains("another node answers there"), "{told}");
    drop((alices, bobs));
}

#[test]
fn who_waits_for_copies_that_do_not_come_may_stop_waiting() {
    let home = Home::new();
    let _daemon = home.serve();
    home.run(["space", "create", "notes"]).ok();
    let file = home.path("file");
    std::fs::write(&file, "content").unwrap();
    let mut command = program(&home.data());
    command.args(["put", "--copies", "1"]).arg(&file);
    let mut put = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(put.stderr.take().unwrap()).lines().map(Result::unwrap);
    assert!(lines.any(|line| line.contains("Ctrl-C ends the waiting, not the put")));
    let id = put.id().to_string();
    assert!(std::process::Command::new("kill").args(["-INT", &id]).status().unwrap().success());
    assert!(lines.any(|line| line.contains("Not waiting any more: 0 of")));
    let done = put.wait_with_output().unwrap();
    assert_eq!(done.status.code(), Some(130));
    let address = String::from_utf8(done.stdout).unwrap();
    assert_eq!(home.run(["cat", address.trim_end()]).stdout, b"content");
}

#[test]
fn a_part_is_shown_and_set() {
    let home = Home::new();
    let _daemon = home.serve();
    let more = ["--copies", "5,3"];
    home.run(["space", "create", "notes"].iter().chain(&more)).fails(2, &["5,3"]);
    home.run(["space", "create", "notes", "--arc", "0.5"]).ok();
    let shown = home.run(["space", "arc"]).ok();
    assert!(shown.contains("0.5: as it was told") && shown.contains("50.00%"), "{shown}");
    home.run(["space", "arc", "--drop"]).fails(2, &["SHARE"]);
    home.pipe(["put", "-", "--name", "noise"], &common::noise(1, 4 << 20)).ok();
    let before = space(&home)["aspects"].clone();
    let (_, talk) = home.run(["space", "arc", "0.25"]).exit(0);
    assert!(talk.contains("stays until enough others hold it"), "{talk}");
    assert_eq!(space(&home)["aspects"], before);
    let shown = home.run(["space", "arc", "auto", "--json"]).json();
    assert_eq!(shown["space"]["arc"], "auto");
    let shown = home.run(["space", "arc", "--json"]).json();
    assert_eq!(shown["progress"]["automatic"], true);
}

#[test]
fn changes_are_watched() {
    let home = Home::new();
    let _daemon = home.serve();
    home.run(["space", "create", "notes"]).ok();
    let mut command = program(&home.data());
    let mut watch = command.args(["watch", "--json"]).stdout(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(watch.stdout.take().unwrap()).lines().map(Result::unwrap);
    let first: Value = serde_json::from_str(&lines.next().unwrap()).unwrap();
    assert_eq!((&first["name"], &first["aspects"]), (&"notes".into(), &0.into()));
    home.pipe(["put", "-", "--name", "x"], b"x").ok();
    let changed = lines.map(|line| serde_json::from_str::<Value>(&line).unwrap());
    assert!(changed.map(|it| it["aspects"].as_u64().unwrap()).any(|aspects| aspects == 3));
    let id = watch.id().to_string();
    assert!(std::process::Command::new("kill").args(["-INT", &id]).status().unwrap().success());
    assert_eq!(watch.wait().unwrap().code(), Some(130));
}

#[test]
fn a_doctor_without_a_patient() {
    let home = Home::empty();
    let told = home.run(["doctor"]).exit(3).0;
    assert!(told.contains("there is no node") && told.contains("arcwise init --data"), "{told}");
    home.run(["init"]).ok();
    let told = home.run(["doctor", "--json"]).exit(3).0;
    assert!(told.contains("no daemon runs") && told.contains("arcwise serve --data"), "{told}");
    let _daemon = home.serve();
    // A machine that is there and silent: something listens, and is no node.
    let other = Home::new();
    let others = other.serve();
    other.run(["space", "create", "notes"]).ok();
    let ticket = ticket(&other);
    drop(others);
    let silent = UdpSocket::bind("127.0.0.1:0").unwrap();
    let (good, bad) = (ticket.parse::<arcwise::Ticket>().unwrap(), silent.local_addr().unwrap());
    let ticket = arcwise::Ticket { addresses: vec![bad], ..good }.to_string();
    let told = home.run(["doctor", &ticket]).exit(5).0;
    assert!(told.contains("no answer within") && told.contains("firewall"), "{told}");
    assert!(told.contains("not in the ticket's space"), "{told}");
}
