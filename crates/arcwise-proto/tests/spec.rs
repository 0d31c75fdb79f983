//! PROTOCOL.md says what the schema and the code say.

use std::path::{Path, PathBuf};

use arcwise_proto::{limits::*, swarm::MAX_RECORD_LIFE, wire::Kind};

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

fn read(path: &str) -> String {
    std::fs::read_to_string(root().join(path)).unwrap()
}

/// Whether a table of the specification has a row that begins with these cells.
fn row(spec: &str, cells: &[String]) -> bool {
    let begins = format!("| {} |", cells.join(" | "));
    spec.lines().any(|line| line.starts_with(&begins))
}

/// The lines of one enum of the schema: names and numbers.
fn enumeration(name: &str) -> Vec<(String, String)> {
    let schema = read("crates/arcwise-proto/proto/arcwise.proto");
    let (_, body) = schema.split_once(&format!("enum {name} {{")).unwrap();
    let (body, _) = body.split_once('}').unwrap();
    let lines = body.lines().filter(|line| !line.trim_start().starts_with("//"));
    lines
        .filter_map(|line| {
            let (name, number) = line.split(';').next()?.split_once(" = ")?;
            Some((name.trim().to_owned(), number.to_owned()))
        })
        .collect()
}

#[test]
fn every_message_has_a_section() {
    let spec = read("PROTOCOL.md");
    for kind in Kind::ALL {
        let heading = format!("### {}", kind.name());
        assert!(spec.lines().any(|line| line == heading), "no section about {kind}");
    }
}

#[test]
fn types_are_those_of_the_schema() {
    let spec = read("PROTOCOL.md");
    let types = enumeration("MessageType");
    assert_eq!(types.len(), Kind::ALL.len() + 1, "one is unspecified");
    for kind in Kind::ALL {
        let max = match kind.max_len() {
            MAX_FRAME => "`MAX_FRAME`".to_owned(),
            MAX_DATA_FRAME => "`MAX_DATA_FRAME`".to_owned(),
            len => len.to_string(),
        };
        let number = (*kind as u8).to_string();
        assert!(row(&spec, &[number.clone(), kind.name().to_owned(), max]), "{kind}");
        let (name, _) = types.iter().find(|(_, n)| *n == number).unwrap();
        let plain = kind.name().trim_start_matches("msg").to_uppercase();
        assert_eq!(name.replace('_', ""), plain);
    }
}

#[test]
fn error_codes_are_those_of_the_schema() {
    let spec = read("PROTOCOL.md");
    let codes = enumeration("ErrorCode");
    assert!(codes.len() > 10);
    for (name, number) in codes {
        assert!(row(&spec, &[number, name.clone()]), "{name}");
    }
}

#[test]
fn limits_are_those_of_the_code() {
    let spec = read("PROTOCOL.md");
    let numbers = [
        ("MAX_ASPECT_DATA", MAX_ASPECT_DATA),
        ("ASPECT_OVERHEAD", ASPECT_OVERHEAD),
        ("MAX_DATA_FRAME", MAX_DATA_FRAME),
        ("MAX_FRAME", MAX_FRAME),
        ("DATA_FRAME_TARGET", DATA_FRAME_TARGET),
        ("PAGE_KEYS", PAGE_KEYS),
        ("LIST_ITEMS", LIST_ITEMS as usize),
        ("LIST_WINDOW", LIST_WINDOW),
        ("MAX_WANTS", MAX_WANTS),
        ("MAX_ARCS", MAX_ARCS),
        ("MAX_SPACES", MAX_SPACES),
        ("MAX_TEXT", MAX_TEXT),
        ("MAX_DIRECT", MAX_DIRECT),
        ("MAX_RECORD", MAX_RECORD),
        ("MAX_RECORD_ARCS", MAX_RECORD_ARCS),
        ("MAX_ADDRESSES", MAX_ADDRESSES),
        ("MAX_PEERS", MAX_PEERS),
        ("MAX_AUDIT", MAX_AUDIT),
    ];
    for (name, number) in numbers {
        assert!(row(&spec, &[format!("`{name}`"), number.to_string()]), "{name} is {number}");
    }
    let idle = format!("{} s", SESSION_IDLE.as_secs());
    assert!(row(&spec, &["`SESSION_IDLE`".to_owned(), idle]));
    let life = format!("{} days", MAX_RECORD_LIFE.as_secs() / 86_400);
    assert!(row(&spec, &["`MAX_RECORD_LIFE`".to_owned(), life]));
    let source = read("crates/arcwise-proto/src/limits.rs");
    let constants = source.lines().filter(|line| line.starts_with("pub const")).count();
    assert_eq!(constants, numbers.len() + 1, "a limit is missing here or in PROTOCOL.md");
}

#[test]
fn links_lead_somewhere() {
    let spec = read("PROTOCOL.md");
    let heading = |line: &str| {
        let title = line.trim_start_matches('#').trim().to_lowercase();
        let kept = title.chars().filter(|c| c.is_alphanumeric() || " -".contains(*c));
        kept.collect::<String>().replace(' ', "-")
    };
    let anchors: Vec<String> = spec.lines().filter(|l| l.starts_with('#')).map(heading).collect();
    let links = spec.split("](").skip(1).filter_map(|rest| rest.split(')').next());
    for link in links.filter(|link| !link.starts_with("https://")) {
        match link.strip_prefix('#') {
            Some(anchor) => assert!(anchors.iter().any(|a| a == anchor), "no heading {anchor}"),
            None => assert!(root().join(link).exists(), "no file {link}"),
        }
    }
}
