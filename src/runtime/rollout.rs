//! Two versions of a topology among the instances of one application: which instances may process. All that process have one shape, so
//! that nothing is processed by two at once. An instance with another shape than those that process waits until they have left, or is
//! refused where its results could not be read by those who read theirs.
//!
//! ```text
//! Waits ──nobody of another shape processes──▶ Claims ──its claim is read back, and is the first──▶ Processes
//!   ▲                                            │ an earlier claim of another shape                   │ silent for long
//!   └────────────────────────────────────────────┴──────────────◀── claims anew ───────────────────────┘
//! ```
//!
//! Claims stand in the topic of the instances, whose one order decides between two that claim at once.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use tracing::{info, warn};

use crate::base::ids::Offset;
use crate::base::time::Timestamp;
use crate::broker;
use crate::error::codes;
use crate::instances::{Entry, Roster};
use crate::limits;
use crate::plan::{Change, Deployed, Plan, Verdict, compare, worst};
use crate::runtime::Error;
use crate::runtime::shared::Shared;

/// Whether the stream threads of this instance may process.
#[derive(Debug)]
pub(super) struct Gate {
    open: AtomicBool,
    /// When the instance, by right of its claim, last spoke to the others, by the wall clock in milliseconds; the largest number where
    /// there are no others.
    spoke: AtomicI64,
    state: Mutex<Closed>,
}

/// Why a gate is closed.
#[derive(Clone, Debug, Default)]
struct Closed {
    /// What it waits for.
    waits: Option<String>,
    /// Why it will never open.
    refused: Option<String>,
}

impl Default for Gate {
    /// Makes a gate that is open, of an instance that has nobody beside it.
    fn default() -> Self {
        Self { open: AtomicBool::new(true), spoke: AtomicI64::new(i64::MAX), state: Mutex::default() }
    }
}

impl Gate {
    /// Closes it until the instance has found its place among the others.
    pub(super) fn close(&self, waits: &str) {
        self.state().waits = Some(waits.to_owned());
        self.open.store(false, Ordering::Release);
    }

    fn open(&self) {
        *self.state() = Closed::default();
        self.open.store(true, Ordering::Release);
    }

    fn refuse(&self, why: String) {
        self.state().refused = Some(why);
        self.open.store(false, Ordering::Release);
    }

    /// Tells whether it is open.
    ///
    /// # Errors
    /// It never will be.
    pub(super) fn is_open(&self) -> Result<bool, Error> {
        if self.open.load(Ordering::Acquire) {
            return Ok(true);
        }
        match self.state().refused.clone() {
            Some(message) => Err(Error::Refused { code: codes::SHAPE_BREAKS_READERS, message }),
            None => Ok(false),
        }
    }

    /// Goes on only while it is open.
    ///
    /// # Errors
    /// It is closed: the thread joins anew, and waits before it does.
    pub(super) fn pass(&self) -> Result<(), Error> {
        if self.is_open()? {
            return Ok(());
        }
        let message = format!("instances of another topology process ({})", codes::SHAPE_WAITS);
        Err(broker::Error::Fenced { message }.into())
    }

    /// Goes on only while it is open for sure: after a silence the others may have taken over, and what they said has to be read first.
    ///
    /// # Errors
    /// As [`Gate::pass`].
    pub(super) fn pass_for_sure(&self, now: Timestamp) -> Result<(), Error> {
        self.pass()?;
        if is_lapsed(self.spoke.load(Ordering::Relaxed), now) {
            let message = "this instance was silent, and reads first what the others said meanwhile".to_owned();
            return Err(broker::Error::Fenced { message }.into());
        }
        Ok(())
    }

    /// Says what it waits for; none while it is open.
    pub(super) fn waits_for(&self) -> Option<String> {
        if self.open.load(Ordering::Acquire) { None } else { self.state().waits.clone() }
    }

    fn state(&self) -> std::sync::MutexGuard<'_, Closed> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Tells whether a word is so old that the others may soon take the instance for dead.
fn is_lapsed(spoke_ms: i64, now: Timestamp) -> bool {
    now.0.saturating_sub(spoke_ms) > limits::CLAIM_LAPSE_MS
}

/// What this instance has of the right to process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Part {
    /// Its word that it waits is at this offset; none before it was said.
    Waits(Option<Offset>),
    Claims(Option<Offset>),
    /// Its claim.
    Processes(Offset),
}

/// This instance's way to process among the others.
pub(super) struct Rollout {
    instance: String,
    plan: Arc<Plan>,
    gate: Arc<Gate>,
    /// Whether it may take the place of a shape whose readers cannot read its results.
    breaks_readers: bool,
    part: Part,
    /// When it spoke last.
    spoke: Timestamp,
    /// By fingerprint: what `plan` says of the way from there to here; none while the topology there is not known.
    verdicts: BTreeMap<String, Option<Verdict>>,
    /// What was said last about waiting.
    said: String,
}

/// What the others have to do with this instance.
#[derive(Debug, PartialEq, Eq)]
struct Standing {
    /// Where this instance has claimed its place.
    claim: Option<Offset>,
    /// Instances of other shapes that process, with the verdict.
    others: Vec<(String, Option<Verdict>)>,
    /// One of them claimed before this one.
    preceded: bool,
}

impl Rollout {
    pub(super) fn new(shared: &Shared) -> Self {
        Self {
            instance: shared.options.instance_id.clone(),
            plan: Arc::clone(&shared.plan),
            gate: Arc::clone(&shared.gate),
            breaks_readers: shared.options.allow_breaking_readers,
            part: Part::Waits(None),
            spoke: Timestamp(0),
            verdicts: BTreeMap::new(),
            said: String::new(),
        }
    }

    /// Returns what the instance says of itself: whether it processes or claims to, and where it claimed it.
    pub(super) fn word(&self) -> (bool, Option<i64>) {
        match self.part {
            Part::Waits(_) => (false, None),
            Part::Claims(_) => (true, None),
            Part::Processes(claim) => (true, Some(claim.0)),
        }
    }

    /// Its word is in the topic.
    pub(super) fn spoke(&mut self, offset: Offset, now: Timestamp) {
        self.spoke = now;
        match &mut self.part {
            Part::Waits(said) | Part::Claims(said) => {
                said.get_or_insert(offset);
            }
            // A claim is worth nothing before it was read back.
            Part::Processes(_) => self.gate.spoke.store(now.0, Ordering::Relaxed),
        }
    }

    /// Before it speaks: after a silence others may have claimed, and its own claim counts no longer.
    pub(super) fn wakes(&mut self, now: Timestamp) {
        if matches!(self.part, Part::Processes(_) | Part::Claims(Some(_))) && is_lapsed(self.spoke.0, now) {
            info!("this instance was silent for long: it claims its place anew");
            self.part = Part::Claims(None);
        }
    }

    /// The topic was read up to `read`: decides what follows from it.
    pub(super) fn heard(&mut self, roster: &Roster, read: Offset) {
        let standing = self.standing(roster);
        match self.part {
            Part::Waits(Some(said)) if said <= read => match standing.others.is_empty() {
                true => self.part = Part::Claims(None),
                false => self.wait(&standing),
            },
            Part::Claims(Some(said)) if said > read => {}
            Part::Claims(Some(_)) | Part::Processes(_) if standing.preceded => {
                self.part = Part::Waits(None);
                self.wait(&standing);
            }
            Part::Claims(Some(said)) => {
                self.part = Part::Processes(standing.claim.unwrap_or(said));
                self.said.clear();
                self.gate.spoke.store(self.spoke.0, Ordering::Relaxed);
                self.gate.open();
            }
            Part::Waits(_) | Part::Claims(_) | Part::Processes(_) => {}
        }
    }

    fn standing(&mut self, roster: &Roster) -> Standing {
        let ours = format!("{:016x}", self.plan.fingerprint);
        // As all others see it, who decide by it, too.
        let mine = roster.entry(&self.instance).and_then(|entry| entry.claim);
        let processing = |entry: &&Entry| entry.said.processes && entry.said.instance != self.instance;
        let others: Vec<&Entry> =
            roster.living().filter(processing).filter(|entry| entry.said.fingerprint != ours).collect();
        let mut standing = Standing { claim: mine, others: Vec::new(), preceded: false };
        for entry in others {
            let verdict = self.verdict(roster, &entry.said.fingerprint);
            if verdict != Some(Verdict::Same) {
                standing.preceded |= mine.is_none_or(|claim| entry.claim.is_some_and(|theirs| theirs < claim));
                standing.others.push((entry.said.instance.clone(), verdict));
            }
        }
        standing
    }

    /// What `plan` says of the way from a shape to this one.
    fn verdict(&mut self, roster: &Roster, fingerprint: &str) -> Option<Verdict> {
        if let Some(Some(known)) = self.verdicts.get(fingerprint) {
            return Some(*known);
        }
        let found = changes(roster, fingerprint, &self.plan).map(|changes| worst(&changes));
        self.verdicts.insert(fingerprint.to_owned(), found);
        found
    }

    fn wait(&mut self, standing: &Standing) {
        let names: Vec<&str> = standing.others.iter().map(|(instance, _)| instance.as_str()).collect();
        let verdict = standing.others.iter().map(|(_, verdict)| *verdict).max().flatten();
        let names = names.join(", ");
        if verdict == Some(Verdict::BreaksReaders) && !self.breaks_readers {
            let why = refusal(&names, "");
            self.gate.refuse(why);
            return;
        }
        let said = verdict.map_or("not known here", Verdict::as_str);
        let waits =
            format!("waits until the instances of another topology have left: {names} ({})", codes::SHAPE_WAITS);
        self.gate.close(&waits);
        if self.said != waits {
            warn!(instances = names, verdict = said, code = %codes::SHAPE_WAITS, "waits until the instances of another topology have left");
            self.said = waits;
        }
    }
}

/// What becomes of things on the way from a shape to a plan; none where the shape's topology is not known.
fn changes(roster: &Roster, fingerprint: &str, plan: &Plan) -> Option<Vec<Change>> {
    let deployed = Deployed::decode(roster.shape(fingerprint)?).and_then(|deployed| deployed.plan());
    match deployed {
        Ok(theirs) => Some(compare(&theirs, plan)),
        Err(why) => {
            warn!(fingerprint, why, "the topology that others run cannot be compared");
            None
        }
    }
}

/// Refuses a plan whose results could not be read by the readers of those that process now; before anything is made or registered.
///
/// # Errors
/// It breaks readers, and nobody said that it may.
pub(super) fn refuse_what_breaks_readers(roster: &Roster, instance: &str, plan: &Plan) -> Result<(), Error> {
    let ours = format!("{:016x}", plan.fingerprint);
    for entry in roster.living().filter(|entry| entry.said.processes && entry.said.instance != instance) {
        if entry.said.fingerprint == ours {
            continue;
        }
        let changes = changes(roster, &entry.said.fingerprint, plan).unwrap_or_default();
        let broken = changes.iter().filter(|change| change.verdict == Verdict::BreaksReaders);
        let broken: Vec<String> =
            broken.map(|change| format!("`{}`: {}", change.name, change.notes.join("; "))).collect();
        if !broken.is_empty() {
            let message = refusal(&entry.said.instance, &broken.join(". "));
            return Err(Error::Refused { code: codes::SHAPE_BREAKS_READERS, message });
        }
    }
    Ok(())
}

fn refusal(instances: &str, broken: &str) -> String {
    let what = if broken.is_empty() { String::new() } else { format!(": {broken}") };
    format!(
        "this topology breaks readers of what {instances} of the same application writes{what}; `allow_breaking_readers = true` has it wait \
         for those to leave instead ({})",
        codes::SHAPE_BREAKS_READERS
    )
}

impl std::fmt::Debug for Rollout {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Rollout").field("part", &self.part).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::base::record::{Headers, Record};
    use crate::base::rng::Rng;
    use crate::instances::Announcement;
    use crate::topology::Sources;

    const SCHEMA: &str =
        r#"{"type": "record", "name": "Note", "namespace": "n", "fields": [{"name": "n", "type": "long"}]}"#;

    fn deployed(select: &str) -> Deployed {
        let text = format!(
            "[topology]\nformat = 1\napplication_id = \"notes\"\n\n[stream.notes]\ntopic = \"notes\"\nschemas = [\"Note.avsc\"]\n\
             value_format = \"json\"\n\n[aggregate.counted]\nfrom = \"notes\"\nselect = {{ {select} }}\n\n[sink.out]\nfrom = \"counted\"\n\
             topic = \"out\"\nrecord = \"n.Out\"\n"
        );
        let sources = Sources::default().with_file("app.toml", &text).with_schema("Note.avsc", SCHEMA);
        Deployed::new(&sources, None, &BTreeMap::new())
    }

    const EARLIER: &str = "notes = 'count()', sum = 'sum(value.n)'";
    const LATER: &str = "notes = 'count()', sum = 'sum(value.n)', most = 'max(value.n)'";
    const BREAKING: &str = "notes = 'count()'";

    /// An instance as its thread drives it.
    struct Instance {
        rollout: Rollout,
        roster: Roster,
        read: usize,
        said: Option<(Announcement, i64)>,
    }

    /// Instances on one topic.
    struct World {
        log: Vec<Record>,
        now: i64,
        instances: BTreeMap<String, Instance>,
    }

    impl World {
        fn new() -> Self {
            Self { log: Vec::new(), now: 1_000_000, instances: BTreeMap::new() }
        }

        fn start(&mut self, name: &str, plan: &Arc<Plan>, breaks_readers: bool) {
            let gate = Arc::new(Gate::default());
            gate.close("begins");
            let rollout = Rollout {
                instance: name.to_owned(),
                plan: Arc::clone(plan),
                gate,
                breaks_readers,
                part: Part::Waits(None),
                spoke: Timestamp(0),
                verdicts: BTreeMap::new(),
                said: String::new(),
            };
            let instance = Instance { rollout, roster: Roster::default(), read: 0, said: None };
            self.instances.insert(name.to_owned(), instance);
        }

        fn write(&mut self, key: &str, value: Option<Vec<u8>>) -> Offset {
            let offset = Offset(self.log.len() as i64);
            let (key, value) = (Some(Bytes::from(key.to_owned())), value.map(Bytes::from));
            let (timestamp, headers) = (Timestamp(self.now), Headers::default());
            self.log.push(Record { offset, timestamp, key, value, headers });
            offset
        }

        fn tell(&mut self, deployed: &Deployed) {
            let fingerprint = format!("{:016x}", deployed.plan().unwrap().fingerprint);
            self.write(&Roster::shape_key(&fingerprint), deployed.encode());
        }

        /// One round of an instance; it reads so many records at most.
        fn turn(&mut self, name: &str, reads: usize) {
            let now = self.now;
            let instance = self.instances.get_mut(name).unwrap();
            instance.rollout.wakes(Timestamp(now));
            let (processes, claim) = instance.rollout.word();
            let says = Announcement {
                instance: name.to_owned(),
                http: None,
                fingerprint: format!("{:016x}", instance.rollout.plan.fingerprint),
                version: String::new(),
                threads: 1,
                processes,
                claim,
                active: [].into(),
                standby: BTreeMap::new(),
            };
            let due = |(said, at): &(Announcement, i64)| *said != says || now - at >= limits::INSTANCE_HEARTBEAT_MS;
            if instance.said.as_ref().is_none_or(due) {
                let offset = self.write(name, Some(says.encode()));
                let instance = self.instances.get_mut(name).unwrap();
                instance.rollout.spoke(offset, Timestamp(now));
                instance.said = Some((says, now));
            }
            let Self { log, instances, .. } = self;
            let instance = instances.get_mut(name).unwrap();
            for record in log.iter().skip(instance.read).take(reads) {
                instance.roster.take(record).unwrap();
                instance.read += 1;
            }
            if let Some(read) = instance.read.checked_sub(1) {
                instance.rollout.heard(&instance.roster, Offset(read as i64));
            }
        }

        /// All have their turn, some times over, and hear all there is.
        fn settle(&mut self) {
            for _ in 0..8 {
                self.now += 100;
                let names: Vec<String> = self.instances.keys().cloned().collect();
                names.iter().for_each(|name| self.turn(name, usize::MAX));
            }
        }

        fn pass(&mut self, ms: i64) {
            let end = self.now + ms;
            while self.now < end {
                self.settle();
            }
        }

        fn processing(&self) -> Vec<&str> {
            let may = |instance: &Instance| instance.rollout.gate.pass_for_sure(Timestamp(self.now)).is_ok();
            self.instances.iter().filter(|(_, instance)| may(instance)).map(|(name, _)| name.as_str()).collect()
        }

        /// Invariant: who may process for sure has one shape.
        fn check(&self) {
            let shapes = self.processing().into_iter().map(|name| self.instances[name].rollout.plan.fingerprint);
            let shapes: std::collections::BTreeSet<u64> = shapes.collect();
            assert!(shapes.len() <= 1, "{:?} process", self.processing());
        }
    }

    fn plan(select: &str) -> Arc<Plan> {
        Arc::new(deployed(select).plan().unwrap())
    }

    #[test]
    fn another_shape_waits_for_those_that_process_to_leave_or_to_fall_silent() {
        let (earlier, later) = (plan(EARLIER), plan(LATER));
        let mut world = World::new();
        world.start("a", &earlier, false);
        world.start("b", &earlier, false);
        world.settle();
        assert_eq!(world.processing(), ["a", "b"]);
        world.start("c", &later, false);
        world.settle();
        assert_eq!(world.processing(), ["a", "b"]);
        let waits = world.instances["c"].rollout.gate.waits_for().unwrap();
        assert!(waits.contains(": a, b (E0614)"), "{waits}");
        // One of the earlier ones that comes back goes beside the other.
        world.instances.remove("a");
        world.start("a", &earlier, false);
        world.settle();
        assert_eq!(world.processing(), ["a", "b"]);
        world.instances.remove("a");
        world.write("a", None);
        world.settle();
        assert_eq!(world.processing(), ["b"]);
        world.instances.remove("b");
        world.pass(limits::INSTANCE_SILENCE_MAX_MS - 4000);
        assert_eq!(world.processing(), <[&str; 0]>::default());
        world.pass(8000);
        assert_eq!(world.processing(), ["c"]);
    }

    #[test]
    fn what_breaks_readers_is_refused_unless_it_may_and_before_it_begins() {
        let (earlier, breaking) = (plan(EARLIER), plan(BREAKING));
        let mut world = World::new();
        world.tell(&deployed(EARLIER));
        world.start("a", &earlier, false);
        world.settle();
        world.start("b", &breaking, false);
        world.start("c", &breaking, true);
        world.settle();
        let refused = world.instances["b"].rollout.gate.is_open().unwrap_err().to_string();
        assert!(refused.contains("E0613"), "{refused}");
        assert!(!world.instances["c"].rollout.gate.is_open().unwrap());
        let roster = &world.instances["c"].roster;
        let error = refuse_what_breaks_readers(roster, "d", &breaking).unwrap_err().to_string();
        assert!(error.contains("`out`") && error.contains('a'), "{error}");
        assert!(refuse_what_breaks_readers(roster, "d", &plan(LATER)).is_ok());
        assert!(refuse_what_breaks_readers(roster, "a", &breaking).is_ok(), "nobody is beside it");
    }

    #[test]
    fn whoever_was_silent_claims_anew_and_waits_where_others_took_over() {
        let (earlier, later) = (plan(EARLIER), plan(LATER));
        let mut world = World::new();
        world.start("a", &earlier, false);
        world.settle();
        world.start("b", &later, false);
        world.settle();
        let frozen = world.instances.remove("a").unwrap();
        world.pass(limits::INSTANCE_SILENCE_MAX_MS + 2000);
        world.instances.insert("a".to_owned(), frozen);
        assert_eq!(world.processing(), ["b"], "it has not spoken yet");
        // What it says on waking is heard by the other before it has heard of the other itself.
        world.turn("a", 0);
        world.turn("b", usize::MAX);
        assert_eq!(world.processing(), ["b"], "whoever was taken for dead comes behind");
        world.settle();
        assert_eq!(world.processing(), ["b"]);
        assert!(!world.instances["a"].rollout.gate.is_open().unwrap());
        // Silent, but nobody took over: it goes on.
        world.instances.remove("a");
        world.write("a", None);
        world.now += limits::CLAIM_LAPSE_MS + 1;
        assert_eq!(world.processing(), <[&str; 0]>::default());
        world.settle();
        assert_eq!(world.processing(), ["b"]);
    }

    #[test]
    fn however_instances_come_go_freeze_and_die_one_shape_processes() {
        let plans = [plan(EARLIER), plan(LATER)];
        let names = ["a", "b", "c", "d"];
        for seed in 0..300 {
            let mut rng = Rng::new(seed);
            let mut world = World::new();
            let mut frozen: BTreeMap<String, Instance> = BTreeMap::new();
            let mut processed = false;
            for _ in 0..600 {
                world.now += [1, 50, 1000, 4000][rng.below(4) as usize];
                let name = names[rng.below(4) as usize];
                let (runs, sleeps) = (world.instances.contains_key(name), frozen.contains_key(name));
                match rng.below(40) {
                    0 if !sleeps => world.start(name, &plans[rng.below(2) as usize], true),
                    1 if runs => {
                        world.instances.remove(name);
                        world.write(name, None);
                    }
                    2 if runs => drop(world.instances.remove(name)),
                    3 if runs => drop(frozen.insert(name.to_owned(), world.instances.remove(name).unwrap())),
                    4..8 if sleeps => drop(world.instances.insert(name.to_owned(), frozen.remove(name).unwrap())),
                    _ if runs => world.turn(name, 1 + rng.below(4) as usize),
                    _ => {}
                }
                world.check();
                processed |= !world.processing().is_empty();
            }
            assert!(processed, "seed {seed}: nobody ever processes");
            world.instances.extend(frozen);
            world.pass(2 * limits::INSTANCE_SILENCE_MAX_MS);
            world.check();
            assert!(world.instances.is_empty() || !world.processing().is_empty(), "seed {seed}: all wait for ever");
        }
    }
}
