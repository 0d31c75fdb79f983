//! The messages of request streams, and the error that may end any stream.

use std::time::Duration;

use bytes::Bytes;

use super::{Wire, WireError, field, parts, pb};
use crate::{
    aspect::AspectKey,
    id::EntryAddress,
    limits::{MAX_AUDIT, MAX_DIRECT, MAX_TEXT},
};

/// `msgDirect`: a message of the application from node to node, and its reply.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Direct {
    /// The receiver's number for the space; 0 in a reply.
    pub space: u32,
    /// At most [`MAX_DIRECT`] bytes.
    pub payload: Bytes,
}

impl Wire for Direct {
    type Raw = pb::Direct;

    fn parse(raw: pb::Direct) -> Result<Self, WireError> {
        if raw.payload.len() > MAX_DIRECT {
            return Err(field("payload", "is longer than 32768 bytes"));
        }
        Ok(Self { space: raw.space, payload: raw.payload })
    }

    fn raw(&self) -> pb::Direct {
        pb::Direct { space: self.space, payload: self.payload.clone() }
    }
}

/// `msgQuery`: asks for all aspects of an entry. Answered by any number of
/// [`AspectDataResponse`](super::AspectDataResponse), where the sender does not claim to hold the
/// location by [`Peers`](super::Peers) that are nearer to it, and the end of the stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Query {
    /// The receiver's number for the space.
    pub space: u32,
    /// What is asked for.
    pub entry: EntryAddress,
}

impl Wire for Query {
    type Raw = pb::Query;

    fn parse(raw: pb::Query) -> Result<Self, WireError> {
        Ok(Self { space: raw.space, entry: EntryAddress(parts::array("entry", &raw.entry)?) })
    }

    fn raw(&self) -> pb::Query {
        pb::Query { space: self.space, entry: Bytes::copy_from_slice(self.entry.as_bytes()) }
    }
}

/// `Audit`: asks for a proof that the receiver holds these.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Audit {
    /// The receiver's number for the space.
    pub space: u32,
    /// Random.
    pub nonce: [u8; 32],
    /// Strictly ascending; 1 to [`MAX_AUDIT`].
    pub keys: Vec<AspectKey>,
}

impl Wire for Audit {
    type Raw = pb::Audit;

    fn parse(raw: pb::Audit) -> Result<Self, WireError> {
        let keys = parts::keys("groups", raw.groups)?;
        if keys.is_empty() || keys.len() > MAX_AUDIT {
            return Err(field("groups", "has none or more than 8 hashes"));
        }
        Ok(Self { space: raw.space, nonce: parts::array("nonce", &raw.nonce)?, keys })
    }

    fn raw(&self) -> pb::Audit {
        pb::Audit {
            space: self.space,
            nonce: Bytes::copy_from_slice(&self.nonce),
            groups: parts::raw_keys(&self.keys),
        }
    }
}

/// `AuditProof`: answers an [`Audit`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AuditProof {
    /// In the order of the audit's keys; `None` where the aspect is not held. At most [`MAX_AUDIT`].
    pub proofs: Vec<Option<[u8; 32]>>,
}

impl Wire for AuditProof {
    type Raw = pb::AuditProof;

    fn parse(raw: pb::AuditProof) -> Result<Self, WireError> {
        if raw.proofs.len() > MAX_AUDIT {
            return Err(field("proofs", "has more than 8"));
        }
        let proof = |bytes: &Bytes| match bytes.is_empty() {
            true => Ok(None),
            false => parts::array("proofs", bytes).map(Some),
        };
        Ok(Self { proofs: raw.proofs.iter().map(proof).collect::<Result<_, _>>()? })
    }

    fn raw(&self) -> pb::AuditProof {
        let proof = |proof: &Option<[u8; 32]>| match proof {
            Some(proof) => Bytes::copy_from_slice(proof),
            None => Bytes::new(),
        };
        pb::AuditProof { proofs: self.proofs.iter().map(proof).collect() }
    }
}

/// What went wrong, as one side tells the other. Codes that are not known are read as
/// [`ErrorCode::Unspecified`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ErrorCode {
    /// None of the others.
    Unspecified,
    /// The other side broke a rule or sent bytes that do not parse.
    Protocol,
    /// No version in common.
    Version,
    /// No space of that number.
    UnknownSpace,
    /// Not now; try again later.
    Busy,
    /// Both opened a session at the same moment; the other one goes on.
    Superseded,
    /// An aspect that was not asked for, or changed on the way.
    BadAspect,
    /// Nothing moved for too long.
    Timeout,
    /// The sender's own disk failed or is full.
    Storage,
    /// The sender is going away.
    Shutdown,
    /// Nobody there handles this request.
    Refused,
    /// The position a session goes back to is not of the sender's history.
    UnknownPosition,
    /// To find out what differs takes more work than the receiver is given at the moment.
    TooCostly,
}

/// `msgError`: ends the stream it is sent on; on the control stream, the connection.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the peer ended it: {code:?}: {detail}")]
pub struct ErrorMessage {
    /// What kind of trouble.
    pub code: ErrorCode,
    /// For people; at most [`MAX_TEXT`] bytes, longer text is cut.
    pub detail: String,
    /// When it makes sense to try again; zero where nothing is known. Whole milliseconds.
    pub retry_after: Duration,
}

impl ErrorMessage {
    /// An error with nothing known about when to try again.
    pub fn new(code: ErrorCode, detail: impl Into<String>) -> Self {
        Self { code, detail: detail.into(), retry_after: Duration::ZERO }
    }
}

impl Wire for ErrorMessage {
    type Raw = pb::Error;

    fn parse(raw: pb::Error) -> Result<Self, WireError> {
        if raw.detail.len() > MAX_TEXT {
            return Err(field("detail", "is longer than 256 bytes"));
        }
        let code = match raw.code() {
            pb::ErrorCode::Unspecified => ErrorCode::Unspecified,
            pb::ErrorCode::Protocol => ErrorCode::Protocol,
            pb::ErrorCode::Version => ErrorCode::Version,
            pb::ErrorCode::UnknownSpace => ErrorCode::UnknownSpace,
            pb::ErrorCode::Busy => ErrorCode::Busy,
            pb::ErrorCode::Superseded => ErrorCode::Superseded,
            pb::ErrorCode::BadAspect => ErrorCode::BadAspect,
            pb::ErrorCode::Timeout => ErrorCode::Timeout,
            pb::ErrorCode::Storage => ErrorCode::Storage,
            pb::ErrorCode::Shutdown => ErrorCode::Shutdown,
            pb::ErrorCode::Refused => ErrorCode::Refused,
            pb::ErrorCode::UnknownPosition => ErrorCode::UnknownPosition,
            pb::ErrorCode::TooCostly => ErrorCode::TooCostly,
        };
        Ok(Self {
            code,
            detail: parts::printable(&raw.detail),
            retry_after: Duration::from_millis(raw.retry_after_ms),
        })
    }

    fn raw(&self) -> pb::Error {
        let code = match self.code {
            ErrorCode::Unspecified => pb::ErrorCode::Unspecified,
            ErrorCode::Protocol => pb::ErrorCode::Protocol,
            ErrorCode::Version => pb::ErrorCode::Version,
            ErrorCode::UnknownSpace => pb::ErrorCode::UnknownSpace,
            ErrorCode::Busy => pb::ErrorCode::Busy,
            ErrorCode::Superseded => pb::ErrorCode::Superseded,
            ErrorCode::BadAspect => pb::ErrorCode::BadAspect,
            ErrorCode::Timeout => pb::ErrorCode::Timeout,
            ErrorCode::Storage => pb::ErrorCode::Storage,
            ErrorCode::Shutdown => pb::ErrorCode::Shutdown,
            ErrorCode::Refused => pb::ErrorCode::Refused,
            ErrorCode::UnknownPosition => pb::ErrorCode::UnknownPosition,
            ErrorCode::TooCostly => pb::ErrorCode::TooCostly,
        };
        pb::Error {
            code: code.into(),
            detail: parts::cut(&self.detail),
            retry_after_ms: u64::try_from(self.retry_after.as_millis()).unwrap_or(u64::MAX),
        }
    }
}
