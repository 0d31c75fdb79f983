//! How messages look in a recording.

use arcwise_proto::{
    Aspect, AspectKey,
    session::{Position, Report},
    wire::{ArcRequest, Handshake, Hello, Message, Open, Page, Ping, Pong},
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
        Message::ArcRequest(ArcRequest { open, page: Page { keys, through } }) => {
            let open = open.as_ref().map(opening).unwrap_or_default();
            let end = through.as_ref().map_or("last".to_owned(), |k| format!("through {}", key(k)));
            format!("{open}{}, {end}", listed(keys))
        }
        Message::ArcResponse(m) => {
            let end = match (m.last, &m.position) {
                (false, _) => "more follows".to_owned(),
                (true, None) => "last, no position".to_owned(),
                (true, Some(at)) => format!("last, at {}", position(at)),
            };
            format!("{}, {end}", listed(&m.keys))
        }
        Message::AspectDataRequest(m) => format!("wants {}", listed(&m.keys)),
        Message::AspectDataResponse(m) if m.gone.is_empty() => carried(&m.aspects),
        Message::AspectDataResponse(m) => {
            format!("{}, gone {}", carried(&m.aspects), listed(&m.gone))
        }
        Message::AspectBroadcast(m) => format!("space {}: {}", m.space, carried(&m.aspects)),
        Message::Ping(Ping(nonce)) | Message::Pong(Pong(nonce)) => nonce.to_string(),
        Message::Error(m) => format!("{:?}: {}", m.code, m.detail),
        Message::Direct(_) | Message::Query(_) => String::new(),
    }
}

fn opening(open: &Open) -> String {
    let since = open.published_since.map(|at| format!(", since {at}")).unwrap_or_default();
    let after = open.stored_after.map(|at| format!(", after {}", position(&at)));
    let (after, at) = (after.unwrap_or_default(), position(&open.position));
    format!("space {} in {}{since}{after}, at {at}; ", open.space, open.arcs)
}

pub(crate) fn report(report: &Report) -> String {
    let mut parts = vec![
        format!("listed {}, heard {}", report.listed, report.heard),
        format!("fetched {}, sent {}", report.fetched, report.sent),
    ];
    parts.extend((report.rejected > 0).then(|| format!("rejected {}", report.rejected)));
    parts.extend((report.gone > 0).then(|| format!("gone {}", report.gone)));
    parts.push(match &report.positions {
        None => "no positions".to_owned(),
        Some((ours, theirs)) => format!("positions {} and {}", position(ours), position(theirs)),
    });
    parts.join("; ")
}
