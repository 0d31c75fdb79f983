//! Frames on QUIC streams.

use std::{
    sync::{
        Arc, OnceLock,
        atomic::{AtomicU64, Ordering},
    },
    time::Instant,
};

use arcwise_proto::wire::{Header, Kind, Message, WireError};
use bytes::BytesMut;
use iroh::endpoint::{RecvStream, SendStream, VarInt};

use crate::{
    bandwidth::Toll,
    event::{Direction, Frame},
    peer::Peer,
};

/// Why no more frames come.
#[derive(Debug, thiserror::Error)]
pub(crate) enum FrameError {
    /// The peer's fault.
    #[error(transparent)]
    Wire(#[from] WireError),
    /// The stream or the connection broke.
    #[error("{0}")]
    Lost(String),
}

macro_rules! from_frame_error {
    ($($error:ty),*) => { $(
        impl From<FrameError> for $error {
            fn from(error: FrameError) -> Self {
                match error {
                    FrameError::Wire(error) => error.into(),
                    FrameError::Lost(reason) => Self::Lost(reason),
                }
            }
        }
    )* };
}
from_frame_error!(crate::SyncError, crate::RequestError);

/// What both ends of a stream know of it.
#[derive(Default)]
struct Stream {
    /// Its first message, whichever way.
    opened: OnceLock<Kind>,
    moved: AtomicU64,
}

/// Reads messages. Holds at most one frame, and no more memory than has arrived of it.
pub(crate) struct FrameReader {
    peer: Arc<Peer>,
    recv: RecvStream,
    buffer: BytesMut,
    stream: Arc<Stream>,
    toll: Toll,
}

impl Drop for FrameReader {
    fn drop(&mut self) {
        self.peer.down.settle(&mut self.toll);
    }
}

impl FrameReader {
    pub(crate) fn new(peer: Arc<Peer>, recv: RecvStream) -> Self {
        let (buffer, stream, toll) = Default::default();
        Self { peer, recv, buffer, stream, toll }
    }

    /// Bytes that have moved on the stream so far, both ways where it is one of a [`pair`].
    pub(crate) fn moved(&self) -> u64 {
        self.stream.moved.load(Ordering::Relaxed)
    }

    /// The next message; `None` where the stream ended between two. May be dropped and called again
    /// without losing anything.
    pub(crate) async fn next(&mut self) -> Result<Option<Message>, FrameError> {
        loop {
            if let Some(head) = self.buffer.first_chunk::<{ Header::LEN }>() {
                let header = Header::parse(*head)?;
                let len = Header::LEN + header.body_len();
                if self.buffer.len() >= len {
                    let frame = self.buffer.split_to(len).freeze();
                    let message = Message::decode(header, frame.slice(Header::LEN..))?;
                    note(&self.peer, &self.stream, Direction::Received, &message, len);
                    return Ok(Some(message));
                }
            }
            let most = self.peer.down.chunk();
            self.peer.down.pay(&mut self.toll, most).await;
            let chunk = self.recv.read_chunk(most).await;
            match chunk.map_err(|error| FrameError::Lost(error.to_string()))? {
                Some(chunk) => {
                    self.stream.moved.fetch_add(chunk.len() as u64, Ordering::Relaxed);
                    match self.stream.opened.get() {
                        Some(opened) if brings_bulk(*opened) => {
                            self.peer.down.owe(&mut self.toll, chunk.len());
                        }
                        _ => self.peer.down.count(chunk.len()),
                    }
                    self.buffer.extend_from_slice(&chunk);
                }
                None if self.buffer.is_empty() => return Ok(None),
                None => return Err(WireError::Truncated.into()),
            }
        }
    }

    /// Like [`FrameReader::next`], where the peer owes a message.
    pub(crate) async fn expect(&mut self) -> Result<Message, FrameError> {
        self.next().await?.ok_or(WireError::Truncated.into())
    }
}

/// Writes messages. Dropped without [`FrameWriter::finish`], it resets the stream, so that the peer
/// does not take what was broken off for what is complete.
pub(crate) struct FrameWriter {
    peer: Arc<Peer>,
    send: SendStream,
    finished: bool,
    stream: Arc<Stream>,
}

/// Both ends of a stream that goes both ways.
pub(crate) fn pair(
    peer: &Arc<Peer>,
    (send, recv): (SendStream, RecvStream),
) -> (FrameReader, FrameWriter) {
    let (reader, mut writer) =
        (FrameReader::new(peer.clone(), recv), FrameWriter::new(peer.clone(), send));
    writer.stream = reader.stream.clone();
    (reader, writer)
}

impl Drop for FrameWriter {
    fn drop(&mut self) {
        if !self.finished {
            // Fails only where the stream is gone already.
            let _ = self.send.reset(VarInt::from_u32(0));
        }
    }
}

impl FrameWriter {
    pub(crate) fn new(peer: Arc<Peer>, send: SendStream) -> Self {
        Self { peer, send, finished: false, stream: Arc::default() }
    }

    /// Waits while the peer has no room for more, and for its turn where the node is not to send faster.
    pub(crate) async fn write(&mut self, message: &Message) -> Result<(), FrameError> {
        let mut frame = message.encode();
        // The peer does not wait long for the first message of a stream.
        let waits = self.stream.opened.get().is_some() && in_bulk(message.kind());
        note(&self.peer, &self.stream, Direction::Sent, message, frame.len());
        while !frame.is_empty() {
            let chunk = frame.split_to(frame.len().min(self.peer.up.chunk()));
            let len = chunk.len();
            match waits {
                true => {
                    let mut toll = Toll::default();
                    self.peer.up.owe(&mut toll, len);
                    self.peer.up.pay(&mut toll, 0).await;
                }
                false => self.peer.up.count(len),
            }
            let written = self.send.write_chunk(chunk).await;
            written.map_err(|error| FrameError::Lost(error.to_string()))?;
            self.stream.moved.fetch_add(len as u64, Ordering::Relaxed);
        }
        Ok(())
    }

    /// Waits until the peer has everything of a finished stream, or wants no more of it.
    pub(crate) async fn arrived(&mut self) {
        // Fails only where the connection is gone already.
        let _ = self.send.stopped().await;
    }

    /// Ends the stream; what was written before still arrives.
    pub(crate) fn finish(&mut self) {
        // Fails only where the stream is gone already.
        let _ = self.send.finish();
        self.finished = true;
    }
}

/// Whether a stream that begins with this message may bring much.
fn brings_bulk(opened: Kind) -> bool {
    !matches!(opened, Kind::Hello | Kind::FindPeers | Kind::Audit)
}

/// Whether a message may be large or one of many. What is neither is never kept waiting.
fn in_bulk(kind: Kind) -> bool {
    match kind {
        Kind::ArcRequest
        | Kind::ArcResponse
        | Kind::AspectDataRequest
        | Kind::AspectDataResponse
        | Kind::AspectBroadcast
        | Kind::Direct => true,
        Kind::Hello
        | Kind::Handshake
        | Kind::Ping
        | Kind::Pong
        | Kind::Error
        | Kind::Peers
        | Kind::Query
        | Kind::FindPeers
        | Kind::Announce
        | Kind::Graft
        | Kind::Prune
        | Kind::Receipt
        | Kind::Audit
        | Kind::AuditProof => false,
    }
}

/// Counts a message, and tells who watches.
fn note(peer: &Peer, stream: &Stream, direction: Direction, message: &Message, bytes: usize) {
    let kind: Kind = message.kind();
    tracing::trace!(peer = %peer.id.short(), ?direction, %kind, bytes);
    peer.count(*stream.opened.get_or_init(|| kind), kind, direction, bytes as u64);
    if peer.frames.receiver_count() > 0 {
        let (items, at) = (message.items(), Instant::now());
        let _ = peer.frames.send(Frame { peer: peer.id, direction, kind, items, bytes, at });
    }
}
