//! Metadata. v1: null asks for all topics, cluster id and racks follow. v4: auto-creation by leave. v5: offline
//! replicas. v7: leader epochs. v8: authorized operations. v10: topic ids. v12: topics by id alone. v13: an error of
//! the whole answer.

use milena_base::{ErrorCode, Uuid};
use milena_image::{Image, Partition, Topic};
use milena_protocol::metadata_request::MetadataRequestTopic;
use milena_protocol::metadata_response::{
    MetadataResponseBroker, MetadataResponsePartition, MetadataResponseTopic,
};
use milena_protocol::{MetadataRequest, MetadataResponse, Str};

use crate::broker::Broker;
use crate::ctx::{Ctx, Outbox, Reply};
use crate::{operations, topics};

pub(super) fn handle(
    broker: &Broker,
    ctx: &Ctx,
    request: MetadataRequest,
    out: &mut Outbox,
) -> Reply {
    let image = broker.image();
    let view = View {
        image: &image,
        listener: broker.listener_name(ctx.listener),
        version: ctx.version(),
        operations: request.include_topic_authorized_operations,
    };
    let wanted = match &request.topics {
        Some(topics) if ctx.version() > 0 || !topics.is_empty() => Some(topics),
        _ => None,
    };
    let mut missing = Vec::new();
    let topics = match wanted {
        None => image.topics.by_name().map(|topic| view.topic(topic)).collect(),
        Some(wanted) => wanted
            .iter()
            .map(|topic| view.wanted(topic, &mut missing))
            .collect(),
    };
    if request.allow_auto_topic_creation {
        broker.auto_create(ctx, &missing, out);
    }
    let cluster_asked = request.include_cluster_authorized_operations;
    ctx.now_frame(&MetadataResponse {
        brokers: view.brokers(),
        cluster_id: Some(broker.cluster_id().to_owned().into()),
        controller_id: broker.any_alive_broker(&image),
        topics,
        cluster_authorized_operations: match cluster_asked {
            true => operations::CLUSTER,
            false => operations::UNASKED,
        },
        ..MetadataResponse::default()
    })
}

/// One listener's and version's way of seeing an image.
struct View<'a> {
    image: &'a Image,
    listener: &'a str,
    version: i16,
    operations: bool,
}

impl View<'_> {
    fn brokers(&self) -> Vec<MetadataResponseBroker> {
        let alive = self.image.cluster.brokers.values().filter(|b| !b.fenced);
        let rows = alive.filter_map(|broker| {
            let endpoint = broker.listeners.get(self.listener)?;
            Some(MetadataResponseBroker {
                node_id: broker.id,
                host: endpoint.host.clone(),
                port: i32::from(endpoint.port),
                rack: broker.rack.clone(),
            })
        });
        rows.collect()
    }

    fn wanted(&self, topic: &MetadataRequestTopic, missing: &mut Vec<Str>) -> MetadataResponseTopic {
        let by_id = !topic.topic_id.is_zero();
        let found = match (&topic.name, by_id) {
            (_, true) => self.image.topics.get(topic.topic_id),
            (Some(name), false) => self.image.topics.named(name),
            (None, false) => None,
        };
        if let Some(found) = found {
            return self.topic(found);
        }
        let code = match (&topic.name, by_id) {
            (_, true) | (None, _) => ErrorCode::UnknownTopicId,
            (Some(name), _) if !topics::is_legal(name) => ErrorCode::InvalidTopicException,
            (Some(name), _) => {
                missing.push(name.clone());
                ErrorCode::UnknownTopicOrPartition
            }
        };
        MetadataResponseTopic {
            error_code: code.code(),
            name: match by_id && self.version >= 12 {
                true => None,
                false => Some(topic.name.clone().unwrap_or_default()),
            },
            topic_id: topic.topic_id,
            is_internal: topic.name.as_deref().is_some_and(topics::is_internal),
            ..MetadataResponseTopic::default()
        }
    }

    fn topic(&self, topic: &Topic) -> MetadataResponseTopic {
        let partitions = topic.partitions.iter();
        MetadataResponseTopic {
            error_code: ErrorCode::None.code(),
            name: Some(topic.name.clone()),
            topic_id: topic.id,
            is_internal: topics::is_internal(&topic.name),
            partitions: partitions
                .map(|(index, partition)| self.partition(*index, partition))
                .collect(),
            topic_authorized_operations: match self.operations {
                true => operations::TOPIC,
                false => operations::UNASKED,
            },
        }
    }

    fn partition(&self, index: i32, partition: &Partition) -> MetadataResponsePartition {
        let code = leader_error(self.image, self.listener, partition);
        MetadataResponsePartition {
            error_code: code.code(),
            partition_index: index,
            leader_id: match code {
                ErrorCode::None => partition.leader,
                _ => -1,
            },
            leader_epoch: partition.leader_epoch,
            replica_nodes: partition.replicas.clone(),
            isr_nodes: partition.isr.clone(),
            offline_replicas: offline_replicas(self.image, self.listener, partition),
        }
    }
}

/// Why a partition's leader can't be named to a client of this listener.
pub(super) fn leader_error(image: &Image, listener: &str, partition: &Partition) -> ErrorCode {
    let leader = image.cluster.broker(partition.leader);
    match leader.filter(|broker| !broker.fenced) {
        None => ErrorCode::LeaderNotAvailable,
        Some(broker) if !broker.listeners.contains_key(listener) => ErrorCode::ListenerNotFound,
        Some(_) => ErrorCode::None,
    }
}

/// Replicas on brokers that are fenced, gone, not on this listener, or whose directory is lost.
pub(super) fn offline_replicas(image: &Image, listener: &str, partition: &Partition) -> Vec<i32> {
    let is_offline = |id: &i32| {
        let online = image.cluster.broker(*id).is_some_and(|broker| {
            let directory = partition.directory(*id).unwrap_or(Uuid::ZERO);
            !broker.fenced
                && broker.listeners.contains_key(listener)
                && broker.has_online_dir(directory)
        });
        !online
    };
    partition.replicas.iter().copied().filter(|id| is_offline(id)).collect()
}
