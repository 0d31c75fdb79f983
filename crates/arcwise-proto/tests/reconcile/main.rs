//! Reconciliation: sums against a recount, conversations against the true difference.

mod exchange;
mod sectors;
mod set;
