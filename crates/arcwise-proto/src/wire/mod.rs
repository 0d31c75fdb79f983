//! Bytes ↔ messages.
//!
//! The schema is `proto/arcwise.proto`; PROTOCOL.md says when each message is sent. Here its
//! generated types are parsed into domain types: whoever holds a [`Message`] holds one that keeps
//! every limit and every rule that a single message can be held to.
//!
//! A frame is the message type (1 byte), the length of the body (4 bytes, little-endian) and the
//! body. [`Header::parse`] judges type and length before a byte of the body is read or stored.

mod control;
mod gossip;
mod parts;
mod peers;
mod request;
mod spread;

pub use control::{Handshake, Hello, Ping, Pong, SpaceDigest, TAG_LEN, Tag};
pub use gossip::{
    ArcRequest, ArcResponse, AspectBroadcast, AspectDataRequest, AspectDataResponse, Body, Listed,
    Open, Page,
};
pub use peers::{FindPeers, Observed, PeerInfo, Peers};
pub(crate) use peers::{decode_record, encode_record};
pub use request::{Audit, AuditProof, Direct, ErrorCode, ErrorMessage, Query};
pub use spread::{Announce, Graft, Prune, Receipt};

use bytes::{BufMut, Bytes, BytesMut};
use prost::Message as _;

use crate::{
    aspect::AspectError,
    limits::{MAX_DATA_FRAME, MAX_FRAME},
    ring::ArcError,
};

/// The generated types of the schema.
mod pb {
    #![allow(missing_docs, unreachable_pub, clippy::all)]
    include!(concat!(env!("OUT_DIR"), "/arcwise.v1.rs"));
}

/// Why bytes from a peer are not a message. Always the peer's fault.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum WireError {
    /// The type byte of a frame is none that this version knows.
    #[error("unknown message type {0}")]
    UnknownType(u8),
    /// The length of a frame is over the limit for its type.
    #[error("a {kind} of {len} bytes is over the limit of {max} bytes")]
    TooLong {
        /// What it claims to be.
        kind: Kind,
        /// Bytes it claims to have.
        len: usize,
        /// Bytes it may have.
        max: usize,
    },
    /// The stream ended inside a frame.
    #[error("the stream ended in the middle of a frame")]
    Truncated,
    /// The body is not the protobuf message that its type says.
    #[error("the body of a {kind} is not valid protobuf: {detail}")]
    Protobuf {
        /// What it claims to be.
        kind: Kind,
        /// What the decoder says.
        detail: String,
    },
    /// A field is missing or breaks a rule of the schema.
    #[error("field `{field}`: {problem}")]
    Field {
        /// The field's name in the schema.
        field: &'static str,
        /// The rule it breaks.
        problem: &'static str,
    },
    /// An arc longer than the ring.
    #[error(transparent)]
    Arc(#[from] ArcError),
    /// Bytes that are no aspect.
    #[error(transparent)]
    Aspect(#[from] AspectError),
}

fn field(field: &'static str, problem: &'static str) -> WireError {
    WireError::Field { field, problem }
}

macro_rules! messages {
    ($($kind:ident = $number:literal, $name:literal, $max:expr, $domain:ty;)*) => {
        /// The type of a message: the first byte of its frame.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        #[repr(u8)]
        pub enum Kind {
            $(#[doc = concat!("`", $name, "`")] $kind = $number,)*
        }

        impl Kind {
            /// All of them, in the order of their numbers.
            pub const ALL: &[Kind] = &[$(Kind::$kind),*];

            /// The name in the Lib3h P2P Protocol, where it has one.
            pub const fn name(self) -> &'static str {
                match self { $(Kind::$kind => $name,)* }
            }

            /// The most bytes the body of such a frame may have.
            pub const fn max_len(self) -> usize {
                match self { $(Kind::$kind => $max,)* }
            }

            fn from_byte(byte: u8) -> Option<Kind> {
                match byte { $($number => Some(Kind::$kind),)* _ => None }
            }
        }

        /// Any message, checked.
        #[derive(Clone, Debug, PartialEq, Eq)]
        pub enum Message {
            $(#[doc = concat!("`", $name, "`")] $kind($domain),)*
        }

        impl Message {
            /// Which type of message it is.
            pub const fn kind(&self) -> Kind {
                match self { $(Message::$kind(_) => Kind::$kind,)* }
            }

            fn decode_body(kind: Kind, body: Bytes) -> Result<Message, WireError> {
                let protobuf = |error: prost::DecodeError| WireError::Protobuf { kind, detail: error.to_string() };
                match kind {
                    $(Kind::$kind => {
                        let raw = <$domain as Wire>::Raw::decode(body).map_err(protobuf)?;
                        <$domain as Wire>::parse(raw).map(Message::$kind)
                    })*
                }
            }

            fn body_len(&self) -> usize {
                match self {
                    $(Message::$kind(message) => message.raw().encoded_len(),)*
                }
            }

            fn encode_body(&self, out: &mut BytesMut) {
                match self {
                    // A `BytesMut` grows as needed, so encoding into it cannot fail.
                    $(Message::$kind(message) => { let _ = message.raw().encode(out); })*
                }
            }
        }

        $(impl From<$domain> for Message {
            fn from(message: $domain) -> Message {
                Message::$kind(message)
            }
        })*
    };
}

messages! {
    Hello = 1, "Hello", MAX_FRAME, Hello;
    Handshake = 2, "msgHandshake", MAX_FRAME, Handshake;
    ArcRequest = 3, "msgGspArcRequest", MAX_FRAME, ArcRequest;
    ArcResponse = 4, "msgGspArcResponse", MAX_FRAME, ArcResponse;
    AspectDataRequest = 5, "msgGspAspectDataRequest", MAX_FRAME, AspectDataRequest;
    AspectDataResponse = 6, "msgGspAspectDataResponse", MAX_DATA_FRAME, AspectDataResponse;
    AspectBroadcast = 7, "msgGspAspectBroadcast", MAX_DATA_FRAME, AspectBroadcast;
    Direct = 8, "msgDirect", MAX_FRAME, Direct;
    Query = 9, "msgQuery", 64, Query;
    Ping = 10, "msgPing", MAX_FRAME, Ping;
    Pong = 11, "msgPong", MAX_FRAME, Pong;
    Error = 12, "msgError", 1024, ErrorMessage;
    Peers = 13, "Peers", MAX_FRAME, Peers;
    FindPeers = 14, "FindPeers", 64, FindPeers;
    Announce = 15, "Announce", MAX_FRAME, Announce;
    Graft = 16, "Graft", MAX_FRAME, Graft;
    Prune = 17, "Prune", MAX_FRAME, Prune;
    Receipt = 18, "Receipt", MAX_FRAME, Receipt;
    Audit = 19, "Audit", 1024, Audit;
    AuditProof = 20, "AuditProof", 1024, AuditProof;
}

impl std::fmt::Display for Kind {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.pad(self.name())
    }
}

/// A domain type and the generated type it travels as.
trait Wire: Sized {
    type Raw: prost::Message + Default;
    /// Checks every rule that one message can be held to.
    fn parse(raw: Self::Raw) -> Result<Self, WireError>;
    fn raw(&self) -> Self::Raw;
}

/// The first five bytes of a frame, judged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    kind: Kind,
    len: usize,
}

impl Header {
    /// Bytes of a header.
    pub const LEN: usize = 5;

    /// Judges type and length, before any of the body is read.
    ///
    /// # Errors
    /// [`WireError::UnknownType`], [`WireError::TooLong`].
    pub fn parse(bytes: [u8; Self::LEN]) -> Result<Header, WireError> {
        let [kind, a, b, c, d] = bytes;
        let kind = Kind::from_byte(kind).ok_or(WireError::UnknownType(kind))?;
        let len = u32::from_le_bytes([a, b, c, d]) as usize;
        let max = kind.max_len();
        if len > max {
            return Err(WireError::TooLong { kind, len, max });
        }
        Ok(Header { kind, len })
    }

    /// How many bytes of body follow.
    pub fn body_len(&self) -> usize {
        self.len
    }

    /// Which type of message follows.
    pub fn kind(&self) -> Kind {
        self.kind
    }
}

impl Message {
    /// Parses the body that follows a header. Payloads share the memory of `body`.
    ///
    /// # Errors
    /// Any [`WireError`] about the contents.
    pub fn decode(header: Header, body: Bytes) -> Result<Message, WireError> {
        if body.len() != header.len {
            return Err(WireError::Truncated);
        }
        Self::decode_body(header.kind, body)
    }

    /// The whole frame: header and body.
    pub fn encode(&self) -> Bytes {
        let mut out = BytesMut::with_capacity(256);
        out.put_bytes(0, Header::LEN);
        self.encode_body(&mut out);
        let len = out.len() - Header::LEN;
        debug_assert!(len <= self.kind().max_len(), "{} of {len} bytes", self.kind());
        out[0] = self.kind() as u8;
        out[1..Header::LEN].copy_from_slice(&(len as u32).to_le_bytes());
        out.freeze()
    }

    /// How many bytes [`Message::encode`] gives.
    pub fn encoded_len(&self) -> usize {
        Header::LEN + self.body_len()
    }

    /// On a broadcast stream: the receiver's number for the space it is about. `None` where it is no message
    /// of such a stream.
    pub fn pushed_in(&mut self) -> Option<&mut u32> {
        match self {
            Message::AspectBroadcast(AspectBroadcast { space, .. })
            | Message::Announce(Announce { space, .. })
            | Message::Graft(Graft { space, .. })
            | Message::Prune(Prune { space, .. })
            | Message::Receipt(Receipt { space, .. }) => Some(space),
            _ => None,
        }
    }

    /// How many things it carries, as people count them: hashes of a list, aspects of an answer,
    /// tags of a hello; 1 for messages that carry no list.
    pub fn items(&self) -> usize {
        match self {
            Message::Hello(m) => m.tags.len(),
            Message::ArcRequest(ArcRequest { body: Body::List(page), .. }) => page.keys.len(),
            Message::ArcResponse(ArcResponse { body: Body::List(list) }) => list.keys.len(),
            Message::AspectDataRequest(AspectDataRequest { body: Body::List(keys) }) => keys.len(),
            Message::ArcRequest(ArcRequest { body: Body::Packet(packet), .. })
            | Message::ArcResponse(ArcResponse { body: Body::Packet(packet) })
            | Message::AspectDataRequest(AspectDataRequest { body: Body::Packet(packet) }) => {
                packet.items()
            }
            Message::AspectDataResponse(m) => m.aspects.len() + m.gone.len(),
            Message::AspectBroadcast(m) => m.aspects.len(),
            Message::Peers(m) => m.peers.len(),
            Message::Announce(Announce { keys, .. })
            | Message::Graft(Graft { keys, .. })
            | Message::Prune(Prune { keys, .. })
            | Message::Receipt(Receipt { keys, .. })
            | Message::Audit(Audit { keys, .. }) => keys.len(),
            Message::AuditProof(m) => m.proofs.len(),
            _ => 1,
        }
    }
}
