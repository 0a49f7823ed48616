//! ListGroups, DescribeGroups and DeleteGroups on one shard.

use milena_base::ErrorCode;
use milena_coordinator::{Token, Write};
use milena_protocol::delete_groups_response::DeletableGroupResult;
use milena_protocol::describe_groups_response::DescribedGroup;
use milena_protocol::list_groups_response::ListedGroup;
use milena_protocol::{ListGroupsRequest, Str};

use crate::classic::{ClassicGroup, ClassicState};
use crate::request::ShardResponse;
use crate::shard::{Committed, Group, GroupShard};

/// First version of DescribeGroups that tells an unknown group from a dead one.
const GROUP_ID_NOT_FOUND_FROM: i16 = 6;
/// The state of a group that is not there.
const DEAD: &str = "Dead";

impl GroupShard {
    /// Groups of the states and types asked for, whatever the case of letters; no filter means all.
    pub(crate) fn list(
        &self,
        request: &ListGroupsRequest,
        committed: &Committed,
    ) -> Vec<ListedGroup> {
        let wanted = |filter: &[Str], value: &str| {
            filter.is_empty() || filter.iter().any(|f| f.trim().eq_ignore_ascii_case(value))
        };
        let listed = self
            .groups
            .iter()
            .filter(|(id, _)| committed.groups.contains(*id));
        let listed = listed
            .map(|(id, group)| match committed.consumers.get(id) {
                Some(group) => listed_group(id, &Group::Consumer(group.clone())),
                None => listed_group(id, group),
            })
            .filter(|group| {
                wanted(&request.states_filter, &group.group_state)
                    && wanted(&request.types_filter, &group.group_type)
            });
        listed.collect()
    }

    /// A classic group. v6: GROUP_ID_NOT_FOUND for others; before, they are dead.
    pub(crate) fn describe(
        &self,
        version: i16,
        group_id: Str,
        committed: &Committed,
    ) -> DescribedGroup {
        let group = self.groups.get(&group_id);
        let kind = match group.filter(|_| committed.groups.contains(&group_id)) {
            Some(Group::Classic(group)) => return describe_classic(group),
            Some(Group::Consumer(_) | Group::Other(_)) => "is not a classic group",
            None => "not found",
        };
        let dead = DescribedGroup {
            group_state: DEAD.into(),
            ..Default::default()
        };
        if version < GROUP_ID_NOT_FOUND_FROM {
            return DescribedGroup { group_id, ..dead };
        }
        DescribedGroup {
            error_code: ErrorCode::GroupIdNotFound.code(),
            error_message: Some(Str::from(format!("Group {group_id} {kind}."))),
            group_id,
            ..dead
        }
    }

    /// Ends an empty group and all its offsets.
    pub(crate) fn delete_group(&self, token: Token, group_id: Str) -> Write<GroupShard> {
        let mut records = Vec::new();
        let refusal = self.delete_refusal(&group_id);
        if refusal.is_none() {
            self.offset_tombstones(&group_id, &mut records);
            if let Some(group) = self.groups.get(&group_id) {
                group.tombstones(&group_id, &mut records);
            }
        }
        let result = DeletableGroupResult {
            group_id,
            error_code: refusal.unwrap_or(ErrorCode::None).code(),
            ..Default::default()
        };
        Write::new(records).answer(token, ShardResponse::Delete(result))
    }

    fn delete_refusal(&self, id: &Str) -> Option<ErrorCode> {
        match self.groups.get(id) {
            None => Some(ErrorCode::GroupIdNotFound),
            Some(Group::Classic(group)) if group.is_empty() => None,
            Some(Group::Consumer(group)) if group.is_empty() => None,
            Some(Group::Other(group)) if group.may_be_replaced() => None,
            // A share group's state lies in another topic, which would have to be cleared too.
            Some(Group::Other(group)) if group.is_empty() => Some(ErrorCode::GroupDeletionFailed),
            Some(_) => Some(ErrorCode::NonEmptyGroup),
        }
    }
}

fn listed_group(id: &Str, group: &Group) -> ListedGroup {
    match group {
        Group::Classic(group) => ListedGroup {
            group_id: id.clone(),
            protocol_type: group.protocol_type.clone().unwrap_or_default(),
            group_state: group.state().name().into(),
            group_type: "Classic".into(),
        },
        Group::Consumer(group) => ListedGroup {
            group_id: id.clone(),
            protocol_type: "consumer".into(),
            group_state: group.state().name().into(),
            group_type: "Consumer".into(),
        },
        Group::Other(group) => ListedGroup {
            group_id: id.clone(),
            protocol_type: group.kind.protocol_type().into(),
            group_state: group.state().into(),
            group_type: group.kind.name().into(),
        },
    }
}

/// The protocol and the members' metadata are told of a stable group alone.
fn describe_classic(group: &ClassicGroup) -> DescribedGroup {
    let protocol = group.protocol_name.as_ref();
    let protocol = protocol.filter(|_| group.state() == ClassicState::Stable);
    DescribedGroup {
        group_id: group.id.clone(),
        group_state: group.state().name().into(),
        protocol_type: group.protocol_type.clone().unwrap_or_default(),
        protocol_data: protocol.cloned().unwrap_or_default(),
        members: group
            .members
            .values()
            .map(|m| m.describe(protocol))
            .collect(),
        ..Default::default()
    }
}
