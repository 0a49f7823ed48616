//! Internal records: which kind a value is, by the number before its body.
//!
//! Metadata: varints frame version 1, type, version, then the body, and nothing after it.
//! Coordinators: the key is an int16 type and a body of version 0, the value an int16 version and a body.

use bytes::Bytes;

use crate::{DecodeError, EncodeError, Message, Reader, Writer};

const FRAME_VERSION: u32 = 1;

/// Kafka's name of a kind, for example `TOPIC_RECORD` for `TopicRecord`.
pub(crate) fn upper_snake(name: &str) -> String {
    let mut out = String::with_capacity(name.len() + 4);
    for (i, c) in name.chars().enumerate() {
        if c.is_ascii_uppercase() && i > 0 {
            out.push('_');
        }
        out.push(c.to_ascii_uppercase());
    }
    out
}

/// A framed record's type and version; the body follows.
pub(crate) fn read_frame(r: &mut Reader) -> Result<(i32, i16), DecodeError> {
    let version = r.uvarint()?;
    if version != FRAME_VERSION {
        return Err(DecodeError::FrameVersion { version });
    }
    let at = r.position();
    let (type_id, version) = (r.uvarint()?, r.uvarint()?);
    match (i16::try_from(type_id), i16::try_from(version)) {
        (Ok(type_id), Ok(version)) => Ok((type_id.into(), version)),
        _ => Err(DecodeError::Varint { at }),
    }
}

pub(crate) fn read_whole<M: Message>(mut r: Reader, version: i16) -> Result<M, DecodeError> {
    let message = M::decode(&mut r, version)?;
    match r.remaining() {
        0 => Ok(message),
        remaining => Err(DecodeError::Garbage {
            at: r.position(),
            remaining,
        }),
    }
}

pub(crate) fn write_framed<M: Message>(body: &M, version: i16) -> Result<Bytes, EncodeError> {
    let mut w = Writer::new();
    w.uvarint(FRAME_VERSION);
    w.uvarint(M::KEY as u32);
    w.uvarint(version as u32);
    body.encode(&mut w, version)?;
    w.into_bytes()
}

pub(crate) fn write_prefixed<M: Message>(
    prefix: i16,
    body: &M,
    version: i16,
) -> Result<Bytes, EncodeError> {
    let mut w = Writer::new();
    w.i16(prefix);
    body.encode(&mut w, version)?;
    w.into_bytes()
}

macro_rules! record_enum {
    ($doc:literal $enum:ident $($key:literal $variant:ident $message:ident,)*) => {
        #[doc = concat!("A kind of record: ", $doc, ".")]
        #[derive(Clone, Debug, PartialEq)]
        pub enum $enum { $($variant($message),)* }

        $(impl From<$message> for $enum {
            fn from(body: $message) -> $enum { $enum::$variant(body) }
        })*

        impl $enum {
            /// The number that stands for the kind.
            pub fn type_id(&self) -> i16 {
                match self { $($enum::$variant(_) => $key,)* }
            }

            /// Kafka's name of the body, for example `TopicRecord`.
            pub fn name(&self) -> &'static str {
                match self { $($enum::$variant(_) => <$message as crate::Message>::NAME,)* }
            }

            /// The body as Kafka's tools print it.
            pub fn json(&self, version: i16) -> Result<crate::Json, EncodeError> {
                match self { $($enum::$variant(body) => crate::Json::of(body, version),)* }
            }

            /// Highest version of this kind that this release writes.
            pub fn max_version(&self) -> i16 {
                match self { $($enum::$variant(_) => <$message as crate::Message>::MAX_VERSION,)* }
            }
        }
    };
}
pub(crate) use record_enum;

macro_rules! framed_records {
    ($doc:literal $enum:ident $($key:literal $variant:ident $message:ident,)*) => {
        crate::records::record_enum! { $doc $enum $($key $variant $message,)* }

        impl $enum {
            /// The kind as `kafka-dump-log` prints it, for example `TOPIC_RECORD`.
            pub fn type_name(&self) -> String {
                crate::records::upper_snake(self.name())
            }

            /// Parses a record's value; bytes after the body are an error.
            pub fn decode(value: &bytes::Bytes) -> Result<$enum, DecodeError> {
                $enum::decode_with_version(value).map(|(record, _)| record)
            }

            /// The same, with the version that it was written in.
            pub fn decode_with_version(value: &bytes::Bytes) -> Result<($enum, i16), DecodeError> {
                let mut r = Reader::new(value.clone());
                let (type_id, version) = crate::records::read_frame(&mut r)?;
                let record = match type_id {
                    $($key => crate::records::read_whole::<$message>(r, version).map($enum::$variant),)*
                    _ => Err(DecodeError::UnknownRecord { type_id }),
                };
                Ok((record?, version))
            }

            /// The value of a record, framed.
            pub fn encode(&self, version: i16) -> Result<bytes::Bytes, EncodeError> {
                match self { $($enum::$variant(body) => crate::records::write_framed(body, version),)* }
            }
        }
    };
}
pub(crate) use framed_records;

macro_rules! coordinator_keys {
    ($doc:literal $enum:ident $($key:literal $variant:ident $message:ident,)*) => {
        crate::records::record_enum! { $doc $enum $($key $variant $message,)* }

        impl $enum {
            /// Parses a record's key. A kind of a later release is [`DecodeError::UnknownRecord`]: keep its bytes.
            pub fn decode(key: &bytes::Bytes) -> Result<$enum, DecodeError> {
                let mut r = Reader::new(key.clone());
                match r.i16()? {
                    $($key => $message::decode(&mut r, 0).map($enum::$variant),)*
                    type_id => Err(DecodeError::UnknownRecord { type_id: type_id.into() }),
                }
            }

            /// The key of a record.
            pub fn encode(&self) -> Result<bytes::Bytes, EncodeError> {
                match self { $($enum::$variant(body) => crate::records::write_prefixed($key, body, 0),)* }
            }
        }
    };
}
pub(crate) use coordinator_keys;

macro_rules! coordinator_values {
    ($doc:literal $enum:ident $($key:literal $variant:ident $message:ident,)*) => {
        crate::records::record_enum! { $doc $enum $($key $variant $message,)* }

        impl $enum {
            /// Parses the value of a record whose key has this type, with the version that it was written in.
            pub fn decode(type_id: i16, value: &bytes::Bytes) -> Result<($enum, i16), DecodeError> {
                let mut r = Reader::new(value.clone());
                let version = r.i16()?;
                let value = match type_id {
                    $($key => $message::decode(&mut r, version).map($enum::$variant),)*
                    _ => Err(DecodeError::UnknownRecord { type_id: type_id.into() }),
                };
                Ok((value?, version))
            }

            /// The value of a record.
            pub fn encode(&self, version: i16) -> Result<bytes::Bytes, EncodeError> {
                match self {
                    $($enum::$variant(body) => crate::records::write_prefixed(version, body, version),)*
                }
            }
        }
    };
}
pub(crate) use coordinator_values;
