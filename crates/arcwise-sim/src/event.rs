//! What happens in a simulation: to a node, and what of it the world is told.

use arcwise_proto::{Aspect, AspectKey, EntryAddress, NodeId, Time, ring::ArcSet, wire::Message};

use crate::disk::Ids;

/// Something happens to a node, at a time. Of what happens to one node at the same time, what came from the
/// node with the lower index goes first, and of that, what was sent first.
#[derive(Debug)]
pub(crate) struct Sent {
    pub(crate) at: Time,
    pub(crate) to: u32,
    pub(crate) from: u32,
    pub(crate) number: u64,
    pub(crate) event: Event,
}

/// From nobody: people, and what the world does.
pub(crate) const WORLD: u32 = u32::MAX;

#[derive(Debug)]
pub(crate) enum Event {
    /// It is switched on, and knows these.
    Start {
        contacts: Vec<u32>,
        /// It holds all of the ring and these, as who has created the space.
        first: Option<Vec<Aspect>>,
    },
    /// It is switched off.
    Stop(How),
    /// Somebody publishes on it.
    Publish { aspect: Aspect, receipts: u32 },
    /// Somebody looks something up on it.
    Ask(EntryAddress),
    /// A packet has come from a peer; `read` says whether the line has given it all.
    Packet { peer: u32, packet: Packet, read: bool },
    /// The connection with a peer has been silent for long.
    Silent(u32, ConnId),
    /// What the node itself waited for; `start` is the number of its start.
    Timer { start: u32, timer: Timer },
}

/// How a node is switched off.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum How {
    /// It says so to its peers.
    Politely,
    /// Without a word, and what was not synced is lost.
    Crash,
    /// As a crash, and the disk is gone.
    ForGood,
}

/// A connection: who has dialled, and the how-manieth of its attempts it was.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct ConnId {
    pub(crate) dialer: u32,
    pub(crate) attempt: u64,
}

/// A stream of a connection that carries a session or a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct StreamId {
    /// Whether who dialled has opened it.
    pub(crate) of_dialer: bool,
    pub(crate) number: u32,
}

/// A set as it truly is, beside what is said of it: for checks only.
pub(crate) type Witness = Option<Box<(Ids, ArcSet)>>;

#[derive(Debug)]
pub(crate) enum Packet {
    Dial(ConnId),
    Accepted(ConnId),
    /// The end; `unused` where one side had no use for it.
    Closed {
        conn: ConnId,
        unused: bool,
    },
    Control {
        conn: ConnId,
        message: Message,
        witness: Witness,
    },
    Push {
        conn: ConnId,
        message: Message,
    },
    Stream {
        conn: ConnId,
        stream: StreamId,
        what: OnStream,
    },
}

#[derive(Debug)]
pub(crate) enum OnStream {
    Message(Message, Witness),
    End,
    /// Whoever opened or answers it has dropped it.
    Reset,
}

#[derive(Debug)]
pub(crate) enum Timer {
    /// The swarm wants to be woken.
    Wake,
    /// A dial has led to nothing.
    Dialed(ConnId),
    /// A batch is durable.
    Synced(u64),
    /// A session may have been idle for too long.
    Idle(u32, StreamId),
    /// Keys of an answer are on their way.
    Answered { peer: u32, stream: StreamId, keys: usize, aspects: usize, bytes: u64 },
    /// A session that waits may be opened.
    Waiting,
    /// There may be something to fetch.
    Fill(u32),
    /// The line is free for the next push.
    Push(u32),
    /// No pong has come.
    Ping(u32, [u8; 8]),
    /// No answer has come.
    Asked(u32, StreamId),
    /// A look-up goes on.
    Search(u64),
    /// There may be room again.
    Room,
}

/// What the world is told of a node, at the moment when it happens.
#[derive(Debug)]
pub(crate) struct Seen {
    pub(crate) at: Time,
    pub(crate) node: u32,
    pub(crate) what: What,
}

#[derive(Debug)]
pub(crate) enum What {
    /// These are durable on it.
    Stored(Vec<AspectKey>),
    /// These are not on it any more.
    Dropped(Vec<AspectKey>),
    /// What it claims, and what it aims at.
    Claims(ArcSet, ArcSet),
    /// So many receipts have come as were waited for: from these.
    Acknowledged(Vec<AspectKey>, Vec<NodeId>),
    /// A look-up is over.
    Found { entry: EntryAddress, began: Time, aspects: Vec<AspectKey>, asked: usize },
    /// Something that must never be.
    Violation(String),
}
