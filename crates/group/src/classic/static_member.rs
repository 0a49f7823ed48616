//! A static member that comes back without its id gets a new one, and with it what the old one had (KIP-345).

use milena_base::ErrorCode;
use milena_coordinator::Token;
use milena_protocol::{JoinGroupResponse, Str};

use crate::classic::group::{ClassicGroup, ClassicState};
use crate::classic::join::Joining;
use crate::classic::member::Protocol;
use crate::classic::{Turn, Write};
use crate::request::{ShardResponse, join_error, sync_error, visible};
use crate::shard::{After, StaticReplacedOpaque};

/// First version that tells a static leader to skip the assignment (KIP-814).
const SKIP_ASSIGNMENT_FROM: i16 = 9;

/// A change of a static member's id that is being written, with what it takes to undo it.
#[derive(Debug)]
pub(crate) struct StaticReplaced {
    pub(crate) group: Str,
    generation: i32,
    instance_id: Str,
    old_member: Str,
    new_member: Str,
    old_leader: Option<Str>,
    protocols: Vec<Protocol>,
    rebalance_timeout_ms: i32,
    session_timeout_ms: i32,
    token: Token,
    api_version: i16,
}

impl ClassicGroup {
    pub(crate) fn rejoin_static(
        &mut self,
        joining: &Joining<'_>,
        old: &Str,
        new: &Str,
        turn: &mut Turn<'_>,
    ) -> Option<Write> {
        let before = self.remember(joining, old, new)?;
        self.fence(old, turn);
        self.replace_member_id(&before.instance_id, old, new);
        self.reschedule_session(new, turn);
        self.update_from(joining, new, turn);
        match self.state {
            ClassicState::Stable if self.select_protocol() == self.protocol_name => {
                let record = self.to_record(|member| member.assignment.clone());
                let after = After::StaticReplaced(Box::new(StaticReplacedOpaque(before)));
                Some(Write::new(vec![record]).without_replay().after(after))
            }
            ClassicState::Stable => self.rebalance_or_complete_join(joining.config, turn),
            // The leader may be assigning to the old id right now.
            ClassicState::CompletingRebalance => self.prepare_rebalance(joining.config, turn),
            ClassicState::PreparingRebalance | ClassicState::Empty => {
                self.maybe_complete_join(turn)
            }
        }
    }

    fn remember(&self, joining: &Joining<'_>, old: &Str, new: &Str) -> Option<StaticReplaced> {
        let member = self.members.get(old)?;
        Some(StaticReplaced {
            group: self.id.clone(),
            generation: self.generation,
            instance_id: member.instance_id.clone()?,
            old_member: old.clone(),
            new_member: new.clone(),
            old_leader: self.leader.clone(),
            protocols: member.protocols.clone(),
            rebalance_timeout_ms: member.rebalance_timeout_ms,
            session_timeout_ms: member.session_timeout_ms,
            token: joining.token,
            api_version: joining.context.api_version,
        })
    }

    /// Tells whoever uses the old id that another has it now.
    fn fence(&mut self, member_id: &Str, turn: &mut Turn<'_>) {
        let fenced = ErrorCode::FencedInstanceId;
        let answer = join_error(member_id.clone(), fenced);
        self.answer_join(member_id, turn, |_| answer);
        self.answer_sync(member_id, turn, || sync_error(fenced));
        self.cancel_session(member_id, turn);
    }

    /// The new id is committed, or could not be written. If a rebalance began meanwhile, the JoinGroup is part of
    /// that, and the next generation writes the id.
    pub(crate) fn static_replaced(
        &mut self,
        change: StaticReplaced,
        result: Result<(), ErrorCode>,
        turn: &mut Turn<'_>,
    ) {
        if self.state != ClassicState::Stable || self.generation != change.generation {
            return;
        }
        match result {
            Ok(()) => {
                let answer = |group: &ClassicGroup| group.replaced_answer(&change);
                self.answer_join(&change.new_member, turn, answer);
            }
            Err(error) => self.undo_static_replacement(change, error, turn),
        }
    }

    fn replaced_answer(&self, change: &StaticReplaced) -> JoinGroupResponse {
        let joined = self.joined(&change.new_member);
        if change.api_version >= SKIP_ASSIGNMENT_FROM {
            return JoinGroupResponse {
                skip_assignment: self.is_leader(&change.new_member),
                ..joined
            };
        }
        // An older leader must not assign: it is told that the old id leads.
        JoinGroupResponse {
            leader: change.old_leader.clone().unwrap_or_default(),
            members: Vec::new(),
            ..joined
        }
    }

    fn undo_static_replacement(
        &mut self,
        change: StaticReplaced,
        error: ErrorCode,
        turn: &mut Turn<'_>,
    ) {
        let waits = self
            .members
            .get(&change.new_member)
            .map(|member| member.awaiting_join);
        let Some(waits) = waits else {
            return;
        };
        if waits == Some(change.token) {
            let answer = |group: &ClassicGroup| JoinGroupResponse {
                error_code: visible(error).code(),
                member_id: Str::EMPTY,
                leader: change.old_leader.clone().unwrap_or_default(),
                members: Vec::new(),
                ..group.joined(&change.new_member)
            };
            self.answer_join(&change.new_member, turn, answer);
        }
        self.fence(&change.new_member, turn);
        self.replace_member_id(&change.instance_id, &change.new_member, &change.old_member);
        self.update_member(
            &change.old_member,
            change.protocols,
            change.rebalance_timeout_ms,
            change.session_timeout_ms,
        );
        self.reschedule_session(&change.old_member, turn);
    }

    /// Answers the SyncGroup that a member waits with, if it does.
    pub(crate) fn answer_sync(
        &mut self,
        member_id: &Str,
        turn: &mut Turn<'_>,
        answer: impl FnOnce() -> milena_protocol::SyncGroupResponse,
    ) -> bool {
        let member = self.members.get_mut(member_id);
        let Some(token) = member.and_then(|member| member.awaiting_sync.take()) else {
            return false;
        };
        turn.reply(token, ShardResponse::Sync(answer()));
        true
    }
}
