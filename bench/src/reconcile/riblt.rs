//! A rateless IBLT of whole hashes, written for this comparison after the paper: Yang, Gilad,
//! Alizadeh, *Practical Rateless Set Reconciliation* (2024), with its mapping for alpha = 1/2.
//!
//! Of everything open to choice the cheaper is taken: the checksum is 8 bytes and not keyed, counts
//! are sent as their distance from what is expected, and the stream ends with the very cell that
//! completes the decoding, as on a line without delay.

use std::mem;

use anyhow::Context;
use arcwise_proto::AspectKey;

use super::{
    Case, Cost,
    set::{Random, mix},
    timed,
};

#[derive(Clone, Copy, Default, PartialEq)]
struct Cell {
    sum: [u64; 4],
    check: u64,
    count: i64,
}

impl Cell {
    fn of(key: &AspectKey) -> Self {
        let mut sum = [0; 4];
        let (words, _) = key.hash.0.as_chunks::<8>();
        sum.iter_mut().zip(words).for_each(|(sum, word)| *sum = u64::from_le_bytes(*word));
        Self { sum, check: check(&sum), count: 1 }
    }

    #[inline(always)]
    fn add(&mut self, other: &Cell) {
        self.sum.iter_mut().zip(other.sum).for_each(|(sum, word)| *sum ^= word);
        self.check ^= other.check;
        self.count += other.count;
    }

    #[inline(always)]
    fn subtract(&mut self, other: &Cell) {
        self.add(&Cell { count: -other.count, ..*other });
    }

    fn is_single(&self) -> bool {
        self.count.abs() == 1 && check(&self.sum) == self.check
    }
}

fn check(sum: &[u64; 4]) -> u64 {
    sum.iter().fold(1, |check, word| mix(check.rotate_left(5) ^ word))
}

/// The cells that an item is in: the first, and then each after a random gap, so that cell i has a
/// share of 1 / (1 + i / 2) of all items.
struct Mapping {
    random: Random,
    next: u32,
}

impl Mapping {
    fn new(item: &Cell) -> Self {
        Self { random: Random(item.check), next: 0 }
    }

    #[inline(always)]
    fn advance(&mut self) {
        let at = f64::from(self.next);
        let uniform = (self.random.word() >> 11) as f64 / (1u64 << 53) as f64;
        let gap = (at + 1.5) * ((1.0 - uniform).powf(-0.5) - 1.0);
        self.next = (at + gap.ceil().max(1.0)).min(f64::from(u32::MAX)) as u32;
    }
}

/// Cells of a set, as many as were asked for so far.
struct Encoder<'a> {
    keys: &'a [AspectKey],
    mappings: Vec<Mapping>,
    cells: Vec<Cell>,
}

impl<'a> Encoder<'a> {
    fn new(keys: &'a [AspectKey]) -> Self {
        let mappings = keys.iter().map(|key| Mapping::new(&Cell::of(key))).collect();
        Self { keys, mappings, cells: Vec::new() }
    }

    fn extend(&mut self, len: usize) {
        self.cells.resize(len, Cell::default());
        for (key, mapping) in self.keys.iter().zip(&mut self.mappings) {
            if (mapping.next as usize) < len {
                let item = Cell::of(key);
                while (mapping.next as usize) < len {
                    self.cells[mapping.next as usize].add(&item);
                    mapping.advance();
                }
            }
        }
    }
}

/// Takes the difference out of cells, one cell after the other.
#[derive(Default)]
struct Decoder {
    cells: Vec<Cell>,
    found: Vec<(Cell, Mapping)>,
    /// Which of the found ones are in a cell that is still to come.
    coming: Vec<Vec<u32>>,
}

impl Decoder {
    /// Room for so many cells altogether.
    fn reserve(&mut self, len: usize) {
        let from = self.coming.len();
        self.coming.resize_with(len, Vec::new);
        for (at, (_, mapping)) in self.found.iter().enumerate() {
            let next = mapping.next as usize;
            if next >= from && next < len {
                self.coming[next].push(at as u32);
            }
        }
    }

    fn schedule(&mut self, at: u32) {
        let next = self.found[at as usize].1.next as usize;
        if let Some(coming) = self.coming.get_mut(next) {
            coming.push(at);
        }
    }

    /// Takes the next cell; whether all is found then.
    fn push(&mut self, mut cell: Cell) -> bool {
        let number = self.cells.len();
        for at in mem::take(&mut self.coming[number]) {
            let (item, mapping) = &mut self.found[at as usize];
            cell.subtract(item);
            mapping.advance();
            self.schedule(at);
        }
        self.cells.push(cell);
        let mut todo = vec![number];
        while let Some(at) = todo.pop() {
            let item = self.cells[at];
            if !item.is_single() {
                continue;
            }
            let mut mapping = Mapping::new(&item);
            while let Some(cell) = self.cells.get_mut(mapping.next as usize) {
                cell.subtract(&item);
                if cell.count.abs() == 1 {
                    todo.push(mapping.next as usize);
                }
                mapping.advance();
            }
            self.found.push((item, mapping));
            self.schedule(self.found.len() as u32 - 1);
        }
        // Every item is in the first cell.
        self.cells[0] == Cell::default()
    }
}

/// The opener streams cells until the answerer has it all; he answers with what he lacks. What both
/// share is encoded once, and its time counted for both.
pub fn session(case: &Case<'_>) -> anyhow::Result<Cost> {
    let mut cost = Cost { messages: 2, ..Cost::default() };
    let mut both = 0.0;
    let mut shared = timed(&mut both, || Encoder::new(case.shared));
    let mut opener = timed(&mut cost.opener, || Encoder::new(case.opener_only));
    let mut answerer = timed(&mut cost.answerer, || Encoder::new(case.answerer_only));
    let mut decoder = Decoder::default();
    let count = (case.shared.len() + case.opener_only.len()) as f64;
    let mut done = false;
    while !done {
        let from = shared.cells.len();
        let len = (from * 5 / 4).max(8);
        anyhow::ensure!(len < 1 << 28, "no end");
        timed(&mut both, || shared.extend(len));
        timed(&mut cost.opener, || opener.extend(len));
        timed(&mut cost.answerer, || {
            answerer.extend(len);
            decoder.reserve(len);
            for at in from..len {
                let mut sent = shared.cells[at];
                sent.add(&opener.cells[at]);
                let expected = (count / (1.0 + at as f64 / 2.0)).round() as i64;
                cost.to_answerer += 32 + 8 + varint(sent.count - expected);
                sent.subtract(&shared.cells[at]);
                sent.subtract(&answerer.cells[at]);
                done = decoder.push(sent);
                if done {
                    break;
                }
            }
        });
    }
    cost.opener += both;
    cost.answerer += both;
    let he_lacks = decoder.found.iter().filter(|(item, _)| item.count > 0).count() as u64;
    cost.to_opener = 4 + 32 * he_lacks;
    case.check(he_lacks, decoder.found.len() as u64 - he_lacks).context("rateless IBLT")?;
    Ok(cost)
}

fn varint(number: i64) -> u64 {
    let zigzag = ((number << 1) ^ (number >> 63)) as u64;
    u64::from((zigzag | 1).ilog2() / 7 + 1)
}
