//! One loaded shard: what waits for an append, for the high watermark, or for its turn.

use std::collections::VecDeque;
use std::time::Duration;

use milena_base::{ErrorCode, Instant, Now, Offset, Prng};

use crate::event::{LoadedRecord, LogEnd, Payload};
use crate::shard::{KeyValue, Marker, Producer, Shard, Token, Turn, Write};
use crate::timers::Timers;

/// A batch that the owner should append now.
pub(crate) enum Batch {
    Plain(Vec<KeyValue>),
    Transactional(Producer, Vec<KeyValue>),
    Marker(Marker),
}

/// Bytes that a record takes in a batch beside key and value, at most.
const RECORD_OVERHEAD_BYTES_MAX: usize = 32;

/// What waits for its turn while an append is under way.
enum Work<S: Shard> {
    Request(Token, S::Request),
    After(S::After, Result<(), ErrorCode>),
    Write(Write<S>),
    EndTransaction(Marker, Token, S::Response),
}

/// What a batch is, for the replay.
#[derive(Clone, Copy)]
enum Kind {
    Plain { replay: bool },
    Within(Producer),
    Marker(Marker),
}

/// The write whose batch is with the owner.
struct Appending<S: Shard> {
    /// What the batch under way holds.
    under_way: Vec<S::Record>,
    /// The batches to follow.
    to_follow: VecDeque<(Vec<S::Record>, Vec<KeyValue>)>,
    kind: Kind,
    answer: Option<(Token, S::Response)>,
    after: Option<S::After>,
}

/// Waits for the high watermark to reach `end`. Ordered by `end` and by `deadline` at once.
struct Parked<S: Shard> {
    end: Offset,
    deadline: Instant,
    answer: Option<(Token, S::Response)>,
    after: Option<S::After>,
}

/// A shard with what the runtime keeps for it. Invariants: `high_watermark` and `written` never go back;
/// `snapshots` ascend and lie above `high_watermark`.
pub(crate) struct Slot<S: Shard> {
    shard: S,
    timers: Timers<S::Timer>,
    committed: S::Snapshot,
    snapshots: VecDeque<(Offset, S::Snapshot)>,
    written: Offset,
    high_watermark: Offset,
    appending: Option<Appending<S>>,
    parked: VecDeque<Parked<S>>,
    queue: VecDeque<Work<S>>,
    replies: Vec<(Token, S::Response)>,
}

/// What every call needs from the runtime.
pub(crate) struct Surroundings<'a> {
    pub now: Now,
    pub prng: &'a mut Prng,
    pub commit_timeout: Duration,
    pub batch_bytes_max: usize,
}

impl<S: Shard> Slot<S> {
    pub(crate) fn new(shard: S) -> Slot<S> {
        let committed = shard.snapshot();
        Slot {
            shard,
            timers: Timers::new(),
            committed,
            snapshots: VecDeque::new(),
            written: Offset::ZERO,
            high_watermark: Offset::ZERO,
            appending: None,
            parked: VecDeque::new(),
            queue: VecDeque::new(),
            replies: Vec::new(),
        }
    }

    pub(crate) fn shard(&self) -> &S {
        &self.shard
    }

    pub(crate) fn committed(&self) -> &S::Snapshot {
        &self.committed
    }

    // Loading.

    /// Replays what was read. The first record that is not yet committed fixes what reads may see.
    pub(crate) fn load(
        &mut self,
        records: Vec<LoadedRecord>,
        high_watermark: Offset,
    ) -> Result<(), String> {
        for record in records {
            if record.offset < high_watermark || !self.snapshots.is_empty() {
                // Committed, or the frontier is known already.
            } else {
                self.committed = self.shard.snapshot();
                self.snapshots
                    .push_back((record.offset, self.committed.clone()));
            }
            match record.payload {
                Payload::EndTransaction { committed } => {
                    self.shard.end_transaction(record.producer_id, committed);
                }
                Payload::Data(data) => match S::decode(data) {
                    Ok(Some(data)) => self.shard.replay(record.offset, record.producer_id, data),
                    Ok(None) => {
                        tracing::warn!(
                            offset = record.offset.0,
                            "unknown kind of record passed over"
                        );
                    }
                    Err(reason) => return Err(format!("record at {}: {reason}", record.offset)),
                },
            }
        }
        Ok(())
    }

    pub(crate) fn finish_load(&mut self, end: LogEnd, around: &mut Surroundings) -> Option<Batch> {
        self.written = end.log_end;
        self.high_watermark = end.high_watermark.min(end.log_end);
        self.snapshots.clear();
        let state = self.shard.snapshot();
        if self.high_watermark >= self.written {
            self.committed = state;
        } else {
            self.snapshots.push_back((self.written, state));
        }
        let write = self.turn(around, |shard, turn| shard.loaded(turn));
        self.begin_or_queue(write, around)
            .or_else(|| self.drive(around))
    }

    // Running.

    pub(crate) fn request(
        &mut self,
        token: Token,
        request: S::Request,
        around: &mut Surroundings,
    ) -> Option<Batch> {
        self.queue.push_back(Work::Request(token, request));
        self.drive(around)
    }

    /// Ends a transaction in the order of everything else.
    pub(crate) fn end_transaction(
        &mut self,
        marker: Marker,
        token: Token,
        response: S::Response,
        around: &mut Surroundings,
    ) -> Option<Batch> {
        let work = Work::EndTransaction(marker, token, response);
        self.queue.push_back(work);
        self.drive(around)
    }

    /// Fails what waited too long, then lets due timers decide.
    pub(crate) fn tick(&mut self, around: &mut Surroundings) -> Option<Batch> {
        while self
            .parked
            .front()
            .is_some_and(|p| p.deadline <= around.now.mono)
        {
            let parked = self.parked.pop_front().expect("it was looked at");
            self.settle(parked.answer, parked.after, Err(ErrorCode::RequestTimedOut));
        }
        self.drive(around)
    }

    pub(crate) fn high_watermark(
        &mut self,
        offset: Offset,
        around: &mut Surroundings,
    ) -> Option<Batch> {
        self.high_watermark = self.high_watermark.max(offset);
        self.commit();
        self.drive(around)
    }

    /// The owner has appended the batch under way, or was refused. An answer without a question is passed over.
    pub(crate) fn appended(
        &mut self,
        result: Result<Offset, ErrorCode>,
        around: &mut Surroundings,
    ) -> Option<Batch> {
        let mut appending = self.appending.take()?;
        match result {
            Err(error) => {
                self.settle(appending.answer, appending.after, Err(error));
                self.drive(around)
            }
            Ok(base) => {
                let records = std::mem::take(&mut appending.under_way);
                self.take_in(base, records, appending.kind);
                if let Some((records, bytes)) = appending.to_follow.pop_front() {
                    appending.under_way = records;
                    self.appending = Some(appending);
                    return Some(Batch::Plain(bytes));
                }
                self.park(appending.answer, appending.after, around);
                self.drive(around)
            }
        }
    }

    /// Every answer that is owed when the shard goes away.
    pub(crate) fn unload(mut self) -> Vec<(Token, S::Response)> {
        let error = ErrorCode::NotCoordinator;
        let mut replies = std::mem::take(&mut self.replies);
        let owed = self.appending.take().and_then(|a| a.answer);
        let parked = self.parked.drain(..).filter_map(|p| p.answer);
        for (token, response) in parked.chain(owed) {
            replies.push((token, S::failed(response, error)));
        }
        for work in self.queue.drain(..) {
            match work {
                Work::Request(token, request) => replies.push((token, S::refused(request, error))),
                Work::Write(write) => {
                    replies.extend(write.answer.map(|(t, r)| (t, S::failed(r, error))));
                }
                Work::EndTransaction(_, token, response) => {
                    replies.push((token, S::failed(response, error)));
                }
                Work::After(..) => {}
            }
        }
        replies.extend(self.shard.unloaded());
        replies
    }

    pub(crate) fn take_replies(&mut self) -> Vec<(Token, S::Response)> {
        std::mem::take(&mut self.replies)
    }

    pub(crate) fn next_deadline(&self) -> Option<Instant> {
        let parked = self.parked.front().map(|p| p.deadline);
        let timer = match self.appending {
            // Timers wait for the append; so does a tick.
            Some(_) => None,
            None => self.timers.next_deadline(),
        };
        [parked, timer].into_iter().flatten().min()
    }

    // Inside.

    /// Takes work and due timers, one after another, until one of them has something to append.
    fn drive(&mut self, around: &mut Surroundings) -> Option<Batch> {
        while self.appending.is_none() {
            let write = match self.queue.pop_front() {
                Some(Work::Request(token, request)) => {
                    self.turn(around, |shard, turn| shard.request(token, request, turn))
                }
                Some(Work::After(after, result)) => {
                    self.turn(around, |shard, turn| shard.after(after, result, turn))
                }
                Some(Work::Write(write)) => Some(write),
                Some(Work::EndTransaction(marker, token, response)) => {
                    return Some(self.begin_marker(marker, token, response));
                }
                None => {
                    let timer = self.timers.pop_due(around.now.mono)?;
                    self.turn(around, |shard, turn| shard.timer(timer, turn))
                }
            };
            if let Some(batch) = self.begin_or_queue(write, around) {
                return Some(batch);
            }
        }
        None
    }

    fn turn<T>(
        &mut self,
        around: &mut Surroundings,
        decide: impl FnOnce(&mut S, &mut Turn<'_, S>) -> T,
    ) -> T {
        let mut turn = Turn {
            now: around.now,
            committed: &self.committed,
            prng: around.prng,
            timers: &mut self.timers,
            replies: &mut self.replies,
        };
        decide(&mut self.shard, &mut turn)
    }

    fn begin_marker(&mut self, marker: Marker, token: Token, response: S::Response) -> Batch {
        self.appending = Some(Appending {
            under_way: Vec::new(),
            to_follow: VecDeque::new(),
            kind: Kind::Marker(marker),
            answer: Some((token, response)),
            after: None,
        });
        Batch::Marker(marker)
    }

    fn begin_or_queue(
        &mut self,
        write: Option<Write<S>>,
        around: &mut Surroundings,
    ) -> Option<Batch> {
        let write = write?;
        if self.appending.is_some() {
            self.queue.push_front(Work::Write(write));
            return None;
        }
        if write.records.is_empty() {
            self.park(write.answer, write.after, around);
            return None;
        }
        let limit = match write.atomic || write.within.is_some() {
            true => usize::MAX,
            false => around.batch_bytes_max,
        };
        let mut to_follow = match divide::<S>(write.records, limit) {
            Ok(batches) => batches,
            Err(reason) => {
                tracing::error!("a record has no bytes: {reason}");
                let error = Err(ErrorCode::UnknownServerError);
                self.settle(write.answer, write.after, error);
                return None;
            }
        };
        let (under_way, bytes) = to_follow.pop_front()?;
        self.appending = Some(Appending {
            under_way,
            to_follow,
            kind: match write.within {
                Some(producer) => Kind::Within(producer),
                None => Kind::Plain {
                    replay: write.replay,
                },
            },
            answer: write.answer,
            after: write.after,
        });
        Some(match write.within {
            Some(producer) => Batch::Transactional(producer, bytes),
            None => Batch::Plain(bytes),
        })
    }

    fn take_in(&mut self, base: Offset, batch: Vec<S::Record>, kind: Kind) {
        debug_assert!(base >= self.written, "the log went back");
        let producer_id = match kind {
            Kind::Within(producer) => producer.id,
            Kind::Plain { .. } | Kind::Marker(_) => -1,
        };
        self.written = base + batch.len() as i64;
        if let Kind::Marker(marker) = kind {
            self.written = base + 1;
            self.shard
                .end_transaction(marker.producer.id, marker.committed);
        }
        if !matches!(kind, Kind::Plain { replay: false }) {
            for (i, record) in batch.into_iter().enumerate() {
                self.shard.replay(base + i as i64, producer_id, record);
            }
        }
        self.snapshots
            .push_back((self.written, self.shard.snapshot()));
        self.commit();
    }

    fn park(
        &mut self,
        answer: Option<(Token, S::Response)>,
        after: Option<S::After>,
        around: &Surroundings,
    ) {
        if answer.is_none() && after.is_none() {
            return;
        }
        self.parked.push_back(Parked {
            end: self.written,
            deadline: around.now.mono + around.commit_timeout,
            answer,
            after,
        });
        self.commit();
    }

    /// Takes over the state at the high watermark and lets go what waited for it.
    fn commit(&mut self) {
        while self
            .snapshots
            .front()
            .is_some_and(|(end, _)| *end <= self.high_watermark)
        {
            (_, self.committed) = self.snapshots.pop_front().expect("it was looked at");
        }
        while self
            .parked
            .front()
            .is_some_and(|p| p.end <= self.high_watermark)
        {
            let parked = self.parked.pop_front().expect("it was looked at");
            self.settle(parked.answer, parked.after, Ok(()));
        }
    }

    fn settle(
        &mut self,
        answer: Option<(Token, S::Response)>,
        after: Option<S::After>,
        result: Result<(), ErrorCode>,
    ) {
        if let Some((token, response)) = answer {
            let response = match result {
                Ok(()) => response,
                Err(error) => S::failed(response, error),
            };
            self.replies.push((token, response));
        }
        if let Some(after) = after {
            // In front of all requests: what was asked before is finished before the next question is looked at.
            let at = self
                .queue
                .iter()
                .take_while(|w| matches!(w, Work::After(..)))
                .count();
            self.queue.insert(at, Work::After(after, result));
        }
    }
}

/// All records in as many batches as it takes to keep each below the limit.
#[allow(clippy::type_complexity)]
fn divide<S: Shard>(
    records: Vec<S::Record>,
    batch_bytes_max: usize,
) -> Result<VecDeque<(Vec<S::Record>, Vec<KeyValue>)>, String> {
    let mut batches = VecDeque::new();
    let (mut batch, mut encoded, mut bytes) = (Vec::new(), Vec::new(), 0usize);
    for record in records {
        let data = S::encode(&record)?;
        let size = data.key.len() + data.value.as_ref().map_or(0, |v| v.len());
        let size = size + RECORD_OVERHEAD_BYTES_MAX;
        if !batch.is_empty() && bytes.saturating_add(size) > batch_bytes_max {
            batches.push_back((std::mem::take(&mut batch), std::mem::take(&mut encoded)));
            bytes = 0;
        }
        bytes = bytes.saturating_add(size);
        batch.push(record);
        encoded.push(data);
    }
    batches.push_back((batch, encoded));
    Ok(batches)
}
