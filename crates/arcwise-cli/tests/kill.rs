//! Either of two daemons is killed in the middle of a session; nothing is lost, and both go on.

mod common;

use std::{ffi::OsStr, process::Stdio};

use common::{Daemon, Done, Home, program, until, write_files};

/// Files that one of them has and the other lacks. Enough that a session takes a while.
const FILES: u64 = 2000;
const LENGTH: usize = 4000;

#[derive(Clone, Copy)]
enum Victim {
    Sender,
    Receiver,
}

#[test]
fn a_session_that_is_killed_is_taken_up_again() {
    let (alice, bob) = (Home::new(), Home::new());
    let (mut alices, mut bobs) = (alice.serve(), bob.serve());
    alice.run(["space", "create", "notes"]).ok();
    let ticket = alice.run(["ticket"]).ok();
    bob.run(["join", ticket.trim_end(), "--wait"]).ok();

    // Who has the files, and who is killed: each of them, in each role.
    let rounds = [
        (true, Victim::Receiver),
        (false, Victim::Sender),
        (true, Victim::Sender),
        (false, Victim::Receiver),
    ];
    for (round, (alice_sends, victim)) in (0..).zip(rounds) {
        let (sender, receiver) = if alice_sends { (&alice, &bob) } else { (&bob, &alice) };
        let (sends, receives) =
            if alice_sends { (&mut alices, &mut bobs) } else { (&mut bobs, &mut alices) };
        // A machine may be so fast that all has arrived before anybody can be killed.
        let caught = (0..5).any(|attempt| {
            let (seed, files) = (round * 10 + attempt, FILES << attempt);
            one_round(seed, files, victim, (sender, &mut *sends), (receiver, &mut *receives))
        });
        assert!(caught, "nobody was killed in the middle");
    }
    assert_eq!(alices.aspects(), bobs.aspects());
}

/// Whether somebody was killed in the middle.
fn one_round(
    seed: u64,
    files: u64,
    victim: Victim,
    (sender, sends): (&Home, &mut Daemon),
    (receiver, receives): (&Home, &mut Daemon),
) -> bool {
    // Put while the other is away, so that a session and not a push brings it.
    let before = receives.aspects();
    receives.kill();
    let source = sender.path(&format!("source {seed}"));
    write_files(&source, seed, files, LENGTH);
    let address = sender.put(&source);
    let all = sends.aspects();
    assert!(all > before + files);

    *receives = receiver.serve();
    let mut arrived = before;
    until("a part has arrived", || {
        arrived = receives.aspects();
        arrived > before + files / 4
    });
    match victim {
        Victim::Sender => sends.kill(),
        Victim::Receiver => receives.kill(),
    }
    let caught = match victim {
        // Nothing but the victim could bring the rest.
        Victim::Sender => receives.aspects() < all,
        Victim::Receiver => arrived < all,
    };
    match victim {
        Victim::Sender => *sends = sender.serve(),
        Victim::Receiver => *receives = receiver.serve(),
    }
    // What was counted before is still there, and the rest comes by itself.
    assert!(receives.aspects() >= arrived && sends.aspects() == all);
    until("all has arrived", || receives.aspects() == all);
    for home in [sender, receiver] {
        home.gets(&address, &source);
    }
    caught
}

#[test]
fn a_put_that_is_cut_off_is_told_and_can_be_repeated() {
    let home = Home::new();
    let mut daemon = home.serve();
    home.run(["space", "create", "notes"]).ok();
    let source = home.path("source");
    write_files(&source, 1, 128, 512 << 10);
    let mut put = program(&home.data());
    put.args([OsStr::new("put"), source.as_os_str()]).stdout(Stdio::piped()).stderr(Stdio::piped());
    let put = put.spawn().unwrap();
    until("a part is stored", || daemon.aspects() > 20);
    daemon.kill();
    Done::from(put.wait_with_output().unwrap()).fails(1, &["the daemon stopped in the middle"]);

    let daemon = home.serve();
    assert!(daemon.aspects() > 20);
    assert_eq!(home.run(["ls", "--json"]).json(), serde_json::json!([]), "nothing half there");
    let address = home.put(&source);
    home.gets(&address, &source);
}
