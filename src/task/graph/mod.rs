//! Walks rows through a sub-topology's nodes, depth first in the order of the plan, as Kafka Streams forwards them.
//!
//! All effects of one record (state, times, sends, results to emit) lie between [`Graph::begin`] and [`Graph::finish`] and are
//! dropped together when a node fails. A row that is sent on beside the record, because its time has come, stands or falls by itself
//! (`results`). Sends wait in [`Graph::out`] until the thread may send them.
//!
//! Here: the walk and the nodes that need little more. Not here: aggregates and their windows (`aggregates`), `entities`, `joins`,
//! records to send (`send`), what topics refuse (`refused`), elements and lines of the log (`rows`).

mod aggregates;
mod chores;
mod entities;
mod foreign;
mod held;
mod joins;
mod refused;
mod results;
mod rows;
mod send;

use chores::Chores;
use send::Out;

use std::collections::VecDeque;
use std::sync::Arc;

use crate::base::ids::{Partition, TaskId, Topic};
use crate::base::record::{Outgoing, Packer};
use crate::base::time::Timestamp;
use crate::base::value::Value;
use crate::operator::{
    self, Changed, DropReason, Evaluator, KeyWriter, RecordContext, Row, RowWriter, Tidying, Upserted, WindowSpan,
    key_bytes,
};
use crate::plan::{
    Child, ContentMode, Expression, Input, KeyFormat, LayoutId, Node, NodeIndex, NodeKind, PerLayout, SinkKey,
    SourceIndex, SubTopology,
};
use crate::store::TaskStores;
use crate::store::global::GlobalStores;
use crate::task::failure::Failures;
use crate::task::latency::Latencies;
use crate::task::lineage;
use crate::task::lines::Lines;
use crate::task::times::Times;

/// What the cluster and the registry say about the plan: resolved once, before the first task starts.
#[derive(Debug, Default)]
pub struct Resolved {
    /// By node: how rows are encoded for its topic.
    pub writers: Vec<PerLayout<RowWriter>>,
    /// By node: how keys are encoded that are written as Avro.
    pub key_writers: Vec<Option<KeyWriter>>,
    /// By node: partitions of its topic; 0 for nodes that write to none.
    pub partitions: Vec<u32>,
    /// By node: the largest record its topic takes.
    pub record_bytes_max: Vec<usize>,
    /// By source: the upstream tasks that write into it (sub-topology and number of tasks).
    pub upstream: Vec<Vec<(String, usize)>>,
    pub dead_letters: Vec<DeadLetterTopic>,
    /// By source: the broker's id of its topic, where there are such ids.
    pub source_ids: Vec<Option<String>>,
    pub globals: GlobalStores,
}

/// A dead-letter topic as it stands in the cluster.
#[derive(Clone, Debug)]
pub struct DeadLetterTopic {
    pub topic: Topic,
    pub partitions: u32,
    /// The largest record it takes.
    pub record_bytes_max: usize,
}

/// A node that failed, and why.
#[derive(Debug)]
pub(super) struct NodeError {
    pub(super) node: NodeIndex,
    pub(super) error: operator::Error,
}

type Step = Result<(), NodeError>;

/// A node on the walk.
#[derive(Clone, Copy)]
struct At<'p> {
    plan: &'p SubTopology,
    index: NodeIndex,
    node: &'p Node,
    /// The side that the row came in by.
    input: Input,
}

impl<'p> At<'p> {
    /// A node that time has come to, not a row.
    fn new(plan: &'p SubTopology, index: NodeIndex) -> Self {
        Self { plan, index, node: &plan.nodes[usize::from(index.0)], input: Input::Left }
    }

    /// The node's place in lists by node.
    fn slot(self) -> usize {
        usize::from(self.index.0)
    }

    fn failed(self, error: impl Into<operator::Error>) -> NodeError {
        NodeError { node: self.index, error: error.into() }
    }
}

pub use refused::{Refusal, Writes};
pub(super) use results::too_large;

/// Whether a node that writes to a topic takes rows of this layout.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Sent {
    Yes,
    No,
}

/// The running graph of one task.
#[derive(Debug)]
pub(super) struct Graph {
    pub(super) task: TaskId,
    /// The application's id: whose events an entity decides.
    application: String,
    pub(super) stores: TaskStores,
    pub(super) times: Times,
    /// Records to send, in order; bytes are counted in `out_bytes`.
    pub(super) out: VecDeque<Outgoing>,
    pub(super) out_bytes: usize,
    /// By node: rows dropped, set aside, tried again.
    pub(super) failures: Vec<Failures>,
    /// By node: records sent.
    pub(super) produced: Vec<u64>,
    resolved: Arc<Resolved>,
    refusals: refused::Refusals,
    /// By node: whether something behind it does otherwise than stop the task when it fails.
    passes_failures: Vec<bool>,
    /// By node: the repartition sources upstream of it, whose writers' times bound its own.
    bounded_by: Vec<Vec<SourceIndex>>,
    chores: Chores,
    evaluator: Evaluator,
    pool: Vec<Vec<Value>>,
    /// Reusable lists for [`operator::Folding`].
    opened: Vec<WindowSpan>,
    changed: Vec<Changed>,
    /// By node: how far joins of streams have tidied up, left and right.
    tidying: Vec<[Tidying; 2]>,
    buffer: Vec<u8>,
    pub(super) packer: Packer,
    pub(super) latencies: Latencies,
    pub(super) lines: Lines,
    now: Timestamp,
    /// Where the record's effects begin, and within them those of rows that stand by themselves; kept for reuse.
    saved: Vec<Saved>,
    depth: usize,
}

/// Where the record's effects begin.
#[derive(Debug)]
struct Saved {
    times: Times,
    out: usize,
    out_bytes: usize,
    latencies: usize,
    lines: usize,
}

impl Graph {
    pub(super) fn new(
        task: TaskId,
        application: &str,
        plan: &SubTopology,
        stores: TaskStores,
        times: Times,
        resolved: Arc<Resolved>,
    ) -> Self {
        let nodes = plan.nodes.len();
        Self {
            task,
            application: application.to_owned(),
            stores,
            saved: Vec::new(),
            depth: 0,
            times,
            out: VecDeque::new(),
            out_bytes: 0,
            failures: vec![Failures::default(); nodes],
            produced: vec![0; nodes],
            bounded_by: bounded_by(plan, &resolved),
            passes_failures: results::passes_failures(plan),
            refusals: refused::Refusals::new(&resolved),
            chores: Chores::of(plan),
            resolved,
            evaluator: Evaluator::default(),
            pool: Vec::new(),
            opened: Vec::new(),
            changed: Vec::new(),
            tidying: vec![Default::default(); nodes],
            buffer: Vec::new(),
            packer: Packer::default(),
            latencies: Latencies::new(nodes),
            lines: Lines::new(nodes),
            now: Timestamp::UNKNOWN,
        }
    }

    /// Opens a record: what follows is undone by [`Graph::undo`] or kept by [`Graph::finish`].
    pub(super) fn begin(&mut self, now: Timestamp) {
        debug_assert_eq!(self.depth, 0, "one record is worked on at a time");
        self.now = now;
        self.save();
    }

    pub(super) fn finish(&mut self) {
        self.stores.release();
        self.depth -= 1;
    }

    pub(super) fn undo(&mut self) {
        while self.depth > 0 {
            self.undo_last();
        }
    }

    fn save(&mut self) {
        self.stores.savepoint();
        if self.depth == self.saved.len() {
            self.saved.push(Saved { times: self.times.clone(), out: 0, out_bytes: 0, latencies: 0, lines: 0 });
        }
        let saved = &mut self.saved[self.depth];
        saved.times.save(&self.times);
        saved.out = self.out.len();
        saved.out_bytes = self.out_bytes;
        saved.latencies = self.latencies.pending();
        saved.lines = self.lines.waiting();
        self.depth += 1;
    }

    fn undo_last(&mut self) {
        self.depth -= 1;
        let saved = &self.saved[self.depth];
        self.stores.rollback();
        self.times.save(&saved.times);
        self.out.truncate(saved.out);
        self.out_bytes = saved.out_bytes;
        self.latencies.truncate(saved.latencies);
        self.lines.truncate(saved.lines);
    }

    /// Drops everything that is not committed and takes up `times`.
    pub(super) fn reset(&mut self, times: Times) {
        self.depth = 0;
        self.stores.abort();
        self.times = times;
        self.out.clear();
        self.latencies.abort();
        self.out_bytes = 0;
    }

    /// Hands `row` to each child in order.
    pub(super) fn forward(
        &mut self,
        plan: &SubTopology,
        children: &[Child],
        row: &Row<'_>,
        context: &RecordContext,
    ) -> Step {
        for child in children {
            self.deliver(At { input: child.input, ..At::new(plan, child.node) }, row, context)?;
        }
        Ok(())
    }

    /// Hands `row` to the children of the node it is at.
    fn pass(&mut self, at: At<'_>, row: &Row<'_>, context: &RecordContext) -> Step {
        self.forward(at.plan, &at.node.children, row, context)
    }

    fn deliver(&mut self, at: At<'_>, row: &Row<'_>, context: &RecordContext) -> Step {
        if moves_time(at.node, row) {
            let seen = &mut self.times.nodes[at.slot()];
            *seen = (*seen).max(row.timestamp);
        }
        match &at.node.kind {
            NodeKind::Merge => self.pass(at, row, context),
            NodeKind::Filter { predicate, deletes, passes_null } => {
                if row.slots.is_none() && !passes_null {
                    return Ok(());
                }
                self.filter(at, predicate, *deletes, row, context)
            }
            NodeKind::Select { fields, layout } => self.select(at, fields, *layout, row, context),
            NodeKind::Flatten(flatten) => self.flatten(at, flatten, row, context),
            NodeKind::Log(log) => self.log(at, log, row, context),
            NodeKind::Rekey { key, format } => self.rekey(at, key, format, row, context),
            NodeKind::Regroup { key, format, layout } => self.regroup(at, key, format, *layout, row, context),
            NodeKind::Sink { topic, key, cloud_events, writers, .. } => {
                let mut headers = lineage::derived(context);
                if cloud_events.is_some() {
                    headers = self.event_headers(at, writers.get(row.layout), row, &headers);
                }
                let structured = *cloud_events == Some(ContentMode::Structured);
                let data = writers.get(row.layout).filter(|_| structured).map(|writer| writer.format);
                let out = Out { topic, key: *key, headers, to: None, data };
                if self.send(at, out, row, context)? == Sent::Yes {
                    self.latencies.sent(at.index, row.timestamp);
                }
                Ok(())
            }
            NodeKind::Repartition { .. } if row.key.is_none() => self.drop_row(at, DropReason::NullKey),
            NodeKind::Repartition { topic, to, .. } => {
                let to = to.and_then(|slot| row.slots?.get(slot)?.as_int());
                let to = to.map(|partition| Partition(partition as i32));
                let out = Out { topic, key: SinkKey::Plain, headers: context.headers.clone(), to, data: None };
                self.send(at, out, row, context).map(|_| ())
            }
            NodeKind::Table { store, layout, expiry: Some(expiry) } => {
                self.upsert_expiring(at, *store, expiry, &Row { layout: *layout, ..*row }, context)
            }
            NodeKind::Table { store, layout, expiry: None } => {
                let upserted = operator::upsert(*store, row, &mut self.stores).map_err(|error| at.failed(error))?;
                self.table_changed(at, upserted, &Row { layout: *layout, ..*row }, context)
            }
            NodeKind::VersionedTable { store, layout, retention } => {
                let observed = self.times.nodes[at.slot()];
                let upserted = operator::upsert_versioned(*store, *retention, observed, row, &mut self.stores);
                let upserted = upserted.map_err(|error| at.failed(error))?;
                self.table_changed(at, upserted, &Row { layout: *layout, ..*row }, context)
            }
            NodeKind::Aggregate(aggregate) => self.aggregate(at, aggregate, row, context),
            NodeKind::StreamTableJoin(join) => self.join(at, join, row, context),
            NodeKind::GlobalJoin(join) => self.global_join(at, join, row, context),
            NodeKind::StreamJoin(join) => self.stream_join(at, join, row, context),
            NodeKind::TableJoin(join) => self.table_join(at, join, row, context),
            NodeKind::Subscribe(subscribe) => self.subscribe(at, subscribe, row, context),
            NodeKind::Subscriptions(subscriptions) => self.subscriptions(at, subscriptions, row, context),
            NodeKind::ForeignJoin(join) => self.foreign_join(at, join, row, context),
            NodeKind::Suppress(suppress) => self.suppress(at, suppress, row, context),
            NodeKind::Dedupe(dedupe) => self.dedupe(at, dedupe, row, context),
            NodeKind::Timer(timer) => self.timer(at, timer, row, context),
            // No row comes to it: it goes to the rows.
            NodeKind::Punctuate(_) => Ok(()),
            NodeKind::Entity(entity) => self.entity(at, entity, row, context),
        }
    }

    fn filter(
        &mut self,
        at: At<'_>,
        predicate: &PerLayout<Option<Expression>>,
        deletes: bool,
        row: &Row<'_>,
        context: &RecordContext,
    ) -> Step {
        let passes = match predicate.get(row.layout) {
            None => false,
            Some(Some(expression)) if row.slots.is_some() => {
                self.evaluator.test(expression, row, context).map_err(|error| at.failed(error))?
            }
            Some(_) => true,
        };
        match (passes, deletes) {
            (true, _) => self.pass(at, row, context),
            (false, true) => self.pass(at, &Row { slots: None, ..*row }, context),
            (false, false) => Ok(()),
        }
    }

    fn select(
        &mut self,
        at: At<'_>,
        fields: &PerLayout<Vec<Expression>>,
        layout: LayoutId,
        row: &Row<'_>,
        context: &RecordContext,
    ) -> Step {
        let Some(fields) = fields.get(row.layout) else { return Ok(()) };
        if row.slots.is_none() {
            return self.pass(at, &Row { layout, ..*row }, context);
        }
        let mut slots = self.pool.pop().unwrap_or_default();
        slots.clear();
        for field in fields {
            let value = self.evaluator.eval(field, row, &[], context);
            slots.push(value.map_err(|error| at.failed(error))?);
        }
        self.pass(at, &Row { layout, slots: Some(&slots), ..*row }, context)?;
        self.pool.push(slots);
        Ok(())
    }

    fn rekey(
        &mut self,
        at: At<'_>,
        key: &PerLayout<Expression>,
        format: &KeyFormat,
        row: &Row<'_>,
        context: &RecordContext,
    ) -> Step {
        let Some(expression) = key.get(row.layout) else { return Ok(()) };
        if row.slots.is_none() {
            return self.drop_row(at, DropReason::NullValue);
        }
        let value = self.evaluator.eval(expression, row, &[], context).map_err(|error| at.failed(error))?;
        if value.is_null() {
            return self.pass(at, &Row { key: None, key_format: format, ..*row }, context);
        }
        let mut bytes = Vec::new();
        key_bytes(&value, format, &mut bytes).map_err(|error| at.failed(error))?;
        self.pass(at, &Row { key: Some(&bytes), key_format: format, ..*row }, context)
    }

    /// What a table's change takes out of one group and puts into another: one row where both are the same (KIP-904), else the
    /// taking out first.
    fn regroup(
        &mut self,
        at: At<'_>,
        key: &Expression,
        format: &KeyFormat,
        layout: LayoutId,
        row: &Row<'_>,
        context: &RecordContext,
    ) -> Step {
        if !row.latest {
            return Ok(());
        }
        let (new, old) = (row.slots, row.previous);
        let Some(fields) = new.or(old).map(<[Value]>::len) else { return Ok(()) };
        let mut group = |slots: Option<&[Value]>| -> Result<Option<Vec<u8>>, NodeError> {
            let Some(slots) = slots else { return Ok(None) };
            let value = self.evaluator.eval(key, &Row { slots: Some(slots), ..*row }, &[], context);
            let mut bytes = Vec::new();
            key_bytes(&value.map_err(|error| at.failed(error))?, format, &mut bytes)
                .map_err(|error| at.failed(error))?;
            Ok(Some(bytes))
        };
        let (new_key, old_key) = (group(new)?, group(old)?);
        let change = |old: Option<&[Value]>, new: Option<&[Value]>| -> Vec<Value> {
            let side = |slots: Option<&[Value]>| slots.map_or_else(|| vec![Value::Null; fields], <[Value]>::to_vec);
            let flags = [Value::Bool(old.is_some()), Value::Bool(new.is_some())];
            flags.into_iter().chain(side(old)).chain(side(new)).collect()
        };
        let changes = if new_key == old_key {
            vec![(new_key, change(old, new))]
        } else {
            let (out, put) = (change(old, None), change(None, new));
            [(old_key, out), (new_key, put)].into_iter().filter(|(key, _)| key.is_some()).collect()
        };
        for (key, slots) in changes {
            let change = Row { key: key.as_deref(), key_format: format, layout, slots: Some(&slots), ..*row };
            self.pass(at, &change, context)?;
        }
        Ok(())
    }

    fn table_changed(&mut self, at: At<'_>, upserted: Upserted, row: &Row<'_>, context: &RecordContext) -> Step {
        match upserted {
            Upserted::Dropped(reason) => self.drop_row(at, reason),
            Upserted::Unchanged => Ok(()),
            Upserted::Expired(previous) => {
                self.count_drop(at.index, DropReason::Late);
                if previous.is_none() {
                    return Ok(());
                }
                self.pass(at, &Row { slots: None, previous: previous.as_deref(), latest: true, ..*row }, context)
            }
            Upserted::Changed(previous) => {
                self.pass(at, &Row { previous: previous.as_deref(), latest: true, ..*row }, context)
            }
            Upserted::OutOfOrder => self.pass(at, &Row { latest: false, ..*row }, context),
        }
    }

    fn drop_row(&mut self, at: At<'_>, reason: DropReason) -> Step {
        self.count_drop(at.index, reason);
        Ok(())
    }

    pub(super) fn count_drop(&mut self, node: NodeIndex, reason: DropReason) {
        self.failures[usize::from(node.0)].drop_one(reason);
    }
}

/// A row that a node drops before it looks at its time does not move it (`KStreamWindowAggregate`, `KStreamKTableJoinProcessor`,
/// `KTableSource`).
fn moves_time(node: &Node, row: &Row<'_>) -> bool {
    if let NodeKind::Aggregate(aggregate) = &node.kind {
        return row.key.is_some() && (row.slots.is_some() || aggregate.counts_null);
    }
    if matches!(&node.kind, NodeKind::VersionedTable { .. }) {
        return row.key.is_some();
    }
    !matches!(&node.kind, NodeKind::StreamTableJoin(join) if join.grace.is_some()) || row.slots.is_some()
}

/// For each node, the sources with upstream tasks from which a path leads to it.
fn bounded_by(plan: &SubTopology, resolved: &Resolved) -> Vec<Vec<SourceIndex>> {
    let mut fed = plan.fed_by();
    fed.iter_mut().for_each(|sources| sources.retain(|source| !resolved.upstream[usize::from(source.0)].is_empty()));
    fed
}
