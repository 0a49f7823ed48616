//! Why bytes are not a message, and why a message has no bytes.

use std::fmt;

/// Malformed or unsupported input. `at` is the position in the input, in bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DecodeError {
    /// More bytes are stated or needed than there are.
    Truncated {
        at: usize,
        wanted: usize,
        remaining: usize,
    },
    /// Null where the version does not allow it.
    Null { at: usize },
    /// A length that no encoder writes.
    Length { at: usize, length: i64 },
    /// A varint of more than 32 bits.
    Varint { at: usize },
    /// A tag that belongs to the message, but not in this version.
    Tag { at: usize, tag: u32 },
    /// A tagged field whose size is not what its content takes.
    TagSize { at: usize, tag: u32 },
    /// A version that this message does not have.
    Version { name: &'static str, version: i16 },
    /// A record kind that this release does not know.
    UnknownRecord { type_id: i32 },
    /// A record frame other than version 1.
    FrameVersion { version: u32 },
    /// Bytes after the end of a record.
    Garbage { at: usize, remaining: usize },
}

impl fmt::Display for DecodeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            DecodeError::Truncated {
                at,
                wanted,
                remaining,
            } => write!(
                f,
                "at byte {at}: {wanted} bytes are needed, {remaining} remain"
            ),
            DecodeError::Null { at } => write!(f, "at byte {at}: null in a field that has none"),
            DecodeError::Length { at, length } => {
                write!(f, "at byte {at}: {length} is no valid length")
            }
            DecodeError::Varint { at } => write!(f, "at byte {at}: a varint exceeds 32 bits"),
            DecodeError::Tag { at, tag } => {
                write!(f, "at byte {at}: tag {tag} is not valid in this version")
            }
            DecodeError::TagSize { at, tag } => {
                write!(
                    f,
                    "at byte {at}: tagged field {tag} has another size than stated"
                )
            }
            DecodeError::Version { name, version } => {
                write!(f, "{name} has no version {version}")
            }
            DecodeError::UnknownRecord { type_id } => write!(f, "unknown record type {type_id}"),
            DecodeError::FrameVersion { version } => {
                write!(f, "record frame version {version} is not 1")
            }
            DecodeError::Garbage { at, remaining } => {
                write!(
                    f,
                    "at byte {at}: {remaining} bytes after the end of the record"
                )
            }
        }
    }
}

impl std::error::Error for DecodeError {}

/// A value that the asked version cannot carry. Encoding what a peer asked for never meets one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum EncodeError {
    /// A field is set that the version lacks and that may not be dropped (Kafka: `UnsupportedVersionException`).
    Absent { field: &'static str, version: i16 },
    /// Null where the version does not allow it.
    Null { field: &'static str },
    /// A string of more than 32767 bytes, or bytes, records or an array beyond 2^31 − 1.
    TooLong { length: usize },
    /// A version that this message does not have.
    Version { name: &'static str, version: i16 },
    /// Records that are not in memory, where only bytes are wanted.
    External,
}

impl EncodeError {
    #[cold]
    pub(crate) fn absent(field: &'static str, version: i16) -> EncodeError {
        EncodeError::Absent { field, version }
    }
}

impl fmt::Display for EncodeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            EncodeError::Absent { field, version } => {
                write!(f, "{field} is set, but version {version} lacks it")
            }
            EncodeError::Null { field } => write!(f, "{field} may not be null in this version"),
            EncodeError::TooLong { length } => write!(f, "a length of {length} cannot be written"),
            EncodeError::Version { name, version } => write!(f, "{name} has no version {version}"),
            EncodeError::External => f.write_str("records on disk cannot be encoded as bytes"),
        }
    }
}

impl std::error::Error for EncodeError {}
