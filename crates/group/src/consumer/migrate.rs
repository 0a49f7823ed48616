//! Groups that change their kind while they have members (`group.consumer.migration.policy`). A classic group becomes
//! a consumer group when the first member with the new protocol joins, and a consumer group becomes a classic one when
//! the last member with the new protocol goes. Everybody keeps its partitions.

use std::collections::BTreeSet;
use std::sync::Arc;

use milena_base::{ErrorCode, Uuid};
use milena_protocol::ConsumerGroupTargetAssignmentMetadataValue;
use milena_protocol::Str;
use milena_protocol::consumer_group_member_metadata_value::{
    ClassicMemberMetadata, ClassicProtocol,
};

use crate::api::Topics;
use crate::classic::{ClassicGroup, Member, Protocol};
use crate::consumer::assignment::{Owned, Partitions};
use crate::consumer::embedded::{self, Subscription, Unusable};
use crate::consumer::fence::cancel_member_timers;
use crate::consumer::group::ConsumerGroup;
use crate::consumer::heartbeat::Change;
use crate::consumer::member::ConsumerMember;
use crate::consumer::{Refusal, Turn, Write, refuse};
use crate::record::{ConsumerRecord, GroupRecord};
use crate::request::{join_error, sync_error, visible};
use crate::shard::{After, Group, GroupShard, Timer};

/// What is to become of a consumer group.
pub(crate) struct Downgrade<'a> {
    pub(crate) group: &'a Arc<ConsumerGroup>,
    pub(crate) leaving: &'a [Arc<ConsumerMember>],
    /// A static member that takes the place of the one that leaves.
    pub(crate) joining: Option<&'a ConsumerMember>,
    pub(crate) rebalances: bool,
}

impl GroupShard {
    // From classic to consumer.

    /// # Errors
    /// `GROUP_ID_NOT_FOUND` where the group has to stay what it is.
    pub(crate) fn upgrade(&mut self, classic: &ClassicGroup) -> Result<Change, Refusal> {
        let no = |why: &str| {
            let why = format!(
                "Cannot upgrade classic group {} to consumer group because {why}.",
                classic.id
            );
            tracing::info!("{why}");
            refuse(ErrorCode::GroupIdNotFound, why)
        };
        let members_max = usize::try_from(self.config.consumer.members_max).unwrap_or(0);
        if !self.config.consumer.migration.upgrades() {
            return no("online upgrade is disabled");
        }
        if !classic.uses_consumer_protocol() {
            return no("the group does not use the consumer embedded protocol");
        }
        if classic.members.len() > members_max {
            return no("the group size exceeds the consumer group maximum size");
        }
        let members = match members_of(classic, &*self.topics) {
            Ok(members) => members,
            Err(Unusable::Malformed) => {
                return no("the embedded consumer protocol is malformed");
            }
            Err(Unusable::CustomAssignor) => {
                return no("an unsupported custom assignor is in use");
            }
        };
        Ok(self.upgraded(classic, members))
    }

    fn upgraded(&mut self, classic: &ClassicGroup, members: Vec<ConsumerMember>) -> Change {
        let mut group = ConsumerGroup::new(classic.id.clone());
        let mut records = vec![GroupRecord::classic_tombstone(&classic.id)];
        let mut put = |group: &mut ConsumerGroup, record: ConsumerRecord| {
            records.push(group.record(record.clone()));
            group.replay(record);
        };
        for member in &members {
            let value = Some(Box::new(member.to_metadata()));
            put(&mut group, ConsumerRecord::Member(member.id.clone(), value));
        }
        let hash = self.metadata_hash(&group.subscriptions);
        put(&mut group, ConsumerRecord::epoch(classic.generation, hash));
        for member in &members {
            let target = Some(target_of(member));
            put(
                &mut group,
                ConsumerRecord::Target(member.id.clone(), target),
            );
        }
        let metadata = ConsumerGroupTargetAssignmentMetadataValue {
            assignment_epoch: classic.generation,
            assignment_timestamp: 0,
        };
        put(&mut group, ConsumerRecord::TargetMetadata(Some(metadata)));
        for member in &members {
            let value = Some(Box::new(member.to_current()));
            put(
                &mut group,
                ConsumerRecord::Current(member.id.clone(), value),
            );
        }
        Change {
            group: Arc::new(group),
            records,
            resolve: None,
            upgrades: true,
        }
    }

    /// The change will be written: whoever waits for a classic rebalance is to join anew. If it cannot be written the
    /// group stays, and its timers go on.
    pub(crate) fn announce_upgrade(&mut self, group: &ConsumerGroup, turn: &mut Turn<'_>) {
        tracing::info!(group = %group.id, "a classic group becomes a consumer group");
        if let Some(classic) = self.classic_mut(&group.id) {
            classic.turn_away(ErrorCode::RebalanceInProgress, turn);
        }
        for member in group
            .members()
            .filter(|member| member.uses_classic_protocol())
        {
            self.schedule_member_session(group, member, turn);
        }
    }

    // From consumer to classic.

    /// Whether a group is to become classic when these leave; `replaced`: the one that leaves has its place taken by a
    /// classic member.
    pub(crate) fn may_downgrade(
        &self,
        group: &ConsumerGroup,
        leaving: &[Arc<ConsumerMember>],
        replaced: bool,
    ) -> bool {
        let classic = leaving
            .iter()
            .filter(|member| member.uses_classic_protocol());
        let classic = classic.count();
        let stay = group.members.len() - leaving.len();
        if group.classic_members - classic != stay || (replaced && classic > 0) {
            return false;
        }
        let after = stay + usize::from(replaced);
        let fits = after <= usize::try_from(self.config.members_max).unwrap_or(0);
        let may = fits && self.config.consumer.migration.downgrades();
        if after > 0 && !may {
            tracing::info!(group = %group.id, after, "a consumer group without members of its protocol cannot become a classic group");
        }
        after > 0 && may
    }

    /// # Errors
    /// `GROUP_ID_NOT_FOUND` where a member's subscription cannot be read.
    pub(crate) fn downgrade(
        &mut self,
        change: &Downgrade<'_>,
        mut records: Vec<GroupRecord>,
        turn: &mut Turn<'_>,
    ) -> Result<Write, Refusal> {
        let group = change.group;
        let classic = classic_of(change, &*self.topics, turn);
        let Ok(classic) = classic else {
            let why = format!(
                "Cannot downgrade the consumer group {}: a subscription is malformed.",
                group.id
            );
            return refuse(ErrorCode::GroupIdNotFound, why);
        };
        tracing::info!(group = %group.id, "a consumer group becomes a classic group");
        let leaving = change.leaving.first();
        let renamed = change.joining.zip(leaving);
        group.tombstones(renamed.map(|(new, old)| (&old.id, &new.id)), &mut records);
        records.push(classic.to_record(|member| member.assignment.clone()));
        for member in group.members() {
            cancel_member_timers(&group.id, &member.id, turn);
        }
        turn.cancel(&Timer::Join(group.id.clone()));
        turn.cancel(&Timer::Sync(group.id.clone()));
        self.remove_group(&group.id);
        let classic = Group::Classic(Box::new(classic));
        self.insert_group(group.id.clone(), classic);
        let config = self.config.clone();
        if let Some(classic) = self.classic_mut(&group.id) {
            let members: Vec<Str> = classic.member_ids().cloned().collect();
            for member_id in &members {
                classic.reschedule_session(member_id, turn);
            }
            if change.rebalances {
                let write = classic.prepare_rebalance(&config, turn);
                debug_assert!(write.is_none(), "nobody has joined yet");
            }
        }
        let after = After::Downgraded {
            group: group.clone(),
        };
        Ok(Write::new(records).without_replay().after(after))
    }

    /// It could not be written: the group is what it was.
    pub(crate) fn undo_downgrade(
        &mut self,
        group: Arc<ConsumerGroup>,
        error: ErrorCode,
        turn: &mut Turn<'_>,
    ) {
        if error == ErrorCode::RequestTimedOut {
            // The records are in the log, and may yet be committed.
            return;
        }
        let Some(classic) = self.classic_mut(&group.id) else {
            return;
        };
        classic.turn_away(visible(error), turn);
        for member_id in classic.member_ids().cloned().collect::<Vec<_>>() {
            classic.cancel_session(&member_id, turn);
        }
        turn.cancel(&Timer::Join(group.id.clone()));
        self.remove_group(&group.id);
        for member in group.members() {
            self.schedule_member_session(&group, member, turn);
        }
        self.insert_group(group.id.clone(), Group::Consumer(group));
    }
}

impl ClassicGroup {
    /// Answers everybody who waits.
    fn turn_away(&mut self, error: ErrorCode, turn: &mut Turn<'_>) {
        for member_id in self.member_ids().cloned().collect::<Vec<_>>() {
            let answer = join_error(member_id.clone(), error);
            self.answer_join(&member_id, turn, |_| answer);
            self.answer_sync(&member_id, turn, || sync_error(error));
        }
    }
}

/// The members of a classic group as they are in a consumer group: each has what it was assigned last.
fn members_of(
    classic: &ClassicGroup,
    topics: &dyn Topics,
) -> Result<Vec<ConsumerMember>, Unusable> {
    let protocol = classic.protocol_name.clone();
    // Before the first generation nothing was chosen.
    let protocol = protocol.or_else(|| classic.select_protocol());
    let protocol = protocol.ok_or(Unusable::Malformed)?;
    let mut taken: BTreeSet<(Uuid, i32)> = BTreeSet::new();
    let mut members = Vec::with_capacity(classic.members.len());
    for member in classic.members.values() {
        let metadata = member.metadata(&protocol).ok_or(Unusable::Malformed)?;
        let subscription = Subscription::read(metadata, topics)?;
        let assigned = embedded::read_assignment(&member.assignment, topics)?;
        let each = assigned
            .iter()
            .flat_map(|(id, set)| set.iter().map(|p| (*id, *p)));
        for partition in each {
            if !taken.insert(partition) {
                // An assignor that gives a partition to several is none that there is here.
                return Err(Unusable::CustomAssignor);
            }
        }
        members.push(consumer_member(classic, member, subscription, &assigned));
    }
    Ok(members)
}

fn consumer_member(
    classic: &ClassicGroup,
    member: &Member,
    subscription: Subscription,
    assigned: &Partitions,
) -> ConsumerMember {
    let epoch = classic.generation;
    let owned = assigned.iter().map(|(id, partitions)| {
        let partitions = partitions.iter().map(|partition| (*partition, epoch));
        (*id, partitions.collect())
    });
    let protocols = member.protocols.iter().map(|protocol| ClassicProtocol {
        name: protocol.name.clone(),
        metadata: protocol.metadata.clone(),
    });
    let metadata = ClassicMemberMetadata {
        session_timeout_ms: member.session_timeout_ms,
        supported_protocols: protocols.collect(),
    };
    ConsumerMember {
        epoch,
        previous_epoch: epoch,
        instance_id: member.instance_id.clone(),
        rack_id: subscription.rack_id,
        rebalance_timeout_ms: member.rebalance_timeout_ms,
        client_id: member.client_id.clone(),
        client_host: member.client_host.clone(),
        topics: Arc::new(subscription.topics),
        assigned: Arc::new(owned.collect::<Owned>()),
        classic: Some(Arc::new(metadata)),
        ..ConsumerMember::new(member.id.clone())
    }
}

fn target_of(member: &ConsumerMember) -> Partitions {
    let topics = member.assigned.iter();
    topics
        .map(|(id, partitions)| (*id, partitions.keys().copied().collect()))
        .collect()
}

/// The classic group with those that stay; each is assigned what it was to have.
fn classic_of(
    change: &Downgrade<'_>,
    topics: &dyn Topics,
    turn: &Turn<'_>,
) -> Result<ClassicGroup, Unusable> {
    let group = change.group;
    let mut classic = ClassicGroup::stable(group.id.clone(), group.epoch, turn.now.wall.0);
    let leaves = |member: &ConsumerMember| change.leaving.iter().any(|l| l.id == member.id);
    for member in group.members().filter(|member| !leaves(member)) {
        classic.add(classic_member(member)?);
    }
    if let Some(joining) = change.joining {
        classic.add(classic_member(joining)?);
    }
    classic.choose_protocol();
    for member_id in classic.member_ids().cloned().collect::<Vec<_>>() {
        let joining = change.joining.filter(|joining| joining.id == member_id);
        let left = joining.and(change.leaving.first());
        let target = group.target_of(left.map_or(&member_id, |left| &left.id), None);
        classic.assign(&member_id, |subscription| {
            embedded::write_assignment(embedded::of_target(&target), subscription, topics)
        })?;
    }
    Ok(classic)
}

fn classic_member(member: &ConsumerMember) -> Result<Member, Unusable> {
    let classic = member.classic.as_ref().ok_or(Unusable::Malformed)?;
    let protocols = classic.supported_protocols.iter().map(|protocol| Protocol {
        name: protocol.name.clone(),
        metadata: protocol.metadata.clone(),
    });
    Ok(Member {
        id: member.id.clone(),
        instance_id: member.instance_id.clone(),
        client_id: member.client_id.clone(),
        client_host: member.client_host.clone(),
        rebalance_timeout_ms: member.rebalance_timeout_ms,
        session_timeout_ms: classic.session_timeout_ms,
        protocols: protocols.collect(),
        assignment: Default::default(),
        awaiting_join: None,
        awaiting_sync: None,
        is_new: false,
    })
}
