//! Binary search in a file of fixed-size, ordered entries: a few small reads, then one block.

use std::io;

use milena_disk::File;

/// Entries that are read at once when the search has come this close.
const BLOCK_ENTRIES: u32 = 256;
/// The largest entry (of the time index), in bytes.
const ENTRY_BYTES_MAX: usize = 12;

/// How many of the first `count` entries of `file` satisfy `below`, which holds for a prefix of them.
pub(crate) fn partition_point<const N: usize>(
    file: &dyn File,
    count: u32,
    below: impl Fn(&[u8; N]) -> bool,
) -> io::Result<u32> {
    let (mut low, mut high) = (0, count);
    let mut entry = [0; N];
    while high - low > BLOCK_ENTRIES {
        let middle = low + (high - low) / 2;
        file.read_exact_at(&mut entry, u64::from(middle) * N as u64)?;
        if below(&entry) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    let mut block = [0; BLOCK_ENTRIES as usize * ENTRY_BYTES_MAX];
    let block = &mut block[..(high - low) as usize * N];
    file.read_exact_at(block, u64::from(low) * N as u64)?;
    let (entries, _) = block.as_chunks::<N>();
    Ok(low + entries.partition_point(below) as u32)
}

/// Entry `index` of `file`.
pub(crate) fn entry<const N: usize>(file: &dyn File, index: u32) -> io::Result<[u8; N]> {
    let mut entry = [0; N];
    file.read_exact_at(&mut entry, u64::from(index) * N as u64)?;
    Ok(entry)
}
