//! Fetches what of its arc a space lacks, from all peers that have it; and what of a space is under way. Which
//! piece from whom, and which session when, is decided by the space's [`Swarm`](arcwise_proto::swarm::Swarm).

use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
};

use arcwise_proto::{
    ArcSet,
    swarm::{Next, PieceId, TurnId},
};
use tokio::sync::{Notify, futures::Notified};
use tokio_util::sync::CancellationToken;

use crate::{
    gossip::{self, Purpose},
    node::Inner,
    peer::{Peer, lock},
    space::SpaceState,
};

/// What of a space is under way, to be told where another takes its place.
#[derive(Default)]
pub(crate) struct Intake {
    /// The pieces that are being fetched.
    pieces: Mutex<BTreeMap<PieceId, CancellationToken>>,
    /// The sessions that were opened.
    turns: Mutex<BTreeMap<TurnId, CancellationToken>>,
    /// Told whenever something of the above has ended.
    ended: Notify,
}

/// A session that is under way. Dropped, it has ended.
pub(crate) struct Turn {
    space: Arc<SpaceState>,
    pub(crate) id: TurnId,
    /// Cancelled where the peer's session has taken this one's place.
    pub(crate) superseded: CancellationToken,
}

impl Turn {
    pub(crate) fn new(space: &Arc<SpaceState>, id: TurnId) -> Self {
        let superseded = CancellationToken::new();
        lock(&space.intake.turns).insert(id, superseded.clone());
        // It may have happened before anybody could be told.
        if lock(&space.swarm).session_is_lost(id) {
            superseded.cancel();
        }
        Self { space: space.clone(), id, superseded }
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        lock(&self.space.swarm).session_ended(self.id);
        lock(&self.space.intake.turns).remove(&self.id);
        self.space.intake.ended();
    }
}

/// A piece that is being fetched. Dropped, it has ended.
pub(crate) struct Lease {
    inner: Arc<Inner>,
    space: Arc<SpaceState>,
    id: PieceId,
    pub(crate) arcs: ArcSet,
    /// Cancelled where another peer is asked for it instead.
    pub(crate) lost: CancellationToken,
    complete: AtomicBool,
}

impl Lease {
    pub(crate) fn moved(&self) {
        lock(&self.space.swarm).piece_moved(self.inner.now(), self.id);
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        let intake = &self.space.intake;
        let complete = self.complete.load(Ordering::Relaxed);
        lock(&self.space.swarm).piece_ended(self.inner.now(), self.id, complete);
        lock(&intake.pieces).remove(&self.id);
        intake.ended();
    }
}

/// Fetches from this peer what is to be filled, together with others who do the same, until it has
/// nothing more of that. Gives whether all that both take was compared on the way.
pub(crate) async fn fill_from(
    inner: &Arc<Inner>,
    peer: &Arc<Peer>,
    space: &Arc<SpaceState>,
) -> bool {
    // Two at a time: while one comes to its end, the next is on its way.
    let one_by_one = || one_by_one(inner, peer, space);
    let (one, other) = tokio::join!(one_by_one(), one_by_one());
    one || other
}

async fn one_by_one(inner: &Arc<Inner>, peer: &Arc<Peer>, space: &Arc<SpaceState>) -> bool {
    let intake = &space.intake;
    let mut whole = false;
    loop {
        let mut ended = std::pin::pin!(intake.something_ends());
        ended.as_mut().enable();
        let (next, shared) = space.swarm(inner, &[], |swarm, now| {
            (swarm.next_piece(now, &peer.id), swarm.shared_with(&peer.id))
        });
        match next {
            Next::Nothing => return whole,
            Next::Wait(until) => tokio::select! {
                () = ended => {}
                () = tokio::time::sleep_until(inner.instant(until)) => {}
                () = peer.gone.cancelled() => return whole,
            },
            Next::Fetch(piece) => {
                let late = piece.instead_of.and_then(|id| lock(&intake.pieces).remove(&id));
                late.iter().for_each(CancellationToken::cancel);
                let lost = CancellationToken::new();
                lock(&intake.pieces).insert(piece.id, lost.clone());
                let all = piece.arcs == shared;
                let lease = Lease {
                    inner: inner.clone(),
                    space: space.clone(),
                    id: piece.id,
                    arcs: piece.arcs,
                    lost,
                    complete: AtomicBool::new(false),
                };
                let result = gossip::open(inner, peer, space, Purpose::Fill(&lease)).await;
                let complete = result.is_ok_and(|report| report.in_sync());
                lease.complete.store(complete, Ordering::Relaxed);
                whole |= complete && all;
            }
        }
    }
}

impl Intake {
    /// Something has ended.
    pub(crate) fn ended(&self) {
        self.ended.notify_waiters();
    }

    /// Waits until that is so.
    pub(crate) fn something_ends(&self) -> Notified<'_> {
        self.ended.notified()
    }

    /// A session of the peer has taken the place of this one.
    pub(crate) fn supersede(&self, turn: TurnId) {
        if let Some(superseded) = lock(&self.turns).remove(&turn) {
            superseded.cancel();
        }
        self.ended();
    }
}
