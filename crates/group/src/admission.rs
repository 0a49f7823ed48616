//! Requests to a shard that are about members: which group they are for, and what if there is none.

use milena_base::ErrorCode;
use milena_coordinator::Token;
use milena_protocol::{HeartbeatRequest, JoinGroupRequest, LeaveGroupRequest, SyncGroupRequest};

use crate::classic::{ClassicGroup, Joining, Turn, Write};
use crate::consumer::classic::with_members;
use crate::request::{
    RequestContext, ShardResponse, heartbeat, join_error, leave_error, sync_error,
};
use crate::shard::{After, Group, GroupShard};

impl GroupShard {
    /// A group comes into being when somebody without a member id joins; it is recorded at once.
    pub(crate) fn join(
        &mut self,
        token: Token,
        context: &RequestContext,
        request: &JoinGroupRequest,
        turn: &mut Turn<'_>,
    ) -> Option<Write> {
        let config = self.config.clone();
        let joining = Joining {
            token,
            context,
            request,
            config: &config,
        };
        if with_members(self.groups.get(&request.group_id)).is_some() {
            return self.join_consumer(&joining, turn);
        }
        let error = match self.groups.get_mut(&request.group_id) {
            Some(Group::Classic(group)) => return group.join(&joining, turn),
            Some(Group::Other(group)) if !group.may_be_replaced() => {
                ErrorCode::InconsistentGroupProtocol
            }
            Some(Group::Consumer(_) | Group::Other(_)) | None if request.member_id.is_empty() => {
                return self.join_first(&joining, turn);
            }
            Some(Group::Consumer(_) | Group::Other(_)) | None => ErrorCode::UnknownMemberId,
        };
        let answer = join_error(request.member_id.clone(), error);
        turn.reply(token, ShardResponse::Join(answer));
        None
    }

    fn join_first(&mut self, joining: &Joining<'_>, turn: &mut Turn<'_>) -> Option<Write> {
        let id = joining.request.group_id.detached();
        let mut group = ClassicGroup::new(id.clone(), Some(turn.now.wall.0));
        let write = group.join(joining, turn);
        debug_assert!(write.is_none(), "a first rebalance waits");
        if group.members.is_empty() && group.pending_join.is_empty() {
            // It was refused: there is nothing to remember.
            return None;
        }
        let mut records = Vec::new();
        let replaced = match self.remove_group(&id) {
            Some(other @ (Group::Consumer(_) | Group::Other(_))) => {
                other.tombstones(&id, &mut records);
                Some(other)
            }
            _ => None,
        };
        records.push(group.to_empty_record());
        self.insert_group(id.clone(), Group::Classic(Box::new(group)));
        let after = After::Created {
            group: id,
            token: joining.token,
            replaced,
        };
        Some(Write::new(records).without_replay().after(after))
    }

    pub(crate) fn sync(
        &mut self,
        token: Token,
        request: SyncGroupRequest,
        turn: &mut Turn<'_>,
    ) -> Option<Write> {
        if let Some(group) = with_members(self.groups.get(&request.group_id)) {
            return Some(self.sync_consumer(&group, token, &request, turn));
        }
        match self.classic_mut(&request.group_id) {
            Some(group) => group.sync(token, request, turn),
            None => {
                let answer = sync_error(ErrorCode::UnknownMemberId);
                turn.reply(token, ShardResponse::Sync(answer));
                None
            }
        }
    }

    pub(crate) fn heartbeat(
        &mut self,
        token: Token,
        request: &HeartbeatRequest,
        turn: &mut Turn<'_>,
    ) -> Write {
        let error = match with_members(self.groups.get(&request.group_id)) {
            Some(group) => self.heartbeat_consumer(&group, request, turn),
            None => match self.classic_mut(&request.group_id) {
                Some(group) => group.heartbeat(request, turn),
                None => ErrorCode::UnknownMemberId,
            },
        };
        Write::new(Vec::new()).answer(token, ShardResponse::Heartbeat(heartbeat(error)))
    }

    pub(crate) fn leave(
        &mut self,
        token: Token,
        request: &LeaveGroupRequest,
        turn: &mut Turn<'_>,
    ) -> Write {
        if let Some(group) = with_members(self.groups.get(&request.group_id)) {
            let (response, write) = self.leave_classic(&group, request, turn);
            return write.answer(token, ShardResponse::Leave(response));
        }
        let config = self.config.clone();
        let (response, write) = match self.classic_mut(&request.group_id) {
            Some(group) => group.leave(request, &config, turn),
            None => (leave_error(request, ErrorCode::UnknownMemberId), None),
        };
        let write = write.unwrap_or_else(|| Write::new(Vec::new()));
        write.answer(token, ShardResponse::Leave(response))
    }
}
