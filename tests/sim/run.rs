//! A simulated world: some instances of one daemon in a group, inputs that come in, and what befalls them; then peace, in which
//! everything must come to rest.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::Duration;

use tidemill::base::ids::TopicPartition;
use tidemill::base::record::Outgoing;
use tidemill::base::rng::Rng;
use tidemill::base::time::{SpanMs, Timestamp};
use tidemill::broker::{
    Broker as _, Consumer, ConsumerSettings, Event, GroupSettings, Isolation, Producer, ProducerSettings,
};
use tidemill::limits::TASK_RUN_RECORDS_MAX;
use tidemill::registry::Registry;
use tidemill::registry::local::LocalRegistry;
use tidemill::runtime::{Ground, Guarantee, Options, Stepped};
use tidemill::task::FirstStart;

use super::disk::Disk;
use super::fates::{Actor, Died, Fates, Fault, START_MS, Steps};
use super::history::{Eyes, History};
use super::net::{Net, SESSION_MS, TRANSACTION_MS};
use super::registry::SimRegistry;
use super::workload::Workload;

/// What a seed decides before anything happens.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Shape {
    pub(crate) partitions: u32,
    pub(crate) instances: usize,
    pub(crate) threads: usize,
    pub(crate) commit_interval_ms: i64,
    pub(crate) steps: u64,
    pub(crate) guarantee: Guarantee,
    pub(crate) standby_replicas: usize,
    pub(crate) turn_records: usize,
}

impl Shape {
    pub(crate) fn new(fates: &Fates, seed: u64) -> Self {
        // Not of the fates' chances, so that the other seeds stay what they are.
        let standby_replicas = usize::from(Rng::new(seed ^ 0x57A4D).chance(1, 5));
        let mut rng = Rng::new(seed ^ 0x7C2);
        let turn_records = if rng.chance(1, 2) { 1 + rng.below(20) as usize } else { TASK_RUN_RECORDS_MAX };
        Self {
            standby_replicas,
            turn_records,
            partitions: fates.between(1, 4) as u32,
            instances: fates.between(1, 3) as usize,
            threads: fates.between(1, 2) as usize,
            commit_interval_ms: [10, 100, 100, 1000][fates.below(4) as usize],
            steps: fates.between(60, 260),
            guarantee: if fates.chance(1, 6) { Guarantee::AtLeastOnce } else { Guarantee::ExactlyOnce },
        }
    }

    /// One instance to which nothing happens.
    pub(crate) fn calm(self) -> Self {
        Self { instances: 1, threads: 1, standby_replicas: 0, ..self }
    }
}

/// One instance: its disk outlives it.
struct Instance {
    number: usize,
    disk: Disk,
    /// None: it is dead.
    daemon: Option<Stepped>,
    /// It stands still until then.
    paused_until_ms: i64,
    wants_in: bool,
}

pub(crate) struct World {
    pub(crate) fates: Fates,
    pub(crate) history: History,
    pub(crate) net: Net,
    pub(crate) registry: Arc<SimRegistry>,
    pub(crate) workload: Arc<Workload>,
    pub(crate) shape: Shape,
    instances: Vec<Instance>,
    producer: Box<dyn Producer>,
    to_come: std::vec::IntoIter<Outgoing>,
    /// Another member of the group, who does no work.
    rival: Option<Box<dyn Consumer>>,
}

const WAIT: Duration = Duration::from_secs(10);

/// Rounds in which a healed world must come to rest.
const ROUNDS_MAX: usize = 4000;

impl World {
    pub(crate) fn new(fates: &Fates, workload: &Arc<Workload>, shape: Shape) -> Self {
        let history = History::default();
        let net = Net::new(fates, &history);
        let registry = Arc::new(SimRegistry { fates: fates.clone(), local: LocalRegistry::in_memory() });
        let records = workload.records(&net.local, &registry.local, shape.partitions);
        let instance = |number| {
            fates.clock(number);
            Instance { number, disk: Disk::new(fates), daemon: None, paused_until_ms: 0, wants_in: true }
        };
        let mut world = Self {
            instances: (0..shape.instances).map(instance).collect(),
            producer: net.local.producer(&ProducerSettings::default()).unwrap(),
            to_come: records.into_iter(),
            fates: fates.clone(),
            history,
            net,
            registry,
            workload: Arc::clone(workload),
            shape,
            rival: None,
        };
        world.feed(workload.begun(shape.partitions));
        world
    }

    fn options(&self, instance: usize) -> Options {
        Options {
            application_id: self.workload.plan.application_id.to_string(),
            instance_id: format!("i{instance}"),
            guarantee: self.shape.guarantee,
            commit_interval: SpanMs(self.shape.commit_interval_ms),
            threads: self.shape.threads,
            state_dir: None,
            memory_budget_bytes: 64 << 20,
            first_start: FirstStart::Earliest,
            create_topics: true,
            replication_factor: None,
            default_partitions: self.shape.partitions,
            max_future: SpanMs(i64::MAX),
            session_timeout: Duration::from_millis(SESSION_MS as u64),
            transaction_timeout: Duration::from_millis(TRANSACTION_MS as u64),
            deployed: None,
            allow_breaking_readers: false,
            restore_bytes_per_second: None,
            standby_replicas: self.shape.standby_replicas,
            keep_set_aside: 1,
        }
    }

    fn ground(&self, instance: usize) -> Ground {
        let eyes = Eyes { instance, history: self.history.clone(), fates: self.fates.clone() };
        Ground {
            broker: Arc::new(self.net.clone()),
            registry: Arc::clone(&self.registry) as Arc<dyn Registry>,
            clock: self.fates.clock(instance),
            backends: Arc::new(self.instances[instance].disk.clone()),
            witness: Some(Arc::new(eyes)),
            turn_records: self.shape.turn_records,
        }
    }

    /// Everything happens, then peace comes; what is wrong with it is returned.
    pub(crate) fn live(&mut self) -> Result<(), String> {
        let _steps = Steps::of(&self.fates);
        for _ in 0..self.shape.steps {
            self.step();
        }
        self.heal();
        self.come_to_rest()
    }

    fn step(&mut self) {
        let fates = self.fates.clone();
        fates.pass(fates.between(0, 60) as i64);
        if fates.chance(1, 30) {
            fates.pass(fates.between(500, 9_000) as i64);
        }
        self.net.expire();
        if fates.chance(1, 3) {
            self.feed(fates.between(1, 6) as usize);
        }
        self.befall();
        self.wait_upon_rival();
        let number = fates.below(self.instances.len() as u64) as usize;
        let thread = fates.below(self.shape.threads as u64) as usize;
        self.instance_turn(number, thread);
    }

    fn feed(&mut self, count: usize) {
        for record in self.to_come.by_ref().take(count) {
            self.producer.send_and_wait(record, WAIT).unwrap();
        }
    }

    /// What happens to instances, broker and registry from outside.
    fn befall(&mut self) {
        let fates = self.fates.clone();
        let number = fates.below(self.instances.len() as u64) as usize;
        if fates.strikes(Fault::Crash, 1, 60) {
            self.die(number, "between two turns");
        }
        if fates.strikes(Fault::Pause, 1, 40) {
            let ms = fates.between(1, 20_000) as i64;
            self.instances[number].paused_until_ms = fates.now_ms() + ms;
            fates.note(|| format!("instance {number} stands still for {ms} ms"));
        }
        if self.instances[number].paused_until_ms > fates.now_ms() + SESSION_MS / 2 && fates.chance(1, 4) {
            self.net.put_out(number);
        }
        if fates.strikes(Fault::Rebalance, 1, 25) {
            self.rival = match self.rival.take() {
                Some(_) => None,
                None => Some(self.rival()),
            };
        }
        if fates.strikes(Fault::Rebalance, 1, 60) {
            self.net.put_out(number);
        }
        if fates.strikes(Fault::Outage, 1, 80) {
            fates.take_down(fates.between(1, 40_000) as i64);
        }
        if fates.strikes(Fault::CoordinatorMove, 1, 50) {
            fates.take_coordinators_away(fates.between(1, 20_000) as i64);
            if fates.chance(1, 3) {
                (0..self.instances.len()).for_each(|number| self.net.put_out(number));
            }
        }
        if fates.strikes(Fault::RegistryDown, 1, 40) {
            fates.take_registry_down(fates.between(1, 5_000) as i64);
        }
        if fates.strikes(Fault::ClockJump, 1, 30) {
            let ms = fates.between(0, 200_000) as i64 - 100_000;
            fates.skew(number, if fates.chance(1, 10) { ms * 1000 } else { ms });
        }
        if fates.knows(Fault::Disk) && fates.chance(1, 60) {
            fates.spoil_disks(fates.between(1, 500) as i64);
        }
        if fates.strikes(Fault::Restart, 1, 40) {
            self.stop(number);
        }
    }

    /// One turn of a thread; an instance that is dead may be started instead.
    fn instance_turn(&mut self, number: usize, thread: usize) {
        let fates = self.fates.clone();
        if self.instances[number].paused_until_ms > fates.now_ms() {
            return;
        }
        let actor = Actor { instance: number, thread };
        let moments = fates.knows(Fault::Crash) && fates.chance(1, 12);
        let moments = moments.then(|| fates.below(60));
        if self.instances[number].daemon.is_none() {
            if self.instances[number].wants_in && (fates.is_healed() || fates.chance(1, 3)) {
                self.start(actor, moments);
            }
            return;
        }
        let now = fates.wall(number);
        fates.begin_turn(actor, moments);
        let Some(daemon) = &mut self.instances[number].daemon else { return };
        let turned = catch_unwind(AssertUnwindSafe(|| daemon.turn(thread, now)));
        fates.end_turn();
        match turned {
            Ok(()) => {}
            Err(payload) if payload.is::<Died>() => self.die(number, "in its turn"),
            Err(payload) => std::panic::resume_unwind(payload),
        }
        let stopped = self.instances[number].daemon.as_ref().map(|daemon| (daemon.ended(), daemon.stopped()));
        if let Some((ended, stopped)) = stopped
            && (!ended.is_empty() || !stopped.is_empty() && fates.chance(1, 10))
        {
            fates.note(|| format!("instance {number} has stopped: {ended:?} {stopped:?}"));
            self.excuse(&ended, &stopped);
            self.die(number, "by its operator");
        }
    }

    /// A task or a thread that stops needs a reason.
    fn excuse(&self, ended: &[(tidemill::error::Kind, String)], stopped: &[(String, String)]) {
        let told = ended.iter().map(|(_, why)| why).chain(stopped.iter().map(|(_, why)| why));
        for why in told {
            assert!(why.contains("the disk fails"), "something stopped for no reason: {why}");
        }
    }

    fn start(&mut self, actor: Actor, moments: Option<u64>) {
        let number = actor.instance;
        self.fates.begin_turn(actor, moments);
        let (plan, now) = (Arc::clone(&self.workload.plan), self.fates.wall(number));
        let (ground, options) = (self.ground(number), self.options(number));
        let started = catch_unwind(AssertUnwindSafe(|| Stepped::start(plan, ground, options, now)));
        self.fates.end_turn();
        match started {
            Ok(Ok(daemon)) => self.instances[number].daemon = Some(daemon),
            // The broker or the registry is away: a supervisor tries again.
            Ok(Err(error)) => {
                assert_eq!(error.kind(), tidemill::error::Kind::Retry, "{error}");
                self.fates.note(|| format!("instance {number} does not start: {error}"));
            }
            Err(payload) if payload.is::<Died>() => self.die(number, "at its start"),
            Err(payload) => std::panic::resume_unwind(payload),
        }
    }

    /// An instance's memory is gone; nobody runs its shutdown.
    fn die(&mut self, number: usize, how: &str) {
        let Some(daemon) = self.instances[number].daemon.take() else { return };
        self.fates.note(|| format!("instance {number} is dead, {how}"));
        drop(daemon);
        self.history.died(number);
        self.instances[number].disk.crash();
        self.instances[number].paused_until_ms = 0;
        if self.fates.strikes(Fault::LostDisk, 1, 4) {
            self.instances[number].disk.lose();
        }
    }

    fn stop(&mut self, number: usize) {
        if self.instances[number].paused_until_ms > self.fates.now_ms() {
            return;
        }
        let Some(daemon) = self.instances[number].daemon.take() else { return };
        let moments = self.fates.strikes(Fault::Crash, 1, 5).then(|| self.fates.below(30));
        self.fates.begin_turn(Actor { instance: number, thread: 0 }, moments);
        let now = self.fates.wall(number);
        let stopped = catch_unwind(AssertUnwindSafe(|| daemon.stop(now)));
        self.fates.end_turn();
        self.history.died(number);
        match stopped {
            // What could not be committed or written is found again.
            Ok(outcome) => self.fates.note(|| format!("instance {number} stopped: {outcome:?}")),
            Err(payload) if payload.is::<Died>() => {}
            Err(payload) => std::panic::resume_unwind(payload),
        }
        self.instances[number].disk.crash();
    }

    fn rival(&self) -> Box<dyn Consumer> {
        let topics: Vec<_> = {
            let subs = self.workload.plan.sub_topologies.iter();
            subs.flat_map(|sub| sub.sources.iter().map(|source| source.topic.clone())).collect()
        };
        let mut rival = self.net.local.consumer(&self.group()).unwrap();
        rival.subscribe(&topics).unwrap();
        rival
    }

    pub(crate) fn group(&self) -> ConsumerSettings {
        ConsumerSettings {
            group: Some(GroupSettings {
                group_id: self.workload.plan.application_id.to_string(),
                instance_id: None,
                session_timeout: WAIT,
            }),
            isolation: Isolation::ReadCommitted,
            prefetch_bytes_max: 1 << 20,
            end_wait: None,
        }
    }

    /// The rival takes what it is given, and gives it back.
    fn wait_upon_rival(&mut self) {
        let Some(rival) = &mut self.rival else { return };
        let mut events = Vec::new();
        rival.poll(Duration::ZERO, &mut events).unwrap();
        for event in events {
            match event {
                Event::Assigned(partitions) => {
                    let end = |place: &TopicPartition| (place.clone(), tidemill::base::ids::Offset(0));
                    rival.assign(&partitions.iter().map(end).collect::<Vec<_>>()).unwrap();
                    rival.pause(&partitions).unwrap();
                }
                Event::Revoked(partitions) => rival.unassign(&partitions).unwrap(),
                Event::Lost(_) | Event::Records(_) | Event::EndOfPartition { .. } => {}
            }
        }
    }

    fn heal(&mut self) {
        self.fates.note(|| "peace".to_owned());
        self.fates.heal();
        self.rival = None;
        self.feed(usize::MAX);
        for number in 0..self.instances.len() {
            self.instances[number].paused_until_ms = 0;
            // Operators restart what has stopped; the others go on as they are.
            let stopped = self.instances[number].daemon.as_ref().is_some_and(|daemon| !daemon.stopped().is_empty());
            if stopped {
                self.die(number, "by its operator");
            }
        }
    }

    fn come_to_rest(&mut self) -> Result<(), String> {
        let mut quiet = 0;
        let mut before = Vec::new();
        for _ in 0..ROUNDS_MAX {
            self.fates.pass(50);
            self.net.expire();
            for number in 0..self.instances.len() {
                for thread in 0..self.shape.threads {
                    self.instance_turn(number, thread);
                }
            }
            let done: Vec<_> =
                self.instances.iter().map(|instance| instance.daemon.as_ref().map(Stepped::done_so_far)).collect();
            let at_rest = self.net.is_settled()
                && self.instances.iter().all(|instance| {
                    let now = self.fates.wall(instance.number);
                    instance.daemon.as_ref().is_some_and(|daemon| daemon.is_at_rest(now))
                });
            quiet = if at_rest && done == before { quiet + 1 } else { 0 };
            before = done;
            if quiet == 3 {
                return Ok(());
            }
        }
        let told: Vec<String> = self
            .instances
            .iter()
            .map(|instance| match &instance.daemon {
                None => format!("instance {} is dead", instance.number),
                Some(daemon) => format!(
                    "instance {} has {:?}, stopped {:?}, ended {:?}",
                    instance.number,
                    daemon.tasks(),
                    daemon.stopped(),
                    daemon.ended()
                ),
            })
            .collect();
        Err(format!("no rest after {ROUNDS_MAX} rounds of peace: {}", told.join("; ")))
    }

    /// Ends every instance, as operators do, and returns the disks.
    pub(crate) fn end(&mut self) -> Vec<Disk> {
        for number in 0..self.instances.len() {
            self.stop(number);
        }
        self.instances.iter().map(|instance| instance.disk.clone()).collect()
    }

    pub(crate) fn disks(&self) -> Vec<Disk> {
        self.instances.iter().map(|instance| instance.disk.clone()).collect()
    }

    /// A daemon of the same plan that nothing is done with.
    pub(crate) fn onlooker(&self) -> Stepped {
        let ground = Ground { witness: None, broker: Arc::new(self.net.local.clone()), ..self.ground(0) };
        let now = Timestamp(START_MS);
        Stepped::start(Arc::clone(&self.workload.plan), ground, self.options(0), now).unwrap()
    }
}
