//! Partition directories beside Kafka's: the same operations on both logs give the same answers and, after a clean
//! stop, the same bytes. Then each goes on in the other's directory; sometimes after a crash instead of a stop. Some
//! logs have keys, and both cleaners compact them.

mod ours;

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout};

use bytes::Bytes;
use milena_base::{Epoch, Offset, Prng, Timestamp};
use milena_records::{
    BatchBuilder, Compression, ControlType, NewRecord, ValidBatch, control_record_key,
};

use super::java;
use ours::Ours;

const SEEDS: u64 = 40;
const STEPS: u64 = 150;

pub fn run() -> Result<(), String> {
    let mut kafka = Kafka::start()?;
    let (mut compared, mut cleaned) = (0, 0);
    // One life alone, with `SEED`.
    let one: Option<u64> = std::env::var("SEED")
        .ok()
        .and_then(|seed| seed.parse().ok());
    for seed in one.map_or(0..SEEDS, |seed| seed..seed + 1) {
        let lived = Life::new(seed)?.live(&mut kafka);
        let life = lived.map_err(|what| format!("seed {seed}: {what}"))?;
        compared += life.compared;
        cleaned += life.cleanings.count;
    }
    println!(
        "logs: {SEEDS} lives, {compared} answers and files are the same, {cleaned} compactions"
    );
    kafka.stop()
}

/// Kafka's log in a JVM.
struct Kafka {
    child: Child,
    input: Option<ChildStdin>,
    output: BufReader<ChildStdout>,
}

impl Kafka {
    fn start() -> Result<Kafka, String> {
        let mut child = java::start_answering("LogFiles", java::KAFKA, &[])?;
        let input = Some(child.stdin.take().ok_or("no pipe to java")?);
        let output = child.stdout.take().ok_or("no pipe from java")?;
        Ok(Kafka {
            child,
            input,
            output: BufReader::new(output),
        })
    }

    fn answer(&mut self, command: &str) -> Result<String, String> {
        let input = self.input.as_mut().ok_or("java was told to end")?;
        writeln!(input, "{command}").map_err(|e| format!("to java: {e}"))?;
        let mut line = String::new();
        let read = self
            .output
            .read_line(&mut line)
            .map_err(|e| format!("from java: {e}"))?;
        match read {
            0 => Err(format!("Kafka's log ended at {command}")),
            _ => Ok(line.trim_end().to_string()),
        }
    }

    fn stop(mut self) -> Result<(), String> {
        self.input = None;
        let status = self.child.wait().map_err(|e| e.to_string())?;
        status
            .success()
            .then_some(())
            .ok_or_else(|| "java failed".into())
    }
}

/// Also where a life went wrong no JVM stays behind.
impl Drop for Kafka {
    fn drop(&mut self) {
        // It may have ended by itself; then there is nothing to end.
        let _ended = self.child.kill();
        let _status = self.child.wait();
    }
}

/// What a producer wrote last: epoch, first and last sequence of the last batch, open transaction.
#[derive(Clone, Copy, Default)]
struct Producer {
    epoch: i16,
    first: i32,
    next: i32,
    open: bool,
}

/// How far a log is clean, and when it was cleaned last.
#[derive(Clone, Copy)]
struct Cleanings {
    to: i64,
    now: i64,
    count: usize,
}

/// One run of random operations.
struct Life {
    prng: Prng,
    ours: Ours,
    /// Where our log lives now, and Kafka's.
    dirs: [PathBuf; 2],
    options: String,
    segment_bytes: usize,
    epoch: i32,
    clock: i64,
    /// Records have keys, and the cleaners run.
    keyed: bool,
    cleanings: Cleanings,
    producers: BTreeMap<i64, Producer>,
    compared: usize,
    /// The last operations, for the report.
    recent: Vec<String>,
}

impl Life {
    fn new(seed: u64) -> Result<Life, String> {
        let root = java::target_dir().join("interop/logs");
        if root.join(format!("{seed}a")).exists() {
            std::fs::remove_dir_all(&root).map_err(|e| e.to_string())?;
        }
        let mut prng = Prng::new(seed);
        let segment_bytes = 2_000 + prng.below(8_000);
        let interval = prng.below(1_000);
        let keyed = seed % 4 == 3;
        let policy = if keyed { "compact,delete" } else { "delete" };
        Ok(Life {
            ours: Ours {
                log: None,
                compacted: seed % 2 == 1,
            },
            dirs: ["a", "b"].map(|name| root.join(format!("{seed}{name}/t-0"))),
            segment_bytes: segment_bytes as usize,
            options: format!("{segment_bytes} {interval} 30000 {policy}"),
            keyed,
            cleanings: Cleanings {
                to: 0,
                now: 1_000,
                count: 0,
            },
            prng,
            epoch: 0,
            clock: 100,
            producers: BTreeMap::new(),
            compared: 0,
            recent: Vec::new(),
        })
    }

    fn live(mut self, kafka: &mut Kafka) -> Result<Life, String> {
        self.open(kafka, true, "0")?;
        for _ in 0..STEPS {
            self.step(kafka)?;
        }
        self.stop_and_swap(kafka)?;
        self.both(kafka, "close")?;
        Ok(self)
    }

    fn open(&mut self, kafka: &mut Kafka, clean: bool, start: &str) -> Result<(), String> {
        let [ours, theirs] = self.dirs.clone();
        let rest = format!("{clean} 0 {start} {}", self.options);
        let expected = kafka.answer(&format!("open {} {rest}", theirs.display()))?;
        let answer = self
            .ours
            .answer(&format!("open {} {rest}", ours.display()), None)?;
        self.same("open", &answer, &expected)
    }

    fn both(&mut self, kafka: &mut Kafka, command: &str) -> Result<(), String> {
        let expected = kafka.answer(command)?;
        let answer = self.ours.answer(command, None)?;
        self.same(command, &answer, &expected)
    }

    fn same(&mut self, command: &str, ours: &str, kafkas: &str) -> Result<(), String> {
        self.compared += 1;
        self.recent.push(command.to_string());
        let recent = self.recent.len().saturating_sub(20);
        match ours.trim_end() == kafkas {
            true => Ok(()),
            false => Err(format!(
                "after {:?}\n  ours:   {ours}\n  kafkas: {kafkas}",
                &self.recent[recent..]
            )),
        }
    }

    fn step(&mut self, kafka: &mut Kafka) -> Result<(), String> {
        match self.prng.below(40) {
            0..15 => self.append_plain(kafka)?,
            15..22 => self.append_of_producer(kafka)?,
            22..25 => self.end_transaction(kafka)?,
            25..28 => self.replicate(kafka)?,
            28 => self.both(kafka, "roll")?,
            29 => self.both(kafka, "flush")?,
            30 => self.both(kafka, "retain")?,
            31 => self.move_start(kafka)?,
            32 => self.truncate(kafka)?,
            33 => {
                self.epoch += 1;
                self.both(kafka, &format!("lead {}", self.epoch))?;
            }
            34 => self.stop_and_swap(kafka)?,
            35 => self.crash_and_swap(kafka)?,
            36..39 if self.keyed => self.clean(kafka)?,
            _ => self.repeat(kafka)?,
        }
        self.look(kafka)
    }

    /// Asks both everything that a log can be asked.
    fn look(&mut self, kafka: &mut Kafka) -> Result<(), String> {
        self.both(kafka, "high")?;
        self.both(kafka, "describe")?;
        let (start, end) = self.ours.range();
        let from = start + self.prng.below((end - start) as u64 + 1) as i64;
        let bytes = self.prng.below(3_000);
        self.both(kafka, &format!("read {from} {bytes}"))?;
        self.aborted(kafka, from, bytes)?;
        let epoch = self.prng.below(self.epoch as u64 + 2);
        self.both(kafka, &format!("end {epoch}"))?;
        self.both(kafka, "time -3")?;
        let command = format!("time {}", self.prng.below(self.clock as u64 + 20));
        let expected = kafka.answer(&command)?;
        let answer = self.ours.answer(&command, None)?;
        // Kafka gives up where the first segment with so late a record has it below the log's start.
        match expected == "none" && self.ours.starts_inside_a_segment() {
            true => Ok(()),
            false => self.same(&command, &answer, &expected),
        }
    }

    fn append(
        &mut self,
        kafka: &mut Kafka,
        origin: &str,
        batch: ValidBatch,
    ) -> Result<bool, String> {
        let bytes = batch.to_bytes();
        let end = self.ours.range().1;
        let command = format!("append {origin} {} {}", self.epoch, hex(&bytes));
        let expected = kafka.answer(&command)?;
        let answer = self.ours.answer(&command, Some(vec![batch]))?;
        self.same(&command[..command.len().min(60)], &answer, &expected)?;
        // Kafka closes a full segment before it looks whether the batch may be appended at all; we after.
        let rolled = kafka
            .answer("describe")?
            .ends_with(&format!(",{}+0", self.ours.range().1));
        if rolled && self.ours.range().1 > end {
            return Err("the active segment is empty after an append".into());
        }
        if rolled {
            self.ours.answer("roll", None)?;
        }
        Ok(!answer.starts_with("refused"))
    }

    /// Where a slice ends at an index entry Kafka's search may take the entry behind, and so name one transaction
    /// more than need be.
    fn aborted(&mut self, kafka: &mut Kafka, from: i64, bytes: u64) -> Result<(), String> {
        let command = format!("aborted {from} {bytes}");
        let expected = kafka.answer(&command)?;
        let answer = self.ours.answer(&command, None)?;
        let (size, ours) = answer.split_once(' ').unwrap_or((&answer, ""));
        let (their_size, theirs) = expected.split_once(' ').unwrap_or((&expected, ""));
        let is_theirs = |txn: &str| txn.is_empty() || theirs.split(',').any(|other| txn == other);
        match size == their_size && ours.split(',').all(is_theirs) {
            true => Ok(()),
            false => self.same(&command, &answer, &expected),
        }
    }

    /// Both cleaners, with memory for more or fewer keys than there are.
    fn clean(&mut self, kafka: &mut Kafka) -> Result<(), String> {
        self.both(kafka, "high")?;
        self.cleanings.now += self.prng.below(400) as i64;
        let keys = 3 + self.prng.below(30);
        let Cleanings { to, now, .. } = self.cleanings;
        let command = format!("clean {to} {keys} {now}");
        let expected = kafka.answer(&command)?;
        let answer = self.ours.answer(&command, None)?;
        self.same(&command, &answer, &expected)?;
        if let Some(to) = answer.split(' ').nth(2).and_then(|word| word.parse().ok()) {
            self.cleanings.to = to;
            self.cleanings.count += 1;
        }
        match self.prng.chance(1, 2) {
            true => self.stop_and_swap(kafka),
            false => Ok(()),
        }
    }

    fn key(&mut self) -> Option<Vec<u8>> {
        let key = |prng: &mut Prng| format!("key-{}", prng.below(20)).into_bytes();
        self.keyed.then(|| key(&mut self.prng))
    }

    fn fill(&mut self, mut builder: BatchBuilder) -> ValidBatch {
        let value = vec![b'v'; self.prng.below(400) as usize];
        for _ in 0..1 + self.prng.below(4) {
            let key = self.key();
            let is_tombstone = self.keyed && self.prng.chance(1, 5);
            self.clock += self.prng.below(8) as i64;
            let early = self.prng.below(30) as i64;
            let record = NewRecord {
                timestamp: Timestamp((self.clock - early).max(0)),
                key: key.as_deref(),
                value: (!is_tombstone).then_some(&value),
                ..NewRecord::default()
            };
            builder.append(record).expect("a record fits");
        }
        builder.build()
    }

    fn append_plain(&mut self, kafka: &mut Kafka) -> Result<(), String> {
        // What a cleaner compresses anew two libraries make different bytes of.
        let codec = match self.prng.chance(1, 4) && !self.keyed {
            true => Compression::Zstd,
            false => Compression::None,
        };
        let batch = self.fill(BatchBuilder::new(codec));
        self.append(kafka, "CLIENT", batch).map(drop)
    }

    fn append_of_producer(&mut self, kafka: &mut Kafka) -> Result<(), String> {
        let id = self.prng.below(6) as i64;
        let mut producer = self.producers.get(&id).copied().unwrap_or_default();
        if self.prng.chance(1, 10) {
            producer.epoch += 1;
            producer.next = 0;
        }
        // A gap now and then.
        producer.first = producer.next + i32::from(self.prng.chance(1, 8));
        let builder = BatchBuilder::new(Compression::None)
            .producer(id, producer.epoch, producer.first)
            .transactional(id < 3);
        let batch = self.fill(builder);
        producer.next = batch.header().last_sequence() + 1;
        producer.open = id < 3;
        if self.append(kafka, "CLIENT", batch)? {
            self.producers.insert(id, producer);
        }
        Ok(())
    }

    fn repeat(&mut self, kafka: &mut Kafka) -> Result<(), String> {
        let Some((id, producer)) = self.producers.last_key_value() else {
            return Ok(());
        };
        let mut builder = BatchBuilder::new(Compression::None)
            .producer(*id, producer.epoch, producer.first)
            .transactional(*id < 3);
        let record = NewRecord {
            key: self.keyed.then_some(b"key-0"),
            ..NewRecord::default()
        };
        for _ in producer.first..producer.next {
            builder.append(record).expect("a record fits");
        }
        self.append(kafka, "CLIENT", builder.build()).map(drop)
    }

    fn end_transaction(&mut self, kafka: &mut Kafka) -> Result<(), String> {
        let commit = self.prng.chance(1, 2);
        let open = self
            .producers
            .iter_mut()
            .find(|(_, producer)| producer.open);
        let Some((id, producer)) = open else {
            return Ok(());
        };
        producer.open = false;
        let kind = match commit {
            true => ControlType::Commit,
            false => ControlType::Abort,
        };
        let mut builder = BatchBuilder::new(Compression::None)
            .producer(*id, producer.epoch, -1)
            .transactional(true)
            .control(true);
        let record = NewRecord {
            timestamp: Timestamp(self.clock),
            key: Some(&control_record_key(kind)),
            value: Some(&[0, 0, 0, 0, 0, 7]),
            ..NewRecord::default()
        };
        builder.append(record).expect("a marker fits");
        self.append(kafka, "COORDINATOR", builder.build()).map(drop)
    }

    /// Several batches as a follower gets them, perhaps with a gap that compaction made.
    fn replicate(&mut self, kafka: &mut Kafka) -> Result<(), String> {
        let gap = self.prng.below(3) as i64 * i64::from(self.ours.compacted);
        let mut next = self.ours.range().1 + gap;
        let mut batches = Vec::new();
        let mut bytes = Vec::new();
        for _ in 0..1 + self.prng.below(5) {
            let mut batch = self.fill(BatchBuilder::new(Compression::None));
            batch.stamp(Offset(next), Epoch(self.epoch), None);
            if bytes.len() + batch.len() > self.segment_bytes {
                // More than a segment at once Kafka refuses; we take it.
                break;
            }
            next = batch.header().last_offset().0 + 1;
            bytes.extend_from_slice(&batch.to_bytes());
            batches.push(batch);
        }
        let command = format!("append REPLICATION {} {}", self.epoch, hex(&bytes));
        let expected = kafka.answer(&command)?;
        let answer = self.ours.answer(&command, Some(batches))?;
        self.same("append REPLICATION", &answer, &expected)
    }

    /// To the first offset of a batch: inside of one, Kafka's last stable offset falls below the log's start.
    fn move_start(&mut self, kafka: &mut Kafka) -> Result<(), String> {
        let (start, end) = self.ours.range();
        let target = start + self.prng.below((end - start) as u64 + 1) as i64;
        let target = self.ours.batch_at(target)?.max(start);
        self.both(kafka, &format!("start {target}"))
    }

    /// Inside of a batch only in a log that may have gaps.
    fn truncate(&mut self, kafka: &mut Kafka) -> Result<(), String> {
        let (start, end) = self.ours.range();
        let mut target = start + self.prng.below((end - start) as u64 + 1) as i64;
        if !self.ours.compacted && target < end {
            target = self.ours.batch_at(target)?.max(start);
        }
        self.producers.clear();
        self.cleanings.to = self.cleanings.to.min(target);
        self.both(kafka, &format!("truncate {target}"))
    }

    /// A clean stop: the files are the same, and each log goes on in the other's directory.
    fn stop_and_swap(&mut self, kafka: &mut Kafka) -> Result<(), String> {
        let start = self.ours.range().0.to_string();
        self.both(kafka, "close")?;
        self.compared += compare(&self.dirs[0], &self.dirs[1])?;
        self.dirs.swap(0, 1);
        self.open(kafka, true, &start)
    }

    /// A crash of both; each recovers what the other left.
    fn crash_and_swap(&mut self, kafka: &mut Kafka) -> Result<(), String> {
        if self.ours.range().0 > 0 {
            // Kafka then forgets producers and transactions from below the start; we don't.
            return Ok(());
        }
        let start = self.ours.range().0.to_string();
        self.both(kafka, "abandon")?;
        self.dirs.swap(0, 1);
        self.open(kafka, false, &start)
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Compares two partition directories byte by byte; how many files they have.
fn compare(ours: &Path, kafkas: &Path) -> Result<usize, String> {
    let (mine, theirs) = (files(ours)?, files(kafkas)?);
    let names = |files: &BTreeMap<String, Bytes>| files.keys().cloned().collect::<Vec<_>>();
    if names(&mine) != names(&theirs) {
        return Err(format!(
            "files\n  ours:   {:?}\n  kafkas: {:?}",
            names(&mine),
            names(&theirs)
        ));
    }
    for (name, bytes) in &mine {
        if *bytes != theirs[name] {
            let (ours, kafkas) = (ours.display(), kafkas.display());
            return Err(format!("{name} differs between {ours} and {kafkas}"));
        }
    }
    Ok(mine.len())
}

fn files(dir: &Path) -> Result<BTreeMap<String, Bytes>, String> {
    let mut files = BTreeMap::new();
    for entry in std::fs::read_dir(dir).map_err(|e| e.to_string())? {
        let entry = entry.map_err(|e| e.to_string())?;
        let bytes = std::fs::read(entry.path()).map_err(|e| e.to_string())?;
        // Kafka leaves the file empty until there is an epoch.
        let empty = bytes == b"0\n0\n";
        let bytes = if empty {
            Bytes::new()
        } else {
            Bytes::from(bytes)
        };
        files.insert(entry.file_name().to_string_lossy().into_owned(), bytes);
    }
    Ok(files)
}
