//! Commands of a test: what is sent, and what the answers come to.

use serde_json::{Value as Json, json};

use super::compare::{Fit, compare};
use super::file::{Data, Step, Then};
use super::inputs::Input;
use super::world::{World, WorldError};
use crate::base::diag::suggestion;
use crate::base::time::Timestamp;
use crate::base::types::{is_called, short_name};
use crate::entity::{COMMAND_ID_HEADER, EXPECTED_VERSION_HEADER};
use crate::error::codes;
use crate::plan::{Entity, NodeKind, Plan, Source};
use crate::runtime::service::{Read, ReadError, ReadKind};

/// The answers to the commands of a test, in order.
#[derive(Debug, Default)]
pub(super) struct Answers {
    sent: usize,
    /// With the entity's name.
    given: Vec<(String, Json)>,
}

/// An entity that takes commands, and the source of these.
fn deciding(plan: &Plan) -> impl Iterator<Item = (&str, &Entity, &Source)> {
    plan.sub_topologies.iter().flat_map(|sub| {
        sub.nodes.iter().filter_map(|node| {
            let NodeKind::Entity(entity) = &node.kind else { return None };
            let deciding = entity.deciding.as_ref()?;
            Some((node.name.as_str(), &**entity, &sub.sources[usize::from(deciding.commands_source.0)]))
        })
    })
}

fn takes(entity: &Entity, command: &str) -> bool {
    let commands = entity.deciding.iter().flat_map(|deciding| &deciding.commands);
    let mut names = commands.filter_map(|command| command.schema.full_name());
    names.any(|name| is_called(name, command))
}

/// Finds who decides a command.
fn decided_by<'p>(plan: &'p Plan, step: &Step, command: &str) -> Result<(&'p str, &'p Source), String> {
    let known: Vec<&str> = deciding(plan).map(|(name, ..)| name).collect();
    if let Some(entity) = &step.entity {
        let found = deciding(plan).find(|(name, ..)| name == entity);
        return match found {
            Some((name, _, source)) => Ok((name, source)),
            None => Err(format!("no entity `{entity}` takes commands; {}", suggestion(entity, known))),
        };
    }
    let takers: Vec<_> = deciding(plan).filter(|(_, entity, _)| takes(entity, command)).collect();
    match takers.as_slice() {
        [(name, _, source)] => Ok((name, source)),
        [] => Err(format!("no entity takes a command `{command}`; those that take any: `{}`", known.join("`, `"))),
        several => {
            let names: Vec<&str> = several.iter().map(|(name, ..)| *name).collect();
            Err(format!("several entities take `{command}`, say which with `entity`: `{}`", names.join("`, `")))
        }
    }
}

impl Answers {
    /// Forgets what was answered so far: what is looked at begins here.
    pub(super) fn begin(&mut self) {
        self.given.clear();
    }

    /// Sends the command of a step, and keeps its answer.
    pub(super) fn send(
        &mut self,
        plan: &Plan,
        world: &mut World,
        step: &Step,
        command: &str,
        at: Timestamp,
    ) -> Result<(), String> {
        let (entity, source) = decided_by(plan, step, command)?;
        self.sent += 1;
        let id = match &step.id {
            None => format!("command-{}", self.sent),
            Some(Data(Json::String(id))) => id.clone(),
            Some(Data(other)) => return Err(format!("a command's `id` is text, not {other}")),
        };
        let mut headers = step.headers.clone();
        headers.insert(COMMAND_ID_HEADER.to_owned(), id.clone());
        if let Some(Data(version)) = &step.expected_version {
            headers.insert(EXPECTED_VERSION_HEADER.to_owned(), version.to_string());
        }
        let Some(Data(key)) = &step.key else { return Err(format!("the command `{command}` has no `key`")) };
        let input = Input {
            topic: source.topic.to_string(),
            key: Some(key.clone()),
            event_type: Some(command.to_owned()),
            value: Some(step.value.as_ref().map_or_else(|| json!({}), |value| value.0.clone())),
            at,
            headers,
        };
        world.feed(&input).map_err(|error: WorldError| error.to_string())?;
        let text = key.as_str().map_or_else(|| key.to_string(), str::to_owned);
        let what = ReadKind::Answer { entity: entity.to_owned(), key: text, id: id.clone() };
        let answer = match world.read(&Read::of(what)) {
            Ok(answer) => answer,
            Err(ReadError::NotFound { code, .. }) if code == codes::READ_UNKNOWN_KEY => {
                json!({ "command_id": id, "command": command, "entity": entity, "key": key, "outcome": "none" })
            }
            Err(error) => return Err(error.to_string()),
        };
        self.given.push((entity.to_owned(), answer));
        Ok(())
    }

    fn of<'a>(&'a self, entity: &'a str) -> impl Iterator<Item = &'a Json> {
        self.given.iter().filter(move |(name, _)| name == entity).map(|(_, answer)| answer)
    }

    /// Compares what a test says of its commands with what they came to.
    pub(super) fn look(&self, then: &Then, fit: Fit, mismatches: &mut Vec<String>) {
        for (entity, expected) in &then.replies {
            let found = self.of(entity).map(shown).collect();
            all(&format!("replies.{entity}"), expected, found, fit, mismatches);
        }
        for (entity, expected) in &then.refusals {
            let refused = self.of(entity).filter(|answer| answer["outcome"] != "accepted");
            all(&format!("refusals.{entity}"), expected, refused.map(shown).collect(), fit, mismatches);
        }
        for (entity, expected) in &then.events {
            let events = self.of(entity).flat_map(|answer| {
                let events = answer["events"].as_array().cloned().unwrap_or_default();
                events.into_iter().map(|mut event| {
                    event["key"] = answer["key"].clone();
                    short(&mut event, "type");
                    event
                })
            });
            all(&format!("events.{entity}"), expected, events.collect(), fit, mismatches);
        }
    }
}

/// An answer as a test names it: types without namespace.
fn shown(answer: &Json) -> Json {
    let mut answer = answer.clone();
    short(&mut answer, "command");
    if let Some(events) = answer.get_mut("events").and_then(Json::as_array_mut) {
        events.iter_mut().for_each(|event| short(event, "type"));
    }
    answer
}

fn short(of: &mut Json, name: &str) {
    if let Some(short) = of[name].as_str().map(short_name) {
        of[name] = json!(short);
    }
}

/// Compares a list item by item, and says what there is too much or too little of.
fn all(place: &str, expected: &[Data], found: Vec<Json>, fit: Fit, mismatches: &mut Vec<String>) {
    for (index, found) in found.iter().enumerate() {
        match expected.get(index) {
            Some(expected) => compare(&expected.0, found, fit, &format!("{place}[{index}]"), mismatches),
            None => mismatches.push(format!("{place}[{index}]: not expected, found {found}")),
        }
    }
    for (index, expected) in expected.iter().enumerate().skip(found.len()) {
        mismatches.push(format!("{place}[{index}]: expected {}, and there were no more", expected.0));
    }
}
