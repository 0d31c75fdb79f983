//! Aspects on disk, and what is known of them.
//!
//! A [`Store`] is one folder. It holds any number of [`Space`]s, the peers and settings of the node
//! and, for each space, its aspects: durably, once [`Space::insert`] has returned, until they are removed. All
//! calls block and may be made from any thread; a server calls them away from the threads that
//! serve its network, since a busy disk can take a second.
//!
//! # On disk
//!
//! One LSM database in `db/`, beside a file `FORMAT` with the version of it all. Four keyspaces, as
//! few as there can be, since each index costs write bandwidth; integers are big-endian:
//!
//! | keyspace | key | value | serves |
//! |---|---|---|---|
//! | `index` | space number u32, location u32, aspect hash 32 | local sequence number u64, publish time u64 (µs) | lists in ring order, "is it held", finding an aspect, finding an entry (by its location) |
//! | `ids` | space number u32, first six bytes of the aspect hash, location u32 | nothing | finding an aspect by a short id, in a session |
//! | `log` | space number u32, local sequence number u64 | canonical encoding of the aspect; or 255, location, hash and sequence number of one that was removed | what came after a point, the content |
//! | `meta` | `s`, space number u32 | id, target arcs, held arcs, name | |
//! | `meta` | `c`, space number u32 | last sequence number, count, bytes, sequence number of the last removal: u64 each | statistics, positions |
//! | `meta` | `e`, space number u32 | up to 64 times epoch u64, start u64 | recognising positions |
//! | `meta` | `l`, space number u32 | most bytes, longest age (µs): u64 each, all ones for any | limits |
//! | `meta` | `d`, space number u32 | `cleared`, or nothing while there may be rows of it | deleted spaces, whose numbers are not used again |
//! | `meta` | `p`, node id 32 | opaque | peers |
//! | `meta` | `k`, text | opaque | settings of the node |
//!
//! The log is written in the order of its keys. An aspect is removed with its rows, and the removal is
//! logged, until a checkpoint has made that needless. The rows of an aspect in `index` and `log` and the counters that include it are one atomic
//! batch, which is synced before any reader can see it: so what shows is durable. `ids` follows when a
//! checkpoint is written, and what it lacks is in memory until then.
//!
//! Beside the database, `sums/` has checkpoints of what is kept in memory to compare a space with other
//! nodes (see `sums.rs`). They can be made anew from the rest.
//!
//! # Trust
//!
//! What is read is checked: an aspect's hash is computed again and compared with the key it was
//! found by. A mismatch is [`StoreError::Damaged`], and [`Store::check`] finds all there is.

mod check;
mod commit;
mod error;
mod folder;
mod ids;
mod rows;
mod space;
mod store;
mod sums;
mod sweep;
mod tidy;

pub use check::CheckReport;
pub use error::{Damage, EngineError, Fault, Limited, OpenError, Row, StoreError};
pub use rows::Limits;
pub use space::{Space, SpaceStats};
pub use store::{Options, Store};
pub use sums::Items;
pub use sweep::{Keep, Swept};
pub use tidy::StoreStats;
