//! Our log under the same commands as `interop/java/LogFiles.java`.

use std::path::Path;
use std::sync::Arc;

use milena_base::{Epoch, Now, Offset, Timestamp, TopicPartition};
use milena_disk::{Disk, OsDisk};
use milena_log::{
    AppendError, AppendOrigin, CleanStep, CleanerOptions, Cleanup, Fault, Log, LogOptions,
    OpenHints, ReadError, remove_files,
};
use milena_records::ValidBatch;

/// The clock stands still, as in the Java program.
const NOW: i64 = 1_000;

pub struct Ours {
    pub log: Option<Log>,
    /// Only such a log may have gaps between its offsets: elsewhere, where unflushed segments do not meet, ours takes
    /// it after a crash for a loss and cuts the log there; Kafka goes on behind it.
    pub compacted: bool,
}

fn now() -> Now {
    Now::from_millis(NOW as u64, NOW)
}

fn words<const N: usize>(command: &str) -> Result<[&str; N], String> {
    let words: Vec<&str> = command.splitn(N, ' ').collect();
    <[&str; N]>::try_from(words).map_err(|_| format!("malformed command {command}"))
}

fn number(word: &str) -> Result<i64, String> {
    word.parse().map_err(|_| format!("malformed number {word}"))
}

fn fault(fault: Fault) -> String {
    format!("fault: {fault}")
}

fn unread(error: ReadError) -> String {
    format!("read: {error:?}")
}

impl Ours {
    fn log(&mut self) -> Result<&mut Log, String> {
        self.log
            .as_mut()
            .ok_or_else(|| "the log is not open".into())
    }

    pub fn range(&self) -> (i64, i64) {
        let log = self.log.as_ref();
        log.map_or((0, 0), |log| (log.log_start().0, log.log_end().0))
    }

    /// First offset of the batch that holds `offset`.
    pub fn batch_at(&mut self, offset: i64) -> Result<i64, String> {
        let log = self.log()?;
        let slice = log
            .reader()
            .read(Offset(offset), 1, log.log_end(), true)
            .map_err(unread)?;
        Ok(slice.first_offset.0)
    }

    pub fn starts_inside_a_segment(&self) -> bool {
        let log = self.log.as_ref();
        log.is_some_and(|log| log.log_start() > log.first_segment_base())
    }

    pub fn answer(
        &mut self,
        command: &str,
        batches: Option<Vec<ValidBatch>>,
    ) -> Result<String, String> {
        let (name, rest) = command.split_once(' ').unwrap_or((command, ""));
        let answer = match name {
            "open" => self.open(rest)?,
            "append" => self.append(rest, batches.unwrap_or_default())?,
            "roll" => {
                let flush = self.log()?.roll(now()).map_err(fault)?;
                self.run(flush)?
            }
            "flush" => {
                self.log()?.flush(now().mono).map_err(fault)?;
                "ok".into()
            }
            "truncate" => {
                let offset = Offset(number(rest)?);
                let changed = self.log()?.truncate_to(offset, now()).map_err(fault)?;
                self.remove_deleted()?;
                changed.to_string()
            }
            "start" => {
                let offset = Offset(number(rest)?);
                self.log()?.advance_log_start(offset);
                "ok".into()
            }
            "lead" => {
                let epoch = Epoch(number(rest)? as i32);
                let end = self.log()?.log_end();
                self.log()?.assign_epoch_start(epoch, end);
                "ok".into()
            }
            "retain" => self.retain()?,
            "clean" => self.clean(rest)?,
            "high" => {
                let end = self.log()?.log_end();
                self.log()?.on_high_watermark(end);
                "ok".into()
            }
            "close" => {
                let log = self.log.take().ok_or("the log is not open")?;
                log.close_cleanly(now()).map_err(fault)?;
                "ok".into()
            }
            "abandon" => {
                self.log = None;
                "ok".into()
            }
            "describe" => self.describe()?,
            "read" => self.read(rest)?,
            "time" => self.time(number(rest)?)?,
            "aborted" => self.aborted(rest)?,
            "end" => self.end_of_epoch(number(rest)? as i32)?,
            _ => return Err(format!("unknown command {name}")),
        };
        Ok(answer)
    }

    fn open(&mut self, rest: &str) -> Result<String, String> {
        let [
            dir,
            clean,
            recovery_point,
            start,
            segment,
            interval,
            retention,
            _,
        ] = words(rest)?;
        let options = LogOptions {
            segment_bytes: number(segment)? as u32,
            index_interval_bytes: number(interval)? as u32,
            retention_bytes: Some(number(retention)? as u64),
            retention_ms: None,
            cleanup: Cleanup {
                compact: self.compacted,
                delete: true,
            },
            delete_retention_ms: 500,
            ..LogOptions::default()
        };
        let hints = OpenHints {
            clean: clean == "true",
            recovery_point: Offset(number(recovery_point)?),
            log_start: Offset(number(start)?),
        };
        let disk: Arc<dyn Disk> = Arc::new(OsDisk);
        let partition = TopicPartition::new("t", 0);
        let opened = Log::open(disk, Path::new(dir), partition, options, hints, now());
        self.log = Some(opened.map_err(fault)?.0);
        Ok("ok".into())
    }

    fn append(&mut self, rest: &str, batches: Vec<ValidBatch>) -> Result<String, String> {
        let [origin, epoch, _] = words(rest)?;
        let epoch = Epoch(number(epoch)? as i32);
        let log = self.log()?;
        let appended = match (origin, <[ValidBatch; 1]>::try_from(batches)) {
            ("CLIENT", Ok([batch])) => {
                log.append_as_leader(batch, epoch, AppendOrigin::Client, now())
            }
            ("COORDINATOR", Ok([batch])) => {
                log.append_as_leader(batch, epoch, AppendOrigin::Coordinator, now())
            }
            (_, batches) => {
                let batches = batches.map_or_else(|many| many, Vec::from);
                let appended = log.append_as_follower(&batches, now());
                appended.and_then(|appended| {
                    let nothing = std::io::Error::other("nothing to append");
                    let dir = log.dir().to_path_buf();
                    appended.ok_or_else(|| AppendError::Fault(Fault::new(&dir, nothing)))
                })
            }
        };
        match appended {
            Ok(appended) => {
                let answer = format!("{} {}", appended.first, appended.last);
                self.run(appended.rolled)?;
                Ok(answer)
            }
            Err(AppendError::Refused(code, _)) => Ok(format!("refused {}", code.name())),
            Err(AppendError::Fault(cause)) => Err(fault(cause)),
        }
    }

    fn run(&mut self, flush: Option<milena_log::Flush>) -> Result<String, String> {
        if let Some(flush) = flush {
            flush.run().map_err(fault)?;
            self.log()?.finish_flush(&flush, now().mono);
        }
        Ok("ok".into())
    }

    fn retain(&mut self) -> Result<String, String> {
        let end = self.log()?.log_end();
        let done = self.log()?.retention(now(), end).map_err(fault)?;
        self.run(done.rolled)?;
        self.remove_deleted()?;
        Ok("ok".into())
    }

    fn clean(&mut self, rest: &str) -> Result<String, String> {
        let [from, keys, now] = words(rest)?;
        let now = Now::from_millis(NOW as u64, number(now)?);
        let log = self.log()?;
        log.flush(now.mono).map_err(fault)?;
        let high = log.log_end();
        let cleanable = log
            .cleanable(Some(Offset(number(from)?)), high, now.wall)
            .map_err(fault)?;
        let (first, end) = (cleanable.first_dirty, cleanable.first_uncleanable);
        if first >= end {
            return Ok(format!("{first} nothing"));
        }
        let options = CleanerOptions {
            dedupe_buffer_bytes: 24 * number(keys)? as u64,
            dedupe_buffer_load_factor: 1.0,
            io_buffer_bytes: 1 << 20,
            secret: [7; 16],
        };
        let begun = log.begin_cleaning(&cleanable, high, now.wall, &options);
        let mut cleaning = begun.map_err(|e| e.to_string())?;
        loop {
            match cleaning.step().map_err(|e| e.to_string())? {
                CleanStep::Worked { .. } => {}
                CleanStep::Ready => {
                    let placed = log.put_in_place(&mut cleaning, now).map_err(fault)?;
                    if !placed {
                        return Err("the log changed while it was cleaned".into());
                    }
                }
                CleanStep::Done { cleaned_to } => {
                    self.remove_deleted()?;
                    return Ok(format!("{first} {end} {cleaned_to}"));
                }
            }
        }
    }

    fn remove_deleted(&mut self) -> Result<(), String> {
        let due = self.log()?.take_due_deletions(milena_base::Instant::NEVER);
        remove_files(&OsDisk, &due).map_err(|e| e.to_string())
    }

    fn describe(&mut self) -> Result<String, String> {
        let log = self.log()?;
        let reader = log.reader();
        let list = |items: Vec<String>| items.join(",");
        let epochs = reader
            .epoch_entries()
            .iter()
            .map(|entry| format!("{}@{}", entry.epoch, entry.start_offset))
            .collect();
        let producers = log
            .active_producers()
            .map(|entry| {
                format!(
                    "{}:{}:{}:{}:{}:{}",
                    entry.producer_id,
                    entry.producer_epoch,
                    entry.last_batch().map_or(-1, |batch| batch.last_sequence),
                    entry.last_timestamp.0,
                    entry.coordinator_epoch,
                    entry.txn_first_offset.unwrap_or(Offset::NONE)
                )
            })
            .collect();
        let segments = reader
            .segment_sizes()
            .iter()
            .map(|(base, size)| format!("{base}+{size}"))
            .collect();
        let (start, end) = (log.log_start(), log.log_end());
        let stable = reader.last_stable_offset(end);
        Ok(format!(
            "{start} {end} stable={stable} epochs={} producers={} segments={}",
            list(epochs),
            list(producers),
            list(segments)
        ))
    }

    fn read(&mut self, rest: &str) -> Result<String, String> {
        let [offset, bytes] = words(rest)?;
        let (offset, bytes) = (Offset(number(offset)?), number(bytes)? as u32);
        let log = self.log()?;
        let slice = log
            .reader()
            .read(offset, bytes, log.log_end(), true)
            .map_err(unread)?;
        Ok(match slice.is_empty() {
            true => "nothing".into(),
            false => format!("{} {}", slice.first_offset, slice.len()),
        })
    }

    fn time(&mut self, timestamp: i64) -> Result<String, String> {
        let reader = self.log()?.reader();
        let found = match timestamp {
            -3 => reader.max_timestamp(),
            _ => reader.offset_for_timestamp(Timestamp(timestamp)),
        };
        Ok(match found.map_err(unread)? {
            Some(found) => {
                let epoch = found.leader_epoch.unwrap_or(Epoch::NONE);
                format!("{} {} {epoch}", found.offset, found.timestamp.0)
            }
            None => "none".into(),
        })
    }

    fn aborted(&mut self, rest: &str) -> Result<String, String> {
        let [offset, bytes] = words(rest)?;
        let (offset, bytes) = (Offset(number(offset)?), number(bytes)? as u32);
        let reader = self.log()?.reader();
        let stable = reader.last_stable_offset(reader.log_end());
        let slice = reader.read(offset, bytes, stable, true).map_err(unread)?;
        let found = match slice.is_empty() {
            true => Vec::new(),
            false => reader.aborted_in_slice(offset, &slice).map_err(unread)?,
        };
        let list: Vec<String> = found
            .iter()
            .map(|txn| format!("{}@{}", txn.producer_id, txn.first_offset))
            .collect();
        Ok(format!("{} {}", slice.len(), list.join(",")))
    }

    fn end_of_epoch(&mut self, epoch: i32) -> Result<String, String> {
        let found = self.log()?.reader().end_offset_for_epoch(Epoch(epoch));
        Ok(found.map_or("none".into(), |(epoch, offset)| format!("{epoch} {offset}")))
    }
}
