//! Runs a scenario file and prints what came of it: `-- FILE [NODES [SEED [THREADS [CHECK]]]]`.

use arcwise_sim::{Options, run, scenario::Scenario};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let number = |at: usize, default: u64| args.get(at).map_or(Ok(default), |it| it.parse());
    let file = args.first().ok_or("which scenario?")?;
    let mut scenario = Scenario::parse(&std::fs::read_to_string(file)?)?;
    scenario.nodes = number(1, scenario.nodes as u64)? as usize;
    let (seed, threads, check) = (number(2, 1)?, number(3, 1)? as usize, number(4, 1)? == 1);
    let mut last = 0.0;
    let results = run(&scenario, seed, &Options { threads, check }, &mut |progress| {
        if progress.part >= last + 0.05 {
            last = progress.part;
            if let Some(sample) = progress.sample {
                eprintln!("{sample:?}");
            }
        }
    });
    for violation in &results.violations {
        println!("VIOLATION {:.3} {}", violation.at, violation.what);
    }
    results.missed.iter().for_each(|missed| println!("MISSED {missed}"));
    println!("{:#?}\n{}", results.summary, results.fingerprint);
    Ok(())
}
