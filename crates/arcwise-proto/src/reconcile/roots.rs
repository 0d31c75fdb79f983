//! From syndromes to ids: Berlekamp-Massey, then Berlekamp's trace algorithm.
//!
//! Polynomials are slices of coefficients, the constant one first. Sums of products are kept
//! unreduced ([`Wide`]) as long as they are sums, which saves most of the reductions.

use std::mem;

use super::field::{BITS, Field, Job, Wide, reduce, run};

/// The ids whose sketch is `syndromes`, in no particular order; `None` where there are more than
/// `most` of them.
pub(super) fn decode(syndromes: &[u64], most: usize) -> Option<Vec<u64>> {
    run(Decode { syndromes, most })
}

struct Decode<'a> {
    syndromes: &'a [u64],
    most: usize,
}

impl Job for Decode<'_> {
    type Output = Option<Vec<u64>>;

    #[inline(always)]
    fn run<W: Wide, M: Fn(u64, u64) -> W + Copy>(self, field: Field<M>) -> Self::Output {
        let locator = locator(field, self.syndromes, self.most)?;
        roots(field, locator)
    }
}

/// The monic polynomial whose roots are the ids, without its leading coefficient: so it has as many
/// coefficients as there are ids.
///
/// Berlekamp-Massey finds the shortest recurrence that all power sums, odd and even, follow. In
/// characteristic 2 the even ones are squares of earlier ones, and every second step has nothing to
/// correct. The divisions of the textbook are left out: each polynomial is found up to a constant.
#[inline(always)]
fn locator<W: Wide, M: Fn(u64, u64) -> W + Copy>(
    field: Field<M>,
    odd: &[u64],
    most: usize,
) -> Option<Vec<u64>> {
    let mut sums = Vec::with_capacity(2 * odd.len());
    for k in 0..odd.len() {
        sums.push(odd[k]);
        sums.push(field.square(sums[k]));
    }
    // The recurrence, the one before its last change of length, and what that one had left over.
    let (mut now, mut then, mut then_left) = (vec![0; most + 1], vec![0; most + 1], 1);
    now[0] = 1;
    then[0] = 1;
    // How long `now` is, and how many sums ago `then` was.
    let (mut len, mut ago) = (0, 1);
    let mut longer = now.clone();
    for n in (0..sums.len()).step_by(2) {
        let left = (0..=len).fold(W::of(0), |left, i| left.plus(field.wide(now[i], sums[n - i])));
        let left = reduce(left);
        if left != 0 {
            for (i, sum) in longer.iter_mut().enumerate() {
                let scaled = field.wide(then_left, now[i]);
                *sum = reduce(match i.checked_sub(ago) {
                    Some(i) => scaled.plus(field.wide(left, then[i])),
                    None => scaled,
                });
            }
            mem::swap(&mut now, &mut longer);
            if 2 * len <= n {
                len = n + 1 - len;
                if len > most {
                    return None;
                }
                mem::swap(&mut then, &mut longer);
                then_left = left;
                ago = 0;
            }
        }
        ago += 2;
    }
    // The roots of `now` are the inverses of the ids; those of the reversed polynomial are the ids.
    // A recurrence shorter than its polynomial, or with a root of zero, is not that of a set.
    if now[len] == 0 || now[len + 1..].iter().any(|c| *c != 0) {
        return None;
    }
    let scale = field.inverse(now[0]);
    Some((0..len).map(|i| field.mul(now[len - i], scale)).collect())
}

/// As many powers as an element has bits.
const ROWS: usize = BITS as usize;

/// A factor of the locator.
struct Factor {
    /// Without the leading coefficient, which is 1.
    poly: Vec<u64>,
    /// x^(2^i) modulo it, for i = 0 .. 47: first the 48 constant coefficients, then the 48 linear
    /// ones, and so on. In this order the same is done to 48 numbers at a time, which no processor
    /// has to wait for.
    powers: Vec<[u64; ROWS]>,
    /// By which element to split it next: x^bit.
    bit: u32,
}

/// The roots of a monic polynomial, given without its leading coefficient; `None` where it is not a
/// product of different linear factors.
///
/// The trace of b * r over GF(2), for a fixed b, is 0 for half of all r and 1 for the others; as a
/// polynomial in r it is the sum of (b r)^(2^i). Its greatest common divisor with a factor splits
/// that in two. Any two different roots are told apart by one of the elements x^0 .. x^47, because
/// these are a basis: so no randomness is needed, and the end is certain.
#[inline(always)]
fn roots<W: Wide, M: Fn(u64, u64) -> W + Copy>(
    field: Field<M>,
    poly: Vec<u64>,
) -> Option<Vec<u64>> {
    let degree = poly.len();
    if degree < 2 {
        return Some(poly);
    }
    let mut wide = Vec::with_capacity(2 * degree);
    let mut x = vec![0; degree];
    x[1] = 1;
    let mut powers = vec![[0; ROWS]; degree];
    let mut power = x.clone();
    for row in 0..ROWS {
        powers.iter_mut().zip(&power).for_each(|(column, c)| column[row] = *c);
        wide.clear();
        wide.extend(power.iter().flat_map(|c| [field.wide(*c, *c), W::of(0)]));
        remainder(field, &mut wide, &poly);
        power.iter_mut().zip(&wide).for_each(|(c, w)| *c = reduce(*w));
    }
    // Exactly the products of different linear factors divide x^(2^48) - x.
    if power != x {
        return None;
    }
    let mut roots = Vec::with_capacity(degree);
    // For each bit that was needed so far: x^bit, and its squares one after the other.
    let mut elements: Vec<[u64; ROWS]> = Vec::new();
    let mut stack = vec![Factor { poly, powers, bit: 0 }];
    while let Some(mut factor) = stack.pop() {
        if let [root] = factor.poly[..] {
            roots.push(root);
            continue;
        }
        if factor.bit == BITS {
            return None;
        }
        if elements.len() <= factor.bit as usize {
            let mut squares = [1 << factor.bit; ROWS];
            for i in 1..squares.len() {
                squares[i] = field.square(squares[i - 1]);
            }
            elements.push(squares);
        }
        let trace = trace(field, &factor, &elements[factor.bit as usize]);
        // Where all roots have one trace, the polynomial is that constant.
        factor.bit += 1;
        if trace[1..].iter().all(|c| *c == 0) {
            stack.push(factor);
            continue;
        }
        let half = common_divisor(field, &factor.poly, trace);
        let other = quotient(field, &factor.poly, &half, &mut wide);
        for poly in [half, other] {
            let powers = match poly.len() {
                1 => Vec::new(),
                _ => remainders(field, &factor.powers, &poly),
            };
            stack.push(Factor { poly, powers, bit: factor.bit });
        }
    }
    Some(roots)
}

/// The trace of an element times the root, as a polynomial modulo the factor. The element comes with
/// its squares.
#[inline(always)]
fn trace<W: Wide, M: Fn(u64, u64) -> W + Copy>(
    field: Field<M>,
    factor: &Factor,
    elements: &[u64; ROWS],
) -> Vec<u64> {
    let dot = |column: &[u64; ROWS]| {
        let products = column.iter().zip(elements).map(|(c, element)| field.wide(*element, *c));
        reduce(products.fold(W::of(0), W::plus))
    };
    factor.powers.iter().map(dot).collect()
}

/// What [`remainder`] does, to 48 polynomials side by side.
#[inline(always)]
fn remainders<W: Wide, M: Fn(u64, u64) -> W + Copy>(
    field: Field<M>,
    polys: &[[u64; ROWS]],
    by: &[u64],
) -> Vec<[u64; ROWS]> {
    let mut wide: Vec<[W; ROWS]> = polys.iter().map(|column| column.map(W::of)).collect();
    while wide.len() > by.len()
        && let Some(lead) = wide.pop()
    {
        let lead = lead.map(reduce);
        let at = wide.len() - by.len();
        for (column, c) in wide[at..].iter_mut().zip(by) {
            for (sum, lead) in column.iter_mut().zip(&lead) {
                *sum = sum.plus(field.wide(*lead, *c));
            }
        }
    }
    wide.iter().map(|column| column.map(reduce)).collect()
}

/// Leaves in `wide` its remainder by a monic polynomial, given without the leading coefficient.
#[inline(always)]
fn remainder<W: Wide, M: Fn(u64, u64) -> W + Copy>(field: Field<M>, wide: &mut Vec<W>, by: &[u64]) {
    while wide.len() > by.len() {
        let lead = wide.pop().map_or(0, reduce);
        let at = wide.len() - by.len();
        for (sum, c) in wide[at..].iter_mut().zip(by) {
            *sum = sum.plus(field.wide(lead, *c));
        }
    }
}

/// The quotient of two monic polynomials, both and the result without leading coefficients, where
/// the division has no remainder.
#[inline(always)]
fn quotient<W: Wide, M: Fn(u64, u64) -> W + Copy>(
    field: Field<M>,
    poly: &[u64],
    by: &[u64],
    wide: &mut Vec<W>,
) -> Vec<u64> {
    wide.clear();
    wide.extend(poly.iter().map(|c| W::of(*c)));
    wide.push(W::of(1));
    let mut quotient = vec![0; poly.len() - by.len() + 1];
    for c in quotient.iter_mut().rev() {
        *c = wide.pop().map_or(0, reduce);
        let at = wide.len() - by.len();
        for (sum, d) in wide[at..].iter_mut().zip(by) {
            *sum = sum.plus(field.wide(*c, *d));
        }
    }
    quotient.pop();
    quotient
}

/// The greatest common divisor of a monic polynomial, given without its leading coefficient, and one
/// of lower degree that is not constant. The result is monic and without it again.
///
/// Euclid's algorithm without divisions: to take b from a, both are multiplied by the leading
/// coefficient of the other one.
#[inline(always)]
fn common_divisor<W: Wide, M: Fn(u64, u64) -> W + Copy>(
    field: Field<M>,
    poly: &[u64],
    other: Vec<u64>,
) -> Vec<u64> {
    let (mut a, mut b) = (poly.to_vec(), other);
    a.push(1);
    trim(&mut b);
    while let Some(&b_lead) = b.last() {
        while a.len() >= b.len() {
            let a_lead = a[a.len() - 1];
            let at = a.len() - b.len();
            for c in &mut a[..at] {
                *c = field.mul(*c, b_lead);
            }
            for (c, d) in a[at..].iter_mut().zip(&b) {
                *c = reduce(field.wide(*c, b_lead).plus(field.wide(*d, a_lead)));
            }
            trim(&mut a);
        }
        mem::swap(&mut a, &mut b);
    }
    let scale = field.inverse(a.pop().unwrap_or(0));
    a.iter_mut().for_each(|c| *c = field.mul(*c, scale));
    a
}

/// Leaves the leading coefficient last; the zero polynomial has none at all.
#[inline(always)]
fn trim(poly: &mut Vec<u64>) {
    while poly.last() == Some(&0) {
        poly.pop();
    }
}

#[cfg(test)]
mod tests {
    use super::{super::field::PORTABLE, *};
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn both_products_decode_alike(syndromes in proptest::collection::vec(0..1u64 << 48, 1..30), zeros in 0usize..30) {
            let mut syndromes = syndromes;
            let most = syndromes.len();
            let zeros = zeros.min(most);
            syndromes[..zeros].fill(0);
            let portable = Decode { syndromes: &syndromes, most }.run(PORTABLE);
            prop_assert_eq!(decode(&syndromes, most), portable);
        }
    }

    #[test]
    fn a_polynomial_with_other_factors_has_no_roots() {
        // (x - 3)^2, and (x - 2)(x - 3) for comparison.
        assert_eq!(roots(PORTABLE, vec![PORTABLE.square(3), 0]), None);
        let found = roots(PORTABLE, vec![PORTABLE.mul(2, 3), 2 ^ 3]);
        assert!(found == Some(vec![2, 3]) || found == Some(vec![3, 2]));
    }
}
