//! Control records: their keys. The values' schemas are messages of `protocol`.

use bytes::Bytes;

/// Kind of a control record (Kafka's `ControlRecordType`): the second int16 of its key, after the version.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[repr(i16)]
pub enum ControlType {
    Abort = 0,
    Commit = 1,
    LeaderChange = 2,
    SnapshotHeader = 3,
    SnapshotFooter = 4,
    KRaftVersion = 5,
    KRaftVoters = 6,
}

const KEY_VERSION: i16 = 0;

impl ControlType {
    const ALL: [ControlType; 7] = [
        ControlType::Abort,
        ControlType::Commit,
        ControlType::LeaderChange,
        ControlType::SnapshotHeader,
        ControlType::SnapshotFooter,
        ControlType::KRaftVersion,
        ControlType::KRaftVoters,
    ];

    /// The kind that a control record's key names; `None` for kinds of later releases and for broken keys.
    pub fn of_key(key: &[u8]) -> Option<ControlType> {
        let [v0, v1, t0, t1] = *key.first_chunk::<4>()?;
        if i16::from_be_bytes([v0, v1]) < KEY_VERSION {
            return None;
        }
        let id = usize::try_from(i16::from_be_bytes([t0, t1])).ok()?;
        ControlType::ALL.get(id).copied()
    }

    /// Whether it ends a transaction.
    pub fn is_transaction_marker(self) -> bool {
        matches!(self, ControlType::Abort | ControlType::Commit)
    }
}

/// The key of a control record: version 0, then the type.
pub fn control_record_key(control: ControlType) -> Bytes {
    let mut key = Vec::with_capacity(4);
    key.extend_from_slice(&KEY_VERSION.to_be_bytes());
    key.extend_from_slice(&(control as i16).to_be_bytes());
    key.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_name_their_type() {
        for control in ControlType::ALL {
            assert_eq!(
                ControlType::of_key(&control_record_key(control)),
                Some(control)
            );
        }
        assert_eq!(ControlType::of_key(&[0, 0, 0, 7]), None);
        assert_eq!(ControlType::of_key(&[0, 0, 0]), None);
    }
}
