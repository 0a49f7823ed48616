//! `cargo xtask faults`: three nodes on this machine under faults from a seed. The run itself is a test of the crate
//! `milena` that is too long to run with the others.

use std::process::Command;

const TEST: &str = "replication::faults::many_faults";
/// Options and what the test reads them from.
const OPTIONS: [(&str, &str); 3] = [
    ("--seed", "MILENA_FAULTS_SEED"),
    ("--faults", "MILENA_FAULTS"),
    ("--records", "MILENA_FAULTS_RECORDS"),
];

pub fn run(arguments: &[String]) -> Result<(), String> {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut command = Command::new(cargo);
    command.args([
        "test",
        "--quiet",
        "--package",
        "milena",
        "--test",
        "it",
        "--",
    ]);
    command.args(["--ignored", "--exact", "--nocapture", TEST]);
    let mut words = arguments.iter();
    while let Some(word) = words.next() {
        let known = OPTIONS.iter().find(|(flag, _)| flag == word);
        let value = words.next().filter(|text| text.parse::<u64>().is_ok());
        let (Some((_, variable)), Some(value)) = (known, value) else {
            return Err(format!(
                "{word}: it takes --seed N, --faults N and --records N"
            ));
        };
        command.env(variable, value);
    }
    let status = command.status().map_err(|e| format!("cargo test: {e}"))?;
    match status.success() {
        true => Ok(()),
        false => Err("records were lost, doubled or stuck: see above".to_owned()),
    }
}
