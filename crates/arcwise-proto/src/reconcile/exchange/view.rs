//! What a side reads of its own set.

use super::Error;
use crate::{
    aspect::AspectKey,
    reconcile::{
        Items, Parts, Place, Sectors, ShortId, Span, Sums,
        fingerprint::{Check, Fingerprint},
        item::{hashes, spans},
    },
    ring::ArcSet,
};
use std::collections::BTreeSet;

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

    pub(super) fn sums(&self, span: Span, parts: Parts) -> Result<Sums, Error<I::Error>> {
        let mut total = Sums::ZERO;
        for span in self.spans(span) {
            total.merge(&self.sectors.sum(span, parts, self.items).map_err(Error::Items)?, parts);
        }
        Ok(total)
    }

    pub(super) fn each(
        &self,
        span: Span,
        each: &mut dyn FnMut(&AspectKey),
    ) -> Result<(), Error<I::Error>> {
        for span in self.spans(span) {
            let (first, last) = span.keys();
            self.items.scan(&first, &last, each).map_err(Error::Items)?;
        }
        Ok(())
    }

    /// The items in `span` whose ids begin with these bits.
    pub(super) fn find(
        &self,
        prefix: u64,
        bits: u32,
        span: Span,
    ) -> Result<Vec<AspectKey>, Error<I::Error>> {
        let (first, last) = hashes(prefix, bits);
        let mut found = self.items.find(&first, &last).map_err(Error::Items)?;
        found.retain(|key| {
            span.contains(Place::of(key))
                && self.arcs.contains(key.location)
                && ShortId::of(&key.hash).prefix(bits) == prefix
        });
        Ok(found)
    }

    /// The last places of pieces of about `aim` items each.
    pub(super) fn pieces(&self, span: Span, aim: f64) -> Vec<Span> {
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
    ) -> Result<Check, Error<I::Error>> {
        let common = self.sums(span, Parts::FINGERPRINT)?.fingerprint;
        let (first, last) = span.keys();
        Ok(less(common, ours.range(first..=last)).check(nonce))
    }
}

/// A fingerprint without some of its items.
pub(super) fn less<'a>(
    mut fingerprint: Fingerprint,
    items: impl IntoIterator<Item = &'a AspectKey>,
) -> Fingerprint {
    items.into_iter().for_each(|key| fingerprint.subtract(&Fingerprint::of(&key.hash)));
    fingerprint
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
