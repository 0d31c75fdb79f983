//! PinSketch: a set of ids as power sums, of which the difference of two sets can be read.
//!
//! The sketch of a set of nonzero elements of GF(2^48) with t *syndromes* is
//!
//! ```text
//! s(k) = sum of x^(2k + 1) over all x of the set,   k = 0 .. t - 1
//! ```
//!
//! The sum is XOR, so adding and removing an id are the same thing, and the XOR of the sketches of
//! two sets is the sketch of the ids that are in one of them only, however large the sets are. From
//! t syndromes up to t such ids can be [decoded](Sketch::decode). The first syndromes of a sketch are
//! a sketch, and more can be had later: nothing that was sent is wasted.
//!
//! Source: Dodis, Ostrovsky, Reyzin, Smith, *Fuzzy Extractors* (2004), section 6.3; minisketch, whose
//! serialized form for 48 bits this is.

use super::{
    field::{BYTES, Field, Job, MASK, Wide, run},
    roots,
};

/// The sketch of some ids: its syndromes, first to last.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Sketch(Vec<u64>);

impl Sketch {
    /// The sketch of no ids, with that many syndromes.
    pub fn new(syndromes: usize) -> Self {
        Self(vec![0; syndromes])
    }

    /// The first syndromes of a sketch, at most `limit`.
    pub fn prefix(syndromes: &[u64], limit: usize) -> Self {
        Self(syndromes[..limit.min(syndromes.len())].to_vec())
    }

    /// How many syndromes there are, and so how many ids can be decoded.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there is no syndrome at all.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The syndromes, each below 2^48.
    pub fn syndromes(&self) -> &[u64] {
        &self.0
    }

    /// Adds an id that is not in, or removes one that is. Only the lower 48 bits of `id` count, and 0
    /// changes nothing.
    pub fn toggle(&mut self, id: u64) {
        toggle(&mut self.0, id);
    }

    /// Makes this the sketch of the ids that are in one of both only. The result has as many
    /// syndromes as the shorter one.
    pub fn merge(&mut self, other: &[u64]) {
        self.0.truncate(other.len());
        self.0.iter_mut().zip(other).for_each(|(sum, s)| *sum ^= s);
    }

    /// Appends syndromes: the next ones of the same set.
    pub fn extend(&mut self, more: &[u64]) {
        self.0.extend_from_slice(more);
    }

    /// The ids in the sketch, ascending; `None` where there are too many for it.
    ///
    /// Up to `len() - spare` ids are found, always. More are noticed, except with a probability of
    /// about 2^(-48 spare) / (len - spare)! if the ids are random. A set of ids that is made for the
    /// purpose can have the sketch of any other: what follows from a decoded sketch has to be checked
    /// against a fingerprint.
    ///
    /// The work is at most about 100 len^2 + 200 len multiplications, whatever the syndromes are.
    pub fn decode(&self, spare: usize) -> Option<Vec<u64>> {
        if self.0.iter().all(|s| *s == 0) {
            return Some(Vec::new());
        }
        let mut ids = roots::decode(&self.0, self.0.len().checked_sub(spare)?)?;
        ids.sort_unstable();
        // What was found has to be what the sketch is of. That follows from how it was found: this
        // guards against an error in there, and costs a small part of it.
        let mut rest = self.clone();
        ids.iter().for_each(|id| rest.toggle(*id));
        rest.0.iter().all(|s| *s == 0).then_some(ids)
    }

    /// Six bytes a syndrome, little-endian, first to last.
    pub fn to_bytes(&self) -> Vec<u8> {
        self.0.iter().flat_map(|s| s.to_le_bytes().into_iter().take(BYTES)).collect()
    }

    /// From six bytes a syndrome; `None` where there are some left over. Any six bytes are a
    /// syndrome, though not of any few ids.
    pub fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let (words, rest) = bytes.as_chunks::<BYTES>();
        rest.is_empty().then(|| Self(words.iter().map(read).collect()))
    }
}

fn read(bytes: &[u8; BYTES]) -> u64 {
    bytes.iter().rev().fold(0, |word, byte| word << 8 | u64::from(*byte))
}

/// Adds an id to some syndromes, the first of which is s(0), or removes it.
pub fn toggle(syndromes: &mut [u64], id: u64) {
    if !syndromes.is_empty() {
        run(Toggle { syndromes, id: id & MASK });
    }
}

struct Toggle<'a> {
    syndromes: &'a mut [u64],
    id: u64,
}

impl Job for Toggle<'_> {
    type Output = ();

    /// Eight chains of powers, x^16 apart: a product takes many cycles from end to end, but another
    /// one can be started in every cycle or two.
    #[inline(always)]
    fn run<W: Wide, M: Fn(u64, u64) -> W + Copy>(self, field: Field<M>) {
        let x = self.id;
        let x2 = field.square(x);
        let x4 = field.square(x2);
        let x8 = field.square(x4);
        let x16 = field.square(x8);
        let [x3, x5] = [x2, x4].map(|power| field.mul(x, power));
        let [x7, x9, x11, x13] =
            [(x3, x4), (x, x8), (x3, x8), (x5, x8)].map(|(a, b)| field.mul(a, b));
        let mut powers = [x, x3, x5, x7, x9, x11, x13, field.mul(x7, x8)];
        let (eights, rest) = self.syndromes.as_chunks_mut::<8>();
        for eight in eights {
            for (sum, power) in eight.iter_mut().zip(&mut powers) {
                *sum ^= *power;
                *power = field.mul(*power, x16);
            }
        }
        rest.iter_mut().zip(powers).for_each(|(sum, power)| *sum ^= power);
    }
}

#[cfg(test)]
mod tests {
    use super::{super::field::PORTABLE, *};
    use proptest::prelude::*;
    use std::collections::BTreeSet;

    fn sketch_of<'a>(ids: impl IntoIterator<Item = &'a u64>, len: usize) -> Sketch {
        let mut sketch = Sketch::new(len);
        ids.into_iter().for_each(|id| sketch.toggle(*id));
        sketch
    }

    fn ids(max: usize) -> impl Strategy<Value = BTreeSet<u64>> {
        // Random ones, and ones that differ in few bits only.
        let id = prop_oneof![1..=MASK, 1u64..200, (0u32..48).prop_map(|i| 1 << i)];
        proptest::collection::btree_set(id, 0..max)
    }

    proptest! {
        #[test]
        fn what_went_in_comes_out(ids in ids(40), more in 0usize..8, spare in 0usize..3) {
            let sketch = sketch_of(&ids, ids.len() + more.max(spare));
            let found = sketch.decode(spare);
            prop_assert_eq!(found, Some(ids.into_iter().collect()));
        }

        #[test]
        fn too_many_are_noticed(ids in ids(40), missing in 1usize..10) {
            if let Some(len) = ids.len().checked_sub(missing) && len > 0 {
                let sketch = sketch_of(&ids, len);
                if let Some(other) = sketch.decode(1) {
                    // Possible where ids are made for it, never to a larger set.
                    prop_assert!(other.len() < len);
                    prop_assert_eq!(sketch_of(&other, len), sketch);
                }
            }
        }

        #[test]
        fn any_syndromes_can_be_decoded(syndromes in proptest::collection::vec(0..=MASK, 0..40)) {
            let sketch = Sketch(syndromes);
            if let Some(ids) = sketch.decode(0) {
                prop_assert_eq!(sketch_of(&ids, sketch.len()), sketch);
            }
        }

        #[test]
        fn merged_is_the_difference(a in ids(30), b in ids(30), len in 0usize..70) {
            let mut merged = sketch_of(&a, len);
            merged.merge(sketch_of(&b, len + 3).syndromes());
            prop_assert_eq!(&merged, &sketch_of(a.symmetric_difference(&b), len));
            if a.symmetric_difference(&b).count() < len {
                let difference = a.symmetric_difference(&b).copied().collect();
                prop_assert_eq!(merged.decode(1), Some(difference));
            }
        }

        #[test]
        fn a_prefix_is_a_sketch_and_bytes_round_trip(ids in ids(30), len in 0usize..40, cut in 0usize..40) {
            let sketch = sketch_of(&ids, len);
            let cut = cut.min(len);
            let mut prefix = Sketch::prefix(sketch.syndromes(), cut);
            prop_assert_eq!(&prefix, &sketch_of(&ids, cut));
            prefix.extend(&sketch.syndromes()[cut..]);
            prop_assert_eq!(&prefix, &sketch);
            prop_assert_eq!(sketch.to_bytes().len(), BYTES * len);
            prop_assert_eq!(Sketch::from_bytes(&sketch.to_bytes()), Some(sketch));
        }

        #[test]
        fn both_products_make_the_same_sketch(id in 0..=MASK, len in 0usize..40) {
            let mut portable = vec![0; len];
            Toggle { syndromes: &mut portable, id }.run(PORTABLE);
            prop_assert_eq!(sketch_of(&[id], len), Sketch(portable));
        }
    }

    #[test]
    fn bytes_that_are_no_sketch() {
        assert_eq!(Sketch::from_bytes(&[0; 7]), None);
        assert_eq!(Sketch::from_bytes(&[]), Some(Sketch::new(0)));
    }
}
