//! Kafka's `Uuid`: 16 bytes, written as URL-safe base64 without padding (22 characters).

use std::fmt;
use std::str::FromStr;

use crate::Prng;

const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";

/// Topic ids, directory ids, incarnation ids. Ordered by its bytes.
#[derive(Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Uuid(pub [u8; 16]);

impl Uuid {
    /// No id (also `DirectoryId.MIGRATING`).
    pub const ZERO: Uuid = Uuid([0; 16]);
    /// `Uuid.ONE_UUID`: `DirectoryId.UNASSIGNED` and the id of the metadata topic.
    pub const ONE: Uuid = Uuid::from_parts(0, 1);
    /// The id of `__cluster_metadata` (`Uuid.METADATA_TOPIC_ID`).
    pub const METADATA_TOPIC: Uuid = Uuid::ONE;
    /// `DirectoryId.MIGRATING`: a replica from before directories were assigned.
    pub const DIRECTORY_MIGRATING: Uuid = Uuid::from_parts(0, 0);
    /// `DirectoryId.UNASSIGNED`: the broker has not said yet where the replica lies.
    pub const DIRECTORY_UNASSIGNED: Uuid = Uuid::from_parts(0, 1);
    /// `DirectoryId.LOST`: the directory is gone.
    pub const DIRECTORY_LOST: Uuid = Uuid::from_parts(0, 2);

    pub const fn from_parts(high: u64, low: u64) -> Uuid {
        let (h, l) = (high.to_be_bytes(), low.to_be_bytes());
        Uuid([
            h[0], h[1], h[2], h[3], h[4], h[5], h[6], h[7], l[0], l[1], l[2], l[3], l[4], l[5],
            l[6], l[7],
        ])
    }

    pub fn is_zero(self) -> bool {
        self == Uuid::ZERO
    }

    /// A random (version 4) id that is not reserved and whose text does not begin with `-`, as Kafka draws them.
    pub fn random(prng: &mut Prng) -> Uuid {
        loop {
            let mut bytes = [0; 16];
            prng.fill(&mut bytes);
            bytes[6] = (bytes[6] & 0x0f) | 0x40;
            bytes[8] = (bytes[8] & 0x3f) | 0x80;
            let id = Uuid(bytes);
            if id > Uuid::from_parts(0, 99) && !id.to_string().starts_with('-') {
                return id;
            }
        }
    }
}

impl fmt::Display for Uuid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut text = [0u8; 22];
        let bits = u128::from_be_bytes(self.0);
        for (i, slot) in text.iter_mut().enumerate() {
            let index = if i < 21 {
                bits >> (122 - 6 * i)
            } else {
                bits << 4
            };
            *slot = ALPHABET[(index & 63) as usize];
        }
        f.write_str(std::str::from_utf8(&text).expect("the alphabet is ASCII"))
    }
}

impl fmt::Debug for Uuid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// A text that is not the base64 of 16 bytes; shown in the words of Kafka's `Uuid.fromString`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UuidError(pub String);

impl fmt::Display for UuidError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = &self.0;
        if text.len() > 24 {
            let start: String = text.chars().take(24).collect();
            return write!(
                f,
                "Input string with prefix `{start}` is too long to be decoded as a base64 UUID"
            );
        }
        let digits = text.trim_end_matches('=').as_bytes();
        match digits.iter().find(|digit| !ALPHABET.contains(digit)) {
            Some(digit) => write!(f, "Illegal base64 character {digit:x}"),
            None => write!(
                f,
                "Input string `{text}` decoded as {} bytes, which is not equal to the expected 16 bytes of a base64-encoded UUID",
                digits.len() * 3 / 4
            ),
        }
    }
}

impl std::error::Error for UuidError {}

impl FromStr for Uuid {
    type Err = UuidError;

    fn from_str(text: &str) -> Result<Uuid, UuidError> {
        let refused = || UuidError(text.chars().take(40).collect());
        let digits = text.trim_end_matches('=').as_bytes();
        if digits.len() != 22 {
            return Err(refused());
        }
        let mut bits: u128 = 0;
        for (i, &digit) in digits.iter().enumerate() {
            let value = ALPHABET
                .iter()
                .position(|&a| a == digit)
                .ok_or_else(refused)? as u128;
            if i < 21 {
                bits = (bits << 6) | value;
            } else {
                bits = (bits << 2) | (value >> 4);
            }
        }
        Ok(Uuid(bits.to_be_bytes()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_are_kafkas() {
        assert_eq!(Uuid::ZERO.to_string(), "AAAAAAAAAAAAAAAAAAAAAA");
        assert_eq!(Uuid::ONE.to_string(), "AAAAAAAAAAAAAAAAAAAAAQ");
        assert_eq!("AAAAAAAAAAAAAAAAAAAAAQ".parse(), Ok(Uuid::ONE));
        let refused = |text: &str| text.parse::<Uuid>().expect_err("it is no id").to_string();
        assert!(refused("notauuid").starts_with("Input string `notauuid` decoded as 6 bytes"));
        assert_eq!(
            refused("AAAAAAAAAAAAAAAAAAAA!Q"),
            "Illegal base64 character 21"
        );
        assert!(refused(&"A".repeat(25)).contains("`AAAAAAAAAAAAAAAAAAAAAAAA` is too long"));
    }

    #[test]
    fn random_ids_survive_their_text() {
        let mut prng = Prng::new(1);
        for _ in 0..1000 {
            let id = Uuid::random(&mut prng);
            assert_eq!(id.to_string().parse(), Ok(id));
            assert_eq!(id.0[6] >> 4, 4);
        }
    }
}
