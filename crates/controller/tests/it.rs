//! The controller as its owner drives it: conversations in `transcripts/`, and random ones.

mod it {
    pub mod harness;
    pub mod random;
    pub mod script;
    pub mod transcripts;
}
