//! Values of one schema as bare datums: what keys that are records are inside, where a registry's frame is no part of them.
//!
//! Invariant: equal values have equal bytes, whichever schema they were written under first, and no value's bytes begin with those of
//! another: a datum of a known schema says itself where it ends.

use std::sync::Arc;

use crate::avro::{DecodeError, DecodePlan, EncodeError, Encoder, ResolveError, Schema};
use crate::base::value::Value;

/// Reads and writes bare datums of one schema. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Datums(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    schema: Schema,
    plan: DecodePlan,
    encoder: Encoder,
}

/// Values are written alike.
impl PartialEq for Datums {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0) || self.schema().canonical_form() == other.schema().canonical_form()
    }
}

impl Eq for Datums {}

impl Datums {
    /// Prepares to read and write values of a schema.
    ///
    /// # Errors
    /// A schema that does not read itself: a bug.
    pub fn new(schema: Schema) -> Result<Self, ResolveError> {
        let (plan, encoder) = (DecodePlan::whole(&schema, &schema)?, Encoder::compile(&schema));
        Ok(Self(Arc::new(Inner { schema, plan, encoder })))
    }

    /// Returns the schema.
    pub fn schema(&self) -> &Schema {
        &self.0.schema
    }

    /// Reads a value.
    ///
    /// # Errors
    /// Bytes that are no datum of the schema, or more than one.
    pub fn decode(&self, bytes: &[u8]) -> Result<Value, DecodeError> {
        self.0.plan.decode_value(bytes)
    }

    /// Writes a value behind what is in `out`.
    ///
    /// # Errors
    /// A value that the schema does not take.
    pub fn encode(&self, value: &Value, out: &mut Vec<u8>) -> Result<(), EncodeError> {
        self.0.encoder.encode_value(value, out)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::avro::from_json;

    const KEY: &str = r#"{"type": "record", "name": "K", "namespace": "shop", "fields": [
        {"name": "region", "type": "string"}, {"name": "number", "type": "int"},
        {"name": "tags", "type": {"type": "map", "values": "int"}, "default": {}}]}"#;

    fn bytes(datums: &Datums, json: &str) -> Vec<u8> {
        let value = from_json(&serde_json::from_str(json).unwrap(), datums.schema()).unwrap();
        let mut out = Vec::new();
        datums.encode(&value, &mut out).unwrap();
        assert_eq!(datums.decode(&out), Ok(value));
        out
    }

    #[test]
    fn equal_values_have_equal_bytes_and_none_begins_with_another() {
        let datums = Datums::new(Schema::parse(KEY).unwrap()).unwrap();
        let one = bytes(&datums, r#"{"region": "EU", "number": 7, "tags": {"a": 1, "b": 2}}"#);
        assert_eq!(one, bytes(&datums, r#"{"tags": {"b": 2, "a": 1}, "number": 7, "region": "EU"}"#));
        let others =
            [r#"{"region": "EU", "number": 7}"#, r#"{"region": "E", "number": 7}"#, r#"{"region": "", "number": 0}"#];
        for other in others.map(|text| bytes(&datums, text)) {
            assert!(!one.starts_with(&other) && !other.starts_with(&one));
        }
        assert!(datums.decode(&[&one[..], &[0]].concat()).is_err(), "bytes behind the value");
    }
}
