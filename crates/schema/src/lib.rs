//! `schema` turns the text that describes Kafka's messages into Rust: structures, their codec, and tables.
//! It decides how a field's type, versions, nullability and tag become code. It knows no message by name and
//! never runs at run time: `protocol`'s build script calls [`read_dir`] and [`emit`].
//!
//! The text (one file a message pair or record, see `crates/protocol/messages/README.md`) is parsed by
//! [`parse`] into [`Message`]; start there, then at `emit/mod.rs`.
#![forbid(unsafe_code)]

mod emit;
mod model;
mod names;
mod parse;

use std::path::Path;

pub use emit::emit;
pub use model::{Default, Field, Kind, Listener, Message, Struct, Type, Versions};
pub use names::{camel, snake};
pub use parse::{ParseError, parse};

/// Every message below `root`, in the order of folder and file names. A message's `group` is its folder's name.
pub fn read_dir(root: &Path) -> Result<Vec<Message>, ParseError> {
    let mut messages = Vec::new();
    for folder in entries(root)?.into_iter().filter(|path| path.is_dir()) {
        let group = folder.file_name().unwrap_or_default().to_string_lossy();
        for file in entries(&folder)? {
            let text = std::fs::read_to_string(&file).map_err(|e| ParseError::io(&file, &e))?;
            let parsed = parse(&text, &group).map_err(|e| e.in_file(&file))?;
            messages.extend(parsed);
        }
    }
    Ok(messages)
}

fn entries(dir: &Path) -> Result<Vec<std::path::PathBuf>, ParseError> {
    let listed = std::fs::read_dir(dir).and_then(|entries| {
        entries
            .map(|entry| entry.map(|entry| entry.path()))
            .collect::<Result<Vec<_>, _>>()
    });
    let mut paths = listed.map_err(|e| ParseError::io(dir, &e))?;
    paths.sort();
    Ok(paths)
}
