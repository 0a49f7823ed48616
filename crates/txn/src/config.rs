//! What the broker's configuration says about transactions.

/// Defaults are Kafka's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TxnConfig {
    /// `transaction.max.timeout.ms`.
    pub timeout_ms_max: i32,
    /// `transactional.id.expiration.ms`.
    pub id_expiration_ms: i64,
    /// `transaction.abort.timed.out.transaction.cleanup.interval.ms`.
    pub abort_interval_ms: u64,
    /// `transaction.remove.expired.transaction.cleanup.interval.ms`.
    pub expire_interval_ms: u64,
    /// How long an answer waits for its records to be committed (`request.timeout.ms`).
    pub commit_timeout_ms: u64,
    /// `transaction.two.phase.commit.enable`.
    pub two_phase_commit: bool,
    /// Bytes of a batch that holds tombstones of many ids, below the topic's `max.message.bytes`.
    pub batch_bytes_max: usize,
}

impl Default for TxnConfig {
    fn default() -> TxnConfig {
        TxnConfig {
            timeout_ms_max: 900_000,
            id_expiration_ms: 7 * 24 * 60 * 60 * 1_000,
            abort_interval_ms: 10_000,
            expire_interval_ms: 3_600_000,
            commit_timeout_ms: 30_000,
            two_phase_commit: false,
            batch_bytes_max: 16 * 1024,
        }
    }
}
