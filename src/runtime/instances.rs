//! The instances of the application, as this one takes part among them: it reads what all say and says what it is itself, whenever
//! that changes and as a heartbeat, on a thread of its own, outside of all transactions.
//!
//! Nothing that is processed waits for it, once the instance has found its place among those of its topology (`rollout`): while the
//! topic cannot be read or written, what is known gets old. What is said means is decided in [`crate::instances`].

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use tracing::{info, warn};

use crate::base::ids::{Offset, Partition, TaskId, Topic, TopicPartition};
use crate::base::record::{Headers, Outgoing};
use crate::base::time::Timestamp;
use crate::broker::{self, Broker, Consumer, ConsumerSettings, Event, Isolation, Leave, Producer, ProducerSettings};
use crate::instances::{Announcement, Roster};
use crate::limits;
use crate::plan::{Plan, TopicRole};
use crate::runtime::rollout::Rollout;
use crate::runtime::shared::{Shared, pause_before_rejoin};
use crate::runtime::{Error, clock};

/// How long the thread waits for what others say before it looks at what there is to say.
const LISTEN_WAIT: Duration = Duration::from_millis(200);

/// Bytes of the topic that are fetched ahead.
const PREFETCH_BYTES: usize = 1 << 20;

/// What is known of all instances, and what this one tells besides its tasks.
#[derive(Debug, Default)]
pub(super) struct Instances {
    /// None before the topic was read to its end.
    roster: Mutex<Option<Arc<Roster>>>,
    http: Mutex<Option<String>>,
    /// The stream threads have ended: time to say so.
    leaves: AtomicBool,
}

impl Instances {
    /// Returns what is known; none before the topic was read to its end.
    pub(super) fn roster(&self) -> Option<Arc<Roster>> {
        self.roster.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Says where this instance answers reads.
    pub(super) fn serves_at(&self, http: String) {
        *self.http.lock().unwrap_or_else(PoisonError::into_inner) = Some(http);
    }

    /// Has this instance say that it leaves.
    pub(super) fn leave(&self) {
        self.leaves.store(true, Ordering::Relaxed);
    }
}

/// This instance among the others.
pub(super) struct Presence {
    shared: Arc<Shared>,
    consumer: Box<dyn Consumer>,
    producer: Box<dyn Producer>,
    place: TopicPartition,
    /// What the topic has come to so far.
    roster: Roster,
    /// Where the topic ended when this instance began to read it.
    end: Offset,
    /// It was read to that end.
    complete: bool,
    /// The last record that was read.
    read: Option<Offset>,
    /// What this instance said last, and when by its own clock.
    said: Option<(Announcement, Timestamp)>,
    events: Vec<Event>,
}

/// The life of the thread: what fails is tried again, for as long as the daemon runs.
pub(super) fn take_part(shared: &Arc<Shared>) {
    let (mut failures, mut complaint) = (0, String::new());
    let mut rollout = Rollout::new(shared);
    while !shared.instances.leaves.load(Ordering::Relaxed) {
        let failure = match Presence::open(shared) {
            Ok(mut presence) => match presence.turn_until_leave(&mut rollout, &mut failures) {
                Ok(()) => return presence.leave(clock::now()),
                Err(failure) => failure,
            },
            Err(failure) => failure,
        };
        failures += 1;
        if complaint != failure.to_string() {
            complaint = failure.to_string();
            warn!(error = complaint, "the other instances hear nothing of this one for now");
        }
        clock::pause(pause_before_rejoin(failures));
    }
}

impl Presence {
    /// Begins to read the topic; nothing is said before the first turn.
    ///
    /// # Errors
    /// The broker's.
    pub(super) fn open(shared: &Arc<Shared>) -> Result<Self, Error> {
        let place = TopicPartition { topic: topic(&shared.plan)?, partition: Partition(0) };
        let mut consumer = shared.broker.consumer(&ConsumerSettings {
            group: None,
            isolation: Isolation::ReadCommitted,
            prefetch_bytes_max: PREFETCH_BYTES,
            end_wait: Some(limits::INSTANCES_END_WAIT),
        })?;
        let ends = consumer.watermarks(&place, limits::BROKER_WAIT_MAX)?;
        consumer.assign(&[(place.clone(), ends.low)])?;
        Ok(Self {
            producer: shared.broker.producer(&ProducerSettings::default())?,
            shared: Arc::clone(shared),
            consumer,
            place,
            roster: Roster::default(),
            end: ends.high,
            complete: false,
            read: None,
            said: None,
            events: Vec::new(),
        })
    }

    fn turn_until_leave(&mut self, rollout: &mut Rollout, failures: &mut u32) -> Result<(), Error> {
        while !self.shared.instances.leaves.load(Ordering::Relaxed) {
            self.turn(rollout, clock::now(), LISTEN_WAIT)?;
            *failures = 0;
        }
        Ok(())
    }

    /// One round: says what there is to say, and takes in what was said; `wait` is how long it may wait for that.
    ///
    /// # Errors
    /// The broker's, after which a new one is opened.
    pub(super) fn turn(&mut self, rollout: &mut Rollout, now: Timestamp, wait: Duration) -> Result<(), Error> {
        rollout.wakes(now);
        self.speak(rollout, now)?;
        self.listen(wait)?;
        if let Some(read) = self.read.filter(|_| self.complete) {
            rollout.heard(&self.roster, read);
        }
        Ok(())
    }

    fn speak(&mut self, rollout: &mut Rollout, now: Timestamp) -> Result<(), Error> {
        let says = self.says(rollout);
        let due = self.said.as_ref().is_none_or(|(said, at)| {
            // A clock that was put back makes no silence.
            let heartbeat = !(at.0..at.0.saturating_add(limits::INSTANCE_HEARTBEAT_MS)).contains(&now.0);
            heartbeat || says.differs_from(said)
        });
        if !due {
            return Ok(());
        }
        self.tell_shape(&says.fingerprint, now)?;
        let offset = self.write(says.instance.clone(), Some(says.encode()), now)?;
        rollout.spoke(offset, now);
        self.said = Some((says, now));
        let forgotten: Vec<String> = self.roster.forgotten().map(str::to_owned).collect();
        for instance in forgotten {
            info!(instance, "an instance has been silent for so long that it is forgotten");
            self.write(instance, None, now)?;
        }
        Ok(())
    }

    /// The topology's text stands beside, for those that run another one; texts that nobody runs any more are taken back.
    fn tell_shape(&mut self, fingerprint: &str, now: Timestamp) -> Result<(), Error> {
        if !self.complete {
            return Ok(());
        }
        if self.roster.shape(fingerprint).is_none()
            && let Some(text) = self.shared.options.deployed.clone()
        {
            self.write(Roster::shape_key(fingerprint), Some(text), now)?;
        }
        let unused: Vec<String> = self.roster.unused_shapes().map(Roster::shape_key).collect();
        for key in unused.into_iter().filter(|key| *key != Roster::shape_key(fingerprint)) {
            self.write(key, None, now)?;
        }
        Ok(())
    }

    /// What this instance is now.
    fn says(&self, rollout: &Rollout) -> Announcement {
        let Shared { options, plan, instances, .. } = &*self.shared;
        let snapshots = self.shared.snapshots.lock().unwrap_or_else(PoisonError::into_inner);
        let tasks = snapshots.iter().flat_map(|snapshot| &snapshot.tasks);
        let active: BTreeSet<TaskId> = tasks.filter_map(|task| TaskId::parse(&task.task)).collect();
        drop(snapshots);
        let (processes, claim) = rollout.word();
        Announcement {
            instance: options.instance_id.clone(),
            http: instances.http.lock().unwrap_or_else(PoisonError::into_inner).clone(),
            fingerprint: format!("{:016x}", plan.fingerprint),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            threads: options.threads,
            processes,
            claim,
            active,
            standby: self.shared.standbys.shown(),
        }
    }

    fn write(&mut self, key: String, value: Option<Vec<u8>>, now: Timestamp) -> Result<Offset, Error> {
        let record = Outgoing {
            topic: self.place.topic.clone(),
            partition: self.place.partition,
            timestamp: now,
            key: Some(Bytes::from(key)),
            value: value.map(Bytes::from),
            headers: Headers::default(),
        };
        Ok(self.producer.send_and_wait(record, limits::INSTANCE_WRITE_WAIT)?)
    }

    fn listen(&mut self, wait: Duration) -> Result<(), Error> {
        let mut events = std::mem::take(&mut self.events);
        match self.consumer.poll(wait, &mut events) {
            Ok(()) | Err(broker::Error::Unavailable { .. }) => {}
            Err(error) => return Err(error.into()),
        }
        let news = !events.is_empty();
        for event in events.drain(..) {
            match event {
                Event::Records(fetched) => {
                    self.read = fetched.records.last().map(|last| last.offset).or(self.read);
                    self.complete |= self.read.is_some_and(|read| read.next() >= self.end);
                    for record in &fetched.records {
                        if let Err(why) = self.roster.take(record) {
                            warn!(topic = %self.place.topic, offset = %record.offset, why, "what an instance says of itself is not understood");
                        }
                    }
                }
                Event::EndOfPartition { .. } => self.complete = true,
                Event::Assigned(_) | Event::Revoked(_) | Event::Lost(_) => {}
            }
        }
        self.events = events;
        if news && self.complete {
            let roster = Arc::new(self.roster.clone());
            *self.shared.instances.roster.lock().unwrap_or_else(PoisonError::into_inner) = Some(roster);
        }
        Ok(())
    }

    /// Says that this instance is no more. What cannot be said is seen by its silence.
    pub(super) fn leave(mut self, now: Timestamp) {
        let instance = self.shared.options.instance_id.clone();
        if let Err(error) = self.write(instance, None, now) {
            warn!(%error, "the other instances are not told that this one leaves");
        }
        self.consumer.close(Leave::Group);
    }
}

impl std::fmt::Debug for Presence {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Presence").field("place", &self.place).finish_non_exhaustive()
    }
}

/// What the instances have said so far; none where none ever did.
///
/// # Errors
/// The broker's, or that it does not answer in time.
pub(super) fn heard(broker: &dyn Broker, plan: &Plan) -> Result<Option<Roster>, Error> {
    let topic = topic(plan)?;
    if broker.admin()?.describe(std::slice::from_ref(&topic), limits::BROKER_WAIT_MAX)?.iter().all(Option::is_none) {
        return Ok(None);
    }
    let place = TopicPartition { topic, partition: Partition(0) };
    let settings = ConsumerSettings {
        group: None,
        isolation: Isolation::ReadCommitted,
        prefetch_bytes_max: PREFETCH_BYTES,
        end_wait: Some(limits::END_WAIT),
    };
    let mut consumer = broker.consumer(&settings)?;
    let ends = consumer.watermarks(&place, limits::BROKER_WAIT_MAX)?;
    consumer.assign(&[(place, ends.low)])?;
    let (mut roster, mut events, watch) = (Roster::default(), Vec::new(), clock::Stopwatch::start());
    while watch.elapsed() < limits::BROKER_WAIT_MAX {
        consumer.poll(limits::BROKER_WAIT_SLICE, &mut events)?;
        for event in events.drain(..) {
            match event {
                // What is not understood is said when it is listened to for good.
                Event::Records(fetched) => fetched.records.iter().for_each(|record| drop(roster.take(record))),
                Event::EndOfPartition { .. } => {
                    consumer.close(Leave::Group);
                    return Ok(Some(roster));
                }
                Event::Assigned(_) | Event::Revoked(_) | Event::Lost(_) => {}
            }
        }
    }
    let message = "what the instances say of themselves cannot be read".to_owned();
    Err(broker::Error::Unavailable { message }.into())
}

/// The topic in which instances say what they are.
fn topic(plan: &Plan) -> Result<Topic, Error> {
    let mut planned = plan.topics.iter();
    let found = planned.find(|(_, planned)| planned.role == TopicRole::Instances).map(|(topic, _)| topic.clone());
    found.ok_or_else(|| Error::Bug { message: "the plan has no topic of instances".to_owned() })
}
