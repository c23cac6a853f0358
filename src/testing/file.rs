//! `*.test.toml`: tests in the topology's own language, as they are written.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use schemars::generate::SchemaSettings;
use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde::Deserialize;
use serde_json::{Map, Value as Json};

use crate::base::time::{DateTime, SpanMs, Timestamp};

/// A file of tests, beside the topology that they are of.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct TestFile {
    #[serde(skip)]
    pub path: PathBuf,
    /// By record type, or by stream or topic where no type is named: fields that its events have unless they say otherwise.
    #[serde(default)]
    pub defaults: BTreeMap<String, Data>,
    /// In the order in which they stand.
    #[serde(default, rename = "test")]
    pub tests: Vec<Test>,
}

/// A test: what happens, and what then must be.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Test {
    pub name: String,
    /// Where the clock stands at first; else at the first event's time.
    #[serde(default)]
    pub clock: Option<Moment>,
    /// What happened before; outputs of it are not looked at.
    #[serde(default)]
    pub given: Vec<Step>,
    /// What happens; without it, `given` is what happens.
    #[serde(default)]
    pub when: Vec<Step>,
    #[serde(default)]
    pub then: Then,
    /// The test is run once for each; `"$name"` stands for a case's value.
    #[serde(default)]
    pub cases: Vec<BTreeMap<String, Data>>,
}

/// An event that comes, or time that passes.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Step {
    /// The stream or table that reads the event's topic.
    #[serde(default, rename = "to")]
    pub node: Option<String>,
    /// The event's topic, in place of `to`.
    #[serde(default)]
    pub topic: Option<String>,
    /// Record type; may be left out where the topic has one only.
    #[serde(default, rename = "type")]
    pub event_type: Option<String>,
    #[serde(default)]
    pub key: Option<Data>,
    /// Fields that are left out have their schema's default; without a value the event is a deletion.
    #[serde(default)]
    pub value: Option<Data>,
    /// The event's time; else that of the event before.
    #[serde(default)]
    pub at: Option<Moment>,
    #[serde(default)]
    pub headers: BTreeMap<String, String>,
    /// In place of an event: a command, with its `key` and `value`.
    #[serde(default)]
    pub command: Option<String>,
    /// The entity that decides the command; may be left out where one takes it.
    #[serde(default)]
    pub entity: Option<String>,
    /// The command's id; else one that no other command of the test has.
    #[serde(default)]
    pub id: Option<Data>,
    /// The version that the command is made for.
    #[serde(default)]
    pub expected_version: Option<Data>,
    /// In place of an event: how much time passes.
    #[serde(default)]
    pub advance: Option<Data>,
}

/// What must be in the end. Fields that are not named may be anything, unless `exact`.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Then {
    /// No fields but those that are named.
    #[serde(default)]
    pub exact: bool,
    /// By topic: all that was written since `when` began, in order.
    #[serde(default)]
    pub outputs: BTreeMap<String, Vec<Expected>>,
    /// By store and key: the row, a list of a windowed store's rows, or `false` where there is none.
    #[serde(default)]
    pub state: BTreeMap<String, BTreeMap<String, Data>>,
    /// By entity and key: every version, oldest first: `type`, and `state` after it.
    #[serde(default)]
    pub history: BTreeMap<String, BTreeMap<String, Vec<Data>>>,
    /// By entity: the answers to the commands of `when`, in order.
    #[serde(default)]
    pub replies: BTreeMap<String, Vec<Data>>,
    /// By entity: those of them that refuse.
    #[serde(default)]
    pub refusals: BTreeMap<String, Vec<Data>>,
    /// By entity: all events that the commands of `when` gave, in order: `type`, `key`, `version`, `id` and `value`.
    #[serde(default)]
    pub events: BTreeMap<String, Vec<Data>>,
    /// By dead-letter topic: all that came there since `when` began, in order.
    #[serde(default)]
    pub dead_letters: BTreeMap<String, Vec<DeadLetter>>,
    /// A task must have stopped, and say this among its reasons.
    #[serde(default)]
    pub stopped: Option<String>,
}

/// A record that must have been written.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Expected {
    #[serde(default)]
    pub key: Option<Data>,
    #[serde(default, rename = "type")]
    pub event_type: Option<Data>,
    /// `false` for a deletion.
    #[serde(default)]
    pub value: Option<Data>,
    #[serde(default)]
    pub at: Option<Moment>,
    /// Start of the window that is written into the key.
    #[serde(default)]
    pub window: Option<Moment>,
    #[serde(default)]
    pub headers: BTreeMap<String, Data>,
}

/// A record that must have been set aside.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct DeadLetter {
    #[serde(default)]
    pub key: Option<Data>,
    /// Some of the words that say why.
    #[serde(default)]
    pub reason: Option<String>,
}

/// Any TOML value; moments are text in RFC 3339.
#[derive(Clone, Debug, PartialEq)]
pub struct Data(pub Json);

impl JsonSchema for Data {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        "Data".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        schemars::json_schema!({})
    }
}

impl<'de> Deserialize<'de> for Data {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        toml::Value::deserialize(deserializer).map(|value| Self(json(value)))
    }
}

fn json(value: toml::Value) -> Json {
    match value {
        toml::Value::String(text) => Json::String(text),
        toml::Value::Integer(number) => number.into(),
        toml::Value::Float(number) => number.into(),
        toml::Value::Boolean(truth) => truth.into(),
        toml::Value::Datetime(moment) => Json::String(moment.to_string()),
        toml::Value::Array(items) => items.into_iter().map(json).collect(),
        toml::Value::Table(fields) => {
            Json::Object(fields.into_iter().map(|(name, field)| (name, json(field))).collect::<Map<_, _>>())
        }
    }
}

/// A moment: RFC 3339, as a TOML date or as text, or milliseconds since 1970.
#[derive(Clone, Debug, PartialEq)]
pub struct Moment(pub Json);

impl JsonSchema for Moment {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        "Moment".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        schemars::json_schema!({ "type": ["string", "integer"], "examples": ["2013-01-01T10:00:00Z"] })
    }
}

impl<'de> Deserialize<'de> for Moment {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Data::deserialize(deserializer).map(|data| Self(data.0))
    }
}

impl Moment {
    /// Returns the time.
    ///
    /// # Errors
    /// It is none.
    pub fn timestamp(&self) -> Result<Timestamp, String> {
        let wrong = || format!("{} is no moment: write `2013-01-01T10:00:00Z`, or milliseconds since 1970", self.0);
        match &self.0 {
            Json::Number(number) => number.as_i64().map(Timestamp).ok_or_else(wrong),
            Json::String(text) => DateTime::parse(text).map(DateTime::to_timestamp).map_err(|_| wrong()),
            Json::Null | Json::Bool(_) | Json::Array(_) | Json::Object(_) => Err(wrong()),
        }
    }
}

impl Step {
    /// Returns how much time passes, if that is what happens.
    ///
    /// # Errors
    /// It is no span.
    pub fn span(&self) -> Result<Option<SpanMs>, String> {
        match self.advance.as_ref().map(|data| &data.0) {
            None => Ok(None),
            Some(Json::String(text)) => SpanMs::parse(text).map(Some),
            Some(other) => Err(format!("{other} is no span of time: write `\"10m\"`")),
        }
    }
}

/// Makes the JSON Schema of such a file, for editors.
pub fn json_schema() -> Json {
    let mut schema = SchemaSettings::draft07().into_generator().into_root_schema_for::<TestFile>().to_value();
    if let Some(root) = schema.as_object_mut() {
        root.insert("title".to_owned(), "tidemill tests of a topology".into());
    }
    schema
}

/// Reads a file of tests.
///
/// # Errors
/// Where it is no such file: with line, column and what was expected.
pub fn read(path: &Path, text: &str) -> Result<TestFile, String> {
    let mut file: TestFile = toml::from_str(text).map_err(|error| format!("{}: {error}", path.display()))?;
    path.clone_into(&mut file.path);
    let mut names = std::collections::BTreeSet::new();
    for test in &file.tests {
        if !names.insert(&test.name) {
            return Err(format!("{}: two tests are named `{}`", path.display(), test.name));
        }
    }
    Ok(file)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::topology::tests::json_schema::compare_or_update;

    #[test]
    fn the_json_schema_takes_every_test_that_is_shipped_and_refuses_what_is_none() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR"));
        let schema = json_schema();
        let validator = jsonschema::draft7::new(&schema).unwrap();
        let json = |text: &str| json(toml::Value::Table(toml::from_str(text).unwrap()));
        let (mut folders, mut count) = (vec![root.join("topologies"), root.join("docs/language/examples")], 0);
        while let Some(folder) = folders.pop() {
            for entry in std::fs::read_dir(folder).unwrap() {
                let path = entry.unwrap().path();
                if path.is_dir() {
                    folders.push(path);
                } else if path.display().to_string().ends_with(".test.toml") {
                    let document = json(&std::fs::read_to_string(&path).unwrap());
                    let problems: Vec<String> =
                        validator.iter_errors(&document).map(|error| error.to_string()).collect();
                    assert!(problems.is_empty(), "{}: {problems:#?}", path.display());
                    count += 1;
                }
            }
        }
        assert!(count > 10, "{count} files");
        for wrong in [
            "[[test]]\n",
            "[[test]]\nname = 1\n",
            "[[test]]\nname = 'a'\ngivn = []\n",
            "[[test]]\nname = 'a'\ngiven = [{ to = 'a', valu = {} }]\n",
            "[[test]]\nname = 'a'\nthen.exact = 'yes'\n",
            "[[test]]\nname = 'a'\nthen.outputs.t = [{ at = true }]\n",
            "[tests]\n",
        ] {
            assert!(!validator.is_valid(&json(wrong)), "{wrong}");
            // A moment is looked at when the test runs.
            assert!(read(Path::new("a.test.toml"), wrong).is_err() || wrong.contains("at = true"), "{wrong}");
        }
        let made = serde_json::to_string_pretty(&schema).unwrap() + "\n";
        compare_or_update(&root.join("schemas/json/test.schema.json"), &made);
    }
}
