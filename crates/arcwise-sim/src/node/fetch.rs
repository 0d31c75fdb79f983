//! Filling: a piece of what is lacking at a time, two at a time from each peer, as
//! [`Fill`](arcwise_proto::swarm::Fill) says.

use arcwise_proto::swarm::Next;

use super::{Cx, Running, Todo, session::Opener};
use crate::event::Timer;

/// Pieces that are fetched from a peer at a time: while one comes to its end, the next is on its way.
const AT_A_TIME: usize = 2;

/// What is fetched from one peer.
#[derive(Debug, Default)]
pub(super) struct Filling {
    fetching: usize,
    /// All that both take was compared on the way.
    whole: bool,
}

impl Running {
    /// Fetches from this peer what is to be filled, until it has nothing more of that.
    pub(super) fn fill_from(&mut self, cx: &mut Cx<'_>, peer: u32) {
        if self.conns.contains_key(&peer) {
            self.filling.entry(peer).or_default();
            self.fill(cx, peer);
        }
    }

    /// Fetches as many pieces as may be, or ends where there are none.
    pub(super) fn fill(&mut self, cx: &mut Cx<'_>, peer: u32) {
        let (now, id) = (cx.clock(), cx.id(peer));
        while let Some(filling) = self.filling.get_mut(&peer) {
            if filling.fetching >= AT_A_TIME {
                return;
            }
            match self.swarm.next_piece(now, &id) {
                Next::Nothing => {
                    if filling.fetching == 0 {
                        let whole = filling.whole;
                        self.filling.remove(&peer);
                        self.told_local(cx);
                        self.swarm.filled(now, &id, whole);
                    }
                    return;
                }
                Next::Wait(until) => return cx.timer(cx.now + until.since(now), Timer::Fill(peer)),
                Next::Fetch(piece) => {
                    filling.fetching += 1;
                    let all = piece.arcs == self.swarm.shared_with(&id);
                    if let Some(late) = piece.instead_of {
                        self.give_up(cx, late);
                    }
                    let opener = Opener::fill(peer, piece.id, piece.arcs, all);
                    self.todo.push_back(Todo::Open(opener));
                }
            }
        }
    }

    /// A piece has ended.
    pub(super) fn filled(&mut self, peer: u32, whole: bool) {
        if let Some(filling) = self.filling.get_mut(&peer) {
            filling.fetching = filling.fetching.saturating_sub(1);
            filling.whole |= whole;
        }
        self.todo.extend(self.filling.keys().map(|peer| Todo::Fill(*peer)));
    }
}
