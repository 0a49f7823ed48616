//! Encoding a checked batch anew, for `compression.type`.

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
    let (id, epoch, sequence) = (
        header.producer_id(),
        header.producer_epoch(),
        header.base_sequence(),
    );
    if id != -1 && (epoch == -1 || sequence < 0) {
        return Err(Rejected::invalid(format!(
            "the batch of producer {id} has the epoch {epoch} and the sequence {sequence}"
        )));
    }
    if id == -1 && header.is_transactional() {
        let why = "a transactional batch needs a producer id";
        return Err(Rejected::invalid(why));
    }
    let mut builder = BatchBuilder::new(target)
        .producer(id, epoch, sequence)
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
    fn from(error: BuildError) -> Rejected {
        let code = match error {
            BuildError::TooLarge => ErrorCode::MessageTooLarge,
            BuildError::NegativeTimestamp(_) | BuildError::OffsetDelta(_) => {
                ErrorCode::InvalidRecord
            }
        };
        Rejected::new(code, error.to_string())
    }
}
