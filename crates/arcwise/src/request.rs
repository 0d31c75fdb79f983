//! Requests: asking a peer for an entry, and messages from application to application.

use std::{sync::Arc, time::Duration};

use arcwise_proto::{
    Aspect, EntryAddress, Location, NodeId, SpaceId, Time,
    session::Fault,
    wire::{Direct, ErrorCode, ErrorMessage, FindPeers, Message, PeerInfo, Peers, Query},
};
use bytes::Bytes;
use tokio::sync::oneshot;

use crate::{
    error::RequestError,
    frame::{self, FrameError, FrameReader, FrameWriter},
    gossip::write_aspects,
    ingest::blocking,
    node::Inner,
    peer::{Peer, lock},
    space::SpaceState,
};

/// How long to wait for an answer that does not begin or does not go on.
const TIMEOUT: Duration = Duration::from_secs(30);

/// Aspects of one entry that a query takes in, at most, in bytes of encodings: a bound on memory.
const MAX_ANSWER: usize = 64 << 20;

/// A message from a peer's application, to be answered.
#[derive(Debug)]
pub struct DirectMessage {
    /// Who sent it.
    pub from: NodeId,
    /// The space it was sent in.
    pub space: SpaceId,
    /// What it says.
    pub payload: Bytes,
    pub(crate) reply: oneshot::Sender<Bytes>,
}

impl DirectMessage {
    /// Answers it. A message that is dropped without a reply is refused.
    pub fn reply(self, payload: impl Into<Bytes>) {
        // The peer may have gone in the meantime.
        let _ = self.reply.send(payload.into());
    }
}

async fn open(peer: &Arc<Peer>) -> Result<(FrameReader, FrameWriter), RequestError> {
    Ok(frame::pair(peer, peer.conn.open_bi().await.map_err(lost)?))
}

fn lost(error: impl ToString) -> RequestError {
    RequestError::Lost(error.to_string())
}

async fn in_time<T>(work: impl Future<Output = Result<T, FrameError>>) -> Result<T, RequestError> {
    let result = tokio::time::timeout(TIMEOUT, work).await;
    Ok(result.map_err(|_| RequestError::Timeout(TIMEOUT))??)
}

/// Asks a peer something that one message answers.
pub(crate) async fn ask(peer: &Arc<Peer>, question: Message) -> Result<Message, RequestError> {
    let (mut reader, mut writer) = open(peer).await?;
    in_time(writer.write(&question)).await?;
    writer.finish();
    match in_time(reader.expect()).await? {
        Message::Error(error) => Err(RequestError::Refused(error)),
        answer => Ok(answer),
    }
}

pub(crate) fn unexpected(message: Message, when: &'static str) -> RequestError {
    RequestError::Peer(Fault::Unexpected { kind: message.kind(), when })
}

/// What a peer knows of an entry.
#[derive(Default)]
pub(crate) struct Answer {
    /// Verified, not stored.
    pub(crate) aspects: Vec<Aspect>,
    /// Where it does not claim to hold the entry: peers that are nearer to it. Not verified.
    pub(crate) nearer: Option<Vec<PeerInfo>>,
}

/// Asks a peer for all aspects of an entry.
pub(crate) async fn query(
    peer: &Arc<Peer>,
    space: SpaceId,
    entry: EntryAddress,
) -> Result<Answer, RequestError> {
    let number = peer.space(&space).ok_or(RequestError::NotShared)?.number;
    let (mut reader, mut writer) = open(peer).await?;
    in_time(writer.write(&Query { space: number, entry }.into())).await?;
    writer.finish();
    let (mut answer, mut size) = (Answer::default(), 0);
    while let Some(message) = in_time(reader.next()).await? {
        let response = match message {
            Message::AspectDataResponse(response) if answer.nearer.is_none() => response,
            Message::Peers(peers) if answer.nearer.is_none() => {
                answer.nearer = Some(peers.peers);
                continue;
            }
            Message::Error(error) => return Err(RequestError::Refused(error)),
            other => return Err(unexpected(other, "as the answer to a query")),
        };
        for aspect in response.aspects {
            size += aspect.encoding().len();
            if aspect.entry() != entry || aspect.verify(&space).is_err() {
                return Err(RequestError::Peer(Fault::NotWanted(aspect.hash())));
            }
            if size > MAX_ANSWER {
                return Err(RequestError::Peer(Fault::Window("answers")));
            }
            answer.aspects.push(aspect);
        }
    }
    Ok(answer)
}

/// Answers a query from the local store; where this node does not claim the location, also with who is
/// nearer to it.
pub(crate) async fn answer_query(
    inner: &Inner,
    peer: &Arc<Peer>,
    query: Query,
    writer: &mut FrameWriter,
) -> Result<(), FrameError> {
    let Some(space) = shared(inner, peer, query.space).await else {
        return unknown_space(writer).await;
    };
    let location = Location::of_entry(&query.entry);
    // Before it is read: what is claimed then is in it.
    let claimed = space.store.held().contains(location);
    let store = space.store.clone();
    match blocking(move || store.entry(&query.entry)).await {
        Ok(aspects) => write_aspects(writer, aspects, Vec::new()).await?,
        Err(error) => {
            tracing::error!(%error, "a query could not be answered");
            return refuse(writer, ErrorCode::Storage, "the store here failed").await;
        }
    }
    match claimed {
        true => Ok(()),
        false => write_nearest(inner.now(), &space, peer, location, writer).await,
    }
}

/// Asks a peer who is near a location. What it answers is not verified.
pub(crate) async fn find(
    peer: &Arc<Peer>,
    space: SpaceId,
    location: Location,
) -> Result<Vec<PeerInfo>, RequestError> {
    let number = peer.space(&space).ok_or(RequestError::NotShared)?.number;
    match ask(peer, FindPeers { space: number, location }.into()).await? {
        Message::Peers(peers) => Ok(peers.peers),
        other => Err(unexpected(other, "as the answer to who is near a location")),
    }
}

/// Answers who is near a location.
pub(crate) async fn answer_find(
    inner: &Inner,
    peer: &Arc<Peer>,
    find: FindPeers,
    writer: &mut FrameWriter,
) -> Result<(), FrameError> {
    match shared(inner, peer, find.space).await {
        Some(space) => write_nearest(inner.now(), &space, peer, find.location, writer).await,
        None => unknown_space(writer).await,
    }
}

async fn write_nearest(
    now: Time,
    space: &SpaceState,
    peer: &Peer,
    location: Location,
    writer: &mut FrameWriter,
) -> Result<(), FrameError> {
    let peers = lock(&space.swarm).nearest(now, &peer.id, location);
    writer.write(&Peers { space: 0, peers }.into()).await
}

/// Sends a message to a peer's application and waits for the reply.
pub(crate) async fn send_direct(
    peer: &Arc<Peer>,
    space: SpaceId,
    payload: Bytes,
) -> Result<Bytes, RequestError> {
    let number = peer.space(&space).ok_or(RequestError::NotShared)?.number;
    match ask(peer, Direct { space: number, payload }.into()).await? {
        Message::Direct(reply) => Ok(reply.payload),
        other => Err(unexpected(other, "as the reply to a message")),
    }
}

/// Hands a message to the application and sends its reply.
pub(crate) async fn answer_direct(
    inner: &Inner,
    peer: &Arc<Peer>,
    message: Direct,
    writer: &mut FrameWriter,
) -> Result<(), FrameError> {
    let Some(space) = shared(inner, peer, message.space).await else {
        return unknown_space(writer).await;
    };
    let (reply, replied) = oneshot::channel();
    let (from, id) = (peer.id, space.id());
    let message = DirectMessage { from, space: id, payload: message.payload, reply };
    let listener = lock(&space.direct).clone();
    if let Some(listener) = listener {
        // Waits while the application is slow; the peer's patience bounds it. Where nobody listens
        // any more, the message is dropped, and so is its reply.
        let _ = listener.send(message).await;
    } else {
        drop(message);
    }
    match replied.await {
        Ok(payload) => writer.write(&Direct { space: 0, payload }.into()).await,
        Err(_) => refuse(writer, ErrorCode::Refused, "no application here answers messages").await,
    }
}

pub(crate) async fn shared(inner: &Inner, peer: &Peer, number: u32) -> Option<Arc<SpaceState>> {
    let space = inner.space_numbered(number)?;
    peer.shared(&space.id()).await?;
    Some(space)
}

pub(crate) async fn unknown_space(writer: &mut FrameWriter) -> Result<(), FrameError> {
    refuse(writer, ErrorCode::UnknownSpace, "there is no such space here").await
}

pub(crate) async fn refuse(
    writer: &mut FrameWriter,
    code: ErrorCode,
    why: &str,
) -> Result<(), FrameError> {
    writer.write(&ErrorMessage::new(code, why).into()).await
}
