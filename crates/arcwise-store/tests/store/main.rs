//! The store from outside. One program, since linking the engine takes longer than the tests.

mod common;
mod concurrent;
mod crash;
mod damage;
mod formats;
mod model;
mod open;
#[cfg(target_os = "linux")]
mod power;
mod room;
mod sums;
