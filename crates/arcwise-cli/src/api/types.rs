//! What requests and answers say.

use std::{net::SocketAddr, time::Duration};

use arcwise::{ArcSet, NodeId, SyncError};
use serde::{Deserialize, Serialize};

use super::{Code, Error};

/// Which space a request is about.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(crate) struct InSpace {
    /// A name, or the beginning of a fingerprint. Nothing where there is one space only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) space: Option<String>,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct AtEntry {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) space: Option<String>,
    /// 64 hexadecimal digits.
    pub(crate) address: String,
}

#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Ping {
    /// Whether to ask each connected peer for a sign of life.
    #[serde(default)]
    pub(crate) ping: bool,
}

/// How the node stands.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Status {
    pub(crate) version: String,
    #[serde(with = "text")]
    pub(crate) node: NodeId,
    /// Its folder.
    pub(crate) data: String,
    pub(crate) pid: u32,
    pub(crate) running_seconds: f64,
    pub(crate) listening: Vec<SocketAddr>,
    /// Where it tells others that it may be reached.
    pub(crate) addresses: Vec<SocketAddr>,
    /// The relays that it uses where no direct path is found.
    pub(crate) relays: Vec<String>,
    pub(crate) disk: Disk,
    pub(crate) bandwidth: Bandwidth,
    /// Since the daemon started, and in the last minute or so.
    pub(crate) traffic: Traffic,
    pub(crate) lately: Lately,
    /// Why nothing is stored any more, where the disk has failed the store.
    pub(crate) stopped: Option<String>,
    /// What was warned of when the daemon started.
    #[serde(default)]
    pub(crate) warnings: Vec<String>,
    pub(crate) spaces: Vec<Space>,
    #[serde(flatten)]
    pub(crate) peers: Peers,
}

/// How many bytes a second the node may move; nothing for any number.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub(crate) struct Bandwidth {
    pub(crate) up: Option<u64>,
    pub(crate) down: Option<u64>,
}

impl From<arcwise::Bandwidth> for Bandwidth {
    fn from(bandwidth: arcwise::Bandwidth) -> Self {
        Self { up: bandwidth.up(), down: bandwidth.down() }
    }
}

/// What bytes on the network were for: those of messages, by cause, and QUIC's own. See
/// [`arcwise::Traffic`].
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Traffic {
    pub(crate) control: Moved,
    pub(crate) comparing: Moved,
    pub(crate) fetching: Moved,
    pub(crate) pushing: Moved,
    pub(crate) queries: Moved,
    pub(crate) proofs: Moved,
    pub(crate) transport: Moved,
}

impl From<arcwise::Traffic> for Traffic {
    fn from(traffic: arcwise::Traffic) -> Self {
        let moved = |arcwise::Moved { sent, received }| Moved { sent, received };
        Self {
            control: moved(traffic.control),
            comparing: moved(traffic.comparing),
            fetching: moved(traffic.fetching),
            pushing: moved(traffic.pushing),
            queries: moved(traffic.queries),
            proofs: moved(traffic.proofs),
            transport: moved(traffic.transport),
        }
    }
}

impl Traffic {
    /// Each part with its name.
    pub(crate) fn causes(&self) -> [(&'static str, Moved); 7] {
        [
            ("control", self.control),
            ("comparing", self.comparing),
            ("fetching", self.fetching),
            ("pushing", self.pushing),
            ("queries", self.queries),
            ("proofs", self.proofs),
            ("transport", self.transport),
        ]
    }

    pub(crate) fn total(&self) -> Moved {
        self.causes().into_iter().fold(Moved::default(), |sum, (_, moved)| Moved {
            sent: sum.sent + moved.sent,
            received: sum.received + moved.received,
        })
    }
}

/// Bytes from this node, and to it.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Moved {
    pub(crate) sent: u64,
    pub(crate) received: u64,
}

/// What moved in the last so many seconds.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub(crate) struct Lately {
    pub(crate) seconds: f64,
    #[serde(flatten)]
    pub(crate) traffic: Traffic,
}

#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub(crate) struct Disk {
    /// Bytes that the data folder takes.
    pub(crate) used: u64,
    /// Bytes that are free beside it; nothing where the system does not say.
    pub(crate) free: Option<u64>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Space {
    pub(crate) name: String,
    pub(crate) fingerprint: String,
    pub(crate) aspects: u64,
    pub(crate) bytes: u64,
    /// Everything in here is held.
    pub(crate) held: Arcs,
    /// What the node fills towards.
    pub(crate) target: Arcs,
    /// Which part of the ring it was told to hold, as [`arcwise::Share`] is written.
    pub(crate) arc: String,
    /// How many bytes it may hold here, and for how many seconds; nothing for any number.
    pub(crate) max_bytes: Option<u64>,
    pub(crate) keep_seconds: Option<f64>,
    /// Why nothing new is taken now, where there is no room.
    pub(crate) full: Option<String>,
    /// Connected peers that are in it.
    pub(crate) peers: usize,
    pub(crate) progress: Progress,
}

/// How far a space is. Nothing stands for what is not known.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Progress {
    /// Whether the node finds out itself which part of the ring to hold.
    pub(crate) automatic: bool,
    /// Nodes that are known besides this one, and those that can be reached as far as is known.
    pub(crate) known_nodes: usize,
    pub(crate) reachable_nodes: usize,
    /// Copies, as nodes claim them, of what this node holds or fills; weighed with how likely each node
    /// can be reached, and rounded down to hundredths.
    pub(crate) copies: Option<Level>,
    pub(crate) copies_wanted: Copies,
    /// How much the whole space holds, about.
    pub(crate) total: Option<Total>,
    /// What of the node's part was not seen to be the same at any connected peer.
    pub(crate) unverified: Arcs,
    /// Where something is held that others are to take over.
    pub(crate) outside: Arcs,
    pub(crate) rate: Rate,
    /// What is still to be fetched, about, while something is and it is known how much there is.
    pub(crate) left: Option<Left>,
}

#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Level {
    /// Where there are the fewest.
    pub(crate) min: f64,
    /// A twentieth of the part has no more.
    pub(crate) p5: f64,
    /// Half of the part has no more.
    pub(crate) median: f64,
}

/// How many copies of everything a space wants: at least, and normally.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Copies {
    pub(crate) min: u32,
    pub(crate) target: u32,
}

#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Total {
    pub(crate) aspects: u64,
    pub(crate) bytes: u64,
    /// There are hardly fewer, and hardly more aspects than these.
    pub(crate) low: u64,
    pub(crate) high: u64,
}

/// What comes from others, over the last ten seconds.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Rate {
    pub(crate) aspects_per_second: f64,
    pub(crate) bytes_per_second: f64,
}

#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Left {
    pub(crate) aspects: u64,
    pub(crate) bytes: u64,
    /// If it goes on like this; nothing while nothing comes.
    pub(crate) seconds: Option<f64>,
}

impl From<&arcwise::Progress> for Progress {
    fn from(arcwise::Progress { overview, rate, left }: &arcwise::Progress) -> Self {
        let down = |number: f64| (number * 100.0).floor() / 100.0;
        Self {
            automatic: overview.automatic,
            known_nodes: overview.known,
            reachable_nodes: overview.reachable,
            copies: overview.copies.map(|level| Level {
                min: down(level.min),
                p5: down(level.p5),
                median: down(level.median),
            }),
            copies_wanted: Copies { min: overview.wanted.min(), target: overview.wanted.target() },
            total: overview.total.map(|total| Total {
                aspects: total.count,
                bytes: total.bytes,
                low: total.low,
                high: total.high,
            }),
            unverified: (&overview.unverified).into(),
            outside: (&overview.outside).into(),
            rate: Rate {
                aspects_per_second: down(rate.aspects),
                bytes_per_second: rate.bytes.round(),
            },
            left: left.map(|left| Left {
                aspects: left.aspects,
                bytes: left.bytes,
                seconds: left.time.map(|time| time.as_secs_f64().round()),
            }),
        }
    }
}

/// A part of the ring.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Arcs {
    /// Its share of the ring, 0 to 1.
    pub(crate) fraction: f64,
    /// `full`, or first and last locations in hexadecimal.
    pub(crate) arcs: Vec<String>,
}

impl From<&ArcSet> for Arcs {
    fn from(set: &ArcSet) -> Self {
        let arcs = set.arcs().iter().map(ToString::to_string).collect();
        Self { fraction: set.fraction(), arcs }
    }
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct NewSpace {
    pub(crate) name: String,
    #[serde(default)]
    pub(crate) max_bytes: Option<u64>,
    #[serde(default)]
    pub(crate) keep_seconds: Option<f64>,
    /// The library's numbers where this is left out.
    #[serde(default)]
    pub(crate) copies: Option<Copies>,
    /// Which part of the ring to hold, as [`arcwise::Share`] is written; `auto` where it is left out.
    #[serde(default)]
    pub(crate) arc: Option<String>,
}

/// How many bytes a space may hold here.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub(crate) struct Limit {
    pub(crate) max_bytes: Option<u64>,
}

/// Which part of the ring to hold.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Hold {
    /// As [`arcwise::Share`] is written: `auto`, `full`, `empty`, a number from 0 to 1, or arcs.
    pub(crate) share: String,
    /// Whether what is held outside is removed at once.
    pub(crate) drop: bool,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Held {
    pub(crate) space: Space,
    /// Aspects that were held outside.
    pub(crate) removed: u64,
}

/// Whoever has it can join.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct SpaceId {
    pub(crate) fingerprint: String,
    pub(crate) id: String,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Ticket {
    pub(crate) ticket: String,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Join {
    pub(crate) ticket: String,
    /// Which part of the ring to hold, as [`arcwise::Share`] is written; `auto` where it is left out.
    #[serde(default)]
    pub(crate) arc: Option<String>,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Joined {
    pub(crate) space: Space,
    /// Whose ticket it was.
    #[serde(with = "text")]
    pub(crate) peer: NodeId,
    /// The node was in the space before.
    pub(crate) already: bool,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Peers {
    pub(crate) peers: Vec<Peer>,
    /// Known, but not connected.
    pub(crate) unreachable: Vec<Unreachable>,
    /// With whom this node has nothing to do.
    #[serde(default)]
    pub(crate) blocked: Vec<Known>,
}

#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub(crate) struct Known {
    #[serde(with = "text")]
    pub(crate) id: NodeId,
}

/// Whom to have nothing to do with, or to have to do with again.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Block {
    /// An id, or the beginning of the id of a peer that is known.
    pub(crate) peer: String,
    pub(crate) block: bool,
}

#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub(crate) struct Blocked {
    #[serde(with = "text")]
    pub(crate) id: NodeId,
    /// False where it was so before.
    pub(crate) changed: bool,
}

/// A connected peer.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Peer {
    #[serde(with = "text")]
    pub(crate) id: NodeId,
    /// The name and version it gives to its software.
    pub(crate) agent: String,
    /// Nothing where its packets do not go to an IP address.
    pub(crate) address: Option<SocketAddr>,
    pub(crate) relayed: bool,
    /// Whether this node has dialled.
    pub(crate) dialed: bool,
    pub(crate) connected_seconds: f64,
    pub(crate) round_trip_ms: Option<f64>,
    /// How far its clock is ahead of ours.
    pub(crate) clock_ahead_ms: f64,
    /// All of the traffic together.
    pub(crate) sent_bytes: u64,
    pub(crate) received_bytes: u64,
    pub(crate) traffic: Traffic,
    /// Where one was asked for, how long the answer to a ping took, or why there was none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) ping_ms: Option<f64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) ping_error: Option<String>,
    /// The spaces that both are in.
    pub(crate) spaces: Vec<PeerSpace>,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct PeerSpace {
    pub(crate) name: String,
    pub(crate) fingerprint: String,
    /// What the peer claims to hold, when it last told.
    pub(crate) held: Arcs,
    pub(crate) target: Arcs,
    pub(crate) aspects: u64,
    /// Nothing while the peer has not said anything of itself.
    pub(crate) quality: Option<Quality>,
    /// How long ago both were last seen to hold the same.
    pub(crate) same_seconds_ago: Option<f64>,
    /// Nothing where none has ended since the peer connected.
    pub(crate) last_sync: Option<LastSync>,
}

/// How good a peer is, by what was seen here and by what others say.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub(crate) struct Quality {
    /// How likely it can be reached, 0 to 1; nothing where that is not known yet.
    pub(crate) availability: Option<f64>,
    pub(crate) round_trip_ms: Option<f64>,
    /// What it gives when it is asked for much.
    pub(crate) kilobytes_per_second: Option<u32>,
    /// Rules that it broke; those that are long ago count less.
    pub(crate) faults: f64,
    /// Whether it is believed that it holds what it claims.
    pub(crate) trusted: bool,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct LastSync {
    pub(crate) seconds_ago: f64,
    #[serde(flatten)]
    pub(crate) outcome: Outcome,
}

/// How a comparison with a peer ended.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Outcome {
    pub(crate) in_sync: bool,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) failure: Option<String>,
    /// What kind of failure, where that is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) code: Option<Code>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) report: Option<Report>,
}

impl Outcome {
    pub(crate) fn new(result: &Result<arcwise::Report, impl ToString>) -> Self {
        let in_sync = result.as_ref().is_ok_and(arcwise::Report::in_sync);
        let failure = result.as_ref().err().map(ToString::to_string);
        Self { in_sync, failure, code: None, report: result.as_ref().ok().map(Report::from) }
    }

    /// With the kind of failure.
    pub(crate) fn of(result: &Result<arcwise::Report, SyncError>) -> Self {
        Self { code: result.as_ref().err().map(Code::of_sync), ..Self::new(result) }
    }

    /// What did not work and what it was, where this node's own disk or store is at fault: that does
    /// not pass by itself.
    pub(crate) fn ours(&self) -> Option<Error> {
        let code = self
            .code
            .filter(|code| matches!(code, Code::DiskFull | Code::Damaged | Code::Store))?;
        Some(Error::new(code, self.failure.clone().unwrap_or_default()))
    }
}

/// What a comparison took.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub(crate) struct Report {
    pub(crate) fetched: u64,
    pub(crate) fetched_bytes: u64,
    pub(crate) sent: u64,
    pub(crate) sent_bytes: u64,
    /// Hashes told and heard, where they were listed.
    pub(crate) listed: u64,
    pub(crate) heard: u64,
    /// What it took to find out what differs, where nothing was listed.
    pub(crate) comparison: Option<Comparison>,
    /// Milliseconds of computing for that, at this end.
    pub(crate) computing_ms: f64,
    /// Aspects that could not be believed, and some that the peer no longer had.
    pub(crate) rejected: u64,
    pub(crate) gone: u64,
    /// Whether only a part was compared, as asked or as an earlier session allows.
    pub(crate) constrained: bool,
}

impl From<&arcwise::Report> for Report {
    fn from(report: &arcwise::Report) -> Self {
        Self {
            fetched: report.fetched,
            fetched_bytes: report.fetched_bytes,
            sent: report.sent,
            sent_bytes: report.sent_bytes,
            listed: report.listed,
            heard: report.heard,
            comparison: report.comparison.as_ref().map(Comparison::from),
            computing_ms: report.computing.as_secs_f64() * 1e3,
            rejected: report.rejected,
            gone: report.gone,
            constrained: report.constrained,
        }
    }
}

/// How two sets were compared.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub(crate) struct Comparison {
    pub(crate) method: Method,
    /// Aspects that only this end had, and that only the other had.
    pub(crate) ours: u64,
    pub(crate) theirs: u64,
    pub(crate) round_trips: u32,
    pub(crate) sent_bytes: u64,
    pub(crate) received_bytes: u64,
    /// Bytes that naming the difference takes at least.
    pub(crate) bound_bytes: f64,
    /// Whether something was decoded wrongly at first.
    pub(crate) repaired: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Method {
    /// The fingerprints were the same.
    Same,
    /// One side had nothing.
    Stream,
    /// The difference was in the first sketch.
    Opening,
    /// Sketches of pieces.
    Sketches,
    /// Lists of shortened ids.
    Lists,
}

impl From<&arcwise::Comparison> for Comparison {
    fn from(comparison: &arcwise::Comparison) -> Self {
        Self {
            method: match comparison.method {
                arcwise::Method::Same => Method::Same,
                arcwise::Method::Stream => Method::Stream,
                arcwise::Method::Opening => Method::Opening,
                arcwise::Method::Sketches => Method::Sketches,
                arcwise::Method::Lists => Method::Lists,
            },
            ours: comparison.ours,
            theirs: comparison.theirs,
            round_trips: comparison.turns,
            sent_bytes: comparison.sent,
            received_bytes: comparison.received,
            bound_bytes: comparison.bound(),
            repaired: comparison.repaired,
        }
    }
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Unreachable {
    #[serde(with = "text")]
    pub(crate) id: NodeId,
    pub(crate) addresses: Vec<SocketAddr>,
    pub(crate) relays: Vec<String>,
    /// What became of the last attempt, and in words for people.
    pub(crate) failure_code: Option<Failure>,
    pub(crate) failure: Option<String>,
}

/// Why a peer was not reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Failure {
    NoAddress,
    NoAnswer,
    PortClosed,
    OtherNode,
    OtherProtocol,
    Refused,
    Declined,
    Blocked,
    Ended,
    Itself,
    NoKey,
    /// In the words beside it.
    #[serde(other)]
    Other,
}

impl From<&arcwise::DialFailure> for Failure {
    fn from(failure: &arcwise::DialFailure) -> Self {
        use arcwise::DialFailure;
        match failure {
            DialFailure::NoAddress => Self::NoAddress,
            DialFailure::NoAnswer(_) => Self::NoAnswer,
            DialFailure::PortClosed => Self::PortClosed,
            DialFailure::OtherNode => Self::OtherNode,
            DialFailure::OtherProtocol => Self::OtherProtocol,
            DialFailure::Refused => Self::Refused,
            DialFailure::Declined => Self::Declined,
            DialFailure::Blocked => Self::Blocked,
            DialFailure::Ended(_) => Self::Ended,
            DialFailure::Itself => Self::Itself,
            DialFailure::NoKey => Self::NoKey,
            _ => Self::Other,
        }
    }
}

/// Whom to try to reach, and where besides what is known.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Probe {
    #[serde(with = "text")]
    pub(crate) peer: NodeId,
    #[serde(default)]
    pub(crate) addresses: Vec<SocketAddr>,
    #[serde(default)]
    pub(crate) relays: Vec<String>,
}

/// What came of trying one address.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Tried {
    /// An IP address with a port, or the URL of a relay.
    pub(crate) address: String,
    /// How long it took to connect.
    pub(crate) reached_ms: Option<f64>,
    pub(crate) failure_code: Option<Failure>,
    pub(crate) failure: Option<String>,
}

/// What is asked about: see [`Why`].
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct AskWhy {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) space: Option<String>,
    /// An aspect's hash or an entry's address, 64 hexadecimal digits.
    pub(crate) what: String,
}

/// Where something is, and why it is or is not to be had.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Why {
    pub(crate) space: String,
    pub(crate) name: String,
    /// Where that was asked for, and it is held here.
    pub(crate) aspect: Option<String>,
    pub(crate) entry: String,
    /// Where it belongs on the ring.
    pub(crate) location: String,
    /// Whether this node claims to hold all that belongs there.
    pub(crate) claimed_here: bool,
    /// Hashes of the aspects that are held here, and of those that others have.
    pub(crate) held_here: Vec<String>,
    pub(crate) found_elsewhere: Vec<String>,
    /// Other nodes that have just confirmed that they hold all of these, durably.
    pub(crate) copies_confirmed: usize,
    pub(crate) copies_wanted: Copies,
    /// Who is known to hold or fill what belongs there.
    pub(crate) claims: Vec<Claim>,
    /// Who was asked for it, in order.
    pub(crate) asked: Vec<Asked>,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Claim {
    #[serde(with = "text")]
    pub(crate) node: NodeId,
    /// False where it only fills that part.
    pub(crate) holds: bool,
    pub(crate) connected: bool,
    pub(crate) availability: Option<f64>,
    pub(crate) trusted: bool,
    pub(crate) confirms: bool,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Asked {
    #[serde(with = "text")]
    pub(crate) peer: NodeId,
    pub(crate) claims: bool,
    /// Who has named it, where it was not known before.
    pub(crate) named_by: Option<String>,
    pub(crate) round_trip_ms: Option<f64>,
    /// How long its answer took.
    pub(crate) took_ms: Option<f64>,
    /// How many aspects it gave, or why none.
    pub(crate) aspects: Option<usize>,
    pub(crate) failure: Option<String>,
}

/// How many copies to wait for.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct WaitForCopies {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) space: Option<String>,
    pub(crate) copies: u32,
}

/// How far that is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Replication {
    pub(crate) aspects: usize,
    /// How many of them are known to have as many copies as are waited for; others may have.
    pub(crate) complete: usize,
    /// How many copies of each of those that are being asked for there are at least.
    pub(crate) copies: u32,
}

#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Sync {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) space: Option<String>,
    /// The beginning of a node's id; all connected peers in the space where it is left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) peer: Option<String>,
    #[serde(default)]
    pub(crate) full: bool,
    /// Microseconds since the Unix epoch.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) published_since_micros: Option<u64>,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Synced {
    #[serde(with = "text")]
    pub(crate) peer: NodeId,
    pub(crate) seconds: f64,
    #[serde(flatten)]
    pub(crate) outcome: Outcome,
}

#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Check {
    /// Give up what is damaged, so that it is fetched again.
    pub(crate) repair: bool,
}

/// What a check of the store has found.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Checked {
    pub(crate) sound: bool,
    /// Sound aspects in all spaces, and their bytes.
    pub(crate) aspects: u64,
    pub(crate) bytes: u64,
    pub(crate) seconds: f64,
    /// How much is damaged, and what: the first thousand of it.
    pub(crate) damage_count: u64,
    pub(crate) damages: Vec<Damage>,
    /// Damaged aspects that are to be fetched again now.
    pub(crate) given_up: u64,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Damage {
    /// The fingerprint of the space it belongs to, where that is known.
    pub(crate) space: Option<String>,
    pub(crate) what: String,
}

impl Checked {
    pub(crate) fn new(report: &arcwise::CheckReport, took: Duration) -> Self {
        let damage = |damage: &arcwise::Damage| Damage {
            space: damage.space.as_ref().map(arcwise::SpaceId::fingerprint),
            what: damage.to_string(),
        };
        Self {
            sound: report.damage_count == 0,
            aspects: report.aspects,
            bytes: report.bytes,
            seconds: took.as_secs_f64(),
            damage_count: report.damage_count,
            damages: report.damages.iter().map(damage).collect(),
            given_up: 0,
        }
    }
}

/// What the store takes on the disk, in bytes.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub(crate) struct StoreStats {
    pub(crate) aspects: u64,
    pub(crate) aspect_bytes: u64,
    pub(crate) disk: u64,
    pub(crate) log: u64,
    /// Of the log, what was removed.
    pub(crate) removed: u64,
    pub(crate) index: u64,
    pub(crate) ids: u64,
    pub(crate) journals: u64,
    pub(crate) others: u64,
    pub(crate) free: u64,
}

impl From<arcwise::StoreStats> for StoreStats {
    fn from(stats: arcwise::StoreStats) -> Self {
        Self {
            aspects: stats.aspects,
            aspect_bytes: stats.bytes,
            disk: stats.disk(),
            log: stats.log,
            removed: stats.removed,
            index: stats.index,
            ids: stats.ids,
            journals: stats.journals,
            others: stats.others,
            free: stats.free,
        }
    }
}

/// What the store took before it was compacted, and takes now.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub(crate) struct Compacted {
    pub(crate) before: StoreStats,
    pub(crate) after: StoreStats,
}

/// An archive that is whole.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Exported {
    pub(crate) name: String,
    pub(crate) fingerprint: String,
    pub(crate) aspects: u64,
    /// Of the aspects.
    pub(crate) bytes: u64,
}

/// What became of an archive.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Import {
    Imported(Box<Imported>),
    Failed(Error),
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Imported {
    pub(crate) space: Space,
    /// The node was in the space before.
    pub(crate) already: bool,
    /// In the archive.
    pub(crate) aspects: u64,
    pub(crate) bytes: u64,
    /// Those that were not held before.
    pub(crate) new: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Stopping {
    Stopping,
    Stopped,
}

/// Something happened.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub(crate) enum Event {
    PeerConnected {
        #[serde(with = "text")]
        peer: NodeId,
        agent: String,
    },
    PeerDisconnected {
        #[serde(with = "text")]
        peer: NodeId,
        reason: String,
    },
    /// Both have proven to be in the space.
    SpaceShared {
        #[serde(with = "text")]
        peer: NodeId,
        space: String,
        name: String,
    },
    /// What came in within about a second, from one source.
    Stored {
        space: String,
        name: String,
        #[serde(flatten)]
        source: Source,
        aspects: u64,
    },
    /// A comparison has found something, or is the first since the peer connected or one failed.
    InSync {
        #[serde(with = "text")]
        peer: NodeId,
        space: String,
        name: String,
        report: Report,
    },
    SyncFailed {
        #[serde(with = "text")]
        peer: NodeId,
        space: String,
        name: String,
        reason: String,
    },
    PeerFault {
        #[serde(with = "text")]
        peer: NodeId,
        fault: String,
    },
    ArcChanged {
        space: String,
        name: String,
        held: Arcs,
    },
    /// They had expired, or were outside the arc that is held now.
    Removed {
        space: String,
        name: String,
        aspects: u64,
    },
    /// There is no room for more of a space: nothing is taken until there is.
    Full {
        space: String,
        name: String,
        reason: String,
    },
    /// There is room again.
    Room {
        space: String,
        name: String,
    },
    /// Nothing is stored until the node is opened again, which the daemon does once there is room.
    StoreStopped {
        reason: String,
    },
    /// Whoever reads this was too slow for some.
    Missed {
        events: u64,
    },
}

/// Where aspects came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(tag = "source", rename_all = "snake_case")]
pub(crate) enum Source {
    /// This node published them.
    Local,
    /// Pushed by a peer.
    Broadcast {
        #[serde(with = "text")]
        peer: NodeId,
    },
    /// Fetched from a peer.
    Gossip {
        #[serde(with = "text")]
        peer: NodeId,
    },
    /// Out of an archive.
    Import,
}

impl From<arcwise::Source> for Source {
    fn from(source: arcwise::Source) -> Self {
        match source {
            arcwise::Source::Local => Self::Local,
            arcwise::Source::Broadcast(peer) => Self::Broadcast { peer },
            arcwise::Source::Gossip(peer) => Self::Gossip { peer },
            arcwise::Source::Import => Self::Import,
        }
    }
}

pub(crate) fn millis(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1e3
}

/// Values as they are written for people.
mod text {
    use std::{fmt::Display, str::FromStr};

    use serde::{Deserialize, Deserializer, Serializer, de::Error};

    pub(crate) fn serialize<T: Display, S: Serializer>(
        value: &T,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        serializer.collect_str(value)
    }

    pub(crate) fn deserialize<'de, T, D>(deserializer: D) -> Result<T, D::Error>
    where
        T: FromStr<Err: Display>,
        D: Deserializer<'de>,
    {
        String::deserialize(deserializer)?.parse().map_err(D::Error::custom)
    }
}
