//! `kafka-console-producer`: each line of standard input becomes a record.

pub(crate) mod flags;
pub(crate) mod lines;

use std::io::{IsTerminal, Read};
use std::time::Duration;

use milena_base::ErrorCode;
use milena_client::producer::{Failed, ProducerConfig, Record, Sizes};
use milena_client::{Client, ClientConfig, Error, Producer};
use tokio::sync::mpsc;
use tokio::time::{Instant, timeout_at};

use self::lines::{LineCutter, LineReader};
use crate::connect;
use crate::options::Options;
use crate::say::{self, Stop, out};

const LOGGER: &str = "org.apache.kafka.clients.producer.internals.ErrorLoggingCallback";
/// Lines that may wait between the reading thread and the producer.
const LINES_WAITING_MAX: usize = 1024;

pub fn main(args: Vec<String>) -> i32 {
    say::finish(&flags::SPEC, run(&args))
}

fn run(args: &[String]) -> Result<i32, Stop> {
    let options = flags::SPEC.parse(args).map_err(Stop::Usage)?;
    flags::check(&options)?;
    let config_error = |error: Error| Stop::Message(say::with_exception(&error));
    let properties = flags::producer_properties(&options)?;
    let topic = options.value("topic")?.unwrap_or_default().to_string();
    known_reader(&options)?;
    let reader =
        LineReader::new(&topic, &flags::reader_properties(&options)?).map_err(kafka_exception)?;
    let producer = ProducerConfig::new(&properties).map_err(config_error)?;
    let client = ClientConfig::new(&properties).map_err(config_error)?;
    let client = Client::new(client, connect::seed()).with_notice(connect::warn);
    let sync = options.has("sync");
    milena_client::run(async move {
        let producer = Producer::new(client, producer);
        produce(producer, reader, sync).await
    })
}

fn known_reader(options: &Options) -> Result<(), String> {
    match options.value("line-reader")?.unwrap_or_default() {
        flags::LINE_READER => Ok(()),
        other => Err(format!(
            "java.lang.ClassNotFoundException: {other} (only {} is known here)",
            flags::LINE_READER
        )),
    }
}

fn kafka_exception(message: String) -> String {
    format!("org.apache.kafka.common.KafkaException: {message}")
}

/// Lines of standard input, read by a thread of their own since a terminal blocks.
fn lines() -> mpsc::Receiver<std::io::Result<String>> {
    let (sender, receiver) = mpsc::channel(LINES_WAITING_MAX);
    std::thread::spawn(move || {
        let mut cutter = LineCutter::default();
        let mut buffer = vec![0; 64 * 1024];
        let mut stdin = std::io::stdin().lock();
        loop {
            match stdin.read(&mut buffer) {
                Ok(0) => break,
                Ok(count) => cutter.feed(&buffer[..count], |line| {
                    sender.blocking_send(Ok(line)).ok();
                }),
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
                Err(error) => {
                    sender.blocking_send(Err(error)).ok();
                    return;
                }
            }
        }
        if let Some(line) = cutter.finish() {
            sender.blocking_send(Ok(line)).ok();
        }
    });
    receiver
}

/// Reads, sends, and at the end (also after a line that can't be read) waits for what is under way.
async fn produce(mut producer: Producer, mut reader: LineReader, sync: bool) -> Result<i32, Stop> {
    let mut lines = lines();
    let prompting = std::io::stdin().is_terminal() && std::io::stdout().is_terminal();
    let prompt = || {
        if prompting {
            out(">")
        }
    };
    let mut ended = Ok(0);
    prompt();
    for count in 1u64.. {
        if count % 64 == 0 && producer.has_full_batch() {
            producer.step(false, Instant::now()).await.map_err(stop)?;
        }
        let line = match next_line(&mut lines, &mut producer).await? {
            Some(Ok(line)) => line,
            Some(Err(error)) => {
                ended = Err(Stop::Message(format!("standard input: {error}")));
                break;
            }
            None => break,
        };
        let record = match reader.read(&line, say::now_millis()) {
            Ok(record) => record,
            Err(message) => {
                ended = Err(Stop::Message(kafka_exception(message)));
                break;
            }
        };
        send(&mut producer, record, sync).await?;
        prompt();
    }
    producer.flush().await.map_err(stop)?;
    report(producer.take_failed());
    ended
}

fn stop(error: Error) -> Stop {
    Stop::Message(say::with_exception(&error))
}

/// The next line; while none comes, batches are sent.
async fn next_line(
    lines: &mut mpsc::Receiver<std::io::Result<String>>,
    producer: &mut Producer,
) -> Result<Option<std::io::Result<String>>, Stop> {
    loop {
        if let Ok(line) = lines.try_recv() {
            return Ok(Some(line));
        }
        if producer.is_idle() {
            return Ok(lines.recv().await);
        }
        let soon = Instant::now() + Duration::from_millis(5);
        match timeout_at(soon, lines.recv()).await {
            Ok(line) => return Ok(line),
            Err(_) => {
                producer
                    .step(false, Instant::now() + Duration::from_millis(20))
                    .await
                    .map_err(stop)?;
                report(producer.take_failed());
            }
        }
    }
}

async fn send(producer: &mut Producer, record: Record, sync: bool) -> Result<(), Stop> {
    let key = record.key.as_ref().map(|key| key.len());
    let value = record.value.as_ref().map(|value| value.len());
    let topic = record.topic.clone();
    let sizes = Sizes { key, value };
    if let Err(error) = producer.append(record).await {
        match sync || matches!(error, Error::Config(_)) {
            true => return Err(stop(error)),
            false => report(vec![Failed {
                topic,
                sizes,
                tag: 0,
                error,
            }]),
        }
    }
    if sync {
        producer.flush().await.map_err(stop)?;
        if let Some(failed) = producer.take_failed().pop() {
            return Err(stop(failed.error));
        }
    }
    report(producer.take_failed());
    Ok(())
}

fn report(failed: Vec<Failed>) {
    let bytes = |size: Option<usize>| size.map_or("null".to_string(), |n| format!("{n} bytes"));
    for Failed {
        topic,
        sizes,
        error,
        ..
    } in failed
    {
        let (key, value) = (bytes(sizes.key), bytes(sizes.value));
        say::log(
            "ERROR",
            format_args!(
                "Error when sending message to topic {topic} with key: {key}, value: {value} with error:"
            ),
            LOGGER,
        );
        eprintln!("{}", say::with_exception(&error));
        if error.code() == Some(ErrorCode::UnknownTopicOrPartition) {
            eprintln!(
                "Create the topic first, or let the brokers do it (auto.create.topics.enable)."
            );
        }
    }
}
