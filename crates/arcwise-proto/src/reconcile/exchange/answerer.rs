//! The side that was asked. He never decodes more than the opening sketch: what is costly to compute
//! is computed by her who wants to know.

use std::{collections::BTreeSet, mem};

use super::{
    Error, Fault, Limits, OPENING_SYNDROMES, Outcome, PIECE_DIFFERENCES, Packet, Report, Side,
    Step, View, Work,
    cost::{Link, Method, choose},
    packet::{Element, Failure, List, Opening, PACKET_TARGET, Probe, ProbeBody, Reply, Wants},
    syndromes_for,
    view::{Salt, less},
};
use crate::{
    aspect::AspectKey,
    reconcile::{
        Items, Parts, ShortId, Sketch, Span, Sums, estimate::Narrow, item::ID_BITS, sums::SYNDROMES,
    },
};

/// Bits by which the ids in a list are longer than it takes to number the items: two different items
/// are taken for the same with a probability of 2^-16 each.
const LIST_BITS: u32 = 16;

/// Items in one piece of a list, so that it fits a packet.
const LIST_ITEMS: f64 = 8192.0;

/// Up to this many wanted items of a piece are looked up one by one, more in one pass.
const MAX_LOOK_UPS: usize = 64;

/// Who answers.
#[derive(Debug)]
pub struct Answerer {
    nonce: [u8; 8],
    link: Link,
    side: Side,
    work: Work,
    state: State,
}

#[derive(Debug)]
enum State {
    /// Nothing has come yet.
    Waiting,
    /// Pieces are with her.
    Pieces {
        opening: Base,
        pieces: Vec<Piece>,
        failures: Vec<Failure>,
    },
    /// She has his claim.
    Claimed {
        opening: Base,
    },
    Over,
}

/// What the conversation is about.
#[derive(Debug)]
struct Base {
    nonce: [u8; 8],
    /// How many items she has.
    count: u64,
    sums: Box<Sums>,
    /// What of the items he takes her to lack she may hold: their ids, and how many she does.
    doubtful: Vec<ShortId>,
    redundant: u64,
}

#[derive(Debug)]
struct Piece {
    span: Span,
    /// How many syndromes she has of it; `None` for a list.
    syndromes: Option<usize>,
    extended: bool,
}

impl Answerer {
    /// `nonce` must be random, and another one in every conversation.
    pub fn new(nonce: [u8; 8], link: Link, limits: Limits) -> Self {
        Self { nonce, link, side: Side::default(), work: Work::new(limits), state: State::Waiting }
    }

    /// Takes a packet of the opener's.
    ///
    /// # Errors
    /// Where it is not one that may come now, the store cannot be read, or the work is more than the
    /// limits allow. The conversation is over then, and the sets are to be compared by plain lists.
    pub fn handle<I: Items>(
        &mut self,
        packet: Packet,
        view: &View<'_, I>,
    ) -> Result<Step, Error<I::Error>> {
        self.side.received(&packet);
        let state = mem::replace(&mut self.state, State::Over);
        let mut send = Vec::new();
        self.state = match (state, packet) {
            (State::Waiting, Packet::Open(open)) => self.open(open, view, &mut send)?,
            (State::Pieces { opening, pieces, failures }, Packet::Want(wants)) => {
                let mut opening = opening;
                for want in &wants {
                    self.want(&mut opening, &pieces, want, view)?;
                }
                State::Pieces { opening, pieces, failures }
            }
            (
                State::Pieces { opening, pieces, mut failures },
                Packet::Failed { pieces: failed, more },
            ) => {
                failures.extend(failed);
                if more {
                    State::Pieces { opening, pieces, failures }
                } else {
                    let pieces = self.again(&opening, &pieces, &failures, view, &mut send)?;
                    State::Pieces { opening, pieces, failures: Vec::new() }
                }
            }
            (State::Pieces { opening, .. }, Packet::Close) => self.claim(opening, &mut send),
            // After a repair.
            (State::Claimed { mut opening }, Packet::Close) => {
                opening.doubtful.clear();
                opening.redundant = 0;
                self.claim(opening, &mut send)
            }
            (State::Claimed { opening }, Packet::Probe(probes)) => {
                self.side.report.repaired = true;
                let replies = self.probed(&opening, &probes, view)?;
                send.push(Packet::Differ { nonce: self.nonce, replies });
                State::Claimed { opening }
            }
            (State::Claimed { opening }, Packet::Done) => {
                let both = opening.sums.count + opening.redundant - self.side.ours.len() as u64;
                self.side.report.theirs = opening.count.saturating_sub(both);
                self.side.finish();
                State::Over
            }
            _ => return Err(Fault::Unexpected.into()),
        };
        Ok(self.side.step(send))
    }

    fn open<I: Items>(
        &mut self,
        open: Opening,
        view: &View<'_, I>,
        send: &mut Vec<Packet>,
    ) -> Result<State, Error<I::Error>> {
        let parts = Parts { syndromes: OPENING_SYNDROMES, fingerprint: true };
        let sums = Box::new(view.sums(Span::ALL, parts)?);
        let estimate =
            open.counters.estimate(&sums.counters).max(open.count.abs_diff(sums.count) as f64);
        self.side.report.estimate = estimate;
        let report = &mut self.side.report;
        if open.count == sums.count && sums.fingerprint.check(&open.nonce) == open.check {
            report.method = Method::Same;
            send.push(Packet::Same);
            self.side.finish();
            return Ok(State::Over);
        }
        if open.count == 0 || sums.count == 0 {
            report.method = Method::Stream;
            report.theirs = open.count;
            send.push(Packet::Stream { count: sums.count });
            self.side.outcome =
                Some(if sums.count == 0 { Outcome::TakeAll } else { Outcome::SendAll });
            return Ok(State::Over);
        }
        let base =
            Base { nonce: open.nonce, count: open.count, sums, doubtful: Vec::new(), redundant: 0 };
        if estimate <= 3.0 * open.sketch.len() as f64
            && let Some(packet) = self.single(&base, &open.sketch, view)?
        {
            self.side.report.method = Method::Opening;
            send.push(packet);
            return Ok(State::Claimed { opening: base });
        }
        let method = choose(estimate, base.count, base.sums.count, &self.link);
        self.side.report.method = method;
        let mut out = Out::new(base.sums.count);
        match method {
            Method::Lists => self.lists(Span::ALL, base.sums.count, view, &mut out)?,
            _ => self.sketches(Span::ALL, estimate, base.sums.count, view, &mut out)?,
        }
        let pieces = out.finish(send);
        Ok(State::Pieces { opening: base, pieces, failures: Vec::new() })
    }

    /// The whole difference from the opening sketch, where that has it.
    fn single<I: Items>(
        &mut self,
        base: &Base,
        sketch: &Sketch,
        view: &View<'_, I>,
    ) -> Result<Option<Packet>, Error<I::Error>> {
        let mut sketch = sketch.clone();
        sketch.merge(&base.sums.syndromes[..OPENING_SYNDROMES]);
        self.work.decode(sketch.len())?;
        let Some(ids) = sketch.decode(1) else { return Ok(None) };
        let (mut ours, mut want) = (BTreeSet::new(), Vec::new());
        for id in ids.into_iter().filter_map(ShortId::new) {
            let found = view.find(id.get(), ID_BITS, Span::ALL)?;
            match found.is_empty() {
                true => want.push(id),
                false => ours.extend(found),
            }
        }
        // Both would be left with the same items, so with the same number.
        let both = base.sums.count.checked_sub(ours.len() as u64);
        if both.is_none() || both != base.count.checked_sub(want.len() as u64) {
            return Ok(None);
        }
        let common = less(base.sums.fingerprint.clone(), &ours);
        let theirs = ours.len() as u64;
        self.side.ours = ours;
        Ok(Some(Packet::Found { theirs, want, check: common.check(&base.nonce) }))
    }

    /// Cuts a run of places by the expected differences, and sketches each piece.
    fn sketches<I: Items>(
        &mut self,
        span: Span,
        estimate: f64,
        count: u64,
        view: &View<'_, I>,
        out: &mut Out,
    ) -> Result<(), Error<I::Error>> {
        let groups = (estimate / PIECE_DIFFERENCES).ceil().max(1.0);
        for piece in view.pieces(span, count as f64 / groups) {
            let sums = view.sums(piece, Parts::sketch(SYNDROMES))?;
            self.work.piece(view.sectors.load())?;
            let expected = estimate * sums.count as f64 / count.max(1) as f64;
            let sketch = Sketch::prefix(&sums.syndromes, syndromes_for(expected));
            out.push(
                Piece { span: piece, syndromes: Some(sketch.len()), extended: false },
                Element::Sketch { last: piece.last, sketch },
            );
        }
        Ok(())
    }

    fn lists<I: Items>(
        &mut self,
        span: Span,
        count: u64,
        view: &View<'_, I>,
        out: &mut Out,
    ) -> Result<(), Error<I::Error>> {
        let pieces = (count as f64 / LIST_ITEMS).ceil().max(1.0);
        for piece in view.pieces(span, count as f64 / pieces) {
            let mut ids = Vec::new();
            view.each(piece, &mut |key| ids.push(ShortId::of(&key.hash)))?;
            self.work.items(ids.len() as u64)?;
            let bits = ((ids.len() as u64 + 1).ilog2() + 1 + LIST_BITS).min(ID_BITS);
            let bits = if ids.is_empty() { ID_BITS } else { bits };
            let mut ids: Vec<u64> = ids.into_iter().map(|id| id.suffix(bits)).collect();
            ids.sort_unstable();
            out.push(
                Piece { span: piece, syndromes: None, extended: false },
                Element::List { last: piece.last, list: List { bits, ids } },
            );
        }
        Ok(())
    }

    fn want<I: Items>(
        &mut self,
        base: &mut Base,
        pieces: &[Piece],
        want: &Wants,
        view: &View<'_, I>,
    ) -> Result<(), Error<I::Error>> {
        let piece = usize::try_from(want.piece).ok().and_then(|piece| pieces.get(piece));
        let piece = piece.ok_or(Fault::NoSuchPiece)?;
        let List { bits, ids } = &want.list;
        let listed = piece.syndromes.is_none();
        let short = |key: &AspectKey| match ShortId::of(&key.hash) {
            id if listed => id.suffix(*bits),
            id => id.prefix(*bits),
        };
        let mut found = Vec::new();
        if !listed && ids.len() <= MAX_LOOK_UPS {
            self.work.look_ups(ids.len() as u64)?;
            for id in ids.chunk_by(PartialEq::eq).map(|equal| equal[0]) {
                found.extend(view.find(id, *bits, piece.span)?);
            }
        } else {
            let mut seen = 0;
            view.each(piece.span, &mut |key| {
                seen += 1;
                found.extend(ids.binary_search(&short(key)).is_ok().then_some(*key));
            })?;
            self.work.items(seen)?;
        }
        // Several items may have the same bits.
        found.sort_unstable_by_key(short);
        for alike in found.chunk_by(|a, b| short(a) == short(b)) {
            let id = short(&alike[0]);
            let wanted = ids.partition_point(|i| *i <= id) - ids.partition_point(|i| *i < id);
            if alike.len() > wanted {
                base.redundant += (alike.len() - wanted) as u64;
                base.doubtful.extend(alike.iter().map(|key| ShortId::of(&key.hash)));
            }
        }
        self.side.ours.extend(found);
        Ok(())
    }

    /// More about the pieces that could not be decoded.
    fn again<I: Items>(
        &mut self,
        base: &Base,
        pieces: &[Piece],
        failures: &[Failure],
        view: &View<'_, I>,
        send: &mut Vec<Packet>,
    ) -> Result<Vec<Piece>, Error<I::Error>> {
        let mut out = Out::new(base.sums.count);
        let mut after = 0;
        for failure in failures {
            let at = failure.piece.checked_sub(after).ok_or(Fault::NoSuchPiece)? + after;
            after = failure.piece + 1;
            let piece = usize::try_from(at).ok().and_then(|at| pieces.get(at));
            let piece = piece.ok_or(Fault::NoSuchPiece)?;
            // A list always settles its piece.
            let had = piece.syndromes.ok_or(Fault::NoSuchPiece)?;
            let sums = view.sums(piece.span, Parts::sketch(SYNDROMES))?;
            self.work.piece(view.sectors.load())?;
            // That it failed says that there are at least as many as there were syndromes.
            let estimate = failed_estimate(&failure.counters, &sums, had);
            let enough = (had + EXTENSION).max((estimate * 1.25) as usize + EXTENSION);
            if !piece.extended && enough <= SYNDROMES {
                out.push(
                    Piece { span: piece.span, syndromes: Some(enough), extended: true },
                    Element::Extend(Sketch::prefix(&sums.syndromes[had..], enough - had)),
                );
            } else if sums.count <= FEW_ITEMS
                || estimate > sums.count as f64 / 4.0
                || piece.span.first == piece.span.last
            {
                self.lists(piece.span, sums.count, view, &mut out)?;
            } else {
                let at = out.pieces.len();
                let estimate = estimate.max(2.0 * PIECE_DIFFERENCES);
                self.sketches(piece.span, estimate, sums.count, view, &mut out)?;
                if out.pieces.len() == at + 1 {
                    // All of it lies between two cuts.
                    out.pop();
                    self.lists(piece.span, sums.count, view, &mut out)?;
                }
            }
        }
        Ok(out.finish(send))
    }

    fn claim(&mut self, mut base: Base, send: &mut Vec<Packet>) -> State {
        let common = less(base.sums.fingerprint.clone(), &self.side.ours);
        base.doubtful.sort_unstable();
        base.doubtful.dedup();
        self.side.report.redundant = base.redundant;
        send.push(Packet::Claim {
            theirs: self.side.ours.len() as u64,
            doubtful: base.doubtful.clone(),
            check: common.check(&base.nonce),
        });
        State::Claimed { opening: base }
    }

    fn probed<I: Items>(
        &mut self,
        base: &Base,
        probes: &[Probe],
        view: &View<'_, I>,
    ) -> Result<Vec<Reply>, Error<I::Error>> {
        let salt = Salt::new(base.nonce, self.nonce);
        let mut replies = Vec::new();
        for Probe { span, body } in probes {
            self.work.probe(view.sectors.load())?;
            replies.push(match body {
                ProbeBody::Check(check) => {
                    match view.check(*span, &self.side.ours, &base.nonce)? == *check {
                        true => Reply::Same,
                        false => Reply::Differs,
                    }
                }
                ProbeBody::Salted(list) => {
                    let mut lacks: BTreeSet<(u64, u64)> = list.iter().copied().zip(0..).collect();
                    let (mut ours, mut seen) = (Vec::new(), 0);
                    view.each(*span, &mut |key| {
                        seen += 1;
                        let id = salt.id(key);
                        let same = lacks.range((id, 0)..=(id, u64::MAX)).next().copied();
                        match same {
                            Some(same) => drop(lacks.remove(&same)),
                            None => ours.push(*key),
                        }
                    })?;
                    self.work.items(seen)?;
                    // Whatever was thought of this run before, this is how it is.
                    let (first, last) = span.keys();
                    let before = self.side.ours.split_off(&first);
                    self.side.ours.extend(before.into_iter().filter(|key| *key > last));
                    let theirs = ours.len() as u64;
                    self.side.ours.extend(ours);
                    let mut positions: Vec<u64> = lacks.into_iter().map(|(_, at)| at).collect();
                    positions.sort_unstable();
                    Reply::Lacks { positions, theirs }
                }
            });
        }
        Ok(replies)
    }

    /// The report so far; complete once there is an [`Outcome`].
    pub fn report(&self) -> &Report {
        &self.side.report
    }
}

/// By how many syndromes a sketch is extended at least. Most pieces that fail have just a few
/// differences more than was expected.
const EXTENSION: usize = 6;

/// A piece with no more items is listed rather than cut once more.
const FEW_ITEMS: u64 = 64;

fn failed_estimate(counters: &Narrow, sums: &Sums, had: usize) -> f64 {
    counters.estimate(&sums.counters).max(had as f64)
}

/// Collects elements and cuts them into packets.
struct Out {
    count: u64,
    pieces: Vec<Piece>,
    elements: Vec<Element>,
}

impl Out {
    fn new(count: u64) -> Self {
        Self { count, pieces: Vec::new(), elements: Vec::new() }
    }

    fn push(&mut self, piece: Piece, element: Element) {
        self.pieces.push(piece);
        self.elements.push(element);
    }

    fn pop(&mut self) {
        self.pieces.pop();
        self.elements.pop();
    }

    fn finish(self, send: &mut Vec<Packet>) -> Vec<Piece> {
        let (mut elements, mut bytes) = (Vec::new(), 0);
        for element in self.elements {
            let size = match &element {
                Element::Extend(sketch) | Element::Sketch { sketch, .. } => 6 * sketch.len() + 4,
                Element::List { list, .. } => list.ids.len() * 5 / 2 + 8,
            };
            if bytes + size > PACKET_TARGET && !elements.is_empty() {
                let elements = mem::take(&mut elements);
                send.push(Packet::Pieces { count: self.count, elements, more: true });
                bytes = 0;
            }
            bytes += size;
            elements.push(element);
        }
        send.push(Packet::Pieces { count: self.count, elements, more: false });
        self.pieces
    }
}
