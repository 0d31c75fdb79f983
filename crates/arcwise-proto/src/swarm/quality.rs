//! How good a peer is: what was seen of it, and what others say of it.
//!
//! What was seen counts the more the longer it was looked at. The rest is the median of what others
//! say, each of whom has one vote: so those who lie move it only where they are about as many as those
//! who do not. Whether a peer is trusted is decided by what was seen alone.

use std::time::Duration;

use smallvec::SmallVec;

use crate::{id::NodeId, time::Time, wire::Observed};

/// What was seen counts half after that. A guess: a peer that is off each night has a value for the day
/// and night, and one that has changed is known to have within days.
const HALF_LIFE: Duration = Duration::from_secs(86_400);

/// What was seen for this long counts as much as what others say. A guess: one evening counts more.
const OWN_WEIGHT: Duration = Duration::from_secs(3600);

/// After an attempt that failed, a peer counts as away for no longer than this, where nobody tries
/// again: what is not looked at is not known. As long as the longest wait between attempts.
const AWAY_COUNTS: Duration = Duration::from_secs(600);

/// What was looked at for less is not told to others. A guess: a vote should stand for something.
const LEAST_SEEN: Duration = Duration::from_secs(600);

/// Of whom nothing is known.
const PRIOR: f64 = 0.5;

/// Votes that are kept. A guess: a median of so many is good to a few per cent.
const MAX_REPORTERS: usize = 16;

/// So many must say something, for it to count: of three, one that lies decides nothing.
const LEAST_REPORTERS: usize = 3;

/// A round trip of this length makes a peer half as good as one next door; and so does not knowing it.
/// A guess: half way around the earth.
const SLOW: Duration = Duration::from_millis(300);

/// Faults from which on a peer is not trusted. A guess: well above what bad luck does in a day.
const MANY_FAULTS: f64 = 8.0;

/// More are not counted, so that they are forgotten after days too. A guess.
const MAX_FAULTS: f64 = 32.0;

/// Failed audits since the last that passed, from which on a peer is not trusted. More than one, since
/// an aspect may expire while it is asked for; less than two, so that two within some hours do.
const FAILED_AUDITS: f64 = 1.5;

/// A peer is presumed gone for good only after so many attempts. A guess: more than one can be unlucky.
const GONE: u32 = 3;

/// Who has been away before may be away so many times as long, before it is presumed gone. A guess: absences
/// are heavy-tailed, and the longest one so far counts half after a day; so who is off each night stays.
const LONGER: u32 = 3;

/// But not for longer than this: what was seen of it counts half by then anyway.
const LONGEST: Duration = HALF_LIFE;

/// Who is away for so long is of no use. A guess.
const USELESS: Duration = Duration::from_secs(600);

/// The longest round trip that is told apart.
const MAX_ROUND_TRIP: Duration = Duration::from_secs(60);

/// What is known of how good one peer is.
#[derive(Clone, Debug, Default)]
pub struct Quality {
    standing: Standing,
    /// Seconds in which it could be reached, and seconds in which it was looked at: up to `at`, where
    /// what is long ago counts less.
    up: f64,
    seen: f64,
    at: Time,
    /// How long it was away at the longest, and then came back: what is long ago counts less.
    longest: Duration,
    round_trip: Option<Duration>,
    /// What most peers have not.
    rare: Option<Box<Rare>>,
    /// The newest last.
    reports: Vec<Report>,
    /// The medians of what they say.
    said_availability: Option<u16>,
    said_round_trip: Option<u16>,
}

#[derive(Clone, Debug, Default)]
struct Rare {
    /// Bytes, and seconds that they took: what is long ago counts less.
    served: (f64, f64),
    faults: Fading,
    failed_audits: Fading,
}

/// What somebody else says, as far as it counts.
#[derive(Clone, Debug)]
struct Report {
    /// The first bytes of its id: enough to tell a few apart.
    by: u64,
    /// Kilobytes a second; 0 where it is not known.
    throughput: u32,
    availability: u16,
    /// Milliseconds; 0 where it is not known.
    round_trip: u16,
}

#[derive(Clone, Copy, Debug, Default)]
enum Standing {
    /// Nobody has looked since it was let go.
    #[default]
    Unknown,
    Up,
    Away {
        since: Time,
        attempts: u32,
    },
}

impl Quality {
    /// A connection to it stands.
    pub fn up(&mut self, now: Time) {
        let away = self.absent(now).unwrap_or_default();
        self.settle(now, Standing::Up);
        self.longest = self.longest.max(away);
    }

    /// A connection was lost, or an attempt to reach it failed.
    pub fn down(&mut self, now: Time) {
        let standing = match self.standing {
            Standing::Up => Standing::Away { since: now, attempts: 0 },
            Standing::Unknown => Standing::Away { since: now, attempts: 1 },
            Standing::Away { since, attempts } => {
                Standing::Away { since, attempts: attempts.saturating_add(1) }
            }
        };
        self.settle(now, standing);
    }

    /// A connection was closed because one side had no use for it, which says nothing of whether the
    /// peer can be reached.
    pub fn closed(&mut self, now: Time) {
        self.settle(now, Standing::Unknown);
    }

    /// An answer took this long.
    pub fn answered(&mut self, took: Duration) {
        let took = took.min(MAX_ROUND_TRIP);
        self.round_trip = Some(self.round_trip.map_or(took, |usual| (usual * 7 + took) / 8));
    }

    /// So many bytes, for which it was asked, came within that time.
    pub fn served(&mut self, bytes: u64, took: Duration) {
        let served = &mut self.rare().served;
        let (all, time) = *served;
        *served = (all * 7.0 / 8.0 + bytes as f64, time * 7.0 / 8.0 + took.as_secs_f64());
    }

    /// It broke a rule.
    pub fn fault(&mut self, now: Time) {
        self.rare().faults.add(now);
    }

    /// It was to prove that it holds something that it claims to hold.
    pub fn audited(&mut self, now: Time, passed: bool) {
        if !passed {
            self.rare().failed_audits.add(now);
            self.rare().faults.add(now);
        } else if let Some(rare) = &mut self.rare {
            rare.failed_audits = Fading::default();
        }
    }

    /// Somebody else says this of it. The newest word of each of the last 16 who say something counts.
    pub fn report(&mut self, from: NodeId, observed: Observed) {
        let by = from.0.first_chunk().map_or(0, |bytes| u64::from_le_bytes(*bytes));
        let millis = |it: Duration| it.min(MAX_ROUND_TRIP).as_millis() as u16;
        let report = Report {
            by,
            throughput: observed.throughput.unwrap_or(0),
            availability: observed.availability,
            round_trip: observed.round_trip.map_or(0, |it| millis(it).max(1)),
        };
        self.reports.retain(|it| it.by != by);
        if self.reports.len() >= MAX_REPORTERS {
            self.reports.remove(0);
        }
        self.reports.push(report);
        self.said_availability = median(self.reports.iter().map(|it| it.availability));
        let known = self.reports.iter().map(|it| it.round_trip).filter(|it| *it > 0);
        self.said_round_trip = median(known);
    }

    /// How likely it can be reached: 0 to 1.
    pub fn availability(&self, now: Time) -> f64 {
        self.availability_or(now, PRIOR)
    }

    /// The same, where it was looked at for long enough, or enough others say something; else it is not known.
    pub fn known_availability(&self, now: Time) -> Option<f64> {
        let said = self.reports.len() >= LEAST_REPORTERS;
        let seen = self.times(now).1 >= LEAST_SEEN.as_secs_f64();
        (said || seen).then(|| self.availability(now))
    }

    /// How much of a copy it is that this peer holds: 0 to 1, and 0 where it is not trusted. As its
    /// availability; but of whom nothing is known is taken to be there always, since else a young network
    /// would hold twice as much as an old one.
    pub fn copy(&self, now: Time) -> f64 {
        if self.trusted(now) { self.availability_or(now, 1.0) } else { 0.0 }
    }

    fn availability_or(&self, now: Time, prior: f64) -> f64 {
        let (up, seen) = self.times(now);
        let others = self.said_availability.map_or(prior, |part| f64::from(part) / 1000.0);
        ((up + OWN_WEIGHT.as_secs_f64() * others) / (seen + OWN_WEIGHT.as_secs_f64()))
            .clamp(0.0, 1.0)
    }

    /// How long an answer takes; where that was not seen, what others say.
    pub fn round_trip(&self) -> Option<Duration> {
        self.round_trip.or(self.said_round_trip.map(|it| Duration::from_millis(it.into())))
    }

    /// Kilobytes a second, above 0; where that was not seen, what others say.
    pub fn throughput(&self) -> Option<u32> {
        let said = self.reports.iter().map(|it| it.throughput).filter(|it| *it > 0);
        self.own_throughput().or_else(|| median(said))
    }

    /// Whether it is to be believed that it holds what it claims: not where it failed its last audits,
    /// or broke many rules. Forgotten after hours or days, so that it is tried again.
    pub fn trusted(&self, now: Time) -> bool {
        self.rare.as_ref().is_none_or(|rare| {
            rare.failed_audits.get(now) < FAILED_AUDITS && rare.faults.get(now) < MANY_FAULTS
        })
    }

    /// How many rules it broke; those that are long ago count less.
    pub fn faults(&self, now: Time) -> f64 {
        self.rare.as_ref().map_or(0.0, |rare| rare.faults.get(now))
    }

    /// Since when it could not be reached; `None` where it can be, or where nobody has tried.
    pub fn absent(&self, now: Time) -> Option<Duration> {
        self.absent_since().map(|since| now.since(since))
    }

    /// The same, as a time.
    pub fn absent_since(&self) -> Option<Time> {
        match self.standing {
            Standing::Away { since, .. } => Some(since),
            _ => None,
        }
    }

    /// Whether it was away for so long, and for much longer than ever of late, and could not be reached several
    /// times, that it counts as gone for good.
    pub fn presumed_gone(&self, now: Time, after: Duration) -> bool {
        self.is_away(now, after.max((self.longest * LONGER).min(LONGEST)))
    }

    fn is_away(&self, now: Time, after: Duration) -> bool {
        match self.standing {
            Standing::Away { since, attempts } => now.since(since) >= after && attempts >= GONE,
            _ => false,
        }
    }

    /// Whether it is away, and was tried too rarely for one to know that it is gone.
    pub fn may_be_gone(&self) -> bool {
        matches!(self.standing, Standing::Away { attempts, .. } if attempts < GONE)
    }

    /// What was seen of it, to be told to others: only what is worth telling, and rounded, so that
    /// small changes are none.
    pub fn observed(&self, now: Time) -> Option<Observed> {
        let (up, seen) = self.times(now);
        let millis = |time: Duration| coarse(time.as_millis() as u32).max(1);
        (seen >= LEAST_SEEN.as_secs_f64()).then(|| Observed {
            availability: (up / seen * 20.0).round().clamp(0.0, 20.0) as u16 * 50,
            round_trip: self.round_trip.map(|time| Duration::from_millis(millis(time).into())),
            throughput: self.own_throughput().map(coarse),
            faults: coarse(self.faults(now).round() as u32),
        })
    }

    /// To sort peers by, best last. From 0 to 1 where it is trusted, below 0 where it is not; who is
    /// away for long has the least of the two.
    pub fn score(&self, now: Time) -> f64 {
        let round_trip = self.round_trip().unwrap_or(SLOW).as_secs_f64();
        let quick = SLOW.as_secs_f64() / (SLOW.as_secs_f64() + round_trip);
        let good = if self.is_away(now, USELESS) { 0.0 } else { quick * self.availability(now) };
        if self.trusted(now) { good } else { good - 2.0 }
    }

    fn rare(&mut self) -> &mut Rare {
        self.rare.get_or_insert_default()
    }

    fn own_throughput(&self) -> Option<u32> {
        let (bytes, seconds) = self.rare.as_ref()?.served;
        (bytes > 0.0).then(|| ((bytes / 1000.0 / seconds) as u32).max(1))
    }

    /// [`Quality::up`] and [`Quality::seen`] at this time.
    fn times(&self, now: Time) -> (f64, f64) {
        if self.seen == 0.0 && matches!(self.standing, Standing::Unknown) {
            return (0.0, 0.0);
        }
        let elapsed = now.since(self.at);
        let counts = match self.standing {
            Standing::Unknown => Duration::ZERO,
            Standing::Up => elapsed,
            Standing::Away { .. } => elapsed.min(AWAY_COUNTS),
        };
        let (rest, kept) = (remains(elapsed - counts), remains(counts));
        // The integral of what remains of each moment.
        let more = HALF_LIFE.as_secs_f64() / std::f64::consts::LN_2 * (1.0 - kept);
        let up = if matches!(self.standing, Standing::Up) { more } else { 0.0 };
        ((self.up * kept + up) * rest, (self.seen * kept + more) * rest)
    }

    fn settle(&mut self, now: Time, standing: Standing) {
        (self.up, self.seen) = self.times(now);
        self.longest = self.longest.mul_f64(remains(now.since(self.at)));
        self.at = now;
        self.standing = standing;
    }
}

/// A number of events, of which those that are long ago count less.
#[derive(Clone, Copy, Debug, Default)]
struct Fading {
    count: f64,
    at: Time,
}

impl Fading {
    fn get(&self, now: Time) -> f64 {
        if self.count == 0.0 { 0.0 } else { self.count * remains(now.since(self.at)) }
    }

    fn add(&mut self, now: Time) {
        *self = Self { count: (self.get(now) + 1.0).min(MAX_FAULTS), at: now };
    }
}

/// What is left after that time of what was 1.
fn remains(after: Duration) -> f64 {
    if after.is_zero() {
        return 1.0;
    }
    (-after.as_secs_f64() / HALF_LIFE.as_secs_f64()).exp2()
}

/// `None` where fewer than [`LEAST_REPORTERS`] say something.
fn median<T: Ord + Copy>(said: impl Iterator<Item = T>) -> Option<T> {
    let mut said: SmallVec<[T; MAX_REPORTERS]> = said.collect();
    said.sort_unstable();
    (said.len() >= LEAST_REPORTERS).then(|| said.get(said.len() / 2).copied()).flatten()
}

/// Keeps the first two binary digits.
fn coarse(value: u32) -> u32 {
    let drop = (u32::BITS - value.leading_zeros()).saturating_sub(2);
    value >> drop << drop
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const HOUR: u64 = 3600;

    fn at(seconds: u64) -> Time {
        Time::ZERO + Duration::from_secs(seconds)
    }

    fn says(availability: u16) -> Observed {
        Observed { availability, ..Observed::default() }
    }

    fn node(n: usize) -> NodeId {
        NodeId([n as u8; 32])
    }

    fn close(a: f64, b: f64) -> bool {
        (a - b).abs() < 0.01
    }

    #[test]
    fn availability_is_by_time_and_forgets() {
        let mut quality = Quality::default();
        assert_eq!(quality.availability(at(0)), PRIOR);
        quality.up(at(0));
        assert_eq!(quality.known_availability(at(60)), None);
        assert_eq!(quality.known_availability(at(HOUR)), Some(quality.availability(at(HOUR))));
        // An hour of own counts as much as the prior.
        assert!(close(quality.availability(at(HOUR)), 0.75));
        assert!(quality.availability(at(30 * 24 * HOUR)) > 0.98);
        quality.closed(at(30 * 24 * HOUR));
        // Nothing is known of the time since, and what was known is forgotten.
        assert!(close(quality.availability(at(60 * 24 * HOUR)), PRIOR));
        // Off half of each hour, and tried every minute.
        let mut quality = Quality::default();
        for hour in 0..200 {
            quality.up(at(hour * HOUR));
            for minute in 30..60 {
                quality.down(at(hour * HOUR + minute * 60));
            }
        }
        assert_eq!(quality.observed(at(200 * HOUR)).unwrap().availability, 500);
    }

    #[test]
    fn who_is_not_tried_is_not_known_to_be_away() {
        let mut quality = Quality::default();
        quality.up(at(0));
        quality.down(at(10 * HOUR));
        let soon = quality.availability(at(10 * HOUR + 600));
        assert!(close(quality.availability(at(11 * HOUR)), soon));
        assert_eq!(quality.absent(at(11 * HOUR)), Some(Duration::from_secs(HOUR)));
        // Lost, and never tried: no reason to presume the worst.
        assert!(!quality.presumed_gone(at(11 * HOUR), USELESS));
    }

    #[test]
    fn a_transient_absence_is_no_death() {
        let mut quality = Quality::default();
        quality.up(at(0));
        quality.down(at(1000));
        for second in [1001, 1002, 1004] {
            quality.down(at(second));
        }
        assert!(!quality.presumed_gone(at(1599), USELESS));
        assert!(quality.presumed_gone(at(1600), USELESS));
        assert_eq!(quality.score(at(1600)), 0.0);
        quality.up(at(1700));
        assert!(!quality.presumed_gone(at(5000), USELESS));
        assert_eq!(quality.absent(at(5000)), None);
    }

    #[test]
    fn who_was_away_before_may_be_away_for_longer() {
        let mut quality = Quality::default();
        let away = |quality: &mut Quality, from: u64| {
            (0..4).for_each(|n| quality.down(at(from + n)));
        };
        quality.up(at(0));
        away(&mut quality, 1000);
        assert!(quality.presumed_gone(at(1600), USELESS));
        // Three times the hour and a half that it was away, but for what is forgotten meanwhile.
        quality.up(at(1000 + 5400));
        away(&mut quality, 10_000);
        assert!(!quality.presumed_gone(at(10_000 + 3 * 5000), USELESS));
        assert!(quality.presumed_gone(at(10_000 + 3 * 5400), USELESS));
        // It is of no use all the same.
        assert_eq!(quality.score(at(10_000 + 600)), 0.0);
        // Off each night, it stays; and nobody stays for more than a day.
        let mut quality = Quality::default();
        for day in 0..5 {
            quality.up(at(day * 24 * HOUR));
            away(&mut quality, (day * 24 + 16) * HOUR);
            let morning = at((day * 24 + 24) * HOUR);
            assert_eq!(quality.presumed_gone(morning, USELESS), day == 0, "{day}");
        }
        assert!(quality.presumed_gone(at((4 * 24 + 16 + 24) * HOUR), USELESS));
    }

    #[test]
    fn faults_cost_trust_and_are_forgotten() {
        let mut quality = Quality::default();
        quality.audited(at(0), false);
        assert!(quality.trusted(at(0)));
        quality.audited(at(60), false);
        assert!(!quality.trusted(at(60)) && quality.score(at(60)) < -1.0);
        quality.audited(at(120), true);
        assert!(quality.trusted(at(120)));
        for _ in 0..1000 {
            quality.fault(at(200));
        }
        assert!(!quality.trusted(at(24 * HOUR)));
        assert!(quality.trusted(at(3 * 24 * HOUR)));
    }

    #[test]
    fn one_vote_for_each_and_three_to_count() {
        let mut quality = Quality::default();
        for _ in 0..10 {
            quality.report(node(1), says(0));
        }
        quality.report(node(2), says(0));
        assert_eq!(quality.availability(at(0)), PRIOR);
        quality.report(node(3), says(0));
        assert_eq!(quality.availability(at(0)), 0.0);
        for n in 0..100 {
            quality.report(node(n), says(1000));
        }
        assert_eq!(quality.reports.len(), MAX_REPORTERS);
        assert_eq!(quality.availability(at(0)), 1.0);
    }

    #[test]
    fn what_is_seen_beats_what_is_said() {
        let mut quality = Quality::default();
        for n in 0..3 {
            let round_trip = Some(Duration::from_millis(10 * (n + 1)));
            quality.report(node(n as usize), Observed { round_trip, ..says(0) });
        }
        assert_eq!(quality.round_trip(), Some(Duration::from_millis(20)));
        quality.answered(Duration::from_millis(80));
        quality.answered(Duration::from_millis(160));
        assert_eq!(quality.round_trip(), Some(Duration::from_millis(90)));
        assert_eq!(quality.throughput(), None);
        quality.served(1_000_000, Duration::from_secs(1));
        assert_eq!(quality.throughput(), Some(1000));
        quality.served(1, Duration::ZERO);
        assert_eq!(quality.throughput(), Some(1000));
        quality.up(at(0));
        assert!(quality.availability(at(24 * HOUR)) > 0.9);
    }

    #[test]
    fn small_changes_are_no_news() {
        let mut quality = Quality::default();
        quality.up(at(0));
        quality.answered(Duration::from_micros(70));
        assert_eq!(quality.observed(at(599)), None);
        quality.down(at(10_000));
        let told = quality.observed(at(10_000)).unwrap();
        assert_eq!((told.availability, told.round_trip), (1000, Some(Duration::from_millis(1))));
        assert_eq!(quality.observed(at(10_100)), Some(told));
        assert_eq!([1, 2, 3, 5, 7, 8, 100, 127].map(coarse), [1, 2, 3, 4, 6, 8, 96, 96]);
    }

    proptest! {
        /// Where fewer than a third lie, what counts is between what two honest ones say.
        #[test]
        fn liars_do_not_decide(
            honest in proptest::collection::vec(850..=950u16, 11),
            lies in proptest::collection::vec(0..=1000u16, 5),
            order in Just((0..16usize).collect::<Vec<_>>()).prop_shuffle(),
        ) {
            let said: Vec<u16> = honest.iter().chain(&lies).copied().collect();
            let mut quality = Quality::default();
            for n in order {
                quality.report(node(n), says(said[n]));
            }
            let availability = quality.availability(at(0));
            prop_assert!((0.85..=0.95).contains(&availability), "{}", availability);
        }

        /// Whatever happens, in whatever order: shares are shares, and how often one looks changes nothing.
        #[test]
        fn shares_are_shares(events in proptest::collection::vec((0..4u8, 0..100_000u64), 0..60)) {
            let (mut quality, mut now) = (Quality::default(), at(0));
            for (event, wait) in events {
                now = now + Duration::from_secs(wait);
                match event {
                    0 => quality.up(now),
                    1 => quality.down(now),
                    2 => quality.closed(now),
                    _ => {
                        let before = quality.times(now);
                        if matches!(quality.standing, Standing::Up | Standing::Unknown) {
                            let same = quality.standing;
                            quality.settle(at(now.as_micros() / 2_000_000).max(quality.at), same);
                        }
                        let after = quality.times(now);
                        prop_assert!((before.0 - after.0).abs() < 1e-3);
                        prop_assert!((before.1 - after.1).abs() < 1e-3);
                    }
                }
                prop_assert!((0.0..=1.0).contains(&quality.availability(now)));
                prop_assert!((0.0..=1.0).contains(&quality.score(now)));
                prop_assert!(quality.observed(now).is_none_or(|it| it.availability <= 1000));
            }
        }
    }
}
