//! `tools` are the work-alikes of Kafka's command-line tools: same names, flags, tables, streams and exit
//! statuses; the help texts are our own. One file a tool.
//!
//! They talk to clusters through `client` and to files through the crates that know their formats; nothing here
//! decides what a record or a request means. Start at [`run`].
#![forbid(unsafe_code)]

mod connect;
mod console_producer;
mod exceptions;
mod filter;
mod options;
mod say;
mod topics;

use std::ffi::OsString;

pub use say::version;

type Tool = fn(Vec<String>) -> i32;

const TOOLS: &[(&str, Tool)] = &[
    ("kafka-topics", topics::main),
    ("kafka-console-producer", console_producer::main),
];

/// The names that [`run`] knows, as the scripts in `bin/` are called without `.sh`.
pub fn names() -> impl Iterator<Item = &'static str> {
    TOOLS.iter().map(|(name, _)| *name)
}

/// Runs a tool to its end and returns its exit status. The name is that of the script, with or without `.sh`.
pub fn run(name: &str, args: Vec<OsString>) -> Option<i32> {
    let name = name.strip_suffix(".sh").unwrap_or(name);
    let (_, tool) = TOOLS.iter().find(|(known, _)| *known == name)?;
    let args = args.into_iter().map(|arg| arg.to_string_lossy().into_owned());
    Some(tool(args.collect()))
}
