//! The log cleaner: it looks which compacted log is the dirtiest, cleans it step by step, and keeps the checkpoint of
//! how far each log is clean. On a thread of its own, so that flushes and retention never wait for it.
//!
//! `log.cleaner.threads` logs are cleaned side by side, in turns. The memory of a cleaning is taken when it begins and
//! given back when it ends.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use milena_base::{Instant, Now, Offset, Prng, TopicIdPartition, TopicPartition};
use milena_config::NodeConfig;
use milena_log::{CleanError, CleanStep, Cleanable, CleanerOptions, Cleaning, Fault, Log};
use milena_replica::AppendRefused;
use tracing::{info, warn};

use crate::broker::{Broker, Hosted};
use crate::ctx::Outbox;
use crate::mailbox::{Mailbox, Post};

/// A new rate is heeded within this time.
const THROTTLE_PAUSE_S_MAX: f64 = 0.5;

/// What the mailbox is told.
#[derive(Debug)]
pub enum CleanerEvent {
    /// A partition's directory is out of service: what was known of it is void.
    Gone {
        name: TopicPartition,
        dir: usize,
    },
    /// The broker's configuration changed: the next look may be due earlier.
    Reconfigured,
    Stop,
}

impl From<CleanerEvent> for Post {
    fn from(event: CleanerEvent) -> Post {
        Post::Cleaner(event)
    }
}

/// A log that is being cleaned.
struct Job {
    id: TopicIdPartition,
    hosted: Arc<Hosted>,
    cleaning: Cleaning,
    begun: Instant,
    steps: u64,
}

/// A log that is to be cleaned.
struct Candidate {
    id: TopicIdPartition,
    hosted: Arc<Hosted>,
    cleanable: Cleanable,
    high_watermark: Offset,
}

/// See the module's words.
pub struct Cleaner {
    broker: Arc<Broker>,
    prng: Prng,
    /// How far each log is clean, as the checkpoints have it, by directory.
    cleaned: Vec<BTreeMap<TopicPartition, Offset>>,
    /// Logs in which something cannot be cleaned; said once.
    uncleanable: BTreeSet<TopicIdPartition>,
    jobs: VecDeque<Job>,
    next_look: Instant,
    /// Bytes that were read and written beyond what the throttle allowed, and when that was so.
    owed: f64,
    owed_at: Instant,
    /// When the throttle is to be looked at again.
    next_step: Instant,
    stopped: bool,
}

impl Cleaner {
    pub fn new(broker: Arc<Broker>, prng: Prng, now: Now) -> Cleaner {
        let dirs = broker.dirs().all().iter();
        let cleaned = dirs.map(|dir| dir.log_dir.cleaner_offsets().clone());
        let layers = broker.layers();
        let is_enabled = layers.current().boolean("log.cleaner.enable");
        Cleaner {
            cleaned: cleaned.collect(),
            next_look: match is_enabled {
                true => now.mono + backoff(layers.current()),
                false => Instant::NEVER,
            },
            broker,
            prng,
            uncleanable: BTreeSet::new(),
            jobs: VecDeque::new(),
            owed: 0.0,
            owed_at: now.mono,
            next_step: now.mono,
            stopped: false,
        }
    }

    fn jobs_max(&self) -> usize {
        let threads = self.broker.layers().current().int("log.cleaner.threads");
        threads.max(1) as usize
    }

    /// Begins as many cleanings as there is room for, the dirtiest logs first.
    fn look(&mut self, now: Now, out: &mut Outbox) {
        let jobs_max = self.jobs_max();
        let layers = self.broker.layers();
        self.next_look = now.mono + backoff(layers.current());
        if self.jobs.len() >= jobs_max {
            return;
        }
        let mut candidates = self.candidates(now, out);
        candidates.sort_by(|a, b| {
            let ratio = |candidate: &Candidate| candidate.cleanable.dirty_ratio();
            ratio(b).total_cmp(&ratio(a))
        });
        for candidate in candidates.into_iter().take(jobs_max - self.jobs.len()) {
            self.begin(candidate, jobs_max, now, out);
        }
    }

    /// The logs that are to be cleaned. Checkpoints that do not fit their logs are put right.
    fn candidates(&mut self, now: Now, out: &mut Outbox) -> Vec<Candidate> {
        let mut found = Vec::new();
        let mut wrong = BTreeSet::new();
        let all = self.broker.all_hosted();
        self.uncleanable
            .retain(|id| all.iter().any(|(hosted, _)| hosted == id));
        for (id, hosted) in all {
            let is_busy = self.jobs.iter().any(|job| job.id == id);
            let is_offline = self.broker.dirs().get(hosted.dir).is_offline();
            if is_busy || is_offline || self.uncleanable.contains(&id) {
                continue;
            }
            if !hosted.rules().check.compacted {
                continue;
            }
            self.flush_closed(id, &hosted, now, out);
            let name = &hosted.partition.name;
            let cleaned_to = self.cleaned[hosted.dir].get(name).copied();
            let high_watermark = hosted.partition.high_watermark();
            let looked = hosted
                .partition
                .with_log(|log| cleanable(log, cleaned_to, high_watermark, now));
            match looked {
                Some(Ok((cleanable, is_due))) => {
                    if cleanable.is_reset {
                        self.cleaned[hosted.dir].insert(name.clone(), cleanable.first_dirty);
                        wrong.insert(hosted.dir);
                    }
                    if is_due {
                        found.push(Candidate {
                            id,
                            hosted,
                            cleanable,
                            high_watermark,
                        });
                    }
                }
                None => {}
                Some(Err(fault)) => self.broker.on_fault(fault, out),
            }
        }
        for dir in wrong {
            self.write_checkpoint(dir, out);
        }
        found
    }

    /// What a crash left unflushed is not cleaned; mostly there is nothing to do.
    fn flush_closed(&self, id: TopicIdPartition, hosted: &Hosted, now: Now, out: &mut Outbox) {
        let flushed = match hosted.partition.with_log(Log::start_flush_of_closed) {
            Some(Ok(Some(flush))) => hosted.partition.make_durable(&flush, now),
            Some(Err(fault)) => Err(AppendRefused::Fault(fault)),
            Some(Ok(None)) | None => return,
        };
        match flushed {
            Ok(true) => self.broker.wake(id, out),
            Err(AppendRefused::Fault(fault)) => self.broker.on_fault(fault, out),
            Ok(false) | Err(AppendRefused::Refused(..)) => {}
        }
    }

    fn begin(&mut self, candidate: Candidate, jobs_max: usize, now: Now, out: &mut Outbox) {
        let Candidate {
            id,
            hosted,
            cleanable,
            high_watermark,
        } = candidate;
        let options = self.options(jobs_max);
        let begun = hosted
            .partition
            .with_log(|log| log.begin_cleaning(&cleanable, high_watermark, now.wall, &options));
        match begun {
            Some(Ok(cleaning)) => self.jobs.push_back(Job {
                id,
                hosted,
                cleaning,
                begun: now.mono,
                steps: 0,
            }),
            Some(Err(error)) => self.failed(id, &hosted, error, out),
            None => {}
        }
    }

    fn options(&mut self, jobs_max: usize) -> CleanerOptions {
        let layers = self.broker.layers();
        let config = layers.current();
        let jobs = jobs_max as u64;
        let mut secret = [0; 16];
        self.prng.fill(&mut secret);
        CleanerOptions {
            dedupe_buffer_bytes: config.long("log.cleaner.dedupe.buffer.size").max(0) as u64 / jobs,
            dedupe_buffer_load_factor: config.double("log.cleaner.io.buffer.load.factor"),
            io_buffer_bytes: config.int("log.cleaner.io.buffer.size").max(0) as usize
                / jobs_max
                / 2,
            secret,
        }
    }

    /// One step of the job whose turn it is.
    fn work(&mut self, now: Now, out: &mut Outbox) {
        let Some(mut job) = self.jobs.pop_front() else {
            return;
        };
        let hosted = self.broker.hosted(job.id);
        let is_wanted = hosted.is_some_and(|hosted| Arc::ptr_eq(&hosted, &job.hosted))
            && job.hosted.rules().check.compacted;
        job.steps += 1;
        let stepped = match is_wanted {
            true => job.cleaning.step(),
            false => Err(CleanError::Gone),
        };
        match stepped {
            Ok(CleanStep::Worked { bytes }) => {
                self.throttle(bytes, now);
                self.jobs.push_back(job);
            }
            Ok(CleanStep::Ready) => self.place(job, now, out),
            Ok(CleanStep::Done { cleaned_to }) => self.done(job, cleaned_to, now, out),
            Err(error) => self.give_up(job, error, out),
        }
    }

    /// Puts the next step off until the bytes of the last ones are within the rate. Looked at again at least once a
    /// second, since the rate may change.
    fn throttle(&mut self, bytes: u64, now: Now) {
        let layers = self.broker.layers();
        let config = layers.current();
        let rate = config
            .double("log.cleaner.io.max.bytes.per.second")
            .max(1.0);
        let passed = now.mono.since(self.owed_at).as_secs_f64();
        self.owed = (self.owed - passed * rate).max(0.0) + bytes as f64;
        self.owed_at = now.mono;
        let pause = (self.owed / rate).min(THROTTLE_PAUSE_S_MAX);
        self.next_step = now.mono + Duration::from_secs_f64(pause);
    }

    fn place(&mut self, mut job: Job, now: Now, out: &mut Outbox) {
        let cleaning = &mut job.cleaning;
        let placed = job
            .hosted
            .partition
            .with_log(|log| log.put_in_place(cleaning, now));
        match placed {
            Some(Ok(true)) => self.jobs.push_back(job),
            Some(Ok(false)) | None => self.give_up(job, CleanError::Gone, out),
            Some(Err(fault)) => self.give_up(job, CleanError::Fault(fault), out),
        }
    }

    fn done(&mut self, job: Job, cleaned_to: Offset, now: Now, out: &mut Outbox) {
        let name = job.hosted.partition.name.clone();
        let stats = job.cleaning.stats();
        info!(
            partition = %name,
            to = cleaned_to.0,
            keys = stats.keys,
            records = stats.records_read,
            kept = stats.records_kept,
            bytes = stats.bytes_read,
            bytes_kept = stats.bytes_written,
            steps = job.steps,
            ms = now.mono.since(job.begun).as_millis() as u64,
            "cleaned"
        );
        if stats.keyless > 0 {
            warn!(partition = %name, records = stats.keyless, "records without a key were dropped");
        }
        self.cleaned[job.hosted.dir].insert(name, cleaned_to);
        self.write_checkpoint(job.hosted.dir, out);
        // There may be more, here or elsewhere.
        self.next_look = now.mono;
    }

    fn give_up(&mut self, job: Job, error: CleanError, out: &mut Outbox) {
        let Job {
            id,
            hosted,
            cleaning,
            ..
        } = job;
        let abandoned = cleaning.abandon();
        self.failed(id, &hosted, error, out);
        if let Err(fault) = abandoned {
            self.broker.on_fault(fault, out);
        }
    }

    fn failed(
        &mut self,
        id: TopicIdPartition,
        hosted: &Hosted,
        error: CleanError,
        out: &mut Outbox,
    ) {
        match error {
            // It is looked at again.
            CleanError::Gone => {}
            CleanError::Fault(fault) => self.broker.on_fault(fault, out),
            CleanError::Uncleanable(why) => {
                let name = &hosted.partition.name;
                warn!(partition = %name, "it is not cleaned any more until the next start: {why}");
                self.uncleanable.insert(id);
            }
        }
    }

    fn write_checkpoint(&self, dir: usize, out: &mut Outbox) {
        let directory = self.broker.dirs().get(dir);
        if directory.is_offline() {
            return;
        }
        let rows = self.cleaned[dir].iter();
        let written = directory
            .log_dir
            .write_cleaner_offsets(rows.map(|(name, offset)| (name, *offset)));
        if let Err(fault) = written {
            self.broker.on_fault(fault, out);
        }
    }
}

fn backoff(config: &NodeConfig) -> Duration {
    // Not quite never: a node that looks without a pause does nothing else.
    Duration::from_millis(config.long("log.cleaner.backoff.ms").max(1) as u64)
}

/// What of a log may be cleaned, and whether it is to be.
fn cleanable(
    log: &mut Log,
    cleaned_to: Option<Offset>,
    high_watermark: Offset,
    now: Now,
) -> Result<(Cleanable, bool), Fault> {
    let cleanable = log.cleanable(cleaned_to, high_watermark, now.wall)?;
    let is_due = cleanable.is_due(log.options().min_cleanable_dirty_ratio);
    Ok((cleanable, is_due))
}

impl Mailbox for Cleaner {
    type Event = CleanerEvent;

    fn step(&mut self, event: CleanerEvent, now: Now, out: &mut Outbox) {
        match event {
            CleanerEvent::Gone { name, dir } => {
                if self.cleaned[dir].remove(&name).is_some() {
                    self.write_checkpoint(dir, out);
                }
            }
            CleanerEvent::Reconfigured => {
                if self.next_look != Instant::NEVER {
                    let layers = self.broker.layers();
                    self.next_look = self.next_look.min(now.mono + backoff(layers.current()));
                }
            }
            CleanerEvent::Stop => {
                for job in std::mem::take(&mut self.jobs) {
                    self.give_up(job, CleanError::Gone, out);
                }
                self.stopped = true;
            }
        }
    }

    fn tick(&mut self, now: Now, out: &mut Outbox) {
        if self.next_look <= now.mono {
            self.look(now, out);
        }
        if self.next_step <= now.mono && !self.jobs.is_empty() {
            self.throttle(0, now);
            if self.next_step <= now.mono {
                self.work(now, out);
            }
        }
    }

    fn deadline(&self) -> Instant {
        match self.jobs.is_empty() {
            true => self.next_look,
            false => self.next_look.min(self.next_step),
        }
    }

    fn is_finished(&self) -> bool {
        self.stopped
    }
}
