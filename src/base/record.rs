//! Records as brokers carry them: bytes, a timestamp, headers. Nothing here knows what the bytes mean.

use std::sync::Arc;

use bytes::{Bytes, BytesMut};

use crate::base::ids::{Offset, Partition, Topic, TopicPartition};
use crate::base::time::Timestamp;
use crate::base::value::Text;

/// Headers in their order; a name may repeat and a value may be null. Cheap to clone, free when empty.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Headers(Option<Arc<[Header]>>);

/// One header of a record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Header {
    pub name: Text,
    pub value: Option<Bytes>,
}

impl Header {
    /// Makes a header of text.
    pub fn text(name: &str, value: impl Into<String>) -> Self {
        Self { name: Text::new(name), value: Some(Bytes::from(value.into())) }
    }
}

impl Headers {
    /// Takes headers in their order.
    pub fn new(headers: Vec<Header>) -> Self {
        if headers.is_empty() { Self(None) } else { Self(Some(headers.into())) }
    }

    /// Returns all headers in order.
    pub fn iter(&self) -> impl Iterator<Item = &Header> {
        self.0.iter().flat_map(|headers| headers.iter())
    }

    /// Returns the last header of this name, as Kafka's `Headers.lastHeader` does.
    pub fn last(&self, name: &str) -> Option<&Header> {
        self.0.as_ref()?.iter().rev().find(|header| header.name == name)
    }

    /// Returns the text of the last header of this name; none where there is none, or it is no text or empty.
    pub fn text(&self, name: &str) -> Option<&str> {
        let text = std::str::from_utf8(self.last(name)?.value.as_ref()?).ok();
        text.filter(|text| !text.is_empty())
    }

    /// Returns the bytes the headers occupy on the heap, roughly.
    pub fn size_bytes(&self) -> usize {
        self.iter()
            .map(|header| size_of::<Header>() + header.name.len() + header.value.as_ref().map_or(0, Bytes::len))
            .sum()
    }

    /// Tells whether there are none.
    pub fn is_empty(&self) -> bool {
        self.0.is_none()
    }
}

/// A record as read from a partition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    pub offset: Offset,
    pub timestamp: Timestamp,
    pub key: Option<Bytes>,
    /// Null is a tombstone.
    pub value: Option<Bytes>,
    pub headers: Headers,
}

impl Record {
    /// Returns the bytes the record occupies, roughly: what a bounded queue counts.
    pub fn size_bytes(&self) -> usize {
        let payload = self.key.as_ref().map_or(0, Bytes::len) + self.value.as_ref().map_or(0, Bytes::len);
        size_of::<Self>() + payload + self.headers.size_bytes()
    }
}

/// Bytes of one block of a [`Packer`].
const BLOCK_BYTES: usize = 64 * 1024;

/// Copies many small byte strings side by side into shared blocks, so that each of them costs no allocation. A block lives as
/// long as anything in it.
#[derive(Debug, Default)]
pub struct Packer {
    block: BytesMut,
}

impl Packer {
    /// Copies `bytes` in and returns them.
    pub fn pack(&mut self, bytes: &[u8]) -> Bytes {
        if self.block.capacity() < bytes.len() {
            self.block = BytesMut::with_capacity(BLOCK_BYTES.max(bytes.len()));
        }
        self.block.extend_from_slice(bytes);
        self.block.split().freeze()
    }
}

/// A record to be written. Its partition is always said: the caller knows the rule that decides it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outgoing {
    pub topic: Topic,
    pub partition: Partition,
    pub timestamp: Timestamp,
    pub key: Option<Bytes>,
    /// Null is a tombstone.
    pub value: Option<Bytes>,
    pub headers: Headers,
}

impl Outgoing {
    /// Returns the bytes the record occupies, roughly: what a bounded buffer counts.
    pub fn size_bytes(&self) -> usize {
        let payload = self.key.as_ref().map_or(0, Bytes::len) + self.value.as_ref().map_or(0, Bytes::len);
        size_of::<Self>() + payload + self.headers.size_bytes()
    }
}

/// What was written to a partition.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Written {
    pub partition: TopicPartition,
    /// The offset of the last record: where a changelog stands.
    pub last: Offset,
    pub records: u64,
}
