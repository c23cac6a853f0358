//! Figures on their way to a scrape: what whoever counts hands over.

/// Numbers for the exporter, by the names of [`names`](super::names); labels in the order that the name declares.
#[derive(Clone, Debug, Default)]
pub struct Measurements {
    pub samples: Vec<Sample>,
    pub histograms: Vec<HistogramSample>,
}

/// One value of a counter or gauge.
#[derive(Clone, Debug, PartialEq)]
pub struct Sample {
    /// Without the `tidemill_` prefix.
    pub name: &'static str,
    pub labels: Vec<String>,
    pub value: f64,
}

/// One histogram, buckets in ascending order of their bounds, not cumulative.
#[derive(Clone, Debug, PartialEq)]
pub struct HistogramSample {
    /// Without the `tidemill_` prefix.
    pub name: &'static str,
    pub labels: Vec<String>,
    /// Upper bounds in the metric's unit; the overflow bucket has no bound and is last in `counts`.
    pub bounds: &'static [f64],
    pub counts: Vec<u64>,
    pub sum: f64,
}
