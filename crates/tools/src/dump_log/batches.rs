//! Segments and snapshots, batch by batch.

use std::fmt::Write as _;
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::Path;

use milena_records::{Batch, LOG_OVERHEAD_BYTES, Limits, Record};

use super::decode::{Decoder, control};
use super::indexes::Findings;
use super::{absolute, base_offset, with_path};
use crate::progress::Progress;
use crate::say::out;

/// The bytes that tell a batch's length and format.
const PREFIX_BYTES: usize = LOG_OVERHEAD_BYTES + 5;

/// A file of batches that is read one batch at a time.
pub struct Batches {
    file: File,
    pub position: u64,
    end: u64,
}

impl Batches {
    /// Begins at `position`; bytes from `end` on are not read.
    pub fn open(path: &Path, position: u64, end: u64) -> Result<Batches, String> {
        let file = File::open(path).map_err(|error| with_path(path, error))?;
        let length = file
            .metadata()
            .map_err(|error| with_path(path, error))?
            .len();
        let end = end.min(length);
        Ok(Batches {
            file,
            position,
            end,
        })
    }

    /// Bytes that were not read as batches.
    pub fn rest(&self) -> u64 {
        self.end.saturating_sub(self.position)
    }

    /// The next whole batch; `None` at the end, and where no batch begins.
    pub fn next(&mut self) -> Result<Option<Batch>, String> {
        if self.rest() < PREFIX_BYTES as u64 {
            return Ok(None);
        }
        let mut prefix = [0; PREFIX_BYTES];
        let read = self.file.read_exact_at(&mut prefix, self.position);
        read.map_err(|error| error.to_string())?;
        let length = i32::from_be_bytes([prefix[8], prefix[9], prefix[10], prefix[11]]);
        let size = i64::from(length) + LOG_OVERHEAD_BYTES as i64;
        if length <= 0 || size as u64 > self.rest() {
            return Ok(None);
        }
        let mut bytes = vec![0; size as usize];
        let read = self.file.read_exact_at(&mut bytes, self.position);
        read.map_err(|error| error.to_string())?;
        let batch = Batch::parse(bytes.into()).map_err(|error| error.to_string())?;
        self.position += size as u64;
        Ok(Some(batch))
    }
}

/// How a file of batches is shown.
pub struct Dump {
    pub deep: bool,
    pub print_data: bool,
    pub skip_metadata: bool,
    pub bytes_max: i32,
    pub decoder: Decoder,
}

impl Dump {
    pub fn file(&self, path: &Path, findings: &mut Findings) -> Result<(), String> {
        out(format_args!("{}\n", head(path)?));
        let mut batches = Batches::open(path, 0, self.bytes_max as u64)?;
        let mut last_offset = None;
        let (progress, all) = (
            Progress::of(&format!("Reading {}", path.display())),
            batches.rest(),
        );
        loop {
            let position = batches.position;
            progress.at(position, all);
            let batch = match batches.next() {
                Ok(Some(batch)) => batch,
                Ok(None) => break,
                Err(why) => {
                    eprintln!(
                        "{}",
                        with_path(path, format_args!("at position {position}: {why}"))
                    );
                    break;
                }
            };
            let mut text = batch_line(&batch, position);
            if self.deep {
                self.records(&batch, path, &mut last_offset, findings, &mut text);
            }
            out(text);
        }
        if batches.rest() > 0 && self.bytes_max == i32::MAX {
            let name = path.file_name().unwrap_or_default().display();
            let rest = batches.rest();
            out(format_args!(
                "Found {rest} invalid bytes at the end of {name}\n"
            ));
        }
        Ok(())
    }

    fn records(
        &self,
        batch: &Batch,
        path: &Path,
        last_offset: &mut Option<i64>,
        findings: &mut Findings,
        text: &mut String,
    ) {
        for record in batch.records(Limits::default()) {
            let record = match record {
                Ok(record) => record,
                Err(error) => {
                    eprintln!("{}", with_path(path, error));
                    return;
                }
            };
            let offset = record.offset.0;
            if let Some(last) = last_offset.filter(|last| offset != last + 1) {
                findings.gap(&absolute(path), last, offset);
            }
            *last_offset = Some(offset);
            self.record(batch, &record, text);
        }
    }

    fn record(&self, batch: &Batch, record: &Record, text: &mut String) {
        let header = batch.header();
        let mut prefix = "| ";
        if !self.skip_metadata {
            let size = |bytes: &Option<bytes::Bytes>| bytes.as_ref().map_or(-1, |b| b.len() as i64);
            let names: Vec<String> = record
                .headers
                .iter()
                .map(|h| h.name().into_owned())
                .collect();
            let _ = write!(
                text,
                "{prefix}offset: {} {}: {} keySize: {} valueSize: {} sequence: {} headerKeys: [{}]",
                record.offset.0,
                header.timestamp_type().name(),
                record.timestamp.0,
                size(&record.key),
                size(&record.value),
                record.sequence,
                names.join(",")
            );
            prefix = " ";
            if header.is_control() {
                text.push_str(&control(record));
            }
        }
        if self.print_data && !header.is_control() {
            let (key, payload) = self.decoder.show(record);
            if let Some(key) = key {
                let _ = write!(text, "{prefix}key: {key}");
                prefix = " ";
            }
            if let Some(payload) = payload {
                let _ = write!(text, "{prefix}payload: {payload}");
            }
        }
        text.push('\n');
    }
}

/// What Kafka says of a file before its batches.
fn head(path: &Path) -> Result<String, String> {
    let name = path
        .file_name()
        .and_then(|name| name.to_str())
        .unwrap_or_default();
    let Some(stem) = name.strip_suffix(".checkpoint") else {
        return Ok(format!("Log starting offset: {}", base_offset(path)?));
    };
    if stem == "bootstrap" {
        return Ok("KRaft bootstrap snapshot".to_string());
    }
    let parts = stem.split_once('-').and_then(|(offset, epoch)| {
        Some((offset.parse::<i64>().ok()?, epoch.parse::<i32>().ok()?))
    });
    match parts {
        Some((offset, epoch)) => Ok(format!("Snapshot end offset: {offset}, epoch: {epoch}")),
        None => Err(with_path(path, "the name is not that of a snapshot")),
    }
}

fn batch_line(batch: &Batch, position: u64) -> String {
    let header = batch.header();
    let horizon = match header.delete_horizon() {
        Some(time) => format!("OptionalLong[{}]", time.0),
        None => "OptionalLong.empty".to_string(),
    };
    let codec = header.compression().map_or("unknown", |codec| codec.name());
    format!(
        "baseOffset: {} lastOffset: {} count: {} baseSequence: {} lastSequence: {} producerId: {} producerEpoch: {} \
         partitionLeaderEpoch: {} isTransactional: {} isControl: {} deleteHorizonMs: {horizon} position: {position} \
         {}: {} size: {} magic: {} compresscodec: {codec} crc: {} isvalid: {}\n",
        header.base_offset_raw(),
        header.last_offset().0,
        header.count(),
        header.base_sequence(),
        header.last_sequence(),
        header.producer_id(),
        header.producer_epoch(),
        header.leader_epoch_raw(),
        header.is_transactional(),
        header.is_control(),
        header.timestamp_type().name(),
        header.max_timestamp_raw(),
        batch.bytes().len(),
        header.magic(),
        header.crc(),
        batch.check_crc().is_ok(),
    )
}
