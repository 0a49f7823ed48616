//! `kafka-leader-election`: elects preferred leaders, or unclean ones where there is no other.

use std::collections::BTreeSet;

use milena_base::ErrorCode;
use milena_client::{Client, Error, Target};
use milena_protocol::elect_leaders_request::TopicPartitions;
use milena_protocol::elect_leaders_response::PartitionResult;
use milena_protocol::{ElectLeadersRequest, ElectLeadersResponse, Str};

use crate::connect;
use crate::exceptions::exception;
use crate::options::{HELP, Options, Spec, VERSION, switch, value};
use crate::say::{self, Stop, out};

const LOGGER_TIMEOUT: &str = "Timeout waiting for election results";
const FAILED: &str = "org.apache.kafka.tools.AdminCommandFailedException";

pub const SPEC: Spec = Spec {
    about: "Elects leaders of partitions: preferred replicas, or unclean ones where a partition has no leader.",
    flags: &[
        HELP,
        VERSION,
        value(
            "bootstrap-server",
            "host:port",
            "REQUIRED: brokers to begin with, host:port[,host:port…].",
        ),
        value(
            "admin.config",
            "config file",
            "The old name of --command-config.",
        ),
        value(
            "command-config",
            "Config file",
            "Properties for the client, by Kafka's names.",
        ),
        value(
            "path-to-json-file",
            "Path to JSON file",
            "A file that names partitions: {\"partitions\":[{\"topic\":\"t\",\"partition\":0}]}. Not with --topic or --all-topic-partitions.",
        ),
        value("topic", "topic name", "The topic of one partition."),
        value(
            "partition",
            "partition id",
            "The partition of --topic, which needs it.",
        ),
        switch(
            "all-topic-partitions",
            "All partitions that may need an election.",
        ),
        value(
            "election-type",
            "election type",
            "REQUIRED: preferred, for the first of the replicas if it is in sync; unclean, for any replica of a partition without a leader, even if records are lost.",
        ),
    ],
};

pub fn main(args: Vec<String>) -> i32 {
    say::finish(&SPEC, run(&args))
}

/// Which flags go together.
pub fn check(options: &Options) -> Result<(), Stop> {
    if options.has("help") || options.is_empty() {
        return Err(Stop::Usage(SPEC.about.to_owned()));
    }
    say::help_or_version(options)?;
    let missing = |names: &[&str]| -> Result<(), Stop> {
        let missing: Vec<String> = names
            .iter()
            .filter(|name| !options.has(name))
            .map(|name| format!("[{name}]"))
            .collect();
        match missing.is_empty() {
            true => Ok(()),
            false => Err(failure(format!(
                "Missing required option(s): {}",
                missing.join(", ")
            ))),
        }
    };
    election_type(options)?;
    missing(&["election-type", "bootstrap-server"])?;
    let ways = ["topic", "all-topic-partitions", "path-to-json-file"];
    if options.count_of(&ways) != 1 {
        return Err(failure(
            "One and only one of the following options is required: [topic], [all-topic-partitions], [path-to-json-file]"
                .into(),
        ));
    }
    match (options.has("topic"), options.has("partition")) {
        (true, false) => missing(&["partition"]),
        (false, true) => Err(failure(
            "Option [partition] is only allowed if [topic] is used".into(),
        )),
        _ => Ok(()),
    }
}

fn failure(text: String) -> Stop {
    Stop::Message(format!("{text}\n{FAILED}: {text}"))
}

/// Its number, and how Kafka names it.
fn election_type(options: &Options) -> Result<(i8, &'static str), Stop> {
    let text = options.value("election-type")?.unwrap_or("preferred");
    match text.to_uppercase().as_str() {
        "PREFERRED" => Ok((0, "PREFERRED")),
        "UNCLEAN" => Ok((1, "UNCLEAN")),
        _ => Err(Stop::Message(format!(
            "Cannot parse argument '{text}' of option election-type\njoptsimple.OptionArgumentConversionException: Cannot parse argument '{text}' of option election-type\nCaused by: joptsimple.ValueConversionException: Value [{text}] is not one of [[PREFERRED,UNCLEAN]]"
        ))),
    }
}

fn run(args: &[String]) -> Result<i32, Stop> {
    let options = SPEC.parse(args)?;
    check(&options)?;
    let (number, name) = election_type(&options)?;
    let partitions = partitions(&options)?;
    let config = match options.has("admin.config") {
        true => {
            let text = "Option --admin.config has been deprecated and will be removed in a future version. Use --command-config instead.";
            out(format_args!("{text}\n"));
            options.value("admin.config")?
        }
        false => options.value("command-config")?,
    };
    let mut properties = match config {
        Some(path) => connect::load(path)?,
        None => connect::Properties::new(),
    };
    let servers = options.value("bootstrap-server")?.unwrap_or_default();
    properties.insert("bootstrap.servers".into(), servers.into());
    let client = connect::admin(&properties).map_err(|error| error.to_string())?;
    let answer = crate::progress::run(elect(client, number, partitions.as_ref()));
    let answer = answer.map_err(|error| said(&error))?;
    report(&answer, name)
}

fn said(error: &Error) -> Stop {
    let text = match error.code() {
        Some(ErrorCode::ClusterAuthorizationFailed) => "Not authorized to perform leader election",
        _ if matches!(error, Error::TimedOut { .. } | Error::NoAnswer { .. }) => LOGGER_TIMEOUT,
        _ => "Error while making request",
    };
    Stop::Message(format!(
        "{text}\n{FAILED}: {text}\nCaused by: {}",
        say::with_exception(error)
    ))
}

/// Topic and partition.
type Named = BTreeSet<(String, i32)>;

/// What is to be elected; `None`: everything.
fn partitions(options: &Options) -> Result<Option<Named>, Stop> {
    if let Some(topic) = options.value("topic")? {
        let partition = options.number("partition")?.unwrap_or(0);
        return Ok(Some([(topic.to_owned(), partition)].into()));
    }
    let Some(path) = options.value("path-to-json-file")? else {
        return Ok(None);
    };
    let text = std::fs::read_to_string(path).map_err(|error| format!("{path}: {error}"))?;
    Ok(Some(parse(&text)?))
}

/// The file's partitions.
fn parse(text: &str) -> Result<Named, String> {
    let json: serde_json::Value = serde_json::from_str(text)
        .map_err(|error| format!("Replica election data is empty: {error}"))?;
    let partitions = json.get("partitions");
    let partitions = partitions.ok_or("Replica election data is missing \"partitions\" field")?;
    let rows = partitions.as_array().ok_or("partitions is not a list")?;
    let (mut named, mut twice) = (Named::new(), Vec::new());
    for row in rows {
        let topic = row.get("topic").and_then(|t| t.as_str());
        let partition = row.get("partition").and_then(serde_json::Value::as_i64);
        let (Some(topic), Some(partition)) = (topic, partition) else {
            return Err(format!("topic and partition are missing in {row}"));
        };
        if !named.insert((topic.to_owned(), partition as i32)) {
            twice.push(format!("{topic}-{partition}"));
        }
    }
    match twice.is_empty() {
        true => Ok(named),
        false => Err(format!(
            "Replica election data contains duplicate partitions: {}",
            twice.join(",")
        )),
    }
}

async fn elect(
    mut client: Client,
    election_type: i8,
    partitions: Option<&Named>,
) -> Result<ElectLeadersResponse, Error> {
    let topic_partitions = partitions.map(|named| {
        let mut topics: Vec<TopicPartitions> = Vec::new();
        for (topic, partition) in named {
            match topics.last_mut().filter(|t| t.topic.as_str() == topic) {
                Some(last) => last.partitions.push(*partition),
                None => topics.push(TopicPartitions {
                    topic: Str::copy(topic),
                    partitions: vec![*partition],
                }),
            }
        }
        topics
    });
    let request = ElectLeadersRequest {
        election_type,
        topic_partitions,
        timeout_ms: client.config().request_timeout.as_millis() as i32,
    };
    client
        .retry("electLeaders", async |client: &mut Client| {
            let connection = client.connection(Target::Controller).await?;
            let answer = connection.call(&request).await?;
            Error::check(answer.error_code, None)?;
            Ok(answer)
        })
        .await
}

fn report(answer: &ElectLeadersResponse, name: &str) -> Result<i32, Stop> {
    let not_needed = ErrorCode::ElectionNotNeeded.code();
    let (mut elected, mut valid, mut failed) = (Vec::new(), Vec::new(), Vec::new());
    for topic in &answer.replica_election_results {
        for result in &topic.partition_result {
            let partition = format!("{}-{}", topic.topic, result.partition_id);
            match result.error_code {
                0 => elected.push(partition),
                code if code == not_needed => valid.push(partition),
                _ => failed.push((partition, why(result))),
            }
        }
    }
    if !elected.is_empty() {
        let all = elected.join(", ");
        out(format_args!(
            "Successfully completed leader election ({name}) for partitions {all}\n"
        ));
    }
    if !valid.is_empty() {
        let all = valid.join(", ");
        out(format_args!(
            "Valid replica already elected for partitions {all}\n"
        ));
    }
    if failed.is_empty() {
        return Ok(0);
    }
    for (partition, why) in &failed {
        out(format_args!(
            "Error completing leader election ({name}) for partition: {partition}: {why}\n"
        ));
    }
    let text = format!("{} replica(s) could not be elected", failed.len());
    let suppressed = failed
        .iter()
        .map(|(_, why)| format!("\n\tSuppressed: {why}"));
    Err(Stop::Message(format!(
        "{text}\n{FAILED}: {text}{}",
        suppressed.collect::<String>()
    )))
}

fn why(result: &PartitionResult) -> String {
    let code = ErrorCode::from_code(result.error_code).unwrap_or(ErrorCode::UnknownServerError);
    match &result.error_message {
        Some(text) => format!("{}: {text}", exception(code)),
        None => exception(code),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_name_partitions() {
        let text = r#"{"partitions":[{"topic":"a","partition":1},{"topic":"a","partition":0}]}"#;
        let named: Vec<_> = parse(text).unwrap().into_iter().collect();
        assert_eq!(named, [("a".to_owned(), 0), ("a".to_owned(), 1)]);
        let twice = r#"{"partitions":[{"topic":"a","partition":1},{"topic":"a","partition":1}]}"#;
        let text = "Replica election data contains duplicate partitions: a-1";
        assert_eq!(parse(twice).unwrap_err(), text);
        let text = "Replica election data is missing \"partitions\" field";
        assert_eq!(parse("{}").unwrap_err(), text);
    }
}
