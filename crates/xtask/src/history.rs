//! `cargo xtask history`: a longer run of the test that checks what random clients of a node with faults did and saw
//! (`crates/milena/tests/it/history`).

use std::process::Command;

use crate::files;

const FAULTS: u64 = 40;

pub fn run(arguments: &[String]) -> Result<(), String> {
    let [seed, faults, nodes] = options(arguments)?;
    let status = Command::new("cargo")
        .args(["test", "--package", "milena", "--test", "it", "history::"])
        .args(["--", "--nocapture"])
        .env("MILENA_HISTORY_SEED", seed.to_string())
        .env("MILENA_HISTORY_FAULTS", faults.to_string())
        .env("MILENA_HISTORY_NODES", nodes.to_string())
        .current_dir(files::root())
        .status();
    match status {
        Ok(status) if status.success() => Ok(()),
        Ok(_) => Err(format!(
            "seed {seed} with {faults} faults of {nodes} nodes failed"
        )),
        Err(error) => Err(format!("cargo: {error}")),
    }
}

/// The seed, and the numbers of faults and of nodes.
fn options(arguments: &[String]) -> Result<[u64; 3], String> {
    let mut values = [1, FAULTS, 1];
    let mut left = arguments.iter();
    while let Some(name) = left.next() {
        let names = ["--seed", "--faults", "--nodes"];
        let at = names.iter().position(|known| known == name);
        let at = at.ok_or_else(|| format!("{name} is none of {}", names.join(", ")))?;
        let value = left.next().and_then(|value| value.parse().ok());
        values[at] = value.ok_or_else(|| format!("{name} wants a number"))?;
    }
    match values[2] {
        1 | 3 => Ok(values),
        _ => Err("--nodes may be 1 or 3".into()),
    }
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
        assert_eq!(of(""), Ok([1, FAULTS, 1]));
        assert_eq!(of("--faults 3 --seed 9 --nodes 3"), Ok([9, 3, 3]));
        assert!(of("--seed").is_err() && of("--seeds 1").is_err() && of("--nodes 2").is_err());
    }
}
