//! The properties that a client understands (`--command-config`, `--command-property`), read once.

use std::collections::BTreeMap;
use std::time::Duration;

use milena_protocol::Str;

use crate::{Address, Error};

/// What every kind of client needs.
#[derive(Clone, Debug)]
pub struct ClientConfig {
    pub bootstrap: Vec<Address>,
    /// Whether the addresses are those of controllers (`bootstrap.controllers`).
    pub controllers: bool,
    pub client_id: Option<Str>,
    /// `request.timeout.ms`: until one answer.
    pub request_timeout: Duration,
    /// `default.api.timeout.ms`: until a call with all its retries.
    pub api_timeout: Duration,
    /// `retry.backoff.ms` and `retry.backoff.max.ms`.
    pub retry_backoff: Duration,
    pub retry_backoff_max: Duration,
    /// `socket.connection.setup.timeout.max.ms`.
    pub connect_timeout: Duration,
    /// `metadata.max.age.ms`.
    pub metadata_age_max: Duration,
}

impl ClientConfig {
    /// From properties by Kafka's names. A value that is not allowed, and a security protocol that is not built
    /// yet, are an error; keys of other kinds of clients are ignored.
    pub fn new(properties: &BTreeMap<String, String>) -> Result<ClientConfig, Error> {
        let read = Properties(properties);
        read.refuse_security()?;
        let controllers = properties.get("bootstrap.controllers");
        let servers = controllers.or(properties.get("bootstrap.servers"));
        let servers = servers.map(String::as_str).unwrap_or_default();
        let client_id = properties.get("client.id").filter(|id| !id.is_empty());
        Ok(ClientConfig {
            bootstrap: Address::parse_list(servers)?,
            controllers: controllers.is_some(),
            client_id: client_id.map(|id| Str::copy(id)),
            request_timeout: read.millis("request.timeout.ms", 30_000)?,
            api_timeout: read.millis("default.api.timeout.ms", 60_000)?,
            retry_backoff: read.millis("retry.backoff.ms", 100)?,
            retry_backoff_max: read.millis("retry.backoff.max.ms", 1_000)?,
            connect_timeout: read.millis("socket.connection.setup.timeout.max.ms", 30_000)?,
            metadata_age_max: read.millis("metadata.max.age.ms", 300_000)?,
        })
    }

    /// Kafka's pause before try number `attempt` (0 is the first retry): doubled each time, up to the maximum.
    pub fn backoff(&self, attempt: u32) -> Duration {
        let doubled = self.retry_backoff.saturating_mul(1 << attempt.min(16));
        doubled.min(self.retry_backoff_max.max(self.retry_backoff))
    }
}

/// Typed reading with Kafka's message for a value that does not fit.
pub(crate) struct Properties<'a>(pub &'a BTreeMap<String, String>);

impl Properties<'_> {
    pub(crate) fn text(&self, key: &str) -> Option<&str> {
        self.0.get(key).map(|value| value.trim())
    }

    pub(crate) fn long(&self, key: &str, default: i64, min: i64, max: i64) -> Result<i64, Error> {
        let Some(text) = self.text(key) else {
            return Ok(default);
        };
        let kind = if max == i64::MAX { "LONG" } else { "INT" };
        let parsed = text
            .parse::<i64>()
            .map_err(|_| invalid(key, text, &format!("Not a number of type {kind}")))?;
        if parsed < min {
            return Err(invalid(key, text, &format!("Value must be at least {min}")));
        }
        match parsed <= max {
            true => Ok(parsed),
            false => Err(invalid(key, text, &format!("Not a number of type {kind}"))),
        }
    }

    pub(crate) fn millis(&self, key: &str, default: i64) -> Result<Duration, Error> {
        let millis = self.long(key, default, 0, i64::MAX)?;
        Ok(Duration::from_millis(millis as u64))
    }

    pub(crate) fn flag(&self, key: &str, default: bool) -> Result<bool, Error> {
        match self.text(key).map(str::to_ascii_lowercase).as_deref() {
            None => Ok(default),
            Some("true") => Ok(true),
            Some("false") => Ok(false),
            Some(other) => Err(invalid(
                key,
                other,
                "Expected value to be either true or false",
            )),
        }
    }

    /// One of some words.
    pub(crate) fn choice(
        &self,
        key: &str,
        default: &'static str,
        allowed: &[&'static str],
    ) -> Result<&'static str, Error> {
        let Some(text) = self.text(key) else {
            return Ok(default);
        };
        let found = allowed.iter().find(|word| **word == text);
        found.copied().ok_or_else(|| {
            let why = format!("String must be one of: {}", allowed.join(", "));
            invalid(key, text, &why)
        })
    }

    fn refuse_security(&self) -> Result<(), Error> {
        match self.text("security.protocol") {
            None | Some("PLAINTEXT") => Ok(()),
            Some(other) => Err(Error::Config(format!(
                "security.protocol={other} is not built yet in Milena's tools; only PLAINTEXT is"
            ))),
        }
    }
}

pub(crate) fn invalid(key: &str, value: &str, why: &str) -> Error {
    Error::Config(format!(
        "Invalid value {value} for configuration {key}: {why}"
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(pairs: &[(&str, &str)]) -> Result<ClientConfig, Error> {
        let mut properties = BTreeMap::from([("bootstrap.servers".into(), "h:1".into())]);
        let pairs = pairs.iter().map(|(k, v)| (k.to_string(), v.to_string()));
        properties.extend(pairs);
        ClientConfig::new(&properties)
    }

    #[test]
    fn values_that_do_not_fit_are_named() {
        let wrong = |key, value| config(&[(key, value)]).unwrap_err().to_string();
        assert_eq!(
            wrong("request.timeout.ms", "soon"),
            "Invalid value soon for configuration request.timeout.ms: Not a number of type LONG"
        );
        assert!(wrong("retry.backoff.ms", "-1").ends_with("Value must be at least 0"));
        assert!(wrong("security.protocol", "SASL_SSL").contains("not built yet"));
    }

    #[test]
    fn pauses_double_up_to_their_maximum() {
        let config = config(&[]).unwrap();
        let pauses: Vec<u128> = (0..6).map(|n| config.backoff(n).as_millis()).collect();
        assert_eq!(pauses, [100, 200, 400, 800, 1000, 1000]);
    }
}
