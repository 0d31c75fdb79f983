//! Stores as older versions have left them: `tests/formats/` has one of each format, made by the version
//! that wrote it. Each holds ten aspects of one space; from that of format 2 one was removed.

use std::{fs, path::Path};

use crate::common::*;
use arcwise_proto::{ArcSet, Aspect, EntryAddress, Time, session::Holdings};
use arcwise_store::Limits;

fn stored(n: u64) -> Aspect {
    let mut entry = [0; 32];
    entry[..8].copy_from_slice(&n.to_le_bytes());
    let data = vec![n as u8; n as usize * 300];
    Aspect::new(EntryAddress(entry), 1, Time::from_micros(n), &data).unwrap()
}

#[test]
fn every_older_format_is_brought_up_to_date() {
    for format in [1, 2] {
        let folder = tempfile::tempdir().unwrap();
        let old = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("tests/formats/{format}"));
        copy(&old, folder.path());
        let mut aspects: Vec<_> = (0..10).map(stored).collect();
        if format == 2 {
            aspects.remove(3);
        }
        for time in 0..2 {
            let (store, space) = open_space(folder.path());
            let line = fs::read_to_string(folder.path().join("FORMAT")).unwrap();
            assert_eq!(line, "arcwise store, format 3\n");
            assert_eq!((space.name(), space.limits()), ("a space", Limits::default()));
            assert_eq!((space.target(), space.held()), (ArcSet::full(), ArcSet::full()));
            let held: Vec<_> = space.since(0, 100).unwrap().into_iter().map(|(_, a)| a).collect();
            assert_eq!(held, aspects, "format {format}, opened {time}");
            assert_eq!(space.lacks(&keys(&aspects)).unwrap(), []);
            assert_sound(&store);
            let new = numbered(time, 2000);
            assert_eq!(space.insert(vec![new.clone()]).unwrap(), [true]);
            aspects.push(new);
        }
    }
}
