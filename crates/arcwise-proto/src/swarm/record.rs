//! What a node says of itself in a space, signed, so that others can pass it on.

use std::{
    fmt,
    net::SocketAddr,
    sync::{Arc, OnceLock},
    time::Duration,
};

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::{
    aspect::AuthorKey,
    id::{NodeId, SpaceId},
    ring::ArcSet,
    time::Time,
    wire::{WireError, decode_record, encode_record},
};

/// How long a record may be good for, at most, counted from when it comes: a node that is gone for good
/// is forgotten after that. Guessed: a week; a node makes a new one each third of a day.
pub const MAX_RECORD_LIFE: Duration = Duration::from_secs(7 * 86_400);

const CONTEXT: &[u8] = b"arcwise 1 peer record";

/// Where a node may be reached.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Address {
    /// By UDP.
    Ip(SocketAddr),
    /// Through the relay at this URL: 1 to [`MAX_TEXT`](crate::limits::MAX_TEXT) bytes, without control
    /// characters.
    Relay(String),
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Address::Ip(address) => address.fmt(f),
            Address::Relay(url) => f.write_str(url),
        }
    }
}

/// What a node says of itself in one space. Its location is not in it, because it follows from the
/// node and the space: [`Location::of_node`](crate::ring::Location::of_node).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PeerRecord {
    /// Who.
    pub node: NodeId,
    /// Of two records of a node, the one with the greater sequence counts.
    pub sequence: u64,
    /// Of no use from then on.
    pub expires: Time,
    /// Where it may be reached. The first [`MAX_ADDRESSES`](crate::limits::MAX_ADDRESSES) are sent, less
    /// the last ones where they do not fit a record.
    pub addresses: Vec<Address>,
    /// What it claims to hold. Of many arcs, only the longest
    /// [`MAX_RECORD_ARCS`](crate::limits::MAX_RECORD_ARCS) are sent, as with `target`.
    pub store: ArcSet,
    /// What it fills towards.
    pub target: ArcSet,
    /// Aspects held.
    pub count: u64,
    /// Bytes of their encodings.
    pub bytes: u64,
}

impl PeerRecord {
    /// Signs it for use in one space. `key` must be that of `node`.
    pub fn sign(&self, key: &AuthorKey, space: &SpaceId) -> SignedRecord {
        let encoding = encode_record(self);
        let signature = key.sign(&message(space, &encoding));
        let signed = SignedRecord::new(encoding, signature);
        if key.author() == self.node.0 {
            let _ = signed.0.checked.set((*space, true));
        }
        signed
    }
}

/// A [`PeerRecord`] as it travels. Whether it is to be believed says [`SignedRecord::verify`].
///
/// Clones share the bytes and what follows from them: it is read once, and checked once.
#[derive(Clone)]
pub struct SignedRecord(Arc<Inner>);

struct Inner {
    encoding: Bytes,
    signature: [u8; 64],
    read: OnceLock<Result<Arc<PeerRecord>, WireError>>,
    /// For the first space that it was checked for: whether its signature holds there.
    checked: OnceLock<(SpaceId, bool)>,
}

impl SignedRecord {
    /// From its parts, unchecked.
    pub fn new(encoding: Bytes, signature: [u8; 64]) -> Self {
        let (read, checked) = (OnceLock::new(), OnceLock::new());
        Self(Arc::new(Inner { encoding, signature, read, checked }))
    }

    /// The bytes that are signed, as the node of the record made them.
    pub fn encoding(&self) -> &Bytes {
        &self.0.encoding
    }

    /// The node's signature.
    pub fn signature(&self) -> &[u8; 64] {
        &self.0.signature
    }

    /// Reads the record without checking the signature: for what was checked before.
    ///
    /// # Errors
    /// Where it is none, or breaks a limit.
    pub fn read(&self) -> Result<Arc<PeerRecord>, WireError> {
        self.0.read.get_or_init(|| decode_record(&self.0.encoding).map(Arc::new)).clone()
    }

    /// Reads the record, and checks that its node made it, for this space.
    ///
    /// # Errors
    /// See [`RecordError`].
    pub fn verify(&self, space: &SpaceId) -> Result<Arc<PeerRecord>, RecordError> {
        let record = self.read()?;
        let check = || {
            let message = message(space, &self.0.encoding);
            crate::aspect::is_signed_by(record.node.as_bytes(), &message, &self.0.signature)
        };
        let (of, holds) = self.0.checked.get_or_init(|| (*space, check()));
        match if of == space { *holds } else { check() } {
            true => Ok(record),
            false => Err(RecordError::Signature(record.node)),
        }
    }
}

impl PartialEq for SignedRecord {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
            || (self.encoding(), self.signature()) == (other.encoding(), other.signature())
    }
}

impl Eq for SignedRecord {}

impl fmt::Debug for SignedRecord {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("SignedRecord").field(&self.read()).finish()
    }
}

/// Why a record is not to be believed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RecordError {
    /// It cannot be read.
    #[error("a peer record: {0}")]
    Wire(#[from] WireError),
    /// It was not made by the node that it is about, or not for this space.
    #[error("the signature of the record of node {0} is not that node's in this space")]
    Signature(NodeId),
}

fn message(space: &SpaceId, encoding: &[u8]) -> Vec<u8> {
    [CONTEXT, space.as_bytes(), encoding].concat()
}

#[cfg(test)]
mod tests {
    use proptest::{collection::vec, prelude::*, sample::Index};

    use super::*;
    use crate::{
        limits::{MAX_ADDRESSES, MAX_RECORD, MAX_RECORD_ARCS, MAX_TEXT},
        ring::{Location, RING, RingArc},
    };

    const SPACE: SpaceId = SpaceId([7; 32]);

    fn key() -> AuthorKey {
        AuthorKey::from_bytes(&[3; 32])
    }

    fn nothing() -> PeerRecord {
        PeerRecord {
            node: NodeId(key().author()),
            sequence: 0,
            expires: Time::ZERO,
            addresses: vec![],
            store: ArcSet::empty(),
            target: ArcSet::empty(),
            count: 0,
            bytes: 0,
        }
    }

    fn any_address() -> impl Strategy<Value = Address> {
        prop_oneof![
            any::<([u8; 4], u16)>().prop_map(|at| Address::Ip(at.into())),
            any::<([u8; 16], u16)>().prop_map(|at| Address::Ip(at.into())),
            "[^\\p{Cc}]{1,30}".prop_map(Address::Relay),
        ]
    }

    fn any_arcs() -> impl Strategy<Value = ArcSet> {
        let arc = (any::<u32>(), prop_oneof![0..=RING, 0..1000u64])
            .prop_map(|(at, len)| RingArc::new(Location(at), len).unwrap());
        vec(arc, 0..12).prop_map(|arcs| arcs.into_iter().collect())
    }

    /// Any record that can be told in full, but for its arcs.
    fn any_record() -> impl Strategy<Value = PeerRecord> {
        let numbers = any::<(u64, u64, u64, u64)>();
        let addresses = vec(any_address(), 0..4);
        (numbers, addresses, any_arcs(), any_arcs()).prop_map(
            |((sequence, expires, count, bytes), addresses, store, target)| {
                let expires = Time::from_micros(expires);
                PeerRecord {
                    sequence,
                    expires,
                    addresses,
                    store,
                    target,
                    count,
                    bytes,
                    ..nothing()
                }
            },
        )
    }

    proptest! {
        #[test]
        fn what_is_signed_is_what_is_read(record in any_record()) {
            let signed = record.sign(&key(), &SPACE);
            prop_assert!(signed.encoding().len() <= MAX_RECORD);
            let read = signed.verify(&SPACE).unwrap();
            prop_assert!(record.store.covers(&read.store), "a claim is never more than is held");
            let longest = |arcs: &ArcSet| arcs.longest(MAX_RECORD_ARCS);
            let (store, target) = (longest(&record.store), longest(&record.target));
            prop_assert_eq!(&*read, &PeerRecord { store, target, ..record });
        }

        #[test]
        fn it_holds_for_its_node_and_space_only(record in any_record(), id in any::<[u8; 32]>()) {
            let signed = record.sign(&key(), &SPACE);
            prop_assert_eq!(
                signed.verify(&SpaceId(id)).map_err(|error| error.to_string()),
                Err(RecordError::Signature(record.node).to_string())
            );
            // Whether it was asked for one space says nothing of another.
            prop_assert!(signed.verify(&SPACE).is_ok() && signed.verify(&SpaceId(id)).is_err());
            let sent = SignedRecord::new(signed.encoding().clone(), *signed.signature());
            prop_assert!(sent.verify(&SpaceId(id)).is_err() && sent.verify(&SPACE).is_ok());
            prop_assert!(sent == signed && sent.clone().verify(&SpaceId(id)).is_err());
            let other = PeerRecord { node: NodeId(id), ..record }.sign(&key(), &SPACE);
            prop_assert!(other.verify(&SPACE).is_err());
        }

        #[test]
        fn whatever_can_be_read_can_be_told(
            record in any_record(),
            damage in vec((any::<Index>(), any::<u8>()), 0..4),
        ) {
            let mut encoding = record.sign(&key(), &SPACE).encoding().to_vec();
            for (at, byte) in damage {
                let at = at.index(encoding.len());
                encoding[at] = byte;
            }
            let damaged = SignedRecord::new(encoding.into(), [0; 64]);
            prop_assert!(damaged.verify(&SPACE).is_err());
            if let Ok(read) = damaged.read() {
                prop_assert_eq!(read.sign(&key(), &SPACE).read(), Ok(read));
            }
        }
    }

    #[test]
    fn the_first_addresses_are_told_as_far_as_they_fit() {
        let told = |addresses: Vec<Address>| {
            let signed = PeerRecord { addresses, ..nothing() }.sign(&key(), &SPACE);
            assert!(signed.encoding().len() <= MAX_RECORD);
            signed.verify(&SPACE).unwrap().addresses.clone()
        };
        let ports: Vec<_> = (0..20).map(|port| Address::Ip(([0xff; 16], port).into())).collect();
        assert_eq!(told(ports.clone()), ports[..MAX_ADDRESSES]);
        let long = vec![Address::Relay("r".repeat(MAX_TEXT)); MAX_ADDRESSES];
        assert_eq!(told(long.clone()), long[..3]);
    }

    #[test]
    fn an_address_that_nobody_would_read_is_left_out() {
        let relay = |url: &str| Address::Relay(url.to_owned());
        let good = [relay("https://relay.example./"), Address::Ip(([192, 0, 2, 7], 4433).into())];
        let bad = [relay(""), relay("https://relay\u{7f}/"), relay(&"r".repeat(MAX_TEXT + 1))];
        let addresses = bad.iter().cycle().take(MAX_ADDRESSES).chain(&good).cloned().collect();
        let signed = PeerRecord { addresses, ..nothing() }.sign(&key(), &SPACE);
        assert_eq!(signed.verify(&SPACE).unwrap().addresses, good);
    }

    #[test]
    fn what_a_later_version_adds_is_kept_and_signed() {
        let added = [&nothing().sign(&key(), &SPACE).encoding()[..], &[0x78, 1]].concat();
        let signature = key().sign(&message(&SPACE, &added));
        let signed = SignedRecord::new(added.clone().into(), signature);
        assert_eq!(*signed.verify(&SPACE).unwrap(), nothing());
        assert_eq!(signed.encoding()[..], added);
        let less = SignedRecord::new(added[..added.len() - 2].to_vec().into(), signature);
        assert!(matches!(less.verify(&SPACE), Err(RecordError::Signature(_))));
    }
}
