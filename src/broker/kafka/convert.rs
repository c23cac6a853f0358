//! Between the seam's partitions, offsets and records and librdkafka's. Pure.

use rdkafka::TopicPartitionList;
use rdkafka::message::{BorrowedMessage, Headers as _, Message};
use rdkafka::topic_partition_list::Offset as RdOffset;

use super::error;
use crate::base::ids::{Offset, Partition, Topic, TopicPartition};
use crate::base::record::{Header, Headers, Outgoing, Record};
use crate::base::time::Timestamp;
use crate::base::value::Text;
use crate::broker::{Error, Fetched};

pub(super) fn partitions_of(list: &TopicPartitionList) -> Vec<TopicPartition> {
    list.elements().iter().map(|element| TopicPartition::new(element.topic(), element.partition())).collect()
}

pub(super) fn list_without_offsets(partitions: &[TopicPartition]) -> TopicPartitionList {
    let mut list = TopicPartitionList::with_capacity(partitions.len());
    for partition in partitions {
        list.add_partition(partition.topic.as_str(), partition.partition.0);
    }
    list
}

pub(super) fn list_of(positions: &[(TopicPartition, Offset)]) -> Result<TopicPartitionList, Error> {
    list_at(positions.iter().map(|(partition, offset)| (partition, *offset)))
}

/// Makes librdkafka's list of positions.
pub(super) fn list_at<'a>(
    positions: impl Iterator<Item = (&'a TopicPartition, Offset)>,
) -> Result<TopicPartitionList, Error> {
    let mut list = TopicPartitionList::new();
    for (TopicPartition { topic, partition }, offset) in positions {
        if offset.0 < 0 {
            return Err(Error::Invalid { message: format!("offset {offset} of `{topic}-{partition}`") });
        }
        list.add_partition_offset(topic.as_str(), partition.0, RdOffset::Offset(offset.0))
            .map_err(|error| error::map(&error, Some(topic)))?;
    }
    Ok(list)
}

/// Reads offsets in the order of `partitions`.
pub(super) fn offsets_of(
    list: &TopicPartitionList,
    partitions: &[TopicPartition],
) -> Result<Vec<Option<Offset>>, Error> {
    partitions
        .iter()
        .map(|partition| {
            let Some(element) = list.find_partition(partition.topic.as_str(), partition.partition.0) else {
                return Ok(None);
            };
            element.error().map_err(|error| error::map(&error, Some(&partition.topic)))?;
            Ok(if let RdOffset::Offset(offset) = element.offset() { Some(Offset(offset)) } else { None })
        })
        .collect()
}

/// Copies a message that came through the consumer's own queue.
pub(super) fn fetched(message: &BorrowedMessage<'_>) -> Fetched {
    let copy = |bytes: &[u8]| bytes::Bytes::copy_from_slice(bytes);
    let headers = message.headers().map_or_else(Vec::new, |headers| {
        headers.iter().map(|header| Header { name: Text::from(header.key), value: header.value.map(copy) }).collect()
    });
    let record = Record {
        offset: Offset(message.offset()),
        timestamp: message.timestamp().to_millis().map_or(Timestamp::UNKNOWN, Timestamp),
        key: message.key().map(copy),
        value: message.payload().map(copy),
        headers: Headers::new(headers),
    };
    let partition = TopicPartition { topic: Topic::new(message.topic()), partition: Partition(message.partition()) };
    Fetched { partition, records: vec![record] }
}

/// What a record costs in a batch beside its bytes, at most: the batch's head and the record's own numbers.
const OVERHEAD_BYTES: usize = 61 + 30;

/// Checks a record against what its topic takes, as far as that is known.
pub(super) fn check_size(record: &Outgoing, limit: Option<usize>) -> Result<(), Error> {
    let size_bytes = payload_bytes(record);
    match limit {
        Some(limit) if size_bytes + OVERHEAD_BYTES > limit => {
            Err(Error::RecordTooLarge { topic: record.topic.clone(), size_bytes })
        }
        _ => Ok(()),
    }
}

pub(super) fn payload_bytes(record: &Outgoing) -> usize {
    let headers: usize = record
        .headers
        .iter()
        .map(|header| header.name.len() + header.value.as_ref().map_or(0, bytes::Bytes::len) + 10)
        .sum();
    record.key.as_ref().map_or(0, bytes::Bytes::len) + record.value.as_ref().map_or(0, bytes::Bytes::len) + headers
}

/// librdkafka reads 0 as "the current time", so the first millisecond of 1970 is written as the second one.
pub(super) fn timestamp(timestamp: Timestamp) -> Option<i64> {
    match timestamp {
        Timestamp::UNKNOWN => None,
        Timestamp(0) => Some(1),
        Timestamp(millis) => Some(millis),
    }
}
