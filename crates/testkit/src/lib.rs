//! `testkit` is what tests share: conversations with state machines as text files ([`check`]), seeded cases
//! ([`for_each_seed`]), temporary directories, a bound on memory ([`peak_memory`]) and real processes
//! ([`Process`]), and a checker of what clients did and saw ([`history`]).
//!
//! It knows nothing of Kafka and is a dev-dependency only. A transcript of a crate lies in its `tests/transcripts`.
#![forbid(unsafe_code)]

mod command;
pub mod history;
mod memory;
mod process;
mod seeds;
mod transcript;

pub use command::Command;
pub use memory::{Peak, peak_memory};
pub use process::{Process, free_ports};
pub use seeds::{Arbitrary, for_each_seed};
pub use transcript::{check, check_each};

/// A directory that is removed when it is dropped.
pub fn temp_dir() -> tempfile::TempDir {
    tempfile::tempdir().expect("a temporary directory can be made")
}
