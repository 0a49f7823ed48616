//! Quotas of users, clients and addresses, and credentials of users, over the network.

use milena_base::{ErrorCode, ScramMechanism};
use milena_client::{Client, Error, Target};
use milena_protocol::alter_client_quotas_request::{EntityData, EntryData, OpData};
use milena_protocol::alter_user_scram_credentials_request::{
    ScramCredentialDeletion, ScramCredentialUpsertion,
};
use milena_protocol::describe_client_quotas_request::ComponentData;
use milena_protocol::describe_client_quotas_response;
use milena_protocol::describe_user_scram_credentials_request::UserName;
use milena_protocol::{
    AlterClientQuotasRequest, AlterUserScramCredentialsRequest, DescribeClientQuotasRequest,
    DescribeUserScramCredentialsRequest, Str,
};

use super::flags::Entities;
use super::pairs::Added;

const MATCH_EXACT: i8 = 0;
const MATCH_DEFAULT: i8 = 1;
const MATCH_SPECIFIED: i8 = 2;

/// The protocol's name of a kind of entity.
fn wire_name(entity_type: &str) -> &'static str {
    match entity_type {
        "users" => "user",
        "clients" => "client-id",
        _ => "ip",
    }
}

/// Quotas of exactly the kinds that are named.
pub async fn describe(
    client: &mut Client,
    entities: &Entities,
) -> Result<Vec<describe_client_quotas_response::EntryData>, Error> {
    if entities.names.len() > entities.types.len() {
        return Err(Error::Config(
            "More entity names specified than entity types".into(),
        ));
    }
    let component = |(at, kind): (usize, &String)| {
        let name = entities.names.get(at);
        ComponentData {
            entity_type: Str::from_static(wire_name(kind)),
            match_type: match name {
                None => MATCH_SPECIFIED,
                Some(name) if name.is_empty() => MATCH_DEFAULT,
                Some(_) => MATCH_EXACT,
            },
            r#match: name
                .filter(|name| !name.is_empty())
                .map(|name| Str::copy(name)),
        }
    };
    let request = DescribeClientQuotasRequest {
        components: entities.types.iter().enumerate().map(component).collect(),
        strict: true,
    };
    let answer = client
        .call("describeClientQuotas", Target::Any, &request)
        .await?;
    Error::check(answer.error_code, answer.error_message.as_deref())?;
    Ok(answer.entries.unwrap_or_default())
}

/// Sets and takes away quotas of one entity.
pub async fn alter(
    client: &mut Client,
    entities: &Entities,
    set: &[(String, f64)],
    delete: &[String],
) -> Result<(), Error> {
    let parts = entities.types.iter().zip(&entities.names);
    let part = |(kind, name): (&String, &String)| EntityData {
        entity_type: Str::from_static(wire_name(kind)),
        entity_name: (!name.is_empty()).then(|| Str::copy(name)),
    };
    let set = set.iter().map(|(key, value)| OpData {
        key: Str::copy(key),
        value: *value,
        remove: false,
    });
    let delete = delete.iter().map(|key| OpData {
        key: Str::copy(key),
        value: 0.0,
        remove: true,
    });
    let request = AlterClientQuotasRequest {
        entries: vec![EntryData {
            entity: parts.map(part).collect(),
            ops: set.chain(delete).collect(),
        }],
        validate_only: false,
    };
    let answer = client
        .call("alterClientQuotas", Target::Controller, &request)
        .await?;
    answer
        .entries
        .iter()
        .try_for_each(|e| Error::check(e.error_code, e.error_message.as_deref()))
}

/// A user's mechanisms with their iterations, or why they can't be told.
pub type Credentials = (String, Result<Vec<(i8, i32)>, Error>);

/// Credentials of these users, of all without names; users that have none are left out.
pub async fn credentials(client: &mut Client, users: &[String]) -> Result<Vec<Credentials>, Error> {
    let name = |name: &String| UserName {
        name: Str::copy(name),
    };
    let request = DescribeUserScramCredentialsRequest {
        users: Some(users.iter().map(name).collect()),
    };
    let answer = client
        .call("describeUserScramCredentials", Target::Controller, &request)
        .await?;
    Error::check(answer.error_code, answer.error_message.as_deref())?;
    let missing = ErrorCode::ResourceNotFound.code();
    let found = answer
        .results
        .iter()
        .filter(|result| result.error_code != missing);
    let described = found.map(|result| {
        let told = Error::check(result.error_code, result.error_message.as_deref());
        let infos = result.credential_infos.iter();
        let infos = infos
            .map(|info| (info.mechanism, info.iterations))
            .collect();
        (result.user.to_string(), told.map(|()| infos))
    });
    Ok(described.collect())
}

/// Sets and takes away a user's credentials. The password itself stays here.
pub async fn alter_credentials(
    client: &mut Client,
    user: &str,
    set: &[(ScramMechanism, i32, String)],
    delete: &[ScramMechanism],
) -> Result<(), Error> {
    let mut upsertions = Vec::new();
    for (mechanism, iterations, password) in set {
        let salt = salt(client);
        let salted = mechanism.salted_password(password.as_bytes(), &salt, *iterations);
        upsertions.push(ScramCredentialUpsertion {
            name: Str::copy(user),
            mechanism: mechanism.id(),
            iterations: *iterations,
            salt: salt.into(),
            salted_password: salted.into(),
        });
    }
    let deletion = |mechanism: &ScramMechanism| ScramCredentialDeletion {
        name: Str::copy(user),
        mechanism: mechanism.id(),
    };
    let request = AlterUserScramCredentialsRequest {
        deletions: delete.iter().map(deletion).collect(),
        upsertions,
    };
    let answer = client
        .call("alterUserScramCredentials", Target::Controller, &request)
        .await?;
    answer
        .results
        .iter()
        .try_for_each(|r| Error::check(r.error_code, r.error_message.as_deref()))
}

/// Letters and digits, as Kafka's salts are. A salt is public: it has to differ, not to be guarded.
fn salt(client: &mut Client) -> Vec<u8> {
    const DIGITS: &[u8; 36] = b"0123456789abcdefghijklmnopqrstuvwxyz";
    let random = client.random();
    let digit = |_| DIGITS[random.below(36) as usize];
    (0..ScramMechanism::SALT_BYTES).map(digit).collect()
}

/// Quotas as numbers.
pub fn numbers(added: &Added) -> Result<Vec<(String, f64)>, String> {
    let number =
        |(key, text): (&String, &String)| Ok((key.clone(), super::pairs::quota(key, text)?));
    added.iter().map(number).collect()
}
