//! What takes more than one peer: who does what.

mod fill;
mod record;

pub use fill::{Fill, Next, Piece, PieceId};
pub use record::{Address, MAX_RECORD_LIFE, PeerRecord, RecordError, SignedRecord};
