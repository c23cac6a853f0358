//! What a stream thread does when the group gives and takes partitions: which tasks that makes, where their stores come from,
//! where their inputs are read on. A task runs only when all its partitions are here.

use std::collections::BTreeMap;

use tracing::{info, warn};

use crate::base::ids::{Offset, TaskId, Topic, TopicPartition};
use crate::base::time::Timestamp;
use crate::broker;
use crate::crash::{self, Step};
use crate::error::codes;
use crate::limits;
use crate::runtime::Error;
use crate::runtime::quarantine::Quarantine;
use crate::runtime::restorer::Restored;
use crate::runtime::sources::Change;
use crate::runtime::thread::{Slot, StreamThread};
use crate::store::{self, SetAsideReason};
use crate::task::{InputFacts, ReadFrom, StartOffset, Task, TaskMeta, start_offset};

/// What a task's meta knows of its inputs.
struct Known {
    offsets: BTreeMap<String, i64>,
    sources: BTreeMap<String, String>,
}

impl Known {
    fn of(meta: Option<&TaskMeta>) -> Self {
        let meta = meta.cloned();
        let (offsets, sources) = meta.map(|meta| (meta.offsets, meta.sources)).unwrap_or_default();
        Self { offsets, sources }
    }

    /// Tells whether a topic is another than the one that the committed offset is of.
    fn replaced(&self, topic: &Topic, id: Option<String>) -> bool {
        self.sources.get(topic.as_str()).zip(id).is_some_and(|(known, id)| *known != id)
    }
}

impl StreamThread {
    /// The group gave partitions: they are assigned at once, paused, and read on when their tasks are restored.
    pub(super) fn on_assigned(&mut self, partitions: &[TopicPartition], now: Timestamp) -> Result<(), Error> {
        self.status.rebalanced();
        self.shared.gate.pass_for_sure(now)?;
        self.beat();
        let offsets = self.consumer.committed(partitions, limits::BROKER_WAIT_MAX)?;
        let mut positions = Vec::with_capacity(partitions.len());
        for (partition, offset) in partitions.iter().zip(offsets) {
            let start = match offset {
                Some(offset) => offset,
                None => {
                    self.beat();
                    match self.consumer.watermarks(partition, limits::BROKER_WAIT_MAX) {
                        // Deleted since the group dealt it out; its task will say so.
                        Err(broker::Error::UnknownTopic { .. }) => Offset(0),
                        ends => ends?.low,
                    }
                }
            };
            positions.push((partition.clone(), start));
            self.group_offsets.insert(partition.clone(), offset);
            self.assigned.insert(partition.clone());
        }
        self.consumer.assign(&positions)?;
        self.consumer.pause(partitions)?;
        crash::at(Step::Assigned);
        self.status.assigned();
        for task in self.complete_tasks() {
            let known = self.slots.contains_key(&task) || self.unopened.contains_key(&task);
            if !known && !self.restorer.restores(&task) {
                self.waiting.insert(task);
            }
        }
        self.start_waiting(now)
    }

    /// The tasks whose partitions are all assigned here.
    fn complete_tasks(&self) -> Vec<TaskId> {
        let mut tasks = Vec::new();
        for (index, sub) in self.shared.plan.sub_topologies.iter().enumerate() {
            for partition in 0..self.shared.cluster.tasks_of(index) {
                let id = self.shared.task_id(index, crate::base::ids::Partition(partition as i32));
                let here = sub.sources.iter().all(|source| {
                    let source = TopicPartition { topic: source.topic.clone(), partition: id.partition };
                    // A topic with fewer partitions than the task count has no part in the higher tasks.
                    self.assigned.contains(&source) || !self.shared.cluster.has_partition(&source)
                });
                let any = sub.sources.iter().any(|source| {
                    self.assigned.contains(&TopicPartition { topic: source.topic.clone(), partition: id.partition })
                });
                if here && any {
                    tasks.push(id);
                }
            }
        }
        tasks
    }

    /// Opens the stores of tasks that wait for them, so many in a turn; a folder that another thread still has open is tried again next
    /// turn.
    fn start_waiting(&mut self, now: Timestamp) -> Result<(), Error> {
        let mut begun = 0;
        for task in std::mem::take(&mut self.waiting) {
            if begun == limits::RESTORES_BEGUN_PER_TURN {
                self.waiting.insert(task);
                continue;
            }
            let mut stores = match self.shared.open_stores(&task) {
                Ok(stores) => stores,
                Err(store::Error::Locked { path }) => {
                    if self.status.waits_for_lock(&task) {
                        warn!(%task, path, "the task's folder is open elsewhere, waiting for it (E0803)");
                    }
                    self.waiting.insert(task);
                    continue;
                }
                Err(error) => {
                    self.state_failed(&task, error, now)?;
                    continue;
                }
            };
            begun += 1;
            self.beat();
            if self.set_aside.remove(&task) {
                stores.note_set_aside(SetAsideReason::Corrupt);
            }
            let sub = self.shared.sub_topology_of(&task);
            let shared = std::sync::Arc::clone(&self.shared);
            match self.restorer.begin(&task, &shared.plan.sub_topologies[sub], &shared.cluster, stores, now) {
                Ok(()) => self.shared.owners.set(&task, self.index),
                Err(Error::Store(error)) => self.state_failed(&task, error, now)?,
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// Restores on, and starts the tasks that are complete.
    pub(super) fn restore(&mut self, now: Timestamp) -> Result<(), Error> {
        if !self.waiting.is_empty() {
            self.start_waiting(now)?;
        }
        let watch = self.shared.clock.stopwatch();
        let restored = self.restorer.step(&self.shared.restore_pace, now)?;
        self.status.spent_restoring(watch.elapsed());
        for restored in restored {
            self.start(restored, now)?;
        }
        for (task, failure) in self.restorer.take_failed() {
            self.shared.owners.clear(&task);
            self.state_failed(&task, failure, now)?;
        }
        Ok(())
    }

    fn start(&mut self, restored: Restored, now: Timestamp) -> Result<(), Error> {
        let Restored { task: id, stores, meta } = restored;
        let sub = self.shared.sub_topology_of(&id);
        let known = Known::of(meta.as_ref());
        let told = self.told.remove(&id);
        let task = Task::new(
            id.clone(),
            std::sync::Arc::clone(&self.shared.plan),
            sub,
            stores,
            meta,
            std::sync::Arc::clone(&self.shared.cluster.resolved[sub]),
            self.shared.options.max_future,
        )?
        .watched_by(self.shared.witness.clone());
        let pace = self.turn_records.unwrap_or(limits::TASK_RUN_RECORDS_MIN);
        let mut slot = Slot { task, quarantined: None, clean: true, pace };
        let mut stopped = None;
        let sources: Vec<TopicPartition> = self.shared.plan.sub_topologies[sub]
            .sources
            .iter()
            .map(|source| TopicPartition { topic: source.topic.clone(), partition: id.partition })
            .collect();
        for partition in sources {
            if !self.shared.cluster.has_partition(&partition) {
                slot.task.reached_end(&partition.topic, Offset(0));
                continue;
            }
            match self.input_start(&partition, &known, told, now)? {
                Ok(offset) => {
                    self.consumer.seek(&partition, offset)?;
                    slot.task.begin(&partition.topic, offset);
                    self.paused.remove(&partition);
                    self.consumer.resume(&[partition])?;
                }
                Err(quarantine) => stopped = Some(quarantine),
            }
        }
        info!(task = %id, stream_time = %slot.task.stream_time(), "running");
        self.slots.insert(id.clone(), slot);
        self.retries.remove(&id);
        if let Some(quarantine) = stopped {
            self.stop_task(&id, quarantine, true);
        }
        Ok(())
    }

    /// Decides where an input is read on, or why its task must not run.
    fn input_start(
        &mut self,
        partition: &TopicPartition,
        known: &Known,
        told: Option<ReadFrom>,
        now: Timestamp,
    ) -> Result<Result<Offset, Quarantine>, Error> {
        let topic = &partition.topic;
        if let Some(change) = self.shared.sources.found().get(topic) {
            return Ok(Err(Quarantine::of_source(topic, *change, now)));
        }
        self.beat();
        let ends = match self.consumer.watermarks(partition, limits::BROKER_WAIT_MAX) {
            Err(broker::Error::UnknownTopic { .. }) => {
                return Ok(Err(Quarantine::of_source(topic, Change::Gone, now)));
            }
            ends => ends?,
        };
        let facts = InputFacts {
            group: self.group_offsets.get(partition).copied().flatten(),
            meta: known.offsets.get(topic.as_str()).map(|offset| Offset(*offset)),
            replaced: known.replaced(topic, self.shared.cluster.topic_id(topic)),
            // A repartition topic is ours: before the first commit it is read from its beginning, whatever the setting.
            first_start: self.shared.first_start(topic),
            told,
            low: ends.low,
            high: ends.high,
        };
        let (code, message, offset) = match start_offset(&facts) {
            StartOffset::At(offset) => return Ok(Ok(offset)),
            StartOffset::Replaced(offset) => {
                let message = format!(
                    "topic `{topic}` was deleted and made anew: the committed offset {offset} of `{partition}` counts records of the old one (E0607)"
                );
                (codes::SOURCE_REPLACED, message, Some(offset))
            }
            StartOffset::OutOfRange(offset) => {
                let message = format!(
                    "the committed offset {offset} of `{partition}` is not in the topic, which has {} to {} (E0602)",
                    ends.low, ends.high
                );
                (codes::OFFSET_OUT_OF_RANGE, message, Some(offset))
            }
            StartOffset::Missing => {
                let message = format!(
                    "there is no committed offset for `{partition}` and `auto_offset_reset` is `error` (E0603)"
                );
                (codes::OFFSET_MISSING, message, None)
            }
        };
        Ok(Err(Quarantine::of_offset(code, message, (partition.clone(), offset), now)))
    }

    /// The group takes partitions: what was processed is committed first, then they are given up; the stores stay open for
    /// whoever runs the tasks next in this process.
    pub(super) fn on_revoked(&mut self, partitions: &[TopicPartition], now: Timestamp) -> Result<(), Error> {
        info!(thread = self.index, partitions = partitions.len(), "partitions are revoked");
        self.commit_or_lose(now, "before a rebalance")?;
        crash::at(Step::Revoking);
        self.give_up(partitions)?;
        self.consumer.unassign(partitions)?;
        Ok(())
    }

    /// The partitions belong to another member already: nothing of them is committed.
    pub(super) fn on_lost(&mut self, partitions: &[TopicPartition]) -> Result<(), Error> {
        warn!(thread = self.index, partitions = partitions.len(), "partitions are lost");
        let now = self.shared.clock.now();
        self.lose_transaction(now)?;
        self.give_up(partitions)?;
        self.consumer.unassign(partitions)?;
        Ok(())
    }

    fn give_up(&mut self, partitions: &[TopicPartition]) -> Result<(), Error> {
        for partition in partitions {
            self.assigned.remove(partition);
            self.group_offsets.remove(partition);
            self.paused.remove(partition);
            self.forget_end(partition);
            let Some(sub) = self.shared.cluster.sub_topology_of(&partition.topic) else { continue };
            let task = self.shared.task_id(sub, partition.partition);
            self.waiting.remove(&task);
            self.unopened.remove(&task);
            self.forget_mending(&task);
            if let Some(slot) = self.slots.remove(&task) {
                let mut stores = slot.task.into_stores();
                stores.abort();
                self.shared.park(task, stores);
            } else if let Some(stores) = self.restorer.cancel(&task)? {
                self.shared.park(task, stores);
            }
        }
        Ok(())
    }

    /// Gives up every task, keeping the stores open: the thread joins anew.
    pub(super) fn park_all(&mut self) {
        self.unopened.clear();
        let tasks: Vec<TaskId> = self.slots.keys().cloned().collect();
        for task in tasks {
            if let Some(slot) = self.slots.remove(&task) {
                let mut stores = slot.task.into_stores();
                stores.abort();
                self.shared.park(task, stores);
            }
        }
        let restoring: Vec<TaskId> = self.restorer.tasks().cloned().collect();
        for task in restoring {
            match self.restorer.cancel(&task) {
                Ok(Some(stores)) => self.shared.park(task, stores),
                Ok(None) => {}
                Err(error) => warn!(%task, %error, "could not end a restore"),
            }
        }
    }
}
