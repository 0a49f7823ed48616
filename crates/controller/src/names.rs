//! Which names a topic may have (Kafka's `Topic`).

use milena_base::ErrorCode;

use crate::Refusal;

/// The metadata log's own topic, which nobody creates.
pub(crate) const CLUSTER_METADATA_TOPIC: &str = "__cluster_metadata";

const NAME_LENGTH_MAX: usize = 249;

/// Refuses with Kafka's sentence.
pub(crate) fn check_topic_name(name: &str) -> Result<(), Refusal> {
    let is_allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
    let reason = match name {
        "" => "the empty string is not allowed".to_owned(),
        "." => "'.' is not allowed".to_owned(),
        ".." => "'..' is not allowed".to_owned(),
        _ if name.encode_utf16().count() > NAME_LENGTH_MAX => format!(
            "the length of '{name}' is longer than the max allowed length {NAME_LENGTH_MAX}"
        ),
        _ if !name.chars().all(is_allowed) => format!(
            "'{name}' contains one or more characters other than ASCII alphanumerics, '.', '_' and '-'"
        ),
        _ => return Ok(()),
    };
    let text = format!("Topic name is invalid: {reason}");
    Err(Refusal::new(ErrorCode::InvalidTopicException, text))
}
