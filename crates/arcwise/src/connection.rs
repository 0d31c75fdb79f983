//! One connection: its control stream, the streams a peer opens, and the gossip with it.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use arcwise_proto::{
    SpaceId,
    session::{Binding, Control, ControlOutput, Digest, Fault},
    wire::{ErrorCode, Message},
};
use iroh::endpoint::{Connection, ConnectionError, RecvStream, SendStream, Side, VarInt};
use tokio::{
    sync::{mpsc, oneshot},
    time::{Instant, timeout},
};

use crate::{
    DialFailure, audit, broadcast,
    event::Event,
    frame::{self, FrameError, FrameReader, FrameWriter},
    gossip,
    node::Inner,
    peer::{ControlRequest, Met, Peer, PingRequest},
    request,
    space::SpaceState,
};

/// The application protocol; the number is the protocol's major version.
pub(crate) const ALPN: &[u8] = b"arcwise/1";

/// Label of the TLS exporter (RFC 5705) that ties space tags to a connection.
const EXPORTER: &[u8] = b"EXPORTER-arcwise-1";

/// How long a new connection may take to say hello.
const HELLO: Duration = Duration::from_secs(10);

/// How long a broken control stream waits for the connection to say why it ended.
const LAST_WORDS: Duration = Duration::from_millis(200);

/// Application error codes of a closed connection.
pub(crate) mod close {
    /// The node shuts down.
    pub(crate) const SHUTDOWN: u32 = 0;
    /// There is another connection with this peer.
    pub(crate) const DUPLICATE: u32 = 1;
    /// A rule of the control stream was broken.
    pub(crate) const PROTOCOL: u32 = 2;
    /// No room for more peers.
    pub(crate) const FULL: u32 = 3;
    /// The other side does not need the connection any more.
    pub(crate) const SPARE: u32 = 4;
    /// There is no space that both are in.
    pub(crate) const NOTHING_SHARED: u32 = 5;
    /// The other side does not want to be connected to this node.
    pub(crate) const DECLINED: u32 = 6;
}

/// Why this side ends a connection that works.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Unwanted {
    /// No space needs it any more.
    Spare,
    /// There is no space that both are in.
    NothingShared,
    /// The peer is blocked here.
    Blocked,
}

impl Unwanted {
    /// What the peer is told.
    pub(crate) fn code(self) -> (u32, &'static str) {
        match self {
            Self::Spare => (close::SPARE, "connected to enough others"),
            Self::NothingShared => (close::NOTHING_SHARED, "no space in common"),
            Self::Blocked => (close::DECLINED, "declined"),
        }
    }

    /// What is told here.
    fn text(self) -> &'static str {
        match self {
            Self::Spare => "this node is connected to enough others",
            Self::NothingShared => "there is no space that both are in",
            Self::Blocked => "this node has blocked it",
        }
    }
}

/// Serves a connection until it ends. Both sides run the same, but for who opens the control stream.
///
/// # Errors
/// Where it ends before the peer has said hello: why.
pub(crate) async fn run(inner: &Arc<Inner>, conn: Connection) -> Result<(), DialFailure> {
    let (requests, requested) = mpsc::unbounded_channel();
    let gone = inner.stop.child_token();
    let peer = Arc::new(Peer::new(inner, conn.clone(), requests, gone));
    let result = tokio::select! {
        result = control(inner, &peer, requested) => result,
        error = conn.closed() => Err(FrameError::Lost(reason(&error))),
        () = inner.stop.cancelled() => Ok(()),
        // Another connection with this peer has taken the place of this one.
        () = peer.gone.cancelled() => Ok(()),
        () = peer.spare.cancelled() => Ok(()),
    };
    peer.gone.cancel();
    // Not where one of both had no use for it.
    let unused = |error: &ConnectionError| match error {
        ConnectionError::ApplicationClosed(it) => {
            [close::SPARE, close::NOTHING_SHARED].map(VarInt::from_u32).contains(&it.error_code)
        }
        _ => false,
    };
    let (mut broken, mut closed) = (!peer.spare.is_cancelled(), None);
    let why = match &result {
        Ok(()) if inner.stop.is_cancelled() => {
            conn.close(VarInt::from_u32(close::SHUTDOWN), b"shutting down");
            "this node is shutting down".to_owned()
        }
        Ok(()) if peer.spare.is_cancelled() => {
            let why = peer.unwanted.get().copied().unwrap_or(Unwanted::Spare);
            let (code, text) = why.code();
            conn.close(VarInt::from_u32(code), text.as_bytes());
            why.text().to_owned()
        }
        Ok(()) => {
            conn.close(VarInt::from_u32(close::DUPLICATE), b"another connection is in use");
            "another connection is in use".to_owned()
        }
        Err(FrameError::Wire(error)) => {
            inner.fault(&peer, &error.to_string());
            conn.close(VarInt::from_u32(close::PROTOCOL), error.to_string().as_bytes());
            error.to_string()
        }
        // A stream may break a moment before the connection says why.
        Err(FrameError::Lost(text)) => match timeout(LAST_WORDS, conn.closed()).await {
            Ok(error) => {
                broken &= !unused(&error);
                closed = DialFailure::of_close(&error);
                reason(&error)
            }
            Err(_) => {
                conn.close(VarInt::from_u32(close::PROTOCOL), text.as_bytes());
                text.clone()
            }
        },
    };
    let registered = inner.unregister(&peer, broken);
    inner.account.ended(&conn);
    if registered {
        inner.emit(Event::PeerDisconnected { peer: peer.id, reason: why });
        return Ok(());
    }
    // A connection that another one takes the place of, or that ends with the node, is no failure.
    let failed = peer.met.get().is_none() && result.is_err();
    if failed { Err(closed.unwrap_or(DialFailure::Ended(why))) } else { Ok(()) }
}

fn reason(error: &ConnectionError) -> String {
    match error {
        ConnectionError::ApplicationClosed(close) => {
            let text = String::from_utf8_lossy(&close.reason);
            let text: String = text.chars().filter(|c| !c.is_control()).collect();
            format!("the peer closed the connection: {text}")
        }
        other => other.to_string(),
    }
}

fn lost(error: impl ToString) -> FrameError {
    FrameError::Lost(error.to_string())
}

/// Drives the control stream, and starts everything else once the peer has said hello.
async fn control(
    inner: &Arc<Inner>,
    peer: &Arc<Peer>,
    mut requested: mpsc::UnboundedReceiver<ControlRequest>,
) -> Result<(), FrameError> {
    let conn = &peer.conn;
    let mut secret = [0; 32];
    conn.export_keying_material(&mut secret, EXPORTER, b"")
        .map_err(|_| lost("the TLS library gives no keying material"))?;
    let binding = Binding::new(secret, conn.side() == Side::Client);
    let mut padding = [0; 32];
    getrandom::fill(&mut padding).map_err(lost)?;
    let mut changes = inner.changes.subscribe();
    changes.borrow_and_update();
    let agent = concat!("arcwise/", env!("CARGO_PKG_VERSION"));
    let clock = crate::space::wall_clock;
    let (peer_at, spaces) = (peer.address(), inner.local_spaces());
    let mut control = Control::new(clock(), binding, agent, padding, peer_at, spaces);

    let (send, recv) = match peer.dialer {
        true => conn.open_bi().await.map_err(lost)?,
        false => {
            let first = timeout(HELLO, conn.accept_bi()).await;
            first.map_err(|_| lost("the peer did not say hello"))?.map_err(lost)?
        }
    };
    let mut writer = FrameWriter::new(peer.clone(), send);
    let mut reader = FrameReader::new(peer.clone(), recv);
    let deadline = Instant::now() + HELLO;
    // Pings that were not answered yet.
    let mut waiting: BTreeMap<[u8; 8], PingRequest> = BTreeMap::new();
    let mut shared: BTreeSet<SpaceId> = BTreeSet::new();
    let mut alone_until = Instant::now() + inner.strangers;
    loop {
        while let Some(output) = control.poll_output() {
            match output {
                ControlOutput::Send(message) => writer.write(&message).await?,
                ControlOutput::Met { agent, max_wants, clock_ahead, seen_at } => {
                    let met = Met { agent: agent.clone(), max_wants, clock_ahead, seen_at };
                    // The machine says this once.
                    let _ = peer.met.set(met);
                    if !inner.register(peer) {
                        return Ok(());
                    }
                    // Who blocks it ends what is registered; so this comes after it.
                    if inner.is_blocked(&peer.id) {
                        peer.hang_up(Unwanted::Blocked);
                        return Ok(());
                    }
                    inner.emit(Event::PeerConnected { peer: peer.id, agent });
                    start(inner, peer);
                }
                ControlOutput::Shared(id, theirs) => {
                    let Some(space) = inner.space(&id) else {
                        peer.spaces.send_modify(|spaces| drop(spaces.insert(id, theirs)));
                        continue;
                    };
                    let first = shared.insert(id);
                    space.swarm(inner, &[], |swarm, now| {
                        // Under its lock: whoever sees that the space is shared finds that the swarm knows.
                        peer.spaces.send_modify(|spaces| drop(spaces.insert(id, theirs.clone())));
                        if first {
                            swarm.met(now, peer.id, peer.dialer, theirs);
                            swarm.linked(&peer.id, peer.round_trip());
                        } else {
                            swarm.told(now, &peer.id, theirs);
                        }
                    });
                    if first {
                        inner.emit(Event::SpaceShared { peer: peer.id, space: id });
                        // Not before: strangers are not remembered.
                        inner.remember(peer);
                        inner.seen_by(peer);
                    }
                }
                ControlOutput::Left(id) => {
                    peer.spaces.send_modify(|spaces| drop(spaces.remove(&id)));
                    shared.remove(&id);
                    alone_until = Instant::now() + inner.strangers;
                    if let Some(space) = inner.space(&id) {
                        space.swarm(inner, &[], |swarm, now| {
                            swarm.gone(now, &peer.id, false);
                        });
                        space.intake.ended();
                    }
                }
                ControlOutput::Peers(id, infos) => {
                    let Some(space) = inner.space(&id) else { continue };
                    inner.heard_of(&space, peer, infos);
                }
                ControlOutput::Ended(error) => return Err(lost(error)),
                ControlOutput::Compare { nonce, digests } => {
                    let differing = compare(inner, peer, nonce, digests).await;
                    control.pong(nonce, &differing);
                }
                ControlOutput::Pong { nonce, differing } => {
                    if let Some(PingRequest { space, answer }) = waiting.remove(&nonce) {
                        let same = space.is_none_or(|space| !differing.contains(&space.id()));
                        let _ = answer.send(same);
                    }
                }
            }
        }
        tokio::select! {
            message = reader.next() => match message? {
                Some(message) => {
                    if let Err(fault) = control.handle(clock(), message) {
                        return Err(blame(inner, peer, &mut writer, fault).await);
                    }
                }
                None => return Err(lost("the peer ended the control stream")),
            },
            Some(request) = requested.recv() => {
                let request = match request {
                    ControlRequest::Ping(request) => request,
                    ControlRequest::Peers(space, peers) => {
                        control.tell(&space, peers);
                        continue;
                    }
                };
                // Who asked may not be waiting any more.
                waiting.retain(|_, request| !request.answer.is_closed());
                let mut nonce = [0; 8];
                getrandom::fill(&mut nonce).map_err(lost)?;
                let theirs = request.space.as_ref().and_then(|s| Some((s, peer.space(&s.id())?)));
                let mut digests = Vec::new();
                if let Some((space, theirs)) = theirs {
                    match space.digest(&theirs, nonce).await {
                        Ok(digest) => digests.push((space.id(), digest)),
                        Err(error) => {
                            tracing::error!(%error, "what is held cannot be told");
                            continue;
                        }
                    }
                }
                control.ping(nonce, &digests);
                waiting.insert(nonce, request);
            }
            changed = changes.changed() => {
                changed.map_err(lost)?;
                control.set_spaces(clock(), inner.local_spaces());
            }
            () = tokio::time::sleep_until(alone_until), if shared.is_empty() => {
                peer.hang_up(Unwanted::NothingShared);
                return Ok(());
            }
            () = tokio::time::sleep_until(deadline), if peer.met.get().is_none() => {
                return Err(lost("the peer did not say hello"));
            }
        }
    }
}

/// Compares what the peer has told of with what is held here; gives the spaces in which it is not the
/// same, and sees to it that these are compared in a session.
async fn compare(
    inner: &Arc<Inner>,
    peer: &Peer,
    nonce: [u8; 8],
    digests: Vec<(SpaceId, Digest)>,
) -> Vec<SpaceId> {
    let mut differing = Vec::new();
    for (id, digest) in digests {
        let (Some(space), Some(theirs)) = (inner.space(&id), peer.space(&id)) else { continue };
        match space.digest(&theirs, nonce).await {
            Ok(ours) => {
                let same = ours == digest;
                if same {
                    peer.holds_the_same(&space);
                } else {
                    differing.push(id);
                }
                space.swarm(inner, &[], |swarm, now| swarm.heard(now, &peer.id, same));
            }
            Err(error) => tracing::error!(%error, "what is held cannot be compared"),
        }
    }
    differing
}

/// Tells the peer which rule it broke, and ends the connection.
async fn blame(
    inner: &Inner,
    peer: &Arc<Peer>,
    writer: &mut FrameWriter,
    fault: Fault,
) -> FrameError {
    inner.fault(peer, &fault.to_string());
    let tell = async {
        writer.write(&fault.message().into()).await?;
        writer.finish();
        // To close the connection would throw away what has not arrived yet.
        writer.arrived().await;
        Ok::<_, FrameError>(())
    };
    let _ = timeout(Duration::from_secs(1), tell).await;
    peer.conn.close(VarInt::from_u32(close::PROTOCOL), fault.to_string().as_bytes());
    lost(fault)
}

/// Starts what runs beside the control stream, until the connection ends.
fn start(inner: &Arc<Inner>, peer: &Arc<Peer>) {
    let spawn = |work: std::pin::Pin<Box<dyn Future<Output = ()> + Send>>| {
        let gone = peer.gone.clone();
        inner.spawn(async move {
            gone.run_until_cancelled(work).await;
        });
    };
    let sender = peer.clone();
    spawn(Box::pin(async move {
        if let Err(error) = broadcast::send(sender).await {
            tracing::debug!(%error, "pushing ended");
        }
    }));
    let (node, from) = (inner.clone(), peer.clone());
    spawn(Box::pin(async move {
        while let Ok(recv) = from.conn.accept_uni().await {
            let (node, from) = (node.clone(), from.clone());
            // Not cut off with the connection: what has arrived is still stored.
            node.clone().spawn(async move {
                let reader = FrameReader::new(from.clone(), recv);
                broadcast::receive(&node, &from, reader).await;
            });
        }
    }));
    let (node, from) = (inner.clone(), peer.clone());
    spawn(Box::pin(async move {
        while let Ok((send, recv)) = from.conn.accept_bi().await {
            let (node, from) = (node.clone(), from.clone());
            node.clone().spawn(async move { serve(&node, &from, send, recv).await });
        }
    }));
}

/// Serves a stream that the peer has opened: its first message says what for.
async fn serve(inner: &Arc<Inner>, peer: &Arc<Peer>, send: SendStream, recv: RecvStream) {
    let (mut reader, mut writer) = frame::pair(peer, (send, recv));
    let first = tokio::select! {
        first = timeout(HELLO, reader.expect()) => first,
        () = peer.gone.cancelled() => return,
    };
    let result = match first {
        Ok(Ok(Message::ArcRequest(request))) => {
            return gossip::answer(inner, peer, request, reader, writer).await;
        }
        Ok(Ok(Message::Query(query))) => {
            request::answer_query(inner, peer, query, &mut writer).await
        }
        Ok(Ok(Message::FindPeers(find))) => {
            request::answer_find(inner, peer, find, &mut writer).await
        }
        Ok(Ok(Message::Audit(audit))) => audit::answer(inner, peer, audit, &mut writer).await,
        Ok(Ok(Message::Direct(message))) => tokio::select! {
            result = request::answer_direct(inner, peer, message, &mut writer) => result,
            () = peer.gone.cancelled() => return,
        },
        Ok(Ok(other)) => {
            let kind = other.kind();
            let fault = Fault::Unexpected { kind, when: "at the beginning of a stream" };
            inner.fault(peer, &fault.to_string());
            request::refuse(&mut writer, ErrorCode::Protocol, &fault.to_string()).await
        }
        Ok(Err(FrameError::Wire(error))) => {
            inner.fault(peer, &error.to_string());
            request::refuse(&mut writer, ErrorCode::Protocol, &error.to_string()).await
        }
        Ok(Err(FrameError::Lost(reason))) => Err(FrameError::Lost(reason)),
        Err(_) => request::refuse(&mut writer, ErrorCode::Timeout, "nothing was asked").await,
    };
    if let Err(error) = result {
        tracing::debug!(%error, "a request was not answered");
    }
    writer.finish();
}

/// Tells the peer what is held here, and hears whether it holds the same; where not, it sees to a
/// session as well. `None` where no answer comes.
pub(crate) async fn same(peer: &Peer, space: &Arc<SpaceState>) -> Option<bool> {
    let (answer, answered) = oneshot::channel();
    let request = PingRequest { space: Some(space.clone()), answer };
    peer.control.send(ControlRequest::Ping(request)).ok()?;
    timeout(HELLO, answered).await.ok()?.ok()
}
