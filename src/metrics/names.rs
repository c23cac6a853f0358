//! Every metric there is: the one list that the exporter, the documentation and dashboards stand on.
//!
//! Rules: prefix `tidemill_` (added by the exporter), base units, counters end in `_total`; labels come from closed or
//! configured sets (topics, partitions, nodes, stores, threads), never from keys, offsets or error texts.

use std::fmt::Write as _;

/// How a metric behaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Type {
    /// Only grows; starts again at zero with the process.
    Counter,
    Gauge,
    Histogram,
}

/// A metric's description.
#[derive(Clone, Copy, Debug)]
pub struct Metric {
    /// Without the `tidemill_` prefix.
    pub name: &'static str,
    pub kind: Type,
    /// In the order in which samples give their values.
    pub labels: &'static [&'static str],
    pub help: &'static str,
}

/// The prefix of every name.
pub const PREFIX: &str = "tidemill";

/// Bounds in seconds of `record_e2e_latency_seconds`: from a record's timestamp to the commit that made its effects visible.
pub use crate::task::LATENCY_BOUNDS_SECONDS;

/// Bounds in seconds of `commit_duration_seconds`.
pub const COMMIT_BOUNDS_SECONDS: &[f64] =
    &[0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0];

const fn counter(name: &'static str, labels: &'static [&'static str], help: &'static str) -> Metric {
    Metric { name, kind: Type::Counter, labels, help }
}

const fn gauge(name: &'static str, labels: &'static [&'static str], help: &'static str) -> Metric {
    Metric { name, kind: Type::Gauge, labels, help }
}

const fn histogram(name: &'static str, labels: &'static [&'static str], help: &'static str) -> Metric {
    Metric { name, kind: Type::Histogram, labels, help }
}

/// A part of the documentation and its metrics.
#[derive(Clone, Copy, Debug)]
pub struct Group {
    pub title: &'static str,
    pub metrics: &'static [Metric],
}

/// All metrics, grouped as the documentation shows them.
pub const GROUPS: &[Group] = &[
    Group {
        title: "Records",
        metrics: &[
            counter(
                "records_consumed_total",
                &["topic", "partition"],
                "Records read from source and repartition topics and worked on.",
            ),
            gauge(
                "consumer_lag_records",
                &["topic", "partition"],
                "Records between the position of the task and the end of the partition.",
            ),
            counter(
                "records_produced_total",
                &["topic"],
                "Records handed to the producer for sink and repartition topics.",
            ),
            counter(
                "records_dropped_total",
                &["node", "reason"],
                "Records that a node dropped: null_key, null_value, late, undeclared_type, decode, process, future, too_large, produce, duplicate.",
            ),
            counter("dead_letters_total", &["node", "reason"], "Records that were written to a dead-letter topic."),
            counter(
                "record_retries_total",
                &["node", "reason"],
                "Attempts that failed and are made again, as `on_error` says.",
            ),
            histogram(
                "record_e2e_latency_seconds",
                &["node"],
                "From a record's timestamp to the commit that made its effects visible, at sinks.",
            ),
        ],
    },
    Group {
        title: "Threads and commits",
        metrics: &[
            counter("commits_total", &["thread", "result"], "Attempts to commit by outcome: committed, failed."),
            histogram(
                "commit_duration_seconds",
                &["thread"],
                "From the start of a commit to the broker's confirmation.",
            ),
            counter(
                "thread_busy_seconds_total",
                &["thread", "activity"],
                "Time a stream thread spent on: poll, process, restore, commit (from its start to its confirmation, beside the others).",
            ),
            counter("rebalances_total", &["thread"], "Assignments that the consumer group gave."),
        ],
    },
    Group {
        title: "Tasks",
        metrics: &[
            gauge(
                "tasks",
                &["state"],
                "Tasks of this instance by state: waiting, restoring, running, quarantined, standby.",
            ),
            gauge(
                "task_quarantined",
                &["task", "reason"],
                "1 for a task that cannot go on, by reason: decode, future, process, too_large, produce, topic_refused, offset_out_of_range, offset_missing, source_replaced, source_repartitioned, state_corrupt, state_io, state_unreadable, bug.",
            ),
            gauge(
                "source_changed",
                &["topic", "change"],
                "1 for a source topic that is not what it was when the daemon started: gone, replaced, repartitioned.",
            ),
            gauge(
                "stream_time_timestamp_seconds",
                &["task"],
                "Stream time of the task: the largest record timestamp it has worked on, since the Unix epoch.",
            ),
            gauge("task_input_bytes", &["task"], "Records fetched for the task and not worked on yet."),
            gauge("task_uncommitted_bytes", &["task"], "State that the task has changed and not committed yet."),
        ],
    },
    Group {
        title: "State",
        metrics: &[
            gauge(
                "restore_remaining_records",
                &["store", "partition"],
                "Changelog records still to be read before the store can be used.",
            ),
            counter("restored_records_total", &["store", "partition"], "Changelog records read to restore the store."),
            gauge("standby_behind_records", &["task"], "Offsets that the task's standby here has not read yet."),
            gauge("store_bytes", &["store", "partition"], "Estimated bytes of the store on disk."),
            counter(
                "store_cache_requests_total",
                &["store", "partition", "result"],
                "Reads of the store's decoded cache by outcome: hit, miss.",
            ),
            counter(
                "stores_set_aside_total",
                &["store", "reason"],
                "Stores set aside and restored in full: topic_replaced, beyond_end, below_log_start, too_old, corrupt.",
            ),
            gauge(
                "store_unflushed_bytes",
                &["task"],
                "Committed changes that a crash now would replay from the changelog.",
            ),
            gauge(
                "store_unflushed_seconds",
                &["task"],
                "Age of the oldest committed change that is not durable on this disk yet.",
            ),
            gauge(
                "memory_bytes",
                &["component"],
                "Memory held, by component: rocksdb_block_cache, rocksdb_memtables, cache, overlay, input, output.",
            ),
        ],
    },
    Group {
        title: "RocksDB",
        metrics: &[
            gauge("rocksdb_estimated_keys", &["task"], "Keys in the task's database, as RocksDB estimates them."),
            gauge("rocksdb_live_files_bytes", &["task"], "Table files that hold live data."),
            gauge("rocksdb_memtable_bytes", &["task"], "Memtables, active and waiting to be flushed."),
            gauge("rocksdb_pending_compaction_bytes", &["task"], "Bytes that compaction still has to rewrite."),
            gauge("rocksdb_running_compactions", &["task"], "Compactions that are running."),
            gauge("rocksdb_write_stopped", &["task"], "1 while RocksDB refuses writes until compaction catches up."),
            counter("rocksdb_background_errors_total", &["task"], "Errors of flushes and compactions."),
        ],
    },
    Group {
        title: "Kafka client",
        metrics: &[
            counter("kafka_requests_total", &["client"], "Requests sent to brokers."),
            counter("kafka_sent_bytes_total", &["client"], "Bytes sent to brokers."),
            counter("kafka_responses_total", &["client"], "Responses received from brokers."),
            counter("kafka_received_bytes_total", &["client"], "Bytes received from brokers."),
            gauge("kafka_output_queue_records", &["client"], "Records written and not confirmed yet."),
            gauge("kafka_output_queue_bytes", &["client"], "Bytes written and not confirmed yet."),
            gauge("kafka_reply_queue_operations", &["client"], "Operations that wait for the application to poll."),
            gauge(
                "kafka_round_trip_seconds",
                &["client", "broker"],
                "Mean time from request to response in the latest interval.",
            ),
            gauge("kafka_broker_connected", &["client", "broker"], "1 while the connection to the broker is up."),
        ],
    },
    Group {
        title: "HTTP",
        metrics: &[counter(
            "http_requests_total",
            &["listener", "status"],
            "Requests answered, by listener (http, admin) and status class (2xx to 5xx).",
        )],
    },
    Group {
        title: "About this process",
        metrics: &[
            gauge("build_info", &["version", "revision"], "Always 1; the labels say what runs."),
            gauge("topology_info", &["application_id", "fingerprint"], "Always 1; the labels say which topology runs."),
        ],
    },
];

/// Returns all metrics in the order of [`GROUPS`].
pub fn all() -> impl Iterator<Item = &'static Metric> {
    GROUPS.iter().flat_map(|group| group.metrics)
}

/// Returns the description of a name without prefix.
pub fn find(name: &str) -> Option<&'static Metric> {
    all().find(|metric| metric.name == name)
}

/// Returns `docs/metrics.md`.
pub fn documentation() -> String {
    let mut page = String::from(
        "# Metrics\n\n`GET /metrics` on `http.listen` answers in Prometheus' text format. Every name begins with `tidemill_`. \
         Counters start at\nzero with the process. This page is generated from `src/metrics/names.rs`.\n",
    );
    for group in GROUPS {
        // Writing to a String does not fail.
        write!(page, "\n## {}\n\n| name | type | labels | |\n|---|---|---|---|\n", group.title)
            .expect("a String takes all");
        for metric in group.metrics {
            let labels: Vec<String> = metric.labels.iter().map(|label| format!("`{label}`")).collect();
            let kind = format!("{:?}", metric.kind).to_lowercase();
            writeln!(page, "| `{PREFIX}_{}` | {kind} | {} | {} |", metric.name, labels.join(", "), metric.help)
                .expect("a String takes all");
        }
    }
    page
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_keep_the_rules_of_prometheus() {
        let mut seen = std::collections::BTreeSet::new();
        for metric in all() {
            assert!(seen.insert(metric.name), "{} stands twice", metric.name);
            assert_eq!(metric.name.ends_with("_total"), metric.kind == Type::Counter, "{}", metric.name);
            assert!(metric.name.chars().all(|c| c.is_ascii_lowercase() || c == '_' || c.is_ascii_digit()));
            assert!(metric.kind != Type::Histogram || metric.name.ends_with("_seconds"), "{}", metric.name);
            assert!(metric.help.ends_with('.') && metric.help.len() > 20, "{}", metric.name);
            assert!(!metric.labels.contains(&"le"), "{}", metric.name);
        }
    }

    /// `UPDATE_EXPECT=1` writes the page anew.
    #[test]
    fn the_documentation_lists_what_there_is() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/metrics.md");
        expect_test::expect_file![path].assert_eq(&documentation());
    }
}
