//! `--add-scram`: a user's credential for the first controller to begin with. RFC 5802, Kafka class `ScramParser`.

use std::collections::BTreeMap;

use bytes::Bytes;
use milena_base::{Prng, ScramMechanism};
use milena_protocol::UserScramCredentialRecord;

use super::FormatError;

const ITERATIONS_DEFAULT: i32 = 4096;
const ITERATIONS_MIN: i32 = ScramMechanism::ITERATIONS_MIN;
const ITERATIONS_MAX: i32 = ScramMechanism::ITERATIONS_MAX;
const SALT_BYTES: usize = ScramMechanism::SALT_BYTES;

/// The record of `SCRAM-SHA-256=[name=alice,password=…]`, with `iterations`, `salt` and `saltedpassword` (base64) where
/// given. A salt that is not given is drawn.
pub(super) fn credential(
    argument: &str,
    prng: &mut Prng,
) -> Result<UserScramCredentialRecord, FormatError> {
    let (mechanism, inside) = split_mechanism(argument.trim())?;
    let mut parts = components(inside)?;
    let Some(name) = parts.remove("name") else {
        return FormatError::refuse("You must supply 'name' to add-scram");
    };
    let salt = match parts.remove("salt") {
        Some(salt) => Some(base64(&salt).ok_or_else(|| wrong("salt", &salt))?),
        None => None,
    };
    let iterations = iterations(parts.remove("iterations"), mechanism)?;
    let password = parts.remove("password");
    let salted = match (&password, parts.remove("saltedpassword")) {
        (None, None) => {
            return FormatError::refuse(
                "You must supply one of 'password' or 'saltedpassword' to add-scram",
            );
        }
        (None, Some(_)) if salt.is_none() => {
            return FormatError::refuse(
                "You must supply 'salt' with 'saltedpassword' to add-scram",
            );
        }
        (None, Some(salted)) => {
            let decoded = base64(&salted);
            // The value is as good as the password: it is not repeated.
            Some(decoded.ok_or_else(|| wrong("saltedPassword", "(not base64)"))?)
        }
        (Some(_), _) => None,
    };
    if !parts.is_empty() {
        let unknown: Vec<String> = parts.into_keys().collect();
        return FormatError::refuse(format!(
            "Unknown SCRAM configurations: {}",
            unknown.join(", ")
        ));
    }
    let salt = salt.unwrap_or_else(|| random_salt(prng));
    let salted = salted.unwrap_or_else(|| {
        mechanism.salted_password(password.unwrap_or_default().as_bytes(), &salt, iterations)
    });
    Ok(UserScramCredentialRecord {
        name: name.into(),
        mechanism: mechanism.id(),
        salt: Bytes::from(salt),
        stored_key: Bytes::from(mechanism.stored_key(&salted)),
        server_key: Bytes::from(mechanism.server_key(&salted)),
        iterations,
    })
}

fn wrong(what: &str, value: &str) -> FormatError {
    FormatError::Refused(format!("Failed to decode given {what}: {value}"))
}

fn split_mechanism(argument: &str) -> Result<(ScramMechanism, &str), FormatError> {
    let Some((name, inside)) = argument.split_once('=') else {
        // What is there may be a password.
        return FormatError::refuse("Failed to find equals sign in SCRAM argument");
    };
    let Some(mechanism) = ScramMechanism::from_name(name) else {
        return FormatError::refuse(format!("The add-scram mechanism {name} is not supported."));
    };
    let Some(inside) = inside.strip_prefix('[') else {
        return FormatError::refuse("Expected configuration string to start with [");
    };
    match inside.strip_suffix(']') {
        Some(inside) => Ok((mechanism, inside)),
        None => FormatError::refuse("Expected configuration string to end with ]"),
    }
}

fn components(inside: &str) -> Result<BTreeMap<String, String>, FormatError> {
    let mut parts = BTreeMap::new();
    for component in inside.split(',') {
        let Some((key, value)) = component.split_once('=') else {
            return FormatError::refuse("No equals sign found in a SCRAM component");
        };
        let quoted = value.len() >= 2 && value.starts_with('"') && value.ends_with('"');
        let value = if quoted {
            &value[1..value.len() - 1]
        } else {
            value
        };
        parts.insert(key.to_owned(), value.to_owned());
    }
    Ok(parts)
}

fn iterations(given: Option<String>, mechanism: ScramMechanism) -> Result<i32, FormatError> {
    let Some(text) = given else {
        return Ok(ITERATIONS_DEFAULT);
    };
    let name = mechanism.name().replace('-', "_");
    match text.parse::<i32>() {
        Err(_) => FormatError::refuse(format!("Failed to parse iterations count: {text}")),
        Ok(count) if count < ITERATIONS_MIN => FormatError::refuse(format!(
            "The 'iterations' value must be >= {ITERATIONS_MIN} for add-scram using {name}"
        )),
        Ok(count) if count > ITERATIONS_MAX => FormatError::refuse(format!(
            "The 'iterations' value must be <= {ITERATIONS_MAX} for add-scram using {name}"
        )),
        Ok(count) => Ok(count),
    }
}

/// Letters and digits, as Kafka's are.
fn random_salt(prng: &mut Prng) -> Vec<u8> {
    const DIGITS: &[u8; 36] = b"0123456789abcdefghijklmnopqrstuvwxyz";
    let digit = |_| DIGITS[prng.below(36) as usize];
    (0..SALT_BYTES).map(digit).collect()
}

/// Standard base64 with padding, as `java.util.Base64` decodes it.
fn base64(text: &str) -> Option<Vec<u8>> {
    let digits = text.trim_end_matches('=').as_bytes();
    let padding = text.len() - digits.len();
    if padding > 2 || (padding > 0 && !text.len().is_multiple_of(4)) || digits.len() % 4 == 1 {
        return None;
    }
    let mut bytes = Vec::with_capacity(digits.len() * 3 / 4);
    let (mut bits, mut held) = (0u32, 0);
    for digit in digits {
        let value = match digit {
            b'A'..=b'Z' => digit - b'A',
            b'a'..=b'z' => digit - b'a' + 26,
            b'0'..=b'9' => digit - b'0' + 52,
            b'+' => 62,
            b'/' => 63,
            _ => return None,
        };
        bits = (bits << 6) | u32::from(value);
        held += 6;
        if held >= 8 {
            held -= 8;
            bytes.push((bits >> held) as u8);
        }
    }
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn made(argument: &str) -> Result<UserScramCredentialRecord, String> {
        credential(argument, &mut Prng::new(1)).map_err(|error| error.to_string())
    }

    // What Apache Kafka 4.4.0 wrote for the same arguments.
    #[test]
    fn keys_are_kafkas() {
        let admin = made(r#"SCRAM-SHA-256=[name=admin,password=secret,salt="MTIzNDU2Nzg5MA=="]"#);
        let admin = admin.unwrap();
        assert_eq!(admin.mechanism, 1);
        assert_eq!(&admin.salt[..], b"1234567890");
        let stored = base64("/YBUJrGa5qi7OqvaYQVwlvJYP3wkzU2PzdNY1RC5N7c=").unwrap();
        let server = base64("biw000a7uQtoXDZ0G+OnM3fepwNF7mHoNe3I2rsgkb4=").unwrap();
        assert_eq!(&admin.stored_key[..], stored);
        assert_eq!(&admin.server_key[..], server);
        let bob = made(
            r#"SCRAM-SHA-512=[name=bob,iterations=8192,salt="MTIzNDU2Nzg5MA==",saltedpassword="MTIzNDU2Nzg5MA=="]"#,
        );
        let bob = bob.unwrap();
        let stored = "dppsFrVGYoAVcVpq9abMa1mm9D2A893w8Ge8NwtTN0SJ5kmfg+kVcgwvh/23TVfL6hDbfMl+ae34Jn2oXGMnHQ==";
        assert_eq!(&bob.stored_key[..], base64(stored).unwrap());
        assert_eq!((bob.mechanism, bob.iterations), (2, 8192));
    }

    #[test]
    fn wrong_arguments_are_refused_without_repeating_secrets() {
        for (argument, word) in [
            ("SCRAM-SHA-256", "equals sign"),
            ("MD5=[name=a,password=hush]", "not supported"),
            ("SCRAM-SHA-256=name=a,password=hush", "start with ["),
            ("SCRAM-SHA-256=[name=a,password=hush", "end with ]"),
            ("SCRAM-SHA-256=[password=hush]", "'name'"),
            ("SCRAM-SHA-256=[name=a]", "'password' or 'saltedpassword'"),
            ("SCRAM-SHA-256=[name=a,saltedpassword=hush]", "'salt'"),
            ("SCRAM-SHA-256=[name=a,password=hush,salt=!]", "salt"),
            (
                "SCRAM-SHA-256=[name=a,password=hush,iterations=1]",
                ">= 4096",
            ),
            (
                "SCRAM-SHA-256=[name=a,password=hush,iterations=20000]",
                "<= 16384",
            ),
            ("SCRAM-SHA-256=[name=a,password=hush,color=red]", "color"),
            ("SCRAM-SHA-256=[name=a,hush]", "No equals sign"),
        ] {
            let refused = made(argument).unwrap_err();
            assert!(refused.contains(word), "{argument}: {refused}");
            assert!(!refused.contains("hush"), "{refused}");
        }
    }

    #[test]
    fn a_salt_is_drawn_where_none_is_given() {
        let record = made("SCRAM-SHA-256=[name=a,password=hush]").unwrap();
        assert_eq!(record.salt.len(), SALT_BYTES);
        assert_eq!(record.iterations, ITERATIONS_DEFAULT);
    }
}
