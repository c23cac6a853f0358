//! What the tasks did, attempt by attempt, and which attempts stand: an attempt stands when the broker committed the transaction
//! that it was sent in, whether or not anybody lived to hear of it.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tidemill::base::ids::{Offset, TaskId, Topic};
use tidemill::base::time::Timestamp;
use tidemill::task::{Seen, TaskMeta, Witness};

use super::fates::{Actor, Fates};

/// One thing that a task did.
#[derive(Clone, Debug)]
pub(crate) enum Act {
    Took { topic: Topic, offset: Offset, now: Timestamp },
    Rang { now: Timestamp },
    DidChore { now: Timestamp },
}

/// What lies between two commits of a task.
#[derive(Clone, Debug)]
pub(crate) struct Generation {
    pub(crate) acts: Vec<Act>,
    pub(crate) sealed_at: Timestamp,
    pub(crate) meta: TaskMeta,
}

/// An instance's work on a task that is not known to stand.
#[derive(Debug, Default)]
struct Attempt {
    thread: usize,
    open: Vec<Act>,
    sealed: Option<Generation>,
}

#[derive(Debug, Default)]
struct Inner {
    attempts: BTreeMap<(usize, String), Attempt>,
    committed: BTreeMap<String, Vec<Generation>>,
    /// What was in any generation that was sealed, whatever became of it.
    sealed_once: BTreeMap<String, BTreeSet<(Topic, Offset)>>,
}

/// Shared by the witnesses of all instances.
#[derive(Clone, Debug, Default)]
pub(crate) struct History(Arc<Mutex<Inner>>);

impl History {
    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A thread asks for a commit of what it has sealed.
    pub(crate) fn committing(&self, actor: Actor) -> Vec<(String, Generation)> {
        let mut inner = self.lock();
        let of_it = inner.attempts.iter_mut().filter(|((instance, _), attempt)| actor.is(*instance, attempt.thread));
        of_it.filter_map(|((_, task), attempt)| Some((task.clone(), attempt.sealed.take()?))).collect()
    }

    /// The broker has committed it.
    pub(crate) fn committed(&self, generations: Vec<(String, Generation)>) {
        let mut inner = self.lock();
        for (task, generation) in generations {
            inner.committed.entry(task).or_default().push(generation);
        }
    }

    /// A thread begins anew, with a new producer.
    pub(crate) fn forget(&self, actor: Actor) {
        self.lock().attempts.retain(|(instance, _), attempt| !actor.is(*instance, attempt.thread));
    }

    /// An instance has died: nothing that it had not committed will ever stand.
    pub(crate) fn died(&self, instance: usize) {
        self.lock().attempts.retain(|(of, _), _| *of != instance);
    }

    /// The offsets of a topic that a task sealed at least once.
    pub(crate) fn sealed_once(&self, task: &str, topic: &Topic) -> Vec<i64> {
        let inner = self.lock();
        let sealed = inner.sealed_once.get(task).into_iter().flatten();
        sealed.filter(|(of, _)| of == topic).map(|(_, offset)| offset.0).collect()
    }

    /// The generations of each task that stand, in order.
    pub(crate) fn standing(&self) -> BTreeMap<String, Vec<Generation>> {
        self.lock().committed.clone()
    }
}

/// The eyes of one instance.
pub(crate) struct Eyes {
    pub(crate) instance: usize,
    pub(crate) history: History,
    pub(crate) fates: Fates,
}

impl fmt::Debug for Eyes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Eyes").field("instance", &self.instance).finish_non_exhaustive()
    }
}

impl Witness for Eyes {
    fn sees(&self, task: &TaskId, seen: Seen<'_>) {
        let name = task.to_string();
        self.fates.note(|| match &seen {
            Seen::Sealed { meta, .. } => format!("{name} sealed {} at {:?}", meta.commit_sequence, meta.offsets),
            other => format!("{name} {other:?}"),
        });
        let mut inner = self.history.lock();
        let attempt = inner.attempts.entry((self.instance, name)).or_default();
        match seen {
            Seen::Started => {
                *attempt = Attempt { thread: self.fates.actor().thread, ..Attempt::default() };
            }
            Seen::Rewound => (attempt.open, attempt.sealed) = (Vec::new(), None),
            Seen::Took { topic, offset, now } => attempt.open.push(Act::Took { topic: topic.clone(), offset, now }),
            Seen::Rang { now } => attempt.open.push(Act::Rang { now }),
            Seen::DidChore { now } => attempt.open.push(Act::DidChore { now }),
            Seen::Sealed { meta, now } => {
                let acts = std::mem::take(&mut attempt.open);
                let taken = acts.iter().filter_map(|act| match act {
                    Act::Took { topic, offset, .. } => Some((topic.clone(), *offset)),
                    Act::Rang { .. } | Act::DidChore { .. } => None,
                });
                let taken: Vec<_> = taken.collect();
                attempt.sealed = Some(Generation { acts, sealed_at: now, meta: meta.clone() });
                inner.sealed_once.entry(task.to_string()).or_default().extend(taken);
            }
        }
    }
}
