//! One conversation with one peer, sans-IO.
//!
//! | module | stream | messages |
//! |---|---|---|
//! | [`Control`] | the control stream of a connection | Hello, msgHandshake, msgPing, msgPong |
//! | [`Session`] | one stream for each gossip session | msgGspArcRequest, msgGspArcResponse, msgGspAspectDataRequest, msgGspAspectDataResponse |
//!
//! **The driving law**, the same for both: hand an event to `handle` with the time, then take
//! outputs with `poll_output` until there are none, and carry each out in order. A machine does
//! nothing of its own accord: it has no clock, no socket, no store handle and no task. It reads
//! the store only through [`Holdings`], and what it wants written is an output.
//!
//! **The ordering rule**: nothing is listed, acknowledged or counted before it is durably stored.
//! [`Holdings`] shows only what is durable, and [`Input::Stored`] is given only after it is.

mod budget;
mod compare;
mod control;
mod fault;
mod fetch;
mod gossip;
mod holdings;
mod list;

pub use budget::Budget;
pub use control::{
    Binding, Control, ControlOutput, LocalSpace, PeerSpace, VERSION, replaces, shared_arcs,
};
pub use fault::{BUSY, Fault, SessionError};
pub use gossip::{Constraints, Flow, Input, Output, Report, Role, Session, Terms, yields};
pub use holdings::{Digest, Filter, Gist, Holdings, Position, Snapshot};
