//! Names of a partition's files and directories, as Kafka writes them.

use std::path::{Path, PathBuf};

use milena_base::{Offset, TopicPartition, Uuid};

/// Longest name of a directory entry that file systems take, in bytes.
const NAME_BYTES_MAX: usize = 255;

/// Suffix of a file whose deletion is decided but not yet done.
pub const DELETED: &str = ".deleted";
/// Suffix of the cleaner's output in progress.
pub const CLEANED: &str = ".cleaned";
/// Suffix of the cleaner's complete output, about to replace segments.
pub const SWAP: &str = ".swap";
/// Start offsets of leader epochs, in each partition's directory.
pub const LEADER_EPOCH_CHECKPOINT: &str = "leader-epoch-checkpoint";
/// The topic's id, in each partition's directory.
pub const PARTITION_METADATA: &str = "partition.metadata";
/// The only partition whose log is opened by the quorum, not by the broker.
pub const CLUSTER_METADATA_TOPIC: &str = "__cluster_metadata";

/// The files that belong to an offset in a partition's directory.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum FileKind {
    /// Record batches back to back.
    Log,
    /// Sparse map from offset to position.
    OffsetIndex,
    /// Sparse map from timestamp to offset.
    TimeIndex,
    /// Aborted transactions; present only when there are any.
    TxnIndex,
    /// State of the producers at that offset.
    ProducerSnapshot,
}

impl FileKind {
    pub const ALL: [FileKind; 5] = [
        FileKind::Log,
        FileKind::OffsetIndex,
        FileKind::TimeIndex,
        FileKind::TxnIndex,
        FileKind::ProducerSnapshot,
    ];
    /// What lies beside a segment's log file; without that it means nothing.
    pub(crate) const INDEXES: [FileKind; 3] = [
        FileKind::OffsetIndex,
        FileKind::TimeIndex,
        FileKind::TxnIndex,
    ];

    /// The files that hold or describe a segment's batches.
    pub(crate) const OF_SEGMENT: [FileKind; 4] = [
        FileKind::Log,
        FileKind::OffsetIndex,
        FileKind::TimeIndex,
        FileKind::TxnIndex,
    ];

    pub fn suffix(self) -> &'static str {
        match self {
            FileKind::Log => ".log",
            FileKind::OffsetIndex => ".index",
            FileKind::TimeIndex => ".timeindex",
            FileKind::TxnIndex => ".txnindex",
            FileKind::ProducerSnapshot => ".snapshot",
        }
    }

    /// Path of the file of this kind for `offset` in the partition's directory `dir`.
    pub fn path(self, dir: &Path, offset: Offset) -> PathBuf {
        dir.join(format!("{:020}{}", offset.0, self.suffix()))
    }

    /// The kind and offset that a plain file name (without `.deleted` and the like) stands for.
    pub fn parse(name: &str) -> Option<(FileKind, Offset)> {
        let dot = name.find('.')?;
        let kind = FileKind::ALL
            .into_iter()
            .find(|kind| kind.suffix() == &name[dot..])?;
        Some((kind, leading_offset(name)?))
    }
}

/// The offset in front of the first dot.
pub(crate) fn leading_offset(name: &str) -> Option<Offset> {
    let digits = &name[..name.find('.')?];
    let plain = !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit());
    plain.then(|| digits.parse().ok().map(Offset)).flatten()
}

/// What a directory inside a log directory is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum DirectoryKind {
    /// A replica in service.
    Current,
    /// A replica that is being copied from another log directory.
    Future,
    /// A deleted replica whose files go after a delay.
    Deleted,
    /// A replica that the metadata did not know at start-up; kept for the operator.
    Stray,
}

/// `topic-partition`.
pub fn directory(partition: &TopicPartition) -> String {
    format!("{}-{}", partition.topic, partition.partition)
}

/// Directory name for a replica that leaves service; `unique` keeps it from clashing. The topic is cut where the
/// name would get too long, except for a future replica, whose name must give the topic back.
pub fn directory_as(partition: &TopicPartition, kind: DirectoryKind, unique: Uuid) -> String {
    let word = match kind {
        DirectoryKind::Current => return directory(partition),
        DirectoryKind::Future => "future",
        DirectoryKind::Deleted => "delete",
        DirectoryKind::Stray => "stray",
    };
    let hex: String = unique.0.iter().map(|byte| format!("{byte:02x}")).collect();
    let tail = format!("-{}.{hex}-{word}", partition.partition);
    let topic_bytes_max = match kind {
        DirectoryKind::Future => partition.topic.len(),
        _ => NAME_BYTES_MAX.saturating_sub(tail.len()),
    };
    let topic = &partition.topic[..partition.topic.len().min(topic_bytes_max)];
    format!("{topic}{tail}")
}

/// The partition and state that a directory name stands for; `None` where it is no partition's name.
pub fn parse_directory(name: &str) -> Option<(TopicPartition, DirectoryKind)> {
    let kinds = [
        ("-delete", DirectoryKind::Deleted),
        ("-future", DirectoryKind::Future),
        ("-stray", DirectoryKind::Stray),
    ];
    let suffixed = kinds
        .into_iter()
        .find_map(|(suffix, kind)| Some((name.strip_suffix(suffix)?, kind)));
    let (plain, kind) = match suffixed {
        Some((rest, kind)) => (rest.rsplit_once('.')?.0, kind),
        None => (name, DirectoryKind::Current),
    };
    let (topic, partition) = plain.rsplit_once('-')?;
    let number: i32 = partition.parse().ok()?;
    let canonical = number >= 0 && number.to_string() == partition;
    (!topic.is_empty() && canonical).then(|| (TopicPartition::new(topic, number), kind))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_carry_twenty_digits() {
        let path = FileKind::TimeIndex.path(Path::new("/d"), Offset(42));
        assert_eq!(path, Path::new("/d/00000000000000000042.timeindex"));
        assert_eq!(
            FileKind::parse("00000000000000000042.timeindex"),
            Some((FileKind::TimeIndex, Offset(42)))
        );
    }

    #[test]
    fn foreign_files_are_no_segments() {
        for name in [
            "00000000000000000042.log.deleted",
            "00000000000000000042.checkpoint",
            "-1.log",
            ".log",
            "x.log",
            "leader-epoch-checkpoint",
            "99999999999999999999.log",
        ] {
            assert_eq!(FileKind::parse(name), None, "{name}");
        }
    }

    #[test]
    fn directories_give_their_partition_back() {
        let partition = TopicPartition::new("a-b.c", 12);
        let cases = [
            ("a-b.c-12", DirectoryKind::Current),
            ("a-b.c-12.0123abcd-delete", DirectoryKind::Deleted),
            ("a-b.c-12.0123abcd-stray", DirectoryKind::Stray),
            ("a-b.c-12.0123abcd-future", DirectoryKind::Future),
        ];
        for (name, kind) in cases {
            assert_eq!(
                parse_directory(name),
                Some((partition.clone(), kind)),
                "{name}"
            );
        }
        for name in [
            "",
            "a",
            "a-",
            "-1",
            "a-x",
            "a-1-delete",
            "remote-log-index-cache",
            "a--1x",
        ] {
            assert_eq!(parse_directory(name), None, "{name}");
        }
    }

    #[test]
    fn a_deleted_name_fits_into_a_directory_entry() {
        let partition = TopicPartition::new("t".repeat(249), 1234);
        let name = directory_as(&partition, DirectoryKind::Deleted, Uuid([7; 16]));
        assert_eq!(name.len(), NAME_BYTES_MAX);
        let (short, kind) = parse_directory(&name).expect("it parses");
        assert_eq!((short.partition, kind), (1234, DirectoryKind::Deleted));
    }
}
