//! Nodes in one process, over real QUIC on loopback, with stores on disk.

mod common;

use arcwise::{
    AspectKey, Config, EntryAddress, Event, JoinError, Limits, Method, NewAspect, Node, OpenError,
    RequestError, Source, SyncError, SyncOptions,
};
use common::{PATIENCE, all, aspect, aspects, in_sync, open, until, until_held};
use tempfile::TempDir;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_nodes_converge_and_what_is_new_is_pushed() {
    let (a, b) = (TempDir::new().unwrap(), TempDir::new().unwrap());
    let (alice, bob) = (open(&a).await, open(&b).await);
    let here = alice.create_space("test", Limits::default()).await.unwrap();
    here.publish(aspects(0..3000)).await.unwrap();

    let (mut heard, mut bobs) = (alice.events(), bob.events());
    let there = bob.join(&alice.ticket(&here.id()).unwrap()).await.unwrap();
    there.publish(aspects(2000..6000)).await.unwrap();
    assert!(there.status().held.is_empty(), "nothing is claimed before it is held");
    in_sync(&mut bobs).await;
    until_held(&there, &mut bobs, 7000).await;
    until_held(&here, &mut heard, 7000).await;
    assert_eq!(all(&here).await, all(&there).await);
    assert!(there.status().held.is_full(), "all of Alice's arc is held now");

    // A push, both ways.
    let new = here.publish(vec![aspect(9000, true)]).await.unwrap();
    let source = until(&mut bobs, |event| match event {
        Event::Stored { keys, source, .. } if keys == new.keys => Some(source),
        _ => None,
    });
    assert_eq!(source.await, Source::Broadcast(alice.id()));
    let new = there.publish(vec![aspect(9001, false)]).await.unwrap();
    until(&mut heard, |event| match event {
        Event::Stored { keys, .. } if keys == new.keys => Some(()),
        _ => None,
    })
    .await;
    let found = here.entry(aspect(9001, false).entry).await.unwrap();
    assert_eq!(found.len(), 1);
    assert_eq!(here.aspect(new.keys[0]).await.unwrap().as_ref(), found.first());

    // Asked again, there is nothing to do, and it takes one small packet each way to see that.
    let report = here.sync(bob.id(), SyncOptions::default()).await.unwrap();
    let comparison = report.comparison.unwrap();
    assert_eq!(comparison.method, Method::Same);
    assert!(comparison.sent + comparison.received < 230, "{comparison:?}");
    let report = here.sync(bob.id(), SyncOptions { full: true, ..Default::default() }).await;
    assert_eq!(report.unwrap().listed, 7002);

    assert!(alice.ping(bob.id()).await.unwrap() < PATIENCE);
    let status = alice.status();
    assert_eq!((status.peers.len(), status.spaces[0].peers), (1, 1));
    assert_eq!(status.peers[0].spaces[0].id, here.id());
    alice.shutdown().await;
    let reason = until(&mut bobs, |event| match event {
        Event::PeerDisconnected { reason, .. } => Some(reason),
        _ => None,
    });
    assert!(reason.await.contains("shutting down"));
    bob.shutdown().await;
}

/// Three nodes, and all of them learn that they hold the same.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn all_see_that_they_hold_the_same() {
    let (a, b) = (TempDir::new().unwrap(), TempDir::new().unwrap());
    let (alice, bob) = (open(&a).await, open(&b).await);
    let here = alice.create_space("test", Limits::default()).await.unwrap();
    here.publish(aspects(0..1000)).await.unwrap();
    let mut bobs = bob.events();
    let there = bob.join(&alice.ticket(&here.id()).unwrap()).await.unwrap();
    in_sync(&mut bobs).await;
    let elsewhere = TempDir::new().unwrap();
    let carol = open(&elsewhere).await;

    let theirs = carol.join(&alice.ticket(&here.id()).unwrap()).await.unwrap();
    let mut carols = carol.events();
    until(&mut carols, |event| matches!(event, Event::InSync { .. }).then_some(())).await;
    // Carol may push it to Bob herself by now.
    let mut alices = alice.events();
    theirs.publish(aspects(5000..5010)).await.unwrap();
    until_held(&here, &mut alices, 1010).await;
    until_held(&there, &mut bobs, 1010).await;
    assert_eq!(all(&here).await, all(&there).await);
    let same = async {
        loop {
            let peers = alice.peers();
            let spaces = peers.iter().flat_map(|peer| &peer.spaces);
            if peers.len() == 2 && spaces.clone().all(|space| space.same.is_some()) {
                return;
            }
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(PATIENCE, same).await.expect("all see that they hold the same");
}

/// A store that is full says so to the peer, and everything else goes on.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_disk_is_told() {
    let (a, b) = (TempDir::new().unwrap(), TempDir::new().unwrap());
    let alice = open(&a).await;
    let mut config = Config::new(b.path()).loopback();
    config.store.min_free = u64::MAX;
    let bob = Node::open(config).await.unwrap();
    let here = alice.create_space("test", Limits::default()).await.unwrap();
    here.publish(aspects(0..1000)).await.unwrap();

    let (mut alices, mut bobs) = (alice.events(), bob.events());
    let there = bob.join(&alice.ticket(&here.id()).unwrap()).await.unwrap();
    let failed = |event| match event {
        Event::SyncFailed { reason, .. } => Some(reason),
        _ => None,
    };
    let (hers, his) = (until(&mut alices, failed).await, until(&mut bobs, failed).await);
    assert!(hers.contains("Storage"), "Alice is told whose store failed: {hers}");
    assert!(his.contains("disk is full"), "{his}");
    assert_eq!((there.status().stats.count, here.status().stats.count), (0, 1000));
    assert!(alice.ping(bob.id()).await.is_ok(), "the connection is not affected");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_restarted_node_is_found_again_and_catches_up() {
    let (a, b) = (TempDir::new().unwrap(), TempDir::new().unwrap());
    let (alice, bob) = (open(&a).await, open(&b).await);
    let here = alice.create_space("test", Limits::default()).await.unwrap();
    let mut bobs = bob.events();
    let there = bob.join(&alice.ticket(&here.id()).unwrap()).await.unwrap();
    in_sync(&mut bobs).await;

    // Bob knows Alice from the ticket, and Alice knows Bob from his connection.
    let (id, address) = (alice.id(), alice.listening());
    alice.shutdown().await;
    drop((alice, here));
    there.publish(aspects(0..100)).await.unwrap();
    let alice = open(&a).await;
    assert_eq!((alice.id(), alice.listening()), (id, address), "the ticket is still good");
    let here = alice.spaces().pop().unwrap();
    let mut heard = alice.events();
    until_held(&here, &mut heard, 100).await;
    assert_eq!(all(&here).await, all(&there).await);

    bob.shutdown().await;
    drop((bob, there));
    here.publish(aspects(100..200)).await.unwrap();
    let bob = open(&b).await;
    let there = bob.spaces().pop().unwrap();
    until_held(&there, &mut bob.events(), 200).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn news_is_pushed_to_who_joined_by_another() {
    let folders: Vec<TempDir> = (0..3).map(|_| TempDir::new().unwrap()).collect();
    let (alice, bob, carol) =
        (open(&folders[0]).await, open(&folders[1]).await, open(&folders[2]).await);
    let here = alice.create_space("test", Limits::default()).await.unwrap();
    let (mut bobs, mut carols) = (bob.events(), carol.events());
    bob.join(&alice.ticket(&here.id()).unwrap()).await.unwrap();
    in_sync(&mut bobs).await;
    let far = carol.join(&bob.ticket(&here.id()).unwrap()).await.unwrap();
    in_sync(&mut carols).await;
    let keys = here.publish(aspects(0..1)).await.unwrap();
    let source = until(&mut carols, |event| match event {
        Event::Stored { keys: stored, source, .. } if stored == keys.keys => Some(source),
        _ => None,
    });
    // From Bob, whose ticket it was, or from Alice, of whom she has heard by then.
    let source = source.await;
    let pushers = [alice.id(), bob.id()];
    assert!(matches!(source, Source::Broadcast(from) if pushers.contains(&from)), "{source:?}");
    assert!(far.status().held.is_full());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_does_not_know_the_space_learns_nothing() {
    let folders: Vec<TempDir> = (0..2).map(|_| TempDir::new().unwrap()).collect();
    let (alice, eve) = (open(&folders[0]).await, open(&folders[1]).await);
    let secret = alice.create_space("secret", Limits::default()).await.unwrap();
    secret.publish(aspects(0..10)).await.unwrap();
    // Eve has the address, and a ticket to a space of her own that leads there.
    let own = eve.create_space("own", Limits::default()).await.unwrap();
    let mut ticket = alice.ticket(&secret.id()).unwrap();
    ticket.space = own.id();
    let mut eves = eve.events();
    eve.join(&ticket).await.unwrap();
    until(&mut eves, |event| matches!(event, Event::PeerConnected { .. }).then_some(())).await;
    eve.ping(alice.id()).await.unwrap();
    assert!(eve.peers()[0].spaces.is_empty() && alice.peers()[0].spaces.is_empty());
    let outcome = own.sync(alice.id(), SyncOptions::default()).await;
    assert!(matches!(outcome, Err(SyncError::NotShared)));
    let outcome = own.query(alice.id(), aspect(1, false).entry).await;
    assert!(matches!(outcome, Err(RequestError::NotShared)));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn queries_and_messages_are_answered() {
    let folders: Vec<TempDir> = (0..2).map(|_| TempDir::new().unwrap()).collect();
    let (alice, bob) = (open(&folders[0]).await, open(&folders[1]).await);
    let here = alice.create_space("test", Limits::default()).await.unwrap();
    let mut bobs = bob.events();
    let there = bob.join(&alice.ticket(&here.id()).unwrap()).await.unwrap();
    in_sync(&mut bobs).await;

    let refused = there.send(alice.id(), "hello".into()).await;
    assert!(matches!(refused, Err(RequestError::Refused(_))), "{refused:?}");
    let mut messages = here.messages();
    let reader = tokio::spawn(async move {
        let message = messages.recv().await.unwrap();
        let (from, text) = (message.from, message.payload.clone());
        message.reply("yes?");
        (from, text)
    });
    assert_eq!(there.send(alice.id(), "hello".into()).await.unwrap(), "yes?");
    assert_eq!(reader.await.unwrap(), (bob.id(), "hello".into()));
    let long = vec![0; arcwise::MAX_DIRECT + 1];
    assert!(matches!(there.send(alice.id(), long.into()).await, Err(RequestError::TooLarge(_))));

    here.publish(vec![aspect(5, true)]).await.unwrap();
    let found = there.query(alice.id(), aspect(5, true).entry).await.unwrap();
    assert_eq!(found[0].author(), Some(alice.id().0));
    assert!(there.query(alice.id(), EntryAddress([0; 32])).await.unwrap().is_empty());
    let nobody = arcwise::NodeId([1; 32]);
    let outcome = there.query(nobody, EntryAddress([0; 32])).await;
    assert!(matches!(outcome, Err(RequestError::NotConnected)));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn both_may_open_at_once() {
    let folders: Vec<TempDir> = (0..2).map(|_| TempDir::new().unwrap()).collect();
    let (alice, bob) = (open(&folders[0]).await, open(&folders[1]).await);
    let here = alice.create_space("test", Limits::default()).await.unwrap();
    let mut bobs = bob.events();
    let there = bob.join(&alice.ticket(&here.id()).unwrap()).await.unwrap();
    in_sync(&mut bobs).await;
    for _ in 0..50 {
        let options = SyncOptions { full: true, ..Default::default() };
        let (a, b) = tokio::join!(here.sync(bob.id(), options), there.sync(alice.id(), options));
        assert!(a.unwrap().in_sync() && b.unwrap().in_sync());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn large_aspects_and_one_hot_entry() {
    let folders: Vec<TempDir> = (0..2).map(|_| TempDir::new().unwrap()).collect();
    let (alice, bob) = (open(&folders[0]).await, open(&folders[1]).await);
    let here = alice.create_space("test", Limits::default()).await.unwrap();
    let entry = EntryAddress([3; 32]);
    let large = |n: u8| NewAspect {
        entry,
        kind: 2,
        data: vec![n; arcwise::MAX_ASPECT_DATA].into(),
        signed: n.is_multiple_of(2),
    };
    let keys: Vec<AspectKey> = here.publish((0..40).map(large).collect()).await.unwrap().keys;
    let mut bobs = bob.events();
    let there = bob.join(&alice.ticket(&here.id()).unwrap()).await.unwrap();
    in_sync(&mut bobs).await;
    assert_eq!(there.status().stats.count, 40);
    assert_eq!(there.entry(entry).await.unwrap().len(), 40);
    assert!(keys.iter().all(|key| key.location == keys[0].location));
    // Over the limit: refused, and nothing of the batch is stored.
    let mut over = large(41);
    over.data = vec![0; arcwise::MAX_ASPECT_DATA + 1].into();
    assert!(here.publish(vec![large(42), over]).await.is_err());
    assert_eq!(here.status().stats.count, 40);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_folder_one_node() {
    let folder = TempDir::new().unwrap();
    let node = open(&folder).await;
    let second = Node::open(Config::new(folder.path()).loopback()).await;
    assert!(matches!(second, Err(OpenError::Store(_))), "{second:?}");
    let space = node.create_space("test", Limits::default()).await.unwrap();
    let own = node.ticket(&space.id()).unwrap();
    assert!(matches!(node.join(&own).await, Err(JoinError::OwnTicket)));

    // A port that is taken.
    let other = TempDir::new().unwrap();
    let mut config = Config::new(other.path());
    config.listen = node.listening();
    let taken = Node::open(config).await;
    assert!(matches!(taken, Err(OpenError::Listen { .. })), "{taken:?}");
}
