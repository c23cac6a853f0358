//! Real kills: real brokers, three daemons in a group, orders at a steady pace; daemons and brokers are killed, frozen and cut off, by
//! seed, one after the other. In the end a verifier of its own holds what is committed against the ledger. `make chaos KILLS=300` runs
//! three brokers; every run of the tests kills some daemons beside one broker. `make steady` watches what an hour leaves behind.

#![allow(clippy::disallowed_methods, clippy::print_stdout, reason = "a run of real time that tells its figures")]

mod cluster;
mod load;
mod steady;
mod verify;

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use tidemill::base::rng::Rng;

use crate::support::disk::Disk;
use crate::support::process::Run;
use crate::support::proxy::Proxy;
use crate::support::{App, Launch, Place, topics, until};

use cluster::Cluster;
use load::{Load, PARTITIONS};
use verify::Verifier;

use crate::support::shop;

/// What is done to them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Blow {
    /// `kill -9` of a daemon, which comes back at once.
    Kill,
    /// Two daemons at the same time.
    KillTwo,
    /// A daemon stands still for a while.
    Freeze,
    /// A daemon stops as an operator stops it, and comes back.
    Restart,
    /// `kill -9` of a broker, which comes back.
    Broker,
    /// The registry is away while a daemon comes back.
    Registry,
    /// The daemons do not reach one of the brokers, or none of them, for a while.
    Cut,
    /// What daemons and brokers say to each other is held up for a while.
    Slow,
    /// A daemon's disk has no room for a while; in half of the cases the daemon is killed and comes back meanwhile.
    FullDisk,
}

/// How hard it is.
struct Plan {
    seed: u64,
    blows: usize,
    brokers: usize,
    per_second: u64,
    freeze_ms_max: u64,
    /// Longest until everything is caught up on.
    recovery_max: Duration,
}

/// The daemons, as a supervisor keeps them.
struct Daemons<'a> {
    app: &'a App,
    place: Place,
    settings: String,
    /// Of each, if they have some of their own.
    disks: Vec<Disk>,
    runs: Vec<Option<Run>>,
    /// What those said that are dead.
    said: Vec<String>,
}

/// Customers of each partition.
const CUSTOMERS: u64 = 12;

/// Room for a daemon's state: an hour of orders, whose history stays for ever.
const DISK: &str = "size=192m";

const NAMES: [&str; 3] = ["a", "b", "c"];

impl Daemons<'_> {
    fn start(&mut self, which: usize) {
        let launch = Launch {
            instance: NAMES[which],
            settings: &self.settings,
            place: Some(self.place.clone()),
            disk: self.disks.get(which),
            ..Launch::default()
        };
        self.runs[which] = Some(self.app.start(&launch));
    }

    fn kill(&mut self, which: usize) {
        if let Some(run) = self.runs[which].take() {
            self.said.push(run.kill());
        }
    }

    fn stop(&mut self, which: usize) {
        if let Some(mut run) = self.runs[which].take() {
            // Before that a signal ends it as it ends any process.
            run.says("\"message\":\"listening\"");
            self.said.push(run.stop());
        }
    }

    /// A process that has ended by itself is started anew, as any supervisor does.
    fn supervise(&mut self) {
        for which in 0..self.runs.len() {
            let ended = self.runs[which].as_mut().is_none_or(|run| run.exited().is_some());
            if ended {
                self.kill(which);
                self.start(which);
            }
        }
    }

    fn freeze(&self, which: usize, span: Duration) {
        if let Some(run) = &self.runs[which] {
            run.signal("STOP");
            std::thread::park_timeout(span);
            run.signal("CONT");
        }
    }

    /// What each says of its tasks and of itself.
    fn tasks(&mut self) -> String {
        let of = |run: &mut Run| ["/v1/tasks", "/v1/instances", "/readyz"].map(|path| run.ask(path).1).join("\n");
        self.runs.iter_mut().flatten().map(of).collect::<Vec<_>>().join("\n")
    }

    fn all_said(&self) -> String {
        let alive = self.runs.iter().flatten().map(Run::said);
        self.said.iter().cloned().chain(alive).collect::<Vec<_>>().join("\n")
    }
}

#[derive(Default)]
struct Figures {
    records: usize,
    /// How long everything took to be caught up on, blow by blow.
    recoveries_ms: BTreeMap<Blow, Vec<u128>>,
    set_aside: usize,
}

impl Figures {
    fn blows(&self) -> usize {
        self.recoveries_ms.values().map(Vec::len).sum()
    }

    fn told(&self) -> String {
        let spread = |mut took: Vec<u128>| {
            took.sort_unstable();
            let (median, most) = (took.get(took.len() / 2), took.last());
            format!("{}, to lag 0: median {} ms, at most {} ms", took.len(), median.unwrap_or(&0), most.unwrap_or(&0))
        };
        let mut told = format!("{} records, {} stores set aside\n", self.records, self.set_aside);
        told += &format!("  all blows: {}\n", spread(self.recoveries_ms.values().flatten().copied().collect()));
        for (blow, took) in &self.recoveries_ms {
            told += &format!("  {blow:?}: {}\n", spread(took.clone()));
        }
        told
    }
}

/// The first blows are one of each kind, so that every run has them all.
fn first_blows(plan: &Plan) -> Vec<Blow> {
    let all = [
        Blow::FullDisk,
        Blow::Kill,
        Blow::KillTwo,
        Blow::Freeze,
        Blow::Restart,
        Blow::Registry,
        Blow::Cut,
        Blow::Slow,
        Blow::Broker,
    ];
    all.into_iter().filter(|blow| *blow != Blow::Broker || plan.brokers > 1).collect()
}

fn choose(rng: &mut Rng, plan: &Plan) -> Blow {
    match rng.below(20) {
        0..=8 => Blow::Kill,
        9 | 10 => Blow::KillTwo,
        11 | 12 => Blow::Freeze,
        13 => Blow::Restart,
        14 => Blow::Registry,
        15 => Blow::Cut,
        16 => Blow::Slow,
        17 => Blow::FullDisk,
        18.. if plan.brokers > 1 => Blow::Broker,
        _ => Blow::Kill,
    }
}

fn run(plan: &Plan) -> Figures {
    let mut cluster = Cluster::start(plan.brokers);
    let registry_url = crate::provided("TIDEMILL_TEST_REGISTRY");
    let registry = Proxy::start(registry_url.trim_start_matches("http://").split('/').next().unwrap());
    let path = registry_url.trim_start_matches("http://").split_once('/').unwrap().1;
    let registry_place = format!("http://{}/{path}", registry.address());
    let place = Place::Kafka { servers: cluster.linked_servers(), registry: Some(registry_place) };
    let app = App::new(place.clone(), shop::TOPOLOGY, shop::SCHEMAS);
    topics::create(&*app.broker(), &app.topic("orders"), PARTITIONS as u32, &[]);
    let settings = "commit_interval = \"100ms\"\n".to_owned();
    let mut daemons = Daemons {
        app: &app,
        place,
        settings,
        disks: NAMES.iter().map(|name| app.disk(name, DISK)).collect(),
        runs: NAMES.iter().map(|_| None).collect(),
        said: Vec::new(),
    };
    daemons.supervise();
    let load = Load::start(&cluster.servers(), &app.topic("orders"), plan.per_second, CUSTOMERS);
    let mut verifier = Verifier::new(&cluster.servers(), &app.id);
    // Before there is a record nothing is behind.
    until("a second's orders are written", || (load.written() >= plan.per_second).then_some(()));
    catch_up(&mut verifier, &mut daemons, plan, "the beginning");
    let mut rng = Rng::new(plan.seed);
    let mut figures = Figures::default();
    let first = first_blows(plan);
    for number in 1..=plan.blows {
        let blow = first.get(number - 1).copied().unwrap_or_else(|| choose(&mut rng, plan));
        std::thread::park_timeout(Duration::from_millis(rng.below(700)));
        strike(blow, &mut rng, plan, &mut daemons, &mut cluster, &registry);
        let took = catch_up(&mut verifier, &mut daemons, plan, &format!("blow {number}, {blow:?}"));
        figures.recoveries_ms.entry(blow).or_default().push(took.as_millis());
        if number % 20 == 0 {
            figures.records = load.written() as usize;
            println!("{}", figures.told());
        }
    }
    let ledger = load.stop();
    // The last windows close when everybody's time is known downstream.
    catch_up(&mut verifier, &mut daemons, plan, "the end");
    figures.records = ledger.len();
    let deadline = Instant::now() + plan.recovery_max;
    let mut outcome = verifier.compare(&ledger);
    while outcome.is_err() && Instant::now() < deadline {
        daemons.supervise();
        std::thread::park_timeout(Duration::from_millis(500));
        outcome = verifier.compare(&ledger);
    }
    let tasks = if outcome.is_err() { daemons.tasks() } else { String::new() };
    for which in 0..NAMES.len() {
        daemons.stop(which);
    }
    let said = daemons.all_said();
    figures.set_aside = shop::set_aside(&said);
    let told = figures.told();
    println!("{told}");
    // What is wrong stands last, where it is found.
    outcome
        .and_then(|()| verifier.compare(&ledger))
        .unwrap_or_else(|problem| panic!("{said}\n{tasks}\n{told}\n{problem}"));
    assert_eq!(figures.set_aside, 0, "{told}");
    figures
}

fn strike(blow: Blow, rng: &mut Rng, plan: &Plan, daemons: &mut Daemons<'_>, cluster: &mut Cluster, registry: &Proxy) {
    let which = rng.below(NAMES.len() as u64) as usize;
    match blow {
        Blow::Kill => daemons.kill(which),
        Blow::KillTwo => {
            daemons.kill(which);
            daemons.kill((which + 1) % NAMES.len());
        }
        Blow::Freeze => daemons.freeze(which, Duration::from_millis(rng.below(plan.freeze_ms_max))),
        Blow::Restart => daemons.stop(which),
        Blow::Broker => {
            let node = rng.below(cluster.len() as u64) as usize;
            cluster.kill(node);
            cluster.wait_until_noticed();
            std::thread::park_timeout(Duration::from_millis(rng.below(5_000)));
            cluster.resume(node);
        }
        Blow::Registry => {
            registry.cut();
            daemons.kill(which);
            daemons.start(which);
            std::thread::park_timeout(Duration::from_millis(rng.below(3_000)));
            registry.mend();
        }
        Blow::FullDisk => {
            daemons.disks[which].fill();
            if rng.chance(1, 2) {
                daemons.kill(which);
                daemons.start(which);
            }
            std::thread::park_timeout(Duration::from_millis(rng.below(plan.freeze_ms_max)));
            daemons.disks[which].make_room();
        }
        Blow::Cut => {
            let some = cluster.links(cut_off(rng, cluster));
            some.iter().for_each(Proxy::cut);
            std::thread::park_timeout(Duration::from_millis(rng.below(plan.freeze_ms_max)));
            some.iter().for_each(Proxy::mend);
        }
        Blow::Slow => {
            let some = cluster.links(cut_off(rng, cluster));
            let by = Duration::from_millis(20 + rng.below(280));
            some.iter().for_each(|link| link.slow_down(by));
            std::thread::park_timeout(Duration::from_millis(rng.below(plan.freeze_ms_max)));
            some.iter().for_each(Proxy::mend);
        }
    }
    daemons.supervise();
}

/// One of the brokers, or none for all of them.
fn cut_off(rng: &mut Rng, cluster: &Cluster) -> Option<usize> {
    let node = rng.below(cluster.len() as u64 + 1) as usize;
    (node < cluster.len()).then_some(node)
}

/// Records keep coming: everything is caught up on when nothing is left of what was there so long ago.
const LAG_AGO: Duration = Duration::from_millis(300);

/// Waits until everything is caught up on, and returns how long that took.
fn catch_up(verifier: &mut Verifier, daemons: &mut Daemons<'_>, plan: &Plan, after: &str) -> Duration {
    let begun = Instant::now();
    // Records have come to every partition since the blow.
    std::thread::park_timeout(Duration::from_millis(100));
    verifier.begin();
    loop {
        daemons.supervise();
        if verifier.lag(PARTITIONS, LAG_AGO) == Some(0) {
            return begun.elapsed();
        }
        if begun.elapsed() > plan.recovery_max {
            let (said, tasks) = (daemons.all_said(), daemons.tasks());
            panic!("after {after} there is lag still:\n{said}\n{tasks}\n{}", verifier.told(PARTITIONS));
        }
        std::thread::park_timeout(Duration::from_millis(50));
    }
}

#[test]
fn some_kills_lose_nothing_and_double_nothing() {
    let figures = run(&Plan {
        seed: 1,
        blows: 20,
        brokers: 1,
        per_second: 150,
        freeze_ms_max: 2_500,
        recovery_max: Duration::from_secs(60),
    });
    assert_eq!(figures.blows(), 20);
}

#[test]
#[ignore = "by `make chaos`"]
fn kills_that_were_asked_for() {
    let number = |name: &str, otherwise: u64| {
        let said = crate::provided(name);
        if said.is_empty() { otherwise } else { said.parse().unwrap_or_else(|_| panic!("{name} is a number")) }
    };
    run(&Plan {
        seed: number("TIDEMILL_CHAOS_SEED", 1),
        blows: number("TIDEMILL_CHAOS_KILLS", 300) as usize,
        brokers: 3,
        per_second: number("TIDEMILL_CHAOS_RATE", 300),
        freeze_ms_max: 15_000,
        recovery_max: Duration::from_secs(180),
    });
}
