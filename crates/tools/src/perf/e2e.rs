//! `kafka-e2e-latency`: sends a record, waits until it is read, and says how long that took.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use milena_client::consumer::{ConsumerConfig, Start, Subscription};
use milena_client::producer::{ProducerConfig, Record};
use milena_client::{Client, ClientConfig, Consumer, Producer};
use milena_protocol::Str;

use super::figures::percentile;
use super::stop;
use crate::connect::{self, Properties};
use crate::options::{HELP, Options, Spec, VERSION, value};
use crate::say::{self, Stop, out};

const POLL_MAX: Duration = Duration::from_secs(60);

pub const SPEC: Spec = Spec {
    about: "Sends records one by one, reads each, and says how long the way took.",
    flags: &[
        HELP,
        VERSION,
        value(
            "bootstrap-server",
            "bootstrap-server",
            "REQUIRED: brokers to begin with, host:port[,host:port…].",
        ),
        value(
            "topic",
            "topic-name",
            "REQUIRED: the topic; it has to exist.",
        ),
        value("num-records", "count", "REQUIRED: how many records."),
        value("producer-acks", "producer-acks", "REQUIRED: 1, or all."),
        value("record-size", "bytes", "REQUIRED: bytes of each value."),
        value("record-key-size", "bytes", "Bytes of each key.")
            .optional()
            .or("0"),
        value(
            "record-header-key-size",
            "bytes",
            "Bytes of each header's name.",
        )
        .optional()
        .or("0"),
        value(
            "record-header-size",
            "bytes",
            "Bytes of each header's value.",
        )
        .optional()
        .or("0"),
        value("num-headers", "count", "Headers of each record.")
            .optional()
            .or("0"),
        value(
            "command-config",
            "config-file",
            "Properties for both clients, by Kafka's names.",
        )
        .optional(),
    ],
};

/// Flags in the order of the old form without names.
const POSITIONS: [&str; 6] = [
    "bootstrap-server",
    "topic",
    "num-records",
    "producer-acks",
    "record-size",
    "command-config",
];

pub fn main(args: Vec<String>) -> i32 {
    say::finish(&SPEC, run(&args))
}

/// The old form of positions becomes flags.
fn named(args: &[String]) -> Result<Vec<String>, Stop> {
    if args.is_empty() || args.iter().any(|arg| arg.starts_with("--")) {
        return Ok(args.to_vec());
    }
    if !(5..=6).contains(&args.len()) {
        return Err(Stop::Message(format!(
            "Invalid number of arguments. Expected 5 or 6 positional arguments, but got {}. Usage: bootstrap-server topic num-records producer-acks record-size [optional] command-config",
            args.len()
        )));
    }
    eprintln!(
        "WARNING: Positional argument usage is deprecated and will be removed in Apache Kafka 5.0. Please use named arguments instead: --bootstrap-server, --topic, --num-records, --producer-acks, --record-size, --command-config"
    );
    let pairs = POSITIONS.iter().zip(args);
    Ok(pairs
        .flat_map(|(name, arg)| [format!("--{name}"), arg.clone()])
        .collect())
}

/// Kafka's checks.
pub fn check(options: &Options) -> Result<(), Stop> {
    say::help_or_version(options)?;
    options.require(&POSITIONS[..5]).map_err(Stop::Usage)?;
    let acks = options.value("producer-acks")?.unwrap_or_default();
    match acks {
        "1" | "all" => Ok(()),
        _ => Err(Stop::Usage(
            "Invalid value for --producer-acks. Latency testing requires synchronous acknowledgement. Please use '1' or 'all'.".into(),
        )),
    }
}

fn run(args: &[String]) -> Result<i32, Stop> {
    let options = SPEC.parse(&named(args)?)?;
    check(&options)?;
    let mut properties = match options.value("command-config")? {
        Some(path) => connect::load(path)?,
        None => Properties::new(),
    };
    let mut set = |key: &str, value: &str| properties.insert(key.to_owned(), value.to_owned());
    set(
        "bootstrap.servers",
        options.value("bootstrap-server")?.unwrap_or_default(),
    );
    set("acks", options.value("producer-acks")?.unwrap_or_default());
    set("linger.ms", "0");
    set("fetch.max.wait.ms", "0");
    set("enable.auto.commit", "false");
    let producer = ProducerConfig::new(&properties).map_err(stop)?;
    let consumer = ConsumerConfig::new(&properties).map_err(stop)?;
    let client = ClientConfig::new(&properties).map_err(stop)?;
    let make = || Client::new(client.clone(), connect::seed()).with_notice(connect::warn);
    let (mut for_lookup, for_producer, for_consumer) = (make(), make(), make());
    let shape = Shape::of(&options)?;
    milena_client::run(async move {
        let starts = starts(&mut for_lookup, &shape.topic).await?;
        let consumer = Consumer::new(for_consumer, consumer, Subscription::Partitions(starts));
        let consumer = consumer.map_err(stop)?;
        measure(Producer::new(for_producer, producer), consumer, &shape).await
    })?;
    Ok(0)
}

/// What each record looks like.
struct Shape {
    topic: Str,
    count: usize,
    value: usize,
    key: usize,
    headers: usize,
    header_key: usize,
    header_value: usize,
}

impl Shape {
    fn of(options: &Options) -> Result<Shape, Stop> {
        let number = |name: &str| Ok::<usize, String>(options.number(name)?.unwrap_or_default());
        Ok(Shape {
            topic: Str::copy(options.value("topic")?.unwrap_or_default()),
            count: number("num-records")?,
            value: number("record-size")?,
            key: number("record-key-size")?,
            headers: number("num-headers")?,
            header_key: number("record-header-key-size")?,
            header_value: number("record-header-size")?,
        })
    }

    fn record(&self, random: &mut milena_base::Prng) -> Record {
        let mut letters = |count: usize| -> Vec<u8> {
            (0..count).map(|_| b'A' + random.below(26) as u8).collect()
        };
        let value = letters(self.value);
        let key = (self.key > 0).then(|| letters(self.key).into());
        let header = |_| {
            let name = String::from_utf8(letters(self.header_key)).expect("letters");
            (Str::from(name), Some(letters(self.header_value).into()))
        };
        Record {
            topic: self.topic.clone(),
            timestamp: say::now_millis(),
            value: Some(value.into()),
            key,
            headers: (0..self.headers).map(header).collect(),
            ..Record::default()
        }
    }
}

/// The end of every partition. A topic that does not exist is not made here.
async fn starts(client: &mut Client, topic: &Str) -> Result<BTreeMap<(Str, i32), Start>, Stop> {
    let names = [topic.clone()];
    client
        .metadata("listTopics", Some(&names))
        .await
        .map_err(stop)?;
    let partitions = client
        .topic(topic)
        .map(|t| t.partitions.keys().copied().collect::<Vec<_>>());
    let partitions = partitions.unwrap_or_default();
    if partitions.is_empty() {
        return Err(Stop::Message(format!(
            "Topic \"{topic}\" does not exist. Create it first: kafka-topics.sh --create --topic {topic}"
        )));
    }
    let at_end = |partition| ((topic.clone(), partition), Start::Timestamp(-1));
    Ok(partitions.into_iter().map(at_end).collect())
}

async fn measure(
    mut producer: Producer,
    mut consumer: Consumer,
    shape: &Shape,
) -> Result<(), Stop> {
    let mut random = connect::seed();
    // The ends have to be known before the first record is behind them.
    let soon = tokio::time::Instant::now() + Duration::from_millis(200);
    consumer.next(soon).await.map_err(stop)?;
    let mut latencies_ms = Vec::with_capacity(shape.count.min(1 << 20));
    let mut total_ms = 0.0;
    for at in 0..shape.count {
        let record = shape.record(&mut random);
        let expected = record.value.clone();
        let sent = Instant::now();
        producer.append(record).await.map_err(stop)?;
        producer.flush().await.map_err(stop)?;
        if let Some(failed) = producer.take_failed().pop() {
            return Err(stop(failed.error));
        }
        let until = tokio::time::Instant::now() + POLL_MAX;
        let read = consumer.next(until).await.map_err(stop)?;
        let elapsed_ms = sent.elapsed().as_nanos() as f64 / 1e6;
        let Some(read) = read else {
            return Err(Stop::Message(
                "poll() timed out before finding a result (timeout:[60000ms])".into(),
            ));
        };
        if read.value != expected {
            let shown = |bytes: &Option<bytes::Bytes>| {
                String::from_utf8_lossy(bytes.as_deref().unwrap_or_default()).into_owned()
            };
            return Err(Stop::Message(format!(
                "The message value read [{}] did not match the message value sent [{}]",
                shown(&read.value),
                shown(&expected)
            )));
        }
        if at % 1000 == 0 {
            out(format_args!("{at}\t{elapsed_ms}\n"));
        }
        total_ms += elapsed_ms;
        latencies_ms.push(elapsed_ms as u32);
    }
    latencies_ms.sort_unstable();
    out(format_args!(
        "Avg latency: {:.4} ms\n",
        total_ms / shape.count as f64
    ));
    let [half, most, nearly_all] = [0.5, 0.99, 0.999].map(|p| percentile(&latencies_ms, p));
    out(format_args!(
        "Percentiles: 50th = {half}, 99th = {most}, 99.9th = {nearly_all}\n"
    ));
    Ok(())
}
