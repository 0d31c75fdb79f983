//! What is put comes back as it was.

use std::io::{self, Read};

use proptest::prelude::*;

use super::{super::*, *};
use crate::files::put::put_reader_sized;

fn file(content: impl Into<Vec<u8>>) -> Tree {
    Tree::File { content: content.into(), executable: false }
}

fn folder<const N: usize>(children: [(&[u8], Tree); N]) -> Tree {
    Tree::Folder(children.map(|(name, child)| (name.to_vec(), child)).into())
}

/// Writes, puts, gets and compares.
fn round_trip(tree: &Tree, sizes: Sizes) -> (Memory, Put) {
    let disk = tempfile::tempdir().unwrap();
    let (from, to) = (disk.path().join("from"), disk.path().join("to"));
    tree.write(&from);
    let memory = Memory::default();
    let put = put_sized(&memory, &from, &quiet, sizes).unwrap();
    let restored = get(&memory, put.address, None, &to, &quiet).unwrap();
    assert_eq!(Tree::read(&to), *tree);
    assert_eq!((restored.path, restored.totals), (to, put.item.totals()));
    assert_eq!((put.skipped, restored.skipped_links), (vec![], vec![]));
    (memory, Put { skipped: vec![], ..put })
}

fn any_name() -> impl Strategy<Value = Vec<u8>> {
    let text =
        "[-a-z0-9 .~*?\"'\\\\:\u{e9}\u{301}\u{65e5}\u{1f389}\n]{1,12}".prop_map(String::into_bytes);
    // Not every system's file system takes bytes that are no text.
    let bytes = prop::collection::vec(any::<u8>(), 1..12);
    let any = if cfg!(target_os = "linux") {
        prop_oneof![3 => text.boxed(), 1 => bytes.boxed()].boxed()
    } else {
        text.boxed()
    };
    any.prop_filter("one step", |name| Name::parse(name.clone()).is_ok())
}

fn any_content() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        Just(vec![]),
        prop::collection::vec(any::<u8>(), 1..100),
        (0..4u64, 0..40_000usize).prop_map(|(seed, length)| noise(seed, length)),
        (0..5000usize).prop_map(|length| vec![0; length]),
    ]
}

fn any_tree() -> impl Strategy<Value = Tree> {
    let leaf = prop_oneof![
        4 => (any_content(), any::<bool>())
            .prop_map(|(content, executable)| Tree::File { content, executable }),
        1 => any_name().prop_map(Tree::Link),
        1 => Just(Tree::Link(b"../../../nowhere/at all".to_vec())),
    ];
    let tree = leaf.prop_recursive(4, 40, 6, |inner| {
        prop::collection::btree_map(any_name(), inner, 0..6).prop_map(Tree::Folder)
    });
    prop::collection::btree_map(any_name(), tree, 0..6).prop_map(Tree::Folder)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    #[test]
    fn any_folder_comes_back(tree in any_tree()) {
        round_trip(&tree, SMALL);
    }

    #[test]
    fn any_content_comes_back(content in any_content(), executable in any::<bool>()) {
        round_trip(&Tree::File { content, executable }, SMALL);
    }
}

#[test]
fn the_sizes_of_the_format() {
    let tree = folder([
        (b"empty", file([])),
        (b"empty folder", folder([])),
        (b"one chunk", file(noise(1, 64 << 10))),
        (b"some chunks", file(noise(2, 3_000_000))),
        (b"alike", file(vec![0; 5 << 20])),
    ]);
    let (memory, put) = round_trip(&tree, Sizes::FORMAT);
    assert_eq!(memory.of_kind(INDEX).len(), 2);
    assert_eq!(put.item.totals().files, 4);
}

#[test]
fn deep_trees_of_chunks() {
    let mut depths = BTreeSet::new();
    for length in [1, 64, 500, 2_000, 8_000, 30_000, 120_000] {
        let (memory, put) = round_trip(&file(noise(3, length)), SMALL);
        let Item::File { content, .. } = put.item else { panic!("{put:?}") };
        // As low as its chunks allow.
        let chunks = memory.of_kind(CHUNK).len();
        let lowest = (0..).find(|&depth| chunks <= 4usize.pow(depth)).unwrap();
        assert_eq!((content.depth, content.length), (lowest, length as u64));
        depths.insert(lowest);
    }
    assert!(depths.contains(&0) && depths.contains(&3) && depths.contains(&4), "{depths:?}");
}

/// Cuts, encodings and contexts are a format: whoever changes one of them breaks what was stored.
#[test]
fn addresses_are_pinned() {
    let (_, put) = round_trip(&file("content"), Sizes::FORMAT);
    let root = *address_of(b"content").as_bytes();
    let encoded = [&b"\x0a\x26\x0a\x24\x0a\x20"[..], &root, b"\x18\x07"].concat();
    assert_eq!(put.address, address_of(&encoded));

    let address = |tree: &Tree| round_trip(tree, Sizes::FORMAT).1.address.to_string();
    let large = file(noise(4, 3_000_000));
    assert_eq!(address(&large), "11743d6c6f72b02b91e57c8d595c3055b49c6d83bcc3cc4fa93b29c77bce0932");
    let all = folder([
        (b"a file", file("content")),
        (b"large", large),
        (b"link", Tree::Link(b"a file".to_vec())),
        (b"program", Tree::File { content: b"#!".to_vec(), executable: true }),
        (b"sub", folder([(b"empty", file([]))])),
    ]);
    assert_eq!(address(&all), "d825b9358b01191aa81bf44285b331f8bf816672947a068796c830e074c15234");
    assert_eq!(
        address(&folder([])),
        "8e6bb6d34ab8d68fab58afe1a189a2ea6bf53f67ce74731f15a022cb5bfccc25"
    );
    assert_eq!(
        catalog_entry().to_string(),
        "b4312741189f9447eb014726b20eb69234b17bc8ff9976547c91bae29dee2db7"
    );
}

#[test]
fn three_hundred_folders_deep() {
    let mut tree = file("at the bottom");
    for _ in 0..300 {
        tree = folder([(b"d", tree)]);
    }
    let (_, put) = round_trip(&tree, SMALL);
    assert_eq!(put.item.totals(), Totals { files: 1, folders: 299, links: 0, bytes: 13 });
}

#[test]
fn too_deep_is_refused_before_it_is_stored() {
    let disk = tempfile::tempdir().unwrap();
    let path: std::path::PathBuf = std::iter::repeat_n("d", MAX_FOLDER_DEPTH + 1).collect();
    let top = disk.path().join("top");
    fs::create_dir_all(top.join(path)).unwrap();
    let memory = Memory::default();
    assert!(matches!(put(&memory, &top, &quiet), Err(Error::TooDeep(_))));
    assert_eq!(memory.of_kind(ROOT), []);
    let put = put(&memory, &top.join("d"), &quiet).unwrap();
    try_get(&memory, put.address).unwrap();
}

#[test]
fn what_is_there_is_not_stored_again() {
    let disk = tempfile::tempdir().unwrap();
    let tree = folder([(b"a", file(noise(5, 9_000))), (b"b", folder([(b"c", file("c"))]))]);
    tree.write(&disk.path().join("one"));
    tree.write(&disk.path().join("other name"));
    let memory = Memory::default();
    let first = put_small(&memory, &disk.path().join("one"));
    assert!(first.new_objects > 10 && first.new_bytes > 9_000);
    for again in ["one", "other name"] {
        let again = put_small(&memory, &disk.path().join(again));
        assert_eq!((again.new_objects, again.new_bytes), (0, 0));
        assert_eq!(again.address, first.address);
    }
    // A change costs what was changed and the way up to the item.
    fs::write(disk.path().join("one/b/c"), "d").unwrap();
    let changed = put_small(&memory, &disk.path().join("one"));
    assert_eq!(changed.new_objects, 4, "chunk, two listings, item");
}

/// A stranger who attaches something to an entry must not keep its content from being stored.
#[test]
fn an_occupied_entry_is_still_stored_to() {
    let memory = Memory::default();
    for kind in KINDS {
        memory.attach(address_of(b"content"), kind, b"junk");
    }
    memory.store(INDEX, b"content");
    let put = put_reader(&memory, "name", &b"content"[..], &quiet).unwrap();
    assert_eq!(put.new_objects, 2);
    let (folder, _) = try_get(&memory, put.address).unwrap();
    assert_eq!(fs::read(folder.path().join("out")).unwrap(), b"content");
}

#[test]
fn a_long_stream_in_bounded_memory() {
    let memory = Memory::default();
    let content = noise(6, 20 << 20);
    let done = Cell::new(Progress::default());
    let put = put_reader(&memory, "stream", &content[..], &|p| done.set(p)).unwrap();
    let (bytes, objects) = memory.largest.get();
    assert!(bytes <= 4 << 20 && objects <= 1024, "{bytes} bytes, {objects} objects");
    assert!(memory.puts.get() >= 5);
    let totals = Totals { files: 1, bytes: 20 << 20, ..Totals::default() };
    assert_eq!(done.get(), Progress { done: totals, total: None });
    let mut out = Vec::new();
    assert_eq!(cat(&memory, put.address, None, &mut out).unwrap(), 20 << 20);
    assert!(out == content);
}

#[test]
fn a_stream_that_fails_is_not_recorded() {
    struct Fails;
    impl Read for Fails {
        fn read(&mut self, _: &mut [u8]) -> io::Result<usize> {
            Err(io::ErrorKind::ConnectionReset.into())
        }
    }
    let memory = Memory::default();
    let input = noise(7, 5_000);
    let put = put_reader_sized(&memory, "x", input.chain(Fails), &quiet, SMALL);
    assert!(matches!(put, Err(Error::Input(_))));
    assert_eq!(list(&memory).unwrap(), []);
    assert!(matches!(
        put_reader(&memory, "a/b", io::empty(), &quiet),
        Err(Error::LocalName { .. })
    ));
}

#[test]
fn special_files_are_skipped_and_reported() {
    let disk = tempfile::tempdir().unwrap();
    let top = disk.path().join("top");
    folder([(b"file", file("x"))]).write(&top);
    let _socket = std::os::unix::net::UnixListener::bind(top.join("socket")).unwrap();
    let memory = Memory::default();
    let done = put_small(&memory, &top);
    let skipped = Skipped { path: top.join("socket"), reason: SkipReason::Special };
    assert_eq!(done.skipped, [skipped]);
    let (folder, _) = try_get(&memory, done.address).unwrap();
    assert_eq!(names(&folder.path().join("out")), ["file".into()].into());
    assert!(matches!(put(&memory, &top.join("socket"), &quiet), Err(Error::NotRegular(_))));
    assert!(matches!(put(&memory, &top.join("none"), &quiet), Err(Error::NotThere(_))));
}

/// A file that opens and cannot be read, whoever runs the test.
#[cfg(target_os = "linux")]
#[test]
fn an_unreadable_file_is_named() {
    let memory = Memory::default();
    let path = Path::new("/proc/self/mem");
    match put(&memory, path, &quiet) {
        Err(Error::Read { path: named, .. }) => assert_eq!(named, path),
        other => panic!("{other:?}"),
    }
    assert_eq!(list(&memory).unwrap(), []);
}

#[test]
fn a_link_given_by_name_is_followed() {
    let disk = tempfile::tempdir().unwrap();
    folder([(b"x", file("x"))]).write(&disk.path().join("real"));
    Tree::Link(b"real".to_vec()).write(&disk.path().join("alias"));
    let memory = Memory::default();
    let real = put_small(&memory, &disk.path().join("real"));
    let alias = put_small(&memory, &disk.path().join("alias"));
    assert_eq!(real.address, alias.address);
    assert_eq!(alias.name.as_bytes(), b"alias");
    let dots = put_small(&memory, &disk.path().join("real/../real/."));
    assert_eq!(dots.name.as_bytes(), b"real");
}

#[test]
fn progress_ends_where_the_totals_do() {
    let disk = tempfile::tempdir().unwrap();
    let tree = folder([(b"a", file(noise(8, 9_000))), (b"b", folder([(b"c", file("c"))]))]);
    tree.write(&disk.path().join("top"));
    let memory = Memory::default();
    let last = Cell::new(Progress::default());
    let put = put_sized(&memory, &disk.path().join("top"), &|p| last.set(p), SMALL).unwrap();
    let totals = put.item.totals();
    assert_eq!((last.get().done.files, last.get().done.bytes), (totals.files, totals.bytes));
    assert!(last.get().total.is_none_or(|total| total == totals));
    let to = disk.path().join("to");
    get(&memory, put.address, None, &to, &|p| last.set(p)).unwrap();
    assert_eq!(last.get(), Progress { done: totals, total: Some(totals) });
}

fn many_small_files(count: usize, disk: &Path) {
    for i in 0..count {
        let folder = disk.join(format!("folder {}", i / 100));
        fs::create_dir_all(&folder).unwrap();
        fs::write(folder.join(format!("file {i}")), noise(i as u64, 200 + i % 4000)).unwrap();
    }
}

#[test]
fn many_small_files_in_few_round_trips() {
    let disk = tempfile::tempdir().unwrap();
    many_small_files(3000, disk.path());
    let memory = Memory::default();
    put(&memory, disk.path(), &quiet).unwrap();
    assert!(memory.missings.get() <= 5 && memory.puts.get() <= 6);
}
