//! What a scrape looks like to Prometheus' own parser.

use std::io::Write as _;
use std::process::{Command, Stdio};

use tidemill::metrics::names::{self, Type};
use tidemill::metrics::{BuildInfo, TopologyInfo, render};
use tidemill::runtime::service::{HistogramSample, Measurements, Sample};

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
