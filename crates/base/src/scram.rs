//! What SCRAM derives from a password (RFC 5802; Kafka class `ScramFormatter`): pure functions of their arguments.

use hmac::{Hmac, Mac};
use sha2::{Digest, Sha256, Sha512};

/// A SCRAM mechanism of Kafka's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum ScramMechanism {
    Sha256,
    Sha512,
}

impl ScramMechanism {
    pub const ALL: [ScramMechanism; 2] = [ScramMechanism::Sha256, ScramMechanism::Sha512];
    pub const ITERATIONS_MIN: i32 = 4096;
    pub const ITERATIONS_MAX: i32 = 16_384;
    /// Letters of a salt that Kafka draws.
    pub const SALT_BYTES: usize = 25;

    /// Of a request's or a record's number; `None` for one that is not known.
    pub fn from_id(id: i8) -> Option<ScramMechanism> {
        ScramMechanism::ALL
            .into_iter()
            .find(|known| known.id() == id)
    }

    /// Of its name in SASL.
    pub fn from_name(name: &str) -> Option<ScramMechanism> {
        ScramMechanism::ALL
            .into_iter()
            .find(|known| known.name() == name)
    }

    pub fn id(self) -> i8 {
        match self {
            ScramMechanism::Sha256 => 1,
            ScramMechanism::Sha512 => 2,
        }
    }

    pub fn name(self) -> &'static str {
        match self {
            ScramMechanism::Sha256 => "SCRAM-SHA-256",
            ScramMechanism::Sha512 => "SCRAM-SHA-512",
        }
    }

    /// `Hi` of RFC 5802: PBKDF2 with one block.
    pub fn salted_password(self, password: &[u8], salt: &[u8], iterations: i32) -> Vec<u8> {
        let mut round = self.hmac(password, &[salt, &[0, 0, 0, 1]]);
        let mut result = round.clone();
        for _ in 1..iterations {
            round = self.hmac(password, &[&round]);
            for (byte, other) in result.iter_mut().zip(&round) {
                *byte ^= other;
            }
        }
        result
    }

    /// The hash of the client's key: what a server keeps to check a client.
    pub fn stored_key(self, salted_password: &[u8]) -> Vec<u8> {
        self.hash(&self.hmac(salted_password, &[b"Client Key"]))
    }

    /// What a server keeps to prove itself.
    pub fn server_key(self, salted_password: &[u8]) -> Vec<u8> {
        self.hmac(salted_password, &[b"Server Key"])
    }

    fn hmac(self, key: &[u8], parts: &[&[u8]]) -> Vec<u8> {
        match self {
            ScramMechanism::Sha256 => mac(Hmac::<Sha256>::new_from_slice(key), parts),
            ScramMechanism::Sha512 => mac(Hmac::<Sha512>::new_from_slice(key), parts),
        }
    }

    fn hash(self, bytes: &[u8]) -> Vec<u8> {
        match self {
            ScramMechanism::Sha256 => Sha256::digest(bytes).to_vec(),
            ScramMechanism::Sha512 => Sha512::digest(bytes).to_vec(),
        }
    }
}

fn mac<M: Mac>(key: Result<M, impl std::fmt::Debug>, parts: &[&[u8]]) -> Vec<u8> {
    let mut mac = key.expect("HMAC takes keys of every length");
    for part in parts {
        mac.update(part);
    }
    mac.finalize().into_bytes().to_vec()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_example_of_rfc_7677() {
        let salt = [
            0x5b, 0x6d, 0x99, 0x68, 0x9d, 0x12, 0x35, 0x8e, 0xec, 0xa0, 0x4b, 0x14, 0x12, 0x36,
            0xfa, 0x81,
        ];
        let mechanism = ScramMechanism::Sha256;
        let salted = mechanism.salted_password(b"pencil", &salt, 4096);
        let head = |bytes: Vec<u8>| bytes[..4].to_vec();
        assert_eq!(
            head(mechanism.stored_key(&salted)),
            [0x58, 0x6e, 0x5d, 0xf2]
        );
        assert_eq!(
            head(mechanism.server_key(&salted)),
            [0xc1, 0xf3, 0xcb, 0xc1]
        );
    }

    #[test]
    fn numbers_and_names_are_kafkas() {
        for mechanism in ScramMechanism::ALL {
            assert_eq!(ScramMechanism::from_id(mechanism.id()), Some(mechanism));
            assert_eq!(ScramMechanism::from_name(mechanism.name()), Some(mechanism));
        }
        assert_eq!(ScramMechanism::from_id(0), None);
    }
}
