//! Which way is the cheapest.

/// What is known of the way between two nodes.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Link {
    /// Time from a question to its answer, in seconds.
    pub round_trip: f64,
    /// Bytes a second that can be had, the slower direction.
    pub bytes_per_second: f64,
}

impl Default for Link {
    /// A guess for where nothing is known: 50 ms, and 2 Mbit/s as a share of a home connection.
    fn default() -> Self {
        Self { round_trip: 0.05, bytes_per_second: 250e3 }
    }
}

/// How two sets were compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Method {
    /// The checks were the same.
    Same,
    /// One side had nothing.
    Stream,
    /// The difference was in the opening sketch.
    Opening,
    /// Sketches of pieces.
    Sketches,
    /// Lists of shortened ids.
    Lists,
}

/// What it takes, in seconds, to settle a difference by one method. The figures are measured (two
/// cores of a 2020s server); where they are wrong, some time is lost and nothing else.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Cost {
    /// Bytes both ways.
    pub bytes: f64,
    /// Round trips, beginning with the opening.
    pub round_trips: f64,
    /// Seconds of computing, both sides together.
    pub computing: f64,
}

impl Cost {
    /// Sketches of pieces, with about `difference` items in one of the sets only.
    pub fn sketches(difference: f64) -> Self {
        Self {
            bytes: 10.0 * difference + 60.0,
            round_trips: 2.3,
            computing: 8e-6 * difference + 1e-4,
        }
    }

    /// Lists, where the answerer has `theirs` items and the opener `ours`.
    pub fn lists(difference: f64, ours: f64, theirs: f64) -> Self {
        Self {
            bytes: 2.25 * theirs + 1.2 * difference + 40.0,
            round_trips: 2.0,
            computing: 4e-7 * (ours + theirs) + 1e-4,
        }
    }

    /// Altogether, in seconds.
    pub fn seconds(&self, link: &Link) -> f64 {
        self.bytes / link.bytes_per_second.max(1.0)
            + self.round_trips * link.round_trip
            + self.computing
    }
}

/// Sketches or lists, for the items of one piece or of all.
pub(super) fn choose(difference: f64, ours: u64, theirs: u64, link: &Link) -> Method {
    let (ours, theirs) = (ours as f64, theirs as f64);
    let sketches = Cost::sketches(difference).seconds(link);
    let lists = Cost::lists(difference, theirs, ours).seconds(link);
    if lists < sketches { Method::Lists } else { Method::Sketches }
}

/// Bytes that it takes at least to name `difference` of all 48-bit ids: the logarithm of the number of
/// such sets.
pub fn bound(difference: u64) -> f64 {
    let d = difference as f64;
    if difference == 0 { 0.0 } else { d * (48.0 - d.log2() + std::f64::consts::LOG2_E) / 8.0 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_where_much_differs_and_sketches_where_little_does() {
        let link = Link::default();
        assert_eq!(choose(100.0, 1_000_000, 1_000_000, &link), Method::Sketches);
        assert_eq!(choose(100_000.0, 1_000_000, 1_000_000, &link), Method::Sketches);
        assert_eq!(choose(500_000.0, 1_000_000, 1_000_000, &link), Method::Lists);
        assert_eq!(choose(10.0, 12, 12, &link), Method::Lists);
    }

    #[test]
    fn the_bound() {
        assert_eq!(bound(0), 0.0);
        assert!((bound(10) - 57.6).abs() < 0.5, "{}", bound(10));
        assert!((bound(100_000) - 410e3).abs() < 2e3, "{}", bound(100_000));
    }
}
