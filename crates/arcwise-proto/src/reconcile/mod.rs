//! Reconciliation: which items differ, at the cost of the difference.

mod bits;
pub mod checkpoint;
pub mod estimate;
pub mod exchange;
pub mod field;
pub mod fingerprint;
mod item;
mod roots;
pub mod sectors;
pub mod sketch;
pub mod sums;

pub use item::{Place, ShortId, Span};
pub use sectors::{Items, Sectors};
pub use sketch::Sketch;
pub use sums::{Parts, Sums};
