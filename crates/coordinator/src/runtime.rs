//! The shards of one internal topic on this node.

use std::collections::BTreeMap;
use std::time::Duration;

use milena_base::{Epoch, ErrorCode, Instant, Now, Offset, Prng};

use crate::event::{Effect, Event, LoadedRecord, LogEnd};
use crate::shard::{Marker, Shard, Token};
use crate::slot::{Batch, Slot, Surroundings};

/// How the runtime behaves, whatever its shards.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// How long an answer waits for the high watermark (`offsets.commit.timeout.ms`).
    pub commit_timeout: Duration,
    /// Records that need not stay together are cut into batches of at most so many bytes.
    pub batch_bytes_max: usize,
}

impl Default for Options {
    fn default() -> Options {
        Options {
            commit_timeout: Duration::from_millis(5000),
            batch_bytes_max: 512 * 1024,
        }
    }
}

/// What this node has of a partition that it leads.
enum Stage<S: Shard> {
    Loading(Slot<S>),
    Active(Slot<S>),
    Failed,
}

struct Led<S: Shard> {
    epoch: Epoch,
    stage: Stage<S>,
}

type Maker<S> = Box<dyn Fn(i32) -> S + Send + Sync>;

/// Single-owner mailbox over all shards of one kind that this node leads.
pub struct Runtime<S: Shard> {
    options: Options,
    prng: Prng,
    make: Maker<S>,
    shards: BTreeMap<i32, Led<S>>,
}

impl<S: Shard> Runtime<S> {
    /// `make` builds an empty shard for a partition.
    pub fn new(
        options: Options,
        prng: Prng,
        make: impl Fn(i32) -> S + Send + Sync + 'static,
    ) -> Runtime<S> {
        Runtime {
            options,
            prng,
            make: Box::new(make),
            shards: BTreeMap::new(),
        }
    }

    /// Asks a shard. Exactly one [`Effect::Reply`] follows, at some time, for the token.
    pub fn request(
        &mut self,
        shard: i32,
        token: Token,
        request: S::Request,
        now: Now,
        out: &mut Vec<Effect<S::Response>>,
    ) {
        match self.availability(shard) {
            Ok(()) => self.with(shard, now, out, |slot, around| {
                slot.request(token, request, around)
            }),
            Err(error) => {
                let response = S::refused(request, error);
                out.push(Effect::Reply { token, response });
            }
        }
    }

    /// Appends the end of a transaction to a shard's log, after all that it was asked before. Exactly one
    /// [`Effect::Reply`] follows: `response` when the marker is committed, or [`Shard::failed`] of it.
    pub fn end_transaction(
        &mut self,
        shard: i32,
        token: Token,
        marker: Marker,
        response: S::Response,
        now: Now,
        out: &mut Vec<Effect<S::Response>>,
    ) {
        match self.availability(shard) {
            Ok(()) => self.with(shard, now, out, |slot, around| {
                slot.end_transaction(marker, token, response, around)
            }),
            Err(error) => {
                let response = S::failed(response, error);
                out.push(Effect::Reply { token, response });
            }
        }
    }

    /// Takes one event and says what is to be done for it, in order.
    pub fn step(&mut self, event: Event, now: Now, out: &mut Vec<Effect<S::Response>>) {
        match event {
            Event::Elected { shard, epoch } => self.elected(shard, epoch, out),
            Event::Resigned { shard, epoch } => self.resigned(shard, epoch, out),
            Event::Records {
                shard,
                epoch,
                records,
                high_watermark,
            } => self.load(shard, epoch, records, high_watermark),
            Event::Loaded {
                shard,
                epoch,
                result,
            } => self.loaded(shard, epoch, result, now, out),
            Event::Appended { shard, result } => {
                self.with(shard, now, out, |slot, around| {
                    slot.appended(result, around)
                });
            }
            Event::HighWatermark { shard, offset } => {
                self.with(shard, now, out, |slot, around| {
                    slot.high_watermark(offset, around)
                });
            }
            Event::Tick => {
                let active: Vec<i32> = self.active().collect();
                for shard in active {
                    self.with(shard, now, out, |slot, around| slot.tick(around));
                }
            }
        }
    }

    /// When the next [`Event::Tick`] is wanted; earlier ones do no harm.
    pub fn next_deadline(&self) -> Option<Instant> {
        let deadlines = self.shards.values().map(|led| match &led.stage {
            Stage::Active(slot) => slot.next_deadline(),
            Stage::Loading(_) | Stage::Failed => None,
        });
        deadlines.flatten().min()
    }

    /// Why a shard cannot be asked now, if it cannot: `NOT_COORDINATOR` or `COORDINATOR_LOAD_IN_PROGRESS`.
    pub fn availability(&self, shard: i32) -> Result<(), ErrorCode> {
        match self.shards.get(&shard).map(|led| &led.stage) {
            Some(Stage::Active(_)) => Ok(()),
            Some(Stage::Loading(_)) => Err(ErrorCode::CoordinatorLoadInProgress),
            Some(Stage::Failed) | None => Err(ErrorCode::NotCoordinator),
        }
    }

    /// Partitions that this node leads, whatever their stage.
    pub fn led(&self) -> impl Iterator<Item = i32> + '_ {
        self.shards.keys().copied()
    }

    /// Partitions whose shards answer, ascending.
    pub fn active(&self) -> impl Iterator<Item = i32> + '_ {
        let active =
            |(&shard, led): (&i32, &Led<S>)| matches!(led.stage, Stage::Active(_)).then_some(shard);
        self.shards.iter().filter_map(active)
    }

    /// An active shard and its committed state, for metrics and tests.
    pub fn peek(&self, shard: i32) -> Option<(&S, &S::Snapshot)> {
        match &self.shards.get(&shard)?.stage {
            Stage::Active(slot) => Some((slot.shard(), slot.committed())),
            Stage::Loading(_) | Stage::Failed => None,
        }
    }

    /// A shard that is loading or loaded stays: no other leader was there in between, or we had been told to resign.
    fn elected(&mut self, shard: i32, epoch: Epoch, out: &mut Vec<Effect<S::Response>>) {
        if let Some(led) = self.shards.get_mut(&shard) {
            if epoch <= led.epoch {
                return;
            }
            if let Stage::Active(_) = led.stage {
                led.epoch = epoch;
                return;
            }
        }
        let stage = Stage::Loading(Slot::new((self.make)(shard)));
        self.shards.insert(shard, Led { epoch, stage });
        out.push(Effect::Load { shard, epoch });
    }

    fn resigned(&mut self, shard: i32, epoch: Option<Epoch>, out: &mut Vec<Effect<S::Response>>) {
        let stale = |led: &Led<S>| epoch.is_some_and(|epoch| epoch <= led.epoch);
        if self.shards.get(&shard).is_none_or(stale) {
            return;
        }
        let Some(led) = self.shards.remove(&shard) else {
            return;
        };
        if let Stage::Active(slot) | Stage::Loading(slot) = led.stage {
            let replies = slot.unload().into_iter();
            out.extend(replies.map(|(token, response)| Effect::Reply { token, response }));
        }
    }

    fn load(
        &mut self,
        shard: i32,
        epoch: Epoch,
        records: Vec<LoadedRecord>,
        high_watermark: Offset,
    ) {
        let Some(led) = self.shards.get_mut(&shard).filter(|l| l.epoch == epoch) else {
            return;
        };
        let Stage::Loading(slot) = &mut led.stage else {
            return;
        };
        if let Err(reason) = slot.load(records, high_watermark) {
            tracing::error!(
                shard,
                "a coordinator's partition could not be loaded: {reason}"
            );
            led.stage = Stage::Failed;
        }
    }

    fn loaded(
        &mut self,
        shard: i32,
        epoch: Epoch,
        result: Result<LogEnd, String>,
        now: Now,
        out: &mut Vec<Effect<S::Response>>,
    ) {
        let Some(led) = self.shards.get_mut(&shard).filter(|l| l.epoch == epoch) else {
            return;
        };
        let stage = std::mem::replace(&mut led.stage, Stage::Failed);
        let Stage::Loading(slot) = stage else {
            led.stage = stage;
            return;
        };
        match result {
            Ok(end) => {
                led.stage = Stage::Active(slot);
                self.with(shard, now, out, |slot, around| {
                    slot.finish_load(end, around)
                });
            }
            Err(reason) => {
                tracing::error!(
                    shard,
                    "a coordinator's partition could not be read: {reason}"
                );
            }
        }
    }

    /// Lets an active shard work, and passes on what it wants: answers first, then the append.
    fn with(
        &mut self,
        shard: i32,
        now: Now,
        out: &mut Vec<Effect<S::Response>>,
        work: impl FnOnce(&mut Slot<S>, &mut Surroundings<'_>) -> Option<Batch>,
    ) {
        let Some(led) = self.shards.get_mut(&shard) else {
            return;
        };
        let Stage::Active(slot) = &mut led.stage else {
            return;
        };
        let mut around = Surroundings {
            now,
            prng: &mut self.prng,
            commit_timeout: self.options.commit_timeout,
            batch_bytes_max: self.options.batch_bytes_max,
        };
        let batch = work(slot, &mut around);
        let replies = slot.take_replies().into_iter();
        out.extend(replies.map(|(token, response)| Effect::Reply { token, response }));
        let epoch = led.epoch;
        out.extend(batch.map(|batch| match batch {
            Batch::Plain(records) => Effect::Append {
                shard,
                epoch,
                records,
            },
            Batch::Transactional(producer, records) => Effect::AppendTransactional {
                shard,
                epoch,
                producer,
                records,
            },
            Batch::Marker(marker) => Effect::AppendMarker {
                shard,
                epoch,
                marker,
            },
        }));
    }
}
