//! Rows that outlive the topology that wrote them: schemas that say what older rows have in a field that is new, and what rows
//! mean beyond their types; and how the schema of today takes over the rows of an earlier one.
//!
//! ```text
//! {"type": "record", "name": "items", "meaning": "string keys; tumbling windows of 1h", "fields": [
//!     {"name": "amount", "type": "long", "default": 0, "meaning": "sum"}]}
//! ```
//!
//! What a row's record is called plays no part: it is named after nodes, which may be renamed.

use serde_json::{Map, Value as Json, json};

use crate::avro::derive::{Deriving, default_json, definition, is_nullable};
use crate::avro::resolve::{self, Incompatibility};
use crate::avro::schema::{FieldNode, Schema, SchemaError, Shape};
use crate::base::types::{Field, RecordType, Type};
use crate::base::value::{Text, Value};

/// The attribute of a row schema, and of its fields, that says what values mean beyond their types.
const MEANING: &str = "meaning";

/// A field of rows.
#[derive(Clone, Debug)]
pub struct RowField {
    pub name: Text,
    pub field_type: Type,
    /// What rows have in it that were written when there was no such field. None: null if it may be that, else such rows cannot
    /// be read.
    pub initial: Option<Value>,
    /// The field of a schema that it stands for, whose aliases and inner defaults it has.
    pub origin: Option<(Schema, usize)>,
    /// What its values mean beyond their type.
    pub meaning: Option<&'static str>,
}

impl RowField {
    /// A field with a name and a type, and nothing known about it.
    pub fn new(name: impl AsRef<str>, field_type: Type) -> Self {
        Self { name: Text::new(name), field_type, initial: None, origin: None, meaning: None }
    }

    fn source(&self) -> Option<(&Schema, &FieldNode)> {
        let (schema, index) = self.origin.as_ref()?;
        let Shape::Record(record) = &schema.root_node().shape else { return None };
        Some((schema, record.fields.get(*index)?))
    }
}

impl Schema {
    /// Makes the schema of a store's rows; types are mapped as [`Schema::record_of`] does.
    ///
    /// # Errors
    /// As [`Schema::record_of`].
    pub fn row_of(full_name: &str, fields: &[RowField]) -> Result<Self, SchemaError> {
        let made = row(full_name, fields, &|_| true)?;
        let Shape::Record(record) = &made.root_node().shape else { return Ok(made) };
        // A default that reads as another value than was meant (a union's first branch that fits is taken) is none.
        let as_meant = |index: usize| match &fields[index].initial {
            Some(initial) => record.fields[index].default_value.as_ref() == Some(initial),
            None => true,
        };
        if (0..fields.len()).all(as_meant) { Ok(made) } else { row(full_name, fields, &as_meant) }
    }

    /// Returns the schema with a note of what its values mean beyond their types; one that is no record stays as it is.
    ///
    /// # Errors
    /// None, for a schema that was parsed before.
    pub fn with_meaning(&self, meaning: &str) -> Result<Self, SchemaError> {
        let mut json: Json =
            serde_json::from_str(self.text()).map_err(|error| SchemaError::Syntax { message: error.to_string() })?;
        match json.as_object_mut() {
            Some(root) if root.contains_key("fields") => drop(root.insert(MEANING.to_owned(), json!(meaning))),
            Some(_) | None => return Ok(self.clone()),
        }
        Self::parse(&json.to_string())
    }

    /// Returns what the values mean beyond their types, where it is noted.
    pub fn meaning(&self) -> Option<&str> {
        self.root_node().named()?.attributes.get(MEANING)?.as_str()
    }

    /// Returns the default of a record's field as its schema has it, in JSON.
    pub fn default_text(&self, field: usize) -> Option<String> {
        let Shape::Record(record) = &self.root_node().shape else { return None };
        record.fields.get(field)?.default.as_ref().map(Json::to_string)
    }

    /// Tells whether a row that was written without a field can be read: it has a default.
    pub fn has_default(&self, field: usize) -> bool {
        let Shape::Record(record) = &self.root_node().shape else { return false };
        record.fields.get(field).is_some_and(|field| field.default_value.is_some())
    }
}

fn row(full_name: &str, fields: &[RowField], with_default: &dyn Fn(usize) -> bool) -> Result<Schema, SchemaError> {
    let types = fields.iter().map(|field| Field { name: field.name.clone(), field_type: field.field_type.clone() });
    let mut deriving = Deriving::under(RecordType::new(full_name, types.collect()));
    let mut list = Vec::with_capacity(fields.len());
    for (index, field) in fields.iter().enumerate() {
        let source = field.source();
        let below = source.map(|(schema, node)| (schema, node.node));
        let mut json = Map::new();
        json.insert("name".into(), field.name.as_str().into());
        json.insert("type".into(), deriving.type_of(&field.name, &field.field_type, below)?);
        let initial = field.initial.as_ref().or_else(|| source.and_then(|(_, node)| node.default_value.as_ref()));
        let default = initial.filter(|_| with_default(index)).and_then(|value| default_json(value, &field.field_type));
        if let Some(default) = default {
            json.insert("default".into(), default);
        } else if field.initial.is_none() && is_nullable(&field.field_type) {
            json.insert("default".into(), Json::Null);
        }
        let aliases: Vec<&str> = source.into_iter().flat_map(|(_, node)| &node.aliases).map(Text::as_str).collect();
        if !aliases.is_empty() {
            json.insert("aliases".into(), json!(aliases));
        }
        if let Some(meaning) = field.meaning {
            json.insert(MEANING.into(), meaning.into());
        }
        list.push(Json::Object(json));
    }
    Schema::parse(&definition("record", full_name, "fields", list).to_string())
}

/// Returns every reason why rows that were written under `then` cannot all be taken over by `now`; none when they can.
pub fn carries(now: &Schema, then: &Schema) -> Vec<Incompatibility> {
    let mut problems: Vec<Incompatibility> =
        resolve::resolve_rows(then, now).problems.into_iter().map(|problem| problem.what).collect();
    if let (Some(before), Some(today)) = (then.meaning(), now.meaning())
        && before != today
    {
        problems.push(Incompatibility {
            path: String::new(),
            message: format!("they were kept by {before}, not by {today}"),
        });
    }
    let (Shape::Record(before), Shape::Record(today)) = (&then.root_node().shape, &now.root_node().shape) else {
        return problems;
    };
    let noted = |field: &FieldNode| field.attributes.get(MEANING).and_then(Json::as_str).map(str::to_owned);
    for field in &today.fields {
        let earlier = before.fields.iter().find(|earlier| earlier.name == field.name);
        if let Some((was, is)) = earlier.and_then(noted).zip(noted(field)).filter(|(was, is)| was != is) {
            problems.push(Incompatibility {
                path: field.name.to_string(),
                message: format!("it was `{was}`, and is `{is}` now"),
            });
        }
    }
    problems
}

#[cfg(test)]
#[path = "tests/rows.rs"]
mod tests;
