//! How members leave: by themselves, for a while, or because their time is over.

use std::sync::Arc;

use milena_base::ErrorCode;
use milena_protocol::{
    ConsumerGroupHeartbeatRequest, ConsumerGroupHeartbeatResponse,
    ConsumerGroupTargetAssignmentMetadataValue, Str,
};

use crate::consumer::assignment::Owned;
use crate::consumer::group::ConsumerGroup;
use crate::consumer::heartbeat::{Change, known_static_member};
use crate::consumer::member::{ConsumerMember, LEAVE_STATIC_EPOCH, MemberState};
use crate::consumer::migrate::Downgrade;
use crate::consumer::{Refusal, Turn, Write, refuse};
use crate::record::{ConsumerRecord, GroupRecord};
use crate::shard::{Group, GroupShard, Timer, after_ms};

impl GroupShard {
    pub(crate) fn leave_consumer(
        &mut self,
        request: &ConsumerGroupHeartbeatRequest,
        turn: &mut Turn<'_>,
    ) -> Result<(Write, ConsumerGroupHeartbeatResponse), Refusal> {
        let mut change = self.consumer_group_for(&request.group_id, false)?;
        let group = change.group.clone();
        let member = match &request.instance_id {
            None => match group.member(&request.member_id) {
                Some(member) => ConsumerMember::clone(member),
                None => {
                    let why = format!(
                        "Member {} is not a member of group {}.",
                        request.member_id, request.group_id
                    );
                    return refuse(ErrorCode::UnknownMemberId, why);
                }
            },
            Some(id) => known_static_member(group.static_member(id), &request.member_id, id)?,
        };
        let response = ConsumerGroupHeartbeatResponse {
            member_id: Some(member.id.clone()),
            member_epoch: request.member_epoch,
            ..Default::default()
        };
        let for_a_while =
            request.instance_id.is_some() && request.member_epoch == LEAVE_STATIC_EPOCH;
        if for_a_while {
            let away = away(member);
            let record =
                ConsumerRecord::Current(away.id.clone(), Some(Box::new(away.to_current())));
            change.records.push(group.record(record));
            return Ok((Write::new(change.records), response));
        }
        tracing::info!(group = %group.id, member = %member.id, "member leaves");
        Ok((self.fence(&group, vec![Arc::new(member)], turn), response))
    }

    /// Takes members out. The group's epoch goes up, so that what they had is given to others.
    pub(crate) fn fence(
        &mut self,
        group: &Arc<ConsumerGroup>,
        members: Vec<Arc<ConsumerMember>>,
        turn: &mut Turn<'_>,
    ) -> Write {
        if members.is_empty() {
            return Write::new(Vec::new());
        }
        if self.may_downgrade(group, &members, false) {
            let downgrade = Downgrade {
                group,
                leaving: &members,
                joining: None,
                rebalances: true,
            };
            match self.downgrade(&downgrade, Vec::new(), turn) {
                Ok(write) => return write,
                Err(refusal) => tracing::warn!(group = %group.id, why = refusal.message),
            }
        }
        for member in &members {
            cancel_member_timers(&group.id, &member.id, turn);
        }
        let mut change = Change {
            group: group.clone(),
            records: Vec::new(),
            resolve: None,
            upgrades: false,
        };
        for member in &members {
            change.remove(&member.id);
        }
        let regexes = group.regexes_only_of(&members);
        for regex in &regexes {
            let record = ConsumerRecord::Regex(regex.clone(), None);
            change.records.push(group.record(record));
        }
        let subscriptions = group.subscriptions_without(&members, &regexes);
        let hash = self.metadata_hash(&subscriptions);
        let epoch = group.epoch + 1;
        change.records.push(group.epoch_record(epoch, hash));
        if group.members.len() == members.len() {
            // The next to join is not to wait for an assignment.
            let value = ConsumerGroupTargetAssignmentMetadataValue {
                assignment_epoch: epoch,
                assignment_timestamp: 0,
            };
            let record = ConsumerRecord::TargetMetadata(Some(value));
            change.records.push(group.record(record));
        }
        Write::new(change.records)
    }

    // Timers.

    /// A sign of life. Members of the classic protocol have brought a timeout of their own.
    pub(crate) fn schedule_member_session(
        &self,
        group: &ConsumerGroup,
        member: &ConsumerMember,
        turn: &mut Turn<'_>,
    ) {
        let timeout_ms = match &member.classic {
            Some(classic) => classic.session_timeout_ms,
            None => self.settings_of(&group.id).session_timeout_ms,
        };
        schedule_session(group, member, timeout_ms, turn);
    }

    /// Sessions begin anew when a group is loaded, all with the group's timeout.
    pub(crate) fn load_consumer(&self, group: &ConsumerGroup, turn: &mut Turn<'_>) {
        let timeout_ms = self.settings_of(&group.id).session_timeout_ms;
        for member in group.members.values() {
            schedule_session(group, member, timeout_ms, turn);
            if member.state == MemberState::UnrevokedPartitions {
                let timer = Timer::Rebalance(group.id.clone(), member.id.clone());
                turn.schedule(timer, after_ms(turn.now, member.rebalance_timeout_ms));
            }
        }
    }

    /// A member has been silent too long, or has not done in time what the protocol asks of it.
    pub(crate) fn member_timer(
        &mut self,
        group_id: &Str,
        member_id: &Str,
        why: &str,
        turn: &mut Turn<'_>,
    ) -> Option<Write> {
        let Some(Group::Consumer(group)) = self.groups.get(group_id) else {
            return None;
        };
        let group = group.clone();
        let member = group.member(member_id)?.clone();
        tracing::info!(group = %group_id, member = %member_id, "member is fenced: {why}");
        Some(self.fence(&group, vec![member], turn))
    }

    /// A member has not given back its partitions in time.
    pub(crate) fn rebalance_timer(
        &mut self,
        group_id: &Str,
        member_id: &Str,
        turn: &mut Turn<'_>,
    ) -> Option<Write> {
        let Some(Group::Consumer(group)) = self.groups.get(group_id) else {
            return None;
        };
        let member = group.member(member_id)?;
        let holds = member.state == MemberState::UnrevokedPartitions && member.epoch >= 0;
        match holds {
            true => self.member_timer(group_id, member_id, "it keeps what was revoked", turn),
            false => None,
        }
    }
}

impl Change {
    /// The tombstones of a member, in the order that a replaying Kafka broker insists on.
    pub(crate) fn remove(&mut self, member_id: &Str) {
        let id = || member_id.clone();
        for record in [
            ConsumerRecord::Current(id(), None),
            ConsumerRecord::Target(id(), None),
            ConsumerRecord::Member(id(), None),
        ] {
            self.records.push(self.group.record(record));
        }
    }

    /// A static member has a new id.
    pub(crate) fn replace(&mut self, old: &ConsumerMember, new: &ConsumerMember) {
        self.remove(&old.id);
        let target = self.group.target_of(&old.id, None);
        let id = || new.id.clone();
        for record in [
            ConsumerRecord::Member(id(), Some(Box::new(new.to_metadata()))),
            ConsumerRecord::Target(id(), Some(target.as_ref().clone())),
            ConsumerRecord::Current(id(), Some(Box::new(new.to_current()))),
        ] {
            self.records.push(self.group.record(record));
        }
    }
}

impl ConsumerGroup {
    /// The records that end the group. `renamed`: a member that goes under another id already.
    pub(crate) fn tombstones(&self, renamed: Option<(&Str, &Str)>, records: &mut Vec<GroupRecord>) {
        let name = |id: &Str| match renamed {
            Some((old, new)) if old == id => new.clone(),
            _ => id.clone(),
        };
        let ids: Vec<Str> = self.members.keys().map(name).collect();
        let each = |of: fn(Str) -> ConsumerRecord| {
            ids.iter()
                .map(move |id| self.record(of(id.clone())))
                .collect::<Vec<_>>()
        };
        records.extend(each(|id| ConsumerRecord::Current(id, None)));
        records.extend(each(|id| ConsumerRecord::Target(id, None)));
        records.push(self.record(ConsumerRecord::TargetMetadata(None)));
        records.extend(each(|id| ConsumerRecord::Member(id, None)));
        for regex in self.resolved.keys() {
            records.push(self.record(ConsumerRecord::Regex(regex.clone(), None)));
        }
        records.push(self.record(ConsumerRecord::PartitionMetadata(None)));
        records.push(self.record(ConsumerRecord::Metadata(None)));
    }
}

/// A static member that will come back: it keeps its partitions, whoever comes back may commit for them.
fn away(member: ConsumerMember) -> ConsumerMember {
    let mut assigned = Owned::clone(&member.assigned);
    for epoch in assigned
        .values_mut()
        .flat_map(|partitions| partitions.values_mut())
    {
        *epoch = 0;
    }
    ConsumerMember {
        epoch: LEAVE_STATIC_EPOCH,
        pending_revocation: Arc::default(),
        assigned: Arc::new(assigned),
        ..member
    }
}

fn schedule_session(
    group: &ConsumerGroup,
    member: &ConsumerMember,
    timeout_ms: i32,
    turn: &mut Turn<'_>,
) {
    let timer = Timer::Session(group.id.clone(), member.id.clone());
    turn.schedule(timer, after_ms(turn.now, timeout_ms));
}

pub(crate) fn cancel_member_timers(group_id: &Str, member_id: &Str, turn: &mut Turn<'_>) {
    let ids = || (group_id.clone(), member_id.clone());
    for timer in [
        Timer::Session,
        Timer::Rebalance,
        Timer::ClassicJoin,
        Timer::ClassicSync,
    ] {
        let (group_id, member_id) = ids();
        turn.cancel(&timer(group_id, member_id));
    }
}
