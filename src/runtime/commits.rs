//! A stream thread's commits: performs what the protocol in `task::commit` decides.

use tracing::{debug, info, warn};

use crate::base::ids::{TaskId, Topic};
use crate::base::time::Timestamp;
use crate::broker::{self, Acknowledged, Commit, CommitProgress};
use crate::crash::{self, Step};
use crate::limits;
use crate::planted::{self, Mistake};
use crate::runtime::Error;
use crate::runtime::options::Guarantee;
use crate::runtime::quarantine::Quarantine;
use crate::runtime::thread::StreamThread;
use crate::task::{CommitStep, Outcome, Refusal, Writes};

impl StreamThread {
    /// Sends what may be sent, seals when it is time, and looks at the commit that is under way.
    pub(super) fn commit_turn(&mut self, now: Timestamp) -> Result<(), Error> {
        if self.cycle.awaits_outcome() {
            self.poll_outcome(now, std::time::Duration::ZERO)?;
        }
        if self.cycle.may_send() {
            self.send(now)?;
        }
        if self.cycle.is_due(now) || (self.cycle.may_seal() && self.holds_enough()) {
            self.seal(now)?;
        }
        if self.cycle.is_sending() {
            self.send(now)?;
        }
        Ok(())
    }

    /// Closes the open generation of every task that has something to commit.
    fn seal(&mut self, now: Timestamp) -> Result<(), Error> {
        let mut sealed = false;
        let mut failed = None;
        for (id, slot) in &mut self.slots {
            if slot.clean && slot.task.needs_commit(now) {
                sealed = true;
                if let Err(error) = slot.task.seal(now) {
                    failed = Some((id.clone(), error));
                    break;
                }
            }
        }
        if let Some((id, error)) = failed {
            return self.quarantine(&id, &error, false, now);
        }
        if !sealed {
            self.cycle.skip(now);
            return Ok(());
        }
        self.commit_started = Some(self.shared.clock.stopwatch());
        self.cycle.handle(Outcome::Sealed, now);
        crash::at(Step::Sealed);
        Ok(())
    }

    /// Hands records to the producer, of all tasks in order; in the sealed state starts the commit when all are handed over.
    fn send(&mut self, now: Timestamp) -> Result<(), Error> {
        let exactly_once = self.shared.options.guarantee == Guarantee::ExactlyOnce;
        let mut lost = None;
        let mut left = false;
        for slot in self.slots.values_mut() {
            let outgoing = slot.task.outgoing();
            if outgoing.is_empty() {
                continue;
            }
            if exactly_once && !self.in_transaction {
                match self.producer.begin() {
                    Ok(()) => self.in_transaction = true,
                    Err(error) => {
                        lost = Some(error);
                        break;
                    }
                }
            }
            if let Err(error) = self.producer.send(outgoing) {
                lost = Some(error);
                break;
            }
            left |= !outgoing.is_empty();
        }
        if let Some(error) = lost {
            return self.broker_failed(error, now);
        }
        if self.cycle.is_sending() && !left && self.cycle.handle(Outcome::HandedOver, now) == CommitStep::Commit {
            crash::at(Step::HandedOver);
            self.start_commit();
        }
        Ok(())
    }

    fn start_commit(&mut self) {
        self.committing = self.slots.values().flat_map(|slot| slot.task.sealed_offsets()).collect();
        if planted::is(Mistake::OffsetsFirst) {
            drop(self.consumer.commit(&self.committing, limits::BROKER_WAIT_MAX));
        }
        let commit = match self.shared.options.guarantee {
            Guarantee::ExactlyOnce => {
                Commit { offsets: self.committing.clone(), group: self.consumer.group_metadata() }
            }
            Guarantee::AtLeastOnce => Commit::default(),
        };
        self.producer.commit(commit);
    }

    fn poll_outcome(&mut self, now: Timestamp, wait: std::time::Duration) -> Result<(), Error> {
        match self.producer.poll_commit(wait) {
            CommitProgress::Idle | CommitProgress::Pending => Ok(()),
            CommitProgress::Finished(Err(error)) => self.broker_failed(error, now),
            CommitProgress::Finished(Ok(acknowledged)) => {
                crash::at(Step::Answered);
                let at_least_once = self.shared.options.guarantee == Guarantee::AtLeastOnce;
                if at_least_once
                    && let Some((task, _)) =
                        self.slots.iter().find(|(_, slot)| !slot.task.wrote_alone(&acknowledged.written))
                {
                    let message = format!("another instance wrote to the changelogs of {task}, too");
                    return self.broker_failed(broker::Error::OutcomeUnknown { message }, now);
                }
                if at_least_once && !self.committing.is_empty() {
                    let committing = std::mem::take(&mut self.committing);
                    if let Err(error) = self.consumer.commit(&committing, limits::BROKER_WAIT_MAX) {
                        // The rows are in the changelogs: state goes on, the records may be processed again after a crash.
                        warn!(thread = self.index, %error, "could not commit offsets");
                    }
                    crash::at(Step::OffsetsCommitted);
                }
                self.in_transaction = false;
                if self.cycle.handle(Outcome::Committed, now) == CommitStep::Confirm {
                    self.confirm(&acknowledged, now);
                }
                Ok(())
            }
        }
    }

    fn confirm(&mut self, acknowledged: &Acknowledged, now: Timestamp) {
        for slot in self.slots.values_mut() {
            slot.task.committed(&acknowledged.written, now);
        }
        self.committing.clear();
        if let Some(watch) = self.commit_started.take() {
            self.status.committed(watch.elapsed());
        }
        crash::at(Step::Confirmed);
    }

    /// What the protocol says about a failure of the broker.
    fn broker_failed(&mut self, failure: broker::Error, now: Timestamp) -> Result<(), Error> {
        let outcome = match &failure {
            broker::Error::Fenced { .. } => Outcome::Fenced,
            broker::Error::OutcomeUnknown { .. } if planted::is(Mistake::UnknownTakenForAborted) => Outcome::Lost,
            broker::Error::OutcomeUnknown { .. } => Outcome::Unknown,
            broker::Error::Aborted { .. } | broker::Error::Unavailable { .. } => Outcome::Lost,
            broker::Error::RecordTooLarge { topic, size_bytes } => {
                self.refuse(topic, &failure, &Refusal::TooLarge { size_bytes: *size_bytes }, now);
                Outcome::Lost
            }
            broker::Error::UnknownTopic { topic } => {
                self.shared.sources.look_soon();
                let message = format!("{failure} (E0601)");
                self.refuse(topic, &failure, &Refusal::All { keyless: false, message }, now);
                Outcome::Lost
            }
            broker::Error::WriteRefused { topic, keyless, .. } => {
                let message = format!("{failure} (E0611)");
                self.refuse(topic, &failure, &Refusal::All { keyless: *keyless, message }, now);
                Outcome::Lost
            }
            broker::Error::OffsetOutOfRange { .. }
            | broker::Error::Unauthorized { .. }
            | broker::Error::Unsupported { .. }
            | broker::Error::Invalid { .. }
            | broker::Error::Storage { .. } => return Err(failure.into()),
        };
        warn!(thread = self.index, error = %failure, "a commit failed");
        self.status.commit_failed();
        match self.cycle.handle(outcome, now) {
            CommitStep::Abort => self.abort(now),
            CommitStep::Settle => self.settle(now),
            CommitStep::Rejoin => Err(failure.into()),
            CommitStep::Continue | CommitStep::Send | CommitStep::Commit | CommitStep::Confirm | CommitStep::Rewind => {
                Ok(())
            }
        }
    }

    /// The broker refuses what was written to a topic. The tasks that write there will meet the refusal at the record that makes such a
    /// row; those that cannot go on without the topic stop.
    fn refuse(&mut self, topic: &Topic, failure: &broker::Error, refusal: &Refusal, now: Timestamp) {
        let mut stopped = Vec::new();
        for (id, slot) in &mut self.slots {
            let stops = match slot.task.writes(topic) {
                Writes::Nothing => continue,
                Writes::Rows | Writes::DeadLetters => false,
                Writes::Changelog => !matches!(refusal, Refusal::TooLarge { .. }),
                Writes::Meta => true,
            };
            slot.task.refused(topic, refusal, now);
            if stops && slot.quarantined.is_none() {
                stopped.push(id.clone());
            }
        }
        for id in stopped {
            self.stop_task(&id, Quarantine::of_topic(failure, now), false);
        }
    }

    /// Aborts the open transaction and takes every task back to the last commit.
    pub(super) fn lose_transaction(&mut self, now: Timestamp) -> Result<(), Error> {
        match self.cycle.handle(Outcome::Lost, now) {
            CommitStep::Abort => self.abort(now),
            CommitStep::Continue
            | CommitStep::Send
            | CommitStep::Commit
            | CommitStep::Confirm
            | CommitStep::Rewind
            | CommitStep::Settle
            | CommitStep::Rejoin => Ok(()),
        }
    }

    fn abort(&mut self, now: Timestamp) -> Result<(), Error> {
        self.beat();
        let settles = match self.shared.options.guarantee {
            Guarantee::ExactlyOnce => match self.producer.abort(limits::BROKER_WAIT_MAX) {
                Ok(()) => false,
                Err(error) => {
                    warn!(thread = self.index, %error, "could not abort: a new producer settles it");
                    true
                }
            },
            // What was sent stands, changelog rows too: the stores go on from there. A commit may be under way still, before
            // whose end nothing may be sent.
            Guarantee::AtLeastOnce => true,
        };
        if settles {
            self.cycle.handle(Outcome::Unknown, now);
            return self.settle(now);
        }
        self.in_transaction = false;
        self.committing.clear();
        if self.cycle.handle(Outcome::Aborted, now) == CommitStep::Rewind {
            self.rewind()?;
        }
        Ok(())
    }

    /// Takes every task back to its last commit and reads its inputs again from there.
    fn rewind(&mut self) -> Result<(), Error> {
        for slot in self.slots.values_mut() {
            slot.task.rewind();
            slot.clean |= slot.quarantined.is_none();
            for (partition, from) in slot.task.positions() {
                if self.assigned.contains(&partition) && !planted::is(Mistake::InputsNotRewound) {
                    self.consumer.seek(&partition, from)?;
                }
            }
        }
        debug!(thread = self.index, "went back to the last commit");
        Ok(())
    }

    /// A new producer finishes what the old one left open; then every task reads from its changelogs what was committed.
    fn settle(&mut self, now: Timestamp) -> Result<(), Error> {
        info!(thread = self.index, "settling a commit whose outcome is unknown");
        self.beat();
        self.producer = self.shared.open_producer(self.index)?;
        self.in_transaction = false;
        self.committing.clear();
        let partitions: Vec<_> = self.assigned.iter().cloned().collect();
        self.beat();
        let offsets = self.consumer.committed(&partitions, limits::BROKER_WAIT_MAX)?;
        self.group_offsets = partitions.iter().cloned().zip(offsets).collect();
        self.consumer.pause(&partitions)?;
        // Those that are still being restored, too, and those whose state could not be opened.
        let restoring = self.restorer.tasks();
        let tasks = self.slots.keys().chain(restoring).chain(self.unopened.keys());
        let tasks: Vec<TaskId> = tasks.cloned().collect();
        self.park_all();
        self.waiting.extend(tasks);
        self.cycle.handle(Outcome::Settled, now);
        Ok(())
    }

    /// Commits everything processed so far, or goes back to the last commit: nothing is on its way afterwards.
    ///
    /// # Errors
    /// The thread has to join anew.
    pub(super) fn commit_or_lose(&mut self, now: Timestamp, when: &str) -> Result<(), Error> {
        let Err(error) = self.commit_now(now) else { return Ok(()) };
        warn!(thread = self.index, %error, when, "could not commit: the records are processed again");
        if self.cycle.must_rejoin() { Err(error) } else { self.lose_transaction(now) }
    }

    /// Commits everything processed so far and waits for the end of it: before a rebalance, and at a stop.
    ///
    /// # Errors
    /// The commit failed or did not end in time; the tasks are to be rewound.
    pub(super) fn commit_now(&mut self, now: Timestamp) -> Result<(), Error> {
        let watch = self.shared.clock.stopwatch();
        let mut sealed = false;
        while watch.elapsed() < limits::BROKER_WAIT_MAX {
            self.beat();
            if self.cycle.awaits_outcome() {
                self.poll_outcome(now, limits::BROKER_WAIT_SLICE)?;
            } else if self.cycle.is_sending() {
                self.send(now)?;
            } else if self.cycle.may_seal() && !sealed {
                sealed = true;
                self.send(now)?;
                self.seal(now)?;
            } else {
                return Ok(());
            }
        }
        Err(broker::Error::Unavailable { message: "the last commit did not end in time".to_owned() }.into())
    }
}
