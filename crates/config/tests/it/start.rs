use milena_config::{NodeConfig, Properties};

use milena_testkit::check;

/// What a start with these properties says: problems, or warnings and what was understood.
fn outcome(input: &str) -> String {
    let pairs = input
        .split_whitespace()
        .map(|pair| pair.split_once('=').unwrap());
    let properties: Properties = pairs.collect();
    match NodeConfig::from_properties(&properties) {
        Err(error) => error.to_string(),
        Ok((config, warnings)) => {
            let mut out = String::from("starts\n");
            for warning in warnings {
                out += &format!("warning: {warning}\n");
            }
            let list = |all: Vec<_>| {
                all.iter()
                    .map(ToString::to_string)
                    .collect::<Vec<String>>()
                    .join(" ")
            };
            out += &format!("node {:?} {}\n", config.roles(), config.node_id().0);
            out += &format!("clients: {}\n", list(config.advertised_broker_listeners()));
            out += &format!(
                "controllers: {}\n",
                list(config.advertised_controller_listeners())
            );
            out += &format!("between brokers: {}\n", config.inter_broker_listener());
            out += &format!(
                "logs: {:?}, metadata {:?}\n",
                config.log_dirs(),
                config.metadata_log_dir()
            );
            out
        }
    }
}

#[test]
fn starts_and_refusals() {
    check("start.txt", outcome);
}
