//! `replica` decides who may write a partition and what is safe to read: one partition as leader or follower, its
//! in-sync replicas and its high watermark. It never opens a socket, reads a clock or wakes anybody: who has to be
//! woken is a return value.
//!
//! Start at [`Partition::append_as_leader`]; the rules that a leader keeps are listed on [`Leader`].
//!
//! Locking: appends, role changes and truncation hold the partition's one lock. Readers take none: they load the
//! role, then the high watermark, then the log's own view. A writer publishes in the reverse order: log end, then
//! high watermark, then role. So a reader never sees a watermark beyond the end that it will load.

#![forbid(unsafe_code)]

mod lookup;
mod partition;
mod read;
mod role;

pub use lookup::{Found, Lookup};
pub use partition::{AppendRefused, Appended, Partition, RoleView};
pub use read::{Divergence, Isolation, ReadAnswer, ReadFrom, ReadRefused, Wanted};
pub use role::{Assignment, Follower, Leader, Role};
