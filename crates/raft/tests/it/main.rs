mod chaos;
mod memory_log;
mod snapshots;
mod transcripts;
mod words;
mod world;
