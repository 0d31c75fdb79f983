//! Audits: a peer is asked to prove that it holds what it claims. What to ask for, and what the answer shows.

use std::time::Duration;

use crate::{
    aspect::{Aspect, AspectKey},
    id::NodeId,
    limits::MAX_AUDIT,
    ring::{ArcSet, Location, RingArc},
    session::{Filter, Holdings},
};

/// What was published later than so long ago is not asked for, since it may still be on its way; nor is what
/// expires so soon. A guess.
pub const SETTLED: Duration = Duration::from_secs(60);

/// Of so many times as many as may be asked for at least [`MAX_AUDIT`] are settled, mostly. A guess.
const CHOICE: usize = 4;

/// Proves, in an audit with this nonce, that an aspect is held: BLAKE3 keyed with the nonce over the id of
/// who proves it and the aspect's encoding.
pub fn audit_proof(nonce: &[u8; 32], prover: &NodeId, aspect: &Aspect) -> [u8; 32] {
    let mut hasher = blake3::Hasher::new_keyed(nonce);
    hasher.update(prover.as_bytes());
    hasher.update(aspect.encoding());
    *hasher.finalize().as_bytes()
}

/// What a peer may be asked for, of what is held in `arcs`: from a random place on, and over the top. Of
/// these the first [`MAX_AUDIT`] that are [`SETTLED`] are to be asked for, ascending.
///
/// # Errors
/// Where the store cannot be read.
pub fn audit_keys<H: Holdings>(
    holdings: &H,
    arcs: &ArcSet,
    at: Location,
) -> Result<Vec<AspectKey>, H::Error> {
    let upper = ArcSet::from(RingArc::between(at, Location(u32::MAX)));
    let (from, rest) = (arcs.intersect(&upper), arcs.difference(&upper));
    let mut keys = Vec::new();
    for (first, last) in from.spans().chain(rest.spans()) {
        let left = CHOICE * MAX_AUDIT - keys.len();
        if left == 0 {
            break;
        }
        let first = AspectKey { location: first, ..AspectKey::MIN };
        let last = AspectKey { location: last, ..AspectKey::MAX };
        keys.extend(holdings.list(first, last, &Filter::default(), left)?);
    }
    Ok(keys)
}

/// Whether the answer to an audit is as it should be. `asked` are the keys that were asked for, each with its
/// proof; `claimed` is what the peer claims by now, and `lacking` are those of the keys that are not held here
/// any more: of these nothing follows where the peer does not hold them either.
pub fn audit_passed(
    asked: &[(AspectKey, [u8; 32])],
    answer: &[Option<[u8; 32]>],
    claimed: &ArcSet,
    lacking: &[AspectKey],
) -> bool {
    let holds = |((key, proof), answer): (&(AspectKey, [u8; 32]), &Option<[u8; 32]>)| match answer {
        Some(answer) => answer == proof,
        None => !claimed.contains(key.location) || lacking.contains(key),
    };
    asked.len() == answer.len() && asked.iter().zip(answer).all(holds)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::id::AspectHash;

    fn key(location: u32) -> AspectKey {
        AspectKey { location: Location(location), hash: AspectHash([1; 32]) }
    }

    fn arcs(text: &str) -> ArcSet {
        text.parse().unwrap()
    }

    #[test]
    fn what_is_missing_counts_where_it_is_claimed_and_held() {
        let asked = [(key(5), [5; 32]), (key(9), [9; 32])];
        let (all, nothing) = (ArcSet::full(), ArcSet::empty());
        let right = [Some([5; 32]), Some([9; 32])];
        assert!(audit_passed(&asked, &right, &all, &[]));
        assert!(audit_passed(&asked, &right, &nothing, &[]));
        assert!(!audit_passed(&asked, &right[..1], &all, &[]));
        assert!(!audit_passed(&asked, &[], &nothing, &[]));
        // A wrong one is never right.
        assert!(!audit_passed(&asked, &[right[0], right[0]], &nothing, &[key(9)]));
        let one = [right[0], None];
        assert!(!audit_passed(&asked, &one, &all, &[]));
        assert!(audit_passed(&asked, &one, &all, &[key(9)]), "it has expired meanwhile");
        assert!(audit_passed(&asked, &one, &arcs("0..=8"), &[]), "it claims less by now");
    }
}
