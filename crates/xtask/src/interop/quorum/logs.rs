//! The metadata logs of several nodes, batch by batch: what two of them have, they have alike.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use bytes::Bytes;
use milena_raft::BATCH_BYTES_MAX;
use milena_records::batches;

/// Batches by base offset, over all segments.
fn read(dir: &Path) -> Result<BTreeMap<i64, Vec<u8>>, String> {
    let mut found = BTreeMap::new();
    let entries = fs::read_dir(dir).map_err(|e| format!("{}: {e}", dir.display()))?;
    for entry in entries {
        let path = entry.map_err(|e| e.to_string())?.path();
        if path.extension().is_none_or(|extension| extension != "log") {
            continue;
        }
        let bytes = fs::read(&path).map_err(|e| e.to_string())?;
        for batch in batches(Bytes::from(bytes)) {
            let Ok(batch) = batch else { break };
            let bytes = batch.bytes();
            assert!(bytes.len() <= BATCH_BYTES_MAX);
            found.insert(batch.header().base_offset().0, bytes.to_vec());
        }
    }
    Ok(found)
}

/// How many batches were compared. The last of each log may not be committed, and so may differ.
pub fn agree(dirs: &[PathBuf]) -> Result<usize, String> {
    let logs: Result<Vec<_>, String> = dirs.iter().map(|dir| read(dir)).collect();
    let logs = logs?;
    let common_end = logs.iter().filter_map(|log| log.last_key_value());
    let common_end = common_end.map(|(base, _)| *base).min().unwrap_or(0);
    let mut compared = 0;
    let mut seen: BTreeMap<i64, (usize, &Vec<u8>)> = BTreeMap::new();
    for (at, log) in logs.iter().enumerate() {
        for (base, bytes) in log.range(..common_end) {
            match seen.get(base) {
                Some((other, known)) if *known != bytes => {
                    return Err(format!(
                        "the batch at offset {base} differs between {} and {}",
                        dirs[*other].display(),
                        dirs[at].display()
                    ));
                }
                Some(_) => compared += 1,
                None => drop(seen.insert(*base, (at, bytes))),
            }
        }
    }
    Ok(compared)
}
