//! What takes more than one peer: who does what.

mod copies;
mod fill;
mod handover;
mod quality;
mod random;
mod record;
mod schedule;
mod sizing;
mod table;

pub use copies::{Copies, CopiesError, Coverage, Density, Spread, Total, is_alien};
pub use fill::{Fill, Next, Piece, PieceId};
pub use handover::{Droppable, HandOver};
pub use quality::Quality;
pub use record::{Address, MAX_RECORD_LIFE, PeerRecord, RecordError, SignedRecord};
pub use schedule::{Due, Filling, Outcome, Schedule};
pub use sizing::{ABSENCE, Neighbour, Sizing};
pub use table::{Known, Learnt, Table, Wanted};
