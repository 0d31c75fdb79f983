//! Drives the swarm of each space: tells it what happens, and does what it decides.

use std::{collections::BTreeMap, sync::Arc};

use arcwise_proto::{
    Aspect, AspectKey, NodeId, Time,
    capture::TapedSwarm,
    swarm::{Action, Outcome, Push},
    wire::PeerInfo,
};
use arcwise_store::StoreError;

use crate::{
    SyncError, SyncOptions, audit, broadcast, connection, fill,
    gossip::{self, Purpose},
    node::Inner,
    peer::{ControlRequest, Peer, lock},
    request,
    space::SpaceState,
};

impl Inner {
    /// A peer has told of others, or of itself.
    pub(crate) fn heard_of(
        self: &Arc<Self>,
        space: &Arc<SpaceState>,
        peer: &Peer,
        infos: Vec<PeerInfo>,
    ) {
        let heard = space.swarm(self, &[], |swarm, now| swarm.heard_of(now, peer.id, infos));
        if let (_, Some(fault)) = heard {
            self.fault(peer, &fault.to_string());
        }
    }
}

impl SpaceState {
    /// Tells the swarm what has happened, and does what it decides. `fresh` are aspects that it may
    /// want pushed, so that they need not be read again.
    pub(crate) fn swarm<T>(
        self: &Arc<Self>,
        inner: &Arc<Inner>,
        fresh: &[Aspect],
        tell: impl FnOnce(&mut TapedSwarm, Time) -> T,
    ) -> T {
        let (told, actions) = {
            let mut swarm = lock(&self.swarm);
            // Under the lock, so that it never goes back.
            let now = inner.now();
            let told = tell(&mut swarm, now);
            let actions = swarm.poll_actions(now);
            // Under the lock, too: of two calls the later one has the last word.
            let wake_at = swarm.wake_at();
            self.wake_at.send_if_modified(|at| std::mem::replace(at, wake_at) != wake_at);
            (told, actions)
        };
        if !actions.is_empty() {
            let fresh: BTreeMap<AspectKey, &Aspect> =
                fresh.iter().map(|aspect| (aspect.key(), aspect)).collect();
            for action in actions {
                act(inner, self, action, &fresh);
            }
        }
        told
    }
}

/// Wakes the swarm of a space when it is time, until the node stops or leaves the space.
pub(crate) async fn run(inner: Arc<Inner>, space: Arc<SpaceState>) {
    let mut wake_at = space.wake_at.subscribe();
    let mut changes = inner.changes.subscribe();
    loop {
        let at = *wake_at.borrow_and_update();
        let sleep = async {
            match at {
                Some(at) => tokio::time::sleep_until(inner.instant(at)).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            () = sleep => space.swarm(&inner, &[], |swarm, now| swarm.tick(now)),
            changed = wake_at.changed() => if changed.is_err() { return },
            changed = changes.changed() => {
                if changed.is_err() {
                    return;
                }
                space.told_local(&inner);
            }
            () = inner.stop.cancelled() => return,
            () = space.left.cancelled() => return,
        }
    }
}

fn act(
    inner: &Arc<Inner>,
    space: &Arc<SpaceState>,
    action: Action,
    fresh: &BTreeMap<AspectKey, &Aspect>,
) {
    let id = space.id();
    let peer = |peer: &NodeId| inner.peer(peer).filter(|peer| peer.space(&id).is_some());
    let queue = |to: &NodeId, push: Push| {
        if let Some(peer) = peer(to) {
            peer.pushes.push(id, push);
        }
    };
    match action {
        Action::Dial(to) => inner.dial(to),
        Action::Close(to) => inner.let_go(&to),
        Action::Tell(to, peers) => {
            if let Some(peer) = peer(&to) {
                // Fails only where the connection is gone.
                let _ = peer.control.send(ControlRequest::Peers(id, peers));
            }
        }
        Action::Fill(from) => with_peer(inner, space, from, |inner, space, peer| async move {
            let whole = fill::fill_from(&inner, &peer, &space).await;
            // What has come of it decides what is next.
            space.told_local(&inner);
            space.swarm(&inner, &[], |swarm, now| swarm.filled(now, &peer.id, whole));
        }),
        Action::Compare(with) => with_peer(inner, space, with, |inner, space, peer| async move {
            let compare = Purpose::Compare(SyncOptions::default());
            let outcome = match gossip::open(&inner, &peer, &space, compare).await {
                Ok(report) => Outcome::of(&report),
                Err(SyncError::NoRoom) => Outcome::NOTHING,
                Err(_) => Outcome::Failed,
            };
            space.swarm(&inner, &[], |swarm, now| swarm.compared(now, &peer.id, outcome));
        }),
        Action::Probe(whom) => with_peer(inner, space, whom, |inner, space, peer| async move {
            // During a session it cannot be the same.
            let comparing = lock(&space.swarm).session_runs(&peer.id);
            let same = match comparing {
                true => None,
                false => connection::same(&peer, &space).await,
            };
            if same == Some(true) {
                peer.holds_the_same(&space);
            }
            space.swarm(&inner, &[], |swarm, now| {
                swarm.linked(&peer.id, peer.round_trip());
                swarm.probed(now, &peer.id, same);
            });
        }),
        Action::Push { to, keys } => {
            let Some(peer) = peer(&to) else { return };
            let mut old = Vec::new();
            for key in keys {
                match fresh.get(&key) {
                    None => old.push(key),
                    Some(aspect) => {
                        if !peer.pushes.push(id, Push::Aspect((*aspect).clone())) {
                            // What does not fit, a session brings.
                            return space.swarm(inner, &[], |swarm, now| {
                                swarm.heard(now, &to, false);
                            });
                        }
                    }
                }
            }
            if !old.is_empty() {
                with_peer(inner, space, to, |inner, space, peer| async move {
                    if let Err(error) = broadcast::push(&inner, &peer, &space, old).await {
                        tracing::error!(%error, "what is to be pushed could not be read");
                    }
                });
            }
        }
        Action::Announce { to, keys, receipt } => queue(&to, Push::Announce { keys, receipt }),
        Action::Graft { to, keys } => queue(&to, Push::Graft(keys)),
        Action::Prune { to, keys } => queue(&to, Push::Prune(keys)),
        Action::Receipt { to, keys } => queue(&to, Push::Receipt(keys)),
        Action::Audit(whom) => with_peer(inner, space, whom, |inner, space, peer| async move {
            let passed = audit::audit(&peer, &space).await;
            space.swarm(&inner, &[], |swarm, now| swarm.audited(now, &peer.id, passed));
        }),
        Action::Give { to, arcs } => with_peer(inner, space, to, |inner, space, peer| async move {
            let before = space.store.stats().position.count;
            let give = gossip::open(&inner, &peer, &space, Purpose::Give(&arcs)).await;
            let given = give.is_ok_and(|report| report.gave(&arcs));
            space.swarm(&inner, &[], |swarm, now| swarm.given(now, peer.id, &arcs, before, given));
        }),
        Action::Aim(arcs) => in_store(inner, space, "the arc", |inner, space| async move {
            space.aim(&inner, arcs).await
        }),
        Action::Disclaim(arcs) => in_store(inner, space, "the claim", |inner, space| async move {
            let keep = space.store.held().difference(&arcs);
            space.disclaim_outside(&inner, keep).await
        }),
        Action::Drop { arcs, until } => {
            in_store(inner, space, "what others hold", |inner, space| async move {
                space.drop_held(&inner, arcs, until).await?;
                inner.upkeep.notify_one();
                Ok(())
            });
        }
        Action::Find(whom, location) => {
            with_peer(inner, space, whom, |inner, space, peer| async move {
                match request::find(&peer, space.id(), location).await {
                    Ok(peers) => inner.heard_of(&space, &peer, peers),
                    Err(error) => tracing::debug!(%error, "who is near is not known"),
                }
            })
        }
        Action::Replicated(wait) => {
            if let Some(complete) = lock(&space.waiting).remove(&wait) {
                // Nobody may be waiting any more.
                let _ = complete.send(());
            }
        }
    }
}

/// Does something with a connected peer, until the connection ends.
fn with_peer<F: Future<Output = ()> + Send + 'static>(
    inner: &Arc<Inner>,
    space: &Arc<SpaceState>,
    id: NodeId,
    work: impl FnOnce(Arc<Inner>, Arc<SpaceState>, Arc<Peer>) -> F,
) {
    let Some(peer) = inner.peer(&id) else { return };
    let gone = peer.gone.clone();
    let work = work(inner.clone(), space.clone(), peer);
    inner.spawn(async move {
        gone.run_until_cancelled(work).await;
    });
}

/// Changes what the store holds or claims.
fn in_store<F: Future<Output = Result<(), StoreError>> + Send + 'static>(
    inner: &Arc<Inner>,
    space: &Arc<SpaceState>,
    what: &'static str,
    work: impl FnOnce(Arc<Inner>, Arc<SpaceState>) -> F,
) {
    let work = work(inner.clone(), space.clone());
    inner.spawn(async move {
        if let Err(error) = work.await {
            tracing::error!(%error, "{what} could not be changed");
        }
    });
}
