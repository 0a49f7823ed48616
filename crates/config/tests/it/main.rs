//! The configuration as a node, a controller and a client meet it.

mod configs;
mod start;
mod topic;
