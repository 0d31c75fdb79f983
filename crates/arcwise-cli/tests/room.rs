//! Limits, dropping and deleting, with real processes.

mod common;

use common::{Home, noise, until};

fn status(home: &Home) -> serde_json::Value {
    whole(home)["spaces"][0].clone()
}

fn whole(home: &Home) -> serde_json::Value {
    home.run(["status", "--json"]).json()
}

#[test]
fn a_full_space_is_seen_and_can_be_helped() {
    let (alice, bob) = (Home::new(), Home::new());
    let (_alices, mut bobs) = (alice.serve(), bob.serve());
    alice.run(["space", "create", "notes", "--keep", "30d"]).ok();
    let ticket = alice.run(["ticket"]).ok();
    bob.run(["join", ticket.trim_end(), "--wait"]).ok();
    assert_eq!(status(&bob)["keep_seconds"], 30.0 * 86_400.0, "the ticket says it");
    bob.run(["space", "limit", "a lot"]).fails(2, &["500MiB"]);
    bob.run(["space", "limit", "300KiB"]).exit(0);

    let large = noise(1, 2 << 20);
    let address = alice.pipe(["put", "-", "--name", "large"], &large).ok();
    let event = bobs.event("full");
    assert!(event["reason"].as_str().unwrap().contains("at most 300 KiB"), "{event}");
    let told = bob.run(["status"]).ok();
    assert!(told.contains("TAKES NOTHING NEW") && told.contains("kept for 30 d"), "{told}");
    assert!(status(&bob)["bytes"].as_u64().unwrap() <= 300 << 10);
    bob.pipe(["put", "-", "--name", "more"], &noise(2, 400 << 10)).fails(8, &["raise the limit"]);

    bob.run(["space", "limit", "none"]).exit(0);
    bobs.event("room");
    until("bob has all", || status(&bob)["aspects"] == status(&alice)["aspects"]);
    assert_eq!(bob.run(["cat", address.trim_end()]).stdout, large);
}

#[test]
fn what_is_dropped_or_deleted_gives_the_disk_back() {
    let home = Home::new();
    let daemon = home.serve_with(["--limit", "1GiB"]);
    home.run(["space", "create", "notes", "--limit", "100MiB"]).ok();
    let put = |n: u64| home.pipe(["put", "-", "--name", "noise"], &noise(n, 4 << 20)).ok();
    (0..6).for_each(|n| drop(put(n)));
    let before = home.run(["store", "stats", "--json"]).json();
    assert_eq!(before["aspects"], daemon.aspects());

    home.run(["space", "arc", "1.5", "--drop"]).fails(2, &["a number between 0 and 1"]);
    // Nobody else holds it, so it stays.
    let kept = home.run(["space", "arc", "0.5", "--json"]).json();
    assert_eq!((&kept["removed"], &kept["space"]["aspects"]), (&0.into(), &before["aspects"]));
    let held = home.run(["space", "arc", "0.5", "--drop", "--json"]).json();
    let (removed, left) = (held["removed"].as_u64().unwrap(), held["space"]["aspects"].as_u64());
    assert!(removed > 0 && removed + left.unwrap() == before["aspects"], "{held}");
    assert_eq!(held["space"]["target"]["fraction"], 0.5);

    home.run(["space", "delete"]).fails(2, &["--yes"]);
    let (_, talk) = home.run(["space", "delete", "--yes"]).exit(0);
    assert!(talk.contains("Left “notes” and deleted"), "{talk}");
    assert_eq!(home.run(["space", "list", "--json"]).json(), serde_json::json!([]));
    until("the rest is cleared", || {
        home.run(["store", "compact"]).ok();
        let after = home.run(["store", "stats", "--json"]).json();
        let kept = |what: &str| after[what].as_u64().unwrap();
        assert_eq!(after["aspects"], 0);
        kept("log") + kept("index") + kept("ids") < 1 << 20
    });
    let told = home.run(["store", "stats"]).ok();
    assert!(told.contains("index by location") && told.contains("free"), "{told}");
    home.run(["stop"]).ok();
    // The same where no daemon runs.
    let told = home.run(["store", "compact"]).ok();
    assert!(told.contains("The store took"), "{told}");
    assert_eq!(home.run(["store", "stats", "--json"]).json()["aspects"], 0);
    assert_eq!(home.run(["store", "check", "--json"]).json()["sound"], true);
}

#[test]
fn bandwidth_is_set_and_kept_and_traffic_is_told() {
    let (alice, bob) = (Home::new(), Home::new());
    let daemon = alice.serve();
    assert!(alice.run(["bandwidth"]).ok().contains("up as fast as it goes"));
    let told = alice.run(["bandwidth", "--up", "1MiB", "--down", "2MiB", "--json"]).json();
    assert_eq!((&told["up"], &told["down"]), (&(1 << 20).into(), &(2 << 20).into()));
    // What is left out stays.
    let told = alice.run(["bandwidth", "--up", "none"]).ok();
    assert_eq!(told.trim_end(), "up as fast as it goes, down at most 2.00 MiB/s");
    alice.run(["bandwidth", "--up", "1KiB"]).fails(2, &["1024 bytes a second are too few"]);
    drop(daemon);
    let daemon = alice.serve();
    assert_eq!(whole(&alice)["bandwidth"]["down"], 2 << 20);
    drop(daemon);
    let _daemon = alice.serve_with(["--max-up", "3MiB"]);
    assert_eq!(whole(&alice)["bandwidth"], serde_json::json!({ "up": 3 << 20, "down": null }));

    let _bobs = bob.serve();
    alice.run(["space", "create", "notes"]).ok();
    let file = alice.path("file");
    std::fs::write(&file, noise(1, 100_000)).unwrap();
    alice.put(&file);
    bob.run(["join", alice.run(["ticket"]).ok().trim_end(), "--wait"]).ok();
    let told = whole(&bob);
    let fetched = told["traffic"]["fetching"]["received"].as_u64().unwrap();
    assert!(fetched > 100_000, "{told}");
    assert_eq!(told["peers"][0]["traffic"]["fetching"]["received"], fetched);
    let told = bob.run(["status"]).ok();
    for words in ["traffic     since the start", "\n  fetching", "\n  transport", "\n  in all"] {
        assert!(told.contains(words), "{words}: {told}");
    }
    assert!(bob.run(["peers"]).ok().contains("fetching "));
}
