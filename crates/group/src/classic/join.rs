//! JoinGroup. v0: the rebalance timeout is the session timeout. v4: MEMBER_ID_REQUIRED. v5: group instance id.
//! v7: protocol type. v8: reason. v9: a leader is told to skip the assignment.

use milena_base::ErrorCode;
use milena_coordinator::Token;
use milena_protocol::{JoinGroupRequest, Str};

use crate::classic::group::{ClassicGroup, ClassicState};
use crate::classic::member::{Member, detached};
use crate::classic::{Turn, Write};
use crate::config::GroupConfig;
use crate::request::{RequestContext, ShardResponse, join_error};
use crate::shard::member_id_for;

/// First version whose dynamic members learn their id before they are in the group (KIP-394).
pub(crate) const MEMBER_ID_REQUIRED_FROM: i16 = 4;

/// A JoinGroup with everything that goes with it.
pub(crate) struct Joining<'a> {
    pub(crate) token: Token,
    pub(crate) context: &'a RequestContext,
    pub(crate) request: &'a JoinGroupRequest,
    pub(crate) config: &'a GroupConfig,
}

impl Joining<'_> {
    pub(crate) fn refuse(&self, member_id: &Str, error: ErrorCode, turn: &mut Turn<'_>) {
        let answer = join_error(member_id.clone(), error);
        turn.reply(self.token, ShardResponse::Join(answer));
    }

    /// Version 0 has no rebalance timeout.
    pub(crate) fn rebalance_timeout_ms(&self) -> i32 {
        match self.context.api_version {
            0 => self.request.session_timeout_ms,
            _ => self.request.rebalance_timeout_ms,
        }
    }
}

impl ClassicGroup {
    pub(crate) fn join(&mut self, joining: &Joining<'_>, turn: &mut Turn<'_>) -> Option<Write> {
        let request = joining.request;
        let member_id = &request.member_id;
        if !self.accepts(request, joining.config) {
            self.answer_join(member_id, turn, |_| {
                join_error(Str::EMPTY, ErrorCode::GroupMaxSizeReached)
            });
            self.remove(member_id);
            joining.refuse(&Str::EMPTY, ErrorCode::GroupMaxSizeReached, turn);
            // It may have been the last that the others waited for.
            return self.maybe_complete_join(turn);
        }
        if !self.supports(request) {
            joining.refuse(member_id, ErrorCode::InconsistentGroupProtocol, turn);
            return None;
        }
        match member_id.is_empty() {
            true => self.join_new(joining, turn),
            false => self.join_known(joining, turn),
        }
    }

    /// New members up to the maximum. While a rebalance is prepared those count that have rejoined, so that the last
    /// are turned away when the maximum was lowered. A static member that restarts takes its own place. (Kafka turns
    /// it away from a full group.)
    fn accepts(&self, request: &JoinGroupRequest, config: &GroupConfig) -> bool {
        let instance_id = request.group_instance_id.as_ref();
        let own = instance_id.and_then(|id| self.static_members.get(id));
        let own = own.filter(|_| request.member_id.is_empty());
        let member = self.members.get(own.unwrap_or(&request.member_id));
        let members_max = usize::try_from(config.members_max).unwrap_or(0);
        match self.state {
            ClassicState::Empty => true,
            ClassicState::PreparingRebalance => {
                member.is_some_and(|member| member.awaiting_join.is_some())
                    || self.awaiting_join() < members_max
            }
            ClassicState::CompletingRebalance | ClassicState::Stable => {
                member.is_some() || self.members.len() < members_max
            }
        }
    }

    fn join_new(&mut self, joining: &Joining<'_>, turn: &mut Turn<'_>) -> Option<Write> {
        let request = joining.request;
        let instance_id = request.group_instance_id.as_ref();
        let prefix = instance_id.unwrap_or(&joining.context.client_id);
        let member_id = member_id_for(prefix, turn.prng);
        if let Some(old) = instance_id
            .and_then(|id| self.static_members.get(id))
            .cloned()
        {
            return self.rejoin_static(joining, &old, &member_id, turn);
        }
        if instance_id.is_none() && joining.context.api_version >= MEMBER_ID_REQUIRED_FROM {
            self.schedule_session(&member_id, request.session_timeout_ms, turn);
            joining.refuse(&member_id, ErrorCode::MemberIdRequired, turn);
            self.pending_join.insert(member_id);
            return None;
        }
        self.add_then_rebalance(joining, member_id, turn)
    }

    fn join_known(&mut self, joining: &Joining<'_>, turn: &mut Turn<'_>) -> Option<Write> {
        let request = joining.request;
        let member_id = &request.member_id;
        let instance_id = request.group_instance_id.as_ref();
        if self.pending_join.contains(member_id) {
            if instance_id.is_some() {
                // Only dynamic members are pending.
                joining.refuse(member_id, ErrorCode::UnknownServerError, turn);
                return None;
            }
            return self.add_then_rebalance(joining, member_id.detached(), turn);
        }
        if let Err(error) = self.validate_member(member_id, instance_id) {
            joining.refuse(member_id, error, turn);
            return None;
        }
        let unchanged = self
            .members
            .get(member_id)
            .is_some_and(|m| m.matches(&request.protocols));
        match self.state {
            ClassicState::PreparingRebalance => self.update_then_rebalance(joining, turn),
            // It may not have got the answer to its last JoinGroup.
            ClassicState::CompletingRebalance if unchanged => self.tell(joining, turn),
            // A leader rejoins to have the partitions assigned anew.
            ClassicState::Stable if unchanged && !self.is_leader(member_id) => {
                self.tell(joining, turn)
            }
            ClassicState::CompletingRebalance | ClassicState::Stable => {
                self.update_then_rebalance(joining, turn)
            }
            ClassicState::Empty => {
                joining.refuse(member_id, ErrorCode::UnknownMemberId, turn);
                None
            }
        }
    }

    fn tell(&mut self, joining: &Joining<'_>, turn: &mut Turn<'_>) -> Option<Write> {
        let answer = self.joined(&joining.request.member_id);
        turn.reply(joining.token, ShardResponse::Join(answer));
        None
    }

    fn add_then_rebalance(
        &mut self,
        joining: &Joining<'_>,
        member_id: Str,
        turn: &mut Turn<'_>,
    ) -> Option<Write> {
        let request = joining.request;
        // The first rebalance may be put off further.
        if self.state == ClassicState::PreparingRebalance
            && self.previous_state == ClassicState::Empty
        {
            self.new_member_added = true;
        }
        self.set_protocol_type_of(request);
        self.add(Member {
            id: member_id.clone(),
            instance_id: request.group_instance_id.as_ref().map(Str::detached),
            client_id: joining.context.client_id.detached(),
            client_host: joining.context.client_host.detached(),
            rebalance_timeout_ms: joining.rebalance_timeout_ms(),
            session_timeout_ms: request.session_timeout_ms,
            protocols: detached(&request.protocols),
            assignment: Default::default(),
            awaiting_join: Some(joining.token),
            awaiting_sync: None,
            is_new: true,
        });
        // It has no id to send heartbeats with; a disconnect cannot be seen while its request waits.
        self.schedule_session(&member_id, joining.config.new_member_join_timeout_ms, turn);
        self.rebalance_or_complete_join(joining.config, turn)
    }

    fn update_then_rebalance(
        &mut self,
        joining: &Joining<'_>,
        turn: &mut Turn<'_>,
    ) -> Option<Write> {
        self.update_from(joining, &joining.request.member_id, turn);
        self.rebalance_or_complete_join(joining.config, turn)
    }

    /// Takes over a JoinGroup's content for a member, and lets the request wait.
    pub(crate) fn update_from(
        &mut self,
        joining: &Joining<'_>,
        member_id: &Str,
        turn: &mut Turn<'_>,
    ) {
        let request = joining.request;
        self.update_member(
            member_id,
            detached(&request.protocols),
            joining.rebalance_timeout_ms(),
            request.session_timeout_ms,
        );
        self.await_join(member_id, joining.token, turn);
    }
}
