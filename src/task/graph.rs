//! Walks rows through a sub-topology's nodes, depth first in the order of the plan, as Kafka Streams forwards them.
//!
//! All effects of one record (state, times, sends, results to emit) lie between [`Graph::begin`] and [`Graph::finish`] and are
//! dropped together when a node fails. Sends wait in [`Graph::out`] until the thread may send them.

use std::collections::VecDeque;
use std::sync::Arc;

use crate::base::hash::partition_of;
use crate::base::ids::{Partition, TaskId, Topic};
use crate::base::record::{Headers, Outgoing, Packer};
use crate::base::time::Timestamp;
use crate::base::value::Value;
use crate::entity::{self, Applied, Moment};
use crate::operator::{
    self, Closed, DropReason, Evaluator, Folded, Joined, RecordContext, Row, RowWriter, Upserted, aggregate, key_bytes,
};
use crate::plan::{
    Aggregate, Child, ENTITY_SYSTEM_FIELDS, Emit, Entity, Expression, KeyFormat, LayoutId, Node, NodeIndex, NodeKind,
    PerLayout, SourceIndex, StreamTableJoin, SubTopology, TumblingWindow,
};
use crate::store::TaskStores;
use crate::task::latency::Latencies;
use crate::task::marker;
use crate::task::times::Times;

/// What the cluster and the registry say about the plan: resolved once, before the first task starts.
#[derive(Debug, Default)]
pub struct Resolved {
    /// By node: how rows are encoded for its topic.
    pub writers: Vec<PerLayout<RowWriter>>,
    /// By node: partitions of its topic; 0 for nodes that write to none.
    pub partitions: Vec<u32>,
    /// By node: the largest record its topic takes.
    pub record_bytes_max: Vec<usize>,
    /// By source: the upstream tasks that write into it (sub-topology and number of tasks).
    pub upstream: Vec<Vec<(String, usize)>>,
    pub dead_letters: Vec<DeadLetterTopic>,
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
    pub(super) stores: TaskStores,
    pub(super) times: Times,
    /// Records to send, in order; bytes are counted in `out_bytes`.
    pub(super) out: VecDeque<Outgoing>,
    pub(super) out_bytes: usize,
    /// By node: rows dropped, by reason.
    pub(super) dropped: Vec<[u64; DropReason::ALL.len()]>,
    /// By node: records sent.
    pub(super) produced: Vec<u64>,
    resolved: Arc<Resolved>,
    /// By node: the repartition sources upstream of it, whose writers' times bound its own.
    bounded_by: Vec<Vec<SourceIndex>>,
    evaluator: Evaluator,
    pool: Vec<Vec<Value>>,
    buffer: Vec<u8>,
    pub(super) packer: Packer,
    pub(super) latencies: Latencies,
    now: Timestamp,
    saved: Saved,
}

/// Where the record's effects begin.
#[derive(Debug)]
struct Saved {
    times: Times,
    out: usize,
    out_bytes: usize,
    latencies: usize,
}

impl Graph {
    pub(super) fn new(
        task: TaskId,
        plan: &SubTopology,
        stores: TaskStores,
        times: Times,
        resolved: Arc<Resolved>,
    ) -> Self {
        let nodes = plan.nodes.len();
        Self {
            task,
            stores,
            saved: Saved { times: times.clone(), out: 0, out_bytes: 0, latencies: 0 },
            times,
            out: VecDeque::new(),
            out_bytes: 0,
            dropped: vec![[0; DropReason::ALL.len()]; nodes],
            produced: vec![0; nodes],
            bounded_by: bounded_by(plan, &resolved),
            resolved,
            evaluator: Evaluator::default(),
            pool: Vec::new(),
            buffer: Vec::new(),
            packer: Packer::default(),
            latencies: Latencies::new(nodes),
            now: Timestamp::UNKNOWN,
        }
    }

    /// Opens a record: what follows is undone by [`Graph::undo`] or kept by [`Graph::finish`].
    pub(super) fn begin(&mut self, now: Timestamp) {
        self.now = now;
        self.stores.savepoint();
        self.saved.times.save(&self.times);
        self.saved.out = self.out.len();
        self.saved.out_bytes = self.out_bytes;
        self.saved.latencies = self.latencies.pending();
    }

    pub(super) fn finish(&mut self) {
        self.stores.release();
    }

    pub(super) fn undo(&mut self) {
        self.stores.rollback();
        self.times.save(&self.saved.times);
        self.out.truncate(self.saved.out);
        self.out_bytes = self.saved.out_bytes;
        self.latencies.truncate(self.saved.latencies);
    }

    /// Drops everything that is not committed and takes up `times`.
    pub(super) fn reset(&mut self, times: Times) {
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
            let node = &plan.nodes[usize::from(child.node.0)];
            self.deliver(plan, child.node, node, row, context)?;
        }
        Ok(())
    }

    fn deliver(
        &mut self,
        plan: &SubTopology,
        index: NodeIndex,
        node: &Node,
        row: &Row<'_>,
        context: &RecordContext,
    ) -> Step {
        let at = usize::from(index.0);
        self.times.nodes[at] = self.times.nodes[at].max(row.timestamp);
        let failed = |error| NodeError { node: index, error };
        match &node.kind {
            NodeKind::Merge => self.forward(plan, &node.children, row, context),
            NodeKind::Filter { predicate } => match predicate.get(row.layout) {
                None => Ok(()),
                Some(None) => self.forward(plan, &node.children, row, context),
                Some(Some(_)) if row.slots.is_none() => self.forward(plan, &node.children, row, context),
                Some(Some(expression)) => {
                    if self.evaluator.test(expression, row, context).map_err(failed)? {
                        self.forward(plan, &node.children, row, context)?;
                    }
                    Ok(())
                }
            },
            NodeKind::Select { fields, layout } => self.select(plan, index, node, fields, *layout, row, context),
            NodeKind::Rekey { key, format } => self.rekey(plan, index, node, key, format, row, context),
            NodeKind::Sink { topic, .. } => {
                if self.send(index, topic, row, context, Headers::default())? == Sent::Yes {
                    self.latencies.sent(index, row.timestamp);
                }
                Ok(())
            }
            NodeKind::Repartition { .. } if row.key.is_none() => self.drop_row(index, DropReason::NullKey),
            NodeKind::Repartition { topic, .. } => {
                self.send(index, topic, row, context, context.headers.clone()).map(|_| ())
            }
            NodeKind::Table { store, layout } => {
                let upserted = operator::upsert(*store, row, &mut self.stores).map_err(failed)?;
                self.table_changed(plan, index, node, upserted, &Row { layout: *layout, ..*row }, context)
            }
            NodeKind::VersionedTable { store, layout, retention } => {
                let observed = self.times.nodes[at];
                let upserted = operator::upsert_versioned(*store, *retention, observed, row, &mut self.stores);
                let upserted = upserted.map_err(failed)?;
                self.table_changed(plan, index, node, upserted, &Row { layout: *layout, ..*row }, context)
            }
            NodeKind::Aggregate(aggregate) => self.aggregate(plan, index, node, aggregate, row, context),
            NodeKind::StreamTableJoin(join) => self.join(plan, index, node, join, row, context),
            NodeKind::Entity(entity) => self.entity(plan, index, node, entity, row, context),
        }
    }

    #[expect(clippy::too_many_arguments, reason = "a step of the walk: node, row and record are its place")]
    fn select(
        &mut self,
        plan: &SubTopology,
        index: NodeIndex,
        node: &Node,
        fields: &PerLayout<Vec<Expression>>,
        layout: LayoutId,
        row: &Row<'_>,
        context: &RecordContext,
    ) -> Step {
        let Some(fields) = fields.get(row.layout) else { return Ok(()) };
        if row.slots.is_none() {
            return self.forward(plan, &node.children, &Row { layout, ..*row }, context);
        }
        let mut slots = self.pool.pop().unwrap_or_default();
        slots.clear();
        for field in fields {
            let value = self.evaluator.eval(field, row, &[], context);
            slots.push(value.map_err(|error| NodeError { node: index, error })?);
        }
        self.forward(plan, &node.children, &Row { layout, slots: Some(&slots), ..*row }, context)?;
        self.pool.push(slots);
        Ok(())
    }

    #[expect(clippy::too_many_arguments, reason = "a step of the walk: node, row and record are its place")]
    fn rekey(
        &mut self,
        plan: &SubTopology,
        index: NodeIndex,
        node: &Node,
        key: &PerLayout<Expression>,
        format: &KeyFormat,
        row: &Row<'_>,
        context: &RecordContext,
    ) -> Step {
        let failed = |error| NodeError { node: index, error };
        let Some(expression) = key.get(row.layout) else { return Ok(()) };
        if row.slots.is_none() {
            return self.drop_row(index, DropReason::NullValue);
        }
        let value = self.evaluator.eval(expression, row, &[], context).map_err(failed)?;
        if value.is_null() {
            return self.forward(plan, &node.children, &Row { key: None, key_format: format, ..*row }, context);
        }
        let mut bytes = Vec::new();
        key_bytes(&value, format, &mut bytes).map_err(failed)?;
        self.forward(plan, &node.children, &Row { key: Some(&bytes), key_format: format, ..*row }, context)
    }

    fn table_changed(
        &mut self,
        plan: &SubTopology,
        index: NodeIndex,
        node: &Node,
        upserted: Upserted,
        row: &Row<'_>,
        context: &RecordContext,
    ) -> Step {
        match upserted {
            Upserted::Dropped(reason) => self.drop_row(index, reason),
            Upserted::Unchanged => Ok(()),
            Upserted::Changed => self.forward(plan, &node.children, row, context),
        }
    }

    fn join(
        &mut self,
        plan: &SubTopology,
        index: NodeIndex,
        node: &Node,
        join: &StreamTableJoin,
        row: &Row<'_>,
        context: &RecordContext,
    ) -> Step {
        let mut slots = self.pool.pop().unwrap_or_default();
        let joined = operator::join(join, row, context, &mut self.stores, &mut self.evaluator, &mut slots);
        match joined.map_err(|error| NodeError { node: index, error })? {
            Joined::Dropped(reason) => self.drop_row(index, reason)?,
            Joined::NoMatch => {}
            Joined::Row => {
                let row = Row { layout: join.layout, slots: Some(&slots), ..*row };
                self.forward(plan, &node.children, &row, context)?;
            }
        }
        self.pool.push(slots);
        Ok(())
    }

    fn entity(
        &mut self,
        plan: &SubTopology,
        index: NodeIndex,
        node: &Node,
        entity: &Entity,
        row: &Row<'_>,
        context: &RecordContext,
    ) -> Step {
        let moment = Moment { recorded: self.times.recorded, processed: self.now };
        let applied = entity::apply(entity, row, context, moment, &mut self.stores, &mut self.evaluator);
        match applied.map_err(|error| NodeError { node: index, error })? {
            Applied::Untouched => Ok(()),
            Applied::Dropped(reason) => self.drop_row(index, reason),
            Applied::Version(fields) => {
                let state = &fields[ENTITY_SYSTEM_FIELDS.len()..];
                let row = Row { layout: entity.layout, slots: Some(state), ..*row };
                self.forward(plan, &node.children, &row, context)
            }
        }
    }

    fn aggregate(
        &mut self,
        plan: &SubTopology,
        index: NodeIndex,
        node: &Node,
        aggregate_node: &Aggregate,
        row: &Row<'_>,
        context: &RecordContext,
    ) -> Step {
        let failed = |error| NodeError { node: index, error };
        let time = self.operator_time(index);
        let folded = aggregate(aggregate_node, row, context, time, &mut self.stores, &mut self.evaluator);
        match folded.map_err(failed)? {
            Folded::Untouched => {}
            Folded::Dropped(reason) => self.drop_row(index, reason)?,
            Folded::Updated(window) => {
                if let (Emit::OnUpdate, Some(key)) = (aggregate_node.emit, row.key)
                    && let Some(result) =
                        operator::updated(aggregate_node, key, window, &mut self.stores).map_err(failed)?
                {
                    self.emit(plan, node, aggregate_node, row.key_format, &result, context)?;
                }
            }
        }
        match &aggregate_node.window {
            Some(window) => self.close_windows(plan, index, node, aggregate_node, window, row.key_format, context),
            None => Ok(()),
        }
    }

    /// Sends an aggregate's result on to its children.
    fn emit(
        &mut self,
        plan: &SubTopology,
        node: &Node,
        aggregate_node: &Aggregate,
        key_format: &KeyFormat,
        result: &Closed,
        context: &RecordContext,
    ) -> Step {
        let key = match result.window {
            Some(_) => crate::store::keys::split_windowed(&result.store_key).ok().map(|(_, key)| key),
            None => Some(result.store_key.as_slice()),
        };
        let mut slots = self.pool.pop().unwrap_or_default();
        operator::result_row(aggregate_node, &result.state, &mut slots);
        let row = Row {
            key,
            key_format,
            layout: aggregate_node.layout,
            slots: Some(&slots),
            timestamp: result.timestamp,
            window: result.window,
        };
        self.forward(plan, &node.children, &row, context)?;
        self.pool.push(slots);
        Ok(())
    }

    #[expect(clippy::too_many_arguments, reason = "a step of the walk: node, row and record are its place")]
    fn close_windows(
        &mut self,
        plan: &SubTopology,
        index: NodeIndex,
        node: &Node,
        aggregate_node: &Aggregate,
        window: &TumblingWindow,
        key_format: &KeyFormat,
        context: &RecordContext,
    ) -> Step {
        let at = usize::from(index.0);
        let failed = |error| NodeError { node: index, error };
        let time = self.operator_time(index);
        let open = operator::first_open_start(window, time);
        if open <= self.times.closed_until[at] {
            return Ok(());
        }
        if aggregate_node.emit == Emit::OnClose {
            let end = crate::store::keys::windowed(open, b"");
            let mut from = crate::store::keys::windowed(self.times.closed_until[at], b"");
            while from < end {
                let (closed, next) =
                    operator::close_windows(aggregate_node, window, &from, time, &mut self.stores).map_err(failed)?;
                for result in &closed {
                    self.emit(plan, node, aggregate_node, key_format, result, context)?;
                }
                from = next;
            }
        }
        self.times.closed_until[at] = open;
        while operator::expire_windows(aggregate_node, window, time, &mut self.stores).map_err(failed)? > 0 {}
        Ok(())
    }

    /// D12: the largest timestamp the node has seen, held back by the slowest live upstream task behind a repartition.
    fn operator_time(&self, index: NodeIndex) -> Timestamp {
        let at = usize::from(index.0);
        self.bounded_by[at]
            .iter()
            .filter_map(|source| self.times.slowest_upstream(*source))
            .fold(self.times.nodes[at], Timestamp::min)
    }

    /// The upstream tasks of `source` have moved: windows behind it may close.
    pub(super) fn upstream_moved(&mut self, plan: &SubTopology, source: SourceIndex, context: &RecordContext) -> Step {
        for (at, node) in plan.nodes.iter().enumerate() {
            let index = NodeIndex(at as u16);
            if let NodeKind::Aggregate(aggregate_node) = &node.kind
                && let Some(window) = &aggregate_node.window
                && self.bounded_by[at].contains(&source)
            {
                let format = &plan.stores[usize::from(aggregate_node.store.0)].key;
                self.close_windows(plan, index, node, aggregate_node, window, format, context)?;
            }
        }
        Ok(())
    }

    /// Emits the results that waited for the commit, in order of first change, and markers to repartition topics.
    pub(super) fn flush_results(&mut self, plan: &SubTopology, context: &RecordContext) -> Step {
        for node in &plan.nodes {
            let NodeKind::Aggregate(aggregate_node) = &node.kind else { continue };
            if aggregate_node.emit != Emit::OnCommit {
                continue;
            }
            let format = &plan.stores[usize::from(aggregate_node.store.0)].key;
            // Its store is written by this node alone, so what changed there is what waits for the commit.
            for (store_key, row) in self.stores.changed(crate::store::StoreIndex(aggregate_node.store.0)) {
                let window = aggregate_node.window.as_ref().and_then(|window| {
                    let (start, _) = crate::store::keys::split_windowed(&store_key).ok()?;
                    Some(operator::window_of(window, start))
                });
                let result =
                    Closed { store_key: store_key.to_vec(), window, state: row.fields, timestamp: row.timestamp };
                self.emit(plan, node, aggregate_node, format, &result, context)?;
            }
        }
        Ok(())
    }

    /// Tells every partition of every repartition topic how far this task is; `time` is none when it is idle.
    pub(super) fn send_markers(&mut self, plan: &SubTopology, time: Option<Timestamp>) {
        for (at, node) in plan.nodes.iter().enumerate() {
            let NodeKind::Repartition { topic, .. } = &node.kind else { continue };
            for partition in 0..self.resolved.partitions[at] {
                let record = Outgoing {
                    topic: topic.clone(),
                    partition: Partition(partition as i32),
                    timestamp: Timestamp(time.unwrap_or(self.times.stream).0.max(0)),
                    key: None,
                    value: None,
                    headers: marker::encode(&self.task, time),
                };
                self.push_out(record);
            }
        }
    }

    fn send(
        &mut self,
        index: NodeIndex,
        topic: &Topic,
        row: &Row<'_>,
        context: &RecordContext,
        headers: Headers,
    ) -> Result<Sent, NodeError> {
        let at = usize::from(index.0);
        let Self { resolved, buffer, packer, .. } = self;
        let value = match row.slots {
            None => None,
            Some(slots) => {
                let Some(writer) = resolved.writers[at].get(row.layout) else { return Ok(Sent::No) };
                writer.encode(slots, buffer).map_err(|error| NodeError { node: index, error })?;
                Some(packer.pack(buffer))
            }
        };
        let partitions = resolved.partitions[at].max(1);
        let partition = match row.key {
            Some(key) => partition_of(key, partitions),
            None => Partition(context.partition.0.rem_euclid(partitions as i32)),
        };
        let record = Outgoing {
            topic: topic.clone(),
            partition,
            timestamp: row.timestamp,
            key: row.key.map(|key| packer.pack(key)),
            value,
            headers,
        };
        let size = record.size_bytes();
        if size > resolved.record_bytes_max[at] {
            let message =
                format!("the row has {size} bytes, topic `{topic}` takes {} (E1003)", resolved.record_bytes_max[at]);
            return Err(NodeError { node: index, error: operator::Error::Record { message } });
        }
        self.produced[at] += 1;
        self.push_out(record);
        Ok(Sent::Yes)
    }

    pub(super) fn push_out(&mut self, record: Outgoing) {
        self.out_bytes += record.size_bytes();
        self.out.push_back(record);
    }

    fn drop_row(&mut self, node: NodeIndex, reason: DropReason) -> Step {
        self.count_drop(node, reason);
        Ok(())
    }

    pub(super) fn count_drop(&mut self, node: NodeIndex, reason: DropReason) {
        self.dropped[usize::from(node.0)][reason as usize] += 1;
    }
}

/// For each node, the sources with upstream tasks from which a path leads to it.
fn bounded_by(plan: &SubTopology, resolved: &Resolved) -> Vec<Vec<SourceIndex>> {
    let mut reached: Vec<Vec<SourceIndex>> = vec![Vec::new(); plan.nodes.len()];
    for (index, source) in plan.sources.iter().enumerate() {
        if resolved.upstream[index].is_empty() {
            continue;
        }
        let source_index = SourceIndex(index as u16);
        let mut open: Vec<NodeIndex> = source.children.iter().map(|child| child.node).collect();
        while let Some(node) = open.pop() {
            let at = usize::from(node.0);
            if !reached[at].contains(&source_index) {
                reached[at].push(source_index);
                open.extend(plan.nodes[at].children.iter().map(|child| child.node));
            }
        }
    }
    reached
}
