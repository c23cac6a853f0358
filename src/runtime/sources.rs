//! Source topics while the daemon runs: whether they are still what they were when it started. Offsets, keys and tasks rest on that,
//! so a topic that was deleted, made anew or given more partitions stops the tasks that read it, and nobody else.
//!
//! One thread of the process looks at a time, and all heed what it found. What is found stands until the process is started anew,
//! which looks at everything again.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::atomic::{AtomicI64, AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};

use tracing::{debug, error};

use crate::base::ids::Topic;
use crate::base::time::Timestamp;
use crate::broker::{self, Admin, Broker, TopicIdentity};
use crate::error::{Code, codes};
use crate::limits;

/// What has become of a source topic.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Change {
    /// It was deleted.
    Gone,
    /// It was deleted and made anew.
    Replaced,
    /// It has another number of partitions.
    Repartitioned { before: u32, now: u32 },
}

impl Change {
    /// Compares a topic with what it was; none when it is the same.
    fn of(before: &TopicIdentity, now: Option<&TopicIdentity>) -> Option<Self> {
        let Some(now) = now else { return Some(Self::Gone) };
        let replaced = before.id.as_ref().zip(now.id.as_ref()).is_some_and(|(before, now)| before != now);
        match (before.partitions, now.partitions) {
            _ if replaced => Some(Self::Replaced),
            (before, now) if before != now => Some(Self::Repartitioned { before, now }),
            _ => None,
        }
    }

    /// One of a closed set: a label of metrics.
    pub(super) fn label(self) -> &'static str {
        match self {
            Self::Gone => "gone",
            Self::Replaced => "replaced",
            Self::Repartitioned { .. } => "repartitioned",
        }
    }

    /// The page that says what to do.
    pub(super) fn code(self) -> Code {
        match self {
            Self::Gone | Self::Replaced => codes::SOURCE_REPLACED,
            Self::Repartitioned { .. } => codes::SOURCE_REPARTITIONED,
        }
    }

    /// Says what was seen.
    pub(super) fn message(self, topic: &Topic) -> String {
        let code = self.code();
        match self {
            Self::Gone => format!("topic `{topic}` was deleted while it was read ({code})"),
            Self::Replaced => format!("topic `{topic}` was deleted and made anew while it was read ({code})"),
            Self::Repartitioned { before, now } => {
                format!("topic `{topic}` has {now} partitions now, the tasks were counted by {before} ({code})")
            }
        }
    }
}

/// The topics that a daemon reads.
pub(super) struct Sources {
    /// As they were when it started.
    begun: BTreeMap<Topic, TopicIdentity>,
    /// When somebody looks next, by the wall clock in milliseconds.
    next_look: AtomicI64,
    /// Counts the changes found.
    changes: AtomicUsize,
    looks: Mutex<Looks>,
}

#[derive(Default)]
struct Looks {
    /// Made with the first look.
    admin: Option<Box<dyn Admin>>,
    /// Since when a topic is missed, look after look: a broker that has just started may not know of it yet.
    missed: BTreeMap<Topic, Timestamp>,
    found: BTreeMap<Topic, Change>,
}

impl Sources {
    pub(super) fn new(begun: BTreeMap<Topic, TopicIdentity>) -> Self {
        Self { begun, next_look: AtomicI64::new(0), changes: AtomicUsize::new(0), looks: Mutex::default() }
    }

    /// Looks at the topics when it is time and no other thread does. What the broker does not say now it says next time.
    pub(super) fn look(&self, broker: &dyn Broker, now: Timestamp) {
        let next = self.next_look.load(Ordering::Relaxed);
        // A clock that was put back does not make the wait longer.
        if (next - limits::SOURCES_LOOK_MS..next).contains(&now.0) {
            return;
        }
        let Ok(mut looks) = self.looks.try_lock() else { return };
        self.next_look.store(now.0.saturating_add(limits::SOURCES_LOOK_MS), Ordering::Relaxed);
        match looks.compare(&self.begun, broker, now) {
            Ok(0) => {}
            Ok(changes) => drop(self.changes.fetch_add(changes, Ordering::Release)),
            Err(error) => debug!(%error, "the broker does not tell about the sources"),
        }
    }

    /// Something was heard of a topic: look again soon.
    pub(super) fn look_soon(&self) {
        self.next_look.store(0, Ordering::Relaxed);
    }

    /// Counts the changes found so far.
    pub(super) fn changes(&self) -> usize {
        self.changes.load(Ordering::Acquire)
    }

    /// Returns what has become of topics.
    pub(super) fn found(&self) -> BTreeMap<Topic, Change> {
        if self.changes() == 0 {
            return BTreeMap::new();
        }
        self.looks.lock().unwrap_or_else(PoisonError::into_inner).found.clone()
    }
}

impl Looks {
    /// Returns how many changes there are that were not known.
    fn compare(
        &mut self,
        begun: &BTreeMap<Topic, TopicIdentity>,
        broker: &dyn Broker,
        at: Timestamp,
    ) -> Result<usize, broker::Error> {
        let topics: Vec<Topic> = begun.keys().cloned().collect();
        let admin = match &mut self.admin {
            Some(admin) => admin,
            none => none.insert(broker.admin()?),
        };
        let told = admin.identify(&topics, limits::BROKER_WAIT_SLICE)?;
        let mut changes = 0;
        for (topic, now) in topics.into_iter().zip(told) {
            let change = Change::of(&begun[&topic], now.as_ref());
            let missed_for = self.missed_for(&topic, now.is_none(), at);
            // What was found once stands: a topic that is back is another one.
            let Some(change) =
                change.filter(|change| *change != Change::Gone || missed_for >= limits::SOURCE_MISSED_MS)
            else {
                continue;
            };
            if self.found.get(&topic) != Some(&change) {
                error!(%topic, code = %change.code(), "{}", change.message(&topic));
                self.found.insert(topic, change);
                changes += 1;
            }
        }
        Ok(changes)
    }

    /// Returns for how many milliseconds a topic has been missed without a break.
    fn missed_for(&mut self, topic: &Topic, missed: bool, at: Timestamp) -> i64 {
        if !missed {
            self.missed.remove(topic);
            return 0;
        }
        let since = self.missed.entry(topic.clone()).or_insert(at);
        *since = (*since).min(at);
        at.0 - since.0
    }
}

impl fmt::Debug for Sources {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sources").field("begun", &self.begun).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::broker::NewTopic;
    use crate::broker::local::LocalBroker;

    const WAIT: Duration = Duration::from_secs(1);

    fn create(broker: &LocalBroker, partitions: u32) {
        let new = NewTopic { topic: "t".into(), partitions, replication_factor: None, configs: BTreeMap::new() };
        broker.admin().unwrap().create(&new, WAIT).unwrap();
    }

    fn watched(broker: &LocalBroker) -> Sources {
        let topic = Topic::new("t");
        let identity = broker.admin().unwrap().identify(std::slice::from_ref(&topic), WAIT).unwrap().remove(0);
        Sources::new(BTreeMap::from([(topic, identity.unwrap())]))
    }

    fn found(sources: &Sources) -> Option<Change> {
        sources.found().get(&Topic::new("t")).copied()
    }

    #[test]
    fn a_topic_that_grows_or_is_made_anew_is_found_at_the_next_look_and_not_before() {
        let broker = LocalBroker::in_memory();
        create(&broker, 2);
        let sources = watched(&broker);
        sources.look(&broker, Timestamp(100_000));
        assert_eq!((found(&sources), sources.changes()), (None, 0));
        broker.admin().unwrap().add_partitions(&"t".into(), 3, WAIT).unwrap();
        sources.look(&broker, Timestamp(100_000 + limits::SOURCES_LOOK_MS - 1));
        assert_eq!(found(&sources), None);
        sources.look(&broker, Timestamp(100_000 + limits::SOURCES_LOOK_MS));
        let grown = Change::Repartitioned { before: 2, now: 3 };
        assert_eq!((found(&sources), sources.changes()), (Some(grown), 1));
        broker.admin().unwrap().delete(&"t".into(), WAIT).unwrap();
        create(&broker, 2);
        sources.look_soon();
        sources.look(&broker, Timestamp(100_001));
        assert_eq!((found(&sources), sources.changes()), (Some(Change::Replaced), 2));
    }

    #[test]
    fn a_topic_that_is_missed_for_a_moment_may_be_unknown_to_a_young_broker_one_missed_for_long_is_gone() {
        let broker = LocalBroker::in_memory();
        create(&broker, 2);
        let sources = watched(&broker);
        broker.admin().unwrap().delete(&"t".into(), WAIT).unwrap();
        for (at, expected) in [(0, None), (1, None), (limits::SOURCE_MISSED_MS, Some(Change::Gone))] {
            sources.look_soon();
            sources.look(&broker, Timestamp(100_000 + at));
            assert_eq!(found(&sources), expected, "after {at} ms");
        }
        // A clock that was put back does not keep it from looking.
        create(&broker, 2);
        sources.look(&broker, Timestamp(1));
        assert_eq!(found(&sources), Some(Change::Replaced));
    }
}
