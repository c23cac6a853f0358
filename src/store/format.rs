//! Bytes at rest: rows, row schemas, and the facts beside them. `docs/formats.md`, "Task state", describes the same for readers
//! outside.
//!
//! ```text
//! row          format 1 ‖ timestamp i64 BE ‖ schema number, unsigned varint ‖ Avro datum
//!              schema number 0: no datum, a marker that carries only its time
//! row schema   format 1 ‖ fingerprint u64 BE ‖ schema text, UTF-8
//!
//! rows space   store prefix u32 BE ‖ changelog key ─► changelog value
//! facts space  "format"              ─► format 1 ‖ application id
//!              "next_prefix"         ─► u32 BE
//!              "store/" name         ─► prefix u32 BE ‖ flags ‖ [offset i64 BE] ‖ [durable at i64 BE] ‖ [topic id]
//!              "aside/" prefix u32 BE ─► reason ‖ 0 ‖ name
//!              "task"                ─► the task's meta, opaque here
//! ```
//!
//! Invariant: a format byte that is not known here is refused, never guessed at. A row schema's number never changes its meaning
//! within one changelog.

use std::cell::OnceCell;
use std::sync::Arc;

use crate::avro::{DecodePlan, Encoder, Incompatibility, Schema, carries};
use crate::base::ids::Offset;
use crate::base::time::Timestamp;
use crate::base::value::Value;
use crate::store::{Error, Row, SetAsideReason};

/// The format of everything that a task's state folder and its changelogs hold.
pub const STATE_FORMAT: u8 = 1;

pub(super) const META_FORMAT: &[u8] = b"format";
pub(super) const META_NEXT_PREFIX: &[u8] = b"next_prefix";
pub(super) const META_TASK: &[u8] = b"task";
pub(super) const META_STORE: &[u8] = b"store/";
pub(super) const META_ASIDE: &[u8] = b"aside/";

/// Format byte, timestamp: what stands before the schema number.
const ROW_HEAD_BYTES: usize = 9;

/// Turns rows into bytes and back, under the row schema of today and those that older rows were written with.
#[derive(Debug)]
pub(super) struct RowCodec {
    store: Arc<str>,
    schema: Schema,
    encoder: Encoder,
    known: Vec<KnownSchema>,
    /// The number of `schema`; assigned when the first row is encoded, after every restore.
    current: Option<u32>,
    announced: Announced,
}

/// How far the schema row of the current number has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Announced {
    /// Nobody has been told.
    No,
    /// It went to the changelog with the sealed generation.
    Sealed,
    /// It is in the changelog, not yet at rest here.
    Committed,
    AtRest,
}

#[derive(Debug)]
struct KnownSchema {
    number: u32,
    text: String,
    plan: OnceCell<DecodePlan>,
}

impl RowCodec {
    pub(super) fn new(store: &Arc<str>, schema: &Schema) -> Self {
        let encoder = Encoder::compile(schema);
        let (store, schema) = (Arc::clone(store), schema.clone());
        Self { store, schema, encoder, known: Vec::new(), current: None, announced: Announced::No }
    }

    /// Returns the number of fields of a row.
    pub(super) fn width(&self) -> usize {
        self.schema.fields().len()
    }

    /// Learns a schema row.
    pub(super) fn learn(&mut self, key: &[u8], value: &[u8]) -> Result<(), Error> {
        let number = read_u32(key).ok_or_else(|| damaged("the key of a row schema"))?;
        let text = schema_text(value)?;
        self.known.retain(|known| known.number != number);
        self.known.push(KnownSchema { number, text: text.to_owned(), plan: OnceCell::new() });
        (self.current, self.announced) = (None, Announced::No);
        Ok(())
    }

    /// Forgets all numbers: the store is empty again.
    pub(super) fn forget(&mut self) {
        self.known.clear();
        (self.current, self.announced) = (None, Announced::No);
    }

    /// Returns the number under which rows are written from now on, finding or assigning it.
    fn number(&mut self) -> u32 {
        if let Some(number) = self.current {
            return number;
        }
        // By text: the fingerprint does not see defaults and logical types, on which reading old rows depends.
        let known = self.known.iter().filter(|known| known.text == self.schema.text()).map(|known| known.number).max();
        let number = known.unwrap_or_else(|| {
            let number = self.known.iter().map(|known| known.number).max().unwrap_or(0) + 1;
            let text = self.schema.text().to_owned();
            self.known.push(KnownSchema { number, text, plan: OnceCell::new() });
            number
        });
        self.announced = if known.is_some() { Announced::AtRest } else { Announced::No };
        self.current = Some(number);
        number
    }

    /// Returns the schema row to tell about before the next row, if there is one: key and value.
    pub(super) fn unannounced(&self) -> Option<([u8; 4], Vec<u8>)> {
        let number = self.current.filter(|_| self.announced == Announced::No)?;
        Some(self.schema_row(number))
    }

    /// Returns the schema row that is committed but not at rest, if there is one.
    pub(super) fn unwritten(&self) -> Option<([u8; 4], Vec<u8>)> {
        let number = self.current.filter(|_| self.announced == Announced::Committed)?;
        Some(self.schema_row(number))
    }

    pub(super) fn announce(&mut self, from: Announced, to: Announced) {
        if self.announced == from {
            self.announced = to;
        }
    }

    /// Forgets a number that nobody has been told of: a restore may bring another meaning of it.
    pub(super) fn withdraw(&mut self) {
        if self.announced == Announced::No
            && let Some(number) = self.current.take()
        {
            self.known.retain(|known| known.number != number);
        }
    }

    fn schema_row(&self, number: u32) -> ([u8; 4], Vec<u8>) {
        let mut value = vec![STATE_FORMAT];
        value.extend_from_slice(&self.schema.fingerprint().to_be_bytes());
        value.extend_from_slice(self.schema.text().as_bytes());
        (number.to_be_bytes(), value)
    }

    /// Appends a row's bytes.
    pub(super) fn encode(&mut self, row: &Row, out: &mut Vec<u8>) -> Result<(), Error> {
        out.push(STATE_FORMAT);
        out.extend_from_slice(&row.timestamp.0.to_be_bytes());
        if row.fields.is_empty() {
            out.push(0);
            return Ok(());
        }
        push_varint(out, self.number());
        self.encoder
            .encode(&row.fields, out)
            .map_err(|error| Error::RowInvalid { store: Arc::clone(&self.store), source: Box::new(error) })
    }

    /// Reads a row's bytes, in whatever known schema they were written.
    pub(super) fn decode(&self, bytes: &[u8]) -> Result<Row, Error> {
        let (timestamp, number, datum) = split_row(bytes)?;
        if number == 0 {
            return Ok(Row { timestamp, fields: Arc::from([]) });
        }
        let plan = self.plan(number)?;
        let mut fields: Arc<[Value]> = std::iter::repeat_n(Value::Null, self.width()).collect();
        let slots = Arc::get_mut(&mut fields).expect("just made, so there is one owner");
        plan.decode(datum, slots).map_err(|error| Error::Corrupt {
            message: format!("a row of store `{}` (schema number {number}): {error}", self.store),
        })?;
        Ok(Row { timestamp, fields })
    }

    fn plan(&self, number: u32) -> Result<&DecodePlan, Error> {
        let known = self.known.iter().rev().find(|known| known.number == number).ok_or_else(|| Error::Corrupt {
            message: format!("store `{}` has a row with schema number {number}, which is not known", self.store),
        })?;
        if let Some(plan) = known.plan.get() {
            return Ok(plan);
        }
        let then = Schema::parse(&known.text).map_err(|error| self.unreadable_schema(number, &error.to_string()))?;
        let plan = DecodePlan::of_rows(&then, &self.schema)
            .map_err(|error| self.unreadable_schema(number, &error.to_string()))?;
        Ok(known.plan.get_or_init(|| plan))
    }

    fn unreadable_schema(&self, number: u32, message: &str) -> Error {
        let problems = vec![Incompatibility { path: String::new(), message: message.to_owned() }];
        Error::RowUnreadable { store: Arc::clone(&self.store), number, problems }
    }

    /// Returns, for each known schema whose rows cannot all be taken over, the error that such a row is.
    pub(super) fn unreadable(&self) -> Vec<(u32, Error)> {
        let mut found = Vec::new();
        for KnownSchema { number, text, .. } in self.known.iter().filter(|known| known.text != self.schema.text()) {
            let problems = match Schema::parse(text) {
                Ok(then) => carries(&self.schema, &then),
                Err(error) => vec![Incompatibility { path: String::new(), message: error.to_string() }],
            };
            if !problems.is_empty() {
                found.push((
                    *number,
                    Error::RowUnreadable { store: Arc::clone(&self.store), number: *number, problems },
                ));
            }
        }
        found
    }
}

/// Returns the text of a row schema.
pub(super) fn schema_text(value: &[u8]) -> Result<&str, Error> {
    let text = match value.split_first() {
        Some((&STATE_FORMAT, rest)) => rest.get(8..).ok_or_else(|| damaged("a row schema"))?,
        Some((&found, _)) => return Err(newer("row schema", found)),
        None => return Err(damaged("a row schema")),
    };
    std::str::from_utf8(text).map_err(|_| damaged("a row schema's text"))
}

/// Takes a row's bytes apart: time, schema number, datum.
///
/// # Errors
/// [`Error::NewerFormat`] for an unknown format byte, [`Error::Corrupt`] for anything else that is no row.
pub fn split_row(bytes: &[u8]) -> Result<(Timestamp, u32, &[u8]), Error> {
    match bytes.first() {
        Some(&STATE_FORMAT) => {}
        Some(&found) => return Err(newer("row", found)),
        None => return Err(damaged("an empty row")),
    }
    let (head, mut rest) = bytes.split_at_checked(ROW_HEAD_BYTES).ok_or_else(|| damaged("a row's head"))?;
    let time = head[1..].first_chunk::<8>().map_or(0, |bytes| i64::from_be_bytes(*bytes));
    let number = take_varint(&mut rest).ok_or_else(|| damaged("a row's schema number"))?;
    Ok((Timestamp(time), number, rest))
}

/// What is kept about a store beside its rows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct StoreFacts {
    pub(super) prefix: u32,
    pub(super) offset: Option<Offset>,
    pub(super) durable_at: Option<Timestamp>,
    pub(super) topic_id: Option<String>,
}

const HAS_OFFSET: u8 = 1;
const HAS_DURABLE: u8 = 2;
const HAS_TOPIC_ID: u8 = 4;

impl StoreFacts {
    pub(super) fn encode(&self) -> Vec<u8> {
        let mut out = self.prefix.to_be_bytes().to_vec();
        let flag = |present: bool, bit: u8| if present { bit } else { 0 };
        out.push(
            flag(self.offset.is_some(), HAS_OFFSET)
                | flag(self.durable_at.is_some(), HAS_DURABLE)
                | flag(self.topic_id.is_some(), HAS_TOPIC_ID),
        );
        if let Some(offset) = self.offset {
            out.extend_from_slice(&offset.0.to_be_bytes());
        }
        if let Some(durable) = self.durable_at {
            out.extend_from_slice(&durable.0.to_be_bytes());
        }
        if let Some(topic_id) = &self.topic_id {
            out.extend_from_slice(topic_id.as_bytes());
        }
        out
    }

    pub(super) fn decode(bytes: &[u8]) -> Result<Self, Error> {
        let wrong = || damaged("what is kept about a store");
        let (prefix, rest) = bytes.split_first_chunk::<4>().ok_or_else(wrong)?;
        let (&flags, mut rest) = rest.split_first().ok_or_else(wrong)?;
        if flags > (HAS_OFFSET | HAS_DURABLE | HAS_TOPIC_ID) {
            return Err(wrong());
        }
        let mut number = |bit: u8| -> Result<Option<i64>, Error> {
            if flags & bit == 0 {
                return Ok(None);
            }
            let (number, after) = rest.split_first_chunk::<8>().ok_or_else(wrong)?;
            rest = after;
            Ok(Some(i64::from_be_bytes(*number)))
        };
        let offset = number(HAS_OFFSET)?.map(Offset);
        let durable_at = number(HAS_DURABLE)?.map(Timestamp);
        let topic_id = if flags & HAS_TOPIC_ID == 0 {
            rest.is_empty().then_some(None).ok_or_else(wrong)?
        } else {
            Some(std::str::from_utf8(rest).map_err(|_| wrong())?.to_owned())
        };
        Ok(Self { prefix: u32::from_be_bytes(*prefix), offset, durable_at, topic_id })
    }
}

/// Returns the stamp of a state folder.
pub(super) fn stamp(application_id: &str) -> Vec<u8> {
    let mut stamp = vec![STATE_FORMAT];
    stamp.extend_from_slice(application_id.as_bytes());
    stamp
}

/// Tells whether a state folder's stamp is ours.
pub(super) fn check_stamp(stamp: &[u8], application_id: &str) -> Result<(), Error> {
    match stamp.split_first() {
        Some((&STATE_FORMAT, found)) if found == application_id.as_bytes() => Ok(()),
        Some((&STATE_FORMAT, found)) => Err(Error::OtherApplication {
            found: String::from_utf8_lossy(found).into_owned(),
            expected: application_id.to_owned(),
        }),
        Some((&0, _)) | None => Err(damaged("the stamp of the state folder")),
        Some((&found, _)) => Err(newer("state folder", found)),
    }
}

pub(super) fn store_key(name: &str) -> Vec<u8> {
    [META_STORE, name.as_bytes()].concat()
}

pub(super) fn aside_key(prefix: u32) -> Vec<u8> {
    [META_ASIDE, &prefix.to_be_bytes()].concat()
}

pub(super) fn aside_value(reason: SetAsideReason, name: &str) -> Vec<u8> {
    [reason.as_str().as_bytes(), b"\0", name.as_bytes()].concat()
}

/// Splits what is kept about rows that were set aside: reason and the store's name.
pub(super) fn split_aside(value: &[u8]) -> Option<(&str, &str)> {
    std::str::from_utf8(value).ok()?.split_once('\0')
}

pub(super) fn read_u32(bytes: &[u8]) -> Option<u32> {
    <[u8; 4]>::try_from(bytes).ok().map(u32::from_be_bytes)
}

fn push_varint(out: &mut Vec<u8>, mut number: u32) {
    while number >= 0x80 {
        out.push((number as u8) | 0x80);
        number >>= 7;
    }
    out.push(number as u8);
}

fn take_varint(bytes: &mut &[u8]) -> Option<u32> {
    let mut number = 0_u32;
    for shift in (0..35).step_by(7) {
        let (byte, rest) = bytes.split_first()?;
        *bytes = rest;
        let part = u32::from(byte & 0x7f);
        if shift == 28 && part > 0xf {
            return None;
        }
        number |= part << shift;
        if byte & 0x80 == 0 {
            return Some(number);
        }
    }
    None
}

fn damaged(what: &str) -> Error {
    Error::Corrupt { message: format!("{what} cannot be read") }
}

fn newer(what: &'static str, found: u8) -> Error {
    Error::NewerFormat { what, found, known: STATE_FORMAT }
}

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::option;
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn varints_read_back_and_garbage_is_refused(number in any::<u32>(), bytes in vec(any::<u8>(), 0..8)) {
            let mut out = Vec::new();
            push_varint(&mut out, number);
            let mut rest = out.as_slice();
            prop_assert_eq!(take_varint(&mut rest), Some(number));
            prop_assert!(rest.is_empty());
            if let Some(read) = take_varint(&mut bytes.as_slice()) {
                prop_assert!(read < 0x80 || bytes.len() > 1);
            }
        }

        #[test]
        fn facts_about_a_store_read_back(
            prefix in any::<u32>(),
            offset in option::of(any::<i64>()),
            durable in option::of(any::<i64>()),
            topic_id in option::of("[a-zA-Z0-9_-]{0,22}"),
        ) {
            let facts =
                StoreFacts { prefix, offset: offset.map(Offset), durable_at: durable.map(Timestamp), topic_id };
            prop_assert_eq!(StoreFacts::decode(&facts.encode()).unwrap(), facts);
        }

        #[test]
        fn reading_garbage_never_panics(bytes in vec(any::<u8>(), 0..40)) {
            let facts = StoreFacts::decode(&bytes);
            prop_assert!(facts.is_err() || bytes.len() >= 5);
            let row = split_row(&bytes);
            prop_assert!(row.is_err() || bytes[0] == STATE_FORMAT);
        }
    }

    #[test]
    fn a_newer_stamp_and_a_foreign_one_are_told_apart() {
        assert!(check_stamp(&stamp("orders"), "orders").is_ok());
        assert!(matches!(check_stamp(&stamp("orders"), "flights"), Err(Error::OtherApplication { .. })));
        assert!(matches!(check_stamp(b"\x02what ever", "orders"), Err(Error::NewerFormat { found: 2, known: 1, .. })));
        assert!(matches!(check_stamp(b"", "orders"), Err(Error::Corrupt { .. })));
    }
}
