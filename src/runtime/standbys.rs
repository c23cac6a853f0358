//! Standbys: stores of tasks that run elsewhere, which follow their changelogs here, so that taking such a task over reads a tail only.
//! Which ones are kept here is decided in [`crate::assign`], from what all instances say of themselves.
//!
//! One thread keeps them all. What it keeps lies under a lock that is never held across a question to the broker: the stream thread that is
//! given the task takes the stores out of it as they stand, and restores on from there. Invariant: as in a restore, what is at rest is the
//! fold of each changelog up to the position beside it; nothing uncommitted is read.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, TryLockError};
use std::time::Duration;

use tracing::{info, warn};

use crate::assign::{Group, standbys};
use crate::base::ids::{Partition, TaskId, Topic, TopicPartition};
use crate::base::time::Timestamp;
use crate::broker::{self, Consumer, Event};
use crate::error::Kind;
use crate::instances::{Roster, Standby};
use crate::limits;
use crate::planted::{self, Mistake};
use crate::runtime::folding::Folding;
use crate::runtime::service::TaskStatus;
use crate::runtime::shared::{Shared, pause_before_rejoin};
use crate::runtime::{Error, clock};
use crate::store::{self, TaskStores};

/// How long the thread rests when there was nothing to read.
const REST: Duration = Duration::from_millis(20);

/// What is kept here, shared with the stream threads and those who read.
#[derive(Debug, Default)]
pub(super) struct Standbys {
    kept: Mutex<Kept>,
    /// How far each one is, as seen a short while ago.
    shown: Mutex<BTreeMap<TaskId, Standby>>,
}

/// The standbys, and what reads their changelogs.
#[derive(Default)]
struct Kept {
    consumer: Option<Box<dyn Consumer>>,
    tasks: BTreeMap<TaskId, Folding>,
}

/// A standby is being worked on; it is free in a moment.
#[derive(Debug)]
pub(super) struct Busy;

impl Standbys {
    /// Takes a task's stores out: this instance is to run it.
    ///
    /// # Errors
    /// [`Busy`]: ask again.
    pub(super) fn take(&self, task: &TaskId) -> Result<Option<TaskStores>, Busy> {
        let Some(folding) = self.lock_soon()?.remove(task) else { return Ok(None) };
        info!(%task, behind = folding.remaining(), "a standby takes its task over");
        match folding.finish() {
            Ok((stores, _)) => Ok(Some(stores)),
            Err(error) => {
                warn!(%task, %error, "a standby's stores cannot be taken over as they are");
                Ok(None)
            }
        }
    }

    /// Looks into a standby's stores; none where it is not kept here.
    ///
    /// # Errors
    /// [`Busy`]: ask again.
    pub(super) fn with<T>(&self, task: &TaskId, look: impl FnOnce(&TaskStores) -> T) -> Result<Option<T>, Busy> {
        Ok(self.lock_soon()?.tasks.get(task).map(|folding| look(&folding.stores)))
    }

    /// Returns how far each one is.
    pub(super) fn shown(&self) -> BTreeMap<TaskId, Standby> {
        self.shown.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Returns them as `/v1/tasks` shows them; `thread` is the number of the thread that keeps them.
    pub(super) fn statuses(&self, thread: usize) -> Vec<TaskStatus> {
        let status = |(task, standby): (TaskId, Standby)| TaskStatus {
            restore_remaining: standby.behind.unwrap_or(0),
            ..TaskStatus::of(task.to_string(), thread, "standby")
        };
        self.shown().into_iter().map(status).collect()
    }

    fn lock(&self) -> MutexGuard<'_, Kept> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The lock is held for a batch of records at most.
    fn lock_soon(&self) -> Result<MutexGuard<'_, Kept>, Busy> {
        let watch = clock::Stopwatch::start();
        loop {
            match self.kept.try_lock() {
                Ok(kept) => return Ok(kept),
                Err(TryLockError::Poisoned(poisoned)) => return Ok(poisoned.into_inner()),
                Err(TryLockError::WouldBlock) if watch.elapsed() < limits::BROKER_WAIT_SLICE => {
                    clock::pause(Duration::from_millis(1));
                }
                Err(TryLockError::WouldBlock) => return Err(Busy),
            }
        }
    }
}

impl Kept {
    /// Ends a standby and returns it as it stands.
    fn remove(&mut self, task: &TaskId) -> Option<Folding> {
        let folding = self.tasks.remove(task)?;
        if let Some(consumer) = &mut self.consumer {
            let partitions: Vec<_> = folding.pending.iter().map(|pending| pending.partition.clone()).collect();
            if let Err(error) = consumer.unassign(&partitions) {
                warn!(%task, %error, "could not end a standby's reading");
            }
        }
        Some(folding)
    }

    /// Reads on; tells whether there was anything. Standbys whose state fails are ended, and returned with why.
    fn read(&mut self, now: Timestamp) -> Result<(bool, Vec<(TaskId, store::Error)>), Error> {
        let Some(consumer) = &mut self.consumer else { return Ok((false, Vec::new())) };
        let (mut moved, mut failed, mut events) = (false, Vec::new(), Vec::new());
        match consumer.poll(Duration::ZERO, &mut events) {
            Ok(()) | Err(broker::Error::Unavailable { .. }) => {}
            Err(error) => return Err(error.into()),
        }
        for event in events {
            moved |= matches!(event, Event::Records(_));
            if let Some((task, Err(error))) = self.handle(event, now) {
                drop(self.remove(&task));
                failed.push((task, error));
            }
        }
        // What is complete is written out, and marked as complete now and then, as a running task's stores are.
        let complete: Vec<TaskId> =
            self.tasks.iter().filter(|(_, folding)| folding.remaining() == 0).map(|(task, _)| task.clone()).collect();
        for task in complete {
            let folding = self.tasks.get_mut(&task).expect("listed just above");
            if let Err(error) = folding.stores.write_behind(now, false) {
                drop(self.remove(&task));
                failed.push((task, error));
            }
        }
        Ok((moved, failed))
    }

    /// Folds in what came; of no use is what came of a task that was ended since.
    fn handle(&mut self, event: Event, now: Timestamp) -> Option<(TaskId, Result<(), store::Error>)> {
        let (partition, mut records, next) = match event {
            Event::Records(fetched) => {
                let next = fetched.records.last()?.offset.next();
                (fetched.partition, fetched.records, next)
            }
            Event::EndOfPartition { partition, position } => (partition, Vec::new(), position),
            Event::Assigned(_) | Event::Revoked(_) | Event::Lost(_) => return None,
        };
        if planted::is(Mistake::StandbyRowsLost) {
            records.clear();
        }
        let (task, at) = self.place_of(&partition)?;
        let folded = self.tasks.get_mut(&task)?.apply(&task, at, &records, next, now);
        Some((task, folded))
    }

    fn place_of(&self, partition: &TopicPartition) -> Option<(TaskId, usize)> {
        self.tasks.iter().find_map(|(task, folding)| {
            let at = folding.pending.iter().position(|pending| pending.partition == *partition)?;
            Some((task.clone(), at))
        })
    }
}

/// What keeps the standbys.
pub(super) struct Keeper {
    shared: Arc<Shared>,
    /// Asks for the ends of partitions, which takes a while.
    asker: Box<dyn Consumer>,
    /// What the placement was made of.
    roster: Option<Arc<Roster>>,
    wanted: BTreeSet<TaskId>,
    /// Standbys whose state failed, and when.
    set_back: BTreeMap<TaskId, Timestamp>,
    /// When the end of a partition was looked at last, and of which.
    looked: (Timestamp, Option<TopicPartition>),
}

/// The life of the thread: what fails is tried again, for as long as the daemon runs.
pub(super) fn keep(shared: &Arc<Shared>) {
    let mut failures = 0;
    while !shared.stop.load(Ordering::Relaxed) {
        let kept = Keeper::open(shared).and_then(|mut keeper| keeper.turn_until_stop(&mut failures));
        close(shared, clock::now());
        if let Err(error) = kept {
            failures += 1;
            let pause = pause_before_rejoin(failures);
            warn!(%error, ?pause, "standbys stand still for now");
            clock::pause(pause);
        }
    }
}

/// Ends all standbys, written out as far as they are.
pub(super) fn close(shared: &Shared, now: Timestamp) {
    let mut kept = shared.standbys.lock();
    let tasks: Vec<TaskId> = kept.tasks.keys().cloned().collect();
    let ended: Vec<_> = tasks.into_iter().filter_map(|task| Some((kept.remove(&task)?, task))).collect();
    kept.consumer = None;
    drop(kept);
    shared.standbys.shown.lock().unwrap_or_else(PoisonError::into_inner).clear();
    ended.into_iter().for_each(|(folding, task)| end(&task, folding, now));
}

/// Writes a standby's stores out and closes them.
fn end(task: &TaskId, folding: Folding, now: Timestamp) {
    let complete = folding.remaining() == 0;
    let written = folding.finish().and_then(|(mut stores, _)| {
        if complete { stores.write_behind(now, true).map(drop) } else { stores.flush_incomplete(now) }
    });
    if let Err(error) = written {
        warn!(%task, %error, "a standby's stores are not written out: it will read more when it is begun again");
    }
}

impl Keeper {
    /// # Errors
    /// The broker's.
    pub(super) fn open(shared: &Arc<Shared>) -> Result<Self, Error> {
        shared.standbys.lock().consumer = Some(shared.open_restore_consumer(None)?);
        Ok(Self {
            asker: shared.open_restore_consumer(None)?,
            shared: Arc::clone(shared),
            roster: None,
            wanted: BTreeSet::new(),
            set_back: BTreeMap::new(),
            looked: (Timestamp(0), None),
        })
    }

    fn turn_until_stop(&mut self, failures: &mut u32) -> Result<(), Error> {
        while !self.shared.stop.load(Ordering::Relaxed) {
            let moved = self.turn(clock::now())?;
            *failures = 0;
            if !moved {
                clock::pause(REST);
            }
        }
        Ok(())
    }

    /// One round: ends and begins standbys as the placement says, reads on, shows how far they are. Tells whether there was anything.
    ///
    /// # Errors
    /// The broker's; all standbys are to be ended then, and others begun.
    pub(super) fn turn(&mut self, now: Timestamp) -> Result<bool, Error> {
        let roster = self.shared.instances.roster();
        if let Some(roster) =
            roster.filter(|roster| self.roster.as_ref().is_none_or(|known| !Arc::ptr_eq(known, roster)))
        {
            self.wanted = wanted(&self.shared, &roster);
            self.roster = Some(roster);
        }
        self.end_unwanted(now);
        self.begin_wanted(now)?;
        self.look_at_an_end(now)?;
        let mut kept = self.shared.standbys.lock();
        let (moved, failed) = kept.read(now)?;
        let behind = |folding: &Folding| Standby { behind: Some(folding.remaining()) };
        let shown = kept.tasks.iter().map(|(task, folding)| (task.clone(), behind(folding))).collect();
        drop(kept);
        *self.shared.standbys.shown.lock().unwrap_or_else(PoisonError::into_inner) = shown;
        for (task, error) in failed {
            self.set_back(task, &error, now);
        }
        Ok(moved)
    }

    fn end_unwanted(&self, now: Timestamp) {
        let mut kept = self.shared.standbys.lock();
        let unwanted: Vec<TaskId> = kept.tasks.keys().filter(|task| !self.wanted.contains(*task)).cloned().collect();
        let ended: Vec<_> = unwanted.into_iter().filter_map(|task| Some((kept.remove(&task)?, task))).collect();
        drop(kept);
        for (folding, task) in ended {
            info!(%task, "a standby is not wanted here any more");
            end(&task, folding, now);
        }
    }

    fn begin_wanted(&mut self, now: Timestamp) -> Result<(), Error> {
        let waits = |task: &TaskId| {
            self.set_back.get(task).is_some_and(|since| (0..limits::STATE_RETRY_MAX_MS).contains(&(now.0 - since.0)))
        };
        let missing: Vec<TaskId> = {
            let kept = self.shared.standbys.lock();
            let missing = self.wanted.iter().filter(|task| !kept.tasks.contains_key(*task));
            missing.filter(|task| self.shared.owners.of(task).is_none() && !waits(task)).cloned().collect()
        };
        for task in missing {
            match self.begin(&task, now) {
                Ok(()) => drop(self.set_back.remove(&task)),
                // A stream thread still has it, or has it again.
                Err(Error::Store(store::Error::Locked { .. })) => {}
                Err(Error::Store(error)) => self.set_back(task, &error, now),
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    fn begin(&mut self, task: &TaskId, now: Timestamp) -> Result<(), Error> {
        let stores = self.shared.open_stores(task)?;
        let sub = &self.shared.plan.sub_topologies[self.shared.sub_topology_of(task)];
        let folding = Folding::begin(&mut *self.asker, task, sub, &self.shared.cluster, stores, now)?;
        info!(%task, stores = sub.stores.len(), offsets = folding.remaining(), "a standby follows");
        let positions: Vec<_> =
            folding.pending.iter().map(|pending| (pending.partition.clone(), pending.position)).collect();
        let mut kept = self.shared.standbys.lock();
        if let Some(consumer) = &mut kept.consumer {
            consumer.assign(&positions)?;
        }
        kept.tasks.insert(task.clone(), folding);
        Ok(())
    }

    fn set_back(&mut self, task: TaskId, error: &store::Error, now: Timestamp) {
        warn!(%task, %error, "a standby stops, and is tried again");
        self.set_back.insert(task, now);
    }

    /// Asks where one followed partition ends, one after the other.
    fn look_at_an_end(&mut self, now: Timestamp) -> Result<(), Error> {
        let (seen, last) = &self.looked;
        if (0..limits::STANDBY_LOOK_MS).contains(&(now.0 - seen.0)) {
            return Ok(());
        }
        let followed: BTreeSet<TopicPartition> = {
            let kept = self.shared.standbys.lock();
            let pending = kept.tasks.values().flat_map(|folding| &folding.pending);
            pending.map(|pending| pending.partition.clone()).collect()
        };
        let after = |last: &TopicPartition| followed.iter().find(|partition| *partition > last);
        let next = last.as_ref().and_then(after).or_else(|| followed.first()).cloned();
        if let Some(partition) = &next {
            match self.asker.watermarks(partition, limits::BROKER_WAIT_SLICE) {
                Ok(ends) => {
                    let mut kept = self.shared.standbys.lock();
                    if let Some((task, at)) = kept.place_of(partition)
                        && let Some(folding) = kept.tasks.get_mut(&task)
                    {
                        folding.pending[at].end = ends.high;
                    }
                }
                Err(error) if error.kind() == Kind::Retry => {}
                Err(error) => return Err(error.into()),
            }
        }
        self.looked = (now, next);
        Ok(())
    }
}

/// The standbys that are to be kept here.
fn wanted(shared: &Shared, roster: &Roster) -> BTreeSet<TaskId> {
    let fingerprint = format!("{:016x}", shared.plan.fingerprint);
    // Who runs another topology keeps other stores.
    let alike = roster.living().filter(|entry| entry.said.fingerprint == fingerprint);
    let mut group = Group {
        instances: alike.map(|entry| (entry.said.instance.clone(), entry.said.threads)).collect(),
        ..Group::default()
    };
    let mut with_stores = Vec::new();
    for (index, sub) in shared.plan.sub_topologies.iter().enumerate() {
        let topics: Vec<Topic> = sub.sources.iter().map(|source| source.topic.clone()).collect();
        group.inputs.partitions.extend(topics.iter().map(|topic| (topic.clone(), shared.cluster.partitions(topic))));
        for number in 0..shared.cluster.tasks_of(index) {
            let task = shared.task_id(index, Partition(number as i32));
            if let Some(owner) = roster.owner(&task) {
                group.active.insert(task.clone(), owner.said.instance.clone());
            }
            if !sub.stores.is_empty() {
                with_stores.push(task.clone());
            }
            group.inputs.tasks.insert(task, topics.clone());
        }
    }
    let placed = standbys(&group, with_stores.iter(), shared.options.standby_replicas);
    let here = &shared.options.instance_id;
    placed.into_iter().filter(|(_, heirs)| heirs.contains(here)).map(|(task, _)| task).collect()
}

impl std::fmt::Debug for Kept {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Kept").field("tasks", &self.tasks.keys()).finish_non_exhaustive()
    }
}
