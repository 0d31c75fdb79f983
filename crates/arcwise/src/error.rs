//! Errors, an enum for each kind of operation.

use std::{io, path::PathBuf, time::Duration};

use arcwise_proto::{
    limits::MAX_DIRECT,
    session::Fault,
    wire::{ErrorMessage, WireError},
};
use arcwise_store::StoreError;
use iroh::endpoint::{
    ConnectError, ConnectWithOptsError, ConnectingError, ConnectionError, TransportErrorCode,
};

use crate::connection::close;

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
    /// The file for the capture.
    #[error("cannot write a capture to {}: {source}", .path.display())]
    Capture {
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

/// Why a peer was not blocked.
#[derive(Debug, thiserror::Error)]
pub enum BlockError {
    /// It is this node.
    #[error("this is the node itself; block another one")]
    Itself,
    /// There is room for so many.
    #[error("{0} peers are blocked, and more cannot be; unblock some first")]
    TooMany(usize),
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

/// QUIC's codes of TLS alerts (RFC 9001, 4.8): no certificate that is trusted, and no application protocol
/// in common.
const UNKNOWN_CA: u64 = 0x100 + 48;
const NO_PROTOCOL: u64 = 0x100 + 120;

/// After so long without a packet the network layer gives up: its default.
const IDLE: Duration = Duration::from_secs(30);

/// Why a peer was not reached.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum DialFailure {
    /// Nobody has said where it may be reached.
    #[error("no address of it is known")]
    NoAddress,
    /// The machine, the program or what is in between is silent.
    #[error("no answer within {} s", .0.as_secs())]
    NoAnswer(Duration),
    /// The machine is there, and no program listens on the port.
    #[error("its machine answers, but no program listens there")]
    PortClosed,
    /// Somebody else's key answers at an address.
    #[error("another node answers there")]
    OtherNode,
    /// What answers does not speak this protocol, or another version of it.
    #[error("what answers there speaks another protocol, or another version of it")]
    OtherProtocol,
    /// It takes no more connections.
    #[error("it takes no more connections at present")]
    Refused,
    /// It was reached, and does not want to be connected to this node.
    #[error("it was reached, and declines to be connected to this node")]
    Declined,
    /// This node has blocked it.
    #[error("this node has blocked it")]
    Blocked,
    /// It was reached, and the connection ended before both had said hello.
    #[error("it was reached, but the connection ended at once: {0}")]
    Ended(String),
    /// The node itself was asked for.
    #[error("this is the node itself")]
    Itself,
    /// Its id is no public key.
    #[error("its id is no public key: nobody can have it")]
    NoKey,
    /// Something else, in the network layer's words.
    #[error("{0}")]
    Other(String),
}

impl DialFailure {
    /// Where the other side has closed the connection for a reason of its own.
    pub(crate) fn of_close(error: &ConnectionError) -> Option<Self> {
        let ConnectionError::ApplicationClosed(closed) = error else { return None };
        match u32::try_from(u64::from(closed.error_code)).ok()? {
            close::FULL => Some(Self::Refused),
            close::DECLINED => Some(Self::Declined),
            _ => None,
        }
    }

    pub(crate) fn of(error: &ConnectError) -> Self {
        let connection = match error {
            ConnectError::Connect { source, .. } => {
                return match source {
                    ConnectWithOptsError::NoAddress { .. } => Self::NoAddress,
                    ConnectWithOptsError::SelfConnect { .. } => Self::Itself,
                    other => Self::Other(format!("{other:#}")),
                };
            }
            ConnectError::Connecting {
                source: ConnectingError::ConnectionError { source, .. },
                ..
            } => source,
            ConnectError::Connection { source, .. } => source,
            other => return Self::Other(format!("{other:#}")),
        };
        if let Some(failure) = Self::of_close(connection) {
            return failure;
        }
        match connection {
            ConnectionError::TimedOut => Self::NoAnswer(IDLE),
            ConnectionError::TransportError(error) if u64::from(error.code) == UNKNOWN_CA => {
                Self::OtherNode
            }
            ConnectionError::ConnectionClosed(close)
                if u64::from(close.error_code) == NO_PROTOCOL =>
            {
                Self::OtherProtocol
            }
            ConnectionError::VersionMismatch => Self::OtherProtocol,
            ConnectionError::ConnectionClosed(close)
                if close.error_code == TransportErrorCode::CONNECTION_REFUSED =>
            {
                Self::Refused
            }
            other => Self::Other(other.to_string()),
        }
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
    Timeout(Duration),
}

impl From<WireError> for RequestError {
    fn from(error: WireError) -> Self {
        RequestError::Peer(error.into())
    }
}
