//! The catalog, and finding things by the beginning of their address.

use super::{super::*, *};
use crate::files::record::wire;
use prost::Message;

fn put_named(memory: &Memory, name: &str, content: &[u8]) -> Put {
    put_reader(memory, name, content, &quiet).unwrap()
}

fn listed(memory: &Memory) -> Vec<String> {
    list(memory).unwrap().iter().map(|listed| listed.name.to_string()).collect()
}

#[test]
fn newest_first_and_each_once() {
    let memory = Memory::default();
    put_named(&memory, "a", b"1");
    put_named(&memory, "b", b"2");
    put_named(&memory, "c", b"1");
    assert_eq!(listed(&memory), ["c", "b", "a"]);
    put_named(&memory, "a", b"1");
    assert_eq!(listed(&memory), ["a", "c", "b"]);
    *memory.author.borrow_mut() = AuthorKey::from_bytes(&[2; 32]);
    put_named(&memory, "a", b"1");
    assert_eq!(listed(&memory), ["a", "a", "c", "b"]);
    let authors: BTreeSet<_> = list(&memory).unwrap().iter().map(|listed| listed.author).collect();
    assert_eq!(authors.len(), 2);
}

#[test]
fn bad_records_are_passed_over() {
    let memory = Memory::default();
    let good = put_named(&memory, "good", b"1");
    let item = good.item.encode();
    let record = |name: &[u8], item: &[u8]| {
        wire::Root { name: name.to_vec(), item: item.to_vec() }.encode_to_vec()
    };
    let add = |kind, data: Vec<u8>, signed| {
        let new = NewAspect { entry: catalog_entry(), kind, data: data.into(), signed };
        memory.put(vec![new]).unwrap();
    };
    add(ROOT, record(b"unsigned", &item), false);
    add(ITEM, record(b"another kind", &item), true);
    add(ROOT, b"\xff\xff\xff".to_vec(), true);
    add(ROOT, record(b"../evil", &item), true);
    add(ROOT, record(b"", &item), true);
    add(ROOT, record(b"no item", b""), true);
    add(ROOT, record(b"junk for an item", b"\xff"), true);
    assert_eq!(listed(&memory), ["good"]);
    assert_eq!(list(&memory).unwrap()[0].address, good.address);
}

#[test]
fn addresses_by_their_beginning() {
    let memory = Memory::default();
    // Two that begin alike, and the name each has.
    let mut seen = BTreeMap::new();
    let (one, other) = (0u32..)
        .find_map(|i| {
            let put = put_named(&memory, &format!("n{i}"), &i.to_le_bytes());
            let prefix = put.address.to_string()[..4].to_owned();
            seen.insert(prefix, put.clone()).map(|earlier| (earlier, put))
        })
        .unwrap();
    let text = one.address.to_string();
    match resolve(&memory, &text[..4].to_uppercase()) {
        Err(Error::Ambiguous { candidates, .. }) => {
            let mut expected = vec![(one.address, one.name), (other.address, other.name)];
            expected.sort();
            assert_eq!(candidates, expected);
        }
        got => panic!("{got:?}"),
    }
    assert_eq!(resolve(&memory, &text[..20]).unwrap(), one.address);
    assert_eq!(resolve(&memory, &text.to_uppercase()).unwrap(), one.address);
    // The same under two names is one candidate.
    put_named(&memory, "alias", b"alias");
    let again = put_named(&memory, "alias 2", b"alias");
    assert_eq!(resolve(&memory, &again.address.to_string()[..20]).unwrap(), again.address);
    // All digits need no catalog.
    let unknown = "0".repeat(64);
    assert_eq!(resolve(&Memory::default(), &unknown).unwrap(), EntryAddress([0; 32]));
    let none = format!("{}{}", &text[..19], if &text[19..20] == "0" { "1" } else { "0" });
    assert!(matches!(resolve(&memory, &none), Err(Error::UnknownPrefix(_))));
    let too_long = "0".repeat(65);
    for bad in ["", "abc", "notes.txt", "12 4", "é123", "\u{1b}[2J", too_long.as_str()] {
        assert!(matches!(resolve(&memory, bad), Err(Error::NotAnAddress(_))), "{bad}");
    }
}

#[test]
fn folders_are_listed_in_order() {
    let disk = tempfile::tempdir().unwrap();
    let top = disk.path().join("top");
    fs::create_dir_all(top.join("b/deep")).unwrap();
    fs::write(top.join("a"), "12345").unwrap();
    fs::write(top.join("b/deep/c"), "123").unwrap();
    let memory = Memory::default();
    let put = put_small(&memory, &top);
    let lines = |path| -> Vec<_> {
        let entries = list_folder(&memory, put.address, path).unwrap();
        let line = |entry: Entry| match entry.node {
            Node::Item(item) => (entry.name.to_string(), item.totals()),
            Node::Link(_) => panic!(),
        };
        entries.into_iter().map(line).collect()
    };
    let totals = |files, folders, bytes| Totals { files, folders, links: 0, bytes };
    assert_eq!(lines(None), [("a".to_owned(), totals(1, 0, 5)), ("b".to_owned(), totals(1, 1, 3))]);
    assert_eq!(lines(Some("b/deep")), [("c".to_owned(), totals(1, 0, 3))]);
    let error = list_folder(&memory, put.address, Some("a")).unwrap_err();
    assert!(matches!(error, Error::NotAFolder { .. }));
}
