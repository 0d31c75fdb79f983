//! Packets and their bytes.

use std::collections::BTreeSet;

use arcwise_proto::reconcile::{
    Place, ShortId, Sketch, Span,
    estimate::{Counters, Narrow},
    exchange::{
        Packet,
        packet::{Element, Failure, List, Opening, Probe, ProbeBody, Reply, Wants},
    },
    fingerprint::Check,
};

use super::{element, ids, item, packed, sketch_of, unpack};
use crate::{File, hex, unhex};

fn array<T>(all: &[T], each: impl Fn(&T) -> String) -> String {
    format!("[{}]", all.iter().map(each).collect::<Vec<_>>().join(", "))
}

fn place(place: Place) -> String {
    format!("\"{:016x}\"", place.0)
}

fn syndromes(sketch: &Sketch) -> String {
    array(sketch.syndromes(), |s| format!("\"{}\"", element(*s)))
}

fn short(ids: &[ShortId]) -> String {
    array(ids, |id| format!("\"{}\"", element(id.get())))
}

fn list(list: &List) -> String {
    format!("\"bits\": {}, \"ids\": {}", list.bits, array(&list.ids, u64::to_string))
}

fn narrow(counters: &Narrow) -> String {
    array(&unpack(&packed(counters), counters.bits()), u64::to_string)
}

/// Tag and name.
pub(super) fn kind(packet: &Packet) -> String {
    let name = format!("{packet:?}");
    let name = name.split([' ', '(']).next().unwrap_or_default();
    format!("{} {name}", packet.encode()[0])
}

fn fields(packet: &Packet) -> String {
    let fields = match packet {
        Packet::Same | Packet::Close | Packet::Done => String::new(),
        Packet::Open(open) => format!(
            "\"nonce\": \"{}\", \"count\": {}, \"check\": \"{}\", \"syndromes\": {}, \"counters\": {}",
            hex(&open.nonce),
            open.count,
            hex(&open.check.0),
            syndromes(&open.sketch),
            narrow(&open.counters),
        ),
        Packet::Stream { count } => format!("\"count\": {count}"),
        Packet::Found { theirs, want, check } => format!(
            "\"theirs\": {theirs}, \"want\": {}, \"check\": \"{}\"",
            short(want),
            hex(&check.0)
        ),
        Packet::Pieces { count, elements, more } => {
            let each = |element: &Element| match element {
                Element::Extend(sketch) => format!("{{\"extend\": {}}}", syndromes(sketch)),
                Element::Sketch { last, sketch } => {
                    format!("{{\"last\": {}, \"sketch\": {}}}", place(*last), syndromes(sketch))
                }
                Element::List { last, list: ids } => {
                    format!("{{\"last\": {}, {}}}", place(*last), list(ids))
                }
            };
            let elements = array(elements, each);
            format!("\"count\": {count}, \"elements\": {elements}, \"more\": {more}")
        }
        Packet::Want(wants) => {
            let each =
                |want: &Wants| format!("{{\"piece\": {}, {}}}", want.piece, list(&want.list));
            format!("\"wants\": {}", array(wants, each))
        }
        Packet::Failed { pieces, more } => {
            let each = |failure: &Failure| {
                let bits = failure.counters.bits();
                let counters = narrow(&failure.counters);
                format!(
                    "{{\"piece\": {}, \"bits\": {bits}, \"counters\": {counters}}}",
                    failure.piece
                )
            };
            format!("\"pieces\": {}, \"more\": {more}", array(pieces, each))
        }
        Packet::Claim { theirs, doubtful, check } => format!(
            "\"theirs\": {theirs}, \"doubtful\": {}, \"check\": \"{}\"",
            short(doubtful),
            hex(&check.0)
        ),
        Packet::Probe(probes) => {
            let each = |probe: &Probe| {
                let body = match &probe.body {
                    ProbeBody::Check(check) => format!("\"check\": \"{}\"", hex(&check.0)),
                    ProbeBody::Salted(ids) => {
                        format!("\"salted\": {}", array(ids, |id| format!("\"{id:016x}\"")))
                    }
                };
                let (first, last) = (place(probe.span.first), place(probe.span.last));
                format!("{{\"first\": {first}, \"last\": {last}, {body}}}")
            };
            format!("\"probes\": {}", array(probes, each))
        }
        Packet::Differ { nonce, replies } => {
            let each = |reply: &Reply| match reply {
                Reply::Same => "\"same\"".to_owned(),
                Reply::Differs => "\"differs\"".to_owned(),
                Reply::Lacks { positions, theirs } => format!(
                    "{{\"lacks\": {}, \"theirs\": {theirs}}}",
                    array(positions, u64::to_string)
                ),
            };
            format!("\"nonce\": \"{}\", \"replies\": {}", hex(nonce), array(replies, each))
        }
    };
    format!("{{{fields}}}")
}

/// Small numbers, of either sign, for counters.
fn some_counters(n: u64, len: usize, bits: u32) -> Narrow {
    let bytes = item(n).hash.0;
    let counter = |i: usize| i32::from(bytes[i % 32] as i8) / 16 + i as i32 % 3 - 1;
    Counters::new(std::array::from_fn(counter)).narrow(len, bits)
}

fn check(n: u64) -> Check {
    let mut check = [0; 16];
    check.copy_from_slice(&item(n).hash.0[..16]);
    Check(check)
}

fn named(ids: &[u64]) -> Vec<ShortId> {
    ids.iter().map(|id| ShortId::new(*id).unwrap()).collect()
}

fn packets() -> Vec<(&'static str, Packet)> {
    let nonce = [1, 2, 3, 4, 5, 6, 7, 8];
    let open = |count, syndromes: usize| {
        Packet::Open(Opening {
            nonce,
            count,
            check: check(1),
            counters: some_counters(2, 64, Narrow::bits_for(count)),
            sketch: sketch_of(&ids(0..5), syndromes),
        })
    };
    let sketch = |last, ids: &[u64], syndromes| Element::Sketch {
        last: Place(last),
        sketch: sketch_of(ids, syndromes),
    };
    let short = |bits, ids: &[u64]| List { bits, ids: ids.to_vec() };
    let listed = |last, list| Element::List { last: Place(last), list };
    let pieces = |elements, more| Packet::Pieces { count: 1000, elements, more };
    let want = |piece, list| Wants { piece, list };
    let failure = |piece, bits| Failure { piece, counters: some_counters(piece, 16, bits) };
    let span = |first, last| Span { first: Place(first), last: Place(last) };
    let compared =
        |first, last| Probe { span: span(first, last), body: ProbeBody::Check(check(first)) };
    let salted = |first, last, ids: &[u64]| Probe {
        span: span(first, last),
        body: ProbeBody::Salted(ids.to_vec()),
    };
    let differ = |replies| Packet::Differ { nonce: [8, 7, 6, 5, 4, 3, 2, 1], replies };
    let (end, half) = (u64::MAX, 1 << 63);
    vec![
        ("opening of a small set", open(20, 12)),
        ("opening without a sketch", open(1000, 0)),
        ("opening of nothing", {
            Packet::Open(Opening {
                nonce,
                count: 0,
                check: check(0),
                counters: Counters::ZERO.narrow(64, 5),
                sketch: Sketch::new(12),
            })
        }),
        ("the greatest count", open(u64::MAX, 1)),
        ("same", Packet::Same),
        ("he has nothing", Packet::Stream { count: 0 }),
        ("she has nothing", Packet::Stream { count: 300 }),
        ("found", Packet::Found { theirs: 3, want: named(&ids(0..2)), check: check(2) }),
        ("found, and he lacks nothing", {
            Packet::Found { theirs: 1, want: vec![], check: check(2) }
        }),
        ("one piece", pieces(vec![sketch(end, &ids(0..3), 5)], false)),
        ("three pieces, 2^60 apart", {
            let elements = vec![
                sketch(half - 1, &ids(0..3), 4),
                sketch(half + (1 << 60) - 1, &[], 2),
                sketch(end, &ids(3..4), 2),
            ];
            pieces(elements, true)
        }),
        ("pieces whose ends have no zeros", {
            pieces(vec![sketch(5, &[7], 2), sketch(6, &[], 0), sketch(end - 1, &[8], 1)], false)
        }),
        ("a list of everything", {
            pieces(vec![listed(end, short(20, &[0, 3, 3, 70_000, (1 << 20) - 1]))], false)
        }),
        ("a list of one", pieces(vec![listed(end, short(48, &[0x0123_4567_89ab]))], false)),
        ("a list of nothing", pieces(vec![listed(end, short(48, &[]))], false)),
        ("a list of equal ids", pieces(vec![listed(end, short(17, &[9; 12]))], false)),
        ("more syndromes, a piece in two, a list", {
            let elements = vec![
                Element::Extend(Sketch::prefix(sketch_of(&ids(0..9), 8).syndromes(), 3)),
                sketch(0x3fff_ffff_ffff_ffff, &ids(9..12), 5),
                sketch(0x4fff_ffff_ffff_ffff, &ids(12..14), 4),
                listed(0x8000_0000_0fff_ffff, short(18, &[1, 2, 40, 900, 262_143])),
            ];
            pieces(elements, false)
        }),
        ("64 more syndromes", { pieces(vec![Element::Extend(sketch_of(&ids(0..1), 64))], false) }),
        ("no elements, and more to come", pieces(vec![], true)),
        ("wanting of three pieces", {
            Packet::Want(vec![
                want(0, short(24, &[0x123456, 0xabcdef])),
                want(1, short(1, &[0, 1])),
                want(7, short(48, &[1])),
            ])
        }),
        ("wanting of a piece far behind", Packet::Want(vec![want(300, short(20, &[5]))])),
        ("wanting equal ids", Packet::Want(vec![want(0, short(20, &[5, 5, 6, 6, 6]))])),
        ("wanting nothing", Packet::Want(vec![])),
        ("failed", Packet::Failed { pieces: vec![failure(2, 5)], more: false }),
        ("failed, and more to come", {
            Packet::Failed {
                pieces: vec![failure(0, 7), failure(1, 20), failure(200, 32)],
                more: true,
            }
        }),
        ("close", Packet::Close),
        ("a claim", Packet::Claim { theirs: 40, doubtful: vec![], check: check(3) }),
        ("a claim with doubts", {
            Packet::Claim { theirs: 3000, doubtful: named(&[1, 2, (1 << 48) - 1]), check: check(3) }
        }),
        ("probes of everything, in three runs", {
            Packet::Probe(vec![
                compared(0, (1 << 62) - 1),
                compared(1 << 62, half - 1),
                compared(half, end),
            ])
        }),
        ("a probe of all places", Packet::Probe(vec![compared(0, end)])),
        ("probes with gaps, and a list", {
            Packet::Probe(vec![
                compared(0x1000_0000_0000, 0x1fff_ffff_ffff),
                salted(0x4000_0000_0000, 0x40ff_ffff_ffff, &[1, u64::MAX, 0x0102_0304_0506_0708]),
                salted(0x4100_0000_0000, 0x41ff_ffff_ffff, &[]),
            ])
        }),
        ("a probe of one place", Packet::Probe(vec![salted(5, 5, &[9, 9])])),
        ("a probe of the last place", Packet::Probe(vec![compared(end, end)])),
        ("no probes", Packet::Probe(vec![])),
        ("replies", {
            differ(vec![
                Reply::Same,
                Reply::Differs,
                Reply::Lacks { positions: vec![], theirs: 0 },
                Reply::Lacks { positions: vec![0, 1, 5, 200], theirs: 1 },
            ])
        }),
        ("no replies", differ(vec![])),
        ("done", Packet::Done),
    ]
}

#[test]
fn all_packets() {
    let mut file = File::new(
        "Packets, to be held against both ways.\n\
         `fields` is JSON. Ids and syndromes have twelve hexadecimal digits, places and salted ids\n\
         sixteen; the ids of lists are numbers, and those of an empty list of 48 bits. Counters are\n\
         numbers from 0 on, modulo 2^bits. The bytes are what this implementation writes.",
    );
    let mut tags = BTreeSet::new();
    for (name, packet) in packets() {
        let bytes = packet.encode();
        assert_eq!(Packet::decode(&bytes).as_ref(), Some(&packet), "{name}");
        // Nothing may be left out, nor added.
        (0..bytes.len()).for_each(|len| assert_eq!(Packet::decode(&bytes[..len]), None, "{name}"));
        assert_eq!(Packet::decode(&[&bytes[..], &[0]].concat()), None, "{name}");
        tags.insert(bytes[0]);
        let values =
            [("type", kind(&packet)), ("fields", fields(&packet)), ("packet", hex(&bytes))];
        file.record(name, &values);
    }
    assert_eq!(tags, (0..=13).collect(), "a kind of packet has no vector");
    file.settle("reconcile/packets.txt");
}

#[test]
fn other_packets() {
    let mut file = File::new(
        "Packets that another implementation may write: they are accepted and mean what `fields` says.",
    );
    let cases = [
        (
            "ends with a shift of 0",
            "04 e807 01 00 02 ffffffffffffffffff01 0100 0000 0000 0200 0000 0000",
        ),
        ("a shift that nothing uses", "04 e807 01 40 42 0100 0000 0000"),
        ("gaps in another code", "04 e807 01 40 41 01 03 14 02 0500 a004"),
        ("a Rice parameter where there is one id", "06 01 00 01 14 13 0500 00"),
        ("a failure whose counters have few bits", "07 01 02 02 e4e4e4e4"),
        ("lists of nothing", "06 02 00 00 00 00"),
        ("bits that zeros of an id fill", "06 01 00 01 30 2f 010000000000"),
    ];
    for (name, bytes) in cases {
        let bytes = unhex(bytes);
        let packet = Packet::decode(&bytes).unwrap_or_else(|| panic!("{name} is refused"));
        let values =
            [("type", kind(&packet)), ("fields", fields(&packet)), ("packet", hex(&bytes))];
        file.record(name, &values);
    }
    file.settle("reconcile/other-packets.txt");
}

#[test]
fn bad_packets() {
    let mut file = File::new(
        "Bytes that are no packet, each for one reason. What may not come at some point of an exchange,\n\
         or speaks of a piece that there is not, is another matter: by itself it is a packet.",
    );
    let sized = |text: &str, rest: usize| [unhex(text), vec![0; rest]].concat();
    let whole = |text: &str| sized(text, 0);
    let opening = |syndromes: &str, rest| sized(&format!("00 (00)*8 00 (00)*16 {syndromes}"), rest);
    let cases: Vec<(&str, Vec<u8>)> = vec![
        ("nothing", vec![]),
        ("an unknown tag", whole("0e")),
        ("the last tag", whole("ff")),
        ("a byte too many", whole("0100")),
        ("a number that does not end", whole("02 80")),
        ("a number with a zero too many", whole("02 8000")),
        ("a number of 2^64", whole("02 80808080808080808002")),
        ("a number of eleven bytes", whole("02 8080808080808080808000")),
        ("an opening with 65 syndromes", opening("41", 65 * 6 + 40)),
        ("an opening with a counter missing", opening("00", 39)),
        ("an opening with a byte too many", opening("00", 41)),
        ("the id 0 is found", sized("03 00 01 (00)*6", 16)),
        ("more ids found than there are bytes", sized("03 00 ffff03", 60)),
        ("more pieces than there are bytes", whole("04 00 ffffffffffffffffff01 40")),
        ("ends shifted by 65", whole("04 00 01 41 00 01")),
        ("a piece of no places", whole("04 00 01 00 00 00")),
        ("an end of 2^64", whole("04 00 02 3f 00 02 00 01")),
        ("an end of 2^65", whole("04 00 01 40 00 02")),
        ("fewer pieces than are said", whole("04 00 02 40 00 01")),
        ("65 more syndromes", sized("04 00 01 00 82", 65 * 6)),
        ("a list of no bits", whole("04 00 01 40 41 01 01 00 00")),
        ("a list of 49 bits", sized("04 00 01 40 41 01 01 31 00", 7)),
        ("a Rice parameter of all bits", whole("04 00 01 40 41 01 01 08 08 05")),
        ("an id that is too large", whole("04 00 01 40 41 01 02 02 00 0f")),
        ("bits after the last id", whole("04 00 01 40 41 01 01 04 00 15")),
        ("a list that ends too early", whole("06 01 00 0a 08 00 ff")),
        ("a list of 2^14 + 1 numbers", sized("06 01 00 818001 01 00", 2049)),
        ("lists of 2^15 + 1 numbers in all", {
            let most = "00 808001 01 00 (00)*2048";
            whole(&format!("06 03 {most} {most} 00 01 01 00 00"))
        }),
        ("a piece of 2^64", whole("06 02 ffffffffffffffffff01 00 00 00")),
        ("the number of the piece after that", whole("06 02 feffffffffffffffff01 00 01 00")),
        ("counters of one bit", sized("07 01 00 01", 2)),
        ("counters of 33 bits", sized("07 01 00 21", 66)),
        ("fifteen counters", sized("07 01 00 08", 15)),
        ("the id 0 is doubtful", sized("0a 00 01 (00)*6", 16)),
        ("a check of fifteen bytes", sized("0a 00 00", 15)),
        ("a probe of no places", sized("0b 01 00 00 00 00", 16)),
        ("a probe that begins at 2^64", sized("0b 01 40 01 01 00", 16)),
        ("a probe that ends beyond 2^64", sized("0b 01 3f 01 02 00", 16)),
        ("a salted list of fewer ids than are said", sized("0b 01 40 00 01 03", 8)),
        ("a nonce of seven bytes", sized("0c", 7)),
        ("fewer replies than are said", sized("0c (00)*8 02 00", 0)),
        ("more positions than there are bytes", whole("0c (00)*8 01 05 00 00 00")),
        ("a position of 2^64", whole("0c (00)*8 01 04 00 feffffffffffffffff01 00")),
    ];
    // There may be as many as that.
    let most = "00 808001 01 00 (00)*2048";
    assert!(Packet::decode(&whole(&format!("06 02 {most} {most}"))).is_some());
    for (name, bytes) in cases {
        assert_eq!(Packet::decode(&bytes), None, "{name}");
        file.record(name, &[("packet", hex(&bytes))]);
    }
    file.settle("reconcile/bad-packets.txt");
}
