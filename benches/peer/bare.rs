//! The floor under any consumer of a topic: a librdkafka consumer that reads all records and does nothing with them.

use std::time::Duration;

use anyhow::{Context, Result};
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::{ClientConfig, Offset, TopicPartitionList};

/// The first argument of this program as a bare consumer; brokers, topic and number of records follow.
pub(crate) const MODE: &str = "bare-consumer";

/// Reads `records` records of a topic, with the prefetch settings that serve librdkafka best.
///
/// # Errors
/// The broker does not give them.
pub(crate) fn consume(brokers: &str, topic: &str, records: u64) -> Result<()> {
    let consumer: BaseConsumer = ClientConfig::new()
        .set("bootstrap.servers", brokers)
        .set("group.id", "bare")
        .set("isolation.level", "read_committed")
        .set("enable.auto.commit", "false")
        .set("fetch.queue.backoff.ms", "5")
        .set("queued.max.messages.kbytes", "65536")
        .create()?;
    let metadata = consumer.fetch_metadata(Some(topic), Duration::from_secs(10))?;
    let mut list = TopicPartitionList::new();
    for partition in metadata.topics().first().context("the topic is not there")?.partitions() {
        list.add_partition_offset(topic, partition.id(), Offset::Beginning)?;
    }
    consumer.assign(&list)?;
    let (mut seen, mut bytes) = (0_u64, 0_usize);
    while seen < records {
        if let Some(message) = consumer.poll(Duration::from_millis(100)) {
            bytes += message?.payload_len();
            seen += 1;
        }
    }
    // What was read is looked at, so that reading cannot be left out.
    std::hint::black_box(bytes);
    Ok(())
}
