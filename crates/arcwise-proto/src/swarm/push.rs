//! What waits to be pushed to one peer, and in which messages it goes.

use std::collections::VecDeque;

use crate::{
    aspect::{Aspect, AspectKey},
    id::SpaceId,
    limits::DATA_FRAME_TARGET,
    wire::{Announce, AspectBroadcast, Graft, Message, Prune, Receipt},
};

/// Bytes that may wait to be pushed to one peer. What does not fit is not pushed: a gossip session,
/// which is asked for at once, brings it. A guess: a second of a slow line.
const MAX_QUEUED: usize = 4 << 20;

/// One thing that is to go on a broadcast stream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Push {
    /// This one, whole.
    Aspect(Aspect),
    /// `Announce`.
    Announce {
        /// Of which; they ascend strictly.
        keys: Vec<AspectKey>,
        /// Whether the peer is to say which of them it holds.
        receipt: bool,
    },
    /// `Graft`.
    Graft(Vec<AspectKey>),
    /// `Prune`.
    Prune(Vec<AspectKey>),
    /// `Receipt`.
    Receipt(Vec<AspectKey>),
}

impl Push {
    fn size(&self) -> usize {
        match self {
            Push::Aspect(aspect) => aspect.encoding().len(),
            Push::Announce { keys, .. }
            | Push::Graft(keys)
            | Push::Prune(keys)
            | Push::Receipt(keys) => 16 + keys.len() * size_of::<AspectKey>(),
        }
    }
}

/// What waits to be pushed to one peer, of all spaces.
#[derive(Debug, Default)]
pub struct PushQueue {
    /// Goes first: it is small, and says nothing of what waits beside it.
    urgent: VecDeque<(SpaceId, Push)>,
    /// Aspects and announcements, in their order: who hears of an aspect before it comes asks for it.
    others: VecDeque<(SpaceId, Push)>,
    size: usize,
}

impl PushQueue {
    /// Whether there was room. Where there was none for an aspect, the two are to be compared:
    /// [`Swarm::heard`](super::Swarm::heard).
    pub fn push(&mut self, space: SpaceId, push: Push) -> bool {
        let size = push.size();
        if self.size + size > MAX_QUEUED {
            return false;
        }
        self.size += size;
        match push {
            Push::Aspect(_) | Push::Announce { .. } => self.others.push_back((space, push)),
            Push::Graft(_) | Push::Prune(_) | Push::Receipt(_) => {
                self.urgent.push_back((space, push));
            }
        }
        true
    }

    /// An aspect, and those behind it that fit the same message.
    fn together(&mut self, of: SpaceId, first: Aspect) -> Vec<Aspect> {
        let mut size = first.encoding().len();
        let mut aspects = vec![first];
        while let Some((space, Push::Aspect(next))) = self.others.front()
            && *space == of
            && size + next.encoding().len() <= DATA_FRAME_TARGET
        {
            size += next.encoding().len();
            self.size -= next.encoding().len();
            aspects.push(next.clone());
            self.others.pop_front();
        }
        aspects
    }
}

/// The messages that are to go now; there may be more later.
impl Iterator for PushQueue {
    type Item = (SpaceId, Message);

    /// The next message, without the peer's number for its space: see [`Message::pushed_in`]. Aspects of
    /// one space that wait together go together.
    fn next(&mut self) -> Option<Self::Item> {
        let (of, first) = self.urgent.pop_front().or_else(|| self.others.pop_front())?;
        self.size -= first.size();
        let space = 0;
        let message = match first {
            Push::Aspect(first) => {
                AspectBroadcast { space, aspects: self.together(of, first) }.into()
            }
            Push::Announce { keys, receipt } => Announce { space, keys, receipt }.into(),
            Push::Graft(keys) => Graft { space, keys }.into(),
            Push::Prune(keys) => Prune { space, keys }.into(),
            Push::Receipt(keys) => Receipt { space, keys }.into(),
        };
        Some((of, message))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{id::EntryAddress, time::Time, wire::Kind};

    fn aspect(n: u8) -> Aspect {
        Aspect::new(EntryAddress([n; 32]), 1, Time::ZERO, b"x").unwrap()
    }

    #[test]
    fn what_is_urgent_goes_first_and_the_rest_in_order() {
        let (mut queue, space) = (PushQueue::default(), SpaceId([1; 32]));
        let announce = Push::Announce { keys: vec![aspect(1).key()], receipt: true };
        for push in [
            Push::Aspect(aspect(1)),
            Push::Aspect(aspect(2)),
            announce,
            Push::Receipt(vec![aspect(3).key()]),
            Push::Aspect(aspect(4)),
        ] {
            assert!(queue.push(space, push));
        }
        let order: Vec<Kind> = queue.by_ref().map(|(_, message)| message.kind()).collect();
        let (aspects, announce) = (Kind::AspectBroadcast, Kind::Announce);
        assert_eq!(order, [Kind::Receipt, aspects, announce, aspects]);
        assert_eq!(queue.size, 0);
    }

    #[test]
    fn what_goes_together_is_of_one_space_and_fits() {
        let mut queue = PushQueue::default();
        let large = |n| {
            let data = vec![0; DATA_FRAME_TARGET / 2 - 500];
            Aspect::new(EntryAddress([n; 32]), 1, Time::ZERO, &data).unwrap()
        };
        let spaces = [SpaceId([1; 32]), SpaceId([2; 32])];
        for (n, space) in [0, 0, 0, 1].into_iter().enumerate() {
            assert!(queue.push(spaces[space], Push::Aspect(large(n as u8))));
        }
        let together: Vec<_> = queue
            .by_ref()
            .map(|(space, mut message)| {
                *message.pushed_in().unwrap() = 7;
                let Message::AspectBroadcast(broadcast) = message else { panic!() };
                (space, broadcast.space, broadcast.aspects.len())
            })
            .collect();
        assert_eq!(together, [(spaces[0], 7, 2), (spaces[0], 7, 1), (spaces[1], 7, 1)]);
    }

    #[test]
    fn no_more_waits_than_there_is_room_for() {
        let (mut queue, space) = (PushQueue::default(), SpaceId([1; 32]));
        let keys = vec![aspect(1).key(); 1024];
        while queue.push(space, Push::Announce { keys: keys.clone(), receipt: false }) {
            assert!(queue.size <= MAX_QUEUED);
        }
        assert!(MAX_QUEUED - queue.size < 40_000);
        queue.next();
        assert!(queue.push(space, Push::Graft(keys)));
    }
}
