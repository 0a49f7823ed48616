//! `Str`: a string that is a slice of what it was read from.

use std::borrow::Borrow;
use std::fmt;
use std::hash::{Hash, Hasher};
use std::ops::Deref;

use bytes::Bytes;
use bytestring::ByteString;

/// An immutable string; cloning copies no text. It compares, sorts and hashes as a `str` does.
#[derive(Clone, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Str(ByteString);

impl Str {
    pub const EMPTY: Str = Str(ByteString::new());

    pub const fn from_static(text: &'static str) -> Str {
        Str(ByteString::from_static(text))
    }

    /// A `Str` of its own, with a copy of the text.
    pub fn copy(text: &str) -> Str {
        Str(ByteString::from(text))
    }

    /// The text as it came over the wire. Malformed UTF-8 becomes U+FFFD, as in Kafka.
    pub fn from_wire(bytes: Bytes) -> Str {
        if std::str::from_utf8(&bytes).is_ok() {
            return Str(ByteString::try_from(bytes).expect("checked just now"));
        }
        Str::from(String::from_utf8_lossy(&bytes).into_owned())
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Bytes, not letters.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub fn as_bytes(&self) -> &[u8] {
        self.0.as_bytes()
    }

    /// A copy that does not keep the request alive that this one was decoded from.
    #[must_use]
    pub fn detached(&self) -> Str {
        Str::copy(self)
    }
}

impl Deref for Str {
    type Target = str;
    fn deref(&self) -> &str {
        self.as_str()
    }
}

impl Hash for Str {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.as_str().hash(state);
    }
}

impl Borrow<str> for Str {
    fn borrow(&self) -> &str {
        self.as_str()
    }
}

impl AsRef<str> for Str {
    fn as_ref(&self) -> &str {
        self.as_str()
    }
}

impl From<&'static str> for Str {
    fn from(text: &'static str) -> Str {
        Str::from_static(text)
    }
}

impl From<String> for Str {
    fn from(text: String) -> Str {
        Str(ByteString::from(text))
    }
}

impl From<Str> for String {
    fn from(text: Str) -> String {
        text.as_str().to_string()
    }
}

impl PartialEq<str> for Str {
    fn eq(&self, other: &str) -> bool {
        self.as_bytes() == other.as_bytes()
    }
}

impl PartialEq<&str> for Str {
    fn eq(&self, other: &&str) -> bool {
        self.as_bytes() == other.as_bytes()
    }
}

impl PartialEq<String> for Str {
    fn eq(&self, other: &String) -> bool {
        self.as_bytes() == other.as_bytes()
    }
}

impl fmt::Display for Str {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

impl fmt::Debug for Str {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self.as_str(), f)
    }
}

#[cfg(test)]
mod tests {
    use std::hash::DefaultHasher;

    use super::*;

    /// What `Borrow` asks for: a map by `Str` finds its keys by `&str`.
    #[test]
    fn it_hashes_and_sorts_as_a_str() {
        let hash = |value: &dyn Fn(&mut DefaultHasher)| {
            let mut hasher = DefaultHasher::new();
            value(&mut hasher);
            hasher.finish()
        };
        let text = Str::from_static("kůň");
        assert_eq!(hash(&|h| text.hash(h)), hash(&|h| "kůň".hash(h)));
        assert!(Str::from_static("a") < Str::from_static("b"));
    }

    #[test]
    fn malformed_text_is_repaired_and_good_text_is_not_copied() {
        let wire = Bytes::from_static(b"caf\xc3\xa9");
        assert_eq!(
            Str::from_wire(wire.clone()).as_bytes().as_ptr(),
            wire.as_ptr()
        );
        assert_eq!(Str::from_wire(Bytes::from_static(b"a\xff")), "a\u{fffd}");
    }
}
