//! `format`: `%s`, `%d`, `%f`, `%e`, `%b`, `%o`, `%x` and `%X` as CEL's strings extension has them, exact for decimals.

use std::fmt::Write as _;

use crate::base::types::Type;
use crate::base::value::{Decimal, Text, Value};
use crate::expr::types::{Arity, Overload, Shape, Style};

use super::number::{Rounding, rescaled};
use super::text::bounded;
use super::{Failure, kind_name, mismatch, text};

/// `template.format([items])` where the items stand in the call: template, then items, whatever their types.
pub(in crate::expr) static FORMAT_ITEMS: Overload = Overload {
    name: "format",
    style: Style::Method,
    params: &[Shape::String, Shape::T],
    arity: Arity::Repeated,
    result: Shape::String,
    run: with_items,
};

/// Digits behind the point when the clause says none.
const PRECISION_DEFAULT: u32 = 6;
/// A double has no more digits than this behind its point that are not zero.
const PRECISION_MAX: u32 = 1074;

/// Why a template does not work, and for which item if for one.
#[derive(Debug)]
pub(in crate::expr) struct TemplateProblem {
    pub item: Option<usize>,
    pub message: String,
}

/// A part of a template.
enum Piece<'t> {
    Plain(&'t str),
    /// The letter, and the digits behind the point.
    Clause(char, u32),
}

fn pieces(template: &str) -> impl Iterator<Item = Result<Piece<'_>, String>> {
    let mut rest = template;
    std::iter::from_fn(move || {
        if rest.is_empty() {
            return None;
        }
        let (piece, length) = match rest.strip_prefix('%') {
            None => {
                let length = rest.find('%').unwrap_or(rest.len());
                (Ok(Piece::Plain(&rest[..length])), length)
            }
            Some(after) if after.starts_with('%') => (Ok(Piece::Plain("%")), 2),
            Some(after) => clause(after),
        };
        rest = &rest[length..];
        Some(piece)
    })
}

/// Reads `.3f` behind a percent sign; the length counts that sign.
fn clause(after: &str) -> (Result<Piece<'static>, String>, usize) {
    let digits = after
        .strip_prefix('.')
        .map(|digits| digits.len() - digits.trim_start_matches(|c: char| c.is_ascii_digit()).len());
    let head = digits.map_or(0, |digits| digits + 1);
    let letter = after[head..].chars().next();
    let length = 1 + head + letter.map_or(0, char::len_utf8);
    let precision = match digits {
        None => Some(PRECISION_DEFAULT),
        Some(_) => after[1..head].parse().ok().filter(|precision| *precision <= PRECISION_MAX),
    };
    let known = letter.is_some_and(|letter| "sdfebxXo".contains(letter));
    let bare = head == 0 || matches!(letter, Some('f' | 'e'));
    let piece = match (letter, precision) {
        (Some(letter), Some(precision)) if known && bare => Ok(Piece::Clause(letter, precision)),
        _ => Err(format!("`%{}` is not a clause of `format`", &after[..length - 1])),
    };
    (piece, length)
}

/// Checks a template that is literal against the types of its items.
///
/// # Errors
/// The first clause that is none, that has no item, or that does not take its item's type.
pub(in crate::expr) fn check_template(template: &str, items: &[&Type]) -> Result<(), TemplateProblem> {
    let mut next = 0;
    for piece in pieces(template) {
        let piece = piece.map_err(|message| TemplateProblem { item: None, message })?;
        let Piece::Clause(letter, _) = piece else { continue };
        let Some(item) = items.get(next) else {
            let message = format!("the template has more clauses than there are items: {}", items.len());
            return Err(TemplateProblem { item: None, message });
        };
        if !takes(letter, item) {
            return Err(TemplateProblem { item: Some(next), message: format!("`%{letter}` does not take {item}") });
        }
        next += 1;
    }
    Ok(())
}

fn takes(letter: char, item: &Type) -> bool {
    let number = matches!(item, Type::Int | Type::Uint | Type::Double | Type::Decimal { .. });
    let whole = matches!(item, Type::Int | Type::Uint);
    match letter {
        's' => !matches!(item, Type::Record(_) | Type::Union(_)),
        'd' | 'f' | 'e' => number,
        'b' => whole || *item == Type::Bool,
        'o' => whole,
        _ => whole || matches!(item, Type::String | Type::Enum(_) | Type::Bytes),
    }
}

fn with_items(args: &[&Value]) -> Result<Value, Failure> {
    let Some((Value::String(template), items)) = args.split_first() else { return Err(mismatch(args)) };
    formatted(template, items)
}

/// For a list that is a value of its own.
pub(super) fn with_list(args: &[&Value]) -> Result<Value, Failure> {
    let [Value::String(template), Value::List(items)] = args else { return Err(mismatch(args)) };
    formatted(template, &items.iter().collect::<Vec<_>>())
}

fn formatted(template: &str, items: &[&Value]) -> Result<Value, Failure> {
    let mut items = items.iter();
    let mut out = Text::default();
    for piece in pieces(template) {
        match piece.map_err(Failure::Owned)? {
            Piece::Plain(plain) => out.push_str(plain),
            Piece::Clause(letter, precision) => {
                let Some(item) = items.next() else {
                    return Err("the template has more clauses than there are items".into());
                };
                write_clause(letter, precision, item, &mut out)?;
            }
        }
        bounded(out.len())?;
    }
    Ok(Value::String(out))
}

fn write_clause(letter: char, precision: u32, item: &Value, out: &mut Text) -> Result<(), Failure> {
    let refused = || Failure::Owned(format!("`%{letter}` does not take {}", kind_name(item)));
    match (letter, item) {
        ('s', item) => return write_any(item, out),
        ('d' | 'f' | 'e', Value::Double(number)) if !number.is_finite() => write_double(*number, out),
        ('d', Value::Int(_) | Value::Uint(_) | Value::Double(_) | Value::Decimal(_)) => return write_any(item, out),
        ('f', Value::Decimal(decimal)) => {
            let rounded = rescaled(**decimal, precision, Rounding::HalfEven).ok_or_else(refused)?;
            put(out, format_args!("{rounded}"));
        }
        ('f', Value::Int(_) | Value::Uint(_)) => {
            put(out, format_args!("{:.*}", precision as usize, whole(item).unwrap_or_default() as f64));
        }
        ('f', Value::Double(number)) => put(out, format_args!("{number:.*}", precision as usize)),
        ('e', Value::Int(_) | Value::Uint(_)) => {
            write_scientific(whole(item).unwrap_or_default() as f64, precision, out)
        }
        ('e', Value::Double(number)) => write_scientific(*number, precision, out),
        ('e', Value::Decimal(decimal)) => write_scientific(approximate(**decimal), precision, out),
        ('b', Value::Bool(bit)) => put(out, format_args!("{}", u8::from(*bit))),
        ('b' | 'o' | 'x' | 'X', Value::Int(_) | Value::Uint(_)) => {
            let number = whole(item).unwrap_or_default();
            let sign = if number < 0 { "-" } else { "" };
            let size = number.unsigned_abs();
            match letter {
                'b' => put(out, format_args!("{sign}{size:b}")),
                'o' => put(out, format_args!("{sign}{size:o}")),
                'x' => put(out, format_args!("{sign}{size:x}")),
                _ => put(out, format_args!("{sign}{size:X}")),
            }
        }
        ('x' | 'X', Value::String(text)) => write_hexadecimal(text.as_bytes(), letter, out)?,
        ('x' | 'X', Value::Bytes(bytes)) => write_hexadecimal(bytes, letter, out)?,
        _ => return Err(refused()),
    }
    Ok(())
}

fn put(out: &mut Text, written: std::fmt::Arguments<'_>) {
    out.write_fmt(written).expect("text takes whatever is written to it");
}

#[expect(clippy::wildcard_enum_match_arm, reason = "no other value is a whole number")]
fn whole(value: &Value) -> Option<i128> {
    match value {
        Value::Int(number) => Some(i128::from(*number)),
        Value::Uint(number) => Some(i128::from(*number)),
        _ => None,
    }
}

fn approximate(decimal: Decimal) -> f64 {
    decimal.to_string().parse().unwrap_or(f64::NAN)
}

fn write_hexadecimal(bytes: &[u8], letter: char, out: &mut Text) -> Result<(), Failure> {
    bounded(out.len() + 2 * bytes.len())?;
    for byte in bytes {
        if letter == 'x' { put(out, format_args!("{byte:02x}")) } else { put(out, format_args!("{byte:02X}")) }
    }
    Ok(())
}

/// With a sign and two digits at least in the exponent, as C has it.
fn write_scientific(number: f64, precision: u32, out: &mut Text) {
    let written = format!("{number:.*e}", precision as usize);
    let (digits, exponent) = written.split_once('e').unwrap_or((&written, "0"));
    let (sign, exponent) = exponent.strip_prefix('-').map_or(('+', exponent), |exponent| ('-', exponent));
    put(out, format_args!("{digits}e{sign}{exponent:0>2}"));
}

fn write_double(number: f64, out: &mut Text) {
    if number.is_infinite() {
        out.push_str(if number > 0.0 { "Infinity" } else { "-Infinity" });
    } else {
        put(out, format_args!("{number}"));
    }
}

/// What `%s` writes; lists and maps by their items.
fn write_any(value: &Value, out: &mut Text) -> Result<(), Failure> {
    match value {
        Value::Null => out.push_str("null"),
        Value::String(text) => out.push_str(text),
        Value::Double(number) => write_double(*number, out),
        Value::List(items) => {
            out.push('[');
            for (index, item) in items.iter().enumerate() {
                out.push_str(if index == 0 { "" } else { ", " });
                write_any(item, out)?;
            }
            out.push(']');
        }
        Value::Map(entries) => {
            out.push('{');
            for (index, (key, item)) in entries.iter().enumerate() {
                out.push_str(if index == 0 { "" } else { ", " });
                write_any(key, out)?;
                out.push_str(": ");
                write_any(item, out)?;
            }
            out.push('}');
        }
        Value::Bool(_)
        | Value::Int(_)
        | Value::Uint(_)
        | Value::Bytes(_)
        | Value::DateTime(_)
        | Value::TimeDelta(_)
        | Value::Decimal(_)
        | Value::Record(_)
        | Value::Union(_) => {
            if let Value::String(text) = text::to_string(&[value])? {
                out.push_str(&text);
            }
        }
    }
    bounded(out.len()).map(drop)
}
