//! Compaction: the last committed value per key stays, at its offset; everything else goes.
//!
//! Done when the broker is opened, while nobody reads. Tombstones stay until the file that holds them has been compacted for
//! `delete.retention.ms`, as in Kafka, so that a reader that was away for less sees them.

use std::collections::BTreeSet;
use std::time::{Duration, SystemTime};

use ahash::{AHashMap, RandomState};

use crate::base::record::Record;
use crate::broker::local::batch::{Batch, BatchBuilder, BatchKind, Checksum, NO_TRANSACTION};
use crate::broker::local::log::is_shown;
use crate::broker::local::segments::{Form, Segment, SegmentWriter, Segments};
use crate::broker::{Error, Isolation};
use crate::limits;

/// Which tombstones have been kept for long enough.
#[derive(Clone, Copy, Debug)]
pub(super) struct TombstoneRule {
    /// Those in files that were compacted before this moment; none: no moment is that long ago.
    compacted_before: Option<SystemTime>,
}

impl TombstoneRule {
    /// Keeps tombstones for this long after they were first compacted.
    #[expect(clippy::disallowed_methods, reason = "the age of a file on disk, compared once while opening it")]
    pub(super) fn kept_for_ms(retention_ms: u64) -> Self {
        Self { compacted_before: SystemTime::now().checked_sub(Duration::from_millis(retention_ms)) }
    }

    fn drops_those_of(&self, segment: &Segment) -> bool {
        match (segment.form(), self.compacted_before, segment.written_at()) {
            (Form::Compacted, Some(before), Some(written)) => written <= before,
            (Form::Compacted | Form::Plain, _, _) => false,
        }
    }
}

/// The last offset of each key, by a hash of 128 bits: as unlikely to meet as in Kafka's own map (MD5).
struct LastOffsets {
    hashers: [RandomState; 2],
    offsets: AHashMap<[u64; 2], i64>,
}

impl LastOffsets {
    fn hash(&self, key: &[u8]) -> [u64; 2] {
        [self.hashers[0].hash_one(key), self.hashers[1].hash_one(key)]
    }

    fn note(&mut self, record: &Record) {
        if let Some(key) = &record.key {
            self.offsets.insert(self.hash(key), record.offset.0);
        }
    }

    /// Tells whether no later record has the same key. Records without a key are all kept.
    fn is_last(&self, record: &Record) -> bool {
        record.key.as_ref().is_none_or(|key| self.offsets.get(&self.hash(key)) == Some(&record.offset.0))
    }
}

/// Rewrites a partition's files as one. `end` is the offset behind everything.
pub(super) fn compact(
    segments: &mut Segments,
    low: i64,
    end: i64,
    aborted: &BTreeSet<u64>,
    tombstones: &TombstoneRule,
) -> Result<(), Error> {
    let mut last = LastOffsets { hashers: [RandomState::new(), RandomState::new()], offsets: AHashMap::new() };
    for segment in segments.list() {
        for_each_record(segment, low, aborted, &mut |record| {
            last.note(&record);
            Ok(())
        })?;
    }
    let Some(base) = segments.list().first().map(Segment::base) else { return Ok(()) };
    segments.replace(base, end, &mut |sources, writer| {
        let mut rewriter = Rewriter { writer, builder: BatchBuilder::default(), base: 0 };
        for segment in sources {
            let drop_tombstones = tombstones.drops_those_of(segment);
            for_each_record(segment, low, aborted, &mut |record| {
                let is_kept = last.is_last(&record) && !(drop_tombstones && record.value.is_none());
                if is_kept { rewriter.add(&record) } else { Ok(()) }
            })?;
        }
        rewriter.close()
    })
}

/// Shows the committed records of a segment from `low` on.
fn for_each_record(
    segment: &Segment,
    low: i64,
    aborted: &BTreeSet<u64>,
    visit: &mut dyn FnMut(Record) -> Result<(), Error>,
) -> Result<(), Error> {
    segment.for_each(&mut |batch: Batch| {
        if !is_shown(batch.kind, batch.transaction, Isolation::ReadCommitted, aborted) {
            return Ok(());
        }
        let mut cursor = batch.into_cursor();
        let malformed = |_| Error::Storage { message: "a batch holds no records".to_owned() };
        while let Some(record) = cursor.next(low).map_err(malformed)? {
            visit(record)?;
        }
        Ok(())
    })
}

/// Packs kept records into batches.
struct Rewriter<'a> {
    writer: &'a mut SegmentWriter,
    builder: BatchBuilder,
    base: i64,
}

impl Rewriter<'_> {
    fn add(&mut self, record: &Record) -> Result<(), Error> {
        let delta = u32::try_from(record.offset.0 - self.base);
        if self.builder.is_empty() || self.builder.len_bytes() >= limits::LOCAL_BATCH_BYTES_MAX || delta.is_err() {
            self.close()?;
            self.base = record.offset.0;
        }
        self.builder.push_at((record.offset.0 - self.base) as u32, record);
        Ok(())
    }

    fn close(&mut self) -> Result<(), Error> {
        if self.builder.is_empty() {
            return Ok(());
        }
        let batch = self.builder.take(Checksum::Compute).place(BatchKind::Data, NO_TRANSACTION, self.base);
        self.writer.add(&batch)
    }
}
