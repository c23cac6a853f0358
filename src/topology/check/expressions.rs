//! Expressions in their places: what names they may use, once for each type of row that they meet, and the findings put where
//! the text stands in its file.

use std::sync::Arc;

use super::super::graph::{ByVariant, Expression, Rows, Variant};
use super::super::spec::ExpressionText;
use super::super::terms::{KeyFormat, roots};
use super::{Checker, text_place};
use crate::avro::{Datums, Schema};
use crate::base::diag::Diagnostic;
use crate::base::types::{Field, RecordType, Type};
use crate::base::value::Text;
use crate::error::codes;
use crate::expr::{self, Checked, Env};

/// The names that an expression may use besides the row's own.
#[derive(Clone, Debug)]
pub(super) struct Scope {
    row: &'static str,
    other: Option<(&'static str, Type)>,
    /// The second row is there, whatever its type says.
    other_present: bool,
    key: KeyFormat,
    windowed: bool,
}

impl Scope {
    /// The input's row by this name, its key, its window if it has one.
    pub(super) fn row(name: &'static str, rows: &Rows) -> Self {
        Self { row: name, other: None, other_present: false, key: rows.key.clone(), windowed: rows.windowed.is_some() }
    }

    /// Adds a second row.
    pub(super) fn with(self, name: &'static str, row: Type) -> Self {
        Self { other: Some((name, row)), ..self }
    }

    /// What is checked from here on comes behind a test that the second row is there.
    pub(super) fn other_present(self) -> Self {
        Self { other_present: true, ..self }
    }

    /// Another key and no window: what is left behind a repartition.
    pub(super) fn rekeyed(self, key: KeyFormat) -> Self {
        Self { key, windowed: false, ..self }
    }

    /// The roots in the order of [`roots`]; those that are not there have a name that no expression can write.
    fn env(&self, variant: &Variant) -> Env {
        let nothing = || Type::Record(RecordType::new("", Vec::new()));
        let (other, other_type) =
            self.other.as_ref().map_or_else(|| ("", nothing()), |(name, row)| (*name, row.clone()));
        let (window, window_type) = if self.windowed { ("window", window_type()) } else { ("", nothing()) };
        let env = Env::new()
            .root(self.row, variant.row_type())
            .root(other, other_type)
            .root("key", self.key.key_type())
            .root("meta", meta_type())
            .root("headers", Type::Map(Arc::new(Type::String)))
            .root(window, window_type);
        debug_assert_eq!(env.roots().count(), roots::COUNT);
        if self.other_present { env.present(roots::OTHER) } else { env }
    }
}

fn record(name: &str, fields: Vec<(&str, Type)>) -> Type {
    let fields = fields.into_iter().map(|(name, field_type)| Field { name: Text::new(name), field_type });
    Type::Record(RecordType::new(name, fields.collect()))
}

fn window_type() -> Type {
    record("window", vec![("start", Type::DateTime), ("end", Type::DateTime)])
}

fn meta_type() -> Type {
    let types = [Type::String, Type::Int, Type::Int, Type::DateTime, Type::String];
    record("meta", roots::META_FIELDS.into_iter().zip(types).collect())
}

/// What kinds of value a place takes.
#[derive(Debug)]
pub(super) struct Wanted {
    role: &'static str,
    accepts: fn(&Type) -> bool,
    help: &'static str,
}

/// A record's own time.
pub(super) const TIMESTAMP: Wanted = Wanted {
    role: "`timestamp` wants a timestamp, or an int of milliseconds",
    accepts: |given| matches!(given, Type::DateTime | Type::Int),
    help: "every record needs a time: for a field that may be null write `value.x.orValue(meta.timestamp)`",
};

/// A key.
pub(super) const KEY: Wanted = Wanted {
    role: "a key is a string, an int, bytes or a record",
    accepts: |given| matches!(given, Type::String | Type::Enum(_) | Type::Int | Type::Bytes | Type::Record(_)),
    help: "convert it, `string(…)`; for a field that may be null give the key of those rows: `value.x.orValue(\"\")`",
};

/// What is flattened.
pub(super) const LIST: Wanted = Wanted {
    role: "`flatten` wants a list",
    accepts: |given| matches!(given, Type::List(_)),
    help: "each element becomes a row; for a field that may be null write `value.x.orValue([])`",
};

/// The key of another row; null refers to none.
pub(super) const REFERENCE: Wanted = Wanted {
    role: "the key of another row is a string, an int, bytes or a record, or null",
    accepts: |given| (KEY.accepts)(present(given)),
    help: "convert it: `string(…)`",
};

/// Returns what a value is where it is not null.
pub(super) fn present(given: &Type) -> &Type {
    if let Type::Optional(inner) = given { inner } else { given }
}

/// Anything that a field may hold.
pub(super) const ANY: Wanted = Wanted { role: "", accepts: |_| true, help: "" };

/// Returns the format of keys of this type.
///
/// # Errors
/// A record with a field that Avro has no type for.
pub(super) fn key_format(key: &Type) -> Result<KeyFormat, String> {
    Ok(match key {
        Type::Int => KeyFormat::Long,
        Type::Bytes => KeyFormat::Bytes,
        Type::Record(record) => {
            let fields: Vec<(Text, Type)> =
                record.fields().iter().map(|field| (field.name.clone(), field.field_type.clone())).collect();
            let schema = Schema::record_of(&record.name, &fields).map_err(|error| error.to_string())?;
            KeyFormat::Record(Datums::new(schema).map_err(|error| error.to_string())?)
        }
        Type::Null
        | Type::Bool
        | Type::Uint
        | Type::Double
        | Type::String
        | Type::DateTime
        | Type::TimeDelta
        | Type::Decimal { .. }
        | Type::Enum(_)
        | Type::List(_)
        | Type::Map(_)
        | Type::Optional(_)
        | Type::Union(_) => KeyFormat::String,
    })
}

/// Which variants take part, all or some.
#[derive(Debug)]
pub(super) struct Taking<'v> {
    variants: &'v [Variant],
    taking: Vec<bool>,
}

/// All of them.
pub(super) fn all(variants: &[Variant]) -> Taking<'_> {
    Taking { variants, taking: vec![true; variants.len()] }
}

/// Those at these indices.
pub(super) fn some<'v>(variants: &'v [Variant], indices: &[usize]) -> Taking<'v> {
    Taking { variants, taking: (0..variants.len()).map(|index| indices.contains(&index)).collect() }
}

impl<'v> Taking<'v> {
    fn iter(&self) -> impl Iterator<Item = (usize, &'v Variant)> + '_ {
        self.variants.iter().enumerate().filter(|(index, _)| self.taking[*index])
    }

    /// Calls `make` for each variant that takes part.
    pub(super) fn map<T>(&self, mut make: impl FnMut(usize, &'v Variant) -> T) -> ByVariant<T> {
        let mut made: ByVariant<T> = self.variants.iter().map(|_| None).collect();
        for (index, variant) in self.iter() {
            made[index] = Some(make(index, variant));
        }
        made
    }
}

impl Checker<'_> {
    /// Checks an expression against each variant that takes part; the value may be of any kind that `wanted` accepts.
    pub(super) fn expression_of_kind(
        &self,
        text: &ExpressionText,
        taking: &Taking<'_>,
        scope: &Scope,
        wanted: &Wanted,
    ) -> Option<ByVariant<Expression>> {
        let whole = crate::base::diag::Span::new(0, text.text.len());
        self.each(text, taking, |variant| {
            let checked = expr::check(&text.text, &scope.env(variant))?;
            if (wanted.accepts)(checked.value_type()) {
                return Ok(checked);
            }
            let message = format!("{}, not {}", wanted.role, checked.value_type());
            Err(vec![
                Diagnostic::error(codes::EXPRESSION_WRONG_TYPE, whole, message)
                    .label(format!("this is {}", checked.value_type()))
                    .help(wanted.help),
            ])
        })
    }

    /// Checks an expression whose value must fit one type.
    pub(super) fn expression_as(
        &self,
        text: &ExpressionText,
        taking: &Taking<'_>,
        scope: &Scope,
        wanted: &Type,
    ) -> Option<ByVariant<Expression>> {
        self.each(text, taking, |variant| expr::check_as(&text.text, &scope.env(variant), wanted))
    }

    /// Checks text that was put together from texts that were checked before.
    pub(super) fn composed(
        &self,
        text: &ExpressionText,
        taking: &Taking<'_>,
        scope: &Scope,
    ) -> Option<ByVariant<Expression>> {
        let start = None;
        self.each(&ExpressionText { start, ..text.clone() }, taking, |variant| {
            expr::check_as(&text.text, &scope.env(variant), &Type::Bool)
        })
    }

    /// An expression for a field passed on unchanged.
    pub(super) fn passed_on(
        &self,
        row: &'static str,
        field: &str,
        rows: &Rows,
        variant: &Variant,
    ) -> Option<Expression> {
        let text = format!("{row}.{field}");
        let checked = expr::check(&text, &Scope::row(row, rows).env(variant)).ok()?;
        Some(Expression { text: Arc::from(text), checked: Arc::new(checked) })
    }

    fn each(
        &self,
        text: &ExpressionText,
        taking: &Taking<'_>,
        check: impl Fn(&Variant) -> Result<Checked, Vec<Diagnostic>>,
    ) -> Option<ByVariant<Expression>> {
        let written: Arc<str> = Arc::from(text.text.as_str());
        let mut failures: Vec<(&Variant, Diagnostic)> = Vec::new();
        let mut checked_variants = 0;
        let made = taking.map(|_, variant| {
            checked_variants += 1;
            match check(variant) {
                Ok(checked) => Some(Expression { text: Arc::clone(&written), checked: Arc::new(checked) }),
                Err(problems) => {
                    failures.extend(problems.into_iter().map(|problem| (variant, problem)));
                    None
                }
            }
        });
        if failures.is_empty() {
            return Some(made.into_iter().map(Option::flatten).collect());
        }
        self.report_failures(text, failures, checked_variants);
        None
    }

    /// Reports findings in the text of an expression: once where all types of row have them, else with the types' names.
    fn report_failures(&self, text: &ExpressionText, failures: Vec<(&Variant, Diagnostic)>, variants: usize) {
        let mut told: Vec<(Diagnostic, Vec<&str>)> = Vec::new();
        for (variant, problem) in failures {
            match told.iter_mut().find(|(known, _)| *known == problem) {
                Some((_, names)) => names.push(variant.short_name()),
                None => told.push((problem, vec![variant.short_name()])),
            }
        }
        for (mut problem, names) in told {
            if names.len() < variants {
                problem.message = format!("{}, for event type `{}`", problem.message, names.join("`, `"));
            }
            self.report_in_text(text, problem);
        }
    }

    /// Puts a finding in an expression's text where that text stands in its file.
    pub(super) fn report_in_text(&self, text: &ExpressionText, problem: Diagnostic) {
        let placed = match text.start {
            Some(start) => problem.placed(text.place.file, start),
            None => {
                let place = text_place(text);
                Diagnostic { file: Some(place.file), span: place.span, ..problem }
            }
        };
        self.findings.borrow_mut().push(placed);
    }
}

/// Returns the smallest type that holds the values of both, if there is one.
pub(super) fn common(a: &Type, b: &Type) -> Option<Type> {
    if expr::fits(a, b) {
        return Some(b.clone());
    }
    if expr::fits(b, a) {
        return Some(a.clone());
    }
    let either = b.clone().optional();
    if expr::fits(a, &either) {
        Some(either)
    } else {
        Some(a.clone().optional()).filter(|either| expr::fits(b, either))
    }
}
