//! `cargo xtask compat`: writes `KAFKA.md`, what of Kafka is here, from the tables that the server itself runs on.

mod configs;
mod tools;

use std::collections::BTreeMap;

use milena_broker::{ListenerKind, served_apis};
use milena_protocol::ApiKey;

use crate::files;

const FILE: &str = "KAFKA.md";
const OPENING: &str = "\
# What of Apache Kafka 4.4.0 is here

Written by `cargo xtask compat` from the code's own tables; a test compares it with them. Don't edit it.
What is not here is refused or not advertised, never answered with a success that did not happen.
";

pub fn run(_: &[String]) -> Result<(), String> {
    files::write(FILE, &generate()?)
}

fn generate() -> Result<String, String> {
    let parts = [
        OPENING.to_owned(),
        apis(),
        tools::section(),
        configs::section(&files::all()?),
    ];
    Ok(parts.join("\n"))
}

/// A table in Markdown.
fn table(head: &[&str], rows: &[Vec<String>]) -> String {
    let rule = vec!["---"; head.len()].join("|");
    let mut text = format!("| {} |\n|{rule}|\n", head.join(" | "));
    for row in rows {
        text += &format!("| {} |\n", row.join(" | "));
    }
    text
}

fn apis() -> String {
    let versions = |kind| -> BTreeMap<ApiKey, (i16, i16)> {
        let served = served_apis(kind).into_iter();
        served.map(|(api, min, max)| (api, (min, max))).collect()
    };
    let brokers = versions(ListenerKind::Broker);
    let controllers = versions(ListenerKind::Controller);
    let rows: Vec<Vec<String>> = ApiKey::ALL
        .iter()
        .map(|api| {
            let kafka = (api.min_version(), api.max_version());
            let on = api.listeners();
            vec![
                api.code().to_string(),
                api.name().to_owned(),
                range(kafka),
                here(brokers.get(api), on.broker),
                here(controllers.get(api), on.controller),
            ]
        })
        .collect();
    let served = |api: &&ApiKey| brokers.contains_key(api) || controllers.contains_key(api);
    let count = ApiKey::ALL.iter().filter(served).count();
    let head = [
        "Key",
        "API",
        "Kafka 4.4.0",
        "Broker listeners",
        "Controller listeners",
    ];
    format!(
        "## APIs\n\n{count} of {}. Versions here, for each kind of listener; – where Kafka does not serve it either. \
         ApiVersions says Produce 0–13, as Kafka's does; 0–2 are refused when sent.\n\n{}",
        ApiKey::ALL.len(),
        table(&head, &rows)
    )
}

fn range((min, max): (i16, i16)) -> String {
    match max < min {
        true => "unstable only".into(),
        false if min == max => min.to_string(),
        false => format!("{min}–{max}"),
    }
}

fn here(served: Option<&(i16, i16)>, in_kafka: bool) -> String {
    match (served, in_kafka) {
        (Some(versions), _) => range(*versions),
        (None, true) => "no".into(),
        (None, false) => "–".into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_file_says_what_the_code_says() {
        let file = files::read(FILE).unwrap();
        let generated = generate().unwrap();
        let mut lines = file.lines().zip(generated.lines());
        let first = lines.find(|(file, code)| file != code);
        assert_eq!(first, None, "run cargo xtask compat");
        assert!(file == generated, "run cargo xtask compat");
    }

    #[test]
    fn a_missing_api_is_said() {
        assert_eq!(here(None, true), "no");
        assert_eq!(here(None, false), "–");
        assert_eq!(here(Some(&(0, 3)), true), "0–3");
        assert_eq!(range((1, 1)), "1");
    }
}
