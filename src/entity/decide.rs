//! Decides a command against an entity's state: refused by the first rule that holds, or the events that it gives. Nothing is changed
//! here; whoever asks applies the events and answers.

use std::sync::Arc;

use serde_json::{Map, Value as Json, json};

use crate::avro::to_json;
use crate::base::record::Headers;
use crate::base::value::{Text, Value};
use crate::limits::COMMAND_ID_BYTES_MAX;
use crate::operator::{Error, Evaluator, RecordContext, Row};
use crate::plan::{Decision, ENTITY_SYSTEM_FIELDS, Emission, Given};
use crate::store::keys;

/// The header with a command's id; without it `ce_id` is the id.
pub const COMMAND_ID_HEADER: &str = "command-id";

/// The header with the version that a command was made for.
pub const EXPECTED_VERSION_HEADER: &str = "expected-version";

/// What a command's headers say.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CommandHead {
    /// None of a command that may come twice and be decided twice.
    pub id: Option<Text>,
    pub expected_version: Option<u64>,
}

impl CommandHead {
    /// Reads a command's headers.
    ///
    /// # Errors
    /// An id that is too long, a version that is no number: of the record.
    pub fn of(headers: &Headers) -> Result<Self, Error> {
        let wrong = |message: String| Error::Record { message: format!("{message} (E1010)") };
        let id = headers.text(COMMAND_ID_HEADER).or_else(|| headers.text("ce_id"));
        if let Some(id) = id.filter(|id| id.len() > COMMAND_ID_BYTES_MAX) {
            let size = id.len();
            return Err(wrong(format!("the command's id has {size} bytes, more than {COMMAND_ID_BYTES_MAX}")));
        }
        let expected_version = match headers.last(EXPECTED_VERSION_HEADER) {
            None => None,
            Some(header) => {
                let bytes = header.value.as_deref().unwrap_or_default();
                let number = std::str::from_utf8(bytes).ok().and_then(|text| text.trim().parse().ok());
                let said = String::from_utf8_lossy(bytes);
                Some(number.ok_or_else(|| wrong(format!("`{EXPECTED_VERSION_HEADER}` is `{said}`, and no version")))?)
            }
        };
        Ok(Self { id: id.map(Text::new), expected_version })
    }
}

/// What an answer is remembered under.
pub fn answer_key(key: &[u8], id: &str) -> Vec<u8> {
    let mut what = keys::key_prefix(key);
    what.extend_from_slice(id.as_bytes());
    what
}

/// What a command came to.
#[derive(Debug)]
pub enum Verdict<'p> {
    Refused { code: &'p Text, message: Option<&'p Text> },
    Decided(Vec<Decided<'p>>),
}

/// An event that was decided.
#[derive(Debug)]
pub struct Decided<'p> {
    pub emission: &'p Emission,
    /// All its fields.
    pub fields: Vec<Value>,
}

impl Decided<'_> {
    /// Returns the slots of the event as it will come back from its topic.
    pub fn kept(&self) -> Vec<Value> {
        self.emission.kept.iter().map(|field| self.fields[*field].clone()).collect()
    }

    /// Returns the event as JSON.
    pub fn json(&self) -> Json {
        let named = self.emission.fields.iter().zip(&self.fields);
        Json::Object(named.map(|((name, shape, _), value)| (name.to_string(), to_json(value, shape))).collect())
    }
}

/// Decides the command in `row`; `state` is the entity's row, none before its first event. All expressions see that state, whatever
/// the events before them change.
///
/// # Errors
/// An expression that cannot be evaluated: of the record.
pub fn decide<'p>(
    decision: &'p Decision,
    row: &Row<'_>,
    state: Option<&[Value]>,
    context: &RecordContext,
    evaluator: &mut Evaluator,
) -> Result<Verdict<'p>, Error> {
    let state = state.map_or(Value::Null, |fields| Value::Record(Arc::from(&fields[ENTITY_SYSTEM_FIELDS.len()..])));
    let state = [state];
    for rule in &decision.reject {
        if evaluator.eval(&rule.when, row, &state, context)? == Value::Bool(true) {
            return Ok(Verdict::Refused { code: &rule.code, message: rule.message.as_ref() });
        }
    }
    let mut emitted = Vec::with_capacity(decision.emit.len());
    for emission in &decision.emit {
        if let Some(when) = &emission.when
            && evaluator.eval(when, row, &state, context)? != Value::Bool(true)
        {
            continue;
        }
        let mut fields = Vec::with_capacity(emission.fields.len());
        for (_, _, given) in &emission.fields {
            fields.push(match given {
                Given::Expression(expression) => evaluator.eval(expression, row, &state, context)?,
                Given::Default(value) => value.clone(),
            });
        }
        emitted.push(Decided { emission, fields });
    }
    Ok(Verdict::Decided(emitted))
}

/// The answer to a command: what is remembered, replied and given over HTTP.
#[derive(Clone, Debug, PartialEq)]
pub struct Answer {
    pub command_id: Text,
    /// The command's full name.
    pub command: Text,
    pub entity: Text,
    pub key: Json,
    /// The entity's version after the command.
    pub version: i64,
    pub outcome: Outcome,
}

/// What a command came to, for those who sent it.
#[derive(Clone, Debug, PartialEq)]
pub enum Outcome {
    /// With each event's type, id, version and value.
    Accepted {
        events: Vec<Json>,
    },
    Refused {
        code: Text,
        message: Option<Text>,
    },
    WrongVersion {
        expected: u64,
    },
}

impl Answer {
    /// Returns the answer as it is written: every field is there.
    pub fn json(&self) -> Json {
        let mut answer = Map::new();
        let mut put = |name: &str, value: Json| answer.insert(name.to_owned(), value);
        put("command_id", json!(self.command_id.as_str()));
        put("command", json!(self.command.as_str()));
        put("entity", json!(self.entity.as_str()));
        put("key", self.key.clone());
        put("version", json!(self.version));
        let (outcome, events, code, message, expected) = match &self.outcome {
            Outcome::Accepted { events } => ("accepted", events.clone(), None, None, None),
            Outcome::Refused { code, message } => ("refused", Vec::new(), Some(code), message.as_ref(), None),
            Outcome::WrongVersion { expected } => ("wrong_version", Vec::new(), None, None, Some(expected)),
        };
        put("outcome", json!(outcome));
        put("events", Json::Array(events));
        put("code", json!(code.map(Text::as_str)));
        put("message", json!(message.map(Text::as_str)));
        put("expected_version", json!(expected));
        Json::Object(answer)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::record::Header;

    fn headers(pairs: &[(&str, &str)]) -> Headers {
        Headers::new(pairs.iter().map(|(name, value)| Header::text(name, *value)).collect())
    }

    #[test]
    fn a_command_is_known_by_its_own_id_or_by_the_events() {
        let head = |pairs: &[(&str, &str)]| CommandHead::of(&headers(pairs)).unwrap();
        assert_eq!(head(&[]), CommandHead::default());
        assert_eq!(head(&[("ce_id", "a")]).id.as_deref(), Some("a"));
        assert_eq!(head(&[("ce_id", "a"), ("command-id", "b")]).id.as_deref(), Some("b"));
        assert_eq!(head(&[("command-id", "")]).id, None);
        assert_eq!(head(&[("expected-version", " 12")]).expected_version, Some(12));
    }

    #[test]
    fn headers_that_cannot_be_are_the_records_failure() {
        let told = |name, value| CommandHead::of(&headers(&[(name, value)])).unwrap_err().to_string();
        assert_eq!(told("expected-version", "one"), "`expected-version` is `one`, and no version (E1010)");
        assert_eq!(told("expected-version", "-1"), "`expected-version` is `-1`, and no version (E1010)");
        let long = "x".repeat(COMMAND_ID_BYTES_MAX + 1);
        assert_eq!(told("command-id", &long), "the command's id has 257 bytes, more than 256 (E1010)");
    }
}
