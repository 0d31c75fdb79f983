//! What a side reads of its own set.

use super::{Error, Fault, LOOK_UP, READ, Work};
use crate::{
    aspect::AspectKey,
    id::AspectHash,
    reconcile::{
        Items, Parts, Place, Sectors, ShortId, Span, Sums,
        fingerprint::{Check, Fingerprint},
        item::{hashes, spans},
    },
    ring::ArcSet,
};
use std::{cell::Cell, collections::BTreeSet};

/// One side's set during a conversation: a snapshot, the same in every call.
#[derive(Debug)]
pub struct View<'a, I> {
    /// The sums.
    pub sectors: &'a Sectors,
    /// The items that they are the sums of.
    pub items: &'a I,
    /// The part of the ring that both sides compare.
    pub arcs: &'a ArcSet,
}

impl<I> Clone for View<'_, I> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<I> Copy for View<'_, I> {}

impl<'a, I: Items> View<'a, I> {
    /// The pieces of a run of places that are inside the arcs.
    fn spans(&self, span: Span) -> impl Iterator<Item = Span> + use<'a, I> {
        spans(self.arcs).filter_map(move |arc| arc.intersect(&span))
    }

    /// Charges what it reads, at most a load of items too late at both ends of each arc.
    pub(super) fn sums(
        &self,
        span: Span,
        parts: Parts,
        work: &mut Work,
    ) -> Result<Sums, Error<I::Error>> {
        let mut total = Sums::ZERO;
        for span in self.spans(span) {
            work.sum()?;
            let items = Counted { items: self.items, read: Cell::new(0) };
            let sums = self.sectors.sum(span, parts, &items).map_err(Error::Items)?;
            work.read(items.read.get())?;
            if parts.fingerprint {
                work.fingerprints(items.read.get())?;
            }
            total.merge(&sums, parts);
        }
        Ok(total)
    }

    /// Shows every item in `span`, ascending.
    pub(crate) fn each(
        &self,
        span: Span,
        each: &mut dyn FnMut(&AspectKey),
    ) -> Result<(), I::Error> {
        for span in self.spans(span) {
            let (first, last) = span.keys();
            self.items.scan(&first, &last, each)?;
        }
        Ok(())
    }

    /// The same for a run of `count` items, charged before.
    pub(super) fn read(
        &self,
        span: Span,
        count: u64,
        work: &mut Work,
        each: &mut dyn FnMut(&AspectKey),
    ) -> Result<(), Error<I::Error>> {
        self.spans(span).try_for_each(|_| work.sum())?;
        work.read(count)?;
        self.each(span, each).map_err(Error::Items)
    }

    /// The items in `span`, which has `count` of them, whose ids begin with one of these numbers of
    /// `bits` bits, which ascend. They are looked up one by one, or all items of the run are read:
    /// whichever is less work. What is looked up can be anywhere, so with few bits it is a lot.
    pub(super) fn find(
        &self,
        prefixes: &[u64],
        bits: u32,
        span: Span,
        count: u64,
        work: &mut Work,
    ) -> Result<Vec<AspectKey>, Error<I::Error>> {
        let mut found = Vec::new();
        let each = LOOK_UP + READ * (self.sectors.count() >> bits);
        if (prefixes.len() as u64).saturating_mul(each) < READ * count {
            work.charge(prefixes.len() as u64 * each)?;
            for prefix in prefixes.chunk_by(PartialEq::eq).map(|equal| equal[0]) {
                let (first, last) = hashes(prefix, bits);
                let keys = self.items.find(&first, &last).map_err(Error::Items)?;
                work.read(keys.len() as u64)?;
                found.extend(keys.into_iter().filter(|key| {
                    span.contains(Place::of(key))
                        && self.arcs.contains(key.location)
                        && ShortId::of(&key.hash).prefix(bits) == prefix
                }));
            }
        } else {
            self.read(span, count, work, &mut |key| {
                let prefix = ShortId::of(&key.hash).prefix(bits);
                found.extend(prefixes.binary_search(&prefix).is_ok().then_some(*key));
            })?;
        }
        Ok(found)
    }

    /// Pieces of about `aim` items each, which together are `span`.
    pub(crate) fn pieces(&self, span: Span, aim: f64) -> Vec<Span> {
        let cuts = self.spans(span).flat_map(|span| self.sectors.cuts(span, aim));
        let mut pieces = Vec::new();
        let mut first = span.first;
        for cut in cuts {
            pieces.push(Span { first, last: Place(cut.0 - 1) });
            first = cut;
        }
        pieces.push(Span { first, last: span.last });
        pieces
    }

    /// Of the items of `span` less those that are `ours` alone.
    pub(super) fn check(
        &self,
        span: Span,
        ours: &BTreeSet<AspectKey>,
        nonce: &[u8],
        work: &mut Work,
    ) -> Result<Check, Error<I::Error>> {
        let common = self.sums(span, Parts::FINGERPRINT, work)?.fingerprint;
        let (first, last) = span.keys();
        Ok(less(common, ours.range(first..=last), work)?.check(nonce))
    }
}

/// Counts what is read.
struct Counted<'a, I> {
    items: &'a I,
    read: Cell<u64>,
}

impl<I: Items> Items for Counted<'_, I> {
    type Error = I::Error;

    fn scan(
        &self,
        first: &AspectKey,
        last: &AspectKey,
        each: &mut dyn FnMut(&AspectKey),
    ) -> Result<(), I::Error> {
        self.items.scan(first, last, &mut |key| {
            self.read.set(self.read.get() + 1);
            each(key);
        })
    }

    fn find(&self, first: &AspectHash, last: &AspectHash) -> Result<Vec<AspectKey>, I::Error> {
        self.items.find(first, last)
    }

    fn add_fingerprint(&self, hash: &AspectHash, to: &mut Fingerprint) {
        self.items.add_fingerprint(hash, to);
    }
}

/// A fingerprint without some of its items.
pub(super) fn less<'a>(
    mut fingerprint: Fingerprint,
    items: impl IntoIterator<Item = &'a AspectKey>,
    work: &mut Work,
) -> Result<Fingerprint, Fault> {
    for key in items {
        work.fingerprints(1)?;
        fingerprint.subtract(&Fingerprint::of(&key.hash));
    }
    Ok(fingerprint)
}

/// Ids that nobody can prepare for: the first eight bytes of BLAKE3 of the hash, little-endian, keyed
/// with `derive_key("arcwise 1 reconcile salt", opener's nonce ‖ answerer's nonce)`.
#[derive(Clone, Copy, Debug)]
pub(super) struct Salt([u8; 32]);

impl Salt {
    pub(super) fn new(opener: [u8; 8], answerer: [u8; 8]) -> Self {
        let nonces = [opener, answerer].concat();
        Self(blake3::derive_key("arcwise 1 reconcile salt", &nonces))
    }

    pub(super) fn id(&self, key: &AspectKey) -> u64 {
        let hash = blake3::keyed_hash(&self.0, &key.hash.0);
        hash.as_bytes()[..8].iter().rev().fold(0, |word, byte| word << 8 | u64::from(*byte))
    }
}
