//! `net` is both ends of a Kafka connection without a socket: frames, request headers, version negotiation,
//! correlation, answers in the order of their requests, and limits that hold before memory is allocated.
//!
//! It never reads or writes a descriptor, knows no clock and takes no decision about a request's content.
//! Start at [`Connection::next_request`] for the server's side and at [`call`] for the client's.

#![forbid(unsafe_code)]

pub mod call;
mod connection;
mod frame;
mod input;

pub use connection::{Connection, Incoming, Limits};
pub use frame::{Frame, Part};
pub use input::{Input, Refused};
