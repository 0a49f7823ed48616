//! Random conversations with clusters of several brokers.
