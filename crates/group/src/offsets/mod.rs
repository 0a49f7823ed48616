//! Committed offsets of all groups of a shard, and those of transactions that are still open.
//!
//! Source: Kafka's `OffsetMetadataManager`. The folder decides what an offset commit, fetch or deletion writes and
//! answers, and when an offset expires. Who may commit is decided by the group.

pub(crate) mod commit;
pub(crate) mod delete;
pub(crate) mod expire;
pub(crate) mod fetch;

use std::collections::{BTreeMap, BTreeSet};

use imbl::OrdMap;
use milena_base::{Offset, Uuid};
use milena_protocol::{OffsetCommitValue, Str};

/// What an offset is committed for. Ordered by group, then topic, then partition.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct OffsetKey {
    pub group: Str,
    pub topic: Str,
    pub partition: i32,
}

impl OffsetKey {
    /// A key with strings of its own.
    pub fn new(group: &str, topic: &str, partition: i32) -> OffsetKey {
        OffsetKey {
            group: Str::copy(group),
            topic: Str::copy(topic),
            partition,
        }
    }

    /// Not above any key of the group.
    fn first_of(group: &Str) -> OffsetKey {
        OffsetKey {
            group: group.clone(),
            topic: Str::EMPTY,
            partition: i32::MIN,
        }
    }
}

/// An offset as it was committed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CommittedOffset {
    /// Where the record of the commit stands in `__consumer_offsets`.
    pub record_offset: Offset,
    pub offset: i64,
    /// −1: none was given.
    pub leader_epoch: i32,
    pub metadata: Str,
    /// Milliseconds since 1970.
    pub commit_timestamp: i64,
    /// Set by requests before version 5 that bring their own retention; −1: none.
    pub expire_timestamp: i64,
    /// Zero where the committer did not know it.
    pub topic_id: Uuid,
}

impl CommittedOffset {
    fn from_record(record_offset: Offset, value: OffsetCommitValue) -> CommittedOffset {
        CommittedOffset {
            record_offset,
            offset: value.offset,
            leader_epoch: value.leader_epoch,
            metadata: value.metadata.detached(),
            commit_timestamp: value.commit_timestamp,
            expire_timestamp: value.expire_timestamp,
            topic_id: value.topic_id,
        }
    }
}

/// The offsets that readers see; a clone is a snapshot.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct OffsetTable(OrdMap<OffsetKey, CommittedOffset>);

impl OffsetTable {
    pub fn get(&self, key: &OffsetKey) -> Option<&CommittedOffset> {
        self.0.get(key)
    }

    /// The offsets of one group, by topic and partition.
    pub fn of_group<'a>(
        &'a self,
        group: &'a Str,
    ) -> impl Iterator<Item = (&'a OffsetKey, &'a CommittedOffset)> {
        self.0
            .range(OffsetKey::first_of(group)..)
            .take_while(move |(key, _)| key.group == *group)
    }

    pub fn iter(&self) -> impl Iterator<Item = (&OffsetKey, &CommittedOffset)> {
        self.0.iter()
    }

    pub fn len(&self) -> usize {
        self.0.len()
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

/// Offsets of open transactions. Invariant: `producers` holds a producer for a key exactly where `by_producer` holds
/// the key for the producer.
#[derive(Debug, Default)]
pub(crate) struct OpenTransactions {
    by_producer: BTreeMap<i64, BTreeMap<OffsetKey, CommittedOffset>>,
    producers: BTreeMap<OffsetKey, BTreeSet<i64>>,
}

impl OpenTransactions {
    fn put(&mut self, producer_id: i64, key: OffsetKey, offset: CommittedOffset) {
        let producers = self.producers.entry(key.clone()).or_default();
        producers.insert(producer_id);
        let offsets = self.by_producer.entry(producer_id).or_default();
        offsets.insert(key, offset);
    }

    /// Forgets a key in every transaction.
    fn remove(&mut self, key: &OffsetKey) {
        for producer_id in self.producers.remove(key).unwrap_or_default() {
            if let Some(offsets) = self.by_producer.get_mut(&producer_id) {
                offsets.remove(key);
            }
        }
    }

    fn take(&mut self, producer_id: i64) -> BTreeMap<OffsetKey, CommittedOffset> {
        let offsets = self.by_producer.remove(&producer_id).unwrap_or_default();
        for key in offsets.keys() {
            if let Some(producers) = self.producers.get_mut(key) {
                producers.remove(&producer_id);
                if producers.is_empty() {
                    self.producers.remove(key);
                }
            }
        }
        offsets
    }

    pub(crate) fn contains(&self, key: &OffsetKey) -> bool {
        self.producers.contains_key(key)
    }

    pub(crate) fn keys_of<'a>(&'a self, group: &'a Str) -> impl Iterator<Item = &'a OffsetKey> {
        self.producers
            .range(OffsetKey::first_of(group)..)
            .map(|(key, _)| key)
            .take_while(move |key| key.group == *group)
    }

    pub(crate) fn all(&self) -> impl Iterator<Item = (&OffsetKey, &CommittedOffset)> {
        self.by_producer.values().flatten()
    }

    pub(crate) fn has_group(&self, group: &Str) -> bool {
        self.keys_of(group).next().is_some()
    }
}

/// All offsets of a shard.
#[derive(Debug, Default)]
pub(crate) struct Offsets {
    pub(crate) table: OffsetTable,
    pub(crate) open: OpenTransactions,
}

impl Offsets {
    /// Takes a record in. Within a transaction it waits for the marker; a tombstone ends it everywhere.
    pub(crate) fn replay(
        &mut self,
        record_offset: Offset,
        producer_id: i64,
        key: OffsetKey,
        value: Option<OffsetCommitValue>,
    ) {
        match value {
            Some(value) => {
                let offset = CommittedOffset::from_record(record_offset, value);
                match producer_id {
                    -1 => _ = self.table.0.insert(key, offset),
                    _ => self.open.put(producer_id, key, offset),
                }
            }
            None => {
                self.table.0.remove(&key);
                self.open.remove(&key);
            }
        }
    }

    /// Takes over what a transaction committed, but for what was committed later outside of it.
    pub(crate) fn end_transaction(&mut self, producer_id: i64, committed: bool) {
        let offsets = self.open.take(producer_id);
        if !committed {
            return;
        }
        for (key, offset) in offsets {
            let newer = |there: &CommittedOffset| there.record_offset >= offset.record_offset;
            if !self.table.get(&key).is_some_and(newer) {
                self.table.0.insert(key, offset);
            }
        }
    }
}
