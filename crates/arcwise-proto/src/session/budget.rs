//! How much work comparing with a peer may take.

use crate::{reconcile::exchange::Limits, time::Time};

/// How much work comparing with one peer may take, in nanoseconds of a core, about. It is earned with
/// time, so that nobody can keep a node busy with sets that are hard to compare.
#[derive(Clone, Debug)]
pub struct Budget {
    left: u64,
    at: Time,
}

impl Budget {
    /// The most that can be saved up: a minute, enough for any two sets of ten million. A guess.
    const MOST: u64 = 60_000_000_000;
    /// How many nanoseconds it takes to earn one: comparing takes a twentieth of a core for each
    /// peer, at most. A guess.
    const SLOWNESS: u64 = 20;

    /// What a repair costs besides its work: with this at most thirty at once, and one every forty
    /// seconds.
    const REPAIR: u64 = 2_000_000_000;

    /// That of a peer which has just come.
    pub fn new(now: Time) -> Self {
        Self { left: Self::MOST, at: now }
    }

    /// How much a session that begins now may take.
    pub fn limits(&mut self, now: Time) -> Limits {
        let nanos = u64::try_from(now.since(self.at).as_nanos()).unwrap_or(u64::MAX);
        self.left = self.left.saturating_add(nanos / Self::SLOWNESS).min(Self::MOST);
        self.at = self.at.max(now);
        Limits { work: self.left }
    }

    /// So much of it was done.
    pub fn worked(&mut self, work: u64) {
        self.left = self.left.saturating_sub(work);
    }

    /// A comparison had to be repaired: either nobody is to blame, once in a long time, or the peer
    /// is, who then runs out of what it may cost.
    pub fn repaired(&mut self) {
        self.worked(Self::REPAIR);
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn work_is_earned_with_time() {
        let start = Time::ZERO + Duration::from_secs(1 << 30);
        let mut budget = Budget::new(start);
        // Thirty repairs, and there is nothing left for more.
        for _ in 0..30 {
            assert!(budget.limits(start).work >= Budget::REPAIR);
            budget.repaired();
        }
        assert_eq!(budget.limits(start).work, 0);
        assert_eq!(budget.limits(start + Duration::from_secs(40)).work, Budget::REPAIR);
        let late = start + Duration::from_secs(1 << 20);
        assert_eq!(budget.limits(late).work, Budget::MOST);
        // Time that goes back is no time.
        budget.worked(Budget::MOST);
        assert_eq!(budget.limits(start).work, 0);
        assert_eq!(budget.limits(late).work, 0);
    }
}
