//! What the machines of a node are told and what they answer, line by line, and the same again.
//!
//! A machine decides nothing but from what it is told, so with the calls of a real node and their times its
//! machines can be driven once more elsewhere: [`Replay`] says where they answer otherwise. [`TapedSwarm`] and
//! [`TapedSession`] stand for a [`Swarm`] and a [`Session`](crate::session::Session); where they have a
//! [`Tape`], they write down each call with the answer, and where they have none, they cost nothing.
//!
//! In the lines there is neither the node's key nor the id of any space: to replay a space its id is needed
//! besides. But what sessions carry is in them, aspects and all; so they are to be given only to who may see
//! that.

mod calls;
mod replay;
mod session;
mod text;

use std::{fmt, sync::Arc};

use serde::{Deserialize, Serialize};

pub use calls::{Call, TapedSwarm};
pub use replay::{Difference, Done, Replay, ReplayError};
pub use session::{Begin, Read, Set, Step, TapedSession};

use crate::{
    id::NodeId,
    swarm::{Settings, Swarm, TurnId},
    time::Time,
};

/// Longer answers are cut: what is behind counts by its hash only.
const MAX_ANSWER: usize = 4096;

/// One thing that has happened. Answers are text for people and to be compared, nothing else.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Line {
    /// Whose machines they are, and which software; the first line.
    Node {
        /// The node.
        node: NodeId,
        /// Name and version of the software.
        agent: String,
    },
    /// The node has entered a space.
    Space {
        /// The number by which the other lines name it.
        space: u32,
        /// [`SpaceId::fingerprint`](crate::SpaceId::fingerprint).
        fingerprint: String,
        /// When.
        now: Time,
        /// What the swarm was told when it began.
        settings: Settings,
    },
    /// The swarm of a space was told something.
    Told {
        /// Of which.
        space: u32,
        /// What.
        call: Call,
        /// What it has answered.
        answer: String,
    },
    /// A session has begun.
    Begun {
        /// In which space.
        space: u32,
        /// Which session.
        turn: TurnId,
        /// How.
        begin: Begin,
        /// What it wants done.
        answer: String,
    },
    /// A session was told something.
    Stepped {
        /// In which space.
        space: u32,
        /// Which session.
        turn: TurnId,
        /// What.
        step: Step,
        /// What it wants done.
        answer: String,
    },
    /// There is no room for more.
    Full,
}

/// Takes the lines, one after the other.
pub type Sink = Arc<dyn Fn(&Line) + Send + Sync>;

/// Where what happens in one space is written down.
#[derive(Clone)]
pub struct Tape {
    space: u32,
    sink: Sink,
}

impl Tape {
    /// One for the space that is named by this number.
    pub fn new(space: u32, sink: Sink) -> Self {
        Self { space, sink }
    }
}

impl fmt::Debug for Tape {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tape").field("space", &self.space).finish_non_exhaustive()
    }
}

/// An answer as it is written down.
fn told(answer: &impl fmt::Debug) -> String {
    let mut text = format!("{answer:?}");
    if text.len() > MAX_ANSWER {
        let hash = blake3::hash(text.as_bytes()).to_hex();
        text.truncate(text.floor_char_boundary(MAX_ANSWER));
        text.push_str(&format!("… ({})", &hash[..16]));
    }
    text
}
