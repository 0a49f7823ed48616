//! Encoding a checked batch anew: for `compression.type`, or where its offsets do not count up.

use milena_base::ErrorCode;

use crate::{Batch, BatchBuilder, BuildError, CheckOptions, Codec, Rejected, ValidBatch};

/// The same records, in order, under `target`; records' attributes are dropped, as in Kafka. One record is in
/// memory at a time beside what is written.
pub(crate) fn rewrite(
    batch: &Batch,
    target: Codec,
    options: &CheckOptions,
) -> Result<ValidBatch, Rejected> {
    let header = batch.header();
    let mut builder = BatchBuilder::new(target)
        .producer(
            header.producer_id(),
            header.producer_epoch(),
            header.base_sequence(),
        )
        .transactional(header.is_transactional());
    let max = options.message_bytes_max;
    for (index, record) in (0i64..).zip(batch.records(options.limits)) {
        builder.append_record(index, &record?)?;
        if builder.written_bytes() > max {
            return Err(Rejected::too_large(builder.written_bytes(), max));
        }
    }
    let rewritten = builder.build();
    match rewritten.len() > max {
        true => Err(Rejected::too_large(rewritten.len(), max)),
        false => Ok(rewritten),
    }
}

impl From<BuildError> for Rejected {
    /// A negative timestamp is an IllegalArgumentException in Kafka's builder.
    fn from(error: BuildError) -> Rejected {
        let code = match error {
            BuildError::TooLarge => ErrorCode::MessageTooLarge,
            BuildError::NegativeTimestamp(_) | BuildError::OffsetDelta(_) => {
                ErrorCode::UnknownServerError
            }
        };
        Rejected::new(code, error.to_string())
    }
}
