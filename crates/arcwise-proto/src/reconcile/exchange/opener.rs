//! The side that asks: she decodes, says what she lacks, and sees to it that the end is right.

use std::{collections::BTreeSet, mem};

use super::{
    Error, Fault, Limits, OPENING_SYNDROMES, Outcome, Packet, ROUND_PIECES, Report, Side, Step,
    View, Work,
    cost::Method,
    packet::{
        Element, FAILED_COUNTERS, Failure, List, Opening, PACKET_TARGET, Probe, ProbeBody, Reply,
        Wants,
    },
    view::{Salt, less},
};
use crate::{
    aspect::AspectKey,
    reconcile::{
        Items, Parts, Place, ShortId, Sketch, Span, Sums, estimate::Narrow, fingerprint::Check,
        item::ID_BITS, sums::SYNDROMES,
    },
};

/// Bits by which the ids she asks with are longer than it takes to number the items of the piece: of
/// about 6000 wanted items one has a double there, which is sent in vain.
const WANT_BITS: u32 = 12;

/// Into how many parts a run is cut in which something differs.
const PROBE_PARTS: u64 = 16;

/// And into how many at first.
const FIRST_PARTS: u64 = 64;

/// A run with no more items is listed.
const PROBE_ITEMS: u64 = 128;

/// Most items in such a list: only of a single place are there ever more.
const MAX_SALTED: u64 = 4096;

/// Who asks.
#[derive(Debug)]
pub struct Opener {
    nonce: [u8; 8],
    sums: Box<Sums>,
    side: Side,
    work: Work,
    state: State,
    /// What she lacks, from sketches.
    wanted: Vec<ShortId>,
}

#[derive(Debug)]
enum State {
    Opened,
    Round(Round),
    /// Everything is settled as far as she knows; his claim is due.
    Closed {
        repaired: bool,
    },
    Probing {
        todo: Vec<Span>,
        sent: Vec<Probing>,
    },
    Over,
}

/// Pieces, as they come in.
#[derive(Debug, Default)]
struct Round {
    /// Those that were open before this round, ascending.
    open: Vec<Piece>,
    /// Which of them is being answered, and from which place on.
    at: usize,
    next: Option<Place>,
    /// How many pieces there are in this round so far, and which of them could not be decoded.
    pieces: u64,
    failed: Vec<(u64, Piece)>,
    wants: Vec<Wants>,
    wants_bytes: usize,
}

#[derive(Debug)]
struct Piece {
    span: Span,
    /// Of the difference; `None` where nothing was sent yet.
    sketch: Option<Sketch>,
}

#[derive(Debug)]
enum Probing {
    Check(Span),
    List(Span, Vec<AspectKey>),
}

impl Opener {
    /// Begins a conversation: the packet goes first. `nonce` must be random, and another one in every
    /// conversation.
    ///
    /// # Errors
    /// Where the store cannot be read.
    pub fn new<I: Items>(
        nonce: [u8; 8],
        limits: Limits,
        view: &View<'_, I>,
    ) -> Result<(Self, Packet), Error<I::Error>> {
        let parts = Parts { syndromes: OPENING_SYNDROMES, fingerprint: true };
        // That is not the peer's doing.
        let mut free = Work::new(Limits { work: u64::MAX });
        let sums = Box::new(view.sums(Span::ALL, parts, &mut free)?);
        let packet = Packet::Open(Opening {
            nonce,
            count: sums.count,
            check: sums.fingerprint.check(&nonce),
            counters: sums.counters.narrow(64, Narrow::bits_for(sums.count)),
            sketch: Sketch::prefix(&sums.syndromes, OPENING_SYNDROMES),
        });
        let mut side = Side::default();
        side.sent(std::slice::from_ref(&packet));
        let work = Work::new(limits);
        let this = Self { nonce, sums, side, work, state: State::Opened, wanted: Vec::new() };
        Ok((this, packet))
    }

    /// Takes a packet of the answerer's.
    ///
    /// # Errors
    /// Where it is not one that may come now, the store cannot be read, or the work is more than the
    /// limits allow. The conversation is over then, and the sets are to be compared by plain lists.
    pub fn handle<I: Items>(
        &mut self,
        packet: Packet,
        view: &View<'_, I>,
    ) -> Result<Step, Error<I::Error>> {
        let step = self.take(packet, view);
        self.side.report.work = self.work.spent;
        step
    }

    fn take<I: Items>(
        &mut self,
        packet: Packet,
        view: &View<'_, I>,
    ) -> Result<Step, Error<I::Error>> {
        self.work.packet()?;
        self.side.received(&packet);
        let state = mem::replace(&mut self.state, State::Over);
        let mut send = Vec::new();
        self.state = match (state, packet) {
            (State::Opened, Packet::Same) => {
                self.side.report.method = Method::Same;
                self.side.finish();
                State::Over
            }
            (State::Opened, Packet::Stream { count }) => self.stream(count)?,
            (State::Opened, Packet::Found { theirs, want, check }) => {
                self.side.report.method = Method::Opening;
                self.side.ours = self.find(&want, view)?;
                self.claimed(theirs, &[], check, false, view, &mut send)?
            }
            (State::Opened, Packet::Pieces { count, elements, more }) => {
                self.side.report.method = match elements.first() {
                    Some(Element::List { .. }) => Method::Lists,
                    _ => Method::Sketches,
                };
                let all = Piece { span: Span::ALL, sketch: None };
                let round = Round { open: vec![all], ..Round::default() };
                self.pieces(round, count, elements, more, view, &mut send)?
            }
            (State::Round(round), Packet::Pieces { count, elements, more }) => {
                self.pieces(round, count, elements, more, view, &mut send)?
            }
            (State::Closed { repaired }, Packet::Claim { theirs, doubtful, check }) => {
                self.claimed(theirs, &doubtful, check, repaired, view, &mut send)?
            }
            (State::Probing { todo, sent }, Packet::Differ { nonce, replies }) => {
                let todo = self.differ(todo, sent, replies, view)?;
                let salt = Salt::new(self.nonce, nonce);
                self.probe(todo, Some(salt), view, &mut send)?
            }
            _ => return Err(Fault::Unexpected.into()),
        };
        Ok(self.side.step(send))
    }

    fn stream<E>(&mut self, count: u64) -> Result<State, Error<E>> {
        self.side.report.method = Method::Stream;
        self.side.report.theirs = count;
        self.side.outcome = Some(match (self.sums.count, count) {
            (0, 1..) => Outcome::TakeAll,
            (1.., 0) => Outcome::SendAll,
            _ => return Err(Fault::Unexpected.into()),
        });
        Ok(State::Over)
    }

    /// Her items with these ids, wherever they are.
    fn find<I: Items>(
        &mut self,
        ids: &[ShortId],
        view: &View<'_, I>,
    ) -> Result<BTreeSet<AspectKey>, Error<I::Error>> {
        let mut ids: Vec<u64> = ids.iter().map(|id| id.get()).collect();
        ids.sort_unstable();
        let found = view.find(&ids, ID_BITS, Span::ALL, self.sums.count, &mut self.work)?;
        Ok(BTreeSet::from_iter(found))
    }

    fn pieces<I: Items>(
        &mut self,
        mut round: Round,
        count: u64,
        elements: Vec<Element>,
        more: bool,
        view: &View<'_, I>,
        send: &mut Vec<Packet>,
    ) -> Result<State, Error<I::Error>> {
        if elements.is_empty() {
            return Err(Fault::Empty.into());
        }
        for element in elements {
            let Some(wants) = self.element(&mut round, element, count, view)? else { continue };
            let size = List::size(wants.list.ids.len());
            if round.wants_bytes + size > PACKET_TARGET && !round.wants.is_empty() {
                round.wants_bytes = 0;
                send.push(Packet::Want(mem::take(&mut round.wants)));
            }
            round.wants_bytes += size;
            round.wants.push(wants);
        }
        if more {
            return Ok(State::Round(round));
        }
        if round.at < round.open.len() || round.next.is_some() {
            return Err(Fault::Incomplete.into());
        }
        if !round.wants.is_empty() {
            send.push(Packet::Want(mem::take(&mut round.wants)));
        }
        if round.failed.is_empty() {
            send.push(Packet::Close);
            return Ok(State::Closed { repaired: false });
        }
        let mut pieces = Vec::new();
        for (piece, Piece { span, .. }) in &round.failed {
            let sums = view.sums(*span, Parts::COUNT, &mut self.work)?;
            let bits = Narrow::bits_for(sums.count);
            let counters = sums.counters.narrow(FAILED_COUNTERS, bits);
            pieces.push(Failure { piece: *piece, counters });
        }
        let mut chunks = pieces.chunks(PACKET_TARGET / 32).peekable();
        while let Some(chunk) = chunks.next() {
            send.push(Packet::Failed { pieces: chunk.to_vec(), more: chunks.peek().is_some() });
        }
        let open = round.failed.into_iter().map(|(_, piece)| piece).collect();
        Ok(State::Round(Round { open, ..Round::default() }))
    }

    fn element<I: Items>(
        &mut self,
        round: &mut Round,
        element: Element,
        count: u64,
        view: &View<'_, I>,
    ) -> Result<Option<Wants>, Error<I::Error>> {
        let open = round.open.get_mut(round.at).ok_or(Fault::NoSuchPiece)?;
        let number = round.pieces;
        round.pieces += 1;
        if round.pieces > ROUND_PIECES {
            return Err(Fault::TooMany.into());
        }
        let (span, body) = match element {
            Element::Extend(mut more) => {
                let span = open.span;
                let mut sketch = open.sketch.take().ok_or(Fault::NoSuchPiece)?;
                let (had, has) = (sketch.len(), sketch.len() + more.len());
                if round.next.is_some() || has > SYNDROMES {
                    return Err(Fault::NoSuchPiece.into());
                }
                if more.is_empty() {
                    return Err(Fault::Empty.into());
                }
                let sums = view.sums(span, Parts::sketch(has), &mut self.work)?;
                more.merge(&sums.syndromes[had..has]);
                sketch.extend(more.syndromes());
                (span, Ok((sketch, sums.count)))
            }
            Element::Sketch { last, mut sketch } => {
                let span = advance(round, last)?;
                let sums = view.sums(span, Parts::sketch(sketch.len()), &mut self.work)?;
                sketch.merge(&sums.syndromes[..sketch.len()]);
                (span, Ok((sketch, sums.count)))
            }
            Element::List { last, list } => (advance(round, last)?, Err(list)),
        };
        if round.open[round.at].span.last == span.last {
            round.at += 1;
            round.next = None;
        }
        let list = match body {
            Ok((sketch, held)) => {
                self.work.decode(sketch.len())?;
                let Some(ids) = sketch.decode(1) else {
                    round.failed.push((number, Piece { span, sketch: Some(sketch) }));
                    return Ok(None);
                };
                self.decoded(ids, span, count.max(self.sums.count), held, view)?
            }
            Err(list) => self.listed(list, span, view)?,
        };
        Ok((!list.ids.is_empty()).then_some(Wants { piece: number, list }))
    }

    /// What she lacks of a piece that was decoded; the rest is hers.
    fn decoded<I: Items>(
        &mut self,
        mut ids: Vec<u64>,
        span: Span,
        total: u64,
        held: u64,
        view: &View<'_, I>,
    ) -> Result<List, Error<I::Error>> {
        // Ascending, as they were decoded.
        let found = view.find(&ids, ID_BITS, span, held, &mut self.work)?;
        let ours: BTreeSet<u64> = found.iter().map(|key| ShortId::of(&key.hash).get()).collect();
        ids.retain(|id| !ours.contains(id));
        self.side.ours.extend(found);
        // He has about as many items in the piece as she has, unless it is a small one.
        let like = (held + held / 4 + 32).min(total.max(1));
        let bits = (span.fixed_bits() + like.ilog2() + 1 + WANT_BITS).min(ID_BITS);
        let lacks = ids.into_iter().filter_map(ShortId::new);
        let at = self.wanted.len();
        self.wanted.extend(lacks);
        let ids = self.wanted[at..].iter().map(|id| id.prefix(bits)).collect();
        Ok(List { bits, ids })
    }

    /// What of a list she lacks; what is not in the list is hers.
    fn listed<I: Items>(
        &mut self,
        list: List,
        span: Span,
        view: &View<'_, I>,
    ) -> Result<List, Error<I::Error>> {
        let count = view.sums(span, Parts::COUNT, &mut self.work)?.count;
        self.work.read(list.ids.len() as u64)?;
        let mut held = Vec::new();
        let short = |key: &AspectKey| ShortId::of(&key.hash).suffix(list.bits);
        view.read(span, count, &mut self.work, &mut |key| held.push((short(key), *key)))?;
        held.sort_unstable();
        let mut held = held.chunk_by(|a, b| a.0 == b.0).peekable();
        let mut lacks = Vec::new();
        for theirs in list.ids.chunk_by(PartialEq::eq) {
            while let Some(ours) = held.next_if(|ours| ours[0].0 < theirs[0]) {
                self.side.ours.extend(ours.iter().map(|(_, key)| *key));
            }
            // Where the numbers are not the same, nobody knows which of them are common: all go over.
            match held.next_if(|ours| ours[0].0 == theirs[0]) {
                Some(ours) if ours.len() == theirs.len() => {}
                ours => {
                    self.side.ours.extend(ours.into_iter().flatten().map(|(_, key)| *key));
                    lacks.extend_from_slice(theirs);
                }
            }
        }
        self.side.ours.extend(held.flatten().map(|(_, key)| *key));
        Ok(List { bits: list.bits, ids: lacks })
    }

    /// Compares his claim with what she thinks.
    fn claimed<I: Items>(
        &mut self,
        theirs: u64,
        doubtful: &[ShortId],
        check: Check,
        repaired: bool,
        view: &View<'_, I>,
        send: &mut Vec<Packet>,
    ) -> Result<State, Error<I::Error>> {
        let common = less(self.sums.fingerprint.clone(), &self.side.ours, &mut self.work)?;
        // He will send these, though she has them.
        self.wanted.sort_unstable();
        let doubtful: Vec<ShortId> =
            doubtful.iter().filter(|id| self.wanted.binary_search(id).is_err()).copied().collect();
        let mut known = self.find(&doubtful, view)?;
        known.retain(|key| !self.side.ours.contains(key));
        let common = less(common, &known, &mut self.work)?;
        let redundant = known.len() as u64;
        self.side.report.theirs = theirs.saturating_sub(redundant);
        self.side.report.redundant = redundant;
        if common.check(&self.nonce) == check {
            send.push(Packet::Done);
            self.side.finish();
            return Ok(State::Over);
        }
        if repaired {
            return Err(Fault::Disagrees.into());
        }
        self.side.report.repaired = true;
        let aim = self.sums.count as f64 / FIRST_PARTS as f64;
        let mut todo = view.pieces(Span::ALL, aim);
        todo.reverse();
        self.probe(todo, None, view, send)
    }

    /// Sends as many probes as fit a packet, from the end of `todo`, which is descending; without a
    /// salt, checks only.
    fn probe<I: Items>(
        &mut self,
        mut todo: Vec<Span>,
        salt: Option<Salt>,
        view: &View<'_, I>,
        send: &mut Vec<Packet>,
    ) -> Result<State, Error<I::Error>> {
        let (mut probes, mut sent, mut bytes) = (Vec::new(), Vec::new(), 0);
        while bytes < PACKET_TARGET
            && let Some(span) = todo.pop()
        {
            let count = view.sums(span, Parts::COUNT, &mut self.work)?.count;
            match salt.filter(|_| count <= PROBE_ITEMS || span.first == span.last) {
                Some(_) if count > MAX_SALTED => return Err(Fault::Work.into()),
                Some(salt) => {
                    let mut keys = Vec::new();
                    view.read(span, count, &mut self.work, &mut |key| keys.push(*key))?;
                    bytes += 8 + 8 * keys.len();
                    let ids = keys.iter().map(|key| salt.id(key)).collect();
                    probes.push(Probe { span, body: ProbeBody::Salted(ids) });
                    sent.push(Probing::List(span, keys));
                }
                None => {
                    bytes += 24;
                    let check = view.check(span, &self.side.ours, &self.nonce, &mut self.work)?;
                    probes.push(Probe { span, body: ProbeBody::Check(check) });
                    sent.push(Probing::Check(span));
                }
            }
        }
        Ok(if probes.is_empty() {
            send.push(Packet::Close);
            State::Closed { repaired: true }
        } else {
            send.push(Packet::Probe(probes));
            State::Probing { todo, sent }
        })
    }

    /// Takes replies to probes; what is to be probed next comes before the rest of `todo`.
    fn differ<I: Items>(
        &mut self,
        mut todo: Vec<Span>,
        sent: Vec<Probing>,
        replies: Vec<Reply>,
        view: &View<'_, I>,
    ) -> Result<Vec<Span>, Error<I::Error>> {
        if sent.len() != replies.len() {
            return Err(Fault::Incomplete.into());
        }
        for (probing, reply) in sent.into_iter().zip(replies).rev() {
            match (probing, reply) {
                (Probing::Check(_), Reply::Same) => {}
                (Probing::Check(span), Reply::Differs) => {
                    let count = view.sums(span, Parts::COUNT, &mut self.work)?.count;
                    let mut parts = match count <= PROBE_ITEMS {
                        true => vec![span],
                        false => view.pieces(span, count as f64 / PROBE_PARTS as f64),
                    };
                    if parts.len() == 1 && count > PROBE_ITEMS {
                        parts = span.even(PROBE_PARTS);
                    }
                    parts.reverse();
                    todo.extend(parts);
                }
                (Probing::List(span, keys), Reply::Lacks { positions, .. }) => {
                    self.side.forget(span);
                    for position in positions {
                        let key = usize::try_from(position).ok().and_then(|at| keys.get(at));
                        self.side.ours.insert(*key.ok_or(Fault::NoSuchPiece)?);
                    }
                }
                _ => return Err(Fault::Unexpected.into()),
            }
        }
        Ok(todo)
    }

    /// The report so far; complete once there is an [`Outcome`].
    pub fn report(&self) -> &Report {
        &self.side.report
    }
}

/// The next piece of the one that is being answered, up to `last`.
fn advance(round: &mut Round, last: Place) -> Result<Span, Fault> {
    let open = round.open[round.at].span;
    let first = round.next.unwrap_or(open.first);
    if last < first || last > open.last {
        return Err(Fault::NoSuchPiece);
    }
    round.next = Some(Place(last.0.wrapping_add(1)));
    Ok(Span { first, last })
}
