//! A task's times: stream time, what is recorded, every operator's own time, and how far the upstream tasks of a repartition
//! are. All of it is committed with each commit, so that grace, windows and timers go on after a crash, a move or a lost disk
//! (D1).

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::base::ids::Offset;
use crate::base::time::Timestamp;
use crate::plan::{NodeKind, SourceIndex, SubTopology};
use crate::planted::{self, Mistake};

/// The times of a task; indices are those of the plan's nodes and sources.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Times {
    /// Largest timestamp processed, over all sources.
    pub(super) stream: Timestamp,
    /// Running maximum of record timestamps: what "recorded" means for an entity's versions.
    pub(super) recorded: Timestamp,
    /// Largest timestamp each node has seen.
    pub(super) nodes: Vec<Timestamp>,
    /// For nodes with windows: starts below this are closed and done. For nodes that go through a table: when they do next. For
    /// tables whose rows go: the span that their index was made for.
    pub(super) closed_until: Vec<Timestamp>,
    /// For joins of streams: the largest timestamp of each side.
    pub(super) left: Vec<Timestamp>,
    pub(super) right: Vec<Timestamp>,
    /// For joins of streams: how many rows there were, to tell those of one time apart. For entities that decide: how many of their
    /// own events they have applied.
    pub(super) sequence: Vec<u64>,
    /// For nodes that hold so many bytes at most: how many they hold.
    pub(super) bytes: Vec<u64>,
    /// For nodes with an index of what is due: nothing is before this. Not kept: at first everything may be.
    pub(super) next_due: Vec<Timestamp>,
    /// For nodes that are going through a store: the key to go on from.
    pub(super) cursor: Vec<Option<Vec<u8>>>,
    /// For each source, how far each upstream task is; empty for topics that we do not write.
    pub(super) upstream: Vec<Vec<UpstreamTime>>,
}

/// How far an upstream task is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum UpstreamTime {
    /// It has not said anything yet.
    Unheard,
    /// Its inputs are empty, or silent for longer than `idle`: it holds nobody back.
    Idle,
    At(i64),
}

impl Times {
    /// The times of a task that has seen nothing.
    pub(super) fn new(plan: &SubTopology, upstream_tasks: &[usize]) -> Self {
        Self {
            stream: Timestamp::UNKNOWN,
            recorded: Timestamp::UNKNOWN,
            nodes: vec![Timestamp::UNKNOWN; plan.nodes.len()],
            closed_until: vec![Timestamp::UNKNOWN; plan.nodes.len()],
            left: vec![Timestamp::UNKNOWN; plan.nodes.len()],
            right: vec![Timestamp::UNKNOWN; plan.nodes.len()],
            sequence: vec![0; plan.nodes.len()],
            bytes: vec![0; plan.nodes.len()],
            next_due: vec![Timestamp::UNKNOWN; plan.nodes.len()],
            cursor: vec![None; plan.nodes.len()],
            upstream: upstream_tasks.iter().map(|tasks| vec![UpstreamTime::Unheard; *tasks]).collect(),
        }
    }

    /// Takes over what a record's walk may change; upstream tasks move by markers, which are not taken back.
    pub(super) fn save(&mut self, from: &Self) {
        (self.stream, self.recorded) = (from.stream, from.recorded);
        self.nodes.clone_from(&from.nodes);
        self.closed_until.clone_from(&from.closed_until);
        self.left.clone_from(&from.left);
        self.right.clone_from(&from.right);
        self.sequence.clone_from(&from.sequence);
        self.bytes.clone_from(&from.bytes);
        self.next_due.clone_from(&from.next_due);
        self.cursor.clone_from(&from.cursor);
    }

    /// Returns how far the slowest live upstream task of a source is; none when no upstream task holds anything back.
    pub(super) fn slowest_upstream(&self, source: SourceIndex) -> Option<Timestamp> {
        self.upstream[usize::from(source.0)]
            .iter()
            .filter_map(|time| match time {
                UpstreamTime::Unheard => Some(Timestamp::UNKNOWN),
                UpstreamTime::Idle => None,
                UpstreamTime::At(ms) => Some(Timestamp(*ms)),
            })
            .min()
    }
}

/// What is committed of a task beside its stores: a record of the meta topic, and the meta row at rest.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct TaskMeta {
    /// Of this record's layout; a newer one is refused.
    pub format: u32,
    /// Counts the task's commits.
    pub commit_sequence: u64,
    pub stream_time: Option<i64>,
    pub recorded: Option<i64>,
    /// By node name.
    pub nodes: BTreeMap<String, NodeTimes>,
    /// By source topic: how far each upstream task is.
    upstream: BTreeMap<String, Vec<UpstreamTime>>,
    /// Next offset to read, by source topic; the partition is the task's.
    pub offsets: BTreeMap<String, i64>,
    /// By source topic: the broker's id of the topic that the offset counts records of, where it has such ids.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub sources: BTreeMap<String, String>,
}

/// A node's part of [`TaskMeta`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct NodeTimes {
    pub time: Option<i64>,
    pub closed_until: Option<i64>,
    /// Of a join of streams.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub left: Option<i64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub right: Option<i64>,
    #[serde(default, skip_serializing_if = "is_zero")]
    pub sequence: u64,
    /// Of a node that holds so many bytes at most.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub bytes: u64,
    /// Of a node that is going through a store: the key to go on from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cursor: Option<Vec<u8>>,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "what serde asks for")]
fn is_zero(number: &u64) -> bool {
    *number == 0
}

/// The layout of [`TaskMeta`] that this version writes.
pub const META_FORMAT: u32 = 1;

impl TaskMeta {
    pub(super) fn new(plan: &SubTopology, times: &Times, offsets: &[Option<Offset>], commit_sequence: u64) -> Self {
        let known = |time: Timestamp| (time != Timestamp::UNKNOWN).then_some(time.0);
        let nodes = plan
            .nodes
            .iter()
            .enumerate()
            .filter(|(_, node)| keeps_time(&node.kind))
            .map(|(index, node)| {
                let times = NodeTimes {
                    time: known(times.nodes[index]),
                    closed_until: known(times.closed_until[index]),
                    left: known(times.left[index]),
                    right: known(times.right[index]),
                    sequence: times.sequence[index],
                    bytes: times.bytes[index],
                    cursor: times.cursor[index].clone(),
                };
                (node.kept_as.to_string(), times)
            })
            .collect();
        let by_topic = |index: usize| plan.sources[index].topic.to_string();
        Self {
            format: META_FORMAT,
            commit_sequence,
            stream_time: known(times.stream),
            recorded: known(times.recorded),
            nodes,
            upstream: times
                .upstream
                .iter()
                .enumerate()
                .filter(|(_, tasks)| !tasks.is_empty())
                .map(|(index, tasks)| (by_topic(index), tasks.clone()))
                .collect(),
            offsets: offsets
                .iter()
                .enumerate()
                .filter_map(|(index, offset)| Some((by_topic(index), (*offset)?.0)))
                .collect(),
            sources: BTreeMap::new(),
        }
    }

    /// Returns the times this record holds, for the nodes and sources that the plan has today.
    pub(super) fn times(&self, plan: &SubTopology, upstream_tasks: &[usize]) -> Times {
        let time = |ms: Option<i64>| ms.map_or(Timestamp::UNKNOWN, Timestamp);
        let mut times = Times::new(plan, upstream_tasks);
        times.stream = time(self.stream_time);
        times.recorded = time(self.recorded);
        for (index, node) in plan.nodes.iter().enumerate() {
            if let Some(known) = self.nodes.get(node.kept_as.as_str()) {
                times.nodes[index] = time(known.time);
                times.closed_until[index] = time(known.closed_until);
                times.left[index] = time(known.left);
                times.right[index] = time(known.right);
                times.sequence[index] = known.sequence;
                times.bytes[index] = known.bytes;
                if !planted::is(Mistake::CursorForgotten) {
                    times.cursor[index].clone_from(&known.cursor);
                }
            }
        }
        if planted::is(Mistake::UpstreamForgotten) {
            return times;
        }
        for (index, source) in plan.sources.iter().enumerate() {
            let known = self.upstream.get(source.topic.as_str()).map_or(&[][..], Vec::as_slice);
            for (slot, value) in times.upstream[index].iter_mut().zip(known) {
                *slot = *value;
            }
        }
        times
    }

    /// Returns the record's bytes.
    pub fn encode(&self) -> Vec<u8> {
        serde_json::to_vec(self).expect("maps from text to numbers are JSON")
    }

    /// Reads the record's bytes.
    ///
    /// # Errors
    /// Says what is wrong with them, a newer format included.
    pub fn decode(bytes: &[u8]) -> Result<Self, String> {
        #[derive(Deserialize)]
        struct Format {
            format: u32,
        }
        let Format { format } =
            serde_json::from_slice(bytes).map_err(|error| format!("the task's meta row: {error}"))?;
        if format > META_FORMAT {
            return Err(format!("the task's meta row has format {format}, this version reads up to {META_FORMAT}"));
        }
        serde_json::from_slice(bytes).map_err(|error| format!("the task's meta row: {error}"))
    }
}

/// Tells whether a node's time decides anything, and so is worth keeping.
pub(super) fn keeps_time(kind: &NodeKind) -> bool {
    match kind {
        NodeKind::Aggregate(aggregate) => aggregate.window.is_some(),
        NodeKind::VersionedTable { .. }
        | NodeKind::StreamJoin(_)
        | NodeKind::Suppress(_)
        | NodeKind::Dedupe(_)
        | NodeKind::Timer(_)
        | NodeKind::Punctuate(_) => true,
        NodeKind::Table { expiry, .. } => expiry.is_some(),
        NodeKind::Sink { cloud_events, .. } => cloud_events.is_some(),
        NodeKind::StreamTableJoin(join) => join.grace.is_some(),
        NodeKind::Entity(entity) => entity.deciding.is_some(),
        NodeKind::Filter { .. }
        | NodeKind::Select { .. }
        | NodeKind::Flatten(_)
        | NodeKind::Log(_)
        | NodeKind::Rekey { .. }
        | NodeKind::Regroup { .. }
        | NodeKind::Repartition { .. }
        | NodeKind::GlobalJoin(_)
        | NodeKind::Subscribe(_)
        | NodeKind::Subscriptions(_)
        | NodeKind::ForeignJoin(_)
        | NodeKind::TableJoin(_)
        | NodeKind::Merge => false,
    }
}
