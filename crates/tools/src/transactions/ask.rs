//! What `kafka-transactions` asks of brokers.

use std::collections::BTreeSet;

use milena_base::{ErrorCode, TopicPartition};
use milena_client::{Client, Error, Target};
use milena_protocol::describe_producers_request::TopicRequest;
use milena_protocol::describe_producers_response::ProducerState;
use milena_protocol::describe_transactions_response::TransactionState;
use milena_protocol::write_txn_markers_request::{WritableTxnMarker, WritableTxnMarkerTopic};
use milena_protocol::{
    DescribeProducersRequest, DescribeTransactionsRequest, InitProducerIdRequest,
    ListTransactionsRequest, Str, WriteTxnMarkersRequest,
};

use super::{Listed, failed};

/// The timeout that a producer's id is taken over with; nobody goes on with it.
const TERMINATE_TIMEOUT_MS: i32 = 60_000;

/// Every transactional id of every coordinator that passes.
pub(super) async fn list(
    client: &mut Client,
    duration_ms: i64,
    pattern: Option<&Str>,
    producer_ids: &[i64],
) -> Result<Vec<Listed>, Error> {
    let cluster = client
        .retry("findAllBrokers", async |client: &mut Client| {
            client.describe_cluster(false).await
        })
        .await?;
    let request = ListTransactionsRequest {
        duration_filter: duration_ms,
        transactional_id_pattern: pattern.cloned(),
        producer_id_filters: producer_ids.to_vec(),
        ..Default::default()
    };
    let mut brokers: Vec<i32> = cluster.brokers.iter().map(|b| b.broker_id).collect();
    brokers.sort_unstable();
    let mut found = Vec::new();
    for broker in brokers {
        let call = client.retry("listTransactions", async |client: &mut Client| {
            let connection = client.connection(Target::Node(broker)).await?;
            let answer = connection.call(&request).await?;
            Error::check(answer.error_code, None)?;
            Ok(answer.transaction_states)
        });
        let listed = call.await?.into_iter().map(|state| Listed {
            id: state.transactional_id,
            coordinator: broker,
            producer_id: state.producer_id,
            state: state.transaction_state,
        });
        found.extend(listed);
    }
    Ok(found)
}

/// The coordinator of a transactional id, and what it says.
pub(super) async fn describe(
    client: &mut Client,
    id: &Str,
) -> Result<(i32, TransactionState), Error> {
    let request = DescribeTransactionsRequest {
        transactional_ids: vec![id.clone()],
    };
    let call = client.retry("describeTransactions", async |client: &mut Client| {
        let node = client.transaction_coordinator_once(id).await?;
        let connection = client.connection(Target::Node(node.id)).await?;
        let mut answer = connection.call(&request).await?;
        let state = answer.transaction_states.pop();
        let state = state.ok_or_else(|| Error::refused(ErrorCode::UnknownServerError, None))?;
        let why = format!(
            "DescribeTransactions request for transactionalId `{id}` failed {}",
            match ErrorCode::from_code(state.error_code) {
                Some(ErrorCode::TransactionalIdNotFound) => "because the ID could not be found",
                Some(ErrorCode::TransactionalIdAuthorizationFailed) =>
                    "due to transactional ID authorization failure",
                _ => "due to unexpected error",
            }
        );
        Error::check(state.error_code, Some(&why))?;
        Ok((node.id, state))
    });
    call.await
}

/// The partitions of a described transaction.
pub(super) fn partitions_of(state: &TransactionState) -> BTreeSet<TopicPartition> {
    let topics = state.topics.iter();
    let partitions = topics.flat_map(|topic| {
        let indexes = topic.partitions.iter();
        indexes.map(|index| TopicPartition::new(topic.topic.as_str(), *index))
    });
    partitions.collect()
}

/// The leader of a partition, as metadata has it now. One try.
async fn leader(client: &mut Client, of: &TopicPartition) -> Result<i32, Error> {
    let name = Str::copy(&of.topic);
    client.metadata_once(Some(&[name]), false).await?;
    let topic = client.topic(&of.topic);
    let unknown = || Error::refused(ErrorCode::UnknownTopicOrPartition, None);
    let topic = topic.ok_or_else(unknown)?;
    Error::check(topic.error, None)?;
    let leader = topic.partitions.get(&of.partition).ok_or_else(unknown)?;
    match leader.node {
        -1 => Err(Error::refused(ErrorCode::LeaderNotAvailable, None)),
        node => Ok(node),
    }
}

/// What a replica (without `broker`: the leader) knows of the producers of a partition.
pub(super) async fn producers(
    client: &mut Client,
    of: &TopicPartition,
    broker: Option<i32>,
) -> Result<Vec<ProducerState>, Error> {
    let request = DescribeProducersRequest {
        topics: vec![TopicRequest {
            name: Str::copy(&of.topic),
            partition_indexes: vec![of.partition],
        }],
    };
    let call = client.retry("describeProducers", async |client: &mut Client| {
        let node = match broker {
            Some(node) => {
                if !client.nodes().contains_key(&node) {
                    client.describe_cluster(false).await?;
                }
                node
            }
            None => leader(client, of).await?,
        };
        let connection = client.connection(Target::Node(node)).await?;
        let answer = connection.call(&request).await?;
        let partition = answer.topics.into_iter().flat_map(|t| t.partitions).next();
        let partition =
            partition.ok_or_else(|| Error::refused(ErrorCode::UnknownServerError, None))?;
        Error::check(partition.error_code, partition.error_message.as_deref())?;
        Ok(partition.active_producers)
    });
    call.await
}

/// A transaction to be aborted in one partition.
#[derive(Debug)]
pub(crate) struct Abort {
    pub of: TopicPartition,
    pub producer_id: i64,
    pub producer_epoch: i16,
    pub coordinator_epoch: i32,
}

impl Abort {
    /// The one that begins at an offset.
    pub(super) async fn at(
        client: &mut Client,
        of: TopicPartition,
        start: i64,
    ) -> Result<Abort, String> {
        let what = format!("Failed to validate producer state for partition {of}");
        let all = producers(client, &of, None).await.map_err(failed(&what))?;
        let found = all.iter().find(|p| p.current_txn_start_offset == start);
        let found = found.ok_or_else(|| {
            format!(
                "Could not find any open transactions starting at offset {start} on partition {of}"
            )
        })?;
        Ok(Abort {
            of,
            producer_id: found.producer_id,
            producer_epoch: found.producer_epoch as i16,
            coordinator_epoch: found.coordinator_epoch.max(0),
        })
    }

    fn shown(&self) -> String {
        format!(
            "AbortTransactionSpec(topicPartition={}, producerId={}, producerEpoch={}, coordinatorEpoch={})",
            self.of, self.producer_id, self.producer_epoch, self.coordinator_epoch
        )
    }

    fn request(&self) -> WriteTxnMarkersRequest {
        WriteTxnMarkersRequest {
            markers: vec![WritableTxnMarker {
                producer_id: self.producer_id,
                producer_epoch: self.producer_epoch,
                transaction_result: false,
                topics: vec![WritableTxnMarkerTopic {
                    name: Str::copy(&self.of.topic),
                    partition_indexes: vec![self.of.partition],
                }],
                coordinator_epoch: self.coordinator_epoch,
                ..Default::default()
            }],
        }
    }

    /// Writes the marker at the partition's leader.
    pub(super) async fn carry_out(&self, client: &mut Client) -> Result<(), String> {
        let request = self.request();
        let call = client.retry("abortTransaction", async |client: &mut Client| {
            let node = leader(client, &self.of).await?;
            let connection = client.connection(Target::Node(node)).await?;
            let answer = connection.call(&request).await?;
            let topics = answer.markers.iter().flat_map(|marker| &marker.topics);
            let result = topics.flat_map(|topic| &topic.partitions).next();
            let code = result.map_or(ErrorCode::UnknownServerError.code(), |r| r.error_code);
            Error::check(code, Some(&self.why(code)))
        });
        let what = format!("Failed to abort transaction {}", self.shown());
        call.await.map_err(failed(&what))
    }

    fn why(&self, code: i16) -> String {
        let why = match ErrorCode::from_code(code) {
            Some(ErrorCode::ClusterAuthorizationFailed) => {
                "due to cluster authorization error".to_owned()
            }
            Some(ErrorCode::InvalidProducerEpoch) => "due an invalid producer epoch".to_owned(),
            Some(ErrorCode::TransactionCoordinatorFenced) => format!(
                "since the provided coordinator epoch {} has been fenced by the active coordinator",
                self.coordinator_epoch
            ),
            other => {
                let name = other.map_or("an unknown code", |code| code.name());
                format!("due to unexpected error: {name}")
            }
        };
        format!("WriteTxnMarkers request with {} failed {why}", self.shown())
    }
}

/// Takes the transactional id over: its producer is fenced, and what it had open is aborted.
pub(super) async fn terminate(client: &mut Client, id: &Str) -> Result<(), Error> {
    let request = InitProducerIdRequest {
        transactional_id: Some(id.clone()),
        transaction_timeout_ms: TERMINATE_TIMEOUT_MS,
        producer_id: -1,
        producer_epoch: -1,
        ..Default::default()
    };
    let call = client.retry("fenceProducers", async |client: &mut Client| {
        let node = client.transaction_coordinator_once(id).await?;
        let connection = client.connection(Target::Node(node.id)).await?;
        let answer = connection.call(&request).await?;
        Error::check(answer.error_code, None)
    });
    call.await
}
