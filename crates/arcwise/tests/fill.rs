//! A newcomer fills its arc from several peers at once.

mod common;

use std::collections::BTreeMap;

use arcwise::{EntryAddress, Event, Limits, NewAspect, Source, SyncOptions};
use common::{PATIENCE, all, open, until, until_held};
use tempfile::TempDir;

/// Large ones, so that there are many pieces.
fn large(n: u64) -> NewAspect {
    let entry = EntryAddress(*blake3::hash(&n.to_le_bytes()).as_bytes());
    NewAspect { entry, kind: 1, data: vec![n as u8; 64 << 10].into(), signed: false }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_several_have_comes_once() {
    const COUNT: u64 = 640;
    let folders = [(); 4].map(|()| TempDir::new().unwrap());
    let mut holders = Vec::new();
    let mut space = None;
    for folder in &folders[..3] {
        let node = open(folder).await;
        let here = match &space {
            None => {
                let here = node.create_space("test", Limits::default()).await.unwrap();
                for n in 0..10 {
                    here.publish((n * 64..(n + 1) * 64).map(large).collect()).await.unwrap();
                }
                here
            }
            Some(ticket) => {
                let mut events = node.events();
                let here = node.join(ticket).await.unwrap();
                until_held(&here, &mut events, COUNT).await;
                while !here.status().held.is_full() {
                    until(&mut events, |e| matches!(e, Event::ArcChanged { .. }).then_some(()))
                        .await;
                }
                here
            }
        };
        space.get_or_insert(node.ticket(&here.id()).unwrap());
        holders.push((node, here));
    }
    let newcomer = open(&folders[3]).await;
    let mut events = newcomer.events();
    let mut there = None;
    for (node, here) in &holders {
        there = Some(newcomer.join(&node.ticket(&here.id()).unwrap()).await.unwrap());
    }
    let there = there.unwrap();
    let mut from: BTreeMap<_, u64> = BTreeMap::new();
    while there.status().stats.count < COUNT || !there.status().held.is_full() {
        until(&mut events, |event| match event {
            Event::Stored { keys, source: Source::Gossip(peer), .. } => {
                *from.entry(peer).or_default() += keys.len() as u64;
                Some(())
            }
            Event::ArcChanged { .. } => Some(()),
            _ => None,
        })
        .await;
    }
    assert_eq!(all(&there).await, all(&holders[0].1).await);
    assert!(from.len() > 1, "one gave everything: {from:?}");
    let data = there.status().stats.bytes;
    let received: u64 = newcomer.peers().iter().map(|peer| peer.traffic.total().received).sum();
    assert!(received < data * 11 / 10, "{received} bytes came for {data}");
    // All agree in the end.
    let agree = async {
        for (node, _) in &holders {
            let report = there.sync(node.id(), SyncOptions::default()).await.unwrap();
            assert_eq!((report.fetched, report.sent), (0, 0));
        }
    };
    tokio::time::timeout(PATIENCE, agree).await.unwrap();
}
