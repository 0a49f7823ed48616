//! ConsumerGroupDescribe of one group, from its committed state. v1: what protocol a member uses.

use milena_base::ErrorCode;
use milena_protocol::Str;
use milena_protocol::consumer_group_describe_response::DescribedGroup;

use crate::consumer::group::ConsumerGroup;
use crate::shard::{Committed, GroupShard};

impl GroupShard {
    pub(crate) fn describe_consumer(&self, group_id: Str, committed: &Committed) -> DescribedGroup {
        if let Some(group) = committed.consumers.get(&group_id) {
            return self.described(group);
        }
        let why = match committed.groups.contains(&group_id) {
            true => format!("Group {group_id} is not a consumer group."),
            false => format!("Group {group_id} not found."),
        };
        DescribedGroup {
            group_id,
            error_code: ErrorCode::GroupIdNotFound.code(),
            error_message: Some(Str::from(why)),
            ..Default::default()
        }
    }

    fn described(&self, group: &ConsumerGroup) -> DescribedGroup {
        let assignor = group.preferred_assignor();
        let default = || Str::copy(self.default_assignor().name());
        let members = group.members.values().map(|member| {
            let target = group.targets.get(&member.id).cloned().unwrap_or_default();
            member.describe(&target, &*self.topics)
        });
        DescribedGroup {
            group_id: group.id.clone(),
            group_state: group.state().name().into(),
            group_epoch: group.epoch,
            assignment_epoch: group.assignment_epoch,
            assignor_name: assignor.unwrap_or_else(default),
            members: members.collect(),
            ..Default::default()
        }
    }
}
