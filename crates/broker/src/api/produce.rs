//! Produce. v3: record batches of magic 2 only. v5: log start in the answer. v8: errors of single records.
//! v10: current leader in the answer. v12: implicit transaction members. v13: topic ids.
//!
//! A batch is checked before any lock is taken, stamped and written under the partition's one lock, and answered
//! at once unless acks=all has to wait for other replicas. The first batch of a transaction in a partition waits for
//! the word of the transaction's coordinator.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use milena_base::{ErrorCode, Now, Offset, TopicIdPartition, TopicPartition, Uuid};
use milena_protocol::produce_request::{PartitionProduceData, TopicProduceData};
use milena_protocol::produce_response::{
    BatchIndexAndErrorMessage, PartitionProduceResponse, TopicProduceResponse,
};
use milena_protocol::{ProduceRequest, ProduceResponse, Records, Str};
use milena_log::AppendOrigin;
use milena_records::{CheckOptions, Rejected, ValidBatch, check};
use milena_replica::{AppendRefused, Appended, Guard, Verification, Vouched};

use crate::broker::{Broker, Hosted};
use crate::ctx::{Ctx, Outbox, Reply};
use crate::housekeeping::Chore;
use crate::parked::{ParkedProduce, Pending, Waiter};
use crate::transactions::TxnEvent;
use crate::verification::{Held, Question, Support};

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
        now: ctx.now,
        acks: request.acks,
        transactional_id: request.transactional_id,
        pending: Vec::new(),
        held: Vec::new(),
        failed: false,
    };
    let topics = request.topic_data.into_iter().enumerate();
    let responses = topics
        .map(|(place, topic)| produce.topic(place, topic, out))
        .collect();
    let response = ProduceResponse {
        responses,
        ..ProduceResponse::default()
    };
    let timeout = Duration::from_millis(request.timeout_ms.max(0) as u64);
    match produce.held.is_empty() {
        true => produce.finish(response, timeout, out),
        false => produce.hold(response, timeout, out),
    }
}

/// The coordinator of the transaction has answered: what it let pass is appended, and all is answered.
pub(crate) fn resume(
    broker: &Broker,
    held: HeldProduce,
    verdicts: &BTreeMap<TopicPartition, ErrorCode>,
    now: Now,
    out: &mut Outbox,
) {
    let HeldProduce {
        ctx,
        acks,
        timeout,
        mut response,
        pending,
        failed,
        batches,
    } = held;
    let mut produce = Produce {
        broker,
        ctx: &ctx,
        now,
        acks,
        transactional_id: None,
        pending,
        held: Vec::new(),
        failed,
    };
    for held in batches {
        let (topic, partition) = held.place;
        let index = held.id.partition;
        let result = match verdicts.get(&held.hosted.partition.name) {
            Some(ErrorCode::None) => {
                let vouched = Vouched::By(held.guard);
                produce.append_batch(&held.hosted, held.id, held.batch, vouched, out)
            }
            Some(error) => Err(unverified(*error)),
            None => Err(unverified(ErrorCode::UnknownServerError)),
        };
        response.responses[topic].partition_responses[partition] = produce.answer(index, result);
    }
    if let Reply::Now(frame) = produce.finish(response, timeout, out) {
        out.replies.push((ctx.to, frame));
    }
}

/// Errors of the coordinator that older producers would not take for worth another try are told as one that they do.
fn unverified(error: ErrorCode) -> Refusal {
    match error {
        ErrorCode::InvalidTxnState => {
            let why = "Partition was not added to the transaction";
            Refusal::new(error, Some(why.into()))
        }
        ErrorCode::ConcurrentTransactions
        | ErrorCode::NetworkException
        | ErrorCode::CoordinatorLoadInProgress
        | ErrorCode::CoordinatorNotAvailable
        | ErrorCode::NotCoordinator => {
            let why = format!(
                "Unable to verify the partition has been added to the transaction. Underlying error: {}",
                error.name()
            );
            Refusal::new(ErrorCode::NotEnoughReplicas, Some(why))
        }
        other => other.into(),
    }
}

/// A produce that waits for the coordinator of its transaction. Its connection takes no other request meanwhile.
#[derive(Debug)]
pub struct HeldProduce {
    ctx: Ctx,
    acks: i16,
    timeout: Duration,
    /// With the answers of the partitions that did not have to wait.
    response: ProduceResponse,
    pending: Vec<Pending>,
    failed: bool,
    batches: Vec<HeldBatch>,
}

struct HeldBatch {
    /// Topic and partition in the response.
    place: (usize, usize),
    id: TopicIdPartition,
    hosted: Arc<Hosted>,
    batch: ValidBatch,
    guard: Guard,
}

impl fmt::Debug for HeldBatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} bytes for {}", self.batch.len(), self.hosted.partition.name)
    }
}

struct Produce<'a> {
    broker: &'a Broker,
    ctx: &'a Ctx,
    now: Now,
    acks: i16,
    transactional_id: Option<Str>,
    pending: Vec<Pending>,
    held: Vec<HeldBatch>,
    failed: bool,
}

/// What a partition is answered: at once, or when its transaction's coordinator has spoken.
enum Outcome {
    Done(Result<Appended, Refusal>),
    Held(Arc<Hosted>, TopicIdPartition, ValidBatch, Guard),
}

impl From<Refusal> for Outcome {
    fn from(refusal: Refusal) -> Outcome {
        Outcome::Done(Err(refusal))
    }
}

impl Produce<'_> {
    fn finish(self, response: ProduceResponse, timeout: Duration, out: &mut Outbox) -> Reply {
        if self.acks == 0 {
            return match self.failed {
                true => Reply::Close("a produce with acks=0 failed".into()),
                false => Reply::Silent,
            };
        }
        if self.pending.is_empty() {
            return self.ctx.now_frame(&response);
        }
        let parked = ParkedProduce::new(self.ctx.to, response, self.pending);
        self.broker
            .park(Waiter::Produce(parked), self.now, timeout, out)
    }

    /// Asks the coordinator of the transaction, once for all batches that need it.
    fn hold(self, response: ProduceResponse, timeout: Duration, out: &mut Outbox) -> Reply {
        let first = *self.held[0].batch.header();
        let names = self.held.iter().map(|held| held.hosted.partition.name.clone());
        let question = Question {
            transactional_id: self.transactional_id.unwrap_or_default().detached(),
            producer_id: first.producer_id(),
            producer_epoch: first.producer_epoch(),
            partitions: names.collect(),
            support: Support::of_produce(self.ctx.version()),
            held: Held::Produce(Box::new(HeldProduce {
                ctx: self.ctx.clone(),
                acks: self.acks,
                timeout,
                response,
                pending: self.pending,
                failed: self.failed,
                batches: self.held,
            })),
        };
        out.post(TxnEvent::Ask(Box::new(question)));
        Reply::Held
    }

    fn topic(
        &mut self,
        place: usize,
        topic: TopicProduceData,
        out: &mut Outbox,
    ) -> TopicProduceResponse {
        let by_id = self.ctx.version() >= 13;
        let found = match by_id {
            true => self.broker.topic_name(topic.topic_id).map(|_| topic.topic_id),
            false => self.broker.topic_id(&topic.name),
        };
        let internal = !by_id && crate::topics::is_internal(&topic.name)
            || by_id && self.broker.is_internal_id(topic.topic_id);
        let partitions = topic.partition_data.into_iter().enumerate();
        let partition_responses = partitions
            .map(|(partition, data)| {
                let index = data.index;
                match self.partition(found, by_id, internal, data, out) {
                    Outcome::Done(result) => self.answer(index, result),
                    Outcome::Held(hosted, id, batch, guard) => {
                        self.held.push(HeldBatch {
                            place: (place, partition),
                            id,
                            hosted,
                            batch,
                            guard,
                        });
                        PartitionProduceResponse {
                            index,
                            ..PartitionProduceResponse::default()
                        }
                    }
                }
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
    ) -> Outcome {
        let unknown = match by_id {
            true => ErrorCode::UnknownTopicId,
            false => ErrorCode::UnknownTopicOrPartition,
        };
        if !matches!(self.acks, -1..=1) {
            return Refusal::from(ErrorCode::InvalidRequiredAcks).into();
        }
        let Some(topic_id) = topic_id else {
            return Refusal::from(unknown).into();
        };
        if internal && self.ctx.client_id.as_deref() != Some(ADMIN_CLIENT_ID) {
            return Refusal::from(ErrorCode::InvalidTopicException).into();
        }
        let id = TopicIdPartition::new(topic_id, data.index);
        let hosted = match self.broker.hosted(id) {
            Some(hosted) => hosted,
            None => return Refusal::from(self.broker.why_not_hosted(id)).into(),
        };
        let checked = self.check(&hosted, data.records);
        match checked.and_then(|batch| self.vouch(&hosted, &batch).map(|by| (batch, by))) {
            Err(refusal) => refusal.into(),
            Ok((batch, Voucher::Coordinator(guard))) => Outcome::Held(hosted, id, batch, guard),
            Ok((batch, Voucher::Known(vouched))) => {
                Outcome::Done(self.append_batch(&hosted, id, batch, vouched, out))
            }
        }
    }

    fn check(&self, hosted: &Hosted, records: Option<Records>) -> Result<ValidBatch, Refusal> {
        let bytes = match records {
            Some(Records::Bytes(bytes)) if !bytes.is_empty() => bytes,
            _ => return Err(ErrorCode::InvalidRecord.into()),
        };
        hosted.partition.leader_view()?;
        Ok(check(bytes, &self.options(hosted), self.now.wall)?)
    }

    /// Who speaks for a batch that is part of a transaction.
    fn vouch(&self, hosted: &Hosted, batch: &ValidBatch) -> Result<Voucher, Refusal> {
        let header = batch.header();
        if !header.is_transactional() {
            return Ok(Voucher::Known(Vouched::Unasked));
        }
        if self.transactional_id.is_none() {
            return Err(ErrorCode::TransactionalIdAuthorizationFailed.into());
        }
        if !self
            .broker
            .verifies(Support::of_produce(self.ctx.version()))
        {
            return Ok(Voucher::Known(Vouched::Unasked));
        }
        let (id, epoch) = (header.producer_id(), header.producer_epoch());
        let first = self.held.first().map(|held| *held.batch.header());
        if first.is_some_and(|f| (f.producer_id(), f.producer_epoch()) != (id, epoch)) {
            return Err(ErrorCode::InvalidProducerIdMapping.into());
        }
        match hosted.partition.begin_verification(id, epoch)? {
            Verification::NotNeeded => Ok(Voucher::Known(Vouched::ByOpenTransaction)),
            // Nobody would hear of a refusal: no client does this.
            Verification::Ask(_) if self.acks == 0 => Err(ErrorCode::InvalidTxnState.into()),
            Verification::Ask(guard) => Ok(Voucher::Coordinator(guard)),
        }
    }

    fn append_batch(
        &mut self,
        hosted: &Hosted,
        id: TopicIdPartition,
        batch: ValidBatch,
        vouched: Vouched,
        out: &mut Outbox,
    ) -> Result<Appended, Refusal> {
        let all = self.acks == -1;
        let origin = AppendOrigin::Client;
        let mut appended = hosted
            .partition
            .append_vouched(batch, all, origin, vouched, self.now)
            .map_err(|refused| self.refusal(refused, out))?;
        if all && hosted.partition.high_watermark() < appended.end {
            self.pending.push(Pending {
                partition: id,
                index: id.partition,
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

/// What speaks for a batch, or who is to be asked.
enum Voucher {
    Known(Vouched),
    Coordinator(Guard),
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
