//! What deciding looks up and the image does not say quickly. Derived from the image alone, kept by replay.

use std::collections::{BTreeMap, BTreeSet};

use milena_base::{TopicIdPartition, Uuid};
use milena_image::{Image, NO_LEADER, Partition};

/// Invariant: [`Index::of`] the same image gives the same index.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Index {
    /// Partitions with the broker in their ISR.
    in_isr: BTreeMap<i32, BTreeSet<TopicIdPartition>>,
    in_elr: BTreeMap<i32, BTreeSet<TopicIdPartition>>,
    leads: BTreeMap<i32, BTreeSet<TopicIdPartition>>,
    leaderless: BTreeSet<TopicIdPartition>,
    /// Led by another than the preferred replica, or by none.
    imbalanced: BTreeSet<TopicIdPartition>,
    reassigning: BTreeSet<TopicIdPartition>,
    in_directory: BTreeMap<Uuid, BTreeSet<TopicIdPartition>>,
    directory_owner: BTreeMap<Uuid, i32>,
    /// Topic names by what their metrics would be called.
    colliding: BTreeMap<String, BTreeSet<String>>,
}

fn is_reserved(directory: Uuid) -> bool {
    directory < Uuid::from_parts(0, 100)
}

/// Names that differ only in dots and underscores collide in metric names.
pub(crate) fn unified(name: &str) -> Option<String> {
    let collides = name.contains(['.', '_']);
    collides.then(|| name.replace('.', "_"))
}

fn add<K: Ord, V: Ord>(map: &mut BTreeMap<K, BTreeSet<V>>, key: K, value: V) {
    map.entry(key).or_default().insert(value);
}

fn remove<K: Ord, V: Ord>(map: &mut BTreeMap<K, BTreeSet<V>>, key: &K, value: &V) {
    if let Some(values) = map.get_mut(key) {
        values.remove(value);
        if values.is_empty() {
            map.remove(key);
        }
    }
}

impl Index {
    pub fn of(image: &Image) -> Index {
        let mut index = Index::default();
        for topic in image.topics.iter() {
            index.add_topic(&topic.name);
            for (id, partition) in &topic.partitions {
                index.add_partition(TopicIdPartition::new(topic.id, *id), partition);
            }
        }
        for broker in image.cluster.brokers.values() {
            index.add_directories(broker.id, &broker.directories);
        }
        index
    }

    pub fn add_topic(&mut self, name: &str) {
        if let Some(unified) = unified(name) {
            add(&mut self.colliding, unified, name.to_owned());
        }
    }

    pub fn remove_topic(&mut self, name: &str) {
        if let Some(unified) = unified(name) {
            remove(&mut self.colliding, &unified, &name.to_owned());
        }
    }

    pub fn add_partition(&mut self, key: TopicIdPartition, partition: &Partition) {
        for broker in &partition.isr {
            add(&mut self.in_isr, *broker, key);
        }
        for broker in &partition.elr {
            add(&mut self.in_elr, *broker, key);
        }
        for directory in partition.directories.iter().filter(|d| !is_reserved(**d)) {
            add(&mut self.in_directory, *directory, key);
        }
        match partition.leader {
            NO_LEADER => drop(self.leaderless.insert(key)),
            leader => add(&mut self.leads, leader, key),
        }
        if !partition.has_preferred_leader() {
            self.imbalanced.insert(key);
        }
        if partition.is_reassigning() {
            self.reassigning.insert(key);
        }
    }

    pub fn remove_partition(&mut self, key: TopicIdPartition, partition: &Partition) {
        for broker in &partition.isr {
            remove(&mut self.in_isr, broker, &key);
        }
        for broker in &partition.elr {
            remove(&mut self.in_elr, broker, &key);
        }
        for directory in &partition.directories {
            remove(&mut self.in_directory, directory, &key);
        }
        remove(&mut self.leads, &partition.leader, &key);
        self.leaderless.remove(&key);
        self.imbalanced.remove(&key);
        self.reassigning.remove(&key);
    }

    pub fn add_directories(&mut self, broker: i32, directories: &[Uuid]) {
        for directory in directories {
            self.directory_owner.insert(*directory, broker);
        }
    }

    pub fn remove_directories(&mut self, directories: &[Uuid]) {
        for directory in directories {
            self.directory_owner.remove(directory);
        }
    }

    pub fn in_isr(&self, broker: i32) -> Vec<TopicIdPartition> {
        self.in_isr
            .get(&broker)
            .into_iter()
            .flatten()
            .copied()
            .collect()
    }

    pub fn in_elr(&self, broker: i32) -> Vec<TopicIdPartition> {
        self.in_elr
            .get(&broker)
            .into_iter()
            .flatten()
            .copied()
            .collect()
    }

    /// Partitions with any eligible leader replica, of one topic or of all.
    pub fn with_elr(&self, topic: Option<Uuid>) -> BTreeSet<TopicIdPartition> {
        let all = self.in_elr.values().flatten().copied();
        all.filter(|key| topic.is_none_or(|id| key.topic_id == id))
            .collect()
    }

    pub fn leads_any(&self, broker: i32) -> bool {
        self.leads.contains_key(&broker)
    }

    pub fn leaderless(&self) -> Vec<TopicIdPartition> {
        self.leaderless.iter().copied().collect()
    }

    pub fn imbalanced(&self) -> impl Iterator<Item = TopicIdPartition> + '_ {
        self.imbalanced.iter().copied()
    }

    pub fn reassigning(&self) -> impl Iterator<Item = TopicIdPartition> + '_ {
        self.reassigning.iter().copied()
    }

    pub fn in_directory(&self, directory: Uuid) -> Vec<TopicIdPartition> {
        self.in_directory
            .get(&directory)
            .into_iter()
            .flatten()
            .copied()
            .collect()
    }

    pub fn directory_owner(&self, directory: Uuid) -> Option<i32> {
        self.directory_owner.get(&directory).copied()
    }

    /// An existing topic whose metrics could not be told from this one's (also itself).
    pub fn colliding(&self, name: &str) -> Option<&String> {
        self.colliding.get(&unified(name)?)?.first()
    }
}

/// Whether an id stands for something else than a directory (Kafka's `DirectoryId.reserved`).
pub(crate) fn is_reserved_directory(directory: Uuid) -> bool {
    is_reserved(directory)
}
