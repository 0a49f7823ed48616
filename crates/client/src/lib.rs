//! `client` speaks to a cluster for our own tools: connections, version negotiation, metadata, retries with
//! Kafka's rules, a producer, a consumer with the classic group protocol.
//!
//! It decides where a request goes, in which version, and whether a failure is tried again. It prints nothing,
//! parses no command line and keeps nothing on disk. All of it runs on one thread ([`run`]).
//!
//! Start at [`Client::call`]; [`Producer`] and [`Consumer`] are built on it.
#![forbid(unsafe_code)]

mod address;
mod client;
mod config;
mod connection;
pub mod consumer;
mod error;
mod metrics;
pub mod producer;

pub use address::Address;
pub use client::{Client, Leader, Node, Target, Topic};
pub use config::ClientConfig;
pub use connection::{Connection, Pending};
pub use consumer::Consumer;
pub use error::Error;
pub use metrics::Metric;
pub use producer::Producer;

/// Runs a future to its end on this thread, with sockets and timers.
pub fn run<F: Future>(future: F) -> F::Output {
    tokio::runtime::Builder::new_current_thread()
        .enable_io()
        .enable_time()
        .build()
        .expect("a runtime for one thread can be made")
        .block_on(future)
}
