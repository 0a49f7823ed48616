//! A batch that may be appended.

use bytes::Bytes;
use milena_base::{Epoch, Offset, Timestamp};

use crate::{
    Batch, BatchError, BatchHeader, HEADER_BYTES, Limits, Records, TimestampType, batches,
};

/// A batch that one of this crate's checkers has passed: [`check`](crate::check) (a producer's),
/// [`check_replicated`] (a leader's) or [`BatchBuilder`](crate::BatchBuilder) (our own). Its header is owned and can
/// be stamped; the records stay the slice that came in.
#[derive(Clone, Debug)]
pub struct ValidBatch {
    header: BatchHeader,
    /// The whole batch as it came; its first 61 bytes are replaced by `header`.
    bytes: Bytes,
}

impl ValidBatch {
    /// The caller has checked that the bytes are one batch of format 2.
    pub(crate) fn new(header: BatchHeader, bytes: Bytes) -> ValidBatch {
        debug_assert_eq!(header.size(), Some(bytes.len()));
        ValidBatch { header, bytes }
    }

    pub fn header(&self) -> &BatchHeader {
        &self.header
    }

    /// Bytes of the batch.
    pub fn len(&self) -> usize {
        self.bytes.len()
    }

    /// Never: a batch has a header. (Here because there is a `len`.)
    pub fn is_empty(&self) -> bool {
        false
    }

    /// Gives the batch its place in a partition. With a log-append time the timestamps become that (the CRC
    /// follows, without a pass over the records); nothing else that is stamped is covered by the CRC.
    pub fn stamp(
        &mut self,
        base_offset: Offset,
        leader_epoch: Epoch,
        log_append_time: Option<Timestamp>,
    ) {
        self.header.set_base_offset_raw(base_offset.0);
        self.header.set_leader_epoch_raw(leader_epoch.0);
        if let Some(time) = log_append_time {
            let records_bytes = self.bytes.len() - HEADER_BYTES;
            self.header
                .set_max_timestamp(TimestampType::LogAppendTime, time, records_bytes);
        }
    }

    /// Gives the batch another producer id, epoch and first sequence (the CRC follows, without a pass over the
    /// records): a producer sends it again under a new identity.
    pub fn stamp_producer(&mut self, id: i64, epoch: i16, sequence: i32) {
        let records_bytes = self.bytes.len() - HEADER_BYTES;
        self.header.set_producer(id, epoch, sequence, records_bytes);
    }

    /// The batch's bytes, to be written one after the other: header, records.
    pub fn parts(&self) -> [&[u8]; 2] {
        [self.header.as_bytes(), &self.bytes[HEADER_BYTES..]]
    }

    /// Largest timestamp, as the time index and Kafka's append result have it.
    pub fn max_timestamp(&self) -> Timestamp {
        self.header.max_timestamp()
    }

    /// The offset that Kafka reports for the largest timestamp: the batch's last, whichever record has it.
    pub fn offset_of_max_timestamp(&self) -> Offset {
        self.header.last_offset()
    }

    /// The whole batch in one piece; copied if it was stamped.
    pub fn to_bytes(&self) -> Bytes {
        match self.bytes[..HEADER_BYTES] == self.header.as_bytes()[..] {
            true => self.bytes.clone(),
            false => self.parts().concat().into(),
        }
    }

    /// The records, with the offsets and timestamps that the header says now.
    pub fn records(&self, limits: Limits) -> Records<'_> {
        Records::new(self.header, &self.bytes, limits)
    }
}

/// Checks what a leader sent to a follower (or a voter to an observer): whole batches of format 2 with right
/// checksums whose offsets increase. A cut batch at the end is dropped, as a fetch may end in one. The records were
/// checked by the leader and are not walked.
pub fn check_replicated(records: Bytes) -> Result<Vec<ValidBatch>, BatchError> {
    let mut valid = Vec::new();
    let mut last = -1;
    for batch in batches(records) {
        let batch = batch?;
        batch.check_crc()?;
        check_order(&batch, last)?;
        last = batch.header().last_offset().0;
        valid.push(ValidBatch::new(*batch.header(), batch.into_bytes()));
    }
    Ok(valid)
}

fn check_order(batch: &Batch, last: i64) -> Result<(), BatchError> {
    let header = batch.header();
    let (base, end) = (header.base_offset().0, header.last_offset().0);
    match base > last && end >= base {
        true => Ok(()),
        false => Err(BatchError::OffsetOrder { last, next: base }),
    }
}
