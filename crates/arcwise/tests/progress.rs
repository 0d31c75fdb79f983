//! What a node says of how far it is, and of where something is.

mod common;

use arcwise::{AspectHash, DialFailure, EntryAddress, Event, Limits, TriedAddress};
use common::{PATIENCE, aspect, aspects, open, until};
use tempfile::TempDir;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn progress_is_watched_from_nothing_to_all() {
    let (a, b) = (TempDir::new().unwrap(), TempDir::new().unwrap());
    let (alice, bob) = (open(&a).await, open(&b).await);
    let here = alice.create_space("test", Limits::default()).await.unwrap();
    here.publish(aspects(0..3000)).await.unwrap();
    let progress = here.status().progress;
    assert_eq!(progress.overview.total.unwrap().count, 3000, "as many as are held by now");
    assert_eq!(progress.rate.aspects, 0.0, "what is published here does not come from others");

    let there = bob.join(&alice.ticket(&here.id()).unwrap()).await.unwrap();
    let first = there.status().progress;
    assert_eq!(first.overview.total, None, "nobody has said anything");
    assert_eq!((first.left, first.overview.copies), (None, None));
    let mut watched = there.progress();
    let done = watched.wait_for(|status| {
        let overview = &status.progress.overview;
        status.held.is_full() && overview.unverified.is_empty() && overview.known == 1
    });
    let done = tokio::time::timeout(PATIENCE, done).await.unwrap().unwrap().clone();
    assert_eq!((done.stats.count, done.peers), (3000, 1));
    assert_eq!(done.progress.left, None, "nothing is being filled any more");
    assert!(done.progress.rate.aspects > 0.0 && done.progress.rate.bytes > 0.0);
    assert_eq!(done.progress.overview.copies.unwrap().min, 2.0);

    let mut heard = bob.events();
    alice.shutdown().await;
    until(&mut heard, |event| matches!(event, Event::PeerDisconnected { .. }).then_some(())).await;
    // Nobody is left with whom it could be seen to be the same.
    let alone = watched.wait_for(|status| status.progress.overview.unverified.is_full());
    tokio::time::timeout(PATIENCE, alone).await.unwrap().unwrap();
    bob.shutdown().await;
    let end = async { while watched.changed().await.is_ok() {} };
    tokio::time::timeout(PATIENCE, end).await.expect("it ends with the node");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn where_something_is_and_why_a_node_is_not_reached() {
    let (a, b) = (TempDir::new().unwrap(), TempDir::new().unwrap());
    let (alice, bob) = (open(&a).await, open(&b).await);
    let here = alice.create_space("test", Limits::default()).await.unwrap();
    let published = here.publish(aspects(0..10)).await.unwrap();
    let there = bob.join(&alice.ticket(&here.id()).unwrap()).await.unwrap();
    published.replicated(1).await;

    let (entry, key) = (aspect(3, false).entry, published.keys[3]);
    let found = here.why(entry).await.unwrap();
    assert_eq!((&found.here[..], &found.elsewhere[..]), (&[key][..], &[][..]));
    assert!(found.claimed && found.confirmed() == 1 && found.claims[0].node == bob.id());
    assert_eq!(found.asked[0].peer, bob.id());
    assert!(found.asked[0].took.is_some() && found.asked[0].outcome.is_ok());
    let one = there.why_aspect(key.hash).await.unwrap().unwrap();
    assert_eq!((one.entry, one.confirmed()), (entry, 1));
    assert!(there.why_aspect(AspectHash([1; 32])).await.unwrap().is_none());
    let nowhere = there.why(EntryAddress([1; 32])).await.unwrap();
    assert!(nowhere.here.is_empty() && nowhere.elsewhere.is_empty() && nowhere.confirmed() == 0);

    let tried = bob.probe(alice.id(), &[], &[]).await;
    assert!(tried.len() == 1 && tried[0].outcome.is_ok(), "{tried:?}");
    let address = alice.listening()[0];
    // At Alice's address, Bob does not answer.
    let tried = alice.probe(bob.id(), &[address], &[]).await;
    let tried = tried.into_iter().find(|it| it.address == TriedAddress::Ip(address)).unwrap();
    assert_eq!(tried.outcome, Err(DialFailure::OtherNode));
    // Where nobody listens any more.
    let closed = std::net::UdpSocket::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let tried = bob.probe(alice.id(), &[closed], &[]).await;
    let tried = tried.into_iter().find(|it| it.address == TriedAddress::Ip(closed)).unwrap();
    assert_eq!(tried.outcome, Err(DialFailure::PortClosed));
}
