//! How long a lost store takes to come back from its changelog, and how much CPU: from the start of a process whose state folder was
//! deleted until it has committed the next record of every partition. Each contender restores what it wrote itself, the same totals.

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use serde::Serialize;
use tidemill::base::ids::SchemaId;

use crate::cluster::{Cluster, PARTITIONS};
use crate::contender::{self, Contender, Place, Run, Setting};
use crate::orders;

/// No commit for this long, and the run has failed.
const STALLED: Duration = Duration::from_secs(300);
const LOOK: Duration = Duration::from_millis(20);

/// The topic that made the rows.
#[derive(Debug)]
pub(crate) struct Input<'a> {
    pub(crate) topic: &'a str,
    pub(crate) schema_id: SchemaId,
    /// How many records it has now.
    pub(crate) records: u64,
    pub(crate) rows: u64,
}

#[derive(Debug, Serialize)]
pub(crate) struct Restore {
    #[serde(serialize_with = "crate::report::as_text")]
    pub(crate) contender: Contender,
    pub(crate) rows: u64,
    pub(crate) seconds: f64,
    pub(crate) cpu_seconds: f64,
    pub(crate) peak_mib: u64,
}

/// Lets a contender make its store, deletes it, and measures the restore. Adds a record to every partition of the input.
///
/// # Errors
/// It stops or stalls.
pub(crate) fn measure(
    place: &Place,
    cluster: &Cluster,
    contender: Contender,
    setting: Setting,
    input: &mut Input<'_>,
) -> Result<Restore> {
    let mut run = contender::start(place, cluster, contender, input.topic, setting)?;
    wait_for(cluster, &mut run, input)?;
    let Run { process, group, output } = run;
    process.stop()?;
    std::fs::remove_dir_all(place.work.join(&group).join("state"))?;
    orders::write_one_each(cluster, input.topic, input.schema_id)?;
    input.records += u64::from(PARTITIONS);
    let begun = Instant::now();
    let mut run = contender::start_again(place, cluster, contender, input.topic, setting, group, output)?;
    wait_for(cluster, &mut run, input)?;
    let (seconds, cpu_seconds) = (begun.elapsed().as_secs_f64(), run.process.look()?);
    let taken = run.process.stop()?;
    cluster.drop_topic(&run.output)?;
    std::fs::remove_dir_all(place.work.join(&run.group))?;
    Ok(Restore { contender, rows: input.rows, seconds, cpu_seconds, peak_mib: taken.peak_mib })
}

/// Waits until all records of the input are committed.
fn wait_for(cluster: &Cluster, run: &mut Run, input: &Input<'_>) -> Result<()> {
    let progress = cluster.progress(&run.group, input.topic)?;
    let mut last = (0, Instant::now());
    loop {
        let committed = progress.committed()?;
        run.process.look()?;
        if committed >= input.records {
            return Ok(());
        }
        if committed > last.0 {
            last = (committed, Instant::now());
        }
        ensure!(last.1.elapsed() < STALLED, "it stalls at {committed}:\n{}", run.process.last_words());
        std::thread::sleep(LOOK);
    }
}
