//! ACLs, SCRAM credentials and delegation tokens: kept as their records, used by `auth` when there is one.

use std::sync::Arc;

use bytes::Bytes;
use imbl::OrdMap;
use milena_base::Uuid;
use milena_protocol::{
    AccessControlEntryRecord, DelegationTokenRecord, MetadataRecord,
    RemoveAccessControlEntryRecord, RemoveDelegationTokenRecord, RemoveUserScramCredentialRecord,
    Str, UserScramCredentialRecord,
};

use crate::image::VersionedRecord;
use crate::{Loss, MetadataVersion, ReplayError};

/// What security features have written.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Security {
    pub acls: OrdMap<Uuid, Arc<AccessControlEntryRecord>>,
    /// By mechanism (1 SCRAM-SHA-256, 2 SCRAM-SHA-512) and user.
    pub scram: OrdMap<(i8, Str), Arc<UserScramCredentialRecord>>,
    /// By token id.
    pub tokens: OrdMap<Str, Arc<DelegationTokenRecord>>,
}

impl Security {
    pub(crate) fn replay_acl(&mut self, record: &AccessControlEntryRecord) {
        let own = AccessControlEntryRecord {
            resource_name: record.resource_name.detached(),
            principal: record.principal.detached(),
            host: record.host.detached(),
            ..record.clone()
        };
        self.acls.insert(record.id, Arc::new(own));
    }

    pub(crate) fn replay_acl_removal(
        &mut self,
        record: &RemoveAccessControlEntryRecord,
    ) -> Result<(), ReplayError> {
        let removed = self.acls.remove(&record.id);
        let missing = || ReplayError::new(format!("there is no ACL with id {}", record.id));
        removed.map(drop).ok_or_else(missing)
    }

    pub(crate) fn replay_scram(&mut self, record: &UserScramCredentialRecord) {
        let own = UserScramCredentialRecord {
            name: record.name.detached(),
            mechanism: record.mechanism,
            salt: Bytes::copy_from_slice(&record.salt),
            stored_key: Bytes::copy_from_slice(&record.stored_key),
            server_key: Bytes::copy_from_slice(&record.server_key),
            iterations: record.iterations,
        };
        let key = (record.mechanism, own.name.clone());
        self.scram.insert(key, Arc::new(own));
    }

    pub(crate) fn replay_scram_removal(&mut self, record: &RemoveUserScramCredentialRecord) {
        self.scram.remove(&(record.mechanism, record.name.clone()));
    }

    pub(crate) fn replay_token(&mut self, record: &DelegationTokenRecord) {
        let own = DelegationTokenRecord {
            owner: record.owner.detached(),
            requester: record.requester.detached(),
            renewers: record.renewers.iter().map(Str::detached).collect(),
            token_id: record.token_id.detached(),
            ..record.clone()
        };
        self.tokens.insert(own.token_id.clone(), Arc::new(own));
    }

    pub(crate) fn replay_token_removal(&mut self, record: &RemoveDelegationTokenRecord) {
        self.tokens.remove(&record.token_id);
    }

    pub(crate) fn write(
        &self,
        version: MetadataVersion,
        out: &mut dyn FnMut(VersionedRecord),
    ) -> Result<(), Loss> {
        for acl in self.acls.values() {
            out((MetadataRecord::AccessControlEntry((**acl).clone()), 0));
        }
        if !self.scram.is_empty() && !version.supports_scram() {
            return Err(Loss("SCRAM credentials".to_owned()));
        }
        for credential in self.scram.values() {
            let record = (**credential).clone();
            out((MetadataRecord::UserScramCredential(record), 0));
        }
        if !self.tokens.is_empty() && !version.supports_delegation_tokens() {
            return Err(Loss("delegation tokens".to_owned()));
        }
        for token in self.tokens.values() {
            out((MetadataRecord::DelegationToken((**token).clone()), 0));
        }
        Ok(())
    }
}
