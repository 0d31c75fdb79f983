//! Frames that this implementation would not write: some are accepted, most are refused.

use arcwise_proto::{
    limits::{MAX_AUDIT, MAX_DIRECT, MAX_PEERS, MAX_RECORD, PAGE_KEYS},
    ring::RING,
    wire::{Kind, Message, Ping},
};
use bytes::Bytes;

use crate::{
    File, error,
    frames::{fields, type_of},
    hex,
    model::decode,
    scattered, unsigned,
};

/// A protobuf message, written field by field, whatever the schema says.
#[derive(Clone, Default)]
pub(crate) struct Raw(pub(crate) Vec<u8>);

impl Raw {
    fn key(mut self, field: u8, wire_type: u8) -> Self {
        self.0.push(field << 3 | wire_type);
        self
    }

    fn number(self, mut n: u64) -> Self {
        let mut this = self;
        while n > 0x7f {
            this.0.push(n as u8 | 0x80);
            n >>= 7;
        }
        this.0.push(n as u8);
        this
    }

    pub(crate) fn varint(self, field: u8, n: u64) -> Self {
        self.key(field, 0).number(n)
    }

    pub(crate) fn fixed32(self, field: u8, n: u32) -> Self {
        let mut this = self.key(field, 5);
        this.0.extend(n.to_le_bytes());
        this
    }

    pub(crate) fn fixed64(self, field: u8, n: u64) -> Self {
        let mut this = self.key(field, 1);
        this.0.extend(n.to_le_bytes());
        this
    }

    pub(crate) fn bytes(self, field: u8, bytes: &[u8]) -> Self {
        let mut this = self.key(field, 2).number(bytes.len() as u64);
        this.0.extend(bytes);
        this
    }

    pub(crate) fn message(self, field: u8, message: Raw) -> Self {
        self.bytes(field, &message.0)
    }

    pub(crate) fn repeat(self, n: usize, add: impl Fn(Raw) -> Raw) -> Self {
        (0..n).fold(self, |this, _| add(this))
    }

    /// As the body of a frame.
    fn frame(&self, kind: Kind) -> Bytes {
        header(kind as u8, self.0.len() as u32).into_iter().chain(self.0.clone()).collect()
    }
}

pub(crate) fn raw() -> Raw {
    Raw::default()
}

fn header(kind: u8, len: u32) -> Vec<u8> {
    [&[kind][..], &len.to_le_bytes()].concat()
}

pub(crate) fn raw_arc(start: u32, len: u64) -> Raw {
    raw().fixed32(1, start).varint(2, len)
}

fn raw_hello() -> Raw {
    raw().varint(4, 1024)
}

/// A handshake with these arc sets, as far as there are any.
fn raw_handshake(store: Option<Raw>, target: Option<Raw>, query: Option<Raw>) -> Raw {
    let start = raw().bytes(1, &[0x77; 16]).varint(2, 7);
    [(3, store), (4, target), (5, query)].into_iter().fold(start, |raw, (field, set)| {
        set.into_iter().fold(raw, |raw, set| raw.message(field, set))
    })
}

fn raw_position() -> Raw {
    raw().fixed64(1, 9).varint(2, 8)
}

fn raw_page(page: Raw) -> Raw {
    raw().message(2, page)
}

fn raw_group(location: u32, hashes: &[u8]) -> Raw {
    raw().fixed32(1, location).bytes(2, hashes)
}

fn raw_key(location: u32, hash: &[u8]) -> Raw {
    raw().fixed32(1, location).bytes(2, hash)
}

fn raw_info(record: &[u8], signature: &[u8]) -> Raw {
    raw().bytes(1, record).bytes(2, signature)
}

/// An audit with this nonce and one group of hashes.
fn raw_audit(nonce: &[u8], hashes: &[u8]) -> Raw {
    raw().varint(1, 7).bytes(2, nonce).message(3, raw_group(1, hashes))
}

#[test]
fn other_frames_that_mean_the_same() {
    let mut file = File::new(
        "Frames that another implementation may write: they are accepted and mean what `fields` says.",
    );
    let all = raw().message(1, raw_arc(0, RING));
    let pieces = raw()
        .message(1, raw_arc(8, 8))
        .message(1, raw_arc(0, 10))
        .message(1, raw_arc(99, 0))
        .message(1, raw_arc(0xffff_ffff, 1));
    let frames: Vec<(&str, Kind, Raw)> = vec![
        ("fields in another order", Kind::Query, { raw().bytes(2, &scattered(0x10)).varint(1, 7) }),
        ("defaults written out", Kind::Direct, raw().varint(1, 0).bytes(2, b"")),
        ("a field of a later version", Kind::Ping, raw().fixed64(1, 5).bytes(15, b"later")),
        ("a field twice: the last one counts", Kind::Ping, raw().fixed64(1, 4).fixed64(1, 5)),
        ("arcs that touch, overlap or are empty", Kind::Handshake, {
            raw_handshake(Some(pieces), Some(raw()), Some(all))
        }),
        ("control characters in a text", Kind::Error, {
            raw().varint(1, 4).bytes(2, "not \x1b[31mnow\u{85}\n".as_bytes())
        }),
        ("an error code of a later version", Kind::Error, raw().varint(1, 99)),
        (
            "a record with fields in another order, and observations that say nothing",
            Kind::Peers,
            {
                let info = raw().message(3, raw()).bytes(2, &[0x51; 64]).bytes(1, &[0xee; 5]);
                raw().message(2, info).varint(1, 7)
            },
        ),
        ("an observation of a later version", Kind::Peers, {
            let seen = raw().varint(1, 985).varint(9, 4);
            raw().varint(1, 7).message(2, raw_info(b"", &[0x51; 64]).message(3, seen))
        }),
        ("a location that is written out, though zero", Kind::FindPeers, {
            raw().varint(1, 7).fixed32(2, 0)
        }),
        ("a receipt that is asked for twice", Kind::Announce, {
            let asked = raw().varint(3, 1).varint(1, 7).varint(3, 2);
            asked.message(2, raw_group(1, &[1; 32]))
        }),
        ("a graft with a field of a later version", Kind::Graft, {
            raw().varint(1, 7).message(2, raw_group(1, &[1; 32])).varint(9, 1)
        }),
        ("a prune with its space twice", Kind::Prune, raw().varint(1, 8).varint(1, 7)),
        ("a receipt with its space at the end", Kind::Receipt, {
            raw().message(2, raw_group(1, &[1; 32])).varint(1, 7)
        }),
        ("an audit with its nonce twice", Kind::Audit, {
            let nonces = raw().varint(1, 7).bytes(2, b"short").bytes(2, &[0xa1; 32]);
            nonces.message(3, raw_group(1, &[1; 32]))
        }),
        ("a proof with a field of a later version", Kind::AuditProof, {
            raw().bytes(2, b"later").bytes(1, &[0xa1; 32]).bytes(1, b"")
        }),
    ];
    for (name, kind, body) in frames {
        let frame = body.frame(kind);
        let message = decode(frame.clone()).unwrap();
        assert_ne!(message.encode(), frame, "{name}");
        let values =
            [("type", type_of(kind)), ("fields", fields(&message)), ("frame", hex(&frame))];
        file.record(name, &values);
    }
    file.settle("other-frames.txt");
}

/// A body and the rule that it breaks.
fn broken() -> Vec<(&'static str, Kind, Raw)> {
    let set = || Some(raw());
    let last = || raw().varint(3, 1);
    let full = || raw().message(1, raw_arc(0, RING));
    let open = |open: Raw| raw().message(1, open).message(2, last());
    let groups = |groups: &[Raw]| groups.iter().cloned().fold(raw(), |raw, g| raw.message(1, g));
    let (one, two) = ([1; 32], [2; 32]);
    let mut bad_aspect = unsigned(1, 2, b"hello").encoding().to_vec();
    bad_aspect[0] = 2;
    vec![
        ("versions the wrong way round", Kind::Hello, raw_hello().varint(1, 2).varint(2, 1)),
        ("too few wants", Kind::Hello, raw().varint(4, PAGE_KEYS as u64 - 1)),
        ("a long agent", Kind::Hello, raw_hello().bytes(6, &[b'x'; 257])),
        ("too many tags", Kind::Hello, raw_hello().repeat(1025, |raw| raw.bytes(7, b""))),
        ("seen at a relay", Kind::Hello, raw_hello().message(8, raw().bytes(3, b"https://r./"))),
        ("seen at no address", Kind::Hello, raw_hello().message(8, raw().varint(2, 1))),
        ("a short tag", Kind::Hello, raw_hello().bytes(7, &[1; 15])),
        ("a handshake for number 0", Kind::Handshake, {
            let all = [3, 4, 5].into_iter();
            all.fold(raw().bytes(1, &[1; 16]), |raw, field| raw.message(field, Raw::default()))
        }),
        ("a handshake without a tag", Kind::Handshake, {
            [3, 4, 5].into_iter().fold(raw().varint(2, 7), |raw, field| raw.bytes(field, b""))
        }),
        ("no store arcs", Kind::Handshake, raw_handshake(None, set(), set())),
        ("no target arcs", Kind::Handshake, raw_handshake(set(), None, set())),
        ("no query arcs", Kind::Handshake, raw_handshake(set(), set(), None)),
        ("the query arcs do not cover the store arcs", Kind::Handshake, {
            raw_handshake(Some(full()), set(), Some(raw().message(1, raw_arc(0, RING - 1))))
        }),
        ("too many arcs", Kind::Handshake, {
            raw_handshake(Some(raw().repeat(65, |raw| raw.bytes(1, b""))), set(), set())
        }),
        ("an arc longer than the ring", Kind::Handshake, {
            raw_handshake(Some(raw().message(1, raw_arc(0, RING + 1))), set(), set())
        }),
        ("no page", Kind::ArcRequest, raw()),
        ("an opening without arcs", Kind::ArcRequest, open(raw().message(5, raw_position()))),
        ("an opening without a position", Kind::ArcRequest, open(raw().message(2, full()))),
        ("a page neither last nor through anything", Kind::ArcRequest, raw_page(raw())),
        ("the last page, through something", Kind::ArcRequest, {
            raw_page(last().message(2, raw_key(1, &one)))
        }),
        ("a page through a short hash", Kind::ArcRequest, {
            raw_page(raw().message(2, raw_key(1, &one[1..])))
        }),
        ("a page through the end of the ring", Kind::ArcRequest, {
            raw_page(raw().message(2, raw_key(u32::MAX, &[0xff; 32])))
        }),
        ("a page through less than it lists", Kind::ArcRequest, {
            raw_page(raw().message(1, raw_group(1, &two)).message(2, raw_key(1, &one)))
        }),
        ("a position before the last list", Kind::ArcResponse, raw().message(3, raw_position())),
        ("an empty group", Kind::ArcResponse, groups(&[raw_group(1, b"")])),
        ("half a hash", Kind::AspectDataRequest, groups(&[raw_group(1, &[1; 48])])),
        ("groups that descend", Kind::AspectDataRequest, {
            groups(&[raw_group(2, &one), raw_group(1, &two)])
        }),
        ("two groups of one location", Kind::AspectDataRequest, {
            groups(&[raw_group(1, &one), raw_group(1, &two)])
        }),
        ("hashes that descend", Kind::AspectDataRequest, {
            groups(&[raw_group(1, &[two, one].concat())])
        }),
        ("a hash twice", Kind::AspectDataRequest, groups(&[raw_group(1, &[one, one].concat())])),
        ("too many hashes", Kind::AspectDataRequest, {
            groups(&[raw_group(1, &vec![0; 32 * (PAGE_KEYS + 1)])])
        }),
        ("gone, a hash twice", Kind::AspectDataResponse, {
            raw().message(2, raw_group(1, &[one, one].concat()))
        }),
        ("an aspect of unknown form", Kind::AspectDataResponse, raw().bytes(1, &bad_aspect)),
        ("an empty aspect", Kind::AspectBroadcast, raw().varint(1, 7).bytes(2, b"")),
        ("a long payload", Kind::Direct, raw().bytes(2, &vec![0; MAX_DIRECT + 1])),
        ("a short entry", Kind::Query, raw().varint(1, 7).bytes(2, &one[1..])),
        ("a long detail", Kind::Error, raw().varint(1, 1).bytes(2, &[b'x'; 257])),
        ("too many peers", Kind::Peers, {
            let info = raw_info(b"", &[0; 64]);
            raw().repeat(MAX_PEERS + 1, |raw| raw.message(2, info.clone()))
        }),
        ("a long record", Kind::Peers, {
            raw().message(2, raw_info(&[0xee; MAX_RECORD + 1], &[0; 64]))
        }),
        ("a peer without a signature", Kind::Peers, raw().message(2, raw().bytes(1, b""))),
        ("a short signature", Kind::Peers, raw().message(2, raw_info(b"", &[0; 63]))),
        ("a long signature", Kind::Peers, raw().message(2, raw_info(b"", &[0; 65]))),
        ("more than always", Kind::Peers, {
            raw().message(2, raw_info(b"", &[0; 64]).message(3, raw().varint(1, 1001)))
        }),
        // As 16 bits it would be 0.
        ("very much more than always", Kind::Peers, {
            raw().message(2, raw_info(b"", &[0; 64]).message(3, raw().varint(1, 1 << 16)))
        }),
        ("an announcement with an empty group", Kind::Announce, {
            raw().varint(1, 7).message(2, raw_group(1, b""))
        }),
        ("too many announcements", Kind::Announce, {
            raw().varint(1, 7).message(2, raw_group(1, &vec![0; 32 * (PAGE_KEYS + 1)]))
        }),
        ("a graft of half a hash", Kind::Graft, {
            raw().varint(1, 7).message(2, raw_group(1, &[1; 48]))
        }),
        ("a receipt with a hash twice", Kind::Receipt, {
            raw().varint(1, 7).message(2, raw_group(1, &[one, one].concat()))
        }),
        ("an audit of nothing", Kind::Audit, raw().varint(1, 7).bytes(2, &one)),
        ("an audit of too much", Kind::Audit, {
            let hashes: Vec<u8> = (0..=MAX_AUDIT as u8).flat_map(|n| [n; 32]).collect();
            raw_audit(&one, &hashes)
        }),
        ("an audit with groups that descend", Kind::Audit, {
            raw_audit(&one, &one).message(3, raw_group(0, &two))
        }),
        ("a short nonce", Kind::Audit, raw_audit(&one[1..], &two)),
        ("no nonce", Kind::Audit, raw().varint(1, 7).message(3, raw_group(1, &one))),
        ("a long nonce", Kind::Audit, raw_audit(&[1; 33], &two)),
        ("a short proof", Kind::AuditProof, raw().bytes(1, &one[1..])),
        ("a long proof", Kind::AuditProof, raw().bytes(1, b"").bytes(1, &[1; 33])),
        ("too many proofs", Kind::AuditProof, {
            raw().repeat(MAX_AUDIT + 1, |raw| raw.bytes(1, b""))
        }),
        ("a location as another kind of number", Kind::FindPeers, raw().varint(1, 7).varint(2, 5)),
        ("a field that goes on after the end", Kind::Query, Raw(vec![0x12, 32, 1, 2, 3])),
        ("a text that is not UTF-8", Kind::Hello, raw_hello().bytes(6, &[0xff])),
        ("no protobuf at all", Kind::Pong, Raw(vec![0xff; 12])),
    ]
}

#[test]
fn bad_frames() {
    let mut file = File::new(
        "Frames to refuse, each for one reason. `error` is this implementation's name for it and its\n\
         words; what it says after `is not valid protobuf:` is the library's. TooLong and UnknownType\n\
         are found in the first five bytes, so there are no more in these vectors. Truncated means that\n\
         the stream ended there.",
    );
    let mut record = |name: &str, frame: Bytes| {
        let refused = decode(frame.clone()).expect_err(name);
        file.record(name, &[("frame", hex(&frame)), ("error", error(&refused))]);
    };
    for kind in [0, Kind::ALL.len() as u8 + 1, 0xff] {
        record(&format!("type {kind}"), header(kind, 0).into());
    }
    for kind in Kind::ALL {
        let over = kind.max_len() as u32 + 1;
        record(&format!("{kind}, one byte too long"), header(*kind as u8, over).into());
    }
    record("the greatest length", header(Kind::Hello as u8, u32::MAX).into());
    let ping = Message::from(Ping { nonce: 5, digests: vec![] }).encode();
    record("half a header", ping.slice(..4));
    record("a header without its body", ping.slice(..5));
    record("a body cut off", ping.slice(..ping.len() - 1));
    for (name, kind, body) in broken() {
        record(name, body.frame(kind));
    }
    file.settle("bad-frames.txt");
}
