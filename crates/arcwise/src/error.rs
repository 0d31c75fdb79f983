//! Errors, an enum for each kind of operation.

use std::{io, path::PathBuf};

use arcwise_proto::{
    limits::MAX_DIRECT,
    session::Fault,
    wire::{ErrorMessage, WireError},
};
use arcwise_store::StoreError;

/// Why a node was not opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The store in the node's folder.
    #[error(transparent)]
    Store(#[from] arcwise_store::OpenError),
    /// A setting in the store cannot be read or written.
    #[error(transparent)]
    Setting(#[from] StoreError),
    /// The file with the node's secret key.
    #[error("cannot use the node's key in {}: {source}", .path.display())]
    Identity {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        source: io::Error,
    },
    /// The network addresses.
    #[error("cannot listen on {addresses}: {reason}; choose another port or stop what uses it")]
    Listen {
        /// What was asked for.
        addresses: String,
        /// What the network layer says.
        reason: String,
    },
}

/// Why a space was not made.
#[derive(Debug, thiserror::Error)]
pub enum CreateError {
    /// The operating system gives no random numbers for its id.
    #[error("the operating system gives no random numbers: {0}")]
    Random(String),
    /// The store.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Why a space was not joined.
#[derive(Debug, thiserror::Error)]
pub enum JoinError {
    /// The ticket is this node's own.
    #[error("this ticket was made by this very node; use it on another one")]
    OwnTicket,
    /// The store.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Why a gossip session did not complete. What it had stored by then stays, and the next session
/// goes on from there.
#[derive(Debug, thiserror::Error)]
pub enum SyncError {
    /// There is no connection to that peer.
    #[error("not connected to that peer")]
    NotConnected,
    /// The peer is not in this space, or has not proven yet that it is.
    #[error("the peer is not in this space")]
    NotShared,
    /// The peer broke a rule of the protocol.
    #[error("the peer broke the protocol: {0}")]
    Peer(#[from] Fault),
    /// The peer ended the session and said why.
    #[error(transparent)]
    Ended(ErrorMessage),
    /// The local store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The connection or the stream broke.
    #[error("the connection was lost: {0}")]
    Lost(String),
    /// Both opened a session at the same moment; the peer's goes on.
    #[error("the peer opened a session at the same moment; that one goes on")]
    Superseded,
    /// The peer takes nothing, for want of room; what it holds is here.
    #[error("the peer has no room for more")]
    PeerFull,
    /// Neither takes what it lacks, for want of room.
    #[error("neither this node nor the peer has room for more")]
    NoRoom,
    /// This node is shutting down.
    #[error("this node is shutting down")]
    Shutdown,
}

impl From<WireError> for SyncError {
    fn from(error: WireError) -> Self {
        SyncError::Peer(error.into())
    }
}

/// Why a request to a peer was not answered.
#[derive(Debug, thiserror::Error)]
pub enum RequestError {
    /// There is no connection to that peer.
    #[error("not connected to that peer")]
    NotConnected,
    /// The peer is not in this space.
    #[error("the peer is not in this space")]
    NotShared,
    /// More than a message may carry.
    #[error("a payload of {0} bytes is over the limit of {MAX_DIRECT} bytes")]
    TooLarge(usize),
    /// The peer broke a rule of the protocol.
    #[error("the peer broke the protocol: {0}")]
    Peer(#[from] Fault),
    /// The peer refused.
    #[error(transparent)]
    Refused(ErrorMessage),
    /// The connection or the stream broke.
    #[error("the connection was lost: {0}")]
    Lost(String),
    /// No answer came in time.
    #[error("no answer within {} seconds", .0.as_secs())]
    Timeout(std::time::Duration),
}

impl From<WireError> for RequestError {
    fn from(error: WireError) -> Self {
        RequestError::Peer(error.into())
    }
}
