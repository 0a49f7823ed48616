//! A few seeds, as a small form of what `cargo xtask sim` runs.

use std::ops::Range;

use milena_sim::plan::Plan;
use milena_sim::{Outcome, Transcript, run};

const SEEDS: Range<u64> = 1..9;

fn run_seed(seed: u64) -> Outcome {
    run(&Plan::of_seed(seed), Transcript::default())
}

#[test]
fn what_was_promised_holds_whatever_the_seed() {
    let (mut faults, mut acked, mut events) = (0, 0, 0);
    for seed in SEEDS {
        let outcome = run_seed(seed);
        assert_eq!(outcome.failure, None, "cargo xtask sim --seed {seed}");
        assert!(outcome.figures.acked > 0, "seed {seed} did nothing");
        assert_eq!(outcome.figures.acked, outcome.figures.read, "seed {seed}");
        faults += outcome.figures.faults;
        acked += outcome.figures.acked;
        events += outcome.figures.events;
    }
    println!(
        "{} seeds, {faults} faults, {acked} records acked, {events} events",
        SEEDS.end - SEEDS.start
    );
    assert!(faults > 0);
}

#[test]
fn one_seed_is_one_run() {
    let plan = Plan::of_seed(3);
    let first = run(&plan, Transcript::default());
    let second = run(&plan, Transcript::kept());
    assert_eq!(first.digest, second.digest);
    assert_eq!(first.figures, second.figures);
    assert!(first.lines.is_empty() && !second.lines.is_empty());
    assert_ne!(run_seed(4).digest, first.digest);
}
