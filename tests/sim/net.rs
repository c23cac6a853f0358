//! The network between daemons and broker: clients that hand through to the broker in memory, and fail, wait, hold back and die where
//! the fates say so. A dead daemon's clients live on at the broker until their sessions time out, as Kafka's do.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use tidemill::base::ids::{Offset, Topic, TopicPartition};
use tidemill::broker::local::LocalBroker;
use tidemill::broker::{
    Admin, Broker, Consumer, ConsumerSettings, Error, Event, Fetched, GroupMetadata, Leave, Producer, ProducerSettings,
    Watermarks,
};

use super::fates::{Actor, Fates, Fault};
use super::history::History;
use super::producer::{ProducerCell, SimProducer};

pub(crate) const SESSION_MS: i64 = 6_000;
pub(crate) const TRANSACTION_MS: i64 = 10_000;

/// The broker of a world and everybody who is connected to it.
#[derive(Clone)]
pub(crate) struct Net {
    pub(crate) fates: Fates,
    pub(crate) history: History,
    pub(crate) local: LocalBroker,
    shared: Arc<Mutex<Connected>>,
}

#[derive(Default)]
struct Connected {
    consumers: Vec<(Actor, Weak<ConsumerCell>)>,
    producers: Vec<Weak<ProducerCell>>,
    /// Clients of the dead, with the time at which the broker gives them up.
    left_behind: Vec<(i64, LeftBehind)>,
    /// Until when records are on their way to somebody.
    on_the_way_until_ms: i64,
}

#[expect(dead_code, reason = "what is left behind is kept, until it is dropped")]
enum LeftBehind {
    Consumer(Box<dyn Consumer>),
    Producer(Box<dyn Producer>),
}

impl fmt::Debug for Net {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Net").finish_non_exhaustive()
    }
}

pub(crate) fn away(what: &str) -> Error {
    Error::Unavailable { message: format!("simulated: {what}") }
}

pub(crate) fn fenced() -> Error {
    Error::Fenced { message: "simulated: somebody else took over".to_owned() }
}

impl Net {
    pub(crate) fn new(fates: &Fates, history: &History) -> Self {
        Self { fates: fates.clone(), history: history.clone(), local: LocalBroker::in_memory(), shared: Arc::default() }
    }

    fn lock(&self) -> MutexGuard<'_, Connected> {
        self.shared.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn leave_behind(&self, producer: Box<dyn Producer>) {
        let until_ms = self.fates.now_ms() + TRANSACTION_MS;
        self.lock().left_behind.push((until_ms, LeftBehind::Producer(producer)));
    }

    fn leave_consumer_behind(&self, consumer: Box<dyn Consumer>) {
        let until_ms = self.fates.now_ms() + SESSION_MS;
        self.lock().left_behind.push((until_ms, LeftBehind::Consumer(consumer)));
    }

    /// The broker gives up on sessions and transactions whose time is over.
    pub(crate) fn expire(&self) {
        let now_ms = self.fates.now_ms();
        let over: Vec<_> = {
            let mut connected = self.lock();
            let (over, rest) =
                std::mem::take(&mut connected.left_behind).into_iter().partition(|(at, _)| *at <= now_ms);
            connected.left_behind = rest;
            over
        };
        drop(over);
        let producers: Vec<_> = {
            let mut connected = self.lock();
            connected.producers.retain(|cell| cell.strong_count() > 0);
            connected.producers.iter().filter_map(Weak::upgrade).collect()
        };
        for cell in producers {
            cell.expire(now_ms);
        }
    }

    /// Tells whether nobody's session is still to time out, and nothing is on its way.
    pub(crate) fn is_settled(&self) -> bool {
        let connected = self.lock();
        connected.left_behind.is_empty() && connected.on_the_way_until_ms < self.fates.now_ms()
    }

    /// Puts an instance's members out of the group, as when they are not heard of.
    pub(crate) fn put_out(&self, instance: usize) {
        let cells: Vec<_> = {
            let mut connected = self.lock();
            connected.consumers.retain(|(_, cell)| cell.strong_count() > 0);
            let of_it = connected.consumers.iter().filter(|(actor, _)| actor.instance == instance);
            of_it.filter_map(|(_, cell)| cell.upgrade()).collect()
        };
        for cell in cells {
            cell.put_out();
        }
    }
}

impl Broker for Net {
    fn consumer(&self, settings: &ConsumerSettings) -> Result<Box<dyn Consumer>, Error> {
        let cell = Arc::new(ConsumerCell {
            state: Mutex::new(CellState { inner: Some(self.local.consumer(settings)?), ..CellState::default() }),
            in_group: settings.group.is_some(),
        });
        self.lock().consumers.push((self.fates.actor(), Arc::downgrade(&cell)));
        Ok(Box::new(SimConsumer {
            net: self.clone(),
            settings: settings.clone(),
            cell,
            topics: Vec::new(),
            held: BTreeMap::new(),
            paused: BTreeSet::new(),
        }))
    }

    fn producer(&self, settings: &ProducerSettings) -> Result<Box<dyn Producer>, Error> {
        let cell = Arc::new(ProducerCell::new(self.local.producer(settings)?));
        self.lock().producers.push(Arc::downgrade(&cell));
        // A stream thread's has a bound of its own; the announcements' has none.
        if settings.queue_bytes_max.is_some() {
            self.history.forget(self.fates.actor());
        }
        Ok(Box::new(SimProducer::new(self.clone(), settings.transactional_id.is_some(), cell)))
    }

    fn admin(&self) -> Result<Box<dyn Admin>, Error> {
        if !self.fates.wait_out(0) {
            return Err(away("no admin"));
        }
        self.local.admin()
    }
}

/// A consumer as the broker sees it.
pub(crate) struct ConsumerCell {
    state: Mutex<CellState>,
    in_group: bool,
}

#[derive(Default)]
struct CellState {
    /// None: the broker has put it out of the group.
    inner: Option<Box<dyn Consumer>>,
    assigned: Vec<TopicPartition>,
    /// What it was told to have lost, until it lets go.
    gone: Vec<TopicPartition>,
    /// What it still takes for its membership.
    stale: Vec<GroupMetadata>,
}

impl ConsumerCell {
    fn lock(&self) -> MutexGuard<'_, CellState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn put_out(&self) {
        let mut state = self.lock();
        if !self.in_group {
            return;
        }
        if let Some(inner) = state.inner.take() {
            state.stale = (0..4).filter_map(|_| inner.group_metadata()).collect();
            drop(inner);
        }
    }
}

/// A daemon's consumer.
struct SimConsumer {
    net: Net,
    settings: ConsumerSettings,
    cell: Arc<ConsumerCell>,
    topics: Vec<Topic>,
    /// What is on its way, in order, with the time at which it is there.
    held: BTreeMap<TopicPartition, VecDeque<(i64, Event)>>,
    paused: BTreeSet<TopicPartition>,
}

impl SimConsumer {
    /// Runs a call on the consumer below; one that was put out has none.
    fn below<T>(&self, call: impl FnOnce(&mut dyn Consumer) -> Result<T, Error>) -> Result<T, Error> {
        match &mut self.cell.lock().inner {
            Some(inner) => call(&mut **inner),
            None => Err(away("not a member")),
        }
    }

    fn not_gone(&self, partitions: &[TopicPartition]) -> Vec<TopicPartition> {
        let state = self.cell.lock();
        partitions.iter().filter(|place| !state.gone.contains(place)).cloned().collect()
    }

    fn forget(&mut self, partitions: &[TopicPartition]) {
        for partition in partitions {
            self.held.remove(partition);
        }
    }

    /// Takes what the broker has, in pieces, some of them late.
    fn hold(&mut self, event: Event) {
        let fates = &self.net.fates;
        let place = match &event {
            Event::Records(fetched) => fetched.partition.clone(),
            Event::EndOfPartition { partition, .. } => partition.clone(),
            Event::Assigned(_) | Event::Revoked(_) | Event::Lost(_) => return,
        };
        let queue = self.held.entry(place).or_default();
        let mut due_ms = queue.back().map_or(0, |(due_ms, _)| *due_ms).max(fates.now_ms());
        let pieces = match event {
            Event::Records(Fetched { partition, mut records }) if records.len() > 1 && fates.knows(Fault::Delay) => {
                let rest = records.split_off(fates.between(1, records.len() as u64) as usize);
                let mut pieces = vec![Event::Records(Fetched { partition: partition.clone(), records })];
                if !rest.is_empty() {
                    pieces.push(Event::Records(Fetched { partition, records: rest }));
                }
                pieces
            }
            event => vec![event],
        };
        for piece in pieces {
            if fates.strikes(Fault::Delay, 1, 4) {
                due_ms += fates.between(1, 400) as i64;
            }
            queue.push_back((due_ms, piece));
        }
        let mut connected = self.net.lock();
        connected.on_the_way_until_ms = connected.on_the_way_until_ms.max(due_ms);
    }

    /// Hands out what is there, the partitions in any order.
    fn release(&mut self, events: &mut Vec<Event>) {
        let now_ms = self.net.fates.now_ms();
        let mut places: Vec<TopicPartition> = self.held.keys().cloned().collect();
        if self.net.fates.knows(Fault::Delay) && places.len() > 1 {
            let first = self.net.fates.below(places.len() as u64) as usize;
            places.rotate_left(first);
        }
        for place in places.iter().filter(|place| !self.paused.contains(*place)) {
            let Some(queue) = self.held.get_mut(place) else { continue };
            while queue.front().is_some_and(|(due_ms, _)| *due_ms <= now_ms) {
                let event = queue.pop_front().map(|(_, event)| event);
                self.net.fates.note(|| match &event {
                    Some(Event::Records(fetched)) => {
                        format!("{} records of {}", fetched.records.len(), fetched.partition)
                    }
                    other => format!("{other:?}"),
                });
                events.extend(event);
            }
        }
    }

    /// A member that was put out learns of it, and joins anew.
    fn notice(&mut self, events: &mut Vec<Event>) -> Result<bool, Error> {
        let mut state = self.cell.lock();
        if state.inner.is_some() {
            return Ok(false);
        }
        let mut inner = self.net.local.consumer(&self.settings)?;
        inner.subscribe(&self.topics)?;
        state.inner = Some(inner);
        let lost = std::mem::take(&mut state.assigned);
        state.gone.clone_from(&lost);
        drop(state);
        self.held.clear();
        self.paused.clear();
        self.net.fates.note(|| format!("lost {} partitions", lost.len()));
        if !lost.is_empty() {
            events.push(Event::Lost(lost));
        }
        Ok(true)
    }
}

impl Consumer for SimConsumer {
    fn subscribe(&mut self, topics: &[Topic]) -> Result<(), Error> {
        self.net.fates.moment("subscribe");
        self.topics = topics.to_vec();
        self.below(|inner| inner.subscribe(topics))
    }

    fn assign(&mut self, positions: &[(TopicPartition, Offset)]) -> Result<(), Error> {
        self.net.fates.moment("assign");
        let places: Vec<TopicPartition> = positions.iter().map(|(place, _)| place.clone()).collect();
        self.forget(&places);
        self.below(|inner| inner.assign(positions))?;
        self.cell.lock().assigned.extend(places);
        Ok(())
    }

    fn unassign(&mut self, partitions: &[TopicPartition]) -> Result<(), Error> {
        self.net.fates.moment("unassign");
        self.forget(partitions);
        for partition in partitions {
            self.paused.remove(partition);
        }
        let mut state = self.cell.lock();
        state.assigned.retain(|place| !partitions.contains(place));
        state.gone.retain(|place| !partitions.contains(place));
        match &mut state.inner {
            Some(inner) => inner.unassign(partitions),
            None => Ok(()),
        }
    }

    fn poll_group(&mut self, _wait: Duration, events: &mut Vec<Event>) -> Result<(), Error> {
        if self.cell.in_group && self.notice(events)? {
            return Ok(());
        }
        if self.net.fates.coordinators_are_away() {
            return Ok(());
        }
        let before = events.len();
        self.below(|inner| inner.poll_group(Duration::ZERO, events))?;
        for event in &events[before..] {
            if let Event::Revoked(partitions) = event {
                self.forget(partitions);
            }
            self.net.fates.note(|| format!("{event:?}"));
        }
        Ok(())
    }

    fn poll(&mut self, _wait: Duration, events: &mut Vec<Event>) -> Result<(), Error> {
        self.net.fates.moment("poll");
        if self.cell.in_group && self.notice(events)? {
            return Ok(());
        }
        if self.net.fates.is_down() || self.net.fates.strikes(Fault::Unavailable, 1, 60) {
            return Err(away("nothing is fetched"));
        }
        if self.cell.in_group && self.net.fates.strikes(Fault::Fence, 1, 150) {
            return Err(fenced());
        }
        let mut fresh = Vec::new();
        self.below(|inner| inner.poll(Duration::ZERO, &mut fresh))?;
        let mut told = false;
        for event in fresh {
            if let Event::Revoked(partitions) = &event {
                self.forget(partitions);
            }
            match event {
                Event::Assigned(_) | Event::Revoked(_) | Event::Lost(_) => {
                    told = true;
                    self.net.fates.note(|| format!("{event:?}"));
                    events.push(event);
                }
                Event::Records(_) | Event::EndOfPartition { .. } => self.hold(event),
            }
        }
        if !told {
            self.release(events);
        }
        Ok(())
    }

    fn pause(&mut self, partitions: &[TopicPartition]) -> Result<(), Error> {
        self.paused.extend(partitions.iter().cloned());
        let held = self.not_gone(partitions);
        self.below(|inner| inner.pause(&held))
    }

    fn resume(&mut self, partitions: &[TopicPartition]) -> Result<(), Error> {
        for partition in partitions {
            self.paused.remove(partition);
        }
        let held = self.not_gone(partitions);
        self.below(|inner| inner.resume(&held))
    }

    fn seek(&mut self, partition: &TopicPartition, offset: Offset) -> Result<(), Error> {
        self.forget(std::slice::from_ref(partition));
        match self.not_gone(std::slice::from_ref(partition)).is_empty() {
            true => Ok(()),
            false => self.below(|inner| inner.seek(partition, offset)),
        }
    }

    fn committed(&mut self, partitions: &[TopicPartition], wait: Duration) -> Result<Vec<Option<Offset>>, Error> {
        self.net.fates.moment("committed");
        let mut left_ms = wait.as_millis() as i64;
        loop {
            if !self.net.fates.wait_for_coordinators(left_ms) || self.net.fates.strikes(Fault::Unavailable, 1, 40) {
                return Err(away("no offsets"));
            }
            match self.below(|inner| inner.committed(partitions, Duration::ZERO)) {
                // A transaction of the dead is in the way until it times out.
                Err(Error::Unavailable { .. }) if left_ms > 0 => {
                    self.net.fates.pass(500);
                    left_ms -= 500;
                    self.net.expire();
                }
                answer => return answer,
            }
        }
    }

    fn watermarks(&mut self, partition: &TopicPartition, wait: Duration) -> Result<Watermarks, Error> {
        self.net.fates.moment("watermarks");
        if !self.net.fates.wait_out(wait.as_millis() as i64) || self.net.fates.strikes(Fault::Unavailable, 1, 100) {
            return Err(away("no watermarks"));
        }
        self.below(|inner| inner.watermarks(partition, wait))
    }

    fn commit(&mut self, offsets: &[(TopicPartition, Offset)], wait: Duration) -> Result<(), Error> {
        self.net.fates.moment("before offsets");
        if !self.net.fates.wait_for_coordinators(wait.as_millis() as i64)
            || self.net.fates.strikes(Fault::Unavailable, 1, 20)
        {
            return Err(away("offsets are not committed"));
        }
        self.below(|inner| inner.commit(offsets, wait))?;
        self.net.fates.moment("after offsets");
        Ok(())
    }

    fn group_metadata(&self) -> Option<GroupMetadata> {
        let mut state = self.cell.lock();
        match &state.inner {
            Some(inner) => inner.group_metadata(),
            None => state.stale.pop(),
        }
    }

    fn close(self: Box<Self>, leave: Leave) {
        if let Some(inner) = self.cell.lock().inner.take() {
            inner.close(leave);
        }
    }
}

impl Drop for SimConsumer {
    fn drop(&mut self) {
        // Nobody says goodbye for the dead.
        let inner = self.cell.lock().inner.take();
        if let Some(inner) = inner.filter(|_| self.cell.in_group) {
            self.net.leave_consumer_behind(inner);
        }
    }
}
