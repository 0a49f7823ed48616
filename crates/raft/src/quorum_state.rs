//! The file `quorum-state`: which epoch this replica is in, whom it voted for or who leads (`QuorumStateData`).
//!
//! Version 0 belongs to `kraft.version` 0 and lists the voters; version 1 belongs to 1 and knows the directory of
//! the replica that was voted for. The bytes are those that Apache Kafka writes.

use std::fmt;

use milena_base::{BrokerId, Epoch, Uuid};
use serde_json::Value;

use crate::voters::ReplicaKey;

/// Name of the file in the metadata partition's directory.
pub const QUORUM_STATE_FILE: &str = "quorum-state";

/// What a replica must not forget of its epoch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct QuorumState {
    pub epoch: Epoch,
    /// The leader of `epoch`, where known.
    pub leader: Option<BrokerId>,
    /// Whom this replica voted for in `epoch`. Both leader and vote may be known.
    pub voted: Option<ReplicaKey>,
}

/// A quorum-state file that can't be read: what is wrong with it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct QuorumStateError(pub String);

impl fmt::Display for QuorumStateError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the {QUORUM_STATE_FILE} file is unreadable: {}", self.0)
    }
}

impl std::error::Error for QuorumStateError {}

impl QuorumState {
    /// The file's bytes. `voters` are the ids of the voter set in force (written by version 0 alone).
    pub fn to_file(
        &self,
        kraft_version: i16,
        voters: impl IntoIterator<Item = BrokerId>,
    ) -> Vec<u8> {
        let id = |id: Option<BrokerId>| id.unwrap_or(BrokerId::NONE).0;
        let (leader, epoch) = (id(self.leader), self.epoch.0);
        let voted = id(self.voted.map(|key| key.id));
        let text = if kraft_version == 0 {
            let voters: Vec<String> = voters
                .into_iter()
                .map(|id| format!("{{\"voterId\":{id}}}"))
                .collect();
            format!(
                "{{\"clusterId\":\"\",\"leaderId\":{leader},\"leaderEpoch\":{epoch},\"votedId\":{voted},\
                 \"appliedOffset\":0,\"currentVoters\":[{}],\"data_version\":0}}",
                voters.join(",")
            )
        } else {
            let directory = self.voted.map_or(Uuid::ZERO, ReplicaKey::directory_or_zero);
            format!(
                "{{\"leaderId\":{leader},\"leaderEpoch\":{epoch},\"votedId\":{voted},\
                 \"votedDirectoryId\":\"{directory}\",\"data_version\":1}}"
            )
        };
        text.into_bytes()
    }

    /// Parses the file, of either version.
    pub fn from_file(bytes: &[u8]) -> Result<QuorumState, QuorumStateError> {
        let refuse = |what: &str| QuorumStateError(what.to_owned());
        let value: Value =
            serde_json::from_slice(bytes).map_err(|e| QuorumStateError(e.to_string()))?;
        let version = number(&value, "data_version")?;
        if !(0..=1).contains(&version) {
            return Err(QuorumStateError(format!(
                "data_version {version} is none of 0 and 1"
            )));
        }
        let epoch = number(&value, "leaderEpoch")?;
        if epoch < 0 {
            return Err(refuse("leaderEpoch is negative"));
        }
        let id = |name| number(&value, name).map(|id| (id >= 0).then_some(BrokerId(id)));
        let directory = match value.get("votedDirectoryId").and_then(Value::as_str) {
            Some(text) => text
                .parse()
                .map_err(|_| refuse("votedDirectoryId is no id"))?,
            None => Uuid::ZERO,
        };
        Ok(QuorumState {
            epoch: Epoch(epoch),
            leader: id("leaderId")?,
            voted: id("votedId")?.map(|id| ReplicaKey::new(id, directory)),
        })
    }
}

fn number(value: &Value, name: &str) -> Result<i32, QuorumStateError> {
    value
        .get(name)
        .and_then(Value::as_i64)
        .and_then(|number| i32::try_from(number).ok())
        .ok_or_else(|| QuorumStateError(format!("{name} is no 32-bit number")))
}

#[cfg(test)]
mod tests {
    use super::*;

    // Both texts were written by Apache Kafka 4.4.0.
    const V0: &str = r#"{"clusterId":"","leaderId":1,"leaderEpoch":1,"votedId":-1,"appliedOffset":0,"currentVoters":[{"voterId":1}],"data_version":0}"#;
    const V1: &str = r#"{"leaderId":1,"leaderEpoch":2,"votedId":-1,"votedDirectoryId":"AAAAAAAAAAAAAAAAAAAAAA","data_version":1}"#;

    #[test]
    fn files_are_kafkas_bytes() {
        for (text, kraft_version, epoch) in [(V0, 0, 1), (V1, 1, 2)] {
            let state = QuorumState::from_file(text.as_bytes()).unwrap();
            assert_eq!(state.epoch, Epoch(epoch));
            assert_eq!(state.leader, Some(BrokerId(1)));
            assert_eq!(state.voted, None);
            let file = state.to_file(kraft_version, [BrokerId(1)]);
            assert_eq!(String::from_utf8(file).unwrap(), text);
        }
    }

    #[test]
    fn a_vote_keeps_its_directory() {
        let state = QuorumState {
            epoch: Epoch(7),
            leader: None,
            voted: Some(ReplicaKey::new(BrokerId(3), Uuid::from_parts(5, 6))),
        };
        assert_eq!(QuorumState::from_file(&state.to_file(1, [])), Ok(state));
    }

    #[test]
    fn damaged_files_are_refused() {
        for cut in 0..V0.len() {
            assert!(
                QuorumState::from_file(&V0.as_bytes()[..cut]).is_err(),
                "{cut}"
            );
        }
        let future = V0.replace("\"data_version\":0", "\"data_version\":2");
        assert!(QuorumState::from_file(future.as_bytes()).is_err());
        let negative = V0.replace("\"leaderEpoch\":1", "\"leaderEpoch\":-1");
        assert!(QuorumState::from_file(negative.as_bytes()).is_err());
    }
}
