//! The whole node as a process of its own: raw sockets, bad input, refusals, crashes. Loopback only,
//! ports of the system's choice, temporary directories, a deadline on every wait.

mod admin;
mod bad_batches;
mod bad_input;
mod cluster;
mod cluster_transactions;
mod compaction;
mod configs;
mod consumer_groups;
mod controllers;
mod fetching;
mod history;
mod keys;
mod librdkafka;
mod node;
mod quotas;
mod recovery;
mod refusals;
mod replication;
mod terminal;
mod tools;
mod transactional;
mod transactions;
mod wire;
