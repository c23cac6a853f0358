//! A producer: encodes records into batches beside the lock, appends them under it.
//!
//! Records outside a transaction are handed to the operating system with every `send`; those of a transaction at its commit
//! at the latest. A dropped producer's open transaction is aborted.

use std::collections::{BTreeMap, VecDeque};
use std::mem;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use ahash::AHashMap;

use crate::base::ids::{Offset, Topic, TopicPartition};
use crate::base::record::{Outgoing, Written};
use crate::base::time::Timestamp;
use crate::broker::local::Shared;
use crate::broker::local::batch::{BatchBuilder, Body, Checksum, NO_TRANSACTION, kafka_size_bytes};
use crate::broker::local::faults::Step;
use crate::broker::local::groups::Membership;
use crate::broker::local::state::{State, no_partition, unknown};
use crate::broker::local::transactions::Session;
use crate::broker::{Acknowledged, Commit, CommitProgress, Error, Producer};
use crate::crash;
use crate::limits;

/// Writes to a [`super::LocalBroker`].
#[derive(Debug)]
pub(super) struct LocalProducer {
    shared: Arc<Shared>,
    transactional_id: Option<String>,
    session: Option<Session>,
    /// The open transaction.
    transaction: Option<u64>,
    commit: CommitState,
    routes: Vec<Route>,
    by_topic: AHashMap<Topic, usize>,
    /// The route of the record before: most often the next one's.
    route_before: usize,
    /// Last offsets and numbers of records since the last commit.
    written: BTreeMap<TopicPartition, (Offset, u64)>,
}

#[derive(Debug)]
enum CommitState {
    Idle,
    Staged,
    Failed(Error),
}

/// A topic as this producer knows it, with a builder per partition.
#[derive(Debug)]
struct Route {
    topic: Topic,
    incarnation: u64,
    record_bytes_max: usize,
    append_time: Option<Arc<AtomicI64>>,
    builders: Vec<BatchBuilder>,
}

impl Route {
    fn take(&mut self, partition: usize, checksum: Checksum) -> Ready {
        let place = TopicPartition::new(self.topic.clone(), partition as i32);
        Ready { place, incarnation: self.incarnation, body: self.builders[partition].take(checksum) }
    }
}

/// A full batch on its way.
#[derive(Debug)]
struct Ready {
    place: TopicPartition,
    incarnation: u64,
    body: Body,
}

impl LocalProducer {
    pub(super) fn new(shared: Arc<Shared>, transactional_id: Option<String>) -> Self {
        Self {
            shared,
            transactional_id,
            session: None,
            transaction: None,
            commit: CommitState::Idle,
            routes: Vec::new(),
            by_topic: AHashMap::new(),
            route_before: 0,
            written: BTreeMap::new(),
        }
    }

    /// Returns the number to write under.
    fn number(&self) -> Result<u64, Error> {
        match (&self.transactional_id, self.transaction) {
            (None, _) => Ok(NO_TRANSACTION),
            (Some(_), Some(transaction)) => Ok(transaction),
            (Some(id), None) => Err(invalid(format!("no transaction is open under `{id}`"))),
        }
    }

    fn session(&self) -> Result<&Session, Error> {
        self.session.as_ref().ok_or_else(|| invalid("`init_transactions` comes first".to_owned()))
    }

    /// Encodes records until all are taken, or the first one that cannot be; that one stays.
    fn encode(&mut self, records: &mut VecDeque<Outgoing>, ready: &mut Vec<Ready>) -> Result<(), Error> {
        let checksum = self.shared.checksum;
        let mut touched: Vec<(usize, usize)> = Vec::new();
        let mut outcome = Ok(());
        while let Some(record) = records.front_mut() {
            let (route, partition) = match self.route(record) {
                Ok(place) => place,
                Err(error) => {
                    outcome = Err(error);
                    break;
                }
            };
            if let Some(newest) = &self.routes[route].append_time {
                // This broker has no clock: the writers' clocks are it, as far as they go forwards.
                let before = newest.fetch_max(record.timestamp.0, Ordering::Relaxed);
                record.timestamp = record.timestamp.max(Timestamp(before));
            }
            let builder = &mut self.routes[route].builders[partition];
            if builder.is_empty() {
                touched.push((route, partition));
            }
            builder.push(record);
            if builder.len_bytes() >= limits::LOCAL_BATCH_BYTES_MAX {
                ready.push(self.routes[route].take(partition, checksum));
            }
            records.pop_front();
        }
        for (route, partition) in touched {
            if !self.routes[route].builders[partition].is_empty() {
                ready.push(self.routes[route].take(partition, checksum));
            }
        }
        outcome
    }

    /// Returns the indexes of the route and of the partition that a record goes to.
    fn route(&mut self, record: &Outgoing) -> Result<(usize, usize), Error> {
        let route = match self.routes.get(self.route_before) {
            Some(before) if before.topic == record.topic => self.route_before,
            Some(_) | None => match self.by_topic.get(&record.topic) {
                Some(route) => *route,
                None => self.add_route(&record.topic)?,
            },
        };
        self.route_before = route;
        let known = &self.routes[route];
        let size_bytes = kafka_size_bytes(record);
        if size_bytes > known.record_bytes_max {
            return Err(Error::RecordTooLarge { topic: record.topic.clone(), size_bytes });
        }
        match usize::try_from(record.partition.0) {
            Ok(partition) if partition < known.builders.len() => Ok((route, partition)),
            Ok(_) | Err(_) => {
                Err(no_partition(&TopicPartition { topic: record.topic.clone(), partition: record.partition }))
            }
        }
    }

    fn add_route(&mut self, name: &Topic) -> Result<usize, Error> {
        let state = self.shared.lock();
        let topic = state.topics.get(name).ok_or_else(|| unknown(name))?;
        self.routes.push(Route {
            topic: name.clone(),
            incarnation: topic.incarnation,
            record_bytes_max: topic.record_bytes_max,
            append_time: topic.append_time.clone(),
            builders: topic.partitions.iter().map(|_| BatchBuilder::default()).collect(),
        });
        drop(state);
        self.by_topic.insert(name.clone(), self.routes.len() - 1);
        Ok(self.routes.len() - 1)
    }

    /// Forgets what was looked up when a topic of it has changed since.
    fn drop_stale_routes(&mut self, state: &State) {
        let is_current =
            |route: &Route| state.topics.get(&route.topic).is_some_and(|topic| topic.incarnation == route.incarnation);
        if !self.routes.iter().all(is_current) {
            self.routes.clear();
            self.by_topic.clear();
        }
    }

    fn append(&mut self, state: &mut State, ready: Vec<Ready>, transaction: u64) -> Result<(), Error> {
        let mut places = Vec::with_capacity(ready.len());
        for Ready { place, incarnation, body } in ready {
            let topic = state.topics.get_mut(&place.topic).filter(|topic| topic.incarnation == incarnation);
            let topic = topic.ok_or_else(|| unknown(&place.topic))?;
            let log = &mut topic.partitions[place.partition.index()];
            let records = body.records();
            let last = log.append(body, transaction);
            let should_write = transaction == NO_TRANSACTION || log.should_write();
            state.note_written(transaction, &place, incarnation);
            if should_write {
                places.push(place.clone());
            }
            let before = self.written.get(&place).map_or(0, |(_, records)| *records);
            self.written.insert(place, (Offset(last), before + records));
        }
        places.iter().try_for_each(|place| state.write(place))
    }

    fn finish_commit(&mut self) -> Result<Acknowledged, Error> {
        let shared = Arc::clone(&self.shared);
        shared.strike(Step::Commit)?;
        if let Some(transaction) = self.transaction {
            crash::at(crash::Step::OffsetsSent);
            let mut state = shared.lock();
            state.check_session(self.session()?)?;
            state.commit(transaction)?;
            drop(state);
            crash::at(crash::Step::Ended);
            self.transaction = None;
            shared.changed.notify_all();
        }
        let written = mem::take(&mut self.written).into_iter();
        let written = written.map(|(partition, (last, records))| Written { partition, last, records }).collect();
        shared.strike(Step::Acknowledge)?;
        Ok(Acknowledged { written })
    }

    fn stage(&mut self, commit: Commit) -> Result<(), Error> {
        let Commit { offsets, group } = commit;
        if self.transactional_id.is_none() {
            if !offsets.is_empty() || group.is_some() {
                return Err(invalid("offsets are committed in a transaction, and this producer has none".to_owned()));
            }
            return Ok(());
        }
        let transaction = self.number()?;
        let membership = match &group {
            None => None,
            Some(group) => Some(
                group
                    .0
                    .downcast_ref::<Membership>()
                    .ok_or_else(|| invalid("the group metadata is another broker's".to_owned()))?,
            ),
        };
        let mut state = self.shared.lock();
        state.check_session(self.session()?)?;
        state.stage_commit(transaction, membership, offsets)
    }
}

impl Producer for LocalProducer {
    fn init_transactions(&mut self, _wait: Duration) -> Result<(), Error> {
        let Some(id) = self.transactional_id.clone() else {
            return Err(invalid("the producer has no transactional id".to_owned()));
        };
        let session = self.shared.lock().open_session(&id);
        self.shared.changed.notify_all();
        self.session = Some(session?);
        self.transaction = None;
        self.commit = CommitState::Idle;
        self.written.clear();
        Ok(())
    }

    fn begin(&mut self) -> Result<(), Error> {
        if self.transaction.is_some() {
            return Err(invalid("a transaction is open already".to_owned()));
        }
        let transaction = self.shared.lock().begin(self.session()?)?;
        self.transaction = Some(transaction);
        Ok(())
    }

    fn send(&mut self, records: &mut VecDeque<Outgoing>) -> Result<(), Error> {
        let transaction = self.number()?;
        if !matches!(self.commit, CommitState::Idle) {
            return Err(invalid("a commit has not finished".to_owned()));
        }
        self.shared.strike(Step::Send)?;
        let shared = Arc::clone(&self.shared);
        {
            let state = shared.lock();
            if let Some(session) = &self.session {
                state.check_session(session)?;
            }
            self.drop_stale_routes(&state);
        }
        let mut ready = Vec::new();
        let encoded = self.encode(records, &mut ready);
        if !ready.is_empty() {
            let mut state = shared.lock();
            if let Some(session) = &self.session {
                state.check_session(session)?;
            }
            self.append(&mut state, ready, transaction)?;
            drop(state);
            shared.changed.notify_all();
        }
        encoded
    }

    fn commit(&mut self, commit: Commit) {
        crash::at(crash::Step::Delivered);
        let staged = match self.commit {
            CommitState::Staged => Err(invalid("a commit has not finished".to_owned())),
            CommitState::Idle | CommitState::Failed(_) => self.stage(commit),
        };
        self.commit = staged.map_or_else(CommitState::Failed, |()| CommitState::Staged);
    }

    fn poll_commit(&mut self, _wait: Duration) -> CommitProgress {
        match mem::replace(&mut self.commit, CommitState::Idle) {
            CommitState::Idle => CommitProgress::Idle,
            CommitState::Failed(error) => CommitProgress::Finished(Err(error)),
            CommitState::Staged => CommitProgress::Finished(self.finish_commit()),
        }
    }

    fn abort(&mut self, _wait: Duration) -> Result<(), Error> {
        self.commit = CommitState::Idle;
        self.written.clear();
        let Some(transaction) = self.transaction else { return Ok(()) };
        let mut state = self.shared.lock();
        state.check_session(self.session()?)?;
        state.abort(transaction)?;
        drop(state);
        self.transaction = None;
        self.shared.changed.notify_all();
        Ok(())
    }

    fn send_and_wait(&mut self, record: Outgoing, _wait: Duration) -> Result<Offset, Error> {
        if self.transactional_id.is_some() {
            return Err(invalid("a transactional producer writes in transactions only".to_owned()));
        }
        let place = TopicPartition { topic: record.topic.clone(), partition: record.partition };
        self.send(&mut VecDeque::from([record]))?;
        self.written.get(&place).map(|(last, _)| *last).ok_or_else(|| no_partition(&place))
    }
}

impl Drop for LocalProducer {
    fn drop(&mut self) {
        let (Some(transaction), Some(session)) = (self.transaction, &self.session) else { return };
        let Ok(mut state) = self.shared.state.lock() else { return };
        if state.check_session(session).is_ok() {
            // An error leaves records without an abort marker on disk; the next opening aborts them.
            state.abort(transaction).unwrap_or_default();
            drop(state);
            self.shared.changed.notify_all();
        }
    }
}

fn invalid(message: String) -> Error {
    Error::Invalid { message }
}
