//! What comes into the runtime and what it wants done.

use milena_base::{Epoch, ErrorCode, Offset};

use crate::{KeyValue, Marker, Producer, Token};

/// What happened. `shard` is everywhere the partition of the internal topic.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// This node became the partition's leader in `epoch`. [`Effect::Load`] follows where it was not before.
    Elected { shard: i32, epoch: Epoch },
    /// This node leads the partition no more; `epoch` is that of the new leader, `None` where the partition is gone.
    Resigned { shard: i32, epoch: Option<Epoch> },
    /// Records of the log from its start on, in order, in answer to [`Effect::Load`]. `high_watermark` is the
    /// partition's at the time of the reading.
    Records {
        shard: i32,
        epoch: Epoch,
        records: Vec<LoadedRecord>,
        high_watermark: Offset,
    },
    /// All was read up to `log_end` (exclusive), or reading failed. A shard that could not be loaded answers
    /// `NOT_COORDINATOR` until it is elected anew.
    Loaded {
        shard: i32,
        epoch: Epoch,
        result: Result<LogEnd, String>,
    },
    /// The outcome of [`Effect::Append`]: the offset of the first record, or the code of the refusal.
    Appended {
        shard: i32,
        result: Result<Offset, ErrorCode>,
    },
    /// All below `offset` is committed.
    HighWatermark { shard: i32, offset: Offset },
    /// Time has passed; see [`crate::Runtime::next_deadline`].
    Tick,
}

/// Where a load ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LogEnd {
    /// Log end offset: the next record gets it.
    pub log_end: Offset,
    pub high_watermark: Offset,
}

/// What the owner has to do. `R` is what answers are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Effect<R> {
    /// Append one batch to the shard's partition as its leader in `epoch`, and report [`Event::Appended`] for it.
    /// Nothing else is appended to the partition before the report.
    Append {
        shard: i32,
        epoch: Epoch,
        records: Vec<KeyValue>,
    },
    /// The same with a batch of a producer's open transaction.
    AppendTransactional {
        shard: i32,
        epoch: Epoch,
        producer: Producer,
        records: Vec<KeyValue>,
    },
    /// The same with a control batch that ends a transaction.
    AppendMarker {
        shard: i32,
        epoch: Epoch,
        marker: Marker,
    },
    /// Read the partition from its log start to its log end and report [`Event::Records`], then [`Event::Loaded`].
    Load { shard: i32, epoch: Epoch },
    /// The answer to a request.
    Reply { token: Token, response: R },
}

impl<R> Effect<R> {
    /// The effect with another kind of answer, where it is not an answer itself.
    ///
    /// Errors: the answer, for the caller to translate.
    pub fn translate<T>(self) -> Result<Effect<T>, (Token, R)> {
        Ok(match self {
            Effect::Append {
                shard,
                epoch,
                records,
            } => Effect::Append {
                shard,
                epoch,
                records,
            },
            Effect::AppendTransactional {
                shard,
                epoch,
                producer,
                records,
            } => Effect::AppendTransactional {
                shard,
                epoch,
                producer,
                records,
            },
            Effect::AppendMarker {
                shard,
                epoch,
                marker,
            } => Effect::AppendMarker {
                shard,
                epoch,
                marker,
            },
            Effect::Load { shard, epoch } => Effect::Load { shard, epoch },
            Effect::Reply { token, response } => return Err((token, response)),
        })
    }
}

/// One record of a shard's log, or the end of a transaction in it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LoadedRecord {
    pub offset: Offset,
    /// −1 outside of transactions.
    pub producer_id: i64,
    pub payload: Payload,
}

/// What stands at an offset.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Payload {
    Data(KeyValue),
    /// A commit (`true`) or abort marker.
    EndTransaction {
        committed: bool,
    },
}
