//! Where restored things go, and what is left of a restore that fails.

use super::{super::*, *};

fn folder_and_file() -> (TempDir, Memory, Put, Put) {
    let disk = tempfile::tempdir().unwrap();
    fs::create_dir_all(disk.path().join("top/sub")).unwrap();
    fs::write(disk.path().join("top/sub/notes.txt"), noise(1, 9_000)).unwrap();
    fs::write(disk.path().join("top/other"), "other").unwrap();
    let memory = Memory::default();
    let folder = put_small(&memory, &disk.path().join("top"));
    let file = put_small(&memory, &disk.path().join("top/sub/notes.txt"));
    (disk, memory, folder, file)
}

#[test]
fn nothing_that_exists_is_replaced() {
    let (disk, memory, folder, file) = folder_and_file();
    let at = |name: &str| disk.path().join(name);
    fs::write(at("taken"), "mine").unwrap();
    #[cfg(unix)]
    std::os::unix::fs::symlink("nowhere", at("dangling")).unwrap();
    for name in if cfg!(unix) { &["taken", "dangling"][..] } else { &["taken"][..] } {
        for item in [&folder, &file] {
            let error = get(&memory, item.address, None, &at(name), &quiet).unwrap_err();
            assert!(matches!(error, Error::Exists(_)), "{error}");
        }
    }
    let error = get(&memory, folder.address, None, &at("top"), &quiet).unwrap_err();
    assert!(matches!(error, Error::NotEmpty { .. }), "{error}");
    let error = get(&memory, folder.address, None, &at("no/where"), &quiet).unwrap_err();
    assert!(matches!(error, Error::NoParent(_)), "{error}");
    let error = get(&memory, file.address, None, &at("no/where"), &quiet).unwrap_err();
    assert!(matches!(error, Error::NoParent(_)), "{error}");
    assert_eq!(fs::read(at("taken")).unwrap(), b"mine");
    assert!(!at("nowhere").exists());
}

#[test]
fn an_empty_folder_is_filled_and_stays_itself() {
    let (disk, memory, folder, _) = folder_and_file();
    let to = disk.path().join("empty");
    fs::create_dir(&to).unwrap();
    #[cfg(unix)]
    let before = std::os::unix::fs::MetadataExt::ino(&fs::metadata(&to).unwrap());
    get(&memory, folder.address, None, &to, &quiet).unwrap();
    #[cfg(unix)]
    assert_eq!(std::os::unix::fs::MetadataExt::ino(&fs::metadata(&to).unwrap()), before);
    assert_eq!(names(&to), ["other".into(), "sub".into()].into());
    assert_eq!(fs::read(to.join("sub/notes.txt")).unwrap(), noise(1, 9_000));
}

#[test]
fn a_file_goes_into_a_folder_under_its_name() {
    let (disk, memory, folder, file) = folder_and_file();
    let to = disk.path().join("to");
    fs::create_dir(&to).unwrap();
    let restored = get(&memory, file.address, None, &to, &quiet).unwrap();
    assert_eq!(restored.path, to.join("notes.txt"));
    fs::remove_file(to.join("notes.txt")).unwrap();
    // A stranger gives the same content another name: now neither is believed.
    *memory.author.borrow_mut() = AuthorKey::from_bytes(&[2; 32]);
    put_reader(&memory, ".bashrc", &noise(1, 9_000)[..], &quiet).unwrap();
    let small = put::put_reader_sized(&memory, ".bashrc", &noise(1, 9_000)[..], &quiet, SMALL);
    assert_eq!(small.unwrap().address, file.address);
    let restored = get(&memory, file.address, None, &to, &quiet).unwrap();
    assert_eq!(restored.path, to.join(file.address.to_string()));
    let restored = get(&memory, folder.address, Some("sub/notes.txt"), &to, &quiet).unwrap();
    assert_eq!(restored.path, to.join("notes.txt"));
}

#[cfg(unix)]
#[test]
fn restored_things_are_as_open_as_new_ones() {
    use std::os::unix::fs::PermissionsExt;
    let (disk, memory, folder, file) = folder_and_file();
    let mode = |name: &str| fs::metadata(disk.path().join(name)).unwrap().permissions().mode();
    get(&memory, folder.address, None, &disk.path().join("folder"), &quiet).unwrap();
    get(&memory, file.address, None, &disk.path().join("file"), &quiet).unwrap();
    for (restored, new) in [
        ("folder", "top"),
        ("folder/sub", "top/sub"),
        ("folder/other", "top/other"),
        ("file", "top/other"),
    ] {
        assert_eq!(mode(restored), mode(new), "{restored}");
    }
}

#[test]
fn an_interrupted_restore_leaves_nothing() {
    let (disk, memory, folder, file) = folder_and_file();
    for item in [&folder, &file] {
        let mut reads = 0;
        loop {
            memory.reads_left.set(Some(reads));
            match try_get(&memory, item.address) {
                Ok(_) => break,
                Err(error) => assert!(matches!(error, Error::Node(_)), "{error}"),
            }
            // An existing folder is left as it was: empty.
            let empty = disk.path().join(format!("empty {reads}"));
            fs::create_dir(&empty).unwrap();
            memory.reads_left.set(Some(reads));
            get(&memory, item.address, None, &empty, &quiet).unwrap_err();
            assert_eq!(names(&empty), BTreeSet::new());
            fs::remove_dir(empty).unwrap();
            reads += 1;
        }
        assert!(reads > 20, "{reads}");
    }
}

#[test]
fn every_missing_object_is_named() {
    let (_disk, memory, folder, _) = folder_and_file();
    let all: Vec<_> = memory.held.borrow().keys().copied().collect();
    let mut named = 0;
    for entry in all {
        let aspects = memory.held.borrow_mut().remove(&entry).unwrap();
        match try_get(&memory, folder.address) {
            Ok(_) => {}
            Err(Error::Missing(name)) => {
                assert_eq!(name.address, entry);
                assert!(aspects.iter().any(|aspect| name.is(aspect)));
                named += 1;
            }
            Err(other) => panic!("{other}"),
        }
        memory.held.borrow_mut().insert(entry, aspects);
    }
    // All but the catalog's record and the file's own item.
    assert_eq!(named, memory.held.borrow().len() - 2);
}

#[test]
fn what_does_not_fit_the_question() {
    let (disk, memory, folder, file) = folder_and_file();
    let to = disk.path().join("to");
    let get = |address, path| get(&memory, address, Some(path), &to, &quiet).unwrap_err();
    assert!(matches!(get(folder.address, "sub/none"), Error::NoSuchPath { .. }));
    assert!(matches!(get(folder.address, "zzz"), Error::NoSuchPath { .. }));
    assert!(matches!(get(folder.address, "other/x"), Error::NotAFolder { .. }));
    assert!(matches!(get(folder.address, "sub/../other"), Error::BadPath { .. }));
    assert!(matches!(get(file.address, "x"), Error::NotAFolder { .. }));
    let cat = |path| cat(&memory, folder.address, path, Vec::new());
    assert!(matches!(cat(None), Err(Error::IsAFolder { .. })));
    assert!(matches!(cat(Some("sub")), Err(Error::IsAFolder { .. })));
    assert_eq!(cat(Some("/sub//./notes.txt")).unwrap(), 9_000);
}
