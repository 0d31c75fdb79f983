//! The sums of a whole set, kept up to date, and the sums of any part of it at once.
//!
//! The places are cut into *sectors*, each a power-of-two share of all places, aligned to its size;
//! of each the [`Sums`] are kept. How fine the cut is follows the items, wherever they are: a sector
//! with more than the *load* of items is halved, so that a short arc or a single entry with very many
//! aspects has as many sectors as a full ring with the same number of items. The load is
//! [`MIN_LOAD`] and doubles whenever there are more than [`MAX_SECTORS`], which bounds the memory
//! whatever anybody publishes.
//!
//! Two nodes need not cut alike. The sums of a run of places are whole sectors, where these lie
//! inside, and items read one by one at the two edges, at most a load of them at each. Since both cut
//! at halves, the edges that one chooses are mostly edges of the other's too.
//!
//! A few dozen neighbouring sectors form a block, of which the sums are kept as well: so 4096 sectors
//! are summed in about a hundred additions.

use std::{collections::BTreeSet, sync::Arc};

use super::{
    fingerprint::Fingerprint,
    item::{Place, Span, spans},
    sums::{Parts, Sums},
};
use crate::{aspect::AspectKey, id::AspectHash, ring::ArcSet};

/// A sector of no more items than this is never halved: below it, reading the items one by one costs
/// a fraction of a millisecond.
pub const MIN_LOAD: u64 = 256;

/// Most sectors, give or take those of one batch: 11.5 MB of sums.
pub const MAX_SECTORS: usize = 4096;

/// Most sectors in a block; a block that is cut in two has half as many.
const MAX_BLOCK: usize = 64;

/// A halving ends here: a single place.
const MAX_DEPTH: u8 = 64;

/// The reads that are made of a set of items.
pub trait Items {
    /// Why a read failed: always our own disk, never the peer.
    type Error;

    /// Shows every held item from `first` to `last`, both inclusive, ascending.
    ///
    /// # Errors
    /// Where the store cannot be read.
    fn scan(
        &self,
        first: &AspectKey,
        last: &AspectKey,
        each: &mut dyn FnMut(&AspectKey),
    ) -> Result<(), Self::Error>;

    /// All held items whose hash is from `first` to `last`, both inclusive, wherever they are: an
    /// ordered look-up in an index by hash, of a few items mostly.
    ///
    /// # Errors
    /// Where the store cannot be read.
    fn find(&self, first: &AspectHash, last: &AspectHash) -> Result<Vec<AspectKey>, Self::Error>;

    /// Adds the fingerprint of an item to a sum. Computing it is most of what reading an item costs, so who has it
    /// at hand adds that.
    fn add_fingerprint(&self, hash: &AspectHash, to: &mut Fingerprint) {
        to.merge(&Fingerprint::of(hash));
    }
}

/// The sums of a set of items, by sectors. A clone is a snapshot: it costs a few microseconds, shares
/// its memory with the original, and stays as it is when that goes on.
///
/// The caller sees to it that every item is inserted once, is removed only when it is in, and that
/// the [`Items`] given to any method are the very ones inserted.
#[derive(Clone, Debug)]
pub struct Sectors {
    /// Never empty, ascending; together the sectors are all places.
    blocks: Vec<Arc<Block>>,
    sectors: usize,
    load: u64,
    count: u64,
    /// The first places of the sectors that have grown beyond the load.
    crowded: BTreeSet<u64>,
    /// How many items were removed since sectors were joined last.
    removed: u64,
}

#[derive(Clone, Debug)]
struct Block {
    sums: Sums,
    /// Never empty.
    sectors: Vec<Sector>,
}

#[derive(Clone, Debug)]
pub(super) struct Sector {
    pub(super) first: u64,
    /// It is 2^-depth of all places: 0 to 64.
    pub(super) depth: u8,
    /// `None` for no items.
    pub(super) sums: Option<Arc<Sums>>,
}

impl Sector {
    pub(super) fn span(&self) -> Span {
        let rest = u64::MAX.checked_shr(self.depth.into()).unwrap_or(0);
        Span { first: Place(self.first), last: Place(self.first | rest) }
    }

    fn count(&self) -> u64 {
        self.sums.as_ref().map_or(0, |sums| sums.count)
    }

    /// Both halves, with no sums yet.
    fn halves(&self) -> [Sector; 2] {
        let depth = self.depth + 1;
        let middle = self.first | 1 << (64 - depth);
        [self.first, middle].map(|first| Sector { first, depth, sums: None })
    }

    fn joins(&self, right: &Sector) -> bool {
        self.depth == right.depth
            && self.depth > 0
            && self.first ^ right.first == 1 << (64 - self.depth)
    }
}

impl Block {
    fn new(sectors: Vec<Sector>) -> Arc<Self> {
        let mut sums = Sums::ZERO;
        for sector in sectors.iter().filter_map(|sector| sector.sums.as_ref()) {
            sums.merge(sector, Parts::ALL);
        }
        Arc::new(Self { sums, sectors })
    }

    fn span(&self) -> Span {
        let (first, last) = (&self.sectors[0], &self.sectors[self.sectors.len() - 1]);
        Span { first: first.span().first, last: last.span().last }
    }
}

impl Default for Sectors {
    fn default() -> Self {
        Self::new()
    }
}

impl Sectors {
    /// Of no items: one sector.
    pub fn new() -> Self {
        Self::from_sectors(MIN_LOAD, vec![Sector { first: 0, depth: 0, sums: None }])
    }

    /// Of no items, but cut for `count` items spread evenly over `arcs`: the way to sum up a set that
    /// is there already, since a sector without items is halved without reading any.
    pub fn expecting(count: u64, arcs: &ArcSet) -> Self {
        let mut this = Self::new();
        let aim = MAX_SECTORS as u64 / 2;
        while this.load * aim < count {
            this.load *= 2;
        }
        // The full ring has 2^64 places.
        let places = u128::from(arcs.len().max(1)) << 32;
        let each = places * u128::from(this.load) / 2 / u128::from(count.max(1));
        let arcs: Vec<Span> = spans(arcs).collect();
        let mut cut = Vec::new();
        let mut stack = vec![Sector { first: 0, depth: 0, sums: None }];
        while let Some(sector) = stack.pop() {
            let span = sector.span();
            let size = u128::from(span.last.0 - span.first.0) + 1;
            let room = cut.len() + stack.len() < MAX_SECTORS - 2;
            let inside = arcs.iter().any(|arc| arc.intersect(&span).is_some());
            if size > each && inside && room && sector.depth < MAX_DEPTH {
                let [left, right] = sector.halves();
                stack.extend([right, left]);
            } else {
                cut.push(sector);
            }
        }
        Self::from_sectors(this.load, cut)
    }

    /// From sectors that are all places, ascending.
    pub(super) fn from_sectors(load: u64, sectors: Vec<Sector>) -> Self {
        let count = sectors.iter().map(Sector::count).sum();
        let crowded = sectors.iter().filter(|s| s.count() > load && s.depth < MAX_DEPTH);
        let crowded = crowded.map(|s| s.first).collect();
        let len = sectors.len();
        let mut blocks = Vec::new();
        let mut sectors = sectors.into_iter().peekable();
        while sectors.peek().is_some() {
            blocks.push(Block::new(sectors.by_ref().take(MAX_BLOCK / 2).collect()));
        }
        Self { blocks, sectors: len, load, count, crowded, removed: 0 }
    }

    /// How it is cut: above how many items a sector is halved, and how often all places were halved for each
    /// sector, ascending. See [`Sectors::from_cut`].
    pub fn cut(&self) -> (u64, Vec<u8>) {
        (self.load, self.sectors().map(|sector| sector.depth).collect())
    }

    /// Of no items, and cut in the same way; `None` where that is not all places, or no load.
    pub fn from_cut(load: u64, depths: &[u8]) -> Option<Self> {
        let (mut sectors, mut next) = (Vec::with_capacity(depths.len()), 0u128);
        for &depth in depths {
            let places = 1u128 << 64u32.checked_sub(depth.into())?;
            let first = u64::try_from(next).ok().filter(|_| next.is_multiple_of(places))?;
            sectors.push(Sector { first, depth, sums: None });
            next += places;
        }
        let whole = next == 1 << 64 && load >= MIN_LOAD;
        whole.then(|| Self::from_sectors(load, sectors))
    }

    pub(super) fn sectors(&self) -> impl Iterator<Item = &Sector> {
        self.blocks.iter().flat_map(|block| &block.sectors)
    }

    /// How many items there are.
    pub fn count(&self) -> u64 {
        self.count
    }

    /// How many sectors there are.
    pub fn len(&self) -> usize {
        self.sectors
    }

    /// Whether there are no items.
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// Above how many items a sector is halved.
    pub fn load(&self) -> u64 {
        self.load
    }

    /// Bytes of memory that the sums take, about.
    pub fn memory(&self) -> usize {
        let sums = self.sectors().filter(|sector| sector.sums.is_some()).count();
        (sums + self.blocks.len()) * size_of::<Sums>() + self.sectors * size_of::<Sector>()
    }

    /// Adds an item that is not in. Sectors may be crowded afterwards: nothing is wrong then, but see
    /// [`Sectors::settle`].
    pub fn insert(&mut self, key: &AspectKey) {
        let item = Sums::of(&key.hash, Parts::ALL);
        let load = self.load;
        self.count += 1;
        let sector = self.change(Place::of(key), |sums| sums.merge(&item, Parts::ALL));
        if sector.count() > load && sector.depth < MAX_DEPTH {
            let first = sector.first;
            self.crowded.insert(first);
        }
    }

    /// Takes away an item that is in.
    pub fn remove(&mut self, key: &AspectKey) {
        let item = Sums::of(&key.hash, Parts::ALL);
        self.count = self.count.saturating_sub(1);
        self.removed += 1;
        let sector = self.change(Place::of(key), |sums| sums.subtract(&item, Parts::ALL));
        if sector.count() == 0 {
            sector.sums = None;
        }
    }

    fn change(&mut self, place: Place, mut change: impl FnMut(&mut Sums)) -> &mut Sector {
        let (block, at) = self.find(place);
        let block = Arc::make_mut(&mut self.blocks[block]);
        change(&mut block.sums);
        let sector = &mut block.sectors[at];
        change(Arc::make_mut(sector.sums.get_or_insert_with(|| Arc::new(Sums::ZERO))));
        sector
    }

    /// The block and the sector in it where `place` is.
    fn find(&self, place: Place) -> (usize, usize) {
        let block = self.blocks.partition_point(|block| block.sectors[0].first <= place.0) - 1;
        let sectors = &self.blocks[block].sectors;
        (block, sectors.partition_point(|sector| sector.first <= place.0) - 1)
    }

    /// Halves the crowded sectors and joins those that have become too many: to be called after a
    /// batch of changes. It reads the items of one half of each crowded sector.
    ///
    /// # Errors
    /// Where the store cannot be read. The sums are right even so, and it can be called again.
    pub fn settle<I: Items>(&mut self, items: &I) -> Result<(), I::Error> {
        while let Some(&first) = self.crowded.first() {
            let (block, at) = self.find(Place(first));
            let sector = &self.blocks[block].sectors[at];
            if let Some(sums) = &sector.sums
                && sums.count > self.load
                && sector.depth < MAX_DEPTH
            {
                let [mut left, mut right] = sector.halves();
                let left_sums = read(items, left.span(), Parts::ALL)?;
                let mut right_sums = Sums::clone(sums);
                right_sums.subtract(&left_sums, Parts::ALL);
                for (half, sums) in [(&mut left, left_sums), (&mut right, right_sums)] {
                    half.sums = (sums.count > 0).then(|| Arc::new(sums));
                    if half.count() > self.load && half.depth < MAX_DEPTH {
                        self.crowded.insert(half.first);
                    }
                }
                if left.count() <= self.load || left.depth == MAX_DEPTH {
                    self.crowded.remove(&first);
                }
                self.replace(block, at, [left, right]);
            } else {
                self.crowded.remove(&first);
            }
        }
        if self.sectors > MAX_SECTORS || self.removed > self.count + MIN_LOAD {
            self.join();
        }
        Ok(())
    }

    /// Puts two halves in the place of a sector.
    fn replace(&mut self, block: usize, at: usize, halves: [Sector; 2]) {
        self.sectors += 1;
        let sectors = &mut Arc::make_mut(&mut self.blocks[block]).sectors;
        sectors.splice(at..=at, halves);
        if sectors.len() > MAX_BLOCK {
            let right = Block::new(sectors.split_off(MAX_BLOCK / 2));
            let left = Arc::make_mut(&mut self.blocks[block]);
            left.sums.subtract(&right.sums, Parts::ALL);
            self.blocks.insert(block + 1, right);
        }
    }

    /// Joins halves with few items until there are not too many sectors, doubling the load as often
    /// as that takes. Nothing is read for it.
    fn join(&mut self) {
        let mut load = self.load;
        while load > MIN_LOAD && self.count < load * (MAX_SECTORS as u64 / 16) {
            load /= 2;
        }
        loop {
            let mut joined: Vec<Sector> = Vec::new();
            for sector in self.sectors() {
                let mut right = sector.clone();
                while let Some(left) = joined
                    .pop_if(|left| left.joins(&right) && left.count() + right.count() <= load / 2)
                {
                    right = Sector {
                        first: left.first,
                        depth: left.depth - 1,
                        sums: match (left.sums, right.sums) {
                            (Some(mut sums), Some(more)) => {
                                Arc::make_mut(&mut sums).merge(&more, Parts::ALL);
                                Some(sums)
                            }
                            (left, right) => left.or(right),
                        },
                    };
                }
                joined.push(right);
            }
            *self = Self::from_sectors(load, joined);
            if self.sectors <= MAX_SECTORS * 3 / 4 {
                return;
            }
            load *= 2;
        }
    }

    /// The sums of all items in a run of places. Where its ends cut through a sector, the items of
    /// that sector inside the run are read.
    ///
    /// # Errors
    /// Where the store cannot be read.
    pub fn sum<I: Items>(&self, span: Span, parts: Parts, items: &I) -> Result<Sums, I::Error> {
        let mut total = Sums::ZERO;
        let inside = |part: &Span| span.contains(part.first) && span.contains(part.last);
        let (from, _) = self.find(span.first);
        for block in self.blocks[from..].iter() {
            if block.span().first > span.last {
                break;
            }
            if inside(&block.span()) {
                total.merge(&block.sums, parts);
                continue;
            }
            for sector in &block.sectors {
                let (Some(sums), Some(part)) = (&sector.sums, sector.span().intersect(&span))
                else {
                    continue;
                };
                if inside(&sector.span()) {
                    total.merge(sums, parts);
                } else {
                    total.merge(&read(items, part, parts)?, parts);
                }
            }
        }
        Ok(total)
    }

    /// The sums of all items in a set of arcs.
    ///
    /// # Errors
    /// Where the store cannot be read.
    pub fn sum_over<I: Items>(
        &self,
        arcs: &ArcSet,
        parts: Parts,
        items: &I,
    ) -> Result<Sums, I::Error> {
        let mut total = Sums::ZERO;
        for span in spans(arcs) {
            total.merge(&self.sum(span, parts, items)?, parts);
        }
        Ok(total)
    }

    /// Where to cut a run of places so that each piece has about `aim` items, counting sectors that
    /// are partly inside by the share of their places. Only the ends of sectors are cut at, and equal
    /// parts of those that have several times `aim` items. Ascending; each is the first of a piece,
    /// and none is the first of the run.
    pub fn cuts(&self, span: Span, aim: f64) -> Vec<Place> {
        let aim = aim.max(1.0);
        let mut cuts = Vec::new();
        let mut since = 0.0;
        let (from, _) = self.find(span.first);
        let sectors = self.blocks[from..].iter().flat_map(|block| &block.sectors);
        for sector in sectors.skip_while(|s| s.span().last < span.first) {
            let whole = sector.span();
            let Some(part) = whole.intersect(&span) else { break };
            let size = |span: Span| (span.last.0 - span.first.0) as f64 + 1.0;
            // 2^pieces equal parts, each with less than twice the aim.
            let times = sector.count() as f64 / aim;
            let pieces = (times.max(1.0).log2() as u32).min(u32::from(MAX_DEPTH - sector.depth));
            let step = whole.last.0 - whole.first.0;
            let step = (step >> pieces).wrapping_add(1);
            let items = sector.count() as f64 * size(part) / size(whole) / 2f64.powi(pieces as i32);
            for i in 0..1u64 << pieces {
                let first = whole.first.0.wrapping_add(step.wrapping_mul(i));
                if first > span.last.0 {
                    break;
                }
                // Cut before what would go further beyond the aim than the piece is short of it.
                if since + items / 2.0 >= aim && first > span.first.0 {
                    cuts.push(Place(first));
                    since = 0.0;
                }
                since += items;
            }
        }
        cuts
    }

    /// Every item's sums anew, compared with what is kept: `true` where all is as it should be.
    ///
    /// # Errors
    /// Where the store cannot be read.
    pub fn verify<I: Items>(&self, items: &I) -> Result<bool, I::Error> {
        for sector in self.sectors() {
            let sums = read(items, sector.span(), Parts::ALL)?;
            let right = match &sector.sums {
                Some(kept) => **kept == sums,
                None => sums.count == 0,
            };
            if !right {
                return Ok(false);
            }
        }
        let blocks = self.blocks.iter().all(|b| Block::new(b.sectors.clone()).sums == b.sums);
        Ok(blocks)
    }
}

/// The sums of a run of places, item by item.
pub(super) fn read<I: Items>(items: &I, span: Span, parts: Parts) -> Result<Sums, I::Error> {
    let mut sums = Sums::ZERO;
    let (first, last) = span.keys();
    items.scan(&first, &last, &mut |key| {
        sums.add(&key.hash, Parts { fingerprint: false, ..parts });
        if parts.fingerprint {
            items.add_fingerprint(&key.hash, &mut sums.fingerprint);
        }
    })?;
    Ok(sums)
}

/// A sorted list of items in memory: for tests, benchmarks and small sets.
impl Items for std::collections::BTreeSet<AspectKey> {
    type Error = std::convert::Infallible;

    fn scan(
        &self,
        first: &AspectKey,
        last: &AspectKey,
        each: &mut dyn FnMut(&AspectKey),
    ) -> Result<(), Self::Error> {
        if first <= last {
            self.range(first..=last).for_each(each);
        }
        Ok(())
    }

    /// Looks at every item: fine for small sets.
    fn find(&self, first: &AspectHash, last: &AspectHash) -> Result<Vec<AspectKey>, Self::Error> {
        Ok(self.iter().filter(|key| (first..=last).contains(&&key.hash)).copied().collect())
    }
}
