//! The four 32-byte identifiers.

use std::{fmt, str::FromStr};

use data_encoding::HEXLOWER_PERMISSIVE;

/// Text that is not an identifier.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "not a valid {what}: expected 64 hexadecimal digits, got {got} characters or a character that is no digit"
)]
pub struct ParseIdError {
    what: &'static str,
    got: usize,
}

macro_rules! id {
    ($(#[$doc:meta])* $name:ident, $what:literal) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(pub [u8; 32]);

        impl $name {
            /// The raw 32 bytes.
            pub const fn as_bytes(&self) -> &[u8; 32] {
                &self.0
            }

            /// The first ten hexadecimal digits: enough for a person to tell a few apart.
            pub fn short(&self) -> String {
                HEXLOWER_PERMISSIVE.encode(&self.0[..5])
            }
        }

        impl From<[u8; 32]> for $name {
            fn from(bytes: [u8; 32]) -> Self {
                Self(bytes)
            }
        }

        impl FromStr for $name {
            type Err = ParseIdError;

            /// Parses 64 hexadecimal digits of either case.
            fn from_str(s: &str) -> Result<Self, ParseIdError> {
                let error = || ParseIdError { what: $what, got: s.chars().count() };
                let bytes = HEXLOWER_PERMISSIVE.decode(s.as_bytes()).map_err(|_| error())?;
                Ok(Self(bytes.try_into().map_err(|_| error())?))
            }
        }
    };
}

macro_rules! shown {
    ($name:ident) => {
        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&HEXLOWER_PERMISSIVE.encode(&self.0))
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{}({})", stringify!($name), self.short())
            }
        }
    };
}

id! {
    /// Names one network of data. Whoever knows it can take part, so for a private space it is a
    /// secret: [`fmt::Debug`] does not print it and there is no [`fmt::Display`]; use
    /// [`SpaceId::reveal`] where a person asked for it, and [`SpaceId::fingerprint`] in logs.
    SpaceId, "space id"
}
id! {
    /// A node's Ed25519 public key.
    NodeId, "node id"
}
id! {
    /// Names an entry. Any 32 bytes; applications normally use a BLAKE3 hash of the content.
    EntryAddress, "entry address"
}
id! {
    /// BLAKE3 over the canonical encoding of an aspect: see [`crate::aspect`].
    AspectHash, "aspect hash"
}
shown!(NodeId);
shown!(EntryAddress);
shown!(AspectHash);

impl SpaceId {
    /// The id as 64 hexadecimal digits. Showing it to somebody lets them in.
    pub fn reveal(&self) -> String {
        HEXLOWER_PERMISSIVE.encode(&self.0)
    }

    /// Ten hexadecimal digits derived one way from the id: tells spaces apart, lets nobody in.
    pub fn fingerprint(&self) -> String {
        let hash = blake3::derive_key("arcwise 1 space fingerprint", &self.0);
        HEXLOWER_PERMISSIVE.encode(&hash[..5])
    }
}

impl fmt::Debug for SpaceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SpaceId(#{})", self.fingerprint())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_round_trip_and_typos() {
        let id = EntryAddress(std::array::from_fn(|i| i as u8));
        assert_eq!(id.to_string().parse(), Ok(id));
        assert_eq!(id.to_string().to_uppercase().parse(), Ok(id));
        for bad in ["", "00", &"g".repeat(64), &"0".repeat(63), &"0".repeat(65), "é"] {
            assert!(bad.parse::<EntryAddress>().is_err(), "{bad}");
        }
    }

    #[test]
    fn a_space_id_is_not_printed_by_accident() {
        let id = SpaceId([0xab; 32]);
        assert!(!format!("{id:?}").contains("abab"));
        assert_eq!(id.reveal().parse(), Ok(id));
    }
}
