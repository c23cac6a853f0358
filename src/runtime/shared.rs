//! What the stream threads of a process share: the plan, what the cluster says about it, and stores on their way from one
//! thread to another. Nothing here is touched per record.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use crate::base::ids::{Partition, TaskId, Topic};
use crate::base::time::Timestamp;
use crate::broker::{self, Broker, Consumer, ConsumerSettings, GroupSettings, Isolation, Producer, ProducerSettings};
use crate::error::{Kind, codes};
use crate::limits;
use crate::plan::{Plan, StoreKind, TopicRole};
use crate::runtime::Error;
use crate::runtime::clock::Clock;
use crate::runtime::cluster::Cluster;
use crate::runtime::instances::Instances;
use crate::runtime::options::{Guarantee, Options};
use crate::runtime::pace::RestorePace;
use crate::runtime::rollout::Gate;
use crate::runtime::schemas::SchemaFetcher;
use crate::runtime::sources::Sources;
use crate::runtime::standbys::{Busy, Standbys};
use crate::runtime::status::Snapshot;
use crate::store::memory::MemoryBackends;
use crate::store::rocks::{RocksBackends, RocksShared};
use crate::store::{self, Access, Backend, Backends, StoreSpec, StoresBudget, TaskStores};
use crate::task::{FirstStart, GLOBAL, Witness};

/// Shared by all threads of a daemon.
#[derive(Debug)]
pub(super) struct Shared {
    pub(super) plan: Arc<Plan>,
    pub(super) options: Options,
    pub(super) cluster: Cluster,
    pub(super) broker: Arc<dyn Broker>,
    pub(super) schemas: SchemaFetcher,
    pub(super) clock: Clock,
    pub(super) backends: Arc<dyn Backends>,
    /// Told what the tasks do; none where nobody asks.
    pub(super) witness: Option<Arc<dyn Witness>>,
    pub(super) owners: Owners,
    pub(super) instances: Instances,
    pub(super) sources: Sources,
    pub(super) restore_pace: RestorePace,
    /// Open while no instance of another topology processes.
    pub(super) gate: Arc<Gate>,
    pub(super) standbys: Standbys,
    pub(super) stop: AtomicBool,
    /// Global tables have what their topics had at the start: tasks may run.
    pub(super) globals_ready: AtomicBool,
    /// What each thread showed last; the one that follows global tables is behind the others.
    pub(super) snapshots: Mutex<Vec<Snapshot>>,
    /// By thread: when it last showed that it lives, by the wall clock in milliseconds; 0 before its first turn.
    beats: Vec<AtomicI64>,
    parked: Mutex<BTreeMap<TaskId, TaskStores>>,
}

/// What a daemon stands on.
pub(super) struct Host {
    pub(super) broker: Arc<dyn Broker>,
    pub(super) schemas: SchemaFetcher,
    pub(super) clock: Clock,
    pub(super) backends: Arc<dyn Backends>,
    pub(super) witness: Option<Arc<dyn Witness>>,
}

/// Which thread runs a task.
#[derive(Debug, Default)]
pub(super) struct Owners(Mutex<BTreeMap<TaskId, usize>>);

impl Owners {
    pub(super) fn set(&self, task: &TaskId, thread: usize) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).insert(task.clone(), thread);
    }

    pub(super) fn of(&self, task: &TaskId) -> Option<usize> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).get(task).copied()
    }

    /// How many tasks this process runs.
    pub(super) fn count(&self) -> usize {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).len()
    }

    pub(super) fn clear(&self, task: &TaskId) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).remove(task);
    }
}

impl Shared {
    pub(super) fn new(plan: Arc<Plan>, options: Options, cluster: Cluster, host: Host) -> Self {
        let Host { broker, schemas, clock, backends, witness } = host;
        // The one that follows global tables is behind the others.
        let threads = options.threads + usize::from(!plan.global_tables.is_empty());
        Self {
            beats: (0..threads).map(|_| AtomicI64::new(0)).collect(),
            snapshots: Mutex::new((0..threads).map(|_| Snapshot::default()).collect()),
            globals_ready: AtomicBool::new(plan.global_tables.is_empty()),
            sources: Sources::new(cluster.read_topics(&plan)),
            restore_pace: RestorePace::new(options.restore_bytes_per_second),
            gate: Arc::default(),
            plan,
            options,
            cluster,
            broker,
            schemas,
            clock,
            backends,
            witness,
            owners: Owners::default(),
            instances: Instances::default(),
            standbys: Standbys::default(),
            stop: AtomicBool::new(false),
            parked: Mutex::new(BTreeMap::new()),
        }
    }

    /// A thread lives: said each turn, and before each call that may wait for the broker.
    pub(super) fn beat(&self, thread: usize, now: Timestamp) {
        self.beats[thread].store(now.0, Ordering::Relaxed);
    }

    /// When a thread last said so; none before its first turn.
    pub(super) fn last_beat(&self, thread: usize) -> Option<Timestamp> {
        let beat = self.beats[thread].load(Ordering::Relaxed);
        (beat != 0).then_some(Timestamp(beat))
    }

    pub(super) fn task_id(&self, sub_topology: usize, partition: Partition) -> TaskId {
        TaskId { sub_topology: Arc::clone(&self.cluster.names[sub_topology]), partition }
    }

    pub(super) fn sub_topology_of(&self, task: &TaskId) -> usize {
        let named = |name: &Arc<str>| *name == task.sub_topology;
        self.cluster.names.iter().position(named).expect("task ids are made from the plan's sub-topologies")
    }

    /// Where reading a topic begins when nothing was ever committed.
    pub(super) fn first_start(&self, topic: &Topic) -> FirstStart {
        match self.plan.topics.get(topic).map(|topic| topic.role) {
            Some(TopicRole::Repartition) => FirstStart::Earliest,
            _ => self.options.first_start,
        }
    }

    /// Makes a thread's producer and fences whoever had its transactional id.
    pub(super) fn open_producer(&self, thread: usize) -> Result<Box<dyn Producer>, Error> {
        let Options { application_id, instance_id, guarantee, transaction_timeout, .. } = &self.options;
        let exactly_once = *guarantee == Guarantee::ExactlyOnce;
        let mut producer = self.broker.producer(&ProducerSettings {
            transactional_id: exactly_once.then(|| format!("{application_id}-{instance_id}-{thread}")),
            transaction_timeout: exactly_once.then_some(*transaction_timeout),
            queue_bytes_max: Some(self.options.memory().produced()),
        })?;
        if exactly_once {
            producer.init_transactions(limits::BROKER_WAIT_MAX).map_err(no_transactions)?;
        }
        Ok(producer)
    }

    pub(super) fn open_consumer(&self, thread: usize) -> Result<Box<dyn Consumer>, Error> {
        let Options { application_id, instance_id, session_timeout, .. } = &self.options;
        Ok(self.broker.consumer(&ConsumerSettings {
            group: Some(GroupSettings {
                group_id: application_id.clone(),
                instance_id: Some(format!("{instance_id}-{thread}")),
                session_timeout: *session_timeout,
            }),
            isolation: Isolation::ReadCommitted,
            prefetch_bytes_max: self.options.memory().prefetched(),
            end_wait: None,
        })?)
    }

    pub(super) fn open_restore_consumer(&self, end_wait: Option<Duration>) -> Result<Box<dyn Consumer>, Error> {
        Ok(self.broker.consumer(&ConsumerSettings {
            group: None,
            isolation: Isolation::ReadCommitted,
            prefetch_bytes_max: self.options.memory().prefetched(),
            end_wait,
        })?)
    }

    /// What the stores of a task may take while as many tasks run in this process as now.
    pub(super) fn stores_budget(&self) -> StoresBudget {
        self.options.memory().stores(self.owners.count() + usize::from(!self.plan.global_tables.is_empty()))
    }

    /// Takes a task's stores from another thread of this process, or from a standby here, or opens them.
    pub(super) fn open_stores(&self, task: &TaskId) -> Result<TaskStores, store::Error> {
        if let Some(stores) = self.parked.lock().unwrap_or_else(PoisonError::into_inner).remove(task) {
            return Ok(stores);
        }
        match self.standbys.take(task) {
            Ok(Some(stores)) => return Ok(stores),
            Ok(None) => {}
            Err(Busy) => return Err(store::Error::Locked { path: format!("the standby of `{task}`") }),
        }
        let mut stores = self.stores_on(self.backends.open(&task.to_string())?, task)?;
        stores.trim_set_aside(self.options.keep_set_aside)?;
        Ok(stores)
    }

    /// Opens a task's stores on a backend.
    pub(super) fn stores_on(&self, backend: Box<dyn Backend>, task: &TaskId) -> Result<TaskStores, store::Error> {
        let sub = &self.plan.sub_topologies[self.sub_topology_of(task)];
        let specs: Vec<StoreSpec> = sub
            .stores
            .iter()
            .map(|store| StoreSpec {
                name: Arc::from(store.kept_as.as_str()),
                row: store.row.clone(),
                access: match store.kind {
                    StoreKind::KeyValue | StoreKind::Entity => Access::Cached,
                    StoreKind::Window(_)
                    | StoreKind::Versioned { .. }
                    | StoreKind::Due
                    | StoreKind::Subscriptions
                    | StoreKind::Waiting => Access::Ordered,
                    StoreKind::History | StoreKind::JoinSide => Access::Append,
                },
            })
            .collect();
        self.open_on(backend, &specs)
    }

    /// Opens the stores of the global tables.
    pub(super) fn open_global_stores(&self) -> Result<TaskStores, store::Error> {
        let tables = self.plan.global_tables.iter();
        let specs: Vec<StoreSpec> = tables
            .map(|table| StoreSpec {
                name: Arc::from(table.store.name.as_str()),
                row: table.store.row.clone(),
                access: Access::Cached,
            })
            .collect();
        let mut stores = self.open_on(self.backends.open(GLOBAL)?, &specs)?;
        stores.trim_set_aside(self.options.keep_set_aside)?;
        Ok(stores)
    }

    fn open_on(&self, backend: Box<dyn Backend>, specs: &[StoreSpec]) -> Result<TaskStores, store::Error> {
        TaskStores::open(backend, &self.options.application_id, specs, self.stores_budget())
    }

    /// Takes a task's folder, which nobody has open, out of the way; what is in it stays, as far as `state.keep_set_aside` says.
    pub(super) fn set_folder_aside(&self, task: &TaskId) -> Result<String, store::Error> {
        let Some(state) = &self.options.state_dir else { return Ok(String::new()) };
        let application = state.join(&self.options.application_id);
        store::rocks::set_folder_aside(&application, &task.to_string(), self.options.keep_set_aside)
    }

    /// Keeps a task's stores open for whoever runs it next in this process.
    pub(super) fn park(&self, task: TaskId, stores: TaskStores) {
        self.owners.clear(&task);
        self.parked.lock().unwrap_or_else(PoisonError::into_inner).insert(task, stores);
    }

    /// Waits until the global tables are complete; false when the daemon is to stop before.
    pub(super) fn await_globals(&self) -> bool {
        while !self.globals_ready.load(Ordering::Acquire) {
            if self.stop.load(Ordering::Relaxed) {
                return false;
            }
            // A bounded wait: the thread that reads them gives no signal.
            std::thread::park_timeout(Duration::from_millis(10));
        }
        true
    }

    /// Waits until this instance may process among the others; false when the daemon is to stop before.
    ///
    /// # Errors
    /// It never may: the daemon stops.
    pub(super) fn await_turn(&self, thread: usize) -> Result<bool, Error> {
        loop {
            match self.gate.is_open() {
                Ok(true) => return Ok(true),
                Ok(false) if self.stop.load(Ordering::Relaxed) => return Ok(false),
                Ok(false) => {}
                Err(refused) => {
                    self.stop.store(true, Ordering::Relaxed);
                    return Err(refused);
                }
            }
            self.beat(thread, self.clock.now());
            // A bounded wait: nobody signals an opening.
            std::thread::park_timeout(Duration::from_millis(10));
        }
    }

    /// Writes out and closes the stores that nobody took, and the global tables.
    pub(super) fn close_parked(&self, now: Timestamp) -> Result<(), store::Error> {
        let parked = std::mem::take(&mut *self.parked.lock().unwrap_or_else(PoisonError::into_inner));
        for mut stores in parked.into_values().chain(self.cluster.globals.close()) {
            stores.write_behind(now, true)?;
        }
        Ok(())
    }
}

/// Says what to do where the broker has no transactions.
fn no_transactions(error: broker::Error) -> Error {
    match error {
        broker::Error::Unsupported { message } => {
            let message = format!(
                "the broker has no transactions ({message}): set `processing_guarantee = \"at_least_once\"`, or use a broker that has them"
            );
            Error::Refused { code: codes::NO_TRANSACTIONS, message }
        }
        // Some brokers that have none do not say so; nor does one whose transactions are away for a while.
        broker::Error::Unavailable { message } => broker::Error::Unavailable {
            message: format!(
                "{message}; where a broker has no transactions, set `processing_guarantee = \"at_least_once\"` (E0610)"
            ),
        }
        .into(),
        other @ (broker::Error::Fenced { .. }
        | broker::Error::Aborted { .. }
        | broker::Error::OutcomeUnknown { .. }
        | broker::Error::UnknownTopic { .. }
        | broker::Error::OffsetOutOfRange { .. }
        | broker::Error::RecordTooLarge { .. }
        | broker::Error::WriteRefused { .. }
        | broker::Error::Unauthorized { .. }
        | broker::Error::Invalid { .. }
        | broker::Error::Storage { .. }) => other.into(),
    }
}

/// Where the options say that state stands: in a folder, or in memory.
pub(super) fn backends_of(options: &Options) -> Arc<dyn Backends> {
    match &options.state_dir {
        Some(folder) => {
            let rocks = RocksShared::new(options.memory().rocksdb());
            Arc::new(RocksBackends::new(folder.join(&options.application_id), rocks))
        }
        None => Arc::new(MemoryBackends),
    }
}

/// What happens after a thread's failure: a new start after a pause, where that can mend it; else none.
pub(super) fn pause_after(failure: &Error, failures: &mut u32) -> Option<Duration> {
    match failure.kind() {
        Kind::Retry | Kind::Fenced => {
            *failures += 1;
            Some(pause_before_rejoin(*failures))
        }
        Kind::Config | Kind::Corrupt | Kind::Record | Kind::Bug => None,
    }
}

/// How long a thread waits before it joins anew after a failure.
pub(super) fn pause_before_rejoin(failures: u32) -> Duration {
    Duration::from_millis(100 << failures.min(6))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Kind;

    #[test]
    fn a_broker_without_transactions_is_told_from_one_that_is_away() {
        let failed = |error| no_transactions(error);
        let refused = failed(broker::Error::Unsupported { message: "no such api".to_owned() });
        assert_eq!((refused.kind(), refused.code()), (Kind::Config, Some(codes::NO_TRANSACTIONS)));
        assert!(refused.to_string().contains("at_least_once"), "{refused}");
        let away = failed(broker::Error::Unavailable { message: "timed out".to_owned() });
        assert_eq!(away.kind(), Kind::Retry);
        assert!(away.to_string().contains("at_least_once") && away.to_string().contains("E0610"), "{away}");
        assert_eq!(failed(broker::Error::Fenced { message: String::new() }).kind(), Kind::Fenced);
    }
}
