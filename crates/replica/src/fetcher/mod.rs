//! What one fetcher asks of one leader, and what becomes of the answers: the planning half of replication (Kafka's
//! `AbstractFetcherThread`), without a log and without a connection.
//!
//! The owner follows partitions ([`Fetcher::follow`]), carries out [`Order`]s one at a time, and tells what came back:
//! [`Fetcher::fetched`] once for the answer, then for each partition [`Fetcher::judge`], whose [`Verdict`] it carries
//! out on the partition, and [`Fetcher::settled`].
//!
//! Where the logs part is told by the leader in its answer (KIP-595). A partition whose offset the leader does not have
//! is lost: the leader is asked for its end, where this replica is ahead of an unclean leader, and else for its start
//! (KIP-101's cases, as Kafka's `fetchOffsetAndTruncate`). A partition with an error is left out for a while; the
//! others go on.

mod session;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use milena_base::{Epoch, ErrorCode, Instant, Offset, TopicIdPartition};

use crate::Divergence;
use session::Session;

/// Partitions held back by a quota are looked at again after this time at the latest.
const THROTTLED_LOOK: Duration = Duration::from_millis(100);

/// What is asked of one partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ask {
    /// The end of this replica's log.
    pub offset: Offset,
    pub log_start: Offset,
    pub leader_epoch: Epoch,
    /// The epoch of the last record here; `None` in a log without epochs.
    pub last_epoch: Option<Epoch>,
}

/// Where a partition's log stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Standing {
    pub log_end: Offset,
    pub log_start: Offset,
    pub last_epoch: Option<Epoch>,
    /// The follower's quota is spent and this replica is one of those that it holds back.
    pub throttled: bool,
}

/// A fetch. With session epoch 0 it is a full one: `wanted` is all there is; otherwise what changed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FetchOrder {
    pub session_id: i32,
    pub session_epoch: i32,
    pub wanted: Vec<(TopicIdPartition, Ask)>,
    pub forgotten: Vec<TopicIdPartition>,
}

/// Which of the leader's offsets is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Which {
    End,
    Start,
}

/// A request to send. The next comes when this one has been answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Order {
    Fetch(FetchOrder),
    /// ListOffsets, each under the leader epoch.
    Offsets(Vec<(TopicIdPartition, Epoch, Which)>),
}

/// The end of a request as a whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fetched {
    /// With the session that the answer names; 0 for none.
    Answered {
        session_id: i32,
    },
    Refused(ErrorCode),
    /// No answer came.
    Lost,
}

/// What the answer says of one partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Told {
    pub error: ErrorCode,
    pub divergence: Option<Divergence>,
}

/// What the owner is to do with a partition's answer. After it comes [`Fetcher::settled`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Append what came to the log, which ended at `fetched_from`; also where nothing came: the watermarks count.
    Append {
        leader_epoch: Epoch,
        fetched_from: Offset,
    },
    Truncate {
        leader_epoch: Epoch,
        told: Divergence,
    },
    /// Another leader or epoch is followed by now, or the error has been dealt with: nothing to settle.
    Nothing,
}

/// What to do with the leader's offset for a lost partition. After it comes [`Fetcher::settled`], but for `Nothing`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Found {
    /// The leader's log ends before this one.
    TruncateTo {
        leader_epoch: Epoch,
        offset: Offset,
    },
    /// The leader's log begins after this one ends.
    RestartAt {
        leader_epoch: Epoch,
        offset: Offset,
    },
    Nothing,
}

/// What became of carrying out a verdict.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Settled {
    /// `lag`: how far the log is behind the leader's high watermark.
    Done { lag: i64 },
    /// Bad bytes, or the log was elsewhere: try again after a pause.
    Again,
    /// The log can't take more until the partition is followed anew.
    Failed,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Fetching,
    /// The leader said OFFSET_OUT_OF_RANGE.
    Lost(Which),
    Failed,
}

#[derive(Clone, Copy, Debug)]
struct Progress {
    leader_epoch: Epoch,
    state: State,
    /// Left out until then.
    until: Instant,
    lag: Option<i64>,
}

/// See the module's words.
#[derive(Debug)]
pub struct Fetcher {
    partitions: BTreeMap<TopicIdPartition, Progress>,
    session: Session,
    /// What may have changed since it was last asked for.
    dirty: BTreeSet<TopicIdPartition>,
    lost: BTreeSet<TopicIdPartition>,
    delayed: BTreeSet<(Instant, TopicIdPartition)>,
    throttled: BTreeSet<TopicIdPartition>,
    throttled_until: Instant,
    in_flight: bool,
    /// Nothing is asked before, after a request that brought no answer.
    not_before: Instant,
    backoff: Duration,
}

impl Fetcher {
    /// `backoff`: how long a partition with an error is left out (`replica.fetch.backoff.ms`).
    pub fn new(backoff: Duration) -> Fetcher {
        Fetcher {
            partitions: BTreeMap::new(),
            session: Session::default(),
            dirty: BTreeSet::new(),
            lost: BTreeSet::new(),
            delayed: BTreeSet::new(),
            throttled: BTreeSet::new(),
            throttled_until: Instant::NEVER,
            in_flight: false,
            not_before: Instant::ZERO,
            backoff,
        }
    }

    /// Follows a partition in this leader epoch. In the same epoch nothing changes, but a partition that had failed
    /// is tried again.
    pub fn follow(&mut self, id: TopicIdPartition, leader_epoch: Epoch) {
        let known = self.partitions.get(&id);
        if known.is_some_and(|p| p.leader_epoch == leader_epoch && p.state != State::Failed) {
            return;
        }
        self.unfollow(id);
        self.partitions.insert(
            id,
            Progress {
                leader_epoch,
                state: State::Fetching,
                until: Instant::ZERO,
                lag: None,
            },
        );
        self.dirty.insert(id);
    }

    pub fn unfollow(&mut self, id: TopicIdPartition) {
        if let Some(gone) = self.partitions.remove(&id) {
            self.delayed.remove(&(gone.until, id));
        }
        self.lost.remove(&id);
        self.throttled.remove(&id);
        self.dirty.insert(id);
    }

    pub fn is_empty(&self) -> bool {
        self.partitions.is_empty()
    }

    /// The partitions that are followed.
    pub fn followed(&self) -> impl Iterator<Item = TopicIdPartition> + '_ {
        self.partitions.keys().copied()
    }

    /// When [`Fetcher::next`] may have something that it has not now.
    pub fn deadline(&self) -> Instant {
        if self.in_flight || self.partitions.is_empty() {
            return Instant::NEVER;
        }
        let delayed = self.delayed.first().map_or(Instant::NEVER, |(at, _)| *at);
        let lost = self.lost.iter().any(|id| self.asked(*id).is_some());
        let ready = lost || !self.dirty.is_empty() || self.session.wants_any();
        let first = if ready { Instant::ZERO } else { delayed };
        first.min(self.throttled_until).max(self.not_before)
    }

    /// The next request, if there is one to send. `look` says where a partition's log stands; `None`: it is not here.
    pub fn next(
        &mut self,
        now: Instant,
        look: impl Fn(TopicIdPartition) -> Option<Standing>,
    ) -> Option<Order> {
        if self.in_flight || now < self.not_before {
            return None;
        }
        self.wake_delayed(now);
        if let Some(order) = self.offsets_order() {
            self.in_flight = true;
            return Some(order);
        }
        self.dirty.append(&mut self.throttled);
        self.throttled_until = Instant::NEVER;
        for id in std::mem::take(&mut self.dirty) {
            self.reconsider(id, now, &look);
        }
        let order = self.session.order()?;
        self.in_flight = true;
        Some(Order::Fetch(order))
    }

    fn wake_delayed(&mut self, now: Instant) {
        while let Some((at, id)) = self.delayed.first().copied() {
            if at > now {
                return;
            }
            self.delayed.pop_first();
            self.dirty.insert(id);
        }
    }

    fn offsets_order(&self) -> Option<Order> {
        let asked: Vec<_> = self.lost.iter().filter_map(|id| self.asked(*id)).collect();
        (!asked.is_empty()).then_some(Order::Offsets(asked))
    }

    /// What a lost partition asks for, unless it is left out for now.
    fn asked(&self, id: TopicIdPartition) -> Option<(TopicIdPartition, Epoch, Which)> {
        let progress = self.partitions.get(&id)?;
        let waits = self.delayed.contains(&(progress.until, id));
        match progress.state {
            State::Lost(which) if !waits => Some((id, progress.leader_epoch, which)),
            _ => None,
        }
    }

    fn reconsider(
        &mut self,
        id: TopicIdPartition,
        now: Instant,
        look: &impl Fn(TopicIdPartition) -> Option<Standing>,
    ) {
        let fetchable = |p: &&Progress| p.state == State::Fetching && p.until <= now;
        let Some(progress) = self.partitions.get(&id).filter(fetchable) else {
            self.session.forget(id);
            return;
        };
        let Some(standing) = look(id) else {
            self.session.forget(id);
            return;
        };
        // A replica that has caught up is never held back: it would leave the in-sync replicas.
        if standing.throttled && progress.lag.is_none_or(|lag| lag > 0) {
            self.throttled.insert(id);
            self.throttled_until = now + THROTTLED_LOOK;
            self.session.forget(id);
            return;
        }
        let ask = Ask {
            offset: standing.log_end,
            log_start: standing.log_start,
            leader_epoch: progress.leader_epoch,
            last_epoch: standing.last_epoch,
        };
        self.session.want(id, ask);
    }

    /// The request that was under way has ended.
    pub fn fetched(&mut self, end: Fetched, now: Instant) {
        self.in_flight = false;
        match end {
            Fetched::Answered { session_id } => self.session.answered(session_id),
            Fetched::Refused(code) if is_of_sessions(code) => self.session.refused(code),
            Fetched::Refused(_) | Fetched::Lost => {
                self.session.lost();
                self.not_before = now + self.backoff;
            }
        }
    }

    /// The same for [`Order::Offsets`]: whether there is an answer.
    pub fn offsets_answered(&mut self, answered: bool, now: Instant) {
        self.in_flight = false;
        if !answered {
            self.not_before = now + self.backoff;
        }
    }

    /// What to do with a partition of the answer.
    pub fn judge(&mut self, id: TopicIdPartition, told: Told, now: Instant) -> Verdict {
        let (Some(progress), Some(ask)) = (self.partitions.get_mut(&id), self.session.asked(id))
        else {
            return Verdict::Nothing;
        };
        let leader_epoch = progress.leader_epoch;
        if ask.leader_epoch != leader_epoch || progress.state != State::Fetching {
            return Verdict::Nothing;
        }
        match told.error {
            ErrorCode::None => match told.divergence {
                Some(told) => Verdict::Truncate { leader_epoch, told },
                None => Verdict::Append {
                    leader_epoch,
                    fetched_from: ask.offset,
                },
            },
            ErrorCode::OffsetOutOfRange => {
                progress.state = State::Lost(Which::End);
                self.lost.insert(id);
                self.dirty.insert(id);
                Verdict::Nothing
            }
            ErrorCode::FencedLeaderEpoch => {
                self.fail(id);
                Verdict::Nothing
            }
            _ => {
                self.leave_out(id, now);
                Verdict::Nothing
            }
        }
    }

    /// What to do with the leader's offset for a lost partition whose log ends at `log_end`.
    pub fn judge_offset(
        &mut self,
        id: TopicIdPartition,
        asked: (Epoch, Which),
        answer: Result<Offset, ErrorCode>,
        log_end: Offset,
        now: Instant,
    ) -> Found {
        let Some(progress) = self.partitions.get_mut(&id) else {
            return Found::Nothing;
        };
        let (leader_epoch, which) = asked;
        if progress.leader_epoch != leader_epoch || progress.state != State::Lost(which) {
            return Found::Nothing;
        }
        match (answer, which) {
            (Ok(end), Which::End) if end < log_end => Found::TruncateTo {
                leader_epoch,
                offset: end,
            },
            (Ok(_), Which::End) => {
                progress.state = State::Lost(Which::Start);
                Found::Nothing
            }
            (Ok(start), Which::Start) if start > log_end => Found::RestartAt {
                leader_epoch,
                offset: start,
            },
            (Ok(_), Which::Start) => {
                self.found(id);
                Found::Nothing
            }
            (Err(ErrorCode::FencedLeaderEpoch), _) => {
                self.fail(id);
                Found::Nothing
            }
            (Err(_), _) => {
                self.leave_out(id, now);
                Found::Nothing
            }
        }
    }

    /// A verdict was carried out; `leader_epoch` is that of the verdict.
    pub fn settled(
        &mut self,
        id: TopicIdPartition,
        leader_epoch: Epoch,
        settled: Settled,
        now: Instant,
    ) {
        let Some(progress) = self.partitions.get_mut(&id) else {
            return;
        };
        if progress.leader_epoch != leader_epoch {
            return;
        }
        match settled {
            Settled::Done { lag } => {
                progress.lag = Some(lag);
                match progress.state {
                    State::Lost(_) => self.found(id),
                    State::Fetching | State::Failed => drop(self.dirty.insert(id)),
                }
            }
            Settled::Again => self.leave_out(id, now),
            Settled::Failed => self.fail(id),
        }
    }

    fn found(&mut self, id: TopicIdPartition) {
        self.lost.remove(&id);
        self.dirty.insert(id);
        if let Some(progress) = self.partitions.get_mut(&id) {
            progress.state = State::Fetching;
        }
    }

    fn leave_out(&mut self, id: TopicIdPartition, now: Instant) {
        self.dirty.insert(id);
        if let Some(progress) = self.partitions.get_mut(&id) {
            self.delayed.remove(&(progress.until, id));
            progress.until = now + self.backoff;
            self.delayed.insert((progress.until, id));
        }
    }

    fn fail(&mut self, id: TopicIdPartition) {
        self.lost.remove(&id);
        self.dirty.insert(id);
        if let Some(progress) = self.partitions.get_mut(&id) {
            progress.state = State::Failed;
        }
    }
}

fn is_of_sessions(code: ErrorCode) -> bool {
    matches!(
        code,
        ErrorCode::FetchSessionIdNotFound
            | ErrorCode::InvalidFetchSessionEpoch
            | ErrorCode::FetchSessionTopicIdError
    )
}
