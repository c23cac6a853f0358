//! Strings and bytes. Positions and sizes of strings count code points, as CEL has it.

use std::fmt::Write as _;
use std::sync::Arc;

use crate::base::value::{Text, Value};
use crate::limits::{EXPRESSION_REGEX_BYTES_MAX, EXPRESSION_TEXT_BYTES_MAX};

use super::{Failure, mismatch};

pub(super) fn concatenate(args: &[&Value]) -> Result<Value, Failure> {
    let [Value::String(a), Value::String(b)] = args else { return Err(mismatch(args)) };
    let mut text = Text::with_capacity(bounded(a.len() + b.len())?);
    text.push_str(a);
    text.push_str(b);
    Ok(Value::String(text))
}

pub(super) fn concatenate_bytes(args: &[&Value]) -> Result<Value, Failure> {
    let [Value::Bytes(a), Value::Bytes(b)] = args else { return Err(mismatch(args)) };
    bounded(a.len() + b.len())?;
    Ok(Value::Bytes(a.iter().chain(b.iter()).copied().collect()))
}

/// Refuses text or bytes longer than one operation may build.
pub(super) fn bounded(bytes: usize) -> Result<usize, Failure> {
    if bytes <= EXPRESSION_TEXT_BYTES_MAX {
        return Ok(bytes);
    }
    Err(Failure::Owned(format!("the text would be {bytes} bytes long; the limit is {EXPRESSION_TEXT_BYTES_MAX}")))
}

pub(super) fn size(args: &[&Value]) -> Result<Value, Failure> {
    match args {
        [Value::String(text)] => Ok(Value::Int(text.chars().count() as i64)),
        [Value::Bytes(bytes)] => Ok(Value::Int(bytes.len() as i64)),
        _ => Err(mismatch(args)),
    }
}

/// For a pattern that is known only at evaluation; a literal one is compiled once, by the checker.
pub(super) fn matches(args: &[&Value]) -> Result<Value, Failure> {
    let (text, pattern) = two(args)?;
    let regex = compile_pattern(pattern).map_err(Failure::Owned)?;
    Ok(Value::Bool(regex.is_match(text)))
}

/// Compiles a pattern of RE2's syntax; matching takes time linear in the text.
pub(in crate::expr) fn compile_pattern(pattern: &str) -> Result<regex::Regex, String> {
    regex::RegexBuilder::new(pattern).size_limit(EXPRESSION_REGEX_BYTES_MAX).build().map_err(|error| {
        if let regex::Error::CompiledTooBig(limit) = error {
            return format!("the pattern compiles to more than {limit} bytes");
        }
        // The last line says what is wrong, those before it draw where.
        let report = error.to_string();
        let reason = report.lines().last().unwrap_or_default().trim_start_matches("error: ");
        format!("`{pattern}` is not a pattern: {reason}")
    })
}

fn two<'a>(args: &[&'a Value]) -> Result<(&'a Text, &'a Text), Failure> {
    if let [Value::String(a), Value::String(b)] = args { Ok((a, b)) } else { Err(mismatch(args)) }
}

fn one<'a>(args: &[&'a Value]) -> Result<&'a Text, Failure> {
    if let [Value::String(text)] = args { Ok(text) } else { Err(mismatch(args)) }
}

pub(super) fn contains(args: &[&Value]) -> Result<Value, Failure> {
    two(args).map(|(text, part)| Value::Bool(text.contains(part.as_str())))
}

pub(super) fn starts_with(args: &[&Value]) -> Result<Value, Failure> {
    two(args).map(|(text, part)| Value::Bool(text.starts_with(part.as_str())))
}

pub(super) fn ends_with(args: &[&Value]) -> Result<Value, Failure> {
    two(args).map(|(text, part)| Value::Bool(text.ends_with(part.as_str())))
}

pub(super) fn lower_ascii(args: &[&Value]) -> Result<Value, Failure> {
    one(args).map(|text| Value::text(text.to_ascii_lowercase()))
}

pub(super) fn upper_ascii(args: &[&Value]) -> Result<Value, Failure> {
    one(args).map(|text| Value::text(text.to_ascii_uppercase()))
}

pub(super) fn trim(args: &[&Value]) -> Result<Value, Failure> {
    one(args).map(|text| Value::text(text.trim()))
}

/// With a limit, at most that many parts, the last with the rest; 0 gives none, a negative limit is no limit.
pub(super) fn split(args: &[&Value]) -> Result<Value, Failure> {
    let (text, separator, limit) = match args {
        [Value::String(text), Value::String(separator)] => (text, separator, -1),
        [Value::String(text), Value::String(separator), Value::Int(limit)] => (text, separator, *limit),
        _ => return Err(mismatch(args)),
    };
    let limit = usize::try_from(limit).unwrap_or(usize::MAX);
    let parts: Vec<Value> = if separator.is_empty() {
        characters(text, limit)
    } else {
        text.splitn(limit, separator.as_str()).map(Value::text).collect()
    };
    Ok(Value::List(parts.into()))
}

/// An empty separator splits between all code points.
fn characters(text: &str, limit: usize) -> Vec<Value> {
    let mut parts = Vec::new();
    let mut rest = text;
    while let Some(first) = rest.chars().next()
        && parts.len() < limit
    {
        let cut = if parts.len() + 1 == limit { rest.len() } else { first.len_utf8() };
        let (part, tail) = rest.split_at(cut);
        parts.push(Value::text(part));
        rest = tail;
    }
    parts
}

pub(super) fn join(args: &[&Value]) -> Result<Value, Failure> {
    let (items, separator) = match args {
        [Value::List(items)] => (items, ""),
        [Value::List(items), Value::String(separator)] => (items, separator.as_str()),
        _ => return Err(mismatch(args)),
    };
    let mut text = Text::default();
    for (index, item) in items.iter().enumerate() {
        let Value::String(item) = item else { return Err(mismatch(&[item])) };
        bounded(text.len() + separator.len() + item.len())?;
        if index > 0 {
            text.push_str(separator);
        }
        text.push_str(item);
    }
    Ok(Value::String(text))
}

/// With a limit, at most that many replacements; a negative limit is no limit.
pub(super) fn replace(args: &[&Value]) -> Result<Value, Failure> {
    let (text, old, new, limit) = match args {
        [Value::String(text), Value::String(old), Value::String(new)] => (text, old, new, -1),
        [Value::String(text), Value::String(old), Value::String(new), Value::Int(limit)] => (text, old, new, *limit),
        _ => return Err(mismatch(args)),
    };
    let limit = usize::try_from(limit).unwrap_or(usize::MAX);
    let mut result = Text::default();
    let mut last = 0;
    for (start, found) in text.match_indices(old.as_str()).take(limit) {
        bounded(result.len() + (start - last) + new.len())?;
        result.push_str(&text[last..start]);
        result.push_str(new);
        last = start + found.len();
    }
    bounded(result.len() + text.len() - last)?;
    result.push_str(&text[last..]);
    Ok(Value::String(result))
}

/// The byte at which a code point stands; the position after the last one counts.
fn byte_at(text: &str, position: i64) -> Result<usize, Failure> {
    let outside = || {
        let size = text.chars().count();
        Failure::Owned(format!("position {position} is outside a string of size {size}"))
    };
    let position = usize::try_from(position).map_err(|_| outside())?;
    text.char_indices().map(|(byte, _)| byte).chain([text.len()]).nth(position).ok_or_else(outside)
}

pub(super) fn substring(args: &[&Value]) -> Result<Value, Failure> {
    let (text, start, end) = match args {
        [Value::String(text), Value::Int(start)] => (text, byte_at(text, *start)?, text.len()),
        [Value::String(text), Value::Int(start), Value::Int(end)] => {
            (text, byte_at(text, *start)?, byte_at(text, *end)?)
        }
        _ => return Err(mismatch(args)),
    };
    match text.get(start..end) {
        Some(part) => Ok(Value::text(part)),
        None => Err("the substring ends before it starts".into()),
    }
}

/// The position after the last code point gives an empty string.
pub(super) fn char_at(args: &[&Value]) -> Result<Value, Failure> {
    let [Value::String(text), Value::Int(position)] = args else { return Err(mismatch(args)) };
    let rest = &text[byte_at(text, *position)?..];
    Ok(Value::text(rest.chars().next().map_or(String::new(), String::from)))
}

/// With a position, the first place from there on; -1 when there is none.
pub(super) fn index_of(args: &[&Value]) -> Result<Value, Failure> {
    let (text, part, start) = match args {
        [Value::String(text), Value::String(part)] => (text, part, 0),
        [Value::String(text), Value::String(part), Value::Int(start)] => (text, part, byte_at(text, *start)?),
        _ => return Err(mismatch(args)),
    };
    let found = text[start..].find(part.as_str()).map(|byte| text[..start + byte].chars().count() as i64);
    Ok(Value::Int(found.unwrap_or(-1)))
}

/// With a position, the last place that does not begin behind it; -1 when there is none.
pub(super) fn last_index_of(args: &[&Value]) -> Result<Value, Failure> {
    let (text, part, last) = match args {
        [Value::String(text), Value::String(part)] => (text, part, text.len()),
        [Value::String(text), Value::String(part), Value::Int(last)] => (text, part, byte_at(text, *last)?),
        _ => return Err(mismatch(args)),
    };
    // No match may end behind this; one that does begins behind `last`.
    let end = text.floor_char_boundary(last + part.len());
    let found = text[..end].rfind(part.as_str()).map(|byte| text[..byte].chars().count() as i64);
    Ok(Value::Int(found.unwrap_or(-1)))
}

pub(super) fn reverse(args: &[&Value]) -> Result<Value, Failure> {
    one(args).map(|text| Value::String(text.chars().rev().collect()))
}

/// As a literal of CEL, in double quotes.
pub(super) fn quote(args: &[&Value]) -> Result<Value, Failure> {
    let text = one(args)?;
    let mut quoted = Text::with_capacity(bounded(2 * text.len() + 2)?);
    quoted.push('"');
    for char in text.chars() {
        let escaped = match char {
            '\x07' => "\\a",
            '\x08' => "\\b",
            '\x0c' => "\\f",
            '\n' => "\\n",
            '\r' => "\\r",
            '\t' => "\\t",
            '\x0b' => "\\v",
            '\\' => "\\\\",
            '"' => "\\\"",
            plain => {
                quoted.push(plain);
                continue;
            }
        };
        quoted.push_str(escaped);
    }
    quoted.push('"');
    Ok(Value::String(quoted))
}

pub(super) fn to_string(args: &[&Value]) -> Result<Value, Failure> {
    let mut text = Text::default();
    let written = match args {
        [Value::Bool(value)] => write!(text, "{value}"),
        [Value::Int(value)] => write!(text, "{value}"),
        [Value::Uint(value)] => write!(text, "{value}"),
        [Value::Double(value)] if value.is_infinite() => write!(text, "{}Inf", if *value > 0.0 { '+' } else { '-' }),
        [Value::Double(value)] => write!(text, "{value}"),
        [Value::Decimal(value)] => write!(text, "{value}"),
        [Value::DateTime(value)] => write!(text, "{value}"),
        [Value::TimeDelta(value)] => write!(text, "{value}"),
        [Value::Bytes(bytes)] => match std::str::from_utf8(bytes) {
            Ok(valid) => write!(text, "{valid}"),
            Err(_) => return Err("the bytes are not UTF-8".into()),
        },
        _ => return Err(mismatch(args)),
    };
    written.map(|()| Value::String(text)).map_err(|_| mismatch(args))
}

pub(super) fn to_bytes(args: &[&Value]) -> Result<Value, Failure> {
    one(args).map(|text| Value::Bytes(Arc::from(text.as_bytes())))
}

pub(super) fn to_bool(args: &[&Value]) -> Result<Value, Failure> {
    let text = one(args)?;
    match text.as_str() {
        "1" | "t" | "true" | "T" | "TRUE" | "True" => Ok(Value::Bool(true)),
        "0" | "f" | "false" | "F" | "FALSE" | "False" => Ok(Value::Bool(false)),
        _ => Err(Failure::Owned(format!("`{text}` is not a bool"))),
    }
}
