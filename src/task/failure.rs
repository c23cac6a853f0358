//! What becomes of what fails: counts by node and reason, dead letters, and when a record is tried again.

use bytes::Bytes;

use crate::avro::to_json;
use crate::base::hash::partition_of;
use crate::base::ids::{Offset, Partition, TaskId, Topic};
use crate::base::record::{Header, Headers, Outgoing, Record};
use crate::base::time::Timestamp;
use crate::base::types::Field;
use crate::limits::RETRY_BACKOFF_MAX_MS;
use crate::operator::{DropReason, RecordContext, Row};
use crate::plan::Retry;

use super::graph::DeadLetterTopic;

/// Counts by reason, in the order of [`DropReason::ALL`].
pub type ByReason = [u64; DropReason::ALL.len()];

/// What failed at a source or node.
#[derive(Clone, Debug, Default)]
pub struct Failures {
    /// Given up, dead letters included.
    pub dropped: ByReason,
    /// Written to a dead-letter topic.
    pub dead_letters: ByReason,
    /// Attempts that are made again.
    pub retried: ByReason,
}

impl Failures {
    pub(super) fn drop_one(&mut self, reason: DropReason) {
        self.dropped[reason as usize] += 1;
    }
}

/// A record that failed and is to be tried again. It holds up its task: the order of a partition stands.
#[derive(Clone, Copy, Debug)]
pub(super) struct Retrying {
    pub(super) source: usize,
    pub(super) offset: Offset,
    /// Attempts after the first.
    made: u32,
    /// When the next one is due; none while it is being made.
    due: Option<Timestamp>,
}

impl Retrying {
    /// Plans the next attempt at a record; none when there have been enough.
    pub(super) fn plan(
        before: Option<Self>,
        source: usize,
        offset: Offset,
        retry: Retry,
        now: Timestamp,
    ) -> Option<Self> {
        let made =
            before.filter(|before| (before.source, before.offset) == (source, offset)).map_or(0, |before| before.made);
        if made >= retry.attempts {
            return None;
        }
        let wait = (retry.backoff.0 << made.min(32)).clamp(1, RETRY_BACKOFF_MAX_MS);
        Some(Self { source, offset, made: made + 1, due: Some(Timestamp(now.0.saturating_add(wait))) })
    }

    /// Tells whether it is too early for the next attempt.
    pub(super) fn waits(&self, now: Timestamp) -> bool {
        self.due.is_some_and(|due| due > now)
    }

    /// Begins the attempt; tells whether it had been waited for.
    pub(super) fn begin(&mut self) -> bool {
        self.due.take().is_some()
    }
}

/// Why a record or a row became a dead letter.
pub(super) struct Letter<'a> {
    pub(super) task: &'a TaskId,
    pub(super) node: &'a str,
    pub(super) reason: DropReason,
    pub(super) message: &'a str,
    /// Of the record that was read.
    pub(super) topic: &'a Topic,
    pub(super) partition: Partition,
    pub(super) offset: Offset,
}

impl Letter<'_> {
    /// The original bytes, key and headers, with the reason in Kafka Streams' headers (KIP-1034).
    pub(super) fn of_record(&self, target: &DeadLetterTopic, record: &Record) -> Outgoing {
        let mut headers: Vec<Header> = record.headers.iter().cloned().collect();
        self.add_headers(&mut headers, "tidemill.RecordError");
        Outgoing {
            topic: target.topic.clone(),
            partition: self.partition(target, record.key.as_deref()),
            timestamp: Timestamp(record.timestamp.0.max(0)),
            key: record.key.clone(),
            value: record.value.clone(),
            headers: Headers::new(headers),
        }
    }

    /// A row that no record at hand made (a window that closed, a timer): its key, its fields as JSON, and its window.
    pub(super) fn of_row(&self, target: &DeadLetterTopic, row: &Row<'_>, fields: &[Field]) -> Outgoing {
        let mut headers = Vec::new();
        self.add_headers(&mut headers, "tidemill.ResultError");
        if let Some(window) = row.window {
            headers.push(Header::text("__tidemill.errors.window", format!("{}/{}", window.start, window.end)));
        }
        let value = row.slots.map(|slots| {
            let shown = fields
                .iter()
                .zip(slots)
                .map(|(field, value)| (field.name.to_string(), to_json(value, &field.field_type)));
            Bytes::from(serde_json::Value::Object(shown.collect()).to_string())
        });
        Outgoing {
            topic: target.topic.clone(),
            partition: self.partition(target, row.key),
            timestamp: Timestamp(row.timestamp.0.max(0)),
            key: row.key.map(Bytes::copy_from_slice),
            value,
            headers: Headers::new(headers),
        }
    }

    fn partition(&self, target: &DeadLetterTopic, key: Option<&[u8]>) -> Partition {
        match key {
            Some(key) => partition_of(key, target.partitions),
            None => Partition(self.task.partition.0.rem_euclid(target.partitions.max(1) as i32)),
        }
    }

    fn add_headers(&self, headers: &mut Vec<Header>, exception: &str) {
        headers.extend([
            Header::text("__streams.errors.exception", exception),
            Header::text("__streams.errors.message", self.message),
            Header::text("__streams.errors.stacktrace", format!("task {}, node {}", self.task, self.node)),
            Header::text("__streams.errors.topic", self.topic.to_string()),
            Header::text("__streams.errors.partition", self.partition.to_string()),
            Header::text("__streams.errors.offset", self.offset.to_string()),
            Header::text(REASON_HEADER, self.reason.label()),
            Header::text(NODE_HEADER, self.node),
        ]);
    }
}

/// The header that has the reason's label, one of a closed set.
pub const REASON_HEADER: &str = "__tidemill.errors.reason";

/// The header that has the name of the node that failed.
pub const NODE_HEADER: &str = "__tidemill.errors.node";

/// What a dead letter says of the record that was at hand.
pub(super) fn letter<'a>(
    task: &'a TaskId,
    node: &'a str,
    reason: DropReason,
    message: &'a str,
    context: &'a RecordContext,
) -> Letter<'a> {
    Letter { task, node, reason, message, topic: &context.topic, partition: context.partition, offset: context.offset }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::time::SpanMs;

    #[test]
    fn waits_double_to_their_bound_and_attempts_end() {
        let retry = Retry { attempts: 40, backoff: SpanMs(1000) };
        let (mut state, mut waits) = (None, Vec::new());
        while let Some(next) = Retrying::plan(state, 0, Offset(7), retry, Timestamp(0)) {
            waits.push(next.due.unwrap().0);
            assert!(
                next.waits(Timestamp(waits[waits.len() - 1] - 1)) && !next.waits(Timestamp(waits[waits.len() - 1]))
            );
            state = Some(next);
        }
        assert_eq!(waits[..4], [1000, 2000, 4000, 8000]);
        assert_eq!((waits.len(), waits[39]), (40, RETRY_BACKOFF_MAX_MS));
        // Another record begins anew.
        assert_eq!(Retrying::plan(state, 0, Offset(8), retry, Timestamp(0)).unwrap().made, 1);
    }
}
