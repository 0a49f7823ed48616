//! `base` names the things that every other crate speaks of: offsets, epochs, ids, error codes, time,
//! seeded randomness and what SCRAM derives from a password. It decides nothing, performs no I/O and reads no clock.
#![forbid(unsafe_code)]

mod digest;
mod error;
mod ids;
mod prng;
mod scram;
mod time;
mod uuid;

pub use digest::Digest;
pub use error::ErrorCode;
pub use ids::{BrokerId, Epoch, Offset, TopicIdPartition, TopicPartition};
pub use prng::Prng;
pub use scram::ScramMechanism;
pub use time::{Instant, Now, Timestamp};
pub use uuid::{Uuid, UuidError};
