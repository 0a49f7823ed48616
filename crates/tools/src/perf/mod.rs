//! The tools that measure and verify: producer, consumer and end-to-end performance, and the verifiable clients.

pub(crate) mod consumer;
pub(crate) mod e2e;
pub(crate) mod figures;
pub(crate) mod flat;
pub(crate) mod json;
pub(crate) mod producer;
pub(crate) mod verifiable_consumer;
pub(crate) mod verifiable_producer;

use milena_client::Error;

use crate::say::{self, Stop};

pub(crate) fn stop(error: Error) -> Stop {
    Stop::Message(say::with_exception(&error))
}
