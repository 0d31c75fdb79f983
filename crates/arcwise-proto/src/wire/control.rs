//! The messages of the control stream.

use std::{collections::BTreeSet, net::SocketAddr};

use bytes::Bytes;

use super::{
    Wire, WireError, field, parts, pb,
    peers::{address, raw_address},
};
use crate::{
    limits::{MAX_SPACES, MAX_TEXT, PAGE_KEYS},
    reconcile::fingerprint::Check,
    ring::ArcSet,
    session::Digest,
    swarm::Address,
    time::Time,
};

/// Bytes of a [`Tag`].
pub const TAG_LEN: usize = 16;

/// Proves, on one connection and for one side of it, that a space id is known: see
/// [`crate::session::Binding`].
pub type Tag = [u8; TAG_LEN];

/// The first message on a connection, from both sides: versions, limits, clock, and a proof for each
/// space. Sent again when the sender enters or leaves a space.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hello {
    /// Least minor version spoken.
    pub version_min: u32,
    /// Greatest minor version spoken, at least `version_min`.
    pub version_max: u32,
    /// Optional abilities; no bit has a meaning yet.
    pub capabilities: u64,
    /// How many aspects the sender may be asked for before it has answered; at least
    /// [`PAGE_KEYS`].
    pub max_wants: u32,
    /// The sender's clock.
    pub clock: Time,
    /// Name and version of the software; at most [`MAX_TEXT`] bytes, longer text is cut.
    pub agent: String,
    /// One for each space, and some that are random.
    pub tags: Vec<Tag>,
    /// From where the sender sees the receiver's packets come; `None` where it does not know.
    pub seen_at: Option<SocketAddr>,
}

impl Wire for Hello {
    type Raw = pb::Hello;

    fn parse(raw: pb::Hello) -> Result<Self, WireError> {
        if raw.version_min > raw.version_max {
            return Err(field("version_min", "is above version_max"));
        }
        if (raw.max_wants as usize) < PAGE_KEYS {
            return Err(field(
                "max_wants",
                "is below 1024, so that not even one list could be answered",
            ));
        }
        if raw.agent.len() > MAX_TEXT {
            return Err(field("agent", "is longer than 256 bytes"));
        }
        if raw.tags.len() > MAX_SPACES {
            return Err(field("tags", "has more than 1024 tags"));
        }
        Ok(Self {
            version_min: raw.version_min,
            version_max: raw.version_max,
            capabilities: raw.capabilities,
            max_wants: raw.max_wants,
            clock: Time::from_micros(raw.clock),
            agent: parts::printable(&raw.agent),
            tags: raw.tags.iter().map(|t| parts::array("tags", t)).collect::<Result<_, _>>()?,
            seen_at: raw.seen_at.map(seen_at).transpose()?,
        })
    }

    fn raw(&self) -> pb::Hello {
        pb::Hello {
            version_min: self.version_min,
            version_max: self.version_max,
            capabilities: self.capabilities,
            max_wants: self.max_wants,
            clock: self.clock.as_micros(),
            agent: parts::cut(&self.agent),
            tags: self.tags.iter().map(|tag| Bytes::copy_from_slice(tag)).collect(),
            seen_at: self.seen_at.map(|at| raw_address(&Address::Ip(at))),
        }
    }
}

fn seen_at(raw: pb::Address) -> Result<SocketAddr, WireError> {
    match address(raw)? {
        Address::Ip(at) => Ok(at),
        Address::Relay(_) => Err(field("seen_at", "is a relay, and no address")),
    }
}

/// `msgHandshake`: what the sender holds in one space. Sent again whenever that changes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Handshake {
    /// The sender's tag of the space.
    pub tag: Tag,
    /// The sender's number for the space on this connection, above 0.
    pub space: u32,
    /// Everything in here is held, now.
    pub store: ArcSet,
    /// What the sender fills towards.
    pub target: ArcSet,
    /// For every location in here the sender can name a node that stores it.
    pub query: ArcSet,
    /// How many aspects are held.
    pub count: u64,
    /// The bytes of their encodings.
    pub bytes: u64,
    /// Whether the sender takes nothing now, for want of room.
    pub full: bool,
}

impl Wire for Handshake {
    type Raw = pb::Handshake;

    fn parse(raw: pb::Handshake) -> Result<Self, WireError> {
        if raw.space == 0 {
            return Err(field("space", "is zero"));
        }
        let this = Self {
            tag: parts::array("tag", &raw.tag)?,
            space: raw.space,
            store: parts::arcs("store", raw.store)?,
            target: parts::arcs("target", raw.target)?,
            query: parts::arcs("query", raw.query)?,
            count: raw.count,
            bytes: raw.bytes,
            full: raw.full,
        };
        if !this.query.covers(&this.store) {
            return Err(field("query", "does not cover the store arcs"));
        }
        Ok(this)
    }

    fn raw(&self) -> pb::Handshake {
        pb::Handshake {
            tag: Bytes::copy_from_slice(&self.tag),
            space: self.space,
            store: parts::raw_arcs(&self.store),
            target: parts::raw_arcs(&self.target),
            query: parts::raw_arcs(&self.query),
            count: self.count,
            bytes: self.bytes,
            full: self.full,
        }
    }
}

/// `msgPing`: asks for a [`Pong`] with the same nonce, and tells what the sender holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ping {
    /// Random, where there are digests.
    pub nonce: u64,
    /// What the sender holds where both take, by space; none twice.
    pub digests: Vec<SpaceDigest>,
}

/// What a node holds of one space, in short.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SpaceDigest {
    /// The receiver's number for the space.
    pub space: u32,
    /// Made with the ping's nonce, little-endian.
    pub digest: Digest,
}

impl Wire for Ping {
    type Raw = pb::Ping;

    fn parse(raw: pb::Ping) -> Result<Self, WireError> {
        if raw.digests.len() > MAX_SPACES {
            return Err(field("digests", "has more than 1024"));
        }
        let digests = raw.digests.into_iter().map(|raw| {
            let check = Check(parts::array("check", &raw.check)?);
            let digest = Digest { count: raw.count, check };
            Ok(SpaceDigest { space: raw.space, digest })
        });
        let digests = digests.collect::<Result<Vec<_>, WireError>>()?;
        let spaces: BTreeSet<u32> = digests.iter().map(|digest| digest.space).collect();
        if spaces.len() < digests.len() {
            return Err(field("digests", "has a space twice"));
        }
        Ok(Self { nonce: raw.nonce, digests })
    }

    fn raw(&self) -> pb::Ping {
        let digests = self.digests.iter().map(|SpaceDigest { space, digest }| pb::SpaceDigest {
            space: *space,
            count: digest.count,
            check: Bytes::copy_from_slice(&digest.check.0),
        });
        pb::Ping { nonce: self.nonce, digests: digests.collect() }
    }
}

/// `msgPong`: answers a [`Ping`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pong {
    /// The ping's.
    pub nonce: u64,
    /// Of the spaces in the ping, the receiver's numbers of those in which the sender holds something
    /// else.
    pub differing: Vec<u32>,
}

impl Wire for Pong {
    type Raw = pb::Pong;

    fn parse(raw: pb::Pong) -> Result<Self, WireError> {
        if raw.differing.len() > MAX_SPACES {
            return Err(field("differing", "has more than 1024"));
        }
        Ok(Self { nonce: raw.nonce, differing: raw.differing })
    }

    fn raw(&self) -> pb::Pong {
        pb::Pong { nonce: self.nonce, differing: self.differing.clone() }
    }
}
