//! Produce. v3: record batches of magic 2 only. v5: log start in the answer. v8: errors of single records.
//! v10: current leader in the answer. v12: implicit transaction members. v13: topic ids.
//!
//! A batch is checked before any lock is taken, stamped and written under the partition's one lock, and answered
//! at once unless acks=all has to wait for other replicas.

use std::sync::Arc;
use std::time::Duration;

use milena_base::{ErrorCode, Offset, TopicIdPartition, Uuid};
use milena_protocol::produce_request::{PartitionProduceData, TopicProduceData};
use milena_protocol::produce_response::{
    BatchIndexAndErrorMessage, PartitionProduceResponse, TopicProduceResponse,
};
use milena_protocol::{ProduceRequest, ProduceResponse, Records, Str};
use milena_log::AppendOrigin;
use milena_records::{CheckOptions, Rejected, check};
use milena_replica::{AppendRefused, Appended};

use crate::broker::{Broker, Hosted};
use crate::ctx::{Ctx, Outbox, Reply};
use crate::housekeeping::Chore;
use crate::parked::{ParkedProduce, Pending, Waiter};

/// The client id whose writes to internal topics are taken (`AdminUtils.ADMIN_CLIENT_ID`).
const ADMIN_CLIENT_ID: &str = "__admin_client";

pub(super) fn handle(
    broker: &Broker,
    ctx: &Ctx,
    request: ProduceRequest,
    out: &mut Outbox,
) -> Reply {
    let mut produce = Produce {
        broker,
        ctx,
        acks: request.acks,
        pending: Vec::new(),
        failed: false,
    };
    let topics = request.topic_data;
    let responses = topics
        .into_iter()
        .map(|topic| produce.topic(topic, out))
        .collect();
    let Produce {
        pending, failed, ..
    } = produce;
    if request.acks == 0 {
        return match failed {
            true => Reply::Close("a produce with acks=0 failed".into()),
            false => Reply::Silent,
        };
    }
    let response = ProduceResponse {
        responses,
        ..ProduceResponse::default()
    };
    if pending.is_empty() {
        return ctx.now_frame(&response);
    }
    let timeout = Duration::from_millis(request.timeout_ms.max(0) as u64);
    let parked = ParkedProduce::new(ctx.to, response, pending);
    broker.park(Waiter::Produce(parked), ctx.now, timeout, out)
}

struct Produce<'a> {
    broker: &'a Broker,
    ctx: &'a Ctx,
    acks: i16,
    pending: Vec<Pending>,
    failed: bool,
}

impl Produce<'_> {
    fn topic(&mut self, topic: TopicProduceData, out: &mut Outbox) -> TopicProduceResponse {
        let by_id = self.ctx.version() >= 13;
        let found = match by_id {
            true => self.broker.topic_name(topic.topic_id).map(|_| topic.topic_id),
            false => self.broker.topic_id(&topic.name),
        };
        let internal = !by_id && crate::topics::is_internal(&topic.name)
            || by_id && self.broker.is_internal_id(topic.topic_id);
        let partitions = topic.partition_data.into_iter();
        let partition_responses = partitions
            .map(|data| {
                let (index, result) = self.partition(found, by_id, internal, data, out);
                self.answer(index, result)
            })
            .collect();
        TopicProduceResponse {
            name: topic.name,
            topic_id: topic.topic_id,
            partition_responses,
        }
    }

    fn partition(
        &mut self,
        topic_id: Option<Uuid>,
        by_id: bool,
        internal: bool,
        data: PartitionProduceData,
        out: &mut Outbox,
    ) -> (i32, Result<Appended, Refusal>) {
        let index = data.index;
        let unknown = match by_id {
            true => ErrorCode::UnknownTopicId,
            false => ErrorCode::UnknownTopicOrPartition,
        };
        if !matches!(self.acks, -1..=1) {
            return (index, Err(ErrorCode::InvalidRequiredAcks.into()));
        }
        let Some(topic_id) = topic_id else {
            return (index, Err(unknown.into()));
        };
        if internal && self.ctx.client_id.as_deref() != Some(ADMIN_CLIENT_ID) {
            return (index, Err(ErrorCode::InvalidTopicException.into()));
        }
        let id = TopicIdPartition::new(topic_id, index);
        let hosted = match self.broker.hosted(id) {
            Some(hosted) => hosted,
            None => return (index, Err(self.broker.why_not_hosted(id).into())),
        };
        (index, self.append(&hosted, id, index, data.records, out))
    }

    fn append(
        &mut self,
        hosted: &Arc<Hosted>,
        id: TopicIdPartition,
        index: i32,
        records: Option<Records>,
        out: &mut Outbox,
    ) -> Result<Appended, Refusal> {
        let bytes = match records {
            Some(Records::Bytes(bytes)) if !bytes.is_empty() => bytes,
            _ => return Err(ErrorCode::InvalidRecord.into()),
        };
        let now = self.ctx.now;
        hosted.partition.leader_view()?;
        let batch = check(bytes, &self.options(hosted), now.wall)?;
        if batch.header().is_transactional() {
            let why = "transactions are not served yet".into();
            return Err(Refusal::new(ErrorCode::InvalidTxnState, Some(why)));
        }
        let mut appended = hosted
            .partition
            .append_as_leader(batch, self.acks == -1, AppendOrigin::Client, now)
            .map_err(|refused| self.refusal(refused, out))?;
        if self.acks == -1 && hosted.partition.high_watermark() < appended.end {
            self.pending.push(Pending {
                partition: id,
                index,
                epoch: appended.leader_epoch,
                until: appended.end,
            });
        }
        if let Some(flush) = appended.rolled.take() {
            out.post(Chore::Flush { partition: id, flush });
        }
        self.broker.wake(id, out);
        Ok(appended)
    }

    fn options(&self, hosted: &Hosted) -> CheckOptions {
        CheckOptions {
            produce_version: self.ctx.version(),
            ..hosted.rules().check.clone()
        }
    }

    fn refusal(&self, refused: AppendRefused, out: &mut Outbox) -> Refusal {
        match refused {
            AppendRefused::Refused(code, why) => Refusal::new(code, Some(why)),
            AppendRefused::Fault(fault) => {
                self.broker.on_fault(fault, out);
                ErrorCode::KafkaStorageError.into()
            }
        }
    }

    fn answer(
        &mut self,
        index: i32,
        result: Result<Appended, Refusal>,
    ) -> PartitionProduceResponse {
        match result {
            Ok(appended) => PartitionProduceResponse {
                index,
                base_offset: appended.first.0,
                log_append_time_ms: appended.log_append_time.0,
                log_start_offset: appended.log_start.0,
                ..PartitionProduceResponse::default()
            },
            Err(refusal) => {
                self.failed = true;
                PartitionProduceResponse {
                    index,
                    error_code: refusal.code.code(),
                    base_offset: Offset::NONE.0,
                    log_start_offset: Offset::NONE.0,
                    record_errors: refusal.record_errors,
                    error_message: refusal.message.filter(|why| !why.is_empty()).map(Str::from),
                    ..PartitionProduceResponse::default()
                }
            }
        }
    }
}

/// The client's trouble with one partition.
struct Refusal {
    code: ErrorCode,
    message: Option<String>,
    record_errors: Vec<BatchIndexAndErrorMessage>,
}

impl Refusal {
    fn new(code: ErrorCode, message: Option<String>) -> Refusal {
        Refusal {
            code,
            message,
            record_errors: Vec::new(),
        }
    }
}

impl From<ErrorCode> for Refusal {
    fn from(code: ErrorCode) -> Refusal {
        Refusal::new(code, None)
    }
}

impl From<Rejected> for Refusal {
    fn from(rejected: Rejected) -> Refusal {
        let errors = rejected.record_errors.into_iter();
        let record_errors = errors.map(|(index, message)| BatchIndexAndErrorMessage {
            batch_index: index,
            batch_index_error_message: Some(message.into()),
        });
        Refusal {
            code: rejected.code,
            message: Some(rejected.message),
            record_errors: record_errors.collect(),
        }
    }
}
