//! One task on empty stores, given records in a given order with given commit points: what an uninterrupted run of it gives. The
//! simulator holds what a run with faults committed to it.

use std::sync::Arc;

use crate::base::ids::{Offset, TaskId, TopicPartition};
use crate::base::record::{Outgoing, Record, Written};
use crate::base::time::Timestamp;
use crate::runtime::Error;
use crate::runtime::schemas::Answer;
use crate::runtime::shared::Shared;
use crate::store::memory::MemoryBackend;
use crate::task::{Ran, Stats, Task, TaskMeta};

/// A task that nothing happens to.
#[derive(Debug)]
pub struct Replay {
    shared: Arc<Shared>,
    task: Task,
    commits: i64,
}

impl Replay {
    pub(super) fn new(shared: Arc<Shared>, id: &TaskId) -> Result<Self, Error> {
        let sub = shared.sub_topology_of(id);
        let stores = shared.stores_on(Box::new(MemoryBackend::new()), id)?;
        let resolved = Arc::clone(&shared.cluster.resolved[sub]);
        let max_future = shared.options.max_future;
        let task = Task::new(id.clone(), Arc::clone(&shared.plan), sub, stores, None, resolved, max_future)?;
        Ok(Self { shared, task, commits: 0 })
    }

    /// Works one record off, whatever the other inputs have.
    ///
    /// # Errors
    /// The record stops the task; its schema is not to be had.
    pub fn take(&mut self, from: &TopicPartition, record: Record, now: Timestamp) -> Result<(), Error> {
        let next = record.offset.next();
        let sources: Vec<_> = self.task.sub_topology().sources.iter().map(|source| source.topic.clone()).collect();
        for topic in sources.iter().filter(|topic| **topic != from.topic) {
            self.task.reached_end(topic, Offset(0));
        }
        self.task.add_records(&from.topic, vec![record], now);
        while let Ran::NeedsSchema(id) = self.task.run(1, now)? {
            match self.shared.schemas.schema(id) {
                Some(Answer::Schema(text)) => self.task.learn_schema(id, Ok(&text)),
                Some(Answer::Failed(message)) => self.task.learn_schema(id, Err(&message)),
                None => return Err(Error::Bug { message: format!("schema {id} is not to be had") }),
            }
        }
        self.task.reached_end(&from.topic, next);
        Ok(())
    }

    /// Lets the timers ring that go by the wall clock.
    ///
    /// # Errors
    /// A store fails.
    pub fn ring(&mut self, now: Timestamp) -> Result<(), Error> {
        self.task.run(0, now)?;
        Ok(())
    }

    /// Does the part that is due of what time brings to tables.
    ///
    /// # Errors
    /// A store fails; nothing is due.
    pub fn do_chore(&mut self, now: Timestamp) -> Result<(), Error> {
        match self.task.run(1, now)? {
            Ran::Busy => Ok(()),
            ran @ (Ran::Waiting | Ran::NeedsSchema(_)) => {
                Err(Error::Bug { message: format!("no table is to be gone through at {now}: {ran:?}") })
            }
        }
    }

    /// Commits, and returns what was sent since the last commit, in order.
    ///
    /// # Errors
    /// A result cannot be worked on; a store fails.
    pub fn commit(&mut self, now: Timestamp) -> Result<Vec<Outgoing>, Error> {
        self.task.seal(now)?;
        let sent: Vec<Outgoing> = self.task.outgoing().drain(..).collect();
        self.commits += 1;
        // Where the rows are does not matter here, only that they are somewhere.
        let written = |record: &Outgoing| Written {
            partition: TopicPartition { topic: record.topic.clone(), partition: record.partition },
            last: Offset(self.commits),
            records: 1,
        };
        let written: Vec<Written> = sent.iter().map(written).collect();
        self.task.committed(&written, now);
        Ok(sent)
    }

    /// Returns what was committed last.
    pub fn meta(&self) -> &TaskMeta {
        self.task.committed_meta()
    }

    /// Returns the task's counters.
    pub fn stats(&self) -> &Stats {
        self.task.stats()
    }
}
