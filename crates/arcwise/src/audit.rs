//! Audits: a peer is asked to prove that it holds what it claims.

use std::{sync::Arc, time::Duration};

use arcwise_proto::{
    Aspect, AspectKey, Location,
    limits::MAX_AUDIT,
    session::Holdings,
    swarm::audit_proof,
    wire::{Audit, AuditProof, ErrorCode, Message},
};
use arcwise_store::StoreError;

use crate::{
    error::RequestError,
    frame::{FrameError, FrameWriter},
    ingest::blocking,
    node::Inner,
    peer::Peer,
    request,
    space::SpaceState,
};

/// What was published later is not asked for: it may still be on its way. A guess.
const SETTLED: Duration = Duration::from_secs(60);

/// Asks a peer to prove that it holds a few aspects that it claims and that are held here. `None` where
/// there is nothing to ask for, or no answer.
pub(crate) async fn audit(peer: &Arc<Peer>, space: &Arc<SpaceState>) -> Option<bool> {
    let theirs = peer.space(&space.id())?;
    let mut random = [0; 36];
    getrandom::fill(&mut random).ok()?;
    let (nonce, at) = random.split_first_chunk::<32>()?;
    let (nonce, at) = (*nonce, u32::from_le_bytes(at.try_into().ok()?));
    let arcs = theirs.store.intersect(&space.store.held());
    let store = space.store.clone();
    let settled = crate::space::wall_clock().as_micros().saturating_sub(SETTLED.as_micros() as u64);
    let chosen = blocking(move || {
        // From a random place on, and over the top.
        let from = AspectKey { location: Location(at), ..AspectKey::MIN };
        let mut keys = Vec::new();
        for (first, last) in [(from, AspectKey::MAX), (AspectKey::MIN, from)] {
            if keys.len() < MAX_AUDIT {
                keys.extend(store.list(first, last, &Default::default(), 4 * MAX_AUDIT)?);
            }
        }
        keys.retain(|key| arcs.contains(key.location));
        let found = store.get_many(&keys)?.into_iter().flatten();
        let old = found.filter(|aspect| aspect.published().as_micros() < settled);
        let mut chosen: Vec<_> = old.take(MAX_AUDIT).collect();
        chosen.sort_by_key(|aspect| aspect.key());
        chosen.dedup_by_key(|aspect| aspect.key());
        Ok::<_, StoreError>(chosen)
    });
    let chosen = chosen.await.ok().filter(|chosen| !chosen.is_empty())?;
    let keys = chosen.iter().map(|aspect| aspect.key()).collect();
    let proofs = match ask(peer, Audit { space: theirs.number, nonce, keys }).await {
        Ok(proofs) => proofs,
        Err(error) => {
            tracing::debug!(peer = %peer.id.short(), %error, "an audit was not answered");
            return None;
        }
    };
    let expected = chosen.iter().map(|aspect| Some(audit_proof(&nonce, &peer.id, aspect)));
    Some(proofs.into_iter().eq(expected))
}

async fn ask(peer: &Arc<Peer>, audit: Audit) -> Result<Vec<Option<[u8; 32]>>, RequestError> {
    match request::ask(peer, audit.into()).await? {
        Message::AuditProof(answer) => Ok(answer.proofs),
        other => Err(request::unexpected(other, "as the answer to an audit")),
    }
}

/// Proves what is held here.
pub(crate) async fn answer(
    inner: &Inner,
    peer: &Arc<Peer>,
    audit: Audit,
    writer: &mut FrameWriter,
) -> Result<(), FrameError> {
    let Some(space) = request::shared(inner, peer, audit.space).await else {
        return request::unknown_space(writer).await;
    };
    let (store, keys) = (space.store.clone(), audit.keys);
    match blocking(move || store.get_many(&keys)).await {
        Ok(found) => {
            let proof = |aspect: Aspect| audit_proof(&audit.nonce, &inner.id, &aspect);
            let proofs = found.into_iter().map(|aspect| aspect.map(proof)).collect();
            writer.write(&AuditProof { proofs }.into()).await
        }
        Err(error) => {
            tracing::error!(%error, "an audit could not be answered");
            request::refuse(writer, ErrorCode::Storage, "the store here failed").await
        }
    }
}
