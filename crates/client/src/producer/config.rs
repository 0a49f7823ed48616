//! A producer's properties.

use std::collections::BTreeMap;
use std::time::Duration;

use milena_records::{Codec, Compression};

use crate::Error;
use crate::config::{Properties, invalid};

/// What a producer does, by Kafka's keys.
#[derive(Clone, Debug)]
pub struct ProducerConfig {
    /// −1 (all), 0 or 1.
    pub acks: i16,
    pub idempotent: bool,
    pub codec: Codec,
    pub batch_bytes: usize,
    pub linger: Duration,
    /// Requests that may be under way to one broker.
    pub in_flight_max: usize,
    pub retries_max: u32,
    pub request_timeout: Duration,
    pub delivery_timeout: Duration,
    pub block_max: Duration,
    pub buffer_bytes_max: usize,
    pub request_bytes_max: usize,
}

impl ProducerConfig {
    /// From properties, with Kafka's defaults and its rules for what goes together.
    pub fn new(properties: &BTreeMap<String, String>) -> Result<ProducerConfig, Error> {
        let read = Properties(properties);
        let int = i64::from(i32::MAX);
        let acks = match read.choice("acks", "all", &["all", "-1", "0", "1"])? {
            "0" => 0,
            "1" => 1,
            _ => -1,
        };
        let retries_max = read.long("retries", int, 0, int)? as u32;
        let in_flight = read.long("max.in.flight.requests.per.connection", 5, 1, int)?;
        Ok(ProducerConfig {
            acks,
            idempotent: idempotence(&read, acks, retries_max, in_flight)?,
            codec: codec(&read)?,
            batch_bytes: read.long("batch.size", 16_384, 0, int)? as usize,
            linger: read.millis("linger.ms", 5)?,
            in_flight_max: in_flight as usize,
            retries_max,
            request_timeout: read.millis("request.timeout.ms", 30_000)?,
            delivery_timeout: read.millis("delivery.timeout.ms", 120_000)?,
            block_max: read.millis("max.block.ms", 60_000)?,
            buffer_bytes_max: read.long("buffer.memory", 33_554_432, 0, i64::MAX)? as usize,
            request_bytes_max: read.long("max.request.size", 1_048_576, 0, int)? as usize,
        })
    }
}

/// On by default, off by itself where another setting forbids it, an error where both were asked for.
fn idempotence(
    read: &Properties,
    acks: i16,
    retries_max: u32,
    in_flight: i64,
) -> Result<bool, Error> {
    let asked = read.text("enable.idempotence").is_some();
    if !read.flag("enable.idempotence", true)? {
        return Ok(false);
    }
    let hindrance = if acks != -1 {
        "Must set acks to all in order to use the idempotent producer."
    } else if retries_max == 0 {
        "Must set retries to non-zero when using the idempotent producer."
    } else if in_flight > 5 {
        "Must set max.in.flight.requests.per.connection to at most 5 to use the idempotent producer."
    } else {
        return Ok(true);
    };
    match asked {
        true => Err(Error::Config(hindrance.to_string())),
        false => Ok(false),
    }
}

fn codec(read: &Properties) -> Result<Codec, Error> {
    let name = read.text("compression.type").unwrap_or("none");
    let compression = Compression::from_name(name).ok_or_else(|| {
        invalid(
            "compression.type",
            name,
            "String must be one of: none, gzip, snappy, lz4, zstd",
        )
    })?;
    let mut codec = Codec::of(compression);
    let key = match compression {
        Compression::Gzip => "compression.gzip.level",
        Compression::Lz4 => "compression.lz4.level",
        Compression::Zstd => "compression.zstd.level",
        Compression::None | Compression::Snappy => return Ok(codec),
    };
    let (min, max) = match compression {
        Compression::Gzip => (-1, 9),
        Compression::Lz4 => (1, 17),
        _ => (-131_072, 22),
    };
    let level = read.long(
        key,
        codec.level.into(),
        i64::from(i32::MIN),
        i64::from(i32::MAX),
    )?;
    if !(min..=max).contains(&level) || (compression == Compression::Gzip && level == 0) {
        let why = format!("Value must be between {min} and {max}");
        return Err(invalid(key, &level.to_string(), &why));
    }
    codec.level = level as i32;
    Ok(codec)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(pairs: &[(&str, &str)]) -> Result<ProducerConfig, Error> {
        let pairs = pairs.iter().map(|(k, v)| (k.to_string(), v.to_string()));
        ProducerConfig::new(&pairs.collect())
    }

    #[test]
    fn idempotence_is_on_unless_something_forbids_it() {
        assert!(config(&[]).unwrap().idempotent);
        assert!(!config(&[("acks", "1")]).unwrap().idempotent);
        assert!(!config(&[("retries", "0")]).unwrap().idempotent);
        assert!(config(&[("acks", "1"), ("enable.idempotence", "true")]).is_err());
    }

    #[test]
    fn a_bad_value_is_named_as_kafka_names_it() {
        assert_eq!(
            config(&[("acks", "7")]).unwrap_err().to_string(),
            "Invalid value 7 for configuration acks: String must be one of: all, -1, 0, 1"
        );
        assert!(config(&[("compression.type", "brotli")]).is_err());
        assert!(
            config(&[
                ("compression.type", "gzip"),
                ("compression.gzip.level", "12")
            ])
            .is_err()
        );
    }
}
