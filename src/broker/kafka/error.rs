//! What librdkafka's errors mean to a caller of the seam. Pure.

use rdkafka::error::{KafkaError, RDKafkaError, RDKafkaErrorCode as Code};

use crate::base::ids::Topic;
use crate::broker::Error;

/// An error from making a client: its settings are wrong.
pub(super) fn refused(error: &KafkaError) -> Error {
    Error::Invalid { message: error.to_string() }
}

/// An error of any call.
#[expect(clippy::wildcard_enum_match_arm, reason = "rdkafka adds errors; what carries a code is sorted by its code")]
pub(super) fn map(error: &KafkaError, topic: Option<&Topic>) -> Error {
    match error {
        KafkaError::Transaction(inner) => transaction(inner),
        KafkaError::AdminOp(code) => from_code(*code, topic, error.to_string()),
        KafkaError::MessageConsumptionFatal(code) => fatal(*code, error.to_string()),
        KafkaError::Canceled => Error::Unavailable { message: "the client was closed".into() },
        // These carry text only; all are about states of the client that pass, or about the client's use.
        KafkaError::Subscription(_) | KafkaError::PauseResume(_) | KafkaError::Seek(_) => invalid(error.to_string()),
        _ => match error.rdkafka_error_code() {
            Some(code) => from_code(code, topic, error.to_string()),
            None => invalid(error.to_string()),
        },
    }
}

/// An error code of any call.
pub(super) fn from_code(code: Code, topic: Option<&Topic>, message: String) -> Error {
    match (code, topic) {
        (Code::UnknownTopicOrPartition | Code::UnknownTopic | Code::UnknownPartition, Some(topic)) => {
            Error::UnknownTopic { topic: topic.clone() }
        }
        (
            Code::TopicAuthorizationFailed
            | Code::GroupAuthorizationFailed
            | Code::ClusterAuthorizationFailed
            | Code::TransactionalIdAuthorizationFailed
            | Code::DelegationTokenAuthorizationFailed
            | Code::SaslAuthenticationFailed
            | Code::Authentication,
            _,
        ) => Error::Unauthorized { message },
        (
            Code::UnsupportedVersion
            | Code::UnsupportedFeature
            | Code::UnsupportedForMessageFormat
            | Code::UnsupportedCompressionType
            | Code::UnsupportedSASLMechanism
            | Code::NotImplemented
            | Code::SecurityDisabled
            | Code::TopicDeletionDisabled
            | Code::PolicyViolation
            | Code::InvalidConfig
            | Code::InvalidPartitions
            | Code::InvalidReplicationFactor
            | Code::InvalidTopic
            | Code::InvalidTransactionTimeout
            | Code::NonEmptyGroup
            | Code::InvalidTimestamp,
            _,
        ) => Error::Unsupported { message },
        (code, _) if is_fencing(code) => Error::Fenced { message },
        (
            Code::InvalidArgument
            | Code::State
            | Code::Conflict
            | Code::InvalidRequest
            | Code::UnknownGroup
            | Code::InvalidTransactionalState,
            _,
        ) => invalid(message),
        _ => Error::Unavailable { message },
    }
}

/// A record that the broker did not take; `keyless` when it had no key.
#[expect(clippy::wildcard_enum_match_arm, reason = "what is no refusal of the record is sorted by `from_code`")]
pub(super) fn undelivered(code: Code, topic: Topic, size_bytes: usize, keyless: bool) -> Error {
    match code {
        Code::MessageSizeTooLarge | Code::MessageBatchTooLarge | Code::InvalidMessageSize => {
            Error::RecordTooLarge { topic, size_bytes }
        }
        Code::TopicAuthorizationFailed | Code::PolicyViolation | Code::InvalidTimestamp => {
            Error::WriteRefused { topic, keyless: false, message: code.to_string() }
        }
        // A compacted topic takes none without key; what else can be wrong with a record is not said either.
        Code::InvalidRecord => Error::WriteRefused { topic, keyless, message: code.to_string() },
        // The transaction has failed on its way, as after a process was frozen: what was handed over in it is thrown away.
        Code::State => Error::Aborted { message: format!("a record for `{topic}` was not written: {code}") },
        code => from_code(code, Some(&topic), format!("a record for `{topic}` was not written: {code}")),
    }
}

/// Tells whether a code says that another producer or member has taken this one's place.
pub(super) fn is_fencing(code: Code) -> bool {
    matches!(
        code,
        Code::Fenced
            | Code::ProducerFenced
            | Code::InvalidProducerEpoch
            | Code::TransactionCoordinatorFenced
            | Code::IllegalGeneration
            | Code::UnknownMemberId
            | Code::FencedInstanceId
            | Code::AssignmentLost
            | Code::FencedMemberEpoch
            | Code::UnreleasedInstanceId
            | Code::StaleMemberEpoch
    )
}

/// A fatal error: the client is of no use any more. Its place is taken by closing it and starting again, as after a fence,
/// unless the broker refuses it for a reason that a new one would meet, too.
pub(super) fn fatal(code: Code, message: String) -> Error {
    match from_code(code, None, message) {
        refusal @ (Error::Unauthorized { .. } | Error::Unsupported { .. }) => refusal,
        Error::Unavailable { message }
        | Error::Fenced { message }
        | Error::Aborted { message }
        | Error::OutcomeUnknown { message }
        | Error::Invalid { message }
        | Error::Storage { message } => Error::Fenced { message },
        other @ (Error::UnknownTopic { .. }
        | Error::OffsetOutOfRange { .. }
        | Error::RecordTooLarge { .. }
        | Error::WriteRefused { .. }) => other,
    }
}

/// An error of a transactional call.
pub(super) fn transaction(error: &RDKafkaError) -> Error {
    let message = format!("{} ({})", error.string(), error.name());
    if error.is_fatal() {
        fatal(error.code(), message)
    } else if is_fencing(error.code()) {
        Error::Fenced { message }
    } else if error.txn_requires_abort() {
        Error::Aborted { message }
    } else if error.is_retriable() {
        Error::Unavailable { message }
    } else {
        from_code(error.code(), None, message)
    }
}

fn invalid(message: String) -> Error {
    Error::Invalid { message }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Kind;

    #[test]
    fn codes_say_what_to_do() {
        let kind = |code| from_code(code, Some(&Topic::new("t")), String::new()).kind();
        assert_eq!(kind(Code::BrokerTransportFailure), Kind::Retry);
        assert_eq!(kind(Code::OperationTimedOut), Kind::Retry);
        assert_eq!(kind(Code::UnknownTopicOrPartition), Kind::Config);
        assert_eq!(kind(Code::GroupAuthorizationFailed), Kind::Config);
        assert_eq!(kind(Code::ProducerFenced), Kind::Fenced);
        assert_eq!(kind(Code::IllegalGeneration), Kind::Fenced);
        assert_eq!(kind(Code::InvalidTransactionTimeout), Kind::Config);
    }

    #[test]
    fn a_record_that_is_not_taken_names_its_topic() {
        let failed = |code, keyless| undelivered(code, Topic::new("t"), 7, keyless);
        assert!(matches!(failed(Code::MessageSizeTooLarge, false), Error::RecordTooLarge { size_bytes: 7, .. }));
        let refused = failed(Code::TopicAuthorizationFailed, true);
        assert!(refused.to_string().starts_with("topic `t` takes no records of ours: "), "{refused}");
        assert!(failed(Code::InvalidRecord, true).to_string().contains("without key"));
        assert!(matches!(failed(Code::UnknownTopicOrPartition, false), Error::UnknownTopic { .. }));
        assert_eq!(failed(Code::MessageTimedOut, false).kind(), Kind::Retry);
        assert!(matches!(failed(Code::State, false), Error::Aborted { .. }));
    }

    #[test]
    fn a_fatal_error_asks_for_a_new_client_unless_that_would_meet_it_too() {
        assert_eq!(fatal(Code::OutOfOrderSequenceNumber, String::new()).kind(), Kind::Fenced);
        assert_eq!(fatal(Code::UnsupportedVersion, String::new()).kind(), Kind::Config);
    }
}
