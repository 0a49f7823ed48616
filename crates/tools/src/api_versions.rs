//! `kafka-broker-api-versions`: which versions of which API every broker serves, and which of them we would use.

use std::fmt::Write as _;

use milena_client::{Client, Connection, Error, Node, Target};
use milena_protocol::ApiKey;

use crate::connect;
use crate::options::{COMMAND_CONFIG, HELP, Spec, VERSION, value};
use crate::say::{self, Stop, out};

pub const SPEC: Spec = Spec {
    about: "Shows the versions of the APIs that each broker serves.",
    flags: &[
        HELP,
        VERSION,
        COMMAND_CONFIG,
        value(
            "bootstrap-server",
            "server(s) to use for bootstrapping",
            "REQUIRED: brokers to begin with, host:port[,host:port…].",
        ),
    ],
};

pub fn main(args: Vec<String>) -> i32 {
    say::finish(&SPEC, run(&args))
}

fn run(args: &[String]) -> Result<i32, Stop> {
    let options = SPEC.parse(args).map_err(Stop::Usage)?;
    say::help_when_empty(&options)?;
    options
        .require(&["bootstrap-server"])
        .map_err(Stop::Usage)?;
    let mut properties = match options.value("command-config")? {
        Some(path) => connect::load(path)?,
        None => connect::Properties::new(),
    };
    let servers = options.value("bootstrap-server")?.unwrap_or_default();
    properties.insert("bootstrap.servers".into(), servers.into());
    let done = connect::admin(&properties).and_then(|client| crate::progress::run(show(client)));
    match done {
        Ok(()) => Ok(0),
        Err(error) => Err(Stop::Message(say::with_exception(&error))),
    }
}

async fn show(mut client: Client) -> Result<(), Error> {
    client.metadata("findAllBrokers", Some(&[])).await?;
    let nodes: Vec<Node> = client.nodes().values().cloned().collect();
    for node in nodes {
        let connected = client.connection(Target::Node(node.id)).await;
        let (host, port, id) = (&node.address.host, node.address.port, node.id);
        let rack = node.rack.as_ref().map_or("null", |rack| rack.as_str());
        let versions = match connected {
            Ok(connection) => table(&connection),
            Err(error) => format!("ERROR: {error}"),
        };
        out(format_args!(
            "{host}:{port} (id: {id} rack: {rack} isFenced: false) -> {versions}\n"
        ));
    }
    Ok(())
}

fn table(connection: &Connection) -> String {
    let served = &connection.api_versions().api_keys;
    let mut rows: Vec<(i16, String)> = Vec::new();
    for api in served {
        let (min, max) = (api.min_version, api.max_version);
        rows.push((api.api_key, row(api.api_key, min, max)));
    }
    let missing = ApiKey::ALL.iter().filter(|key| {
        key.listeners().broker && !served.iter().any(|api| api.api_key == key.code())
    });
    rows.extend(missing.map(|key| (key.code(), format!("{key}({}): UNSUPPORTED", key.code()))));
    rows.sort();
    let rows: Vec<String> = rows.into_iter().map(|(_, text)| text).collect();
    format!("(\n\t{}\n)", rows.join(",\n\t"))
}

fn row(code: i16, min: i16, max: i16) -> String {
    let mut text = match ApiKey::from_code(code) {
        Some(key) => format!("{key}({code}): "),
        None => format!("UNKNOWN({code}): "),
    };
    let _ = match min == max {
        true => write!(text, "{min}"),
        false => write!(text, "{min} to {max}"),
    };
    if let Some(key) = ApiKey::from_code(code) {
        let usable = max.min(key.max_version());
        let _ = if min > key.max_version() {
            write!(text, " [unusable: node too new]")
        } else if max < key.min_version() {
            write!(text, " [unusable: node too old]")
        } else {
            write!(text, " [usable: {usable}]")
        };
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_say_what_is_usable() {
        assert_eq!(row(0, 0, 13), "Produce(0): 0 to 13 [usable: 13]");
        assert_eq!(
            row(0, 14, 15),
            "Produce(0): 14 to 15 [unusable: node too new]"
        );
        assert_eq!(row(1, 0, 2), "Fetch(1): 0 to 2 [unusable: node too old]");
        assert_eq!(
            row(46, 0, 0),
            "ListPartitionReassignments(46): 0 [usable: 0]"
        );
        assert_eq!(row(9999, 0, 1), "UNKNOWN(9999): 0 to 1");
    }
}
