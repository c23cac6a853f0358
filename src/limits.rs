//! Every bound in one place, unit last. Each says what happens when it is met.

/// Nesting of an expression; deeper is refused at `check`.
pub const EXPRESSION_DEPTH_MAX: usize = 64;

/// Bytes of one expression's text; longer is refused at `check`.
pub const EXPRESSION_BYTES_MAX: usize = 16 * 1024;

/// Nesting of a decoded datum (records, lists, maps); a record nested deeper is a decode error.
pub const DATUM_DEPTH_MAX: usize = 64;

/// Bytes of records in one batch of the local broker; the batch is closed behind the record that goes beyond.
pub const LOCAL_BATCH_BYTES_MAX: usize = 256 * 1024;

/// Bytes of a partition that the local broker keeps in memory beside its files; older batches are read from the files.
pub const LOCAL_TAIL_BYTES_MAX: usize = 1024 * 1024;

/// Bytes of a partition that wait for a commit; more are written before it.
pub const LOCAL_UNWRITTEN_BYTES_MAX: usize = 1024 * 1024;

/// Bytes of one segment file of the local broker; the next write begins another file.
pub const LOCAL_SEGMENT_BYTES_MAX: u64 = 128 * 1024 * 1024;

/// Bytes of a segment between two entries of its index in memory; a read begins at most so far before its offset.
pub const LOCAL_INDEX_BYTES: u64 = 32 * 1024;

/// Bytes fetched ahead of a partition by the local broker at most; a larger batch is read whole.
pub const LOCAL_CHUNK_BYTES: usize = 512 * 1024;

/// Bytes of the local broker's journal; a longer one is replaced by what it comes to.
pub const LOCAL_JOURNAL_BYTES_MAX: u64 = 32 * 1024 * 1024;

/// Bytes of a partition that compaction at open leaves alone.
pub const LOCAL_COMPACT_BYTES_MIN: u64 = 1024 * 1024;

/// Records that one `poll` of the local broker hands out of one partition; more come with the next call.
pub const LOCAL_FETCH_RECORDS_MAX: usize = 1000;

/// Records that one `poll` of the local broker hands out; more come with the next call.
pub const LOCAL_POLL_RECORDS_MAX: usize = 4000;

/// Bytes that one `poll` of the local broker hands out, to within one record; more come with the next call.
pub const LOCAL_POLL_BYTES_MAX: usize = 4 * 1024 * 1024;

/// Partitions of one topic of the local broker; more are refused.
pub const LOCAL_PARTITIONS_MAX: u32 = 1024;

/// Partitions that one `poll` of the local broker hands records out of; the others come with the next call.
pub const LOCAL_POLL_PARTITIONS_MAX: usize = 16;

/// Bytes fetched ahead of a partition by the local broker, however many partitions share the consumer's prefetch.
pub const LOCAL_FETCH_BYTES_MIN: usize = 32 * 1024;
