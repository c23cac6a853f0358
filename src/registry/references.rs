//! Puts the schemas that a schema refers to into it, so that its text stands by itself. Pure.
//!
//! A reference is resolved where its name is first met, as Avro wants a name defined before it is used. Not here: fetching them.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

const PRIMITIVES: [&str; 8] = ["null", "boolean", "int", "long", "float", "double", "bytes", "string"];

/// Returns `schema` with each name in `definitions` (full names) defined where it is first used. Definitions may use each other.
pub(super) fn inline(schema: Value, definitions: &BTreeMap<String, Value>) -> Value {
    Inliner { definitions, defined: BTreeSet::new() }.schema(schema, "")
}

const KINDS: [&str; 6] = ["record", "error", "enum", "array", "map", "fixed"];

struct Inliner<'a> {
    definitions: &'a BTreeMap<String, Value>,
    defined: BTreeSet<String>,
}

impl Inliner<'_> {
    fn schema(&mut self, schema: Value, namespace: &str) -> Value {
        match schema {
            Value::String(name) => self.name(name, namespace),
            Value::Array(branches) => {
                Value::Array(branches.into_iter().map(|branch| self.schema(branch, namespace)).collect())
            }
            Value::Object(fields) => self.object(fields, namespace),
            other @ (Value::Null | Value::Bool(_) | Value::Number(_)) => other,
        }
    }

    fn name(&mut self, name: String, namespace: &str) -> Value {
        let full = full_name(&name, namespace);
        if PRIMITIVES.contains(&name.as_str()) || self.defined.contains(&full) {
            return Value::String(name);
        }
        let Some(definition) = self.definitions.get(&full) else { return Value::String(name) };
        let mut definition = definition.clone();
        // A name without a namespace would take the one around it.
        if let Value::Object(fields) = &mut definition {
            let dotted = fields.get("name").and_then(Value::as_str).is_some_and(|name| name.contains('.'));
            if !dotted && !fields.contains_key("namespace") {
                fields.insert("namespace".to_owned(), Value::String(String::new()));
            }
        }
        self.schema(definition, "")
    }

    fn object(&mut self, mut fields: serde_json::Map<String, Value>, namespace: &str) -> Value {
        let own = fields.get("namespace").and_then(Value::as_str).unwrap_or(namespace).to_owned();
        let mut inner = own.clone();
        if let Some(name) = fields.get("name").and_then(Value::as_str) {
            let full = full_name(name, &own);
            inner = full.rsplit_once('.').map_or_else(String::new, |(namespace, _)| namespace.to_owned());
            self.defined.insert(full);
        }
        for part in ["type", "items", "values"] {
            if let Some(schema) = fields.remove(part) {
                let schema = self.part(schema, &inner);
                fields.insert(part.to_owned(), schema);
            }
        }
        if let Some(Value::Array(list)) = fields.get_mut("fields") {
            for field in list {
                if let Some(schema) = field.get_mut("type") {
                    *schema = self.schema(schema.take(), &inner);
                }
            }
        }
        Value::Object(fields)
    }

    /// A schema inside another: its kind (`record`, …) is no name.
    fn part(&mut self, schema: Value, namespace: &str) -> Value {
        let kind = schema.as_str().is_some_and(|kind| KINDS.contains(&kind));
        if kind { schema } else { self.schema(schema, namespace) }
    }
}

fn full_name(name: &str, namespace: &str) -> String {
    if name.contains('.') || namespace.is_empty() { name.to_owned() } else { format!("{namespace}.{name}") }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn references_are_defined_once_where_they_are_first_used() {
        let definitions = BTreeMap::from([
            ("shop.Money".to_owned(), json!({"type": "record", "name": "shop.Money", "fields": []})),
            (
                "shop.Item".to_owned(),
                json!({"type": "record", "name": "Item", "namespace": "shop",
                       "fields": [{"name": "price", "type": "Money"}]}),
            ),
            ("Plain".to_owned(), json!({"type": "fixed", "name": "Plain", "size": 2})),
        ]);
        let schema = json!({"type": "record", "name": "Order", "namespace": "shop", "fields": [
            {"name": "items", "type": {"type": "array", "items": "Item"}},
            {"name": "total", "type": ["null", "shop.Money"]},
            {"name": "more", "type": {"type": "map", "values": "string"}},
        ]});
        assert_eq!(
            inline(schema, &definitions),
            json!({"type": "record", "name": "Order", "namespace": "shop", "fields": [
                {"name": "items", "type": {"type": "array", "items":
                    {"type": "record", "name": "Item", "namespace": "shop", "fields": [
                        {"name": "price", "type": {"type": "record", "name": "shop.Money", "fields": []}}]}}},
                {"name": "total", "type": ["null", "shop.Money"]},
                {"name": "more", "type": {"type": "map", "values": "string"}},
            ]})
        );
        let schema = json!({"type": "array", "items": ["Plain", "Plain"]});
        assert_eq!(
            inline(schema, &definitions),
            json!({"type": "array", "items": [{"type": "fixed", "name": "Plain", "size": 2, "namespace": ""}, "Plain"]})
        );
    }
}
