//! Writes one scrape. A registry is made for each: the figures live elsewhere, and nothing is kept between two scrapes.

use std::collections::BTreeMap;

use prometheus::core::{Collector, Desc};
use prometheus::proto::{Bucket, Counter, Gauge, Histogram, LabelPair, Metric as Row, MetricFamily, MetricType};
use prometheus::{Registry, TextEncoder};

use super::names::{self, Metric, Type};
use crate::runtime::service::{HistogramSample, Measurements, Sample};

/// What the answer of `/metrics` is.
pub const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// What runs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BuildInfo {
    pub version: String,
    /// Commit it was built from; `unknown` when the build did not say.
    pub revision: String,
}

impl BuildInfo {
    /// Returns what was compiled in.
    pub fn compiled() -> Self {
        Self {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            revision: option_env!("TIDEMILL_REVISION").unwrap_or("unknown").to_owned(),
        }
    }
}

/// Which topology runs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TopologyInfo {
    pub application_id: String,
    pub fingerprint: String,
}

/// Renders a scrape: the measurements in the order of their names, and who this is.
///
/// A sample whose name is not in [`names`] or whose labels do not fit is left out (and stops a debug build): a scrape that fails
/// would hide all the others. Of samples with equal labels the first is shown, since Prometheus refuses a scrape with two.
pub fn render(measurements: &Measurements, build: &BuildInfo, topology: Option<&TopologyInfo>) -> String {
    let mut families = Families::default();
    for sample in &measurements.samples {
        families.add_sample(sample);
    }
    for histogram in &measurements.histograms {
        families.add_histogram(histogram);
    }
    let one = |name, labels| Sample { name, labels, value: 1.0 };
    families.add_sample(&one("build_info", vec![build.version.clone(), build.revision.clone()]));
    if let Some(topology) = topology {
        let labels = vec![topology.application_id.clone(), topology.fingerprint.clone()];
        families.add_sample(&one("topology_info", labels));
    }
    let registry =
        Registry::new_custom(Some(names::PREFIX.to_owned()), None).expect("a prefix and no labels are always taken");
    registry.register(Box::new(Snapshot(families.finish()))).expect("an empty registry takes one collector");
    TextEncoder::new().encode_to_string(&registry.gather()).expect("families are complete and a String takes all")
}

#[derive(Default)]
struct Families(BTreeMap<&'static str, (&'static Metric, BTreeMap<Vec<String>, Row>)>);

impl Families {
    fn add_sample(&mut self, sample: &Sample) {
        let make = |kind| match kind {
            Type::Counter => {
                let mut counter = Counter::default();
                counter.set_value(sample.value);
                let mut row = Row::default();
                row.set_counter(counter);
                Some(row)
            }
            Type::Gauge => {
                let mut gauge = Gauge::default();
                gauge.set_value(sample.value);
                Some(Row::from_gauge(gauge))
            }
            Type::Histogram => None,
        };
        self.add(sample.name, &sample.labels, make);
    }

    fn add_histogram(&mut self, sample: &HistogramSample) {
        let make = |kind| match kind {
            Type::Histogram if sample.counts.len() == sample.bounds.len() + 1 => {
                let mut row = Row::default();
                row.set_histogram(histogram(sample));
                Some(row)
            }
            Type::Histogram | Type::Counter | Type::Gauge => None,
        };
        self.add(sample.name, &sample.labels, make);
    }

    fn add(&mut self, name: &'static str, values: &[String], make: impl FnOnce(Type) -> Option<Row>) {
        let described = names::find(name).filter(|metric| metric.labels.len() == values.len());
        let made = described.and_then(|metric| Some((metric, make(metric.kind)?)));
        debug_assert!(made.is_some(), "`{name}` with {} labels is not in metrics/names.rs", values.len());
        let Some((metric, mut row)) = made else { return };
        row.set_label(metric.labels.iter().zip(values).map(|(name, value)| label(name, value)).collect());
        self.0.entry(name).or_insert_with(|| (metric, BTreeMap::new())).1.entry(values.to_vec()).or_insert(row);
    }

    fn finish(self) -> Vec<MetricFamily> {
        self.0
            .into_values()
            .map(|(metric, rows)| {
                let mut family = MetricFamily::default();
                family.set_name(metric.name.to_owned());
                family.set_help(metric.help.to_owned());
                family.set_field_type(match metric.kind {
                    Type::Counter => MetricType::COUNTER,
                    Type::Gauge => MetricType::GAUGE,
                    Type::Histogram => MetricType::HISTOGRAM,
                });
                family.set_metric(rows.into_values().collect());
                family
            })
            .collect()
    }
}

fn label(name: &str, value: &str) -> LabelPair {
    let mut pair = LabelPair::default();
    pair.set_name(name.to_owned());
    pair.set_value(value.to_owned());
    pair
}

/// Prometheus' buckets are cumulative, and the last one, without bound, is the count.
fn histogram(sample: &HistogramSample) -> Histogram {
    let mut total = 0;
    let mut buckets = Vec::with_capacity(sample.bounds.len());
    for (bound, count) in sample.bounds.iter().zip(&sample.counts) {
        total += count;
        let mut bucket = Bucket::default();
        bucket.set_upper_bound(*bound);
        bucket.set_cumulative_count(total);
        buckets.push(bucket);
    }
    let mut histogram = Histogram::default();
    histogram.set_bucket(buckets);
    histogram.set_sample_count(sample.counts.iter().sum());
    histogram.set_sample_sum(sample.sum);
    histogram
}

/// What one scrape shows, as the registry wants it.
struct Snapshot(Vec<MetricFamily>);

impl Collector for Snapshot {
    fn desc(&self) -> Vec<&Desc> {
        Vec::new()
    }

    fn collect(&self) -> Vec<MetricFamily> {
        self.0.clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scrape(samples: Vec<Sample>, histograms: Vec<HistogramSample>) -> String {
        let build = BuildInfo { version: "1.2.3".into(), revision: "abc".into() };
        let topology = TopologyInfo { application_id: "flights".into(), fingerprint: "00ff".into() };
        render(&Measurements { samples, histograms }, &build, Some(&topology))
    }

    fn sample(name: &'static str, labels: &[&str], value: f64) -> Sample {
        Sample { name, labels: labels.iter().map(|label| (*label).to_owned()).collect(), value }
    }

    #[test]
    fn a_scrape_is_sorted_and_complete() {
        let commits = HistogramSample {
            name: "commit_duration_seconds",
            labels: vec!["0".into()],
            bounds: &[0.01, 0.1],
            counts: vec![1, 2, 3],
            sum: 1.5,
        };
        let text = scrape(
            vec![
                sample("records_consumed_total", &["b", "0"], 7.0),
                sample("records_consumed_total", &["a", "1"], 5.0),
                sample("records_consumed_total", &["a", "1"], 6.0),
            ],
            vec![commits],
        );
        expect_test::expect![[r#"
            # HELP tidemill_build_info Always 1; the labels say what runs.
            # TYPE tidemill_build_info gauge
            tidemill_build_info{version="1.2.3",revision="abc"} 1
            # HELP tidemill_commit_duration_seconds From the start of a commit to the broker's confirmation.
            # TYPE tidemill_commit_duration_seconds histogram
            tidemill_commit_duration_seconds_bucket{thread="0",le="0.01"} 1
            tidemill_commit_duration_seconds_bucket{thread="0",le="0.1"} 3
            tidemill_commit_duration_seconds_bucket{thread="0",le="+Inf"} 6
            tidemill_commit_duration_seconds_sum{thread="0"} 1.5
            tidemill_commit_duration_seconds_count{thread="0"} 6
            # HELP tidemill_records_consumed_total Records read from source and repartition topics and worked on.
            # TYPE tidemill_records_consumed_total counter
            tidemill_records_consumed_total{topic="a",partition="1"} 5
            tidemill_records_consumed_total{topic="b",partition="0"} 7
            # HELP tidemill_topology_info Always 1; the labels say which topology runs.
            # TYPE tidemill_topology_info gauge
            tidemill_topology_info{application_id="flights",fingerprint="00ff"} 1
        "#]]
        .assert_eq(&text);
    }

    #[test]
    fn label_values_are_escaped() {
        let text = scrape(vec![sample("records_produced_total", &["a\"b\\c\nd"], 1.0)], Vec::new());
        assert!(text.contains(r#"{topic="a\"b\\c\nd"} 1"#), "{text}");
    }

    #[test]
    #[cfg_attr(debug_assertions, should_panic(expected = "is not in metrics/names.rs"))]
    fn a_sample_that_nobody_described_is_left_out() {
        let text = scrape(vec![sample("made_up_total", &[], 1.0), sample("tasks", &[], 1.0)], Vec::new());
        assert!(!text.contains("made_up") && !text.contains("tidemill_tasks"), "{text}");
    }
}
