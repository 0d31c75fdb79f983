//! How what is written down looks: ids, keys and arcs as people write them, bytes in base64.

use data_encoding::BASE64;
use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error};

use crate::{
    aspect::AspectKey,
    id::{AspectHash, NodeId},
    ring::ArcSet,
    swarm::{Copies, SignedRecord},
    wire::{Header, Message},
};

macro_rules! as_text {
    ($($type:ty),*) => {
        $(
            impl Serialize for $type {
                fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
                    to.collect_str(self)
                }
            }

            impl<'de> Deserialize<'de> for $type {
                fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
                    String::deserialize(from)?.parse().map_err(Error::custom)
                }
            }
        )*
    };
}

as_text!(NodeId, ArcSet);

/// `location/hash`.
impl Serialize for AspectKey {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for AspectKey {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let text = String::deserialize(from)?;
        let (location, hash) =
            text.split_once('/').ok_or_else(|| D::Error::custom("no key of an aspect"))?;
        let location = location.parse().map_err(D::Error::custom)?;
        let hash: AspectHash = hash.parse().map_err(D::Error::custom)?;
        Ok(Self { location, hash })
    }
}

impl Serialize for Copies {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        (self.min(), self.target()).serialize(to)
    }
}

impl<'de> Deserialize<'de> for Copies {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let (min, target) = Deserialize::deserialize(from)?;
        Self::new(min, target).map_err(D::Error::custom)
    }
}

fn bytes<'de, D: Deserializer<'de>>(from: D) -> Result<Vec<u8>, D::Error> {
    BASE64.decode(String::deserialize(from)?.as_bytes()).map_err(D::Error::custom)
}

/// The signature, and then what is signed.
impl Serialize for SignedRecord {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        BASE64.encode(&[self.signature(), &self.encoding()[..]].concat()).serialize(to)
    }
}

impl<'de> Deserialize<'de> for SignedRecord {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let bytes = bytes(from)?;
        let (signature, encoding) =
            bytes.split_first_chunk().ok_or_else(|| D::Error::custom("no signed record"))?;
        Ok(Self::new(encoding.to_vec().into(), *signature))
    }
}

/// As its frame.
impl Serialize for Message {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        BASE64.encode(&self.encode()).serialize(to)
    }
}

impl<'de> Deserialize<'de> for Message {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let bytes = bytes(from)?;
        let (header, body) =
            bytes.split_first_chunk().ok_or_else(|| D::Error::custom("no frame"))?;
        let header = Header::parse(*header).map_err(D::Error::custom)?;
        Message::decode(header, body.to_vec().into()).map_err(D::Error::custom)
    }
}
