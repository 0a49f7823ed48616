//! A change of the voter set that is under way (KIP-853): one at a time, and answered when it is settled. Kafka classes
//! `AddVoterHandlerState`, `RemoveVoterHandlerState`.

use milena_base::{ErrorCode, Instant, Offset};
use milena_protocol::{AddRaftVoterResponse, RemoveRaftVoterResponse};

use crate::message::{Effect, RaftResponse};
use crate::voters::Voter;

#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Kind {
    /// The `kraft_versions` are known when the replica has answered ApiVersions.
    Add(Voter),
    Remove,
}

#[derive(Debug)]
pub(crate) struct Change {
    pub kind: Kind,
    /// The request's; `None` once it was answered.
    pub token: Option<u64>,
    /// Whether the answer waits until the new voter set is committed.
    pub ack_when_committed: bool,
    /// When it is given up.
    pub until: Instant,
    /// Where the new voter set was written.
    pub written: Option<Offset>,
}

impl Change {
    /// Answers the request, once.
    pub fn answer(&mut self, error: ErrorCode, message: Option<String>, out: &mut Vec<Effect>) {
        let Some(token) = self.token.take() else {
            return;
        };
        let response = match &self.kind {
            Kind::Add(_) => RaftResponse::AddRaftVoter(added(error, message)),
            Kind::Remove => RaftResponse::RemoveRaftVoter(removed(error, message)),
        };
        out.push(Effect::Answer { token, response });
    }
}

pub(crate) fn added(error: ErrorCode, message: Option<String>) -> AddRaftVoterResponse {
    AddRaftVoterResponse {
        error_code: error.code(),
        error_message: message.map(Into::into),
        ..AddRaftVoterResponse::default()
    }
}

pub(crate) fn removed(error: ErrorCode, message: Option<String>) -> RemoveRaftVoterResponse {
    RemoveRaftVoterResponse {
        error_code: error.code(),
        error_message: message.map(Into::into),
        ..RemoveRaftVoterResponse::default()
    }
}
