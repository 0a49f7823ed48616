//! The followers' mailbox: copies what other brokers lead. It carries out what the fetchers plan ([`milena_replica::fetcher`]):
//! sends their requests through the channel to other nodes, and appends, truncates or begins anew as the answers say.
//!
//! A partition belongs to one fetcher, chosen by its leader and its number (`num.replica.fetchers`), so that its
//! answers come in order. All run on this mailbox's thread: appends go to the page cache.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use bytes::Bytes;
use milena_base::{BrokerId, Epoch, ErrorCode, Instant, Now, Offset, TopicIdPartition};
use milena_protocol::fetch_request::{FetchPartition, FetchTopic, ForgottenTopic, ReplicaState};
use milena_protocol::fetch_response::PartitionData;
use milena_protocol::list_offsets_request::{ListOffsetsPartition, ListOffsetsTopic};
use milena_protocol::{
    FetchRequest, FetchResponse, ListOffsetsRequest, ListOffsetsResponse, Records, Str,
};
use milena_records::check_replicated;
use milena_replica::fetcher::{
    Ask, FetchOrder, Fetched, Fetcher, Found, Order, Settled, Standing, Told, Verdict, Which,
};
use milena_replica::{AppendRefused, Divergence};
use tracing::{info, warn};

use crate::broker::{Broker, Hosted};
use crate::ctx::Outbox;
use crate::housekeeping::Chore;
use crate::mailbox::Mailbox;
use crate::peers::{Asker, Lane, PeerAddress, PeerAnswer, PeerCall, Unanswered};

/// ListOffsets' names for a log's two ends.
const LATEST: i64 = -1;
const EARLIEST: i64 = -2;

/// What became of a partition here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Following {
    pub id: TopicIdPartition,
    /// Whom to copy from, and under which leader epoch. `None`: nobody.
    pub leader: Option<(BrokerId, Epoch)>,
}

/// What the mailbox is told.
#[derive(Debug)]
pub enum FollowersEvent {
    /// Committed metadata changed these; the partitions have their roles already.
    Assigned(Vec<Following>),
    /// The node's configuration changed.
    Reconfigured,
    Answered(PeerAnswer),
    Stop,
}

/// One fetcher among those of its leader.
type Place = (BrokerId, u16);

/// What is under way.
enum Asked {
    Fetch,
    Offsets(Vec<(TopicIdPartition, Epoch, Which)>),
}

struct Seat {
    fetcher: Fetcher,
    /// With the call's tag.
    asked: Option<(u64, Asked)>,
}

/// See the module's words.
pub struct Followers {
    broker: Arc<Broker>,
    seats: BTreeMap<Place, Seat>,
    placed: BTreeMap<TopicIdPartition, (Place, Epoch)>,
    fetchers: u16,
    next_tag: u64,
    stopped: bool,
}

impl Followers {
    pub fn new(broker: Arc<Broker>) -> Followers {
        let fetchers = fetchers_of(&broker);
        Followers {
            broker,
            seats: BTreeMap::new(),
            placed: BTreeMap::new(),
            fetchers,
            next_tag: 0,
            stopped: false,
        }
    }

    fn assign(&mut self, following: Following) {
        let id = following.id;
        let wanted = following.leader.map(|(leader, epoch)| {
            let fetcher = fetcher_of(id, self.fetchers);
            ((leader, fetcher), epoch)
        });
        let known = self.placed.get(&id).map(|(place, _)| *place);
        if let Some(old) = known.filter(|old| wanted.is_none_or(|(new, _)| new != *old)) {
            self.placed.remove(&id);
            if let Some(seat) = self.seats.get_mut(&old) {
                seat.fetcher.unfollow(id);
            }
        }
        let Some((place, epoch)) = wanted else {
            return;
        };
        let backoff = self.broker.settings().replica_fetch_backoff;
        let seat = self.seats.entry(place).or_insert_with(|| Seat {
            fetcher: Fetcher::new(backoff),
            asked: None,
        });
        seat.fetcher.follow(id, epoch);
        self.placed.insert(id, (place, epoch));
    }

    /// Deals the partitions out anew where the number of fetchers changed.
    fn reconfigure(&mut self) {
        let fetchers = fetchers_of(&self.broker);
        if fetchers == self.fetchers {
            return;
        }
        self.fetchers = fetchers;
        let all: Vec<_> = self.placed.iter().map(|(id, at)| (*id, *at)).collect();
        for (id, ((leader, _), epoch)) in all {
            let leader = Some((leader, epoch));
            self.assign(Following { id, leader });
        }
    }

    /// Sends what every fetcher has to ask.
    fn pump(&mut self, now: Now, out: &mut Outbox) {
        let places: Vec<Place> = self.seats.keys().copied().collect();
        for place in places {
            self.pump_one(place, now, out);
        }
    }

    fn pump_one(&mut self, place: Place, now: Now, out: &mut Outbox) {
        let Some(seat) = self.seats.get_mut(&place) else {
            return;
        };
        if seat.asked.is_none() && seat.fetcher.is_empty() {
            self.seats.remove(&place);
            return;
        }
        let broker = &self.broker;
        let Some(order) = seat.fetcher.next(now.mono, |id| standing(broker, id, now)) else {
            return;
        };
        let tag = self.next_tag;
        self.next_tag += 1;
        let (to, lane) = (PeerAddress::Broker(place.0), Lane::Fetch(place.1));
        let deadline = now.mono + broker.settings().replica_socket_timeout;
        let asker = Asker::Followers;
        let call = match order {
            Order::Fetch(order) => {
                seat.asked = Some((tag, Asked::Fetch));
                let request = fetch_request(broker, &order);
                PeerCall {
                    version_max: broker.fetch_version_max(),
                    ..PeerCall::new(to, lane, request, deadline, asker, tag)
                }
            }
            Order::Offsets(asked) => {
                let request = offsets_request(broker, &asked);
                seat.asked = Some((tag, Asked::Offsets(asked)));
                PeerCall::new(to, lane, request, deadline, asker, tag)
            }
        };
        out.call(call);
    }

    fn answered(&mut self, answer: PeerAnswer, now: Now, out: &mut Outbox) {
        let of_tag = |seat: &Seat| {
            seat.asked
                .as_ref()
                .is_some_and(|(tag, _)| *tag == answer.tag)
        };
        let Some(place) = self.seats.iter().find(|(_, s)| of_tag(s)).map(|(p, _)| *p) else {
            return;
        };
        let seat = self.seats.get_mut(&place).expect("it was just found");
        let (_, asked) = seat.asked.take().expect("it has this tag");
        match asked {
            Asked::Fetch => {
                let answer = answer.decode::<FetchRequest>();
                on_fetched(&self.broker, &mut seat.fetcher, answer, now, out);
            }
            Asked::Offsets(asked) => {
                let answer = answer.decode::<ListOffsetsRequest>();
                on_offsets(&self.broker, &mut seat.fetcher, &asked, answer, now, out);
            }
        }
        self.pump_one(place, now, out);
    }
}

fn fetchers_of(broker: &Broker) -> u16 {
    let wanted = broker.layers().current().int("num.replica.fetchers");
    wanted.clamp(1, i32::from(u16::MAX)) as u16
}

/// Partitions of one topic go to different fetchers.
fn fetcher_of(id: TopicIdPartition, fetchers: u16) -> u16 {
    let of_topic = id.topic_id.0.iter().fold(7u32, |sum, byte| {
        sum.wrapping_mul(31).wrapping_add(u32::from(*byte))
    });
    (of_topic.wrapping_add(id.partition as u32) % u32::from(fetchers)) as u16
}

fn standing(broker: &Broker, id: TopicIdPartition, now: Now) -> Option<Standing> {
    let hosted = broker.hosted(id)?;
    let reader = hosted.partition.reader();
    Some(Standing {
        log_end: reader.log_end(),
        log_start: reader.log_start(),
        last_epoch: reader.latest_epoch(),
        throttled: broker.holds_follower_back(&hosted, now),
    })
}

fn fetch_request(broker: &Broker, order: &FetchOrder) -> FetchRequest {
    let settings = broker.settings();
    let partition_bytes_max = settings.replica_fetch_bytes_max;
    let mut topics: Vec<FetchTopic> = Vec::new();
    for (id, ask) in &order.wanted {
        let partition = fetch_partition(id.partition, ask, partition_bytes_max);
        match topics.last_mut().filter(|t| t.topic_id == id.topic_id) {
            Some(topic) => topic.partitions.push(partition),
            None => topics.push(FetchTopic {
                topic_id: id.topic_id,
                partitions: vec![partition],
                ..FetchTopic::default()
            }),
        }
    }
    let mut forgotten: Vec<ForgottenTopic> = Vec::new();
    for id in &order.forgotten {
        match forgotten.last_mut().filter(|t| t.topic_id == id.topic_id) {
            Some(topic) => topic.partitions.push(id.partition),
            None => forgotten.push(ForgottenTopic {
                topic_id: id.topic_id,
                partitions: vec![id.partition],
                ..ForgottenTopic::default()
            }),
        }
    }
    FetchRequest {
        replica_state: ReplicaState {
            replica_id: broker.node().0,
            replica_epoch: broker.broker_epoch(),
        },
        max_wait_ms: settings.replica_fetch_wait_max_ms,
        min_bytes: settings.replica_fetch_min_bytes,
        max_bytes: settings.replica_fetch_response_bytes_max,
        session_id: order.session_id,
        session_epoch: order.session_epoch,
        topics,
        forgotten_topics_data: forgotten,
        ..FetchRequest::default()
    }
}

fn fetch_partition(partition: i32, ask: &Ask, bytes_max: i32) -> FetchPartition {
    FetchPartition {
        partition,
        current_leader_epoch: ask.leader_epoch.0,
        fetch_offset: ask.offset.0,
        last_fetched_epoch: ask.last_epoch.map_or(-1, |epoch| epoch.0),
        log_start_offset: ask.log_start.0,
        partition_max_bytes: bytes_max,
        ..FetchPartition::default()
    }
}

fn offsets_request(
    broker: &Broker,
    asked: &[(TopicIdPartition, Epoch, Which)],
) -> ListOffsetsRequest {
    let mut topics: BTreeMap<Str, Vec<ListOffsetsPartition>> = BTreeMap::new();
    for (id, epoch, which) in asked {
        let Some(name) = broker.topic_name(id.topic_id) else {
            continue; // deleted meanwhile: it gets no answer, and is unfollowed soon
        };
        topics.entry(name).or_default().push(ListOffsetsPartition {
            partition_index: id.partition,
            current_leader_epoch: epoch.0,
            timestamp: match which {
                Which::End => LATEST,
                Which::Start => EARLIEST,
            },
        });
    }
    let topics = topics
        .into_iter()
        .map(|(name, partitions)| ListOffsetsTopic { name, partitions });
    ListOffsetsRequest {
        replica_id: broker.node().0,
        topics: topics.collect(),
        ..ListOffsetsRequest::default()
    }
}

fn on_fetched(
    broker: &Broker,
    fetcher: &mut Fetcher,
    answer: Result<FetchResponse, Unanswered>,
    now: Now,
    out: &mut Outbox,
) {
    let response = match answer {
        Ok(response) => response,
        Err(_) => return fetcher.fetched(Fetched::Lost, now.mono),
    };
    let code = code(response.error_code);
    if !code.is_none() {
        return fetcher.fetched(Fetched::Refused(code), now.mono);
    }
    let session_id = response.session_id;
    fetcher.fetched(Fetched::Answered { session_id }, now.mono);
    for topic in response.responses {
        for data in topic.partitions {
            let id = TopicIdPartition::new(topic.topic_id, data.partition_index);
            on_partition(broker, fetcher, id, data, now, out);
        }
    }
}

fn code(code: i16) -> ErrorCode {
    ErrorCode::from_code(code).unwrap_or(ErrorCode::UnknownServerError)
}

fn on_partition(
    broker: &Broker,
    fetcher: &mut Fetcher,
    id: TopicIdPartition,
    data: PartitionData,
    now: Now,
    out: &mut Outbox,
) {
    let diverges = data.diverging_epoch.end_offset >= 0;
    let told = Told {
        error: code(data.error_code),
        divergence: diverges.then_some(Divergence {
            epoch: Epoch(data.diverging_epoch.epoch),
            end_offset: Offset(data.diverging_epoch.end_offset),
        }),
    };
    let verdict = fetcher.judge(id, told, now.mono);
    let Some(hosted) = broker.hosted(id) else {
        return;
    };
    let (leader_epoch, settled) = match verdict {
        Verdict::Nothing => return,
        Verdict::Append {
            leader_epoch,
            fetched_from,
        } => {
            let copied = Copied {
                broker,
                hosted: &hosted,
                id,
                leader_epoch,
                fetched_from,
            };
            (leader_epoch, copied.append(data, now, out))
        }
        Verdict::Truncate { leader_epoch, told } => {
            let done = hosted.partition.truncate_as_told(leader_epoch, told, now);
            if let Ok(done) = &done {
                let name = &hosted.partition.name;
                info!(partition = %name, end = done.log_end.0, epoch = leader_epoch.0, "truncated to where the leader's log parts");
            }
            (leader_epoch, settle(broker, &hosted, done.map(|_| 1), out))
        }
    };
    fetcher.settled(id, leader_epoch, settled, now.mono);
}

/// What one answer brought for one partition.
struct Copied<'a> {
    broker: &'a Broker,
    hosted: &'a Hosted,
    id: TopicIdPartition,
    leader_epoch: Epoch,
    fetched_from: Offset,
}

impl Copied<'_> {
    fn append(&self, data: PartitionData, now: Now, out: &mut Outbox) -> Settled {
        let bytes = match data.records {
            Some(Records::Bytes(bytes)) => bytes,
            _ => Bytes::new(),
        };
        self.broker.note_copied(self.hosted, bytes.len(), now);
        let batches = match check_replicated(bytes) {
            Ok(batches) => batches,
            Err(why) => {
                let name = &self.hosted.partition.name;
                warn!(partition = %name, "the leader's answer is not taken: {why}");
                return Settled::Again;
            }
        };
        let high_watermark = Offset(data.high_watermark);
        let appended = self.hosted.partition.append_as_follower(
            self.leader_epoch,
            self.fetched_from,
            &batches,
            high_watermark,
            Offset(data.log_start_offset),
            now,
        );
        let appended = appended.and_then(|mut done| {
            if let Some(flush) = done.flush.take() {
                self.hosted.partition.make_durable(&flush, now)?;
            }
            Ok(done)
        });
        let lag = appended.map(|done| {
            if let Some(flush) = done.rolled {
                let partition = self.id;
                out.post(Chore::Flush { partition, flush });
            }
            if done.high_watermark_moved {
                self.broker.high_watermark_moved(self.id, self.hosted, out);
            }
            high_watermark.0 - done.log_end.0
        });
        settle(self.broker, self.hosted, lag, out)
    }
}

/// What a refusal or a failed disk means for the fetcher.
fn settle(
    broker: &Broker,
    hosted: &Hosted,
    done: Result<i64, AppendRefused>,
    out: &mut Outbox,
) -> Settled {
    match done {
        Ok(lag) => Settled::Done { lag },
        // The role changed meanwhile, and the publisher is about to say so.
        Err(AppendRefused::Refused(ErrorCode::FencedLeaderEpoch, _)) => Settled::Again,
        Err(AppendRefused::Refused(code, why)) => {
            let name = &hosted.partition.name;
            warn!(partition = %name, "what the leader sent is not appended: {} {why}", code.name());
            Settled::Again
        }
        Err(AppendRefused::Fault(fault)) => {
            let full = fault.is_full();
            broker.on_fault(fault, out);
            match full {
                true => Settled::Again,
                false => Settled::Failed,
            }
        }
    }
}

fn on_offsets(
    broker: &Broker,
    fetcher: &mut Fetcher,
    asked: &[(TopicIdPartition, Epoch, Which)],
    answer: Result<ListOffsetsResponse, Unanswered>,
    now: Now,
    out: &mut Outbox,
) {
    fetcher.offsets_answered(answer.is_ok(), now.mono);
    let Ok(response) = answer else {
        return;
    };
    let mut answered = BTreeMap::new();
    for topic in &response.topics {
        for data in &topic.partitions {
            let found = match code(data.error_code) {
                ErrorCode::None => Ok(Offset(data.offset)),
                code => Err(code),
            };
            answered.insert((topic.name.clone(), data.partition_index), found);
        }
    }
    for (id, epoch, which) in asked {
        let Some(hosted) = broker.hosted(*id) else {
            continue;
        };
        let key = (Str::copy(&hosted.partition.name.topic), id.partition);
        let missing = Err(ErrorCode::UnknownTopicOrPartition);
        let answer = answered.get(&key).copied().unwrap_or(missing);
        let log_end = hosted.partition.reader().log_end();
        let found = fetcher.judge_offset(*id, (*epoch, *which), answer, log_end, now.mono);
        if let Some(settled) = restart(broker, &hosted, found, now, out) {
            fetcher.settled(*id, *epoch, settled, now.mono);
        }
    }
}

fn restart(
    broker: &Broker,
    hosted: &Hosted,
    found: Found,
    now: Now,
    out: &mut Outbox,
) -> Option<Settled> {
    let partition = &hosted.partition;
    let name = &partition.name;
    let done = match found {
        Found::Nothing => return None,
        Found::TruncateTo {
            leader_epoch,
            offset,
        } => {
            warn!(partition = %name, end = offset.0, "the leader's log ends before this one: truncated to its end");
            partition.truncate_to(leader_epoch, offset, now)
        }
        Found::RestartAt {
            leader_epoch,
            offset,
        } => {
            info!(partition = %name, start = offset.0, "the leader's log starts after this one ends: begun anew there");
            partition.restart_at(leader_epoch, offset, now)
        }
    };
    Some(settle(broker, hosted, done.map(|()| 1), out))
}

impl Mailbox for Followers {
    type Event = FollowersEvent;

    fn step(&mut self, event: FollowersEvent, now: Now, out: &mut Outbox) {
        match event {
            FollowersEvent::Assigned(all) => {
                let mut touched = BTreeSet::new();
                for following in all {
                    self.assign(following);
                    touched.extend(self.placed.get(&following.id).map(|(place, _)| *place));
                }
                for place in touched {
                    self.pump_one(place, now, out);
                }
            }
            FollowersEvent::Reconfigured => {
                self.reconfigure();
                self.pump(now, out);
            }
            FollowersEvent::Answered(answer) => self.answered(answer, now, out),
            FollowersEvent::Stop => self.stopped = true,
        }
    }

    fn tick(&mut self, now: Now, out: &mut Outbox) {
        self.pump(now, out);
    }

    fn deadline(&self) -> Instant {
        let seats = self.seats.values().map(|seat| seat.fetcher.deadline());
        seats.min().unwrap_or(Instant::NEVER)
    }

    fn is_finished(&self) -> bool {
        self.stopped
    }
}
