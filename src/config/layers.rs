//! Where settings come from: a TOML text, the environment, flags; brought to one form, `path → value and place`.
//!
//! Which names exist stands in `catalog`. Knows nothing of what a value must look like: that is `read`.

use std::collections::BTreeMap;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::catalog::{self, SETTINGS};
use crate::base::diag::{Diagnostic, FileId, Span, nearest, suggestion};
use crate::error::codes;

/// A source of named strings: the environment, the flags of a command, a test's table.
pub trait Strings {
    /// Returns the value of a name.
    fn get(&self, key: &str) -> Option<String>;

    /// Returns every name there is, sorted: so that a misspelt one is found.
    fn names(&self) -> Vec<String>;
}

impl Strings for BTreeMap<String, String> {
    fn get(&self, key: &str) -> Option<String> {
        BTreeMap::get(self, key).cloned()
    }

    fn names(&self) -> Vec<String> {
        self.keys().cloned().collect()
    }
}

/// The process's environment as it stood when it was read.
#[derive(Clone, Default)]
pub struct Environment(BTreeMap<String, String>);

impl Environment {
    /// Reads it. Bytes that are not UTF-8 are replaced.
    pub fn read() -> Self {
        let text = |os: std::ffi::OsString| os.to_string_lossy().into_owned();
        Self(std::env::vars_os().map(|(name, value)| (text(name), text(value))).collect())
    }
}

impl Strings for Environment {
    fn get(&self, key: &str) -> Option<String> {
        self.0.get(key).cloned()
    }

    fn names(&self) -> Vec<String> {
        self.0.keys().cloned().collect()
    }
}

impl std::fmt::Debug for Environment {
    /// Names only: values may be secrets.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_set().entries(self.0.keys()).finish()
    }
}

const PREFIX: &str = "TIDEMILL__";

fn paths() -> impl Iterator<Item = &'static str> {
    SETTINGS.iter().map(|setting| setting.path)
}

/// Returns the environment variable of a setting: `http.listen` → `TIDEMILL__HTTP__LISTEN`.
pub fn variable_name(path: &str) -> String {
    let parts: Vec<String> = match path.strip_prefix("kafka.") {
        Some(property) => vec!["KAFKA".to_owned(), property.replace('.', "_").to_uppercase()],
        None => path.split('.').map(str::to_uppercase).collect(),
    };
    format!("{PREFIX}{}", parts.join("__"))
}

/// A value before its type is judged.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Raw {
    /// A TOML string.
    Text(String),
    /// A string from where everything is one: the environment or a flag. Numbers and booleans are read from it.
    Word(String),
    Integer(i64),
    Bool(bool),
    /// `{ file = "…" }`
    SecretFile(String),
    /// `{ env = "…" }`
    SecretVariable(String),
    /// Anything else, by TOML's name for it.
    Other(&'static str),
}

/// Where a value was said.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Place {
    File(Span),
    Variable(String),
    Flag(String),
}

#[derive(Clone, Debug, PartialEq)]
pub(super) struct Entry {
    pub(super) raw: Raw,
    pub(super) place: Place,
}

/// Settings by path, the strongest source of each.
#[derive(Debug, Default)]
pub(super) struct Layers {
    pub(super) entries: BTreeMap<String, Entry>,
    pub(super) bind_topics: BTreeMap<String, Entry>,
    pub(super) diagnostics: Vec<Diagnostic>,
}

impl Layers {
    /// Adds a TOML text. Everything in it that is no setting becomes a finding.
    pub(super) fn add_toml(&mut self, text: &str) {
        let (table, errors) = DeTable::parse_recoverable(text);
        for error in errors {
            let span = error.span().map_or_else(Span::default, |range| Span::new(range.start, range.end));
            let finding = Diagnostic::error(codes::SETTINGS_SYNTAX, span, format!("not TOML: {}", error.message()));
            self.diagnostics.push(finding.placed(FileId(0), 0));
        }
        self.walk("", table.get_ref());
    }

    fn walk(&mut self, parent: &str, table: &DeTable<'_>) {
        for (name, value) in table {
            let path =
                if parent.is_empty() { name.get_ref().to_string() } else { format!("{parent}.{}", name.get_ref()) };
            let span = span_of(name);
            if catalog::find(&path).is_some() {
                self.entries.insert(path, Entry { raw: raw(value.get_ref()), place: Place::File(span_of(value)) });
            } else if path == "kafka" || path.starts_with("kafka.") {
                self.add_kafka(&path, span, value);
            } else if path == "bind.topics" {
                self.add_bindings(span, value);
            } else if is_section(&path) {
                let Some(inner) = value.get_ref().as_table() else {
                    let found = format!("`{path}` is a section, not {}", article(value.get_ref().type_str()));
                    self.report(codes::SETTING_VALUE, span, found, format!("write its settings beneath `[{path}]`"));
                    continue;
                };
                self.walk(&path, inner);
            } else {
                self.report(codes::SETTING_UNKNOWN, span, format!("unknown setting `{path}`"), near(&path));
            }
        }
    }

    /// Takes `"security.protocol" = "…"` and the same without quotes, which TOML reads as tables in tables.
    fn add_kafka(&mut self, path: &str, span: Span, value: &Spanned<DeValue<'_>>) {
        if let DeValue::Table(inner) = value.get_ref()
            && secret(inner).is_none()
        {
            return self.walk(path, inner);
        }
        if path == "kafka" {
            let help = "write its settings beneath `[kafka]`".to_owned();
            return self.report(codes::SETTING_VALUE, span, "`kafka` is a section".to_owned(), help);
        }
        let path = if path == "kafka.bootstrap.servers" { "kafka.bootstrap_servers" } else { path };
        let entry = Entry { raw: raw(value.get_ref()), place: Place::File(span_of(value)) };
        if self.entries.insert(path.to_owned(), entry).is_some() {
            self.report(
                codes::SETTING_VALUE,
                span,
                format!("`{path}` is said twice"),
                "keep one of the two".to_owned(),
            );
        }
    }

    fn add_bindings(&mut self, span: Span, value: &Spanned<DeValue<'_>>) {
        let DeValue::Table(table) = value.get_ref() else {
            let help = "write `[bind.topics]` and beneath it `\"topology's topic\" = \"topic here\"`".to_owned();
            return self.report(codes::SETTING_VALUE, span, "`bind.topics` is a table".to_owned(), help);
        };
        for (topic, value) in table {
            let entry = Entry { raw: raw(value.get_ref()), place: Place::File(span_of(value)) };
            self.bind_topics.insert(topic.get_ref().to_string(), entry);
        }
    }

    fn report(&mut self, code: crate::error::Code, span: Span, message: String, help: String) {
        self.diagnostics.push(Diagnostic::error(code, span, message).help(help).placed(FileId(0), 0));
    }

    /// Adds what the environment says; variables that do not begin with `TIDEMILL__` are not ours.
    pub(super) fn add_variables(&mut self, variables: &dyn Strings) {
        for name in variables.names() {
            let Some(rest) = name.strip_prefix(PREFIX) else { continue };
            let Some(value) = variables.get(&name) else { continue };
            let (rest, raw) = match rest.strip_suffix("__FILE") {
                Some(stem) => (stem, Raw::SecretFile(value)),
                None => match rest.strip_suffix("__ENV") {
                    Some(stem) => (stem, Raw::SecretVariable(value)),
                    None => (rest, Raw::Word(value)),
                },
            };
            let lower = rest.to_lowercase();
            let path = match lower.strip_prefix("kafka__") {
                Some("bootstrap_servers") => "kafka.bootstrap_servers".to_owned(),
                Some(property) => format!("kafka.{}", property.replace('_', ".")),
                None => lower.replace("__", "."),
            };
            let place = Place::Variable(name.clone());
            if path == "bind.topics" {
                self.add_binding_words(&raw, &place);
            } else if catalog::find(&path).is_some() || path.starts_with("kafka.") {
                self.entries.insert(path, Entry { raw, place });
            } else {
                let variables: Vec<String> = paths().map(variable_name).collect();
                let message = format!("the environment variable `{name}` names no setting");
                let help = match nearest(&name, variables.iter().map(String::as_str)) {
                    Some(near) => format!("did you mean `{near}`?"),
                    None => format!("unset it: variables that begin with `{PREFIX}` are settings"),
                };
                let finding = Diagnostic::error(codes::SETTING_UNKNOWN, Span::default(), message);
                self.diagnostics.push(finding.help(help));
            }
        }
    }

    /// `TIDEMILL__BIND__TOPICS` is a TOML inline table, since topic names are no variable names.
    fn add_binding_words(&mut self, given: &Raw, place: &Place) {
        let Raw::Word(text) = given else { return };
        match DeValue::parse(text) {
            Ok(value) if value.get_ref().is_table() => {
                for (topic, value) in value.get_ref().as_table().into_iter().flatten() {
                    let entry = Entry { raw: raw(value.get_ref()), place: place.clone() };
                    self.bind_topics.insert(topic.get_ref().to_string(), entry);
                }
            }
            Ok(_) | Err(_) => {
                let message = "`TIDEMILL__BIND__TOPICS` is not a table";
                let finding = Diagnostic::error(codes::SETTING_VALUE, Span::default(), message);
                self.diagnostics.push(finding.help("write `{ \"topology's topic\" = \"topic here\" }`"));
            }
        }
    }

    /// Adds what flags say, by path. A path that is no setting is a mistake of the command, not of its user.
    pub(super) fn add_flags(&mut self, flags: &dyn Strings) {
        for path in flags.names() {
            debug_assert!(catalog::find(&path).is_some() || path.starts_with("kafka."), "`{path}` is no setting");
            if let Some(value) = flags.get(&path) {
                let place = Place::Flag(path.clone());
                self.entries.insert(path, Entry { raw: Raw::Word(value), place });
            }
        }
    }
}

fn is_section(path: &str) -> bool {
    path == "bind" || paths().any(|known| known.strip_prefix(path).is_some_and(|rest| rest.starts_with('.')))
}

/// Names the nearest setting: of the same section first, then the same name elsewhere.
fn near(path: &str) -> String {
    let (section, name) = path.rsplit_once('.').unwrap_or(("", path));
    let mut beside: Vec<&str> = paths()
        .filter_map(
            |known| if section.is_empty() { Some(known) } else { known.strip_prefix(section)?.strip_prefix('.') },
        )
        .map(|rest| rest.split('.').next().unwrap_or(rest))
        .collect();
    if section.is_empty() {
        beside.push("bind");
    } else if section == "bind" {
        beside.push("topics");
    }
    beside.dedup();
    if let Some(near) = nearest(name, beside.iter().copied()) {
        return format!("did you mean `{near}`?");
    }
    match paths().find(|known| known.rsplit('.').next() == Some(name)) {
        Some(elsewhere) => format!("did you mean `{elsewhere}`?"),
        None => suggestion(name, beside),
    }
}

fn span_of<T>(spanned: &Spanned<T>) -> Span {
    let range = spanned.span();
    Span::new(range.start, range.end)
}

fn raw(value: &DeValue<'_>) -> Raw {
    match value {
        DeValue::String(text) => Raw::Text(text.to_string()),
        DeValue::Integer(number) => {
            let digits: String = number.as_str().chars().filter(|c| *c != '_').collect();
            match i64::from_str_radix(&digits, number.radix()) {
                Ok(number) => Raw::Integer(number),
                Err(_) => Raw::Other("integer beyond 64 bits"),
            }
        }
        DeValue::Boolean(flag) => Raw::Bool(*flag),
        DeValue::Table(table) => secret(table).unwrap_or(Raw::Other("table")),
        DeValue::Float(_) | DeValue::Datetime(_) | DeValue::Array(_) => Raw::Other(value.type_str()),
    }
}

/// Returns the secret that a table of exactly one of `file` and `env` stands for.
fn secret(table: &DeTable<'_>) -> Option<Raw> {
    let mut entries = table.iter();
    let (name, value) = entries.next()?;
    if entries.next().is_some() {
        return None;
    }
    let text = value.get_ref().as_str()?.to_owned();
    match name.get_ref().as_ref() {
        "file" => Some(Raw::SecretFile(text)),
        "env" => Some(Raw::SecretVariable(text)),
        _ => None,
    }
}

/// Puts the article before a type's name.
pub(super) fn article(noun: &str) -> String {
    let an = noun.starts_with(['a', 'e', 'i', 'o', 'u']);
    format!("{} {noun}", if an { "an" } else { "a" })
}
