//! What a node tells its application.

use std::time::Instant;

use arcwise_proto::{AspectKey, NodeId, SpaceId, session::Report, wire::Kind};

/// Where aspects came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Source {
    /// This node's application published them.
    Local,
    /// A peer pushed them.
    Broadcast(NodeId),
    /// A gossip session with a peer brought them.
    Gossip(NodeId),
    /// An archive that was imported: see [`Node::import`](crate::Node::import).
    Import,
}

/// Something happened. A receiver that lags loses the oldest events and is told how many.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum Event {
    /// A connection is up, and a version is agreed.
    PeerConnected {
        /// The peer.
        peer: NodeId,
        /// Name and version of its software.
        agent: String,
    },
    /// A connection is gone.
    PeerDisconnected {
        /// The peer.
        peer: NodeId,
        /// Why, for people.
        reason: String,
    },
    /// Both have proven to be in this space.
    SpaceShared {
        /// The peer.
        peer: NodeId,
        /// The space.
        space: SpaceId,
    },
    /// Aspects that this node did not hold are durable now.
    Stored {
        /// The space.
        space: SpaceId,
        /// Which.
        keys: Vec<AspectKey>,
        /// Where they came from.
        source: Source,
    },
    /// A session has completed, and both hold the same inside its arcs and constraints.
    InSync {
        /// The space.
        space: SpaceId,
        /// The peer.
        peer: NodeId,
        /// What it took.
        report: Report,
    },
    /// A session ended early or left something out. It is tried again by itself.
    SyncFailed {
        /// The space.
        space: SpaceId,
        /// The peer.
        peer: NodeId,
        /// Why, for people.
        reason: String,
    },
    /// A peer broke a rule, or sent what could not be believed.
    PeerFault {
        /// The peer.
        peer: NodeId,
        /// Which rule, for people.
        fault: String,
    },
    /// The arcs that this node claims to hold have changed.
    ArcChanged {
        /// The space.
        space: SpaceId,
    },
    /// Aspects were removed: they had expired, or were outside the arc that is held now.
    Removed {
        /// The space.
        space: SpaceId,
        /// How many.
        aspects: u64,
    },
    /// There is no room for more of a space: nothing is taken until there is. What is held is served as
    /// before.
    Full {
        /// The space.
        space: SpaceId,
        /// Which limit does not allow it, for people.
        reason: String,
    },
    /// There is room again.
    Room {
        /// The space.
        space: SpaceId,
    },
    /// The disk failed, or was full to the last byte: nothing is stored until the node is opened again.
    /// What is held is served as before.
    StoreStopped {
        /// Why, for people.
        reason: String,
    },
}

/// Which way a message went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// From this node.
    Sent,
    /// To this node.
    Received,
}

/// One message on the wire, as [`Node::frames`](crate::Node::frames) tells it.
#[derive(Clone, Copy, Debug)]
pub struct Frame {
    /// The peer.
    pub peer: NodeId,
    /// Which way.
    pub direction: Direction,
    /// The message.
    pub kind: Kind,
    /// Hashes of a list, aspects of an answer, 1 for messages that carry no list.
    pub items: usize,
    /// Bytes of the frame, its header included.
    pub bytes: usize,
    /// When it was sent or had arrived.
    pub at: Instant,
}
