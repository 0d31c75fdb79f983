//! Spaces as archives, with real processes.

mod common;

use std::{ffi::OsStr, fs, io::Write, os::unix::fs::PermissionsExt, path::Path, process::Stdio};

use common::{Done, Home, damage, noise, program, until, write_tree};
use serde_json::Value;

fn export(home: &Home, to: &Path) -> Done {
    home.run([OsStr::new("export"), to.as_os_str()])
}

fn import(home: &Home, from: &Path) -> Done {
    home.run([OsStr::new("import"), from.as_os_str()])
}

/// The names of what is in the folder of the node's folder.
fn names(home: &Home) -> Vec<String> {
    let folder = home.path("");
    let mut names: Vec<_> = fs::read_dir(folder)
        .unwrap()
        .map(|child| child.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort_unstable();
    names
}

/// A node with a daemon and a space, in which is what takes so many bytes.
fn full(bytes: usize) -> (Home, common::Daemon) {
    let home = Home::new();
    let daemon = home.serve();
    home.run(["space", "create", "notes"]).ok();
    home.pipe(["put", "-", "--name", "large"], &noise(1, bytes)).ok();
    (home, daemon)
}

#[test]
fn a_space_moves_as_a_file() {
    let (alice, bob) = (Home::new(), Home::new());
    let (alices, mut bobs) = (alice.serve(), bob.serve());
    let fingerprint = alice.run(["space", "create", "notes"]).ok();
    let tree = alice.path("tree");
    write_tree(&tree, 1);
    let address = alice.put(&tree);

    let file = alice.path("notes.arcwise");
    let (told, talk) = export(&alice, &file).exit(0);
    assert_eq!(told.trim_end(), file.to_str().unwrap());
    assert!(talk.contains("Exported “notes”") && talk.contains("keep a ticket"), "{talk}");
    assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
    let archive = fs::read(&file).unwrap();
    export(&alice, &file).fails(1, &["exists already"]);
    assert!(fs::read(&file).unwrap() == archive);
    assert_eq!(names(&alice), ["data", "notes.arcwise", "tree"]);
    for args in [&["export"][..], &["export", "-", "--space", "notes", "--json"]] {
        let done = alice.run(args);
        assert!(done.code == Some(0) && done.stdout == archive, "{args:?}");
    }
    let other = alice.path("other");
    let told = alice.run(["export", other.to_str().unwrap(), "--json"]).json();
    assert_eq!(told["path"], other.to_str().unwrap());
    assert_eq!((&told["name"], &told["aspects"]), (&"notes".into(), &alices.aspects().into()));

    let (told, talk) = import(&bob, &file).exit(0);
    assert_eq!(told, fingerprint);
    assert!(talk.contains("Joined “notes”"), "{talk}");
    bob.gets(&address, &tree);
    assert_eq!(bobs.event("stored")["source"], "import");
    assert_eq!(bobs.aspects(), alices.aspects());
    let told = bob.pipe(["import", "-", "--json"], &archive).json();
    assert_eq!((&told["already"], &told["new"]), (&true.into(), &0.into()));
    assert_eq!(told["space"]["held"]["arcs"][0], "full");
    assert_eq!(told["aspects"], alices.aspects());
    assert_eq!(bob.run(["store", "check", "--json"]).json()["sound"], true);

    // It is the same space: the two nodes go on together.
    let ticket = alice.run(["ticket"]).ok();
    bob.run(["join", ticket.trim_end(), "--wait"]).ok();
    let again = bob.path("again");
    write_tree(&again, 2);
    let address = bob.put(&again);
    alice.run(["sync"]).ok();
    alice.gets(&address, &again);
}

#[test]
fn what_is_no_sound_archive_is_told() {
    // More than is on its way at once, so that most of it is not sent yet when the daemon gives up.
    let (alice, _alices) = full(24 << 20);
    let file = alice.path("sound");
    export(&alice, &file).ok();
    let sound = fs::read(&file).unwrap();

    let bob = Home::new();
    export(&bob, &bob.path("x")).fails(3, &["arcwise serve"]);
    import(&bob, &file).fails(3, &["arcwise serve"]);
    let bobs = bob.serve();
    export(&bob, &bob.path("x")).fails(4, &["in no space"]);
    import(&bob, &bob.path("nowhere")).fails(4, &["does not exist"]);
    import(&bob, &bob.path("")).fails(1, &["cannot read", "directory"]);
    bob.pipe(["import", "-"], b"").fails(9, &["cut short", "after 0 bytes"]);

    let damaged = |at: usize| {
        let mut bytes = sound.clone();
        bytes[at] ^= 0x40;
        bytes
    };
    let mut newer = sound.clone();
    newer[16] = b'2';
    let bad = bob.path("bad");
    for (bytes, exit, code, word) in [
        (&damaged(0), 2, "usage", "not the archive of a space"),
        (&newer, 10, "version", "a newer version"),
        (&damaged(30), 9, "damaged", "damaged at byte 18,"),
        (&damaged(sound.len() / 2), 9, "damaged", "damaged at byte"),
        (&damaged(sound.len() - 1), 9, "damaged", "damaged at byte"),
        (&sound[..sound.len() - 1].to_vec(), 9, "damaged", "cut short"),
        (&[&sound[..], b"x"].concat(), 9, "damaged", "damaged at byte"),
    ] {
        fs::write(&bad, bytes).unwrap();
        import(&bob, &bad).fails(exit, &[word]);
        let told = bob.pipe(["import", "-", "--json"], bytes).fails(exit, &[word]);
        let told: Value = serde_json::from_str(&told).unwrap();
        assert_eq!(told["error"]["code"], code);
    }
    assert_eq!(bobs.get("/v1/spaces")[0]["held"]["fraction"], 0.0);
    import(&bob, &file).ok();
    assert_eq!(bobs.get("/v1/spaces")[0]["held"]["fraction"], 1.0);
    assert_eq!(bob.run(["store", "check", "--json"]).json()["sound"], true);

    export(&alice, &alice.path("no/such/folder")).fails(1, &["there is no folder"]);
    alice.run(["export", "--space", "other"]).fails(4, &["no space “other”"]);
    bob.run(["import"]).fails(2, &["FILE"]);
}

#[test]
fn a_daemon_that_stops_ends_an_import() {
    let (alice, _alices) = full(24 << 20);
    let file = alice.path("archive");
    export(&alice, &file).ok();
    let archive = fs::read(&file).unwrap();
    let bob = Home::new();
    let bobs = bob.serve();
    let mut command = program(&bob.data());
    command
        .args(["import", "-"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let mut importing = command.spawn().unwrap();
    let mut input = importing.stdin.take().unwrap();
    input.write_all(&archive[..archive.len() - 1]).unwrap();
    until("some of it is stored", || {
        bobs.get("/v1/spaces")[0]["aspects"].as_u64().is_some_and(|aspects| aspects > 0)
    });
    bob.run(["stop"]).ok();
    // Its input is still open.
    let done = Done::from(importing.wait_with_output().unwrap());
    done.fails(1, &["shutting down"]);
    drop((input, bobs));

    let bobs = bob.serve();
    assert_eq!(bobs.get("/v1/spaces")[0]["held"]["fraction"], 0.0);
    let told = bob.pipe(["import", "-", "--json"], &archive).json();
    assert_eq!(told["already"], true);
    assert!(told["new"].as_u64() < told["aspects"].as_u64());
    assert_eq!(told["space"]["held"]["fraction"], 1.0);
}

#[test]
fn a_damaged_store_is_not_exported() {
    let (home, daemon) = full(40 << 20);
    home.run(["stop"]).ok();
    drop(daemon);
    damage(&home);
    let _daemon = home.serve();
    export(&home, &home.path("x")).fails(9, &["arcwise store check --repair"]);
    assert_eq!(names(&home), ["data"]);
    let done = home.run(["export"]);
    assert_eq!(done.code, Some(9));
    let other = Home::new();
    let _other = other.serve();
    other.pipe(["import", "-"], &done.stdout).fails(9, &["cut short"]);
}
