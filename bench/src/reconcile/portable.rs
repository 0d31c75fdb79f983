//! The library's own sketches, from the same files, over a field that always takes the portable
//! product: what a machine without a carry-less product would do.
#![allow(dead_code)]

pub mod field {
    pub use arcwise_proto::reconcile::field::{
        BITS, BYTES, Field, Job, MASK, PORTABLE, Wide, reduce,
    };

    pub fn run<J: Job>(job: J) -> J::Output {
        job.run(PORTABLE)
    }
}

#[path = "../../../crates/arcwise-proto/src/reconcile/roots.rs"]
mod roots;
#[path = "../../../crates/arcwise-proto/src/reconcile/sketch.rs"]
pub mod sketch;
