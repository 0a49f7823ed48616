//! A topic's settings: every topic key resolved from the topic's own configs, the broker's, and the defaults.

use std::collections::BTreeMap;

use crate::alter::Refused;
use crate::key::{Key, Scope, keys};
use crate::node::NodeConfig;
use crate::value::{Invalid, Value};

/// `cleanup.policy`. Neither: records stay for ever.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CleanupPolicy {
    pub delete: bool,
    pub compact: bool,
}

/// `compression.type`: what batches are stored with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CompressionType {
    /// As the producer sent them.
    Producer,
    Uncompressed,
    /// Level 1 to 9, −1 for the codec's default.
    Gzip {
        level: i32,
    },
    Snappy,
    /// Level 1 to 17.
    Lz4 {
        level: i32,
    },
    /// Level −131072 to 22.
    Zstd {
        level: i32,
    },
}

/// `message.timestamp.type`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TimestampType {
    CreateTime,
    LogAppendTime,
}

/// Every topic key, resolved. `None` stands for "no limit".
#[derive(Clone, Debug, PartialEq)]
pub struct TopicSettings {
    pub cleanup_policy: CleanupPolicy,
    pub compression_type: CompressionType,
    /// How long a tombstone stays after compaction passed it.
    pub delete_retention_ms: i64,
    /// How long a removed file lies around renamed.
    pub file_delete_delay_ms: i64,
    /// fsync after this many records; `i64::MAX` never does.
    pub flush_messages: i64,
    /// fsync after this long; `i64::MAX` never does.
    pub flush_ms: i64,
    pub follower_replication_throttled_replicas: Vec<String>,
    pub leader_replication_throttled_replicas: Vec<String>,
    pub index_interval_bytes: i32,
    /// As `segment_bytes`, but below its lower bound: for tests of Kafka's.
    pub internal_segment_bytes: Option<i32>,
    /// Bytes kept locally when older ones are in remote storage; −2 for `retention.bytes`.
    pub local_retention_bytes: i64,
    /// Time kept locally when older records are in remote storage; −2 for `retention.ms`.
    pub local_retention_ms: i64,
    pub max_compaction_lag_ms: i64,
    /// Largest batch, in bytes as it comes.
    pub max_message_bytes: i32,
    /// Largest batch, in bytes after decompression.
    pub max_decompressed_message_bytes: i32,
    pub message_timestamp_after_max_ms: i64,
    pub message_timestamp_before_max_ms: i64,
    pub message_timestamp_type: TimestampType,
    pub min_cleanable_dirty_ratio: f64,
    pub min_compaction_lag_ms: i64,
    pub min_insync_replicas: i32,
    pub preallocate: bool,
    pub remote_log_copy_disable: bool,
    pub remote_log_delete_on_disable: bool,
    pub remote_storage_enable: bool,
    pub retention_bytes: Option<i64>,
    pub retention_ms: Option<i64>,
    pub segment_bytes: i32,
    pub segment_index_bytes: i32,
    pub segment_jitter_ms: i64,
    pub segment_ms: i64,
    pub unclean_leader_election_enable: bool,
    pub errors_deadletterqueue_group_enable: bool,
    pub remote_copy_lag_bytes: i64,
    pub remote_copy_lag_ms: i64,
}

/// The keys of a topic with a value for each, before they become [`TopicSettings`].
pub(crate) type TopicValues = BTreeMap<&'static str, Option<Value>>;

impl TopicSettings {
    /// Settings of a topic that sets nothing itself.
    pub fn defaults(config: &NodeConfig) -> TopicSettings {
        TopicSettings::from_values(&broker_values(config))
    }

    /// Settings of a topic with these configs of its own, on a broker with this (effective) configuration.
    ///
    /// # Errors
    /// The first value that does not parse; unknown keys are ignored, since a newer controller may have written them.
    pub fn resolve(
        config: &NodeConfig,
        own: &BTreeMap<String, String>,
    ) -> Result<TopicSettings, Invalid> {
        Ok(TopicSettings::from_values(&resolve_values(config, own)?))
    }

    /// As [`TopicSettings::resolve`], leaving out what does not parse; the messages say what was left out.
    pub fn resolve_lenient(
        config: &NodeConfig,
        own: &BTreeMap<String, String>,
    ) -> (TopicSettings, Vec<Invalid>) {
        let mut values = broker_values(config);
        let mut refused = Vec::new();
        for (name, text) in own {
            let Some(key) = keys(Scope::Topic).get(name) else {
                continue;
            };
            match key.parse(text) {
                Ok(value) => drop(values.insert(key.name, Some(value))),
                Err(invalid) => refused.push(invalid),
            }
        }
        (TopicSettings::from_values(&values), refused)
    }

    /// Where a segment is rolled by time: `segment.ms`, or sooner where compaction must come sooner.
    pub fn segment_ms_max(&self) -> i64 {
        if self.cleanup_policy.compact && self.max_compaction_lag_ms > 0 {
            self.segment_ms.min(self.max_compaction_lag_ms)
        } else {
            self.segment_ms
        }
    }

    /// Size at which a segment is rolled.
    pub fn segment_size(&self) -> i32 {
        self.internal_segment_bytes.unwrap_or(self.segment_bytes)
    }

    pub(crate) fn from_values(values: &TopicValues) -> TopicSettings {
        let of = Reader(values);
        TopicSettings {
            cleanup_policy: CleanupPolicy {
                delete: of
                    .list("cleanup.policy")
                    .iter()
                    .any(|policy| policy == "delete"),
                compact: of
                    .list("cleanup.policy")
                    .iter()
                    .any(|policy| policy == "compact"),
            },
            compression_type: of.compression(),
            delete_retention_ms: of.long("delete.retention.ms"),
            file_delete_delay_ms: of.long("file.delete.delay.ms"),
            flush_messages: of.long("flush.messages"),
            flush_ms: of.long("flush.ms"),
            follower_replication_throttled_replicas: of
                .list("follower.replication.throttled.replicas"),
            leader_replication_throttled_replicas: of.list("leader.replication.throttled.replicas"),
            index_interval_bytes: of.int("index.interval.bytes"),
            internal_segment_bytes: of.int_option("internal.segment.bytes"),
            local_retention_bytes: of.long("local.retention.bytes"),
            local_retention_ms: of.long("local.retention.ms"),
            max_compaction_lag_ms: of.long("max.compaction.lag.ms"),
            max_message_bytes: of.int("max.message.bytes"),
            max_decompressed_message_bytes: of.int("max.decompressed.message.bytes"),
            message_timestamp_after_max_ms: of.long("message.timestamp.after.max.ms"),
            message_timestamp_before_max_ms: of.long("message.timestamp.before.max.ms"),
            message_timestamp_type: match of.text("message.timestamp.type") {
                "LogAppendTime" => TimestampType::LogAppendTime,
                _ => TimestampType::CreateTime,
            },
            min_cleanable_dirty_ratio: of.double("min.cleanable.dirty.ratio"),
            min_compaction_lag_ms: of.long("min.compaction.lag.ms"),
            min_insync_replicas: of.int("min.insync.replicas"),
            preallocate: of.boolean("preallocate"),
            remote_log_copy_disable: of.boolean("remote.log.copy.disable"),
            remote_log_delete_on_disable: of.boolean("remote.log.delete.on.disable"),
            remote_storage_enable: of.boolean("remote.storage.enable"),
            retention_bytes: of.limit("retention.bytes"),
            retention_ms: of.limit("retention.ms"),
            segment_bytes: of.int("segment.bytes"),
            segment_index_bytes: of.int("segment.index.bytes"),
            segment_jitter_ms: of.long("segment.jitter.ms"),
            segment_ms: of.long("segment.ms"),
            unclean_leader_election_enable: of.boolean("unclean.leader.election.enable"),
            errors_deadletterqueue_group_enable: of.boolean("errors.deadletterqueue.group.enable"),
            remote_copy_lag_bytes: of.long("remote.copy.lag.bytes"),
            remote_copy_lag_ms: of.long("remote.copy.lag.ms"),
        }
    }
}

/// Typed reading of resolved values; each is there and of its type, since the table says so.
struct Reader<'a>(&'a TopicValues);

impl Reader<'_> {
    fn value(&self, key: &str) -> Option<&Value> {
        self.0
            .get(key)
            .unwrap_or_else(|| panic!("no topic key {key}"))
            .as_ref()
    }

    fn long(&self, key: &str) -> i64 {
        let value = self.value(key);
        value
            .and_then(Value::integer)
            .unwrap_or_else(|| panic!("{key} is no number: {value:?}"))
    }

    fn int_option(&self, key: &str) -> Option<i32> {
        match self.value(key)? {
            Value::Int(value) => Some(*value),
            other => panic!("{key} is no INT: {other:?}"),
        }
    }

    fn int(&self, key: &str) -> i32 {
        self.int_option(key)
            .unwrap_or_else(|| panic!("{key} is null"))
    }

    /// A number where a negative one means that there is no limit.
    fn limit(&self, key: &str) -> Option<i64> {
        Some(self.long(key)).filter(|limit| *limit >= 0)
    }

    fn double(&self, key: &str) -> f64 {
        match self.value(key) {
            Some(Value::Double(value)) => *value,
            other => panic!("{key} is no DOUBLE: {other:?}"),
        }
    }

    fn boolean(&self, key: &str) -> bool {
        match self.value(key) {
            Some(Value::Boolean(value)) => *value,
            other => panic!("{key} is no BOOLEAN: {other:?}"),
        }
    }

    fn text(&self, key: &str) -> &str {
        match self.value(key) {
            Some(Value::String(text)) => text,
            other => panic!("{key} is no STRING: {other:?}"),
        }
    }

    fn list(&self, key: &str) -> Vec<String> {
        match self.value(key) {
            Some(Value::List(items)) => items.clone(),
            other => panic!("{key} is no LIST: {other:?}"),
        }
    }

    fn compression(&self) -> CompressionType {
        match self.text("compression.type") {
            "uncompressed" => CompressionType::Uncompressed,
            "gzip" => CompressionType::Gzip {
                level: self.int("compression.gzip.level"),
            },
            "snappy" => CompressionType::Snappy,
            "lz4" => CompressionType::Lz4 {
                level: self.int("compression.lz4.level"),
            },
            "zstd" => CompressionType::Zstd {
                level: self.int("compression.zstd.level"),
            },
            _ => CompressionType::Producer,
        }
    }
}

/// What a broker's configuration makes of every topic key.
pub(crate) fn broker_values(config: &NodeConfig) -> TopicValues {
    keys(Scope::Topic)
        .iter()
        .map(|key| (key.name, broker_value(config, key)))
        .collect()
}

/// The first of the broker's keys that has a value, else the topic key's own default.
fn broker_value(config: &NodeConfig, key: &Key) -> Option<Value> {
    for synonym in &key.synonyms {
        let Some(value) = config.value(synonym.name) else {
            continue;
        };
        let Some(number) = value
            .integer()
            .filter(|_| key.kind == crate::key::Type::Long)
        else {
            return Some(value.clone());
        };
        let number = number.saturating_mul(synonym.factor);
        // Kafka takes any negative retention of the broker's as "for ever".
        let number = if key.name == "retention.ms" {
            number.max(-1)
        } else {
            number
        };
        return Some(Value::Long(number));
    }
    key.default.clone()
}

/// The broker's values with a topic's own laid over them.
pub(crate) fn resolve_values(
    config: &NodeConfig,
    own: &BTreeMap<String, String>,
) -> Result<TopicValues, Invalid> {
    let mut values = broker_values(config);
    for (name, text) in own {
        if let Some(key) = keys(Scope::Topic).get(name) {
            values.insert(key.name, Some(key.parse(text)?));
        }
    }
    Ok(values)
}

/// The rules between a topic's keys, as the controller checks them.
pub(crate) fn check_rules(
    config: &NodeConfig,
    old: &BTreeMap<String, String>,
    new: &TopicSettings,
) -> Result<(), Refused> {
    let (min, max) = (new.min_compaction_lag_ms, new.max_compaction_lag_ms);
    if min > max {
        return Err(Refused::config(format!(
            "conflict topic config setting min.compaction.lag.ms ({min}) > \
             max.compaction.lag.ms ({max})"
        )));
    }
    if new.remote_storage_enable {
        return check_remote(config, new);
    }
    let was_remote = old
        .get("remote.storage.enable")
        .is_some_and(|v| v.eq_ignore_ascii_case("true"));
    if was_remote && !new.remote_log_delete_on_disable {
        return Err(Refused::config(
            "It is invalid to disable remote storage without deleting remote data. If you want to \
             keep the remote data and turn to read only, please set \
             `remote.storage.enable=true,remote.log.copy.disable=true`. If you want to disable \
             remote storage and delete all remote data, please set \
             `remote.storage.enable=false,remote.log.delete.on.disable=true`.",
        ));
    }
    Ok(())
}

fn check_remote(config: &NodeConfig, new: &TopicSettings) -> Result<(), Refused> {
    if !config.boolean("remote.log.storage.system.enable") {
        return Err(Refused::config(
            "Tiered Storage functionality is disabled in the broker. Topic cannot be configured \
             with remote log storage.",
        ));
    }
    if new.cleanup_policy.compact {
        return Err(Refused::config(
            "Remote log storage only supports topics with cleanup.policy=delete or cleanup.policy \
             being an empty list.",
        ));
    }
    for unit in ["bytes", "ms"] {
        check_local_retention(new, unit)?;
    }
    for unit in ["bytes", "ms"] {
        check_copy_lag(new, unit)?;
    }
    for unit in ["bytes", "ms"] {
        check_copy_disabled(new, unit)?;
    }
    Ok(())
}

/// Retention and local retention in one unit, −1 for no limit, −2 for "the same".
fn retentions(new: &TopicSettings, unit: &str) -> (i64, i64) {
    match unit {
        "bytes" => (new.retention_bytes.unwrap_or(-1), new.local_retention_bytes),
        _ => (new.retention_ms.unwrap_or(-1), new.local_retention_ms),
    }
}

fn check_local_retention(new: &TopicSettings, unit: &str) -> Result<(), Refused> {
    let (all, local) = retentions(new, unit);
    let why = match local {
        _ if all == -1 || local == -2 => return Ok(()),
        -1 => format!("Value must not be -1 as retention.{unit} value is set as {all}."),
        _ if local > all => {
            format!("Value must not be more than retention.{unit} property value: {all}")
        }
        _ => return Ok(()),
    };
    Err(Invalid::value(&format!("local.retention.{unit}"), &local.to_string(), &why).into())
}

fn check_copy_lag(new: &TopicSettings, unit: &str) -> Result<(), Refused> {
    let (all, local) = retentions(new, unit);
    let effective = if local == -2 { all } else { local };
    let lag = if unit == "bytes" {
        new.remote_copy_lag_bytes
    } else {
        new.remote_copy_lag_ms
    };
    if lag <= 0 || effective < 0 || lag <= effective {
        return Ok(());
    }
    let why =
        format!("Value must not exceed local.retention.{unit} (effective value: {effective})");
    Err(Invalid::value(&format!("remote.copy.lag.{unit}"), &lag.to_string(), &why).into())
}

fn check_copy_disabled(new: &TopicSettings, unit: &str) -> Result<(), Refused> {
    let (all, local) = retentions(new, unit);
    if !new.remote_log_copy_disable || local == -2 || local == all {
        return Ok(());
    }
    Err(Refused::config(format!(
        "When `remote.log.copy.disable` is set to true, the `local.retention.{unit}` and \
         `retention.{unit}` must be set to the identical value because there will be no more logs \
         copied to the remote storage."
    )))
}
