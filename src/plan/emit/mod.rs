//! Flow → plan: layouts numbered, expressions compiled against slots, schemas of internal topics and stores made.
//!
//! Not here: the rows of stores (`stores`), `joins`.

mod entities;
mod joins;
mod stores;

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::avro::Schema;
use crate::base::diag::Diagnostic;
use crate::base::time::SpanMs;
use crate::base::types::Type;
use crate::base::value::Text;
use crate::expr::{Checked, FieldUse};
use crate::plan::flow::{Carried, Flow, PartId, PartKind, Rekey, ShapeId};
use crate::plan::has_due_store;
use crate::plan::model::{
    Aggregate, AggregateFunction, CHANGE_SYSTEM_FIELDS, Child, Dedupe, Expiry, Expression, Flatten, GlobalTable, Held,
    Input, Layout, LayoutId, Log, Needs, Node, NodeIndex, NodeKind, Payload, PerLayout, Reader, Source, StateField,
    Store, StoreKind, StoreRef, SubTopology, Suppress, TIMER_SYSTEM_FIELDS, Timer, Update, Upstream, WindowShape,
    Writer, roots,
};
use crate::plan::names::{Names, due_store};
use crate::plan::rows;
use crate::plan::split::{Sub, is_stateful, sub_of, topic_read};
use crate::topology::{self, NodeId, OnError, ValueFormat};

/// Makes a sub-topology's plan.
pub(super) fn emit(flow: &Flow<'_>, names: &Names, subs: &[Sub], sub: &Sub) -> Made<SubTopology> {
    let emitter = Emitter::new(flow, names, subs, sub)?;
    let sources = emitter.source_ids.iter().map(|id| emitter.source(*id)).collect::<Result<_, _>>()?;
    let nodes = emitter.node_ids.iter().map(|id| emitter.node(*id)).collect::<Result<_, _>>()?;
    Ok(SubTopology {
        name: sub.name.clone(),
        meta_topic: names.meta(&sub.name),
        layouts: emitter.layouts(),
        sources,
        nodes,
        stores: emitter.stores,
    })
}

/// Makes the plans of the global tables, by name.
pub(super) fn global_tables(flow: &Flow<'_>) -> Vec<GlobalTable> {
    let table = |id: PartId| {
        let part = flow.part(id);
        let node = flow.graph.node(part.node);
        let shape = flow.shape(part.output[0].1);
        let schema = shape.schema.clone()?;
        let wanted = shape.used.iter().copied().collect();
        let reader = Reader { schema: schema.clone(), wanted, layout: LayoutId(0) };
        let source = of_others(node, vec![reader])?;
        let (name, changelog) = (part.name.clone(), source.topic.clone());
        let store = Store {
            kept_as: name.clone(),
            name,
            changelog,
            key: node.rows.key.clone(),
            row: schema,
            kind: StoreKind::KeyValue,
        };
        Some(GlobalTable { source, store })
    };
    flow.global_tables().into_iter().filter_map(table).collect()
}

/// How a node's own topic is read, without what follows; none of a node that has none.
fn of_others(node: &topology::Node, mut readers: Vec<Reader>) -> Option<Source> {
    let source = node.kind.source()?;
    let payload = match source.value_format {
        ValueFormat::Avro => Payload::Registry { readers },
        ValueFormat::Json => Payload::Json { readers },
        format @ (ValueFormat::String
        | ValueFormat::Long
        | ValueFormat::Int
        | ValueFormat::Double
        | ValueFormat::Bytes) => Payload::Scalar { format, reader: readers.swap_remove(0) },
    };
    Some(Source {
        name: node.name.clone(),
        topic: source.topic.clone(),
        key: node.rows.key.clone(),
        framed_keys: source.framed_keys,
        cloud_events: source.cloud_events,
        payload,
        timestamp: PerLayout::default(),
        idle: source.idle,
        on_decode_error: source.on_decode_error.clone(),
        children: Vec::new(),
    })
}

struct Emitter<'f, 'g> {
    flow: &'f Flow<'g>,
    names: &'f Names,
    subs: &'f [Sub],
    /// By the sources' names.
    source_ids: Vec<PartId>,
    /// In the flow's order.
    node_ids: Vec<PartId>,
    layout_ids: BTreeMap<ShapeId, LayoutId>,
    stores: Vec<Store>,
}

/// A schema that cannot be made is the one thing that may go wrong.
pub(super) type Made<T> = Result<T, Box<Diagnostic>>;

impl<'f, 'g> Emitter<'f, 'g> {
    fn new(flow: &'f Flow<'g>, names: &'f Names, subs: &'f [Sub], sub: &'f Sub) -> Made<Self> {
        let is_source =
            |id: &PartId| matches!(flow.part(*id).kind, PartKind::Source | PartKind::RepartitionSource { .. });
        let (mut source_ids, node_ids): (Vec<PartId>, Vec<PartId>) = sub.parts.iter().partition(|id| is_source(id));
        source_ids.sort_by_key(|id| topic_read(flow, names, *id));
        let shapes = (0..flow.shapes.len()).map(ShapeId).filter(|shape| sub.parts.contains(&flow.shape(*shape).home));
        let layout_ids = shapes.enumerate().map(|(number, shape)| (shape, LayoutId(number as u16))).collect();
        let mut emitter = Self { flow, names, subs, source_ids, node_ids, layout_ids, stores: Vec::new() };
        let mut stores = Vec::new();
        for id in emitter.node_ids.iter().filter(|id| is_stateful(&flow.part(**id).kind)) {
            stores.extend(emitter.stores_of(*id)?);
        }
        stores.sort_by(|a, b| a.name.cmp(&b.name));
        emitter.stores = stores;
        Ok(emitter)
    }

    fn layouts(&self) -> Vec<Layout> {
        let layout = |shape: &ShapeId| {
            let shape = self.flow.shape(*shape);
            let slots = shape.slots().map(|(_, field)| field.clone()).collect();
            Layout { type_name: shape.record.name.clone(), slots }
        };
        self.layout_ids.keys().map(layout).collect()
    }

    fn layout(&self, shape: ShapeId) -> LayoutId {
        self.layout_ids[&shape]
    }

    fn store(&self, name: &str) -> StoreRef {
        let index = self.stores.iter().position(|store| store.name == name);
        StoreRef(index.expect("every stateful part's stores were made") as u16)
    }

    /// Where the rows of a part go on to.
    fn children(&self, id: PartId) -> Vec<Child> {
        let mut children = Vec::new();
        for (index, node) in self.node_ids.iter().enumerate() {
            let (part, node) = (self.flow.part(*node), NodeIndex(index as u16));
            if part.parents.contains(&id) {
                children.push(Child { node, input: Input::Left });
            }
            if part.right.parents.contains(&id) {
                children.push(Child { node, input: Input::Right });
            }
        }
        children
    }

    fn expression(&self, shape: ShapeId, expression: &topology::Expression) -> Expression {
        self.compiled(shape, &expression.checked, Arc::clone(&expression.text), &|field| field)
    }

    /// Compiles against a layout; `other` gives the slots of the second row.
    fn compiled(
        &self,
        shape: ShapeId,
        checked: &Checked,
        text: Arc<str>,
        other: &dyn Fn(usize) -> usize,
    ) -> Expression {
        let shape = self.flow.shape(shape);
        Self::program(checked, text, &|used| match (used.root, used.field) {
            (roots::ROW, Some(field)) => shape.slot(field),
            (roots::OTHER, Some(field)) => other(field),
            (_, field) => field.unwrap_or(0),
        })
    }

    /// Compiles against a row whose fields stand where `slot` says.
    fn placed(&self, checked: &Checked, text: &Arc<str>, slot: &dyn Fn(usize) -> usize) -> Expression {
        Self::program(checked, Arc::clone(text), &|used| match (used.root, used.field) {
            (roots::ROW, field) => slot(field.unwrap_or(0)),
            (_, field) => field.unwrap_or(0),
        })
    }

    fn program(checked: &Checked, text: Arc<str>, layout: &dyn Fn(FieldUse) -> usize) -> Expression {
        let program = checked.compile(layout);
        let reads = |root: usize| checked.fields_used().iter().any(|used| used.root == root);
        let needs = Needs {
            key: reads(roots::KEY),
            meta: reads(roots::META),
            headers: reads(roots::HEADERS),
            window: reads(roots::WINDOW),
        };
        Expression { program: Arc::new(program), needs, text }
    }

    fn source(&self, id: PartId) -> Made<Source> {
        let part = self.flow.part(id);
        let topic = topic_read(self.flow, self.names, id).expect("the part is a source");
        let children = self.children(id);
        let mut timestamp = PerLayout::default();
        if let PartKind::RepartitionSource { write } = &part.kind {
            let readers = part.output.iter().map(|(_, shape)| self.internal_reader(part.node, *shape));
            return Ok(Source {
                name: Text::new(topic.as_str()),
                topic,
                key: self.key_behind(*write),
                framed_keys: false,
                cloud_events: false,
                payload: Payload::Internal {
                    readers: readers.collect::<Result<_, _>>()?,
                    upstream: vec![self.upstream(*write)],
                },
                timestamp,
                idle: None,
                on_decode_error: OnError::default(),
                children,
            });
        }
        let node = self.flow.graph.node(part.node);
        let source = node.kind.source().expect("the part reads the node's topic");
        for (variant, shape) in &part.output {
            if let Some(expression) = source.timestamp.as_ref().and_then(|timestamp| timestamp[*variant].as_ref()) {
                timestamp.set(self.layout(*shape), self.expression(*shape, expression));
            }
        }
        let readers = part.output.iter().filter_map(|(_, shape)| self.reader(*shape)).collect();
        let read = of_others(node, readers).expect("the part reads the node's topic");
        Ok(Source { timestamp, children, ..read })
    }

    fn reader(&self, id: ShapeId) -> Option<Reader> {
        let shape = self.flow.shape(id);
        let schema = shape.schema.clone()?;
        Some(Reader { schema, wanted: shape.used.iter().copied().collect(), layout: self.layout(id) })
    }

    fn internal_reader(&self, node: NodeId, id: ShapeId) -> Made<Reader> {
        let schema = self.internal_schema(node, id)?;
        let wanted = (0..schema.fields().len()).collect();
        Ok(Reader { schema, wanted, layout: self.layout(id) })
    }

    /// The schema of a repartition topic's records: the fields that are used behind it.
    fn internal_schema(&self, node: NodeId, read: ShapeId) -> Made<Schema> {
        let shape = self.flow.shape(read);
        let fields: Vec<(Text, Type)> =
            shape.slots().map(|(_, field)| (field.name.clone(), field.field_type.clone())).collect();
        self.record(node, Schema::record_of(&shape.record.name, &fields))
    }

    /// A schema that could not be made is a finding at the node.
    fn record(&self, node: NodeId, made: Result<Schema, crate::avro::SchemaError>) -> Made<Schema> {
        made.map_err(|error| {
            let place = self.flow.graph.node(node).place;
            Box::new(Diagnostic::error(error.code(), place.span, error.to_string()).placed(place.file, 0))
        })
    }

    /// The format of the keys that a repartition writes.
    fn key_behind(&self, write: PartId) -> topology::KeyFormat {
        let part = self.flow.part(write);
        let node = self.flow.graph.node(part.node);
        if let (Some(Carried::Subscriptions), topology::NodeKind::Join(join)) = (self.flow.carries(write), &node.kind) {
            return self.flow.graph.node(join.right).rows.key.clone();
        }
        // What is behind a repartition has the key that its rows were partitioned by.
        node.rows.key.clone()
    }

    fn upstream(&self, write: PartId) -> Upstream {
        let sub = &self.subs[sub_of(self.subs, write)];
        let topics = |written_here: bool| {
            let is =
                |id: &&PartId| matches!(self.flow.part(**id).kind, PartKind::RepartitionSource { .. }) == written_here;
            sub.parts.iter().filter(is).filter_map(|id| topic_read(self.flow, self.names, *id)).min()
        };
        let partitions_of = topics(false).or_else(|| topics(true)).expect("every sub-topology has a source");
        Upstream { sub_topology: sub.name.clone(), partitions_of, marks: self.flow.carries(write).is_none() }
    }

    fn node(&self, id: PartId) -> Made<Node> {
        let part = self.flow.part(id);
        let node = self.flow.graph.node(part.node);
        Ok(Node {
            name: part.name.clone(),
            kept_as: part.name.clone(),
            kind: self.node_kind(id)?,
            on_process_error: node.on_process_error.clone(),
            on_produce_error: node.on_produce_error.clone(),
            children: self.children(id),
        })
    }

    fn node_kind(&self, id: PartId) -> Made<NodeKind> {
        let part = self.flow.part(id);
        let graph_node = self.flow.graph.node(part.node);
        Ok(match (&part.kind, &graph_node.kind) {
            (PartKind::Filter { predicate, deletes, passes_null }, _) => {
                let mut entries = PerLayout::default();
                for (variant, shape) in &part.input {
                    if let Some(entry) = predicate[*variant] {
                        entries.set(self.layout(*shape), entry.map(|expression| self.expression(*shape, expression)));
                    }
                }
                NodeKind::Filter { predicate: entries, deletes: *deletes, passes_null: *passes_null }
            }
            (PartKind::Rekey { key }, _) => self.rekey(id, key),
            (PartKind::Select { fields }, _) => {
                let mut entries = PerLayout::default();
                for (shape, fields) in fields {
                    let compiled = fields.iter().map(|field| self.expression(*shape, field)).collect();
                    entries.set(self.layout(*shape), compiled);
                }
                NodeKind::Select { fields: entries, layout: self.layout(part.output[0].1) }
            }
            (PartKind::Flatten { key, flatten, fields }, _) => self.flatten(id, *key, flatten, fields),
            (PartKind::Log, topology::NodeKind::Log(log)) => self.log(id, log),
            (PartKind::Punctuate { table }, topology::NodeKind::Punctuate(punctuate)) => {
                self.punctuate(id, punctuate, *table)
            }
            (PartKind::Regroup { key }, _) => NodeKind::Regroup {
                key: self.expression(part.input[0].1, key),
                format: graph_node.rows.key.clone(),
                layout: self.layout(part.output[0].1),
            },
            (PartKind::Repartition, _) => self.repartition(id)?,
            (PartKind::Table { versioned, ttl }, _) => self.table(id, *versioned, *ttl),
            (PartKind::Entity, topology::NodeKind::Entity(entity)) => self.entity(id, entity),
            (PartKind::Aggregate, topology::NodeKind::Aggregate(aggregate)) => self.aggregate(id, aggregate),
            (_, topology::NodeKind::Join(join)) => self.any_join(id, join),
            (PartKind::Suppress, topology::NodeKind::Suppress(suppress)) => self.suppress(id, suppress),
            (PartKind::Dedupe, topology::NodeKind::Dedupe(dedupe)) => self.dedupe(id, dedupe),
            (PartKind::Timer, topology::NodeKind::Timer(timer)) => self.timer(id, timer),
            (PartKind::Decided { .. } | PartKind::Replies { .. }, topology::NodeKind::Entity(entity)) => {
                self.written_by(id, entity)
            }
            (PartKind::Sink, topology::NodeKind::Sink(sink)) => self.sink(id, sink),
            (
                PartKind::Merge
                | PartKind::Source
                | PartKind::GlobalTable
                | PartKind::GlobalJoin { .. }
                | PartKind::RepartitionSource { .. }
                | PartKind::Log
                | PartKind::Entity
                | PartKind::Decided { .. }
                | PartKind::Replies { .. }
                | PartKind::Aggregate
                | PartKind::Join { .. }
                | PartKind::StreamJoin
                | PartKind::TableJoin { .. }
                | PartKind::Subscribe
                | PartKind::Subscriptions { .. }
                | PartKind::ForeignJoin { .. }
                | PartKind::Suppress
                | PartKind::Dedupe
                | PartKind::Timer
                | PartKind::Punctuate { .. }
                | PartKind::Sink,
                _,
            ) => NodeKind::Merge,
        })
    }

    fn table(&self, id: PartId, versioned: Option<SpanMs>, ttl: Option<SpanMs>) -> NodeKind {
        let part = self.flow.part(id);
        let (store, layout) = (self.store(&part.name), self.layout(part.output[0].1));
        let expiry = ttl.map(|ttl| Expiry { due: self.store(&due_store(&part.name)), ttl });
        match versioned {
            Some(retention) => NodeKind::VersionedTable { store, layout, retention },
            None => NodeKind::Table { store, layout, expiry },
        }
    }

    /// What a part holds until a time comes.
    fn held(&self, id: PartId, shape: ShapeId) -> Held {
        let name = &self.flow.part(id).name;
        let slots = self.flow.shape(shape).used.len();
        Held { store: self.store(name), due: self.store(&due_store(name)), slots }
    }

    fn suppress(&self, id: PartId, suppress: &topology::Suppress) -> NodeKind {
        let part = self.flow.part(id);
        NodeKind::Suppress(Box::new(Suppress {
            held: self.held(id, part.input[0].1),
            until: suppress.until,
            bounds: suppress.bounds,
            layout: self.layout(part.output[0].1),
        }))
    }

    fn sink(&self, id: PartId, sink: &topology::Sink) -> NodeKind {
        let part = self.flow.part(id);
        let mut writers = PerLayout::default();
        for (variant, shape) in &part.input {
            if let Some(writer) = &sink.writers[*variant] {
                let slots = writer.columns.iter().map(|column| self.flow.shape(*shape).slot(*column)).collect();
                let format = sink.value_format;
                let subject = (format == ValueFormat::Avro).then(|| writer.subject.clone());
                writers.set(self.layout(*shape), Writer { schema: writer.schema.clone(), subject, format, slots });
            }
        }
        let format = self.flow.graph.node(part.node).rows.key.clone();
        NodeKind::Sink { topic: sink.topic.clone(), format, key: sink.key, cloud_events: sink.cloud_events, writers }
    }

    fn dedupe(&self, id: PartId, dedupe: &topology::Dedupe) -> NodeKind {
        let part = self.flow.part(id);
        let held = Held { slots: 0, ..self.held(id, part.input[0].1) };
        NodeKind::Dedupe(Box::new(Dedupe { held, id: self.per_layout(id, &dedupe.id), within: dedupe.within }))
    }

    fn timer(&self, id: PartId, timer: &topology::Timer) -> NodeKind {
        let part = self.flow.part(id);
        let fields = self.rows_per_layout(id, &timer.fields);
        let held = self.held(id, part.output[0].1);
        NodeKind::Timer(Box::new(Timer {
            held: Held { slots: held.slots + TIMER_SYSTEM_FIELDS.len(), ..held },
            after: timer.after,
            clock: timer.clock,
            fields,
            layout: self.layout(part.output[0].1),
        }))
    }

    fn rekey(&self, id: PartId, key: &Rekey<'_>) -> NodeKind {
        let part = self.flow.part(id);
        let mut entries = PerLayout::default();
        for (variant, shape) in &part.input {
            let expression = match key {
                Rekey::Expression(key) => key[*variant].as_ref().map(|expression| self.expression(*shape, expression)),
                Rekey::Hidden(checked) => {
                    // The one root of this expression is the row, and its one field the last slot.
                    let last = self.flow.shape(*shape).record.fields().len().saturating_sub(1);
                    let program = checked.compile(&|_| self.flow.shape(*shape).slot(last));
                    Some(Expression { program: Arc::new(program), needs: Needs::default(), text: Arc::from("_key") })
                }
            };
            if let Some(expression) = expression {
                entries.set(self.layout(*shape), expression);
            }
        }
        NodeKind::Rekey { key: entries, format: self.flow.graph.node(part.node).rows.key.clone() }
    }

    fn repartition(&self, id: PartId) -> Made<NodeKind> {
        let part = self.flow.part(id);
        let read = self
            .flow
            .ids()
            .map(|id| self.flow.part(id))
            .find(|reader| matches!(reader.kind, PartKind::RepartitionSource { write } if write == id));
        let mut writers = PerLayout::default();
        for (variant, written) in &part.input {
            let found = read.and_then(|read| read.output.iter().find(|(known, _)| known == variant));
            let Some((_, read)) = found else { continue };
            let schema = self.internal_schema(part.node, *read)?;
            let slots =
                self.flow.shape(*read).used.iter().map(|field| self.flow.shape(*written).slot(*field)).collect();
            writers.set(self.layout(*written), Writer { schema, subject: None, format: ValueFormat::Avro, slots });
        }
        // The left row's task is where it was, whoever divided its topic into partitions.
        let to = (self.flow.carries(id) == Some(Carried::Responses)).then_some(0);
        let marks = self.flow.carries(id).is_none();
        Ok(NodeKind::Repartition { topic: self.names.repartition(&part.name), writers, to, marks })
    }

    fn aggregate(&self, id: PartId, aggregate: &topology::Aggregate) -> NodeKind {
        let part = self.flow.part(id);
        let state = rows::aggregate_state(aggregate);
        let mut updates = PerLayout::default();
        for (variant, shape) in &part.input {
            let Some(fed) = &aggregate.updates[*variant] else { continue };
            let fed = fed.iter().map(|update| {
                let (argument, retracted) = match &update.argument {
                    Some(argument) if aggregate.of_table => {
                        let retract = update.retract.as_ref().unwrap_or(argument);
                        (self.of_change(*shape, argument).0, self.of_change(*shape, retract).1)
                    }
                    Some(argument) => (Some(self.expression(*shape, argument)), None),
                    None => (None, None),
                };
                Update {
                    function: aggregate.fields[update.field].function,
                    argument,
                    retracted,
                    slot: state.places[update.field].slot,
                }
            });
            updates.set(self.layout(*shape), fed.collect());
        }
        NodeKind::Aggregate(Box::new(Aggregate {
            store: self.store(&part.name),
            window: aggregate.window,
            due: has_due_store(aggregate).then(|| self.store(&due_store(&part.name))),
            counts_null: counts_null(aggregate),
            of_table: aggregate.of_table,
            folds: aggregate.fields.iter().any(|field| field.function == AggregateFunction::Fold),
            emit: aggregate.emit,
            updates,
            initial: state.initial,
            merges: self.merges(aggregate, &state.places),
            state: state.places,
            results: state.results,
            layout: self.layout(part.output[0].1),
        }))
    }

    fn merges(&self, aggregate: &topology::Aggregate, places: &[StateField]) -> Vec<(usize, Expression)> {
        let fields = aggregate.fields.iter().zip(places);
        // The states of folds have a slot a field, in the order of the fields.
        let merge = |(field, place): (&topology::AggregateField, &StateField)| {
            let merge = field.merge.as_ref()?;
            Some((place.slot, self.placed(&merge.checked, &merge.text, &|field| field)))
        };
        fields.filter_map(merge).collect()
    }

    /// An expression over a table's row, on the new and on the old row of a change.
    fn of_change(&self, shape: ShapeId, expression: &topology::Expression) -> (Option<Expression>, Option<Expression>) {
        let flags = CHANGE_SYSTEM_FIELDS.len();
        let fields = (self.flow.shape(shape).record.fields().len() - flags) / 2;
        let on = |first: usize| Some(self.placed(&expression.checked, &expression.text, &|field| first + field));
        (on(flags + fields), on(flags))
    }

    /// Expressions by the layout of the rows that come in.
    fn per_layout(&self, id: PartId, expressions: &topology::ByVariant<topology::Expression>) -> PerLayout<Expression> {
        let mut entries = PerLayout::default();
        for (variant, shape) in &self.flow.part(id).input {
            if let Some(expression) = &expressions[*variant] {
                entries.set(self.layout(*shape), self.expression(*shape, expression));
            }
        }
        entries
    }

    /// A row's fields by the layout of the rows that come in.
    fn rows_per_layout(
        &self,
        id: PartId,
        rows: &topology::ByVariant<Vec<topology::Expression>>,
    ) -> PerLayout<Vec<Expression>> {
        let mut entries = PerLayout::default();
        for (variant, shape) in &self.flow.part(id).input {
            if let Some(row) = &rows[*variant] {
                let compiled = row.iter().map(|expression| self.expression(*shape, expression)).collect();
                entries.set(self.layout(*shape), compiled);
            }
        }
        entries
    }

    fn flatten(
        &self,
        id: PartId,
        key: Option<&topology::ByVariant<topology::Expression>>,
        flatten: &topology::Flatten,
        fields: &topology::ByVariant<Vec<topology::Expression>>,
    ) -> NodeKind {
        let part = self.flow.part(id);
        let format = self.flow.graph.node(part.node).rows.key.clone();
        NodeKind::Flatten(Box::new(Flatten {
            list: self.per_layout(id, &flatten.list),
            of_records: flatten.of_records,
            fields: self.rows_per_layout(id, fields),
            key: key.map(|key| (self.per_layout(id, key), format)),
            layout: self.layout(part.output[0].1),
        }))
    }

    fn log(&self, id: PartId, log: &topology::Log) -> NodeKind {
        let message = self.per_layout(id, &log.message);
        NodeKind::Log(Box::new(Log { message, level: log.level, lines_per_second: log.lines_per_second }))
    }
}

/// Kafka Streams gives rows without value to the aggregators of time windows and sessions, to no others. Where `on` picks event
/// types there is none for such a row.
fn counts_null(aggregate: &topology::Aggregate) -> bool {
    let shape = aggregate.window.map(|window| window.shape);
    matches!(shape, Some(WindowShape::Hopping { .. } | WindowShape::Session { .. }))
        && aggregate.updates.iter().all(Option::is_some)
}
