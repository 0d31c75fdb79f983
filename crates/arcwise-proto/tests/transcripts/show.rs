//! How messages look in a recording.

use arcwise_proto::{
    Aspect, AspectKey,
    reconcile::exchange::{
        Packet,
        packet::{Element, Reply},
    },
    session::{Position, Report},
    wire::{
        ArcRequest, ArcResponse, AspectDataRequest, Body, Handshake, Hello, Message, Open, Page,
        Ping, Pong,
    },
};

/// Hashes that are written out; the others are only counted.
const SHOWN: usize = 3;

pub(crate) fn key(key: &AspectKey) -> String {
    format!("{}/{}", key.location, &key.hash.short()[..6])
}

fn keys(keys: impl ExactSizeIterator<Item = AspectKey>) -> String {
    let more = keys.len().saturating_sub(SHOWN);
    let mut shown: Vec<String> = keys.take(SHOWN).map(|k| key(&k)).collect();
    match more {
        0 => {}
        n => shown.push(format!("+{n}")),
    }
    if shown.is_empty() { "none".to_owned() } else { shown.join(" ") }
}

fn listed(list: &[AspectKey]) -> String {
    keys(list.iter().copied())
}

fn carried(aspects: &[Aspect]) -> String {
    keys(aspects.iter().map(Aspect::key))
}

/// A position, its epoch in hexadecimal.
fn position(position: &Position) -> String {
    format!("{:x}:{}", position.epoch, position.count)
}

/// What is worth knowing of a message's fields. `proven` are the names of the spaces that the tags of
/// a Hello, or the tag of a handshake, stand for.
pub(crate) fn detail(message: &Message, proven: &[&str]) -> String {
    match message {
        Message::Hello(Hello { version_min, version_max, tags, .. }) => {
            let proven = if proven.is_empty() { "nothing".to_owned() } else { proven.join(", ") };
            format!("versions {version_min} to {version_max}, {} tags prove {proven}", tags.len())
        }
        Message::Handshake(Handshake { space, store, target, count, .. }) => {
            let name = proven.first().unwrap_or(&"nothing");
            format!("{name} is space {space}, store {store}, target {target}, {count} held")
        }
        Message::ArcRequest(ArcRequest { open, body: Body::Packet(packet) }) => {
            format!("{}{}", open.as_ref().map(opening).unwrap_or_default(), compared(packet))
        }
        Message::ArcResponse(ArcResponse { body: Body::Packet(packet) })
        | Message::AspectDataRequest(AspectDataRequest { body: Body::Packet(packet) }) => {
            compared(packet)
        }
        Message::ArcRequest(ArcRequest { open, body: Body::List(Page { keys, through }) }) => {
            let open = open.as_ref().map(opening).unwrap_or_default();
            let end = through.as_ref().map_or("last".to_owned(), |k| format!("through {}", key(k)));
            format!("{open}{}, {end}", listed(keys))
        }
        Message::ArcResponse(ArcResponse { body: Body::List(m) }) => {
            let end = match (m.last, &m.position) {
                (false, _) => "more follows".to_owned(),
                (true, None) => "last, no position".to_owned(),
                (true, Some(at)) => format!("last, at {}", position(at)),
            };
            format!("{}, {end}", listed(&m.keys))
        }
        Message::AspectDataRequest(AspectDataRequest { body: Body::List(keys) }) => {
            format!("wants {}", listed(keys))
        }
        Message::AspectDataResponse(m) if m.gone.is_empty() => carried(&m.aspects),
        Message::AspectDataResponse(m) => {
            format!("{}, gone {}", carried(&m.aspects), listed(&m.gone))
        }
        Message::AspectBroadcast(m) => format!("space {}: {}", m.space, carried(&m.aspects)),
        Message::Ping(Ping { digests, .. }) => {
            let told =
                digests.iter().map(|d| format!("{} held in space {}", d.digest.count, d.space));
            told.collect::<Vec<_>>().join(", ")
        }
        Message::Pong(Pong { differing, .. }) if differing.is_empty() => "the same".to_owned(),
        Message::Pong(Pong { differing, .. }) => format!("not the same in {differing:?}"),
        Message::Error(m) => format!("{:?}: {}", m.code, m.detail),
        _ => String::new(),
    }
}

fn opening(open: &Open) -> String {
    let since = open.published_since.map(|at| format!(", since {at}")).unwrap_or_default();
    let after = open.stored_after.map(|at| format!(", after {}", position(&at)));
    let at = open.position.map(|at| format!(", at {}", position(&at)));
    let (after, at) = (after.unwrap_or_default(), at.unwrap_or_default());
    format!("space {} in {}{since}{after}{at}; ", open.space, open.arcs)
}

/// What a packet of a comparison says.
fn compared(packet: &Packet) -> String {
    match packet {
        Packet::Open(open) => format!("open: {} held, {} syndromes", open.count, open.sketch.len()),
        Packet::Same => "same".to_owned(),
        Packet::Stream { count } => format!("stream: {count} held"),
        Packet::Found { theirs, want, .. } => format!("found: has {theirs}, wants {}", want.len()),
        Packet::Pieces { count, elements, .. } => {
            let (mut syndromes, mut ids) = (0, 0);
            for element in elements {
                match element {
                    Element::Extend(sketch) | Element::Sketch { sketch, .. } => {
                        syndromes += sketch.len();
                    }
                    Element::List { list, .. } => ids += list.ids.len(),
                }
            }
            let pieces = elements.len();
            format!("pieces: {count} held, {pieces} with {syndromes} syndromes and {ids} ids")
        }
        Packet::Want(wants) => {
            let ids = wants.iter().map(|want| want.list.ids.len()).sum::<usize>();
            format!("want: {ids} of {} pieces", wants.len())
        }
        Packet::Failed { pieces, .. } => format!("failed: {} pieces", pieces.len()),
        Packet::Close => "close".to_owned(),
        Packet::Claim { theirs, .. } => format!("claim: sends {theirs}"),
        Packet::Probe(probes) => format!("probe: {} runs", probes.len()),
        Packet::Differ { replies, .. } => {
            let same = replies.iter().filter(|reply| **reply == Reply::Same).count();
            format!("differ: {} of {} runs", replies.len() - same, replies.len())
        }
        Packet::Done => "done".to_owned(),
    }
}

pub(crate) fn report(report: &Report) -> String {
    let compared = match &report.comparison {
        None => format!("listed {}, heard {}", report.listed, report.heard),
        Some(c) => format!("{:?}: {} ours, {} theirs", c.method, c.ours, c.theirs),
    };
    let mut parts = vec![compared, format!("fetched {}, sent {}", report.fetched, report.sent)];
    parts.extend((report.rejected > 0).then(|| format!("rejected {}", report.rejected)));
    parts.extend((report.gone > 0).then(|| format!("gone {}", report.gone)));
    parts.push(match &report.positions {
        None => "no positions".to_owned(),
        Some((ours, theirs)) => format!("positions {} and {}", position(ours), position(theirs)),
    });
    parts.join("; ")
}
