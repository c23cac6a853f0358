//! A daemon's producer, as the fates let it be.

use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tidemill::base::ids::Offset;
use tidemill::base::record::Outgoing;
use tidemill::broker::{Commit, CommitProgress, Error, Producer};

use super::fates::{Actor, Fault};
use super::history::Generation;
use super::net::{Net, TRANSACTION_MS, away, fenced};

/// A producer as the broker sees it.
pub(crate) struct ProducerCell {
    state: Mutex<CellState>,
}

struct CellState {
    inner: Option<Box<dyn Producer>>,
    begun_ms: Option<i64>,
    /// Its transaction took too long: the broker has aborted it.
    expired: bool,
}

impl ProducerCell {
    pub(crate) fn new(inner: Box<dyn Producer>) -> Self {
        Self { state: Mutex::new(CellState { inner: Some(inner), begun_ms: None, expired: false }) }
    }

    fn lock(&self) -> MutexGuard<'_, CellState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Aborts a transaction that is open for too long.
    pub(crate) fn expire(&self, now_ms: i64) {
        let mut state = self.lock();
        let too_long = state.begun_ms.is_some_and(|begun_ms| begun_ms + TRANSACTION_MS <= now_ms);
        if too_long && let Some(inner) = &mut state.inner {
            // A newer producer may have aborted it already.
            drop(inner.abort(Duration::ZERO));
            (state.begun_ms, state.expired) = (None, true);
        }
    }
}

pub(crate) struct SimProducer {
    net: Net,
    transactional: bool,
    cell: std::sync::Arc<ProducerCell>,
    actor: Actor,
    /// The commit that was started is answered from this time on.
    answered_ms: i64,
    /// What the commit is of.
    committing: Vec<(String, Generation)>,
}

impl SimProducer {
    pub(crate) fn new(net: Net, transactional: bool, cell: std::sync::Arc<ProducerCell>) -> Self {
        let actor = net.fates.actor();
        Self { net, transactional, cell, actor, answered_ms: 0, committing: Vec::new() }
    }

    fn below<T>(&self, call: impl FnOnce(&mut dyn Producer) -> Result<T, Error>) -> Result<T, Error> {
        let mut state = self.cell.lock();
        if state.expired {
            return Err(fenced());
        }
        match &mut state.inner {
            Some(inner) => call(&mut **inner),
            None => Err(fenced()),
        }
    }

    fn aborted(&self) -> Error {
        Error::Aborted { message: "simulated".to_owned() }
    }

    fn is_expired(&self) -> bool {
        self.cell.lock().expired
    }

    /// The broker does what was asked for; the caller has not heard of it.
    fn finish(&mut self) -> CommitProgress {
        let below = AssertUnwindSafe(|| {
            let mut state = self.cell.lock();
            let progress = state.inner.as_mut().map_or(CommitProgress::Idle, |inner| inner.poll_commit(Duration::ZERO));
            if let CommitProgress::Finished(Ok(_)) = &progress {
                state.begun_ms = None;
            }
            progress
        });
        let progress = match catch_unwind(below) {
            Ok(progress) => progress,
            Err(died) => {
                // The engine names a step between the broker's decision and its answer.
                if self.net.fates.died_at() == tidemill::crash::Step::Ended.name() {
                    self.net.history.committed(std::mem::take(&mut self.committing));
                }
                resume_unwind(died)
            }
        };
        if let CommitProgress::Finished(Ok(_)) = &progress {
            self.net.history.committed(std::mem::take(&mut self.committing));
            self.net.fates.note(|| "the broker has committed".to_owned());
        }
        progress
    }
}

impl Producer for SimProducer {
    fn init_transactions(&mut self, wait: Duration) -> Result<(), Error> {
        let fates = self.net.fates.clone();
        fates.moment("init_transactions");
        if !fates.wait_for_coordinators(wait.as_millis() as i64) || fates.strikes(Fault::Unavailable, 1, 20) {
            return Err(away("no transactions"));
        }
        self.below(|inner| inner.init_transactions(wait))?;
        fates.moment("after init_transactions");
        Ok(())
    }

    fn begin(&mut self) -> Result<(), Error> {
        if self.net.fates.strikes(Fault::Fence, 1, 200) {
            return Err(fenced());
        }
        self.below(|inner| inner.begin())?;
        self.cell.lock().begun_ms = Some(self.net.fates.now_ms());
        Ok(())
    }

    fn send(&mut self, records: &mut VecDeque<Outgoing>) -> Result<(), Error> {
        let fates = self.net.fates.clone();
        fates.moment("before a send");
        let mut rest = VecDeque::new();
        if records.len() > 1 && fates.strikes(Fault::FullQueue, 1, 6) {
            rest = records.split_off(fates.between(1, records.len() as u64 - 1) as usize);
        }
        let sent = self.below(|inner| inner.send(records));
        records.append(&mut rest);
        sent?;
        fates.moment("after a send");
        if fates.strikes(Fault::Abort, 1, 80) {
            return Err(self.aborted());
        }
        if fates.strikes(Fault::Unavailable, 1, 80) {
            return Err(away("what was sent may be there or not"));
        }
        Ok(())
    }

    fn commit(&mut self, commit: Commit) {
        let fates = self.net.fates.clone();
        fates.moment("before a commit");
        self.committing = self.net.history.committing(self.actor);
        if let Some(inner) = &mut self.cell.lock().inner {
            inner.commit(commit);
        }
        self.answered_ms = fates.now_ms();
        if fates.strikes(Fault::SlowCommit, 1, 3) {
            self.answered_ms +=
                if fates.chance(1, 12) { fates.between(1_000, 40_000) as i64 } else { fates.between(1, 300) as i64 };
        }
        fates.moment("a commit is on its way");
    }

    fn poll_commit(&mut self, wait: Duration) -> CommitProgress {
        let fates = self.net.fates.clone();
        fates.moment("ask for an outcome");
        if self.is_expired() {
            return CommitProgress::Finished(Err(fenced()));
        }
        let nobody = fates.is_down() || self.transactional && fates.coordinators_are_away();
        if nobody || self.answered_ms > fates.now_ms() {
            fates.pass(wait.as_millis() as i64);
            self.net.expire();
            return CommitProgress::Pending;
        }
        if self.transactional && fates.strikes(Fault::UnknownOutcome, 1, 12) {
            if fates.chance(1, 2) {
                // Whatever the broker said is lost on the way.
                drop(self.finish());
            }
            return CommitProgress::Finished(Err(Error::OutcomeUnknown { message: "simulated".to_owned() }));
        }
        if !self.transactional && fates.strikes(Fault::Abort, 1, 25) {
            // Some of it is there: nobody takes it back.
            drop(self.below(|inner| Ok(inner.poll_commit(Duration::ZERO))));
            return CommitProgress::Finished(Err(away("no acknowledgement")));
        }
        if self.transactional && fates.strikes(Fault::Abort, 1, 25) {
            return CommitProgress::Finished(Err(self.aborted()));
        }
        if fates.strikes(Fault::Fence, 1, 80) {
            return CommitProgress::Finished(Err(fenced()));
        }
        fates.moment("before the broker commits");
        let progress = self.finish();
        fates.moment("after the broker commits");
        progress
    }

    fn abort(&mut self, wait: Duration) -> Result<(), Error> {
        let fates = self.net.fates.clone();
        fates.moment("before an abort");
        if !fates.wait_for_coordinators(wait.as_millis() as i64) || fates.strikes(Fault::Unavailable, 1, 10) {
            return Err(away("no abort"));
        }
        self.below(|inner| inner.abort(wait))?;
        self.cell.lock().begun_ms = None;
        fates.moment("after an abort");
        Ok(())
    }

    fn send_and_wait(&mut self, record: Outgoing, wait: Duration) -> Result<Offset, Error> {
        self.below(|inner| inner.send_and_wait(record, wait))
    }
}

impl Drop for SimProducer {
    fn drop(&mut self) {
        // The broker does not learn of it: a transaction that is open stays so.
        if let Some(inner) = self.cell.lock().inner.take() {
            self.net.leave_behind(inner);
        }
    }
}
