//! The peer records that are kept, so that a restart needs no ticket.

use arcwise_proto::{SpaceId, swarm::SignedRecord};
use arcwise_store::{Store, StoreError};
use bytes::{Buf, BufMut, Bytes, BytesMut};

fn key(space: &SpaceId) -> String {
    format!("peers {}", space.fingerprint())
}

/// Keeps the records of a space's peers: of each, the length of its encoding (2, little-endian), the
/// encoding, and the signature.
pub(crate) fn save<'a>(
    store: &Store,
    space: &SpaceId,
    records: impl IntoIterator<Item = &'a SignedRecord>,
) -> Result<(), StoreError> {
    let mut out = BytesMut::new();
    for record in records {
        out.put_u16_le(record.encoding().len() as u16);
        out.put_slice(record.encoding());
        out.put_slice(record.signature());
    }
    store.put_setting(&key(space), &out)
}

/// What was kept; nothing of it is checked but the form. What has no form any more is left out.
pub(crate) fn load(store: &Store, space: &SpaceId) -> Result<Vec<SignedRecord>, StoreError> {
    let mut kept = Bytes::from(store.setting(&key(space))?.unwrap_or_default());
    let mut records = Vec::new();
    while kept.len() > 2 {
        let len = usize::from(kept.get_u16_le());
        if kept.len() < len + 64 {
            break;
        }
        let encoding = kept.split_to(len);
        let mut signature = [0; 64];
        kept.copy_to_slice(&mut signature);
        records.push(SignedRecord::new(encoding, signature));
    }
    Ok(records)
}
