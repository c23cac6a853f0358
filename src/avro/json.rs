//! Values as JSON for people and HTTP: no union wrappers, moments as RFC 3339 in UTC, durations as `1.5s`, decimals as
//! strings, bytes as base64 (RFC 4648, padded), enums as strings, fields in the schema's order.
//!
//! Doubles that JSON cannot hold are `"NaN"`, `"Infinity"`, `"-Infinity"`. This is not Avro's own JSON encoding.

use std::fmt;

use serde_json::{Map, Value as Json};
use thiserror::Error;

use crate::avro::defaults::in_union;
use crate::avro::logical::{self, Unit, moment_unit, time_unit};
use crate::avro::schema::{EnumNode, Logical, Node, NodeId, RecordNode, Schema, Shape, UnionForm, union_form};
use crate::base::diag::suggestion;
use crate::base::time::{DateTime, TimeDelta};
use crate::base::types::Type;
use crate::base::value::{Decimal, Text, Value};
use crate::error::{Code, Kind, codes};
use crate::limits::DATUM_DEPTH_MAX;

/// Why JSON is no value of a schema, and where in it.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub struct JsonError {
    /// From the outside in: `order.items[3].price`; empty for the whole.
    pub path: String,
    pub message: String,
}

impl fmt::Display for JsonError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.path.is_empty() { f.write_str(&self.message) } else { write!(f, "`{}`: {}", self.path, self.message) }
    }
}

impl JsonError {
    /// One record is wrong, not the program.
    pub fn kind(&self) -> Kind {
        Kind::Record
    }

    /// The page that explains it.
    pub fn code(&self) -> Code {
        codes::VALUE_NOT_IN_SCHEMA
    }

    fn new(message: String) -> Self {
        Self { path: String::new(), message }
    }

    #[must_use]
    fn within(mut self, segment: &str) -> Self {
        let joint = if self.path.is_empty() || self.path.starts_with('[') { "" } else { "." };
        self.path = format!("{segment}{joint}{}", self.path);
        self
    }
}

/// Writes a value of a type. Where value and type disagree, the value's own kind decides.
pub fn to_json(value: &Value, value_type: &Type) -> Json {
    match (value, value_type) {
        (value, Type::Optional(inner)) if !value.is_null() => to_json(value, inner),
        (Value::Union(tagged), Type::Union(branches)) => {
            to_json(&tagged.1, branches.get(tagged.0 as usize).unwrap_or(&Type::Null))
        }
        (Value::Union(tagged), other) => to_json(&tagged.1, other),
        (Value::Null, _) => Json::Null,
        (Value::Bool(truth), _) => (*truth).into(),
        (Value::Int(number), _) => (*number).into(),
        (Value::Uint(number), _) => (*number).into(),
        (Value::Double(number), _) => double_to_json(*number),
        (Value::String(text), _) => text.as_str().into(),
        (Value::Bytes(bytes), _) => base64_encode(bytes).into(),
        (Value::DateTime(moment), _) => moment.to_string().into(),
        (Value::TimeDelta(time), _) => time.to_string().into(),
        (Value::Decimal(decimal), _) => decimal.to_string().into(),
        (Value::List(items), other) => {
            let item_type = if let Type::List(item) = other { item } else { &Type::Null };
            Json::Array(items.iter().map(|item| to_json(item, item_type)).collect())
        }
        (Value::Map(entries), other) => {
            let of = if let Type::Map(of) = other { of } else { &Type::Null };
            let entry = |(key, value): &(Value, Value)| (key_text(key), to_json(value, of));
            Json::Object(entries.iter().map(entry).collect())
        }
        (Value::Record(fields), Type::Record(record)) => {
            let named = record.fields().iter().zip(fields.iter());
            Json::Object(
                named.map(|(field, value)| (field.name.to_string(), to_json(value, &field.field_type))).collect(),
            )
        }
        (Value::Record(fields), _) => Json::Array(fields.iter().map(|field| to_json(field, &Type::Null)).collect()),
    }
}

/// Reads a value of a schema's type.
///
/// A missing field takes its default. A union takes the first branch of JSON's own kind that fits (an integer is an `int` or
/// `long` before it is a `double` or a moment), else the first that fits at all. Moments are RFC 3339, a `date` also
/// `2013-07-01`; moments and times may be integers in the schema's unit; decimals may be numbers.
///
/// # Errors
/// The JSON is of another shape, has a field that the schema does not know, lacks one without a default, or a number or text
/// does not fit its type.
pub fn from_json(json: &Json, schema: &Schema) -> Result<Value, JsonError> {
    Reading { nodes: schema.nodes() }.value(schema.root(), json, 0)
}

fn double_to_json(number: f64) -> Json {
    let odd = || {
        let text = if number.is_nan() { "NaN" } else { "Infinity" };
        Json::String(format!("{}{text}", if number == f64::NEG_INFINITY { "-" } else { "" }))
    };
    serde_json::Number::from_f64(number).map_or_else(odd, Json::Number)
}

fn key_text(key: &Value) -> String {
    let json = to_json(key, &Type::Null);
    if let Json::String(text) = json { text } else { json.to_string() }
}

struct Reading<'a> {
    nodes: &'a [Node],
}

impl Reading<'_> {
    fn node(&self, id: NodeId) -> &Node {
        &self.nodes[id.index()]
    }

    fn value(&self, id: NodeId, json: &Json, depth: usize) -> Result<Value, JsonError> {
        if depth > DATUM_DEPTH_MAX {
            return Err(JsonError::new(format!("it is nested more than {DATUM_DEPTH_MAX} deep")));
        }
        let node = self.node(id);
        let wrong = || JsonError::new(format!("{} is not {}", shown(json), wanted(node)));
        match (&node.shape, json) {
            (Shape::Null, Json::Null) => Ok(Value::Null),
            (Shape::Bool, Json::Bool(truth)) => Ok(Value::Bool(*truth)),
            (Shape::Int | Shape::Long, _) => integer(node, json).ok_or_else(wrong),
            (Shape::Float, _) => Ok(Value::Double(f64::from(double(json).ok_or_else(wrong)? as f32))),
            (Shape::Double, _) => Ok(Value::Double(double(json).ok_or_else(wrong)?)),
            (Shape::Bytes | Shape::Fixed(_), _) => bytes(node, json).ok_or_else(wrong),
            (Shape::String, Json::String(text)) => Ok(Value::text(text)),
            (Shape::Enum(symbols), Json::String(text)) => symbol(symbols, text),
            (Shape::Array(item), Json::Array(items)) => {
                let item = |(index, json)| {
                    self.value(*item, json, depth + 1).map_err(|error: JsonError| error.within(&format!("[{index}]")))
                };
                Ok(Value::List(items.iter().enumerate().map(item).collect::<Result<_, _>>()?))
            }
            (Shape::Map(of), Json::Object(entries)) => {
                let entry = |(key, json): (&String, &Json)| match self.value(*of, json, depth + 1) {
                    Ok(value) => Ok((Value::text(key), value)),
                    Err(error) => Err(error.within(&format!("[{key:?}]"))),
                };
                let mut entries = entries.iter().map(entry).collect::<Result<Vec<_>, JsonError>>()?;
                entries.sort_by(|(a, _), (b, _)| a.order(b));
                Ok(Value::Map(entries.into()))
            }
            (Shape::Record(record), Json::Object(given)) => self.record(record, given, depth + 1),
            (Shape::Union(branches), json) => self.union(branches, json, depth),
            _ => Err(wrong()),
        }
    }

    fn record(&self, record: &RecordNode, given: &Map<String, Json>, depth: usize) -> Result<Value, JsonError> {
        let known = || record.fields.iter().map(|field| field.name.as_str());
        if let Some(stranger) = given.keys().find(|key| !known().any(|name| name == key.as_str())) {
            let hint = suggestion(stranger, known());
            return Err(JsonError::new(format!("`{}` has no field `{stranger}`: {hint}", record.named.name)));
        }
        let fields = record.fields.iter().map(|field| match (given.get(field.name.as_str()), &field.default_value) {
            (Some(json), _) => self.value(field.node, json, depth).map_err(|error| error.within(&field.name)),
            (None, Some(default)) => Ok(default.clone()),
            (None, None) => {
                Err(JsonError::new(format!("`{}` needs it: it has no default", record.named.name)).within(&field.name))
            }
        });
        Ok(Value::Record(fields.collect::<Result<_, _>>()?))
    }

    fn union(&self, branches: &[NodeId], json: &Json, depth: usize) -> Result<Value, JsonError> {
        let form = union_form(self.nodes, branches);
        if let UnionForm::Optional { some, .. } = form {
            return if json.is_null() { Ok(Value::Null) } else { self.value(branches[some], json, depth) };
        }
        let own_kind = |branch: &NodeId| is_own_kind(self.node(*branch), json);
        let (natural, other): (Vec<_>, Vec<_>) = branches.iter().enumerate().partition(|(_, branch)| own_kind(branch));
        let mut errors = Vec::new();
        for (index, branch) in natural.iter().chain(&other) {
            match self.value(**branch, json, depth) {
                Ok(value) => return Ok(in_union(form, *index, value)),
                Err(error) => errors.push(error),
            }
        }
        // With one branch of JSON's own kind, what is wrong with it says more than a list of branches.
        if natural.len() == 1 || branches.len() == 1 {
            return Err(errors.swap_remove(0));
        }
        let words: Vec<&str> = branches.iter().map(|branch| self.node(*branch).word()).collect();
        Err(JsonError::new(format!("{} is none of `{}`", shown(json), words.join("`, `"))))
    }
}

/// Tells whether JSON's kind is the one that the type is written as, with nothing to convert.
fn is_own_kind(node: &Node, json: &Json) -> bool {
    match (&node.shape, json) {
        (Shape::Null, Json::Null)
        | (Shape::Bool, Json::Bool(_))
        | (Shape::String | Shape::Enum(_), Json::String(_))
        | (Shape::Array(_), Json::Array(_))
        | (Shape::Map(_) | Shape::Record(_), Json::Object(_)) => true,
        (Shape::Int | Shape::Long, Json::Number(number)) => node.logical.is_none() && !number.is_f64(),
        (Shape::Float | Shape::Double, Json::Number(number)) => number.is_f64(),
        (Shape::Int | Shape::Long | Shape::Bytes | Shape::Fixed(_), Json::String(text)) => match node.logical {
            Some(Logical::Decimal { .. }) => parse_decimal(text).is_some(),
            Some(_) if moment_unit(node.logical).is_some() => DateTime::parse(text).is_ok(),
            Some(_) | None => false,
        },
        _ => false,
    }
}

fn integer(node: &Node, json: &Json) -> Option<Value> {
    if let Json::String(text) = json {
        if let Some(unit) = moment_unit(node.logical) {
            let midnight = || DateTime::parse(&format!("{text}T00:00:00Z")).ok().filter(|_| unit == Unit::Day);
            return DateTime::parse(text).ok().or_else(midnight).map(Value::DateTime);
        }
        time_unit(node.logical)?;
        return parse_time_delta(text).map(Value::TimeDelta);
    }
    let number = json.as_i64()?;
    let fits = !matches!(node.shape, Shape::Int) || i32::try_from(number).is_ok();
    fits.then(|| logical::from_integer(number, node.logical))
}

fn double(json: &Json) -> Option<f64> {
    match json {
        Json::Number(number) => number.as_f64(),
        Json::String(text) => match text.as_str() {
            "NaN" => Some(f64::NAN),
            "Infinity" => Some(f64::INFINITY),
            "-Infinity" => Some(f64::NEG_INFINITY),
            _ => None,
        },
        Json::Null | Json::Bool(_) | Json::Array(_) | Json::Object(_) => None,
    }
}

fn bytes(node: &Node, json: &Json) -> Option<Value> {
    if let Some(Logical::Decimal { precision, scale }) = node.logical {
        let text = match json {
            Json::String(text) => text.clone(),
            Json::Number(number) => number.to_string(),
            Json::Null | Json::Bool(_) | Json::Array(_) | Json::Object(_) => return None,
        };
        let unscaled = logical::unscaled_at(&parse_decimal(&text)?, precision, scale)?;
        return Some(Value::Decimal(Decimal { unscaled, scale }.into()));
    }
    let text = json.as_str()?;
    let Shape::Fixed(fixed) = &node.shape else { return base64_decode(text).map(Value::Bytes) };
    if node.logical == Some(Logical::Uuid) {
        return logical::uuid_bytes(text).map(|bytes| Value::String(logical::uuid_text(bytes)));
    }
    base64_decode(text).filter(|bytes| bytes.len() == fixed.size).map(Value::Bytes)
}

fn symbol(node: &EnumNode, text: &str) -> Result<Value, JsonError> {
    match node.symbols.iter().find(|symbol| *symbol == text) {
        Some(symbol) => Ok(Value::String(symbol.clone())),
        None => {
            let hint = suggestion(text, node.symbols.iter().map(Text::as_str));
            Err(JsonError::new(format!("enum `{}` has no symbol `{text}`: {hint}", node.named.name)))
        }
    }
}

/// Reads `-12.34`, also with an exponent.
fn parse_decimal(text: &str) -> Option<Decimal> {
    let (mantissa, exponent) = match text.split_once(['e', 'E']) {
        Some((mantissa, exponent)) => (mantissa, exponent.parse::<i32>().ok()?),
        None => (text, 0),
    };
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let digits = format!("{whole}{fraction}");
    let unsigned = digits.strip_prefix('-').unwrap_or(&digits);
    if unsigned.is_empty() || !unsigned.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let unscaled: i128 = digits.parse().ok()?;
    let scale = i32::try_from(fraction.len()).ok()?.checked_sub(exponent)?;
    match u32::try_from(scale) {
        Ok(scale) => Some(Decimal { unscaled, scale }),
        Err(_) => {
            let unscaled = unscaled.checked_mul(10_i128.checked_pow(scale.unsigned_abs())?)?;
            Some(Decimal { unscaled, scale: 0 })
        }
    }
}

/// Reads CEL's text form of a duration in seconds: `1.5s`.
fn parse_time_delta(text: &str) -> Option<TimeDelta> {
    let decimal = parse_decimal(text.strip_suffix('s')?)?;
    let total = logical::unscaled_at(&decimal, 38, 9)?;
    let seconds = i64::try_from(total.div_euclid(1_000_000_000)).ok()?;
    Some(TimeDelta { seconds, nanos: total.rem_euclid(1_000_000_000) as u32 })
}

fn shown(json: &Json) -> String {
    match json {
        Json::Array(_) => "a list".to_owned(),
        Json::Object(_) => "an object".to_owned(),
        Json::Null | Json::Bool(_) | Json::Number(_) | Json::String(_) => format!("`{json}`"),
    }
}

fn wanted(node: &Node) -> String {
    match node.logical {
        Some(Logical::Date) => "a date: write it like `2013-07-01`".to_owned(),
        Some(Logical::TimeMillis | Logical::TimeMicros) => "a time of day: write it in seconds like `1.5s`".to_owned(),
        Some(Logical::Decimal { precision, scale }) => {
            format!("a decimal of {precision} digits, {scale} of them after the point: write it like `\"12.34\"`")
        }
        Some(Logical::Uuid) => "a UUID".to_owned(),
        Some(Logical::Duration) => "the base64 of 12 bytes".to_owned(),
        Some(_) => "a time: write it like `2013-07-01T12:00:00Z` (RFC 3339)".to_owned(),
        None => {
            if let Shape::Fixed(fixed) = &node.shape {
                format!("the base64 of {} bytes", fixed.size)
            } else if matches!(node.shape, Shape::Bytes) {
                "base64".to_owned()
            } else {
                format!("of type `{}`", node.word())
            }
        }
    }
}

const BASE64: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

pub(crate) fn base64_encode(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for chunk in bytes.chunks(3) {
        let word = chunk.iter().fold(0_u32, |word, byte| word << 8 | u32::from(*byte)) << (8 * (3 - chunk.len()));
        for index in 0..4 {
            let symbol = BASE64[(word >> (18 - 6 * index) & 63) as usize];
            text.push(if index <= chunk.len() { char::from(symbol) } else { '=' });
        }
    }
    text
}

pub(crate) fn base64_decode(text: &str) -> Option<std::sync::Arc<[u8]>> {
    let symbols = text.strip_suffix("==").or_else(|| text.strip_suffix('=')).unwrap_or(text);
    if !text.len().is_multiple_of(4) {
        return None;
    }
    let mut bytes = Vec::with_capacity(text.len() / 4 * 3);
    for chunk in symbols.as_bytes().chunks(4) {
        let mut word = 0_u32;
        for symbol in chunk {
            word = word << 6 | BASE64.iter().position(|known| known == symbol)? as u32;
        }
        word <<= 6 * (4 - chunk.len());
        bytes.extend_from_slice(&word.to_be_bytes()[1..chunk.len()]);
    }
    Some(bytes.into())
}

#[cfg(test)]
#[path = "tests/json.rs"]
mod tests;
