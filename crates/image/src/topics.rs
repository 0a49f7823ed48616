//! Topics by id and by name.

use std::sync::Arc;

use imbl::OrdMap;
use milena_base::Uuid;
use milena_protocol::{
    ClearElrRecord, MetadataRecord, PartitionChangeRecord, PartitionRecord, RemoveTopicRecord, Str,
    TopicRecord,
};

use crate::image::VersionedRecord;
use crate::{Loss, MetadataVersion, Partition, ReplayError};

/// A topic with its partitions.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Topic {
    pub id: Uuid,
    pub name: Str,
    pub partitions: OrdMap<i32, Arc<Partition>>,
}

/// All topics. Invariant: both maps name the same topics.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Topics {
    by_id: OrdMap<Uuid, Arc<Topic>>,
    by_name: OrdMap<Str, Uuid>,
}

impl Topics {
    pub fn get(&self, id: Uuid) -> Option<&Arc<Topic>> {
        self.by_id.get(&id)
    }

    pub fn id(&self, name: &str) -> Option<Uuid> {
        self.by_name.get(name).copied()
    }

    pub fn named(&self, name: &str) -> Option<&Arc<Topic>> {
        self.get(self.id(name)?)
    }

    pub fn partition(&self, id: Uuid, partition: i32) -> Option<&Arc<Partition>> {
        self.get(id)?.partitions.get(&partition)
    }

    pub fn len(&self) -> usize {
        self.by_id.len()
    }

    pub fn is_empty(&self) -> bool {
        self.by_id.is_empty()
    }

    /// By id, ascending: the order of a snapshot.
    pub fn iter(&self) -> impl Iterator<Item = &Arc<Topic>> {
        self.by_id.values()
    }

    /// By name, ascending.
    pub fn by_name(&self) -> impl Iterator<Item = &Arc<Topic>> {
        self.by_name.values().filter_map(|id| self.by_id.get(id))
    }

    /// By name, ascending, from this name on (for DescribeTopicPartitions' cursor).
    pub fn by_name_from<'a>(
        &'a self,
        first: &str,
    ) -> impl Iterator<Item = &'a Arc<Topic>> + use<'a> {
        let from = Str::copy(first);
        self.by_name
            .range(from..)
            .filter_map(|(_, id)| self.by_id.get(id))
    }

    pub(crate) fn replay_topic(&mut self, record: &TopicRecord) -> Result<(), ReplayError> {
        if let Some(id) = self.id(&record.name) {
            let text = format!("topic {} exists already, as {id}", record.name);
            return Err(ReplayError::new(text));
        }
        if self.by_id.contains_key(&record.topic_id) {
            let text = format!("topic id {} exists already", record.topic_id);
            return Err(ReplayError::new(text));
        }
        let name = record.name.detached();
        let topic = Topic {
            id: record.topic_id,
            name: name.clone(),
            partitions: OrdMap::new(),
        };
        self.by_id.insert(record.topic_id, Arc::new(topic));
        self.by_name.insert(name, record.topic_id);
        Ok(())
    }

    pub(crate) fn replay_partition(&mut self, record: &PartitionRecord) -> Result<(), ReplayError> {
        let topic = self.topic_mut(record.topic_id)?;
        let partition = Partition::from_record(record)?;
        topic
            .partitions
            .insert(record.partition_id, Arc::new(partition));
        Ok(())
    }

    pub(crate) fn replay_change(
        &mut self,
        record: &PartitionChangeRecord,
    ) -> Result<(), ReplayError> {
        let topic = self.topic_mut(record.topic_id)?;
        let partition = topic.partitions.get_mut(&record.partition_id);
        let partition = partition.ok_or_else(|| {
            let text = format!(
                "no partition {} of {}",
                record.partition_id, record.topic_id
            );
            ReplayError::new(text)
        })?;
        *partition = Arc::new(partition.merge(record)?);
        Ok(())
    }

    /// Returns the name of what is gone.
    pub(crate) fn replay_remove(&mut self, record: &RemoveTopicRecord) -> Result<Str, ReplayError> {
        let topic = self.by_id.remove(&record.topic_id);
        let topic = topic.ok_or_else(|| unknown(record.topic_id))?;
        self.by_name.remove(&topic.name);
        Ok(topic.name.clone())
    }

    pub(crate) fn replay_clear_elr(&mut self, record: &ClearElrRecord) -> Result<(), ReplayError> {
        for (id, partition) in self.with_elr(record)? {
            let topic = self.topic_mut(id)?;
            let slot = topic.partitions.get_mut(&partition);
            let cleared = slot.and_then(|slot| Some((slot.without_elr()?, slot)));
            if let Some((cleared, slot)) = cleared {
                *slot = Arc::new(cleared);
            }
        }
        Ok(())
    }

    /// The partitions that a ClearElrRecord changes: of the topic it names, or of all.
    pub(crate) fn with_elr(
        &self,
        record: &ClearElrRecord,
    ) -> Result<Vec<(Uuid, i32)>, ReplayError> {
        let topics: Vec<&Arc<Topic>> = match record.topic_name.as_str() {
            "" => self.iter().collect(),
            name => vec![self.named(name).ok_or_else(|| {
                ReplayError::new(format!("no topic {name} whose ELR could be cleared"))
            })?],
        };
        let partitions = topics.into_iter().flat_map(|t| {
            t.partitions
                .iter()
                .map(|(p, partition)| (t.id, *p, partition))
        });
        Ok(partitions
            .filter(|(.., p)| !p.elr.is_empty() || !p.last_known_elr.is_empty())
            .map(|(id, p, _)| (id, p))
            .collect())
    }

    pub(crate) fn write(
        &self,
        version: MetadataVersion,
        elr_enabled: bool,
        out: &mut dyn FnMut(VersionedRecord),
    ) -> Result<(), Loss> {
        for topic in self.iter() {
            let record = TopicRecord {
                name: topic.name.clone(),
                topic_id: topic.id,
            };
            out((MetadataRecord::Topic(record), 0));
            for (id, partition) in &topic.partitions {
                let (record, v) = partition.to_record(topic.id, *id, version, elr_enabled)?;
                out((MetadataRecord::Partition(record), v));
            }
        }
        Ok(())
    }

    pub(crate) fn map(&self) -> &OrdMap<Uuid, Arc<Topic>> {
        &self.by_id
    }

    fn topic_mut(&mut self, id: Uuid) -> Result<&mut Topic, ReplayError> {
        let topic = self.by_id.get_mut(&id).ok_or_else(|| unknown(id))?;
        Ok(Arc::make_mut(topic))
    }
}

fn unknown(id: Uuid) -> ReplayError {
    ReplayError::new(format!("no topic with id {id}"))
}
