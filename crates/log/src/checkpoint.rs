//! Kafka's text files with a version, a count and one entry a line: offsets of partitions, and start offsets of
//! leader epochs.

use std::collections::BTreeMap;
use std::fmt::{Display, Write};

use milena_base::{Epoch, Offset, TopicPartition};

use crate::epochs::{EpochEntry, LeaderEpochs};
use crate::error::Malformed;

const VERSION: &str = "0";

/// Highest offset of each partition that needs no recovery after a crash.
pub const RECOVERY_POINT_CHECKPOINT: &str = "recovery-point-offset-checkpoint";
/// First offset of the partitions that start inside of a segment.
pub const LOG_START_CHECKPOINT: &str = "log-start-offset-checkpoint";
/// High watermark of each partition.
pub const REPLICATION_CHECKPOINT: &str = "replication-offset-checkpoint";
/// First offset that the cleaner has not cleaned.
pub const CLEANER_CHECKPOINT: &str = "cleaner-offset-checkpoint";

/// Text of an offset checkpoint.
pub fn format_offsets<'a>(
    offsets: impl ExactSizeIterator<Item = (&'a TopicPartition, Offset)>,
) -> String {
    let lines = offsets
        .map(|(partition, offset)| format!("{} {} {offset}", partition.topic, partition.partition));
    format_lines(lines)
}

/// Reads an offset checkpoint. An empty file holds nothing.
pub fn parse_offsets(text: &str) -> Result<BTreeMap<TopicPartition, Offset>, Malformed> {
    let mut offsets = BTreeMap::new();
    for line in entries(text)? {
        let mut words = line.split_whitespace();
        let (Some(topic), Some(partition), Some(offset), None) =
            (words.next(), words.next(), words.next(), words.next())
        else {
            return Err(malformed(line));
        };
        let partition: i32 = number(partition, line)?;
        let offset: i64 = number(offset, line)?;
        offsets.insert(TopicPartition::new(topic, partition), Offset(offset));
    }
    Ok(offsets)
}

/// Text of a leader epoch checkpoint.
pub fn format_epochs(epochs: &LeaderEpochs) -> String {
    format_lines(
        epochs
            .entries()
            .iter()
            .map(|entry| format!("{} {}", entry.epoch, entry.start_offset)),
    )
}

/// Reads a leader epoch checkpoint. An empty file holds nothing; entries that contradict later ones are dropped, as
/// at an append.
pub fn parse_epochs(text: &str) -> Result<LeaderEpochs, Malformed> {
    let mut epochs = LeaderEpochs::default();
    for line in entries(text)? {
        let mut words = line.split_whitespace();
        let (Some(epoch), Some(offset), None) = (words.next(), words.next(), words.next()) else {
            return Err(malformed(line));
        };
        let entry = EpochEntry {
            epoch: Epoch(number(epoch, line)?),
            start_offset: Offset(number(offset, line)?),
        };
        if entry.epoch.0 < 0 || entry.start_offset.0 < 0 {
            return Err(malformed(line));
        }
        epochs.assign(entry.epoch, entry.start_offset);
    }
    Ok(epochs)
}

fn format_lines(lines: impl ExactSizeIterator<Item = impl Display>) -> String {
    let mut text = format!("{VERSION}\n{}\n", lines.len());
    for line in lines {
        writeln!(text, "{line}").expect("a String takes every write");
    }
    text
}

fn entries(text: &str) -> Result<Vec<&str>, Malformed> {
    let mut lines = text.lines();
    let Some(version) = lines.next() else {
        return Ok(Vec::new());
    };
    if version != VERSION {
        return Err(Malformed(format!("unknown version {version:?}")));
    }
    let Some(count) = lines.next() else {
        return Ok(Vec::new());
    };
    let count: usize = number(count, count)?;
    let entries: Vec<&str> = lines.collect();
    if entries.len() != count {
        let found = entries.len();
        return Err(Malformed(format!(
            "{count} entries expected, {found} found"
        )));
    }
    Ok(entries)
}

fn number<T: std::str::FromStr>(word: &str, line: &str) -> Result<T, Malformed> {
    word.parse().map_err(|_| malformed(line))
}

fn malformed(line: &str) -> Malformed {
    Malformed(format!("malformed line {line:?}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn offsets_are_written_as_kafka_writes_them_and_read_back() {
        let offsets = BTreeMap::from([
            (TopicPartition::new("a", 0), Offset(5)),
            (TopicPartition::new("b.c-d", 11), Offset(0)),
        ]);
        let text = format_offsets(
            offsets
                .iter()
                .map(|(partition, offset)| (partition, *offset)),
        );
        assert_eq!(text, "0\n2\na 0 5\nb.c-d 11 0\n");
        assert_eq!(parse_offsets(&text), Ok(offsets));
    }

    #[test]
    fn an_empty_file_holds_nothing() {
        assert_eq!(parse_offsets(""), Ok(BTreeMap::new()));
        assert_eq!(parse_offsets("0\n"), Ok(BTreeMap::new()));
        assert_eq!(parse_epochs("0\n0\n"), Ok(LeaderEpochs::default()));
    }

    #[test]
    fn damage_is_named() {
        for text in [
            "1\n0\n",
            "0\nx\n",
            "0\n2\na 0 5\n",
            "0\n1\na 0\n",
            "0\n1\na 0 5 6\n",
            "0\n1\na 0 z\n",
            "0\n0\na 0 5\n",
        ] {
            assert!(parse_offsets(text).is_err(), "{text:?}");
        }
        for text in ["0\n1\n-1 5\n", "0\n1\n1\n", "0\n1\n1 -5\n"] {
            assert!(parse_epochs(text).is_err(), "{text:?}");
        }
    }

    #[test]
    fn epochs_are_written_as_kafka_writes_them_and_read_back() {
        let mut epochs = LeaderEpochs::default();
        epochs.assign(Epoch(0), Offset(0));
        epochs.assign(Epoch(4), Offset(120));
        let text = format_epochs(&epochs);
        assert_eq!(text, "0\n2\n0 0\n4 120\n");
        assert_eq!(parse_epochs(&text), Ok(epochs));
    }
}
