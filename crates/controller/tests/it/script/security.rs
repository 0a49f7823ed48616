//! The words for client quotas and SCRAM credentials.

use milena_protocol::*;

use super::{Script, answer, error};

impl Script {
    /// Entries `entity,… : key=value,…` between semicolons; an entity is `type=name` or `type` for its default, a key
    /// without a value is removed.
    pub(super) fn quotas(&mut self, text: &str) -> String {
        use alter_client_quotas_request::*;
        let (text, validate_only) = match text.strip_prefix("validate ") {
            Some(text) => (text, true),
            None => (text, false),
        };
        let split = |text: &str| -> Vec<(Str, Option<Str>)> {
            let parts = text.trim().split(',').filter(|part| !part.is_empty());
            let part = |part: &str| match part.split_once('=') {
                Some((name, value)) => (Str::copy(name), Some(Str::copy(value))),
                None => (Str::copy(part), None),
            };
            parts.map(part).collect()
        };
        let entry = |text: &str| {
            let (entity, ops) = text.split_once(':').unwrap();
            let entity = split(entity).into_iter();
            let ops = split(ops).into_iter();
            EntryData {
                entity: entity
                    .map(|(entity_type, entity_name)| EntityData {
                        entity_type,
                        entity_name,
                    })
                    .collect(),
                ops: ops
                    .map(|(key, value)| OpData {
                        key,
                        remove: value.is_none(),
                        value: value.map_or(0.0, |value| value.parse().unwrap()),
                    })
                    .collect(),
            }
        };
        let request = AlterClientQuotasRequest {
            entries: text.split(';').map(entry).collect(),
            validate_only,
        };
        let decision = self.harness.ask(request, 1);
        let response: AlterClientQuotasResponse = answer(decision.clone());
        let line = |entry: &alter_client_quotas_response::EntryData| {
            let parts = entry.entity.iter();
            let parts = parts.map(|p| {
                let name = p.entity_name.as_deref().unwrap_or("<default>");
                format!("{}={name}", p.entity_type)
            });
            let parts: Vec<String> = parts.collect();
            let error = error(entry.error_code, entry.error_message.as_ref());
            format!("{} {error}\n", parts.join(","))
        };
        let mut out: String = response.entries.iter().map(line).collect();
        out.push_str(&self.records(&decision));
        out
    }

    /// `+user:mechanism:iterations` sets a credential, `-user:mechanism` takes it away.
    pub(super) fn scram(&mut self, text: &str) -> String {
        use alter_user_scram_credentials_request::*;
        let mut request = AlterUserScramCredentialsRequest::default();
        for word in text.split_whitespace() {
            let (sign, rest) = word.split_at(1);
            let parts: Vec<&str> = rest.split(':').collect();
            let (name, mechanism) = (Str::copy(parts[0]), parts[1].parse().unwrap());
            match sign {
                "-" => request
                    .deletions
                    .push(ScramCredentialDeletion { name, mechanism }),
                _ => request.upsertions.push(ScramCredentialUpsertion {
                    name,
                    mechanism,
                    iterations: parts[2].parse().unwrap(),
                    salt: b"salt"[..].into(),
                    salted_password: b"salted"[..].into(),
                }),
            }
        }
        let decision = self.harness.ask(request, 0);
        let response: AlterUserScramCredentialsResponse = answer(decision.clone());
        let line =
            |result: &alter_user_scram_credentials_response::AlterUserScramCredentialsResult| {
                let error = error(result.error_code, result.error_message.as_ref());
                format!("{} {error}\n", result.user)
            };
        let mut out: String = response.results.iter().map(line).collect();
        out.push_str(&self.records(&decision));
        out
    }
}
