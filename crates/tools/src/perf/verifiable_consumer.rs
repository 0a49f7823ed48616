//! `kafka-verifiable-consumer`: reads in a group and says, in JSON, what was assigned, read and committed.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use milena_client::consumer::{ConsumerConfig, ConsumerRecord, Place, Subscription};
use milena_client::{Client, ClientConfig, Consumer, Error};
use milena_protocol::Str;
use tokio::signal::unix::{SignalKind, signal};
use tokio::time::Instant;

use super::{flat, json, stop};
use crate::connect;
use crate::say::{self, Stop, out};
use crate::subcommands::{Arg, Command, Parsed, Tool, arg};

/// Kafka's `max.poll.records`.
const BATCH_RECORDS_MAX: usize = 500;
const RANGE: &str = "org.apache.kafka.clients.consumer.RangeAssignor";

const fn flag(name: &'static str, help: &'static str) -> Arg {
    arg(name, ' ', help).long_only()
}

pub const TOOL: Tool = Tool {
    name: "verifiable-consumer",
    about: "Reads a topic in a group and says of each step, as a line of JSON, what happened.",
    globals: &[],
    commands: &[Command {
        name: "run",
        help: "Reads a topic in a group and says of each step, as a line of JSON, what happened.",
        args: &[
            flag(
                "bootstrap-server",
                "Brokers to begin with, host:port[,host:port…].",
            )
            .required(),
            flag("topic", "What to read.").required(),
            flag("group-protocol", "classic; consumer is not built yet."),
            flag("group-remote-assignor", "Of the protocol consumer alone."),
            flag("group-id", "The group.").required(),
            flag(
                "group-instance-id",
                "A name of this member that outlives it.",
            ),
            flag("max-messages", "How many; -1: until it is stopped."),
            flag(
                "session-timeout",
                "Milliseconds without a sign of life until the group goes on without it.",
            ),
            flag("verbose", "A line for each record too.").switch(),
            flag("enable-autocommit", "Commit by time, not after each batch.").switch(),
            flag(
                "reset-policy",
                "earliest (as without it), latest or none: where to begin without an offset.",
            ),
            flag(
                "assignment-strategy",
                "An assignor's class; range without it.",
            ),
            flag("consumer.config", "Deprecated: as --command-config."),
            flag("command-config", "A file of properties for the consumer."),
        ],
    }],
};

pub fn main(args: Vec<String>) -> i32 {
    match run(&args) {
        Ok(()) => 0,
        Err(Stop::Status(status)) => status,
        Err(Stop::Message(text) | Stop::Usage(text)) => {
            eprintln!("{text}");
            1
        }
    }
}

/// What is told of.
struct Plan {
    count: u64,
    verbose: bool,
    commits: bool,
}

fn run(args: &[String]) -> Result<(), Stop> {
    let parsed = flat::parse(&TOOL, args, &[])?;
    let count = flat::number::<i64>(&TOOL, &parsed, "max-messages")?.unwrap_or(-1);
    let plan = Plan {
        count: u64::try_from(count).unwrap_or(u64::MAX),
        verbose: parsed.has("verbose"),
        commits: !parsed.has("enable-autocommit"),
    };
    let properties = properties(&parsed)?;
    let config = ConsumerConfig::new(&properties).map_err(stop)?;
    let client = ClientConfig::new(&properties).map_err(stop)?;
    let client = Client::new(client, connect::seed()).with_notice(connect::warn);
    let topic = Str::copy(parsed.value("topic").unwrap_or_default());
    milena_client::run(async move {
        let consumer = Consumer::new(client, config, Subscription::Topics(vec![topic]));
        consume(consumer.map_err(stop)?, &plan).await
    })
}

fn properties(parsed: &Parsed) -> Result<connect::Properties, Stop> {
    let mut properties = flat::properties(parsed, &["command-config", "consumer.config"], &[])?;
    let commit = parsed.has("enable-autocommit").to_string();
    let set = [
        ("group-protocol", "group.protocol", "classic"),
        ("group-id", "group.id", ""),
        ("reset-policy", "auto.offset.reset", "earliest"),
        (
            "assignment-strategy",
            "partition.assignment.strategy",
            RANGE,
        ),
    ];
    for (flag, key, default) in set {
        properties.insert(key.into(), parsed.value(flag).unwrap_or(default).into());
    }
    properties.insert("enable.auto.commit".into(), commit);
    for (flag, key) in [
        ("group-instance-id", "group.instance.id"),
        ("session-timeout", "session.timeout.ms"),
    ] {
        if let Some(value) = parsed.value(flag) {
            properties.insert(key.into(), value.into());
        }
    }
    Ok(properties)
}

async fn consume(mut consumer: Consumer, plan: &Plan) -> Result<(), Stop> {
    let signals = [SignalKind::interrupt(), SignalKind::terminate()].map(signal);
    let [mut interrupt, mut terminate] = signals.map(|s| s.expect("signals can be listened to"));
    say_line("startup_complete", &[]);
    let mut assigned = BTreeSet::new();
    let mut left = plan.count;
    let mut stopped = false;
    while left > 0 && !stopped {
        let most = BATCH_RECORDS_MAX.min(usize::try_from(left).unwrap_or(usize::MAX));
        let batch = tokio::select! {
            batch = poll(&mut consumer, most) => batch.map_err(stop)?,
            _ = interrupt.recv() => { stopped = true; Vec::new() }
            _ = terminate.recv() => { stopped = true; Vec::new() }
        };
        tell_assignment(&mut assigned, consumer.assignment());
        if batch.is_empty() {
            continue;
        }
        left -= batch.len() as u64;
        let next = tell_batch(&batch, plan.verbose);
        if plan.commits {
            let result = consumer.commit().await;
            tell_commit(&next, &result);
        }
    }
    if stopped {
        say_line("shutdown_requested", &[]);
    }
    consumer.close().await.map_err(stop)?;
    say_line("partitions_revoked", &[("partitions", places(&assigned))]);
    say_line("shutdown_complete", &[]);
    if !stopped {
        say_line("shutdown_requested", &[]);
    }
    Ok(())
}

fn say_line(name: &str, members: &[(&str, String)]) {
    out(json::line(say::now_millis(), name, members));
}

/// What there is, up to so many; empty after a while without.
async fn poll(consumer: &mut Consumer, most: usize) -> Result<Vec<ConsumerRecord>, Error> {
    let mut batch = Vec::new();
    while batch.len() < most && (batch.is_empty() || consumer.has_buffered()) {
        let until = Instant::now() + Duration::from_millis(100);
        match consumer.next(until).await? {
            Some(record) => batch.push(record),
            None => break,
        }
    }
    Ok(batch)
}

/// A change of the assignment: first what is gone, then what came.
fn tell_assignment(known: &mut BTreeSet<Place>, now: BTreeSet<Place>) {
    let gone: BTreeSet<Place> = known.difference(&now).cloned().collect();
    let came: BTreeSet<Place> = now.difference(known).cloned().collect();
    for (name, changed) in [("partitions_revoked", gone), ("partitions_assigned", came)] {
        if !changed.is_empty() {
            say_line(name, &[("partitions", places(&changed))]);
        }
    }
    *known = now;
}

fn place((topic, partition): &Place) -> String {
    format!("\"topic\":{},\"partition\":{partition}", json::text(topic))
}

fn places(places: &BTreeSet<Place>) -> String {
    let listed: Vec<String> = places.iter().map(|p| format!("{{{}}}", place(p))).collect();
    format!("[{}]", listed.join(","))
}

/// Says what was read; where each partition goes on.
fn tell_batch(batch: &[ConsumerRecord], verbose: bool) -> BTreeMap<Place, i64> {
    let mut ranges: BTreeMap<Place, (u64, i64, i64)> = BTreeMap::new();
    for record in batch {
        let at = (record.topic.clone(), record.partition);
        let range = ranges
            .entry(at)
            .or_insert((0, record.offset, record.offset));
        *range = (range.0 + 1, range.1, record.offset);
    }
    let listed = ranges.iter().map(|(at, (count, min, max))| {
        let at = place(at);
        format!("{{{at},\"count\":{count},\"minOffset\":{min},\"maxOffset\":{max}}}")
    });
    let listed: Vec<String> = listed.collect();
    let members = [
        ("count", batch.len().to_string()),
        ("partitions", format!("[{}]", listed.join(","))),
    ];
    say_line("records_consumed", &members);
    for record in batch.iter().filter(|_| verbose) {
        let text = |bytes: &Option<bytes::Bytes>| {
            let text = bytes
                .as_ref()
                .map(|bytes| String::from_utf8_lossy(bytes).into_owned());
            json::text_or_null(text.as_deref())
        };
        let members = [
            ("key", text(&record.key)),
            ("value", text(&record.value)),
            ("topic", json::text(&record.topic)),
            ("partition", record.partition.to_string()),
            ("offset", record.offset.to_string()),
        ];
        say_line("record_data", &members);
    }
    ranges
        .into_iter()
        .map(|(at, (_, _, max))| (at, max + 1))
        .collect()
}

fn tell_commit(next: &BTreeMap<Place, i64>, result: &Result<(), Error>) {
    let listed = next.iter();
    let listed = listed.map(|(at, offset)| format!("{{{},\"offset\":{offset}}}", place(at)));
    let listed: Vec<String> = listed.collect();
    let mut members = vec![("offsets", format!("[{}]", listed.join(",")))];
    if let Err(error) = result {
        members.push(("error", json::text(&error.to_string())));
    }
    members.push(("success", result.is_ok().to_string()));
    say_line("offsets_committed", &members);
}
