//! A code with its text, as Kafka answers it (its `ApiError`).

use milena_base::ErrorCode;
use milena_protocol::Str;

/// Why a request, or one item of it, is refused. Nothing of it is logged as an error: the client is told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    pub code: ErrorCode,
    /// `None` is answered as null: the client then prints the code's own text.
    pub message: Option<Str>,
}

impl Refusal {
    pub fn new(code: ErrorCode, message: impl Into<String>) -> Refusal {
        Refusal {
            code,
            message: Some(Str::from(message.into())),
        }
    }

    /// With a null message.
    pub(crate) fn bare(code: ErrorCode) -> Refusal {
        Refusal {
            code,
            message: None,
        }
    }

    /// With the text that Kafka attaches to the code itself.
    pub(crate) fn with_default_text(code: ErrorCode) -> Refusal {
        Refusal {
            code,
            message: Some(Str::from(default_text(code))),
        }
    }
}

/// Kafka's own text of the codes that are answered with it.
pub(crate) fn default_text(code: ErrorCode) -> &'static str {
    match code {
        ErrorCode::UnknownTopicOrPartition => "This server does not host this topic-partition.",
        ErrorCode::UnknownTopicId => "This server does not host this topic ID.",
        ErrorCode::ElectionNotNeeded => "Leader election not needed for topic partition.",
        ErrorCode::PreferredLeaderNotAvailable => "The preferred leader was not available.",
        ErrorCode::EligibleLeadersNotAvailable => {
            "Eligible topic partition leaders are not available."
        }
        ErrorCode::NotController => "This is not the correct controller for this cluster.",
        ErrorCode::UnsupportedVersion => "The version of API is not supported.",
        ErrorCode::TopicDeletionDisabled => "Topic deletion is disabled.",
        ErrorCode::NoReassignmentInProgress => "No partition reassignment is in progress.",
        other => other.name(),
    }
}

/// What is written in an item's `error_code` and `error_message`.
pub(crate) fn fields(result: &Result<(), Refusal>) -> (i16, Option<Str>) {
    match result {
        Ok(()) => (ErrorCode::None.code(), None),
        Err(refusal) => (refusal.code.code(), refusal.message.clone()),
    }
}
