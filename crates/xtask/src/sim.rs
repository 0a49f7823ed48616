//! `cargo xtask sim`: builds the simulator and runs it (`milena-sim` without arguments tells its options).

use std::process::Command;

use crate::files;

pub fn run(arguments: &[String]) -> Result<(), String> {
    let status = Command::new("cargo")
        .args(["run", "--quiet", "--package", "milena-sim", "--"])
        .args(arguments)
        .current_dir(files::root())
        .status();
    match status {
        Ok(status) if status.success() => Ok(()),
        Ok(status) => Err(format!("milena-sim: {status}")),
        Err(error) => Err(format!("cargo run: {error}")),
    }
}
