//! Flags of `kafka-console-consumer`, and what they mean together.

use std::collections::BTreeSet;

use milena_client::consumer::Start;

use crate::connect::{self, Properties};
use crate::options::{BOOTSTRAP_SERVER, HELP, Options, Spec, VERSION, switch, value};
use crate::say::{self, Stop, out};

pub const DEFAULT_FORMATTER: &str = "org.apache.kafka.tools.consumer.DefaultMessageFormatter";

pub const SPEC: Spec = Spec {
    about: "Reads records from topics and writes them to standard output.",
    flags: &[
        HELP,
        VERSION,
        value("topic", "topic", "The topic to read."),
        value("include", "Java regex (String)", "A regular expression over names of topics to read; commas separate alternatives."),
        value("partition", "partition", "The one partition to read, without a group; from its end unless --offset says otherwise."),
        value("offset", "consume offset", "Where to begin: an offset, earliest or latest.").or("latest"),
        value("consumer-property", "consumer_prop", "Deprecated: as --command-property."),
        value("command-property", "consumer_prop", "A property of the consumer, key=value; may be repeated."),
        value("consumer.config", "config file", "Deprecated: as --command-config."),
        value("command-config", "config file", "A file of properties for the consumer; --command-property is stronger."),
        value("formatter", "class", "The name of Kafka's formatter: Default-, Logging-, NoOp-, Offsets-, GroupMetadata-, TransactionLog- or ShareGroupStateMessageFormatter.").or(DEFAULT_FORMATTER),
        value("property", "prop", "Deprecated: as --formatter-property."),
        value("formatter-property", "prop", FORMATTER_HELP),
        value("formatter-config", "config file", "A file of properties for the formatter; --formatter-property is stronger."),
        switch("from-beginning", "Begin with the first record where the group has no offset yet, instead of the next new one."),
        value("max-messages", "num_messages", "How many records to read; without it there is no end."),
        value("timeout-ms", "timeout_ms", "End when no record comes for so long."),
        switch("skip-message-on-error", "Go on after a record that can't be written."),
        BOOTSTRAP_SERVER,
        value("key-deserializer", "deserializer for keys", "As the formatter's key.deserializer."),
        value("value-deserializer", "deserializer for values", "As the formatter's value.deserializer."),
        switch("enable-systest-events", "Say when the consumer has ended."),
        value("isolation-level", "level", "read_committed leaves out what transactions did not commit.").or("read_uncommitted"),
        value("group", "consumer group id", "The consumer group; without it one of its own that commits nothing."),
    ],
};

const FORMATTER_HELP: &str = "A property of the formatter, key=value; may be repeated:\n\
print.timestamp, print.partition, print.offset, print.epoch, print.headers, print.key, print.value: true or false\n\
key.separator, line.separator, headers.separator, null.literal: text\n\
key.deserializer, value.deserializer, headers.deserializer: one of Kafka's classes for strings and numbers";

/// Kafka's checks and warnings, in its order.
pub fn check(options: &Options) -> Result<(), Stop> {
    say::help_or_version(options)?;
    let usage = |message: &str| Err(Stop::Usage(message.to_string()));
    if options.count_of(&["topic", "include"]) != 1 {
        return usage("Exactly one of the following arguments is required: [topic], [include]");
    }
    if options.has("partition") {
        if !options.has("topic") {
            return usage("The topic is required when partition is specified.");
        }
        if options.has("from-beginning") && options.has("offset") {
            return usage("Options from-beginning and offset cannot be specified together.");
        }
    } else if options.has("offset") {
        return usage("The partition is required when offset is specified.");
    }
    options
        .require(&["bootstrap-server"])
        .map_err(Stop::Usage)?;
    for (old, new) in PAIRS {
        if options.has(old) && options.has(new) {
            return Err(Stop::Usage(format!(
                "Options --{old} and --{new} cannot be specified together."
            )));
        }
    }
    for (old, new) in PAIRS {
        if options.has(old) {
            out(format_args!(
                "Option --{old} is deprecated and will be removed in a future version. Use --{new} instead.\n"
            ));
        }
    }
    Ok(())
}

const PAIRS: [(&str, &str); 3] = [
    ("consumer-property", "command-property"),
    ("consumer.config", "command-config"),
    ("property", "formatter-property"),
];

/// The consumer's properties. `random` makes the name of a group of one's own.
pub fn consumer_properties(options: &Options, random: u64) -> Result<Properties, Stop> {
    let file = options
        .value("command-config")?
        .or(options.value("consumer.config")?);
    let file = match file {
        Some(path) => connect::load(path)?,
        None => Properties::new(),
    };
    let mut given = connect::pairs(&options.values("consumer-property"))?;
    given.extend(connect::pairs(&options.values("command-property"))?);
    let groups: BTreeSet<&str> = [options.value("group")?]
        .into_iter()
        .chain([file.get("group.id"), given.get("group.id")].map(|id| id.map(String::as_str)))
        .flatten()
        .collect();
    if groups.len() > 1 {
        let listed: Vec<String> = groups.iter().map(|group| format!("'{group}'")).collect();
        return Err(Stop::Usage(format!(
            "The group ids provided in different places (directly using '--group', via '--command-property', or via '--command-config') do not match. Detected group ids: {}",
            listed.join(", ")
        )));
    }
    if !groups.is_empty() && options.has("partition") {
        return Err(Stop::Usage(
            "Options group and partition cannot be specified together.".into(),
        ));
    }
    let group = groups.first().map(|group| group.to_string());
    let mut properties = file.clone();
    properties.extend(given);
    begin(options, &mut properties)?;
    let servers = options.value("bootstrap-server")?.unwrap_or_default();
    properties.insert("bootstrap.servers".into(), servers.into());
    let id = properties.entry("client.id".into());
    id.or_insert_with(|| "console-consumer".into());
    if options.has("isolation-level") || !properties.contains_key("isolation.level") {
        let level = options.value("isolation-level")?.unwrap_or_default();
        properties.insert("isolation.level".into(), level.into());
    }
    if group.is_none() {
        let commit = properties.entry("enable.auto.commit".into());
        commit.or_insert_with(|| "false".into());
    }
    let group = group.unwrap_or_else(|| format!("console-consumer-{}", random % 100_000));
    properties.insert("group.id".into(), group);
    Ok(properties)
}

fn begin(options: &Options, properties: &mut Properties) -> Result<(), Stop> {
    let from_beginning = options.has("from-beginning");
    match properties.get("auto.offset.reset") {
        Some(other) if from_beginning && other != "earliest" => Err(Stop::Message(format!(
            "Can't simultaneously specify --from-beginning and 'auto.offset.reset={other}', please remove one option"
        ))),
        Some(_) => Ok(()),
        None => {
            let reset = if from_beginning { "earliest" } else { "latest" };
            properties.insert("auto.offset.reset".into(), reset.into());
            Ok(())
        }
    }
}

/// Where `--partition` begins.
pub fn start(options: &Options) -> Result<Start, Stop> {
    if !options.has("offset") {
        let timestamp = if options.has("from-beginning") {
            -2
        } else {
            -1
        };
        return Ok(Start::Timestamp(timestamp));
    }
    let text = options.value("offset")?.unwrap_or_default();
    match text.to_lowercase().as_str() {
        "earliest" => Ok(Start::Timestamp(-2)),
        "latest" => Ok(Start::Timestamp(-1)),
        number => match number.parse() {
            Ok(offset @ 0..) => Ok(Start::Offset(offset)),
            _ => Err(Stop::Usage(format!(
                "The provided offset value '{text}' is incorrect. Valid values are 'earliest', 'latest', or a non-negative long."
            ))),
        },
    }
}

/// The formatter's properties.
pub fn formatter_properties(options: &Options) -> Result<Properties, String> {
    let mut properties = match options.value("formatter-config")? {
        Some(path) => connect::load(path)?,
        None => Properties::new(),
    };
    for side in ["key", "value"] {
        let flag = format!("{side}-deserializer");
        if let Some(class) = options.value(&flag)?.filter(|class| !class.is_empty()) {
            properties.insert(format!("{side}.deserializer"), class.into());
        }
    }
    properties.extend(connect::pairs(&options.values("property"))?);
    properties.extend(connect::pairs(&options.values("formatter-property"))?);
    Ok(properties)
}
