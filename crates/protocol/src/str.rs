//! `Str`: a string that is a slice of what it was read from.

use std::borrow::{Borrow, Cow};
use std::fmt;
use std::ops::Deref;

use bytes::Bytes;

/// An immutable string; cloning copies no text. Invariant: the bytes are UTF-8.
#[derive(Clone, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Str(Bytes);

impl Str {
    pub const EMPTY: Str = Str(Bytes::new());

    pub const fn from_static(text: &'static str) -> Str {
        Str(Bytes::from_static(text.as_bytes()))
    }

    /// A `Str` of its own, with a copy of the text.
    pub fn copy(text: &str) -> Str {
        Str(Bytes::copy_from_slice(text.as_bytes()))
    }

    /// The text as it came over the wire. Malformed UTF-8 becomes U+FFFD, as in Kafka.
    pub fn from_wire(bytes: Bytes) -> Str {
        match String::from_utf8_lossy(&bytes) {
            Cow::Borrowed(_) => Str(bytes),
            Cow::Owned(repaired) => Str::from(repaired),
        }
    }

    pub fn as_str(&self) -> &str {
        // Checked at every entry; checking again costs less than unsafe code would cost in review.
        std::str::from_utf8(&self.0).expect("a Str is UTF-8")
    }

    /// Bytes, not letters.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// A copy that does not keep the request alive that this one was decoded from.
    #[must_use]
    pub fn detached(&self) -> Str {
        Str(Bytes::copy_from_slice(&self.0))
    }
}

impl Deref for Str {
    type Target = str;
    fn deref(&self) -> &str {
        self.as_str()
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
        Str(Bytes::from(text.into_bytes()))
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
    use super::*;

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
