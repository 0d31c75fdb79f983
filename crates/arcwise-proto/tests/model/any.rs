//! Any message that keeps the rules of a single message, its parts drawn from few enough values that
//! messages have something to do with each other.

use std::{sync::LazyLock, time::Duration};

use arcwise_proto::{
    Aspect, AspectHash, AspectKey, AuthorKey, EntryAddress, NodeId, SpaceId, Time,
    limits::{MAX_AUDIT, MAX_DIRECT, MAX_PEERS, MAX_RECORD, MAX_TEXT, PAGE_KEYS},
    reconcile::{exchange::Packet, fingerprint::Check},
    ring::{ArcSet, Location, RING, RingArc},
    session::{Digest, Flow, Position},
    swarm::{Address, PeerRecord, SignedRecord},
    wire::{
        Announce, ArcRequest, ArcResponse, AspectBroadcast, AspectDataRequest, AspectDataResponse,
        Audit, AuditProof, Body, Direct, ErrorCode, ErrorMessage, FindPeers, Graft, Handshake,
        Hello, Listed, Message, Observed, Open, Page, PeerInfo, Peers, Ping, Pong, Prune, Query,
        Receipt, SpaceDigest, Tag,
    },
};
use proptest::{collection::vec, option, prelude::*};

use super::{SPACE, numbered};

/// Aspects at both ends of the ring, in hot entries and alone; some signed, some forged.
pub(crate) static UNIVERSE: LazyLock<Vec<Aspect>> = LazyLock::new(|| {
    let plain = (0..30).chain((0..10).map(|n| n << 32 | 77)).chain([u64::from(u32::MAX)]);
    let key = AuthorKey::from_bytes(&[1; 32]);
    let signed = |space: SpaceId, n: u64| {
        let entry = EntryAddress([n as u8; 32]);
        Aspect::signed(&key, &space, entry, 2, Time::from_micros(n), b"signed").unwrap()
    };
    let good = (0..5).map(|n| signed(SPACE, n));
    let forged = (5..8).map(|n| signed(SpaceId([9; 32]), n));
    plain.map(numbered).chain(good).chain(forged).collect()
});

pub(crate) fn any_key() -> impl Strategy<Value = AspectKey> {
    let known: Vec<AspectKey> = UNIVERSE.iter().map(Aspect::key).collect();
    let end = [AspectKey::MIN, AspectKey::MAX, AspectKey::MIN.next().unwrap()];
    prop_oneof![
        8 => proptest::sample::select(known),
        1 => proptest::sample::select(end.to_vec()),
        1 => (any::<u32>(), any::<[u8; 32]>())
            .prop_map(|(l, h)| AspectKey { location: Location(l), hash: AspectHash(h) }),
    ]
}

pub(crate) fn any_keys() -> impl Strategy<Value = Vec<AspectKey>> {
    let few = proptest::collection::btree_set(any_key(), 0..12);
    let full = (any::<bool>(), any::<u32>()).prop_map(|(hot, from)| {
        let location = |n: u32| Location(if hot { from } else { from.saturating_add(n) });
        let hash = |n: u32| AspectHash(std::array::from_fn(|i| n.to_be_bytes()[i % 4]));
        (0..PAGE_KEYS as u32).map(|n| AspectKey { location: location(n), hash: hash(n) }).collect()
    });
    prop_oneof![20 => few, 1 => full].prop_map(|keys| keys.into_iter().collect())
}

pub(crate) fn any_aspects() -> impl Strategy<Value = Vec<Aspect>> {
    vec(proptest::sample::select(&**UNIVERSE), 0..8)
}

pub(crate) fn any_arcs() -> impl Strategy<Value = ArcSet> {
    let location = prop_oneof![any::<u32>(), 0..100u32, Just(u32::MAX)];
    let len = prop_oneof![0..=RING, 0..100u64, Just(RING)];
    let arc = (location, len).prop_map(|(at, len)| RingArc::new(Location(at), len).unwrap());
    prop_oneof![Just(ArcSet::full()), vec(arc, 0..5).prop_map(|arcs| arcs.into_iter().collect())]
}

fn any_position() -> impl Strategy<Value = Position> {
    let parts = (prop_oneof![0..3u64, any::<u64>()], prop_oneof![0..50u64, any::<u64>()]);
    parts.prop_map(|(epoch, count)| Position { epoch, count })
}

fn any_time() -> impl Strategy<Value = Time> {
    prop_oneof![0..50u64, any::<u64>()].prop_map(Time::from_micros)
}

fn any_tag() -> impl Strategy<Value = Tag> {
    prop_oneof![(0..4u8).prop_map(|n| [n; 16]), any::<Tag>()]
}

fn any_text() -> impl Strategy<Value = String> {
    "[^\\p{Cc}]{0,64}".prop_filter("fits", |text| text.len() <= MAX_TEXT)
}

fn hello() -> impl Strategy<Value = Message> {
    let numbers = (0..3u32, any::<u32>(), any::<u64>(), PAGE_KEYS as u32..);
    let seen_at = option::of(any::<([u8; 4], u16)>().prop_map(Into::into));
    (numbers, any_time(), any_text(), vec(any_tag(), 0..10), seen_at).prop_map(
        |((version_min, more, capabilities, max_wants), clock, agent, tags, seen_at)| {
            let version_max = version_min.saturating_add(more);
            Hello { version_min, version_max, capabilities, max_wants, clock, agent, tags, seen_at }
                .into()
        },
    )
}

fn handshake() -> impl Strategy<Value = Message> {
    let arcs = (any_arcs(), any_arcs(), any_arcs());
    let numbers = (1u32.., any::<u64>(), any::<u64>(), any::<bool>());
    (any_tag(), arcs, numbers).prop_map(
        |(tag, (store, target, more), (space, count, bytes, full))| {
            let query = store.union(&more);
            Handshake { tag, space, store, target, query, count, bytes, full }.into()
        },
    )
}

fn open() -> impl Strategy<Value = Open> {
    let times = (option::of(any_time()), option::of(any_position()), any_position());
    let flow = proptest::sample::select(vec![Flow::Both, Flow::ToAlice, Flow::ToBob]);
    (any::<u32>(), any_arcs(), times, flow).prop_map(
        |(space, arcs, (published_since, stored_after, position), flow)| Open {
            flow,
            space,
            arcs,
            published_since,
            stored_after,
            position: Some(position),
        },
    )
}

fn page() -> impl Strategy<Value = Page> {
    (any_keys(), option::of(any_key())).prop_map(|(keys, through)| {
        let through = through.map(|key| keys.last().map_or(key, |last| key.max(*last)));
        Page { keys, through: through.filter(|through| *through < AspectKey::MAX) }
    })
}

pub(crate) fn arc_request() -> impl Strategy<Value = ArcRequest> {
    (option::of(open()), page())
        .prop_map(|(open, page)| ArcRequest { open, body: Body::List(page) })
}

fn arc_response() -> impl Strategy<Value = Message> {
    (any_keys(), any::<bool>(), option::of(any_position())).prop_map(|(keys, last, position)| {
        Listed { keys, last, position: position.filter(|_| last) }.into()
    })
}

fn ping() -> impl Strategy<Value = Message> {
    let digest = (any::<u64>(), any::<[u8; 16]>())
        .prop_map(|(count, check)| Digest { count, check: Check(check) });
    let digests = proptest::collection::btree_map(any::<u32>(), digest, 0..4);
    (any::<u64>(), digests).prop_map(|(nonce, digests)| {
        let digests = digests.into_iter().map(|(space, digest)| SpaceDigest { space, digest });
        Ping { nonce, digests: digests.collect() }.into()
    })
}

/// The packets that say little, in any message that may carry one.
fn any_packet() -> impl Strategy<Value = Message> {
    let packet = prop_oneof![
        Just(Packet::Same),
        any::<u64>().prop_map(|count| Packet::Stream { count }),
        Just(Packet::Close),
        Just(Packet::Done),
        Just(Packet::Want(Vec::new())),
        Just(Packet::Probe(Vec::new())),
        any::<bool>().prop_map(|more| Packet::Failed { pieces: Vec::new(), more }),
    ];
    (packet, 0..3u8).prop_map(|(packet, message)| {
        let body = packet;
        match message {
            0 => ArcRequest { open: None, body: Body::Packet(body) }.into(),
            1 => ArcResponse { body: Body::Packet(body) }.into(),
            _ => AspectDataRequest { body: Body::Packet(body) }.into(),
        }
    })
}

fn error() -> impl Strategy<Value = Message> {
    use ErrorCode::*;
    let codes = [
        Unspecified,
        Protocol,
        Version,
        UnknownSpace,
        Busy,
        Superseded,
        BadAspect,
        Timeout,
        Storage,
        Shutdown,
        Refused,
        UnknownPosition,
        TooCostly,
    ];
    let code = proptest::sample::select(codes.to_vec());
    (code, any_text(), any::<u64>()).prop_map(|(code, detail, millis)| {
        ErrorMessage { code, detail, retry_after: Duration::from_millis(millis) }.into()
    })
}

/// Records of a few nodes: some as they should be, some for another space, some of nobody; and bytes
/// that are none.
pub(crate) static RECORDS: LazyLock<Vec<SignedRecord>> = LazyLock::new(|| {
    let record = |n: u8, sequence| {
        let key = AuthorKey::from_bytes(&[n; 32]);
        let record = PeerRecord {
            node: NodeId(key.author()),
            sequence,
            expires: Time::from_micros(sequence + 50),
            addresses: vec![
                Address::Ip(([192, 0, 2, n], 4433).into()),
                Address::Relay("https://relay.example./".to_owned()),
            ],
            store: [RingArc::new(Location(u32::from(n) << 24), 1 << 24).unwrap()]
                .into_iter()
                .collect(),
            target: ArcSet::full(),
            count: n.into(),
            bytes: sequence,
        };
        (record, key)
    };
    let good =
        (1..5).flat_map(|n| (0..3).map(move |sequence| (n, sequence))).map(|(n, sequence)| {
            let (record, key) = record(n, sequence);
            record.sign(&key, &SPACE)
        });
    let elsewhere = (1..3).map(|n| {
        let (record, key) = record(n, 9);
        record.sign(&key, &SpaceId([9; 32]))
    });
    let forged = (1..3).map(|n| record(n, 9).0.sign(&AuthorKey::from_bytes(&[7; 32]), &SPACE));
    let none = [SignedRecord::new([0xff; 9][..].into(), [1; 64])];
    good.chain(elsewhere).chain(forged).chain(none).collect()
});

pub(crate) fn any_record() -> impl Strategy<Value = SignedRecord> {
    let len = prop_oneof![9 => 0..100usize, 1 => Just(MAX_RECORD)];
    let bytes = (len, any::<u8>(), any::<[u8; 64]>())
        .prop_map(|(len, byte, signature)| SignedRecord::new(vec![byte; len].into(), signature));
    prop_oneof![8 => proptest::sample::select(&**RECORDS), 1 => bytes]
}

fn peers() -> impl Strategy<Value = Message> {
    let round_trip = option::of((1..=u32::MAX).prop_map(|ms| Duration::from_millis(ms.into())));
    let observed = (0..=1000u16, round_trip, option::of(1..=u32::MAX), any::<u32>()).prop_map(
        |(availability, round_trip, throughput, faults)| Observed {
            availability,
            round_trip,
            throughput,
            faults,
        },
    );
    let info = (any_record(), option::of(observed))
        .prop_map(|(record, observed)| PeerInfo { record, observed });
    let full = prop::bool::weighted(0.1);
    (any::<u32>(), vec(info, 0..4), full).prop_map(|(space, some, full)| {
        let len = if full { MAX_PEERS } else { some.len() };
        Peers { space, peers: some.into_iter().cycle().take(len).collect() }.into()
    })
}

/// What travels beside the aspects of a broadcast stream.
fn spread() -> impl Strategy<Value = Message> {
    (any::<u32>(), any_keys(), any::<bool>(), 0..4u8).prop_map(|(space, keys, receipt, which)| {
        match which {
            0 => Announce { space, keys, receipt }.into(),
            1 => Graft { space, keys }.into(),
            2 => Prune { space, keys }.into(),
            _ => Receipt { space, keys }.into(),
        }
    })
}

fn audit() -> impl Strategy<Value = Message> {
    let keys = proptest::collection::btree_set(any_key(), 1..=MAX_AUDIT);
    (any::<u32>(), any::<[u8; 32]>(), keys).prop_map(|(space, nonce, keys)| {
        Audit { space, nonce, keys: keys.into_iter().collect() }.into()
    })
}

/// Every type of message is as likely as every other.
pub(crate) fn any_message() -> impl Strategy<Value = Message> {
    let response = (any_aspects(), any_keys())
        .prop_map(|(aspects, gone)| AspectDataResponse { aspects, gone }.into());
    let broadcast = (any::<u32>(), any_aspects())
        .prop_map(|(space, aspects)| AspectBroadcast { space, aspects }.into());
    let payload = prop_oneof![vec(any::<u8>(), 0..100), Just(vec![7; MAX_DIRECT])];
    let direct = (any::<u32>(), payload)
        .prop_map(|(space, payload)| Direct { space, payload: payload.into() }.into());
    let query = (any::<u32>(), any::<[u8; 32]>())
        .prop_map(|(space, entry)| Query { space, entry: EntryAddress(entry) }.into());
    let find = (any::<u32>(), any::<u32>())
        .prop_map(|(space, at)| FindPeers { space, location: Location(at) }.into());
    let proof = vec(option::of(any::<[u8; 32]>()), 0..=MAX_AUDIT)
        .prop_map(|proofs| AuditProof { proofs }.into());
    prop_oneof![
        1 => hello(),
        1 => handshake(),
        1 => arc_request().prop_map(Message::from),
        1 => arc_response(),
        1 => any_keys().prop_map(|keys| AspectDataRequest::keys(keys).into()),
        1 => response,
        1 => broadcast,
        1 => direct,
        1 => query,
        1 => ping(),
        1 => (any::<u64>(), vec(any::<u32>(), 0..4)).prop_map(|(nonce, differing)| Pong {
            nonce,
            differing
        }
        .into()),
        1 => any_packet(),
        1 => error(),
        1 => peers(),
        1 => find,
        4 => spread(),
        1 => audit(),
        1 => proof,
    ]
}
