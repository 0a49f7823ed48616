//! What the transactions' mailbox asks of other brokers: whether a producer may write, where another broker coordinates
//! its transaction, and markers in the partitions that other brokers lead.

use std::collections::BTreeMap;
use std::time::Duration;

use milena_base::{BrokerId, ErrorCode, Instant, TopicPartition};
use milena_coordinator::Marker;
use milena_protocol::write_txn_markers_request::{WritableTxnMarker, WritableTxnMarkerTopic};
use milena_protocol::{
    AddPartitionsToTxnRequest, AddPartitionsToTxnResponse, Str, WriteTxnMarkersRequest,
};

use crate::ctx::Outbox;
use crate::peers::{Asker, Lane, PeerAddress, PeerAnswer, PeerCall};
use crate::verification::Question;

/// How long an answer is waited for: longer than a marker waits for its replicas over there.
const PATIENCE: Duration = Duration::from_secs(35);

enum Asked {
    Question {
        question: Box<Question>,
        /// Until when it is worth asking again.
        until: Instant,
    },
    Markers {
        task: u64,
        partitions: Vec<TopicPartition>,
    },
}

/// What another broker said.
pub(crate) enum Told {
    /// `Err`: nothing, for this reason.
    Verdict {
        question: Box<Question>,
        until: Instant,
        response: Result<AddPartitionsToTxnResponse, ErrorCode>,
    },
    /// How the markers of a task fared, one by one.
    Markers {
        task: u64,
        fared: Vec<(TopicPartition, ErrorCode)>,
    },
}

/// The questions that are under way.
#[derive(Default)]
pub(crate) struct TxnCalls {
    asked: BTreeMap<u64, Asked>,
    next: u64,
}

impl TxnCalls {
    fn note(&mut self, asked: Asked) -> u64 {
        self.next += 1;
        self.asked.insert(self.next, asked);
        self.next
    }

    pub(crate) fn ask(
        &mut self,
        coordinator: BrokerId,
        question: Box<Question>,
        until: Instant,
        now: Instant,
        out: &mut Outbox,
    ) {
        let request = question.request();
        let tag = self.note(Asked::Question { question, until });
        let (to, lane) = (PeerAddress::Broker(coordinator), Lane::Verification);
        let (deadline, asker) = (now + PATIENCE, Asker::Transactions);
        out.call(PeerCall::new(to, lane, request, deadline, asker, tag));
    }

    /// Asks the leader of the partitions to write the marker into each.
    pub(crate) fn write_markers(
        &mut self,
        leader: BrokerId,
        task: u64,
        marker: &Marker,
        partitions: Vec<TopicPartition>,
        now: Instant,
        out: &mut Outbox,
    ) {
        let request = markers_request(marker, &partitions);
        let tag = self.note(Asked::Markers { task, partitions });
        let (to, lane) = (PeerAddress::Broker(leader), Lane::Markers);
        let (deadline, asker) = (now + PATIENCE, Asker::Transactions);
        out.call(PeerCall::new(to, lane, request, deadline, asker, tag));
    }

    /// `None` for an answer that nobody waits for.
    pub(crate) fn answered(&mut self, answer: PeerAnswer) -> Option<Told> {
        Some(match self.asked.remove(&answer.tag)? {
            Asked::Question { question, until } => {
                let response = answer.decode::<AddPartitionsToTxnRequest>();
                let response = response.map_err(|_| ErrorCode::NetworkException);
                let response = response.and_then(|r| match ErrorCode::from_code(r.error_code) {
                    Some(ErrorCode::None) => Ok(r),
                    other => Err(other.unwrap_or(ErrorCode::UnknownServerError)),
                });
                Told::Verdict {
                    question,
                    until,
                    response,
                }
            }
            Asked::Markers { task, partitions } => {
                let told = told_of_markers(answer);
                // A partition that the answer leaves out is asked again.
                let of = |p: &TopicPartition| told.get(p).copied();
                let fared = partitions.into_iter().map(|partition| {
                    let error = of(&partition).unwrap_or(ErrorCode::NetworkException);
                    (partition, error)
                });
                Told::Markers {
                    task,
                    fared: fared.collect(),
                }
            }
        })
    }
}

fn markers_request(marker: &Marker, partitions: &[TopicPartition]) -> WriteTxnMarkersRequest {
    let mut topics: BTreeMap<&str, Vec<i32>> = BTreeMap::new();
    for partition in partitions {
        let indexes = topics.entry(&partition.topic).or_default();
        indexes.push(partition.partition);
    }
    let topics = topics
        .into_iter()
        .map(|(name, partition_indexes)| WritableTxnMarkerTopic {
            name: Str::copy(name),
            partition_indexes,
        });
    WriteTxnMarkersRequest {
        markers: vec![WritableTxnMarker {
            producer_id: marker.producer.id,
            producer_epoch: marker.producer.epoch,
            transaction_result: marker.committed,
            topics: topics.collect(),
            coordinator_epoch: marker.coordinator_epoch,
            transaction_version: marker.transaction_version as i8,
        }],
    }
}

fn told_of_markers(answer: PeerAnswer) -> BTreeMap<TopicPartition, ErrorCode> {
    let Ok(response) = answer.decode::<WriteTxnMarkersRequest>() else {
        return BTreeMap::new();
    };
    let topics = response.markers.iter().flat_map(|marker| &marker.topics);
    let partitions = topics.flat_map(|topic| {
        topic.partitions.iter().map(|result| {
            let error = ErrorCode::from_code(result.error_code);
            let partition = TopicPartition::new(topic.name.as_str(), result.partition_index);
            (partition, error.unwrap_or(ErrorCode::UnknownServerError))
        })
    });
    partitions.collect()
}
