//! A stream thread: one consumer, one producer, its tasks and their stores. [`StreamThread::turn`] does one round (poll, run,
//! maybe commit); the OS thread around it is a loop. Nothing is shared on the record path.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::mpsc::Receiver;
use std::time::Duration;

use tracing::{debug, error, info, warn};

use crate::base::ids::{Offset, TaskId, TopicPartition};
use crate::base::time::Timestamp;
use crate::broker::{self, Consumer, Event, Fetched, Leave, Producer};
use crate::crash::{self, Step};
use crate::error::{Kind, codes};
use crate::limits;
use crate::plan::LogLevel;
use crate::runtime::quarantine::Quarantine;
use crate::runtime::query::Request;
use crate::runtime::restorer::Restorer;
use crate::runtime::schemas::Answer;
use crate::runtime::shared::Shared;
use crate::runtime::status::{ThreadStatus, View};
use crate::runtime::{Error, clock};
use crate::task::{CommitCycle, LogLine, Ran, ReadFrom, Task};

/// How long the thread may wait for the broker before its next turn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Wait {
    /// There is work at hand.
    No,
    /// Nothing is due before this much time has passed.
    UpTo(Duration),
}

/// A task of this thread that has its stores.
#[derive(Debug)]
pub(super) struct Slot {
    pub(super) task: Task,
    /// Why it does not run. Its committed state stays readable.
    pub(super) quarantined: Option<Quarantine>,
    /// What was processed before it stopped may still be committed.
    pub(super) clean: bool,
    /// Records of its next turn.
    pub(super) pace: usize,
}

/// One stream thread's whole state.
pub(super) struct StreamThread {
    pub(super) index: usize,
    pub(super) shared: Arc<Shared>,
    pub(super) consumer: Box<dyn Consumer>,
    pub(super) producer: Box<dyn Producer>,
    pub(super) in_transaction: bool,
    pub(super) slots: BTreeMap<TaskId, Slot>,
    pub(super) restorer: Restorer,
    pub(super) cycle: CommitCycle,
    pub(super) assigned: BTreeSet<TopicPartition>,
    /// Tasks to be started; their folders may be open still elsewhere.
    pub(super) waiting: BTreeSet<TaskId>,
    /// Tasks that are quarantined and have no stores open.
    pub(super) unopened: BTreeMap<TaskId, Quarantine>,
    /// Tasks whose damaged state was set aside since they were assigned.
    pub(super) mended: BTreeSet<TaskId>,
    /// Those of them that have not been opened since.
    pub(super) set_aside: BTreeSet<TaskId>,
    /// How often a task's state was tried again since the task last ran.
    pub(super) retries: BTreeMap<TaskId, u32>,
    /// What somebody said to do with inputs of a task that cannot be read on.
    pub(super) told: BTreeMap<TaskId, ReadFrom>,
    /// Changes of the sources that were heeded.
    pub(super) sources_heeded: usize,
    pub(super) group_offsets: BTreeMap<TopicPartition, Option<Offset>>,
    pub(super) paused: BTreeSet<TopicPartition>,
    pub(super) status: ThreadStatus,
    /// Input offsets of the commit that is under way.
    pub(super) committing: Vec<(TopicPartition, Offset)>,
    pub(super) commit_started: Option<clock::Stopwatch>,
    /// Where each assigned partition ends, as seen a short while ago: what lag is counted to.
    ends: BTreeMap<TopicPartition, Offset>,
    /// When the ends were last looked at, and which partition was the last.
    ends_seen: (Timestamp, Option<TopicPartition>),
    asks: Receiver<Request>,
    events: Vec<Event>,
    /// The place of the task that is worked on first.
    first_task: usize,
    /// The tasks had more to do when they were looked at last.
    has_work: bool,
    /// So many records are a task's turn, and the same inputs give the same turns. None: turns are bounded by time, too.
    pub(super) turn_records: Option<usize>,
    /// Someone asked for a schema that is being fetched: look again soon.
    awaits_schema: bool,
}

/// A thread's clients, connected.
pub(super) struct Connection {
    producer: Box<dyn Producer>,
    consumer: Box<dyn Consumer>,
    restorer: Restorer,
}

impl Connection {
    /// Joins the group, and takes the producer that has fenced whoever had the thread's transactional id. The one goes on while the other
    /// waits for the end of a dead one's transaction; what the group gives is heard of with the first poll, so when both are done.
    ///
    /// # Errors
    /// The broker refuses, or does not answer in time: try again.
    pub(super) fn open(
        index: usize,
        shared: &Shared,
        producer: impl FnOnce() -> Result<Box<dyn Producer>, Error>,
    ) -> Result<Self, Error> {
        // Each of these calls may wait for the broker.
        let beat = || shared.beat(index, shared.clock.now());
        beat();
        let mut consumer = shared.open_consumer(index)?;
        consumer.subscribe(&shared.cluster.input_topics)?;
        beat();
        let producer = producer()?;
        beat();
        let restorer = Restorer::new(shared.open_restore_consumer(Some(limits::END_WAIT))?);
        info!(thread = index, topics = shared.cluster.input_topics.len(), "joined the group");
        beat();
        Ok(Self { producer, consumer, restorer })
    }
}

/// How many records a task gets after a turn that took so long: one slow record more or less is no matter, a thousand would keep the
/// thread from its broker.
fn next_pace(pace: usize, took: Duration) -> usize {
    if took.as_millis() > limits::TASK_RUN_MS {
        (pace / 2).max(1)
    } else {
        (pace * 2).min(limits::TASK_RUN_RECORDS_MAX)
    }
}

impl std::fmt::Debug for StreamThread {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("StreamThread")
            .field("index", &self.index)
            .field("tasks", &self.slots.len())
            .finish_non_exhaustive()
    }
}

impl StreamThread {
    /// Makes a thread of a connection that has joined the group.
    pub(super) fn new(
        index: usize,
        shared: Arc<Shared>,
        connection: Connection,
        asks: Receiver<Request>,
        turn_records: Option<usize>,
        now: Timestamp,
    ) -> Self {
        let Connection { producer, consumer, restorer } = connection;
        Self {
            index,
            cycle: CommitCycle::new(shared.options.commit_interval, now),
            status: ThreadStatus::new(index),
            consumer,
            producer,
            in_transaction: false,
            slots: BTreeMap::new(),
            restorer,
            assigned: BTreeSet::new(),
            waiting: BTreeSet::new(),
            unopened: BTreeMap::new(),
            mended: BTreeSet::new(),
            set_aside: BTreeSet::new(),
            retries: BTreeMap::new(),
            told: BTreeMap::new(),
            sources_heeded: 0,
            group_offsets: BTreeMap::new(),
            paused: BTreeSet::new(),
            committing: Vec::new(),
            commit_started: None,
            ends: BTreeMap::new(),
            ends_seen: (now, None),
            asks,
            events: Vec::new(),
            first_task: 0,
            has_work: false,
            turn_records,
            awaits_schema: false,
            shared,
        }
    }

    /// Says that the thread lives, before a call that may wait for the broker.
    pub(super) fn beat(&self) {
        self.shared.beat(self.index, self.shared.clock.now());
    }

    /// Gives the receiver of reads back, for the thread that takes this one's place.
    pub(super) fn into_asks(self) -> Receiver<Request> {
        self.asks
    }

    /// One round: answers reads, takes events in, restores, processes, sends, commits, writes behind. `now` is the wall clock;
    /// `wait` is how long the poll may wait for the first event.
    ///
    /// # Errors
    /// What the thread cannot go on after: [`Kind::Fenced`] and [`Kind::Retry`] ask for a new thread, everything else stops it.
    pub(super) fn turn(&mut self, now: Timestamp, wait: Wait) -> Result<Wait, Error> {
        self.shared.beat(self.index, now);
        self.shared.gate.pass()?;
        self.answer(now)?;
        self.poll(now, wait)?;
        self.heed_sources(now)?;
        self.try_again(now)?;
        self.restore(now)?;
        let busy = self.process(now)?;
        self.commit_turn(now)?;
        self.write_behind(now)?;
        self.look_at_ends(now)?;
        let Self { slots, restorer, ends, unopened, waiting, status, shared, .. } = self;
        status.publish(shared, &View { slots, restorer, ends, unopened, waiting }, now);
        Ok(self.wait(busy, now))
    }

    /// Counts records and commits: two equal answers mean that nothing was done in between.
    pub(super) fn done_so_far(&self) -> (u64, u64) {
        let consumed = |slot: &Slot| slot.task.stats().consumed.iter().sum::<u64>();
        (self.slots.values().map(consumed).sum(), self.status.commits)
    }

    /// Tells whether everything that was fetched has been processed and committed.
    pub(super) fn is_at_rest(&self, now: Timestamp) -> bool {
        self.status.is_assigned()
            && self.restorer.is_idle()
            && !self.cycle.is_sending()
            && !self.cycle.awaits_outcome()
            && self.waiting.is_empty()
            && self.slots.values().all(|slot| slot.is_drained(now))
            && self.quarantines().all(|(_, quarantine)| quarantine.retry_at.is_none())
    }

    /// The tasks that have stopped, with why.
    pub(super) fn quarantines(&self) -> impl Iterator<Item = (&TaskId, &Quarantine)> {
        let open = self.slots.iter().filter_map(|(id, slot)| Some((id, slot.quarantined.as_ref()?)));
        open.chain(&self.unopened)
    }

    fn wait(&self, busy: bool, now: Timestamp) -> Wait {
        if busy || self.restorer.is_busy() || self.cycle.is_sending() {
            return Wait::No;
        }
        if self.cycle.awaits_outcome() || self.awaits_schema || !self.restorer.is_idle() {
            return Wait::UpTo(Duration::from_millis(1));
        }
        let until_commit = self.cycle.next_due().0.saturating_sub(now.0).clamp(1, 20);
        Wait::UpTo(Duration::from_millis(until_commit.unsigned_abs()))
    }

    /// Asks for the end of one assigned partition after the other, spread over time: a question is a round trip.
    fn look_at_ends(&mut self, now: Timestamp) -> Result<(), Error> {
        let (seen, last) = &self.ends_seen;
        let pause = limits::LAG_ROUND_MS / (self.assigned.len().max(1) as i64);
        if self.assigned.is_empty() || (0..pause).contains(&(now.0 - seen.0)) {
            return Ok(());
        }
        let after = |last: &TopicPartition| {
            self.assigned.range((std::ops::Bound::Excluded(last.clone()), std::ops::Bound::Unbounded)).next().cloned()
        };
        let next = last.as_ref().and_then(after).or_else(|| self.assigned.first().cloned());
        if let Some(partition) = &next {
            match self.consumer.watermarks(partition, limits::BROKER_WAIT_SLICE) {
                Ok(ends) => drop(self.ends.insert(partition.clone(), ends.high)),
                Err(broker::Error::UnknownTopic { .. }) => self.shared.sources.look_soon(),
                Err(error) if error.kind() == Kind::Retry => {}
                Err(error) => return Err(error.into()),
            }
        }
        self.ends_seen = (now, next);
        Ok(())
    }

    pub(super) fn forget_end(&mut self, partition: &TopicPartition) {
        self.ends.remove(partition);
    }

    fn answer(&mut self, now: Timestamp) -> Result<(), Error> {
        for _ in 0..limits::READS_PER_TURN_MAX {
            match self.asks.try_recv() {
                Ok(Request::Read(ask)) => ask.answer(&self.shared, &self.slots, &self.restorer),
                Ok(Request::Release { task, inputs, reply }) => {
                    let released = self.release(&task, inputs, now)?;
                    // Nobody waits any more: it is done all the same.
                    reply.try_send(released).unwrap_or_default();
                }
                Err(_) => return Ok(()),
            }
        }
        Ok(())
    }

    fn poll(&mut self, now: Timestamp, wait: Wait) -> Result<(), Error> {
        let wait = match wait {
            Wait::No => Duration::ZERO,
            Wait::UpTo(wait) => wait.min(limits::BROKER_WAIT_SLICE),
        };
        let watch = self.shared.clock.stopwatch();
        let mut events = std::mem::take(&mut self.events);
        let polled = self.take_in(wait, &mut events);
        self.status.spent_polling(watch.elapsed());
        for event in events.drain(..) {
            match event {
                Event::Records(fetched) => self.take_records(fetched, now),
                Event::EndOfPartition { partition, position } => {
                    if let Some(slot) = self.slot_of(&partition) {
                        slot.task.reached_end(&partition.topic, position);
                    }
                }
                Event::Assigned(partitions) => self.on_assigned(&partitions, now)?,
                Event::Revoked(partitions) => self.on_revoked(&partitions, now)?,
                Event::Lost(partitions) => self.on_lost(&partitions)?,
            }
        }
        self.events = events;
        match polled {
            Ok(()) => Ok(()),
            Err(broker::Error::Unavailable { message }) => {
                warn!(thread = self.index, message, "waiting for the broker");
                Ok(())
            }
            Err(broker::Error::UnknownTopic { topic }) => {
                warn!(thread = self.index, %topic, "the broker does not know a topic that is read");
                self.shared.sources.look_soon();
                Ok(())
            }
            Err(broker::Error::OffsetOutOfRange { partition, offset }) => {
                self.out_of_range(&partition, offset, now);
                Ok(())
            }
            Err(error) => Err(error.into()),
        }
    }

    /// The input was truncated below, or made anew: the task stops and says so; nothing is reset in silence.
    pub(super) fn out_of_range(&mut self, partition: &TopicPartition, offset: Offset, now: Timestamp) {
        let message =
            format!("offset {offset} of `{partition}` is not in the topic: it was deleted before it was read (E0602)");
        if let Some(task) = self.slot_of(partition).map(|slot| slot.task.id().clone()) {
            let at = (partition.clone(), Some(offset));
            let quarantine = Quarantine::of_offset(codes::OFFSET_OUT_OF_RANGE, message, at, now);
            self.stop_task(&task, quarantine, true);
        }
    }

    pub(super) fn slot_of(&mut self, partition: &TopicPartition) -> Option<&mut Slot> {
        let sub = self.shared.cluster.sub_topology_of(&partition.topic)?;
        let task = self.shared.task_id(sub, partition.partition);
        self.slots.get_mut(&task)
    }

    fn take_records(&mut self, fetched: Fetched, now: Timestamp) {
        let Fetched { partition, records } = fetched;
        let Some(slot) = self.slot_of(&partition) else { return };
        slot.task.add_records(&partition.topic, records, now);
    }

    /// Takes in what has come, and records as far as there is room for them. Where there is none, what was fetched stays with the client
    /// until the tasks have worked; only when they wait for a partition that has nothing here are the others paused, which makes the
    /// client fetch again what it has.
    fn take_in(&mut self, wait: Duration, events: &mut Vec<Event>) -> Result<(), broker::Error> {
        let queued: usize = self.slots.values().map(|slot| slot.task.input_bytes()).sum();
        if queued < self.shared.options.memory().queued() {
            return self.consumer.poll(wait, events);
        }
        if self.has_work {
            return self.consumer.poll_group(wait, events);
        }
        let share = self.shared.options.memory().queued_of(self.assigned.len());
        let (slots, paused) = (&self.slots, &self.paused);
        let waiting = slots.values().flat_map(|slot| slot.task.queued());
        let full: Vec<TopicPartition> = waiting
            .filter(|(partition, bytes)| *bytes >= share && !paused.contains(partition))
            .map(|(partition, _)| partition.clone())
            .collect();
        if !full.is_empty() {
            self.consumer.pause(&full)?;
            self.paused.extend(full);
        }
        self.consumer.poll(wait, events)
    }

    /// Tells whether the tasks hold so much uncommitted that a commit comes first.
    pub(super) fn holds_enough(&self) -> bool {
        self.uncommitted_bytes() > self.shared.options.memory().uncommitted()
    }

    fn uncommitted_bytes(&self) -> usize {
        self.slots.values().map(|slot| slot.task.uncommitted_bytes()).sum()
    }

    /// Partitions whose queues have room again are read on.
    fn resume(&mut self) -> Result<(), Error> {
        if self.paused.is_empty() {
            return Ok(());
        }
        let mut ready = Vec::new();
        let resumed_at = self.shared.options.memory().queued_of(self.assigned.len()) / 2;
        let queues = self.slots.values().flat_map(|slot| slot.task.queued());
        let full: BTreeSet<&TopicPartition> =
            queues.filter(|(_, bytes)| *bytes >= resumed_at).map(|(partition, _)| partition).collect();
        self.paused.retain(|partition| {
            let keeps = full.contains(partition);
            if !keeps {
                ready.push(partition.clone());
            }
            keeps
        });
        if !ready.is_empty() {
            self.consumer.resume(&ready)?;
        }
        Ok(())
    }

    /// Lets every task work for a while; tells whether there is more to do at once.
    fn process(&mut self, now: Timestamp) -> Result<bool, Error> {
        // Sealed records that are still being handed over must not mix with those of the next generation.
        let (mut held, held_max) = (self.uncommitted_bytes(), self.shared.options.memory().uncommitted());
        if self.cycle.is_sending() || held > held_max {
            return Ok(false);
        }
        let watch = self.shared.clock.stopwatch();
        self.awaits_schema = false;
        let mut busy = false;
        let mut failed = Vec::new();
        let shared = Arc::clone(&self.shared);
        let first = std::mem::take(&mut self.first_task);
        // Those from the first one on, then those before it.
        let places = (first..self.slots.len()).chain(0..first.min(self.slots.len()));
        let mut slots: Vec<_> = self.slots.iter_mut().collect();
        for place in places {
            let (id, slot) = &mut slots[place];
            if slot.quarantined.is_some() {
                continue;
            }
            let is_late = self.turn_records.is_none() && watch.elapsed().as_millis() > limits::PROCESS_MS;
            if is_late || held > held_max {
                (busy, self.first_task) = (true, place);
                break;
            }
            let turn = self.shared.clock.stopwatch();
            held -= slot.task.uncommitted_bytes();
            let ran = slot.task.run(slot.pace, now);
            held += slot.task.uncommitted_bytes();
            if self.turn_records.is_none() {
                slot.pace = next_pace(slot.pace, turn.elapsed());
            }
            match ran {
                Ok(Ran::Busy) => busy = true,
                Ok(Ran::Waiting) => {}
                Ok(Ran::NeedsSchema(schema)) => match shared.schemas.schema(schema) {
                    Some(answer) => {
                        busy = true;
                        match &answer {
                            Answer::Schema(text) => slot.task.learn_schema(schema, Ok(text)),
                            Answer::Failed(message) => slot.task.learn_schema(schema, Err(message)),
                        }
                    }
                    None => self.awaits_schema = true,
                },
                Err(error) => failed.push(((*id).clone(), error)),
            }
            slot.task.take_lines().iter().for_each(|line| write_line(id, line));
        }
        self.status.spent_processing(watch.elapsed());
        for (id, error) in failed {
            let clean = error.kind() == Kind::Record && !self.cycle.is_sending();
            self.quarantine(&id, &error, clean, now)?;
        }
        self.resume()?;
        self.has_work = busy;
        Ok(busy)
    }

    fn write_behind(&mut self, now: Timestamp) -> Result<(), Error> {
        let mut failed = Vec::new();
        let budget = self.shared.stores_budget();
        for (id, slot) in &mut self.slots {
            slot.task.stores_mut().set_budget(budget);
            match slot.task.stores_mut().write_behind(now, false) {
                Ok(written) if written.rows > 0 => crash::at(Step::WrittenBehind),
                Ok(_) => {}
                Err(error) => {
                    failed.push((id.clone(), crate::task::Error::Store { task: id.clone(), source: error }));
                }
            }
        }
        for (id, error) in failed {
            if self.slots.get(&id).is_some_and(|slot| slot.quarantined.is_none()) {
                self.quarantine(&id, &error, false, now)?;
            }
        }
        Ok(())
    }

    /// Ends cleanly: commits what was processed, writes the stores out, leaves the group or keeps the seat.
    ///
    /// # Errors
    /// What could not be committed or written; the state is whole all the same.
    pub(super) fn close(mut self, now: Timestamp, leave: Leave) -> Result<Receiver<Request>, Error> {
        let committed = self.commit_now(now);
        crash::at(Step::Closing);
        let ids: Vec<TaskId> = self.slots.keys().cloned().collect();
        let mut written = Ok(());
        for id in ids {
            if let Some(slot) = self.slots.remove(&id) {
                let mut stores = slot.task.into_stores();
                stores.abort();
                if let Err(error) = stores.write_behind(now, true) {
                    written = Err(error);
                }
                crash::at(Step::Flushed);
            }
        }
        let Self { consumer, asks, .. } = self;
        consumer.close(leave);
        committed?;
        written?;
        Ok(asks)
    }
}

/// Writes a line that a `log` of the topology asked for.
fn write_line(task: &TaskId, line: &LogLine) {
    let LogLine { node, message, left_out, .. } = line;
    match line.level {
        LogLevel::Debug => debug!(%node, %task, left_out, "{message}"),
        LogLevel::Info => info!(%node, %task, left_out, "{message}"),
        LogLevel::Warn => warn!(%node, %task, left_out, "{message}"),
        LogLevel::Error => error!(%node, %task, left_out, "{message}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slow_task_gets_fewer_records_and_a_quick_one_all() {
        let (slow, quick) = (Duration::from_millis(400), Duration::from_millis(1));
        let mut pace = limits::TASK_RUN_RECORDS_MIN;
        for _ in 0..10 {
            pace = next_pace(pace, quick);
        }
        assert_eq!(pace, limits::TASK_RUN_RECORDS_MAX);
        for _ in 0..20 {
            pace = next_pace(pace, slow);
        }
        assert_eq!((pace, next_pace(1, quick)), (1, 2));
    }
}
