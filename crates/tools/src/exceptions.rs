//! The names of Kafka's exceptions, which its tools print and scripts look for.

use milena_base::ErrorCode;

/// Codes whose exception is not named after them.
const OTHERWISE: &[(&str, &str)] = &[
    ("CORRUPT_MESSAGE", "CorruptRecordException"),
    ("REQUEST_TIMED_OUT", "TimeoutException"),
    ("MESSAGE_TOO_LARGE", "RecordTooLargeException"),
    ("STALE_CONTROLLER_EPOCH", "ControllerMovedException"),
    ("OFFSET_METADATA_TOO_LARGE", "OffsetMetadataTooLarge"),
    ("NETWORK_EXCEPTION", "NetworkException"),
    ("INVALID_TOPIC_EXCEPTION", "InvalidTopicException"),
    ("RECORD_LIST_TOO_LARGE", "RecordBatchTooLargeException"),
    ("TOPIC_AUTHORIZATION_FAILED", "TopicAuthorizationException"),
    ("GROUP_AUTHORIZATION_FAILED", "GroupAuthorizationException"),
    (
        "CLUSTER_AUTHORIZATION_FAILED",
        "ClusterAuthorizationException",
    ),
    ("TOPIC_ALREADY_EXISTS", "TopicExistsException"),
    ("INVALID_CONFIG", "InvalidConfigurationException"),
    (
        "OUT_OF_ORDER_SEQUENCE_NUMBER",
        "OutOfOrderSequenceException",
    ),
    ("DUPLICATE_SEQUENCE_NUMBER", "DuplicateSequenceException"),
    ("INVALID_PRODUCER_ID_MAPPING", "InvalidPidMappingException"),
    ("INVALID_TRANSACTION_TIMEOUT", "InvalidTxnTimeoutException"),
    (
        "TRANSACTIONAL_ID_AUTHORIZATION_FAILED",
        "TransactionalIdAuthorizationException",
    ),
    ("KAFKA_STORAGE_ERROR", "KafkaStorageException"),
    ("SASL_AUTHENTICATION_FAILED", "SaslAuthenticationException"),
    (
        "DELEGATION_TOKEN_AUTH_DISABLED",
        "DelegationTokenDisabledException",
    ),
    (
        "DELEGATION_TOKEN_REQUEST_NOT_ALLOWED",
        "UnsupportedByAuthenticationException",
    ),
    (
        "DELEGATION_TOKEN_AUTHORIZATION_FAILED",
        "DelegationTokenAuthorizationException",
    ),
    ("NON_EMPTY_GROUP", "GroupNotEmptyException"),
    (
        "PRINCIPAL_DESERIALIZATION_FAILURE",
        "PrincipalDeserializationException",
    ),
    (
        "FETCH_SESSION_TOPIC_ID_ERROR",
        "FetchSessionTopicIdException",
    ),
    ("INVALID_REGULAR_EXPRESSION", "InvalidRegularExpression"),
    ("UNKNOWN_SERVER_ERROR", "UnknownServerException"),
];

/// Kafka's exception class of a code (`TopicExistsException` of `TOPIC_ALREADY_EXISTS`), with its package.
pub fn exception(code: ErrorCode) -> String {
    let other = OTHERWISE.iter().find(|(name, _)| *name == code.name());
    let name = match other {
        Some((_, class)) => class.to_string(),
        None => camel(code.name()) + "Exception",
    };
    format!("org.apache.kafka.common.errors.{name}")
}

fn camel(name: &str) -> String {
    let word = |word: &str| {
        let (first, rest) = word.split_at(1);
        first.to_string() + &rest.to_lowercase()
    };
    name.split('_').map(word).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exceptions_are_named_as_kafkas() {
        let name = |code| exception(code).rsplit('.').next().unwrap().to_string();
        assert_eq!(name(ErrorCode::GroupIdNotFound), "GroupIdNotFoundException");
        assert_eq!(name(ErrorCode::NonEmptyGroup), "GroupNotEmptyException");
        for (code, _) in OTHERWISE {
            assert!(
                ErrorCode::ALL.iter().any(|known| known.name() == *code),
                "{code}"
            );
        }
    }
}
