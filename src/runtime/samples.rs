//! The numbers of a stream thread and its tasks as samples for the exporter, under the names of `metrics::names`.

use std::collections::BTreeMap;

use crate::base::ids::TaskId;
use crate::base::time::Timestamp;
use crate::broker::ClientFigures;
use crate::instances::Standby;
use crate::metrics::names::{COMMIT_BOUNDS_SECONDS, LATENCY_BOUNDS_SECONDS};
use crate::operator::DropReason;
use crate::plan::NodeKind;
use crate::runtime::service::{HistogramSample, Sample};
use crate::runtime::status::{Snapshot, ThreadStatus};
use crate::runtime::thread::Slot;
use crate::store::{SetAsideReason, StoreIndex};
use crate::task::{Failures, Task};

/// Takes samples: name, labels, value.
type Add<'a> = dyn FnMut(&'static str, Vec<String>, f64) + 'a;

/// What a thread did.
pub(super) fn of_thread(thread: &str, status: &ThreadStatus, snapshot: &mut Snapshot) {
    let mut add = |name, labels: &[&str], value| {
        let labels = labels.iter().map(|label| (*label).to_owned()).collect();
        snapshot.samples.push(Sample { name, labels, value });
    };
    add("commits_total", &[thread, "committed"], status.commits as f64);
    add("commits_total", &[thread, "failed"], status.failed_commits as f64);
    add("thread_busy_seconds_total", &[thread, "poll"], status.polling.as_secs_f64());
    add("thread_busy_seconds_total", &[thread, "process"], status.processing.as_secs_f64());
    add("thread_busy_seconds_total", &[thread, "restore"], status.restoring.as_secs_f64());
    add("thread_busy_seconds_total", &[thread, "commit"], status.commit_seconds);
    add("rebalances_total", &[thread], status.rebalances as f64);
    snapshot.histograms.push(HistogramSample {
        name: "commit_duration_seconds",
        labels: vec![thread.to_owned()],
        bounds: COMMIT_BOUNDS_SECONDS,
        counts: status.commit_counts.clone(),
        sum: status.commit_seconds,
    });
}

/// What a task did and holds.
pub(super) fn of_task(slot: &Slot, now: Timestamp, samples: &mut Vec<Sample>, histograms: &mut Vec<HistogramSample>) {
    let task = &slot.task;
    let name = task.id().to_string();
    let mut add = |name, labels: Vec<String>, value: f64| samples.push(Sample { name, labels, value });
    if task.stream_time() != Timestamp::UNKNOWN {
        add("stream_time_timestamp_seconds", vec![name.clone()], task.stream_time().0 as f64 / 1000.0);
    }
    add("task_input_bytes", vec![name.clone()], task.input_bytes() as f64);
    add("task_uncommitted_bytes", vec![name.clone()], task.uncommitted_bytes() as f64);
    let (unflushed_bytes, unflushed_ms) = task.stores().unflushed(now);
    add("store_unflushed_bytes", vec![name.clone()], unflushed_bytes as f64);
    add("store_unflushed_seconds", vec![name], unflushed_ms as f64 / 1000.0);
    let stores = task.stores().stats();
    for (component, bytes) in [
        ("cache", stores.cache_bytes),
        ("overlay", stores.committed_overlay_bytes),
        ("input", task.input_bytes() as u64),
        ("output", task.outgoing_bytes() as u64),
    ] {
        add("memory_bytes", vec![component.to_owned()], bytes as f64);
    }
    records(task, &mut add);
    of_stores(task, &mut add);
    of_engine(task, &mut add);
    for (node, latency) in task.latencies() {
        histograms.push(HistogramSample {
            name: "record_e2e_latency_seconds",
            labels: vec![node.to_owned()],
            bounds: LATENCY_BOUNDS_SECONDS,
            counts: latency.counts.clone(),
            sum: latency.sum_seconds,
        });
    }
}

fn records(task: &Task, add: &mut Add<'_>) {
    let (sub, stats) = (task.sub_topology(), task.stats());
    let partition = task.id().partition;
    for (index, source) in sub.sources.iter().enumerate() {
        let labels = vec![source.topic.to_string(), partition.to_string()];
        add("records_consumed_total", labels, stats.consumed[index] as f64);
        failures(&source.name, &stats.failures[index], add);
    }
    let (of_nodes, produced) = task.node_stats();
    for (index, node) in sub.nodes.iter().enumerate() {
        failures(&node.name, &of_nodes[index], add);
        if let NodeKind::Sink { topic, .. } | NodeKind::Repartition { topic, .. } = &node.kind {
            add("records_produced_total", vec![topic.to_string()], produced[index] as f64);
        }
    }
}

fn failures(node: &str, failures: &Failures, add: &mut Add<'_>) {
    let counted = [
        ("records_dropped_total", &failures.dropped),
        ("dead_letters_total", &failures.dead_letters),
        ("record_retries_total", &failures.retried),
    ];
    for (name, by_reason) in counted {
        for reason in DropReason::ALL {
            let count = by_reason[reason as usize];
            if count > 0 {
                add(name, vec![node.to_owned(), reason.label().to_owned()], count as f64);
            }
        }
    }
}

fn of_stores(task: &Task, add: &mut Add<'_>) {
    let partition = task.id().partition.to_string();
    for (index, store) in task.sub_topology().stores.iter().enumerate() {
        let name = store.name.to_string();
        let labels = |more: Option<&str>| {
            [Some(name.as_str()), Some(partition.as_str()), more].into_iter().flatten().map(str::to_owned).collect()
        };
        let counters = task.stores().counters(StoreIndex(index as u16));
        add("store_cache_requests_total", labels(Some("hit")), counters.cache_hits as f64);
        add("store_cache_requests_total", labels(Some("miss")), counters.cache_misses as f64);
        add("restored_records_total", labels(None), counters.restored_records as f64);
        for reason in SetAsideReason::ALL {
            let count = counters.set_aside[reason.index()];
            if count > 0 {
                add("stores_set_aside_total", vec![name.clone(), reason.to_string()], count as f64);
            }
        }
    }
}

/// What the broker's clients counted.
pub(super) fn of_clients(clients: &[ClientFigures], samples: &mut Vec<Sample>) {
    let mut add = |name, labels: &[&str], value: f64| {
        let labels = labels.iter().map(|label| (*label).to_owned()).collect();
        samples.push(Sample { name, labels, value });
    };
    for figures in clients {
        let client = figures.client.as_str();
        add("kafka_requests_total", &[client], figures.requests as f64);
        add("kafka_sent_bytes_total", &[client], figures.sent_bytes as f64);
        add("kafka_responses_total", &[client], figures.responses as f64);
        add("kafka_received_bytes_total", &[client], figures.received_bytes as f64);
        add("kafka_output_queue_records", &[client], figures.output_records as f64);
        add("kafka_output_queue_bytes", &[client], figures.output_bytes as f64);
        add("kafka_reply_queue_operations", &[client], figures.reply_operations as f64);
        for broker in &figures.brokers {
            add("kafka_broker_connected", &[client, &broker.broker], f64::from(u8::from(broker.connected)));
            if let Some(seconds) = broker.round_trip_seconds {
                add("kafka_round_trip_seconds", &[client, &broker.broker], seconds);
            }
        }
    }
}

/// How far the standbys are that are kept here.
pub(super) fn of_standbys(standbys: &BTreeMap<TaskId, Standby>, samples: &mut Vec<Sample>) {
    let known = standbys.iter().filter_map(|(task, standby)| Some((task, standby.behind?)));
    samples.extend(known.map(|(task, behind)| {
        let labels = vec![task.to_string()];
        Sample { name: "standby_behind_records", labels, value: behind as f64 }
    }));
}

fn of_engine(task: &Task, add: &mut Add<'_>) {
    if task.stores().is_empty() {
        return;
    }
    let numbers = task.stores().backend().numbers();
    for (name, value) in [
        ("rocksdb_estimated_keys", numbers.keys_estimate),
        ("rocksdb_live_files_bytes", numbers.live_files_bytes),
        ("rocksdb_memtable_bytes", numbers.memtable_bytes),
        ("rocksdb_pending_compaction_bytes", numbers.pending_compaction_bytes),
        ("rocksdb_running_compactions", numbers.running_compactions),
        ("rocksdb_write_stopped", u64::from(numbers.write_stopped)),
        ("rocksdb_background_errors_total", numbers.background_errors),
    ] {
        add(name, vec![task.id().to_string()], value as f64);
    }
}
