//! Every bound on what a peer, a file or a caller may make us hold, in one place.
//!
//! A length that arrives from outside is compared with one of these before anything is allocated
//! for it. The relations between them are asserted when the crate is compiled.

use std::time::Duration;

/// Most data in one aspect, in bytes. Larger content is split by the application (the `arcwise`
/// program cuts files into chunks). A guess: big enough that per-aspect costs vanish, small enough
/// that a few in flight cost no memory to speak of.
pub const MAX_ASPECT_DATA: usize = 1 << 20;

/// Bytes of a canonical aspect besides its data, at most: form, entry, kind, time, author,
/// signature, length.
pub const ASPECT_OVERHEAD: usize = 1 + 32 + 4 + 8 + 32 + 64 + 4;

/// Largest body of a frame that carries aspects, in bytes: one aspect of the largest size.
pub const MAX_DATA_FRAME: usize = MAX_ASPECT_DATA + ASPECT_OVERHEAD + 64;

/// Largest body of every other frame, in bytes.
pub const MAX_FRAME: usize = 64 << 10;

/// A sender fills a frame of aspects up to about this many bytes: large enough that the frame's own
/// cost vanishes, small enough that the receiver begins to store early.
pub const DATA_FRAME_TARGET: usize = 60 << 10;

/// Most keys in one list frame (`msgGspArcRequest`, `msgGspArcResponse`, `msgGspAspectDataRequest`).
pub const PAGE_KEYS: usize = 1024;

/// Sets of no more aspects are compared by listing them: their hashes fit a few packets of the
/// network, and nothing else takes fewer round trips or less to explain.
pub const LIST_ITEMS: u64 = 128;

/// Most list frames a side may have sent that the other has not answered yet.
pub const LIST_WINDOW: usize = 8;

/// Most aspects a side may have asked for that have not arrived yet.
pub const MAX_WANTS: usize = 16 * PAGE_KEYS;

/// Most arcs in one set of arcs on the wire.
pub const MAX_ARCS: usize = 64;

/// Most space tags in one `Hello`.
pub const MAX_SPACES: usize = 1024;

/// Most bytes in the human-readable text of an `Error` or an agent name.
pub const MAX_TEXT: usize = 256;

/// Most bytes of payload in a `Direct` message.
pub const MAX_DIRECT: usize = 32 << 10;

/// Most bytes of an encoded peer record.
pub const MAX_RECORD: usize = 1024;

/// Most arcs in each of the sets of a peer record.
pub const MAX_RECORD_ARCS: usize = 8;

/// Most addresses in a peer record.
pub const MAX_ADDRESSES: usize = 8;

/// Most records in one `Peers` message.
pub const MAX_PEERS: usize = 32;

/// Most aspects that one audit asks about.
pub const MAX_AUDIT: usize = 8;

/// A conversation in which nothing at all has moved for this long is given up. A guess: well above
/// the worst stall of a busy disk (1.2 s measured), well below a person's patience.
pub const SESSION_IDLE: Duration = Duration::from_secs(30);

/// Bytes of one key in a list frame, at the very most: group tag and length, location, hash tag and
/// length, hash.
const KEY_ON_WIRE: usize = 2 + 5 + 3 + 32;

const _: () = assert!(PAGE_KEYS * KEY_ON_WIRE + 2048 <= MAX_FRAME, "a full page fits a frame");
const _: () = assert!(DATA_FRAME_TARGET < MAX_DATA_FRAME);
const _: () = assert!(MAX_SPACES * 18 + 1024 <= MAX_FRAME, "a full Hello fits a frame");
const _: () = assert!(MAX_ARCS * 16 * 3 + 1024 <= MAX_FRAME, "a full Handshake fits a frame");
const _: () = assert!(MAX_DIRECT + 1024 <= MAX_FRAME);
const _: () =
    assert!(MAX_PEERS * (MAX_RECORD + 64 + 64) + 1024 <= MAX_FRAME, "full Peers fit a frame");
const _: () = assert!(
    2 * MAX_RECORD_ARCS * 16 + MAX_ADDRESSES * 32 + 128 <= MAX_RECORD,
    "a record of IP addresses fits"
);
const _: () = assert!(MAX_WANTS >= LIST_WINDOW * PAGE_KEYS, "a full window can be wanted");
