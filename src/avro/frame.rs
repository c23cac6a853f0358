//! Which schema a datum was written with: the registry frame in front of it, or a record header.
//!
//! ```text
//! value  ┌──────┬────────────────────────┬─────────────┐
//!        │ 0x00 │ schema id, 4 bytes, BE │ Avro datum  │
//!        └──────┴────────────────────────┴─────────────┘
//! header ┌──────┬────────────────────────┐   named `__value_schema_id` or `__key_schema_id`;
//!        │ 0x01 │ GUID, 16 bytes         │   the value is then the bare datum
//!        └──────┴────────────────────────┘
//! ```
//!
//! A reader looks for the header first, then for the frame, as the Confluent deserialiser does from version 8 on.

use thiserror::Error;

use crate::base::ids::SchemaId;
use crate::error::{Code, Kind, codes};

/// The header that names a value's schema by GUID.
pub const VALUE_SCHEMA_HEADER: &str = "__value_schema_id";

/// The header that names a key's schema by GUID.
pub const KEY_SCHEMA_HEADER: &str = "__key_schema_id";

const FRAME_MAGIC: u8 = 0x00;
const GUID_MAGIC: u8 = 0x01;

/// Why bytes have no registry frame.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum FrameError {
    #[error("{count} bytes are too few for a registry frame of 5")]
    Short { count: usize },
    #[error("a registry frame begins with byte 0x00, these bytes with 0x{first:02x}")]
    Magic { first: u8 },
}

impl FrameError {
    /// One record is wrong, not the program.
    pub fn kind(&self) -> Kind {
        Kind::Record
    }

    /// The page that explains it.
    pub fn code(&self) -> Code {
        codes::DATUM_UNREADABLE
    }
}

/// Splits a framed value into the schema's id and the datum.
///
/// # Errors
/// The bytes do not begin with a frame.
pub fn split(bytes: &[u8]) -> Result<(SchemaId, &[u8]), FrameError> {
    match bytes {
        [first, ..] if *first != FRAME_MAGIC => Err(FrameError::Magic { first: *first }),
        [_, a, b, c, d, datum @ ..] => Ok((SchemaId(u32::from_be_bytes([*a, *b, *c, *d])), datum)),
        _ => Err(FrameError::Short { count: bytes.len() }),
    }
}

/// Appends a frame; the datum follows.
pub fn write(id: SchemaId, out: &mut Vec<u8>) {
    out.push(FRAME_MAGIC);
    out.extend_from_slice(&id.0.to_be_bytes());
}

/// Returns the GUID in the value of a schema header; none when it is not of that form.
pub fn split_guid(header_bytes: &[u8]) -> Option<[u8; 16]> {
    let (magic, guid) = header_bytes.split_first()?;
    if *magic == GUID_MAGIC { guid.try_into().ok() } else { None }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_frame_is_written_and_split_alike() {
        let mut bytes = Vec::new();
        write(SchemaId(0x0102_0304), &mut bytes);
        bytes.extend_from_slice(b"datum");
        assert_eq!(bytes, *b"\x00\x01\x02\x03\x04datum");
        assert_eq!(split(&bytes), Ok((SchemaId(0x0102_0304), b"datum".as_slice())));
        assert_eq!(split(&bytes[..5]), Ok((SchemaId(0x0102_0304), b"".as_slice())));
    }

    #[test]
    fn bytes_without_a_frame_are_refused() {
        assert_eq!(split(b""), Err(FrameError::Short { count: 0 }));
        assert_eq!(split(b"\x00\x00\x00\x01"), Err(FrameError::Short { count: 4 }));
        assert_eq!(split(b"{\"a\":1}"), Err(FrameError::Magic { first: b'{' }));
    }

    #[test]
    fn a_header_holds_a_guid_after_its_magic() {
        let mut header = vec![1];
        header.extend(0..16);
        assert_eq!(split_guid(&header), Some(std::array::from_fn(|index| index as u8)));
        assert_eq!(split_guid(&header[..16]), None);
        header[0] = 0;
        assert_eq!(split_guid(&header), None);
        assert_eq!(split_guid(&[]), None);
    }
}
