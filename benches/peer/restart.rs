//! How long a process that is killed with `kill -9` under a steady load is away: until all that had been sent when it was killed is committed. It is
//! started again at once, as a supervisor would, with its state folder and its name in the group.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Result, anyhow, ensure};
use serde::Serialize;

use crate::cluster::{Cluster, Progress};
use crate::contender::{self, Contender, Place, Run, Setting};
use crate::latency::{self, pace};
use crate::orders::{self, Orders};

/// It has not come back for this long, and the run has failed.
const AWAY: Duration = Duration::from_secs(120);
/// Between the return and the next kill.
const CALM: Duration = Duration::from_secs(5);
const LOOK: Duration = Duration::from_millis(10);

#[derive(Debug)]
pub(crate) struct Load {
    pub(crate) per_second: u64,
    pub(crate) keys: u64,
    pub(crate) kills: u32,
}

#[derive(Debug, Serialize)]
pub(crate) struct Restart {
    #[serde(serialize_with = "crate::report::as_text")]
    pub(crate) contender: Contender,
    pub(crate) records_per_second: u64,
    pub(crate) kills: usize,
    pub(crate) min_ms: u128,
    pub(crate) median_ms: u128,
    pub(crate) max_ms: u128,
}

/// Kills a contender again and again beside a producer of a steady rate.
///
/// # Errors
/// It stops, or does not come back.
pub(crate) fn measure(
    place: &Place,
    cluster: &Cluster,
    contender: Contender,
    setting: Setting,
    load: &Load,
) -> Result<Restart> {
    let topic = cluster.topic("paced")?;
    let mut orders = Orders::new(cluster.register(&topic, orders::ORDER)?, load.keys, 7)?;
    let producer = latency::producer(cluster)?;
    let run = contender::start(place, cluster, contender, &topic, setting)?;
    let output = run.output.clone();
    let (sent, done) = (AtomicU64::new(0), AtomicBool::new(false));
    let mut away = std::thread::scope(|scope| {
        let pacing = scope.spawn(|| {
            pace(&producer, &topic, &mut orders, load.per_second, |index| {
                sent.store(index, Ordering::Release);
                !done.load(Ordering::Acquire)
            })
        });
        let away = kill_again_and_again(place, cluster, contender, setting, run, (&topic, load.kills, &sent));
        done.store(true, Ordering::Release);
        pacing.join().map_err(|_| anyhow!("the producer's thread"))??;
        away
    })?;
    for topic in [&topic, &output] {
        cluster.drop_topic(topic)?;
    }
    away.sort_unstable();
    let at = |place: usize| away[place].as_millis();
    Ok(Restart {
        contender,
        records_per_second: load.per_second,
        kills: away.len(),
        min_ms: at(0),
        median_ms: at(away.len() / 2),
        max_ms: at(away.len() - 1),
    })
}

fn kill_again_and_again(
    place: &Place,
    cluster: &Cluster,
    contender: Contender,
    setting: Setting,
    mut run: Run,
    (topic, kills, sent): (&str, u32, &AtomicU64),
) -> Result<Vec<Duration>> {
    let progress = cluster.progress(&run.group, topic)?;
    wait_for(&progress, &mut run, 1)?;
    let mut away = Vec::new();
    for _ in 0..kills {
        std::thread::sleep(CALM);
        run.process.look()?;
        let (killed, wanted) = (Instant::now(), sent.load(Ordering::Acquire));
        let Run { process, group, output } = run;
        drop(process);
        run = contender::start_again(place, cluster, contender, topic, setting, group, output)?;
        wait_for(&progress, &mut run, wanted)?;
        away.push(killed.elapsed());
    }
    run.process.stop()?;
    std::fs::remove_dir_all(place.work.join(&run.group))?;
    Ok(away)
}

/// Waits until so many records are committed.
fn wait_for(progress: &Progress, run: &mut Run, wanted: u64) -> Result<()> {
    let begun = Instant::now();
    while progress.committed()? < wanted {
        run.process.look()?;
        ensure!(begun.elapsed() < AWAY, "it does not come back:\n{}", run.process.last_words());
        std::thread::sleep(LOOK);
    }
    Ok(())
}
