mod format;
mod metadata_log;
mod power;
mod replica;
