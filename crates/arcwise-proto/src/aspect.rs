//! Aspects: immutable pieces of data about an entry, named by the hash of their canonical encoding.
//!
//! One encoding serves for the hash, the wire and the disk. All integers are little-endian:
//!
//! | bytes | field |
//! |---|---|
//! | 1 | form: 0 unsigned, 1 signed |
//! | 32 | entry address |
//! | 4 | kind, an application's own number |
//! | 8 | publish time, microseconds since the Unix epoch |
//! | 32 + 64 | author and signature, in the signed form only |
//! | 4 | length of the data |
//! | n | data, 0 to [`MAX_ASPECT_DATA`] bytes |
//!
//! * aspect hash = BLAKE3 `derive_key("arcwise 1 aspect hash", encoding)`;
//! * the signature is Ed25519 (RFC 8032, strict verification) over the 32 bytes of BLAKE3
//!   `derive_key("arcwise 1 aspect signature", space id ‖ author ‖ entry ‖ kind ‖ time ‖ length ‖ data)`:
//!   it holds in one space only, so nobody can replay an author's words in another.

use std::fmt;

use bytes::{BufMut, Bytes, BytesMut};
use ed25519_dalek::{Signature, Signer, SigningKey, VerifyingKey};

use crate::{
    id::{AspectHash, EntryAddress, SpaceId},
    limits::MAX_ASPECT_DATA,
    ring::Location,
    time::Time,
};

const HASH_CONTEXT: &str = "arcwise 1 aspect hash";
const SIGNATURE_CONTEXT: &str = "arcwise 1 aspect signature";

const ENTRY: usize = 1;
const KIND: usize = ENTRY + 32;
const PUBLISHED: usize = KIND + 4;
const AUTHOR: usize = PUBLISHED + 8;
const SIGNATURE: usize = AUTHOR + 32;
const UNSIGNED_HEAD: usize = AUTHOR;
const SIGNED_HEAD: usize = SIGNATURE + 64;

/// Names one aspect and says where on the ring it lives. Ordered as the store is: by location, then
/// by hash.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct AspectKey {
    /// The location of the aspect's entry.
    pub location: Location,
    /// The aspect's hash.
    pub hash: AspectHash,
}

impl AspectKey {
    /// The least key there is.
    pub const MIN: AspectKey = AspectKey { location: Location(0), hash: AspectHash([0; 32]) };
    /// The greatest key there is.
    pub const MAX: AspectKey =
        AspectKey { location: Location(u32::MAX), hash: AspectHash([0xff; 32]) };

    /// The key right after this one; `None` after [`AspectKey::MAX`].
    pub fn next(mut self) -> Option<AspectKey> {
        for byte in self.hash.0.iter_mut().rev() {
            let (sum, carry) = byte.overflowing_add(1);
            *byte = sum;
            if !carry {
                return Some(self);
            }
        }
        let location = Location(self.location.0.checked_add(1)?);
        Some(AspectKey { location, ..self })
    }
}

impl fmt::Display for AspectKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.location, self.hash)
    }
}

/// The secret half of an author's Ed25519 key.
#[derive(Clone)]
pub struct AuthorKey(SigningKey);

impl AuthorKey {
    /// A key from its 32 secret bytes, which must come from a good source of randomness.
    pub fn from_bytes(secret: &[u8; 32]) -> Self {
        Self(SigningKey::from_bytes(secret))
    }

    /// The public half, as it stands in aspects.
    pub fn author(&self) -> [u8; 32] {
        self.0.verifying_key().to_bytes()
    }

    /// Its signature of a message, which must begin with what tells messages of its kind from others.
    pub(crate) fn sign(&self, message: &[u8]) -> [u8; 64] {
        self.0.sign(message).to_bytes()
    }
}

/// Whether a signature of a message was made with the secret half of `key`.
pub(crate) fn is_signed_by(key: &[u8; 32], message: &[u8], signature: &[u8; 64]) -> bool {
    VerifyingKey::from_bytes(key)
        .is_ok_and(|key| key.verify_strict(message, &Signature::from_bytes(signature)).is_ok())
}

impl fmt::Debug for AuthorKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("AuthorKey(secret)")
    }
}

/// Why bytes are not an aspect, or an aspect is not to be believed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AspectError {
    /// More data than [`MAX_ASPECT_DATA`].
    #[error(
        "aspect data of {0} bytes is over the limit of {MAX_ASPECT_DATA} bytes; split it into several aspects"
    )]
    TooLarge(usize),
    /// The encoding ends early or goes on too long.
    #[error("aspect encoding is {got} bytes long, but its fields need {need}")]
    Length {
        /// Bytes there are.
        got: usize,
        /// Bytes the fields ask for.
        need: usize,
    },
    /// The first byte is neither 0 nor 1.
    #[error("unknown aspect form {0}: this version knows 0 (unsigned) and 1 (signed)")]
    Form(u8),
    /// The signature is not the author's over this aspect in this space.
    #[error("the signature of aspect {0} is not its author's in this space")]
    Signature(AspectHash),
}

/// One immutable piece of data about an entry. Holds its canonical encoding and the hash over it,
/// so the two always agree; cloning is cheap.
#[derive(Clone, PartialEq, Eq)]
pub struct Aspect {
    encoding: Bytes,
    hash: AspectHash,
}

impl Aspect {
    /// An aspect that nobody signs.
    ///
    /// # Errors
    /// [`AspectError::TooLarge`] for data over [`MAX_ASPECT_DATA`] bytes.
    pub fn new(
        entry: EntryAddress,
        kind: u32,
        published: Time,
        data: &[u8],
    ) -> Result<Self, AspectError> {
        Self::build(entry, kind, published, None, data)
    }

    /// An aspect signed by `key` for use in `space`.
    ///
    /// # Errors
    /// [`AspectError::TooLarge`] for data over [`MAX_ASPECT_DATA`] bytes.
    pub fn signed(
        key: &AuthorKey,
        space: &SpaceId,
        entry: EntryAddress,
        kind: u32,
        published: Time,
        data: &[u8],
    ) -> Result<Self, AspectError> {
        let author = key.author();
        let message = signed_message(space, &author, &entry, kind, published, data);
        let signature = key.sign(&message);
        Self::build(entry, kind, published, Some((author, signature)), data)
    }

    fn build(
        entry: EntryAddress,
        kind: u32,
        published: Time,
        author: Option<([u8; 32], [u8; 64])>,
        data: &[u8],
    ) -> Result<Self, AspectError> {
        if data.len() > MAX_ASPECT_DATA {
            return Err(AspectError::TooLarge(data.len()));
        }
        let mut out = BytesMut::with_capacity(SIGNED_HEAD + 4 + data.len());
        out.put_u8(u8::from(author.is_some()));
        out.put_slice(entry.as_bytes());
        out.put_u32_le(kind);
        out.put_u64_le(published.as_micros());
        if let Some((author, signature)) = author {
            out.put_slice(&author);
            out.put_slice(&signature);
        }
        out.put_u32_le(data.len() as u32);
        out.put_slice(data);
        let encoding = out.freeze();
        let hash = hash_of(&encoding);
        Ok(Self { encoding, hash })
    }

    /// Reads a canonical encoding and computes its hash. Does not check a signature: see
    /// [`Aspect::verify`].
    ///
    /// # Errors
    /// [`AspectError::Form`], [`AspectError::Length`], [`AspectError::TooLarge`].
    pub fn decode(encoding: Bytes) -> Result<Self, AspectError> {
        let head = match encoding.first() {
            None => return Err(AspectError::Length { got: 0, need: UNSIGNED_HEAD + 4 }),
            Some(0) => UNSIGNED_HEAD,
            Some(1) => SIGNED_HEAD,
            Some(&form) => return Err(AspectError::Form(form)),
        };
        let got = encoding.len();
        let Some(length) = encoding.get(head..head + 4) else {
            return Err(AspectError::Length { got, need: head + 4 });
        };
        let length = u32::from_le_bytes([length[0], length[1], length[2], length[3]]) as usize;
        if length > MAX_ASPECT_DATA {
            return Err(AspectError::TooLarge(length));
        }
        let need = head + 4 + length;
        if got != need {
            return Err(AspectError::Length { got, need });
        }
        let hash = hash_of(&encoding);
        Ok(Self { encoding, hash })
    }

    /// Checks the signature, where there is one. The hash needs no check: it was computed here.
    ///
    /// # Errors
    /// [`AspectError::Signature`] where the signature is not its author's in this space.
    pub fn verify(&self, space: &SpaceId) -> Result<(), AspectError> {
        let (Some(author), Some(signature)) = (self.author(), self.signature()) else {
            return Ok(());
        };
        let message = signed_message(
            space,
            &author,
            &self.entry(),
            self.kind(),
            self.published(),
            self.data_slice(),
        );
        match is_signed_by(&author, &message, &signature) {
            true => Ok(()),
            false => Err(AspectError::Signature(self.hash)),
        }
    }

    /// The hash that names this aspect.
    pub fn hash(&self) -> AspectHash {
        self.hash
    }

    /// The hash with the location it lives at.
    pub fn key(&self) -> AspectKey {
        AspectKey { location: self.location(), hash: self.hash }
    }

    /// Where on the ring this aspect lives: the location of its entry.
    pub fn location(&self) -> Location {
        Location::of_entry(&self.entry())
    }

    /// The entry this is about.
    pub fn entry(&self) -> EntryAddress {
        EntryAddress(self.fixed(ENTRY))
    }

    /// The application's own number for what the data is.
    pub fn kind(&self) -> u32 {
        u32::from_le_bytes(self.fixed(KIND))
    }

    /// When its author says it was published.
    pub fn published(&self) -> Time {
        Time::from_micros(u64::from_le_bytes(self.fixed(PUBLISHED)))
    }

    /// The author's Ed25519 public key, in the signed form.
    pub fn author(&self) -> Option<[u8; 32]> {
        self.is_signed().then(|| self.fixed(AUTHOR))
    }

    /// The author's signature, in the signed form.
    pub fn signature(&self) -> Option<[u8; 64]> {
        self.is_signed().then(|| self.fixed(SIGNATURE))
    }

    /// The data, sharing the encoding's memory.
    pub fn data(&self) -> Bytes {
        self.encoding.slice(self.head() + 4..)
    }

    /// The canonical encoding: what is hashed, sent and stored.
    pub fn encoding(&self) -> &Bytes {
        &self.encoding
    }

    fn data_slice(&self) -> &[u8] {
        &self.encoding[self.head() + 4..]
    }

    fn is_signed(&self) -> bool {
        self.encoding[0] == 1
    }

    fn head(&self) -> usize {
        if self.is_signed() { SIGNED_HEAD } else { UNSIGNED_HEAD }
    }

    /// `N` bytes at `at`, which lie inside every encoding that `build` and `decode` let through.
    fn fixed<const N: usize>(&self, at: usize) -> [u8; N] {
        std::array::from_fn(|i| self.encoding[at + i])
    }
}

impl fmt::Debug for Aspect {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Aspect")
            .field("hash", &self.hash)
            .field("entry", &self.entry())
            .field("kind", &self.kind())
            .field("published", &self.published())
            .field("signed", &self.is_signed())
            .field("data_len", &self.data_slice().len())
            .finish()
    }
}

fn hash_of(encoding: &[u8]) -> AspectHash {
    let mut hasher = blake3::Hasher::new_derive_key(HASH_CONTEXT);
    hasher.update(encoding);
    AspectHash(*hasher.finalize().as_bytes())
}

fn signed_message(
    space: &SpaceId,
    author: &[u8; 32],
    entry: &EntryAddress,
    kind: u32,
    published: Time,
    data: &[u8],
) -> [u8; 32] {
    let mut hasher = blake3::Hasher::new_derive_key(SIGNATURE_CONTEXT);
    hasher.update(space.as_bytes());
    hasher.update(author);
    hasher.update(entry.as_bytes());
    hasher.update(&kind.to_le_bytes());
    hasher.update(&published.as_micros().to_le_bytes());
    hasher.update(&(data.len() as u32).to_le_bytes());
    hasher.update(data);
    *hasher.finalize().as_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const SPACE: SpaceId = SpaceId([7; 32]);

    fn any_aspect() -> impl Strategy<Value = Aspect> {
        let data = prop_oneof![
            Just(Vec::new()),
            proptest::collection::vec(any::<u8>(), 0..200),
            Just(vec![9; MAX_ASPECT_DATA]),
        ];
        (any::<[u8; 32]>(), any::<u32>(), any::<u64>(), any::<bool>(), data).prop_map(
            |(entry, kind, at, sign, data)| {
                let (entry, at) = (EntryAddress(entry), Time::from_micros(at));
                if sign {
                    let key = AuthorKey::from_bytes(&[3; 32]);
                    Aspect::signed(&key, &SPACE, entry, kind, at, &data).unwrap()
                } else {
                    Aspect::new(entry, kind, at, &data).unwrap()
                }
            },
        )
    }

    proptest! {
        #[test]
        fn encoding_round_trips(aspect in any_aspect()) {
            let again = Aspect::decode(aspect.encoding().clone()).unwrap();
            prop_assert_eq!(&again, &aspect);
            prop_assert_eq!(again.verify(&SPACE), Ok(()));
            prop_assert_eq!(again.location(), Location::of_entry(&aspect.entry()));
        }

        #[test]
        fn decode_never_panics(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            if let Ok(aspect) = Aspect::decode(bytes.clone().into()) {
                prop_assert_eq!(&aspect.encoding()[..], &bytes[..]);
                let _ = aspect.verify(&SPACE);
            }
        }

        #[test]
        fn one_flipped_bit_is_another_aspect_or_none(aspect in any_aspect(), at in any::<prop::sample::Index>(), bit in 0..8u8) {
            let mut bytes = aspect.encoding().to_vec();
            let at = at.index(bytes.len());
            bytes[at] ^= 1 << bit;
            if let Ok(other) = Aspect::decode(bytes.into()) {
                prop_assert_ne!(other.hash(), aspect.hash());
                if other.author().is_some() {
                    prop_assert_eq!(other.verify(&SPACE), Err(AspectError::Signature(other.hash())));
                }
            }
        }
    }

    #[test]
    fn a_signature_holds_in_its_space_only() {
        let key = AuthorKey::from_bytes(&[3; 32]);
        let aspect =
            Aspect::signed(&key, &SPACE, EntryAddress([1; 32]), 0, Time::ZERO, b"words").unwrap();
        assert_eq!(aspect.verify(&SPACE), Ok(()));
        assert!(aspect.verify(&SpaceId([8; 32])).is_err());
    }

    #[test]
    fn too_large_is_refused() {
        let data = vec![0; MAX_ASPECT_DATA + 1];
        assert_eq!(
            Aspect::new(EntryAddress([0; 32]), 0, Time::ZERO, &data),
            Err(AspectError::TooLarge(MAX_ASPECT_DATA + 1))
        );
    }

    #[test]
    fn the_next_key_is_the_least_above() {
        let key = |l, h: [u8; 32]| AspectKey { location: Location(l), hash: AspectHash(h) };
        assert_eq!(key(1, [0xff; 32]).next(), Some(key(2, [0; 32])));
        let mut one = [0; 32];
        one[31] = 1;
        assert_eq!(AspectKey::MIN.next(), Some(key(0, one)));
        assert_eq!(AspectKey::MAX.next(), None);
    }
}
