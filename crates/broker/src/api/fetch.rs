//! Fetch. v4: isolation level and aborted transactions. v5: log start. v7: sessions (KIP-227). v9: leader epochs.
//! v11: rack. v12: truncation by epoch. v13: topic ids. v15: replica state. v16: leaders' endpoints. v18: the
//! fetcher's high watermark.
//!
//! On controllers' listeners it is the quorum's. What is read are file slices; the edge sends them. A fetch that finds less than `min_bytes` is parked.

use std::time::Duration;

use milena_base::{ErrorCode, Offset, TopicIdPartition};
use milena_disk::FileSlice;
use milena_protocol::fetch_response::{
    AbortedTransaction, EpochEndOffset, FetchableTopicResponse, PartitionData,
};
use milena_protocol::{FetchRequest, FetchResponse, Records};
use milena_raft::RaftRequest;
use milena_replica::{Isolation, ReadAnswer, ReadFrom, ReadRefused, Wanted as ReadWanted};

use crate::api::ListenerKind;
use crate::broker::Broker;
use crate::ctx::{Ctx, Outbox, Reply, ReplyTo};
use crate::parked::Waiter;
use crate::sessions::{FetchContext, FetchKey, Wanted};

pub(super) fn handle(broker: &Broker, ctx: &Ctx, request: FetchRequest, out: &mut Outbox) -> Reply {
    if broker.listener_kind(ctx.listener) == ListenerKind::Controller {
        return super::to_quorum(broker, ctx, RaftRequest::Fetch(request), out);
    }
    let context = match broker.sessions.open(&request, ctx.version(), ctx.now.mono) {
        Ok(context) => context,
        Err(code) => return ctx.now_frame(&refused(code)),
    };
    if replica_id(&request) >= 0 {
        // Followers arrive with the cluster; a client that poses as one gets no data beyond the watermark.
        return ctx.now_frame(&refused(ErrorCode::ClusterAuthorizationFailed));
    }
    let ids = context.wanted.iter().map(|(key, _)| broker.resolve(key));
    let fetch = ParkedFetch {
        to: ctx.to,
        ids: ids.collect(),
        min_bytes: request.min_bytes.max(0) as usize,
        max_bytes: bounded(request.max_bytes, broker.settings().fetch_bytes_max),
        isolation: match request.isolation_level {
            1 => Isolation::ReadCommitted,
            _ => Isolation::ReadUncommitted,
        },
        context,
    };
    let attempt = fetch.attempt(broker, out);
    let waits = request.max_wait_ms > 0 && !fetch.context.wanted.is_empty();
    if !waits || attempt.must_answer || attempt.bytes >= fetch.min_bytes {
        return Reply::Now(fetch.frame(attempt));
    }
    let timeout = Duration::from_millis(request.max_wait_ms as u64);
    broker.park(Waiter::Fetch(fetch), ctx.now, timeout, out)
}

fn replica_id(request: &FetchRequest) -> i32 {
    request.replica_id.max(request.replica_state.replica_id)
}

fn bounded(asked: i32, most: usize) -> usize {
    (asked.max(0) as usize).min(most)
}

fn refused(code: ErrorCode) -> FetchResponse {
    FetchResponse {
        error_code: code.code(),
        ..FetchResponse::default()
    }
}

/// A fetch, waiting or not.
pub struct ParkedFetch {
    to: ReplyTo,
    min_bytes: usize,
    max_bytes: usize,
    isolation: Isolation,
    context: FetchContext,
    /// The wanted partitions by topic id, or why there is none.
    ids: Vec<Result<TopicIdPartition, ErrorCode>>,
}

/// What one look at all wanted partitions gave.
pub(crate) struct Attempt {
    results: Vec<(FetchKey, PartitionData)>,
    slices: Vec<FileSlice>,
    bytes: usize,
    /// An error or a divergence is told at once.
    must_answer: bool,
}

impl ParkedFetch {
    pub(crate) fn partitions(&self) -> Vec<TopicIdPartition> {
        self.ids.iter().filter_map(|id| id.ok()).collect()
    }

    /// The answer, if there is enough for one or no time left.
    pub(crate) fn complete(&self, broker: &Broker, expired: bool, out: &mut Outbox) -> Option<Attempt> {
        let attempt = self.attempt(broker, out);
        let done = expired || attempt.must_answer || attempt.bytes >= self.min_bytes;
        done.then_some(attempt)
    }

    pub(crate) fn answer(&self, attempt: Attempt, out: &mut Outbox) {
        let frame = self.frame(attempt);
        out.replies.push((self.to, frame));
    }

    fn attempt(&self, broker: &Broker, out: &mut Outbox) -> Attempt {
        let mut attempt = Attempt {
            results: Vec::with_capacity(self.context.wanted.len()),
            slices: Vec::new(),
            bytes: 0,
            must_answer: false,
        };
        for ((key, wanted), id) in self.context.wanted.iter().zip(&self.ids) {
            let data = match self.read(broker, *id, wanted, attempt.bytes, out) {
                Ok(answer) => attempt.take(key.partition, answer),
                Err(code) => {
                    attempt.must_answer = true;
                    error_data(key.partition, code)
                }
            };
            attempt.results.push((key.clone(), data));
        }
        attempt
    }

    fn read(
        &self,
        broker: &Broker,
        id: Result<TopicIdPartition, ErrorCode>,
        wanted: &Wanted,
        taken: usize,
        out: &mut Outbox,
    ) -> Result<ReadAnswer, ErrorCode> {
        let id = id?;
        let hosted = broker.hosted(id).ok_or_else(|| broker.why_not_hosted(id))?;
        let left = self.max_bytes.saturating_sub(taken);
        let read = hosted.partition.read(ReadWanted {
            offset: Offset(wanted.offset),
            bytes_max: (wanted.max_bytes.max(0) as usize).min(left) as u32,
            at_least_one: taken == 0,
            current_leader_epoch: wanted.current_leader_epoch,
            last_fetched_epoch: wanted.last_fetched_epoch,
            from: ReadFrom::Consumer(self.isolation),
        });
        read.map_err(|refused| match refused {
            ReadRefused::Code(code) => code,
            ReadRefused::Fault(fault) => {
                broker.on_fault(fault, out);
                ErrorCode::KafkaStorageError
            }
        })
    }

    fn frame(&self, attempt: Attempt) -> milena_net::Frame {
        let mut results = attempt.results;
        self.context.filter(&mut results);
        let mut responses: Vec<FetchableTopicResponse> = Vec::new();
        for (key, data) in results {
            let same = |topic: &FetchableTopicResponse| {
                topic.topic_id == key.topic_id && topic.topic == key.topic
            };
            match responses.last_mut().filter(|topic| same(topic)) {
                Some(topic) => topic.partitions.push(data),
                None => responses.push(FetchableTopicResponse {
                    topic: key.topic,
                    topic_id: key.topic_id,
                    partitions: vec![data],
                }),
            }
        }
        let response = FetchResponse {
            session_id: self.context.session_id(),
            responses,
            ..FetchResponse::default()
        };
        self.to.frame(&response, attempt.slices)
    }
}

impl Attempt {
    fn take(&mut self, partition: i32, answer: ReadAnswer) -> PartitionData {
        let mut data = PartitionData {
            partition_index: partition,
            high_watermark: answer.high_watermark.0,
            last_stable_offset: answer.last_stable.0,
            log_start_offset: answer.log_start.0,
            records: Some(Records::default()),
            aborted_transactions: answer.aborted.map(|aborted| {
                let aborted = aborted.into_iter();
                aborted
                    .map(|(producer_id, first)| AbortedTransaction {
                        producer_id,
                        first_offset: first.0,
                    })
                    .collect()
            }),
            ..PartitionData::default()
        };
        if let Some(divergence) = answer.divergence {
            self.must_answer = true;
            data.diverging_epoch = EpochEndOffset {
                epoch: divergence.epoch.0,
                end_offset: divergence.end_offset.0,
            };
        }
        if let Some(slice) = answer.slice {
            self.bytes += slice.length as usize;
            data.records = Some(Records::External {
                id: self.slices.len() as u64,
                length: slice.length,
            });
            self.slices.push(slice);
        }
        data
    }
}

fn error_data(partition: i32, code: ErrorCode) -> PartitionData {
    PartitionData {
        partition_index: partition,
        error_code: code.code(),
        high_watermark: -1,
        records: Some(Records::default()),
        ..PartitionData::default()
    }
}
