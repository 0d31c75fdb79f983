//! What can end a conversation, by blame.

use std::time::Duration;

use crate::{
    aspect::AspectKey,
    id::AspectHash,
    reconcile::exchange,
    ring::Location,
    wire::{ErrorCode, ErrorMessage, Kind, WireError},
};

/// How long to wait before trying again where the peer is busy with another session. A guess: a few round
/// trips.
pub const BUSY: Duration = Duration::from_millis(200);

/// A rule that the peer broke.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Fault {
    /// Bytes that are no message, or a message that breaks a rule of the schema.
    #[error(transparent)]
    Wire(#[from] WireError),
    /// A message that may not come at this point.
    #[error("a {kind} may not come {when}")]
    Unexpected {
        /// What came.
        kind: Kind,
        /// In what state.
        when: &'static str,
    },
    /// No version in common.
    #[error(
        "the peer speaks versions {min} to {max} of the protocol, this node speaks {}",
        super::VERSION
    )]
    Version {
        /// The least it speaks.
        min: u32,
        /// The greatest it speaks.
        max: u32,
    },
    /// A handshake for a space that the peer has not proven to know.
    #[error("a handshake without a proof that its space is known")]
    Unproven,
    /// A listed or wanted aspect lies outside the arcs of the session.
    #[error("location {0} is outside the arcs of the session")]
    OutsideArcs(Location),
    /// A page overlaps the one before it.
    #[error("a page that does not begin where the one before it ended, at {0}")]
    PageOrder(AspectKey),
    /// It asked for what was not listed to it.
    #[error("aspect {0} was wanted but is not in the list that the answer is for")]
    NotListed(AspectHash),
    /// It has not answered as many lists or wants as it may have open.
    #[error("more {0} are open than the protocol allows")]
    Window(&'static str),
    /// It sent an aspect that was not asked for, or changed on the way.
    #[error("aspect {0} was not asked for, or changed on the way")]
    NotWanted(AspectHash),
    /// It broke a rule of the comparison.
    #[error("comparing: {0}")]
    Comparison(#[from] exchange::Fault),
    /// It sent more than it had said there was.
    #[error("more aspects came than differ")]
    TooMany,
    /// It ended its side before everything was said.
    #[error("the stream ended before the conversation was over")]
    EndedEarly,
    /// Nothing moved for [`crate::limits::SESSION_IDLE`].
    #[error("nothing moved for {} seconds", crate::limits::SESSION_IDLE.as_secs())]
    Idle,
}

impl Fault {
    /// What to tell the peer.
    pub fn message(&self) -> ErrorMessage {
        let code = match self {
            Fault::Version { .. } => ErrorCode::Version,
            Fault::NotWanted(_) | Fault::TooMany => ErrorCode::BadAspect,
            Fault::Idle => ErrorCode::Timeout,
            _ => ErrorCode::Protocol,
        };
        ErrorMessage::new(code, self.to_string())
    }
}

/// Why a session ended without completing. `E` is the store's own error.
#[derive(Debug, thiserror::Error)]
pub enum SessionError<E: std::error::Error> {
    /// The peer broke a rule: tell it ([`Fault::message`]) and end the stream.
    #[error("the peer broke the protocol: {0}")]
    Peer(#[from] Fault),
    /// The peer goes back to a position that is not of this store's history (it was restored or
    /// made anew since): tell it with [`ErrorCode::UnknownPosition`], so that it compares
    /// everything. Nobody is to blame.
    #[error("the session goes back to a point that is not of this store's history")]
    UnknownPosition,
    /// To find out what differs takes more work than this peer is given at the moment: tell it with
    /// [`ErrorCode::TooCostly`], so that it compares by lists or comes again later. Nobody is to
    /// blame for sure.
    #[error("comparing takes more work than is given to one peer; lists take less")]
    TooCostly,
    /// The arcs to compare are not all taken here any more: tell it with [`ErrorCode::Busy`]; a
    /// handshake that says so is on its way. Nobody is to blame.
    #[error("not all of the arcs to compare are taken here any more")]
    OtherArcs,
    /// The peer would give what is not taken here now, for want of room: tell it with
    /// [`ErrorCode::Busy`]; a handshake that says so is on its way. Nobody is to blame.
    #[error("nothing is taken here now, for want of room")]
    Full,
    /// The peer ended it and said why.
    #[error(transparent)]
    Ended(ErrorMessage),
    /// Our own store failed; the peer is not to blame.
    #[error("the local store failed: {0}")]
    Store(E),
}

impl<E: std::error::Error> SessionError<E> {
    /// What to tell the peer; nothing where it has ended the session itself.
    pub fn message(&self) -> Option<ErrorMessage> {
        let code = match self {
            Self::Peer(fault) => return Some(fault.message()),
            Self::Ended(_) => return None,
            Self::UnknownPosition => ErrorCode::UnknownPosition,
            Self::TooCostly => ErrorCode::TooCostly,
            Self::OtherArcs | Self::Full => ErrorCode::Busy,
            // The details of our disk are none of the peer's business.
            Self::Store(_) => {
                return Some(ErrorMessage::new(ErrorCode::Storage, "the store here failed"));
            }
        };
        Some(ErrorMessage { retry_after: BUSY, ..ErrorMessage::new(code, self.to_string()) })
    }
}

impl<E: std::error::Error> From<exchange::Error<E>> for SessionError<E> {
    fn from(error: exchange::Error<E>) -> Self {
        match error {
            exchange::Error::Peer(exchange::Fault::Work) => Self::TooCostly,
            exchange::Error::Peer(fault) => Self::Peer(fault.into()),
            exchange::Error::Items(error) => Self::Store(error),
        }
    }
}
