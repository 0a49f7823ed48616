//! `controller` is the active controller: it decides what the metadata becomes. Every decision is a list of records
//! and an answer; deciding changes no metadata, replaying the appended records does. One file a subject: topics,
//! partitions, leaders, brokers, directories, configs, features.
//!
//! It never appends, never talks to a socket, reads no clock and publishes no image: its owner appends a
//! [`Decision`]'s records, hands each back to [`Controller::replay`], then calls [`Controller::batch_end`], and
//! answers when the records are committed. Heartbeats are soft state, made anew by each election.
//!
//! Start at [`Controller::handle`]. Error codes and their texts are Kafka's 4.4.0.
#![forbid(unsafe_code)]

mod activation;
mod alter_partition;
mod brokers;
mod configs;
mod controller;
mod controllers;
mod create_partitions;
mod create_topics;
mod decision;
mod delete_topics;
mod directories;
mod elections;
mod features;
mod heartbeats;
mod index;
mod partition_change;
mod placement;
mod producer_ids;
mod quotas;
mod reassignment;
mod refusal;
mod refuse;
mod request;
mod scram;
mod state;
mod timers;

pub use controller::{Controller, Options};
pub use decision::{Decision, RECORDS_PER_BATCH_MAX};
pub use refusal::Refusal;
pub use request::{ControllerAnswer, ControllerRequest, RequestContext};
