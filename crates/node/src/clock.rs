//! The only clock of the server's side.

use std::time::{Duration, Instant as OsInstant, SystemTime, UNIX_EPOCH};

use milena_base::{Instant, Now, Timestamp};

/// Reads the operating system's clocks; time zero is its creation.
#[derive(Clone, Copy, Debug)]
pub struct Clock {
    start: OsInstant,
}

impl Clock {
    pub fn start() -> Clock {
        Clock {
            start: OsInstant::now(),
        }
    }

    pub fn now(&self) -> Now {
        let wall = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .map_or(0, |since| since.as_millis() as i64);
        Now {
            mono: Instant(self.start.elapsed().as_nanos() as u64),
            wall: Timestamp(wall),
        }
    }

    /// How long from now until `at`; zero if it has passed.
    pub fn until(&self, at: Instant) -> Duration {
        at.since(self.now().mono)
    }
}
