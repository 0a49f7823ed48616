//! `kafka-cluster`: the cluster's id, its endpoints, and taking a broker out of its list.

use std::fmt::Write as _;

use milena_client::{Client, Error, Target};
use milena_protocol::describe_cluster_response::DescribeClusterBroker;
use milena_protocol::{Str, UnregisterBrokerRequest};

use crate::connect;
use crate::say::{self, out};
use crate::subcommands::{Arg, Command, Parsed, Tool, arg};

const SERVER: Arg = arg(
    "bootstrap-server",
    'b',
    "Brokers to begin with, host:port[,host:port…].",
)
.required()
.one_of(1);
const CONTROLLER: Arg = arg("bootstrap-controller", 'C', "Controllers to begin with.")
    .required()
    .one_of(1);
const OLD_CONFIG: Arg = arg("config", 'c', "Deprecated: as --command-config.").long_only();
const CONFIG: Arg = arg(
    "command-config",
    'c',
    "Properties for the client, by Kafka's names.",
);

pub(crate) const TOOL: Tool = Tool {
    name: "kafka-cluster",
    about: "Shows a cluster's id and endpoints, and unregisters brokers.",
    globals: &[],
    commands: &[
        Command {
            name: "cluster-id",
            help: "Show the cluster's id.",
            args: &[SERVER, CONTROLLER, OLD_CONFIG, CONFIG],
        },
        Command {
            name: "unregister",
            help: "Take a broker that is gone out of the cluster's list.",
            args: &[
                SERVER,
                CONTROLLER,
                OLD_CONFIG,
                CONFIG,
                arg("id", 'i', "The broker's id.").required(),
            ],
        },
        Command {
            name: "list-endpoints",
            help: "List where brokers (or controllers) can be reached.",
            args: &[
                SERVER,
                CONTROLLER,
                OLD_CONFIG,
                CONFIG,
                arg(
                    "include-fenced-brokers",
                    'f',
                    "Brokers that are fenced too.",
                )
                .long_only()
                .switch(),
            ],
        },
    ],
};

pub fn main(args: Vec<String>) -> i32 {
    // As Kafka's tool: help is no success.
    TOOL.main(&args, 1, |parsed| run(parsed).map(|()| 0))
}

fn run(parsed: &Parsed) -> Result<(), String> {
    let properties = connect::of_subcommand(parsed)?;
    if parsed.has("include-fenced-brokers") && parsed.has("bootstrap-controller") {
        return Err(
            "The option --include-fenced-brokers is only supported with --bootstrap-server option"
                .into(),
        );
    }
    let client = connect::admin(&properties).map_err(|error| error.to_string())?;
    let controllers = parsed.has("bootstrap-controller");
    let done = match parsed.command {
        "cluster-id" => crate::progress::run(cluster_id(client)),
        "unregister" => {
            let text = parsed.value("id").unwrap_or_default();
            let id = text.parse().map_err(|_| {
                format!(
                    "kafka-cluster: error: argument --id/-i: could not convert '{text}' to Integer"
                )
            })?;
            crate::progress::run(unregister(client, id))
        }
        _ => {
            let fenced = parsed.has("include-fenced-brokers");
            crate::progress::run(endpoints(client, fenced, controllers))
        }
    };
    done.map_err(|error| say::with_exception(&error))
}

async fn cluster_id(mut client: Client) -> Result<(), Error> {
    let describe = async |client: &mut Client| client.describe_cluster(false).await;
    let cluster = client.retry("describeCluster", describe).await?;
    out(format_args!("Cluster ID: {}\n", cluster.cluster_id));
    Ok(())
}

async fn unregister(mut client: Client, broker_id: i32) -> Result<(), Error> {
    let request = UnregisterBrokerRequest { broker_id };
    let done = client.retry("unregisterBroker", async |client: &mut Client| {
        let connection = client.connection(Target::Controller).await?;
        let answer = connection.call(&request).await?;
        Error::check(answer.error_code, answer.error_message.as_deref())
    });
    match done.await {
        Ok(()) => out(format_args!(
            "Broker {broker_id} is no longer registered.\n"
        )),
        Err(Error::Unsupported { .. }) => {
            out("The target cluster does not support the broker unregistration API.\n");
        }
        Err(error) => return Err(error),
    }
    Ok(())
}

async fn endpoints(mut client: Client, fenced: bool, controllers: bool) -> Result<(), Error> {
    let describe = async |client: &mut Client| client.describe_cluster(fenced).await;
    let cluster = client.retry("listNodes", describe).await?;
    out(table(&cluster.brokers, controllers));
    Ok(())
}

fn table(nodes: &[DescribeClusterBroker], controllers: bool) -> String {
    let hosts = nodes
        .iter()
        .map(|node| node.host.len())
        .max()
        .unwrap_or(100);
    let racks = nodes
        .iter()
        .filter_map(|node| node.rack.as_ref().map(|rack| rack.len()));
    let racks = racks.max().unwrap_or(10);
    let mut text = String::new();
    let mut line = |id: &str, host: &str, port: &str, rack: &str, state: &str, endpoint: &str| {
        let _ = write!(text, "{id:<10} {host:<hosts$} {port:<10} {rack:<racks$} ");
        if !controllers {
            let _ = write!(text, "{state:<10} ");
        }
        let _ = writeln!(text, "{endpoint:<15}");
    };
    line("ID", "HOST", "PORT", "RACK", "STATE", "ENDPOINT_TYPE");
    let endpoint = if controllers { "controller" } else { "broker" };
    for node in nodes {
        let rack = node.rack.as_ref().map_or("null", Str::as_str);
        let state = if node.is_fenced { "fenced" } else { "unfenced" };
        let (id, port) = (node.broker_id.to_string(), node.port.to_string());
        line(&id, &node.host, &port, rack, state, endpoint);
    }
    text
}
