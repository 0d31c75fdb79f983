//! The binary form of what is sent in bulk. Integers are little-endian.
//!
//! | what | bytes |
//! |---|---|
//! | a new aspect | entry 32, kind 4, 1 if signed and else 0, length of the data 4, data |
//! | the name of an object | address 32, kind 4 |
//! | an aspect | its length 4, its canonical encoding |
//! | no aspect | 0 in 4 bytes |
//! | a piece of an archive | its length 4, which is neither 0 nor 2³² − 1, and its bytes |
//! | the end of an archive | 0 in 4 bytes, a JSON [`Exported`] |
//! | a failure, which ends an answer | 2³² − 1 in 4 bytes, a JSON [`Error`] |
//!
//! A body is any number of them, one after the other. An archive that is sent to the daemon is sent as
//! it is.

use arcwise::{Aspect, EntryAddress};
use bytes::{Buf, BufMut, Bytes, BytesMut};

use super::{Error, Exported};
use crate::files::{NewAspect, ObjectName};

/// In the place of a length.
const FAILURE: u32 = u32::MAX;

/// Bytes before those of a piece.
const PIECE_HEAD: usize = 4;

/// Bytes that are not of this form.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the bytes are not of the form that was expected")]
pub(crate) struct Malformed;

pub(crate) fn encode_new(aspects: &[NewAspect]) -> Bytes {
    let size = aspects.iter().map(|new| 32 + 4 + 1 + 4 + new.data.len()).sum();
    let mut out = BytesMut::with_capacity(size);
    for NewAspect { entry, kind, data, signed } in aspects {
        out.put_slice(entry.as_bytes());
        out.put_u32_le(*kind);
        out.put_u8(u8::from(*signed));
        out.put_u32_le(data.len() as u32);
        out.put_slice(data);
    }
    out.freeze()
}

pub(crate) fn decode_new(mut body: Bytes) -> Result<Vec<NewAspect>, Malformed> {
    let mut aspects = Vec::new();
    while body.has_remaining() {
        let ObjectName { address: entry, kind } = name(&mut body)?;
        let signed = match body.try_get_u8().map_err(|_| Malformed)? {
            0 => false,
            1 => true,
            _ => return Err(Malformed),
        };
        let length = body.try_get_u32_le().map_err(|_| Malformed)?;
        let data = split_to(&mut body, length)?;
        aspects.push(NewAspect { entry, kind, data, signed });
    }
    Ok(aspects)
}

pub(crate) fn encode_names(names: &[ObjectName]) -> Bytes {
    let mut out = BytesMut::with_capacity(names.len() * (32 + 4));
    for ObjectName { address, kind } in names {
        out.put_slice(address.as_bytes());
        out.put_u32_le(*kind);
    }
    out.freeze()
}

pub(crate) fn decode_names(mut body: Bytes) -> Result<Vec<ObjectName>, Malformed> {
    let mut names = Vec::with_capacity(body.len() / (32 + 4));
    while body.has_remaining() {
        names.push(name(&mut body)?);
    }
    Ok(names)
}

pub(crate) fn encode_aspects<'a>(aspects: impl IntoIterator<Item = Option<&'a Aspect>>) -> Bytes {
    let mut out = BytesMut::new();
    for aspect in aspects {
        let encoding = aspect.map(|aspect| &aspect.encoding()[..]).unwrap_or_default();
        out.put_u32_le(encoding.len() as u32);
        out.put_slice(encoding);
    }
    out.freeze()
}

pub(crate) fn encode_failure(error: &Error) -> Bytes {
    let mut out = BytesMut::new();
    out.put_u32_le(FAILURE);
    out.put_slice(serde_json::json!(error).to_string().as_bytes());
    out.freeze()
}

/// The aspects of an answer, or why it is not whole.
pub(crate) fn decode_aspects(
    mut body: Bytes,
) -> Result<Result<Vec<Option<Aspect>>, Error>, Malformed> {
    let mut aspects = Vec::new();
    while body.has_remaining() {
        match body.try_get_u32_le().map_err(|_| Malformed)? {
            0 => aspects.push(None),
            FAILURE => return serde_json::from_slice(&body).map(Err).map_err(|_| Malformed),
            length => {
                let encoding = split_to(&mut body, length)?;
                aspects.push(Some(Aspect::decode(encoding).map_err(|_| Malformed)?));
            }
        }
    }
    Ok(Ok(aspects))
}

/// A piece of an archive with room for `size` bytes, to be filled from its end.
pub(crate) fn new_piece(size: usize) -> BytesMut {
    let mut piece = BytesMut::with_capacity(PIECE_HEAD + size);
    piece.put_u32_le(0);
    piece
}

/// The piece with what it was filled with; `None` where that is nothing.
pub(crate) fn encode_piece(mut piece: BytesMut) -> Option<Bytes> {
    let length = piece.len().checked_sub(PIECE_HEAD).filter(|length| *length > 0)? as u32;
    piece[..PIECE_HEAD].copy_from_slice(&length.to_le_bytes());
    Some(piece.freeze())
}

pub(crate) fn encode_exported(exported: &Exported) -> Bytes {
    let mut out = BytesMut::new();
    out.put_u32_le(0);
    out.put_slice(serde_json::json!(exported).to_string().as_bytes());
    out.freeze()
}

/// What comes next in the answer to an export.
#[derive(Debug)]
pub(crate) enum Piece {
    /// Of the archive.
    Bytes(Bytes),
    /// No more. What follows, up to the end of the answer, is why.
    End { failed: bool },
}

/// Takes what comes next, once it is there.
pub(crate) fn decode_piece(buffer: &mut BytesMut) -> Option<Piece> {
    let length = u32::from_le_bytes(*buffer.first_chunk::<PIECE_HEAD>()?);
    if matches!(length, 0 | FAILURE) {
        buffer.advance(PIECE_HEAD);
        return Some(Piece::End { failed: length == FAILURE });
    }
    let end = PIECE_HEAD + length as usize;
    (buffer.len() >= end).then(|| {
        buffer.advance(PIECE_HEAD);
        Piece::Bytes(buffer.split_to(length as usize).freeze())
    })
}

fn name(body: &mut Bytes) -> Result<ObjectName, Malformed> {
    let mut address = [0; 32];
    body.try_copy_to_slice(&mut address).map_err(|_| Malformed)?;
    let kind = body.try_get_u32_le().map_err(|_| Malformed)?;
    Ok(ObjectName { address: EntryAddress(address), kind })
}

fn split_to(body: &mut Bytes, length: u32) -> Result<Bytes, Malformed> {
    match length as usize {
        length if length <= body.len() => Ok(body.split_to(length)),
        _ => Err(Malformed),
    }
}

#[cfg(test)]
mod tests {
    use arcwise::Time;
    use proptest::prelude::*;

    use super::*;
    use crate::api::Code;

    fn any_name() -> impl Strategy<Value = ObjectName> {
        (any::<[u8; 32]>(), any::<u32>())
            .prop_map(|(address, kind)| ObjectName { address: EntryAddress(address), kind })
    }

    fn any_new() -> impl Strategy<Value = NewAspect> {
        (any_name(), any::<bool>(), prop::collection::vec(any::<u8>(), 0..100)).prop_map(
            |(ObjectName { address: entry, kind }, signed, data)| NewAspect {
                entry,
                kind,
                data: data.into(),
                signed,
            },
        )
    }

    proptest! {
        #[test]
        fn what_is_sent_arrives(
            names in prop::collection::vec(any_name(), 0..5),
            new in prop::collection::vec(any_new(), 0..5),
        ) {
            let aspects: Vec<Option<Aspect>> = new.iter().map(|new| {
                new.signed.then(|| Aspect::new(new.entry, new.kind, Time::ZERO, &new.data).unwrap())
            }).collect();
            let encoded = encode_aspects(aspects.iter().map(Option::as_ref));
            prop_assert_eq!(decode_aspects(encoded).unwrap().unwrap(), aspects);
            prop_assert_eq!(decode_names(encode_names(&names)).unwrap(), names);
            prop_assert_eq!(decode_new(encode_new(&new)).unwrap(), new);
        }

        #[test]
        fn any_bytes_do_no_harm(body in prop::collection::vec(any::<u8>(), 0..200)) {
            let body = Bytes::from(body);
            let _ = (decode_aspects(body.clone()), decode_names(body.clone()), decode_new(body));
        }
    }

    #[test]
    fn an_archive_comes_in_pieces() {
        let mut piece = new_piece(3);
        piece.put_slice(b"abc");
        assert_eq!(encode_piece(new_piece(3)), None);
        let exported = Exported {
            name: "x".to_owned(),
            fingerprint: "0123456789".to_owned(),
            aspects: 1,
            bytes: 2,
        };
        let sent = [encode_piece(piece).unwrap(), encode_exported(&exported)].concat();
        let (mut buffer, mut got) = (BytesMut::new(), Vec::new());
        for byte in sent {
            buffer.put_u8(byte);
            if got.len() < 2 {
                got.extend(decode_piece(&mut buffer));
            }
        }
        assert!(matches!(&got[0], Piece::Bytes(bytes) if bytes == "abc"), "{got:?}");
        assert!(matches!(got[1], Piece::End { failed: false }), "{got:?}");
        assert_eq!(serde_json::from_slice::<Exported>(&buffer).unwrap(), exported);

        let mut buffer = BytesMut::from(&encode_failure(&Error::new(Code::Store, "broken"))[..]);
        assert!(matches!(decode_piece(&mut buffer), Some(Piece::End { failed: true })));
    }

    #[test]
    fn a_failure_in_the_middle_is_told() {
        let aspect = Aspect::new(EntryAddress([1; 32]), 1, Time::ZERO, b"x").unwrap();
        let mut body = BytesMut::from(&encode_aspects([Some(&aspect), None])[..]);
        body.extend(encode_failure(&Error::new(Code::Store, "broken")));
        let failure = decode_aspects(body.freeze()).unwrap().unwrap_err();
        assert_eq!((failure.code, failure.message.as_str()), (Code::Store, "broken"));
    }
}
