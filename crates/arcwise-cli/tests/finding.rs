//! Whom a node finds, and whom it keeps away.

mod common;

use common::{Home, until};

fn ticket(home: &Home) -> String {
    home.run(["ticket"]).ok().trim_end().to_owned()
}

#[test]
fn a_peer_is_blocked_and_let_in_again() {
    let (alice, bob) = (Home::new(), Home::new());
    let (alices, _bobs) = (alice.serve(), bob.serve());
    alice.run(["space", "create", "notes"]).ok();
    bob.run(["join", &ticket(&alice)]).ok();
    let id = bob.run(["status", "--json"]).json()["node"].as_str().unwrap().to_owned();
    let short = &id[..10];

    alice.run(["peers", "block", "abcdef"]).fails(4, &["no peer abcdef is known"]);
    alice.run(["peers", "block", "x"]).fails(2, &["is no id"]);
    let own = alice.run(["status", "--json"]).json()["node"].as_str().unwrap().to_owned();
    alice.run(["peers", "block", &own]).fails(2, &["the node itself"]);

    let said = alice.run(["peers", "block", short]).exit(0).1;
    assert!(said.contains("is blocked") && said.contains("peers unblock"), "{said}");
    assert!(alice.run(["peers", "block", &id]).exit(0).1.contains("already"));
    until("he is gone", || alices.get("/v1/peers")["peers"].as_array().unwrap().is_empty());
    let shown = alice.run(["peers"]).ok();
    assert!(
        shown.contains(&format!("{short}  blocked")) && !shown.contains("not connected"),
        "{shown}"
    );
    assert_eq!(alice.run(["peers", "--json"]).json()["blocked"][0]["id"], id.as_str());
    let told = alice.run(["doctor", short]).exit(0).0;
    assert!(told.contains(&format!("this node has blocked {short}")), "{told}");
    assert!(alice.run(["doctor"]).exit(0).0.contains("1 peer blocked here"));
    // He is told what he may know.
    until("he is declined", || {
        let shown = bob.run(["peers"]).ok();
        shown.contains("declines to be connected to this node")
    });
    assert!(bob.run(["doctor"]).exit(1).0.contains("it may have blocked this node"));

    let said = alice.run(["peers", "unblock", short, "--json"]).json();
    assert_eq!((&said["id"], &said["changed"]), (&id.as_str().into(), &true.into()));
    until("he is there again", || !alices.get("/v1/peers")["peers"].as_array().unwrap().is_empty());
    assert!(alice.run(["peers", "unblock", &id]).exit(0).1.contains("was not blocked"));
}

#[test]
fn several_tickets_are_as_good_as_the_best_of_them() {
    let (alice, bob, carol) = (Home::new(), Home::new(), Home::new());
    let (alices, _bobs, _carols) = (alice.serve(), bob.serve(), carol.serve());
    alice.run(["space", "create", "notes"]).ok();
    alice.run(["space", "create", "other"]).ok();
    let of = |space: &str| alice.run(["ticket", "--space", space]).ok().trim().to_owned();
    let (notes, other) = (of("notes"), of("other"));
    bob.run(["join", &notes]).ok();
    let bobs = ticket(&bob);
    carol.run(["join", &notes, &other]).fails(2, &["of different spaces"]);
    drop(alices);
    // The first leads nowhere any more.
    let joined = carol.run(["join", &notes, &bobs, "--json"]).json();
    assert_eq!(joined["reached"], true);
    assert_eq!(carol.run(["space", "list", "--json"]).json().as_array().unwrap().len(), 1);
}
