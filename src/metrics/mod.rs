//! L5: the daemon's figures in Prometheus' words: which there are ([`names`]) and how a scrape is written ([`render`]).
//!
//! Counting is not here: the tasks and the listeners keep plain integers, which a scrape reads.

mod export;
pub mod names;
mod sample;

pub use export::{BuildInfo, CONTENT_TYPE, TopologyInfo, render};
pub use sample::{HistogramSample, Measurements, Sample};
