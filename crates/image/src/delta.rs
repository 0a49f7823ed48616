//! What a stretch of records changes, whether they came from the log or from a snapshot (Kafka's `MetadataDelta`).

use std::sync::Arc;

use milena_base::Uuid;
use milena_protocol::MetadataRecord;

use crate::{Changes, Image, Partition, Provenance, ReplayError, Topic};

/// A base image, the image after the records so far, and what they touched.
#[derive(Clone, Debug)]
pub struct Delta {
    base: Image,
    image: Image,
    changes: Changes,
}

/// One partition on both sides of a delta; `None` where there is or was none.
#[derive(Clone, Debug)]
pub struct PartitionDelta<'a> {
    pub topic_id: Uuid,
    /// From the new side, or of the deleted topic.
    pub topic: &'a Arc<Topic>,
    pub partition: i32,
    pub old: Option<&'a Arc<Partition>>,
    pub new: Option<&'a Arc<Partition>>,
}

impl Delta {
    pub fn new(base: &Image) -> Delta {
        Delta {
            base: base.clone(),
            image: base.clone(),
            changes: Changes::default(),
        }
    }

    /// From any image to any other, as when a snapshot is loaded: what the snapshot lacks is a deletion.
    pub fn between(old: &Image, new: &Image) -> Delta {
        Delta {
            base: old.clone(),
            image: new.clone(),
            changes: Changes::between(old, new),
        }
    }

    pub fn replay(&mut self, record: &MetadataRecord) -> Result<(), ReplayError> {
        self.changes.note(&self.image, record);
        self.image.replay(record)
    }

    /// Names the last record; to be called before [`Delta::image`] is published.
    pub fn set_provenance(&mut self, provenance: Provenance) {
        self.image.provenance = provenance;
    }

    /// Before the records.
    pub fn base(&self) -> &Image {
        &self.base
    }

    /// After the records.
    pub fn image(&self) -> &Image {
        &self.image
    }

    pub fn changes(&self) -> &Changes {
        &self.changes
    }

    /// Topics that are new on this side, also where a deleted one had the same name.
    pub fn created_topics(&self) -> impl Iterator<Item = &Arc<Topic>> {
        let is_new = |id: &&Uuid| self.base.topics.get(**id).is_none();
        let new = self.changes.topics.iter().filter(is_new);
        new.filter_map(|id| self.image.topics.get(*id))
    }

    /// Topics that are gone, as they were.
    pub fn deleted_topics(&self) -> impl Iterator<Item = &Arc<Topic>> {
        let is_gone = |id: &&Uuid| self.image.topics.get(**id).is_none();
        let gone = self.changes.topics.iter().filter(is_gone);
        gone.filter_map(|id| self.base.topics.get(*id))
    }

    /// Every partition that differs, those of created and deleted topics included.
    pub fn partitions(&self) -> impl Iterator<Item = PartitionDelta<'_>> {
        let delta = |(topic_id, partition): &(Uuid, i32)| {
            let (topic_id, partition) = (*topic_id, *partition);
            let new = self.image.topics.get(topic_id);
            Some(PartitionDelta {
                topic_id,
                topic: new.or_else(|| self.base.topics.get(topic_id))?,
                partition,
                old: self.base.topics.partition(topic_id, partition),
                new: self.image.topics.partition(topic_id, partition),
            })
        };
        let all = self.changes.partitions.iter().filter_map(delta);
        all.filter(|d| d.old != d.new)
    }
}
