//! `node` is the operating system's edge of a Milena server: sockets, threads, timers, signals. It decides nothing
//! about Kafka: every request, every timer and every effect goes through `broker`.
//!
//! Start at [`run`]; a connection's life is in `connection`, the mailboxes' threads in `threads`.

mod admission;
mod clock;
mod connection;
mod edge;
mod limits;
mod link;
mod listener;
mod peers;
mod server;
mod threads;
mod transmit;

pub use clock::Clock;
pub use limits::seed;
pub use server::{Ready, ServerError, run};
