//! Rust out of messages. The text is meant for the compiler: formatted only so far that an error can be read.
//!
//! Shape: a module a message with its structures and their `Element` impl (`codec.rs`), the message's own
//! constants and its field table (`tables.rs`), then the tables over all messages (`families.rs`).

mod codec;
mod expr;
mod families;
mod tables;
mod types;

use std::fmt::Write;

use crate::model::Message;
use crate::names;

/// The source text that `protocol` includes.
pub fn emit(messages: &[Message]) -> String {
    let mut out = String::new();
    for message in messages {
        module(&mut out, message);
    }
    families::emit(&mut out, messages);
    out
}

fn module(out: &mut String, message: &Message) {
    let name = &message.name;
    let module = names::snake(name);
    line(out, format_args!("/// Structures of [`{name}`]."));
    line(
        out,
        format_args!("#[allow(unused_variables, unused_imports, clippy::all)]"),
    );
    line(out, format_args!("pub mod {module} {{"));
    line(out, format_args!("use crate::generated_prelude::*;"));
    for s in &message.structs {
        types::emit(out, message, s);
        codec::emit(out, message, s);
        tables::emit(out, message, s);
    }
    tables::message(out, message);
    line(out, format_args!("}}"));
    line(out, format_args!("pub use {module}::{name};"));
}

fn line(out: &mut String, text: std::fmt::Arguments<'_>) {
    out.write_fmt(text).expect("a String takes all");
    out.push('\n');
}
