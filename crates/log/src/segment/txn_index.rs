//! The transaction index: one 34-byte entry for each aborted transaction whose marker is in the segment. The file is
//! there only when there is one.

use milena_base::Offset;

use crate::error::Malformed;
use crate::producers::CompletedTxn;

/// Bytes of an entry.
pub const TXN_ENTRY_BYTES: usize = 34;
const VERSION: i16 = 0;

/// An aborted transaction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AbortedTxn {
    pub producer_id: i64,
    pub first_offset: Offset,
    /// Offset of the marker.
    pub last_offset: Offset,
    /// The last stable offset once this transaction had ended.
    pub last_stable_offset: Offset,
}

impl AbortedTxn {
    pub(crate) fn of(txn: &CompletedTxn, last_stable_offset: Offset) -> AbortedTxn {
        AbortedTxn {
            producer_id: txn.producer_id,
            first_offset: txn.first_offset,
            last_offset: txn.last_offset,
            last_stable_offset,
        }
    }

    pub(crate) fn to_bytes(self) -> [u8; TXN_ENTRY_BYTES] {
        let mut bytes = [0; TXN_ENTRY_BYTES];
        bytes[..2].copy_from_slice(&VERSION.to_be_bytes());
        let fields = [
            self.producer_id,
            self.first_offset.0,
            self.last_offset.0,
            self.last_stable_offset.0,
        ];
        for (field, place) in fields.iter().zip(bytes[2..].as_chunks_mut::<8>().0) {
            *place = field.to_be_bytes();
        }
        bytes
    }

    fn from_bytes(bytes: &[u8; TXN_ENTRY_BYTES]) -> Result<AbortedTxn, Malformed> {
        let version = i16::from_be_bytes([bytes[0], bytes[1]]);
        if version != VERSION {
            return Err(Malformed(format!(
                "aborted transaction of version {version}"
            )));
        }
        let mut fields = [0; 4];
        for (field, place) in fields.iter_mut().zip(bytes[2..].as_chunks::<8>().0) {
            *field = i64::from_be_bytes(*place);
        }
        let [producer_id, first_offset, last_offset, last_stable_offset] = fields;
        Ok(AbortedTxn {
            producer_id,
            first_offset: Offset(first_offset),
            last_offset: Offset(last_offset),
            last_stable_offset: Offset(last_stable_offset),
        })
    }
}

/// The entries of a transaction index file. A cut-off entry at the end is left out.
pub fn parse_txn_index(bytes: &[u8]) -> Result<Vec<AbortedTxn>, Malformed> {
    let (chunks, _) = bytes.as_chunks::<TXN_ENTRY_BYTES>();
    chunks.iter().map(AbortedTxn::from_bytes).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_entry_is_read_back_and_an_unknown_version_refused() {
        let txn = AbortedTxn {
            producer_id: 5,
            first_offset: Offset(10),
            last_offset: Offset(20),
            last_stable_offset: Offset(15),
        };
        let mut bytes = txn.to_bytes();
        assert_eq!(parse_txn_index(&bytes), Ok(vec![txn]));
        assert_eq!(parse_txn_index(&bytes[..33]), Ok(vec![]));
        bytes[1] = 1;
        assert!(parse_txn_index(&bytes).is_err());
    }
}
