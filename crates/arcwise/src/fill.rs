//! Fetches what of its arc a space lacks, from all peers that have it, as [`Fill`] says.

use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use arcwise_proto::{
    ArcSet, NodeId,
    session::shared_arcs,
    swarm::{Next, PieceId},
};
use tokio::{sync::Notify, time::Instant};
use tokio_util::sync::CancellationToken;

use crate::{
    gossip::{self, Purpose},
    node::Inner,
    peer::{Peer, lock},
    space::SpaceState,
};

/// A session that brings much and has brought nothing for so long does not keep others from beginning.
const STALL: Duration = Duration::from_secs(3);

/// So many aspects more than here, and a peer is taken to have much that is lacking. A guess: what may
/// come twice from others is less than a frame.
const MUCH: u64 = 256;

/// What of a space is coming, and from whom, so that nothing comes twice.
#[derive(Default)]
pub(crate) struct Intake {
    /// To end the fetching of pieces.
    lost: Mutex<BTreeMap<PieceId, CancellationToken>>,
    /// Of what is compared as a whole, who brings much; and when something of that came last.
    bringer: Mutex<Option<(NodeId, Instant)>>,
    /// Told whenever something of the above has ended.
    ended: Notify,
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
        lock(&self.space.swarm).fill().moved(self.inner.now(), self.id);
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        let intake = &self.space.intake;
        let complete = self.complete.load(Ordering::Relaxed);
        lock(&self.space.swarm).fill().ended(self.inner.now(), self.id, complete);
        lock(&intake.lost).remove(&self.id);
        intake.ended.notify_waiters();
    }
}

/// A session that compares all that two have in common, where much is to come.
pub(crate) struct Bringing {
    space: Arc<SpaceState>,
    peer: NodeId,
}

impl Bringing {
    pub(crate) fn moved(&self) {
        if let Some((peer, moved)) = &mut *lock(&self.space.intake.bringer)
            && *peer == self.peer
        {
            *moved = Instant::now();
        }
    }
}

impl Drop for Bringing {
    fn drop(&mut self) {
        lock(&self.space.intake.bringer).take_if(|(peer, _)| *peer == self.peer);
        self.space.intake.ended.notify_waiters();
    }
}

/// Whether this peer has something that is to be filled.
pub(crate) fn wants(peer: &Peer, space: &SpaceState) -> bool {
    let Some(theirs) = peer.space(&space.id()) else { return false };
    !space.is_full() && {
        let ours = space.local();
        lock(&space.swarm).fill().wants(peer.id, &ours, &theirs)
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
        let mut ended = std::pin::pin!(intake.ended.notified());
        ended.as_mut().enable();
        let Some(theirs) = peer.space(&space.id()).filter(|_| !space.is_full()) else {
            return whole;
        };
        let ours = space.local();
        let next = lock(&space.swarm).fill().next(inner.now(), peer.id, &ours, &theirs);
        match next {
            Next::Nothing => return whole,
            Next::Wait(until) => tokio::select! {
                () = ended => {}
                () = tokio::time::sleep_until(inner.instant(until)) => {}
                () = peer.gone.cancelled() => return whole,
            },
            Next::Fetch(piece) => {
                if let Some(late) = piece.instead_of.and_then(|id| lock(&intake.lost).remove(&id)) {
                    late.cancel();
                }
                let lost = CancellationToken::new();
                lock(&intake.lost).insert(piece.id, lost.clone());
                let all = piece.arcs == shared_arcs(&ours, &theirs);
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

impl SpaceState {
    /// Waits until nothing is being filled and nobody brings much; then, where this peer seems to, it
    /// is the one who does.
    pub(crate) async fn bring(self: &Arc<Self>, theirs: &Peer) -> Option<Bringing> {
        loop {
            let mut ended = std::pin::pin!(self.intake.ended.notified());
            ended.as_mut().enable();
            match self.try_bring(theirs) {
                Ok(bringing) => return bringing,
                Err(wait) => tokio::select! {
                    () = ended => {}
                    () = tokio::time::sleep(wait) => {}
                },
            }
        }
    }

    /// As [`SpaceState::bring`]; where it would wait, an error says for how long.
    pub(crate) fn try_bring(self: &Arc<Self>, peer: &Peer) -> Result<Option<Bringing>, Duration> {
        let theirs = peer.space(&self.id()).map_or(0, |theirs| theirs.count);
        let much = theirs > self.store.stats().count + MUCH;
        if !much || self.is_full() {
            return Ok(None);
        }
        if lock(&self.swarm).fill().is_active() {
            return Err(STALL);
        }
        let mut bringer = lock(&self.intake.bringer);
        if let Some((_, moved)) = &*bringer {
            let since = moved.elapsed();
            if since < STALL {
                return Err(STALL - since);
            }
        }
        *bringer = Some((peer.id, Instant::now()));
        Ok(Some(Bringing { space: self.clone(), peer: peer.id }))
    }
}

impl Intake {
    /// Something has ended.
    pub(crate) fn ended(&self) {
        self.ended.notify_waiters();
    }
}
