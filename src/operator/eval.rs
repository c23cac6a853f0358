//! Runs a node's compiled expressions on a row: lays out the inputs in the order of `plan::roots` and makes only those that
//! the expression needs.

use crate::base::record::Headers;
use crate::base::time::Timestamp;
use crate::base::value::{Text, Value};
use crate::expr::Scratch;
use crate::operator::{Error, RecordContext, Row};
use crate::plan::{Expression, KeyFormat};

/// Reusable space for evaluations; one per task.
#[derive(Debug, Default)]
pub struct Evaluator {
    scratch: Scratch,
    /// One value, or the fields of a record.
    key: Vec<Value>,
    meta: [Value; 5],
    headers: [Value; 1],
    window: [Value; 2],
}

impl Evaluator {
    /// Evaluates `expression` on `row`, with `other` as the second row (`state`, `right`).
    ///
    /// # Errors
    /// Whatever the expression runs into (overflow, division by zero, …), as an error of the record.
    pub fn eval(
        &mut self,
        expression: &Expression,
        row: &Row<'_>,
        other: &[Value],
        context: &RecordContext,
    ) -> Result<Value, Error> {
        self.lay_out(expression, row, context)?;
        let roots = [row.slots.unwrap_or(&[]), other, &self.key, &self.meta, &self.headers, &self.window];
        expression
            .program
            .eval(&roots, &mut self.scratch)
            .map_err(|error| Error::Record { message: format!("`{}`: {error}", expression.text) })
    }

    /// Evaluates a predicate.
    ///
    /// # Errors
    /// As [`Evaluator::eval`].
    pub fn test(&mut self, expression: &Expression, row: &Row<'_>, context: &RecordContext) -> Result<bool, Error> {
        self.lay_out(expression, row, context)?;
        let roots = [row.slots.unwrap_or(&[]), &[], &self.key, &self.meta, &self.headers, &self.window];
        expression
            .program
            .eval_bool(&roots, &mut self.scratch)
            .map_err(|error| Error::Record { message: format!("`{}`: {error}", expression.text) })
    }

    fn lay_out(&mut self, expression: &Expression, row: &Row<'_>, context: &RecordContext) -> Result<(), Error> {
        let needs = expression.needs;
        if needs.key {
            self.key.clear();
            match (key_value(row.key, row.key_format)?, row.key_format) {
                (Value::Record(fields), _) => self.key.extend_from_slice(&fields),
                (_, KeyFormat::Record(datums)) => self.key.resize(datums.schema().fields().len(), Value::Null),
                (key, KeyFormat::String | KeyFormat::Long | KeyFormat::Bytes) => self.key.push(key),
            }
        }
        if needs.meta {
            self.meta = [
                Value::text(context.topic.as_str()),
                Value::Int(i64::from(context.partition.0)),
                Value::Int(context.offset.0),
                Value::DateTime(context.timestamp.to_date_time()),
                Value::String(context.type_name.clone()),
            ];
        }
        if needs.headers {
            self.headers = [header_map(&context.headers)];
        }
        if needs.window {
            let moment = |time: Timestamp| Value::DateTime(time.to_date_time());
            self.window = row.window.map_or_else(Default::default, |window| [moment(window.start), moment(window.end)]);
        }
        Ok(())
    }
}

/// Decodes key bytes for `key` in expressions and answers.
///
/// # Errors
/// Bytes that are not what the format says.
pub(crate) fn key_value(key: Option<&[u8]>, format: &KeyFormat) -> Result<Value, Error> {
    let Some(bytes) = key else { return Ok(Value::Null) };
    match format {
        KeyFormat::String => std::str::from_utf8(bytes)
            .map(Value::text)
            .map_err(|_| Error::Record { message: "the key is not UTF-8, but `key_format` is `string`".to_owned() }),
        KeyFormat::Long => {
            <[u8; 8]>::try_from(bytes).map(|bytes| Value::Int(i64::from_be_bytes(bytes))).map_err(|_| Error::Record {
                message: format!("the key has {} bytes, but `key_format` `long` takes 8", bytes.len()),
            })
        }
        KeyFormat::Bytes => Ok(Value::Bytes(bytes.into())),
        KeyFormat::Record(datums) => datums
            .decode(bytes)
            .map_err(|error| Error::Record { message: format!("the key is no `{}`: {error}", format.name()) }),
    }
}

/// Encodes a key made by an expression.
///
/// # Errors
/// A value of another kind than the format takes; null has no encoding.
pub(crate) fn key_bytes(value: &Value, format: &KeyFormat, out: &mut Vec<u8>) -> Result<(), Error> {
    out.clear();
    match (format, value) {
        (KeyFormat::String, Value::String(text)) => out.extend_from_slice(text.as_bytes()),
        (KeyFormat::Long, Value::Int(number)) => out.extend_from_slice(&number.to_be_bytes()),
        (KeyFormat::Bytes, Value::Bytes(bytes)) => out.extend_from_slice(bytes),
        (KeyFormat::Record(datums), Value::Record(_)) => datums
            .encode(value, out)
            .map_err(|error| Error::Record { message: format!("the key is no `{}`: {error}", format.name()) })?,
        _ => {
            return Err(Error::Record {
                message: format!("a key of {value:?} does not fit the key format `{}`", format.name()),
            });
        }
    }
    Ok(())
}

fn header_map(headers: &Headers) -> Value {
    let mut entries: Vec<(Value, Value)> = Vec::new();
    for header in headers.iter() {
        let Some(text) = header.value.as_ref().and_then(|bytes| std::str::from_utf8(bytes).ok()) else { continue };
        let (name, value) = (Value::String(header.name.clone()), Value::String(Text::new(text)));
        match entries.binary_search_by(|(known, _)| known.order(&name)) {
            Ok(at) => entries[at].1 = value,
            Err(at) => entries.insert(at, (name, value)),
        }
    }
    Value::Map(entries.into())
}
