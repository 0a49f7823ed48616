//! `tools` are the work-alikes of Kafka's command-line tools: same names, flags, tables, streams and exit
//! statuses; the help texts are our own. One file a tool.
//!
//! They talk to clusters through `client` and to files through the crates that know their formats; nothing here
//! decides what a record or a request means. Start at [`run`].
#![forbid(unsafe_code)]

mod api_versions;
mod client_metrics;
mod cluster;
pub mod completion;
mod configs;
mod connect;
mod console_consumer;
mod console_producer;
mod consumer_groups;
mod delete_records;
mod dump_log;
mod exceptions;
mod features;
mod filter;
mod get_offsets;
mod groups;
mod jmx;
mod leader_election;
mod log_dirs;
mod metadata_quorum;
mod offsets;
mod options;
mod perf;
mod pretty;
mod progress;
mod reassign;
mod reset_offsets;
mod say;
mod storage;
mod subcommands;
mod topics;
mod transactions;
#[cfg(test)]
mod transcripts;

use std::ffi::OsString;

pub use say::version;

type Tool = fn(Vec<String>) -> i32;

macro_rules! tools {
    ($($name:literal => $main:path,)*) => {
        /// The names that [`run`] knows: those of the scripts in `bin/`, without `.sh`.
        pub const NAMES: &[&str] = &[$($name),*];
        const MAINS: &[Tool] = &[$($main),*];
    };
}

tools! {
    "kafka-broker-api-versions" => api_versions::main,
    "kafka-client-metrics" => client_metrics::main,
    "kafka-cluster" => cluster::main,
    "kafka-configs" => configs::main,
    "kafka-console-consumer" => console_consumer::main,
    "kafka-console-producer" => console_producer::main,
    "kafka-consumer-groups" => consumer_groups::main,
    "kafka-consumer-perf-test" => perf::consumer::main,
    "kafka-delete-records" => delete_records::main,
    "kafka-dump-log" => dump_log::main,
    "kafka-e2e-latency" => perf::e2e::main,
    "kafka-features" => features::main,
    "kafka-get-offsets" => get_offsets::main,
    "kafka-groups" => groups::main,
    "kafka-jmx" => jmx::main,
    "kafka-leader-election" => leader_election::main,
    "kafka-log-dirs" => log_dirs::main,
    "kafka-metadata-quorum" => metadata_quorum::main,
    "kafka-producer-perf-test" => perf::producer::main,
    "kafka-reassign-partitions" => reassign::main,
    "kafka-storage" => storage::main,
    "kafka-topics" => topics::main,
    "kafka-transactions" => transactions::main,
    "kafka-verifiable-consumer" => perf::verifiable_consumer::main,
    "kafka-verifiable-producer" => perf::verifiable_producer::main,
}

/// Runs a tool to its end and returns its exit status. The name is one of [`NAMES`], with or without `.sh`.
pub fn run(name: &str, args: Vec<OsString>) -> i32 {
    let name = name.strip_suffix(".sh").unwrap_or(name);
    let Some(at) = NAMES.iter().position(|known| *known == name) else {
        eprintln!("There is no tool {name}. There are: {}.", NAMES.join(", "));
        return 2;
    };
    let args = args
        .into_iter()
        .map(|arg| arg.to_string_lossy().into_owned());
    let args: Vec<String> = args.collect();
    // Here for all: half of Kafka's tools have no such flag.
    if args == ["--version"] {
        say::out(format_args!("{}\n", version()));
        return 0;
    }
    MAINS[at](args)
}
