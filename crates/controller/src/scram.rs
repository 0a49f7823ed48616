//! AlterUserScramCredentials (KIP-554). The salted password of a request is never kept: what is stored is derived
//! from it (Kafka class `ScramControlManager`).

use std::collections::BTreeMap;

use bytes::Bytes;
use milena_base::{ErrorCode, ScramMechanism};
use milena_protocol::alter_user_scram_credentials_request::{
    ScramCredentialDeletion, ScramCredentialUpsertion,
};
use milena_protocol::alter_user_scram_credentials_response::AlterUserScramCredentialsResult;
use milena_protocol::{
    AlterUserScramCredentialsRequest, AlterUserScramCredentialsResponse,
    RemoveUserScramCredentialRecord, Str, UserScramCredentialRecord,
};

use crate::decision::{Decision, Records};
use crate::refusal::fields;
use crate::{Controller, Refusal};

/// What is to become of a user: one change, or why none.
enum Change<'a> {
    Delete(&'a ScramCredentialDeletion),
    Upsert(&'a ScramCredentialUpsertion),
    Refused(Refusal),
}

fn known(user: &str, mechanism: i8) -> Result<ScramMechanism, Refusal> {
    if user.is_empty() {
        let text = "Username must not be empty";
        return Err(Refusal::new(ErrorCode::UnacceptableCredential, text));
    }
    let unknown = || {
        Refusal::new(
            ErrorCode::UnsupportedSaslMechanism,
            "Unknown SCRAM mechanism",
        )
    };
    ScramMechanism::from_id(mechanism).ok_or_else(unknown)
}

impl Controller {
    pub(crate) fn alter_scram(&self, request: &AlterUserScramCredentialsRequest) -> Decision {
        let mut changes: BTreeMap<&Str, Change> = BTreeMap::new();
        for deletion in &request.deletions {
            let change = self.checked(self.check_deletion(deletion), Change::Delete(deletion));
            add(&mut changes, &deletion.name, change);
        }
        for upsertion in &request.upsertions {
            let change = self.checked(check_upsertion(upsertion), Change::Upsert(upsertion));
            add(&mut changes, &upsertion.name, change);
        }
        let mut records = Records::default();
        let mut results = Vec::with_capacity(changes.len());
        for (user, change) in changes {
            let result = match change {
                Change::Refused(refusal) => Err(refusal),
                Change::Delete(deletion) => {
                    let record = RemoveUserScramCredentialRecord {
                        name: deletion.name.clone(),
                        mechanism: deletion.mechanism,
                    };
                    records.push(record, 0);
                    Ok(())
                }
                Change::Upsert(upsertion) => {
                    records.push(credential(upsertion), 0);
                    Ok(())
                }
            };
            results.push(result_of(user, &result));
        }
        let answer = AlterUserScramCredentialsResponse {
            results,
            ..AlterUserScramCredentialsResponse::default()
        };
        Decision::records(records).with_answer(answer).atomic()
    }

    fn checked<'a>(&self, check: Result<(), Refusal>, change: Change<'a>) -> Change<'a> {
        if !self.state.image.metadata_version().supports_scram() {
            let text = "The current metadata.version does not support SCRAM";
            return Change::Refused(Refusal::new(ErrorCode::UnsupportedVersion, text));
        }
        match check {
            Ok(()) => change,
            Err(refusal) => Change::Refused(refusal),
        }
    }

    fn check_deletion(&self, deletion: &ScramCredentialDeletion) -> Result<(), Refusal> {
        known(&deletion.name, deletion.mechanism)?;
        let key = (deletion.mechanism, deletion.name.clone());
        match self.state.image.security.scram.contains_key(&key) {
            true => Ok(()),
            false => {
                let text = "Attempt to delete a user credential that does not exist";
                Err(Refusal::new(ErrorCode::ResourceNotFound, text))
            }
        }
    }
}

fn check_upsertion(upsertion: &ScramCredentialUpsertion) -> Result<(), Refusal> {
    known(&upsertion.name, upsertion.mechanism)?;
    let text = match upsertion.iterations {
        few if few < ScramMechanism::ITERATIONS_MIN => "Too few iterations",
        many if many > ScramMechanism::ITERATIONS_MAX => "Too many iterations",
        _ => return Ok(()),
    };
    Err(Refusal::new(ErrorCode::UnacceptableCredential, text))
}

/// A user may be changed once a request; the first refusal stays.
fn add<'a>(changes: &mut BTreeMap<&'a Str, Change<'a>>, user: &'a Str, change: Change<'a>) {
    match changes.get_mut(user) {
        None => drop(changes.insert(user, change)),
        Some(Change::Refused(_)) => {}
        Some(earlier) => {
            let text = "A user credential cannot be altered twice in the same request";
            *earlier = Change::Refused(Refusal::new(ErrorCode::DuplicateResource, text));
        }
    }
}

fn credential(upsertion: &ScramCredentialUpsertion) -> UserScramCredentialRecord {
    let mechanism = ScramMechanism::from_id(upsertion.mechanism).expect("it was checked");
    let salted = &upsertion.salted_password;
    UserScramCredentialRecord {
        name: upsertion.name.clone(),
        mechanism: upsertion.mechanism,
        salt: upsertion.salt.clone(),
        stored_key: Bytes::from(mechanism.stored_key(salted)),
        server_key: Bytes::from(mechanism.server_key(salted)),
        iterations: upsertion.iterations,
    }
}

fn result_of(user: &Str, result: &Result<(), Refusal>) -> AlterUserScramCredentialsResult {
    let (error_code, error_message) = fields(result);
    AlterUserScramCredentialsResult {
        user: user.clone(),
        error_code,
        error_message,
    }
}

/// The whole request refused: each user once.
pub(crate) fn refused(
    request: &AlterUserScramCredentialsRequest,
    refusal: &Refusal,
) -> AlterUserScramCredentialsResponse {
    let deletions = request.deletions.iter().map(|d| &d.name);
    let users: std::collections::BTreeSet<&Str> = deletions
        .chain(request.upsertions.iter().map(|u| &u.name))
        .collect();
    let refused = Err(refusal.clone());
    AlterUserScramCredentialsResponse {
        results: users
            .into_iter()
            .map(|user| result_of(user, &refused))
            .collect(),
        ..AlterUserScramCredentialsResponse::default()
    }
}
