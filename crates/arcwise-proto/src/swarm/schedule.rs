//! When to compare with whom.
//!
//! A probe, a few dozen bytes, finds out whether two nodes hold the same; a session follows only where
//! they do not. Probes come soon after something was stored, first to a few peers and later to the
//! others, and ever more rarely while nothing happens.

use std::{collections::BTreeMap, time::Duration};

use serde::{Deserialize, Serialize};

use super::random::Random;
use crate::{
    id::NodeId,
    session::{Flow, Report},
    time::Time,
};

/// A probe waits until nothing was stored for about this long: most of what is on its way has arrived
/// then. A guess.
const STILL: Duration = Duration::from_millis(300);

/// And not longer than this, where storing goes on: without pushes, and with them, since what is on its
/// way then would come twice. Guesses.
const STIRRING: (Duration, Duration) = (Duration::from_secs(2), Duration::from_secs(60));

/// How many peers are probed so soon; what they lack, they tell to others. The rest follows by and by.
/// A guess.
const SOON: usize = 3;

/// The rest, so many times as long after [`STIRRING`]. A guess.
const LATER: u32 = 3;

/// The wait after the first probe that found no difference, without pushes and with them; doubled with
/// each. Guesses.
const FIRST_WAIT: (Duration, Duration) = (Duration::from_secs(2), Duration::from_secs(60));

/// First wait after a failed session; doubled with each.
const RETRY: Duration = Duration::from_millis(500);

/// Sessions that compare, at a time: more would only share the same line and disk. A guess.
const MAX_COMPARING: usize = 4;

/// Peers that are filled from at a time. A guess.
const MAX_FILLING: usize = 8;

/// What is due with a peer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Due {
    /// Fetch what is to be filled: tell [`Schedule::filled`] when it has nothing more of that.
    Fill(NodeId),
    /// Compare in a session, and tell [`Schedule::compared`].
    Compare(NodeId),
    /// Ask whether it holds the same, and tell [`Schedule::probed`].
    Probe(NodeId),
}

/// How two nodes stand to each other's filling.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Filling {
    /// The peer has something that is to be filled here.
    Here,
    /// The peer is going to fetch what it lacks, and compares then.
    There,
    /// Neither.
    None,
    /// They have no part of the ring in common.
    Apart,
}

/// How a session ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Outcome {
    /// Both hold the same.
    InSync {
        /// Something was fetched or sent.
        moved: bool,
        /// One of both takes nothing, for want of room: to compare again is of no use before something
        /// changes.
        one_sided: bool,
    },
    /// It is to be tried again.
    Failed,
}

impl Outcome {
    /// None was of use, since neither takes anything.
    pub const NOTHING: Self = Self::InSync { moved: false, one_sided: true };

    /// That of a session that has completed.
    pub fn of(report: &Report) -> Self {
        match report.in_sync() {
            true => Self::InSync {
                moved: report.fetched + report.sent > 0,
                one_sided: report.flow != Flow::Both,
            },
            false => Self::Failed,
        }
    }
}

#[derive(Debug)]
struct Pace {
    /// A session, not before that.
    compare: Option<Time>,
    probe: Time,
    /// The probe not later than that, however much is being stored.
    probe_by: Option<Time>,
    wait: Duration,
    retry: Duration,
    /// Nothing is to be done before something changes.
    settled: bool,
    doing: Option<Doing>,
    /// As it was when that was last asked for, where nothing has changed since.
    filling: Option<Filling>,
    /// What is being compared does not count: there was no room when it began.
    void: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Doing {
    Filling,
    Comparing,
    Probing,
}

/// When to compare one space with which of the connected peers.
#[derive(Debug)]
pub struct Schedule {
    peers: BTreeMap<NodeId, Pace>,
    longest: Duration,
    pushed: bool,
    random: Random,
    wake_at: Option<Time>,
    /// Something has happened since [`Schedule::next`] had nothing.
    stirred: bool,
}

impl Schedule {
    /// `longest` is the wait between probes while nothing happens; `pushed` says whether peers push what
    /// is new, too.
    pub fn new(longest: Duration, pushed: bool, seed: u64) -> Self {
        let (peers, random) = (BTreeMap::new(), Random::new(seed));
        Self { peers, longest, pushed, random, wake_at: None, stirred: false }
    }

    /// Of two waits that without pushes, or that with them.
    fn either(&self, waits: (Duration, Duration)) -> Duration {
        if self.pushed { waits.1 } else { waits.0 }
    }

    /// A connection stands. Both sides would find the same, so only who dialled begins.
    pub fn met(&mut self, now: Time, peer: NodeId, dialed: bool) {
        let pace = Pace {
            compare: dialed.then_some(now),
            probe: now + self.random.around(FIRST_WAIT.0),
            probe_by: None,
            wait: self.either(FIRST_WAIT).min(self.longest),
            retry: RETRY,
            settled: false,
            doing: None,
            filling: None,
            void: false,
        };
        self.peers.insert(peer, pace);
        self.stirred = true;
    }

    /// The peer is gone, or has left the space.
    pub fn gone(&mut self, peer: &NodeId) {
        self.peers.remove(peer);
        self.stirred = true;
    }

    /// Something was stored or removed that these peers take too.
    pub fn changed(&mut self, now: Time, peers: &[NodeId]) {
        let waiting = |peer: &&NodeId| self.peers.get(peer).is_some_and(|it| it.probe_by.is_some());
        let mut lacking = SOON.saturating_sub(peers.iter().filter(waiting).count());
        self.stirred = true;
        // Another few each time: the order of ids must not decide who always comes first.
        let first = self.random.below(peers.len().max(1));
        let stirring = self.either(STIRRING);
        let (later, first_wait) = (stirring * LATER, self.either(FIRST_WAIT).min(self.longest));
        for peer in peers.iter().cycle().skip(first).take(peers.len()) {
            let (still, later) = (self.random.around(STILL), self.random.around(later / 2));
            let Some(pace) = self.peers.get_mut(peer) else { continue };
            pace.settled = false;
            pace.wait = first_wait;
            if pace.probe_by.is_none() && lacking > 0 {
                pace.probe_by = Some(now + stirring);
                lacking -= 1;
            }
            pace.probe = match pace.probe_by {
                Some(by) => by.min(now + still),
                None => pace.probe.min(now + later),
            };
        }
    }

    /// The peer says what it holds and fills now: something else than before.
    pub fn told(&mut self, peer: &NodeId) {
        if let Some(pace) = self.peers.get_mut(peer) {
            (pace.settled, pace.filling) = (false, None);
            self.stirred = true;
        }
    }

    /// How this node and its peers stand to each other's filling may have changed.
    pub fn refill(&mut self) {
        self.peers.values_mut().for_each(|pace| pace.filling = None);
        self.stirred = true;
    }

    /// There is room here again: all may have something that was not taken. A session that is under way does not
    /// take it either.
    pub fn has_room(&mut self, now: Time) {
        for pace in self.peers.values_mut() {
            pace.settled = false;
            pace.compare.get_or_insert(now);
            pace.void = pace.doing == Some(Doing::Comparing);
        }
        self.stirred = true;
    }

    /// Whether the peer holds the same has come out, by its own probe.
    pub fn heard(&mut self, now: Time, peer: &NodeId, same: bool) {
        self.stirred = true;
        let jitter = self.random.around_one();
        let Some(pace) = self.peers.get_mut(peer) else { return };
        pace.probe_by = None;
        if same {
            pace.probe = now + pace.wait.mul_f64(jitter);
            pace.wait = (pace.wait * 2).min(self.longest);
        } else if !pace.settled {
            // After a failure not before its time, whatever the peer says.
            pace.compare.get_or_insert(now);
        }
    }

    /// A probe has ended; `None` where no answer came.
    pub fn probed(&mut self, now: Time, peer: &NodeId, same: Option<bool>) {
        self.done(peer, Doing::Probing);
        match same {
            Some(same) => self.heard(now, peer, same),
            None => {
                let wait = self.random.around(self.longest);
                if let Some(pace) = self.peers.get_mut(peer) {
                    pace.probe = now + wait;
                }
            }
        }
    }

    /// A session has ended.
    pub fn compared(&mut self, now: Time, peer: &NodeId, outcome: Outcome) {
        self.done(peer, Doing::Comparing);
        let jitter = self.random.around_one();
        let longest = self.longest;
        let Some(pace) = self.peers.get_mut(peer) else { return };
        let void = std::mem::take(&mut pace.void);
        match outcome {
            Outcome::InSync { .. } if void => pace.compare = Some(now),
            Outcome::InSync { moved, one_sided } => {
                (pace.compare, pace.retry) = (None, RETRY);
                // Whether it is the same now. With pushes it hardly is while storing goes on.
                let soon = moved && !self.pushed;
                pace.probe = now + if soon { STILL } else { pace.wait }.mul_f64(jitter);
                pace.settled = one_sided && !moved;
            }
            Outcome::Failed => {
                pace.compare = Some(now + pace.retry.mul_f64(jitter));
                pace.retry = (pace.retry * 2).min(longest);
            }
        }
    }

    /// It has nothing more of what is to be filled; `whole` says whether all that both take was
    /// compared on the way.
    pub fn filled(&mut self, now: Time, peer: &NodeId, whole: bool) {
        self.done(peer, Doing::Filling);
        let Some(pace) = self.peers.get_mut(peer) else { return };
        if whole {
            pace.probe = now + STILL;
        } else {
            // What it could not give is compared with the rest.
            pace.compare = Some(now);
        }
    }

    fn done(&mut self, peer: &NodeId, what: Doing) {
        self.stirred = true;
        if let Some(pace) = self.peers.get_mut(peer) {
            pace.doing.take_if(|doing| *doing == what);
            pace.filling = None;
        }
    }

    /// What is to be done now; again until there is nothing more. `filling` says how a peer and this node
    /// stand; where that changes, [`Schedule::told`] or [`Schedule::refill`] are to be told.
    pub fn next(&mut self, now: Time, filling: impl Fn(&NodeId) -> Filling) -> Option<Due> {
        if !self.stirred && self.wake_at.is_none_or(|at| now < at) {
            return None;
        }
        let count = |what| self.peers.values().filter(|pace| pace.doing == Some(what)).count();
        let may_fill = count(Doing::Filling) < MAX_FILLING;
        let may_compare = count(Doing::Comparing) < MAX_COMPARING;
        let mut best: Option<(Time, NodeId, Doing)> = None;
        let mut later = None;
        for (peer, pace) in self.peers.iter_mut().filter(|(_, pace)| pace.doing.is_none()) {
            let filling = *pace.filling.get_or_insert_with(|| filling(peer));
            if filling == Filling::There {
                pace.compare = None;
            }
            let due = match pace.compare {
                _ if filling == Filling::Apart => None,
                _ if filling == Filling::Here => may_fill.then_some((Time::ZERO, Doing::Filling)),
                Some(at) => may_compare.then_some((at, Doing::Comparing)),
                None if pace.settled => None,
                None => Some((pace.probe, Doing::Probing)),
            };
            match due {
                Some((at, what)) if at <= now => {
                    let first = best.is_none_or(|(first, ..)| at < first);
                    best = if first { Some((at, *peer, what)) } else { best };
                }
                Some((at, _)) => later = Some(later.map_or(at, |first: Time| first.min(at))),
                // Until something ends or changes.
                None => {}
            }
        }
        (self.wake_at, self.stirred) = (later, best.is_some());
        let (_, peer, what) = best?;
        let wait = self.random.around(self.longest);
        let pace = self.peers.get_mut(&peer)?;
        pace.doing = Some(what);
        pace.probe_by = None;
        pace.probe = now + wait;
        Some(match what {
            Doing::Filling => Due::Fill(peer),
            Doing::Comparing => Due::Compare(peer),
            Doing::Probing => Due::Probe(peer),
        })
    }

    /// When [`Schedule::next`] has something again, where nothing happens before.
    pub fn wake_at(&self) -> Option<Time> {
        self.wake_at
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn peer(n: u8) -> NodeId {
        NodeId([n; 32])
    }

    fn at(millis: u64) -> Time {
        Time::from_micros(millis * 1000)
    }

    const IDLE: Duration = Duration::from_secs(300);

    fn none(_: &NodeId) -> Filling {
        Filling::None
    }

    /// Everything that is due until `end`, with its time; every probe finds `same`.
    fn run(schedule: &mut Schedule, mut now: Time, end: Time, same: bool) -> Vec<(Time, Due)> {
        let mut all = Vec::new();
        while now <= end {
            while let Some(due) = schedule.next(now, none) {
                all.push((now, due));
                match due {
                    Due::Probe(peer) => schedule.probed(now, &peer, Some(same)),
                    Due::Compare(peer) => {
                        let outcome = Outcome::InSync { moved: false, one_sided: false };
                        schedule.compared(now, &peer, outcome);
                    }
                    Due::Fill(peer) => schedule.filled(now, &peer, true),
                }
            }
            match schedule.wake_at() {
                Some(wake) if wake > now => now = wake,
                wake => panic!("at {now} it wants to be woken at {wake:?}"),
            }
        }
        all
    }

    #[test]
    fn who_dialled_compares_at_once_and_probes_become_rare() {
        let mut schedule = Schedule::new(IDLE, false, 1);
        schedule.met(at(0), peer(1), true);
        let all = run(&mut schedule, at(0), at(86_400_000), true);
        assert_eq!(all[0], (at(0), Due::Compare(peer(1))));
        assert!(all[1..].iter().all(|(_, due)| *due == Due::Probe(peer(1))));
        // A day has 288 times five minutes.
        assert!((250..350).contains(&all.len()), "{}", all.len());
    }

    #[test]
    fn a_change_is_probed_within_a_second_at_a_few_peers_and_soon_at_all() {
        let mut schedule = Schedule::new(IDLE, false, 2);
        let peers: Vec<NodeId> = (1..=20).map(peer).collect();
        peers.iter().for_each(|peer| schedule.met(at(0), *peer, false));
        run(&mut schedule, at(0), at(3_600_000), true);
        let start = at(3_600_000);
        schedule.changed(start, &peers);
        let all = run(&mut schedule, start, start + STIRRING.0 * LATER, true);
        let soon = all.iter().filter(|(at, _)| *at <= start + Duration::from_secs(1)).count();
        assert!((SOON..SOON + 4).contains(&soon), "{soon}");
        for peer in &peers {
            assert!(all.iter().any(|(_, due)| *due == Due::Probe(*peer)), "{peer}");
        }
    }

    #[test]
    fn the_probe_comes_although_storing_goes_on() {
        let mut schedule = Schedule::new(IDLE, false, 3);
        schedule.met(at(0), peer(1), false);
        let mut first = None;
        for n in 0..100 {
            let now = at(n * 50);
            schedule.changed(now, &[peer(1)]);
            first = first.or(schedule.next(now, none).map(|_| now));
        }
        assert!(first.unwrap() <= at(0) + STIRRING.0);
    }

    #[test]
    fn while_storing_goes_on_few_are_probed() {
        let mut schedule = Schedule::new(IDLE, true, 8);
        let peers: Vec<NodeId> = (1..=20).map(peer).collect();
        peers.iter().for_each(|peer| schedule.met(at(0), *peer, false));
        run(&mut schedule, at(0), at(3_600_000), true);
        let mut probes = 0;
        for n in 0..6000 {
            let now = at(3_600_000 + n * 100);
            schedule.changed(now, &peers);
            while let Some(Due::Probe(peer)) = schedule.next(now, none) {
                schedule.probed(now, &peer, Some(true));
                probes += 1;
            }
        }
        // In ten minutes: three in each minute, and the others every minute and a half or so.
        assert!((60..250).contains(&probes), "{probes}");
    }

    #[test]
    fn few_sessions_at_a_time_and_every_peer_gets_its_turn() {
        let mut schedule = Schedule::new(IDLE, false, 4);
        let peers: Vec<NodeId> = (0..100).map(peer).collect();
        peers.iter().for_each(|peer| schedule.met(at(0), *peer, true));
        let (mut running, mut seen) = (Vec::new(), Vec::new());
        loop {
            while let Some(due) = schedule.next(at(1), none) {
                let Due::Compare(peer) = due else { panic!("{due:?}") };
                running.push(peer);
            }
            assert!(running.len() <= MAX_COMPARING);
            let Some(peer) = running.pop() else { break };
            let outcome = Outcome::InSync { moved: true, one_sided: false };
            schedule.compared(at(1), &peer, outcome);
            seen.push(peer);
        }
        seen.sort_unstable();
        assert_eq!(seen, peers);
    }

    #[test]
    fn after_failures_it_waits_longer_whatever_the_peer_says() {
        let mut schedule = Schedule::new(IDLE, false, 5);
        schedule.met(at(0), peer(1), true);
        let mut times = Vec::new();
        let mut now = at(0);
        while times.len() < 8 {
            if let Some(Due::Compare(peer)) = schedule.next(now, none) {
                times.push(now);
                schedule.compared(now, &peer, Outcome::Failed);
            }
            schedule.heard(now, &peer(1), false);
            schedule.next(now, none);
            now = schedule.wake_at().unwrap();
        }
        for three in times.windows(3) {
            assert!(three[2].since(three[1]) > three[1].since(three[0]), "{times:?}");
        }
    }

    #[test]
    fn where_one_has_no_room_nothing_is_done_until_something_changes() {
        let mut schedule = Schedule::new(IDLE, false, 6);
        schedule.met(at(0), peer(1), true);
        let Some(Due::Compare(_)) = schedule.next(at(0), none) else { panic!() };
        let outcome = Outcome::InSync { moved: false, one_sided: true };
        schedule.compared(at(0), &peer(1), outcome);
        assert_eq!(schedule.next(at(86_400_000), none), None);
        assert_eq!(schedule.wake_at(), None);
        schedule.told(&peer(1));
        assert_eq!(schedule.next(at(86_400_000), none), Some(Due::Probe(peer(1))));
    }

    #[test]
    fn once_there_is_room_all_are_compared_with_whatever_is_under_way() {
        let mut schedule = Schedule::new(IDLE, true, 6);
        let outcome = Outcome::InSync { moved: false, one_sided: true };
        for n in [1, 2] {
            schedule.met(at(0), peer(n), true);
        }
        let due: Vec<Due> = std::iter::from_fn(|| schedule.next(at(0), none)).collect();
        assert_eq!(due, [Due::Compare(peer(1)), Due::Compare(peer(2))]);
        schedule.compared(at(10), &peer(1), outcome);
        schedule.has_room(at(20));
        assert_eq!(schedule.next(at(20), none), Some(Due::Compare(peer(1))));
        // It has begun when nothing was taken.
        schedule.compared(at(30), &peer(2), outcome);
        assert_eq!(schedule.next(at(30), none), Some(Due::Compare(peer(2))));
        schedule.compared(at(40), &peer(2), outcome);
        assert_eq!(schedule.next(at(40), none), None);
    }

    #[test]
    fn filling_goes_before_comparing_and_who_fills_from_here_is_left_alone() {
        let mut schedule = Schedule::new(IDLE, false, 7);
        schedule.met(at(0), peer(1), true);
        schedule.met(at(0), peer(2), true);
        let filling = |it: &NodeId| match *it == peer(1) {
            true => Filling::Here,
            false => Filling::There,
        };
        assert_eq!(schedule.next(at(0), filling), Some(Due::Fill(peer(1))));
        assert_eq!(schedule.next(at(0), filling), None);
        schedule.filled(at(10), &peer(1), false);
        assert_eq!(schedule.next(at(10), none), Some(Due::Compare(peer(1))));
    }
}
