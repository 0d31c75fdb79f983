//! What a node's bytes on the network were for.

use std::{
    collections::VecDeque,
    ops::{Add, AddAssign},
    sync::Mutex,
    time::{Duration, Instant},
};

use arcwise_proto::wire::Kind;
use iroh::endpoint::{Connection, ConnectionStats};

use crate::{event::Direction, peer::lock};

/// How far back [`Traffic`] is remembered, in steps: about a minute.
const STEPS: usize = 6;
const STEP: Duration = Duration::from_secs(10);

/// Bytes, each way.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Moved {
    /// From this node.
    pub sent: u64,
    /// To this node.
    pub received: u64,
}

impl Moved {
    /// Both ways together.
    pub fn both(&self) -> u64 {
        self.sent + self.received
    }

    /// What has moved since then.
    fn since(self, before: Moved) -> Moved {
        Moved {
            sent: self.sent.saturating_sub(before.sent),
            received: self.received.saturating_sub(before.received),
        }
    }
}

impl Add for Moved {
    type Output = Moved;

    fn add(self, other: Moved) -> Moved {
        Moved { sent: self.sent + other.sent, received: self.received + other.received }
    }
}

impl AddAssign for Moved {
    fn add_assign(&mut self, other: Moved) {
        *self = *self + other;
    }
}

/// What bytes on the network were for. Messages count with their headers, when they are handed over to be
/// sent or have arrived whole; all of it together is the payload of the UDP datagrams.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Traffic {
    /// Who is there, what they hold, and whether both hold the same: the control stream.
    pub control: Moved,
    /// Finding out what differs: a session's summaries and lists.
    pub comparing: Moved,
    /// Aspects that sessions bring.
    pub fetching: Moved,
    /// Aspects that are pushed, announcements of them, and what steers that.
    pub pushing: Moved,
    /// Questions and answers: entries, who is near, messages of the application.
    pub queries: Moved,
    /// Proofs of what is held: audits and receipts.
    pub proofs: Moved,
    /// QUIC's own: handshakes, keep-alives, acknowledgements, looking for paths, headers, what was sent again.
    /// While much is under way it is off by what waits to be sent.
    pub transport: Moved,
}

impl Traffic {
    /// All of it.
    pub fn total(&self) -> Moved {
        self.causes().into_iter().fold(Moved::default(), |sum, (_, moved)| sum + moved)
    }

    /// Each part of it with its name.
    pub fn causes(&self) -> [(&'static str, Moved); 7] {
        let Traffic { control, comparing, fetching, pushing, queries, proofs, transport } = *self;
        [
            ("control", control),
            ("comparing", comparing),
            ("fetching", fetching),
            ("pushing", pushing),
            ("queries", queries),
            ("proofs", proofs),
            ("transport", transport),
        ]
    }

    /// What there was since then.
    pub(crate) fn since(&self, before: &Traffic) -> Traffic {
        Traffic {
            control: self.control.since(before.control),
            comparing: self.comparing.since(before.comparing),
            fetching: self.fetching.since(before.fetching),
            pushing: self.pushing.since(before.pushing),
            queries: self.queries.since(before.queries),
            proofs: self.proofs.since(before.proofs),
            transport: self.transport.since(before.transport),
        }
    }

    /// These messages, in datagrams of so many bytes.
    pub(crate) fn within(mut self, datagrams: Moved) -> Traffic {
        self.transport = Moved::default();
        self.transport = datagrams.since(self.total());
        self
    }
}

/// The bytes in all datagrams of a connection so far.
pub(crate) fn udp_bytes(stats: &ConnectionStats) -> Moved {
    Moved { sent: stats.udp_tx.bytes, received: stats.udp_rx.bytes }
}

/// What a message is for. `opened` is the first message of its stream.
fn cause(traffic: &mut Traffic, opened: Kind, kind: Kind) -> &mut Moved {
    match (opened, kind) {
        (_, Kind::Receipt | Kind::Audit | Kind::AuditProof) | (Kind::Audit, _) => {
            &mut traffic.proofs
        }
        (Kind::ArcRequest, Kind::AspectDataResponse) => &mut traffic.fetching,
        (Kind::ArcRequest, _) => &mut traffic.comparing,
        (Kind::Query | Kind::FindPeers | Kind::Direct, _) => &mut traffic.queries,
        (_, Kind::AspectBroadcast | Kind::Announce | Kind::Graft | Kind::Prune) => {
            &mut traffic.pushing
        }
        _ => &mut traffic.control,
    }
}

/// Counts messages by what they are for.
#[derive(Debug, Default)]
pub(crate) struct Counter(Mutex<Traffic>);

impl Counter {
    pub(crate) fn add(&self, opened: Kind, kind: Kind, direction: Direction, bytes: u64) {
        let mut traffic = lock(&self.0);
        let moved = cause(&mut traffic, opened, kind);
        match direction {
            Direction::Sent => moved.sent += bytes,
            Direction::Received => moved.received += bytes,
        }
    }

    pub(crate) fn get(&self) -> Traffic {
        *lock(&self.0)
    }
}

/// What a node has moved, with connections that have ended.
#[derive(Debug, Default)]
pub(crate) struct Account {
    pub(crate) messages: Counter,
    /// Bytes in the datagrams of connections that have ended.
    ended: Mutex<Moved>,
    /// How it stood before, newest first.
    before: Mutex<VecDeque<(Instant, Traffic)>>,
}

impl Account {
    pub(crate) fn ended(&self, conn: &Connection) {
        *lock(&self.ended) += udp_bytes(&conn.stats());
    }

    /// All so far; `open` is what is in the datagrams of the connections that stand.
    pub(crate) fn traffic(&self, open: Moved) -> Traffic {
        self.messages.get().within(*lock(&self.ended) + open)
    }

    /// Remembers how it stands, so that it is known what the last minute took. Called every second or so.
    pub(crate) fn remember(&self, now: Instant, traffic: impl FnOnce() -> Traffic) {
        let mut before = lock(&self.before);
        if before.front().is_none_or(|(at, _)| now.duration_since(*at) >= STEP) {
            before.push_front((now, traffic()));
            before.truncate(STEPS + 1);
        }
    }

    /// What the last minute or so took, and how long that is exactly.
    pub(crate) fn lately(&self, now: Instant, traffic: &Traffic) -> (Traffic, Duration) {
        match lock(&self.before).back() {
            Some((at, before)) => (traffic.since(before), now.duration_since(*at)),
            None => Default::default(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_message_has_its_cause() {
        let counter = Counter::default();
        let streams = [
            (Kind::Hello, &[Kind::Hello, Kind::Handshake, Kind::Ping, Kind::Pong, Kind::Peers][..]),
            (Kind::ArcRequest, &[Kind::ArcRequest, Kind::ArcResponse, Kind::AspectDataRequest]),
            (Kind::ArcRequest, &[Kind::AspectDataResponse]),
            (Kind::Announce, &[Kind::Announce, Kind::AspectBroadcast, Kind::Graft, Kind::Prune]),
            (Kind::Query, &[Kind::Query, Kind::AspectDataResponse, Kind::Peers, Kind::Error]),
            (Kind::Audit, &[Kind::Audit, Kind::AuditProof, Kind::Error]),
            (Kind::Announce, &[Kind::Receipt]),
        ];
        for (opened, kinds) in streams {
            for kind in kinds {
                counter.add(opened, *kind, Direction::Sent, 1);
                counter.add(opened, *kind, Direction::Received, 10);
            }
        }
        let counted = counter.get().causes().map(|(_, moved)| (moved.sent, moved.received));
        assert_eq!(counted, [(5, 50), (3, 30), (1, 10), (4, 40), (4, 40), (4, 40), (0, 0)]);
    }

    #[test]
    fn what_is_no_message_is_the_transport() {
        let control = Moved { sent: 100, received: 50 };
        let messages = Traffic { control, ..Traffic::default() };
        // What has not been sent yet is not in the datagrams.
        let traffic = messages.within(Moved { sent: 40, received: 70 });
        assert_eq!(traffic.transport, Moved { sent: 0, received: 20 });
        assert_eq!(traffic.total(), Moved { sent: 100, received: 70 });
        assert_eq!(traffic.within(Moved { sent: 130, received: 70 }).transport.sent, 30);
    }

    #[test]
    fn the_last_minute_is_remembered() {
        let (account, start) = (Account::default(), Instant::now());
        let after = |seconds: u64| {
            let control = Moved { sent: seconds, received: 0 };
            Traffic { control, ..Traffic::default() }
        };
        assert_eq!(account.lately(start, &after(7)).1, Duration::ZERO);
        for seconds in 0..=200 {
            account.remember(start + Duration::from_secs(seconds), || after(seconds));
        }
        let (lately, long) = account.lately(start + Duration::from_secs(205), &after(205));
        assert_eq!((lately.control.sent, long), (65, Duration::from_secs(65)));
    }
}
