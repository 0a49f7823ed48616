//! What can be wrong with records, or with writing them.

use std::fmt;

/// A record that does not fit the state it is replayed on: the log is not one that a controller wrote, or we are
/// wrong. Either way the node must stop; going on would publish metadata that no other node has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReplayError(pub String);

impl ReplayError {
    pub(crate) fn new(text: impl Into<String>) -> ReplayError {
        ReplayError(text.into())
    }
}

impl fmt::Display for ReplayError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for ReplayError {}

/// What an image cannot say at a `metadata.version`: names the first thing that would be lost.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Loss(pub String);

impl fmt::Display for Loss {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "this metadata.version cannot hold {}", self.0)
    }
}

impl std::error::Error for Loss {}
