//! The voters that a dynamic quorum begins with. Kafka classes `DynamicVoters`, `DynamicVoter`.

use std::collections::BTreeMap;

use milena_base::{BrokerId, Uuid};
use milena_raft::{Endpoint, KRAFT_VERSIONS, ReplicaKey, Voter, VoterSet};

fn voter(id: BrokerId, directory: Uuid, listener: &str, host: &str, port: u16) -> Voter {
    Voter {
        key: ReplicaKey::new(id, directory),
        endpoints: vec![Endpoint {
            name: listener.to_owned(),
            host: host.to_owned(),
            port,
        }],
        kraft_versions: KRAFT_VERSIONS,
    }
}

/// A set of this node alone.
pub fn standalone_voter(
    id: BrokerId,
    directory: Uuid,
    listener: &str,
    host: &str,
    port: u16,
) -> VoterSet {
    VoterSet::new([voter(id, directory, listener, host, port)])
}

/// Parses `id@host:port:directory`, separated by commas; an IPv6 host stands in brackets. The sentence that says what is
/// wrong.
pub fn parse_initial_controllers(text: &str, listener: &str) -> Result<VoterSet, String> {
    let mut voters = BTreeMap::new();
    for part in text.split(',').filter(|part| !part.trim().is_empty()) {
        let voter = parse_voter(part.trim(), listener)?;
        let id = voter.key.id;
        if voters.insert(id, voter).is_some() {
            return Err(format!("Node ID {id} was specified more than once."));
        }
    }
    if voters.is_empty() {
        return Err("No voters given.".to_owned());
    }
    Ok(VoterSet::new(voters.into_values()))
}

fn parse_voter(text: &str, listener: &str) -> Result<Voter, String> {
    let (id, rest) = text
        .split_once('@')
        .ok_or("No @ found in dynamic voter string.")?;
    if id.is_empty() {
        return Err("Invalid @ at beginning of dynamic voter string.".to_owned());
    }
    let id: i32 = id
        .parse()
        .map_err(|_| "Failed to parse node id in dynamic voter string.")?;
    if id < 0 {
        return Err(format!(
            "Invalid negative node id {id} in dynamic voter string."
        ));
    }
    if rest.is_empty() {
        return Err("No hostname found after node id.".to_owned());
    }
    let (host, rest) = split_host(rest)?;
    let rest = rest
        .strip_prefix(':')
        .ok_or("Port section must start with a colon.")?;
    let (port, directory) = rest
        .split_once(':')
        .ok_or("No colon following port could be found.")?;
    let port: i64 = port
        .parse()
        .map_err(|_| "Failed to parse port in dynamic voter string.")?;
    let port =
        u16::try_from(port).map_err(|_| format!("Invalid port {port} in dynamic voter string."))?;
    let directory = directory
        .parse()
        .map_err(|_| "Failed to parse directory ID in dynamic voter string.")?;
    Ok(voter(BrokerId(id), directory, listener, host, port))
}

fn split_host(text: &str) -> Result<(&str, &str), String> {
    match text.strip_prefix('[') {
        Some(inside) => inside.split_once(']').ok_or_else(|| {
            "Hostname began with left bracket, but no right bracket was found.".to_owned()
        }),
        None => {
            let colon = text
                .find(':')
                .ok_or("No colon following hostname could be found.")?;
            Ok(text.split_at(colon))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn voters_are_parsed_as_kafka_parses_them() {
        let text = "1@127.0.0.1:29193:uPYOdvyMTbiwS7CT1Juthg,2@[::1]:9:hF4SXCrPyl2i6YyEf8gAKg";
        let voters = parse_initial_controllers(text, "CONTROLLER").unwrap();
        let second = voters.get(BrokerId(2)).unwrap();
        assert_eq!(second.endpoints[0].host, "::1");
        assert_eq!(second.endpoints[0].port, 9);
        assert_eq!(
            second.key.directory,
            Some("hF4SXCrPyl2i6YyEf8gAKg".parse().unwrap())
        );
        for (wrong, word) in [
            ("", "No voters"),
            ("1", "No @"),
            ("@h:1:x", "Invalid @"),
            ("x@h:1:hF4SXCrPyl2i6YyEf8gAKg", "node id"),
            ("-1@h:1:hF4SXCrPyl2i6YyEf8gAKg", "negative"),
            ("1@", "No hostname"),
            ("1@h", "following hostname"),
            ("1@h:1", "following port"),
            ("1@h:70000:hF4SXCrPyl2i6YyEf8gAKg", "Invalid port"),
            ("1@h:1:zz", "directory ID"),
            ("1@[h:1:zz", "bracket"),
            (
                "1@h:1:hF4SXCrPyl2i6YyEf8gAKg,1@h:1:hF4SXCrPyl2i6YyEf8gAKg",
                "more than once",
            ),
        ] {
            let refused = parse_initial_controllers(wrong, "C").unwrap_err();
            assert!(refused.contains(word), "{wrong}: {refused}");
        }
    }
}
