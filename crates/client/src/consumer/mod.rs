//! A consumer: assigned partitions or a member of a classic group. All that is under way (fetches, heartbeats,
//! joining, commits) are tasks whose answers come back as events, so that no call loses one when its time is over.

mod assignor;
mod config;
mod fetch;
mod fetched;
mod group;
mod member;
mod offsets;

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use milena_protocol::{
    FetchResponse, HeartbeatResponse, JoinGroupResponse, OffsetCommitResponse, Str,
    SyncGroupResponse,
};
use tokio::task::JoinSet;
use tokio::time::{Duration, Instant, timeout_at};

pub use assignor::{Assignor, Member, Place};
pub use config::{ConsumerConfig, Reset};
pub use fetched::{ConsumerRecord, Fetched};
pub use member::assigned;
pub use offsets::{OffsetAndEpoch, committed, list_offsets};

use crate::metrics::Seen;
use crate::{Client, Error, Metric};
use group::Group;

/// What is consumed.
pub enum Subscription {
    /// Topics by name, shared with the other members of the group.
    Topics(Vec<Str>),
    /// Every topic whose name is taken, shared likewise.
    Pattern(Box<dyn Fn(&str) -> bool>),
    /// Partitions of our own choice and where to begin in each; no group.
    Partitions(BTreeMap<Place, Start>),
}

/// Where to begin in a partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Start {
    Offset(i64),
    /// By a special timestamp: −1 the end, −2 the beginning.
    Timestamp(i64),
}

/// How far a partition has been read.
#[derive(Clone, Copy, Debug)]
struct Position {
    /// Offset of the next record to hand out; `None` until a lookup has told.
    offset: Option<i64>,
    /// Offset of the next fetch.
    fetch_offset: i64,
    /// Where to begin while there is no offset.
    start: i64,
    leader_epoch: i32,
    /// What was committed last.
    committed: Option<i64>,
    /// No fetch before this, after an error.
    resume: Instant,
}

impl Position {
    fn at(offset: i64, leader_epoch: i32) -> Position {
        Position {
            offset: Some(offset),
            fetch_offset: offset,
            start: -1,
            leader_epoch,
            committed: None,
            resume: Instant::now(),
        }
    }

    fn looked_up(start: i64) -> Position {
        Position {
            offset: None,
            start,
            ..Position::at(-1, -1)
        }
    }
}

/// An answer that came back.
enum Event {
    /// With how long it took.
    Fetched(
        i32,
        BTreeMap<Place, i64>,
        Duration,
        Result<FetchResponse, Error>,
    ),
    Joined(u64, Result<JoinGroupResponse, Error>),
    Synced(u64, Result<SyncGroupResponse, Error>),
    Heartbeat(u64, Result<HeartbeatResponse, Error>),
    Committed(BTreeMap<Place, i64>, Result<OffsetCommitResponse, Error>),
}

/// Reads records. Nothing happens between its calls, so [`Consumer::next`] must be called often enough to keep
/// the membership alive.
pub struct Consumer {
    client: Client,
    config: ConsumerConfig,
    subscription: Subscription,
    group: Option<Group>,
    positions: BTreeMap<Place, Position>,
    fetched: VecDeque<Fetched>,
    /// Brokers with a fetch under way.
    fetching: BTreeSet<i32>,
    under_way: JoinSet<Event>,
    refresh_metadata: Option<Instant>,
    metadata_since: Option<Instant>,
    /// Not before this: lookups of offsets after a failure.
    lookup_resume: Instant,
    failures: u32,
    figures: Figures,
}

/// What has happened so far.
#[derive(Debug, Default)]
struct Figures {
    fetch_bytes: Seen,
    fetch_ms: Seen,
    records: u64,
}

impl Consumer {
    /// `client` becomes the consumer's own. Must be called inside of [`crate::run`].
    pub fn new(
        client: Client,
        config: ConsumerConfig,
        subscription: Subscription,
    ) -> Result<Consumer, Error> {
        let mut positions = BTreeMap::new();
        let group = match &subscription {
            Subscription::Partitions(starts) => {
                for (place, start) in starts {
                    let position = match *start {
                        Start::Offset(offset) => Position::at(offset, -1),
                        Start::Timestamp(timestamp) => Position::looked_up(timestamp),
                    };
                    positions.insert(place.clone(), position);
                }
                None
            }
            _ => {
                let id = config.group_id.clone().ok_or_else(|| {
                    Error::Config("To use the group management a group.id is needed".into())
                })?;
                Some(Group::new(id))
            }
        };
        Ok(Consumer {
            client,
            config,
            subscription,
            group,
            positions,
            fetched: VecDeque::new(),
            fetching: BTreeSet::new(),
            under_way: JoinSet::new(),
            refresh_metadata: None,
            metadata_since: None,
            lookup_resume: Instant::now(),
            failures: 0,
            figures: Figures::default(),
        })
    }

    /// The next record; `None` when none came until then. An error is final.
    pub async fn next(&mut self, until: Instant) -> Result<Option<ConsumerRecord>, Error> {
        loop {
            if let Some(record) = self.buffered()? {
                self.tick_if_due().await?;
                return Ok(Some(record));
            }
            let wake = self.tick().await?.min(until);
            self.wait(wake).await?;
            if Instant::now() >= until && self.fetched.is_empty() {
                return Ok(None);
            }
        }
    }

    /// What Kafka's consumer calls `consumer-fetch-manager-metrics`.
    pub fn metrics(&self) -> Vec<Metric> {
        let figures = &self.figures;
        let values = [
            ("bytes-consumed-total", figures.fetch_bytes.sum()),
            ("fetch-latency-avg", figures.fetch_ms.mean()),
            ("fetch-latency-max", figures.fetch_ms.max()),
            ("fetch-size-avg", figures.fetch_bytes.mean()),
            ("fetch-size-max", figures.fetch_bytes.max()),
            ("fetch-total", figures.fetch_ms.count()),
            ("records-consumed-total", figures.records as f64),
        ];
        let group = "consumer-fetch-manager-metrics";
        let metric = |(name, value)| Metric { group, name, value };
        values.into_iter().map(metric).collect()
    }

    /// The partitions that are read now.
    pub fn assignment(&self) -> BTreeSet<Place> {
        self.positions.keys().cloned().collect()
    }

    /// Whether the next record is decoded already. Between batches that is not known and the answer is no: what is at
    /// its end must not look like more, or a caller that waits for a pause before it writes would wait for ever.
    pub fn has_buffered(&self) -> bool {
        self.fetched.front().is_some_and(Fetched::is_within_batch)
    }

    /// The next record of what has been fetched.
    fn buffered(&mut self) -> Result<Option<ConsumerRecord>, Error> {
        while let Some(first) = self.fetched.front_mut() {
            let Some(position) = self.positions.get_mut(&first.place) else {
                self.fetched.pop_front();
                continue;
            };
            let record = first.next_record()?;
            position.offset = Some(first.next_offset);
            position.leader_epoch = first.leader_epoch;
            if record.is_some() {
                self.figures.records += 1;
                return Ok(record);
            }
            self.fetched.pop_front();
        }
        Ok(None)
    }

    /// Takes the next answer, or sleeps.
    async fn wait(&mut self, wake: Instant) -> Result<(), Error> {
        if self.under_way.is_empty() {
            tokio::time::sleep_until(wake).await;
            return Ok(());
        }
        match timeout_at(wake, self.under_way.join_next()).await {
            Ok(Some(joined)) => {
                let event = joined.expect("a request's task does not panic");
                self.take(event).await
            }
            _ => Ok(()),
        }
    }

    async fn take(&mut self, event: Event) -> Result<(), Error> {
        match event {
            Event::Fetched(broker, asked, took, result) => {
                self.figures.fetch_ms.add(took.as_secs_f64() * 1000.0);
                self.fetching.remove(&broker);
                self.take_fetch(&asked, result)
            }
            Event::Joined(round, result) => self.take_join(round, result).await,
            Event::Synced(round, result) => self.take_sync(round, result).await,
            Event::Heartbeat(round, result) => self.take_heartbeat(round, result),
            Event::Committed(offsets, result) => self.take_commit(&offsets, result),
        }
    }

    /// While records are handed out, the rest must not wait for the buffer's end.
    async fn tick_if_due(&mut self) -> Result<(), Error> {
        if self
            .group
            .as_ref()
            .is_some_and(|group| group.is_due(Instant::now()))
        {
            self.tick().await?;
            let now = Instant::now();
            while !self.under_way.is_empty() {
                match timeout_at(now, self.under_way.join_next()).await {
                    Ok(Some(joined)) => {
                        self.take(joined.expect("a request's task does not panic"))
                            .await?;
                    }
                    _ => break,
                }
            }
        }
        Ok(())
    }

    /// Does what is due; returns when something will be.
    async fn tick(&mut self) -> Result<Instant, Error> {
        let mut wake = Instant::now() + Duration::from_millis(500);
        self.refresh_if_needed().await?;
        if self.group.is_some() {
            wake = wake.min(self.tick_group().await?);
        }
        wake = wake.min(self.look_up_positions().await?);
        Ok(wake.min(self.send_fetches().await))
    }

    /// Metadata of what is consumed; a failure is tried again later.
    async fn refresh_if_needed(&mut self) -> Result<(), Error> {
        let now = Instant::now();
        let age_max = self.client.config().metadata_age_max;
        let old = self
            .metadata_since
            .is_none_or(|since| now.duration_since(since) > age_max);
        if !old && self.refresh_metadata.is_none_or(|at| at > now) {
            return Ok(());
        }
        let topics: Option<Vec<Str>> = match &self.subscription {
            Subscription::Topics(topics) => Some(topics.clone()),
            Subscription::Partitions(starts) => Some(starts.keys().map(|p| p.0.clone()).collect()),
            Subscription::Pattern(_) => None,
        };
        let create = self.config.auto_create_topics;
        match self.client.metadata_once(topics.as_deref(), create).await {
            Ok(answer) => {
                self.metadata_since = Some(Instant::now());
                let missing = answer.topics.iter().any(|topic| topic.error_code != 0);
                self.refresh_metadata = missing.then(|| self.soon());
                self.failures = if missing { self.failures + 1 } else { 0 };
                for topic in &answer.topics {
                    match Error::check(topic.error_code, None) {
                        Err(error) if !error.is_retriable() => return Err(error),
                        _ => {}
                    }
                }
                Ok(())
            }
            Err(error) if error.is_retriable() => {
                self.metadata_since.get_or_insert(Instant::now());
                self.retry_metadata(&error);
                Ok(())
            }
            Err(error) => Err(error),
        }
    }

    fn retry_metadata(&mut self, error: &Error) {
        self.client.tell(error);
        self.refresh_metadata = Some(self.soon());
        self.failures += 1;
    }

    /// When to try again.
    fn soon(&mut self) -> Instant {
        let pause = self.client.config().backoff(self.failures);
        Instant::now() + self.client.jittered(pause)
    }

    /// Commits what was handed out and leaves the group; at most a few seconds.
    pub async fn close(mut self) -> Result<(), Error> {
        let deadline = Instant::now() + Duration::from_secs(5);
        let leaving = async {
            if self.config.auto_commit {
                self.commit_now().await?;
            }
            self.leave().await
        };
        match timeout_at(deadline, leaving).await {
            Ok(result) => result,
            Err(_) => Ok(()),
        }
    }
}
