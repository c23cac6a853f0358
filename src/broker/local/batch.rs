//! The bytes of a batch: the unit that is appended, kept, written, checksummed and handed out.
//!
//! One format serves memory and disk (`docs/formats.md`, "Local broker"), so that a batch is encoded once and records are
//! slices of it. A batch belongs to at most one transaction. Where a batch is kept is decided in `log` and `segments`.

use bytes::Bytes;

use crate::base::ids::Offset;
use crate::base::record::{Header, Headers, Outgoing, Record};
use crate::base::time::Timestamp;
use crate::base::value::Text;

/// Bytes before a batch's records.
pub(super) const HEADER_BYTES: usize = 40;
/// Bytes of a record before its key.
const RECORD_BYTES: usize = 24;
/// The length that says null.
const NULL: u32 = u32::MAX;
/// The transaction number of a batch outside any transaction.
pub(super) const NO_TRANSACTION: u64 = 0;

/// What a batch is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum BatchKind {
    Data,
    CommitMarker,
    AbortMarker,
}

impl BatchKind {
    fn to_byte(self) -> u8 {
        match self {
            Self::Data => 0,
            Self::CommitMarker => 1,
            Self::AbortMarker => 2,
        }
    }

    fn from_byte(byte: u8) -> Option<Self> {
        [Self::Data, Self::CommitMarker, Self::AbortMarker].into_iter().find(|kind| kind.to_byte() == byte)
    }
}

/// Whether a body's checksum is worth computing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Checksum {
    Compute,
    /// The batch never leaves memory.
    Skip,
}

/// A batch with its place in a partition. Cheap to clone.
#[derive(Clone, Debug)]
pub(super) struct Batch {
    pub(super) base: i64,
    /// Offset of the last record, at least `base`.
    pub(super) last: i64,
    pub(super) transaction: u64,
    pub(super) kind: BatchKind,
    /// Header and records.
    pub(super) bytes: Bytes,
}

impl Batch {
    /// Makes the marker that ends a transaction in a partition.
    pub(super) fn marker(kind: BatchKind, transaction: u64, offset: i64) -> Self {
        Body { buffer: vec![0; HEADER_BYTES], span: 0, records: 0, checksum: 0 }.place(kind, transaction, offset)
    }

    /// Reads the header at the start of `bytes`; none when it is not one.
    pub(super) fn read_header(bytes: &[u8]) -> Option<BatchHeader> {
        let bytes = bytes.get(..HEADER_BYTES)?;
        if crc32fast::hash(&bytes[8..]) != u32_at(bytes, 4)? {
            return None;
        }
        Some(BatchHeader {
            body_bytes: u32_at(bytes, 0)? as usize,
            checksum: u32_at(bytes, 8)?,
            kind: BatchKind::from_byte(bytes[12])?,
            base: u64_at(bytes, 16)? as i64,
            span: u32_at(bytes, 24)?,
            transaction: u64_at(bytes, 32)?,
        })
    }

    /// Returns a cursor before the first record.
    pub(super) fn into_cursor(self) -> Cursor {
        Cursor { batch: self, at: HEADER_BYTES }
    }
}

/// A batch's header, checked.
#[derive(Clone, Copy, Debug)]
pub(super) struct BatchHeader {
    pub(super) body_bytes: usize,
    checksum: u32,
    pub(super) kind: BatchKind,
    pub(super) base: i64,
    span: u32,
    pub(super) transaction: u64,
}

impl BatchHeader {
    /// Bytes of header and records.
    pub(super) fn total_bytes(&self) -> usize {
        HEADER_BYTES + self.body_bytes
    }

    /// Offset of the last record.
    pub(super) fn last(&self) -> i64 {
        self.base + i64::from(self.span)
    }

    /// Tells whether `body` is what was written.
    pub(super) fn matches(&self, body: &[u8]) -> bool {
        body.len() == self.body_bytes && crc32fast::hash(body) == self.checksum
    }

    /// Joins the header with the bytes it was read from.
    pub(super) fn with(self, bytes: Bytes) -> Batch {
        Batch { base: self.base, last: self.last(), transaction: self.transaction, kind: self.kind, bytes }
    }
}

/// Collects records for one partition; its buffer is used again and again.
#[derive(Debug, Default)]
pub(super) struct BatchBuilder {
    buffer: Vec<u8>,
    records: u32,
    last_delta: u32,
}

impl BatchBuilder {
    /// Bytes of the records so far.
    pub(super) fn len_bytes(&self) -> usize {
        self.buffer.len()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.records == 0
    }

    /// Adds a record right behind the one before.
    pub(super) fn push(&mut self, record: &Outgoing) {
        let delta = self.records;
        self.write(delta, record.timestamp, record.key.as_deref(), record.value.as_deref(), &record.headers);
    }

    /// Adds a record that keeps its offset, `delta` above the batch's base.
    pub(super) fn push_at(&mut self, delta: u32, record: &Record) {
        self.write(delta, record.timestamp, record.key.as_deref(), record.value.as_deref(), &record.headers);
    }

    fn write(&mut self, delta: u32, at: Timestamp, key: Option<&[u8]>, value: Option<&[u8]>, headers: &Headers) {
        let start = self.buffer.len();
        let mut fixed = [0; RECORD_BYTES];
        fixed[..4].copy_from_slice(&delta.to_le_bytes());
        fixed[4..12].copy_from_slice(&at.0.to_le_bytes());
        fixed[12..16].copy_from_slice(&length_of(key).to_le_bytes());
        fixed[16..20].copy_from_slice(&length_of(value).to_le_bytes());
        self.buffer.extend_from_slice(&fixed);
        self.buffer.extend_from_slice(key.unwrap_or_default());
        self.buffer.extend_from_slice(value.unwrap_or_default());
        if !headers.is_empty() {
            let headers_start = self.buffer.len();
            for header in headers.iter() {
                self.buffer.extend_from_slice(&(header.name.len() as u32).to_le_bytes());
                self.buffer.extend_from_slice(&length_of(header.value.as_deref()).to_le_bytes());
                self.buffer.extend_from_slice(header.name.as_bytes());
                self.buffer.extend_from_slice(header.value.as_deref().unwrap_or_default());
            }
            let headers_bytes = (self.buffer.len() - headers_start) as u32;
            self.buffer[start + 20..start + 24].copy_from_slice(&headers_bytes.to_le_bytes());
        }
        self.records += 1;
        self.last_delta = delta;
    }

    /// Takes the records as a batch that has no place yet, and is empty after.
    pub(super) fn take(&mut self, checksum: Checksum) -> Body {
        let mut buffer = Vec::with_capacity(HEADER_BYTES + self.buffer.len());
        buffer.extend_from_slice(&[0; HEADER_BYTES]);
        buffer.extend_from_slice(&self.buffer);
        let checksum = match checksum {
            Checksum::Compute => crc32fast::hash(&self.buffer),
            Checksum::Skip => 0,
        };
        let body = Body { buffer, span: self.last_delta, records: self.records, checksum };
        self.buffer.clear();
        self.records = 0;
        self.last_delta = 0;
        body
    }
}

fn length_of(bytes: Option<&[u8]>) -> u32 {
    bytes.map_or(NULL, |bytes| bytes.len() as u32)
}

/// Records on their way into a partition.
#[derive(Debug)]
pub(super) struct Body {
    buffer: Vec<u8>,
    span: u32,
    records: u32,
    checksum: u32,
}

impl Body {
    pub(super) fn records(&self) -> u64 {
        u64::from(self.records)
    }

    /// Gives the records their offsets.
    pub(super) fn place(self, kind: BatchKind, transaction: u64, base: i64) -> Batch {
        let mut buffer = self.buffer;
        let body_bytes = (buffer.len() - HEADER_BYTES) as u32;
        buffer[..4].copy_from_slice(&body_bytes.to_le_bytes());
        buffer[8..12].copy_from_slice(&self.checksum.to_le_bytes());
        buffer[12] = kind.to_byte();
        buffer[16..24].copy_from_slice(&base.to_le_bytes());
        buffer[24..28].copy_from_slice(&self.span.to_le_bytes());
        buffer[28..32].copy_from_slice(&self.records.to_le_bytes());
        buffer[32..40].copy_from_slice(&transaction.to_le_bytes());
        let header_checksum = crc32fast::hash(&buffer[8..HEADER_BYTES]);
        buffer[4..8].copy_from_slice(&header_checksum.to_le_bytes());
        Batch { base, last: base + i64::from(self.span), transaction, kind, bytes: Bytes::from(buffer) }
    }
}

/// A place within a batch.
#[derive(Debug)]
pub(super) struct Cursor {
    batch: Batch,
    at: usize,
}

/// The batch's bytes are not records, although its checksum holds: it was written by something else.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Malformed;

impl Cursor {
    /// Returns the next record at or after `from`; none at the batch's end. Payloads are slices of the batch.
    pub(super) fn next(&mut self, from: i64) -> Result<Option<Record>, Malformed> {
        while self.at < self.batch.bytes.len() {
            let (record, end) = self.read(from).ok_or(Malformed)?;
            self.at = end;
            if record.is_some() {
                return Ok(record);
            }
        }
        Ok(None)
    }

    /// Reads the record at the cursor (none when it is before `from`) and where it ends.
    fn read(&self, from: i64) -> Option<(Option<Record>, usize)> {
        let bytes = &self.batch.bytes;
        let fixed: &[u8; RECORD_BYTES] = bytes.get(self.at..self.at + RECORD_BYTES)?.try_into().ok()?;
        let offset = self.batch.base + i64::from(u32_at(fixed, 0)?);
        let key_at = self.at + RECORD_BYTES;
        let key = u32_at(fixed, 12)?;
        let value_at = key_at + if key == NULL { 0 } else { key as usize };
        let value = u32_at(fixed, 16)?;
        let headers_at = value_at + if value == NULL { 0 } else { value as usize };
        let end = headers_at + u32_at(fixed, 20)? as usize;
        if end > bytes.len() {
            return None;
        }
        if offset < from {
            return Some((None, end));
        }
        let record = Record {
            offset: Offset(offset),
            timestamp: Timestamp(u64_at(fixed, 4)? as i64),
            key: (key != NULL).then(|| bytes.slice(key_at..value_at)),
            value: (value != NULL).then(|| bytes.slice(value_at..headers_at)),
            headers: if end == headers_at { Headers::default() } else { read_headers(bytes, headers_at, end)? },
        };
        Some((Some(record), end))
    }
}

fn read_headers(bytes: &Bytes, start: usize, end: usize) -> Option<Headers> {
    let mut headers = Vec::new();
    let mut at = start;
    while at < end {
        let name_at = at + 8;
        let value_at = name_at + u32_at(bytes, at)? as usize;
        let value = u32_at(bytes, at + 4)?;
        at = value_at + if value == NULL { 0 } else { value as usize };
        if at > end {
            return None;
        }
        let name = std::str::from_utf8(&bytes[name_at..value_at]).ok()?;
        headers.push(Header { name: Text::from(name), value: (value != NULL).then(|| bytes.slice(value_at..at)) });
    }
    Some(Headers::new(headers))
}

fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_le_bytes(bytes.get(at..at + 4)?.try_into().ok()?))
}

fn u64_at(bytes: &[u8], at: usize) -> Option<u64> {
    Some(u64::from_le_bytes(bytes.get(at..at + 8)?.try_into().ok()?))
}

/// The bytes that Kafka's broker counts against `max.message.bytes`: the record alone in an uncompressed batch of format 2.
pub(super) fn kafka_size_bytes(record: &Outgoing) -> usize {
    const BATCH_OVERHEAD_BYTES: usize = 61;
    let field = |bytes: Option<usize>| bytes.map_or(1, |length| varint_bytes(length) + length);
    let headers: usize =
        record.headers.iter().map(|h| field(Some(h.name.len())) + field(h.value.as_ref().map(Bytes::len))).sum();
    let header_count = if record.headers.is_empty() { 1 } else { varint_bytes(record.headers.iter().count()) };
    // Attributes, timestamp delta and offset delta take one byte each in a batch of one.
    let body = 3 + field(record.key.as_ref().map(Bytes::len)) + field(record.value.as_ref().map(Bytes::len));
    let body = body + header_count + headers;
    BATCH_OVERHEAD_BYTES + varint_bytes(body) + body
}

/// Bytes of a zigzag varint of a length.
fn varint_bytes(length: usize) -> usize {
    let bits = usize::BITS - (length << 1).leading_zeros();
    (bits.max(1) as usize).div_ceil(7)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::base::ids::{Partition, Topic};

    fn bytes() -> impl Strategy<Value = Option<Bytes>> {
        proptest::option::of(proptest::collection::vec(any::<u8>(), 0..20).prop_map(Bytes::from))
    }

    fn outgoing() -> impl Strategy<Value = Outgoing> {
        let header = ("[a-z]{0,12}", bytes()).prop_map(|(name, value)| Header { name: Text::from(name), value });
        (any::<i64>(), bytes(), bytes(), proptest::collection::vec(header, 0..4)).prop_map(
            |(timestamp, key, value, headers)| Outgoing {
                topic: Topic::from("t"),
                partition: Partition(0),
                timestamp: Timestamp(timestamp),
                key,
                value,
                headers: Headers::new(headers),
            },
        )
    }

    proptest! {
        #[test]
        fn records_come_back_as_they_went_in(records in proptest::collection::vec(outgoing(), 1..20), base in 0_i64..1000, skip in 0_i64..20) {
            let mut builder = BatchBuilder::default();
            records.iter().for_each(|record| builder.push(record));
            let batch = builder.take(Checksum::Compute).place(BatchKind::Data, 7, base);
            let header = Batch::read_header(&batch.bytes).unwrap();
            prop_assert!(header.matches(&batch.bytes[HEADER_BYTES..]));
            prop_assert_eq!(header.last(), base + records.len() as i64 - 1);
            let mut cursor = batch.into_cursor();
            let mut read = Vec::new();
            while let Some(record) = cursor.next(base + skip).unwrap() {
                read.push(record);
            }
            let expected: Vec<Record> = records.into_iter().enumerate().skip(skip as usize).map(|(index, record)| Record {
                offset: Offset(base + index as i64),
                timestamp: record.timestamp,
                key: record.key,
                value: record.value,
                headers: record.headers,
            }).collect();
            prop_assert_eq!(read, expected);
        }

        #[test]
        fn a_flipped_bit_is_noticed(records in proptest::collection::vec(outgoing(), 1..5), at in any::<usize>(), bit in 0..8) {
            let mut builder = BatchBuilder::default();
            records.iter().for_each(|record| builder.push(record));
            let batch = builder.take(Checksum::Compute).place(BatchKind::Data, 0, 5);
            let mut bytes = batch.bytes.to_vec();
            // The body length alone is not covered by the header's checksum: a wrong one fails the body's.
            let at = at % bytes.len();
            bytes[at] ^= 1_u8 << bit;
            let fits = |header: BatchHeader| bytes.get(HEADER_BYTES..header.total_bytes()).is_some_and(|body| header.matches(body));
            prop_assert!(!Batch::read_header(&bytes).is_some_and(fits));
        }
    }

    #[test]
    fn a_records_size_is_what_kafka_counts() {
        let record = |value: usize| Outgoing {
            topic: Topic::from("t"),
            partition: Partition(0),
            timestamp: Timestamp(0),
            key: None,
            value: Some(Bytes::from(vec![0; value])),
            headers: Headers::default(),
        };
        // 61 + length varint 1 + attributes 1 + deltas 2 + null key 1 + value length 1 + value + header count 1.
        assert_eq!(kafka_size_bytes(&record(0)), 61 + 1 + 1 + 2 + 1 + 1 + 1);
        assert_eq!(kafka_size_bytes(&record(63)), kafka_size_bytes(&record(0)) + 63 + 1);
        assert_eq!(varint_bytes(63), 1);
        assert_eq!(varint_bytes(64), 2);
        assert_eq!(varint_bytes(8191), 2);
        assert_eq!(varint_bytes(8192), 3);
    }
}
