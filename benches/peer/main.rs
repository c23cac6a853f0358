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
mod restore;
mod throughput;

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use clap::Parser;

use crate::cluster::Cluster;
use crate::contender::{Contender, Place};
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
    /// Also restores a lost store of this many rows
    #[arg(long, default_value_t = 0)]
    restore: u64,
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
const LATENCY_COMMITS: [Duration; 2] = [Duration::from_millis(100), Duration::from_millis(10)];
const COMMIT: Duration = Duration::from_millis(100);

fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().collect();
    // The bare consumer is a process of its own, as the others are.
    if let [_, mode, brokers, topic, records] = arguments.as_slice()
        && mode == bare::MODE
    {
        return bare::consume(brokers, topic, records.parse()?);
    }
    let arguments = Arguments::parse();
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
    if !arguments.latency_only {
        for (records, keys) in &arguments.loads {
            measure_throughput(&arguments, &place, &cluster, (*records, *keys), &mut report)?;
        }
    }
    if arguments.restore > 0 {
        measure_restore(&arguments, &place, &cluster, &mut report)?;
    }
    if arguments.latency_seconds > 0 {
        for commit in LATENCY_COMMITS {
            for contender in arguments.only.iter().filter(|contender| **contender != Contender::Bare) {
                say(&format!("{contender}: latency at {LATENCY_RATE}/s, commits every {} ms …", commit.as_millis()));
                let load =
                    latency::Load { per_second: LATENCY_RATE, keys: LATENCY_KEYS, seconds: arguments.latency_seconds };
                report.latency.push(latency::measure(&place, &cluster, *contender, commit, &load)?);
            }
        }
    }
    if arguments.json {
        println!("{}", report.json())
    } else {
        println!("{}", report.table())
    }
    Ok(())
}

fn measure_throughput(
    arguments: &Arguments,
    place: &Place,
    cluster: &Cluster,
    (records, keys): (u64, u64),
    report: &mut Report,
) -> Result<()> {
    say(&format!("writing {records} orders of {keys} customers …"));
    let topic = cluster.topic("orders")?;
    let order_id = cluster.register(&topic, orders::ORDER)?;
    let totals = orders::generate(cluster, &topic, order_id, records, keys)?;
    for contender in &arguments.only {
        let mut runs = Vec::new();
        for _ in 0..arguments.repeat {
            say(&format!("{contender}: {records} orders of {keys} customers …"));
            let input = throughput::Input { topic: &topic, records, keys, totals: &totals };
            runs.push(throughput::measure(place, cluster, *contender, COMMIT, &input, arguments.perf.as_deref())?);
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
        report.restore.push(restore::measure(place, cluster, *contender, COMMIT, &mut input)?);
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
