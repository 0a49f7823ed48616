//! `coordinator` runs replicated shards: state machines whose records live in one partition each of an internal
//! topic (`__consumer_offsets` and its like). It decides when a shard is loaded and may answer, in which order
//! requests, timers and appends happen, when an answer may leave, and what becomes of it when an append fails.
//! It never knows what a record means, opens no file and no socket, and reads no clock.
//!
//! Start at [`Runtime`]: questions come in by [`Runtime::request`], all that happens by [`Runtime::step`], and the
//! owner carries the [`Effect`]s out. What a kind of coordinator has to bring is [`Shard`].
//!
//! Rules that the runtime keeps:
//! - Deciding ([`Shard::request`], [`Shard::timer`]) writes no replicated state; [`Shard::replay`] is its only writer,
//!   and runs after the append succeeded. So a failed append has nothing to take back.
//! - One append of a shard is under way at a time. Everything that arrives meanwhile waits its turn.
//! - An answer leaves when the high watermark has passed the records that it speaks of, and all before them.
//!   Immediate answers ([`Turn::reply`]) read [`Turn::committed`], the state at the high watermark.
//! - On loss of leadership the shard is dropped whole, and read again from the log when it is elected again.
#![forbid(unsafe_code)]

mod batch;
mod event;
mod place;
mod runtime;
mod shard;
mod slot;
mod timers;

pub use batch::{build_batch, build_marker, build_transactional_batch, read_batches};
pub use event::{Effect, Event, LoadedRecord, LogEnd, Payload};
pub use place::partition_for;
pub use runtime::{Options, Runtime};
pub use shard::{KeyValue, Marker, Producer, Shard, Token, Turn, Write};
