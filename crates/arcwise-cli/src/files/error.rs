//! What can go wrong, by whose fault, and what to do about it.

use std::{fmt, io, path::PathBuf};

use arcwise_proto::EntryAddress;

use super::{
    MAX_FOLDER_DEPTH, MAX_LISTING, ObjectName,
    name::{Name, NameError, printable_path},
    record::MAX_TARGET,
};

/// Why files were not stored or restored.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    // This machine's disk and pipes.
    #[error("{} does not exist", printable_path(.0))]
    NotThere(PathBuf),
    #[error("cannot read {}; nothing was recorded: make it readable or move it away, and put again", printable_path(.path))]
    Read { path: PathBuf, source: io::Error },
    #[error("cannot write {}", printable_path(.path))]
    Write { path: PathBuf, source: io::Error },
    #[error("cannot read the input; nothing was recorded")]
    Input(#[source] io::Error),
    #[error("cannot write the output")]
    Output(#[source] io::Error),

    // What was asked for does not fit what is here.
    #[error("{} is neither a file nor a folder; to put what it yields, pipe it in", printable_path(.0))]
    NotRegular(PathBuf),
    #[error("{} cannot be stored under its name", printable_path(.path))]
    LocalName { path: PathBuf, source: NameError },
    #[error("{} lies more than {MAX_FOLDER_DEPTH} folders deep; put a folder further in", printable_path(.0))]
    TooDeep(PathBuf),
    #[error("{} holds too many entries: its listing would exceed {MAX_LISTING} bytes; split the folder", printable_path(.0))]
    TooManyEntries(PathBuf),
    #[error("{} exists already; choose another destination or remove it first", printable_path(.0))]
    Exists(PathBuf),
    #[error("{} is not empty (it holds “{}”); choose an empty folder or a name that is not there yet", printable_path(.folder), printable_path(.found))]
    NotEmpty { folder: PathBuf, found: PathBuf },
    #[error("there is no folder {}; create it first", printable_path(.0))]
    NoParent(PathBuf),

    // What was asked for is not in the space, as far as is known here.
    #[error("“{0}” is no address: give its 64 hexadecimal digits, or at least the first {min}", min = super::MIN_PREFIX)]
    NotAnAddress(String),
    #[error("no address in the catalog begins with {0}; see the list, or give all 64 digits")]
    UnknownPrefix(String),
    #[error("{prefix} is the beginning of several addresses; give more digits:{}", Candidates(.candidates))]
    Ambiguous { prefix: String, candidates: Vec<(EntryAddress, Name)> },
    #[error("“{path}” is not in {address}; list the folder to see what is")]
    NoSuchPath { address: EntryAddress, path: String },
    #[error("“{path}” leads nowhere: a path inside an item goes down only")]
    BadPath { path: String, source: NameError },
    #[error("{what} is not a folder")]
    NotAFolder { what: String },
    #[error("{what} is a folder; get it whole, or name a file in it")]
    IsAFolder { what: String },
    #[error("{what} is a symbolic link to “{target}”; name what it points to")]
    IsALink { what: String, target: String },
    #[error(
        "{0} is not held here, nor by a peer that could be reached; check the address, or try again when a peer that has it is online"
    )]
    Missing(ObjectName),

    // The node.
    #[error("the node could not do it")]
    Node(#[source] Box<dyn std::error::Error + Send + Sync>),

    // Whoever made the item broke the format.
    #[error("{address} breaks the format; ask whoever published it to put it again")]
    Broken { address: EntryAddress, source: Flaw },
    #[error("cannot create “{what}” on this system; nothing was restored")]
    NotHere { what: String, source: NameError },
}

impl Error {
    pub(super) fn node(source: impl std::error::Error + Send + Sync + 'static) -> Self {
        Self::Node(Box::new(source))
    }
}

/// How a record or a blob breaks the format.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Flaw {
    #[error("it is not a record")]
    Encoding(#[from] prost::DecodeError),
    #[error("it is of a type this version does not know; a newer version may")]
    UnknownType,
    #[error("an address in it is {0} bytes long instead of 32")]
    AddressLength(usize),
    #[error("it is said to be a tree {0} levels deep, which no blob is")]
    BlobDepth(u32),
    #[error("an index of {0} bytes is no list of addresses")]
    IndexLength(usize),
    #[error("a tree of chunks has an empty one")]
    EmptyChunk,
    #[error("{declared} bytes were announced, but there are {}", if *.more { "more" } else { "fewer" })]
    Length { declared: u64, more: bool },
    #[error("a name in it is not allowed")]
    Name(#[from] NameError),
    #[error("the names in it are not in order, or one is there twice: “{0}”")]
    Order(Name),
    #[error("the target of the link “{0}” is empty, has a NUL, or is over {MAX_TARGET} bytes")]
    Target(Name),
    #[error("a listing of {0} bytes is over the limit of {MAX_LISTING}")]
    ListingLength(u64),
    #[error("there is something in a listing that is no entry, or too long for one")]
    Entry,
    #[error("it holds other numbers of files, folders, links or bytes than were announced")]
    Totals,
    #[error("its folders are more than {MAX_FOLDER_DEPTH} deep")]
    FolderDepth,
}

impl Flaw {
    pub(super) fn of(self, address: EntryAddress) -> Error {
        Error::Broken { address, source: self }
    }
}

/// A few lines that tell apart what begins alike.
struct Candidates<'a>(&'a [(EntryAddress, Name)]);

impl fmt::Display for Candidates<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const SHOWN: usize = 10;
        for (address, name) in self.0.iter().take(SHOWN) {
            write!(f, "\n  {address}  {name}")?;
        }
        match self.0.len().saturating_sub(SHOWN) {
            0 => Ok(()),
            more => write!(f, "\n  and {more} more"),
        }
    }
}
