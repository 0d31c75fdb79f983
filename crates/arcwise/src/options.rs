//! What a space is told when a node enters it.

use std::{fmt, str::FromStr};

use arcwise_proto::{ArcSet, Location, NodeId, RingArc, SpaceId, swarm::Copies};
use arcwise_store::{Limits, Store, StoreError};

/// Which part of the ring a node holds or fills.
#[derive(Clone, Debug, Default, PartialEq)]
pub enum Share {
    /// As much as is needed for the space to have enough copies of everything: all while there are few
    /// nodes, and less the more there are.
    #[default]
    Auto,
    /// This part of it, from 0 to 1, around the node's own location.
    Fraction(f64),
    /// Just these arcs.
    Arcs(ArcSet),
}

impl Share {
    /// All of it, always.
    pub const FULL: Share = Share::Fraction(1.0);

    /// Nothing.
    pub const EMPTY: Share = Share::Fraction(0.0);

    /// The arcs, where they are fixed.
    pub(crate) fn arcs(&self, space: &SpaceId, node: &NodeId) -> Option<ArcSet> {
        match self {
            Share::Auto => None,
            Share::Arcs(arcs) => Some(arcs.clone()),
            Share::Fraction(part) => {
                let len = (part.clamp(0.0, 1.0) * 2f64.powi(32)).round() as u64;
                Some(RingArc::around(Location::of_node(space, node), len).into())
            }
        }
    }
}

impl fmt::Display for Share {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Share::Auto => f.write_str("auto"),
            Share::Fraction(part) if *part >= 1.0 => f.write_str("full"),
            Share::Fraction(part) if *part <= 0.0 => f.write_str("empty"),
            Share::Fraction(part) => write!(f, "{part}"),
            Share::Arcs(arcs) => {
                let spans =
                    arcs.spans().map(|(first, last)| format!("{:08x}-{:08x}", first.0, last.0));
                f.write_str(&spans.collect::<Vec<_>>().join(","))
            }
        }
    }
}

/// Text that is no [`Share`].
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "`{0}` is no part of the ring: write `auto`, `full`, `empty`, a number between 0 and 1, or arcs as \
     `first-last` in 8 hexadecimal digits each, with commas between them"
)]
pub struct ParseShareError(String);

impl FromStr for Share {
    type Err = ParseShareError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let error = || ParseShareError(text.to_owned());
        let location = |hex: &str| match hex.len() {
            8 => u32::from_str_radix(hex, 16).map(Location).map_err(|_| error()),
            _ => Err(error()),
        };
        match text {
            "auto" => return Ok(Share::Auto),
            "full" => return Ok(Share::FULL),
            "empty" => return Ok(Share::EMPTY),
            _ => {}
        }
        if let Ok(part) = text.parse::<f64>() {
            return (0.0..=1.0).contains(&part).then_some(Share::Fraction(part)).ok_or_else(error);
        }
        let arcs = text.split(',').map(|arc| {
            let (first, last) = arc.split_once('-').ok_or_else(error)?;
            Ok(RingArc::between(location(first)?, location(last)?))
        });
        Ok(Share::Arcs(arcs.collect::<Result<_, _>>()?))
    }
}

/// What a space is told when a node enters it. All of it but [`Limits::max_age`] and `copies`, which are
/// the space's for good, can be changed later.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct SpaceOptions {
    /// How much it may hold here, and for how long.
    pub limits: Limits,
    /// How many copies there are to be.
    pub copies: Copies,
    /// Which part of the ring the node holds or fills.
    pub share: Share,
}

impl From<Limits> for SpaceOptions {
    fn from(limits: Limits) -> Self {
        Self { limits, ..Self::default() }
    }
}

fn key(space: &SpaceId) -> String {
    format!("swarm {}", space.fingerprint())
}

/// Keeps what of the options is not the store's own.
pub(crate) fn save(
    store: &Store,
    space: &SpaceId,
    copies: Copies,
    share: &Share,
) -> Result<(), StoreError> {
    let text = format!("copies {} {}\nshare {share}\n", copies.min(), copies.target());
    store.put_setting(&key(space), text.as_bytes())
}

/// What was kept. Where nothing was, by an earlier version, `target` says which part of the ring was
/// chosen.
pub(crate) fn load(
    store: &Store,
    space: &SpaceId,
    target: ArcSet,
) -> Result<(Copies, Share), StoreError> {
    let text = store.setting(&key(space))?.unwrap_or_default();
    let text = String::from_utf8_lossy(&text).into_owned();
    let value = |name| text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
    let copies = value("copies").and_then(|copies| {
        let (min, target) = copies.split_once(' ')?;
        Copies::new(min.parse().ok()?, target.parse().ok()?).ok()
    });
    let share = value("share").and_then(|share| share.parse().ok());
    let chosen = if target.is_full() { Share::Auto } else { Share::Arcs(target) };
    Ok((copies.unwrap_or_default(), share.unwrap_or(chosen)))
}

/// The space is left.
pub(crate) fn forget(store: &Store, space: &SpaceId) -> Result<(), StoreError> {
    store.put_setting(&key(space), b"")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_are_read_as_they_are_written() {
        let arcs = |first, last| ArcSet::from(RingArc::between(Location(first), Location(last)));
        let two = arcs(5, 9).union(&arcs(0xffff_fff0, 2));
        for share in [
            Share::Auto,
            Share::FULL,
            Share::EMPTY,
            Share::Fraction(0.25),
            Share::Arcs(arcs(5, 9)),
            Share::Arcs(two),
        ] {
            assert_eq!(share.to_string().parse(), Ok(share));
        }
        for bad in ["", "1.5", "-0.1", "half", "5-9", "00000005", "00000005-xxxxxxxx", "NaN"] {
            assert!(bad.parse::<Share>().is_err(), "{bad}");
        }
    }

    #[test]
    fn a_fraction_lies_around_the_node() {
        let (space, node) = (SpaceId([1; 32]), NodeId([2; 32]));
        let arcs = Share::Fraction(0.1).arcs(&space, &node).unwrap();
        assert!((arcs.fraction() - 0.1).abs() < 1e-6);
        let at = Location::of_node(&space, &node);
        assert!(arcs.contains(at));
        let far = Location(at.0.wrapping_add((0.051 * 2f64.powi(32)) as u32));
        assert!(!arcs.contains(far));
        assert!(Share::FULL.arcs(&space, &node).unwrap().is_full());
        assert!(Share::EMPTY.arcs(&space, &node).unwrap().is_empty());
    }
}
