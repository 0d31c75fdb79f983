//! How many copies there are at each of many points of the ring.

use arcwise_proto::ring::{Location, RING};

/// How far an arc goes from a node's location: `up` are locations from its own on, `down` those right before.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Reach {
    pub(super) up: u64,
    pub(super) down: u64,
}

impl Reach {
    pub(super) const FULL: Reach = Reach { up: RING / 2, down: RING / 2 };

    pub(super) fn len(self) -> u64 {
        self.up + self.down
    }

    pub(super) fn is_empty(self) -> bool {
        self.len() == 0
    }

    pub(super) fn and(self, other: Reach) -> Reach {
        Reach { up: self.up.min(other.up), down: self.down.min(other.down) }
    }

    pub(super) fn or(self, other: Reach) -> Reach {
        Reach { up: self.up.max(other.up), down: self.down.max(other.down) }
    }

    /// Whether a location is inside, where the arc is one of a node at `from`.
    pub(super) fn covers(self, from: Location, location: Location) -> bool {
        let up = u64::from(location.0.wrapping_sub(from.0));
        up < self.up || RING - up <= self.down
    }

    /// The part of the ring that it is.
    pub(super) fn fraction(self) -> f64 {
        self.len() as f64 / RING as f64
    }
}

/// Counts at points that are spread evenly, exact at each of them.
#[derive(Debug)]
pub(super) struct Cover {
    /// So many locations are from one point to the next: two to the power of this.
    shift: u32,
    /// Copies that nodes which are on claim truly.
    on: Vec<u32>,
    /// Copies on disks, also of nodes that will come back.
    disk: Vec<u32>,
    /// Since when there are too few; [`NEVER`] where there are enough.
    since: Vec<u32>,
    /// With fewer than these, there are too few.
    min: u32,
    /// At how many points there are too few.
    below: usize,
    /// Since when that counts: there were enough everywhere.
    counting: Option<u32>,
    /// The longest time that there were too few anywhere, and is over.
    longest: u32,
    /// How often a point lost its last copy on any disk.
    pub(super) lost: u64,
}

const NEVER: u32 = u32::MAX;

/// Points for each node, on average: so the arcs of two nodes next to each other differ by several.
const POINTS: usize = 8;

impl Cover {
    pub(super) fn new(nodes: usize, sectors: usize, min: u32) -> Self {
        let points = (nodes * POINTS).max(sectors * POINTS).next_power_of_two();
        Self {
            shift: 32 - points.trailing_zeros(),
            on: vec![0; points],
            disk: vec![0; points],
            since: vec![0; points],
            min,
            below: points,
            counting: None,
            longest: 0,
            lost: 0,
        }
    }

    pub(super) fn points(&self) -> usize {
        self.on.len()
    }

    /// From now on it counts where there are too few, if there are enough everywhere.
    pub(super) fn count_from(&mut self, now: u32) {
        if self.below == 0 && self.counting.is_none() {
            self.counting = Some(now);
        }
    }

    /// What a node at `from` claims truly is another arc now.
    pub(super) fn claim(&mut self, now: u32, from: Location, before: Reach, after: Reach) {
        self.change(from, before, after, |cover, point, more| cover.claims(now, point, more));
    }

    /// What a node at `from` has on its disk is another arc now.
    pub(super) fn keep(&mut self, from: Location, before: Reach, after: Reach) {
        self.change(from, before, after, |cover, point, more| match more {
            true => cover.disk[point] += 1,
            false => {
                cover.disk[point] -= 1;
                cover.lost += u64::from(cover.disk[point] == 0);
            }
        });
    }

    /// The fewest claims at any point of an arc; `None` where there is no point in it.
    pub(super) fn least(&self, from: Location, arc: Reach) -> Option<u32> {
        let (up, down) =
            (self.range(from, 0, arc.up as i64), self.range(from, -(arc.down as i64), 0));
        up.chain(down).map(|point| self.on[point]).min()
    }

    fn claims(&mut self, now: u32, point: usize, more: bool) {
        let copies = &mut self.on[point];
        match more {
            true => {
                *copies += 1;
                if *copies == self.min {
                    self.below -= 1;
                    let since = std::mem::replace(&mut self.since[point], NEVER);
                    self.longest = self.longest.max(self.lasted(now, since));
                }
            }
            false => {
                if *copies == self.min {
                    self.below += 1;
                    self.since[point] = now;
                }
                *copies -= 1;
            }
        }
    }

    /// How long something that began then lasted, as far as it counts.
    fn lasted(&self, now: u32, since: u32) -> u32 {
        self.counting.map_or(0, |counting| now.saturating_sub(since.max(counting)))
    }

    /// The longest time that there were too few anywhere, once there were enough; all the time, where there never
    /// were.
    pub(super) fn longest(&self, now: u32) -> u32 {
        if self.counting.is_none() {
            return now;
        }
        let open = self.since.iter().filter(|since| **since != NEVER);
        open.map(|since| self.lasted(now, *since)).max().unwrap_or(0).max(self.longest)
    }

    /// Where there are the fewest copies, of a twentieth of the points, of half of them; and how many of so
    /// many sectors have too few somewhere.
    pub(super) fn levels(&self, sectors: usize) -> ((f64, f64, f64), usize) {
        let most = self.on.iter().max().copied().unwrap_or(0);
        let mut counts = vec![0u64; most as usize + 1];
        self.on.iter().for_each(|copies| counts[*copies as usize] += 1);
        let level = |part: f64| {
            let mut left = (self.on.len() as f64 * part).ceil().max(1.0) as u64;
            let at = counts.iter().position(|count| {
                let enough = *count >= left;
                left = left.saturating_sub(*count);
                enough
            });
            at.unwrap_or(0) as f64
        };
        let each = self.on.len() / sectors.max(1);
        let weak = |sector: &&[u32]| sector.iter().any(|copies| *copies < self.min);
        let below = self.on.chunks(each.max(1)).filter(weak).count();
        ((level(0.0), level(0.05), level(0.5)), below)
    }

    /// Copies at a point, on average.
    pub(super) fn mean(&self) -> f64 {
        self.on.iter().map(|copies| u64::from(*copies)).sum::<u64>() as f64 / self.on.len() as f64
    }

    fn change(
        &mut self,
        from: Location,
        before: Reach,
        after: Reach,
        mut each: impl FnMut(&mut Self, usize, bool),
    ) {
        let sides =
            [(before.up as i64, after.up as i64), (-(before.down as i64), -(after.down as i64))];
        for (n, (before, after)) in sides.into_iter().enumerate() {
            let more = if n == 0 { after > before } else { after < before };
            for point in self.range(from, before.min(after), before.max(after)) {
                each(self, point, more);
            }
        }
    }

    /// The points from so many locations after `from` up to, and not including, so many.
    fn range(&self, from: Location, first: i64, end: i64) -> impl Iterator<Item = usize> + use<> {
        // All above zero, so that division rounds one way.
        let base = i64::from(from.0) + RING as i64;
        let (size, mask) = (1i64 << self.shift, self.on.len() - 1);
        let at = move |steps: i64| ((base + steps + size - 1) >> size.trailing_zeros()) as usize;
        (at(first)..at(end)).map(move |point| point & mask)
    }
}

#[cfg(test)]
mod tests {
    use rand::{Rng as _, RngExt as _};

    use super::*;
    use crate::random::stream;

    #[test]
    fn counts_are_exact_at_each_point() {
        let mut random = stream(7, "cover", 0);
        let mut cover = Cover::new(1, 512, 3);
        let mut arcs: Vec<(Location, Reach)> = Vec::new();
        for n in 0..400u32 {
            let from = Location(random.next_u32());
            let mut side = || u64::from(random.next_u32()) / 2 / random.random_range(1..10);
            let (up, down) = (side(), side());
            let reach = Reach { up, down };
            cover.claim(n, from, Reach::default(), reach);
            cover.keep(from, Reach::default(), reach);
            arcs.push((from, reach));
            if n % 3 == 0 {
                let at = random.random_range(0..arcs.len());
                let (from, reach) = &mut arcs[at];
                let other = Reach { up: reach.down, down: reach.up / 2 };
                cover.claim(n, *from, *reach, other);
                *reach = other;
            }
        }
        for (point, copies) in cover.on.iter().enumerate() {
            let location = Location((point as u32) << cover.shift);
            let wanted = arcs.iter().filter(|(from, reach)| reach.covers(*from, location)).count();
            assert_eq!(*copies as usize, wanted, "{point}");
        }
        let least = cover.least(Location(5), Reach::FULL);
        assert_eq!(least, cover.on.iter().min().copied());
        assert_eq!(cover.levels(512).0.0, f64::from(least.unwrap()));
    }

    #[test]
    fn too_few_is_timed_from_when_it_counts() {
        let mut cover = Cover::new(1, 1, 2);
        let (none, all) = (Reach::default(), Reach::FULL);
        let (one, other) = (Location(3), Location(9));
        cover.claim(5, one, none, all);
        cover.count_from(10);
        assert_eq!(cover.longest(12), 12, "there never were enough");
        cover.claim(15, other, none, all);
        cover.count_from(15);
        assert_eq!(cover.longest(16), 0);
        cover.claim(20, one, all, Reach { up: RING / 4, down: RING / 4 });
        assert_eq!((cover.longest, cover.longest(22)), (0, 2));
        cover.claim(25, one, Reach { up: RING / 4, down: RING / 4 }, all);
        assert_eq!(cover.longest(40), 5);
        cover.claim(50, one, all, none);
        cover.claim(50, other, all, none);
        assert_eq!(cover.longest(61), 11);
        assert_eq!(cover.levels(1), ((0.0, 0.0, 0.0), 1));
        cover.keep(other, none, all);
        cover.keep(other, all, none);
        assert_eq!(cover.lost, cover.points() as u64);
    }
}
