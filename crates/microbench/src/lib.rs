//! Nothing: the package is its benchmark, `benches/costs.rs` (`cargo xtask bench --micro`).
#![forbid(unsafe_code)]
