//! What can go wrong between a tool and a cluster, each in one sentence.

use std::fmt;
use std::time::Duration;

use milena_base::ErrorCode;

/// Why a call failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Error {
    /// A property or an address that cannot be used; nothing was sent.
    Config(String),
    /// No connection to this address, which was given to us or, `advertised`, is what the cluster says.
    Connect {
        address: String,
        named: String,
        advertised: bool,
        why: String,
    },
    /// The peer closed the connection, or it broke, while an answer was awaited.
    Disconnected { peer: String, why: String },
    /// The peer is connected and does not answer.
    NoAnswer {
        peer: String,
        api: &'static str,
        after: Duration,
    },
    /// The whole call took longer than `default.api.timeout.ms`; `last` is what went wrong last.
    TimedOut {
        call: &'static str,
        after: Duration,
        last: Option<Box<Error>>,
    },
    /// The peer does not serve an API in a version that says what has to be said.
    Unsupported { peer: String, what: String },
    /// Bytes that are no answer to what was asked.
    Malformed { peer: String, what: String },
    /// The cluster answered with an error.
    Refused {
        code: ErrorCode,
        message: Option<String>,
    },
    /// A name that Kafka's metadata does not have yet, or a leader that it does not have now.
    NotKnown(String),
}

impl Error {
    /// The error of an answer's code and message; `Ok` where the code is 0.
    pub fn check(code: i16, message: Option<&str>) -> Result<(), Error> {
        match ErrorCode::from_code(code).unwrap_or(ErrorCode::UnknownServerError) {
            ErrorCode::None => Ok(()),
            code => Err(Error::refused(code, message)),
        }
    }

    pub fn refused(code: ErrorCode, message: Option<&str>) -> Error {
        let message = message.map(str::to_string);
        Error::Refused { code, message }
    }

    /// The code, where the cluster answered with one.
    pub fn code(&self) -> Option<ErrorCode> {
        match self {
            Error::Refused { code, .. } => Some(*code),
            _ => None,
        }
    }

    /// Whether the same call may succeed later.
    pub fn is_retriable(&self) -> bool {
        match self {
            Error::Connect { .. }
            | Error::Disconnected { .. }
            | Error::NoAnswer { .. }
            | Error::NotKnown(_) => true,
            Error::Refused { code, .. } => code.is_retriable(),
            _ => false,
        }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Error::Config(what) | Error::NotKnown(what) => f.write_str(what),
            Error::Connect {
                address,
                named,
                advertised: true,
                why,
            } => write!(
                f,
                "{named} advertises the address {address}, which cannot be reached from here ({why}): its advertised.listeners have to name one that can"
            ),
            Error::Connect {
                address,
                named,
                advertised: false,
                why,
            } => write!(
                f,
                "{named} {address} cannot be reached ({why}): check the address, and whether the server runs"
            ),
            Error::Disconnected { peer, why } => {
                write!(f, "{peer} ended the connection: {why}")
            }
            Error::NoAnswer { peer, api, after } => {
                write!(f, "{peer} did not answer {api} in {} ms", after.as_millis())
            }
            Error::TimedOut { call, last, .. } => match last {
                Some(last) if last.code().is_some() => {
                    write!(f, "{call} was tried until its time was over: {last}")
                }
                _ => write!(f, "Timed out waiting for a node assignment. Call: {call}"),
            },
            Error::Unsupported { peer, what } => write!(f, "{peer} does not support {what}"),
            Error::Malformed { peer, what } => write!(f, "{peer} sent {what}"),
            Error::Refused {
                message: Some(message),
                ..
            } => f.write_str(message),
            Error::Refused { code, .. } => f.write_str(sentence(*code)),
        }
    }
}

impl std::error::Error for Error {}

/// Kafka's sentence for a code that came without a message: of the codes that the tools show in their results.
fn sentence(code: ErrorCode) -> &'static str {
    use ErrorCode as E;
    match code {
        E::UnknownServerError => {
            "The server experienced an unexpected error when processing the request."
        }
        E::OffsetOutOfRange => {
            "The requested offset is not within the range of offsets maintained by the server."
        }
        E::UnknownTopicOrPartition => "This server does not host this topic-partition.",
        E::UnknownTopicId => "This server does not host this topic ID.",
        E::LeaderNotAvailable => "There is no leader for this topic-partition now.",
        E::RequestTimedOut => "The request timed out.",
        E::MessageTooLarge => "The message is larger than the server accepts.",
        E::CoordinatorLoadInProgress => {
            "The coordinator is loading and hence can't process requests."
        }
        E::CoordinatorNotAvailable => "The coordinator is not available.",
        E::NotCoordinator => "This is not the correct coordinator.",
        E::InvalidTopicException => "The topic name is not allowed.",
        E::NotEnoughReplicas => "There are fewer in-sync replicas than required.",
        E::InvalidGroupId => "The group id is invalid.",
        E::UnknownMemberId => "The coordinator is not aware of this member.",
        E::RebalanceInProgress => "The group is rebalancing, so a rejoin is needed.",
        E::TopicAuthorizationFailed => "Topic authorization failed.",
        E::GroupAuthorizationFailed => "Group authorization failed.",
        E::ClusterAuthorizationFailed => "Cluster authorization failed.",
        E::UnsupportedVersion => "The version of the API is not supported.",
        E::TopicAlreadyExists => "Topic with this name already exists.",
        E::NotController => "This is not the correct controller for this cluster.",
        E::PolicyViolation => "Request parameters do not satisfy the configured policy.",
        E::KafkaStorageError => "Disk error when trying to access log file on the disk.",
        E::NonEmptyGroup => "The group is not empty.",
        E::GroupIdNotFound => "The group id does not exist.",
        E::GroupSubscribedToTopic => {
            "Deleting offsets of a topic is forbidden while the consumer group is actively subscribed to it."
        }
        E::UnstableOffsetCommit => "There are unstable offsets that need to be cleared.",
        E::BrokerIdNotRegistered => "The given broker ID was not registered.",
        E::DuplicateVoter => "The voter is already part of the set of voters.",
        E::VoterNotFound => "The voter is not part of the set of voters.",
        E::InvalidVoterKey => "The voter key doesn't match the receiving replica's key.",
        code => code.name(),
    }
}
