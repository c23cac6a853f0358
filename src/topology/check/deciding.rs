//! Entities that decide: which commands there are, what refuses each of them, which events it gives, and that the entity folds
//! what it decides.

use std::sync::Arc;

use super::super::graph::{
    ByVariant, Deciding, Decision, Emission, Expression, Given, NodeId, NodeKind, Rejection, Rows, SinkWriter, Source,
    Variant,
};
use super::super::resolve::Item;
use super::super::spec::{CommandsSpec, DecideSpec, EmitSpec, EntitySpec, ExpressionText};
use super::super::terms::{SubjectNaming, ValueFormat, roots};
use super::Checker;
use super::expressions::{Scope, Taking, some};
use super::schemas::start_values;
use crate::base::diag::suggestion;
use crate::base::ids::Topic;
use crate::base::types::{RecordType, Type, is_called};
use crate::base::value::Text;
use crate::error::codes;

/// What the rules of one command are checked against.
struct Rules<'a> {
    /// The name of the stream with the entity's events.
    from: &'a str,
    events: &'a Rows,
    /// The events that the entity applies.
    applied: &'a [usize],
    command: usize,
    taking: &'a Taking<'a>,
}

impl Checker<'_> {
    pub(super) fn deciding(
        &self,
        item: &Item<'_>,
        entity: &EntitySpec,
        spec: &CommandsSpec,
        (from, commands): (NodeId, NodeId),
        state: &Arc<RecordType>,
        applied: &[usize],
    ) -> Option<Deciding> {
        let (events, taken) = (self.rows(from), self.rows(commands));
        let source = self.own_topic(entity, from)?;
        let command_source = self.nodes[commands.0].kind.source()?;
        if taken.rekeyed || !matches!(command_source.value_format, ValueFormat::Avro | ValueFormat::Json) {
            let message = "commands are records of Avro or JSON under bare keys";
            let help =
                "leave `value_format` out, or write \"json\"; a command must come to the partition of its entity";
            self.error(codes::DECIDING_SOURCE, spec.stream.place, message, help);
        }
        if taken.key != events.key {
            let message = format!(
                "the keys do not match: commands have {} keys, `{}` has {}",
                taken.key.name(),
                entity.from.value,
                events.key.name()
            );
            let help = "a command meets its entity by its key: give both the same `key_format`";
            self.error(codes::JOIN_SIDES, spec.stream.place, message, help);
        }
        let mut decisions: ByVariant<Decision> = taken.variants.iter().map(|_| None).collect();
        let none = format!("`{}` takes no command", item.name.value);
        for (command, decide) in &spec.decide {
            let Some(index) = self.variant_of(taken, command, &none, codes::UNKNOWN_COMMAND) else { continue };
            let taking = some(&taken.variants, &[index]);
            let whole = Type::Record(Arc::clone(state)).optional();
            let scope = Scope::row("command", taken).with("state", whole);
            let rules = Rules { from: &entity.from.value, events, applied, command: index, taking: &taking };
            decisions[index] = self.decision(&rules, decide, scope);
        }
        for variant in &taken.variants {
            let named = |(name, _): &&(super::Located<String>, DecideSpec)| is_called(variant.name(), &name.value);
            if !spec.decide.iter().any(|decide| named(&decide)) {
                let short = variant.short_name();
                let message = format!("`{}` takes the command `{short}` and does not decide it", item.name.value);
                let help = format!("add `[entity.{}.decide.{short}]`, or take its schema out", item.name.value);
                self.error(codes::COMMAND_UNDECIDED, spec.stream.place, message, help);
            }
        }
        let mut writers: ByVariant<SinkWriter> = events.variants.iter().map(|_| None).collect();
        for emission in decisions.iter().flatten().flat_map(|decision| &decision.emit) {
            writers[emission.event] = writer(&source.topic, source.subjects, events, emission.event);
        }
        let command_writers = (0..taken.variants.len())
            .filter_map(|index| writer(&command_source.topic, command_source.subjects, taken, index))
            .collect();
        Some(Deciding {
            commands,
            decisions,
            within: spec.within,
            replies: spec.replies.as_ref().map(|topic| Topic::new(&topic.value)),
            writers,
            command_writers,
        })
    }

    /// Events are appended to the topic that the entity's stream reads, so it must read one, as Avro.
    fn own_topic(&self, entity: &EntitySpec, from: NodeId) -> Option<&Source> {
        let refuse = |message: String, help: &str| {
            self.error(codes::DECIDING_SOURCE, entity.from.place, message, help);
            None
        };
        let NodeKind::Source(source) = &self.nodes[from.0].kind else {
            let message =
                format!("an entity that decides writes to its own topic, and `{}` reads none", entity.from.value);
            return refuse(message, "name the `[stream.…]` with the `topic` that has the entity's events");
        };
        if source.value_format != ValueFormat::Avro || self.rows(from).rekeyed {
            let message =
                format!("`{}` is not Avro under bare keys, which decided events are written as", entity.from.value);
            return refuse(message, "leave `value_format` out of the stream, and let its keys be bare");
        }
        Some(source)
    }

    /// Checks the rules of one type of command. What a rule has ruled out need not be handled by those behind it.
    fn decision(&self, rules: &Rules<'_>, decide: &DecideSpec, mut scope: Scope) -> Option<Decision> {
        let mut reject = Vec::new();
        let mut sound = true;
        for rule in &decide.reject {
            let Some(when) = self.one(rules, &rule.when, &scope, &Type::Bool) else {
                sound = false;
                continue;
            };
            if when.checked.proves_present(roots::OTHER, false) {
                scope = scope.other_present();
            }
            let message = rule.message.as_ref().map(|message| Text::new(&message.value));
            reject.push(Rejection { when, code: Text::new(&rule.code.value), message });
        }
        let emit: Vec<Option<Emission>> =
            decide.emit.iter().map(|emit| self.emission(rules, emit, scope.clone())).collect();
        let emit = emit.into_iter().collect::<Option<Vec<_>>>().filter(|_| sound)?;
        Some(Decision { reject, emit })
    }

    /// An expression over the command that the rules are of.
    fn one(&self, rules: &Rules<'_>, text: &ExpressionText, scope: &Scope, wanted: &Type) -> Option<Expression> {
        self.expression_as(text, rules.taking, scope, wanted)?.into_iter().nth(rules.command).flatten()
    }

    fn emission(&self, rules: &Rules<'_>, emit: &EmitSpec, mut scope: Scope) -> Option<Emission> {
        let event = self.variant_named(rules.events, &emit.event, rules.from)?;
        let mut sound = true;
        if !rules.applied.contains(&event) {
            let name = &emit.event.value;
            let message = format!("the entity gives `{name}` and does not apply it");
            let help = format!(
                "say what it changes: `apply.{name}.set = {{ … }}`; an event that changes nothing has `set = {{}}`"
            );
            self.error(codes::EVENT_NOT_APPLIED, emit.event.place, message, help);
            sound = false;
        }
        let when = match &emit.when {
            None => None,
            Some(text) => {
                let when = self.one(rules, text, &scope, &Type::Bool)?;
                if when.checked.proves_present(roots::OTHER, true) {
                    scope = scope.other_present();
                }
                Some(when)
            }
        };
        let variant = &rules.events.variants[event];
        for (name, _) in emit.fields.iter().filter(|(name, _)| variant.record.field(&name.value).is_none()) {
            let message = format!("`{}` has no field `{}`", emit.event.value, name.value);
            let help = suggestion(&name.value, variant.fields().iter().map(|field| field.name.as_str()));
            self.error(codes::EVENT_FIELDS, name.place, message, help);
            sound = false;
        }
        let defaults = variant.schema.as_ref().map(start_values)?;
        let mut fields = Vec::new();
        let mut missing = Vec::new();
        for (field, default) in variant.fields().iter().zip(defaults) {
            match (emit.fields.iter().find(|(name, _)| *name.value == *field.name), default) {
                (Some((_, text)), _) => match self.one(rules, text, &scope, &field.field_type) {
                    Some(expression) => fields.push(Given::Expression(expression)),
                    None => sound = false,
                },
                (None, Ok(default)) => fields.push(Given::Default(default)),
                (None, Err(name)) => missing.push(name),
            }
        }
        if !missing.is_empty() {
            let message = format!("`{}` lacks `{}`", emit.event.value, missing.join("`, `"));
            let help = "its schema has no default for it: give it a value, or the schema a \"default\"";
            self.error(codes::EVENT_FIELDS, emit.event.place, message, help);
            sound = false;
        }
        sound.then_some(Emission { when, event, fields })
    }
}

/// How rows of a topic are written back to it. Several types need a subject each.
fn writer(topic: &Topic, naming: SubjectNaming, rows: &Rows, index: usize) -> Option<SinkWriter> {
    let Variant { record, schema, .. } = &rows.variants[index];
    let naming = match naming {
        SubjectNaming::TopicName if rows.variants.len() > 1 => SubjectNaming::TopicRecordName,
        SubjectNaming::TopicName | SubjectNaming::RecordName | SubjectNaming::TopicRecordName => naming,
    };
    let columns = (0..record.fields().len()).collect();
    Some(SinkWriter { schema: schema.clone()?, subject: naming.subject(topic, &record.name), columns })
}
