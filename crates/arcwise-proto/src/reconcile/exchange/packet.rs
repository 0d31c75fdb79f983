//! What the two ends say to each other, and how it is written.
//!
//! A packet is a tag of one byte and its fields. Numbers are varints unless it says otherwise (seven
//! bits a byte, lowest first); narrower fields are packed bit by bit from the lowest bit of each byte
//! upwards, and what comes after them begins with a whole byte.

use crate::reconcile::{
    Place, ShortId, Sketch, Span,
    bits::{Reader, Writer},
    estimate::{COUNTERS, Narrow},
    field,
    fingerprint::Check,
    item::ID_BITS,
    sums::SYNDROMES,
};

/// A side puts no more into one packet than about this many bytes, and sends several instead: below
/// the limit of a frame, with room for what is around it.
pub const PACKET_TARGET: usize = 32 << 10;

/// Most numbers in one list: what fits a packet, with room to spare.
pub(super) const MAX_LIST: usize = 1 << 14;

/// And in all lists of one packet, so that a packet of single bits is not read into megabytes.
const MAX_LISTED: usize = 2 * MAX_LIST;

/// Most counters in a report of failure.
pub(super) const FAILED_COUNTERS: usize = 16;

/// Something that one end says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Packet {
    /// Opener, first: her set in short.
    Open(Opening),
    /// Answerer: his set is the same.
    Same,
    /// Answerer: one of the sets is empty, so the other one is to be sent as it is.
    Stream {
        /// How many items he holds.
        count: u64,
    },
    /// Answerer: he has decoded the difference.
    Found {
        /// How many items he holds and she lacks.
        theirs: u64,
        /// What he lacks.
        want: Vec<ShortId>,
        /// Of the items that both hold, if he is right.
        check: Check,
    },
    /// Answerer: sketches or lists of pieces, for every piece that is open, in order. Several packets
    /// where there is much.
    Pieces {
        /// How many items he holds.
        count: u64,
        /// What about them.
        elements: Vec<Element>,
        /// Whether another packet of them follows.
        more: bool,
    },
    /// Opener: what she lacks. Any number of packets before [`Packet::Failed`] or [`Packet::Close`].
    Want(Vec<Wants>),
    /// Opener: these of the pieces could not be decoded; the others are settled. Any number of
    /// packets, of which the last has `more` unset.
    Failed {
        /// Which, ascending.
        pieces: Vec<Failure>,
        /// Whether another packet of them follows.
        more: bool,
    },
    /// Opener: everything is settled.
    Close,
    /// Answerer: what he makes of it.
    Claim {
        /// How many items he holds and she asked for.
        theirs: u64,
        /// Of these, the ones that share the bits that she asked with: one or more of them she holds
        /// already. Not all, where there are very many.
        doubtful: Vec<ShortId>,
        /// Of the items that both hold, if all is right.
        check: Check,
    },
    /// Opener, where the checks differ: to find out where. Ascending, and none overlap.
    Probe(Vec<Probe>),
    /// Answerer: one reply for each probe.
    Differ {
        /// His share in the salt of lists.
        nonce: [u8; 8],
        /// In the order of the probes.
        replies: Vec<Reply>,
    },
    /// Opener: the checks agree; it is over.
    Done,
}

/// A set in short.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Opening {
    /// Random bytes: the opener's share in the salt, and what all checks are made with.
    pub nonce: [u8; 8],
    /// How many items.
    pub count: u64,
    /// Of the whole set.
    pub check: Check,
    /// All 64, of [`Narrow::bits_for`]`(count)` bits.
    pub counters: Narrow,
    /// Of the whole set.
    pub sketch: Sketch,
}

/// What the answerer says about an open piece. The pieces that take the place of an open one follow
/// each other; each begins after the one before, and the last of them ends where that ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Element {
    /// The next syndromes of the piece: it stays as it is.
    Extend(Sketch),
    /// A piece that takes its place, up to and including `last`, and its sketch.
    Sketch {
        /// Where it ends.
        last: Place,
        /// Of his items in it.
        sketch: Sketch,
    },
    /// The same, with a list.
    List {
        /// Where it ends.
        last: Place,
        /// Of his items in it.
        list: List,
    },
}

/// The ids of some items, shortened.
///
/// To the last bits, in the answerer's lists and in what the opener wants of these: in a part of one
/// location it is the first bits that all items have in common. To the first bits, in what the opener
/// wants of other pieces: these can be looked up.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct List {
    /// How many bits of each id: 1 to 48.
    pub bits: u32,
    /// The numbers that these bits are, ascending; the same number may occur several times.
    pub ids: Vec<u64>,
}

/// Items of one piece that the opener lacks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wants {
    /// Which piece, counted from 0 in the order of the answerer's elements. Ascending in a packet.
    pub piece: u64,
    /// Enough bits of their ids to tell them from the others in the piece, mostly.
    pub list: List,
}

/// A piece that could not be decoded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// Which piece, counted from 0 in the order of the answerer's elements.
    pub piece: u64,
    /// The first of the opener's counters of it.
    pub counters: Narrow,
}

/// A run of places in which something differs that was thought to be the same.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Probe {
    /// Which one.
    pub span: Span,
    /// What is in it.
    pub body: ProbeBody,
}

/// What is said about a run of places.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ProbeBody {
    /// Of the items in it that both hold, if all is right.
    Check(Check),
    /// Salted 64-bit ids of all the opener's items in it, in the order of the items.
    Salted(Vec<u64>),
}

/// What the answerer says to a probe.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reply {
    /// His check is the same.
    Same,
    /// His check is another.
    Differs,
    /// To a list: the positions in it, from 0, of what he lacks, and how many items he holds that are
    /// not in it. Ascending.
    Lacks {
        /// What he lacks.
        positions: Vec<u64>,
        /// How many she lacks.
        theirs: u64,
    },
}

impl Packet {
    /// The bytes.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Writer::new();
        match self {
            Packet::Open(open) => {
                out.put(0, 8);
                out.raw(&open.nonce);
                out.varint(open.count);
                out.raw(&open.check.0);
                out.put(open.sketch.len() as u64, 8);
                out.raw(&open.sketch.to_bytes());
                open.counters.encode(&mut out);
            }
            Packet::Same => out.put(1, 8),
            Packet::Stream { count } => {
                out.put(2, 8);
                out.varint(*count);
            }
            Packet::Found { theirs, want, check } => {
                out.put(3, 8);
                out.varint(*theirs);
                ids(want, &mut out);
                out.raw(&check.0);
            }
            Packet::Pieces { count, elements, more } => {
                out.put(if *more { 5 } else { 4 }, 8);
                out.varint(*count);
                let lasts = elements.iter().filter_map(Element::last);
                let mut ends = Ends::over(lasts);
                out.varint(elements.len() as u64);
                out.put(u64::from(ends.shift), 8);
                elements.iter().for_each(|element| element.encode(&mut ends, &mut out));
            }
            Packet::Want(wants) => {
                out.put(6, 8);
                out.varint(wants.len() as u64);
                let mut next = 0;
                for want in wants {
                    out.varint(want.piece - next);
                    next = want.piece + 1;
                    want.list.encode(&mut out);
                }
            }
            Packet::Failed { pieces, more } => {
                out.put(if *more { 8 } else { 7 }, 8);
                out.varint(pieces.len() as u64);
                let mut next = 0;
                for failure in pieces {
                    out.varint(failure.piece - next);
                    next = failure.piece + 1;
                    out.put(failure.counters.bits().into(), 8);
                    failure.counters.encode(&mut out);
                    out.align();
                }
            }
            Packet::Close => out.put(9, 8),
            Packet::Claim { theirs, doubtful, check } => {
                out.put(10, 8);
                out.varint(*theirs);
                ids(doubtful, &mut out);
                out.raw(&check.0);
            }
            Packet::Probe(probes) => {
                out.put(11, 8);
                let bounds =
                    probes.iter().flat_map(|probe| [probe.span.before(), Some(probe.span.last)]);
                let mut ends = Ends::over(bounds.flatten());
                out.varint(probes.len() as u64);
                out.put(u64::from(ends.shift), 8);
                for probe in probes {
                    ends.skip(probe.span.first, &mut out);
                    ends.put(probe.span.last, &mut out);
                    match &probe.body {
                        // A list begins with its length and one.
                        ProbeBody::Check(check) => {
                            out.varint(0);
                            out.raw(&check.0);
                        }
                        ProbeBody::Salted(list) => {
                            out.varint(list.len() as u64 + 1);
                            list.iter().for_each(|id| out.raw(&id.to_le_bytes()));
                        }
                    }
                }
            }
            Packet::Differ { nonce, replies } => {
                out.put(12, 8);
                out.raw(nonce);
                out.varint(replies.len() as u64);
                for reply in replies {
                    match reply {
                        Reply::Same => out.varint(0),
                        Reply::Differs => out.varint(1),
                        Reply::Lacks { positions, theirs } => {
                            out.varint(positions.len() as u64 + 2);
                            out.varint(*theirs);
                            let mut next = 0;
                            for position in positions {
                                out.varint(position - next);
                                next = position + 1;
                            }
                        }
                    }
                }
            }
            Packet::Done => out.put(13, 8),
        }
        out.finish()
    }

    /// How many things it is about, as people count them: items of a list, pieces, ids that are
    /// wanted; 1 for packets of one piece only.
    pub fn items(&self) -> usize {
        match self {
            Packet::Found { want, .. } => want.len(),
            Packet::Pieces { elements, .. } => {
                let items = |element: &Element| match element {
                    Element::List { list, .. } => list.ids.len(),
                    Element::Extend(_) | Element::Sketch { .. } => 1,
                };
                elements.iter().map(items).sum()
            }
            Packet::Want(wants) => wants.iter().map(|want| want.list.ids.len()).sum(),
            Packet::Failed { pieces, .. } => pieces.len(),
            Packet::Probe(probes) => probes.len(),
            Packet::Differ { replies, .. } => replies.len(),
            _ => 1,
        }
    }

    /// Whether the other side speaks next.
    pub(super) fn asks(&self) -> bool {
        match self {
            Packet::Pieces { more, .. } | Packet::Failed { more, .. } => !more,
            Packet::Open(_) | Packet::Found { .. } | Packet::Close => true,
            Packet::Claim { .. } | Packet::Probe(_) | Packet::Differ { .. } => true,
            Packet::Same | Packet::Stream { .. } | Packet::Want(_) | Packet::Done => false,
        }
    }

    /// From bytes; `None` where they are no packet. No more is allocated than a small multiple of the
    /// bytes there are.
    pub fn decode(bytes: &[u8]) -> Option<Self> {
        let mut input = Reader::new(bytes);
        let packet = Self::read(&mut input)?;
        input.finish()?;
        Some(packet)
    }

    fn read(input: &mut Reader<'_>) -> Option<Self> {
        let mut room = MAX_LISTED;
        Some(match input.take(8)? {
            0 => {
                let nonce = input.raw()?;
                let count = input.varint()?;
                let check = Check(input.raw()?);
                let len = input.take(8)? as usize;
                let sketch = sketch(input, len)?;
                let counters = Narrow::decode(Narrow::bits_for(count), COUNTERS, input)?;
                Packet::Open(Opening { nonce, count, check, counters, sketch })
            }
            1 => Packet::Same,
            2 => Packet::Stream { count: input.varint()? },
            3 => Packet::Found {
                theirs: input.varint()?,
                want: read_ids(input)?,
                check: Check(input.raw()?),
            },
            tag @ (4 | 5) => {
                let count = input.varint()?;
                let len = input.varint()?;
                let mut ends = Ends::new(input.take(8)?)?;
                let read = |input: &mut Reader<'_>| Element::decode(&mut ends, &mut room, input);
                let elements = many(input, len, read)?;
                Packet::Pieces { count, elements, more: tag == 5 }
            }
            6 => {
                let len = input.varint()?;
                let mut next = 0u64;
                Packet::Want(many(input, len, |input| {
                    let piece = next.checked_add(input.varint()?)?;
                    next = piece.checked_add(1)?;
                    Some(Wants { piece, list: List::decode(&mut room, input)? })
                })?)
            }
            tag @ (7 | 8) => {
                let len = input.varint()?;
                let mut next = 0u64;
                let pieces = many(input, len, |input| {
                    let piece = next.checked_add(input.varint()?)?;
                    next = piece.checked_add(1)?;
                    let bits = input.take(8)? as u32;
                    let counters = Narrow::decode(bits, FAILED_COUNTERS, input)?;
                    input.align()?;
                    Some(Failure { piece, counters })
                })?;
                Packet::Failed { pieces, more: tag == 8 }
            }
            9 => Packet::Close,
            10 => Packet::Claim {
                theirs: input.varint()?,
                doubtful: read_ids(input)?,
                check: Check(input.raw()?),
            },
            11 => {
                let len = input.varint()?;
                let mut ends = Ends::new(input.take(8)?)?;
                Packet::Probe(many(input, len, |input| {
                    let first = ends.take_skip(input)?;
                    let span = Span { first, last: ends.take(input)? };
                    let body = match input.varint()?.checked_sub(1) {
                        None => ProbeBody::Check(Check(input.raw()?)),
                        Some(len) => ProbeBody::Salted(many(input, len, |input| {
                            Some(u64::from_le_bytes(input.raw()?))
                        })?),
                    };
                    Some(Probe { span, body })
                })?)
            }
            12 => {
                let nonce = input.raw()?;
                let len = input.varint()?;
                let replies = many(input, len, |input| {
                    Some(match input.varint()? {
                        0 => Reply::Same,
                        1 => Reply::Differs,
                        len => {
                            let theirs = input.varint()?;
                            let mut next = 0u64;
                            let positions = many(input, len - 2, |input| {
                                let position = next.checked_add(input.varint()?)?;
                                next = position.checked_add(1)?;
                                Some(position)
                            })?;
                            Reply::Lacks { positions, theirs }
                        }
                    })
                })?;
                Packet::Differ { nonce, replies }
            }
            13 => Packet::Done,
            _ => return None,
        })
    }
}

/// `len` things, each of at least a byte.
fn many<T>(
    input: &mut Reader<'_>,
    len: u64,
    mut read: impl FnMut(&mut Reader<'_>) -> Option<T>,
) -> Option<Vec<T>> {
    if len > input.remaining() as u64 {
        return None;
    }
    (0..len).map(|_| read(input)).collect()
}

fn ids(ids: &[ShortId], out: &mut Writer) {
    out.varint(ids.len() as u64);
    ids.iter().for_each(|id| out.put(id.get(), ID_BITS));
}

fn read_ids(input: &mut Reader<'_>) -> Option<Vec<ShortId>> {
    let len = input.varint()?;
    many(input, len, |input| ShortId::new(input.take(ID_BITS)?))
}

fn sketch(input: &mut Reader<'_>, len: usize) -> Option<Sketch> {
    if len > SYNDROMES {
        return None;
    }
    let mut syndromes = Sketch::default();
    for _ in 0..len {
        syndromes.extend(&[input.take(field::BITS)?]);
    }
    Some(syndromes)
}

/// The ends of runs of places, ascending. Ends of sectors have many zeros (of the place after them),
/// which are left out of all of them; each is written as the distance from the one before.
struct Ends {
    shift: u32,
    /// What follows the end before.
    next: u128,
}

impl Ends {
    fn over(lasts: impl Iterator<Item = Place>) -> Self {
        let shift = lasts.map(|last| last.0.trailing_ones()).min().unwrap_or(0);
        Self { shift, next: 0 }
    }

    fn new(shift: u64) -> Option<Self> {
        (shift <= 64).then_some(Self { shift: shift as u32, next: 0 })
    }

    fn put(&mut self, last: Place, out: &mut Writer) {
        let next = u128::from(last.0) + 1;
        out.varint(((next - self.next) >> self.shift) as u64);
        self.next = next;
    }

    /// A run need not begin where the one before ended.
    fn skip(&mut self, first: Place, out: &mut Writer) {
        let first = u128::from(first.0);
        out.varint(((first - self.next) >> self.shift) as u64);
        self.next = first;
    }

    fn take_skip(&mut self, input: &mut Reader<'_>) -> Option<Place> {
        let distance = u128::from(input.varint()?) << self.shift;
        self.next = self.next.checked_add(distance)?;
        Some(Place(u64::try_from(self.next).ok()?))
    }

    fn take(&mut self, input: &mut Reader<'_>) -> Option<Place> {
        let distance = u128::from(input.varint()?) << self.shift;
        if distance == 0 {
            return None;
        }
        self.next = self.next.checked_add(distance)?;
        Some(Place(u64::try_from(self.next - 1).ok()?))
    }
}

/// The first byte of an element: so many syndromes up to 64, a list, or 65 and so many more
/// syndromes.
const LIST: u64 = SYNDROMES as u64 + 1;

impl Element {
    fn last(&self) -> Option<Place> {
        match self {
            Element::Extend(_) => None,
            Element::Sketch { last, .. } | Element::List { last, .. } => Some(*last),
        }
    }

    fn encode(&self, ends: &mut Ends, out: &mut Writer) {
        match self {
            Element::Extend(sketch) => {
                out.put(LIST + sketch.len() as u64, 8);
                out.raw(&sketch.to_bytes());
            }
            Element::Sketch { last, sketch } => {
                out.put(sketch.len() as u64, 8);
                ends.put(*last, out);
                out.raw(&sketch.to_bytes());
            }
            Element::List { last, list } => {
                out.put(LIST, 8);
                ends.put(*last, out);
                list.encode(out);
            }
        }
    }

    fn decode(ends: &mut Ends, room: &mut usize, input: &mut Reader<'_>) -> Option<Self> {
        Some(match input.take(8)? {
            LIST => Element::List { last: ends.take(input)?, list: List::decode(room, input)? },
            len if len < LIST => {
                let last = ends.take(input)?;
                Element::Sketch { last, sketch: sketch(input, len as usize)? }
            }
            more => Element::Extend(sketch(input, (more - LIST) as usize)?),
        })
    }
}

impl List {
    /// About how many bytes `len` ids take, where there are enough bits to tell them apart.
    pub(super) fn size(len: usize) -> usize {
        len * 5 / 2 + 8
    }

    /// The number of ids; and unless that is 0, the bits of each, the parameter of the Rice code, the
    /// first id, and the gaps to the others in that code.
    fn encode(&self, out: &mut Writer) {
        out.varint(self.ids.len() as u64);
        let (Some(first), Some(last)) = (self.ids.first(), self.ids.last()) else { return };
        // The best parameter is a little below the logarithm of the mean gap.
        let k = ((last - first) / self.ids.len() as u64).checked_ilog2().unwrap_or(0);
        out.put(self.bits.into(), 8);
        out.put(k.into(), 8);
        out.put(*first, self.bits);
        self.ids.windows(2).for_each(|pair| out.rice(pair[1] - pair[0], k));
        out.align();
    }

    /// `room` is how many numbers there may be yet in all lists of the packet.
    fn decode(room: &mut usize, input: &mut Reader<'_>) -> Option<Self> {
        let len = usize::try_from(input.varint()?).ok().filter(|len| *len <= MAX_LIST)?;
        *room = room.checked_sub(len)?;
        if len == 0 {
            return Some(Self { bits: ID_BITS, ids: Vec::new() });
        }
        let (bits, k) = (input.take(8)? as u32, input.take(8)? as u32);
        if !(1..=ID_BITS).contains(&bits) || k >= bits {
            return None;
        }
        let mut id = input.take(bits)?;
        let mut ids = vec![id];
        for _ in 1..len {
            id = id.checked_add(input.rice(k)?).filter(|id| id >> bits == 0)?;
            ids.push(id);
        }
        input.align()?;
        Some(Self { bits, ids })
    }
}
