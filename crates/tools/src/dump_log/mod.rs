//! `kafka-dump-log`: segments, snapshots of the metadata, indexes and producer snapshots as text.

mod batches;
mod decode;
pub(crate) mod flags;
mod indexes;

use std::path::{Path, PathBuf};

use self::batches::Dump;
use self::decode::Decoder;
use self::indexes::Findings;
use crate::options::Options;
use crate::say::{self, Stop, out};

pub fn main(args: Vec<String>) -> i32 {
    say::finish(&flags::SPEC, run(&args))
}

fn run(args: &[String]) -> Result<i32, Stop> {
    let options = flags::SPEC.parse(args)?;
    say::help_when_empty(&options)?;
    options.require(&["files"]).map_err(Stop::Usage)?;
    let decoder = decoder(&options)?;
    let print_data = options.has("print-data-log") || decoder.is_special();
    let dump = Dump {
        deep: print_data || options.has("deep-iteration"),
        print_data,
        skip_metadata: options.has("skip-record-metadata"),
        bytes_max: options.number::<i32>("max-bytes")?.unwrap_or(i32::MAX),
        decoder,
    };
    let mut findings = Findings::default();
    for file in options.value("files")?.unwrap_or_default().split(',') {
        one(Path::new(file.trim()), &dump, &options, &mut findings)?;
    }
    eprint!("{}", findings.text());
    Ok(0)
}

fn one(file: &Path, dump: &Dump, options: &Options, findings: &mut Findings) -> Result<(), String> {
    out(format_args!("Dumping {}\n", file.display()));
    let sanity_only = options.has("index-sanity-check");
    let verify_only = options.has("verify-index-only");
    let suffix = file.extension().and_then(|suffix| suffix.to_str());
    match suffix.unwrap_or_default() {
        "log" | "checkpoint" => dump.file(file, findings),
        "index" => indexes::offsets(file, sanity_only, verify_only, findings),
        "timeindex" => indexes::times(file, sanity_only, verify_only, findings),
        "snapshot" => indexes::producers(file),
        "txnindex" => indexes::transactions(file),
        _ => {
            eprintln!("Ignoring unknown file {}", file.display());
            Ok(())
        }
    }
}

fn decoder(options: &Options) -> Result<Decoder, String> {
    if options.has("offsets-decoder") {
        return Ok(Decoder::Offsets);
    }
    if options.has("transaction-log-decoder") {
        return Ok(Decoder::Transactions);
    }
    if options.has("cluster-metadata-decoder") {
        return Ok(Decoder::Metadata);
    }
    if options.has("share-group-state-decoder") {
        return Ok(Decoder::ShareState);
    }
    if options.has("remote-log-metadata-decoder") {
        return Err("--remote-log-metadata-decoder is not built yet in Milena's tools.".into());
    }
    let key = options.value("key-decoder-class")?.unwrap_or_default();
    let value = options.value("value-decoder-class")?.unwrap_or_default();
    Decoder::plain(key, value)
}

/// The number that a file's name begins with.
fn base_offset(file: &Path) -> Result<i64, String> {
    let name = file
        .file_name()
        .and_then(|name| name.to_str())
        .unwrap_or_default();
    let number = name.split('.').next().unwrap_or_default();
    let wrong = || format!("{}: the name does not begin with an offset", file.display());
    number.parse().map_err(|_| wrong())
}

/// The file of the same segment with another suffix.
fn sibling(file: &Path, suffix: &str) -> PathBuf {
    file.with_extension(suffix)
}

fn with_path(file: &Path, why: impl std::fmt::Display) -> String {
    format!("{}: {why}", file.display())
}

fn read(file: &Path) -> Result<Vec<u8>, String> {
    std::fs::read(file).map_err(|error| with_path(file, error))
}

/// As Java's `getAbsolutePath`.
fn absolute(file: &Path) -> String {
    let path = std::path::absolute(file);
    path.unwrap_or_else(|_| file.to_path_buf())
        .display()
        .to_string()
}
