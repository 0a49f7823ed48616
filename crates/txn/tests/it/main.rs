//! Integration tests of the transaction coordinator.

mod bad_input;
mod records;
mod transcripts;
mod world;
