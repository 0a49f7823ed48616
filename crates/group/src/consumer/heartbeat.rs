//! ConsumerGroupHeartbeat: how a member joins, stays, changes what it subscribes to, tells what it has, and leaves.
//! v1: regular expressions; the member makes its own id (KIP-1082).

use std::collections::BTreeSet;
use std::sync::Arc;

use milena_base::{ErrorCode, Uuid};
use milena_coordinator::Token;
use milena_protocol::{ConsumerGroupHeartbeatRequest, ConsumerGroupHeartbeatResponse, Str};

use crate::consumer::assignment::{self, Partitions, Reported, is_within};
use crate::consumer::group::{ConsumerGroup, Subscriptions};
use crate::consumer::member::{ConsumerMember, LEAVE_EPOCH, LEAVE_STATIC_EPOCH, MemberState};
use crate::consumer::reconcile::Reconciling;
use crate::consumer::target::{Targeting, is_homogeneous};
use crate::consumer::{Refusal, Turn, Write, refuse};
use crate::record::{ConsumerRecord, GroupRecord};
use crate::request::{RequestContext, ShardResponse, consumer_heartbeat_error};
use crate::shard::{After, Group, GroupShard, Timer, after_ms};

/// The epoch with which a member joins.
const JOIN_EPOCH: i32 = 0;

/// A change in the making: the group as it is, and the records so far.
pub(crate) struct Change {
    pub(crate) group: Arc<ConsumerGroup>,
    pub(crate) records: Vec<GroupRecord>,
    /// Regular expressions to be looked at once this is committed.
    pub(crate) resolve: Option<BTreeSet<Str>>,
    /// A classic group becomes this one.
    pub(crate) upgrades: bool,
}

/// A member before and after a request, and what it says it has.
pub(crate) struct Changed<'a> {
    pub(crate) old: &'a ConsumerMember,
    pub(crate) new: ConsumerMember,
    pub(crate) reported: Option<&'a Reported>,
}

/// What came of a member's change for the group.
pub(crate) struct Noted {
    /// The group's epoch now.
    pub(crate) epoch: i32,
    /// Whether all subscribe to the same; `None` where that is as it was.
    homogeneous: Option<bool>,
    pub(crate) subscription_changed: bool,
}

impl GroupShard {
    pub(crate) fn consumer_heartbeat(
        &mut self,
        token: Token,
        context: &RequestContext,
        request: &ConsumerGroupHeartbeatRequest,
        turn: &mut Turn<'_>,
    ) -> Option<Write> {
        let decided = match request.member_epoch {
            LEAVE_EPOCH | LEAVE_STATIC_EPOCH => self.leave_consumer(request, turn),
            _ => self.beat(context, request, turn),
        };
        match decided {
            Ok((write, response)) => {
                Some(write.answer(token, ShardResponse::ConsumerHeartbeat(response)))
            }
            Err(refusal) => {
                let answer = consumer_heartbeat_error(refusal.code, refusal.message);
                let answer = ShardResponse::ConsumerHeartbeat(answer);
                Some(Write::new(Vec::new()).answer(token, answer))
            }
        }
    }

    fn beat(
        &mut self,
        context: &RequestContext,
        request: &ConsumerGroupHeartbeatRequest,
        turn: &mut Turn<'_>,
    ) -> Result<(Write, ConsumerGroupHeartbeatResponse), Refusal> {
        let joins = request.member_epoch == JOIN_EPOCH;
        let mut change = self.consumer_group_for(&request.group_id, joins)?;
        let instance_id = request.instance_id.as_ref();
        self.check_room(&change.group, &request.member_id, instance_id)?;
        let member_id = match request.member_id.is_empty() {
            true => Str::from(Uuid::random(turn.prng).to_string()),
            false => request.member_id.detached(),
        };
        let reported = request.topic_partitions.as_deref();
        let old = match instance_id {
            None => dynamic_member(&change.group, &member_id, joins)?,
            Some(instance_id) => static_member(&mut change, &member_id, instance_id, joins, false)?,
        };
        check_epoch(&old, request.member_epoch, reported)?;
        let new = told(&old, context, request);
        let changed = Changed {
            old: &old,
            new,
            reported,
        };
        let noted = self.note(&mut change, &changed, turn)?;
        let new = self.advance(&mut change, &changed, &noted, turn)?;
        if change.upgrades {
            self.announce_upgrade(&change.group, turn);
        }
        self.schedule_member_session(&change.group, &new, turn);
        let response = self.beaten(request, &old, &new);
        Ok((self.write_of(change), response))
    }

    pub(crate) fn write_of(&mut self, change: Change) -> Write {
        let write = Write::new(change.records);
        let Some(regexes) = change.resolve else {
            return write;
        };
        let group = change.group.id.clone();
        self.watch.resolving.insert(group.clone());
        write.after(After::Resolve { group, regexes })
    }

    /// The assignment is told where it has changed, or where the member has told everything.
    fn beaten(
        &self,
        request: &ConsumerGroupHeartbeatRequest,
        old: &ConsumerMember,
        new: &ConsumerMember,
    ) -> ConsumerGroupHeartbeatResponse {
        let subscribes =
            request.subscribed_topic_names.is_some() || request.subscribed_topic_regex.is_some();
        let whole =
            request.rebalance_timeout_ms != -1 && subscribes && request.topic_partitions.is_some();
        let tell = request.member_epoch == JOIN_EPOCH || whole || old.assigned != new.assigned;
        ConsumerGroupHeartbeatResponse {
            member_id: Some(new.id.clone()),
            member_epoch: new.epoch,
            heartbeat_interval_ms: self.settings_of(&request.group_id).heartbeat_interval_ms,
            assignment: tell.then(|| assignment::to_heartbeat(&new.assigned)),
            ..Default::default()
        }
    }

    /// The group that a request is for; a new one where somebody joins one that is not there.
    pub(crate) fn consumer_group_for(&mut self, id: &Str, joins: bool) -> Result<Change, Refusal> {
        let mut records = Vec::new();
        let new = || Arc::new(ConsumerGroup::new(id.detached()));
        let group = match self.groups.get(id) {
            Some(Group::Consumer(group)) => group.clone(),
            None if joins => new(),
            Some(Group::Classic(group)) if joins && group.is_empty() => {
                records.push(GroupRecord::classic_tombstone(&id.detached()));
                new()
            }
            Some(Group::Classic(group)) if joins => {
                let classic = group.clone();
                return self.upgrade(&classic);
            }
            None => {
                return refuse(
                    ErrorCode::GroupIdNotFound,
                    format!("Consumer group {id} not found."),
                );
            }
            Some(_) => {
                let why = format!("Group {id} is not a consumer group.");
                return refuse(ErrorCode::GroupIdNotFound, why);
            }
        };
        Ok(Change {
            group,
            records,
            resolve: None,
            upgrades: false,
        })
    }

    pub(crate) fn check_room(
        &self,
        group: &ConsumerGroup,
        member_id: &str,
        instance_id: Option<&Str>,
    ) -> Result<(), Refusal> {
        let returns = instance_id.is_some_and(|id| group.static_members.contains_key(id));
        let max = self.config.consumer.members_max;
        let full = group.members.len() >= usize::try_from(max).unwrap_or(0);
        match full && !returns && group.member(member_id).is_none() {
            true => {
                let why = format!("The consumer group has its maximum of {max} members.");
                refuse(ErrorCode::GroupMaxSizeReached, why)
            }
            false => Ok(()),
        }
    }

    /// What a member's change means for the group: records of it, and a new group epoch where that is due.
    pub(crate) fn note(
        &mut self,
        change: &mut Change,
        changed: &Changed<'_>,
        turn: &mut Turn<'_>,
    ) -> Result<Noted, Refusal> {
        let group = change.group.clone();
        let (old, new) = (changed.old, &changed.new);
        if old != new {
            let value = Box::new(new.to_metadata());
            let record = ConsumerRecord::Member(new.id.clone(), Some(value));
            change.records.push(group.record(record));
        }
        let topics_changed = old.topics != new.topics;
        let regex = self.update_regexes(change, old, new, turn.now)?;
        let bump = match new.uses_classic_protocol() {
            true => regex.changed,
            false => regex.resolved || self.preference_changed(&group, old, new),
        };
        let bump = bump || topics_changed;
        let (epoch, homogeneous) = self.update_epoch(change, old, new, bump, turn);
        Ok(Noted {
            epoch,
            homogeneous,
            subscription_changed: match new.uses_classic_protocol() {
                true => bump,
                false => topics_changed || regex.changed,
            },
        })
    }

    /// A new target where that is due, and the member's next step; the member after that.
    pub(crate) fn advance(
        &mut self,
        change: &mut Change,
        changed: &Changed<'_>,
        noted: &Noted,
        turn: &mut Turn<'_>,
    ) -> Result<ConsumerMember, Refusal> {
        let (epoch, partitions) = self.update_target(change, changed, noted, turn);
        let target = Target {
            epoch,
            partitions: &partitions,
            subscription_changed: noted.subscription_changed,
        };
        self.reconcile(change, &changed.new, &target, changed.reported, turn)
    }

    fn preference_changed(
        &self,
        group: &ConsumerGroup,
        old: &ConsumerMember,
        new: &ConsumerMember,
    ) -> bool {
        if old.assignor == new.assignor && group.member(&new.id).is_some() {
            return false;
        }
        let default = || Str::copy(self.default_assignor().name());
        let now = group.preferred_assignor().unwrap_or_else(default);
        let then = group.preferred_assignor_with(old, new);
        then.unwrap_or_else(default) != now
    }

    /// The group's epoch goes up with what changes; whether the topics have, is looked at when they may have.
    fn update_epoch(
        &mut self,
        change: &mut Change,
        old: &ConsumerMember,
        new: &ConsumerMember,
        bump: bool,
        turn: &Turn<'_>,
    ) -> (i32, Option<bool>) {
        let group = change.group.clone();
        if !bump && !self.is_stale(&group, turn.now) {
            return (group.epoch, None);
        }
        let subscriptions = group.subscriptions_with(old, new);
        let hash = self.metadata_hash(&subscriptions);
        let known = group.member(&new.id).is_some()
            || new
                .instance_id
                .as_ref()
                .is_some_and(|id| group.static_members.contains_key(id));
        let members = group.members.len() + usize::from(!known);
        let regexes = group.regexes_with(Some(old), Some(new));
        let homogeneous = is_homogeneous(&regexes, &subscriptions, members);
        let mut epoch = group.epoch;
        if bump || hash != group.metadata_hash {
            epoch += 1;
            change.records.push(group.epoch_record(epoch, hash));
            tracing::info!(group = %group.id, epoch, "group epoch goes up");
        }
        self.mark_fresh(&group.id, epoch, turn.now);
        if group.has_partition_metadata {
            let record = ConsumerRecord::PartitionMetadata(None);
            change.records.push(group.record(record));
        }
        (epoch, Some(homogeneous))
    }

    fn update_target(
        &self,
        change: &mut Change,
        changed: &Changed<'_>,
        noted: &Noted,
        turn: &Turn<'_>,
    ) -> (i32, Arc<Partitions>) {
        let group = change.group.clone();
        let (old, new, epoch) = (changed.old, &changed.new, noted.epoch);
        if group.assignment_epoch >= epoch || !self.may_assign(&group, turn) {
            let target = group.target_of(&new.id, new.instance_id.as_ref());
            return (group.assignment_epoch, target);
        }
        let preferred = group.preferred_assignor_with(old, new);
        let preferred =
            preferred.and_then(|name| crate::consumer::assignor::Assignor::named(&name));
        let targeting = Targeting {
            group: &group,
            topics: &*self.topics,
            epoch,
            homogeneous: noted.homogeneous.unwrap_or_else(|| {
                is_homogeneous(&group.regexes, &group.subscriptions, group.members.len())
            }),
            assignor: preferred.unwrap_or_else(|| self.default_assignor()),
            now: turn.now,
        };
        let target = targeting.assign(new, &mut change.records);
        (epoch, target)
    }

    /// Assignments follow each other in some distance.
    pub(crate) fn may_assign(&self, group: &ConsumerGroup, turn: &Turn<'_>) -> bool {
        let interval = i64::from(self.settings_of(&group.id).assignment_interval_ms);
        let last = group.assignment_timestamp;
        last == 0 || interval == 0 || turn.now.wall.0 >= last.saturating_add(interval)
    }

    pub(crate) fn reconcile(
        &self,
        change: &mut Change,
        member: &ConsumerMember,
        target: &Target<'_>,
        reported: Option<&Reported>,
        turn: &mut Turn<'_>,
    ) -> Result<ConsumerMember, Refusal> {
        let group = change.group.clone();
        let reconciling = Reconciling {
            group: &group,
            topics: &*self.topics,
            target_epoch: target.epoch,
            target: target.partitions,
            subscription_changed: target.subscription_changed,
            reported,
        };
        let next = reconciling.step(member)?;
        if next == *member {
            return Ok(next);
        }
        let value = Box::new(next.to_current());
        let record = ConsumerRecord::Current(next.id.clone(), Some(value));
        change.records.push(group.record(record));
        if !next.uses_classic_protocol() {
            let timer = Timer::Rebalance(group.id.clone(), next.id.clone());
            match next.state == MemberState::UnrevokedPartitions {
                true => turn.schedule(timer, after_ms(turn.now, next.rebalance_timeout_ms)),
                false => turn.cancel(&timer),
            }
        }
        Ok(next)
    }

    /// The hash of the topics that exist.
    pub(crate) fn metadata_hash(&mut self, subscriptions: &Subscriptions) -> i64 {
        let topics = self.topics.clone();
        let hashes = subscriptions.keys().filter_map(|name| {
            if let Some(hash) = self.watch.hashes.get(name) {
                return Some(*hash);
            }
            let (id, racks) = (topics.id(name)?, topics.racks(name)?);
            let hash = crate::consumer::hash::topic_hash(id, name, &racks);
            self.watch.hashes.insert(name.clone(), hash);
            Some(hash)
        });
        crate::consumer::hash::group_hash(hashes)
    }
}

/// Where a member is to go.
pub(crate) struct Target<'a> {
    pub(crate) epoch: i32,
    pub(crate) partitions: &'a Partitions,
    pub(crate) subscription_changed: bool,
}

impl ConsumerGroup {
    pub(crate) fn record(&self, record: ConsumerRecord) -> GroupRecord {
        GroupRecord::Consumer {
            group: self.id.clone(),
            record,
        }
    }

    pub(crate) fn epoch_record(&self, epoch: i32, metadata_hash: i64) -> GroupRecord {
        self.record(ConsumerRecord::epoch(epoch, metadata_hash))
    }
}

/// What a request says of a member; what it leaves out stays.
fn told(
    old: &ConsumerMember,
    context: &RequestContext,
    request: &ConsumerGroupHeartbeatRequest,
) -> ConsumerMember {
    let or = |new: &Option<Str>, old: &Option<Str>| match new {
        Some(new) => Some(new.detached()),
        None => old.clone(),
    };
    let topics = request.subscribed_topic_names.as_ref().map(|names| {
        let names: BTreeSet<Str> = names.iter().map(Str::detached).collect();
        match names == *old.topics {
            true => old.topics.clone(),
            false => Arc::new(names),
        }
    });
    ConsumerMember {
        instance_id: or(&request.instance_id, &old.instance_id),
        rack_id: or(&request.rack_id, &old.rack_id),
        rebalance_timeout_ms: match request.rebalance_timeout_ms {
            -1 => old.rebalance_timeout_ms,
            timeout => timeout,
        },
        assignor: or(&request.server_assignor, &old.assignor),
        topics: topics.unwrap_or_else(|| old.topics.clone()),
        regex: or(&request.subscribed_topic_regex, &old.regex),
        client_id: context.client_id.detached(),
        client_host: context.client_host.detached(),
        classic: None,
        ..old.clone()
    }
}

pub(crate) fn dynamic_member(
    group: &ConsumerGroup,
    member_id: &Str,
    joins: bool,
) -> Result<ConsumerMember, Refusal> {
    match group.member(member_id) {
        Some(member) => Ok(ConsumerMember::clone(member)),
        None if joins => Ok(ConsumerMember::new(member_id.clone())),
        None => {
            let why = format!("Member {member_id} is not a member of group {}.", group.id);
            refuse(ErrorCode::UnknownMemberId, why)
        }
    }
}

/// A static member that comes back takes the place of the one that left under its name. One that has not left is in
/// its way, unless either uses the classic protocol.
pub(crate) fn static_member(
    change: &mut Change,
    member_id: &Str,
    instance_id: &Str,
    joins: bool,
    classic: bool,
) -> Result<ConsumerMember, Refusal> {
    let group = change.group.clone();
    let existing = group.static_member(instance_id);
    if !joins {
        return known_static_member(existing, member_id, instance_id);
    }
    let Some(existing) = existing else {
        return dynamic_member(&group, member_id, true);
    };
    let released = existing.epoch == LEAVE_STATIC_EPOCH;
    if !classic && !existing.uses_classic_protocol() && !released {
        let why = format!(
            "Instance id {instance_id} is in use by member {}.",
            existing.id
        );
        return refuse(ErrorCode::UnreleasedInstanceId, why);
    }
    let new = ConsumerMember {
        id: member_id.clone(),
        epoch: JOIN_EPOCH,
        previous_epoch: JOIN_EPOCH,
        ..ConsumerMember::clone(existing)
    };
    change.replace(existing, &new);
    Ok(new)
}

pub(crate) fn known_static_member(
    existing: Option<&Arc<ConsumerMember>>,
    member_id: &Str,
    instance_id: &Str,
) -> Result<ConsumerMember, Refusal> {
    let Some(existing) = existing else {
        let why = format!("Instance id {instance_id} is unknown.");
        return refuse(ErrorCode::UnknownMemberId, why);
    };
    if existing.id != *member_id {
        let why = format!(
            "Instance id {instance_id} now belongs to member {}.",
            existing.id
        );
        return refuse(ErrorCode::FencedInstanceId, why);
    }
    Ok(ConsumerMember::clone(existing))
}

/// A member may be one epoch behind where it did not get the last answer and has nothing beyond what it was given.
fn check_epoch(
    member: &ConsumerMember,
    epoch: i32,
    reported: Option<&Reported>,
) -> Result<(), Refusal> {
    let late = epoch == member.previous_epoch && is_within(reported, &member.assigned);
    if epoch == JOIN_EPOCH || epoch == member.epoch || (epoch < member.epoch && late) {
        return Ok(());
    }
    let why = format!(
        "Member epoch {epoch} is not the known one, {}; the member must give up its partitions and rejoin.",
        member.epoch
    );
    refuse(ErrorCode::FencedMemberEpoch, why)
}
