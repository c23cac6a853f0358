//! A schema made of types: what derived rows are written with. [`Schema::record_of`] documents the mapping.

use std::sync::Arc;

use serde_json::{Map, Value as Json, json};

use crate::avro::schema::{Schema, SchemaError};
use crate::base::types::{EnumType, Field, RecordType, Type};
use crate::base::value::Text;

pub(crate) fn record_of(full_name: &str, fields: &[(Text, Type)]) -> Result<Schema, SchemaError> {
    let fields = fields.iter().map(|(name, field_type)| Field { name: name.clone(), field_type: field_type.clone() });
    let root = RecordType::new(full_name, fields.collect());
    let json = Deriving::default().record(&root)?;
    Schema::parse(&json.to_string())
}

/// Named types that were defined so far; later places refer to them.
#[derive(Default)]
struct Deriving {
    records: Vec<Arc<RecordType>>,
    enums: Vec<Arc<EnumType>>,
}

impl Deriving {
    fn record(&mut self, record: &Arc<RecordType>) -> Result<Json, SchemaError> {
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
            json.insert("type".into(), self.type_of(&field.name, &field.field_type)?);
            if matches!(&field.field_type, Type::Optional(inner) if !matches!(**inner, Type::Union(_))) {
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

    fn type_of(&mut self, field: &str, of: &Type) -> Result<Json, SchemaError> {
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
            Type::List(item) => json!({"type": "array", "items": self.type_of(field, item)?}),
            Type::Map(value) => json!({"type": "map", "values": self.type_of(field, value)?}),
            Type::Record(record) => self.record(record)?,
            Type::Optional(inner) => {
                if let Type::Union(branches) = &**inner {
                    // The branches keep their numbers, so null comes last.
                    let mut branches = self.branches(field, branches)?;
                    branches.push(json!("null"));
                    Json::Array(branches)
                } else {
                    json!(["null", self.type_of(field, inner)?])
                }
            }
            Type::Union(branches) => Json::Array(self.branches(field, branches)?),
            Type::Uint => {
                let message = "`uint` has no counterpart in Avro: convert it with int()".to_owned();
                return Err(SchemaError::NoAvroType { field: field.to_owned(), message });
            }
        })
    }

    fn branches(&mut self, field: &str, branches: &[Type]) -> Result<Vec<Json>, SchemaError> {
        branches.iter().map(|branch| self.type_of(field, branch)).collect()
    }
}

fn shape(record: &RecordType) -> Vec<String> {
    record.fields().iter().map(|field| field.field_type.to_string()).collect()
}

fn definition(kind: &str, full_name: &str, parts: &str, list: Vec<Json>) -> Json {
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
