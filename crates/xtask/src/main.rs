//! `cargo xtask`: what a developer and CI run beside `cargo`. It decides nothing about Kafka; it drives programs
//! and compares what they say. Start at the table in [`main`].
#![forbid(unsafe_code)]

mod arrows;
mod bench;
mod compat;
mod faults;
mod files;
mod history;
mod interop;
mod sim;
mod tidy;

use std::process::ExitCode;

/// A task and the rest of the command line.
type Task = fn(&[String]) -> Result<(), String>;

const TASKS: &[(&str, &str, Task)] = &[
    (
        "tidy",
        "[--update]  the rules of style that a machine can keep; --update writes the list of exceptions anew",
        tidy::run,
    ),
    (
        "arrows",
        "no crate depends on one of its own row or above",
        arrows::run,
    ),
    (
        "compat",
        "writes KAFKA.md: which APIs, tools and keys of Kafka are here",
        compat::run,
    ),
    (
        "bench",
        "[OPTION…] [PHASE…]  Milena beside Apache Kafka under the same load (bench/compare --help); --micro [FILTER]  what its parts cost; --soak  whether anything drifts",
        bench::run,
    ),
    (
        "faults",
        "[--seed N] [--faults N] [--records N]  three nodes killed, stopped, paused and cut off at random under writers and a reader",
        faults::run,
    ),
    (
        "sim",
        "--seed N | --seeds A..B [--twice K] [--shrink]  whole nodes in one thread, under seeded faults",
        sim::run,
    ),
    (
        "interop",
        "[PART…]  compare with Apache Kafka itself, all parts or the named ones",
        interop::run,
    ),
    (
        "replace",
        "[--kafka RELEASE] [--rate N] [--between N]  interop's part `cluster` as large as wanted: N records a second, N between replacements",
        interop::replace::command,
    ),
    (
        "history",
        "[--seed N] [--faults N] [--nodes 1|3]  random clients of nodes that are killed, and a check of all that they did and saw",
        history::run,
    ),
];

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let found = arguments
        .first()
        .and_then(|name| TASKS.iter().find(|(task, ..)| task == name));
    let Some((name, _, task)) = found else {
        for (name, help, _) in TASKS {
            eprintln!("cargo xtask {name} {help}");
        }
        return ExitCode::from(2);
    };
    match task(&arguments[1..]) {
        Ok(()) => ExitCode::SUCCESS,
        Err(why) => {
            eprintln!("xtask {name}: {why}");
            ExitCode::FAILURE
        }
    }
}
