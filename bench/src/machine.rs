//! What the operating system says (Linux), mostly of this process.

use std::{fs, os::unix::fs::MetadataExt, path::Path};

use rustix::time::ClockId;

/// Bytes of the largest resident set since the start or the last [`reset_peak`].
pub fn peak_memory() -> Option<u64> {
    status("VmHWM:")
}

/// Bytes of the resident set now.
pub fn memory() -> Option<u64> {
    status("VmRSS:")
}

fn status(field: &str) -> Option<u64> {
    let status = fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix(field))?;
    let kib: u64 = line.split_whitespace().next()?.parse().ok()?;
    Some(kib * 1024)
}

/// Begins to count the peak anew.
pub fn reset_peak() {
    // Only the figures suffer where this is not allowed: the peak then counts from the start.
    let _ = fs::write("/proc/self/clear_refs", "5");
}

/// Seconds of processor time of this process so far, user and system.
pub fn cpu_seconds() -> Option<f64> {
    let stat = fs::read_to_string("/proc/self/stat").ok()?;
    let fields: Vec<&str> = stat.rsplit_once(')')?.1.split_whitespace().collect();
    let ticks: u64 = fields.get(11)?.parse::<u64>().ok()? + fields.get(12)?.parse::<u64>().ok()?;
    // USER_HZ is 100 on every Linux that people run.
    Some(ticks as f64 / 100.0)
}

/// Seconds of processor time of this thread so far, to the nanosecond or so.
pub fn thread_seconds() -> f64 {
    seconds(ClockId::ThreadCPUTime)
}

/// Seconds on a clock that is the same for all processes of this machine, to the nanosecond or so.
pub fn clock() -> f64 {
    seconds(ClockId::Monotonic)
}

fn seconds(clock: ClockId) -> f64 {
    let time = rustix::time::clock_gettime(clock);
    time.tv_sec as f64 + time.tv_nsec as f64 / 1e9
}

/// Bytes that this process has sent to disks so far.
pub fn written() -> Option<u64> {
    let io = fs::read_to_string("/proc/self/io").ok()?;
    io.lines().find_map(|line| line.strip_prefix("write_bytes: "))?.parse().ok()
}

/// Bytes that the files in a folder take up.
pub fn on_disk(folder: &Path) -> std::io::Result<u64> {
    let mut sum = 0;
    for item in fs::read_dir(folder)? {
        let item = item?;
        let about = item.metadata()?;
        sum += match about.is_dir() {
            true => on_disk(&item.path())?,
            false => about.blocks() * 512,
        };
    }
    Ok(sum)
}
