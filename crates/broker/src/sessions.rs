//! Incremental fetch sessions (KIP-227): what a fetcher asked for and was told, so that it sends and receives
//! only what changed.
//!
//! A session's epoch moves when its request arrives; what was told moves when the answer is built.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use milena_base::{ErrorCode, Instant, Prng, Uuid};
use milena_protocol::fetch_response::PartitionData;
use milena_protocol::{FetchRequest, Str};

/// Session epoch of a request that opens a session.
const EPOCH_INITIAL: i32 = 0;
/// Session epoch of a request outside of any session, or one that closes its session.
const EPOCH_FINAL: i32 = -1;
/// A session that was not used for this long may make room for another.
const EVICTABLE_AFTER: Duration = Duration::from_secs(120);

/// A partition as a fetch request names it: by id from version 13 on, by name before.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct FetchKey {
    pub topic_id: Uuid,
    pub topic: Str,
    pub partition: i32,
}

/// What is wanted of one partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Wanted {
    pub offset: i64,
    pub max_bytes: i32,
    pub current_leader_epoch: i32,
    pub last_fetched_epoch: i32,
    pub log_start: i64,
}

#[derive(Clone, Copy, Debug)]
struct Told {
    high_watermark: i64,
    log_start: i64,
}

const NOTHING_TOLD: Told = Told {
    high_watermark: -1,
    log_start: -1,
};

struct Session {
    epoch: i32,
    used_at: Instant,
    by_id: bool,
    /// In the order in which they are read: those that gave data go to the end.
    order: BTreeMap<u64, FetchKey>,
    partitions: BTreeMap<FetchKey, (u64, Wanted, Told)>,
    next_place: u64,
}

impl Session {
    fn new(by_id: bool, now: Instant) -> Session {
        Session {
            epoch: EPOCH_INITIAL + 1,
            used_at: now,
            by_id,
            order: BTreeMap::new(),
            partitions: BTreeMap::new(),
            next_place: 0,
        }
    }

    fn want(&mut self, key: FetchKey, wanted: Wanted) {
        if let Some(entry) = self.partitions.get_mut(&key) {
            entry.1 = wanted;
            return;
        }
        self.order.insert(self.next_place, key.clone());
        self.partitions
            .insert(key, (self.next_place, wanted, NOTHING_TOLD));
        self.next_place += 1;
    }

    fn forget(&mut self, key: &FetchKey) {
        if let Some((place, ..)) = self.partitions.remove(key) {
            self.order.remove(&place);
        }
    }

    fn wanted(&self) -> Vec<(FetchKey, Wanted)> {
        let keys = self.order.values();
        keys.map(|key| (key.clone(), self.partitions[key].1))
            .collect()
    }

    /// Whether this answer holds anything that the fetcher does not know.
    fn is_news(&mut self, key: &FetchKey, data: &PartitionData) -> bool {
        let Some((place, _, told)) = self.partitions.get_mut(key) else {
            return true;
        };
        let has_records = data.records.as_ref().is_some_and(|r| !r.is_empty());
        let news = has_records
            || data.error_code != 0
            || told.high_watermark != data.high_watermark
            || told.log_start != data.log_start_offset
            || data.preferred_read_replica >= 0
            || data.diverging_epoch.end_offset >= 0;
        told.high_watermark = if data.error_code == 0 {
            data.high_watermark
        } else {
            -1 // so that the end of the error is news
        };
        told.log_start = data.log_start_offset;
        if has_records {
            self.order.remove(place);
            *place = self.next_place;
            self.order.insert(self.next_place, key.clone());
            self.next_place += 1;
        }
        news
    }
}

/// What one fetch is to do.
#[derive(Clone)]
pub struct FetchContext {
    session: Option<(i32, Arc<Mutex<Session>>)>,
    incremental: bool,
    pub wanted: Vec<(FetchKey, Wanted)>,
}

impl FetchContext {
    /// The session id that the answer carries; 0 outside of a session.
    pub fn session_id(&self) -> i32 {
        self.session.as_ref().map_or(0, |(id, _)| *id)
    }

    /// Drops what an incremental answer need not say, and remembers what it says.
    pub fn filter(&self, results: &mut Vec<(FetchKey, PartitionData)>) {
        let Some((_, session)) = &self.session else {
            return;
        };
        let mut session = lock(session);
        let incremental = self.incremental;
        results.retain(|(key, data)| session.is_news(key, data) || !incremental);
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().expect("no panic while a session is held")
}

struct Table {
    sessions: BTreeMap<i32, Arc<Mutex<Session>>>,
    by_use: BTreeSet<(Instant, i32)>,
    prng: Prng,
}

/// All sessions of this node.
pub struct FetchSessions {
    table: Mutex<Table>,
    sessions_max: usize,
}

impl FetchSessions {
    /// `sessions_max`: `max.incremental.fetch.session.cache.slots`.
    pub fn new(sessions_max: usize, prng: Prng) -> FetchSessions {
        let table = Table {
            sessions: BTreeMap::new(),
            by_use: BTreeSet::new(),
            prng,
        };
        FetchSessions {
            table: Mutex::new(table),
            sessions_max,
        }
    }

    /// Finds out what a fetch request wants.
    pub fn open(
        &self,
        request: &FetchRequest,
        version: i16,
        now: Instant,
    ) -> Result<FetchContext, ErrorCode> {
        let by_id = version >= 13;
        if request.session_epoch == EPOCH_FINAL || version < 7 {
            lock(&self.table).close(request.session_id);
            return Ok(outside(wanted_of(request, by_id)));
        }
        if request.session_epoch == EPOCH_INITIAL {
            return Ok(self.start(request, by_id, now));
        }
        self.resume(request, by_id, now)
    }

    fn start(&self, request: &FetchRequest, by_id: bool, now: Instant) -> FetchContext {
        let wanted = wanted_of(request, by_id);
        let mut session = Session::new(by_id, now);
        for (key, want) in &wanted {
            session.want(key.clone(), *want);
        }
        let mut table = lock(&self.table);
        table.close(request.session_id);
        if wanted.is_empty() || !table.make_room(self.sessions_max, now) {
            return outside(wanted);
        }
        let id = table.fresh_id();
        let session = Arc::new(Mutex::new(session));
        table.sessions.insert(id, session.clone());
        table.by_use.insert((now, id));
        FetchContext {
            session: Some((id, session)),
            incremental: false,
            wanted,
        }
    }

    fn resume(
        &self,
        request: &FetchRequest,
        by_id: bool,
        now: Instant,
    ) -> Result<FetchContext, ErrorCode> {
        let id = request.session_id;
        let found = lock(&self.table).sessions.get(&id).cloned();
        let shared = found.ok_or(ErrorCode::FetchSessionIdNotFound)?;
        let (wanted, was_used_at) = {
            let mut session = lock(&shared);
            if session.epoch != request.session_epoch {
                return Err(ErrorCode::InvalidFetchSessionEpoch);
            }
            if session.by_id != by_id {
                return Err(ErrorCode::FetchSessionTopicIdError);
            }
            session.epoch = if session.epoch == i32::MAX {
                1
            } else {
                session.epoch + 1
            };
            for (key, want) in wanted_of(request, by_id) {
                session.want(key, want);
            }
            for key in forgotten_of(request, by_id) {
                session.forget(&key);
            }
            let was_used_at = std::mem::replace(&mut session.used_at, now);
            (session.wanted(), was_used_at)
        };
        let mut table = lock(&self.table);
        if table.by_use.remove(&(was_used_at, id)) {
            table.by_use.insert((now, id));
        }
        Ok(FetchContext {
            session: Some((id, shared)),
            incremental: true,
            wanted,
        })
    }
}

impl Table {
    fn close(&mut self, id: i32) {
        if let Some(session) = self.sessions.remove(&id) {
            self.by_use.retain(|(_, used)| *used != id);
            drop(session);
        }
    }

    fn make_room(&mut self, sessions_max: usize, now: Instant) -> bool {
        if self.sessions.len() < sessions_max {
            return true;
        }
        let Some(&(used_at, id)) = self.by_use.first() else {
            return false;
        };
        let evictable = now.since(used_at) >= EVICTABLE_AFTER;
        if evictable {
            self.close(id);
        }
        evictable
    }

    fn fresh_id(&mut self) -> i32 {
        loop {
            let id = (self.prng.next_u64() & 0x7fff_ffff) as i32;
            if id != 0 && !self.sessions.contains_key(&id) {
                return id;
            }
        }
    }
}

fn outside(wanted: Vec<(FetchKey, Wanted)>) -> FetchContext {
    FetchContext {
        session: None,
        incremental: false,
        wanted,
    }
}

fn key(by_id: bool, topic_id: Uuid, topic: &Str, partition: i32) -> FetchKey {
    FetchKey {
        topic_id: if by_id { topic_id } else { Uuid::ZERO },
        // Detached: a session outlives the request's buffer.
        topic: if by_id {
            Str::default()
        } else {
            topic.detached()
        },
        partition,
    }
}

fn wanted_of(request: &FetchRequest, by_id: bool) -> Vec<(FetchKey, Wanted)> {
    let mut all = Vec::new();
    for topic in &request.topics {
        for partition in &topic.partitions {
            let wanted = Wanted {
                offset: partition.fetch_offset,
                max_bytes: partition.partition_max_bytes,
                current_leader_epoch: partition.current_leader_epoch,
                last_fetched_epoch: partition.last_fetched_epoch,
                log_start: partition.log_start_offset,
            };
            let key = key(by_id, topic.topic_id, &topic.topic, partition.partition);
            all.push((key, wanted));
        }
    }
    all
}

fn forgotten_of(request: &FetchRequest, by_id: bool) -> Vec<FetchKey> {
    let topics = request.forgotten_topics_data.iter();
    topics
        .flat_map(|topic| {
            let partitions = topic.partitions.iter();
            partitions.map(move |p| key(by_id, topic.topic_id, &topic.topic, *p))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use milena_protocol::fetch_request::{FetchPartition, FetchTopic, ForgottenTopic};

    fn request(id: i32, epoch: i32, partitions: &[i32]) -> FetchRequest {
        let partitions = partitions.iter().map(|&partition| FetchPartition {
            partition,
            ..FetchPartition::default()
        });
        let topic = FetchTopic {
            topic_id: Uuid::ONE,
            partitions: partitions.collect(),
            ..FetchTopic::default()
        };
        FetchRequest {
            session_id: id,
            session_epoch: epoch,
            topics: vec![topic],
            ..FetchRequest::default()
        }
    }

    fn answers(context: &FetchContext, high_watermark: i64) -> Vec<(FetchKey, PartitionData)> {
        let keys = context.wanted.iter().map(|(key, _)| key.clone());
        keys.map(|key| {
            let data = PartitionData {
                high_watermark,
                log_start_offset: 0,
                ..PartitionData::default()
            };
            (key, data)
        })
        .collect()
    }

    #[test]
    fn a_session_says_only_what_changed() {
        let sessions = FetchSessions::new(1, Prng::new(1));
        let first = sessions
            .open(&request(0, 0, &[0, 1]), 13, Instant(0))
            .unwrap();
        let id = first.session_id();
        assert_ne!(id, 0);
        let mut said = answers(&first, 5);
        first.filter(&mut said);
        assert_eq!(said.len(), 2);

        let mut next = request(id, 1, &[]);
        next.forgotten_topics_data = vec![ForgottenTopic {
            topic_id: Uuid::ONE,
            partitions: vec![1],
            ..ForgottenTopic::default()
        }];
        let second = sessions.open(&next, 13, Instant(1)).unwrap();
        let mut said = answers(&second, 5);
        assert_eq!(said.len(), 1, "partition 1 was forgotten");
        second.filter(&mut said);
        assert!(said.is_empty());
        let mut said = answers(&second, 6);
        second.filter(&mut said);
        assert_eq!(said.len(), 1);

        let again = sessions.open(&request(id, 1, &[]), 13, Instant(1)).err();
        assert_eq!(again, Some(ErrorCode::InvalidFetchSessionEpoch));
        let by_name = sessions.open(&request(id, 2, &[]), 12, Instant(1)).err();
        assert_eq!(by_name, Some(ErrorCode::FetchSessionTopicIdError));
        let unknown = sessions
            .open(&request(id + 1, 2, &[]), 13, Instant(1))
            .err();
        assert_eq!(unknown, Some(ErrorCode::FetchSessionIdNotFound));
    }

    #[test]
    fn room_is_made_only_of_sessions_long_unused() {
        let sessions = FetchSessions::new(1, Prng::new(1));
        let open = |at| sessions.open(&request(0, 0, &[0]), 13, at).unwrap();
        assert_ne!(open(Instant(0)).session_id(), 0);
        assert_eq!(open(Instant(1)).session_id(), 0);
        assert_ne!(open(Instant::from_millis(120_001)).session_id(), 0);
        assert_eq!(lock(&sessions.table).sessions.len(), 1);
    }
}
