//! Peers that this node wants nothing to do with.

use std::{collections::BTreeSet, sync::Arc};

use arcwise_proto::{NodeId, capture::TapedSwarm};
use arcwise_store::{Store, StoreError};

use crate::{BlockError, Node, connection::Unwanted, ingest::blocking, node::Inner, peer::lock};

/// Under which the ids are kept in the store, 32 bytes each.
const KEY: &str = "blocked";

/// Peers blocked, at most. A guess: nobody reads longer lists, and each swarm has one.
const MAX_BLOCKED: usize = 4096;

impl Node {
    /// Ends the connection with a peer, and neither dials it nor takes connections from it, until
    /// [`Node::unblock`] and across restarts. What it says through others is not used to reach it or to find
    /// holders; what it has published still comes from others. False where it was blocked already.
    ///
    /// # Errors
    /// See [`BlockError`].
    pub async fn block(&self, peer: NodeId) -> Result<bool, BlockError> {
        if peer == self.id() {
            return Err(BlockError::Itself);
        }
        let inner = self.running.inner();
        let new = blocking(move || {
            let mut blocked = lock(&inner.blocked);
            if blocked.contains(&peer) {
                return Ok(false);
            }
            if blocked.len() >= MAX_BLOCKED {
                return Err(BlockError::TooMany(MAX_BLOCKED));
            }
            let mut with = blocked.clone();
            with.insert(peer);
            save(&inner.store, &with)?;
            *blocked = with;
            Ok(true)
        });
        let new = new.await?;
        if let Some(peer) = self.running.peer(&peer) {
            peer.hang_up(Unwanted::Blocked);
        }
        self.running.inner().blocked_changed();
        Ok(new)
    }

    /// Takes that back; false where the peer is not blocked.
    ///
    /// # Errors
    /// Where the store cannot be written.
    pub async fn unblock(&self, peer: NodeId) -> Result<bool, StoreError> {
        let inner = self.running.inner();
        let was = blocking(move || {
            let mut blocked = lock(&inner.blocked);
            let mut without = blocked.clone();
            let was = without.remove(&peer);
            if was {
                save(&inner.store, &without)?;
                *blocked = without;
            }
            Ok::<_, StoreError>(was)
        });
        let was = was.await?;
        let inner = self.running.inner();
        inner.blocked_changed();
        if was {
            // Nothing else is remembered of it but where it was.
            inner.dial(peer);
        }
        Ok(was)
    }

    /// The peers that are blocked.
    pub fn blocked(&self) -> BTreeSet<NodeId> {
        lock(&self.running.blocked).clone()
    }
}

impl Inner {
    pub(crate) fn is_blocked(&self, peer: &NodeId) -> bool {
        lock(&self.blocked).contains(peer)
    }

    fn blocked_changed(self: &Arc<Self>) {
        let spaces = lock(&self.spaces).clone();
        for space in spaces {
            // Of two changes the later one has the last word.
            let tell = |swarm: &mut TapedSwarm, now| {
                let blocked = lock(&self.blocked).clone();
                swarm.set_blocked(now, blocked);
            };
            space.swarm(self, &[], tell);
        }
    }
}

fn save(store: &Store, blocked: &BTreeSet<NodeId>) -> Result<(), StoreError> {
    let ids: Vec<u8> = blocked.iter().flat_map(|id| *id.as_bytes()).collect();
    store.put_setting(KEY, &ids)
}

pub(crate) fn load(store: &Store) -> Result<BTreeSet<NodeId>, StoreError> {
    let ids = store.setting(KEY)?.unwrap_or_default();
    let (ids, _) = ids.as_chunks::<32>();
    Ok(ids.iter().map(|id| NodeId(*id)).collect())
}
