//! Vectors of reconciliation: what is computed of items, what the two ends say, and whole exchanges.

mod exchanges;
mod packets;

use std::{fmt::Display, ops::Range};

use arcwise_proto::{
    AspectHash, AspectKey, Location,
    reconcile::{
        Parts, Place, ShortId, Sketch, Sums,
        estimate::{Counters, Narrow},
        exchange::{Packet, packet::Failure},
        field,
        fingerprint::Fingerprint,
    },
};

use crate::{File, hex};

/// How the files say what an item is.
const RULE: &str = "\
Item n, for a number n: its hash is BLAKE3 of n as 8 bytes, little-endian; its location is the first
4 bytes, little-endian, of BLAKE3 of n + 2^63 as 8 bytes.";

fn item(n: u64) -> AspectKey {
    let hash = |n: u64| *blake3::hash(&n.to_le_bytes()).as_bytes();
    let [a, b, c, d, ..] = hash(n ^ 1 << 63);
    AspectKey { location: Location(u32::from_le_bytes([a, b, c, d])), hash: AspectHash(hash(n)) }
}

fn element(x: u64) -> String {
    format!("{x:012x}")
}

fn elements(all: &[u64]) -> String {
    words(all.iter().map(|x| element(*x)))
}

fn words<T: Display>(all: impl IntoIterator<Item = T>) -> String {
    all.into_iter().map(|one| one.to_string()).collect::<Vec<_>>().join(" ")
}

/// The product as it is defined, bit by bit.
fn product(a: u64, b: u64) -> u64 {
    (0..48).rev().fold(0, |sum, bit| {
        let doubled = (sum << 1) ^ ((sum >> 47) * (1 << 48 | 0b10_1101));
        doubled ^ ((b >> bit & 1) * a)
    })
}

#[test]
fn field() {
    let mut file = File::new(
        "The field GF(2^48), modulo x^48 + x^5 + x^3 + x^2 + 1. Elements are numbers of twelve\n\
         hexadecimal digits: bit i is the coefficient of x^i.",
    );
    let top = 1 << 47;
    let some = |n: u64| item(n).hash.0[..6].iter().fold(0, |x, b| x << 8 | u64::from(*b));
    let products = [
        ("by nothing", 0, field::MASK),
        ("by one", 1, some(0)),
        ("x times x", 2, 2),
        ("x times x^47: the polynomial, less its first term", 2, top),
        ("x^47 squared", top, top),
        ("all coefficients", field::MASK, field::MASK),
        ("two elements", some(1), some(2)),
        ("two others", some(3), some(4)),
        ("a square", some(5), some(5)),
    ];
    for (name, a, b) in products {
        let c = field::mul(a, b);
        assert_eq!((c, c), (product(a, b), field::mul(b, a)), "{name}");
        file.record(name, &[("a", element(a)), ("b", element(b)), ("product", element(c))]);
    }
    let inverses = [
        ("of one", 1),
        ("of x", 2),
        ("of x^47", top),
        ("of all coefficients", field::MASK),
        ("of an element", some(6)),
        ("of another", some(7)),
    ];
    for (name, a) in inverses {
        let inverse = field::inverse(a);
        assert_eq!(product(a, inverse), 1, "{name}");
        let name = format!("the inverse {name}");
        file.record(&name, &[("a", element(a)), ("inverse", element(inverse))]);
    }
    file.settle("reconcile/field.txt");
}

/// The 64 signs, as the counters of a set of this one item show them.
fn signs(hash: &AspectHash) -> u64 {
    let counters = Sums::of(hash, Parts::COUNT).counters;
    let sign = |(i, counter): (usize, &i32)| u64::from(*counter == 1) << i;
    assert!(counters.get().iter().all(|counter| counter.abs() == 1));
    counters.get().iter().enumerate().map(sign).sum()
}

#[test]
fn items() {
    let mut file = File::new(
        "What follows from the hash of an item, and from its location. `id` has twelve hexadecimal\n\
         digits, `place` sixteen: location and first four bytes of the hash. Bit i of `signs` says\n\
         whether counter i is +1 or -1. `first` and `last` are the least and greatest hash with this id.",
    );
    let beginning = |bytes: &[u8]| {
        let mut hash = item(0).hash.0;
        hash[..bytes.len()].copy_from_slice(bytes);
        AspectKey { location: Location(5), hash: AspectHash(hash) }
    };
    let everywhere =
        |location, byte| AspectKey { location: Location(location), hash: AspectHash([byte; 32]) };
    let mut counting = [0; 32];
    counting.iter_mut().zip(0..).for_each(|(byte, n)| *byte = n);
    let keys = [
        ("zeros: no id is 0", everywhere(0, 0)),
        ("begins with zeros", beginning(&[0; 6])),
        ("begins with one: the same id", beginning(&[0, 0, 0, 0, 0, 1])),
        ("begins with two", beginning(&[0, 0, 0, 0, 0, 2])),
        ("ones", everywhere(u32::MAX, 0xff)),
        ("counting", AspectKey { location: Location(0x0102_0304), hash: AspectHash(counting) }),
        ("like most", item(0)),
        ("another", item(1)),
    ];
    for (name, key) in keys {
        let id = ShortId::of(&key.hash);
        let (first, last) = id.hashes();
        let place = Place::of(&key);
        assert_eq!((ShortId::of(&first), ShortId::of(&last)), (id, id), "{name}");
        assert_eq!(ShortId::new(id.get()), Some(id));
        assert!(place.first_key() <= key && key <= place.last_key());
        let values = [
            ("location", key.location.to_string()),
            ("hash", hex(&key.hash.0)),
            ("id", element(id.get())),
            ("place", format!("{:016x}", place.0)),
            ("signs", format!("{:016x}", signs(&key.hash))),
            ("first", hex(&first.0)),
            ("last", hex(&last.0)),
        ];
        file.record(name, &values);
    }
    file.settle("reconcile/items.txt");
}

fn sketch_of(ids: &[u64], syndromes: usize) -> Sketch {
    let mut sketch = Sketch::new(syndromes);
    ids.iter().for_each(|id| sketch.toggle(*id));
    sketch
}

fn ids(numbers: Range<u64>) -> Vec<u64> {
    let mut ids: Vec<u64> = numbers.map(|n| ShortId::of(&item(n).hash).get()).collect();
    ids.sort_unstable();
    ids
}

#[test]
fn sketches() {
    let mut file = File::new(
        "Sketches of ids, with so many syndromes; ids and syndromes have twelve hexadecimal digits.\n\
         `decoded` is what comes of decoding with one syndrome to spare, ascending; `none` where there\n\
         are more ids than that, or the syndromes are of no such set. The last ones have no ids that\n\
         anybody knows.",
    );
    let record = |file: &mut File, name: &str, ids: Option<&[u64]>, sketch: &Sketch| {
        let bytes = sketch.to_bytes();
        assert_eq!(Sketch::from_bytes(&bytes).as_ref(), Some(sketch), "{name}");
        let decoded = sketch.decode(1);
        if let Some(decoded) = &decoded {
            assert_eq!(&sketch_of(decoded, sketch.len()), sketch, "{name}");
        }
        let decoded = decoded.map_or("none".to_owned(), |ids| elements(&ids));
        let ids = ids.map(|ids| ("ids", elements(ids)));
        let rest = [
            ("syndromes", elements(sketch.syndromes())),
            ("bytes", hex(&bytes)),
            ("decoded", decoded),
        ];
        file.record(name, &ids.into_iter().chain(rest).collect::<Vec<_>>());
    };
    let cases: Vec<(&str, Vec<u64>, usize)> = vec![
        ("no ids", vec![], 3),
        ("one", vec![1], 4),
        ("x: the syndromes are its odd powers", vec![2], 4),
        ("the greatest id", vec![field::MASK], 3),
        ("two ids", vec![1, 2], 3),
        ("three ids that add up to nothing", vec![1, 2, 3], 4),
        ("as many as can be", ids(0..3), 4),
        ("one more than that", ids(0..4), 4),
        ("many more", ids(0..40), 4),
        ("one syndrome, and an id", ids(0..1), 1),
        ("the opening, and eleven ids", ids(100..111), 12),
        ("the opening, and twelve ids", ids(100..112), 12),
        ("a piece", ids(200..224), 31),
        ("the most syndromes, and 63 ids", ids(300..363), 64),
        ("the most syndromes, and 64 ids", ids(300..364), 64),
    ];
    for (name, ids, syndromes) in &cases {
        let sketch = sketch_of(ids, *syndromes);
        assert_eq!(sketch.decode(1), (ids.len() < *syndromes).then(|| ids.clone()), "{name}");
        record(&mut file, name, Some(ids), &sketch);
        // Fewer syndromes of the same ids are the first ones.
        let prefix = Sketch::prefix(sketch.syndromes(), 2.min(*syndromes));
        assert_eq!(prefix, sketch_of(ids, 2.min(*syndromes)), "{name}");
    }
    // The difference of two sets.
    let (ours, theirs) = (ids(400..420), ids(402..423));
    let mut difference = sketch_of(&ours, 8);
    difference.merge(sketch_of(&theirs, 8).syndromes());
    let only: Vec<u64> = {
        let mut only = [ids(400..402), ids(420..423)].concat();
        only.sort_unstable();
        only
    };
    assert_eq!(difference, sketch_of(&only, 8));
    record(&mut file, "items 400 to 419, XOR items 402 to 422", Some(&only), &difference);
    // Of no set with so few ids: the locator is too long, or has no roots.
    for (name, syndromes) in [
        ("three syndromes", vec![ids(0..1)[0], 0, 0]),
        ("the first two are zero", vec![0, 0, 1, 0, 0, 0, 0]),
        ("a locator without roots", vec![1, 0, 0, 0]),
        ("random ones", ids(500..509)),
    ] {
        let sketch = Sketch::from_bytes(
            &syndromes.iter().flat_map(|s| s.to_le_bytes()[..6].to_vec()).collect::<Vec<_>>(),
        );
        record(&mut file, name, None, &sketch.unwrap());
    }
    file.settle("reconcile/sketches.txt");
}

#[test]
fn fingerprints() {
    let mut file = File::new(&format!(
        "Fingerprints of sets.\n{RULE}\n\
         `begins` is the first 32 bytes of the fingerprint, `blake3` is BLAKE3 (with no key) of all\n\
         2048. `check` is made with `nonce`."
    ));
    let cases: [(&str, &[u64], &[u8]); 6] = [
        ("no items", &[], &[0; 8]),
        ("one item", &[0], &[0; 8]),
        ("another", &[1], &[1, 2, 3, 4, 5, 6, 7, 8]),
        ("both", &[0, 1], &[1, 2, 3, 4, 5, 6, 7, 8]),
        ("the same with another nonce", &[1, 0], &[8, 7, 6, 5, 4, 3, 2, 1]),
        ("ten items", &[0, 1, 2, 3, 4, 5, 6, 7, 8, 9], &[0xff; 8]),
    ];
    let key = blake3::derive_key("arcwise 1 set fingerprint item", b"");
    for (name, set, nonce) in cases {
        let mut fingerprint = Fingerprint::ZERO;
        let mut lanes = [0u16; 1024];
        for n in set {
            let hash = item(*n).hash;
            fingerprint.merge(&Fingerprint::of(&hash));
            let mut bytes = [0; 2048];
            blake3::Hasher::new_keyed(&key).update(&hash.0).finalize_xof().fill(&mut bytes);
            let words = bytes.as_chunks::<2>().0.iter().map(|pair| u16::from_le_bytes(*pair));
            lanes.iter_mut().zip(words).for_each(|(sum, word)| *sum = sum.wrapping_add(word));
        }
        let bytes = fingerprint.to_bytes();
        assert_eq!(bytes[..], lanes.map(u16::to_le_bytes).concat(), "{name}");
        assert_eq!(Fingerprint::from_bytes(&bytes), fingerprint);
        let values = [
            ("items", words(set)),
            ("begins", hex(&bytes[..32])),
            ("blake3", hex(blake3::hash(&bytes).as_bytes())),
            ("digest", hex(&fingerprint.digest())),
            ("nonce", hex(nonce)),
            ("check", hex(&fingerprint.check(nonce).0)),
        ];
        file.record(name, &values);
    }
    file.settle("reconcile/fingerprints.txt");
}

/// Numbers of so many bits, packed: as the definition says, one bit after the other.
fn unpack(bytes: &[u8], bits: u32) -> Vec<u64> {
    let bit = |at: usize| u64::from(bytes[at / 8] >> (at % 8) & 1);
    let number = |n: usize| {
        let from = n * bits as usize;
        (0..bits as usize).map(|i| bit(from + i) << i).sum()
    };
    (0..bytes.len() * 8 / bits as usize).map(number).collect()
}

/// The bytes of narrow counters: what a report of failure has after its tag, two numbers and the
/// width.
fn packed(narrow: &Narrow) -> Vec<u8> {
    let pieces = vec![Failure { piece: 0, counters: narrow.clone() }];
    Packet::Failed { pieces, more: false }.encode()[4..].to_vec()
}

fn counters_of(numbers: Range<u64>) -> Counters {
    let mut counters = Counters::ZERO;
    numbers.for_each(|n| counters.add(signs(&item(n).hash)));
    counters
}

#[test]
fn counters() {
    let mut file = File::new(&format!(
        "Counters of sets, in what form they are sent, and what is estimated from them.\n{RULE}\n\
         `theirs` and `ours` are sets of items, the second number not included. `counters` are those\n\
         of `theirs`; `narrow` is the first of them, so many, of so many bits; `estimate` is of the\n\
         difference, in 64ths of an item or in 16ths."
    ));
    let cases = [
        ("no items", 0..0, 0..0, 64, 5),
        ("one item", 0..1, 0..0, 64, 5),
        ("three items, sixteen counters", 0..3, 0..0, 16, 5),
        ("ten of a hundred", 0..100, 10..100, 64, 5),
        ("either has five", 0..95, 5..100, 64, 5),
        ("more bits", 0..95, 5..100, 64, 12),
        ("few counters", 0..95, 5..100, 16, 20),
        ("counters that wrap", 0..3000, 0..0, 64, 5),
    ];
    for (name, theirs, ours, len, bits) in cases {
        let counters = counters_of(theirs.clone());
        let narrow = counters.narrow(len, bits);
        let bytes = packed(&narrow);
        assert_eq!(bytes.len() * 8, len * bits as usize);
        let plain: Vec<u64> =
            counters.get()[..len].iter().map(|c| c.rem_euclid(1 << bits) as u64).collect();
        assert_eq!(unpack(&bytes, bits), plain, "{name}");
        let (half, whole) = (1i64 << (bits - 1), 1i64 << bits);
        let mine = counters_of(ours.clone());
        let squares = counters.get()[..len].iter().zip(mine.get()).map(|(theirs, ours)| {
            let difference =
                (i64::from(*theirs) - i64::from(*ours) + half).rem_euclid(whole) - half;
            difference * difference
        });
        let squares: i64 = squares.sum();
        assert_eq!(narrow.estimate(&mine), squares as f64 / len as f64, "{name}");
        let values = [
            ("theirs", format!("{}..{}", theirs.start, theirs.end)),
            ("ours", format!("{}..{}", ours.start, ours.end)),
            ("counters", words(counters.get())),
            ("bits", bits.to_string()),
            ("narrow", hex(&bytes)),
            ("estimate", format!("{squares}/{len}")),
        ];
        file.record(name, &values);
    }
    let edges = [0u64, 1, 15, 16, 63, 64, 65, 255, 256, 1000, 1 << 20, (1 << 20) + 1, 1 << 40];
    for count in edges.into_iter().chain([u64::MAX]) {
        let bits = Narrow::bits_for(count).to_string();
        file.record(&format!("{count} items"), &[("count", count.to_string()), ("bits", bits)]);
    }
    file.settle("reconcile/counters.txt");
}
