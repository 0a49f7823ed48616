//! State that records make: the image with its index. Replay is its only writer.

use std::collections::BTreeMap;
use std::sync::Arc;

use milena_base::{Offset, TopicIdPartition, Uuid};
use milena_image::{Broker, ConfigResource, Image, Partition, ReplayError, Topic};
use milena_protocol::{MetadataRecord, Str};

use crate::index::Index;

#[derive(Clone, Debug)]
pub(crate) struct State {
    pub image: Image,
    pub index: Index,
    /// Offset of each broker's last registration record: it must have read so far before it may be unfenced.
    pub registered_at: BTreeMap<i32, i64>,
    /// Offset that the next record will get.
    pub next_offset: Offset,
}

impl State {
    /// After an election. The offsets of registrations are not in an image; the epoch is the offset of the record
    /// that began the incarnation.
    pub fn new(image: Image, next_offset: Offset) -> State {
        let brokers = image.cluster.brokers.values();
        State {
            index: Index::of(&image),
            registered_at: brokers.map(|b| (b.id, b.epoch)).collect(),
            image,
            next_offset,
        }
    }

    pub fn replay(&mut self, record: &MetadataRecord, offset: Offset) -> Result<(), ReplayError> {
        use MetadataRecord as R;
        let before = self.touched(record);
        self.image.replay(record)?;
        match record {
            R::Topic(r) => self.index.add_topic(&r.name),
            R::RegisterBroker(r) => drop(self.registered_at.insert(r.broker_id, offset.0)),
            R::UnregisterBroker(r) => drop(self.registered_at.remove(&r.broker_id)),
            _ => {}
        }
        self.reindex(before);
        self.next_offset = offset + 1;
        Ok(())
    }

    /// What the record is going to change, as it is.
    fn touched(&self, record: &MetadataRecord) -> Touched {
        use MetadataRecord as R;
        match record {
            R::Partition(r) => self.touched_partitions([(r.topic_id, r.partition_id)]),
            R::PartitionChange(r) => self.touched_partitions([(r.topic_id, r.partition_id)]),
            R::RemoveTopic(r) => Touched::Topic(self.image.topics.get(r.topic_id).cloned()),
            R::ClearElr(r) => {
                let topic = self.image.topics.id(&r.topic_name);
                let keys = self.index.with_elr(topic).into_iter();
                self.touched_partitions(keys.map(|key| (key.topic_id, key.partition)))
            }
            R::RegisterBroker(r) => self.touched_broker(r.broker_id),
            R::UnregisterBroker(r) => self.touched_broker(r.broker_id),
            R::BrokerRegistrationChange(r) => self.touched_broker(r.broker_id),
            _ => Touched::Nothing,
        }
    }

    fn touched_partitions(&self, keys: impl IntoIterator<Item = (Uuid, i32)>) -> Touched {
        let old = |(topic, partition)| {
            let key = TopicIdPartition::new(topic, partition);
            (key, self.partition(key).cloned())
        };
        Touched::Partitions(keys.into_iter().map(old).collect())
    }

    fn touched_broker(&self, id: i32) -> Touched {
        Touched::Broker(id, self.image.cluster.brokers.get(&id).cloned())
    }

    fn reindex(&mut self, before: Touched) {
        match before {
            Touched::Nothing => {}
            Touched::Partitions(partitions) => {
                for (key, old) in partitions {
                    if let Some(old) = old {
                        self.index.remove_partition(key, &old);
                    }
                    if let Some(new) = self.image.topics.partition(key.topic_id, key.partition) {
                        self.index.add_partition(key, new);
                    }
                }
            }
            Touched::Topic(topic) => {
                let topic = topic.expect("the image refuses to remove an unknown topic");
                self.index.remove_topic(&topic.name);
                for (id, partition) in &topic.partitions {
                    let key = TopicIdPartition::new(topic.id, *id);
                    self.index.remove_partition(key, partition);
                }
            }
            Touched::Broker(id, old) => {
                if let Some(old) = old {
                    self.index.remove_directories(&old.directories);
                }
                if let Some(new) = self.image.cluster.broker(id) {
                    self.index.add_directories(id, &new.directories);
                }
            }
        }
    }

    pub fn broker(&self, id: i32) -> Option<&Broker> {
        self.image.cluster.broker(id)
    }

    /// Registered, not fenced and not leaving.
    pub fn is_active(&self, broker: i32) -> bool {
        self.broker(broker).is_some_and(Broker::is_active)
    }

    pub fn topic(&self, id: Uuid) -> Option<&Arc<Topic>> {
        self.image.topics.get(id)
    }

    pub fn partition(&self, key: TopicIdPartition) -> Option<&Arc<Partition>> {
        self.image.topics.partition(key.topic_id, key.partition)
    }

    /// Where a new replica goes (Kafka's `defaultDir`): the broker's only directory, else it will say itself.
    pub fn default_directory(&self, broker: i32) -> Uuid {
        let version = self.image.metadata_version();
        if !version.supports_directory_assignment() {
            return Uuid::DIRECTORY_MIGRATING;
        }
        match self.broker(broker).map(|b| b.directories.as_slice()) {
            None => Uuid::DIRECTORY_UNASSIGNED,
            Some([]) => Uuid::DIRECTORY_MIGRATING,
            Some([only]) => *only,
            Some(_) => Uuid::DIRECTORY_UNASSIGNED,
        }
    }

    /// Panics where the index is not that of the image, or a partition cannot be.
    pub fn check(&self) {
        assert_eq!(self.index, Index::of(&self.image), "the index has drifted");
        for topic in self.image.topics.iter() {
            for (id, partition) in &topic.partitions {
                check_partition(partition, &format!("{}-{id}", topic.name));
            }
        }
    }

    /// What is set for a topic's key: on the topic, on this node, or cluster-wide; `None` where only the static
    /// configuration says. Only for keys that brokers call the same.
    pub fn dynamic_topic_value(&self, topic: &str, key: &str, node_id: i32) -> Option<Str> {
        let configs = &self.image.configs;
        let value = |resource: ConfigResource| configs.value(&resource, key).cloned();
        value(ConfigResource::topic(topic))
            .or_else(|| value(ConfigResource::broker(node_id)))
            .or_else(|| value(ConfigResource::default_broker()))
    }
}

fn check_partition(p: &Partition, name: &str) {
    let all_in = |ids: &[i32], set: &[i32]| ids.iter().all(|id| set.contains(id));
    assert!(!p.replicas.is_empty(), "{name} has no replica");
    assert_eq!(p.directories.len(), p.replicas.len(), "{name}: {p:?}");
    assert!(
        all_in(&p.isr, &p.replicas),
        "{name}: ISR beyond replicas: {p:?}"
    );
    assert!(
        all_in(&p.elr, &p.replicas),
        "{name}: ELR beyond replicas: {p:?}"
    );
    assert!(
        !p.elr.iter().any(|r| p.isr.contains(r)),
        "{name}: ELR in ISR: {p:?}"
    );
    assert!(
        !p.has_leader() || p.isr.contains(&p.leader),
        "{name}: leader not in sync: {p:?}"
    );
}

enum Touched {
    Nothing,
    Partitions(Vec<(TopicIdPartition, Option<Arc<Partition>>)>),
    Topic(Option<Arc<Topic>>),
    Broker(i32, Option<Arc<Broker>>),
}
