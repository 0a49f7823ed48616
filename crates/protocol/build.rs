//! Messages to Rust; the compiler is the crate `schema`.

use std::path::{Path, PathBuf};

fn main() {
    println!("cargo:rerun-if-changed=messages");
    let messages = milena_schema::read_dir(Path::new("messages")).unwrap_or_else(|e| panic!("{e}"));
    let out = PathBuf::from(std::env::var_os("OUT_DIR").expect("cargo sets it"));
    std::fs::write(out.join("messages.rs"), milena_schema::emit(&messages)).expect("written");
}
