//! What a swarm is told.

use std::{collections::BTreeSet, ops::Deref, sync::Arc, time::Duration};

use serde::{Deserialize, Serialize};

use super::{Line, Swarm, Tape, told};
use crate::{
    aspect::{AspectKey, AuthorKey},
    id::{NodeId, SpaceId},
    ring::ArcSet,
    session::{Flow, LocalSpace, PeerSpace, Report},
    swarm::{
        Action, Address, Again, Arrival, Next, Opening, Outcome, PeerRecord, PieceId, Purpose,
        RecordError, Settings, SignedRecord, TurnId, WaitId,
    },
    time::Time,
    wire::{ErrorCode, PeerInfo},
};

/// A [`Swarm`] of which each call is written down, where there is a [`Tape`].
pub struct TapedSwarm {
    swarm: Swarm,
    tape: Option<Tape>,
}

impl TapedSwarm {
    /// See [`Swarm::new`].
    pub fn new(
        now: Time,
        key: AuthorKey,
        space: SpaceId,
        settings: Settings,
        tape: Option<Tape>,
    ) -> Self {
        if let Some(tape) = &tape {
            let (fingerprint, settings) = (space.fingerprint(), settings.clone());
            (tape.sink)(&Line::Space { space: tape.space, fingerprint, now, settings });
        }
        Self { swarm: Swarm::new(now, key, space, settings), tape }
    }

    /// Where what happens in its space is written down.
    pub fn tape(&self) -> Option<&Tape> {
        self.tape.as_ref()
    }
}

/// What it can be asked without being changed.
impl Deref for TapedSwarm {
    type Target = Swarm;

    fn deref(&self) -> &Swarm {
        &self.swarm
    }
}

/// How an argument is passed, and how it is kept.
macro_rules! argument {
    (val $type:ty) => {
        $type
    };
    (ref $type:ty) => {
        &$type
    };
}
macro_rules! kept {
    (val $type:ty) => {
        $type
    };
    (ref $type:ty) => {
        <$type as ToOwned>::Owned
    };
}
macro_rules! keep {
    (val $value:ident) => {
        $value.clone()
    };
    (ref $value:ident) => {
        $value.to_owned()
    };
}
macro_rules! pass {
    (val $value:ident) => {
        $value
    };
    (ref $value:ident) => {
        &$value
    };
}

macro_rules! calls {
    ($($name:ident($($argument:ident: $kind:tt $type:ty),*) $(-> $answer:ty)?;)*) => {
        /// A call of a method of [`Swarm`], with its arguments.
        #[derive(Clone, Debug, Serialize, Deserialize)]
        #[allow(missing_docs, non_camel_case_types, reason = "they are those of the methods")]
        pub enum Call {
            $($name { $($argument: kept!($kind $type)),* },)*
        }

        impl Call {
            /// Makes the call. Gives the answer.
            pub(super) fn make(self, swarm: &mut Swarm) -> String {
                match self {
                    $(Call::$name { $($argument),* } => {
                        told(&swarm.$name($(pass!($kind $argument)),*))
                    })*
                }
            }
        }

        #[allow(clippy::clone_on_copy, reason = "some of them are")]
        impl TapedSwarm {
            $(
                #[doc = concat!("See [`Swarm::", stringify!($name), "`].")]
                pub fn $name(&mut self $(, $argument: argument!($kind $type))*) $(-> $answer)? {
                    let Some(tape) = &self.tape else { return self.swarm.$name($($argument),*) };
                    let call = Call::$name { $($argument: keep!($kind $argument)),* };
                    let given = self.swarm.$name($($argument),*);
                    let (space, answer) = (tape.space, told(&given));
                    (tape.sink)(&Line::Told { space, call, answer });
                    given
                }
            )*
        }
    };
}

calls! {
    set_local(now: val Time, local: val LocalSpace);
    set_amount(now: val Time, count: val u64, bytes: val u64);
    set_outside(now: val Time, outside: val ArcSet);
    set_addresses(now: val Time, addresses: val Vec<Address>);
    set_blocked(now: val Time, blocked: val BTreeSet<NodeId>);
    set_fixed(now: val Time, fixed: val Option<ArcSet>);
    contact(now: val Time, peer: val NodeId);
    restore(now: val Time, record: val SignedRecord);
    stored(now: val Time, keys: ref [AspectKey], arrival: val Arrival, sequence: val u64);
    changed(now: val Time);
    met(now: val Time, peer: val NodeId, dialed: val bool, theirs: val PeerSpace);
    told(now: val Time, peer: ref NodeId, theirs: val PeerSpace);
    gone(now: val Time, peer: ref NodeId, broken: val bool);
    unreachable(now: val Time, peer: ref NodeId);
    linked(peer: ref NodeId, round_trip: val Option<Duration>);
    served(peer: ref NodeId, bytes: val u64, took: val Duration);
    fault(now: val Time, peer: ref NodeId);
    audited(now: val Time, peer: ref NodeId, passed: val Option<bool>);
    heard_of(now: val Time, from: val NodeId, infos: val Vec<PeerInfo>)
        -> (Vec<Arc<PeerRecord>>, Option<RecordError>);
    next_piece(now: val Time, peer: ref NodeId) -> Next;
    piece_moved(now: val Time, piece: val PieceId);
    piece_ended(now: val Time, piece: val PieceId, complete: val bool);
    heard(now: val Time, peer: ref NodeId, same: val bool);
    probed(now: val Time, peer: ref NodeId, same: val Option<bool>);
    compared(now: val Time, peer: ref NodeId, outcome: val Outcome);
    filled(now: val Time, peer: ref NodeId, whole: val bool);
    arrived(now: val Time, from: val NodeId, keys: ref [AspectKey]) -> Vec<AspectKey>;
    not_stored(from: ref NodeId);
    pushed(from: val NodeId, new: ref [AspectKey], again: ref [AspectKey]);
    announced(now: val Time, from: val NodeId, lacking: ref [AspectKey]);
    pruned(peer: ref NodeId, keys: ref [AspectKey]);
    grafted(peer: ref NodeId, keys: ref [AspectKey]);
    receipt_wanted(
        now: val Time, peer: val NodeId, held: val Vec<AspectKey>, lacking: ref [AspectKey]
    );
    receipt(peer: val NodeId, keys: ref [AspectKey]);
    replicate(now: val Time, keys: ref [AspectKey], copies: val u32) -> Option<WaitId>;
    cancel(wait: val WaitId);
    given(now: val Time, peer: val NodeId, arcs: ref ArcSet, sequence: val u64, complete: val bool);
    open_session(now: val Time, peer: ref NodeId, purpose: ref Purpose, again: val Again)
        -> Opening;
    answer_session(now: val Time, peer: ref NodeId, flow: val Flow)
        -> Result<(TurnId, Option<TurnId>), ErrorCode>;
    session_moved(now: val Time, turn: val TurnId);
    session_completed(turn: val TurnId, peer: ref NodeId, report: ref Report) -> ArcSet;
    session_ended(turn: val TurnId);
    poll_actions(now: val Time) -> Vec<Action>;
    tick(now: val Time);
}

impl Call {
    /// The id of the space is not written down; here it comes back.
    pub(super) fn in_space(self, id: SpaceId) -> Self {
        match self {
            Call::set_local { now, local } => {
                Call::set_local { now, local: LocalSpace { id, ..local } }
            }
            other => other,
        }
    }
}
