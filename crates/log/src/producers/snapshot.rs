//! The producer snapshot file: version, CRC-32C of what follows it, then one fixed-size entry a producer. Of the
//! remembered batches only the last is kept, as in Kafka.

use milena_base::{Offset, Timestamp};

use crate::error::Malformed;
use crate::producers::entry::{BatchMetadata, ProducerEntry, RecentBatches};

const VERSION: i16 = 1;
/// Bytes in front of what the CRC covers.
const HEADER: usize = 6;
const ENTRY: usize = 46;

/// Bytes of a snapshot of `entries`.
pub fn format_snapshot<'a>(entries: impl ExactSizeIterator<Item = &'a ProducerEntry>) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(HEADER + 4 + entries.len() * ENTRY);
    bytes.extend_from_slice(&VERSION.to_be_bytes());
    bytes.extend_from_slice(&[0; 4]);
    bytes.extend_from_slice(&(entries.len() as i32).to_be_bytes());
    for entry in entries {
        let last = entry.last_batch();
        let txn_first_offset = entry.txn_first_offset.unwrap_or(Offset::NONE);
        bytes.extend_from_slice(&entry.producer_id.to_be_bytes());
        bytes.extend_from_slice(&entry.producer_epoch.to_be_bytes());
        bytes.extend_from_slice(&entry.last_sequence().to_be_bytes());
        bytes.extend_from_slice(&last.map_or(-1, |batch| batch.last_offset.0).to_be_bytes());
        bytes.extend_from_slice(&last.map_or(0, |batch| batch.offset_delta).to_be_bytes());
        bytes.extend_from_slice(&entry.last_timestamp.0.to_be_bytes());
        bytes.extend_from_slice(&entry.coordinator_epoch.to_be_bytes());
        bytes.extend_from_slice(&txn_first_offset.0.to_be_bytes());
    }
    let crc = crc32c::crc32c(&bytes[HEADER..]);
    bytes[2..HEADER].copy_from_slice(&crc.to_be_bytes());
    bytes
}

/// Reads a snapshot, whose CRC must hold.
pub fn parse_snapshot(bytes: &[u8]) -> Result<Vec<ProducerEntry>, Malformed> {
    let mut reader = Fields { bytes };
    let version = i16::from_be_bytes(reader.take()?);
    if version != VERSION {
        return Err(Malformed(format!(
            "producer snapshot of unknown version {version}"
        )));
    }
    let stored = u32::from_be_bytes(reader.take()?);
    let computed = crc32c::crc32c(reader.bytes);
    if stored != computed {
        return Err(Malformed(format!(
            "producer snapshot with CRC {computed}, {stored} stored"
        )));
    }
    let count = i32::from_be_bytes(reader.take()?);
    if usize::try_from(count).ok() != Some(reader.bytes.len() / ENTRY)
        || !reader.bytes.len().is_multiple_of(ENTRY)
    {
        let bytes = reader.bytes.len();
        return Err(Malformed(format!("{count} producers in {bytes} bytes")));
    }
    let mut entries = Vec::with_capacity(reader.bytes.len() / ENTRY);
    for _ in 0..count {
        entries.push(entry(&mut reader)?);
    }
    Ok(entries)
}

fn entry(reader: &mut Fields<'_>) -> Result<ProducerEntry, Malformed> {
    let producer_id = i64::from_be_bytes(reader.take()?);
    let producer_epoch = i16::from_be_bytes(reader.take()?);
    let last_sequence = i32::from_be_bytes(reader.take()?);
    let last_offset = Offset(i64::from_be_bytes(reader.take()?));
    let offset_delta = i32::from_be_bytes(reader.take()?);
    let last_timestamp = Timestamp(i64::from_be_bytes(reader.take()?));
    let coordinator_epoch = i32::from_be_bytes(reader.take()?);
    let txn_first_offset = Offset(i64::from_be_bytes(reader.take()?));
    let mut recent = RecentBatches::default();
    if last_offset >= Offset::ZERO {
        recent.push(BatchMetadata {
            last_sequence,
            last_offset,
            offset_delta,
            timestamp: last_timestamp,
        });
    }
    Ok(ProducerEntry {
        producer_id,
        producer_epoch,
        coordinator_epoch,
        last_timestamp,
        txn_first_offset: (txn_first_offset >= Offset::ZERO).then_some(txn_first_offset),
        recent,
    })
}

struct Fields<'a> {
    bytes: &'a [u8],
}

impl Fields<'_> {
    fn take<const N: usize>(&mut self) -> Result<[u8; N], Malformed> {
        let (head, tail) = self
            .bytes
            .split_first_chunk()
            .ok_or_else(|| Malformed("producer snapshot is cut off".into()))?;
        self.bytes = tail;
        Ok(*head)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample() -> Vec<ProducerEntry> {
        let mut first = ProducerEntry::empty(4000);
        first.enter_epoch(3);
        first.last_timestamp = Timestamp(1_700_000_000_000);
        first.txn_first_offset = Some(Offset(90));
        first.recent.push(BatchMetadata {
            last_sequence: 9,
            last_offset: Offset(99),
            offset_delta: 9,
            timestamp: Timestamp(1_700_000_000_000),
        });
        vec![first, ProducerEntry::empty(4001)]
    }

    #[test]
    fn a_snapshot_is_read_back() {
        let entries = sample();
        let bytes = format_snapshot(entries.iter());
        assert_eq!(bytes.len(), 10 + 2 * ENTRY);
        assert_eq!(parse_snapshot(&bytes), Ok(entries));
        assert_eq!(parse_snapshot(&format_snapshot([].iter())), Ok(vec![]));
    }

    #[test]
    fn every_truncation_and_every_flipped_bit_is_refused() {
        let bytes = format_snapshot(sample().iter());
        for length in 0..bytes.len() {
            assert!(parse_snapshot(&bytes[..length]).is_err(), "{length}");
        }
        for bit in 0..bytes.len() * 8 {
            let mut flipped = bytes.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            assert!(parse_snapshot(&flipped).is_err(), "{bit}");
        }
    }
}
