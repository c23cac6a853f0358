//! A field's default, from the JSON of its schema to a value.
//!
//! Source: Avro 1.12 specification, "Complex Types, Records": bytes and fixed are text of code points 0 to 255; the default
//! of a union may fit any branch (the first that it fits is taken).

use serde_json::Value as Json;

use crate::avro::logical;
use crate::avro::schema::{FieldNode, Node, NodeId, SchemaError, Shape, UnionForm, union_form};
use crate::base::value::Value;
use crate::limits::DATUM_DEPTH_MAX;

/// Turns every default of a schema into its value.
pub(crate) fn settle(nodes: &mut [Node]) -> Result<(), SchemaError> {
    for index in 0..nodes.len() {
        let mut settled = Vec::new();
        if let Shape::Record(record) = &nodes[index].shape {
            for (position, field) in record.fields.iter().enumerate() {
                let Some(json) = &field.default else { continue };
                let value = value(nodes, field.node, json, 0).map_err(|message| SchemaError::Default {
                    record: record.named.name.to_string(),
                    field: field.name.to_string(),
                    message,
                })?;
                settled.push((position, value));
            }
        }
        if let Shape::Record(record) = &mut nodes[index].shape {
            for (position, value) in settled {
                record.fields[position].default_value = Some(value);
            }
        }
    }
    Ok(())
}

fn value(nodes: &[Node], id: NodeId, json: &Json, depth: usize) -> Result<Value, String> {
    if depth > DATUM_DEPTH_MAX {
        return Err(format!("it is nested more than {DATUM_DEPTH_MAX} deep"));
    }
    let node = &nodes[id.index()];
    let wrong = || format!("{json} is not of type `{}`", node.word());
    match (&node.shape, json) {
        (Shape::Null, Json::Null) => Ok(Value::Null),
        (Shape::Bool, Json::Bool(truth)) => Ok(Value::Bool(*truth)),
        (Shape::Int, Json::Number(number)) => {
            let number = number.as_i64().and_then(|number| i32::try_from(number).ok()).ok_or_else(wrong)?;
            Ok(logical::from_integer(number.into(), node.logical))
        }
        (Shape::Long, Json::Number(number)) => {
            Ok(logical::from_integer(number.as_i64().ok_or_else(wrong)?, node.logical))
        }
        (Shape::Float, Json::Number(number)) => Ok(Value::Double(f64::from(number.as_f64().ok_or_else(wrong)? as f32))),
        (Shape::Double, Json::Number(number)) => Ok(Value::Double(number.as_f64().ok_or_else(wrong)?)),
        (Shape::Bytes, Json::String(text)) => {
            logical::from_bytes(&latin1(text).ok_or_else(wrong)?, node).ok_or_else(wrong)
        }
        (Shape::Fixed(fixed), Json::String(text)) => {
            let bytes = latin1(text).filter(|bytes| bytes.len() == fixed.size).ok_or_else(wrong)?;
            logical::from_bytes(&bytes, node).ok_or_else(wrong)
        }
        (Shape::String, Json::String(text)) => Ok(Value::text(text)),
        (Shape::Enum(symbols), Json::String(text)) => {
            let symbol = symbols.symbols.iter().find(|symbol| *symbol == text).ok_or_else(wrong)?;
            Ok(Value::String(symbol.clone()))
        }
        (Shape::Array(item), Json::Array(items)) => {
            let items = items.iter().map(|json| value(nodes, *item, json, depth + 1));
            Ok(Value::List(items.collect::<Result<_, _>>()?))
        }
        (Shape::Map(of), Json::Object(entries)) => {
            let entries = entries.iter().map(|(key, json)| Ok((Value::text(key), value(nodes, *of, json, depth + 1)?)));
            let mut entries = entries.collect::<Result<Vec<_>, String>>()?;
            entries.sort_by(|(a, _), (b, _)| a.order(b));
            Ok(Value::Map(entries.into()))
        }
        (Shape::Record(record), Json::Object(given)) => {
            let fields =
                record.fields.iter().map(|field| match given.get(field.name.as_str()).or(field.default.as_ref()) {
                    Some(json) => value(nodes, field.node, json, depth + 1),
                    None => Err(missing(field)),
                });
            Ok(Value::Record(fields.collect::<Result<_, _>>()?))
        }
        (Shape::Union(branches), json) => {
            let fits = |(index, branch): (usize, &NodeId)| Some((index, value(nodes, *branch, json, depth).ok()?));
            let (index, value) = branches.iter().enumerate().find_map(fits).ok_or_else(wrong)?;
            Ok(in_union(union_form(nodes, branches), index, value))
        }
        _ => Err(wrong()),
    }
}

/// Wraps the datum of a union's branch as the union's form has it.
pub(crate) fn in_union(form: UnionForm, branch: usize, value: Value) -> Value {
    match form {
        UnionForm::Optional { .. } | UnionForm::Single => value,
        UnionForm::General => Value::Union((branch as u32, value).into()),
    }
}

fn missing(field: &FieldNode) -> String {
    format!("field `{}` is missing and has no default", field.name)
}

/// Each code point below 256 is one byte.
fn latin1(text: &str) -> Option<Vec<u8>> {
    text.chars().map(|c| u8::try_from(u32::from(c)).ok()).collect()
}
