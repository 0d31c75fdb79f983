//! The ladder: who sent what, how much of it, and when.

use std::{fmt, time::Instant};

use arcwise::{Direction, Frame, Kind};
use serde::{Serialize, Serializer};

/// The arrows of a conversation as Alice sees it. Frames of one kind in one direction that belong to
/// one another are one arrow.
#[derive(Debug)]
pub(crate) struct Ladder {
    start: Instant,
    arrows: Vec<Arrow>,
    missed: u64,
}

/// One arrow.
#[derive(Debug, Serialize)]
struct Arrow {
    from: &'static str,
    to: &'static str,
    message: &'static str,
    frames: usize,
    items: usize,
    bytes: usize,
    /// Of its first frame, from the start of the ladder, in milliseconds.
    first_ms: f64,
    /// Of its last frame.
    last_ms: f64,
    #[serde(skip)]
    kind: Kind,
}

impl Ladder {
    pub(crate) fn new(start: Instant) -> Self {
        Self { start, arrows: Vec::new(), missed: 0 }
    }

    /// Pings are left out: they only serve to watch.
    pub(crate) fn add(&mut self, frame: &Frame) {
        if matches!(frame.kind, Kind::Ping | Kind::Pong) {
            return;
        }
        let (from, to) = match frame.direction {
            Direction::Sent => ("Alice", "Bob"),
            Direction::Received => ("Bob", "Alice"),
        };
        let at = frame.at.saturating_duration_since(self.start).as_secs_f64() * 1e3;
        // A stream of pages or of aspects is one arrow, even where the other side's come between.
        let streamed = !matches!(frame.kind, Kind::Hello | Kind::Handshake);
        let same = |arrow: &&mut Arrow| arrow.kind == frame.kind && arrow.from == from && streamed;
        match self.arrows.iter_mut().find(same) {
            Some(arrow) => {
                arrow.frames += 1;
                arrow.items += frame.items;
                arrow.bytes += frame.bytes;
                arrow.last_ms = at;
            }
            None => self.arrows.push(Arrow {
                from,
                to,
                message: frame.kind.name(),
                frames: 1,
                items: frame.items,
                bytes: frame.bytes,
                first_ms: at,
                last_ms: at,
                kind: frame.kind,
            }),
        }
    }

    /// This many frames went by unseen.
    pub(crate) fn missed(&mut self, frames: u64) {
        self.missed += frames;
    }

    pub(crate) fn append(&mut self, other: Ladder) {
        self.arrows.extend(other.arrows);
        self.missed += other.missed;
    }
}

impl Serialize for Ladder {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.arrows.serialize(serializer)
    }
}

impl fmt::Display for Ladder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "  Alice{:36}Bob  {:>7}  {:>9}  {:>17}", "", "items", "bytes", "ms")?;
        for arrow in &self.arrows {
            let line = format!(" {} ", arrow.message);
            let line = match arrow.from {
                "Alice" => format!("├{line:─<37}▶│"),
                _ => format!("│◀{line:─>37}┤"),
            };
            let time = match arrow.frames {
                1 => format!("{:.1}", arrow.first_ms),
                _ => format!("{:.1} to {:.1}", arrow.first_ms, arrow.last_ms),
            };
            let size = bytes(arrow.bytes as u64);
            write!(f, "    {line}    {:>7}  {size:>9}  {time:>17}", arrow.items)?;
            match arrow.frames {
                1 => writeln!(f)?,
                frames => writeln!(f, "  in {frames} frames")?,
            }
        }
        match self.missed {
            0 => Ok(()),
            missed => writeln!(f, "    ({missed} frames came too fast to be counted)"),
        }
    }
}

/// For people, in powers of 1024.
pub(crate) fn bytes(bytes: u64) -> String {
    const UNITS: [&str; 4] = ["kiB", "MiB", "GiB", "TiB"];
    let mut value = bytes as f64 / 1024.0;
    if value < 1.0 {
        return format!("{bytes} B");
    }
    let mut unit = 0;
    while value >= 1024.0 && unit + 1 < UNITS.len() {
        value /= 1024.0;
        unit += 1;
    }
    format!("{value:.1} {}", UNITS[unit])
}
