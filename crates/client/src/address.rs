//! Addresses in `bootstrap.servers`.

use std::fmt;

use crate::Error;

/// A host and a port, as written.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Address {
    pub host: String,
    pub port: u16,
}

impl Address {
    pub fn new(host: impl Into<String>, port: u16) -> Address {
        let host = host.into();
        Address { host, port }
    }

    /// One address: `host:port`, `[ipv6]:port`, also with a protocol name before it (`PLAINTEXT://host:port`).
    pub fn parse(text: &str) -> Option<Address> {
        let rest = text.rsplit_once("://").map_or(text, |(_, rest)| rest);
        let (host, port) = rest.rsplit_once(':')?;
        let port = port.parse().ok()?;
        let bare = host.strip_prefix('[').and_then(|h| h.strip_suffix(']'));
        let host = match bare {
            Some(ipv6) => ipv6,
            None if host.contains(':') || host.is_empty() => return None,
            None => host,
        };
        Some(Address::new(host, port))
    }

    /// The list of `bootstrap.servers`; at least one.
    pub fn parse_list(text: &str) -> Result<Vec<Address>, Error> {
        let parts = text
            .split(',')
            .map(str::trim)
            .filter(|part| !part.is_empty());
        let list = parts
            .map(|part| {
                let wrong = || Error::Config(format!("Invalid url in bootstrap.servers: {part}"));
                Address::parse(part).ok_or_else(wrong)
            })
            .collect::<Result<Vec<_>, _>>()?;
        match list.is_empty() {
            false => Ok(list),
            true => Err(Error::Config(
                "No bootstrap urls given in bootstrap.servers: host:port[,host:port…] is needed"
                    .into(),
            )),
        }
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.host.contains(':') {
            true => write!(f, "[{}]:{}", self.host, self.port),
            false => write!(f, "{}:{}", self.host, self.port),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_taken_as_kafka_takes_them() {
        let text = |list: &str| {
            let parsed = Address::parse_list(list)?;
            Ok::<_, Error>(parsed.iter().map(Address::to_string).collect::<Vec<_>>())
        };
        assert_eq!(text("a:1, b:2,").unwrap(), ["a:1", "b:2"]);
        assert_eq!(text("[::1]:9092").unwrap(), ["[::1]:9092"]);
        assert_eq!(text("PLAINTEXT://h:9").unwrap(), ["h:9"]);
        for wrong in ["127.0.0.1", "h:", "h:70000", ":1", "::1:1"] {
            let expected = format!("Invalid url in bootstrap.servers: {wrong}");
            assert_eq!(text(wrong), Err(Error::Config(expected)));
        }
        assert!(text(" ,").is_err());
    }
}
