//! `kafka-dump-log` on every file of a node that it can read.

use std::fs;
use std::path::Path;

use crate::interop::tool_host::ToolHost;

/// What it says of a file that is not as it should be.
const TROUBLES: &[&str] = &[
    "isvalid: false",
    "ismatch",
    "xception",
    "out of order",
    " is followed by ",
    "Could not",
    "rror at position",
    "not match",
];

/// It takes every segment for the first of its log and says this of those that are not.
const NO_TROUBLE: &str = "-1 is followed by ";

/// Counts of what was read.
#[derive(Debug, Default)]
pub struct Counts {
    pub files: usize,
    pub batches: usize,
    pub records: usize,
}

pub fn all(tools: &mut ToolHost, data: &Path) -> Result<Counts, String> {
    let mut counts = Counts::default();
    let mut kinds: [(&str, Vec<String>); 3] = [
        ("--cluster-metadata-decoder", Vec::new()),
        ("--offsets-decoder", Vec::new()),
        ("--deep-iteration", Vec::new()),
    ];
    for dir in listed(data)? {
        let kind = match dir.rsplit('/').next().unwrap_or_default() {
            name if name.starts_with("__cluster_metadata") => 0,
            name if name.starts_with("__consumer_offsets") => 1,
            _ => 2,
        };
        if Path::new(&dir).is_dir() {
            kinds[kind].1.extend(
                listed(Path::new(&dir))?
                    .into_iter()
                    .filter(|path| readable(path)),
            );
        }
    }
    for (flag, files) in kinds.iter().filter(|(_, files)| !files.is_empty()) {
        let said = tools.ok("kafka-dump-log", &[flag, "--files", &files.join(",")], "")?;
        let bad = |line: &&str| {
            TROUBLES.iter().any(|t| line.contains(t)) && !line.trim_start().starts_with(NO_TROUBLE)
        };
        if let Some(line) = said.out.lines().chain(said.err.lines()).find(bad) {
            return Err(format!("kafka-dump-log {flag}: {line}"));
        }
        let read = said
            .out
            .lines()
            .filter(|line| line.starts_with("Dumping "))
            .count();
        if read != files.len() {
            return Err(format!(
                "kafka-dump-log {flag} read {read} of {} files:\n{}",
                files.len(),
                said.err
            ));
        }
        counts.files += read;
        counts.batches += said
            .out
            .lines()
            .filter(|line| line.starts_with("baseOffset: "))
            .count();
        counts.records += said
            .out
            .lines()
            .filter(|line| line.starts_with("| offset: "))
            .count();
    }
    Ok(counts)
}

fn listed(dir: &Path) -> Result<Vec<String>, String> {
    let entries = fs::read_dir(dir).map_err(|e| format!("{}: {e}", dir.display()))?;
    let paths = entries.filter_map(|entry| Some(entry.ok()?.path().display().to_string()));
    let mut paths: Vec<String> = paths.collect();
    paths.sort();
    Ok(paths)
}

/// Whether the tool can read a file. A killed Kafka leaves its indexes preallocated with zeros, which the tool takes for
/// entries; a start throws such an index away.
fn readable(path: &str) -> bool {
    let extension = path.rsplit('.').next().unwrap_or_default();
    if ["index", "timeindex"].contains(&extension) && is_preallocated(path) {
        return false;
    }
    [
        "log",
        "index",
        "timeindex",
        "txnindex",
        "snapshot",
        "checkpoint",
    ]
    .contains(&extension)
}

fn is_preallocated(index: &str) -> bool {
    let bytes = fs::read(index).unwrap_or_default();
    bytes.last_chunk() == Some(&[0; 8])
}
