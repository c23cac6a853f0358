//! How types meet: unification, what fits where, and the choice among a function's overloads.
//!
//! The type of the items of `[]` and of what `optional.none()` might hold is the empty union: it fits everywhere.

use std::borrow::Cow;
use std::sync::Arc;

use crate::base::types::Type;
use crate::base::value::Value;

/// Why an evaluation failed, before it is known where.
pub(super) type Failure = Cow<'static, str>;

/// What runs an overload; the arguments have the types that the overload declares.
pub(super) type Run = fn(&[&Value]) -> Result<Value, Failure>;

/// A type in an overload's signature.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Shape {
    Bool,
    Int,
    Uint,
    Double,
    /// An enum's symbols are strings too.
    String,
    Bytes,
    DateTime,
    TimeDelta,
    Decimal,
    /// Any type, the same throughout the signature.
    T,
    List(&'static Shape),
    Map(&'static Shape),
    /// Null for absence.
    Optional(&'static Shape),
    /// As a result: a decimal wide enough for the sum of two decimals (or integers).
    Sum,
    /// As a result: a decimal wide enough for the product of two decimals (or integers).
    Product,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Style {
    Operator,
    /// `name(args)`.
    Global,
    /// `args[0].name(args[1..])`.
    Method,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Arity {
    Exact,
    /// The last parameter may be given any number of times, once at least.
    Repeated,
}

/// One signature of a built-in function and what runs it.
#[derive(Debug)]
pub(super) struct Overload {
    pub name: &'static str,
    pub style: Style,
    pub params: &'static [Shape],
    pub arity: Arity,
    pub result: Shape,
    pub run: Run,
}

/// The type of the items of an empty list.
pub(super) fn nothing() -> Type {
    Type::Union(Arc::from([]))
}

pub(super) fn is_nothing(of: &Type) -> bool {
    matches!(of, Type::Union(branches) if branches.is_empty())
}

/// Returns the type that has the values of both, if there is one.
pub(super) fn unify(a: &Type, b: &Type) -> Option<Type> {
    if a == b || is_nothing(b) {
        return Some(a.clone());
    }
    if is_nothing(a) {
        return Some(b.clone());
    }
    match (a, b) {
        (Type::Null, other) | (other, Type::Null) => Some(other.clone().optional()),
        (Type::Optional(_), _) | (_, Type::Optional(_)) => Some(unify(a.required(), b.required())?.optional()),
        (Type::Enum(_), Type::String | Type::Enum(_)) | (Type::String, Type::Enum(_)) => Some(Type::String),
        (Type::List(a), Type::List(b)) => Some(Type::List(Arc::new(unify(a, b)?))),
        (Type::Map(a), Type::Map(b)) => Some(Type::Map(Arc::new(unify(a, b)?))),
        (Type::Decimal { precision: p, scale: s }, Type::Decimal { precision: q, scale: t }) => {
            let scale = *s.max(t);
            Some(decimal(p.saturating_sub(*s).max(q.saturating_sub(*t)) + scale, scale))
        }
        _ => None,
    }
}

/// Tells whether every value of `from` may stand where `to` is wanted, without a conversion.
///
/// An enum fits a string; a type fits its optional; lists and maps go by what they hold; a decimal fits a wider one of the
/// same scale.
pub fn fits(from: &Type, to: &Type) -> bool {
    if from == to || is_nothing(from) {
        return true;
    }
    match (from, to) {
        (Type::Null, to) => to.allows_null(),
        (from, Type::Optional(to)) => fits(from.required(), to),
        (Type::Enum(_), Type::String) => true,
        (Type::List(from), Type::List(to)) | (Type::Map(from), Type::Map(to)) => fits(from, to),
        (Type::Decimal { precision: p, scale: s }, Type::Decimal { precision: q, scale: t }) => s == t && p <= q,
        _ => false,
    }
}

/// The most digits an `i128` surely holds.
pub(super) const DECIMAL_DIGITS_MAX: u32 = 38;

fn decimal(precision: u32, scale: u32) -> Type {
    Type::Decimal { precision: precision.min(DECIMAL_DIGITS_MAX), scale }
}

/// Precision and scale of a decimal, or of an integer taken as one.
fn digits(of: &Type) -> (u32, u32) {
    if let Type::Decimal { precision, scale } = of {
        (*precision, *scale)
    } else {
        (if *of == Type::Uint { 20 } else { 19 }, 0)
    }
}

/// Tells whether the type is a number that compares with every other such number.
pub(super) fn is_plain_number(of: &Type) -> bool {
    matches!(of, Type::Int | Type::Uint | Type::Double)
}

impl Shape {
    fn accepts(self, given: &Type, t: &mut Type) -> bool {
        match (self, given) {
            (Self::Bool, Type::Bool)
            | (Self::Int, Type::Int)
            | (Self::Uint, Type::Uint)
            | (Self::Double, Type::Double)
            | (Self::String, Type::String | Type::Enum(_))
            | (Self::Bytes, Type::Bytes)
            | (Self::DateTime, Type::DateTime)
            | (Self::TimeDelta, Type::TimeDelta)
            | (Self::Decimal, Type::Decimal { .. }) => true,
            (Self::List(item), Type::List(given)) | (Self::Map(item), Type::Map(given)) => item.accepts(given, t),
            (Self::T, given) => match unify(t, given) {
                Some(both) => {
                    *t = both;
                    true
                }
                None => false,
            },
            (_, given) => is_nothing(given),
        }
    }

    fn result(self, args: &[Type], t: &Type) -> Type {
        match self {
            Self::Bool => Type::Bool,
            Self::Int => Type::Int,
            Self::Uint => Type::Uint,
            Self::Double => Type::Double,
            Self::String => Type::String,
            Self::Bytes => Type::Bytes,
            Self::DateTime => Type::DateTime,
            Self::TimeDelta => Type::TimeDelta,
            Self::Decimal => args.first().cloned().unwrap_or(Type::Null),
            Self::T => t.clone(),
            Self::List(item) => Type::List(Arc::new(item.result(args, t))),
            Self::Map(value) => Type::Map(Arc::new(value.result(args, t))),
            Self::Optional(inner) => inner.result(args, t).optional(),
            Self::Sum => {
                let scale = args.iter().map(|arg| digits(arg).1).max().unwrap_or(0);
                let whole = args.iter().map(|arg| digits(arg).0.saturating_sub(digits(arg).1)).max().unwrap_or(0);
                decimal(whole + 1 + scale, scale)
            }
            Self::Product => {
                decimal(args.iter().map(|arg| digits(arg).0).sum(), args.iter().map(|arg| digits(arg).1).sum())
            }
        }
    }
}

impl std::fmt::Display for Shape {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Bool => f.write_str("bool"),
            Self::Int => f.write_str("int"),
            Self::Uint => f.write_str("uint"),
            Self::Double => f.write_str("double"),
            Self::String => f.write_str("string"),
            Self::Bytes => f.write_str("bytes"),
            Self::DateTime => f.write_str("timestamp"),
            Self::TimeDelta => f.write_str("duration"),
            Self::Decimal | Self::Sum | Self::Product => f.write_str("decimal"),
            Self::T => f.write_str("T"),
            Self::List(item) => write!(f, "list({item})"),
            Self::Map(value) => write!(f, "map(string, {value})"),
            Self::Optional(inner) => write!(f, "optional({inner})"),
        }
    }
}

impl Overload {
    /// Returns the type of the result when the arguments fit.
    pub(super) fn apply(&self, args: &[Type]) -> Option<Type> {
        let enough = match self.arity {
            Arity::Exact => args.len() == self.params.len(),
            Arity::Repeated => args.len() >= self.params.len(),
        };
        if !enough {
            return None;
        }
        let mut t = nothing();
        let last = self.params.last()?;
        let fit =
            args.iter().enumerate().all(|(index, arg)| self.params.get(index).unwrap_or(last).accepts(arg, &mut t));
        fit.then(|| self.result.result(args, &t))
    }

    /// Tells whether the function goes through its arguments: how long it takes hangs on how long they are.
    pub(super) fn scans(&self) -> bool {
        let long =
            |shape: &Shape| matches!(shape, Shape::String | Shape::Bytes | Shape::List(_) | Shape::Map(_) | Shape::T);
        let looks_up = matches!(self.name, "[]" | "[?]" | "first" | "last");
        let counts = self.name == "size" && matches!(self.params, [Shape::List(_) | Shape::Map(_)]);
        self.params.iter().any(long) && !looks_up && !counts
    }

    /// Returns the signature as a user would call it.
    pub(super) fn signature(&self) -> String {
        let mut params: Vec<String> = self.params.iter().map(Shape::to_string).collect();
        if self.arity == Arity::Repeated {
            params.push("…".to_owned());
        }
        match (self.style, params.as_slice()) {
            (Style::Operator, [base, index]) if self.name.starts_with('[') => {
                format!("{base}{}{index}]", self.name.trim_end_matches(']'))
            }
            (Style::Operator, [only]) => format!("{}{only}", self.name),
            (Style::Operator, [left, right]) => format!("{left} {} {right}", self.name),
            (Style::Method, [target, rest @ ..]) => format!("{target}.{}({})", self.name, rest.join(", ")),
            (Style::Global | Style::Operator | Style::Method, _) => format!("{}({})", self.name, params.join(", ")),
        }
    }
}
