//! How much CPU a topic's worth of work takes: a contender from its start until everything is committed, and to its clean end.

use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use serde::Serialize;

use crate::cluster::Cluster;
use crate::contender::{self, Contender, Place, Setting};
use crate::orders::{self, Totals};

/// No commit for this long, and the run has failed.
const STALLED: Duration = Duration::from_secs(120);
const LOOK: Duration = Duration::from_millis(50);

#[derive(Debug)]
pub(crate) struct Input<'a> {
    pub(crate) topic: &'a str,
    pub(crate) records: u64,
    pub(crate) keys: u64,
    pub(crate) totals: &'a Totals,
}

#[derive(Debug, Serialize)]
pub(crate) struct Throughput {
    #[serde(serialize_with = "crate::report::as_text")]
    pub(crate) contender: Contender,
    pub(crate) commit_ms: u128,
    pub(crate) threads: u32,
    pub(crate) records: u64,
    pub(crate) keys: u64,
    /// Of the whole process, from its start to its end.
    pub(crate) cpu_seconds: f64,
    pub(crate) records_per_cpu_second: f64,
    /// Between a fifth of the records and the last one; none where that is over too soon to be measured.
    pub(crate) steady_records_per_cpu_second: Option<f64>,
    /// From the start of the process to the last commit.
    pub(crate) records_per_second: f64,
    pub(crate) peak_mib: u64,
    pub(crate) records_written: Option<u64>,
}

impl Throughput {
    /// What is the same of two that are compared.
    pub(crate) fn alike(&self) -> (u64, u64, u128, u32) {
        (self.records, self.keys, self.commit_ms, self.threads)
    }
}

/// Runs a contender over a topic.
///
/// # Errors
/// It stops, stalls, or its totals are wrong.
pub(crate) fn measure(
    place: &Place,
    cluster: &Cluster,
    contender: Contender,
    setting: Setting,
    input: &Input<'_>,
    perf: Option<&Path>,
) -> Result<Throughput> {
    let begun = Instant::now();
    let &Input { topic, records, keys, totals } = input;
    let result = |taken: crate::process::Taken, seconds: f64, steady, written| Throughput {
        contender,
        commit_ms: setting.commit.as_millis(),
        threads: setting.threads,
        records,
        keys,
        cpu_seconds: taken.cpu_seconds,
        records_per_cpu_second: records as f64 / taken.cpu_seconds,
        steady_records_per_cpu_second: steady,
        records_per_second: records as f64 / seconds,
        peak_mib: taken.peak_mib,
        records_written: written,
    };
    if contender == Contender::Bare {
        let taken = contender::start_bare(place, topic, records)?.wait()?;
        return Ok(result(taken, begun.elapsed().as_secs_f64(), None, None));
    }
    let mut run = contender::start(place, cluster, contender, topic, setting)?;
    let begun = Instant::now();
    let profile =
        perf.filter(|_| contender == Contender::Tidemill).map(|folder| profile(folder, run.process.id(), keys));
    let progress = cluster.progress(&run.group, topic)?;
    let mut warm = None;
    let mut last = (0, Instant::now());
    let steady = loop {
        let committed = progress.committed()?;
        let cpu_seconds = run.process.look()?;
        if warm.is_none() && committed >= records / 5 {
            warm = Some((committed, cpu_seconds));
        }
        if committed >= records {
            let steady = warm.map(|(from, cpu)| (records - from, cpu_seconds - cpu));
            break steady.filter(|(_, cpu)| *cpu > 1.0).map(|(done, cpu)| done as f64 / cpu);
        }
        if committed > last.0 {
            last = (committed, Instant::now());
        }
        ensure!(last.1.elapsed() < STALLED, "{contender} stalls at {committed}:\n{}", run.process.last_words());
        std::thread::sleep(LOOK);
    };
    let seconds = begun.elapsed().as_secs_f64();
    let taken = run.process.stop()?;
    if let Some(profile) = profile {
        profile?.wait().context("perf")?;
    }
    let (found, written) = orders::written(cluster, &run.output)?;
    orders::compare(totals, &found).with_context(|| format!("{contender} counts wrongly"))?;
    cluster.drop_topic(&run.output)?;
    std::fs::remove_dir_all(place.work.join(&run.group))?;
    Ok(result(taken, seconds, steady, Some(written)))
}

/// Starts `perf record` on a process; it ends with it.
fn profile(folder: &Path, process: u32, keys: u64) -> Result<std::process::Child> {
    std::fs::create_dir_all(folder)?;
    Command::new("perf")
        .args(["record", "-q", "-F", "499", "-g", "-p", &process.to_string(), "-o"])
        .arg(folder.join(format!("tidemill-{keys}-keys.perf")))
        .stderr(Stdio::null())
        .spawn()
        .context("perf")
}
