//! One partition: its batches in order, what of them may be seen, and where they are kept.
//!
//! Invariants: offsets only grow; a batch that is not on disk (where there is one) is in `tail`; the last stable offset is
//! the first offset of the oldest open transaction, so it never falls inside a batch. When something is written is decided
//! in `transactions` and `producer`; bytes of segment files are `segments`' business.

use std::collections::{BTreeSet, VecDeque};
use std::fs::File;
use std::io;
use std::sync::Arc;

use crate::broker::local::batch::{Batch, BatchKind, Body, NO_TRANSACTION};
use crate::broker::local::compaction::{self, TombstoneRule};
use crate::broker::local::segments::Segments;
use crate::broker::{Error, Isolation};
use crate::limits;

/// A partition's records and ends.
#[derive(Debug, Default)]
pub(super) struct PartitionLog {
    low: i64,
    high: i64,
    /// The newest batches. In memory: all of them.
    tail: VecDeque<Batch>,
    tail_bytes: usize,
    /// How many of `tail`, from the back, are not on disk.
    unwritten: usize,
    unwritten_bytes: usize,
    /// Open transactions with their first offset, oldest first.
    open: Vec<(u64, i64)>,
    aborted: Arc<BTreeSet<u64>>,
    segments: Option<Segments>,
}

/// Where the next records of a reader are.
#[derive(Debug)]
pub(super) enum Source {
    /// Batches to hand out (of what the isolation shows); reading goes on at `next`.
    Memory {
        batches: Vec<Batch>,
        next: i64,
    },
    Disk(Chunk),
}

/// A piece of a segment file, to be read without the broker's lock.
#[derive(Debug)]
pub(super) struct Chunk {
    pub(super) file: Arc<File>,
    pub(super) at: u64,
    /// Bytes of the segment from `at` on.
    pub(super) available_bytes: u64,
    /// Bytes to read at a time, more where a batch is larger.
    pub(super) bytes_max: usize,
    /// Where reading goes on once all of them were read.
    pub(super) segment_end: i64,
    /// Offset that must not be reached.
    pub(super) visible_end: i64,
    pub(super) aborted: Arc<BTreeSet<u64>>,
}

impl PartitionLog {
    /// Makes an empty partition that is kept in memory.
    pub(super) fn in_memory() -> Self {
        Self::default()
    }

    /// Makes a partition of what its segment files hold. Transactions that they leave open are open.
    pub(super) fn recovered(segments: Segments, low: i64, open: Vec<(u64, i64)>, aborted: BTreeSet<u64>) -> Self {
        let end = segments.end().max(low);
        Self { low, high: end, open, aborted: Arc::new(aborted), segments: Some(segments), ..Self::default() }
    }

    pub(super) fn low(&self) -> i64 {
        self.low
    }

    pub(super) fn high(&self) -> i64 {
        self.high
    }

    /// Returns the offset that a reader must not reach.
    pub(super) fn visible_end(&self, isolation: Isolation) -> i64 {
        match (isolation, self.open.first()) {
            (Isolation::ReadCommitted, Some((_, first))) => *first,
            (Isolation::ReadCommitted, None) | (Isolation::ReadUncommitted, _) => self.high,
        }
    }

    /// Transactions that have records here and are not decided, oldest first.
    pub(super) fn open_transactions(&self) -> impl Iterator<Item = u64> {
        self.open.iter().map(|(transaction, _)| *transaction)
    }

    /// Appends records and returns the offset of the last one.
    pub(super) fn append(&mut self, body: Body, transaction: u64) -> i64 {
        let batch = body.place(BatchKind::Data, transaction, self.high);
        if transaction != NO_TRANSACTION && !self.open.iter().any(|(open, _)| *open == transaction) {
            self.open.push((transaction, batch.base));
        }
        self.push(batch)
    }

    /// Ends a transaction here: its records become visible, or never will.
    pub(super) fn end_transaction(&mut self, transaction: u64, marker: BatchKind) {
        if marker == BatchKind::AbortMarker {
            Arc::make_mut(&mut self.aborted).insert(transaction);
        }
        self.open.retain(|(open, _)| *open != transaction);
        self.push(Batch::marker(marker, transaction, self.high));
    }

    fn push(&mut self, batch: Batch) -> i64 {
        let last = batch.last;
        self.high = last + 1;
        self.tail_bytes += batch.bytes.len();
        if self.segments.is_some() {
            self.unwritten += 1;
            self.unwritten_bytes += batch.bytes.len();
        }
        self.tail.push_back(batch);
        last
    }

    /// Tells whether so much waits to be written that it should not wait for a commit.
    pub(super) fn should_write(&self) -> bool {
        self.segments.is_some() && self.unwritten_bytes >= limits::LOCAL_UNWRITTEN_BYTES_MAX
    }

    /// Hands everything up to the end to the operating system; nothing to do in memory.
    pub(super) fn write(&mut self) -> io::Result<()> {
        let Some(segments) = &mut self.segments else { return Ok(()) };
        if self.unwritten == 0 {
            return Ok(());
        }
        let first = self.tail.len() - self.unwritten;
        let (front, back) = self.tail.as_slices();
        let waiting: Vec<&Batch> = front.iter().chain(back).skip(first).collect();
        segments.append(&waiting)?;
        self.unwritten = 0;
        self.unwritten_bytes = 0;
        while self.tail_bytes > limits::LOCAL_TAIL_BYTES_MAX {
            let Some(oldest) = self.tail.pop_front() else { break };
            self.tail_bytes -= oldest.bytes.len();
        }
        Ok(())
    }

    /// Asks the disk itself to keep what was written.
    pub(super) fn sync(&mut self) -> io::Result<()> {
        self.segments.as_mut().map_or(Ok(()), Segments::sync)
    }

    /// Says where a reader at `position` finds about `bytes_max` bytes; none when it has seen all that it may.
    pub(super) fn read(&self, position: i64, isolation: Isolation, bytes_max: usize) -> Option<Source> {
        let visible_end = self.visible_end(isolation);
        if position >= visible_end {
            return None;
        }
        if self.tail.front().is_none_or(|batch| position < batch.base)
            && let Some(segments) = &self.segments
            && let Some(place) = segments.find(position)
        {
            let aborted = match isolation {
                Isolation::ReadCommitted => Arc::clone(&self.aborted),
                Isolation::ReadUncommitted => Arc::default(),
            };
            return Some(Source::Disk(Chunk {
                file: place.file,
                at: place.at,
                available_bytes: place.available_bytes,
                bytes_max,
                segment_end: place.segment_end,
                visible_end,
                aborted,
            }));
        }
        Some(self.read_tail(position, isolation, visible_end, bytes_max))
    }

    fn read_tail(&self, position: i64, isolation: Isolation, visible_end: i64, bytes_max: usize) -> Source {
        let first = self.tail.partition_point(|batch| batch.last < position);
        let (mut batches, mut bytes, mut next) = (Vec::new(), 0, visible_end);
        for batch in self.tail.range(first..) {
            if batch.base >= visible_end {
                break;
            }
            if bytes >= bytes_max {
                next = batch.base;
                break;
            }
            bytes += batch.bytes.len();
            if is_shown(batch.kind, batch.transaction, isolation, &self.aborted) {
                batches.push(batch.clone());
            }
        }
        Source::Memory { batches, next }
    }

    /// Returns the bytes on disk, and those of them that compaction has not seen.
    pub(super) fn disk_bytes(&self) -> (u64, u64) {
        self.segments.as_ref().map_or((0, 0), Segments::bytes)
    }

    /// Keeps the last value of each key only. Every transaction must have ended and everything be written.
    pub(super) fn compact(&mut self, tombstones: &TombstoneRule) -> Result<(), Error> {
        debug_assert!(self.open.is_empty() && self.unwritten == 0);
        let Some(segments) = &mut self.segments else { return Ok(()) };
        compaction::compact(segments, self.low, self.high, &self.aborted, tombstones)?;
        self.aborted = Arc::default();
        self.tail.clear();
        self.tail_bytes = 0;
        Ok(())
    }

    /// Forgets the records before `offset`; later than the end counts as the end.
    pub(super) fn delete_before(&mut self, offset: i64) -> io::Result<()> {
        self.low = self.low.max(offset.min(self.high));
        while self.tail.len() > self.unwritten {
            let Some(oldest) = self.tail.front().filter(|batch| batch.last < self.low) else { break };
            self.tail_bytes -= oldest.bytes.len();
            self.tail.pop_front();
        }
        self.segments.as_mut().map_or(Ok(()), |segments| segments.delete_before(self.low))
    }
}

/// Tells whether a batch has records for a reader.
pub(super) fn is_shown(kind: BatchKind, transaction: u64, isolation: Isolation, aborted: &BTreeSet<u64>) -> bool {
    kind == BatchKind::Data && (isolation == Isolation::ReadUncommitted || !aborted.contains(&transaction))
}
