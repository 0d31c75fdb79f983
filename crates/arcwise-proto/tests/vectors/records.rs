//! Peer records: what is signed, and what is not to be believed.

use arcwise_proto::{
    ArcSet, AuthorKey, Location, NodeId, SpaceId, Time,
    limits::{MAX_ADDRESSES, MAX_RECORD, MAX_RECORD_ARCS, MAX_TEXT},
    ring::RING,
    swarm::{Address, PeerRecord, RecordError, SignedRecord},
};
use bytes::Bytes;
use ed25519_dalek::{Signer, SigningKey};

use crate::{
    File, SPACE, error,
    foreign::{Raw, raw, raw_arc},
    frames::{Json, List, Number, Object, Text, arcs, bytes, set},
    hex, ones_at, plus_order, scattered,
};

const SECRET: u8 = 0x60;

fn key() -> AuthorKey {
    AuthorKey::from_bytes(&scattered(SECRET))
}

fn node() -> NodeId {
    NodeId(key().author())
}

fn nothing() -> PeerRecord {
    PeerRecord {
        node: node(),
        sequence: 0,
        expires: Time::ZERO,
        addresses: vec![],
        store: ArcSet::empty(),
        target: ArcSet::empty(),
        count: 0,
        bytes: 0,
    }
}

fn something() -> PeerRecord {
    PeerRecord {
        node: node(),
        sequence: 1_700_000_000_000_000,
        expires: Time::from_micros(1_700_086_400_000_000),
        addresses: vec![
            Address::Ip("192.0.2.7:4433".parse().unwrap()),
            Address::Ip("[2001:db8::7]:4433".parse().unwrap()),
            Address::Relay("https://relay.example./".to_owned()),
        ],
        store: set(&[(0x4000_0000, 1), (0xffff_fff0, 0x20)]),
        target: ArcSet::full(),
        count: 1000,
        bytes: 123_456,
    }
}

pub(crate) fn empty() -> SignedRecord {
    nothing().sign(&key(), &SPACE)
}

pub(crate) fn plain() -> SignedRecord {
    something().sign(&key(), &SPACE)
}

pub(crate) fn address(address: &Address) -> Json {
    Object(match address {
        Address::Relay(url) => vec![("relay", Text(url.clone()))],
        Address::Ip(at) => {
            let ip = match at.ip() {
                std::net::IpAddr::V4(ip) => ip.octets().to_vec(),
                std::net::IpAddr::V6(ip) => ip.octets().to_vec(),
            };
            vec![("ip", bytes(&ip)), ("port", Number(at.port().into()))]
        }
    })
}

/// The fields as the schema names them.
fn fields(record: &PeerRecord) -> String {
    let fields: Json = Object(vec![
        ("node", bytes(record.node.as_bytes())),
        ("sequence", Number(record.sequence)),
        ("expires", Number(record.expires.as_micros())),
        ("addresses", List(record.addresses.iter().map(address).collect())),
        ("store", arcs(&record.store)),
        ("target", arcs(&record.target)),
        ("count", Number(record.count)),
        ("bytes", Number(record.bytes)),
    ]);
    fields.to_string()
}

/// What a node signs, as PROTOCOL.md has it.
fn message(space: &SpaceId, record: &[u8]) -> Vec<u8> {
    [b"arcwise 1 peer record", &space.0[..], record].concat()
}

/// Signs whatever bytes there are.
fn sign(secret: u8, message: &[u8]) -> [u8; 64] {
    SigningKey::from_bytes(&scattered(secret)).sign(message).to_bytes()
}

fn raw_address(ip: &[u8], port: u64) -> Raw {
    raw().bytes(1, ip).varint(2, port)
}

/// A record with no more than it must have.
fn least() -> Raw {
    raw().bytes(1, node().as_bytes()).message(5, raw()).message(6, raw())
}

/// The same with an address.
fn at(address: Raw) -> Raw {
    least().message(4, address)
}

fn written() -> Vec<(&'static str, PeerRecord)> {
    let relay = |len: usize| Address::Relay("r".repeat(len));
    let separate: Vec<(u32, u64)> = (0..MAX_RECORD_ARCS as u32).map(|n| (n * 100, 1)).collect();
    vec![
        ("a record", something()),
        ("a record that says as little as it can", nothing()),
        ("the greatest numbers", {
            PeerRecord {
                sequence: u64::MAX,
                expires: Time::from_micros(u64::MAX),
                count: u64::MAX,
                bytes: u64::MAX,
                ..nothing()
            }
        }),
        ("the most addresses and arcs", {
            let port = |n| Address::Ip(([192, 0, 2, 7], n).into());
            PeerRecord {
                addresses: (0..MAX_ADDRESSES as u16).map(port).collect(),
                store: set(&separate),
                target: set(&separate),
                ..something()
            }
        }),
        ("the longest relay", PeerRecord { addresses: vec![relay(MAX_TEXT)], ..nothing() }),
    ]
}

/// Records as another encoder, or a later version, may write them.
fn foreign() -> Vec<(&'static str, Raw)> {
    let relay = b"https://relay.example./";
    let pieces = [(8, 8), (0, 10), (99, 0), (0xffff_ffff, 1)].into_iter();
    let pieces = pieces.fold(raw(), |raw, (start, len)| raw.message(1, raw_arc(start, len)));
    vec![
        ("fields in another order", {
            raw().message(6, raw()).message(5, raw()).bytes(1, node().as_bytes())
        }),
        ("a field of a later version", least().bytes(15, b"later")),
        ("defaults written out", least().fixed64(2, 0).fixed64(3, 0).varint(7, 0).varint(8, 0)),
        ("a relay that also has an IP address: the relay counts", {
            at(raw_address(&[192, 0, 2, 7], 4433).bytes(3, relay))
        }),
        ("an address without a port", at(raw().bytes(1, &[192, 0, 2, 7]))),
        ("arcs that touch, overlap or are empty", {
            raw().bytes(1, node().as_bytes()).message(5, pieces).message(6, raw())
        }),
    ]
}

/// Records that cannot be read, though their node signed them.
fn broken() -> Vec<(&'static str, Raw)> {
    let with_arcs = |store: Raw, target: Raw| {
        raw().bytes(1, node().as_bytes()).message(5, store).message(6, target)
    };
    let nine = || raw().repeat(MAX_RECORD_ARCS + 1, |raw| raw.message(1, raw_arc(0, RING)));
    vec![
        ("nothing", raw()),
        ("no protobuf at all", Raw(vec![0xff; 12])),
        (
            "cut off",
            Raw({
                let whole = plain();
                whole.encoding()[..whole.encoding().len() - 1].to_vec()
            }),
        ),
        ("no node", raw().message(5, raw()).message(6, raw())),
        ("a short node", {
            raw().bytes(1, &node().as_bytes()[1..]).message(5, raw()).message(6, raw())
        }),
        ("no store arcs", raw().bytes(1, node().as_bytes()).message(6, raw())),
        ("no target arcs", raw().bytes(1, node().as_bytes()).message(5, raw())),
        ("too many store arcs", with_arcs(nine(), raw())),
        ("too many target arcs", with_arcs(raw(), nine())),
        ("an arc longer than the ring", with_arcs(raw().message(1, raw_arc(0, RING + 1)), raw())),
        ("too many addresses", {
            least().repeat(MAX_ADDRESSES + 1, |raw| raw.message(4, raw_address(&[127, 0, 0, 1], 1)))
        }),
        ("an address that is none", at(raw())),
        ("an IP address of 5 bytes", at(raw_address(&[1; 5], 4433))),
        ("an IP address of 17 bytes", at(raw_address(&[1; 17], 4433))),
        ("a port over 65535", at(raw_address(&[192, 0, 2, 7], 65536))),
        ("a long relay", at(raw().bytes(3, &[b'r'; MAX_TEXT + 1]))),
        ("a relay with control characters", at(raw().bytes(3, b"https://relay\x1b[31m/"))),
        ("a relay that is not UTF-8", at(raw().bytes(3, &[0xff]))),
    ]
}

/// Records that can be read, and were not made by their node for the space.
fn unbelievable() -> Vec<(&'static str, SignedRecord)> {
    let record = plain();
    let (encoding, signature) = (record.encoding(), record.signature());
    let patched = |at: usize, byte: u8| {
        let mut encoding = encoding.to_vec();
        encoding[at] = byte;
        Bytes::from(encoding)
    };
    let under = |encoding: Bytes| SignedRecord::new(encoding, *signature);
    let (r, s) = signature.split_at(32);
    let signed = |text: &[u8]| SignedRecord::new(encoding.clone(), sign(SECRET, text));
    let neutral = ones_at(&[0]);
    vec![
        ("signed for another space", something().sign(&key(), &SpaceId([0x5b; 32]))),
        ("a changed byte", {
            assert_eq!(encoding[34], 0x11, "the sequence begins here");
            under(patched(35, encoding[35] ^ 1))
        }),
        (
            "a field added by somebody on the way",
            under([&encoding[..], &[0x78, 1]].concat().into()),
        ),
        ("of another node", {
            let other = NodeId(AuthorKey::from_bytes(&scattered(SECRET + 1)).author());
            let other = PeerRecord { node: other, ..something() };
            SignedRecord::new(other.sign(&key(), &SPACE).encoding().clone(), *signature)
        }),
        ("signed by another node", {
            SignedRecord::new(encoding.clone(), sign(SECRET + 1, &message(&SPACE, encoding)))
        }),
        ("signed without the space", signed(&[b"arcwise 1 peer record", &encoding[..]].concat())),
        ("signed without the text before", signed(&[&SPACE.0[..], &encoding[..]].concat())),
        ("a signature of zeros", SignedRecord::new(encoding.clone(), [0; 64])),
        ("R and S in the wrong order", {
            SignedRecord::new(encoding.clone(), [s, r].concat().try_into().unwrap())
        }),
        ("S is not less than the order", {
            SignedRecord::new(encoding.clone(), plus_order(signature))
        }),
        ("a node of small order", {
            let record = PeerRecord { node: NodeId(neutral), ..something() }.sign(&key(), &SPACE);
            let no_order = [neutral, [0; 32]].concat().try_into().unwrap();
            SignedRecord::new(record.encoding().clone(), no_order)
        }),
    ]
}

#[test]
fn peer_records() {
    let mut file = File::new(
        "Peer records, as they stand in Peers, each for one space.\n\
         `record` is what the node encoded, and `fields` what that means, as JSON (see frames.txt).\n\
         `message` is what is signed, with the node's Ed25519 secret (RFC 8032). A location, which\n\
         follows from space and node, is a number of eight hexadecimal digits.\n\
         Those without a secret are to be refused in that space, and `error` says why; all of them\n\
         that break a rule of form have a signature that holds.",
    );
    let mut good = |name: &str, signed: &SignedRecord| {
        let record = signed.verify(&SPACE).unwrap();
        let text = message(&SPACE, signed.encoding());
        assert_eq!(*signed.signature(), sign(SECRET, &text));
        let values = [
            ("fields", fields(&record)),
            ("space", hex(SPACE.as_bytes())),
            ("secret", hex(&scattered(SECRET))),
            ("location", Location::of_node(&SPACE, &record.node).to_string()),
            ("record", hex(signed.encoding())),
            ("message", hex(&text)),
            ("signature", hex(signed.signature())),
        ];
        file.record(name, &values);
        record
    };
    for (name, record) in written() {
        let signed = record.sign(&key(), &SPACE);
        assert!(signed.encoding().len() <= MAX_RECORD);
        assert_eq!(*good(name, &signed), record);
    }
    let by_hand = |record: &Raw| {
        let signature = sign(SECRET, &message(&SPACE, &record.0));
        SignedRecord::new(record.0.clone().into(), signature)
    };
    for (name, record) in foreign() {
        let record = by_hand(&record);
        let again = good(name, &record).sign(&key(), &SPACE);
        assert_ne!(again.encoding(), record.encoding(), "{name}");
    }
    let broken = broken().into_iter().map(|(name, record)| (name, by_hand(&record), true));
    let forged = unbelievable().into_iter().map(|(name, record)| (name, record, false));
    for (name, signed, of_form) in broken.chain(forged) {
        let refused = signed.verify(&SPACE).expect_err(name);
        assert_eq!(matches!(refused, RecordError::Wire(_)), of_form, "{name}: {refused}");
        let values = [
            ("space", hex(SPACE.as_bytes())),
            ("record", hex(signed.encoding())),
            ("signature", hex(signed.signature())),
            ("error", error(&refused)),
        ];
        file.record(name, &values);
    }
    file.settle("peer-records.txt");
}
