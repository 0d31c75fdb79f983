//! Test vectors on file, for peers in other languages, and this implementation held against them.
//!
//! `UPDATE_VECTORS=1 cargo test -p arcwise-proto --test vectors` rewrites the files. They change only
//! when the protocol does.

mod foreign;
mod frames;
#[path = "../model/mod.rs"]
mod model;
mod reconcile;
mod records;

use std::collections::BTreeSet;

use arcwise_proto::{
    Aspect, AspectError, AuthorKey, EntryAddress, Location, NodeId, SpaceId, Time,
    limits::MAX_ASPECT_DATA,
    session::Binding,
    swarm::{announced, announcement},
    wire::Kind,
};
use bytes::Bytes;
use model::settle;

/// How every file begins, after what is particular to it.
const FORM: &str = "\
#
# A record is a few lines `name = value`; an empty line ends it. Lines that begin with # say nothing.
# Bytes are hexadecimal digits; spaces between them mean nothing, and `(3a00)*5` stands for 3a00 five
# times. Other numbers are decimal.
";

/// One file of records.
struct File {
    text: String,
    names: BTreeSet<String>,
}

impl File {
    fn new(head: &str) -> Self {
        let head: String = head.lines().map(|line| format!("# {line}\n")).collect();
        Self { text: head + FORM, names: BTreeSet::new() }
    }

    fn record(&mut self, name: &str, values: &[(&str, String)]) {
        assert!(self.names.insert(name.to_owned()), "two records named {name}");
        self.text += &format!("\nname = {name}\n");
        for (name, value) in values {
            assert!(!value.contains('\n'));
            self.text += format!("{name} = {value}").trim_end();
            self.text.push('\n');
        }
    }

    fn settle(&self, path: &str) {
        settle("UPDATE_VECTORS", &format!("vectors/{path}"), &self.text);
    }
}

/// Hexadecimal digits, with long repetitions as such.
fn hex(bytes: &[u8]) -> String {
    let digits = |bytes: &[u8]| bytes.iter().map(|b| format!("{b:02x}")).collect::<String>();
    let (mut out, mut plain, mut at) = (Vec::new(), 0, 0);
    while at < bytes.len() {
        let repeats = |len: usize| {
            let unit = &bytes[at..(at + len).min(bytes.len())];
            bytes[at..].chunks(len).take_while(|chunk| *chunk == unit).count()
        };
        match [1, 2].map(|len| (len, repeats(len))).into_iter().find(|(_, n)| *n > 40) {
            Some((len, n)) => {
                out.extend((plain < at).then(|| digits(&bytes[plain..at])));
                out.push(format!("({})*{n}", digits(&bytes[at..at + len])));
                at += len * n;
                plain = at;
            }
            None => at += 1,
        }
    }
    out.extend((plain < at).then(|| digits(&bytes[plain..at])));
    let text = out.join(" ");
    assert_eq!(unhex(&text), bytes);
    text
}

/// Reads what [`hex`] writes.
fn unhex(text: &str) -> Vec<u8> {
    let plain = |digits: &str| -> Vec<u8> {
        let pairs = digits.as_bytes().chunks(2).map(|pair| std::str::from_utf8(pair).unwrap());
        pairs.map(|pair| u8::from_str_radix(pair, 16).unwrap()).collect()
    };
    let token = |token: &str| match token.split_once(")*") {
        Some((unit, n)) => plain(&unit[1..]).repeat(n.parse().unwrap()),
        None => plain(token),
    };
    text.split_whitespace().flat_map(token).collect()
}

/// 32 bytes, different for every `n`.
fn scattered(n: u8) -> [u8; 32] {
    *blake3::hash(&[n]).as_bytes()
}

fn ones_at(places: &[usize]) -> [u8; 32] {
    let mut bytes = [0; 32];
    places.iter().for_each(|at| bytes[*at] = 1);
    bytes
}

const SPACE: SpaceId = SpaceId([0x5a; 32]);

#[test]
fn locations() {
    let mut file = File::new(
        "Where entries and nodes sit on the ring.\n\
         An entry: the eight little-endian 32-bit words of its address, XORed. A node: the same of\n\
         BLAKE3 derive_key(\"arcwise 1 node location\", space id || node id).\n\
         A location is written as a number of eight hexadecimal digits.",
    );
    let entries = [
        ("an entry of zeros", [0; 32]),
        ("the first byte is the lowest", ones_at(&[0])),
        ("the fourth byte is the highest", ones_at(&[3])),
        ("two equal words vanish", ones_at(&[0, 4])),
        ("the last word counts too", ones_at(&[31])),
        ("an entry of ones", [0xff; 32]),
        ("an entry like most", scattered(0)),
        ("an entry at the top of the ring", {
            let mut top = [0; 32];
            top[8..12].fill(0xff);
            top
        }),
    ];
    for (name, address) in entries {
        let location = Location::of_entry(&EntryAddress(address));
        file.record(name, &[("entry", hex(&address)), ("location", location.to_string())]);
    }
    let nodes = [
        ("a node", SPACE.0, scattered(1)),
        ("the same node in another space", scattered(7), scattered(1)),
        ("another node in the first space", SPACE.0, scattered(2)),
    ];
    for (name, space, node) in nodes {
        let location = Location::of_node(&SpaceId(space), &NodeId(node));
        let values =
            [("space", hex(&space)), ("node", hex(&node)), ("location", location.to_string())];
        file.record(name, &values);
    }
    file.settle("locations.txt");
}

/// The name of an error's variant and its words.
fn error<E: std::error::Error>(error: &E) -> String {
    let variant = format!("{error:?}");
    let variant = variant.split([' ', '(', '{']).next().unwrap_or_default();
    format!("{variant}: {error}")
}

fn author() -> AuthorKey {
    AuthorKey::from_bytes(&scattered(0x40))
}

fn unsigned(kind: u32, micros: u64, data: &[u8]) -> Aspect {
    Aspect::new(EntryAddress(scattered(0x10)), kind, Time::from_micros(micros), data).unwrap()
}

fn signed(space: &SpaceId, data: &[u8]) -> Aspect {
    let at = Time::from_micros(1_700_000_000_000_000);
    Aspect::signed(&author(), space, EntryAddress(scattered(0x20)), 7, at, data).unwrap()
}

/// `encoding` with some bytes put in the place of others.
fn patched(encoding: &[u8], at: usize, bytes: &[u8]) -> Bytes {
    let mut encoding = encoding.to_vec();
    encoding[at..at + bytes.len()].copy_from_slice(bytes);
    encoding.into()
}

/// The same signature with the order of the group added to S, which a malleable scheme would take.
fn plus_order(signature: &[u8; 64]) -> [u8; 64] {
    let order = [
        0xed, 0xd3, 0xf5, 0x5c, 0x1a, 0x63, 0x12, 0x58, 0xd6, 0x9c, 0xf7, 0xa2, 0xde, 0xf9, 0xde,
        0x14, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0x10,
    ];
    let (mut out, mut carry) = (*signature, 0);
    for (byte, order) in out[32..].iter_mut().zip(order) {
        let sum = u16::from(*byte) + order + carry;
        carry = sum >> 8;
        *byte = sum as u8;
    }
    out
}

#[test]
fn aspects() {
    let mut file = File::new(
        "Aspects: their fields, and the encoding, hash and location that follow from these. A location\n\
         is a number of eight hexadecimal digits.\n\
         Signed ones have the author's Ed25519 secret (RFC 8032) and the space they are signed for.\n\
         Those with an error are to be refused; where the error is Signature, only in that space.",
    );
    let plain = [
        ("no data at all", unsigned(0, 0, b"")),
        ("a few words", unsigned(1, 1_700_000_000_000_000, b"hello")),
        ("the greatest kind and time", unsigned(u32::MAX, u64::MAX, &[0xff])),
        ("the most data", unsigned(2, 3, &vec![0xda; MAX_ASPECT_DATA])),
    ];
    let in_space = [("signed", signed(&SPACE, b"hello")), ("signed nothing", signed(&SPACE, b""))];
    for (name, aspect, is_signed) in
        plain.map(|(n, a)| (n, a, false)).into_iter().chain(in_space.map(|(n, a)| (n, a, true)))
    {
        let mut values = vec![
            ("entry", hex(aspect.entry().as_bytes())),
            ("kind", aspect.kind().to_string()),
            ("published", aspect.published().as_micros().to_string()),
            ("data", hex(&aspect.data())),
        ];
        if is_signed {
            assert_eq!(aspect.verify(&SPACE), Ok(()));
            values.extend([
                ("space", hex(SPACE.as_bytes())),
                ("secret", hex(&scattered(0x40))),
                ("author", hex(&aspect.author().unwrap())),
                ("signature", hex(&aspect.signature().unwrap())),
            ]);
        }
        values.extend([
            ("encoding", hex(aspect.encoding())),
            ("hash", hex(aspect.hash().as_bytes())),
            ("location", aspect.location().to_string()),
        ]);
        file.record(name, &values);
        assert_eq!(Aspect::decode(aspect.encoding().clone()), Ok(aspect));
    }

    let (short, long) = (unsigned(1, 2, b"hello").encoding().clone(), signed(&SPACE, b"hello"));
    let (head, signed_head) = (45, 141);
    let malformed: Vec<(&str, Bytes)> = vec![
        ("nothing", Bytes::new()),
        ("an unknown form", patched(&short, 0, &[2])),
        ("ends before its length", short.slice(..head + 3)),
        ("ends before its data", short.slice(..head + 4)),
        ("one byte too short", short.slice(..short.len() - 1)),
        ("one byte too long", [&short[..], &[0]].concat().into()),
        ("unsigned, but read as signed", patched(&short, 0, &[1])),
        ("signed, but read as unsigned", patched(long.encoding(), 0, &[0])),
        ("a signature cut off", long.encoding().slice(..signed_head)),
        ("too much data", {
            let over = (MAX_ASPECT_DATA as u32 + 1).to_le_bytes();
            patched(&short, head, &over).slice(..head + 4)
        }),
        ("very much too much data", patched(&short, head, &[0xff; 4]).slice(..head + 4)),
    ];
    for (name, encoding) in malformed {
        let refused = Aspect::decode(encoding.clone()).unwrap_err();
        assert!(!matches!(refused, AspectError::Signature(_)));
        file.record(name, &[("encoding", hex(&encoding)), ("error", error(&refused))]);
    }

    // The neutral element, as author and R, makes S = 0 hold for every message unless small orders are
    // refused.
    let signature = long.signature().unwrap();
    let neutral = ones_at(&[0]);
    let (at_author, at_signature) = (45, 77);
    let no_order = [&neutral[..], &neutral, &[0; 32]].concat();
    let unbelievable = [
        ("signed for another space", signed(&SpaceId([0x5b; 32]), b"hello").encoding().clone()),
        (
            "one bit of the data is another",
            patched(long.encoding(), long.encoding().len() - 1, b"n"),
        ),
        ("another kind", patched(long.encoding(), 33, &[8])),
        ("another time", patched(long.encoding(), 37, &[1])),
        ("another entry", patched(long.encoding(), 1, &[0xff])),
        ("another author", patched(long.encoding(), at_author, &scattered(0))),
        ("one bit of the signature is another", {
            patched(long.encoding(), at_signature, &[signature[0] ^ 1])
        }),
        ("S is not less than the order", {
            patched(long.encoding(), at_signature, &plus_order(&signature))
        }),
        ("an author of small order", patched(long.encoding(), at_author, &no_order)),
    ];
    for (name, encoding) in unbelievable {
        let aspect = Aspect::decode(encoding.clone()).unwrap();
        let refused = aspect.verify(&SPACE).unwrap_err();
        let values = [
            ("space", hex(SPACE.as_bytes())),
            ("encoding", hex(&encoding)),
            ("hash", hex(aspect.hash().as_bytes())),
            ("error", error(&refused)),
        ];
        file.record(name, &values);
    }
    file.settle("aspects.txt");
}

#[test]
fn tags() {
    let mut file = File::new(
        "What proves, on one connection, that a space is known. `secret` is what the TLS exporter of\n\
         the connection gives. `dialer` is sent by the end that dialled, `listener` by the other.",
    );
    let cases = [
        ("zeros", [0; 32], [0; 32]),
        ("a space", SPACE.0, scattered(3)),
        ("the same on another connection", SPACE.0, scattered(4)),
        ("another space", scattered(9), scattered(3)),
    ];
    for (name, space, secret) in cases {
        let (dialer, listener) = (Binding::new(secret, true), Binding::new(secret, false));
        let id = SpaceId(space);
        assert_eq!(dialer.our_tag(&id), listener.their_tag(&id));
        assert_eq!(listener.our_tag(&id), dialer.their_tag(&id));
        let values = [
            ("space", hex(&space)),
            ("secret", hex(&secret)),
            ("dialer", hex(&dialer.our_tag(&id))),
            ("listener", hex(&listener.our_tag(&id))),
        ];
        file.record(name, &values);
    }
    file.settle("tags.txt");
}

#[test]
fn announcements_on_a_local_network() {
    let mut file = File::new(
        "What a node that is in one space announces on the local network: `text`, in which one of the eight\n\
         tags is the space's, and the others are random.",
    );
    for (name, space, node) in [
        ("zeros", [0; 32], [0; 32]),
        ("a space", SPACE.0, scattered(3)),
        ("the same by another node", SPACE.0, scattered(4)),
    ] {
        let (space, node) = (SpaceId(space), NodeId(node));
        let text = |seed: u8| announcement(&node, &[space], &[seed; 32]);
        let (text, padded_otherwise) = (text(7), text(8));
        assert_eq!(announced(&node, &text, &[space]), [space]);
        let tags = |text: &str| text.as_bytes().as_chunks::<8>().0.to_vec();
        let both = tags(&text).into_iter().find(|tag| tags(&padded_otherwise).contains(tag));
        let tag = String::from_utf8(both.unwrap().to_vec()).unwrap();
        let values = [
            ("space", hex(space.as_bytes())),
            ("node", hex(node.as_bytes())),
            ("tag", tag),
            ("text", text),
        ];
        file.record(name, &values);
    }
    file.settle("local-network.txt");
}

#[test]
fn every_message_has_vectors() {
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/vectors");
    let frames = std::fs::read_to_string(folder.join("frames.txt")).unwrap();
    for kind in Kind::ALL {
        let vector = format!("type = {}", frames::type_of(*kind));
        assert!(frames.lines().any(|line| line == vector), "no vector of {kind}");
    }
}
