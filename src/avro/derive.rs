//! A schema made of types: what derived rows are written with. [`Schema::record_of`] documents the mapping.
//!
//! A type knows no defaults. Where a field stands for one of a schema, the schema is walked beside the type, so that the defaults
//! within are kept.

use std::sync::Arc;

use serde_json::{Map, Value as Json, json};

use crate::avro::logical::{Unit, moment_count, time_count, unscaled_at, unscaled_to_bytes};
use crate::avro::schema::{NodeId, Schema, SchemaError, Shape};
use crate::base::types::{EnumType, Field, RecordType, Type};
use crate::base::value::{Text, Value};

pub(crate) fn record_of(full_name: &str, fields: &[(Text, Type)]) -> Result<Schema, SchemaError> {
    let fields = fields.iter().map(|(name, field_type)| Field { name: name.clone(), field_type: field_type.clone() });
    let root = RecordType::new(full_name, fields.collect());
    let json = Deriving::default().record(&root, None)?;
    Schema::parse(&json.to_string())
}

/// A place in a schema that a type was made of.
type Origin<'a> = Option<(&'a Schema, NodeId)>;

/// Named types that were defined so far; later places refer to them.
#[derive(Default)]
pub(super) struct Deriving {
    records: Vec<Arc<RecordType>>,
    enums: Vec<Arc<EnumType>>,
}

impl Deriving {
    /// Begins a record whose fields the caller writes; the types within may not be called so.
    pub(super) fn under(root: Arc<RecordType>) -> Self {
        Self { records: vec![root], enums: Vec::new() }
    }

    fn record(&mut self, record: &Arc<RecordType>, origin: Origin<'_>) -> Result<Json, SchemaError> {
        if let Some(known) = self.records.iter().find(|known| known.name == record.name) {
            // Equality is by the names of the fields, so that it ends on recursive types; their types must print alike, too.
            let alike = Arc::ptr_eq(known, record) || (known == record && shape(known) == shape(record));
            return if alike { Ok(reference(&record.name)) } else { Err(duplicate(&record.name)) };
        }
        if self.enums.iter().any(|known| known.name == record.name) {
            return Err(duplicate(&record.name));
        }
        self.records.push(record.clone());
        let mut fields = Vec::new();
        for field in record.fields() {
            let mut json = Map::new();
            json.insert("name".into(), field.name.as_str().into());
            let source = origin.and_then(|(schema, node)| {
                let Shape::Record(record) = &schema.node(node).shape else { return None };
                record.fields.iter().find(|known| known.name == field.name).map(|known| (schema, known))
            });
            let below = source.map(|(schema, known)| (schema, known.node));
            json.insert("type".into(), self.type_of(&field.name, &field.field_type, below)?);
            let default = source.and_then(|(_, known)| default_json(known.default_value.as_ref()?, &field.field_type));
            if let Some(default) = default {
                json.insert("default".into(), default);
            } else if is_nullable(&field.field_type) {
                json.insert("default".into(), Json::Null);
            }
            fields.push(Json::Object(json));
        }
        Ok(definition("record", &record.name, "fields", fields))
    }

    fn enumeration(&mut self, symbols: &Arc<EnumType>) -> Result<Json, SchemaError> {
        if let Some(known) = self.enums.iter().find(|known| known.name == symbols.name) {
            return if known == symbols { Ok(reference(&symbols.name)) } else { Err(duplicate(&symbols.name)) };
        }
        if self.records.iter().any(|known| known.name == symbols.name) {
            return Err(duplicate(&symbols.name));
        }
        self.enums.push(symbols.clone());
        let texts = symbols.symbols.iter().map(|symbol| symbol.as_str().into()).collect();
        Ok(definition("enum", &symbols.name, "symbols", texts))
    }

    pub(super) fn type_of(&mut self, field: &str, of: &Type, origin: Origin<'_>) -> Result<Json, SchemaError> {
        Ok(match of {
            Type::Null => json!("null"),
            Type::Bool => json!("boolean"),
            Type::Int => json!("long"),
            Type::Double => json!("double"),
            Type::String => json!("string"),
            Type::Bytes => json!("bytes"),
            Type::DateTime => json!({"type": "long", "logicalType": "timestamp-micros"}),
            Type::TimeDelta => json!({"type": "long", "logicalType": "time-micros"}),
            Type::Decimal { precision, scale } => {
                let precision = (*precision).max(*scale).max(1);
                json!({"type": "bytes", "logicalType": "decimal", "precision": precision, "scale": scale})
            }
            Type::Enum(symbols) => self.enumeration(symbols)?,
            Type::List(item) => {
                json!({"type": "array", "items": self.type_of(field, item, some_branch(origin, within))?})
            }
            Type::Map(value) => {
                json!({"type": "map", "values": self.type_of(field, value, some_branch(origin, within))?})
            }
            Type::Record(record) => {
                let is_record =
                    |schema: &Schema, node| matches!(schema.node(node).shape, Shape::Record(_)).then_some(node);
                self.record(record, some_branch(origin, is_record))?
            }
            Type::Optional(inner) => {
                if let Type::Union(branches) = &**inner {
                    // The branches keep their numbers, so null comes last.
                    let mut branches = self.branches(field, branches, origin)?;
                    branches.push(json!("null"));
                    Json::Array(branches)
                } else {
                    json!(["null", self.type_of(field, inner, origin)?])
                }
            }
            Type::Union(branches) => Json::Array(self.branches(field, branches, origin)?),
            Type::Uint => {
                let message = "`uint` has no counterpart in Avro: convert it with int()".to_owned();
                return Err(SchemaError::NoAvroType { field: field.to_owned(), message });
            }
        })
    }

    fn branches(&mut self, field: &str, branches: &[Type], origin: Origin<'_>) -> Result<Vec<Json>, SchemaError> {
        branches.iter().map(|branch| self.type_of(field, branch, branch_of(branch, origin))).collect()
    }
}

/// Tells whether null is the first thing that a field of the type may be.
pub(super) fn is_nullable(field_type: &Type) -> bool {
    matches!(field_type, Type::Optional(inner) if !matches!(**inner, Type::Union(_)))
}

/// What a list or a map holds.
fn within(schema: &Schema, node: NodeId) -> Option<NodeId> {
    if let Shape::Array(inner) | Shape::Map(inner) = schema.node(node).shape { Some(inner) } else { None }
}

/// Looks through a union: a type that may be null, or one of several, is one of its branches.
fn some_branch<'a>(origin: Origin<'a>, pick: impl Fn(&Schema, NodeId) -> Option<NodeId>) -> Origin<'a> {
    let (schema, node) = origin?;
    let found = match &schema.node(node).shape {
        Shape::Union(branches) => branches.iter().find_map(|branch| pick(schema, *branch)),
        Shape::Null
        | Shape::Bool
        | Shape::Int
        | Shape::Long
        | Shape::Float
        | Shape::Double
        | Shape::Bytes
        | Shape::String
        | Shape::Array(_)
        | Shape::Map(_)
        | Shape::Record(_)
        | Shape::Enum(_)
        | Shape::Fixed(_) => pick(schema, node),
    };
    found.map(|found| (schema, found))
}

/// Of several records the one that is called as the branch is.
fn branch_of<'a>(branch: &Type, origin: Origin<'a>) -> Origin<'a> {
    let Type::Record(record) = branch else { return origin };
    some_branch(origin, |schema, node| {
        schema.node(node).named().is_some_and(|named| named.name == record.name).then_some(node)
    })
}

/// Returns a value as the default of a field; none where JSON cannot say it.
pub(super) fn default_json(value: &Value, field_type: &Type) -> Option<Json> {
    Some(match (value, field_type) {
        (Value::Null, Type::Null | Type::Optional(_)) => Json::Null,
        (value, Type::Optional(inner)) => default_json(value, inner)?,
        (Value::Bool(truth), Type::Bool) => json!(truth),
        (Value::Int(number), Type::Int) => json!(number),
        (Value::Double(number), Type::Double) => Json::Number(serde_json::Number::from_f64(*number)?),
        (Value::String(text), Type::String | Type::Enum(_)) => json!(text.as_str()),
        (Value::Bytes(bytes), Type::Bytes) => latin1(bytes),
        (Value::DateTime(moment), Type::DateTime) => json!(moment_count(*moment, Unit::Micro)?),
        (Value::TimeDelta(time), Type::TimeDelta) => json!(time_count(*time, Unit::Micro)?),
        (Value::Decimal(decimal), Type::Decimal { precision, scale }) => {
            let (bytes, start) = unscaled_to_bytes(unscaled_at(decimal, (*precision).max(*scale).max(1), *scale)?);
            latin1(&bytes[start..])
        }
        (Value::List(items), Type::List(item)) => {
            Json::Array(items.iter().map(|value| default_json(value, item)).collect::<Option<_>>()?)
        }
        (Value::Map(entries), Type::Map(of)) => {
            let entries = entries.iter().map(|(key, value)| Some((key.as_str()?.to_owned(), default_json(value, of)?)));
            Json::Object(entries.collect::<Option<_>>()?)
        }
        (Value::Record(values), Type::Record(record)) => {
            let fields = record.fields().iter().zip(&**values);
            let entries =
                fields.map(|(field, value)| Some((field.name.to_string(), default_json(value, &field.field_type)?)));
            Json::Object(entries.collect::<Option<_>>()?)
        }
        (Value::Union(of), Type::Union(branches)) => default_json(&of.1, branches.get(of.0 as usize)?)?,
        _ => return None,
    })
}

/// Bytes as Avro's defaults have them: each is a code point.
fn latin1(bytes: &[u8]) -> Json {
    Json::String(bytes.iter().map(|byte| char::from(*byte)).collect())
}

fn shape(record: &RecordType) -> Vec<String> {
    record.fields().iter().map(|field| field.field_type.to_string()).collect()
}

pub(super) fn definition(kind: &str, full_name: &str, parts: &str, list: Vec<Json>) -> Json {
    let (namespace, name) = crate::avro::fingerprint::split(full_name);
    let mut json = Map::new();
    json.insert("type".into(), kind.into());
    json.insert("name".into(), name.into());
    json.insert("namespace".into(), namespace.into());
    json.insert(parts.into(), Json::Array(list));
    Json::Object(json)
}

/// A name without namespace keeps none by a leading dot, wherever it stands.
fn reference(full_name: &str) -> Json {
    if full_name.contains('.') { full_name.into() } else { format!(".{full_name}").into() }
}

fn duplicate(name: &str) -> SchemaError {
    SchemaError::Duplicate { name: name.to_owned() }
}
