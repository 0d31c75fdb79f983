//! When aspects expire, where a space has a longest age.

use std::time::Duration;

use crate::time::Time;

/// A space's aspects expire in steps of this part of their longest age, so that nodes with clocks that
/// differ a little hold the same for most of the time. A guess.
const STEPS: u64 = 64;

/// What was published before has expired: the same at all nodes for a 64th of `max_age`.
pub fn cutoff(now: Time, max_age: Duration) -> Time {
    let max_age = u64::try_from(max_age.as_micros()).unwrap_or(u64::MAX);
    let step = (max_age / STEPS).max(1);
    let oldest = now.as_micros().saturating_sub(max_age);
    Time::from_micros(oldest / step * step)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_come_to_the_same_cutoff() {
        let age = Duration::from_secs(6400);
        let at = |seconds| cutoff(Time::from_micros(seconds * 1_000_000), age);
        assert_eq!(at(0), Time::ZERO);
        assert_eq!(at(6400), Time::ZERO);
        assert_eq!(at(6499), Time::ZERO);
        assert_eq!(at(6500), Time::from_micros(100 * 1_000_000));
        assert_eq!(at(6599), at(6500));
        // Never too early, and never much too late.
        for now in (7000..20_000).step_by(7) {
            let oldest = (now - 6400) * 1_000_000;
            assert!(at(now).as_micros() <= oldest && oldest < at(now).as_micros() + 100_000_000);
        }
        assert_eq!(cutoff(Time::from_micros(5), Duration::MAX), Time::ZERO);
        assert_eq!(cutoff(Time::from_micros(5), Duration::ZERO), Time::from_micros(5));
    }
}
