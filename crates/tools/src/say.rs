//! What tools say, and where: results on stdout, everything else on stderr, log lines in Kafka's form.

use std::fmt::Display;
use std::io::{IsTerminal, Write};
use std::time::{SystemTime, UNIX_EPOCH};

use milena_client::{Error, Metric};

use crate::exceptions::exception;
use crate::options::{Options, Spec};
use crate::progress;

/// How a tool ends early.
#[derive(Debug)]
pub enum Stop {
    /// What Kafka's `printUsageAndExit` does: a sentence and the table of flags on stderr, status 1.
    Usage(String),
    /// A sentence on stderr, status 1.
    Message(String),
    /// Everything has been said.
    Status(i32),
}

impl From<String> for Stop {
    fn from(message: String) -> Stop {
        Stop::Message(message)
    }
}

/// The exit status of a tool that ended, after saying why.
pub fn finish(spec: &Spec, ended: Result<i32, Stop>) -> i32 {
    match ended {
        Ok(status) | Err(Stop::Status(status)) => status,
        Err(Stop::Message(message)) => {
            eprintln!("{message}");
            1
        }
        Err(Stop::Usage(message)) => {
            eprintln!("{message}");
            eprint!("{}", spec.usage());
            1
        }
    }
}

/// `--help` and `--version`, as every tool has them.
pub fn help_or_version(options: &Options) -> Result<(), Stop> {
    if options.has("help") {
        return Err(Stop::Usage(options.spec().about.to_string()));
    }
    if options.has("version") {
        out(format_args!("{}\n", version()));
        return Err(Stop::Status(0));
    }
    Ok(())
}

/// The same, and the help where nothing is said.
pub fn help_when_empty(options: &Options) -> Result<(), Stop> {
    if options.is_empty() {
        return Err(Stop::Usage(options.spec().about.to_string()));
    }
    help_or_version(options)
}

/// Milena's version and Kafka's level.
pub fn version() -> String {
    format!("Milena {} (Kafka 4.4.0)", env!("CARGO_PKG_VERSION"))
}

/// Writes to stdout. When nobody reads it any more the tool ends without a word, as a pipeline expects.
pub fn out(text: impl Display) {
    let mut stdout = std::io::stdout().lock();
    if stdout.is_terminal() {
        progress::hide();
    }
    if write!(stdout, "{text}")
        .and_then(|()| stdout.flush())
        .is_err()
    {
        std::process::exit(1);
    }
}

/// A log line on stderr as the JVM tools' configuration prints it.
pub fn log(level: &str, message: impl Display, logger: &str) {
    progress::hide();
    eprintln!("[{}] {level} {message} ({logger})", timestamp(now_millis()));
}

/// What `--print-metrics` prints: names with group and client, values to three places.
pub fn metrics(metrics: &[Metric], client_id: &str) {
    let name =
        |metric: &Metric| format!("{}:{}:{{client-id={client_id}}}", metric.group, metric.name);
    let rows: Vec<(String, f64)> = metrics.iter().map(|m| (name(m), m.value)).collect();
    let width = rows.iter().map(|(name, _)| name.len()).max().unwrap_or(0);
    let mut text = format!("\n{:<width$}   Value\n", "Metric Name");
    for (name, value) in rows {
        text += &format!("{name:<width$} : {value:.3}\n");
    }
    out(text);
}

/// Milliseconds since 1970.
pub fn now_millis() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.map_or(0, |since| since.as_millis() as i64)
}

/// `2026-11-23 13:42:29,123` (UTC).
pub fn timestamp(millis: i64) -> String {
    let (days, rest) = (millis.div_euclid(86_400_000), millis.rem_euclid(86_400_000));
    let (year, month, day) = civil(days);
    let (hours, minutes) = (rest / 3_600_000, rest / 60_000 % 60);
    let (seconds, millis) = (rest / 1000 % 60, rest % 1000);
    format!("{year:04}-{month:02}-{day:02} {hours:02}:{minutes:02}:{seconds:02},{millis:03}")
}

/// Days since 1970 as a date of the Gregorian calendar (years begin in March inside).
fn civil(days: i64) -> (i64, i64, i64) {
    let days = days + 719_468;
    let (era, day_of_era) = (days.div_euclid(146_097), days.rem_euclid(146_097));
    let year_of_era =
        (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * shifted + 2) / 5 + 1;
    let month = if shifted < 10 {
        shifted + 3
    } else {
        shifted - 9
    };
    let year = year_of_era + era * 400 + i64::from(month <= 2);
    (year, month, day)
}

/// A client's error with the name of the exception that Kafka's tools show for it.
pub fn with_exception(error: &Error) -> String {
    let class = match error {
        Error::Refused { code, .. } => exception(*code),
        Error::TimedOut { .. } | Error::NoAnswer { .. } => {
            "org.apache.kafka.common.errors.TimeoutException".into()
        }
        Error::Config(_) => "org.apache.kafka.common.config.ConfigException".into(),
        Error::Unsupported { .. } => {
            "org.apache.kafka.common.errors.UnsupportedVersionException".into()
        }
        _ => "org.apache.kafka.common.KafkaException".into(),
    };
    format!("{class}: {error}{}", because(error))
}

/// What went wrong last where a call ran out of time.
pub fn because(error: &Error) -> String {
    match error {
        Error::TimedOut {
            last: Some(last),
            after,
            ..
        } => format!(" (for {} s; last: {last})", after.as_secs_f32()),
        _ => String::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_are_the_calendars() {
        assert_eq!(timestamp(0), "1970-01-01 00:00:00,000");
        assert_eq!(timestamp(951_782_400_123), "2000-02-29 00:00:00,123");
        assert_eq!(timestamp(1_795_402_847_729), "2026-11-23 03:00:47,729");
        assert_eq!(timestamp(-1), "1969-12-31 23:59:59,999");
    }
}
