//! `kafka-log-dirs`: what is in the log directories of brokers, as JSON.

use std::collections::{BTreeMap, BTreeSet};

use milena_base::ErrorCode;
use milena_client::{Client, Error, Target};
use milena_protocol::DescribeLogDirsRequest;
use milena_protocol::describe_log_dirs_response::DescribeLogDirsResult;
use serde_json::Value;

use crate::connect;
use crate::exceptions::exception;
use crate::options::{HELP, Options, Spec, VERSION, switch, value};
use crate::say::{self, Stop, out};

pub const SPEC: Spec = Spec {
    about: "Shows the log directories of brokers and what each partition takes there.",
    flags: &[
        HELP,
        VERSION,
        value(
            "bootstrap-server",
            "The server(s) to use for bootstrapping",
            "REQUIRED: brokers to begin with, host:port[,host:port…].",
        ),
        value(
            "command-config",
            "Admin client property file",
            "Properties for the client, by Kafka's names.",
        ),
        switch("describe", "REQUIRED: show the directories."),
        value("topic-list", "Topic list", "Only these topics: a,b,c.").or(""),
        value("broker-list", "Broker list", "Only these brokers: 0,1,2.").or(""),
    ],
};

/// Kafka's checks, in its order.
pub fn check(options: &Options) -> Result<(), Stop> {
    say::help_or_version(options)?;
    options
        .require(&["bootstrap-server", "describe"])
        .map_err(Stop::Usage)
}

pub fn main(args: Vec<String>) -> i32 {
    say::finish(&SPEC, run(&args))
}

fn run(args: &[String]) -> Result<i32, Stop> {
    let options = SPEC.parse(args)?;
    check(&options)?;
    let list = |name: &str| -> Result<BTreeSet<String>, String> {
        let parts = options.value(name)?.unwrap_or_default().split(',');
        Ok(parts
            .filter(|part| !part.is_empty())
            .map(str::to_owned)
            .collect())
    };
    let topics = list("topic-list")?;
    let id = |text: &String| {
        let wrong = |_| format!("For input string: \"{text}\" (--broker-list takes numbers)");
        text.parse::<i32>().map_err(wrong)
    };
    let brokers = list("broker-list")?
        .iter()
        .map(id)
        .collect::<Result<_, _>>()?;
    let mut properties = connect::of_flags(&options)?;
    let id = properties.entry("client.id".into());
    id.or_insert_with(|| "log-dirs-tool".into());
    let client = connect::open(&properties)?;
    crate::progress::run(describe(client, brokers, &topics))?;
    Ok(0)
}

fn joined(ids: &BTreeSet<i32>) -> String {
    let ids: Vec<String> = ids.iter().map(i32::to_string).collect();
    ids.join(",")
}

async fn describe(
    mut client: Client,
    asked: BTreeSet<i32>,
    topics: &BTreeSet<String>,
) -> Result<(), String> {
    let shown = |error: Error| say::with_exception(&error);
    let cluster = client
        .retry("listNodes", async |client: &mut Client| {
            client.describe_cluster(false).await
        })
        .await
        .map_err(shown)?;
    let known: BTreeSet<i32> = cluster
        .brokers
        .iter()
        .map(|broker| broker.broker_id)
        .collect();
    let missing: BTreeSet<i32> = asked.difference(&known).copied().collect();
    if !missing.is_empty() {
        return Err(format!(
            "ERROR: The given brokers do not exist from --broker-list: {}. Current existent brokers: {}",
            joined(&missing),
            joined(&known)
        ));
    }
    let asked = if asked.is_empty() { known } else { asked };
    out("Querying brokers for log directories information\n");
    let mut found = BTreeMap::new();
    let request = DescribeLogDirsRequest { topics: None };
    for broker in &asked {
        let call = client.retry("describeLogDirs", async |client: &mut Client| {
            let connection = client.connection(Target::Node(*broker)).await?;
            let answer = connection.call(&request).await?;
            Error::check(answer.error_code, None)?;
            Ok(answer.results)
        });
        found.insert(*broker, call.await.map_err(shown)?);
    }
    out(format_args!(
        "Received log directory information from brokers {}\n{}\n",
        joined(&asked),
        json(&found, topics)
    ));
    Ok(())
}

/// Kafka's JSON, its keys in Kafka's order; only these topics (empty: all).
pub fn json(
    found: &BTreeMap<i32, Vec<DescribeLogDirsResult>>,
    topics: &BTreeSet<String>,
) -> String {
    let brokers: Vec<String> = found
        .iter()
        .map(|(broker, dirs)| {
            let dirs: Vec<String> = dirs.iter().map(|dir| directory(dir, topics)).collect();
            format!("{{\"broker\":{broker},\"logDirs\":[{}]}}", dirs.join(","))
        })
        .collect();
    format!("{{\"brokers\":[{}],\"version\":1}}", brokers.join(","))
}

fn directory(dir: &DescribeLogDirsResult, topics: &BTreeSet<String>) -> String {
    let mut partitions = BTreeMap::new();
    for topic in &dir.topics {
        if !topics.is_empty() && !topics.contains(topic.name.as_str()) {
            continue;
        }
        for partition in &topic.partitions {
            let name = format!("{}-{}", topic.name, partition.partition_index);
            let text = format!(
                "{{\"partition\":{},\"size\":{},\"offsetLag\":{},\"isFuture\":{}}}",
                Value::from(name),
                partition.partition_size,
                partition.offset_lag,
                partition.is_future_key
            );
            partitions.insert(
                (
                    &topic.name,
                    partition.partition_index,
                    partition.is_future_key,
                ),
                text,
            );
        }
    }
    let partitions: Vec<String> = partitions.into_values().collect();
    let error = match ErrorCode::from_code(dir.error_code) {
        Some(ErrorCode::None) => Value::Null,
        code => Value::from(exception(code.unwrap_or(ErrorCode::UnknownServerError))),
    };
    format!(
        "{{\"partitions\":[{}],\"error\":{error},\"logDir\":{}}}",
        partitions.join(","),
        Value::from(dir.log_dir.as_str())
    )
}
