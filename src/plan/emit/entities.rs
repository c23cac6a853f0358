//! Entities: what an event sets, what a command comes to, where events and replies are written.

use super::Emitter;
use crate::base::value::Text;
use crate::plan::flow::{PartId, PartKind};
use crate::plan::model::{
    CommandType, Deciding, Decision, Emission, Entity, Given, Held, History, KeyFormat, NodeIndex, NodeKind, PerLayout,
    Rejection, SinkKey, SourceIndex, ValueFormat, Writer,
};
use crate::plan::names::{answers_store, due_store, history_store};
use crate::topology;

impl Emitter<'_, '_> {
    pub(super) fn entity(&self, id: PartId, entity: &topology::Entity) -> NodeKind {
        let part = self.flow.part(id);
        let mut apply = PerLayout::default();
        for (variant, shape) in &part.input {
            if let Some(set) = &entity.apply[*variant] {
                let set = set.iter().map(|(field, expression)| (*field, self.expression(*shape, expression)));
                apply.set(self.layout(*shape), set.collect());
            }
        }
        let history = entity.history.map(|keep| History {
            store: self.store(&history_store(&part.name)),
            keep,
            headers: entity.history_headers.clone(),
        });
        NodeKind::Entity(Box::new(Entity {
            store: self.store(&part.name),
            history,
            apply,
            initial: entity.initial.clone(),
            layout: self.layout(part.output[0].1),
            deciding: entity.deciding.as_ref().map(|deciding| Box::new(self.deciding(id, deciding))),
        }))
    }

    fn deciding(&self, id: PartId, deciding: &topology::Deciding) -> Deciding {
        let part = self.flow.part(id);
        let node = |is: &dyn Fn(&PartKind<'_>) -> bool| {
            let found = self.node_ids.iter().position(|node| is(&self.flow.part(*node).kind));
            found.map(|index| NodeIndex(index as u16))
        };
        let events = node(&|kind| matches!(kind, PartKind::Decided { entity } if *entity == id));
        let source = |of: PartId| {
            let found = self.source_ids.iter().position(|source| *source == of);
            SourceIndex(found.expect("an entity that decides reads its topics itself") as u16)
        };
        let mut decisions = PerLayout::default();
        for (variant, shape) in &part.right.input {
            if let Some(decision) = &deciding.decisions[*variant] {
                let command = self.flow.shape(*shape).record.name.clone();
                decisions.set(self.layout(*shape), self.decision(id, command, *shape, decision));
            }
        }
        let answers = answers_store(&part.name);
        Deciding {
            events_source: source(part.parents[0]),
            commands_source: source(part.right.parents[0]),
            events: events.expect("what writes an entity's events is part of its sub-topology"),
            replies: node(&|kind| matches!(kind, PartKind::Replies { entity } if *entity == id)),
            decisions,
            answers: Held { store: self.store(&answers), due: self.store(&due_store(&answers)), slots: 1 },
            within: deciding.within,
            commands: (deciding.command_writers.iter())
                .map(|writer| CommandType { schema: writer.schema.clone(), subject: writer.subject.clone() })
                .collect(),
        }
    }

    fn decision(
        &self,
        id: PartId,
        command: Text,
        shape: crate::plan::flow::ShapeId,
        decision: &topology::Decision,
    ) -> Decision {
        let reject = decision.reject.iter().map(|rule| Rejection {
            when: self.expression(shape, &rule.when),
            code: rule.code.clone(),
            message: rule.message.clone(),
        });
        let emit = decision.emit.iter().filter_map(|emit| self.emission(id, shape, emit));
        Decision { command, reject: reject.collect(), emit: emit.collect() }
    }

    fn emission(
        &self,
        id: PartId,
        command: crate::plan::flow::ShapeId,
        emission: &topology::Emission,
    ) -> Option<Emission> {
        let shape_in = |part: PartId| {
            let input = &self.flow.part(part).input;
            input.iter().find(|(variant, _)| *variant == emission.event).map(|(_, shape)| *shape)
        };
        let written = self
            .node_ids
            .iter()
            .find(|node| matches!(self.flow.part(**node).kind, PartKind::Decided { entity } if entity == id));
        let (read, written) = (shape_in(id)?, shape_in(*written?)?);
        let record = &self.flow.shape(written).record;
        let fields = record.fields().iter().zip(&emission.fields).map(|(field, given)| {
            let given = match given {
                topology::Given::Expression(expression) => Given::Expression(self.expression(command, expression)),
                topology::Given::Default(value) => Given::Default(value.clone()),
            };
            (field.name.clone(), field.field_type.clone(), given)
        });
        Some(Emission {
            when: emission.when.as_ref().map(|when| self.expression(command, when)),
            event: record.name.clone(),
            fields: fields.collect(),
            written: self.layout(written),
            read: self.layout(read),
            kept: self.flow.shape(read).used.iter().copied().collect(),
        })
    }

    /// What writes an entity's events or its answers.
    pub(super) fn written_by(&self, id: PartId, entity: &topology::Entity) -> NodeKind {
        if matches!(self.flow.part(id).kind, PartKind::Decided { .. }) {
            self.decided(id, entity)
        } else {
            self.replies(id, entity)
        }
    }

    /// Writes events to the topic that the entity's stream reads.
    fn decided(&self, id: PartId, entity: &topology::Entity) -> NodeKind {
        let part = self.flow.part(id);
        let mut writers = PerLayout::default();
        for (variant, shape) in &part.input {
            let writer = entity.deciding.as_ref().and_then(|deciding| deciding.writers[*variant].as_ref());
            if let Some(writer) = writer {
                let (schema, subject) = (writer.schema.clone(), Some(writer.subject.clone()));
                let (format, slots) = (ValueFormat::Avro, writer.columns.clone());
                writers.set(self.layout(*shape), Writer { schema, subject, format, slots });
            }
        }
        let from = self.flow.graph.node(entity.from);
        let topic = from.kind.source().map(|source| source.topic.clone());
        let topic = topic.expect("the stream of an entity that decides reads a topic");
        NodeKind::Sink { topic, format: self.entity_keys(id), key: SinkKey::Plain, cloud_events: None, writers }
    }

    /// Writes answers as JSON, so that no row has a writer.
    fn replies(&self, id: PartId, entity: &topology::Entity) -> NodeKind {
        let topic = entity.deciding.as_ref().and_then(|deciding| deciding.replies.clone());
        let topic = topic.expect("there is no such part without a topic");
        NodeKind::Sink {
            topic,
            format: self.entity_keys(id),
            key: SinkKey::Plain,
            cloud_events: None,
            writers: PerLayout::default(),
        }
    }

    fn entity_keys(&self, id: PartId) -> KeyFormat {
        self.flow.graph.node(self.flow.part(id).node).rows.key.clone()
    }
}
