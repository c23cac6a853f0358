//! Taking a graph's nodes apart, one after the other.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::{Flow, Part, PartId, PartKind, Rekey, Shape, ShapeId, Shaped, Side, reads_topic, shape_of, uses_key};
use crate::base::types::{Field, RecordType, Type};
use crate::base::value::Text;
use crate::expr::{self, Env};
use crate::plan::model::{CHANGE_SYSTEM_FIELDS, RESPONSE_FIELDS, SUBSCRIPTION_FIELDS};
use crate::plan::names::{decided_by, kept_rows, replies_of, responses_of, right_of, subscriptions_of};
use crate::topology::{self, Graph, JoinForm, NodeId, NodeKind, TableInput};

/// The hidden field that carries a new key from a `select` to the re-keying behind it.
const HIDDEN_KEY: &str = "_key";

/// Where a graph node's rows come out.
#[derive(Clone, Debug, Default)]
struct Ends {
    parts: Vec<PartId>,
    rows: Vec<Shaped>,
}

struct Builder<'g> {
    flow: Flow<'g>,
    /// By graph node.
    ends: Vec<Ends>,
    /// Tables made of nodes that have none of their own to look up in.
    kept: BTreeMap<NodeId, PartId>,
}

pub(super) fn build(graph: &Graph) -> Flow<'_> {
    let mut builder = Builder {
        flow: Flow { graph, parts: Vec::new(), shapes: Vec::new() },
        ends: vec![Ends::default(); graph.nodes.len()],
        kept: BTreeMap::new(),
    };
    let live = live(graph);
    for (id, _) in graph.iter().filter(|(id, _)| live[id.0]) {
        builder.ends[id.0] = builder.node(id);
    }
    builder.flow
}

/// Nodes that keep or write something, and those that feed them.
fn live(graph: &Graph) -> Vec<bool> {
    let mut live = vec![false; graph.nodes.len()];
    for (id, node) in graph.iter().collect::<Vec<_>>().into_iter().rev() {
        let effect = match &node.kind {
            NodeKind::Table(_)
            | NodeKind::GlobalTable(_)
            | NodeKind::Entity(_)
            | NodeKind::Aggregate(_)
            | NodeKind::Log(_)
            | NodeKind::Sink(_) => true,
            // By foreign key, results are kept.
            NodeKind::Join(join) => join.form == JoinForm::ForeignKey,
            NodeKind::Source(_)
            | NodeKind::Stream(_)
            | NodeKind::Case { .. }
            | NodeKind::Merge { .. }
            | NodeKind::Suppress(_)
            | NodeKind::Dedupe(_)
            | NodeKind::Timer(_)
            | NodeKind::Punctuate(_) => false,
        };
        if effect || live[id.0] {
            live[id.0] = true;
            node.kind.inputs().iter().for_each(|input| live[input.0] = true);
        }
    }
    live
}

impl<'g> Builder<'g> {
    fn node(&mut self, id: NodeId) -> Ends {
        let node = self.flow.graph.node(id);
        let source = if reads_topic(&node.kind) { self.source(id, PartKind::Source) } else { Ends::default() };
        match &node.kind {
            NodeKind::Source(_) => source,
            NodeKind::GlobalTable(_) => self.source(id, PartKind::GlobalTable),
            NodeKind::Table(table) => {
                let from = match table.input {
                    TableInput::Topic(_) => source,
                    // A table has one layout; where a merge brings several together, a repartition makes one of them.
                    TableInput::From(from) if self.ends[from.0].rows.len() > 1 => {
                        let ends = self.ends[from.0].clone();
                        self.repartition(id, from, &ends, |_| true)
                    }
                    TableInput::From(from) => self.partitioned(id, from, |_| true),
                };
                let shaped = self.table(id, table, from);
                self.passing(id, PartKind::Table { versioned: table.versioned, ttl: table.ttl }, &shaped)
            }
            NodeKind::Stream(stream) => self.stream(id, stream),
            NodeKind::Case { from, number, filter } => {
                let from = self.ends[from.0].clone();
                let ends = self.filter(id, &from, filter, false);
                // A row without value is the first case's.
                if let (true, PartKind::Filter { passes_null, .. }) =
                    (*number > 0, &mut self.flow.parts[ends.parts[0].0].kind)
                {
                    *passes_null = false;
                }
                ends
            }
            NodeKind::Merge { from } => {
                let rows = self.merged(id, from);
                self.passing(id, PartKind::Merge, &rows)
            }
            NodeKind::Entity(entity) => self.entity(id, entity),
            NodeKind::Aggregate(aggregate) => self.aggregate(id, aggregate),
            NodeKind::Join(join) => self.join(id, join),
            NodeKind::Suppress(suppress) => {
                let from = self.ends[suppress.from.0].clone();
                self.passing(id, PartKind::Suppress, &from)
            }
            NodeKind::Dedupe(dedupe) => {
                let from = self.partitioned(id, dedupe.from, |variant| dedupe.id[variant].is_some());
                let passed = |rows: &[Shaped]| -> Vec<Shaped> {
                    rows.iter().copied().filter(|(variant, _)| dedupe.id[*variant].is_some()).collect()
                };
                let mut ends = self.push(id, PartKind::Dedupe, from.parts, from.rows.clone(), passed(&from.rows));
                self.renumber(id, &mut ends);
                ends
            }
            NodeKind::Timer(timer) => {
                let left = self.partitioned(id, timer.from, |_| true);
                let right = timer.cancel.map(|cancel| self.partitioned_right(id, cancel)).unwrap_or_default();
                self.two_sided(id, PartKind::Timer, &left, right)
            }
            NodeKind::Punctuate(punctuate) => {
                let table = self.looked_up(punctuate.table);
                self.shaping(id, PartKind::Punctuate { table }, &Ends::default())
            }
            NodeKind::Log(log) => {
                let from = self.ends[log.from.0].clone();
                self.passing(id, PartKind::Log, &from)
            }
            NodeKind::Sink(sink) => {
                let from = self.ends[sink.from.0].clone();
                self.push(id, PartKind::Sink, from.parts, from.rows, Vec::new());
                Ends::default()
            }
        }
    }

    fn push(
        &mut self,
        node: NodeId,
        kind: PartKind<'g>,
        parents: Vec<PartId>,
        input: Vec<Shaped>,
        output: Vec<Shaped>,
    ) -> Ends {
        let id = PartId(self.flow.parts.len());
        let name = self.flow.graph.node(node).kept_name().clone();
        let right = Side::default();
        self.flow.parts.push(Part { name, node, kind, parents, input, right, output: output.clone() });
        Ends { parts: vec![id], rows: output }
    }

    fn next_part(&self) -> PartId {
        PartId(self.flow.parts.len())
    }

    fn new_shape(&mut self, shape: Shape) -> ShapeId {
        self.flow.shapes.push(shape);
        ShapeId(self.flow.shapes.len() - 1)
    }

    /// A part that passes rows on in the shape that they have.
    fn passing(&mut self, id: NodeId, kind: PartKind<'g>, from: &Ends) -> Ends {
        self.push(id, kind, from.parts.clone(), from.rows.clone(), from.rows.clone())
    }

    /// A part that gives rows of the graph node's one shape.
    fn shaping(&mut self, id: NodeId, kind: PartKind<'g>, from: &Ends) -> Ends {
        let variant = &self.flow.graph.node(id).rows.variants[0];
        let shape = self.new_shape(shape_of(variant, self.next_part()));
        self.push(id, kind, from.parts.clone(), from.rows.clone(), vec![(0, shape)])
    }

    fn source(&mut self, id: NodeId, kind: PartKind<'g>) -> Ends {
        let variants = &self.flow.graph.node(id).rows.variants;
        let rows = variants
            .iter()
            .enumerate()
            .map(|(variant, of)| (variant, self.new_shape(shape_of(of, self.next_part()))))
            .collect();
        self.push(id, kind, Vec::new(), Vec::new(), rows)
    }

    /// A node's rows under the variants of a merge.
    fn merged(&self, id: NodeId, from: &[NodeId]) -> Ends {
        let variants = &self.flow.graph.node(id).rows.variants;
        let mut merged = Ends::default();
        for input in from {
            let ends = &self.ends[input.0];
            merged.parts.extend(&ends.parts);
            for (_, shape) in &ends.rows {
                let name = &self.flow.shape(*shape).record.name;
                let variant = variants.iter().position(|variant| variant.name() == name);
                merged.rows.extend(variant.map(|variant| (variant, *shape)));
            }
        }
        // A node may be named twice, or two cases of one branch meet again: their rows come by both, their shapes are one.
        merged.parts.dedup();
        merged.rows.sort_unstable();
        merged.rows.dedup();
        merged
    }

    /// The rows of `from`, by way of a repartition topic where they were re-keyed.
    fn partitioned(&mut self, id: NodeId, from: NodeId, wanted: impl Fn(usize) -> bool) -> Ends {
        let ends = self.ends[from.0].clone();
        if self.flow.graph.node(from).rows.rekeyed { self.repartition(id, from, &ends, wanted) } else { ends }
    }

    /// As [`Builder::partitioned`], for the right side of a node that has two.
    fn partitioned_right(&mut self, id: NodeId, from: NodeId) -> Ends {
        let first = self.flow.parts.len();
        let ends = self.partitioned(id, from, |_| true);
        for part in &mut self.flow.parts[first..] {
            part.name = right_of(&part.name);
        }
        ends
    }

    fn join(&mut self, id: NodeId, join: &topology::Join) -> Ends {
        match join.form {
            JoinForm::StreamTable => {
                let from = self.partitioned(id, join.left, |_| true);
                let table = self.looked_up(join.right);
                self.shaping(id, PartKind::Join { table, waits: join.grace.is_some() }, &from)
            }
            JoinForm::StreamGlobal => {
                // The table is everywhere, so it does not matter by which key the rows are partitioned.
                let from = self.ends[join.left.0].clone();
                let table = self.ends[join.right.0].parts[0];
                self.shaping(id, PartKind::GlobalJoin { table }, &from)
            }
            JoinForm::StreamStream(_) => {
                let left = self.partitioned(id, join.left, |_| true);
                let right = self.partitioned_right(id, join.right);
                self.two_sided(id, PartKind::StreamJoin, &left, right)
            }
            JoinForm::ForeignKey => self.foreign_key(id, join),
            JoinForm::TableTable => {
                let (left, right) = (self.table_of(join.left), self.table_of(join.right));
                let (from, other) = (self.ends_of(left), self.ends_of(right));
                self.two_sided(id, PartKind::TableJoin { left, right }, &from, other)
            }
        }
    }

    fn ends_of(&self, part: PartId) -> Ends {
        Ends { parts: vec![part], rows: self.flow.part(part).output.clone() }
    }

    /// What is said goes to the right table's tasks, responses come back, and results are a table.
    fn foreign_key(&mut self, id: NodeId, join: &topology::Join) -> Ends {
        let name = self.flow.graph.node(id).name.clone();
        let (left, right) = (self.table_of(join.left), self.table_of(join.right));
        let (lefts, rights) = (self.ends_of(left), self.ends_of(right));
        let subscription = subscription(&name);
        let said = self.making(id, PartKind::Subscribe, &lefts, &subscription);
        let came = self.through(id, &said, &subscription, subscriptions_of(&name));
        let response = response_of(&name, &self.flow.shape(rights.rows[0].1).record);
        let answers = self.making(id, PartKind::Subscriptions { right }, &came, &response);
        let part = &mut self.flow.parts[answers.parts[0].0];
        part.name = subscriptions_of(&name);
        part.right = Side { parents: rights.parts, input: rights.rows };
        let back = self.through(id, &answers, &response, responses_of(&name));
        let results = self.two_sided(id, PartKind::ForeignJoin { left }, &lefts, back);
        self.passing(id, PartKind::Table { versioned: None, ttl: None }, &results)
    }

    /// A part that makes rows of a shape that is no graph node's.
    fn making(&mut self, id: NodeId, kind: PartKind<'g>, from: &Ends, record: &Arc<RecordType>) -> Ends {
        let shape = self.inner_shape(record);
        self.push(id, kind, from.parts.clone(), from.rows.clone(), vec![(0, shape)])
    }

    fn inner_shape(&mut self, record: &Arc<RecordType>) -> ShapeId {
        let (record, home) = (Arc::clone(record), self.next_part());
        self.new_shape(Shape { record, schema: None, home, used: BTreeSet::new() })
    }

    /// Rows of such a shape, by way of a repartition topic of this name.
    fn through(&mut self, id: NodeId, from: &Ends, record: &Arc<RecordType>, name: Text) -> Ends {
        let write = self.push(id, PartKind::Repartition, from.parts.clone(), from.rows.clone(), Vec::new()).parts[0];
        let read = self.inner_shape(record);
        let came = self.push(id, PartKind::RepartitionSource { write }, Vec::new(), Vec::new(), vec![(0, read)]);
        self.flow.parts[write.0].name = name.clone();
        self.flow.parts[came.parts[0].0].name = name;
        came
    }

    fn two_sided(&mut self, id: NodeId, kind: PartKind<'g>, left: &Ends, right: Ends) -> Ends {
        let ends = self.shaping(id, kind, left);
        self.flow.parts[ends.parts[0].0].right = Side { parents: right.parts, input: right.rows };
        ends
    }

    /// An entity; one that decides has its commands on the right side.
    fn entity(&mut self, id: NodeId, entity: &'g topology::Entity) -> Ends {
        let from = self.partitioned(id, entity.from, |variant| entity.apply[variant].is_some());
        match &entity.deciding {
            None => self.shaping(id, PartKind::Entity, &from),
            Some(deciding) => self.deciding(id, entity.from, deciding, &from),
        }
    }

    /// An entity with its commands, and behind it what writes its events and its replies: no rows flow there, the entity hands them over.
    fn deciding(&mut self, id: NodeId, from: NodeId, deciding: &topology::Deciding, events: &Ends) -> Ends {
        let commands = self.ends[deciding.commands.0].clone();
        let ends = self.two_sided(id, PartKind::Entity, events, commands);
        let entity = ends.parts[0];
        let variants = &self.flow.graph.node(from).rows.variants;
        let written: Vec<usize> = (0..variants.len()).filter(|event| deciding.writers[*event].is_some()).collect();
        let shapes =
            written.into_iter().map(|event| (event, self.new_shape(shape_of(&variants[event], entity)))).collect();
        let part = self.push(id, PartKind::Decided { entity }, Vec::new(), shapes, Vec::new()).parts[0];
        self.flow.parts[part.0].name = decided_by(&self.flow.part(entity).name);
        if deciding.replies.is_some() {
            let part = self.push(id, PartKind::Replies { entity }, Vec::new(), Vec::new(), Vec::new()).parts[0];
            self.flow.parts[part.0].name = replies_of(&self.flow.part(entity).name);
        }
        ends
    }

    /// The changes of a table under the keys of their groups, by way of a repartition topic.
    fn regrouped(&mut self, id: NodeId, from: NodeId, key: &'g topology::Expression) -> Ends {
        let table = self.table_of(from);
        let rows = self.ends_of(table);
        let record = change_of(&self.flow.shape(rows.rows[0].1).record);
        let changes = self.making(id, PartKind::Regroup { key }, &rows, &record);
        let name = self.flow.graph.node(id).name.clone();
        self.through(id, &changes, &record, name)
    }

    /// The part in whose store a table-like node's rows are found: a table, an aggregate and an entity have one with a row per key.
    fn looked_up(&mut self, id: NodeId) -> PartId {
        if matches!(self.flow.graph.node(id).kind, NodeKind::Join(_) | NodeKind::Suppress(_)) {
            return self.table_of(id);
        }
        self.ends[id.0].parts[0]
    }

    /// The part that keeps a table-like node's newest rows; an aggregate, an entity or a join gets one.
    fn table_of(&mut self, id: NodeId) -> PartId {
        let ends = self.ends[id.0].clone();
        if let [part] = ends.parts.as_slice()
            && matches!(self.flow.part(*part).kind, PartKind::Table { .. })
        {
            return *part;
        }
        if let Some(part) = self.kept.get(&id) {
            return *part;
        }
        let part = self.passing(id, PartKind::Table { versioned: None, ttl: None }, &ends).parts[0];
        let name = &mut self.flow.parts[part.0].name;
        *name = kept_rows(name);
        self.kept.insert(id, part);
        part
    }

    fn repartition(&mut self, id: NodeId, from: NodeId, ends: &Ends, wanted: impl Fn(usize) -> bool) -> Ends {
        let written: Vec<Shaped> = ends.rows.iter().copied().filter(|(variant, _)| wanted(*variant)).collect();
        let write = self.push(id, PartKind::Repartition, ends.parts.clone(), written.clone(), Vec::new()).parts[0];
        let home = self.next_part();
        let mut rows: Vec<Shaped> = Vec::new();
        for (variant, _) in written {
            if rows.iter().all(|(known, _)| *known != variant) {
                let of = &self.flow.graph.node(from).rows.variants[variant];
                let shape = Shape { schema: None, ..shape_of(of, home) };
                rows.push((variant, self.new_shape(shape)));
            }
        }
        self.push(id, PartKind::RepartitionSource { write }, Vec::new(), Vec::new(), rows)
    }

    fn filter(
        &mut self,
        id: NodeId,
        from: &Ends,
        filter: &'g topology::ByVariant<Option<topology::Expression>>,
        deletes: bool,
    ) -> Ends {
        let predicate: Vec<_> = filter.iter().map(|entry| entry.as_ref().map(Option::as_ref)).collect();
        let passed: Vec<Shaped> =
            from.rows.iter().copied().filter(|(variant, _)| predicate[*variant].is_some()).collect();
        self.push(
            id,
            PartKind::Filter { predicate, deletes, passes_null: true },
            from.parts.clone(),
            from.rows.clone(),
            passed,
        )
    }

    /// What a table makes of its input's rows before it keeps them.
    fn table(&mut self, id: NodeId, table: &'g topology::Table, from: Ends) -> Ends {
        let mut ends = from;
        if let Some(filter) = &table.filter {
            ends = self.filter(id, &ends, filter, true);
        }
        match &table.shape {
            Some(topology::Shape::Select(columns)) => self.select(id, &ends, columns, true, None),
            Some(topology::Shape::Set(columns)) => self.select(id, &ends, columns, false, None),
            None => ends,
        }
    }

    fn stream(&mut self, id: NodeId, stream: &'g topology::Stream) -> Ends {
        let mut ends = self.ends[stream.from.0].clone();
        if let Some(filter) = &stream.filter {
            ends = self.filter(id, &ends, filter, false);
        }
        if let (Some(flatten), Some(topology::Shape::Select(fields))) = (&stream.flatten, &stream.shape) {
            return self.shaping(id, PartKind::Flatten { key: stream.key.as_ref(), flatten, fields }, &ends);
        }
        let (columns, one) = match &stream.shape {
            Some(topology::Shape::Select(columns)) => (Some(columns), true),
            Some(topology::Shape::Set(columns)) => (Some(columns), false),
            None => (None, false),
        };
        let old_key = columns.is_some_and(|columns| columns.iter().flatten().flatten().any(uses_key));
        match (&stream.key, columns) {
            // Another name for the same rows is a step of its own: a merge of both has every row twice.
            (None, None) if stream.filter.is_none() => ends = self.passing(id, PartKind::Merge, &ends),
            (None, None) => {}
            (Some(key), None) => ends = self.passing(id, PartKind::Rekey { key: Rekey::Expression(key) }, &ends),
            (None, Some(columns)) => ends = self.select(id, &ends, columns, one, None),
            (Some(key), Some(columns)) if old_key => ends = self.select(id, &ends, columns, one, Some(key)),
            (Some(key), Some(columns)) => {
                ends = self.passing(id, PartKind::Rekey { key: Rekey::Expression(key) }, &ends);
                ends = self.select(id, &ends, columns, one, None);
            }
        }
        self.renumber(id, &mut ends);
        ends
    }

    /// `on` leaves variants out, so those of the node count anew.
    fn renumber(&self, id: NodeId, ends: &mut Ends) {
        let variants = &self.flow.graph.node(id).rows.variants;
        for (variant, shape) in &mut ends.rows {
            let name = &self.flow.shapes[shape.0].record.name;
            *variant = variants.iter().position(|known| known.name() == name).unwrap_or(*variant);
        }
    }

    /// `select` makes one shape of all, `set` a shape of each. A new key that must be computed beside a use of the old one travels
    /// in a hidden field.
    fn select(
        &mut self,
        id: NodeId,
        from: &Ends,
        columns: &'g topology::ByVariant<Vec<topology::Expression>>,
        one: bool,
        key: Option<&'g topology::ByVariant<topology::Expression>>,
    ) -> Ends {
        let variants = &self.flow.graph.node(id).rows.variants;
        let mut groups: Vec<(usize, Vec<Shaped>)> = Vec::new();
        for (variant, shape) in &from.rows {
            let name = &self.flow.shape(*shape).record.name;
            let made = if one { Some(0) } else { variants.iter().position(|known| known.name() == name) };
            let Some(made) = made else { continue };
            match groups.iter_mut().find(|(known, _)| *known == made) {
                Some((_, group)) => group.push((*variant, *shape)),
                None => groups.push((made, vec![(*variant, *shape)])),
            }
        }
        let mut ends = Ends::default();
        for (made, group) in groups {
            let mut shape = shape_of(&variants[made], self.next_part());
            let hidden = key.and_then(|key| key.iter().flatten().next()).map(|key| key.checked.value_type().clone());
            if let Some(key_type) = &hidden {
                shape.record = with_hidden_key(&shape.record, key_type);
            }
            let record = Arc::clone(&shape.record);
            let shape = self.new_shape(shape);
            let fields = group
                .iter()
                .map(|(variant, shape)| {
                    let fields = columns[*variant].iter().flatten();
                    let key = key.and_then(|key| key[*variant].as_ref());
                    (*shape, fields.chain(key).collect())
                })
                .collect();
            let parents = from.parts.clone();
            let mut part = self.push(id, PartKind::Select { fields }, parents, from.rows.clone(), vec![(made, shape)]);
            if hidden.is_some() {
                let env = Env::new().root("value", Type::Record(record));
                let checked = expr::check(&format!("value.{HIDDEN_KEY}"), &env);
                let checked = checked.expect("the record has the hidden field");
                part = self.passing(id, PartKind::Rekey { key: Rekey::Hidden(Arc::new(checked)) }, &part);
            }
            ends.parts.extend(part.parts);
            ends.rows.extend(part.rows);
        }
        ends
    }

    fn aggregate(&mut self, id: NodeId, aggregate: &'g topology::Aggregate) -> Ends {
        if let (true, Some(key)) = (aggregate.of_table, aggregate.group_by.as_ref().and_then(|key| key[0].as_ref())) {
            let changes = self.regrouped(id, aggregate.from, key);
            return self.shaping(id, PartKind::Aggregate, &changes);
        }
        let fed = |variant: usize| aggregate.updates[variant].is_some();
        let mut ends = self.ends[aggregate.from.0].clone();
        let from = self.flow.graph.node(aggregate.from);
        if let Some(key) = &aggregate.group_by {
            ends = self.passing(id, PartKind::Rekey { key: Rekey::Expression(key) }, &ends);
        }
        if from.rows.rekeyed || aggregate.group_by.is_some() {
            ends = self.repartition(id, aggregate.from, &ends, fed);
        }
        self.shaping(id, PartKind::Aggregate, &ends)
    }
}

/// A table's change as one row: whether there is an old and a new row, the old one's fields, the new one's.
fn change_of(record: &RecordType) -> Arc<RecordType> {
    let flags = CHANGE_SYSTEM_FIELDS.map(|name| Field { name: Text::new(name), field_type: Type::Bool });
    let side = |which: &'static str| {
        record.fields().iter().map(move |field| Field {
            name: Text::from(format!("{which}_{}", field.name)),
            field_type: field.field_type.clone().optional(),
        })
    };
    let fields = flags.into_iter().chain(side("old")).chain(side("new"));
    RecordType::new(format!("{}_change", record.name), fields.collect())
}

/// What is said of a left row to the task of the right row that it refers to.
fn subscription(join: &str) -> Arc<RecordType> {
    let types = [Type::Bytes, Type::Int, Type::Int.optional(), Type::Int];
    let fields = SUBSCRIPTION_FIELDS.map(Text::new).into_iter().zip(types);
    let fields = fields.map(|(name, field_type)| Field { name, field_type });
    RecordType::new(format!("{join}_subscription"), fields.collect())
}

/// What is answered: the right row's fields, if there is one.
fn response_of(join: &str, right: &RecordType) -> Arc<RecordType> {
    let types = [Type::Int, Type::Int.optional(), Type::Bool];
    let system = RESPONSE_FIELDS.map(Text::new).into_iter().zip(types);
    let right = right
        .fields()
        .iter()
        .map(|field| (Text::from(format!("right_{}", field.name)), field.field_type.clone().optional()));
    let fields = system.chain(right).map(|(name, field_type)| Field { name, field_type });
    RecordType::new(format!("{join}_response"), fields.collect())
}

fn with_hidden_key(record: &RecordType, key_type: &Type) -> Arc<RecordType> {
    let mut fields = record.fields().to_vec();
    fields.push(Field { name: Text::new(HIDDEN_KEY), field_type: key_type.clone() });
    RecordType::new(&record.name, fields)
}
