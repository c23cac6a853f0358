//! Writes one scrape. A registry is made for each: the figures live elsewhere, and nothing is kept between two scrapes.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;

use prometheus::core::{Collector, Desc};
use prometheus::proto::{Bucket, Counter, Gauge, Histogram, LabelPair, Metric as Row, MetricFamily, MetricType};
use prometheus::{Registry, TextEncoder};

use super::names::{self, Metric, Type};
use super::sample::{HistogramSample, Measurements, Sample};

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
/// would hide all the others. Samples with equal labels are added up: each task counts its own part of a topic or a node.
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

/// One line of a family, or the lines of one histogram.
#[derive(Clone, Debug)]
enum Figure {
    Number(f64),
    Histogram(HistogramSample),
}

impl Figure {
    /// Adds another part of the same figure. Histograms of other bounds cannot be added.
    fn add(&mut self, part: Self) -> bool {
        match (self, part) {
            (Self::Number(sum), Self::Number(part)) => {
                *sum += part;
                true
            }
            (Self::Histogram(sum), Self::Histogram(part)) if sum.bounds == part.bounds => {
                sum.counts.iter_mut().zip(part.counts).for_each(|(sum, part)| *sum += part);
                sum.sum += part.sum;
                true
            }
            (Self::Number(_) | Self::Histogram(_), _) => false,
        }
    }

    fn into_row(self, kind: Type) -> Row {
        let mut row = Row::default();
        match (self, kind) {
            (Self::Number(value), Type::Counter) => {
                let mut counter = Counter::default();
                counter.set_value(value);
                row.set_counter(counter);
            }
            (Self::Number(value), Type::Gauge | Type::Histogram) => {
                let mut gauge = Gauge::default();
                gauge.set_value(value);
                row.set_gauge(gauge);
            }
            (Self::Histogram(sample), _) => row.set_histogram(histogram(&sample)),
        }
        row
    }
}

#[derive(Default)]
struct Families(BTreeMap<&'static str, (&'static Metric, BTreeMap<Vec<String>, Figure>)>);

impl Families {
    fn add_sample(&mut self, sample: &Sample) {
        let fits = |kind| kind != Type::Histogram;
        self.add(sample.name, &sample.labels, fits, Figure::Number(sample.value));
    }

    fn add_histogram(&mut self, sample: &HistogramSample) {
        let fits = |kind| kind == Type::Histogram && sample.counts.len() == sample.bounds.len() + 1;
        self.add(sample.name, &sample.labels, fits, Figure::Histogram(sample.clone()));
    }

    fn add(&mut self, name: &'static str, labels: &[String], fits: impl FnOnce(Type) -> bool, figure: Figure) {
        let described = names::find(name).filter(|metric| metric.labels.len() == labels.len() && fits(metric.kind));
        let added = described.is_some_and(|metric| {
            match self.0.entry(name).or_insert_with(|| (metric, BTreeMap::new())).1.entry(labels.to_vec()) {
                Entry::Occupied(mut there) => there.get_mut().add(figure),
                Entry::Vacant(empty) => {
                    empty.insert(figure);
                    true
                }
            }
        });
        debug_assert!(added, "`{name}` with {} labels is not in metrics/names.rs", labels.len());
    }

    fn finish(self) -> Vec<MetricFamily> {
        self.0.into_values().map(|(metric, figures)| family(metric, figures)).collect()
    }
}

fn family(metric: &Metric, figures: BTreeMap<Vec<String>, Figure>) -> MetricFamily {
    let rows = figures.into_iter().map(|(values, figure)| {
        let mut row = figure.into_row(metric.kind);
        row.set_label(metric.labels.iter().zip(&values).map(|(name, value)| label(name, value)).collect());
        row
    });
    let mut family = MetricFamily::default();
    family.set_name(metric.name.to_owned());
    family.set_help(metric.help.to_owned());
    family.set_field_type(match metric.kind {
        Type::Counter => MetricType::COUNTER,
        Type::Gauge => MetricType::GAUGE,
        Type::Histogram => MetricType::HISTOGRAM,
    });
    family.set_metric(rows.collect());
    family
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
        let more = HistogramSample { counts: vec![0, 1, 0], sum: 0.25, ..commits.clone() };
        let text = scrape(
            vec![
                sample("records_consumed_total", &["b", "0"], 7.0),
                sample("records_consumed_total", &["a", "1"], 5.0),
                sample("records_consumed_total", &["a", "1"], 6.0),
            ],
            vec![commits, more],
        );
        expect_test::expect![[r#"
            # HELP tidemill_build_info Always 1; the labels say what runs.
            # TYPE tidemill_build_info gauge
            tidemill_build_info{version="1.2.3",revision="abc"} 1
            # HELP tidemill_commit_duration_seconds From the start of a commit to the broker's confirmation.
            # TYPE tidemill_commit_duration_seconds histogram
            tidemill_commit_duration_seconds_bucket{thread="0",le="0.01"} 1
            tidemill_commit_duration_seconds_bucket{thread="0",le="0.1"} 4
            tidemill_commit_duration_seconds_bucket{thread="0",le="+Inf"} 7
            tidemill_commit_duration_seconds_sum{thread="0"} 1.75
            tidemill_commit_duration_seconds_count{thread="0"} 7
            # HELP tidemill_records_consumed_total Records read from source and repartition topics and worked on.
            # TYPE tidemill_records_consumed_total counter
            tidemill_records_consumed_total{topic="a",partition="1"} 11
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
