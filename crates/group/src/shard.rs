//! One partition of `__consumer_offsets`: its groups and their offsets, behind the runtime's trait.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use imbl::{OrdMap, OrdSet};
use milena_base::{ErrorCode, Instant, Now, Offset, Prng};
use milena_coordinator::{KeyValue, Shard, Token, Turn, Write};
use milena_protocol::{GroupMetadataValue, Str};

use crate::api::Topics;
use crate::classic::{ClassicGroup, StaticReplaced};
use crate::config::GroupConfig;
use crate::consumer::ConsumerGroup;
use crate::consumer::watch::Watch;
use crate::offsets::expire::ExpiresSince;
use crate::offsets::{OffsetTable, Offsets};
use crate::other::{OtherGroup, OtherKind};
use crate::record::{ConsumerRecord, GroupRecord};
use crate::request::{ShardRequest, ShardResponse, join_error, visible};

/// A group of any kind.
#[derive(Clone, Debug)]
pub enum Group {
    Classic(Box<ClassicGroup>),
    Consumer(Arc<ConsumerGroup>),
    Other(OtherGroup),
}

impl Group {
    pub(crate) fn is_subscribed_to(&self, topic: &Str) -> bool {
        match self {
            Group::Classic(group) => group.is_subscribed_to(topic),
            Group::Consumer(group) => group.is_subscribed_to(topic),
            // What its members want is not looked into, so all of it is kept.
            Group::Other(group) => !group.is_empty(),
        }
    }

    pub(crate) fn offsets_expire_since(&self) -> Option<ExpiresSince> {
        match self {
            Group::Classic(group) => group.offsets_expire_since(),
            // What members subscribe to is asked apart.
            Group::Consumer(_) => Some(ExpiresSince::Commit),
            Group::Other(group) => group.may_be_replaced().then_some(ExpiresSince::Commit),
        }
    }

    /// Whether the group may go once it has no offsets.
    pub(crate) fn may_be_forgotten(&self) -> bool {
        match self {
            Group::Classic(group) => group.is_empty() && group.pending_join.is_empty(),
            Group::Consumer(group) => group.is_empty(),
            Group::Other(group) => group.may_be_replaced(),
        }
    }

    /// The records that end the group.
    pub(crate) fn tombstones(&self, id: &Str, records: &mut Vec<GroupRecord>) {
        match self {
            Group::Classic(_) => records.push(GroupRecord::classic_tombstone(id)),
            Group::Consumer(group) => group.tombstones(None, records),
            Group::Other(group) => group.tombstones(id, records),
        }
    }
}

/// Names of timers. Ordered, so that of equal deadlines none depends on chance.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Timer {
    /// A member's session, or the time that a member that was told its id has to join.
    Session(Str, Str),
    /// The end of the time to join.
    Join(Str),
    /// The end of the time to ask for the assignment.
    Sync(Str),
    /// The time of a consumer group's member to give back what it is not to have.
    Rebalance(Str, Str),
    /// The time of a classic member of a consumer group to join again.
    ClassicJoin(Str, Str),
    /// The time of a classic member of a consumer group to ask for its assignment.
    ClassicSync(Str, Str),
    /// The next look at what has expired.
    Expire,
}

/// What remains to be done when a write is committed or has failed.
#[derive(Debug)]
pub enum After {
    /// A group was recorded for the first time; where that fails it has never been.
    Created {
        group: Str,
        token: Token,
        replaced: Option<Group>,
    },
    /// A leader's assignment.
    Assigned {
        group: Str,
        generation: i32,
        assignment: BTreeMap<Str, Bytes>,
    },
    /// The last member left.
    Emptied { group: Str },
    /// A consumer group has become a classic one; this is what it was.
    Downgraded { group: Arc<ConsumerGroup> },
    /// What a group's regular expressions stand for is to be looked at.
    Resolve { group: Str, regexes: BTreeSet<Str> },
    /// A static member has a new id.
    #[doc(hidden)]
    StaticReplaced(Box<StaticReplacedOpaque>),
}

/// What [`After::StaticReplaced`] holds; of no use outside.
#[derive(Debug)]
pub struct StaticReplacedOpaque(pub(crate) StaticReplaced);

/// The committed state, for answers that leave at once.
#[derive(Clone, Debug, Default)]
pub struct Committed {
    /// Ids of the groups that are committed. What happens in a group is soft state, and read as it is now.
    pub groups: OrdSet<Str>,
    /// Consumer groups, all of which is replicated.
    pub consumers: OrdMap<Str, Arc<ConsumerGroup>>,
    pub offsets: OffsetTable,
}

/// One partition's groups. Invariant: `known` holds the keys of `groups`, `consumers` the consumer groups among them.
pub struct GroupShard {
    pub(crate) config: Arc<GroupConfig>,
    pub(crate) topics: Arc<dyn Topics + Send + Sync>,
    pub(crate) groups: BTreeMap<Str, Group>,
    known: OrdSet<Str>,
    consumers: OrdMap<Str, Arc<ConsumerGroup>>,
    pub(crate) offsets: Offsets,
    pub(crate) watch: Watch,
}

impl std::fmt::Debug for GroupShard {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("GroupShard")
            .field("groups", &self.groups)
            .field("offsets", &self.offsets)
            .finish_non_exhaustive()
    }
}

impl GroupShard {
    pub fn new(config: Arc<GroupConfig>, topics: Arc<dyn Topics + Send + Sync>) -> GroupShard {
        GroupShard {
            config,
            topics,
            groups: BTreeMap::new(),
            known: OrdSet::new(),
            consumers: OrdMap::new(),
            offsets: Offsets::default(),
            watch: Watch::default(),
        }
    }

    /// All groups, by id.
    pub fn groups(&self) -> impl Iterator<Item = (&Str, &Group)> {
        self.groups.iter()
    }

    /// The offsets, with those that are not committed yet.
    pub fn offsets(&self) -> &OffsetTable {
        &self.offsets.table
    }

    pub(crate) fn insert_group(&mut self, id: Str, group: Group) {
        self.known.insert(id.clone());
        match &group {
            Group::Consumer(group) => _ = self.consumers.insert(id.clone(), group.clone()),
            _ => _ = self.consumers.remove(&id),
        }
        self.groups.insert(id, group);
    }

    pub(crate) fn remove_group(&mut self, id: &Str) -> Option<Group> {
        self.known.remove(id);
        self.consumers.remove(id);
        self.groups.remove(id)
    }

    pub(crate) fn classic_mut(&mut self, id: &Str) -> Option<&mut ClassicGroup> {
        match self.groups.get_mut(id)? {
            Group::Classic(group) => Some(group),
            Group::Consumer(_) | Group::Other(_) => None,
        }
    }

    fn is_consumer(&self, id: &Str) -> bool {
        matches!(self.groups.get(id), Some(Group::Consumer(_)))
    }

    pub(crate) fn reschedule_session(&self, id: &Str, member_id: &Str, turn: &mut Turn<'_, Self>) {
        if let Some(Group::Classic(group)) = self.groups.get(id) {
            group.reschedule_session(member_id, turn);
        }
    }

    // Replay.

    fn replay_classic(&mut self, id: Str, value: Option<GroupMetadataValue>) {
        match value {
            Some(value) => {
                let group = ClassicGroup::from_record(id.clone(), value);
                self.insert_group(id, Group::Classic(Box::new(group)));
            }
            None => {
                if let Some(Group::Classic(_)) = self.groups.get(&id) {
                    self.remove_group(&id);
                }
            }
        }
    }

    /// The records of one kind of group end nothing of another: after a change of kind they may come late.
    fn replay_consumer(&mut self, id: Str, record: ConsumerRecord) {
        let mut group = match self.groups.get(&id) {
            Some(Group::Consumer(group)) => group.clone(),
            _ if record.is_tombstone() => return,
            _ => Arc::new(ConsumerGroup::new(id.clone())),
        };
        // The maps are given up first, so that the group is changed in its place where nobody else holds it.
        self.groups.remove(&id);
        self.consumers.remove(&id);
        let stays = Arc::make_mut(&mut group).replay(record);
        match stays {
            true => self.insert_group(id, Group::Consumer(group)),
            false => _ = self.remove_group(&id),
        }
    }

    fn replay_other(&mut self, id: Str, type_id: i16, key: Bytes, value: Option<Bytes>) {
        let kind = OtherKind::of_record(type_id);
        let same = |group: &Group| matches!(group, Group::Other(group) if group.kind == kind);
        if !self.groups.get(&id).is_some_and(same) {
            if value.is_none() {
                return;
            }
            self.insert_group(id.clone(), Group::Other(OtherGroup::new(kind)));
        }
        if let Some(Group::Other(group)) = self.groups.get_mut(&id)
            && !group.replay(type_id, key, value)
        {
            self.remove_group(&id);
        }
    }

    // Afterwards.

    fn created(
        &mut self,
        id: &Str,
        token: Token,
        replaced: Option<Group>,
        error: ErrorCode,
        turn: &mut Turn<'_, Self>,
    ) {
        let code = visible(error);
        let Some(group) = self.classic_mut(id) else {
            return;
        };
        let waits = group
            .members
            .values()
            .find(|member| member.awaiting_join == Some(token));
        if let Some(member_id) = waits.map(|member| member.id.clone()) {
            group.answer_join(&member_id, turn, |_| join_error(Str::EMPTY, code));
        }
        if error == ErrorCode::RequestTimedOut {
            // The record is in the log, and may yet be committed.
            return;
        }
        for member_id in group.member_ids().cloned().collect::<Vec<_>>() {
            group.answer_join(&member_id, turn, |_| join_error(Str::EMPTY, code));
        }
        turn.cancel(&Timer::Join(id.clone()));
        self.remove_group(id);
        if let Some(replaced) = replaced {
            self.insert_group(id.clone(), replaced);
        }
    }
}

impl Shard for GroupShard {
    type Request = ShardRequest;
    type Response = ShardResponse;
    type Record = GroupRecord;
    type Timer = Timer;
    type After = After;
    type Snapshot = Committed;

    fn request(
        &mut self,
        token: Token,
        request: ShardRequest,
        turn: &mut Turn<'_, Self>,
    ) -> Option<Write<Self>> {
        match request {
            ShardRequest::Join(context, request) => self.join(token, &context, &request, turn),
            ShardRequest::Sync(request) => self.sync(token, request, turn),
            ShardRequest::Heartbeat(request) => Some(self.heartbeat(token, &request, turn)),
            ShardRequest::Leave(request) => Some(self.leave(token, &request, turn)),
            ShardRequest::Commit(version, request) => {
                self.commit_offsets(token, version, request, turn)
            }
            ShardRequest::TxnCommit(producer, request) => {
                self.commit_in_transaction(token, producer, request, turn)
            }
            ShardRequest::Fetch(request, require_stable) => {
                self.fetch_offsets(token, request, require_stable, turn)
            }
            ShardRequest::OffsetDelete(request) => Some(self.delete_offsets(token, request)),
            ShardRequest::List(request) => {
                let listed = self.list(&request, turn.committed);
                turn.reply(token, ShardResponse::List(Ok(listed)));
                None
            }
            ShardRequest::Describe(version, id) => {
                let described = self.describe(version, id, turn.committed);
                turn.reply(token, ShardResponse::Describe(described));
                None
            }
            ShardRequest::ConsumerHeartbeat(context, request) => {
                self.consumer_heartbeat(token, &context, &request, turn)
            }
            ShardRequest::ConsumerDescribe(id) => {
                let described = self.describe_consumer(id, turn.committed);
                turn.reply(token, ShardResponse::ConsumerDescribe(described));
                None
            }
            ShardRequest::Delete(id) => Some(self.delete_group(token, id)),
            ShardRequest::TopicsDeleted(topics) => Some(self.topics_deleted(token, &topics)),
            ShardRequest::TopicsChanged(names, created) => {
                self.topics_changed(&names, created);
                turn.reply(token, ShardResponse::Done);
                None
            }
        }
    }

    fn timer(&mut self, timer: Timer, turn: &mut Turn<'_, Self>) -> Option<Write<Self>> {
        let config = self.config.clone();
        match timer {
            Timer::Session(id, member_id) if self.is_consumer(&id) => {
                self.member_timer(&id, &member_id, "its session timed out", turn)
            }
            Timer::Rebalance(id, member_id) => self.rebalance_timer(&id, &member_id, turn),
            Timer::ClassicJoin(id, member_id) => {
                self.member_timer(&id, &member_id, "it did not join again in time", turn)
            }
            Timer::ClassicSync(id, member_id) => {
                self.member_timer(&id, &member_id, "it did not synchronise in time", turn)
            }
            Timer::Session(id, member_id) => self
                .classic_mut(&id)?
                .session_timer(&member_id, &config, turn),
            Timer::Join(id) => self.classic_mut(&id)?.join_timer(&config, turn),
            Timer::Sync(id) => self.classic_mut(&id)?.sync_timer(&config, turn),
            Timer::Expire => {
                self.schedule_expiry(turn);
                Some(self.expire(turn.now.wall.0))
            }
        }
    }

    fn after(
        &mut self,
        after: After,
        result: Result<(), ErrorCode>,
        turn: &mut Turn<'_, Self>,
    ) -> Option<Write<Self>> {
        let config = self.config.clone();
        match after {
            After::Created {
                group,
                token,
                replaced,
            } => {
                let error = result.err()?;
                self.created(&group, token, replaced, error, turn);
                None
            }
            After::Assigned {
                group,
                generation,
                assignment,
            } => {
                let group = self.classic_mut(&group)?;
                group.assigned(generation, &assignment, result, &config, turn)
            }
            After::Resolve { group, regexes } => {
                self.resolve_regexes(&group, &regexes, result, turn)
            }
            After::Downgraded { group } => {
                let error = result.err()?;
                self.undo_downgrade(group, error, turn);
                None
            }
            After::StaticReplaced(change) => {
                let group = self.classic_mut(&change.0.group)?;
                group.static_replaced(change.0, result, turn);
                None
            }
            After::Emptied { group } => {
                if let Err(error) = result {
                    tracing::warn!(%group, %error, "an empty generation was not recorded; the group may come back with its old members, whose sessions then end");
                }
                None
            }
        }
    }

    fn replay(&mut self, offset: Offset, producer_id: i64, record: GroupRecord) {
        match record {
            GroupRecord::Offset { key, value } => {
                // A group that nobody ever joined comes with its first offset.
                if value.is_some() && !self.groups.contains_key(&key.group) {
                    let id = key.group.clone();
                    let group = ClassicGroup::new(id.clone(), None);
                    self.insert_group(id, Group::Classic(Box::new(group)));
                }
                self.offsets.replay(offset, producer_id, key, value);
            }
            GroupRecord::Classic { group, value } => self.replay_classic(group, value),
            GroupRecord::Consumer { group, record } => self.replay_consumer(group, record),
            GroupRecord::Other {
                group,
                type_id,
                key,
                value,
            } => self.replay_other(group, type_id, key, value),
        }
    }

    fn end_transaction(&mut self, producer_id: i64, committed: bool) {
        self.offsets.end_transaction(producer_id, committed);
    }

    fn loaded(&mut self, turn: &mut Turn<'_, Self>) -> Option<Write<Self>> {
        self.schedule_expiry(turn);
        let config = self.config.clone();
        let members_max = usize::try_from(config.members_max).unwrap_or(0);
        self.watch.begin(self.topics.version());
        for group in self.consumers.values() {
            self.load_consumer(group, turn);
        }
        for group in self.groups.values_mut() {
            let Group::Classic(group) = group else {
                continue;
            };
            for member_id in group.member_ids() {
                group.reschedule_session(member_id, turn);
            }
            if group.members.len() > members_max {
                // The maximum was lowered: whoever rejoins first stays.
                let write = group.prepare_rebalance(&config, turn);
                debug_assert!(write.is_none(), "nobody has joined yet");
            }
        }
        None
    }

    fn unloaded(&mut self) -> Vec<(Token, ShardResponse)> {
        let error = ErrorCode::NotCoordinator;
        let mut replies = Vec::new();
        for group in self.groups.values_mut() {
            let Group::Classic(group) = group else {
                continue;
            };
            for member in group.members.values_mut() {
                let join = member.awaiting_join.take();
                let answer = || ShardResponse::Join(join_error(member.id.clone(), error));
                replies.extend(join.map(|token| (token, answer())));
                let sync = member.awaiting_sync.take();
                let answer = || ShardResponse::Sync(crate::request::sync_error(error));
                replies.extend(sync.map(|token| (token, answer())));
            }
        }
        replies
    }

    fn snapshot(&self) -> Committed {
        Committed {
            groups: self.known.clone(),
            consumers: self.consumers.clone(),
            offsets: self.offsets.table.clone(),
        }
    }

    fn encode(record: &GroupRecord) -> Result<KeyValue, String> {
        record.encode().map_err(|error| error.to_string())
    }

    fn decode(record: KeyValue) -> Result<Option<GroupRecord>, String> {
        GroupRecord::decode(record)
    }

    fn refused(request: ShardRequest, error: ErrorCode) -> ShardResponse {
        request.refused(error)
    }

    fn failed(response: ShardResponse, error: ErrorCode) -> ShardResponse {
        response.failed(error)
    }
}

impl GroupShard {
    fn schedule_expiry(&self, turn: &mut Turn<'_, Self>) {
        let interval = Duration::from_millis(self.config.offsets_retention_check_interval_ms);
        turn.schedule(Timer::Expire, turn.now.mono + interval);
    }
}

/// A moment in the future; a negative span is none.
pub(crate) fn after_ms(now: Now, span_ms: i32) -> Instant {
    now.mono + Duration::from_millis(u64::try_from(span_ms).unwrap_or(0))
}

/// Bytes of a client id that go into a member id: the whole must fit into a string of the protocol.
const MEMBER_ID_PREFIX_BYTES_MAX: usize = 32_767 - 37;

/// A new member's id: the client's or the instance's, and a random UUID.
pub(crate) fn member_id_for(prefix: &str, prng: &mut Prng) -> Str {
    let prefix = &prefix[..prefix.floor_char_boundary(MEMBER_ID_PREFIX_BYTES_MAX)];
    let mut uuid = [0; 16];
    prng.fill(&mut uuid);
    uuid[6] = (uuid[6] & 0x0f) | 0x40;
    uuid[8] = (uuid[8] & 0x3f) | 0x80;
    let mut text = String::with_capacity(prefix.len() + 37);
    text.push_str(prefix);
    for (i, byte) in uuid.iter().enumerate() {
        if matches!(i, 0 | 4 | 6 | 8 | 10) {
            text.push('-');
        }
        text.push_str(&format!("{byte:02x}"));
    }
    Str::from(text)
}
