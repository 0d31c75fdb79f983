//! Limits, expiry, dropping a part and deleting all of a space, between nodes.

mod common;

use std::time::Duration;

use arcwise::{ArcSet, Event, Limits, Location, RingArc, Share, StoreError, Ticket};
use common::{PATIENCE, all, aspects, in_sync, open, until, until_held};
use tempfile::TempDir;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_has_no_room_takes_nothing_and_goes_on_serving() {
    let folders = [(); 3].map(|()| TempDir::new().unwrap());
    let [alice, bob, carol] = [&folders[0], &folders[1], &folders[2]].map(open);
    let (alice, bob, carol) = (alice.await, bob.await, carol.await);
    let here = alice.create_space("test", Limits::default()).await.unwrap();
    let (mut alices, mut bobs) = (alice.events(), bob.events());
    let there = bob.join(&alice.ticket(&here.id()).unwrap()).await.unwrap();
    in_sync(&mut bobs).await;
    let most = 20_000;
    there.set_max_bytes(Some(most)).await.unwrap();

    here.publish(aspects(0..1000)).await.unwrap();
    let reason = until(&mut bobs, |event| match event {
        Event::Full { reason, .. } => Some(reason),
        _ => None,
    });
    assert!(reason.await.contains("is full"));
    let status = there.status();
    assert!(status.full.is_some() && status.stats.bytes <= most, "{status:?}");
    // As much as fits.
    assert!(status.stats.bytes > most - 200, "{status:?}");
    let error = there.publish(aspects(2000..2001)).await.unwrap_err();
    assert!(error.to_string().contains("raise the limit"), "{error}");

    // What it holds it gives to others.
    let mut carols = carol.events();
    // From Bob alone: he tells of Alice, too, who has more.
    carol.block(alice.id()).await.unwrap();
    let ticket = Ticket { others: vec![], ..bob.ticket(&here.id()).unwrap() };
    let elsewhere = carol.join(&ticket).await.unwrap();
    until_held(&elsewhere, &mut carols, status.stats.count).await;
    assert_eq!(all(&elsewhere).await, all(&there).await);
    assert!(there.status().full.is_some());

    there.set_max_bytes(None).await.unwrap();
    until(&mut bobs, |event| matches!(event, Event::Room { .. }).then_some(())).await;
    until_held(&there, &mut bobs, 1000).await;
    assert!(there.status().full.is_none());
    assert_eq!(all(&there).await, all(&here).await);
    assert_eq!(here.status().stats.count, 1000);
    drop(alices.try_recv());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_expires_goes_from_all_nodes_and_stays_away() {
    let (a, b) = (TempDir::new().unwrap(), TempDir::new().unwrap());
    let (alice, bob) = (open(&a).await, open(&b).await);
    let limits = Limits { max_age: Some(Duration::from_secs(3)), max_bytes: None };
    let here = alice.create_space("test", limits).await.unwrap();
    let (mut alices, mut bobs) = (alice.events(), bob.events());
    let there = bob.join(&alice.ticket(&here.id()).unwrap()).await.unwrap();
    assert_eq!(there.status().limits, limits, "the ticket says it");
    here.publish(aspects(0..300)).await.unwrap();
    until_held(&there, &mut bobs, 300).await;
    for (space, events) in [(&here, &mut alices), (&there, &mut bobs)] {
        while space.status().stats.count > 0 {
            until(events, |event| matches!(event, Event::Removed { .. }).then_some(())).await;
        }
    }
    here.publish(aspects(300..310)).await.unwrap();
    until_held(&there, &mut bobs, 10).await;
    assert!(bob.check_store().await.unwrap().damages.is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_part_is_dropped_and_filled_again() {
    let (a, b) = (TempDir::new().unwrap(), TempDir::new().unwrap());
    let (alice, bob) = (open(&a).await, open(&b).await);
    let here = alice.create_space("test", Limits::default()).await.unwrap();
    here.publish(aspects(0..2000)).await.unwrap();
    let mut bobs = bob.events();
    let there = bob.join(&alice.ticket(&here.id()).unwrap()).await.unwrap();
    until_held(&there, &mut bobs, 2000).await;

    let half: ArcSet = RingArc::between(Location(1 << 30), Location(3 << 30)).into();
    there.set_share(Share::Arcs(half.clone())).await.unwrap();
    // Nobody took it over that could be counted.
    assert_eq!(there.status().stats.count, 2000);
    let removed = there.drop_outside().await.unwrap();
    assert!((800..1200).contains(&removed), "{removed}");
    let status = there.status();
    assert_eq!((status.stats.count, &status.target), (2000 - removed, &half));
    assert!(half.covers(&status.held));
    let inside = there.since(0, usize::MAX).await.unwrap();
    assert!(inside.iter().all(|(_, aspect)| half.contains(aspect.location())));
    // Nothing outside comes back, and what is new inside does come.
    here.publish(aspects(2000..2200)).await.unwrap();
    let new = here.since(0, usize::MAX).await.unwrap();
    let wanted = new.iter().filter(|(_, aspect)| half.contains(aspect.location())).count() as u64;
    until_held(&there, &mut bobs, wanted).await;
    assert_eq!(there.status().stats.count, wanted);

    there.set_share(Share::FULL).await.unwrap();
    assert_eq!(there.drop_outside().await.unwrap(), 0);
    until_held(&there, &mut bobs, 2200).await;
    while !there.status().held.is_full() {
        until(&mut bobs, |event| matches!(event, Event::ArcChanged { .. }).then_some(())).await;
    }
    assert_eq!(all(&there).await, all(&here).await);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_deleted_space_is_left_and_can_be_joined_again() {
    let (a, b) = (TempDir::new().unwrap(), TempDir::new().unwrap());
    let (alice, bob) = (open(&a).await, open(&b).await);
    let here = alice.create_space("test", Limits::default()).await.unwrap();
    here.publish(aspects(0..500)).await.unwrap();
    let mut bobs = bob.events();
    let there = bob.join(&alice.ticket(&here.id()).unwrap()).await.unwrap();
    until_held(&there, &mut bobs, 500).await;

    assert!(bob.delete_space(&here.id()).await.unwrap());
    assert!(!bob.delete_space(&here.id()).await.unwrap());
    assert!(bob.spaces().is_empty());
    let error = there.publish(aspects(600..601)).await.unwrap_err();
    let deleted =
        |error| matches!(error, arcwise::PublishError::Store(StoreError::SpaceDeleted(_)));
    assert!(deleted(error));
    // Alice hears of it, and may go on.
    let left = async {
        while here.status().peers > 0 {
            alice.ping(bob.id()).await.unwrap();
        }
    };
    tokio::time::timeout(PATIENCE, left).await.unwrap();
    here.publish(aspects(500..600)).await.unwrap();
    let again = bob.join(&alice.ticket(&here.id()).unwrap()).await.unwrap();
    until_held(&again, &mut bobs, 600).await;
    assert_eq!(all(&again).await, all(&here).await);
    assert_eq!(bob.check_store().await.unwrap().damage_count, 0);
}
