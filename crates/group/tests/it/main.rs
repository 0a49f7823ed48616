//! The group coordinator from outside: transcripts, random conversations, records against their bytes.

mod bad_input;
mod consumer;
mod foreign;
mod large;
mod mixed;
mod model;
mod print;
mod records;
mod transcripts;
mod world;
