//! `broker` is the node's brain.
#![forbid(unsafe_code)]

pub mod format;
pub mod metadata_log;
