//! `kafka-consumer-perf-test`: reads records and says how fast they came.

use std::time::{Duration, Instant};

use milena_client::consumer::{ConsumerConfig, Subscription};
use milena_client::{Client, ClientConfig, Consumer, Metric};
use milena_protocol::Str;

use super::stop;
use crate::connect::{self, Properties};
use crate::filter::NameFilter;
use crate::options::{BOOTSTRAP_SERVER, HELP, Options, Spec, VERSION, switch, value};
use crate::say::{self, Stop, out};

const DATE_FORMAT: &str = "yyyy-MM-dd HH:mm:ss:SSS";

pub const SPEC: Spec = Spec {
    about: "Reads records and says how fast they came.",
    flags: &[
        HELP,
        VERSION,
        BOOTSTRAP_SERVER,
        value("topic", "topic", "The topic to read."),
        value(
            "include",
            "Java regex (String)",
            "A pattern of topics to read.",
        ),
        value("group", "gid", "The group to read in; drawn without it."),
        value(
            "fetch-size",
            "size",
            "Bytes of one partition in one answer at most.",
        )
        .or("1048576"),
        value(
            "command-property",
            "prop1=val1",
            "A property of the consumer; may be repeated; wins over the file's.",
        ),
        switch(
            "from-latest",
            "Without a committed offset begin at the end, not at the beginning.",
        ),
        value(
            "socket-buffer-size",
            "size",
            "Taken; the operating system chooses the socket's buffer.",
        )
        .or("2097152"),
        value(
            "consumer.config",
            "config file",
            "Deprecated: as --command-config.",
        ),
        value(
            "command-config",
            "config file",
            "Properties for the consumer, by Kafka's names.",
        ),
        switch("print-metrics", "Not built yet: the client has no metrics."),
        switch("show-detailed-stats", "A line for each reporting interval."),
        value("timeout", "milliseconds", "Longest time without a record.")
            .optional()
            .or("10000"),
        value("messages", "count", "Deprecated: as --num-records."),
        value(
            "num-records",
            "count",
            "REQUIRED: how many records to read.",
        ),
        value(
            "reporting-interval",
            "interval_ms",
            "Milliseconds between lines.",
        )
        .or("5000"),
        value(
            "date-format",
            "date format",
            "How times are printed: y, M, d, H, m, s and S of Java's SimpleDateFormat.",
        )
        .or(DATE_FORMAT),
        switch("hide-header", "No line of titles."),
    ],
};

pub fn main(args: Vec<String>) -> i32 {
    say::finish(&SPEC, run(&args))
}

/// Kafka's checks, in its order.
pub fn check(options: &Options) -> Result<(), Stop> {
    say::help_or_version(options)?;
    options
        .require(&["bootstrap-server"])
        .map_err(Stop::Usage)?;
    for (one, other) in [
        ("topic", "include"),
        ("num-records", "messages"),
        ("command-config", "consumer.config"),
    ] {
        options.exclude(one, &[other]).map_err(Stop::Usage)?;
    }
    for (one, other) in [("topic", "include"), ("num-records", "messages")] {
        if options.count_of(&[one, other]) == 0 {
            let text =
                format!("Exactly one of the following arguments is required: [{one}], [{other}]");
            return Err(Stop::Usage(text));
        }
    }
    if options.number::<i64>("reporting-interval")?.unwrap_or(1) <= 0 {
        return Err(Stop::Message(
            "Reporting interval must be greater than 0.".into(),
        ));
    }
    Ok(())
}

fn properties(options: &Options) -> Result<Properties, Stop> {
    let file = options
        .value("command-config")?
        .or(options.value("consumer.config")?);
    let mut properties = match file {
        Some(path) => connect::load(path)?,
        None => Properties::new(),
    };
    properties.extend(connect::pairs(&options.values("command-property"))?);
    let mut set = |key: &str, value: String| properties.insert(key.to_owned(), value);
    set(
        "bootstrap.servers",
        options
            .value("bootstrap-server")?
            .unwrap_or_default()
            .into(),
    );
    let group = options.value("group")?.map(str::to_owned);
    let group =
        group.unwrap_or_else(|| format!("perf-consumer-{}", connect::seed().below(100_000)));
    set("group.id", group);
    set(
        "max.partition.fetch.bytes",
        options.value("fetch-size")?.unwrap_or_default().into(),
    );
    let reset = if options.has("from-latest") {
        "latest"
    } else {
        "earliest"
    };
    set("auto.offset.reset", reset.into());
    set("check.crcs", "false".into());
    properties
        .entry("client.id".into())
        .or_insert("perf-consumer-client".into());
    Ok(properties)
}

fn run(args: &[String]) -> Result<i32, Stop> {
    let options = SPEC.parse(args)?;
    check(&options)?;
    let properties = properties(&options)?;
    let id = properties["client.id"].clone();
    let config = ConsumerConfig::new(&properties).map_err(stop)?;
    let client = ClientConfig::new(&properties).map_err(stop)?;
    let client = Client::new(client, connect::seed()).with_notice(connect::warn);
    let subscription = match options.value("topic")? {
        Some(topic) => Subscription::Topics(vec![Str::copy(topic)]),
        None => {
            let filter = NameFilter::new(options.value("include")?.unwrap_or_default())?;
            Subscription::Pattern(Box::new(move |name| filter.takes(name)))
        }
    };
    let plan = Plan::of(&options)?;
    if options.has("messages") {
        eprintln!("Warning: --messages is deprecated. Use --num-records instead.");
    }
    if options.has("consumer.config") {
        eprintln!("Warning: --consumer.config is deprecated. Use --command-config instead.");
    }
    if !options.has("hide-header") {
        out(header(plan.detailed));
    }
    milena_client::run(async move {
        let consumer = Consumer::new(client, config, subscription).map_err(stop)?;
        let metrics = measure(consumer, &plan).await?;
        if options.has("print-metrics") {
            say::metrics(&metrics, &id);
        }
        Ok::<(), Stop>(())
    })?;
    Ok(0)
}

fn header(detailed: bool) -> String {
    let first = if detailed {
        "time, threadId"
    } else {
        "start.time, end.time"
    };
    format!(
        "{first}, data.consumed.in.MB, MB.sec, data.consumed.in.nMsg, nMsg.sec, rebalance.time.ms, fetch.time.ms, fetch.MB.sec, fetch.nMsg.sec\n"
    )
}

struct Plan {
    records: u64,
    timeout: Duration,
    interval: Duration,
    detailed: bool,
    date_format: String,
}

impl Plan {
    fn of(options: &Options) -> Result<Plan, Stop> {
        let records = options
            .number::<u64>("num-records")?
            .or(options.number("messages")?);
        let date_format = options.value("date-format")?.unwrap_or(DATE_FORMAT);
        date(date_format, 0)?;
        Ok(Plan {
            records: records.unwrap_or_default(),
            timeout: Duration::from_millis(options.number("timeout")?.unwrap_or(10_000)),
            interval: Duration::from_millis(options.number("reporting-interval")?.unwrap_or(5_000)),
            detailed: options.has("show-detailed-stats"),
            date_format: date_format.to_owned(),
        })
    }
}

/// What came since some moment.
#[derive(Clone, Copy, Debug, Default)]
struct Sum {
    records: u64,
    bytes: u64,
}

impl Sum {
    fn mb(&self) -> f64 {
        self.bytes as f64 / (1024.0 * 1024.0)
    }
}

async fn measure(mut consumer: Consumer, plan: &Plan) -> Result<Vec<Metric>, Stop> {
    let (start, started_ms) = (Instant::now(), say::now_millis());
    let (mut all, mut window) = (Sum::default(), Sum::default());
    let mut joined: Option<Duration> = None;
    let (mut last_record, mut window_start, mut join_told) = (start, start, Duration::ZERO);
    while all.records < plan.records {
        let until = tokio::time::Instant::now() + Duration::from_millis(100);
        let record = consumer.next(until).await.map_err(stop)?;
        let now = Instant::now();
        if joined.is_none() && (record.is_some() || !consumer.assignment().is_empty()) {
            joined = Some(now - start);
        }
        if let Some(record) = record {
            let sizes =
                [&record.key, &record.value].map(|field| field.as_ref().map_or(0, |f| f.len()));
            for sum in [&mut all, &mut window] {
                sum.records += 1;
                sum.bytes += sizes.iter().sum::<usize>() as u64;
            }
            last_record = now;
        } else if now - last_record > plan.timeout {
            out(format_args!(
                "WARNING: Exiting before consuming the expected number of records: timeout ({} ms) exceeded. You can use the --timeout option to increase the timeout.\n",
                plan.timeout.as_millis()
            ));
            break;
        }
        if plan.detailed && now - window_start >= plan.interval {
            let join = joined.unwrap_or(now - start) - join_told;
            join_told += join;
            let when = date(&plan.date_format, say::now_millis())?;
            out(progress(
                &format!("{when}, 0"),
                all,
                window,
                now - window_start,
                join,
            ));
            (window, window_start) = (Sum::default(), now);
        }
    }
    let elapsed = start.elapsed();
    if !plan.detailed {
        let times = [started_ms, say::now_millis()].map(|ms| date(&plan.date_format, ms));
        let [from, to] = times;
        let lead = format!("{}, {}", from?, to?);
        out(progress(
            &lead,
            all,
            all,
            elapsed,
            joined.unwrap_or(elapsed),
        ));
    }
    let metrics = consumer.metrics();
    consumer.close().await.map_err(stop)?;
    Ok(metrics)
}

/// Totals, and rates of what came in `elapsed`, of which `joining` went into getting partitions.
fn progress(lead: &str, all: Sum, window: Sum, elapsed: Duration, joining: Duration) -> String {
    let fetching = elapsed.saturating_sub(joining);
    let rate = |amount: f64, time: Duration| match time.as_millis() {
        0 => 0.0,
        ms => amount * 1000.0 / ms as f64,
    };
    let count = window.records as f64;
    format!(
        "{lead}, {:.4}, {:.4}, {}, {:.4}, {}, {}, {:.4}, {:.4}\n",
        all.mb(),
        rate(window.mb(), elapsed),
        all.records,
        rate(count, elapsed),
        joining.as_millis(),
        fetching.as_millis(),
        rate(window.mb(), fetching),
        rate(count, fetching),
    )
}

/// A time in UTC in the letters of Java's `SimpleDateFormat` that are numbers.
pub fn date(format: &str, millis: i64) -> Result<String, String> {
    let stamp = say::timestamp(millis);
    let mut text = String::new();
    let mut rest = format;
    while let Some(letter) = rest.chars().next() {
        let run = rest.chars().take_while(|c| *c == letter).count();
        rest = &rest[run * letter.len_utf8()..];
        let part = match letter {
            'y' if run == 2 => &stamp[2..4],
            'y' => &stamp[..4],
            'M' => &stamp[5..7],
            'd' => &stamp[8..10],
            'H' => &stamp[11..13],
            'm' => &stamp[14..16],
            's' => &stamp[17..19],
            'S' => &stamp[20..23],
            c if c.is_ascii_alphabetic() || c == '\'' => {
                return Err(format!(
                    "The date format {format} has {c}, which is not known here; y, M, d, H, m, s and S are."
                ));
            }
            c => {
                text.extend(std::iter::repeat_n(c, run));
                continue;
            }
        };
        let short = part.trim_start_matches('0');
        let width = run.max(1);
        text.push_str(&format!(
            "{:0>width$}",
            if short.is_empty() { "0" } else { short }
        ));
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_have_kafkas_form() {
        let sum = Sum {
            records: 250,
            bytes: 35_022,
        };
        let (elapsed, joining) = (Duration::from_millis(3633), Duration::from_millis(3582));
        assert_eq!(
            progress("a, b", sum, sum, elapsed, joining),
            "a, b, 0.0334, 0.0092, 250, 68.8137, 3582, 51, 0.6549, 4901.9608\n"
        );
        assert_eq!(
            date(DATE_FORMAT, 1_795_402_847_029).unwrap(),
            "2026-11-23 03:00:47:029"
        );
        assert!(date("EEE", 0).is_err());
    }
}
