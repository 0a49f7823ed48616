//! `cargo xtask bench`: Milena beside Apache Kafka under the same load, by `bench/compare`; and what its parts cost, by
//! criterion.

use std::process::Command;

use crate::files;

/// Programs that `bench/compare` runs.
const NEEDED: &[(&str, &str)] = &[
    ("python3", "--version"),
    ("go", "version"),
    ("java", "-version"),
    ("mvn", "-v"),
];

pub fn run(arguments: &[String]) -> Result<(), String> {
    match arguments.split_first() {
        Some((first, rest)) if first == "--micro" => micro(rest),
        Some((first, rest)) if first == "--soak" => beside("bench/soak", rest),
        _ => compare(arguments),
    }
}

/// The benchmarks of `microbench`; `arguments` are criterion's.
fn micro(arguments: &[String]) -> Result<(), String> {
    let status = Command::new("cargo")
        .args(["bench", "--package", "milena-microbench", "--"])
        .args(arguments)
        .current_dir(files::root())
        .status();
    succeeded("cargo bench", status)
}

fn compare(arguments: &[String]) -> Result<(), String> {
    if let Some((program, _)) = NEEDED
        .iter()
        .find(|(program, flag)| !answers(program, flag))
    {
        return Err(format!("bench needs {program} on the path"));
    }
    beside("bench/compare", arguments)
}

/// Runs a script on the binary as users build it.
fn beside(script: &str, arguments: &[String]) -> Result<(), String> {
    let root = files::root();
    let built = Command::new("cargo")
        .args(["build", "--release", "--package", "milena"])
        .current_dir(&root)
        .status();
    succeeded("cargo build --release", built)?;
    let target = std::env::var_os("CARGO_TARGET_DIR").unwrap_or_else(|| root.join("target").into());
    let status = Command::new(root.join(script))
        .args(arguments)
        .env("MILENA_BIN", root.join(target).join("release/milena"))
        .current_dir(&root)
        .status();
    succeeded(script, status)
}

fn answers(program: &str, flag: &str) -> bool {
    let output = Command::new(program).arg(flag).output();
    output.is_ok_and(|output| output.status.success())
}

fn succeeded(what: &str, status: std::io::Result<std::process::ExitStatus>) -> Result<(), String> {
    match status {
        Ok(status) if status.success() => Ok(()),
        Ok(status) => Err(format!("{what}: {status}")),
        Err(error) => Err(format!("{what}: {error}")),
    }
}
