//! Members that use the classic protocol in a consumer group, which it has while its members change from one protocol
//! to the other. They join and synchronise as ever; but nobody leads, and what each is to have comes from the group's
//! target. A member that is to give something back, or can get more, is told to join again. Source: the functions
//! `…ToConsumerGroup` of Kafka's `GroupMetadataManager`.

use std::sync::Arc;

use milena_base::{ErrorCode, Uuid};
use milena_coordinator::Token;
use milena_protocol::consumer_group_member_metadata_value::{
    ClassicMemberMetadata, ClassicProtocol,
};
use milena_protocol::leave_group_request::MemberIdentity;
use milena_protocol::leave_group_response::MemberResponse;
use milena_protocol::{
    HeartbeatRequest, JoinGroupRequest, JoinGroupResponse, LeaveGroupRequest, LeaveGroupResponse,
    Str, SyncGroupRequest, SyncGroupResponse,
};

use crate::classic::{CONSUMER_PROTOCOL_TYPE, Joining, MEMBER_ID_REQUIRED_FROM};
use crate::config::MigrationPolicy;
use crate::consumer::embedded::{self, Subscription};
use crate::consumer::group::ConsumerGroup;
use crate::consumer::heartbeat::{Change, Changed, Target, dynamic_member, static_member};
use crate::consumer::member::{ConsumerMember, MemberState};
use crate::consumer::migrate::Downgrade;
use crate::consumer::{Refusal, Turn, Write};
use crate::request::{ShardResponse, sync_error};
use crate::shard::{Group, GroupShard, Timer, after_ms};

impl GroupShard {
    pub(crate) fn join_consumer(
        &mut self,
        joining: &Joining<'_>,
        turn: &mut Turn<'_>,
    ) -> Option<Write> {
        match self.decide_join(joining, turn) {
            Ok(write) => Some(write),
            Err((member_id, code)) => {
                joining.refuse(&member_id, code, turn);
                None
            }
        }
    }

    /// A refusal comes with the member id to answer with.
    fn decide_join(
        &mut self,
        joining: &Joining<'_>,
        turn: &mut Turn<'_>,
    ) -> Result<Write, (Str, ErrorCode)> {
        let request = joining.request;
        let instance_id = request.group_instance_id.as_ref();
        let unknown = request.member_id.is_empty();
        let refused = |refusal: Refusal| (Str::EMPTY, refusal.code);
        if self.config.consumer.migration == MigrationPolicy::Disabled {
            return Err((Str::EMPTY, ErrorCode::InconsistentGroupProtocol));
        }
        let change = self.consumer_group_for(&request.group_id, false);
        let mut change = change.map_err(refused)?;
        let member_id = match unknown {
            true => Str::from(Uuid::random(turn.prng).to_string()),
            false => request.member_id.detached(),
        };
        self.check_room(&change.group, &member_id, instance_id)
            .map_err(refused)?;
        if !supports(&change.group, request) {
            return Err((Str::EMPTY, ErrorCode::InconsistentGroupProtocol));
        }
        let named = instance_id.is_some() || !unknown;
        if !named && joining.context.api_version >= MEMBER_ID_REQUIRED_FROM {
            return Err((member_id, ErrorCode::MemberIdRequired));
        }
        let old = match instance_id {
            None => dynamic_member(&change.group, &member_id, true),
            Some(id) => static_member(&mut change, &member_id, id, unknown, true),
        };
        let old = old.map_err(refused)?;
        self.take_in(change, joining, &old, turn).map_err(refused)
    }

    fn take_in(
        &mut self,
        mut change: Change,
        joining: &Joining<'_>,
        old: &ConsumerMember,
        turn: &mut Turn<'_>,
    ) -> Result<Write, Refusal> {
        let protocol = &joining.request.protocols[0];
        let subscription = Subscription::read(&protocol.metadata, &*self.topics);
        let subscription = subscription.map_err(|_| ErrorCode::UnknownServerError)?;
        let group = change.group.clone();
        let instance_id = joining.request.group_instance_id.as_ref();
        let replaced = instance_id.and_then(|id| group.static_member(id)).cloned();
        let replaced = replaced
            .filter(|member| self.may_downgrade(&group, std::slice::from_ref(member), true));
        let owned = subscription.owned.clone();
        let changed = Changed {
            old,
            new: member_of(old, joining, subscription),
            reported: Some(&owned),
        };
        let noted = self.note(&mut change, &changed, turn)?;
        if let Some(replaced) = replaced {
            let stale = group.assignment_epoch < noted.epoch;
            let mut new = changed.new;
            if !stale {
                let target = Target {
                    epoch: group.assignment_epoch,
                    partitions: &group.target_of(&new.id, new.instance_id.as_ref()),
                    subscription_changed: noted.subscription_changed,
                };
                new = self.reconcile(&mut change, &new, &target, Some(&owned), turn)?;
            }
            let downgrade = Downgrade {
                group: &group,
                leaving: &[replaced],
                joining: Some(&new),
                rebalances: stale,
            };
            let write = self.downgrade(&downgrade, change.records, turn)?;
            return Ok(write.answer(joining.token, joined(&new)));
        }
        let new = self.advance(&mut change, &changed, &noted, turn)?;
        turn.cancel(&Timer::ClassicJoin(group.id.clone(), new.id.clone()));
        self.schedule_member_session(&group, &new, turn);
        let sync = Timer::ClassicSync(group.id.clone(), new.id.clone());
        turn.schedule(sync, after_ms(turn.now, joining.rebalance_timeout_ms()));
        let write = self.write_of(change);
        Ok(write.answer(joining.token, joined(&new)))
    }

    pub(crate) fn sync_consumer(
        &mut self,
        group: &ConsumerGroup,
        token: Token,
        request: &SyncGroupRequest,
        turn: &mut Turn<'_>,
    ) -> Write {
        let answer = match self.synced(group, request, turn) {
            Ok(answer) => answer,
            Err(code) => sync_error(code),
        };
        Write::new(Vec::new()).answer(token, ShardResponse::Sync(answer))
    }

    fn synced(
        &mut self,
        group: &ConsumerGroup,
        request: &SyncGroupRequest,
        turn: &mut Turn<'_>,
    ) -> Result<SyncGroupResponse, ErrorCode> {
        let instance_id = request.group_instance_id.as_ref();
        let member = classic_member(group, &request.member_id, instance_id)?;
        if request.generation_id != member.epoch {
            return Err(ErrorCode::IllegalGeneration);
        }
        let protocol = first_protocol(member).ok_or(ErrorCode::UnknownServerError)?;
        let differs = |asked: &Option<Str>, own: &str| asked.as_ref().is_some_and(|a| *a != own);
        if differs(&request.protocol_type, CONSUMER_PROTOCOL_TYPE)
            || differs(&request.protocol_name, &protocol.name)
        {
            return Err(ErrorCode::InconsistentGroupProtocol);
        }
        // One that gives something back has joined already, and joins again when it has.
        if self.is_behind(group, member, turn) && member.state != MemberState::UnrevokedPartitions {
            await_join(group, member, turn);
            return Err(ErrorCode::RebalanceInProgress);
        }
        let owned = embedded::of_owned(&member.assigned);
        let assignment = embedded::write_assignment(owned, &protocol.metadata, &*self.topics);
        let assignment = assignment.map_err(|_| ErrorCode::UnknownServerError)?;
        turn.cancel(&Timer::ClassicSync(group.id.clone(), member.id.clone()));
        self.schedule_member_session(group, member, turn);
        Ok(SyncGroupResponse {
            protocol_type: request.protocol_type.clone(),
            protocol_name: request.protocol_name.clone(),
            assignment,
            ..Default::default()
        })
    }

    pub(crate) fn heartbeat_consumer(
        &mut self,
        group: &ConsumerGroup,
        request: &HeartbeatRequest,
        turn: &mut Turn<'_>,
    ) -> ErrorCode {
        let instance_id = request.group_instance_id.as_ref();
        let member = match classic_member(group, &request.member_id, instance_id) {
            Ok(member) => member,
            Err(code) => return code,
        };
        if request.generation_id != member.epoch {
            return ErrorCode::IllegalGeneration;
        }
        self.schedule_member_session(group, member, turn);
        let rejoins = match member.state {
            _ if self.is_behind(group, member, turn) => true,
            MemberState::UnrevokedPartitions => true,
            MemberState::UnreleasedPartitions => !waits_for_others(group, member),
            MemberState::Stable | MemberState::Unknown => false,
        };
        if !rejoins {
            return ErrorCode::None;
        }
        await_join(group, member, turn);
        ErrorCode::RebalanceInProgress
    }

    /// Whether there is a newer target than the member has. Where all members use the classic protocol nobody but they
    /// can bring about the next one, by joining again. (Kafka lets them wait.)
    fn is_behind(&self, group: &ConsumerGroup, member: &ConsumerMember, turn: &Turn<'_>) -> bool {
        let alone = group.classic_members == group.members.len();
        let due = alone && group.epoch > group.assignment_epoch && self.may_assign(group, turn);
        member.epoch < group.assignment_epoch || due
    }

    /// Members of both protocols can leave so, and an administrator removes static members.
    pub(crate) fn leave_classic(
        &mut self,
        group: &Arc<ConsumerGroup>,
        request: &LeaveGroupRequest,
        turn: &mut Turn<'_>,
    ) -> (LeaveGroupResponse, Write) {
        let mut members = Vec::with_capacity(request.members.len());
        let mut leaving: Vec<Arc<ConsumerMember>> = Vec::new();
        for identity in &request.members {
            let found = leaving_member(group, identity);
            members.push(MemberResponse {
                member_id: identity.member_id.clone(),
                group_instance_id: identity.group_instance_id.clone(),
                error_code: found.as_ref().err().map_or(0, |code| code.code()),
            });
            if let Ok(member) = found
                && leaving.iter().all(|other| other.id != member.id)
            {
                leaving.push(member.clone());
            }
        }
        let response = LeaveGroupResponse {
            members,
            ..Default::default()
        };
        (response, self.fence(group, leaving, turn))
    }
}

/// Whether a member with these protocols can be beside the others of its kind.
fn supports(group: &ConsumerGroup, request: &JoinGroupRequest) -> bool {
    let by_all = |name: &Str| {
        group.classic_protocols.get(name).copied().unwrap_or(0) == group.classic_members
    };
    request.protocol_type == CONSUMER_PROTOCOL_TYPE
        && request
            .protocols
            .iter()
            .any(|protocol| by_all(&protocol.name))
}

fn member_of(
    old: &ConsumerMember,
    joining: &Joining<'_>,
    subscription: Subscription,
) -> ConsumerMember {
    let request = joining.request;
    let protocols = request.protocols.iter().map(|protocol| ClassicProtocol {
        name: protocol.name.detached(),
        metadata: bytes::Bytes::copy_from_slice(&protocol.metadata),
    });
    let classic = ClassicMemberMetadata {
        session_timeout_ms: request.session_timeout_ms,
        supported_protocols: protocols.collect(),
    };
    let instance_id = request.group_instance_id.as_ref().map(Str::detached);
    ConsumerMember {
        instance_id: instance_id.or_else(|| old.instance_id.clone()),
        rack_id: subscription.rack_id.or_else(|| old.rack_id.clone()),
        rebalance_timeout_ms: match joining.rebalance_timeout_ms() {
            -1 => old.rebalance_timeout_ms,
            timeout => timeout,
        },
        topics: match subscription.topics == *old.topics {
            true => old.topics.clone(),
            false => Arc::new(subscription.topics),
        },
        regex: Some(Str::EMPTY),
        client_id: joining.context.client_id.detached(),
        client_host: joining.context.client_host.detached(),
        classic: Some(Arc::new(classic)),
        ..old.clone()
    }
}

/// Nobody leads: the coordinator assigns.
fn joined(member: &ConsumerMember) -> ShardResponse {
    ShardResponse::Join(JoinGroupResponse {
        generation_id: member.epoch,
        protocol_type: Some(CONSUMER_PROTOCOL_TYPE.into()),
        protocol_name: first_protocol(member).map(|protocol| protocol.name.clone()),
        member_id: member.id.clone(),
        ..Default::default()
    })
}

fn first_protocol(member: &ConsumerMember) -> Option<&ClassicProtocol> {
    member.classic.as_ref()?.supported_protocols.first()
}

fn classic_member<'a>(
    group: &'a ConsumerGroup,
    member_id: &Str,
    instance_id: Option<&Str>,
) -> Result<&'a Arc<ConsumerMember>, ErrorCode> {
    let member = match instance_id {
        None => group.member(member_id),
        Some(instance_id) => group.static_member(instance_id),
    };
    let member = member.ok_or(ErrorCode::UnknownMemberId)?;
    if member.id != *member_id {
        return Err(ErrorCode::FencedInstanceId);
    }
    match member.uses_classic_protocol() {
        true => Ok(member),
        false => Err(ErrorCode::UnknownMemberId),
    }
}

fn leaving_member<'a>(
    group: &'a ConsumerGroup,
    identity: &MemberIdentity,
) -> Result<&'a Arc<ConsumerMember>, ErrorCode> {
    let Some(instance_id) = &identity.group_instance_id else {
        let member = group.member(&identity.member_id);
        return member.ok_or(ErrorCode::UnknownMemberId);
    };
    let member = group.static_member(instance_id);
    let member = member.ok_or(ErrorCode::UnknownMemberId)?;
    match identity.member_id.is_empty() || identity.member_id == member.id {
        true => Ok(member),
        false => Err(ErrorCode::FencedInstanceId),
    }
}

/// Whether something that the member is to have is still with another.
fn waits_for_others(group: &ConsumerGroup, member: &ConsumerMember) -> bool {
    let target = group.target_of(&member.id, None);
    target.iter().any(|(&topic, partitions)| {
        let has = member.assigned.get(&topic);
        let missing = |p: &&i32| !has.is_some_and(|has| has.contains_key(p));
        let mut missing = partitions.iter().filter(missing);
        missing.any(|&partition| group.partition_epoch(topic, partition).is_some())
    })
}

/// A member that was told to join again has the rebalance timeout for it.
fn await_join(group: &ConsumerGroup, member: &ConsumerMember, turn: &mut Turn<'_>) {
    let timer = Timer::ClassicJoin(group.id.clone(), member.id.clone());
    if turn.deadline(&timer).is_none() {
        turn.schedule(timer, after_ms(turn.now, member.rebalance_timeout_ms));
    }
}

/// The group as it is now, where it is a consumer group with members.
pub(crate) fn with_members(group: Option<&Group>) -> Option<Arc<ConsumerGroup>> {
    match group {
        Some(Group::Consumer(group)) if !group.is_empty() => Some(group.clone()),
        _ => None,
    }
}
