//! How far a space is, in figures that can be had: what is not known is not made up.

use std::{collections::VecDeque, time::Duration};

use arcwise_proto::{
    ArcSet, Time,
    swarm::{Overview, Total},
};
use tokio::sync::watch;

use crate::{
    node::Inner,
    peer::lock,
    space::{Space, SpaceState, SpaceStatus},
};

/// What comes in is counted over the last so many seconds. A guess: long enough to be read, short enough to
/// show that it has stopped.
const WINDOW: u64 = 10;

/// How often those who watch are told at most. A guess: people do not read faster.
const TELL: Duration = Duration::from_secs(1);

/// What comes from others, by the second, over the last ten.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Rate {
    /// Aspects.
    pub aspects: f64,
    /// Bytes of their encodings.
    pub bytes: f64,
}

/// What is still to be filled, about.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Left {
    /// Aspects.
    pub aspects: u64,
    /// Bytes of their encodings.
    pub bytes: u64,
    /// How long that takes if it goes on as in the last ten seconds; `None` while nothing comes.
    pub time: Option<Duration>,
}

impl Left {
    /// As much as the space holds there on average.
    fn of(total: Total, lacking: &ArcSet, rate: Rate) -> Self {
        let part = |all: u64| (all as f64 * lacking.fraction()).round() as u64;
        let (aspects, bytes) = (part(total.count), part(total.bytes));
        // What takes longer than any duration can say takes for ever.
        let time = Duration::try_from_secs_f64(bytes as f64 / rate.bytes).ok();
        Self { aspects, bytes, time }
    }
}

/// How far a space is. What is held, by number and by arcs, is in [`SpaceStatus`].
#[derive(Clone, Debug, PartialEq)]
pub struct Progress {
    /// How the space as a whole stands, as far as this node knows.
    pub overview: Overview,
    /// What comes from others at present.
    pub rate: Rate,
    /// What is still to be filled; `None` where nothing is, or where nobody has said how much there is.
    pub left: Option<Left>,
}

impl Progress {
    pub(crate) fn of(inner: &Inner, space: &SpaceState) -> Self {
        let now = inner.now();
        let overview = lock(&space.swarm).overview(now);
        let rate = lock(&space.meter).rate(now);
        let lacking = space.store.target().difference(&space.store.held());
        let total = overview.total.filter(|_| !lacking.is_empty() && !space.is_full());
        let left = total.map(|total| Left::of(total, &lacking, rate));
        Self { overview, rate, left }
    }
}

/// Counts what comes.
#[derive(Debug, Default)]
pub(crate) struct Meter {
    /// Seconds in which something has come: which, how many aspects, how many bytes.
    seconds: VecDeque<(u64, u64, u64)>,
}

impl Meter {
    pub(crate) fn add(&mut self, now: Time, aspects: u64, bytes: u64) {
        let second = second(now);
        match self.seconds.back_mut() {
            Some(last) if last.0 == second => {
                last.1 += aspects;
                last.2 += bytes;
            }
            _ => self.seconds.push_back((second, aspects, bytes)),
        }
        self.seconds.retain(|(at, ..)| at + WINDOW > second);
    }

    fn rate(&self, now: Time) -> Rate {
        let first = (second(now) + 1).saturating_sub(WINDOW);
        let counted = self.seconds.iter().filter(|(at, ..)| *at >= first);
        let (aspects, bytes) = counted.fold((0, 0), |sum, it| (sum.0 + it.1, sum.1 + it.2));
        // The last second is not over yet.
        let seconds = now.as_micros() as f64 / 1e6 - first as f64;
        let rate = |sum: u64| sum as f64 / seconds.max(1.0);
        Rate { aspects: rate(aspects), bytes: rate(bytes) }
    }
}

fn second(time: Time) -> u64 {
    time.as_micros() / 1_000_000
}

impl Space {
    /// How the space stands, now and whenever that changes, at most once a second. Ends with the node, or
    /// when it leaves the space.
    pub fn progress(&self) -> watch::Receiver<SpaceStatus> {
        let (sender, receiver) = watch::channel(self.status());
        let (inner, state) = (self.node.inner(), self.state.clone());
        let node = inner.clone();
        node.spawn(async move {
            loop {
                tokio::select! {
                    () = tokio::time::sleep(TELL) => {}
                    () = sender.closed() => return,
                    () = inner.stop.cancelled() => return,
                    () = state.left.cancelled() => return,
                }
                let status = state.status(&inner);
                sender.send_if_modified(|told| {
                    let changed = *told != status;
                    *told = status;
                    changed
                });
            }
        });
        receiver
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(millis: u64) -> Time {
        Time::from_micros(1_000_000_000_000 + millis * 1000)
    }

    #[test]
    fn what_comes_is_counted_over_ten_seconds() {
        let mut meter = Meter::default();
        assert_eq!(meter.rate(at(0)), Rate::default());
        for second in 0..100 {
            meter.add(at(second * 1000), 3, 300);
            meter.add(at(second * 1000 + 500), 1, 100);
        }
        assert!(meter.seconds.len() <= WINDOW as usize);
        // Of the second that has just begun nothing is missing.
        assert_eq!(meter.rate(at(99_999)).aspects.round(), 4.0);
        assert_eq!(meter.rate(at(104_999)).bytes.round(), 200.0);
        assert_eq!(meter.rate(at(109_000)), Rate::default(), "it has stopped");
    }

    #[test]
    fn what_is_left_takes_as_long_as_it_takes() {
        let total = Total { count: 1000, bytes: 8000, low: 900, high: 1100 };
        let half: ArcSet = "0..=7fffffff".parse().unwrap();
        let left = Left::of(total, &half, Rate { aspects: 5.0, bytes: 40.0 });
        assert_eq!((left.aspects, left.bytes), (500, 4000));
        assert_eq!(left.time, Some(Duration::from_secs(100)));
        assert_eq!(Left::of(total, &half, Rate::default()).time, None, "nobody can say");
    }
}
