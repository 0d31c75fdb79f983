//! A peer that breaks the rules, spoken by hand over real QUIC: the node says which rule, blames the
//! right one, and goes on serving the others.

use std::time::Duration;

use arcwise::{Config, EntryAddress, Event, Limits, NewAspect, Node, SpaceId};
use arcwise_proto::{
    ArcSet, Aspect, AuthorKey, Time,
    session::{Binding, Flow, Position},
    wire::{
        ArcRequest, AspectBroadcast, AspectDataRequest, Body, ErrorCode, Handshake, Header, Hello,
        Kind, Message, Open, Page, Query,
    },
};
use iroh::{
    Endpoint, EndpointAddr, EndpointId, RelayMode,
    endpoint::{Connection, ConnectionError, RecvStream, SendStream, presets},
};
use tempfile::TempDir;
use tokio::{net::UdpSocket, sync::broadcast::Receiver, time::timeout};

const PATIENCE: Duration = Duration::from_secs(30);

async fn node() -> (TempDir, Node) {
    let folder = TempDir::new().unwrap();
    let node = Node::open(Config::new(folder.path()).loopback()).await.unwrap();
    (folder, node)
}

/// A connection that speaks for itself.
struct Stranger {
    _endpoint: Endpoint,
    conn: Connection,
    send: SendStream,
    recv: RecvStream,
}

async fn endpoint() -> Endpoint {
    let builder = Endpoint::builder(presets::Minimal).relay_mode(RelayMode::Disabled);
    let builder = builder.clear_ip_transports().bind_addr("127.0.0.1:0").unwrap();
    builder.bind().await.unwrap()
}

fn address(node: &Node) -> EndpointAddr {
    let id = EndpointId::from_bytes(node.id().as_bytes()).unwrap();
    EndpointAddr::new(id).with_ip_addr(node.listening()[0])
}

async fn dial(node: &Node) -> Stranger {
    let endpoint = endpoint().await;
    let conn = endpoint.connect(address(node), b"arcwise/1").await.unwrap();
    let (send, recv) = conn.open_bi().await.unwrap();
    Stranger { _endpoint: endpoint, conn, send, recv }
}

async fn read(recv: &mut RecvStream) -> Option<Message> {
    let mut head = [0; Header::LEN];
    timeout(PATIENCE, recv.read_exact(&mut head)).await.unwrap().ok()?;
    let header = Header::parse(head).unwrap();
    let mut body = vec![0; header.body_len()];
    recv.read_exact(&mut body).await.unwrap();
    Some(Message::decode(header, body.into()).unwrap())
}

impl Stranger {
    fn binding(&self) -> Binding {
        let mut secret = [0; 32];
        self.conn.export_keying_material(&mut secret, b"EXPORTER-arcwise-1", b"").unwrap();
        Binding::new(secret, true)
    }

    fn hello(&self, spaces: &[SpaceId]) -> Hello {
        Hello {
            version_min: 0,
            version_max: 0,
            capabilities: 0,
            max_wants: 16_384,
            clock: Time::ZERO,
            agent: "stranger \x1b[31m".into(),
            tags: spaces.iter().map(|space| self.binding().our_tag(space)).collect(),
            seen_at: None,
        }
    }

    async fn say(&mut self, message: impl Into<Message>) {
        self.send.write_all(&message.into().encode()).await.unwrap();
    }

    /// Greets, proves to know the space, and says to hold it.
    async fn enter(&mut self, space: SpaceId) {
        self.say(self.hello(&[space])).await;
        let tag = self.binding().our_tag(&space);
        let (store, target, query) = (ArcSet::full(), ArcSet::full(), ArcSet::full());
        self.say(Handshake {
            tag,
            space: 9,
            store,
            target,
            query,
            count: 0,
            bytes: 0,
            full: false,
        })
        .await;
        assert!(matches!(read(&mut self.recv).await, Some(Message::Hello(_))));
        assert!(matches!(read(&mut self.recv).await, Some(Message::Handshake(_))));
    }

    /// The text with which the node closes the connection.
    async fn closed(&self) -> String {
        match timeout(PATIENCE, self.conn.closed()).await.unwrap() {
            ConnectionError::ApplicationClosed(close) => {
                String::from_utf8(close.reason.to_vec()).unwrap()
            }
            other => panic!("{other}"),
        }
    }

    /// Asks on a stream of its own; gives the first answer.
    async fn ask(&self, bytes: &[u8]) -> Option<Message> {
        let (mut send, mut recv) = self.conn.open_bi().await.unwrap();
        send.write_all(bytes).await.unwrap();
        send.finish().unwrap();
        read(&mut recv).await
    }
}

async fn fault(events: &mut Receiver<Event>) -> String {
    loop {
        if let Event::PeerFault { fault, .. } =
            timeout(PATIENCE, events.recv()).await.unwrap().unwrap()
        {
            return fault;
        }
    }
}

fn opening(space: u32) -> ArcRequest {
    let position = Position { epoch: 1, count: 0 };
    let (arcs, published_since, stored_after) = (ArcSet::full(), None, None);
    let open = Some(Open {
        space,
        arcs,
        published_since,
        stored_after,
        position: Some(position),
        flow: Default::default(),
    });
    ArcRequest { open, body: Body::List(Page { keys: Vec::new(), through: None }) }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn garbage_on_the_control_stream_ends_the_connection_and_says_why() {
    let (_folder, node) = node().await;
    let mut events = node.events();
    let hello = |s: &Stranger| Message::from(s.hello(&[])).encode().to_vec();
    type Bytes = fn(Vec<u8>) -> Vec<u8>;
    let cases: [(Bytes, &str); 6] = [
        (|_| vec![99, 0, 0, 0, 0], "unknown message type 99"),
        (|_| vec![Kind::Hello as u8, 0xff, 0xff, 0xff, 0xff], "over the limit of 65536 bytes"),
        (|_| vec![Kind::Hello as u8, 3, 0, 0, 0, 0xff, 0xff, 0xff], "not valid protobuf"),
        (|_| vec![Kind::Ping as u8, 0, 0, 0, 0], "may not come before a Hello"),
        (|h| [h, vec![Kind::Query as u8, 34, 0, 0, 0]].concat(), "middle of a frame"),
        (
            |h| {
                let query = Query { space: 1, entry: EntryAddress([0; 32]) };
                [h, Message::from(query).encode().to_vec()].concat()
            },
            "msgQuery may not come on the control stream",
        ),
    ];
    for (bytes, expected) in cases {
        let mut stranger = dial(&node).await;
        let bytes = bytes(hello(&stranger));
        stranger.send.write_all(&bytes).await.unwrap();
        stranger.send.finish().unwrap();
        let blamed = fault(&mut events).await;
        assert!(blamed.contains(expected), "{blamed:?} for {expected:?}");
        let told = stranger.closed().await;
        assert!(told.contains(expected), "{told:?} for {expected:?}");
    }
    // None of them is left; the last may just be leaving.
    while !node.peers().is_empty() {
        timeout(PATIENCE, events.recv()).await.unwrap().unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_version_from_the_future_is_refused_in_words() {
    let (_folder, node) = node().await;
    let mut stranger = dial(&node).await;
    let hello = Hello { version_min: 7, version_max: 9, ..stranger.hello(&[]) };
    stranger.say(hello).await;
    assert!(matches!(read(&mut stranger.recv).await, Some(Message::Hello(_))));
    match read(&mut stranger.recv).await {
        Some(Message::Error(error)) => {
            assert_eq!(error.code, ErrorCode::Version);
            assert!(error.detail.contains("7 to 9"), "{error}");
        }
        other => panic!("{other:?}"),
    }
    // Another protocol altogether does not get that far.
    let other = endpoint().await.connect(address(&node), b"other/1").await;
    assert!(other.is_err());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_has_not_proven_to_know_a_space_gets_nothing_of_it() {
    let (_folder, node) = node().await;
    let space = node.create_space("secret", Limits::default()).await.unwrap();
    let entry = EntryAddress([1; 32]);
    let new = NewAspect { entry, kind: 1, data: "secret".into(), signed: true };
    space.publish(vec![new]).await.unwrap();
    let mut stranger = dial(&node).await;
    stranger.say(stranger.hello(&[SpaceId([9; 32])])).await;
    assert!(matches!(read(&mut stranger.recv).await, Some(Message::Hello(_))));

    // The number of the space is easy to guess.
    let session = Message::from(opening(1)).encode();
    let query = Message::from(Query { space: 1, entry }).encode();
    let (session, query) = tokio::join!(stranger.ask(&session), stranger.ask(&query));
    for answer in [session, query] {
        match answer {
            Some(Message::Error(error)) => assert_eq!(error.code, ErrorCode::UnknownSpace),
            other => panic!("{other:?}"),
        }
    }
    // Nor is anything taken from such a one.
    let aspect = Aspect::new(entry, 2, Time::ZERO, b"planted").unwrap();
    let mut events = node.events();
    let mut push = stranger.conn.open_uni().await.unwrap();
    let planted = AspectBroadcast { space: 1, aspects: vec![aspect] };
    push.write_all(&Message::from(planted).encode()).await.unwrap();
    assert!(fault(&mut events).await.contains("a space that it is not in"));
    assert_eq!(space.status().stats.count, 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_liar_inside_a_space_harms_nobody_else() {
    let (_folder, node) = node().await;
    let (_other, good) = self::node().await;
    let space = node.create_space("shared", Limits::default()).await.unwrap();
    let entry = EntryAddress([1; 32]);
    let new = |text: &'static str| NewAspect { entry, kind: 1, data: text.into(), signed: true };
    space.publish(vec![new("one"), new("two")]).await.unwrap();
    let mut stranger = dial(&node).await;
    stranger.enter(space.id()).await;
    let mut events = node.events();

    // A forged signature is not stored, and what came with it is.
    let key = AuthorKey::from_bytes(&[1; 32]);
    let at = Time::from_micros(5);
    let forged = Aspect::signed(&key, &SpaceId([8; 32]), entry, 1, at, b"forged").unwrap();
    let honest = Aspect::signed(&key, &space.id(), entry, 1, at, b"honest").unwrap();
    let mut push = stranger.conn.open_uni().await.unwrap();
    let both = AspectBroadcast { space: 1, aspects: vec![forged.clone(), honest.clone()] };
    push.write_all(&Message::from(both).encode()).await.unwrap();
    assert!(fault(&mut events).await.contains("signature"));
    while space.aspect(honest.key()).await.unwrap().is_none() {
        timeout(PATIENCE, events.recv()).await.unwrap().unwrap();
    }
    assert_eq!(space.aspect(forged.key()).await.unwrap(), None);

    // A session that breaks off, one that lies, and one that is no session.
    let mut unfinished = Message::from(opening(1)).encode().to_vec();
    unfinished.truncate(9);
    let garbage = [Kind::ArcRequest as u8, 2, 0, 0, 0, 0xff, 0xff];
    let second =
        ArcRequest { open: None, body: Body::List(Page { keys: Vec::new(), through: None }) };
    let mut twice = Message::from(opening(1)).encode().to_vec();
    twice.extend_from_slice(&Message::from(second).encode());
    for bytes in [&unfinished[..], &garbage[..], &twice[..]] {
        let (mut send, mut recv) = stranger.conn.open_bi().await.unwrap();
        send.write_all(bytes).await.unwrap();
        send.finish().unwrap();
        loop {
            match read(&mut recv).await {
                Some(Message::Error(error)) => {
                    assert_eq!(error.code, ErrorCode::Protocol, "{error}");
                    break;
                }
                Some(_) => {}
                None => panic!("the node did not say what was wrong"),
            }
        }
        fault(&mut events).await;
    }

    // The connection still stands, and another peer is served as if nothing had happened.
    assert!(stranger.conn.close_reason().is_none());
    let mut goods = good.events();
    let theirs = good.join(&node.ticket(&space.id()).unwrap()).await.unwrap();
    loop {
        if let Event::InSync { .. } = timeout(PATIENCE, goods.recv()).await.unwrap().unwrap() {
            break;
        }
    }
    assert_eq!(theirs.status().stats.count, 3);
    assert!(node.peers().iter().all(|peer| !peer.agent.contains('\x1b')));
}

/// A peer that says it holds everything, and then says nothing any more, costs a few seconds.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_stalled_peer_was_asked_for_comes_from_another() {
    let ((_a, alice), (_b, bob)) = (node().await, node().await);
    let here = alice.create_space("shared", Limits::default()).await.unwrap();
    let entry = EntryAddress([1; 32]);
    let aspects = (0..300u32).map(|n| NewAspect {
        entry,
        kind: n,
        data: n.to_le_bytes().to_vec().into(),
        signed: false,
    });
    here.publish(aspects.collect()).await.unwrap();
    // Bob knows of the space, and finds the liar there before Alice.
    let mut ticket = alice.ticket(&here.id()).unwrap();
    let addresses = std::mem::take(&mut ticket.addresses);
    let mut events = bob.events();
    let there = bob.join(&ticket).await.unwrap();
    let mut liar = dial(&bob).await;
    liar.enter(here.id()).await;
    // Who is near it, it asks on another stream.
    let mut streams = Vec::new();
    loop {
        let (send, mut recv) = timeout(PATIENCE, liar.conn.accept_bi()).await.unwrap().unwrap();
        let first = read(&mut recv).await;
        streams.push((send, recv));
        match first {
            Some(Message::ArcRequest(_)) => break,
            first => assert!(matches!(first, Some(Message::FindPeers(_)))),
        }
    }

    ticket.addresses = addresses;
    bob.join(&ticket).await.unwrap();
    while there.status().stats.count < 300 {
        timeout(PATIENCE, events.recv()).await.unwrap().unwrap();
    }
}

/// Somebody who asks for everything and reads nothing keeps nobody else from reading.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_slow_reader_costs_its_own_stream_and_nothing_else() {
    let ((_a, alice), (_b, bob)) = (node().await, node().await);
    let here = alice.create_space("shared", Limits::default()).await.unwrap();
    // More than the windows of a stream and a connection let through.
    let aspects = (0..64u32).map(|kind| NewAspect {
        entry: EntryAddress([1; 32]),
        kind,
        data: vec![kind as u8; 1 << 20].into(),
        signed: false,
    });
    here.publish(aspects.collect()).await.unwrap();

    let mut slow = dial(&alice).await;
    slow.enter(here.id()).await;
    let mut stalled = Vec::new();
    for _ in 0..4 {
        let (mut send, mut recv) = slow.conn.open_bi().await.unwrap();
        send.write_all(&Message::from(fetching(1)).encode()).await.unwrap();
        assert!(matches!(read(&mut recv).await, Some(Message::AspectDataRequest(_))));
        let Some(Message::ArcResponse(response)) = read(&mut recv).await else { panic!() };
        let Body::List(listed) = response.body else { panic!() };
        assert_eq!(listed.keys.len(), 64);
        let want = Message::from(AspectDataRequest::keys(listed.keys));
        send.write_all(&want.encode()).await.unwrap();
        stalled.push((send, recv));
    }
    // One more than it may have.
    let refused = slow.ask(&Message::from(fetching(1)).encode()).await;
    assert!(matches!(refused, Some(Message::Error(error)) if error.code == ErrorCode::Busy));

    let mut events = bob.events();
    let there = bob.join(&alice.ticket(&here.id()).unwrap()).await.unwrap();
    while there.status().stats.count < 64 {
        timeout(PATIENCE, events.recv()).await.unwrap().unwrap();
    }
    assert!(slow.conn.close_reason().is_none());
}

/// Opens a session that only takes.
fn fetching(space: u32) -> ArcRequest {
    let ArcRequest { open, body } = opening(space);
    let open = open.map(|open| Open { flow: Flow::ToAlice, ..open });
    ArcRequest { open, body }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_never_completes_a_handshake_does_not_keep_others_out() {
    let (_folder, node) = node().await;
    let target = node.listening()[0];
    // What goes to the node through here gets there, and nothing comes back.
    let one_way = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let sender = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let endpoint = endpoint().await;
    for n in 0..100_u64 {
        let id = iroh::SecretKey::from_bytes(blake3::hash(&n.to_le_bytes()).as_bytes()).public();
        let address = EndpointAddr::new(id).with_ip_addr(one_way.local_addr().unwrap());
        let endpoint = endpoint.clone();
        tokio::spawn(async move { endpoint.connect(address, b"arcwise/1").await });
    }
    let asked_to_retry = async {
        let (mut packet, mut answer) = ([0; 2048], [0; 2048]);
        loop {
            tokio::select! {
                len = one_way.recv(&mut packet) => {
                    sender.send_to(&packet[..len.unwrap()], target).await.unwrap();
                }
                len = sender.recv(&mut answer) => {
                    // A Retry packet (RFC 9000, 17.2.5): prove that this address is yours.
                    if len.unwrap() > 0 && answer[0] & 0xf0 == 0xf0 {
                        return;
                    }
                }
            }
        }
    };
    timeout(PATIENCE, asked_to_retry).await.expect("it asks for a proof of the address");
    // Whoever completes it gets in.
    let mut stranger = dial(&node).await;
    let hello = Message::Hello(stranger.hello(&[]));
    stranger.send.write_all(&hello.encode()).await.unwrap();
    assert!(matches!(read(&mut stranger.recv).await, Some(Message::Hello(_))));
}
