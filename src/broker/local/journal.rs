//! The journal: every decision of the broker that is not a record. A transaction is committed once its entry is here.
//!
//! Format: `docs/formats.md`, "Local broker". Invariant: an entry counts when it is whole; a torn one at the end was never
//! acknowledged and is cut off. What follows from the entries is decided in `recovery`.

use std::collections::BTreeMap;

use crate::base::ids::{Offset, Topic, TopicPartition};

/// Bytes before the first entry.
pub(super) const JOURNAL_HEADER_BYTES: usize = 24;
const MAGIC: [u8; 8] = *b"TIDEJNL\0";
const VERSION: u32 = 1;
const FRAME_BYTES: usize = 8;

type Offsets = Vec<(TopicPartition, Offset)>;

/// One decision.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Entry {
    TopicCreated {
        incarnation: u64,
        topic: Topic,
        partitions: u32,
        configs: BTreeMap<String, String>,
    },
    TopicDeleted {
        topic: Topic,
    },
    /// The topic has this many partitions from here on.
    PartitionsAdded {
        topic: Topic,
        total: u32,
    },
    /// Everything before these offsets is gone.
    RecordsDeleted {
        lows: Offsets,
    },
    /// The transaction's records are visible, and the offsets committed.
    TransactionCommitted {
        transaction: u64,
        offsets: Option<(String, Offsets)>,
    },
    OffsetsCommitted {
        group_id: String,
        offsets: Offsets,
    },
    GroupDeleted {
        group_id: String,
    },
    /// Numbers up to these were given out.
    Numbers {
        incarnation: u64,
        transaction: u64,
    },
}

/// Makes a journal's first bytes.
pub(super) fn header(broker_id: u64) -> [u8; JOURNAL_HEADER_BYTES] {
    let mut header = [0; JOURNAL_HEADER_BYTES];
    header[..8].copy_from_slice(&MAGIC);
    header[8..12].copy_from_slice(&VERSION.to_le_bytes());
    header[16..].copy_from_slice(&broker_id.to_le_bytes());
    header
}

/// Reads the broker's id from a journal's first bytes; none when it is another format.
pub(super) fn read_header(bytes: &[u8]) -> Option<u64> {
    let bytes = bytes.get(..JOURNAL_HEADER_BYTES)?;
    let broker_id = u64::from_le_bytes(bytes[16..].try_into().ok()?);
    (bytes == header(broker_id)).then_some(broker_id)
}

/// Reads the entries behind the header.
///
/// # Errors
/// The place of an entry that is damaged although others follow it.
pub(super) fn read(bytes: &[u8]) -> Result<Vec<Entry>, usize> {
    let (mut entries, mut at) = (Vec::new(), JOURNAL_HEADER_BYTES);
    while at < bytes.len() {
        let rest = &bytes[at..];
        let Some(length) = Reader(rest).u32() else { break };
        let end = FRAME_BYTES + length as usize;
        let Some(frame) = rest.get(FRAME_BYTES..end) else { break };
        let checksum = Reader(&rest[4..]).u32();
        let entry = if checksum == Some(crc32fast::hash(frame)) { Reader(frame).entry() } else { None };
        match entry {
            Some(entry) => entries.push(entry),
            None if end == rest.len() || rest.iter().all(|byte| *byte == 0) => break,
            None => return Err(at),
        }
        at += end;
    }
    Ok(entries)
}

/// Appends an entry with its length and checksum.
pub(super) fn write(entry: &Entry, out: &mut Vec<u8>) {
    let start = out.len();
    out.extend_from_slice(&[0; FRAME_BYTES]);
    write_entry(entry, out);
    let length = (out.len() - start - FRAME_BYTES) as u32;
    let checksum = crc32fast::hash(&out[start + FRAME_BYTES..]);
    out[start..start + 4].copy_from_slice(&length.to_le_bytes());
    out[start + 4..start + 8].copy_from_slice(&checksum.to_le_bytes());
}

fn write_entry(entry: &Entry, out: &mut Vec<u8>) {
    match entry {
        Entry::TopicCreated { incarnation, topic, partitions, configs } => {
            out.push(1);
            put_u64(out, *incarnation);
            put_text(out, topic.as_str());
            put_u32(out, *partitions);
            put_u32(out, configs.len() as u32);
            for (name, value) in configs {
                put_text(out, name);
                put_text(out, value);
            }
        }
        Entry::TopicDeleted { topic } => {
            out.push(2);
            put_text(out, topic.as_str());
        }
        Entry::RecordsDeleted { lows } => {
            out.push(3);
            put_offsets(out, lows);
        }
        Entry::TransactionCommitted { transaction, offsets } => {
            out.push(4);
            put_u64(out, *transaction);
            out.push(u8::from(offsets.is_some()));
            if let Some((group_id, offsets)) = offsets {
                put_text(out, group_id);
                put_offsets(out, offsets);
            }
        }
        Entry::OffsetsCommitted { group_id, offsets } => {
            out.push(5);
            put_text(out, group_id);
            put_offsets(out, offsets);
        }
        Entry::GroupDeleted { group_id } => {
            out.push(6);
            put_text(out, group_id);
        }
        Entry::Numbers { incarnation, transaction } => {
            out.push(7);
            put_u64(out, *incarnation);
            put_u64(out, *transaction);
        }
        Entry::PartitionsAdded { topic, total } => {
            out.push(8);
            put_text(out, topic.as_str());
            put_u32(out, *total);
        }
    }
}

fn put_u32(out: &mut Vec<u8>, number: u32) {
    out.extend_from_slice(&number.to_le_bytes());
}

fn put_u64(out: &mut Vec<u8>, number: u64) {
    out.extend_from_slice(&number.to_le_bytes());
}

fn put_text(out: &mut Vec<u8>, text: &str) {
    put_u32(out, text.len() as u32);
    out.extend_from_slice(text.as_bytes());
}

fn put_offsets(out: &mut Vec<u8>, offsets: &Offsets) {
    put_u32(out, offsets.len() as u32);
    for (place, offset) in offsets {
        put_text(out, place.topic.as_str());
        put_u32(out, place.partition.0 as u32);
        put_u64(out, offset.0 as u64);
    }
}

struct Reader<'a>(&'a [u8]);

impl Reader<'_> {
    fn entry(&mut self) -> Option<Entry> {
        let entry = match self.u8()? {
            1 => Entry::TopicCreated {
                incarnation: self.u64()?,
                topic: Topic::new(self.text()?),
                partitions: self.u32()?,
                configs: self.configs()?,
            },
            2 => Entry::TopicDeleted { topic: Topic::new(self.text()?) },
            3 => Entry::RecordsDeleted { lows: self.offsets()? },
            4 => Entry::TransactionCommitted {
                transaction: self.u64()?,
                offsets: if self.u8()? == 0 { None } else { Some((self.text()?, self.offsets()?)) },
            },
            5 => Entry::OffsetsCommitted { group_id: self.text()?, offsets: self.offsets()? },
            6 => Entry::GroupDeleted { group_id: self.text()? },
            7 => Entry::Numbers { incarnation: self.u64()?, transaction: self.u64()? },
            8 => Entry::PartitionsAdded { topic: Topic::new(self.text()?), total: self.u32()? },
            _ => return None,
        };
        self.0.is_empty().then_some(entry)
    }

    fn take<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (taken, rest) = self.0.split_first_chunk::<N>()?;
        self.0 = rest;
        Some(*taken)
    }

    fn u8(&mut self) -> Option<u8> {
        self.take::<1>().map(|[byte]| byte)
    }

    fn u32(&mut self) -> Option<u32> {
        self.take().map(u32::from_le_bytes)
    }

    fn u64(&mut self) -> Option<u64> {
        self.take().map(u64::from_le_bytes)
    }

    fn text(&mut self) -> Option<String> {
        let length = self.u32()? as usize;
        let (text, rest) = self.0.split_at_checked(length)?;
        self.0 = rest;
        String::from_utf8(text.to_vec()).ok()
    }

    fn configs(&mut self) -> Option<BTreeMap<String, String>> {
        (0..self.u32()?).map(|_| Some((self.text()?, self.text()?))).collect()
    }

    fn offsets(&mut self) -> Option<Offsets> {
        let one = |reader: &mut Self| {
            let topic = reader.text()?;
            let place = TopicPartition::new(topic.as_str(), reader.u32()? as i32);
            Some((place, Offset(reader.u64()? as i64)))
        };
        (0..self.u32()?).map(|_| one(self)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entries() -> Vec<Entry> {
        let offsets = vec![(TopicPartition::new("in", 3), Offset(42)), (TopicPartition::new("in", 0), Offset(0))];
        let configs = BTreeMap::from([("cleanup.policy".to_owned(), "compact".to_owned())]);
        vec![
            Entry::TopicCreated { incarnation: 1, topic: Topic::from("in"), partitions: 4, configs },
            Entry::TransactionCommitted { transaction: 9, offsets: Some(("group".to_owned(), offsets.clone())) },
            Entry::TransactionCommitted { transaction: 10, offsets: None },
            Entry::OffsetsCommitted { group_id: "ä".to_owned(), offsets: offsets.clone() },
            Entry::RecordsDeleted { lows: offsets },
            Entry::GroupDeleted { group_id: "group".to_owned() },
            Entry::TopicDeleted { topic: Topic::from("in") },
            Entry::Numbers { incarnation: 7, transaction: 11 },
        ]
    }

    fn written() -> Vec<u8> {
        let mut bytes = header(5).to_vec();
        entries().iter().for_each(|entry| write(entry, &mut bytes));
        bytes
    }

    #[test]
    fn entries_come_back_as_they_were_written() {
        assert_eq!(read(&written()), Ok(entries()));
        assert_eq!(read_header(&written()), Some(5));
    }

    #[test]
    fn a_journal_cut_anywhere_keeps_its_whole_entries() {
        let bytes = written();
        let mut before = 0;
        for length in JOURNAL_HEADER_BYTES..=bytes.len() {
            let read = read(&bytes[..length]).unwrap();
            assert_eq!(read, entries()[..read.len()]);
            assert!(read.len() >= before);
            before = read.len();
        }
        assert_eq!(before, entries().len());
    }

    #[test]
    fn a_damaged_entry_before_whole_ones_is_an_error() {
        let mut bytes = written();
        bytes[JOURNAL_HEADER_BYTES + FRAME_BYTES + 3] ^= 1;
        assert_eq!(read(&bytes).err(), Some(JOURNAL_HEADER_BYTES));
    }
}
