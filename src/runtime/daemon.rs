//! A running daemon: prepares the cluster, starts the stream threads, restarts one that must join anew, stops them all inside a
//! bound, and answers for them.

use std::collections::BTreeMap;
use std::sync::atomic::Ordering;
use std::sync::mpsc::{Receiver, channel, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use serde_json::{Value as Json, json};
use tracing::{error, info, warn};

use crate::avro::{DecodePlan, to_json};
use crate::base::ids::TaskId;
use crate::base::time::SpanMs;
use crate::broker::{Broker, Leave};
use crate::error::codes;
use crate::plan::{Payload, Plan, Reader, TopicRole};
use crate::registry::Registry;
use crate::runtime::clock::Clock;
use crate::runtime::cluster::Cluster;
use crate::runtime::commands;
use crate::runtime::dead_letters::DeadLetters;
use crate::runtime::events::EventWriter;
use crate::runtime::follower;
use crate::runtime::instances;
use crate::runtime::options::Options;
use crate::runtime::peers::Peers;
use crate::runtime::query::Request;
use crate::runtime::reads::Reads;
use crate::runtime::rollout;
use crate::runtime::samples;
use crate::runtime::schemas::SchemaFetcher;
use crate::runtime::service::{
    Health, InstanceStatus, LetterAction, LetterPlace, LetterQuery, Letters, Measurements, NewCommand, NewEvent,
    Produced, Reach, Read, ReadError, Sample, Service, StoreStatus, TaskStatus, TopicPage,
};
use crate::runtime::shared::{Host, Shared, backends_of, pause_after};
use crate::runtime::standbys;
use crate::runtime::status::Snapshot;
use crate::runtime::thread::{Connection, StreamThread, Wait};
use crate::runtime::topics::TopicReader;
use crate::runtime::{Error, clock};
use crate::task::ReadFrom;

/// Without a beat for this long a thread does not live.
const BEAT_MAX: SpanMs = SpanMs(60_000);

/// A daemon whose threads run. Dropping it stops them without waiting; [`Daemon::stop`] waits.
pub struct Daemon {
    shared: Arc<Shared>,
    reads: Reads,
    threads: Mutex<Vec<JoinHandle<Result<(), Error>>>>,
    /// Keeps standbys, where there are to be any.
    standbys: Mutex<Option<JoinHandle<()>>>,
    /// Takes part among the instances; ends behind the threads.
    presence: Mutex<Option<JoinHandle<()>>>,
    count: usize,
    writer: Mutex<EventWriter>,
    topics: TopicReader,
    letters: DeadLetters,
}

impl std::fmt::Debug for Daemon {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Daemon").field("application_id", &self.shared.options.application_id).finish_non_exhaustive()
    }
}

/// How far the whole daemon has come, for progress displays.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Progress {
    /// Records consumed since the start, internal topics included.
    pub records: u64,
    pub commits: u64,
    /// Every task has processed and committed everything there is, on every thread.
    pub drained: bool,
}

impl Daemon {
    /// Prepares the cluster and starts the threads.
    ///
    /// # Errors
    /// The plan does not fit the cluster; the broker or the registry is not there.
    pub fn start(
        plan: Plan,
        broker: Arc<dyn Broker>,
        registry: Arc<dyn Registry>,
        options: Options,
    ) -> Result<Self, Error> {
        // Before anything is made or registered.
        if !options.allow_breaking_readers
            && let Some(roster) = instances::heard(&*broker, &plan)?
        {
            rollout::refuse_what_breaks_readers(&roster, &options.instance_id, &plan)?;
        }
        let cluster = Cluster::prepare(&plan, &*broker, &*registry, &options)?;
        let no_thread = |error: std::io::Error| Error::Bug { message: format!("a thread cannot be started: {error}") };
        let schemas = SchemaFetcher::start(Arc::clone(&registry)).map_err(no_thread)?;
        let threads = options.threads.max(1);
        let host = Host {
            broker: Arc::clone(&broker),
            schemas,
            clock: Clock::Machine,
            backends: backends_of(&options),
            witness: None,
        };
        let shared = Arc::new(Shared::new(Arc::new(plan), Options { threads, ..options }, cluster, host));
        shared.gate.close("is finding its place among the instances of the application");
        let follows = !shared.plan.global_tables.is_empty();
        let mut daemon = Self {
            topics: TopicReader::new(Arc::clone(&broker), Arc::clone(&registry)),
            letters: DeadLetters::new(Arc::clone(&broker), &shared.options),
            writer: Mutex::new(EventWriter::new(broker, registry)),
            reads: Reads::new(Arc::clone(&shared)),
            threads: Mutex::new(Vec::new()),
            standbys: Mutex::new(None),
            presence: Mutex::new(None),
            count: threads + usize::from(follows),
            shared,
        };
        for index in 0..threads {
            let (asks, incoming) = channel();
            let shared = Arc::clone(&daemon.shared);
            let thread = std::thread::Builder::new()
                .name(format!("stream-{index}"))
                .spawn(move || run(index, &shared, incoming))
                .map_err(no_thread)?;
            daemon.reads.asks.push(asks);
            daemon.threads.get_mut().unwrap_or_else(PoisonError::into_inner).push(thread);
        }
        if follows {
            let shared = Arc::clone(&daemon.shared);
            let thread = std::thread::Builder::new().name("global".to_owned()).spawn(move || follower::follow(&shared));
            daemon.threads.get_mut().unwrap_or_else(PoisonError::into_inner).push(thread.map_err(no_thread)?);
        }
        if daemon.shared.options.standby_replicas > 0 {
            let shared = Arc::clone(&daemon.shared);
            let thread = std::thread::Builder::new().name("standbys".to_owned()).spawn(move || standbys::keep(&shared));
            *daemon.standbys.get_mut().unwrap_or_else(PoisonError::into_inner) = Some(thread.map_err(no_thread)?);
        }
        let shared = Arc::clone(&daemon.shared);
        let presence = std::thread::Builder::new().name("instances".to_owned());
        let presence = presence.spawn(move || instances::take_part(&shared)).map_err(no_thread)?;
        *daemon.presence.get_mut().unwrap_or_else(PoisonError::into_inner) = Some(presence);
        Ok(daemon)
    }

    /// Gives the way to ask other instances for what they have; without one, reads of it are not answered.
    pub fn asks_others_by(&self, peers: Arc<dyn Peers>) {
        self.reads.asks_others_by(peers);
    }

    /// Tells the other instances where this one answers reads: `host:port`.
    pub fn serves_at(&self, http: String) {
        self.shared.instances.serves_at(http);
    }

    /// Returns how far it has come.
    pub fn progress(&self) -> Progress {
        let snapshots = self.snapshots();
        Progress {
            records: snapshots.iter().map(|snapshot| snapshot.consumed).sum(),
            commits: snapshots.iter().map(|snapshot| snapshot.commits).sum(),
            drained: snapshots.iter().all(|snapshot| snapshot.drained),
        }
    }

    /// Tells whether every thread has ended.
    pub fn has_ended(&self) -> bool {
        self.threads.lock().unwrap_or_else(PoisonError::into_inner).iter().all(JoinHandle::is_finished)
    }

    /// Waits until every thread has ended, by itself or after [`Daemon::request_stop`].
    pub fn wait_for_end(&self) {
        while !self.has_ended() {
            // A bounded wait: threads give no signal when they end.
            std::thread::park_timeout(Duration::from_millis(100));
        }
    }

    /// Asks the threads to stop; each commits, writes its stores out and closes.
    pub fn request_stop(&self) {
        self.shared.stop.store(true, Ordering::Relaxed);
    }

    /// Waits for the threads that were asked to stop.
    ///
    /// # Errors
    /// The first thing that went wrong; the state is whole all the same.
    pub fn join(&self) -> Result<(), Error> {
        let threads = std::mem::take(&mut *self.threads.lock().unwrap_or_else(PoisonError::into_inner));
        let mut outcome = Ok(());
        for thread in threads {
            let panicked = |_| Err(Error::Bug { message: "a stream thread panicked".to_owned() });
            let ended = thread.join().unwrap_or_else(panicked);
            outcome = outcome.and(ended);
        }
        self.shared.instances.leave();
        for thread in [&self.standbys, &self.presence] {
            let thread = thread.lock().unwrap_or_else(PoisonError::into_inner).take();
            if thread.is_some_and(|thread| thread.join().is_err()) {
                error!("a thread that works beside the stream threads panicked");
            }
        }
        self.shared.close_parked(clock::now())?;
        info!(application_id = self.shared.options.application_id, "stopped");
        outcome
    }

    /// Stops the threads and waits for them.
    ///
    /// # Errors
    /// As [`Daemon::join`].
    pub fn stop(self) -> Result<(), Error> {
        self.request_stop();
        self.join()
    }

    fn thread_name(&self, index: usize) -> String {
        if index < self.reads.asks.len() {
            format!("stream thread {index}")
        } else {
            "the global tables' thread".to_owned()
        }
    }

    fn snapshots(&self) -> Vec<Snapshot> {
        self.shared.snapshots.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Decodes a dead letter as its origin is written: under a registry, as JSON, or as rows of ours.
    fn decoded_letter(&self, origin: &str, bytes: &[u8], wait: Duration) -> Result<Json, String> {
        let sources = self.shared.plan.sub_topologies.iter().flat_map(|sub| &sub.sources);
        match sources.into_iter().find(|source| source.topic.as_str() == origin).map(|source| &source.payload) {
            Some(Payload::Internal { readers, .. }) => {
                let (head, datum) = bytes.split_at_checked(10).ok_or("it is too short for a row")?;
                let written = |reader: &&Reader| head[2..] == reader.schema.fingerprint().to_le_bytes();
                let reader = readers.iter().find(written).ok_or("this topology does not write such rows")?;
                let plan = DecodePlan::whole(&reader.schema, &reader.schema).map_err(|error| error.to_string())?;
                let value = plan.decode_value(datum).map_err(|error| error.to_string())?;
                Ok(to_json(&value, &reader.schema.value_type()))
            }
            Some(Payload::Json { .. }) => serde_json::from_slice(bytes).map_err(|error| error.to_string()),
            Some(Payload::Registry { .. } | Payload::Scalar { .. }) | None => {
                let decoded = self.topics.decoded(bytes, wait);
                // The letter of a result is JSON.
                decoded.map(|(_, value)| value).or_else(|why| serde_json::from_slice(bytes).map_err(|_| why))
            }
        }
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::Relaxed);
        self.shared.instances.leave();
    }
}

/// A stream thread's life: turns until the stop, and a new start after every failure that a new start can mend.
fn run(index: usize, shared: &Arc<Shared>, asks: Receiver<Request>) -> Result<(), Error> {
    if !shared.await_globals() {
        return Ok(());
    }
    let mut asks = Some(asks);
    let mut failures = 0;
    loop {
        if shared.stop.load(Ordering::Relaxed) {
            return Ok(());
        }
        let connection = match connect(index, shared) {
            Ok(Some(connection)) => connection,
            Ok(None) => return Ok(()),
            Err(error) => {
                give_up_or_pause(index, shared, error, &mut failures)?;
                continue;
            }
        };
        let receiver = asks.take().unwrap_or_else(|| channel().1);
        let mut thread = StreamThread::new(index, Arc::clone(shared), connection, receiver, None, clock::now());
        match turn_until_stop(&mut thread, shared, &mut failures) {
            Ok(()) => return thread.close(clock::now(), Leave::Group).map(|_| ()),
            Err(error) => {
                thread.park_all();
                asks = Some(thread.into_asks());
                give_up_or_pause(index, shared, error, &mut failures)?;
            }
        }
    }
}

/// Connects a thread when it may process; none when the daemon is to stop before. While it finds its place among the instances and in the
/// group, the broker ends what a dead predecessor left of a transaction, which takes half a second and more.
fn connect(index: usize, shared: &Shared) -> Result<Option<Connection>, Error> {
    std::thread::scope(|scope| {
        let producer = scope.spawn(|| shared.open_producer(index));
        if !shared.await_turn(index)? {
            return Ok(None);
        }
        let panicked = |_| Err(Error::Bug { message: "opening a producer panicked".to_owned() });
        Connection::open(index, shared, || producer.join().unwrap_or_else(panicked)).map(Some)
    })
}

fn turn_until_stop(thread: &mut StreamThread, shared: &Shared, failures: &mut u32) -> Result<(), Error> {
    let mut wait = Wait::No;
    while !shared.stop.load(Ordering::Relaxed) {
        wait = thread.turn(clock::now(), wait)?;
        *failures = 0;
    }
    Ok(())
}

/// What may pass is tried again after a pause; what cannot ends the thread.
fn give_up_or_pause(index: usize, shared: &Shared, failure: Error, failures: &mut u32) -> Result<(), Error> {
    let pause = pause_after(&failure, failures);
    {
        let mut snapshots = shared.snapshots.lock().unwrap_or_else(PoisonError::into_inner);
        snapshots[index] = Snapshot { failure: Some(failure.to_string()), ..Snapshot::default() };
    }
    let Some(pause) = pause else {
        error!(thread = index, error = %failure, "a stream thread ends");
        return Err(failure);
    };
    shared.beat(index, clock::now());
    warn!(thread = index, error = %failure, ?pause, "joining anew");
    // A bounded wait on nothing else than time passing; a stop waits for it.
    std::thread::park_timeout(pause);
    Ok(())
}

impl Service for Daemon {
    fn health(&self) -> Health {
        let now = clock::now();
        let snapshots = self.snapshots();
        let mut health = Health { live: true, assigned: true, restored: true, reasons: Vec::new() };
        let ended: Vec<bool> = {
            let threads = self.threads.lock().unwrap_or_else(PoisonError::into_inner);
            (0..self.count).map(|index| threads.get(index).is_none_or(JoinHandle::is_finished)).collect()
        };
        for (index, (snapshot, ended)) in snapshots.iter().zip(ended).enumerate() {
            let silent = self.shared.last_beat(index).is_some_and(|beat| beat.saturating_add(BEAT_MAX) < now);
            if ended || silent {
                health.live = false;
                health.reasons.push(format!("{} does not beat", self.thread_name(index)));
            }
            if let Some(failure) = &snapshot.failure {
                health.reasons.push(format!("{}: {failure}", self.thread_name(index)));
            }
            if !snapshot.assigned {
                health.assigned = false;
                health.reasons.push(format!("{} has no assignment yet", self.thread_name(index)));
            }
            if snapshot.restoring > 0 {
                health.restored = false;
                health.reasons.push(format!("{} restores {} tasks", self.thread_name(index), snapshot.restoring));
            }
        }
        if let Some(waits) = self.shared.gate.waits_for() {
            health.assigned = false;
            health.reasons.push(waits);
        }
        health.restored &= health.assigned;
        health
    }

    fn topology(&self) -> Json {
        topology_json(&self.shared.plan)
    }

    fn tasks(&self) -> Vec<TaskStatus> {
        let mut tasks: Vec<TaskStatus> = self.snapshots().into_iter().flat_map(|snapshot| snapshot.tasks).collect();
        tasks.extend(self.shared.standbys.statuses(self.shared.options.threads));
        tasks.sort_by(|a, b| a.task.cmp(&b.task));
        tasks
    }

    fn release(&self, task: &str, inputs: Option<ReadFrom>, wait: Duration) -> Result<bool, ReadError> {
        let known = self.tasks().into_iter().find(|known| known.task == task && known.state != "standby");
        let known = known.ok_or_else(|| ReadError::NotFound {
            code: codes::TASK_UNKNOWN,
            detail: format!("this instance has no task `{task}`"),
        })?;
        let unavailable = |detail: &str| ReadError::Unavailable {
            code: codes::READ_UNAVAILABLE,
            detail: format!("task `{task}`: {detail}"),
        };
        let task = TaskId::parse(&known.task).ok_or_else(|| unavailable("it has no partition"))?;
        let (reply, answer) = sync_channel(1);
        let request = Request::Release { task, inputs, reply };
        self.reads.asks[known.thread].send(request).map_err(|_| unavailable("its thread has ended"))?;
        answer.recv_timeout(wait).map_err(|_| unavailable("no answer in time"))
    }

    fn stores(&self) -> Vec<StoreStatus> {
        let mut stores: Vec<StoreStatus> = self.snapshots().into_iter().flat_map(|snapshot| snapshot.stores).collect();
        stores.sort_by(|a, b| (&a.store, a.partition).cmp(&(&b.store, b.partition)));
        stores
    }

    fn read(&self, read: &Read, wait: Duration) -> Result<Json, ReadError> {
        self.reads.read(read, wait)
    }

    fn instances(&self) -> Vec<InstanceStatus> {
        let Some(roster) = self.shared.instances.roster() else { return Vec::new() };
        let here = &self.shared.options.instance_id;
        roster.entries().map(|entry| InstanceStatus::of(&roster, entry, here)).collect()
    }

    fn topic(&self, topic: &str, wait: Duration) -> Result<Json, ReadError> {
        self.topics.topic(topic, wait)
    }

    fn records(&self, page: &TopicPage, wait: Duration) -> Result<Json, ReadError> {
        self.topics.records(page, wait)
    }

    fn produce(&self, topic: &str, events: &[NewEvent], wait: Duration) -> Result<Vec<Produced>, ReadError> {
        let mut writer = self.writer.lock().unwrap_or_else(PoisonError::into_inner);
        writer.write(topic, events, clock::now(), wait)
    }

    fn dead_letter_topics(&self, wait: Duration) -> Result<Json, ReadError> {
        let planned = self.shared.plan.topics.iter().filter(|(_, planned)| planned.role == TopicRole::DeadLetter);
        let none = LetterQuery::default();
        let topics = planned.map(|(topic, _)| {
            let found = self.letters.list(topic.as_str(), &none, wait)?;
            Ok(json!({ "topic": topic.as_str(), "open": found["open"], "reasons": found["reasons"] }))
        });
        Ok(json!({ "topics": topics.collect::<Result<Vec<Json>, ReadError>>()? }))
    }

    fn dead_letters(&self, topic: &str, query: &LetterQuery, wait: Duration) -> Result<Json, ReadError> {
        self.letters.list(topic, query, wait)
    }

    fn dead_letter(&self, topic: &str, letter: &LetterPlace, wait: Duration) -> Result<Json, ReadError> {
        let decoded = |origin: &str, bytes: &[u8]| self.decoded_letter(origin, bytes, wait);
        self.letters.show(topic, letter, wait, &decoded)
    }

    fn settle_letters(
        &self,
        topic: &str,
        letters: &Letters,
        action: LetterAction,
        wait: Duration,
    ) -> Result<Json, ReadError> {
        self.letters.settle(topic, letters, action, wait)
    }

    fn command(&self, command: &NewCommand, wait: Duration) -> Result<Json, ReadError> {
        let watch = clock::Stopwatch::start();
        let taken = commands::taken(&self.shared, command)?;
        // Whoever runs the task reads the command; but nobody could be asked for the answer.
        let holder = self.reads.holder(&taken.task, &Reach::Anywhere);
        holder.map_err(|error| commands::not_written(error, &taken.place.topic))?;
        let written = {
            let mut writer = self.writer.lock().unwrap_or_else(PoisonError::into_inner);
            writer.write_command(&taken, &command.value, clock::now(), commands::write_wait(wait))
        };
        let (place, offset) = (&taken.place, written?);
        let read = commands::answer_to(command, place, offset);
        self.reads
            .of_task(&taken.task, &read, wait.saturating_sub(watch.elapsed()))
            .map_err(|error| commands::unanswered(error, command, place, offset))
    }

    fn measurements(&self) -> Measurements {
        let mut measurements = Measurements::default();
        let mut states: BTreeMap<&str, u32> = BTreeMap::new();
        let snapshots = self.snapshots();
        for snapshot in &snapshots {
            for task in &snapshot.tasks {
                *states.entry(task.state.as_str()).or_default() += 1;
            }
            measurements.samples.extend(snapshot.samples.iter().cloned());
            measurements.histograms.extend(snapshot.histograms.iter().cloned());
        }
        for (topic, change) in self.shared.sources.found() {
            let labels = vec![topic.to_string(), change.label().to_owned()];
            measurements.samples.push(Sample { name: "source_changed", labels, value: 1.0 });
        }
        let standbys = self.shared.standbys.shown();
        samples::of_standbys(&standbys, &mut measurements.samples);
        if !standbys.is_empty() {
            states.insert("standby", standbys.len() as u32);
        }
        for (state, count) in states {
            measurements.samples.push(Sample {
                name: "tasks",
                labels: vec![state.to_owned()],
                value: f64::from(count),
            });
        }
        samples::of_clients(&self.shared.broker.client_figures(), &mut measurements.samples);
        let mut memory = |component: &str, bytes: usize| {
            let labels = vec![component.to_owned()];
            measurements.samples.push(Sample { name: "memory_bytes", labels, value: bytes as f64 });
        };
        let (block_cache, memtables) = self.shared.backends.memory_bytes();
        memory("rocksdb_block_cache", block_cache);
        memory("rocksdb_memtables", memtables);
        measurements
    }
}

fn topology_json(plan: &Plan) -> Json {
    let sub_topologies: Vec<Json> = plan
        .sub_topologies
        .iter()
        .map(|sub| {
            json!({
                "name": sub.name.as_str(),
                "sources": sub.sources.iter().map(|source| source.topic.as_str()).collect::<Vec<_>>(),
                "nodes": sub.nodes.iter().map(|node| node.name.as_str()).collect::<Vec<_>>(),
                "stores": sub.stores.iter().map(|store| store.name.as_str()).collect::<Vec<_>>(),
            })
        })
        .collect();
    json!({
        "application_id": plan.application_id,
        "fingerprint": format!("{:016x}", plan.fingerprint),
        "sub_topologies": sub_topologies,
        "global_tables": plan.global_tables.iter().map(|table| json!({
            "name": table.store.name.as_str(),
            "topic": table.source.topic.as_str(),
        })).collect::<Vec<_>>(),
        "topics": plan.topics.iter().map(|(topic, planned)| json!({
            "topic": topic.as_str(),
            "role": format!("{:?}", planned.role).to_lowercase(),
        })).collect::<Vec<_>>(),
    })
}
