//! What a task has been given to work on: one queue for each source's partition, and the rule which record is next.
//!
//! The rule is Kafka Streams' (`PartitionGroup`): the smallest timestamp among the heads; the order inside a partition never
//! changes. Ties go by source name, so that an input has one output (D2). While a partition may have more than it has shown,
//! nothing of the others is taken.

use std::collections::VecDeque;

use bytes::Bytes;

use crate::base::ids::{Offset, SchemaId, TopicPartition};
use crate::base::record::Record;
use crate::base::time::Timestamp;
use crate::base::value::Value;
use crate::plan::{Source, SourceIndex};
use crate::task::decode::{Decoded, SourceDecoder};

/// Gives a decoded record's own time, or says why it has none.
type HeadTimestamp<'a> =
    dyn FnMut(&Record, Option<&[u8]>, &Decoded, &[Value], &SourceDecoder) -> Result<Timestamp, String> + 'a;

/// The same for the records of any source.
type SourceTimestamp<'a> = dyn FnMut(SourceIndex, &Record, Option<&[u8]>, &Decoded, &[Value], &SourceDecoder) -> Result<Timestamp, String>
    + 'a;

/// The records of one source's partition that wait to be processed.
#[derive(Debug)]
pub(super) struct SourceQueue {
    pub(super) partition: TopicPartition,
    records: Records,
    bytes: usize,
    head: Option<Head>,
    /// Offset after everything that was handed out, gaps included, once the end was reached.
    end: Option<Offset>,
    /// Offset after the last record that was taken; before the first, where reading began.
    taken: Option<Offset>,
    /// Where a rewind goes back to: the offset of the last commit, before it where reading began. None: there is nothing to be read.
    began: Option<Offset>,
    /// Space for the next head's slots.
    spare: Vec<Value>,
}

/// A record whose turn may come, decoded.
#[derive(Debug)]
pub(super) struct Head {
    pub(super) record: Record,
    /// The record as expressions see it, where it came in an envelope.
    pub(super) opened: Option<Box<Record>>,
    /// The key where the record's own comes in a frame.
    pub(super) bare_key: Option<Bytes>,
    pub(super) decoded: Decoded,
    pub(super) slots: Vec<Value>,
    /// What the record is ordered by.
    pub(super) timestamp: Timestamp,
}

/// Whether there is a next record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Next {
    /// Take it from this source.
    Source(SourceIndex),
    /// Everything there was has been processed.
    Drained,
    /// This source may have an earlier record than the others show.
    WaitsFor(SourceIndex),
    /// The head of this source was written with a schema that is not known yet.
    NeedsSchema(SourceIndex, SchemaId),
}

/// Records in order, in the lists that they came in: none is copied.
#[derive(Debug, Default)]
struct Records {
    /// Not empty, unless there are none at all.
    front: VecDeque<Record>,
    behind: VecDeque<Vec<Record>>,
}

impl Records {
    /// Takes a list that is not empty.
    fn push_back(&mut self, records: Vec<Record>) {
        if self.front.is_empty() {
            self.front = VecDeque::from(records);
        } else {
            self.behind.push_back(records);
        }
    }

    fn pop_front(&mut self) -> Option<Record> {
        let record = self.front.pop_front();
        if self.front.is_empty()
            && let Some(next) = self.behind.pop_front()
        {
            self.front = VecDeque::from(next);
        }
        record
    }

    fn push_front(&mut self, record: Record) {
        self.front.push_front(record);
    }

    fn front(&self) -> Option<&Record> {
        self.front.front()
    }

    fn is_empty(&self) -> bool {
        self.front.is_empty()
    }
}

impl SourceQueue {
    pub(super) fn new(partition: TopicPartition) -> Self {
        Self {
            partition,
            records: Records::default(),
            bytes: 0,
            head: None,
            end: None,
            taken: None,
            began: None,
            spare: Vec::new(),
        }
    }

    /// Reading begins at `from`, with nothing taken yet. So even a commit of nothing has an offset, by which the group can tell that it
    /// is of a member that has lost the partition.
    pub(super) fn begin(&mut self, from: Offset) {
        (self.taken, self.began) = (Some(from), Some(from));
    }

    /// What is before `offset` is committed.
    pub(super) fn committed(&mut self, offset: Offset) {
        self.began = self.began.and(Some(offset));
    }

    /// Takes fetched records in.
    pub(super) fn push(&mut self, records: Vec<Record>) {
        if records.is_empty() {
            return;
        }
        self.end = None;
        self.bytes += records.iter().map(Record::size_bytes).sum::<usize>();
        self.records.push_back(records);
    }

    /// Notes that everything before `position` has been handed out.
    pub(super) fn reached_end(&mut self, position: Offset) {
        self.end = Some(position);
    }

    /// Tells whether the partition's end was reached and everything is processed.
    pub(super) fn is_drained(&self) -> bool {
        self.end.is_some() && self.is_empty()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.head.is_none() && self.records.is_empty()
    }

    /// Bytes that wait here.
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Returns the offset to commit: of the next record that waits, else after what was handed out (transaction markers and
    /// compaction's gaps included), else after what was taken. None where reading has not begun.
    pub(super) fn committable(&self) -> Option<Offset> {
        let waiting = self
            .head
            .as_ref()
            .map(|head| head.record.offset)
            .or_else(|| self.records.front().map(|record| record.offset));
        waiting.or_else(|| self.end.max(self.taken))
    }

    /// Decodes the front record into the head where there is none.
    fn fill_head(&mut self, decoder: &mut SourceDecoder, timestamp_of: &mut HeadTimestamp<'_>) {
        if self.head.is_some() {
            return;
        }
        let Some(record) = self.records.pop_front() else { return };
        let mut slots = std::mem::take(&mut self.spare);
        let (opened, failed) = match decoder.opened(&record) {
            Ok(opened) => (opened.map(Box::new), None),
            Err(decoded) => (None, Some(decoded)),
        };
        let seen = opened.as_deref().unwrap_or(&record);
        let (bare_key, mut decoded) = match (failed, decoder.bare_key(seen)) {
            (Some(decoded), _) | (None, Err(decoded)) => (None, decoded),
            (None, Ok(bare_key)) => (bare_key, decoder.decode(seen, &mut slots)),
        };
        let key = bare_key.as_deref().or(record.key.as_deref());
        let timestamp = timestamp_of(seen, key, &decoded, &slots, decoder).unwrap_or_else(|message| {
            decoded = Decoded::Failed(message);
            record.timestamp
        });
        self.head = Some(Head { record, opened, bare_key, decoded, slots, timestamp });
    }

    /// Takes the head, which there must be.
    pub(super) fn take(&mut self) -> Option<Head> {
        let head = self.head.take()?;
        self.bytes -= head.record.size_bytes().min(self.bytes);
        self.taken = Some(head.record.offset.next());
        Some(head)
    }

    /// Puts a record back that was not worked on.
    pub(super) fn put_back(&mut self, head: Head) {
        self.bytes += head.record.size_bytes();
        self.taken = Some(head.record.offset);
        self.head = Some(head);
    }

    /// Puts a record back that is to be worked on from the beginning, decoded anew.
    pub(super) fn put_back_encoded(&mut self, head: Head) {
        self.bytes += head.record.size_bytes();
        self.taken = Some(head.record.offset);
        self.spare = head.slots;
        self.records.push_front(head.record);
    }

    /// Gives the head's space back for the next one.
    pub(super) fn recycle(&mut self, slots: Vec<Value>) {
        self.spare = slots;
    }

    /// Decodes the head again: its schema has become known.
    fn redecode(&mut self, decoder: &mut SourceDecoder, timestamp_of: &mut HeadTimestamp<'_>) {
        if let Some(head) = self.head.take() {
            self.spare = head.slots;
            self.records.push_front(head.record);
            self.fill_head(decoder, timestamp_of);
        }
    }

    /// Forgets everything that waits and what was taken since the last commit. A partition of which nothing is read stays at its end.
    pub(super) fn rewind(&mut self) {
        let began = self.began;
        let end = if began.is_none() { self.end } else { None };
        *self = Self { taken: began, began, end, ..Self::new(self.partition.clone()) };
    }
}

/// Says where the next record comes from, decoding heads as needed. `timestamp_of` gives a record's own time.
pub(super) fn next(
    queues: &mut [SourceQueue],
    decoders: &mut [SourceDecoder],
    sources: &[Source],
    timestamp_of: &mut SourceTimestamp<'_>,
) -> Next {
    let mut best: Option<(Timestamp, &str, SourceIndex)> = None;
    for (index, (queue, decoder)) in queues.iter_mut().zip(decoders).enumerate() {
        let source = SourceIndex(index as u16);
        let mut timestamp_of =
            |record: &Record, key: Option<&[u8]>, decoded: &Decoded, slots: &[Value], decoder: &SourceDecoder| {
                timestamp_of(source, record, key, decoded, slots, decoder)
            };
        queue.fill_head(decoder, &mut timestamp_of);
        if let Some(Head { decoded: Decoded::NeedsSchema(_), .. }) = queue.head {
            queue.redecode(decoder, &mut timestamp_of);
        }
        match &queue.head {
            None if queue.end.is_some() => {}
            None => return Next::WaitsFor(source),
            Some(Head { decoded: Decoded::NeedsSchema(id), .. }) => return Next::NeedsSchema(source, *id),
            Some(head) => {
                let candidate = (head.timestamp, sources[index].name.as_str(), source);
                if best.is_none_or(|best| candidate < best) {
                    best = Some(candidate);
                }
            }
        }
    }
    best.map_or(Next::Drained, |(_, _, source)| Next::Source(source))
}
