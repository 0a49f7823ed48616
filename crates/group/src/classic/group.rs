//! The state of a classic group, and the questions about it that change nothing but its tables.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use milena_base::ErrorCode;
use milena_coordinator::Token;
use milena_protocol::group_metadata_value::MemberMetadata;
use milena_protocol::join_group_response::JoinGroupResponseMember;
use milena_protocol::{
    ConsumerProtocolSubscription, GroupMetadataValue, JoinGroupRequest, JoinGroupResponse, Message,
    Reader, Str,
};

use crate::classic::Turn;
use crate::classic::member::{Member, Protocol};
use crate::offsets::expire::ExpiresSince;
use crate::record::GroupRecord;
use crate::request::ShardResponse;
use crate::shard::Timer;

/// The protocol type of consumers: its metadata can be read.
pub(crate) const CONSUMER_PROTOCOL_TYPE: &str = "consumer";

/// Where a group stands. A group that is gone (`Dead`) has no state here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ClassicState {
    Empty,
    PreparingRebalance,
    CompletingRebalance,
    Stable,
}

impl ClassicState {
    /// As in ListGroups and DescribeGroups.
    pub fn name(self) -> &'static str {
        match self {
            ClassicState::Empty => "Empty",
            ClassicState::PreparingRebalance => "PreparingRebalance",
            ClassicState::CompletingRebalance => "CompletingRebalance",
            ClassicState::Stable => "Stable",
        }
    }
}

/// The first rebalance of a group waits for more members (KIP-134).
#[derive(Clone, Copy, Debug)]
pub(crate) struct InitialDelay {
    pub(crate) delay_ms: i32,
    pub(crate) remaining_ms: i32,
}

/// A classic group. Invariants: `static_members` maps each member's instance id to it; `supported` counts the
/// members by protocol; `awaiting_join` counts the members whose JoinGroup waits; the leader is a member;
/// `pending_join` and `members` are disjoint, `pending_sync` is within `members`.
#[derive(Clone, Debug)]
pub struct ClassicGroup {
    pub(crate) id: Str,
    pub(crate) state: ClassicState,
    pub(crate) previous_state: ClassicState,
    /// Milliseconds since 1970.
    pub(crate) state_since: Option<i64>,
    pub(crate) protocol_type: Option<Str>,
    pub(crate) protocol_name: Option<Str>,
    pub(crate) generation: i32,
    pub(crate) leader: Option<Str>,
    pub(crate) members: BTreeMap<Str, Member>,
    pub(crate) static_members: BTreeMap<Str, Str>,
    pub(crate) pending_join: BTreeSet<Str>,
    pub(crate) pending_sync: BTreeSet<Str>,
    subscribed_topics: Option<BTreeSet<Str>>,
    supported: BTreeMap<Str, usize>,
    awaiting_join: usize,
    pub(crate) new_member_added: bool,
    pub(crate) initial_delay: Option<InitialDelay>,
    /// The generation that the sync timer was set in.
    pub(crate) sync_generation: i32,
}

impl ClassicGroup {
    pub(crate) fn new(id: Str, state_since: Option<i64>) -> ClassicGroup {
        ClassicGroup {
            id,
            state: ClassicState::Empty,
            previous_state: ClassicState::Empty,
            state_since,
            protocol_type: None,
            protocol_name: None,
            generation: 0,
            leader: None,
            members: BTreeMap::new(),
            static_members: BTreeMap::new(),
            pending_join: BTreeSet::new(),
            pending_sync: BTreeSet::new(),
            subscribed_topics: None,
            supported: BTreeMap::new(),
            awaiting_join: 0,
            new_member_added: false,
            initial_delay: None,
            sync_generation: -1,
        }
    }

    /// A group of consumers that is about to get its members, in a generation that is settled.
    pub(crate) fn stable(id: Str, generation: i32, since: i64) -> ClassicGroup {
        ClassicGroup {
            state: ClassicState::Stable,
            previous_state: ClassicState::CompletingRebalance,
            protocol_type: Some(CONSUMER_PROTOCOL_TYPE.into()),
            generation,
            ..ClassicGroup::new(id, Some(since))
        }
    }

    // Records.

    pub(crate) fn from_record(id: Str, value: GroupMetadataValue) -> ClassicGroup {
        let since = Some(value.current_state_timestamp).filter(|&since| since != -1);
        let mut group = ClassicGroup::new(id, since);
        group.generation = value.generation;
        group.protocol_type = Some(value.protocol_type).filter(|kind| !kind.is_empty());
        group.protocol_name = value.protocol;
        for member in value.members {
            group.make_room_for(&member);
            group.add(Member::from_record(member, group.protocol_name.as_ref()));
        }
        group.leader = value
            .leader
            .filter(|leader| group.members.contains_key(leader));
        if !group.members.is_empty() {
            group.state = ClassicState::Stable;
            group.previous_state = ClassicState::CompletingRebalance;
        }
        group.subscribed_topics = group.compute_subscribed_topics();
        group
    }

    /// A record that names a member or an instance twice is broken; the last one counts.
    fn make_room_for(&mut self, member: &MemberMetadata) {
        self.remove(&member.member_id);
        let instance_id = member.group_instance_id.as_ref();
        if let Some(other) = instance_id
            .and_then(|id| self.static_members.get(id))
            .cloned()
        {
            self.remove(&other);
        }
    }

    /// The group as it is, with these assignments.
    pub(crate) fn to_record(&self, assignment: impl Fn(&Member) -> Bytes) -> GroupRecord {
        let protocol = self.protocol_name.clone().unwrap_or_default();
        let record = |member: &Member| member.to_record(&protocol, assignment(member));
        GroupRecord::Classic {
            group: self.id.clone(),
            value: Some(GroupMetadataValue {
                protocol_type: self.protocol_type.clone().unwrap_or_default(),
                generation: self.generation,
                protocol: self.protocol_name.clone(),
                leader: self.leader.clone(),
                current_state_timestamp: self.state_since.unwrap_or(-1),
                members: self.members.values().map(record).collect(),
            }),
        }
    }

    /// What a group is recorded as before its first generation.
    pub(crate) fn to_empty_record(&self) -> GroupRecord {
        GroupRecord::Classic {
            group: self.id.clone(),
            value: Some(GroupMetadataValue {
                protocol: None,
                leader: None,
                current_state_timestamp: self.state_since.unwrap_or(-1),
                ..Default::default()
            }),
        }
    }

    // Questions.

    pub fn state(&self) -> ClassicState {
        self.state
    }

    pub fn generation(&self) -> i32 {
        self.generation
    }

    /// Ids of the members, ascending.
    pub fn member_ids(&self) -> impl Iterator<Item = &Str> {
        self.members.keys()
    }

    pub(crate) fn has_member(&self, member_id: &Str) -> bool {
        self.members.contains_key(member_id)
    }

    pub(crate) fn is_leader(&self, member_id: &Str) -> bool {
        self.leader.as_ref() == Some(member_id)
    }

    pub fn is_empty(&self) -> bool {
        self.state == ClassicState::Empty
    }

    pub(crate) fn is_stable_or_preparing(&self) -> bool {
        matches!(
            self.state,
            ClassicState::Stable | ClassicState::PreparingRebalance
        )
    }

    pub(crate) fn uses_consumer_protocol(&self) -> bool {
        self.protocol_type
            .as_ref()
            .is_some_and(|kind| *kind == CONSUMER_PROTOCOL_TYPE)
    }

    pub(crate) fn awaiting_join(&self) -> usize {
        self.awaiting_join
    }

    pub(crate) fn has_all_members_joined(&self) -> bool {
        self.members.len() == self.awaiting_join && self.pending_join.is_empty()
    }

    /// The longest of the members'.
    pub(crate) fn rebalance_timeout_ms(&self) -> i32 {
        let timeouts = self
            .members
            .values()
            .map(|member| member.rebalance_timeout_ms);
        timeouts.max().unwrap_or(0).max(0)
    }

    /// Whether a topic's offsets are in use. Where the members cannot be understood, all are.
    pub(crate) fn is_subscribed_to(&self, topic: &Str) -> bool {
        match &self.subscribed_topics {
            Some(topics) => topics.contains(topic),
            None => self.uses_consumer_protocol(),
        }
    }

    /// `None`: offsets do not expire now.
    pub(crate) fn offsets_expire_since(&self) -> Option<ExpiresSince> {
        if self.protocol_type.is_none() {
            return Some(ExpiresSince::Commit);
        }
        match self.state {
            ClassicState::Empty => Some(match self.state_since {
                Some(since) => ExpiresSince::Empty(since),
                None => ExpiresSince::Commit,
            }),
            ClassicState::Stable if self.uses_consumer_protocol() => self
                .subscribed_topics
                .as_ref()
                .map(|_| ExpiresSince::Commit),
            _ => None,
        }
    }

    // Who may ask.

    pub(crate) fn validate_member(
        &self,
        member_id: &Str,
        instance_id: Option<&Str>,
    ) -> Result<(), ErrorCode> {
        if let Some(instance_id) = instance_id {
            match self.static_members.get(instance_id) {
                None => return Err(ErrorCode::UnknownMemberId),
                Some(id) if id != member_id => return Err(ErrorCode::FencedInstanceId),
                Some(_) => {}
            }
        }
        match self.has_member(member_id) {
            true => Ok(()),
            false => Err(ErrorCode::UnknownMemberId),
        }
    }

    pub(crate) fn validate_offset_commit(
        &self,
        member_id: &Str,
        instance_id: Option<&Str>,
        generation: i32,
    ) -> Result<(), ErrorCode> {
        let empty = self.state == ClassicState::Empty;
        if generation < 0 && empty {
            return Ok(());
        }
        if generation >= 0 || !member_id.is_empty() || instance_id.is_some() {
            self.validate_member(member_id, instance_id)?;
            if generation != self.generation {
                return Err(ErrorCode::IllegalGeneration);
            }
        } else if !empty {
            return Err(ErrorCode::UnknownMemberId);
        }
        match self.state {
            // The member has the new generation, but not yet its share of it.
            ClassicState::CompletingRebalance => Err(ErrorCode::RebalanceInProgress),
            _ => Ok(()),
        }
    }

    /// As [`ClassicGroup::validate_offset_commit`], but for producers that do not know of members and generations, and
    /// also in a rebalance: the offsets belong to the generation that is named.
    pub(crate) fn validate_transactional_commit(
        &self,
        member_id: &Str,
        instance_id: Option<&Str>,
        generation: i32,
    ) -> Result<(), ErrorCode> {
        let names_nobody = generation < 0 && member_id.is_empty() && instance_id.is_none();
        if names_nobody || (generation < 0 && self.state == ClassicState::Empty) {
            return Ok(());
        }
        self.validate_member(member_id, instance_id)?;
        match generation == self.generation {
            true => Ok(()),
            false => Err(ErrorCode::IllegalGeneration),
        }
    }

    /// Offsets of a group with members can be deleted where their subscriptions are known.
    pub(crate) fn validate_offset_delete(&self) -> Result<(), ErrorCode> {
        match self.state == ClassicState::Empty || self.uses_consumer_protocol() {
            true => Ok(()),
            false => Err(ErrorCode::NonEmptyGroup),
        }
    }

    // Protocols.

    /// Whether a member with these protocols can be in the group.
    pub(crate) fn supports(&self, request: &JoinGroupRequest) -> bool {
        if self.state == ClassicState::Empty {
            return !request.protocol_type.is_empty() && !request.protocols.is_empty();
        }
        let known = |name: &Str| self.is_candidate(name);
        self.protocol_type.as_ref() == Some(&request.protocol_type)
            && request
                .protocols
                .iter()
                .any(|protocol| known(&protocol.name))
    }

    fn is_candidate(&self, protocol: &Str) -> bool {
        self.supported.get(protocol).copied().unwrap_or(0) == self.members.len()
    }

    /// The protocol with the most votes among those that all support; of equals the one that the leader likes best.
    pub(crate) fn select_protocol(&self) -> Option<Str> {
        let mut votes: BTreeMap<&Str, usize> = BTreeMap::new();
        for member in self.members.values() {
            let vote = member.vote(|name| self.is_candidate(name))?;
            *votes.entry(vote).or_default() += 1;
        }
        let most = votes.values().max()?;
        let leader = self
            .leader
            .as_ref()
            .and_then(|leader| self.members.get(leader));
        let liked = leader.and_then(|leader| leader.vote(|name| votes.get(name) == Some(most)));
        let first = votes.iter().find(|(_, count)| *count == most);
        liked.or(first.map(|(name, _)| *name)).cloned()
    }

    fn count_protocols(&mut self, protocols: &[Protocol], present: bool) {
        let names: BTreeSet<&Str> = protocols.iter().map(|protocol| &protocol.name).collect();
        for name in names {
            let count = self.supported.entry(name.clone()).or_default();
            match present {
                true => *count += 1,
                false => *count = count.saturating_sub(1),
            }
        }
        self.supported.retain(|_, count| *count > 0);
    }

    /// What the members subscribe to, where they are consumers that say so readably.
    fn compute_subscribed_topics(&self) -> Option<BTreeSet<Str>> {
        if !self.uses_consumer_protocol() {
            return None;
        }
        if self.members.is_empty() {
            return Some(BTreeSet::new());
        }
        let protocol = self.protocol_name.as_ref()?;
        let mut topics = BTreeSet::new();
        for member in self.members.values() {
            topics.extend(subscription(member.metadata(protocol)?)?);
        }
        Some(topics)
    }

    // Tables.

    pub(crate) fn transition(&mut self, state: ClassicState, turn: &Turn<'_>) {
        self.previous_state = self.state;
        self.state = state;
        self.state_since = Some(turn.now.wall.0);
    }

    /// The first member decides what kind of group it is.
    pub(crate) fn set_protocol_type_of(&mut self, request: &JoinGroupRequest) {
        if self.members.is_empty() {
            self.protocol_type = Some(request.protocol_type.detached());
        }
    }

    pub(crate) fn add(&mut self, member: Member) {
        debug_assert!(!self.members.contains_key(&member.id), "members join once");
        if let Some(instance_id) = &member.instance_id {
            self.static_members
                .insert(instance_id.clone(), member.id.clone());
        }
        if self.leader.is_none() {
            self.leader = Some(member.id.clone());
        }
        self.count_protocols(&member.protocols, true);
        self.awaiting_join += usize::from(member.awaiting_join.is_some());
        self.pending_join.remove(&member.id);
        self.members.insert(member.id.clone(), member);
    }

    /// Takes a member out, pending or not. Its requests must have been answered.
    pub(crate) fn remove(&mut self, member_id: &Str) {
        if let Some(member) = self.members.remove(member_id) {
            self.count_protocols(&member.protocols, false);
            self.awaiting_join -= usize::from(member.awaiting_join.is_some());
            if let Some(instance_id) = &member.instance_id {
                self.static_members.remove(instance_id);
            }
        }
        if self.is_leader(member_id) {
            self.leader = self.members.keys().next().cloned();
        }
        self.pending_join.remove(member_id);
        self.pending_sync.remove(member_id);
    }

    /// Gives a member another id, and tells whoever used the old one.
    pub(crate) fn replace_member_id(&mut self, instance_id: &Str, old: &Str, new: &Str) {
        let Some(mut member) = self.members.remove(old) else {
            return;
        };
        member.id = new.clone();
        member.is_new = false;
        self.members.insert(new.clone(), member);
        if self.is_leader(old) {
            self.leader = Some(new.clone());
        }
        self.pending_sync.remove(old);
        self.static_members.insert(instance_id.clone(), new.clone());
    }

    /// Takes over what a member says in a new JoinGroup.
    pub(crate) fn update_member(
        &mut self,
        member_id: &Str,
        protocols: Vec<Protocol>,
        rebalance_timeout_ms: i32,
        session_timeout_ms: i32,
    ) {
        let Some(member) = self.members.get_mut(member_id) else {
            return;
        };
        member.rebalance_timeout_ms = rebalance_timeout_ms;
        member.session_timeout_ms = session_timeout_ms;
        let before = std::mem::replace(&mut member.protocols, protocols.clone());
        self.count_protocols(&before, false);
        self.count_protocols(&protocols, true);
    }

    /// What the members agree on, without a new generation.
    pub(crate) fn choose_protocol(&mut self) {
        self.protocol_name = self.select_protocol();
        self.subscribed_topics = self.compute_subscribed_topics();
    }

    /// Gives a member an assignment, made for its subscription.
    pub(crate) fn assign<E>(
        &mut self,
        member_id: &Str,
        assignment: impl FnOnce(&Bytes) -> Result<Bytes, E>,
    ) -> Result<(), E> {
        let protocol = self.protocol_name.clone().unwrap_or_default();
        if let Some(member) = self.members.get_mut(member_id) {
            let subscription = member.metadata(&protocol).cloned();
            member.assignment = assignment(&subscription.unwrap_or_default())?;
        }
        Ok(())
    }

    /// Parks a member's JoinGroup. One that waited before is answered: its sender has sent another.
    pub(crate) fn await_join(&mut self, member_id: &Str, token: Token, turn: &mut Turn<'_>) {
        let again = crate::request::join_error(member_id.clone(), ErrorCode::RebalanceInProgress);
        self.answer_join(member_id, turn, |_| again);
        if let Some(member) = self.members.get_mut(member_id) {
            member.awaiting_join = Some(token);
            self.awaiting_join += 1;
        }
    }

    /// Answers the JoinGroup that a member waits with, if it does.
    pub(crate) fn answer_join(
        &mut self,
        member_id: &Str,
        turn: &mut Turn<'_>,
        answer: impl FnOnce(&ClassicGroup) -> JoinGroupResponse,
    ) {
        let member = self.members.get_mut(member_id);
        if let Some(token) = member.and_then(|member| member.awaiting_join.take()) {
            self.awaiting_join -= 1;
            turn.reply(token, ShardResponse::Join(answer(self)));
        }
    }

    pub(crate) fn init_next_generation(&mut self, turn: &Turn<'_>) {
        self.generation = self.generation.wrapping_add(1).max(0);
        self.choose_protocol();
        let state = match self.members.is_empty() {
            true => ClassicState::Empty,
            false => ClassicState::CompletingRebalance,
        };
        self.transition(state, turn);
        self.pending_sync.clear();
    }

    /// The current generation as JoinGroup tells it to a member; the members only to the leader.
    pub(crate) fn joined(&self, member_id: &Str) -> JoinGroupResponse {
        let members = match self.is_leader(member_id) {
            true => self.generation_members(),
            false => Vec::new(),
        };
        JoinGroupResponse {
            generation_id: self.generation,
            protocol_type: self.protocol_type.clone(),
            protocol_name: self.protocol_name.clone(),
            leader: self.leader.clone().unwrap_or_default(),
            member_id: member_id.clone(),
            members,
            ..Default::default()
        }
    }

    fn generation_members(&self) -> Vec<JoinGroupResponseMember> {
        let protocol = self.protocol_name.clone().unwrap_or_default();
        let told = |member: &Member| JoinGroupResponseMember {
            member_id: member.id.clone(),
            group_instance_id: member.instance_id.clone(),
            metadata: member.metadata(&protocol).cloned().unwrap_or_default(),
        };
        self.members.values().map(told).collect()
    }

    pub(crate) fn schedule_session(&self, member_id: &Str, timeout_ms: i32, turn: &mut Turn<'_>) {
        let timer = Timer::Session(self.id.clone(), member_id.clone());
        turn.schedule(timer, crate::shard::after_ms(turn.now, timeout_ms));
    }

    /// A sign of life.
    pub(crate) fn reschedule_session(&self, member_id: &Str, turn: &mut Turn<'_>) {
        if let Some(member) = self.members.get(member_id) {
            self.schedule_session(member_id, member.session_timeout_ms, turn);
        }
    }

    pub(crate) fn cancel_session(&self, member_id: &Str, turn: &mut Turn<'_>) {
        turn.cancel(&Timer::Session(self.id.clone(), member_id.clone()));
    }

    /// Panics where an invariant is broken; for tests.
    #[doc(hidden)]
    pub fn check(&self) {
        let awaiting = self
            .members
            .values()
            .filter(|m| m.awaiting_join.is_some())
            .count();
        assert_eq!(awaiting, self.awaiting_join);
        for (id, member) in &self.members {
            assert_eq!(*id, member.id);
            assert!(!self.pending_join.contains(id));
            if let Some(instance) = &member.instance_id {
                assert_eq!(self.static_members.get(instance), Some(id));
            }
        }
        let statics = self
            .members
            .values()
            .filter(|m| m.instance_id.is_some())
            .count();
        assert_eq!(statics, self.static_members.len());
        assert!(
            self.pending_sync
                .iter()
                .all(|id| self.members.contains_key(id))
        );
        assert_eq!(self.leader.is_none(), self.members.is_empty());
        assert!(self.leader.iter().all(|id| self.members.contains_key(id)));
        for (name, count) in &self.supported {
            let there = self.members.values().filter(|m| m.supports(name)).count();
            assert_eq!(there, *count);
        }
        if self.state == ClassicState::Empty {
            assert!(self.members.is_empty());
        }
    }
}

/// The topics of a consumer's subscription, read as version 0 whatever it is: later versions only append.
fn subscription(metadata: &Bytes) -> Option<Vec<Str>> {
    let mut r = Reader::new(metadata.clone());
    r.i16().ok()?;
    let subscription = ConsumerProtocolSubscription::decode(&mut r, 0).ok()?;
    Some(subscription.topics.iter().map(Str::detached).collect())
}
