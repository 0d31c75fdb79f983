//! The side that was asked. He never decodes more than the opening sketch: what is costly to compute
//! is computed by her who wants to know.

use std::{collections::BTreeSet, mem};

use super::{
    Error, Fault, Limits, OPENING_SYNDROMES, Outcome, PIECE_DIFFERENCES, Packet, ROUND_PIECES,
    Report, Side, Step, View, Work,
    cost::{Link, Method, Next, choose, next},
    packet::{Element, Failure, List, MAX_LIST, Opening, PACKET_TARGET, Probe, ProbeBody, Reply},
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

/// Items in one piece of a list, about: so that it fits a packet.
const LIST_ITEMS: f64 = 8192.0;

/// What is sent in one round, about: the rest is put off to the next. A few seconds on most ways, so
/// that a round trip more does not matter, and little to keep for somebody who does not read it.
const ROUND_BYTES: usize = 4 << 20;

/// Most doubtful ids in a claim, which has to fit a packet. Of honest sets there is a doubt for every
/// few thousand wanted items; more where somebody has made items with like ids. What is not named
/// then is found by the repair.
const MAX_DOUBTFUL: usize = 4096;

/// Who answers.
#[derive(Debug)]
pub struct Answerer {
    nonce: [u8; 8],
    link: Link,
    /// See [`ROUND_BYTES`].
    round_bytes: usize,
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
        base: Base,
        round: Round,
    },
    /// She has his claim.
    Claimed {
        base: Base,
        repair: Repair,
    },
    Over,
}

/// What has been sent, and what she has said of it: each piece comes up once, in order.
#[derive(Debug, Default)]
struct Round {
    /// How many came before it.
    number: u32,
    pieces: Vec<Piece>,
    /// The first piece that she can still want something of.
    want: u64,
    /// And the first that she can still call failed.
    fail: u64,
    /// Where those are that failed, and her counters.
    failed: Vec<(usize, Narrow)>,
}

/// How far the repair is: without probes there is nothing to claim anew, and what was claimed after
/// them stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Repair {
    None,
    Probed,
    Closed,
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
    /// How many items he has in it.
    count: u64,
    /// How many syndromes she has of it; `None` for a list.
    syndromes: Option<usize>,
    extended: bool,
}

impl Answerer {
    /// `nonce` must be random, and another one in every conversation.
    pub fn new(nonce: [u8; 8], link: Link, limits: Limits) -> Self {
        let (side, work) = (Side::default(), Work::new(limits));
        Self { nonce, link, round_bytes: ROUND_BYTES, side, work, state: State::Waiting }
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
            (State::Waiting, Packet::Open(open)) => self.open(open, view, &mut send)?,
            (State::Pieces { mut base, mut round }, Packet::Want(wants)) => {
                if wants.is_empty() {
                    return Err(Fault::Empty.into());
                }
                for want in &wants {
                    let at = once(want.piece, &mut round.want, round.pieces.len())?;
                    self.want(&mut base, &round.pieces[at], &want.list, view)?;
                }
                State::Pieces { base, round }
            }
            (State::Pieces { base, mut round }, Packet::Failed { pieces, more }) => {
                if pieces.is_empty() {
                    return Err(Fault::Empty.into());
                }
                for Failure { piece, counters } in pieces {
                    let at = once(piece, &mut round.fail, round.pieces.len())?;
                    round.failed.push((at, counters));
                }
                match more {
                    true => State::Pieces { base, round },
                    false => {
                        let round = self.again(&base, round, view, &mut send)?;
                        State::Pieces { base, round }
                    }
                }
            }
            (State::Pieces { base, .. }, Packet::Close) => {
                self.claim(base, Repair::None, &mut send)?
            }
            (State::Claimed { mut base, repair: Repair::Probed }, Packet::Close) => {
                base.doubtful.clear();
                base.redundant = 0;
                self.claim(base, Repair::Closed, &mut send)?
            }
            (State::Claimed { base, repair }, Packet::Probe(probes))
                if repair != Repair::Closed =>
            {
                if probes.is_empty() {
                    return Err(Fault::Empty.into());
                }
                self.side.report.repaired = true;
                let replies = self.probed(&base, &probes, view)?;
                send.push(Packet::Differ { nonce: self.nonce, replies });
                State::Claimed { base, repair: Repair::Probed }
            }
            (State::Claimed { base, repair }, Packet::Done) if repair != Repair::Probed => {
                let all = base.sums.count.saturating_add(base.redundant);
                let both = all.saturating_sub(self.side.ours.len() as u64);
                self.side.report.theirs = base.count.saturating_sub(both);
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
        let sums = Box::new(view.sums(Span::ALL, parts, &mut self.work)?);
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
            return Ok(State::Claimed { base, repair: Repair::None });
        }
        let method = choose(estimate, base.count, base.sums.count, &self.link);
        self.side.report.method = method;
        let count = base.sums.count;
        let mut out = Out::new(count, 0, self.round_bytes);
        match method {
            Method::Lists => self.lists(Span::ALL, count, view, &mut out)?,
            _ => {
                let groups = (estimate / PIECE_DIFFERENCES).ceil().max(1.0);
                let pieces = view.pieces(Span::ALL, count as f64 / groups);
                self.sketches(&pieces, estimate, count, view, &mut out)?;
            }
        }
        let round = out.finish(0, send);
        Ok(State::Pieces { base, round })
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
        let found = view.find(&ids, ID_BITS, Span::ALL, base.sums.count, &mut self.work)?;
        let ours = BTreeSet::from_iter(found);
        let has: BTreeSet<_> = ours.iter().map(|key| ShortId::of(&key.hash)).collect();
        let ids = ids.into_iter().filter_map(ShortId::new);
        let want: Vec<_> = ids.filter(|id| !has.contains(id)).collect();
        // Both would be left with the same items, so with the same number.
        let both = base.sums.count.checked_sub(ours.len() as u64);
        if both.is_none() || both != base.count.checked_sub(want.len() as u64) {
            return Ok(None);
        }
        let common = less(base.sums.fingerprint.clone(), &ours, &mut self.work)?;
        let theirs = ours.len() as u64;
        self.side.ours = ours;
        Ok(Some(Packet::Found { theirs, want, check: common.check(&base.nonce) }))
    }

    /// Sketches pieces that together have `count` items and `estimate` differences, about.
    fn sketches<I: Items>(
        &mut self,
        pieces: &[Span],
        estimate: f64,
        count: u64,
        view: &View<'_, I>,
        out: &mut Out,
    ) -> Result<(), Error<I::Error>> {
        let Some(last) = pieces.last().map(|piece| piece.last) else { return Ok(()) };
        for piece in pieces {
            if out.is_full() {
                return self.put_off(Span { first: piece.first, last }, view, out);
            }
            let sums = view.sums(*piece, Parts::sketch(SYNDROMES), &mut self.work)?;
            let expected = estimate * sums.count as f64 / count.max(1) as f64;
            out.sketch(*piece, &sums, syndromes_for(expected));
        }
        Ok(())
    }

    /// Lists the items of a run, `count` of them.
    fn lists<I: Items>(
        &mut self,
        span: Span,
        count: u64,
        view: &View<'_, I>,
        out: &mut Out,
    ) -> Result<(), Error<I::Error>> {
        let parts = (count as f64 / LIST_ITEMS).ceil().max(1.0);
        // The next one at the end.
        let mut todo = view.pieces(span, count as f64 / parts);
        todo.reverse();
        while let Some(piece) = todo.pop() {
            if out.is_full() {
                return self.put_off(Span { first: piece.first, last: span.last }, view, out);
            }
            let count = view.sums(piece, Parts::COUNT, &mut self.work)?.count;
            if count > MAX_LIST as u64 {
                // Of a single place nobody has that many who has not made them for it.
                if piece.first == piece.last {
                    return Err(Fault::Work.into());
                }
                todo.extend(piece.even(16).into_iter().rev());
                continue;
            }
            let bits = match count {
                0 => ID_BITS,
                _ => ((count + 1).ilog2() + 1 + LIST_BITS).min(ID_BITS),
            };
            let mut ids = Vec::new();
            view.read(piece, count, &mut self.work, &mut |key| {
                ids.push(ShortId::of(&key.hash).suffix(bits));
            })?;
            ids.sort_unstable();
            out.list(piece, List { bits, ids });
        }
        Ok(())
    }

    /// Says next to nothing of a run, so that she asks again: with no spare syndrome it can only be
    /// decoded if nothing differs.
    fn put_off<I: Items>(
        &mut self,
        span: Span,
        view: &View<'_, I>,
        out: &mut Out,
    ) -> Result<(), Error<I::Error>> {
        let sums = view.sums(span, Parts::sketch(1), &mut self.work)?;
        out.sketch(span, &sums, 1);
        Ok(())
    }

    fn want<I: Items>(
        &mut self,
        base: &mut Base,
        piece: &Piece,
        list: &List,
        view: &View<'_, I>,
    ) -> Result<(), Error<I::Error>> {
        let List { bits, ids } = list;
        let listed = piece.syndromes.is_none();
        let short = |key: &AspectKey| match ShortId::of(&key.hash) {
            id if listed => id.suffix(*bits),
            id => id.prefix(*bits),
        };
        let mut found = Vec::new();
        if listed {
            view.read(piece.span, piece.count, &mut self.work, &mut |key| {
                found.extend(ids.binary_search(&short(key)).is_ok().then_some(*key));
            })?;
        } else {
            found = view.find(ids, *bits, piece.span, piece.count, &mut self.work)?;
        }
        // Several items may have the same bits.
        found.sort_unstable_by_key(short);
        for alike in found.chunk_by(|a, b| short(a) == short(b)) {
            let id = short(&alike[0]);
            let wanted = ids.partition_point(|i| *i <= id) - ids.partition_point(|i| *i < id);
            if alike.len() > wanted {
                base.redundant += (alike.len() - wanted) as u64;
                let room = MAX_DOUBTFUL - base.doubtful.len();
                let ids = alike.iter().map(|key| ShortId::of(&key.hash));
                base.doubtful.extend(ids.take(room));
            }
        }
        self.side.ours.extend(found);
        Ok(())
    }

    /// More about the pieces that could not be decoded.
    fn again<I: Items>(
        &mut self,
        base: &Base,
        round: Round,
        view: &View<'_, I>,
        send: &mut Vec<Packet>,
    ) -> Result<Round, Error<I::Error>> {
        let mut out = Out::new(base.sums.count, round.failed.len(), self.round_bytes);
        let round_trip = self.link.round_trip / round.failed.len() as f64;
        // What is close together is in a few of the first pieces.
        let even = round.number == 0 && round.failed.len() > 3;
        for (at, counters) in round.failed {
            out.waiting -= 1;
            let piece = &round.pieces[at];
            // A list always settles its piece.
            let had = piece.syndromes.ok_or(Fault::NoSuchPiece)?;
            if out.is_full() {
                self.put_off(piece.span, view, &mut out)?;
                continue;
            }
            let sums = view.sums(piece.span, Parts::sketch(SYNDROMES), &mut self.work)?;
            // That it failed says that there are at least as many as there were syndromes.
            let estimate = counters.estimate(&sums.counters).max(had as f64);
            let extensible = (!piece.extended).then_some(had);
            match next(estimate, sums.count, extensible, even, round_trip, &self.link) {
                Next::Extend(syndromes) => out.extension(piece.span, &sums, had, syndromes),
                Next::List => self.lists(piece.span, sums.count, view, &mut out)?,
                Next::Cut(parts) => match view.pieces(piece.span, sums.count as f64 / parts) {
                    // All of it lies between two cuts.
                    pieces if pieces.len() == 1 => {
                        self.lists(piece.span, sums.count, view, &mut out)?;
                    }
                    pieces => self.sketches(&pieces, estimate, sums.count, view, &mut out)?,
                },
            }
        }
        Ok(out.finish(round.number.saturating_add(1), send))
    }

    fn claim(
        &mut self,
        mut base: Base,
        repair: Repair,
        send: &mut Vec<Packet>,
    ) -> Result<State, Fault> {
        let common = less(base.sums.fingerprint.clone(), &self.side.ours, &mut self.work)?;
        base.doubtful.sort_unstable();
        base.doubtful.dedup();
        self.side.report.redundant = base.redundant;
        send.push(Packet::Claim {
            theirs: self.side.ours.len() as u64,
            doubtful: mem::take(&mut base.doubtful),
            check: common.check(&base.nonce),
        });
        Ok(State::Claimed { base, repair })
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
            replies.push(match body {
                ProbeBody::Check(check) => {
                    let ours = &self.side.ours;
                    match view.check(*span, ours, &base.nonce, &mut self.work)? == *check {
                        true => Reply::Same,
                        false => Reply::Differs,
                    }
                }
                ProbeBody::Salted(list) => {
                    let count = view.sums(*span, Parts::COUNT, &mut self.work)?.count;
                    self.work.read(list.len() as u64)?;
                    let mut lacks: BTreeSet<(u64, u64)> = list.iter().copied().zip(0..).collect();
                    let mut ours = Vec::new();
                    view.read(*span, count, &mut self.work, &mut |key| {
                        let id = salt.id(key);
                        let same = lacks.range((id, 0)..=(id, u64::MAX)).next().copied();
                        match same {
                            Some(same) => drop(lacks.remove(&same)),
                            None => ours.push(*key),
                        }
                    })?;
                    self.side.forget(*span);
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

/// Where a piece is that comes up, none before `next` may any more.
fn once(piece: u64, next: &mut u64, pieces: usize) -> Result<usize, Fault> {
    let at = usize::try_from(piece).ok().filter(|at| piece >= *next && *at < pieces);
    *next = piece.saturating_add(1);
    at.ok_or(Fault::NoSuchPiece)
}

/// Collects elements and puts them into packets.
struct Out {
    count: u64,
    pieces: Vec<Piece>,
    /// How many open pieces nothing was said of yet: each takes an element at least.
    waiting: usize,
    elements: Vec<Element>,
    bytes: usize,
    sent: Vec<Packet>,
    /// How many bytes there are in it, and how many may be.
    sent_bytes: usize,
    most_bytes: usize,
}

impl Out {
    fn new(count: u64, waiting: usize, most_bytes: usize) -> Self {
        let (pieces, elements, sent) = (Vec::new(), Vec::new(), Vec::new());
        Self { count, pieces, waiting, elements, bytes: 0, sent, sent_bytes: 0, most_bytes }
    }

    /// Whether all that comes now is put off.
    fn is_full(&self) -> bool {
        let pieces = self.pieces.len() + self.waiting;
        self.sent_bytes + self.bytes >= self.most_bytes || pieces as u64 + 1 >= ROUND_PIECES
    }

    fn sketch(&mut self, span: Span, sums: &Sums, syndromes: usize) {
        let sketch = Sketch::prefix(&sums.syndromes, syndromes);
        let syndromes = Some(sketch.len());
        let piece = Piece { span, count: sums.count, syndromes, extended: false };
        let size = 6 * sketch.len() + 4;
        self.push(piece, Element::Sketch { last: span.last, sketch }, size);
    }

    /// From `had` syndromes to `syndromes`.
    fn extension(&mut self, span: Span, sums: &Sums, had: usize, syndromes: usize) {
        let sketch = Sketch::prefix(&sums.syndromes[had..], syndromes - had);
        let syndromes = Some(had + sketch.len());
        let piece = Piece { span, count: sums.count, syndromes, extended: true };
        let size = 6 * sketch.len() + 4;
        self.push(piece, Element::Extend(sketch), size);
    }

    fn list(&mut self, span: Span, list: List) {
        let count = list.ids.len() as u64;
        let piece = Piece { span, count, syndromes: None, extended: false };
        let size = List::size(list.ids.len());
        self.push(piece, Element::List { last: span.last, list }, size);
    }

    fn push(&mut self, piece: Piece, element: Element, size: usize) {
        if self.bytes + size > PACKET_TARGET && !self.elements.is_empty() {
            self.flush(true);
        }
        self.bytes += size;
        self.pieces.push(piece);
        self.elements.push(element);
    }

    fn flush(&mut self, more: bool) {
        let elements = mem::take(&mut self.elements);
        self.sent.push(Packet::Pieces { count: self.count, elements, more });
        self.sent_bytes += mem::take(&mut self.bytes);
    }

    fn finish(mut self, number: u32, send: &mut Vec<Packet>) -> Round {
        self.flush(false);
        send.append(&mut self.sent);
        Round { number, pieces: self.pieces, ..Round::default() }
    }
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use super::{super::Opener, *};
    use crate::{
        id::AspectHash,
        reconcile::{Place, Sectors},
        ring::{ArcSet, Location},
    };

    fn item(n: u64) -> AspectKey {
        let hash = *blake3::hash(&n.to_le_bytes()).as_bytes();
        AspectKey {
            location: Location((n as u32).wrapping_mul(0x9e37_79b1)),
            hash: AspectHash(hash),
        }
    }

    fn sectors(set: &BTreeSet<AspectKey>) -> Sectors {
        let mut sectors = Sectors::new();
        set.iter().for_each(|key| sectors.insert(key));
        let Ok(()) = sectors.settle(set);
        sectors
    }

    /// What does not go into one round goes into the next ones.
    #[test]
    fn rounds_are_bounded() -> Result<(), Error<Infallible>> {
        let arcs = ArcSet::full();
        for (common, only, slow) in [(100, 3000, false), (9000, 40, true)] {
            let a: BTreeSet<_> = (0..common).chain(20_000..20_000 + only).map(item).collect();
            let b: BTreeSet<_> = (0..common).chain(40_000..40_000 + only * 10).map(item).collect();
            let (sa, sb) = (sectors(&a), sectors(&b));
            let hers = View { sectors: &sa, items: &a, arcs: &arcs };
            let his = View { sectors: &sb, items: &b, arcs: &arcs };
            let (mut she, mut open) = Opener::new([1; 8], Limits::default(), &hers)?;
            if let Packet::Open(open) = &mut open {
                open.sketch = Sketch::new(0);
            }
            let bytes_per_second = if slow { 1e4 } else { 1e9 };
            let link = Link { round_trip: 0.0, bytes_per_second };
            let mut he = Answerer::new([2; 8], link, Limits::default());
            he.round_bytes = 2000;
            let mut to_him = vec![open];
            let (mut from_her, mut from_him) = (None, None);
            while !to_him.is_empty() {
                let mut to_her = Vec::new();
                for packet in to_him.drain(..) {
                    let step = he.handle(packet, &his)?;
                    // One list, at most, is begun below the limit.
                    let bytes: usize = step.send.iter().map(|packet| packet.encode().len()).sum();
                    assert!(bytes < 2000 + 30_000, "{bytes}");
                    to_her.extend(step.send);
                    from_him = from_him.or(step.outcome);
                }
                for packet in to_her {
                    let step = she.handle(packet, &hers)?;
                    to_him.extend(step.send);
                    from_her = from_her.or(step.outcome);
                }
            }
            let only_a: BTreeSet<_> = a.difference(&b).copied().collect();
            let only_b: BTreeSet<_> = b.difference(&a).copied().collect();
            let (Some(Outcome::Send(hers)), Some(Outcome::Send(his))) = (from_her, from_him) else {
                panic!("they do not agree")
            };
            assert!(hers.is_superset(&only_a) && hers.len() <= only_a.len() + 5);
            assert!(his.is_superset(&only_b) && his.len() <= only_b.len() + 5);
            assert!(she.report().turns > 3 && !she.report().repaired, "{:?}", she.report());
        }
        Ok(())
    }

    #[test]
    fn pieces_of_a_round_are_bounded() {
        let waiting = 1 << 12;
        let mut out = Out::new(0, waiting, usize::MAX);
        let piece = |at: u64| Span { first: Place(at), last: Place(at) };
        let mut put = 0..;
        let mut sketch = |out: &mut Out| {
            out.sketch(piece(put.next().unwrap_or_default()), &Sums::ZERO, 2);
        };
        for _ in 0..waiting {
            out.waiting -= 1;
            // As many as anybody may want, and the rest of it.
            for _ in 0..100 {
                if out.is_full() {
                    break;
                }
                sketch(&mut out);
            }
            sketch(&mut out);
        }
        assert_eq!(out.pieces.len() as u64, ROUND_PIECES);
    }
}
