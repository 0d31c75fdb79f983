//! The field GF(2^48) that sketches are computed in.
//!
//! An element is a polynomial over GF(2) of degree below 48: bit i of a `u64` is the coefficient of
//! x^i, and the upper 16 bits are zero. Addition is XOR. Multiplication is modulo
//!
//! ```text
//! x^48 + x^5 + x^3 + x^2 + 1
//! ```
//!
//! which is irreducible, and the one that minisketch uses for this size.
//!
//! The work is all in one operation: the carry-less product of two words. x86-64 (PCLMULQDQ) and
//! 64-bit ARM (PMULL) have an instruction for it; elsewhere [`clmul`] does the same with ordinary
//! multiplications, about five times slower. Which one is decided at run time, once per
//! [`Job`] rather than once per product, so that the instruction is inlined into the loops.

/// How many bits an element has.
pub const BITS: u32 = 48;

/// Every element, as a mask: 2^48 - 1.
pub const MASK: u64 = (1 << BITS) - 1;

/// How many bytes an element has when it is written down, little-endian.
pub const BYTES: usize = 6;

/// The field, over some way to compute carry-less products: [`clmul`] or an instruction.
#[derive(Clone, Copy, Debug)]
pub struct Field<M> {
    clmul: M,
}

/// The field with the portable product, on any machine.
pub const PORTABLE: Field<fn(u64, u64) -> u128> = Field { clmul };

/// A carry-less product that is not reduced: a polynomial of degree at most 94. Sums of products may
/// be reduced together, which is what makes polynomial arithmetic fast.
pub trait Wide: Copy {
    /// The polynomial of degree below 64 with these coefficients.
    fn of(low: u64) -> Self;
    /// The sum of two.
    fn plus(self, other: Self) -> Self;
    /// The coefficients below x^64, and those from there on.
    fn words(self) -> (u64, u64);
}

impl Wide for u128 {
    #[inline(always)]
    fn of(low: u64) -> Self {
        low.into()
    }
    #[inline(always)]
    fn plus(self, other: Self) -> Self {
        self ^ other
    }
    #[inline(always)]
    fn words(self) -> (u64, u64) {
        (self as u64, (self >> 64) as u64)
    }
}

/// Two words side by side, as compilers keep them in one vector register.
impl Wide for [u64; 2] {
    #[inline(always)]
    fn of(low: u64) -> Self {
        [low, 0]
    }
    #[inline(always)]
    fn plus(self, other: Self) -> Self {
        [self[0] ^ other[0], self[1] ^ other[1]]
    }
    #[inline(always)]
    fn words(self) -> (u64, u64) {
        (self[0], self[1])
    }
}

impl<W: Wide, M: Fn(u64, u64) -> W + Copy> Field<M> {
    /// The carry-less product itself, of two elements.
    #[inline(always)]
    pub fn wide(self, a: u64, b: u64) -> W {
        (self.clmul)(a, b)
    }

    /// a * b.
    #[inline(always)]
    pub fn mul(self, a: u64, b: u64) -> u64 {
        reduce(self.wide(a, b))
    }

    /// a * a.
    #[inline(always)]
    pub fn square(self, a: u64) -> u64 {
        self.mul(a, a)
    }

    /// The element whose product with `a` is 1; 0 for 0.
    ///
    /// It is a^(2^48 - 2), by the addition chain of Itoh and Tsujii: with e(k) = a^(2^k - 1), each
    /// step is e(j + k) = e(j)^(2^k) * e(k). The chain 1, 2, 4, 5, 10, 11, 22, 23, 46, 47 ends in e(47),
    /// and its square is the inverse.
    #[inline(always)]
    pub fn inverse(self, a: u64) -> u64 {
        let mut power = a;
        let mut k = 1;
        for bit in [false, true, true, true, true] {
            let mut shifted = power;
            for _ in 0..k {
                shifted = self.square(shifted);
            }
            power = self.mul(shifted, power);
            k *= 2;
            if bit {
                power = self.mul(self.square(power), a);
                k += 1;
            }
        }
        debug_assert_eq!(k, BITS - 1);
        self.square(power)
    }
}

/// A polynomial of degree at most 94, modulo the field's.
#[inline(always)]
pub fn reduce<W: Wide>(wide: W) -> u64 {
    // x^48 = x^5 + x^3 + x^2 + 1 = (x^2 + 1)(x^3 + 1), so what stands above bit 48 is multiplied by
    // that and added below. The first time that leaves 4 bits above, the second time none.
    let fold = |low: u64, high: u64| {
        let high = high ^ high << 2;
        low ^ high ^ high << 3
    };
    let (low, high) = wide.words();
    let once = fold(low & MASK, low >> BITS | high << (64 - BITS));
    fold(once & MASK, once >> BITS)
}

/// The carry-less product of two polynomials of degree below 60, on any machine and in the same time
/// for all operands.
///
/// Each operand is spread over four words that keep every fourth bit. In an ordinary product of two
/// such words the carries stay within the three zeros above each bit, since no more than 15 ones
/// meet; what counts is the lowest bit of each sum. (Pornin, BearSSL, `ghash_ctmul64`.)
#[inline(always)]
pub fn clmul(a: u64, b: u64) -> u128 {
    const EVERY_FOURTH: u128 = u128::MAX / 15;
    debug_assert!(a >> 60 == 0 && b >> 60 == 0);
    let spread =
        |word: u64| [0, 1, 2, 3].map(|shift| u128::from(word & (EVERY_FOURTH as u64) << shift));
    let (a, b) = (spread(a), spread(b));
    let column = |k: usize| {
        let sum = (0..4).fold(0, |sum, i| sum ^ (a[i] * b[(4 + k - i) % 4]));
        sum & EVERY_FOURTH << k
    };
    column(0) | column(1) | column(2) | column(3)
}

/// Work in the field, to be done with the best product there is on this machine: see [`run`].
///
/// Mark the function `#[inline(always)]`, and whatever it calls with a field: only then does the
/// instruction take the place of a call.
pub trait Job {
    /// What comes of it.
    type Output;

    /// Does it.
    fn run<W: Wide, M: Fn(u64, u64) -> W + Copy>(self, field: Field<M>) -> Self::Output;
}

/// Does `job` with a processor's instruction where it has one.
#[multiversion::multiversion(
    targets("x86_64+pclmulqdq", "aarch64+neon+aes"),
    dispatcher = "direct"
)]
pub fn run<J: Job>(job: J) -> J::Output {
    multiversion::target::match_target! {
        "x86_64+pclmulqdq" => {
            use std::arch::x86_64::{
                _mm_clmulepi64_si128, _mm_cvtsi64_si128, _mm_cvtsi128_si64, _mm_unpackhi_epi64,
            };
            // A closure has the instructions of the function it stands in, and is safe to call.
            let clmul = |a: u64, b: u64| {
                let (a, b) = (_mm_cvtsi64_si128(a as i64), _mm_cvtsi64_si128(b as i64));
                let product = _mm_clmulepi64_si128::<0>(a, b);
                let high = _mm_unpackhi_epi64(product, product);
                [_mm_cvtsi128_si64(product) as u64, _mm_cvtsi128_si64(high) as u64]
            };
            job.run(Field { clmul })
        }
        "aarch64+neon+aes" => {
            job.run(Field { clmul: |a: u64, b: u64| std::arch::aarch64::vmull_p64(a, b) })
        }
        _ => job.run(Field { clmul }),
    }
}

/// a * b, with the best product there is. For single products; loops are [`Job`]s.
pub fn mul(a: u64, b: u64) -> u64 {
    struct Mul(u64, u64);
    impl Job for Mul {
        type Output = u64;
        #[inline(always)]
        fn run<W: Wide, M: Fn(u64, u64) -> W + Copy>(self, field: Field<M>) -> u64 {
            field.mul(self.0, self.1)
        }
    }
    run(Mul(a & MASK, b & MASK))
}

/// The inverse of `a`, with the best product there is; 0 for 0.
pub fn inverse(a: u64) -> u64 {
    struct Inverse(u64);
    impl Job for Inverse {
        type Output = u64;
        #[inline(always)]
        fn run<W: Wide, M: Fn(u64, u64) -> W + Copy>(self, field: Field<M>) -> u64 {
            field.inverse(self.0)
        }
    }
    run(Inverse(a & MASK))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// The definition, bit by bit.
    fn by_hand(a: u64, b: u64) -> u64 {
        let (mut sum, mut a) = (0, a);
        for i in 0..BITS {
            if b >> i & 1 == 1 {
                sum ^= a;
            }
            a <<= 1;
            if a >> BITS == 1 {
                a ^= 1 << BITS | 0b10_1101;
            }
        }
        sum
    }

    fn element() -> impl Strategy<Value = u64> {
        prop_oneof![0..=MASK, Just(0), Just(1), Just(MASK), (0..BITS).prop_map(|i| 1 << i)]
    }

    proptest! {
        #[test]
        fn both_products_are_the_definition(a in element(), b in element()) {
            prop_assert_eq!(PORTABLE.mul(a, b), by_hand(a, b));
            prop_assert_eq!(mul(a, b), by_hand(a, b));
        }

        #[test]
        fn the_laws_of_a_field(a in element(), b in element(), c in element()) {
            prop_assert_eq!(mul(a, b), mul(b, a));
            prop_assert_eq!(mul(a, mul(b, c)), mul(mul(a, b), c));
            prop_assert_eq!(mul(a, b ^ c), mul(a, b) ^ mul(a, c));
            prop_assert_eq!(mul(a, 1), a);
            prop_assert_eq!(mul(a, inverse(a)), u64::from(a != 0));
            prop_assert_eq!(inverse(a), PORTABLE.inverse(a));
        }
    }

    /// Rabin's test: a polynomial of degree 48 is irreducible where x^(2^48) = x modulo it and, for
    /// both prime divisors p of 48, x^(2^(48/p)) - x has no factor in common with it.
    #[test]
    fn the_polynomial_is_irreducible() {
        let power = |k: u32| (0..k).fold(2, |x, _| PORTABLE.square(x));
        assert_eq!(power(BITS), 2);
        for k in [BITS / 2, BITS / 3] {
            // Euclid, over GF(2).
            let (mut f, mut g) = (1 << BITS | 0b10_1101u64, power(k) ^ 2);
            while g != 0 {
                while f.leading_zeros() <= g.leading_zeros() && f != 0 {
                    f ^= g << (g.leading_zeros() - f.leading_zeros());
                }
                std::mem::swap(&mut f, &mut g);
            }
            assert_eq!(f, 1);
        }
    }
}
