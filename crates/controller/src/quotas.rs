//! AlterClientQuotas (KIP-546). The answer has each entity once; nothing here knows how a quota is enforced.

use std::collections::BTreeMap;

use milena_base::ErrorCode;
use milena_image::QuotaEntity;
use milena_protocol::alter_client_quotas_request::{EntityData, EntryData, OpData};
use milena_protocol::alter_client_quotas_response as response;
use milena_protocol::client_quota_record;
use milena_protocol::{
    AlterClientQuotasRequest, AlterClientQuotasResponse, ClientQuotaRecord, Str,
};

use crate::decision::{Decision, Records};
use crate::refusal::fields;
use crate::{Controller, Refusal};

const USER: &str = "user";
const CLIENT_ID: &str = "client-id";
const IP: &str = "ip";
/// A whole number may be off by this much as a float.
const FRACTION_MAX: f64 = 1e-6;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Int,
    Long,
    Double,
}

/// Keys of users, clients and both together (Kafka's `QuotaConfig.userAndClientQuotaConfigs`).
const CLIENT_KEYS: &[(&str, Kind)] = &[
    ("consumer_byte_rate", Kind::Long),
    ("controller_mutation_rate", Kind::Double),
    ("producer_byte_rate", Kind::Long),
    ("request_percentage", Kind::Double),
];
const IP_KEYS: &[(&str, Kind)] = &[("connection_creation_rate", Kind::Int)];

type Ops = BTreeMap<Str, Option<f64>>;

fn invalid(text: String) -> Refusal {
    Refusal::new(ErrorCode::InvalidRequest, text)
}

/// An entity in the image's order; of two parts of one type the last counts, as in Kafka's map.
fn entity_of(parts: &[EntityData]) -> QuotaEntity {
    let parts = parts.iter();
    let map: BTreeMap<Str, Option<Str>> = parts
        .map(|p| (p.entity_type.clone(), p.entity_name.clone()))
        .collect();
    map.into_iter().collect()
}

fn shown(entity: &QuotaEntity) -> String {
    let part =
        |(kind, name): &(Str, Option<Str>)| format!("{kind}={}", name.as_deref().unwrap_or("null"));
    let parts: Vec<String> = entity.iter().map(part).collect();
    format!("ClientQuotaEntity(entries={{{}}})", parts.join(", "))
}

/// Of an entry with a key twice Kafka says the same as of an entity twice.
fn ops_of(entry: &EntryData, entity: &QuotaEntity) -> Result<Ops, Refusal> {
    let mut ops = Ops::new();
    for OpData { key, value, remove } in &entry.ops {
        let value = (!remove).then_some(*value);
        if ops.insert(key.clone(), value).is_some() {
            return Err(duplicate(entity));
        }
    }
    Ok(ops)
}

fn duplicate(entity: &QuotaEntity) -> Refusal {
    invalid(format!("Ignoring duplicate entity {}", shown(entity)))
}

/// The keys that an entity may have.
fn keys_of(entity: &QuotaEntity) -> Result<&'static [(&'static str, Kind)], Refusal> {
    if entity.is_empty() {
        return Err(invalid("Invalid empty client quota entity".into()));
    }
    for (kind, name) in entity {
        if ![USER, CLIENT_ID, IP].contains(&kind.as_str()) {
            return Err(invalid(format!(
                "Unhandled client quota entity type: {kind}"
            )));
        }
        if name.as_ref().is_some_and(|name| name.is_empty()) {
            return Err(invalid(format!("Empty {kind} not supported")));
        }
    }
    let Some((_, ip)) = entity.iter().find(|(kind, _)| *kind == *IP) else {
        return Ok(CLIENT_KEYS);
    };
    match ip {
        _ if entity.len() > 1 => Err(invalid(
            "Invalid quota entity combination, IP entity shouldnot be combined with User or ClientId".into(),
        )),
        Some(host) if !is_host(host) => {
            Err(invalid(format!("{host} is not a valid IP or resolvable host.")))
        }
        _ => Ok(IP_KEYS),
    }
}

/// An address, or what may be a host's name: Kafka asks the resolver, a decision here can't.
fn is_host(text: &str) -> bool {
    if text.parse::<std::net::IpAddr>().is_ok() {
        return true;
    }
    let letter = |b: u8| b.is_ascii_alphanumeric() || b == b'-' || b == b'_';
    let label = |label: &str| !label.is_empty() && label.bytes().all(letter);
    let numeric = text.bytes().all(|b| b.is_ascii_digit() || b == b'.');
    !numeric && text.len() <= 253 && text.split('.').all(label)
}

fn check_value(keys: &[(&str, Kind)], key: &str, value: f64) -> Result<(), Refusal> {
    let Some((_, kind)) = keys.iter().find(|(known, _)| *known == key) else {
        return Err(invalid(format!("Invalid configuration key {key}")));
    };
    if !value.is_finite() {
        return Err(invalid(format!("Quota {key} must be a finite number")));
    }
    if value <= 0.0 {
        return Err(invalid(format!("Quota {key} must be greater than 0")));
    }
    let too_large = |what| {
        Err(invalid(format!(
            "Proposed value for {key} is too large for {what}."
        )))
    };
    match kind {
        Kind::Double => Ok(()),
        Kind::Int if value > f64::from(i32::MAX) => too_large("an INT"),
        Kind::Long if value > i64::MAX as f64 => too_large("a LONG"),
        _ if (value % 1.0).abs() > FRACTION_MAX => {
            Err(invalid(format!("{key} cannot be a fractional value.")))
        }
        _ => Ok(()),
    }
}

impl Controller {
    pub(crate) fn alter_client_quotas(&self, request: &AlterClientQuotasRequest) -> Decision {
        let mut results: BTreeMap<QuotaEntity, Result<(), Refusal>> = BTreeMap::new();
        let mut records = Records::default();
        for entry in &request.entries {
            let entity = entity_of(&entry.entity);
            if let Some(result) = results.get_mut(&entity) {
                *result = Err(duplicate(&entity));
                continue;
            }
            let made = ops_of(entry, &entity).and_then(|ops| self.quota_records(&entity, ops));
            results.insert(entity, made.map(|made| records.append(made)));
        }
        if request.validate_only {
            records = Records::default();
        }
        let answer = AlterClientQuotasResponse {
            entries: results.iter().map(|(e, result)| entry(e, result)).collect(),
            ..AlterClientQuotasResponse::default()
        };
        Decision::records(records).with_answer(answer).atomic()
    }

    /// What has to be written: only what changes.
    fn quota_records(&self, entity: &QuotaEntity, ops: Ops) -> Result<Records, Refusal> {
        let keys = keys_of(entity)?;
        let current = self.state.image.quotas.get(entity);
        let mut records = Records::default();
        for (key, value) in ops {
            let before = current.and_then(|values| values.get(&key));
            if let Some(value) = value {
                check_value(keys, &key, value)?;
            }
            if before.copied() == value {
                continue;
            }
            let part = |(kind, name): &(Str, Option<Str>)| client_quota_record::EntityData {
                entity_type: kind.clone(),
                entity_name: name.clone(),
            };
            let record = ClientQuotaRecord {
                entity: entity.iter().map(part).collect(),
                key,
                value: value.unwrap_or_default(),
                remove: value.is_none(),
            };
            records.push(record, 0);
        }
        Ok(records)
    }
}

fn entry(entity: &QuotaEntity, result: &Result<(), Refusal>) -> response::EntryData {
    let (error_code, error_message) = fields(result);
    let part = |(kind, name): &(Str, Option<Str>)| response::EntityData {
        entity_type: kind.clone(),
        entity_name: name.clone(),
    };
    response::EntryData {
        error_code,
        error_message,
        entity: entity.iter().map(part).collect(),
    }
}

/// The whole request refused.
pub(crate) fn refused(
    request: &AlterClientQuotasRequest,
    refusal: &Refusal,
) -> AlterClientQuotasResponse {
    let entries = request.entries.iter();
    let refused = Err(refusal.clone());
    AlterClientQuotasResponse {
        entries: entries
            .map(|e| entry(&entity_of(&e.entity), &refused))
            .collect(),
        ..AlterClientQuotasResponse::default()
    }
}
