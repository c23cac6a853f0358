//! What a scrape looks like to Prometheus' own parser.

use std::io::Write as _;
use std::process::{Command, Stdio};

use tidemill::metrics::names::{self, Type};
use tidemill::metrics::{BuildInfo, TopologyInfo, render};
use tidemill::runtime::service::{HistogramSample, Measurements, Sample};

use crate::support::{Launch, Place, shop, topics, until};

/// One sample of every metric there is.
fn everything() -> Measurements {
    let mut all = Measurements::default();
    for metric in names::all() {
        let labels: Vec<String> = metric.labels.iter().map(|label| format!("a \"{label}\"\\\n")).collect();
        match metric.kind {
            Type::Histogram => all.histograms.push(HistogramSample {
                name: metric.name,
                labels,
                bounds: names::COMMIT_BOUNDS_SECONDS,
                counts: (0..=names::COMMIT_BOUNDS_SECONDS.len() as u64).collect(),
                sum: 12.5,
            }),
            Type::Counter | Type::Gauge if metric.name.ends_with("_info") => {}
            Type::Counter | Type::Gauge => all.samples.push(Sample { name: metric.name, labels, value: 0.1 + 2e18 }),
        }
    }
    all
}

#[test]
fn prometheus_accepts_a_scrape_of_every_metric() {
    let build = BuildInfo { version: "1.2.3".into(), revision: "abc".into() };
    let topology = TopologyInfo { application_id: "flights".into(), fingerprint: "00ff".into() };
    let scrape = render(&everything(), &build, Some(&topology));
    for metric in names::all() {
        assert!(scrape.contains(&format!("# TYPE tidemill_{} ", metric.name)), "{} is missing", metric.name);
    }
    let mut promtool = Command::new("promtool")
        .args(["check", "metrics"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("promtool is needed: `make setup` installs it (Debian's package `prometheus`)");
    promtool.stdin.take().unwrap().write_all(scrape.as_bytes()).unwrap();
    let output = promtool.wait_with_output().unwrap();
    let said = format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success() && said.trim().is_empty(), "promtool found:\n{said}\nin\n{scrape}");
}

/// What a daemon that is alone, with nothing wrong and nothing to restore, has no samples of.
const OF_TROUBLE: &[&str] = &[
    "dead_letters_total",
    "record_retries_total",
    "restore_remaining_records",
    "source_changed",
    "standby_behind_records",
    "stores_set_aside_total",
    "task_quarantined",
];

#[test]
fn a_daemon_on_kafka_has_a_figure_for_everything_described() {
    let app = shop::open(Place::kafka());
    let orders = shop::orders(600);
    shop::place_orders(&app, &orders);
    let keyless = topics::record(
        &app.topic("orders"),
        0,
        orders[599].at,
        None,
        Some(br#"{"n": 1, "item": "i", "amount": 1}"#.to_vec()),
    );
    topics::write(&*app.broker(), [keyless]);
    let mut run = app.start(&Launch::default());
    shop::wait_for_count(&mut run, orders.len() as i64);
    let sample = |scrape: &str, name: &str, more: &str| -> Option<f64> {
        let of_it = |line: &&str| {
            line.strip_prefix("tidemill_")
                .and_then(|line| line.strip_prefix(name))
                .is_some_and(|rest| rest.starts_with(['{', ' ']) && rest.contains(more))
        };
        let values = scrape.lines().filter(of_it).map(|line| line.rsplit(' ').next().unwrap().parse::<f64>().unwrap());
        values.fold(None, |sum, value| Some(sum.unwrap_or(0.0) + value))
    };
    let mut missing = Vec::new();
    let scrape = until("librdkafka has said what it counted", || {
        let (status, scrape) = run.ask("/metrics");
        assert_eq!(status, 200);
        missing = names::all()
            .filter(|metric| !OF_TROUBLE.contains(&metric.name))
            .map(|metric| match metric.kind {
                Type::Histogram => format!("{}_count", metric.name),
                Type::Counter | Type::Gauge => metric.name.to_owned(),
            })
            .filter(|name| sample(&scrape, name, "").is_none())
            .collect();
        // A client speaks every five seconds; both kinds must have spoken.
        let spoke = |kind| sample(&scrape, "kafka_requests_total", kind).is_some();
        (spoke("consumer") && spoke("producer")).then_some(scrape)
    });
    assert!(missing.is_empty(), "nothing is shown of {missing:?} in\n{scrape}");
    for (name, label) in [
        ("records_consumed_total", "orders"),
        ("records_dropped_total", "null_key"),
        ("store_cache_requests_total", "hit"),
        ("kafka_sent_bytes_total", ""),
        ("kafka_broker_connected", ""),
        ("record_e2e_latency_seconds_count", ""),
        ("store_unflushed_bytes", ""),
        ("memory_bytes", "cache"),
    ] {
        assert!(sample(&scrape, name, label).is_some_and(|value| value > 0.0), "{name} {label} in\n{scrape}");
    }
    run.stop();
}
