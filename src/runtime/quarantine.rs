//! Tasks that cannot go on: why, at which record, since when; and how they go on again, released or by themselves. Each stands alone:
//! the thread and its other tasks go on.
//!
//! Record, topic or offset: somebody has to look, then `task release`, or a restart, has the task start again from what is committed.
//! A disk that refuses is tried again by itself. Damaged state is set aside, and restored from the changelogs, of which it is the
//! fold; once, until the task has run.

use tracing::{error, info, warn};

use crate::base::ids::{Offset, TaskId, Topic, TopicPartition};
use crate::base::time::{SpanMs, Timestamp};
use crate::broker;
use crate::error::{Code, Kind, codes};
use crate::limits;
use crate::operator::DropReason;
use crate::runtime::Error;
use crate::runtime::sources::Change;
use crate::runtime::thread::StreamThread;
use crate::store;
use crate::task::{self, ReadFrom};

/// Why a task does not run.
#[derive(Clone, Debug)]
pub(super) struct Quarantine {
    /// One of a closed set: a label of metrics.
    pub(super) reason: &'static str,
    pub(super) code: Option<Code>,
    pub(super) message: String,
    pub(super) node: Option<String>,
    /// The record that it stopped at.
    pub(super) record: Option<(TopicPartition, Offset)>,
    pub(super) since: Timestamp,
    /// When it is tried again by itself.
    pub(super) retry_at: Option<Timestamp>,
    /// What becomes of its stores when it is released.
    stores: Stores,
}

impl Quarantine {
    /// For a task that failed.
    pub(super) fn of(failure: &task::Error, now: Timestamp) -> Self {
        match failure {
            task::Error::Stopped { node, topic, partition, offset, reason, .. } => Self {
                node: Some(node.clone()),
                record: Some((TopicPartition { topic: topic.clone(), partition: *partition }, *offset)),
                ..Self::new(reason.label(), code_of(*reason), failure.to_string(), now)
            },
            task::Error::Store { source, .. } => Self { message: failure.to_string(), ..Self::of_store(source, now) },
            task::Error::Bug { .. } => {
                Self { stores: Stores::Reopen, ..Self::new("bug", None, failure.to_string(), now) }
            }
        }
    }

    /// For a task whose state fails.
    pub(super) fn of_store(failure: &store::Error, now: Timestamp) -> Self {
        let (reason, stores) = match failure.kind() {
            Kind::Corrupt => ("state_corrupt", Stores::SetAside),
            Kind::Retry => ("state_io", Stores::Reopen),
            Kind::Config | Kind::Fenced | Kind::Record => ("state_unreadable", Stores::Reopen),
            Kind::Bug => ("bug", Stores::Reopen),
        };
        Self { stores, ..Self::new(reason, Some(failure.code()), failure.to_string(), now) }
    }

    /// For a task one of whose inputs cannot be read on.
    pub(super) fn of_offset(code: Code, message: String, at: (TopicPartition, Option<Offset>), now: Timestamp) -> Self {
        let reason = match code {
            codes::OFFSET_MISSING => "offset_missing",
            codes::SOURCE_REPLACED => "source_replaced",
            _ => "offset_out_of_range",
        };
        let (partition, offset) = at;
        Self { record: offset.map(|offset| (partition, offset)), ..Self::new(reason, Some(code), message, now) }
    }

    /// For a task one of whose source topics is not what it was.
    pub(super) fn of_source(topic: &Topic, change: Change, now: Timestamp) -> Self {
        let reason = match change {
            Change::Gone | Change::Replaced => "source_replaced",
            Change::Repartitioned { .. } => "source_repartitioned",
        };
        Self::new(reason, Some(change.code()), change.message(topic), now)
    }

    /// For a task that cannot write what it must.
    pub(super) fn of_topic(failure: &broker::Error, now: Timestamp) -> Self {
        Self::new("topic_refused", failure.code(), failure.to_string(), now)
    }

    fn new(reason: &'static str, code: Option<Code>, message: String, now: Timestamp) -> Self {
        let stores = Stores::Keep;
        Self { reason, code, message, node: None, record: None, since: now, retry_at: None, stores }
    }

    /// Plans to try again by itself; each wait is twice the one before.
    fn try_again_after(&mut self, retries: u32, now: Timestamp) {
        let wait = (limits::STATE_RETRY_MS << retries.min(8)).min(limits::STATE_RETRY_MAX_MS);
        self.retry_at = Some(now.saturating_add(SpanMs(wait)));
    }

    /// A clock that was put back does not make the wait longer.
    fn is_due(&self, now: Timestamp) -> bool {
        self.retry_at.is_some_and(|at| !(self.since..at).contains(&now))
    }

    fn log(&self, task: &TaskId) {
        let code = self.code.map(|code| code.to_string()).unwrap_or_default();
        let (topic, partition, offset) = match &self.record {
            Some((place, offset)) => (place.topic.to_string(), Some(place.partition.0), Some(offset.0)),
            None => (String::new(), None, None),
        };
        let node = self.node.as_deref().unwrap_or_default();
        error!(%task, reason = self.reason, code, node, topic, partition, offset, error = self.message, "a task stops, the others go on");
    }
}

fn code_of(reason: DropReason) -> Option<Code> {
    match reason {
        DropReason::Future => Some(codes::RECORD_IN_FUTURE),
        DropReason::TooLarge => Some(codes::RECORD_TOO_LARGE),
        DropReason::NullKey => Some(codes::RECORD_WITHOUT_KEY),
        DropReason::NullValue
        | DropReason::Late
        | DropReason::UndeclaredType
        | DropReason::Decode
        | DropReason::Process
        | DropReason::Produce
        | DropReason::Duplicate => None,
    }
}

/// What becomes of a task's stores when it starts again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stores {
    Keep,
    Reopen,
    SetAside,
}

impl StreamThread {
    /// A task cannot go on: the others do (D7). `clean`: its work so far is good and may be committed; else the transaction is aborted
    /// and every task goes back to the last commit.
    pub(super) fn quarantine(
        &mut self,
        id: &TaskId,
        failure: &task::Error,
        clean: bool,
        now: Timestamp,
    ) -> Result<(), Error> {
        self.stop_task(id, Quarantine::of(failure, now), clean);
        if !clean {
            self.lose_transaction(now)?;
        }
        match failure {
            task::Error::Store { source, .. } => self.mend(id, source, now),
            task::Error::Stopped { .. } | task::Error::Bug { .. } => Ok(()),
        }
    }

    /// Stops the tasks that read a topic which is not what it was. What they did since the last commit may rest on the new one.
    pub(super) fn heed_sources(&mut self, now: Timestamp) -> Result<(), Error> {
        self.shared.sources.look(&*self.shared.broker, now);
        let changes = self.shared.sources.changes();
        if self.sources_heeded == changes {
            return Ok(());
        }
        self.sources_heeded = changes;
        let mut stopped = Vec::new();
        for (topic, change) in self.shared.sources.found() {
            let running = self.slots.iter().filter(|(_, slot)| slot.quarantined.is_none());
            let reading =
                running.filter(|(_, slot)| slot.task.sub_topology().sources.iter().any(|source| source.topic == topic));
            stopped.extend(reading.map(|(id, _)| (id.clone(), Quarantine::of_source(&topic, change, now))));
        }
        if stopped.is_empty() {
            return Ok(());
        }
        for (id, quarantine) in stopped {
            self.stop_task(&id, quarantine, false);
        }
        self.lose_transaction(now)
    }

    /// Keeps a task from running. `clean`: what it did so far may be committed.
    pub(super) fn stop_task(&mut self, id: &TaskId, quarantine: Quarantine, clean: bool) {
        // It failed, and then everybody went back to what is committed: it starts from there with the others.
        if self.waiting.contains(id) {
            return;
        }
        quarantine.log(id);
        if let Some(slot) = self.slots.get_mut(id) {
            slot.quarantined = Some(quarantine);
            slot.clean = clean;
        } else {
            self.unopened.insert(id.clone(), quarantine);
        }
    }

    /// What can be done about state that fails, without anybody looking.
    fn mend(&mut self, id: &TaskId, failure: &store::Error, now: Timestamp) -> Result<(), Error> {
        match failure.kind() {
            Kind::Corrupt if self.mended.insert(id.clone()) => self.start_again(id, Stores::SetAside, now),
            Kind::Retry => {
                let retries = self.retries.get(id).copied().unwrap_or_default();
                self.retries.insert(id.clone(), retries + 1);
                let found = self.slots.get_mut(id).and_then(|slot| slot.quarantined.as_mut());
                if let Some(quarantine) = found.or_else(|| self.unopened.get_mut(id)) {
                    quarantine.try_again_after(retries, now);
                }
                Ok(())
            }
            Kind::Corrupt | Kind::Config | Kind::Fenced | Kind::Record | Kind::Bug => Ok(()),
        }
    }

    /// A task's state cannot be opened or restored: the task stands still, by itself.
    ///
    /// # Errors
    /// A newer format, another application: nothing here can be right, and no other task is any better.
    pub(super) fn state_failed(&mut self, id: &TaskId, failure: store::Error, now: Timestamp) -> Result<(), Error> {
        match failure.kind() {
            Kind::Config | Kind::Fenced | Kind::Record | Kind::Bug => return Err(failure.into()),
            Kind::Corrupt | Kind::Retry => {}
        }
        self.stop_task(id, Quarantine::of_store(&failure, now), false);
        self.mend(id, &failure, now)
    }

    /// Tasks whose time has come are tried again.
    pub(super) fn try_again(&mut self, now: Timestamp) -> Result<(), Error> {
        let due = self.quarantines().filter(|(_, quarantine)| quarantine.is_due(now));
        let due: Vec<TaskId> = due.map(|(id, _)| id.clone()).collect();
        for id in due {
            warn!(task = %id, "trying the task's state again");
            self.start_again(&id, Stores::Reopen, now)?;
        }
        Ok(())
    }

    /// Lets a task go on that is quarantined; tells whether it was. `inputs` is what to do with those that cannot be read on.
    pub(super) fn release(&mut self, id: &TaskId, inputs: Option<ReadFrom>, now: Timestamp) -> Result<bool, Error> {
        let Some((_, quarantine)) = self.quarantines().find(|(task, _)| *task == id) else { return Ok(false) };
        info!(task = %id, reason = quarantine.reason, "released");
        let stores = quarantine.stores;
        self.forget_mending(id);
        if let Some(inputs) = inputs {
            self.told.insert(id.clone(), inputs);
        }
        self.start_again(id, stores, now)?;
        Ok(true)
    }

    /// Starts a task again from what is committed: its stores from their changelogs, its inputs from the group's offsets.
    fn start_again(&mut self, id: &TaskId, stores: Stores, now: Timestamp) -> Result<(), Error> {
        // Nothing of it may be on its way.
        self.commit_or_lose(now, "before a task starts again")?;
        self.unopened.remove(id);
        if let Some(slot) = self.slots.remove(id) {
            let mut open = slot.task.into_stores();
            open.abort();
            if stores == Stores::Keep {
                self.shared.park(id.clone(), open);
            } else {
                drop(open);
                self.shared.owners.clear(id);
            }
        }
        if stores == Stores::SetAside {
            match self.shared.set_folder_aside(id) {
                Ok(aside) => {
                    warn!(task = %id, folder = %aside, reason = "corrupt", "set a task's state aside, restoring it from its changelogs (E0804)");
                    self.set_aside.insert(id.clone());
                }
                Err(failure) => return self.state_failed(id, failure, now),
            }
        }
        let sub = self.shared.sub_topology_of(id);
        let sources = self.shared.plan.sub_topologies[sub].sources.iter();
        let partitions: Vec<TopicPartition> = sources
            .map(|source| TopicPartition { topic: source.topic.clone(), partition: id.partition })
            .filter(|partition| self.assigned.contains(partition))
            .collect();
        self.consumer.pause(&partitions)?;
        let offsets = self.consumer.committed(&partitions, limits::BROKER_WAIT_MAX)?;
        for (partition, offset) in partitions.into_iter().zip(offsets) {
            self.paused.remove(&partition);
            self.group_offsets.insert(partition, offset);
        }
        self.waiting.insert(id.clone());
        Ok(())
    }

    /// What was done about a task's state counts no longer.
    pub(super) fn forget_mending(&mut self, id: &TaskId) {
        self.mended.remove(id);
        self.retries.remove(id);
        self.told.remove(id);
    }
}
