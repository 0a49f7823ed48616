//! Flags of `kafka-consumer-groups` and which of them go together.

use crate::options::{COMMAND_CONFIG, HELP, Options, Spec, VERSION, switch, value};
use crate::reset_offsets::STRATEGIES;
use crate::say::{self, Stop};

const ACTIONS: [&str; 6] = [
    "list",
    "describe",
    "delete",
    "reset-offsets",
    "delete-offsets",
    "validate-regex",
];

pub const SPEC: Spec = Spec {
    about: "Lists and describes consumer groups, deletes them, and sets their offsets.",
    flags: &[
        HELP,
        VERSION,
        value("bootstrap-server", "server to connect to", "REQUIRED (but with --validate-regex): brokers to begin with, host:port[,host:port…]."),
        value("group", "consumer group", "A group; may be repeated."),
        value("topic", "topic", "A topic, or topic:0,1,2 for some of its partitions; may be repeated."),
        switch("all-topics", "Every topic that the group has offsets of (with --reset-offsets)."),
        switch("list", "List the groups."),
        switch("describe", "Show the offsets, members or state of groups."),
        switch("all-groups", "Every group."),
        switch("delete", "Delete groups that have no members."),
        value("timeout", "timeout (ms)", "How long to wait for the cluster.").or("30000"),
        COMMAND_CONFIG,
        switch("reset-offsets", "Set the offsets of a group that has no members, by one of --to-offset, --shift-by, --to-datetime, --by-duration, --to-earliest, --to-latest, --to-current and --from-file."),
        switch("delete-offsets", "Delete offsets of a group, of the topics in --topic."),
        switch("dry-run", "With --reset-offsets: only show."),
        switch("execute", "With --reset-offsets: do it."),
        switch("export", "With --reset-offsets: show as CSV."),
        value("to-offset", "offset", "Reset to an offset."),
        value("from-file", "path to CSV file", "Reset to the offsets in a file."),
        value("to-datetime", "datetime", "Reset to a time, YYYY-MM-DDThh:mm:ss.sss."),
        value("by-duration", "duration", "Reset to a time ago, PnDTnHnMnS."),
        switch("to-earliest", "Reset to the beginning."),
        switch("to-latest", "Reset to the end."),
        switch("to-current", "Reset to where the group is."),
        value("shift-by", "number-of-offsets", "Move by so many, forwards or backwards."),
        switch("members", "With --describe: the members.").with(&["describe"]),
        switch("verbose", "With --describe: more columns.").with(&["describe"]),
        switch("offsets", "With --describe: partitions and how far behind (as without it).").with(&["describe"]),
        value("state", "state", "With --describe: the state. With --list: states too, or only groups in these (stable,empty).").optional().with(&["describe", "list"]),
        value("type", "type", "With --list: types too, or only groups of these (classic,consumer).").optional().with(&["list"]),
        value("validate-regex", "regex", "Say whether this is a regular expression."),
    ],
};

/// Kafka's checks, in its order.
pub fn check(options: &Options) -> Result<(), Stop> {
    say::help_or_version(options)?;
    let usage = |message: String| Err(Stop::Usage(message));
    if !options.has("validate-regex") {
        options
            .require(&["bootstrap-server"])
            .map_err(Stop::Usage)?;
    }
    if options.has("describe") {
        if options.count_of(&["group", "all-groups"]) == 0 {
            return usage(
                "Option [describe] takes one of these options: [group], [all-groups]".into(),
            );
        }
        if options.count_of(&["members", "offsets", "state"]) > 1 {
            return usage(
                "Option [describe] takes at most one of these options: [members], [offsets], [state]".into(),
            );
        }
        if options.has("state") && options.value("state")?.is_some() {
            return usage("Option [describe] does not take a value for [state]".into());
        }
    }
    if options.has("delete") {
        if options.count_of(&["group", "all-groups"]) == 0 {
            return usage(
                "Option [delete] takes one of these options: [group], [all-groups]".into(),
            );
        }
        if options.has("topic") {
            return usage(
                "The consumer does not support topic-specific offset deletion from a consumer group.".into(),
            );
        }
    }
    if options.has("delete-offsets") && options.count_of(&["group", "topic"]) < 2 {
        return usage(
            "Option [delete-offsets] takes the following options: [topic], [group]".into(),
        );
    }
    if options.has("reset-offsets") {
        check_reset(options)?;
    }
    options
        .exclude("group", &["all-groups", "list"])
        .map_err(Stop::Usage)?;
    options
        .exclude("topic", &["list", "describe"])
        .map_err(Stop::Usage)?;
    match options.count_of(&ACTIONS) {
        1 => Ok(()),
        _ => usage(
            "Command must include exactly one action: --list, --describe, --delete, --reset-offsets, --delete-offsets, --validate-regex".into(),
        ),
    }
}

fn check_reset(options: &Options) -> Result<(), Stop> {
    match options.count_of(&["dry-run", "execute"]) {
        0 => eprintln!(
            "WARN: No action will be performed as the --execute option is missing. From version 5.0 on one of --dry-run and --execute has to be there: give --dry-run in scripts that only want to see."
        ),
        1 => {}
        _ => {
            let text = "Option [reset-offsets] only accepts one of [execute] and [dry-run]";
            return Err(Stop::Usage(text.into()));
        }
    }
    if options.count_of(&["group", "all-groups"]) == 0 {
        let text = "Option [reset-offsets] takes one of these options: [group], [all-groups]";
        return Err(Stop::Usage(text.into()));
    }
    for strategy in STRATEGIES {
        options
            .exclude(strategy, &STRATEGIES)
            .map_err(Stop::Usage)?;
    }
    Ok(())
}
