//! The configuration as a node, a controller and a client meet it.

mod cases;
mod start;
mod topic;
