//! Numbers of any width, varints and Rice codes, packed into bytes.
//!
//! Bits fill each byte from the lowest upwards.

/// Most bytes that a varint takes.
const MAX_VARINT: u32 = 10;

/// Packs numbers.
#[derive(Debug, Default)]
pub(super) struct Writer {
    bytes: Vec<u8>,
    /// Bits that do not fill a byte yet, and how many: below 8.
    rest: u64,
    used: u32,
}

impl Writer {
    pub(super) fn new() -> Self {
        Self::default()
    }

    /// The lowest `width` bits of `value`, which has no others: 0 to 56.
    pub(super) fn put(&mut self, value: u64, width: u32) {
        debug_assert!(width <= 56 && value >> width == 0);
        self.rest |= value << self.used;
        self.used += width;
        while self.used >= 8 {
            self.bytes.push(self.rest as u8);
            self.rest >>= 8;
            self.used -= 8;
        }
    }

    /// Seven bits at a time, lowest first, each with a bit above that says whether more follow.
    pub(super) fn varint(&mut self, mut value: u64) {
        while value >= 0x80 {
            self.put(value & 0x7f | 0x80, 8);
            value >>= 7;
        }
        self.put(value, 8);
    }

    /// The quotient by 2^`k` as that many ones and a zero, then the remainder in `k` bits. For
    /// numbers that are 2^k / ln 2 or so on average, as gaps between random numbers are.
    pub(super) fn rice(&mut self, value: u64, k: u32) {
        let mut ones = value >> k;
        while ones > 0 {
            let now = ones.min(32);
            self.put((1 << now) - 1, now as u32);
            ones -= now;
        }
        self.put(0, 1);
        self.put(value & ((1 << k) - 1), k);
    }

    /// Goes on with the next whole byte.
    pub(super) fn align(&mut self) {
        if self.used > 0 {
            self.put(0, 8 - self.used);
        }
    }

    pub(super) fn raw(&mut self, bytes: &[u8]) {
        self.align();
        self.bytes.extend_from_slice(bytes);
    }

    pub(super) fn finish(mut self) -> Vec<u8> {
        self.align();
        self.bytes
    }
}

/// Unpacks them. `None` is always: the bytes are not what a [`Writer`] would have written.
#[derive(Debug)]
pub(super) struct Reader<'a> {
    bytes: &'a [u8],
    rest: u64,
    left: u32,
}

impl<'a> Reader<'a> {
    pub(super) fn new(bytes: &'a [u8]) -> Self {
        Self { bytes, rest: 0, left: 0 }
    }

    /// How many bytes there are yet, besides those begun.
    pub(super) fn remaining(&self) -> usize {
        self.bytes.len()
    }

    /// A number of `width` bits, 0 to 56.
    pub(super) fn take(&mut self, width: u32) -> Option<u64> {
        debug_assert!(width <= 56);
        while self.left < width {
            let (byte, rest) = self.bytes.split_first()?;
            self.rest |= u64::from(*byte) << self.left;
            self.left += 8;
            self.bytes = rest;
        }
        let value = self.rest & ((1 << width) - 1);
        self.rest >>= width;
        self.left -= width;
        Some(value)
    }

    pub(super) fn varint(&mut self) -> Option<u64> {
        let mut value = 0u64;
        for i in 0..MAX_VARINT {
            let byte = self.take(8)?;
            let part = byte & 0x7f;
            if i == MAX_VARINT - 1 && part > 1 {
                return None;
            }
            value |= part << (7 * i);
            if byte < 0x80 {
                // One form for each number: the last byte is not zero, unless it is the only one.
                return (i == 0 || part > 0).then_some(value);
            }
        }
        None
    }

    pub(super) fn rice(&mut self, k: u32) -> Option<u64> {
        let mut ones = 0u64;
        while self.take(1)? == 1 {
            ones += 1;
        }
        let rest = self.take(k)?;
        (ones.leading_zeros() >= k).then_some(ones << k | rest)
    }

    /// Goes on with the next whole byte; the bits skipped must be zero.
    pub(super) fn align(&mut self) -> Option<()> {
        let skipped = self.take(self.left)?;
        (skipped == 0).then_some(())
    }

    pub(super) fn raw<const N: usize>(&mut self) -> Option<[u8; N]> {
        self.align()?;
        let (array, rest) = self.bytes.split_first_chunk()?;
        self.bytes = rest;
        Some(*array)
    }

    /// Nothing may be left.
    pub(super) fn finish(mut self) -> Option<()> {
        self.align()?;
        self.bytes.is_empty().then_some(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[derive(Clone, Debug)]
    enum Op {
        Put(u64, u32),
        Varint(u64),
        Rice(u64, u32),
        Raw([u8; 3]),
    }

    fn op() -> impl Strategy<Value = Op> {
        prop_oneof![
            (any::<u64>(), 0u32..=56).prop_map(|(v, w)| Op::Put(v & ((1 << w) - 1), w)),
            (any::<u64>(), 0u32..64).prop_map(|(v, s)| Op::Varint(v >> s)),
            (0u64..5000, 0u32..30).prop_map(|(v, k)| Op::Rice(v, k)),
            any::<[u8; 3]>().prop_map(Op::Raw),
        ]
    }

    proptest! {
        #[test]
        fn what_is_written_is_read(ops in proptest::collection::vec(op(), 0..40), cut in any::<prop::sample::Index>()) {
            let mut out = Writer::new();
            for op in &ops {
                match op {
                    Op::Put(v, w) => out.put(*v, *w),
                    Op::Varint(v) => out.varint(*v),
                    Op::Rice(v, k) => out.rice(*v, *k),
                    Op::Raw(v) => out.raw(v),
                }
            }
            let bytes = out.finish();
            let read = |bytes: &[u8]| -> Option<()> {
                let mut input = Reader::new(bytes);
                for op in &ops {
                    match op {
                        Op::Put(v, w) => assert_eq!(input.take(*w)?, *v),
                        Op::Varint(v) => assert_eq!(input.varint()?, *v),
                        Op::Rice(v, k) => assert_eq!(input.rice(*k)?, *v),
                        Op::Raw(v) => assert_eq!(input.raw::<3>()?, *v),
                    }
                }
                input.finish()
            };
            prop_assert_eq!(read(&bytes), Some(()));
            if !bytes.is_empty() {
                prop_assert_eq!(read(&bytes[..cut.index(bytes.len())]), None);
            }
        }

        #[test]
        fn one_form_for_each_varint(bytes in proptest::collection::vec(any::<u8>(), 1..12)) {
            let mut input = Reader::new(&bytes);
            if let Some(value) = input.varint() {
                let mut out = Writer::new();
                out.varint(value);
                let again = out.finish();
                prop_assert_eq!(&bytes[..again.len()], &again[..]);
            }
        }
    }
}
