//! What can go wrong between a tool and a cluster, each in one sentence.

use std::fmt;
use std::time::Duration;

use milena_base::ErrorCode;

/// Why a call failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Error {
    /// A property or an address that cannot be used; nothing was sent.
    Config(String),
    /// No connection to this address. `named` says who pointed there.
    Connect {
        address: String,
        named: String,
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
                why,
            } => write!(f, "{named} {address} cannot be reached: {why}"),
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

/// A sentence for a code that came without a message.
fn sentence(code: ErrorCode) -> &'static str {
    match code {
        ErrorCode::UnknownTopicOrPartition => "This server does not host this topic-partition.",
        ErrorCode::TopicAlreadyExists => "Topic with this name already exists.",
        ErrorCode::InvalidTopicException => "The topic name is not allowed.",
        ErrorCode::GroupIdNotFound => "The group id does not exist.",
        ErrorCode::NonEmptyGroup => "The group is not empty.",
        ErrorCode::NotCoordinator => "This is not the correct coordinator.",
        ErrorCode::CoordinatorNotAvailable => "The coordinator is not available.",
        ErrorCode::LeaderNotAvailable => "There is no leader for this topic-partition now.",
        ErrorCode::NotEnoughReplicas => "There are fewer in-sync replicas than required.",
        ErrorCode::MessageTooLarge => "The message is larger than the server accepts.",
        ErrorCode::OffsetOutOfRange => "The offset is outside of what the server has.",
        ErrorCode::UnsupportedVersion => "The version of the API is not supported.",
        ErrorCode::TopicAuthorizationFailed => "Topic authorization failed.",
        ErrorCode::GroupAuthorizationFailed => "Group authorization failed.",
        ErrorCode::ClusterAuthorizationFailed => "Cluster authorization failed.",
        code => code.name(),
    }
}
