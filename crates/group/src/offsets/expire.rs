//! Which offsets have outlived their retention, and which groups with them (KIP-211).

use milena_coordinator::Write;
use milena_protocol::Str;

use crate::offsets::CommittedOffset;
use crate::record::GroupRecord;
use crate::shard::{Group, GroupShard};

/// Since when the retention of a group's offsets counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ExpiresSince {
    /// Each since it was committed: nobody is there, or the members do not want the topic.
    Commit,
    /// All since the group became empty (milliseconds since 1970).
    Empty(i64),
}

impl GroupShard {
    /// Tombstones for what has expired. A group goes when it is empty and has no offset left.
    pub(crate) fn expire(&self, wall_ms: i64) -> Write<GroupShard> {
        let mut records = Vec::new();
        for (id, group) in &self.groups {
            let nothing_left = self.expire_offsets(id, group, wall_ms, &mut records);
            if nothing_left && group.may_be_forgotten() {
                group.tombstones(id, &mut records);
            }
        }
        Write::new(records).divisible()
    }

    /// Whether no offset of the group is left after this.
    fn expire_offsets(
        &self,
        id: &Str,
        group: &Group,
        wall_ms: i64,
        records: &mut Vec<GroupRecord>,
    ) -> bool {
        let since = group.offsets_expire_since();
        let mut left = self.offsets.open.has_group(id);
        for (key, offset) in self.offsets.table.of_group(id) {
            let expired = since.is_some_and(|since| self.is_expired(since, offset, wall_ms))
                && !group.is_subscribed_to(&key.topic)
                && !self.offsets.open.contains(key);
            match expired {
                true => records.push(GroupRecord::offset_tombstone(key.clone())),
                false => left = true,
            }
        }
        !left
    }

    fn is_expired(&self, since: ExpiresSince, offset: &CommittedOffset, wall_ms: i64) -> bool {
        if offset.expire_timestamp != -1 {
            return wall_ms >= offset.expire_timestamp;
        }
        let base = match since {
            ExpiresSince::Commit => offset.commit_timestamp,
            ExpiresSince::Empty(since) => since,
        };
        wall_ms.saturating_sub(base) >= self.config.offsets_retention_ms
    }
}
