//! What is shown, and how: data on stdout, talk and progress on stderr.

use std::{
    cell::Cell,
    fmt::Display,
    io::{self, IsTerminal, Write},
    time::Duration,
};

use indicatif::{HumanBytes, HumanCount, ProgressBar, ProgressDrawTarget, ProgressStyle};
use jiff::{Timestamp, tz::TimeZone};
use serde::Serialize;

use crate::{exit::Stdout, files::Progress};

const OF_BYTES: &str =
    "{spinner} {msg} {wide_bar} {bytes} of {total_bytes}, {bytes_per_sec}, {eta}";

#[derive(Clone, Copy, Debug)]
pub(crate) struct Output {
    pub(crate) json: bool,
    pub(crate) quiet: bool,
}

impl Output {
    /// A line of data, for people and for scripts.
    pub(crate) fn line(&self, text: impl Display) -> Result<(), Stdout> {
        let mut out = io::stdout().lock();
        writeln!(out, "{text}")?;
        Ok(out.flush()?)
    }

    /// Data for programs: one line.
    pub(crate) fn json(&self, value: &impl Serialize) -> Result<(), Stdout> {
        self.line(serde_json::to_string(value).map_err(io::Error::from)?)
    }

    /// Says something beside the data.
    pub(crate) fn say(&self, text: impl Display) {
        if !self.quiet && !self.json {
            // Nobody may be listening.
            let _ = writeln!(io::stderr(), "{text}");
        }
    }

    /// What of that is shown on a terminal only: it is gone when the work is done.
    pub(crate) fn spinner(&self, text: impl Into<String>) -> ProgressBar {
        let bar = self.bar("{spinner} {msg}");
        bar.set_message(text.into());
        bar.enable_steady_tick(Duration::from_millis(100));
        bar
    }

    /// Counts up to a length.
    pub(crate) fn counter(&self, text: impl Into<String>) -> ProgressBar {
        let bar = self.bar("{spinner} {msg} {wide_bar} {human_pos} of {human_len}");
        bar.set_message(text.into());
        bar.enable_steady_tick(Duration::from_millis(100));
        bar
    }

    /// Goes on to the end of what takes as long as it takes.
    pub(crate) fn part(&self, text: impl Into<String>, length: u64) -> ProgressBar {
        let bar = self.bar("{spinner} {msg} {wide_bar} {percent} %, {eta}");
        bar.set_message(text.into());
        bar.set_length(length);
        bar.enable_steady_tick(Duration::from_millis(100));
        bar
    }

    /// Counts up to so many bytes, or, where that is not known, up.
    pub(crate) fn bytes(&self, text: impl Into<String>, length: Option<u64>) -> ProgressBar {
        let bar = self.bar(match length {
            Some(_) => OF_BYTES,
            None => "{spinner} {msg} {bytes}, {bytes_per_sec}",
        });
        bar.set_message(text.into());
        bar.enable_steady_tick(Duration::from_millis(100));
        length.inspect(|length| bar.set_length(*length));
        bar
    }

    /// Shows how far files are.
    pub(crate) fn files(&self, text: impl Into<String>) -> Files {
        Files { bar: self.spinner(text), counted: Cell::new(false) }
    }

    fn bar(&self, template: &str) -> ProgressBar {
        let shown = !self.quiet && !self.json && io::stderr().is_terminal();
        let target =
            if shown { ProgressDrawTarget::stderr() } else { ProgressDrawTarget::hidden() };
        ProgressBar::with_draw_target(None, target).with_style(style(template))
    }
}

fn style(template: &str) -> ProgressStyle {
    ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_spinner())
}

/// A bar over the bytes of files.
pub(crate) struct Files {
    bar: ProgressBar,
    /// The end is known.
    counted: Cell<bool>,
}

impl Files {
    pub(crate) fn show(&self, progress: Progress) {
        if let Some(total) = progress.total
            && !self.counted.replace(true)
        {
            self.bar.set_length(total.bytes);
            self.bar.set_style(style(OF_BYTES));
        }
        self.bar.set_position(progress.done.bytes);
    }
}

impl Drop for Files {
    fn drop(&mut self) {
        self.bar.finish_and_clear();
    }
}

/// For people: `1.21 MiB`.
pub(crate) fn bytes(bytes: u64) -> String {
    HumanBytes(bytes).to_string()
}

/// For people: `7,002 files`, `1 file`.
pub(crate) fn count(number: u64, what: &str) -> String {
    let plural = if number == 1 { "" } else { "s" };
    format!("{} {what}{plural}", HumanCount(number))
}

/// For people: `12 s`, `3 min`, `2 h 5 min`, `4 days`.
pub(crate) fn seconds(seconds: f64) -> String {
    let whole = seconds as u64;
    match whole {
        0..100 => format!("{whole} s"),
        100..6000 => format!("{} min", whole / 60),
        6000..172_800 => format!("{} h {} min", whole / 3600, whole / 60 % 60),
        _ => format!("{} days", whole / 86_400),
    }
}

/// For people: in their own time zone, to the minute.
pub(crate) fn local_time(time: arcwise::Time) -> String {
    match timestamp(time) {
        Some(time) => time.to_zoned(TimeZone::system()).strftime("%Y-%m-%d %H:%M").to_string(),
        None => "in a far future".to_owned(),
    }
}

/// For programs: RFC 3339, in UTC.
pub(crate) fn rfc3339(time: arcwise::Time) -> Option<String> {
    timestamp(time).map(|time| time.to_string())
}

fn timestamp(time: arcwise::Time) -> Option<Timestamp> {
    Timestamp::from_microsecond(time.as_micros().try_into().ok()?).ok()
}

/// Columns, as wide as their widest cell; the last column is for what is long. `<` and `>` say
/// how a column is aligned.
pub(crate) fn table<const N: usize>(align: &str, rows: &[[String; N]]) -> String {
    let mut widths = [0; N];
    for row in rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = cell.chars().count().max(*width);
        }
    }
    let mut lines = Vec::with_capacity(rows.len());
    for row in rows {
        let mut line = String::new();
        for ((cell, width), align) in row.iter().zip(widths).zip(align.chars()) {
            match align {
                '>' => line += &format!("{cell:>width$}  "),
                _ => line += &format!("{cell:<width$}  "),
            }
        }
        line.truncate(line.trim_end().len());
        lines.push(line);
    }
    lines.join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_for_people() {
        assert_eq!(count(1, "file"), "1 file");
        assert_eq!(count(7002, "file"), "7,002 files");
        assert_eq!(bytes(1_234_567), "1.18 MiB");
        let shown = [12.9, 99.0, 100.0, 7500.0, 400_000.0].map(seconds);
        assert_eq!(shown, ["12 s", "99 s", "1 min", "2 h 5 min", "4 days"]);
        assert_eq!(rfc3339(arcwise::Time::from_micros(0)).unwrap(), "1970-01-01T00:00:00Z");
        assert_eq!(rfc3339(arcwise::Time::from_micros(u64::MAX)), None);
        assert_eq!(local_time(arcwise::Time::from_micros(u64::MAX)), "in a far future");
    }

    #[test]
    fn tables_line_up() {
        let rows = [["a", "1", "x"], ["bcd", "22", ""]].map(|row| row.map(str::to_owned));
        assert_eq!(table("<><", &rows), "a     1  x\nbcd  22");
    }
}
