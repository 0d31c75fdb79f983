//! What a node says of its spaces on the local network, where everybody listens: nothing but to those who
//! are in them.

use data_encoding::BASE32_NOPAD;

use crate::id::{NodeId, SpaceId};

/// Bytes of what stands for a space. Whoever is in it and meets another node's by chance, once in 2^40, dials
/// it once.
const TAG: usize = 5;

/// The text is filled up to a multiple of so many tags.
const PADDING: usize = 8;

/// The text has room for so many: it has to fit a string of DNS, with what iroh writes around it. Further
/// spaces are not announced.
const MAX_TAGS: usize = 24;

/// What `node` announces: a tag for each of its spaces, and random ones that hide how many there are, sorted.
/// A tag is the first 5 bytes of BLAKE3 `keyed_hash(derive_key("arcwise 1 local network", space id), node id)`,
/// as 8 characters of base32 (RFC 4648, lower case). So it says nothing to who does not know the space's id,
/// not even that two nodes are in the same one. `seed` is 32 random bytes, the same as long as the node runs.
pub fn announcement(node: &NodeId, spaces: &[SpaceId], seed: &[u8; 32]) -> String {
    let mut tags: Vec<[u8; TAG]> = spaces.iter().map(|id| tag(node, id)).take(MAX_TAGS).collect();
    let padded = tags.len().max(1).next_multiple_of(PADDING);
    for i in tags.len()..padded {
        let mut hasher = blake3::Hasher::new_keyed(seed);
        hasher.update(&(i as u64).to_le_bytes());
        tags.push(prefix(&hasher));
    }
    let mut tags: Vec<_> = tags.iter().map(|tag| BASE32_NOPAD.encode(tag)).collect();
    tags.sort_unstable();
    tags.concat().to_ascii_lowercase()
}

/// Those of our spaces that `node` has announced with this text. Whether it is in them shows when it is
/// connected: anybody may repeat what it has heard.
pub fn announced(node: &NodeId, text: &str, ours: &[SpaceId]) -> Vec<SpaceId> {
    let text = text.to_ascii_uppercase();
    let (tags, _) = text.as_bytes().as_chunks::<8>();
    let tags: Vec<_> = tags.iter().take(MAX_TAGS).collect();
    let is_there = |id: &&SpaceId| {
        let wanted = BASE32_NOPAD.encode(&tag(node, id));
        tags.iter().any(|tag| tag.as_slice() == wanted.as_bytes())
    };
    ours.iter().filter(is_there).copied().collect()
}

fn tag(node: &NodeId, space: &SpaceId) -> [u8; TAG] {
    let key = blake3::derive_key("arcwise 1 local network", space.as_bytes());
    let mut hasher = blake3::Hasher::new_keyed(&key);
    hasher.update(node.as_bytes());
    prefix(&hasher)
}

fn prefix(hasher: &blake3::Hasher) -> [u8; TAG] {
    let mut tag = [0; TAG];
    tag.copy_from_slice(&hasher.finalize().as_bytes()[..TAG]);
    tag
}

#[cfg(test)]
mod tests {
    use super::*;

    const NODE: NodeId = NodeId([1; 32]);

    fn spaces(range: std::ops::Range<u8>) -> Vec<SpaceId> {
        range.map(|n| SpaceId([n; 32])).collect()
    }

    #[test]
    fn who_is_in_a_space_hears_it() {
        let text = announcement(&NODE, &spaces(0..3), &[7; 32]);
        assert_eq!(announced(&NODE, &text, &spaces(2..5)), spaces(2..3));
        assert_eq!(announced(&NODE, &text, &spaces(0..3)), spaces(0..3));
        assert_eq!(announced(&NODE, &text, &spaces(3..9)), []);
        assert_eq!(announced(&NodeId([2; 32]), &text, &spaces(0..3)), [], "not its own words");
    }

    #[test]
    fn nobody_else_learns_anything() {
        let text = |node, n| announcement(&node, &spaces(0..n), &[7; 32]);
        // Neither how many there are,
        assert!((0..=8).all(|n| text(NODE, n).len() == 64) && text(NODE, 9).len() == 128);
        // nor whether another node is in the same.
        let (one, other) = (text(NODE, 8), text(NodeId([2; 32]), 8));
        let tags = |text: &str| text.as_bytes().as_chunks::<8>().0.to_vec();
        assert!(tags(&one).iter().all(|tag| !tags(&other).contains(tag)));
        assert!(tags(&one.to_ascii_uppercase()).is_sorted());
    }

    #[test]
    fn it_fits_whatever_is_said() {
        let text = announcement(&NODE, &spaces(0..200), &[7; 32]);
        assert_eq!(text.len(), 192);
        assert_eq!(announced(&NODE, &text, &spaces(0..200)).len(), 24);
        for bad in ["", "a", "\u{e9}\u{e9}\u{e9}\u{e9}", &"=".repeat(80), &"a".repeat(100_000)] {
            assert_eq!(announced(&NODE, bad, &spaces(0..9)), []);
        }
    }
}
