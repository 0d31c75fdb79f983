//! The messages of a broadcast stream besides the aspects themselves: what keeps them few, and says
//! where they have arrived.

use super::{Wire, WireError, parts, pb};
use crate::aspect::AspectKey;

/// `Announce`: the sender holds these, and the receiver should.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Announce {
    /// The receiver's number for the space.
    pub space: u32,
    /// Strictly ascending.
    pub keys: Vec<AspectKey>,
    /// The receiver is to say which of them it holds, as soon as it does.
    pub receipt: bool,
}

impl Wire for Announce {
    type Raw = pb::Announce;

    fn parse(raw: pb::Announce) -> Result<Self, WireError> {
        let keys = parts::keys("groups", raw.groups)?;
        Ok(Self { space: raw.space, keys, receipt: raw.receipt })
    }

    fn raw(&self) -> pb::Announce {
        let (space, groups) = (self.space, parts::raw_keys(&self.keys));
        pb::Announce { space, groups, receipt: self.receipt }
    }
}

/// `Graft`: asks to be sent these now, and what is new near them from now on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Graft {
    /// The receiver's number for the space.
    pub space: u32,
    /// Strictly ascending.
    pub keys: Vec<AspectKey>,
}

impl Wire for Graft {
    type Raw = pb::Graft;

    fn parse(raw: pb::Graft) -> Result<Self, WireError> {
        Ok(Self { space: raw.space, keys: parts::keys("groups", raw.groups)? })
    }

    fn raw(&self) -> pb::Graft {
        pb::Graft { space: self.space, groups: parts::raw_keys(&self.keys) }
    }
}

/// `Prune`: asks to be told of what is new near these, and not to be sent it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Prune {
    /// The receiver's number for the space.
    pub space: u32,
    /// Strictly ascending. None: all that is new.
    pub keys: Vec<AspectKey>,
}

impl Wire for Prune {
    type Raw = pb::Prune;

    fn parse(raw: pb::Prune) -> Result<Self, WireError> {
        Ok(Self { space: raw.space, keys: parts::keys("groups", raw.groups)? })
    }

    fn raw(&self) -> pb::Prune {
        pb::Prune { space: self.space, groups: parts::raw_keys(&self.keys) }
    }
}

/// `Receipt`: the sender holds these durably.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Receipt {
    /// The receiver's number for the space.
    pub space: u32,
    /// Strictly ascending.
    pub keys: Vec<AspectKey>,
}

impl Wire for Receipt {
    type Raw = pb::Receipt;

    fn parse(raw: pb::Receipt) -> Result<Self, WireError> {
        Ok(Self { space: raw.space, keys: parts::keys("groups", raw.groups)? })
    }

    fn raw(&self) -> pb::Receipt {
        pb::Receipt { space: self.space, groups: parts::raw_keys(&self.keys) }
    }
}
