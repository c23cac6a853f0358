//! Composite keys: bytes whose order is the order of the tuples they stand for, and none of which is the beginning of another
//! of the same layout.
//!
//! ```text
//! bytes in the middle   each 0x00 as 0x00 0x01, then 0x00 0x00
//! i64                   8 bytes, big-endian, sign bit flipped
//! u64                   8 bytes, big-endian
//! bytes at the end      as they are
//!
//! windowed row          window start i64 ‖ key                    closing and expiry are range scans
//! timed row             key, escaped ‖ time i64                   "newest at or before T" is one step back from T; the rows of a
//!                                                                 key within a span are one range
//! history               key, escaped ‖ version u64
//! ```
//!
//! What a changelog key begins with, and a row at rest after its store's prefix, is a [`KeyKind`].

use crate::base::time::Timestamp;
use crate::store::Error;

/// The first byte of a changelog key. A value is never used again for something else.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeyKind {
    /// A row; its key follows.
    Row = 1,
    /// A row schema; its number follows as four bytes, big-endian.
    Schema = 2,
}

impl KeyKind {
    /// Returns the byte.
    pub const fn byte(self) -> u8 {
        self as u8
    }

    /// Splits a changelog key.
    ///
    /// # Errors
    /// [`Error::Corrupt`] for an empty key, [`Error::NewerFormat`] for a kind that is not known here.
    pub fn split(changelog_key: &[u8]) -> Result<(Self, &[u8]), Error> {
        match changelog_key.split_first() {
            Some((1, key)) => Ok((Self::Row, key)),
            Some((2, key)) => Ok((Self::Schema, key)),
            Some((found, _)) => {
                Err(Error::NewerFormat { what: "changelog key", found: *found, known: Self::Schema.byte() })
            }
            None => Err(Error::Corrupt { message: "a changelog key is empty".to_owned() }),
        }
    }
}

/// Appends bytes that more parts may follow.
pub fn push_bytes(key: &mut Vec<u8>, bytes: &[u8]) {
    for byte in bytes {
        key.push(*byte);
        if *byte == 0 {
            key.push(1);
        }
    }
    key.extend_from_slice(&[0, 0]);
}

/// Appends a signed number.
pub fn push_i64(key: &mut Vec<u8>, number: i64) {
    key.extend_from_slice(&((number as u64) ^ (1 << 63)).to_be_bytes());
}

/// Appends an unsigned number.
pub fn push_u64(key: &mut Vec<u8>, number: u64) {
    key.extend_from_slice(&number.to_be_bytes());
}

/// Takes a key apart, from the front.
#[derive(Clone, Copy, Debug)]
pub struct KeyReader<'a> {
    rest: &'a [u8],
}

impl<'a> KeyReader<'a> {
    /// Reads from the first byte on.
    pub fn new(key: &'a [u8]) -> Self {
        Self { rest: key }
    }

    /// Reads what [`push_bytes`] wrote.
    ///
    /// # Errors
    /// [`Error::Corrupt`] when it is not that.
    pub fn bytes(&mut self) -> Result<Vec<u8>, Error> {
        let mut bytes = Vec::with_capacity(self.rest.len());
        let mut rest = self.rest.iter();
        while let Some(byte) = rest.next() {
            match (byte, (*byte == 0).then(|| rest.next()).flatten()) {
                (0, Some(0)) => {
                    self.rest = rest.as_slice();
                    return Ok(bytes);
                }
                (0, Some(1)) => bytes.push(0),
                (0, _) => break,
                (other, _) => bytes.push(*other),
            }
        }
        Err(damaged())
    }

    /// Reads one byte.
    ///
    /// # Errors
    /// [`Error::Corrupt`] when none is left.
    pub fn byte(&mut self) -> Result<u8, Error> {
        let (byte, rest) = self.rest.split_first().ok_or_else(damaged)?;
        self.rest = rest;
        Ok(*byte)
    }

    /// Reads what [`push_i64`] wrote.
    ///
    /// # Errors
    /// [`Error::Corrupt`] when fewer than eight bytes are left.
    pub fn i64(&mut self) -> Result<i64, Error> {
        Ok((self.u64()? ^ (1 << 63)) as i64)
    }

    /// Reads what [`push_u64`] wrote.
    ///
    /// # Errors
    /// [`Error::Corrupt`] when fewer than eight bytes are left.
    pub fn u64(&mut self) -> Result<u64, Error> {
        let (number, rest) = self.rest.split_first_chunk::<8>().ok_or_else(damaged)?;
        self.rest = rest;
        Ok(u64::from_be_bytes(*number))
    }

    /// Returns the bytes that are left.
    pub fn rest(self) -> &'a [u8] {
        self.rest
    }

    /// Ends the reading.
    ///
    /// # Errors
    /// [`Error::Corrupt`] when bytes are left.
    pub fn finish(self) -> Result<(), Error> {
        if self.rest.is_empty() { Ok(()) } else { Err(damaged()) }
    }
}

fn damaged() -> Error {
    Error::Corrupt { message: "a composite key does not have the parts it should have".to_owned() }
}

/// Returns the key of a windowed row: `start ‖ key`.
pub fn windowed(start: Timestamp, key: &[u8]) -> Vec<u8> {
    let mut joined = Vec::with_capacity(8 + key.len());
    push_i64(&mut joined, start.0);
    joined.extend_from_slice(key);
    joined
}

/// Splits the key of a windowed row.
///
/// # Errors
/// [`Error::Corrupt`] when it is not one.
pub fn split_windowed(joined: &[u8]) -> Result<(Timestamp, &[u8]), Error> {
    let mut reader = KeyReader::new(joined);
    let start = Timestamp(reader.i64()?);
    Ok((start, reader.rest()))
}

/// Returns the key of one of a key's rows over time: a version of a table's row by when it is valid from, a session or a sliding
/// window by its start, `escaped key ‖ time`.
pub fn timed(key: &[u8], time: Timestamp) -> Vec<u8> {
    let mut joined = escaped(key, 8);
    push_i64(&mut joined, time.0);
    joined
}

/// Splits what [`timed`] joined.
///
/// # Errors
/// [`Error::Corrupt`] when it is not that.
pub fn split_timed(joined: &[u8]) -> Result<(Vec<u8>, Timestamp), Error> {
    let mut reader = KeyReader::new(joined);
    let parts = (reader.bytes()?, Timestamp(reader.i64()?));
    reader.finish()?;
    Ok(parts)
}

/// Returns the key of an entity's version: `escaped key ‖ version`.
pub fn history(key: &[u8], version: u64) -> Vec<u8> {
    let mut joined = escaped(key, 8);
    push_u64(&mut joined, version);
    joined
}

/// Splits the key of an entity's version.
///
/// # Errors
/// [`Error::Corrupt`] when it is not one.
pub fn split_history(joined: &[u8]) -> Result<(Vec<u8>, u64), Error> {
    let mut reader = KeyReader::new(joined);
    let parts = (reader.bytes()?, reader.u64()?);
    reader.finish()?;
    Ok(parts)
}

/// Returns the first bytes that all versions and timed rows of a key share: the key, escaped and ended.
pub fn key_prefix(key: &[u8]) -> Vec<u8> {
    escaped(key, 0)
}

/// Returns the end of the range of keys that begin with `prefix`; none when that range has no end.
pub fn prefix_end(prefix: &[u8]) -> Option<Vec<u8>> {
    let last = prefix.iter().rposition(|byte| *byte != u8::MAX)?;
    let mut end = prefix[..=last].to_vec();
    end[last] += 1;
    Some(end)
}

fn escaped(key: &[u8], more: usize) -> Vec<u8> {
    let mut joined = Vec::with_capacity(key.len() + 2 + more);
    push_bytes(&mut joined, key);
    joined
}

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::*;

    /// Short keys over few bytes, so that beginnings of one another and zeros are common.
    fn key() -> impl Strategy<Value = Vec<u8>> {
        vec(prop_oneof![Just(0_u8), Just(1), Just(2), Just(255), any::<u8>()], 0..5)
    }

    fn time() -> impl Strategy<Value = i64> {
        prop_oneof![Just(i64::MIN), Just(i64::MAX), -2..2_i64, any::<i64>()]
    }

    proptest! {
        #[test]
        fn the_order_of_keys_is_the_order_of_the_tuples(a in (key(), time()), b in (key(), time())) {
            let (one, two) = (Timestamp(a.1), Timestamp(b.1));
            prop_assert_eq!(timed(&a.0, one).cmp(&timed(&b.0, two)), (&a.0, a.1).cmp(&(&b.0, b.1)));
            prop_assert_eq!(windowed(one, &a.0).cmp(&windowed(two, &b.0)), (a.1, &a.0).cmp(&(b.1, &b.0)));
            let (v, w) = (a.1 as u64, b.1 as u64);
            prop_assert_eq!(history(&a.0, v).cmp(&history(&b.0, w)), (&a.0, v).cmp(&(&b.0, w)));
        }

        #[test]
        fn keys_come_apart_into_what_they_were_made_of(key in key(), time in time()) {
            let at = Timestamp(time);
            prop_assert_eq!(split_timed(&timed(&key, at)).unwrap(), (key.clone(), at));
            let in_window = windowed(at, &key);
            prop_assert_eq!(split_windowed(&in_window).unwrap(), (at, key.as_slice()));
            prop_assert_eq!(split_history(&history(&key, time as u64)).unwrap(), (key, time as u64));
        }

        #[test]
        fn no_escaped_key_begins_another(a in key(), b in key()) {
            prop_assert_eq!(key_prefix(&a).starts_with(&key_prefix(&b)), a == b);
        }

        #[test]
        fn garbage_is_refused_and_never_panics(bytes in vec(any::<u8>(), 0..24)) {
            if let Ok((key, at)) = split_timed(&bytes) {
                prop_assert_eq!(timed(&key, at), bytes);
            }
        }

        #[test]
        fn a_prefix_ends_where_its_last_key_ends(prefix in key(), tail in key(), other in key()) {
            let inside = [prefix.clone(), tail].concat();
            let end = prefix_end(&prefix);
            prop_assert!(end.as_ref().is_none_or(|end| inside < *end));
            let within = other >= prefix && end.is_none_or(|end| other < end);
            prop_assert_eq!(within, other.starts_with(&prefix));
        }
    }

    #[test]
    fn an_unknown_kind_is_a_newer_format() {
        assert!(matches!(KeyKind::split(&[3, 1]), Err(Error::NewerFormat { found: 3, .. })));
        assert!(matches!(KeyKind::split(&[]), Err(Error::Corrupt { .. })));
        assert_eq!(KeyKind::split(&[1, 7]).unwrap(), (KeyKind::Row, &[7][..]));
    }
}
