//! Who is compared, and how each is started: exactly once, the settings that both sides have set alike.
//!
//! Kafka Streams gets a record cache of 64 MiB, where its default of 10 MiB would serve it worse; its heap is bounded to 512 MiB
//! (`-Xmx512m`), RocksDB is as it comes. tidemill shares one `memory.budget` among cache, RocksDB and prefetch.

use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use anyhow::Result;
use clap::ValueEnum;

use crate::bare;
use crate::cluster::{Cluster, unique};
use crate::orders::TOTAL;
use crate::process::Process;

/// Where everything is.
#[derive(Debug)]
pub(crate) struct Place {
    pub(crate) brokers: String,
    pub(crate) registry: String,
    /// Java's class path of the Kafka Streams application.
    pub(crate) streams_classes: String,
    /// The checkout.
    pub(crate) root: PathBuf,
    /// A folder that goes with this program.
    pub(crate) work: PathBuf,
    pub(crate) budget: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Contender {
    Bare,
    Streams,
    Tidemill,
}

impl std::fmt::Display for Contender {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Bare => "bare consumer",
            Self::Streams => "Kafka Streams 4.3.1",
            Self::Tidemill => "tidemill",
        })
    }
}

/// What is varied.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Setting {
    /// Between two commits.
    pub(crate) commit: Duration,
    /// Stream threads.
    pub(crate) threads: u32,
}

/// One that runs.
#[derive(Debug)]
pub(crate) struct Run {
    pub(crate) process: Process,
    /// Its consumer group.
    pub(crate) group: String,
    /// The topic it writes to; the bare consumer writes nothing.
    pub(crate) output: String,
}

/// Starts the bare consumer on a topic.
pub(crate) fn start_bare(place: &Place, topic: &str, records: u64) -> Result<Process> {
    let mut command = Command::new(std::env::current_exe()?);
    command.args([bare::MODE, &place.brokers, topic, &records.to_string()]);
    Process::start(&mut command, &place.work.join("bare.log"))
}

/// Who it is to the group, so that nobody waits for the session of one whose state folder was deleted, and its name with it.
const MEMBER: &str = "peer";

/// Starts Kafka Streams or tidemill on a topic, as an application that never ran before.
pub(crate) fn start(
    place: &Place,
    cluster: &Cluster,
    contender: Contender,
    input: &str,
    setting: Setting,
) -> Result<Run> {
    let (group, output) = (unique("peer"), cluster.topic("totals")?);
    std::fs::create_dir(place.work.join(&group))?;
    start_again(place, cluster, contender, input, setting, group, output)
}

/// Starts an application that ran before.
pub(crate) fn start_again(
    place: &Place,
    cluster: &Cluster,
    contender: Contender,
    input: &str,
    setting: Setting,
    group: String,
    output: String,
) -> Result<Run> {
    let folder = place.work.join(&group);
    let mut command = match contender {
        Contender::Streams => streams(place, cluster, input, &output, &group, setting)?,
        Contender::Bare | Contender::Tidemill => tidemill(place, input, &output, &group, setting)?,
    };
    let process = Process::start(command.current_dir(&folder), &folder.join("log"))?;
    Ok(Run { process, group, output })
}

fn streams(
    place: &Place,
    cluster: &Cluster,
    input: &str,
    output: &str,
    group: &str,
    setting: Setting,
) -> Result<Command> {
    let total_id = cluster.register(output, TOTAL)?;
    let topology = place.root.join("benches/peer/topology");
    let mut command = Command::new("java");
    command.args([
        "-Xmx512m",
        "-Dorg.slf4j.simpleLogger.defaultLogLevel=warn",
        "-cp",
        &place.streams_classes,
        "Orders",
    ]);
    command.arg(topology.join("Order.avsc")).arg(topology.join("Total.avsc"));
    command.args([input, output, &total_id.0.to_string()]);
    for (name, value) in [
        ("bootstrap.servers", place.brokers.as_str()),
        ("application.id", group),
        ("state.dir", "state"),
        ("processing.guarantee", "exactly_once_v2"),
        ("commit.interval.ms", &setting.commit.as_millis().to_string()),
        ("num.stream.threads", &setting.threads.to_string()),
        ("auto.offset.reset", "earliest"),
        ("group.instance.id", MEMBER),
        ("replication.factor", "1"),
        ("statestore.cache.max.bytes", "67108864"),
        ("consumer.max.poll.records", "5000"),
        ("producer.linger.ms", "5"),
        ("producer.compression.type", "lz4"),
    ] {
        command.arg(format!("{name}={value}"));
    }
    Ok(command)
}

fn tidemill(place: &Place, input: &str, output: &str, group: &str, setting: Setting) -> Result<Command> {
    let settings = place.work.join(group).join("tidemill.toml");
    let text = format!(
        r#"application_id = "{group}"
instance_id = "{MEMBER}"
processing_guarantee = "exactly_once"
commit_interval = "{commit}ms"
num_stream_threads = {threads}
auto_offset_reset = "earliest"
state.dir = "state"
memory.budget = "{budget}"
kafka.bootstrap_servers = "{brokers}"
registry.url = "{registry}"
topics.replication_factor = 1
http.listen = "127.0.0.1:0"
admin.listen = "127.0.0.1:0"

[bind.topics]
orders = "{input}"
totals = "{output}"
"#,
        commit = setting.commit.as_millis(),
        threads = setting.threads,
        budget = place.budget,
        brokers = place.brokers,
        registry = place.registry,
    );
    std::fs::write(&settings, text)?;
    let mut command = Command::new(place.root.join("bin/tidemill"));
    command.arg("run").arg(place.root.join("benches/peer/topology")).arg("--config").arg(settings);
    Ok(command)
}
