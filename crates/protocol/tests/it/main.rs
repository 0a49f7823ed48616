//! `protocol` from outside: tables, bytes that are known, and every message in every version.

mod every;
mod known;
