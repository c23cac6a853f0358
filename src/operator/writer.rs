//! Encodes rows for topics: Avro in a registry frame, JSON or a bare value for topics that others read; Avro's single-object
//! encoding for our own repartition topics, which need no registry.

use serde_json::{Map, Value as Json};

use crate::avro::{Encoder, Schema, frame, to_json};
use crate::base::ids::SchemaId;
use crate::base::value::Value;
use crate::operator::scalar::scalar_bytes;
use crate::operator::{DropReason, Error, key_value};
use crate::plan::{KeyFormat, ValueFormat, Writer};

/// The two bytes that begin Avro's single-object encoding (Avro specification, "Single-object encoding").
pub const SINGLE_OBJECT_MARKER: [u8; 2] = [0xC3, 0x01];

/// Writes rows of one layout to one topic.
#[derive(Debug)]
pub struct RowWriter {
    encoding: Encoding,
    /// Slot of each of the schema's fields.
    slots: Vec<usize>,
    /// The first slots are the schema's fields in order.
    in_order: bool,
}

#[derive(Debug)]
enum Encoding {
    Avro {
        prefix: Vec<u8>,
        encoder: Encoder,
    },
    Json(Schema),
    /// The one field's value.
    Scalar(ValueFormat),
}

impl RowWriter {
    /// Prepares a writer; `id` is the schema's id in the registry, none for a repartition topic.
    pub fn new(writer: &Writer, id: Option<SchemaId>) -> Self {
        let encoding = match writer.format {
            ValueFormat::Avro => {
                let mut prefix = Vec::new();
                match id {
                    Some(id) => frame::write(id, &mut prefix),
                    None => {
                        prefix.extend_from_slice(&SINGLE_OBJECT_MARKER);
                        prefix.extend_from_slice(&writer.schema.fingerprint().to_le_bytes());
                    }
                }
                Encoding::Avro { prefix, encoder: Encoder::compile(&writer.schema) }
            }
            ValueFormat::Json => Encoding::Json(writer.schema.clone()),
            format @ (ValueFormat::String
            | ValueFormat::Long
            | ValueFormat::Int
            | ValueFormat::Double
            | ValueFormat::Bytes) => Encoding::Scalar(format),
        };
        let in_order = writer.slots.iter().enumerate().all(|(index, slot)| index == *slot);
        Self { encoding, slots: writer.slots.clone(), in_order }
    }

    /// Encodes a row into `buffer`, in place of what is there.
    ///
    /// # Errors
    /// A value that the schema does not take.
    pub fn encode(&self, slots: &[Value], buffer: &mut Vec<u8>) -> Result<(), Error> {
        buffer.clear();
        match &self.encoding {
            Encoding::Avro { prefix, encoder } => {
                buffer.extend_from_slice(prefix);
                let encoded = if self.in_order {
                    encoder.encode(&slots[..self.slots.len()], buffer)
                } else {
                    let fields: Vec<Value> = self.slots.iter().map(|slot| slots[*slot].clone()).collect();
                    encoder.encode(&fields, buffer)
                };
                encoded.map_err(|error| unwritable(error.to_string()))
            }
            Encoding::Json(schema) => self.encode_json(schema, slots, buffer),
            Encoding::Scalar(format) => {
                let value = self.slots.first().and_then(|slot| slots.get(*slot)).unwrap_or(&Value::Null);
                scalar_bytes(*format, value, buffer).map_err(unwritable)
            }
        }
    }

    fn encode_json(&self, schema: &Schema, slots: &[Value], buffer: &mut Vec<u8>) -> Result<(), Error> {
        let mut object = Map::new();
        for (field, slot) in schema.fields().iter().zip(&self.slots) {
            let value = &slots[*slot];
            if value.is_null() && !field.field_type.allows_null() {
                return Err(unwritable(format!("`{}` is null, which its type is not", field.name)));
            }
            object.insert(field.name.to_string(), to_json(value, &field.field_type));
        }
        serde_json::to_writer(buffer, &Json::Object(object)).map_err(|error| unwritable(error.to_string()))
    }
}

fn unwritable(message: String) -> Error {
    Error::Produce { reason: DropReason::Produce, message }
}

/// Writes keys as Avro in a registry's frame.
#[derive(Debug)]
pub struct KeyWriter {
    prefix: Vec<u8>,
    encoder: Encoder,
    format: KeyFormat,
}

impl KeyWriter {
    /// Prepares a writer for bare keys of this format; `id` is the schema's id in the registry.
    ///
    /// # Errors
    /// A schema that cannot be read: a bug.
    pub fn new(format: &KeyFormat, id: SchemaId) -> Result<Self, crate::avro::SchemaError> {
        let mut prefix = Vec::new();
        frame::write(id, &mut prefix);
        Ok(Self { prefix, encoder: Encoder::compile(&Schema::parse(format.schema_text())?), format: format.clone() })
    }

    /// Encodes a bare key.
    ///
    /// # Errors
    /// Bytes that are not what the format says.
    pub fn encode(&self, key: &[u8]) -> Result<Vec<u8>, Error> {
        let value = key_value(Some(key), &self.format)?;
        let mut bytes = self.prefix.clone();
        self.encoder.encode_value(&value, &mut bytes).map_err(|error| unwritable(error.to_string()))?;
        Ok(bytes)
    }
}
