//! Who votes: replica keys, endpoints and the voter set in force (`VotersRecord`, KIP-853).

use std::collections::BTreeMap;
use std::fmt;

use milena_base::{BrokerId, Uuid};
use milena_protocol::voters_record::{self, VotersRecord};

/// A replica of the quorum: a node and the metadata directory that it votes with. Static voters
/// (`controller.quorum.voters`) have no directory id, and match whatever directory the node has.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct ReplicaKey {
    pub id: BrokerId,
    pub directory: Option<Uuid>,
}

impl ReplicaKey {
    /// A key as requests carry it: the zero id stands for "no directory".
    pub fn new(id: BrokerId, directory: Uuid) -> ReplicaKey {
        ReplicaKey {
            id,
            directory: (!directory.is_zero()).then_some(directory),
        }
    }

    /// The directory id as requests and files carry it.
    pub fn directory_or_zero(self) -> Uuid {
        self.directory.unwrap_or(Uuid::ZERO)
    }

    /// As Kafka's messages show it.
    pub fn text(self) -> String {
        let directory = self.directory.map(|directory| directory.to_string());
        let directory = directory.unwrap_or_else(|| "<undefined>".to_owned());
        format!("ReplicaKey(id={}, directoryId={directory})", self.id)
    }
}

impl fmt::Display for ReplicaKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.directory {
            Some(directory) => write!(f, "{}:{directory}", self.id),
            None => write!(f, "{}", self.id),
        }
    }
}

/// Where a node listens under one listener name.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Endpoint {
    /// Listener name, upper case.
    pub name: String,
    pub host: String,
    pub port: u16,
}

/// One member of a voter set.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Voter {
    pub key: ReplicaKey,
    /// In the order of `controller.listener.names`.
    pub endpoints: Vec<Endpoint>,
    /// Lowest and highest `kraft.version` that the voter supports.
    pub kraft_versions: (i16, i16),
}

impl Voter {
    /// Whether `replica` is this voter: ids equal, and directories too where the voter's is known.
    pub fn is(&self, replica: ReplicaKey) -> bool {
        self.key.id == replica.id
            && (self.key.directory.is_none() || self.key.directory == replica.directory)
    }
}

/// The replicas whose majority decides, by id.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct VoterSet {
    voters: BTreeMap<BrokerId, Voter>,
}

impl VoterSet {
    pub fn new(voters: impl IntoIterator<Item = Voter>) -> VoterSet {
        VoterSet {
            voters: voters.into_iter().map(|v| (v.key.id, v)).collect(),
        }
    }

    pub fn iter(&self) -> impl Iterator<Item = &Voter> {
        self.voters.values()
    }

    /// Ascending.
    pub fn ids(&self) -> impl Iterator<Item = BrokerId> {
        self.voters.keys().copied()
    }

    pub fn len(&self) -> usize {
        self.voters.len()
    }

    pub fn is_empty(&self) -> bool {
        self.voters.is_empty()
    }

    pub fn get(&self, id: BrokerId) -> Option<&Voter> {
        self.voters.get(&id)
    }

    /// Voters that decide together: more than half.
    pub fn majority(&self) -> usize {
        self.voters.len() / 2 + 1
    }

    pub fn contains(&self, replica: ReplicaKey) -> bool {
        self.get(replica.id).is_some_and(|v| v.is(replica))
    }

    /// Whether `replica` decides alone.
    pub fn is_only(&self, replica: ReplicaKey) -> bool {
        self.voters.len() == 1 && self.contains(replica)
    }

    /// This set with one voter's entry replaced; `None` where it has no voter of that id and directory.
    #[must_use]
    pub fn with_updated(&self, voter: Voter) -> Option<VoterSet> {
        self.get(voter.key.id)
            .filter(|known| known.key == voter.key)?;
        let mut voters = self.voters.clone();
        voters.insert(voter.key.id, voter);
        Some(VoterSet { voters })
    }

    /// This set with one voter more; `None` where it has one of this id.
    #[must_use]
    pub fn with_added(&self, voter: Voter) -> Option<VoterSet> {
        if self.voters.contains_key(&voter.key.id) {
            return None;
        }
        let mut voters = self.voters.clone();
        voters.insert(voter.key.id, voter);
        Some(VoterSet { voters })
    }

    /// This set without one voter; `None` where it has no such voter, or no other.
    #[must_use]
    pub fn with_removed(&self, key: ReplicaKey) -> Option<VoterSet> {
        let known = self.get(key.id).is_some_and(|voter| voter.key == key);
        if !known || self.len() == 1 {
            return None;
        }
        let mut voters = self.voters.clone();
        voters.remove(&key.id);
        Some(VoterSet { voters })
    }

    /// The keys as Kafka's messages show them.
    pub fn keys_text(&self) -> String {
        let keys = self.voters.values().map(|voter| voter.key.text());
        let keys: Vec<String> = keys.collect();
        format!("[{}]", keys.join(", "))
    }

    /// The record's body (version 0).
    pub fn to_record(&self) -> VotersRecord {
        let voters = self.voters.values().map(|voter| voters_record::Voter {
            voter_id: voter.key.id.0,
            voter_directory_id: voter.key.directory_or_zero(),
            endpoints: voter.endpoints.iter().map(endpoint_to_record).collect(),
            kraft_version_feature: voters_record::KRaftVersionFeature {
                min_supported_version: voter.kraft_versions.0,
                max_supported_version: voter.kraft_versions.1,
            },
        });
        VotersRecord {
            version: 0,
            voters: voters.collect(),
        }
    }

    pub fn from_record(record: &VotersRecord) -> VoterSet {
        VoterSet::new(record.voters.iter().map(|voter| {
            let feature = &voter.kraft_version_feature;
            Voter {
                key: ReplicaKey::new(BrokerId(voter.voter_id), voter.voter_directory_id),
                endpoints: voter.endpoints.iter().map(endpoint_from_record).collect(),
                kraft_versions: (feature.min_supported_version, feature.max_supported_version),
            }
        }))
    }
}

fn endpoint_to_record(endpoint: &Endpoint) -> voters_record::Endpoint {
    voters_record::Endpoint {
        name: endpoint.name.clone().into(),
        host: endpoint.host.clone().into(),
        port: endpoint.port,
    }
}

fn endpoint_from_record(endpoint: &voters_record::Endpoint) -> Endpoint {
    Endpoint {
        name: endpoint.name.to_string(),
        host: endpoint.host.to_string(),
        port: endpoint.port,
    }
}
