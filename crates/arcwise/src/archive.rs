//! A space as one stream of bytes, to keep a copy or to carry it where no network leads.
//!
//! **An archive is as secret as a ticket**: it holds the space's id, with which anybody can join, and
//! all its data, unencrypted.
//!
//! # The format, version 1
//!
//! The line `arcwise archive 1`, with a line feed, then blocks. Integers are little-endian:
//!
//! | bytes | field |
//! |---|---|
//! | 1 | kind: 0 head, 1 aspects, 2 end, 3 copies |
//! | 4 | length of the body: at most that of an aspect of the largest size, and 4 |
//! | n | body |
//! | 32 | check: BLAKE3 `derive_key("arcwise 1 archive", everything before, from the first line on)` |
//!
//! Copies may come first, once. Then there is one head, then any number of blocks of aspects, then one end,
//! and nothing after it:
//!
//! | kind | body |
//! |---|---|
//! | copies | how many of everything the space wants: at the least 1, normally 1, as in tickets; without this block the defaults |
//! | head | space id 32; how long the space keeps what is published, in microseconds 8, all ones for ever; the rest is the space's name: UTF-8, at most 255 bytes |
//! | aspects | any number of times: length 4, canonical encoding of an [`Aspect`] |
//! | end | number of aspects 8; bytes of their encodings together 8; the rest is what the exporter claimed to hold: any number of times, ascending, the first and the last location of an arc, 4 bytes each |
//!
//! Aspects are in the order in which the exporter stored them. As each check covers all that comes
//! before, blocks that are changed, left out, or in another order are recognised; so is a missing end.
//! Checks are no signatures: whoever makes an archive can put into it what they like, as whoever is in
//! the space can publish it.

use std::{io, time::Duration};

use arcwise_proto::{
    ArcSet, Aspect, AspectError, SpaceId,
    limits::{ASPECT_OVERHEAD, MAX_ASPECT_DATA},
    session::Holdings,
};
use arcwise_store::{Damage, Limits, StoreError};
use bytes::{Buf, BufMut, Bytes};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, BufReader};
use tokio_util::sync::CancellationToken;

use crate::{
    Copies, Event, Node, Source, Space, SpaceOptions,
    ingest::{Ingest, Stored, blocking},
};

const FIRST_LINE: &[u8; 18] = b"arcwise archive 1\n";
/// What it begins with in every version.
const PREFIX: &[u8] = b"arcwise archive ";
const CHECK: &str = "arcwise 1 archive";

const HEAD: u8 = 0;
const ASPECTS: u8 = 1;
const END: u8 = 2;
const COPIES: u8 = 3;

/// Longest body of a block, in bytes.
const MAX_BODY: usize = 4 + ASPECT_OVERHEAD + MAX_ASPECT_DATA;
/// A body is filled up to so many bytes: a check costs little then, and little is read in vain.
const BODY_TARGET: usize = 256 << 10;
/// Longest name, in bytes; longer ones are cut, as in tickets.
const MAX_NAME: usize = 255;
/// Most arcs; of more, the longest are claimed. A guess at far more than any node has.
const MAX_ARCS: usize = 1 << 16;
/// Aspects read from the store at a time: at most 16 MiB, however large they are.
const READ: usize = 16;

const _: () = assert!(BODY_TARGET <= MAX_BODY);
const _: () = assert!(32 + MAX_NAME <= MAX_BODY);
// One that wraps is two spans.
const _: () = assert!(16 + 8 * (MAX_ARCS + 1) <= MAX_BODY);

/// What an archive was made of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Exported {
    /// Aspects in it.
    pub aspects: u64,
    /// Bytes of their canonical encodings together.
    pub bytes: u64,
}

/// What became of an archive.
#[derive(Clone, Debug)]
pub struct Imported {
    /// The space that it is of.
    pub space: Space,
    /// Whether the node was not in the space before.
    pub created: bool,
    /// Aspects in the archive.
    pub aspects: u64,
    /// Bytes of their canonical encodings together.
    pub bytes: u64,
    /// How many of them were not held before.
    pub new: u64,
}

/// Why a space was not exported. What was written by then is not a whole archive.
#[derive(Debug, thiserror::Error)]
pub enum ExportError {
    /// What is on disk is not what was stored.
    #[error(
        "the store is damaged: {0}; to have what is damaged fetched again from peers, and then export: \
         arcwise store check --repair"
    )]
    Damaged(Damage),
    /// There is less than the store says, because it is damaged, or aspects were removed meanwhile.
    #[error(
        "of {wanted} aspects only {found} were found: some were removed meanwhile, or the store is \
         damaged; export again, after: arcwise store check --repair"
    )]
    Missing {
        /// How many there were to be.
        wanted: u64,
        /// How many there were.
        found: u64,
    },
    /// The store cannot be read.
    #[error(transparent)]
    Store(StoreError),
    /// The archive cannot be written.
    #[error("cannot write the archive: {0}")]
    Write(#[from] io::Error),
}

impl From<StoreError> for ExportError {
    fn from(error: StoreError) -> Self {
        match error {
            StoreError::Damaged(damage) => Self::Damaged(damage),
            error => Self::Store(error),
        }
    }
}

/// Why an archive was not imported as a whole. What came before the trouble was sound, and is stored.
#[derive(Debug, thiserror::Error)]
pub enum ImportError {
    /// It does not begin as archives do.
    #[error("this is not the archive of a space: archives begin with “arcwise archive”")]
    NotAnArchive,
    /// Its format is none that this version knows.
    #[error("the archive was made by a newer version of arcwise; upgrade this one")]
    NewerVersion,
    /// It ends too early.
    #[error("the archive is cut short: it ends after {at} bytes, and there should be more")]
    CutShort {
        /// How many bytes there are.
        at: u64,
    },
    /// It is not as it was written.
    #[error("the archive is damaged at byte {at}, or in the block that begins there")]
    Damaged {
        /// Where, counted from 0.
        at: u64,
    },
    /// It is as it was written, but holds what is not an aspect of this space.
    #[error("the archive holds what cannot be believed, in the block at byte {at}: {error}")]
    Aspect {
        /// Where, counted from 0.
        at: u64,
        /// What is wrong.
        error: AspectError,
    },
    /// The archive cannot be read.
    #[error("cannot read the archive: {0}")]
    Read(#[from] io::Error),
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// This node is shutting down.
    #[error("this node is shutting down")]
    Shutdown,
}

impl Space {
    /// Writes what is stored now as an archive, which [`Node::import`] takes; its format is described in
    /// `archive.rs`. What is stored meanwhile is left out.
    ///
    /// **The archive is as secret as a ticket**: it holds the id of the space, and all data as it is.
    ///
    /// # Errors
    /// See [`ExportError`].
    pub async fn export(&self, writer: impl AsyncWrite + Unpin) -> Result<Exported, ExportError> {
        let (held, stats) = (self.state.store.held(), self.state.store.stats());
        let mut archive = Writer { output: writer, hasher: hasher() };
        archive.write(FIRST_LINE).await?;
        let copies = self.overview().wanted;
        // Neither is above 255.
        archive.block(COPIES, &[copies.min() as u8, copies.target() as u8]).await?;
        let name = self.name();
        let name = &name[..name.floor_char_boundary(MAX_NAME)];
        let age = self.state.store.limits().max_age;
        let age = age.map_or(u64::MAX, |age| age.as_micros().try_into().unwrap_or(u64::MAX));
        let head = [self.id().as_bytes(), &age.to_le_bytes()[..], name.as_bytes()].concat();
        archive.block(HEAD, &head).await?;

        let mut exported = Exported { aspects: 0, bytes: 0 };
        let (mut after, mut body) = (0, Vec::new());
        while after < stats.position.count {
            let part = self.since(after, READ).await?;
            let Some((last, _)) = part.last() else { break };
            after = *last;
            for (sequence, aspect) in part {
                if sequence > stats.position.count {
                    break;
                }
                let encoding = aspect.encoding();
                if !body.is_empty() && body.len() + 4 + encoding.len() > BODY_TARGET {
                    archive.block(ASPECTS, &body).await?;
                    body.clear();
                }
                body.put_u32_le(encoding.len() as u32);
                body.put_slice(encoding);
                exported.aspects += 1;
                exported.bytes += encoding.len() as u64;
            }
        }
        if !body.is_empty() {
            archive.block(ASPECTS, &body).await?;
        }
        // Where something was removed meanwhile, fewer is right.
        let removed = self.state.store.resolve(stats.position).is_none();
        if exported.aspects != stats.count && !removed {
            return Err(ExportError::Missing { wanted: stats.count, found: exported.aspects });
        }

        // A claim that was given up meanwhile may not have been true.
        let held = held.intersect(&self.state.store.held()).longest(MAX_ARCS);
        let mut end = Vec::new();
        end.put_u64_le(exported.aspects);
        end.put_u64_le(exported.bytes);
        for (first, last) in held.spans() {
            end.put_u32_le(first.0);
            end.put_u32_le(last.0);
        }
        archive.block(END, &end).await?;
        archive.output.flush().await?;
        Ok(exported)
    }
}

impl Node {
    /// Stores what is in an archive that [`Space::export`] has made, and joins its space where this node
    /// is not in it. It then claims to hold what the exporter claimed, once all of it is durable; in a
    /// space that it was in before it claims no more than it did.
    ///
    /// May be repeated, after an error too: what is held already is not stored again. Where the call is
    /// dropped, what was stored stays.
    ///
    /// # Errors
    /// See [`ImportError`].
    pub async fn import(&self, reader: impl AsyncRead + Unpin) -> Result<Imported, ImportError> {
        let mut archive = Reader::open(reader, &self.running.stop).await?;
        let (copies, (id, max_age, name)) = archive.head().await?;
        let limits = Limits { max_age, max_bytes: None };
        let (space, created) = match self.space(&id) {
            Some(space) => (space, false),
            None => {
                let (held, target) = (ArcSet::empty(), ArcSet::full());
                let options = SpaceOptions { copies, ..limits.into() };
                (self.add_space(id, &name, held, target, options).await?, true)
            }
        };
        // Kept, so that an import that takes several attempts ends as any other.
        let unfinished = Setting { node: self, key: format!("import {}", id.reveal()) };
        if created {
            unfinished.set(true).await?;
        }

        let mut ingest = Ingest::default();
        let mut imported = Imported { space, created, aspects: 0, bytes: 0, new: 0 };
        let read = self.read_all(&mut archive, &mut ingest, &mut imported).await;
        // What was read before an error is sound.
        while !ingest.is_idle() {
            self.note(ingest.next().await?, &mut imported);
        }
        let arcs = read?;

        if unfinished.get().await? {
            let store = imported.space.state.store.clone();
            // Where there are claims by now, a holder was compared with, which is better than an archive.
            if store.held().is_empty() && !arcs.is_empty() {
                blocking(move || store.set_held(arcs)).await?;
                self.running.emit(Event::ArcChanged { space: id });
            }
            unfinished.set(false).await?;
        }
        // The peers learn the new arc and count from another handshake.
        self.running.spaces_changed();
        Ok(imported)
    }

    /// Takes all blocks after the head, and gives the arcs of the exporter.
    async fn read_all<R: AsyncRead + Unpin>(
        &self,
        archive: &mut Reader<'_, R>,
        ingest: &mut Ingest,
        imported: &mut Imported,
    ) -> Result<ArcSet, ImportError> {
        let id = imported.space.id();
        loop {
            let Block { at, kind, body } = archive.block().await?;
            match kind {
                ASPECTS => {
                    let aspects = blocking(move || believable(at, body, &id)).await?;
                    imported.aspects += aspects.len() as u64;
                    imported.bytes +=
                        aspects.iter().map(|aspect| aspect.encoding().len() as u64).sum::<u64>();
                    ingest.push(&imported.space.state.store, aspects);
                    while !ingest.has_room() {
                        self.note(ingest.next().await?, imported);
                    }
                }
                END => {
                    let end = End::parse(body).ok_or(ImportError::Damaged { at })?;
                    if (end.aspects, end.bytes) != (imported.aspects, imported.bytes) {
                        return Err(ImportError::Damaged { at });
                    }
                    archive.nothing_more().await?;
                    return Ok(end.arcs);
                }
                _ => return Err(ImportError::Damaged { at }),
            }
        }
    }

    /// A batch is durable.
    fn note(&self, stored: Stored, imported: &mut Imported) {
        imported.new += stored.new.len() as u64;
        self.running.inner().stored(&imported.space.state, &stored.new, Source::Import);
    }
}

/// Something to remember in the store: yes or no.
struct Setting<'a> {
    node: &'a Node,
    key: String,
}

impl Setting<'_> {
    async fn get(&self) -> Result<bool, StoreError> {
        let (store, key) = (self.node.running.store.clone(), self.key.clone());
        Ok(blocking(move || store.setting(&key)).await?.is_some_and(|value| !value.is_empty()))
    }

    async fn set(&self, value: bool) -> Result<(), StoreError> {
        let (store, key) = (self.node.running.store.clone(), self.key.clone());
        let value: &[u8] = if value { b"unfinished" } else { b"" };
        blocking(move || store.put_setting(&key, value)).await
    }
}

/// The aspects of a block, if there is nothing wrong with any of them.
fn believable(at: u64, mut body: Bytes, space: &SpaceId) -> Result<Vec<Aspect>, ImportError> {
    let mut aspects = Vec::new();
    while body.has_remaining() {
        let length = body.try_get_u32_le().map_err(|_| ImportError::Damaged { at })? as usize;
        if length > body.len() {
            return Err(ImportError::Damaged { at });
        }
        let aspect = Aspect::decode(body.split_to(length))
            .and_then(|aspect| aspect.verify(space).map(|()| aspect))
            .map_err(|error| ImportError::Aspect { at, error })?;
        aspects.push(aspect);
    }
    Ok(aspects)
}

fn hasher() -> blake3::Hasher {
    blake3::Hasher::new_derive_key(CHECK)
}

struct Writer<W> {
    output: W,
    /// Of all that was written.
    hasher: blake3::Hasher,
}

impl<W: AsyncWrite + Unpin> Writer<W> {
    async fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.hasher.update(bytes);
        self.output.write_all(bytes).await
    }

    async fn block(&mut self, kind: u8, body: &[u8]) -> io::Result<()> {
        self.write(&[kind]).await?;
        self.write(&(body.len() as u32).to_le_bytes()).await?;
        self.write(body).await?;
        let check = self.hasher.finalize();
        self.write(check.as_bytes()).await
    }
}

struct Reader<'a, R> {
    input: BufReader<R>,
    stop: &'a CancellationToken,
    /// Of all that was read.
    hasher: blake3::Hasher,
    /// How much that is.
    at: u64,
}

/// A space's id, how long it keeps what is published, and its name.
type Head = (SpaceId, Option<Duration>, String);

struct Block {
    /// Where it begins.
    at: u64,
    kind: u8,
    body: Bytes,
}

impl<'a, R: AsyncRead + Unpin> Reader<'a, R> {
    /// Reads the first line.
    async fn open(input: R, stop: &'a CancellationToken) -> Result<Self, ImportError> {
        let mut this = Self { input: BufReader::new(input), stop, hasher: hasher(), at: 0 };
        let mut line = *FIRST_LINE;
        let read = this.fill(&mut line).await?;
        match &line[..read] {
            line if line == FIRST_LINE => Ok(this),
            line if FIRST_LINE.starts_with(line) => Err(ImportError::CutShort { at: this.at }),
            line => Err(match line.strip_prefix(PREFIX) {
                Some([b'1'..=b'9', b'0'..=b'9' | b'\n']) => ImportError::NewerVersion,
                _ => ImportError::NotAnArchive,
            }),
        }
    }

    async fn head(&mut self) -> Result<(Copies, Head), ImportError> {
        let mut copies = Copies::default();
        let Block { mut at, mut kind, mut body } = self.block().await?;
        if kind == COPIES {
            let [min, target] = *body else { return Err(ImportError::Damaged { at }) };
            let wanted = Copies::new(min.into(), target.into());
            copies = wanted.map_err(|_| ImportError::Damaged { at })?;
            Block { at, kind, body } = self.block().await?;
        }
        let parsed = body.split_first_chunk().filter(|_| kind == HEAD).and_then(|(id, rest)| {
            let (age, name) = rest.split_first_chunk()?;
            let age = Some(u64::from_le_bytes(*age)).filter(|age| *age < u64::MAX);
            let name = std::str::from_utf8(name).ok().filter(|name| name.len() <= MAX_NAME)?;
            // As in tickets.
            let name = name.chars().filter(|c| !c.is_control()).collect();
            Some((SpaceId(*id), age.map(Duration::from_micros), name))
        });
        Ok((copies, parsed.ok_or(ImportError::Damaged { at })?))
    }

    async fn block(&mut self) -> Result<Block, ImportError> {
        let at = self.at;
        let [kind, length @ ..] = self.array::<5>().await?;
        let length = u32::from_le_bytes(length) as usize;
        if length > MAX_BODY {
            return Err(ImportError::Damaged { at });
        }
        let mut body = vec![0; length];
        self.exact(&mut body).await?;
        let check = self.hasher.finalize();
        match check == self.array::<32>().await? {
            true => Ok(Block { at, kind, body: body.into() }),
            false => Err(ImportError::Damaged { at }),
        }
    }

    async fn nothing_more(&mut self) -> Result<(), ImportError> {
        let at = self.at;
        match self.fill(&mut [0]).await? {
            0 => Ok(()),
            _ => Err(ImportError::Damaged { at }),
        }
    }

    async fn array<const N: usize>(&mut self) -> Result<[u8; N], ImportError> {
        let mut bytes = [0; N];
        self.exact(&mut bytes).await?;
        Ok(bytes)
    }

    async fn exact(&mut self, bytes: &mut [u8]) -> Result<(), ImportError> {
        match self.fill(bytes).await? == bytes.len() {
            true => Ok(()),
            false => Err(ImportError::CutShort { at: self.at }),
        }
    }

    /// Reads as many bytes as there are room for, or left.
    async fn fill(&mut self, bytes: &mut [u8]) -> Result<usize, ImportError> {
        let mut filled = 0;
        while filled < bytes.len() {
            let read = self.stop.run_until_cancelled(self.input.read(&mut bytes[filled..]));
            match read.await.ok_or(ImportError::Shutdown)?? {
                0 => break,
                read => filled += read,
            }
        }
        self.hasher.update(&bytes[..filled]);
        self.at += filled as u64;
        Ok(filled)
    }
}

struct End {
    aspects: u64,
    bytes: u64,
    arcs: ArcSet,
}

impl End {
    /// `None` where it is not as the format has it.
    fn parse(mut body: Bytes) -> Option<Self> {
        let aspects = body.try_get_u64_le().ok()?;
        let bytes = body.try_get_u64_le().ok()?;
        let (spans, []) = body.as_chunks::<8>() else { return None };
        let spans: Vec<(u32, u32)> = spans
            .iter()
            .map(|&[a, b, c, d, e, f, g, h]| {
                (u32::from_le_bytes([a, b, c, d]), u32::from_le_bytes([e, f, g, h]))
            })
            .collect();
        let sound = spans.iter().all(|(first, last)| first <= last)
            && spans.windows(2).all(|pair| pair[0].1 < pair[1].0);
        sound.then(|| Self { aspects, bytes, arcs: spans.into_iter().collect() })
    }
}
