//! Messages and their frames.

use std::time::Duration;

use arcwise_proto::{
    Aspect, AspectHash, AspectKey, EntryAddress, Location, Time,
    limits::{MAX_AUDIT, MAX_PEERS, MAX_RECORD},
    reconcile::{exchange::Packet, fingerprint::Check},
    ring::{ArcSet, RingArc},
    session::{Digest, Flow, Position},
    swarm::{Address, SignedRecord},
    wire::{
        Announce, ArcRequest, ArcResponse, AspectBroadcast, AspectDataRequest, AspectDataResponse,
        Audit, AuditProof, Body, Direct, ErrorCode, ErrorMessage, FindPeers, Graft, Handshake,
        Hello, Kind, Listed, Message, Observed, Open, Page, PeerInfo, Peers, Ping, Pong, Prune,
        Query, Receipt, SpaceDigest,
    },
};

use bytes::Bytes;

use crate::{File, SPACE, hex, model::decode, records, scattered, signed, unsigned};

/// A value of JSON.
pub(crate) enum Json {
    Number(u64),
    Bool(bool),
    Text(String),
    List(Vec<Json>),
    Object(Vec<(&'static str, Json)>),
}
pub(crate) use Json::{Bool, List, Number, Object, Text};

impl std::fmt::Display for Json {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let sequence =
            |open, parts: Vec<String>, close| format!("{open}{}{close}", parts.join(", "));
        f.write_str(&match self {
            Number(n) => n.to_string(),
            Bool(b) => b.to_string(),
            Text(text) => format!("{text:?}"),
            List(list) => sequence('[', list.iter().map(Json::to_string).collect(), ']'),
            Object(members) => {
                let member = |(name, value): &(&str, Json)| format!("{name:?}: {value}");
                sequence('{', members.iter().map(member).collect(), '}')
            }
        })
    }
}

pub(crate) fn bytes(bytes: &[u8]) -> Json {
    Text(hex(bytes))
}

fn all_bytes<T: AsRef<[u8]>>(all: impl IntoIterator<Item = T>) -> Json {
    List(all.into_iter().map(|one| bytes(one.as_ref())).collect())
}

pub(crate) fn arcs(set: &ArcSet) -> Json {
    let arc = |arc: RingArc| {
        Object(vec![("start", Number(arc.start().0.into())), ("len", Number(arc.len()))])
    };
    Object(vec![("arcs", List(set.arcs().into_iter().map(arc).collect()))])
}

fn groups(keys: &[AspectKey]) -> Json {
    let group = |keys: &[AspectKey]| {
        let hashes: Vec<u8> = keys.iter().flat_map(|key| key.hash.0).collect();
        let location = Number(keys[0].location.0.into());
        Object(vec![("location", location), ("hashes", bytes(&hashes))])
    };
    List(keys.chunk_by(|a, b| a.location == b.location).map(group).collect())
}

fn position(position: Position) -> Json {
    Object(vec![("epoch", Number(position.epoch)), ("count", Number(position.count))])
}

fn observations(seen: &Observed) -> Json {
    let round_trip = seen.round_trip.map_or(0, |time| time.as_millis() as u64);
    Object(vec![
        ("availability", Number(seen.availability.into())),
        ("round_trip_ms", Number(round_trip)),
        ("throughput", Number(seen.throughput.unwrap_or(0).into())),
        ("faults", Number(seen.faults.into())),
    ])
}

fn encodings(aspects: &[Aspect]) -> Json {
    all_bytes(aspects.iter().map(Aspect::encoding))
}

/// The fields as the schema names them; what is absent is left out.
pub(crate) fn fields(message: &Message) -> String {
    let fields = Object(match message {
        Message::Hello(m) => {
            let mut hello = vec![
                ("version_min", Number(m.version_min.into())),
                ("version_max", Number(m.version_max.into())),
                ("capabilities", Number(m.capabilities)),
                ("max_wants", Number(m.max_wants.into())),
                ("clock", Number(m.clock.as_micros())),
                ("agent", Text(m.agent.clone())),
                ("tags", all_bytes(&m.tags)),
            ];
            hello.extend(m.seen_at.map(|at| ("seen_at", records::address(&Address::Ip(at)))));
            hello
        }
        Message::Handshake(m) => vec![
            ("tag", bytes(&m.tag)),
            ("space", Number(m.space.into())),
            ("store", arcs(&m.store)),
            ("target", arcs(&m.target)),
            ("query", arcs(&m.query)),
            ("count", Number(m.count)),
            ("bytes", Number(m.bytes)),
            ("full", Bool(m.full)),
        ],
        Message::ArcRequest(m) => {
            let open = m.open.as_ref().map(|open| {
                let mut fields =
                    vec![("space", Number(open.space.into())), ("arcs", arcs(&open.arcs))];
                let since = open.published_since.map(|at| Number(at.as_micros()));
                fields.extend(since.map(|since| ("published_since", since)));
                fields.extend(open.stored_after.map(|after| ("stored_after", position(after))));
                fields.extend(open.position.map(|at| ("position", position(at))));
                let flow = Some(open.flow as u64).filter(|flow| *flow > 0);
                fields.extend(flow.map(|flow| ("flow", Number(flow))));
                ("open", Object(fields))
            });
            let body = match &m.body {
                Body::Packet(packet) => ("packet", bytes(&packet.encode())),
                Body::List(page) => {
                    let end = match page.through {
                        None => ("last", Bool(true)),
                        Some(key) => {
                            let location = ("location", Number(key.location.0.into()));
                            let hash = ("hash", bytes(key.hash.as_bytes()));
                            ("through", Object(vec![location, hash]))
                        }
                    };
                    ("page", Object(vec![("groups", groups(&page.keys)), end]))
                }
            };
            open.into_iter().chain([body]).collect()
        }
        Message::ArcResponse(ArcResponse { body: Body::Packet(packet) })
        | Message::AspectDataRequest(AspectDataRequest { body: Body::Packet(packet) }) => {
            vec![("packet", bytes(&packet.encode()))]
        }
        Message::ArcResponse(ArcResponse { body: Body::List(m) }) => {
            let position = m.position.map(|at| ("position", position(at)));
            let known = [("groups", groups(&m.keys)), ("last", Bool(m.last))];
            known.into_iter().chain(position).collect()
        }
        Message::AspectDataRequest(AspectDataRequest { body: Body::List(keys) }) => {
            vec![("groups", groups(keys))]
        }
        Message::AspectDataResponse(m) => {
            vec![("aspects", encodings(&m.aspects)), ("gone", groups(&m.gone))]
        }
        Message::AspectBroadcast(m) => {
            vec![("space", Number(m.space.into())), ("aspects", encodings(&m.aspects))]
        }
        Message::Direct(m) => {
            vec![("space", Number(m.space.into())), ("payload", bytes(&m.payload))]
        }
        Message::Query(m) => {
            vec![("space", Number(m.space.into())), ("entry", bytes(m.entry.as_bytes()))]
        }
        Message::Ping(m) => {
            let digests = m.digests.iter().map(|SpaceDigest { space, digest }| {
                Object(vec![
                    ("space", Number((*space).into())),
                    ("count", Number(digest.count)),
                    ("check", bytes(&digest.check.0)),
                ])
            });
            vec![("nonce", Number(m.nonce)), ("digests", List(digests.collect()))]
        }
        Message::Pong(m) => {
            let differing = m.differing.iter().map(|space| Number((*space).into()));
            vec![("nonce", Number(m.nonce)), ("differing", List(differing.collect()))]
        }
        Message::Error(m) => vec![
            // The codes stand in the order of their numbers.
            ("code", Number(m.code as u64)),
            ("detail", Text(m.detail.clone())),
            ("retry_after_ms", Number(m.retry_after.as_millis() as u64)),
        ],
        Message::Peers(m) => {
            let peers = m.peers.iter().map(|PeerInfo { record, observed }| {
                let signed = [
                    ("record", bytes(record.encoding())),
                    ("signature", bytes(record.signature())),
                ];
                let observed = observed.as_ref().map(|seen| ("observed", observations(seen)));
                Object(signed.into_iter().chain(observed).collect())
            });
            vec![("space", Number(m.space.into())), ("peers", List(peers.collect()))]
        }
        Message::FindPeers(m) => {
            vec![("space", Number(m.space.into())), ("location", Number(m.location.0.into()))]
        }
        Message::Announce(m) => vec![
            ("space", Number(m.space.into())),
            ("groups", groups(&m.keys)),
            ("receipt", Bool(m.receipt)),
        ],
        Message::Graft(Graft { space, keys }) | Message::Receipt(Receipt { space, keys }) => {
            vec![("space", Number((*space).into())), ("groups", groups(keys))]
        }
        Message::Prune(m) => vec![("space", Number(m.space.into())), ("groups", groups(&m.keys))],
        Message::Audit(m) => vec![
            ("space", Number(m.space.into())),
            ("nonce", bytes(&m.nonce)),
            ("groups", groups(&m.keys)),
        ],
        Message::AuditProof(m) => {
            let proof = |proof: &Option<[u8; 32]>| bytes(proof.as_ref().map_or(&[], |p| &p[..]));
            vec![("proofs", List(m.proofs.iter().map(proof).collect()))]
        }
    });
    fields.to_string()
}

fn key(location: u32, hash: u8) -> AspectKey {
    AspectKey { location: Location(location), hash: AspectHash([hash; 32]) }
}

pub(crate) fn set(arcs: &[(u32, u64)]) -> ArcSet {
    arcs.iter().map(|(start, len)| RingArc::new(Location(*start), *len).unwrap()).collect()
}

fn messages() -> Vec<(&'static str, Message)> {
    let hello = |tags: Vec<_>| Hello {
        version_min: 0,
        version_max: 3,
        capabilities: u64::MAX,
        max_wants: 16384,
        clock: Time::from_micros(1_700_000_000_000_000),
        agent: "arcwise/0.1.0".to_owned(),
        tags,
        seen_at: None,
    };
    let handshake = |store: ArcSet, target, query| Handshake {
        tag: [0x77; 16],
        space: 7,
        store,
        target,
        query,
        count: 1000,
        bytes: 123_456,
        full: false,
    };
    let (full, empty) = (ArcSet::full(), ArcSet::empty());
    let wrapping = set(&[(0xffff_fff0, 0x20), (0x4000_0000, 1)]);
    let here = Position { epoch: 0x0102_0304_0506_0708, count: 42 };
    let open = |arcs: &ArcSet, published_since, stored_after| Open {
        space: 7,
        arcs: arcs.clone(),
        published_since,
        stored_after,
        position: Some(here),
        flow: Flow::Both,
    };
    let request = |open: Option<Open>, keys: &[AspectKey], through| ArcRequest {
        open,
        body: Body::List(Page { keys: keys.to_vec(), through }),
    };
    let some = [key(0, 1), key(5, 2), key(5, 3), key(u32::MAX, 0xff)];
    let (since, zero) = (Time::from_micros(1_600_000_000_000_000), Time::ZERO);
    let start = Position { epoch: 0, count: 0 };
    let response =
        |keys: &[AspectKey], last, position| Listed { keys: keys.to_vec(), last, position };
    let data = |aspects: Vec<Aspect>, gone: &[AspectKey]| AspectDataResponse {
        aspects,
        gone: gone.to_vec(),
    };
    let digest = |space, count| {
        let digest = Digest { count, check: Check([0xc4; 16]) };
        SpaceDigest { space, digest }
    };
    let direct = |space, payload: &'static [u8]| Direct { space, payload: payload.into() };
    let error = |code, detail: &str, ms| ErrorMessage {
        code,
        detail: detail.to_owned(),
        retry_after: Duration::from_millis(ms),
    };
    let info = |record, observed| PeerInfo { record, observed };
    let peers = |space, peers| Message::from(Peers { space, peers });
    let audit =
        |nonce: u8, keys: &[AspectKey]| Audit { space: 7, nonce: [nonce; 32], keys: keys.to_vec() };
    let eight: Vec<AspectKey> = (0..MAX_AUDIT as u8).map(|n| key(n.into(), n)).collect();
    // Of an aspect of which the file has the encoding, too.
    let proof = |nonce: u8, aspect: &Aspect| {
        Some(arcwise_proto::swarm::audit_proof(
            &[nonce; 32],
            &arcwise_proto::NodeId([0xb0; 32]),
            aspect,
        ))
    };
    let audited = unsigned(1, 2, b"hello");
    vec![
        ("hello", hello(vec![[0x11; 16], [0x22; 16]]).into()),
        (
            "hello that says where the other is",
            Hello { seen_at: Some(([192, 0, 2, 7], 4433).into()), ..hello(vec![[0x11; 16]]) }
                .into(),
        ),
        ("hello without tags", Hello { agent: String::new(), ..hello(vec![]) }.into()),
        ("handshake of a full node", handshake(full.clone(), full.clone(), full.clone()).into()),
        ("handshake of a newcomer", handshake(empty.clone(), full.clone(), empty.clone()).into()),
        ("handshake with two arcs, one over the top", {
            handshake(wrapping.clone(), wrapping.clone(), full.clone()).into()
        }),
        ("handshake of one that has no room", {
            Handshake { full: true, ..handshake(full.clone(), full.clone(), full.clone()) }.into()
        }),
        ("opening of one who only takes", {
            let open = Open { flow: Flow::ToAlice, ..open(&full, None, None) };
            request(Some(open), &[], None).into()
        }),
        ("opening of one who only gives", {
            let open = Open { flow: Flow::ToBob, position: None, ..open(&full, None, None) };
            ArcRequest { open: Some(open), body: Body::Packet(Packet::Stream { count: 3 }) }.into()
        }),
        ("opening and last page, nothing held", {
            request(Some(open(&full, None, None)), &[], None).into()
        }),
        ("opening with arcs and constraints", {
            let open = open(&wrapping, Some(since), Some(Position { epoch: 9, count: 8 }));
            request(Some(open), &some[..1], None).into()
        }),
        ("opening with constraints that are zero, not absent", {
            request(Some(open(&empty, Some(zero), Some(start))), &[], None).into()
        }),
        ("opening and first page of several", {
            request(Some(open(&full, None, None)), &some[..3], Some(some[2])).into()
        }),
        ("a page that reaches further than its last hash", {
            request(None, &some[..3], Some(key(6, 0))).into()
        }),
        ("an empty page that is not the last", request(None, &[], Some(key(1, 0))).into()),
        ("a page up to right before the end of the ring", {
            let mut hash = [0xff; 32];
            hash[31] = 0xfe;
            let through = AspectKey { location: Location(u32::MAX), hash: AspectHash(hash) };
            request(None, &[], Some(through)).into()
        }),
        ("the last page", request(None, &some, None).into()),
        ("a list of Bob's", response(&some, false, None).into()),
        ("Bob's last list, empty", response(&[], true, Some(here)).into()),
        ("Bob's last list, of a part of the arcs", response(&some[1..], true, None).into()),
        ("wanting nothing", AspectDataRequest::keys(vec![]).into()),
        ("wanting some", AspectDataRequest::keys(some.to_vec()).into()),
        ("aspects", data(vec![unsigned(1, 2, b"hello"), signed(&SPACE, b"hello")], &[]).into()),
        ("an aspect, and others are gone", {
            data(vec![unsigned(0, 0, b"")], &[key(5, 2), key(5, 3)]).into()
        }),
        ("broadcast", {
            AspectBroadcast { space: 7, aspects: vec![signed(&SPACE, b"news")] }.into()
        }),
        ("direct", direct(7, b"hello").into()),
        ("reply to a direct", direct(0, b"hello yourself").into()),
        ("direct without payload", direct(u32::MAX, b"").into()),
        ("query", Query { space: 7, entry: EntryAddress(scattered(0x10)) }.into()),
        ("opening with a packet", {
            let open = Open { position: None, ..open(&full, None, None) };
            ArcRequest { open: Some(open), body: Body::Packet(Packet::Stream { count: 300 }) }
                .into()
        }),
        ("a packet of Alice's", {
            ArcRequest { open: None, body: Body::Packet(Packet::Close) }.into()
        }),
        ("a packet of Bob's", ArcResponse { body: Body::Packet(Packet::Same) }.into()),
        ("a packet with what Alice wants", {
            AspectDataRequest { body: Body::Packet(Packet::Want(Vec::new())) }.into()
        }),
        ("ping", Ping { nonce: 0x0102_0304_0506_0708, digests: vec![digest(7, 1000)] }.into()),
        ("ping of two spaces", {
            Ping { nonce: 5, digests: vec![digest(1, 0), digest(u32::MAX, u64::MAX)] }.into()
        }),
        ("ping without digests", Ping { nonce: 0, digests: vec![] }.into()),
        ("pong", Pong { nonce: u64::MAX, differing: vec![] }.into()),
        ("pong where two spaces differ", Pong { nonce: 5, differing: vec![1, 300] }.into()),
        ("error", error(ErrorCode::Busy, "another session is under way", 200).into()),
        ("error with a code alone", error(ErrorCode::UnknownPosition, "", 0).into()),
        ("error of no code", error(ErrorCode::Unspecified, "grüße", u64::MAX).into()),
        ("the asker's own record", peers(7, vec![info(records::plain(), None)])),
        ("a peer, and what was seen of it", {
            let seen = Observed {
                availability: 985,
                round_trip: Some(Duration::from_millis(42)),
                throughput: Some(12_500),
                faults: 1,
            };
            peers(7, vec![info(records::plain(), Some(seen)), info(records::empty(), None)])
        }),
        ("a peer of which nothing is known but that it was never reached", {
            peers(7, vec![info(records::empty(), Some(Observed::default()))])
        }),
        ("the greatest observations", {
            let seen = Observed {
                availability: 1000,
                round_trip: Some(Duration::from_millis(u32::MAX.into())),
                throughput: Some(u32::MAX),
                faults: u32::MAX,
            };
            peers(u32::MAX, vec![info(records::empty(), Some(seen))])
        }),
        ("no peers, as an answer", peers(0, vec![])),
        ("the most peers, with the longest records", {
            // Nobody could have made such a record; who receives it finds that out later.
            let record = SignedRecord::new(vec![0xee; MAX_RECORD].into(), [0x51; 64]);
            peers(0, vec![info(record, None); MAX_PEERS])
        }),
        ("a record that says nothing, with a signature that is none", {
            peers(7, vec![info(SignedRecord::new(Bytes::new(), [0; 64]), None)])
        }),
        ("who is near a location", FindPeers { space: 7, location: Location(0x89ab_cdef) }.into()),
        ("who is near the start of the ring", {
            FindPeers { space: u32::MAX, location: Location(0) }.into()
        }),
        ("announcing", Announce { space: 7, keys: some.to_vec(), receipt: false }.into()),
        ("announcing, and asking for a receipt", {
            Announce { space: 7, keys: some[..1].to_vec(), receipt: true }.into()
        }),
        ("announcing nothing", Announce { space: 7, keys: vec![], receipt: false }.into()),
        ("asking to be pushed to", Graft { space: 7, keys: some[1..3].to_vec() }.into()),
        ("asking to be pushed to from now on", Graft { space: 7, keys: vec![] }.into()),
        ("asking not to be pushed to at all", Prune { space: 7, keys: Vec::new() }.into()),
        ("asking not to be pushed to near these", Prune { space: 7, keys: some.to_vec() }.into()),
        ("a receipt", Receipt { space: 7, keys: some.to_vec() }.into()),
        ("a receipt of nothing", Receipt { space: 7, keys: vec![] }.into()),
        ("an audit of one aspect", audit(0xa1, &[audited.key()]).into()),
        ("its proof, of node b0b0...", AuditProof { proofs: vec![proof(0xa1, &audited)] }.into()),
        ("the same aspect under another nonce", {
            AuditProof { proofs: vec![proof(0xa2, &audited)] }.into()
        }),
        ("an audit of the most aspects", audit(0, &eight).into()),
        ("a proof with gaps", {
            let proofs = (0..8).map(|n| (n % 3 == 0).then_some([n; 32])).collect();
            AuditProof { proofs }.into()
        }),
        ("nothing audited is held", AuditProof { proofs: vec![None] }.into()),
        ("a proof of nothing", AuditProof { proofs: vec![] }.into()),
    ]
}

pub(crate) fn type_of(kind: Kind) -> String {
    format!("{} {kind}", kind as u8)
}

#[test]
fn frames() {
    let mut file = File::new(
        "Messages and their frames, to be held against both ways.\n\
         `fields` is JSON: names and structure are those of proto/arcwise.proto, bytes are\n\
         hexadecimal, integers go up to 2^64-1, what is absent is left out. The frame is what this\n\
         implementation writes: fields in the order of their numbers, defaults not written.",
    );
    for (name, message) in messages() {
        let frame = message.encode();
        assert_eq!(decode(frame.clone()), Ok(message.clone()), "{name}");
        let values = [
            ("type", type_of(message.kind())),
            ("fields", fields(&message)),
            ("frame", hex(&frame)),
        ];
        file.record(name, &values);
    }
    file.settle("frames.txt");
}
