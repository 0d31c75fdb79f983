//! Frames on QUIC streams.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Instant,
};

use arcwise_proto::wire::{Header, Kind, Message, WireError};
use bytes::BytesMut;
use iroh::endpoint::{RecvStream, SendStream, VarInt};

use crate::{
    event::{Direction, Frame},
    peer::Peer,
};

/// Most bytes taken from a stream or given to it at a time.
const CHUNK: usize = 64 << 10;

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

/// Reads messages. Holds at most one frame, and no more memory than has arrived of it.
pub(crate) struct FrameReader {
    peer: Arc<Peer>,
    recv: RecvStream,
    buffer: BytesMut,
    moved: Arc<AtomicU64>,
}

impl FrameReader {
    pub(crate) fn new(peer: Arc<Peer>, recv: RecvStream) -> Self {
        Self { peer, recv, buffer: BytesMut::new(), moved: Arc::default() }
    }

    /// Bytes that have moved on the stream so far, both ways where it is one of a [`pair`].
    pub(crate) fn moved(&self) -> u64 {
        self.moved.load(Ordering::Relaxed)
    }

    /// The next message; `None` where the stream ended between two. May be dropped and called again
    /// without losing anything.
    pub(crate) async fn next(&mut self) -> Result<Option<Message>, FrameError> {
        loop {
            let mut missing = Header::LEN.saturating_sub(self.buffer.len());
            if let Some(head) = self.buffer.first_chunk::<{ Header::LEN }>() {
                let header = Header::parse(*head)?;
                let len = Header::LEN + header.body_len();
                missing = len.saturating_sub(self.buffer.len());
                if missing == 0 {
                    let frame = self.buffer.split_to(len).freeze();
                    let message = Message::decode(header, frame.slice(Header::LEN..))?;
                    trace(&self.peer, Direction::Received, &message, len);
                    return Ok(Some(message));
                }
            }
            let chunk = self.recv.read_chunk(missing.max(CHUNK)).await;
            match chunk.map_err(|error| FrameError::Lost(error.to_string()))? {
                Some(chunk) => {
                    self.moved.fetch_add(chunk.len() as u64, Ordering::Relaxed);
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
    moved: Arc<AtomicU64>,
}

/// Both ends of a stream that goes both ways.
pub(crate) fn pair(
    peer: &Arc<Peer>,
    (send, recv): (SendStream, RecvStream),
) -> (FrameReader, FrameWriter) {
    let (reader, mut writer) =
        (FrameReader::new(peer.clone(), recv), FrameWriter::new(peer.clone(), send));
    writer.moved = reader.moved.clone();
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
        Self { peer, send, finished: false, moved: Arc::default() }
    }

    /// Waits while the peer has no room for more.
    pub(crate) async fn write(&mut self, message: &Message) -> Result<(), FrameError> {
        let mut frame = message.encode();
        trace(&self.peer, Direction::Sent, message, frame.len());
        while !frame.is_empty() {
            let chunk = frame.split_to(frame.len().min(CHUNK));
            let len = chunk.len() as u64;
            let written = self.send.write_chunk(chunk).await;
            written.map_err(|error| FrameError::Lost(error.to_string()))?;
            self.moved.fetch_add(len, Ordering::Relaxed);
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

fn trace(peer: &Peer, direction: Direction, message: &Message, bytes: usize) {
    let kind: Kind = message.kind();
    tracing::trace!(peer = %peer.id.short(), ?direction, %kind, bytes);
    if peer.frames.receiver_count() > 0 {
        let (items, at) = (message.items(), Instant::now());
        let _ = peer.frames.send(Frame { peer: peer.id, direction, kind, items, bytes, at });
    }
}
