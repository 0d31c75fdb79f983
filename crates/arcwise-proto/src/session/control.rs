//! The control stream: who is there, which spaces are shared, and what each side holds in them.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    net::SocketAddr,
    time::Duration,
};

use serde::{Deserialize, Serialize};

use super::{Digest, Fault};
use crate::{
    id::{NodeId, SpaceId},
    limits::{MAX_SPACES, MAX_WANTS},
    ring::ArcSet,
    time::Time,
    wire::{
        ErrorMessage, Handshake, Hello, Message, PeerInfo, Peers, Ping, Pong, SpaceDigest, TAG_LEN,
        Tag,
    },
};

/// The minor version of the protocol that this crate speaks. The major one is in the ALPN.
pub const VERSION: u32 = 0;

/// Tags are padded with random ones to a multiple of this, so that they do not tell how many spaces
/// a node is in. A guess: most nodes are in fewer.
const TAG_PADDING: usize = 8;

/// Two connections with the same peer, of which either side has dialled one, are taken for a race where they
/// are no further apart than this. A guess: how long it takes to connect on a slow line.
const SAME_MOMENT: Duration = Duration::from_secs(3);

/// Ties proofs to one connection and one side of it.
#[derive(Clone)]
pub struct Binding {
    secret: [u8; 32],
    dialer: bool,
}

impl Binding {
    /// `secret` is known to the two ends of this connection and to nobody else (a TLS exporter,
    /// RFC 5705); `dialer` says which end this is.
    pub fn new(secret: [u8; 32], dialer: bool) -> Self {
        Self { secret, dialer }
    }

    /// What this end sends to prove that it knows the id of `space`: the first 16 bytes of
    /// BLAKE3 `keyed_hash(derive_key("arcwise 1 space tag", space id), side ‖ secret)`, where `side`
    /// is one byte, 1 for the end that dialled and 0 for the other. Nobody can replay it on another
    /// connection or send it back.
    pub fn our_tag(&self, space: &SpaceId) -> Tag {
        self.tag(space, self.dialer)
    }

    /// What the other end sends to prove the same.
    pub fn their_tag(&self, space: &SpaceId) -> Tag {
        self.tag(space, !self.dialer)
    }

    fn tag(&self, space: &SpaceId, dialer: bool) -> Tag {
        let key = blake3::derive_key("arcwise 1 space tag", space.as_bytes());
        let mut hasher = blake3::Hasher::new_keyed(&key);
        hasher.update(&[u8::from(dialer)]);
        hasher.update(&self.secret);
        prefix(hasher.finalize().as_bytes())
    }

    /// A tag that stands for no space, different for every `i`.
    fn padding(&self, seed: &[u8; 32], i: usize) -> Tag {
        let mut hasher = blake3::Hasher::new_keyed(seed);
        hasher.update(&(i as u64).to_le_bytes());
        hasher.update(&self.secret);
        prefix(hasher.finalize().as_bytes())
    }
}

fn prefix(hash: &[u8; 32]) -> Tag {
    let mut tag = [0; TAG_LEN];
    tag.copy_from_slice(&hash[..TAG_LEN]);
    tag
}

/// A space that this node is in, as its peers are to see it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LocalSpace {
    /// The space. It is a secret, and not written down.
    #[serde(skip, default = "unknown")]
    pub id: SpaceId,
    /// This node's number for it, above 0; the same on every connection.
    pub number: u32,
    /// Everything in here is held, now.
    pub store: ArcSet,
    /// What the node fills towards.
    pub target: ArcSet,
    /// For which locations the node can name a holder; at least `store`.
    pub query: ArcSet,
    /// Aspects held.
    pub count: u64,
    /// Bytes of their encodings.
    pub bytes: u64,
    /// Whether it takes nothing now, for want of room.
    pub full: bool,
}

/// The space of which something was written down, until that is known again.
fn unknown() -> SpaceId {
    SpaceId([0; 32])
}

/// What a peer says of a space that both are in.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PeerSpace {
    /// The peer's number for it.
    pub number: u32,
    /// What the peer claims to hold.
    pub store: ArcSet,
    /// What it fills towards.
    pub target: ArcSet,
    /// For which locations it can name a holder.
    pub query: ArcSet,
    /// Aspects held.
    pub count: u64,
    /// Bytes of their encodings.
    pub bytes: u64,
    /// Whether it takes nothing now, for want of room.
    pub full: bool,
}

/// Where two nodes have something to compare: what either holds or fills, and the other too.
pub fn shared_arcs(ours: &LocalSpace, theirs: &PeerSpace) -> ArcSet {
    ours.store.union(&ours.target).intersect(&theirs.store.union(&theirs.target))
}

/// The same peer is connected twice: whether the new connection takes the place of the old one, which is
/// `old_age` old. Each was dialled here or by the peer.
///
/// Where both dialled at about the same moment, the one that the lower id dialled stays, on both sides;
/// else the newer one, because a peer that dials again has lost the older.
pub fn replaces(
    us: &NodeId,
    them: &NodeId,
    old_dialed: bool,
    old_age: Duration,
    new_dialed: bool,
) -> bool {
    let crossed = old_dialed != new_dialed && old_age < SAME_MOMENT;
    let lower_dialed_new = new_dialed == (us < them);
    !crossed || lower_dialed_new
}

/// What [`Control`] wants done or known.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ControlOutput {
    /// Send this on the control stream.
    Send(Message),
    /// The peer's `Hello` has come, and a version is agreed.
    Met {
        /// Name and version of its software.
        agent: String,
        /// How many aspects it may be asked for at a time.
        max_wants: usize,
        /// How far its clock is ahead of ours, in microseconds, the network's delay included.
        clock_ahead: i64,
        /// From where it sees this node's packets come.
        seen_at: Option<SocketAddr>,
    },
    /// Both are in this space, and this is what the peer holds of it now.
    Shared(SpaceId, PeerSpace),
    /// The peer has left this space.
    Left(SpaceId),
    /// The peer tells what it holds, where both take it: compare with what is held here, made with
    /// this nonce, and answer with [`Control::pong`].
    Compare {
        /// What the digests are made with.
        nonce: [u8; 8],
        /// By space; only of those that both are in.
        digests: Vec<(SpaceId, Digest)>,
    },
    /// The answer to a ping, and in which of the spaces of its digests the peer holds something else.
    Pong {
        /// The ping's.
        nonce: [u8; 8],
        /// Those in which both do not hold the same.
        differing: Vec<SpaceId>,
    },
    /// The peer tells of peers in this space. Whether its records are to be believed is not checked.
    Peers(SpaceId, Vec<PeerInfo>),
    /// The peer ends the connection and says why.
    Ended(ErrorMessage),
}

/// The state of one connection's control stream.
///
/// Each side sends its `Hello` at once; then, for every space whose tag the other has sent too, a
/// `msgHandshake`. So nothing about a space is told to who has not proven to know its id.
pub struct Control {
    binding: Binding,
    agent: String,
    padding: [u8; 32],
    /// Where the peer is, as this side sees it.
    peer_at: Option<SocketAddr>,
    ours: BTreeMap<SpaceId, LocalSpace>,
    /// The handshakes as the peer has them.
    sent: BTreeMap<SpaceId, LocalSpace>,
    /// The peer's tags, from its `Hello`; `None` before that.
    tags: Option<BTreeSet<Tag>>,
    /// Those of them that stand for a space of ours.
    proven: BTreeMap<Tag, SpaceId>,
    shared: BTreeMap<SpaceId, PeerSpace>,
    outputs: VecDeque<ControlOutput>,
}

impl Control {
    /// The beginning of a conversation. `padding` is 32 random bytes; `agent` names the software;
    /// `peer_at` is from where the peer's packets come, which it is told. Spaces beyond
    /// [`MAX_SPACES`] are not offered.
    pub fn new(
        now: Time,
        binding: Binding,
        agent: &str,
        padding: [u8; 32],
        peer_at: Option<SocketAddr>,
        spaces: Vec<LocalSpace>,
    ) -> Self {
        let ours = spaces.into_iter().take(MAX_SPACES).map(|space| (space.id, space)).collect();
        let mut this = Self {
            binding,
            agent: agent.to_owned(),
            padding,
            peer_at,
            ours,
            sent: BTreeMap::new(),
            tags: None,
            proven: BTreeMap::new(),
            shared: BTreeMap::new(),
            outputs: VecDeque::new(),
        };
        this.send_hello(now);
        this
    }

    /// This node's spaces have changed: tells the peer what is news to it.
    pub fn set_spaces(&mut self, now: Time, spaces: Vec<LocalSpace>) {
        let before: Vec<SpaceId> = self.ours.keys().copied().collect();
        self.ours = spaces.into_iter().take(MAX_SPACES).map(|space| (space.id, space)).collect();
        if !before.iter().eq(self.ours.keys()) {
            self.send_hello(now);
        }
        self.meet();
    }

    /// Asks for a pong, and tells what is held here in some spaces. `nonce` must be random where there
    /// are digests, which are made with it. Spaces that are not shared any more are left out.
    pub fn ping(&mut self, nonce: [u8; 8], digests: &[(SpaceId, Digest)]) {
        let theirs = digests.iter().filter_map(|(id, digest)| {
            let space = self.shared.get(id)?.number;
            Some(SpaceDigest { space, digest: *digest })
        });
        let digests = theirs.collect();
        self.send(Ping { nonce: u64::from_le_bytes(nonce), digests });
    }

    /// Answers the digests of a ping, once for each [`ControlOutput::Compare`] and in their order.
    pub fn pong(&mut self, nonce: [u8; 8], differing: &[SpaceId]) {
        let theirs = differing.iter().filter_map(|id| Some(self.shared.get(id)?.number));
        let differing = theirs.collect();
        self.send(Pong { nonce: u64::from_le_bytes(nonce), differing });
    }

    /// Tells of peers in a space, at most [`MAX_PEERS`](crate::limits::MAX_PEERS); nothing where it is
    /// not shared any more.
    pub fn tell(&mut self, space: &SpaceId, peers: Vec<PeerInfo>) {
        if let Some(space) = self.shared.get(space).map(|theirs| theirs.number) {
            self.send(Peers { space, peers });
        }
    }

    /// A message has come on the control stream.
    ///
    /// # Errors
    /// A [`Fault`] of the peer: tell it, and end the connection.
    pub fn handle(&mut self, now: Time, message: Message) -> Result<(), Fault> {
        match message {
            Message::Error(error) => {
                self.outputs.push_back(ControlOutput::Ended(error));
                Ok(())
            }
            Message::Hello(hello) => self.handle_hello(now, hello),
            other if self.tags.is_none() => {
                Err(Fault::Unexpected { kind: other.kind(), when: "before a Hello" })
            }
            Message::Handshake(handshake) => self.handle_handshake(handshake),
            Message::Ping(Ping { nonce, digests }) => {
                let nonce = nonce.to_le_bytes();
                // Of what is not shared, or was left in the meantime, nothing is told.
                let shared = digests.iter().filter_map(|SpaceDigest { space, digest }| {
                    Some((self.shared_numbered(*space)?, *digest))
                });
                let digests = shared.collect();
                self.outputs.push_back(ControlOutput::Compare { nonce, digests });
                Ok(())
            }
            Message::Pong(Pong { nonce, differing }) => {
                let nonce = nonce.to_le_bytes();
                let differing = differing.iter().filter_map(|space| self.shared_numbered(*space));
                let differing = differing.collect();
                self.outputs.push_back(ControlOutput::Pong { nonce, differing });
                Ok(())
            }
            Message::Peers(Peers { space, peers }) => {
                // Of a space that we have left meanwhile, they are of no use.
                if let Some(space) = self.shared_numbered(space) {
                    self.outputs.push_back(ControlOutput::Peers(space, peers));
                }
                Ok(())
            }
            other => Err(Fault::Unexpected { kind: other.kind(), when: "on the control stream" }),
        }
    }

    /// What is to be done next.
    pub fn poll_output(&mut self) -> Option<ControlOutput> {
        self.outputs.pop_front()
    }

    fn shared_numbered(&self, number: u32) -> Option<SpaceId> {
        let space = self.ours.values().find(|space| space.number == number)?;
        self.shared.contains_key(&space.id).then_some(space.id)
    }

    fn handle_hello(&mut self, now: Time, hello: Hello) -> Result<(), Fault> {
        if hello.version_min > VERSION {
            return Err(Fault::Version { min: hello.version_min, max: hello.version_max });
        }
        if self.tags.is_none() {
            let (theirs, ours) = (hello.clock.as_micros() as i64, now.as_micros() as i64);
            self.outputs.push_back(ControlOutput::Met {
                agent: hello.agent,
                max_wants: MAX_WANTS.min(hello.max_wants as usize),
                clock_ahead: theirs.wrapping_sub(ours),
                seen_at: hello.seen_at,
            });
        }
        self.tags = Some(hello.tags.into_iter().collect());
        self.meet();
        Ok(())
    }

    fn handle_handshake(&mut self, handshake: Handshake) -> Result<(), Fault> {
        if self.tags.as_ref().is_none_or(|tags| !tags.contains(&handshake.tag)) {
            return Err(Fault::Unproven);
        }
        // A space that we left while the handshake was on its way: nothing to do.
        let Some(id) = self.proven.get(&handshake.tag) else { return Ok(()) };
        let peer = PeerSpace {
            number: handshake.space,
            store: handshake.store,
            target: handshake.target,
            query: handshake.query,
            count: handshake.count,
            bytes: handshake.bytes,
            full: handshake.full,
        };
        self.outputs.push_back(ControlOutput::Shared(*id, peer.clone()));
        self.shared.insert(*id, peer);
        Ok(())
    }

    /// Brings what the peer knows in line: handshakes for what is shared and new or changed, and a
    /// word to our own side about spaces that are no longer shared.
    fn meet(&mut self) {
        let Some(tags) = &self.tags else { return };
        let theirs = self.ours.keys().map(|id| (self.binding.their_tag(id), *id));
        self.proven = theirs.filter(|(tag, _)| tags.contains(tag)).collect();
        let proven: BTreeSet<SpaceId> = self.proven.values().copied().collect();
        self.sent.retain(|id, _| proven.contains(id));
        let left: Vec<SpaceId> =
            self.shared.keys().filter(|id| !proven.contains(id)).copied().collect();
        for id in left {
            self.shared.remove(&id);
            self.outputs.push_back(ControlOutput::Left(id));
        }
        for id in proven {
            let space = &self.ours[&id];
            if self.sent.get(&id) == Some(space) {
                continue;
            }
            let space = space.clone();
            self.send(Handshake {
                tag: self.binding.our_tag(&id),
                space: space.number,
                store: space.store.clone(),
                target: space.target.clone(),
                query: space.query.clone(),
                count: space.count,
                bytes: space.bytes,
                full: space.full,
            });
            self.sent.insert(id, space);
        }
    }

    fn send_hello(&mut self, now: Time) {
        let mut tags: Vec<Tag> = self.ours.keys().map(|id| self.binding.our_tag(id)).collect();
        let padded = tags.len().max(1).next_multiple_of(TAG_PADDING).min(MAX_SPACES);
        let padding = (tags.len()..padded).map(|i| self.binding.padding(&self.padding, i));
        tags.extend(padding.collect::<Vec<_>>());
        // In an order that says nothing of which are real.
        tags.sort_unstable();
        self.send(Hello {
            version_min: VERSION,
            version_max: VERSION,
            capabilities: 0,
            max_wants: MAX_WANTS as u32,
            clock: now,
            agent: self.agent.clone(),
            tags,
            seen_at: self.peer_at,
        });
    }

    fn send(&mut self, message: impl Into<Message>) {
        self.outputs.push_back(ControlOutput::Send(message.into()));
    }
}
