//! Recorded conversations of two or three nodes.
//!
//! A file in this folder is a series of blocks: commands, `----`, what came of them, an empty line.
//! Lines that begin with # are for the reader. The output is what the first node sees: what it sends,
//! when it sends it, and what it receives, when it arrives. Each line has the message, how many items
//! it carries, the bytes of its frame, and what is worth knowing of its fields. Aspects are written as
//! location/hash, the hash cut short. What the tags of a Hello prove is known to the recording; the
//! node that receives them can tell only for spaces that it is in.
//!
//! `UPDATE_TRANSCRIPTS=1 cargo test -p arcwise-proto --test transcripts` records anew.
//!
//! | command | what happens |
//! |---|---|
//! | `new` | all nodes are forgotten |
//! | `node Alice notes=<store> photos=<store>/<target>` | a node in some spaces |
//! | `spaces Alice notes=...` | from now on it is in these spaces, with these arcs |
//! | `holds Alice 1..5, signed:7` | aspects get into its store, by no matter what way |
//! | `loses Alice 3` | and out of it |
//! | `restored Alice` | its store is another one with the same aspects and no history |
//! | `connect Alice Bob` | Alice dials Bob |
//! | `ping Alice Bob` | |
//! | `open Alice Bob since=<micros> again lists` | a session about notes; `again`: from where the last one ended; `lists`: by lists, however much there is |
//! | `broadcast Alice 9 to Bob Carol` | Alice authors something and pushes it |
//! | `deliver Alice Bob 2` | the next so many messages from Alice reach Bob; all, without a number |
//! | `store Alice` | what was handed over to be stored is durable |
//! | `answer Alice` | what was asked for is sent |
//! | `run` | all of that, until nothing is left to do |
//! | `say Bob Alice wants 3` | Bob sends what his machine would not: `wants`, `lists`, `gives`, `ends` |
//! | `compare Alice Bob` | whether they hold the same |
//!
//! Aspects are numbers: `5` lives at location 5. `signed:5` and `forged:5` are signed by somebody, for
//! this space or for another one.

#[path = "../model/mod.rs"]
mod model;
mod show;
mod world;

use std::{collections::BTreeSet, path::Path};

use model::settle;
use world::World;

/// Runs the commands of a recording and gives the recording as it is now.
fn replay(text: &str) -> String {
    let mut world = World::default();
    let (mut now, mut lines) = (String::new(), text.lines().enumerate());
    while let Some((at, line)) = lines.next() {
        now += line;
        now.push('\n');
        if line == "----" {
            now += &world.told();
            now.push('\n');
            lines.by_ref().take_while(|(_, line)| !line.is_empty()).for_each(drop);
        } else if !line.is_empty() && !line.starts_with('#') {
            let command = std::panic::AssertUnwindSafe(|| world.run(line));
            if let Err(panic) = std::panic::catch_unwind(command) {
                eprintln!("line {}: {line}", at + 1);
                std::panic::resume_unwind(panic);
            }
        }
    }
    now.truncate(now.trim_end().len());
    now + "\n"
}

fn check(name: &str) {
    let path = format!("transcripts/{name}.txt");
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests").join(&path);
    let text = std::fs::read_to_string(file).unwrap();
    settle("UPDATE_TRANSCRIPTS", &path, &replay(&text));
}

macro_rules! transcripts {
    ($($name:ident)*) => {
        $(#[test]
        fn $name() {
            check(stringify!($name));
        })*

        #[test]
        fn every_file_is_replayed() {
            let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/transcripts");
            let files = std::fs::read_dir(folder).unwrap().map(|file| file.unwrap().file_name());
            let names: BTreeSet<String> = files
                .filter_map(|name| Some(name.to_str()?.strip_suffix(".txt")?.to_owned()))
                .collect();
            assert_eq!(names, BTreeSet::from([$(stringify!($name).to_owned()),*]));
        }
    };
}

transcripts! {
    packets
    seed
    in_sync
    one_side_empty
    paging
    overlap
    published_since
    stored_after
    both_open
    gone
    forged
    broken_rules
    control
}

#[test]
fn the_seed_has_every_arrow_in_its_order() {
    let text = include_str!("seed.txt");
    let arrows =
        text.lines().filter_map(|line| match line.split_whitespace().collect::<Vec<_>>()[..] {
            ["Alice", arrow @ ("->" | "<-"), "Bob", message, ..] => Some((arrow, message)),
            _ => None,
        });
    let seed = [
        ("->", "msgHandshake"),
        ("<-", "msgHandshake"),
        ("->", "msgGspArcRequest"),
        ("<-", "msgGspAspectDataRequest"),
        ("->", "msgGspAspectDataResponse"),
        ("<-", "msgGspArcResponse"),
        ("->", "msgGspAspectDataRequest"),
        ("<-", "msgGspAspectDataResponse"),
        ("->", "msgGspAspectBroadcast"),
    ];
    let theirs = arrows.filter(|(_, message)| message.starts_with("msg"));
    assert_eq!(theirs.collect::<Vec<_>>(), seed);
}
