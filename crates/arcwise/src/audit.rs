//! Audits: a peer is asked to prove that it holds what it claims.

use std::sync::Arc;

use arcwise_proto::{
    Aspect, AspectKey, Location,
    limits::MAX_AUDIT,
    session::Holdings,
    swarm::{SETTLED, audit_keys, audit_passed, audit_proof, cutoff},
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
    space::{SpaceState, wall_clock},
};

/// Asks a peer to prove that it holds a few aspects that it claims and that are held here. `None` where
/// there is nothing to ask for, or no answer.
pub(crate) async fn audit(peer: &Arc<Peer>, space: &Arc<SpaceState>) -> Option<bool> {
    let theirs = peer.space(&space.id())?;
    let mut random = [0; 36];
    getrandom::fill(&mut random).ok()?;
    let (nonce, at) = random.split_first_chunk::<32>()?;
    let (nonce, at) = (*nonce, Location(u32::from_le_bytes(at.try_into().ok()?)));
    let arcs = theirs.store.intersect(&space.store.held());
    let (store, now) = (space.store.clone(), wall_clock());
    let chosen = blocking(move || {
        let found = store.get_many(&audit_keys(&store, &arcs, at)?)?.into_iter().flatten();
        let expired = store.limits().max_age.map(|age| cutoff(now + SETTLED, age));
        let settled = found.filter(|aspect| {
            let published = aspect.published();
            published + SETTLED < now && expired.is_none_or(|expired| published >= expired)
        });
        let mut chosen: Vec<Aspect> = settled.take(MAX_AUDIT).collect();
        chosen.sort_by_key(Aspect::key);
        Ok::<_, StoreError>(chosen)
    });
    let chosen = chosen.await.ok().filter(|chosen| !chosen.is_empty())?;
    let keys: Vec<AspectKey> = chosen.iter().map(Aspect::key).collect();
    let audit = Audit { space: theirs.number, nonce, keys: keys.clone() };
    let proofs = match ask(peer, audit).await {
        Ok(proofs) => proofs,
        Err(error) => {
            tracing::debug!(peer = %peer.id.short(), %error, "an audit was not answered");
            return None;
        }
    };
    let proof = |aspect: &Aspect| (aspect.key(), audit_proof(&nonce, &peer.id, aspect));
    let asked: Vec<_> = chosen.iter().map(proof).collect();
    let claimed = peer.space(&space.id())?.store;
    let store = space.store.clone();
    let lacking = blocking(move || store.lacks(&keys)).await.ok()?;
    Some(audit_passed(&asked, &proofs, &claimed, &lacking))
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
