//! Every decision of the Arcwise protocol, and no I/O.
//!
//! The protocol is the *Lib3h P2P Protocol*: peers on a ring tell each other their arcs, work out
//! what either lacks inside the overlap, fetch that, and push what is new at once. This crate holds
//! the parts that decide; the `arcwise` crate carries their bytes, time and disk to them.
//!
//! Imports point one way: `session` → [`wire`] → [`ring`].
//!
//! | module | what it knows |
//! |---|---|
//! | [`ring`] | locations, arcs, sets of arcs |
//! | [`aspect`] | what is shared: immutable, verified pieces of data |
//! | [`reconcile`] | which items differ, at the cost of the difference |
//! | [`wire`] | bytes ↔ messages |
//! | [`session`] | one conversation with one peer |
//! | [`swarm`] | what takes more than one peer |
//! | [`capture`] | what machines were told, to be told it again |
//! | [`limits`] | every bound, in one place |
//!
//! There is no runtime, socket, file, clock or randomness in here: time and secrets come in as
//! arguments, so a conversation replays to the bit.

pub mod aspect;
pub mod capture;
pub mod id;
pub mod limits;
pub mod reconcile;
pub mod ring;
pub mod session;
pub mod swarm;
pub mod time;
pub mod wire;

pub use aspect::{Aspect, AspectError, AspectKey, AuthorKey};
pub use id::{AspectHash, EntryAddress, NodeId, SpaceId};
pub use ring::{ArcSet, Location, RingArc};
pub use time::Time;
