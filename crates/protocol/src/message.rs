//! What all messages have in common.

use std::fmt;

use bytes::Bytes;
use milena_base::Uuid;

use crate::schema::Schema;
use crate::{ApiKey, DecodeError, EncodeError, Reader, Str, Writer};

/// What can stand in an array: scalars and structures. `flex` is whether the version is a flexible one.
pub trait Element: Sized {
    /// Fewest bytes that one takes in any version; never 0.
    #[doc(hidden)]
    const MIN_SIZE: usize;
    #[doc(hidden)]
    fn read(r: &mut Reader, version: i16, flex: bool) -> Result<Self, DecodeError>;
    #[doc(hidden)]
    fn write(&self, w: &mut Writer, version: i16, flex: bool) -> Result<(), EncodeError>;
}

/// A request, response, header or record. `Default` gives the defaults of Kafka's schema.
pub trait Message: Element + Default + Clone + fmt::Debug + PartialEq + 'static {
    /// Kafka's name, for example `FetchRequest`.
    const NAME: &'static str;
    /// API key or record type; −1 where there is none.
    const KEY: i16;
    const MIN_VERSION: i16;
    /// The highest version that can be encoded; what is advertised is [`ApiKey::max_version`].
    const MAX_VERSION: i16;
    /// First flexible version (KIP-482); `i16::MAX` where there is none.
    const FLEXIBLE_FROM: i16;
    /// The table of fields, for tools that print or make messages.
    const SCHEMA: &'static Schema;

    /// Whether `version` can be decoded and encoded.
    fn has_version(version: i16) -> bool {
        (Self::MIN_VERSION..=Self::MAX_VERSION).contains(&version)
    }

    /// Reads the body; what follows it stays in the reader.
    fn decode(r: &mut Reader, version: i16) -> Result<Self, DecodeError> {
        if !Self::has_version(version) {
            let name = Self::NAME;
            return Err(DecodeError::Version { name, version });
        }
        Self::read(r, version, version >= Self::FLEXIBLE_FROM)
    }

    /// Appends the body.
    fn encode(&self, w: &mut Writer, version: i16) -> Result<(), EncodeError> {
        if !Self::has_version(version) {
            let name = Self::NAME;
            return Err(EncodeError::Version { name, version });
        }
        self.write(w, version, version >= Self::FLEXIBLE_FROM)
    }

    /// [`Message::decode`] of a whole buffer. Trailing bytes are not looked at, as in Kafka.
    fn from_bytes(bytes: Bytes, version: i16) -> Result<Self, DecodeError> {
        Self::decode(&mut Reader::new(bytes), version)
    }

    /// [`Message::encode`] into a buffer of its own; records have to be in memory.
    fn to_bytes(&self, version: i16) -> Result<Bytes, EncodeError> {
        let mut w = Writer::new();
        self.encode(&mut w, version)?;
        w.into_bytes()
    }
}

/// A request names its answer.
pub trait Request: Message {
    type Response: Message;
    const API_KEY: ApiKey;
}

/// An int16 version, then the body: values of coordinator records, embedded structures of the consumer protocol.
pub fn encode_versioned<M: Message>(message: &M, version: i16) -> Result<Bytes, EncodeError> {
    let mut w = Writer::new();
    w.i16(version);
    message.encode(&mut w, version)?;
    w.into_bytes()
}

/// The reverse of [`encode_versioned`], with the version that was found.
pub fn decode_versioned<M: Message>(bytes: &Bytes) -> Result<(M, i16), DecodeError> {
    let mut r = Reader::new(bytes.clone());
    let version = r.i16()?;
    Ok((M::decode(&mut r, version)?, version))
}

/// Stands in `Debug` where a password or key would.
pub(crate) struct Hidden;

impl fmt::Debug for Hidden {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[hidden]")
    }
}

macro_rules! scalar {
    ($($type:ty, $method:ident, $size:literal;)*) => {$(
        impl Element for $type {
            const MIN_SIZE: usize = $size;
            fn read(r: &mut Reader, _: i16, _: bool) -> Result<Self, DecodeError> {
                r.$method()
            }
            fn write(&self, w: &mut Writer, _: i16, _: bool) -> Result<(), EncodeError> {
                w.$method(*self);
                Ok(())
            }
        }
    )*};
}

scalar! {
    bool, bool, 1;
    i8, i8, 1;
    i16, i16, 2;
    u16, u16, 2;
    i32, i32, 4;
    u32, u32, 4;
    i64, i64, 8;
    f64, f64, 8;
    Uuid, uuid, 16;
}

macro_rules! sized {
    ($($type:ty, $method:ident;)*) => {$(
        impl Element for $type {
            const MIN_SIZE: usize = 1;
            fn read(r: &mut Reader, _: i16, flex: bool) -> Result<Self, DecodeError> {
                r.$method(flex)
            }
            fn write(&self, w: &mut Writer, _: i16, flex: bool) -> Result<(), EncodeError> {
                w.$method(self, flex)
            }
        }
    )*};
}

sized! {
    Str, string;
    Bytes, bytes;
}
