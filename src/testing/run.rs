//! One test in a world of its own.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde_json::{Value as Json, json};

use super::cases::Case;
use super::commands::Answers;
use super::compare::{Fit, compare};
use super::file::{DeadLetter, Expected, Step, Test, Then};
use super::inputs::Input;
use super::world::{Output, World};
use crate::base::time::Timestamp;
use crate::base::types::short_name;
use crate::plan::Plan;
use crate::runtime::service::{Read, ReadError, ReadKind};

/// How a test ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    Passed,
    /// Every place where something was not as expected.
    Failed(Vec<String>),
    /// The test itself is wrong: an unknown topic, a value that is not of its schema.
    Wrong(String),
}

/// Most versions or rows that are compared of one key.
const ROWS_MAX: usize = 10_000;

/// The clock of a test whose events have no times.
const CLOCK_DEFAULT: Timestamp = Timestamp(946_684_800_000);

/// Runs a test.
pub fn run(plan: &Arc<Plan>, case: &Case) -> Outcome {
    match played(plan, &case.test) {
        Ok(mismatches) if mismatches.is_empty() => Outcome::Passed,
        Ok(mismatches) => Outcome::Failed(mismatches),
        Err(problem) => Outcome::Wrong(problem),
    }
}

fn played(plan: &Arc<Plan>, test: &Test) -> Result<Vec<String>, String> {
    let clock = match &test.clock {
        Some(clock) => clock.timestamp()?,
        None => first_time(test)?.unwrap_or(CLOCK_DEFAULT),
    };
    let mut world = World::new(Arc::clone(plan), clock).map_err(|error| error.to_string())?;
    let topics_of = sources(plan);
    let mut answers = Answers::default();
    let mut at = clock;
    let (before, what_happens) =
        if test.when.is_empty() { (&[][..], &test.given) } else { (test.given.as_slice(), &test.when) };
    for (index, step) in before.iter().enumerate() {
        happen(plan, &mut world, step, &topics_of, &mut at, &mut answers)
            .map_err(|problem| format!("given[{index}]: {problem}"))?;
    }
    let topics: Vec<String> = world.written_topics().map(str::to_owned).collect();
    for topic in &topics {
        world.outputs(topic).map_err(|error| error.to_string())?;
    }
    answers.begin();
    let name = if test.when.is_empty() { "given" } else { "when" };
    for (index, step) in what_happens.iter().enumerate() {
        happen(plan, &mut world, step, &topics_of, &mut at, &mut answers)
            .map_err(|problem| format!("{name}[{index}]: {problem}"))?;
    }
    let mut mismatches = Vec::new();
    let mut looking = Looking { world: &mut world, then: &test.then, mismatches: &mut mismatches };
    looking.all()?;
    answers.look(&test.then, looking.fit(), &mut mismatches);
    Ok(mismatches)
}

fn first_time(test: &Test) -> Result<Option<Timestamp>, String> {
    let times = test.given.iter().chain(&test.when).filter_map(|step| step.at.as_ref());
    times.into_iter().next().map(super::file::Moment::timestamp).transpose()
}

/// The topic that each stream and table reads.
fn sources(plan: &Plan) -> BTreeMap<String, String> {
    plan.read_topics().map(|source| (source.name.to_string(), source.topic.to_string())).collect()
}

fn happen(
    plan: &Plan,
    world: &mut World,
    step: &Step,
    topics: &BTreeMap<String, String>,
    at: &mut Timestamp,
    answers: &mut Answers,
) -> Result<(), String> {
    if let Some(span) = step.span()? {
        return world.advance(span).map_err(|error| error.to_string());
    }
    if let Some(moment) = &step.at {
        *at = moment.timestamp()?;
    }
    if let Some(command) = &step.command {
        return answers.send(plan, world, step, command, *at);
    }
    let topic = match (&step.topic, &step.node) {
        (Some(topic), None) => topic.clone(),
        (None, Some(node)) => topics.get(node).cloned().ok_or_else(|| {
            let help = crate::base::diag::suggestion(node, topics.keys().map(String::as_str));
            format!("no stream or table `{node}` reads a topic; {help}")
        })?,
        (Some(_), Some(_)) => return Err("`to` and `topic` exclude each other".to_owned()),
        (None, None) => {
            return Err(
                "say where the event goes: `to = \"a_stream\"`; or `advance = \"10m\"`, or `command`".to_owned()
            );
        }
    };
    let input = Input {
        topic,
        key: step.key.as_ref().map(|key| key.0.clone()),
        event_type: step.event_type.clone(),
        value: step.value.as_ref().map(|value| value.0.clone()),
        at: *at,
        headers: step.headers.clone(),
    };
    world.feed(&input).map_err(|error| error.to_string())
}

/// Looks at all that a test says must be.
struct Looking<'a> {
    world: &'a mut World,
    then: &'a Then,
    mismatches: &'a mut Vec<String>,
}

impl Looking<'_> {
    fn all(&mut self) -> Result<(), String> {
        self.stopped();
        for (topic, expected) in &self.then.outputs {
            self.outputs(topic, expected)?;
        }
        for (topic, expected) in &self.then.dead_letters {
            self.dead_letters(topic, expected)?;
        }
        for (store, rows) in &self.then.state {
            for (key, expected) in rows {
                self.state(store, key, &expected.0)?;
            }
        }
        for (entity, rows) in &self.then.history {
            for (key, expected) in rows {
                let expected: Vec<Json> = expected.iter().map(|version| version.0.clone()).collect();
                self.history(entity, key, &expected)?;
            }
        }
        Ok(())
    }

    fn fit(&self) -> Fit {
        if self.then.exact { Fit::Exact } else { Fit::Named }
    }

    fn stopped(&mut self) {
        let stopped = self.world.stopped();
        match &self.then.stopped {
            None => {
                self.mismatches.extend(stopped.iter().map(|(task, reason)| format!("task {task} stopped: {reason}")));
            }
            Some(wanted) if stopped.iter().any(|(_, reason)| reason.contains(wanted)) => {}
            Some(wanted) => {
                let reasons: Vec<&str> = stopped.iter().map(|(_, reason)| reason.as_str()).collect();
                let found = if reasons.is_empty() { "none stopped".to_owned() } else { reasons.join("; ") };
                self.mismatches.push(format!("stopped: expected a task to stop with {wanted:?}, {found}"));
            }
        }
    }

    fn outputs(&mut self, topic: &str, expected: &[Expected]) -> Result<(), String> {
        let found = self.world.outputs(topic).map_err(|error| error.to_string())?;
        for (index, output) in found.iter().enumerate() {
            let place = format!("outputs.{topic}[{index}]");
            match expected.get(index) {
                Some(expected) => self.output(expected, output, &place)?,
                None => self.mismatches.push(format!("{place}: not expected, found {}", line(output))),
            }
        }
        for (index, expected) in expected.iter().enumerate().skip(found.len()) {
            let value = expected.value.as_ref().map_or(Json::Null, |value| value.0.clone());
            self.mismatches.push(format!("outputs.{topic}[{index}]: expected {value}, and nothing more was written"));
        }
        Ok(())
    }

    fn output(&mut self, expected: &Expected, found: &Output, place: &str) -> Result<(), String> {
        let fit = self.fit();
        let mut check = |what: &str, expected: &Json, found: &Json| {
            compare(expected, found, fit, &format!("{place}.{what}"), self.mismatches);
        };
        if let Some(key) = &expected.key {
            check("key", &key.0, found.key.as_ref().unwrap_or(&Json::Null));
        }
        if let Some(value) = &expected.value {
            check("value", &value.0, found.value.as_ref().unwrap_or(&Json::Null));
        }
        if let Some(wanted) = &expected.event_type {
            let full = found.event_type.clone().unwrap_or_default();
            let short = short_name(&full).to_owned();
            let found = if wanted.0.as_str() == Some(&short) { short } else { full };
            check("type", &wanted.0, &json!(found));
        }
        for (name, value) in &expected.headers {
            check(&format!("headers.{name}"), &value.0, &json!(found.headers.get(name)));
        }
        if let Some(at) = &expected.at {
            check("at", &json!(at.timestamp()?.to_string()), &json!(found.at.to_string()));
        }
        if let Some(window) = &expected.window {
            let found = found.window.map(|window| window.start.to_string());
            check("window", &json!(window.timestamp()?.to_string()), &json!(found));
        }
        Ok(())
    }

    fn dead_letters(&mut self, topic: &str, expected: &[DeadLetter]) -> Result<(), String> {
        let found = self.world.outputs(topic).map_err(|error| error.to_string())?;
        if found.len() != expected.len() {
            let place = format!("dead_letters.{topic}");
            self.mismatches.push(format!("{place}: expected {} records, found {}", expected.len(), found.len()));
        }
        for (index, (expected, found)) in expected.iter().zip(&found).enumerate() {
            let place = format!("dead_letters.{topic}[{index}]");
            if let Some(key) = &expected.key {
                let found = found.key.as_ref().unwrap_or(&Json::Null);
                compare(&key.0, found, Fit::Named, &format!("{place}.key"), self.mismatches);
            }
            let reason = found.headers.get("__streams.errors.message").map_or("", String::as_str);
            if let Some(wanted) = expected.reason.as_ref().filter(|wanted| !reason.contains(wanted.as_str())) {
                self.mismatches.push(format!("{place}.reason: expected words {wanted:?}, found {reason:?}"));
            }
        }
        Ok(())
    }

    fn state(&mut self, store: &str, key: &str, expected: &Json) -> Result<(), String> {
        let what = ReadKind::Key { store: store.to_owned(), key: key.to_owned(), from: None, to: None };
        let place = format!("state.{store}.{key}");
        let found = match self.world.read(&Read::of(what)) {
            Ok(answer) => answer,
            Err(ReadError::NotFound { code, .. }) if code == crate::error::codes::READ_UNKNOWN_KEY => {
                if *expected != Json::Bool(false) {
                    self.mismatches.push(format!("{place}: expected {expected}, there is no such key"));
                }
                return Ok(());
            }
            Err(error) => return Err(format!("{place}: {error}")),
        };
        let fit = self.fit();
        match (found.get("windows"), found.get("value")) {
            (Some(Json::Array(windows)), _) => {
                let rows: Vec<Json> = windows.iter().map(flat_window).collect();
                compare(expected, &Json::Array(rows), fit, &place, self.mismatches);
            }
            (_, Some(value)) => compare(expected, value, fit, &place, self.mismatches),
            (_, _) => return Err(format!("{place}: the answer has neither a value nor windows")),
        }
        Ok(())
    }

    fn history(&mut self, entity: &str, key: &str, expected: &[Json]) -> Result<(), String> {
        let what = ReadKind::History { entity: entity.to_owned(), key: key.to_owned(), limit: ROWS_MAX, cursor: None };
        let place = format!("history.{entity}.{key}");
        let found = match self.world.read(&Read::of(what)) {
            Ok(answer) => answer["versions"].as_array().cloned().unwrap_or_default(),
            Err(ReadError::NotFound { code, .. }) if code == crate::error::codes::READ_UNKNOWN_KEY => Vec::new(),
            Err(error) => return Err(format!("{place}: {error}")),
        };
        let versions: Vec<Json> = found.iter().map(shown_version).collect();
        compare(&json!(expected), &Json::Array(versions), Fit::Named, &place, self.mismatches);
        Ok(())
    }
}

/// A window's row with its bounds among its fields.
fn flat_window(window: &Json) -> Json {
    let mut row = window["value"].clone();
    if let Json::Object(fields) = &mut row {
        fields.insert("start".to_owned(), window["start"].clone());
        fields.insert("end".to_owned(), window["end"].clone());
    }
    row
}

/// A version as a test names it: its number, its event's type without namespace, the state after it.
fn shown_version(version: &Json) -> Json {
    let full = version["event"]["type"].as_str().unwrap_or_default();
    let short = short_name(full);
    json!({ "version": version["version"], "type": short, "state": version["state"] })
}

fn line(output: &Output) -> String {
    let value = output.value.clone().unwrap_or(Json::Null);
    format!("{} under key {}", value, output.key.clone().unwrap_or(Json::Null))
}
