//! Fetch. v4: isolation level and aborted transactions. v5: log start. v7: sessions (KIP-227). v9: leader epochs.
//! v11: rack. v12: truncation by epoch. v13: topic ids. v15: replica state. v16: leaders' endpoints. v18: the
//! fetcher's high watermark.
//!
//! On controllers' listeners it is the quorum's. What is read are file slices; the edge sends them. A fetch that finds less than `min_bytes` is parked.

use std::time::Duration;

use milena_base::{BrokerId, ErrorCode, Now, Offset, TopicIdPartition};
use milena_disk::FileSlice;
use milena_protocol::fetch_response::{
    AbortedTransaction, EpochEndOffset, FetchableTopicResponse, PartitionData,
};
use milena_protocol::{FetchRequest, FetchResponse, Records, Str};
use milena_raft::RaftRequest;
use milena_replica::{
    FetchNote, Isolation, Offsets, ReadAnswer, ReadFrom, ReadRefused, Wanted as ReadWanted,
};

use crate::api::ListenerKind;
use crate::broker::{Broker, Hosted};
use crate::ctx::{Ctx, Outbox, Reply, ReplyTo};
use crate::insync::InSyncEvent;
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
    let ids = context.wanted.iter().map(|(key, _)| broker.resolve(key));
    let fetch = ParkedFetch {
        to: ctx.to,
        ids: ids.collect(),
        min_bytes: request.min_bytes.max(0) as usize,
        max_bytes: bounded(request.max_bytes, broker.settings().fetch_bytes_max),
        reader: Reader::of(broker, ctx, &request),
        at: ctx.now,
        context,
    };
    let attempt = fetch.attempt(broker, Look::First, out);
    let waits = request.max_wait_ms > 0 && !fetch.context.wanted.is_empty();
    if !waits || attempt.must_answer || attempt.bytes >= fetch.min_bytes {
        return Reply::Now(fetch.frame(attempt));
    }
    let timeout = Duration::from_millis(request.max_wait_ms as u64);
    broker.park(Waiter::Fetch(fetch), ctx.now, timeout, out)
}

/// Who fetches.
enum Reader {
    Consumer {
        from: ReadFrom,
        /// Where it stands, if it may be sent to a replica nearby (KIP-392).
        rack: Option<Str>,
        listener: usize,
    },
    /// With its broker epoch; −1 where the request does not say.
    Follower(BrokerId, i64),
}

impl Reader {
    fn of(broker: &Broker, ctx: &Ctx, request: &FetchRequest) -> Reader {
        let state = &request.replica_state;
        let replica = request.replica_id.max(state.replica_id);
        if replica >= 0 {
            return Reader::Follower(BrokerId(replica), state.replica_epoch);
        }
        let isolation = match request.isolation_level {
            1 => Isolation::ReadCommitted,
            _ => Isolation::ReadUncommitted,
        };
        let by_rack = broker.settings().reads_by_rack && !request.rack_id.is_empty();
        Reader::Consumer {
            from: match ctx.version() {
                11.. => ReadFrom::Nearest(isolation),
                _ => ReadFrom::Consumer(isolation),
            },
            rack: by_rack.then(|| request.rack_id.detached()),
            listener: ctx.listener,
        }
    }
}

/// A follower's fetch is noted once, when it comes.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Look {
    First,
    Again,
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
    reader: Reader,
    /// When it came.
    at: Now,
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
    pub(crate) fn complete(
        &self,
        broker: &Broker,
        expired: bool,
        out: &mut Outbox,
    ) -> Option<Attempt> {
        let attempt = self.attempt(broker, Look::Again, out);
        let done = expired || attempt.must_answer || attempt.bytes >= self.min_bytes;
        done.then_some(attempt)
    }

    pub(crate) fn answer(&self, attempt: Attempt, out: &mut Outbox) {
        let frame = self.frame(attempt);
        out.replies.push((self.to, frame));
    }

    fn attempt(&self, broker: &Broker, look: Look, out: &mut Outbox) -> Attempt {
        let mut attempt = Attempt {
            results: Vec::with_capacity(self.context.wanted.len()),
            slices: Vec::new(),
            bytes: 0,
            must_answer: false,
        };
        for ((key, wanted), id) in self.context.wanted.iter().zip(&self.ids) {
            let one = One {
                fetch: self,
                broker,
                wanted,
                taken: attempt.bytes,
                look,
            };
            let data = match one.read(*id, out) {
                Ok(Read::Here(answer)) => attempt.take(key.partition, answer),
                Ok(Read::At(replica, offsets)) => attempt.send_to(key.partition, replica, offsets),
                Err(code) => {
                    attempt.must_answer = true;
                    error_data(key.partition, code)
                }
            };
            attempt.results.push((key.clone(), data));
        }
        attempt
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

/// One partition of one look.
struct One<'a> {
    fetch: &'a ParkedFetch,
    broker: &'a Broker,
    wanted: &'a Wanted,
    /// Bytes that partitions before this one have given.
    taken: usize,
    look: Look,
}

/// What is read, or who has it nearer to the reader.
enum Read {
    Here(ReadAnswer),
    At(BrokerId, Offsets),
}

impl One<'_> {
    fn read(
        &self,
        id: Result<TopicIdPartition, ErrorCode>,
        out: &mut Outbox,
    ) -> Result<Read, ErrorCode> {
        let (id, broker) = (id?, self.broker);
        let hosted = broker.hosted(id).ok_or_else(|| broker.why_not_hosted(id))?;
        let read = match &self.fetch.reader {
            Reader::Follower(follower, epoch) => {
                let note = FetchNote {
                    follower: *follower,
                    offset: Offset(self.wanted.offset),
                    log_start: Offset(self.wanted.log_start),
                    broker_epoch: *epoch,
                };
                self.read_as_follower(id, &hosted, &note, out)
            }
            Reader::Consumer {
                from,
                rack,
                listener,
            } => {
                let near = rack.as_ref().and_then(|rack| {
                    let offset = Offset(self.wanted.offset);
                    broker.replica_near(id, &hosted, rack, *listener, offset)
                });
                if let Some(replica) = near {
                    hosted.partition.leader_for(self.wanted.current_leader_epoch)?;
                    return Ok(Read::At(replica, hosted.partition.offsets()));
                }
                hosted.partition.read(self.whole(*from))
            }
        };
        read.map(Read::Here).map_err(|refused| match refused {
            ReadRefused::Code(code) => code,
            ReadRefused::Fault(fault) => {
                broker.on_fault(fault, out);
                ErrorCode::KafkaStorageError
            }
        })
    }

    fn whole(&self, from: ReadFrom) -> ReadWanted {
        let left = self.fetch.max_bytes.saturating_sub(self.taken);
        ReadWanted {
            offset: Offset(self.wanted.offset),
            bytes_max: (self.wanted.max_bytes.max(0) as usize).min(left) as u32,
            at_least_one: self.taken == 0,
            current_leader_epoch: self.wanted.current_leader_epoch,
            last_fetched_epoch: self.wanted.last_fetched_epoch,
            from,
        }
    }

    fn read_as_follower(
        &self,
        id: TopicIdPartition,
        hosted: &Hosted,
        note: &FetchNote,
        out: &mut Outbox,
    ) -> Result<ReadAnswer, ReadRefused> {
        let mut wanted = self.whole(ReadFrom::Replica);
        if self.broker.holds_back_from(hosted, note.follower, self.fetch.at) {
            (wanted.bytes_max, wanted.at_least_one) = (0, false);
        }
        let partition = &hosted.partition;
        let answer = match self.look {
            Look::Again => partition.read(wanted)?,
            Look::First => {
                let (answer, noted) = partition.read_as_follower(wanted, note, self.fetch.at)?;
                if noted.high_watermark_moved {
                    self.broker.high_watermark_moved(id, hosted, out);
                }
                if noted.may_join {
                    out.post(InSyncEvent::Look(id));
                }
                answer
            }
        };
        let bytes = answer.slice.as_ref().map_or(0, |slice| slice.length as usize);
        self.broker.note_read(hosted, bytes, self.fetch.at);
        Ok(answer)
    }
}

impl Broker {
    /// The replica that a reader in this rack is to read at instead of its leader here: in sync, alive, in the rack,
    /// and with the offset; of several the one that has most (Kafka's `RackAwareReplicaSelector`).
    fn replica_near(
        &self,
        id: TopicIdPartition,
        hosted: &Hosted,
        rack: &Str,
        listener: usize,
        offset: Offset,
    ) -> Option<BrokerId> {
        let image = self.image();
        let in_rack = |id: BrokerId| {
            let broker = image.cluster.broker(id.0)?;
            let reachable = broker.listeners.contains_key(self.listener_name(listener));
            let there = broker.rack.as_ref() == Some(rack);
            (!broker.fenced && reachable && there).then_some(id)
        };
        in_rack(self.node()).is_none().then_some(())?;
        image.topics.partition(id.topic_id, id.partition)?;
        let readable = hosted.partition.readable_at(offset).into_iter();
        let near = readable.filter(|(id, _)| in_rack(*id).is_some());
        near.max_by_key(|(id, end)| (*end, std::cmp::Reverse(*id)))
            .map(|(id, _)| id)
    }
}

impl Attempt {
    /// Nothing but where the reader is to go.
    fn send_to(&mut self, partition: i32, replica: BrokerId, offsets: Offsets) -> PartitionData {
        self.must_answer = true;
        PartitionData {
            partition_index: partition,
            high_watermark: offsets.high_watermark.0,
            last_stable_offset: offsets.last_stable.0,
            log_start_offset: offsets.log_start.0,
            records: Some(Records::default()),
            preferred_read_replica: replica.0,
            ..PartitionData::default()
        }
    }

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
