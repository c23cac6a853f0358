//! Brings tasks' stores up to the end of their changelogs, beside the tasks that run. Ends at the high watermark that was read
//! when the restore began, after the group's offsets were stable: positions do not step over trailing transaction markers, so
//! the end is reached when the broker says so.

use std::collections::{BTreeMap, VecDeque};

use tracing::{info, warn};

use crate::base::ids::{TaskId, TopicPartition};
use crate::base::record::Record;
use crate::base::time::Timestamp;
use crate::broker::{Consumer, Event, Fetched};
use crate::crash::{self, Step};
use crate::limits;
use crate::plan::SubTopology;
use crate::planted::{self, Mistake};
use crate::runtime::Error;
use crate::runtime::cluster::Cluster;
use crate::runtime::folding::{Folding, Pending, Target};
use crate::runtime::pace::RestorePace;
use crate::store::{self, StoreIndex, TaskStores};
use crate::task::TaskMeta;

/// A task whose stores are complete.
#[derive(Debug)]
pub(super) struct Restored {
    pub(super) task: TaskId,
    pub(super) stores: TaskStores,
    /// None: the task never committed.
    pub(super) meta: Option<TaskMeta>,
}

/// A task whose stores are being restored.
#[derive(Debug)]
struct Restore {
    folding: Folding,
    /// Its partitions are assigned; others have their turn first.
    reads: bool,
    begun: Timestamp,
    /// Offsets between where it began and the ends.
    offsets: u64,
    /// When it was last said how far it is.
    said: Timestamp,
}

/// Restores the tasks of one stream thread.
pub(super) struct Restorer {
    consumer: Box<dyn Consumer>,
    restores: BTreeMap<TaskId, Restore>,
    /// Tasks whose state failed at it.
    failed: Vec<(TaskId, store::Error)>,
    /// What was polled and not yet looked at: one poll may bring more than the pace allows for long.
    polled: VecDeque<Event>,
    /// The last step found something to do.
    moved: bool,
}

/// How far the restore of a task is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Progress {
    /// Offsets still to be read.
    pub(super) remaining: u64,
    /// How long that takes at the speed so far; none before there is one.
    pub(super) seconds_left: Option<u64>,
}

impl Restorer {
    /// Takes a consumer without a group.
    pub(super) fn new(consumer: Box<dyn Consumer>) -> Self {
        Self { consumer, restores: BTreeMap::new(), failed: Vec::new(), polled: VecDeque::new(), moved: false }
    }

    /// Begins to restore a task's stores.
    ///
    /// # Errors
    /// The broker does not answer; a store fails.
    pub(super) fn begin(
        &mut self,
        task: &TaskId,
        sub: &SubTopology,
        cluster: &Cluster,
        stores: TaskStores,
        now: Timestamp,
    ) -> Result<(), Error> {
        let mut folding = Folding::begin(&mut *self.consumer, task, sub, cluster, stores, now)?;
        folding.pending.retain(|pending| pending.position < pending.end);
        let offsets = folding.remaining();
        folding.stores.load_in_bulk(offsets >= limits::BULK_RESTORE_OFFSETS)?;
        let restore = Restore { folding, reads: false, begun: now, offsets, said: now };
        info!(%task, stores = sub.stores.len(), offsets = restore.offsets, "restoring");
        self.restores.insert(task.clone(), restore);
        self.moved = true;
        crash::at(Step::RestoreBegun);
        Ok(())
    }

    /// Reads on, as fast as `pace` allows, and returns the tasks that are complete. `now` is the wall clock.
    ///
    /// # Errors
    /// The broker's, except that it is away for a while; a store's.
    pub(super) fn step(&mut self, pace: &RestorePace, now: Timestamp) -> Result<Vec<Restored>, Error> {
        self.moved = false;
        if self.restores.is_empty() {
            return Ok(Vec::new());
        }
        let reads = self.choose(if pace.is_limited() { 1 } else { limits::RESTORES_AT_ONCE })?;
        if reads && self.polled.is_empty() && pace.may_read(now) {
            self.poll(pace)?;
        }
        while pace.may_read(now)
            && let Some(event) = self.polled.pop_front()
        {
            self.moved = true;
            self.handle(event, pace, now)?;
        }
        self.flush(now)?;
        self.say(now);
        let complete: Vec<TaskId> = self
            .restores
            .iter()
            .filter(|(_, restore)| restore.folding.pending.is_empty())
            .map(|(task, _)| task.clone())
            .collect();
        let mut restored = Vec::with_capacity(complete.len());
        for task in complete {
            self.moved = true;
            match self.finish(task.clone()) {
                Ok(complete) => restored.push(complete),
                Err(failure) => self.failed.push((task, failure)),
            }
        }
        Ok(restored)
    }

    /// Polls; records come in small pieces where there is a pace to keep to.
    fn poll(&mut self, pace: &RestorePace) -> Result<(), Error> {
        let mut events = Vec::new();
        match self.consumer.poll(std::time::Duration::ZERO, &mut events) {
            Ok(()) => {}
            Err(crate::broker::Error::Unavailable { message }) => warn!(message, "waiting for the broker"),
            Err(error) => return Err(error.into()),
        }
        if !pace.is_limited() {
            self.polled.extend(events);
            return Ok(());
        }
        for event in events {
            let Event::Records(Fetched { partition, records }) = event else {
                self.polled.push_back(event);
                continue;
            };
            let mut records = records.into_iter().peekable();
            while records.peek().is_some() {
                let records = records.by_ref().take(limits::PACED_RECORDS_MAX).collect();
                self.polled.push_back(Event::Records(Fetched { partition: partition.clone(), records }));
            }
        }
        Ok(())
    }

    /// Keeps the loss of a kill small, also while the pace lets nothing be read.
    fn flush(&mut self, now: Timestamp) -> Result<(), Error> {
        let flushed: Vec<_> = self
            .restores
            .iter_mut()
            .map(|(task, restore)| (task.clone(), restore.folding.stores.flush_restored(now)))
            .filter(|(_, flushed)| flushed.is_err())
            .collect();
        flushed.into_iter().try_for_each(|(task, flushed)| self.applied(task, flushed))
    }

    /// Has so many tasks read, those with the least to read first: each that is complete works, whatever the others have before them.
    /// Tells whether any reads.
    fn choose(&mut self, at_once: usize) -> Result<bool, Error> {
        let mut reading = self.restores.values().filter(|restore| restore.reads).count();
        while reading < at_once {
            let waiting =
                self.restores.values_mut().filter(|restore| !restore.reads && !restore.folding.pending.is_empty());
            let Some(next) = waiting.min_by_key(|restore| restore.folding.remaining()) else { break };
            let at = |pending: &Pending| (pending.partition.clone(), pending.position);
            let positions: Vec<_> = next.folding.pending.iter().map(at).collect();
            self.consumer.assign(&positions)?;
            next.reads = true;
            reading += 1;
        }
        Ok(reading > 0)
    }

    /// Returns the tasks whose state failed; their stores are closed.
    pub(super) fn take_failed(&mut self) -> Vec<(TaskId, store::Error)> {
        std::mem::take(&mut self.failed)
    }

    fn finish(&mut self, task: TaskId) -> Result<Restored, store::Error> {
        let (mut stores, meta) = self.restores.remove(&task).expect("listed just above").folding.finish()?;
        stores.load_in_bulk(false)?;
        stores.check_rows()?;
        crash::at(Step::Restored);
        info!(%task, "restored");
        Ok(Restored { task, stores, meta })
    }

    fn handle(&mut self, event: Event, pace: &RestorePace, now: Timestamp) -> Result<(), Error> {
        match event {
            Event::Records(fetched) => {
                let Some((task, at)) = self.pending_of(&fetched.partition) else { return Ok(()) };
                pace.has_read(fetched.records.iter().map(Record::size_bytes).sum());
                let restore = self.restores.get_mut(&task).expect("found just above");
                let Some(last) = fetched.records.last() else { return Ok(()) };
                let kept = fetched.records.len() - usize::from(planted::is(Mistake::RestoredRowLost));
                let applied = restore.folding.apply(&task, at, &fetched.records[..kept], last.offset.next(), now);
                crash::at(Step::RestoreBatch);
                self.applied(task, applied)
            }
            Event::EndOfPartition { partition, position } => {
                let Some((task, at)) = self.pending_of(&partition) else { return Ok(()) };
                let restore = self.restores.get_mut(&task).expect("found just above");
                if position >= restore.folding.pending[at].end {
                    let applied = restore.folding.apply(&task, at, &[], position, now);
                    if applied.is_ok() {
                        restore.folding.pending.swap_remove(at);
                        self.unassign(&[partition])?;
                    }
                    self.applied(task, applied)?;
                }
                Ok(())
            }
            Event::Assigned(_) | Event::Revoked(_) | Event::Lost(_) => Ok(()),
        }
    }

    /// Reads partitions no more; what was polled of them is nobody's.
    fn unassign(&mut self, partitions: &[TopicPartition]) -> Result<(), Error> {
        self.polled.retain(|event| match event {
            Event::Records(Fetched { partition, .. }) | Event::EndOfPartition { partition, .. } => {
                !partitions.contains(partition)
            }
            Event::Assigned(_) | Event::Revoked(_) | Event::Lost(_) => true,
        });
        Ok(self.consumer.unassign(partitions)?)
    }

    /// State that fails is its task's affair.
    fn applied(&mut self, task: TaskId, applied: Result<(), store::Error>) -> Result<(), Error> {
        if let Err(failure) = applied {
            drop(self.cancel(&task)?);
            self.failed.push((task, failure));
        }
        Ok(())
    }

    fn pending_of(&self, partition: &TopicPartition) -> Option<(TaskId, usize)> {
        self.restores.iter().find_map(|(task, restore)| {
            let at = restore.folding.pending.iter().position(|pending| pending.partition == *partition)?;
            Some((task.clone(), at))
        })
    }

    /// Gives up on a task and returns its stores, which stand where the restore has come to; none when the disk does not take that: they are
    /// closed, and what is at rest is where the next restore goes on.
    ///
    /// # Errors
    /// The broker's.
    pub(super) fn cancel(&mut self, task: &TaskId) -> Result<Option<TaskStores>, Error> {
        let Some(restore) = self.restores.remove(task) else { return Ok(None) };
        let partitions: Vec<_> = restore.folding.pending.into_iter().map(|pending| pending.partition).collect();
        if restore.reads && !partitions.is_empty() {
            self.unassign(&partitions)?;
        }
        let mut stores = restore.folding.stores;
        match stores.load_in_bulk(false) {
            Ok(()) => Ok(Some(stores)),
            Err(error) => {
                warn!(%task, %error, "what was restored last is lost, and read again");
                Ok(None)
            }
        }
    }

    /// Says of each task, now and then, how far it is.
    fn say(&mut self, now: Timestamp) {
        for (task, restore) in &mut self.restores {
            restore.said = restore.said.min(now);
            if now.0 - restore.said.0 >= limits::RESTORE_SAY_MS {
                restore.said = now;
                let Progress { remaining, seconds_left } = restore.progress(now);
                info!(%task, remaining, of = restore.offsets, seconds_left, "still restoring");
            }
        }
    }

    /// Returns the tasks that are being restored.
    pub(super) fn tasks(&self) -> impl Iterator<Item = &TaskId> {
        self.restores.keys()
    }

    /// Returns how far the tasks are that are being restored.
    pub(super) fn progress(&self, now: Timestamp) -> impl Iterator<Item = (&TaskId, Progress)> {
        self.restores.iter().map(move |(task, restore)| (task, restore.progress(now)))
    }

    /// Returns the stores that are being restored, with the offsets that remain.
    pub(super) fn remaining_of_stores(&self) -> impl Iterator<Item = (&TaskId, StoreIndex, u64)> {
        self.restores.iter().flat_map(|(task, restore)| {
            restore.folding.pending.iter().filter_map(move |pending| match pending.target {
                Target::Store(index) => Some((task, index, (pending.end.0 - pending.position.0).unsigned_abs())),
                Target::Meta => None,
            })
        })
    }

    /// Tells whether there may be more to do at once.
    pub(super) fn is_busy(&self) -> bool {
        self.moved && !self.is_idle()
    }

    /// Tells whether nothing is being restored.
    pub(super) fn is_idle(&self) -> bool {
        self.restores.is_empty()
    }

    /// Tells whether a task is being restored.
    pub(super) fn restores(&self, task: &TaskId) -> bool {
        self.restores.contains_key(task)
    }
}

impl Restore {
    fn progress(&self, now: Timestamp) -> Progress {
        let remaining = self.folding.remaining();
        let (done, passed_ms) = (self.offsets.saturating_sub(remaining), now.0.saturating_sub(self.begun.0));
        let left_ms = (passed_ms.max(0).unsigned_abs().saturating_mul(remaining)).checked_div(done);
        Progress { remaining, seconds_left: left_ms.map(|ms| ms.div_ceil(1000)) }
    }
}

impl std::fmt::Debug for Restorer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Restorer").field("restores", &self.restores).finish_non_exhaustive()
    }
}
