//! Checking a whole store: that index, ids, log, counters and sums say the same, and that every aspect
//! is what its hash says.
//!
//! Per space the log is read in order, each row by its own number, so that one that cannot be read
//! does not hide the next; then the index is walked for rows that lead nowhere sound.

use arcwise_proto::{
    ArcSet, Aspect, AspectKey, RingArc,
    session::{Holdings, Snapshot},
};
use fjall::Readable;

use crate::{
    Damage, Fault, Row, Space, Store, StoreError,
    rows::{self, Progress, SpaceNumber, meta},
    space::{Logged, is_damage},
    store::lock,
};

/// Most damages that a report lists.
const MAX_LISTED: usize = 1000;

/// What [`Store::check`] found.
#[derive(Clone, Debug, Default)]
pub struct CheckReport {
    /// Aspects that are sound, in all spaces.
    pub aspects: u64,
    /// Bytes of their canonical encodings together.
    pub bytes: u64,
    /// What is wrong: the first 1000 of it.
    pub damages: Vec<Damage>,
    /// How much is wrong in all; 0 in a sound store.
    pub damage_count: u64,
}

impl CheckReport {
    fn note(&mut self, damage: Damage) {
        self.damage_count += 1;
        if self.damages.len() < MAX_LISTED {
            self.damages.push(damage);
        }
    }

    /// Notes an error that is damage and passes on every other.
    fn note_error(&mut self, error: StoreError) -> Result<(), StoreError> {
        match error {
            StoreError::Damaged(damage) => {
                self.note(damage);
                Ok(())
            }
            error => Err(error),
        }
    }
}

impl Store {
    /// Reads everything and compares it: that every indexed aspect is in the log with that hash,
    /// location and time, that everything in the log is indexed, and that counters and sums are right.
    /// Sees the store as it was when the check began; inserts and reads go on meanwhile. Takes
    /// around ten seconds for a million small aspects and a quarter of a byte of memory for each.
    ///
    /// # Errors
    /// [`StoreError::Engine`] where the disk fails. What is merely damaged is in the report.
    pub fn check(&self) -> Result<CheckReport, StoreError> {
        // Nobody creates a space while this is held, so list and snapshot go together.
        let records = lock(&self.inner().records);
        let (spaces, snapshot) = (self.spaces(), self.inner().engine.db.snapshot());
        drop(records);
        self.inner().sum_all();
        let mut report = CheckReport::default();
        for space in &spaces {
            SpaceCheck { space, snapshot: &snapshot, report: &mut report }.run()?;
        }
        self.check_strays(self.inner().next_space(), &snapshot, &mut report)?;
        Ok(report)
    }

    /// Gives up the aspects that a check has found damaged, and with them the claim to hold what is at
    /// their locations: then they can be fetched again from whoever has them. Gives how many.
    ///
    /// # Errors
    /// As [`Space::remove`] and [`Space::disclaim_outside`].
    pub fn give_up(&self, report: &CheckReport) -> Result<u64, StoreError> {
        let mut given_up = 0;
        for space in self.spaces() {
            let damaged = report.damages.iter().filter(|damage| damage.space == Some(space.id()));
            let keys: Vec<AspectKey> = damaged
                .filter_map(|damage| match damage.row {
                    Row::Aspect(key) => Some(key),
                    Row::Log(_) | Row::Record(_) => None,
                })
                .collect();
            if keys.is_empty() {
                continue;
            }
            // The claim first: at no moment is more claimed than held.
            let points = keys.iter().map(|key| RingArc::between(key.location, key.location));
            space.disclaim_outside(&points.collect::<ArcSet>().complement())?;
            let held = space.remove(&keys)?;
            given_up += held.iter().filter(|held| **held).count() as u64;
        }
        Ok(given_up)
    }

    /// Notes rows whose space number, `free` or above, was never given out.
    fn check_strays(
        &self,
        free: SpaceNumber,
        snapshot: &fjall::Snapshot,
        report: &mut CheckReport,
    ) -> Result<(), StoreError> {
        let stray = |row| Damage { space: None, row, fault: Fault::NoSuchSpace };
        let engine = &self.inner().engine;
        for row in snapshot.range(&engine.index, rows::index_key(free, &AspectKey::MIN)..) {
            let key = rows::parse_index_key(&row.key()?);
            report.note(stray(key.map_or(Row::Record("the index"), |(_, key)| Row::Aspect(key))));
        }
        for row in snapshot.range(&engine.ids, free.to_be_bytes()..) {
            row.key()?;
            report.note(stray(Row::Record("ids")));
        }
        for row in snapshot.range(&engine.log, rows::log_key(free, 0)..) {
            let key = rows::parse_log_key(&row.key()?);
            report.note(stray(key.map_or(Row::Record("the log"), |(_, number)| Row::Log(number))));
        }
        Ok(())
    }
}

struct SpaceCheck<'a> {
    space: &'a Space,
    snapshot: &'a fjall::Snapshot,
    report: &'a mut CheckReport,
}

impl SpaceCheck<'_> {
    fn run(&mut self) -> Result<(), StoreError> {
        let key = rows::meta_key(meta::PROGRESS, &self.space.state.number.to_be_bytes());
        let counters = self.snapshot.get(&self.space.store.engine.meta, key)?;
        let Some(counters) = counters.and_then(|row| Progress::parse(&row)) else {
            self.note(Row::Record("counters"), Fault::Malformed);
            return Ok(());
        };
        let sound = self.check_log(&counters)?;
        let claimed = self.check_index(&sound)?;
        for sequence in (1..=counters.sequence).filter(|&n| !sound.has(n) && !claimed.has(n)) {
            match self.logged(sequence)? {
                Ok(_) => {}
                Err(Fault::NotLogged) if counters.removed > 0 => {}
                Err(fault) => self.note(Row::Log(sequence), fault),
            }
        }
        self.check_sums()
    }

    /// Sums everything up anew and compares. Wrong sums are made anew on the next opening.
    fn check_sums(&mut self) -> Result<(), StoreError> {
        let Snapshot { sectors, items } = self.space.snapshot();
        match sectors.verify(&items) {
            Ok(true) => {}
            Ok(false) => {
                self.space.discard_sums();
                self.note(Row::Record("sums"), Fault::OtherSums);
            }
            // What cannot be read has been found already.
            Err(error) => self.report.note_error(error)?,
        }
        Ok(())
    }

    /// Reads the log and compares the counters. Returns which rows are sound.
    fn check_log(&mut self, counters: &Progress) -> Result<Bits, StoreError> {
        let mut sound = Bits::new(counters.sequence);
        let (mut count, mut bytes, mut faulty) = (0, 0, false);
        for sequence in 1..=counters.sequence {
            match self.logged(sequence)? {
                Ok(Some(aspect)) => {
                    sound.set(sequence);
                    count += 1;
                    bytes += aspect.encoding().len() as u64;
                }
                Ok(None) => sound.set(sequence),
                // Where something was removed, nothing need be there any more.
                Err(Fault::NotLogged) if counters.removed > 0 => {}
                Err(_) => faulty = true,
            }
        }
        let number = self.space.state.number;
        let beyond = rows::log_key(number, counters.sequence + 1)..=rows::log_key(number, u64::MAX);
        let beyond = self.snapshot.range(&self.space.store.engine.log, beyond).count() as u64;
        if beyond > 0 {
            self.note_count("log rows", counters.sequence, counters.sequence + beyond);
        }
        // Where rows are damaged, neither is known.
        if !faulty && count != counters.count {
            self.note_count("aspects", counters.count, count);
        }
        if !faulty && count == counters.count && bytes != counters.bytes {
            self.note_count("bytes", counters.bytes, bytes);
        }
        self.report.aspects += count;
        self.report.bytes += bytes;
        Ok(sound)
    }

    /// The aspect in this row of the log, if the index leads there; `None` for a removal; otherwise
    /// what is wrong.
    fn logged(&self, sequence: u64) -> Result<Result<Option<Aspect>, Fault>, StoreError> {
        let key = rows::log_key(self.space.state.number, sequence);
        let row = match self.snapshot.get(&self.space.store.engine.log, key) {
            Ok(Some(row)) => row,
            Ok(None) => return Ok(Err(Fault::NotLogged)),
            Err(e) if is_damage(&e) => return Ok(Err(Fault::Unreadable(e.into()))),
            Err(e) => return Err(e.into()),
        };
        let aspect = match Logged::parse(row) {
            Ok(Logged::Aspect(aspect)) => aspect,
            Ok(Logged::Removal(_)) => return Ok(Ok(None)),
            Err(e) => return Ok(Err(Fault::NotAnAspect(e))),
        };
        Ok(match self.space.indexed(self.snapshot, &aspect.key()) {
            Ok(Some(indexed)) if indexed.sequence != sequence => Err(Fault::NotIndexed),
            Ok(Some(indexed)) if indexed.published != aspect.published() => Err(Fault::OtherTime),
            Ok(Some(_)) => Ok(Some(aspect)),
            Ok(None) => Err(Fault::NotIndexed),
            Err(StoreError::Damaged(damage)) => Err(damage.fault),
            Err(e) => return Err(e),
        })
    }

    /// Walks the index for rows that do not lead to a sound aspect. Returns to which rows of the
    /// log it leads.
    fn check_index(&mut self, sound: &Bits) -> Result<Bits, StoreError> {
        let mut claimed = Bits::new(sound.len);
        let all = self.space.index_rows(self.snapshot, AspectKey::MIN, AspectKey::MAX);
        for row in all {
            let (key, indexed) = match row {
                Ok(row) => row,
                Err(e) => {
                    // The walk cannot go on after this; what it would have found missing, the log
                    // has shown already.
                    self.report.note_error(e)?;
                    break;
                }
            };
            if !self.space.has_id(&key)? {
                self.note(Row::Aspect(key), Fault::NoId);
            }
            let again = claimed.has(indexed.sequence);
            claimed.set(indexed.sequence);
            if sound.has(indexed.sequence) && !again {
                continue;
            }
            match self.space.logged(self.snapshot, &key, indexed) {
                Ok(aspect) if aspect.published() != indexed.published => {
                    self.note(Row::Aspect(key), Fault::OtherTime);
                }
                Ok(_) if again => self.note(Row::Aspect(key), Fault::SharedRow),
                Ok(_) => {}
                Err(e) => self.report.note_error(e)?,
            }
        }
        Ok(claimed)
    }

    fn note(&mut self, row: Row, fault: Fault) {
        self.report.note(Damage { space: Some(self.space.state.id), row, fault });
    }

    fn note_count(&mut self, what: &'static str, counter: u64, rows: u64) {
        self.note(Row::Record("counters"), Fault::Miscounted { what, counter, rows });
    }
}

/// A set of sequence numbers from 1 to `len`.
struct Bits {
    words: Vec<u64>,
    len: u64,
}

impl Bits {
    fn new(len: u64) -> Self {
        Self { words: vec![0; (len / 64 + 1) as usize], len }
    }

    fn set(&mut self, n: u64) {
        if (1..=self.len).contains(&n) {
            self.words[(n / 64) as usize] |= 1 << (n % 64);
        }
    }

    fn has(&self, n: u64) -> bool {
        (1..=self.len).contains(&n) && self.words[(n / 64) as usize] >> (n % 64) & 1 == 1
    }
}
