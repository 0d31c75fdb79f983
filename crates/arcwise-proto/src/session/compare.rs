//! The half of a session that finds out what differs, where lists would be too long: carries the
//! packets of [`exchange`](crate::reconcile::exchange) in the messages of a session.

use std::vec;

use super::Snapshot;
use crate::{
    aspect::AspectKey,
    limits::PAGE_KEYS,
    reconcile::{
        Items, Span,
        exchange::{Answerer, Error, Limits, Link, Opener, Outcome, Packet, Report, View},
    },
    ring::ArcSet,
    wire::{ArcRequest, ArcResponse, AspectDataRequest, Body, Message, Open},
};

/// One end of a comparison, with what it reads.
#[derive(Debug)]
pub(super) struct Comparison<I> {
    snapshot: Snapshot<I>,
    arcs: ArcSet,
    end: End,
    /// What the peer lacks and has not been sent; `None` while that is not known.
    sending: Option<Sending>,
    /// How many aspects are to come, once that is known.
    expected: u64,
}

#[derive(Debug)]
enum End {
    /// With what stands in her first message, until that is made.
    Alice(Box<Opener>, Option<Open>),
    Bob(Box<Answerer>),
}

#[derive(Debug)]
enum Sending {
    Keys(vec::IntoIter<AspectKey>),
    /// All that is in these runs of places.
    Runs(vec::IntoIter<Span>),
}

impl<I: Items> Comparison<I> {
    /// Alice's, with the first message.
    pub(super) fn open(
        snapshot: Snapshot<I>,
        open: Open,
        nonce: [u8; 8],
        limits: Limits,
    ) -> Result<(Self, Message), Error<I::Error>> {
        let arcs = open.arcs.clone();
        let (opener, packet) = Opener::new(nonce, limits, &view(&snapshot, &arcs))?;
        let end = End::Alice(Box::new(opener), Some(open));
        let mut this = Self { snapshot, arcs, end, sending: None, expected: 0 };
        let message = this.message(packet);
        Ok((this, message))
    }

    /// Bob's.
    pub(super) fn answer(
        snapshot: Snapshot<I>,
        arcs: ArcSet,
        nonce: [u8; 8],
        limits: Limits,
        link: Link,
    ) -> Self {
        let end = End::Bob(Box::new(Answerer::new(nonce, link, limits)));
        Self { snapshot, arcs, end, sending: None, expected: 0 }
    }

    /// Takes a packet; gives the messages to send.
    pub(super) fn handle(&mut self, packet: Packet) -> Result<Vec<Message>, Error<I::Error>> {
        let view = view(&self.snapshot, &self.arcs);
        let (step, redundant) = match &mut self.end {
            End::Alice(opener, _) => {
                let step = opener.handle(packet, &view)?;
                (step, opener.report().redundant)
            }
            End::Bob(answerer) => (answerer.handle(packet, &view)?, 0),
        };
        if let Some(outcome) = step.outcome {
            let sending = match outcome {
                Outcome::TakeAll => Sending::Keys(Vec::new().into_iter()),
                Outcome::SendAll => {
                    Sending::Runs(view.pieces(Span::ALL, PAGE_KEYS as f64).into_iter())
                }
                Outcome::Send(keys) => Sending::Keys(Vec::from_iter(keys).into_iter()),
            };
            self.sending = Some(sending);
            self.expected = self.report().theirs + redundant;
        }
        Ok(step.send.into_iter().map(|packet| self.message(packet)).collect())
    }

    /// How a packet travels: what Alice wants as msgGspAspectDataRequest, the rest of hers as
    /// msgGspArcRequest, all of Bob's as msgGspArcResponse.
    fn message(&mut self, packet: Packet) -> Message {
        match (&mut self.end, packet) {
            (End::Alice(..), packet @ Packet::Want(_)) => {
                AspectDataRequest { body: Body::Packet(packet) }.into()
            }
            (End::Alice(_, open), packet) => {
                ArcRequest { open: open.take(), body: Body::Packet(packet) }.into()
            }
            (End::Bob(_), packet) => ArcResponse { body: Body::Packet(packet) }.into(),
        }
    }

    /// Whether it is known what differs.
    pub(super) fn is_over(&self) -> bool {
        self.sending.is_some()
    }

    /// How many aspects are to come in all; 0 before [`Comparison::is_over`].
    pub(super) fn expected(&self) -> u64 {
        self.expected
    }

    /// The next of what the peer lacks, about a page; `None` where that is all, or not known yet.
    pub(super) fn next(&mut self) -> Result<Option<Vec<AspectKey>>, I::Error> {
        match &mut self.sending {
            None => Ok(None),
            Some(Sending::Keys(keys)) => {
                let page: Vec<_> = keys.by_ref().take(PAGE_KEYS).collect();
                Ok(Some(page).filter(|page| !page.is_empty()))
            }
            Some(Sending::Runs(runs)) => {
                for run in runs {
                    let mut page = Vec::new();
                    let view = view(&self.snapshot, &self.arcs);
                    view.each(run, &mut |key| page.push(*key))?;
                    if !page.is_empty() {
                        return Ok(Some(page));
                    }
                }
                Ok(None)
            }
        }
    }

    /// What it took; complete once it is over.
    pub(super) fn report(&self) -> &Report {
        match &self.end {
            End::Alice(opener, _) => opener.report(),
            End::Bob(answerer) => answerer.report(),
        }
    }
}

fn view<'a, I>(snapshot: &'a Snapshot<I>, arcs: &'a ArcSet) -> View<'a, I> {
    View { sectors: &snapshot.sectors, items: &snapshot.items, arcs }
}
