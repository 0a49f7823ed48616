//! What formatting told the first controller to begin with.

use std::path::Path;

use bytes::Bytes;
use milena_disk::{Disk, read_all};
use milena_raft::{BOOTSTRAP_SNAPSHOT, Fault, walk};

use super::{at, metadata_partition_dir, snapshot_file_name};

/// Where Kafka before 4.4 put the bootstrap records: in the log directory itself, as a snapshot.
pub const BOOTSTRAP_FILE: &str = "bootstrap.checkpoint";

const BYTES_MAX: u64 = 64 << 20;

/// The records of the bootstrap snapshot in this log directory, in their order; those of `bootstrap.checkpoint`, where an
/// earlier Kafka formatted the directory; none where neither has any.
pub fn bootstrap_records(disk: &dyn Disk, log_dir: &Path) -> Result<Vec<Bytes>, Fault> {
    let snapshot = metadata_partition_dir(log_dir).join(snapshot_file_name(BOOTSTRAP_SNAPSHOT));
    let records = records_of(disk, &snapshot)?;
    if !records.is_empty() {
        return Ok(records);
    }
    records_of(disk, &log_dir.join(BOOTSTRAP_FILE))
}

fn records_of(disk: &dyn Disk, path: &Path) -> Result<Vec<Bytes>, Fault> {
    let bytes = read_all(disk, path, BYTES_MAX).map_err(|error| at(path, error))?;
    let mut records = Vec::new();
    for batch in walk(Bytes::from(bytes.unwrap_or_default())) {
        let batch =
            batch.map_err(|fault| Fault::corrupt(format!("{}: {fault}", path.display())))?;
        records.extend(batch.values);
    }
    Ok(records)
}
