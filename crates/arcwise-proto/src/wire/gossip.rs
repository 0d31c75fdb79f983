//! The messages of a gossip session and of the broadcast stream.

use bytes::Bytes;

use super::{Message, Wire, WireError, field, parts, pb};
use crate::{
    aspect::{Aspect, AspectKey},
    id::AspectHash,
    reconcile::exchange::Packet,
    ring::{ArcSet, Location},
    session::{Flow, Position},
    time::Time,
};

/// What a message of a session is made of: a list in full, or what takes its place where the sets
/// are compared at the cost of their difference.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Body<T> {
    /// Hashes.
    List(T),
    /// A packet of [`reconcile::exchange`](crate::reconcile::exchange).
    Packet(Packet),
}

fn packet(bytes: &[u8]) -> Result<Packet, WireError> {
    Packet::decode(bytes).ok_or(field("packet", "is not well-formed"))
}

fn flow(raw: i32) -> Result<Flow, WireError> {
    match pb::Flow::try_from(raw) {
        Ok(pb::Flow::Both) => Ok(Flow::Both),
        Ok(pb::Flow::ToAlice) => Ok(Flow::ToAlice),
        Ok(pb::Flow::ToBob) => Ok(Flow::ToBob),
        Err(_) => Err(field("flow", "is none that there is")),
    }
}

fn raw_flow(flow: Flow) -> pb::Flow {
    match flow {
        Flow::Both => pb::Flow::Both,
        Flow::ToAlice => pb::Flow::ToAlice,
        Flow::ToBob => pb::Flow::ToBob,
    }
}

fn raw_packet(packet: &Packet) -> Bytes {
    packet.encode().into()
}

/// `msgGspArcRequest`: Alice says what the session is about (in its first frame) and tells of what
/// she holds: a page at a time, or in packets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ArcRequest {
    /// In the first frame of a session, and in no other.
    pub open: Option<Open>,
    /// A page of what Alice holds, or a packet.
    pub body: Body<Page>,
}

/// The constraints of a session.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Open {
    /// Bob's number for the space.
    pub space: u32,
    /// The part of the ring to compare.
    pub arcs: ArcSet,
    /// Compare only aspects published at this time or later.
    pub published_since: Option<Time>,
    /// Bob lists only what he stored after this point of his own history.
    pub stored_after: Option<Position>,
    /// Where Alice's history stood before she began to list. `None` in a session of packets.
    pub position: Option<Position>,
    /// Who takes what it lacks.
    pub flow: Flow,
}

impl Open {
    fn is_constrained(&self) -> bool {
        self.published_since.is_some() || self.stored_after.is_some() || self.position.is_some()
    }
}

/// All that its sender holds, within the constraints, from where the page before ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Page {
    /// Strictly ascending, none above `through`.
    pub keys: Vec<AspectKey>,
    /// How far the page reaches, inclusive, below [`AspectKey::MAX`]. `None`: to the end, it is the
    /// last page.
    pub through: Option<AspectKey>,
}

impl Wire for ArcRequest {
    type Raw = pb::GspArcRequest;

    fn parse(raw: pb::GspArcRequest) -> Result<Self, WireError> {
        let open = raw.open.map(|open| {
            Ok::<_, WireError>(Open {
                space: open.space,
                arcs: parts::arcs("arcs", open.arcs)?,
                published_since: open.published_since.map(Time::from_micros),
                stored_after: open.stored_after.map(parts::position),
                position: open.position.map(parts::position),
                flow: flow(open.flow)?,
            })
        });
        let open = open.transpose()?;
        if let Some(bytes) = raw.packet {
            if raw.page.is_some() {
                return Err(field("page", "stands beside a packet"));
            }
            if open.as_ref().is_some_and(Open::is_constrained) {
                return Err(field("packet", "stands beside a constraint that only lists can keep"));
            }
            return Ok(Self { open, body: Body::Packet(packet(&bytes)?) });
        }
        let page = raw.page.ok_or(field("page", "is missing"))?;
        if open.as_ref().is_some_and(|open| open.position.is_none()) {
            return Err(field("position", "is missing"));
        }
        let through = page.through.map(|key| {
            let hash = AspectHash(parts::array("hash", &key.hash)?);
            Ok::<_, WireError>(AspectKey { location: Location(key.location), hash })
        });
        let through = through.transpose()?;
        if through.is_none() != page.last {
            return Err(field("through", "must stand in every page but the last"));
        }
        let keys = parts::keys("groups", page.groups)?;
        if through == Some(AspectKey::MAX) {
            return Err(field("through", "is the end of the ring, so that the page is the last"));
        }
        if let (Some(through), Some(last)) = (through, keys.last())
            && *last > through
        {
            return Err(field("through", "lies before the last hash of its page"));
        }
        Ok(Self { open, body: Body::List(Page { keys, through }) })
    }

    fn raw(&self) -> pb::GspArcRequest {
        let (page, packet) = match &self.body {
            Body::List(page) => (Some(page), None),
            Body::Packet(packet) => (None, Some(raw_packet(packet))),
        };
        pb::GspArcRequest {
            open: self.open.as_ref().map(|open| pb::Open {
                space: open.space,
                arcs: parts::raw_arcs(&open.arcs),
                published_since: open.published_since.map(Time::as_micros),
                stored_after: open.stored_after.map(parts::raw_position),
                position: open.position.map(parts::raw_position),
                flow: raw_flow(open.flow).into(),
            }),
            page: page.map(|page| pb::Page {
                groups: parts::raw_keys(&page.keys),
                through: page.through.map(|key| pb::Key {
                    location: key.location.0,
                    hash: Bytes::copy_from_slice(key.hash.as_bytes()),
                }),
                last: page.through.is_none(),
            }),
            packet,
        }
    }
}

/// `msgGspArcResponse`: what Bob holds within the constraints and Alice did not tell of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ArcResponse {
    /// A list, or a packet.
    pub body: Body<Listed>,
}

/// A page of what Bob holds within the constraints and Alice did not list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listed {
    /// Strictly ascending.
    pub keys: Vec<AspectKey>,
    /// Whether it is the last one.
    pub last: bool,
    /// In the last one only: where Bob's history stood before he began to list. `None` where he does
    /// not ask for all that Alice lists, because he takes only a part of the session's arcs.
    pub position: Option<Position>,
}

impl From<Listed> for Message {
    fn from(listed: Listed) -> Message {
        ArcResponse { body: Body::List(listed) }.into()
    }
}

impl Wire for ArcResponse {
    type Raw = pb::GspArcResponse;

    fn parse(raw: pb::GspArcResponse) -> Result<Self, WireError> {
        if let Some(bytes) = raw.packet {
            if !raw.groups.is_empty() || raw.last || raw.position.is_some() {
                return Err(field("packet", "stands beside a list"));
            }
            return Ok(Self { body: Body::Packet(packet(&bytes)?) });
        }
        if raw.position.is_some() && !raw.last {
            return Err(field("position", "stands in a frame that is not the last"));
        }
        Ok(Self {
            body: Body::List(Listed {
                keys: parts::keys("groups", raw.groups)?,
                last: raw.last,
                position: raw.position.map(parts::position),
            }),
        })
    }

    fn raw(&self) -> pb::GspArcResponse {
        match &self.body {
            Body::List(list) => pb::GspArcResponse {
                groups: parts::raw_keys(&list.keys),
                last: list.last,
                position: list.position.map(parts::raw_position),
                packet: None,
            },
            Body::Packet(packet) => {
                let packet = Some(raw_packet(packet));
                pb::GspArcResponse { packet, ..pb::GspArcResponse::default() }
            }
        }
    }
}

/// `msgGspAspectDataRequest`: which aspects of one list frame the sender wants, or a packet that says
/// what Alice wants. Every list frame is answered by exactly one of these, in order; none wanted is an
/// answer too.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AspectDataRequest {
    /// Keys, strictly ascending, or a packet.
    pub body: Body<Vec<AspectKey>>,
}

impl AspectDataRequest {
    /// For these keys, strictly ascending.
    pub fn keys(keys: Vec<AspectKey>) -> Self {
        Self { body: Body::List(keys) }
    }
}

impl Wire for AspectDataRequest {
    type Raw = pb::GspAspectDataRequest;

    fn parse(raw: pb::GspAspectDataRequest) -> Result<Self, WireError> {
        if let Some(bytes) = raw.packet {
            if !raw.groups.is_empty() {
                return Err(field("packet", "stands beside a list"));
            }
            return Ok(Self { body: Body::Packet(packet(&bytes)?) });
        }
        Ok(Self { body: Body::List(parts::keys("groups", raw.groups)?) })
    }

    fn raw(&self) -> pb::GspAspectDataRequest {
        match &self.body {
            Body::List(keys) => {
                pb::GspAspectDataRequest { groups: parts::raw_keys(keys), packet: None }
            }
            Body::Packet(packet) => {
                pb::GspAspectDataRequest { groups: Vec::new(), packet: Some(raw_packet(packet)) }
            }
        }
    }
}

/// `msgGspAspectDataResponse`: aspects that were asked for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AspectDataResponse {
    /// In any order. Their hashes were computed when this was parsed.
    pub aspects: Vec<Aspect>,
    /// Asked for, but no longer held; strictly ascending.
    pub gone: Vec<AspectKey>,
}

impl Wire for AspectDataResponse {
    type Raw = pb::GspAspectDataResponse;

    fn parse(raw: pb::GspAspectDataResponse) -> Result<Self, WireError> {
        Ok(Self { aspects: parts::aspects(raw.aspects)?, gone: parts::keys("gone", raw.gone)? })
    }

    fn raw(&self) -> pb::GspAspectDataResponse {
        pb::GspAspectDataResponse {
            aspects: parts::raw_aspects(&self.aspects),
            gone: parts::raw_keys(&self.gone),
        }
    }
}

/// `msgGspAspectBroadcast`: new aspects, pushed at once.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AspectBroadcast {
    /// The receiver's number for the space.
    pub space: u32,
    /// In the order they were authored. Their hashes were computed when this was parsed.
    pub aspects: Vec<Aspect>,
}

impl Wire for AspectBroadcast {
    type Raw = pb::GspAspectBroadcast;

    fn parse(raw: pb::GspAspectBroadcast) -> Result<Self, WireError> {
        Ok(Self { space: raw.space, aspects: parts::aspects(raw.aspects)? })
    }

    fn raw(&self) -> pb::GspAspectBroadcast {
        pb::GspAspectBroadcast { space: self.space, aspects: parts::raw_aspects(&self.aspects) }
    }
}
