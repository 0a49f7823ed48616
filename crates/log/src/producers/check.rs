//! What Kafka checks of a batch of an idempotent or transactional producer before it is appended: epoch, sequence,
//! duplicates, coordinator epoch. Nothing changes here.

use std::fmt::Display;

use milena_base::{ErrorCode, Offset, Timestamp};

use crate::producers::entry::{BatchMetadata, NO_EPOCH, ProducerEntry};

/// Who appends: what is checked depends on it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AppendOrigin {
    /// A producer's request: epochs, sequences and duplicates are checked.
    Client,
    /// A coordinator of this node, or a transaction marker: epochs are checked.
    Coordinator,
    /// A transaction marker of a transaction of this protocol (`transaction.version`): the same, and from 2 on an
    /// epoch can end one transaction only (KIP-890).
    Marker { transaction_version: i16 },
    /// The leader's batches, as they are.
    Replication,
    /// The quorum's leader, which stamped offsets and epoch itself.
    RaftLeader,
}

/// End of a transaction, from a control batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EndMarker {
    pub abort: bool,
    pub coordinator_epoch: i32,
    /// Protocol of the transaction, where the caller knows it. From 2 on (KIP-890) each marker has a new epoch.
    pub transaction_version: Option<i16>,
}

/// What the producer state needs to know of a batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ProducerBatch {
    pub producer_id: i64,
    pub producer_epoch: i16,
    pub base_sequence: i32,
    pub last_sequence: i32,
    pub base_offset: Offset,
    pub last_offset: Offset,
    pub max_timestamp: Timestamp,
    pub transactional: bool,
    /// Set for a control batch.
    pub marker: Option<EndMarker>,
}

/// What is to be done with a batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    Append,
    /// One of the last batches again: answered with its offsets.
    Duplicate(BatchMetadata),
}

pub type Refusal = (ErrorCode, String);

pub(crate) fn check(
    entry: &ProducerEntry,
    batch: &ProducerBatch,
    origin: AppendOrigin,
    partition: &dyn Display,
) -> Result<Verdict, Refusal> {
    if matches!(origin, AppendOrigin::Replication | AppendOrigin::RaftLeader) {
        return Ok(Verdict::Append);
    }
    if let Some(mut marker) = batch.marker {
        if let AppendOrigin::Marker {
            transaction_version,
        } = origin
        {
            marker.transaction_version = Some(transaction_version);
        }
        check_marker(entry, batch, marker, partition)?;
        return Ok(Verdict::Append);
    }
    if origin == AppendOrigin::Client {
        let repeated = entry.duplicate_of(
            batch.producer_epoch,
            batch.base_sequence,
            batch.last_sequence,
        );
        if let Some(repeated) = repeated {
            return Ok(Verdict::Duplicate(repeated));
        }
    }
    if batch.producer_epoch < entry.producer_epoch {
        return Err(stale_epoch(entry, batch, None, partition));
    }
    if origin == AppendOrigin::Client {
        check_sequence(entry, batch, partition)?;
    }
    if entry.txn_first_offset.is_some() && !batch.transactional {
        let message = format!(
            "Expected transactional write from producer {} at offset {} in partition {partition}",
            batch.producer_id, batch.base_offset
        );
        return Err((ErrorCode::InvalidTxnState, message));
    }
    Ok(Verdict::Append)
}

fn check_sequence(
    entry: &ProducerEntry,
    batch: &ProducerBatch,
    partition: &dyn Display,
) -> Result<(), Refusal> {
    let first = batch.base_sequence;
    let (id, offset) = (batch.producer_id, batch.base_offset);
    if entry.producer_epoch == NO_EPOCH {
        return Ok(());
    }
    let message = if batch.producer_epoch != entry.producer_epoch {
        if first == 0 {
            return Ok(());
        }
        format!(
            "Invalid sequence number for new epoch of producer {id} at offset {offset} in partition {partition}: \
             {} (request epoch), {first} (seq. number), {} (current producer epoch)",
            batch.producer_epoch, entry.producer_epoch
        )
    } else {
        let last = entry.last_sequence();
        let follows = i64::from(first) == i64::from(last) + 1 || (first == 0 && last == i32::MAX);
        if follows {
            return Ok(());
        }
        format!(
            "Out of order sequence number for producer {id} at offset {offset} in partition {partition}: \
             {first} (incoming seq. number), {last} (current end sequence number)"
        )
    };
    Err((ErrorCode::OutOfOrderSequenceNumber, message))
}

fn check_marker(
    entry: &ProducerEntry,
    batch: &ProducerBatch,
    marker: EndMarker,
    partition: &dyn Display,
) -> Result<(), Refusal> {
    let bumps = marker
        .transaction_version
        .is_some_and(|version| version >= 2);
    let same = batch.producer_epoch == entry.producer_epoch;
    let repeated = same && (entry.txn_first_offset.is_none() || batch.producer_epoch == i16::MAX);
    if batch.producer_epoch < entry.producer_epoch || (bumps && same && !repeated) {
        return Err(stale_epoch(
            entry,
            batch,
            marker.transaction_version,
            partition,
        ));
    }
    if entry.coordinator_epoch > marker.coordinator_epoch {
        let message = format!(
            "Invalid coordinator epoch for producerId {} at offset {} in partition {partition}: {} (zombie), {} (current)",
            batch.producer_id, batch.base_offset, marker.coordinator_epoch, entry.coordinator_epoch
        );
        return Err((ErrorCode::TransactionCoordinatorFenced, message));
    }
    Ok(())
}

fn stale_epoch(
    entry: &ProducerEntry,
    batch: &ProducerBatch,
    version: Option<i16>,
    partition: &dyn Display,
) -> Refusal {
    let bumps = version.is_some_and(|version| version >= 2);
    let relation = if bumps { "<=" } else { "<" };
    let message = format!(
        "Epoch of producer {} at offset {} in {partition} is {}, which is {relation} the last seen epoch {} (TV{})",
        batch.producer_id,
        batch.base_offset,
        batch.producer_epoch,
        entry.producer_epoch,
        version.unwrap_or(-1)
    );
    (ErrorCode::InvalidProducerEpoch, message)
}
