//! Follows the topics of global tables, all partitions, on every instance: first up to where they end when the daemon starts, which
//! the stream threads wait for, then on, outside of any transaction (Kafka Streams' `GlobalStreamThread`).
//!
//! A table is read on from where its store stands, by the rules of a restore: the topic is its changelog. A record that must not be
//! passed over ends the daemon, since its tasks would go on with a table that stands still.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::sync::PoisonError;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tracing::{error, info, warn};

use crate::base::ids::{Offset, Partition, TopicPartition};
use crate::base::record::Record;
use crate::base::time::Timestamp;
use crate::broker::{self, Consumer, Event};
use crate::error::Kind;
use crate::limits;
use crate::operator::DropReason;
use crate::runtime::schemas::Answer;
use crate::runtime::service::{Sample, StoreStatus};
use crate::runtime::shared::{Shared, pause_before_rejoin};
use crate::runtime::status::{PUBLISH_EVERY, Snapshot};
use crate::runtime::{Error, clock};
use crate::store::restore::{Decision, RestoreFacts, decide};
use crate::store::{ChangelogPosition, SetAsideReason, StoreIndex};
use crate::task::{GLOBAL, GlobalTables, Took};

/// How long the thread that follows global tables waits for a record before it looks at its other duties.
const FOLLOW_WAIT: Duration = Duration::from_millis(100);

/// Reads the topics of a plan's global tables.
pub(super) struct Follower {
    shared: Arc<Shared>,
    consumer: Box<dyn Consumer>,
    tables: GlobalTables,
    parts: BTreeMap<TopicPartition, Part>,
    /// What was handed out and waits, mostly for a schema.
    waiting: VecDeque<(TopicPartition, VecDeque<Record>)>,
    events: Vec<Event>,
    records: u64,
    published: Timestamp,
}

/// A partition that is read.
#[derive(Debug)]
struct Part {
    table: usize,
    position: Offset,
    /// Where it ended at the start.
    end: Offset,
    /// It was read up to `end`.
    restored: bool,
    /// There is no more for now.
    at_end: bool,
}

/// The life of the thread that follows global tables. What it cannot go on after ends the daemon: tasks would go on with tables that
/// stand still.
pub(super) fn follow(shared: &Arc<Shared>) -> Result<(), Error> {
    let mut failures = 0;
    let followed = loop {
        if shared.stop.load(Ordering::Relaxed) {
            return Ok(());
        }
        match Follower::open(shared, clock::now()) {
            Ok(None) => return Ok(()),
            Ok(Some(mut follower)) => break follower.turn_until_stop(),
            Err(error) if error.kind() == Kind::Retry => {
                drop(shared.cluster.globals.close());
                failures += 1;
                let pause = pause_before_rejoin(failures);
                warn!(%error, ?pause, "cannot read the global tables yet");
                std::thread::park_timeout(pause);
            }
            Err(error) => break Err(error),
        }
    };
    if let Err(error) = &followed {
        error!(%error, "the global tables cannot be followed any more, the daemon stops");
        shared.stop.store(true, Ordering::Relaxed);
    }
    followed
}

impl Follower {
    /// Opens the stores and begins to read; none when the plan has no global tables.
    ///
    /// # Errors
    /// The broker's, the stores'.
    pub(super) fn open(shared: &Arc<Shared>, now: Timestamp) -> Result<Option<Self>, Error> {
        if shared.plan.global_tables.is_empty() {
            return Ok(None);
        }
        shared.cluster.globals.open(shared.open_global_stores()?);
        let mut follower = Self {
            tables: GlobalTables::new(Arc::clone(&shared.plan), shared.cluster.globals.clone())?,
            consumer: shared.open_restore_consumer(None)?,
            shared: Arc::clone(shared),
            parts: BTreeMap::new(),
            waiting: VecDeque::new(),
            events: Vec::new(),
            records: 0,
            published: Timestamp(0),
        };
        for table in 0..shared.plan.global_tables.len() {
            follower.begin(table, now)?;
        }
        let positions: Vec<_> = follower.parts.iter().map(|(at, part)| (at.clone(), part.position)).collect();
        follower.consumer.assign(&positions)?;
        Ok(Some(follower))
    }

    /// Decides where the partitions of a table's topic are read on.
    fn begin(&mut self, table: usize, now: Timestamp) -> Result<(), Error> {
        let shared = Arc::clone(&self.shared);
        let (planned, cluster) = (&shared.plan.global_tables[table], &shared.cluster);
        let (topic, index) = (&planned.source.topic, StoreIndex(table as u16));
        let (topic_id, known_id, last_durable) = cluster.globals.with(|stores| {
            let known = stores.position(index).and_then(|position| position.topic_id);
            (cluster.topic_id(topic), known, stores.last_durable(index))
        })?;
        let mut begun = Vec::new();
        let mut aside: Option<SetAsideReason> = None;
        for number in 0..cluster.partitions(topic) {
            let partition = Partition(number as i32);
            let place = TopicPartition { topic: topic.clone(), partition };
            let ends = self.consumer.watermarks(&place, limits::BROKER_WAIT_MAX)?;
            let position = self.tables.position(table, partition);
            let local = position.map(|offset| ChangelogPosition { topic_id: known_id.clone(), offset });
            let from = match decide(&RestoreFacts {
                local,
                topic_id: topic_id.clone(),
                low: ends.low,
                high: ends.high,
                last_durable,
                now,
                delete_retention_ms: cluster.delete_retention_ms(topic),
            }) {
                Decision::UpToDate => ends.high,
                Decision::Continue { from } => from,
                Decision::FromStart { set_aside } => {
                    aside = aside.or(set_aside);
                    ends.low
                }
            };
            begun.push((place, ends, from));
        }
        if let Some(reason) = aside {
            warn!(table = %planned.store.name, %reason, "set a global table aside, reading its topic from the beginning");
            self.tables.set_aside(table, reason)?;
        }
        cluster.globals.with(|stores| {
            stores.set_topic_id(index, topic_id);
            // There is no changelog that a row would have to fit.
            stores.set_row_bytes_max(index, usize::MAX);
            stores.begin_restore(index, now);
        })?;
        for (place, ends, from) in begun {
            let from = if aside.is_some() { ends.low } else { from };
            let restored = from >= ends.high;
            let part = Part { table, position: from, end: ends.high, restored, at_end: false };
            self.parts.insert(place, part);
        }
        info!(table = %planned.store.name, %topic, "reading a global table");
        Ok(())
    }

    fn turn_until_stop(&mut self) -> Result<(), Error> {
        while !self.shared.stop.load(Ordering::Relaxed) {
            let now = clock::now();
            self.shared.beat(self.shared.options.threads, now);
            self.turn(now, FOLLOW_WAIT)?;
            if self.awaits_schema() {
                clock::pause(Duration::from_millis(1));
            }
        }
        Ok(())
    }

    /// One round: takes records in and applies them; `now` is the wall clock, `wait` how long it may wait for the first record. Tells
    /// whether there was anything.
    ///
    /// # Errors
    /// What it cannot go on after.
    pub(super) fn turn(&mut self, now: Timestamp, wait: Duration) -> Result<bool, Error> {
        let mut moved = false;
        self.heed_sources(now)?;
        if self.waiting.is_empty() {
            let mut events = std::mem::take(&mut self.events);
            match self.consumer.poll(wait, &mut events) {
                Ok(()) => {}
                Err(broker::Error::Unavailable { message }) => warn!(message, "waiting for the broker"),
                Err(error) => return Err(error.into()),
            }
            for event in events.drain(..) {
                moved = true;
                self.handle(event)?;
            }
            self.events = events;
        }
        moved |= self.apply()?;
        self.tables.write_behind(now, false)?;
        if !self.shared.globals_ready.load(Ordering::Acquire) && self.is_restored() {
            info!(records = self.records, "global tables are complete");
            self.shared.globals_ready.store(true, Ordering::Release);
            self.published = Timestamp(0);
        }
        self.publish(now);
        Ok(moved)
    }

    /// A table whose topic is not what it was is read whole by the next start.
    fn heed_sources(&self, now: Timestamp) -> Result<(), Error> {
        self.shared.sources.look(&*self.shared.broker, now);
        let found = self.shared.sources.found();
        let mut followed = self.shared.plan.global_tables.iter().map(|table| &table.source.topic);
        match followed.find_map(|topic| Some((topic, found.get(topic)?))) {
            None => Ok(()),
            Some((topic, change)) => Err(Error::Refused { code: change.code(), message: change.message(topic) }),
        }
    }

    fn handle(&mut self, event: Event) -> Result<(), Error> {
        match event {
            Event::Records(fetched) => {
                if let Some(part) = self.parts.get_mut(&fetched.partition) {
                    part.at_end = false;
                    self.records += fetched.records.len() as u64;
                    self.waiting.push_back((fetched.partition, fetched.records.into()));
                }
                Ok(())
            }
            Event::EndOfPartition { partition, position } => {
                // What was handed out before must be in.
                self.apply()?;
                let waits = self.waiting.iter().any(|(place, _)| *place == partition);
                let Some(part) = self.parts.get_mut(&partition).filter(|_| !waits) else { return Ok(()) };
                part.position = part.position.max(position);
                part.restored |= position >= part.end;
                part.at_end = true;
                Ok(self.tables.reached_end(part.table, partition.partition, position)?)
            }
            Event::Assigned(_) | Event::Revoked(_) | Event::Lost(_) => Ok(()),
        }
    }

    /// Applies what was handed out, as far as its schemas are known; tells whether that was anything.
    fn apply(&mut self) -> Result<bool, Error> {
        let mut applied = false;
        while let Some((place, records)) = self.waiting.front_mut() {
            let Some(part) = self.parts.get_mut(place) else {
                self.waiting.pop_front();
                continue;
            };
            let before = records.len();
            let took = self.tables.take(part.table, place.partition, records)?;
            applied |= records.len() < before;
            if let Some(position) = self.tables.position(part.table, place.partition) {
                part.position = position;
                // A partition may end with its last record: nothing says so while others still wait for a schema.
                part.restored |= position >= part.end;
            }
            match took {
                Took::All => drop(self.waiting.pop_front()),
                Took::NeedsSchema(id) => match self.shared.schemas.schema(id) {
                    Some(Answer::Schema(text)) => self.tables.learn_schema(id, Ok(&text)),
                    Some(Answer::Failed(message)) => self.tables.learn_schema(id, Err(&message)),
                    None => return Ok(applied),
                },
            }
        }
        Ok(applied)
    }

    /// Tells whether every table has what its topic had at the start.
    pub(super) fn is_restored(&self) -> bool {
        self.parts.values().all(|part| part.restored)
    }

    /// Tells whether everything there is has been applied.
    pub(super) fn is_at_rest(&self) -> bool {
        self.waiting.is_empty() && self.parts.values().all(|part| part.at_end)
    }

    /// Tells whether a record waits for its schema.
    pub(super) fn awaits_schema(&self) -> bool {
        !self.waiting.is_empty()
    }

    /// Shows what stands where, a few times a second.
    fn publish(&mut self, now: Timestamp) {
        if self.published <= now && now < self.published.saturating_add(PUBLISH_EVERY) {
            return;
        }
        self.published = now;
        let restored = self.is_restored();
        let mut snapshot = Snapshot {
            assigned: true,
            restoring: usize::from(!restored),
            consumed: self.records,
            drained: restored && self.is_at_rest(),
            ..Snapshot::default()
        };
        self.show_tables(&mut snapshot);
        let mut snapshots = self.shared.snapshots.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(place) = snapshots.last_mut() {
            *place = snapshot;
        }
    }

    fn show_tables(&self, snapshot: &mut Snapshot) {
        let mut add = |name, labels: &[&str], value: f64| {
            let labels = labels.iter().map(|label| (*label).to_owned()).collect();
            snapshot.samples.push(Sample { name, labels, value });
        };
        for (place, part) in &self.parts {
            let (topic, partition) = (place.topic.as_str(), place.partition.to_string());
            let consumed = self.tables.stats(part.table).consumed.get(&place.partition).copied().unwrap_or(0);
            add("records_consumed_total", &[topic, &partition], consumed as f64);
            if !part.restored {
                let store = self.shared.plan.global_tables[part.table].store.name.as_str();
                let remaining = part.end.0.saturating_sub(part.position.0).max(0);
                add("restore_remaining_records", &[store, &partition], remaining as f64);
            }
        }
        for (index, table) in self.shared.plan.global_tables.iter().enumerate() {
            for reason in DropReason::ALL {
                let count = self.tables.stats(index).dropped[reason as usize];
                if count > 0 {
                    add("records_dropped_total", &[&table.store.name, reason.label()], count as f64);
                }
            }
        }
        // Before they are open there is nothing to show.
        let Ok((bytes, offsets)) = self.shared.cluster.globals.with(|stores| {
            let offset = |index| stores.position(StoreIndex(index as u16)).map(|position| position.offset.0);
            let offsets: Vec<Option<i64>> = (0..self.shared.plan.global_tables.len()).map(offset).collect();
            (stores.backend().size_bytes(), offsets)
        }) else {
            return;
        };
        for (table, changelog_offset) in self.shared.plan.global_tables.iter().zip(offsets) {
            snapshot.stores.push(StoreStatus {
                store: table.store.name.to_string(),
                partition: 0,
                task: GLOBAL.to_owned(),
                kind: GLOBAL.to_owned(),
                bytes,
                changelog_offset,
            });
        }
    }
}

impl std::fmt::Debug for Follower {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Follower").field("parts", &self.parts).finish_non_exhaustive()
    }
}
