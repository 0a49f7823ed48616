//! `kafka-verifiable-producer`: sends numbers and says of each, in JSON, what became of it.

use std::time::{Duration, Instant};

use milena_client::producer::{ProducerConfig, Record};
use milena_client::{Client, ClientConfig, Error, Producer};
use milena_protocol::Str;
use tokio::signal::unix::{SignalKind, signal};

use super::{flat, json, stop};
use crate::connect;
use crate::exceptions::exception;
use crate::say::{self, Stop, out};
use crate::subcommands::{Arg, Command, Parsed, Tool, arg};

const fn flag(name: &'static str, help: &'static str) -> Arg {
    arg(name, ' ', help).long_only()
}

pub const TOOL: Tool = Tool {
    name: "verifiable-producer",
    about: "Sends increasing numbers and says of each, as a line of JSON, what became of it.",
    globals: &[],
    commands: &[Command {
        name: "run",
        help: "Sends increasing numbers and says of each, as a line of JSON, what became of it.",
        args: &[
            flag("topic", "Where to.").required(),
            flag(
                "bootstrap-server",
                "Brokers to begin with, host:port[,host:port…].",
            )
            .required(),
            flag("max-messages", "How many; -1: until it is stopped."),
            flag(
                "throughput",
                "Records a second at most; -1: as fast as it goes.",
            ),
            flag("acks", "0, 1 or -1."),
            flag("producer.config", "Deprecated: as --command-config."),
            flag("command-config", "A file of properties for the producer."),
            flag(
                "message-create-time",
                "The first record's time in milliseconds since 1970; the next ones add 1.",
            ),
            flag(
                "value-prefix",
                "A number before each value, with a dot between.",
            ),
            flag("repeating-keys", "Keys are 0, 1 … up to this, and again."),
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

struct Plan {
    topic: Str,
    count: u64,
    throughput: i64,
    create_time: Option<i64>,
    prefix: Option<i64>,
    keys: Option<u64>,
}

fn run(args: &[String]) -> Result<(), Stop> {
    let parsed = flat::parse(&TOOL, args, &[])?;
    let number = |name| flat::number::<i64>(&TOOL, &parsed, name);
    let plan = Plan {
        topic: Str::copy(parsed.value("topic").unwrap_or_default()),
        count: u64::try_from(number("max-messages")?.unwrap_or(-1)).unwrap_or(u64::MAX),
        throughput: number("throughput")?.unwrap_or(-1),
        create_time: number("message-create-time")?.filter(|time| *time >= 0),
        prefix: number("value-prefix")?,
        keys: number("repeating-keys")?.map(|keys| keys.max(1) as u64),
    };
    let mut properties = properties(&parsed)?;
    let acks = parsed.value("acks").unwrap_or("-1");
    properties.insert("acks".into(), acks.into());
    // As Kafka's: no retries, so that what is said of a record is what became of it.
    properties.insert("retries".into(), "0".into());
    let config = ProducerConfig::new(&properties).map_err(stop)?;
    let client = ClientConfig::new(&properties).map_err(stop)?;
    let client = Client::new(client, connect::seed()).with_notice(connect::warn);
    milena_client::run(async move {
        let producer = Producer::new(client, config).with_receipts();
        produce(producer, &plan).await
    })
}

fn properties(parsed: &Parsed) -> Result<connect::Properties, Stop> {
    flat::properties(parsed, &["command-config", "producer.config"], &[])
}

impl Plan {
    fn key(&self, at: u64) -> Option<String> {
        self.keys.map(|keys| (at % keys).to_string())
    }

    fn value(&self, at: u64) -> String {
        match self.prefix {
            Some(prefix) => format!("{prefix}.{at}"),
            None => at.to_string(),
        }
    }

    fn record(&self, at: u64) -> Record {
        Record {
            topic: self.topic.clone(),
            timestamp: self
                .create_time
                .map_or_else(say::now_millis, |first| first + at as i64),
            key: self.key(at).map(Into::into),
            value: Some(self.value(at).into()),
            tag: at,
            ..Record::default()
        }
    }

    fn failed(&self, at: u64, error: &Error) -> String {
        let class = error
            .code()
            .map_or("org.apache.kafka.common.KafkaException".into(), exception);
        let members = [
            ("key", json::text_or_null(self.key(at).as_deref())),
            ("value", json::text(&self.value(at))),
            ("topic", json::text(&self.topic)),
            ("exception", json::text(&format!("class {class}"))),
            ("message", json::text(&error.to_string())),
        ];
        json::line(say::now_millis(), "producer_send_error", &members)
    }
}

/// Says what became of records; how many were written.
fn tell(producer: &mut Producer, plan: &Plan) -> u64 {
    let mut acked = 0;
    for written in producer.take_written() {
        for (offset, (at, _)) in (written.base_offset..).zip(written.records) {
            acked += 1;
            let members = [
                ("key", json::text_or_null(plan.key(at).as_deref())),
                ("value", json::text(&plan.value(at))),
                ("offset", offset.to_string()),
                ("topic", json::text(&plan.topic)),
                ("partition", written.partition.to_string()),
            ];
            out(json::line(
                say::now_millis(),
                "producer_send_success",
                &members,
            ));
        }
    }
    for failed in producer.take_failed() {
        out(plan.failed(failed.tag, &failed.error));
    }
    acked
}

async fn produce(mut producer: Producer, plan: &Plan) -> Result<(), Stop> {
    let signals = [SignalKind::interrupt(), SignalKind::terminate()].map(signal);
    let [mut interrupt, mut terminate] = signals.map(|s| s.expect("signals can be listened to"));
    let start = Instant::now();
    out(json::line(say::now_millis(), "startup_complete", &[]));
    let (mut sent, mut acked) = (0, 0);
    for at in 0..plan.count {
        let due = match plan.throughput {
            rate if rate > 0 => start + Duration::from_secs_f64(at as f64 / rate as f64),
            _ => start,
        };
        let due = tokio::time::Instant::from_std(due);
        let one = async {
            while tokio::time::Instant::now() < due {
                match producer.is_idle() {
                    true => tokio::time::sleep_until(due).await,
                    false => producer.step(false, due).await?,
                }
            }
            producer.append(plan.record(at)).await?;
            match at % 64 == 63 {
                true => producer.poll().await,
                false => Ok(()),
            }
        };
        let done = tokio::select! {
            done = one => done,
            _ = interrupt.recv() => break,
            _ = terminate.recv() => break,
        };
        sent += 1;
        if let Err(error) = done {
            out(plan.failed(at, &error));
        }
        acked += tell(&mut producer, plan);
    }
    producer.flush().await.map_err(stop)?;
    acked += tell(&mut producer, plan);
    out(json::line(say::now_millis(), "shutdown_complete", &[]));
    let average = acked as f64 / start.elapsed().as_secs_f64().max(0.001);
    let members = [
        ("sent", sent.to_string()),
        ("acked", acked.to_string()),
        ("target_throughput", plan.throughput.to_string()),
        ("avg_throughput", format!("{average:?}")),
    ];
    out(json::line(say::now_millis(), "tool_data", &members));
    Ok(())
}
