//! The conversation in which two sides find out what differs.
//!
//! Two state machines, the [`Opener`] and the [`Answerer`], take packets and give packets until each
//! has an [`Outcome`]. By convention the opener is *she* and the answerer is *he*.
//!
//! ```text
//! she: Open                  count, check, counters and 12 syndromes of everything
//! he:  Same                  it is over
//!      Stream                one side has nothing: it is over
//!      Found                 up to 11 differences, decoded from that
//!      Pieces ..             sketches, or lists, of as many pieces as there may be differences in
//! she: Want .., Failed ..    what she lacks of the pieces decoded; which could not be
//! he:  Pieces ..             more syndromes of those, or smaller pieces, or lists; no more than a few
//!                            megabytes at once, the rest in another round
//! she: Want .., Close        nothing is left
//! he:  Claim                 the check of what is common, if all was right
//! she: Done                  it was
//!      Probe                 it was not: where? until the places are found, and listed with a salt
//! he:  Differ                there
//! ```
//!
//! Found is checked like a Claim. The check is of the items that both hold, computed by either side
//! from its own set and its own idea of what the other one lacks; nobody can make it come out right
//! by choosing items (see [`fingerprint`](super::fingerprint)). So wrong ideas, from ids that are
//! the same by chance or on purpose, are always noticed, and the repair does not rely on ids that
//! anybody could have prepared. It costs about a kilobyte for each wrong place, however large the
//! sets are.
//!
//! The sides read a snapshot each: what is stored meanwhile plays no part.
//!
//! Neither trusts the other one. What a packet makes a side do is charged to [`Limits`], every packet
//! brings the conversation forward, and what is kept is bounded by what was received, by the own set,
//! or by a constant.

mod answerer;
pub mod cost;
mod opener;
pub mod packet;
mod view;

pub use answerer::Answerer;
pub use cost::{Link, Method};
pub use opener::Opener;
pub use packet::Packet;
pub use view::View;

use std::collections::BTreeSet;

use super::{Span, sums::SYNDROMES};
use crate::aspect::AspectKey;

/// Syndromes in the opening: with them up to 11 differences take one round trip, and with the rest
/// the packet stays below 230 bytes for up to 10 million items.
pub const OPENING_SYNDROMES: usize = 12;

/// Differences that a piece is cut for. Fewer would cost more bytes for the spread around it, more
/// would cost more time to decode.
const PIECE_DIFFERENCES: f64 = 24.0;

/// Most pieces of one round. It bounds what is kept of them.
pub const ROUND_PIECES: u64 = 1 << 16;

/// Syndromes for a piece with that many expected differences: one standard deviation more, 5 % for
/// the error of the estimate, and the spare one that tells a wrong result. More would waste bytes
/// on most pieces, less would take another round trip for many.
fn syndromes_for(expected: f64) -> usize {
    ((1.05 * expected + expected.sqrt() + 2.0) as usize).min(SYNDROMES)
}

/// How much one conversation may cost us.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// In nanoseconds, about: each step is charged what it takes on an ordinary machine, before it is
    /// taken where that can be known, so that the same conversation ends at the same point everywhere.
    /// How much all conversations with one peer may take is for the caller to limit.
    pub work: u64,
}

impl Default for Limits {
    /// A minute: enough for any two sets of 10 million items, which take half of that where everything
    /// differs. An honest difference of 100,000 takes one or two seconds.
    fn default() -> Self {
        Self { work: 60_000_000_000 }
    }
}

/// Nanoseconds to read one of the items of a run, from a disk that is in the memory mostly.
const READ: u64 = 400;

/// To look one up by its id.
const LOOK_UP: u64 = 15_000;

/// What was spent of it.
#[derive(Debug)]
struct Work {
    limit: u64,
    spent: u64,
}

impl Work {
    fn new(limits: Limits) -> Self {
        Self { limit: limits.work, spent: 0 }
    }

    fn charge(&mut self, nanos: u64) -> Result<(), Fault> {
        self.spent = self.spent.saturating_add(nanos);
        if self.spent > self.limit { Err(Fault::Work) } else { Ok(()) }
    }

    /// Taking a packet, whatever is in it.
    fn packet(&mut self) -> Result<(), Fault> {
        self.charge(5_000)
    }

    /// Decoding a sketch.
    fn decode(&mut self, syndromes: usize) -> Result<(), Fault> {
        self.charge(250 * (syndromes as u64).pow(2) + 1000)
    }

    /// Adding up the sectors of a run inside one arc, or beginning to read it.
    fn sum(&mut self) -> Result<(), Fault> {
        self.charge(5_000)
    }

    /// Reading items one by one.
    fn read(&mut self, items: u64) -> Result<(), Fault> {
        self.charge(items.saturating_mul(READ))
    }

    /// Expanding items to their fingerprints.
    fn fingerprints(&mut self, items: u64) -> Result<(), Fault> {
        self.charge(items.saturating_mul(1_000))
    }
}

/// How the peer broke a rule.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Fault {
    /// A packet that may not come now.
    #[error("a packet of another kind was due")]
    Unexpected,
    /// Something is said of a piece that there is not, or not any more.
    #[error("a packet speaks of a piece that there is not")]
    NoSuchPiece,
    /// A packet that brings nothing forward.
    #[error("a packet says nothing")]
    Empty,
    /// A round with more pieces than it may have.
    #[error("there are more than {ROUND_PIECES} pieces at once")]
    TooMany,
    /// Not everything was answered.
    #[error("a packet leaves something out")]
    Incomplete,
    /// After every difference was found, the checks are not the same.
    #[error("the peer's checks contradict what it says it has")]
    Disagrees,
    /// It would be more than [`Limits`] allow. Not necessarily its fault.
    #[error("comparing takes more work than is allowed for one peer")]
    Work,
}

/// Why a conversation ended early. The sets can still be compared by plain lists.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error<E> {
    /// The peer broke a rule.
    #[error(transparent)]
    Peer(#[from] Fault),
    /// Our own store cannot be read.
    #[error("the store cannot be read")]
    Items(#[source] E),
}

/// What a side knows at the end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The other side has nothing: everything goes over, no questions asked.
    SendAll,
    /// This side has nothing, and gets everything.
    TakeAll,
    /// The items that this side holds and the other one lacks; nothing, where the sets are the same.
    /// What this side lacks the other one knows, and sends; [`Report::theirs`] says how many.
    Send(BTreeSet<AspectKey>),
}

/// What to do after a packet.
#[derive(Debug, PartialEq, Eq)]
#[must_use]
pub struct Step {
    /// To be sent, in order.
    pub send: Vec<Packet>,
    /// Once: it is over.
    pub outcome: Option<Outcome>,
}

/// What a conversation took, from one side.
#[derive(Clone, Debug, PartialEq)]
pub struct Report {
    /// How the sets were compared.
    pub method: Method,
    /// How many items were thought to differ before anything was decoded; answerer only.
    pub estimate: f64,
    /// Items that this side holds and the other lacks; 0 for [`Method::Stream`].
    pub ours: u64,
    /// Items that the other side holds and this one lacks.
    pub theirs: u64,
    /// Items that go over though they need not.
    pub redundant: u64,
    /// Whether something was decoded wrongly at first.
    pub repaired: bool,
    /// How often the other side was to speak next: begun round trips, for the opener.
    pub turns: u32,
    /// Bytes of the packets sent.
    pub sent: u64,
    /// Bytes of the packets received, as this implementation would have written them.
    pub received: u64,
    /// What was spent of [`Limits::work`], also where the conversation ended with an error.
    pub work: u64,
}

impl Report {
    /// Bytes that naming the difference takes at least, by 48-bit ids.
    pub fn bound(&self) -> f64 {
        cost::bound(self.ours + self.theirs)
    }
}

/// What both machines have.
#[derive(Debug)]
struct Side {
    ours: BTreeSet<AspectKey>,
    outcome: Option<Outcome>,
    report: Report,
}

impl Default for Side {
    fn default() -> Self {
        let report = Report {
            method: Method::Same,
            estimate: 0.0,
            ours: 0,
            theirs: 0,
            redundant: 0,
            repaired: false,
            turns: 0,
            sent: 0,
            received: 0,
            work: 0,
        };
        Self { ours: BTreeSet::new(), outcome: None, report }
    }
}

impl Side {
    fn received(&mut self, packet: &Packet) {
        self.report.received += packet.encode().len() as u64;
    }

    fn sent(&mut self, packets: &[Packet]) {
        self.report.sent += packets.iter().map(|p| p.encode().len() as u64).sum::<u64>();
        self.report.turns += packets.iter().filter(|packet| packet.asks()).count() as u32;
    }

    fn step(&mut self, send: Vec<Packet>) -> Step {
        self.sent(&send);
        Step { send, outcome: self.outcome.take() }
    }

    /// Whatever was thought of a run of places before: the other side lacks nothing of it.
    fn forget(&mut self, span: Span) {
        let (first, last) = span.keys();
        let gone: Vec<AspectKey> = self.ours.range(first..=last).copied().collect();
        for key in gone {
            self.ours.remove(&key);
        }
    }

    fn finish(&mut self) {
        self.report.ours = self.ours.len() as u64;
        self.outcome = Some(Outcome::Send(std::mem::take(&mut self.ours)));
    }
}
