//! What takes more than one peer: who does what.

mod fill;
mod random;
mod record;
mod schedule;

pub use fill::{Fill, Next, Piece, PieceId};
pub use record::{Address, MAX_RECORD_LIFE, PeerRecord, RecordError, SignedRecord};
pub use schedule::{Due, Filling, Outcome, Schedule};
