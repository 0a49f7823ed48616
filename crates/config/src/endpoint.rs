//! Listeners, endpoints and voters, as `listeners`, `advertised.listeners` and `controller.quorum.*` write them.

use std::collections::BTreeMap;
use std::fmt;
use std::net::{Ipv4Addr, Ipv6Addr};

use milena_base::{BrokerId, Uuid};

/// How connections of a listener are secured.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(i16)]
pub enum SecurityProtocol {
    Plaintext = 0,
    Ssl = 1,
    SaslPlaintext = 2,
    SaslSsl = 3,
}

impl SecurityProtocol {
    /// Every protocol.
    pub const ALL: [SecurityProtocol; 4] = [
        SecurityProtocol::Plaintext,
        SecurityProtocol::Ssl,
        SecurityProtocol::SaslPlaintext,
        SecurityProtocol::SaslSsl,
    ];

    /// Kafka's name.
    pub fn name(self) -> &'static str {
        match self {
            SecurityProtocol::Plaintext => "PLAINTEXT",
            SecurityProtocol::Ssl => "SSL",
            SecurityProtocol::SaslPlaintext => "SASL_PLAINTEXT",
            SecurityProtocol::SaslSsl => "SASL_SSL",
        }
    }

    /// The number that registrations carry.
    pub fn id(self) -> i16 {
        self as i16
    }

    /// The protocol of this name, in any case.
    pub fn from_name(name: &str) -> Option<SecurityProtocol> {
        SecurityProtocol::ALL
            .into_iter()
            .find(|p| p.name().eq_ignore_ascii_case(name))
    }
}

/// A listener with its address: to bind, or to be told to others.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Endpoint {
    /// Normalised to upper case.
    pub listener: String,
    pub protocol: SecurityProtocol,
    /// Empty: every address of the machine.
    pub host: String,
    /// 0: whatever port the system gives.
    pub port: u16,
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Endpoint {
            listener,
            host,
            port,
            ..
        } = self;
        match host.contains(':') {
            true => write!(f, "{listener}://[{host}]:{port}"),
            false => write!(f, "{listener}://{host}:{port}"),
        }
    }
}

/// What a node binds: an endpoint and whether it speaks the controller's side.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listener {
    pub endpoint: Endpoint,
    /// Named in `controller.listener.names`.
    pub controller: bool,
}

/// One voter of the quorum as `controller.quorum.voters` names it, with a directory id where `--initial-controllers` gives one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Voter {
    pub id: BrokerId,
    pub host: String,
    pub port: u16,
    pub directory: Option<Uuid>,
}

impl fmt::Display for Voter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}@{}:{}", self.id.0, self.host, self.port)
    }
}

/// Reads `NAME://host:port`; the host may be empty or an IPv6 address in brackets.
pub(crate) fn parse_endpoint(
    text: &str,
    protocols: &BTreeMap<String, SecurityProtocol>,
) -> Result<Endpoint, String> {
    let malformed = || format!("{text} is not of the form NAME://host:port");
    let (name, address) = text.rsplit_once("://").ok_or_else(malformed)?;
    let (host, port) = split_address(address).ok_or_else(malformed)?;
    let listener = name.to_uppercase();
    let protocol = protocols
        .get(&listener)
        .copied()
        .or(SecurityProtocol::from_name(&listener).filter(|_| protocols.is_empty()));
    let protocol = protocol.ok_or_else(|| {
        format!("listener {listener} has no security protocol in listener.security.protocol.map")
    })?;
    Ok(Endpoint {
        listener,
        protocol,
        host,
        port,
    })
}

/// Splits `host:port` or `[ipv6]:port`; an empty host is fine here.
pub(crate) fn split_address(text: &str) -> Option<(String, u16)> {
    let (host, port) = text.rsplit_once(':')?;
    let bare = match host.strip_prefix('[') {
        Some(inner) => inner.strip_suffix(']')?,
        None => host,
    };
    let fine = |c: char| c.is_ascii_alphanumeric() || "-%._:".contains(c);
    if !bare.chars().all(fine) || !port.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    Some((bare.to_owned(), port.parse().ok()?))
}

/// Reads `id@host:port` entries, in Kafka's words when they are wrong.
pub(crate) fn parse_voters(items: &[String]) -> Result<Vec<Voter>, String> {
    items.iter().map(|item| parse_voter(item)).collect()
}

fn parse_voter(item: &str) -> Result<Voter, String> {
    let wrong = |why: &str| {
        format!("Invalid value {item} for configuration controller.quorum.voters: {why}")
    };
    let (id, address) = item
        .split_once('@')
        .ok_or_else(|| wrong("Each voter should be of the form {id}@{host}:{port}."))?;
    let id = id.trim().parse().ok().filter(|id| *id >= 0);
    let id = id.ok_or_else(|| wrong("Failed to parse voter ID as a non-negative integer."))?;
    let (host, port) = split_address(address.trim())
        .filter(|(host, _)| !host.is_empty())
        .ok_or_else(|| wrong("Failed to parse host and port."))?;
    Ok(Voter {
        id: BrokerId(id),
        host,
        port,
        directory: None,
    })
}

/// Whether it is `host:port` with a host.
pub(crate) fn is_bootstrap_server(text: &str) -> bool {
    split_address(text).is_some_and(|(host, _)| !host.is_empty())
}

/// Which kind of IP address a host is, if it is one.
fn ip_version(host: &str) -> Option<u8> {
    let bare = host.split('%').next().unwrap_or(host);
    if host.parse::<Ipv4Addr>().is_ok() {
        Some(4)
    } else if bare.parse::<Ipv6Addr>().is_ok() {
        Some(6)
    } else {
        None
    }
}

/// Checks that names differ, and ports too unless one address is IPv4 and the other IPv6.
pub(crate) fn check_distinct(endpoints: &[Endpoint], ports: bool) -> Result<(), String> {
    for (at, one) in endpoints.iter().enumerate() {
        for other in &endpoints[at + 1..] {
            if one.listener == other.listener {
                return Err(format!(
                    "each listener needs a name of its own, {} is there twice",
                    one.listener
                ));
            }
            let both = (ip_version(&one.host), ip_version(&other.host));
            let twins = matches!(both, (Some(4), Some(6)) | (Some(6), Some(4)));
            if ports && one.port != 0 && one.port == other.port && !twins {
                return Err(format!(
                    "each listener needs a port of its own, {} is there twice; \
                     only one IPv4 and one IPv6 address may share a port",
                    one.port
                ));
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn protocols() -> BTreeMap<String, SecurityProtocol> {
        SecurityProtocol::ALL
            .into_iter()
            .map(|p| (p.name().to_owned(), p))
            .collect()
    }

    #[test]
    fn endpoints_parse() {
        for (text, shown) in [
            ("PLAINTEXT://:9092", "PLAINTEXT://:9092"),
            ("plaintext://localhost:0", "PLAINTEXT://localhost:0"),
            ("SSL://[::1]:9093", "SSL://[::1]:9093"),
        ] {
            assert_eq!(
                parse_endpoint(text, &protocols()).unwrap().to_string(),
                shown
            );
        }
        for text in [
            "",
            "PLAINTEXT",
            "PLAINTEXT:9092",
            "PLAINTEXT://h",
            "PLAINTEXT://h:99999",
            "PLAINTEXT://a b:1",
            "NOPE://h:1",
        ] {
            assert!(parse_endpoint(text, &protocols()).is_err(), "{text}");
        }
    }

    #[test]
    fn names_and_ports_are_distinct() {
        let check = |texts: &[&str]| {
            let all: Vec<_> = texts
                .iter()
                .map(|t| parse_endpoint(t, &protocols()).unwrap())
                .collect();
            check_distinct(&all, true).is_ok()
        };
        assert!(check(&["PLAINTEXT://a:1", "SSL://a:2"]));
        assert!(check(&["PLAINTEXT://a:0", "SSL://a:0"]));
        assert!(check(&["PLAINTEXT://127.0.0.1:1", "SSL://[::1]:1"]));
        assert!(!check(&["PLAINTEXT://a:1", "SSL://b:1"]));
        assert!(!check(&["PLAINTEXT://127.0.0.1:1", "SSL://127.0.0.2:1"]));
        assert!(!check(&["PLAINTEXT://a:1", "PLAINTEXT://b:2"]));
    }

    #[test]
    fn voters_parse() {
        let voters = parse_voters(&["1@h:9093".into(), "2@[::1]:1".into()]).unwrap();
        assert_eq!(voters[0].to_string(), "1@h:9093");
        assert_eq!(voters[1].host, "::1");
        for text in ["1", "x@h:1", "-1@h:1", "1@h", "1@:1"] {
            assert!(parse_voters(&[text.into()]).is_err(), "{text}");
        }
    }
}
