//! L3: a task is one sub-topology on one partition: records in, effects out. It never sees a clock, a thread or a broker.
//!
//! The host gives it records ([`Task::add_records`]), lets it work ([`Task::run`]), closes its generation ([`Task::seal`]),
//! writes what it finds in [`Task::outgoing`], and reports the outcome ([`Task::committed`], [`Task::rewind`]). What lies
//! between two seals commits together or not at all.
//!
//! Invariant: `outgoing` holds changelog rows and meta of a generation only after its `seal`; nothing of the next generation
//! may be written before that one's outcome is known.

mod cloud_event;
mod commit;
mod decode;
mod failure;
mod global;
mod graph;
mod latency;
mod lineage;
mod lines;
mod marker;
mod own_event;
mod process;
mod queue;
mod restore;
mod times;
mod witness;

use std::collections::VecDeque;
use std::sync::Arc;

use bytes::Bytes;

use crate::base::ids::{Offset, Partition, SchemaId, TaskId, Topic, TopicPartition};
use crate::base::record::{Headers, Outgoing, Record, Written};
use crate::base::time::{SpanMs, Timestamp};
use crate::base::value::Value;
use crate::error::Kind;
use crate::limits;
use crate::operator::{DropReason, Evaluator};
use crate::plan::{Plan, Source, SourceIndex, SubTopology};
use crate::planted::{self, Mistake};
use crate::store::{self, StoreIndex, TaskStores};
use decode::{Decoded, SourceDecoder};
use failure::Retrying;
use graph::Graph;
use process::{Context, Done, own_timestamp};
use queue::{Next, SourceQueue};
use times::Times;

pub use cloud_event::opened as opened_event;
pub use commit::{CommitCycle, CommitStep, Outcome};
pub use failure::{ByReason, Failures, NODE_HEADER, REASON_HEADER};
pub use global::{Followed, GLOBAL, GlobalStats, GlobalTables, Took};
pub use graph::{DeadLetterTopic, Refusal, Resolved, Writes};
pub use latency::{LATENCY_BOUNDS_SECONDS, Latency};
pub use lines::LogLine;
pub use marker::MARKER_HEADER;
pub use own_event::DECIDED_HEADER;
pub use restore::{AtRest, FirstStart, InputFacts, ReadFrom, StartOffset, start_offset};
pub use times::{META_FORMAT, NodeTimes, TaskMeta};
pub use witness::{Seen, Witness};

/// A running task.
#[derive(Debug)]
pub struct Task {
    id: TaskId,
    plan: Arc<Plan>,
    sub_topology: usize,
    resolved: Arc<Resolved>,
    max_future: SpanMs,
    graph: Graph,
    queues: Vec<SourceQueue>,
    decoders: Vec<SourceDecoder>,
    /// Evaluates the sources' own timestamps.
    evaluator: Evaluator,
    committed: TaskMeta,
    sealed: Option<Sealed>,
    /// By source: what the record being worked on is.
    contexts: Vec<Context>,
    /// By source: what the record at the head is, for its own timestamp.
    head_contexts: Vec<Context>,
    /// The source of the last record that was walked.
    last_source: usize,
    /// By source: the wall clock when it last had a record.
    heard_at: Vec<Option<Timestamp>>,
    last_marker: Option<Option<Timestamp>>,
    /// Records or markers were processed since the last seal.
    dirty: bool,
    /// The record that is being tried again.
    retrying: Option<Retrying>,
    stats: Stats,
    witness: Option<Arc<dyn Witness>>,
}

/// A generation that is closed and not yet known to be committed.
#[derive(Debug)]
struct Sealed {
    meta: TaskMeta,
}

/// Plain counters of a task, read by the exporter.
#[derive(Clone, Debug, Default)]
pub struct Stats {
    /// By source: records consumed.
    pub consumed: Vec<u64>,
    /// By source: records that were given up or are tried again before a node saw them.
    pub failures: Vec<Failures>,
}

/// How far a call of [`Task::run`] came.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ran {
    /// As many records as it was allowed; there may be more.
    Busy,
    /// There is nothing to work on until more is added.
    Waiting,
    /// It needs the schema of this id: fetch it and call [`Task::learn_schema`].
    NeedsSchema(SchemaId),
}

/// Why a task cannot go on.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A record that its node's or source's `on_error` says to stop at. The record is still there.
    #[error("task `{task}` stopped in `{node}` at {topic}-{partition} offset {offset}: {message}")]
    Stopped {
        task: TaskId,
        node: String,
        topic: Topic,
        partition: Partition,
        offset: Offset,
        reason: DropReason,
        message: String,
    },
    #[error("task `{task}`: {source}")]
    Store { task: TaskId, source: store::Error },
    #[error("task `{task}`: {message}")]
    Bug { task: TaskId, message: String },
}

impl Error {
    /// Tells what the caller should do.
    pub fn kind(&self) -> Kind {
        match self {
            Self::Stopped { .. } => Kind::Record,
            Self::Store { source, .. } => source.kind(),
            Self::Bug { .. } => Kind::Bug,
        }
    }
}

impl Task {
    /// Makes a task over stores that are restored to `committed` (none: nothing was ever committed).
    ///
    /// # Errors
    /// A plan that does not fit itself.
    pub fn new(
        id: TaskId,
        plan: Arc<Plan>,
        sub_topology: usize,
        stores: TaskStores,
        committed: Option<TaskMeta>,
        resolved: Arc<Resolved>,
        max_future: SpanMs,
    ) -> Result<Self, Error> {
        let sub = &plan.sub_topologies[sub_topology];
        let upstream = upstream_counts(&resolved);
        let committed = committed
            .unwrap_or_else(|| TaskMeta::new(sub, &Times::new(sub, &upstream), &vec![None; sub.sources.len()], 0));
        let times = committed.times(sub, &upstream);
        let decoders = sub
            .sources
            .iter()
            .map(SourceDecoder::new)
            .collect::<Result<Vec<_>, _>>()
            .map_err(|message| Error::Bug { task: id.clone(), message })?;
        let queue =
            |source: &Source| SourceQueue::new(TopicPartition { topic: source.topic.clone(), partition: id.partition });
        let context = |source: &Source| Context::new(source.topic.clone(), id.partition, times.stream);
        Ok(Self {
            queues: sub.sources.iter().map(queue).collect(),
            decoders,
            evaluator: Evaluator::default(),
            contexts: sub.sources.iter().map(context).collect(),
            head_contexts: sub.sources.iter().map(context).collect(),
            last_source: 0,
            heard_at: vec![None; sub.sources.len()],
            last_marker: None,
            dirty: false,
            retrying: None,
            stats: Stats {
                consumed: vec![0; sub.sources.len()],
                failures: vec![Failures::default(); sub.sources.len()],
            },
            graph: Graph::new(id.clone(), &plan.application_id, sub, stores, times, Arc::clone(&resolved)),
            committed,
            sealed: None,
            id,
            sub_topology,
            resolved,
            max_future,
            plan,
            witness: None,
        })
    }

    /// Tells `witness`, where there is one, what the task does from here on.
    #[must_use]
    pub fn watched_by(mut self, witness: Option<Arc<dyn Witness>>) -> Self {
        self.witness = witness;
        self.show(Seen::Started);
        self
    }

    fn show(&self, seen: Seen<'_>) {
        if let Some(witness) = &self.witness {
            witness.sees(&self.id, seen);
        }
    }

    /// Returns the task's id.
    pub fn id(&self) -> &TaskId {
        &self.id
    }

    /// Returns the task's part of the plan.
    pub fn sub_topology(&self) -> &SubTopology {
        &self.plan.sub_topologies[self.sub_topology]
    }

    /// Returns the task's stores, for reads of committed rows.
    pub fn stores(&self) -> &TaskStores {
        &self.graph.stores
    }

    /// Returns the task's stores, to write them behind the commit.
    pub fn stores_mut(&mut self) -> &mut TaskStores {
        &mut self.graph.stores
    }

    /// Gives the stores back, for whoever runs the task next.
    pub fn into_stores(self) -> TaskStores {
        self.graph.stores
    }

    /// Returns the counters.
    pub fn stats(&self) -> &Stats {
        &self.stats
    }

    /// Returns, by node, the rows that were given up or are tried again, and the records sent.
    pub fn node_stats(&self) -> (&[Failures], &[u64]) {
        (&self.graph.failures, &self.graph.produced)
    }

    /// Returns the latencies of the sinks that have sent something, by node.
    pub fn latencies(&self) -> impl Iterator<Item = (&str, &Latency)> {
        let nodes = &self.sub_topology().nodes;
        self.graph.latencies.iter().map(|(node, latency)| (&*nodes[node].name, latency))
    }

    /// Returns the bytes of fetched records that wait to be processed.
    pub fn input_bytes(&self) -> usize {
        self.queues.iter().map(SourceQueue::bytes).sum()
    }

    /// Returns the bytes of records that wait to be sent.
    pub fn outgoing_bytes(&self) -> usize {
        self.graph.out_bytes
    }

    /// Returns the largest timestamp processed; [`Timestamp::UNKNOWN`] before the first.
    pub fn stream_time(&self) -> Timestamp {
        self.graph.times.stream
    }

    /// Returns the last commit's meta.
    pub fn committed_meta(&self) -> &TaskMeta {
        &self.committed
    }

    /// Returns the bytes that wait in the queue of each source's partition.
    pub fn queued(&self) -> impl Iterator<Item = (&TopicPartition, usize)> {
        self.queues.iter().map(|queue| (&queue.partition, queue.bytes()))
    }

    /// Returns the next offset to process of each source that has one: what lag is counted from.
    pub fn positions(&self) -> Vec<(TopicPartition, Offset)> {
        self.queues.iter().filter_map(|queue| Some((queue.partition.clone(), queue.committable()?))).collect()
    }

    /// Takes fetched records of a source topic in. Records of other topics are not this task's and are a bug of the caller.
    pub fn add_records(&mut self, topic: &Topic, records: Vec<Record>, now: Timestamp) {
        for (index, queue) in self.queues.iter_mut().enumerate() {
            if queue.partition.topic == *topic {
                self.heard_at[index] = Some(now);
                queue.push(records);
                return;
            }
        }
        debug_assert!(false, "task {} does not read {topic}", self.id);
    }

    /// A source topic is read from `from` on.
    pub fn begin(&mut self, topic: &Topic, from: Offset) {
        if let Some(queue) = self.queues.iter_mut().find(|queue| queue.partition.topic == *topic) {
            queue.begin(from);
        }
    }

    /// Notes that a source topic has been handed out up to `position`.
    pub fn reached_end(&mut self, topic: &Topic, position: Offset) {
        if let Some(queue) = self.queues.iter_mut().find(|queue| queue.partition.topic == *topic) {
            queue.reached_end(position);
        }
    }

    /// Takes the schema of an id that [`Ran::NeedsSchema`] asked for, or why it cannot be had.
    pub fn learn_schema(&mut self, id: SchemaId, schema: Result<&str, &str>) {
        for decoder in &mut self.decoders {
            decoder.learn(id, schema);
        }
    }

    /// Processes up to `records_max` records, fewer where what they change would fill the cache; `now` is the wall clock.
    ///
    /// # Errors
    /// A record that must not be passed over, or a store that fails: the task cannot go on.
    pub fn run(&mut self, records_max: usize, now: Timestamp) -> Result<Ran, Error> {
        let plan = Arc::clone(&self.plan);
        let sub = &plan.sub_topologies[self.sub_topology];
        self.ring(sub, now)?;
        if self.waits_to_retry(now) {
            return Ok(Ran::Waiting);
        }
        // What is not committed has its place beside the rows that are cached, and soon takes theirs.
        let held_max = self.uncommitted_bytes() + self.graph.stores.cache_budget_bytes();
        for _ in 0..records_max {
            if self.uncommitted_bytes() > held_max {
                return Ok(Ran::Busy);
            }
            if let Some(node) = self.graph.next_chore(sub, now) {
                self.chore(sub, node, now)?;
                continue;
            }
            let (evaluator, contexts) = (&mut self.evaluator, &mut self.head_contexts);
            let mut timestamp_of = |source: SourceIndex,
                                    record: &Record,
                                    key: Option<&[u8]>,
                                    decoded: &Decoded,
                                    slots: &[Value],
                                    decoder: &SourceDecoder| {
                let at = usize::from(source.0);
                let row = (key, decoded, slots);
                own_timestamp(&sub.sources[at], record, row, decoder, &mut contexts[at], evaluator)
            };
            match queue::next(&mut self.queues, &mut self.decoders, &sub.sources, &mut timestamp_of) {
                Next::Drained | Next::WaitsFor(_) => return Ok(Ran::Waiting),
                Next::NeedsSchema(_, id) => return Ok(Ran::NeedsSchema(id)),
                Next::Source(source) => {
                    let head = self.queues[usize::from(source.0)].take().expect("the rule chose a queue with a head");
                    let offset = head.record.offset;
                    if self.process(sub, source, head, now)? == Done::Later {
                        return Ok(Ran::Waiting);
                    }
                    self.show(Seen::Took { topic: &sub.sources[usize::from(source.0)].topic, offset, now });
                }
            }
        }
        Ok(Ran::Busy)
    }

    /// Tells whether everything that was handed out is processed, to the end of every input, and nothing is on its way.
    pub fn is_drained(&self) -> bool {
        self.sealed.is_none() && self.queues.iter().all(SourceQueue::is_drained)
    }

    /// Tells whether a record waits to be tried again; nothing else is worked on meanwhile.
    pub fn is_retrying(&self, now: Timestamp) -> bool {
        self.retrying.is_some_and(|retrying| retrying.waits(now))
    }

    /// Tells whether there is anything to commit.
    pub fn needs_commit(&self, now: Timestamp) -> bool {
        self.sealed.is_none() && (self.dirty || self.last_marker != Some(self.marker_time(now)) && self.sends_markers())
    }

    /// Closes the open generation: results that waited for the commit, markers, changelog rows and meta stand in
    /// [`Task::outgoing`] afterwards, and a new generation is open.
    ///
    /// # Errors
    /// A result that cannot be worked on, or a store that fails.
    pub fn seal(&mut self, now: Timestamp) -> Result<(), Error> {
        if self.sealed.is_some() {
            return Err(self.bug("a generation is sealed while another is being committed"));
        }
        let plan = Arc::clone(&self.plan);
        let sub = &plan.sub_topologies[self.sub_topology];
        if let Some(context) = self.contexts.get(self.last_source) {
            self.graph.flush_results(sub, context).map_err(|error| self.node_failed(sub, error, context))?;
        }
        let time = self.marker_time(now);
        if self.sends_markers() && self.last_marker != Some(time) {
            self.graph.send_markers(sub, time);
            self.last_marker = Some(time);
        }
        self.seal_stores(sub)?;
        let offsets: Vec<Option<Offset>> = self.queues.iter().map(SourceQueue::committable).collect();
        let mut meta = TaskMeta::new(sub, &self.graph.times, &offsets, self.committed.commit_sequence + 1);
        for (topic, offset) in &self.committed.offsets {
            meta.offsets.entry(topic.clone()).or_insert(*offset);
        }
        self.note_source_ids(&mut meta, &offsets);
        if !planted::is(Mistake::MetaForgotten) {
            self.graph.push_out(Outgoing {
                topic: sub.meta_topic.clone(),
                partition: self.id.partition,
                timestamp: Timestamp(self.graph.times.stream.0.max(0)),
                key: Some(Bytes::from(self.id.to_string())),
                value: Some(Bytes::from(meta.encode())),
                headers: Headers::default(),
            });
        }
        self.graph.latencies.seal();
        self.show(Seen::Sealed { meta: &meta, now });
        self.sealed = Some(Sealed { meta });
        self.dirty = false;
        Ok(())
    }

    /// Beside each offset stands the topic that it counts records of.
    fn note_source_ids(&self, meta: &mut TaskMeta, offsets: &[Option<Offset>]) {
        meta.sources.clone_from(&self.committed.sources);
        let sources = self.sub_topology().sources.iter().zip(offsets).zip(&self.resolved.source_ids);
        for ((source, offset), id) in sources {
            if let (Some(_), Some(id)) = (offset, id) {
                meta.sources.insert(source.topic.to_string(), id.clone());
            }
        }
    }

    fn seal_stores(&mut self, sub: &SubTopology) -> Result<(), Error> {
        let Graph { stores, out, out_bytes, packer, .. } = &mut self.graph;
        let partition = self.id.partition;
        let sealed = stores.seal(&mut |store, key, value, timestamp| {
            let record = Outgoing {
                topic: sub.stores[usize::from(store.0)].changelog.clone(),
                partition,
                timestamp: Timestamp(timestamp.0.max(0)),
                key: Some(packer.pack(key)),
                value: value.map(|value| packer.pack(value)),
                headers: Headers::default(),
            };
            *out_bytes += record.size_bytes();
            out.push_back(record);
        });
        sealed.map_err(|source| Error::Store { task: self.id.clone(), source })
    }

    /// Takes the lines of the log that rows have asked for.
    pub fn take_lines(&mut self) -> Vec<LogLine> {
        self.graph.lines.take()
    }

    /// Returns the records that wait to be sent, in order.
    pub fn outgoing(&mut self) -> &mut VecDeque<Outgoing> {
        self.graph.out_bytes = 0;
        &mut self.graph.out
    }

    /// Returns the bytes that wait to be sent and to be committed: what bounds a generation.
    pub fn uncommitted_bytes(&self) -> usize {
        self.graph.out_bytes + self.graph.stores.stats().uncommitted_bytes() as usize
    }

    /// Returns the input offsets of the sealed generation.
    pub fn sealed_offsets(&self) -> Vec<(TopicPartition, Offset)> {
        let Some(sealed) = &self.sealed else { return Vec::new() };
        let offset = |queue: &SourceQueue| {
            let offset = sealed.meta.offsets.get(queue.partition.topic.as_str())?;
            Some((queue.partition.clone(), Offset(*offset)))
        };
        self.queues.iter().filter_map(offset).collect()
    }

    /// Tells whether nobody else wrote to the changelogs between what the stores amount to and what was `written`. Transactions see to
    /// that by fencing; without them, an instance that does not know yet that it has lost the task may have. The marker of a
    /// transaction from before counts as somebody else.
    pub fn wrote_alone(&self, written: &[Written]) -> bool {
        let mut stores = self.plan.sub_topologies[self.sub_topology].stores.iter().enumerate();
        stores.all(|(index, store)| {
            let next = self.graph.stores.next_offset(StoreIndex(index as u16));
            let alone = |written: &Written| next.0 + written.records as i64 == written.last.next().0;
            self.written_to(&store.changelog, written).is_none_or(alone)
        })
    }

    fn written_to<'a>(&self, topic: &Topic, written: &'a [Written]) -> Option<&'a Written> {
        written.iter().find(|to| to.partition.topic == *topic && to.partition.partition == self.id.partition)
    }

    /// The sealed generation is committed, at `now` by the wall clock; `written` is what the broker acknowledged.
    pub fn committed(&mut self, written: &[Written], now: Timestamp) {
        let Some(sealed) = self.sealed.take() else { return };
        self.graph.latencies.committed(now);
        let sub = &self.plan.sub_topologies[self.sub_topology];
        let next = |topic: &Topic| self.written_to(topic, written).map(|written| written.last.next());
        let positions: Vec<(StoreIndex, Offset)> = sub
            .stores
            .iter()
            .enumerate()
            .filter_map(|(index, store)| Some((StoreIndex(index as u16), next(&store.changelog)?)))
            .collect();
        let at_rest = AtRest { meta: sealed.meta.clone(), next_offset: next(&sub.meta_topic).map(|offset| offset.0) };
        self.graph.stores.confirm(&positions, &at_rest.encode());
        self.graph.out.shrink_to(limits::KEPT_ENTRIES);
        self.committed = sealed.meta;
        for queue in &mut self.queues {
            if let Some(offset) = self.committed.offsets.get(queue.partition.topic.as_str()) {
                queue.committed(Offset(*offset));
            }
        }
        let is_done = |retrying: &Retrying| {
            let topic = &self.queues[retrying.source].partition.topic;
            self.committed.offsets.get(topic.as_str()).is_some_and(|next| *next > retrying.offset.0)
        };
        self.retrying = self.retrying.filter(|retrying| !is_done(retrying));
    }

    /// Returns what the task writes to a topic.
    pub fn writes(&self, topic: &Topic) -> Writes {
        self.graph.writes(self.sub_topology(), topic)
    }

    /// The broker has refused what the task wrote to a topic. The host takes everything back to the last commit; then the record
    /// that makes such a row meets the refusal, and `on_error` decides about it.
    pub fn refused(&mut self, topic: &Topic, refusal: &Refusal, now: Timestamp) {
        let plan = Arc::clone(&self.plan);
        self.graph.refused(&plan.sub_topologies[self.sub_topology], topic, refusal, now);
    }

    /// Drops everything that is not committed and goes back to the last commit. The host reads the inputs again from
    /// [`Task::positions`].
    pub fn rewind(&mut self) {
        let upstream = upstream_counts(&self.resolved);
        let plan = Arc::clone(&self.plan);
        let sub = &plan.sub_topologies[self.sub_topology];
        let times = if planted::is(Mistake::TimesNotRewound) {
            self.graph.times.clone()
        } else {
            self.committed.times(sub, &upstream)
        };
        self.graph.reset(times);
        self.queues.iter_mut().for_each(SourceQueue::rewind);
        for decoder in &mut self.decoders {
            decoder.forget_failures();
        }
        self.sealed = None;
        self.last_marker = None;
        self.dirty = false;
        self.show(Seen::Rewound);
    }

    fn sends_markers(&self) -> bool {
        self.sub_topology()
            .nodes
            .iter()
            .any(|node| matches!(node.kind, crate::plan::NodeKind::Repartition { marks: true, .. }))
    }

    /// How far this task is, for those behind its repartition topics; none when it holds nobody back: every input is read to
    /// its end and either never had a record or has been silent for longer than its `idle`.
    fn marker_time(&self, now: Timestamp) -> Option<Timestamp> {
        let silent = self.sub_topology().sources.iter().zip(&self.queues).zip(&self.heard_at).all(
            |((source, queue), heard_at)| {
                let never = self.graph.times.stream == Timestamp::UNKNOWN;
                let long_ago = source.idle.zip(*heard_at).is_some_and(|(idle, at)| at.saturating_add(idle) < now);
                queue.is_drained() && (never || long_ago)
            },
        );
        (!silent).then_some(self.graph.times.stream)
    }
}

fn upstream_counts(resolved: &Resolved) -> Vec<usize> {
    resolved.upstream.iter().map(|upstream| upstream.iter().map(|(_, tasks)| tasks).sum()).collect()
}
