//! Filling an arc from several peers at once.
//!
//! What is to be filled is fetched a piece at a time, each from one peer, and no two pieces that are
//! being fetched overlap: so nothing comes twice. A peer that is asked for a piece and stalls, or is
//! much slower than others were, loses it to one that has nothing better to do; a peer that could not
//! give a piece as it should is not asked for that again.

use std::{collections::BTreeMap, time::Duration};

use serde::{Deserialize, Serialize};

use crate::{
    id::NodeId,
    ring::{ArcSet, Location, RingArc},
    session::{LocalSpace, PeerSpace},
    time::Time,
};

/// Bytes of aspects in a piece, about: enough that what a session costs besides vanishes, and few
/// enough that a fast peer can help a slow one. A guess.
const PIECE_BYTES: u64 = 8 << 20;

/// A peer that has sent nothing of a piece for so long may lose it. A guess: well above the stalls of a
/// busy disk (1.2 s measured).
const STALL: Duration = Duration::from_secs(3);

/// A piece that takes so many times as long as pieces usually do, and [`STALL`] more, may go to another
/// peer. A guess.
const SLOW: u32 = 8;

/// Names a piece while it is being fetched.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct PieceId(u64);

/// A part of what is to be filled, to be fetched from one peer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Piece {
    /// To tell how it goes with it.
    pub id: PieceId,
    /// Which part of the ring.
    pub arcs: ArcSet,
    /// The piece that this one takes the place of: it is not to be fetched any more.
    pub instead_of: Option<PieceId>,
}

/// What a peer is to be asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Next {
    /// This piece.
    Fetch(Piece),
    /// Nothing, since others are asked for all that it has: look again at this time, or when a piece has
    /// ended.
    Wait(Time),
    /// It has nothing that is to be filled.
    Nothing,
}

/// What of one space is being filled, and from whom.
#[derive(Debug, Default)]
pub struct Fill {
    pieces: BTreeMap<PieceId, Fetching>,
    next_id: u64,
    /// What a peer is not asked for any more.
    failed: BTreeMap<NodeId, ArcSet>,
    /// How long a piece takes, smoothed; zero while that is not known.
    usual: Duration,
}

#[derive(Debug)]
struct Fetching {
    peer: NodeId,
    arcs: ArcSet,
    since: Time,
    moved: Time,
}

impl Fetching {
    /// When it may be given to another.
    fn overdue(&self, usual: Duration) -> Time {
        let stalled = self.moved + STALL;
        match usual.is_zero() {
            true => stalled,
            false => stalled.min(self.since + STALL + usual * SLOW),
        }
    }
}

impl Fill {
    /// What to ask this peer for now.
    pub fn next(&mut self, now: Time, peer: NodeId, ours: &LocalSpace, theirs: &PeerSpace) -> Next {
        let lacking = ours.target.difference(&ours.store);
        let mut has = lacking.intersect(&theirs.store);
        if let Some(failed) = self.failed.get(&peer) {
            has = has.difference(failed);
        }
        if has.is_empty() {
            return Next::Nothing;
        }
        let taken = self.pieces.values().fold(ArcSet::empty(), |all, it| all.union(&it.arcs));
        let free = has.difference(&taken);
        if !free.is_empty() {
            let arcs = first_of(&free, piece_len(theirs));
            return Next::Fetch(self.begin(now, peer, arcs, None));
        }
        let others = self.pieces.iter().filter(|(_, it)| it.peer != peer && has.covers(&it.arcs));
        let overdue = others.map(|(id, it)| (it.overdue(self.usual), *id)).min();
        match overdue {
            Some((at, id)) if at <= now => {
                let Some(late) = self.pieces.remove(&id) else { return Next::Nothing };
                self.exclude(late.peer, &late.arcs);
                Next::Fetch(self.begin(now, peer, late.arcs, Some(id)))
            }
            Some((at, _)) => Next::Wait(at),
            // It is asked for all of that itself.
            None => Next::Wait(now + STALL),
        }
    }

    /// Whether this peer has something that is to be filled.
    pub fn wants(&self, peer: NodeId, ours: &LocalSpace, theirs: &PeerSpace) -> bool {
        let lacking = ours.target.difference(&ours.store).intersect(&theirs.store);
        !self
            .failed
            .get(&peer)
            .map_or_else(|| lacking.clone(), |it| lacking.difference(it))
            .is_empty()
    }

    /// Something of the piece has come.
    pub fn moved(&mut self, now: Time, id: PieceId) {
        if let Some(piece) = self.pieces.get_mut(&id) {
            piece.moved = now;
        }
    }

    /// A piece has ended, and `complete` says whether all that the peer should have of it is here. One
    /// that was given to another has ended already.
    pub fn ended(&mut self, now: Time, id: PieceId, complete: bool) {
        let Some(piece) = self.pieces.remove(&id) else { return };
        if complete {
            let took = now.since(piece.since);
            self.usual = if self.usual.is_zero() { took } else { (self.usual * 7 + took) / 8 };
        } else {
            self.exclude(piece.peer, &piece.arcs);
        }
    }

    /// The peer is gone. Where it comes back, it may be asked for all again.
    pub fn gone(&mut self, peer: &NodeId) {
        self.failed.remove(peer);
        self.pieces.retain(|_, piece| piece.peer != *peer);
    }

    /// Whether something is being fetched.
    pub fn is_active(&self) -> bool {
        !self.pieces.is_empty()
    }

    fn begin(
        &mut self,
        now: Time,
        peer: NodeId,
        arcs: ArcSet,
        instead_of: Option<PieceId>,
    ) -> Piece {
        let id = PieceId(self.next_id);
        self.next_id += 1;
        let fetching = Fetching { peer, arcs: arcs.clone(), since: now, moved: now };
        self.pieces.insert(id, fetching);
        Piece { id, arcs, instead_of }
    }

    fn exclude(&mut self, peer: NodeId, arcs: &ArcSet) {
        let failed = self.failed.entry(peer).or_insert_with(ArcSet::empty);
        *failed = failed.union(arcs);
    }
}

/// How many locations hold about [`PIECE_BYTES`], where what the peer holds is spread evenly.
fn piece_len(theirs: &PeerSpace) -> u64 {
    let len =
        u128::from(theirs.store.len()) * u128::from(PIECE_BYTES) / u128::from(theirs.bytes.max(1));
    u64::try_from(len).unwrap_or(u64::MAX).max(1)
}

/// The first `len` locations of a set of arcs, or all of them.
fn first_of(arcs: &ArcSet, len: u64) -> ArcSet {
    let mut left = len;
    let spans = arcs.spans().map_while(|(first, last)| {
        let take = left.min(u64::from(last.0 - first.0) + 1);
        left -= take;
        let last = Location(first.0.wrapping_add((take as u32).wrapping_sub(1)));
        (take > 0).then(|| RingArc::between(first, last))
    });
    spans.collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::id::SpaceId;

    const PEERS: [NodeId; 3] = [NodeId([1; 32]), NodeId([2; 32]), NodeId([3; 32])];

    fn ours(store: &ArcSet) -> LocalSpace {
        LocalSpace {
            id: SpaceId([0; 32]),
            number: 1,
            store: store.clone(),
            target: ArcSet::full(),
            query: store.clone(),
            count: 0,
            bytes: 0,
            full: false,
        }
    }

    fn theirs(store: ArcSet, pieces: u64) -> PeerSpace {
        let query = store.clone();
        let (target, bytes) = (ArcSet::full(), pieces * PIECE_BYTES);
        PeerSpace { number: 1, store, target, query, count: 0, bytes, full: false }
    }

    fn fetch(next: Next) -> Piece {
        match next {
            Next::Fetch(piece) => piece,
            other => panic!("{other:?}"),
        }
    }

    fn at(seconds: u64) -> Time {
        Time::ZERO + Duration::from_secs(seconds)
    }

    #[test]
    fn what_stalls_goes_to_another() {
        let mut fill = Fill::default();
        let (ours, full) = (ours(&ArcSet::empty()), theirs(ArcSet::full(), 2));
        let first = fetch(fill.next(at(0), PEERS[0], &ours, &full));
        let second = fetch(fill.next(at(0), PEERS[1], &ours, &full));
        assert_eq!(first.arcs.len(), 1 << 31);
        assert!(first.arcs.union(&second.arcs).is_full());
        fill.moved(at(2), first.id);
        let Next::Wait(until) = fill.next(at(2), PEERS[2], &ours, &full) else { panic!() };
        assert_eq!(until, at(3));
        let third = fetch(fill.next(until, PEERS[2], &ours, &full));
        assert_eq!((&third.arcs, third.instead_of), (&second.arcs, Some(second.id)));
        // Who lost it is not asked for it again; it may have the other one, when that stalls.
        fill.ended(at(4), second.id, false);
        let Next::Wait(until) = fill.next(at(4), PEERS[1], &ours, &full) else { panic!() };
        assert_eq!(until, at(5));
        assert_eq!(fetch(fill.next(at(5), PEERS[1], &ours, &full)).arcs, first.arcs);
    }

    #[test]
    fn a_trickle_is_no_progress() {
        let mut fill = Fill::default();
        let (mut ours, full) = (ours(&ArcSet::empty()), theirs(ArcSet::full(), 2));
        let slow = fetch(fill.next(at(0), PEERS[0], &ours, &full));
        let fast = fetch(fill.next(at(0), PEERS[1], &ours, &full));
        fill.ended(at(1), fast.id, true);
        ours.store = fast.arcs;
        for second in 1..11 {
            fill.moved(at(second), slow.id);
            let next = fill.next(at(second), PEERS[1], &ours, &full);
            assert!(matches!(next, Next::Wait(_)), "{next:?}");
        }
        assert_eq!(fetch(fill.next(at(11), PEERS[1], &ours, &full)).instead_of, Some(slow.id));
    }

    #[test]
    fn who_cannot_give_a_piece_is_not_asked_again() {
        let mut fill = Fill::default();
        let (ours, full) = (ours(&ArcSet::empty()), theirs(ArcSet::full(), 0));
        let piece = fetch(fill.next(at(0), PEERS[0], &ours, &full));
        assert!(piece.arcs.is_full());
        fill.ended(at(0), piece.id, false);
        assert_eq!(fill.next(at(0), PEERS[0], &ours, &full), Next::Nothing);
        let piece = fetch(fill.next(at(0), PEERS[1], &ours, &full));
        fill.gone(&PEERS[1]);
        assert!(!fill.is_active());
        fill.ended(at(0), piece.id, true);
        fill.gone(&PEERS[0]);
        fetch(fill.next(at(0), PEERS[0], &ours, &full));
    }

    fn any_arcs() -> impl Strategy<Value = ArcSet> {
        let arc = any::<(u32, u32)>().prop_map(|(a, b)| RingArc::between(Location(a), Location(b)));
        proptest::collection::vec(arc, 0..4).prop_map(|arcs| arcs.into_iter().collect())
    }

    proptest! {
        /// Whatever comes in what order: pieces never overlap, are of what the peer has and is lacking,
        /// and all that some honest peer has is filled in the end.
        #[test]
        fn everything_is_fetched_once(
            held in any_arcs(),
            stores in proptest::array::uniform3(any_arcs()),
            pieces in 1..40u64,
            events in proptest::collection::vec((0..3usize, 0..8u32, any::<u16>()), 0..200),
        ) {
            let mut fill = Fill::default();
            let mut ours = ours(&held);
            let theirs = stores.map(|store| theirs(store, pieces));
            let mut running: BTreeMap<PieceId, (usize, ArcSet)> = BTreeMap::new();
            let mut now = Time::ZERO;
            // At the end all do as they should.
            let orderly = (0..2000).map(|n| (n % 3, 0, n as u16));
            for (peer, event, wait) in events.into_iter().chain(orderly) {
                now = now + Duration::from_millis(u64::from(wait) % 500);
                let mine = running.iter().find(|(_, (of, _))| *of == peer).map(|(id, _)| *id);
                match (event, mine) {
                    (1, Some(id)) => {
                        fill.ended(now, id, false);
                        running.remove(&id);
                    }
                    (2, _) => {
                        fill.gone(&PEERS[peer]);
                        running.retain(|_, (of, _)| *of != peer);
                    }
                    (3, Some(id)) => fill.moved(now, id),
                    (_, Some(id)) => {
                        fill.ended(now, id, true);
                        let (_, arcs) = running.remove(&id).unwrap();
                        ours.store = ours.store.union(&arcs);
                    }
                    (_, None) => match fill.next(now, PEERS[peer], &ours, &theirs[peer]) {
                        Next::Fetch(piece) => {
                            if let Some(late) = piece.instead_of {
                                prop_assert_eq!(&running.remove(&late).unwrap().1, &piece.arcs);
                            }
                            prop_assert!(theirs[peer].store.covers(&piece.arcs));
                            prop_assert!(!piece.arcs.is_empty());
                            prop_assert!(ours.store.intersect(&piece.arcs).is_empty());
                            for (_, other) in running.values() {
                                prop_assert!(other.intersect(&piece.arcs).is_empty());
                            }
                            running.insert(piece.id, (peer, piece.arcs));
                        }
                        Next::Wait(until) => prop_assert!(until > now),
                        Next::Nothing => {}
                    },
                }
            }
            // What is left is what each who has it could not give.
            let left = ours.store.complement();
            for (peer, theirs) in theirs.iter().enumerate() {
                let failed = fill.failed.get(&PEERS[peer]).cloned().unwrap_or_else(ArcSet::empty);
                prop_assert!(failed.covers(&left.intersect(&theirs.store)));
            }
        }
    }
}
