//! What takes more than one peer: who does what.

mod fill;

pub use fill::{Fill, Next, Piece, PieceId};
