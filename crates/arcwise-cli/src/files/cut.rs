//! Cuts a stream of bytes where its content says, so that equal stretches become equal chunks.

use std::io::{self, Read};

use arcwise_proto::limits::MAX_ASPECT_DATA;
use fastcdc::v2020::{self, Normalization};

use super::ADDRESS;

/// How blobs are cut. Parameters, so that small tests reach deep trees; the format knows one set.
#[derive(Clone, Copy, Debug)]
pub(super) struct Sizes {
    /// Chunk sizes in bytes; FastCDC needs them even.
    pub(super) min: usize,
    pub(super) avg: usize,
    pub(super) max: usize,
    /// Most addresses in one index.
    pub(super) fanout: usize,
}

impl Sizes {
    /// A guess: chunks large enough that the cost per aspect vanishes, small enough that a change
    /// in a large file sends little again.
    pub(super) const FORMAT: Sizes = Sizes {
        min: 64 << 10,
        avg: 256 << 10,
        max: MAX_ASPECT_DATA,
        fanout: MAX_ASPECT_DATA / ADDRESS,
    };
}

/// FastCDC over one stream after another, with one buffer for all of them.
pub(super) struct Cutter {
    sizes: Sizes,
    /// Strict and relaxed mask.
    masks: (u64, u64),
    buffer: Vec<u8>,
    /// The part of the buffer that is read and not handed out yet.
    start: usize,
    end: usize,
    /// The current stream has no more.
    ended: bool,
}

impl Cutter {
    pub(super) fn new(sizes: Sizes) -> Self {
        let masks = v2020::select_masks(sizes.avg, Normalization::Level1);
        // Room for several chunks: what is left over after cutting is moved to the front once per
        // filling, not once per chunk.
        let buffer = vec![0; 4 * sizes.max];
        Self { sizes, masks, buffer, start: 0, end: 0, ended: false }
    }

    pub(super) fn sizes(&self) -> Sizes {
        self.sizes
    }

    /// Begins another stream.
    pub(super) fn reset(&mut self) {
        (self.start, self.end, self.ended) = (0, 0, false);
    }

    /// The next chunk of `source`, which must be the same until the end; `None` there.
    pub(super) fn next(&mut self, source: &mut impl Read) -> io::Result<Option<&[u8]>> {
        if !self.ended && self.end - self.start < self.sizes.max {
            self.fill(source)?;
        }
        let Sizes { min, avg, max, .. } = self.sizes;
        let (strict, relaxed) = self.masks;
        let rest = &self.buffer[self.start..self.end];
        if rest.is_empty() {
            return Ok(None);
        }
        let (_, length) =
            v2020::cut(rest, min, avg, max, strict, relaxed, strict << 1, relaxed << 1);
        self.start += length;
        Ok(Some(&rest[..length]))
    }

    fn fill(&mut self, source: &mut impl Read) -> io::Result<()> {
        self.buffer.copy_within(self.start..self.end, 0);
        (self.start, self.end) = (0, self.end - self.start);
        while self.end < self.buffer.len() {
            match source.read(&mut self.buffer[self.end..]) {
                Ok(0) => {
                    self.ended = true;
                    break;
                }
                Ok(read) => self.end += read,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use fastcdc::v2020::FastCDC;
    use proptest::prelude::*;

    use super::*;

    /// Hands out its bytes a few at a time, as a pipe does.
    struct Trickle<'a>(&'a [u8], usize);

    impl Read for Trickle<'_> {
        fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
            let upto = self.1.min(buffer.len());
            self.0.read(&mut buffer[..upto])
        }
    }

    proptest! {
        #[test]
        fn a_stream_is_cut_as_the_whole_would_be(
            data in prop::collection::vec(any::<u8>(), 0..20_000),
            step in 1..5000usize,
        ) {
            let sizes = Sizes { min: 64, avg: 256, max: 1024, fanout: 4 };
            let mut cutter = Cutter::new(sizes);
            // What an earlier stream left in the buffer must not show.
            cutter.next(&mut &[7; 3000][..]).unwrap();
            cutter.reset();
            let mut lengths = Vec::new();
            let mut whole = Vec::new();
            let mut source = Trickle(&data, step);
            while let Some(chunk) = cutter.next(&mut source).unwrap() {
                lengths.push(chunk.len());
                whole.extend_from_slice(chunk);
            }
            let expected: Vec<_> = FastCDC::new(&data, 64, 256, 1024).map(|c| c.length).collect();
            prop_assert_eq!(whole, data);
            prop_assert_eq!(lengths, expected);
        }
    }
}
