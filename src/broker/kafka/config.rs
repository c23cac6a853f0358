//! Which librdkafka properties each kind of client gets: defaults of ours, over them the user's, over them what correctness
//! rests on. Pure.

use rdkafka::config::{ClientConfig, RDKafkaLogLevel};

use super::KafkaSettings;
use crate::broker::{ConsumerSettings, Error, Isolation, ProducerSettings};
use crate::limits::PRODUCER_QUEUE_BYTES_MAX;

/// Properties that this adapter sets itself because its promises rest on them.
const RESERVED: &[&str] = &[
    "acks",
    "auto.offset.reset",
    "bootstrap.servers",
    "client.id",
    "enable.auto.commit",
    "enable.auto.offset.store",
    "enable.idempotence",
    "enable.partition.eof",
    "group.id",
    "group.instance.id",
    "group.remote.assignor",
    "isolation.level",
    "log.queue",
    "metadata.broker.list",
    "partition.assignment.strategy",
    "partitioner",
    "request.required.acks",
    "statistics.interval.ms",
    "transaction.timeout.ms",
    "transactional.id",
];

/// What a classic member sets and a member of the new protocol must not (KIP-848: the group decides them).
const CLASSIC_ONLY: &[&str] =
    &["session.timeout.ms", "heartbeat.interval.ms", "partition.assignment.strategy", "group.protocol.type"];

/// What is said of the members of a group, and does not hold for a consumer without one: librdkafka would refuse the mixture.
const OF_MEMBERS: &[&str] = &["group.protocol", "group.remote.assignor", "max.poll.interval.ms"];

/// Bytes of one record, compressed batch or request that the client sends; the broker's topic settings decide below that.
const MESSAGE_BYTES_MAX: usize = 64 * 1024 * 1024;

/// Bytes asked of one partition at a time; a larger batch comes whole (KIP-74).
const FETCH_BYTES: usize = 256 * 1024;

/// Bytes of one answer for all partitions together; a larger batch comes whole (KIP-74). More is librdkafka's default.
const RESPONSE_BYTES_MIN: usize = 128 * 1024;
const RESPONSE_BYTES_MAX: usize = 50 * 1024 * 1024;

/// Records that are fetched ahead: what librdkafka asks for as long as it has fewer.
const QUEUED_MESSAGES_MIN: usize = 1_000;
const QUEUED_MESSAGES_MAX: usize = 20_000;

/// What librdkafka takes for `message.max.bytes` where nothing is said.
const LIBRDKAFKA_MESSAGE_BYTES_MAX: usize = 1_000_000;

/// How many times larger records may be than they come, small ones' bookkeeping included.
const COMPRESSED: usize = 16;

/// What librdkafka keeps beside the bytes of a record that was fetched, or waits to be sent, roughly.
const MESSAGE_BOOKKEEPING_BYTES: usize = 400;

/// Bytes of a batch under construction, librdkafka's default.
const BATCH_BYTES: usize = 1_000_000;

/// How often a client says what it has counted: of those that are polled all the time, for in the others it would pile up.
const STATISTICS_MS: u32 = 5000;

/// The group id of consumers without a group: librdkafka wants one for `assign`. Nothing is ever committed under it.
const NO_GROUP: &str = "tidemill-no-group";

/// Refuses properties that are not the user's to set, and those that librdkafka does not know.
pub(super) fn check(settings: &KafkaSettings) -> Result<(), Error> {
    let wrong = |message: String| Err(Error::Invalid { message });
    for name in settings.properties.keys() {
        if RESERVED.contains(&name.as_str()) {
            return wrong(format!("property `{name}` is set by tidemill"));
        }
    }
    if settings.bootstrap_servers.trim().is_empty() {
        return wrong("`bootstrap.servers` is empty".into());
    }
    base(settings).create_native_config().map(drop).map_err(|e| super::error::refused(&e))
}

/// What all clients get.
fn base(settings: &KafkaSettings) -> ClientConfig {
    let mut config = ClientConfig::new();
    // What `debug` asks for is said where `log.level` lets it through.
    let debugs = settings.properties.contains_key("debug");
    config.set_log_level(if debugs { RDKafkaLogLevel::Debug } else { RDKafkaLogLevel::Info });
    config.set("socket.keepalive.enable", "true");
    // The first reconnects come fast: a broker that restarts is back within seconds.
    config.set("reconnect.backoff.max.ms", "2000");
    // Topics are awaited when they are made; 30 s of silence about a missing one help nobody.
    config.set("topic.metadata.propagation.max.ms", "5000");
    for (name, value) in &settings.properties {
        config.set(name, value);
    }
    config.set("bootstrap.servers", &settings.bootstrap_servers);
    config.set("client.id", &settings.client_id);
    config
}

/// Sets a property that the user has not set.
fn default(config: &mut ClientConfig, settings: &KafkaSettings, name: &str, value: impl ToString) {
    if !settings.properties.contains_key(name) {
        config.set(name, value.to_string());
    }
}

/// The configuration of an admin client.
pub(super) fn admin(settings: &KafkaSettings) -> ClientConfig {
    base(settings)
}

/// The configuration of the consumer that only asks for watermarks: whatever the isolation, so `read_uncommitted`.
pub(super) fn probe(settings: &KafkaSettings) -> ClientConfig {
    let mut config = base(settings);
    for name in CLASSIC_ONLY.iter().chain(OF_MEMBERS) {
        config.remove(name);
    }
    config.set("isolation.level", "read_uncommitted");
    config.set("enable.auto.commit", "false");
    config
}

/// The configuration of a consumer, with or without a group.
pub(super) fn consumer(settings: &KafkaSettings, consumer: &ConsumerSettings) -> ClientConfig {
    let mut config = base(settings);
    // The fetcher looks again this soon after its queue was full; librdkafka's default of a second starves fast readers.
    default(&mut config, settings, "fetch.queue.backoff.ms", 10);
    default(&mut config, settings, "fetch.error.backoff.ms", 100);
    // What librdkafka keeps beside a small record is several times its bytes, and a round trip brings tens of thousands.
    let messages =
        (consumer.prefetch_bytes_max / MESSAGE_BOOKKEEPING_BYTES).clamp(QUEUED_MESSAGES_MIN, QUEUED_MESSAGES_MAX);
    default(&mut config, settings, "queued.min.messages", messages);
    default(&mut config, settings, "fetch.message.max.bytes", FETCH_BYTES);
    // One answer may bring so much of all partitions together; unbounded, it is as many times `FETCH_BYTES` as there are partitions.
    let response = (consumer.prefetch_bytes_max / COMPRESSED).clamp(RESPONSE_BYTES_MIN, RESPONSE_BYTES_MAX);
    // librdkafka refuses answers below `message.max.bytes`, which says nothing of what is read.
    default(&mut config, settings, "message.max.bytes", response.min(LIBRDKAFKA_MESSAGE_BYTES_MAX));
    let message = config.get("message.max.bytes").and_then(|bytes| bytes.parse().ok()).unwrap_or(0);
    default(&mut config, settings, "fetch.max.bytes", response.max(message));
    let prefetch_kb = (consumer.prefetch_bytes_max / 1024).clamp(1, 2_097_151);
    default(&mut config, settings, "queued.max.messages.kbytes", prefetch_kb);
    if let Some(wait) = consumer.end_wait {
        default(&mut config, settings, "fetch.wait.max.ms", wait.as_millis());
    }
    let isolation = match consumer.isolation {
        Isolation::ReadCommitted => "read_committed",
        Isolation::ReadUncommitted => "read_uncommitted",
    };
    config.set("isolation.level", isolation);
    config.set("enable.auto.commit", "false");
    config.set("enable.auto.offset.store", "false");
    config.set("auto.offset.reset", "error");
    config.set("enable.partition.eof", "true");
    match &consumer.group {
        None => {
            for name in OF_MEMBERS {
                config.remove(name);
            }
            config.set("group.id", NO_GROUP);
        }
        Some(group) => {
            config.set("group.id", &group.group_id);
            config.set("statistics.interval.ms", STATISTICS_MS.to_string());
            if config.get("group.protocol") == Some("consumer") {
                // No static id: a second member of the same one waits until the first one's session is over (KIP-848).
                for name in CLASSIC_ONLY {
                    config.remove(name);
                }
                // Equal-numbered partitions stay together.
                config.set("group.remote.assignor", "range");
            } else {
                if let Some(instance) = &group.instance_id {
                    config.set("group.instance.id", instance);
                }
                classic(&mut config, settings, group.session_timeout.as_millis());
            }
        }
    }
    config
}

/// What a member of the classic group protocol adds.
fn classic(config: &mut ClientConfig, settings: &KafkaSettings, session_ms: u128) {
    config.set("partition.assignment.strategy", "range");
    config.set("session.timeout.ms", session_ms.to_string());
    default(config, settings, "heartbeat.interval.ms", (session_ms / 3).clamp(1, 3000));
    // librdkafka refuses a poll interval below the session timeout.
    default(config, settings, "max.poll.interval.ms", session_ms.max(300_000));
}

/// The configuration of a producer. `batch_bytes_max` is the smallest limit of a topic that is known: a batch above it would be
/// refused as a whole.
pub(super) fn producer(
    settings: &KafkaSettings,
    producer: &ProducerSettings,
    batch_bytes_max: Option<usize>,
) -> ClientConfig {
    let mut config = base(settings);
    default(&mut config, settings, "compression.type", "lz4");
    default(&mut config, settings, "linger.ms", 5);
    default(&mut config, settings, "message.max.bytes", MESSAGE_BYTES_MAX);
    default(&mut config, settings, "batch.size", batch_bytes_max.unwrap_or(BATCH_BYTES).clamp(1, BATCH_BYTES));
    let queue_bytes = producer.queue_bytes_max.unwrap_or(PRODUCER_QUEUE_BYTES_MAX);
    // The bytes are those of keys and values alone.
    default(
        &mut config,
        settings,
        "queue.buffering.max.messages",
        (queue_bytes / MESSAGE_BOOKKEEPING_BYTES).max(10_000),
    );
    default(&mut config, settings, "queue.buffering.max.kbytes", (queue_bytes / 1024).max(1));
    config.set("acks", "all");
    config.set("enable.idempotence", "true");
    config.set("statistics.interval.ms", STATISTICS_MS.to_string());
    if let Some(id) = &producer.transactional_id {
        config.set("transactional.id", id);
    }
    if let (Some(timeout), Some(_)) = (producer.transaction_timeout, &producer.transactional_id) {
        config.set("transaction.timeout.ms", timeout.as_millis().to_string());
    }
    config
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::broker::GroupSettings;

    fn settings(properties: &[(&str, &str)]) -> KafkaSettings {
        KafkaSettings {
            bootstrap_servers: "127.0.0.1:9".into(),
            properties: properties.iter().map(|(name, value)| ((*name).into(), (*value).into())).collect(),
            client_id: "test".into(),
        }
    }

    fn member() -> ConsumerSettings {
        ConsumerSettings {
            group: Some(GroupSettings {
                group_id: "flights".into(),
                instance_id: Some("flights-0".into()),
                session_timeout: Duration::from_secs(45),
            }),
            isolation: Isolation::ReadCommitted,
            prefetch_bytes_max: 8 * 1024 * 1024,
            end_wait: None,
        }
    }

    #[test]
    fn reserved_and_unknown_properties_are_refused() {
        assert!(check(&settings(&[("security.protocol", "plaintext")])).is_ok());
        for wrong in [
            ("group.remote.assignor", "uniform"),
            ("isolation.level", "read_uncommitted"),
            ("no.such.property", "1"),
            ("linger.ms", "often"),
        ] {
            assert!(matches!(check(&settings(&[wrong])), Err(Error::Invalid { .. })), "{wrong:?}");
        }
    }

    #[test]
    fn user_properties_go_over_defaults_and_under_invariants() {
        let settings = settings(&[("linger.ms", "50"), ("compression.type", "none")]);
        let config = producer(&settings, &ProducerSettings::default(), Some(4096));
        assert_eq!(config.get("linger.ms"), Some("50"));
        assert_eq!(config.get("compression.type"), Some("none"));
        assert_eq!(config.get("batch.size"), Some("4096"));
        assert_eq!(config.get("enable.idempotence"), Some("true"));
        assert_eq!(config.get("transactional.id"), None);
    }

    #[test]
    fn a_classic_member_is_static_and_ranges() {
        let config = consumer(&settings(&[]), &member());
        assert_eq!(config.get("partition.assignment.strategy"), Some("range"));
        assert_eq!(config.get("group.instance.id"), Some("flights-0"));
        assert_eq!(config.get("session.timeout.ms"), Some("45000"));
        assert_eq!(config.get("queued.max.messages.kbytes"), Some("8192"));
        assert_eq!(config.get("queued.min.messages"), Some("20000"));
        assert_eq!(config.get("fetch.max.bytes"), Some("524288"));
        assert_eq!(config.get("statistics.interval.ms"), Some("5000"));
    }

    #[test]
    fn a_small_budget_fetches_little_ahead_and_larger_messages_widen_the_answer() {
        let little = ConsumerSettings { prefetch_bytes_max: 1 << 20, ..member() };
        let config = consumer(&settings(&[]), &little);
        assert_eq!(config.get("queued.min.messages"), Some("2621"));
        assert_eq!(config.get("fetch.max.bytes"), Some("131072"));
        assert!(config.create_native_config().is_ok());
        let config = consumer(&settings(&[("message.max.bytes", "5000000")]), &little);
        assert_eq!(config.get("fetch.max.bytes"), Some("5000000"));
        assert!(config.create_native_config().is_ok());
    }

    #[test]
    fn a_member_of_the_new_protocol_leaves_timeouts_to_the_group() {
        let settings = settings(&[("group.protocol", "consumer"), ("session.timeout.ms", "10000")]);
        let config = consumer(&settings, &member());
        assert_eq!(config.get("group.remote.assignor"), Some("range"));
        assert_eq!(config.get("group.instance.id"), None);
        for gone in CLASSIC_ONLY {
            assert_eq!(config.get(gone), None, "{gone}");
        }
        assert!(config.create_native_config().is_ok());
    }

    #[test]
    fn without_a_group_nothing_of_groups_is_set() {
        let settings = settings(&[("group.protocol", "consumer")]);
        let config = consumer(&settings, &ConsumerSettings { group: None, ..member() });
        assert_eq!(config.get("group.protocol"), None);
        assert_eq!(config.get("group.id"), Some(NO_GROUP));
        for unpolled in [&config, &probe(&settings), &admin(&settings)] {
            assert_eq!(unpolled.get("statistics.interval.ms"), None, "its statistics would pile up");
        }
    }
}
