//! `kafka-console-consumer`: records of topics on standard output.

pub(crate) mod flags;
mod format;

use std::collections::BTreeMap;
use std::io::Write;
use std::time::Duration;

use milena_client::consumer::{ConsumerConfig, Subscription};
use milena_client::{Client, ClientConfig, Consumer, Error};
use milena_protocol::Str;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::time::Instant;

use self::format::Formatter;
use crate::connect;
use crate::filter::NameFilter;
use crate::options::Options;
use crate::say::{self, Stop};

const LOGGER: &str = "org.apache.kafka.tools.consumer.ConsoleConsumer";
/// Text is written out when it is so long, or when no more records are there.
const OUTPUT_BYTES: usize = 64 * 1024;

pub fn main(args: Vec<String>) -> i32 {
    say::finish(&flags::SPEC, run(&args))
}

/// When to stop by oneself.
struct Limits {
    messages: Option<u64>,
    /// Without a record.
    timeout: Option<Duration>,
    skip_errors: bool,
}

fn run(args: &[String]) -> Result<i32, Stop> {
    let options = flags::SPEC.parse(args).map_err(Stop::Usage)?;
    flags::check(&options)?;
    let mut seed = connect::seed();
    let properties = flags::consumer_properties(&options, seed.next_u64())?;
    let class = options.value("formatter")?.unwrap_or_default();
    let formatter = flags::formatter_properties(&options)
        .and_then(|properties| Formatter::new(class, &properties))
        .map_err(Stop::Usage)?;
    let subscription = subscription(&options)?;
    let max: Option<i64> = options.number("max-messages")?;
    let timeout: Option<i64> = options.number("timeout-ms")?;
    let limits = Limits {
        messages: max.and_then(|max| u64::try_from(max).ok()),
        timeout: timeout
            .and_then(|ms| u64::try_from(ms).ok())
            .map(Duration::from_millis),
        skip_errors: options.has("skip-message-on-error"),
    };
    let config_error = |error: Error| {
        let error = say::with_exception(&error);
        say::log(
            "ERROR",
            format_args!("Unknown error when running consumer: {error}"),
            LOGGER,
        );
        Stop::Status(1)
    };
    let config = ConsumerConfig::new(&properties).map_err(config_error)?;
    let client = ClientConfig::new(&properties).map_err(config_error)?;
    let client = Client::new(client, seed).with_notice(connect::warn);
    let status = milena_client::run(async {
        let consumer = Consumer::new(client, config, subscription).map_err(config_error)?;
        Ok::<i32, Stop>(consume(consumer, &formatter, &limits).await)
    })?;
    if options.has("enable-systest-events") {
        say::out("shutdown_complete\n");
    }
    Ok(status)
}

fn subscription(options: &Options) -> Result<Subscription, Stop> {
    let Some(topic) = options.value("topic")? else {
        let filter = NameFilter::new(options.value("include")?.unwrap_or_default())?;
        return Ok(Subscription::Pattern(Box::new(move |name| {
            filter.takes(name)
        })));
    };
    let topic = Str::copy(topic);
    match options.number("partition")? {
        Some(partition) => {
            let start = flags::start(options)?;
            let places = BTreeMap::from([((topic, partition), start)]);
            Ok(Subscription::Partitions(places))
        }
        None => Ok(Subscription::Topics(vec![topic])),
    }
}

/// Why reading ended.
enum Ended {
    Enough,
    Signal(i32),
    Failed(String),
    /// Nobody reads standard output any more.
    Deaf,
}

async fn consume(mut consumer: Consumer, formatter: &Formatter, limits: &Limits) -> i32 {
    let mut signals = Signals::new();
    let mut count = 0;
    let mut out = Vec::new();
    let ended = loop {
        if limits.messages.is_some_and(|max| count >= max) {
            break Ended::Enough;
        }
        if !consumer.has_buffered() && flush(&mut out).is_err() {
            break Ended::Deaf;
        }
        match one(&mut consumer, formatter, limits, &mut signals, &mut out).await {
            Ok(()) => count += 1,
            Err(ended) => break ended,
        }
        if out.len() >= OUTPUT_BYTES && flush(&mut out).is_err() {
            break Ended::Deaf;
        }
    };
    let ended = if flush(&mut out).is_err() {
        Ended::Deaf
    } else {
        ended
    };
    let status = match ended {
        Ended::Enough => 0,
        Ended::Signal(number) => 128 + number,
        Ended::Deaf => {
            eprintln!("Unable to write to standard out, closing consumer.");
            0
        }
        Ended::Failed(why) => {
            say::log(
                "ERROR",
                "Error processing message, terminating consumer process: ",
                LOGGER,
            );
            eprintln!("{why}");
            0
        }
    };
    if let Err(error) = consumer.close().await {
        say::log("WARN", format_args!("leaving the group: {error}"), LOGGER);
    }
    eprintln!("Processed a total of {count} messages");
    status
}

/// Reads and formats one record.
async fn one(
    consumer: &mut Consumer,
    formatter: &Formatter,
    limits: &Limits,
    signals: &mut Signals,
    out: &mut Vec<u8>,
) -> Result<(), Ended> {
    let deadline = limits.timeout.map(|timeout| Instant::now() + timeout);
    loop {
        if let Some(number) = signals.pending().await {
            return Err(Ended::Signal(number));
        }
        // Short turns, so that a signal is seen soon.
        let turn = Instant::now() + Duration::from_millis(100);
        let until = deadline.map_or(turn, |deadline| deadline.min(turn));
        let failed = |error: Error| Ended::Failed(say::with_exception(&error));
        if let Some(record) = consumer.next(until).await.map_err(failed)? {
            return match formatter.write(&record, out) {
                Ok(()) => Ok(()),
                Err(why) if limits.skip_errors => {
                    let what =
                        format_args!("Error processing message, skipping this message: {why}");
                    say::log("ERROR", what, LOGGER);
                    Ok(())
                }
                Err(why) => Err(Ended::Failed(why)),
            };
        }
        if deadline.is_some_and(|deadline| Instant::now() >= deadline) {
            let waited = limits.timeout.unwrap_or_default().as_millis();
            return Err(Ended::Failed(format!(
                "org.apache.kafka.common.errors.TimeoutException: no message came for {waited} ms"
            )));
        }
    }
}

fn flush(out: &mut Vec<u8>) -> std::io::Result<()> {
    if out.is_empty() {
        return Ok(());
    }
    let mut stdout = std::io::stdout().lock();
    let written = stdout.write_all(out).and_then(|()| stdout.flush());
    out.clear();
    written
}

/// Ctrl-C and SIGTERM, which end the tool in good order.
struct Signals(Vec<(i32, Signal)>);

impl Signals {
    fn new() -> Signals {
        let kinds = [SignalKind::interrupt(), SignalKind::terminate()];
        let listen = |kind: SignalKind| Some((kind.as_raw_value(), signal(kind).ok()?));
        Signals(kinds.into_iter().filter_map(listen).collect())
    }

    /// A signal that has come.
    async fn pending(&mut self) -> Option<i32> {
        let mut come = None;
        std::future::poll_fn(|context| {
            for (number, signal) in &mut self.0 {
                if signal.poll_recv(context).is_ready() {
                    come = Some(*number);
                }
            }
            std::task::Poll::Ready(())
        })
        .await;
        come
    }
}
