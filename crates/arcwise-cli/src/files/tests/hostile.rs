//! Records that break the format, each in one way. A restore finds the flaw, and writes nothing.

use proptest::prelude::*;
use prost::Message;

use super::{super::*, *};
use crate::files::record::{MAX_BLOB_DEPTH, MAX_TARGET, wire};

fn blob(root: EntryAddress, depth: u32, length: u64) -> Option<wire::Blob> {
    Some(wire::Blob { root: root.0.to_vec(), depth, length })
}

fn file(content: Option<wire::Blob>) -> wire::Item {
    let file = wire::File { content, executable: false };
    wire::Item { content: Some(wire::Content::File(file)) }
}

/// A blob of one chunk.
fn chunk(memory: &Memory, content: &[u8]) -> Option<wire::Blob> {
    blob(memory.store(CHUNK, content), 0, content.len() as u64)
}

fn item(memory: &Memory, item: &wire::Item) -> EntryAddress {
    memory.store(ITEM, item.encode_to_vec())
}

fn entry(name: impl AsRef<[u8]>, item: wire::Item) -> wire::Entry {
    wire::Entry { name: name.as_ref().to_vec(), what: Some(wire::What::Item(item)) }
}

fn link(name: &str, target: impl AsRef<[u8]>) -> wire::Entry {
    let what = wire::What::Link(target.as_ref().to_vec());
    wire::Entry { name: name.into(), what: Some(what) }
}

/// A folder whose listing is these bytes and whose totals are these.
fn folder_of(memory: &Memory, listing: &[u8], totals: Totals) -> wire::Item {
    let Totals { files, folders, links, bytes } = totals;
    let listing = chunk(memory, listing);
    let folder = wire::Folder { listing, files, folders, links, bytes };
    wire::Item { content: Some(wire::Content::Folder(folder)) }
}

fn folder(memory: &Memory, entries: &[wire::Entry], totals: Totals) -> wire::Item {
    let mut listing = Vec::new();
    for entry in entries {
        prost::encoding::message::encode(1, entry, &mut listing);
    }
    folder_of(memory, &listing, totals)
}

fn totals(files: u64, folders: u64, links: u64, bytes: u64) -> Totals {
    Totals { files, folders, links, bytes }
}

#[test]
fn the_helpers_make_what_is_accepted() {
    let memory = Memory::default();
    let x = file(chunk(&memory, b"x"));
    let inner = folder(&memory, &[entry("x", x.clone())], totals(1, 0, 0, 1));
    let entries = [entry("a", inner), entry("b", x), link("c", "a")];
    let top = item(&memory, &folder(&memory, &entries, totals(2, 1, 1, 2)));
    let (disk, restored) = try_get(&memory, top).unwrap();
    assert_eq!(restored.totals, totals(2, 1, u64::from(cfg!(unix)), 2));
    assert_eq!(fs::read(disk.path().join("out/a/x")).unwrap(), b"x");
}

#[test]
fn evil_names() {
    let memory = Memory::default();
    let x = file(chunk(&memory, b"x"));
    let long = "x".repeat(1025);
    for name in ["", ".", "..", "/", "../x", "/etc/x", "a/b", "a\0", long.as_str()] {
        let top = folder(&memory, &[entry(name, x.clone())], totals(1, 0, 0, 1));
        assert!(matches!(flaw(&memory, item(&memory, &top)), Flaw::Name(_)), "{name:?}");
    }
}

#[test]
fn names_out_of_order_or_twice() {
    let memory = Memory::default();
    let x = file(chunk(&memory, b"x"));
    for names in [["a", "a"], ["b", "a"]] {
        let entries = names.map(|name| entry(name, x.clone()));
        let top = item(&memory, &folder(&memory, &entries, totals(2, 0, 0, 2)));
        assert_eq!(flaw(&memory, top), Flaw::Order(Name::parse("a").unwrap()));
    }
    // A link and then a folder of that name, into which a careless reader would write.
    let inside = folder(&memory, &[entry("x", x)], totals(1, 0, 0, 1));
    let entries = [link("a", "/tmp"), entry("a", inside)];
    let top = item(&memory, &folder(&memory, &entries, totals(1, 1, 1, 1)));
    assert_eq!(flaw(&memory, top), Flaw::Order(Name::parse("a").unwrap()));
}

#[test]
fn links_to_nothing_that_can_be() {
    let memory = Memory::default();
    for target in [&b""[..], b"a\0b", &[b'x'; MAX_TARGET + 1]] {
        let top = item(&memory, &folder(&memory, &[link("l", target)], totals(0, 0, 1, 0)));
        assert_eq!(flaw(&memory, top), Flaw::Target(Name::parse("l").unwrap()));
    }
}

#[test]
fn totals_that_do_not_add_up() {
    let memory = Memory::default();
    let x = file(chunk(&memory, b"x"));
    let lie = folder(&memory, &[entry("x", x.clone())], totals(2, 0, 0, 1));
    let small = folder(&memory, &[], totals(0, 0, 0, 0));
    let huge = folder(&memory, &[], totals(u64::MAX, 0, 0, 0));
    for (entries, totals) in [
        (vec![], totals(1, 0, 0, 0)),
        (vec![entry("x", x.clone())], totals(0, 0, 0, 0)),
        (vec![entry("x", x.clone())], totals(1, 0, 0, 2)),
        (vec![link("x", "y")], totals(0, 0, 0, 0)),
        (vec![entry("small", small)], totals(0, 0, 0, 0)),
        // What a folder inside announces counts, and it is held to it.
        (vec![entry("lie", lie)], totals(2, 1, 0, 1)),
        (vec![entry("a", huge.clone()), entry("b", huge)], totals(u64::MAX, 2, 0, 0)),
    ] {
        let top = item(&memory, &folder(&memory, &entries, totals));
        assert_eq!(flaw(&memory, top), Flaw::Totals, "{totals:?}");
    }
}

/// Two names for each folder, a hundred deep: few objects, but no disk for what they unfold to.
#[test]
fn a_folder_bomb_is_told_by_its_numbers() {
    let memory = Memory::default();
    let (mut top, mut folders) = (folder(&memory, &[], Totals::default()), 0u64);
    for _ in 0..100 {
        folders = folders.saturating_add(1).saturating_mul(2);
        let entries = [entry("a", top.clone()), entry("b", top)];
        top = folder(&memory, &entries, totals(0, folders, 0, 0));
    }
    assert_eq!(flaw(&memory, item(&memory, &top)), Flaw::Totals);
}

#[test]
fn folders_deeper_than_allowed() {
    let memory = Memory::default();
    let mut top = folder(&memory, &[], Totals::default());
    for depth in 1..=MAX_FOLDER_DEPTH as u64 + 1 {
        top = folder(&memory, &[entry("d", top)], totals(0, depth, 0, 0));
    }
    assert_eq!(flaw(&memory, item(&memory, &top)), Flaw::FolderDepth);
}

#[test]
fn listings_that_are_none() {
    let memory = Memory::default();
    let one = totals(1, 0, 0, 0);
    let mut unknown = Vec::new();
    prost::encoding::message::encode(
        1,
        &wire::Entry { name: b"x".to_vec(), what: None },
        &mut unknown,
    );
    let flaw_of = |listing: &[u8]| flaw(&memory, item(&memory, &folder_of(&memory, listing, one)));
    assert_eq!(flaw_of(&unknown), Flaw::UnknownType);
    assert_eq!(flaw_of(b"\x0a\x7f"), Flaw::Entry, "longer than the listing");
    assert_eq!(flaw_of(&[b"\x0a\xff\xff\x03", &[0; 65_535][..]].concat()), Flaw::Entry, "too long");
    assert_eq!(flaw_of(b"\x12\x00"), Flaw::Entry, "another field");
    assert!(matches!(flaw_of(b"\xff"), Flaw::Encoding(_)));
    assert!(matches!(flaw_of(b"\x0a\x02\x0a\x7f"), Flaw::Encoding(_)));
    let mut large = folder(&memory, &[], Totals::default());
    if let Some(wire::Content::Folder(folder)) = &mut large.content {
        folder.listing.as_mut().unwrap().length = MAX_LISTING + 1;
    }
    assert_eq!(flaw(&memory, item(&memory, &large)), Flaw::ListingLength(MAX_LISTING + 1));
}

#[test]
fn items_that_are_none() {
    let memory = Memory::default();
    let flaw_of = |data: &[u8]| flaw(&memory, memory.store(ITEM, data));
    assert_eq!(flaw_of(b""), Flaw::UnknownType);
    assert!(matches!(flaw_of(b"\xff\xff"), Flaw::Encoding(_)));
    assert_eq!(flaw_of(&file(None).encode_to_vec()), Flaw::AddressLength(0));
    let short = file(Some(wire::Blob { root: vec![0; 31], depth: 0, length: 0 }));
    assert_eq!(flaw_of(&short.encode_to_vec()), Flaw::AddressLength(31));
    let depth = MAX_BLOB_DEPTH + 1;
    let deep = file(blob(EntryAddress([0; 32]), depth, 1));
    assert_eq!(flaw_of(&deep.encode_to_vec()), Flaw::BlobDepth(depth));
}

#[test]
fn lengths_that_are_not_so() {
    let memory = Memory::default();
    let x = memory.store(CHUNK, b"xyz");
    let index = memory.store(INDEX, [x.0, x.0].concat());
    for (root, depth, length, more) in [
        (x, 0, 2, true),
        (x, 0, 0, true),
        (x, 0, 4, false),
        (index, 1, 5, true),
        (index, 1, 0, true),
        (index, 1, u64::MAX, false),
    ] {
        let top = item(&memory, &file(blob(root, depth, length)));
        assert_eq!(flaw(&memory, top), Flaw::Length { declared: length, more });
    }
}

#[test]
fn trees_that_are_none() {
    let memory = Memory::default();
    let x = memory.store(CHUNK, b"x");
    let empty = memory.store(CHUNK, b"");
    let flaw_of =
        |root, depth, length| flaw(&memory, item(&memory, &file(blob(root, depth, length))));
    for length in [0, 31, 33, 63] {
        let index = memory.store(INDEX, vec![1; length]);
        assert_eq!(flaw_of(index, 1, 1), Flaw::IndexLength(length));
    }
    assert_eq!(flaw_of(empty, 0, 1), Flaw::EmptyChunk);
    // Empty chunks would make an index of indexes endless work for no byte at all.
    let index = memory.store(INDEX, [x.0, empty.0].concat());
    assert_eq!(flaw_of(index, 1, 1), Flaw::EmptyChunk);
    let mut endless = memory.store(INDEX, empty.0.repeat(32_768));
    for _ in 1..MAX_BLOB_DEPTH {
        endless = memory.store(INDEX, endless.0.repeat(32_768));
    }
    assert_eq!(flaw_of(endless, MAX_BLOB_DEPTH, u64::MAX), Flaw::EmptyChunk);
    assert_eq!(flaw_of(endless, MAX_BLOB_DEPTH, 0), Flaw::EmptyChunk);
}

proptest! {
    /// Whatever is done to a listing, a restore ends, and well or with nothing left.
    #[test]
    fn any_damage_to_a_listing(
        at in any::<prop::sample::Index>(),
        damage in prop::collection::vec(any::<u8>(), 0..4),
        removed in 0..4usize,
    ) {
        let memory = Memory::default();
        let x = file(chunk(&memory, b"x"));
        let inner = folder(&memory, &[entry("x", x.clone())], totals(1, 0, 0, 1));
        let mut listing = Vec::new();
        for entry in [entry("a", inner), entry("b", x), link("c", "a")] {
            prost::encoding::message::encode(1, &entry, &mut listing);
        }
        let start = at.index(listing.len());
        let end = listing.len().min(start + removed);
        listing.splice(start..end, damage);
        let top = item(&memory, &folder_of(&memory, &listing, totals(2, 1, 1, 2)));
        let _ = try_get(&memory, top);
    }

    #[test]
    fn any_bytes_as_records(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        let memory = Memory::default();
        let new = NewAspect {
            entry: catalog_entry(), kind: ROOT, data: bytes.clone().into(), signed: true,
        };
        memory.put(vec![new]).unwrap();
        list(&memory).unwrap();
        let _ = try_get(&memory, memory.store(ITEM, &bytes));
        let top = folder_of(&memory, &bytes, totals(9, 9, 9, 9));
        let _ = try_get(&memory, item(&memory, &top));
    }
}

#[test]
fn an_error_does_a_terminal_no_harm() {
    let memory = Memory::default();
    let name = format!("\u{1b}[2J{}", "x".repeat(1000));
    let top = folder(&memory, &[entry(name, file(chunk(&memory, b"x")))], totals(1, 0, 0, 1));
    let error = try_get(&memory, item(&memory, &top)).unwrap_err();
    assert!(matches!(error, Error::Write { .. }), "too long for the file system");
    assert!(!error.to_string().contains('\u{1b}'), "{error}");
}

#[test]
fn content_is_not_taken_for_an_index_nor_for_a_record() {
    let memory = Memory::default();
    let x = memory.store(CHUNK, b"x");
    let index = memory.store(INDEX, x.0);
    let as_content = memory.store(CHUNK, [x.0, x.0].concat());
    let missing = |root, depth, length, kind| {
        let top = item(&memory, &file(blob(root, depth, length)));
        match try_get(&memory, top) {
            Err(Error::Missing(name)) => assert_eq!(name, ObjectName { address: root, kind }),
            other => panic!("{other:?}"),
        }
    };
    // Depths that lie, both ways.
    missing(index, 0, 32, CHUNK);
    missing(as_content, 1, 2, INDEX);
    missing(x, 1, 1, INDEX);
    let record = memory.store(CHUNK, file(blob(x, 0, 1)).encode_to_vec());
    assert!(matches!(try_get(&memory, record), Err(Error::Missing(_))));
}

#[test]
fn what_strangers_attach_is_passed_over() {
    let memory = Memory::default();
    let content = b"the content";
    let entry = address_of(content);
    let top = item(&memory, &file(blob(entry, 0, content.len() as u64)));
    for kind in KINDS {
        memory.attach(entry, kind, b"other bytes");
        memory.attach(top, kind, b"\x0a\x00");
    }
    match try_get(&memory, top) {
        Err(Error::Missing(name)) => assert_eq!(name.address, entry),
        other => panic!("{other:?}"),
    }
    memory.store(CHUNK, content);
    memory.attach(entry, CHUNK, b"more other bytes");
    let (disk, _) = try_get(&memory, top).unwrap();
    assert_eq!(fs::read(disk.path().join("out")).unwrap(), content);
    memory.forget(entry);
    assert!(matches!(try_get(&memory, top), Err(Error::Missing(_))));
}
