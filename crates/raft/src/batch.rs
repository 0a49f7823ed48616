//! Batches of the metadata log: control records in, control records out. (What the state machine's own records say is
//! opaque here.)

use bytes::Bytes;
use milena_base::{BrokerId, Epoch, Offset, Timestamp};
use milena_protocol::{
    KRaftVersionRecord, LeaderChangeMessage, Message, SnapshotFooterRecord, SnapshotHeaderRecord,
    VotersRecord, leader_change_message,
};
use milena_records::{
    Batch, BatchBuilder, Compression, ControlType, Limits, NewRecord, ValidBatch, batches,
    control_record_key,
};

use crate::log::Fault;
use crate::voters::VoterSet;

/// Most bytes of one batch, as in Kafka (`KafkaRaftClient.MAX_BATCH_SIZE_BYTES`).
pub const BATCH_BYTES_MAX: usize = 8 * 1024 * 1024;

/// What a control record of the metadata log or of a snapshot says.
#[derive(Clone, Debug, PartialEq)]
pub enum ControlRecord {
    LeaderChange(LeaderChangeMessage),
    SnapshotHeader {
        /// Append time of the last record that the snapshot holds.
        last_contained_log_timestamp: Timestamp,
    },
    SnapshotFooter,
    KRaftVersion(i16),
    Voters(VotersRecord),
    /// A kind that is nothing to the quorum, or of a later release.
    Other,
}

impl ControlRecord {
    /// Who became leader, by whose votes.
    pub(crate) fn leader_change(
        leader: BrokerId,
        voters: &VoterSet,
        granting: &[BrokerId],
    ) -> ControlRecord {
        let voter = |id: BrokerId| leader_change_message::Voter {
            voter_id: id.0,
            ..Default::default()
        };
        ControlRecord::LeaderChange(LeaderChangeMessage {
            version: 0,
            leader_id: leader.0,
            voters: voters.ids().map(voter).collect(),
            granting_voters: granting.iter().copied().map(voter).collect(),
        })
    }

    fn encode(&self) -> (ControlType, Bytes) {
        let body =
            |encoded: Result<Bytes, _>| encoded.expect("control records have no other version");
        match self {
            ControlRecord::LeaderChange(message) => {
                (ControlType::LeaderChange, body(message.to_bytes(0)))
            }
            ControlRecord::SnapshotHeader {
                last_contained_log_timestamp,
            } => {
                let record = SnapshotHeaderRecord {
                    version: 0,
                    last_contained_log_timestamp: last_contained_log_timestamp.0,
                };
                (ControlType::SnapshotHeader, body(record.to_bytes(0)))
            }
            ControlRecord::SnapshotFooter => {
                let record = SnapshotFooterRecord { version: 0 };
                (ControlType::SnapshotFooter, body(record.to_bytes(0)))
            }
            ControlRecord::KRaftVersion(kraft_version) => {
                let record = KRaftVersionRecord {
                    version: 0,
                    kraft_version: *kraft_version,
                };
                (ControlType::KRaftVersion, body(record.to_bytes(0)))
            }
            ControlRecord::Voters(record) => (ControlType::KRaftVoters, body(record.to_bytes(0))),
            ControlRecord::Other => panic!("a record that was not understood is never written"),
        }
    }

    fn decode(key: &[u8], value: Bytes) -> Result<ControlRecord, Fault> {
        let refuse = |error| Fault::corrupt(format!("a control record can't be read: {error}"));
        Ok(match ControlType::of_key(key) {
            Some(ControlType::LeaderChange) => {
                // The first two bytes of every body are its version; version 1 adds what nobody here asks for.
                let version = value
                    .first_chunk::<2>()
                    .map_or(0, |v| i16::from_be_bytes(*v));
                let version = version.clamp(0, LeaderChangeMessage::MAX_VERSION);
                let message = LeaderChangeMessage::from_bytes(value, version).map_err(refuse)?;
                ControlRecord::LeaderChange(message)
            }
            Some(ControlType::SnapshotHeader) => {
                let record = SnapshotHeaderRecord::from_bytes(value, 0).map_err(refuse)?;
                ControlRecord::SnapshotHeader {
                    last_contained_log_timestamp: Timestamp(record.last_contained_log_timestamp),
                }
            }
            Some(ControlType::SnapshotFooter) => ControlRecord::SnapshotFooter,
            Some(ControlType::KRaftVersion) => {
                let record = KRaftVersionRecord::from_bytes(value, 0).map_err(refuse)?;
                ControlRecord::KRaftVersion(record.kraft_version)
            }
            Some(ControlType::KRaftVoters) => {
                ControlRecord::Voters(VotersRecord::from_bytes(value, 0).map_err(refuse)?)
            }
            Some(ControlType::Abort | ControlType::Commit) | None => ControlRecord::Other,
        })
    }
}

/// One batch of control records, offsets and epoch still to be stamped.
pub(crate) fn control_batch(records: &[ControlRecord], now: Timestamp) -> BatchBuilder {
    let mut builder = BatchBuilder::new(Compression::None).control(true);
    for record in records {
        let (kind, value) = record.encode();
        let record = NewRecord {
            timestamp: now,
            key: Some(&control_record_key(kind)),
            value: Some(&value),
            headers: &[],
        };
        builder.append(record).expect("control records are small");
    }
    builder
}

/// One batch of opaque values; `None` where they don't fit into [`BATCH_BYTES_MAX`].
pub(crate) fn data_batch(values: &[Bytes], now: Timestamp) -> Option<BatchBuilder> {
    let mut builder = BatchBuilder::new(Compression::None);
    for value in values {
        builder.append(value_record(value, now)).ok()?;
        if builder.written_bytes() > BATCH_BYTES_MAX {
            return None;
        }
    }
    Some(builder)
}

pub(crate) fn value_record(value: &Bytes, now: Timestamp) -> NewRecord<'_> {
    NewRecord {
        timestamp: now,
        value: Some(value),
        ..NewRecord::default()
    }
}

/// A batch of the metadata log or of a snapshot, read and checked.
#[derive(Clone, Debug)]
pub struct MetadataBatch {
    pub base_offset: Offset,
    pub last_offset: Offset,
    pub epoch: Epoch,
    /// When the leader appended it.
    pub append_timestamp: Timestamp,
    /// Bytes of the batch.
    pub bytes: usize,
    /// Its control records; empty for a batch of the state machine's.
    pub control: Vec<ControlRecord>,
    /// The values of a batch of the state machine's: the first belongs to `base_offset`. Empty for a control batch.
    pub values: Vec<Bytes>,
}

/// Reads batch after batch, checksums included, and ends after the first error. A cut batch at the end is passed over.
pub fn walk(bytes: Bytes) -> impl Iterator<Item = Result<MetadataBatch, Fault>> {
    let mut failed = false;
    batches(bytes).map_while(move |batch| {
        if failed {
            return None;
        }
        let read = batch
            .map_err(|error| {
                Fault::corrupt(format!("the metadata log holds a broken batch: {error}"))
            })
            .and_then(read_batch);
        failed = read.is_err();
        Some(read)
    })
}

fn read_batch(batch: Batch) -> Result<MetadataBatch, Fault> {
    let header = *batch.header();
    let refuse = |error: String| {
        Fault::corrupt(format!(
            "the batch at offset {} of the metadata log is broken: {error}",
            header.base_offset()
        ))
    };
    batch
        .check_crc()
        .map_err(|error| refuse(error.to_string()))?;
    let mut read = MetadataBatch {
        base_offset: header.base_offset(),
        last_offset: header.last_offset(),
        epoch: header.leader_epoch(),
        append_timestamp: header.max_timestamp(),
        bytes: batch.bytes().len(),
        control: Vec::new(),
        values: Vec::new(),
    };
    for record in batch.records(Limits::default()) {
        let record = record.map_err(|error| refuse(error.to_string()))?;
        let value = record.value.unwrap_or_default();
        if header.is_control() {
            let key = record.key.unwrap_or_default();
            read.control.push(ControlRecord::decode(&key, value)?);
        } else {
            read.values.push(value);
        }
    }
    Ok(read)
}

/// Stamps a finished batch with its place.
pub(crate) fn placed(builder: BatchBuilder, base: Offset, epoch: Epoch) -> ValidBatch {
    let mut batch = builder.build();
    batch.stamp(base, epoch, None);
    batch
}
