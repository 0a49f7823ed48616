//! A coordinator's log: how the mailboxes of coordinators append to, and load from, the partitions of their internal
//! topic that this broker leads.

use std::sync::Arc;

use bytes::Bytes;
use milena_base::{Epoch, ErrorCode, Now, Offset, TopicIdPartition};
use milena_coordinator::{
    Event, KeyValue, LogEnd, Marker, Producer, build_batch, build_marker,
    build_transactional_batch, read_batches,
};
use milena_log::AppendOrigin;
use milena_records::{Codec, Limits, ValidBatch, batches};
use milena_replica::{AppendRefused, Vouched};
use tracing::{info, warn};

use crate::broker::{Broker, Hosted};
use crate::ctx::Outbox;
use crate::housekeeping::Chore;

/// See the module's words.
pub(crate) struct CoordinatorLog {
    pub(crate) broker: Arc<Broker>,
    pub(crate) topic: &'static str,
    /// How much is read at once when a partition is loaded.
    pub(crate) load_bytes: u32,
    pub(crate) codec: Codec,
}

impl CoordinatorLog {
    fn hosted(&self, shard: i32) -> Option<(TopicIdPartition, Arc<Hosted>)> {
        let id = self.broker.topic_id(self.topic)?;
        let id = TopicIdPartition::new(id, shard);
        Some((id, self.broker.hosted(id)?))
    }

    pub(crate) fn high_watermark(&self, shard: i32) -> Option<Offset> {
        let (_, hosted) = self.hosted(shard)?;
        Some(hosted.partition.high_watermark())
    }

    /// Appends one batch as the partition's leader; the offset of its first record.
    pub(crate) fn append(
        &self,
        shard: i32,
        epoch: Epoch,
        records: &[KeyValue],
        now: Now,
        out: &mut Outbox,
    ) -> Result<Offset, ErrorCode> {
        let batch = build_batch(records, self.codec, now.wall);
        let batch = batch.map_err(|_| ErrorCode::RecordListTooLarge)?;
        let origin = AppendOrigin::Coordinator;
        self.append_batch(shard, epoch, batch, origin, Vouched::Unasked, now, out)
    }

    /// The same within a producer's transaction.
    #[allow(clippy::too_many_arguments)]
    pub(crate) fn append_transactional(
        &self,
        shard: i32,
        epoch: Epoch,
        producer: Producer,
        vouched: Vouched,
        records: &[KeyValue],
        now: Now,
        out: &mut Outbox,
    ) -> Result<Offset, ErrorCode> {
        let batch = build_transactional_batch(records, producer, self.codec, now.wall);
        let batch = batch.map_err(|_| ErrorCode::RecordListTooLarge)?;
        let origin = AppendOrigin::Coordinator;
        self.append_batch(shard, epoch, batch, origin, vouched, now, out)
    }

    /// Ends a transaction in the partition.
    pub(crate) fn append_marker(
        &self,
        shard: i32,
        epoch: Epoch,
        marker: &Marker,
        now: Now,
        out: &mut Outbox,
    ) -> Result<Offset, ErrorCode> {
        let origin = AppendOrigin::Marker {
            transaction_version: marker.transaction_version,
        };
        let batch = build_marker(marker, now.wall);
        self.append_batch(shard, epoch, batch, origin, Vouched::Unasked, now, out)
    }

    #[allow(clippy::too_many_arguments)]
    fn append_batch(
        &self,
        shard: i32,
        epoch: Epoch,
        batch: ValidBatch,
        origin: AppendOrigin,
        vouched: Vouched,
        now: Now,
        out: &mut Outbox,
    ) -> Result<Offset, ErrorCode> {
        let (id, hosted) = self.hosted(shard).ok_or(ErrorCode::NotLeaderOrFollower)?;
        if hosted.partition.leader_view()?.leader_epoch != epoch {
            return Err(ErrorCode::NotLeaderOrFollower);
        }
        if batch.len() > hosted.rules().check.message_bytes_max {
            return Err(ErrorCode::RecordListTooLarge);
        }
        let partition = &hosted.partition;
        match partition.append_vouched(batch, true, origin, vouched, now) {
            Ok(appended) => {
                if let Some(flush) = appended.rolled {
                    let partition = id;
                    out.post(Chore::Flush { partition, flush });
                }
                self.broker.wake(id, out);
                Ok(appended.first)
            }
            Err(AppendRefused::Refused(code, _)) => Err(code),
            Err(AppendRefused::Fault(fault)) => {
                self.broker.on_fault(fault, out);
                Err(ErrorCode::KafkaStorageError)
            }
        }
    }

    /// Reads a partition from its start to its end, as [`Event::Records`] for `take`, and then the event that ends the
    /// load. What came of it is logged; `what` is in it.
    pub(crate) fn load(&self, what: &str, shard: i32, epoch: Epoch, mut take: impl FnMut(Event)) {
        let result = self.load_records(shard, epoch, &mut take);
        match &result {
            Ok((_, 0)) => {}
            Ok((_, records)) => info!(partition = shard, records, "loaded {what}"),
            Err(why) => warn!(
                partition = shard,
                "{what} of a partition can't be loaded: {why}"
            ),
        }
        take(Event::Loaded {
            shard,
            epoch,
            result: result.map(|(end, _)| end),
        });
    }

    fn load_records(
        &self,
        shard: i32,
        epoch: Epoch,
        mut take: impl FnMut(Event),
    ) -> Result<(LogEnd, usize), String> {
        let (_, hosted) = self.hosted(shard).ok_or("the partition is not here")?;
        let reader = hosted.partition.reader();
        let mut next = reader.log_start();
        let mut count = 0;
        while next < reader.log_end() {
            let read = reader.read(next, self.load_bytes, reader.log_end(), true);
            let slice = read.map_err(|error| format!("{error:?}"))?;
            let file = slice.file.ok_or("a batch can't be found")?;
            let bytes = Bytes::from(file.read().map_err(|error| error.to_string())?);
            let from = next;
            let last = batches(bytes.clone()).map_while(Result::ok).last();
            next = last.map_or(from, |batch| batch.header().next_offset());
            if next == from {
                return Err("a batch is cut".into());
            }
            let mut records = read_batches(bytes, Limits::default())?;
            records.retain(|record| record.offset >= from);
            count += records.len();
            take(Event::Records {
                shard,
                epoch,
                records,
                high_watermark: hosted.partition.high_watermark(),
            });
        }
        let end = LogEnd {
            log_end: next,
            high_watermark: hosted.partition.high_watermark(),
        };
        Ok((end, count))
    }
}
