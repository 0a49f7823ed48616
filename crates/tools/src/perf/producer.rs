//! `kafka-producer-perf-test`: sends records and says how fast they were acknowledged.

use std::time::{Duration, Instant};

use bytes::Bytes;
use milena_base::Prng;
use milena_client::producer::{ProducerConfig, Record};
use milena_client::{Client, ClientConfig, Error, Metric, Producer};
use milena_protocol::Str;

use super::figures::Stats;
use super::{flat, stop};
use crate::connect;
use crate::say::{self, Stop, out};
use crate::subcommands::{Arg, Command, Parsed, Tool, arg};

const fn flag(name: &'static str, help: &'static str) -> Arg {
    arg(name, ' ', help).long_only()
}

pub const TOOL: Tool = Tool {
    name: "kafka-producer-perf-test",
    about: "Sends records and says how fast they were acknowledged.",
    globals: &[],
    commands: &[Command {
        name: "run",
        help: "Sends records and says how fast they were acknowledged.",
        args: &[
            flag(
                "bootstrap-server",
                "Brokers to begin with, host:port[,host:port…]; wins over properties.",
            ),
            flag("topic", "Where to.").required(),
            flag("num-records", "How many records.").required(),
            flag(
                "payload-delimiter",
                "What is between payloads in a file; \\n without it.",
            ),
            flag(
                "throughput",
                "Records a second at most; -1: as fast as it goes.",
            )
            .required(),
            flag("producer-props", "Deprecated: as --command-property."),
            flag(
                "command-property",
                "Properties of the producer, key=value …; they win over the file's.",
            ),
            flag("producer.config", "Deprecated: as --command-config."),
            flag("command-config", "A file of properties for the producer."),
            flag("print-metrics", "Not built yet: the client has no metrics.").switch(),
            flag("transactional-id", "Not built yet: transactions."),
            flag("transaction-duration-ms", "Not built yet: transactions."),
            flag(
                "warmup-records",
                "So many of the first records are left out of a second summary.",
            ),
            flag(
                "reporting-interval",
                "Milliseconds between lines; 5000 without it.",
            ),
            flag("record-size", "Bytes of each record.")
                .required()
                .one_of(1),
            flag(
                "payload-file",
                "A text file of payloads, of which one is drawn for each record.",
            )
            .required()
            .one_of(1),
            flag("payload-monotonic", "Payloads are the numbers 0, 1, 2 ….")
                .switch()
                .required()
                .one_of(1),
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

/// What a run does.
struct Plan {
    topic: Str,
    records: u64,
    warmup: u64,
    /// Records a second.
    throughput: Option<f64>,
    interval: Duration,
    payload: Payload,
}

enum Payload {
    Same(Bytes),
    Drawn(Vec<Bytes>, Prng),
    Monotonic,
}

impl Payload {
    fn of(parsed: &Parsed) -> Result<Payload, Stop> {
        let mut random = connect::seed();
        if let Some(size) = flat::number::<usize>(&TOOL, parsed, "record-size")? {
            if size == 0 {
                return Err(Stop::Message(
                    "--record-size should be greater than zero.".into(),
                ));
            }
            let letter = |_| b'A' + random.below(26) as u8;
            return Ok(Payload::Same((0..size).map(letter).collect()));
        }
        let Some(path) = parsed.value("payload-file") else {
            return Ok(Payload::Monotonic);
        };
        let text = std::fs::read_to_string(path).map_err(|error| format!("{path}: {error}"))?;
        let empty = || Stop::Message("File does not exist or empty file provided.".into());
        out(format_args!("Reading payloads from: {path}\n"));
        let delimiter = parsed
            .value("payload-delimiter")
            .unwrap_or("\\n")
            .replace("\\n", "\n");
        let payloads = text.split_terminator(delimiter.as_str());
        let payloads: Vec<Bytes> = payloads
            .map(|p| Bytes::copy_from_slice(p.as_bytes()))
            .collect();
        if payloads.is_empty() {
            return Err(empty());
        }
        out(format_args!("Number of records read: {}\n", payloads.len()));
        Ok(Payload::Drawn(payloads, random))
    }

    fn next(&mut self, at: u64) -> Bytes {
        match self {
            Payload::Same(bytes) => bytes.clone(),
            Payload::Drawn(payloads, random) => {
                payloads[random.below(payloads.len() as u64) as usize].clone()
            }
            Payload::Monotonic => at.to_string().into(),
        }
    }
}

impl Plan {
    fn of(parsed: &Parsed) -> Result<Plan, Stop> {
        let wrong = |text: &str| Err(Stop::Message(text.into()));
        let number = |name| flat::number::<i64>(&TOOL, parsed, name);
        let records = number("num-records")?.unwrap_or_default();
        let warmup = number("warmup-records")?.unwrap_or_default();
        let interval = number("reporting-interval")?.unwrap_or(5000);
        if records <= 0 {
            return wrong("--num-records should be greater than zero.");
        }
        if warmup >= records {
            return wrong(
                "The value for --warmup-records must be strictly fewer than the number of records in the test, --num-records.",
            );
        }
        if interval <= 0 {
            return wrong("--reporting-interval should be greater than zero.");
        }
        let sources = [
            "bootstrap-server",
            "command-property",
            "producer-props",
            "producer.config",
            "command-config",
        ];
        if !sources.iter().any(|source| parsed.has(source)) {
            return wrong(
                "At least one of --bootstrap-server, --command-property, --producer-props, --producer.config or --command-config must be specified.",
            );
        }
        if parsed.has("command-property") && parsed.has("producer-props") {
            return wrong("--command-property and --producer-props cannot be specified together.");
        }
        if parsed.has("transactional-id") || parsed.has("transaction-duration-ms") {
            return wrong(
                "Transactions are not built yet in Milena's producer; leave --transactional-id and --transaction-duration-ms out.",
            );
        }
        let throughput = flat::number::<f64>(&TOOL, parsed, "throughput")?;
        Ok(Plan {
            topic: Str::copy(parsed.value("topic").unwrap_or_default()),
            records: records as u64,
            warmup: warmup.max(0) as u64,
            throughput: throughput.filter(|rate| *rate > 0.0),
            interval: Duration::from_millis(interval as u64),
            payload: Payload::of(parsed)?,
        })
    }
}

fn run(args: &[String]) -> Result<(), Stop> {
    let parsed = flat::parse(&TOOL, args, &["command-property", "producer-props"])?;
    for (old, new) in [
        ("producer-props", "command-property"),
        ("producer.config", "command-config"),
    ] {
        if parsed.has(old) {
            out(format_args!(
                "Option --{old} has been deprecated and will be removed in a future version. Use --{new} instead.\n"
            ));
        }
    }
    let plan = Plan::of(&parsed)?;
    let mut properties = flat::properties(
        &parsed,
        &["command-config", "producer.config"],
        &["command-property", "producer-props"],
    )?;
    properties
        .entry("client.id".into())
        .or_insert("perf-producer-client".into());
    let id = properties["client.id"].clone();
    let config = ProducerConfig::new(&properties).map_err(stop)?;
    let client = ClientConfig::new(&properties).map_err(stop)?;
    let client = Client::new(client, connect::seed()).with_notice(connect::warn);
    milena_client::run(async move {
        let producer = Producer::new(client, config).with_receipts();
        let metrics = measure(producer, plan).await?;
        if parsed.has("print-metrics") {
            say::metrics(&metrics, &id);
        }
        Ok(())
    })
}

/// Both summaries, and when each record was taken in.
struct Measured {
    all: Stats,
    steady: Option<Stats>,
    start: Instant,
}

impl Measured {
    /// Takes in what has been acknowledged since the last call. A record's tag is when it was sent, in microseconds
    /// since the start, and whether it counts as steady.
    fn take(&mut self, producer: &mut Producer) {
        let now = Instant::now();
        for written in producer.take_written() {
            for (tag, sizes) in written.records {
                let sent = self.start + Duration::from_micros(tag >> 1);
                let latency = now.duration_since(sent);
                let bytes = sizes.value.unwrap_or(0) as u64;
                let lines = [
                    self.all.record(latency, bytes, now),
                    match &mut self.steady {
                        Some(steady) if tag & 1 == 1 => steady.record(latency, bytes, now),
                        _ => None,
                    },
                ];
                lines.into_iter().flatten().for_each(out);
            }
        }
        for failed in producer.take_failed() {
            eprintln!("{}", say::with_exception(&failed.error));
        }
    }
}

async fn measure(mut producer: Producer, mut plan: Plan) -> Result<Vec<Metric>, Stop> {
    let start = Instant::now();
    let mut measured = Measured {
        all: Stats::new(plan.records, plan.interval, false, start),
        steady: None,
        start,
    };
    if plan.warmup > 0 {
        out(format_args!(
            "Warmup first {} records. Steady state results will print after the complete test summary.\n",
            plan.warmup
        ));
    }
    for at in 0..plan.records {
        if plan.warmup > 0 && at == plan.warmup {
            let left = plan.records - plan.warmup;
            measured.all.silence();
            measured.steady = Some(Stats::new(left, plan.interval, true, Instant::now()));
        }
        wait_for_turn(&mut producer, &mut measured, &plan, at).await?;
        let sent = start.elapsed().as_micros() as u64;
        let record = Record {
            topic: plan.topic.clone(),
            timestamp: say::now_millis(),
            value: Some(plan.payload.next(at)),
            tag: sent << 1 | u64::from(measured.steady.is_some()),
            ..Record::default()
        };
        match producer.append(record).await {
            Err(Error::Config(text)) => return Err(Stop::Message(text)),
            Err(error) => eprintln!("{}", say::with_exception(&error)),
            Ok(()) => {}
        }
        if at % 64 == 0 {
            producer.poll().await.map_err(stop)?;
            measured.take(&mut producer);
        }
    }
    while !producer.is_idle() {
        let soon = tokio::time::Instant::now() + Duration::from_millis(100);
        producer.step(true, soon).await.map_err(stop)?;
        measured.take(&mut producer);
    }
    let now = Instant::now();
    out(measured.all.summary(now));
    if let Some(steady) = &mut measured.steady {
        out(steady.summary(now));
    }
    Ok(producer.metrics())
}

/// Until the throughput allows for record number `at`; batches go out meanwhile.
async fn wait_for_turn(
    producer: &mut Producer,
    measured: &mut Measured,
    plan: &Plan,
    at: u64,
) -> Result<(), Stop> {
    let Some(rate) = plan.throughput else {
        return Ok(());
    };
    let due =
        tokio::time::Instant::from_std(measured.start + Duration::from_secs_f64(at as f64 / rate));
    while tokio::time::Instant::now() < due {
        match producer.is_idle() {
            true => tokio::time::sleep_until(due).await,
            false => producer.step(false, due).await.map_err(stop)?,
        }
        measured.take(producer);
    }
    Ok(())
}
