//! Graph → flow: the graph's nodes taken apart into the steps that a task runs, with a repartition put in front of everything
//! stateful whose rows were re-keyed, and an account of which fields of which rows anybody uses.
//!
//! Invariants: each part stands after all that feed it; a row's shape belongs to the part that made it. Nodes without any effect
//! (no store, no sink behind them) are left out.

use std::collections::BTreeSet;
use std::sync::Arc;

use crate::avro::Schema;
use crate::base::time::SpanMs;
use crate::base::types::{Field, RecordType};
use crate::base::value::Text;
use crate::expr::Checked;
use crate::plan::model::RESPONSE_FIELDS;
use crate::topology::{self, ByVariant, Graph, NodeId, NodeKind, TableInput, Variant, roots};

mod build;

/// Index into [`Flow::parts`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct PartId(pub usize);

/// Index into [`Flow::shapes`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct ShapeId(pub usize);

/// A shape that rows have somewhere, and which variant of the graph node's rows it is. Behind a merge several shapes may be one
/// variant.
pub(super) type Shaped = (usize, ShapeId);

#[derive(Debug)]
pub(super) struct Flow<'g> {
    pub graph: &'g Graph,
    pub parts: Vec<Part<'g>>,
    pub shapes: Vec<Shape>,
}

/// A step: a source, or something that a task's node does.
#[derive(Debug)]
pub(super) struct Part<'g> {
    /// The name that what belongs to the graph's node is kept under.
    pub name: Text,
    pub node: NodeId,
    pub kind: PartKind<'g>,
    /// Those whose rows it gets.
    pub parents: Vec<PartId>,
    pub input: Vec<Shaped>,
    /// The other side of a join of two streams or two tables.
    pub right: Side,
    pub output: Vec<Shaped>,
}

/// Rows that come into a part.
#[derive(Clone, Debug, Default)]
pub(super) struct Side {
    pub parents: Vec<PartId>,
    pub input: Vec<Shaped>,
}

#[derive(Debug)]
pub(super) enum PartKind<'g> {
    /// Reads the graph node's topic.
    Source,
    /// Holds the graph node's topic whole, in no sub-topology.
    GlobalTable,
    /// Reads what `write` wrote; each of its output's shapes is the shape of the same variant there.
    RepartitionSource {
        write: PartId,
    },
    Filter {
        predicate: Vec<Option<Option<&'g topology::Expression>>>,
        /// A row that does not pass deletes what was there.
        deletes: bool,
        /// A row without value passes.
        passes_null: bool,
    },
    Rekey {
        key: Rekey<'g>,
    },
    /// Makes changes of a table's rows, under the keys of their groups.
    Regroup {
        key: &'g topology::Expression,
    },
    /// One expression per slot; shapes without an entry are dropped.
    Select {
        fields: Vec<(ShapeId, Vec<&'g topology::Expression>)>,
    },
    /// One expression per slot of each element's row, then its key.
    Flatten {
        key: Option<&'g ByVariant<topology::Expression>>,
        flatten: &'g topology::Flatten,
        fields: &'g ByVariant<Vec<topology::Expression>>,
    },
    Log,
    Repartition,
    Merge,
    Table {
        versioned: Option<SpanMs>,
        ttl: Option<SpanMs>,
    },
    /// Commands come by its right side, where it takes any.
    Entity,
    /// Appends an entity's events to its own topic.
    Decided {
        entity: PartId,
    },
    /// Writes an entity's answers to its commands.
    Replies {
        entity: PartId,
    },
    Aggregate,
    /// Looks rows up in the store of this part.
    Join {
        table: PartId,
        /// Rows wait for versions that come late.
        waits: bool,
    },
    /// Looks rows up in a global table.
    GlobalJoin {
        table: PartId,
    },
    /// Keeps rows of both sides until none can meet them.
    StreamJoin,
    /// Looks up in the tables of both sides.
    TableJoin {
        left: PartId,
        right: PartId,
    },
    /// Says which rows of the right table the rows of the left one refer to.
    Subscribe,
    /// Keeps who refers to which row of this table.
    Subscriptions {
        right: PartId,
    },
    /// Joins rows of this table with the responses to what it said.
    ForeignJoin {
        left: PartId,
    },
    /// Holds rows back.
    Suppress,
    /// Remembers ids.
    Dedupe,
    /// Gives rows later; a row of the right side cancels.
    Timer,
    /// Goes through the rows of this part.
    Punctuate {
        table: PartId,
    },
    Sink,
}

/// What goes between the tasks of a join by foreign key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Carried {
    Subscriptions,
    Responses,
}

/// Where a new key comes from.
#[derive(Debug)]
pub(super) enum Rekey<'g> {
    /// An expression over the row, by variant.
    Expression(&'g ByVariant<topology::Expression>),
    /// A hidden last slot of the row, filled by the `select` in front: such a `select` uses the old key.
    Hidden(Arc<Checked>),
}

/// A record type somewhere in the flow.
#[derive(Debug)]
pub(super) struct Shape {
    pub record: Arc<RecordType>,
    /// Where rows are as a schema file has them.
    pub schema: Option<Schema>,
    /// The part that makes rows of it.
    pub home: PartId,
    /// Positions of the fields that have a slot.
    pub used: BTreeSet<usize>,
}

impl Shape {
    /// Returns the fields that have a slot, in the order of the slots.
    pub(super) fn slots(&self) -> impl Iterator<Item = (usize, &Field)> {
        self.used.iter().map(|position| (*position, &self.record.fields()[*position]))
    }

    /// Returns the slot of a field that is used.
    pub(super) fn slot(&self, field: usize) -> usize {
        self.used.range(..field).count()
    }

    fn use_all(&mut self) {
        self.used.extend(0..self.record.fields().len());
    }
}

impl<'g> Flow<'g> {
    /// Takes a graph apart.
    pub(super) fn new(graph: &'g Graph) -> Self {
        let mut flow = build::build(graph);
        flow.mark_used();
        flow
    }

    pub(super) fn part(&self, id: PartId) -> &Part<'g> {
        &self.parts[id.0]
    }

    pub(super) fn shape(&self, id: ShapeId) -> &Shape {
        &self.shapes[id.0]
    }

    pub(super) fn kind_of(&self, part: &Part<'g>) -> &'g NodeKind {
        &self.graph.node(part.node).kind
    }

    pub(super) fn ids(&self) -> impl Iterator<Item = PartId> + use<> {
        (0..self.parts.len()).map(PartId)
    }

    /// Tells what a repartition that is a part of a join by foreign key carries; nothing for any other.
    pub(super) fn carries(&self, write: PartId) -> Option<Carried> {
        let made = self.part(write).parents.first().map(|parent| &self.part(*parent).kind);
        match made {
            Some(PartKind::Subscribe) => Some(Carried::Subscriptions),
            Some(PartKind::Subscriptions { .. }) => Some(Carried::Responses),
            Some(_) | None => None,
        }
    }

    /// Returns the shape of a table's rows, for those that look them up.
    pub(super) fn table_shape(&self, table: PartId) -> ShapeId {
        self.part(table).output[0].1
    }

    /// Returns the global tables by name: a plan numbers them so.
    pub(super) fn global_tables(&self) -> Vec<PartId> {
        let mut tables: Vec<PartId> =
            self.ids().filter(|id| matches!(self.part(*id).kind, PartKind::GlobalTable)).collect();
        tables.sort_by_key(|id| &self.part(*id).name);
        tables
    }

    /// Notes every field that somebody uses. From the end to the start, since what is read behind a repartition must have been
    /// written into it.
    fn mark_used(&mut self) {
        for index in (0..self.parts.len()).rev() {
            for (shape, field) in self.uses(&self.parts[index]) {
                match field {
                    Some(field) => {
                        self.shapes[shape.0].used.insert(field);
                    }
                    None => self.shapes[shape.0].use_all(),
                }
            }
        }
    }

    fn uses(&self, part: &Part<'g>) -> Vec<(ShapeId, Option<usize>)> {
        let (keeps, makes) = self.whole_rows(part);
        let kept = part.input.iter().chain(&part.right.input).filter(|_| keeps);
        let whole = kept.chain(part.output.iter().filter(|_| makes));
        let mut uses: Vec<(ShapeId, Option<usize>)> = whole.map(|(_, shape)| (*shape, None)).collect();
        match (&part.kind, self.kind_of(part)) {
            (PartKind::Source, kind) => {
                if let Some(timestamp) = kind.source().and_then(|source| source.timestamp.as_ref()) {
                    by_variant(&part.output, timestamp, &mut uses);
                }
            }
            (PartKind::Filter { predicate, .. }, _) => {
                for (variant, shape) in &part.input {
                    if let Some(Some(expression)) = predicate[*variant] {
                        row_uses(*shape, &expression.checked, &mut uses);
                    }
                }
            }
            (PartKind::Rekey { key: Rekey::Expression(key) }, _) => by_variant(&part.input, key, &mut uses),
            (PartKind::Select { fields }, _) => {
                for (shape, fields) in fields {
                    fields.iter().for_each(|field| row_uses(*shape, &field.checked, &mut uses));
                }
            }
            (PartKind::Flatten { key, flatten, fields }, _) => {
                by_variant(&part.input, &flatten.list, &mut uses);
                key.iter().for_each(|key| by_variant(&part.input, key, &mut uses));
                all_by_variant(&part.input, fields, &mut uses);
            }
            (PartKind::Log, NodeKind::Log(log)) => by_variant(&part.input, &log.message, &mut uses),
            (PartKind::Repartition, _) => self.carried(part, &mut uses),
            (PartKind::Entity, NodeKind::Entity(entity)) => {
                for (variant, shape) in &part.input {
                    let set = entity.apply[*variant].iter().flatten();
                    set.for_each(|(_, expression)| row_uses(*shape, &expression.checked, &mut uses));
                }
                for (variant, shape) in &part.right.input {
                    let decision = entity.deciding.as_ref().and_then(|deciding| deciding.decisions[*variant].as_ref());
                    let expressions = decision.into_iter().flat_map(topology::Decision::expressions);
                    expressions.for_each(|expression| row_uses(*shape, &expression.checked, &mut uses));
                }
            }
            (PartKind::Aggregate, NodeKind::Aggregate(aggregate)) if !keeps => {
                for (variant, shape) in &part.input {
                    let arguments = aggregate.updates[*variant].iter().flatten().filter_map(|it| it.argument.as_ref());
                    arguments.for_each(|expression| row_uses(*shape, &expression.checked, &mut uses));
                }
            }
            (PartKind::Join { .. } | PartKind::GlobalJoin { .. }, NodeKind::Join(join)) => {
                if !join.refers_to.is_empty() {
                    by_variant(&part.input, &join.refers_to, &mut uses);
                }
                all_by_variant(&part.input, &join.fields, &mut uses);
            }
            (PartKind::ForeignJoin { .. }, NodeKind::Join(join)) => response_uses(part, join, &mut uses),
            (PartKind::Dedupe, NodeKind::Dedupe(dedupe)) => by_variant(&part.input, &dedupe.id, &mut uses),
            (PartKind::Timer, NodeKind::Timer(timer)) => {
                all_by_variant(&part.input, &timer.fields, &mut uses);
            }
            (PartKind::Punctuate { table }, NodeKind::Punctuate(of)) => {
                each_uses(self.table_shape(*table), of.filter.iter().chain(&of.fields), &mut uses);
            }
            (PartKind::Sink, NodeKind::Sink(sink)) => {
                for (variant, shape) in &part.input {
                    let columns = sink.writers[*variant].iter().flat_map(|writer| &writer.columns);
                    uses.extend(columns.map(|column| (*shape, Some(*column))));
                }
            }
            (_, _) => {}
        }
        uses
    }

    /// Whether a part keeps the whole of the rows that come in, and makes rows of its own.
    fn whole_rows(&self, part: &Part<'g>) -> (bool, bool) {
        match &part.kind {
            PartKind::Table { .. } | PartKind::Suppress | PartKind::Decided { .. } => (true, false),
            PartKind::Join { waits, .. } => (*waits, true),
            PartKind::StreamJoin
            | PartKind::TableJoin { .. }
            | PartKind::Subscribe
            | PartKind::Subscriptions { .. }
            | PartKind::Regroup { .. } => (true, true),
            PartKind::Aggregate => {
                (matches!(self.kind_of(part), NodeKind::Aggregate(aggregate) if aggregate.of_table), true)
            }
            PartKind::Select { .. }
            | PartKind::Flatten { .. }
            | PartKind::Entity
            | PartKind::Timer
            | PartKind::Punctuate { .. }
            | PartKind::GlobalTable
            | PartKind::ForeignJoin { .. }
            | PartKind::GlobalJoin { .. } => (false, true),
            PartKind::Source
            | PartKind::RepartitionSource { .. }
            | PartKind::Filter { .. }
            | PartKind::Rekey { .. }
            | PartKind::Repartition
            | PartKind::Merge
            | PartKind::Log
            | PartKind::Dedupe
            | PartKind::Replies { .. }
            | PartKind::Sink => (false, false),
        }
    }

    /// What is used behind a repartition must be written into it.
    fn carried(&self, part: &Part<'g>, uses: &mut Vec<(ShapeId, Option<usize>)>) {
        let reads = |kind: &PartKind<'_>| matches!(kind, PartKind::RepartitionSource { write } if std::ptr::eq(self.part(*write), part));
        let reader = self.parts.iter().find(|reader| reads(&reader.kind));
        for (variant, read) in reader.map_or(&[][..], |reader| &reader.output) {
            for (_, shape) in part.input.iter().filter(|(written, _)| written == variant) {
                uses.extend(self.shape(*read).used.iter().map(|field| (*shape, Some(*field))));
            }
        }
    }
}

fn by_variant(
    shapes: &[Shaped],
    expressions: &ByVariant<topology::Expression>,
    uses: &mut Vec<(ShapeId, Option<usize>)>,
) {
    for (variant, shape) in shapes {
        if let Some(expression) = &expressions[*variant] {
            row_uses(*shape, &expression.checked, uses);
        }
    }
}

fn all_by_variant(
    shapes: &[Shaped],
    expressions: &ByVariant<Vec<topology::Expression>>,
    uses: &mut Vec<(ShapeId, Option<usize>)>,
) {
    for (variant, shape) in shapes {
        each_uses(*shape, expressions[*variant].iter().flatten(), uses);
    }
}

fn each_uses<'e>(
    shape: ShapeId,
    expressions: impl Iterator<Item = &'e topology::Expression>,
    uses: &mut Vec<(ShapeId, Option<usize>)>,
) {
    expressions.for_each(|expression| row_uses(shape, &expression.checked, uses));
}

/// The fields of a response that a join by foreign key reads.
fn response_uses(part: &Part<'_>, join: &topology::Join, uses: &mut Vec<(ShapeId, Option<usize>)>) {
    let response = part.right.input[0].1;
    // Not where it is sent to, which is the first.
    uses.extend((1..RESPONSE_FIELDS.len()).map(|field| (response, Some(field))));
    for expression in join.fields.iter().flatten().flatten() {
        let used = expression.checked.fields_used();
        let right = used.iter().filter(|used| used.root == roots::OTHER);
        uses.extend(right.map(|used| (response, used.field.map(|field| field + RESPONSE_FIELDS.len()))));
    }
}

/// The fields of the input row that an expression reads.
fn row_uses(shape: ShapeId, checked: &Checked, uses: &mut Vec<(ShapeId, Option<usize>)>) {
    let row = checked.fields_used().into_iter().filter(|field_use| field_use.root == roots::ROW);
    uses.extend(row.map(|field_use| (shape, field_use.field)));
}

/// Tells whether an expression reads the key.
fn uses_key(expression: &topology::Expression) -> bool {
    expression.checked.fields_used().iter().any(|field_use| field_use.root == roots::KEY)
}

/// Returns whether a table reads a topic itself.
fn reads_topic(kind: &NodeKind) -> bool {
    matches!(kind, NodeKind::Source(_))
        || matches!(kind, NodeKind::Table(table) if matches!(table.input, TableInput::Topic(_)))
}

fn shape_of(variant: &Variant, home: PartId) -> Shape {
    Shape { record: Arc::clone(&variant.record), schema: variant.schema.clone(), home, used: BTreeSet::new() }
}
