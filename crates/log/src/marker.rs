//! Transaction markers: the one record of a control batch that a producer id wrote.

use crate::producers::EndMarker;

const ABORT: i16 = 0;
const COMMIT: i16 = 1;

/// The marker in the records of a control batch; `None` where there is none. Control records are never compressed.
pub(crate) fn parse(records: &[u8]) -> Option<EndMarker> {
    let mut record = Record { bytes: records };
    record.varint()?;
    record.take(1)?;
    record.varint()?;
    record.varint()?;
    let key = record.field()?;
    let value = record.field()?;
    let kind = i16::from_be_bytes(key.get(2..4)?.try_into().ok()?);
    if kind != ABORT && kind != COMMIT {
        return None;
    }
    Some(EndMarker {
        abort: kind == ABORT,
        coordinator_epoch: i32::from_be_bytes(value.get(2..6)?.try_into().ok()?),
        transaction_version: None,
    })
}

struct Record<'a> {
    bytes: &'a [u8],
}

impl<'a> Record<'a> {
    fn take(&mut self, length: usize) -> Option<&'a [u8]> {
        let (head, tail) = self.bytes.split_at_checked(length)?;
        self.bytes = tail;
        Some(head)
    }

    /// A zigzag number of at most ten bytes.
    fn varint(&mut self) -> Option<i64> {
        let mut raw = 0u64;
        for shift in (0..70).step_by(7) {
            let byte = self.take(1)?[0];
            raw |= u64::from(byte & 0x7f).checked_shl(shift)?;
            if byte & 0x80 == 0 {
                return Some((raw >> 1) as i64 ^ -((raw & 1) as i64));
            }
        }
        None
    }

    fn field(&mut self) -> Option<&'a [u8]> {
        let length = usize::try_from(self.varint()?).ok()?;
        self.take(length)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn records(kind: u8) -> Vec<u8> {
        let key = [0, 0, 0, kind];
        let value = [0, 0, 0, 0, 0, 9];
        let mut bytes = vec![32, 0, 0, 0, 8];
        bytes.extend_from_slice(&key);
        bytes.push(12);
        bytes.extend_from_slice(&value);
        bytes.push(0);
        bytes
    }

    #[test]
    fn commit_and_abort_are_told_apart() {
        for (kind, abort) in [(0, true), (1, false)] {
            let marker = parse(&records(kind)).expect("a marker");
            assert_eq!((marker.abort, marker.coordinator_epoch), (abort, 9));
        }
        assert_eq!(parse(&records(2)), None, "a leader change is no marker");
    }

    #[test]
    fn a_cut_off_marker_is_none() {
        let whole = records(1);
        for length in 0..whole.len() - 1 {
            assert_eq!(parse(&whole[..length]), None, "{length}");
        }
    }
}
