//! How fast a node sends and receives, and what for.

mod common;

use std::time::Instant;

use arcwise::{Bandwidth, Config, EntryAddress, Limits, Moved, NewAspect, Node, Traffic};
use common::{in_sync, open, until_held};
use tempfile::TempDir;

const RATE: u64 = 512 << 10;

/// What a bucket may let through at once: what it has saved up, and a chunk for each stream and way.
const AT_ONCE: u64 = RATE;

fn large(n: u64) -> NewAspect {
    let entry = EntryAddress(*blake3::hash(&n.to_le_bytes()).as_bytes());
    NewAspect { entry, kind: 1, data: vec![n as u8; 32 << 10].into(), signed: false }
}

/// Bytes of messages, whatever for.
fn messages(traffic: Traffic, of: fn(Moved) -> u64) -> u64 {
    of(traffic.total()) - of(traffic.transport)
}

/// Two nodes, of which the second fetches about a megabyte; gives what it took, and both.
async fn transfer(up: Option<u64>, down: Option<u64>) -> (f64, [Node; 2], [TempDir; 2]) {
    let folders = [(); 2].map(|()| TempDir::new().unwrap());
    let config = |folder: &TempDir, up, down| {
        let mut config = Config::new(folder.path()).loopback();
        config.bandwidth = Some(Bandwidth::new(up, down).unwrap());
        config
    };
    let first = Node::open(config(&folders[0], up, None)).await.unwrap();
    let second = Node::open(config(&folders[1], None, down)).await.unwrap();
    let here = first.create_space("test", Limits::default()).await.unwrap();
    here.publish((0..32).map(large).collect()).await.unwrap();
    let (mut events, start) = (second.events(), Instant::now());
    let there = second.join(&first.ticket(&here.id()).unwrap()).await.unwrap();
    until_held(&there, &mut events, 32).await;
    (start.elapsed().as_secs_f64(), [first, second], folders)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_more_is_sent_than_may_be() {
    let (took, [first, second], _folders) = transfer(Some(RATE), None).await;
    let sent = messages(first.status().traffic, |moved| moved.sent);
    assert!(sent > 1 << 20, "{sent}");
    // Of a slow machine it takes longer, which allows more.
    assert!(sent <= (took * RATE as f64) as u64 + AT_ONCE, "{sent} bytes in {took} s");
    // Of one connection, the node counts what the peer does.
    let of_peer = second.peers()[0].traffic.fetching;
    assert_eq!(second.status().traffic.fetching, of_peer);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_more_is_received_than_may_be() {
    let (took, [_first, second], _folders) = transfer(None, Some(RATE)).await;
    let received = messages(second.status().traffic, |moved| moved.received);
    assert!(received > 1 << 20, "{received}");
    assert!(received <= (took * RATE as f64) as u64 + AT_ONCE, "{received} bytes in {took} s");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_pushed_is_limited_too() {
    let (_, [first, second], _folders) = transfer(None, Some(RATE)).await;
    let (here, there) = (&first.spaces()[0], &second.spaces()[0]);
    let (mut events, start) = (second.events(), Instant::now());
    let before = second.status().traffic;
    here.publish((32..64).map(large).collect()).await.unwrap();
    until_held(there, &mut events, 64).await;
    let took = start.elapsed().as_secs_f64();
    let after = second.status().traffic;
    let received =
        messages(after, |moved| moved.received) - messages(before, |moved| moved.received);
    assert!(received > 1 << 20, "{received}");
    assert!(received <= (took * RATE as f64) as u64 + AT_ONCE, "{received} bytes in {took} s");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_limit_stays_and_traffic_is_told_by_cause() {
    let folders = [(); 2].map(|()| TempDir::new().unwrap());
    let first = open(&folders[0]).await;
    assert_eq!(first.bandwidth(), Bandwidth::UNLIMITED);
    let limit = Bandwidth::new(Some(RATE), Some(2 * RATE)).unwrap();
    first.set_bandwidth(limit).await.unwrap();
    first.shutdown().await;
    drop(first);
    let first = open(&folders[0]).await;
    assert_eq!(first.bandwidth(), limit);
    first.set_bandwidth(Bandwidth::UNLIMITED).await.unwrap();

    let second = open(&folders[1]).await;
    let here = first.create_space("test", Limits::default()).await.unwrap();
    let mut events = second.events();
    let there = second.join(&first.ticket(&here.id()).unwrap()).await.unwrap();
    in_sync(&mut events).await;
    here.publish(vec![large(1)]).await.unwrap();
    until_held(&there, &mut events, 1).await;
    let status = second.status();
    let traffic = status.traffic;
    assert!(traffic.pushing.received + traffic.fetching.received > 32 << 10, "{traffic:?}");
    assert!(traffic.control.sent > 0 && traffic.transport.received > 0, "{traffic:?}");
    // What a connection took stays in the sum when it ends.
    first.shutdown().await;
    common::until(&mut events, |event| {
        matches!(event, arcwise::Event::PeerDisconnected { .. }).then_some(())
    })
    .await;
    let after = second.status().traffic.total();
    assert!(after.received >= traffic.total().received, "{after:?} after {traffic:?}");
}
