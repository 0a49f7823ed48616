//! Compaction: the rules one by one, then any sequence of events beside a naive model, with crashes at any call.

mod crashes;
mod life;
mod model;
mod rules;

use milena_base::Offset;
use milena_log::{CleanError, CleanStats, CleanStep, CleanerOptions, Cleanup, Log, LogOptions};

use crate::harness::at;

pub fn compacted() -> LogOptions {
    LogOptions {
        segment_bytes: 2_000,
        index_interval_bytes: 256,
        retention_ms: None,
        cleanup: Cleanup {
            delete: false,
            compact: true,
        },
        min_cleanable_dirty_ratio: 0.0,
        delete_retention_ms: 1_000,
        ..LogOptions::default()
    }
}

pub fn cleaner() -> CleanerOptions {
    CleanerOptions {
        dedupe_buffer_bytes: 1 << 16,
        dedupe_buffer_load_factor: 0.9,
        io_buffer_bytes: 700,
        secret: [3; 16],
    }
}

/// Cleans what can be cleaned at a time; where the log is clean to, and what it took. Everything is committed.
pub fn clean(
    log: &mut Log,
    cleaned_to: Option<Offset>,
    now: i64,
    options: &CleanerOptions,
) -> Result<(Offset, CleanStats), CleanError> {
    let now = at(now);
    let high_watermark = log.log_end();
    log.on_high_watermark(high_watermark);
    log.flush(now.mono).map_err(CleanError::Fault)?;
    let cleanable = log
        .cleanable(cleaned_to, high_watermark, now.wall)
        .map_err(CleanError::Fault)?;
    let mut cleaning = log.begin_cleaning(&cleanable, high_watermark, now.wall, options)?;
    for _ in 0..100_000 {
        match cleaning.step()? {
            CleanStep::Worked { .. } => {}
            CleanStep::Ready => {
                let placed = log.put_in_place(&mut cleaning, now);
                if !placed.map_err(CleanError::Fault)? {
                    cleaning.abandon().map_err(CleanError::Fault)?;
                    return Err(CleanError::Gone);
                }
            }
            CleanStep::Done { cleaned_to } => return Ok((cleaned_to, cleaning.stats())),
        }
    }
    panic!("a cleaning ends");
}
