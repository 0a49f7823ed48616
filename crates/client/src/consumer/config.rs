//! A consumer's properties.

use std::collections::BTreeMap;
use std::time::Duration;

use milena_protocol::Str;

use super::assignor::Assignor;
use crate::Error;
use crate::config::{Properties, invalid};

/// Where to begin where there is no offset to continue from (`auto.offset.reset`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reset {
    Earliest,
    Latest,
    /// It is an error.
    None,
}

impl Reset {
    /// The special timestamp in ListOffsets.
    pub fn timestamp(self) -> Option<i64> {
        match self {
            Reset::Earliest => Some(-2),
            Reset::Latest => Some(-1),
            Reset::None => None,
        }
    }
}

/// What a consumer does, by Kafka's keys.
#[derive(Clone, Debug)]
pub struct ConsumerConfig {
    pub group_id: Option<Str>,
    pub instance_id: Option<Str>,
    pub reset: Reset,
    pub auto_commit: bool,
    pub auto_commit_interval: Duration,
    pub read_committed: bool,
    pub session_timeout: Duration,
    pub heartbeat_interval: Duration,
    pub poll_interval_max: Duration,
    pub fetch_bytes_min: i32,
    pub fetch_bytes_max: i32,
    pub fetch_wait_max: Duration,
    pub partition_bytes_max: i32,
    pub check_crcs: bool,
    pub auto_create_topics: bool,
    pub exclude_internal_topics: bool,
    pub assignors: Vec<Assignor>,
}

impl ConsumerConfig {
    /// From properties, with Kafka's defaults.
    pub fn new(properties: &BTreeMap<String, String>) -> Result<ConsumerConfig, Error> {
        let read = Properties(properties);
        if read.choice("group.protocol", "classic", &["classic", "consumer"])? == "consumer" {
            return Err(Error::Config(
                "group.protocol=consumer is not built yet in Milena's tools; classic is".into(),
            ));
        }
        let int = i64::from(i32::MAX);
        let text = |key: &str| read.text(key).filter(|t| !t.is_empty()).map(Str::copy);
        let levels = ["read_uncommitted", "read_committed"];
        let isolation = read.choice("isolation.level", levels[0], &levels)?;
        Ok(ConsumerConfig {
            group_id: text("group.id"),
            instance_id: text("group.instance.id"),
            reset: reset(&read)?,
            auto_commit: read.flag("enable.auto.commit", true)?,
            auto_commit_interval: read.millis("auto.commit.interval.ms", 5_000)?,
            read_committed: isolation == "read_committed",
            session_timeout: read.millis("session.timeout.ms", 45_000)?,
            heartbeat_interval: read.millis("heartbeat.interval.ms", 3_000)?,
            poll_interval_max: read.millis("max.poll.interval.ms", 300_000)?,
            fetch_bytes_min: read.long("fetch.min.bytes", 1, 0, int)? as i32,
            fetch_bytes_max: read.long("fetch.max.bytes", 52_428_800, 0, int)? as i32,
            fetch_wait_max: read.millis("fetch.max.wait.ms", 500)?,
            partition_bytes_max: read.long("max.partition.fetch.bytes", 1_048_576, 0, int)? as i32,
            check_crcs: read.flag("check.crcs", true)?,
            auto_create_topics: read.flag("allow.auto.create.topics", true)?,
            exclude_internal_topics: read.flag("exclude.internal.topics", true)?,
            assignors: assignors(&read)?,
        })
    }
}

fn reset(read: &Properties) -> Result<Reset, Error> {
    match read.text("auto.offset.reset").unwrap_or("latest") {
        "earliest" => Ok(Reset::Earliest),
        "latest" => Ok(Reset::Latest),
        "none" => Ok(Reset::None),
        other => Err(invalid(
            "auto.offset.reset",
            other,
            "String must be one of: latest, earliest, none (by_duration is not built yet)",
        )),
    }
}

fn assignors(read: &Properties) -> Result<Vec<Assignor>, Error> {
    let key = "partition.assignment.strategy";
    let Some(text) = read.text(key) else {
        return Ok(vec![Assignor::Range, Assignor::CooperativeSticky]);
    };
    let names = text
        .split(',')
        .map(str::trim)
        .filter(|name| !name.is_empty());
    let known = |name: &str| {
        let why = "only RangeAssignor and CooperativeStickyAssignor are known";
        Assignor::from_name(name).ok_or_else(|| invalid(key, name, why))
    };
    let assignors = names.map(known).collect::<Result<Vec<_>, _>>()?;
    match assignors.is_empty() {
        false => Ok(assignors),
        true => Err(invalid(key, text, "at least one assignor is needed")),
    }
}
