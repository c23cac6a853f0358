//! Values to datums.
//!
//! Invariant: what was appended to `out` is a whole datum, or nothing.
//! Not here: registry frames (`frame`), JSON (`json`).

use std::fmt;
use std::sync::Arc;

use thiserror::Error;

use crate::avro::logical::{self, moment_unit, time_unit};
use crate::avro::schema::{EnumNode, Logical, Node, NodeId, RecordNode, Schema, Shape, UnionForm, union_form};
use crate::base::diag::suggestion;
use crate::base::value::{Text, Value};
use crate::error::{Code, Kind, codes};
use crate::limits::DATUM_DEPTH_MAX;

/// Encodes values by one schema. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Encoder {
    schema: Schema,
    /// Symbols with their numbers, ordered by symbol; empty for what is no enum.
    symbols: Arc<[Numbered]>,
}

type Numbered = Box<[(Text, i64)]>;

/// Why a value could not be encoded, and where in it.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub struct EncodeError {
    /// Fields from the outside in: `order.items[3].price`; empty for the whole.
    pub path: String,
    pub message: String,
}

impl fmt::Display for EncodeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.path.is_empty() { f.write_str(&self.message) } else { write!(f, "`{}`: {}", self.path, self.message) }
    }
}

impl EncodeError {
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

impl Encoder {
    /// Prepares a schema.
    pub fn compile(schema: &Schema) -> Self {
        let numbered = |node: &Node| {
            let Shape::Enum(node) = &node.shape else { return Numbered::default() };
            let mut symbols: Vec<_> = (0..).zip(&node.symbols).map(|(index, symbol)| (symbol.clone(), index)).collect();
            symbols.sort();
            symbols.into()
        };
        Self { schema: schema.clone(), symbols: schema.nodes().iter().map(numbered).collect() }
    }

    /// Returns the schema.
    pub fn schema(&self) -> &Schema {
        &self.schema
    }

    /// Appends a record whose field values stand in the schema's order.
    ///
    /// # Errors
    /// The schema is not a record of as many fields, or a value does not fit its field. `out` is as before.
    pub fn encode(&self, slots: &[Value], out: &mut Vec<u8>) -> Result<(), EncodeError> {
        let Shape::Record(record) = &self.schema.root_node().shape else {
            let word = self.schema.root_node().word();
            return Err(EncodeError::new(format!("the schema is `{word}`, not a record")));
        };
        let start = out.len();
        self.record(record, slots, out, 1).inspect_err(|_| out.truncate(start))
    }

    /// Appends one value of the schema's type.
    ///
    /// A union takes `Value::Union` by its branch, and any other value by the first branch that it fits.
    ///
    /// # Errors
    /// The value does not fit. `out` is as before.
    pub fn encode_value(&self, value: &Value, out: &mut Vec<u8>) -> Result<(), EncodeError> {
        let start = out.len();
        self.value(self.schema.root(), value, out, 0).inspect_err(|_| out.truncate(start))
    }

    fn record(&self, record: &RecordNode, slots: &[Value], out: &mut Vec<u8>, depth: usize) -> Result<(), EncodeError> {
        if slots.len() != record.fields.len() {
            let (name, wanted, given) = (&record.named.name, record.fields.len(), slots.len());
            return Err(EncodeError::new(format!("record `{name}` has {wanted} fields, {given} were given")));
        }
        for (field, slot) in record.fields.iter().zip(slots) {
            self.value(field.node, slot, out, depth).map_err(|error| error.within(&field.name))?;
        }
        Ok(())
    }

    fn value(&self, id: NodeId, value: &Value, out: &mut Vec<u8>, depth: usize) -> Result<(), EncodeError> {
        let node = self.schema.node(id);
        match (&node.shape, value) {
            (Shape::Null, Value::Null) => {}
            (Shape::Bool, Value::Bool(truth)) => out.push(u8::from(*truth)),
            (Shape::Int | Shape::Long, _) => write_long(integer(node, value)?, out),
            (Shape::Float, Value::Double(number)) => out.extend_from_slice(&(*number as f32).to_le_bytes()),
            (Shape::Double, Value::Double(number)) => out.extend_from_slice(&number.to_le_bytes()),
            (Shape::String, Value::String(text)) => write_blob(text.as_bytes(), out),
            (Shape::Bytes, _) => bytes(node, value, out)?,
            (Shape::Fixed(fixed), _) => fixed_bytes(node, fixed.size, value, out)?,
            (Shape::Enum(symbols), Value::String(text)) => write_long(self.symbol(id, symbols, text)?, out),
            (Shape::Array(item), Value::List(items)) => {
                let depth = deeper(depth)?;
                write_count(items.len(), out);
                for (index, value) in items.iter().enumerate() {
                    self.value(*item, value, out, depth).map_err(|error| error.within(&format!("[{index}]")))?;
                }
                if !items.is_empty() {
                    out.push(0);
                }
            }
            (Shape::Map(of), Value::Map(entries)) => {
                let depth = deeper(depth)?;
                write_count(entries.len(), out);
                for (key, value) in entries.iter() {
                    let Value::String(key) = key else { return Err(mismatch(key, "a map's key")) };
                    write_blob(key.as_bytes(), out);
                    self.value(*of, value, out, depth).map_err(|error| error.within(&format!("[{key:?}]")))?;
                }
                if !entries.is_empty() {
                    out.push(0);
                }
            }
            (Shape::Record(record), Value::Record(fields)) => self.record(record, fields, out, deeper(depth)?)?,
            (Shape::Union(branches), value) => self.union(branches, value, out, depth)?,
            _ => return Err(mismatch(value, &quoted(node.word()))),
        }
        Ok(())
    }

    fn union(&self, branches: &[NodeId], value: &Value, out: &mut Vec<u8>, depth: usize) -> Result<(), EncodeError> {
        let (branch, inner) = match (union_form(self.schema.nodes(), branches), value) {
            (UnionForm::Optional { null, some }, value) => (if value.is_null() { null } else { some }, value),
            (UnionForm::Single, value) => (0, value),
            (UnionForm::General, Value::Union(tagged)) => (tagged.0 as usize, &tagged.1),
            (UnionForm::General, value) => return self.untagged(branches, value, out, depth),
        };
        let Some(node) = branches.get(branch) else {
            return Err(EncodeError::new(format!("a union of {} has no branch {branch}", branches.len())));
        };
        write_count(branch, out);
        self.value(*node, inner, out, depth)
    }

    /// Writes a value by the first branch that it fits: encoding it is what decides, so it is tried.
    fn untagged(&self, branches: &[NodeId], value: &Value, out: &mut Vec<u8>, depth: usize) -> Result<(), EncodeError> {
        let start = out.len();
        for (index, branch) in branches.iter().enumerate() {
            write_count(index, out);
            if self.value(*branch, value, out, depth).is_ok() {
                return Ok(());
            }
            out.truncate(start);
        }
        let words: Vec<&str> = branches.iter().map(|branch| self.schema.node(*branch).word()).collect();
        Err(mismatch(value, &format!("one of `{}`", words.join("`, `"))))
    }

    fn symbol(&self, id: NodeId, node: &EnumNode, text: &Text) -> Result<i64, EncodeError> {
        let symbols = &self.symbols[id.index()];
        match symbols.binary_search_by(|(symbol, _)| symbol.cmp(text)) {
            Ok(found) => Ok(symbols[found].1),
            Err(_) => {
                let hint = suggestion(text, node.symbols.iter().map(Text::as_str));
                Err(EncodeError::new(format!("enum `{}` has no symbol `{text}`: {hint}", node.named.name)))
            }
        }
    }
}

fn deeper(depth: usize) -> Result<usize, EncodeError> {
    if depth < DATUM_DEPTH_MAX {
        Ok(depth + 1)
    } else {
        Err(EncodeError::new(format!("it is nested more than {DATUM_DEPTH_MAX} deep")))
    }
}

/// The word for a value's kind in messages.
fn kind_word(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "bool",
        Value::Int(_) => "int",
        Value::Uint(_) => "uint",
        Value::Double(_) => "double",
        Value::String(_) => "string",
        Value::Bytes(_) => "bytes",
        Value::DateTime(_) => "timestamp",
        Value::TimeDelta(_) => "duration",
        Value::Decimal(_) => "decimal",
        Value::List(_) => "list",
        Value::Map(_) => "map",
        Value::Record(_) => "record",
        Value::Union(_) => "union",
    }
}

fn mismatch(value: &Value, wanted: &str) -> EncodeError {
    let article = if value.is_null() {
        ""
    } else if value.as_int().is_some() {
        "an "
    } else {
        "a "
    };
    EncodeError::new(format!("{article}{} cannot be written as {wanted}", kind_word(value)))
}

fn quoted(word: &str) -> String {
    format!("`{word}`")
}

fn logical_word(node: &Node) -> &str {
    match node.logical {
        Some(Logical::Date) => "date",
        Some(Logical::TimeMillis | Logical::TimeMicros) => "time of day",
        Some(Logical::Decimal { .. }) => "decimal",
        Some(
            Logical::TimestampMillis
            | Logical::TimestampMicros
            | Logical::TimestampNanos
            | Logical::LocalTimestampMillis
            | Logical::LocalTimestampMicros
            | Logical::LocalTimestampNanos,
        ) => "timestamp",
        Some(Logical::Uuid | Logical::Duration) | None => node.word(),
    }
}

fn integer(node: &Node, value: &Value) -> Result<i64, EncodeError> {
    let number = match (moment_unit(node.logical), time_unit(node.logical), value) {
        (Some(unit), _, Value::DateTime(moment)) => logical::moment_count(*moment, unit),
        (None, Some(unit), Value::TimeDelta(time)) => logical::time_count(*time, unit),
        (None, None, Value::Int(number)) => Some(*number),
        (None, None, Value::Uint(number)) => i64::try_from(*number).ok(),
        _ => return Err(mismatch(value, &quoted(logical_word(node)))),
    };
    let fits = |number: &i64| !matches!(node.shape, Shape::Int) || i32::try_from(*number).is_ok();
    number.filter(fits).ok_or_else(|| {
        let word = if node.logical.is_some() { logical_word(node) } else { node.word() };
        EncodeError::new(format!("{} is out of the range of `{word}`", shown(value)))
    })
}

fn shown(value: &Value) -> String {
    if let Value::Decimal(decimal) = value {
        return decimal.to_string();
    }
    match value {
        Value::Int(number) => number.to_string(),
        Value::Uint(number) => number.to_string(),
        Value::DateTime(moment) => moment.to_string(),
        Value::TimeDelta(time) => time.to_string(),
        Value::Null
        | Value::Bool(_)
        | Value::Double(_)
        | Value::String(_)
        | Value::Bytes(_)
        | Value::Decimal(_)
        | Value::List(_)
        | Value::Map(_)
        | Value::Record(_)
        | Value::Union(_) => kind_word(value).to_owned(),
    }
}

fn unscaled(node: &Node, value: &Value) -> Result<Option<i128>, EncodeError> {
    let Some(Logical::Decimal { precision, scale }) = node.logical else { return Ok(None) };
    let Value::Decimal(decimal) = value else { return Err(mismatch(value, "`decimal`")) };
    let fits = logical::unscaled_at(decimal, precision, scale).ok_or_else(|| {
        EncodeError::new(format!(
            "{decimal} does not fit a decimal of {precision} digits, {scale} of them after the point"
        ))
    })?;
    Ok(Some(fits))
}

fn bytes(node: &Node, value: &Value, out: &mut Vec<u8>) -> Result<(), EncodeError> {
    match (unscaled(node, value)?, value) {
        (Some(number), _) => {
            let (bytes, start) = logical::unscaled_to_bytes(number);
            write_blob(&bytes[start..], out);
        }
        (None, Value::Bytes(bytes)) => write_blob(bytes, out),
        _ => return Err(mismatch(value, &quoted(node.word()))),
    }
    Ok(())
}

fn fixed_bytes(node: &Node, size: usize, value: &Value, out: &mut Vec<u8>) -> Result<(), EncodeError> {
    if let Some(number) = unscaled(node, value)? {
        let (bytes, start) = logical::unscaled_to_bytes(number);
        let digits = &bytes[start..];
        let Some(padding) = size.checked_sub(digits.len()) else {
            return Err(EncodeError::new(format!(
                "{} does not fit the {size} bytes of `{}`",
                shown(value),
                node.word()
            )));
        };
        out.extend(std::iter::repeat_n(if number < 0 { 0xFF } else { 0 }, padding));
        out.extend_from_slice(digits);
        return Ok(());
    }
    match (node.logical, value) {
        (Some(Logical::Uuid), Value::String(text)) => {
            let bytes = logical::uuid_bytes(text);
            out.extend_from_slice(&bytes.ok_or_else(|| EncodeError::new(format!("`{text}` is not a UUID")))?);
        }
        (_, Value::Bytes(bytes)) if bytes.len() == size && node.logical != Some(Logical::Uuid) => {
            out.extend_from_slice(bytes);
        }
        (_, Value::Bytes(bytes)) => {
            let message = format!("{} bytes were given, `{}` has {size}", bytes.len(), node.word());
            return Err(EncodeError::new(message));
        }
        _ => return Err(mismatch(value, &quoted(node.word()))),
    }
    Ok(())
}

fn write_count(count: usize, out: &mut Vec<u8>) {
    write_long(i64::try_from(count).expect("a count of things in memory fits"), out);
}

fn write_blob(bytes: &[u8], out: &mut Vec<u8>) {
    write_count(bytes.len(), out);
    out.extend_from_slice(bytes);
}

/// Appends a variable-length zig-zag number.
pub(crate) fn write_long(number: i64, out: &mut Vec<u8>) {
    let mut rest = ((number << 1) ^ (number >> 63)) as u64;
    while rest >= 0x80 {
        out.push(rest as u8 | 0x80);
        rest >>= 7;
    }
    out.push(rest as u8);
}

#[cfg(test)]
#[path = "tests/encode.rs"]
mod tests;
