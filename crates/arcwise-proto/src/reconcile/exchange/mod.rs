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
//! he:  Pieces ..             more syndromes of those, or smaller pieces, or lists
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

use super::sums::SYNDROMES;
use crate::aspect::AspectKey;

/// Syndromes in the opening: with them up to 11 differences take one round trip, and with the rest
/// the packet stays below 230 bytes for up to 10 million items.
pub const OPENING_SYNDROMES: usize = 12;

/// Differences that a piece is cut for. Fewer would cost more bytes for the spread around it, more
/// would cost more time to decode.
const PIECE_DIFFERENCES: f64 = 24.0;

/// Syndromes for a piece with that many expected differences: one standard deviation more, 5 % for
/// the error of the estimate, and the spare one that tells a wrong result. More would waste bytes
/// on most pieces, less would take another round trip for many.
fn syndromes_for(expected: f64) -> usize {
    ((1.05 * expected + expected.sqrt() + 2.0) as usize).min(SYNDROMES)
}

/// How much one conversation may cost us.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// In nanoseconds, about: each step is charged what it takes at most on an ordinary machine, so
    /// that the same conversation ends at the same point everywhere.
    pub work: u64,
}

impl Default for Limits {
    /// 10 seconds: ten times what an honest difference of 100,000 takes.
    fn default() -> Self {
        Self { work: 10_000_000_000 }
    }
}

/// What is left of it.
#[derive(Debug)]
struct Work(u64);

impl Work {
    fn new(limits: Limits) -> Self {
        Self(limits.work)
    }

    fn charge(&mut self, nanos: u64) -> Result<(), Fault> {
        self.0 = self.0.checked_sub(nanos).ok_or(Fault::Work)?;
        Ok(())
    }

    /// Decoding a sketch.
    fn decode(&mut self, syndromes: usize) -> Result<(), Fault> {
        self.charge(250 * (syndromes as u64).pow(2) + 1000)
    }

    /// Summing up a piece: at both ends a sector may have to be read.
    fn piece(&mut self, load: u64) -> Result<(), Fault> {
        self.charge(20_000 + 50 * load)
    }

    /// The same with fingerprints.
    fn probe(&mut self, load: u64) -> Result<(), Fault> {
        self.charge(50_000 + 500 * load)
    }

    /// Reading items one by one.
    fn items(&mut self, items: u64) -> Result<(), Fault> {
        self.charge(500 * items)
    }

    /// Looking items up by their ids.
    fn look_ups(&mut self, ids: u64) -> Result<(), Fault> {
        self.charge(5_000 * ids)
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
    /// Packets to the other side that were followed by one from it: begun round trips, for the
    /// opener.
    pub turns: u32,
    /// Bytes of the packets sent.
    pub sent: u64,
    /// Bytes of the packets received.
    pub received: u64,
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
        self.report.turns += u32::from(!packets.is_empty());
    }

    fn step(&mut self, send: Vec<Packet>) -> Step {
        self.sent(&send);
        Step { send, outcome: self.outcome.take() }
    }

    fn finish(&mut self) {
        self.report.ours = self.ours.len() as u64;
        self.outcome = Some(Outcome::Send(std::mem::take(&mut self.ours)));
    }
}
