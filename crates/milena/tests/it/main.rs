//! The whole node as a process of its own: real clients, raw sockets, bad input, refusals, crashes. Loopback only,
//! ports of the system's choice, temporary directories, a deadline on every wait.

mod bad_batches;
mod bad_input;
mod clients;
mod configs;
mod fetching;
mod groups;
mod node;
mod recovery;
mod refusals;
mod wire;
