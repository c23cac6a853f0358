//! The JSON Schema of topology files, for editors: what the reader notes about itself (`shape`), with the words of
//! `docs/language`, whose tables `| key | … |` say what each key is for.
//!
//! It accepts what the reader accepts without looking at names and types: a few rules that depend on values are the reader's alone.

use std::collections::BTreeMap;

use serde_json::{Map, Value as Json, json};

use super::parse::{KINDS, TABLES};
use super::shape::{Described, Holds, Shape, describe};
use crate::base::time::SpanMs;
use crate::limits::TOPOLOGY_NAME_BYTES_MAX;

/// The pages that tables of keys stand in.
pub(super) const PAGES: &[(&str, &str)] = &[
    ("README.md", include_str!("../../docs/language/README.md")),
    ("stream.md", include_str!("../../docs/language/stream.md")),
    ("table.md", include_str!("../../docs/language/table.md")),
    ("entity.md", include_str!("../../docs/language/entity.md")),
    ("aggregate.md", include_str!("../../docs/language/aggregate.md")),
    ("windows.md", include_str!("../../docs/language/windows.md")),
    ("branch_and_merge.md", include_str!("../../docs/language/branch_and_merge.md")),
    ("joins.md", include_str!("../../docs/language/joins.md")),
    ("time.md", include_str!("../../docs/language/time.md")),
    ("flatten.md", include_str!("../../docs/language/flatten.md")),
    ("log.md", include_str!("../../docs/language/log.md")),
    ("deciding.md", include_str!("../../docs/language/deciding.md")),
    ("formats.md", include_str!("../../docs/language/formats.md")),
    ("cloudevents.md", include_str!("../../docs/language/cloudevents.md")),
    ("on_error.md", include_str!("../../docs/language/on_error.md")),
    ("sink.md", include_str!("../../docs/language/sink.md")),
];

/// Where the pages are, for readers of the descriptions.
const NAMED: &str = "<name>";

/// Makes the JSON Schema of a topology file.
pub fn json_schema() -> Json {
    let words = Words::read();
    let mut properties = Map::new();
    for table in TABLES.iter().chain(&KINDS) {
        let Described { variants } = describe(table);
        let mut shapes: Vec<Json> = variants
            .iter()
            .map(|(first, shape)| {
                let mut object = words.object(table, &[], shape);
                if let (Some(first), Some(object)) = (first, object.as_object_mut()) {
                    object.insert("title".into(), format!("{table}: `{first}`").into());
                }
                object
            })
            .collect();
        let mut schema = if shapes.len() == 1 { shapes.remove(0) } else { json!({ "anyOf": shapes }) };
        if KINDS.contains(table) {
            if let (Some(object), Some(example)) = (schema.as_object_mut(), words.examples.get(*table)) {
                object.insert("examples".into(), json!([example]));
            }
            let names = json!({ "pattern": "^[A-Za-z][A-Za-z0-9_]*$", "maxLength": TOPOLOGY_NAME_BYTES_MAX });
            schema = json!({ "type": "object", "propertyNames": names, "additionalProperties": schema });
        }
        if let (Some(object), Some(about)) = (schema.as_object_mut(), words.about(table)) {
            object.insert("description".into(), about.into());
        }
        properties.insert((*table).into(), schema);
    }
    json!({
        "$schema": "http://json-schema.org/draft-07/schema#",
        "title": "tidemill topology",
        "description": "A file of a tidemill topology. All files of its folder are one topology.",
        "type": "object",
        "properties": properties,
        "additionalProperties": false,
    })
}

/// Returns every key that no page describes, with the path to it.
#[cfg(test)]
pub(super) fn undescribed() -> Vec<String> {
    let words = Words::read();
    let mut missing = Vec::new();
    for table in TABLES.iter().chain(&KINDS) {
        for (_, shape) in &describe(table).variants {
            words.undescribed(table, &[], shape, &mut missing);
        }
    }
    missing.sort();
    missing.dedup();
    missing
}

/// A row of a table of keys.
#[derive(Debug)]
struct Row {
    /// Kinds that the heading names; none: the table says whose keys they are.
    kinds: Vec<String>,
    /// `window.grace`, `apply.<name>.set`
    path: String,
    /// The table says whose keys they are, or its page is of no kind.
    shared: bool,
    text: String,
}

impl Row {
    fn is_at(&self, path: &[&str]) -> bool {
        let parts: Vec<&str> = self.path.split('.').collect();
        parts.len() == path.len() && parts.iter().zip(path).all(|(part, is)| part == is || *part == NAMED)
    }
}

/// What the pages say.
#[derive(Debug)]
struct Words {
    rows: Vec<Row>,
    /// What a kind does, from the table of kinds.
    kinds: BTreeMap<String, String>,
    /// The first example of a kind.
    examples: BTreeMap<String, Json>,
}

impl Words {
    fn read() -> Self {
        let mut words = Self { rows: Vec::new(), kinds: BTreeMap::new(), examples: BTreeMap::new() };
        for (_, page) in PAGES {
            words.read_page(page);
        }
        words
    }

    fn read_page(&mut self, page: &str) {
        let (mut title, mut heading): (Vec<String>, Vec<String>) = (Vec::new(), Vec::new());
        let mut prefix: Option<String> = None;
        let mut lines = page.lines();
        while let Some(line) = lines.next() {
            if line.starts_with("```toml") {
                let example: Vec<&str> = lines.by_ref().take_while(|line| !line.starts_with("```")).collect();
                self.read_example(&example.join("\n"));
            } else if let Some(text) = line.strip_prefix("# ") {
                title = kinds_in(text);
                heading.clear();
            } else if let Some(text) = line.strip_prefix("## ") {
                heading = kinds_in(text);
            } else if let Some(row) = line.strip_prefix('|') {
                let cells: Vec<&str> = row.trim_end_matches('|').split('|').map(str::trim).collect();
                let first = cells.first().copied().unwrap_or_default();
                if first == "key" {
                    prefix = Some(String::new());
                } else if let Some(of) = first.strip_prefix("key of ") {
                    prefix = Some(format!("{}.", of.trim_matches('`')));
                } else if let Some(prefix) = &prefix {
                    let kinds = if heading.is_empty() { &title } else { &heading };
                    self.read_row(kinds, prefix, &cells);
                } else if let [kind, about, ..] = cells.as_slice()
                    && let [kind] = kinds_in(kind).as_slice()
                {
                    self.kinds.entry(kind.clone()).or_insert_with(|| plain(about));
                }
            } else {
                prefix = None;
            }
        }
    }

    fn read_row(&mut self, kinds: &[String], prefix: &str, cells: &[&str]) {
        let [keys, takes, rest @ ..] = cells else { return };
        let (default, text) = match rest {
            [default, text, ..] => (*default, *text),
            [text] => ("", *text),
            [] => ("", ""),
        };
        let mut about = plain(text);
        if !takes.is_empty() {
            about = format!("{about}{}Takes {}.", if about.is_empty() { "" } else { ". " }, plain(takes));
        }
        match plain(default).as_str() {
            "" => {}
            "must be there" => about.push_str(" It must be there."),
            default if default.contains("must be there") => about.push_str(&format!(" {}.", capitalised(default))),
            default => about.push_str(&format!(" Default: {default}.")),
        }
        // `window.before`, `.after`: what begins with a dot stands beside the one before.
        let mut beside = "";
        for key in keys.split('`').skip(1).step_by(2) {
            let path = match key.strip_prefix('.') {
                Some(_) => format!("{prefix}{beside}{key}"),
                None => format!("{prefix}{key}"),
            };
            if !key.starts_with('.') {
                beside = key.rsplit_once('.').map_or("", |(parent, _)| parent);
            }
            let path = named_parts(&path);
            let shared = kinds.is_empty() || !prefix.is_empty();
            self.rows.push(Row { kinds: kinds.to_vec(), path, shared, text: capitalised(about.trim_start()) });
        }
    }

    fn read_example(&mut self, text: &str) {
        let Ok(table) = toml::from_str::<toml::Table>(text) else { return };
        for (kind, nodes) in table {
            let first = nodes.as_table().and_then(|nodes| nodes.iter().next()).map(|(_, node)| node.clone());
            if let Some(json) = first.and_then(|node| serde_json::to_value(node).ok()) {
                self.examples.entry(kind).or_insert(json);
            }
        }
    }

    fn about(&self, kind: &str) -> Option<String> {
        self.kinds.get(kind).map(|about| capitalised(about))
    }

    /// Finds what the pages say about a key: in the table of its kind, else in a table that says whose keys they are.
    fn of_key(&self, kind: &str, path: &[&str]) -> Option<&str> {
        let within = [&[kind], path].concat();
        let own = self.rows.iter().find(|row| row.is_at(path) && row.kinds.iter().any(|named| named == kind));
        let of_table = || self.rows.iter().find(|row| row.is_at(&within));
        // A row under the heading of another kind is no other's.
        let shared = || {
            let mut ends = (0..path.len()).map(|start| &path[start..]);
            ends.find_map(|end| self.rows.iter().find(|row| row.shared && row.is_at(end)))
        };
        own.or_else(of_table).or_else(shared).map(|row| row.text.as_str())
    }

    fn object(&self, kind: &str, path: &[&str], shape: &Shape) -> Json {
        let mut object = Map::from_iter([("type".to_owned(), json!("object"))]);
        let keys = shape.keys.borrow();
        let properties = keys.iter().map(|(key, holds)| {
            let path: Vec<&str> = path.iter().copied().chain([*key]).collect();
            ((*key).to_owned(), self.key(kind, &path, holds, shape))
        });
        object.insert("properties".into(), Json::Object(properties.collect()));
        let others = match &*shape.named.borrow() {
            Some(inner) => self.object(kind, &[path, &[NAMED]].concat(), inner),
            None if shape.named_expressions.get() => json!({ "type": "string" }),
            None => json!(false),
        };
        object.insert("additionalProperties".into(), others);
        let missing = shape.missing.borrow();
        let required: Vec<&str> = missing.keys().filter(|keys| keys.len() == 1).flatten().map(String::as_str).collect();
        if !required.is_empty() {
            object.insert("required".into(), json!(required));
        }
        let one_of = missing.keys().filter(|keys| keys.len() > 1).map(|keys| {
            let each: Vec<Json> = keys.iter().map(|key| json!({ "required": [key] })).collect();
            json!({ "anyOf": each })
        });
        let pairs = shape.exclusive.borrow();
        let not_both = pairs.iter().flat_map(|keys| {
            keys.iter().enumerate().flat_map(|(at, first)| keys[at + 1..].iter().map(move |second| (*first, *second)))
        });
        let not_both = not_both.map(|(first, second)| json!({ "not": { "required": [first, second] } }));
        let rules: Vec<Json> = one_of.chain(not_both).collect();
        if !rules.is_empty() {
            object.insert("allOf".into(), rules.into());
        }
        Json::Object(object)
    }

    fn key(&self, kind: &str, path: &[&str], holds: &Holds, beside: &Shape) -> Json {
        let mut schema = match holds {
            Holds::Text => json!({ "type": "string" }),
            Holds::Integer => json!({ "type": "integer" }),
            Holds::Duration => {
                json!({ "type": "string", "pattern": SpanMs::PATTERN, "examples": ["30s", "10m", "1h30m"] })
            }
            Holds::Expression => json!({ "type": "string" }),
            Holds::Choice(words) => json!({ "enum": words }),
            Holds::TextOrFalse => json!({ "anyOf": [{ "type": "string" }, { "const": false }] }),
            Holds::Texts => json!({ "type": "array", "items": { "type": "string" } }),
            Holds::Expressions => json!({ "type": "object", "additionalProperties": { "type": "string" } }),
            Holds::Table(shape) => self.object(kind, path, shape),
            Holds::Tables(shape) => json!({ "type": "array", "items": self.object(kind, path, shape) }),
        };
        let key = path.last().copied().unwrap_or_default();
        let help = beside
            .missing
            .borrow()
            .iter()
            .find(|(keys, _)| keys.iter().any(|known| known == key))
            .map(|(_, help)| help.clone());
        let about = self.of_key(kind, path).map(str::to_owned).or_else(|| help.as_deref().map(capitalised));
        if let Some(object) = schema.as_object_mut() {
            if let Some(about) = about {
                object.insert("description".into(), about.into());
            }
            if let Some(example) = help.as_deref().and_then(|help| example_in(key, help)) {
                object.insert("examples".into(), json!([example]));
            }
        }
        schema
    }

    #[cfg(test)]
    fn undescribed(&self, kind: &str, path: &[&str], shape: &Shape, missing: &mut Vec<String>) {
        for (key, holds) in &*shape.keys.borrow() {
            let path: Vec<&str> = path.iter().copied().chain([*key]).collect();
            // A table that only holds others is described by what is in it.
            let inner = holds.shape();
            if self.of_key(kind, &path).is_none() && inner.is_none() {
                missing.push(format!("{kind}.{}", path.join(".")));
            }
            if let Some(inner) = inner {
                self.undescribed(kind, &path, inner, missing);
            }
        }
        if let Some(inner) = &*shape.named.borrow() {
            self.undescribed(kind, &[path, &[NAMED]].concat(), inner, missing);
        }
    }
}

/// The kinds that a heading or a cell names: words in backticks.
fn kinds_in(text: &str) -> Vec<String> {
    let words = text.split('`').skip(1).step_by(2);
    words.filter(|word| KINDS.contains(word) || TABLES.contains(word)).map(str::to_owned).collect()
}

/// `apply.<Type>.set` → `apply.<name>.set`
fn named_parts(path: &str) -> String {
    let parts = path.split('.').map(|part| if part.starts_with('<') { NAMED } else { part });
    parts.collect::<Vec<_>>().join(".")
}

/// Markdown as text: links become their words.
fn plain(markdown: &str) -> String {
    let mut text = String::new();
    let mut rest = markdown;
    while let Some((before, link)) = rest.split_once('[') {
        text.push_str(before);
        let Some((words, (target, after))) =
            link.split_once("](").and_then(|(words, rest)| Some((words, rest.split_once(')')?)))
        else {
            text.push('[');
            rest = link;
            continue;
        };
        debug_assert!(!target.is_empty());
        text.push_str(words);
        rest = after;
    }
    text.push_str(rest);
    text
}

fn capitalised(text: &str) -> String {
    let mut chars = text.chars();
    chars.next().map_or_else(String::new, |first| first.to_uppercase().chain(chars).collect())
}

/// The value that a help shows for a key: "… `schemas = [\"X.avsc\"]`".
fn example_in(key: &str, help: &str) -> Option<Json> {
    let shown = help.split('`').skip(1).step_by(2).find(|code| code.starts_with(&format!("{key} =")))?;
    let table: toml::Table = toml::from_str(shown).ok()?;
    serde_json::to_value(table.get(key)?).ok().filter(|value| !value.to_string().contains('…'))
}
