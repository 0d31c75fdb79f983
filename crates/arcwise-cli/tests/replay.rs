//! A daemon's decisions, made once more from what it has written down.

mod common;

use std::{fs, os::unix::fs::PermissionsExt as _};

use common::{Home, write_tree};

#[test]
fn a_daemon_is_captured_and_replayed() {
    let (alice, bob) = (Home::new(), Home::new());
    let file = alice.path("capture");
    let file = file.to_str().unwrap();
    let mut alices = alice.serve_with(["--listen", "127.0.0.1:0", "--capture", file]);
    let _bobs = bob.serve();
    alice.run(["space", "create", "notes"]).ok();
    let tree = alice.path("tree");
    write_tree(&tree, 1);
    alice.put(&tree);
    let ticket = alice.run(["ticket"]).ok();
    let ticket = ticket.trim_end();
    bob.run(["join", ticket, "--wait"]).ok();
    alices.signal("TERM");
    assert!(alices.wait().success());
    assert_eq!(fs::metadata(file).unwrap().permissions().mode() & 0o777, 0o600);

    // Neither a daemon nor a data folder is needed.
    let other = Home::empty();
    let told = other.run(["replay", file, ticket]).ok();
    assert!(told.contains("Everything was decided in the same way."), "{told}");
    let told = other.pipe(["replay", file, "-", "--json"], ticket.as_bytes()).json();
    assert_eq!(told["node"], alices.ready["node"]);
    assert!(told["sessions"].as_u64().unwrap() > 0 && told["difference"].is_null(), "{told}");

    // It is not written over.
    let talk = alice.run(["serve", "--capture", file]).fails(1, &["cannot write a capture"]);
    assert!(talk.contains(file), "{talk}");
    bob.run(["space", "create", "other"]).ok();
    let foreign = bob.run(["ticket", "--space", "other"]).ok();
    let (told, talk) = other.run(["replay", file, foreign.trim_end()]).exit(1);
    assert!(told.contains("Nothing was replayed") && talk.contains("a ticket of it is needed"));
    let mut bytes = fs::read(file).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs::write(file, bytes).unwrap();
    other.run(["replay", file, ticket]).fails(9, &["line", "damaged"]);
    other.run(["replay", "/nowhere", ticket]).fails(4, &["cannot read /nowhere"]);
    other.run(["replay", file, "arcwise1x"]).fails(2, &[]);
}
