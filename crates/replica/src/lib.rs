//! `replica` decides who may write a partition and what is safe to read: one partition as leader or follower, its
//! in-sync replicas and its high watermark. It never opens a socket, reads a clock or wakes anybody: who has to be
//! woken is a return value. A change of the in-sync replicas is a proposal that the caller carries to the controller.
//!
//! Start at [`Partition::append_as_leader`]; the rules that a leader keeps are listed on [`Leader`]. What a follower asks
//! of its leaders is planned in [`fetcher`].
//!
//! Locking: appends, role changes and truncation hold the partition's one lock. Readers take none. They load, in
//! this order: role, log start, high watermark, first unstable offset, log end ([`Partition::offsets`]); a writer
//! publishes in the reverse order: log end, first unstable offset, high watermark, log start, role. As none of
//! them goes back while a replica leads, a reader sees log start ≤ last stable ≤ high watermark ≤ log end.

#![forbid(unsafe_code)]

mod append;
pub mod fetcher;
mod follow;
mod insync;
mod lookup;
mod partition;
mod read;
mod role;
mod verify;

pub use append::{AppendRefused, Appended};
pub use follow::{Replicated, Truncation};
pub use insync::{IsrAnswer, IsrProposal, Noted};
pub use lookup::{Found, Lookup};
pub use partition::{Offsets, Partition, RoleView};
pub use read::{Divergence, Isolation, ReadAnswer, ReadFrom, ReadRefused, Wanted};
pub use role::{Assignment, FetchNote, Follower, Leader, Role};
pub use verify::{Guard, Verification, Vouched};
