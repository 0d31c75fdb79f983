//! The parts of it one by one, with a processor's carry-less product and without.

use std::hint::black_box;

use arcwise_proto::reconcile::{
    Parts, Sketch, Sums,
    field::{self, Field, Job, MASK, PORTABLE, Wide},
    fingerprint::Fingerprint,
    sketch,
};

use super::{
    portable,
    set::{Random, Where},
    timed,
};

struct Products(u64);

impl Job for Products {
    type Output = u64;

    #[inline(always)]
    fn run<W: Wide, M: Fn(u64, u64) -> W + Copy>(self, field: Field<M>) -> u64 {
        let mut powers = [3, 5, 7, 9];
        for _ in 0..self.0 / 4 {
            powers = powers.map(|power| field.mul(power, 0x1234_5678_9abc));
        }
        powers.iter().fold(0, |a, b| a ^ b)
    }
}

/// Nanoseconds of one out of `many`: the best of five times.
fn each<T>(many: u64, mut work: impl FnMut(u64) -> T) -> f64 {
    let times = (0..5).map(|_| {
        let mut seconds = 0.0;
        timed(&mut seconds, || (0..many).for_each(|at| _ = black_box(work(at))));
        seconds * 1e9 / many as f64
    });
    times.fold(f64::INFINITY, f64::min)
}

pub fn print() {
    println!("\n| operation | ns, carry-less instruction | ns, portable |");
    println!("|---|---|---|");
    let row = |name: &str, fast: f64, slow: Option<f64>| {
        let slow = slow.map_or("same".to_owned(), |slow| format!("{slow:.1}"));
        println!("| {name} | {fast:.1} | {slow} |");
    };
    let products = 100_000;
    row(
        "product in the field, four chains",
        each(20, |_| field::run(Products(products))) / products as f64,
        Some(each(5, |_| Products(products).run(PORTABLE)) / products as f64),
    );
    let mut random = Random(7);
    let mut ids: Vec<u64> = (0..4096).map(|_| random.word() & MASK | 1).collect();
    ids.sort_unstable();
    ids.dedup();
    let id = |at: u64| ids[at as usize % ids.len()];
    let mut syndromes = [0; 64];
    row(
        "an id into 64 syndromes",
        each(50_000, |at| sketch::toggle(&mut syndromes, id(at))),
        Some(each(10_000, |at| portable::sketch::toggle(&mut syndromes, id(at)))),
    );
    for (len, many) in [(12, 10), (12, 11), (37, 24), (64, 50), (64, 63)] {
        let (mut fast, mut slow) = (Sketch::new(len), portable::sketch::Sketch::new(len));
        ids.iter().take(many).for_each(|id| {
            fast.toggle(*id);
            slow.toggle(*id);
        });
        row(
            &format!("decode {many} ids from {len} syndromes"),
            each(200, |_| fast.decode(1)),
            Some(each(50, |_| slow.decode(1))),
        );
    }
    let hashes = random.keys(1000, Where::Anywhere);
    let hash = |at: u64| &hashes[at as usize % hashes.len()].hash;
    let mut sums = Sums::ZERO;
    row("fingerprint of one item", each(20_000, |at| Fingerprint::of(hash(at))), None);
    row("count and counters", each(50_000, |at| sums.add(hash(at), Parts::COUNT)), None);
    row("all sums of one item", each(20_000, |at| Sums::of(hash(at), Parts::ALL)), None);
    let other = sums.clone();
    row("all sums merged", each(50_000, |_| sums.merge(black_box(&other), Parts::ALL)), None);
    row(
        "check of a fingerprint",
        each(10_000, |at| sums.fingerprint.check(&at.to_le_bytes())),
        None,
    );
}
