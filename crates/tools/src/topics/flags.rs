//! Flags of `kafka-topics` and which of them go together.

use crate::options::{
    BOOTSTRAP_SERVER, COMMAND_CONFIG, HELP, Options, Spec, VERSION, switch, value,
};
use crate::say::{self, Stop};

const ACTIONS: [&str; 5] = ["alter", "create", "describe", "list", "delete"];
const REPORTS: [&str; 4] = [
    "under-replicated-partitions",
    "under-min-isr-partitions",
    "at-min-isr-partitions",
    "unavailable-partitions",
];

pub const SPEC: Spec = Spec {
    about: "Creates, lists, describes, alters and deletes topics.",
    flags: &[
        HELP,
        VERSION,
        BOOTSTRAP_SERVER,
        COMMAND_CONFIG,
        switch("list", "List the names of topics."),
        switch("create", "Create a topic."),
        switch("delete", "Delete topics."),
        switch(
            "alter",
            "Give topics more partitions. (kafka-configs changes their configs.)",
        ),
        switch(
            "describe",
            "Show partitions, replicas and configs of topics.",
        ),
        value(
            "topic",
            "topic",
            "The topic's name; but with --create also a regular expression over whole names.",
        ),
        value("topic-id", "topic-id", "The id of the topic to describe."),
        value(
            "config",
            "name=value",
            "A config of the topic that is created; may be repeated.",
        ),
        value(
            "delete-config",
            "name",
            "No longer supported; kafka-configs removes configs.",
        ),
        value(
            "partitions",
            "# of partitions",
            "How many partitions a new topic has, or an altered one gets. Records with keys go to other partitions after an increase.",
        ),
        value(
            "replication-factor",
            "replication factor",
            "How many replicas each partition of a new topic has. Without it the cluster's default.",
        ),
        value(
            "replica-assignment",
            "broker_id_for_part1_replica1 : broker_id_for_part1_replica2 , …",
            "Which brokers hold each partition, instead of the cluster's choice.",
        ),
        switch(
            "under-replicated-partitions",
            "Describe only partitions with replicas out of sync.",
        ),
        switch(
            "unavailable-partitions",
            "Describe only partitions without a leader that is alive.",
        ),
        switch(
            "under-min-isr-partitions",
            "Describe only partitions with fewer in-sync replicas than min.insync.replicas.",
        ),
        switch(
            "at-min-isr-partitions",
            "Describe only partitions with exactly min.insync.replicas in-sync replicas.",
        ),
        switch(
            "topics-with-overrides",
            "Describe only topics that have configs of their own.",
        ),
        switch(
            "if-exists",
            "With --alter, --delete or --describe: a missing topic is no error.",
        ),
        switch(
            "if-not-exists",
            "With --create: an existing topic is no error.",
        ),
        switch("exclude-internal", "Leave Kafka's own topics out."),
        value(
            "partition-size-limit-per-response",
            "maximum number of partitions per response",
            "How many partitions one answer may describe.",
        ),
    ],
};

/// Kafka's checks, in its order, with its sentences.
pub fn check(options: &Options) -> Result<(), Stop> {
    if options.is_empty() {
        return Err(Stop::Usage(
            "Create, delete, describe, or change a topic.".into(),
        ));
    }
    say::help_or_version(options)?;
    if options.count_of(&ACTIONS) != 1 {
        return Err(Stop::Usage(
            "Command must include exactly one action: --list, --describe, --create, --alter or --delete".into(),
        ));
    }
    if options.has("delete-config") {
        eprintln!("--delete-config is no longer supported; kafka-configs removes configs.");
    }
    if !options.has("bootstrap-server") {
        return Err(Stop::Message("--bootstrap-server must be specified".into()));
    }
    required(options)?;
    together(options).map_err(Stop::Usage)
}

fn required(options: &Options) -> Result<(), Stop> {
    if options.has("describe") && options.has("if-exists") {
        match (options.has("topic"), options.has("topic-id")) {
            (false, false) => {
                return Err(Stop::Usage(
                    "--topic or --topic-id is required to describe a topic".into(),
                ));
            }
            (true, true) => say::out(
                "Only topic id will be used when both --topic and --topic-id are specified and topicId is not Uuid.ZERO_UUID\n",
            ),
            _ => {}
        }
    }
    if !options.has("list") && !options.has("describe") {
        options.require(&["topic"]).map_err(Stop::Usage)?;
    }
    if options.has("alter") {
        if options.has("config") {
            return Err(Stop::Usage(
                "Option combination \"[[bootstrap-server], [config]]\" can't be used with option \"[alter]\" (To alter topic configurations, the kafka-configs tool can be used.)".into(),
            ));
        }
        options.require(&["partitions"]).map_err(Stop::Usage)?;
    }
    Ok(())
}

fn together(options: &Options) -> Result<(), String> {
    let not_with = |flag: &str, allowed: &[&str], more: &[&str]| {
        let mut others: Vec<&str> = ACTIONS
            .into_iter()
            .filter(|a| !allowed.contains(a))
            .collect();
        others.extend(more);
        options.exclude(flag, &others)
    };
    not_with("config", &["alter", "create"], &[])?;
    not_with("partitions", &["alter", "create"], &[])?;
    not_with("replication-factor", &["create"], &[])?;
    not_with("replica-assignment", &["alter", "create"], &[])?;
    if options.has("create") {
        options.exclude("replica-assignment", &["partitions", "replication-factor"])?;
    }
    for report in REPORTS {
        not_with(report, &["describe"], &["topics-with-overrides"])?;
    }
    not_with("topics-with-overrides", &["describe"], &REPORTS)?;
    not_with("if-exists", &["alter", "delete", "describe"], &[])?;
    not_with("if-not-exists", &["create"], &[])?;
    not_with("exclude-internal", &["list", "describe"], &[])
}
