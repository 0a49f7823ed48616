//! `cargo xtask history`: a longer run of the test that checks what random clients of a node with faults did and saw
//! (`crates/milena/tests/it/history`).

use std::process::Command;

use crate::files;

const FAULTS: u64 = 40;

pub fn run(arguments: &[String]) -> Result<(), String> {
    let (seed, faults) = options(arguments)?;
    let status = Command::new("cargo")
        .args(["test", "--package", "milena", "--test", "it", "history::"])
        .args(["--", "--nocapture"])
        .env("MILENA_HISTORY_SEED", seed.to_string())
        .env("MILENA_HISTORY_FAULTS", faults.to_string())
        .current_dir(files::root())
        .status();
    match status {
        Ok(status) if status.success() => Ok(()),
        Ok(_) => Err(format!("seed {seed} with {faults} faults failed")),
        Err(error) => Err(format!("cargo: {error}")),
    }
}

/// The seed and the number of faults.
fn options(arguments: &[String]) -> Result<(u64, u64), String> {
    let (mut seed, mut faults) = (1, FAULTS);
    let mut left = arguments.iter();
    while let Some(name) = left.next() {
        let value = left.next().and_then(|value| value.parse().ok());
        let value = value.ok_or_else(|| format!("{name} wants a number"))?;
        match name.as_str() {
            "--seed" => seed = value,
            "--faults" => faults = value,
            _ => {
                return Err(format!(
                    "{name} is not an option; there are --seed and --faults"
                ));
            }
        }
    }
    Ok((seed, faults))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_are_numbers() {
        let of = |text: &str| {
            let words: Vec<String> = text.split_whitespace().map(str::to_owned).collect();
            options(&words)
        };
        assert_eq!(of(""), Ok((1, FAULTS)));
        assert_eq!(of("--faults 3 --seed 9"), Ok((9, 3)));
        assert!(of("--seed").is_err() && of("--seeds 1").is_err());
    }
}
