//! Whole small files: reading one, and changing one so that a crash at any moment leaves the old or the new bytes.

use std::io;
use std::path::{Path, PathBuf};

use crate::{Disk, DiskError, Op, OpenMode};

/// Replaces a file (or makes it): writes `<name>.tmp` beside it, syncs that, renames it over the file and syncs
/// the directory. When it returns the new bytes are durable; a crash before leaves old or new, never a mixture,
/// and perhaps a `.tmp` file. (Kafka does the same: class `CheckpointFile`.)
pub fn replace(disk: &dyn Disk, path: &Path, bytes: &[u8]) -> io::Result<()> {
    let Some(dir) = path.parent() else {
        let no_name = io::Error::from(io::ErrorKind::InvalidInput);
        return Err(DiskError::wrap(Op::Open, path, no_name));
    };
    let tmp = with_suffix(path, ".tmp");
    let file = disk.open(&tmp, OpenMode::Create)?;
    file.set_len(0)?;
    file.write_all_at(&[bytes], 0)?;
    file.sync_all()?;
    disk.rename(&tmp, path)?;
    disk.sync_dir(dir)
}

/// The bytes of a file of at most `len_max` bytes; `None` where there is no such file, `InvalidData` where it is
/// longer (a small file that has become large is not what it was).
pub fn read_all(disk: &dyn Disk, path: &Path, len_max: u64) -> io::Result<Option<Vec<u8>>> {
    let file = match disk.open(path, OpenMode::Read) {
        Ok(file) => file,
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(e) => return Err(e),
    };
    let len = file.len()?;
    if len > len_max {
        let text = format!("{len} bytes where at most {len_max} are expected");
        let source = io::Error::new(io::ErrorKind::InvalidData, text);
        return Err(DiskError::wrap(Op::Read, path, source));
    }
    let mut bytes = vec![0; len as usize];
    file.read_exact_at(&mut bytes, 0)?;
    Ok(Some(bytes))
}

fn with_suffix(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_os_string();
    name.push(suffix);
    PathBuf::from(name)
}
