//! The comparison with Kafka Streams and with a bare consumer: the same topic, the same work, the same machine, in turn.
//!
//! A throughput run lasts until the group's committed offsets reach the topic's end; CPU is the whole process, from its start to
//! its clean end. Invariant: no figure is printed of a run whose totals are not those of the records. `benches/peer/run`
//! starts this with a broker, a registry and Kafka Streams' classes at hand.

#![expect(clippy::print_stdout, reason = "a benchmark reports to its terminal")]
#![expect(clippy::disallowed_methods, reason = "a benchmark reads the clock, waits, and is told where its servers are")]

mod bare;
mod cluster;
mod contender;
mod latency;
mod orders;
mod process;
mod report;
mod restart;
mod restore;
mod throughput;

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use clap::Parser;

use crate::cluster::Cluster;
use crate::contender::{Contender, Place, Setting};
use crate::report::Report;

/// Compares tidemill with Kafka Streams and a bare consumer.
#[derive(Debug, Parser)]
struct Arguments {
    /// A topic to work through, RECORDS:KEYS; given several times, one after the other
    #[arg(long = "load", value_parser = load, default_values = ["3000000:1000000", "5000000:10000"])]
    loads: Vec<(u64, u64)>,
    /// Who takes part
    #[arg(long, value_enum, value_delimiter = ',', default_values = ["bare", "streams", "tidemill"])]
    only: Vec<Contender>,
    /// Runs of each; the one of median CPU time is shown
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=99))]
    repeat: u32,
    /// tidemill's `memory.budget`
    #[arg(long, default_value = "256MiB")]
    budget: String,
    /// Seconds of each latency run, the first third not counted; 0 leaves latency out
    #[arg(long, default_value_t = 45)]
    latency_seconds: u64,
    /// Also works through a topic, RECORDS:KEYS, with commits every 10, 100 and 1,000 ms, and with two threads
    #[arg(long, value_parser = load)]
    sweep: Option<(u64, u64)>,
    /// Also restores a lost store of this many rows
    #[arg(long, default_value_t = 0)]
    restore: u64,
    /// Also kills each so many times under the load of the latency runs
    #[arg(long, default_value_t = 0)]
    kills: u32,
    /// All of the above: --restore 5000000 --kills 10 --sweep 5000000:100000
    #[arg(long, conflicts_with_all = ["restore", "kills", "sweep"])]
    all: bool,
    /// Leaves throughput out
    #[arg(long)]
    latency_only: bool,
    /// Prints one JSON object
    #[arg(long)]
    json: bool,
    /// Keeps a `perf record` of each of tidemill's throughput runs in this folder
    #[arg(long)]
    perf: Option<PathBuf>,
    /// As `cargo bench` says it
    #[arg(long, hide = true)]
    bench: bool,
}

/// Records a second in the latency runs, and the keys they go to.
const LATENCY_RATE: u64 = 10_000;
const LATENCY_KEYS: u64 = 10_000;
const COMMITS: [Duration; 3] = [Duration::from_millis(10), Duration::from_millis(100), Duration::from_secs(1)];
/// What everything runs with where it is not varied.
const SETTING: Setting = Setting { commit: COMMITS[1], threads: 1 };

fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().collect();
    // The bare consumer is a process of its own, as the others are.
    if let [_, mode, brokers, topic, records] = arguments.as_slice()
        && mode == bare::MODE
    {
        return bare::consume(brokers, topic, records.parse()?);
    }
    let mut arguments = Arguments::parse();
    if arguments.all {
        (arguments.restore, arguments.kills, arguments.sweep) = (5_000_000, 10, Some((5_000_000, 100_000)));
    }
    let work = tempfile::Builder::new().prefix("tidemill-peer.").tempdir()?;
    let place = Place {
        brokers: provided("TIDEMILL_TEST_KAFKA")?,
        registry: provided("TIDEMILL_TEST_REGISTRY")?,
        streams_classes: provided("TIDEMILL_PEER_CLASSES")?,
        root: PathBuf::from(env!("CARGO_MANIFEST_DIR")),
        work: work.path().to_owned(),
        budget: arguments.budget.clone(),
    };
    let cluster = Cluster::connect(&place)?;
    let mut report = Report::of_this_machine()?;
    let measured = measure(&arguments, &place, &cluster, &mut report);
    // Also what there is of a run that ended early.
    if arguments.json {
        println!("{}", report.json())
    } else {
        println!("{}", report.table())
    }
    measured
}

fn measure(arguments: &Arguments, place: &Place, cluster: &Cluster, report: &mut Report) -> Result<()> {
    if !arguments.latency_only {
        for (records, keys) in &arguments.loads {
            measure_throughput(arguments, place, cluster, (*records, *keys), &[SETTING], report)?;
        }
    }
    if let Some(load) = arguments.sweep {
        let mut settings = COMMITS.map(|commit| Setting { commit, ..SETTING }).to_vec();
        settings.push(Setting { threads: 2, ..SETTING });
        measure_throughput(arguments, place, cluster, load, &settings, report)?;
    }
    if arguments.restore > 0 {
        measure_restore(arguments, place, cluster, report)?;
    }
    measure_paced(arguments, place, cluster, report)
}

/// Kills and latency, at a steady rate.
fn measure_paced(arguments: &Arguments, place: &Place, cluster: &Cluster, report: &mut Report) -> Result<()> {
    if arguments.kills > 0 {
        let load = restart::Load { per_second: LATENCY_RATE, keys: LATENCY_KEYS, kills: arguments.kills };
        for contender in arguments.only.iter().filter(|contender| **contender != Contender::Bare) {
            say(&format!("{contender}: {} kills at {LATENCY_RATE}/s …", load.kills));
            report.restart.push(restart::measure(place, cluster, *contender, SETTING, &load)?);
        }
    }
    if arguments.latency_seconds > 0 {
        for commit in COMMITS {
            for contender in arguments.only.iter().filter(|contender| **contender != Contender::Bare) {
                say(&format!("{contender}: latency at {LATENCY_RATE}/s, commits every {} ms …", commit.as_millis()));
                let load =
                    latency::Load { per_second: LATENCY_RATE, keys: LATENCY_KEYS, seconds: arguments.latency_seconds };
                report.latency.push(latency::measure(
                    place,
                    cluster,
                    *contender,
                    Setting { commit, ..SETTING },
                    &load,
                )?);
            }
        }
    }
    Ok(())
}

fn measure_throughput(
    arguments: &Arguments,
    place: &Place,
    cluster: &Cluster,
    (records, keys): (u64, u64),
    settings: &[Setting],
    report: &mut Report,
) -> Result<()> {
    say(&format!("writing {records} orders of {keys} customers …"));
    let topic = cluster.topic("orders")?;
    let order_id = cluster.register(&topic, orders::ORDER)?;
    let totals = orders::generate(cluster, &topic, order_id, records, keys)?;
    for (setting, contender) in
        settings.iter().flat_map(|setting| arguments.only.iter().map(move |who| (*setting, *who)))
    {
        let Setting { commit, threads } = setting;
        // It neither commits nor has stream threads.
        if contender == Contender::Bare && settings.len() > 1 {
            continue;
        }
        let mut runs = Vec::new();
        for _ in 0..arguments.repeat {
            say(&format!(
                "{contender}: {records} orders of {keys} customers, commits every {commit:?}, threads {threads} …"
            ));
            let input = throughput::Input { topic: &topic, records, keys, totals: &totals };
            runs.push(throughput::measure(place, cluster, contender, setting, &input, arguments.perf.as_deref())?);
        }
        runs.sort_by(|left, right| left.cpu_seconds.total_cmp(&right.cpu_seconds));
        report.throughput.push(runs.swap_remove(runs.len() / 2));
    }
    cluster.drop_topic(&topic)
}

fn measure_restore(arguments: &Arguments, place: &Place, cluster: &Cluster, report: &mut Report) -> Result<()> {
    // Of random keys, so many records leave hardly one out.
    let records = arguments.restore * 2;
    say(&format!("writing {records} orders of {} customers …", arguments.restore));
    let topic = cluster.topic("orders")?;
    let schema_id = cluster.register(&topic, orders::ORDER)?;
    let rows = orders::generate(cluster, &topic, schema_id, records, arguments.restore)?.len() as u64;
    let mut input = restore::Input { topic: &topic, schema_id, records, rows };
    for contender in arguments.only.iter().filter(|contender| **contender != Contender::Bare) {
        say(&format!("{contender}: restoring {rows} rows …"));
        report.restore.push(restore::measure(place, cluster, *contender, SETTING, &mut input)?);
    }
    cluster.drop_topic(&topic)
}

/// Returns what `benches/peer/run` exported.
fn provided(name: &str) -> Result<String> {
    std::env::var(name).with_context(|| format!("{name} is not set: start this with benches/peer/run"))
}

/// Speaks to the person; stdout is for the result.
#[expect(clippy::print_stderr, reason = "progress of a benchmark")]
fn say(text: &str) {
    eprintln!("{text}");
}

fn load(text: &str) -> Result<(u64, u64)> {
    let Some((records, keys)) = text.split_once(':') else { bail!("expected RECORDS:KEYS") };
    let (records, keys) = (records.parse()?, keys.parse()?);
    ensure!(records > 0 && keys > 0 && keys <= 10_000_000, "at least a record, and 1 to 10 million keys");
    Ok((records, keys))
}
