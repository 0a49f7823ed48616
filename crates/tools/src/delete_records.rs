//! `kafka-delete-records`: deletes the records of partitions below an offset.

use std::collections::BTreeMap;

use milena_client::consumer::Place;
use milena_client::{Client, Error, Target};
use milena_protocol::delete_records_request::{DeleteRecordsPartition, DeleteRecordsTopic};
use milena_protocol::{DeleteRecordsRequest, Str};
use serde_json::Value;

use crate::connect;
use crate::options::{HELP, Options, Spec, VERSION, value};
use crate::say::{self, Stop, out};

pub const SPEC: Spec = Spec {
    about: "Deletes the records of partitions below an offset.",
    flags: &[
        HELP,
        VERSION,
        value(
            "bootstrap-server",
            "server(s) to use for bootstrapping",
            "REQUIRED: brokers to begin with, host:port[,host:port…].",
        ),
        value(
            "offset-json-file",
            "Offset json file path",
            "REQUIRED: which records, as JSON: {\"partitions\":[{\"topic\":\"foo\",\"partition\":1,\"offset\":1}],\"version\":1}. Offset -1 stands for the end.",
        ),
        value(
            "command-config",
            "command config property file path",
            "Properties for the client, by Kafka's names.",
        ),
    ],
};

/// Kafka's checks, in its order.
pub fn check(options: &Options) -> Result<(), Stop> {
    say::help_or_version(options)?;
    options
        .require(&["bootstrap-server", "offset-json-file"])
        .map_err(Stop::Usage)
}

/// The offsets in the file's text; a partition that stands there twice is an error.
pub fn parse(text: &str) -> Result<BTreeMap<Place, i64>, String> {
    let root: Value = serde_json::from_str(text)
        .map_err(|error| format!("The input string is not a valid JSON: {error}"))?;
    let version = root.get("version").map_or(Ok(1), |version| {
        let wrong = || format!("Not supported version field value {version}");
        version.as_i64().ok_or_else(wrong)
    })?;
    if version != 1 {
        return Err(format!("Not supported version field value {version}"));
    }
    let partitions = root.get("partitions").ok_or("Missing partitions field")?;
    let partitions = partitions
        .as_array()
        .ok_or("The field partitions is not an array")?;
    let (mut offsets, mut twice) = (BTreeMap::new(), Vec::new());
    for entry in partitions {
        let wrong = |field: &str| format!("{field} is missing or of the wrong type in {entry}");
        let field = |name: &str| entry.get(name).ok_or_else(|| wrong(name));
        let topic = field("topic")?.as_str().ok_or_else(|| wrong("topic"))?;
        let number = field("partition")?.as_i64();
        let partition = number.and_then(|number| i32::try_from(number).ok());
        let partition = partition.ok_or_else(|| wrong("partition"))?;
        let offset = field("offset")?.as_i64().ok_or_else(|| wrong("offset"))?;
        let place = (Str::copy(topic), partition);
        if offsets.insert(place, offset).is_some() {
            twice.push(format!("{topic}-{partition}"));
        }
    }
    twice.sort();
    twice.dedup();
    match twice.is_empty() {
        true => Ok(offsets),
        false => Err(format!(
            "Offset json file contains duplicate topic partitions: {}",
            twice.join(",")
        )),
    }
}

pub fn main(args: Vec<String>) -> i32 {
    say::finish(&SPEC, run(&args))
}

fn run(args: &[String]) -> Result<i32, Stop> {
    let options = SPEC.parse(args)?;
    check(&options)?;
    let mut client = connect::open(&connect::of_flags(&options)?)?;
    let path = options.value("offset-json-file")?.unwrap_or_default();
    let text = std::fs::read_to_string(path).map_err(|error| format!("{path}: {error}"))?;
    let offsets = parse(&text)?;
    out("Executing records delete operation\n");
    let results = crate::progress::run(delete(&mut client, &offsets));
    out("Records delete operation completed:\n");
    for ((topic, partition), result) in results {
        let result = match result {
            Ok(start) => format!("low_watermark: {start}"),
            Err(error) => format!("error: {}", say::with_exception(&error)),
        };
        out(format_args!("partition: {topic}-{partition}\t{result}\n"));
    }
    Ok(0)
}

type Results = BTreeMap<Place, Result<i64, Error>>;

/// Deletes at the leaders; a partition without an answer gets the error of the whole call.
async fn delete(client: &mut Client, offsets: &BTreeMap<Place, i64>) -> Results {
    let mut results = Results::new();
    let done = client.retry("deleteRecords", async |client: &mut Client| {
        try_delete(client, offsets, &mut results).await
    });
    if let Err(error) = done.await {
        for place in offsets.keys() {
            let entry = results.entry(place.clone());
            entry.or_insert_with(|| Err(error.clone()));
        }
    }
    results
}

async fn try_delete(
    client: &mut Client,
    offsets: &BTreeMap<Place, i64>,
    results: &mut Results,
) -> Result<(), Error> {
    let open = offsets
        .iter()
        .filter(|(place, _)| !results.contains_key(*place));
    let open: Vec<(Place, i64)> = open
        .map(|(place, offset)| (place.clone(), *offset))
        .collect();
    let mut topics: Vec<Str> = open.iter().map(|(place, _)| place.0.clone()).collect();
    topics.dedup();
    if topics.is_empty() {
        return Ok(());
    }
    client.metadata_once(Some(&topics), false).await?;
    let mut by_leader: BTreeMap<i32, BTreeMap<Str, Vec<DeleteRecordsPartition>>> = BTreeMap::new();
    let mut later = None;
    for ((topic, partition_index), offset) in open {
        let partitions = client.topic(&topic).map(|topic| &topic.partitions);
        let leader = partitions.and_then(|partitions| partitions.get(&partition_index));
        match leader.filter(|leader| leader.node >= 0) {
            None => {
                let why = format!("{topic}-{partition_index} does not exist or has no leader");
                later = Some(Error::NotKnown(why));
            }
            Some(leader) => {
                let topics = by_leader.entry(leader.node).or_default();
                topics
                    .entry(topic)
                    .or_default()
                    .push(DeleteRecordsPartition {
                        partition_index,
                        offset,
                    });
            }
        }
    }
    for (leader, topics) in by_leader {
        let topics = topics.into_iter();
        let request = DeleteRecordsRequest {
            topics: topics
                .map(|(name, partitions)| DeleteRecordsTopic { name, partitions })
                .collect(),
            timeout_ms: client.config().request_timeout.as_millis() as i32,
        };
        let connection = client.connection(Target::Node(leader)).await?;
        let answer = connection.call(&request).await?;
        for topic in &answer.topics {
            for partition in &topic.partitions {
                let place = (topic.name.detached(), partition.partition_index);
                match Error::check(partition.error_code, None) {
                    Err(error) if error.is_retriable() => later = Some(error),
                    Err(error) => drop(results.insert(place, Err(error))),
                    Ok(()) => drop(results.insert(place, Ok(partition.low_watermark))),
                }
            }
        }
    }
    later.map_or(Ok(()), Err)
}
