//! Heartbeat, and LeaveGroup. LeaveGroup v3: several members, by instance id too. v5: reasons.

use milena_base::ErrorCode;
use milena_protocol::leave_group_request::MemberIdentity;
use milena_protocol::leave_group_response::MemberResponse;
use milena_protocol::{HeartbeatRequest, LeaveGroupRequest, LeaveGroupResponse};

use crate::classic::group::{ClassicGroup, ClassicState};
use crate::classic::{Turn, Write};
use crate::config::GroupConfig;

impl ClassicGroup {
    /// The error of the answer; a member that is known has its session renewed.
    pub(crate) fn heartbeat(
        &mut self,
        request: &HeartbeatRequest,
        turn: &mut Turn<'_>,
    ) -> ErrorCode {
        let instance_id = request.group_instance_id.as_ref();
        if let Err(error) = self.validate_member(&request.member_id, instance_id) {
            return error;
        }
        if request.generation_id != self.generation {
            return ErrorCode::IllegalGeneration;
        }
        self.reschedule_session(&request.member_id, turn);
        match self.state {
            ClassicState::PreparingRebalance => ErrorCode::RebalanceInProgress,
            ClassicState::CompletingRebalance | ClassicState::Stable => ErrorCode::None,
            ClassicState::Empty => ErrorCode::UnknownMemberId,
        }
    }

    pub(crate) fn leave(
        &mut self,
        request: &LeaveGroupRequest,
        config: &GroupConfig,
        turn: &mut Turn<'_>,
    ) -> (LeaveGroupResponse, Option<Write>) {
        let mut members = Vec::with_capacity(request.members.len());
        for member in &request.members {
            let error = self.leave_one(member, turn).err();
            members.push(MemberResponse {
                member_id: member.member_id.clone(),
                group_instance_id: member.group_instance_id.clone(),
                error_code: error.unwrap_or(ErrorCode::None).code(),
            });
        }
        let left = members.iter().any(|member| member.error_code == 0);
        let write = match self.state {
            ClassicState::Stable | ClassicState::CompletingRebalance if left => {
                self.rebalance_or_complete_join(config, turn)
            }
            ClassicState::PreparingRebalance if left => self.maybe_complete_join(turn),
            _ => None,
        };
        let response = LeaveGroupResponse {
            members,
            ..Default::default()
        };
        (response, write)
    }

    /// Without a member id an administrator removes a static member.
    fn leave_one(
        &mut self,
        leaving: &MemberIdentity,
        turn: &mut Turn<'_>,
    ) -> Result<(), ErrorCode> {
        let instance_id = leaving.group_instance_id.as_ref();
        let member_id = if leaving.member_id.is_empty() {
            let found = instance_id
                .and_then(|id| self.static_members.get(id))
                .cloned();
            found.ok_or(ErrorCode::UnknownMemberId)?
        } else if self.pending_join.contains(&leaving.member_id) {
            self.cancel_session(&leaving.member_id, turn);
            self.remove(&leaving.member_id);
            return Ok(());
        } else {
            self.validate_member(&leaving.member_id, instance_id)?;
            leaving.member_id.clone()
        };
        let reason = leaving.reason.as_deref().unwrap_or("not provided");
        tracing::info!(group = %self.id, member = %member_id, reason, "member leaves");
        self.drop_member(&member_id, turn);
        Ok(())
    }
}
