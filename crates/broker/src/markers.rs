//! Ends of transactions, written to the partitions that this broker leads, and told when they are replicated.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use milena_base::{Epoch, ErrorCode, Now, Offset, TopicIdPartition, TopicPartition};
use milena_coordinator::{Marker, build_marker};
use milena_log::AppendOrigin;
use milena_protocol::write_txn_markers_response::{
    WritableTxnMarkerPartitionResult, WritableTxnMarkerResult, WritableTxnMarkerTopicResult,
};
use milena_protocol::{Str, WriteTxnMarkersResponse};
use milena_replica::{AppendRefused, Appended, Vouched};

use crate::broker::{Broker, Hosted};
use crate::ctx::{Outbox, ReplyTo};
use crate::groups::GroupsEvent;
use crate::housekeeping::Chore;
use crate::parked::Waiter;
use crate::topics;
use crate::transactions::TxnEvent;

/// How long a marker waits for its replicas before it counts as not written.
const REPLICATION_TIMEOUT: Duration = Duration::from_secs(30);

/// Who wants to know how a marker fared in one partition.
#[derive(Clone, Debug)]
pub enum MarkerAsker {
    /// This node's transaction coordinator, in its task of this number.
    Coordinator {
        task: u64,
        partition: TopicPartition,
    },
    /// A WriteTxnMarkers request; the partition's place in its answer.
    Request {
        gather: Arc<MarkersGather>,
        marker: usize,
        topic: Str,
        partition: i32,
    },
}

impl MarkerAsker {
    /// The marker is written, or is not.
    pub(crate) fn told(self, error: ErrorCode, out: &mut Outbox) {
        match self {
            MarkerAsker::Coordinator { task, partition } => out.post(TxnEvent::MarkerTold {
                task,
                partition,
                error,
            }),
            MarkerAsker::Request {
                gather,
                marker,
                topic,
                partition,
            } => gather.put(marker, &topic, partition, error, out),
        }
    }
}

/// The answer to a WriteTxnMarkers in the making.
#[derive(Debug)]
pub struct MarkersGather {
    to: ReplyTo,
    state: Mutex<(WriteTxnMarkersResponse, usize)>,
}

impl MarkersGather {
    /// `missing`: how many partitions are to be told of.
    pub(crate) fn new(to: ReplyTo, producer_ids: Vec<i64>, missing: usize) -> MarkersGather {
        let markers = producer_ids
            .into_iter()
            .map(|producer_id| WritableTxnMarkerResult {
                producer_id,
                topics: Vec::new(),
            });
        let response = WriteTxnMarkersResponse {
            markers: markers.collect(),
        };
        MarkersGather {
            to,
            state: Mutex::new((response, missing)),
        }
    }

    fn put(&self, marker: usize, topic: &Str, partition: i32, error: ErrorCode, out: &mut Outbox) {
        let mut state = self.state.lock().expect("no panic while held");
        let (response, missing) = &mut *state;
        let result = WritableTxnMarkerPartitionResult {
            partition_index: partition,
            error_code: error.code(),
        };
        let topics = &mut response.markers[marker].topics;
        match topics.iter_mut().find(|t| t.name == *topic) {
            Some(there) => there.partitions.push(result),
            None => topics.push(WritableTxnMarkerTopicResult {
                name: topic.clone(),
                partitions: vec![result],
            }),
        }
        *missing -= 1;
        if *missing == 0 {
            out.reply(self.to, response);
        }
    }
}

/// A marker that waits for its replicas.
pub struct ParkedMarker {
    pub(crate) partition: TopicIdPartition,
    epoch: Epoch,
    until: Offset,
    asker: MarkerAsker,
}

impl ParkedMarker {
    /// What became of it; `None` while it waits.
    pub(crate) fn outcome(&self, broker: &Broker, expired: bool) -> Option<ErrorCode> {
        let Some(hosted) = broker.hosted(self.partition) else {
            return Some(ErrorCode::NotLeaderOrFollower);
        };
        let done = hosted.partition.replicated(self.until, self.epoch);
        match done {
            Some(Ok(())) => Some(ErrorCode::None),
            Some(Err(error)) => Some(error),
            None => expired.then_some(ErrorCode::RequestTimedOut),
        }
    }

    pub(crate) fn tell(&self, error: ErrorCode, out: &mut Outbox) {
        self.asker.clone().told(error, out);
    }
}

impl Broker {
    /// Writes a marker to a partition that is led here; `asker` is told when it is replicated, or why it is not.
    pub(crate) fn write_marker(
        &self,
        partition: &TopicPartition,
        marker: &Marker,
        asker: MarkerAsker,
        now: Now,
        out: &mut Outbox,
    ) {
        let hosted = self.topic_id(&partition.topic).and_then(|id| {
            let id = TopicIdPartition::new(id, partition.partition);
            self.hosted(id).map(|hosted| (id, hosted))
        });
        let Some((id, hosted)) = hosted else {
            return asker.told(ErrorCode::UnknownTopicOrPartition, out);
        };
        if partition.topic == topics::CONSUMER_OFFSETS {
            // What the groups think is pending follows the order of their log: they write it themselves.
            return out.post(GroupsEvent::EndTransaction {
                shard: partition.partition,
                marker: *marker,
                asker,
            });
        }
        match self.append_marker(id, &hosted, marker, now, out) {
            Err(error) => asker.told(error, out),
            Ok(appended) if hosted.partition.high_watermark() >= appended.end => {
                asker.told(ErrorCode::None, out);
            }
            Ok(appended) => {
                let parked = ParkedMarker {
                    partition: id,
                    epoch: appended.leader_epoch,
                    until: appended.end,
                    asker,
                };
                drop(self.park(Waiter::Marker(parked), now, REPLICATION_TIMEOUT, out));
            }
        }
    }

    fn append_marker(
        &self,
        id: TopicIdPartition,
        hosted: &Hosted,
        marker: &Marker,
        now: Now,
        out: &mut Outbox,
    ) -> Result<Appended, ErrorCode> {
        let batch = build_marker(marker, now.wall);
        let origin = AppendOrigin::Marker {
            transaction_version: marker.transaction_version,
        };
        let partition = &hosted.partition;
        match partition.append_vouched(batch, true, origin, Vouched::Unasked, now) {
            Ok(mut appended) => {
                if let Some(flush) = appended.rolled.take() {
                    let partition = id;
                    out.post(Chore::Flush { partition, flush });
                }
                self.wake(id, out);
                Ok(appended)
            }
            Err(AppendRefused::Refused(code, why)) => {
                tracing::debug!(partition = %partition.name, "a marker is refused: {why}");
                Err(code)
            }
            Err(AppendRefused::Fault(fault)) => {
                self.on_fault(fault, out);
                Err(ErrorCode::KafkaStorageError)
            }
        }
    }
}
