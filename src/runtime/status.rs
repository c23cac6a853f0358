//! What a stream thread shows of itself, a few times a second: its beat, its tasks and stores, and numbers for the exporter.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::PoisonError;
use std::time::Duration;

use tracing::warn;

use crate::base::ids::{Offset, TaskId, TopicPartition};
use crate::base::time::{SpanMs, Timestamp};
use crate::metrics::names::COMMIT_BOUNDS_SECONDS;
use crate::operator::DropReason;
use crate::plan::StoreKind;
use crate::runtime::quarantine::Quarantine;
use crate::runtime::restorer::{Progress, Restorer};
use crate::runtime::samples;
use crate::runtime::service::{HistogramSample, QuarantineStatus, RecordPlace, Sample, StoreStatus, TaskStatus};
use crate::runtime::shared::Shared;
use crate::runtime::thread::Slot;
use crate::store::StoreIndex;
use crate::task::Task;

/// How often a thread shows itself.
pub(super) const PUBLISH_EVERY: SpanMs = SpanMs(250);

/// What a thread showed last.
#[derive(Clone, Debug, Default)]
pub(super) struct Snapshot {
    /// The group has given this thread its partitions (perhaps none) at least once.
    pub(super) assigned: bool,
    pub(super) restoring: usize,
    pub(super) tasks: Vec<TaskStatus>,
    pub(super) stores: Vec<StoreStatus>,
    pub(super) samples: Vec<Sample>,
    pub(super) histograms: Vec<HistogramSample>,
    /// Why the thread is not running.
    pub(super) failure: Option<String>,
    pub(super) commits: u64,
    pub(super) consumed: u64,
    /// Everything that can be processed has been, and is committed.
    pub(super) drained: bool,
}

/// What a thread has, to be shown.
pub(super) struct View<'a> {
    pub(super) slots: &'a BTreeMap<TaskId, Slot>,
    pub(super) restorer: &'a Restorer,
    pub(super) ends: &'a BTreeMap<TopicPartition, Offset>,
    pub(super) unopened: &'a BTreeMap<TaskId, Quarantine>,
    pub(super) waiting: &'a BTreeSet<TaskId>,
}

/// A thread's own counters, and when it showed them last.
#[derive(Debug)]
pub(super) struct ThreadStatus {
    thread: usize,
    published: Timestamp,
    assigned: bool,
    pub(super) commits: u64,
    pub(super) failed_commits: u64,
    pub(super) commit_counts: Vec<u64>,
    pub(super) commit_seconds: f64,
    pub(super) polling: Duration,
    pub(super) processing: Duration,
    pub(super) restoring: Duration,
    pub(super) rebalances: u64,
    locked: BTreeSet<TaskId>,
    /// Nodes that were said to drop records without a key.
    keyless: BTreeSet<(TaskId, usize)>,
}

impl ThreadStatus {
    pub(super) fn new(thread: usize) -> Self {
        Self {
            thread,
            published: Timestamp(0),
            assigned: false,
            commits: 0,
            failed_commits: 0,
            commit_counts: vec![0; COMMIT_BOUNDS_SECONDS.len() + 1],
            commit_seconds: 0.0,
            polling: Duration::ZERO,
            processing: Duration::ZERO,
            restoring: Duration::ZERO,
            rebalances: 0,
            locked: BTreeSet::new(),
            keyless: BTreeSet::new(),
        }
    }

    pub(super) fn spent_polling(&mut self, spent: Duration) {
        self.polling += spent;
    }

    pub(super) fn spent_processing(&mut self, spent: Duration) {
        self.processing += spent;
    }

    pub(super) fn spent_restoring(&mut self, spent: Duration) {
        self.restoring += spent;
    }

    pub(super) fn assigned(&mut self) {
        self.assigned = true;
        self.published = Timestamp(0);
    }

    pub(super) fn is_assigned(&self) -> bool {
        self.assigned
    }

    pub(super) fn committed(&mut self, took: Duration) {
        self.commits += 1;
        let seconds = took.as_secs_f64();
        let bucket = COMMIT_BOUNDS_SECONDS.iter().position(|bound| seconds <= *bound);
        self.commit_counts[bucket.unwrap_or(COMMIT_BOUNDS_SECONDS.len())] += 1;
        self.commit_seconds += seconds;
    }

    pub(super) fn rebalanced(&mut self) {
        self.rebalances += 1;
    }

    pub(super) fn commit_failed(&mut self) {
        self.failed_commits += 1;
    }

    /// Tells whether a task has just begun to wait for its folder: said once.
    pub(super) fn waits_for_lock(&mut self, task: &TaskId) -> bool {
        self.locked.insert(task.clone())
    }

    pub(super) fn publish(&mut self, shared: &Shared, view: &View<'_>, now: Timestamp) {
        let View { slots, restorer, ends, unopened, waiting } = view;
        if self.published <= now && now < self.published.saturating_add(PUBLISH_EVERY) {
            return;
        }
        self.published = now;
        let mut snapshot = Snapshot {
            assigned: self.assigned,
            commits: self.commits,
            drained: self.assigned && restorer.is_idle() && slots.values().all(|slot| slot.is_drained(now)),
            ..Snapshot::default()
        };
        for slot in slots.values() {
            self.show_task(slot, ends, now, &mut snapshot);
        }
        for (task, quarantine) in *unopened {
            let shown = TaskStatus::of(task.to_string(), self.thread, "quarantined");
            show_quarantine(&task.to_string(), quarantine, &mut snapshot.samples);
            snapshot.tasks.push(TaskStatus {
                quarantine: Some(quarantined(quarantine)),
                error: Some(quarantine.message.clone()),
                ..shown
            });
        }
        for task in *waiting {
            snapshot.restoring += 1;
            snapshot.tasks.push(TaskStatus::of(task.to_string(), self.thread, "waiting"));
        }
        for (task, Progress { remaining, seconds_left }) in restorer.progress(now) {
            snapshot.restoring += 1;
            let shown = TaskStatus::of(task.to_string(), self.thread, "restoring");
            let restore_seconds_left = seconds_left;
            snapshot.tasks.push(TaskStatus { restore_remaining: remaining, restore_seconds_left, ..shown });
        }
        for (task, store, remaining) in restorer.remaining_of_stores() {
            let sub = &shared.plan.sub_topologies[shared.sub_topology_of(task)];
            let labels = vec![sub.stores[store.index()].name.to_string(), task.partition.to_string()];
            snapshot.samples.push(Sample { name: "restore_remaining_records", labels, value: remaining as f64 });
        }
        samples::of_thread(&self.thread.to_string(), self, &mut snapshot);
        let mut snapshots = shared.snapshots.lock().unwrap_or_else(PoisonError::into_inner);
        snapshots[self.thread] = snapshot;
    }

    fn show_task(
        &mut self,
        slot: &Slot,
        ends: &BTreeMap<TopicPartition, Offset>,
        now: Timestamp,
        snapshot: &mut Snapshot,
    ) {
        let lag = show_lag(slot, ends, snapshot);
        let task = &slot.task;
        let stream_time = task.stream_time();
        let records: u64 = task.stats().consumed.iter().sum();
        snapshot.consumed += records;
        snapshot.tasks.push(TaskStatus {
            task: task.id().to_string(),
            thread: self.thread,
            state: if slot.quarantined.is_some() { "quarantined" } else { "running" }.to_owned(),
            stream_time: (stream_time != Timestamp::UNKNOWN).then(|| stream_time.to_string()),
            records,
            lag,
            restore_remaining: 0,
            restore_seconds_left: None,
            error: slot.quarantined.as_ref().map(|quarantine| quarantine.message.clone()),
            quarantine: slot.quarantined.as_ref().map(quarantined),
        });
        if let Some(quarantine) = &slot.quarantined {
            show_quarantine(&task.id().to_string(), quarantine, &mut snapshot.samples);
        }
        samples::of_task(slot, now, &mut snapshot.samples, &mut snapshot.histograms);
        self.warn_of_keyless(task);
        Self::show_stores(slot, snapshot);
    }

    fn warn_of_keyless(&mut self, task: &Task) {
        let (failures, _) = task.node_stats();
        for (index, node) in task.sub_topology().nodes.iter().enumerate() {
            let keyless = failures[index].dropped[DropReason::NullKey as usize] > 0;
            if keyless && self.keyless.insert((task.id().clone(), index)) {
                warn!(task = %task.id(), node = %node.name, "records without a key are dropped (E1001)");
            }
        }
    }

    fn show_stores(slot: &Slot, snapshot: &mut Snapshot) {
        let (task, sub) = (&slot.task, slot.task.sub_topology());
        let partition = task.id().partition;
        let bytes = task.stores().backend().size_bytes();
        for (index, store) in sub.stores.iter().enumerate() {
            let position = task.stores().position(StoreIndex(index as u16));
            snapshot.stores.push(StoreStatus {
                store: store.name.to_string(),
                partition: partition.0,
                task: task.id().to_string(),
                kind: kind_name(&store.kind).to_owned(),
                bytes,
                changelog_offset: position.map(|position| position.offset.0),
            });
        }
        // A task's stores share one database.
        if let Some(store) = sub.stores.first() {
            let labels = vec![store.name.to_string(), partition.to_string()];
            snapshot.samples.push(Sample { name: "store_bytes", labels, value: bytes as f64 });
        }
    }
}

fn quarantined(quarantine: &Quarantine) -> QuarantineStatus {
    QuarantineStatus {
        reason: quarantine.reason.to_owned(),
        code: quarantine.code.map(|code| code.to_string()),
        node: quarantine.node.clone(),
        record: quarantine.record.as_ref().map(|(place, offset)| RecordPlace {
            topic: place.topic.to_string(),
            partition: place.partition.0,
            offset: offset.0,
        }),
        since: quarantine.since.to_string(),
        retry_at: quarantine.retry_at.map(|at| at.to_string()),
    }
}

fn show_quarantine(task: &str, quarantine: &Quarantine, samples: &mut Vec<Sample>) {
    let labels = vec![task.to_owned(), quarantine.reason.to_owned()];
    samples.push(Sample { name: "task_quarantined", labels, value: 1.0 });
}

/// Counts how far a task is behind the ends of its inputs; what is not known yet counts as nothing.
fn show_lag(slot: &Slot, ends: &BTreeMap<TopicPartition, Offset>, snapshot: &mut Snapshot) -> u64 {
    let mut sum = 0;
    for (partition, position) in slot.task.positions() {
        let Some(end) = ends.get(&partition) else { continue };
        let lag = end.0.saturating_sub(position.0).max(0);
        sum += lag.unsigned_abs();
        let labels = vec![partition.topic.to_string(), partition.partition.to_string()];
        snapshot.samples.push(Sample { name: "consumer_lag_records", labels, value: lag as f64 });
    }
    sum
}

/// The name of a store's kind in answers.
pub(super) fn kind_name(kind: &StoreKind) -> &'static str {
    match kind {
        StoreKind::KeyValue => "key_value",
        StoreKind::Window(_) => "window",
        StoreKind::Versioned { .. } => "versioned",
        StoreKind::Entity => "entity",
        StoreKind::History => "history",
        StoreKind::Due => "due",
        StoreKind::Subscriptions => "subscriptions",
        StoreKind::JoinSide => "joined",
        StoreKind::Waiting => "waiting",
    }
}

impl Slot {
    /// Everything that can be processed by now has been and is committed, or the task does not run.
    pub(super) fn is_drained(&self, now: Timestamp) -> bool {
        let drained = self.task.is_drained() || self.task.is_retrying(now);
        self.quarantined.is_some() || (drained && !self.task.needs_commit(now))
    }
}
