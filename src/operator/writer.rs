//! Encodes rows for topics: in a registry frame for topics that others read, in Avro's single-object encoding for our own
//! repartition topics, which need no registry.

use crate::avro::{Encoder, frame};
use crate::base::ids::SchemaId;
use crate::base::value::Value;
use crate::operator::Error;
use crate::plan::Writer;

/// The two bytes that begin Avro's single-object encoding (Avro specification, "Single-object encoding").
pub const SINGLE_OBJECT_MARKER: [u8; 2] = [0xC3, 0x01];

/// Writes rows of one layout to one topic.
#[derive(Debug)]
pub struct RowWriter {
    prefix: Vec<u8>,
    encoder: Encoder,
    /// Slot of each of the schema's fields.
    slots: Vec<usize>,
    /// The first slots are the schema's fields in order.
    in_order: bool,
}

impl RowWriter {
    /// Prepares a writer; `id` is the schema's id in the registry, none for a repartition topic.
    pub fn new(writer: &Writer, id: Option<SchemaId>) -> Self {
        let mut prefix = Vec::new();
        match id {
            Some(id) => frame::write(id, &mut prefix),
            None => {
                prefix.extend_from_slice(&SINGLE_OBJECT_MARKER);
                prefix.extend_from_slice(&writer.schema.fingerprint().to_le_bytes());
            }
        }
        let in_order = writer.slots.iter().enumerate().all(|(index, slot)| index == *slot);
        Self { prefix, encoder: Encoder::compile(&writer.schema), slots: writer.slots.clone(), in_order }
    }

    /// Encodes a row into `buffer`, in place of what is there.
    ///
    /// # Errors
    /// A value that the schema does not take, as an error of the record.
    pub fn encode(&self, slots: &[Value], buffer: &mut Vec<u8>) -> Result<(), Error> {
        buffer.clear();
        buffer.extend_from_slice(&self.prefix);
        let encoded = if self.in_order {
            self.encoder.encode(&slots[..self.slots.len()], buffer)
        } else {
            let fields: Vec<Value> = self.slots.iter().map(|slot| slots[*slot].clone()).collect();
            self.encoder.encode(&fields, buffer)
        };
        encoded.map_err(|error| Error::Record { message: error.to_string() })
    }
}
