//! What befalls a simulated world, by seed: its one source of chance, its clock, which faults it knows, when a daemon dies, and the
//! trace of all of it.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::fmt;
use std::rc::Rc;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tidemill::base::rng::Rng;
use tidemill::base::time::Timestamp;
use tidemill::runtime::Clock;

/// Where every world begins.
pub(crate) const START_MS: i64 = 1_700_000_000_000;

/// A kind of fault. Each seed knows some of them only, so that rare meetings of two are not drowned by the rest.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Fault {
    /// A daemon dies at a step, or at a call to broker or disk, and loses what it had not flushed.
    Crash,
    /// A daemon's disk is gone, too.
    LostDisk,
    /// A member is put out of the group while its process stands still.
    Pause,
    /// Somebody else uses the daemon's names.
    Fence,
    /// The group starts over: members come and go.
    Rebalance,
    /// A commit is not answered, done or not.
    UnknownOutcome,
    /// The broker says that a transaction must be aborted.
    Abort,
    /// A call fails, and may be made again.
    Unavailable,
    /// The whole broker is away for a while.
    Outage,
    /// Records come late, partitions overtake each other.
    Delay,
    /// A commit takes its time.
    SlowCommit,
    /// The client takes a part of what it is given.
    FullQueue,
    /// The wall clock leaps.
    ClockJump,
    /// The registry is away for a while.
    RegistryDown,
    /// A disk cannot be read or written for a while.
    Disk,
    /// A stop and a new start, as a rollout does.
    Restart,
    /// The group's and the transactions' coordinators are away for a while, where records come and go; the new ones may not know the
    /// members.
    CoordinatorMove,
}

impl Fault {
    pub(crate) const ALL: [Self; 17] = [
        Self::Crash,
        Self::LostDisk,
        Self::Pause,
        Self::Fence,
        Self::Rebalance,
        Self::UnknownOutcome,
        Self::Abort,
        Self::Unavailable,
        Self::Outage,
        Self::Delay,
        Self::SlowCommit,
        Self::FullQueue,
        Self::ClockJump,
        Self::RegistryDown,
        Self::Disk,
        Self::Restart,
        Self::CoordinatorMove,
    ];
}

/// Unwinds out of a daemon that dies.
#[derive(Debug)]
pub(crate) struct Died;

/// One stream thread of one daemon.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Actor {
    pub(crate) instance: usize,
    pub(crate) thread: usize,
}

impl Actor {
    pub(crate) fn is(self, instance: usize, thread: usize) -> bool {
        self.instance == instance && self.thread == thread
    }
}

/// Shared by everything that simulates.
#[derive(Clone)]
pub(crate) struct Fates(Arc<Mutex<Inner>>);

struct Inner {
    rng: Rng,
    now_ms: i64,
    known: Vec<Fault>,
    /// Nothing befalls anybody any more.
    healed: bool,
    struck: BTreeMap<Fault, u64>,
    trace: Option<Vec<String>>,
    /// Whose turn it is, and the moments that it has left to live.
    actor: Actor,
    moments_left: Option<u64>,
    /// Where the last one died.
    died_at: &'static str,
    /// By instance: its clock, and how far it is off.
    clocks: Vec<(Clock, i64)>,
    down_until_ms: i64,
    coordinators_away_until_ms: i64,
    registry_down_until_ms: i64,
    bad_disks_until_ms: i64,
}

impl fmt::Debug for Fates {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Fates").finish_non_exhaustive()
    }
}

impl Fates {
    /// The fates of a seed; `traced` keeps every event as text.
    pub(crate) fn new(seed: u64, traced: bool) -> Self {
        let mut rng = Rng::new(seed);
        let share = 1 + rng.below(4);
        let others = Fault::ALL.into_iter().filter(|fault| *fault != Fault::CoordinatorMove);
        let mut known: Vec<Fault> = others.filter(|_| rng.chance(share, 5)).collect();
        // Not of the same chances, so that the other seeds stay what they were before it was known.
        if Rng::new(seed ^ 0xC0_0D).chance(1, 4) {
            known.push(Fault::CoordinatorMove);
        }
        Self(Arc::new(Mutex::new(Inner {
            rng,
            now_ms: START_MS,
            known,
            healed: false,
            struck: BTreeMap::new(),
            trace: traced.then(Vec::new),
            actor: Actor::default(),
            moments_left: None,
            died_at: "",
            clocks: Vec::new(),
            down_until_ms: 0,
            coordinators_away_until_ms: 0,
            registry_down_until_ms: 0,
            bad_disks_until_ms: 0,
        })))
    }

    /// The fates of a world to which nothing happens.
    pub(crate) fn calm(seed: u64) -> Self {
        let fates = Self::new(seed, false);
        fates.lock().healed = true;
        fates
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn below(&self, bound: u64) -> u64 {
        self.lock().rng.below(bound)
    }

    pub(crate) fn between(&self, least: u64, most: u64) -> u64 {
        least + self.below(most - least + 1)
    }

    /// Chance of what is no fault.
    pub(crate) fn chance(&self, numerator: u64, denominator: u64) -> bool {
        self.lock().rng.chance(numerator, denominator)
    }

    pub(crate) fn knows(&self, fault: Fault) -> bool {
        let inner = self.lock();
        !inner.healed && inner.known.contains(&fault)
    }

    /// Tells whether a fault strikes now, and counts it.
    pub(crate) fn strikes(&self, fault: Fault, numerator: u64, denominator: u64) -> bool {
        let mut inner = self.lock();
        let known = !inner.healed && inner.known.contains(&fault);
        let strikes = known && inner.rng.chance(numerator, denominator);
        if strikes {
            *inner.struck.entry(fault).or_default() += 1;
            inner.note(|| format!("fault {fault:?}"));
        }
        strikes
    }

    /// How often each fault struck.
    pub(crate) fn struck(&self) -> BTreeMap<Fault, u64> {
        self.lock().struck.clone()
    }

    pub(crate) fn note(&self, line: impl FnOnce() -> String) {
        self.lock().note(line);
    }

    pub(crate) fn trace(&self) -> Vec<String> {
        self.lock().trace.clone().unwrap_or_default()
    }

    /// From here on nothing happens; what lasted is over.
    pub(crate) fn heal(&self) {
        let mut inner = self.lock();
        inner.healed = true;
        (inner.down_until_ms, inner.coordinators_away_until_ms) = (0, 0);
        (inner.registry_down_until_ms, inner.bad_disks_until_ms) = (0, 0);
        for (_, skew_ms) in &mut inner.clocks {
            *skew_ms = 0;
        }
    }

    pub(crate) fn is_healed(&self) -> bool {
        self.lock().healed
    }

    pub(crate) fn now_ms(&self) -> i64 {
        self.lock().now_ms
    }

    /// Lets time pass, on all clocks.
    pub(crate) fn pass(&self, ms: i64) {
        let mut inner = self.lock();
        inner.now_ms += ms;
        let now_ms = inner.now_ms;
        for (clock, skew_ms) in &inner.clocks {
            clock.tell(Timestamp(now_ms + skew_ms));
        }
    }

    /// The clock of an instance.
    pub(crate) fn clock(&self, instance: usize) -> Clock {
        let mut inner = self.lock();
        while inner.clocks.len() <= instance {
            let clock = Clock::told(Timestamp(inner.now_ms));
            inner.clocks.push((clock, 0));
        }
        inner.clocks[instance].0.clone()
    }

    /// What an instance takes for the time.
    pub(crate) fn wall(&self, instance: usize) -> Timestamp {
        let inner = self.lock();
        Timestamp(inner.now_ms + inner.clocks.get(instance).map_or(0, |(_, skew_ms)| *skew_ms))
    }

    /// Puts an instance's clock forward or back.
    pub(crate) fn skew(&self, instance: usize, ms: i64) {
        let mut inner = self.lock();
        if let Some((_, skew_ms)) = inner.clocks.get_mut(instance) {
            *skew_ms = ms;
        }
    }

    /// It is an actor's turn, in which it dies after so many moments.
    pub(crate) fn begin_turn(&self, actor: Actor, moments: Option<u64>) {
        let mut inner = self.lock();
        inner.actor = actor;
        inner.moments_left = moments;
        inner.note(|| format!("turn {}.{}", actor.instance, actor.thread));
    }

    pub(crate) fn end_turn(&self) {
        self.lock().moments_left = None;
    }

    pub(crate) fn actor(&self) -> Actor {
        self.lock().actor
    }

    /// A moment at which a daemon may die: it does not come back from here then.
    pub(crate) fn moment(&self, what: &'static str) {
        let mut inner = self.lock();
        let Some(left) = inner.moments_left else { return };
        if left > 0 {
            inner.moments_left = Some(left - 1);
            return;
        }
        inner.moments_left = None;
        *inner.struck.entry(Fault::Crash).or_default() += 1;
        let actor = inner.actor;
        inner.died_at = what;
        inner.note(|| format!("instance {} dies at {what}", actor.instance));
        drop(inner);
        std::panic::resume_unwind(Box::new(Died));
    }

    /// Where the last daemon died that did.
    pub(crate) fn died_at(&self) -> &'static str {
        self.lock().died_at
    }

    pub(crate) fn take_down(&self, ms: i64) {
        let mut inner = self.lock();
        inner.down_until_ms = inner.now_ms + ms;
    }

    pub(crate) fn is_down(&self) -> bool {
        let inner = self.lock();
        inner.now_ms < inner.down_until_ms
    }

    /// Waits up to `wait_ms` while the broker is away, and tells whether it is there.
    pub(crate) fn wait_out(&self, wait_ms: i64) -> bool {
        let until_ms = self.lock().down_until_ms;
        self.wait_until(until_ms, wait_ms);
        !self.is_down()
    }

    /// Lets time pass until then, up to `wait_ms`.
    fn wait_until(&self, until_ms: i64, wait_ms: i64) {
        self.pass((until_ms - self.now_ms()).min(wait_ms).max(0));
    }

    pub(crate) fn take_coordinators_away(&self, ms: i64) {
        let mut inner = self.lock();
        inner.coordinators_away_until_ms = inner.now_ms + ms;
    }

    pub(crate) fn coordinators_are_away(&self) -> bool {
        self.now_ms() < self.without_coordinators_until_ms()
    }

    fn without_coordinators_until_ms(&self) -> i64 {
        let inner = self.lock();
        inner.down_until_ms.max(inner.coordinators_away_until_ms)
    }

    /// Waits up to `wait_ms` while there is no coordinator, and tells whether there is one.
    pub(crate) fn wait_for_coordinators(&self, wait_ms: i64) -> bool {
        self.wait_until(self.without_coordinators_until_ms(), wait_ms);
        !self.coordinators_are_away()
    }

    pub(crate) fn take_registry_down(&self, ms: i64) {
        let mut inner = self.lock();
        inner.registry_down_until_ms = inner.now_ms + ms;
    }

    pub(crate) fn registry_is_down(&self) -> bool {
        let inner = self.lock();
        inner.now_ms < inner.registry_down_until_ms
    }

    pub(crate) fn spoil_disks(&self, ms: i64) {
        let mut inner = self.lock();
        inner.bad_disks_until_ms = inner.now_ms + ms;
    }

    pub(crate) fn disks_are_bad(&self) -> bool {
        let inner = self.lock();
        inner.now_ms < inner.bad_disks_until_ms
    }
}

impl Inner {
    fn note(&mut self, line: impl FnOnce() -> String) {
        if let Some(trace) = &mut self.trace {
            trace.push(format!("{} {}", self.now_ms - START_MS, line()));
        }
    }
}

/// Lets the steps that the engine names be moments of this world, until dropped.
pub(crate) struct Steps;

impl Steps {
    pub(crate) fn of(fates: &Fates) -> Self {
        let fates = Rc::new(RefCell::new(fates.clone()));
        tidemill::crash::simulate(Some(Box::new(move |step| fates.borrow().moment(step.name()))));
        Self
    }
}

impl Drop for Steps {
    fn drop(&mut self) {
        tidemill::crash::simulate(None);
    }
}
