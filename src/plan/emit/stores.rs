//! The stores of each stateful part, and what their rows look like.

use super::{Emitter, Made};
use crate::avro::{RowField, Schema};
use crate::base::types::{Field, Type};
use crate::base::value::Text;
use crate::plan::flow::{PartId, PartKind, ShapeId};
use crate::plan::model::{Store, StoreKind, TIMER_SYSTEM_FIELDS};
use crate::plan::names::{answers_store, due_store, history_store, left_of, right_of};
use crate::plan::{has_due_store, rows};
use crate::topology::{Aggregate, Entity, NodeKind};

impl Emitter<'_, '_> {
    /// The stores of a stateful part.
    pub(super) fn stores_of(&self, id: PartId) -> Made<Vec<Store>> {
        let part = self.flow.part(id);
        match (&part.kind, self.flow.kind_of(part)) {
            (PartKind::Table { versioned, ttl }, _) => {
                let shape = self.flow.shape(part.output[0].1);
                let row = match &shape.schema {
                    Some(schema) => schema.clone(),
                    None => {
                        let fields = self.fields_of(part.output[0].1);
                        self.record(part.node, Schema::row_of(&shape.record.name, &fields))?
                    }
                };
                let kind = versioned.map_or(StoreKind::KeyValue, |retention| StoreKind::Versioned { retention });
                let mut stores = vec![self.named(id, &part.name, row, kind)?];
                if ttl.is_some() {
                    stores.push(self.due(id)?);
                }
                Ok(stores)
            }
            (PartKind::StreamJoin, _) => {
                let sides = [(left_of(&part.name), part.input[0].1), (right_of(&part.name), part.right.input[0].1)];
                let mut stores = Vec::new();
                for (name, shape) in sides {
                    let row = self.record(part.node, rows::joined_row(&name, self.fields_of(shape)))?;
                    stores.push(self.named(id, &name, row, StoreKind::JoinSide)?);
                }
                stores.push(self.due(id)?);
                Ok(stores)
            }
            (PartKind::Subscriptions { .. }, _) => {
                let row = self.record(part.node, rows::subscription_row(&part.name))?;
                Ok(vec![self.named(id, &part.name, row, StoreKind::Subscriptions)?])
            }
            (PartKind::Suppress | PartKind::Join { .. }, _) => self.held_rows(id, self.fields_of(part.input[0].1)),
            (PartKind::Timer, _) => {
                let origin = TIMER_SYSTEM_FIELDS.map(|field| RowField::new(field, Type::String));
                self.held_rows(id, self.fields_of(part.output[0].1).into_iter().chain(origin).collect())
            }
            (PartKind::Dedupe, _) => self.held_rows(id, Vec::new()),
            (_, NodeKind::Aggregate(aggregate)) => self.aggregated(id, aggregate),
            (_, NodeKind::Entity(entity)) => self.entities(id, entity),
            (_, _) => Ok(Vec::new()),
        }
    }

    fn named(&self, id: PartId, name: &Text, row: Schema, kind: StoreKind) -> Made<Store> {
        let node = self.flow.part(id).node;
        let key = self.flow.graph.node(node).rows.key.clone();
        let row = self.record(node, rows::keyed(&row, &key, &kind))?;
        Ok(Store { name: name.clone(), kept_as: name.clone(), changelog: self.names.changelog(name), key, row, kind })
    }

    fn fields_of(&self, shape: ShapeId) -> Vec<RowField> {
        let shape = self.flow.shape(shape);
        let field = |(position, field): (usize, &Field)| RowField {
            origin: shape.schema.clone().map(|schema| (schema, position)),
            ..RowField::new(&field.name, field.field_type.clone())
        };
        shape.slots().map(field).collect()
    }

    /// The index of what is due in the part's store.
    fn due(&self, id: PartId) -> Made<Store> {
        let part = self.flow.part(id);
        let name = due_store(&part.name);
        let row = self.record(part.node, rows::due_row(&name))?;
        self.named(id, &name, row, StoreKind::Due)
    }

    fn held_rows(&self, id: PartId, fields: Vec<RowField>) -> Made<Vec<Store>> {
        let part = self.flow.part(id);
        let row = self.record(part.node, rows::held_row(&part.name, fields))?;
        Ok(vec![self.named(id, &part.name, row, StoreKind::Waiting)?, self.due(id)?])
    }

    fn aggregated(&self, id: PartId, aggregate: &Aggregate) -> Made<Vec<Store>> {
        let part = self.flow.part(id);
        let state = rows::aggregate_state(aggregate);
        let row = self.record(part.node, Schema::row_of(&part.name, &state.fields))?;
        let kind = aggregate.window.map_or(StoreKind::KeyValue, StoreKind::Window);
        let mut stores = vec![self.named(id, &part.name, row, kind)?];
        if has_due_store(aggregate) {
            stores.push(self.due(id)?);
        }
        Ok(stores)
    }

    fn entities(&self, id: PartId, entity: &Entity) -> Made<Vec<Store>> {
        let part = self.flow.part(id);
        let row = self.record(part.node, rows::entity_row(&part.name, entity))?;
        let mut stores = vec![self.named(id, &part.name, row, StoreKind::Entity)?];
        if entity.history.is_some() {
            let name = history_store(&part.name);
            let row = self.record(part.node, rows::history_row(&name, entity))?;
            stores.push(self.named(id, &name, row, StoreKind::History)?);
        }
        if entity.deciding.is_some() {
            let answers = answers_store(&part.name);
            let row = self.record(part.node, rows::held_row(&answers, vec![RowField::new("answer", Type::String)]))?;
            stores.push(self.named(id, &answers, row, StoreKind::Waiting)?);
            let name = due_store(&answers);
            let row = self.record(part.node, rows::due_row(&name))?;
            stores.push(self.named(id, &name, row, StoreKind::Due)?);
        }
        Ok(stores)
    }
}
