//! What nodes have done is done once more, from what they wrote down.

mod common;

use std::{fs, path::PathBuf};

use arcwise::{
    Config, Event, Limits, Node, OpenError, SpaceId, SyncOptions,
    capture::{CaptureError, replay},
};
use common::{aspects, in_sync, until, until_held};
use tempfile::TempDir;

async fn open(folder: &TempDir) -> (Node, PathBuf) {
    let file = folder.path().join("capture");
    let mut config = Config::new(folder.path().join("node")).loopback();
    config.capture = Some(file.clone());
    (Node::open(config).await.unwrap(), file)
}

/// Two nodes find each other, compare by packets and by lists, and push; gives their captures.
async fn two_nodes(folders: &[TempDir; 2]) -> (SpaceId, [PathBuf; 2]) {
    let ((alice, alices_file), (bob, bobs_file)) =
        (open(&folders[0]).await, open(&folders[1]).await);
    let here = alice.create_space("test", Limits::default()).await.unwrap();
    here.publish(aspects(0..600)).await.unwrap();
    let mut events = bob.events();
    let there = bob.join(&alice.ticket(&here.id()).unwrap()).await.unwrap();
    until_held(&there, &mut events, 600).await;
    in_sync(&mut events).await;
    // What is published on either side is pushed, and receipts come.
    here.publish(aspects(1000..1010)).await.unwrap().replicated(1).await;
    there.publish(aspects(2000..2200)).await.unwrap().replicated(1).await;
    let full = SyncOptions { full: true, ..SyncOptions::default() };
    for options in [SyncOptions::default(), full] {
        while there.sync(alice.id(), options).await.is_err() {
            until(&mut events, |event| matches!(event, Event::InSync { .. }).then_some(())).await;
        }
    }
    for node in [alice, bob] {
        node.shutdown().await;
    }
    (here.id(), [alices_file, bobs_file])
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_nodes_have_done_is_done_again() {
    let folders = [(); 2].map(|()| TempDir::new().unwrap());
    let (space, files) = two_nodes(&folders).await;
    for file in &files {
        let replayed = replay(file, &[space]).unwrap();
        assert_eq!(replayed.difference, None);
        let done = &replayed.done;
        assert!(done.calls > 50 && done.sessions >= 3 && done.steps > 5, "{done:?}");
        assert!(done.too_large == 0 && done.unknown.is_empty(), "{done:?}");
        assert!(!replayed.cut && !replayed.full);
        // Without the id nothing can be replayed, and the id is not in it.
        let replayed = replay(file, &[]).unwrap();
        assert!(replayed.done.calls == 0 && replayed.done.unknown.contains(&space.fingerprint()));
        let text = fs::read_to_string(file).unwrap();
        assert!(!text.contains(&space.reveal()));
        let key = fs::read_to_string(file.with_file_name("node").join("key")).unwrap();
        assert!(key.trim().len() == 64 && !text.contains(key.trim()));
    }

    // A file that is there is not written over.
    let mut config = Config::new(folders[0].path().join("node")).loopback();
    config.capture = Some(files[0].clone());
    assert!(matches!(Node::open(config).await, Err(OpenError::Capture { .. })));

    let (whole, copy) = (fs::read(&files[1]).unwrap(), folders[1].path().join("copy"));
    let lines = whole.iter().filter(|byte| **byte == b'\n').count() as u64;
    for at in (0..whole.len()).step_by(whole.len() / 40) {
        let mut damaged = whole.clone();
        damaged[at] ^= 1 << (at % 8);
        fs::write(&copy, &damaged).unwrap();
        match replay(&copy, &[space]) {
            Err(CaptureError::NotOne(_)) => assert!(at < 1000),
            Err(CaptureError::Damaged(line)) => assert!(line <= lines),
            other => panic!("byte {at}: {other:?}"),
        }
        fs::write(&copy, &whole[..at]).unwrap();
        match replay(&copy, &[space]) {
            Ok(replayed) => assert!(replayed.difference.is_none(), "{at}: {replayed:?}"),
            Err(error) => assert!(matches!(error, CaptureError::NotOne(_)) && at < 1000, "{error}"),
        }
    }
}
