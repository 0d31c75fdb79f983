//! What a node says of itself in a space, signed, so that others can pass it on.

use std::{fmt, net::SocketAddr, time::Duration};

use bytes::Bytes;

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
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Address {
    /// By UDP.
    Ip(SocketAddr),
    /// Through the relay at this URL.
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
    /// Where it may be reached. At most [`MAX_ADDRESSES`](crate::limits::MAX_ADDRESSES) are sent.
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
        SignedRecord { encoding, signature }
    }
}

/// A [`PeerRecord`] as it travels. Whether it is to be believed says [`SignedRecord::verify`].
#[derive(Clone, PartialEq, Eq)]
pub struct SignedRecord {
    encoding: Bytes,
    signature: [u8; 64],
}

impl SignedRecord {
    /// From its parts, unchecked.
    pub fn new(encoding: Bytes, signature: [u8; 64]) -> Self {
        Self { encoding, signature }
    }

    /// The bytes that are signed, as the node of the record made them.
    pub fn encoding(&self) -> &Bytes {
        &self.encoding
    }

    /// The node's signature.
    pub fn signature(&self) -> &[u8; 64] {
        &self.signature
    }

    /// Reads the record without checking the signature: for what was checked before.
    ///
    /// # Errors
    /// Where it is none, or breaks a limit.
    pub fn read(&self) -> Result<PeerRecord, WireError> {
        decode_record(&self.encoding)
    }

    /// Reads the record, and checks that its node made it, for this space.
    ///
    /// # Errors
    /// See [`RecordError`].
    pub fn verify(&self, space: &SpaceId) -> Result<PeerRecord, RecordError> {
        let record = self.read()?;
        let message = message(space, &self.encoding);
        match crate::aspect::is_signed_by(record.node.as_bytes(), &message, &self.signature) {
            true => Ok(record),
            false => Err(RecordError::Signature(record.node)),
        }
    }
}

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
