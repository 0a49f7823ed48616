//! `config` is the one table of configuration keys, and everything that is decided from it: what a value may
//! be, where an effective value comes from, which change is allowed. Parsing a properties file, starting a
//! node, altering and describing configs, and the manual read the same rows (`keys/*.tsv`).
//!
//! It opens no file, knows no request and keeps no state: values come in as maps of strings, as the properties
//! file and the metadata records carry them, and typed settings come out.
//!
//! Start at [`Key`] for a row of the table, [`NodeConfig`] for a node, [`TopicSettings`] for a topic, and
//! [`alter`] for a change.

#![forbid(unsafe_code)]

mod accessors;
pub mod alter;
mod check;
mod client_metrics;
mod describe;
mod dynamic;
mod endpoint;
mod group;
mod java;
mod key;
mod node;
mod properties;
mod rules;
mod topic;
mod value;

pub use check::Allowed;
pub use client_metrics::{ClientMatch, ClientMetricsSettings};
pub use describe::{ConfigEntry, ConfigSource, EntrySynonym, Layers};
pub use endpoint::{Endpoint, Listener, SecurityProtocol, Voter};
pub use group::GroupSettings;
pub use java::double_text as java_double;
pub use key::{Importance, Key, Keys, Scope, Support, Synonym, Type, Update, keys};
pub use node::{ConfigError, NodeConfig, Problem, Role, Warning};
pub use properties::{Properties, PropertiesError};
pub use topic::{CleanupPolicy, CompressionType, TimestampType, TopicSettings};
pub use value::{Invalid, Secret, Value};
