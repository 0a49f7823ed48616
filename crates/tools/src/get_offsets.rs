//! `kafka-get-offsets`: the offsets of partitions at a time.

use std::collections::{BTreeMap, BTreeSet};

use milena_client::consumer::Place;
use milena_client::{Client, Error};

use crate::connect;
use crate::filter::{NameFilter, is_internal};
use crate::offsets;
use crate::options::{HELP, Options, Spec, VERSION, switch, value};
use crate::say::{self, Stop, out};

pub const SPEC: Spec = Spec {
    about: "Shows the offsets of partitions: the first, the last, or those at a time.",
    flags: &[
        HELP,
        VERSION,
        value(
            "bootstrap-server",
            "HOST1:PORT1,...,HOST3:PORT3",
            "REQUIRED: brokers to begin with, host:port[,host:port…].",
        ),
        value(
            "topic-partitions",
            "topic1:1,topic2:0-3,topic3,topic4:5-,topic5:-3",
            "Which partitions: a list of TOPIC:PARTITIONS. TOPIC is a regular expression (none: any). PARTITIONS is a number, a range without its end (0-3 is 0,1,2), one that is open at a side (5- or -3), or nothing for all.",
        ),
        value(
            "topic",
            "topic",
            "A topic, or a regular expression; without it, every topic.",
        ),
        value("partitions", "partition ids", "Partitions by number: 0,1,2."),
        value(
            "time",
            "<timestamp> / -1 or latest / -2 or earliest / -3 or max-timestamp / -4 or earliest-local / -5 or latest-tiered / -6 or earliest-pending-upload",
            "Milliseconds since 1970 (no line for a partition without a record as late), or one of the words.",
        )
        .or("latest"),
        value("command-config", "config file", "Properties for the client, by Kafka's names."),
        switch("exclude-internal-topics", "Without Kafka's own topics."),
    ],
};

/// Kafka's checks, in its order.
pub fn check(options: &Options) -> Result<(), Stop> {
    say::help_when_empty(options)?;
    options
        .require(&["bootstrap-server"])
        .map_err(Stop::Usage)?;
    let servers = options.value("bootstrap-server")?.unwrap_or_default();
    if servers.trim().is_empty() {
        let text = "Error while validating the bootstrap address\n";
        return Err(Stop::Usage(text.into()));
    }
    let valid = |part: &str| milena_client::Address::parse(part).is_some();
    if !servers.split(',').all(valid) {
        let text = "Please provide valid host:port like host1:9091,host2:9092\n";
        return Err(Stop::Usage(text.into()));
    }
    Ok(())
}

/// Kafka's names for special times, or milliseconds.
pub fn time(text: &str) -> Result<i64, String> {
    Ok(match text {
        "latest" => offsets::LATEST,
        "earliest" => offsets::EARLIEST,
        "max-timestamp" => offsets::MAX_TIMESTAMP,
        "earliest-local" => offsets::EARLIEST_LOCAL,
        "latest-tiered" => offsets::LATEST_TIERED,
        "earliest-pending-upload" => offsets::EARLIEST_PENDING_UPLOAD,
        text => text.parse().map_err(|_| {
            format!("Malformed time argument {text}. Please use -1 or latest / -2 or earliest / -3 or max-timestamp / -4 or earliest-local / -5 or latest-tiered / -6 or earliest-pending-upload, or a specified long format timestamp")
        })?,
    })
}

/// Which partitions of which topics.
#[derive(Debug)]
pub enum Wanted {
    /// Any of these rules: names, and a range of partitions without its end.
    Rules(Vec<(NameFilter, i32, i32)>),
    /// Names, and partitions (empty: all).
    Set(NameFilter, BTreeSet<i32>),
}

impl Wanted {
    pub fn of(options: &Options) -> Result<Wanted, String> {
        let filter = |name: &str| NameFilter::new(if name.is_empty() { ".*" } else { name });
        if let Some(list) = options.value("topic-partitions")? {
            if options.count_of(&["topic", "partitions"]) > 0 {
                let text = "--topic-partitions cannot be used with --topic or --partitions";
                return Err(text.into());
            }
            let rule = |text: &str| {
                let wrong = || format!("Invalid rule specification: {text}");
                let (name, part) = text.split_once(':').unwrap_or((text, ""));
                let (low, high) = range(part).ok_or_else(wrong)?;
                Ok((filter(name)?, low, high))
            };
            let rules: Result<Vec<_>, String> = list.split(',').map(rule).collect();
            return Ok(Wanted::Rules(rules?));
        }
        let list = options.value("partitions")?.unwrap_or_default();
        let numbers = list.split(',').filter(|_| !list.is_empty());
        let numbers: Result<BTreeSet<i32>, _> = numbers.map(str::parse).collect();
        let numbers = numbers.map_err(|_| {
            format!("--partitions expects a comma separated list of numeric partition ids, but received: {list}")
        })?;
        let names = filter(options.value("topic")?.unwrap_or_default())?;
        Ok(Wanted::Set(names, numbers))
    }

    pub fn takes(&self, topic: &str, partition: i32) -> bool {
        match self {
            Wanted::Rules(rules) => rules
                .iter()
                .any(|(names, low, high)| (*low..*high).contains(&partition) && names.takes(topic)),
            Wanted::Set(names, numbers) => {
                (numbers.is_empty() || numbers.contains(&partition)) && names.takes(topic)
            }
        }
    }
}

/// `5`, `0-3`, `5-`, `-3` or nothing, as a range without its end.
fn range(text: &str) -> Option<(i32, i32)> {
    let number = |text: &str, or: i32| match text {
        "" => Some(or),
        text if text.bytes().all(|b| b.is_ascii_digit()) => text.parse().ok(),
        _ => None,
    };
    match text.split_once('-') {
        Some((low, high)) => Some((number(low, 0)?, number(high, i32::MAX)?)),
        None if text.is_empty() => Some((0, i32::MAX)),
        None => number(text, 0).map(|one| (one, one.saturating_add(1))),
    }
}

pub fn main(args: Vec<String>) -> i32 {
    say::finish(&SPEC, run(&args))
}

fn occurred(what: impl std::fmt::Display) -> Stop {
    Stop::Message(format!("Error occurred: {what}"))
}

fn run(args: &[String]) -> Result<i32, Stop> {
    let options = SPEC.parse(args).map_err(occurred)?;
    check(&options)?;
    let wanted = Wanted::of(&options).map_err(occurred)?;
    let time = time(options.value("time")?.unwrap_or_default()).map_err(occurred)?;
    let mut properties = connect::of_flags(&options)?;
    properties.insert("client.id".into(), "GetOffsetShell".into());
    let internal = !options.has("exclude-internal-topics");
    let client = connect::admin(&properties).map_err(occurred)?;
    let found = crate::progress::run(find(client, &wanted, time, internal));
    let found = found.map_err(|error| occurred(say::with_exception(&error)))?;
    if found.is_empty() {
        let text = "Could not match any topic-partitions with the specified filters";
        return Err(occurred(text));
    }
    let mut lines = BTreeMap::new();
    for ((topic, partition), offset) in found {
        match offset {
            Ok(offset) if offset >= 0 => {
                let line = format!("{topic}:{partition}:{offset}\n");
                lines.insert(format!("{topic}-{partition}"), line);
            }
            Ok(_) => {}
            Err(error) => eprintln!(
                "Skip getting offsets for topic-partition {topic}-{partition} due to error: {}",
                say::with_exception(&error)
            ),
        }
    }
    let lines: String = lines.into_values().collect();
    out(lines);
    Ok(0)
}

async fn find(
    mut client: Client,
    wanted: &Wanted,
    time: i64,
    internal: bool,
) -> Result<offsets::Found, Error> {
    let answer = client.metadata("listTopics", None).await?;
    let mut asked: BTreeMap<Place, i64> = BTreeMap::new();
    for topic in &answer.topics {
        let Some(name) = &topic.name else { continue };
        if !internal && (topic.is_internal || is_internal(name)) {
            continue;
        }
        let indexes = topic.partitions.iter().map(|p| p.partition_index);
        let taken = indexes.filter(|index| wanted.takes(name, *index));
        asked.extend(taken.map(|index| ((name.detached(), index), time)));
    }
    offsets::look_up(&mut client, &asked).await
}
