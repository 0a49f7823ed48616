//! `protocol` from outside: tables, bytes that are known, the records' frames.

mod known;
