//! `milena-log` from outside: a real directory, whole lives of a log.

mod basics;
mod cleaning;
mod faults;
mod harness;
mod model;
mod power;
