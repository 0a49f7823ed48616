//! Soft state about topics: which groups are to look at their topics again, hashes of topics, and settings.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use milena_base::{Instant, Now};
use milena_protocol::Str;

use crate::config::ConsumerGroupSettings;
use crate::consumer::assignor::Assignor;
use crate::consumer::group::ConsumerGroup;
use crate::shard::{Group, GroupShard};

/// A group looks at its topics again after this long, even if nobody says that they changed.
const FRESH_MS_MAX: u64 = i32::MAX as u64;

/// Which groups have looked at their topics.
#[derive(Debug, Default)]
pub(crate) struct Watch {
    /// By group: the group's epoch after it looked, and until when that is good. Where the epoch was not committed,
    /// the group looks again.
    fresh: BTreeMap<Str, (i32, Instant)>,
    /// Hashes of topics that exist.
    pub(crate) hashes: BTreeMap<Str, u64>,
    /// Groups whose regular expressions are about to be looked at.
    pub(crate) resolving: BTreeSet<Str>,
    /// The newest metadata that brought topics.
    pub(crate) newest_topics: i64,
}

impl Watch {
    /// A shard was loaded, with metadata of this version.
    pub(crate) fn begin(&mut self, version: i64) {
        *self = Watch {
            newest_topics: version,
            ..Watch::default()
        };
    }
}

impl GroupShard {
    /// Whether the group's topics may have changed since it looked at them.
    pub(crate) fn is_stale(&self, group: &ConsumerGroup, now: Now) -> bool {
        let fresh = self.watch.fresh.get(&group.id);
        fresh.is_none_or(|(epoch, until)| group.epoch < *epoch || now.mono >= *until)
    }

    pub(crate) fn mark_fresh(&mut self, group_id: &Str, epoch: i32, now: Now) {
        let until = now.mono + Duration::from_millis(FRESH_MS_MAX);
        self.watch.fresh.insert(group_id.clone(), (epoch, until));
    }

    pub(crate) fn topics_changed(&mut self, names: &[Str], created: bool) {
        for name in names {
            self.watch.hashes.remove(name);
        }
        if created {
            self.watch.newest_topics = self.topics.version();
        }
        let groups = &self.groups;
        self.watch.fresh.retain(|id, _| match groups.get(id) {
            Some(Group::Consumer(group)) => !names.iter().any(|name| group.is_subscribed_to(name)),
            _ => false,
        });
    }

    /// The first of `group.consumer.assignors`.
    pub(crate) fn default_assignor(&self) -> Assignor {
        let first = self.config.consumer.assignors.first();
        first.copied().unwrap_or(Assignor::Uniform)
    }

    pub(crate) fn settings_of(&self, group_id: &str) -> ConsumerGroupSettings {
        let own = self.topics.consumer_settings(group_id);
        own.unwrap_or(self.config.consumer.defaults)
    }
}
