//! Flags of `kafka-console-producer`, and the properties that they make.

use crate::connect::{self, Properties};
use crate::options::{BOOTSTRAP_SERVER, HELP, Options, Spec, VERSION, switch, value};
use crate::say::{self, Stop, out};

pub const LINE_READER: &str = "org.apache.kafka.tools.LineMessageReader";

pub const SPEC: Spec = Spec {
    about: "Reads lines from standard input and writes each as a record to a topic.",
    flags: &[
        HELP,
        VERSION,
        value("topic", "topic", "REQUIRED: the topic to write to."),
        BOOTSTRAP_SERVER,
        switch(
            "sync",
            "Wait for the answer to each record before the next is read.",
        ),
        value(
            "compression-codec",
            "compression-codec",
            "none, gzip, snappy, lz4 or zstd; gzip where the flag has no value.",
        )
        .optional(),
        value("batch-size", "size", "Bytes of a batch (batch.size).").or("16384"),
        value(
            "message-send-max-retries",
            "retries",
            "How often a failed batch is sent again (retries).",
        )
        .or("3"),
        value(
            "retry-backoff-ms",
            "ms",
            "Pause before another try (retry.backoff.ms).",
        )
        .or("100"),
        value(
            "timeout",
            "timeout_ms",
            "How long a record waits for others to share a batch (linger.ms).",
        )
        .or("1000"),
        value(
            "request-required-acks",
            "request required acks",
            "Whose answer counts: 0, 1, -1 or all (acks).",
        )
        .or("-1"),
        value(
            "request-timeout-ms",
            "request timeout ms",
            "How long one answer is waited for (request.timeout.ms).",
        )
        .or("1500"),
        value(
            "metadata-expiry-ms",
            "metadata expiration interval",
            "After how long metadata is asked for again (metadata.max.age.ms).",
        )
        .or("300000"),
        value(
            "max-block-ms",
            "max block on send",
            "How long to wait for metadata or room (max.block.ms).",
        )
        .or("60000"),
        value(
            "max-memory-bytes",
            "total memory in bytes",
            "Bytes of records that may wait (buffer.memory).",
        )
        .or("33554432"),
        value(
            "max-partition-memory-bytes",
            "memory in bytes per partition",
            "Deprecated: as --batch-size, and stronger.",
        )
        .or("16384"),
        value(
            "line-reader",
            "reader_class",
            "The reader; only Kafka's line reader is known.",
        )
        .or(LINE_READER),
        value(
            "socket-buffer-size",
            "size",
            "Taken and ignored: the system sizes the buffer (send.buffer.bytes).",
        )
        .or("102400"),
        value("property", "prop", "Deprecated: as --reader-property."),
        value("reader-property", "prop", READER_HELP),
        value(
            "reader-config",
            "config file",
            "A file of properties for the reader; --reader-property is stronger.",
        ),
        value(
            "producer-property",
            "producer_prop",
            "Deprecated: as --command-property.",
        ),
        value(
            "command-property",
            "producer_prop",
            "A property of the producer, key=value; may be repeated.",
        ),
        value(
            "producer.config",
            "config file",
            "Deprecated: as --command-config.",
        ),
        value(
            "command-config",
            "config file",
            "A file of properties for the producer; --command-property is stronger.",
        ),
    ],
};

const READER_HELP: &str = "A property of the reader, key=value; may be repeated:\n\
parse.key=false, key.separator=\\t\n\
parse.headers=false, headers.delimiter=\\t, headers.separator=, headers.key.separator=:\n\
ignore.error=false\n\
null.marker: a field that equals this is null\n\
With both parsed a line is h1:v1,h2:v2\\tkey\\tvalue.";

/// Kafka's checks and warnings, in its order.
pub fn check(options: &Options) -> Result<(), Stop> {
    say::help_or_version(options)?;
    options.require(&["topic"]).map_err(Stop::Usage)?;
    for (new, old) in PAIRS {
        if options.has(new) && options.has(old) {
            return Err(Stop::Usage(format!(
                "Options --{new} and --{old} cannot be specified together."
            )));
        }
    }
    for (old, when, new) in DEPRECATED {
        if options.has(old) {
            out(format_args!(
                "Warning: --{old} is deprecated and will be removed in {when}. Use --{new} instead.\n"
            ));
        }
    }
    options.require(&["bootstrap-server"]).map_err(Stop::Usage)
}

const PAIRS: [(&str, &str); 3] = [
    ("command-config", "producer.config"),
    ("command-property", "producer-property"),
    ("reader-property", "property"),
];
const DEPRECATED: [(&str, &str, &str); 4] = [
    ("producer-property", "a future version", "command-property"),
    ("producer.config", "a future version", "command-config"),
    ("property", "a future version", "reader-property"),
    (
        "max-partition-memory-bytes",
        "Apache Kafka 5.0",
        "batch-size",
    ),
];

/// Which flag feeds which key, where the properties do not have it already.
const KEYS: [(&str, &str); 9] = [
    ("request-required-acks", "acks"),
    ("request-timeout-ms", "request.timeout.ms"),
    ("message-send-max-retries", "retries"),
    ("retry-backoff-ms", "retry.backoff.ms"),
    ("max-memory-bytes", "buffer.memory"),
    ("batch-size", "batch.size"),
    ("metadata-expiry-ms", "metadata.max.age.ms"),
    ("max-block-ms", "max.block.ms"),
    ("timeout", "linger.ms"),
];

/// The producer's properties: file, then pairs, then flags that were given, then defaults of flags.
pub fn producer_properties(options: &Options) -> Result<Properties, String> {
    let mut properties = match options
        .value("command-config")?
        .or(options.value("producer.config")?)
    {
        Some(path) => connect::load(path)?,
        None => Properties::new(),
    };
    properties.extend(connect::pairs(&options.values("producer-property"))?);
    properties.extend(connect::pairs(&options.values("command-property"))?);
    for (flag, key) in KEYS {
        let value = options.value(flag)?.unwrap_or_default();
        if options.has(flag) || !properties.contains_key(key) {
            properties.insert(key.to_string(), value.to_string());
        }
    }
    if options.has("max-partition-memory-bytes") {
        let bytes = options
            .value("max-partition-memory-bytes")?
            .unwrap_or_default();
        properties.insert("batch.size".into(), bytes.into());
    }
    let servers = options.value("bootstrap-server")?.unwrap_or_default();
    properties.insert("bootstrap.servers".into(), servers.into());
    let codec = match options.has("compression-codec") {
        true => options
            .value("compression-codec")?
            .filter(|c| !c.is_empty())
            .unwrap_or("gzip"),
        false => "none",
    };
    properties.insert("compression.type".into(), codec.into());
    let id = properties.entry("client.id".into());
    id.or_insert_with(|| "console-producer".to_string());
    Ok(properties)
}

/// The reader's properties.
pub fn reader_properties(options: &Options) -> Result<Properties, String> {
    let mut properties = match options.value("reader-config")? {
        Some(path) => connect::load(path)?,
        None => Properties::new(),
    };
    properties.extend(connect::pairs(&options.values("property"))?);
    properties.extend(connect::pairs(&options.values("reader-property"))?);
    Ok(properties)
}
