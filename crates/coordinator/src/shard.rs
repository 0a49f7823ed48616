//! What a kind of coordinator brings: its state machine, as the runtime drives it.

use std::fmt::Debug;

use bytes::Bytes;
use milena_base::{ErrorCode, Instant, Now, Offset, Prng};

use crate::timers::Timers;

/// Names a request whose answer is owed. Chosen by whoever sends the request; never 0 meaning "none".
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Token(pub u64);

/// In whose name a transactional batch or a marker is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Producer {
    pub id: i64,
    pub epoch: i16,
}

/// The end of a transaction in one shard's partition, as WriteTxnMarkers brings it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Marker {
    pub producer: Producer,
    /// Epoch of the transaction coordinator that decided.
    pub coordinator_epoch: i32,
    pub committed: bool,
    /// Protocol of the transaction (`transaction.version`); from 2 on each marker has an epoch of its own.
    pub transaction_version: i16,
}

/// A record as it lies in the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyValue {
    pub key: Bytes,
    /// `None` is a tombstone.
    pub value: Option<Bytes>,
}

/// One partition's state machine.
pub trait Shard: Sized {
    type Request: Debug;
    type Response: Debug;
    type Record: Debug;
    /// Names a timer; scheduling a name again moves its deadline.
    type Timer: Ord + Clone + Debug;
    /// What is to be done when a write is committed, or has failed.
    type After: Debug;
    /// The replicated state at one offset; cloning and taking one is cheap.
    type Snapshot: Clone + Debug;

    /// Decides about a request. It answers by [`Turn::reply`], or by the write's answer, or keeps the token for later.
    fn request(
        &mut self,
        token: Token,
        request: Self::Request,
        turn: &mut Turn<'_, Self>,
    ) -> Option<Write<Self>>;

    /// Decides about a deadline that has passed.
    fn timer(&mut self, timer: Self::Timer, turn: &mut Turn<'_, Self>) -> Option<Write<Self>>;

    /// A write is committed; or it was refused with a code, waited too long (`REQUEST_TIMED_OUT`: its records may
    /// yet be committed). Not called for a shard that is unloaded.
    fn after(
        &mut self,
        after: Self::After,
        result: Result<(), ErrorCode>,
        turn: &mut Turn<'_, Self>,
    ) -> Option<Write<Self>>;

    /// Takes a record that stands in the log into the replicated state. `producer_id` is −1 outside of transactions.
    fn replay(&mut self, offset: Offset, producer_id: i64, record: Self::Record);

    /// A transaction of `producer_id` ended.
    fn end_transaction(&mut self, producer_id: i64, committed: bool);

    /// The log was read to its end: timers are to be set.
    fn loaded(&mut self, turn: &mut Turn<'_, Self>) -> Option<Write<Self>>;

    /// The shard goes away; answers for all tokens that it kept.
    fn unloaded(&mut self) -> Vec<(Token, Self::Response)>;

    /// The replicated state as it is now.
    fn snapshot(&self) -> Self::Snapshot;

    /// A record's bytes; the reason where it has none (a string that is too long). Then the write fails as a whole,
    /// with `UNKNOWN_SERVER_ERROR`.
    fn encode(record: &Self::Record) -> Result<KeyValue, String>;

    /// Parses a record; `Ok(None)` for one of a kind that a later release may have written.
    fn decode(record: KeyValue) -> Result<Option<Self::Record>, String>;

    /// The answer to a request that reached no active shard.
    fn refused(request: Self::Request, error: ErrorCode) -> Self::Response;

    /// The answer in place of `response`, whose records could not be committed.
    fn failed(response: Self::Response, error: ErrorCode) -> Self::Response;
}

/// What a decision wants appended, and what then.
#[derive(Debug)]
pub struct Write<S: Shard> {
    pub(crate) records: Vec<S::Record>,
    pub(crate) replay: bool,
    pub(crate) atomic: bool,
    pub(crate) within: Option<Producer>,
    pub(crate) answer: Option<(Token, S::Response)>,
    pub(crate) after: Option<S::After>,
}

impl<S: Shard> Write<S> {
    /// Records to append in one batch and to replay. May be empty: then the answer waits for what was written before.
    pub fn new(records: Vec<S::Record>) -> Write<S> {
        Write {
            records,
            replay: true,
            atomic: true,
            within: None,
            answer: None,
            after: None,
        }
    }

    /// Answers when all is committed.
    #[must_use]
    pub fn answer(mut self, token: Token, response: S::Response) -> Write<S> {
        self.answer = Some((token, response));
        self
    }

    /// Calls [`Shard::after`] when all is committed or has failed.
    #[must_use]
    pub fn after(mut self, after: S::After) -> Write<S> {
        self.after = Some(after);
        self
    }

    /// The records tell what is already so in the soft state: they are not replayed.
    #[must_use]
    pub fn without_replay(mut self) -> Write<S> {
        self.replay = false;
        self
    }

    /// The records are part of this producer's open transaction. They stay in one batch.
    #[must_use]
    pub fn within(mut self, producer: Producer) -> Write<S> {
        self.within = Some(producer);
        self
    }

    /// The records may go in several batches.
    #[must_use]
    pub fn divisible(mut self) -> Write<S> {
        self.atomic = false;
        self
    }

    /// The records, for tests of a shard.
    pub fn records(&self) -> &[S::Record] {
        &self.records
    }
}

/// What a shard has at hand while it decides.
pub struct Turn<'a, S: Shard> {
    pub now: Now,
    /// The replicated state at the high watermark, for answers that leave at once.
    pub committed: &'a S::Snapshot,
    pub prng: &'a mut Prng,
    pub(crate) timers: &'a mut Timers<S::Timer>,
    pub(crate) replies: &'a mut Vec<(Token, S::Response)>,
}

impl<S: Shard> Turn<'_, S> {
    /// Answers at once.
    pub fn reply(&mut self, token: Token, response: S::Response) {
        self.replies.push((token, response));
    }

    /// Sets or moves a timer.
    pub fn schedule(&mut self, timer: S::Timer, deadline: Instant) {
        self.timers.schedule(timer, deadline);
    }

    /// Takes a timer back; one that is not set is no error.
    pub fn cancel(&mut self, timer: &S::Timer) {
        self.timers.cancel(timer);
    }

    /// When a timer is due.
    pub fn deadline(&self, timer: &S::Timer) -> Option<Instant> {
        self.timers.deadline(timer)
    }
}
