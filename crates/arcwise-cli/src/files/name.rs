//! Names of files and folders. They come from strangers, so a [`Name`] can only be had by parsing.

use std::{
    borrow::Cow,
    ffi::{OsStr, OsString},
    fmt,
    path::Path,
};

/// Longest name, in bytes. Above every file system's own limit (255 bytes or 255 UTF-16 units).
pub(crate) const MAX_NAME: usize = 1024;

/// One step of a path: bytes that cannot lead out of the folder they stand in. Ordered bytewise.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Name(Vec<u8>);

/// Why bytes are no name.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum NameError {
    #[error("a name is empty")]
    Empty,
    #[error("a name of {0} bytes is over the limit of {MAX_NAME}")]
    TooLong(usize),
    #[error("the name “{}” would lead to another folder", printable(.0))]
    Leads(Vec<u8>),
    #[error("this system cannot hold the name “{}”; rename it where it comes from", printable(.0))]
    NotHere(Vec<u8>),
}

impl Name {
    /// Accepts what is one step on every system: neither empty, `.` nor `..`, without `/` and NUL.
    pub(crate) fn parse(bytes: impl Into<Vec<u8>>) -> Result<Self, NameError> {
        let bytes = bytes.into();
        match bytes.as_slice() {
            [] => Err(NameError::Empty),
            long if long.len() > MAX_NAME => Err(NameError::TooLong(long.len())),
            b"." | b".." => Err(NameError::Leads(bytes)),
            other if other.iter().any(|&byte| matches!(byte, b'/' | 0)) => {
                Err(NameError::Leads(bytes))
            }
            _ => Ok(Self(bytes)),
        }
    }

    /// The name of something on this machine.
    pub(crate) fn from_os(name: &OsStr) -> Result<Self, NameError> {
        match os_to_bytes(name) {
            Some(bytes) => Self::parse(bytes),
            None => Err(NameError::NotHere(name.to_string_lossy().into_owned().into_bytes())),
        }
    }

    /// The name as this system writes it.
    ///
    /// # Errors
    /// [`NameError::NotHere`] where the system could not hold it, or would take it for more than a
    /// name.
    pub(crate) fn to_os(&self) -> Result<OsString, NameError> {
        if cfg!(windows) && windows_misreads(&self.0) {
            return Err(NameError::NotHere(self.0.clone()));
        }
        bytes_to_os(&self.0).ok_or_else(|| NameError::NotHere(self.0.clone()))
    }

    pub(crate) fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

/// Safe to show on a terminal: see [`printable`].
impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&printable(&self.0))
    }
}

impl fmt::Debug for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Name({self})")
    }
}

/// A stranger's bytes as text that can do a terminal no harm: control characters and the ones that
/// turn the direction of writing are escaped, and so are bytes that are not UTF-8.
pub(crate) fn printable(bytes: &[u8]) -> String {
    let mut out = String::with_capacity(bytes.len());
    for chunk in bytes.utf8_chunks() {
        for c in chunk.valid().chars() {
            if c.is_control() || is_layout(c) {
                out.extend(c.escape_default());
            } else {
                out.push(c);
            }
        }
        for byte in chunk.invalid() {
            out.push_str(&format!("\\x{byte:02x}"));
        }
    }
    out
}

/// A path, part of which may be a stranger's: see [`printable`].
pub(crate) fn printable_path(path: &Path) -> String {
    match os_to_bytes(path.as_os_str()) {
        Some(bytes) => printable(&bytes),
        None => printable(path.to_string_lossy().as_bytes()),
    }
}

/// Line separators, byte order mark, and marks, embeddings, overrides and isolates of direction.
fn is_layout(c: char) -> bool {
    matches!(
        c,
        '\u{61c}'
            | '\u{200e}'
            | '\u{200f}'
            | '\u{2028}'..='\u{202e}'
            | '\u{2066}'..='\u{2069}'
            | '\u{feff}'
    )
}

/// Whether Windows would take the name for a path, a stream, a device, or another name.
fn windows_misreads(name: &[u8]) -> bool {
    const DEVICES: [&[u8]; 6] = [b"CON", b"PRN", b"AUX", b"NUL", b"CONIN$", b"CONOUT$"];
    let stem = name.split(|&byte| byte == b'.').next().unwrap_or_default().trim_ascii_end();
    let port = |prefix: &[u8]| {
        stem.len() > 3 && stem[..3].eq_ignore_ascii_case(prefix) && {
            matches!(&stem[3..], [b'0'..=b'9'] | [0xc2, 0xb9 | 0xb2 | 0xb3])
        }
    };
    name.iter().any(|&byte| matches!(byte, b'\\' | b':' | 1..=31))
        || matches!(name.last(), Some(b'.' | b' '))
        || DEVICES.iter().any(|device| stem.eq_ignore_ascii_case(device))
        || port(b"COM")
        || port(b"LPT")
}

/// The bytes that stand for a name or a link's target: its own on Unix, UTF-8 elsewhere.
pub(super) fn os_to_bytes(text: &OsStr) -> Option<Cow<'_, [u8]>> {
    #[cfg(unix)]
    {
        Some(Cow::Borrowed(std::os::unix::ffi::OsStrExt::as_bytes(text)))
    }
    #[cfg(not(unix))]
    {
        text.to_str().map(|text| Cow::Borrowed(text.as_bytes()))
    }
}

/// The reverse of [`os_to_bytes`].
pub(super) fn bytes_to_os(bytes: &[u8]) -> Option<OsString> {
    #[cfg(unix)]
    {
        Some(std::os::unix::ffi::OsStringExt::from_vec(bytes.to_vec()))
    }
    #[cfg(not(unix))]
    {
        std::str::from_utf8(bytes).ok().map(OsString::from)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_one_step() {
        for bad in [&b""[..], b".", b"..", b"/", b"a/b", b"/etc", b"a\0", &[b'x'; MAX_NAME + 1]] {
            assert!(Name::parse(bad).is_err(), "{bad:?}");
        }
        for good in [&b"..."[..], b"-rf", b" ", b"a\\b", b"C:", b"\xff\xfe", &[b'x'; MAX_NAME]] {
            assert_eq!(Name::parse(good).unwrap().as_bytes(), good);
        }
    }

    #[test]
    fn what_windows_would_misread() {
        let bad =
            ["a\\b", "c:", "x.", "x ", "nul", "NUL.txt", "con .x", "Com1", "lpt9.log", "\u{1}"];
        for name in bad {
            assert!(windows_misreads(name.as_bytes()), "{name}");
        }
        for name in ["a", "com", "com10", "console", "nulls", ".x", "x.y", "ünï"] {
            assert!(!windows_misreads(name.as_bytes()), "{name}");
        }
    }

    #[test]
    fn shown_names_do_a_terminal_no_harm() {
        assert_eq!(printable("it's “é” 日本 🎉".as_bytes()), "it's “é” 日本 🎉");
        assert_eq!(printable(b"a\x1b[2J\n\xff"), "a\\u{1b}[2J\\n\\xff");
        assert_eq!(printable("gpj.\u{202e}exe".as_bytes()), "gpj.\\u{202e}exe");
    }
}
