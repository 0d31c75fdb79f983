//! How nodes find and avoid each other: addresses that lead elsewhere, tickets with several nodes, peers that
//! are blocked, connections that nobody needs, and nodes of which only the id is known.

mod common;

use std::{
    collections::BTreeMap,
    net::SocketAddr,
    sync::{Arc, Mutex},
    time::Duration,
};

use arcwise::{BlockError, Config, Contact, DialFailure, Event, Limits, Node, NodeId, Ticket};
use common::{PATIENCE, aspects, open, until, until_held};
use tempfile::TempDir;
use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader},
    net::{TcpListener, UdpSocket},
};

/// Waits until both are connected and in a space.
async fn shared_with(node: &Node, peer: NodeId) {
    let mut events = node.events();
    let there = |node: &Node| {
        let peers = node.peers();
        peers.iter().any(|it| it.id == peer && !it.spaces.is_empty())
    };
    while !there(node) {
        until(&mut events, |event| {
            let news = matches!(event, Event::SpaceShared { .. } | Event::PeerConnected { .. });
            news.then_some(())
        })
        .await;
    }
}

/// Waits for what an attempt to reach a peer comes to.
async fn failure(node: &Node, peer: NodeId, wanted: impl Fn(&DialFailure) -> bool) -> DialFailure {
    let look = async {
        loop {
            let failures = node.status().unreachable.into_iter();
            let mut failures = failures.filter(|it| it.id == peer).filter_map(|it| it.failure);
            if let Some(failure) = failures.find(|it| wanted(it)) {
                return failure;
            }
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(PATIENCE, look).await.expect("it comes to that")
}

async fn gone(node: &Node, peer: NodeId) -> String {
    let mut events = node.events();
    until(&mut events, |event| match event {
        Event::PeerDisconnected { peer: who, reason } if who == peer => Some(reason),
        _ => None,
    })
    .await
}

/// Takes an address as soon as nobody has it any more.
async fn taken(address: SocketAddr) -> UdpSocket {
    let take = async {
        loop {
            match UdpSocket::bind(address).await {
                Ok(socket) => return socket,
                Err(_) => tokio::task::yield_now().await,
            }
        }
    };
    tokio::time::timeout(PATIENCE, take).await.expect("it becomes free")
}

/// Passes packets on to a node, but for the first one from each port: whoever else was asked at the same
/// moment answers first.
async fn slow_way(to: SocketAddr) -> SocketAddr {
    let front = Arc::new(UdpSocket::bind("127.0.0.1:0").await.unwrap());
    let address = front.local_addr().unwrap();
    tokio::spawn(async move {
        let ways = Mutex::new(BTreeMap::<SocketAddr, Option<Arc<UdpSocket>>>::new());
        let mut packet = [0; 2048];
        while let Ok((len, from)) = front.recv_from(&mut packet).await {
            let way = ways.lock().unwrap().get(&from).cloned();
            let way = match way {
                None => {
                    ways.lock().unwrap().insert(from, None);
                    continue;
                }
                Some(Some(way)) => way,
                Some(None) => {
                    let way = Arc::new(UdpSocket::bind("127.0.0.1:0").await.unwrap());
                    way.connect(to).await.unwrap();
                    ways.lock().unwrap().insert(from, Some(way.clone()));
                    let (front, back) = (front.clone(), way.clone());
                    tokio::spawn(async move {
                        let mut packet = [0; 2048];
                        while let Ok(len) = back.recv(&mut packet).await {
                            let _ = front.send_to(&packet[..len], from).await;
                        }
                    });
                    way
                }
            };
            let _ = way.send(&packet[..len]).await;
        }
    });
    address
}

/// One address of a ticket leads to another node, which answers before the right one.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_wrong_address_does_not_block_the_right_one() {
    let [a, b, c] = [(); 3].map(|()| TempDir::new().unwrap());
    let (alice, bob, carol) = (open(&a).await, open(&b).await, open(&c).await);
    let here = alice.create_space("test", Limits::default()).await.unwrap();
    here.publish(aspects(0..100)).await.unwrap();
    let right = slow_way(alice.listening()[0]).await;
    let addresses = vec![bob.listening()[0], right];
    let ticket = Ticket { addresses, ..alice.ticket(&here.id()).unwrap() };

    let mut carols = carol.events();
    let there = carol.join(&ticket).await.unwrap();
    until_held(&there, &mut carols, 100).await;
    let peer = carol.peers().into_iter().find(|peer| peer.id == alice.id()).unwrap();
    assert_eq!(peer.address, Some(right));
    assert!(bob.peers().is_empty());

    // Where nothing is right, that is said.
    let [d] = [(); 1].map(|()| TempDir::new().unwrap());
    let dora = open(&d).await;
    let wrong = Ticket { addresses: vec![bob.listening()[0]; 2], ..ticket };
    dora.join(&wrong).await.unwrap();
    failure(&dora, alice.id(), |failure| *failure == DialFailure::OtherNode).await;
    for node in [alice, bob, carol, dora] {
        node.shutdown().await;
    }
}

/// The maker of a ticket is away; another node of the ticket lets one in.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_ticket_is_good_while_one_of_its_nodes_is_there() {
    let [a, b, c] = [(); 3].map(|()| TempDir::new().unwrap());
    let (alice, bob, carol) = (open(&a).await, open(&b).await, open(&c).await);
    let here = alice.create_space("test", Limits::default()).await.unwrap();
    here.publish(aspects(0..100)).await.unwrap();
    let mut bobs = bob.events();
    let there = bob.join(&alice.ticket(&here.id()).unwrap()).await.unwrap();
    until_held(&there, &mut bobs, 100).await;

    let named = async {
        loop {
            let ticket = alice.ticket(&here.id()).unwrap();
            if !ticket.others.is_empty() {
                return ticket;
            }
            tokio::task::yield_now().await;
        }
    };
    let ticket = tokio::time::timeout(PATIENCE, named).await.expect("Bob is named");
    let bob_as_told = Contact { node: bob.id(), addresses: bob.listening(), relays: Vec::new() };
    assert_eq!(ticket.others, [bob_as_told]);
    let ticket: Ticket = ticket.to_string().parse().unwrap();
    alice.shutdown().await;

    let mut carols = carol.events();
    let theirs = carol.join(&ticket).await.unwrap();
    until_held(&theirs, &mut carols, 100).await;
    bob.shutdown().await;
    carol.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_moves_is_found_again_through_others_and_without_a_ticket() {
    let [a, b, c] = [(); 3].map(|()| TempDir::new().unwrap());
    let (alice, bob, carol) = (open(&a).await, open(&b).await, open(&c).await);
    let here = alice.create_space("test", Limits::default()).await.unwrap();
    let ticket = Ticket { others: Vec::new(), ..alice.ticket(&here.id()).unwrap() };
    bob.join(&ticket).await.unwrap();
    carol.join(&ticket).await.unwrap();
    shared_with(&bob, carol.id()).await;

    let before = [bob.listening()[0], carol.listening()[0]];
    bob.shutdown().await;
    carol.shutdown().await;
    drop((bob, carol));
    // Somebody else has their ports now, and answers nothing.
    let _taken = [taken(before[0]).await, taken(before[1]).await];
    let (bob, carol) = (open(&b).await, open(&c).await);
    assert!(!before.contains(&bob.listening()[0]) && !before.contains(&carol.listening()[0]));
    // Where they are, each can only have heard from Alice.
    shared_with(&bob, carol.id()).await;
    shared_with(&alice, bob.id()).await;
    shared_with(&alice, carol.id()).await;
    for node in [alice, bob, carol] {
        node.shutdown().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_blocked_peer_stays_outside() {
    let [a, b] = [(); 2].map(|()| TempDir::new().unwrap());
    let (alice, bob) = (open(&a).await, open(&b).await);
    let here = alice.create_space("test", Limits::default()).await.unwrap();
    let ticket = alice.ticket(&here.id()).unwrap();
    bob.join(&ticket).await.unwrap();
    shared_with(&bob, alice.id()).await;
    shared_with(&alice, bob.id()).await;

    let (hers, his) = (gone(&alice, bob.id()), gone(&bob, alice.id()));
    let block = async {
        assert!(alice.block(bob.id()).await.unwrap());
        assert!(!alice.block(bob.id()).await.unwrap(), "it is already");
    };
    let (hers, his, ()) = tokio::join!(hers, his, block);
    assert_eq!(hers, "this node has blocked it");
    assert!(his.contains("declined"), "{his}");
    assert!(matches!(alice.block(alice.id()).await, Err(BlockError::Itself)));
    assert_eq!(alice.blocked().into_iter().collect::<Vec<_>>(), [bob.id()]);

    // Neither way leads to a connection, and each is told what it may know.
    failure(&bob, alice.id(), |failure| *failure == DialFailure::Declined).await;
    let status = alice.status();
    assert!(status.peers.is_empty() && status.unreachable.is_empty(), "he is not dialled");
    assert_eq!(status.blocked, [bob.id()]);

    // Not after a restart either.
    alice.shutdown().await;
    drop((here, alice));
    let alice = open(&a).await;
    assert_eq!(alice.blocked().len(), 1);
    assert!(alice.peers().is_empty());

    assert!(alice.unblock(bob.id()).await.unwrap());
    assert!(!alice.unblock(bob.id()).await.unwrap());
    shared_with(&alice, bob.id()).await;
    alice.shutdown().await;
    bob.shutdown().await;
}

/// What a blocked peer's friends say of it does not lead there.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_blocked_peer_is_not_found_through_others() {
    let [a, b, c] = [(); 3].map(|()| TempDir::new().unwrap());
    let (alice, bob, carol) = (open(&a).await, open(&b).await, open(&c).await);
    let here = alice.create_space("test", Limits::default()).await.unwrap();
    let ticket = Ticket { others: vec![], ..alice.ticket(&here.id()).unwrap() };
    bob.join(&ticket).await.unwrap();
    shared_with(&alice, bob.id()).await;
    carol.block(bob.id()).await.unwrap();
    let there = carol.join(&ticket).await.unwrap();
    shared_with(&carol, alice.id()).await;
    // Bob learns of Carol, and is declined; Carol knows one node, and not Bob.
    heard_of(&bob, 2).await;
    assert_eq!(there.overview().known, 1);
    assert!(carol.peers().iter().all(|peer| peer.id == alice.id()));
    assert!(bob.peers().iter().all(|peer| peer.id == alice.id()));
    for node in [alice, bob, carol] {
        node.shutdown().await;
    }
}

/// Waits until a node knows so many others.
async fn heard_of(node: &Node, others: usize) {
    let look = async {
        while node.spaces()[0].overview().known < others {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(PATIENCE, look).await.expect("it is told of them");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_shares_nothing_is_left() {
    let [a, b] = [(); 2].map(|()| TempDir::new().unwrap());
    let mut config = Config::new(a.path()).loopback();
    config.strangers = Duration::from_millis(100);
    let (alice, bob) = (Node::open(config).await.unwrap(), open(&b).await);
    let here = alice.create_space("test", Limits::default()).await.unwrap();
    let ticket = alice.ticket(&here.id()).unwrap();
    bob.join(&ticket).await.unwrap();
    shared_with(&bob, alice.id()).await;
    shared_with(&alice, bob.id()).await;

    let (hers, his) = (gone(&alice, bob.id()), gone(&bob, alice.id()));
    let leave = async { assert!(bob.delete_space(&here.id()).await.unwrap()) };
    let (hers, his, ()) = tokio::join!(hers, his, leave);
    assert_eq!(hers, "there is no space that both are in");
    assert!(his.contains("no space in common"), "{his}");
    // Once they share something again, they stay.
    bob.join(&ticket).await.unwrap();
    shared_with(&bob, alice.id()).await;
    alice.shutdown().await;
    bob.shutdown().await;
}

/// A pkarr relay, as far as nodes use one: keeps what is put under a path, and gives it back.
async fn pkarr_relay() -> arcwise::Url {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/pkarr", listener.local_addr().unwrap()).parse().unwrap();
    let kept = Arc::new(Mutex::new(BTreeMap::new()));
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let kept = kept.clone();
            tokio::spawn(async move {
                let mut stream = BufReader::new(stream);
                let (mut head, mut len) = (Vec::new(), 0);
                let mut line = String::new();
                while stream.read_line(&mut line).await.unwrap() > 2 {
                    let lower = line.to_ascii_lowercase();
                    if let Some(value) = lower.strip_prefix("content-length:") {
                        len = value.trim().parse().unwrap();
                    }
                    head.push(std::mem::take(&mut line));
                }
                let Some(request) = head.first() else { return };
                let mut words = request.split(' ');
                let (method, path) = (words.next().unwrap(), words.next().unwrap().to_owned());
                let mut body = vec![0; len];
                stream.read_exact(&mut body).await.unwrap();
                let (status, answer) = match method {
                    "PUT" => {
                        kept.lock().unwrap().insert(path, body);
                        ("204 No Content", vec![])
                    }
                    _ => match kept.lock().unwrap().get(&path) {
                        Some(body) => ("200 OK", body.clone()),
                        None => ("404 Not Found", vec![]),
                    },
                };
                let head = format!(
                    "HTTP/1.1 {status}\r\nContent-Length: {}\r\nConnection: close\r\n\r\n",
                    answer.len()
                );
                let _ = stream.write_all(&[head.into_bytes(), answer].concat()).await;
            });
        }
    });
    url
}

/// With a pkarr relay, a node's id is enough to reach it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_is_found_by_its_id_alone() {
    let [a, b, c] = [(); 3].map(|()| TempDir::new().unwrap());
    let relay = pkarr_relay().await;
    let with_relay = |folder: &TempDir| {
        let mut config = Config::new(folder.path()).loopback();
        config.pkarr = Some(relay.clone());
        config
    };
    let alice = Node::open(with_relay(&a)).await.unwrap();
    let (bob, carol) = (Node::open(with_relay(&b)).await.unwrap(), open(&c).await);
    let here = alice.create_space("test", Limits::default()).await.unwrap();
    let ticket = Ticket { addresses: vec![], ..alice.ticket(&here.id()).unwrap() };
    carol.join(&ticket).await.unwrap();
    bob.join(&ticket).await.unwrap();
    shared_with(&bob, alice.id()).await;
    failure(&carol, alice.id(), |failure| *failure == DialFailure::NoAddress).await;
    for node in [alice, bob, carol] {
        node.shutdown().await;
    }
}
