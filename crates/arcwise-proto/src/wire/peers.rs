//! Who is in a space: peer records, and the messages that carry them.

use std::{net::SocketAddr, time::Duration};

use bytes::Bytes;
use prost::Message as _;
use serde::{Deserialize, Serialize};

use super::{Kind, Wire, WireError, field, parts, pb};
use crate::{
    id::NodeId,
    limits::{MAX_ADDRESSES, MAX_PEERS, MAX_RECORD, MAX_RECORD_ARCS, MAX_TEXT},
    ring::{ArcSet, Location},
    swarm::{Address, PeerRecord, SignedRecord},
    time::Time,
};

/// `Peers`: what the sender knows of peers in a space.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Peers {
    /// The receiver's number for the space; 0 in an answer.
    pub space: u32,
    /// At most [`MAX_PEERS`].
    pub peers: Vec<PeerInfo>,
}

/// What is passed on of one peer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PeerInfo {
    /// What it says of itself.
    pub record: SignedRecord,
    /// What the sender has seen of it.
    pub observed: Option<Observed>,
    /// The sender has not been able to reach it for longer than it may be away.
    pub away: bool,
}

/// What a node has seen of another one itself.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Observed {
    /// Of the time, the part in which it could be reached: 0 to 1000.
    pub availability: u16,
    /// `None` where it is not known. Whole milliseconds, at least one.
    pub round_trip: Option<Duration>,
    /// Kilobytes a second, above 0; `None` where it is not known.
    pub throughput: Option<u32>,
    /// How often it broke a rule or failed an audit, in the last days.
    pub faults: u32,
}

impl Wire for Peers {
    type Raw = pb::Peers;

    fn parse(raw: pb::Peers) -> Result<Self, WireError> {
        if raw.peers.len() > MAX_PEERS {
            return Err(field("peers", "has more than 32 records"));
        }
        let info = |raw: pb::PeerInfo| {
            if raw.record.len() > MAX_RECORD {
                return Err(field("record", "is longer than 1024 bytes"));
            }
            let signature = parts::array("signature", &raw.signature)?;
            let record = SignedRecord::new(raw.record, signature);
            let observed = raw.observed.map(observed).transpose()?;
            Ok(PeerInfo { record, observed, away: raw.away })
        };
        let peers = raw.peers.into_iter().map(info).collect::<Result<_, WireError>>()?;
        Ok(Self { space: raw.space, peers })
    }

    fn raw(&self) -> pb::Peers {
        let info = |info: &PeerInfo| pb::PeerInfo {
            record: info.record.encoding().clone(),
            signature: Bytes::copy_from_slice(info.record.signature()),
            observed: info.observed.as_ref().map(raw_observed),
            away: info.away,
        };
        pb::Peers { space: self.space, peers: self.peers.iter().map(info).collect() }
    }
}

fn observed(raw: pb::Observed) -> Result<Observed, WireError> {
    let availability = u16::try_from(raw.availability).ok().filter(|part| *part <= 1000);
    let round_trip = u64::from(raw.round_trip_ms);
    Ok(Observed {
        availability: availability.ok_or(field("availability", "is above 1000"))?,
        round_trip: (round_trip > 0).then(|| Duration::from_millis(round_trip)),
        throughput: (raw.throughput > 0).then_some(raw.throughput),
        faults: raw.faults,
    })
}

fn raw_observed(observed: &Observed) -> pb::Observed {
    let millis = |time: Duration| u32::try_from(time.as_millis()).unwrap_or(u32::MAX).max(1);
    pb::Observed {
        availability: u32::from(observed.availability).min(1000),
        round_trip_ms: observed.round_trip.map_or(0, millis),
        throughput: observed.throughput.unwrap_or(0),
        faults: observed.faults,
    }
}

/// The bytes of a record that its node signs.
pub(crate) fn encode_record(record: &PeerRecord) -> Bytes {
    let arcs = |set: &ArcSet| parts::raw_arcs(&set.longest(MAX_RECORD_ARCS));
    // What nobody would read is left out, or nobody would read the rest either.
    let addresses = record.addresses.iter().map(raw_address);
    let readable = addresses.filter(|raw| address(raw.clone()).is_ok());
    let mut raw = pb::PeerRecord {
        node: Bytes::copy_from_slice(record.node.as_bytes()),
        sequence: record.sequence,
        expires: record.expires.as_micros(),
        addresses: readable.take(MAX_ADDRESSES).collect(),
        store: arcs(&record.store),
        target: arcs(&record.target),
        count: record.count,
        bytes: record.bytes,
    };
    // Only names of relays can be so long.
    while raw.encoded_len() > MAX_RECORD && raw.addresses.pop().is_some() {}
    raw.encode_to_vec().into()
}

/// Reads the bytes of a record; whose they are is not checked here.
pub(crate) fn decode_record(bytes: &Bytes) -> Result<PeerRecord, WireError> {
    let protobuf = |error: prost::DecodeError| WireError::Protobuf {
        kind: Kind::Peers,
        detail: error.to_string(),
    };
    let raw = pb::PeerRecord::decode(bytes.clone()).map_err(protobuf)?;
    if raw.addresses.len() > MAX_ADDRESSES {
        return Err(field("addresses", "has more than 8"));
    }
    let arcs = |name, raw: Option<pb::ArcSet>| match &raw {
        Some(set) if set.arcs.len() > MAX_RECORD_ARCS => Err(field(name, "has more than 8 arcs")),
        _ => parts::arcs(name, raw),
    };
    Ok(PeerRecord {
        node: NodeId(parts::array("node", &raw.node)?),
        sequence: raw.sequence,
        expires: Time::from_micros(raw.expires),
        addresses: raw.addresses.into_iter().map(address).collect::<Result<_, _>>()?,
        store: arcs("store", raw.store)?,
        target: arcs("target", raw.target)?,
        count: raw.count,
        bytes: raw.bytes,
    })
}

pub(super) fn address(raw: pb::Address) -> Result<Address, WireError> {
    if !raw.relay.is_empty() {
        if raw.relay.len() > MAX_TEXT || raw.relay.chars().any(char::is_control) {
            return Err(field("relay", "is longer than 256 bytes, or has control characters"));
        }
        return Ok(Address::Relay(raw.relay));
    }
    let port = u16::try_from(raw.port).map_err(|_| field("port", "is above 65535"))?;
    let ip = match <[u8; 4]>::try_from(&*raw.ip) {
        Ok(ip) => ip.into(),
        Err(_) => parts::array::<16>("ip", &raw.ip)?.into(),
    };
    Ok(Address::Ip(SocketAddr::new(ip, port)))
}

pub(super) fn raw_address(address: &Address) -> pb::Address {
    match address {
        Address::Relay(url) => pb::Address { relay: url.clone(), ..pb::Address::default() },
        Address::Ip(address) => {
            let ip = match address.ip() {
                std::net::IpAddr::V4(ip) => Bytes::copy_from_slice(&ip.octets()),
                std::net::IpAddr::V6(ip) => Bytes::copy_from_slice(&ip.octets()),
            };
            pb::Address { ip, port: address.port().into(), relay: String::new() }
        }
    }
}

/// `FindPeers`: asks who is near a location, or holds it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FindPeers {
    /// The receiver's number for the space.
    pub space: u32,
    /// Where on the ring.
    pub location: Location,
}

impl Wire for FindPeers {
    type Raw = pb::FindPeers;

    fn parse(raw: pb::FindPeers) -> Result<Self, WireError> {
        Ok(Self { space: raw.space, location: Location(raw.location) })
    }

    fn raw(&self) -> pb::FindPeers {
        pb::FindPeers { space: self.space, location: self.location.0 }
    }
}
