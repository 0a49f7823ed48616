//! Integration tests of the transaction coordinator.

mod bad_input;
mod transcripts;
mod world;
