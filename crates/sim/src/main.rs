//! `milena-sim`: runs seeds, prints what a person wants to read of one, and makes a failing one smaller. It decides nothing;
//! `cargo xtask sim` builds and starts it.
#![forbid(unsafe_code)]

use std::ops::Range;
use std::process::ExitCode;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::channel;
use std::time::Instant;

use milena_sim::plan::{Plan, SECOND};
use milena_sim::shrink::shrink;
use milena_sim::{Outcome, Transcript, run};

const HELP: &str = "\
milena-sim --seed N            one seed, with its transcript
milena-sim --seeds A..B        many, a line for each that fails
  --twice K                    the first K of them twice: same digests
  --jobs N                     at a time (2)
  --shrink                     a failing seed is made smaller, and the smaller one's transcript printed
";

/// Runs that a failing plan's shrinking may take.
const SHRINK_RUNS_MAX: u32 = 200;

#[derive(Default)]
struct Options {
    seed: Option<u64>,
    seeds: Option<Range<u64>>,
    twice: u64,
    jobs: usize,
    shrink: bool,
}

fn main() -> ExitCode {
    let options = match options(std::env::args().skip(1)) {
        Ok(options) => options,
        Err(why) => {
            eprintln!("{why}\n{HELP}");
            return ExitCode::from(2);
        }
    };
    let passed = match (options.seed, options.seeds.clone()) {
        (Some(seed), _) => one(seed, options.shrink),
        (None, Some(seeds)) => many(seeds, &options),
        (None, None) => {
            eprint!("{HELP}");
            return ExitCode::from(2);
        }
    };
    match passed {
        true => ExitCode::SUCCESS,
        false => ExitCode::FAILURE,
    }
}

fn options(mut arguments: impl Iterator<Item = String>) -> Result<Options, String> {
    let mut options = Options {
        jobs: 2,
        ..Options::default()
    };
    while let Some(argument) = arguments.next() {
        let mut number = || {
            let value = arguments
                .next()
                .ok_or(format!("{argument} needs a value"))?;
            Ok::<_, String>((value.parse::<u64>(), value))
        };
        match argument.as_str() {
            "--seed" => options.seed = Some(number()?.0.map_err(|e| e.to_string())?),
            "--twice" => options.twice = number()?.0.map_err(|e| e.to_string())?,
            "--jobs" => options.jobs = number()?.0.map_err(|e| e.to_string())? as usize,
            "--shrink" => options.shrink = true,
            "--seeds" => options.seeds = Some(range(&number()?.1)?),
            other => return Err(format!("{other} is not known")),
        }
    }
    Ok(options)
}

fn range(text: &str) -> Result<Range<u64>, String> {
    let wrong = || format!("{text}: seeds are given as A..B");
    let (from, to) = text.split_once("..").ok_or_else(wrong)?;
    let number = |text: &str| text.parse::<u64>().map_err(|_| wrong());
    Ok(number(from)?..number(to)?)
}

fn one(seed: u64, shrinks: bool) -> bool {
    let plan = Plan::of_seed(seed);
    let outcome = run(&plan, Transcript::printed());
    println!("{}", said(seed, &outcome));
    if shrinks {
        smaller(&plan, &outcome);
    }
    outcome.failure.is_none()
}

/// One line about a run.
fn said(seed: u64, outcome: &Outcome) -> String {
    let seconds = outcome.ended / SECOND;
    match &outcome.failure {
        None => format!("seed {seed}: {:016x} after {seconds} s", outcome.digest),
        Some(failure) => {
            let broken = &failure.broken;
            format!(
                "seed {seed}: {} after {seconds} s: {}",
                broken.promise, broken.how
            )
        }
    }
}

fn smaller(plan: &Plan, outcome: &Outcome) {
    let Some(failure) = &outcome.failure else {
        return;
    };
    let (small, runs) = shrink(plan, failure.broken.promise, SHRINK_RUNS_MAX);
    println!(
        "\nmade smaller in {runs} runs, from {} faults to {}:",
        plan.faults.len(),
        small.faults.len()
    );
    for fault in &small.faults {
        println!("  at {} ms: {fault}", fault.at / (SECOND / 1000));
    }
    println!("  {:?}, {} batches", small.shape, small.batches);
    run(&small, Transcript::printed());
}

fn many(seeds: Range<u64>, options: &Options) -> bool {
    let begun = Instant::now();
    let next = AtomicU64::new(seeds.start);
    let (sender, outcomes) = channel();
    let twice = seeds.start..seeds.start + options.twice;
    std::thread::scope(|scope| {
        for _ in 0..options.jobs.max(1) {
            let (sender, next, twice, end) = (sender.clone(), &next, &twice, seeds.end);
            scope.spawn(move || {
                loop {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= end {
                        return;
                    }
                    let plan = Plan::of_seed(seed);
                    let outcome = run(&plan, Transcript::default());
                    let again = twice
                        .contains(&seed)
                        .then(|| run(&plan, Transcript::kept()));
                    if sender.send((seed, outcome, again)).is_err() {
                        return;
                    }
                }
            });
        }
        drop(sender);
        let mut sum = Sum::default();
        for (seed, outcome, again) in outcomes {
            sum.add(seed, &outcome, again.as_ref());
        }
        sum.tell(begun.elapsed().as_secs());
        if let (Some(seed), true) = (sum.failed.iter().min(), options.shrink) {
            let plan = Plan::of_seed(*seed);
            let outcome = run(&plan, Transcript::default());
            smaller(&plan, &outcome);
        }
        sum.failed.is_empty()
    })
}

#[derive(Default)]
struct Sum {
    runs: u64,
    twice: u64,
    faults: u64,
    acked: u64,
    events: u64,
    failed: Vec<u64>,
}

impl Sum {
    fn add(&mut self, seed: u64, outcome: &Outcome, again: Option<&Outcome>) {
        self.runs += 1;
        self.faults += outcome.figures.faults;
        self.acked += outcome.figures.acked;
        self.events += outcome.figures.events;
        if outcome.failure.is_some() {
            println!("{}", said(seed, outcome));
            self.failed.push(seed);
        }
        if let Some(again) = again {
            self.twice += 1;
            if again.digest != outcome.digest {
                println!(
                    "seed {seed}: {:016x}, then {:016x}",
                    outcome.digest, again.digest
                );
                self.failed.push(seed);
            }
        }
    }

    fn tell(&self, seconds: u64) {
        println!(
            "{} seeds ({} twice), {} faults, {} records acked, {} events in {seconds} s: {} failed",
            self.runs,
            self.twice,
            self.faults,
            self.acked,
            self.events,
            self.failed.len()
        );
    }
}
