//! What the exchange is held against: negentropy, and the plain lists of gossip sessions.

use anyhow::Context;
use arcwise_proto::AspectKey;
use negentropy::{Id, Negentropy, NegentropyStorageVector};

use super::{Case, Cost, set::merged, timed};

/// Bytes of a key in a list: hash and location.
const KEY: u64 = 36;

/// Alice lists; Bob says what he lacks of that and lists what she lacks; she says what she lacks.
/// The lists are in order, and compared by merging them with what the other side holds.
pub fn lists(case: &Case<'_>) -> anyhow::Result<Cost> {
    let mut cost = Cost { messages: 3, ..Cost::default() };
    let mut alice = merged(case.shared, case.opener_only);
    let mut bob = merged(case.shared, case.answerer_only).peekable();
    let (mut he_lacks, mut she_lacks) = (0, 0);
    let mut page = Vec::new();
    loop {
        page.clear();
        timed(&mut cost.opener, || {
            for key in alice.by_ref().take(1800) {
                page.extend_from_slice(&key.location.0.to_be_bytes());
                page.extend_from_slice(&key.hash.0);
            }
        });
        cost.to_answerer += page.len() as u64;
        timed(&mut cost.answerer, || {
            for listed in page.as_chunks::<{ KEY as usize }>().0 {
                let bytes = |key: &AspectKey| {
                    let mut bytes = [0; KEY as usize];
                    bytes[..4].copy_from_slice(&key.location.0.to_be_bytes());
                    bytes[4..].copy_from_slice(&key.hash.0);
                    bytes
                };
                while bob.next_if(|key| bytes(key) < *listed).is_some() {
                    she_lacks += 1;
                }
                he_lacks += u64::from(bob.next_if(|key| bytes(key) == *listed).is_none());
            }
        });
        if page.is_empty() {
            break;
        }
    }
    she_lacks += bob.count() as u64;
    cost.to_opener = KEY * (he_lacks + she_lacks);
    cost.to_answerer += KEY * she_lacks;
    case.check(he_lacks, she_lacks)?;
    Ok(cost)
}

/// Negentropy with its storage in memory, items ordered by location. Building the storage is
/// the setup. Both know the outcome when the opener has named what she lacks.
pub fn negentropy(case: &Case<'_>) -> anyhow::Result<Cost> {
    let storage = |only| -> anyhow::Result<_> {
        let mut storage = NegentropyStorageVector::with_capacity(case.shared.len());
        for key in merged(case.shared, only) {
            storage.insert(key.location.0.into(), Id::from_byte_array(key.hash.0))?;
        }
        storage.seal()?;
        Ok(storage)
    };
    let mut cost = Cost::default();
    let ours = timed(&mut cost.setup, || storage(case.opener_only))?;
    let theirs = storage(case.answerer_only)?;
    let mut opener = Negentropy::borrowed(&ours, 0)?;
    let mut answerer = Negentropy::borrowed(&theirs, 0)?;
    let (mut have, mut need) = (Vec::new(), Vec::new());
    let mut query = Some(timed(&mut cost.opener, || opener.initiate())?);
    while let Some(bytes) = query {
        cost.to_answerer += bytes.len() as u64;
        let answer = timed(&mut cost.answerer, || answerer.reconcile(&bytes))?;
        cost.to_opener += answer.len() as u64;
        cost.messages += 2;
        query =
            timed(&mut cost.opener, || opener.reconcile_with_ids(&answer, &mut have, &mut need))?;
    }
    cost.to_answerer += 32 * need.len() as u64;
    cost.messages += u32::from(!need.is_empty());
    case.check(have.len() as u64, need.len() as u64).context("negentropy")?;
    Ok(cost)
}
