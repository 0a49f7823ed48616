//! `protocol` holds every request, response, header and internal record of Kafka 4.4 in all versions, and the
//! tables over them. It decides which bytes a value is in a version. It knows no connection, log or cluster
//! state, and a record batch is only bytes to it (see `records`).
//!
//! The types are generated from `messages/` by the crate `schema`: `FetchRequest` at the root, its structures in
//! [`fetch_request`]. Start at [`Message`], [`ApiKey`], [`MetadataRecord`].
//!
//! Limits: decoding reserves no more than a fixed factor of the bytes that are there, whatever counts and
//! lengths say; unknown tagged fields are skipped, never kept. A decoded [`Str`], `Bytes` or [`Records`] is a
//! slice that keeps the whole input alive: what outlives the request is copied ([`Str::detached`]).
#![forbid(unsafe_code)]

mod api_key;
#[cfg(feature = "arbitrary")]
pub mod arbitrary;
pub mod dynamic;
mod error;
mod json;
mod message;
mod reader;
mod records;
mod schema;
mod str;
mod writer;

pub use api_key::Listeners;
pub use error::{DecodeError, EncodeError};
pub use json::Json;
pub use message::{Element, Message, Request, decode_versioned, encode_versioned};
pub use reader::{DECODED_BYTES_PER_BYTE_MAX, Reader};
pub use schema::{Field, Preset, Schema, Type};
pub use str::Str;
pub use writer::{Encoded, Hole, Records, Writer};

/// What the generated modules need.
mod generated_prelude {
    pub(crate) use crate::ApiKey;
    pub(crate) use crate::error::{DecodeError, EncodeError};
    pub(crate) use crate::message::{Element, Hidden, Message, Request};
    pub(crate) use crate::reader::Reader;
    pub(crate) use crate::schema::{Field, Preset, Schema, Type};
    pub(crate) use crate::str::Str;
    pub(crate) use crate::writer::{Records, Writer};
    pub(crate) use bytes::Bytes;
    pub(crate) use milena_base::Uuid;
}

include!(concat!(env!("OUT_DIR"), "/messages.rs"));
