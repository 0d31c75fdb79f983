//! Arcwise networks in virtual time.
//!
//! A simulation runs the protocol's own machines, [`Swarm`](arcwise_proto::swarm::Swarm),
//! [`Control`](arcwise_proto::session::Control) and [`Session`](arcwise_proto::session::Session), for each of
//! its nodes, over a network, disks, clocks and people that are simulated. The same scenario and seed give the
//! same results, to the bit.

mod disk;
mod event;
pub mod flow;
mod network;
mod node;
mod people;
pub mod plan;
mod random;
pub mod report;
pub mod results;
mod run;
pub mod scenario;
mod shard;
mod shrink;
mod watch;

pub use run::{Options, Progress, run};
pub use shrink::shrink;
