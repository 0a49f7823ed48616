//! DescribeClientQuotas (KIP-546). v1: flexible. Answered from the image; quotas are stored, not enforced yet.

use std::collections::BTreeMap;

use milena_base::ErrorCode;
use milena_image::{Image, QuotaEntity};
use milena_protocol::describe_client_quotas_request::ComponentData;
use milena_protocol::describe_client_quotas_response::{EntityData, EntryData, ValueData};
use milena_protocol::{DescribeClientQuotasRequest, DescribeClientQuotasResponse, Str};

use crate::broker::Broker;
use crate::ctx::{Ctx, Outbox, Reply};

const TYPES: [&str; 3] = ["user", "client-id", "ip"];
const MATCH_EXACT: i8 = 0;
const MATCH_DEFAULT: i8 = 1;
const MATCH_SPECIFIED: i8 = 2;

type Refusal = (ErrorCode, String);

/// What a type's name has to be.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Wanted {
    /// This one; `None` is the type's default.
    Named(Option<Str>),
    /// Any, the default too.
    Any,
}

pub(super) fn handle(
    broker: &Broker,
    ctx: &Ctx,
    request: DescribeClientQuotasRequest,
    _out: &mut Outbox,
) -> Reply {
    let answer = match filter(&request.components) {
        Ok(filter) => DescribeClientQuotasResponse {
            entries: Some(matching(&broker.image(), &filter, request.strict)),
            ..DescribeClientQuotasResponse::default()
        },
        Err((code, why)) => DescribeClientQuotasResponse {
            error_code: code.code(),
            error_message: Some(Str::from(why)),
            entries: None,
            ..DescribeClientQuotasResponse::default()
        },
    };
    ctx.now_frame(&answer)
}

fn filter(components: &[ComponentData]) -> Result<BTreeMap<&str, Wanted>, Refusal> {
    let invalid = |why: String| (ErrorCode::InvalidRequest, why);
    let mut filter = BTreeMap::new();
    for component in components {
        let kind = component.entity_type.as_str();
        if kind.is_empty() {
            return Err(invalid("Invalid empty entity type.".into()));
        }
        if filter.contains_key(kind) {
            let why = format!("Entity type {kind} cannot appear more than once in the filter.");
            return Err(invalid(why));
        }
        if !TYPES.contains(&kind) {
            let why = format!("Unsupported entity type {kind}");
            return Err((ErrorCode::UnsupportedVersion, why));
        }
        let needless = |name: &str| {
            invalid(format!("Request specified {name}, but also specified a match string."))
        };
        let wanted = match (component.match_type, &component.r#match) {
            (MATCH_EXACT, Some(name)) => Wanted::Named(Some(name.clone())),
            (MATCH_EXACT, None) => {
                let why = "Request specified MATCH_TYPE_EXACT, but set match string to null.";
                return Err(invalid(why.into()));
            }
            (MATCH_DEFAULT, None) => Wanted::Named(None),
            (MATCH_DEFAULT, Some(_)) => return Err(needless("MATCH_TYPE_DEFAULT")),
            (MATCH_SPECIFIED, None) => Wanted::Any,
            (MATCH_SPECIFIED, Some(_)) => return Err(needless("MATCH_TYPE_SPECIFIED")),
            (other, _) => return Err(invalid(format!("Unknown match type {other}"))),
        };
        filter.insert(kind, wanted);
    }
    if filter.contains_key("ip") && filter.len() > 1 {
        let why = "Invalid entity filter component combination. IP filter component should not be used with user or clientId filter component.";
        return Err(invalid(why.into()));
    }
    Ok(filter)
}

fn matching(image: &Image, filter: &BTreeMap<&str, Wanted>, strict: bool) -> Vec<EntryData> {
    let fits = |entity: &QuotaEntity| {
        let each = filter.iter().all(|(kind, wanted)| {
            let part = entity.iter().find(|(known, _)| known.as_str() == *kind);
            part.is_some_and(|(_, name)| match wanted {
                Wanted::Any => true,
                Wanted::Named(wanted) => name == wanted,
            })
        });
        // A strict filter without components matches nothing.
        each && (!strict || (entity.len() == filter.len()))
    };
    let entries = image.quotas.iter().filter(|(entity, _)| fits(entity));
    entries
        .map(|(entity, values)| EntryData {
            entity: entity
                .iter()
                .map(|(kind, name)| EntityData {
                    entity_type: kind.clone(),
                    entity_name: name.clone(),
                })
                .collect(),
            values: values
                .iter()
                .map(|(key, value)| ValueData {
                    key: key.clone(),
                    value: *value,
                })
                .collect(),
        })
        .collect()
}
