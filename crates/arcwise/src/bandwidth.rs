//! How fast a node may send and receive.

use std::sync::{
    Arc, Mutex,
    atomic::{AtomicU64, Ordering},
};

use arcwise_store::{Store, StoreError};
use tokio::time::{Duration, Instant, sleep_until};

use crate::peer::lock;

/// Most bytes taken from a stream or given to it at a time.
const CHUNK: u64 = 64 << 10;

/// What is not used for so long may be caught up on: more than the clock of a timer is coarse. A guess.
const SAVED: Duration = Duration::from_millis(50);

/// How many bytes a second a node may move, over all its connections: those of messages, to which QUIC
/// adds some percent. Aspects, summaries and lists wait, in turns of the peers; what is small and urgent
/// counts and does not wait. What is received is limited by not reading it, which holds the sender once it has
/// filled the window of a stream, 1.25 MB.
///
/// ```
/// use arcwise::Bandwidth;
///
/// let bandwidth = Bandwidth::new(Some(1_000_000), None)?;
/// assert_eq!(bandwidth.up(), Some(1_000_000));
/// assert!(Bandwidth::new(None, Some(Bandwidth::LEAST - 1)).is_err());
/// # Ok::<_, arcwise::BandwidthError>(())
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Bandwidth {
    up: Option<u64>,
    down: Option<u64>,
}

/// Less than a node works with.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0} bytes a second are too few: give {least} or more, or no limit", least = Bandwidth::LEAST)]
pub struct BandwidthError(pub u64);

impl Bandwidth {
    /// As fast as it goes.
    pub const UNLIMITED: Bandwidth = Bandwidth { up: None, down: None };

    /// The least limit, in bytes a second: with it the largest message takes 16 s, and who waits for one gives
    /// up after 30 s.
    pub const LEAST: u64 = 64 << 10;

    /// The most bytes a second that may be sent and received; `None` for no limit.
    ///
    /// # Errors
    /// Where one is below [`Bandwidth::LEAST`].
    pub fn new(up: Option<u64>, down: Option<u64>) -> Result<Self, BandwidthError> {
        match up.into_iter().chain(down).find(|rate| *rate < Self::LEAST) {
            Some(rate) => Err(BandwidthError(rate)),
            None => Ok(Self { up, down }),
        }
    }

    /// Bytes a second that may be sent; `None` for no limit.
    pub fn up(&self) -> Option<u64> {
        self.up
    }

    /// Bytes a second that may be received; `None` for no limit.
    pub fn down(&self) -> Option<u64> {
        self.down
    }
}

/// Where it is kept for the next start.
const KEPT: &str = "bandwidth";

/// Keeps it for the next start.
pub(crate) fn save(store: &Store, bandwidth: Bandwidth) -> Result<(), StoreError> {
    let line = |name, rate: Option<u64>| rate.map(|rate| format!("{name} {rate}\n"));
    let lines = [line("up", bandwidth.up), line("down", bandwidth.down)];
    store.put_setting(KEPT, lines.into_iter().flatten().collect::<String>().as_bytes())
}

/// What was kept; no limit where that cannot be read.
pub(crate) fn load(store: &Store) -> Result<Bandwidth, StoreError> {
    let text = store.setting(KEPT)?.unwrap_or_default();
    let text = String::from_utf8_lossy(&text).into_owned();
    let rate = |name| {
        let rate = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        rate?.parse().ok()
    };
    Ok(Bandwidth::new(rate("up"), rate("down")).unwrap_or_default())
}

/// When what was taken so far has had its time.
struct Bucket {
    free_at: Instant,
}

impl Bucket {
    /// Takes bytes at `rate` a second; gives when they may move.
    fn take(&mut self, now: Instant, rate: u64, bytes: u64) -> Instant {
        let saved = now.checked_sub(SAVED).unwrap_or(now);
        let from = self.free_at.max(saved);
        let nanos = u128::from(bytes) * 1_000_000_000 / u128::from(rate.max(1));
        let time = Duration::from_nanos(nanos.try_into().unwrap_or(u64::MAX));
        self.free_at = from.checked_add(time).unwrap_or(from);
        from.max(now)
    }
}

/// One direction of a node.
struct Gate {
    /// 0 for no limit.
    rate: AtomicU64,
    bucket: Mutex<Bucket>,
}

impl Gate {
    fn new(rate: Option<u64>) -> Self {
        let bucket = Mutex::new(Bucket { free_at: Instant::now() });
        Self { rate: AtomicU64::new(rate.unwrap_or(0)), bucket }
    }

    fn rate(&self) -> Option<u64> {
        Some(self.rate.load(Ordering::Relaxed)).filter(|rate| *rate > 0)
    }

    fn set(&self, rate: Option<u64>) {
        let mut bucket = lock(&self.bucket);
        self.rate.store(rate.unwrap_or(0), Ordering::Relaxed);
        // What was taken at another rate has gone.
        bucket.free_at = Instant::now();
    }

    /// When bytes may move that were taken now; `None` for at once.
    fn take(&self, bytes: u64) -> Option<Instant> {
        let rate = self.rate()?;
        let now = Instant::now();
        Some(lock(&self.bucket).take(now, rate, bytes)).filter(|at| *at > now)
    }
}

/// Both directions of a node.
pub(crate) struct Line {
    up: Arc<Gate>,
    down: Arc<Gate>,
}

impl Line {
    pub(crate) fn new(bandwidth: Bandwidth) -> Self {
        let gate = |rate| Arc::new(Gate::new(rate));
        Self { up: gate(bandwidth.up), down: gate(bandwidth.down) }
    }

    pub(crate) fn set(&self, bandwidth: Bandwidth) {
        self.up.set(bandwidth.up);
        self.down.set(bandwidth.down);
    }

    pub(crate) fn bandwidth(&self) -> Bandwidth {
        Bandwidth { up: self.up.rate(), down: self.down.rate() }
    }

    /// For one peer: the way up, and the way down.
    pub(crate) fn lanes(&self) -> (Lane, Lane) {
        let lane = |gate: &Arc<Gate>| Lane { gate: gate.clone(), turn: Default::default() };
        (lane(&self.up), lane(&self.down))
    }
}

/// What a stream has moved, and has to wait for.
#[derive(Default)]
pub(crate) struct Toll {
    bytes: u64,
    until: Option<Instant>,
}

/// One direction of one peer. Of all its streams only one stands in line for the node's bandwidth, so that
/// every peer has the same share of it, however many streams it has.
pub(crate) struct Lane {
    gate: Arc<Gate>,
    turn: tokio::sync::Mutex<()>,
}

impl Lane {
    /// Most bytes to move at a time: an eighth of a second's at the most, so that others have their turn.
    pub(crate) fn chunk(&self) -> usize {
        self.gate.rate().map_or(CHUNK, |rate| CHUNK.min(rate / 8)) as usize
    }

    /// Bytes that do not wait.
    pub(crate) fn count(&self, bytes: usize) {
        let _ = self.gate.take(bytes as u64);
    }

    /// Bytes that are to wait.
    pub(crate) fn owe(&self, toll: &mut Toll, bytes: usize) {
        if self.gate.rate().is_some() {
            toll.bytes += bytes as u64;
        }
    }

    /// Waits for what is owed, or not at all while that is less than `least`. May be dropped and called
    /// again: what was waited for does not count twice.
    pub(crate) async fn pay(&self, toll: &mut Toll, least: usize) {
        if let Some(until) = toll.until {
            sleep_until(until).await;
            toll.until = None;
        }
        if toll.bytes > 0 && toll.bytes >= least as u64 {
            // The streams of a peer have it in the order in which they ask.
            let _turn = self.turn.lock().await;
            toll.until = self.gate.take(std::mem::take(&mut toll.bytes));
            if let Some(until) = toll.until {
                sleep_until(until).await;
                toll.until = None;
            }
        }
    }

    /// What is still owed when a stream is over counts, and nobody waits for it.
    pub(crate) fn settle(&self, toll: &mut Toll) {
        self.count(std::mem::take(&mut toll.bytes) as usize);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RATE: u64 = 1_000_000;

    fn bucket() -> (Bucket, Instant) {
        // Some time after the clock has begun, so that there is a before.
        let start = Instant::now() + Duration::from_secs(1);
        (Bucket { free_at: start }, start)
    }

    #[test]
    fn bytes_move_at_the_rate_whatever_their_size() {
        for size in [100, 1400, 65_536] {
            let (mut bucket, start) = bucket();
            let (mut now, mut taken) = (start, 0);
            while taken < 10 * RATE {
                now = bucket.take(now, RATE, size).max(now);
                taken += size;
            }
            let allowed = (now - start + SAVED).as_secs_f64() * RATE as f64 + size as f64;
            assert!(taken as f64 <= allowed + 1.0, "{size}: {taken} bytes, {allowed} allowed");
            assert!(now - start <= Duration::from_secs(10), "{size}: {:?}", now - start);
        }
    }

    #[test]
    fn what_was_not_used_is_lost_but_for_a_moment() {
        let (mut bucket, start) = bucket();
        let late = start + Duration::from_secs(3600);
        let saved = (SAVED.as_secs_f64() * RATE as f64) as u64;
        assert_eq!(bucket.take(late, RATE, saved), late);
        assert_eq!(bucket.take(late, RATE, 1000), late);
        assert_eq!(bucket.take(late, RATE, 1), late + Duration::from_millis(1));
        // Time that goes back is no time.
        assert!(bucket.take(start, RATE, 1) > late);
        // Whatever is taken, nothing overflows.
        bucket.take(late, 1, u64::MAX);
        bucket.take(late, 1, u64::MAX);
    }

    #[test]
    fn a_limit_is_kept_as_it_was_set() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(folder.path(), Default::default()).unwrap();
        assert_eq!(load(&store).unwrap(), Bandwidth::UNLIMITED);
        for (up, down) in [(Some(100_000), None), (None, Some(1 << 40)), (None, None)] {
            let bandwidth = Bandwidth::new(up, down).unwrap();
            save(&store, bandwidth).unwrap();
            assert_eq!(load(&store).unwrap(), bandwidth);
        }
        store.put_setting(KEPT, b"up 5\nsideways\n\xff").unwrap();
        assert_eq!(load(&store).unwrap(), Bandwidth::UNLIMITED);
    }

    fn lanes(rate: u64, peers: usize) -> (Line, Vec<Arc<Lane>>) {
        let line = Line::new(Bandwidth { up: Some(rate), down: None });
        let lanes = (0..peers).map(|_| Arc::new(line.lanes().0)).collect();
        (line, lanes)
    }

    /// Moves bytes on a stream of a peer for so long; gives how many.
    async fn stream(lane: Arc<Lane>, end: Instant) -> u64 {
        let mut moved = 0;
        while Instant::now() < end {
            let (chunk, mut toll) = (lane.chunk(), Toll::default());
            lane.owe(&mut toll, chunk);
            lane.pay(&mut toll, 0).await;
            moved += chunk as u64;
        }
        moved
    }

    #[tokio::test(start_paused = true)]
    async fn a_peer_with_many_streams_gets_no_more_than_one_with_few() {
        let (_line, lanes) = lanes(RATE, 3);
        let (start, long) = (Instant::now(), Duration::from_secs(60));
        let streams = |lane: &Arc<Lane>, count| -> Vec<_> {
            (0..count).map(|_| tokio::spawn(stream(lane.clone(), start + long))).collect()
        };
        let running = [streams(&lanes[0], 16), streams(&lanes[1], 1), streams(&lanes[2], 2)];
        let mut moved = Vec::new();
        for streams in running {
            let mut sum = 0;
            for stream in streams {
                sum += stream.await.unwrap();
            }
            moved.push(sum);
        }
        let all: u64 = moved.iter().sum();
        let took = start.elapsed().as_secs_f64();
        assert!(all as f64 <= (took + 1.0) * RATE as f64, "{moved:?} in {took} s");
        for moved in &moved {
            assert!(moved.abs_diff(20 * RATE) < 2 * RATE, "{moved} of {all}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_urgent_counts_and_does_not_wait() {
        let (line, lanes) = lanes(RATE, 1);
        let start = Instant::now();
        lanes[0].count(RATE as usize);
        assert_eq!(start, Instant::now());
        let mut toll = Toll::default();
        lanes[0].owe(&mut toll, 1000);
        // Dropped while it waits: it does not wait twice.
        let wait = Duration::from_millis(500);
        assert!(tokio::time::timeout(wait, lanes[0].pay(&mut toll, 0)).await.is_err());
        lanes[0].pay(&mut toll, 0).await;
        let waited = start.elapsed();
        let one = Duration::from_secs(1);
        assert!(waited >= one && waited <= one + Duration::from_millis(2), "{waited:?}");
        // A limit that is gone holds nobody up.
        lanes[0].count(1000 * RATE as usize);
        line.set(Bandwidth::UNLIMITED);
        lanes[0].owe(&mut toll, 1 << 30);
        let before = Instant::now();
        lanes[0].pay(&mut toll, 0).await;
        assert_eq!(before, Instant::now());
    }
}
