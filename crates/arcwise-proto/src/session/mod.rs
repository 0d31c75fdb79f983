//! One conversation with one peer.

mod holdings;

pub use holdings::{Filter, Holdings, Position};
