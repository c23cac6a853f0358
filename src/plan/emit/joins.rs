//! Joins: what a joined row holds, over the rows of both sides.

use std::sync::Arc;

use super::Emitter;
use crate::base::time::SpanMs;
use crate::base::value::Text;
use crate::plan::flow::{PartId, PartKind, ShapeId, Shaped};
use crate::plan::model::{
    ENTITY_SYSTEM_FIELDS, Expression, ForeignJoin, GlobalJoin, GlobalRef, JoinSide, JoinWindow, Lookup, NodeIndex,
    NodeKind, PerLayout, Punctuate, RESPONSE_FIELDS, RowView, StoreKind, StreamJoin, StreamTableJoin, Subscribe,
    Subscriptions, TableJoin, VersionedLookup,
};
use crate::plan::names::{due_store, left_of, right_of};
use crate::plan::rows;
use crate::topology;

impl Emitter<'_, '_> {
    /// What the parts of a join do beside keeping tables and repartitioning.
    pub(super) fn any_join(&self, id: PartId, join: &topology::Join) -> NodeKind {
        match (&self.flow.part(id).kind, join.form) {
            (PartKind::Join { table, .. }, _) => self.join(id, join, *table),
            (PartKind::GlobalJoin { table }, _) => self.global_join(id, join, *table),
            (PartKind::StreamJoin, topology::JoinForm::StreamStream(window)) => self.stream_join(id, join, window),
            (PartKind::TableJoin { left, right }, _) => self.table_join(id, join, *left, *right),
            (PartKind::Subscribe, _) => self.subscribe(id, join),
            (PartKind::Subscriptions { right }, _) => self.subscriptions(id, *right),
            (PartKind::ForeignJoin { left }, _) => self.foreign_join(id, join, *left),
            (_, _) => NodeKind::Merge,
        }
    }

    fn join(&self, id: PartId, join: &topology::Join, table: PartId) -> NodeKind {
        let part = self.flow.part(id);
        let right = self.flow.table_shape(table);
        let mut fields = PerLayout::default();
        for (variant, shape) in &part.input {
            if let Some(expressions) = &join.fields[*variant] {
                fields.set(self.layout(*shape), self.joined(*shape, right, expressions));
            }
        }
        NodeKind::StreamTableJoin(Box::new(StreamTableJoin {
            kind: join.kind,
            grace: join.grace.map(|grace| (grace, self.held(id, part.input[0].1))),
            table: self.lookup(table),
            fields,
            layout: self.layout(part.output[0].1),
        }))
    }

    fn global_join(&self, id: PartId, join: &topology::Join, table: PartId) -> NodeKind {
        let part = self.flow.part(id);
        let right = self.flow.table_shape(table);
        let (mut fields, mut refers_to) = (PerLayout::default(), PerLayout::default());
        for (variant, shape) in &part.input {
            if let (Some(expressions), Some(key)) = (&join.fields[*variant], &join.refers_to[*variant]) {
                fields.set(self.layout(*shape), self.joined(*shape, right, expressions));
                refers_to.set(self.layout(*shape), self.expression(*shape, key));
            }
        }
        let number = self.flow.global_tables().iter().position(|known| *known == table).unwrap_or(0);
        NodeKind::GlobalJoin(Box::new(GlobalJoin {
            kind: join.kind,
            table: GlobalRef(number as u16),
            slots: self.flow.shape(right).used.len(),
            refers_to,
            format: self.flow.graph.node(self.flow.part(table).node).rows.key.clone(),
            fields,
            layout: self.layout(part.output[0].1),
        }))
    }

    /// Compiles what a joined row holds, over a left and a right row.
    fn joined(&self, left: ShapeId, right: ShapeId, expressions: &[topology::Expression]) -> Vec<Expression> {
        let right = self.flow.shape(right);
        let compiled = expressions.iter().map(|expression| {
            let text = Arc::clone(&expression.text);
            self.compiled(left, &expression.checked, text, &|field| right.slot(field))
        });
        compiled.collect()
    }

    pub(super) fn punctuate(&self, id: PartId, punctuate: &topology::Punctuate, table: PartId) -> NodeKind {
        let row = self.flow.table_shape(table);
        let compiled = |expression: &topology::Expression| self.expression(row, expression);
        NodeKind::Punctuate(Box::new(Punctuate {
            table: self.lookup(table),
            every: punctuate.every,
            clock: punctuate.clock,
            filter: punctuate.filter.as_ref().map(compiled),
            fields: punctuate.fields.iter().map(compiled).collect(),
            row: self.layout(row),
            layout: self.layout(self.flow.part(id).output[0].1),
        }))
    }

    fn lookup(&self, table: PartId) -> Lookup {
        let part = self.flow.part(table);
        let shape = self.flow.shape(self.flow.table_shape(table));
        let index = self.node_ids.iter().position(|id| *id == table).unwrap_or(0);
        let lookup = |retention: SpanMs| VersionedLookup { retention, table: NodeIndex(index as u16) };
        let (versioned, view) = match (&part.kind, self.flow.kind_of(part)) {
            (PartKind::Table { versioned, .. }, _) => (versioned.map(lookup), RowView::Whole),
            (_, topology::NodeKind::Aggregate(aggregate)) => {
                (None, RowView::Results(rows::aggregate_state(aggregate).results))
            }
            (_, _) => (None, RowView::From(ENTITY_SYSTEM_FIELDS.len())),
        };
        Lookup { store: self.store(&part.name), versioned, view, slots: shape.used.len() }
    }

    fn side(&self, name: &Text, shape: ShapeId) -> JoinSide {
        let store = self.store(name);
        let versioned = matches!(self.stores[usize::from(store.0)].kind, StoreKind::Versioned { .. });
        JoinSide { store, slots: self.flow.shape(shape).used.len(), versioned }
    }

    fn stream_join(&self, id: PartId, join: &topology::Join, window: JoinWindow) -> NodeKind {
        let part = self.flow.part(id);
        let (left, right) = (part.input[0].1, part.right.input[0].1);
        NodeKind::StreamJoin(Box::new(StreamJoin {
            kind: join.kind,
            window,
            left: self.side(&left_of(&part.name), left),
            right: self.side(&right_of(&part.name), right),
            due: self.store(&due_store(&part.name)),
            fields: self.joined(left, right, join.fields[part.input[0].0].as_deref().unwrap_or_default()),
            layout: self.layout(part.output[0].1),
        }))
    }

    fn subscribe(&self, id: PartId, join: &topology::Join) -> NodeKind {
        let part = self.flow.part(id);
        let left = part.input[0];
        NodeKind::Subscribe(Box::new(Subscribe {
            kind: join.kind,
            refers_to: self.foreign_key(left, join),
            format: self.flow.graph.node(join.right).rows.key.clone(),
            left_fields: self.names_of(left.1),
            layout: self.layout(part.output[0].1),
        }))
    }

    /// The one expression of a join by foreign key, on the left row.
    fn foreign_key(&self, (variant, shape): Shaped, join: &topology::Join) -> Expression {
        let key = join.refers_to.get(variant).and_then(Option::as_ref);
        self.expression(shape, key.expect("a join by foreign key has one for the one type of its left rows"))
    }

    fn names_of(&self, shape: ShapeId) -> Vec<Text> {
        self.flow.shape(shape).slots().map(|(_, field)| field.name.clone()).collect()
    }

    fn subscriptions(&self, id: PartId, right: PartId) -> NodeKind {
        let part = self.flow.part(id);
        NodeKind::Subscriptions(Box::new(Subscriptions {
            store: self.store(&part.name),
            right: self.side(&self.flow.part(right).name, self.flow.table_shape(right)),
            layout: self.layout(part.output[0].1),
        }))
    }

    fn foreign_join(&self, id: PartId, join: &topology::Join, left: PartId) -> NodeKind {
        let part = self.flow.part(id);
        let (from, response) = (part.input[0], self.flow.shape(part.right.input[0].1));
        let expressions = join.fields[from.0].iter().flatten();
        let right = |field: usize| response.slot(field + RESPONSE_FIELDS.len());
        let fields = expressions
            .map(|expression| self.compiled(from.1, &expression.checked, Arc::clone(&expression.text), &right));
        NodeKind::ForeignJoin(Box::new(ForeignJoin {
            kind: join.kind,
            left: self.side(&self.flow.part(left).name, self.flow.table_shape(left)),
            refers_to: self.foreign_key(from, join),
            left_fields: self.names_of(from.1),
            digest: response.slot(1),
            there: response.slot(2),
            response_slots: response.used.len(),
            fields: fields.collect(),
            layout: self.layout(part.output[0].1),
        }))
    }

    fn table_join(&self, id: PartId, join: &topology::Join, left: PartId, right: PartId) -> NodeKind {
        let part = self.flow.part(id);
        let (left_shape, right_shape) = (self.flow.table_shape(left), self.flow.table_shape(right));
        NodeKind::TableJoin(Box::new(TableJoin {
            kind: join.kind,
            left: self.side(&self.flow.part(left).name, left_shape),
            right: self.side(&self.flow.part(right).name, right_shape),
            fields: self.joined(left_shape, right_shape, join.fields[part.input[0].0].as_deref().unwrap_or_default()),
            layout: self.layout(part.output[0].1),
        }))
    }
}
