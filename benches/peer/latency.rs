//! How long an order takes from its producer to a reader of committed totals, at a steady rate.
//!
//! A record's timestamp is when it was sent; the total it leads to carries it on, the latest one where a commit has several of a
//! customer. All clocks are this machine's.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use anyhow::{Result, anyhow, ensure};
use rdkafka::error::KafkaError;
use rdkafka::producer::{BaseProducer, Producer};
use rdkafka::{ClientConfig, Message};
use serde::Serialize;

use crate::cluster::Cluster;
use crate::contender::{self, Contender, Place, Setting};
use crate::orders::{self, Orders};

/// How long the first total may take: a JVM starts, groups settle.
const FIRST_WAIT: Duration = Duration::from_secs(60);
const LAST_WAIT: Duration = Duration::from_secs(30);

#[derive(Debug)]
pub(crate) struct Load {
    pub(crate) per_second: u64,
    pub(crate) keys: u64,
    /// The first third is for warming up.
    pub(crate) seconds: u64,
}

#[derive(Debug, Serialize)]
pub(crate) struct Latency {
    #[serde(serialize_with = "crate::report::as_text")]
    pub(crate) contender: Contender,
    pub(crate) commit_ms: u128,
    pub(crate) records_per_second: u64,
    pub(crate) totals_seen: usize,
    pub(crate) p50_ms: i64,
    pub(crate) p90_ms: i64,
    pub(crate) p99_ms: i64,
    pub(crate) max_ms: i64,
    /// Of the whole process over the whole run.
    pub(crate) cpu_seconds: f64,
}

/// Runs a contender beside a producer of a steady rate.
///
/// # Errors
/// It stops, or its totals do not come.
pub(crate) fn measure(
    place: &Place,
    cluster: &Cluster,
    contender: Contender,
    setting: Setting,
    load: &Load,
) -> Result<Latency> {
    let topic = cluster.topic("paced")?;
    let schema_id = cluster.register(&topic, orders::ORDER)?;
    let mut orders = Orders::new(schema_id, load.keys, 7)?;
    let mut run = contender::start(place, cluster, contender, &topic, setting)?;
    let producer = producer(cluster)?;
    // The first total says that the contender runs: only then does the pace begin.
    let reader = orders::reader(cluster, &run.output)?;
    orders::send(&producer, &topic, &orders.next(now_ms())?, now_ms())?;
    let begun = Instant::now();
    while !matches!(reader.poll(Duration::from_millis(100)), Some(Ok(_))) {
        run.process.look()?;
        ensure!(begun.elapsed() < FIRST_WAIT, "{contender} gives no total:\n{}", run.process.last_words());
        if producer.in_flight_count() == 0 {
            orders::send(&producer, &topic, &orders.next(now_ms())?, now_ms())?;
        }
        producer.poll(Duration::ZERO);
    }
    let counted_from = now_ms() + load.seconds.cast_signed() * 1000 / 3;
    let done = AtomicBool::new(false);
    let mut latencies = std::thread::scope(|scope| {
        let pacing = scope.spawn(|| {
            let sent =
                pace(&producer, &topic, &mut orders, load.per_second, |index| index < load.per_second * load.seconds);
            done.store(true, Ordering::Release);
            sent
        });
        let latencies = collect(&reader, counted_from, &done);
        pacing.join().map_err(|_| anyhow!("the producer's thread"))??;
        latencies
    })?;
    run.process.look()?;
    let taken = run.process.stop()?;
    for topic in [&topic, &run.output] {
        cluster.drop_topic(topic)?;
    }
    ensure!(!latencies.is_empty(), "no total came");
    latencies.sort_unstable();
    let at = |share: usize| latencies[(latencies.len() - 1) * share / 100];
    Ok(Latency {
        contender,
        commit_ms: setting.commit.as_millis(),
        records_per_second: load.per_second,
        totals_seen: latencies.len(),
        p50_ms: at(50),
        p90_ms: at(90),
        p99_ms: at(99),
        max_ms: at(100),
        cpu_seconds: taken.cpu_seconds,
    })
}

/// Opens a producer for a steady rate. A request for each order would keep the broker busy with requests: few at a time, and what has gathered
/// goes together.
pub(crate) fn producer(cluster: &Cluster) -> Result<BaseProducer> {
    let mut config = ClientConfig::new();
    config.set("bootstrap.servers", &cluster.brokers).set("linger.ms", "1").set("enable.idempotence", "true");
    Ok(config.create()?)
}

/// Sends orders at their times, each stamped when it is sent, as long as there are `more`: that is asked with how many were sent.
pub(crate) fn pace(
    producer: &BaseProducer,
    topic: &str,
    orders: &mut Orders,
    per_second: u64,
    more: impl Fn(u64) -> bool,
) -> Result<()> {
    let begun = Instant::now();
    for index in (0..).take_while(|index| more(*index)) {
        let due = Duration::from_nanos(index * 1_000_000_000 / per_second);
        while let Some(early) = due.checked_sub(begun.elapsed()).filter(|early| *early > Duration::from_micros(500)) {
            std::thread::sleep(early);
        }
        let at_ms = now_ms();
        orders::send(producer, topic, &orders.next(at_ms)?, at_ms)?;
        producer.poll(Duration::ZERO);
    }
    producer.flush(LAST_WAIT)?;
    Ok(())
}

/// Reads totals until the producer is done and a while without one has passed; returns arrival less sending of those sent from
/// `counted_from` on.
fn collect(reader: &rdkafka::consumer::BaseConsumer, counted_from: i64, done: &AtomicBool) -> Result<Vec<i64>> {
    let mut latencies = Vec::new();
    loop {
        match reader.poll(Duration::from_secs(1)) {
            Some(Ok(total)) => {
                let sent = total.timestamp().to_millis().unwrap_or(0);
                if sent >= counted_from {
                    latencies.push(now_ms() - sent);
                }
            }
            Some(Err(KafkaError::PartitionEOF(_))) => {}
            Some(Err(error)) => return Err(error.into()),
            None if done.load(Ordering::Acquire) => return Ok(latencies),
            None => {}
        }
    }
}

fn now_ms() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).expect("the clock is past 1970");
    i64::try_from(since.as_millis()).expect("the clock is before the year 292 million")
}
