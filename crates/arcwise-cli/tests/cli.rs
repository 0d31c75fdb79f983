//! The program as people and scripts use it.

mod common;

use std::{
    ffi::OsStr,
    fs,
    io::{BufRead, BufReader, Read, Write},
    os::unix::{
        fs::{MetadataExt, PermissionsExt},
        net::{UnixListener, UnixStream},
        process::CommandExt,
    },
    process::Stdio,
};

use common::{Done, Home, PATIENCE, damage, noise, program, until, write_tree};
use serde_json::Value;

const NOWHERE: &str = "0000000000000000000000000000000000000000000000000000000000000000";

/// Whether the text is one line of so many hexadecimal digits.
fn is_hex_line(text: &str, digits: usize) -> bool {
    text.strip_suffix('\n').is_some_and(|line| {
        line.len() == digits && line.bytes().all(|byte| byte.is_ascii_hexdigit())
    })
}

/// Two nodes with daemons in one space, connected and in sync.
struct Pair {
    alice: Home,
    bob: Home,
    alices: common::Daemon,
    bobs: common::Daemon,
}

fn pair() -> Pair {
    let (alice, bob) = (Home::new(), Home::new());
    let (alices, bobs) = (alice.serve(), bob.serve());
    alice.run(["space", "create", "notes"]).ok();
    bob.run(["join", &ticket(&alice), "--wait"]).ok();
    Pair { alice, bob, alices, bobs }
}

fn ticket(home: &Home) -> String {
    home.run(["ticket"]).ok().trim_end().to_owned()
}

/// What a command that fails says with --json.
#[track_caller]
fn error_of(done: Done, exit: i32) -> Value {
    let mut told: Value = serde_json::from_str(&done.fails(exit, &[])).unwrap();
    assert_eq!(told["error"]["exit"], exit);
    told["error"].take()
}

#[test]
fn from_init_to_the_same_files_on_both_sides() {
    let (alice, bob) = (Home::empty(), Home::empty());
    let (id, talk) = alice.run(["init"]).exit(0);
    assert!(is_hex_line(&id, 64) && talk.contains("arcwise serve --data"), "{talk}");
    let (again, talk) = alice.run(["init"]).exit(0);
    assert!(again == id && talk.contains("already"), "{talk}");
    let mode = fs::metadata(alice.data()).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o700);
    let told = bob.run(["init", "--json"]).json();
    assert_eq!((told["node"].as_str().unwrap().len(), &told["already"]), (64, &Value::Bool(false)));

    let (alices, bobs) = (alice.serve(), bob.serve());
    assert_eq!(alices.ready["node"].as_str(), Some(id.trim_end()));
    let socket = alice.data().join("api.sock");
    assert_eq!(fs::metadata(socket).unwrap().permissions().mode() & 0o777, 0o600);
    // A daemon that runs is no obstacle to asking who the node is.
    assert_eq!(alice.run(["init", "-q"]).ok(), id);

    let fingerprint = alice.run(["space", "create", "notes"]).ok();
    assert!(is_hex_line(&fingerprint, 10));
    let (ours, theirs) = (alice.path("ours"), bob.path("theirs"));
    write_tree(&ours, 1);
    write_tree(&theirs, 2);
    let (address, talk) = alice.run([OsStr::new("put"), ours.as_os_str()]).exit(0);
    assert!(is_hex_line(&address, 64) && talk.contains("ours: "), "{address} {talk}");
    let address = address.trim_end();

    let (joined, talk) = bob.run(["join", &ticket(&alice), "--wait"]).exit(0);
    assert_eq!(joined, fingerprint);
    assert!(talk.contains("Connected to") && talk.contains("In sync"), "{talk}");
    bob.gets(address, &ours);
    bob.gets(&address[..6], &ours);

    // The other way, and asked for at once: what is not there yet is fetched from the peer.
    let back = bob.put(&theirs);
    alice.gets(&back, &theirs);
    bob.run(["sync"]).ok();
    assert_eq!(alices.aspects(), bobs.aspects());

    // The same content has the same address, and is not stored again.
    let told = bob.run([OsStr::new("--json"), "put".as_ref(), ours.as_os_str()]).json();
    assert_eq!((&told["address"], &told["new_objects"]), (&address.into(), &0.into()));
    assert_eq!(told["name"], "ours");
}

#[test]
fn what_is_in_a_space_can_be_looked_at() {
    let Pair { alice, bob, alices: _alices, bobs: _bobs } = pair();
    let tree = alice.path("tree");
    write_tree(&tree, 1);
    let address = alice.put(&tree);
    bob.run(["sync"]).ok();

    let listed = bob.run(["ls", "--json"]).json();
    assert_eq!(listed.as_array().unwrap().len(), 1);
    assert_eq!(
        (&listed[0]["address"], &listed[0]["name"]),
        (&address.as_str().into(), &"tree".into())
    );
    assert_eq!((&listed[0]["kind"], &listed[0]["links"]), (&"folder".into(), &2.into()));
    assert!(listed[0]["published"].as_str().unwrap().ends_with('Z'));
    let shown = bob.run(["ls"]).ok();
    assert!(shown.starts_with("ADDRESS") && shown.contains(&address[..10]), "{shown}");
    assert!(shown.trim_end().ends_with("tree/"), "{shown}");

    let inside = bob.run(["ls", &format!("{address}/sub"), "--json"]).json();
    let names: Vec<_> = inside.as_array().unwrap().iter().map(|entry| &entry["name"]).collect();
    assert_eq!(names, ["Grüße 日本 🎉.txt", "deeper", "link", "run.sh"]);
    assert_eq!((&inside[1]["files"], &inside[1]["bytes"]), (&1.into(), &(3 << 20).into()));
    assert_eq!(
        (&inside[2]["target"], &inside[3]["executable"]),
        (&"../hello.txt".into(), &true.into())
    );
    let shown = bob.run(["ls", &format!("{}/sub/", &address[..8])]).ok();
    assert!(shown.contains("run.sh*\n") && shown.contains("link@ -> ../hello.txt\n"), "{shown}");
    // A file is listed as itself.
    let file = bob.run(["ls", &format!("{address}/hello.txt"), "--json"]).json();
    assert_eq!((&file[0]["name"], &file[0]["bytes"]), (&"hello.txt".into(), &8.into()));

    let large = bob.run(["cat", &format!("{address}/sub/deeper/large.bin")]);
    assert!(large.code == Some(0) && large.stdout == noise(1, 3 << 20));
    let (text, talk) = bob.run(["cat", &format!("{address}/sub/Grüße 日本 🎉.txt")]).exit(0);
    assert_eq!((text.as_str(), talk.as_str()), ("größer 1\n", ""));

    // What comes in by a pipe goes out by one, with bytes that are no text.
    let content = noise(7, 100_000);
    let put = bob.pipe(["put", "-", "--name", "noise", "-q"], &content);
    let (stream, talk) = put.exit(0);
    assert!(is_hex_line(&stream, 64) && talk.is_empty());
    assert_eq!(bob.run(["cat", stream.trim_end()]).stdout, content);

    // Under its own name, into the current folder; a part of it; and as JSON.
    let here = bob.path("here");
    fs::create_dir(&here).unwrap();
    let in_here = |args: &[&str]| -> Done {
        program(&bob.data()).args(args).current_dir(&here).output().unwrap().into()
    };
    let (path, talk) = in_here(&["get", &address]).exit(0);
    assert!(path == "tree\n" && talk.contains("6 files"), "{path} {talk}");
    common::assert_same(&tree, &here.join("tree"));
    assert_eq!(in_here(&["get", &address, "--sub", "hello.txt", "-q"]).exit(0).1, "");
    assert_eq!(in_here(&["get", stream.trim_end()]).ok(), "noise\n");
    let told = in_here(&["--json", "get", &format!("{address}/sub"), "part"]).json();
    assert_eq!((&told["path"], &told["files"]), (&"part".into(), &3.into()));
    common::assert_same(&tree.join("sub"), &here.join("part"));
}

#[test]
fn how_things_stand() {
    let Pair { alice, bob, alices, mut bobs } = pair();
    alice.pipe(["put", "-", "--name", "x"], b"x").ok();
    let id = bobs.ready["node"].as_str().unwrap().to_owned();

    let status = alice.run(["status", "--json"]).json();
    assert_eq!(
        (&status["node"], &status["listening"]),
        (&alices.ready["node"], &alices.ready["listening"])
    );
    assert_eq!(
        (&status["spaces"][0]["name"], &status["spaces"][0]["held"]["fraction"]),
        (&"notes".into(), &1.0.into())
    );
    assert!(status["disk"]["used"].as_u64().unwrap() > 0 && status["disk"]["free"].is_u64());
    let shown = alice.run(["status"]).ok();
    assert!(shown.contains("to 1 peer") && shown.contains("holds everything"), "{shown}");

    let known = alice.run(["peers", "--ping", "--json"]).json();
    let peer = &known["peers"][0];
    assert_eq!((&peer["id"], &peer["address"]), (&id.as_str().into(), &bobs.ready["listening"][0]));
    assert!(peer["ping_ms"].is_f64() && peer.get("ping").is_none());
    assert!(peer["agent"].as_str().unwrap().starts_with("arcwise/"));
    assert_eq!(peer["spaces"][0]["last_sync"]["in_sync"], true);
    let shown = alice.run(["peers", "--ping"]).ok();
    assert!(shown.contains("answered a ping") && shown.contains("in sync"), "{shown}");

    let synced = alice.run(["sync", "--json"]).ok();
    let synced: Value = serde_json::from_str(&synced).unwrap();
    assert_eq!((&synced["peer"], &synced["in_sync"]), (&id.as_str().into(), &true.into()));
    let full: Value =
        serde_json::from_str(&alice.run(["sync", &id[..6], "--full", "--json"]).ok()).unwrap();
    assert_eq!(
        (&full["report"]["listed"], &full["report"]["constrained"]),
        (&3.into(), &false.into())
    );
    let none: Value = serde_json::from_str(
        &alice.run(["sync", "--published-since", "2000-01-01T00:00:00+01:00", "--json"]).ok(),
    )
    .unwrap();
    assert_eq!((&none["report"]["constrained"], &none["in_sync"]), (&true.into(), &true.into()));
    assert!(alice.run(["sync"]).ok().contains("in sync after"));

    let spaces = bob.run(["space", "list", "--json"]).json();
    assert_eq!((&spaces[0]["name"], &spaces[0]["aspects"]), (&"notes".into(), &3.into()));
    let shown = bob.run(["space", "list"]).ok();
    assert!(shown.starts_with("SPACE") && shown.contains("notes"), "{shown}");
    let (id_of_space, secret) = bob.run(["space", "id", "--reveal"]).exit(0);
    assert!(is_hex_line(&id_of_space, 64) && secret.contains("can read and write"), "{secret}");
    bob.run(["space", "id"]).fails(2, &["--reveal"]);

    // One goes away, in good order; the other says what is true.
    bobs.signal("-TERM");
    assert_eq!(bobs.wait().code(), Some(0));
    assert!(!bob.data().join("api.sock").exists());
    until("the peer is gone", || alices.get("/v1/peers")["peers"] == Value::Array(Vec::new()));
    let shown = alice.run(["status"]).ok();
    assert!(shown.contains("no: 1 peer known, none answers"), "{shown}");
    assert!(shown.contains("nobody to compare with"), "{shown}");
    let shown = alice.run(["peers"]).ok();
    assert!(shown.contains(&id[..10]) && shown.contains("not connected"), "{shown}");
    alice.run(["sync"]).fails(5, &["no connected peer is in “notes”"]);
    alice.run(["sync", &id[..6]]).fails(5, &["is not connected"]);
    alice.run(["sync", "abcdef"]).fails(4, &["no peer abcdef is known"]);
    alice.run(["sync", "not hex"]).fails(2, &["is no id"]);
}

#[test]
fn without_a_daemon() {
    let home = Home::empty();
    home.run(["status"]).fails(3, &["there is no node", "arcwise init --data"]);
    home.run(["serve"]).fails(3, &["there is no node", "arcwise init --data"]);
    assert!(!home.data().exists(), "nothing is made by accident");
    home.run(["init"]).ok();
    let commands: [&[&str]; 13] = [
        &["status"],
        &["peers"],
        &["sync"],
        &["stop"],
        &["ls"],
        &["ticket"],
        &["space", "list"],
        &["space", "create", "x"],
        &["cat", NOWHERE],
        &["get", NOWHERE, "to"],
        &["put", "/dev/null"],
        &["put", "."],
        &["space", "id", "--reveal"],
    ];
    for command in commands {
        home.run(command).fails(3, &["no daemon runs on", "arcwise serve --data"]);
    }
    let error = home.run(["--json", "status"]).fails(3, &[]);
    let error: Value = serde_json::from_str(&error).unwrap();
    assert_eq!(
        (&error["error"]["code"], &error["error"]["exit"]),
        (&"no_daemon".into(), &3.into())
    );
    // The socket of a daemon that was killed is no obstacle, neither here nor to the next one.
    let mut daemon = home.serve();
    daemon.kill();
    assert!(home.data().join("api.sock").exists());
    home.run(["status"]).fails(3, &["no daemon runs on"]);
    let _daemon = home.serve();
    home.run(["status"]).ok();
}

#[test]
fn daemons_that_cannot_start_harm_nothing() {
    let home = Home::new();
    let mut daemon = home.serve();
    home.run(["serve"]).fails(6, &["another process has the store", "a folder of its own"]);
    assert_eq!(error_of(home.run(["serve", "--json"]), 6)["code"], "locked");
    home.run(["space", "create", "still here"]).ok();

    let other = Home::new();
    let taken = daemon.ready["listening"][0].as_str().unwrap();
    other.run(["serve", "--listen", taken]).fails(7, &["cannot listen on", taken, "another port"]);
    let error = error_of(other.run(["serve", "--listen", taken, "--json"]), 7);
    assert_eq!(error["code"], "port_in_use");
    // On a folder with a daemon that was started a moment ago, and is gone again, all is as before.
    let _daemon = other.serve();
    drop(_daemon);

    // Through a file, no folder can be made.
    let file = home.path("file");
    fs::write(&file, "").unwrap();
    let within = program(&file.join("node")).arg("init").output().unwrap();
    let text = Done::from(within).fails(1, &["cannot use"]);
    assert!(!text.contains("because"), "said twice: {text}");

    daemon.kill();
    let format = home.data().join("FORMAT");
    fs::write(&format, "arcwise store, format 99\n").unwrap();
    home.run(["serve"]).fails(10, &["has format 99", "upgrade arcwise"]);
    assert_eq!(error_of(home.run(["serve", "--json"]), 10)["code"], "version");
    assert_eq!(fs::read(&format).unwrap(), b"arcwise store, format 99\n");
    fs::write(&format, "arcwise store, format 1\n").unwrap();
    let _daemon = home.serve();
    assert!(home.run(["space", "list"]).ok().contains("still here"));
}

#[test]
fn stop_leaves_the_folder_free() {
    let home = Home::new();
    let mut address = Value::Null;
    for round in 0..3 {
        let mut daemon = home.serve();
        let listening = daemon.ready["listening"].clone();
        assert!(round == 0 || listening == address, "tickets stay good");
        address = listening;
        assert_eq!(home.run(["stop", "-q"]).exit(0), Default::default());
        // At once, before the process is even gone.
        let next = home.serve();
        assert_eq!(daemon.wait().code(), Some(0));
        home.run(["stop", "--json"]).json();
        drop(next);
    }
}

#[test]
fn the_second_signal_ends_it_at_once() {
    let home = Home::new();
    let mut daemon = home.serve();
    home.run(["space", "create", "x"]).ok();
    // A request that does not come to its end holds an orderly shutdown up.
    let mut stuck = daemon.connect();
    let head = "POST /v1/aspects HTTP/1.1\r\nHost: test\r\nContent-Length: 1000\r\n";
    write!(stuck, "{head}Expect: 100-continue\r\n\r\n").unwrap();
    let mut go_on = [0; 25];
    stuck.read_exact(&mut go_on).unwrap();
    assert_eq!(&go_on, b"HTTP/1.1 100 Continue\r\n\r\n", "the request is under way");
    daemon.signal("-INT");
    until("it shuts down", || !home.data().join("api.sock").exists());
    // One that comes right after the first is taken for the same.
    until("it ends", || {
        daemon.signal("-INT");
        daemon.has_ended()
    });
    assert_eq!(daemon.wait().code(), Some(130));
    let _daemon = home.serve();
    home.run(["status"]).ok();
}

#[test]
fn bad_input_is_told_plainly() {
    let Pair { alice, bob, alices: _alices, bobs: _bobs } = pair();
    let file = alice.path("file.txt");
    fs::write(&file, "content").unwrap();
    let address = alice.put(&file);

    let own = ticket(&alice);
    alice.run(["join", &own]).fails(2, &["made by this very node"]);
    let swapped = if own.ends_with('a') { 'b' } else { 'a' };
    let typo = format!("{}{swapped}", &own[..own.len() - 1]);
    bob.run(["join", &typo]).fails(2, &["typo in the ticket"]);
    bob.run(["join", "hello"]).fails(2, &["not a ticket"]);
    bob.pipe(["join", "-"], b"").fails(2, &["not a ticket"]);

    alice.run(["put", "not/there"]).fails(4, &["not/there does not exist"]);
    alice
        .run([OsStr::new("put"), file.as_os_str(), "--name".as_ref(), "x".as_ref()])
        .fails(2, &["stdin"]);
    alice.run(["put", "-"]).fails(2, &["--name"]);
    for name in ["a/b", "../x", "", ".."] {
        alice.pipe(["put", "-", "--name", name], b"x").fails(2, &["--name", "such as notes.txt"]);
    }
    let socket = alice.data().join("api.sock");
    alice.run([OsStr::new("put"), socket.as_os_str()]).fails(1, &["neither a file nor a folder"]);

    for command in ["cat", "ls"] {
        alice.run([command, NOWHERE]).fails(4, &[NOWHERE, "not held here"]);
        alice.run([command, "abcdef012345"]).fails(4, &["no address in the catalog begins with"]);
        alice.run([command, "hello"]).fails(2, &["is no address"]);
        alice.run([command, "abc"]).fails(2, &["at least the first 4"]);
    }
    alice.run(["get", NOWHERE]).fails(4, &["not held here"]);
    alice.run(["cat", &format!("{address}/x")]).fails(1, &["is not a folder"]);
    alice.run(["get", &format!("{address}/x"), "--sub", "y"]).fails(2, &["twice"]);
    let existing = alice.path("existing");
    fs::write(&existing, "mine").unwrap();
    alice
        .run([OsStr::new("get"), address.as_ref(), existing.as_os_str()])
        .fails(1, &["exists already"]);
    assert_eq!(fs::read(&existing).unwrap(), b"mine");
    let folder =
        alice.put(alice.path("").join("data").parent().unwrap().join("file.txt").as_path());
    assert_eq!(folder, address);

    alice.run(["space", "create", "notes"]).fails(1, &["already", "another name"]);
    alice.run(["space", "create", ""]).fails(2, &["choose another"]);
    alice.run(["space", "create", "more"]).ok();
    let text = alice.run(["ls"]).fails(2, &["several spaces", "--space", "notes", "more"]);
    assert!(text.lines().count() == 3, "{text}");
    alice.run(["ls", "--space", "nots"]).fails(4, &["no space “nots”", "notes"]);
    alice.run(["ls", "--space", "more"]).ok();
    let listed = alice.run(["space", "list", "--json"]).json();
    let fingerprint = listed[0]["fingerprint"].as_str().unwrap();
    alice.run(["cat", &address, "--space", &fingerprint[..4]]).ok();
    alice.run(["cat", &address, "-s", &format!("#{fingerprint}")]).ok();

    let malformed: [&[&str]; 9] = [
        &[],
        &["frobnicate"],
        &["ls", "--frob"],
        &["serve", "--listen", "nonsense"],
        &["get"],
        &["serve", "--relay", "::"],
        &["sync", "--published-since", "yesterday"],
        &["join"],
        &["status", "-q", "-v"],
    ];
    for args in malformed {
        let done = alice.run(args);
        assert_eq!(done.code, Some(2), "{args:?} {done:?}");
        assert!(done.stdout.is_empty() && !done.stderr.is_empty());
    }
    let help = alice.run(["--help"]).ok();
    assert!(help.contains("Exit codes:") && help.contains("arcwise join TICKET"), "{help}");
}

#[test]
fn a_ticket_to_nowhere() {
    let (alice, bob) = (Home::new(), Home::new());
    let ticket = {
        let _daemon = alice.serve();
        alice.run(["space", "create", "notes"]).ok();
        ticket(&alice)
    };
    let mut bobs = bob.serve();
    let wrapped = format!("{}\n  {}\n", &ticket[..40], &ticket[40..]);
    let (joined, talk) = bob.pipe(["join", "-", "--timeout", "1"], wrapped.as_bytes()).exit(5);
    assert!(is_hex_line(&joined, 10), "the space is joined all the same");
    for words in
        ["was not reached at 127.0.0.1:", "The daemon keeps trying", "on the machine where"]
    {
        assert!(talk.contains(words), "{talk}");
    }
    let shown = bob.run(["status"]).ok();
    assert!(shown.contains("does not hold all of any part yet"), "{shown}");
    let told = bob.run(["join", &ticket, "--timeout", "0", "--json"]).exit(5).0;
    let told: Value = serde_json::from_str(&told).unwrap();
    assert_eq!((&told["reached"], &told["already"]), (&false.into(), &true.into()));

    // It does keep trying.
    let _alices = alice.serve();
    bobs.event("in_sync");
    bob.run(["join", &ticket, "--wait"]).ok();
}

#[test]
fn a_full_disk_is_told_and_gets_better() {
    let home = Home::new();
    let file = home.path("file");
    fs::write(&file, "content").unwrap();
    {
        let _daemon = home.serve();
        home.run(["space", "create", "x"]).ok();
        home.put(&file);
    }
    {
        let all = u64::MAX.to_string();
        let _daemon = home.serve_with(["--listen", "127.0.0.1:0", "--min-free", &all]);
        let full = home.pipe(["put", "-", "--name", "more"], b"more");
        full.fails(8, &["the disk is full", "iB are free and 16 EiB are needed", "--min-free"]);
        let full = home.pipe(["put", "-", "--name", "more", "--json"], b"more");
        assert_eq!(error_of(full, 8)["code"], "disk_full");
        assert_eq!(home.run(["ls", "--json"]).json().as_array().unwrap().len(), 1);
    }
    let _daemon = home.serve();
    home.pipe(["put", "-", "--name", "more"], b"more").ok();
}

#[test]
fn who_has_read_enough_is_no_trouble() {
    let home = Home::new();
    let _daemon = home.serve();
    home.run(["space", "create", "x"]).ok();
    let large = home.pipe(["put", "-", "--name", "large"], &noise(1, 4 << 20)).ok();
    let mut command = program(&home.data());
    command.args(["cat", large.trim_end()]).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    let mut first = [0; 10];
    child.stdout.take().unwrap().read_exact(&mut first).unwrap();
    assert_eq!(Done::from(child.wait_with_output().unwrap()).exit(0), Default::default());
    assert_eq!(first, noise(1, 10)[..]);
    if let Ok(full) = fs::File::options().write(true).open("/dev/full") {
        let status = program(&home.data()).arg("status").stdout(full).output().unwrap();
        Done::from(status).fails(1, &["cannot write the output"]);
    }
}

#[test]
fn an_interrupted_get_leaves_nothing() {
    a_get_ended_by("-INT", 130, "interrupted");
}

#[test]
fn a_terminated_get_leaves_nothing() {
    a_get_ended_by("-TERM", 143, "terminated");
}

fn a_get_ended_by(signal: &str, code: i32, word: &str) {
    let home = Home::new();
    let daemon = home.serve();
    home.run(["space", "create", "x"]).ok();
    let source = home.path("source");
    common::write_files(&source, 1, 32, 512 << 10);
    let address = home.put(&source);

    // Between the two stands somebody who lets only so much through.
    let (socket, real) = (home.data().join("api.sock"), home.data().join("real.sock"));
    fs::rename(&socket, &real).unwrap();
    let listener = UnixListener::bind(&socket).unwrap();
    let out = home.path("out");
    fs::create_dir(&out).unwrap();
    let mut command = program(&home.data());
    command.args(["get", &address]).current_dir(&out);
    let child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let (mut asks, _) = listener.accept().unwrap();
    let mut answers = UnixStream::connect(&real).unwrap();
    let (mut from, mut to) = (asks.try_clone().unwrap(), answers.try_clone().unwrap());
    let forward = std::thread::spawn(move || std::io::copy(&mut from, &mut to));
    std::io::copy(&mut Read::by_ref(&mut answers).take(8 << 20), &mut asks).unwrap();

    until("something is half done", || {
        let partial = fs::read_dir(&out).unwrap().next();
        partial.is_some_and(|partial| fs::read_dir(partial.unwrap().path()).unwrap().count() > 0)
    });
    let id = child.id().to_string();
    assert!(std::process::Command::new("kill").args([signal, &id]).status().unwrap().success());
    Done::from(child.wait_with_output().unwrap()).fails(code, &[word]);
    assert_eq!(fs::read_dir(&out).unwrap().count(), 0);
    drop((asks, answers, daemon));
    let _ = forward.join().unwrap();
}

#[test]
fn a_folder_deeper_than_a_socket_can_be() {
    let home = Home::empty();
    let data = home.path("").join("d".repeat(150)).join("e".repeat(150));
    let run = |args: &[&str]| -> Done { program(&data).args(args).output().unwrap().into() };
    run(&["init"]).ok();
    let mut daemon = home.serve_on(&data, ["--listen", "127.0.0.1:0"]);
    assert_eq!(run(&["status", "--json"]).json()["node"], daemon.ready["node"]);
    run(&["stop"]).ok();
    assert_eq!(daemon.wait().code(), Some(0));
    run(&["status"]).fails(3, &["no daemon runs on"]);
}

#[test]
fn another_user_is_turned_away() {
    let home = Home::new();
    let daemon = home.serve();
    let socket = home.data().join("api.sock");
    if fs::metadata(&socket).unwrap().uid() != 0 {
        eprintln!("SKIPPED: only root can become somebody else");
        return;
    }
    let status = || {
        let mut command = program(&home.data());
        Done::from(command.arg("status").uid(65_534).gid(65_534).output().unwrap())
    };
    status().fails(1, &["cannot talk to the daemon", "Permission denied"]);
    let serve = program(&home.data()).arg("serve").uid(65_534).gid(65_534).output().unwrap();
    Done::from(serve).fails(1, &["Permission denied"]);
    // Even where every door was opened by hand.
    for path in [home.path(""), home.data(), socket] {
        fs::set_permissions(path, fs::Permissions::from_mode(0o777)).unwrap();
    }
    status().fails(1, &["only the user who runs the daemon"]);
    drop(daemon);
}

#[test]
fn events_can_be_followed() {
    let home = Home::new();
    let mut daemon = home.serve();
    home.run(["space", "create", "x"]).ok();
    let mut stream = daemon.connect();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    write!(stream, "GET /v1/events HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").unwrap();
    let mut answer = [0; 12];
    stream.read_exact(&mut answer).unwrap();
    assert_eq!(&answer, b"HTTP/1.1 200");
    home.pipe(["put", "-", "--name", "y"], b"y").ok();
    // On stdout of the daemon and for whoever follows, the same; and it ends with the daemon.
    let event = daemon.event("stored");
    assert_eq!((&event["aspects"], &event["source"]), (&3.into(), &"local".into()));
    home.run(["stop"]).ok();
    let mut followed = String::new();
    stream.read_to_string(&mut followed).unwrap();
    assert!(followed.contains(r#""event":"stored""#), "{followed}");
    let _again = home.serve();
}

#[test]
fn other_requests_are_refused_in_the_same_form() {
    let home = Home::new();
    let daemon = home.serve();
    let ask = |request: &str| {
        let mut stream = daemon.connect();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        write!(stream, "{request} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n").unwrap();
        write!(stream, "Content-Length: 3\r\n\r\n{{}}\n").unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        let status: u16 = head[9..12].parse().unwrap();
        let error: Value = serde_json::from_str(body).unwrap();
        (status, error["code"].as_str().unwrap().to_owned())
    };
    assert_eq!(ask("GET /v1/nonsense"), (404, "not_found".into()));
    assert_eq!(ask("PUT /v1/status"), (400, "bad_request".into()));
    assert_eq!(ask("POST /v1/spaces"), (400, "bad_request".into()));
    assert_eq!(ask("POST /v1/join"), (400, "bad_request".into()));
    assert_eq!(ask("GET /v1/ticket"), (404, "not_found".into()));
    assert_eq!(ask("POST /v1/sync"), (404, "not_found".into()));
    home.run(["space", "create", "x"]).ok();
    assert_eq!(ask("POST /v1/aspects?space=x"), (400, "bad_request".into()));
    assert_eq!(ask("POST /v1/missing"), (400, "bad_request".into()));
    assert_eq!(ask("GET /v1/entry?address=xyz"), (400, "bad_request".into()));
    assert_eq!(ask("POST /v1/aspects?space=y"), (404, "not_found".into()));
}

#[test]
fn a_join_ends_where_our_own_disk_is_full() {
    let (alice, bob) = (Home::new(), Home::new());
    let _alices = alice.serve();
    alice.run(["space", "create", "notes"]).ok();
    alice.pipe(["put", "-", "--name", "x"], b"x").ok();
    let all = u64::MAX.to_string();
    let _bobs = bob.serve_with(["--listen", "127.0.0.1:0", "--min-free", &all]);
    let ticket = ticket(&alice);
    let (_, talk) = bob.run(["join", &ticket, "--wait"]).exit(8);
    assert!(talk.contains("error: the disk is full") && talk.contains("--min-free"), "{talk}");
    assert_eq!(error_of(bob.run(["join", &ticket, "--wait", "--json"]), 8)["code"], "disk_full");
    let (told, _) = bob.run(["sync", "--json"]).exit(8);
    let told: Value = serde_json::from_str(&told).unwrap();
    assert_eq!(told["code"], "disk_full");
}

#[test]
fn a_join_says_what_it_waits_for() {
    let (alice, bob) = (Home::new(), Home::new());
    let ticket = {
        let _alices = alice.serve();
        alice.run(["space", "create", "notes"]).ok();
        ticket(&alice)
    };
    let _bobs = bob.serve();
    bob.run(["join", &ticket, "--timeout", "0"]).exit(5);
    bob.pipe(["put", "-", "--name", "x"], b"x").ok();
    let all = u64::MAX.to_string();
    let mut alices = alice.serve_with(["--listen", "127.0.0.1:0", "--min-free", &all]);
    let mut command = program(&bob.data());
    command.args(["join", &ticket, "--wait"]).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    let mut talk = BufReader::new(child.stderr.take().unwrap()).lines().map(Result::unwrap);
    let why = talk.find(|line| line.contains("Not in sync yet")).unwrap();
    assert_eq!(bob.run(["sync"]).exit(1).1, "");
    alices.kill();
    let _alices = alice.serve();
    let rest: Vec<String> = talk.collect();
    assert!(!rest.contains(&why), "each reason once: {rest:?}");
    assert!(rest.last().unwrap().starts_with("In sync: "), "{rest:?}");
    assert_eq!(child.wait().unwrap().code(), Some(0));
}

#[test]
fn a_join_tells_the_space_as_it_is_in_the_end() {
    let (alice, bob) = (Home::new(), Home::new());
    let (_alices, _bobs) = (alice.serve(), bob.serve());
    alice.run(["space", "create", "notes"]).ok();
    alice.pipe(["put", "-", "--name", "x"], b"x").ok();
    let told = bob.run(["join", &ticket(&alice), "--wait", "--json"]).json();
    assert_eq!((&told["in_sync"], &told["space"]["aspects"]), (&true.into(), &3.into()));
    assert_eq!(told["space"]["held"]["fraction"], 1.0);
}

#[test]
fn a_bad_command_line_in_json_and_without_secrets() {
    let home = Home::new();
    for args in [&["--json"][..], &["--json", "frobnicate"], &["ls", "--frob", "--json"]] {
        let error = error_of(home.run(args), 2);
        assert_eq!(error["code"], "usage", "{error}");
        let message = error["message"].as_str().unwrap();
        assert!(!message.contains('\n') && !message.contains("Usage:"), "{message}");
    }
    assert!(home.run(["--json", "--help"]).ok().contains("Exit codes:"));

    let _daemon = home.serve();
    home.run(["space", "create", "notes"]).ok();
    let ticket = ticket(&home);
    let part = &ticket[1..];
    let wrong: [&[&str]; 5] = [
        &["join", part],
        &["join", &ticket[..30]],
        &["join", &ticket, "x"],
        &["status", &ticket],
        &["peers", part],
    ];
    for args in wrong {
        for args in [args, &[args, &["--json"]].concat()] {
            let text = home.run(args).fails(2, &[]);
            assert!(!text.contains(&ticket[13..25]), "{text}");
        }
    }
}

#[test]
fn a_port_that_is_taken_is_used_again_later() {
    let home = Home::new();
    let address = {
        let daemon = home.serve();
        daemon.ready["listening"][0].as_str().unwrap().to_owned()
    };
    {
        let _taken = std::net::UdpSocket::bind(&address).unwrap();
        let daemon = home.serve();
        assert_ne!(daemon.ready["listening"][0], address.as_str());
        let status = home.run(["status", "--json"]).json();
        let warning = status["warnings"][0].as_str().unwrap();
        assert!(warning.contains(&address) && warning.contains("tickets"), "{warning}");
        assert!(home.run(["status"]).ok().contains("warning     127.0.0.1:"));
    }
    let daemon = home.serve();
    assert_eq!(daemon.ready["listening"][0], address.as_str());
    assert_eq!(home.run(["status", "--json"]).json()["warnings"], serde_json::json!([]));
}

#[test]
fn nobody_there_who_may_have_it() {
    let Pair { alice, bob: _bob, alices, mut bobs } = pair();
    bobs.signal("-TERM");
    assert_eq!(bobs.wait().code(), Some(0));
    until("the peer is gone", || alices.get("/v1/peers")["peers"] == Value::Array(Vec::new()));
    for command in ["get", "cat", "ls"] {
        alice.run([command, NOWHERE]).fails(5, &["not held here", "none answers"]);
    }
    assert_eq!(error_of(alice.run(["get", NOWHERE, "--json"]), 5)["code"], "not_reached");
}

#[test]
fn garbage_in_the_data_folder() {
    let home = Home::new();
    {
        let _daemon = home.serve();
        home.run(["space", "create", "notes"]).ok();
    }
    let data = home.data();
    let (db, format, key) = (data.join("db"), data.join("FORMAT"), data.join("key"));
    let refused = |code: i32, words: &[&str]| {
        let text = home.run(["serve"]).fails(code, words);
        for leak in ["because", "Fjall", "Invalid", "Storage("] {
            assert!(!text.contains(leak), "{text}");
        }
        assert_eq!(text.lines().count(), 1, "{text}");
        let error = error_of(home.run(["serve", "--json"]), code);
        assert!(code != 9 || error["code"] == "damaged", "{error}");
    };

    fs::rename(&db, data.join("away")).unwrap();
    refused(9, &["the store of this node is gone: restore a backup, or begin anew"]);
    fs::rename(data.join("away"), &db).unwrap();

    let written = fs::read(&format).unwrap();
    fs::remove_file(&format).unwrap();
    refused(9, &["has no file FORMAT"]);
    fs::write(&format, "hello\n").unwrap();
    refused(9, &["does not name a format"]);
    fs::write(&format, written).unwrap();

    let version = db.join("version");
    let written = fs::read(&version).unwrap();
    fs::write(&version, "garbage").unwrap();
    refused(9, &["a file of the store is damaged; restore a backup"]);
    fs::write(&version, written).unwrap();

    let written = fs::read(&key).unwrap();
    fs::write(&key, "garbage").unwrap();
    refused(9, &["not 64 hexadecimal digits"]);
    fs::write(&key, written).unwrap();
    let _daemon = home.serve();
    assert!(home.run(["space", "list"]).ok().contains("notes"));
}

/// What the disk has lost, a peer still has.
#[test]
fn a_damaged_store_heals_from_a_peer() {
    let Pair { alice, bob, alices: _alices, bobs } = pair();
    let large = alice.path("large");
    fs::write(&large, noise(7, 40 << 20)).unwrap();
    let address = alice.put(&large);
    bob.run(["sync"]).ok();
    bob.run(["stop"]).ok();
    drop(bobs);
    damage(&bob);

    let bobs = bob.serve();
    bob.run(["store", "check"]).exit(9);
    let (told, _) = bob.run(["store", "check", "--repair", "--json"]).exit(9);
    let told: Value = serde_json::from_str(&told).unwrap();
    assert_eq!(told["given_up"], 1);
    bob.run(["sync"]).ok();
    assert_eq!(bob.run(["store", "check", "--json"]).json()["sound"], true);
    bob.gets(&address, &large);
    drop(bobs);
}

#[test]
fn a_store_can_be_checked() {
    let home = Home::empty();
    home.run(["store", "check"]).fails(3, &["there is no node"]);
    home.run(["init"]).ok();
    {
        let _daemon = home.serve();
        home.run(["space", "create", "notes"]).ok();
        // More than stays in the engine's memory and journals.
        home.pipe(["put", "-", "--name", "large"], &noise(1, 40 << 20)).ok();
        let told = home.run(["store", "check", "--json"]).json();
        assert_eq!((&told["sound"], &told["damage_count"]), (&true.into(), &0.into()));
        home.run(["stop"]).ok();
    }
    let shown = home.run(["store", "check"]).ok();
    assert!(shown.contains("sound aspects") && shown.contains("nothing is damaged"), "{shown}");

    damage(&home);

    let (shown, advice) = home.run(["store", "check"]).exit(9);
    assert!(shown.starts_with("log row ") || shown.starts_with("aspect "), "{shown}");
    assert!(shown.contains("1 damage.") && shown.contains("cannot be read"), "{shown}");
    assert!(advice.contains("restore a backup"), "{advice}");
    let _daemon = home.serve();
    let (told, _) = home.run(["store", "check", "--json"]).exit(9);
    let told: Value = serde_json::from_str(&told).unwrap();
    assert_eq!((&told["sound"], &told["damage_count"]), (&false.into(), &1.into()));
    assert_eq!(told["damages"].as_array().unwrap().len(), 1);
    let address = home.run(["ls", "--json"]).json()[0]["address"].as_str().unwrap().to_owned();
    let text = home
        .run(["get", &address, home.path("out").to_str().unwrap()])
        .fails(9, &["arcwise store check"]);
    assert!(!text.contains("Fjall") && !text.contains("Checksum"), "{text}");
}
