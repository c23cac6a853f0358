//! The schema files that a topology names: found, parsed once, and checked to be records.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::super::sources::{Located, Sources};
use super::super::spec::{Body, Spec};
use crate::avro::Schema;
use crate::avro::schema::Shape;
use crate::base::diag::{Diagnostic, FileId, Span, suggestion};
use crate::base::types::{RecordType, Type};
use crate::base::value::Value;
use crate::error::codes;

/// The record schemas by the names that the topology uses; a name that is not here was reported.
#[derive(Debug)]
pub(super) struct Schemas(BTreeMap<String, (Schema, Arc<RecordType>)>);

impl Schemas {
    /// Returns a record schema and its type.
    pub(super) fn record(&self, name: &Located<String>) -> Option<(Schema, Arc<RecordType>)> {
        self.0.get(&name.value).cloned()
    }
}

/// Parses every schema that the spec names.
pub(super) fn read(sources: &Sources, spec: &Spec, findings: &RefCell<Vec<Diagnostic>>) -> Schemas {
    let named = spec.nodes.iter().filter_map(|node| node.body.as_ref()).flat_map(Body::schemas);
    let mut schemas = BTreeMap::new();
    let mut seen = BTreeSet::new();
    for name in named {
        let Some(index) = sources.schemas.iter().position(|schema| schema.name == name.value) else {
            let message = format!("there is no schema file `{}`", name.value);
            let known = sources.schemas.iter().map(|schema| schema.name.as_str());
            let known = known.chain(sources.beside.iter().map(String::as_str));
            let near = crate::base::diag::nearest(&name.value, known);
            let help = near.map_or_else(
                || "put it in the topology's folder, or in a folder of the schema path".to_owned(),
                |near| suggestion(&name.value, [near]),
            );
            let diagnostic = Diagnostic::error(codes::SCHEMA_MISSING, name.place.span, message).help(help);
            findings.borrow_mut().push(diagnostic.placed(name.place.file, 0));
            continue;
        };
        if !seen.insert(index) {
            continue;
        }
        let file = sources.schema_id(index);
        match parse(&sources.schemas[index].text, file) {
            Ok(schema) => {
                schemas.insert(name.value.clone(), schema);
            }
            Err(diagnostic) => findings.borrow_mut().push(*diagnostic),
        }
    }
    Schemas(schemas)
}

fn parse(text: &str, file: FileId) -> Result<(Schema, Arc<RecordType>), Box<Diagnostic>> {
    let whole = Span::new(0, text.trim_end().lines().next().map_or(0, str::len));
    let schema = Schema::parse(text)
        .map_err(|error| Box::new(Diagnostic::error(error.code(), whole, error.to_string()).placed(file, 0)))?;
    let Type::Record(record) = schema.value_type() else {
        let message = format!("the schema is {}, not a record", schema.value_type());
        let help = "events, rows and states are records: `{\"type\": \"record\", …}`";
        let diagnostic = Diagnostic::error(codes::SCHEMA_NOT_A_RECORD, whole, message).help(help);
        return Err(Box::new(diagnostic.placed(file, 0)));
    };
    Ok((schema, record))
}

/// Returns the value of each field before anything set it: its default, or null where that is allowed; else the field's name.
pub(super) fn start_values(schema: &Schema) -> Vec<Result<Value, String>> {
    let Shape::Record(record) = &schema.root_node().shape else { return Vec::new() };
    let fields = record.fields.iter().zip(schema.fields());
    fields
        .map(|(node, field)| match &node.default_value {
            Some(default) => Ok(default.clone()),
            None if field.field_type.allows_null() && !matches!(field.field_type, Type::Union(_)) => Ok(Value::Null),
            None => Err(field.name.to_string()),
        })
        .collect()
}
