//! SyncGroup. v3: group instance id. v5: protocol type and name, checked both ways.

use std::collections::BTreeMap;

use bytes::Bytes;
use milena_base::ErrorCode;
use milena_coordinator::Token;
use milena_protocol::{Str, SyncGroupRequest, SyncGroupResponse};

use crate::classic::group::{ClassicGroup, ClassicState};
use crate::classic::{Turn, Write};
use crate::config::GroupConfig;
use crate::request::{ShardResponse, sync_error, visible};
use crate::shard::{After, Timer};

impl ClassicGroup {
    pub(crate) fn sync(
        &mut self,
        token: Token,
        request: SyncGroupRequest,
        turn: &mut Turn<'_>,
    ) -> Option<Write> {
        if let Err(error) = self.validate_sync(&request) {
            turn.reply(token, ShardResponse::Sync(sync_error(error)));
            return None;
        }
        self.synced(&request.member_id, turn);
        match self.state {
            ClassicState::Stable => {
                let answer = self.assignment_of(&request.member_id);
                turn.reply(token, ShardResponse::Sync(answer));
                None
            }
            _ => self.await_assignment(token, &request, turn),
        }
    }

    fn validate_sync(&self, request: &SyncGroupRequest) -> Result<(), ErrorCode> {
        if self.state == ClassicState::Empty {
            return Err(ErrorCode::UnknownMemberId);
        }
        self.validate_member(&request.member_id, request.group_instance_id.as_ref())?;
        if request.generation_id != self.generation {
            return Err(ErrorCode::IllegalGeneration);
        }
        let differ = |asked: &Option<Str>, own: &Option<Str>| {
            asked.is_some() && own.is_some() && asked != own
        };
        if differ(&request.protocol_type, &self.protocol_type)
            || differ(&request.protocol_name, &self.protocol_name)
        {
            return Err(ErrorCode::InconsistentGroupProtocol);
        }
        match self.state {
            ClassicState::PreparingRebalance => Err(ErrorCode::RebalanceInProgress),
            _ => Ok(()),
        }
    }

    fn synced(&mut self, member_id: &Str, turn: &mut Turn<'_>) {
        self.pending_sync.remove(member_id);
        if self.pending_sync.is_empty() {
            turn.cancel(&Timer::Sync(self.id.clone()));
        }
    }

    /// Lets a member wait for the leader; the leader's assignment is written.
    fn await_assignment(
        &mut self,
        token: Token,
        request: &SyncGroupRequest,
        turn: &mut Turn<'_>,
    ) -> Option<Write> {
        let member_id = &request.member_id;
        // One that waited before has another connection now.
        self.answer_sync(member_id, turn, || {
            sync_error(ErrorCode::RebalanceInProgress)
        });
        self.members.get_mut(member_id)?.awaiting_sync = Some(token);
        if !self.is_leader(member_id) {
            return None;
        }
        let assigned = request.assignments.iter();
        let assigned = assigned.filter(|a| self.has_member(&a.member_id)).map(|a| {
            let assignment = Bytes::copy_from_slice(&a.assignment);
            (a.member_id.detached(), assignment)
        });
        let assignment: BTreeMap<Str, Bytes> = assigned.collect();
        let record = self.to_record(|m| assignment.get(&m.id).cloned().unwrap_or_default());
        let after = After::Assigned {
            group: self.id.clone(),
            generation: self.generation,
            assignment,
        };
        Some(Write::new(vec![record]).without_replay().after(after))
    }

    /// The assignment of a generation is committed, or could not be written. It may be too late for either.
    pub(crate) fn assigned(
        &mut self,
        generation: i32,
        assignment: &BTreeMap<Str, Bytes>,
        result: Result<(), ErrorCode>,
        config: &GroupConfig,
        turn: &mut Turn<'_>,
    ) -> Option<Write> {
        if self.state != ClassicState::CompletingRebalance || generation != self.generation {
            return None;
        }
        if let Err(error) = result {
            self.reset_assignment(visible(error), turn);
            return self.rebalance_or_complete_join(config, turn);
        }
        for member in self.members.values_mut() {
            member.assignment = assignment.get(&member.id).cloned().unwrap_or_default();
        }
        for member_id in self.member_ids().cloned().collect::<Vec<_>>() {
            let answer = self.assignment_of(&member_id);
            if self.answer_sync(&member_id, turn, || answer) {
                // Sessions that ran out while the member waited were let pass.
                self.reschedule_session(&member_id, turn);
            }
        }
        self.transition(ClassicState::Stable, turn);
        None
    }

    fn assignment_of(&self, member_id: &Str) -> SyncGroupResponse {
        let member = self.members.get(member_id);
        SyncGroupResponse {
            protocol_type: self.protocol_type.clone(),
            protocol_name: self.protocol_name.clone(),
            assignment: member.map(|m| m.assignment.clone()).unwrap_or_default(),
            ..Default::default()
        }
    }

    /// Nobody has an assignment any more; who waits for one is told why.
    pub(crate) fn reset_assignment(&mut self, error: ErrorCode, turn: &mut Turn<'_>) {
        for member_id in self.member_ids().cloned().collect::<Vec<_>>() {
            if let Some(member) = self.members.get_mut(&member_id) {
                member.assignment = Bytes::new();
            }
            if self.answer_sync(&member_id, turn, || sync_error(error)) {
                self.reschedule_session(&member_id, turn);
            }
        }
    }
}
