//! Walking parsed TOML with places kept: each getter takes a key, reports a value of the wrong type, and remembers the key, so
//! that [`TableReader::finish`] can report those that nobody asked for. Nothing stops at the first mistake.

use std::cell::RefCell;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::shape::{Holds, Notes};
use super::sources::{Located, Place};
use super::spec::ExpressionText;
use crate::base::diag::{Diagnostic, FileId, Span, nearest, suggestion};
use crate::base::time::SpanMs;
use crate::error::{Code, codes};

/// A file being read and the list that its findings go to.
#[derive(Clone, Copy, Debug)]
pub(super) struct File<'a> {
    pub id: FileId,
    pub text: &'a str,
    pub findings: &'a RefCell<Vec<Diagnostic>>,
}

impl File<'_> {
    pub(super) fn place(&self, span: Span) -> Place {
        Place { file: self.id, span }
    }

    /// Adds a finding in this file.
    pub(super) fn report(&self, diagnostic: Diagnostic) {
        self.findings.borrow_mut().push(diagnostic.placed(self.id, 0));
    }

    fn wrong_type(&self, key: &str, value: &Spanned<DeValue<'_>>, wanted: &str) {
        let seen = described(value.get_ref());
        self.report(
            Diagnostic::error(codes::TOML_TYPE, span_of(value), format!("`{key}` wants {wanted}, not {seen}"))
                .label(format!("this is {seen}")),
        );
    }
}

pub(super) fn span_of<T>(spanned: &Spanned<T>) -> Span {
    let range = spanned.span();
    Span::new(range.start, range.end)
}

fn described(value: &DeValue<'_>) -> &'static str {
    match value {
        DeValue::String(_) => "a string",
        DeValue::Integer(_) => "an integer",
        DeValue::Float(_) => "a float",
        DeValue::Boolean(_) => "a boolean",
        DeValue::Datetime(_) => "a date or time",
        DeValue::Array(_) => "an array",
        DeValue::Table(_) => "a table",
    }
}

/// A table being read.
#[derive(Debug)]
pub(super) struct TableReader<'a> {
    pub file: File<'a>,
    table: &'a DeTable<'a>,
    /// Where the table's name stands: what a missing key points at.
    pub at: Span,
    /// `[stream.orders]`, for messages.
    pub title: String,
    asked: Vec<&'static str>,
    later: &'static [&'static str],
    /// There while the reader is asked what a table may hold.
    notes: Option<Notes<'a>>,
}

/// What a key that may hold several kinds of value holds.
pub(super) enum TextOrFalse {
    Text(Located<String>),
    False,
}

impl<'a> TableReader<'a> {
    pub(super) fn new(file: File<'a>, table: &'a DeTable<'a>, at: Span, title: impl Into<String>) -> Self {
        Self { file, table, at, title: title.into(), asked: Vec::new(), later: &[], notes: None }
    }

    /// Takes notes of what is asked for.
    pub(super) fn noting(self, notes: Notes<'a>) -> Self {
        Self { notes: Some(notes), ..self }
    }

    /// Notes that a key may not be there, whoever has read it.
    pub(super) fn refused(&self, key: &str) {
        if let Some(notes) = &self.notes {
            notes.refused(key);
        }
    }

    /// Notes what a key holds. While notes are taken, returns the getter's answer: `made`, if the key is there this time.
    fn noted<T>(
        &self,
        key: &'static str,
        holds: impl FnOnce() -> Holds,
        made: impl FnOnce() -> T,
    ) -> Option<Option<T>> {
        let notes = self.notes.as_ref()?;
        notes.note(key, holds);
        Some(notes.has(key).then(made))
    }

    fn made<T>(&self, value: T) -> Located<T> {
        Located { value, place: self.file.place(self.at) }
    }

    /// Says that no two of these keys may be there: for those who ask what there may be. That two are is reported by the caller,
    /// who knows what helps.
    pub(super) fn exclusive(&self, keys: &[&'static str]) {
        if let Some(notes) = &self.notes {
            notes.exclusive(keys);
        }
    }

    /// Names keys that the language has and this version does not run yet.
    pub(super) fn later(&mut self, keys: &'static [&'static str]) {
        self.later = keys;
    }

    fn entry(&mut self, key: &'static str) -> Option<(Span, &'a Spanned<DeValue<'a>>)> {
        self.asked.push(key);
        let (name, value) = self.table.iter().find(|(name, _)| name.get_ref() == key)?;
        Some((span_of(name), value))
    }

    /// Tells where a key stands, if it does.
    pub(super) fn key_span(&mut self, key: &'static str) -> Option<Span> {
        if let Some(notes) = &self.notes {
            return notes.look(key).then_some(self.at);
        }
        self.entry(key).map(|(span, _)| span)
    }

    /// Tells whether a key is there, without asking for it.
    pub(super) fn has(&self, key: &str) -> bool {
        if let Some(notes) = &self.notes {
            return notes.has(key);
        }
        self.table.iter().any(|(name, _)| name.get_ref() == key)
    }

    /// All entries, for tables whose keys are the user's own names.
    pub(super) fn entries(&self) -> Vec<(Located<String>, &'a Spanned<DeValue<'a>>)> {
        if let Some(notes) = &self.notes {
            return vec![(self.made("name".to_owned()), notes.sample)];
        }
        let mut entries: Vec<_> = self
            .table
            .iter()
            .map(|(name, value)| {
                (Located { value: name.get_ref().to_string(), place: self.file.place(span_of(name)) }, value)
            })
            .collect();
        entries.sort_by_key(|(name, _)| name.place.span);
        entries
    }

    /// Reports a key that must be there.
    pub(super) fn missing(&self, key: &str, help: impl Into<String>) {
        self.missing_as(codes::TOML_MISSING_KEY, key, help);
    }

    /// Reports a key that must be there, under a code of its own.
    pub(super) fn missing_as(&self, code: Code, key: &str, help: impl Into<String>) {
        let help = help.into();
        if let Some(notes) = &self.notes {
            notes.missing(key, &help);
        }
        let message = format!("{} has no `{key}`", self.title);
        self.file.report(Diagnostic::error(code, self.at, message).help(help));
    }

    pub(super) fn text(&mut self, key: &'static str) -> Option<Located<String>> {
        if let Some(answer) = self.noted(key, || Holds::Text, || self.made("name".to_owned())) {
            return answer;
        }
        let (_, value) = self.entry(key)?;
        text_of(self.file, key, value)
    }

    pub(super) fn integer(&mut self, key: &'static str) -> Option<Located<i64>> {
        if let Some(answer) = self.noted(key, || Holds::Integer, || self.made(1)) {
            return answer;
        }
        let (_, value) = self.entry(key)?;
        let DeValue::Integer(number) = value.get_ref() else {
            self.file.wrong_type(key, value, "an integer");
            return None;
        };
        let number = i64::from_str_radix(number.as_str(), number.radix()).ok()?;
        Some(Located { value: number, place: self.file.place(span_of(value)) })
    }

    pub(super) fn text_or_false(&mut self, key: &'static str) -> Option<TextOrFalse> {
        if let Some(answer) = self.noted(key, || Holds::TextOrFalse, || TextOrFalse::False) {
            return answer;
        }
        let (_, value) = self.entry(key)?;
        match value.get_ref() {
            DeValue::Boolean(false) => Some(TextOrFalse::False),
            DeValue::String(_) => text_of(self.file, key, value).map(TextOrFalse::Text),
            DeValue::Boolean(true)
            | DeValue::Integer(_)
            | DeValue::Float(_)
            | DeValue::Datetime(_)
            | DeValue::Array(_)
            | DeValue::Table(_) => {
                self.file.wrong_type(key, value, "a string or `false`");
                None
            }
        }
    }

    /// A list of strings; a string alone is an error that says how to write it.
    pub(super) fn texts(&mut self, key: &'static str) -> Option<Vec<Located<String>>> {
        if let Some(answer) = self.noted(key, || Holds::Texts, || vec![self.made("name".to_owned())]) {
            return answer;
        }
        let (_, value) = self.entry(key)?;
        let DeValue::Array(items) = value.get_ref() else {
            self.file.wrong_type(key, value, "a list of strings");
            return None;
        };
        Some(items.iter().filter_map(|item| text_of(self.file, key, item)).collect())
    }

    pub(super) fn duration(&mut self, key: &'static str) -> Option<Located<SpanMs>> {
        if let Some(answer) = self.noted(key, || Holds::Duration, || self.made(SpanMs(1))) {
            return answer;
        }
        let text = self.text(key)?;
        match SpanMs::parse(&text.value) {
            Ok(span) => Some(Located { value: span, place: text.place }),
            Err(message) => {
                self.file.report(Diagnostic::error(codes::TOML_VALUE, text.place.span, message));
                None
            }
        }
    }

    /// One of a closed set of words.
    pub(super) fn choice<T: Clone>(&mut self, key: &'static str, choices: &[(&str, T)]) -> Option<T> {
        if let Some(notes) = &self.notes {
            notes.note(key, || Holds::Choice(choices.iter().map(|(word, _)| (*word).to_owned()).collect()));
            return notes.pick(choices).filter(|_| notes.has(key));
        }
        let text = self.text(key)?;
        choice_of(self.file, key, &text, choices)
    }

    pub(super) fn expression(&mut self, key: &'static str) -> Option<ExpressionText> {
        let made = || ExpressionText { text: "key".to_owned(), place: self.file.place(self.at), start: None };
        if let Some(answer) = self.noted(key, || Holds::Expression, made) {
            return answer;
        }
        let (_, value) = self.entry(key)?;
        expression_of(self.file, key, value)
    }

    /// A table of expressions by field name, in the order of the names.
    pub(super) fn expressions(&mut self, key: &'static str) -> Option<Vec<(Located<String>, ExpressionText)>> {
        if let Some(answer) = self.noted(key, || Holds::Expressions, Vec::new) {
            return answer;
        }
        Some(self.table(key)?.all_expressions())
    }

    /// All entries as expressions by field name, in the order of the names.
    pub(super) fn all_expressions(&self) -> Vec<(Located<String>, ExpressionText)> {
        if let Some(notes) = &self.notes {
            notes.named_expressions();
            return Vec::new();
        }
        let fields = self.entries().into_iter().filter_map(|(name, value)| {
            let expression = expression_of(self.file, &name.value, value)?;
            Some((name, expression))
        });
        let mut fields: Vec<_> = fields.collect();
        fields.sort_by(|(a, _), (b, _)| a.value.cmp(&b.value));
        fields
    }

    pub(super) fn table(&mut self, key: &'static str) -> Option<TableReader<'a>> {
        if let Some(notes) = &self.notes {
            return notes.table(key, Holds::Table).map(|within| self.empty(key).noting(within));
        }
        let (at, value) = self.entry(key)?;
        self.sub_table(key, at, value)
    }

    fn empty(&self, key: &str) -> TableReader<'a> {
        TableReader::new(self.file, self.table, self.at, key)
    }

    /// Reads an entry whose key is the user's own name as a table.
    pub(super) fn sub_table(&self, key: &str, at: Span, value: &'a Spanned<DeValue<'a>>) -> Option<TableReader<'a>> {
        if let Some(notes) = &self.notes {
            return Some(self.empty(key).noting(notes.named()));
        }
        let DeValue::Table(table) = value.get_ref() else {
            self.file.wrong_type(key, value, "a table");
            return None;
        };
        let inner = self.title.trim_matches(|c| c == '[' || c == ']');
        let title = if inner.is_empty() { format!("[{key}]") } else { format!("[{inner}.{key}]") };
        Some(TableReader::new(self.file, table, at, title))
    }

    /// A list of tables, `[[key]]`.
    pub(super) fn tables(&mut self, key: &'static str) -> Option<Vec<TableReader<'a>>> {
        if let Some(notes) = &self.notes {
            return notes.table(key, Holds::Tables).map(|within| vec![self.empty(key).noting(within)]);
        }
        let (_, value) = self.entry(key)?;
        let DeValue::Array(items) = value.get_ref() else {
            self.file.wrong_type(key, value, "a list of tables");
            return None;
        };
        Some(items.iter().filter_map(|item| self.sub_table(key, span_of(item), item)).collect())
    }

    /// Reports every key that nobody asked for.
    pub(super) fn finish(self) {
        for (name, value) in self.table.iter() {
            let key = name.get_ref().as_ref();
            if self.asked.contains(&key) {
                continue;
            }
            let span = span_of(name);
            if self.later.contains(&key) {
                self.file.report(not_yet(span, &format!("`{key}` in {}", self.title)));
                continue;
            }
            let message = format!("unknown key `{key}` in {}", self.title);
            let help = suggestion(key, self.asked.iter().copied());
            let kind =
                if matches!(value.get_ref(), DeValue::Table(_)) { "no such table here" } else { "no such key here" };
            self.file.report(Diagnostic::error(codes::TOML_UNKNOWN_KEY, span, message).label(kind).help(help));
        }
    }
}

/// A part of the language that this version knows by name and does not run.
pub(super) fn not_yet(span: Span, what: &str) -> Diagnostic {
    Diagnostic::error(codes::NOT_YET_SUPPORTED, span, format!("{what} is not yet supported"))
        .help("this version of tidemill does not run it; leave it out")
}

fn text_of(file: File<'_>, key: &str, value: &Spanned<DeValue<'_>>) -> Option<Located<String>> {
    let DeValue::String(text) = value.get_ref() else {
        file.wrong_type(key, value, "a string");
        return None;
    };
    Some(Located { value: text.to_string(), place: file.place(span_of(value)) })
}

/// Reads a string as one of a closed set of words.
pub(super) fn choice_of<T: Clone>(
    file: File<'_>,
    key: &str,
    text: &Located<String>,
    choices: &[(&str, T)],
) -> Option<T> {
    if let Some((_, choice)) = choices.iter().find(|(word, _)| *word == text.value) {
        return Some(choice.clone());
    }
    let words: Vec<&str> = choices.iter().map(|(word, _)| *word).collect();
    let help = match nearest(&text.value, words.iter().copied()) {
        Some(near) => format!("did you mean \"{near}\"?"),
        None => format!("one of \"{}\"", words.join("\", \"")),
    };
    let message = format!("`{key}` cannot be \"{}\"", text.value);
    file.report(Diagnostic::error(codes::TOML_VALUE, text.place.span, message).help(help));
    None
}

/// Reads a string as an expression, with the byte its text begins at where the file holds it unchanged.
fn expression_of(file: File<'_>, key: &str, value: &Spanned<DeValue<'_>>) -> Option<ExpressionText> {
    let DeValue::String(text) = value.get_ref() else {
        let seen = described(value.get_ref());
        let message = format!("`{key}` wants an expression, not {seen}");
        let code: Code = codes::TOML_TYPE;
        let help = match value.get_ref() {
            DeValue::Integer(_) | DeValue::Float(_) | DeValue::Boolean(_) => {
                let raw = value.span();
                format!("write it as a string: '{}'", file.text.get(raw).unwrap_or("…"))
            }
            DeValue::String(_) | DeValue::Datetime(_) | DeValue::Array(_) | DeValue::Table(_) => {
                "expressions stand in single quotes: 'value.total > 10.0'".to_owned()
            }
        };
        file.report(Diagnostic::error(code, span_of(value), message).label(format!("this is {seen}")).help(help));
        return None;
    };
    let token = span_of(value);
    let raw = file.text.get(token.start..token.end).unwrap_or("");
    let start = raw.find(text.as_ref()).filter(|_| !text.is_empty()).map(|offset| token.start + offset);
    Some(ExpressionText { text: text.to_string(), place: file.place(token), start })
}
