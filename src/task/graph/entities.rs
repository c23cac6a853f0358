//! Entities on the walk: events are folded; commands are decided, and what they give is folded at once, written to the entity's own
//! topic and answered.
//!
//! An event that was decided here comes back from the topic later. It is known again by its number (`task/own_event.rs`) and not
//! applied twice; its version then learns where it stands.

use bytes::Bytes;
use serde_json::{Value as Json, json};

use crate::avro::{frame, to_json};
use crate::base::hash::partition_of;
use crate::base::record::{Header, Headers, Outgoing};
use crate::base::time::Timestamp;
use crate::base::value::Value;
use crate::entity::{self, Answer, Applied, CommandHead, Decided, Moment, OFFSET_UNKNOWN, Outcome, Verdict};
use crate::operator::{self, DropReason, RecordContext, Row, key_value};
use crate::plan::{Deciding, ENTITY_SYSTEM_FIELDS, Entity, HELD_SYSTEM_FIELDS, Input, NodeIndex, NodeKind};
use crate::store::StoreIndex;
use crate::task::own_event::{self, OwnEvent};
use crate::task::{lineage, process};

use super::{At, Graph, NodeError, Step};

impl Graph {
    pub(super) fn entity(&mut self, at: At<'_>, entity: &Entity, row: &Row<'_>, context: &RecordContext) -> Step {
        let Some(deciding) = &entity.deciding else { return self.fold(at, entity, row, context) };
        if at.input == Input::Right {
            return self.command(at, entity, deciding, row, context);
        }
        if let Some(own) = own_event::decode(&context.headers, &self.application, &at.node.name) {
            if own.sequence <= self.times.sequence[at.slot()] {
                return self.comes_back(at, entity, own, row, context);
            }
            self.times.sequence[at.slot()] = own.sequence;
        }
        self.fold(at, entity, row, context)
    }

    /// Applies an event; each new version goes on.
    fn fold(&mut self, at: At<'_>, entity: &Entity, row: &Row<'_>, context: &RecordContext) -> Step {
        let moment = Moment { recorded: self.times.recorded, processed: self.now };
        let applied = entity::apply(entity, row, context, moment, &mut self.stores, &mut self.evaluator);
        match applied.map_err(|error| at.failed(error))? {
            Applied::Untouched => Ok(()),
            Applied::Dropped(reason) => self.drop_row(at, reason),
            Applied::Version(fields) => {
                let state = &fields[ENTITY_SYSTEM_FIELDS.len()..];
                self.pass(at, &Row { layout: entity.layout, slots: Some(state), ..*row }, context)
            }
        }
    }

    /// An event that was applied when it was decided.
    fn comes_back(
        &mut self,
        at: At<'_>,
        entity: &Entity,
        own: OwnEvent,
        row: &Row<'_>,
        context: &RecordContext,
    ) -> Step {
        let (Some(history), Some(key)) = (&entity.history, row.key) else { return Ok(()) };
        entity::set_offset(history, key, own.version, context.offset, &mut self.stores)
            .map_err(|error| at.failed(error))
    }

    fn command(
        &mut self,
        at: At<'_>,
        entity: &Entity,
        deciding: &Deciding,
        row: &Row<'_>,
        context: &RecordContext,
    ) -> Step {
        let Some(key) = row.key else { return self.drop_row(at, DropReason::NullKey) };
        if row.slots.is_none() {
            return self.drop_row(at, DropReason::NullValue);
        }
        let Some(decision) = deciding.decisions.get(row.layout) else { return Ok(()) };
        self.forget_answers(at, deciding)?;
        let head = CommandHead::of(&context.headers).map_err(|error| at.failed(error))?;
        let what = head.id.as_ref().map(|id| entity::answer_key(key, id));
        if let Some(what) = &what
            && let Some(known) = self.answered(at, deciding, what)?
        {
            self.count_drop(at.index, DropReason::Duplicate);
            return self.reply(at, deciding, row, &known, context);
        }
        let (store, evaluator) = (StoreIndex(entity.store.0), &mut self.evaluator);
        let state = self.stores.get(store, key).map_err(|error| at.failed(error))?;
        let version = state.as_ref().and_then(|state| state.fields[0].as_int()).unwrap_or(0);
        let outcome = match head.expected_version {
            Some(expected) if expected != version.unsigned_abs() => Outcome::WrongVersion { expected },
            Some(_) | None => {
                let state = state.as_ref().map(|state| &*state.fields);
                match entity::decide(decision, row, state, context, evaluator).map_err(|error| at.failed(error))? {
                    Verdict::Refused { code, message } => {
                        Outcome::Refused { code: code.clone(), message: message.cloned() }
                    }
                    Verdict::Decided(events) => {
                        let made = Made { entity, deciding, version };
                        Outcome::Accepted { events: self.happen(at, &made, &events, row, context)? }
                    }
                }
            }
        };
        let given = if let Outcome::Accepted { events } = &outcome { events.len() as i64 } else { 0 };
        let shown = key_value(Some(key), row.key_format).map_err(|error| at.failed(error))?;
        let answer = Answer {
            command_id: head.id.unwrap_or_else(|| lineage::id_of(context).into()),
            command: decision.command.clone(),
            entity: at.node.name.clone(),
            key: to_json(&shown, &row.key_format.key_type()),
            version: version + given,
            outcome,
        };
        let answer = answer.json().to_string();
        if let Some(what) = &what {
            let due = row.timestamp.saturating_add(deciding.within);
            self.hold(at, &deciding.answers, what, due, row.timestamp, Some(&[Value::text(&answer)]))?;
        }
        self.reply(at, deciding, row, &answer, context)
    }

    /// Lets go of answers that were remembered for long enough.
    fn forget_answers(&mut self, at: At<'_>, deciding: &Deciding) -> Step {
        let time = self.operator_time(at.index);
        while self.released(at, &deciding.answers, time, None)?.is_some() {}
        Ok(())
    }

    fn answered(&mut self, at: At<'_>, deciding: &Deciding, what: &[u8]) -> Result<Option<String>, NodeError> {
        let known = self.stores.get(StoreIndex(deciding.answers.store.0), what).map_err(|error| at.failed(error))?;
        let answer = known.and_then(|row| row.fields[HELD_SYSTEM_FIELDS.len()].as_str().map(str::to_owned));
        Ok(answer)
    }

    /// Writes the events that a command gives, and applies each. Returns them as answers show them.
    fn happen(
        &mut self,
        at: At<'_>,
        made: &Made<'_>,
        events: &[Decided<'_>],
        row: &Row<'_>,
        context: &RecordContext,
    ) -> Result<Vec<Json>, NodeError> {
        let cause = lineage::id_of(context).into_owned();
        let mut shown = Vec::with_capacity(events.len());
        for (index, event) in events.iter().enumerate() {
            let id = format!("{cause}/{index}");
            let version = made.version + 1 + index as i64;
            self.times.sequence[at.slot()] += 1;
            let own = OwnEvent { sequence: self.times.sequence[at.slot()], version: version.unsigned_abs() };
            let mark = own_event::encode(own, &self.application, &at.node.name);
            let [correlation, causation] = lineage::of_what_follows(context);
            let headers = Headers::new(vec![
                Header::text("ce_specversion", "1.0"),
                Header::text(lineage::ID, id.as_str()),
                Header::text("ce_source", format!("/{}/{}", self.application, at.node.name)),
                Header::text("ce_type", event.emission.event.as_str()),
                correlation,
                causation,
                mark,
            ]);
            self.event(at, made, event, headers, row, context)?;
            let kind = event.emission.event.as_str();
            shown.push(json!({ "type": kind, "id": id, "version": version, "value": event.json() }));
        }
        Ok(shown)
    }

    /// Writes one event and applies it.
    fn event(
        &mut self,
        at: At<'_>,
        made: &Made<'_>,
        event: &Decided<'_>,
        headers: Headers,
        row: &Row<'_>,
        context: &RecordContext,
    ) -> Step {
        let sink = At::new(at.plan, made.deciding.events);
        let NodeKind::Sink { topic, .. } = &sink.node.kind else { return Ok(()) };
        let value = self.encoded(sink, event.emission.written, &event.fields)?;
        let kept = event.kept();
        let written = Row { layout: event.emission.read, slots: Some(&kept), ..*row };
        let mut of_event = RecordContext {
            topic: topic.clone(),
            partition: context.partition,
            offset: OFFSET_UNKNOWN,
            timestamp: row.timestamp,
            type_name: event.emission.event.clone(),
            schema_id: value.as_deref().and_then(|value| Some(frame::split(value).ok()?.0.0)),
            headers: headers.clone(),
        };
        let source = &at.plan.sources[usize::from(made.deciding.events_source.0)];
        let timestamp = match source.timestamp.get(event.emission.read) {
            Some(expression) => {
                let time = process::timestamp_in(expression, &written, &of_event, &mut self.evaluator);
                time.map_err(|message| at.failed(operator::Error::Record { message }))?.unwrap_or(row.timestamp)
            }
            None => row.timestamp,
        };
        of_event.timestamp = timestamp;
        self.times.recorded = self.times.recorded.max(timestamp);
        // The partition is the task's own, so that the event comes back here whatever put the command here.
        let (key, partition) = (row.key.map(|key| self.packer.pack(key)), context.partition);
        self.checked(
            sink,
            Outgoing { topic: topic.clone(), partition, timestamp: row.timestamp, key, value, headers },
        )?;
        self.latencies.sent(sink.index, row.timestamp);
        self.fold(at, made.entity, &Row { timestamp, ..written }, &of_event)
    }

    /// Writes an answer, where answers go to a topic.
    fn reply(&mut self, at: At<'_>, deciding: &Deciding, row: &Row<'_>, answer: &str, context: &RecordContext) -> Step {
        let Some(NodeIndex(index)) = deciding.replies else { return Ok(()) };
        let sink = At::new(at.plan, NodeIndex(index));
        let (NodeKind::Sink { topic, .. }, Some(key)) = (&sink.node.kind, row.key) else { return Ok(()) };
        let [correlation, causation] = lineage::of_what_follows(context);
        let id = Header::text(entity::COMMAND_ID_HEADER, lineage::id_of(context));
        let record = Outgoing {
            topic: topic.clone(),
            partition: partition_of(key, self.resolved.partitions[sink.slot()].max(1)),
            timestamp: Timestamp(row.timestamp.0.max(0)),
            key: Some(self.packer.pack(key)),
            value: Some(Bytes::from(answer.to_owned())),
            headers: Headers::new(vec![id, correlation, causation]),
        };
        self.checked(sink, record)
    }
}

/// Whose events are being made, and its version before them.
#[derive(Clone, Copy)]
struct Made<'p> {
    entity: &'p Entity,
    deciding: &'p Deciding,
    version: i64,
}
